"""Log-densities of the gamma function's family, after Loader (2000).

The large parts of lgamma cancel in every density, and with them go the digits: in float32 a Poisson
log-mass at k = rate = 1e7 computed from `gammaln` is off by ten nats. Here nothing large is ever
formed. Every density is a sum of a *deviance* D(x, m) = x log(x/m) + m - x >= 0, of *Stirling
errors* delta(x), and of logarithms of order one (Loader 2000, "Fast and accurate computation of
binomial probabilities", and R's nmath). The derivative rules are of the same kind, so that
gradients hold their digits too.

Conventions of the whole file:

- Element by element with broadcasting, in float32 or wider; NaN in gives NaN out.
- Arguments are inside the support (counts >= 0, x > 0, parameters > 0) or on its closed edge, as
  each docstring says; the distributions mask what is outside.
- "x log y" is 0 where x = 0, and on an edge of the support an infinite slope is taken as 0.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._gamma_tables import DIGAMMA1P, STUDENT, STUDENT_SLOPE, polynomial
from likelax.numerics._rules import with_partials
from likelax.numerics.deviance import (
    deviance_and_log,
    gap_deviance,
    log1pmx,
    log_ratio,
    product_gap,
    two_deviances,
)
from likelax.numerics.gamma import (
    digamma,
    digamma_minus_log,
    digamma_minus_log_step,
    in_order,
    lgamma,
    lgamma1p,
    log_beta_parts,
    stirling,
    trigamma,
    trigamma_step,
)
from likelax.numerics.logspace import as_floats, divide, log1p, sigmoid, xlogy
from likelax.numerics.pairs import (
    exp_to_pair,
    log_quotient,
    pair_sum,
    pair_total,
    rounded,
    word,
)

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


def _gamma_curve_x(x, a, rate):
    v = jnp.where(x == 0, 1.0, x)
    return jnp.where(x == 0, 0.0, ((1.0 - a) / v) * (1.0 / v))


@with_partials(
    _gamma_curve_x,
    lambda x, a, rate: jnp.where(x == 0, 0.0, 1.0 / jnp.where(x == 0, 1.0, x)),
    lambda x, a, rate: -jnp.ones_like(x),
)
def _gamma_slope_x(x, a, rate):
    edge = x == 0
    return jnp.where(edge, -rate, -(product_gap(rate, x, a) + 1.0) / jnp.where(edge, 1.0, x))


def _gamma_slope_a(x, a, rate):
    # log(rate x) - digamma(a), without log x at x = 0.
    v = jnp.where(x == 0, 1.0, x)
    lost = rate * v < jnp.finfo(v.dtype).tiny
    r, w = jnp.where(lost, 1.0, rate), jnp.where(lost, 1.0, v)
    ratio = jnp.where(
        lost, jnp.log(rate) + jnp.log(v) - jnp.log(a), -log_ratio(a, r * w, product_gap(r, w, a))
    )
    return ratio - digamma_minus_log(a)


@with_partials(
    lambda x, a, rate: -jnp.ones_like(x),
    lambda x, a, rate: 1.0 / rate,
    lambda x, a, rate: (-a / rate) * (1.0 / rate),
)
def _gamma_slope_rate(x, a, rate):
    return -product_gap(rate, x, a) / rate


@with_partials(_gamma_slope_x, _gamma_slope_a, _gamma_slope_rate)
def _gamma_log_pdf(x, a, rate):
    low = (a < 2.0) | (rate * x < jnp.finfo(x.dtype).tiny)  # a product that underflows, or x = 0
    v, c, r = jnp.where(low, 1.0, x), jnp.where(low, 2.0, a), jnp.where(low, 1.0, rate)
    saddle = (
        -gap_deviance(c, r * v, product_gap(r, v, c)) - jnp.log(v) - stirling(0, from_one=True)(c)
    )
    saddle = saddle + (0.5 * jnp.log(c) - _HALF_LOG_2PI)
    plain = a * jnp.log(rate) + xlogy(a - 1.0, x) - rate * x - lgamma(a)
    return jnp.where(low, plain, saddle)


def gamma_log_pdf(x: ArrayLike, concentration: ArrayLike, rate: ArrayLike) -> Array:
    """log of rate^a x^(a-1) exp(-rate x) / Gamma(a), for x >= 0, a = concentration > 0, rate > 0.

    From a = 2 on -delta(a) - D(a, rate x) + log(a / 2 pi) / 2 - log x, with rate x - a error-free
    (Loader 2000); below the plain form. Slope in a: log(rate x) - digamma(a), a log ratio and small
    terms. At x = 0
    the limits: inf for a < 1, log(rate) for a = 1, -inf for a > 1; there the slope in a leaves out
      log x.
    """
    return _gamma_log_pdf(*jnp.broadcast_arrays(*as_floats(x, concentration, rate)))


@with_partials(lambda x, a, b: a + b, lambda x, a, b: x - 1.0, lambda x, a, b: x)
def beta_gap(x, a, b):
    """(a + b) x - a, with the rounding errors of the sum and of the product kept."""
    n = a + b
    small, large = in_order(a, b)
    return product_gap(n, x, a) + (small - (n - large)) * x


def _beta_slope_x(x, a, b):
    zero, one = x == 0, x == 1
    v = jnp.where(zero | one, 0.5, x)
    inside = (2.0 * v - 1.0 - beta_gap(v, a, b)) / (v * (1.0 - v))
    return jnp.where(zero, 1.0 - b, jnp.where(one, a - 1.0, inside))


# The curvatures in a and b are no differences of 1 / a and 1 / (a + b).
@with_partials(
    lambda x, a, b: jnp.where(x == 0, 0.0, 1.0 / jnp.where(x == 0, 1.0, x)),
    lambda x, a, b: trigamma_step(a, b),
    lambda x, a, b: trigamma(a + b),
)
def _beta_slope_a(x, a, b):
    # log x + digamma(n) - digamma(a), without log x at x = 0, where n x - a is put to n - a.
    edge = x == 0
    gap = jnp.where(edge, b, beta_gap(x, a, b))
    # Both sides of the ratio in larger units: n x may be below the smallest float.
    unit = jnp.where(a + b < 1.0, 2.0**80, 1.0)
    share = (a + b) * (jnp.where(edge, 1.0, x) * unit)
    return -log_ratio(a * unit, share, gap * unit) + digamma_minus_log_step(a, b)


@with_partials(
    lambda x, a, b: jnp.where(x == 1, 0.0, -1.0 / jnp.where(x == 1, 1.0, 1.0 - x)),
    lambda x, a, b: trigamma(a + b),
    lambda x, a, b: trigamma_step(b, a),
)
def _beta_slope_b(x, a, b):
    edge = x == 1
    gap = jnp.where(edge, a, -beta_gap(x, a, b))
    return -log_ratio(b, (a + b) * jnp.where(edge, 1.0, 1.0 - x), gap) + digamma_minus_log_step(
        b, a
    )


@with_partials(_beta_slope_x, _beta_slope_a, _beta_slope_b)
def _beta_log_pdf(x, a, b):
    edge = (x == 0) | (x == 1)
    plain_form = (a < 2.0) | (b < 2.0) | edge
    normalizer, rest = log_beta_parts(a, b)
    v = jnp.where(edge, 0.5, x)
    log_y = log1p(-v)
    saddle = -two_deviances(a, b, v, 1.0 - v, beta_gap(v, a, b)) - jnp.log(v) - log_y - rest
    edge_y = xlogy(b - 1.0, jnp.where(x == 1, 0.0, 1.0))
    plain = xlogy(a - 1.0, x) + jnp.where(edge, edge_y, (b - 1.0) * log_y) - normalizer
    return jnp.where(plain_form, plain, saddle)


def beta_log_pdf(x: ArrayLike, a: ArrayLike, b: ArrayLike) -> Array:
    """log of x^(a-1) (1-x)^(b-1) / B(a, b), for 0 <= x <= 1 and a, b > 0.

    Where a and b are both 2 or more Loader's form with n x - a error-free, n = a + b; otherwise the
    plain form on `log_beta`. At 0 and 1 the one-sided limits; Beta(1, 1) is 0 on all of [0, 1] with
    finite slopes.
    """
    return _beta_log_pdf(*jnp.broadcast_arrays(*as_floats(x, a, b)))


# Beyond these logits the smaller probability is near the smallest float.
_LARGEST_LOGIT = 80.0


def _odds_parts(c, d, logits):
    """p, q, n p - c = d - n q, n = c + d, and by how much the logits are beyond the largest.

    With e = exp(logits) the gap is (d e - c) / (1 + e), to some digits of e more than a float has: p's own rounding would
    count n times. Where logits > 0 the same with the sides exchanged.
    """
    kept = jnp.clip(logits, -_LARGEST_LOGIT, _LARGEST_LOGIT)
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
    return _odds_parts(c, d, logits)[2]


def _times_log(x, log_y):
    """x log_y, 0 where x = 0; where log_y is -inf no slope."""
    safe = jnp.where((x == 0) | jnp.isinf(log_y), 0.0, log_y)
    return jnp.where((x != 0) & jnp.isinf(log_y), log_y, x * safe)


def _negative_binomial_failures(k, r, logits):
    """D(r, n q) and log(r / (n q)).

    For r < 1 <= k without r log r - r and log r: lgamma(r) = lgamma(1 + r) - log r has them.
    """
    p, q, gap, _ = _odds_parts(k, r, logits)
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
    beyond = jnp.maximum(_odds_parts(k, r, logits)[3], 0.0)
    top, low = jnp.maximum(n, 1.0), jnp.maximum(r, 1.0)
    slope = stirling(1, True)(top)
    large = (slope - stirling(1, True)(low)) + 0.5 * (k / n) / r
    s = jnp.where(small, r, 0.0)
    below = (slope - 0.5 / top) - polynomial(DIGAMMA1P, s) + 1.0 / r
    return jnp.where(small, below, large) - (log + beyond)


def _negative_binomial_slope_k(k, r, logits):
    # log p + digamma(n) - digamma(k + 1).
    p, _, gap, beyond = _odds_parts(k, r, logits)
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
    p, _, gap, beyond = _odds_parts(k, r, logits)
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
    out = jnp.where(sure, jnp.where(k == 0, _times_log(r, log_q), -jnp.inf), out)
    return jnp.where(jnp.isnan(log_p + log_q + k + r), jnp.nan, out)


def _negative_binomial_terms(k, r):
    """delta(n) - delta(k) - delta(r) + log(r / (2 pi n k)) / 2 for n = k + r, k > 0."""
    n = k + r
    half_log = 0.5 * (log_ratio(r, n, k) - jnp.log(k)) - _HALF_LOG_2PI
    return half_log + ((stirling(0)(n) - stirling(0)(r)) - stirling(0)(k))


def _share(r, m):
    """r / (r + m); from the smaller share, whose derivatives are no difference of equal ones."""
    return jnp.where(r > m, 1.0 - m / (r + m), r / (r + m))


def _mean_parts(k, r, m):
    """n p, n q and the gap n p - k = r (m - k) / (r + m), p = m / (r + m), n = k + r: nothing
    cancels.
    """
    p, q = m / (r + m), r / (r + m)
    n = k + r
    return n * p, n * q, (m - k) * q


def _mean_slope_k(k, r, m):
    # log p + digamma(n) - digamma(k + 1).
    c = jnp.where(k == 0, 1.0, k)
    many = log_ratio(c, _mean_parts(c, r, m)[0], _mean_parts(c, r, m)[2])
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
    np, nq, gap = _mean_parts(c, r, m)
    out = -(gap_deviance(c, np, gap) + gap_deviance(r, nq, -gap)) + _negative_binomial_terms(c, r)
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

    Where the next term counts no more it is the Poisson and dispersion [(k - m)^2 - k] / 2: the slope in the
    dispersion would pass through r^2.
    """
    k, m, d = as_floats(k, m, dispersion)
    size = jnp.abs(k) + m
    eps = 0.1 * jnp.finfo(d.dtype).eps
    near = (size * d < eps) & (size * (size * d) ** 2 < eps) & (size < 1e18)
    z, small = jnp.where(near, k - m, 0.0), jnp.where(near, k, 0.0)
    close = poisson_log_pmf(k, m) + 0.5 * d * (z * z - small)
    far = negative_binomial_mean_log_pmf(k, divide(1.0, jnp.where(near, 1.0, d)), m)
    return jnp.where(near, close, far)


