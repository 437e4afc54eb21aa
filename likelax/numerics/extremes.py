"""The generalised Pareto and the generalised extreme values: log-densities in t = log1p(xi z) / xi.

With z = (x - loc) / scale, d = x - loc and u = 1 + xi z, t is z at xi = 0, and everything about both
families is a short formula in the frame

    t,   log u,   y = z / u,   rate = 1 / (scale u) = dt/dx,   bend = dt/dxi = (y - t) / xi,

which is closed under differentiation. What a rounding would spoil is carried in two floats
(`pairs`): scale + xi d, which vanishes at the end of the support, and t, which exp(-t) and sums with
logarithms magnify. Near xi z = 0 bend is an integral of what does not change its sign,

    bend = -z^2 int_0^1 v / (1 + xi z v)^2 dv.

Conventions of the whole file: element by element with broadcasting, in float32 or wider; NaN in
gives NaN out. Where u <= 0 there is no density, and no slope. Where
|x - loc| / scale is no float, y and the slopes that it enters are held to the largest one.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._chebyshev import gauss_legendre
from likelax.numerics._rules import terms, with_partials
from likelax.numerics.logspace import along, as_floats, divide, finite, log1mexp, standardize
from likelax.numerics.pairs import (
    Pair,
    exp_pair,
    log_quotient,
    pair_minus,
    pair_over,
    pair_sum,
    pair_times,
    rounded,
    two_sum,
    word,
)

_HALF = 2.0**-70
_NEAR = 0.45  # |xi z| up to which integrals are taken by Gauss and Legendre's rule


class Frame(NamedTuple):
    """t and log u as pairs, and the slopes; where u <= 0 log u is -inf and the slopes are 0."""

    t: Array
    t_low: Array
    log_u: Array
    log_u_low: Array
    y: Array
    rate: Array
    bend: Array


def _growth(d: Pair, s: Array, xi: Array) -> tuple[Pair, Array, Array]:
    """scale + xi d, d and scale, all times a power of 2 that keeps them from overflowing."""
    half = jnp.where((jnp.abs(d[0]) > 2.0**60) & (xi != 0), _HALF, 1.0).astype(s.dtype)
    step, base = (half * d[0], half * d[1]), half * s
    return pair_sum(word(base), pair_times(xi, step)), step[0], base


def _by_integral(power: int, w: Array, near: Array) -> Array:
    """int_0^1 v^power / (1 + w v)^(power + 1) dv where near."""
    w = jnp.where(near, w, 0.0)
    total = jnp.zeros_like(w)
    nodes, weights = gauss_legendre(terms(w, 5, 11))
    for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
        total = total + (weight * node**power) * (1.0 + w * node) ** -(power + 1)
    return total


@jax.custom_jvp
def _frame(x: Array, loc: Array, s: Array, xi: Array) -> Frame:
    d = two_sum(x, -loc)
    (high, low), step, base = _growth(d, s, xi)
    dead = high <= 0
    high, low = jnp.where(dead, 1.0, high), jnp.where(dead, 0.0, low)
    # A scale that underflows there is taken as it was.
    lost = base < jnp.finfo(s.dtype).tiny
    unit = jnp.where(lost, -math.log(_HALF), 0.0).astype(s.dtype)
    log_u = pair_sum(log_quotient(high, jnp.where(lost, s, base)), word(low / high + unit))
    rest = 1.0 - low / high
    y = step / high * rest
    rate = jnp.where(lost, _HALF / high, (base / high) * rest / s)

    z = pair_over(d, s)
    w = xi * finite(z[0])
    small, near = jnp.abs(w) < 2.0**-6, jnp.abs(w) < _NEAR
    v, series = jnp.where(small, w, 0.0), jnp.zeros_like(w)
    for n in reversed(range(2, 2 + terms(w, 5, 10))):
        series = v * ((-1.0) ** (n + 1) / n + series)
    t_near = two_sum(z[0], jnp.where(jnp.isinf(z[0]), 0.0, z[1] + z[0] * series))
    t_near = t_near[0], jnp.where(jnp.isinf(z[0]), 0.0, t_near[1])
    t_far = pair_over(log_u, jnp.where(small, 1.0, xi))
    t, t_low = (jnp.where(small, a, b) for a, b in zip(t_near, t_far, strict=True))

    inner = jnp.where(near, z[0], 0.0)
    bend = jnp.where(
        near,
        -(inner * _by_integral(1, w, near)) * inner,
        ((y - t) - t_low) / jnp.where(near, 1.0, xi),
    )
    end = jnp.where(xi < 0, jnp.inf, -jnp.inf)
    pairs = (jnp.where(dead, end, t), t_low, jnp.where(dead, -jnp.inf, log_u[0]), log_u[1])
    lows = (jnp.where(dead, 0.0, a) for a in (t_low, log_u[1], finite(y), rate, finite(bend)))
    t_low, log_u_low, y, rate, bend = lows
    return Frame(pairs[0], t_low, pairs[2], log_u_low, y, rate, bend)


@_frame.defjvp
def _frame_jvp(primals, tangents):
    (x, loc, s, xi), (dx, dloc, ds, dxi) = primals, tangents
    frame = _frame(x, loc, s, xi)
    y, rate, bend = frame.y, frame.rate, frame.bend
    near = jnp.abs(xi * finite(standardize(x, loc, s))) < _NEAR
    z = jnp.where(near, standardize(x, loc, s), 0.0)
    square = finite(y * y)
    close = 2.0 * z * z * z * _by_integral(2, xi * z, near)
    twist = jnp.where(near, close, -divide(square + 2.0 * bend, jnp.where(near, 1.0, xi)))
    run = rate * (dx - dloc)
    move = run - finite(divide(y, s)) * ds
    none = jnp.zeros_like(move)
    return frame, Frame(
        t=move + bend * dxi,
        t_low=none,
        log_u=xi * move + y * dxi,
        log_u_low=none,
        y=s * rate * move - square * dxi,
        rate=-rate * (xi * run + rate * ds + y * dxi),
        bend=finite(twist) * dxi - y * move,
    )


def _framed(*args: ArrayLike) -> Frame:
    return _frame(*jnp.broadcast_arrays(*as_floats(*args)))


def tail_depth(x: ArrayLike, loc: ArrayLike, scale: ArrayLike, concentration: ArrayLike) -> Array:
    """t = log1p(xi z) / xi, z = (x - loc) / scale, xi = concentration; z at xi = 0."""
    return _framed(x, loc, scale, concentration).t


@jax.custom_jvp
def _decay(t: Array, t_low: Array) -> Array:
    """exp(-t)."""
    return exp_pair(pair_minus((t, t_low)))


@_decay.defjvp
def _decay_jvp(primals, tangents):
    decay = _decay(*primals)
    # Where it overflows its logarithm is an infinity that nothing moves.
    lost = (decay == jnp.inf) | (decay == 0)
    return decay, jnp.where(lost, 0.0, -decay) * jnp.where(lost, 0.0, tangents[0])


def tail_decay(x: ArrayLike, loc: ArrayLike, scale: ArrayLike, concentration: ArrayLike) -> Array:
    """exp(-t) = (1 + xi z)^(-1 / xi), to a few ulp also where |t| is large."""
    frame = _framed(x, loc, scale, concentration)
    return _decay(frame.t, frame.t_low)


@jax.custom_jvp
def _rise(t: Array, t_low: Array) -> Array:
    """1 - exp(-t); autodiff would take the exponential from it again."""
    return -jnp.expm1(-t)


@_rise.defjvp
def _rise_jvp(primals, tangents):
    return _rise(*primals), _decay(*primals) * tangents[0]


def tail_rise(x: ArrayLike, loc: ArrayLike, scale: ArrayLike, concentration: ArrayLike) -> Array:
    """1 - exp(-t)."""
    frame = _framed(x, loc, scale, concentration)
    return _rise(frame.t, frame.t_low)


# ---- log-densities ----
#
# -k(t) - log u - log scale with k = t or k = t + exp(-t), whose slope is m = 1 or m = 1 - exp(-t). The
# slopes are
#
#     -(m + xi) rate in x,   ((m + xi) y - 1) / scale in scale,   (t m - (m + xi) y) / xi in xi,
#
# the last one -(bend m + y) where xi z is small.


def _with_edge(frame: Frame, s: Array, xi: Array, decay: Array | float = 0.0) -> Array:
    """The log-density, with its limit at the upper end of a negative xi."""
    lost = (frame.log_u == -jnp.inf) | (frame.t == -jnp.inf)
    t, log_u = (jnp.where(lost, 0.0, a) for a in (frame.t, frame.log_u))
    log_s = log_quotient(s, jnp.ones_like(s))
    inside = pair_sum((log_u, frame.log_u_low), log_s, (t, frame.t_low))
    inside = pair_sum(word(jnp.where(lost, 0.0, decay) + jnp.zeros_like(t)), inside)
    return jnp.where(lost, -jnp.inf, -rounded(inside))


def _slopes(frame, x, loc, s, xi, less, lift):
    """In x, scale and xi, of m = 1 - less and m + xi = lift."""
    z = finite(standardize(x, loc, s))
    wide, near = xi * z >= 1.0, jnp.abs(xi * z) < _NEAR
    # u may overflow, xi y does not.
    pull = jnp.where(wide, frame.y * (1.0 - less) + xi * frame.y, frame.y * lift)
    lean = jnp.where(wide, divide(pull, jnp.where(wide, x - loc, 1.0)), frame.rate * lift)
    t = jnp.where(near, 0.0, frame.t)
    far = divide(t * (1.0 - less) - pull, jnp.where(near, 1.0, xi))
    close = -(frame.bend * (1.0 - less) + frame.y)
    return -lean, divide(pull - 1.0, s), jnp.where(near, close, far)


def _along(slopes, lost, tangents):
    dx, dloc, ds, dxi = tangents
    in_x, in_s, in_xi = (jnp.where(lost, 0.0, slope) for slope in slopes)
    moved = along((in_x, dx), (-in_x, dloc), (in_s, ds), (in_xi, dxi))
    return moved + jnp.zeros_like(in_x)


def _limit(frame, x, loc, s, xi):
    """Where u = 0 at a negative xi, and the density's limit there."""
    at_end = (frame.log_u == -jnp.inf) & (xi < 0)
    at_end &= _growth(two_sum(x, -loc), s, xi)[0][0] == 0
    return at_end, jnp.where(xi < -1, jnp.inf, jnp.where(xi == -1, -jnp.log(s), -jnp.inf))


