"""What each example of a batch has to do with all the others, some examples at a time.

A function of one row and all columns is mapped over blocks of rows and worked out again for gradients
(`jax.checkpoint`): of the matrix (rows, columns) one block is held. On a mesh each device has its own rows
and all the columns, which are gathered once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from likelax._mesh import divided
from likelax.numerics._tiles import spread, varying

# Entries of the matrix in one block: 8 MiB of float32.
_BLOCK_ENTRIES = 2**21


def over_rows(
    function: Callable[[Any, Any], Any],
    rows: Any,
    columns: Any,
    *,
    data_axis: str | tuple[str, ...] | None = None,
    block_size: int | None = None,
) -> Any:
    """`function(row, columns)` of each row: arrays whose first axis is that of the rows.

    Args:
      function: of one row, without its axis, and all columns.
      rows: arrays `(rows, ...)`.
      columns: arrays `(columns, ...)`, and numbers.
      data_axis: mesh axes that the rows are divided over, where those are Auto; of Explicit ones the
        arrays' types tell.
      block_size: how many rows at a time (default: as many as make 2^21 entries).
    """
    count, width = len(jax.tree.leaves(rows)[0]), len(jax.tree.leaves(columns)[0])
    size = block_size or max(1, _BLOCK_ENTRIES // width)
    mesh, axes, manual = _layout(rows, data_axis)
    if not axes:
        return _blocked(function, size, rows, columns)
    parts = math.prod(mesh.shape[name] for name in axes)
    if count % parts:
        raise ValueError(
            f"a batch of {count} does not divide over the {parts} devices of mesh axis "
            f"{', '.join(map(repr, axes))}; fill it up, and leave the rest out with Batch(mask=...)"
        )
    if any(kind == AxisType.Explicit for kind in mesh.axis_types):
        rows = _placed(rows, NamedSharding(mesh, P(axes)))
        columns = _placed(columns, NamedSharding(mesh, P()))
    run = jax.shard_map(
        functools.partial(_blocked, function, size),
        mesh=mesh,
        in_specs=(P(axes), P()),
        out_specs=P(axes),
        axis_names=set(manual),
    )
    return run(rows, columns)


def _blocked(function: Callable[[Any, Any], Any], size: int, rows: Any, columns: Any) -> Any:
    # Inside `jax.shard_map`: the columns' gradient is summed over devices once, and not in the loop.
    axes = varying(rows)
    columns = jax.tree.map(lambda x: spread(x, axes), columns)
    if len(jax.tree.leaves(rows)[0]) <= size:
        return jax.vmap(lambda row: function(row, columns))(rows)
    each = jax.checkpoint(lambda row: function(row, columns), prevent_cse=False)
    return jax.lax.map(each, rows, batch_size=size)


def _placed(tree: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(lambda x: jax.reshard(x, sharding), tree)


def _layout(rows: Any, data_axis: Any) -> tuple[Any, tuple[str, ...], frozenset[str]]:
    """The mesh, the axes that rows are divided over, and those to enter a `jax.shard_map` for."""
    leaves = jax.tree.leaves(rows)
    meshes = [jax.typeof(x).sharding.mesh for x in leaves] + [jax.sharding.get_abstract_mesh()]
    mesh = next((mesh for mesh in meshes if not mesh.empty), None)
    if mesh is None:
        if data_axis and jax.device_count() > 1:
            raise ValueError(
                f"data_axis={data_axis!r} names a mesh axis, and no mesh is in sight; write "
                "with jax.set_mesh(mesh): ..."
            )
        return None, (), frozenset()
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    given = _names(data_axis)
    unknown = [name for name in given if name not in kinds]
    if unknown:
        raise ValueError(
            f"data_axis={data_axis!r} is no axis of the mesh, which has {mesh.axis_names}"
        )
    manual = [name for name in given if kinds[name] == AxisType.Manual]
    if manual:
        raise ValueError(
            f"data_axis={data_axis!r} is an axis of the jax.shard_map around it, where a device knows its "
            "own rows only; call the objective outside, or leave data_axis out for those alone"
        )
    axes = _names(divided(1, *leaves)[0]) or given
    explicit = frozenset(name for name, kind in kinds.items() if kind == AxisType.Explicit)
    return mesh, axes, explicit | frozenset(axes)


def _names(entry: Any) -> tuple[str, ...]:
    return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)
