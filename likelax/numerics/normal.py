"""The standard normal: tails, quantiles, hazards and the mass of intervals, accurate as far as
floats go.

Everything rests on one smooth function, the excess of the hazard over its argument,

    excess(x) = phi(x) / Phi(-x) - x,    x >= 0,

which falls from sqrt(2 / pi) to 1 / x. It is stored as a Chebyshev series, so that neither the
hazard x + excess(x), nor Mills' ratio 1 / (x + excess(x)), nor their derivatives cancel anywhere.
phi and Phi are the density and the distribution function. Everything is element by element; float32
at least.

Sources: M. Shepherd and J. Laframboise (1981), "Chebyshev approximation of (1 + 2x) exp(x^2)
  erfc(x)", for
the variable (x - 3.75) / (x + 3.75); Abramowitz and Stegun 26.2.23 for the first guess of a
quantile. The coefficients were computed with mpmath at 50 digits; the tests compare with mpmath
again.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._chebyshev import chebyshev, gauss_legendre
from likelax.numerics._rules import Over, with_partials
from likelax.numerics.logspace import (
    along,
    as_floats,
    divide,
    exp_of_log_scale,
    finite,
    log1mexp,
    log1p,
    standardize,
    standardize_by_log,
)

_LOG2 = math.log(2.0)
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)

# (1 + x) excess(x) in t = (x - 3.75) / (x + 3.75).
_EXCESS = (
    1.0158202334363786,
    0.06758241343925066,
    -0.11582869340851294,
    0.035359852033000023,
    -0.001396726705511719,
    -0.0019706866459578984,
    0.00038138680251303064,
    8.910730107630888e-05,
    -3.660781582427041e-05,
    -2.9890576406317845e-06,
    2.8825245415645008e-06,
    1.3853793832330303e-08,
    -2.0773627392509758e-07,
    9.784271636616601e-09,
    1.4175565275346708e-08,
    -1.2062955392869048e-09,
    -9.259825291038152e-10,
    1.0418997008790989e-10,
    5.774859244529447e-11,
    -7.584942183539855e-12,
    -3.379746123842459e-12,
    4.918126320469651e-13,
    1.7811855390593784e-13,
    -2.95710932806763e-14,
    -7.624068049720478e-15,
    1.7728427789555704e-15,
    1.6916223706299479e-16,
    -1.1948139201615595e-16,
    1.1548901447053903e-17,
    9.650456718679024e-18,
    -1.9151108012258374e-18,
    -8.461294886672202e-19,
)
# Phi^-1(1/2 + q) / q in t = 32 q^2 - 1, |q| <= 1/4.
_CENTRAL = (
    2.598548440430352,
    0.09548367092001991,
    0.0037354309511795844,
    0.0001811346508667716,
    9.733217788337892e-06,
    5.554838379235568e-07,
    3.298226684005369e-08,
    2.0139495833357736e-09,
    1.2556458045030054e-10,
    7.955782456151456e-12,
    5.105861628934046e-13,
    3.311266180495945e-14,
    2.1661489399349104e-15,
    1.4274540123809034e-16,
    9.465727659117326e-18,
)


def _excess_upper(x: Array) -> Array:
    """phi(x) / Phi(-x) - x for x >= 0; 0 at infinity."""
    return chebyshev(_EXCESS, 1.0 - 7.5 / (x + 3.75), 18) / (1.0 + x)


# ---- densities and hazards ----


@jax.custom_jvp
def _log_pdf(z: Array) -> Array:
    return -(0.5 * z) * z - _HALF_LOG_2PI  # halved first: z^2 alone would overflow sooner


@_log_pdf.defjvp
def _log_pdf_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    return _log_pdf(z), -z * dz


def log_normal_pdf(z: ArrayLike) -> Array:
    """log phi(z) = -z^2 / 2 - log(2 pi) / 2."""
    return _log_pdf(*as_floats(z))


def _slope_scale(x, loc, scale):
    z = finite(standardize(x, loc, scale))
    return Over((z - 1.0, z + 1.0), scale)


# A slope of loc that is worked out first: a cotangent over the scale would be an array that two of them share.
@with_partials(
    lambda x, loc, scale: divide(-standardize(x, loc, scale), scale),
    lambda x, loc, scale: -divide(-standardize(x, loc, scale), scale),
    _slope_scale,
)
def _normal_log_pdf(x: Array, loc: Array, scale: Array) -> Array:
    return _log_pdf(standardize(x, loc, scale)) - jnp.log(scale)


def normal_log_pdf(x: ArrayLike, loc: ArrayLike, scale: ArrayLike) -> Array:
    """log phi(z) - log(scale), z = (x - loc) / scale."""
    return _normal_log_pdf(*as_floats(x, loc, scale))


@jax.custom_jvp
def _normal_log_scale_pdf(x: Array, loc: Array, log_scale: Array) -> Array:
    return _log_pdf(standardize_by_log(x, loc, log_scale)) - log_scale


def _normal_log_scale_pdf_jvp(primals, tangents):
    (x, loc, log_scale), (dx, dloc, dl) = primals, tangents
    # Rounded by name: XLA would take two factors exp(-log_scale) for one exponential.
    info = jnp.finfo(log_scale.dtype)
    per = jax.lax.reduce_precision(exp_of_log_scale(-log_scale), info.nexp, info.nmant)
    z = standardize_by_log(x, loc, log_scale)
    z = finite(jax.lax.reduce_precision(z, info.nexp, info.nmant))
    # Factor by factor: what is 0 stays 0 where the slope is beyond the floats.
    moved = per * along((z, dloc), (-z, dx)) + (z - 1.0) * along((z + 1.0, dl))
    return _normal_log_scale_pdf(x, loc, log_scale), moved + jnp.zeros_like(z)


_normal_log_scale_pdf.defjvp(_normal_log_scale_pdf_jvp, symbolic_zeros=True)


def normal_log_scale_pdf(x: ArrayLike, loc: ArrayLike, log_scale: ArrayLike) -> Array:
    """`normal_log_pdf` by the scale's logarithm."""
    return _normal_log_scale_pdf(*as_floats(x, loc, log_scale))


