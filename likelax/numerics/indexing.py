"""Entries of an axis chosen by number."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def pick(index: Array, along: Array, axis: int = -1) -> Array:
    """`along[..., index]` with broadcasting; 0 for an index that is not there.

    A comparison and a sum rather than a gather: -inf elsewhere does no harm, nor does a sharding.
    """
    states = jnp.arange(along.shape[axis], dtype=index.dtype)
    states = states.reshape((-1,) + (1,) * (-1 - axis))
    here = jnp.expand_dims(index, tuple(range(axis, 0))) == states
    return jnp.sum(jnp.where(here, along, 0), axis=axis)


def take(index: Array, along: Array) -> Array:
    """Entries of the last axis, `(*batch, n)` numbers of `(*batch, size)`, which all have to be there,
    `-> (*batch, n)`, with broadcasting.

    By a gather, which makes no array of `size` for each of the n; JAX has none along axes that are
    sharded by type, and there it is `pick`.
    """
    if any(jax.typeof(along).sharding.spec) or any(jax.typeof(index).sharding.spec):
        return pick(index, along[..., None, :])
    rank = max(along.ndim, index.ndim)
    along, index = (x.reshape((1,) * (rank - x.ndim) + x.shape) for x in (along, index))
    return jnp.take_along_axis(along, index, -1, mode="clip")


def whole(x: Array) -> Array:
    """x with its last axis on every device, for what nothing does along a divided axis: to sort, to
    scan.
    """
    spec = jax.typeof(x).sharding.spec
    if len(spec) < x.ndim or spec[-1] is None:
        return x
    return jax.sharding.reshard(x, jax.P(*spec[:-1], None))
