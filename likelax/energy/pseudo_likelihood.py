"""Losses of each unit given the others, in which log Z cancels."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from likelax._checks import is_count
from likelax._keys import stream
from likelax._pytree import Array
from likelax.distributions.base import Distribution
from likelax.energy.objective import DensityObjective
from likelax.objective import Batch, Claim, Scores


class _OfUnits(DensityObjective):
    """A loss summed over the units. A subclass writes `_cost`."""

    claim = Claim("none")

    def __init__(self, model: Any, *, num_units: int | None = None):
        super().__init__(model)
        if not model.support.is_discrete:
            raise TypeError(
                f"{self._name}: a model of bits, spins or classes wanted, the values of "
                f"{type(model).__name__} are {model.support}; write lx.energy.ScoreMatching(model)"
            )
        self._count = math.prod(model.event_shape)
        if num_units is not None and not (is_count(num_units) and num_units <= self._count):
            raise ValueError(
                f"{self._name}: num_units is a whole number from 1 to {self._count}, got "
                f"{num_units!r}; leave it out for all"
            )
        self.num_units = num_units

    def _cost(self, dist: Distribution, value: Array) -> Array:
        """Of each unit, `(batch, units)`."""
        raise NotImplementedError

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        density = self._density(params, key, state, train)
        x = self._data(density, batch, keep)
        value, units = density._unit_values(x), None
        if train and self.num_units is not None:
            units = _drawn(stream(key, "units"), len(x), self._count, self.num_units)
            value = jnp.take_along_axis(value, units, axis=-1)
        each = self._cost(density.unit_given_rest(x, units), value)
        if train and jax.tree.leaves(state):
            state = density._scored(x)[1]
        return Scores(self._count * jnp.mean(each, axis=-1), {}, state, self.claim)


class PseudoLikelihood(_OfUnits):
    """-sum_i log p(x_i | all other units), in nats (Besag 1975).

    Each conditional is exact and needs no log Z, and on average the sum is least for the true density. It is
    neither the NLL nor a bound of it, and may rise while the NLL falls: compare models by
    `lx.energy.log_partition`.

    A network whose examples know of one another in training (batch normalisation) has no conditionals of its
    own: take another one.

    Args:
      model: an `RBM`, `CategoricalRBM` or `BoltzmannMachine`, or an `Energy` over bits. All units at once;
        the states of the hidden ones are summed out, not enumerated.
      num_units: so many units of each example, drawn at random, times what scales their sum to that of all: in
        training only. Default: all.

    Raises:
      TypeError: for a model of real values.
      ValueError: for another number of units.
    """

    def _cost(self, dist: Distribution, value: Array) -> Array:
        return -dist.log_prob(value)


class RatioMatching(_OfUnits):
    """sum_i (1 - p(x_i | all other units))^2 (Hyvarinen 2007), in which log Z cancels; on average it is least
    for the true density.

    It is half the Brier score of the conditionals, of which `PseudoLikelihood` is the log score, and no
    likelihood.

    Args:
      model: an `RBM` or `BoltzmannMachine`, or an `Energy` over bits.
      num_units: as for `PseudoLikelihood` (Dauphin and Bengio 2013).

    Raises:
      TypeError: for a model of other values.
      ValueError: for another number of units.
    """

    def __init__(self, model: Any, *, num_units: int | None = None):
        super().__init__(model, num_units=num_units)
        if getattr(model, "_indices", False):
            raise TypeError(
                f"{self._name}: a model of bits or spins wanted, got {type(model).__name__}; write "
                "lx.energy.PseudoLikelihood(model)"
            )

    def _cost(self, dist: Distribution, value: Array) -> Array:
        return jnp.exp(2 * dist.log_prob(1 - value))


def _drawn(key: Array, rows: int, count: int, few: int) -> Array:
    """`few` different units for each row, by its place."""

    def draw(row: Array) -> Array:
        return jax.random.permutation(jax.random.fold_in(key, row), count)[:few]

    return jax.vmap(draw)(jnp.arange(rows))
