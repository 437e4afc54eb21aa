"""Shares of each in what is left from it on, as a ranking has them."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics.logspace import as_floats


def log_shares_of_rest(scores: ArrayLike) -> Array:
    """scores_j - log sum_{k >= j} exp(scores_k) over the last axis.

    Every sum is against its own largest term, so that neither a common offset, nor a term far above
    those that follow it, costs a digit. Equal scores of -inf share evenly what those above them
    leave: nothing.
    """
    (s,) = as_floats(scores)
    axis = s.ndim - 1
    held = jax.lax.stop_gradient(s)
    nothing = jnp.where(held == -jnp.inf, 0.0, s - held)  # 0, with the slope of s
    top = jax.lax.cummax(held, axis=axis, reverse=True)

    def join(right: tuple[Array, Array], left: tuple[Array, Array]) -> tuple[Array, Array]:
        (a, sum_a), (b, sum_b) = left, right
        m = jnp.maximum(a, b)
        return m, sum_a * _fall(a, m) + sum_b * _fall(b, m)

    _, total = jax.lax.associative_scan(join, (held, jnp.exp(nothing)), reverse=True, axis=axis)
    return jnp.where(held == top, nothing, s - top) - jnp.log(total)


def _fall(a: Array, m: Array) -> Array:
    return jnp.exp(jnp.where(a == m, 0.0, a - m))
