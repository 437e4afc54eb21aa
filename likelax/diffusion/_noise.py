"""Random numbers of examples by their number in the batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from likelax._keys import row_keys
from likelax._pytree import Array


def normal_like(key: Array, x: Array) -> Array:
    """Standard Normal numbers, those of each example from its number in the batch."""

    def draw(key: Array) -> Array:
        return jax.random.normal(key, x.shape[1:], x.dtype)

    return jax.vmap(draw)(row_keys(key, x.shape[0]))


def uniform_like(key: Array, x: Array) -> Array:
    """Uniform numbers in (0, 1), those of each example from its number in the batch."""

    def draw(key: Array) -> Array:
        return jax.random.uniform(key, x.shape[1:], x.dtype)

    # Midpoints of the cells of which these are the lower ends: neither 0 nor 1.
    half = float(jnp.finfo(x.dtype).eps) / 2
    return jax.vmap(draw)(row_keys(key, x.shape[0])) + half
