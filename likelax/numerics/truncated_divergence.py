"""The Kullback-Leibler divergence of two Normals, each kept to an interval.

With p on an interval inside that of q, by the chain rule,

    KL(p || q) = -log Q(p's interval) + log E_p[exp(g - E_p g)],    g = log of q over p, up to a constant,

whose second term is log(1 + E_p[exp(c) - 1 - c]) of the centred c = g - E_p g: nothing in either term
has two signs, so that of neighbours it keeps its digits, and so do its slopes. Far apart, where q may
be no more than a spike among the nodes, it is q's surprise less p's entropy, which do not cancel there.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._chebyshev import gauss_legendre
from likelax.numerics._rules import terms
from likelax.numerics.divergences import exp_excess
from likelax.numerics.logspace import as_floats, divide, log1p, passing_nan, standardize
from likelax.numerics.pairs import log_over
from likelax.numerics.truncated_normal import (
    _density,
    _from_end,
    _integrals,
    _reflected,
    _whole,
    truncated_normal_log_tails,
)

_SQRT_2PI = math.sqrt(2.0 * math.pi)
# Up to here p's nodes reach all of q's mass, and q's density there is as smooth as p's.
_NEAR = 0.1


def _mass_below(x: Array, low: Array, high: Array, loc: Array, scale: Array) -> Array:
    """P(X < x) of a Normal kept to [low, high], low <= x <= high, with its slopes at x = low as well."""
    a, t = standardize(low, loc, scale), divide(x - low, scale)
    close = jnp.isfinite(low) & (t <= 1.5) & (jnp.abs(t * (a + 0.5 * t)) <= 1.0)
    a_in, gap = jnp.where(close, a, 0.0), jnp.where(close, x - low, 0.0)
    area = gap * _integrals(a_in, divide(gap, scale))[0]
    some = jnp.where(jnp.isinf(low), jnp.where(jnp.isinf(high), loc, high), low)
    near = area * _density(some, low, high, loc, scale)
    inside = ~close & jnp.isfinite(x)
    tail = truncated_normal_log_tails(jnp.where(inside, x, some), low, high, loc, scale)[0]
    return jnp.where(close, near, jnp.where(inside, jnp.exp(tail), 0.0))


def _span(a: Array, w: Array) -> tuple[Array, Array, Array]:
    """Where p's density counts, in its scales: the start in [a, a + w], the length, and whether that is
    less than all.
    """
    fall = terms(a, 32, 64)  # of the log-density, to the end of the nodes
    most = math.sqrt(2.0 * fall)
    early = a < -most
    start = jnp.where(early, -most, a)
    beside = jnp.maximum(start, 0.0)
    room = jnp.maximum(-start, 0.0) + 2.0 * fall / (beside + jnp.sqrt(beside**2 + 2.0 * fall))
    endless = jnp.isinf(w)
    a_in, w_in = jnp.where(early & ~endless, a, 0.0), jnp.where(endless, 1.0, w)
    left = jnp.where(endless, jnp.inf, jnp.where(early, (a_in + w_in) + most, w_in))
    late = left > room
    return start, jnp.where(late, room, left), early | late


def truncated_normal_divergence(
    low: ArrayLike,
    high: ArrayLike,
    loc: ArrayLike,
    scale: ArrayLike,
    low_q: ArrayLike,
    high_q: ArrayLike,
    loc_q: ArrayLike,
    scale_q: ArrayLike,
) -> Array:
    """KL of a Normal(loc, scale) kept to [low, high] from a Normal(loc_q, scale_q) kept to [low_q,
    high_q]; inf, with slopes of 0, where the first interval is not inside the second. Ends may be infinite.
    """
    floats = as_floats(low, high, loc, scale, low_q, high_q, loc_q, scale_q)
    values = jnp.broadcast_arrays(*floats)
    low, high, _, _, low_q, high_q, _, _ = values
    outside = (low < low_q) | (high > high_q)
    # Nothing moves what is infinite, wherever the two are.
    held = (jnp.where(outside, a, b) for a, b in zip(2 * (0.0, 1.0, 0.0, 1.0), values, strict=True))
    divergence = jnp.where(outside, jnp.inf, _divergence(*held))
    return passing_nan(divergence, *values)


def _divergence(low, high, loc, scale, low_q, high_q, loc_q, scale_q):
    # Points of p are u of its scales from an origin, its nearer end or its mode; y of q's scales.
    flip, a, _, _, _, w = _reflected(low, low, high, loc, scale)
    start, length, cut = _span(a, w)
    beside = a >= 0
    end = jnp.where(flip, high, low)
    finite = jnp.where(jnp.isinf(end), loc, end)
    origin = jnp.where(beside, finite, loc)
    sign = jnp.where(flip, -1.0, 1.0).astype(a.dtype)
    first = jnp.where(cut & (a < start), scale * start, sign * (finite - loc))
    first, from_origin = jnp.where(beside, 0.0, first), jnp.where(beside, 0.0, start)
    span = jnp.where(cut, scale * length, jnp.where(cut, 1.0, high) - jnp.where(cut, 0.0, low))

    flip_q, b, _, _, _, w_q = _reflected(low_q, low_q, high_q, loc_q, scale_q)
    from_end = _from_end(b, w_q)
    # A q so narrow that half the square of p's distance in its scales is no float is held where it is one:
    # the terms of the surprise would be infinities of either sign.
    distance = jax.lax.stop_gradient(jnp.where(from_end, 0.0, jnp.abs(origin - loc_q)))
    least = distance / (1.39 * math.sqrt(jnp.finfo(a.dtype).max))
    scale_q = jnp.where(scale_q < least, least, scale_q)

    nodes, weights = (jnp.asarray(v, a.dtype) for v in gauss_legendre(terms(a, 32, 56)))
    u = from_origin[..., None] + length[..., None] * nodes
    y = divide(first, scale_q)[..., None] + divide(span, scale_q)[..., None] * nodes
    a_p = jnp.where(beside, a, 0.0)
    a_q = sign * standardize(origin, loc_q, scale_q)
    energy = u * (a_p[..., None] + 0.5 * u)
    parts = weights * jnp.exp(-energy)
    total = jnp.sum(parts, -1)
    share = parts / total[..., None]

    # Apart.
    end_q = jnp.where(from_end, jnp.where(flip_q, high_q, low_q), origin)
    away = divide(jnp.where(flip_q, end_q - origin, origin - end_q), scale_q)
    begun = jnp.where(from_end, away * (jnp.where(from_end, b, 0.0) + 0.5 * away), 0.5 * a_q**2)
    energy_q = y * (a_q[..., None] + 0.5 * y)
    whole = _whole(b, w_q) * jnp.where(from_end, 1.0, _SQRT_2PI)
    apart = _log_quotient(scale_q, whole, span, total)
    apart = apart + (begun + jnp.sum(share * (energy_q - energy), -1))

    # Near: from the difference of the two, exact where they are neighbours.
    near = jax.lax.stop_gradient(apart) < _NEAR
    close = jnp.abs(scale - scale_q) < 0.5 * scale_q
    ratio = divide(jnp.where(close, scale - scale_q, 0.0), scale_q)
    shift = jnp.where(close, sign * standardize(loc, loc_q, scale_q) + a_p * ratio, a_q - a_p)
    stretch = jnp.where(close[..., None], u * ratio[..., None], y - u)
    g = stretch * (a_q[..., None] + 0.5 * (y + u)) + u * shift[..., None]
    g = jnp.where(near[..., None], g, 0.0)
    center = jnp.sum(share * g, -1, keepdims=True)
    inside = log1p(jnp.sum(share * exp_excess(center - g), -1))
    beyond = _mass_below(low, low_q, high_q, loc_q, scale_q)
    beyond = beyond + _mass_below(-high, -high_q, -low_q, -loc_q, scale_q)
    beyond = jnp.where(near, beyond, 0.0)
    return jnp.where(near, inside - log1p(-beyond), apart)


def _log_quotient(a: Array, b: Array, c: Array, d: Array) -> Array:
    """log(a b / (c d)), also where a product underflows."""
    top, bottom = a * b, c * d
    lost = jnp.minimum(top, bottom) < jnp.finfo(top.dtype).tiny
    logs = log_over(a, c) + log_over(b, d)
    return jnp.where(lost, logs, log_over(jnp.where(lost, 1.0, top), jnp.where(lost, 1.0, bottom)))