@jax.custom_jvp
def _pdf(z: Array) -> Array:
    # exp turns the rounding of z^2 / 2 into a relative error of that size. So z^2 is split (as in
    # Cody's erfc) into the square of z rounded to 1/16, which is exact, and a small remainder.
    size = jnp.minimum(jnp.abs(z), 40.0)
    head = jnp.round(size * 16.0) / 16.0
    rest = (size - head) * (size + head)
    return _INV_SQRT_2PI * jnp.exp(-0.5 * head * head) * jnp.exp(-0.5 * rest)


@_pdf.defjvp
def _pdf_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    pdf = _pdf(z)
    return pdf, -jnp.where(jnp.isinf(z), 0.0, z) * pdf * dz


def normal_pdf(z: ArrayLike) -> Array:
    """phi(z), with full relative accuracy in the tails."""
    return _pdf(*as_floats(z))


def _upper_tail(x: Array) -> Array:
    """Phi(-x) for x >= 0."""
    return _pdf(x) / (x + _excess_upper(x))


@jax.custom_jvp
def _hazard(z: Array) -> Array:
    upper = z >= 0
    x, y = jnp.where(upper, z, 0.0), jnp.where(upper, 0.0, -z)
    return jnp.where(upper, x + _excess_upper(x), _pdf(y) / (1.0 - _upper_tail(y)))


@_hazard.defjvp
def _hazard_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    hazard = _hazard(z)
    # hazard (hazard - z) is 1 + excess'. For large z only the latter keeps its digits when it is
    # differentiated again; at 0, where its series ends, only the former.
    upper = z >= 0.5
    x = jnp.where(upper, z, 0.5)
    y = jnp.where(upper | jnp.isinf(z), 0.0, z)
    above = 1.0 + jax.jvp(_excess_upper, (x,), (jnp.ones_like(x),))[1]
    below = jnp.where(upper, 1.0, hazard)
    return hazard, jnp.where(upper, above, below * (below - y)) * dz


def inverse_mills(z: ArrayLike) -> Array:
    """phi(z) / Phi(-z), the hazard (inverse Mills ratio) of the upper tail; about z for large z, 0
    at -inf.

    The derivative of log_ndtr(z) is inverse_mills(-z), and E[Z | Z > z] is inverse_mills(z). Its
    own derivative, h (h - z), is formed from the excess h - z by its series.
    """
    return _hazard(*as_floats(z))


# ---- distribution function ----


@jax.custom_jvp
def _ndtr(z: Array) -> Array:
    tail = _upper_tail(jnp.abs(z))
    return jnp.where(z <= 0, tail, 1.0 - tail)


@_ndtr.defjvp
def _ndtr_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    return _ndtr(z), _pdf(z) * dz


def ndtr(z: ArrayLike) -> Array:
    """Phi(z), with full relative accuracy in the lower tail."""
    return _ndtr(*as_floats(z))


