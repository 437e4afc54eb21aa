"""The gamma function's logarithm, its derivatives, and log beta and log binomial, without
cancellation.

Above 3 everything rests on the *Stirling error* delta(x) = lgamma(x) - [(x - 1/2) log x - x +
1/2 log 2 pi], so that a difference of two lgammas becomes logarithms of ratios and small terms.

Conventions: element by element with broadcasting, in float32 or wider; NaN in gives NaN out;
arguments on the closed domain that each docstring says.
"""

import functools
import math
from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._gamma_tables import DIGAMMA1P, LGAMMA1P, STIRLING, polynomial
from likelax.numerics._rules import with_partials
from likelax.numerics.deviance import log_ratio
from likelax.numerics.logspace import as_floats, log1p

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def zeta(k: int) -> float:
    """The sum of n^-k over n >= 1, k >= 2, its tail by Euler and Maclaurin."""
    n = 64.0
    tail = n ** (1 - k) / (k - 1) - 0.5 * n**-k + k / 12 * n ** (-k - 1)
    tail -= k * (k + 1) * (k + 2) / 720 * n ** (-k - 3)
    tail += k * (k + 1) * (k + 2) * (k + 3) * (k + 4) / 30240 * n ** (-k - 5)
    return math.fsum([tail, *(i**-k for i in range(1, 65))])


# digamma(1 + x) - digamma(1) in powers of -x, from -(-x) on.
_ZETA = tuple(zeta(k) for k in range(2, 20))


@functools.cache
def stirling(order: int, from_one: bool = False) -> Callable:
    """The `order`-th derivative of delta(x), for orders 0 to 3; `from_one`: asked for x >= 1 only."""

    def tail(x):
        s = 1.0 / x
        return polynomial(STIRLING[order], s) * s ** (order + 1)

    def value(x):
        if from_one:
            return tail(x)
        below = x < 1.0
        shifted = jnp.where(below, 1.0 + x, x)
        out, s = tail(shifted), 1.0 / shifted
        # delta(x) = delta(1 + x) + (x + 1/2) log(1 + 1/x) - 1, and its derivatives.
        y = jnp.where(below, x, 1.0)
        q = 1.0 / y
        if order == 0:
            step = (y + 0.5) * (log1p(y) - jnp.log(y)) - 1.0
        elif order == 1:
            step = (log1p(y) - jnp.log(y)) - 0.5 * q - 0.5 * s
        elif order == 2:
            step = 0.5 * (q * q + s * s) - q * s
        else:
            step = (q + s) * q * s - q * q * q - s * s * s
        return jnp.where(below, out + jnp.where(below, step, 0.0), out)

    if order == 3:
        return value  # autodiff of the polynomial: its slope is the end of the line
    return with_partials(lambda x: stirling(order + 1, from_one)(x))(value)


def stirling_error(x: ArrayLike) -> Array:
    """delta(x) = lgamma(x) - [(x - 1/2) log x - x + 1/2 log 2 pi], x > 0; about 1 / (12 x) for x >
    1.

    Its derivatives are digamma(x) - log x + 1/(2x) and so on, each from its own interpolant. At 0
    it is inf, and its slope is infinite.
    """
    return stirling(0)(*as_floats(x))


def lgamma1p(s: Array) -> Array:
    """lgamma(1 + s) for 0 <= s <= 1, exactly 0 at both ends and to a few ulp of itself between."""
    return s * (s - 1.0) * polynomial(LGAMMA1P, s)


def _lgamma_slope(x):
    return _digamma(x)


def _digamma_slope(x):
    return _trigamma(x)


def _trigamma_slope(x):
    return _tetragamma(x)


@with_partials(_lgamma_slope)
def _lgamma(x):
    # Below 3 by lgamma(1 + s) = s (s - 1) g(s), s in [0, 1], exactly 0 at 1 and 2; above by Stirling. x - 1 is exact,
    # and one logarithm serves all.
    first, second, low = x < 1.0, x < 2.0, x < 3.0
    y = jnp.where(low, x, 2.0)
    s = y - jnp.where(first, 0.0, jnp.where(second, 1.0, 2.0))
    log = jnp.log(jnp.where(first | ~low, x, jnp.where(second, 1.0, y - 1.0)))
    below = lgamma1p(s) + jnp.where(first, -log, log)
    z = jnp.where(low, 3.0, x)
    above = (z - 0.5) * (log - 1.0) + ((_HALF_LOG_2PI - 0.5) + stirling(0, True)(z))
    return jnp.where(low, below, jnp.where(jnp.isinf(x), jnp.inf, above))


