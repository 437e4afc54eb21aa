"""Modified Bessel functions of order 0 and 1, as logarithms and as a ratio, and the von Mises
distribution function.

Below x = 6 everything comes from power series in x^2 / 4 whose terms are all positive; above, from
Chebyshev series in 12 / x - 1 (computed with mpmath at 50 digits) of what the asymptotic expansions
DLMF 10.40.1 leave after their leading term. The quantity that must not be formed by subtraction for
large x is the defect 1 - I1/I0 = 1/(2x) + 1/(8x^2) + 1/(8x^3) + ..., which is minus the derivative
of log(exp(-x) I0(x)). Element by element with broadcasting; x >= 0 (NaN below); float32 at least.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._chebyshev import chebyshev, gauss_legendre, horner
from likelax.numerics.logspace import as_floats

_SPLIT = 6.0
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)

# In y = x^2 / 4: (I0 - 1) / y; I1 / (x / 2); and I0^2 (I1/I0)' = I0^2 - I0 I1 / x - I1^2 by DLMF
# 10.31.3, whose terms (2k)! / (k!^4 2 (k + 1)^2) y^k turn out positive too.
_I0_TAIL = tuple(1.0 / math.factorial(k) ** 2 for k in range(1, 23))
_I1 = tuple(1.0 / (math.factorial(k) * math.factorial(k + 1)) for k in range(22))
_WRONSKIAN = tuple(
    math.factorial(2 * k) / (math.factorial(k) ** 4 * 2 * (k + 1) ** 2) for k in range(28)
)
# 2 x (1 - I1/I0) in t = 12 / x - 1.
_DEFECT = (
    1.0243195980121087,
    0.02567648398875167,
    0.0014992053799403682,
    0.00016458733232558052,
    2.5754557675078955e-05,
    3.517321734963276e-06,
    -2.696196979010471e-07,
    -4.21096549005245e-07,
    -1.2887211799331593e-07,
    3.786641748513319e-09,
    1.577938369971171e-08,
    3.10302271239763e-09,
    -1.4816073880769725e-09,
    -6.471475299233559e-10,
    1.41311523497145e-10,
    1.0933185687769785e-10,
    -1.6930025418383393e-11,
    -1.825386546448591e-11,
    3.01772115475414e-12,
    3.096789943688698e-12,
    -7.286846866606914e-13,
    -5.150321994826653e-13,
    1.935525983048469e-13,
    7.608488325491402e-14,
    -5.005511804841034e-14,
    -7.159375130057675e-15,
    1.1811087950955041e-14,
    -9.032190881353128e-16,
    -2.3666667399321154e-15,
    7.693488528881144e-16,
    3.354912405744082e-16,
    -2.677744075612872e-16,
    -8.964327082772508e-19,
    6.353819845564317e-17,
    -1.995162856981908e-17,
    -8.837085424446837e-18,
    7.962965273417746e-18,
    -6.434757881595462e-19,
    -1.7743480611465828e-18,
    8.4392436933669e-19,
    1.260663615723186e-19,
)
# x (log(exp(-x) I0(x)) + log(2 pi x) / 2) in t = 12 / x - 1.
_LOG = (
    0.13111470037595802,
    0.006467068282795618,
    0.00038900710808401453,
    4.231694110852051e-05,
    6.564906776650737e-06,
    8.97146481402981e-07,
    -6.49543977590435e-08,
    -1.0522593823762737e-07,
    -3.235776471330539e-08,
    8.983552254977329e-10,
    3.943252329862421e-09,
    7.798715125421093e-10,
    -3.694482758446279e-10,
    -1.620963495550952e-10,
    3.5174695461241347e-11,
    2.735788665907618e-11,
    -4.210268308535415e-12,
    -4.566126261374067e-12,
    7.5113848205588e-13,
    7.74652658706183e-13,
    -1.8166937700532346e-13,
    -1.2886482782567864e-13,
    4.831277629794443e-14,
    1.9048084779031414e-14,
    -1.2503781920534289e-14,
    -1.7963023911289246e-15,
    2.9519802970223028e-15,
    -2.2440423475824725e-16,
    -5.917984461357727e-16,
    1.9208293147874503e-16,
    8.396094047437144e-17,
    -6.691251288822462e-17,
    -2.5143755435943147e-19,
)


def _split(x: Array) -> tuple[Array, Array, Array]:
    """(x <= 6, y = x^2 / 4 where it is, x where it is not), each safe where the other holds."""
    small = x <= _SPLIT
    half = 0.5 * jnp.where(small, x, 0.0)
    return small, half * half, jnp.where(small, _SPLIT, x)


def _defect_large(x: Array) -> Array:
    """1 - I1(x) / I0(x) for x >= 6."""
    return 0.5 * chebyshev(_DEFECT, 2.0 * _SPLIT / x - 1.0, 14) / x


def _i0_tail(y: Array) -> Array:
    """I0 - 1 from y = x^2 / 4."""
    return y * horner(_I0_TAIL, y, 16)


def _checked(x: ArrayLike) -> Array:
    """x, or NaN where it is negative (a product, so that the gradient is NaN as well)."""
    (x,) = as_floats(x)
    return x * jnp.where(x < 0, jnp.nan, 1.0)


# ---- I1 / I0 ----


def _ratio_slope(x: Array) -> Array:
    """(I1/I0)' = 1 - r / x - r^2, without forming it: 1/2 at 0, 1 / (2 x^2) for large x."""
    small, y, large = _split(x)
    near = horner(_WRONSKIAN, y, 20) / jnp.square(1.0 + _i0_tail(y))
    far = -jax.jvp(_defect_large, (large,), (jnp.ones_like(large),))[1]
    return jnp.where(small, near, far)


