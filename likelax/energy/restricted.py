"""Restricted Boltzmann machines: visible units of three kinds, hidden units of 0 and 1.

    log p(v, h) + log Z = a(v) + b'h + x(v)' W h

with x(v) what the hidden units see of the visible ones. Given the hidden units the visible ones are
independent, and the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from likelax import supports
from likelax._keys import check_key, stream
from likelax._pytree import Array, node, param, parameter_dtype
from likelax.distributions.base import Distribution
from likelax.distributions.categorical import Bernoulli, Categorical
from likelax.distributions.normal import Normal
from likelax.energy.density import Swept, is_unit
from likelax.numerics.logspace import logsumexp, softplus

_LOG_2PI = math.log(2 * math.pi)
Enumeration = tuple[int, Callable[[Array], Array]]


class Restricted(Swept):
    """What the three kinds share. A subclass has `weight`, `visible_bias` and `hidden_bias`."""

    # What a subclass writes.

    def _seen(self, v: Array) -> Array:
        """x(v), the axes of `weight` without the last."""
        raise NotImplementedError

    def _visible_term(self, v: Array) -> Array:
        """a(v), `(*sample,)`."""
        raise NotImplementedError

    def _visible_at(self, drive: Array) -> Distribution:
        """p(v | h) where the visible units see W h."""
        raise NotImplementedError

    def _log_sum_visible(self, drive: Array) -> Array:
        """log of the sum over v of exp(a(v) + x(v)' drive)."""
        raise NotImplementedError

    # What follows.

    def _axes(self) -> int:
        return self.weight.ndim - 1

    def _coupled(self, v: Array) -> Array:
        """What the hidden units see: x(v)' W, `(*sample, hidden)`."""
        return jnp.tensordot(self._seen(v), self.weight, self._axes())

    def _hidden_logits(self, v: Array) -> Array:
        return self._coupled(v) + self.hidden_bias

    def _drive(self, h: Array) -> Array:
        wide = h.astype(parameter_dtype([self.weight]))
        return jnp.tensordot(wide, jnp.moveaxis(self.weight, -1, 0), 1)

    @property
    def num_hidden(self) -> int:
        """How many hidden units there are."""
        return self.hidden_bias.shape[-1]

    def hidden_given(self, visible: ArrayLike) -> Distribution:
        """p(h | v), independent Bernoullis: batch `(*sample,)`, event `(hidden,)`."""
        return Bernoulli(logits=self._hidden_logits(self._value(visible))).to_event()

    def visible_given(self, hidden: ArrayLike) -> Distribution:
        """p(v | h), independent: batch `(*sample,)`, event that of v. Hidden values may be
        probabilities.
        """
        return self._visible_at(self._drive(jnp.asarray(hidden, self.dtype))).to_event()

    def joint_log_prob(self, visible: ArrayLike, hidden: ArrayLike) -> Array:
        """log p(v, h) + log Z in nats, `(*sample,)`."""
        v, h = self._value(visible), jnp.asarray(hidden, self.dtype)
        return self._visible_term(v) + jnp.sum(h * self._hidden_logits(v), -1)

    def free_energy(self, visible: ArrayLike) -> Array:
        """-log of the sum over h of exp(joint_log_prob(v, h)), in nats: `(*sample, *event) ->
        (*sample,)`.
        """
        v = self._value(visible)
        return -self._visible_term(v) - jnp.sum(softplus(self._hidden_logits(v)), -1)

    def unnormalized_log_prob(self, value: ArrayLike) -> Array:
        return -self.free_energy(value)

    def _sweep(self, key: Array, visible: Array) -> Array:
        """h given v, then v given h."""
        h = Bernoulli(logits=self._hidden_logits(visible)).sample(stream(key, "hidden"))
        drive = self._drive(h.astype(self.dtype))
        return self._visible_at(drive).sample(stream(key, "visible")).astype(visible.dtype)

    # For log Z.

    def independent(self, visible_bias: ArrayLike | None = None) -> Self:
        """The model without couplings, where annealing starts: these visible biases (default: this
        model's) and hidden biases of 0.
        """
        bias = self.visible_bias if visible_bias is None else visible_bias
        zero = jnp.zeros_like(self.weight), jnp.zeros_like(self.hidden_bias)
        return self.replace(weight=zero[0], visible_bias=bias, hidden_bias=zero[1])

    def _independent_log_z(self) -> Array:
        drive = jnp.zeros_like(self.weight[..., 0])
        return self._log_sum_visible(drive) + jnp.sum(softplus(self.hidden_bias))

    def _independent_sample(self, key: Array, count: int) -> Array:
        drive = jnp.zeros((count, *self.weight.shape[:-1]), self.dtype)
        return self._visible_at(drive).sample(key)

    def _coupled_as(self, other: Self, strength: Array) -> Weakened:
        """This model with `strength` times the couplings of another."""
        return Weakened(self.replace(weight=other.weight), strength)

    def _enumeration(self) -> Enumeration:
        """How many units are enumerated, and log of the sum over all others given those."""

        def rest(h: Array) -> Array:
            return h @ self.hidden_bias + self._log_sum_visible(self._drive(h))

        return self.num_hidden, rest

    def _complete(self, key: Array, units: Array) -> Array:
        """A value given the units that are enumerated."""
        return self._visible_at(self._drive(units)).sample(key)


class Weakened(Restricted):
    """A model whose couplings are `strength` times its weight. They are not multiplied out: annealing
    asks several strengths of the same values, for which the large product is then one.
    """

    model: Any = node()
    strength: Array = param(supports.real)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.model.event_shape

    @property
    def support(self) -> Any:
        return self.model.support

    @property
    def _indices(self) -> bool:
        return self.model._indices

    def _visible_term(self, v: Array) -> Array:
        return self.model._visible_term(v)

    def _visible_at(self, drive: Array) -> Distribution:
        return self.model._visible_at(drive)

    def _hidden_logits(self, v: Array) -> Array:
        return self.strength * self.model._coupled(v) + self.model.hidden_bias

    def _drive(self, h: Array) -> Array:
        return self.strength * self.model._drive(h)


class RBM(Restricted):
    """Visible and hidden units of 0 and 1 (Smolensky 1986; Hinton 2002).

    log p(v, h) + log Z = a'v + b'h + v'W h. Values are arrays of 0 and 1, `(*sample, visible)`.

    Args:
      weight: W, `(visible, hidden)`.
      visible_bias: a, `(visible,)`.
      hidden_bias: b, `(hidden,)`.
    """

    weight: Array = param(supports.real, shape=("visible", "hidden"))
    visible_bias: Array = param(supports.real, shape=("visible",))
    hidden_bias: Array = param(supports.real, shape=("hidden",))

    @classmethod
    def random(cls, key: Array, visible: int, hidden: int, *, scale: float = 0.01) -> RBM:
        """Weights drawn from N(0, scale^2), biases of 0 (Hinton 2012, section 8)."""
        weight = scale * jax.random.normal(check_key(key), (visible, hidden))
        return cls(weight, jnp.zeros(visible), jnp.zeros(hidden))

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.visible_bias.shape[-1:]

    @property
    def support(self) -> Any:
        return supports.elementwise(supports.boolean, 1)

    def _seen(self, v: Array) -> Array:
        return v

    def _visible_term(self, v: Array) -> Array:
        return v @ self.visible_bias

    def _visible_at(self, drive: Array) -> Distribution:
        return Bernoulli(logits=self.visible_bias + drive)

    def _log_sum_visible(self, drive: Array) -> Array:
        return jnp.sum(softplus(self.visible_bias + drive), -1)

    def _unit_logits(self, x: Array) -> Callable[[Array], Array]:
        seen, count = self._hidden_logits(x), x.shape[-1]

        def logits(unit: Array) -> Array:
            here = is_unit(unit, count)
            weight = _rows_of(self.weight, unit)
            rest = seen - jnp.sum(jnp.where(here, x, 0), -1)[..., None] * weight
            bias = jnp.sum(jnp.where(here, self.visible_bias, 0), -1)
            return bias + jnp.sum(softplus(rest + weight) - softplus(rest), -1)

        return logits

    def _enumeration(self) -> Enumeration:
        if len(self.visible_bias) >= self.num_hidden:
            return super()._enumeration()
        return len(self.visible_bias), self.unnormalized_log_prob

    def _complete(self, key: Array, units: Array) -> Array:
        if len(self.visible_bias) >= self.num_hidden:
            return super()._complete(key, units)
        return units


class GaussianRBM(Restricted):
    """Real visible units (Hinton 2012, section 13.2).

    log p(v, h) + log Z = -sum_i (v_i - a_i)^2 / (2 s_i^2) + b'h + (v / s)'W h, so that p(v | h) is
    N(a + s W h, s^2): the marginal is a mixture of 2^hidden Normals.

    Args:
      weight: W, `(visible, hidden)`.
      visible_bias: a, `(visible,)`.
      hidden_bias: b, `(hidden,)`.
      scale | log_scale: s, `(visible,)`.
    """

    weight: Array = param(supports.real, shape=("visible", "hidden"))
    visible_bias: Array = param(supports.real, shape=("visible",))
    hidden_bias: Array = param(supports.real, shape=("hidden",))
    scale: Array = param(supports.positive, shape=("visible",))
    log_scale: Array = param(
        supports.log_positive, shape=("visible",), instead_of="scale", to=jnp.exp, back=jnp.log
    )

    @classmethod
    def random(cls, key: Array, visible: int, hidden: int, *, scale: float = 0.01) -> GaussianRBM:
        """Weights drawn from N(0, scale^2), biases of 0, log_scale 0."""
        weight = scale * jax.random.normal(check_key(key), (visible, hidden))
        return cls(weight, jnp.zeros(visible), jnp.zeros(hidden), log_scale=jnp.zeros(visible))

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.visible_bias.shape[-1:]

    @property
    def support(self) -> Any:
        return supports.real_vector

    def _seen(self, v: Array) -> Array:
        return v / self.scale

    def _visible_term(self, v: Array) -> Array:
        return -0.5 * jnp.sum(((v - self.visible_bias) / self.scale) ** 2, -1)

    def _visible_at(self, drive: Array) -> Distribution:
        return Normal(self.visible_bias + self.scale * drive, self.scale)

    def _log_sum_visible(self, drive: Array) -> Array:
        # The square is completed: a m / s + m^2 / 2 is left, and the Normal's own constant.
        each = drive * (self.visible_bias / self.scale + 0.5 * drive)
        return jnp.sum(each + self.log_scale + 0.5 * _LOG_2PI, -1)


class CategoricalRBM(Restricted):
    """Visible units of several classes (Salakhutdinov, Mnih and Hinton 2007, section 2).

    log p(v, h) + log Z = sum_i a_i[v_i] + b'h + sum_ij W_i[v_i]_j h_j. Values are class numbers,
    `(*sample, visible)`.

    Args:
      weight: W, `(visible, categories, hidden)`.
      visible_bias: a, `(visible, categories)`.
      hidden_bias: b, `(hidden,)`.
    """

    weight: Array = param(supports.real, shape=("visible", "categories", "hidden"))
    visible_bias: Array = param(supports.real, shape=("visible", "categories"))
    hidden_bias: Array = param(supports.real, shape=("hidden",))

    @classmethod
    def random(
        cls, key: Array, visible: int, categories: int, hidden: int, *, scale: float = 0.01
    ) -> CategoricalRBM:
        """Weights drawn from N(0, scale^2), biases of 0."""
        weight = scale * jax.random.normal(check_key(key), (visible, categories, hidden))
        return cls(weight, jnp.zeros((visible, categories)), jnp.zeros(hidden))

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.visible_bias.shape[-2:-1]

    @property
    def support(self) -> Any:
        classes = supports.integer_interval(0, self.visible_bias.shape[-1] - 1)
        return supports.elementwise(classes, 1)

    @property
    def _indices(self) -> bool:
        return True

    def _seen(self, v: Array) -> Array:
        return jax.nn.one_hot(v, self.visible_bias.shape[-1], dtype=self.dtype)

    def _visible_term(self, v: Array) -> Array:
        return jnp.sum(self._seen(v) * self.visible_bias, (-2, -1))

    def _visible_at(self, drive: Array) -> Distribution:
        return Categorical(logits=self.visible_bias + drive)

    def _log_sum_visible(self, drive: Array) -> Array:
        return jnp.sum(logsumexp(self.visible_bias + drive, axis=-1), -1)

    def _unit(self, logits: Array) -> Distribution:
        return Categorical(logits=logits)

    def _unit_logits(self, x: Array) -> Callable[[Array], Array]:
        seen, one_hot = self._hidden_logits(x), self._seen(x)

        def logits(unit: Array) -> Array:
            weight = _rows_of(self.weight, unit)  # (*sample, categories, hidden)
            now = jnp.sum(jnp.where(is_unit(unit, x.shape[-1])[..., None], one_hot, 0), -2)
            rest = seen - jnp.einsum("...k,...kh->...h", now, weight)
            free = jnp.sum(softplus(rest[..., None, :] + weight), -1)
            return _rows_of(self.visible_bias, unit) + free

        return logits


def _rows_of(table: Array, unit: Array) -> Array:
    """table[unit]; a product where each example has a unit of its own, which no sharding is in the way
    of.
    """
    if unit.ndim == 0:
        return table[unit]
    return jnp.tensordot(is_unit(unit, len(table)).astype(table.dtype), table, 1)
