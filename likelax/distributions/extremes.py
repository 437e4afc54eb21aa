"""Extremes and lifetimes: the Gumbel and the Weibull."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from likelax import supports
from likelax._pytree import Array, param
from likelax.distributions._invert import open_uniform
from likelax.distributions.base import Distribution, at_least_tiny
from likelax.distributions.kl import register_kl
from likelax.distributions.location_scale import LocationScale, log_scale_ratio, scale_ratio
from likelax.numerics._rules import with_partials
from likelax.numerics.divergences import exp_excess
from likelax.numerics.gamma import digamma, lgamma, log_binomial, stirling_error, zeta
from likelax.numerics.logspace import divide, log1mexp, log_mean_decay
from likelax.numerics.pairs import (
    Pair,
    fine_log_quotient,
    log_over,
    pair_minus,
    pair_over,
    pair_product,
    pair_sum,
    pair_times,
    rounded,
    standardize_pair,
    word,
)
from likelax.numerics.powers import exp_minus, gumbel_log_kernel, power, weibull_log_pdf

_EULER = 0.57721566490153286
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Gumbel(LocationScale):
    """The Gumbel distribution of largest values: log p(x) = -z - exp(-z) - log scale, z = (x -
    loc)/scale.

    Parameters, of the batch's shape: `loc`, real; `scale`, positive, or its logarithm `log_scale`.
    """

    def log_prob(self, value: Array) -> Array:
        return gumbel_log_kernel(value, self.loc, self.scale) - self.log_scale

    def log_cdf(self, value: Array) -> Array:
        return -exp_minus(value, self.loc, self.scale)

    def cdf(self, value: Array) -> Array:
        # exp(-exp(7)) is 0, without the slope of its logarithm, which may be infinite.
        deep = jax.lax.stop_gradient(self._z(value)) < -7
        return jnp.where(deep, 0, jnp.exp(self.log_cdf(jnp.where(deep, self.loc, value))))

    def log_survival(self, value: Array) -> Array:
        return log_upper_tail(self._z(value))

    def quantile(self, q: Array) -> Array:
        return self.loc - self.scale * jnp.log(-jnp.log(q))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return self.loc + self.scale * jax.random.gumbel(key, self._shape(shape), self.dtype)

    def mean(self) -> Array:
        return self.loc + _EULER * self.scale

    def variance(self) -> Array:
        return self.stddev() ** 2

    def stddev(self) -> Array:
        return (math.pi / math.sqrt(6)) * self.scale

    def entropy(self) -> Array:
        return 1 + _EULER + self.log_scale


def log_upper_tail(z: Array) -> Array:
    """log(1 - exp(-exp(-z)))."""
    upper = z > 0
    far = jnp.where(upper, z, 1.0)
    near = jnp.where(upper, 0.0, jnp.where(z < -7, -7.0, z))  # 1 - exp(-exp(7)) is 1
    return jnp.where(upper, log_mean_decay(jnp.exp(-far)) - far, log1mexp(jnp.exp(-near)))


def _kl_standard(v: Array, ratio: Array, log_ratio: Array, fine: Pair | None = None) -> Array:
    """From the standard Gumbel to that of `shift + ratio X`, v = lgamma(1 + ratio) - shift: two terms that are
    never negative.

    `fine` is v in two words, where it is known: it is exponentiated.
    """
    if fine is None:
        # An infinite slope would be NaN in what v does not depend on.
        beyond = v > _log_largest(v.dtype)
        growth = jnp.where(beyond, jnp.inf, exp_excess(jnp.where(beyond, 0.0, v)))
    else:
        growth = exp_excess(v)
        lost = jax.lax.stop_gradient(rounded(pair_sum(fine, word(-v))))
        held = jnp.isfinite(growth)
        growth = growth + jnp.where(held, lost, 0) * jnp.expm1(jnp.where(held, v, 0))
    # lgamma(ratio) is -log ratio where ratio is next to 0, or below the floats.
    tiny = ratio < 1e-30
    return growth + jnp.where(
        tiny, -log_ratio - _EULER, lgamma(jnp.where(tiny, 1.0, ratio)) + _EULER * (ratio - 1)
    )


def _lgamma1p_pair(top: Array, bottom: Array) -> Pair:
    """lgamma(1 + top / bottom), where it is large by Stirling's formula in two words."""
    plain = lgamma(1 + divide(top, bottom))
    large = top > 2 * bottom
    top, bottom = jnp.where(large, top, 3.0), jnp.where(large, bottom, 1.0)
    r = pair_over(word(top), bottom)
    power = pair_product(pair_sum(r, word(jnp.full_like(top, 0.5))), fine_log_quotient(top, bottom))
    high, low = pair_sum(power, pair_minus(r), word(_HALF_LOG_2PI + stirling_error(r[0])))
    return jnp.where(large, high, plain), jnp.where(large, low, 0.0)


