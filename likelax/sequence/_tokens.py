"""What the objectives of tokens share: which values are tokens, and how large those are."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from likelax import _checks
from likelax._pytree import Array
from likelax.distributions.categorical import Categorical
from likelax.heads import HeadLike, MixtureHead, may_be_of_classes
from likelax.objective import check_target, trailing


def widened(values: ArrayLike) -> Array:
    """Narrow whole numbers as int32: a mask token or a start of 256 is 0 as uint8."""
    values = jnp.asarray(values)
    narrow = jnp.issubdtype(values.dtype, jnp.integer) and values.dtype.itemsize < 4
    return values.astype(jnp.int32) if narrow else values


def classes_of(head: Any) -> int | None:
    """How many tokens there are, where the head says so."""
    if isinstance(head, MixtureHead):
        return classes_of(head.head)
    if getattr(head, "family", None) is Categorical:
        return head.size // math.prod(head.event_shape) or None
    return getattr(head, "num_categories", None)


def check_head(head: HeadLike, *, owner: str) -> None:
    """Raises TypeError for a head that is known not to be of tokens."""
    if not may_be_of_classes(head):
        raise TypeError(
            f"{owner}: a head of tokens wanted, lx.LinearHead(V, features) or "
            f"lx.Head(lx.Categorical, num_categories=V); got {head!r}"
        )


def check_whole(values: Array, head: HeadLike, *, owner: str) -> None:
    """Raises TypeError for tokens that are real numbers."""
    if classes_of(head) is not None and not jnp.issubdtype(values.dtype, jnp.integer):
        raise TypeError(
            f"{owner}: tokens are whole numbers, got {values.dtype} of shape {values.shape}; write "
            "target.astype(int)"
        )


def checked_bytes(token_bytes: ArrayLike | None, head: Any) -> Any:
    """`token_bytes`; raises ValueError for sizes that are none, or not one for each token."""
    if token_bytes is None:
        return None
    sizes, classes = np.asarray(token_bytes, float), classes_of(head)
    if sizes.ndim > 1 or (sizes.ndim and classes is not None and len(sizes) != classes):
        raise ValueError(
            f"token_bytes is one number, or one for each of the {classes} tokens; got shape "
            f"{sizes.shape}"
        )
    if not np.all((sizes >= 0) & np.isfinite(sizes)):
        raise ValueError("token_bytes are sizes: finite, and not negative")
    return token_bytes


def sizes_of(values: Array, token_bytes: Any) -> Array | None:
    """How many bytes each value stands for."""
    if token_bytes is None:
        return None
    sizes = jnp.asarray(token_bytes, float)
    if sizes.ndim:
        sizes = jnp.take(sizes, values, mode="clip")
    return jnp.broadcast_to(sizes, values.shape)


def is_token(values: Array, classes: int) -> Array:
    """Whether each value is one of the tokens 0..classes-1."""
    return (values >= 0) & (values < classes)


def check_scored(values: Array, keep: Array | None, classes: int | None, *, owner: str) -> None:
    """Under `debug_checks`, before the network sees them: raises unless what is scored is a token."""
    if classes is not None and _checks.checking():
        what = f"the target is {{value}}, none of the tokens 0..{classes - 1}"
        check_target(is_token(values, classes), values, keep, f"{owner}: at {{index}} {what}")


def readable(values: Array, keep: Array | None, classes: int | None) -> Array:
    """`values` with 0 in place of what is masked out and no value: -100, NaN."""
    if keep is None:
        return values
    if jnp.issubdtype(values.dtype, jnp.floating):
        good = jnp.isfinite(values)
    else:
        good = values >= 0 if classes is None else is_token(values, classes)
    return jnp.where(trailing(keep, values.ndim) | good, values, 0)
