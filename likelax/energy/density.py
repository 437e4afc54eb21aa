"""Densities known up to a constant, and what they become when it is known."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from likelax import supports
from likelax._checks import check_known, is_count
from likelax._keys import check_key
from likelax._pytree import Array, Node, node, param, parameter_dtype, static
from likelax.distributions.base import Distribution
from likelax.distributions.categorical import Bernoulli
from likelax.metrics import Evaluation
from likelax.networks import Variables
from likelax.objective import Batch, Claim, measure_of


class Unnormalized(Node):
    """p(x) = exp(unnormalized_log_prob(x)) / Z with an unknown Z: a pytree whose leaves are what is
    learned.

    It has no `log_prob`: `density.normalize(log_z)` has one. A subclass writes `event_shape`, `support`
    and `unnormalized_log_prob`; models that can be enumerated or annealed have more (see `RBM`).
    """

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one value."""
        raise NotImplementedError(f"{type(self).__name__} defines no event_shape")

    @property
    def support(self) -> Any:
        """Where the density is not zero."""
        return supports.real

    def unnormalized_log_prob(self, value: ArrayLike) -> Array:
        """log p(value) + log Z in nats, `(*sample, *event) -> (*sample,)`."""
        raise NotImplementedError(f"{type(self).__name__} defines no unnormalized_log_prob")

    def normalize(self, log_z: Any, claim: Claim | None = None) -> Normalized:
        """The distribution with this log Z, in nats.

        Args:
          log_z: as from `lx.energy.log_partition(density, ...)`, whose claim is kept, or a number.
          claim: of the NLL, where log_z is a number: an estimate unless you say otherwise,
            `lx.Claim("exact")` for a closed form.
        """
        if claim is None:
            claim = getattr(log_z, "claim", Claim("estimate"))
        if isinstance(log_z, tuple):
            raise TypeError(
                f"{type(self).__name__}.normalize: one log Z wanted, got {type(log_z).__name__}; write "
                "density.normalize(bracket.lower) for a lower bound of the NLL, or bracket.upper"
            )
        error: Any = getattr(log_z, "standard_error", 0.0)
        return Normalized(self, getattr(log_z, "log_z", log_z), error, claim=claim)

    def __getattr__(self, name: str) -> Any:
        if name in ("log_prob", "prob"):
            raise AttributeError(
                f"{type(self).__name__} has no {name} before its log Z is known; write "
                f"density.normalize(lx.energy.log_partition(density, ...)).{name}(value), or "
                "density.unnormalized_log_prob(value)"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _check(self) -> None:
        if self.batch_shape:
            raise ValueError(
                f"{type(self).__name__}: one model wanted, got parameters of a batch "
                f"{self.batch_shape}; make many of them under jax.vmap"
            )

    def _value(self, value: ArrayLike) -> Array:
        """The value as floats; raises where its shape does not fit, or its numbers where known."""
        x = jnp.asarray(value)
        name, event = type(self).__name__, self.event_shape
        if x.shape[x.ndim - len(event) :] != event:
            raise ValueError(
                f"{name}: values have shape (*sample, *event) with event {event}, got {x.shape}"
                f"{mend_shape(x.shape, event)}"
            )
        each = getattr(self.support, "base", self.support)  # to name the element, not the event
        mend = "; write value > 0.5" if each is supports.boolean else ""
        check_known(
            each.contains(x),
            x,
            f"{name}: a value must be {self.support}; at {{index}} it is {{value}}{mend}",
        )
        wide = parameter_dtype([x, jnp.zeros((), self.dtype)])
        return x if jnp.issubdtype(x.dtype, jnp.integer) and self._indices else x.astype(wide)

    @property
    def _indices(self) -> bool:
        """Whether values count classes."""
        return False

    # As a model that an objective trains: its parameters are the pytree itself.

    def init(self, key: Array, value: Any) -> Variables:
        """Where training starts: this model itself."""
        refuse_batch(self, value)
        return Variables(jax.tree.map(jnp.copy, self))

    def density(
        self, params: Any, *, state: Any = (), key: Array | None = None, train: bool = False
    ) -> Unnormalized:
        """The density with these parameters: what `Energy.density` is for a network."""
        return params

    def _scored(self, value: ArrayLike) -> tuple[Array, Any]:
        """`unnormalized_log_prob`, and the state of a network after it."""
        return self.unnormalized_log_prob(value), ()

    def _contrasted(self, data: Array, other: Array) -> tuple[Array, Array, Any]:
        """`unnormalized_log_prob` of both, as one density of them."""
        return self.unnormalized_log_prob(data), self.unnormalized_log_prob(other), ()

    # One unit given the others.

    def unit_given_rest(self, value: ArrayLike, units: ArrayLike | None = None) -> Distribution:
        """Each unit given all others, exact, of a density over bits, spins or classes: batch `(*sample,
        units)`. The `log_prob` of a bit's or a spin's is of 0 and 1.

        No sum over states: n + 1 densities of n units, and as much as two of an RBM's.

        Args:
          value: `(*sample, *event)`.
          units: which ones, indices into the flattened event, `(*sample, count)`; all by default.

        Raises:
          TypeError: for a density over other values.
        """
        x = self._value(value)
        sample = x.shape[: x.ndim - len(self.event_shape)]
        if units is None:
            chosen = jnp.arange(math.prod(self.event_shape))
        else:
            chosen = jnp.moveaxis(jnp.asarray(units), -1, 0)
        logits = jax.checkpoint(self._unit_logits(x.reshape((*sample, -1))))
        return self._unit(jnp.moveaxis(jax.lax.map(logits, chosen, batch_size=16), 0, len(sample)))

    def _unit(self, logits: Array) -> Distribution:
        """The distribution of units with these logits."""
        return Bernoulli(logits=logits)

    def _unit_values(self, value: Array) -> Array:
        """Values `(*sample, *event)` as those of `unit_given_rest`, `(*sample, units)`."""
        return value.reshape((*value.shape[: value.ndim - len(self.event_shape)], -1))

    def _unit_logits(self, x: Array) -> Callable[[Array], Array]:
        """The logits of a unit at x, `(*sample, units)`; the unit one for all, or `(*sample,)`."""
        if not over_bits(self):
            raise TypeError(
                f"{type(self).__name__}: a unit given the rest is one of finitely many values, and these "
                f"are {self.support}; write lx.energy.ScoreMatching(model) for real ones"
            )

        def density(x: Array) -> Array:
            return self.unnormalized_log_prob(x.reshape((*x.shape[:-1], *self.event_shape)))

        now = density(x)

        def logits(unit: Array) -> Array:
            here = is_unit(unit, x.shape[-1])
            flipped = density(jnp.where(here, 1 - x, x))
            return (1 - 2 * jnp.sum(jnp.where(here, x, 0), -1)) * (flipped - now)

        return logits


class Swept(Unnormalized):
    """A model whose units are drawn in blocks, given all others. A subclass writes `_sweep`."""

    def _sweep(self, key: Array, value: Array) -> Array:
        """Each block once."""
        raise NotImplementedError(f"{type(self).__name__} defines no _sweep")

    def gibbs(self, key: Array, value: ArrayLike, *, sweeps: int = 1) -> Array:
        """Block Gibbs sweeps of many chains at once, `(*chains, *event)` to the same.

        Args:
          key: a random key.
          value: where the chains are.
          sweeps: how many; sweep k draws with `fold_in(key, k)`.
        """
        if not is_count(sweeps):
            raise ValueError(
                f"{type(self).__name__}.gibbs: sweeps is a whole number >= 1, got {sweeps!r}"
            )
        self._value(value)
        return _swept(self, check_key(key), jnp.asarray(value), sweeps)


@functools.partial(jax.jit, static_argnums=3)
def _swept(model: Swept, key: Array, value: Array, sweeps: int) -> Array:
    def sweep(value: Array, k: Array | int) -> tuple[Array, None]:
        return model._sweep(jax.random.fold_in(key, k), value), None

    if sweeps == 1:
        return sweep(value, 0)[0]
    return jax.lax.scan(sweep, value, jnp.arange(sweeps))[0]


class Normalized(Distribution):
    """A density with its log Z: what `Unnormalized.normalize` makes.

    Args:
      density: an `Unnormalized`.
      log_z: in nats, shape `()`.
      log_z_error: its standard error.
      claim: what -log_prob says of the true NLL, by how log Z came about.
    """

    density: Any = node()
    log_z: Array = param(supports.real)
    log_z_error: Array = param(supports.non_negative, default=0.0)
    claim: Claim = static(default=Claim("estimate"), kw_only=True)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.density.event_shape

    @property
    def support(self) -> Any:
        return self.density.support

    @property
    def _takes_indices(self) -> bool:
        return self.density._indices

    def log_prob(self, value: Array) -> Array:
        return self.density.unnormalized_log_prob(value) - self.log_z

    def evaluate(self, value: Any) -> Evaluation:
        """The NLL of held-out values, in nats, with the claim of log Z.

        Its standard error is that over examples and that of log Z together. (The error of a
        `lx.compare` is over examples alone.)

        Args:
          value: `(n, *event)`.
        """
        each = -np.asarray(self.log_prob(value), np.float64)
        spread = each.std(ddof=1) / math.sqrt(len(each)) if len(each) > 1 else math.nan
        error = math.hypot(spread, float(self.log_z_error))
        claim = dataclasses.replace(self.claim, measure=measure_of(self))
        terms = {"log_z": float(self.log_z), "log_z_error": float(self.log_z_error)}
        weight = np.ones(len(each))
        return Evaluation(float(each.mean()), error, len(each), claim, each, weight, terms)


def over_bits(model: Any) -> bool:
    """Whether the values of a model are bits, 0 and 1."""
    return getattr(model.support, "base", model.support) is supports.boolean


def bits(index: Array, count: int, dtype: Any) -> Array:
    """The last `count` binary digits of each index, lowest first: `(n,) -> (n, count)`."""
    return ((index[:, None] >> jnp.arange(count)) & 1).astype(dtype)


def is_unit(unit: Array, count: int) -> Array:
    """Which of `count` units is this one, `(*unit.shape, count)`."""
    return jnp.arange(count) == unit[..., None]


def refuse_batch(model: Any, value: Any) -> None:
    """Raises TypeError where a loop takes a model for an objective."""
    if isinstance(value, Batch):
        raise TypeError(
            f"{type(model).__name__} is a model, and no objective to be trained; write "
            "lx.energy.MaximumLikelihood(model), lx.energy.PersistentContrastiveDivergence(model, ...) or "
            "another of lx.energy"
        )


def mend_shape(shape: tuple[int, ...], event: tuple[int, ...]) -> str:
    """What to write where values of this shape hold whole events, else nothing."""
    if math.prod(shape) % max(1, math.prod(event)):
        return ""
    return f"; write value.reshape({(-1, *event)})"


def as_rows(x: Array, event: tuple[int, ...]) -> tuple[Array, tuple[int, ...]]:
    """`(*sample, *event)` as `(n, *event)`, and the sample's shape."""
    sample = x.shape[: x.ndim - len(event)]
    return x.reshape((math.prod(sample), *event)), sample
