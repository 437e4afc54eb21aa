"""Graphs of units: their colours and neighbours are computed once."""

from __future__ import annotations

import functools
import heapq
from typing import Any

import numpy as np


class Graph:
    """Which units are coupled: frozen, hashable and compared by value.

    Args:
      num_units: how many units there are.
      edges: pairs of different units, `(edges, 2)`, each pair once.

    Attributes:
      num_units: how many units there are.
      edges: as given, the smaller unit of each pair first.

    Raises:
      ValueError: for edges of another shape, to units that are none, to oneself, or given twice.
    """

    def __init__(self, num_units: int, edges: Any):
        pairs = np.asarray(edges, np.int32)
        pairs = np.sort(pairs.reshape((0, 2) if pairs.size == 0 else pairs.shape), axis=-1)
        if pairs.ndim != 2 or pairs.shape[1] != 2:
            raise ValueError(
                f"Graph: edges are pairs of units, shape (edges, 2), got {pairs.shape}; of a symmetric "
                "matrix they are np.argwhere(np.triu(matrix, 1))"
            )
        if pairs.size and (pairs.min() < 0 or pairs.max() >= num_units):
            raise ValueError(
                f"Graph: units are counted from 0 to {num_units - 1}, the edges name {pairs.min()} to "
                f"{pairs.max()}"
            )
        if np.any(pairs[:, 0] == pairs[:, 1]):
            raise ValueError("Graph: a unit is coupled to others only; its own term is the bias")
        if len(np.unique(pairs, axis=0)) != len(pairs):
            raise ValueError("Graph: an edge is given twice; write np.unique(edges, axis=0)")
        self.num_units, self.edges = int(num_units), pairs
        pairs.setflags(write=False)

    @functools.cached_property
    def _identity(self) -> tuple[int, bytes]:
        return self.num_units, self.edges.tobytes()

    @functools.cached_property
    def _hash(self) -> int:
        return hash(self._identity)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Graph) and self._identity == other._identity

    def __repr__(self) -> str:
        return f"Graph({self.num_units} units, {len(self.edges)} edges)"

    @functools.cached_property
    def _adjacent(self) -> list[list[tuple[int, int]]]:
        """Each unit's neighbours and the edges to them."""
        lists: list[list[tuple[int, int]]] = [[] for _ in range(self.num_units)]
        for e, (i, j) in enumerate(self.edges.tolist()):
            lists[i].append((j, e))
            lists[j].append((i, e))
        return lists

    @functools.cached_property
    def units(self) -> np.ndarray:
        """All units, `(num_units,)`."""
        return np.arange(self.num_units, dtype=np.int32)

    @functools.cached_property
    def max_degree(self) -> int:
        """The number of neighbours of the unit that has most."""
        return max(map(len, self._adjacent), default=0)

    @functools.cached_property
    def colours(self) -> tuple[np.ndarray, ...]:
        """Units by colour, no two coupled ones of the same: two colours where that is possible, else
        as few as a greedy choice finds.
        """
        colour = self._two_colours()
        colour = self._greedy_colours() if colour is None else colour
        return tuple(where(colour == c) for c in range(colour.max(initial=-1) + 1))

    def _greedy_colours(self) -> np.ndarray:
        """The unit whose neighbours have most colours is next (Brelaz 1979)."""
        colour = np.full(self.num_units, -1)
        taken: list[set[int]] = [set() for _ in range(self.num_units)]
        queue = [(0, -len(near), i) for i, near in enumerate(self._adjacent)]
        heapq.heapify(queue)
        while queue:
            _, _, i = heapq.heappop(queue)
            if colour[i] >= 0:
                continue
            colour[i] = next(c for c in range(self.num_units) if c not in taken[i])
            for j, _ in self._adjacent[i]:
                taken[j].add(int(colour[i]))
                heapq.heappush(queue, (-len(taken[j]), -len(self._adjacent[j]), j))
        return colour

    def _two_colours(self) -> np.ndarray | None:
        colour = np.full(self.num_units, -1)
        for root in range(self.num_units):
            stack = [root] if colour[root] < 0 else []
            colour[stack] = 0
            while stack:
                i = stack.pop()
                for j, _ in self._adjacent[i]:
                    if colour[j] < 0:
                        colour[j] = 1 - colour[i]
                        stack.append(j)
                    elif colour[j] == colour[i]:
                        return None
        return colour

    def neighbours(self, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Neighbours of these units and the edges to them, `(len(units), max_degree)` each; where there
        are fewer, the unit 0 and the edge number `len(edges)`.
        """
        near = np.zeros((len(units), self.max_degree), np.int32)
        edge = np.full((len(units), self.max_degree), len(self.edges), np.int32)
        for row, i in enumerate(units.tolist()):
            for k, (j, e) in enumerate(self._adjacent[i]):
                near[row, k], edge[row, k] = j, e
        return near, edge

    def block(self, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All units that are coupled to one of these, in order, `(near,)`; and the edges between them,
        `(near, len(units))`, `len(edges)` where there is none.
        """
        place = np.full(self.num_units, -1)
        place[units] = np.arange(len(units))
        ends = np.concatenate([self.edges, self.edges[:, ::-1]])
        mine = np.flatnonzero(place[ends[:, 0]] >= 0)
        near, row = np.unique(ends[mine, 1], return_inverse=True)
        edge = np.full((len(near), len(units)), len(self.edges), np.int32)
        edge[row, place[ends[mine, 0]]] = mine % len(self.edges)
        return near, edge

    @functools.cached_property
    def diagonals(self) -> tuple[np.ndarray, np.ndarray]:
        """The differences j - i of coupled units i and j, in order, `(steps,)`; and for each of them the
        edge from each unit i to i + step, `(steps, num_units)`, `len(edges)` where there is none.
        """
        first, second = self.edges.T
        here, step = np.append(first, second), np.append(second - first, first - second)
        steps, row = np.unique(step, return_inverse=True)
        edge = np.full((len(steps), self.num_units), len(self.edges), np.int32)
        edge[row, here] = np.tile(np.arange(len(self.edges)), 2)
        return steps, edge

    def without(self, count: int) -> tuple[Graph, np.ndarray, np.ndarray]:
        """The graph without its first `count` units; which edges are in it; which led out of it."""
        first, second = self.edges.T
        inner, crossing = first >= count, (first < count) & (second >= count)
        rest = Graph(self.num_units - count, self.edges[inner] - count)
        return rest, where(inner), where(crossing)


def where(mask: np.ndarray) -> np.ndarray:
    """Indices of what is true, of 32 bits: JAX has one program for NumPy's 64, with x64 on and off."""
    return np.flatnonzero(mask).astype(np.int32)


@functools.lru_cache(maxsize=64)
def lattice(shape: tuple[int, ...], periodic: bool) -> Graph:
    """The grid of this shape, each unit coupled to the next along each axis."""
    index = np.arange(int(np.prod(shape))).reshape(shape)
    pairs = []
    for axis, size in enumerate(shape):
        here = np.take(index, np.arange(size - 1), axis)
        pairs.append(np.stack([here, np.take(index, np.arange(1, size), axis)], -1).reshape(-1, 2))
        if periodic and size > 2:
            ends = [np.take(index, [k], axis) for k in (0, size - 1)]
            pairs.append(np.stack(ends, -1).reshape(-1, 2))
    return Graph(index.size, np.concatenate(pairs))


@functools.lru_cache(maxsize=64)
def layered(sizes: tuple[int, ...]) -> Graph:
    """Layers of these sizes, each unit coupled to all of the next layer: edges in the order of the
    entries of the weight matrices.
    """
    starts = np.concatenate([[0], np.cumsum(sizes)])
    pairs = [
        np.moveaxis(np.indices((m, n)), 0, -1).reshape(-1, 2) + starts[k : k + 2]
        for k, (m, n) in enumerate(zip(sizes[:-1], sizes[1:], strict=True))
    ]
    return Graph(sum(sizes), np.concatenate(pairs))
