"""Log-densities in powers x^k and exponentials of a standardised variable: extremes, waiting times,
power laws and the Kumaraswamy.

Such a density multiplies the rounding of its own argument, by |z| in exp(-z) and by |k log z| in
z^k. The arguments are therefore pairs of floats (`pairs`), and so are sums whose terms cancel, as
log(k/x) with k log(x/s). Slopes are short formulas in functions that have rules of their own.

Conventions of the whole file: element by element with broadcasting, in float32 or wider; NaN in
gives NaN out; arguments are inside the support or on its closed edge. At x = 0 an infinite slope is
taken as 0.
"""

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._rules import Over, with_partials
from likelax.numerics.logspace import (
    as_floats,
    divide,
    finite,
    log1p,
    log_mean_decay_slope,
    passing_nan,
    sigmoid,
    softplus,
    standardize,
    tanh,
)
from likelax.numerics.pairs import (
    Pair,
    exp_pair,
    log_over,
    log_quotient,
    pair_minus,
    pair_sum,
    pair_times,
    rounded,
    standardize_pair,
    word,
)

_LOG_2 = math.log(2.0)
_LOG_2_OVER_PI = math.log(2.0 / math.pi)


def _on(function, *args: ArrayLike) -> Array:
    return function(*jnp.broadcast_arrays(*as_floats(*args)))


def _held(factor, z):
    """factor * z, 0 where the factor is 0 or z infinite (at an infinite x nothing has a slope)."""
    none = (factor == 0) | jnp.isinf(z)
    return jnp.where(none, 0.0, factor * jnp.where(none, 1.0, z))


# ---- exp(-z), z = (x - loc) / s ----


@with_partials(
    lambda x, loc, s: -divide(_decay(x, loc, s), s),
    lambda x, loc, s: divide(_decay(x, loc, s), s),
    lambda x, loc, s: divide(_held(_decay(x, loc, s), standardize(x, loc, s)), s),
)
def _decay(x, loc, s):
    return exp_pair(pair_minus(standardize_pair(x, loc, s)))


@with_partials(
    lambda x, loc, s: -divide(_decay(x, loc, s), s),
    lambda x, loc, s: divide(_decay(x, loc, s), s),
    lambda x, loc, s: divide(_held(_decay(x, loc, s), standardize(x, loc, s)), s),
)
def _decay_less_1(x, loc, s):
    z = standardize(x, loc, s)
    near = jnp.abs(z) < 1.0
    return jnp.where(near, jnp.expm1(-jnp.where(near, z, 0.0)), _decay(x, loc, s) - 1.0)


def exp_minus(x: ArrayLike, loc: ArrayLike, scale: ArrayLike) -> Array:
    """exp(-z), z = (x - loc) / scale, to a few ulp also where |z| is large."""
    return _on(_decay, x, loc, scale)


@with_partials(
    lambda x, loc, s: divide(_decay_less_1(x, loc, s), s),
    lambda x, loc, s: -divide(_decay_less_1(x, loc, s), s),
    lambda x, loc, s: divide(-_held(_decay_less_1(x, loc, s), standardize(x, loc, s)), s),
)
def _gumbel(x, loc, s):
    z = standardize(x, loc, s)
    decay = _decay(x, loc, s)
    return jnp.where(decay == jnp.inf, -decay, -z - decay)


def gumbel_log_kernel(x: ArrayLike, loc: ArrayLike, scale: ArrayLike) -> Array:
    """-z - exp(-z), z = (x - loc) / scale: the Gumbel log-density of z."""
    return _on(_gumbel, x, loc, scale)


# ---- (x / s)^k ----


def _log_power(x, s, k) -> Pair:
    """k log(x / s)."""
    return pair_times(k, log_quotient(x, s))


def _inside(x):
    """x, 1 at the edge 0."""
    return jnp.where(x == 0, 1.0, x)


def _power_slope_x(x, s, k):
    first = jnp.where(k == 1, 1.0 / s, 0.0)
    return jnp.where(x == 0, first, divide(k * _power(_inside(x), s, k), _inside(x)))


def _power_slope_s(x, s, k):
    return -divide(k * _power(x, s, k), s)


def _power_slope_k(x, s, k):
    return jnp.where(x == 0, 0.0, _held(_power(x, s, k), log_over(_inside(x), s)))


@with_partials(_power_slope_x, _power_slope_s, _power_slope_k)
def _power(x, s, k):
    return jnp.where(x == 0, 0.0, exp_pair(_log_power(_inside(x), s, k)))


