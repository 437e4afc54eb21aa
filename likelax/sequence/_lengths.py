"""How much of each sequence counts: the field `lengths` of distributions over sequences."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from likelax import _checks
from likelax._pytree import Array, add_axes

# What stands in samples and modes beyond the end of a sequence.
PAD = -1


def aligned(values: dict[str, Any], rank: int, name: str, scores: str) -> dict[str, Any]:
    """`values` with `lengths` as integers of `rank` axes, if there are any. `scores` is the field of
    shape `(*batch, steps, ...)`, as it was given.
    """
    if values["lengths"] is None:
        return values
    lengths = jnp.asarray(values["lengths"])
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(
            f"{name}: lengths are whole numbers of the batch's shape, got {lengths.dtype} of shape "
            f"{lengths.shape}; write lengths.astype(int)"
        )
    shape = values[scores].shape
    try:
        jnp.broadcast_shapes(lengths.shape, shape[:-2])
    except ValueError:
        raise ValueError(
            f"{name}: lengths of shape {lengths.shape} do not fit {scores} of shape {shape}: they have "
            f"one entry for each sequence, shape {shape[:-2]}"
        ) from None
    return values | {"lengths": add_axes(lengths, rank - lengths.ndim)}


def check(lengths: Array | None, num_steps: int, name: str) -> None:
    """Under `debug_checks`: raises unless they are in 0..num_steps."""
    if lengths is not None:
        _checks.check_values(
            (lengths >= 0) & (lengths <= num_steps),
            lengths,
            f"{name}: lengths are from 0 to {num_steps}; at {{index}} it is {{value}}",
        )
