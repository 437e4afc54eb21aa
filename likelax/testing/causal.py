"""Whether a network for sequences looks ahead."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from likelax.objective import Batch
from likelax.sequence.autoregressive import Autoregressive


def check_causal(model: Autoregressive, params: Any, batch: Batch, *, state: Any = ()) -> None:
    """Passes if the network's output at each position depends on its inputs up to there only; without
    that the product of the factors is no probability, and the loss means nothing.

    At each position all later inputs are exchanged for those of another sequence of the batch, and
    nothing before them may change (by more than the rounding of sums).

    Args:
      model: what to check.
      params, state: its parameters and state.
      batch: a few sequences that differ; short ones, since the network runs once for each position.

    Raises:
      AssertionError: with the first position that sees ahead.
      ValueError: for a batch of one sequence.
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
    plain = np.asarray(outputs(previous), np.float64)
    scale = np.abs(plain).max()
    for t in range(previous.shape[1] - 1):
        changed = np.asarray(outputs(jnp.concatenate([previous[:, : t + 1], other[:, t + 1 :]], 1)))
        apart = np.abs(changed - plain)[:, : t + 1].max(axis=(0, 2))
        seen = np.flatnonzero(apart > 1e-4 * scale)
        if seen.size:
            raise AssertionError(
                f"the network sees ahead: its output at position {seen[0]} changes by "
                f"{apart[seen[0]]:.3g} with its inputs after position {t}. Mask its attention (or pad "
                "its convolutions on the left): position t sees inputs 0..t only"
            )
