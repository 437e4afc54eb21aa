"""The incomplete gamma and beta functions: logarithms of both tails, far out, and their slopes.

The smaller tail is worked out, as the density times a factor of moderate size: a
series, a continued fraction or a quadrature, of a fixed number of steps, so that it
differentiates both ways. The other tail is log1mexp of it. `parts(*shape, x)` gives (whether it
is the lower tail, log density, density over tail, log tail) for x inside the support.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from likelax.numerics._chebyshev import gauss_legendre
from likelax.numerics._rules import terms, with_partials
from likelax.numerics.counts import LARGEST_LOGIT
from likelax.numerics.densities import (
    beta_gap,
    beta_log_core,
    half_harmonic,
)
from likelax.numerics.deviance import gap_deviance, log1pmx
from likelax.numerics.gamma import lgamma, lgamma1p, lgamma_step, log_beta, stirling
from likelax.numerics.logspace import as_floats, divide, log1mexp, log1p, passing_nan

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_BIG = 50.0  # from here on the density is smooth enough for the quadrature


def _quadrature(exponent: Callable, width: Array) -> Array:
    """The integral of exp(exponent(u)) over u from 0 to width, over width."""
    nodes, weights = gauss_legendre(terms(width, 24, 56))

    def step(total, node):
        at, weight = node
        return total + weight * jnp.exp(exponent(width * at)), None

    steps = (jnp.asarray(nodes, width.dtype), jnp.asarray(weights, width.dtype))
    return jax.lax.scan(step, jnp.zeros_like(width), steps)[0]


def _reach(slope: Array, bend: Array, skew: Array) -> Array:
    """A u from which on exp(-h(u)) counts for nothing, h(u) >= slope u + (bend u)^2 / (2 + 4/3
    skew u).
    """
    enough = terms(slope, 20, 40)
    lean = slope - (2.0 / 3.0) * enough * skew
    # hypot: the square of 1e20 is no float32.
    reach = 2.0 * enough / (lean + jnp.hypot(lean, math.sqrt(2.0 * enough) * bend))
    return jax.lax.stop_gradient(reach)


def _backward(start: Array, step: Callable, count: int) -> Array:
    """step(... step(step(start, count), count - 1) ..., 1), with n as a float."""
    steps = jnp.arange(count, 0, -1, dtype=start.dtype)
    return jax.lax.scan(lambda value, n: (step(value, n), None), start, steps)[0]


def gamma_parts(a, x, low=None):
    """Gamma(a, 1) at 0 < x < inf: the lower tail for x <= a, and for a < 1 up to x = 1.5.

    `low` is added to x without being rounded into it, and has no slope.
    """
    tiny = (a < 1.0) & (x < 1.5)
    big = a >= _BIG
    gap = x - a if low is None else (x - a) + low
    lower = tiny | (gap <= 0)
    mass, core, log_x = _gamma_mass(a, x, gap)

    # a < 1: log P = a log x - lgamma(1 + a) + log1p(a sum (-x)^n / ((a + n) n!)). Every part
    # vanishes with a and keeps its digits, so that 1 - P does too.
    c, z = jnp.where(tiny, a, 0.5), jnp.where(tiny, x, 1.0)
    total = _backward(
        jnp.zeros_like(z), lambda t, n: (-z / n) * (t + 1.0 / (c + n)), terms(z, 16, 28)
    )
    log_gamma = lgamma1p(c)
    first = c * jnp.log(z) - log_gamma + log1p(c * total)

    # Below the mean: the power series x/a sum x^n / ((a+1) ... (a+n)).
    series = lower & ~tiny & ~big
    c, z = jnp.where(series, a, 1.0), jnp.where(series, x, 1.0)
    total = _backward(jnp.ones_like(z), lambda t, n: 1.0 + t * z / (c + n), terms(z, 60, 110))
    second = total / c

    # Above it: Legendre's continued fraction.
    fraction = ~lower & ~big
    c, z = jnp.where(fraction, a, 1.0), jnp.where(fraction, x, 2.0)
    count = terms(z, 40, 120)
    base = z + 1.0 - c
    total = _backward(
        base + 2.0 * count, lambda t, n: (base + 2.0 * (n - 1.0)) + n * (c - n) / t, count
    )
    third = 1.0 / total

    # a large: x times the integral of (1 + s u)^(a-1) exp(-s x u) over u > 0, s = -1 below and 1
    # above.
    c, g = jnp.where(big, a, _BIG), jnp.where(big, gap, 0.0)
    side = jnp.where(g <= 0, -1.0, 1.0).astype(g.dtype)
    slope = side * (g + 1.0)
    reach = _reach(slope, jnp.sqrt(c - 1.0), jnp.maximum(side, 0.0))
    reach = jnp.where(side > 0, reach, jnp.minimum(reach, 1.0))
    total = _quadrature(lambda u: (c - 1.0) * log1pmx(side * u) - slope * u, reach)

    few = jnp.where(lower, second, third)
    density = mass - log_x
    ratio = 1.0 / jnp.where(big, reach * total, few) / x
    tail = mass + jnp.log(few)
    if low is not None:
        # From a shape of 2 on the mass has moved with the gap already.
        moved = jnp.where(a < 2.0, 0.0, -gap / x)
        change = jnp.where(low == 0, 0.0, jnp.where(lower, ratio, -ratio) - moved) * low
        tail = tail + jax.lax.stop_gradient(change)
    # The reach in standard deviations: there is no log a.
    tail = jnp.where(
        big, core + jnp.log(total * (reach * jnp.sqrt(c))), jnp.where(tiny, first, tail)
    )
    return lower, density, jnp.where(tiny, jnp.exp(density - first), ratio), tail


def _gamma_mass(a, x, gap):
    """log of x times the density of Gamma(a, 1) given gap = x - a, the same less log(a) / 2 (a >= 2), and
    log x. After Loader, as in `densities`.
    """
    small = a < 2.0
    c, z = jnp.where(small, 2.0, a), jnp.where(small, 2.0, x)
    core = -gap_deviance(c, z, jnp.where(small, 0.0, gap)) - stirling(0, from_one=True)(c)
    core = core - _HALF_LOG_2PI
    log_x = jnp.log(x)
    plain = a * log_x - x - lgamma(a)
    return jnp.where(small, plain, core + 0.5 * jnp.log(c)), core, log_x


def beta_parts(a, b, x):
    """Beta(a, b) at 0 < x < 1: the lower tail up to the mean, and for a < 1 a little further."""
    y, log_x, log_y = 1.0 - x, jnp.log(x), log1p(-x)
    lower, mass, ratio, tail = _beta_parts(a, b, x, y, log_x, log_y, beta_gap(x, a, b))
    return lower, mass - log_x - log_y, ratio / x / y, tail


@with_partials(
    lambda a, b, x, y, gap: -y, lambda a, b, x, y, gap: x, lambda a, b, x, y, gap: a + b, None, None
)
def _known_gap(a, b, x, y, gap):
    """(a + b) x - a, known to be gap."""
    return gap


def _logit_parts(a, b, kept, known, known_odds):
    """`beta_parts` at x = sigmoid(kept), with slopes in the logits in place of x. `known` is (a + b) x - a, and
    `known_odds` exp(-|kept|), to more digits than `kept` has.
    """
    # No abs() and no minimum(): at 0 their slopes are not those of one side.
    rare = kept < 0
    odds = jnp.exp(jnp.where(rare, kept, -kept))
    odds = odds + jax.lax.stop_gradient(known_odds - odds)
    rest = log1p(odds)
    larger = 1.0 / (1.0 + odds)
    smaller = odds * larger
    x, y = jnp.where(rare, smaller, larger), jnp.where(rare, larger, smaller)
    log_x, log_y = jnp.where(rare, kept, 0.0) - rest, jnp.where(rare, 0.0, -kept) - rest
    return _beta_parts(a, b, x, y, log_x, log_y, _known_gap(a, b, x, y, known))


def _beta_parts(a, b, x, y, log_x, log_y, gap):
    """(lower, log of x y density, x y density over tail, log tail), y = 1 - x and gap = (a + b) x - a."""
    near_zero = (a < 1.0) & (b * x < 1.5) & (x <= 0.5)
    near_one = (b < 1.0) & (a * y < 1.5) & (y < 0.5)
    lower = near_zero | ((gap <= 0) & ~near_one)
    core = beta_log_core(a, b, x, y, gap)
    saddle = (a >= 2.0) & (b >= 2.0)
    plain = a * log_x + b * log_y - log_beta(a, b)
    mass = jnp.where(saddle, core + 0.5 * jnp.log(half_harmonic(a, b)), plain)
    # From here on the lower tail of Beta(c, d) at z; w = 1 - z.
    c, d = jnp.where(lower, a, b), jnp.where(lower, b, a)
    z, w = jnp.where(lower, x, y), jnp.where(lower, y, x)
    gap = jnp.where(lower, gap, -gap)
    tiny = near_zero | near_one
    big = jnp.minimum(c, d) >= _BIG

    # c < 1: log I = c log z - log(c B(c, d)) + log1p(c sum (1-d) ... (n-d) z^n / (n! (c + n))),
    # every part of which vanishes with c.
    e, f, v = jnp.where(tiny, c, 0.5), jnp.where(tiny, d, 1.0), jnp.where(tiny, z, 0.25)
    total = _backward(
        jnp.zeros_like(v), lambda t, n: (1.0 - f / n) * v * (t + 1.0 / (e + n)), terms(v, 26, 56)
    )
    up = jnp.where(f < 1.0, f + 1.0, f)
    shift = jnp.where(f < 1.0, log1p(divide(e, f)), 0.0)
    log_c_beta = lgamma1p(e) - lgamma_step(up, e) + shift
    log_v = jnp.where(tiny, jnp.where(lower, log_x, log_y), 0.0)
    first = e * log_v - log_c_beta + log1p(e * total)

    # z w over the continued fraction of DiDonato and Morris (1992).
    other = big | tiny
    e, f = jnp.where(other, 1.0, c), jnp.where(other, 1.0, d)
    g, v = jnp.where(other, -0.5, gap), jnp.where(other, 0.25, z)

    def denominator(n):
        s = e + 2.0 * n
        middle = n + n * (f - n) * v / (s - 1.0)
        return middle + ((e + n) / (s + 1.0)) * ((1.0 - g) + n * (2.0 - v))

    def step(t, n):
        s = e + 2.0 * n - 1.0
        numerator = ((e + n - 1.0) / s) * ((e + f + n - 1.0) / s) * (n * v) * ((f - n) * v)
        # At n = 0 the denominator's middle term is 0, also for e = 1 where it would be 0 / 0.
        first = (e / (e + 1.0)) * (1.0 - g)
        return jnp.where(n == 1.0, first, denominator(jnp.maximum(n - 1.0, 1.0))) + numerator / t

    count = terms(v, 30, 60)
    total = _backward(denominator(float(count)), step, count)
    fraction = 1.0 / total

    # Both large: z times the integral of (1 - u)^(c-1) (1 + u z / w)^(d-1) over u in (0, 1).
    e, f = jnp.where(big, c, _BIG), jnp.where(big, d, _BIG)
    g, v, y = jnp.where(big, gap, 0.0), jnp.where(big, z, 0.5), jnp.where(big, w, 0.5)
    ratio = v / y
    slope = ((2.0 * v - 1.0) - g) / y
    bend = jnp.hypot(jnp.sqrt(e - 1.0), jnp.sqrt(f - 1.0) * ratio)
    reach = jnp.minimum(_reach(slope, bend, ratio), 1.0)
    total = _quadrature(
        lambda u: (e - 1.0) * log1pmx(-u) + (f - 1.0) * log1pmx(u * ratio) - slope * u, reach
    )
    reach = reach / y
    over = 1.0 / jnp.where(big, reach * total, fraction)
    smooth = core + jnp.log(total * (reach * jnp.sqrt(half_harmonic(e, f))))
    tail = jnp.where(big, smooth, jnp.where(tiny, first, mass + jnp.log(fraction)))
    return lower, mass, jnp.where(tiny, jnp.exp(mass - first), over), tail


def log_tail_and_slope(parts, upper: bool) -> tuple:
    """The log of the wanted tail and its slope's size |d/dx|, from `parts`."""
    lower, density, ratio, tail = parts
    direct = lower ^ upper
    tail = jnp.minimum(tail, 0.0)
    other = log1mexp(jnp.where(tail >= 0, jnp.finfo(tail.dtype).tiny, -tail))
    out = jnp.where(direct, tail, other)
    slope = jnp.where(direct, ratio, jnp.exp(density - jnp.where(direct, 0.0, other)))
    return out, slope, jnp.where(direct, 1.0, -jnp.exp(tail - jnp.where(direct, 0.0, other)))


