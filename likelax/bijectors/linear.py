"""Linear bijectors of vectors."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, param
from likelax.bijectors.base import Bijector

# One matrix may serve many vectors: vmap keeps it one.
_solve_lower = jnp.vectorize(
    functools.partial(jax.scipy.linalg.solve_triangular, lower=True), signature="(d,d),(d)->(d)"
)


class TriangularAffine(Bijector):
    """y = shift + L x for lower triangular L, log-determinant sum log |L_ii|.

    Args:
      shift: real vector, shape `(*batch, d)`.
      scale_tril: L, shape `(*batch, d, d)`; what stands above its diagonal is not read.
    """

    domain = supports.real_vector
    codomain = supports.real_vector
    is_affine = True
    shift: Array = param(supports.real, shape=("event",))
    scale_tril: Array = param(supports.lower_cholesky, shape=("event", "event"))

    @property
    def _log_det(self) -> Array:
        diagonal = jnp.diagonal(self.scale_tril, axis1=-2, axis2=-1)
        return jnp.sum(jnp.log(jnp.abs(diagonal)), axis=-1)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        lower = jnp.tril(self.scale_tril)
        product = jnp.einsum("...ij,...j->...i", lower, x, precision=jax.lax.Precision.HIGHEST)
        return self.shift + product, self._log_det

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        return _solve_lower(self.scale_tril, y - self.shift), -self._log_det

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        size = self.shift.shape[-1]
        if shape[-1:] != (size,):
            raise ValueError(
                f"TriangularAffine maps vectors of length {size}, got shape {tuple(shape)}"
            )
        return tuple(shape)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.forward_shape(shape)
