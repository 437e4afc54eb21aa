"""How much of each sequence counts: the field `lengths` of distributions over sequences."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from likelax import _checks
from likelax._pytree import Array, add_axes

# What stands in samples and modes beyond the end of a sequence.
PAD = -1


def aligned(values: dict[str, Any], rank: int, name: str) -> dict[str, Any]:
    """`values` with `lengths` as integers of `rank` axes, if there are any."""
    if values["lengths"] is None:
        return values
    lengths = jnp.asarray(values["lengths"])
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(
            f"{name}: lengths are whole numbers of the batch's shape, got {lengths.dtype} of shape "
            f"{lengths.shape}; write lengths.astype(int)"
        )
    return values | {"lengths": add_axes(lengths, rank - lengths.ndim)}


def check(lengths: Array | None, num_steps: int, name: str) -> None:
    """Under `debug_checks`: raises unless they are in 0..num_steps."""
    if lengths is not None:
        _checks.check_values(
            (lengths >= 0) & (lengths <= num_steps),
            lengths,
            f"{name}: lengths are from 0 to {num_steps}; at {{index}} it is {{value}}",
        )
