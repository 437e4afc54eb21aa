"""Sequences of unequal length in arrays of equal length: packing, windows, masks."""

from __future__ import annotations

import bisect
import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from likelax._pytree import Array
from likelax.objective import Batch


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["tokens", "segments"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class Packed:
    """Several documents in each row, as a `Batch.target`.

    Attributes:
      tokens: `(batch, time)`.
      segments: which document each token belongs to, `(batch, time)`, whole numbers; 0 is padding,
        which is not scored.
    """

    tokens: Any
    segments: Any


def pack(documents: Iterable[ArrayLike], length: int) -> Batch:
    """Puts documents into rows of `length` tokens, each document into the fullest row with room.

    Args:
      documents: one-dimensional arrays of tokens; one longer than `length` is cut into pieces, each a
        document of its own.
      length: tokens in a row.

    Returns:
      A batch whose target is `Packed`; the segments of a row count from 1.

    Raises:
      ValueError: without documents, or for one that is not one-dimensional.
      TypeError: for documents that are no tokens.
    """
    if length < 1:
        raise ValueError(f"length is at least 1, got {length}")
    pieces = []
    for i, document in enumerate(documents):
        array = np.asarray(document)
        if array.ndim != 1:
            each = "pack([document], length)" if array.ndim == 0 else "pack(list(document), length)"
            raise ValueError(
                f"pack takes a list of documents, one-dimensional arrays; number {i} has shape "
                f"{array.shape}; write {each}"
                + (" for its rows, without their padding" if array.ndim else " for one document")
            )
        if array.size and array.dtype.kind not in "ui":
            raise TypeError(
                f"documents are tokens, whole numbers; number {i} is {array.dtype}: write "
                "document.astype(int), or give sequences of values a row each, with a mask"
            )
        pieces += [array[at : at + length] for at in range(0, len(array), length)]
    if not pieces:
        raise ValueError("there is nothing to pack: no documents, or empty ones")
    rows: list[list[np.ndarray]] = []
    room: list[tuple[int, int]] = []  # what is free of a row, and which; in order
    for piece in pieces:
        at = bisect.bisect_left(room, (len(piece), 0))
        free, row = room.pop(at) if at < len(room) else (length, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(piece)
        if free > len(piece):
            bisect.insort(room, (free - len(piece), row))
    tokens = np.zeros((len(rows), length), np.int32)
    segments = np.zeros((len(rows), length), np.int32)
    for r, row_pieces in enumerate(rows):
        sizes = [len(piece) for piece in row_pieces]
        tokens[r, : sum(sizes)] = np.concatenate(row_pieces)
        segments[r, : sum(sizes)] = np.repeat(np.arange(1, len(sizes) + 1), sizes)
    return Batch(target=Packed(tokens, segments))


def starts_of(segments: Array) -> Array:
    """Whether a token is the first of its document, `(batch, time)`."""
    first = jnp.ones_like(segments[:, :1], bool)
    return jnp.concatenate([first, segments[:, 1:] != segments[:, :-1]], axis=1)


def positions_of(segments: Array) -> Array:
    """How many tokens of its document precede each token, `(batch, time)`."""
    at = jnp.arange(segments.shape[1])
    return at - jax.lax.cummax(jnp.where(starts_of(segments), at, 0), axis=1)


def precedes(scored: Array, segments: Array | None) -> Array:
    """Whether something that is scored comes later in the same document, or here, `(batch, time)`."""
    if segments is None:
        document = jnp.zeros(scored.shape, int)
    else:
        document = jnp.cumsum(starts_of(segments), axis=1)
    none = scored.shape[1] + 1
    following = jax.lax.cummin(jnp.where(scored, document, none), axis=1, reverse=True)
    return following == document


def span_mask(length: int, *, start: ArrayLike = 0, stop: ArrayLike | None = None) -> Array:
    """Whether start <= t < stop, `(*shape of start and stop, length)`, for `Batch.mask`.

    ::

        mask = lx.sequence.span_mask(tokens.shape[1], stop=lengths)     # padding is not scored
        mask = lx.sequence.span_mask(tokens.shape[1], start=prompt_lengths, stop=lengths)   # answers
    """
    at = jnp.arange(length)
    stop = length if stop is None else stop
    first, end = jnp.asarray(start)[..., None], jnp.asarray(stop)[..., None]
    return (at >= first) & (at < end)


class Windows:
    """Batches of windows over one long sequence; see `windows`."""

    def __init__(self, tokens: ArrayLike, length: int, stride: int, *, batch_size: int):
        self.tokens = np.asarray(tokens)
        if not 1 <= stride <= length:
            raise ValueError(
                f"windows: the stride is from 1 to the length {length}, got {stride}: "
                "a longer one would leave values out"
            )
        if batch_size < 1:
            raise ValueError(f"windows: batch_size is at least 1, got {batch_size}")
        if self.tokens.ndim < 1 or not len(self.tokens):
            raise ValueError(f"windows: a sequence wanted, got shape {self.tokens.shape}")
        self.length, self.stride, self.batch_size = length, stride, batch_size
        rest = max(0, len(self.tokens) - length)
        self.count = 1 - (-rest // stride)

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def _window(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The values of a window, and which of them no window before it has."""
        size, length = len(self.tokens), self.length
        start = max(0, min(number * self.stride, size - length))
        scored = 0 if number == 0 else (number - 1) * self.stride + length
        values = np.zeros((length, *self.tokens.shape[1:]), self.tokens.dtype)
        own = self.tokens[start : start + length]
        values[: len(own)] = own
        at = start + np.arange(length)
        return values, (at >= scored) & (at < size)

    def __iter__(self) -> Iterator[Batch]:
        for first in range(0, self.count, self.batch_size):
            shape = (self.batch_size, self.length)
            values = np.zeros(shape + self.tokens.shape[1:], self.tokens.dtype)
            mask = np.zeros(shape, bool)
            for row, number in enumerate(range(first, min(first + self.batch_size, self.count))):
                values[row], mask[row] = self._window(number)
            if values.dtype.kind in "ui":
                values = values.astype(np.int32)
            yield Batch(target=values, mask=mask)


def windows(tokens: ArrayLike, length: int, stride: int, *, batch_size: int) -> Windows:
    """Windows of `length` over one long sequence: each value is scored once, all but those of the
    first window with at least `length - stride` values before it.

    With `Autoregressive(..., start=None)`, which never scores the first value of a row, take a stride
    below the length; the very first value is then the only one that is not scored.

    Args:
      tokens: `(time,)`, or `(time, *event)`.
      length: values in a window.
      stride: by how much windows are apart, at most `length`.
      batch_size: windows in a batch; the last batch is filled up with windows that are masked out.

    Returns:
      Batches, to be gone through any number of times, with a `len`.

    Raises:
      ValueError: for an empty sequence, or sizes that do not fit.
    """
    return Windows(tokens, length, stride, batch_size=batch_size)
