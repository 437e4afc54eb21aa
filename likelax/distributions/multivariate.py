"""Normal distributions over vectors."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, add_axes, param
from likelax.distributions.base import Distribution
from likelax.distributions.kl import register_kl
from likelax.distributions.normal import normal_scale_kl, scaled_log_prob
from likelax.numerics.divergences import square_ratio_excess
from likelax.numerics.logspace import divide, exp_of_log_scale, standardize

_LOG_2PI = math.log(2 * math.pi)


def _transposed(matrix: Array) -> Array:
    return jnp.swapaxes(matrix, -2, -1)


def _multiply(matrix: Array, vector: Array) -> Array:
    # Named axes: a matrix that all samples share is not copied for each. Full precision: an
    # accelerator's default would leave three digits.
    return jnp.einsum("...ij,...j->...i", matrix, vector, precision="highest")


def solve_lower(tril: Array, vector: Array, *, transpose: bool = False) -> Array:
    """tril^-1 vector, or tril^-T vector, for vectors (*sample, *batch, event) and tril (*batch,
    event, event).

    The vectors that share a matrix are the columns of one right-hand side.
    """
    batch, lead = tril.ndim - 2, vector.ndim - 1
    extra = lead - batch
    sizes = (1,) * extra + tril.shape[:batch]
    shape = jnp.broadcast_shapes(vector.shape[:-1], sizes)
    own = [i for i in range(lead) if sizes[i] != 1]
    shared = [i for i in range(lead) if sizes[i] == 1]
    order = [*own, lead, *shared]
    columns = jnp.broadcast_to(vector, (*shape, vector.shape[-1])).transpose(order)
    side = columns.reshape(columns.shape[: len(own) + 1] + (-1,))
    matrix = jnp.squeeze(tril, tuple(i - extra for i in shared if i >= extra))
    solved = jax.lax.linalg.triangular_solve(
        matrix, side, left_side=True, lower=True, transpose_a=transpose
    )
    return solved.reshape(columns.shape).transpose([order.index(i) for i in range(lead + 1)])


def _inverse_of_lower(tril: Array) -> Array:
    eye = jnp.broadcast_to(jnp.eye(tril.shape[-1], dtype=tril.dtype), tril.shape)
    return jax.lax.linalg.triangular_solve(tril, eye, left_side=True, lower=True)


def _product(left: Array, right: Array) -> Array:
    return jnp.matmul(left, right, precision="highest")


def _from_precision(precision: Array) -> Array:
    """The Cholesky factor of precision^-1: of P = U U^T with U upper triangular it is U^-T."""
    flipped = jnp.linalg.cholesky(jnp.flip(precision, (-2, -1)))
    return _inverse_of_lower(_transposed(jnp.flip(flipped, (-2, -1))))


def _to_precision(tril: Array) -> Array:
    inverse = _inverse_of_lower(jnp.tril(tril))
    return _product(_transposed(inverse), inverse)


def _to_covariance(tril: Array) -> Array:
    tril = jnp.tril(tril)
    return _product(tril, _transposed(tril))


def _log_diagonal(matrix: Array) -> Array:
    """The sum of the logarithms of the diagonal: log|matrix| of a triangular one."""
    return jnp.sum(jnp.log(jnp.diagonal(matrix, axis1=-2, axis2=-1)), axis=-1)


class MultivariateNormal(Distribution):
    """The Normal over vectors: log p(x) = -|z|^2/2 - log|L| - (d/2) log(2 pi), z = L^-1 (x - loc),
    covariance L L^T.

    In nats. The covariance is given in one of three ways, by keyword; each of them can be read,
    whichever was given. With `precision` the density needs neither its inverse nor a solve.

    Args:
      loc: the mean, `(*batch, event)`, real.
      scale_tril: L, `(*batch, event, event)`, lower triangular with a positive diagonal; what
        stands above it is not read.
      covariance: L L^T, symmetric and positive definite; its gradient is symmetric too.
      precision: the inverse of the covariance, symmetric and positive definite.

    Raises:
      TypeError: unless exactly one of the three is given.
      ValueError: when the sizes of the event axes differ.
    """

    loc: Array = param(supports.real, shape=("event",))
    scale_tril: Array = param(
        supports.lower_cholesky, shape=("event", "event"), default=None, kw_only=True
    )
    covariance: Array = param(
        supports.positive_definite,
        shape=("event", "event"),
        default=None,
        instead_of="scale_tril",
        to=jnp.linalg.cholesky,
        back=_to_covariance,
    )
    precision: Array = param(
        supports.positive_definite,
        shape=("event", "event"),
        default=None,
        instead_of="scale_tril",
        to=_from_precision,
        back=_to_precision,
    )
    support = supports.real_vector

    def _factor(self) -> Array:
        return jnp.tril(self.scale_tril)

    def _unscale(self, vector: Array) -> Array:
        return solve_lower(self.scale_tril, vector)

    def log_prob(self, value: Array) -> Array:
        difference = value - self.loc
        # An infinite element would meet zeros of the factor.
        infinite = jnp.isinf(difference)
        difference = jnp.where(infinite, 0, difference)
        if self.given("precision"):
            factor = jnp.linalg.cholesky(self.precision)
            z, log_det = _multiply(_transposed(factor), difference), -_log_diagonal(factor)
        else:
            factor = self.scale_tril
            z, log_det = solve_lower(factor, difference), _log_diagonal(factor)
        log_prob = -0.5 * (jnp.sum(z**2, axis=-1) + value.shape[-1] * _LOG_2PI) - log_det
        return jnp.where(jnp.any(infinite, axis=-1) & ~jnp.isnan(log_prob), -jnp.inf, log_prob)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        z = jax.random.normal(key, self._shape(shape), self.dtype)
        if self.given("precision"):
            return self.loc + solve_lower(jnp.linalg.cholesky(self.precision), z, transpose=True)
        return self.loc + _multiply(self._factor(), z)

    def mean(self) -> Array:
        return self.loc

    def mode(self) -> Array:
        return self.loc

    def variance(self) -> Array:
        if self.given("covariance"):
            return jnp.diagonal(self.covariance, axis1=-2, axis2=-1)
        return jnp.sum(self._factor() ** 2, axis=-1)

    def _log_det(self) -> Array:
        if self.given("precision"):
            return -_log_diagonal(jnp.linalg.cholesky(self.precision))
        return _log_diagonal(self.scale_tril)

    def entropy(self) -> Array:
        return 0.5 * self.loc.shape[-1] * (1 + _LOG_2PI) + self._log_det()


class MultivariateNormalDiag(Distribution):
    """The Normal over vectors of independent elements: log p(x) = sum_i [-z_i^2/2 - log scale_i -
    log(2 pi)/2], z = (x - loc)/scale.

    In nats.

    Args:
      loc: the mean, `(*batch, event)`, real.
      scale: the standard deviation of each element, `(*batch, event)`, positive.
      log_scale: its logarithm, instead of it.
    """

    loc: Array = param(supports.real, shape=("event",))
    scale: Array = param(supports.positive, shape=("event",), default=None)
    log_scale: Array = param(
        supports.log_positive,
        shape=("event",),
        default=None,
        instead_of="scale",
        to=exp_of_log_scale,
        back=jnp.log,
    )
    support = supports.real_vector

    @property
    def covariance(self) -> Array:
        """The diagonal covariance matrix, `(*batch, event, event)`."""
        return self._factor() ** 2

    def _factor(self) -> Array:
        return self.scale[..., None] * jnp.eye(self.scale.shape[-1], dtype=self.scale.dtype)

    def _unscale(self, vector: Array) -> Array:
        return divide(vector, self.scale)

    def log_prob(self, value: Array) -> Array:
        return jnp.sum(scaled_log_prob(self, value), axis=-1)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return self.loc + self.scale * jax.random.normal(key, self._shape(shape), self.dtype)

    def mean(self) -> Array:
        return self.loc

    def mode(self) -> Array:
        return self.loc

    def variance(self) -> Array:
        return self.scale**2

    def stddev(self) -> Array:
        return self.scale

    def entropy(self) -> Array:
        return jnp.sum(0.5 * (1 + _LOG_2PI) + self.log_scale, axis=-1)


@register_kl(MultivariateNormal, MultivariateNormal)
@register_kl(MultivariateNormal, MultivariateNormalDiag)
@register_kl(MultivariateNormalDiag, MultivariateNormal)
def _kl_normal(p: Any, q: Any) -> Array:
    """[tr(Q^-1 P) - d + |Lq^-1 (mu_p - mu_q)|^2]/2 + log|Lq| - log|Lp|.

    The factor M = Lq^-1 Lp has the ratios of the diagonals on its own, so that the trace, d and the
    logarithms go together element by element and nothing cancels.
    """
    rank = max(p.batch_ndim, q.batch_ndim)
    p, q = add_axes(p, rank - p.batch_ndim), add_axes(q, rank - q.batch_ndim)
    a, b = p._factor(), q._factor()
    columns = q._unscale(jnp.moveaxis(a, -1, 0))
    size = a.shape[-1]
    rows, batch = jnp.arange(size), (1,) * (columns.ndim - 2)
    below = rows > rows.reshape((size, *batch, 1))
    off_diagonal = jnp.sum(jnp.where(below, columns, 0) ** 2, axis=(0, -1))
    diagonal = square_ratio_excess(
        jnp.diagonal(a, axis1=-2, axis2=-1), jnp.diagonal(b, axis1=-2, axis2=-1)
    )
    z = q._unscale(p.loc - q.loc)
    return jnp.sum(diagonal, axis=-1) + 0.5 * (off_diagonal + jnp.sum(z**2, axis=-1))


@register_kl(MultivariateNormalDiag, MultivariateNormalDiag)
def _kl_diagonal(p: MultivariateNormalDiag, q: MultivariateNormalDiag) -> Array:
    z = standardize(p.loc, q.loc, q.scale)
    return jnp.sum(normal_scale_kl(p, q) + 0.5 * z**2, axis=-1)
