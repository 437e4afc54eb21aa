"""The multinomial's log-density, whose gaps n p_i - x_i ask for more digits of p than a float has.

At n = 1e7 a rounding of p is as large as the whole log-density. Probabilities are therefore pairs of
floats (`pairs`), straight from the logits. Conventions as in `densities`, over the last axis.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics.deviance import gap_deviance
from likelax.numerics.gamma import lgamma, stirling
from likelax.numerics.indexing import whole
from likelax.numerics.logspace import as_floats, log_softmax, xlogy
from likelax.numerics.pairs import (
    Pair,
    exp_to_pair,
    pair_product,
    pair_ratio,
    pair_sum,
    pair_total,
    rounded,
    two_sum,
    word,
)

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def _shares(weights: Pair) -> Pair:
    """Weights over their sum."""
    high, low = (part[..., None] for part in pair_total(weights))
    return pair_ratio(weights, (jnp.where(high == 0, 1.0, high), low))


def _softmax(logits: Array) -> Pair:
    top = jnp.max(logits, axis=-1, keepdims=True)
    return _shares(exp_to_pair(two_sum(logits, -jnp.where(jnp.isinf(top), 0.0, top))))


def _gap(x: Array, p: Pair) -> tuple[Array, Array]:
    """n p_i and n p_i - x_i, n = sum(x). They sum to 0: that of the likeliest class, whose p has the
    largest error, is minus the sum of the others.
    """
    n, n_low = (part[..., None] for part in pair_total(word(x)))
    m = pair_product((n, n_low), p)
    each = pair_sum(m, word(-x))
    top = jnp.arange(x.shape[-1]) == jnp.argmax(p[0], axis=-1, keepdims=True)
    others = pair_total((jnp.where(top, 0.0, each[0]), jnp.where(top, 0.0, each[1])))
    return rounded(m), jnp.where(top, -rounded(others)[..., None], rounded(each))


@jax.custom_jvp
def _slope(x: Array, p: Array, p_low: Array, logits: Array) -> Array:
    """x_i - n p_i; of an impossible class there is none."""
    return jnp.where(logits == -jnp.inf, 0.0, -_gap(x, (p, p_low))[1])


@_slope.defjvp
def _slope_jvp(primals, tangents):
    x, p, _, _ = primals
    moved = tangents[3] - jnp.sum(p * tangents[3], axis=-1, keepdims=True)
    return _slope(*primals), -jnp.sum(x, axis=-1, keepdims=True) * p * moved


@jax.custom_jvp
def _multinomial(x: Array, p: Array, p_low: Array, log_p: Array, logits: Array) -> Array:
    """`p` and `log_p` have the digits, `logits` the derivatives."""
    n = jnp.sum(x, axis=-1)
    m, gap = _gap(x, (p, p_low))
    lost, none = p < jnp.finfo(p.dtype).tiny, x == 0
    inside = ~(lost | none)
    c, m_inside, gap = (jnp.where(inside, a, b) for a, b in ((x, 1.0), (m, 1.0), (gap, 0.0)))
    saddle = -gap_deviance(c, m_inside, gap) - stirling(0)(c) - (0.5 * jnp.log(c) + _HALF_LOG_2PI)
    # A probability below the smallest float: x log(n p) - log x!.
    log_n = jnp.log(jnp.where(n == 0, 1.0, n))[..., None]
    far = x * (log_n + jnp.where(none, 0.0, log_p)) - lgamma(x + 1.0)
    parts = jnp.where(none, -m, jnp.where(lost, far, saddle))
    safe = jnp.where(n == 0, 1.0, n)
    total = stirling(0)(safe) + 0.5 * jnp.log(safe) + _HALF_LOG_2PI
    return jnp.where(n == 0, 0.0, jnp.sum(parts, axis=-1) + total)


@_multinomial.defjvp
def _multinomial_jvp(primals, tangents):
    x, p, p_low, _, logits = primals
    slope = _slope(x, p, p_low, logits)
    return _multinomial(*primals), jnp.sum(slope * tangents[4], axis=-1)


def multinomial_log_pmf(x: ArrayLike, logits: ArrayLike) -> Array:
    """log of n! prod p_i^x_i / x_i! over the last axis, x (..., K) >= 0 with sum n, p = softmax(logits).

    Poissons of rates n p_i given their sum (Loader), their gaps n p_i - x_i to a few ulp. Slopes x_i -
    n p_i.
    """
    x, logits = jnp.broadcast_arrays(*map(whole, as_floats(x, logits)))
    x = x + jnp.zeros_like(logits)  # divided over a mesh as these are
    held = jax.lax.stop_gradient(logits)
    return _multinomial(x, *_softmax(held), log_softmax(held), logits)


def multinomial_probs_log_pmf(x: ArrayLike, p: ArrayLike) -> Array:
    """`multinomial_log_pmf` of probabilities p (..., K), by their shares of their sum. An infinite slope,
    at p = 0, is taken as 0.
    """
    x, p = jnp.broadcast_arrays(*map(whole, as_floats(x, p)))
    x = x + jnp.zeros_like(p)
    held = jax.lax.stop_gradient(p)
    log_pmf = _multinomial(x, *_shares(word(held)), xlogy(1.0, held), xlogy(1.0, p))
    # Of a class that is impossible and was not drawn log p has no slope, but the sum of p has.
    none = (held == 0) & (x == 0)
    gained = jnp.sum(jnp.where(none, p - held, 0.0), axis=-1) / jnp.sum(held, axis=-1)
    return log_pmf - jnp.sum(x, axis=-1) * gained
