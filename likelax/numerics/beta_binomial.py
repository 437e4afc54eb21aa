"""Tails of the beta-binomial: sums of its probabilities, outwards from the count that is asked for.

No difference with 1 and no 3F2 of alternating or growing terms: every term is positive and has the
digits of `dirichlet_multinomial_log_pmf`. The larger of the two tails comes from the smaller one.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics.dirichlet_multinomial import dirichlet_multinomial_log_pmf
from likelax.numerics.logspace import as_floats, log_add_exp, log_complements, logsumexp

_AT_ONCE = 64


def _log_sum(first: Array, n: Array, a: Array, b: Array) -> Array:
    """log of p(first) + p(first + 1) + ... + p(n), for 0 <= first <= n.

    With b >= 1 the terms end by falling, and a rest that rounds to nothing is left out.
    """
    lanes = jnp.arange(_AT_ONCE, dtype=n.dtype)
    least = math.log(float(jnp.finfo(n.dtype).eps) / 8.0)
    n_, a_, b_ = (x[..., None] for x in (n, a, b))

    def terms(start: Array) -> Array:
        k = start[..., None] + lanes
        inside = k <= n_
        k = jnp.where(inside, k, n_)
        counts = jnp.stack([k, n_ - k], -1)
        shapes = jnp.stack([a_ + jnp.zeros_like(k), b_ + jnp.zeros_like(k)], -1)
        return jnp.where(inside, dirichlet_multinomial_log_pmf(counts, shapes), -jnp.inf)

    def add(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        start, total, going = state
        found = terms(start)
        total = jnp.where(going, log_add_exp(total, logsumexp(found, -1)), total)
        start = start + _AT_ONCE
        rest = n - start + 1
        bound = found[..., -1] + jnp.log(jnp.maximum(rest, 1))
        going = going & (rest > 0) & ((b < 1) | (bound > total + least))
        return start, total, going

    state = first, jnp.full_like(first, -jnp.inf), jnp.ones(first.shape, bool)
    return jax.lax.while_loop(lambda state: jnp.any(state[2]), add, state)[1]


def _both(k: Array, n: Array, a: Array, b: Array) -> tuple[Array, Array]:
    # Failures counted instead of successes have the lower tail as their upper one.
    pairs = (n - k, k + 1), (n, n), (b, a), (a, b)
    return log_complements(*_log_sum(*map(jnp.stack, pairs)))


@jax.custom_jvp
def _log_tails(k: Array, n: Array, a: Array, b: Array) -> tuple[Array, Array]:
    return _both(k, n, a, b)


@_log_tails.defjvp
def _log_tails_jvp(primals, tangents):
    """A loop of unknown length has no reverse mode: the slopes go forward with the sums."""
    k, n, a, b = primals

    def push(*directions: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        return jax.jvp(lambda a, b: _both(k, n, a, b), (a, b), directions)

    one, zero = jnp.ones_like(a), jnp.zeros_like(a)
    directions = jnp.stack([one, zero]), jnp.stack([zero, one])
    out, slopes = jax.vmap(push, out_axes=(None, 0))(*directions)
    return out, tuple(in_a * tangents[2] + in_b * tangents[3] for in_a, in_b in slopes)


def beta_binomial_log_tails(
    k: ArrayLike, n: ArrayLike, a: ArrayLike, b: ArrayLike
) -> tuple[Array, Array]:
    """log P(X <= k) and log P(X > k) of successes in n trials of probability Beta(a, b), 0 <= k < n.

    The work grows with the counts of either tail up to where what is left rounds to nothing: all n
    of them where a or b is below 1. Counts have no slope; second derivatives are forward over reverse.
    """
    return _log_tails(*jnp.broadcast_arrays(*as_floats(k, n, a, b)))
