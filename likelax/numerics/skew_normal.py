"""The skew normal with density 2 phi(z) Phi(a z): its distribution function in both tails, and its
mode.

The textbook's Phi(z) - 2 T(z, a), T being Owen's function, is a difference of two numbers that are
nearly the same in the tail on the thin side. There the integral behind it is taken as it stands,

    J = P(Z < -y) = (1/pi) integral from a to infinity of exp(-y^2 (1 + x^2)/2) / (1 + x^2) dx,

for y >= 0 and a >= 0, with its exponential in front: J = exp(-(y^2 + b^2)/2) K / pi, b = a y. The other
three tails are Phi's and J's: the thick one is W = 2 Phi(-y) - J >= Phi(-y), and 1 - W is
erf(y/sqrt(2)) + J.

Source: Azzalini (1985), "A class of distributions which includes the normal ones"; Owen (1956),
"Tables for computing bivariate normal probabilities", for T; Trefethen and Weideman (2014), "The
exponentially convergent trapezoidal rule", for the entropy.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._chebyshev import gauss_legendre
from likelax.numerics._rules import terms
from likelax.numerics.logspace import as_floats, entropy_term, log1p
from likelax.numerics.normal import inverse_mills, log_ndtr, log_normal_pdf, ndtr, normal_pdf

_LOG_2, _LOG_PI = math.log(2), math.log(math.pi)
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)


def _near_kernel(y: Array, a: Array) -> Array:
    """K for y <= 0.7 and b <= 1/2: from J(0) = atan(1/a)/pi, of which at least a quarter is left."""
    nodes, weights = gauss_legendre(terms(y, 6, 11))
    b, area = a * y, jnp.zeros_like(y)
    for v, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
        tail = 0.5 * (1.0 - jax.lax.erf(math.sqrt(0.5) * v * b))
        area = area + weight * jnp.exp(-0.5 * (v * y) ** 2) * tail
    start = jnp.arctan2(jnp.ones_like(a), a)
    return jnp.exp(0.5 * (y * y + b * b)) * (start - math.sqrt(2 * math.pi) * y * area)


def _far_kernel(y: Array, b: Array) -> Array:
    """K (y^2 + b^2)/y, y or b not small: the integral over t >= 0 of exp(-b t - t^2/2) (y^2 + b^2) /
    (y^2 + (b + t)^2) dt, about 1/b.

    Up to where the exponential is lost, with more nodes towards 0, where the poles -b +- iy are near.
    """
    nodes, weights = gauss_legendre(terms(y, 18, 44))
    lost = 36.0 if y.dtype == jnp.float32 else 80.0
    length = jax.lax.stop_gradient(lost / (b + jnp.sqrt(b * b + lost)))
    radius = jnp.sqrt(y * y + b * b)
    area = jnp.zeros_like(y)
    for v, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
        t = length * (v * v)
        decay = jnp.exp(-t * (b + 0.5 * t))
        area = area + (2 * v * weight) * decay / (1.0 + (t / radius) * ((2 * b + t) / radius))
    return length * area


def _kernel(y: Array, a: Array) -> tuple[Array, Array, Array, Array]:
    """K, log K, and J's density and slope -dJ/da over J, for y, a >= 0."""
    # Beyond 1e19 the tail is no float, nor its logarithm.
    y, b = jnp.minimum(y, 1e19), jnp.minimum(a * y, 1e19)
    near = (y <= 0.7) & (b <= 0.5)
    inner = _near_kernel(jnp.where(near, y, 0.0), jnp.where(near, a, 1.0))
    y_far, b_far = jnp.where(near, 1.0, y), jnp.where(near, 1.0, b)
    outer = _far_kernel(y_far, b_far)
    large = a > 1e9
    root = jnp.where(large, a, jnp.sqrt(1.0 + jnp.where(large, 1.0, a) ** 2))
    radius = jnp.sqrt(y_far * y_far + b_far * b_far)
    size = jnp.where(near, inner, outer / radius / root)
    log = jnp.where(near, jnp.log(inner), jnp.log(outer) - jnp.log(radius) - jnp.log(root))
    hazard = inverse_mills(b)
    density = jnp.where(near, 1.0 / inner / hazard, radius / outer * (root / hazard))
    slope = jnp.where(near, 1.0 / inner / root / root, y_far / outer)
    return size, log, density, slope


def _sides(z: Array, a: Array) -> tuple[Array, Array, Array, Array]:
    """Whether z <= 0, whether a >= 0, and their magnitudes."""
    low, right = z <= 0, a >= 0
    return low, right, jnp.where(low, -z, z), jnp.where(right, a, -a)


def _thick(y: Array, b: Array, kernel: Array) -> Array:
    """W / phi(y)."""
    return 2.0 / inverse_mills(y) - _SQRT_2_OVER_PI * jnp.exp(-0.5 * b * b) * kernel


