"""Series and quadrature shared by the rooms of `likelax.numerics`."""

import decimal
import functools
import math

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
    """Nodes and weights of the Gauss-Legendre rule on [0, 1], each of shape (count,), in float64.

    Newton's steps on the Legendre polynomial in 30 digits: numpy's own weights err by 1e-14, which
    is a hundred eps of an integral.
    """
    nodes, weights = [], []
    with decimal.localcontext(prec=30):
        for k in range(count):
            x = decimal.Decimal(-math.cos(math.pi * (k + 0.75) / (count + 0.5)))
            for _ in range(6):
                before, value = decimal.Decimal(1), x
                for n in range(2, count + 1):
                    before, value = value, ((2 * n - 1) * x * value - (n - 1) * before) / n
                slope = count * (before - x * value) / (1 - x * x)
                x -= value / slope
            nodes.append(float((1 + x) / 2))
            weights.append(float(1 / ((1 - x * x) * slope * slope)))
    return np.array(nodes), np.array(weights)
