"""What is beyond a high threshold, and the largest of many: the generalised Pareto and the
generalised extreme value distribution.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, param
from likelax.distributions._invert import open_uniform
from likelax.distributions.base import Distribution
from likelax.distributions.extremes import LOG_CENTRAL, log_upper_tail
from likelax.distributions.kl import register_kl
from likelax.numerics.excess_divergence import generalized_pareto_divergence
from likelax.numerics.extremes import (
    generalized_extreme_value_log_pdf,
    generalized_pareto_log_cdf,
    generalized_pareto_log_pdf,
    log_plus,
    tail_decay,
    tail_depth,
    tail_end,
    tail_rise,
    tail_stretch,
)
from likelax.numerics.gamma import lgamma, zeta
from likelax.numerics.logspace import divide, infinite_moment, log1p

_EULER = 0.57721566490153286


class TailIndexed(Distribution):
    """Base of the families with a tail index xi: formulas in t = log1p(xi z)/xi, z = (x -
    loc)/scale.

    Parameters, of the batch's shape: `loc`, real; `scale`, positive; `concentration`, real: xi.
    """

    loc: Array = param(supports.real)
    scale: Array = param(supports.positive)
    concentration: Array = param(supports.real, typical=0.1)

    def _inside(self, like: Array) -> Array:
        return self.loc + self.scale / (2 + 2 * jnp.abs(self.concentration))  # 1 + xi z > 1/2

    def _depth(self, value: Array) -> Array:
        return tail_depth(value, self.loc, self.scale, self.concentration)

    def _at_depth(self, t: Array) -> Array:
        return self.loc + self.scale * tail_stretch(t, self.concentration)

    def _at_end(self) -> Array:
        """The end of the support, of a negative concentration."""
        bounded = ~(self.concentration >= 0)  # NaN stays NaN
        return self.loc - divide(self.scale, jnp.where(bounded, self.concentration, -1))


class GeneralizedPareto(TailIndexed):
    """The generalised Pareto distribution: log p(x) = -(1/xi + 1) log(1 + xi z) - log scale, z = (x
    - loc)/scale >= 0, xi the concentration; -z - log scale at xi = 0.

    Excesses over a high threshold `loc` (Pickands 1975). xi > 0 is a tail that falls as the power
    -1/xi (SciPy's `genpareto` has the same sign), xi = 0 the Exponential, and for xi < 0 values end
    at loc - scale/xi, where the density is its limit: 0, 1/scale at xi = -1 or infinite below. The
    mean is infinite for xi >= 1, the variance for xi >= 1/2. A head has `loc` at 0 unless it is given
    another: a learned one may grow beyond the data, where their density is 0 and has no slope. The same
    holds of data beyond the end of a negative concentration: start a fit with 0 or more. KL to another one is inf
    where that one's support does not hold this one's, and to an exponential tail from one without a mean.

    Parameters, of the batch's shape: `loc`, real, 0 by default; `scale`, positive; `concentration`,
    real.

    Source: Pickands (1975), "Statistical inference using extreme order statistics".
    """

    loc: Array = param(supports.real, default=0.0)

    @property
    def support(self) -> supports.Interval:
        """From loc on, itself inside, to the end loc - scale/xi of a negative concentration."""
        end = tail_end(self.loc, self.scale, self.concentration)
        upper = jnp.where(self.concentration < 0, end, jnp.inf)
        return supports.Interval("between loc and the end of the tail", lower=self.loc, upper=upper)

    def log_prob(self, value: Array) -> Array:
        return generalized_pareto_log_pdf(value, self.loc, self.scale, self.concentration)

    def log_cdf(self, value: Array) -> Array:
        return generalized_pareto_log_cdf(value, self.loc, self.scale, self.concentration)

    def cdf(self, value: Array) -> Array:
        return tail_rise(value, self.loc, self.scale, self.concentration)

    def survival(self, value: Array) -> Array:
        return tail_decay(value, self.loc, self.scale, self.concentration)

    def log_survival(self, value: Array) -> Array:
        return -self._depth(value)

    def quantile(self, q: Array) -> Array:
        return self._at_depth(-log1p(-q))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return self._at_depth(-jnp.log(open_uniform(key, self._shape(shape), self.dtype)))

    def mean(self) -> Array:
        finite = ~(self.concentration >= 1)  # NaN stays NaN
        xi = jnp.where(finite, self.concentration, 0)
        return jnp.where(
            finite, self.loc + divide(self.scale, 1 - xi), infinite_moment(self.loc, self.scale)
        )

    def mode(self) -> Array:
        return jnp.where(self.concentration >= -1, self.loc, self._at_end())

    def variance(self) -> Array:
        return self.stddev() ** 2

    def stddev(self) -> Array:
        finite = ~(self.concentration >= 0.5)
        xi = jnp.where(finite, self.concentration, 0)
        return jnp.where(
            finite, divide(self.scale, 1 - xi) / jnp.sqrt(1 - 2 * xi), infinite_moment(self.scale)
        )

    def entropy(self) -> Array:
        return log_plus(self.scale, 1 + self.concentration)


@register_kl(GeneralizedPareto, GeneralizedPareto)
def _kl_generalized_pareto(p: GeneralizedPareto, q: GeneralizedPareto) -> Array:
    own, theirs = ((d.loc, d.scale, d.concentration) for d in (p, q))
    return generalized_pareto_divergence(*own, *theirs)


class GeneralizedExtremeValue(TailIndexed):
    """The generalised extreme value distribution: log p(x) = -(1 + xi) t - exp(-t) - log scale, t =
    log(1 + xi z)/xi, z = (x - loc)/scale, xi the concentration.

    The largest of many (Fisher and Tippett 1928): P(X <= x) = exp(-exp(-t)). xi > 0 is the
    Frechet's, values from loc - scale/xi on with a tail that falls as the power -1/xi; xi = 0 the
    Gumbel; xi < 0 the reversed Weibull, values up to loc - scale/xi. SciPy's `genextreme` has the
    opposite sign. The mean is infinite for xi >= 1, the variance for xi >= 1/2. A fit that starts with
    data beyond the end has a density of 0 there and no slope: start with a small concentration.

    Parameters, of the batch's shape: `loc`, real; `scale`, positive; `concentration`, real.

    Source: Jenkinson (1955), "The frequency distribution of the annual maximum (or minimum) values
    of meteorological elements".
    """

    @property
    def support(self) -> supports.Interval:
        """From or up to loc - scale/xi, as the concentration is positive or negative."""
        end = tail_end(self.loc, self.scale, self.concentration)
        lower = jnp.where(self.concentration > 0, end, -jnp.inf)
        upper = jnp.where(self.concentration < 0, end, jnp.inf)
        return supports.Interval("on this side of the tail's end", lower=lower, upper=upper)

    def log_prob(self, value: Array) -> Array:
        return generalized_extreme_value_log_pdf(value, self.loc, self.scale, self.concentration)

    def log_cdf(self, value: Array) -> Array:
        return -tail_decay(value, self.loc, self.scale, self.concentration)

    def log_survival(self, value: Array) -> Array:
        return log_upper_tail(self._depth(value))

    def quantile(self, q: Array) -> Array:
        return self._at_depth(-jnp.log(-jnp.log(q)))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return self._at_depth(jax.random.gumbel(key, self._shape(shape), self.dtype))

    def mean(self) -> Array:
        finite = ~(self.concentration >= 1)  # NaN stays NaN
        z = _mean_depth(jnp.where(finite, self.concentration, 0))
        return jnp.where(finite, self.loc + self.scale * z, infinite_moment(self.loc, self.scale))

    def mode(self) -> Array:
        peaked = self.concentration > -1
        t = -log1p(jnp.where(peaked, self.concentration, 0))
        return jnp.where(peaked, self._at_depth(t), self._at_end())

    def variance(self) -> Array:
        return self.stddev() ** 2

    def stddev(self) -> Array:
        finite = ~(self.concentration >= 0.5)
        z = _spread(jnp.where(finite, self.concentration, 0))
        return jnp.where(finite, self.scale * z, infinite_moment(self.scale))

    def entropy(self) -> Array:
        return log_plus(self.scale, 1 + _EULER + _EULER * self.concentration)


# log Gamma(1 - xi) in powers of xi, from the first on.
_LOG_GAMMA = (_EULER, *(zeta(k) / k for k in range(2, 24)))


def _series(coefficients: tuple[float, ...], x: Array) -> Array:
    total = jnp.zeros_like(x)
    for c in reversed(coefficients):
        total = total * x + c
    return total


def _mean_depth(xi: Array) -> Array:
    """(Gamma(1 - xi) - 1) / xi for xi < 1, Euler's constant at 0."""
    small = jnp.abs(xi) < 0.15
    v, w = jnp.where(small, xi, 0.0), jnp.where(small, -1.0, xi)
    slope = _series(_LOG_GAMMA, v)
    safe = jnp.where(v == 0, 1.0, v)
    near = jnp.where(v == 0, slope, jnp.expm1(safe * slope) / safe)
    return jnp.where(small, near, jnp.expm1(lgamma(1 - w)) / w)


def _spread(xi: Array) -> Array:
    """The standard deviation at scale 1, for xi < 1/2."""
    small = jnp.abs(xi) < 0.1
    v, w = jnp.where(small, xi, 0.0), jnp.where(small, -1.0, xi)
    ratio = _series(LOG_CENTRAL, v)
    square = v * v
    safe = jnp.where(square == 0, 1.0, square)
    near = jnp.where(square == 0, ratio, jnp.expm1(safe * ratio) / safe)
    near = jnp.exp(v * _series(_LOG_GAMMA, v)) * jnp.sqrt(near)
    gap = lgamma(1 - 2 * w) - 2 * lgamma(1 - w)
    return jnp.where(small, near, jnp.exp(lgamma(1 - w)) * jnp.sqrt(jnp.expm1(gap)) / jnp.abs(w))
