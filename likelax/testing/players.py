"""Whether the gradient of a game of two players is each one's own."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from likelax._keys import check_key, stream
from likelax._pytree import Array
from likelax.objective import Batch, Objective
from likelax.testing.subject import quick_jit

_PAID = {"generator": ("generator_loss",), "critic": ("critic_loss", "penalty")}


def check_players(
    objective: Objective,
    params: Any,
    batch: Batch,
    *,
    key: Array,
    state: Any = (),
    directions: int = 2,
    rtol: float = 1e-4,
) -> None:
    """Passes if the gradient in each player's parameters is the slope of what *it* pays.

    The slopes are differences of the reported terms, `generator_loss`, and `critic_loss` plus `penalty`,
    between parameters that are moved a little along random directions, in float64: whatever stops or leaks
    a gradient inside the objective has no part in them.

    Args:
      objective: with parameters `{"generator": .., "critic": ..}` and those terms, as
        `lx.adversarial.GAN`.
      params, state: as from `init`.
      batch: a few examples.
      key: a random key.
      directions: how many for each player.
      rtol: how far a slope may be off, relative to the largest one of the player.

    Raises:
      AssertionError: with the player, the gradient's slope and the right one.
    """
    key = check_key(key)
    with jax.enable_x64(True):
        params, batch, state = jax.tree.map(_wide, (params, batch, state))
        grad = jax.grad(objective, has_aux=True)
        ask = quick_jit(lambda params: grad(params, key, batch, state=state))
        slope, _ = ask(params)
        for player, names in _PAID.items():
            found = np.zeros((directions, 2))
            for i in range(directions):
                way = _direction(stream(jax.random.fold_in(key, i), player), params[player])
                ends = [ask(params | {player: _moved(params[player], way, e)})[1] for e in (1, -1)]
                paid = [sum(float(aux.terms.get(name, 0.0)) for name in names) for aux in ends]
                found[i] = _product(slope[player], way), (paid[0] - paid[1]) / (2 * _STEP)
            scale = np.abs(found[:, 1]).max() + 1e-12
            for got, wanted in found:
                if not abs(got - wanted) <= rtol * scale:
                    raise AssertionError(
                        f"the gradient in the {player}'s parameters has the slope {got:.6g}, and what "
                        f"the {player} pays has {wanted:.6g}: a player's parameters must see its own "
                        "loss, and nothing else"
                    )


_STEP = 1e-5


def _wide(leaf: Any) -> Any:
    leaf = jnp.asarray(leaf)
    return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _direction(key: Array, params: Any) -> Any:
    leaves, structure = jax.tree.flatten(params)
    keys = [jax.random.fold_in(key, i) for i in range(len(leaves))]
    drawn = [
        jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, drawn)


def _moved(params: Any, way: Any, sign: int) -> Any:
    return jax.tree.map(lambda p, w: p + sign * _STEP * w, params, way)


def _product(a: Any, b: Any) -> float:
    both = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum(float(jnp.sum(x * y)) for x, y in both)