@jax.custom_jvp
def _log_ndtr(z: Array) -> Array:
    lower = z <= 0
    x, y = jnp.where(lower, -z, 0.0), jnp.where(lower, 1.0, z)
    below = log_normal_pdf(x) - jnp.log(x + _excess_upper(x))
    return jnp.where(lower, below, log1p(-_upper_tail(y)))


@_log_ndtr.defjvp
def _log_ndtr_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    dead = z == -jnp.inf
    return _log_ndtr(z), jnp.where(dead, 0.0, _hazard(-jnp.where(dead, 0.0, z))) * dz


def log_ndtr(z: ArrayLike) -> Array:
    """log Phi(z), accurate in both tails until z^2 / 2 overflows; -inf with zero gradient at -inf."""
    return _log_ndtr(*as_floats(z))


# ---- quantiles ----


def _tail_quantile(y: Array) -> Array:
    """The x >= 0 with -log Phi(-x) = y, for y >= log 2."""
    finite = jnp.where(jnp.isinf(y), 1.0, y)
    t = math.sqrt(2.0) * jnp.sqrt(finite)
    r = 1.0 / t  # the rational of Abramowitz and Stegun in 1 / t, so that t^3 cannot overflow
    above = (2.515517 * r + 0.802853) * r + 0.010328
    below = ((r + 1.432788) * r + 0.189269) * r + 0.001308
    x = t - r * above / below
    # Newton: the error e becomes at most e^2 / 2.5. From 5e-4 two steps end below 1e-14, three
    # below 1e-28.
    for _ in range(2 if y.dtype == jnp.float32 else 3):
        hazard = x + _excess_upper(x)
        x = x + ((finite - 0.5 * x * x) - (_HALF_LOG_2PI + jnp.log(hazard))) / hazard
    return jnp.where(jnp.isinf(y), jnp.inf, x)


@jax.custom_jvp
def _log_ndtri(log_p: Array) -> Array:
    lower = log_p <= -_LOG2
    x = _tail_quantile(jnp.where(lower, -log_p, -log1mexp(-jnp.where(lower, -_LOG2, log_p))))
    return jnp.where(lower, -x, x)


@_log_ndtri.defjvp
def _log_ndtri_jvp(primals, tangents):
    (log_p,), (dlog_p,) = primals, tangents
    return _log_ndtri(log_p), _log_ndtri_slope(log_p) * dlog_p


@jax.custom_jvp
def _log_ndtri_slope(log_p: Array) -> Array:
    """dz / dlog p = Phi(z) / phi(z): Mills' ratio below 0; above, the other Mills ratio times the
    odds.
    """
    z = _log_ndtri(log_p)
    lower = log_p <= -_LOG2
    infinite = jnp.isinf(z)
    x = jnp.abs(jnp.where(infinite, 0.0, z))
    odds = 1.0 / jnp.expm1(jnp.where(lower | infinite, _LOG2, -log_p))
    return jnp.where(infinite, 0.0, jnp.where(lower, 1.0, odds) / (x + _excess_upper(x)))


@_log_ndtri_slope.defjvp
def _log_ndtri_slope_jvp(primals, tangents):
    (log_p,), (dlog_p,) = primals, tangents
    slope = _log_ndtri_slope(log_p)
    z = _log_ndtri(log_p)
    z = jnp.where(jnp.isinf(z), 0.0, z)
    lower = z <= 0
    # d slope = slope (1 + z slope), which for z < 0 is slope^2 excess(-z) and would cancel.
    change = jnp.where(lower, slope * _excess_upper(jnp.where(lower, -z, 0.0)), 1.0 + z * slope)
    return slope, slope * change * dlog_p


def log_ndtri(log_p: ArrayLike) -> Array:
    """The z with log Phi(z) = log_p, for log_p <= 0: quantiles of tails far below the smallest
    float.

    Infinite at log_p = -inf and 0, with gradient 0 there; NaN above.
    """
    return _log_ndtri(*as_floats(log_p))


@jax.custom_jvp
def _ndtri(p: Array) -> Array:
    q = p - 0.5
    central = jnp.abs(q) <= 0.25
    q_central = jnp.where(central, q, 0.0)
    near = q_central * chebyshev(_CENTRAL, 32.0 * q_central * q_central - 1.0, 8)
    lower = q < 0
    p_outer = jnp.where(central, 0.125, p)
    log_tail = jnp.where(lower, jnp.log(jnp.where(lower, p_outer, 0.125)), log1p(-p_outer))
    x = _tail_quantile(-log_tail)
    return jnp.where(central, near, jnp.where(lower, -x, x))


