"""The exponential integral E1(y), the integral of exp(-t)/t over t > y."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._rules import terms, with_partials
from likelax.numerics.logspace import as_floats

_EULER = 0.57721566490153286


def scaled_exponential_integral(y: Array) -> Array:
    """y exp(y) E1(y) for y >= 1, by the continued fraction (DLMF 6.9.1)."""
    total = jnp.zeros_like(y)
    for k in reversed(range(1, terms(y, 24, 90))):
        total = k * k / (y + (2 * k + 1) - total)
    return y / (y + 1.0 - total)


def exponential_integral_and_log(y: Array) -> Array:
    """E1(y) + log y for y < 1 (DLMF 6.6.2)."""
    total, term = jnp.zeros_like(y), jnp.ones_like(y)
    for k in range(1, terms(y, 12, 22)):
        term = term * y * (-1.0 / k)
        total = total - term / k
    return total - _EULER


@with_partials(lambda y: -jnp.exp(-y) / y)
def _exponential_integral(y):
    near = y < 1
    low, high = jnp.where(near, y, 0.5), jnp.where(near, 1.0, y)
    rest = jnp.exp(-high) * scaled_exponential_integral(high) / high
    return jnp.where(near, exponential_integral_and_log(low) - jnp.log(low), rest)


def exponential_integral(y: ArrayLike) -> Array:
    """E1(y) for y > 0. Derivative -exp(-y)/y."""
    return _exponential_integral(*as_floats(y))
