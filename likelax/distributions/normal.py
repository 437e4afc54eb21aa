"""The Normal and the families made from it."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, param
from likelax.distributions.base import Distribution
from likelax.distributions.kl import register_kl



_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class Normal(Distribution):
    """The Normal distribution: log p(x) = -z^2/2 - log scale - log(2 pi)/2, z = (x - loc)/scale."""

    loc: Array = param(supports.real)
    scale: Array = param(supports.positive, default=None)
    log_scale: Array = param(supports.log_positive, instead_of="scale", to=jnp.exp, back=jnp.log)

    def _z(self, value: Array) -> Array:
        return ((value-self.loc)/self.scale)

    def log_prob(self, value: Array) -> Array:
        return -0.5 * self._z(value) ** 2 - self.log_scale - _LOG_SQRT_2PI

    def cdf(self, value: Array) -> Array:
        return ndtr(self._z(value))

    def survival(self, value: Array) -> Array:
        return ndtr(-self._z(value))

    def log_cdf(self, value: Array) -> Array:
        return log_ndtr(self._z(value))

    def log_survival(self, value: Array) -> Array:
        return log_ndtr(-self._z(value))

    def quantile(self, q: Array) -> Array:
        return self.loc + self.scale * ndtri(q)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return self.loc + self.scale * jax.random.normal(key, self._shape(shape), self.dtype)

    def mean(self) -> Array:
        return self.loc

    def mode(self) -> Array:
        return self.loc

    def variance(self) -> Array:
        return self.scale**2

    def stddev(self) -> Array:
        return self.scale

    def entropy(self) -> Array:
        return 0.5 + _LOG_SQRT_2PI + self.log_scale


@register_kl(Normal, Normal)
def _kl_normal(p: Normal, q: Normal) -> Array:
    log_ratio = p.log_scale - q.log_scale
    z = standardize(p.loc, q.loc, q.scale)
    return 0.5 * (jnp.expm1(2 * log_ratio) - 2 * log_ratio + z**2)