@_ndtri.defjvp
def _ndtri_jvp(primals, tangents):
    (p,), (dp,) = primals, tangents
    return _ndtri(p), _ndtri_slope(p) * dp


@jax.custom_jvp
def _ndtri_slope(p: Array) -> Array:
    """dz / dp = 1 / phi(z), as Mills' ratio over the tail: exp(z^2 / 2) would magnify the rounding
    of z.
    """
    z = _ndtri(p)
    infinite = jnp.isinf(z)
    x = jnp.abs(jnp.where(infinite, 0.0, z))
    tail = jnp.where(infinite, 1.0, jnp.minimum(p, 1.0 - p))
    return jnp.where(infinite, 0.0, 1.0 / (x + _excess_upper(x)) / tail)


@_ndtri_slope.defjvp
def _ndtri_slope_jvp(primals, tangents):
    (p,), (dp,) = primals, tangents
    slope = _ndtri_slope(p)
    z = _ndtri(p)
    return slope, jnp.where(jnp.isinf(z), 0.0, z) * slope * slope * dp


def ndtri(p: ArrayLike) -> Array:
    """The z with Phi(z) = p, for 0 <= p <= 1; infinite at the ends, with gradient 0 there."""
    return _ndtri(*as_floats(p))


# ---- intervals ----
#
# An interval is given by its lower end a and its width w; its upper end is b = a + w. By reflection
# its midpoint is not negative, so that |a| <= b. With Z a standard normal kept to [a, b],
#
#     mass = Phi(b) - Phi(a),   mean = E[Z],   offset = mean - a,   density = phi(b) / mass,
#
# the derivatives of log(mass) are -mean in a (w held) and density in w, and those close among
# themselves:
#
#     d mean    =  (w density + mean offset) da + density (w - offset) dw
#     d density = -density (w - offset) da - density (b + density) dw.


def _narrow(a: Array, w: Array) -> Array:
    """Whether the density is so level on the interval that a few nodes integrate it."""
    endless = jnp.isinf(w)
    drop = jnp.where(endless, jnp.inf, w) * jnp.where(endless, 1.0, a + 0.5 * w)
    return (drop <= 1.0) & (w <= 1.5)


def _interval(a: Array, w: Array) -> tuple[Array, ...]:
    """(log mass, density, mean, offset, log area, area) for a + w / 2 >= 0, or a = -inf and w = inf.
    NaN where w < 0. The last but one is that of `truncated_normal`'s `_log_area`; the last is mass /
    phi(a) where the interval is narrow or beside zero, and the mass across it.
    """
    w = jnp.where(w < 0, jnp.nan, w)
    endless = jnp.isinf(w)
    dead = w == 0
    b = jnp.where(endless, jnp.inf, a + w)
    # phi(b) / phi(a) = exp(-drop)
    drop = jnp.where(endless, jnp.inf, w) * jnp.where(endless, 1.0, a + 0.5 * w)
    ratio = jnp.exp(-drop)
    narrow = _narrow(a, w)
    beside = (a >= 0) & ~narrow  # all of it in the upper tail
    across = ~narrow & ~beside

    # Narrow: mass / phi(a) is the integral of exp(-a t - t^2 / 2), an exponent that varies by at
    # most 1.2.
    nodes, weights = gauss_legendre(5 if a.dtype == jnp.float32 else 9)
    a_in, w_in = jnp.where(narrow, a, 0.0), jnp.where(narrow & ~dead, w, 1.0)
    area = first = jnp.zeros_like(a_in + w_in)
    for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
        t = w_in * node
        term = weight * jnp.exp(-t * (a_in + 0.5 * t))
        area, first = area + term, first + node * term
    area_narrow = jnp.log(w_in) + jnp.log(area)
    log_narrow = log_normal_pdf(a_in) + area_narrow
    whole_narrow = w_in * area
    density_narrow = ratio / whole_narrow
    offset_narrow = w_in * (first / area)

    # In the tail: mass / phi(a) is a difference of Mills ratios, at most 0.37 of the first taken
    # away.
    a_in, b_in = jnp.where(beside, a, 0.0), jnp.where(beside, b, 1.0)
    w_in, ratio_in = jnp.where(beside & ~endless, w, 1.0), jnp.where(beside, ratio, 0.0)
    excess_a, excess_b = _excess_upper(a_in), _excess_upper(b_in)
    mills_a = 1.0 / (a_in + excess_a)
    mills_b = ratio_in / (b_in + excess_b)
    area = mills_a - mills_b
    area_beside = jnp.log(area)
    log_beside = log_normal_pdf(a_in) + area_beside
    density_beside = ratio_in / area
    offset_beside = (mills_a * excess_a - mills_b * (excess_b + w_in)) / area

    # Across zero and wide: what the two tails leave, at least 0.4.
    a_in, b_in = jnp.where(across, a, -1.0), jnp.where(across, b, 1.0)
    outside = _ndtr(a_in) + _ndtr(-b_in)
    density_across = _pdf(b_in) / (1.0 - outside)
    mean_across = _pdf(a_in) / (1.0 - outside) - density_across
    offset_across = jnp.where(jnp.isinf(a_in), 0.0, mean_across - a_in)

    def choose(in_narrow, in_beside, in_across):
        return jnp.where(narrow, in_narrow, jnp.where(beside, in_beside, in_across))

    log_mass = choose(log_narrow, log_beside, log1p(-outside))
    density = choose(density_narrow, density_beside, density_across)
    offset = choose(offset_narrow, offset_beside, offset_across)
    mean = jnp.where(across, mean_across, a + offset)
    in_tail = jnp.where(narrow, area_narrow, area_beside)
    log_area = jnp.where(a >= 0, in_tail, log_mass + _HALF_LOG_2PI)
    whole = choose(whole_narrow, area, 1.0 - outside)
    log_mass, log_area = (
        jnp.where(dead & ~jnp.isnan(a), -jnp.inf, value) for value in (log_mass, log_area)
    )
    density, mean, offset, whole = (
        jnp.where(dead, 0.0, value) for value in (density, mean, offset, whole)
    )
    return log_mass, density, mean, offset, log_area, whole