def _at_height(args, slopes, lost, inner):
    """The slopes, 0 where lost, and at the end of xi = -1, a density of height 1 / scale, the `inner`
    ones in x and scale, times the scale; that in xi is infinite there.
    """
    x, loc, s, xi = args
    at_end, _ = _limit(_frame(*args), *args)
    ends = (divide(jnp.full_like(s, a), s) for a in inner)
    there = at_end & (xi == -1)
    in_x, in_s, in_xi = (jnp.where(lost, 0.0, slope) for slope in slopes)
    in_x, in_s = (jnp.where(there, b, a) for a, b in zip((in_x, in_s), ends, strict=True))
    return in_x, in_s, in_xi


@jax.custom_jvp
def _generalized_pareto(x: Array, loc: Array, s: Array, xi: Array) -> Array:
    frame = _frame(x, loc, s, xi)
    at_end, limit = _limit(frame, x, loc, s, xi)
    return jnp.where(at_end, limit, _with_edge(frame, s, xi))


def _generalized_pareto_jvp(primals, tangents):
    x, loc, s, xi = primals
    frame = _frame(*primals)
    lost = frame.log_u == -jnp.inf
    frame = Frame(*(jnp.where(lost, 0.0, a) for a in frame))
    slopes = _slopes(frame, x, loc, s, xi, jnp.zeros_like(x), 1.0 + xi)
    slopes = _at_height(primals, slopes, lost, (0.0, -1.0))
    return _generalized_pareto(*primals), _along(slopes, False, tangents)


