"""Kullback-Leibler divergences of families with one free ratio, or one probability.

A divergence is of the second order in what the two sides differ by, and a difference of logarithms
and quotients of the first order has none of its digits. Each form here is a sum of terms of one sign
(or nearly), and so are its slopes. Element by element with broadcasting.
"""

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._rules import terms, with_partials
from likelax.numerics.deviance import _log_quotient, gap_deviance, log1pmx, log_ratio
from likelax.numerics.logspace import as_floats, divide, inverse, log1p, sigmoid, softplus

# ---- ratios ----


@with_partials(
    # Not (a - b) / a / b, which XLA turns into (a - b) / (a b), beyond the floats.
    lambda a, b: jnp.where(
        jnp.abs(a - b) < 0.5 * b, divide(a - b, a) * inverse(b), inverse(b) - inverse(a)
    ),
    lambda a, b: divide(b - a, b) * inverse(b),
)
def _ratio_excess(a, b):
    near = jnp.abs(a - b) < 0.5 * b
    t = jnp.where(near, a - b, 0.0) / b
    far = divide(a, b) - 1.0 - _log_quotient(jnp.where(near, b, a), b)
    return jnp.where(near, -log1pmx(t), far)


def ratio_excess(a: ArrayLike, b: ArrayLike) -> Array:
    """a/b - 1 - log(a/b) >= 0 for a, b > 0: of two Exponentials of scales a and b."""
    return _ratio_excess(*jnp.broadcast_arrays(*as_floats(a, b)))


def square_ratio_excess(a: ArrayLike, b: ArrayLike) -> Array:
    """((a/b)^2 - 1)/2 - log(a/b) >= 0 for a, b > 0: of two centred Normals of scales a and b."""
    a, b = jnp.broadcast_arrays(*as_floats(a, b))
    return 0.5 * jnp.square(divide(a - b, b)) + ratio_excess(a, b)


@with_partials(lambda d: jnp.expm1(d))
def _exp_excess(d):
    near = jnp.abs(d) < 1.0
    t = jnp.where(near, d, 0.0)
    # t^2 (1/2! + t/3! + t^2/4! + ...)
    series = jnp.zeros_like(t)
    for k in reversed(range(terms(t, 10, 17))):
        series = 1.0 / math.factorial(k + 2) + t * series
    return jnp.where(near, t * t * series, jnp.expm1(d) - jnp.where(d == jnp.inf, 0.0, d))


def exp_excess(d: ArrayLike) -> Array:
    """exp(d) - 1 - d >= 0: `ratio_excess` of log(a/b)."""
    return _exp_excess(*as_floats(d))


def square_exp_excess(d: ArrayLike) -> Array:
    """(exp(2 d) - 1)/2 - d >= 0: `square_ratio_excess` of log(a/b)."""
    (d,) = as_floats(d)
    return 0.5 * jnp.square(jnp.expm1(d)) + exp_excess(d)


# From here on exp(-|gap| / a) is 0, and the quotient may be no float.
_APART = 1e3


def _laplace_gap(gap, a):
    """Whether it is beyond that, and |gap| / a where it is not."""
    apart = jnp.abs(gap) > _APART * a
    return apart, jnp.where(apart, 0.0, jnp.abs(gap)) / a


def _laplace_slope(gap, a, b):
    apart, z = _laplace_gap(gap, a)
    z = jnp.where(apart, _APART, z)
    near = z < 1.0
    w = jnp.where(near, z, 1.0)
    # exp(-z) (1 + z) / b - 1 / a, and near z = 0 as what is left of 1.
    lost = w * jnp.exp(-w) + jnp.expm1(-w)
    close = (jnp.abs(a - b) < 0.5 * b) & near
    gone = jnp.where(close, divide(a - b, a) * inverse(b), inverse(b) - inverse(a))
    return jnp.where(
        near, lost * inverse(b) + gone, jnp.exp(-z) * (1.0 + z) * inverse(b) - inverse(a)
    )


def _laplace_moved(gap, a, b):
    """(|gap| - a + a exp(-|gap| / a)) / b."""
    apart, z = _laplace_gap(gap, a)
    excess = exp_excess(-z)
    near = jnp.where(excess == 0, 0.0, divide(a, b)) * excess
    return jnp.where(apart, divide(jnp.abs(gap) - a, b), near)


@with_partials(
    lambda gap, a, b: -jnp.sign(gap) * jnp.expm1(-jnp.abs(gap) / a) * inverse(b),
    _laplace_slope,
    lambda gap, a, b: (divide(b - a, b) - _laplace_moved(gap, a, b)) * inverse(b),
)
def _laplace_divergence(gap, a, b):
    return ratio_excess(a, b) + _laplace_moved(gap, a, b)


