"""Student's t: log(1 + t^2) for any t, the kernel and the normaliser of one dimension and of several.

The derivatives of the kernel rest on g = z/(df + z^2), formed as 1/(df/z + z), which neither overflows nor cancels, and
on v = z g = z^2/(df + z^2): log(1 + z^2/df) = -log(1 - v).
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._gamma_tables import LOG_COMPLEMENT, STUDENT, STUDENT_SLOPE, polynomial
from likelax.numerics._rules import with_partials
from likelax.numerics.deviance import log1pmx
from likelax.numerics.logspace import as_floats, divide
from likelax.numerics.pairs import log_over

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
# From here on 1 + t^2 is t^2, even in float64, and t^4, in its second derivative, is still finite.
_LARGE = 5e8
# From here on one more degree of freedom changes no moment's last digit.
LARGEST_DF = 1e30


@jax.custom_jvp
def log1p_square(t: Array) -> Array:
    """log(1 + t^2), which is 2 log|t| where the square would overflow."""
    size = jnp.abs(t)
    large = size > _LARGE
    argument = size * jnp.where(large, 1.0, size)
    if t.dtype != jnp.float32:  # which does not see the 1 there
        argument = jnp.where(large, size - 1.0, argument)
    return jnp.where(large, 2.0, 1.0) * jnp.log1p(argument)


@log1p_square.defjvp
def _log1p_square_jvp(primals, tangents):
    (t,), (dt,) = primals, tangents
    return log1p_square(t), 2 * square_share(t)[0] * dt


def square_share(t: Array) -> tuple[Array, Array]:
    """t/(1 + t^2) and t^2/(1 + t^2)."""
    large = jnp.abs(t) > _LARGE
    inner = jnp.where(large, 1.0, t)
    first = jnp.where(large, 1.0, inner) / jnp.where(large, t, 1 + inner**2)
    return first, jnp.where(large, 1.0, inner * first)


# ---- the kernel of one dimension ----


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
def _student_t_kernel(z, df):
    return (0.5 * df + 0.5) * _parts(z, df)[2]


def student_t_kernel(z: ArrayLike, df: ArrayLike) -> Array:
    """(df + 1)/2 log(1 + z^2/df) for df > 0. Slopes (df + 1) z/(df + z^2) in z and, in df, a log less its first term.

    In the limit it is z^2/2, from where z^2/df is below all rounding.
    """
    z, df = jnp.broadcast_arrays(*as_floats(z, df))
    limit = (df > LARGEST_DF) & ~(z * z > jnp.finfo(z.dtype).eps * df) & (jnp.abs(z) < jnp.inf)
    near = jnp.where(limit, z, 0.0)
    finite = jnp.where(limit | (df == jnp.inf), 1.0, df)
    kernel = _student_t_kernel(jnp.where(limit, 0.0, z), finite)
    return jnp.where(limit, (0.5 * near) * near, kernel)


# ---- the normaliser ----


def student_t_log_normalizer(df: ArrayLike) -> Array:
    """lgamma((df + 1)/2) - lgamma(df/2) - log(pi df)/2 for df > 0; tends to -log(2 pi)/2 as df ->
    inf.

    -log(2 pi)/2 - log(1 + 1/(df (df + 2)))/2 and an interpolant: the logarithm takes the singularities at 0, -1
    and half of that at -2.
    """
    (df,) = as_floats(df)
    return _student_t_normalizer(df)


def _student_t_curve(df):
    s = 3.0 / (3.0 + df)
    scaled, bend = jax.jvp(lambda s: polynomial(STUDENT_SLOPE, s), (s,), (s * s / 3.0,))
    slope = (0.25 / df) / (df + 1.0)
    return -slope * (scaled * (1.0 / df + 1.0 / (df + 1.0)) + bend)


@with_partials(_student_t_curve)
def _student_t_slope(df):
    return polynomial(STUDENT_SLOPE, 3.0 / (3.0 + df)) * ((0.25 / df) / (df + 1.0))


@with_partials(_student_t_slope)
def _student_t_normalizer(df):
    part = 0.5 * jnp.log(1.0 + 1.0 / (df * (df + 2.0)))
    return (polynomial(STUDENT, 3.0 / (3.0 + df)) - part) - _HALF_LOG_2PI


# ---- in several dimensions ----


def _steps(size: int, m: Array) -> Array:
    """a_j with (m + a_0) (m + a_1) ... = Gamma(m + size/2) / Gamma(m), or / Gamma(m + 1/2)."""
    return (jnp.arange(size // 2) + 0.5 * (size % 2)).astype(m.dtype)


@with_partials(lambda a, m: 1.0 / (m + a), lambda a, m: -divide(a, m) / (m + a))
def _log1p_ratio(a, m):
    return jnp.log1p(a / m)


def multivariate_t_log_normalizer(df: ArrayLike, size: int) -> Array:
    """lgamma((df + n)/2) - lgamma(df/2) - n/2 log(pi df), n = size; tends to -n/2 log(2 pi).

    Gamma's recurrence makes it a sum of log(1 + a/(df/2)), all positive, and for an odd n that of one
    dimension.
    """
    (df,) = as_floats(df)
    m = 0.5 * df
    steps = jnp.sum(_log1p_ratio(*jnp.broadcast_arrays(_steps(size, m), m[..., None])), axis=-1)
    if size % 2:
        return steps + student_t_log_normalizer(df) - (size - 1) * _HALF_LOG_2PI
    return steps - size * _HALF_LOG_2PI


def _log1p_norm(z: Array, root: Array) -> tuple[Array, Array]:
    """log(1 + |z|^2/df) and z/(df + |z|^2) sqrt(df), sqrt(df) = root."""
    top = jax.lax.stop_gradient(jnp.max(jnp.abs(z), axis=-1))
    far = top > _LARGE * root
    u = jnp.where(far[..., None], 0.0, z) / root[..., None]
    square = jnp.sum(u**2, axis=-1)
    top = jnp.where(far & (top < jnp.inf), top, 1.0)[..., None]
    scaled = jnp.where(far[..., None], z, 1.0) / top
    norm2 = jnp.sum(scaled**2, axis=-1)
    log = jnp.log1p(square)
    log_far = 2 * log_over(top[..., 0], root) + jnp.log(norm2)
    share = u / (1 + square[..., None])
    share_far = scaled / norm2[..., None] * (root[..., None] / top)
    return jnp.where(far, log_far, log), jnp.where(far[..., None], share_far, share)


@jax.custom_jvp
def _log_kernel(z: Array, df: Array) -> Array:
    half = 0.5 * df + 0.5 * z.shape[-1]
    return half * _log1p_norm(z, jnp.sqrt(df))[0]


@_log_kernel.defjvp
def _log_kernel_jvp(primals, tangents):
    (z, df), (dz, ddf) = primals, tangents
    size, root = z.shape[-1], jnp.sqrt(df)
    log, share = _log1p_norm(z, root)
    # In df: [log(1 + w) - w/(1 + w)]/2 - n w/(1 + w)/(2 df), w = |z|^2/df. The bracket is of order
    # w^2 for small w, where its two parts have lost all its digits.
    near = log < 0.5
    w = jnp.sum(jnp.where(near[..., None], z / root[..., None], 0.0) ** 2, axis=-1)
    part = jnp.where(near, w / (1 + w), -jnp.expm1(-log))
    bracket = jnp.where(near, log1pmx(w) + w * part, log - part)
    slope = 0.5 * bracket - 0.5 * size * divide(part, df)
    pull = ((df + size) / root)[..., None] * share
    return _log_kernel(z, df), jnp.sum(pull * dz, axis=-1) + slope * ddf


def multivariate_t_log_kernel(z: ArrayLike, df: ArrayLike) -> Array:
    """(df + n)/2 log(1 + |z|^2/df) for z (..., n) and df (...) > 0; in the limit |z|^2/2, from where |z|^2/df is
    below all rounding.
    """
    z, df = as_floats(z, df)
    shape = jnp.broadcast_shapes(z.shape[:-1], df.shape)
    z, df = jnp.broadcast_to(z, (*shape, z.shape[-1])), jnp.broadcast_to(df, shape)
    small = ~(jnp.sum(z**2, axis=-1) > jnp.finfo(z.dtype).eps * df)
    limit = (df == jnp.inf) | (df > LARGEST_DF) & small
    near = jnp.where(limit[..., None], z, 0.0)
    kernel = _log_kernel(jnp.where(limit[..., None], 0.0, z), jnp.where(limit, 1.0, df))
    return jnp.where(limit, 0.5 * jnp.sum(near**2, axis=-1), kernel)