@jax.custom_jvp
def _log_cdf(z: Array, a: Array) -> Array:
    low, right, y, a = _sides(z, a)
    b, (kernel, log_kernel, _, _) = a * y, _kernel(y, a)
    log_thin = -0.5 * (y * y + b * b) + (log_kernel - _LOG_PI)
    log_thick = log_normal_pdf(y) + jnp.log(_thick(y, b, kernel))
    thin, thick = jnp.exp(log_thin), jnp.exp(log_thick)
    large = thick > 0.5
    rest = jnp.log(jnp.where(large, jax.lax.erf(math.sqrt(0.5) * y) + thin, 1.0))
    above = jnp.where(
        right, jnp.where(large, rest, log1p(-jnp.where(large, 0.0, thick))), log1p(-thin)
    )
    return jnp.where(low, jnp.where(right, log_thin, log_thick), above)


@_log_cdf.defjvp
def _log_cdf_jvp(primals, tangents):
    (z, a), (dz, da) = primals, tangents
    log_cdf = _log_cdf(z, a)
    low, right, y, size = _sides(z, a)
    b, (kernel, _, thin_z, thin_a) = size * y, _kernel(y, size)
    # Density and -dF/da over F; below 0 with the exponentials of both taken out.
    width = 1.0 / (1.0 + size * size)
    thick = _thick(y, b, kernel)
    fall = _SQRT_2_OVER_PI * jnp.exp(-0.5 * b * b) * width
    thick_z, thick_a = 2.0 * ndtr(b) / thick, fall / thick
    whole = jnp.exp(-jnp.where(low, 0.0, log_cdf))
    above_z = 2.0 * normal_pdf(y) * ndtr(jnp.where(right, b, -b)) * whole
    above_a = normal_pdf(y) * fall * whole
    slope_z = jnp.where(low, jnp.where(right, thin_z, thick_z), above_z)
    slope_a = jnp.where(low, jnp.where(right, thin_a, thick_a), above_a)
    return log_cdf, slope_z * dz - slope_a * da


def skew_normal_log_cdf(z: ArrayLike, a: ArrayLike) -> Array:
    """log P(Z <= z), accurate in both tails until z^2 (1 + a^2)/2 overflows. The upper tail is that of
    (-z, -a).
    """
    return _log_cdf(*jnp.broadcast_arrays(*as_floats(z, a)))


def skew_normal_log_slant(z: ArrayLike, a: ArrayLike) -> Array:
    """log(2 Phi(a z)): what the log-density has beyond the Normal's."""
    z, a = as_floats(z, a)
    return _LOG_2 + log_ndtr(a * jnp.where(jnp.isinf(z), 0.0, z))


# ---- the mode ----


def _upper_mode(a: Array) -> Array:
    """The z with z = a psi(a z), psi = phi/Phi, for a > 0, by Newton's steps on log z from above.

    The logarithm of the quotient of the sides is concave and falls, so that no step is too long.
    """
    log_a = jnp.log(a)
    most = jnp.maximum(0.0, 0.5 * jnp.log(jnp.maximum(4.0 * log_a, 1.0)))
    u = jnp.minimum(log_a - 0.5 * math.log(math.pi / 2), most - log_a)
    z = jnp.exp(u)
    for _ in range(8):
        x = a * z
        psi = inverse_mills(-x)
        z = z * jnp.exp(jnp.log(a / z * psi) / (1.0 + x * (x + psi)))
    return z


@jax.custom_jvp
def _mode(a: Array) -> Array:
    size = jnp.abs(a)
    none = size < 1e-15  # where it is sqrt(2/pi) a
    z = jnp.sign(a) * _upper_mode(jnp.where(none, 1.0, size))
    return jnp.where(none, _SQRT_2_OVER_PI * a, z)


@_mode.defjvp
def _mode_jvp(primals, tangents):
    (a,), (da,) = primals, tangents
    z = _mode(a)
    psi = inverse_mills(-a * z)
    curve = a * z * (a * z + psi)
    return z, psi * (1.0 - curve) / (1.0 + curve) * da


def skew_normal_mode(a: ArrayLike) -> Array:
    """Where 2 phi(z) Phi(a z) is largest: the z with z = a phi(a z)/Phi(a z). Odd in a; slope implicit."""
    return _mode(*as_floats(a))


# ---- the entropy ----

_STEP = 0.45  # the error is exp(-2 pi d/step), d > 2.8 being how far off the zeros of Phi are


def skew_normal_entropy(share: ArrayLike, rest: ArrayLike) -> Array:
    """The entropy at scale 1, of share = a/sqrt(1 + a^2) and rest = 1/sqrt(1 + a^2).

    Which of z and -z it is has the entropy h(Phi(a z)), h that of one trial, and |z| is a half-Normal: in all
    log(pi e/2)/2 and the mean of h(Phi(a Z)) over a Normal Z, here with z = rest u by the trapezoidal rule.
    """
    share, rest = jnp.broadcast_arrays(*as_floats(share, rest))
    u = _STEP * jnp.arange(terms(share, 15, 22), dtype=share.dtype)
    x = share[..., None] * u
    sides = entropy_term(log_ndtr(x)) + entropy_term(log_ndtr(-x))
    weight = jnp.where(u == 0, _STEP, 2 * _STEP) * normal_pdf(rest[..., None] * u)
    return 0.5 * (1.0 + _LOG_PI - _LOG_2) + rest * jnp.sum(weight * sides, -1)
