"""Two exponential tails of unlike lengths, joined at 0: a z above it and -z/a below.

Conventions as in `densities`: element by element, a > 0, float32 or wider. With a tail a million times
longer than the other nearly all of the mass is on one side; what is left there is a sum of positive
terms here, never one minus the other side.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._rules import with_partials
from likelax.numerics.logspace import as_floats, divide, inverse, log1p, log_mean_decay_slope


@with_partials(lambda u: _mean_decay(u) * log_mean_decay_slope(u))
def _mean_decay(u):
    """(1 - exp(-u)) / u."""
    safe = jnp.where(u == 0, 1.0, u)
    return jnp.where(u == 0, 1.0, -jnp.expm1(-safe) / safe)


def _rest(z, a):
    """(1 - exp(-a z) / (1 + a^2)) (a + 1/a): the mass that the upper tail leaves, in its own measure."""
    far = a * z > 1.0
    near = jnp.where(far, 0.0, z)
    return a + jnp.where(far, divide(-jnp.expm1(-a * z), a), near * _mean_decay(a * near))


def _log_rest_slope_z(z, a):
    return divide(jnp.exp(-a * z), _rest(z, a))


def _log_rest_slope_a(z, a):
    # 2 a / (1 + a^2) without the square.
    spread = z + divide(2.0, a + inverse(a))
    return divide(_log_rest_slope_z(z, a) * spread, a)


@with_partials(_log_rest_slope_z, _log_rest_slope_a)
def _log_rest(z, a):
    low = a < 1.0
    b, c = jnp.where(low, a, 1.0), jnp.where(low, 1.0, a)
    below = jnp.log(_rest(z, b)) + (jnp.log(b) - jnp.log1p(b * b))
    return jnp.where(low, below, log1p(-jnp.exp(-c * z) / (1.0 + c * c)))


def log_upper_rest(z: ArrayLike, a: ArrayLike) -> Array:
    """log(1 - exp(-a z) / (1 + a^2)) for z >= 0: of the mass below z."""
    z, a = jnp.broadcast_arrays(*as_floats(z, a))
    return _log_rest(jnp.where(z == jnp.inf, jnp.finfo(z.dtype).max, z), a)


def two_sided_loss(z: ArrayLike, a: ArrayLike) -> Array:
    """a z for z > 0, -z/a elsewhere."""
    z, a = as_floats(z, a)
    above = z > 0
    return jnp.where(above, jnp.where(above, z, 0.0) * a, divide(jnp.where(above, 0.0, -z), a))
