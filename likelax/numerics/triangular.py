"""The triangular density, its tails and its divergence, by distances to the ends and to the peak.

On each side of the peak with u the distance from x to the end of that side, v that of the peak, o
the length of the other side, w = v + o and d = v - u,

    log p = log(u / v) + log(2 / w),   outer tail = u^2 / (w v),   inner tail = o / w + d (u + v) / (w v),

all of positive parts. Conventions: element by element with broadcasting, in float32 or wider; NaN in
gives NaN out; low <= x, peak <= high. On an end, where the density is 0, all slopes are taken as 0, and
at the peak, a kink, those in x and in the peak; at a peak on an end that in x is the inner one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._chebyshev import gauss_legendre
from likelax.numerics._rules import terms, with_partials
from likelax.numerics.logspace import as_floats, divide, log1p, passing_nan
from likelax.numerics.pairs import log_over, log_quotient, pair_sum, rounded


def _sides(x: Array, low: Array, high: Array, peak: Array) -> tuple[Array, Array, Array, Array]:
    """Whether x is below the peak; u and v, 1 where there is none of the other; d."""
    below = x < peak
    u, v = jnp.where(below, x - low, high - x), jnp.where(below, peak - low, high - peak)
    at_peak = x == peak
    return below, jnp.where(at_peak, 1.0, u), jnp.where(at_peak, 1.0, v), jnp.abs(x - peak)


def _inverse(u: Array) -> Array:
    return jnp.where(u == 0, 0.0, divide(1.0, jnp.where(u == 0, 1.0, u)))


def _slope_x(x, low, high, peak):
    below, u, _, _ = _sides(x, low, high, peak)
    slope = jnp.where(below, _inverse(u), -_inverse(u))
    # A peak at an end has one side.
    alone = jnp.where(low == peak, -1.0, jnp.where(high == peak, 1.0, 0.0))
    return jnp.where(x == peak, divide(alone, high - low), slope)


def _slope_end(x, low, high, peak, is_low):
    # 1/v - 1/u = -d / (u v), and 1/w. Not d / v / u, which XLA turns into d / (u v).
    below, u, v, d = _sides(x, low, high, peak)
    own = jnp.where(below == is_low, divide(d, v) * _inverse(u), 0.0)
    slope = jnp.where(u == 0, 0.0, divide(1.0, high - low) - own)
    return slope if is_low else -slope


def _slope_peak(x, low, high, peak):
    below, u, v, _ = _sides(x, low, high, peak)
    slope = jnp.where(below, -divide(1.0, v), divide(1.0, v))
    return jnp.where((x == peak) | (u == 0), 0.0, slope)


@with_partials(
    _slope_x,
    lambda x, low, high, peak: _slope_end(x, low, high, peak, True),
    lambda x, low, high, peak: _slope_end(x, low, high, peak, False),
    _slope_peak,
)
def _triangular(x, low, high, peak):
    _, u, v, _ = _sides(x, low, high, peak)
    width = high - low
    inside = rounded(
        pair_sum(
            log_quotient(jnp.where(u == 0, 1.0, u), v),
            log_quotient(jnp.full_like(width, 2.0), width),
        )
    )
    return passing_nan(jnp.where(u == 0, -jnp.inf, inside), low, high, peak)


def triangular_log_pdf(x: ArrayLike, low: ArrayLike, high: ArrayLike, peak: ArrayLike) -> Array:
    """log of 2 (x - low) / ((high - low) (peak - low)) below the peak, of 2 (high - x) / ((high -
    low) (high - peak)) above it, and of 2 / (high - low) there.
    """
    return _triangular(*jnp.broadcast_arrays(*as_floats(x, low, high, peak)))


def triangular_log_tails(
    x: ArrayLike, low: ArrayLike, high: ArrayLike, peak: ArrayLike
) -> tuple[Array, Array]:
    """log P(X <= x) and log P(X > x), low < x < high."""
    x, low, high, peak = jnp.broadcast_arrays(*as_floats(x, low, high, peak))
    at_or_below = x <= peak
    u = jnp.where(at_or_below, x - low, high - x)
    v = jnp.where(at_or_below, peak - low, high - peak)
    other = jnp.where(at_or_below, high - peak, peak - low)
    gap = jnp.where(at_or_below, peak - x, x - peak)
    width = high - low
    outer = log_over(u, width) + log_over(u, v)
    inner = divide(other, width) + divide(gap, width) * divide(u + v, v)
    rare = outer < -1.0
    rest = log1p(-jnp.exp(jnp.where(rare, outer, -1.0)))
    inner = jnp.where(rare, rest, jnp.log(jnp.where(rare, 1.0, inner)))
    return jnp.where(at_or_below, outer, inner), jnp.where(at_or_below, inner, outer)


# ---- the divergence ----
#
# With W, w the lengths of q and p and r <= 1 what q's density is of its greatest,
#
#     KL(p || q) = log(W / w) - 1/2 + E_p[-log r],    r = (x - L) / (C - L) below q's peak C.
#
# Below C p is linear on two pieces. On one of them, from x0 to x1, with t from 0 to 1, y = x - L and s =
# (x1 - x0) / y1, everything is made of positive
#
#     R_k = int t^k y1 / y dt,    int -log(y / y1) dt = s R_1,    int -t log(y / y1) dt = s R_2 / 2.
#
# A parameter of p moves the point x of a fixed probability at a speed v that is linear in x as well, and so
# are the slopes int p v / y dx. Above C all is mirrored.


class _Below(NamedTuple):
    """E_p[-log r] of the values below q's peak, its slopes in low, high and peak with the other sign, and in
    low_q; p's mass there over C - L; whether the slopes in low, peak and low_q are infinite.
    """

    surprise: Array
    low: Array
    high: Array
    peak: Array
    low_q: Array
    per_length: Array
    endless: Array


def _moments(y0: Array, y1: Array, step: Array) -> tuple[Array, ...]:
    """int_0^1 t^k y1 / (y0 + step t) dt, k = 0, 1, 2, for y1 = y0 + step; at y0 = 0, where the first is infinite,
    it counts as 0.
    """
    rest, s = divide(y0, y1), divide(step, y1)
    near = s < 0.5
    w = jnp.where(near, s, 0.0)
    nodes, weights = gauss_legendre(terms(s, 6, 12))
    at = w[..., None] * (nodes - 1.0).astype(s.dtype) + 1.0
    close = [jnp.sum((weights * nodes**k).astype(s.dtype) / at, -1) for k in range(3)]
    none = near | (rest == 0)
    w = jnp.where(near, 1.0, s)
    far = -jnp.log(jnp.where(none, 1.0, rest)) / w
    first = (1.0 - rest * far) / w
    second = (0.5 - rest * first) / w
    return tuple(jnp.where(near, a, b) for a, b in zip(close, (far, first, second), strict=True))


def _speeds(x: Array, low: Array, high: Array, peak: Array) -> tuple[Array, ...]:
    """(x - low) / (peak - low) for low <= x <= peak, and the speeds of x with low, high and peak."""
    width, side = high - low, jnp.where(low == peak, 1.0, peak - low)
    share = divide(x - low, side)
    own = 0.5 * (divide(peak - x, side) + divide(high - x, width))
    return share, own, 0.5 * divide(x - low, width), 0.5 * share


def _below(low: Array, high: Array, peak: Array, low_q: Array, peak_q: Array) -> _Below:
    """`_Below`, 0 of an empty side."""
    width, length = high - low, peak_q - low_q
    none = length == 0
    length = jnp.where(none, 1.0, length)
    total = [jnp.zeros_like(low)] * 6
    for rising, start, end in ((True, low, peak), (False, peak, high)):
        stop = jnp.where(end < peak_q, end, peak_q)
        there = start < stop
        step = jnp.where(there, stop - start, 1.0)
        y0, y1 = jnp.where(there, start - low_q, 1.0), jnp.where(there, stop - low_q, 2.0)
        ends = []
        for x in (start, stop):
            if rising:
                share, in_low, in_high, in_peak = _speeds(x, low, high, peak)
            else:
                share, in_high, in_low, in_peak = _speeds(-x, -high, -low, -peak)
            mass = 2.0 * divide(step, width) * share
            ends.append((mass, (in_low, in_high, in_peak, divide(peak_q - x, length))))
        (m0, v0), (m1, v1) = ends
        r0, r1, r2 = _moments(y0, y1, step)
        mass = 0.5 * (m0 + m1)
        surprise = divide(step, y1) * (m0 * (r1 - 0.5 * r2) + 0.5 * m1 * r2)
        parts = [surprise - mass * log_over(y1, length)]
        for a, b in zip(v0, v1, strict=True):
            first = a * ((r0 - r1) - (r1 - r2)) + b * (r1 - r2)
            last = a * (r1 - r2) + b * r2
            parts.append(divide(m0 * first + m1 * last, y1))
        parts.append(divide(mass, length))
        total = [t + jnp.where(there, part, 0.0) for t, part in zip(total, parts, strict=True)]
    # Of a q that begins with its peak, as that moves into p: p's density there.
    onto = jnp.where(low_q == peak, divide(2.0, width), 0.0)
    per_length = jnp.where(none, onto, total.pop())
    # p begins with its peak where q begins with 0.
    endless = (peak == low) & (low == low_q) & ~none
    return _Below(*total, per_length, endless)


def _both(low, high, peak, low_q, high_q, peak_q):
    above = _below(-high, -low, -peak, -high_q, -peak_q)
    return _below(low, high, peak, low_q, peak_q), above


@jax.custom_jvp
def _divergence(low, high, peak, low_q, high_q, peak_q):
    below, above = _both(low, high, peak, low_q, high_q, peak_q)
    surprise = below.surprise + above.surprise
    divergence = log_over(high_q - low_q, high - low) + (surprise - 0.5)
    return jnp.where(divergence < 0, 0.0, divergence)  # by rounding


@_divergence.defjvp
def _divergence_jvp(primals, tangents):
    low, high, _, low_q, high_q, _ = primals
    below, above = _both(*primals)
    own, theirs = divide(1.0, high - low), divide(1.0, high_q - low_q)
    first, last = below.endless, above.endless
    slopes = (
        jnp.where(first, 0.0, own - below.low + above.high),
        jnp.where(last, 0.0, above.low - below.high - own),
        jnp.where(first | last, 0.0, above.peak - below.peak),
        jnp.where(first, 0.0, below.low_q - theirs),
        jnp.where(last, 0.0, theirs - above.low_q),
        below.per_length - above.per_length,
    )
    return _divergence(*primals), sum(map(jnp.multiply, slopes, tangents))


def triangular_divergence(
    low: ArrayLike,
    high: ArrayLike,
    peak: ArrayLike,
    low_q: ArrayLike,
    high_q: ArrayLike,
    peak_q: ArrayLike,
) -> Array:
    """KL of a triangular density from another one, to a few roundings of 1; inf, with slopes of 0, where the
    first interval is not inside the second.

    Slopes at an end that both have are those to the side on which the divergence is finite. Those in it and in
    the first peak are infinite where that is at this end and the second one is not, which counts as 0.
    """
    values = as_floats(low, high, peak, low_q, high_q, peak_q)
    low, high, peak, low_q, high_q, peak_q = jnp.broadcast_arrays(*values)
    outside = (low < low_q) | (high > high_q)
    theirs = (jnp.where(outside, a, b) for a, b in ((low, low_q), (high, high_q), (peak, peak_q)))
    divergence = jnp.where(outside, jnp.inf, _divergence(low, high, peak, *theirs))
    return passing_nan(divergence, *values)
