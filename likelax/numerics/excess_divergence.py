"""The Kullback-Leibler divergence of two generalised Paretos.

With the first from loc on, where the second's excesses are a generalised Pareto of scale g = scale_q + k (loc -
loc_q) and the same index k, by the chain rule

    KL(p || q) = -log Q(X > loc) + log(g / scale) - 1 - xi + (1 + k) b phi(xi, k b),    b = scale / g,

where, of the standard depth t, whose density is exp(-t), and z(t) = (exp(xi t) - 1) / xi,

    phi(xi, c) = E[log(1 + c z)] / c = int_0^inf exp(-t) / D(t) dt,    D(t) = exp(-xi t) + c (1 - exp(-xi t)) / xi

(a hypergeometric function, 2F1(1, 1; 1 + 1/xi; 1 - c/xi)). An index below 0 is one above it, of

    xi' = -xi / (1 - xi),    c' = (c - xi) / (1 - xi),    phi(xi, c) = phi(xi', c') / (1 - xi),

whose c' >= 0 wherever q's support holds p's: everything under the integral is positive, and so are its slopes.
It turns at 1/c, at 1/xi and about where exp(xi t) = xi/c. In log(1 + c t), for c >= xi, and in log(1 + xi y), y = log(1
+ c z)/c, for c < xi, it is as smooth near all of them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._chebyshev import gauss_legendre
from likelax.numerics._rules import terms, with_partials
from likelax.numerics._steep_divergence import LEAST, Steep, steep
from likelax.numerics.divergences import exp_excess, ratio_excess
from likelax.numerics.extremes import tail_depth
from likelax.numerics.logspace import (
    as_floats,
    divide,
    finite,
    inverse,
    log1p,
    passing_nan,
    power_of_two,
)
from likelax.numerics.pairs import (
    Pair,
    log_over,
    pair_minus,
    pair_sum,
    pair_times,
    rounded,
    two_sum,
    word,
)

_BEND = 3.0  # the depth at which one rule ends and the next begins


@with_partials(lambda w: -_share_slope(w))
def _share(w: Array) -> Array:
    """(1 - exp(-w)) / w, 1 at 0."""
    none = w == 0
    return jnp.where(none, 1.0, -jnp.expm1(-w) / jnp.where(none, 1.0, w))


def _share_slope(w: Array) -> Array:
    """(1 - (1 + w) exp(-w)) / w^2 for w >= 0, 1/2 at 0."""
    near, late = w < 1e-8, w > 1.0
    v = jnp.where(near | late, 1.0, w)
    close = jnp.exp(-v) * exp_excess(v) / (v * v)
    v = jnp.where(late, w, 1.0)
    far = (1.0 - (1.0 + v) * jnp.exp(-v)) / v / v
    return jnp.where(near, 0.5 - w / 3.0, jnp.where(late, far, close))


def _nodes(xi: Array, c: Array) -> tuple[Array, Array, Array]:
    """Depths t on a new last axis, their weights, and whether these are of y, dt = D dy."""
    reach = terms(xi, 18, 38)  # of exp(-t), to the end of the nodes
    (first, w_first), (second, w_second) = (
        [jnp.asarray(v, xi.dtype) for v in gauss_legendre(n)]
        for n in (terms(xi, 40, 88), terms(xi, 12, 36))
    )
    xi, c, tiny = xi[..., None], c[..., None], 1e-25
    in_y = c < xi
    # Depth itself in units of 1, and y in units of xi / c.
    rate = jnp.where(in_y, xi, c)
    rate = jnp.where(rate > tiny, rate, tiny)
    unit = jnp.where(in_y, divide(xi, jnp.where(c > tiny, c, tiny)), 1.0)
    span = log1p(rate * _BEND * unit)
    # Of a small xi exp(-t) falls before that, and with it what the slopes integrate.
    falls = in_y & (xi < 0.49)
    fall = reach * divide(xi, 1.0 - 2.0 * jnp.where(falls, xi, 0.0))
    span = jnp.where(falls & (fall < span), fall, span)
    r = span * first
    near, near_weight = jnp.expm1(r) / rate, jnp.exp(r) / rate * (span * w_first)
    far, far_weight = unit * (_BEND + (reach - _BEND) * second), unit * ((reach - _BEND) * w_second)
    at = jnp.concatenate([near, far], -1)
    # xi t = c y + log(1 + (xi - c) (1 - exp(-c y)) / c).
    y = jnp.where(in_y, at, 1.0)
    c, gap = jnp.where(in_y, c, 0.0), jnp.where(in_y, xi - c, 0.0)
    depth = divide(c * y + log1p(gap * y * _share(c * y)), jnp.where(in_y, xi, 1.0))
    return jnp.where(in_y, depth, at), jnp.concatenate([near_weight, far_weight], -1), in_y


class _Phi(NamedTuple):
    """phi, its slopes in xi and c, and c times the latter; phi + c times it: all times c, where that is above 1.
    And E[1 / (1 + c z)].
    """

    phi: Array
    in_xi: Array
    in_c: Array
    in_log_c: Array
    grown: Array
    kept: Array


def _phi(xi: Array, c: Array) -> _Phi:
    """For xi, c >= 0; what is infinite, at c = 0, as 0."""
    none = c == 0
    # The integral is the same wherever the nodes are.
    t, weight, in_y = _nodes(*map(jax.lax.stop_gradient, (xi, jnp.where(none, 1.0, c))))
    index, ratio = xi[..., None], jnp.where(none, 1.0, c)[..., None]
    w = index * t
    e, h = jnp.exp(-w), t * _share(w)
    d = e + ratio * h
    # With c, as 1 / c may be as small as c in_c is.
    unit = jnp.where(ratio > 1.0, ratio, 1.0)
    density = jnp.exp(-t) * weight * unit
    density = divide(jnp.where(in_y, density * jax.lax.stop_gradient(d), density), d)
    rise = t * (e + ratio * t * _share_slope(w))
    # With the density first: without it the squares that slopes of h / d have overflow.
    over = (divide(density * part, d) for part in (rise, -h, -ratio * h, e))
    sums = [jnp.sum(part, -1) for part in (density, *over, density / unit * e)]
    # At c = 0 moments of z.
    mean = divide(1.0, 1.0 - jnp.where(xi < 1.0, xi, 0.0))
    finite = xi < 0.5
    square = jnp.where(finite, -mean / (1.0 - 2.0 * jnp.where(finite, xi, 0.0)), 0.0)
    moments = mean, mean * mean, square, jnp.zeros_like(mean), mean, jnp.ones_like(mean)
    return _Phi(*(jnp.where(none, a, b) for a, b in zip(moments, sums, strict=True)))


def _scale_from(loc: Array, loc_q: Array, scale_q: Array, k: Array) -> Pair:
    """q's scale of excesses over p's loc."""
    return pair_sum(word(scale_q), pair_times(k, two_sum(loc, -loc_q)))


def _reflected(
    scale: Array, g: Pair, xi: Array, k: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """Whether xi is below 0; the index and c of phi; the factor before it; c - xi times g in some unit."""
    flip = xi < 0
    # Times a reciprocal: of a quotient of quotients XLA makes one of products, which leave the floats.
    unit = inverse(power_of_two(g[0], jnp.minimum(scale, g[0]), jnp.maximum(scale, g[0])))
    scale, g = unit * scale, (unit * g[0], unit * g[1])
    room = rounded(pair_sum(pair_times(k, word(scale)), pair_minus(pair_times(xi, g))))
    shrink = divide(1.0, jnp.where(flip, 1.0 - xi, 1.0))
    index = jnp.where(flip, -xi * shrink, xi)
    c = jnp.where(flip, divide(room, g[0]) * shrink, k * divide(scale, g[0]))
    return flip, index, c, shrink, room


class _Inner(NamedTuple):
    """What the integral is taken for where it is, and numbers elsewhere."""

    scale: Array
    g: Pair
    xi: Array
    k: Array
    over: Array


def _inner(scale: Array, g: Array, g_low: Array, xi: Array, k: Array) -> _Inner:
    """Where c is beyond all that 1 and -xi count for beside it the logarithm of 1 + c z is that of c and of z: a smaller
    scale, of the c where this begins, has all but a logarithm over k.
    """
    most = _most(xi)
    log_c = log_over(jnp.where(k > 0, k, 1.0), most) + log_over(scale, g)
    full = (k > 0) & (log_c > 0)
    over = jnp.where(full, log_c, 0.0)
    is_steep = _is_steep(xi, k)
    scale = jnp.where(
        is_steep, 1.0, jnp.where(full, divide(most, jnp.where(full, k, 1.0)) * g, scale)
    )
    pair = jnp.where(is_steep, 1.0, g), jnp.where(is_steep, 0.0, g_low)
    xi, k = jnp.where(is_steep, 1.0, xi), jnp.where(is_steep, 1.0, k)
    return _Inner(scale, pair, xi, k, over)


def _most(xi: Array) -> Array:
    """A c beside which 1 and -xi count for nothing."""
    return 10.0 ** terms(xi, 12, 20) * (1.0 - jnp.where(xi < 0, xi, 0.0))


def _is_steep(xi: Array, k: Array) -> Array:
    """Whether xi is large, and would be that of which little is left."""
    return (xi >= LEAST) & (k > 0)


def _steep(scale: Array, g: Array, xi: Array, k: Array) -> tuple[Array, Array, Array, Array, Steep]:
    """For an index as large as `_is_steep` says the divergence, its slopes in xi, log b and k, and its parts."""
    is_steep = _is_steep(xi, k)
    xi, k = jnp.where(is_steep, xi, LEAST), jnp.where(is_steep, k, 1.0)
    log_b = log_over(jnp.where(is_steep, scale, 1.0), jnp.where(is_steep, g, 1.0))
    log_rho = log_over(k, xi) + log_b
    at = steep(xi, log_rho)
    # Where log rho is below -xi little is left of all that is in proportion to 1 / k, and else of all that is not.
    small = log_rho < -xi
    half = log_rho + at.rest
    near = ratio_excess(xi, k) + at.rest + divide(half, k)
    far = (at.whole - (xi + log_b + 1.0)) + divide(at.whole, k)
    lost = at.whole_in_xi - divide(at.lost, xi)
    less = jnp.where(small, lost - 1.0, at.rest_in_xi - divide(at.lost, xi))
    in_xi = less + divide(jnp.where(small, lost, 1.0 + less), k)
    in_log_b = divide(at.lost, k) - at.kept
    grown = jnp.where(at.spread > 0, divide(at.spread, jnp.exp(log_b)), k * at.kept)
    in_k = jnp.where(small, (1.0 + k) * at.lost - at.whole, ((k - xi) - half) + (at.lost - grown))
    # Not over k twice, of which XLA makes its square.
    in_k = finite(divide(in_k, k)) * inverse(k)
    return jnp.where(small, far, near), in_xi, in_log_b, in_k, at


@jax.custom_jvp
def _excess_divergence(scale: Array, g: Array, g_low: Array, xi: Array, k: Array) -> Array:
    steep_divergence = _steep(scale, g, xi, k)[0]
    is_steep = _is_steep(xi, k)
    scale, pair, xi, k, over = _inner(scale, g, g_low, xi, k)
    _, index, c, shrink, _ = _reflected(scale, pair, xi, k)
    b = divide(divide(scale, pair[0]), jnp.where(c > 1.0, c, 1.0))
    rest = (1.0 + k) * (b * (shrink * _phi(index, c).phi)) - (1.0 + xi)
    divergence = (log_over(pair[0], scale) + rest) + divide(over, jnp.where(over > 0, k, 1.0))
    divergence = jnp.where(is_steep, steep_divergence, divergence)
    return jnp.where(divergence < 0, 0.0, divergence)  # by rounding


@_excess_divergence.defjvp
def _excess_divergence_jvp(primals, tangents):
    is_steep = _is_steep(*primals[3:])
    _, *steep_slopes, _ = _steep(primals[0], primals[1], *primals[3:])
    scale, g, xi, k, over = _inner(*primals)
    flip, index, c, shrink, _ = _reflected(scale, g, xi, k)
    phi = _phi(index, c)
    b = divide(scale, g[0])
    large = c > 1.0
    some = jnp.where(large, c, 1.0)

    def in_c(factor: Array) -> Array:
        """The slope in c times a factor, where that may be large and the slope small."""
        return jnp.where(large, phi.in_log_c * divide(factor, some), phi.in_c * factor)

    # By the chain rule, from c' and xi' to c and xi.
    turned = shrink * (shrink * ((phi.grown - in_c(jnp.ones_like(c))) - shrink * phi.in_xi))
    in_xi = jnp.where(flip, turned, phi.in_xi)
    in_k = shrink * shrink * in_c(b)
    grown = shrink * (phi.grown - jnp.where(flip, in_c(index), 0.0))
    b = divide(b, some)
    full = jnp.where(over > 0, k, 1.0)
    usual = (
        (1.0 + k) * b * in_xi - 1.0,
        (1.0 + k) * b * grown - 1.0,
        b * grown + b * in_k - divide(over, full) * inverse(full),
    )
    in_xi, in_log_b, in_k = (
        jnp.where(is_steep, a, b) for a, b in zip(steep_slopes, usual, strict=True)
    )
    scale, g, *_ = primals
    slopes = (
        divide(in_log_b, scale),
        -finite(divide(in_log_b, g)),
        jnp.zeros_like(g),
        in_xi,
        in_k,
    )
    return _excess_divergence(*primals), sum(map(jnp.multiply, slopes, tangents))


def _loc_slope(scale: Array, g: Array, g_low: Array, xi: Array, k: Array) -> Array:
    """(1 + k) / g E[1 / (1 + k b z)]: how the divergence grows with p's loc, and falls with q's.

    With an index below 0 the mean is (c phi - xi) / (c - xi), c = k b, as E[log(1 + c z)] by parts is c E[1 / (1 + c
    z)] + xi E[c z / (1 + c z)], or for c < 0 one more than -c E[z / (1 + c z)]: nothing cancels.
    """
    is_steep, at = _is_steep(xi, k), _steep(scale, g, xi, k)[-1]
    whole, start, k_of_all = scale, g, k
    scale, pair, xi, k, over = _inner(scale, g, g_low, xi, k)
    flip, index, c, shrink, _ = _reflected(scale, pair, xi, k)
    g = pair[0]
    phi = _phi(index, c)
    b = divide(scale, g)
    large = c > 1.0
    some = jnp.where(large, c, 1.0)
    rises = flip & (k > 0)
    own = jnp.where(rises & large, 1.0 - divide(index, some), jnp.where(large, 0.0, k * b) * shrink)
    ends = divide(shrink * own * phi.phi + index, jnp.where(rises, c, 1.0))
    falls = flip & ~rises
    grown = phi.grown - jnp.where(large, phi.in_log_c * divide(index, some), phi.in_c * index)
    loss = jnp.where(falls, k * divide(b, some), 0.0)
    kept = jnp.where(rises, ends, jnp.where(falls, 1.0 - loss * shrink * grown, phi.kept))
    slope = divide((1.0 + k) * kept, g)
    # (1 + k) / c = (1 + 1/k) / b, and c times what is kept grows by log c.
    full = jnp.where(over > 0, k, 1.0)
    slope = jnp.where(
        over > 0, divide((1.0 + divide(1.0, full)) * (_most(xi) * kept + over), whole), slope
    )
    grown = jnp.where(at.spread > 0, divide(at.spread, whole), divide(k_of_all * at.kept, start))
    slope = jnp.where(is_steep, divide(at.kept, start) + grown, slope)
    return finite(slope)


@jax.custom_jvp
def _excess_scale(loc: Array, loc_q: Array, scale_q: Array, k: Array) -> Pair:
    return _scale_from(loc, loc_q, scale_q, k)


@_excess_scale.defjvp
def _excess_scale_jvp(primals, tangents):
    (loc, loc_q, _, k), (dloc, dloc_q, ds, dk) = primals, tangents
    g = _excess_scale(*primals)
    return g, (ds + k * (dloc - dloc_q) + (loc - loc_q) * dk, jnp.zeros_like(ds))


@jax.custom_jvp
def _divergence(
    loc: Array, loc_q: Array, scale: Array, scale_q: Array, xi: Array, k: Array
) -> Array:
    g = _excess_scale(loc, loc_q, scale_q, k)
    return tail_depth(loc, loc_q, scale_q, k) + _excess_divergence(scale, *g, xi, k)


@_divergence.defjvp
def _divergence_jvp(primals, tangents):
    (loc, loc_q, scale, scale_q, xi, k), (dloc, dloc_q, *rest) = primals, tangents

    def without_locs(scale, scale_q, xi, k):
        g = _excess_scale(loc, loc_q, scale_q, k)
        return tail_depth(loc, loc_q, scale_q, k) + _excess_divergence(scale, *g, xi, k)

    divergence, change = jax.jvp(without_locs, (scale, scale_q, xi, k), tuple(rest))
    slope = _loc_slope(scale, *_excess_scale(loc, loc_q, scale_q, k), xi, k)
    return divergence, change + slope * (dloc - dloc_q)


def generalized_pareto_divergence(
    loc: ArrayLike,
    scale: ArrayLike,
    xi: ArrayLike,
    loc_q: ArrayLike,
    scale_q: ArrayLike,
    k: ArrayLike,
) -> Array:
    """KL of a generalised Pareto of index xi from one of index k, to a few roundings of itself or of 1. It is inf, with
    slopes of 0, where p's support is not inside q's, and for k = 0, an exponential tail, where p's mean is infinite.

    Slopes at an end that both have are those to the side on which the divergence is finite. Infinite ones count as
    0: all at a common upper end of xi <= -1, and the infinite part of that in k at 0 where p has no variance. From
    xi >= 1 to 0 < k < 1e-24 in float32 the value levels off.
    """
    values = jnp.broadcast_arrays(*as_floats(loc, scale, xi, loc_q, scale_q, k))
    loc, scale, xi, loc_q, scale_q, k = values
    # In a unit of which q's scale of excesses is a float.
    far = jax.lax.stop_gradient(jnp.abs(k) * jnp.abs(loc - loc_q)) > 2.0**100
    unit = jnp.where(far, 2.0**-40, 1.0).astype(loc.dtype)
    loc, scale, loc_q, scale_q = unit * loc, unit * scale, unit * loc_q, unit * scale_q
    g = _scale_from(loc, loc_q, scale_q, k)
    room = _reflected(scale, g, xi, k)[-1]
    outside = (loc < loc_q) | (g[0] <= 0) | jnp.where(xi < 0, room < 0, k < 0)
    outside |= (k == 0) & (xi >= 1)
    pairs = (loc, loc_q), (scale, scale_q), (jnp.where(xi < 0, xi, 1.0), k)
    loc_q, scale_q, k = (jnp.where(outside, a, b) for a, b in pairs)
    divergence = _divergence(loc, loc_q, scale, scale_q, xi, k)
    endless = (xi <= -1) & (room == 0)
    same = jnp.where(endless, -xi, 1.0), jnp.where(endless, -k, 1.0)
    level = tail_depth(loc, loc_q, scale_q, k) + ratio_excess(*same)
    divergence = jnp.where(endless, jax.lax.stop_gradient(level), divergence)
    divergence = jnp.where(outside, jnp.inf, divergence)
    return passing_nan(divergence, *values)
