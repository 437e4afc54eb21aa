"""Inverses that are found by iteration, with the derivatives of the map that they invert."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from likelax._pytree import Array


def implicit_inverse(bijector: Any, y: Array) -> Array:
    """x with `bijector.forward(x) = y` of vectors, found by `bijector._solve`, differentiable in both.

    By the implicit function theorem dx = J^-1 (dy - dy/dparameters), J of the forward map at x.
    """
    dtype = jnp.promote_types(y.dtype, bijector.dtype)
    lead = jnp.broadcast_shapes(y.shape[:-1], bijector.batch_shape)
    return _inverse(bijector, jnp.broadcast_to(y, lead + y.shape[-1:]).astype(dtype))


@jax.custom_jvp
def _inverse(bijector: Any, y: Array) -> Array:
    return bijector._solve(y)


@_inverse.defjvp
def _inverse_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    bijector, y = primals
    x = _inverse(bijector, y)
    _, moved = jax.jvp(lambda b: b.forward(x), (bijector,), (tangents[0],))
    change = tangents[1] - moved
    return x, jnp.linalg.solve(jacobian(bijector.forward, x), change[..., None])[..., 0]


def jacobian(function: Any, x: Array) -> Array:
    """dy/dx of a map of vectors, row by row: `(*lead, d) -> (*lead, d, d)`."""

    def column(unit: Array) -> Array:
        return jax.jvp(function, (x,), (jnp.broadcast_to(unit, x.shape),))[1]

    return jax.vmap(column, out_axes=-1)(jnp.eye(x.shape[-1], dtype=x.dtype))
