"""Log-densities of the Poisson and the negative binomial, in the way of `densities`."""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._gamma_tables import DIGAMMA1P, polynomial
from likelax.numerics._rules import with_partials
from likelax.numerics.deviance import (
    deviance_and_log,
    gap_deviance,
    log1pmx,
    log_ratio,
    product_gap,
)
from likelax.numerics.gamma import (
    digamma,
    digamma_minus_log,
    digamma_minus_log_step,
    lgamma1p,
    stirling,
    trigamma,
    trigamma_step,
)
from likelax.numerics.logspace import as_floats, divide, sigmoid
from likelax.numerics.pairs import exp_to_pair, log_quotient, word

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_EULER = 0.57721566490153286  # -digamma(1)


def _poisson(k, rate):
    small = k < 1.0  # plain form: nothing is large there
    c, m = jnp.where(small, 1.0, k), jnp.where(small, 1.0, rate)
    z, none = jnp.where(small, k, 0.0), (k == 0) & (rate == 0)
    log = jnp.log(jnp.where(none, 1.0, jnp.where(small, rate, c)))  # one for both
    saddle = (
        -gap_deviance(c, m, m - c) - (0.5 * log + _HALF_LOG_2PI) - stirling(0, from_one=True)(c)
    )
    return jnp.where(small, z * log - rate - lgamma1p(z), saddle)


def _poisson_slope_k(k, rate):
    return jax.jvp(lambda k: _poisson(k, rate), (k,), (jnp.ones_like(k),))[1]


@with_partials(
    lambda k, rate: jnp.where(rate == 0, 0.0, 1.0 / jnp.where(rate == 0, 1.0, rate)),
    lambda k, rate: jnp.where(rate == 0, 0.0, (-k / rate) * (1.0 / rate)),
)
def _poisson_slope_rate(k, rate):
    edge = rate == 0
    return jnp.where(edge, jnp.where(k == 0, -1.0, 0.0), (k - rate) / jnp.where(edge, 1.0, rate))


# The slope in the rate is a short formula, and the whole then one loop over the elements.
_poisson_log_pmf = with_partials(_poisson_slope_k, _poisson_slope_rate)(_poisson)


def poisson_log_pmf(k: ArrayLike, rate: ArrayLike) -> Array:
    """log of rate^k exp(-rate) / Gamma(k + 1), k >= 0, rate >= 0. Loader: -delta(k) - D(k, rate) -
    log(2 pi k)/2.

    k = 0 gives -rate exactly; rate = 0 gives 0 at k = 0 (slope -1) and -inf at k > 0. A real k is
    allowed.
    """
    return _poisson_log_pmf(*jnp.broadcast_arrays(*as_floats(k, rate)))


def whole_poisson_log_pmf(k: Array, rate: Array, gap: Array) -> Array:
    """`poisson_log_pmf` of a whole k, given gap = rate - k, for a rate > 0; -inf below 0. A part of samplers, whose
    loops compile sooner without the form for k < 1.
    """
    c = jnp.maximum(k, 1.0)
    rest = jnp.where(k > 0, 0.5 * jnp.log(c) + _HALF_LOG_2PI + stirling(0, from_one=True)(c), 0.0)
    return jnp.where(k < 0, -jnp.inf, -gap_deviance(jnp.maximum(k, 0.0), rate, gap) - rest)


_LOWEST_LOG_RATE = -80.0  # exp() of what is a little lower is no normal number in float32


def _rate_parts(k, log_rate):
    """The rate, or exp(-80) where it is lower, the gap rate - k in its digits, and what is beyond.

    At a rate of 1e7 the rounding of the rate alone would cost the density hundreds of units in its
    last place: it is carried in two floats.
    """
    low = log_rate < _LOWEST_LOG_RATE
    rate, rest = exp_to_pair(word(jnp.where(low, _LOWEST_LOG_RATE, log_rate)))
    return rate, (rate - k) + rest, jnp.where(low, log_rate - _LOWEST_LOG_RATE, 0.0)


def _poisson_log_slope_k(k, log_rate):
    return jax.jvp(lambda k: _poisson_log(k, log_rate), (k,), (jnp.ones_like(k),))[1]


