"""Losses of a model of the score, the gradient of log p(x) in x, that need no normalised density.

Each takes `score`, a function of rows x -> s(x), both `(batch, *event)`, whose rows do not depend on one
another, and gives each row's share, `(batch,)`. Against the Fisher divergence 1/2 E |s(x) - grad log
p(x)|^2 a loss lacks 1/2 E |grad log p(x)|^2, which does not depend on the model, so that it may be
negative.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from likelax._keys import stream

Score = Callable[[Array], Array]


def implicit(score: Score, x: Array) -> Array:
    """tr(ds/dx) + 1/2 |s(x)|^2 (Hyvarinen 2005, theorem 1): as many products with the Jacobian as an
    event has entries.

    Args:
      score: the model.
      x: data, `(batch, *event)`.
    """
    size = x[0].size
    units = jnp.eye(size, dtype=x.dtype).reshape(size, 1, *x.shape[1:])
    value, changes = _pushed(score, x, jnp.broadcast_to(units, (size, *x.shape)))
    return jnp.sum(changes, axis=0) + 0.5 * _square(value)


def denoising(score: Score, x: Array, key: Array, scale: Array | float) -> Array:
    """1/2 |s(x + scale e) + e / scale|^2 with e standard Normal (Vincent 2011, eq. 11): what is learnt is
    the score of the data with this noise added.

    Args:
      score: the model.
      x: data, `(batch, *event)`.
      key: a random key.
      scale: of the noise, positive: a number, or `(batch,)`.
    """
    scale = jnp.asarray(scale, x.dtype)
    scale = scale.reshape(scale.shape + (1,) * (x.ndim - scale.ndim) * (scale.ndim > 0))
    noise = _rows(jax.random.normal, stream(key, "noise"), x, 1)[0]
    return 0.5 * _square(score(x + scale * noise) + noise / scale)


def sliced(
    score: Score,
    x: Array,
    key: Array,
    *,
    num_probes: int = 1,
    variance_reduction: bool = True,
) -> Array:
    """v' (ds/dx) v + 1/2 (v's)^2, the mean over random directions v (Song et al. 2019, eq. 8): the mean of
    `implicit`, for as many products with the Jacobian as there are directions.

    Args:
      score: the model.
      x: data, `(batch, *event)`.
      key: a random key.
      num_probes: how many directions, of entries +1 and -1.
      variance_reduction: whether the second term is its own mean over v, 1/2 |s|^2 (section 3.2).
    """
    probes = _rows(jax.random.rademacher, stream(key, "probes"), x, num_probes)
    value, changes = _pushed(score, x, probes)
    if variance_reduction:
        return jnp.mean(changes, axis=0) + 0.5 * _square(value)
    along = jax.vmap(_sum, in_axes=0)(probes * value)
    return jnp.mean(changes + 0.5 * along**2, axis=0)


def _pushed(score: Score, x: Array, directions: Array) -> tuple[Array, Array]:
    """s(x), and v' (ds/dx) v of each direction v, `(count, batch)`."""

    def push(v: Array) -> tuple[Array, Array]:
        value, change = jax.jvp(score, (x,), (v,))
        return value, _sum(v * change)

    return jax.vmap(push, out_axes=(None, 0))(directions)


def _rows(draw: Callable[..., Array], key: Array, x: Array, count: int) -> Array:
    """`(count, *x.shape)` numbers, those of each row from its place in the batch."""

    def one(index: Array) -> Array:
        return draw(jax.random.fold_in(key, index), (count, *x.shape[1:]), x.dtype)

    return jax.vmap(one, out_axes=1)(jnp.arange(x.shape[0]))


def _sum(x: Array) -> Array:
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))


def _square(x: Array) -> Array:
    return _sum(x**2)