@jax.custom_jvp
def _ratio(x: Array) -> Array:
    small, y, large = _split(x)
    near = 0.5 * x * horner(_I1, y, 16) / (1.0 + _i0_tail(y))
    return jnp.where(small, near, 1.0 - _defect_large(large))


@_ratio.defjvp
def _ratio_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return _ratio(x), _ratio_slope(x) * dx


def bessel_ratio(x: ArrayLike) -> Array:
    """I1(x) / I0(x): x / 2 near 0, 1 - 1/(2x) for large x; the mean resultant length of a von
    Mises.
    """
    return _ratio(_checked(x))


@jax.custom_jvp
def _defect(x: Array) -> Array:
    small, _, large = _split(x)
    return jnp.where(small, 1.0 - _ratio(x), _defect_large(large))


@_defect.defjvp
def _defect_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return _defect(x), -_ratio_slope(x) * dx


def bessel_ratio_defect(x: ArrayLike) -> Array:
    """1 - I1(x) / I0(x), accurate for large x too; the circular variance of a von Mises."""
    return _defect(_checked(x))


# ---- log I0 ----


@jax.custom_jvp
def _log_i0e(x: Array) -> Array:
    small, y, large = _split(x)
    near = jnp.log1p(_i0_tail(y)) - x
    rest = chebyshev(_LOG, 2.0 * _SPLIT / large - 1.0, 9) / large
    return jnp.where(small, near, rest - (0.5 * jnp.log(large) + _HALF_LOG_2PI))


@_log_i0e.defjvp
def _log_i0e_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return _log_i0e(x), -_defect(x) * dx


def log_i0e(x: ArrayLike) -> Array:
    """log(exp(-x) I0(x)), about -log(2 pi x) / 2 for large x. Derivative I1/I0 - 1: exactly -1 at
    0.
    """
    return _log_i0e(_checked(x))


@jax.custom_jvp
def _log_i0(x: Array) -> Array:
    small, y, large = _split(x)
    rest = jnp.where(large == jnp.inf, 0.0, _log_i0e(large))
    return jnp.where(small, jnp.log1p(_i0_tail(y)), large + rest)


