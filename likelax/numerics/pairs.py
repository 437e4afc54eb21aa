"""Numbers as unevaluated sums of two floats, high + low, for what an exponential will magnify.

exp(-z) turns the rounding of z into an error |z| times as large, and z^k the rounding of log z into
one k log z times as large. A pair holds about twice the digits. Here are the few operations that
densities need; none of them is differentiated itself: they stand inside functions that say their
derivatives (`with_partials`).

Where the high word is infinite or NaN, the low one is 0. Sources: Dekker (1971), "A floating-point
technique for extending the available precision"; Knuth, TAOCP 2, 4.2.2.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._rules import with_partials
from likelax.numerics.deviance import _atanh_tail, product_gap
from likelax.numerics.logspace import as_floats, divide

Pair = tuple[Array, Array]

_SQRT_HALF = math.sqrt(0.5)
# log 2 as its first 15 or 40 binary digits, whose product with an exponent is exact, and the rest.
_LOG_2_SINGLE = 22713 / 2.0**15, 1.4286068203094173e-06
_LOG_2_DOUBLE = 762123384785 / 2.0**40, 7.371002565167799e-13
# log(2)/2 in three parts, the first two short enough for exact products with exponents, and
# sqrt(2) in three, the first two of half of the digits.
_HALF_LOG_2_SINGLE = 22713 / 2.0**16, 24543 / 2.0**35, 8.09925509332828e-12
_HALF_LOG_2_DOUBLE = 762123384785 / 2.0**41, 891099531747 / 2.0**81, 2.9014944917978452e-25
_ROOT_SINGLE = 1.4140625, 0.00015091896057128906, 1.434125237597392e-07
_ROOT_DOUBLE = 1.4142135381698608, 2.4203234083586267e-08, 1.2537167179050217e-16
_SIXTH = 21.0 / 128.0  # few digits of 1/6


def _finite(low):
    return jnp.where(jnp.isfinite(low), low, 0.0)


def _sum(a: Array, b: Array) -> Pair:
    """a + b, exactly, of finite numbers."""
    high = a + b
    part = high - a
    return high, (a - (high - part)) + (b - part)


def two_sum(a: Array, b: Array) -> Pair:
    """a + b, exactly."""
    high, low = _sum(a, b)
    return high, _finite(low)


def pair_sum(*pairs: Pair) -> Pair:
    """The sum of pairs."""
    high, low = pairs[0]
    for other_high, other_low in pairs[1:]:
        high, lost = two_sum(high, other_high)
        low = low + (lost + other_low)
    return two_sum(high, low)


def pair_times(c: Array, pair: Pair) -> Pair:
    """c times a pair."""
    high = c * pair[0]
    return high, _finite(product_gap(c, pair[0], high) + c * pair[1])


def pair_over(pair: Pair, s: Array) -> Pair:
    """A pair over s."""
    high = pair[0] / s
    return high, _finite((pair[1] - product_gap(high, s, pair[0])) / s)


def pair_minus(pair: Pair) -> Pair:
    """Minus a pair."""
    return -pair[0], -pair[1]


def word(x: Array) -> Pair:
    """A float as a pair."""
    return x, jnp.zeros_like(x)


def rounded(pair: Pair) -> Array:
    """The float next to a pair."""
    return pair[0] + pair[1]


def exp_pair(pair: Pair) -> Array:
    """exp of a pair, as a float."""
    low = jnp.where(jnp.abs(pair[0]) < 1000.0, pair[1], 0.0)  # beyond, exp is 0 or inf
    return jnp.exp(pair[0]) * (1.0 + low)


def exp_two(x: Array) -> Pair:
    """exp(x) as a pair, to a ten-thousandth of a rounding; inf and 0 beyond the normal floats.

    x = n log(2)/2 + r, |r| < 0.174, and r = u + v with a quarter of the digits in u. Every product
    that is large enough for its rounding to count is one of few digits, and exact: a compiler may
    fuse any other one into a sum, unrounded in one place and rounded in the next.
    """
    single = x.dtype == jnp.float32
    low, high = (-86.0, 88.72) if single else (-700.0, 709.78)
    y = jnp.clip(x, low, high)
    n = jnp.round(y * (2.0 / math.log(2.0)))
    first, second, third = _HALF_LOG_2_SINGLE if single else _HALF_LOG_2_DOUBLE
    r, r_low = _sum(y - n * first, -n * second)
    exponent, quarter, half = (8, 5, 11) if single else (11, 12, 25)
    u = jax.lax.reduce_precision(r, exponent, quarter)
    v = r - u
    series = jnp.full_like(r, 1.0 / math.factorial(8 if single else 16))
    for k in reversed(range(4, 8 if single else 16)):
        series = series * r + 1.0 / math.factorial(k)
    # exp(r) = 1 + (u + u^2/2) + v + u v + u^3/6 + what is small.
    square = u * u
    cube = square * u
    small = cube * (1.0 / 6.0 - _SIXTH) + 0.5 * v * (v * (1.0 + v * (1.0 / 3.0)) + u * (u + v))
    small = small + (r * r) * (r * r) * series + (r_low - n * third) * (1.0 + r * (1.0 + 0.5 * r))
    # Not a constant 1, which XLA would add to the one that is taken off again.
    one = jnp.where(x > high, 2.0, 1.0).astype(x.dtype)
    top, lost = _sum(one, u + 0.5 * square)
    for part in (v, u * v, _SIXTH * cube):
        top, more = _sum(top, part)
        lost = lost + more
    top, lost = _sum(top, lost + small)
    odd = n - 2.0 * jnp.floor(0.5 * n) > 0
    parts = _ROOT_SINGLE if single else _ROOT_DOUBLE
    root, root_2, root_3 = (
        jnp.where(odd, part, even).astype(x.dtype)
        for part, even in zip(parts, (1.0, 0.0, 0.0), strict=True)
    )
    lead = jax.lax.reduce_precision(top, exponent, half)
    rest = top - lead
    out, lost_1 = _sum(lead * root, rest * root)
    out, lost_2 = _sum(out, lead * root_2)
    lost = (lost_1 + lost_2) + (rest * root_2 + (top * root_3 + lost * root))
    out, lost = _sum(out, lost)
    # 2^(n/2 - 1): 2^128 is no float32, and the product with it may be one.
    bits, bias = (23, 127) if single else (52, 1023)
    power = (jnp.floor(0.5 * n) + (bias - 1)).astype(jnp.int32 if single else jnp.int64)
    scale = jax.lax.bitcast_convert_type(power << bits, x.dtype)
    value, rest = 2.0 * (scale * out), 2.0 * (scale * lost)
    value = jnp.where(x > high, jnp.inf, jnp.where(x < low, 0.0, value))
    return value, jnp.where((x > high) | (x < low), 0.0, rest)


def standardize_pair(x: Array, loc: Array, s: Array) -> Pair:
    """(x - loc) / s."""
    return pair_over(two_sum(x, -loc), s)


def log_quotient(x: Array, m: Array) -> Pair:
    """log(x / m) for x, m >= 0, also where the quotient leaves the floats' range.

    n log 2 + 2 atanh(f), f = (a - b) / (a + b), of mantissas whose difference is exact: the relative
    error is far below one rounding everywhere, near x = m too.
    """
    (a, i), (b, j) = jnp.frexp(x), jnp.frexp(m)
    up, down = a < _SQRT_HALF * b, b < _SQRT_HALF * a
    a, b = jnp.where(up, 2.0 * a, a), jnp.where(down, 2.0 * b, b)
    n = (i - j - up + down).astype(x.dtype)
    bottom = two_sum(a, b)
    f = (a - b) / bottom[0]
    f_low = -(product_gap(f, bottom[0], a - b) + f * bottom[1]) / bottom[0]
    log_2, rest = _LOG_2_SINGLE if x.dtype == jnp.float32 else _LOG_2_DOUBLE
    high, low = two_sum(n * log_2, 2.0 * f)
    low = low + (n * rest + 2.0 * (f_low + f * f * f * _atanh_tail(f)))
    inside = (x > 0) & (m > 0) & (x < jnp.inf) & (m < jnp.inf)
    high, low = two_sum(high, low)
    return jnp.where(inside, high, jnp.log(x) - jnp.log(m)), jnp.where(inside, low, 0.0)


@with_partials(lambda x, m: divide(1.0, x), lambda x, m: divide(-1.0, m))
def _log_over(x, m):
    return log_quotient(x, m)[0]


def log_over(x: ArrayLike, m: ArrayLike) -> Array:
    """log(x / m) for x, m >= 0 to one rounding, also where the quotient overflows. Slopes 1/x, -1/m."""
    return _log_over(*jnp.broadcast_arrays(*as_floats(x, m)))
