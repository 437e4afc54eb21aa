"""Deviances without cancellation: log1p(u) - u, x log(x/m) + m - x, and x y - z.

The pieces of which the densities are made (Loader 2000, "Fast and accurate computation of binomial
probabilities"). A *gap* m - x may be handed over beside x and m: it carries digits that x and m no
longer have.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._rules import terms, with_partials
from likelax.numerics.logspace import as_floats, log1p

_LOG2 = math.log(2.0)


def _atanh_tail(v: Array) -> Array:
    """(atanh(v) - v) / v^3 = 1/3 + v^2/5 + v^4/7 + ..., for |v| < 0.43."""
    square, total = v * v, jnp.zeros_like(v)
    for k in reversed(range(terms(v, 9, 21))):
        total = total * square + 1.0 / (2 * k + 3)
    return total


@with_partials(lambda u: -jnp.square(1.0 / (1.0 + u)))
def _log1pmx_slope(u):
    return -u / (1.0 + u)


@with_partials(_log1pmx_slope)
def _log1pmx(u):
    near = (u > -0.6) & (u < 1.5)
    v = jnp.where(near, u, 0.0)
    r = v / (2.0 + v)
    # log1p(v) = 2 atanh(r), and 2 r - v = -r v.
    series = r * (2.0 * r * r * _atanh_tail(r) - v)
    far = jnp.where(near, 1.0, u)
    return jnp.where(near, series, jnp.log1p(far) - far)


def log1pmx(u: ArrayLike) -> Array:
    """log(1 + u) - u for u > -1, to a few ulp of itself; -inf at -1. Derivative -u / (1 + u)."""
    return _log1pmx(*as_floats(u))


def _log_quotient(x: Array, m: Array) -> Array:
    """log(x / m) with one logarithm, also where the quotient leaves the floats' range."""
    power = 75.0 if x.dtype == jnp.float32 else 600.0
    half = 2.0**power
    large, small = x > half * m, m > half * x
    up = jnp.where(small, half, jnp.where(large, 1 / half, 1.0))
    down = jnp.where(small, 1 / half, jnp.where(large, half, 1.0))
    log = jnp.log((x * up) / (m * down))
    return log + jnp.where(large, 2 * power * _LOG2, jnp.where(small, -2 * power * _LOG2, 0.0))


def deviance_and_log(x, m, gap):
    """D(x, m) and log(x / m), given gap = m - x, of one series and one logarithm. No derivative rule: for those
    who write one.
    """
    # v = (x - m) / (x + m) is named once: XLA's CPU backend gives a quotient with two uses a loop of
    # its own, and an array.
    near = jnp.abs(gap) < 0.42 * (x + m)
    v = jnp.where(near, -gap / (x + m), 0.0)
    # x = (x + m) (1 + v) / 2, so that D = (x - m) v + 2 x (atanh(v) - v): the second part is the
    # smaller.
    tail = 2.0 * v * v * v * _atanh_tail(v)
    zero = x == 0
    far = jnp.where(near | zero, 1.0, x)
    log = _log_quotient(far, jnp.where(near | zero, 1.0, m))
    deviance = jnp.where(near, -gap * v + x * tail, jnp.where(zero, m, far * log + gap))
    log = jnp.where(near, 2.0 * v + tail, jnp.where(zero, -jnp.inf, log))
    return jnp.where((jnp.isinf(m) ^ jnp.isinf(x)) | ((m == 0) & (x > 0)), jnp.inf, deviance), log


@with_partials(lambda x, m, gap: 1.0 / x, lambda x, m, gap: -1.0 / m, None)
def log_ratio(x, m, gap):
    """log(x / m), given gap = m - x (perhaps to more digits than x and m have). Slopes of log x -
    log m.
    """
    near = jnp.abs(gap) < 0.5 * m
    close = log1p(jnp.where(near, -gap, 0.0) / jnp.where(near, m, 1.0))
    return jnp.where(near, close, _log_quotient(x, m))


@with_partials(
    lambda x, m, gap: jnp.where(m == 0, 0.0, -1.0 / m),
    # Not x / m / m, which XLA turns into x / m^2.
    lambda x, m, gap: jnp.where(m == 0, 0.0, (x / m) * (1.0 / m)),
    None,
)
def _deviance_slope_m(x, m, gap):
    # 1 at x = 0; where m = 0 < x the slope is infinite, which counts as 0.
    zero = (x == 0) | (m == 0)
    return jnp.where(zero, jnp.where(x == 0, 1.0, 0.0), gap / jnp.where(zero, 1.0, m))


@with_partials(
    lambda x, m, gap: jnp.where(x == 0, 0.0, 1.0 / x),
    lambda x, m, gap: jnp.where(m == 0, 0.0, -1.0 / m),
    None,
)
def _deviance_slope_x(x, m, gap):
    # -inf at x = 0 and inf at m = 0, where both are 0; the slopes of that, infinite, count as 0.
    edge = (x == 0) | (m == 0)
    log = log_ratio(jnp.where(edge, 1.0, x), jnp.where(edge, 1.0, m), jnp.where(edge, 0.0, gap))
    ends = jnp.where(x == m, 0.0, jnp.where(x == 0, -jnp.inf, jnp.inf))
    return jnp.where(edge, ends, log)


# gap carries the digits, x and m the derivatives.
@with_partials(_deviance_slope_x, _deviance_slope_m, None)
def gap_deviance(x, m, gap):
    """D(x, m), given gap = m - x."""
    return deviance_and_log(x, m, gap)[0]


def deviance(x: ArrayLike, m: ArrayLike) -> Array:
    """D(x, m) = x log(x / m) + m - x for x >= 0 and m >= 0: half the Poisson deviance; 0 where x =
    m.

    D(0, m) = m, and D(x, 0) = inf for x > 0. Derivatives log(x / m) in x and (m - x) / m in m.
    Loader (2000), `bd0`: a series in v = (x - m) / (x + m), here for |v| < 0.42.
    """
    x, m = as_floats(x, m)
    return gap_deviance(x, m, m - x)


@with_partials(lambda x, y, z: y, lambda x, y, z: x, lambda x, y, z: -jnp.ones_like(z))
def product_gap(x, y, z):
    """x y - z with the product's rounding error kept.

    Both factors are split into halves whose products are exact (Dekker), by rounding to half the
    digits. The exact leading product is subtracted first, so that a compiler's fused multiply-add
    can only help.
    """
    exponent, mantissa = (8, 11) if x.dtype == jnp.float32 else (11, 25)
    x_high = jax.lax.reduce_precision(x, exponent, mantissa)
    y_high = jax.lax.reduce_precision(y, exponent, mantissa)
    x_low, y_low = x - x_high, y - y_high
    split = ((x_high * y_high - z) + x_high * y_low) + x_low * y_high + x_low * y_low
    return jnp.where(jnp.isfinite(split), split, x * y - z)


def two_deviances(a, b, x, y, gap):
    """D(a, n x) + D(b, n y), n = a + b, y = 1 - x, given gap = n x - a: the core of every two-sided
    density.
    """
    n = a + b
    return gap_deviance(a, n * x, gap) + gap_deviance(b, n * y, -gap)
