"""Quantiles by root finding, for families whose distribution function has no inverse in closed
form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from likelax._pytree import Array


def open_uniform(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Uniform draws of (0, 1), in the middles of the generator's steps. It gives a 0 once in 2^23 draws of
    float32: no quantile of the smallest float may stand for that.
    """
    return jax.random.uniform(key, shape, dtype) + 0.5 * jnp.finfo(dtype).eps


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


def smallest(excess: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """The smallest floating-point number in [low, high] where `excess`, which stays so above it, is not
    negative; NaN where `excess` is.

    The steps halve the *count of floating-point numbers* in the bracket, so that as many as a
    number has bits reach it to the last bit, whatever its size. Not differentiable.
    """

    def halve(
        _: Any, state: tuple[Array, Array, Array, Array]
    ) -> tuple[Array, Array, Array, Array]:
        # As in `solve_decreasing` the function is called once and its value used in the next turn.
        low, high, middle, value = state
        enough = (value >= 0) | (low == high)
        unknown = jnp.isnan(value)
        low, high = jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)
        middle = jnp.where(unknown, middle, _mean(low, high))
        return low, high, middle, jnp.where(unknown, value, excess(_from_rank(middle, dtype)))

    dtype = low.dtype
    low, high = _to_rank(low), _to_rank(high)
    state = low, high, high, jnp.zeros(low.shape, dtype)  # the first turn only asks in the middle
    _, found, _, value = jax.lax.fori_loop(0, jnp.finfo(dtype).bits + 1, halve, state)
    return jnp.where(jnp.isnan(value), jnp.nan, _from_rank(found, dtype))


def _mean(low: Array, high: Array) -> Array:
    """The mean of two ranks, which cannot overflow."""
    return (low & high) + ((low ^ high) >> 1)


def _to_rank(x: Array) -> Array:
    """The place of a floating-point number among all of them in order."""
    bits = jax.lax.bitcast_convert_type(x, jnp.int32 if x.dtype.itemsize == 4 else jnp.int64)
    return jnp.where(bits < 0, bits ^ jnp.iinfo(bits.dtype).max, bits)


def _from_rank(rank: Array, dtype: Any) -> Array:
    bits = jnp.where(rank < 0, rank ^ jnp.iinfo(rank.dtype).max, rank)
    return jax.lax.bitcast_convert_type(bits, dtype)


@jax.custom_jvp
def quantile_from_tails(dist: Any, q: Array) -> Array:
    """The quantile, 0 < q < 1, of a distribution over numbers with `log_cdf` and `log_survival`,
    from the smaller of them; its derivative holds log F - log S still.
    """
    # A pathwise slope needs no gradient through the search.
    shape = jnp.broadcast_shapes(q.shape, dist.batch_shape)
    support = dist.support
    low, high = getattr(support, "lower", None), getattr(support, "upper", None)
    low, high = -jnp.inf if low is None else low, jnp.inf if high is None else high
    low, high = (jnp.broadcast_to(jnp.asarray(end, q.dtype), shape) for end in (low, high))
    lower = q < 0.5
    own = getattr(dist, "nearer_log_tail", None)
    tail = own(lower) if own else lambda x: jnp.where(lower, dist.log_cdf(x), dist.log_survival(x))
    log_q, log_rest = jnp.log(q), jnp.log1p(-q)

    def excess(x: Array) -> Array:
        log_tail = tail(x)
        return jnp.where(lower, log_tail - log_q, log_rest - log_tail)

    return smallest(excess, low, high)


@quantile_from_tails.defjvp
def _quantile_from_tails_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """L(x) = log q - log(1 - q), L = log F - log S, whose slope in x is p / (F S)."""
    (dist, q), (d_dist, dq) = primals, tangents
    x = quantile_from_tails(dist, q)
    if dist.support.is_discrete:
        return x, jnp.zeros_like(x)

    def tails(dist: Any) -> tuple[Array, Array]:
        return dist.log_cdf(x), dist.log_survival(x)

    (log_cdf, log_survival), (d_cdf, d_survival) = jax.jvp(tails, (dist,), (d_dist,))
    slope = jnp.exp(log_cdf + log_survival - dist.log_prob(x))
    return x, slope * (dq / (q * (1 - q)) - (d_cdf - d_survival))