def student_t_log_normalizer(df: ArrayLike) -> Array:
    """lgamma((df + 1)/2) - lgamma(df/2) - log(pi df)/2 for df > 0; tends to -log(2 pi)/2 as df ->
    inf.

    -log(2 pi)/2 - log(1 + 1/(df (df + 2)))/2 and an interpolant: the logarithm takes the singularities at 0, -1
    and half of that at -2.
    """
    (df,) = as_floats(df)
    return _student_t_normalizer(df)


def _student_t_curve(df):
    s = 3.0 / (3.0 + df)
    scaled, bend = jax.jvp(lambda s: polynomial(STUDENT_SLOPE, s), (s,), (s * s / 3.0,))
    slope = (0.25 / df) / (df + 1.0)
    return -slope * (scaled * (1.0 / df + 1.0 / (df + 1.0)) + bend)


@with_partials(_student_t_curve)
def _student_t_slope(df):
    return polynomial(STUDENT_SLOPE, 3.0 / (3.0 + df)) * ((0.25 / df) / (df + 1.0))


@with_partials(_student_t_slope)
def _student_t_normalizer(df):
    part = 0.5 * jnp.log(1.0 + 1.0 / (df * (df + 2.0)))
    return (polynomial(STUDENT, 3.0 / (3.0 + df)) - part) - _HALF_LOG_2PI