@with_partials(lambda k, log_rate: jnp.ones_like(k), lambda k, log_rate: -jnp.exp(log_rate))
def _poisson_log_slope(k, log_rate):
    rate, gap, beyond = _rate_parts(k, log_rate)
    return jnp.where(log_rate == -jnp.inf, 0.0, jnp.where(beyond < 0, k, -gap))


def _poisson_log(k, log_rate):
    rate, gap, beyond = _rate_parts(k, log_rate)
    small = k < 1.0
    c = jnp.where(small, 1.0, k)
    gap = jnp.where(small, rate - c, gap)
    z = jnp.where(small, k, 0.0)
    saddle = -gap_deviance(c, rate, gap) - (0.5 * jnp.log(c) + _HALF_LOG_2PI) - stirling(0, True)(c)
    power = z * jnp.where(z == 0, 0.0, log_rate)
    rate = jnp.where(beyond < 0, jnp.exp(log_rate), rate)
    return jnp.where(small, power - rate - lgamma1p(z), saddle + c * beyond)


_poisson_log_rate = with_partials(_poisson_log_slope_k, _poisson_log_slope)(_poisson_log)


def poisson_log_rate_log_pmf(k: ArrayLike, log_rate: ArrayLike) -> Array:
    """`poisson_log_pmf` of the rate's logarithm, to the same digits at rates of 1e20. Slope k - rate."""
    return _poisson_log_rate(*jnp.broadcast_arrays(*as_floats(k, log_rate)))


# Beyond these logits the smaller probability is near the smallest float.
LARGEST_LOGIT = 80.0


def odds_parts(c, d, logits):
    """p, q, n p - c = d - n q, n = c + d, and by how much the logits are beyond the largest.

    With e = exp(logits) the gap is (d e - c) / (1 + e), to some digits of e more than a float has: p's own rounding would
    count n times. Where logits > 0 the same with the sides exchanged.
    """
    kept = jnp.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT)
    is_rare = kept < 0
    odds = jnp.exp(-jnp.abs(kept))
    high, rest = log_quotient(odds, jnp.ones_like(odds))
    lost = (-jnp.abs(kept) - high) - rest
    common = 1.0 / (1.0 + odds)
    p, q = (jnp.where(is_rare == first, odds, 1.0) * common for first in (True, False))
    rare, other = jnp.where(is_rare, d, c), jnp.where(is_rare, c, d)
    gap = common * (product_gap(rare, odds, other) + rare * odds * lost)
    return p, q, jnp.where(is_rare, gap, -gap), logits - kept


@with_partials(
    lambda c, d, logits: -sigmoid(-logits),
    lambda c, d, logits: sigmoid(logits),
    lambda c, d, logits: (c + d) * (sigmoid(logits) * sigmoid(-logits)),
)
def _odds_gap(c, d, logits):
    """n p - c."""
    return odds_parts(c, d, logits)[2]


def times_log(x, log_y):
    """x log_y, 0 where x = 0; where log_y is -inf no slope."""
    safe = jnp.where((x == 0) | jnp.isinf(log_y), 0.0, log_y)
    return jnp.where((x != 0) & jnp.isinf(log_y), log_y, x * safe)


def _negative_binomial_failures(k, r, logits):
    """D(r, n q) and log(r / (n q)).

    For r < 1 <= k without r log r - r and log r: lgamma(r) = lgamma(1 + r) - log r has them.
    """
    p, q, gap, _ = odds_parts(k, r, logits)
    nq, none = (k + r) * q, k == 0
    small = (r < 1.0) & ~none
    # r D(1, q) at k = 0, where r q may be below the floats.
    m = jnp.where(none, q, nq)
    rest = jnp.where(none, -p, jnp.where(small, nq - 1.0, -gap))
    d, log = deviance_and_log(jnp.where(small | none, 1.0, r), m, rest)
    return jnp.where(small, nq + r * log, jnp.where(none, r * d, d)), log


