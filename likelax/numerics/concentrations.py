"""Kullback-Leibler divergences between Gammas and between Dirichlets, for concentrations of any size.

The divergence in a family of concentration a is the Bregman divergence of lgamma, lgamma(b) - lgamma(a) -
(b - a) digamma(a), and terms in the ratio of rates. It is a deviance D(b, m) = b log(b/m) + m - b and a *rest*,
the Bregman divergence of lgamma less that of x log x - x, neither negative. Logarithms of ratios are pairs of
floats: a concentration of 1e20 multiplies them.

Element by element with broadcasting (the Dirichlet's over the last axis), parameters > 0, float32 or wider.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._rules import terms, with_partials
from likelax.numerics.divergences import exp_excess, ratio_excess
from likelax.numerics.gamma import digamma_minus_log, stirling, trigamma
from likelax.numerics.logspace import as_floats, divide, log1p
from likelax.numerics.pairs import (
    Pair,
    fine_log_quotient,
    log_quotient,
    pair_sum,
    pair_total,
    rounded,
)

_NEAR = 0.5

# ---- the rest ----


def _trigamma_excess(a: Array) -> Array:
    """a trigamma(a) - 1, neither a square of a nor its inverse."""
    low = a < 1.0
    small, large = jnp.where(low, a, 1.0), jnp.where(low, 1.0, a)
    below = (divide(1.0, small) - 1.0) + small * trigamma(1.0 + small)
    return jnp.where(low, below, divide(0.5, large) + large * stirling(2, True)(large))


@with_partials(
    lambda b, a: digamma_minus_log(b) - digamma_minus_log(a),
    lambda b, a: divide(a - b, a) * _trigamma_excess(a),
)
def _stirling_bregman(b: Array, a: Array) -> Array:
    # Below b = 1 that of lgamma(1 + x) - log x, whose Stirling errors are all below 1/12.
    low = b < 1.0
    shift = jnp.where(low, 1.0, 0.0).astype(b.dtype)
    top, bottom = b + shift, a + shift
    rest = 0.5 * ratio_excess(top, bottom) + (stirling(0)(top) - stirling(0)(bottom))
    rest = rest - (b - a) * stirling(1)(bottom)
    # (1 + b) log((1 + b)/(1 + a)) - b log(b/a), and the logarithm's own divergence.
    low_b = jnp.where(low, b, 0.5)
    low_a = jnp.where(low, a, 0.5)
    logs = jnp.where(b == a, 0.0, jnp.log1p(low_b) - jnp.log1p(low_a))
    near = jnp.abs(low_b - low_a) < _NEAR * (1.0 + low_a)
    close = log1p(jnp.where(near, low_b - low_a, 0.0) / (1.0 + low_a))
    logs = (1.0 + low_b) * jnp.where(near, close, logs)
    shifted = logs - low_b * rounded(log_quotient(low_b, low_a)) + ratio_excess(low_b, low_a)
    return rest + jnp.where(low, shifted, 0.0)


def stirling_bregman(b: ArrayLike, a: ArrayLike) -> Array:
    """lgamma(b) - lgamma(a) - (b - a) digamma(a) - D(b, a) >= 0, D the deviance; bounded for large a and
    b.
    """
    return _stirling_bregman(*jnp.broadcast_arrays(*as_floats(b, a)))


# ---- deviances of products ----


def _scaled_exp(b: Array, log: Pair) -> Array:
    """b exp(log), where the power itself may leave the floats' range."""
    half = jnp.exp(0.5 * log[0])
    return (b * half) * half * (1.0 + log[1])


def _deviance_at(b: Array, log: Pair) -> Array:
    """D(b, b exp(log))."""
    d = rounded(log)
    near = jnp.abs(d) < _NEAR
    far = _scaled_exp(b, log) - b - b * d
    return jnp.where(near, b * exp_excess(jnp.where(near, d, 0.0)), far)


def _log_of_four(b: Array, a: Array, s: Array, t: Array) -> Pair:
    return pair_sum(log_quotient(a, b), log_quotient(s, t))


@with_partials(
    lambda b, a, s, t: -divide(1.0, b),
    lambda b, a, s, t: divide(1.0, a),
    lambda b, a, s, t: divide(1.0, s),
    lambda b, a, s, t: -divide(1.0, t),
)
def _log_excess(b, a, s, t):
    """log(a s / (b t))."""
    return rounded(_log_of_four(b, a, s, t))


