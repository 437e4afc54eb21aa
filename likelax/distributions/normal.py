"""The Normal and the HalfNormal."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from likelax import supports
from likelax._pytree import Array, param
from likelax.distributions.base import Distribution, at_least_tiny
from likelax.distributions.kl import register_kl
from likelax.distributions.location_scale import LocationScale
from likelax.numerics.divergences import square_exp_excess, square_ratio_excess
from likelax.numerics.logspace import divide, exp_of_log_scale, log1p, standardize
from likelax.numerics.normal import (
    log_ndtr,
    log_ndtr_interval,
    log_ndtr_width,
    log_normal_pdf,
    ndtr,
    ndtri,
    normal_log_pdf,
    normal_log_scale_pdf,
)
from likelax.numerics.truncated_normal import (
    truncated_normal_entropy,
    truncated_normal_log_pdf,
    truncated_normal_log_tails,
    truncated_normal_mean,
    truncated_normal_quantile,
    truncated_normal_variance,
)

_LOG_2 = math.log(2)
_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


def scaled_log_prob(dist: Any, x: Array) -> Array:
    """log of the Normal density at x, with the `loc` and the `scale` or `log_scale` of `dist`."""
    if dist.given("scale"):
        return normal_log_pdf(x, dist.loc, dist.scale)
    return normal_log_scale_pdf(x, dist.loc, dist.log_scale)


class Normal(LocationScale):
    """The Normal distribution: log p(x) = -z^2/2 - log scale - log(2 pi)/2, z = (x - loc)/scale.

    With a fixed scale its negative log-density is the squared error; with a learned one, the
    heteroscedastic Gaussian loss.

    Parameters, of the batch's shape: `loc`, real; `scale`, positive, or its logarithm `log_scale`.
    """

    def log_prob(self, value: Array) -> Array:
        return scaled_log_prob(self, value)

    def cdf(self, value: Array) -> Array:
        return ndtr(self._z(value))

    def survival(self, value: Array) -> Array:
        return ndtr(-self._z(value))

    def log_cdf(self, value: Array) -> Array:
        return log_ndtr(self._z(value))

    def log_survival(self, value: Array) -> Array:
        return log_ndtr(-self._z(value))

    def log_interval_prob(self, low: Array, width: ArrayLike) -> Array:
        """log P(low < X <= low + width), also for widths far below the scale; see `Quantized`."""
        return log_ndtr_width(self._z(low), divide(width, self.scale))

    def log_prob_within(self, value: Array, low: ArrayLike, high: ArrayLike) -> Array:
        """log p(value | low <= X <= high), also far out in a tail; see `Truncated`."""
        return truncated_normal_log_pdf(value, low, high, self.loc, self.scale)

    def log_tails_within(
        self, value: Array, low: ArrayLike, high: ArrayLike
    ) -> tuple[Array, Array]:
        """log P(X <= value | low <= X <= high) and log P(X > value | ...); see `Truncated`."""
        return truncated_normal_log_tails(value, low, high, self.loc, self.scale)

    def mean_within(self, low: ArrayLike, high: ArrayLike, origin: ArrayLike = 0.0) -> Array:
        """E[X - origin | low <= X <= high]; see `Truncated`."""
        return truncated_normal_mean(low, high, self.loc, self.scale, origin)

    def variance_within(self, low: ArrayLike, high: ArrayLike) -> Array:
        """Var[X | low <= X <= high]; see `Truncated`."""
        return truncated_normal_variance(low, high, self.loc, self.scale)

    def entropy_within(self, low: ArrayLike, high: ArrayLike) -> Array:
        """The entropy of X given low <= X <= high; see `Truncated`."""
        return truncated_normal_entropy(low, high, self.loc, self.scale)

    def quantile_within(self, q: Array, low: ArrayLike, high: ArrayLike) -> Array:
        """The quantile of X given low <= X <= high; see `Truncated`."""
        return truncated_normal_quantile(q, low, high, self.loc, self.scale)

    def quantile(self, q: Array) -> Array:
        return self.loc + self.scale * ndtri(q)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return self.loc + self.scale * jax.random.normal(key, self._shape(shape), self.dtype)

    def variance(self) -> Array:
        return self.scale**2

    def stddev(self) -> Array:
        return self.scale

    def entropy(self) -> Array:
        return 0.5 + _LOG_SQRT_2PI + self.log_scale


@register_kl(Normal, Normal)
def _kl_normal(p: Normal, q: Normal) -> Array:
    return normal_scale_kl(p, q) + 0.5 * standardize(p.loc, q.loc, q.scale) ** 2


def normal_scale_kl(p: Any, q: Any) -> Array:
    """KL of two Normals of one mean, element by element."""
    if p.given("scale") and q.given("scale"):
        return square_ratio_excess(p.scale, q.scale)
    return square_exp_excess(p.log_scale - q.log_scale)


class HalfNormal(Distribution):
    """|X| of a Normal(0, scale): log p(x) = -z^2/2 - log scale + log(2/pi)/2, z = x/scale >= 0.

    Parameters, of the batch's shape: `scale`, positive, or its logarithm `log_scale`.
    """

    scale: Array = param(supports.positive, default=None)
    log_scale: Array = param(
        supports.log_positive, default=None, instead_of="scale", to=exp_of_log_scale, back=jnp.log
    )

    support = supports.non_negative

    def _inside(self, like: Array) -> Array:
        return at_least_tiny(self.scale)

    def _z(self, value: Array) -> Array:
        return divide(value, self.scale)

    def log_prob(self, value: Array) -> Array:
        return _LOG_2 + log_normal_pdf(self._z(value)) - self.log_scale

    def cdf(self, value: Array) -> Array:
        return jax.lax.erf(self._z(value) / math.sqrt(2))

    def log_cdf(self, value: Array) -> Array:
        # From the smaller of the two tails, which holds the digits.
        z = self._z(value)
        near, far = jnp.where(z < 1, z, 1.0), jnp.where(z < 1, 1.0, z)
        return jnp.where(z < 1, _LOG_2 + log_ndtr_interval(0.0, near), log1p(-2 * ndtr(-far)))

    def survival(self, value: Array) -> Array:
        return 2 * ndtr(-self._z(value))

    def log_survival(self, value: Array) -> Array:
        z = self._z(value)
        near = log1p(-jax.lax.erf(jnp.where(z < 1, z, 1.0) / math.sqrt(2)))
        return jnp.where(z < 1, near, _LOG_2 + log_ndtr(-z))

    def quantile(self, q: Array) -> Array:
        return self.scale * (math.sqrt(2) * jax.lax.erf_inv(q))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return self.scale * jnp.abs(jax.random.normal(key, self._shape(shape), self.dtype))

    def mean(self) -> Array:
        return self.scale * math.sqrt(2 / math.pi)

    def mode(self) -> Array:
        return jnp.zeros_like(self.scale)

    def variance(self) -> Array:
        return self.scale**2 * (1 - 2 / math.pi)

    def stddev(self) -> Array:
        return self.scale * math.sqrt(1 - 2 / math.pi)

    def entropy(self) -> Array:
        return 0.5 + _LOG_SQRT_2PI - _LOG_2 + self.log_scale


@register_kl(HalfNormal, HalfNormal)
def _kl_half_normal(p: HalfNormal, q: HalfNormal) -> Array:
    return normal_scale_kl(p, q)