_generalized_pareto.defjvp(_generalized_pareto_jvp, symbolic_zeros=True)


def generalized_pareto_log_pdf(
    x: ArrayLike, loc: ArrayLike, scale: ArrayLike, concentration: ArrayLike
) -> Array:
    """-t - log1p(xi z) - log(scale) for x >= loc, z = (x - loc) / scale, xi = concentration. At the
    upper end loc - scale / xi of a negative xi its limit, with slopes only at xi = -1; -inf beyond.
    """
    values = as_floats(x, loc, scale, concentration)
    return _generalized_pareto(*jnp.broadcast_arrays(*values))


@jax.custom_jvp
def _generalized_extreme_value(x: Array, loc: Array, s: Array, xi: Array) -> Array:
    frame = _frame(x, loc, s, xi)
    at_end, limit = _limit(frame, x, loc, s, xi)
    decay = _decay(frame.t, frame.t_low)
    lost = decay == jnp.inf
    inside = _with_edge(frame, s, xi, jnp.where(lost, 0.0, decay))
    return jnp.where(at_end, limit, jnp.where(lost, -jnp.inf, inside))


def _generalized_extreme_value_jvp(primals, tangents):
    x, loc, s, xi = primals
    frame = _frame(*primals)
    lost = (frame.log_u == -jnp.inf) | (_decay(frame.t, frame.t_low) == jnp.inf)
    frame = Frame(*(jnp.where(lost, 0.0, a) for a in frame))
    decay, early = _decay(frame.t, frame.t_low), frame.t < 1.0
    # m = 1 - exp(-t), which is all of it near t = 0, and m + xi with the smaller rest from 1.
    close = jnp.abs(frame.t) < 1.0
    m = jnp.where(close, -jnp.expm1(-jnp.where(close, frame.t, 0.0)), 1.0 - decay)
    lift = jnp.where(early, m + xi, (1.0 + xi) - jnp.where(early, 0.0, decay))
    slopes = _slopes(frame, x, loc, s, xi, 1.0 - m, lift)
    slopes = _at_height(primals, slopes, lost, (1.0, -2.0))
    return _generalized_extreme_value(*primals), _along(slopes, False, tangents)


_generalized_extreme_value.defjvp(_generalized_extreme_value_jvp, symbolic_zeros=True)


