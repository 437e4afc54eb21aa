"""Connectionist temporal classification: label sequences from frames, without an alignment."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, add_axes, node, param, static
from likelax.distributions.base import Distribution
from likelax.numerics.indexing import take
from likelax.numerics.logspace import log_add_exp, log_softmax, logsumexp
from likelax.sequence._lengths import PAD, aligned, check


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _Transcripts(supports.Support):
    """Vectors of labels 0..num_tokens-1 other than the blank, then only -1."""

    num_tokens: int = dataclasses.field(kw_only=True)
    blank: int = dataclasses.field(kw_only=True)

    def is_label(self, value: Array) -> Array:
        """Whether each entry is a label."""
        return (value >= 0) & (value < self.num_tokens) & (value != self.blank)

    def contains(self, value: Array) -> Array:
        label, pad = self.is_label(value), value == PAD
        gap = jnp.any(pad[..., :-1] & ~pad[..., 1:], axis=-1)
        return jnp.all(label | pad, axis=-1) & ~gap

    def inside(self, like: Array) -> Array:
        return jnp.full_like(like, PAD)


class CTC(Distribution):
    """Label sequences by connectionist temporal classification: each of T frames emits a label or the
    blank, independently; repeats are merged, then blanks are dropped.

    log p(y) = log sum over the alignments that give y of prod_t p(frame t), in nats, exact: a scan
    over the frames. A value is `(*sample, *batch, num_labels)`, integers: the labels, then -1. ::

        ctc = CTC(logits, lengths=frames, num_labels=labels.shape[-1])    # logits (batch, T, V)
        loss = -ctc.log_prob(labels)                                      # labels (batch, N)

    The paddings that `optax.ctc_loss` takes, 1 at what does not count, become ::

        lengths = (logit_paddings == 0).sum(-1)
        labels = jnp.where(label_paddings == 0, labels, -1)

    What no alignment gives has log-density -inf with zero gradient: more labels than frames (equal
    neighbours need a blank between them), the blank inside a sequence, numbers that are no label, a
    label after a -1.

    The probabilities of all sequences of up to T labels sum to 1. With a smaller `num_labels` those
    of the longer ones are missing, and samples that are longer are cut there.

    The mode is not known to be computable in reasonable time: `best_path` collapses the best
    alignment, which may be another sequence.

    Args:
      logits: of the tokens at each frame, shape `(*batch, T, V)`, real (-inf is an impossible token).
      blank: which token is the blank.
      lengths: how many frames of each sequence count, integers of shape `batch` (default: all T).
      num_labels: the length of a value (default: T).

    Raises:
      ValueError: for a blank that is no token, or shapes that do not fit.
      TypeError: for labels or lengths that are no integers.

    Source: A. Graves, S. Fernandez, F. Gomez and J. Schmidhuber (2006), "Connectionist temporal
    classification", eqs. 5 to 8.
    """

    _takes_indices = True
    logits: Array = param(supports.real, shape=("num_frames", "num_tokens"))
    blank: int = static(default=0)
    lengths: Array | None = node(default=None)
    num_labels: int | None = static(default=None)

    def _align(self, values: dict[str, Any]) -> dict[str, Any]:
        logits, lengths = values["logits"], values["lengths"]
        rank = max(logits.ndim - 2, 0 if lengths is None else jnp.ndim(lengths))
        values = aligned(values, rank, "CTC", "logits")
        return values | {"logits": add_axes(logits, rank - logits.ndim + 2)}

    def _check(self) -> None:
        frames, tokens = self.logits.shape[-2:]
        if not (isinstance(self.blank, int) and 0 <= self.blank < tokens):
            raise ValueError(
                f"CTC: blank is one of the {tokens} tokens 0..{tokens - 1} of logits of shape "
                f"{self.logits.shape}, got {self.blank!r}; write blank=0, or blank={tokens - 1} for "
                "the last"
            )
        count = self.num_labels
        if count is not None and not (isinstance(count, int) and count > 0):
            raise ValueError(
                f"CTC: num_labels is a positive whole number, got {count!r}; write "
                "num_labels=labels.shape[-1]"
            )
        if not frames:
            raise ValueError(f"CTC: logits have at least one frame, got shape {self.logits.shape}")
        self.batch_shape  # noqa: B018  (raises when the batch shapes do not broadcast)

    def _check_params(self) -> None:
        check(self.lengths, self._frames, "CTC")

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """What the batch axes of the logits and the lengths broadcast to."""
        lengths = () if self.lengths is None else self.lengths.shape
        return jnp.broadcast_shapes(self.logits.shape[:-2], lengths)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """`(num_labels,)`."""
        return (self._frames if self.num_labels is None else self.num_labels,)

    @property
    def _frames(self) -> int:
        """T."""
        return self.logits.shape[-2]

    @property
    def support(self) -> _Transcripts:
        """Labels other than the blank, then only -1."""
        return _Transcripts(
            "labels other than the blank, then -1",
            1,
            True,
            num_tokens=self.logits.shape[-1],
            blank=self.blank,
        )

    def _within(self) -> Array:
        """Which frames count, `(*batch, T)`."""
        frames = jnp.arange(self._frames)
        if self.lengths is None:
            return jnp.ones((*self.batch_shape, self._frames), bool)
        return frames < self.lengths[..., None]

    # optax.ctc_loss has log 0 = -1e5 in the same recursion. Against all alignments, in float64: at T
    # = 5 it gives what is infeasible -1.0e5 with a gradient of 0.5, -99,999.3 for a log-density of
    # -103,204.0, and NaN where a logit is -inf. Hence this one, in the semiring of logarithms.

    def log_prob(self, value: Array) -> Array:
        is_label = self.support.is_label(value)
        # What is beyond the end may be anything, also NaN.
        log_p = log_softmax(jnp.where(self._within()[..., None], self.logits, 0))
        label = jnp.where(is_label, value, 0).astype(jnp.int32)
        log_label = jnp.where(is_label[..., None, :], take(label[..., None, :], log_p), -jnp.inf)
        first = jnp.ones_like(is_label[..., :1])
        may_skip = jnp.concatenate([first, value[..., 1:] != value[..., :-1]], axis=-1)
        count = jnp.sum(is_label, axis=-1)
        return _log_alignments(log_p[..., self.blank], log_label, may_skip, self._within(), count)

    def _collapse(self, tokens: Array) -> Array:
        """What an alignment `(..., T)` spells, `(..., num_labels)`: repeats merged, blanks dropped,
        -1 behind.
        """
        tokens = jnp.where(self._within(), tokens, self.blank)
        fresh = jnp.concatenate(
            [jnp.ones_like(tokens[..., :1], bool), tokens[..., 1:] != tokens[..., :-1]], axis=-1
        )
        kept = fresh & (tokens != self.blank)
        place = jnp.cumsum(kept, axis=-1) - 1
        (count,) = self.event_shape
        here = kept[..., None] & (place[..., None] == jnp.arange(count))
        labels = jnp.sum(jnp.where(here, tokens[..., None], 0), axis=-2)
        return jnp.where(jnp.any(here, axis=-2), labels, PAD).astype(jnp.int32)

    def best_path(self) -> Array:
        """The labels of the most likely alignment, int32 `(*batch, num_labels)`: Graves' best-path
        decoding. It is no `mode`: the most likely labels may have many less likely alignments.
        """
        tokens = jnp.argmax(self.logits, axis=-1)
        return self._collapse(jnp.broadcast_to(tokens, (*self.batch_shape, self._frames)))

    def mode(self) -> Array:
        self._missing("mode", "take .best_path(), which collapses the most likely alignment")

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        logits = jax.lax.stop_gradient(self.logits)
        shape = (*shape, *self.batch_shape, self._frames)
        return self._collapse(jax.random.categorical(key, logits, shape=shape))


def _log_alignments(
    log_blank: Array, log_label: Array, may_skip: Array, within: Array, count: Array
) -> Array:
    """log of the sum over alignments of the first `count` labels, shape `batch`: that of `log_label`,
    to which the others broadcast.

    Args:
      log_blank: of the blank at each frame, `(*batch, T)`.
      log_label: of each label at each frame, `(*batch, T, N)`, -inf for padding.
      may_skip: whether a label may follow the one before it without a blank, `(*batch, N)`.
      within: which frames count, `(*batch, T)`.
      count: how many labels there are, shape `batch`.
    """

    def frame(state: Any, inputs: tuple[Array, Array, Array]) -> tuple[Any, None]:
        blanks, labels, scale = state  # alignments that end in the blank before label n, in label n
        log_blank, log_label, counts = inputs
        before = jnp.concatenate([jnp.full_like(labels[..., :1], -jnp.inf), labels], axis=-1)
        skipped = jnp.where(may_skip, before[..., :-1], -jnp.inf)
        new_blanks = log_add_exp(blanks, before) + log_blank[..., None]
        new_labels = log_add_exp(log_add_exp(labels, blanks[..., :-1]), skipped) + log_label
        # Only their differences are kept, so that rounding does not grow with T.
        top = jnp.maximum(jnp.max(new_blanks, axis=-1), jnp.max(new_labels, axis=-1))
        top = jax.lax.stop_gradient(jnp.where(jnp.isinf(top), 0, top))
        new = (new_blanks - top[..., None], new_labels - top[..., None], scale + top)
        each = counts[..., None], counts[..., None], counts
        return tuple(map(jnp.where, each, new, state)), None

    # By adding to zeros, which are divided over a mesh as the labels are.
    size, zero = log_label.shape[-1], jnp.zeros_like(log_label[..., 0, :])
    labels, scale = zero - jnp.inf, jnp.sum(zero, axis=-1)
    blanks = scale[..., None] + jnp.where(jnp.arange(size + 1) == 0, 0, -jnp.inf)
    frames = (
        jnp.moveaxis(log_blank + scale[..., None], -1, 0),
        jnp.moveaxis(log_label, -2, 0),
        jnp.moveaxis(within.astype(scale.dtype) + scale[..., None] > 0, -1, 0),
    )
    (blanks, labels, scale), _ = jax.lax.scan(frame, (blanks, labels, scale), frames)
    # The last label, or the blank behind it, ends an alignment.
    ends = jnp.arange(size + 1) == count[..., None]
    last = jnp.concatenate([blanks, labels], axis=-1)
    return logsumexp(last, where=jnp.concatenate([ends, ends[..., 1:]], axis=-1)) + scale