@with_partials(
    lambda k, r, logits: trigamma(k + r),
    lambda k, r, logits: trigamma_step(r, k),
    lambda k, r, logits: -sigmoid(logits),
)
def _negative_binomial_slope_r(k, r, logits):
    # log q + digamma(n) - digamma(r).
    n, small = k + r, (r < 1.0) & (k > 0)
    log = _negative_binomial_failures(k, r, logits)[1]
    beyond = jnp.maximum(odds_parts(k, r, logits)[3], 0.0)
    top, low = jnp.maximum(n, 1.0), jnp.maximum(r, 1.0)
    slope = stirling(1, True)(top)
    large = (slope - stirling(1, True)(low)) + 0.5 * (k / n) / r
    s = jnp.where(small, r, 0.0)
    below = (slope - 0.5 / top) - polynomial(DIGAMMA1P, s) + 1.0 / r
    return jnp.where(small, below, large) - (log + beyond)


def _negative_binomial_slope_k(k, r, logits):
    # log p + digamma(n) - digamma(k + 1).
    p, _, gap, beyond = odds_parts(k, r, logits)
    c = jnp.where(k == 0, 1.0, k)
    many = digamma_minus_log(c + r) - digamma_minus_log(c) - 1.0 / c
    many = many - log_ratio(c, (c + r) * p, jnp.where(k == 0, (c + r) * p - c, gap))
    return jnp.where(k == 0, jnp.log(p) + digamma(r) + _EULER, many) + jnp.minimum(beyond, 0.0)


@with_partials(
    _negative_binomial_slope_k,
    _negative_binomial_slope_r,
    lambda k, r, logits: -_odds_gap(k, r, logits),
)
def _negative_binomial(k, r, logits):
    p, _, gap, beyond = odds_parts(k, r, logits)
    n, none = k + r, k == 0
    small = (r < 1.0) & ~none
    c, s = jnp.where(none, 1.0, k), jnp.where(small, r, 0.0)
    saddle = gap_deviance(k, n * p, gap) + _negative_binomial_failures(k, r, logits)[0]
    linear = jnp.where(beyond > 0, r, -k) * jnp.where(none & (beyond < 0), 0.0, beyond)
    # One logarithm: of r / (n c), or of 1 / (n c) where log r is left apart.
    half_log = 0.5 * jnp.log((jnp.where(small, 1.0, r) / n) / c)
    delta = stirling(0, True)
    rest = jnp.where(small, lgamma1p(s) - jnp.log(r), delta(jnp.maximum(r, 1.0)))
    rest = rest + (delta(c) + jnp.where(small, 0.0, _HALF_LOG_2PI))
    terms = jnp.where(none, 0.0, half_log + (delta(jnp.maximum(n, 1.0)) - rest))
    return terms - saddle - linear


def negative_binomial_log_mass(k: ArrayLike, r: ArrayLike, logits: ArrayLike) -> Array:
    """log of C(k + r - 1, k) q^r p^k for k = 0, 1, ..., r > 0 and real logits of p.

    Loader: delta(n) - delta(k) - delta(r) - D(k, n p) - D(r, n q) + log(r / (2 pi n k)) / 2, n = k + r, n p - k from
    the smaller of p and q; for r < 1 lgamma(r) as it is. Slopes k - n p in the logits and log q + digamma(n)
    - digamma(r) in r, which share the logarithms of the value.
    """
    return _negative_binomial(*jnp.broadcast_arrays(*as_floats(k, r, logits)))


def negative_binomial_log_pmf(
    k: ArrayLike, r: ArrayLike, log_p: ArrayLike, log_q: ArrayLike
) -> Array:
    """`negative_binomial_log_mass` with log_p, log_q as in `binomial_log_pmf`.

    p = 0 gives 0 at k = 0 and -inf elsewhere.
    """
    k, r, log_p, log_q = jnp.broadcast_arrays(*as_floats(k, r, log_p, log_q))
    sure = jnp.isinf(log_p) | jnp.isinf(log_q)
    out = _negative_binomial(k, r, jnp.where(sure, 0.0, log_p) - jnp.where(sure, 0.0, log_q))
    out = jnp.where(sure, jnp.where(k == 0, times_log(r, log_q), -jnp.inf), out)
    return jnp.where(jnp.isnan(log_p + log_q + k + r), jnp.nan, out)


def negative_binomial_terms(k, r):
    """delta(n) - delta(k) - delta(r) + log(r / (2 pi n k)) / 2 for n = k + r, k > 0."""
    n = k + r
    half_log = 0.5 * (log_ratio(r, n, k) - jnp.log(k)) - _HALF_LOG_2PI
    return half_log + ((stirling(0)(n) - stirling(0)(r)) - stirling(0)(k))


