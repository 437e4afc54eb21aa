"""log p(x) by importance sampling: many particles, block by block."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from likelax._keys import check_key
from likelax._pytree import Array, canonical
from likelax.numerics.logspace import log_add_exp, logsumexp
from likelax.objective import Batch, check_batch
from likelax.vae._rows import Example, Inference, Joint, sampled, total
from likelax.vae.elbo import check_particles
from likelax.vae.model import LatentModel, check_model

# How many rows a network is given at once where no gradient is wanted.
_ROWS = 16_384


class Sums(NamedTuple):
    """Sums over particles, `(B,)` each: of w and w^2 in log space, and of the terms."""

    log_sum: Array
    log_sum_squares: Array
    reconstruction: Array
    kl: Array

    @property
    def effective_size(self) -> Array:
        """(sum w)^2 / sum w^2."""
        return jnp.exp(2 * self.log_sum - self.log_sum_squares)


def block_size(count: int, examples: int) -> int:
    """How many of `count` particles to draw at once."""
    return min(count, max(1, _ROWS // max(examples, 1)))


def accumulated(
    model: LatentModel, params: Any, key: Array, data: Example, state: Any, count: int
) -> tuple[Sums, Inference, Joint]:
    """Sums over `count` particles, by a scan over blocks; and what the first block drew."""
    size = block_size(count, data.count)

    def draw(index: Array) -> tuple[Array, Inference, Joint]:
        own = jax.random.fold_in(key, index)
        found = model._infer(params, own, data, state=state, train=False, count=size, draw=sampled)
        joint = model._join(params, own, found.latents, data, state=state, train=False)
        return joint.log_likelihood + total(joint.log_prior) - total(found.log_q), found, joint

    def add(sums: Sums, index: Array) -> tuple[Sums, None]:
        log_weight, found, joint = draw(index)
        counts = (index * size + jnp.arange(size) < count)[:, None]
        logs = jnp.where(counts, log_weight, -jnp.inf)
        kl = total(found.log_q) - total(joint.log_prior)
        return Sums(
            log_add_exp(sums.log_sum, logsumexp(logs, axis=0)),
            log_add_exp(sums.log_sum_squares, logsumexp(2 * logs, axis=0)),
            sums.reconstruction - jnp.sum(joint.log_likelihood, axis=0, where=counts),
            sums.kl + jnp.sum(kl, axis=0, where=counts),
        ), None

    first = jnp.zeros((), jnp.int32)
    like = jax.eval_shape(draw, first)[0]
    zero = jnp.zeros(like.shape[1:], like.dtype)
    start = Sums(zero - jnp.inf, zero - jnp.inf, zero, zero)
    sums, _ = jax.lax.scan(add, start, jnp.arange(-(-count // size)))
    return sums, *draw(first)[1:]


class Marginal(NamedTuple):
    """An estimate of log p(x) for each example, `(batch,)` each.

    Attributes:
      log_prob: log of the mean weight, in nats: on average no more than log p(x).
      standard_error: of `log_prob`, over particles, by the delta method. It says nothing of a mode of
        the posterior that no particle has met.
      effective_particles: (sum w)^2 / sum w^2, between 1 and K: where it is small, so is what the
        other two are worth.
    """

    log_prob: Array
    standard_error: Array
    effective_particles: Array


def marginal_log_prob(
    model: Any,
    params: Any,
    key: Array,
    batch: Batch,
    *,
    num_particles: int,
    state: Any = (),
) -> Marginal:
    """log p(x) by importance sampling from the encoder, with its error, example by example.

    For a held-out mean with a claim write `lx.evaluate(lx.vae.IWAE(decoder, encoder, prior,
    num_particles=5000), params, key, batches)`, on the same parameters.

    Args:
      model: of any kind here that has an encoder.
      params, state: as from `init` or training.
      key: a random key.
      batch: the examples; those that are masked out have log_prob 0 and no error.
      num_particles: K, at least 2: drawn in blocks, so that thousands fit.

    Raises:
      TypeError: for a model without an encoder.
      ValueError: for K < 2.
      TypeError: for a model without an encoder (`Enumerated` is exact by itself).
    """
    check_model(model, "marginal_log_prob")
    check_batch(batch)
    check_model(model, "marginal_log_prob")
    check_particles(num_particles, 2, "marginal_log_prob")
    params, batch, state = jax.tree.map(canonical, (params, batch, state))
    return _marginal(model, params, check_key(key), batch, state, num_particles)


@functools.partial(jax.jit, static_argnums=(0, 5))
def _marginal(
    model: LatentModel, params: Any, key: Array, batch: Batch, state: Any, count: int
) -> Marginal:
    batch, keep = model._prepared(batch)
    data = model._example(batch, keep)
    sums, _, _ = accumulated(model, params, key, data, state, count)
    size = sums.effective_size
    error = jnp.sqrt(jnp.maximum(count / size - 1, 0) / (count - 1))
    keep = jnp.ones(data.count, bool) if keep is None else keep
    log_prob = jnp.where(keep, sums.log_sum - math.log(count), 0)
    return Marginal(log_prob, jnp.where(keep, error, 0), size)
