"""Tails of the beta-binomial: sums of its probabilities, outwards from the count that is asked for, of which long
blocks are taken by 64 terms.

No difference with 1 and no 3F2 of alternating or growing terms: every term is positive and has the
digits of `dirichlet_multinomial_log_pmf`. The larger of the two tails comes from the smaller one.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics.dirichlet_multinomial import dirichlet_multinomial_log_pmf
from likelax.numerics.logspace import as_floats, log_add_exp, log_complements, logsumexp

_State = tuple[Array, Array, Array, Array, Array, Array]

_AT_ONCE = 64
_LEVELS = 22  # blocks of up to 64 2^21 counts
_SEARCHES = 3  # to a 250,000th of the way to the peak


@functools.cache
def _rules() -> tuple[np.ndarray, np.ndarray]:
    """Of blocks of 64 2^i counts, i = 0, 1, ..., 64 of them and the logarithms of their weights, both
    `(levels, 64)`.

    A sum over all of a block is that of the interpolating polynomial: next to the zeros of the block's
    discrete Chebyshev polynomial, rounded to counts, all weights are positive. In the first level every
    count is there. Source: Szego (1975), "Orthogonal polynomials", 2.8 and 3.41.
    """
    places, weights = [np.arange(_AT_ONCE, dtype=float)], [np.ones(_AT_ONCE)]
    k = np.arange(1, _AT_ONCE)
    for level in range(1, _LEVELS):
        length = float(_AT_ONCE * 2**level)
        off = np.sqrt(k**2 * (length**2 - k**2) / (4 * (4.0 * k**2 - 1)))
        middle = (length - 1) / 2
        # Between two counts there is at most one zero: those below the middle are rounded down.
        zeros = np.linalg.eigvalsh(np.diag(off, 1) + np.diag(off, -1))[: _AT_ONCE // 2]
        below = np.floor(middle + zeros)
        place = np.concatenate([below, length - 1 - below[::-1]])
        polynomials = [np.full(_AT_ONCE, length**-0.5)]
        polynomials.append((place - middle) * polynomials[0] / off[0])
        for i in range(1, _AT_ONCE - 1):
            rise = (place - middle) * polynomials[i] - off[i - 1] * polynomials[i - 1]
            polynomials.append(rise / off[i])
        moments = np.zeros(_AT_ONCE)
        moments[0] = length**0.5
        places.append(place)
        weights.append(np.linalg.solve(np.stack(polynomials), moments))
    return np.stack(places), np.log(np.stack(weights))


def _level(start: Array, n: Array, a: Array, b: Array) -> Array:
    """Which block from `start` on a polynomial of degree 63 follows to the last digit.

    Probabilities go about as k^(a - 1) (n - k)^(b - 1), with poles below 0 and above n: those are as far
    away as the block is long, and along it they grow or fall by less than exp(40).
    """
    left = n - start
    bend = jnp.abs(a - 1) / (start + a) + 2 * jnp.abs(b - 1) / (left + b)
    length = jnp.minimum(jnp.minimum(start + a, 0.5 * (left + b)), jnp.minimum(20 / bend, left))
    level = jnp.floor(jnp.log2(jnp.maximum(length, _AT_ONCE) / _AT_ONCE))
    return jnp.clip(level, 0, _LEVELS - 1).astype(jnp.int32)


def _peak(first: Array, n: Array, a: Array, b: Array) -> Array:
    """Up to where the probabilities rise from `first` on: itself, of such as fall first."""
    peaked = (a > 1) & (b > 1)
    share = (a - 1) / jnp.where(peaked, a + b - 2, 1.0)
    peak = jnp.where(peaked, jnp.minimum(jnp.floor((n + 1) * share), n), n)
    return jnp.where((a > 1) & (peak > first), peak, first)


def _log_sum(first: Array, n: Array, a: Array, b: Array) -> Array:
    """log of p(first) + p(first + 1) + ... + p(n), for 0 <= first <= n.

    What rises to a peak and rounds to nothing beside it is passed over: it is looked for among 64 counts, then
    among 64 between two of those, and once more. With b >= 1 the terms end by falling, and a rest that rounds to
    nothing is left out.
    """
    places, log_weights = (jnp.asarray(rule, n.dtype) for rule in _rules())
    share = jnp.arange(_AT_ONCE, dtype=n.dtype) / (_AT_ONCE - 1)
    least = math.log(float(jnp.finfo(n.dtype).eps) / 8.0)
    n_, a_, b_ = (x[..., None] for x in (n, a, b))

    def add(state: _State) -> _State:
        step, start, until, top, total, going = state
        searching = step < _SEARCHES
        level = _level(*map(jax.lax.stop_gradient, (start, n, a, b)))
        between = jnp.floor(start[..., None] + (until - start)[..., None] * share)
        k = jnp.where(searching, between, start[..., None] + places[level])
        inside = k <= n_
        k = jnp.where(inside, k, n_)
        counts = jnp.stack([k, n_ - k], -1)
        shapes = jnp.stack([a_ + jnp.zeros_like(k), b_ + jnp.zeros_like(k)], -1)
        found = jnp.where(inside, dirichlet_multinomial_log_pmf(counts, shapes), -jnp.inf)

        top = jnp.where(step == 0, jax.lax.stop_gradient(found[..., -1]), top)
        little = jnp.sum(found + jnp.log(n_ + 1) < top[..., None] + least, -1)
        last, next_ = jnp.maximum(little - 1, 0), jnp.minimum(little, _AT_ONCE - 1)
        last, next_ = (
            jnp.take_along_axis(between, i[..., None], -1)[..., 0] for i in (last, next_)
        )

        part = logsumexp(found + log_weights[level], -1)
        total = jnp.where(going & ~searching, log_add_exp(total, part), total)
        start = jnp.where(searching, last, start + _AT_ONCE * 2.0**level)
        rest = n - start + 1
        bound = found[..., -1] + jnp.log(jnp.maximum(rest, 1))
        ahead = (rest > 0) & ((b < 1) | (bound > total + least))
        return step + 1, start, next_, top, total, going & (searching | ahead)

    nothing = jnp.full_like(first, -jnp.inf)
    until = jax.lax.stop_gradient(_peak(first, n, a, b))
    state = jnp.zeros((), jnp.int32), first, until, nothing, nothing, jnp.ones(first.shape, bool)
    return jax.lax.while_loop(lambda state: jnp.any(state[-1]), add, state)[4]


def _both(k: Array, n: Array, a: Array, b: Array) -> tuple[Array, Array]:
    # Failures counted instead of successes have the lower tail as their upper one.
    pairs = (n - k, k + 1), (n, n), (b, a), (a, b)
    return log_complements(*_log_sum(*map(jnp.stack, pairs)))


@jax.custom_jvp
def _log_tails(k: Array, n: Array, a: Array, b: Array) -> tuple[Array, Array]:
    return _both(k, n, a, b)


@_log_tails.defjvp
def _log_tails_jvp(primals, tangents):
    """A loop of unknown length has no reverse mode: the slopes go forward with the sums."""
    k, n, a, b = primals

    def push(*directions: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        return jax.jvp(lambda a, b: _both(k, n, a, b), (a, b), directions)

    one, zero = jnp.ones_like(a), jnp.zeros_like(a)
    directions = jnp.stack([one, zero]), jnp.stack([zero, one])
    out, slopes = jax.vmap(push, out_axes=(None, 0))(*directions)
    return out, tuple(in_a * tangents[2] + in_b * tangents[3] for in_a, in_b in slopes)


def beta_binomial_log_tails(
    k: ArrayLike, n: ArrayLike, a: ArrayLike, b: ArrayLike
) -> tuple[Array, Array]:
    """log P(X <= k) and log P(X > k) of successes in n trials of probability Beta(a, b), 0 <= k < n.

    To the last digits up to n = 2^24 in float32, where all counts are floats; beyond, the counts asked for
    are rounded. The work grows with log n and, slowly, with a and b. Counts have no slope; second derivatives are
    forward over reverse.
    """
    return _log_tails(*jnp.broadcast_arrays(*as_floats(k, n, a, b)))
