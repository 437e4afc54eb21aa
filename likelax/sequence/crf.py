"""Conditional random fields over label sequences."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from likelax import supports
from likelax._pytree import Array, add_axes, node, param
from likelax.distributions.base import Distribution, _mask
from likelax.distributions.categorical import Categorical
from likelax.numerics import semiring
from likelax.numerics.indexing import pick
from likelax.sequence._lengths import PAD, aligned, check


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _Labels(supports.Support):
    """Vectors of the integers 0..num_labels-1 where `within`, and of any beyond."""

    num_labels: int = dataclasses.field(kw_only=True)
    within: Array = dataclasses.field(kw_only=True)

    def contains(self, value: Array) -> Array:
        label = (value >= 0) & (value < self.num_labels)
        return jnp.all(label | ~self.within, axis=-1)

    def inside(self, like: Array) -> Array:
        return jnp.zeros_like(like)


class LinearChainCRF(Distribution):
    """A linear-chain conditional random field: a distribution over sequences of T labels.

    log p(y) = sum_t unary[t, y_t] + sum_t transition[y_t, y_{t+1}] + initial[y_1] + final[y_T]
    - log Z, in nats; log Z and everything else exact, by a parallel prefix scan: depth O(log T), work
    O(T K^3). Gradients are those of expected counts. ::

        crf = LinearChainCRF(scores, transition, lengths=lengths)     # scores (batch, T, K)
        loss = -crf.log_prob(labels)                                  # labels (batch, T), integers
        crf.mode(), crf.marginals().probs

    Potentials of -inf rule a label or a step out (as BIO tags have it): such sequences have
    log-density -inf with zero gradient, as have labels outside 0..K-1.

    Args:
      unary: score of each label at each step, shape `(*batch, T, K)`, real or -inf.
      transition: score of label j after label i, `(*batch, K, K)` or shared, `(K, K)`.
      initial: score of the first label, `(*batch, K)` or `(K,)` (default: 0).
      final: score of the last label (default: 0).
      lengths: how many steps of each sequence count, integers of shape `batch` (default: all T).
        Labels beyond the end have no effect, whatever they are. In samples and the mode -1 stands
        there, and the marginals there are those of the last label. A sequence of length 0 has
        log-density 0.

    Raises:
      ValueError: for shapes that do not fit.
      TypeError: for labels or lengths that are no integers.

    Source: J. Lafferty, A. McCallum and F. Pereira (2001), "Conditional random fields: probabilistic
    models for segmenting and labeling sequence data".
    """

    _takes_indices = True
    unary: Array = param(supports.real, shape=("event", "num_labels"))
    transition: Array = param(supports.real, shape=("num_labels", "num_labels"))
    initial: Array = param(supports.real, shape=("num_labels",))
    final: Array = param(supports.real, shape=("num_labels",))
    lengths: Array | None = node(default=None)

    def __init__(
        self,
        unary: ArrayLike,
        transition: ArrayLike,
        initial: ArrayLike | None = None,
        final: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
    ):
        def or_zeros(given: ArrayLike | None) -> ArrayLike:
            # Integers: they take the dtype of the others.
            return jnp.zeros(jnp.shape(unary)[-1:], int) if given is None else given

        super().__init__(unary, transition, or_zeros(initial), or_zeros(final), lengths)

    def _align(self, values: dict[str, Any]) -> dict[str, Any]:
        core = {p.name: p.core_ndims for p in self._params}
        lengths = values["lengths"]
        ranks = [values[name].ndim - ndims for name, ndims in core.items()]
        rank = max(*ranks, 0 if lengths is None else jnp.ndim(lengths))
        values = aligned(values, rank, "LinearChainCRF", "unary")
        for name, own in zip(core, ranks, strict=True):
            values[name] = add_axes(values[name], rank - own)
        return values

    def _check(self) -> None:
        if not self._steps:
            raise ValueError(
                f"LinearChainCRF: unary has at least one step, got shape {self.unary.shape}; "
                "shorter sequences are said by lengths="
            )
        super()._check()

    def _check_params(self) -> None:
        check(self.lengths, self._steps, "LinearChainCRF")

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """What the batch axes of all parameters and the lengths broadcast to."""
        lengths = () if self.lengths is None else self.lengths.shape
        return self._joint({"parameters": super().batch_shape, "lengths": lengths})

    @property
    def num_labels(self) -> int:
        """K."""
        return self.unary.shape[-1]

    @property
    def _steps(self) -> int:
        """T."""
        return self.unary.shape[-2]

    @property
    def support(self) -> supports.Support:
        """Sequences of the integers 0..K-1, beyond the end of one with lengths of any."""
        labels = supports.integer_interval(0, self.num_labels - 1)
        if self.lengths is None:
            return supports.elementwise(labels, 1)
        size, within = self.num_labels, self._within()
        return _Labels(f"{labels}, up to the end", 1, True, num_labels=size, within=within)

    # The chain.

    def _within(self) -> Array:
        """Which steps count, `(*batch, T)`."""
        length = self._steps if self.lengths is None else self.lengths[..., None]
        return jnp.broadcast_to(jnp.arange(self._steps) < length, (*self.batch_shape, self._steps))

    @jax.jit
    def _chain(self) -> tuple[Array, Array]:
        """Its log-potentials, of the first label and of each step, `final` in the last of them.

        Beyond the end the steps are the identity: they carry the last label along.
        """
        within = self._within()
        after = jnp.concatenate([within[..., 1:], jnp.zeros_like(within[..., :1])], axis=-1)
        last = within & ~after
        unary = self.unary + jnp.where(last[..., None], self.final[..., None, :], 0)
        label = jnp.arange(self.num_labels)
        carry = jnp.where(label[:, None] == label, 0, -jnp.inf)
        steps = self.transition[..., None, :, :] + unary[..., 1:, None, :]
        steps = jnp.where(within[..., 1:, None, None], steps, carry)
        first = self.initial + unary[..., 0, :]
        # An empty sequence is one path, of score 0.
        first = jnp.where(within[..., :1], first, jnp.where(label == 0, 0, -jnp.inf))
        return first, steps

    def log_normalizer(self) -> Array:
        """log Z, the log of the sum of exp(score) over all label sequences, shape `batch`."""
        return semiring.log_normalizer(*self._chain())

    def _carried(self, value: Array) -> Array:
        """The labels, the last one carried along beyond the end."""
        if self.lengths is None:
            return value
        last = pick(self.lengths - 1, value)
        return jnp.where(self._within(), value, last[..., None])

    def log_prob(self, value: Array) -> Array:
        log_prob = semiring.log_prob(*self._chain(), self._carried(value))
        impossible = log_prob == -jnp.inf
        return _mask(impossible, jnp.where(impossible, 0, log_prob))

    # Summaries.

    def marginals(self) -> Categorical:
        """The label at each step, p(y_t), of batch shape `(*batch, T)`."""
        return Categorical(logits=semiring.marginals(*self._chain()))

    def _padded(self, path: Array) -> Array:
        return jnp.where(self._within(), path, PAD)

    def mode(self) -> Array:
        return self._padded(semiring.best_path(*self._chain()))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        chain = semiring.conditionals(*self._chain())
        return self._padded(semiring.sample_path(key, *chain, shape=shape))

    def entropy(self) -> Array:
        return semiring.entropy(*self._chain())
