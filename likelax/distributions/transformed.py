"""Distributions of y = f(x) for x of another distribution, and the LogNormal."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from likelax import supports
from likelax._pytree import Array, _made, add_axes, is_traced, node, param
from likelax.bijectors.base import Bijector, check_bijector, has_dependent_entries, sum_last
from likelax.bijectors.elementwise import Identity
from likelax.distributions.base import Distribution, held_leaf
from likelax.distributions.kl import kl_divergence, register_kl
from likelax.distributions.normal import Normal
from likelax.numerics.half_line import lognormal_log_pdf
from likelax.numerics.logspace import divide, exp_of_log_scale
from likelax.numerics.normal import log_ndtr, log_normal_pdf, ndtr, ndtri
from likelax.numerics.pairs import log_gap

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class Transformed(Distribution):
    """The distribution of y = f(x), x from `base`.

    log p(y) = log base(f^-1(y)) + log |det df^-1/dy|.

    `sample_and_log_prob` takes the log-determinant at the x that was drawn, so that it is right
    where y is rounded to the end of its range: tanh(8 + noise) is 1 in float32, where `log_prob`
    can only say -inf.

    An elementwise bijector over a base with event axes acts on each element. A monotone one over
    numbers gives cdf, survival and quantile; an affine one mean, mode and entropy, and over numbers
    the variance. Of other means say `forward(quantile(0.5))` for the median, or average samples.

    Args:
      base: a distribution with a density, whose event has at least the axes that the bijector
        mixes.
      bijector: of `lx.bijectors`. Its batch axes go with those of the base; those of an elementwise
        one over vectors with the batch and event axes.

    Raises:
      ValueError: when the base has no density (whole numbers), too few event axes, or values where
        the bijector has none.
    """

    base: Distribution = node()
    bijector: Bijector = node()

    def _align(self, values: dict[str, Any]) -> dict[str, Any]:
        base, bijector = values["base"], check_bijector(values["bijector"], "Transformed")
        if not isinstance(base, Distribution):
            raise TypeError(
                f"Transformed: base is a distribution, got {base!r}; "
                "write Transformed(Normal(loc, scale), bijector)"
            )
        extra = base.event_ndim - bijector.event_ndim
        if extra < 0:
            raise ValueError(
                f"Transformed: {type(bijector).__name__} maps values with {bijector.event_ndim} "
                f"axes, and {type(base).__name__} of event shape {base.event_shape} and batch "
                f"shape {base.batch_shape} has {base.event_ndim}; "
                f"write Transformed(base.to_event({-extra}), bijector)"
            )
        # The bijector's last batch axes may be event axes here.
        rank = max(base.batch_ndim, bijector.batch_ndim - extra)
        return {
            "base": add_axes(base, rank - base.batch_ndim),
            "bijector": add_axes(bijector, rank + extra - bijector.batch_ndim),
        }

    def _check(self) -> None:
        base, bijector = self.base, self.bijector
        if base.support.is_discrete:
            raise ValueError(
                f"Transformed: {type(base).__name__} is a distribution of isolated points, "
                "with no density to transform"
            )
        if base._has_atoms:
            raise ValueError(
                f"Transformed: {type(base).__name__} has probabilities at its ends, which no "
                "log-determinant changes; transform the base inside"
            )
        if base.support.is_everything and not bijector.domain.is_everything:
            raise ValueError(
                f"Transformed: {type(base).__name__} takes all real values, and "
                f"{type(bijector).__name__} maps those only that are {bijector.domain}"
            )
        if (
            base.event_ndim
            and not isinstance(bijector, Identity)
            and has_dependent_entries(base.support) != has_dependent_entries(bijector.domain)
        ):
            raise ValueError(
                f"Transformed: values of {type(base).__name__} are {base.support}, and "
                f"{type(bijector).__name__} maps those that are {bijector.domain}: their entries "
                "are not equally free, so its log-determinant is not that of the density"
            )
        batch = bijector.batch_shape
        own = batch[max(len(batch) - self._extra, 0) :]
        event = base.event_shape[: self._extra]
        if jnp.broadcast_shapes(own, event) != event:
            raise ValueError(
                f"Transformed: {type(bijector).__name__} of batch shape {batch} does not fit the "
                f"event shape {base.event_shape} of {type(base).__name__}"
            )
        self.event_shape  # noqa: B018  (raises when the bijector maps no such values)
        self.batch_shape  # noqa: B018  (raises when the batch shapes do not broadcast)

    @property
    def _extra(self) -> int:
        """How many event axes the bijector leaves apart: log-determinants are summed over them."""
        return self.base.event_ndim - self.bijector.event_ndim

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """What the batch axes of base and bijector broadcast to."""
        shape = self.bijector.batch_shape
        return jnp.broadcast_shapes(
            self.base.batch_shape, shape[: max(len(shape) - self._extra, 0)]
        )

    @property
    def event_shape(self) -> tuple[int, ...]:
        """What the bijector makes of the base's."""
        return self.bijector.forward_shape(self.base.event_shape)

    @property
    def support(self) -> Any:
        """What the bijector makes of the base's."""
        return self.bijector.image(self.base.support)

    def _held_by(self, mask: Array) -> Distribution:
        """Parameters of the bijector that the batch shares stay shared: a network's are large."""
        shape = jnp.broadcast_shapes(self.batch_shape, mask.shape)
        wide = add_axes(self, len(shape) - self.batch_ndim)
        alive = jnp.broadcast_to(mask, shape)

        def hold(leaf: Array) -> Array:
            own = leaf.shape[: len(shape)]
            if math.prod(own) == 1 or not jnp.issubdtype(leaf.dtype, jnp.floating):
                return leaf
            leaf = jnp.broadcast_to(leaf, shape + leaf.shape[len(shape) :])
            # A NaN would reach the gradients of what is shared, as 0 times NaN.
            kept = alive.reshape(shape + (1,) * (leaf.ndim - len(shape)))
            return held_leaf(jnp.where(kept | jnp.isfinite(leaf), leaf, 0), alive)

        fields = {"base": wide.base._held_by(alive), "bijector": jax.tree.map(hold, wide.bijector)}
        return _made(type(self), fields)

    # Densities and probabilities.

    def log_prob(self, value: Array) -> Array:
        x, log_det = self.bijector.inverse_and_log_det(value)
        return self.base.log_prob(x) + sum_last(log_det, self._extra)

    def _tail(self, value: Array, below: str, above: str) -> Array:
        """The base's `below` at x where the map increases, `above` where it decreases."""
        increasing = self._increasing(below)
        x = self.bijector.inverse(value)
        if isinstance(increasing, bool):
            return getattr(self.base, below if increasing else above)(x)
        return jnp.where(increasing, getattr(self.base, below)(x), getattr(self.base, above)(x))

    def _increasing(self, method: str) -> Any:
        increasing = self.bijector.increasing
        if increasing is None or self.event_ndim:
            self._missing(method, "count samples: only monotone maps of numbers keep it")
        return increasing

    def cdf(self, value: Array) -> Array:
        return self._tail(value, "cdf", "survival")

    def survival(self, value: Array) -> Array:
        return self._tail(value, "survival", "cdf")

    def log_cdf(self, value: Array) -> Array:
        return self._tail(value, "log_cdf", "log_survival")

    def log_survival(self, value: Array) -> Array:
        return self._tail(value, "log_survival", "log_cdf")

    def quantile(self, q: Array) -> Array:
        increasing = self._increasing("quantile")
        q = jnp.where(increasing, q, 1 - q)
        return self.bijector.forward(self.base.quantile(q))

    # Samples.

    @property
    def _full_base(self) -> Distribution:
        """The base with noise of its own for every element of the batch."""
        base, shape = self.base, self.batch_shape
        return base if base.batch_shape == shape else base.broadcast_to(shape)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return self.bijector.forward(self._full_base.sample(key, shape))

    def sample_and_log_prob(self, key: Array, shape: tuple[int, ...] = ()) -> tuple[Array, Array]:
        x, log_prob = self._full_base.sample_and_log_prob(key, shape)
        y, log_det = self.bijector.forward_and_log_det(x)
        return y, log_prob - sum_last(log_det, self._extra)

    # Summaries: of affine maps only.

    def _constant_log_det(self, method: str, instead: str) -> Array:
        """The log-determinant of an affine map, `(*batch, *extra)`."""
        if not self.bijector.is_affine:
            self._missing(method, instead)
        x = jnp.zeros(self.batch_shape + self.base.event_shape, self.dtype)
        return self.bijector.forward_and_log_det(x)[1]

    def mean(self) -> Array:
        self._constant_log_det("mean", "average .sample(key, (n,)), or take .quantile(0.5)")
        return self.bijector.forward(self.base.mean())

    def mode(self) -> Array:
        self._constant_log_det("mode", "maximise .log_prob")
        return self.bijector.forward(self.base.mode())

    def variance(self) -> Array:
        instead = "take the variance of .sample(key, (n,))"
        if self.bijector.event_ndim:
            self._missing("variance", instead)
        return jnp.exp(2 * self._constant_log_det("variance", instead)) * self.base.variance()

    def entropy(self) -> Array:
        instead = "average -log_prob of .sample_and_log_prob(key, (n,))"
        log_det = self._constant_log_det("entropy", instead)
        return self.base.entropy() + sum_last(log_det, self._extra)


