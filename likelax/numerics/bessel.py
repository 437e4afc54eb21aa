"""Modified Bessel functions of order 0 and 1, as logarithms and as a ratio, and the von Mises
distribution function.

Below x = 3 everything comes from power series in x^2 / 4 whose terms are all positive; above, from
Chebyshev series in 1 - 14 / (x + 4) (computed with mpmath at 50 digits) of what the asymptotic
expansions DLMF 10.40.1 leave after their leading term. The quantity that must not be formed by
subtraction for large x is the defect 1 - I1/I0 = 1/(2x) + 1/(8x^2) + 1/(8x^3) + ..., which is minus
the derivative of log(exp(-x) I0(x)); its own derivative has a series too, since a series that is
differentiated twice has lost its digits at its ends. Element by element with broadcasting; x >= 0 (NaN below); float32 at least.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._chebyshev import chebyshev, gauss_legendre, horner
from likelax.numerics.angles import left_of_half_turn
from likelax.numerics.logspace import as_floats

_SPLIT = 3.0
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)

# In y = x^2 / 4: (I0 - 1) / y; I1 / (x / 2); and I0^2 (I1/I0)' = I0^2 - I0 I1 / x - I1^2 by DLMF
# 10.31.3, whose terms (2k)! / (k!^4 2 (k + 1)^2) y^k turn out positive too.
_I0_TAIL = tuple(1.0 / math.factorial(k) ** 2 for k in range(1, 14))
_I1 = tuple(1.0 / (math.factorial(k) * math.factorial(k + 1)) for k in range(14))
_WRONSKIAN = tuple(
    math.factorial(2 * k) / (math.factorial(k) ** 4 * 2 * (k + 1) ** 2) for k in range(18)
)
# In t = 1 - 14 / (x + 4), from -1 at x = 3 to 1: 2 x (1 - I1/I0); 2 x^2 (I1/I0)'; and
# x (log(exp(-x) I0(x)) + log(2 pi x) / 2).
_DEFECT = (
    1.0473468440619893,
    -0.06326351809386242,
    0.021224044873478815,
    -0.006816493937999522,
    0.0017276814950643378,
    -0.00011356293152064748,
    -0.00020858863337836452,
    0.00014723457349946698,
    -5.08208293250359e-05,
    4.308155630788161e-06,
    4.935662337295998e-06,
    -2.34769559479309e-06,
    8.009550231270699e-08,
    2.8797153688298205e-07,
    -7.066394365562409e-08,
    -2.892867624654787e-08,
    1.4231912392778538e-08,
    3.0900473982309077e-09,
    -2.5437169737153123e-09,
    -3.8738571062323407e-10,
    4.476383252494512e-10,
    6.60384902391385e-11,
    -7.883370385632566e-11,
    -1.5462896986447414e-11,
    1.3720511253835381e-11,
    4.146121140899187e-12,
    -2.2337885459138912e-12,
    -1.1088541491266789e-12,
    2.935217751124916e-13,
    2.7739664902137763e-13,
    -1.2208725318827764e-14,
    -6.18988281361777e-14,
    -1.0391962460361187e-14,
    1.1356412047388784e-14,
    5.06630144207152e-15,
    -1.2971219562488237e-15,
    -1.5182811804702535e-15,
    -1.2441651861060342e-16,
    3.2309404810315556e-16,
    1.2920624212776658e-16,
    -3.710921245236299e-17,
    -4.4044201965743827e-17,
    -5.9123020799630855e-18,
)
_SLOPE = (
    1.1125205336501287,
    -0.15448668288123357,
    0.05496193115380973,
    -0.014637802765515432,
    5.971506937127904e-05,
    0.0030852909995601223,
    -0.0021767350592550084,
    0.0007882462447948573,
    -5.489972984343415e-05,
    -0.00010590933670598698,
    5.471388698249551e-05,
    -3.763441052553056e-06,
    -7.294187166845137e-06,
    2.524355329119343e-06,
    5.967775404052604e-07,
    -5.114474301256846e-07,
    -3.016204585370772e-08,
    9.213771019997177e-08,
    -1.8282694935272738e-09,
    -1.6835443024411315e-08,
    8.348250891490429e-10,
    3.1985439867490013e-09,
    -9.805173534881594e-11,
    -6.329967785901909e-10,
    -2.270990949713578e-11,
    1.2700351871812016e-10,
    1.8645593160212694e-11,
    -2.4434427548115186e-11,
    -7.6314322449935e-12,
    4.077154563307907e-12,
    2.442395031838987e-12,
    -4.325806894399621e-13,
    -6.52039651312072e-13,
    -4.990097144854206e-14,
    1.4102166549096576e-13,
    4.846662686018853e-14,
    -2.0725876235206867e-14,
    -1.7759062539584838e-14,
    -2.1670364605989318e-16,
    4.359729486183709e-15,
    1.4719438110381334e-15,
    -6.140779025497752e-16,
    -5.929689608031619e-16,
    -5.4048288331862124e-17,
    1.355267968674166e-16,
    6.611316696097638e-17,
    -1.026665344950985e-17,
    -2.1969558294164823e-17,
)
_LOG = (
    0.13698516971375826,
    -0.016059988178438275,
    0.005446751063782845,
    -0.0017679536968020673,
    0.00045760793359118153,
    -3.75024618008717e-05,
    -4.951261593483577e-05,
    3.633538680006748e-05,
    -1.2760999282994728e-05,
    1.1692483197372276e-06,
    1.1900645774553632e-06,
    -5.744476014837842e-07,
    1.826067842250598e-08,
    7.176325373214071e-08,
    -1.7441363506402016e-08,
    -7.326671589531878e-09,
    3.5922351310867065e-09,
    7.660745539081937e-10,
    -6.387165515974862e-10,
    -9.461314896127596e-11,
    1.1159541416888767e-10,
    1.6294370078286084e-11,
    -1.9630136429460683e-11,
    -3.852782808514837e-12,
    3.4212115620224763e-12,
    1.035747732824265e-12,
    -5.578460258337604e-13,
    -2.7710504975721066e-13,
    7.342157980744945e-14,
    6.93267734280628e-14,
    -3.0820991289680645e-15,
    -1.547194831662512e-14,
    -2.5893426776114742e-15,
    2.839540315143604e-15,
    1.2646736376369903e-15,
    -3.2467813044450194e-16,
    -3.792485004450637e-16,
    -3.0958120294704544e-17,
    8.074297861641396e-17,
    3.2264672706307516e-17,
    -9.281712723301366e-18,
    -1.1004844304648535e-17,
    -1.475011270832711e-18,
    2.2397511840471008e-18,
)


def _split(x: Array) -> tuple[Array, Array, Array]:
    """(x <= 3, y = x^2 / 4 where it is, x where it is not), each safe where the other holds."""
    small = x <= _SPLIT
    half = 0.5 * jnp.where(small, x, 0.0)
    return small, half * half, jnp.where(small, _SPLIT, x)


def _series(coefficients: tuple[float, ...], x: Array, single: int) -> Array:
    return chebyshev(coefficients, 1.0 - 14.0 / (x + 4.0), single)


def _defect_large(x: Array) -> Array:
    """1 - I1(x) / I0(x) for x >= 3."""
    return 0.5 * _series(_DEFECT, x, 17) / x


def _i0_tail(y: Array) -> Array:
    """I0 - 1 from y = x^2 / 4."""
    return y * horner(_I0_TAIL, y, 8)


def _checked(x: ArrayLike) -> Array:
    """x, or NaN where it is negative (a product, so that the gradient is NaN as well)."""
    (x,) = as_floats(x)
    return x * jnp.where(x < 0, jnp.nan, 1.0)


# ---- I1 / I0 ----


def _fall(x: Array) -> Array:
    """x (I1/I0)' for x >= 3."""
    return 0.5 * _series(_SLOPE, x, 20) / x


