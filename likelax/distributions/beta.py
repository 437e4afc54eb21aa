"""Families on the unit interval: the Beta and the Kumaraswamy."""

from __future__ import annotations

import math

import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, param
from likelax.distributions._invert import open_uniform
from likelax.distributions.base import Distribution
from likelax.distributions.extremes import log_upper_tail
from likelax.distributions.gamma import (
    entropy_excess,
    log_minus_digamma,
    sample_standard_gamma,
)
from likelax.distributions.kl import register_kl
from likelax.numerics.concentrations import dirichlet_divergence
from likelax.numerics.densities import beta_log_pdf
from likelax.numerics.gamma import harmonic
from likelax.numerics.incomplete import log_beta_tails
from likelax.numerics.inverses import betainc_inverse
from likelax.numerics.kumaraswamy import kumaraswamy_log_moments
from likelax.numerics.logspace import divide, log1mexp, sigmoid
from likelax.numerics.powers import (
    kumaraswamy_log_hazard,
    kumaraswamy_log_pdf,
    log_one_minus_power,
)

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class Beta(Distribution):
    """The Beta distribution: log p(x) = (a - 1) log x + (b - 1) log(1 - x) - log B(a, b), 0 <= x <=
    1.

    a = concentration1 pulls towards 1, b = concentration0 towards 0. At the ends the density is its
    limit. Samples are kept off the ends, by the smallest normal number at 0 and by half an eps at
    1, since the density there may be infinite.

    Parameters, of the batch's shape: `concentration1` and `concentration0`, positive.
    """

    concentration1: Array = param(supports.positive)
    concentration0: Array = param(supports.positive)

    support = supports.unit_interval

    @property
    def _total(self) -> Array:
        return self.concentration1 + self.concentration0

    def log_prob(self, value: Array) -> Array:
        return beta_log_pdf(value, self.concentration1, self.concentration0)

    def _log_tails(self, value: Array) -> tuple[Array, Array]:
        return log_beta_tails(self.concentration1, self.concentration0, value)

    def log_cdf(self, value: Array) -> Array:
        return self._log_tails(value)[0]

    def log_survival(self, value: Array) -> Array:
        return self._log_tails(value)[1]

    def quantile(self, q: Array) -> Array:
        return betainc_inverse(self.concentration1, self.concentration0, q)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        # Both at once: a sampler is compiled for each call.
        shape = self._shape(shape)
        pair = [jnp.broadcast_to(a, shape) for a in (self.concentration1, self.concentration0)]
        _, (log1, log0) = sample_standard_gamma(key, jnp.stack(pair), (2, *shape))
        info = jnp.finfo(self.dtype)
        return jnp.clip(sigmoid(log1 - log0), info.tiny, 1 - info.epsneg)

    def mean(self) -> Array:
        return divide(self.concentration1, self._total)

    def mode(self) -> Array:
        """Where the density peaks: an end if one concentration is at most 1, 1/2 for Beta(1, 1),
        NaN if both are below 1.
        """
        a, b = self.concentration1, self.concentration0
        peaked = (a > 1) & (b > 1)
        middle = (a - 1) / jnp.where(peaked, a + b - 2, 1.0)
        at_end = jnp.where(a > b, 1.0, 0.0)
        flat = jnp.where((a == 1) & (b == 1), 0.5, at_end)
        # A NaN on either side stays one.
        flat = jnp.where(((a < 1) & (b < 1)) | jnp.isnan(a + b), jnp.nan, flat)
        return jnp.where(peaked, middle, flat)

    def variance(self) -> Array:
        n = self._total
        return divide(self.concentration1, n) * divide(self.concentration0, n) / (n + 1)

    def entropy(self) -> Array:
        a, b, n = self.concentration1, self.concentration0, self._total
        leading = 0.5 * (jnp.log(a) + jnp.log(b) - 3 * jnp.log(n)) + _LOG_SQRT_2PI
        excess = entropy_excess(a) + entropy_excess(b) - entropy_excess(n)
        return leading + excess + log_minus_digamma(n)


@register_kl(Beta, Beta)
def _kl_beta(p: Beta, q: Beta) -> Array:
    both = (jnp.broadcast_arrays(d.concentration1, d.concentration0) for d in (p, q))
    return dirichlet_divergence(*(jnp.stack(pair, -1) for pair in both))


class Kumaraswamy(Distribution):
    """The Kumaraswamy distribution: log p(x) = log(a b) + (a - 1) log x + (b - 1) log(1 - x^a), 0 <=
    x <= 1: P(X > x) = (1 - x^a)^b.

    Near the Beta in shape, a = concentration1 and b = concentration0, with a quantile in closed
    form, so that samples have pathwise gradients by themselves. At the ends the density is its
    limit; samples are kept off them as the Beta's are.

    Parameters, of the batch's shape: `concentration1` and `concentration0`, positive.

    Source: Kumaraswamy (1980), "A generalized probability density function for double-bounded
      random processes".
    """

    concentration1: Array = param(supports.positive)
    concentration0: Array = param(supports.positive)

    support = supports.unit_interval

    def log_prob(self, value: Array) -> Array:
        return kumaraswamy_log_pdf(value, self.concentration1, self.concentration0)

    def log_cdf(self, value: Array) -> Array:
        log_hazard = kumaraswamy_log_hazard(value, self.concentration1, self.concentration0)
        return log_upper_tail(-log_hazard)

    def log_survival(self, value: Array) -> Array:
        return self.concentration0 * log_one_minus_power(value, self.concentration1)

    def _at_age(self, hazard: Array) -> Array:
        """The value at which so much hazard has been passed."""
        log_power = log1mexp(divide(hazard, self.concentration0))
        return jnp.exp(divide(log_power, self.concentration1))

    def quantile(self, q: Array) -> Array:
        return self._at_age(-jnp.log1p(-q))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        info = jnp.finfo(self.dtype)
        draws = self._at_age(-jnp.log(open_uniform(key, self._shape(shape), self.dtype)))
        return jnp.clip(draws, info.tiny, 1 - info.epsneg)

    def _log_moments(self) -> tuple[Array, Array]:
        return kumaraswamy_log_moments(self.concentration1, self.concentration0)

    def mean(self) -> Array:
        return jnp.exp(self._log_moments()[0])

    def mode(self) -> Array:
        """Where the density peaks, as `Beta.mode` has it."""
        a, b = self.concentration1, self.concentration0
        peaked = (a > 1) & (b > 1)
        a_, b_ = jnp.where(peaked, a, 2.0), jnp.where(peaked, b, 2.0)
        middle = jnp.exp(jnp.log((a_ - 1) / (a_ * b_ - 1)) / a_)
        flat = jnp.where((a == 1) & (b == 1), 0.5, jnp.where(a > b, 1.0, 0.0))
        # A NaN on either side stays one.
        flat = jnp.where(((a < 1) & (b < 1)) | jnp.isnan(a + b), jnp.nan, flat)
        return jnp.where(peaked, middle, flat)

    def variance(self) -> Array:
        log_mean, log_ratio = self._log_moments()
        # E[X^2] (1 - E[X]^2 / E[X^2]): the square of the mean alone may underflow.
        return jnp.exp(2 * log_mean + log_ratio) * -jnp.expm1(-log_ratio)

    def entropy(self) -> Array:
        a, b = self.concentration1, self.concentration0
        excess = 1 - divide(1.0, b) + (1 - divide(1.0, a)) * harmonic(b)
        return excess - jnp.log(a) - jnp.log(b)
