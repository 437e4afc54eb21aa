"""Sequential Monte Carlo along a path: annealing in which unlikely particles make room for likely ones."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from likelax._keys import stream
from likelax._pytree import Array
from likelax.energy.annealing import Path
from likelax.numerics.logspace import logsumexp

_POPULATIONS = 10


@functools.partial(jax.jit, static_argnums=(2, 3))
def populations(path: Path, key: Array, particles: int, most: int) -> Array:
    """Each population's estimate of log Z. The temperatures are those of one more population, so that
    they do not depend on the ones whose estimates count: Z is then estimated without bias.
    """
    betas = _adapted(path, stream(key, "pilot"), particles, most)
    keys = jax.random.split(stream(key, "populations"), _POPULATIONS)
    return jax.lax.map(lambda key: _resampled(path, key, betas, particles), keys)


def _resampled(path: Path, key: Array, betas: Array, particles: int) -> Array:
    def warm(carry: tuple[Array, Array], t: Array) -> tuple[Array, Array]:
        x, log_z = carry
        own = jax.random.fold_in(key, t)
        change = path.log_density(betas[t], x) - path.log_density(betas[t - 1], x)
        x = path.move(own, betas[t], systematic(stream(own, "resample"), change, x))
        return x, log_z + logsumexp(change, axis=0) - jnp.log(particles)

    def step(carry: tuple[Array, Array], t: Array) -> tuple[tuple[Array, Array], None]:
        waits = betas[t] == betas[t - 1]
        return jax.lax.cond(waits, lambda carry, t: carry, warm, carry, t), None

    start = path.sample(stream(key, "base"), particles), path.log_z()
    return jax.lax.scan(step, start, jnp.arange(1, len(betas)))[0][1]


def _adapted(path: Path, key: Array, particles: int, most: int) -> Array:
    """Inverse temperatures at each of which half the particles count, `(most + 1,)`; 1 from where they
    end. The last step is as long as it has to be where there are not enough.
    """

    def size(beta: Array, now: Array, x: Array) -> Array:
        change = path.log_density(beta, x) - path.log_density(now, x)
        return jnp.exp(2 * logsumexp(change, axis=0) - logsumexp(2 * change, axis=0))

    def halve(ends: tuple[Array, Array], _: None, now: Array, x: Array) -> Any:
        low, high = ends
        middle = (low + high) / 2
        enough = size(middle, now, x) >= particles / 2
        return (jnp.where(enough, middle, low), jnp.where(enough, high, middle)), None

    def warm(carry: tuple[Array, Array], t: Array) -> tuple[Array, Array]:
        x, now = carry
        one = jnp.ones_like(now)
        ends = jax.lax.scan(functools.partial(halve, now=now, x=x), (now, one), None, length=20)
        found = jnp.where(size(one, now, x) >= particles / 2, one, ends[0][0])
        beta = jnp.where(t == most, one, found)
        own = jax.random.fold_in(key, t)
        change = path.log_density(beta, x) - path.log_density(now, x)
        return path.move(own, beta, systematic(stream(own, "resample"), change, x)), beta

    def step(carry: tuple[Array, Array], t: Array) -> tuple[tuple[Array, Array], Array]:
        carry = jax.lax.cond(carry[1] == 1, lambda carry, t: carry, warm, carry, t)
        return carry, carry[1]

    x = path.sample(stream(key, "base"), particles)
    zero = jnp.zeros_like(path.log_z())
    _, betas = jax.lax.scan(step, (x, zero), jnp.arange(1, most + 1))
    return jnp.concatenate([zero[None], betas])


def systematic(key: Array, log_weight: Array, x: Array) -> Array:
    """Particles in proportion to their weights, by one uniform number for all."""
    n = len(log_weight)
    cumulative = jnp.cumsum(jnp.exp(log_weight - logsumexp(log_weight, axis=0)))
    points = (jnp.arange(n) + jax.random.uniform(key, (), log_weight.dtype)) / n
    return x[jnp.clip(jnp.searchsorted(cumulative, points), 0, n - 1)]
