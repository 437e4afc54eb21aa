"""Kullback-Leibler divergences: a table of pairs, looked up by the types of both sides.

The formula of a same-family pair stands beside its family; this file holds only the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import jax

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
      NotImplementedError: when the pair has no formula: estimate it with samples of p.
    """
    for p_type in type(p).__mro__:
        for q_type in type(q).__mro__:
            formula = _TABLE.get((p_type, q_type))
            if formula is not None:
                return formula(p, q)
    no_formula(p, q)


def no_formula(p: Any, q: Any) -> NoReturn:
    """Raises what `kl_divergence` raises of a pair that has none."""
    pair = f"KL({type(p).__name__} || {type(q).__name__})"
    raise NotImplementedError(
        f"{pair} has no closed form here; estimate it: x, log_p = p.sample_and_log_prob(key, "
        "(1000,)); "
        "jnp.mean(log_p - q.log_prob(x), axis=0), or add yours with lx.register_kl"
    )
