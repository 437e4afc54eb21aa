"""A stack of identical layers."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from likelax._pytree import Array, node
from likelax.bijectors.base import Bijector, check_bijector


class Scan(Bijector):
    """Layers of one structure, one after another, compiled once: 32 of them as fast as 2.

    ::

        layers = jax.vmap(make_layer)(jax.random.split(key, 32))
        flow = Scan(layers)

    Args:
      layers: one bijector, all of whose arrays have the layers on their last batch axis; layer 0 is
        applied first. It maps vectors or arrays, as a whole: what mixes coordinates between layers
        (`Permute`, `PLU`) is part of the layer, in a `Chain`.
    """

    layers: Bijector = node(extra_ndims=1)

    def _align(self, values: dict[str, Any]) -> dict[str, Any]:
        layers = check_bijector(values["layers"], "Scan")
        if not layers.batch_ndim:
            raise ValueError(
                f"Scan: the layers are on the last batch axis, and {type(layers).__name__} has batch "
                "shape (); write Scan(jax.vmap(make_layer)(jax.random.split(key, 8)))"
            )
        return values

    def _check(self) -> None:
        inner = self.layers
        if not (inner.domain.is_everything and inner.codomain.is_everything and inner.event_ndim):
            raise ValueError(
                f"Scan: layers that map all vectors, or arrays, onto themselves wanted, got "
                f"{type(inner).__name__} from values that are {inner.domain} with "
                f"{inner.event_ndim} axes to values that are {inner.codomain}; put elementwise maps "
                "into a Chain with a map of vectors"
            )

    @property
    def num_layers(self) -> int:
        """How many there are."""
        return self.layers.batch_shape[-1]

    @property
    def domain(self) -> Any:
        """The layers'."""
        return self.layers.domain

    @property
    def codomain(self) -> Any:
        """The layers'."""
        return self.layers.codomain

    @property
    def is_affine(self) -> bool:
        """Whether the layers are."""
        return self.layers.is_affine

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.layers.forward_shape(shape) != tuple(shape):
            raise ValueError(
                f"Scan: layers that keep the shape wanted, got one that makes "
                f"{self.layers.forward_shape(shape)} of {tuple(shape)}"
            )
        return tuple(shape)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.forward_shape(shape)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        return _run(self, x, "forward_and_log_det")

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        return _run(self, y, "inverse_and_log_det")

    def initialized(self, value: Array, *, forward: bool = False) -> Scan:
        axis, count = self.batch_ndim, self.num_layers
        wide = self.layers._map(lambda leaf: _repeated(leaf, axis, count))
        leaves, tree = jax.tree.flatten(wide)

        def fit(value: Array, parts: list[Array]) -> tuple[Array, list[Array]]:
            layer = jax.tree.unflatten(tree, parts).initialized(value, forward=forward)
            moved = layer.forward(value) if forward else layer.inverse(value)
            return moved, jax.tree.leaves(layer)

        layers_first = [jnp.moveaxis(leaf, axis, 0) for leaf in leaves]
        _, fitted = jax.lax.scan(fit, value, layers_first, reverse=not forward)
        fitted = [jnp.moveaxis(leaf, 0, axis) for leaf in fitted]
        return Scan(jax.tree.unflatten(tree, fitted))


def _repeated(leaf: Array, axis: int, count: int) -> Array:
    return jnp.broadcast_to(leaf, (*leaf.shape[:axis], count, *leaf.shape[axis + 1 :]))


# Compiled where called eagerly: `scan` would compile its step anew in each call.
@functools.partial(jax.jit, static_argnames="method")
def _run(stack: Scan, x: Array, method: str) -> tuple[Array, Array]:
    axis, event_ndim = stack.batch_ndim, stack.event_ndim
    lead = jnp.broadcast_shapes(x.shape[: x.ndim - event_ndim], stack.batch_shape)
    leaves, tree = jax.tree.flatten(stack.layers)
    # What all layers share, a context for one, is not copied for each.
    shared = [leaf.shape[axis] == 1 for leaf in leaves]
    own = [jnp.moveaxis(leaf, axis, 0) for leaf, s in zip(leaves, shared, strict=True) if not s]

    def step(carry: tuple[Array, Array], parts: list[Array]) -> tuple[tuple[Array, Array], None]:
        x, total = carry
        rest = iter(parts)
        full = [
            jnp.squeeze(leaf, axis) if s else next(rest)
            for leaf, s in zip(leaves, shared, strict=True)
        ]
        x, log_det = getattr(jax.tree.unflatten(tree, full), method)(x)
        return (x, total + log_det), None

    dtype = jnp.promote_types(x.dtype, stack.dtype)
    x = jnp.broadcast_to(x, lead + x.shape[x.ndim - event_ndim :]).astype(dtype)
    total = jnp.zeros_like(x[(..., *(0,) * event_ndim)])
    is_forward = method.startswith("forward")
    carry, _ = jax.lax.scan(step, (x, total), own, length=stack.num_layers, reverse=not is_forward)
    return carry