def dirichlet_log_pdf(x: ArrayLike, concentration: ArrayLike) -> Array:
    """Dirichlet log-density over the last axis, x (..., K) on the simplex and concentration (...,
    K) > 0.

    Independent Gamma(x_i; a_i, A) given their sum, A = sum a_i: the sum of those log-densities less
    that of Gamma(1; A, A). In the table of numerics that is -sum D(a_i, A x_i) and small terms. It
    is the density of x / sum(x) to first order, so x's rounding off the simplex does not count; by
    the same token its slope in x is (a_i - 1) / x_i - A, which is the textbook's (a_i - 1) / x_i
    along the simplex. At x_i = 0: inf, finite or -inf as a_i < 1, = 1, > 1 (-inf if both infinities
    meet).
    """
    x, a = jnp.broadcast_arrays(*as_floats(x, concentration))
    total = jnp.sum(a, axis=-1)
    parts = gamma_log_pdf(x, a, total[..., None])
    lowest = jnp.any(parts == -jnp.inf, axis=-1)
    parts = jnp.where(lowest[..., None] & jnp.isposinf(parts), 0.0, parts)
    return jnp.sum(parts, axis=-1) - gamma_log_pdf(jnp.ones_like(total), total, total)


# ---- counts of several classes ----


def _others(x: Array) -> Array:
    """The sum of all other elements of the last axis, for each: no difference of sums."""
    before, after = jnp.cumsum(x, axis=-1), jax.lax.cumsum(x, axis=x.ndim - 1, reverse=True)
    none = jnp.zeros_like(x[..., :1])
    return jnp.concatenate([none, before[..., :-1]], -1) + jnp.concatenate(
        [after[..., 1:], none], -1
    )