@register_kl(Gumbel, Gumbel)
def _kl_gumbel(p: Gumbel, q: Gumbel) -> Array:
    if not (p.given("scale") and q.given("scale")):
        ratio = scale_ratio(p, q)
        return _kl_standard(lgamma(1 + ratio) - _held_shift(p, q), ratio, log_scale_ratio(p, q))
    given = jnp.broadcast_arrays(p.loc, p.scale, q.loc, q.scale)
    beyond = jax.lax.stop_gradient(_beyond(p, q))
    endless = beyond != 0
    loc, s, loc_q, s_q = (jnp.where(endless, i % 2, x) for i, x in enumerate(given))
    shift = _held_shift(Gumbel(loc, s), Gumbel(loc_q, s_q))
    fine = pair_sum(_lgamma1p_pair(s, s_q), pair_minus(standardize_pair(loc, loc_q, s_q)))
    ratio = divide(s, s_q)
    kl = _kl_standard(lgamma(1 + ratio) - shift, ratio, log_over(s, s_q), fine)
    return jnp.where(endless, _endless(beyond, *given), kl)


def _log_largest(dtype: jnp.dtype) -> float:
    return math.log(float(jnp.finfo(dtype).max))


def _held_shift(p: Gumbel, q: Gumbel) -> Array:
    largest = jnp.finfo(p.dtype).max  # of two infinities no difference is known
    return jnp.clip(q._z(p.loc), -largest, largest)


def _beyond(p: Gumbel, q: Gumbel) -> Array:
    """1 where E exp(-(X - loc_q)/s_q) is beyond the floats, -1 where the mean of (X - loc_q)/s_q is."""
    over = lgamma(1 + scale_ratio(p, q)) - _held_shift(p, q) > _log_largest(p.dtype)
    return jnp.where(over, 1.0, jnp.where(q._z(p.loc) == jnp.inf, -1.0, 0.0)).astype(p.dtype)


def _signed(beyond: Array, over: ArrayLike, far: ArrayLike) -> Array:
    return jnp.where(beyond > 0, over, jnp.where(beyond < 0, far, 0.0))


@with_partials(
    None,
    lambda beyond, loc, s, loc_q, s_q: _signed(beyond, -jnp.inf, 1 / s_q),
    # exp((loc_q - loc)/s_q) Gamma(1 + s/s_q) is least at s/s_q = 0.4616.
    lambda beyond, loc, s, loc_q, s_q: _signed(
        beyond, jnp.where(s < 0.46163216 * s_q, -jnp.inf, jnp.inf), _EULER / s_q - 1 / s
    ),
    lambda beyond, loc, s, loc_q, s_q: _signed(beyond, jnp.inf, -1 / s_q),
    lambda beyond, loc, s, loc_q, s_q: _signed(beyond, -jnp.inf, -jnp.inf),
)
def _endless(beyond: Array, loc: Array, s: Array, loc_q: Array, s_q: Array) -> Array:
    """An infinite KL, and the slopes there, of which in parts some are inf times 0."""
    return _signed(beyond, jnp.inf, jnp.inf).astype(loc.dtype)


