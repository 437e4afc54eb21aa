"""The kernel of Student's t, (df + 1)/2 log(1 + z^2/df), and log(1 + t^2), at any size of their arguments.

The derivatives rest on g = z/(df + z^2), formed as 1/(df/z + z), which neither overflows nor cancels, and on the share
v = z g = z^2/(df + z^2): log(1 + z^2/df) = -log(1 - v). Element by element, in float32 or wider.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array

from likelax.numerics._gamma_tables import LOG_COMPLEMENT, polynomial
from likelax.numerics._rules import with_partials

# From here on 1 + t^2 is t^2, even in float64, and t^4, in its second derivative, is still finite.
_LARGE = 5e8


@jax.custom_jvp
def log1p_square(t: Array) -> Array:
    """log(1 + t^2), which is 2 log(1 + |t|) where the square would overflow."""
    large = jnp.abs(t) > _LARGE
    return jnp.where(large, 2.0, 1.0) * jnp.log1p(jnp.abs(t) * jnp.where(large, 1.0, jnp.abs(t)))


@log1p_square.defjvp
def _log1p_square_jvp(primals, tangents):
    (t,), (dt,) = primals, tangents
    return log1p_square(t), 2 * share(t)[0] * dt


def share(t: Array) -> tuple[Array, Array]:
    """t/(1 + t^2) and t^2/(1 + t^2)."""
    large = jnp.abs(t) > _LARGE
    inner = jnp.where(large, 1.0, t)
    first = jnp.where(large, 1.0, inner) / jnp.where(large, t, 1 + inner**2)
    return first, jnp.where(large, 1.0, inner * first)


def _far(z, df):
    """Whether 1 + z^2/df is z^2/df, and perhaps too large a float."""
    half = 2.0**-40 if z.dtype == jnp.float32 else 2.0**-400
    return jnp.square(half * z) > df


def _parts(z, df):
    """(g, v, log(1 + z^2/df), log(1 + z^2/df) - v)."""
    far = _far(z, df)
    g = 1.0 / (df / z + z)
    v = jnp.where(far, 1.0, z * g)
    low = v < 0.5
    u = jnp.where(low, v, 0.0)
    tail = u * u * polynomial(LOG_COMPLEMENT, 2.0 * u)
    power = 60.0 if z.dtype == jnp.float32 else 500.0
    w = jnp.where(far, 2.0**-power, 1.0) * z
    log = jnp.log(jnp.where(far, 0.0, 1.0) + (w / df) * w)
    log = log + jnp.where(far, 2.0 * power * math.log(2.0), 0.0)
    return g, v, jnp.where(low, v + tail, log), jnp.where(low, tail, log - v)


@with_partials(
    lambda z, df: _inverse(z, df) * (df + 1.0) * (1.0 - 2.0 * _parts(z, df)[1]),
    lambda z, df: _parts(z, df)[0] * (1.0 - (df + 1.0) * _inverse(z, df)),
)
def _slope_z(z, df):
    return (df + 1.0) * _parts(z, df)[0]


def _inverse(z, df):
    return 1.0 / (df + z * z)


def _cross(z, df):
    g, v, _, _ = _parts(z, df)
    return g * (v - _inverse(z, df))


def _curve_df(z, df):
    _, v, _, _ = _parts(z, df)
    return 0.5 * (v / df) * ((_inverse(z, df) - v) + 1.0 / df)


@with_partials(_cross, _curve_df)
def _slope_df(z, df):
    # log(1 + z^2/df) - v is of order 1/df^2, its two parts of order 1/df.
    _, v, _, rest = _parts(z, df)
    return 0.5 * (rest - v / df)


@with_partials(_slope_z, _slope_df)
def student_t_kernel(z, df):
    """(df + 1)/2 log(1 + z^2/df) for df > 0. Slopes (df + 1) z/(df + z^2) in z and, in df, a log less its first term."""
    return (0.5 * df + 0.5) * _parts(z, df)[2]
