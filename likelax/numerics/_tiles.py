"""Tiles of linear logits: some tokens by some columns of a kernel.

Columns go in blocks of one width, the last one overlapping the one before where the width does not
divide: nothing is padded or copied, and the columns that an earlier block has counted are marked.
The marks are arrays, one row for each block: worked out in the loop they cost as much as an
exponential.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

_COUNTED = -2  # the number of a column that an earlier block has counted
NO_COLUMN = -1  # the number of a token that is no column


class Logits(NamedTuple):
    """softcap tanh((hidden @ kernel + bias) / softcap), without the cap where that is None.

    Attributes:
      hidden: `(*batch, features)`; only the last batch axis is taken in chunks.
      kernel: `(features, vocabulary)`.
      bias: `(vocabulary,)` or None; -inf excludes a column.
      softcap: a number or None.
      axis: inside `jax.shard_map`, the mesh axes that the columns are divided over, if any.
    """

    hidden: Array
    kernel: Array
    bias: Array | None = None
    softcap: float | None = None
    axis: tuple[str, ...] | None = None


class Tile(NamedTuple):
    """How much is worked on at a time.

    Attributes:
      tokens: along their last axis.
      columns: of the kernel.
      swept: tokens, along their last axis, whose logits are held for all columns where gradients
        are made in the forward sweep; 0 where those would be too many.
    """

    tokens: int
    columns: int
    swept: int = 0


class Block(NamedTuple):
    """One block of columns.

    Attributes:
      start: the first.
      columns: their numbers, `(width,)`; those counted before have a number that no token has.
      offset: -inf for those counted before, else 0.
    """

    start: Array
    columns: Array
    offset: Array

    def of(self, x: Array, axis: int = -1) -> Array:
        """These columns of x."""
        return sliced(x, self.start, self.columns.shape[-1], axis)

    def linear(self, x: Array) -> Array:
        """The same of a tangent, whose last axis they are: can be transposed."""
        return jax.lax.dynamic_slice_in_dim(x, self.start, self.columns.shape[-1], axis=-1)

    def added(self, x: Array, part: Array) -> Array:
        """x with `part` added to these, its last axis."""
        return jax.lax.dynamic_update_slice_in_dim(x, self.linear(x) + part, self.start, axis=-1)


def blocks(size: int, width: int, dtype: Any) -> Block:
    """All blocks of `size` columns, stacked; `dtype` is that of the logits."""
    count = -(-size // min(width, size))
    width = -(-size // count)
    first = jnp.arange(count, dtype=jnp.int32) * width
    start = jnp.minimum(first, size - width)
    columns = start[:, None] + jnp.arange(width, dtype=jnp.int32)
    counted = columns < first[:, None]
    offset = jnp.where(counted, -jnp.inf, 0).astype(dtype)
    return Block(start, jnp.where(counted, _COUNTED, columns), offset)


def over_blocks(body: Callable[[Any, Block], Any], init: Any, all_blocks: Block) -> Any:
    """`carry = body(carry, block)` over all of them."""
    return jax.lax.scan(lambda carry, block: (body(carry, block), None), init, all_blocks)[0]


def over_chunks(
    body: Callable[[Callable[[Array], Array]], Any], shape: tuple[int, ...], size: int
) -> Any:
    """`body(part)` for chunks of the last axis of `shape`; `part(x)` is the chunk of an x that begins
    with that shape. The outputs, which begin with it too, are put together.
    """
    if not shape or shape[-1] <= size:
        return body(lambda x: x)
    axis, length = len(shape) - 1, shape[-1]
    count = -(-length // size)
    size = -(-length // count)
    last = length - size * (count - 1)

    def step(_: None, i: Array) -> tuple[None, Any]:
        start = jnp.minimum(i * size, length - size)
        return None, body(lambda x: sliced(x, start, size, axis))

    def join(y: Array) -> Array:
        head = jnp.moveaxis(y[:-1], 0, axis)
        head = head.reshape(*shape[:axis], size * (count - 1), *head.shape[axis + 2 :])
        tail = jax.lax.slice_in_dim(y[-1], size - last, size, axis=axis)
        return jnp.concatenate([head, tail], axis=axis)

    return jax.tree.map(join, jax.lax.scan(step, None, jnp.arange(count))[1])


def sliced(x: Array, start: Array, size: int, axis: int) -> Array:
    """`size` entries of an axis, from `start`."""
    narrow = jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize == 2
    return (_sliced_bits if narrow else jax.lax.dynamic_slice_in_dim)(x, start, size, axis)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _sliced_bits(x: Array, start: Array, size: int, axis: int) -> Array:
    """XLA's CPU backend widens the whole of a half-precision array whose slices a loop takes, and
    then multiplies what is wide; it leaves integers as they are.
    """
    # Tied to the loop's own number, the array as integers is not made once, before the loop, but is
    # part of each slice: nothing of its size is held.
    x, start = jax.lax.optimization_barrier((x, start))
    bits = jax.lax.bitcast_convert_type(x, jnp.uint16)
    part = jax.lax.dynamic_slice_in_dim(bits, start, size, axis)
    return jax.lax.bitcast_convert_type(part, x.dtype)


@_sliced_bits.defjvp
def _sliced_bits_slope(size: int, axis: int, primals: Any, tangents: Any) -> tuple[Array, Array]:
    (x, start), (dx, _) = primals, tangents
    tangent = jax.lax.dynamic_slice_in_dim(dx, start, size, axis)
    return _sliced_bits(x, start, size, axis), tangent


def varying(*arrays: Any) -> frozenset[str]:
    """Inside `jax.shard_map`: the mesh axes along which one of the arrays varies."""
    types = [jax.typeof(x) for x in jax.tree.leaves(arrays)]
    return frozenset().union(*(t.manual_axis_type.varying for t in types))


def spread(x: Any, axes: frozenset[str]) -> Any:
    """x as one that varies along these mesh axes, too: its gradient is summed over them once, here,
    and not wherever it is made.
    """
    more = tuple(sorted(axes - varying(x)))
    if not more:
        return x
    if jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize == 2:
        # The gradient is summed wide; XLA's CPU backend dies of a half-precision all-reduce.
        return jax.lax.pcast(x.astype(jnp.float32), more, to="varying").astype(x.dtype)
    return jax.lax.pcast(x, more, to="varying")


def filled(shape: tuple[int, ...], value: float, dtype: Any, like: Array) -> Array:
    """An array of one value to begin a loop with, varying as `like` does."""
    return spread(jnp.full(shape, value, dtype), varying(like))


def wide_dtype(hidden: Array, kernel: Array) -> Any:
    """The dtype of logits and sums: that of the inputs, at least float32."""
    return jnp.promote_types(jnp.result_type(hidden, kernel), jnp.float32)


def product(hidden: Array, kernel: Array, dtype: Any) -> Array:
    """hidden @ kernel, summed and given in `dtype`."""
    return jnp.einsum("...d,dv->...v", hidden, kernel, preferred_element_type=dtype)


def tile_logits(block: Block, hidden: Array, kernel: Array, bias: Any, softcap: Any) -> Array:
    """One tile's logits in the wide dtype, those of columns counted before among them."""
    logits = product(hidden, block.of(kernel), wide_dtype(hidden, kernel))
    if bias is not None:
        logits = logits + block.of(bias).astype(logits.dtype)
    if softcap is not None:
        logits = softcap * jnp.tanh(logits / softcap)
    return logits