def laplace_divergence(gap: ArrayLike, a: ArrayLike, b: ArrayLike) -> Array:
    """KL of two Laplaces of scales a and b whose locations are `gap` apart."""
    return _laplace_divergence(*jnp.broadcast_arrays(*as_floats(gap, a, b)))


@with_partials(
    lambda gap, mean: -jnp.expm1(-divide(gap, mean)),
    lambda gap, mean: -jnp.exp(-divide(gap, mean)) * exp_excess(divide(gap, mean)),
)
def _mean_below(gap, mean):
    """The mean of (gap - x)+, x an Exponential of a mean that is no less than gap."""
    return mean * exp_excess(-divide(gap, mean))


def asymmetric_laplace_divergence(
    gap: ArrayLike, s: ArrayLike, a: ArrayLike, t: ArrayLike, b: ArrayLike
) -> Array:
    """KL of two asymmetric Laplaces: of scale s and asymmetry a, and t and b, whose location is `gap` above.

    By the chain rule at equal locations: of the side on which x is, then of the Exponentials there; and what the
    second loses by its location, in which terms of the first order have been taken together.
    """
    gap, s, a, t, b = jnp.broadcast_arrays(*as_floats(gap, s, a, t, b))
    # Mirrored where the second one is below.
    up = gap > 0
    gap = jnp.where(up, gap, -gap)
    a, b = (jnp.where(up, c, inverse(jnp.where(up, 1.0, c))) for c in (a, b))
    odds, odds_b = 2.0 * jnp.log(a), 2.0 * jnp.log(b)
    above, below = sigmoid(-odds), sigmoid(odds)
    sides = trial_divergence(-odds, -odds_b)
    sides = sides + below * ratio_excess(s * divide(a, b), t)
    # Of what is above, where `gap` is within its mean and where it is beyond: there the mean cancels.
    mean, scaled = divide(s, a), s * divide(b, a)
    far = gap > mean
    close, beyond = jnp.where(far, 0.0, gap), jnp.where(far, gap, 0.0)
    crossed = divide(close, t) * divide(a - b, b) * (a + b)
    moved = divide(_mean_below(close, mean), t) * (b + inverse(b))
    near = above * (ratio_excess(jnp.where(far, t, scaled), t) + (crossed + moved))
    left = divide(scaled * jnp.exp(-divide(beyond, mean)), t)
    lost = divide(divide(mean, t), b) * jnp.expm1(-divide(beyond, mean))
    logs = 1.0 + log_ratio(scaled, t, t - scaled)
    apart = above * (left - logs + lost) + divide(divide(beyond, t), b)
    return sides + jnp.where(far, apart, near)


# ---- one trial ----


def _times_gap(factor, l, m):
    """factor (l - m), 0 where the factor is, or both are infinite."""
    none = (factor == 0) | (l == m)
    return jnp.where(none, 0.0, factor * jnp.where(none, 0.0, l - m))


def _trial_bend(l, m):
    spread = sigmoid(l) * sigmoid(-l)
    return spread + _times_gap(spread * (sigmoid(-l) - sigmoid(l)), l, m)


@with_partials(_trial_bend, lambda l, m: -sigmoid(l) * sigmoid(-l))
def _trial_slope(l, m):
    return _times_gap(sigmoid(l) * sigmoid(-l), l, m)


@with_partials(_trial_slope, lambda l, m: _probability_step(l, m))
def _trial_divergence(l, m):
    # With the rarer of the two outcomes of the first side.
    side = jnp.where(l > 0, -1.0, 1.0).astype(l.dtype)
    low, other = side * l, side * m
    p, d = sigmoid(low), other - low
    near = jnp.abs(d) < 1.0
    step = jnp.where(near, d, 0.0)
    close = log1pmx(p * jnp.expm1(step)) + p * exp_excess(step)
    apart = softplus(other) - softplus(low) - p * jnp.where(p == 0, 0.0, d)
    # A certain second side: the first is so only where it says the same, and that is the rarer outcome's absence.
    endless = ((other == jnp.inf) & (low <= 0.0)) | ((other == -jnp.inf) & (low > -jnp.inf))
    return jnp.where(near, close, jnp.where(endless, jnp.inf, apart))


