"""The Dirichlet distribution over vectors of probabilities."""

from __future__ import annotations

import math

import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, param
from likelax.distributions.base import Distribution
from likelax.distributions.gamma import (
    entropy_excess,
    log_minus_digamma,
    sample_standard_gamma,
    stirling_bregman,
)
from likelax.distributions.kl import register_kl
from likelax.numerics.densities import dirichlet_log_pdf
from likelax.numerics.deviance import deviance
from likelax.numerics.logspace import divide, log_softmax

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
        return jnp.maximum(jnp.exp(log_softmax(logs)), jnp.finfo(self.dtype).tiny)

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
    if p.event_shape != q.event_shape:
        raise ValueError(f"KL: event shapes {p.event_shape} and {q.event_shape} differ")
    a, b, total_p, total_q = q.concentration, p.concentration, p._total, q._total
    shares = deviance(a, total_q[..., None] * divide(b, total_p[..., None]))
    each = jnp.sum(shares + stirling_bregman(a, b), axis=-1)
    return each - stirling_bregman(total_q, total_p)
