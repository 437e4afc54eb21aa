"""Samples as rows of numbers, and functions of pairs of them a block at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from likelax import _checks
from likelax._checks import is_count
from likelax._mesh import divided
from likelax._pytree import Array

Features = Callable[[Array], Array]


def as_features(owner: str, x: Any, y: Any, features: Features | None, least: int) -> Any:
    """Both as `(n, d)` and `(m, d)`, floats of at least 32 bits: of the features, if there are any.

    Raises:
      ValueError: for too few rows, rows of different sizes, or, in eager code, numbers that are not finite.
    """
    rows = as_rows(owner, x, y, features, least)
    for name, values in zip(("first", "second"), rows, strict=True):
        message = f"{owner}: at {{index}} of the rows of the {name} sample is {{value}}, not finite"
        _checks.check_known(jnp.isfinite(values), values, message)
    return rows


def as_rows(owner: str, x: Any, y: Any, features: Features | None, least: int) -> Any:
    """As `as_features`, whatever the numbers are."""
    both = [jnp.asarray(v) for v in (x, y)]
    if any(v.ndim < 1 for v in both) or both[0].shape[1:] != both[1].shape[1:]:
        raise ValueError(
            f"{owner}: two samples of one event shape wanted, (n, *event) and (m, *event), got "
            f"{both[0].shape} and {both[1].shape}"
        )
    if features is not None:
        both = [jnp.asarray(features(v)) for v in both]
        for given, made in zip((x, y), both, strict=True):
            if made.shape[:1] != jnp.shape(given)[:1]:
                raise ValueError(
                    f"{owner}: features map (n, *event) to (n, features), got {made.shape} from "
                    f"{jnp.shape(given)}"
                )
    if min(len(v) for v in both) < least:
        raise ValueError(
            f"{owner}: at least {least} of each wanted, got {len(both[0])} and {len(both[1])}"
        )
    wide = jnp.promote_types(jnp.result_type(*both), jnp.float32)
    return [whole(v).reshape((len(v), -1)).astype(wide) for v in both]


def whole(x: Array) -> Array:
    """On each device all of it, as pairs want it: of Explicit mesh axes, which forbid what would move it."""
    if not any(divided(x.ndim, x)):
        return x
    return jax.reshard(x, jax.sharding.NamedSharding(jax.typeof(x).sharding.mesh, jax.P()))


def or_nan(found: Any, *samples: Array) -> Any:
    """What was found of samples; NaN where one is not finite, which a comparison would hide."""
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(rows)) for rows in samples]))
    return jax.tree.map(lambda leaf: jnp.where(finite, leaf, jnp.nan), found)


def check_block(owner: str, block_size: Any) -> None:
    """Raises ValueError for a block that is none."""
    if not is_count(block_size):
        raise ValueError(
            f"{owner}: block_size is a whole number >= 1, got {block_size!r}; write block_size=512"
        )


def by_rows(function: Callable[..., Any], x: Array, block_size: int) -> Any:
    """`function(rows, indices)` of each block of rows of x, `(block, d)`, put together: `(n, ...)`."""
    n, size = len(x), min(block_size, len(x))
    index = jnp.arange(-(-n // size) * size).reshape((-1, size))
    out = jax.lax.map(lambda i: function(x[jnp.minimum(i, n - 1)], i), index)
    return jax.tree.map(lambda leaf: leaf.reshape((-1, *leaf.shape[2:]))[:n], out)


def squared_distances(x: Array, y: Array) -> Array:
    """|x_i - y_j|^2, `(n, m)`, from the differences, so that near ones keep their digits."""
    return jnp.sum((x[:, None] - y) ** 2, axis=-1)
