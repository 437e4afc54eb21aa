"""Whether a critic's loss bounds what it says, and the gradient of a game is each player's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from likelax._keys import check_key, stream
from likelax._pytree import Array
from likelax.numerics.logspace import logsumexp
from likelax.objective import Batch, Objective
from likelax.testing.subject import quick_jit

# Two densities that are alike in nothing: weights, means and scales of a mixture, and a Normal.
_DATA, _MODEL = ((0.3, -1.0, 0.5), (0.7, 1.2, 0.8)), (0.4, 1.6)


def check_loss(loss: Any, f: Callable[[Array], Array], *, reach: float = 40.0) -> None:
    """Passes if a loss of critics bounds the divergence that it says, and no less than it.

    The data are a mixture on a line and the model a Normal. At each of many points the critic's output is
    the one that costs least, found by search; what the bound then says must be the f-divergence of the two,
    the integral of q f(p / q), and the ratio that of their densities.

    Args:
      loss: a `lx.adversarial.Loss` with a `bound`, whose cost at a point, p real(v) + q fake(v), has one
        minimum in v.
      f: of the ratio u = p / q, convex, with f(1) = 0.
      reach: outputs are looked for from -reach to reach.

    Raises:
      AssertionError: with what was found and what is right.
      ValueError: for a loss without a bound.
    """
    if getattr(loss, "bound", None) is None:
        raise ValueError(
            "check_loss: a loss that bounds a divergence wanted, got "
            f"{loss!r}; write lx.adversarial.Loss(..., bound=lx.adversarial.Bound(name, offset, scale))"
        )
    with jax.enable_x64(True):
        x = jnp.linspace(-13.0, 14.0, 8001)
        cost, divergence, error = map(np.asarray, quick_jit(_at_best(loss, f, reach))(x))
    # NumPy's sums: XLA's, fused with such products, was wrong on a CPU without optimisations (jax 0.10.2).
    found = loss.bound.offset - loss.bound.scale * np.trapezoid(cost, x)
    wanted, off = np.trapezoid(divergence, x), np.max(error)
    if not abs(found - wanted) <= 1e-7 * max(1.0, abs(wanted)):
        raise AssertionError(
            f"at the best critic the bound of {loss.name!r} is {found:.8g}, and the divergence is "
            f"{wanted:.8g}: look at real, fake, and the bound's offset and scale"
        )
    if not off <= 1e-3:
        raise AssertionError(
            f"at the best critic log_ratio of {loss.name!r} is off by up to {off:.4g} nats"
        )


def _at_best(loss: Any, f: Callable[[Array], Array], reach: float) -> Callable[[Array], Any]:
    """The density of the critic's cost at points x, that of the divergence, and the error of the log-ratio
    where it is moderate.
    """

    def ask(x: Array) -> tuple[Array, Array, Array]:
        parts = [jnp.log(w) + _log_normal(x, m, s) for w, m, s in _DATA]
        log_p, log_q = logsumexp(jnp.stack(parts), axis=0), _log_normal(x, *_MODEL)
        r = log_p - log_q

        def paid(v: Array) -> Array:
            return jnp.exp(log_p) * loss.real(v) + jnp.exp(log_q) * loss.fake(v)

        def narrow(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = ends
            a, b = low + (high - low) / 3, high - (high - low) / 3
            left = paid(a) <= paid(b)
            return jnp.where(left, low, a), jnp.where(left, b, high)

        start = jnp.full_like(x, -reach), jnp.full_like(x, reach)
        low, high = jax.lax.fori_loop(0, 100, narrow, start)
        v = (low + high) / 2
        off = jnp.zeros_like(x) if loss.log_ratio is None else jnp.abs(loss.log_ratio(v) - r)
        return paid(v), jnp.exp(log_q) * f(jnp.exp(r)), jnp.where(jnp.abs(r) < 3, off, 0.0)

    return ask


def _log_normal(x: Array, loc: float, scale: float) -> Array:
    return -0.5 * ((x - loc) / scale) ** 2 - math.log(scale) - 0.5 * math.log(2 * math.pi)


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
      AssertionError: with the player, the gradient's slope and the right one; and where a loss is not
        reported.
    """
    key = check_key(key)
    told = jax.eval_shape(lambda: objective(params, key, batch, state=state)[1].terms)
    for player, (name, *_) in _PAID.items():
        if name not in told:
            raise AssertionError(
                f"the objective does not say what the {player} pays: terms[{name!r}] wanted, got "
                f"{sorted(told)}"
            )
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
