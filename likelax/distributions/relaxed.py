"""Relaxed (Concrete) distributions: softened draws of bits and of one-hot vectors."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, param
from likelax.distributions._odds import Odds, log_of
from likelax.distributions.base import Distribution
from likelax.numerics.gamma import lgamma
from likelax.numerics.logspace import (
    divide,
    log_logistic_pdf,
    log_sigmoid,
    log_softmax,
    logit,
    logsumexp,
    sigmoid,
)
from likelax.numerics.relaxed import (
    relaxed_bernoulli_log_pdf,
    relaxed_noise,
    relaxed_one_hot_log_pdf,
)


class RelaxedBernoulli(Odds):
    """A bit made differentiable: x = sigmoid((logits + L)/T), L standard logistic noise.

    log p(x) = log T - log x - log(1 - x) + log s(z) + log s(-z), z = T logit(x) - logits, 0 < x < 1, s
    the sigmoid: logit(x) is a Logistic of scale 1/T. As T falls to 0, x tends to a Bernoulli of the
    same logits; P(x > 1/2) is its p at every T. Samples have pathwise gradients.

    A float near 1 is a multiple of 6e-8 off it, so that at a low temperature `sample` often gives
    exactly 0 or 1. There the density has no value, and `log_prob` is -inf; `sample_and_log_prob` has
    that of the number that was rounded. Infinite logits (`probs` 0 or 1) leave a point of probability 1
    and no density: both are -inf.

    Parameters, of the batch's shape: `temperature` = T, positive; `logits` = log(p/(1-p)), real, or
    `probs` = p in [0, 1], by keyword. Densities are in nats.

    Source: Maddison, Mnih and Teh (2017), "The Concrete distribution", appendix B.
    """

    temperature: Array = param(supports.positive)
    support = supports.open_unit_interval

    def _logits(self) -> Array:
        """The logits, without a slope where a probability given is 0 or 1."""
        if not self.given("probs"):
            return self.logits
        sure = (self.probs == 0) | (self.probs == 1)
        ends = jnp.where(self.probs == 0, -jnp.inf, jnp.inf)
        return jnp.where(sure, ends, logit(jnp.where(sure, 0.5, self.probs)))

    def _noise(self, value: Array) -> Array:
        return relaxed_noise(value, self.temperature, self._logits())

    def log_prob(self, value: Array) -> Array:
        logits = self._logits()
        sure = jnp.isinf(logits)
        inside = relaxed_bernoulli_log_pdf(value, self.temperature, jnp.where(sure, 0, logits))
        return jnp.where(sure, -jnp.inf, inside)

    def cdf(self, value: Array) -> Array:
        return sigmoid(self._noise(value))

    def survival(self, value: Array) -> Array:
        return sigmoid(-self._noise(value))

    def log_cdf(self, value: Array) -> Array:
        return log_sigmoid(self._noise(value))

    def log_survival(self, value: Array) -> Array:
        return log_sigmoid(-self._noise(value))

    def _log_odds(self, noise: Array) -> Array:
        """logit(x) of this noise."""
        return divide(self._logits() + noise, self.temperature)

    def quantile(self, q: Array) -> Array:
        return sigmoid(self._log_odds(logit(q)))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return sigmoid(self._log_odds(jax.random.logistic(key, self._shape(shape), self.dtype)))

    def sample_and_log_prob(self, key: Array, shape: tuple[int, ...] = ()) -> tuple[Array, Array]:
        noise = jax.random.logistic(key, self._shape(shape), self.dtype)
        log_odds = self._log_odds(noise)
        sure = jnp.isinf(self._logits())
        log_slope = jnp.log(self.temperature) - log_logistic_pdf(jnp.where(sure, 0, log_odds))
        log_prob = jnp.where(sure, -jnp.inf, log_logistic_pdf(noise) + log_slope)
        return sigmoid(log_odds), log_prob


class RelaxedOneHotCategorical(Distribution):
    """A one-hot vector made differentiable: x = softmax((logits + G)/T), G standard Gumbel noise.

    log p(x) = log (K-1)! + (K-1) log T - sum_i log x_i + sum_i log softmax(v)_i, v_i = logits_i - T log
    x_i, for x_i > 0 that sum to 1. As T falls to 0, x tends to a OneHotCategorical of the same logits;
    P(x_i is the largest) is its probability at every T. Samples have pathwise gradients.

    The density is against the volume of all elements of x but one. At a low temperature elements of a
    sample are often exactly 0. There the density has no value (its limit depends on the way there),
    and `log_prob` is -inf; `sample_and_log_prob` has that of the numbers that were rounded. With an
    impossible class all of x is on an edge of the simplex, where this density is not, and both are -inf.

    Parameters: `temperature` = T, `(*batch,)`, positive; `logits`, `(*batch, event)`, real (-inf is
    an impossible class), or `probs`, non-negative with sum 1, by keyword. Densities are in nats.

    Source: Maddison, Mnih and Teh (2017), "The Concrete distribution", definition 1; Jang, Gu and
      Poole (2017), "Categorical reparameterization with Gumbel-softmax".
    """

    temperature: Array = param(supports.positive)
    logits: Array = param(supports.real, shape=("event",), default=None, kw_only=True)
    probs: Array = param(
        supports.simplex,
        shape=("event",),
        default=None,
        instead_of="logits",
        to=log_of,
        back=lambda logits: jnp.exp(log_softmax(logits)),
    )
    support = supports.open_simplex

    def log_prob(self, value: Array) -> Array:
        return relaxed_one_hot_log_pdf(value, self.temperature, self.logits)

    def _log_draw(self, key: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """Noise and log x."""
        noise = jax.random.gumbel(key, self._shape(shape), self.dtype)
        return noise, log_softmax(divide(self.logits + noise, self.temperature[..., None]))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return jnp.exp(self._log_draw(key, shape)[1])

    def sample_and_log_prob(self, key: Array, shape: tuple[int, ...] = ()) -> tuple[Array, Array]:
        noise, log_x = self._log_draw(key, shape)
        k = noise.shape[-1]
        edge = jnp.any(self.logits == -jnp.inf, axis=-1)
        inside = jnp.where(edge[..., None], 0, log_x)
        # v is minus the noise, but for a constant.
        each = jnp.sum(-noise - inside, axis=-1) - k * logsumexp(-noise)
        factorial = lgamma(jnp.asarray(k, noise.dtype))
        log_prob = factorial + (k - 1) * jnp.log(self.temperature) + each
        return jnp.exp(log_x), jnp.where(edge, -jnp.inf, log_prob)
