"""The map that an ordinary differential equation makes, with its log-determinant."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._mesh import divided, with_auto_axes
from likelax._ode import Divergence, Solver
from likelax._pytree import Array, _made, add_axes, node, static
from likelax.bijectors import Bijector
from likelax.networks import Arguments
from likelax.numerics.logspace import nan_unless


class ODEMap(Bijector):
    """The map x(0) -> x(1) along dx/dt = f(x, t), with its log-determinant.

    Args:
      dynamics: f and how it is solved.
      params: f's parameters; leading axes beyond a leaf's own are batch axes.
      context: features, `(*batch, size)`.
      key: of random vectors, `(*batch,)` typed keys, or None.
      core_ndims: how many axes are each parameter's own (default: all).
    """

    dynamics: Dynamics = static()
    params: Any = node()
    context: Array = node()
    key: Any = node(default=None)
    core_ndims: tuple[int, ...] | None = static(default=None)

    def _align(self, values: dict[str, Any]) -> dict[str, Any]:
        leaves, tree = jax.tree.flatten(jax.tree.map(jnp.asarray, values["params"]))
        context, key = values["context"], values["key"]
        own = values["core_ndims"]
        own = tuple(leaf.ndim for leaf in leaves) if own is None else own
        ranks = [leaf.ndim - core for leaf, core in zip(leaves, own, strict=True)]
        rank = max(context.ndim - 1, *ranks) if ranks else context.ndim - 1
        params = [add_axes(leaf, rank - r) for leaf, r in zip(leaves, ranks, strict=True)]
        return {
            **values,
            "params": jax.tree.unflatten(tree, params),
            "context": add_axes(context, rank - context.ndim + 1),
            "key": None if key is None else add_axes(key, rank - key.ndim),
            "core_ndims": own,
        }

    @property
    def _params_batch(self) -> tuple[int, ...]:
        """The batch axes of the parameters alone."""
        leaves = zip(jax.tree.leaves(self.params), self.core_ndims or (), strict=True)
        return jnp.broadcast_shapes(*[leaf.shape[: leaf.ndim - core] for leaf, core in leaves])

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """What the batch axes of parameters and context broadcast to."""
        return jnp.broadcast_shapes(self._params_batch, self.context.shape[:-1])

    @property
    def domain(self) -> Any:
        """All real values of the event's shape."""
        return supports.elementwise(supports.real, len(self.dynamics.event_shape))

    @property
    def codomain(self) -> Any:
        """As the domain."""
        return self.domain

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        event = self.dynamics.event_shape
        if shape[len(shape) - len(event) :] != event:
            raise ValueError(f"ODEMap maps values of shape {event}, got shape {shape}")
        return shape

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.forward_shape(shape)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        return self._mapped(self.dynamics.flow, x, 0.0, 1.0)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        return self._mapped(self.dynamics.flow, y, 1.0, 0.0)

    def forward(self, x: Array) -> Array:
        return self._mapped(self.dynamics.transport, x, 0.0, 1.0)

    def inverse(self, y: Array) -> Array:
        return self._mapped(self.dynamics.transport, y, 1.0, 0.0)

    def _map(self, function: Callable[[Array], Array]) -> ODEMap:
        # Parameters that the batch shares stay shared: a copy for each element could fill the memory.
        context = function(self.context)
        rank = context.ndim - 1
        shared = math.prod(self._params_batch) == 1

        def moved(leaf: Array, core: int) -> Array:
            own = leaf.shape[leaf.ndim - core :]
            return leaf.reshape((1,) * rank + own) if shared else function(leaf)

        leaves, tree = jax.tree.flatten(self.params)
        pairs = zip(leaves, self.core_ndims or (), strict=True)
        fields = {
            "params": jax.tree.unflatten(tree, [moved(*pair) for pair in pairs]),
            "context": context,
            "key": None if self.key is None else function(self.key),
        }
        return _made(type(self), {**self.__dict__, **fields})

    def _mapped(self, solve: Callable[..., Any], x: Array, start: float, end: float) -> Any:
        """`solve` of each element of x, `(*sample, *batch, *event)`."""
        event = self.dynamics.event_shape
        lead = jnp.broadcast_shapes(x.shape[: x.ndim - len(event)], self.batch_shape)
        shared = math.prod(self._params_batch) == 1
        leaves, tree = jax.tree.flatten(self.params)
        owns = [
            leaf.shape[leaf.ndim - core :]
            for leaf, core in zip(leaves, self.core_ndims or (), strict=True)
        ]
        params = [
            leaf.reshape(own) if shared else jnp.broadcast_to(leaf, lead + own)
            for leaf, own in zip(leaves, owns, strict=True)
        ]
        key = self._keys(lead) if self.key is not None else None

        def one(params: Any, context: Array, key: Array | None, x: Array) -> Any:
            return solve(jax.tree.unflatten(tree, params), context, key, x, start, end)

        axes = (None if shared else 0, 0, None if key is None else 0, 0)
        for _ in lead:
            one = jax.vmap(one, in_axes=axes)
        context = jnp.broadcast_to(self.context, lead + self.context.shape[-1:])
        x = jnp.broadcast_to(x, lead + event)
        return with_auto_axes(one, divided(len(lead), x, context))(params, context, key, x)

    def _keys(self, lead: tuple[int, ...]) -> Array:
        """A key for each element; those of samples come from their numbers."""
        batch = self.batch_shape
        sample = lead[: len(lead) - len(batch)]
        keys = jnp.broadcast_to(self.key, batch)
        fold = folded_keys
        for _ in batch:
            fold = jax.vmap(fold, in_axes=(0, None), out_axes=len(sample))
        return fold(keys, sample)


