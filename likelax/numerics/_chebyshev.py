"""Series and quadrature shared by the rooms of `likelax.numerics`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


@functools.partial(jax.jit, static_argnums=(0, 2))
def chebyshev(coefficients: tuple[float, ...], t: Array, single: int) -> Array:
    """sum_k coefficients[k] T_k(t) for -1 <= t <= 1, by Clenshaw's recurrence (float32: the first
    `single`).
    """
    if t.dtype == jnp.float32:
        coefficients = coefficients[:single]
    previous = current = jnp.zeros_like(t)
    for coefficient in coefficients[:0:-1]:
        previous, current = current, 2.0 * t * current - previous + coefficient
    return t * current - previous + coefficients[0]


@functools.partial(jax.jit, static_argnums=(0, 2))
def horner(coefficients: tuple[float, ...], y: Array, single: int) -> Array:
    """sum_k coefficients[k] y^k (float32: the first `single`)."""
    if y.dtype == jnp.float32:
        coefficients = coefficients[:single]
    total = jnp.full_like(y, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * y + coefficient
    return total


@functools.cache
def gauss_legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the Gauss-Legendre rule on [0, 1], each of shape (count,), in float64."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (nodes + 1.0) / 2.0, weights / 2.0