@with_partials(_power_slope_x, _power_slope_s, _power_slope_k)
def _power_less_1(x, s, k):
    y = _log_power(_inside(x), s, k)[0]
    near = (jnp.abs(y) < 1.0) & (x > 0)
    return jnp.where(near, jnp.expm1(jnp.where(near, y, 0.0)), _power(x, s, k) - 1.0)


def power(x: ArrayLike, scale: ArrayLike, exponent: ArrayLike) -> Array:
    """(x / scale)^exponent for x >= 0 and scale, exponent > 0, to a few ulp."""
    return _on(_power, x, scale, exponent)


def _at_edge(k, limit):
    """A density's log at x = 0 as x^(k - 1) has it: inf, its limit at k = 1, or -inf."""
    edge = jnp.where(k == 1, limit, jnp.where(k < 1, jnp.inf, -jnp.inf))
    return passing_nan(edge, k, limit)


def _excess(x, k, s):
    """(x / s)^k - 1, the largest float where it is beyond: times 0 it is 0."""
    return finite(_power_less_1(x, s, k))


def _weibull_slope_x(x, k, s):
    v, edge = _inside(x), x == 0
    first = jnp.where(k == 1, -1.0, 0.0)
    inside = -k * _excess(v, k, s) - 1.0
    return Over((jnp.where(edge, first, inside),), jnp.where(edge, s, v))


def _weibull_slope_k(x, k, s):
    return divide(1.0, k) - jnp.where(x == 0, 0.0, _excess(x, k, s) * log_over(_inside(x), s))


@with_partials(_weibull_slope_x, _weibull_slope_k, lambda x, k, s: Over((k, _excess(x, k, s)), s))
def _weibull(x, k, s):
    v = _inside(x)
    y = _log_power(v, s, k)
    inside = rounded(pair_sum(word(-exp_pair(y)), log_quotient(k, v), y))
    return jnp.where(x == 0, _at_edge(k, -jnp.log(s)), inside)


def weibull_log_pdf(x: ArrayLike, concentration: ArrayLike, scale: ArrayLike) -> Array:
    """log(k / x) + y - exp(y), y = k log(x / scale), k = concentration. At x = 0 the limits: inf for
    k < 1, -log(scale) for k = 1, -inf for k > 1; there the slope in k leaves out log x.
    """
    return _on(_weibull, x, concentration, scale)


def _off(x, s):
    return (x < s) | (x == jnp.inf)


def _on_tail(slope):
    """`slope`, 0 off the tail; a parameter that is NaN shows there, too."""

    def partial(x, a, s):
        off = _off(x, s)
        inside = slope(jnp.where(off, s, x), a, s)
        return jnp.where(off & ~jnp.isnan(inside), 0.0, inside)

    return partial


@with_partials(
    _on_tail(lambda x, a, s: -divide(a + 1.0, x)),
    _on_tail(lambda x, a, s: divide(1.0, a) - log_over(x, s)),
    _on_tail(lambda x, a, s: divide(a, s)),
)
def _pareto(x, a, s):
    off = _off(x, s)
    v = jnp.where(off, s, x)
    inside = rounded(pair_sum(log_quotient(a, v), pair_minus(_log_power(v, s, a))))
    return inside + jnp.where(off, -jnp.inf, 0.0)  # a sum, so that NaN stays


def pareto_log_pdf(x: ArrayLike, concentration: ArrayLike, scale: ArrayLike) -> Array:
    """log(a / x) - a log(x / scale) for scale <= x < inf, elsewhere -inf; a = concentration."""
    return _on(_pareto, x, concentration, scale)


def _log_logistic_slope_x(x, k, s):
    v = _inside(x)
    y = k * log_over(v, s)
    # -1 - k tanh(y/2), whose terms cancel at k = 1 far below the scale.
    below, above = (k - 1.0) - 2.0 * k * sigmoid(y), 2.0 * k * sigmoid(-y) - (k + 1.0)
    far = jnp.where(y < 0, below, above)
    numerator = jnp.where(jnp.abs(y) < 1, -1.0 - k * tanh(0.5 * y), far)
    first = jnp.where(k == 1, -divide(2.0, s), 0.0)
    return jnp.where(x == 0, first, divide(numerator, v))


def _log_logistic_slope_k(x, k, s):
    log_z = log_over(_inside(x), s)
    return divide(1.0, k) - jnp.where(x == 0, 0.0, log_z * tanh(0.5 * k * log_z))


