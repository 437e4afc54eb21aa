"""Tails of the beta-binomial: sums of its probabilities, outwards from the count that is asked for, of which long
blocks are taken by 64 terms.

No difference with 1 and no 3F2 of alternating or growing terms: every term is positive and has the
digits of `dirichlet_multinomial_log_pmf`. The larger of the two tails comes from the smaller one.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._rules import terms, with_partials
from likelax.numerics.dirichlet_multinomial import dirichlet_multinomial_log_pmf, log_excess
from likelax.numerics.logspace import (
    as_floats,
    divide,
    log_add_exp,
    log_complements,
    logsumexp,
    passing_nan,
)
from likelax.numerics.pairs import Pair, pair_minus, pair_sum, two_sum, word

_State = tuple[Array, Pair, Array, Array, Array, Array]
_Term = Callable[[Array], Array]

_AT_ONCE = 64
_LEVELS = 46  # blocks of up to 64 2^45 counts
_SEARCHES = 3  # to a 250,000th of the way to the peak
_LOG_2PI_E = math.log(2.0 * math.pi * math.e)


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


def _level(start: Array, left: Array, a: Array, b: Array) -> Array:
    """Which block from `start` on, `left` below n, a polynomial of degree 63 follows to the last digit.

    Poles lie below 0 and above n: those are as far away as the block is long. At its start probabilities rise or
    fall by no more than exp(20) along it, and their logarithms bend by no more than a normal density's do within 6
    deviations.
    """
    n, left = start + left, jnp.maximum(left, 1)
    slope = jnp.log(left / (start + 1)) + jnp.log((start + a) / (left + b))
    # In the half of what is left it may become four times as large.
    bend = jnp.abs(a - 1) / (start + 1) / (start + a) + 4 * jnp.abs(b - 1) / left / (left + b)
    room = jnp.minimum(start + a, 0.5 * left)
    length = jnp.minimum(room, jnp.minimum(20 / jnp.abs(slope), jnp.sqrt(36 / bend)))
    # No shorter than what two floats can add to n.
    length = jnp.maximum(length, n * float(jnp.finfo(n.dtype).eps) ** 2)
    level = jnp.floor(jnp.log2(jnp.maximum(length, _AT_ONCE) / _AT_ONCE))
    return jnp.clip(level, 0, _LEVELS - 1).astype(jnp.int32)


def _peak(first: Array, n: Array, a: Array, b: Array) -> Array:
    """Up to where the probabilities rise from `first` on: itself, of such as fall first."""
    peaked = (a > 1) & (b > 1)
    share = (a - 1) / jnp.where(peaked, a + b - 2, 1.0)
    peak = jnp.where(peaked, jnp.minimum(jnp.floor((n + 1) * share), n), n)
    return jnp.where((a > 1) & (peak > first), peak, first)


@with_partials(
    None,
    None,
    lambda k, left, a, b: ((left + b) / (k + a)) * (1.0 / (k + left + (a + b))),
    lambda k, left, a, b: -1.0 / (k + left + (a + b)),
)
def _count_slope(k, left, a, b):
    """d log p / dk at a fixed `left`, to one rounding from 2^24 on: log of (1 + a / k) / (1 + (a + b) / n)."""
    return log_excess(a, k, b, left)


def _log_probs(k: Pair, left: Pair, a: Array, b: Array) -> Array:
    """log p of k successes and `left` failures.

    Counts that are no floats are rounded, and the slopes in both make up for it: they change by 1/k from one count to
    the next, at most, so that (2^-24 k)^2 / k is left.
    """
    counts, shapes = jnp.stack([k[0], left[0]], -1), jnp.stack([a, b], -1)
    log_p = dirichlet_multinomial_log_pmf(counts, shapes)
    x, y = (jnp.where(count > 1, count, 1.0) for count in (k[0], left[0]))
    return log_p + k[1] * _count_slope(x, y, a, b) + left[1] * _count_slope(y, x, b, a)


def _either(which: Array, one: Pair, other: Pair) -> Pair:
    return jnp.where(which, one[0], other[0]), jnp.where(which, one[1], other[1])


def _among(start: Pair, until: Array) -> Pair:
    """64 counts from `start` to `until`, `(..., 64)`. All but `start` are floats, which are whole beyond 2^24."""
    share = jnp.arange(_AT_ONCE, dtype=until.dtype) / (_AT_ONCE - 1)
    first, low, last = start[0][..., None], start[1][..., None], until[..., None]
    between = jnp.clip(jnp.floor(first + (last - first) * share), first, last)
    return between, jnp.where(between == first, low, 0.0)


def _log_sum(
    first: Pair, n: Array, a: Array, b: Array, term: _Term = lambda log_p: log_p, spare: float = 0.0
) -> Array:
    """log of p(first) + p(first + 1) + ... + p(n), for 0 <= first <= n, or of functions of them like p itself.

    What rises to a peak and rounds to nothing beside it is passed over: it is looked for among 64 counts, then
    among 64 between two of those, and once more. With b >= 1 the terms end by falling, and a rest that rounds to
    nothing is left out.
    """
    rule, weights = _rules()
    places = jnp.asarray(rule, n.dtype)
    rests = jnp.asarray(rule - rule.astype(n.dtype), n.dtype)
    log_weights = jnp.asarray(weights, n.dtype)
    least = math.log(float(jnp.finfo(n.dtype).eps) / 8.0) - spare
    one = jnp.ones_like(n)
    n_, a_, b_ = (jnp.broadcast_to(x[..., None], (*x.shape, _AT_ONCE)) for x in (n, a, b))

    def add(state: _State) -> _State:
        step, start, until, top, total, going = state
        searching = step < _SEARCHES
        ahead = pair_sum(word(n), pair_minus(start))[0]
        level = _level(*map(jax.lax.stop_gradient, (start[0], ahead, a, b)))
        between = _among(start, until)
        from_ = start[0][..., None] + jnp.zeros_like(n_), start[1][..., None]
        k = _either(searching, between, pair_sum(from_, (places[level], rests[level])))
        left = pair_sum(word(n_), pair_minus(k))
        inside = left[0] >= 0
        k, left = _either(inside, k, word(n_)), _either(inside, left, word(jnp.zeros_like(n_)))
        found = jnp.where(inside, _log_probs(k, left, a_, b_), -jnp.inf)

        top = jnp.where(step == 0, jax.lax.stop_gradient(found[..., -1]), top)
        little = jnp.sum(found + jnp.log(n_ + 1) < top[..., None] + least, -1)
        last, next_ = jnp.maximum(little - 1, 0), jnp.minimum(little, _AT_ONCE - 1)

        def at(x: Array, i: Array) -> Array:
            return jnp.take_along_axis(x, i[..., None], -1)[..., 0]

        weighed = jnp.where(inside, term(jnp.where(inside, found, 0.0)), -jnp.inf)
        part = logsumexp(weighed + log_weights[level], -1)
        total = jnp.where(going & ~searching, log_add_exp(total, part), total)
        after = pair_sum(start, word(_AT_ONCE * 2.0**level))
        start = _either(searching, (at(between[0], last), at(between[1], last)), after)
        rest = pair_sum(word(n), pair_minus(start), word(one))[0]
        bound = weighed[..., -1] + jnp.log(jnp.maximum(rest, 1))
        more = (rest > 0) & ((b < 1) | (bound > total + least))
        return step + 1, start, at(between[0], next_), top, total, going & (searching | more)

    nothing = jnp.full_like(n, -jnp.inf)
    until = jax.lax.stop_gradient(_peak(first[0], n, a, b))
    state = jnp.zeros((), jnp.int32), first, until, nothing, nothing, jnp.ones(n.shape, bool)
    return jax.lax.while_loop(lambda state: jnp.any(state[-1]), add, state)[4]


def _both(k: Array, n: Array, a: Array, b: Array) -> tuple[Array, Array]:
    # Failures counted instead of successes have the lower tail as their upper one.
    firsts = two_sum(n, -k), two_sum(k, jnp.ones_like(k))
    first = jnp.stack([f[0] for f in firsts]), jnp.stack([f[1] for f in firsts])
    both_n, shapes, others = (jnp.stack(pair) for pair in ((n, n), (b, a), (a, b)))
    return log_complements(*_log_sum(first, both_n, shapes, others))


def _forward(f):
    """f of (k, n, a, b) with derivatives of every order in a and b: they go forward with its loop, whose length is
    unknown, so that it has no reverse mode."""

    def with_slopes(k, n, a, b):
        def push(*directions):
            return jax.jvp(lambda a, b: f(k, n, a, b), (a, b), directions)

        one, zero = jnp.ones_like(a), jnp.zeros_like(a)
        directions = jnp.stack([one, zero]), jnp.stack([zero, one])
        return jax.vmap(push, out_axes=(None, 0))(*directions)

    @jax.custom_jvp
    def value(k, n, a, b):
        return f(k, n, a, b)

    @value.defjvp
    def _value_jvp(primals, tangents):
        out, slopes = _forward(with_slopes)(*primals)
        _, _, by_a, by_b = tangents
        return out, jax.tree.map(lambda slope: slope[0] * by_a + slope[1] * by_b, slopes)

    return value


_log_tails = _forward(_both)


def beta_binomial_log_tails(
    k: ArrayLike, n: ArrayLike, a: ArrayLike, b: ArrayLike
) -> tuple[Array, Array]:
    """log P(X <= k) and log P(X > k) of successes in n trials of probability Beta(a, b), 0 <= k < n.

    To the last digits also where n - k and the counts between are no floats, beyond 2^24 in float32. The work grows
    with log n, hardly with a and b. Counts have no slope.
    """
    k, n, a, b = jnp.broadcast_arrays(*as_floats(k, n, a, b))
    below, above = _log_tails(k, n, a, b)
    counts = k + n  # a search among them ends anywhere where one is NaN
    return passing_nan(below, counts), passing_nan(above, counts)


# ---- entropy ----

_SPARE = 4.0  # nats further down terms of p log p are left out


def _summed_entropy(first, n, a, b):
    """log of the sum of p^r, less its slope in r, at r = 1: a factor that all p have in common cancels."""
    peak = _peak(first, n, a, b)
    tops = [_log_probs(word(k), two_sum(n, -k), a, b) for k in (peak, n)]
    top = jax.lax.stop_gradient(jnp.maximum(*tops))[..., None]

    def log_sum(r):
        return _log_sum(word(first), n, a, b, lambda log_p: r[..., None] * (log_p - top), _SPARE)

    one = jnp.ones_like(n)
    value, slope = jax.jvp(log_sum, (one,), (one,))
    return value - slope


_entropy = _forward(_summed_entropy)


def _normal_entropy(n, a, b):
    """A normal density's of this variance less its negentropy, by the third and fourth cumulant."""
    total = a + b
    p, q, some, few, many = (
        divide(*pair)
        for pair in (
            (a, total),
            (b, total),
            (total, total + 3.0),
            (total, total + n),
            (n, total + 3.0),
        )
    )
    spread = n * p * q
    variance = spread * divide(total + n, total + 1.0)
    lean = (q - p) * divide(total + 2.0 * n, total + 2.0)
    skew = jnp.square(lean) * divide(total + 1.0, total + n) / spread  # squared
    rest = few * (divide(total - 1.0, total + 3.0) - 6.0 * p * q * some)
    rest = rest + (6.0 - 18.0 * p * q) * many
    less = 6.0 * divide(divide(2.0 * total + 3.0, total + 2.0), total + 3.0)
    excess = divide(total + 1.0, total + 2.0) * rest / spread - less
    negentropy = skew / 12.0 + (jnp.square(excess) + skew * (7.0 * skew - 6.0 * excess)) / 48.0
    return 0.5 * (_LOG_2PI_E + jnp.log(variance)) - negentropy


@jax.jit
def _entropy_of(n, a, b):
    n = jax.lax.stop_gradient(n)
    least = terms(n, 500, 10**5)
    lower = jnp.minimum(a, b)
    large = (lower > least) & (n * (lower / (a + b)) > least)
    one = jnp.ones_like(n)
    summed = _entropy(0.0 * one, *(jnp.where(large, one, x) for x in (n, a, b)))
    normal = _normal_entropy(*(jnp.where(large, x, one) for x in (n, a, b)))
    return jnp.where(jnp.isnan(n), n, jnp.where(large, normal, summed))


def beta_binomial_entropy(n: ArrayLike, a: ArrayLike, b: ArrayLike) -> Array:
    """The entropy, in nats, of successes in n trials of probability Beta(a, b).

    A sum over blocks as in the tails; where shapes and means of both outcomes are large the slopes of its terms would
    cancel, and there it is that of a normal density and the first two corrections to it. In float64 slopes at shapes
    of 1e3 to 1e5 have up to 260 roundings. Counts have no slope.
    Source: Comon (1994), "Independent component analysis, a new concept?", for those.
    """
    return _entropy_of(*jnp.broadcast_arrays(*as_floats(n, a, b)))