@with_partials(
    None,
    lambda b, a, s, t: divide(s, t),
    lambda b, a, s, t: divide(a, t),
    lambda b, a, s, t: -divide(_mean(b, a, s, t), t),
)
def _mean(b, a, s, t):
    """a s / t."""
    return _scaled_exp(b, _log_of_four(b, a, s, t))


def _choose(b: Array, a: Array, s: Array, t: Array, unit: Array, far: Array) -> Array:
    """(a s / t - b) / unit: `far`, or by the logarithm of the two terms' ratio where they are close."""
    d = _log_excess(b, a, s, t)
    near = jnp.abs(d) < _NEAR
    close = divide(jnp.where(near, b, 0.0), unit) * jnp.expm1(jnp.where(near, d, 0.0))
    return jnp.where(near, close, far)


def _gamma_slope_a(b, a, s, t):
    growth = _choose(b, a, s, t, a, divide(s, t) - divide(b, a))
    return growth + divide(a - b, a) * _trigamma_excess(a)


@with_partials(
    lambda b, a, s, t: (digamma_minus_log(b) - digamma_minus_log(a)) - _log_excess(b, a, s, t),
    _gamma_slope_a,
    lambda b, a, s, t: _choose(b, a, s, t, s, divide(a, t) - divide(b, s)),
    lambda b, a, s, t: -_choose(b, a, s, t, t, divide(_mean(b, a, s, t) - b, t)),
)
def _gamma_divergence(b, a, s, t):
    return _deviance_at(b, _log_of_four(b, a, s, t)) + _stirling_bregman(b, a)


def gamma_divergence(a: ArrayLike, t: ArrayLike, b: ArrayLike, s: ArrayLike) -> Array:
    """KL of the Gamma of concentration a and rate t from that of b and s, to a few units of max(1, itself)."""
    return _gamma_divergence(*jnp.broadcast_arrays(*as_floats(b, a, s, t)))


# ---- steps ----


def _nodes(x: Array) -> tuple[Array, Array]:
    """Gauss and Legendre's nodes and weights on [0, 1]."""
    at, weights = np.polynomial.legendre.leggauss(terms(x, 3, 7))
    return jnp.asarray(0.5 * (at + 1.0), x.dtype), jnp.asarray(0.5 * weights, x.dtype)


def _step(function: Callable, slope: Callable, x: Array, h: Array) -> Array:
    """function(x + h) - function(x) for h >= 0, of `slope`(x), x times the derivative: by its integral where h is
    small, since the difference has no digits there.
    """
    near = h < 0.25 * x
    at, weights = _nodes(x)
    r = jnp.where(near, h, 0.0) / x
    slopes = slope(x[..., None] * (1.0 + r[..., None] * at))
    close = r * jnp.sum(weights * slopes / (1.0 + r[..., None] * at), axis=-1)
    return jnp.where(near, close, function(x + h) - function(x))


def _trigamma_excess_slope(x: Array) -> Array:
    """x d/dx [x trigamma(x) - 1]."""
    low = x < 1.0
    small, large = jnp.where(low, x, 1.0), jnp.where(low, 1.0, x)
    top = 1.0 + small
    tetra = stirling(3)(top) - divide(1.0, top) ** 2 * (1.0 + divide(1.0, top))
    below = small * (trigamma(top) + small * tetra) - divide(1.0, small)
    above = large * (stirling(2, True)(large) + large * stirling(3, True)(large))
    return jnp.where(low, below, above - divide(0.5, large))


def _digamma_step(x: Array, h: Array) -> Array:
    """[digamma - log](x + h) - [digamma - log](x)."""
    return _step(digamma_minus_log, _trigamma_excess, x, h)


def _bregman_step(b: Array, a: Array, e: Array, f: Array) -> Array:
    """R(b + e, a + f) - R(b, a) of the rest R: along the line between them if that is short."""
    near = (e < 0.25 * b) & (f < 0.25 * a)
    at, weights = _nodes(a)
    u, v = jnp.where(near, e, 0.0), jnp.where(near, f, 0.0)
    top, bottom = b[..., None] + u[..., None] * at, a[..., None] + v[..., None] * at
    along_b = (digamma_minus_log(top) - digamma_minus_log(bottom)) * u[..., None]
    along_a = divide(bottom - top, bottom) * _trigamma_excess(bottom) * v[..., None]
    close = jnp.sum(weights * (along_b + along_a), axis=-1)
    return jnp.where(near, close, _stirling_bregman(b + e, a + f) - _stirling_bregman(b, a))


