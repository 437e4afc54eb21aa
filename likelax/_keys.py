"""Random keys: one key in, named streams out."""

from __future__ import annotations

import zlib

import jax
import jax.numpy as jnp
import numpy as np


def check_key(key: object) -> jax.Array:
    """The key, typed or legacy; raises if it is none.

    Raises:
      TypeError: when `key` is not one random key (an integer seed, say).
    """
    if isinstance(key, jax.Array):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0:
            return key
        if key.dtype == jnp.uint32 and key.ndim == 1:
            return key
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            raise TypeError(
                f"one random key wanted, got an array of keys of shape {key.shape}; "
                "map over them: jax.vmap(f)(keys)"
            )
    if isinstance(key, tuple) and all(isinstance(size, int) for size in key):
        raise TypeError(
            f"a random key wanted, got the shape {key}; the key comes first: write "
            f"sample(jax.random.key(0), {key})"
        )
    leaves = jax.tree.leaves(key)
    if leaves and leaves[0] is not key:
        raise TypeError(
            f"a random key wanted, got a {type(key).__name__} of {len(leaves)} arrays; "
            "params come before the key: write objective(params, jax.random.key(0), batch)"
        )
    got = f"{key.dtype} of shape {key.shape}" if isinstance(key, jax.Array | np.ndarray) else key
    raise TypeError(f"a random key wanted, got {got}; write jax.random.key(0)")


def stream(key: jax.Array, name: str) -> jax.Array:
    """The key of the stream called `name`: fold_in of a hash that no Python version changes."""
    return jax.random.fold_in(check_key(key), zlib.crc32(name.encode()))


def row_keys(key: jax.Array, count: int) -> jax.Array:
    """A key for each example by its number, so that the batch's size does not matter."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))
