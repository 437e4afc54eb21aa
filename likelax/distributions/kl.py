"""Kullback-Leibler divergences: a table of pairs, looked up by the types of both sides.

The formula of a same-family pair stands beside its family; this file holds only the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp

_TABLE: dict[tuple[type, type], Callable[[Any, Any], jax.Array]] = {}

Formula = Callable[[Any, Any], jax.Array]


def register_kl(p: type, q: type) -> Callable[[Formula], Formula]:
    """Decorates a function `(p, q) -> KL(p || q)` of shape `batch` for this pair of types.

    Raises:
      ValueError: when the pair has a formula already.
    """

    def register(formula: Formula) -> Formula:
        if (p, q) in _TABLE:
            raise ValueError(f"KL({p.__name__} || {q.__name__}) is registered already")
        _TABLE[p, q] = formula
        return formula

    return register


def kl_divergence(p: Any, q: Any) -> jax.Array:
    """KL(p || q) = E_p[log p - log q] in nats, of shape `batch`; subclasses use their parents'
    formula.

    Raises:
      TypeError: when one of them is no distribution.
      ValueError: when their event shapes differ, or their batch shapes do not broadcast.
      NotImplementedError: when the pair has no formula: estimate it with samples of p.
    """
    _check_pair(p, q)
    for p_type in type(p).__mro__:
        for q_type in type(q).__mro__:
            formula = _TABLE.get((p_type, q_type))
            if formula is not None:
                return formula(p, q)
    no_formula(p, q)


def _pair(p: Any, q: Any) -> str:
    return f"KL({type(p).__name__} || {type(q).__name__})"


def _check_pair(p: Any, q: Any) -> None:
    """Raises unless they are two distributions over values of one shape, whose batches broadcast."""
    if any(isinstance(side, type) or not hasattr(side, "event_shape") for side in (p, q)):
        raise TypeError(
            f"KL: two distributions wanted, got {p!r} and {q!r}; write "
            "lx.kl_divergence(lx.Normal(0.0, 1.0), lx.Normal(1.0, 2.0))"
        )
    if p.event_shape != q.event_shape:
        ranks_differ = len(p.event_shape) != len(q.event_shape)
        mend = (
            ".to_event(n) makes n batch axes those of the event"
            if ranks_differ
            else "both sides need the same"
        )
        raise ValueError(
            f"{_pair(p, q)}: event shapes {p.event_shape} and {q.event_shape} differ; {mend}"
        )
    try:
        jnp.broadcast_shapes(p.batch_shape, q.batch_shape)
    except ValueError:
        raise ValueError(
            f"{_pair(p, q)}: batch shapes {p.batch_shape} and {q.batch_shape} do not broadcast"
        ) from None


def no_formula(p: Any, q: Any) -> NoReturn:
    """Raises what `kl_divergence` raises of a pair that has none."""
    raise NotImplementedError(
        f"{_pair(p, q)} has no closed form here; estimate it: x, log_p = p.sample_and_log_prob(key, "
        "(1000,)); "
        "jnp.mean(log_p - q.log_prob(x), axis=0), or add yours with lx.register_kl"
    )
