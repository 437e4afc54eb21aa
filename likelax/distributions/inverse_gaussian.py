"""The inverse Gaussian: when a Brownian motion with drift first reaches a level."""

from __future__ import annotations

import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, param
from likelax.distributions._invert import quantile_from_tails
from likelax.distributions.base import Distribution, at_least_tiny
from likelax.distributions.kl import register_kl
from likelax.numerics.divergences import ratio_excess
from likelax.numerics.inverse_gaussian import (
    inverse_gaussian_cdf,
    inverse_gaussian_deviance,
    inverse_gaussian_entropy,
    inverse_gaussian_log_cdf,
    inverse_gaussian_log_pdf,
    inverse_gaussian_log_survival,
    inverse_gaussian_survival,
    sample_inverse_gaussian,
)
from likelax.numerics.logspace import divide


class InverseGaussian(Distribution):
    """The inverse Gaussian (Wald) distribution: log p(x) = log(lambda/(2 pi x^3))/2 - lambda (x -
    mu)^2/(2 mu^2 x), x > 0, mu = `loc` and lambda = `concentration`.

    The mean is `loc`, the variance loc^3/concentration. SciPy's `invgauss(mu, scale=s)` has loc = mu
    s and concentration = s. `quantile` inverts the cdf to the last bit; it and the samples have the
    implicit derivative.

    Parameters, of the batch's shape: `loc` and `concentration`, positive.

    Source: Tweedie (1957), "Statistical properties of inverse Gaussian distributions".
    """

    loc: Array = param(supports.positive)
    concentration: Array = param(supports.positive)

    support = supports.positive

    def _inside(self, like: Array) -> Array:
        return at_least_tiny(self.loc)

    def log_prob(self, value: Array) -> Array:
        return inverse_gaussian_log_pdf(value, self.loc, self.concentration)

    def log_cdf(self, value: Array) -> Array:
        return inverse_gaussian_log_cdf(value, self.loc, self.concentration)

    def log_survival(self, value: Array) -> Array:
        return inverse_gaussian_log_survival(value, self.loc, self.concentration)

    def cdf(self, value: Array) -> Array:
        return inverse_gaussian_cdf(value, self.loc, self.concentration)

    def survival(self, value: Array) -> Array:
        return inverse_gaussian_survival(value, self.loc, self.concentration)

    def quantile(self, q: Array) -> Array:
        return quantile_from_tails(self, q)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return sample_inverse_gaussian(key, self.loc, self.concentration, self._shape(shape))

    def mean(self) -> Array:
        return self.loc

    def mode(self) -> Array:
        # mu (sqrt(1 + k^2) - k), k = 3 mu / (2 lambda), without a difference; lambda / 3 far out.
        far = self.loc > 1e8 * self.concentration
        k = 1.5 * divide(jnp.where(far, self.concentration, self.loc), self.concentration)
        return jnp.where(far, self.concentration / 3, self.loc / (k + jnp.sqrt(1 + k * k)))

    def variance(self) -> Array:
        return self.stddev() ** 2

    def stddev(self) -> Array:
        return self.loc * (jnp.sqrt(self.loc) / jnp.sqrt(self.concentration))

    def entropy(self) -> Array:
        return inverse_gaussian_entropy(self.loc, self.concentration)


@register_kl(InverseGaussian, InverseGaussian)
def _kl_inverse_gaussian(p: InverseGaussian, q: InverseGaussian) -> Array:
    # E[X] = mu and E[1/X] = 1/mu + 1/lambda.
    of_concentrations = ratio_excess(q.concentration, p.concentration)
    return 0.5 * of_concentrations + inverse_gaussian_deviance(p.loc, q.loc, q.concentration)