@_log_i0.defjvp
def _log_i0_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return _log_i0(x), _ratio(x) * dx


def log_i0(x: ArrayLike) -> Array:
    """log I0(x), about x^2 / 4 near 0 (to full relative accuracy) and x - log(2 pi x) / 2 for large
    x.
    """
    return _log_i0(_checked(x))


# ---- von Mises ----


def _von_mises_pdf(angle: Array, concentration: Array) -> Array:
    drop = 2.0 * concentration * jnp.square(jnp.sin(0.5 * angle))
    return jnp.exp(-drop - _log_i0e(concentration)) / (2.0 * math.pi)


def _lower_tail(angle: Array, concentration: Array) -> tuple[Array, Array]:
    """The mass below -|angle| and its derivative in the concentration, by quadrature in the angle.

    Over [|angle|, end] the integrand is exp(-2 k (sin^2(t/2) - sin^2(angle/2))) times the density
    at the angle; the end is pi, or where the exponent reaches -40 (float32: -18), and the rest is
    below rounding.
    """
    single = angle.dtype == jnp.float32
    nodes, weights = gauss_legendre(18 if single else 36)
    reach = (9.0 if single else 20.0) / concentration
    # Not jnp.abs: at 0 its slope would be 0, and the mixed second derivatives wrong.
    start = jnp.where(angle < 0, -angle, angle)
    limit = jnp.sqrt(jnp.minimum(jnp.square(jnp.sin(0.5 * start)) + reach, 1.0))
    end = jax.lax.stop_gradient(2.0 * jnp.arcsin(limit))
    span = jnp.maximum(end - start, 0.0)[..., None]
    step = span * jnp.asarray(nodes, angle.dtype)
    start, kappa = start[..., None], concentration[..., None]
    drop = 2.0 * kappa * jnp.sin(0.5 * step) * jnp.sin(start + 0.5 * step)
    terms = span * jnp.asarray(weights, angle.dtype) * jnp.exp(-drop)
    pdf = _von_mises_pdf(angle, concentration)
    pull = _defect(kappa) - 2.0 * jnp.square(jnp.sin(0.5 * (start + step)))  # cos t - I1/I0
    return pdf * jnp.sum(terms, axis=-1), pdf * jnp.sum(terms * pull, axis=-1)


@jax.custom_jvp
def _von_mises_cdf(angle: Array, concentration: Array) -> Array:
    tail, _ = _lower_tail(angle, concentration)
    return jnp.where(angle < 0, tail, 1.0 - tail)


@_von_mises_cdf.defjvp
def _von_mises_cdf_jvp(primals, tangents):
    (angle, concentration), (dangle, dconcentration) = primals, tangents
    _, slope = _lower_tail(angle, concentration)
    slope = jnp.where(angle < 0, slope, -slope) * dconcentration
    return _von_mises_cdf(angle, concentration), (
        _von_mises_pdf(angle, concentration) * dangle + slope
    )


def von_mises_cdf(angle: ArrayLike, concentration: ArrayLike) -> Array:
    """P(X <= angle) for the von Mises with location 0 on [-pi, pi]; 0 below and 1 above that
    interval.

    A Gauss-Legendre rule over the effective width of the tail (36 nodes in float64, 18 in float32),
    at any concentration >= 0: relative accuracy in the lower tail of a few eps times 1 + 2 k
    sin^2(angle/2), absolute accuracy of a few eps overall. The derivatives are the density and the
    integral of (cos t - I1/I0) density.
    """
    angle, concentration = jnp.broadcast_arrays(*as_floats(angle, _checked(concentration)))
    # Not jnp.clip, which halves the gradient at the ends themselves.
    inside = jnp.where(angle < -math.pi, -math.pi, jnp.where(angle > math.pi, math.pi, angle))
    return _von_mises_cdf(inside, concentration)
