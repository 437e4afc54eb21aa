"""Log-densities of the gamma function's family, after Loader (2000).

The large parts of lgamma cancel in every density, and with them go the digits: in float32 a Poisson
log-mass at k = rate = 1e7 computed from `gammaln` is off by ten nats. Here nothing large is ever
formed. Every density is a sum of a *deviance* D(x, m) = x log(x/m) + m - x >= 0, of *Stirling
errors* delta(x), and of logarithms of order one (Loader 2000, "Fast and accurate computation of
binomial probabilities", and R's nmath). The derivative rules are of the same kind, so that
gradients hold their digits too.

Conventions of the whole file:

- Element by element with broadcasting, in float32 or wider; NaN in gives NaN out.
- Arguments are inside the support (counts >= 0, x > 0, parameters > 0) or on its closed edge, as
  each docstring says; the distributions mask what is outside.
- "x log y" is 0 where x = 0, and on an edge of the support an infinite slope is taken as 0.
"""

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._rules import with_partials
from likelax.numerics.deviance import gap_deviance, log_ratio, product_gap, two_deviances
from likelax.numerics.gamma import (
    digamma_minus_log,
    digamma_minus_log_step,
    in_order,
    lgamma,
    log_beta_parts,
    stirling,
    trigamma,
    trigamma_step,
)
from likelax.numerics.logspace import as_floats, divide, log1p, xlogy

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def _gamma_curve_x(x, a, rate):
    v = jnp.where(x == 0, 1.0, x)
    return jnp.where(x == 0, 0.0, ((1.0 - a) / v) * (1.0 / v))


@with_partials(
    _gamma_curve_x,
    lambda x, a, rate: jnp.where(x == 0, 0.0, 1.0 / jnp.where(x == 0, 1.0, x)),
    lambda x, a, rate: -jnp.ones_like(x),
)
def _gamma_slope_x(x, a, rate):
    edge = x == 0
    return jnp.where(edge, -rate, -(product_gap(rate, x, a) + 1.0) / jnp.where(edge, 1.0, x))


def _gamma_slope_a(x, a, rate):
    # log(rate x) - digamma(a), without log x at x = 0.
    v = jnp.where(x == 0, 1.0, x)
    lost = rate * v < jnp.finfo(v.dtype).tiny
    r, w = jnp.where(lost, 1.0, rate), jnp.where(lost, 1.0, v)
    ratio = jnp.where(
        lost, jnp.log(rate) + jnp.log(v) - jnp.log(a), -log_ratio(a, r * w, product_gap(r, w, a))
    )
    return ratio - digamma_minus_log(a)


@with_partials(
    lambda x, a, rate: -jnp.ones_like(x),
    lambda x, a, rate: 1.0 / rate,
    lambda x, a, rate: (-a / rate) * (1.0 / rate),
)
def _gamma_slope_rate(x, a, rate):
    return -product_gap(rate, x, a) / rate


@with_partials(_gamma_slope_x, _gamma_slope_a, _gamma_slope_rate)
def _gamma_log_pdf(x, a, rate):
    low = (a < 2.0) | (rate * x < jnp.finfo(x.dtype).tiny)  # a product that underflows, or x = 0
    v, c, r = jnp.where(low, 1.0, x), jnp.where(low, 2.0, a), jnp.where(low, 1.0, rate)
    saddle = (
        -gap_deviance(c, r * v, product_gap(r, v, c)) - jnp.log(v) - stirling(0, from_one=True)(c)
    )
    saddle = saddle + (0.5 * jnp.log(c) - _HALF_LOG_2PI)
    plain = a * jnp.log(rate) + xlogy(a - 1.0, x) - rate * x - lgamma(a)
    return jnp.where(low, plain, saddle)


def gamma_log_pdf(x: ArrayLike, concentration: ArrayLike, rate: ArrayLike) -> Array:
    """log of rate^a x^(a-1) exp(-rate x) / Gamma(a), for x >= 0, a = concentration > 0, rate > 0.

    From a = 2 on -delta(a) - D(a, rate x) + log(a / 2 pi) / 2 - log x, with rate x - a error-free
    (Loader 2000); below the plain form. Slope in a: log(rate x) - digamma(a), a log ratio and small
    terms. At x = 0
    the limits: inf for a < 1, log(rate) for a = 1, -inf for a > 1; there the slope in a leaves out
      log x.
    """
    return _gamma_log_pdf(*jnp.broadcast_arrays(*as_floats(x, concentration, rate)))


def _times_rate(x, log_rate):
    """x exp(log_rate), 0 at x = 0."""
    return jnp.where(x == 0, 0.0, x * jnp.exp(log_rate))


