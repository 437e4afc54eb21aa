"""The exact NLL of a density that can be enumerated."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp

from likelax._pytree import Array
from likelax.energy.density import Unnormalized
from likelax.energy.enumeration import enumeration_of, exact_samples, log_sum
from likelax.energy.objective import DensityObjective, filled
from likelax.objective import Batch, Claim, Measure, Scores


class MaximumLikelihood(DensityObjective):
    """-log p(x) = log Z - unnormalized_log_prob(x), in nats, with log Z a sum over every state: exact.

    Its gradient is the mean of the unnormalised log-density's over the model less that over the data. Each
    call does the whole sum: for an RBM over the states of its smaller side, of at most 25 units.

    ::

        model = lx.energy.MaximumLikelihood(lx.energy.RBM.random(key, 64, 16))
        result = lx.train.fit(model, optax.adam(1e-2), lx.Batch(x), steps=1000, key=key)
        result.params                                  # the trained RBM itself

    Args:
      model: an `RBM` or a `BoltzmannMachine`, which is where training starts and what the parameters are;
        or an `Energy` over bits.

    Raises:
      TypeError: for a model that is none.
      ValueError: for one of too many units.
    """

    claim = Claim("exact")

    def __init__(self, model: Any):
        super().__init__(model)
        if isinstance(model, Unnormalized):
            enumeration_of(model)

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        density = self.model.density(params, state=state)
        x = filled(jnp.asarray(batch.target), keep)
        log_z = log_sum(*enumeration_of(density), density.dtype)
        each = density.unnormalized_log_prob(x)
        terms = {"log_z": jnp.broadcast_to(log_z, each.shape), "unnormalized_log_prob": each}
        dims = density.support.dims(density.event_shape)
        kind: Any = "counting" if density.support.is_discrete else "lebesgue"
        claim = dataclasses.replace(self.claim, measure=Measure(kind, dims))
        return Scores(log_z - each, terms, state, claim)

    def sample(
        self, params: Any, key: Array, shape: int | tuple[int, ...] = (), *, state: Any = ()
    ) -> Array:
        """Exact samples, `(*shape, *event)`: see `exact_samples`."""
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        density = self.model.density(params, state=state)
        x = exact_samples(density, key, math.prod(shape))
        return jnp.reshape(x, (*shape, *density.event_shape))
