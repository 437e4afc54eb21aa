"""Distributions over vectors of probabilities: the Dirichlet and the LogisticNormal."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, param
from likelax.distributions.base import Distribution
from likelax.distributions.gamma import (
    entropy_excess,
    log_minus_digamma,
    sample_standard_gamma,
)
from likelax.distributions.kl import kl_divergence, register_kl
from likelax.distributions.multivariate import MultivariateNormalDiag
from likelax.numerics.concentrations import dirichlet_divergence
from likelax.numerics.densities import dirichlet_log_pdf
from likelax.numerics.logistic_normal import logistic_normal_log_pdf
from likelax.numerics.logspace import divide, log_softmax
from likelax.numerics.normal import log_normal_pdf

_LOG_2PI = math.log(2 * math.pi)


class Dirichlet(Distribution):
    """The Dirichlet over vectors of probabilities: log p(x) = sum_i [(a_i - 1) log x_i -
    lgamma(a_i)] + lgamma(sum_i a_i).

    In nats, a being the concentration; the density is against the volume of all elements of x but
    one. At the edges it is its limit. Samples have implicit gradients; their elements are kept off
    0, by the smallest normal number, since the density there may be infinite.

    Parameters: `concentration`, `(*batch, event)`, positive.
    """

    concentration: Array = param(supports.positive, shape=("event",))
    support = supports.simplex

    @property
    def _total(self) -> Array:
        return jnp.sum(self.concentration, axis=-1)

    def log_prob(self, value: Array) -> Array:
        return dirichlet_log_pdf(value, self.concentration)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        # In log space: where concentrations are tiny, all draws of the Gamma may be 0.
        _, logs = sample_standard_gamma(key, self.concentration, self._shape(shape))
        return jnp.maximum(jax.nn.softmax(logs), jnp.finfo(self.dtype).tiny)

    def mean(self) -> Array:
        return divide(self.concentration, self._total[..., None])

    def mode(self) -> Array:
        """(a - 1) / sum(a - 1) over those above 1; without any, uniform over those equal to 1; NaN
        if all are below 1.
        """
        a = self.concentration
        excess = jnp.maximum(a - 1, 0)
        peaked = jnp.any(a > 1, axis=-1, keepdims=True)
        share = jnp.where(peaked, excess, (a == 1).astype(a.dtype))
        return share / jnp.sum(share, axis=-1, keepdims=True)

    def variance(self) -> Array:
        total = self._total[..., None]
        return self.mean() * divide(total - self.concentration, total) / (total + 1)

    @property
    def covariance(self) -> Array:
        """The covariance matrix, `(*batch, event, event)`: (diag(m) - m m^T) / (sum(a) + 1) with m
        the mean.
        """
        mean, total = self.mean(), self._total[..., None, None]
        same = jnp.eye(mean.shape[-1], dtype=bool)
        off_diagonal = -mean[..., :, None] * mean[..., None, :] / (total + 1)
        return jnp.where(same, self.variance()[..., None], off_diagonal)

    def entropy(self) -> Array:
        a, total = self.concentration, self._total
        each = jnp.sum(entropy_excess(a) + 0.5 * (jnp.log(a) + _LOG_2PI), axis=-1)
        digamma = jnp.log(total) - log_minus_digamma(total)
        rest = entropy_excess(total) + 0.5 * (jnp.log(total) + _LOG_2PI)
        return each - rest - (a.shape[-1] - 1) * digamma


@register_kl(Dirichlet, Dirichlet)
def _kl_dirichlet(p: Dirichlet, q: Dirichlet) -> Array:
    return dirichlet_divergence(p.concentration, q.concentration)


class LogisticNormal(Distribution):
    """The distribution of softmax([u_1, ..., u_n, 0]) for independent Normal u: log p(x) = sum_i [log
    phi((u_i - loc_i)/scale_i) - log scale_i] - sum_k log x_k, u_i = log(x_i/x_K), K = n + 1.

    In nats; the density is against the volume of all elements of x but one. **A value is one longer
    than `loc`**: its last element is the category that the log-ratios refer to, and has no parameters
    of its own. A head takes num_ratios=K - 1 (its event_shape= would be one of many such vectors).
    Where an element of x is 0 the density is 0. Samples are pathwise; their elements are
    kept off 0, by the smallest normal number.

    Unlike the Dirichlet's its elements may go together, and what a network predicts of it is a Normal.
    Mean, mode, variance and entropy have no closed form; the median of x_i/x_K is exp(loc_i). KL is
    that of the Normals.

    Parameters, `(*batch, num_ratios)`, K - 1 of them: `loc`, real; `scale`, positive.

    Source: Aitchison and Shen (1980), "Logistic-normal distributions: some properties and uses".
    """

    loc: Array = param(supports.real, shape=("num_ratios",))
    scale: Array = param(supports.positive, shape=("num_ratios",))
    support = supports.simplex

    @property
    def event_shape(self) -> tuple[int, ...]:
        """One more than there are log-ratios."""
        return (self.loc.shape[-1] + 1,)

    @property
    def _ratios(self) -> MultivariateNormalDiag:
        """The distribution of the log-ratios."""
        return MultivariateNormalDiag(self.loc, self.scale)

    def _log_density(self, z: Array, log_value: Array) -> Array:
        """The log-density at a value of these logarithms, from its standardised log-ratios."""
        each = log_normal_pdf(z) - jnp.log(self.scale)
        return jnp.sum(each, axis=-1) - jnp.sum(log_value, axis=-1)

    def log_prob(self, value: Array) -> Array:
        never = jnp.any(value == 0, axis=-1)
        x = jnp.where(never[..., None], self.support.inside(value), value)
        return jnp.where(never, -jnp.inf, logistic_normal_log_pdf(x, self.loc, self.scale))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return self._draw(key, shape)[1]

    def sample_and_log_prob(self, key: Array, shape: tuple[int, ...] = ()) -> tuple[Array, Array]:
        z, value, log_value = self._draw(key, shape)
        return value, self._log_density(z, log_value)

    def _draw(self, key: Array, shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
        """Standard Normals, the values that they give, and the logarithms of those."""
        z = jax.random.normal(key, (*shape, *self.batch_shape, self.loc.shape[-1]), self.dtype)
        u = self.loc + self.scale * z
        logs = log_softmax(jnp.concatenate([u, jnp.zeros_like(u[..., :1])], axis=-1))
        return z, jnp.maximum(jnp.exp(logs), jnp.finfo(self.dtype).tiny), logs


@register_kl(LogisticNormal, LogisticNormal)
def _kl_logistic_normal(p: Any, q: Any) -> Array:
    return kl_divergence(p._ratios, q._ratios)
