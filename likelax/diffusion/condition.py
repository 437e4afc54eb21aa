"""The input of a conditional model, and what stands for none."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from likelax._keys import row_keys
from likelax._pytree import Array
from likelax.objective import trailing


def without(input: Any, null: Any) -> Any:
    """An input of the same shapes that says nothing: `null` in each row.

    Raises:
      ValueError: for a null that does not fit the input.
    """
    got, wanted = (str(jax.tree.structure(tree)) for tree in (null, input))
    if got != wanted:
        raise ValueError(
            f"null is what an example's input is where there is none, of the structure {wanted}, got "
            f"{got}; write "
            "null=jax.tree.map(lambda x: jnp.zeros_like(x[0]), input), or a label of its own"
        )
    return jax.tree.map(_rows, input, null)


def _rows(input: Any, null: Any) -> Array:
    input, null = jnp.asarray(input), jnp.asarray(null)
    fits = null.shape in ((), input.shape[1:])
    if not fits or jnp.result_type(null, input) != input.dtype:
        raise ValueError(
            f"null stands for one example's input, of shape {input.shape[1:]} and {input.dtype}, got "
            f"{null.shape} and {null.dtype}; write null=jnp.zeros({input.shape[1:]}, "
            f"jnp.{input.dtype}), or a label of its own"
        )
    return jnp.broadcast_to(null.astype(input.dtype), input.shape)


def dropped(input: Any, null: Any, key: Array, rate: float) -> Any:
    """The input with `null` in a part `rate` of its rows, each decided from its number."""
    count = jax.tree.leaves(input)[0].shape[0]
    gone = jax.vmap(lambda key: jax.random.bernoulli(key, rate))(row_keys(key, count))
    return jax.tree.map(
        lambda x, none: jnp.where(trailing(gone, x.ndim), none, x), input, without(input, null)
    )


def doubled(input: Any, null: Any) -> Any:
    """The input, and below it as many rows that say nothing."""
    return jax.tree.map(lambda x, none: jnp.concatenate([x, none]), input, without(input, null))