def _times_exp(x, log_rate):
    """(z, c) with log z + c = log x + log_rate, where the product itself would underflow to 0."""
    z, tiny = _times_rate(x, log_rate), jnp.finfo(x.dtype).tiny
    small = (z < tiny) & (x > 0)
    log_x = jnp.log(jnp.where(small, x, 1.0))
    return jnp.where(small, tiny, z), jnp.where(small, log_x + log_rate - jnp.log(tiny), 0.0)


def _per(x):
    """1/x, 0 at the edge 0."""
    return jnp.where(x == 0, 0.0, 1.0 / jnp.where(x == 0, 1.0, x))


@with_partials(
    lambda x, a, log_rate: (1.0 - a) * _per(x) * _per(x),
    lambda x, a, log_rate: _per(x),
    lambda x, a, log_rate: -jnp.exp(log_rate),
)
def _gamma_log_rate_slope_x(x, a, log_rate):
    rate = jnp.exp(log_rate)
    lost = (x == 0) | (x * rate == jnp.inf)
    v = jnp.where(lost, 1.0, x)
    return jnp.where(lost, -rate, -divide((jnp.where(lost, 0.0, rate) * v - a) + 1.0, v))


@with_partials(
    lambda x, a, log_rate: _per(x),
    lambda x, a, log_rate: -trigamma(a),
    lambda x, a, log_rate: jnp.ones_like(x),
)
def _gamma_log_rate_slope_a(x, a, log_rate):
    # log z - digamma(a), without log x at x = 0.
    z = _times_rate(x, log_rate)
    lost = ~((z >= jnp.finfo(x.dtype).tiny) & (z < jnp.inf))
    m = jnp.where(lost, a, z)
    far = jnp.log(jnp.where(x == 0, 1.0, x)) + log_rate - jnp.log(a)
    return jnp.where(lost, far, -log_ratio(a, m, m - a)) - digamma_minus_log(a)


@with_partials(
    lambda x, a, log_rate: -jnp.exp(log_rate),
    lambda x, a, log_rate: jnp.ones_like(x),
    lambda x, a, log_rate: -_times_rate(x, log_rate),
)
def _gamma_log_rate_slope(x, a, log_rate):
    # At x = 0 only the density of a = 1 is neither 0 nor infinite.
    return jnp.where((x == 0) & (a != 1.0), 0.0, a - _times_rate(x, log_rate))


@with_partials(
    _gamma_log_rate_slope_x,
    _gamma_log_rate_slope_a,
    _gamma_log_rate_slope,
)
def _gamma_log_rate_pdf(x, a, log_rate):
    z, lost = _times_exp(x, log_rate)
    return _gamma_log_pdf(z, a, jnp.ones_like(z)) + (a - 1.0) * lost + log_rate


def gamma_log_rate_pdf(x: ArrayLike, concentration: ArrayLike, log_rate: ArrayLike) -> Array:
    """`gamma_log_pdf` by the rate's logarithm, also where x times the rate is no float."""
    return _gamma_log_rate_pdf(*jnp.broadcast_arrays(*as_floats(x, concentration, log_rate)))


@with_partials(lambda x, a, b: a + b, lambda x, a, b: x - 1.0, lambda x, a, b: x)
def beta_gap(x, a, b):
    """(a + b) x - a, with the rounding errors of the sum and of the product kept."""
    n = a + b
    small, large = in_order(a, b)
    return product_gap(n, x, a) + (small - (n - large)) * x


def _beta_slope_x(x, a, b):
    zero, one = x == 0, x == 1
    v = jnp.where(zero | one, 0.5, x)
    inside = (2.0 * v - 1.0 - beta_gap(v, a, b)) / (v * (1.0 - v))
    return jnp.where(zero, 1.0 - b, jnp.where(one, a - 1.0, inside))


# The curvatures in a and b are no differences of 1 / a and 1 / (a + b).
@with_partials(
    lambda x, a, b: jnp.where(x == 0, 0.0, 1.0 / jnp.where(x == 0, 1.0, x)),
    lambda x, a, b: trigamma_step(a, b),
    lambda x, a, b: trigamma(a + b),
)
def _beta_slope_a(x, a, b):
    # log x + digamma(n) - digamma(a), without log x at x = 0, where n x - a is put to n - a.
    edge = x == 0
    gap = jnp.where(edge, b, beta_gap(x, a, b))
    # Both sides of the ratio in larger units: n x may be below the smallest float.
    unit = jnp.where(a + b < 1.0, 2.0**80, 1.0)
    share = (a + b) * (jnp.where(edge, 1.0, x) * unit)
    return -log_ratio(a * unit, share, gap * unit) + digamma_minus_log_step(a, b)