# ---- Dirichlets ----


def _parts(b: Array, a: Array) -> tuple[Array, ...]:
    """Which element is the largest, and for both sides that element and the sum of the others."""
    total = [jnp.sum(side, axis=-1, keepdims=True) for side in (b, a)]
    share = jnp.minimum(b / total[0], a / total[1])
    largest = jnp.arange(a.shape[-1]) == jnp.argmax(share, axis=-1, keepdims=True)
    first = [jnp.sum(jnp.where(largest, side, 0.0), axis=-1) for side in (b, a)]
    others = [jnp.sum(jnp.where(largest, 0.0, side), axis=-1) for side in (b, a)]
    return largest, *first, *others


def _log_of_largest(b: Array, a: Array, e: Array, f: Array) -> Array:
    """log of a/(a + f) over b/(b + e): of what is left of two shares near 1."""
    some = (e > 0) & (f > 0)
    e_safe, f_safe = jnp.where(some, e, 1.0), jnp.where(some, f, 1.0)
    d = rounded(pair_sum(fine_log_quotient(e_safe, f_safe), fine_log_quotient(a, b)))
    near = some & (jnp.abs(d) < _NEAR)
    close = jnp.log1p(f / (a + f) * jnp.expm1(jnp.where(near, d, 0.0)))
    return jnp.where(near, close, jnp.log1p(e / b) - jnp.log1p(f / a))


def _log_of_shares(b: Array, a: Array) -> Pair:
    """log of a_i/sum(a) over b_i/sum(b)."""
    (n, n_low), (m, m_low) = (pair_total((side, jnp.zeros_like(side))) for side in (a, b))
    low = (m_low / m - n_low / n)[..., None]
    sums = fine_log_quotient(m[..., None], n[..., None])
    high, low = pair_sum(fine_log_quotient(a, b), sums, (jnp.zeros_like(low), low))
    largest, *parts = _parts(b, a)
    log = _log_of_largest(*parts[:2], *parts[2:])[..., None]
    return jnp.where(largest, log, high), jnp.where(largest, 0.0, low)


def _dirichlet_slopes(b: Array, a: Array) -> tuple[Array, Array]:
    d = rounded(_log_of_shares(b, a))
    largest, b_top, a_top, e, f = _parts(b, a)
    m, n = (jnp.sum(side, axis=-1, keepdims=True) for side in (b, a))
    near = jnp.abs(d) < _NEAR
    close = divide(b, a) * jnp.expm1(jnp.where(near, d, 0.0))
    growth = jnp.where(near, close, divide(m, n) - divide(b, a))

    step_b = digamma_minus_log(b) - digamma_minus_log(a)
    step_b = step_b - (digamma_minus_log(m) - digamma_minus_log(n))
    step_top = (_digamma_step(a_top, f) - _digamma_step(b_top, e))[..., None]

    total = _trigamma_excess(n)
    each = divide(a - b, a) * _trigamma_excess(a) - divide(n - m, n) * total
    fall = _step(_trigamma_excess, _trigamma_excess_slope, a_top, f)[..., None]
    each_top = growth * total - divide(a - b, a) * fall
    slope_a = growth + jnp.where(largest, each_top, each)
    return jnp.where(largest, step_top, step_b) - d, slope_a


@jax.custom_jvp
@jax.jit
def _dirichlet_divergence(b: Array, a: Array) -> Array:
    largest, *parts = _parts(b, a)
    rests = jnp.where(largest, 0.0, _stirling_bregman(b, a))
    each = _deviance_at(b, _log_of_shares(b, a)) + rests
    return jnp.sum(each, axis=-1) - _bregman_step(*parts)


@_dirichlet_divergence.defjvp
def _dirichlet_divergence_jvp(primals, tangents):
    slopes = jax.jit(_dirichlet_slopes)(*primals)
    moved = sum(slope * tangent for slope, tangent in zip(slopes, tangents, strict=True))
    return _dirichlet_divergence(*primals), jnp.sum(moved, axis=-1)


def dirichlet_divergence(a: ArrayLike, b: ArrayLike) -> Array:
    """KL of the Dirichlet of concentrations a from that of b, over the last axis. What the largest element and the
    sum share cancels before it is rounded.
    """
    return _dirichlet_divergence(*jnp.broadcast_arrays(*as_floats(b, a)))
