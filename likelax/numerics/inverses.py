"""Inverses of the incomplete gamma and beta functions: quantiles by safeguarded Newton steps."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from likelax.numerics._rules import terms
from likelax.numerics.gamma import digamma, lgamma, log_beta, trigamma
from likelax.numerics.incomplete import beta_parts, gamma_parts, log_tail_and_slope, shape_slopes
from likelax.numerics.logspace import as_floats, log1p, sigmoid


def _solve(
    parts: Callable, p: Array, low: Array, high: Array, x: Array, bounded: bool, upper: bool = False
) -> Array:
    """x with lower tail p (or upper tail p), by Newton's steps on the log of the smaller of p and 1 - p, kept in a
    bracket.

    The steps are made in log x, or in logit x where x is `bounded` by 1, and written so that a
    small one changes x itself without rounding; a step that leaves [low, high] is replaced by
    halving it.
    """
    near = p <= 0.5
    target = jnp.where(near, jnp.log(p), log1p(-p))
    below = ~near if upper else near

    def step(_, state):
        low, high, x = state
        found = parts(x)
        (log_p, slope_p, _), (log_q, slope_q, _) = (
            log_tail_and_slope(found, False),
            log_tail_and_slope(found, True),
        )
        value = jnp.where(below, log_p - target, target - log_q)
        slope = jnp.where(below, slope_p, slope_q)
        low, high = jnp.where(value < 0, x, low), jnp.where(value > 0, x, high)
        room = x * (1.0 - x) if bounded else x
        growth = jnp.expm1(-value / (slope * room))
        guess = x + room * growth / (1.0 + x * growth) if bounded else x + x * growth
        halved = jnp.sqrt(low) * jnp.sqrt(high)
        if bounded:
            halved = halved / (halved + jnp.sqrt(1.0 - low) * jnp.sqrt(1.0 - high))
        # At the root a bracket's end is as often wrong as right: there a step out of it is no mistake.
        arrived = jnp.abs(value) <= 8.0 * jnp.finfo(x.dtype).eps * jnp.maximum(1.0, -target)
        kept = (guess >= low) & (guess <= high)
        trusted = (kept | arrived) & (slope < jnp.inf)
        return low, high, jnp.where(trusted, guess, halved)

    return jax.lax.fori_loop(0, terms(p, 20, 26), step, (low, high, jnp.clip(x, low, high)))[2]


def _inverse_rule(
    inverse: jax.custom_jvp, parts: Callable, top: float, upper: bool = False
) -> None:
    """Implicit differentiation: dx = (dp - dP) / density, where dP comes from the shape parameters;
    of an upper tail dp has a minus.
    """

    def rule(primals, tangents):
        *shape, p = primals
        x = inverse(*primals)
        inside = (p > 0) & (p < 1) & (x > 0) & (x < top)
        safe = jnp.where(inside, x, 0.5)
        moves = not all(isinstance(tangent, SymbolicZero) for tangent in tangents[:-1])
        found, slopes = shape_slopes(parts, shape, safe) if moves else (parts(*shape, safe), [])
        lower, density, ratio, _ = found
        total = jnp.zeros_like(x)
        for slope, tangent in zip(slopes, tangents[:-1], strict=moves):
            if not isinstance(tangent, SymbolicZero):
                # dP is tail times the slope of its logarithm, with a minus for the upper tail.
                slope = jnp.where(lower, -slope, slope) / ratio
                total = total + jnp.where(inside, slope, 0.0) * tangent
        if not isinstance(tangents[-1], SymbolicZero):
            slope = jnp.where(inside, jnp.exp(-density), 0.0)
            total = total + (-slope if upper else slope) * tangents[-1]
        return x, total

    inverse.defjvp(rule, symbolic_zeros=True)


def _gamma_quantile(a, p, upper):
    inside = (p > 0) & (p < 1)
    q = jnp.where(inside, p, 0.5)
    log_lower, log_upper = (log1p(-q), jnp.log(q)) if upper else (jnp.log(q), log1p(-q))
    normal = jax.scipy.special.ndtri(q)
    normal = -normal if upper else normal
    # P(a, x) <= x^a / Gamma(a + 1), and Q(a, a + sqrt(2 a t) + t) <= exp(-t).
    least = 4.0 * float(jnp.finfo(p.dtype).tiny)
    power = jnp.exp((log_lower + lgamma(a + 1.0)) / a)
    low = jnp.maximum(power, least)
    t = -log_upper
    high = jnp.maximum(a + jnp.sqrt(2.0 * a * t) + t, low)
    # Wilson and Hilferty (1931).
    cube = 1.0 - 1.0 / (9.0 * a) + normal / (3.0 * jnp.sqrt(a))
    start = jnp.where(cube > 0.3, a * jnp.maximum(cube, 0.3) ** 3, low)
    x = _solve(
        functools.partial(gamma_parts, a),
        q,
        low * (1.0 - 1e-4),
        high * 1.0001,
        start,
        bounded=False,
        upper=upper,
    )
    # Where x would underflow, the power law is exact.
    x = jnp.where(power < least, power, x)
    at_zero, at_one = (jnp.inf, 0.0) if upper else (0.0, jnp.inf)
    edge = jnp.where(p == 0, at_zero, jnp.where(p == 1, at_one, jnp.nan)).astype(x.dtype)
    return jnp.where(inside, x, edge) + 0.0 * a


@jax.custom_jvp
def _gammainc_inverse(a, p):
    return _gamma_quantile(a, p, upper=False)


@jax.custom_jvp
def _gammaincc_inverse(a, p):
    return _gamma_quantile(a, p, upper=True)


@jax.custom_jvp
def _betainc_inverse(a, b, p):
    inside = (p > 0) & (p < 1)
    q = jnp.where(inside, p, 0.5)
    info = jnp.finfo(p.dtype)
    low, high = jnp.full_like(q, 4.0 * float(info.tiny)), jnp.full_like(q, 1.0 - float(info.epsneg))
    # The logit of a beta variable has mean digamma(a) - digamma(b) and variance trigamma(a) +
    # trigamma(b).
    spread = jnp.sqrt(trigamma(a) + trigamma(b))
    start = sigmoid(digamma(a) - digamma(b) + jax.scipy.special.ndtri(q) * spread)
    # In its lower tail I_x(a, b) goes as x^a / (a B(a, b)).
    power = jnp.exp(jnp.minimum((jnp.log(q) + jnp.log(a) + log_beta(a, b)) / a, 0.0))
    start = jnp.where((a < 1.0) & (power < 0.3), power, start)
    x = _solve(functools.partial(beta_parts, a, b), q, low, high, start, bounded=True)
    x = jnp.where(power < low, power, x)
    edge = jnp.where(p == 0, 0.0, jnp.where(p == 1, 1.0, jnp.nan)).astype(x.dtype)
    return jnp.where(inside, x, edge) + 0.0 * (a + b)


_inverse_rule(_gammainc_inverse, gamma_parts, top=math.inf)
_inverse_rule(_gammaincc_inverse, gamma_parts, top=math.inf, upper=True)
_inverse_rule(_betainc_inverse, beta_parts, top=1.0)


def gammainc_inverse(a: ArrayLike, p: ArrayLike) -> Array:
    """x with P(a, x) = p: the quantile of Gamma(a, 1), a > 0, 0 <= p <= 1 (0 at p = 0, inf at p =
    1).

    A fixed number of safeguarded Newton steps in log x, to a few roundings of x and of log p
    (log(1 - p) above the median); slopes by implicit differentiation, 0 on the edges.
    """
    return _gammainc_inverse(*jnp.broadcast_arrays(*as_floats(a, p)))


def gammaincc_inverse(a: ArrayLike, p: ArrayLike) -> Array:
    """x with Q(a, x) = p: what `gammainc_inverse` has at 1 - p, to the digits of a small p."""
    return _gammaincc_inverse(*jnp.broadcast_arrays(*as_floats(a, p)))


def betainc_inverse(a: ArrayLike, b: ArrayLike, p: ArrayLike) -> Array:
    """x with I_x(a, b) = p: the quantile of Beta(a, b), a, b > 0, 0 <= p <= 1.

    A fixed number of safeguarded Newton steps in logit x; slopes by implicit differentiation.
    """
    return _betainc_inverse(*jnp.broadcast_arrays(*as_floats(a, b, p)))
