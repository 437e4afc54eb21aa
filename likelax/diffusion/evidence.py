"""What a diffusion model says of the likelihood, however it was trained."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from likelax._checks import is_count
from likelax._keys import check_key, stream
from likelax._pytree import Array
from likelax.diffusion.times import StratifiedTimes
from likelax.metrics import Evaluation, evaluation
from likelax.objective import Aux, Batch, Claim, Objective, Scores

# How many rows a network is given at once where no gradient is wanted.
_ROWS = 4096
# How many independent groups of draws a standard error wants.
_GROUPS = 16


@dataclasses.dataclass(frozen=True)
class Bound(Evaluation):
    """An `lx.Evaluation`, of each example over several draws of times and noise.

    Its `standard_error` is over examples, and has what the draws add in it.

    Attributes:
      sampling_error: of each of `per_example`, its standard error over the draws, `(count,)`: what
        draws with another key would change.
    """

    sampling_error: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))


def bound(
    model: Any,
    params: Any,
    key: Array,
    batches: Batch | Iterable[Batch],
    *,
    num_samples: int = 16,
    state: Any = (),
) -> Bound:
    """The variational upper bound on each example's NLL, in nats, with errors; dropout off.

    ::

        result = lx.diffusion.bound(model, params, key, lx.Batch(images), num_samples=64)
        lx.bits_per_dim(result)                         # an upper bound, ± its standard error

    A model that was trained with another weighting than the bound's is one of the likelihood all the
    same, and is scored with weight 1: in continuous time, but for a `VLB` of so many steps. The draws
    are made to vary little: those of an example are spread evenly, in groups of `num_samples / 16` or a
    little fewer; of real numbers uniformly in the log-SNR, and less the part of |e|^2 - E|e|^2 that no
    network can predict, whose mean is 0; of pixels half of them so and half uniformly in time.

    Args:
      model: a `Denoising`, a `VLB` or one of discrete data.
      params, state: as from `init` or training.
      key: a random key.
      batches: one Batch or an iterable of them.
      num_samples: draws of time and noise for each example, at least 2, in blocks, so that thousands
        fit.

    Raises:
      TypeError: for a model that has no such bound, and under `jit` or `vmap`.
      ValueError: for fewer draws, and when no example is left.
    """
    if not hasattr(model, "bounded"):
        raise TypeError(
            f"bound: a lx.diffusion.VLB, Denoising, MaskedDiffusion or UniformDiffusion wanted, got "
            f"{type(model).__name__}; of a FlowMatching write lx.evaluate(lx.diffusion.ODELikelihood("
            "model), params, key, batches)"
        )
    if not (is_count(num_samples) and num_samples >= 2):
        raise ValueError(f"bound: num_samples is a whole number, at least 2, got {num_samples!r}")
    averaged, key = _Averaged(model, num_samples), check_key(key)
    errors: list[np.ndarray] = []

    def scored() -> Iterator[Aux]:
        for i, batch in enumerate([batches] if isinstance(batches, Batch) else batches):
            _, aux = averaged(params, jax.random.fold_in(key, i), batch, state=state, train=False)
            yield aux
            errors.append(np.asarray(aux.state, np.float64)[np.asarray(aux.weight) != 0])

    result = evaluation(scored())
    own = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    return Bound(**own, sampling_error=np.concatenate(errors))


class _Averaged(Objective):
    """The mean of so many draws of a model's bound, whose standard errors are its next state.

    Draws come in groups: the times of each example in a group are spread evenly over [0, 1). The error is
    that of the groups' means, which are independent.
    """

    def __init__(self, model: Any, count: int):
        self.model, self.count, self.claim = model, count, Claim("upper")

    def check(self, batch: Any) -> None:
        self.model.check(batch)

    def prepare(self, batch: Batch) -> Batch:
        return self.model.prepare(batch)

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        claims: list[Claim] = []
        rows, each = jnp.shape(batch.target)[0], self._each
        key_of_times, keys = stream(key, "times"), jax.random.split(key, self.count)

        def draw(drawn: tuple[Array, Array]) -> tuple[Array, dict[str, Array]]:
            key, number = drawn
            group = jax.random.fold_in(key_of_times, number // each)
            first = StratifiedTimes().draw(group, rows, ()).time
            u = (first + (number % each) / each) % 1
            scores = self.model.bounded(params, key, batch, u=u, state=state, keep=keep)
            claims.append(scores.claim)
            return scores.per_example, scores.terms

        numbers = jnp.arange(self.count)
        cost, terms = jax.lax.map(draw, (keys, numbers), batch_size=max(1, _ROWS // max(rows, 1)))
        groups = jnp.mean(cost.reshape((-1, each, rows)), axis=1)
        error = jnp.std(groups, axis=0, ddof=1) / math.sqrt(len(groups))
        terms = {name: jnp.mean(term, axis=0) for name, term in terms.items()}
        return Scores(jnp.mean(cost, axis=0), terms, error, claims[0])

    @property
    def _each(self) -> int:
        """How many draws a group has: a divisor of their number that leaves enough groups."""
        divisors = (d for d in range(self.count // _GROUPS, 1, -1) if self.count % d == 0)
        return next(divisors, 1)

    # Equal where they ask the same, so that a second call compiles nothing.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Averaged) and (self.model, self.count) == (
            other.model,
            other.count,
        )

    def __hash__(self) -> int:
        return hash((self.model, self.count))
