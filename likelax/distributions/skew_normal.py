"""The skew normal."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, param
from likelax.distributions._invert import quantile_from_tails
from likelax.distributions.location_scale import LocationScale
from likelax.distributions.normal import scaled_log_prob
from likelax.numerics.logspace import exp_of_log_scale
from likelax.numerics.skew_normal import (
    skew_normal_entropy,
    skew_normal_log_cdf,
    skew_normal_log_slant,
    skew_normal_mode,
)

_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)


class SkewNormal(LocationScale):
    """The skew normal: log p(x) = log 2 + log phi(z) + log Phi(a z) - log scale, z = (x - loc)/scale, a
    the skewness.

    A Normal with one tail made thinner: the left one for a > 0, until a half-Normal is left; a = 0 is
    the Normal. a is the slant, any real number, not the third moment, which stays below 0.9953. At a =
    0 the slope in a is that of a shift of loc, so that a fit which starts there first moves both.

    Parameters, of the batch's shape: `loc`, real; `scale`, positive, or its logarithm `log_scale`;
    `skewness`, real.

    Source: Azzalini (1985), "A class of distributions which includes the normal ones".
    """

    skewness: Array = param(supports.real)

    def log_prob(self, value: Array) -> Array:
        z = self._z(value)
        if self.given("log_scale"):
            # By way of the scale the slope in its logarithm, (a z)^2, would be divided by it in between.
            z = (value - self.loc) * exp_of_log_scale(-self.log_scale)
        return scaled_log_prob(self, value) + skew_normal_log_slant(z, self.skewness)

    def log_cdf(self, value: Array) -> Array:
        return skew_normal_log_cdf(self._z(value), self.skewness)

    def log_survival(self, value: Array) -> Array:
        return skew_normal_log_cdf(-self._z(value), -self.skewness)

    def quantile(self, q: Array) -> Array:
        return quantile_from_tails(self, q)

    def _parts(self) -> tuple[Array, Array]:
        """a/sqrt(1 + a^2) and 1/sqrt(1 + a^2): of |u| and v, two Normals, in a sample."""
        a = self.skewness
        steep = jnp.abs(a) > 1
        flat, inverse = jnp.where(steep, 0.0, a), 1 / jnp.where(steep, a, 1.0)
        rest = jax.lax.rsqrt(1 + flat**2)
        share = jax.lax.rsqrt(1 + inverse**2)
        return (
            jnp.where(steep, jnp.sign(a) * share, flat * rest),
            jnp.where(steep, jnp.abs(inverse) * share, rest),
        )

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        key_slanted, key_own = jax.random.split(key)
        slanted, own = (
            jax.random.normal(k, self._shape(shape), self.dtype) for k in (key_slanted, key_own)
        )
        share, rest = self._parts()
        return self.loc + self.scale * (share * jnp.abs(slanted) + rest * own)

    def mean(self) -> Array:
        return self.loc + self.scale * (_SQRT_2_OVER_PI * self._parts()[0])

    def mode(self) -> Array:
        return self.loc + self.scale * skew_normal_mode(self.skewness)

    def variance(self) -> Array:
        return self.stddev() ** 2

    def stddev(self) -> Array:
        return self.scale * jnp.sqrt(1 - (2 / math.pi) * self._parts()[0] ** 2)

    def entropy(self) -> Array:
        return self.log_scale + skew_normal_entropy(*self._parts())