def _ratio_slope(x: Array) -> Array:
    """(I1/I0)' = 1 - r / x - r^2, without forming it: 1/2 at 0, 1 / (2 x^2) for large x."""
    small, y, large = _split(x)
    near = horner(_WRONSKIAN, y, 11) / jnp.square(1.0 + _i0_tail(y))
    far = _fall(large) / large
    return jnp.where(small, near, far)


@jax.custom_jvp
def _ratio(x: Array) -> Array:
    small, y, large = _split(x)
    near = 0.5 * x * horner(_I1, y, 9) / (1.0 + _i0_tail(y))
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
    rest = _series(_LOG, large, 18) / large
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


@jax.custom_jvp
def _spread(x: Array) -> Array:
    return _log_i0e(x) + x * _defect(x)


@_spread.defjvp
def _spread_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    small, _, large = _split(x)
    # x^-2 would leave the floats.
    slope = jnp.where(small, x * _ratio_slope(jnp.where(small, x, 0.0)), _fall(large))
    return _spread(x), -slope * dx


def von_mises_spread(x: ArrayLike) -> Array:
    """log I0(x) - x I1(x) / I0(x): a von Mises' entropy less log(2 pi). Derivative -x (I1/I0)'."""
    return _spread(_checked(x))


def _von_mises_log_pdf(angle: Array, concentration: Array) -> Array:
    drop = 2.0 * concentration * jnp.square(jnp.sin(0.5 * angle))
    return -drop - _log_i0e(concentration) - 2.0 * _HALF_LOG_2PI