@with_partials(
    lambda x, a, b: jnp.where(x == 1, 0.0, -1.0 / jnp.where(x == 1, 1.0, 1.0 - x)),
    lambda x, a, b: trigamma(a + b),
    lambda x, a, b: trigamma_step(b, a),
)
def _beta_slope_b(x, a, b):
    edge = x == 1
    gap = jnp.where(edge, a, -beta_gap(x, a, b))
    return -log_ratio(b, (a + b) * jnp.where(edge, 1.0, 1.0 - x), gap) + digamma_minus_log_step(
        b, a
    )


@with_partials(_beta_slope_x, _beta_slope_a, _beta_slope_b)
def _beta_log_pdf(x, a, b):
    edge = (x == 0) | (x == 1)
    plain_form = (a < 2.0) | (b < 2.0) | edge
    normalizer, rest = log_beta_parts(a, b)
    v = jnp.where(edge, 0.5, x)
    log_y = log1p(-v)
    saddle = -two_deviances(a, b, v, 1.0 - v, beta_gap(v, a, b)) - jnp.log(v) - log_y - rest
    edge_y = xlogy(b - 1.0, jnp.where(x == 1, 0.0, 1.0))
    plain = xlogy(a - 1.0, x) + jnp.where(edge, edge_y, (b - 1.0) * log_y) - normalizer
    return jnp.where(plain_form, plain, saddle)


def half_harmonic(a, b):
    """a b / (a + b) for a, b > 0."""
    small, large = in_order(a, b)
    return small / (1.0 + divide(small, large))


def _core_slope(c, d, z, gap):
    """Of `beta_log_core` in c, given gap = (c + d) z - c."""
    log = -log_ratio(c, (c + d) * z, gap) + digamma_minus_log_step(c, d)
    return log - 0.5 * (d / (c + d)) / c


@with_partials(
    lambda a, b, x, y, gap: _core_slope(*_two(a, b), x, gap),
    lambda a, b, x, y, gap: _core_slope(*_two(b, a), y, -gap),
    lambda a, b, x, y, gap: -gap / x / y,
    None,
    None,
)
def beta_log_core(a, b, x, y, gap):
    """log of x (1 - x) density, less log(a b / (a + b)) / 2: at the mean it is never large. 0 < x < 1, y = 1 -
    x, gap = (a + b) x - a, and a, b >= 2, elsewhere taken for 2. y and gap carry digits and have no slope.
    """
    a, b = _two(a, b)
    rest = stirling(0, True)(a) + stirling(0, True)(b) - stirling(0, True)(a + b)
    return -two_deviances(a, b, x, y, gap) - (rest + _HALF_LOG_2PI)


def _two(a, b):
    # Not jnp.maximum, whose slope at 2 is a half.
    return jnp.where(a < 2.0, 2.0, a), jnp.where(b < 2.0, 2.0, b)


def beta_log_pdf(x: ArrayLike, a: ArrayLike, b: ArrayLike) -> Array:
    """log of x^(a-1) (1-x)^(b-1) / B(a, b), for 0 <= x <= 1 and a, b > 0.

    Where a and b are both 2 or more Loader's form with n x - a error-free, n = a + b; otherwise the
    plain form on `log_beta`. At 0 and 1 the one-sided limits; Beta(1, 1) is 0 on all of [0, 1] with
    finite slopes.
    """
    return _beta_log_pdf(*jnp.broadcast_arrays(*as_floats(x, a, b)))


def dirichlet_log_pdf(x: ArrayLike, concentration: ArrayLike) -> Array:
    """Dirichlet log-density over the last axis, x (..., K) on the simplex and concentration (...,
    K) > 0.

    Independent Gamma(x_i; a_i, A) given their sum, A = sum a_i: the sum of those log-densities less
    that of Gamma(1; A, A). In the table of numerics that is -sum D(a_i, A x_i) and small terms. It
    is the density of x / sum(x) to first order, so x's rounding off the simplex does not count; by
    the same token its slope in x is (a_i - 1) / x_i - A, which is the textbook's (a_i - 1) / x_i
    along the simplex. At x_i = 0: inf, finite or -inf as a_i < 1, = 1, > 1 (-inf if both infinities
    meet).
    """
    x, a = jnp.broadcast_arrays(*as_floats(x, concentration))
    total = jnp.sum(a, axis=-1)
    parts = gamma_log_pdf(x, a, total[..., None])
    lowest = jnp.any(parts == -jnp.inf, axis=-1)
    parts = jnp.where(lowest[..., None] & jnp.isposinf(parts), 0.0, parts)
    return jnp.sum(parts, axis=-1) - gamma_log_pdf(jnp.ones_like(total), total, total)