def _lost(x: Array, rest: Array) -> Array:
    """What rounding took from `_others`."""
    high, low = (part[..., None] for part in pair_total(word(x)))
    return rounded(pair_sum((high, low), word(-x), word(-rest)))


def _crossed(x, a, x_rest, a_rest):
    """x A - n a = x a_rest - a x_rest, error-free."""
    product = a * x_rest
    return product_gap(x, a_rest, product) - product_gap(a, x_rest, product)


def _log_excess(x, a, x_rest, a_rest, lost=0.0):
    """log of (1 + x / a) / (1 + n / A), n = x + x_rest and A = a + a_rest; `lost` by x A - n a."""
    n, total = x + x_rest, a + a_rest
    # 1 + u. Not gap / a / m, which XLA turns into gap / (a m), beyond the floats.
    gap = _crossed(x, a, x_rest, a_rest) + lost
    u = (gap / a) * (1.0 / (total + n))
    low = u <= -0.5
    first, second = (a + x) / (total + n), total / a
    safe = low & jnp.isfinite(first * second) & (first * second > 0)
    apart = jnp.log(jnp.where(low, first, 1.0)) + jnp.log(jnp.where(low, second, 1.0))
    far = jnp.where(safe, jnp.log(jnp.where(safe, first * second, 1.0)), apart)
    return jnp.where(low, far, log1p(jnp.where(low, 0.0, u)))