def _log_logistic_slope_s(x, k, s):
    lean = tanh(0.5 * k * log_over(_inside(x), s))
    return divide(k * jnp.where(x == 0, -1.0, lean), s)


@with_partials(_log_logistic_slope_x, _log_logistic_slope_k, _log_logistic_slope_s)
def _log_logistic(x, k, s):
    v = _inside(x)
    high, low = _log_power(v, s, k)
    sign = -jnp.sign(high)
    bend = -2.0 * jnp.log1p(jnp.exp(-jnp.abs(high)))
    inside = rounded(pair_sum((sign * high, sign * low), log_quotient(k, v), word(bend)))
    return jnp.where(x == 0, _at_edge(k, -jnp.log(s)), inside)


def log_logistic_log_pdf(x: ArrayLike, concentration: ArrayLike, scale: ArrayLike) -> Array:
    """log(k / x) + log s(y) + log s(-y), y = k log(x / scale), s the sigmoid; at x = 0 as the
    Weibull's.
    """
    return _on(_log_logistic, x, concentration, scale)


# ---- the half-Cauchy ----


def _half_cauchy_slope_x(x, s):
    # -2x / (s^2 + x^2), by the smaller of the two quotients.
    low = x <= s
    z, w = divide(jnp.where(low, x, s), s), divide(s, jnp.where(low, s, x))
    return jnp.where(
        low,
        -divide(2.0 * z / (1.0 + z * z), s),
        -divide(2.0 / (1.0 + w * w), jnp.where(low, s, x)),
    )


def _half_cauchy_slope_s(x, s):
    return divide(jnp.where(x == 0, -1.0, tanh(log_over(_inside(x), s))), s)


@with_partials(_half_cauchy_slope_x, _half_cauchy_slope_s)
def _half_cauchy(x, s):
    low = x <= s
    large, small = jnp.where(low, s, x), jnp.where(low, x, s)
    ratio = small / large
    bend = _LOG_2_OVER_PI - jnp.log1p(ratio * ratio)
    one = jnp.ones_like(s)
    return rounded(
        pair_sum(log_quotient(s, large), pair_minus(log_quotient(large, one)), word(bend))
    )


def half_cauchy_log_pdf(x: ArrayLike, scale: ArrayLike) -> Array:
    """log(2 / pi) - log(scale) - log(1 + z^2), z = x / scale, x >= 0, also where z^2 overflows."""
    return _on(_half_cauchy, x, scale)


def _log_arc_slope(log_z):
    return jnp.expm1(-softplus(2.0 * log_z) - _log_arc(log_z))


@with_partials(_log_arc_slope)
def _log_arc(log_z):
    z = jnp.exp(log_z)
    return jnp.log(jnp.where(z == 0, 1.0, jnp.arctan(z) / jnp.where(z == 0, 1.0, z)))


def half_cauchy_log_tail(log_z: Array) -> Array:
    """log of 2/pi atan(z), the half-Cauchy's lower tail; of -log z its upper one."""
    low = log_z <= 0
    below, above = jnp.where(low, log_z, 0.0), jnp.where(low, 0.0, log_z)
    near = _LOG_2_OVER_PI + below + _log_arc(below)
    other = jnp.exp(_LOG_2_OVER_PI - above + _log_arc(-above))
    return jnp.where(low, near, log1p(-other))


# ---- the Kumaraswamy: 1 - x^a, y = -a log x ----


def _minus_log_power(x, a) -> Pair:
    """y = -a log x."""
    return pair_times(a, log_quotient(jnp.ones_like(x), x))


@with_partials(
    lambda x, a: divide(a * _odds(x, a) * (1.0 + _odds(x, a)), x),
    lambda x, a: _odds(x, a) * (1.0 + _odds(x, a)) * log_over(x, 1.0),
)
def _odds(x, a):
    """x^a / (1 - x^a)."""
    y = _minus_log_power(x, a)
    return exp_pair(pair_minus(y)) / -jnp.expm1(-y[0])


def _odds_fall(x, a):
    # odds (1 - y - y / expm1(y)), y = -a log x, whose terms cancel for a small y.
    y = a * log_over(1.0, x)
    return -_odds(x, a) * y * (1.0 + log_mean_decay_slope(y))


@with_partials(
    lambda x, a: divide(a * _odds(x, a) * (1.0 + _odds(x, a)) * a, x),
    _odds_fall,
)
def _scaled_odds(x, a):
    """a x^a / (1 - x^a)."""
    return a * _odds(x, a)


