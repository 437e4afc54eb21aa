"""Maps over a batch that is divided over a mesh."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax


def with_auto_axes(function: Callable[..., Any], spec: Iterable[Any]) -> Callable[..., Any]:
    """`function`, inside which Explicit mesh axes are Auto ones: for `vmap` of arrays that are divided
    in different ways, and loops of other libraries, which know no others.

    Args:
      function: of arrays.
      spec: how the first axes of what it returns are divided.
    """
    axes = tuple(spec)
    if not any(axes):
        return function

    def run(*args: Any) -> Any:
        whole = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), args)
        shapes = jax.eval_shape(function, *whole)
        specs = jax.tree.map(lambda leaf: jax.P(*axes[: leaf.ndim]), shapes)
        return jax.sharding.auto_axes(function, out_sharding=specs)(*args)

    return run
