"""Student's t over vectors."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, param
from likelax.distributions.base import Distribution
from likelax.distributions.gamma import sample_standard_gamma
from likelax.distributions.multivariate import _log_diagonal, _multiply, solve_lower
from likelax.numerics.gamma import digamma_step
from likelax.numerics.logspace import infinite_moment
from likelax.numerics.student_t import (
    LARGEST_DF,
    multivariate_t_log_kernel,
    multivariate_t_log_normalizer,
)


class MultivariateStudentT(Distribution):
    """Student's t over vectors: log p(x) = -(df + n)/2 log(1 + |z|^2/df) - log|L| + log Gamma((df +
    n)/2) - log Gamma(df/2) - n/2 log(pi df), z = L^-1 (x - loc), n elements.

    In nats. A Normal whose covariance L L^T is divided by one random number of mean 1 for all elements,
    a Gamma of concentration and rate df/2: vectors that are outliers as a whole. As df grows it
    becomes the Normal. L L^T is the scale matrix; the covariance is df/(df - 2) times it. The mean is
    NaN for df <= 1; the variance is infinite for 1 < df <= 2 and NaN below. Samples have pathwise
    gradients, in df the implicit one of the Gamma.

    Args:
      df: the degrees of freedom, `(*batch,)`, positive.
      loc: the mode, `(*batch, event)`, real.
      scale_tril: L, `(*batch, event, event)`, lower triangular with a positive diagonal; what stands
        above it is not read.

    Raises:
      ValueError: when the sizes of the event axes differ.

    Source: Kotz and Nadarajah (2004), Multivariate t Distributions and Their Applications, 1.1.
    """

    df: Array = param(supports.positive, typical=5.0)
    loc: Array = param(supports.real, shape=("event",))
    scale_tril: Array = param(supports.lower_cholesky, shape=("event", "event"))
    support = supports.real_vector

    def log_prob(self, value: Array) -> Array:
        difference = value - self.loc
        # An infinite element would meet zeros of the factor.
        infinite = jnp.isinf(difference)
        z = solve_lower(self.scale_tril, jnp.where(infinite, 0, difference))
        log_prob = self._log_peak() - multivariate_t_log_kernel(z, self.df)
        return jnp.where(jnp.any(infinite, axis=-1) & ~jnp.isnan(log_prob), -jnp.inf, log_prob)

    def _log_peak(self) -> Array:
        """log p(loc)."""
        normalizer = multivariate_t_log_normalizer(self.df, self.loc.shape[-1])
        return normalizer - _log_diagonal(self.scale_tril)

    @property
    def _held_df(self) -> Array:
        """df, one that is infinite as a number."""
        return jnp.where(self.df > LARGEST_DF, LARGEST_DF, self.df)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        key_normal, key_gamma = jax.random.split(key)
        z = jax.random.normal(key_normal, self._shape(shape), self.dtype)
        m = 0.5 * self._held_df
        _, log_gamma = sample_standard_gamma(key_gamma, m, z.shape[:-1])
        stretch = jnp.exp(0.5 * (jnp.log(m) - log_gamma))
        return self.loc + stretch[..., None] * _multiply(jnp.tril(self.scale_tril), z)

    def mean(self) -> Array:
        return jnp.where((self.df > 1)[..., None], self.loc, jnp.nan)

    def mode(self) -> Array:
        return self.loc

    def variance(self) -> Array:
        df = self.df[..., None]
        finite = df > 2
        scale = jnp.sum(jnp.tril(self.scale_tril) ** 2, axis=-1)
        variance = scale * (1 + 2 / jnp.where(finite, df - 2, 1))
        return jnp.where(finite, variance, jnp.where(df > 1, infinite_moment(scale), jnp.nan))

    def entropy(self) -> Array:
        size, m = self.loc.shape[-1], 0.5 * self._held_df
        # E[log(1 + |z|^2/df)]
        step = digamma_step(m, jnp.full_like(m, 0.5 * size))
        return (m + 0.5 * size) * step - self._log_peak()
