"""Samplers of counts: exact at every size of the parameters, and with every kind of key.

`jax.random.poisson` takes threefry keys only, and it and `jax.random.binomial` accept by a
difference of large numbers in float32, which is wrong by whole nats at a rate of 1e7 or with 1e8
trials. Here the same two algorithms accept by the stable log-densities.

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
from likelax.numerics.counts import poisson_log_pmf
from likelax.numerics.trials import binomial_logits_log_pmf

# Below this mean the counts are found by adding up probabilities; Hormann's constants hold above
# it.
_FEW = 10.0
# P(X > 120) < 1e-80 for a mean of 10.
_MOST_STEPS = 120


def _by_inversion(u: Array, p_zero: Array, ratio: Callable[[Array], Array]) -> Array:
    """The smallest k with P(X <= k) > u, where P(X = k + 1) = P(X = k) ratio(k)."""

    def keep_on(carry: tuple[Array, Array, Array, Array]) -> Array:
        step, _, left, p = carry
        return (step < _MOST_STEPS) & jnp.any((left >= p) & (p > 0))

    def add(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        step, k, left, p = carry
        more = (left >= p) & (p > 0)
        left, p = jnp.where(more, left - p, left), jnp.where(more, p * ratio(k), p)
        return step + 1, jnp.where(more, k + 1, k), left, p

    start = (jnp.int32(0), jnp.zeros_like(u), u, jnp.broadcast_to(p_zero, u.shape))
    return jax.lax.while_loop(keep_on, add, start)[1]


def _by_rejection(
    key: Array,
    shape: tuple[int, ...],
    few: Array,
    shift: Array,
    a: Array,
    b: Array,
    scale: Array,
    log_ratio: Callable[[Array], Array],
) -> Array:
    """Transformed rejection: k = floor((2a/s + b) u + shift), s = 1/2 - |u|, from the hat that fits
    it. Where `few`, a uniform number in [0, 1) instead, for the inversion: one call of the generator
    serves both, since each is compiled anew, which takes as long as all the rest.

    Where `shift` is NaN so is the result.
    """
    few, shift = jnp.broadcast_to(few, shape), jnp.broadcast_to(shift, shape)

    def keep_on(carry: tuple[Array, Array, Array]) -> Array:
        return ~jnp.all(carry[2])

    def draw(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        round_, k, done = carry
        uniform, v = jax.random.uniform(jax.random.fold_in(key, round_), (2, *shape), shift.dtype)
        u = uniform - 0.5
        # v in (0, 1], and s above 0, so that neither s nor the logarithm is taken at 0.
        s = jnp.maximum(0.5 - jnp.abs(u), jnp.finfo(shift.dtype).tiny)
        proposal = jnp.floor((2 * a / s + b) * u + shift)
        accept = few | (jnp.log((1 - v) * scale / (a / (s * s) + b)) < log_ratio(proposal))
        return (
            round_ + 1,
            jnp.where(accept & ~done, jnp.where(few, uniform, proposal), k),
            done | accept,
        )

    start = (jnp.int32(0), shift, jnp.isnan(shift))
    return jax.lax.while_loop(keep_on, draw, start)[1]


def poisson(key: Array, rate: Array, shape: tuple[int, ...]) -> Array:
    """Poisson counts of this `shape`, in the floating dtype of `rate` >= 0."""
    few = rate < _FEW
    many = jnp.where(few | jnp.isinf(rate), 2 * _FEW, rate)
    b = 0.931 + 2.53 * jnp.sqrt(many)
    a = -0.059 + 0.02483 * b

    def log_pmf(k: Array) -> Array:
        return jnp.where(k >= 0, poisson_log_pmf(jnp.maximum(k, 0), many), -jnp.inf)

    scale = 1.1239 + 1.1328 / (b - 3.4)
    drawn = _by_rejection(key, shape, few, many + 0.43, a, b, scale, log_pmf)
    low = jnp.where(few, rate, 1.0)
    counts = _by_inversion(jnp.where(few, drawn, 0.0), jnp.exp(-low), lambda k: low / (k + 1))
    return jnp.where(few, counts, jnp.where(jnp.isinf(rate), rate, drawn))


def binomial(key: Array, n: Array, log_p: Array, log_q: Array, shape: tuple[int, ...]) -> Array:
    """Binomial counts of this `shape` in a floating dtype; log_p and log_q are log p and log(1 -
    p).
    """
    # The rarer outcome is what is counted.
    flipped = log_p > log_q
    log_rare, log_often = jnp.where(flipped, log_q, log_p), jnp.where(flipped, log_p, log_q)
    rare = jnp.exp(log_rare)
    few = n * rare < _FEW
    m, p = jnp.where(few, 4 * _FEW, n), jnp.where(few, 0.5, rare)
    logits = jnp.where(few, 0.0, log_rare - log_often)
    spread = jnp.sqrt(m * p * (1 - p))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * p
    # Hormann's hat is as high as the mode's probability or anything above it: for m p >= 10 that is at
    # most 1.00398 / sqrt(2 pi m p (1 - p)), by search, largest for the Poisson of 10.5.
    log_top = 0.005 - 0.5 * jnp.log(2 * math.pi * spread * spread)

    def log_ratio(k: Array) -> Array:
        inside = (k >= 0) & (k <= m)
        log_prob = binomial_logits_log_pmf(jnp.where(inside, k, 0.0), m, logits)
        return jnp.where(inside, log_prob - log_top, -jnp.inf)

    scale = (2.83 + 5.1 / b) * spread
    drawn = _by_rejection(key, shape, few, m * p + 0.5, a, b, scale, log_ratio)
    odds, n_few = rare * jnp.exp(-log_often), jnp.where(few, n, 1.0)
    counts = _by_inversion(
        jnp.where(few, drawn, 0.0),
        jnp.exp(n_few * log_often),
        lambda k: (n_few - k) / (k + 1) * odds,
    )
    counts = jnp.where(few, counts, drawn)
    return jnp.where(flipped, n - counts, counts)
