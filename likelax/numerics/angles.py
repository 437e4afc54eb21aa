"""Differences of two angles by whole turns: what a concentration of 1e20 sees of x - loc - 2 pi n.

The difference is a pair of floats, 2 pi too, so that angles on two sides of pi, or a turn apart, are as
near to one another as they are. Element by element, float32 or wider; NaN in gives NaN out.
"""

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._rules import with_partials
from likelax.numerics.logspace import as_floats
from likelax.numerics.pairs import (
    Pair,
    pair_minus,
    pair_sum,
    pair_times,
    rounded,
    two_sum,
)

# 2 pi in two words of 24 or 53 binary digits.
_TURN_SINGLE = 6.2831854820251465, -1.7484556000744883e-07
_TURN_DOUBLE = 2.0 * math.pi, 2.4492935982947064e-16


def _between(x: Array, y: Array) -> Pair:
    """x - y less whole turns, in [-pi, pi]."""
    gap = two_sum(x, -y)
    turns = jnp.round(gap[0] / (2.0 * math.pi))
    high, low = _TURN_SINGLE if x.dtype == jnp.float32 else _TURN_DOUBLE
    turn = jnp.full_like(x, high), jnp.full_like(x, low)
    return pair_sum(gap, pair_minus(pair_times(turns, turn)))


def left_of_half_turn(x: Array) -> Array:
    """pi - x, to an ulp of itself."""
    high, low = _TURN_SINGLE if x.dtype == jnp.float32 else _TURN_DOUBLE
    gap, lost = two_sum(jnp.full_like(x, high / 2), -x)
    return gap + (lost + low / 2)


@with_partials(lambda x, y: _cosine(x, y), lambda x, y: -_cosine(x, y))
def _sine(x, y):
    high, low = _between(x, y)
    return jnp.sin(high) + jnp.cos(high) * low  # near pi the low word is most of it


@with_partials(lambda x, y: -_sine(x, y), lambda x, y: _sine(x, y))
def _cosine(x, y):
    return jnp.cos(rounded(_between(x, y)))


@with_partials(_sine, lambda x, y: -_sine(x, y))
def _versine(x, y):
    return 2.0 * jnp.square(jnp.sin(0.5 * rounded(_between(x, y))))


def versine_between(x: ArrayLike, y: ArrayLike) -> Array:
    """1 - cos(x - y), to a few ulp of itself. Slopes sin(x - y) and its negative."""
    return _versine(*jnp.broadcast_arrays(*as_floats(x, y)))
