"""Whether a network for sequences looks ahead."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from likelax.objective import Batch
from likelax.sequence.autoregressive import Autoregressive


def check_causal(model: Autoregressive, params: Any, batch: Batch, *, state: Any = ()) -> None:
    """Passes if the network's output at each position depends on its inputs up to there only, on those
    of its own sequence, and where documents are packed on those of its own document: without that the
    product of the factors is no probability, and the loss means nothing.

    Inputs that must not matter are exchanged for those of another sequence of the batch, position by
    position, and nothing may change by more than the rounding of sums.

    Args:
      model: what to check.
      params, state: its parameters and state.
      batch: a few sequences that differ; short ones, since the network runs once for each position.

    Raises:
      AssertionError: with the first position that sees what it must not.
      ValueError: for a batch of one sequence or of equal ones, and for outputs that are NaN.
    """
    if len(jax.tree.leaves(batch.target)[0]) < 2:
        raise ValueError("check_causal exchanges sequences: give a batch of at least two")
    batch, keep = model._prepared(batch)
    arguments = model._arguments(batch, keep)
    previous, *rest = arguments.positional
    net = model.conditional.net

    @jax.jit
    def outputs(inputs: Any) -> Any:
        given = type(arguments)((inputs, *rest), arguments.named)
        return net.apply(params["net"], given, key=None, state=state, train=False)[0]

    other = jnp.roll(previous, 1, axis=0)
    if jnp.all(other == previous):
        raise ValueError(
            "check_causal exchanges sequences, and these are equal: give different ones"
        )
    raw = outputs(previous)
    plain = np.asarray(raw, np.float64)
    if np.isnan(plain).any():
        raise ValueError("the network's output is NaN: nothing can be seen of it")
    finite = np.isfinite(plain)
    eps = float(jnp.finfo(raw.dtype).eps)
    # Of each number: an output that is large beside the others hides nothing of theirs.
    channels = np.where(finite, plain, 0)
    slack = (64 if eps < 1e-4 else 4) * eps * (np.abs(channels) + channels.std(axis=(0, 1)))

    def moved(kept: Any) -> np.ndarray:
        """Which outputs change where the inputs that are not kept do, `(batch, time)`."""
        kept = jnp.broadcast_to(kept, previous.shape[:2])
        kept = kept.reshape(kept.shape + (1,) * (previous.ndim - 2))
        changed = np.asarray(outputs(jnp.where(kept, previous, other)), np.float64)
        with np.errstate(invalid="ignore"):
            same = np.where(finite, np.abs(changed - plain) <= slack, changed == plain)
        return ~same.all(axis=tuple(range(2, same.ndim)))

    def complain(at: np.ndarray, what: str) -> None:
        if at.any():
            row, position = np.argwhere(at)[0]
            raise AssertionError(f"{what} (first at position {position} of sequence {row})")

    time = np.arange(previous.shape[1])
    for t in time[:-1]:
        complain(
            moved(time <= t) & (time <= t),
            f"the network sees ahead: outputs up to position {t} change with inputs after it. Mask "
            "its attention (or pad its convolutions on the left): position t sees inputs 0..t only",
        )
    first = np.arange(len(previous))[:, None] == 0
    complain(
        moved(first) & first,
        "the network mixes sequences: the outputs of the first change with the inputs of the others",
    )
    if "segments" in arguments.named:
        segments = np.asarray(arguments.named["segments"])
        for number in np.unique(segments[segments != 0]):
            own = segments == number
            complain(
                moved(own) & own,
                f"packed documents see one another: outputs of document {number} change with inputs "
                "of others. Let a position attend only where `segments` are equal",
            )
