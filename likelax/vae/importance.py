"""Bounds from many particles of each example, and the marginal likelihood that they tend to."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from likelax._keys import check_key
from likelax._pytree import Array
from likelax.conditional import Conditional
from likelax.distributions.base import Distribution
from likelax.numerics.logspace import log_add_exp, logsumexp
from likelax.objective import Batch, Claim, Scores, check_batch, trailing
from likelax.vae._rows import (
    Example,
    Inference,
    Joint,
    has_pathwise,
    measure_of_data,
    sampled,
    total,
)
from likelax.vae.elbo import check_particles
from likelax.vae.model import LatentModel

# How many rows a network is given at once where no gradient is wanted.
_ROWS = 16_384


class _Weighted(LatentModel):
    """Bounds made of log weights log p(x | z) + log p(z) - log q(z | x), `(K, B)`."""

    num_particles: int
    power: float

    def _weigh(
        self, params: Any, key: Array, data: Example, *, state: Any, train: bool
    ) -> tuple[Array, Inference, Joint]:
        """The log weights, differentiated straight through."""
        inference = self._infer(
            params, key, data, state=state, train=train, count=self.num_particles
        )
        joint = self._join(params, key, inference.latents, data, state=state, train=train)
        return (
            joint.log_likelihood + total(joint.log_prior) - total(inference.log_q),
            inference,
            joint,
        )

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        data = self._example(batch, keep)
        log_weight, inference, joint = self._weigh(params, key, data, state=state, train=train)
        cost = self._surrogate(-log_power_mean(log_weight, self.power), log_weight, inference)
        log_q, log_prior = total(inference.log_q), total(joint.log_prior)
        terms = {
            "reconstruction": -jnp.mean(joint.log_likelihood, axis=0),
            "kl": jnp.mean(log_q - log_prior, axis=0),
            "effective_particles": effective_size(log_weight),
        }
        state = self._next_state(inference, joint, state, train)
        return Scores(cost, terms, state, self._claim(inference, joint, data))

    def _surrogate(self, cost: Array, log_weight: Array, inference: Inference) -> Array:
        """The cost with the gradient of the estimator."""
        return cost

    def _claim(self, inference: Inference, joint: Joint, data: Example) -> Claim:
        raise NotImplementedError


class IWAE(_Weighted):
    """-log (1/K) sum_k p(x, z_k) / q(z_k | x), an upper bound on -log p(x) in nats that falls to it as
    K grows (Burda et al. 2016, eq. 8). With K = 1 it is the ELBO.

    Estimators of the gradient, all of the same number:

    * "standard": through the samples, unbiased; its signal-to-noise ratio in the encoder's parameters
      falls as K grows (Rainforth et al. 2018).
    * "stl": without the score of q (Roeder et al. 2017): at the exact posterior it is zero for every
      sample, but biased for K > 1.
    * "dreg": unbiased in every parameter (Tucker et al. 2019): the plain gradient for the decoder and
      the prior, and for the encoder that of the samples, weighted by the squares of the normalised
      weights. In reverse mode only.
    * "vimco": the score function with a leave-one-out baseline, unbiased (Mnih and Rezende 2016);
      for latents of any kind, discrete ones too. K is at least 2.

    With `train=False` particles are drawn in blocks, so that thousands fit.

    Args:
      decoder, encoder, prior: as for `LatentModel`.
      num_particles: K.
      estimator: of the gradient, one of those.

    Raises:
      ValueError: for options that are none, and for discrete latents unless estimator="vimco".
    """

    claim = Claim("upper", vanishes="num_particles")
    power = 0.0

    def __init__(
        self,
        decoder: Conditional,
        encoder: Any,
        prior: Any,
        *,
        num_particles: int,
        estimator: str = "standard",
    ):
        super().__init__(decoder, encoder, prior)
        if estimator not in ("standard", "stl", "dreg", "vimco"):
            raise ValueError(
                f'{self._name}: estimator is "standard", "stl", "dreg" or "vimco", got {estimator!r}'
            )
        check_particles(num_particles, 2 if estimator == "vimco" else 1, self._name)
        self.num_particles, self.estimator = num_particles, estimator

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        data = self._example(batch, keep)
        count = self.num_particles
        if train or count <= block_size(count, data.count):
            return super().score(params, key, batch, state=state, train=train, keep=keep)
        sums, inference, joint = accumulated(self, params, key, data, state, count)
        terms = {
            "reconstruction": sums.reconstruction / count,
            "kl": sums.kl / count,
            "effective_particles": sums.effective_size,
        }
        cost = math.log(count) - sums.log_sum
        return Scores(cost, terms, state, self._claim(inference, joint, data))

    def _draw(self, q: Distribution, key: Array, count: int | None) -> tuple[Array, Array]:
        if self.estimator != "vimco":
            return super()._draw(q, key, count)
        z = jax.lax.stop_gradient(sampled(q, key, count)[0])
        return z, q.log_prob(z)

    def _weigh(
        self, params: Any, key: Array, data: Example, *, state: Any, train: bool
    ) -> tuple[Array, Inference, Joint]:
        if not train or self.estimator in ("standard", "vimco"):
            return super()._weigh(params, key, data, state=state, train=train)
        inference = self._infer(
            params, key, data, state=state, train=train, count=self.num_particles
        )

        def weigh(params: Any, latents: tuple[Array, ...], rest: Any) -> tuple[Array, Joint]:
            key, inference, data, state = rest
            inference = inference._replace(latents=latents)
            joint = self._join(params, key, latents, data, state=state, train=train)
            log_q = self._stopped_log_q(params, key, inference, data, state, train)
            return joint.log_likelihood + total(joint.log_prior) - log_q, joint

        rest = jax.lax.stop_gradient((key, inference, data, state))
        doubly = _doubly_reparameterised if self.estimator == "dreg" else _apply
        log_weight, joint = doubly(weigh, params, inference.latents, rest)
        return log_weight, inference, joint

    def _surrogate(self, cost: Array, log_weight: Array, inference: Inference) -> Array:
        if self.estimator != "vimco":
            return cost
        # cost is -L; the score of each particle counts L less what it would be without it.
        log_q = total(inference.log_q)
        signal = jax.lax.stop_gradient(-cost - leave_one_out(log_weight))
        return cost - jnp.sum(signal * (log_q - jax.lax.stop_gradient(log_q)), axis=0)

    def _claim(self, inference: Inference, joint: Joint, data: Example) -> Claim:
        pathwise = self.estimator == "vimco" or all(has_pathwise(q) for q in inference.posteriors)
        unbiased = pathwise and (self.estimator != "stl" or self.num_particles == 1)
        return Claim("upper", unbiased, measure_of_data(joint.decoder, data), "num_particles")


class RenyiBound(_Weighted):
    """-1/(1 - alpha) log (1/K) sum_k w_k^(1 - alpha), w_k = p(x, z_k) / q(z_k | x): the Monte Carlo
    estimate of the variational Renyi bound (Li and Turner 2016, eq. 6), in nats.

    alpha = 0 is IWAE and alpha = 1 the ELBO. On average it is an upper bound on -log p(x) for every
    alpha >= 0, at any K: for alpha < 1 it falls with K towards the bound of infinitely many particles,
    for alpha > 1 it rises towards it from the ELBO. For alpha < 0 the limit lies below -log p(x) and
    the estimate on either side: no claim.

    Args:
      decoder, encoder, prior: as for `LatentModel`.
      alpha: the order.
      num_particles: K.

    Raises:
      ValueError: for an alpha that is not finite, K < 1, or discrete latents.
    """

    def __init__(
        self,
        decoder: Conditional,
        encoder: Any,
        prior: Any,
        *,
        alpha: float,
        num_particles: int,
    ):
        super().__init__(decoder, encoder, prior)
        if not math.isfinite(alpha):
            raise ValueError(f"{self._name}: alpha is a finite number, got {alpha}")
        check_particles(num_particles, 1, self._name)
        self.power = self.alpha = float(alpha)
        self.num_particles = num_particles
        self.claim = Claim(
            "upper" if alpha >= 0 else "none", vanishes="num_particles" if alpha == 0 else None
        )

    def _claim(self, inference: Inference, joint: Joint, data: Example) -> Claim:
        unbiased = all(has_pathwise(q) for q in inference.posteriors)
        measure = measure_of_data(joint.decoder, data) if self.alpha >= 0 else None
        return Claim(self.claim.relation, unbiased, measure, self.claim.vanishes)


# Means of weights, over the first axis.


def log_power_mean(log_weight: Array, power: float) -> Array:
    """1/s log mean_k w_k^s for s = 1 - power, `(K, B) -> (B,)`; the mean of log w where s is 0."""
    if power == 1:
        return jnp.mean(log_weight, axis=0)
    s = 1 - power
    return (logsumexp(s * log_weight, axis=0) - math.log(log_weight.shape[0])) / s


def leave_one_out(log_weight: Array) -> Array:
    """log (1/K) sum_j w_j with w_k replaced by the geometric mean of the others, for each k, `(K, B)`
    (Mnih and Rezende 2016, eq. 8).
    """
    count = log_weight.shape[0]
    others = (jnp.sum(log_weight, axis=0) - log_weight) / (count - 1)
    own = jnp.eye(count, dtype=bool)[..., None]
    return logsumexp(jnp.where(own, others, log_weight[:, None]), axis=0) - math.log(count)


def effective_size(log_weight: Array) -> Array:
    """(sum w)^2 / sum w^2, `(K, B) -> (B,)`: between 1 and K."""
    return jnp.exp(2 * logsumexp(log_weight, axis=0) - logsumexp(2 * log_weight, axis=0))


# The doubly reparameterised gradient.


def _apply(function: Callable[..., Any], params: Any, latents: Any, rest: Any) -> Any:
    return function(params, latents, rest)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _doubly_reparameterised(
    function: Callable[..., Any], params: Any, latents: Any, rest: Any
) -> tuple[Array, Any]:
    """`function(params, latents, rest) -> (log_weight, extra)`, whose gradient in the latents is
    multiplied by the normalised weights once more; `extra` has none.
    """
    return function(params, latents, rest)


def _doubly_forward(function, params, latents, rest):
    log_weight, pull, extra = jax.vjp(
        lambda params, latents: function(params, latents, rest), params, latents, has_aux=True
    )
    return (log_weight, extra), (pull, jax.nn.softmax(log_weight, axis=0))


def _doubly_backward(function, residuals, cotangents):
    pull, share = residuals
    to_params, to_latents = pull(cotangents[0])
    scaled = jax.tree.map(lambda slope: trailing(share, slope.ndim) * slope, to_latents)
    return to_params, scaled, None


_doubly_reparameterised.defvjp(_doubly_forward, _doubly_backward)


# Many particles, block by block.


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
    model: LatentModel,
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
      ValueError: for K < 2.
    """
    check_batch(batch)
    check_particles(num_particles, 2, "marginal_log_prob")
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