def _same_bijector(p: Bijector, q: Bijector) -> bool:
    """Whether the two are surely the same map: structure, and each array by identity or value."""
    if jax.tree.structure(p) != jax.tree.structure(q):  # type: ignore[operator]
        return False

    def same(a: Array, b: Array) -> bool:
        if a is b:
            return True
        # Leading axes of length 1 were added to fit the base.
        rank = max(a.ndim, b.ndim)
        a, b = add_axes(a, rank - a.ndim), add_axes(b, rank - b.ndim)
        return not is_traced(a, b) and a.shape == b.shape and bool(jnp.all(a == b))

    return all(same(a, b) for a, b in zip(*map(jax.tree.leaves, (p, q)), strict=True))


@register_kl(Transformed, Transformed)
def _kl_transformed(p: Transformed, q: Transformed) -> Array:
    """KL does not change under a map of both sides: KL(p || q) = KL(p.base || q.base)."""
    if not _same_bijector(p.bijector, q.bijector):
        raise NotImplementedError(
            "KL(Transformed || Transformed) is known here for one and the same bijector, got "
            f"{p.bijector!r} and {q.bijector!r} "
            "(arrays that are traced are the same only as the same object); if they are equal, "
            "write "
            "lx.kl_divergence(p.base, q.base), else estimate it: x, log_p = "
            "p.sample_and_log_prob(key, (1000,)); "
            "jnp.mean(log_p - q.log_prob(x), axis=0)"
        )
    return jnp.broadcast_to(
        kl_divergence(p.base, q.base), jnp.broadcast_shapes(p.batch_shape, q.batch_shape)
    )