def generalized_extreme_value_log_pdf(
    x: ArrayLike, loc: ArrayLike, scale: ArrayLike, concentration: ArrayLike
) -> Array:
    """-exp(-t) - t - log1p(xi z) - log(scale), z = (x - loc) / scale, xi = concentration. At the
    upper end loc - scale / xi of a negative xi its limit, with slopes only at xi = -1; -inf beyond either end.
    """
    values = as_floats(x, loc, scale, concentration)
    return _generalized_extreme_value(*jnp.broadcast_arrays(*values))


# ---- the lower tail of the generalised Pareto ----


@jax.custom_jvp
def _log_lower(x: Array, loc: Array, s: Array, xi: Array) -> Array:
    t = _frame(x, loc, s, xi).t
    inside = ~(t <= 0)
    return jnp.where(inside, log1mexp(jnp.where(inside, t, 1.0)), -jnp.inf)


def _log_lower_jvp(primals, tangents):
    x, loc, s, xi = primals
    frame = _frame(*primals)
    t = frame.t
    inside = t > 0
    odds = jnp.expm1(jnp.where(inside, t, 1.0))
    z = finite(standardize(x, loc, s))
    near = jnp.abs(xi * z) < _NEAR
    z = jnp.where(near, z, 0.0)
    # bend = product of two small numbers, so each quotient comes first.
    close = -(z * _by_integral(1, xi * z, near)) * divide(z, odds)
    far = divide(divide(frame.y - jnp.where(jnp.isinf(t), 0.0, t), odds), jnp.where(near, 1.0, xi))
    in_x, in_s = divide(frame.rate, odds), -divide(divide(frame.y, odds), s)
    slopes = in_x, in_s, jnp.where(near, close, far)
    return _log_lower(*primals), _along(slopes, ~inside, tangents)


_log_lower.defjvp(_log_lower_jvp, symbolic_zeros=True)


def generalized_pareto_log_cdf(
    x: ArrayLike, loc: ArrayLike, scale: ArrayLike, concentration: ArrayLike
) -> Array:
    """log(1 - exp(-t)); -inf without slopes at loc."""
    return _log_lower(*jnp.broadcast_arrays(*as_floats(x, loc, scale, concentration)))


# ---- the end of the support, quantiles ----


def tail_end(loc: ArrayLike, scale: ArrayLike, concentration: ArrayLike) -> Array:
    """The first number, away from loc, that is not before the end loc - scale / xi: infinite at xi =
    0. Not differentiable.
    """
    values = jnp.broadcast_arrays(*as_floats(loc, scale, concentration))
    loc, s, xi = map(jax.lax.stop_gradient, values)
    none = xi == 0
    safe = jnp.where(none, -1.0, xi)
    end = rounded(pair_sum(word(loc), pair_minus(pair_over(word(s), safe))))
    away = jnp.where(safe < 0, jnp.inf, -jnp.inf)

    def passed(x):
        return _growth(two_sum(x, -loc), s, safe)[0][0] <= 0

    # The sum is rounded: one of it and its neighbours is the number.
    closer = jnp.nextafter(end, loc)
    end = jnp.where(passed(end), end, jnp.nextafter(end, away))
    return jnp.where(none, away, jnp.where(passed(closer), closer, end))


def _stretch_slope_xi(t, xi):
    w = xi * t
    near = jnp.abs(w) < 1.0
    v, total = jnp.where(near, w, 0.0), jnp.zeros_like(w)
    nodes, weights = gauss_legendre(terms(w, 5, 9))
    for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
        total = total + weight * node * jnp.exp(v * node)
    alone = jnp.where(near, 1.0, xi)
    far = divide(divide(jnp.exp(w) * (w - 1.0) + 1.0, alone), alone)
    return jnp.where(near, t * t * total, far)


@with_partials(lambda t, xi: jnp.exp(xi * t), _stretch_slope_xi)
def _stretch(t, xi):
    w = xi * t
    near = jnp.abs(w) < 1e-30
    return jnp.where(near, t, jnp.expm1(w) / jnp.where(near, 1.0, xi))


def tail_stretch(t: ArrayLike, concentration: ArrayLike) -> Array:
    """(exp(xi t) - 1) / xi, xi = concentration: z at the depth t."""
    return _stretch(*jnp.broadcast_arrays(*as_floats(t, concentration)))


@with_partials(lambda s, a: divide(1.0, s), lambda s, a: jnp.ones_like(a))
def _log_plus(s, a):
    return rounded(pair_sum(log_quotient(s, jnp.ones_like(s)), word(a)))


def log_plus(s: ArrayLike, a: ArrayLike) -> Array:
    """log(s) + a with one rounding."""
    return _log_plus(*jnp.broadcast_arrays(*as_floats(s, a)))
