"""Batches of one size from arrays in memory; what does not fill the last one is masked."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from ..objective import Batch

__all__ = ["Batches", "batches"]


def batches(
    data: Any, size: int, key: jax.Array | None = None, *, endless: bool = False
) -> "Batches":
    """Cut `data` into batches of exactly `size` rows.

    No row is dropped and no batch has another shape: where the rows do not fill the last batch,
    rows from the beginning of the epoch fill it and its `mask` leaves them out. Every batch has a
    mask, so that a compiled function sees one structure.

    Args:
        data: a `Batch`, or any pytree of arrays that share their leading axis. They are held as
            NumPy arrays; batches are cut on the host.
        size: rows in a batch. May exceed the number of rows.
        key: shuffles, with a new order in each epoch. Typed and legacy keys work. None keeps the
            order.
        endless: go through the data again and again, for loops that count steps.

    Returns:
        A `Batches`: an iterable to go through as often as wanted. From a `Batch` it yields
        `Batch`es whose mask `(size,)` is combined with the mask that was there (a mask with more
        axes keeps them); from any other pytree, pairs `(tree, mask)` with a boolean mask of shape
        `(size,)`.

    Raises:
        ValueError: `size` is below 1, or the arrays have no rows or differ in their number.
        TypeError: `size` is no integer, or `data` holds no arrays.
    """
    if isinstance(size, bool) or not isinstance(size, int | np.integer):
        raise TypeError(f"batches: size must be an integer, got {size!r}")
    if size < 1:
        raise ValueError(f"batches: size must be at least 1, got {size}")
    arrays = jax.tree.map(np.asarray, data)
    return Batches(arrays, _count_rows(arrays), int(size), key, endless)


class Batches:
    """What `batches` returns.

    Each `iter()` begins the next epoch: a new order where there is a key. `epoch(i)` gives epoch
    `i` by number, the same each time. `len()` counts the batches of one epoch; endless ones have no
    length.
    """

    def __init__(self, data: Any, rows: int, size: int, key: jax.Array | None, endless: bool):
        self.data = data
        self.rows = rows
        self.size = size
        self.endless = endless
        self._key = key
        self._next_epoch = 0

    @property
    def batches_per_epoch(self) -> int:
        """How many batches hold every row once."""
        return -(-self.rows // self.size)

    def __len__(self) -> int:
        if self.endless:
            raise TypeError("endless batches have no length; use .batches_per_epoch")
        return self.batches_per_epoch

    def __iter__(self) -> Iterator[Any]:
        # Advance at once, and not on the first next(), so that iterators made together differ.
        first, self._next_epoch = self._next_epoch, self._next_epoch + 1
        return self._forever(first) if self.endless else self.epoch(first)

    def _forever(self, first: int) -> Iterator[Any]:
        number = first
        while True:
            self._next_epoch = max(self._next_epoch, number + 1)
            yield from self.epoch(number)
            number += 1

    def epoch(self, number: int) -> Iterator[Any]:
        """The batches of epoch `number`, whatever was iterated before."""
        # resize repeats from the beginning: padding rows are real rows, inside every support.
        order = np.resize(self._order(number), (self.batches_per_epoch, self.size))
        for index, rows in enumerate(order):
            real = index * self.size + np.arange(self.size) < self.rows
            yield _take(self.data, rows, real)

    def _order(self, number: int) -> np.ndarray:
        if self._key is None:
            return np.arange(self.rows)
        seed = jax.random.key_data(jax.random.fold_in(self._key, number))
        return np.random.default_rng(np.asarray(seed).ravel()).permutation(self.rows)


def _take(data: Any, rows: np.ndarray, real: np.ndarray) -> Any:
    taken = jax.tree.map(lambda array: array[rows], data)
    if not isinstance(data, Batch):
        return taken, real
    if taken.mask is None:
        return dataclasses.replace(taken, mask=real)
    shaped = real.reshape(real.shape + (1,) * (taken.mask.ndim - 1))
    return dataclasses.replace(taken, mask=np.where(shaped, taken.mask, np.zeros_like(taken.mask)))


def _count_rows(arrays: Any) -> int:
    leaves = jax.tree_util.tree_leaves_with_path(arrays)
    if not leaves:
        raise TypeError("batches: data holds no arrays")
    shapes = {jax.tree_util.keystr(path) or "data": array.shape for path, array in leaves}
    counts = {shape[0] if shape else None for shape in shapes.values()}
    if len(counts) > 1 or None in counts:
        listed = ", ".join(f"{name}: {shape}" for name, shape in shapes.items())
        raise ValueError(
            "batches: every array needs the same number of rows on its leading axis, got "
            f"{listed}. What is not per row (a scalar weight) does not belong in the data."
        )
    (rows,) = counts
    if not rows:
        raise ValueError("batches: the data has no rows")
    return int(rows)