def _stirling_rest(a):
    """delta(a) + log(a / (1 + a)) / 2, which is bounded at 0."""
    low = a < 1.0
    small, large = jnp.where(low, a, 0.5), jnp.where(low, 1.0, a)
    below = stirling(0, True)(1.0 + small) + small * (log1p(small) - jnp.log(small)) - 1.0
    return jnp.where(low, below, stirling(0, True)(large) - 0.5 * log1p(1.0 / large))


def _dirichlet_multinomial(x: Array, a: Array) -> Array:
    n, total = jnp.sum(x, axis=-1), jnp.sum(a, axis=-1)
    m = (n / total)[..., None] * a
    x_rest, a_rest = _others(x), _others(a)
    less = -_crossed(x, a, x_rest, a_rest) / total[..., None]  # m - x
    # The largest count and the sum are taken together: their logarithms would cancel.
    most = jnp.arange(x.shape[-1]) == jnp.argmax(x, axis=-1, keepdims=True)
    none = x == 0
    c = jnp.where(none, 1.0, x)
    np, nq, _ = _mean_parts(c, a, m)
    gap = jnp.where(none, m - 1.0, less) * (a / (a + m))
    parts = _negative_binomial_terms(c, a) - gap_deviance(c, np, gap) - gap_deviance(a, nq, -gap)
    parts = jnp.where(none, -a * log_ratio(a + m, a, -m), parts)
    parts = jnp.where(most, 0.0, parts)
    k, r, mean, less, k_rest, r_rest = (
        jnp.sum(jnp.where(most, part, 0.0), axis=-1) for part in (x, a, m, less, x_rest, a_rest)
    )
    empty = n == 0
    k, n = jnp.where(empty, 1.0, k), jnp.where(empty, 1.0, n)
    np, nq, _ = _mean_parts(k, r, mean)
    gap = less * (r / (r + mean))
    half = log_ratio(r, total, r_rest) + log1p(r_rest / (1.0 + r))
    half = half - _log_excess(k, r, k_rest, r_rest) - log_ratio(k, n, k_rest)
    delta = stirling(0, True)
    small = (delta(r + k) - delta(total + n)) - (delta(k) - delta(n))
    pair = -(gap_deviance(k, np, gap) + gap_deviance(r, nq, -gap)) + 0.5 * half
    pair = pair + (small - (_stirling_rest(r) - _stirling_rest(total)))
    return jnp.where(empty, 0.0, jnp.sum(parts, axis=-1) + pair)


def _dirichlet_multinomial_slope(x: Array, a: Array) -> Array:
    """digamma(a + x) - digamma(a) - [digamma(A + n) - digamma(A)], its logarithms in one."""
    n, total = jnp.sum(x, axis=-1, keepdims=True), jnp.sum(a, axis=-1, keepdims=True)
    x_rest, a_rest = _others(x), _others(a)
    # A logarithm far below 1 has no digits to spare: of the sums, their roundings too.
    held_x, held_a = map(jax.lax.stop_gradient, (x, a))
    lost = held_x * _lost(held_a, jax.lax.stop_gradient(a_rest))
    lost = lost - held_a * _lost(held_x, jax.lax.stop_gradient(x_rest))
    log = _log_excess(x, a, x_rest, a_rest, lost)
    return log + (digamma_minus_log_step(a, x) - digamma_minus_log_step(total, n))


@jax.custom_jvp
def _dirichlet_multinomial_log_pmf(x: Array, a: Array) -> Array:
    return _dirichlet_multinomial(x, a)


@_dirichlet_multinomial_log_pmf.defjvp
def _dirichlet_multinomial_jvp(primals, tangents):
    slope = _dirichlet_multinomial_slope(*primals)
    return _dirichlet_multinomial_log_pmf(*primals), jnp.sum(slope * tangents[1], axis=-1)


def dirichlet_multinomial_log_pmf(x: ArrayLike, concentration: ArrayLike) -> Array:
    """log of n! / prod x_i! Gamma(A) / Gamma(A + n) prod Gamma(a_i + x_i) / Gamma(a_i) over the last
    axis, x (..., K) >= 0 with sum n and concentration a (..., K) > 0 with sum A.

    Independent negative binomials of r = a_i and mean n a_i / A given their sum, which is one of r = A
    and mean n; the largest count's and that of the sum in one. Slope digamma(a_i + x_i) - digamma(a_i)
    less the same of the sums. Counts x have none.
    """
    return _dirichlet_multinomial_log_pmf(*jnp.broadcast_arrays(*as_floats(x, concentration)))
