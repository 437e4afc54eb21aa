"""What a bijector answers, and comparisons of answers that say what is wrong: for `check_bijector`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from likelax._pytree import Array
from likelax.bijectors import Bijector
from likelax.testing.subject import quick_jit

TIGHT = 1e-8


class Failed(Exception):
    """A check failed; the message says how."""


class Skipped(Exception):
    """A check was left out; the message says why."""


def _quickly(function: Callable[..., Any]) -> Callable[..., Any]:
    """`quick_jit` at the first call: its options depend on the device, and importing starts none."""
    compiled = functools.cache(lambda: quick_jit(function))
    return functools.wraps(function)(lambda *args: compiled()(*args))


def cast(tree: Any, dtype: Any) -> Any:
    """Every floating array in this dtype."""

    def one(leaf: Any) -> Any:
        floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return jnp.asarray(leaf, dtype if floating else None)

    return jax.tree.map(one, tree)


# Compiled once for each dtype, and asked all questions: compiling is what takes time here.
@jax.jit
def ask(bijector: Bijector, x: Array, y: Array) -> dict[str, Array]:
    """What the bijector says of values x, and of values y."""
    out, log_det = bijector.forward_and_log_det(x)
    back, inverse_log_det = bijector.inverse_and_log_det(y)
    alone = {"forward": bijector.forward(x), "inverse": bijector.inverse(y)}
    return {"y": out, "log_det": log_det, "x": back, "inverse_log_det": inverse_log_det, **alone}


@_quickly
def one_by_one(bijector: Bijector, x: Array, y: Array) -> dict[str, Array]:
    """The same of each value by itself, with the Jacobian of the forward map."""

    def one(pair: tuple[Array, Array]) -> dict[str, Array]:
        return {**ask(bijector, *pair), "jacobian": jax.jacfwd(bijector.forward)(pair[0])}

    return jax.lax.map(one, (x, y))


@_quickly
def derivative(bijector: Bijector, x: Array, y: Array, ways: Any) -> dict[str, Array]:
    """The derivative of the answers along one direction."""
    return jax.jvp(ask, (bijector, x, y), ways)[1]


@_quickly
def gradients(bijector: Bijector, x: Array, y: Array) -> Any:
    """Gradients of the sum of all answers."""

    def total(bijector: Bijector, x: Array, y: Array) -> Array:
        return sum(jnp.sum(part) for part in ask(bijector, x, y).values())  # type: ignore[return-value]

    return jax.grad(total, argnums=(0, 1, 2), allow_int=True)(bijector, x, y)


def said(bijector: Bijector, x: Array) -> tuple[dict[str, np.ndarray], Array]:
    """The answers at x and at its y, as NumPy arrays, and y."""
    y = ask(bijector, x, jnp.zeros(bijector.forward_shape(x.shape), x.dtype))["y"]
    return {name: np.asarray(part) for name, part in ask(bijector, x, y).items()}, y


def is_held(bijector: Bijector, path: tuple[Any, ...]) -> bool:
    """Whether a bijector on the path from here to a parameter says that it is held."""
    part: Any = bijector
    for key in path:
        if isinstance(part, Bijector) and key.name in part.held:
            return True
        if not isinstance(part, Bijector | tuple | list):
            return False
        part = getattr(part, key.name) if isinstance(part, Bijector) else part[key.idx]
    return False


def worst(got: Any, truth: Any, condition: Any = 1.0) -> tuple[int, float]:
    """Where, along the first axis, and how far, relative to condition * max(1, |truth|)."""
    got, truth = np.asarray(got, np.float64), np.asarray(truth, np.float64)
    same = (got == truth) | (np.isnan(got) & np.isnan(truth))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0, np.abs(got - truth) / np.maximum(1, np.abs(truth)))
    error = np.nan_to_num(error, nan=np.inf).reshape(len(got), -1).max(axis=1, initial=0)
    error = error / condition
    return int(error.argmax()), float(error.max())


def compared(got: np.ndarray, truth: np.ndarray, method: str, condition: Any) -> str:
    """A log-determinant against the Jacobian's, with a guess at the mistake."""
    at, error = worst(got, truth, condition)
    if error < TIGHT:
        return f"within {error:.1g} of the Jacobian's"
    raise Failed(
        f"{method} says {got[at]:.6g} at value {at}, the Jacobian {truth[at]:.6g}"
        f"{_guess(got, truth)}"
    )


def _guess(got: np.ndarray, truth: np.ndarray) -> str:
    gap = got - truth
    if np.abs(truth).max() > 1e-6 and worst(got, -truth)[1] < 1e-6:
        return ": the sign is wrong"
    if np.ptp(gap) < 1e-6 and np.abs(gap).max() > 1e-6:
        return f": a constant, {gap.mean():+.6g}, is too much (the logarithm of a factor?)"
    ratio = np.sum(got * truth) / max(np.sum(truth**2), 1e-300)
    if worst(got, ratio * truth)[1] < 1e-6:
        return f": it is {ratio:.6g} times that"
    return ""


def beside(edge: np.float32) -> tuple[np.float32, ...]:
    """A float below, itself, and a float above; none of those that devices take for 0."""
    low, high = (np.nextafter(edge, np.float32(end)) for end in (-np.inf, np.inf))
    tiny = np.finfo(np.float32).tiny
    return (-tiny, edge, tiny) if edge == 0 else (low, edge, high)


def looked_at_edges(bijector: Bijector, x: Array) -> str:
    """Order and gradients at sorted values."""
    out, given = said(bijector, x)
    y, log_det = out["y"], out["log_det"]
    steps = np.diff(y, axis=0)
    increasing = bijector.increasing
    rises = np.where(np.asarray(increasing, bool), steps, -steps)
    if increasing is not None and rises.min() < 0:
        at = int(np.argwhere(rises < 0)[0][0])
        low, high = (float(np.ravel(x[i])[0]) for i in (at, at + 1))
        raise Failed(f"the map turns back between {low:.9g} and {high:.9g}")
    for leaf in jax.tree.leaves(gradients(bijector, x, given)):
        if leaf.dtype != jax.dtypes.float0 and not np.all(np.isfinite(leaf)):
            raise Failed("a gradient is not finite at an edge or beyond")
    if not np.all(np.isfinite(log_det)):
        raise Failed("a log-determinant is not finite at an edge or beyond")
    return f"{len(x)} values at and around them"
