"""Positive families with tails that are powers: the Pareto, the LogLogistic and the HalfCauchy."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, param
from likelax.distributions._invert import open_uniform
from likelax.distributions.base import Distribution, at_least_tiny
from likelax.distributions.kl import register_kl
from likelax.distributions.location_scale import log_scale_ratio
from likelax.numerics.divergences import ratio_excess
from likelax.numerics.logspace import (
    divide,
    exp_of_log_scale,
    infinite_moment,
    log1mexp,
    log_sigmoid,
    logcosh,
    logit,
    standardize_far,
)
from likelax.numerics.pairs import log_gap, log_over
from likelax.numerics.powers import (
    half_cauchy_log_pdf,
    half_cauchy_log_tail,
    log_logistic_log_pdf,
    pareto_log_pdf,
)
from likelax.numerics.student_t import log1p_square

_LOG_2PI = math.log(2 * math.pi)
_LOG_2_OVER_PI = math.log(2 / math.pi)
# (tan b - b) / b^3 in powers of b^2.
_TANGENT = (
    1 / 3,
    2 / 15,
    17 / 315,
    62 / 2835,
    1382 / 155925,
    21844 / 6081075,
    929569 / 638512875,
    6404582 / 10854718875,
    443861162 / 1856156927625,
    18888466084 / 194896477400625,
)


class Pareto(Distribution):
    """The Pareto distribution: log p(x) = log(a/x) - a log(x/scale), x >= scale, a the
    concentration.

    The mean is infinite for a <= 1, the variance for a <= 2. Fix `scale`, the least value, in a
    head: a learned one may grow beyond the data, where their density is 0 and has no slope.

    Parameters, of the batch's shape: `concentration` and `scale`, positive.
    """

    concentration: Array = param(supports.positive)
    scale: Array = param(supports.positive)

    @property
    def support(self) -> supports.Interval:
        """From the scale on, itself inside."""
        return supports.Interval("at or above the scale", lower=self.scale)

    @property
    def _covers(self) -> bool:
        return True

    def _log_survival(self, value: Array) -> Array:
        return -self.concentration * log_over(value, self.scale)

    def log_prob(self, value: Array) -> Array:
        return pareto_log_pdf(value, self.concentration, self.scale)

    def log_cdf(self, value: Array) -> Array:
        return log1mexp(-self._log_survival(value))

    def log_survival(self, value: Array) -> Array:
        return self._log_survival(value)

    def quantile(self, q: Array) -> Array:
        return self.scale * jnp.exp(-divide(jnp.log1p(-q), self.concentration))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        draws = jax.random.exponential(key, self._shape(shape), self.dtype)
        return self.scale * jnp.exp(divide(draws, self.concentration))

    def mean(self) -> Array:
        finite = ~(self.concentration <= 1)  # NaN stays NaN
        a = jnp.where(finite, self.concentration, 2.0)
        return jnp.where(finite, self.scale * (1 + 1 / (a - 1)), infinite_moment(self.scale))

    def mode(self) -> Array:
        return self.scale

    def variance(self) -> Array:
        return self.stddev() ** 2

    def stddev(self) -> Array:
        finite = ~(self.concentration <= 2)
        a = jnp.where(finite, self.concentration, 3.0)
        return jnp.where(
            finite, self.scale / (a - 1) * jnp.sqrt(1 + 2 / (a - 2)), infinite_moment(self.scale)
        )

    def entropy(self) -> Array:
        return 1 + divide(1.0, self.concentration) - log_over(self.concentration, self.scale)


@register_kl(Pareto, Pareto)
def _kl_pareto(p: Pareto, q: Pareto) -> Array:
    contained = ~(q.scale > p.scale)  # NaN stays NaN
    # An infinite slope would be NaN in what is not contained.
    scale, a = (
        jnp.where(contained, x, y)
        for x, y in ((q.scale, p.scale), (q.concentration, p.concentration))
    )
    excess = ratio_excess(a, jnp.where(contained, p.concentration, a))
    return jnp.where(contained, a * log_over(p.scale, scale) + excess, jnp.inf)


class LogLogistic(Distribution):
    """The log-logistic distribution: log p(x) = log(k/x) + log s(y) + log s(-y), y = k
    log(x/scale), x >= 0, s the sigmoid and k the concentration: log x is a Logistic.

    Lifetimes whose hazard grows and then falls (k > 1). `scale` is the median. The mean is infinite
    for k <= 1, the variance for k <= 2. At x = 0 the density is its limit: infinite, 1/scale or 0 as
    k is below, at or above 1.

    Parameters, of the batch's shape: `concentration` and `scale`, positive.
    """

    concentration: Array = param(supports.positive)
    scale: Array = param(supports.positive)

    support = supports.non_negative

    def _inside(self, like: Array) -> Array:
        return at_least_tiny(self.scale)

    def _y(self, value: Array) -> Array:
        return self.concentration * log_over(value, self.scale)

    def log_prob(self, value: Array) -> Array:
        return log_logistic_log_pdf(value, self.concentration, self.scale)

    def log_cdf(self, value: Array) -> Array:
        return log_sigmoid(self._y(value))

    def log_survival(self, value: Array) -> Array:
        return log_sigmoid(-self._y(value))

    def quantile(self, q: Array) -> Array:
        return self.scale * jnp.exp(divide(logit(q), self.concentration))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        draws = logit(open_uniform(key, self._shape(shape), self.dtype))
        return self.scale * jnp.exp(divide(draws, self.concentration))

    def mean(self) -> Array:
        finite = ~(self.concentration <= 1)  # NaN stays NaN
        k = jnp.where(finite, self.concentration, 2.0)
        return jnp.where(finite, self.scale * _over_sine(k), infinite_moment(self.scale))

    def mode(self) -> Array:
        peaked = ~(self.concentration <= 1)
        k = jnp.where(peaked, self.concentration, 2.0)
        return jnp.where(peaked, self.scale * jnp.exp(jnp.log1p(-2 / (k + 1)) / k), 0)

    def variance(self) -> Array:
        return self.stddev() ** 2

    def stddev(self) -> Array:
        # E[z^2] / E[z]^2 = tan(b) / b, b = pi / k.
        finite = ~(self.concentration <= 2)
        k = jnp.where(finite, self.concentration, 4.0)
        return jnp.where(
            finite,
            self.scale * _over_sine(k) * jnp.sqrt(_tangent_excess(k)),
            infinite_moment(self.scale),
        )

    def entropy(self) -> Array:
        return 2 - log_over(self.concentration, self.scale)


def _over_sine(k: Array) -> Array:
    """b / sin(b), b = pi / k, k > 1."""
    near = jnp.where(k < 2, math.pi * (k - 1) / k, math.pi / k)
    return (math.pi / k) / jnp.sin(near)


def _tangent_excess(k: Array) -> Array:
    """tan(b) / b - 1, b = pi / k, k > 2."""
    b = math.pi / k
    small = b < 0.4
    square = jnp.where(small, b, 0.0) ** 2
    series = jnp.zeros_like(b)
    for c in reversed(_TANGENT):
        series = (series + c) * square
    # tan(b) = 1 / tan(pi/2 - b), whose argument is exact near k = 2.
    return jnp.where(small, series, 1 / (b * jnp.tan(math.pi * (k - 2) / (2 * k))) - 1)


class HalfCauchy(Distribution):
    """|X| of a Cauchy(0, scale): log p(x) = log(2/pi) - log scale - log(1 + z^2), z = x/scale >= 0.

    A prior of scales. Its median is `scale`; mean and variance are infinite.

    Parameters, of the batch's shape: `scale`, positive, or its logarithm `log_scale`.
    """

    scale: Array = param(supports.positive, default=None)
    log_scale: Array = param(
        supports.log_positive, default=None, instead_of="scale", to=exp_of_log_scale, back=jnp.log
    )

    support = supports.non_negative

    def _inside(self, like: Array) -> Array:
        return at_least_tiny(self.scale)

    def _log_z(self, value: Array) -> Array:
        if self.given("scale"):
            return log_over(value, self.scale)
        return log_gap(value, self.log_scale)

    def log_prob(self, value: Array) -> Array:
        if self.given("scale"):
            return half_cauchy_log_pdf(value, self.scale)
        z, excess = standardize_far(value, 0.0, self.log_scale, 20.0)
        return _LOG_2_OVER_PI - (log1p_square(z) + 2 * excess) - self.log_scale

    def log_cdf(self, value: Array) -> Array:
        return half_cauchy_log_tail(self._log_z(value))

    def log_survival(self, value: Array) -> Array:
        return half_cauchy_log_tail(-self._log_z(value))

    def quantile(self, q: Array) -> Array:
        low = q < 0.5
        tangent = jnp.tan(0.5 * math.pi * jnp.where(low, q, 1 - q))
        return jnp.where(low, self.scale * tangent, divide(self.scale, tangent))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return self.scale * jnp.abs(jax.random.cauchy(key, self._shape(shape), self.dtype))

    def mean(self) -> Array:
        return infinite_moment(self.scale)

    def mode(self) -> Array:
        return jnp.zeros_like(self.scale)

    def variance(self) -> Array:
        return infinite_moment(self.scale)

    def entropy(self) -> Array:
        return _LOG_2PI + self.log_scale


@register_kl(HalfCauchy, HalfCauchy)
def _kl_half_cauchy(p: HalfCauchy, q: HalfCauchy) -> Array:
    # log[(s_p + s_q)^2 / (4 s_p s_q)], as of the Cauchy.
    return 2 * logcosh(0.5 * log_scale_ratio(p, q))
