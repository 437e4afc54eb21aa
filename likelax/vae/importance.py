"""Bounds from many particles of each example, and the marginal likelihood that they tend to."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from likelax._checks import is_number
from likelax._pytree import Array
from likelax.conditional import Conditional
from likelax.distributions.base import Distribution
from likelax.numerics.logspace import logsumexp
from likelax.objective import Batch, Claim, Scores, trailing
from likelax.vae._rows import (
    Example,
    Inference,
    Joint,
    has_pathwise,
    measure_of_data,
    of_logarithm,
    sampled,
    total,
)
from likelax.vae.elbo import check_particles
from likelax.vae.marginal import accumulated, block_size
from likelax.vae.model import LatentModel


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
        return Scores(cost, terms, state, self._claim(inference, joint, data, train))

    def _surrogate(self, cost: Array, log_weight: Array, inference: Inference) -> Array:
        """The cost with the gradient of the estimator."""
        return cost

    def _claim(self, inference: Inference, joint: Joint, data: Example, train: bool) -> Claim:
        claim = self.claim
        unbiased = claim.unbiased and self._is_unbiased(inference, train)
        measure = None if claim.relation == "none" else measure_of_data(joint.decoder, data)
        return dataclasses.replace(claim, unbiased=unbiased, measure=measure)

    def _is_unbiased(self, inference: Inference, train: bool) -> bool:
        """Whether the gradient is that of the expected value."""
        return all(has_pathwise(q) for q in inference.posteriors)


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
        self.claim = self.claim + of_logarithm(self._given)

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
        claim = self._claim(inference, joint, data, train)
        if any(q.support.is_discrete for q in inference.posteriors):
            # Blocks are for numbers: their discrete samples have no score function.
            claim = dataclasses.replace(claim, unbiased=False)
        return Scores(cost, terms, state, claim)

    def _check_kind(self, q: Distribution) -> None:
        if self.estimator != "vimco":
            super()._check_kind(q)

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
        without = leave_one_out(log_weight)
        signal = -cost - jnp.where(jnp.isfinite(without), without, 0)
        signal = jax.lax.stop_gradient(jnp.where(jnp.isfinite(cost), signal, 0))
        return cost - jnp.sum(signal * (log_q - jax.lax.stop_gradient(log_q)), axis=0)

    def _is_unbiased(self, inference: Inference, train: bool) -> bool:
        if train and self.estimator == "stl" and self.num_particles > 1:
            return False
        return self.estimator == "vimco" or super()._is_unbiased(inference, train)


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
        if not (is_number(alpha) and math.isfinite(alpha)):
            raise ValueError(
                f"{self._name}: alpha is a finite number, got {alpha!r}; write alpha=0.5"
            )
        check_particles(num_particles, 1, self._name)
        self.power = self.alpha = float(alpha)
        self.num_particles = num_particles
        own = Claim(
            "upper" if alpha >= 0 else "none", vanishes="num_particles" if alpha == 0 else None
        )
        self.claim = own + (self._given if alpha == 1 else of_logarithm(self._given))


# Means of weights, over the first axis.


def log_power_mean(log_weight: Array, power: float) -> Array:
    """1/s log mean_k w_k^s for s = 1 - power, `(K, B) -> (B,)`; the mean of log w where s is 0."""
    s = 1 - power
    if s == 0:
        return jnp.mean(log_weight, axis=0)
    plain = (logsumexp(s * log_weight, axis=0) - math.log(log_weight.shape[0])) / s
    if abs(s) > 0.1:
        return plain
    # Where s is small, what rounds off the sum is divided by it: from the largest s log w then, and
    # 1 apart.
    end = jax.lax.stop_gradient((jnp.max if s > 0 else jnp.min)(log_weight, axis=0))
    excess = jnp.mean(jnp.expm1(s * (log_weight - end)), axis=0)
    close = (excess > -0.5) & jnp.isfinite(end)
    return jnp.where(close, end + jnp.log1p(jnp.where(close, excess, 0)) / s, plain)


def leave_one_out(log_weight: Array) -> Array:
    """log (1/K) sum_j w_j with w_k replaced by the geometric mean of the others, for each k, `(K, B)`
    (Mnih and Rezende 2016, eq. 8).
    """
    count = log_weight.shape[0]
    own = jnp.eye(count, dtype=bool)[..., None]
    # Not the sum of all less each one: that of a weight of 0 is infinite.
    others = jnp.sum(jnp.where(own, 0, log_weight[:, None]), axis=0) / (count - 1)
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