@with_partials(
    lambda l, m: -sigmoid(l) * sigmoid(-l),
    lambda l, m: sigmoid(m) * sigmoid(-m),
)
def _probability_step(l, m):
    """sigmoid(m) - sigmoid(l)."""
    side = jnp.where(l > 0, -1.0, 1.0).astype(l.dtype)
    low, other = side * l, side * m
    d = other - low
    near = jnp.abs(d) < 1.0
    t = jnp.expm1(jnp.where(near, d, 0.0))
    p = sigmoid(low)
    close = p * sigmoid(-low) * t / (1.0 + p * t)
    return side * jnp.where(near, close, sigmoid(other) - p)


def trial_divergence(l: ArrayLike, m: ArrayLike) -> Array:
    """KL of two Bernoullis of logits l and m, to a few units of itself. Slopes p q (l - m) and
    sigmoid(m) - sigmoid(l).
    """
    return _trial_divergence(*jnp.broadcast_arrays(*as_floats(l, m)))


def _probs_slope(p, q):
    edge, sure = (p == 0) | (p == 1), (q == 0) | (q == 1)
    v, w = jnp.where(edge, 0.5, p), jnp.where(sure, 0.5, q)
    slope = log_ratio(v, w, w - v) - log_ratio(1.0 - v, 1.0 - w, v - w)
    slope = jnp.where(sure, jnp.where(q == 0, jnp.inf, -jnp.inf), slope)
    return jnp.where(edge, 0.0, slope)


@with_partials(
    _probs_slope,
    lambda p, q: jnp.where(p == q, 0.0, divide(q - p, q) * inverse(1.0 - q)),
)
def _probs_divergence(p, q):
    return gap_deviance(p, q, q - p) + gap_deviance(1.0 - p, 1.0 - q, p - q)


def trial_divergence_of_probs(p: ArrayLike, q: ArrayLike) -> Array:
    """KL of two Bernoullis of probabilities p and q in [0, 1]: two deviances. At p = 0 and 1 its
    slope in p is infinite, which counts as 0.
    """
    return _probs_divergence(*jnp.broadcast_arrays(*as_floats(p, q)))


# Below these logits the probability is their exponential.
_RARE = -40.0


def _in_rare(l, m):
    """Whether l is below, whether m is too, m - l there, and exp(-l/2)."""
    low = l < _RARE
    both = low & (m < _RARE)
    return low, both, jnp.where(both, m - l, 0.0), jnp.exp(-0.5 * jnp.where(low, l, 0.0))


def _endless(l, m):
    """Where only the second of the waits is none, or the first is endless; and 0 there for both logits."""
    endless = ((m == jnp.inf) & (l < jnp.inf)) | ((l == -jnp.inf) & ~jnp.isnan(m))
    return endless, jnp.where(endless, 0.0, l), jnp.where(endless, 0.0, m)


def _log_growth(l, m):
    """softplus(m) - softplus(l)."""
    near = jnp.abs(m - l) < 1.0
    close = log1p(sigmoid(l) * jnp.expm1(jnp.where(near, m - l, 0.0)))
    return jnp.where(near, close, softplus(m) - softplus(l))


def _wait_slope_l(l, m):
    endless, x, y = _endless(l, m)
    low, both, d, half = _in_rare(x, y)
    none = x == jnp.inf
    safe = jnp.where(low | none, 0.0, x)
    rare = jnp.where(both, -jnp.expm1(d), 1.0 - softplus(y) * half * half)
    usual = jnp.where(none, 0.0, -_log_growth(safe, jnp.where(none, 0.0, y)) * jnp.exp(-safe))
    slope = jnp.where(low, rare, usual)
    return jnp.where(endless, jnp.where(l == m, 0.0, -jnp.inf), slope)


def _wait_slope_m(l, m):
    endless, x, y = _endless(l, m)
    low, both, d, half = _in_rare(x, y)
    safe = jnp.where(low, 0.0, x)
    rare = jnp.where(both, jnp.expm1(d), sigmoid(y) * half * half - 1.0)
    slope = jnp.where(low, rare, _probability_step(safe, y) / sigmoid(safe))
    return jnp.where(endless, jnp.where(l == m, 0.0, jnp.inf), slope)


@with_partials(_wait_slope_l, _wait_slope_m)
def _wait_divergence(l, m):
    endless, x, y = _endless(l, m)
    low, both, d, half = _in_rare(x, y)
    safe = jnp.where(low, 0.0, x)
    apart = (softplus(y) * half * half - 1.0) - (y - x)
    rare = jnp.where(both, exp_excess(d), apart)
    value = jnp.where(low, rare, _trial_divergence(safe, y) / sigmoid(safe))
    return jnp.where(endless, jnp.where(l == m, 0.0, jnp.inf), value)


def wait_divergence(l: ArrayLike, m: ArrayLike) -> Array:
    """KL of two Geometrics of logits l and m: that of a trial over sigmoid(l), also where that is 0."""
    return _wait_divergence(*jnp.broadcast_arrays(*as_floats(l, m)))


