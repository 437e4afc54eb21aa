"""Maps over a batch that is divided over a mesh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from likelax._pytree import Array


def with_auto_axes(function: Callable[..., Any], spec: tuple[Any, ...]) -> Callable[..., Any]:
    """`function`, inside which Explicit mesh axes are Auto ones: for `vmap` of arrays that are divided
    in different ways, and loops of other libraries, which know no others.

    Args:
      function: of arrays.
      spec: how the first axes of what it returns are divided.
    """
    if not any(spec):
        return function

    def run(*args: Any) -> Any:
        whole = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), args)
        shapes = jax.eval_shape(function, *whole)
        specs = jax.tree.map(lambda leaf: jax.P(*spec[: leaf.ndim]), shapes)
        return jax.sharding.auto_axes(function, out_sharding=specs)(*args)

    return run


def divided(ndim: int, *arrays: Array) -> tuple[Any, ...]:
    """The Explicit mesh axes that the first `ndim` axes of one of the arrays are divided over."""
    specs = [tuple(jax.typeof(x).sharding.spec) + (None,) * ndim for x in arrays]
    return tuple(next((s[i] for s in specs if s[i]), None) for i in range(ndim))
