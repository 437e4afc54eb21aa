"""Counts of several classes with Dirichlet shares, in the way of `densities`."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics.counts import negative_binomial_terms
from likelax.numerics.deviance import _log_quotient, gap_deviance, log_ratio, product_gap
from likelax.numerics.gamma import digamma_minus_log_step, stirling
from likelax.numerics.logspace import as_floats, log1p
from likelax.numerics.pairs import pair_sum, pair_total, rounded, word


def _others(x: Array) -> Array:
    """The sum of all other elements of the last axis, for each: no difference of sums."""
    before, after = jnp.cumsum(x, axis=-1), jax.lax.cumsum(x, axis=x.ndim - 1, reverse=True)
    none = jnp.zeros_like(x[..., :1])
    return jnp.concatenate([none, before[..., :-1]], -1) + jnp.concatenate(
        [after[..., 1:], none], -1
    )


def _lost(x: Array, rest: Array) -> Array:
    """What rounding took from `_others`."""
    high, low = (part[..., None] for part in pair_total(word(x)))
    return rounded(pair_sum((high, low), word(-x), word(-rest)))


def _crossed(x, a, x_rest, a_rest):
    """x A - n a = x a_rest - a x_rest, error-free."""
    product = a * x_rest
    return product_gap(x, a_rest, product) - product_gap(a, x_rest, product)


def log_excess(x, a, x_rest, a_rest, lost=0.0):
    """log of (1 + x / a) / (1 + n / A), n = x + x_rest and A = a + a_rest; `lost` by x A - n a."""
    n, total = x + x_rest, a + a_rest
    # 1 + u. Not gap / a / m, which XLA turns into gap / (a m), beyond the floats.
    over_a = (_crossed(x, a, x_rest, a_rest) + lost) / a
    u = over_a * (1.0 / (total + n))
    low = u <= -0.5
    first, second = (a + x) / (total + n), total / a
    safe = low & jnp.isfinite(first * second) & (first * second > 0)
    apart = _log_quotient(a + x, total + n) + _log_quotient(total, a)
    far = jnp.where(safe, jnp.log(jnp.where(safe, first * second, 1.0)), apart)
    near = ~(low | jnp.isinf(over_a))
    return jnp.where(near, log1p(jnp.where(near, u, 0.0)), far)


def _stirling_rest(a):
    """delta(a) + log(a / (1 + a)) / 2, which is bounded at 0."""
    low = a < 1.0
    small, large = jnp.where(low, a, 0.5), jnp.where(low, 1.0, a)
    below = stirling(0, True)(1.0 + small) + small * (log1p(small) - jnp.log(small)) - 1.0
    return jnp.where(low, below, stirling(0, True)(large) - 0.5 * log1p(1.0 / large))


def _dirichlet_multinomial(x: Array, a: Array) -> Array:
    n, total = jnp.sum(x, axis=-1), jnp.sum(a, axis=-1)
    m = (n / total)[..., None] * a
    # Each class's m / (a + m) and a / (a + m), also where m is no float.
    p, q = n / (total + n), total / (total + n)
    x_rest, a_rest = _others(x), _others(a)
    less = -_crossed(x, a, x_rest, a_rest) / total[..., None]  # m - x
    # The largest count and the sum are taken together: their logarithms would cancel.
    most = jnp.arange(x.shape[-1]) == jnp.argmax(x, axis=-1, keepdims=True)
    none = x == 0
    c = jnp.where(none, 1.0, x)
    gap = jnp.where(none, m - 1.0, less) * q[..., None]
    parts = negative_binomial_terms(c, a) - gap_deviance(c, (c + a) * p[..., None], gap)
    parts = parts - gap_deviance(a, (c + a) * q[..., None], -gap)
    parts = jnp.where(none, -a * log_ratio(a + m, a, -m), parts)
    parts = jnp.where(most, 0.0, parts)
    k, r, less, k_rest, r_rest = (
        jnp.sum(jnp.where(most, part, 0.0), axis=-1) for part in (x, a, less, x_rest, a_rest)
    )
    empty = n == 0
    k, n = jnp.where(empty, 1.0, k), jnp.where(empty, 1.0, n)
    gap = less * q
    half = log_ratio(r, total, r_rest) + log1p(r_rest / (1.0 + r))
    half = half - log_excess(k, r, k_rest, r_rest) - log_ratio(k, n, k_rest)
    delta = stirling(0, True)
    small = (delta(r + k) - delta(total + n)) - (delta(k) - delta(n))
    pair = -(gap_deviance(k, (k + r) * p, gap) + gap_deviance(r, (k + r) * q, -gap)) + 0.5 * half
    pair = pair + (small - (_stirling_rest(r) - _stirling_rest(total)))
    return jnp.where(empty, 0.0, jnp.sum(parts, axis=-1) + pair)


def _dirichlet_multinomial_slope(x: Array, a: Array) -> Array:
    """digamma(a + x) - digamma(a) - [digamma(A + n) - digamma(A)], its logarithms in one."""
    n, total = jnp.sum(x, axis=-1, keepdims=True), jnp.sum(a, axis=-1, keepdims=True)
    x_rest, a_rest = _others(x), _others(a)
    # A logarithm far below 1 has no digits to spare: of the sums, their roundings too.
    held_x, held_a = map(jax.lax.stop_gradient, (x, a))
    lost = held_x * _lost(held_a, jax.lax.stop_gradient(a_rest))
    lost = lost - held_a * _lost(held_x, jax.lax.stop_gradient(x_rest))
    log = log_excess(x, a, x_rest, a_rest, lost)
    return log + (digamma_minus_log_step(a, x) - digamma_minus_log_step(total, n))


@jax.custom_jvp
def _dirichlet_multinomial_log_pmf(x: Array, a: Array) -> Array:
    return _dirichlet_multinomial(x, a)


@_dirichlet_multinomial_log_pmf.defjvp
def _dirichlet_multinomial_jvp(primals, tangents):
    slope = _dirichlet_multinomial_slope(*primals)
    return _dirichlet_multinomial_log_pmf(*primals), jnp.sum(slope * tangents[1], axis=-1)


def dirichlet_multinomial_log_pmf(x: ArrayLike, concentration: ArrayLike) -> Array:
    """log of n! / prod x_i! Gamma(A) / Gamma(A + n) prod Gamma(a_i + x_i) / Gamma(a_i) over the last
    axis, x (..., K) >= 0 with sum n and concentration a (..., K) > 0 with sum A.

    Independent negative binomials of r = a_i and mean n a_i / A given their sum, which is one of r = A
    and mean n; the largest count's and that of the sum in one. Slope digamma(a_i + x_i) - digamma(a_i)
    less the same of the sums. Counts x have none.
    """
    return _dirichlet_multinomial_log_pmf(*jnp.broadcast_arrays(*as_floats(x, concentration)))