def shape_slopes(parts: Callable, shape: list, *x, moving: Sequence[int] | None = None) -> tuple:
    """`parts`, and the slopes of the log tail in the shape parameters, or those that are `moving`.

    Forward differentiation through the loops, all directions in one pass.
    """
    directions = range(len(shape)) if moving is None else moving
    unit = [
        jnp.stack([jnp.full_like(c, float(i == j)) for j in directions])
        for i, c in enumerate(shape)
    ]

    def pushed(*direction):
        def both(*moving):
            found = parts(*moving, *x)
            return found[3], found

        _, slope, found = jax.jvp(both, tuple(shape), direction, has_aux=True)
        return found, slope

    return jax.vmap(pushed, out_axes=(None, 0))(*unit)


def _moving(tangents: Sequence) -> list[int]:
    """Which of them are not 0 for good."""
    return [i for i, t in enumerate(tangents) if not isinstance(t, SymbolicZero)]


def _log_tails(parts: Callable, top: float, words: int = 1) -> Callable:
    """The logs of both tails on [0, top], as a function of (*shape, x), or (*shape, x, low) of two words.

    Their slopes in x are density / tail; a low word has none. On the edges the slopes are 0.
    """
    edges = (-jnp.inf, 0.0), (0.0, -jnp.inf)  # at 0 and at the top

    def opened(x):
        inside = (x > 0) & (x < top)
        return inside, jnp.where(inside, x, 0.5)

    def split(arguments):
        shape, x, low = (
            arguments[:-words],
            arguments[-words],
            arguments[len(arguments) - words + 1 :],
        )
        return shape, x, low

    def closed(inside, out, arguments, upper):
        shape, x, _ = split(arguments)
        edge = jnp.where(x <= 0, *edges[upper]).astype(out.dtype)
        missing = functools.reduce(jnp.logical_or, map(jnp.isnan, (*shape, x)))
        return jnp.where(inside, out, jnp.where(missing, jnp.nan, edge))

    @jax.custom_jvp
    def log_tails(*arguments):
        shape, x, low = split(arguments)
        inside, x = opened(x)
        found = parts(*shape, x, *low)
        tails = (log_tail_and_slope(found, upper)[0] for upper in (False, True))
        return tuple(closed(inside, tail, arguments, i) for i, tail in enumerate(tails))

    def rule(primals, tangents):
        shape, x, low = split(primals)
        shape_tangents, x_tangent, _ = split(tangents)
        inside, safe = opened(x)
        moving = _moving(shape_tangents)
        found, slopes = (
            shape_slopes(parts, list(shape), safe, *low, moving=moving)
            if moving
            else (parts(*shape, safe, *low), [])
        )

        def moved(upper):
            out, slope_x, chain = log_tail_and_slope(found, upper)
            out = closed(inside, out, primals, upper)
            total = jnp.zeros_like(out)
            for i, slope in zip(moving, slopes, strict=True):
                total = total + jnp.where(inside, slope * chain, 0.0) * shape_tangents[i]
            if not isinstance(x_tangent, SymbolicZero):
                total = total + jnp.where(inside, -slope_x if upper else slope_x, 0.0) * x_tangent
            return out, total

        return tuple(zip(moved(False), moved(True), strict=True))

    log_tails.defjvp(rule, symbolic_zeros=True)
    return log_tails