@with_partials(_digamma_slope)
def _digamma(x):
    # Below 2 by an interpolant of digamma(1 + s).
    first, low = x < 1.0, x < 2.0
    y = jnp.where(low, x, 1.0)
    below = polynomial(DIGAMMA1P, jnp.where(first, y, y - 1.0))
    below = below - jnp.where(first, 1.0 / jnp.where(first, x, 1.0), 0.0)
    z = jnp.where(low, 2.0, x)
    return jnp.where(low, below, jnp.log(z) - 0.5 / z + stirling(1, True)(z))


@with_partials(_trigamma_slope)
def _trigamma(x):
    below = x < 1.0
    y = 1.0 / jnp.where(below, 1.0 + x, x)
    out = y + 0.5 * y * y + stirling(2)(jnp.where(below, 1.0 + x, x))
    return jnp.where(below, out + (1.0 / jnp.where(below, x, 1.0)) ** 2, out)


def _tetragamma(x):
    below = x < 1.0
    z = jnp.where(below, 1.0 + x, x)
    y = 1.0 / z
    out = stirling(3)(z) - y * y - y * y * y
    return jnp.where(below, out - 2.0 * (1.0 / jnp.where(below, x, 1.0)) ** 3, out)


def lgamma(x: ArrayLike) -> Array:
    """log Gamma(x) for x >= 0, exactly 0 at 1 and 2, inf at 0. Derivative `digamma`."""
    return _lgamma(*as_floats(x))


def digamma(x: ArrayLike) -> Array:
    """The derivative of lgamma for x > 0, to a few ulp of max(1, |value|); -inf at 0."""
    return _digamma(*as_floats(x))


def trigamma(x: ArrayLike) -> Array:
    """The second derivative of lgamma for x > 0, to a few ulp of itself; inf at 0."""
    return _trigamma(*as_floats(x))


def digamma_minus_log(x):
    """digamma(x) - log(x), no cancellation: both parts are negative."""
    return stirling(1)(x) - 0.5 / x


def digamma_minus_log_step(x, step):
    """[digamma - log](x + step) - [digamma - log](x), to a few ulp also where step is far below x."""
    top = x + step
    return 0.5 * (step / top) / x + (stirling(1)(top) - stirling(1)(x))


def trigamma_step(x, step):
    """trigamma(x + step) - trigamma(x) for step >= 0."""
    top = x + step
    first = (step / top) / x
    return -first * (1.0 + 0.5 / top + 0.5 / x) + (stirling(2)(top) - stirling(2)(x))


@with_partials(trigamma_step, lambda x, step: trigamma(x + step))
def digamma_step(x, step):
    """digamma(x + step) - digamma(x) for step >= 0."""
    return log_ratio(x + step, x, -step) + digamma_minus_log_step(x, step)


def _harmonic_slope(x):
    return trigamma(x + 1.0)


@with_partials(_harmonic_slope)
def _harmonic(x):
    # Eight steps of 1/n - 1/(x + n), and digamma(x + 9) - digamma(9): nothing cancels.
    total = digamma_step(jnp.full_like(x, 9.0), x)
    for n in range(1, 9):
        total = total + (x / (x + n)) / n
    # Of the last difference a series keeps what is far below its rounding.
    near = x < 0.1
    v, series = jnp.where(near, -x, 0.0), jnp.zeros_like(x)
    for c in reversed(_ZETA):
        series = series * v + c
    return jnp.where(near, -v * series, total)


def harmonic(x: ArrayLike) -> Array:
    """digamma(x + 1) - digamma(1) for x >= 0, the harmonic number, to a few ulp of itself."""
    return _harmonic(*as_floats(x))


# ---- log beta, log binomial ----


def _stirling_step(order, x, step):
    """stirling(order) at x + step less that at x, x >= 1, to digits of itself also where x + step is x."""
    near = step < 0.01
    width, total = jnp.where(near, step, 0.0), jnp.zeros_like(x)
    # Gauss and Legendre's rule of three nodes, right to 1e-16 of a step of 0.01.
    for at, weight in ((0.1127016653792583, 5), (0.5, 8), (0.8872983346207417, 5)):
        total = total + (weight / 18.0) * stirling(order + 1, True)(x + at * width)
    apart = stirling(order, True)(x + step) - stirling(order, True)(x)
    return jnp.where(near, width * total, apart)


