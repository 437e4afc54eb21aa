"""What a trained model does with its latents."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from likelax._keys import check_key, stream
from likelax._pytree import Array, canonical
from likelax.distributions.base import Distribution
from likelax.numerics.logspace import logsumexp
from likelax.objective import Batch, check_batch
from likelax.vae._rows import as_floats
from likelax.vae.elbo import divergence, is_product
from likelax.vae.model import LatentModel, check_model


class LatentUsage(NamedTuple):
    """How the latents are used, over the examples of a batch; in nats.

    Attributes:
      kl: the mean KL(q(z_d | x) || p(z_d)) of each latent, `(latents,)`; where there is no such sum in
        closed form, the mean of log q - log p of all of them, `(1,)`.
      variance: of the posterior's mean over examples, `(latents,)`.
      active: where that is above the threshold (Burda et al. 2016), `(latents,)`.
      mutual_information: between example and latents, E log q(z | x) - log q(z), q(z) being the mean
        of q(z | x) over these examples (Hoffman and Johnson 2016): at most the log of their number.
      marginal_kl: what the mean KL is above that: KL(q(z) || p(z)), how far the latents that are met
        are from the prior.
    """

    kl: Array
    variance: Array
    active: Array
    mutual_information: Array
    marginal_kl: Array


def latent_usage(
    model: Any,
    params: Any,
    key: Array,
    batch: Batch,
    *,
    state: Any = (),
    threshold: float = 0.01,
) -> LatentUsage:
    """How a model of one layer uses its latents; work and memory grow as the square of the batch.

    Args:
      model: a model with one layer of latents.
      params, state: as from `init` or training.
      key: a random key.
      batch: many examples; masks are not looked at.
      threshold: of the variance of the posterior's mean, for an active latent.

    Raises:
      TypeError: for a model without an encoder.
      ValueError: for a model of several layers.
    """
    check_model(model, "latent_usage")
    check_batch(batch)
    _check_layers(model, "latent_usage")
    params, batch, state = jax.tree.map(canonical, (params, batch, state))
    return _usage(model, params, check_key(key), batch, state, threshold)


@functools.partial(jax.jit, static_argnums=(0, 5))
def _usage(
    model: LatentModel, params: Any, key: Array, batch: Batch, state: Any, threshold: float
) -> LatentUsage:
    q = model.posterior(params, batch.target, input=batch.input, state=state)
    p = model.prior_at(params, input=batch.input, state=state)
    z, log_q = q.sample_and_log_prob(stream(key, "latents"))
    kl = _mean_divergence(q, p, log_q - p.log_prob(z))
    pairs = q.log_prob(z[:, None])  # (sample, example)
    information = jnp.mean(log_q - logsumexp(pairs, axis=1) + math.log(len(z)))
    variance = jnp.var(q.mean().reshape((len(z), -1)), axis=0)
    return LatentUsage(kl, variance, variance > threshold, information, jnp.sum(kl) - information)


def _mean_divergence(q: Distribution, p: Distribution, ratio: Array) -> Array:
    if is_product(q) and is_product(p):
        try:
            each = divergence(q, p)
            return jnp.mean(each.reshape((each.shape[0], -1)), axis=0)
        except NotImplementedError:
            pass
    return jnp.mean(ratio)[None]


def traversal(
    model: LatentModel,
    params: Any,
    z: Array,
    index: int | tuple[int, ...],
    values: Array,
    *,
    input: Any = None,
    state: Any = (),
) -> Distribution:
    """p(x | z) with one latent put to each of `values`, the others left: of batch shape
    `(len(values),)`.

    Args:
      model: a model with one layer of latents.
      params, state: as from `init` or training.
      z: latents of one example, of the latents' event shape: a row of
        `model.posterior(params, x).mean()`.
      index: which latent.
      values: what it becomes, `(n,)`.
      input: of a conditional model, that of the one example, without a batch axis.

    Raises:
      ValueError: for a model of several layers, an index that z does not have, or values without an
        axis.
    """
    check_model(model, "traversal")
    _check_layers(model, "traversal")
    z, at = as_floats(z), index if isinstance(index, tuple) else (index,)
    values = jnp.asarray(values, z.dtype)
    _check_traversal(model, z, at, values)
    moved = jax.vmap(lambda value: z.at[at].set(value))(values)
    many = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(values), *jnp.shape(x))), input)
    return model.decode(params, moved, input=many, state=state)


def _check_layers(model: LatentModel, owner: str) -> None:
    if model._layered:
        raise ValueError(
            f"{owner}: a model of one layer of latents wanted, this one has {len(model._encoders)}; for "
            "samples of all of them write model.encode(params, key, x), and model.decode(params, *latents)"
        )


def _check_traversal(model: LatentModel, z: Array, at: tuple[int, ...], values: Array) -> None:
    """Raises ValueError unless `at` is one latent of one example."""
    wanted = tuple(model._encoders[0].head.event_shape)
    if z.shape != wanted:
        raise ValueError(
            f"traversal: z is the latents of one example, of shape {wanted}, got {z.shape}; "
            "write z=model.posterior(params, x).mean()[0]"
        )
    if len(at) != z.ndim or not all(
        isinstance(i, int | np.integer) and -n <= i < n for i, n in zip(at, z.shape, strict=True)
    ):
        raise ValueError(
            f"traversal: index is one entry of latents of shape {z.shape}, got {at}; write "
            f"index={0 if z.ndim == 1 else (0,) * z.ndim}"
        )
    if values.ndim != 1:
        raise ValueError(
            f"traversal: values have shape (n,), got {values.shape}; write "
            "values=jnp.linspace(-2, 2, 5)"
        )
