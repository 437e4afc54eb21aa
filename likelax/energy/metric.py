"""Distances that are learned by margins: no critic, and no likelihood of anything."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from likelax._checks import is_number
from likelax._pytree import Array
from likelax.energy._rows import over_rows
from likelax.energy.embedding import Embedding, all_of, checked_labels, given_input
from likelax.objective import Batch, Scores


class Triplet(Embedding):
    """max(0, d(a, p) - d(a, n) + margin) of an anchor, one like it and one unlike it, with d the squared
    distance of embeddings (Schroff et al. 2015).

    `mining=None`: the triplets are given, anchors in `Batch.input`, `(positives, negatives)` in
    `Batch.target`. Else the target holds labels, whole numbers `(batch,)`, and triplets are sought in the
    batch:

    * "semi_hard": each other of the anchor's class, with the nearest of another class that is farther
      away, or where none is the farthest; the mean over them (Schroff et al.).
    * "hard": the farthest of the class with the nearest of the others (Hermans et al. 2017).

    An anchor without a triplet in the batch costs 0. `terms`: `accuracy`, how often the positive is the
    nearer one; `active`, how many triplets cost anything.

    Args:
      encoder: a network to `(batch, features)`.
      margin: positive.
      mining: see above.
      normalize: whether embeddings are divided by their lengths.
      data_axis, block_size: as of `InfoNCE`.

    Raises:
      ValueError: for a margin or a mining that is none.
    """

    def __init__(
        self,
        encoder: Any,
        *,
        margin: float = 0.2,
        mining: Any = None,
        normalize: bool = True,
        data_axis: str | tuple[str, ...] | None = None,
        block_size: Any = None,
    ):
        super().__init__(
            {"encoder": encoder}, normalize=normalize, data_axis=data_axis, block_size=block_size
        )
        _check_margin("Triplet", margin)
        if mining is not None and mining not in _MINING:
            raise ValueError(
                f'Triplet: mining is None, "semi_hard" or "hard", got {mining!r}; write mining="semi_hard"'
            )
        self.margin, self.mining = margin, mining

    def inputs(self, batch: Batch) -> dict[str, tuple[str, Any]]:
        found = {"anchor": ("encoder", given_input(self, batch.input))}
        if self.mining is None:
            positive, negative = _pair("Triplet", batch.target, "target=(positives, negatives)")
            found |= {"positive": ("encoder", positive), "negative": ("encoder", negative)}
        return found

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        if self.mining is not None:
            labels = checked_labels(self, batch)
        z, state = self._embedded(params, key, batch, state, train, keep)
        if self.mining is None:
            anchor, positive, negative = z
            found = _hinge(_square(anchor - positive), _square(anchor - negative), self.margin)
        else:
            number, keep = jnp.arange(len(z[0])), all_of(keep, len(z[0]))
            rows = _Labelled(_centred(z[0], keep), labels, number, keep)
            function = functools.partial(_mined, _MINING[self.mining], self.margin)
            found = over_rows(function, rows, rows, **self._options)
        cost, right, active = found
        return Scores(cost, {"accuracy": right, "active": active}, state, self.claim)


class Margin(Embedding):
    """d^2 / 2 of two that are alike, max(0, margin - d)^2 / 2 of two that are not, with d the distance of
    their embeddings (Hadsell, Chopra and LeCun 2006).

    `Batch.input` is `(first, second)`, `Batch.target` whether they are alike, `(batch,)` of booleans or 0 and
    1. `terms["active"]`: how many pairs that are not alike are within the margin, and alike ones apart.

    Args:
      encoder: a network to `(batch, features)`.
      margin: positive.
      normalize: whether embeddings are divided by their lengths.

    Raises:
      ValueError: for a margin that is not positive.
    """

    def __init__(self, encoder: Any, *, margin: float = 1.0, normalize: bool = False):
        super().__init__({"encoder": encoder}, normalize=normalize, data_axis=None, block_size=None)
        _check_margin("Margin", margin)
        self.margin = margin

    def inputs(self, batch: Batch) -> dict[str, tuple[str, Any]]:
        first, second = _pair("Margin", given_input(self, batch.input), "input=(first, second)")
        return {"first": ("encoder", first), "second": ("encoder", second)}

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        alike = checked_labels(self, batch) != 0
        (first, second), state = self._embedded(params, key, batch, state, train, keep)
        square = _square(first - second)
        # At distance 0 two that are not alike know no direction in which to part.
        distance = jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square)))
        cost = 0.5 * jnp.where(alike, square, jnp.maximum(self.margin - distance, 0) ** 2)
        return Scores(cost, {"active": (cost > 0).astype(cost.dtype)}, state, self.claim)


class _Labelled(NamedTuple):
    """Embeddings, labels, numbers, and whether they count."""

    z: Array
    label: Array
    number: Array
    keep: Array


class _Found(NamedTuple):
    """Of an anchor's triplets: the mean cost, the share whose positive is nearer, the share that costs."""

    cost: Array
    right: Array
    active: Array