@dataclasses.dataclass(frozen=True, eq=False)
class Dynamics:
    """A vector field and its divergence, of one example; hashed by identity."""

    net: Any
    event_shape: tuple[int, ...]
    divergence: Divergence
    solver: Solver

    def arguments(self, x: Array, t: Array, context: Array) -> Arguments:
        """What the network is called with: one example."""
        parts = (x[None], t[None])
        return Arguments((*parts, context[None]) if context.size else parts)

    def call(self, params: Any, parts: Arguments) -> tuple[Array, Any]:
        """The network, without dropout."""
        return self.net.apply(params, parts, key=None, state=(), train=False)

    def velocity(self, t: Array, x: Array, args: Any) -> Array:
        """dx/dt."""
        params, context = args[:2]
        out, _ = self.call(params, self.arguments(x, jnp.asarray(t, x.dtype), context))
        return out[0].astype(x.dtype)

    def with_divergence(self, t: Array, state: tuple[Array, Array], args: Any) -> Any:
        """dx/dt, and tr(df/dx) along the directions."""
        velocity, traces = self.divergence(lambda x: self.velocity(t, x, args), state[0], args[2])
        return velocity, jnp.mean(traces)

    def directions(self, key: Array | None, x: Array) -> Array:
        """Unit vectors, or random ones: `(count, *event)`."""
        if self.divergence.num_probes is not None and key is None:
            raise ValueError(
                "ContinuousFlow: random probes need a key; write model.predict(params, input, "
                "key=key), or head(raw, params, key=key)"
            )
        return self.divergence.directions(key, x)

    def flow(
        self, params: Any, context: Array, key: Array | None, x: Array, start: float, end: float
    ) -> tuple[Array, Array]:
        """x at `end` and the log-determinant of that map, of x at `start`."""
        args = (params, context, self.directions(key, x))
        state = (x, jnp.zeros((), x.dtype))
        return self._solved(self.with_divergence, state, args, start, end)

    def transport(
        self, params: Any, context: Array, key: Array | None, x: Array, start: float, end: float
    ) -> Array:
        """x at `end` alone."""
        return self._solved(
            lambda t, x, args: (self.velocity(t, x[0], args),), (x,), (params, context), start, end
        )[0]

    def _solved(self, field: Any, state: Any, args: Any, start: float, end: float) -> Any:
        """The solution. Of an x or a context that is not finite there is none: the solver is given
        zeros instead, an x comes back as it is, and NaN for a context.
        """
        x, (params, context, *rest) = state[0], args
        finite = jnp.all(jnp.isfinite(x))
        known = jnp.all(jnp.isfinite(context))
        safe = (jnp.where(finite, x, 0), *state[1:])
        out, reached = self.solver(
            field, safe, (params, jnp.where(known, context, 0), *rest), start, end
        )
        moved = (jnp.where(finite, out[0], x), *out[1:])
        return tuple(nan_unless(reached & known, leaf) for leaf in moved)


def folded_keys(key: Array, shape: tuple[int, ...]) -> Array:
    """Keys of this shape, each from its number along the last axis, then the one before, ..."""
    keys = jnp.broadcast_to(key, shape)
    fold = jax.random.fold_in
    for _ in shape:
        fold = jax.vmap(fold)
    for axis in reversed(range(len(shape))):
        keys = fold(keys, jax.lax.broadcasted_iota(jnp.int32, shape, axis))
    return keys