def _share(r, m):
    """r / (r + m); from the smaller share, whose derivatives are no difference of equal ones."""
    return jnp.where(r > m, 1.0 - m / (r + m), r / (r + m))


def mean_parts(k, r, m):
    """n p, n q and the gap n p - k = r (m - k) / (r + m), p = m / (r + m), n = k + r: nothing
    cancels.
    """
    p, q = m / (r + m), r / (r + m)
    n = k + r
    return n * p, n * q, (m - k) * q


def _mean_slope_k(k, r, m):
    # log p + digamma(n) - digamma(k + 1).
    c = jnp.where(k == 0, 1.0, k)
    many = log_ratio(c, mean_parts(c, r, m)[0], mean_parts(c, r, m)[2])
    many = -many + digamma_minus_log(c + r) - digamma_minus_log(c) - 1.0 / c
    none = jnp.log(m) - jnp.log(r + m) + digamma(r) + _EULER
    return jnp.where(k == 0, none, many)


def _mean_slope_r(k, r, m):
    # log(n / (r + m)) + (m - k) / (r + m) + [digamma - log](n) - [digamma - log](r).
    u = (k - m) / (r + m)
    near = jnp.abs(u) < 0.5
    far = log_ratio(k + r, r + m, m - k) - u
    return jnp.where(near, log1pmx(jnp.where(near, u, 0.0)), far) + digamma_minus_log_step(r, k)


def _mean_slope_m(k, r, m):
    # Where m = 0 < k the slope is infinite, which counts as 0.
    inside = (k != 0) & (m != 0)
    many = jnp.where(inside, (k - m) / jnp.where(inside, m, 1.0), 0.0)
    return jnp.where(k == 0, -1.0, many) * _share(r, m)


@with_partials(_mean_slope_k, _mean_slope_r, _mean_slope_m)
def _negative_binomial_mean(k, r, m):
    none = k == 0
    c = jnp.where(none, 1.0, k)
    np, nq, gap = mean_parts(c, r, m)
    out = -(gap_deviance(c, np, gap) + gap_deviance(r, nq, -gap)) + negative_binomial_terms(c, r)
    return jnp.where(none, -r * log_ratio(r + m, r, -m), out)


def negative_binomial_mean_log_pmf(k: ArrayLike, r: ArrayLike, m: ArrayLike) -> Array:
    """`negative_binomial_log_pmf` with mean m >= 0: p = m / (r + m). Tends to the Poisson as r ->
    inf.

    Slopes (k - m) r / (m (r + m)) in m, and in r a small difference that holds its digits for r >>
    k and for k >> r. r = inf is the Poisson.
    """
    k, r, m = as_floats(k, r, m)
    return _negative_binomial_mean(k, jnp.minimum(r, 1e30), m)


def negative_binomial_dispersed_log_pmf(k: ArrayLike, m: ArrayLike, dispersion: ArrayLike) -> Array:
    """`negative_binomial_mean_log_pmf` with r = 1 / dispersion, right down to a dispersion of 0.

    Where the third term counts no more it is the Poisson and, with z = k - m, d [z^2 - k] / 2 + d^2 [2 z^3 / 3 - k z^2 +
    k^2 / 2 - k / 6] / 2: slopes in the dispersion would pass through r^2 and r^3.
    """
    k, m, d = as_floats(k, m, dispersion)
    size = jnp.abs(k) + m
    eps = 0.1 * jnp.finfo(d.dtype).eps
    near = ((size * d) ** 2 < eps) & (size * (size * d) ** 3 < eps) & (size < 1e18)
    z, few, small = jnp.where(near, k - m, 0.0), jnp.where(near, k, 0.0), jnp.where(near, d, 0.0)
    # Each power of d stands beside one of the counts: the cube of 1e18 is no float32.
    bend = (small * z) ** 2 * (z / 1.5 - few) + (small * few) * (small * (0.5 * few - 1.0 / 6.0))
    close = poisson_log_pmf(k, m) + 0.5 * (small * (z * z - few) + bend)
    far = negative_binomial_mean_log_pmf(k, divide(1.0, jnp.where(near, 1.0, d)), m)
    return jnp.where(near, close, far)
