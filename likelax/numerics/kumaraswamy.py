"""Moments of the Kumaraswamy, by differences of log B that are integrals of its derivatives."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._chebyshev import gauss_legendre
from likelax.numerics._rules import terms
from likelax.numerics.gamma import digamma_step, log_beta, stirling
from likelax.numerics.logspace import as_floats, divide

# Up to here the nodes are enough; beyond it the differences are not small but for a tiny b.
_LARGEST_STEP = 20.0


def _trigamma_fall(x: Array, step: Array) -> Array:
    """trigamma(x) - trigamma(x + step) > 0 for x >= 1, also where step is far below x."""
    top = x + step
    small = step < 0.05
    plain = stirling(2)(x) - stirling(2)(top)
    inner = jnp.where(small, step, 0.0)
    nodes = (x + inner * node for node in gauss_legendre(2)[0].tolist())
    near = -0.5 * step * sum(stirling(3)(node) for node in nodes)
    return (step / top) / x * (1.0 + 0.5 / top + 0.5 / x) + jnp.where(small, near, plain)


def _differences(h: Array, b: Array) -> tuple[Array, Array]:
    """f(h) - f(0) and f(2 h) - 2 f(h) + f(0), f(s) = log B(1 + s, b): f' < 0 integrated, and f'' > 0
    under a triangle.
    """
    nodes, weights = (jnp.asarray(v, h.dtype) for v in gauss_legendre(terms(h, 16, 28)))
    h, b, length = h[..., None], b[..., None], jnp.log1p(h)[..., None]
    # Rising, in the logarithm of 1 + s; falling, where 1 + s moves by less than a factor of 2.
    s = jnp.expm1(nodes * length)
    up, down = 1.0 + s, 1.0 + h * (2.0 - nodes)
    first = -jnp.sum(weights * length * up * digamma_step(up, b), -1)
    rising = weights * length * s * up * _trigamma_fall(up, b)
    falling = weights * h * h * nodes * _trigamma_fall(down, b)
    return first, jnp.sum(rising + falling, -1)


def kumaraswamy_log_moments(a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """log E[X] and log(E[X^2] / E[X]^2) of the Kumaraswamy, E[X^r] = b B(1 + r/a, b).

    A first and a second difference of log B(1 + s, b), with all digits for a >= 1/20; below it the
    differences themselves.
    """
    a, b = jnp.broadcast_arrays(*as_floats(a, b))
    h = divide(1.0, a)
    near = h <= _LARGEST_STEP
    small, large = jnp.where(near, h, 1.0), jnp.where(near, 1.0, h)
    log_b = jnp.log(b)
    first = log_beta(1.0 + large, b) + log_b
    second = log_beta(1.0 + 2.0 * large, b) + log_b - 2.0 * first
    in_first, in_second = _differences(small, b)
    return jnp.where(near, in_first, first), jnp.where(near, in_second, second)
