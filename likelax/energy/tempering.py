"""Parallel tempering: chains at a ladder of temperatures that change places."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from likelax._keys import stream
from likelax._pytree import Array
from likelax.energy.annealing import Path

# Each halves the interval: what is left is below float64's last digit of it.
_HALVINGS = 60


class Rounds(NamedTuple):
    """What each round leaves behind, before its swaps.

    Attributes:
      x: the chains at temperature 1, `(rounds, chains, *event)`, or None.
      up: log f_(k+1) - log f_k where the chains of temperature k are, `(rounds, K, chains)`.
      down: the same where those of temperature k + 1 are.
    """

    x: Array | None
    up: Array
    down: Array


@functools.partial(jax.jit, static_argnums=(3, 4, 5, 6))
def climb(
    path: Path, key: Array, betas: Array, chains: int, rounds: int, burn_in: int, keep: bool
) -> Rounds:
    """Rounds of a move at every temperature and a swap of neighbours, after `burn_in` of them.

    The lowest temperature has fresh samples of the base in each round. Pairs (0, 1), (2, 3), ... take
    turns with (1, 2), (3, 4), ...: chains travel further so than by pairs at random (Okabe et al. 2001).
    """

    def one(x: Array, t: Array) -> tuple[Array, Rounds]:
        own = jax.random.fold_in(key, t)
        keys = jax.random.split(stream(own, "move"), len(betas) - 1)
        moved = jax.vmap(path.move)(keys, betas[1:], x[1:])
        x = jnp.concatenate([path.sample(stream(own, "base"), chains)[None], moved])
        up, down = _changes(path, betas, x)
        uniform = jax.random.uniform(stream(own, "swap"), up.shape, up.dtype)
        turn = (jnp.arange(len(up)) % 2 == t % 2)[:, None]
        swap = turn & (jnp.log(uniform) < log_swap_ratio(up, down))
        return _swapped(x, swap), Rounds(x[-1] if keep else None, up, down)

    start = path.sample(stream(key, "start"), len(betas) * chains)
    x = start.reshape((len(betas), chains, *start.shape[1:]))
    whole = jax.lax.scan(one, x, jnp.arange(burn_in + rounds))[1]
    return jax.tree.map(lambda leaf: leaf[burn_in:], whole)


def log_swap_ratio(up: Array, down: Array) -> Array:
    """log of f_k(y) f_(k+1)(x) / (f_k(x) f_(k+1)(y)), for x at temperature k and y at k + 1."""
    return up - down


def _changes(path: Path, betas: Array, x: Array) -> tuple[Array, Array]:
    """How the log-density of each chain changes to the next temperature, and from the one before."""
    at = jax.vmap(path.log_density)
    here = at(betas, x)
    above, below = at(jnp.append(betas[1:], 1), x), at(jnp.append(0, betas[:-1]), x)
    return (above - here)[:-1], (here - below)[1:]


def _swapped(x: Array, swap: Array) -> Array:
    """x with the pairs (k, k + 1) changed where `swap`, `(K, chains)`, says so."""
    none = jnp.zeros_like(swap[:1])
    lower, upper = (jnp.concatenate(parts) for parts in ((swap, none), (none, swap)))
    event = (1,) * (x.ndim - lower.ndim)
    lower, upper = lower.reshape(lower.shape + event), upper.reshape(upper.shape + event)
    return jnp.where(lower, jnp.roll(x, -1, 0), jnp.where(upper, jnp.roll(x, 1, 0), x))


def bennett(up: Array, down: Array) -> tuple[Array, Array]:
    """log Z_K - log Z_0 by Bennett's acceptance ratio of every pair (Bennett 1976, equation 12), and by
    how much each chain of each round moves it, to first order, `(rounds, chains)`.
    """
    sigmoid = jax.nn.sigmoid

    def excess(c: Array) -> Array:
        return sigmoid(up - c) - sigmoid(c - down)

    def halve(ends: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        middle = (ends[0] + ends[1]) / 2
        above = jnp.mean(excess(middle), (0, 2), keepdims=True) > 0
        return (jnp.where(above, middle, ends[0]), jnp.where(above, ends[1], middle)), None

    both = jnp.concatenate([up, down], -1)
    ends = jnp.min(both, (0, 2), keepdims=True), jnp.max(both, (0, 2), keepdims=True)
    c = jax.lax.scan(halve, ends, None, length=_HALVINGS)[0][0]
    slope = sigmoid(up - c) * sigmoid(c - up) + sigmoid(c - down) * sigmoid(down - c)
    moves = excess(c) / jnp.mean(slope, (0, 2), keepdims=True)
    return jnp.sum(c), jnp.sum(moves, 1)


def estimated(path: Path, up: Array, down: Array) -> tuple[Array, Array, Array, Array]:
    """log Z, its standard error, how many independent rounds and chains have that error, and each
    chain's own estimate. Chains are independent of one another, so that their spread knows of the
    autocorrelation within each.
    """
    change, moves = bennett(up, down)
    log_z = path.log_z() + change
    own = jnp.mean(moves, 0)
    chains = len(own)
    error = jnp.std(own, ddof=1) / chains**0.5 if chains > 1 else log_z * jnp.nan
    return log_z, error, jnp.var(moves) / error**2, log_z + own
