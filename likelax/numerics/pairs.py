"""Numbers as unevaluated sums of two floats, high + low, for what an exponential will magnify.

exp(-z) turns the rounding of z into an error |z| times as large, and z^k the rounding of log z into
one k log z times as large. A pair holds about twice the digits. Here are the few operations that
densities need; none of them is differentiated itself: they stand inside functions that say their
derivatives (`with_partials`).

Where the high word is infinite or NaN, the low one is 0. Sources: Dekker (1971), "A floating-point
technique for extending the available precision"; Knuth, TAOCP 2, 4.2.2.
"""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._rules import terms, with_partials
from likelax.numerics.deviance import _atanh_tail, product_gap
from likelax.numerics.logspace import as_floats, divide

Pair = tuple[Array, Array]

_SQRT_HALF = math.sqrt(0.5)
# log 2 in three words, the first two of 15 and 14 (in float64 both of 40) binary digits: their products
# with an exponent are exact.
_LOG_2_SINGLE = 22713 / 2.0**15, 1.428648829460144e-06, -4.2009150726810847e-11
_LOG_2_DOUBLE = 762123384785 / 2.0**40, 7.371002565170268e-13, -2.4688171419345863e-25


def _finite(low):
    return jnp.where(jnp.isfinite(low), low, 0.0)


def _log_2_parts(x):
    return _LOG_2_SINGLE if x.dtype == jnp.float32 else _LOG_2_DOUBLE


def half_square(pair: Pair) -> Pair:
    """pair^2 / 2."""
    return pair_product((0.5 * pair[0], 0.5 * pair[1]), pair)


def two_sum(a: Array, b: Array) -> Pair:
    """a + b, exactly."""
    # Where one of them is a constant, XLA would take (1 + b) - 1 for b, but for a rounding by name.
    info = jnp.finfo(a.dtype)
    high = jax.lax.reduce_precision(a + b, info.nexp, info.nmant)
    part = high - a
    return high, _finite((a - (high - part)) + (b - part))


def pair_sum(*pairs: Pair) -> Pair:
    """The sum of pairs."""
    high, low = pairs[0]
    for other_high, other_low in pairs[1:]:
        high, lost = two_sum(high, other_high)
        low = low + (lost + other_low)
    return two_sum(high, low)


def pair_total(pair: Pair) -> Pair:
    """The sum over the last axis. The leading digits of all terms, cut off at one place, add without
    an error, in any order (Rump, Ogita and Oishi 2008, "Accurate floating-point summation", part I).
    """
    high, low = pair
    top = jnp.max(jnp.abs(high), axis=-1, keepdims=True)
    cut = jnp.ldexp(jnp.ones_like(top), jnp.frexp(top)[1] + high.shape[-1].bit_length())
    lead = jnp.where(jnp.isfinite(cut), (high + cut) - cut, high)
    rest = jnp.sum(_finite((high - lead) + low), axis=-1)
    return two_sum(jnp.sum(lead, axis=-1), rest)


def pair_times(c: Array, pair: Pair) -> Pair:
    """c times a pair."""
    high = c * pair[0]
    return high, _finite(product_gap(c, pair[0], high) + c * pair[1])


def pair_product(a: Pair, b: Pair) -> Pair:
    """The product of two pairs."""
    high = a[0] * b[0]
    return high, _finite(product_gap(a[0], b[0], high) + (a[0] * b[1] + a[1] * b[0]))


def pair_over(pair: Pair, s: Array) -> Pair:
    """A pair over s."""
    high = pair[0] / s
    return high, _finite((pair[1] - product_gap(high, s, pair[0])) / s)


def pair_ratio(top: Pair, bottom: Pair) -> Pair:
    """A pair over a pair."""
    high = top[0] / bottom[0]
    lost = product_gap(high, bottom[0], top[0]) + high * bottom[1]
    return high, _finite((top[1] - lost) / bottom[0])


def pair_minus(pair: Pair) -> Pair:
    """Minus a pair."""
    return -pair[0], -pair[1]


def word(x: Array) -> Pair:
    """A float as a pair."""
    return x, jnp.zeros_like(x)


def rounded(pair: Pair) -> Array:
    """The float next to a pair."""
    return pair[0] + pair[1]


def exp_to_pair(pair: Pair) -> Pair:
    """exp of a pair, with about half as many digits again as a float: the first terms of its series, as
    pairs, for what powers of 2 leave.
    """
    high, low = pair
    log_2, *rest = _log_2_parts(high)
    inside = jnp.abs(high) < 0.69 * jnp.finfo(high.dtype).maxexp
    kept = jnp.where(inside, high, 0.0)
    n = jnp.round(kept / (log_2 + sum(rest)))
    t = two_sum(kept - n * log_2, jnp.where(inside, low, 0.0) - n * sum(rest))
    square = pair_product((0.5 * t[0], 0.5 * t[1]), t)
    cube = pair_product(square, pair_over(t, 3.0 * jnp.ones_like(high)))
    fourth = pair_over(pair_product(square, square), 6.0 * jnp.ones_like(high))
    tail = jnp.zeros_like(high)
    for k in reversed(range(5, 5 + terms(high, 6, 14))):
        tail = (1.0 / math.factorial(k)) + t[0] * tail
    fifth = word(4.0 * square[0] * square[0] * t[0] * tail)
    out = pair_sum(word(jnp.ones_like(high)), pair_sum(t, square, cube, fourth, fifth))
    power = n.astype(jnp.int32)
    high = jnp.where(inside, jnp.ldexp(out[0], power), jnp.exp(high))
    return high, jnp.where(inside, jnp.ldexp(out[1], power), 0.0)