@with_partials(
    lambda x, a: divide(_odds_fall(x, a), x),
    lambda x, a: log_over(x, 1.0) ** 2 * _odds(x, a) * (1.0 + _odds(x, a)),
)
def _logged_odds(x, a):
    """log(x) x^a / (1 - x^a)."""
    return log_over(x, 1.0) * _odds(x, a)


@with_partials(
    lambda x, a: -divide(a * _odds(x, a), x),
    lambda x, a: -_odds(x, a) * log_over(x, 1.0),
)
def _log_rest(x, a):
    """log(1 - x^a)."""
    y = _minus_log_power(x, a)
    small = y[0] < _LOG_2
    near = jnp.log(-jnp.expm1(-jnp.where(small, y[0], 1.0)))
    return jnp.where(small, near, log1p(-exp_pair(pair_minus(y))))


def log_one_minus_power(x: ArrayLike, exponent: ArrayLike) -> Array:
    """log(1 - x^a) for 0 < x < 1, a = exponent > 0, to a few ulp of itself."""
    return _on(_log_rest, x, exponent)


def _log_rest_ratio(x, a):
    """-log(1 - e) / e, e = x^a: 1 where e underflows."""
    e = _power(x, jnp.ones_like(x), a)
    safe = jnp.where(e == 0, 0.5, e)
    return jnp.where(e == 0, 1.0, divide(-_log_rest(x, a), safe))


def _pull(x, a):
    """The slope of log(-log(1 - x^a)) in log x^a."""
    return divide(1.0 + _odds(x, a), _log_rest_ratio(x, a))


@with_partials(
    lambda x, a, b: divide(a * _pull(x, a), x),
    lambda x, a, b: _pull(x, a) * log_over(x, 1.0),
    lambda x, a, b: divide(1.0, b),
)
def _log_hazard(x, a, b):
    one = jnp.ones_like(x)
    start = pair_sum(log_quotient(b, one), pair_minus(_minus_log_power(x, a)))
    return rounded(pair_sum(start, word(jnp.log(_log_rest_ratio(x, a)))))


def kumaraswamy_log_hazard(x: ArrayLike, a: ArrayLike, b: ArrayLike) -> Array:
    """log(-b log(1 - x^a)) for 0 < x < 1: of minus the log of the upper tail."""
    return _on(_log_hazard, x, a, b)


def _within(x):
    """Whether x is off both edges, and x, 1/2 on them."""
    inside = (x != 0) & (x != 1)
    return inside, jnp.where(inside, x, 0.5)


def _kumaraswamy_slope_x(x, a, b):
    inside, v = _within(x)
    slope = divide((a - 1.0) - (b - 1.0) * _scaled_odds(v, a), v)
    at_zero = jnp.where((x == 0) & (a == 1), 1.0 - b, 0.0)
    return jnp.where(inside, slope, jnp.where((x == 1) & (b == 1), a - 1.0, at_zero))


def _kumaraswamy_slope_a(x, a, b):
    inside, v = _within(x)
    slope = divide(1.0, a) + log_over(v, 1.0) - (b - 1.0) * _logged_odds(v, a)
    return jnp.where(inside, slope, divide(jnp.where(x == 1, b, 1.0), a))


def _kumaraswamy_slope_b(x, a, b):
    inside, v = _within(x)
    return divide(1.0, b) + jnp.where(inside, _log_rest(v, a), 0.0)


@with_partials(_kumaraswamy_slope_x, _kumaraswamy_slope_a, _kumaraswamy_slope_b)
def _kumaraswamy(x, a, b):
    inside, v = _within(x)
    rest = word((b - 1.0) * _log_rest(v, a))
    power = pair_minus(_minus_log_power(v, a))
    value = rounded(pair_sum(rest, log_quotient(a, v), power, log_quotient(b, jnp.ones_like(b))))
    edge = jnp.where(x == 0, _at_edge(a, jnp.log(b)), _at_edge(b, jnp.log(a)))
    return jnp.where(inside, value, edge)


def kumaraswamy_log_pdf(x: ArrayLike, a: ArrayLike, b: ArrayLike) -> Array:
    """log(a b / x) + a log x + (b - 1) log(1 - x^a) for 0 <= x <= 1; on the edges the limits, and
    infinite logarithms left out of the slopes in a and b.
    """
    return _on(_kumaraswamy, x, a, b)