@jax.custom_jvp
def _interval_slopes(a: Array, w: Array) -> tuple[Array, Array, Array]:
    _, density, mean, offset, _, _ = _interval(a, w)
    return density, mean, offset


@_interval_slopes.defjvp
def _interval_slopes_jvp(primals, tangents):
    (a, w), (da, dw) = primals, tangents
    density, mean, offset = _interval_slopes(a, w)
    endless = jnp.isinf(w)
    dead = w == 0
    da = jnp.where(jnp.isinf(a) | dead, 0.0, da)
    dw = jnp.where(endless | dead, 0.0, dw)
    w = jnp.where(endless, 0.0, w)  # always times the density, which is 0 there
    pull = density * (w - offset)
    dmean = (w * density + mean * offset) * da + pull * dw
    b = jnp.where(endless, 0.0, jnp.where(jnp.isinf(a), 0.0, a) + w)
    ddensity = -pull * da - density * (b + density) * dw
    return (density, mean, offset), (ddensity, dmean, dmean - da)


@jax.custom_jvp
def _log_interval(a: Array, w: Array) -> Array:
    return _interval(a, w)[0]


@_log_interval.defjvp
def _log_interval_jvp(primals, tangents):
    (a, w), (da, dw) = primals, tangents
    density, mean, _ = _interval_slopes(a, w)
    da = jnp.where(jnp.isinf(a), 0.0, da)
    dw = jnp.where(jnp.isinf(w), 0.0, dw)
    return _log_interval(a, w), density * dw - mean * da


def log_ndtr_interval(a: ArrayLike, b: ArrayLike) -> Array:
    """log(Phi(b) - Phi(a)) for a <= b, either of them infinite or not; NaN for a > b.

    The interval is reflected into the nearer tail; narrow ones are integrated, the others are
    differences of Mills ratios. The derivatives phi(b) / mass and -phi(a) / mass are formed without
    mass. a = b: -inf with zero gradient. For an interval much narrower than |a|, b - a has lost
    digits: use `log_ndtr_width`.
    """
    a, b = as_floats(a, b)
    flip = a + b < 0
    low, high = jnp.where(flip, -b, a), jnp.where(flip, -a, b)
    equal = low == high
    width = jnp.where(equal, 0.0, jnp.where(equal, 0.0, high) - jnp.where(equal, 0.0, low))
    return _log_interval(low, width)


def log_ndtr_width(a: ArrayLike, width: ArrayLike) -> Array:
    """log(Phi(a + width) - Phi(a)), for widths known better than a + width can be stored (bins of a
    grid).

    The derivative in a with the width held is -E[Z | a < Z < a + width], without the cancellation
    that the two derivatives of `log_ndtr_interval` meet in a common shift of both ends. width = 0:
    -inf with zero gradient.
    """
    a, width = as_floats(a, width)
    flip = a + 0.5 * width < 0
    return _log_interval(jnp.where(flip, -(a + width), a), width)
