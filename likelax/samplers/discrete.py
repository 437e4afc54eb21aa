"""Gibbs with gradients: a kernel over bits and one-hot vectors that tries the flips worth trying."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._keys import stream
from likelax._pytree import Array, static
from likelax.numerics.logspace import log_softmax
from likelax.samplers.base import Kernel, LogDensity, State, accepted, at, check_chains
from likelax.supports import Support


class GibbsWithGradients(Kernel):
    """One flip for each chain, drawn by a first-order estimate of what it gains, and accepted or not
    (Grathwohl et al. 2021, algorithm 1).

    The log-density is asked, and differentiated, at floating values: x is an array of floats 0 and 1.
    A move is drawn with probability proportional to exp(d / 2), where d is the gradient times the
    change of x: for a bit (1 - 2 x_i) g_i (equation 3), for a category the entry of g at the new one less
    that at the present one (equation 5). Moves that change nothing are not drawn.

    Args:
      one_hot: False for bits, x `(chains, *event)`; True for one-hot vectors on the last axis, x
        `(chains, *sites, categories)`.
    """

    one_hot: bool = static(default=False)

    def init(self, log_density: LogDensity, x: Array) -> State:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(
                f"GibbsWithGradients: x is an array of floats 0 and 1, got {x.dtype}; write "
                "x.astype(float)"
            )
        check_chains(log_density, x)
        return at(log_density, x)

    def step(self, log_density: LogDensity, key: Array, state: State) -> tuple[State, Array]:
        forward = self.proposal(state)
        move = jax.random.categorical(stream(key, "move"), forward)
        new = at(log_density, self.moved(state.x, move))
        back = self.proposal(new)
        undo = self._undo(state.x, move)
        reverse = _at(back, undo) - _at(forward, move)
        gain = new.log_density - state.log_density + reverse
        return accepted(stream(key, "accept"), gain, new, state)

    def stays_in(self, support: Support) -> bool:
        bits = getattr(support, "base", support) is supports.boolean
        return support.is_discrete if self.one_hot else bits

    def proposal(self, state: State) -> Array:
        """Log-probabilities of the moves, `(chains, moves)`: one for each entry of x, in order."""
        x, gradient = state.x, state.gradient
        if not self.one_hot:
            return log_softmax(((1 - 2 * x) * gradient / 2).reshape((x.shape[0], -1)))
        now = jnp.sum(x * gradient, axis=-1, keepdims=True)
        change = jnp.where(x > 0, -jnp.inf, (gradient - now) / 2)
        return log_softmax(change.reshape((x.shape[0], -1)))

    def moved(self, x: Array, move: Array) -> Array:
        """x after these moves, `(chains,)` indices into the entries of x."""
        entry = jnp.arange(x[0].size) == move[:, None]
        entry = entry.reshape(x.shape)
        if not self.one_hot:
            return jnp.where(entry, 1 - x, x)
        return jnp.where(jnp.any(entry, axis=-1, keepdims=True), entry.astype(x.dtype), x)

    def _undo(self, x: Array, move: Array) -> Array:
        """The move that leads back to x."""
        if not self.one_hot:
            return move
        categories = x.shape[-1]
        site = move // categories
        before = jnp.argmax(x.reshape((x.shape[0], -1, categories)), axis=-1)
        return site * categories + jnp.take_along_axis(before, site[:, None], axis=1)[:, 0]


def _at(log_prob: Array, move: Array) -> Array:
    return jnp.take_along_axis(log_prob, move[:, None], axis=1)[:, 0]