# ---- counts ----


def _rate_step(l, m):
    """exp(m) - exp(l)."""
    d = jnp.where(l == m, 0.0, m - l)
    up = jnp.where(d > 0, m, l)
    return jnp.where(l == m, 0.0, -jnp.sign(d) * jnp.exp(up) * jnp.expm1(jnp.where(d > 0, -d, d)))


def _rate_log(l, m):
    """exp(l) (l - m), 0 where the rate is."""
    none = (jnp.exp(l) == 0) | (l == m)
    return jnp.exp(jnp.where(none, 0.0, l)) * jnp.where(none, 0.0, l - m)


@with_partials(_rate_log, _rate_step)
def _rates_divergence(l, m):
    # Where l is the larger by 1, and the smaller: sums of what is never negative.
    rate, none = jnp.exp(l), jnp.exp(l) == 0
    near = jnp.abs(m - l) < 1.0
    close = rate * exp_excess(jnp.where(near, m - l, 0.0))
    above = rate * jnp.where(near | none, 0.0, (l - m) - 1.0) + jnp.exp(m)
    d = jnp.where(near | none | (m < l), 1.0, m - l)
    below = -jnp.exp(m) * (jnp.expm1(-d) + d * jnp.exp(-d))
    apart = jnp.where(none | (l > m), above, below)
    return jnp.where(l == m, 0.0, jnp.where(near, close, apart))


def rates_divergence(l: ArrayLike, m: ArrayLike) -> Array:
    """KL of two Poissons of log-rates l and m: exp(l) (l - m) + exp(m) - exp(l). Slopes exp(l) (l - m) and
    exp(m) - exp(l).
    """
    return _rates_divergence(*jnp.broadcast_arrays(*as_floats(l, m)))


def _counts_slope(m, m2, r):
    # log(1 + x), x = r (m - m2) / (m2 (r + m)).
    close = jnp.abs(m - m2) < 0.5 * m2
    x = jnp.where(close, divide(m - m2, m2) * divide(r, r + m), (r / m2) * ((m - m2) / (r + m)))
    near = jnp.abs(x) < 0.5
    close = log1p(jnp.where(near, x, 0.0))
    edge = (m == 0) | (m2 == 0)
    some, other = jnp.where(near | (m == 0), m2, m), jnp.where(edge, 1.0, m2)
    some = jnp.where(edge, 1.0, some)
    far = _log_quotient(some, other) - log_ratio(r + some, r + other, other - some)
    ends = jnp.where((m > 0) & (m2 == 0), jnp.inf, 0.0)
    return jnp.where(edge, ends, jnp.where(near, close, far))


@with_partials(
    _counts_slope,
    lambda m, m2, r: jnp.where(m == 0, 1.0, divide(m2 - m, m2)) * divide(r, r + m2),
    lambda m, m2, r: -log1pmx(divide(m - m2, r + m2)),
)
def _counts_divergence(m, m2, r):
    # Of the rarer outcome of one trial, and the relative step of its odds.
    low = m <= r
    rare, gap = jnp.where(low, m, r), m2 - m
    near = (jnp.abs(gap) < 0.5 * m) & (jnp.abs(gap) < 0.5 * m2)
    step = jnp.where(near, jnp.where(low, gap, -gap), 0.0)
    t = step / jnp.where(near, jnp.where(low, m, m2), 1.0)
    close = (r + m) * log1pmx(rare / (r + m) * t) - rare * log1pmx(t)
    # Apart: (r + m) growth - m log(m2/m), and where m is above r as r growth - m [log(m2/m) - growth].
    growth = log_ratio(r + m2, r + m, -gap)
    some = jnp.where(near | (m == 0), m2, m)
    shrink = _log_quotient(some, m2)
    x = (r / m2) * ((some - m2) / (r + some))
    left = jnp.where(jnp.abs(x) < 0.5, log1p(x), growth + shrink)
    apart = jnp.where(low, (r + m) * growth + m * shrink, r * growth + m * left)
    apart = jnp.where((m > 0) & (m2 == 0), jnp.inf, apart)
    return jnp.where(m == m2, 0.0, jnp.where(near, close, apart))


def counts_divergence(m: ArrayLike, m2: ArrayLike, r: ArrayLike) -> Array:
    """KL of two negative binomials of means m and m2 and the same r: m log(m/m2) - (r + m) log((r + m)/(r +
    m2)). Its slope in m is infinite at 0, which counts as 0.
    """
    return _counts_divergence(*jnp.broadcast_arrays(*as_floats(m, m2, r)))
