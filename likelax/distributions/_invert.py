"""Quantiles by root finding, for families whose distribution function has no inverse in closed
form.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from likelax._pytree import Array


def solve_decreasing(
    function: Callable[[Array], Array],
    slope: Callable[[Array, Array], Array],
    low: Array,
    high: Array,
    start: Array,
) -> Array:
    """The root of a decreasing function in [low, high]: Newton's steps, halving where they leave
    the bracket.

    Not differentiable: the caller attaches the implicit derivative.

    Args:
      function: element by element.
      slope: of the function, from its argument and its value there.
      low, high: the bracket, of the shape of `start`.
      start: the first guess.
    """
    close = 2 * jnp.finfo(start.dtype).eps

    def unfinished(state):
        step, moving = state[0], state[-1]
        return (step < 100) & jnp.any(moving)

    def improve(state):
        # The function is called once, at the end, and its value is used in the next turn only: used
        # in the same one, XLA would copy the whole function into each of its uses.
        step, low, high, x, value, _ = state
        first = step == 0
        low, high = jnp.where(value > 0, x, low), jnp.where(value < 0, x, high)
        newton = x - value / slope(x, value)
        inside = (newton > low) & (newton < high)
        new = jnp.where(inside, newton, 0.5 * (low + high))
        # A Newton step that rounding throws just over the bracket is the end, not a reason to
        # halve.
        done = (value == 0) | (jnp.abs(newton - x) <= close * jnp.abs(x))
        new = jnp.where(first | done, x, new)
        return step + 1, low, high, new, function(new), first | (new != x)

    unknown, moving = jnp.full_like(start, jnp.nan), jnp.ones(start.shape, bool)
    state = (jnp.int32(0), low, high, start, unknown, moving)
    return jax.lax.while_loop(unfinished, improve, state)[3]
