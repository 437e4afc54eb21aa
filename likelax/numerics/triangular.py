"""The triangular density and its tails, by distances to the ends and to the peak.

On each side of the peak with u the distance from x to the end of that side, v that of the peak, o
the length of the other side, w = v + o and d = v - u,

    log p = log(u / v) + log(2 / w),   outer tail = u^2 / (w v),   inner tail = o / w + d (u + v) / (w v),

all of positive parts. Conventions: element by element with broadcasting, in float32 or wider; NaN in
gives NaN out; low <= x, peak <= high. On an end, where the density is 0, all slopes are taken as 0, and
at the peak, a kink, those in x and in the peak; at a peak on an end that in x is the inner one.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._rules import with_partials
from likelax.numerics.logspace import as_floats, divide, log1p
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
    return jnp.where(u == 0, -jnp.inf, inside)


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
