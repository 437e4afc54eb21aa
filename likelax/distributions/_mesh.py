"""Where the tokens and the columns of a vocabulary head lie on a mesh of devices."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array
from jax.sharding import AxisType, NamedSharding, PartitionSpec

Axes = tuple[str, ...]


class Layout(NamedTuple):
    """
    Attributes:
      mesh: the mesh, None where no `jax.shard_map` has to be entered.
      manual: the mesh axes to enter it for.
      tokens: for each axis of the tokens, the mesh axes that it is divided over.
      columns: those that the columns are divided over.
    """

    mesh: Any
    manual: frozenset[str]
    tokens: tuple[Axes, ...]
    columns: Axes


def names(entry: Any) -> Axes:
    """One entry of a PartitionSpec, a string or None among others, as a tuple of mesh axes."""
    return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)


def parts(vocabulary_axis: Any) -> int:
    """Inside a `jax.shard_map` over these mesh axes: how many devices share the columns."""
    manual = jax.sharding.get_abstract_mesh().manual_axes
    axes = names(vocabulary_axis)
    return jax.lax.axis_size(axes) if axes and set(axes) <= set(manual) else 1


def find(
    hidden: Array, kernel: Array, bias: Array | None, vocabulary_axis: Any, batch_spec: Any
) -> Layout:
    """The layout of one head: from the arrays' types where mesh axes are Explicit, from the two
    keywords where they are Auto.

    Args:
      hidden: `(*tokens, features)`.
      kernel: `(..., features, vocabulary)`.
      bias: `(..., vocabulary)` or None.
      vocabulary_axis, batch_spec: as of LinearCategorical, the latter for the last axes of the
        tokens.
    """
    mesh = _mesh_of(hidden, kernel, bias)
    rank = hidden.ndim - 1
    given = tuple(names(entry) for entry in batch_spec or ())
    tokens = ((),) * (rank - len(given)) + given if len(given) <= rank else ((),) * rank
    columns = names(vocabulary_axis)
    if mesh is None:
        if (columns or any(tokens)) and jax.device_count() > 1:
            raise ValueError(
                f"LinearCategorical: vocabulary_axis={vocabulary_axis!r} and batch_spec="
                f"{batch_spec!r} name mesh axes, and no mesh is in sight; write "
                "with jax.set_mesh(mesh): ..."
            )
        return Layout(None, frozenset(), ((),) * rank, ())
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    for name in (*columns, *(name for entry in tokens for name in entry)):
        if name not in kinds:
            raise ValueError(
                f"LinearCategorical: {name!r} is no axis of the mesh, which has "
                f"{mesh.axis_names}; give vocabulary_axis and batch_spec of those"
            )
    explicit = frozenset(name for name, kind in kinds.items() if kind == AxisType.Explicit)
    outer = frozenset(name for name, kind in kinds.items() if kind == AxisType.Manual)
    own = _spec(hidden)
    tokens = tuple(
        tuple(n for n in by_type if n in explicit)
        + tuple(n for n in by_hand if n not in explicit | outer)
        for by_type, by_hand in zip(own[:-1], tokens, strict=True)
    )
    columns = _columns(kernel, columns, explicit, outer)
    _check_whole("hidden", hidden, own, own[-1])
    _check_whole("kernel", kernel, _spec(kernel), _spec(kernel)[-2])
    used = frozenset(columns).union(*tokens) - outer
    both = frozenset(columns).intersection(name for entry in tokens for name in entry)
    if both:
        raise ValueError(
            f"LinearCategorical: tokens and columns are both divided over {_listed(both)}; gather the "
            f"kernel first: write {_reshard('kernel', kernel, _spec(kernel)[:-1] + ((),))}"
        )
    for what, size, axes in (
        *zip(("tokens",) * rank, hidden.shape, tokens, strict=False),
        ("columns", kernel.shape[-1], () if set(columns) & outer else columns),
    ):
        parts = math.prod(mesh.shape[name] for name in axes)
        if size % parts:
            pad = "; pad the kernel, with a bias of -inf there" if what == "columns" else ""
            raise ValueError(
                f"LinearCategorical: {size} {what} do not divide over the {parts} devices of mesh "
                f"axis {_listed(axes)}{pad}"
            )
    return Layout(mesh if used else None, used | explicit if used else used, tokens, columns)


def _columns(kernel: Array, columns: Axes, explicit: frozenset[str], outer: frozenset[str]) -> Axes:
    """The mesh axes that the kernel's columns are divided over."""
    by_type = tuple(n for n in _spec(kernel)[-1] if n in explicit)
    missing = [n for n in columns if n in explicit and n not in by_type]
    if missing:
        raise ValueError(
            f"LinearCategorical: vocabulary_axis={_listed(columns)}, and the kernel's columns are not "
            f"divided over it; write {_reshard('kernel', kernel, (*_spec(kernel)[:-1], columns))}"
        )
    if not columns:
        return by_type
    inside = [n for n in columns if n in outer]
    if inside and len(inside) < len(columns):
        raise ValueError(
            f"LinearCategorical: of vocabulary_axis={columns} only {inside} are axes of the "
            "jax.shard_map around it; enter it with all of them or none"
        )
    same = set(inside) - jax.typeof(kernel).manual_axis_type.varying
    if same:
        raise ValueError(
            f"LinearCategorical: inside jax.shard_map the kernel is the same all along mesh axis "
            f"{_listed(same)}; give it in_specs=P(None, {_listed(columns)}), without check_vma=False"
        )
    return columns