def exp_pair(pair: Pair) -> Array:
    """exp of a pair, as a float."""
    low = jnp.where(jnp.abs(pair[0]) < 1000.0, pair[1], 0.0)  # beyond, exp is 0 or inf
    return jnp.exp(pair[0]) * (1.0 + low)


def standardize_pair(x: Array, loc: Array, s: Array) -> Pair:
    """(x - loc) / s."""
    return pair_over(two_sum(x, -loc), s)


def _mantissas(x: Array, m: Array) -> tuple[Array, Pair]:
    """n and f with x / m = 2^n (1 + f) / (1 - f), |f| < 0.18."""
    (a, i), (b, j) = jnp.frexp(x), jnp.frexp(m)
    up, down = a < _SQRT_HALF * b, b < _SQRT_HALF * a
    a, b = jnp.where(up, 2.0 * a, a), jnp.where(down, 2.0 * b, b)
    n = (i - j - up + down).astype(x.dtype)
    bottom = two_sum(a, b)
    f = (a - b) / bottom[0]
    return n, (f, -(product_gap(f, bottom[0], a - b) + f * bottom[1]) / bottom[0])


def log_quotient(x: Array, m: Array) -> Pair:
    """log(x / m) for x, m >= 0, also where the quotient leaves the floats' range.

    n log 2 + 2 atanh(f), f = (a - b) / (a + b), of mantissas whose difference is exact: the relative
    error is far below one rounding everywhere, near x = m too.
    """
    n, (f, f_low) = _mantissas(x, m)
    log_2, *rest = _log_2_parts(x)
    high, low = two_sum(n * log_2, 2.0 * f)
    low = low + (n * sum(rest) + 2.0 * (f_low + f * f * f * _atanh_tail(f)))
    inside = (x > 0) & (m > 0) & (x < jnp.inf) & (m < jnp.inf)
    high, low = two_sum(high, low)
    return jnp.where(inside, high, jnp.log(x) - jnp.log(m)), jnp.where(inside, low, 0.0)


def _fraction(n: int, dtype) -> Pair:
    """1/n."""
    high = np.asarray(1.0, dtype) / np.asarray(n, dtype)
    low = float(Fraction(1, n) - Fraction(float(high)))
    return jnp.asarray(high), jnp.asarray(low, dtype)


def fine_log_quotient(x: Array, m: Array) -> Pair:
    """`log_quotient` to both words: what is left when another number is taken off keeps its digits."""
    n, f = _mantissas(x, m)
    square = two_sum(*pair_product(f, f))
    # atanh(f) = f + f^3 (1/3 + f^2 (1/5 + f^2 (1/7 + ...))), f^2 < 0.03: each step wants less.
    count = 9 if x.dtype == jnp.float32 else 17
    rest = jnp.zeros_like(x)
    for k in reversed(range(4, count)):
        rest = (rest + 1.0 / (2 * k + 1)) * square[0]
    # XLA takes constants together, (x + c) - c as x: in a sum of pairs they stand second.
    series = pair_sum(word(rest), _fraction(7, x.dtype))
    for k in (5, 3):
        series = pair_sum(pair_product(square, series), _fraction(k, x.dtype))
    atanh = pair_sum(f, pair_product(pair_product(f, square), series))
    first, second, third = _log_2_parts(x)
    twice = (2.0 * atanh[0], 2.0 * atanh[1])
    high, low = pair_sum(word(n * first), twice, word(n * second), word(n * third))
    inside = (x > 0) & (m > 0) & (x < jnp.inf) & (m < jnp.inf)
    return jnp.where(inside, high, jnp.log(x) - jnp.log(m)), jnp.where(inside, low, 0.0)


@with_partials(lambda x, y: divide(1.0, x), lambda x, y: -jnp.ones_like(x))
def _log_gap(x, y):
    return rounded(pair_sum(fine_log_quotient(x, jnp.ones_like(x)), word(-y)))


def log_gap(x: ArrayLike, y: ArrayLike) -> Array:
    """log(x) - y for x >= 0, to one rounding also where the two nearly cancel. Slopes 1/x, -1."""
    return _log_gap(*jnp.broadcast_arrays(*as_floats(x, y)))


@with_partials(lambda x, m: divide(1.0, x), lambda x, m: divide(-1.0, m))
def _log_over(x, m):
    return log_quotient(x, m)[0]


def log_over(x: ArrayLike, m: ArrayLike) -> Array:
    """log(x / m) for x, m >= 0 to one rounding, also where the quotient overflows. Slopes 1/x, -1/m."""
    return _log_over(*jnp.broadcast_arrays(*as_floats(x, m)))


def standardized_log_pair(x: Array, m: Array, loc: Array, s: Array) -> Pair:
    """(log(x / m) - loc) / s for x, m, s > 0."""
    return pair_over(pair_sum(fine_log_quotient(x, m), word(-loc)), s)


@with_partials(
    lambda x, m, loc, s: divide(divide(1.0, x), s),
    lambda x, m, loc, s: divide(divide(-1.0, m), s),
    lambda x, m, loc, s: divide(-jnp.ones_like(x), s),
    lambda x, m, loc, s: divide(-_standardized_log(x, m, loc, s), s),
)
def _standardized_log(x, m, loc, s):
    return rounded(standardized_log_pair(x, m, loc, s))


def standardized_log(x: ArrayLike, m: ArrayLike, loc: ArrayLike, s: ArrayLike) -> Array:
    """(log(x / m) - loc) / s for x, m, s > 0, rounded once: the logarithm's rounding is not magnified
    by 1 / s.
    """
    return _standardized_log(*jnp.broadcast_arrays(*as_floats(x, m, loc, s)))
