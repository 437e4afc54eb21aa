"""Samplers of counts: exact at every size of the parameters, and with every kind of key.

`jax.random.poisson` takes threefry keys only, and it and `jax.random.binomial` accept by a
difference of large numbers in float32, which is wrong by whole nats at a rate of 1e7 or with 1e8
trials. Here the same two algorithms accept by the stable log-densities.

What a program takes to compile grows with its loops, its calls of the generator and its arrays, each of
which the compiler gives a loop of its own: so one call serves all that one round needs, and one array says
both what was drawn and where nothing was yet.

Sources: W. Hormann (1993), "The transformed rejection method for generating Poisson random
  variables" (PTRS) and
"The generation of binomial random variates" (BTRS).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from likelax._pytree import Array
from likelax.distributions.gamma import marsaglia_tsang
from likelax.numerics.counts import whole_poisson_log_pmf
from likelax.numerics.trials import logits_gap

# Below this mean the counts are found by adding up probabilities; Hormann's constants hold above
# it.
_FEW = 10.0
# P(X > 120) < 1e-80 for a mean of 10.
_MOST_STEPS = 120
# What is yet to be drawn.
_NONE = -1.0


def _by_inversion(u: Array, p_zero: Array, ratio: Callable[[Array], Array]) -> Array:
    """The smallest k with P(X <= k) > u, where P(X = k + 1) = P(X = k) ratio(k)."""

    # What is left of u after the probabilities of 0..k-1; -1 - k from the k on that is the answer.
    def keep_on(carry: tuple[Array, Array, Array]) -> Array:
        return jnp.any(carry[1] >= 0)

    def add(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        k, left, p = carry
        more = (left >= p) & (p > 0) & (k < _MOST_STEPS)
        left = jnp.where(left >= 0, jnp.where(more, left - p, -1 - k), left)
        return k + 1, left, p * ratio(k)

    start = (jnp.zeros((), u.dtype), u, jnp.broadcast_to(p_zero, u.shape))
    return -1 - jax.lax.while_loop(keep_on, add, start)[1]


def _transformed(
    uniform: Array,
    v: Array,
    shift: Array,
    a: Array,
    b: Array,
    scale: Array,
    log_ratio: Callable[[Array], Array],
) -> tuple[Array, Array]:
    """Hormann's proposal k = floor((2a/s + b) u + shift), u = uniform - 1/2, s = 1/2 - |u|, and whether it is
    accepted: (1 - v) scale / (a/s^2 + b) below exp(log_ratio(k)).
    """
    u = uniform - 0.5
    # v in (0, 1], and s above 0, so that neither s nor the logarithm is taken at 0.
    s = jnp.maximum(0.5 - jnp.abs(u), jnp.finfo(u.dtype).tiny)
    k = jnp.floor((2 * a / s + b) * u + shift)
    return k, jnp.log((1 - v) * scale / (a / (s * s) + b)) < log_ratio(k)


def _rounds(key: Array, like: Array, trial: Callable[[Array, Array], tuple[Array, Array]]) -> Array:
    """What `trial`, of two arrays of uniform numbers in [0, 1), draws and accepts first, for each of `like`."""

    def keep_on(carry: tuple[Array, Array]) -> Array:
        return jnp.any(carry[1] == _NONE)

    def draw(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        round_, drawn = carry
        new, accept = trial(*_uniforms(key, round_, like))
        return round_ + 1, jnp.where((drawn == _NONE) & accept, new, drawn)

    start = (jnp.int32(0), jnp.full_like(like, _NONE))
    return jax.lax.while_loop(keep_on, draw, start)[1]


def _uniforms(key: Array, round_: Array, like: Array) -> Array:
    return jax.random.uniform(jax.random.fold_in(key, round_), (2, *like.shape), like.dtype)


def _poisson_trial(uniform: Array, v: Array, rate: Array) -> tuple[Array, Array]:
    """A count and whether it is accepted; of a rate that is low or NaN `uniform`, for the inversion."""
    few = ~(rate >= _FEW)
    many = jnp.where(few | jnp.isinf(rate), 2 * _FEW, rate)
    b = 0.931 + 2.53 * jnp.sqrt(many)
    a = -0.059 + 0.02483 * b

    def log_pmf(k: Array) -> Array:
        return whole_poisson_log_pmf(k, many, many - k)

    scale = 1.1239 + 1.1328 / (b - 3.4)
    proposal, accept = _transformed(uniform, v, many + 0.43, a, b, scale, log_pmf)
    return jnp.where(few, uniform, proposal), few | accept


def _poisson_count(drawn: Array, rate: Array) -> Array:
    """The count, from what `_poisson_trial` drew."""
    few = rate < _FEW
    low = jnp.where(few, rate, 1.0)
    counts = _by_inversion(jnp.where(few, drawn, 0.0), jnp.exp(-low), lambda k: low / (k + 1))
    return jnp.where(few, counts, jnp.where(rate < jnp.inf, drawn, rate))


def poisson(key: Array, rate: Array, shape: tuple[int, ...]) -> Array:
    """Poisson counts of this `shape`, in the floating dtype of `rate` >= 0; NaN where that is NaN."""
    rate = jnp.broadcast_to(rate, shape)
    drawn = _rounds(key, rate, lambda uniform, v: _poisson_trial(uniform, v, rate))
    return _poisson_count(drawn, rate)


def gamma_poisson(
    key: Array, concentration: Array, log_scale: Array, shape: tuple[int, ...]
) -> Array:
    """Poisson counts, of this `shape`, of rates from a Gamma(concentration) times exp(log_scale).

    Both are drawn in the rounds of one loop: as soon as an element has its rate, its next round is one for
    its count. NaN where a parameter is NaN.
    """
    r, log_scale = jnp.broadcast_to(concentration, shape), jnp.broadcast_to(log_scale, shape)
    small = r < 1
    raised = jnp.where(small, r + 1, r)
    log_top = jnp.log(raised - 1 / 3) + log_scale

    def rate_trial(uniform: Array, v: Array) -> tuple[Array, Array]:
        step, bound = marsaglia_tsang(2 * uniform - 1, raised)
        log_v = jnp.log(1 - v)
        # Of a proposal that is accepted v / exp(bound) is uniform again, and independent of it: U in
        # Gamma(r) = Gamma(r + 1) U^(1/r).
        boost = jnp.where(small, jnp.minimum(log_v - bound, 0) / r, 0)
        return (1 + step) ** 3 * jnp.exp(boost + log_top), ~(log_v > bound)

    def keep_on(carry: tuple[Array, Array, Array]) -> Array:
        return jnp.any(carry[2] == _NONE)

    def draw(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        round_, rate, drawn = carry
        uniform, v = _uniforms(key, round_, r)
        count, accept = _poisson_trial(uniform, v, rate)
        drawn = jnp.where((rate != _NONE) & (drawn == _NONE) & accept, count, drawn)
        new, accept = rate_trial(uniform, v)
        return round_ + 1, jnp.where((rate == _NONE) & accept, new, rate), drawn

    none = jnp.full_like(r, _NONE)
    # Of r = 0, which a subnormal number is, too, the rate is 0.
    first = jnp.where(r > 0, none, jnp.where(r == 0, 0.0, jnp.nan))
    start = (jnp.int32(0), jnp.where(jnp.isnan(log_scale), jnp.nan, first), none)
    _, rate, drawn = jax.lax.while_loop(keep_on, draw, start)
    return _poisson_count(drawn, rate)


def binomial(key: Array, n: Array, log_p: Array, log_q: Array, shape: tuple[int, ...]) -> Array:
    """Binomial counts of this `shape` in a floating dtype; log_p and log_q are log p and log(1 -
    p).
    """
    # The rarer outcome is what is counted.
    flipped = log_p > log_q
    log_rare, log_often = jnp.where(flipped, log_q, log_p), jnp.where(flipped, log_p, log_q)
    rare = jnp.exp(log_rare)
    mean = jnp.broadcast_to(n * rare, shape)
    few = ~((mean >= _FEW) & (mean < jnp.inf))  # or NaN
    m, p = jnp.where(few, 4 * _FEW, n), jnp.where(few, 0.5, rare)
    logits = jnp.where(few, 0.0, log_rare - log_often)
    spread = jnp.sqrt(m * p * (1 - p))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * p
    # Hormann's hat is as high as the mode's probability or anything above it: for m p >= 10 that is at
    # most 1.00398 / sqrt(2 pi m p (1 - p)), by search, largest for the Poisson of 10.5.
    log_top = 0.005 - 0.5 * jnp.log(2 * math.pi * spread * spread)
    log_sum = whole_poisson_log_pmf(m, m, jnp.zeros_like(m)) + log_top
    scale = (2.83 + 5.1 / b) * spread

    def log_ratio(k: Array) -> Array:
        # Of two Poissons, of m p and m (1 - p), given their sum.
        gap = logits_gap(k, m, logits)
        log_rare = whole_poisson_log_pmf(k, m * p, gap)
        return log_rare + whole_poisson_log_pmf(m - k, m * (1 - p), -gap) - log_sum

    def trial(uniform: Array, v: Array) -> tuple[Array, Array]:
        proposal, accept = _transformed(uniform, v, m * p + 0.5, a, b, scale, log_ratio)
        return jnp.where(few, uniform, proposal), few | accept

    drawn = _rounds(key, mean, trial)
    low = mean < _FEW
    odds, n_few = rare * jnp.exp(-log_often), jnp.where(low, n, 1.0)
    counts = _by_inversion(
        jnp.where(low, drawn, 0.0),
        jnp.exp(n_few * log_often),
        lambda k: (n_few - k) / (k + 1) * odds,
    )
    counts = jnp.where(low, counts, jnp.where(mean < jnp.inf, drawn, mean))
    return jnp.where(flipped, n - counts, counts)