def enter(
    layout: Layout, function: Callable[[Any, Any], Any], given: Any, per_token: Any, total: bool
) -> Any:
    """`function(given, per_token)` in a `jax.shard_map` of this layout.

    Args:
      given: `(hidden, kernel, bias)` of each head, the kernel's leading axes those of the tokens or
        of length 1.
      per_token: arrays that begin with the tokens' axes; so do the results.
      total: whether the first result is a sum over tokens.
    """
    if layout.mesh is None:
        return function(given, per_token)
    over_tokens = tuple(name for entry in layout.tokens for name in entry)
    tokens = PartitionSpec(*(_entry(entry) for entry in layout.tokens))

    def lead(x: Array, rank: int) -> list[Any]:
        """Of the tokens' axes that a kernel or a bias has, too."""
        entries = layout.tokens[len(layout.tokens) - rank :]
        sizes = x.shape[:rank]
        return [_entry(e) if n > 1 else None for n, e in zip(sizes, entries, strict=True)]

    def specs(arrays: Any) -> Any:
        hidden, kernel, bias = arrays
        rank, columns = kernel.ndim - 2, _entry(layout.columns)
        return (
            PartitionSpec(*tokens, None),
            PartitionSpec(*lead(kernel, rank), None, columns),
            None if bias is None else PartitionSpec(*lead(bias, rank), columns),
        )

    def local(given: Any, per_token: Any) -> Any:
        out = function(given, per_token)
        if not total or not over_tokens:
            return out
        return jax.lax.psum(out[0], over_tokens), out[1]

    in_specs = [specs(arrays) for arrays in given], jax.tree.map(lambda _: tokens, per_token)
    run = jax.shard_map(
        local,
        mesh=layout.mesh,
        in_specs=in_specs,
        out_specs=(PartitionSpec(), tokens) if total else tokens,
        axis_names=set(layout.manual),
    )

    @jax.jit  # where arrays of one device may meet those of a mesh
    def placed(*arguments: Any) -> Any:
        return run(*jax.tree.map(functools.partial(_placed, layout.mesh), arguments, in_specs))

    return placed(given, per_token)


def _placed(mesh: Any, x: Array, spec: PartitionSpec) -> Array:
    """x laid out so along the mesh's Explicit axes, whose types a `jax.shard_map` compares."""
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    explicit = [tuple(n for n in names(entry) if kinds[n] == AxisType.Explicit) for entry in spec]
    if not any(kind == AxisType.Explicit for kind in kinds.values()):
        return x
    return jax.reshard(
        x, NamedSharding(mesh, PartitionSpec(*(_entry(entry) for entry in explicit)))
    )


def _mesh_of(*arrays: Array | None) -> Any:
    """The mesh in the arrays' types, or the one that is set; None without any."""
    meshes = [jax.typeof(x).sharding.mesh for x in arrays if x is not None]
    meshes.append(jax.sharding.get_abstract_mesh())
    return next((mesh for mesh in meshes if not mesh.empty), None)


def _spec(x: Array) -> tuple[Axes, ...]:
    """For each axis, the Explicit mesh axes that it is divided over."""
    spec = tuple(jax.typeof(x).sharding.spec)
    return tuple(names(entry) for entry in spec) + ((),) * (x.ndim - len(spec))


def _entry(axes: Axes) -> Any:
    return axes[0] if len(axes) == 1 else axes or None


def _check_whole(name: str, x: Array, spec: tuple[Axes, ...], features: Axes) -> None:
    if features:
        axis = {"hidden": -1, "kernel": -2}[name] % x.ndim
        whole = tuple(() if i == axis else entry for i, entry in enumerate(spec))
        raise ValueError(
            f"LinearCategorical: the features of {name} are divided over mesh axis "
            f"{_listed(features)}; they must be whole: write {_reshard(name, x, whole)}"
        )


def _reshard(name: str, x: Array, spec: tuple[Axes, ...]) -> str:
    while name == "kernel" and len(spec) > 2 and not spec[0]:
        spec = spec[1:]  # an axis of length 1 that was added
    entries = ", ".join(repr(_entry(entry)) for entry in spec)
    return f"jax.reshard({name}, jax.P({entries}))"


def _listed(axes: Any) -> str:
    return ", ".join(map(repr, sorted(axes)))
