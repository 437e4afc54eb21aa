"""Sums over every state of some units, in blocks."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._keys import check_key, stream
from likelax._pytree import Array
from likelax.energy.density import Unnormalized, bits
from likelax.numerics.logspace import log_add_exp, logsumexp

MOST_UNITS = 25
# 2^12 states are looked at in one go.
_BLOCK = 12


def log_sum(count: int, log_term: Callable[[Array], Array], dtype: Any = None) -> Array:
    """log of the sum of exp(log_term(states)) over all 2^count states, with its gradient.

    Args:
      count: how many units.
      log_term: `(states, count)` of 0 and 1 `-> (states,)`.
      dtype: of the states.
    """
    dtype = dtype or jnp.result_type(float)
    size = 1 << min(count, _BLOCK)

    @jax.checkpoint
    def block(first: Array) -> Array:
        return logsumexp(log_term(bits(first + jnp.arange(size), count, dtype)), axis=0)

    if count <= _BLOCK:
        return block(jnp.zeros((), jnp.int32))

    def add(total: Array, k: Array) -> tuple[Array, None]:
        return log_add_exp(total, block(k * size)), None

    blocks = jnp.arange(1, 1 << (count - _BLOCK))
    return jax.lax.scan(add, block(jnp.zeros((), jnp.int32)), blocks)[0]


def enumeration_of(density: Unnormalized) -> tuple[int, Callable[[Array], Array]]:
    """How many units of a density are enumerated, and the log term of each state.

    Raises:
      ValueError: for a density that cannot be enumerated, or has too many units.
    """
    name = type(density).__name__
    if hasattr(density, "_enumeration"):
        count, term = density._enumeration()
    elif getattr(density.support, "base", None) is supports.boolean:
        count, term = math.prod(density.event_shape), _of_bits(density)
    else:
        raise ValueError(
            f"{name} has values that are {density.support}: too many to enumerate; write "
            'log_partition(density, key, method="ais", base=lx.Normal(...), kernel=...)'
        )
    if count > MOST_UNITS:
        size = sum(x.size for x in jax.tree.leaves(density))
        raise ValueError(
            f"{name}: the exact log Z is a sum over 2^{count} = {2.0**count:.2g} states of {count} units, "
            f"about {2.0**count * size:.1g} operations, and more than 2^{MOST_UNITS} are refused; write "
            "lx.energy.bracket(density, key), or log_partition(density, key, method='ais')"
        )
    return count, term


def _of_bits(density: Unnormalized) -> Callable[[Array], Array]:
    def term(units: Array) -> Array:
        return density.unnormalized_log_prob(units.reshape((-1, *density.event_shape)))

    return term


def exact_samples(density: Unnormalized, key: Array, count: int) -> Array:
    """Independent samples of an enumerable density, `(count, *event)`: every state's probability is
    computed, so that reverse AIS may start here.

    Raises:
      ValueError: as `log_partition(method="exact")`, and for more than 20 units: all 2^20 numbers are
        held.
    """
    units, _ = enumeration_of(density)
    if units > 20:
        raise ValueError(
            f"exact_samples: the probabilities of 2^{units} states would be held, of at most 2^20; run "
            "long chains instead: density.gibbs(key, x)"
        )
    return _drawn(density, check_key(key), count)


@functools.partial(jax.jit, static_argnums=2)
def _drawn(density: Unnormalized, key: Array, count: int) -> Array:
    units, term = enumeration_of(density)
    dtype = density.dtype
    size = 1 << min(units, _BLOCK)

    def block(first: Array) -> Array:
        return term(bits(first + jnp.arange(size), units, dtype))

    # First the block, then the state in it: a random number for each state would be many.
    logits = jax.lax.map(block, jnp.arange(0, 1 << units, size))
    first = jax.random.categorical(stream(key, "block"), logsumexp(logits, axis=-1), shape=(count,))
    within = jax.random.categorical(stream(key, "state"), logits[first])
    drawn = bits(first * size + within, units, dtype)
    if hasattr(density, "_complete"):
        return density._complete(stream(key, "rest"), drawn)
    return drawn.reshape((count, *density.event_shape))