@jax.custom_jvp
def _log_betainc_of_logits(a, b, logits, gap, odds):
    return log_tail_and_slope(_logit_parts(a, b, logits, gap, odds), False)[0]


def _logits_rule(primals, tangents):
    *shape, logits, gap, odds = primals
    moving = _moving(tangents[:2])
    found, slopes = (
        shape_slopes(_logit_parts, shape, logits, gap, odds, moving=moving)
        if moving
        else (_logit_parts(*primals), [])
    )
    out, slope, chain = log_tail_and_slope(found, False)
    total = jnp.zeros_like(out)
    for i, shape_slope in zip(moving, slopes, strict=True):
        total = total + shape_slope * chain * tangents[i]
    if not isinstance(tangents[2], SymbolicZero):
        total = total + slope * tangents[2]
    return out, total


_log_betainc_of_logits.defjvp(_logits_rule, symbolic_zeros=True)


_log_gamma_tails = _log_tails(gamma_parts, top=math.inf)
_log_gamma_tails_of_pair = _log_tails(gamma_parts, top=math.inf, words=2)
_log_beta_tails = _log_tails(beta_parts, top=1.0)


def log_gammainc(a: ArrayLike, x: ArrayLike) -> Array:
    """log P(a, x), the lower regularised incomplete gamma function, a > 0, x >= 0, far into both
    tails.

    Slope in x: density / P; in a: forward differentiation of the value's own series. 0 on the
      edges.
    """
    return _log_gamma_tails(*jnp.broadcast_arrays(*as_floats(a, x)))[0]