def _von_mises_pdf(angle: Array, concentration: Array) -> Array:
    return jnp.exp(_von_mises_log_pdf(angle, concentration))


def _tail_over_pdf(angle: Array, concentration: Array) -> tuple[Array, Array]:
    """The mass below -|angle| and its derivative in the concentration, both over the density there,
    by quadrature in the angle.

    Over [|angle|, end] the integrand is exp(-2 k (sin^2(t/2) - sin^2(angle/2))) times the density
    at the angle; the end is pi, or where the exponent reaches -40 (float32: -18), and the rest is
    below rounding.
    """
    single = angle.dtype == jnp.float32
    nodes, weights = gauss_legendre(18 if single else 36)
    reach = (9.0 if single else 20.0) / concentration
    # Not jnp.abs: at 0 its slope would be 0, and the mixed second derivatives wrong.
    start = jnp.where(angle < 0, -angle, angle)
    # To pi there is less than a float of pi tells: a hair before it that is all there is.
    left = left_of_half_turn(start)
    limit = jnp.square(jnp.sin(0.5 * start)) + reach
    end = jax.lax.stop_gradient(2.0 * jnp.arcsin(jnp.sqrt(jnp.minimum(limit, 1.0))))
    span = jnp.maximum(jnp.where(limit < 1.0, end - start, left), 0.0)[..., None]
    step = span * jnp.asarray(nodes, angle.dtype)
    start, left, kappa = start[..., None], left[..., None], concentration[..., None]
    sine = jnp.sin(jnp.where(start < 0.5 * math.pi, start + 0.5 * step, left - 0.5 * step))
    drop = 2.0 * kappa * jnp.sin(0.5 * step) * sine
    terms = span * jnp.asarray(weights, angle.dtype) * jnp.exp(-drop)
    pull = _defect(kappa) - 2.0 * jnp.square(jnp.sin(0.5 * (start + step)))  # cos t - I1/I0
    return jnp.sum(terms, axis=-1), jnp.sum(terms * pull, axis=-1)


def _lower_tail(angle: Array, concentration: Array) -> tuple[Array, Array]:
    """The mass below -|angle| and its derivative in the concentration."""
    mass, slope = _tail_over_pdf(angle, concentration)
    pdf = _von_mises_pdf(angle, concentration)
    return pdf * mass, pdf * slope


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


@jax.custom_jvp
def _log_von_mises_tail(angle: Array, concentration: Array) -> Array:
    mass, _ = _tail_over_pdf(angle, concentration)
    return _von_mises_log_pdf(angle, concentration) + jnp.log(mass)


@_log_von_mises_tail.defjvp
def _log_von_mises_tail_jvp(primals, tangents):
    (angle, concentration), (dangle, dconcentration) = primals, tangents
    mass, slope = _tail_over_pdf(angle, concentration)
    mass = jnp.where(mass == 0, 1.0, mass)  # at pi nothing is left: -inf, and no slope
    change = slope / mass * dconcentration - dangle / mass
    return _log_von_mises_tail(angle, concentration), change


def log_von_mises_tail(angle: ArrayLike, concentration: ArrayLike) -> Array:
    """log P(X > angle) for the von Mises with location 0 and angle in [0, pi], by the same rule:
    right to a few eps of its terms also where the mass itself is below the smallest float.
    """
    angle, concentration = jnp.broadcast_arrays(*as_floats(angle, _checked(concentration)))
    return _log_von_mises_tail(angle, concentration)