class Weibull(Distribution):
    """The Weibull distribution: log p(x) = log(k/scale) + (k - 1) log z - z^k, z = x/scale >= 0, k
    the concentration.

    Lifetimes whose hazard k z^(k-1)/scale falls (k < 1), stays (the Exponential, k = 1) or grows (k
    > 1) with age. At x = 0 the density is its limit: infinite, 1/scale or 0. Minus log x is a
    Gumbel.

    Parameters, of the batch's shape: `concentration` and `scale`, positive.
    """

    concentration: Array = param(supports.positive)
    scale: Array = param(supports.positive)

    support = supports.non_negative

    def _inside(self, like: Array) -> Array:
        return at_least_tiny(self.scale)

    def log_prob(self, value: Array) -> Array:
        return weibull_log_pdf(value, self.concentration, self.scale)

    def log_cdf(self, value: Array) -> Array:
        return log_upper_tail(-self.concentration * log_over(value, self.scale))

    def log_survival(self, value: Array) -> Array:
        return -power(value, self.scale, self.concentration)

    def survival(self, value: Array) -> Array:
        # As in the Gumbel's cdf.
        deep = jax.lax.stop_gradient(self.concentration * log_over(value, self.scale)) > 7
        return jnp.where(deep, 0, jnp.exp(self.log_survival(jnp.where(deep, self.scale, value))))

    def quantile(self, q: Array) -> Array:
        return self._at_age(-jnp.log1p(-q))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return self._at_age(-jnp.log(open_uniform(key, self._shape(shape), self.dtype)))

    def _at_age(self, hazard: Array) -> Array:
        """The value at which so much hazard has been passed."""
        return self.scale * jnp.exp(divide(jnp.log(hazard), self.concentration))

    def mean(self) -> Array:
        return self.scale * jnp.exp(lgamma(1 + divide(1.0, self.concentration)))

    def mode(self) -> Array:
        peaked = ~(self.concentration <= 1)  # NaN stays NaN
        k = jnp.where(peaked, self.concentration, 2.0)
        return jnp.where(peaked, self.scale * jnp.exp(jnp.log1p(-1 / k) / k), 0)

    def variance(self) -> Array:
        return self.stddev() ** 2

    def stddev(self) -> Array:
        # E[z^2] / E[z]^2 is a binomial coefficient: 2/k over 1/k.
        log_ratio = _log_central_binomial(divide(1.0, self.concentration))
        return self.mean() * jnp.sqrt(jnp.expm1(log_ratio))

    def entropy(self) -> Array:
        u = divide(1.0, self.concentration)
        return 1 + _EULER * (1 - u) - log_over(self.concentration, self.scale)


# log Gamma(1 + 2u) - 2 log Gamma(1 + u) in powers of -u from the second on.
LOG_CENTRAL = tuple(zeta(k) * (2.0**k - 2.0) / k for k in range(2, 24))


def _log_central_binomial(u: Array) -> Array:
    """log of 2u over u, u > 0, to a few ulp of itself also where it is about u^2 pi^2 / 6."""
    small = u < 0.1
    v = jnp.where(small, -u, 0.0)
    series = jnp.zeros_like(u)
    for c in reversed(LOG_CENTRAL):
        series = series * v + c
    w = jnp.where(small, 1.0, u)
    return jnp.where(small, series * v * v, log_binomial(2 * w, w))


# One slope each, as it may meet an infinite moment.
@with_partials(
    lambda k, s, k_q, s_q: -divide(digamma(1 + divide(k_q, k)) * divide(k_q, k), k),
    lambda k, s, k_q, s_q: divide(k_q, s),
    lambda k, s, k_q, s_q: divide(digamma(1 + divide(k_q, k)), k) + log_over(s, s_q),
    lambda k, s, k_q, s_q: -divide(k_q, s_q),
)
def _log_moment(k: Array, s: Array, k_q: Array, s_q: Array) -> Array:
    """log E (X / s_q)^k_q of a Weibull of concentration k and scale s."""
    return lgamma(1 + divide(k_q, k)) + k_q * log_over(s, s_q)


@register_kl(Weibull, Weibull)
def _kl_weibull(p: Weibull, q: Weibull) -> Array:
    # Of the Gumbels of minus log x.
    k, s, k_q, s_q = jnp.broadcast_arrays(p.concentration, p.scale, q.concentration, q.scale)
    away = pair_times(k_q, fine_log_quotient(s, s_q))
    fine = pair_sum(_lgamma1p_pair(k_q, k), away)
    return _kl_standard(_log_moment(k, s, k_q, s_q), divide(k_q, k), log_over(k_q, k), fine)
