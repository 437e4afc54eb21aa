"""Families between two ends: the Uniform and the Triangular."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from likelax import _checks, supports
from likelax._pytree import Array, param
from likelax.distributions.base import Distribution
from likelax.distributions.kl import register_kl
from likelax.numerics.logspace import divide
from likelax.numerics.triangular import (
    triangular_divergence,
    triangular_log_pdf,
    triangular_log_tails,
)


class Uniform(Distribution):
    """The uniform distribution: log p(x) = -log(high - low), low <= x <= high.

    Its mode is given as the midpoint; every value of the interval is one.

    Parameters, of the batch's shape: `low` and `high`, low < high. A head cannot learn them, as no
    link
    keeps one below the other and the data between them: fix them.
    """

    low: Array = param()
    high: Array = param()

    @property
    def support(self) -> supports.Interval:
        """The closed interval from low to high."""
        return supports.interval(self.low, self.high)

    def _check_params(self) -> None:
        super()._check_params()
        low, high = jnp.broadcast_arrays(self.low, self.high)
        _checks.check_values(
            low < high,
            high - low,
            "Uniform: low must be below high; at {index} high - low is {value}",
        )

    def _width(self) -> Array:
        return self.high - self.low

    def log_prob(self, value: Array) -> Array:
        return -jnp.log(self._width()) + jnp.where(jnp.isnan(value), value, 0)

    def cdf(self, value: Array) -> Array:
        return divide(value - self.low, self._width())

    def survival(self, value: Array) -> Array:
        return divide(self.high - value, self._width())

    def quantile(self, q: Array) -> Array:
        return self.low + self._width() * q

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return self.low + self._width() * jax.random.uniform(key, self._shape(shape), self.dtype)

    def mean(self) -> Array:
        return self.low + 0.5 * self._width()

    def mode(self) -> Array:
        return self.mean()

    def variance(self) -> Array:
        return self._width() ** 2 / 12

    def stddev(self) -> Array:
        return self._width() / math.sqrt(12)

    def entropy(self) -> Array:
        return jnp.log(self._width())


@register_kl(Uniform, Uniform)
def _kl_uniform(p: Uniform, q: Uniform) -> Array:
    beyond = (q.low > p.low) | (p.high > q.high)
    return jnp.where(beyond, jnp.inf, q.entropy() - p.entropy())


class Triangular(Distribution):
    """The triangular distribution: log p(x) = log(2 (x - low) / ((high - low)(peak - low))) up to the
    peak and log(2 (high - x) / ((high - low)(high - peak))) from there on.

    What is known of a quantity by its least, greatest and likeliest value. The peak may be at
    either end. At the peak, where the density has a kink, its slopes in the value and in the peak
    are taken as 0; at a peak that is an end, that in the value is the inner side's. KL to another
    one is inf unless that one's interval holds this one's.

    Parameters, of the batch's shape: `low`, `high` and `peak`, low <= peak <= high, low < high. A
    head cannot learn them, as no link keeps them in this order and the data between them: fix them.

    Source: Kotz and van Dorp (2004), "Beyond Beta", chapter 1.
    """

    low: Array = param()
    high: Array = param()
    peak: Array = param()

    @property
    def support(self) -> supports.Interval:
        """The closed interval from low to high."""
        return supports.interval(self.low, self.high)

    def _check_params(self) -> None:
        super()._check_params()
        low, high, peak = jnp.broadcast_arrays(self.low, self.high, self.peak)
        _checks.check_values(
            (low <= peak) & (peak <= high) & (low < high),
            peak,
            "Triangular: the peak must be between low and high; at {index} it is {value}",
        )

    def log_prob(self, value: Array) -> Array:
        return triangular_log_pdf(value, self.low, self.high, self.peak)

    def _log_tails(self, value: Array) -> tuple[Array, Array]:
        return triangular_log_tails(value, self.low, self.high, self.peak)

    def log_cdf(self, value: Array) -> Array:
        return self._log_tails(value)[0]

    def log_survival(self, value: Array) -> Array:
        return self._log_tails(value)[1]

    def quantile(self, q: Array) -> Array:
        width, below = self.high - self.low, self.peak - self.low
        left = q * width < below
        side = jnp.where(left, below, self.high - self.peak)
        none = side == 0  # and no q but 0 and 1
        tail = jnp.where(left, q, 1 - q)
        root = jnp.sqrt(width) * jnp.sqrt(jnp.where(none, 1, side))
        step = jnp.where(none, 0, jnp.sqrt(tail) * root)
        return jnp.where(left, self.low + step, self.high - step)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        tiny = jnp.finfo(self.dtype).tiny
        u = jax.random.uniform(key, self._shape(shape), self.dtype, minval=tiny)
        return jnp.clip(self.quantile(u), self.low, self.high)

    def mean(self) -> Array:
        return self.low + ((self.high - self.low) + (self.peak - self.low)) / 3

    def mode(self) -> Array:
        return self.peak

    def variance(self) -> Array:
        return self.stddev() ** 2

    def stddev(self) -> Array:
        width = self.high - self.low
        share = divide(self.peak - self.low, width) * divide(self.high - self.peak, width)
        return width * jnp.sqrt((1 - share) / 18)

    def entropy(self) -> Array:
        return jnp.log(self.high - self.low) + (0.5 - math.log(2))


@register_kl(Triangular, Triangular)
def _kl_triangular(p: Triangular, q: Triangular) -> Array:
    return triangular_divergence(p.low, p.high, p.peak, q.low, q.high, q.peak)
