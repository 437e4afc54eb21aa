"""Boltzmann machines on any graph: general, deep, and Ising models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from likelax import supports
from likelax._pytree import Array, param, static
from likelax.distributions.categorical import Bernoulli
from likelax.energy.density import Swept, as_rows
from likelax.energy.enumeration import log_sum
from likelax.energy.graph import Graph, lattice, layered, where
from likelax.energy.restricted import Enumeration
from likelax.numerics.logspace import softplus

# With more neighbours than this a matrix product is the faster way to what a unit sees; with no more
# differences than this between the numbers of coupled units, as on a lattice, whole rows are shifted:
# gathers and scatters, one number at a time, would cost several times as much.
_MOST_NEIGHBOURS = 16


class BoltzmannMachine(Swept):
    """Units coupled along the edges of a graph (Ackley, Hinton and Sejnowski 1985).

    log p(x) + log Z = sum_(i,j) J_ij x_i x_j + sum_i b_i x_i + offset, the first sum over edges. Units
    are 0 and 1, or with `spins` -1 and 1: the Ising model. Values are `(*sample, units)`.

    ::

        ising = lx.energy.BoltzmannMachine.lattice((64, 64), coupling=0.44)
        deep = lx.energy.BoltzmannMachine.deep((w1, w2), (a, b1, b2))
        fully = lx.energy.BoltzmannMachine.from_matrix(symmetric, bias)

    Args:
      coupling: J, one number for each edge, `(edges,)`.
      bias: b, `(units,)`.
      offset: a constant in nats, which clamping leaves behind.
      graph: a `Graph`.
      spins: whether units are -1 and 1.
    """

    coupling: Array = param(supports.real, shape=("edges",))
    bias: Array = param(supports.real, shape=("units",))
    offset: Array = param(supports.real, default=0.0)
    graph: Graph = static(kw_only=True)
    spins: bool = static(default=False, kw_only=True)

    def _check(self) -> None:
        super()._check()
        got = (self.coupling.shape[-1], self.bias.shape[-1])
        wanted = (len(self.graph.edges), self.graph.num_units)
        if got != wanted:
            raise ValueError(
                f"BoltzmannMachine: the graph has {wanted[0]} edges and {wanted[1]} units, got "
                f"{got[0]} couplings and {got[1]} biases; write coupling=jnp.full({wanted[0]}, value), "
                f"bias=jnp.zeros({wanted[1]})"
            )

    @classmethod
    def lattice(
        cls,
        shape: tuple[int, ...],
        *,
        coupling: ArrayLike = 1.0,
        field: ArrayLike = 0.0,
        periodic: bool = False,
    ) -> BoltzmannMachine:
        """The Ising model on a grid, spins of -1 and 1 in the order of `x.reshape(shape)`.

        Args:
          shape: of the grid.
          coupling: J / T, positive for a ferromagnet: one number, or one for each edge.
          field: b / T: one number, or one for each unit.
          periodic: whether the ends of each axis longer than 2 are neighbours.
        """
        graph = lattice(tuple(shape), periodic)
        j = jnp.broadcast_to(jnp.asarray(coupling, float), len(graph.edges))
        b = jnp.broadcast_to(jnp.asarray(field, float), graph.num_units)
        return cls(j, b, graph=graph, spins=True)

    @classmethod
    def from_matrix(
        cls, matrix: ArrayLike, bias: ArrayLike, *, spins: bool = False
    ) -> BoltzmannMachine:
        """Couplings as a symmetric matrix whose pattern is known: x'M x / 2 + b'x, diagonal 0; an edge
        where it is not 0.

        Raises:
          ValueError: for another matrix.
        """
        m = np.asarray(matrix)
        if m.ndim != 2 or m.shape[0] != m.shape[1] or not np.array_equal(m, m.T):
            raise ValueError(
                f"BoltzmannMachine: a symmetric matrix wanted, got shape {m.shape}; write (m + m.T) / 2"
            )
        if np.any(np.diag(m)):
            raise ValueError("BoltzmannMachine: the diagonal is 0; a unit's own term is the bias")
        edges = np.argwhere(np.triu(m, 1))
        j, b = jnp.asarray(m[tuple(edges.T)]), jnp.asarray(bias)
        return cls(j, b, graph=Graph(len(m), edges), spins=spins)

    @classmethod
    def deep(cls, weights: Sequence[Array], biases: Sequence[Array]) -> BoltzmannMachine:
        """Layers of units 0 and 1, each coupled to the next (Salakhutdinov and Hinton 2009); visible
        units first.

        Args:
          weights: `(n_0, n_1)`, `(n_1, n_2)`, ...
          biases: `(n_0,)`, `(n_1,)`, ...
        """
        sizes = tuple(b.shape[0] for b in biases)
        wanted = list(zip(sizes[:-1], sizes[1:], strict=True))
        if [w.shape for w in weights] != wanted or not wanted:
            raise ValueError(
                f"BoltzmannMachine.deep: biases of {sizes} units want weights of shapes {wanted}, got "
                f"{[w.shape for w in weights]}"
            )
        coupling = jnp.concatenate([jnp.ravel(w) for w in weights])
        return cls(coupling, jnp.concatenate(list(biases)), graph=layered(sizes))

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.bias.shape[-1:]

    @property
    def support(self) -> Any:
        return supports.elementwise(_SPIN if self.spins else supports.boolean, 1)

    # What a unit sees of the others.

    def _field(self, x: Array, units: np.ndarray) -> Array:
        """sum_j J_ij x_j + b_i of these units, `(*sample, len(units))`."""
        bias = self.bias[units]
        if self.graph.max_degree > _MOST_NEIGHBOURS:
            seen, edge = self.graph.block(units)
            return x[..., seen] @ jnp.append(self.coupling, 0)[edge] + bias
        near, edge = self.graph.neighbours(units)
        coupling = jnp.append(self.coupling, 0)[edge]
        return jnp.sum(x[..., near] * coupling, -1) + bias

    @property
    def _in_rows(self) -> bool:
        return len(self.graph.diagonals[0]) <= _MOST_NEIGHBOURS

    def _fields(self, x: Array) -> Array:
        """Those of every unit, `(*sample, units)`."""
        if not self._in_rows:
            return self._field(x, self.graph.units)
        steps, edge = self.graph.diagonals
        coupling = jnp.append(self.coupling, 0)[edge]
        near = (jnp.roll(x, -step, -1) for step in steps.tolist())
        return sum(
            (j * x for j, x in zip(coupling, near, strict=True)),
            jnp.broadcast_to(self.bias, x.shape),
        )

    def unnormalized_log_prob(self, value: ArrayLike) -> Array:
        x = self._value(value)
        # Each edge is seen from both its ends, the bias once.
        seen = self._fields(x)
        return 0.5 * jnp.sum(x * (seen + self.bias), -1) + self.offset

    def unit_given_rest(self, value: ArrayLike, units: ArrayLike | None = None) -> Bernoulli:
        """Whether each unit is 1 given all others, batch `(*sample, units)`; its `log_prob` is of 0 and
        1, for spins too.

        Args:
          value: `(*sample, units)`.
          units: which ones, `(*sample, count)`; all by default.
        """
        logits = self._gain * self._fields(self._value(value))
        if units is not None:
            logits = jnp.take_along_axis(logits, jnp.asarray(units), axis=-1)
        return Bernoulli(logits=logits)

    def _unit_values(self, value: Array) -> Array:
        return (value + 1) / 2 if self.spins else value

    @property
    def _gain(self) -> int:
        """By how much a unit changes when it goes up."""
        return 2 if self.spins else 1

    def _up(self, up: Array, dtype: Any) -> Array:
        return (2 * up - 1 if self.spins else up).astype(dtype)

    def _sweep(self, key: Array, value: Array) -> Array:
        """Colour by colour, all units of one at once, each by a uniform number of its own."""
        uniform = jax.random.uniform(key, value.shape, self.dtype)
        for units in self.graph.colours:
            here = np.isin(self.graph.units, units)
            if self._in_rows:
                field = self._fields(value)
            else:
                # Scattering the few would cost more than gathering all.
                field = self._field(value, units)[..., here.cumsum(dtype=np.int32) - 1]
            up = uniform < Bernoulli(logits=self._gain * field).probs
            value = jnp.where(here, self._up(up.astype(jnp.int32), value.dtype), value)
        return value

    # Parts summed out.

    def clamp(self, values: ArrayLike) -> BoltzmannMachine:
        """The model of the other units where the first ones have these values, `(m,)`; its `offset` is
        the clamped ones' own term, so that its log Z is log p~ of `values`.
        """
        v = jnp.asarray(values).astype(self.bias.dtype)
        m = v.shape[0]
        rest, inner, crossing = self.graph.without(m)
        own = where(self.graph.edges[:, 1] < m)
        (i, j), (a, b) = self.graph.edges[crossing].T, self.graph.edges[own].T
        bias = self.bias[m:].at[j - m].add(self.coupling[crossing] * v[i])
        offset = self.offset + self.bias[:m] @ v + self.coupling[own] @ (v[a] * v[b])
        return BoltzmannMachine(self.coupling[inner], bias, offset, graph=rest, spins=self.spins)

    def free_energy(self, value: ArrayLike) -> Array:
        """-log of the sum over all other units of exp(unnormalized_log_prob), in nats, exact.

        Args:
          value: of the first m units, `(*sample, m)`: the visible layer of a deep model, say.

        Raises:
          ValueError: where the other units are too many to enumerate: `log_partition` of
            `model.clamp(v)` estimates the same.
        """
        v = jnp.asarray(value)
        if v.shape[-1:] == self.event_shape:
            return -self.unnormalized_log_prob(v)
        if v.shape[-1] > self.graph.num_units:
            raise ValueError(
                f"BoltzmannMachine.free_energy: values of the first m of {self.graph.num_units} units "
                f"wanted, got shape {v.shape}"
            )
        rows, sample = as_rows(v, v.shape[-1:])
        return -jax.lax.map(lambda row: log_sum(*self.clamp(row)._enumeration()), rows).reshape(
            sample
        )

    # For log Z.

    def independent(self, bias: ArrayLike | None = None) -> BoltzmannMachine:
        """The model without couplings, where annealing starts, with these biases (default: its own)."""
        own = self.bias if bias is None else bias
        return self.replace(coupling=jnp.zeros_like(self.coupling), bias=own)

    def _independent_log_z(self) -> Array:
        return jnp.sum(self._log_sum_unit(self.bias)) + self.offset

    def _log_sum_unit(self, field: Array) -> Array:
        """log of the sum over the two values x of a unit of exp(field x)."""
        return softplus(2 * field) - field if self.spins else softplus(field)

    def _independent_sample(self, key: Array, count: int) -> Array:
        up = Bernoulli(logits=self._gain * self.bias).sample(key, (count,))
        return self._up(up.astype(jnp.int32), self.bias.dtype)

    def _summed_units(self) -> tuple[np.ndarray, np.ndarray]:
        """The units of the largest colour, which are independent given the others, and those."""
        largest = max(self.graph.colours, key=len, default=self.graph.units)
        return largest, np.setdiff1d(self.graph.units, largest)

    def _spread(self, units: Array) -> Array:
        """The enumerated units at their places, 0 elsewhere."""
        _, kept = self._summed_units()
        x = jnp.zeros((*units.shape[:-1], self.graph.num_units), self.bias.dtype)
        return x.at[..., kept].set(self._up(units, self.bias.dtype))

    def _enumeration(self) -> Enumeration:
        summed, kept = self._summed_units()

        def rest(units: Array) -> Array:
            x = self._spread(units)
            own = 0.5 * jnp.sum(x * (self._field(x, self.graph.units) + self.bias), -1)
            return own + jnp.sum(self._log_sum_unit(self._field(x, summed)), -1) + self.offset

        return len(kept), rest

    def _complete(self, key: Array, units: Array) -> Array:
        summed, _ = self._summed_units()
        x = self._spread(units)
        up = Bernoulli(logits=self._gain * self._field(x, summed)).sample(key)
        return x.at[..., summed].set(self._up(up.astype(jnp.int32), x.dtype))


class _Spin(supports.Interval):
    """-1 and 1."""

    def contains(self, value: ArrayLike) -> Array:
        x = jnp.asarray(value)
        return (x == -1) | (x == 1)

    def inside(self, like: Array) -> Array:
        return jnp.ones_like(like)


_SPIN = _Spin("-1 or 1", 0, True, lower=-1.0, upper=1.0)
