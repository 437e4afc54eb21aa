"""Annealed importance sampling along any path of densities."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from likelax._pytree import Array


def annealed(path: Any, key: Array, betas: Array, x: Array, log_z: Array) -> Array:
    """Each chain's estimate of log Z at the end of the path, `(chains,)`; its exponential is without bias
    (Neal 2001).

    Args:
      path: with `log_density(beta, x)`, unnormalised, `(chains,)`, and `move(key, beta, x)`, which leaves
        that density invariant.
      key: a random key; step t moves with `fold_in(key, t)`.
      betas: increasing from the start to the end of the path, `(K + 1,)`.
      x: exact samples of the path's start, `(chains, *event)`.
      log_z: of the path's start, `(chains,)` or a number.
    """

    def step(carry: tuple[Array, Array], t: Array) -> tuple[tuple[Array, Array], None]:
        x, logs = carry
        logs = logs + path.log_density(betas[t], x) - path.log_density(betas[t - 1], x)
        return (path.move(jax.random.fold_in(key, t), betas[t], x), logs), None

    start = jnp.broadcast_to(log_z, (len(x),))
    return jax.lax.scan(step, (x, start), jnp.arange(1, len(betas)))[0][1]