def _mined(choose: Any, margin: float, row: _Labelled, columns: _Labelled) -> _Found:
    """The triplets of one anchor."""
    # |z - w|^2 without the differences, of which there would be features times as many.
    distance = jnp.sum(row.z**2) + jnp.sum(columns.z**2, -1) - 2 * jnp.matmul(columns.z, row.z)
    same = columns.label == row.label
    positive = columns.keep & same & (columns.number != row.number)
    negative = columns.keep & ~same
    chosen, other = choose(jax.lax.stop_gradient(distance), positive, negative)
    each = _hinge(distance, distance[other], margin)
    chosen &= jnp.any(negative)
    count = jnp.maximum(jnp.sum(chosen), 1)
    return _Found(*(jnp.sum(jnp.where(chosen, x, 0)) / count for x in each))


def _semi_hard(distance: Array, positive: Array, negative: Array) -> tuple[Array, Array]:
    """Which positives, and for each column the number of its negative."""
    far = jnp.where(negative, distance, jnp.inf)
    order = jnp.argsort(far)
    beyond = jnp.searchsorted(far[order], distance, side="right")
    return positive, order[jnp.clip(beyond, 0, jnp.maximum(jnp.sum(negative) - 1, 0))]


def _hard(distance: Array, positive: Array, negative: Array) -> tuple[Array, Array]:
    farthest = jnp.argmax(jnp.where(positive, distance, -jnp.inf))
    nearest = jnp.argmin(jnp.where(negative, distance, jnp.inf))
    only = positive & (jnp.arange(len(distance)) == farthest)
    return only, jnp.broadcast_to(nearest, distance.shape)


_MINING = {"semi_hard": _semi_hard, "hard": _hard}


def _hinge(near: Array, far: Array, margin: float) -> _Found:
    cost = jnp.maximum(near - far + margin, 0)
    return _Found(cost, (near < far).astype(cost.dtype), (cost > 0).astype(cost.dtype))


def _centred(z: Array, keep: Array) -> Array:
    """Embeddings about their middle, so that squares of large numbers do not cancel in the distances."""
    total = jnp.sum(jnp.where(keep[:, None], z, 0), axis=0)
    return z - jax.lax.stop_gradient(total / jnp.maximum(jnp.sum(keep), 1))


def _square(x: Array) -> Array:
    return jnp.sum(x**2, axis=-1)


def _check_margin(name: str, margin: Any) -> None:
    if not is_number(margin) or not 0 < margin < math.inf:
        raise ValueError(f"{name}: margin is a positive number, got {margin!r}; write margin=0.2")


def _pair(name: str, given: Any, instead: str) -> tuple[Any, Any]:
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise TypeError(
            f"{name}: two arrays wanted, got {type(given).__name__}; write lx.Batch({instead}, ...)"
        )
    return given[0], given[1]