def _lgamma_step_slope(x, step):
    """digamma(x + step) - digamma(x)."""
    top = x + step
    return log_ratio(top, x, -step) + 0.5 * (step / top) / x + _stirling_step(1, x, step)


@with_partials(_lgamma_step_slope, lambda x, step: digamma(x + step))
def lgamma_step(x, step):
    """lgamma(x + step) - lgamma(x) for x >= 1 and a small step >= 0: no lgamma of a large number."""
    large = step * (jnp.log(x + step) - 1.0) + (x - 0.5) * log1p(step / x)
    return large + _stirling_step(0, x, step)


def in_order(a, b):
    """(the smaller, the larger); by selection, so that second derivatives hold where a = b."""
    return jnp.where(a <= b, a, b), jnp.where(a <= b, b, a)


@with_partials(lambda a, b: -digamma_step(a, b), lambda a, b: -digamma_step(b, a))
def _log_beta(a, b):
    return log_beta_parts(a, b)[0]


def log_beta_parts(a, b):
    """log B(a, b), and what is left of it when -a log(a/n) - b log(b/n), n = a + b, are added (for
    a, b >= 2).
    """
    small, large = in_order(a, b)
    # For large < 1, B(s, l) = B(s, l + 1) (s + l) / l.
    up = jnp.where(large < 1.0, large + 1.0, large)
    ratio = log1p(small / up)
    shared = stirling(0)(up) - stirling(0)(up + small) + 0.5 * ratio
    low = small < 2.0
    # A small argument: its lgamma, less lgamma(large + small) - lgamma(large).
    s = jnp.where(low, small, 1.0)
    plain = _lgamma(s) - s * (jnp.log(up + s) - 1.0)
    plain = plain + jnp.where(large < 1.0, log1p(small / jnp.where(large < 1.0, large, 1.0)), 0.0)
    # Both above 2: the large parts, each negative, and terms of order log n.
    s = jnp.where(low, 2.0, small)
    rest = shared + (stirling(0)(s) + (_HALF_LOG_2PI - 0.5 * jnp.log(s)))
    saddle = rest - s * log_ratio(s + up, s, -up)
    return jnp.where(low, plain + shared, saddle) - up * ratio, rest


def log_beta(a: ArrayLike, b: ArrayLike) -> Array:
    """log B(a, b) = lgamma(a) + lgamma(b) - lgamma(a + b) for a, b > 0, huge, tiny or unequal.

    Derivatives digamma(a) - digamma(a + b), formed as a log ratio and a small difference.
    """
    return _log_beta(*as_floats(a, b))


def _log_binomial_slope_n(n, k):
    return digamma_step(n - k + 1.0, k)


def _log_binomial_slope_k(n, k):
    other = n - k
    step = digamma_step(jnp.minimum(k, other) + 1.0, jnp.abs(other - k))
    return jnp.where(other >= k, step, -step)


@with_partials(_log_binomial_slope_n, _log_binomial_slope_k)
def _log_binomial(n, k):
    other = n - k
    small, large = jnp.minimum(k, other), jnp.maximum(k, other)
    # Loader's form, from 1 on: all but the small terms are positive.
    p, q = jnp.maximum(small, 1.0), jnp.maximum(large, 1.0)
    m = p + q
    saddle = p * log_ratio(m, p, -q) + q * log1p(p / q)
    saddle = saddle - 0.5 * jnp.log(p) + 0.5 * log1p(p / q) - _HALF_LOG_2PI
    saddle = saddle + ((stirling(0)(m) - stirling(0)(q)) - stirling(0)(p))
    # Below: lgamma(large + 1 + small) - lgamma(large + 1) - lgamma(small + 1), 0 where small = 0.
    r = jnp.clip(small, 0.0, 1.0)
    step = lgamma_step(jnp.maximum(large, 0.0) + 1.0, r) - _lgamma(r + 1.0)
    out = jnp.where(small > 1.0, saddle, jnp.where(small == 0, 0.0, step))
    return jnp.where(jnp.isnan(other), jnp.nan, out)


def log_binomial(n: ArrayLike, k: ArrayLike) -> Array:
    """log of n choose k for real n >= k >= 0, exactly 0 at k = 0 and k = n."""
    return _log_binomial(*as_floats(n, k))
