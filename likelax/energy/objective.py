"""What the objectives of this package share."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from likelax._keys import stream
from likelax._pytree import Array, is_traced
from likelax.energy.density import Unnormalized
from likelax.energy.network import Energy
from likelax.networks import Variables
from likelax.objective import Batch, Objective, check_batch, trailing


class DensityObjective(Objective):
    """A loss of the parameters of a density that is known up to a constant. A subclass writes `score`.

    Args:
      model: an `RBM` or another `Unnormalized`, which is where training starts and what the parameters
        are; or an `Energy`.

    Raises:
      TypeError: for a model that is none.
    """

    def __init__(self, model: Any):
        if not isinstance(model, Unnormalized | Energy):
            raise TypeError(
                f"{type(self).__name__}: lx.energy.RBM or another model of lx.energy wanted, got "
                f"{model!r}"
            )
        self.model = model

    @property
    def _name(self) -> str:
        return type(self).__name__

    def check(self, batch: Any) -> None:
        check_batch(batch)
        if is_traced(batch):
            return
        _, keep = self._prepared(batch)
        known = self.model.density((), state=()) if isinstance(self.model, Energy) else self.model
        known._value(filled(jnp.asarray(batch.target), keep))

    def init(self, key: Array, batch: Batch) -> Variables:
        self.check(batch)
        return self.model.init(key, self._modelled(batch))

    def _modelled(self, batch: Batch) -> Any:
        """The values that the density is of."""
        return batch.target

    def density(self, params: Any, *, state: Any = ()) -> Unnormalized:
        """The density with these parameters, a pytree with `unnormalized_log_prob`.

        Args:
          params: as from `init` or training.
          state: likewise.
        """
        return self.model.density(params, state=state)

    def merge(self, params: Any, state: Any = ()) -> Any:
        """The trained model: an RBM as it is, the user's own network of an `Energy`."""
        return self.model.merge(params, state) if isinstance(self.model, Energy) else params

    def _density(self, params: Any, key: Array, state: Any, train: bool) -> Unnormalized:
        """The density as it is in training, or not."""
        return self.model.density(params, state=state, key=stream(key, "net"), train=train)

    def _data(self, density: Unnormalized, batch: Batch, keep: Array | None) -> Array:
        """The examples, `(batch, *event)`; 1 in place of what is left out."""
        x, event = jnp.asarray(batch.target), density.event_shape
        if x.ndim != 1 + len(event):
            raise ValueError(
                f"{self._name}: targets have shape (batch, *event) with event {event}, got {x.shape}; "
                f"write target.reshape((-1, *{event}))"
            )
        return density._value(filled(x, keep))


def filled(x: Array, keep: Array | None) -> Array:
    """1, which is in every support here, in place of what is left out."""
    return x if keep is None else jnp.where(trailing(keep, x.ndim), x, jnp.ones_like(x))