def log_gammaincc(a: ArrayLike, x: ArrayLike) -> Array:
    """log Q(a, x) = log(1 - P(a, x)), the upper one, in the same way."""
    return _log_gamma_tails(*jnp.broadcast_arrays(*as_floats(a, x)))[1]


def log_gamma_tails_of_pair(a: Array, x: Array, low: Array) -> tuple[Array, Array]:
    """log P(a, x + low) and log Q(a, x + low), low being what x lost to rounding: it has no slope."""
    return _log_gamma_tails_of_pair(a, x, low)


def log_beta_tails(a: ArrayLike, b: ArrayLike, x: ArrayLike) -> tuple[Array, Array]:
    """log I_x(a, b) and log(1 - I_x(a, b)) at once: see `log_betainc`."""
    return _log_beta_tails(*jnp.broadcast_arrays(*as_floats(a, b, x)))


def log_betainc(a: ArrayLike, b: ArrayLike, x: ArrayLike) -> Array:
    """log I_x(a, b), the regularised incomplete beta function, a, b > 0 and 0 <= x <= 1, tails
    included.

    Slope in x: density / I; in a and b: forward differentiation of the value's own fraction or
    quadrature. 0 on the edges. Where I is near 1 because a shape is tiny, the error is less than
    half a rounding of I, not of its log.
    """
    return log_beta_tails(a, b, x)[0]


