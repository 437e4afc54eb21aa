"""The Normal over vectors whose covariance is a diagonal and a few factors, and the divergences
between all kinds of Normals over vectors.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, add_axes, param
from likelax.distributions.base import Distribution, Independent
from likelax.distributions.kl import kl_divergence, no_formula, register_kl
from likelax.distributions.multivariate import (
    MultivariateNormal,
    MultivariateNormalDiag,
)
from likelax.distributions.normal import Normal
from likelax.numerics.divergences import square_ratio_excess
from likelax.numerics.logspace import divide
from likelax.numerics.low_rank import low_rank_leverage, low_rank_log_gain, low_rank_square

_LOG_2PI = math.log(2 * math.pi)


class LowRankMultivariateNormal(Distribution):
    """The Normal over vectors of covariance S = W W^T + diag(d): log p(x) = -(x - loc)^T S^-1 (x -
    loc)/2 - log|S|/2 - (n/2) log(2 pi).

    In nats. What n elements have in common is said by r factors, n (r + 1) numbers instead of
    n (n + 1)/2: the marginal of factor analysis and of probabilistic PCA. The work is n r^2, and no
    n x n matrix is formed (`.covariance` forms it).

    W and its columns with another sign or turned among themselves give one and the same
    distribution, so at W = 0 the density has no slope in W: a network should not put out zeros for it
    alone.

    Args:
      loc: the mean, `(*batch, event)`, real.
      cov_factor: W, `(*batch, event, rank)`, real; any rank.
      cov_diag: d, `(*batch, event)`, positive: variances, not standard deviations.

    Raises:
      ValueError: when the sizes of the event axes differ.

    Source: Golub and Van Loan, Matrix Computations, 5.3: a thin QR of [W/sqrt(d); I].
    """

    loc: Array = param(supports.real, shape=("event",))
    cov_factor: Array = param(supports.real, shape=("event", "rank"))
    cov_diag: Array = param(supports.positive, shape=("event",))
    support = supports.real_vector

    @property
    def _scale(self) -> Array:
        """The standard deviations of what each element has for itself."""
        return jnp.sqrt(self.cov_diag)

    @property
    def covariance(self) -> Array:
        """W W^T + diag(d), `(*batch, event, event)`."""
        w, size = self.cov_factor, self.cov_diag.shape[-1]
        shared = jnp.matmul(w, jnp.swapaxes(w, -2, -1), precision="highest")
        return shared + self.cov_diag[..., None] * jnp.eye(size, dtype=self.dtype)

    def log_prob(self, value: Array) -> Array:
        # An infinite element would meet zeros of the factors.
        infinite = jnp.isinf(value - self.loc)
        x, loc = jnp.where(infinite, 0, value), jnp.where(infinite, 0, self.loc)
        square = low_rank_square(x, loc, self.cov_factor, self._scale)
        log_prob = -0.5 * (square + value.shape[-1] * _LOG_2PI) - self._log_det()
        return jnp.where(jnp.any(infinite, axis=-1) & ~jnp.isnan(log_prob), -jnp.inf, log_prob)

    def _log_det(self) -> Array:
        return low_rank_log_gain(self.cov_factor, self._scale) + 0.5 * jnp.sum(
            jnp.log(self.cov_diag), axis=-1
        )

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        key_shared, key_own = jax.random.split(key)
        own = jax.random.normal(key_own, self._shape(shape), self.dtype)
        rank = self.cov_factor.shape[-1]
        shared = jax.random.normal(key_shared, (*own.shape[:-1], rank), self.dtype)
        common = jnp.einsum("...nr,...r->...n", self.cov_factor, shared, precision="highest")
        return self.loc + common + self._scale * own

    def mean(self) -> Array:
        return self.loc

    def mode(self) -> Array:
        return self.loc

    def variance(self) -> Array:
        return jnp.sum(self.cov_factor**2, axis=-1) + self.cov_diag

    def entropy(self) -> Array:
        return 0.5 * self.loc.shape[-1] * (1 + _LOG_2PI) + self._log_det()


# ---- divergences ----


def _with_factors(p: Distribution) -> tuple[Array, Array, Array]:
    """(loc, W, s) of a Normal that is diagonal but for low rank."""
    if isinstance(p, LowRankMultivariateNormal):
        return p.loc, p.cov_factor, p._scale
    assert isinstance(p, MultivariateNormalDiag)
    return p.loc, jnp.zeros((*p.scale.shape, 1), p.dtype), p.scale


def _columns(matrix: Array) -> Array:
    """The columns of matrices, as vectors along a new first axis."""
    return jnp.moveaxis(matrix, -1, 0)


def _aligned(p: Any, q: Any) -> tuple[Any, Any]:
    rank = max(p.batch_ndim, q.batch_ndim)
    return add_axes(p, rank - p.batch_ndim), add_axes(q, rank - q.batch_ndim)


@register_kl(LowRankMultivariateNormal, LowRankMultivariateNormal)
@register_kl(LowRankMultivariateNormal, MultivariateNormalDiag)
@register_kl(MultivariateNormalDiag, LowRankMultivariateNormal)
def _kl_low_rank(p: Any, q: Any) -> Array:
    """[tr(Q^-1 P) - n + |mu_p - mu_q|^2 in Q^-1 + log|Q| - log|P|]/2, the diagonals' share of it
    element by element, so that nothing cancels there.
    """
    p, q = _aligned(p, q)
    (loc_p, w_p, s_p), (loc_q, w_q, s_q) = _with_factors(p), _with_factors(q)
    own = square_ratio_excess(s_p, s_q) - 0.5 * low_rank_leverage(w_q, s_q) * divide(s_p, s_q) ** 2
    common = jnp.sum(low_rank_square(_columns(w_p), jnp.zeros_like(loc_q), w_q, s_q), axis=0)
    gain = low_rank_log_gain(w_q, s_q) - low_rank_log_gain(w_p, s_p)
    square = low_rank_square(loc_p, loc_q, w_q, s_q)
    return jnp.sum(own, axis=-1) + 0.5 * (common + square) + gain


@register_kl(MultivariateNormal, LowRankMultivariateNormal)
def _kl_to_low_rank(p: MultivariateNormal, q: LowRankMultivariateNormal) -> Array:
    p, q = _aligned(p, q)
    _, w, s = _with_factors(q)
    spread = jnp.sum(low_rank_square(_columns(p._factor()), jnp.zeros_like(q.loc), w, s), axis=0)
    square = low_rank_square(p.loc, q.loc, w, s)
    return 0.5 * (spread - s.shape[-1] + square) + (q._log_det() - p._log_det())


@register_kl(LowRankMultivariateNormal, MultivariateNormal)
def _kl_from_low_rank(p: LowRankMultivariateNormal, q: MultivariateNormal) -> Array:
    p, q = _aligned(p, q)
    own = p._scale[..., None] * jnp.eye(p.event_shape[0], dtype=p.dtype)
    batch = jnp.broadcast_shapes(own.shape[:-2], p.cov_factor.shape[:-2])
    parts = [jnp.broadcast_to(part, (*batch, *part.shape[-2:])) for part in (p.cov_factor, own)]
    spread = jnp.sum(q._unscale(_columns(jnp.concatenate(parts, axis=-1))) ** 2, axis=(0, -1))
    square = jnp.sum(q._unscale(p.loc - q.loc) ** 2, axis=-1)
    return 0.5 * (spread - p.event_shape[0] + square) + (q._log_det() - p._log_det())


def _as_vector(p: Independent) -> MultivariateNormalDiag | None:
    """Independent Normals as one over vectors; None of others."""
    if not isinstance(p.base, Normal) or p.ndims != 1:
        return None
    base = p.base.broadcast_to(p.base.batch_shape)
    return MultivariateNormalDiag(**vars(base))


def _kl_from_independent(p: Independent, q: Any) -> Array:
    vector = _as_vector(p)
    return no_formula(p, q) if vector is None else kl_divergence(vector, q)


def _kl_to_independent(p: Any, q: Independent) -> Array:
    vector = _as_vector(q)
    return no_formula(p, q) if vector is None else kl_divergence(p, vector)


for _family in (MultivariateNormal, MultivariateNormalDiag, LowRankMultivariateNormal):
    register_kl(Independent, _family)(_kl_from_independent)
    register_kl(_family, Independent)(_kl_to_independent)