class LogNormal(Distribution):
    """The distribution of exp(x) for Normal x.

    log p(y) = -z^2/2 - log scale - log(2 pi)/2 - log y with z = (log y - loc)/scale.

    Args:
      loc: mean of the logarithm, shape `batch`.
      scale | log_scale: its standard deviation, positive, shape `batch`.
    """

    support = supports.positive
    loc: Array = param(supports.real)
    scale: Array = param(supports.positive, default=None)
    log_scale: Array = param(
        supports.log_positive, default=None, instead_of="scale", to=exp_of_log_scale, back=jnp.log
    )

    @property
    def _covers(self) -> bool:
        return self.given("scale")

    @property
    def _log(self) -> Normal:
        """The distribution of the logarithm."""
        return Normal(**vars(self))

    def _z(self, value: Array) -> Array:
        return divide(log_gap(value, self.loc), self.scale)

    def log_prob(self, value: Array) -> Array:
        if self.given("scale"):
            return lognormal_log_pdf(value, self.loc, self.scale)
        return log_normal_pdf(self._z(value)) - self.log_scale - jnp.log(value)

    def cdf(self, value: Array) -> Array:
        return ndtr(self._z(value))

    def survival(self, value: Array) -> Array:
        return ndtr(-self._z(value))

    def log_cdf(self, value: Array) -> Array:
        return log_ndtr(self._z(value))

    def log_survival(self, value: Array) -> Array:
        return log_ndtr(-self._z(value))

    def quantile(self, q: ArrayLike) -> Array:
        return jnp.exp(self.loc + self.scale * ndtri(q))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return jnp.exp(self._log.sample(key, shape))

    def sample_and_log_prob(self, key: Array, shape: tuple[int, ...] = ()) -> tuple[Array, Array]:
        x, log_prob = self._log.sample_and_log_prob(key, shape)
        return jnp.exp(x), log_prob - x

    def mean(self) -> Array:
        return jnp.exp(self.loc + 0.5 * self.scale**2)

    def mode(self) -> Array:
        return jnp.exp(self.loc - self.scale**2)

    def variance(self) -> Array:
        return jnp.expm1(self.scale**2) * jnp.exp(2 * self.loc + self.scale**2)

    def entropy(self) -> Array:
        if self.given("scale"):
            return log_gap(self.scale, -self.loc) + (0.5 + _LOG_SQRT_2PI)
        return self.loc + self.log_scale + (0.5 + _LOG_SQRT_2PI)


@register_kl(LogNormal, LogNormal)
def _kl_log_normal(p: LogNormal, q: LogNormal) -> Array:
    return kl_divergence(p._log, q._log)