def log_betainc_of_logits(
    a: Array, b: Array, logits: Array, gap: Array, odds: Array | None = None
) -> Array:
    """log I_x(a, b) at x = sigmoid(logits): neither x nor 1 - x is rounded before it is used.

    gap = (a + b) x - a is what the tail hangs on; it and `odds`, exp(-|logits|) where that is known to more
    digits, have no slope. Logits are kept to ±80.
    """
    kept = jnp.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT)
    plain = jnp.exp(-jnp.abs(kept))
    odds = plain if odds is None else jnp.where(kept == logits, odds, plain)
    tail = _log_betainc_of_logits(a, b, kept, *jax.lax.stop_gradient((gap, odds)))
    # Beyond what a float's exp holds, I_x is proportional to x^a, and 1 - I_x to (1 - x)^b.
    end = jnp.isinf(logits)
    under = jnp.where((logits < -LARGEST_LOGIT) & ~end, logits + LARGEST_LOGIT, 0.0)
    over = jnp.where((logits > LARGEST_LOGIT) & ~end, logits - LARGEST_LOGIT, 0.0)
    tail = tail + a * under
    short = (over > 0) & (tail < 0)
    rest = log1mexp(jnp.where(short, -tail, 1.0)) - b * over
    tail = jnp.where(short, log1mexp(jnp.where(short, -rest, 1.0)), tail)
    tail = jnp.where(end, jnp.where(logits < 0, -jnp.inf, 0.0), tail)
    return passing_nan(tail, a + b)


def log_betaincc(a: ArrayLike, b: ArrayLike, x: ArrayLike) -> Array:
    """log(1 - I_x(a, b)), the upper tail, in the same way; x need not be turned into 1 - x."""
    return log_beta_tails(a, b, x)[1]
