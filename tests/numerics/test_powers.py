"""Densities in exp(-z) and z^k against mpmath, to second order, where their arguments are magnified."""

import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from jax.scipy.special import gammaln

from likelax.numerics import logspace, pairs, powers, reciprocal
from numerics.reference import DTYPES, check, check_fails


def log_sigmoid(y):
    return -mp.log1p(mp.exp(-y)) if y > -30 else y - mp.log1p(mp.exp(y))


def gumbel(x, loc, s):
    z = (x - loc) / s
    return -z - mp.exp(-z)


def weibull(x, k, s):
    y = k * mp.log(x / s)
    return mp.log(k / x) + y - mp.exp(y)


def pareto(x, a, s):
    return mp.log(a / x) - a * mp.log(x / s)


def log_logistic(x, k, s):
    y = k * mp.log(x / s)
    return mp.log(k / x) + log_sigmoid(y) + log_sigmoid(-y)


def half_cauchy(x, s):
    return mp.log(2 / mp.pi / s) - mp.log1p((x / s) ** 2)


def half_cauchy_tail(x, s):
    return mp.log(2 / mp.pi * mp.atan(x / s))


def half_cauchy_tail_of_ratio(x, s):
    return powers.half_cauchy_log_tail(pairs.log_over(x, s))


def inverse_gamma(x, a, s):
    return a * mp.log(s / x) - mp.loggamma(a) - mp.log(x) - s / x


def kumaraswamy(x, a, b):
    y = -a * mp.log(x)
    rest = mp.log(-mp.expm1(-y)) if y < 1 else mp.log1p(-mp.exp(-y))
    return mp.log(a * b / x) - y + (b - 1) * rest


UNIT = [(0.7, 1.3, 2.1), (1e-20, 0.9, 3e17), (0.9999999, 30.0, 0.02), (0.3, 1e-5, 1e6)]
UNIT += [(1e-6, 1.0, 1.0), (0.99, 1e4, 7.0)]
INVERSE = [(0.7, 1.3, 2.1), (3e-4, 20000.0, 6.3), (7e18, 0.2, 2e12), (1.3e-9, 1e-6, 4e-12)]
INVERSE += [(0.33333334, 1e8, 3.3334e7), (1e12, 1.0, 2e-10)]
GUMBEL = [(-61.0, 0.3, 0.75), (70.0, -3.0, 1.1), (0.1, 0.1, 3.0), (-1e7, 2e3, 1.3e5)]
GUMBEL += [(2e9, 1.7, 3e17), (0.30000001, 0.3, 1e-8)]
POWERS = [(0.7, 1.3, 2.1), (1.7e12, 3.1, 0.9), (1e-13, 2.2, 3.0), (3.3e-8, 0.021, 2e9)]
POWERS += [(1e-18, 1.0, 2e-9), (0.7000001, 3e6, 0.7), (5.1e-10, 0.9, 4.7e3), (2.5, 2e-6, 0.3)]
EARLY = [p for p in POWERS if p[1] * np.log(p[0] / p[2]) < 30]
LATE = [(0.7, 1.3, 0.3), (1.7e12, 3.1, 0.9), (7e28, 1e-4, 2e-12), (0.7000001, 3e6, 0.7)]
CAUCHY = [(1e-30, 1e7), (2e19, 1.3e-9), (0.7, 0.9), (0.9, 0.7), (3.0, 2e18), (4e-16, 4e-16)]


def floors(points):
    """The typical scores, one over each argument's own size, and their products."""
    size = np.abs(np.array(points)).T
    slope = tuple(1 / s for s in size)
    return 1, slope, tuple(tuple(a * b for b in slope) for a in slope)


def scaled(points):
    """The same for a location family: all by the scale, in units of the magnified exponent."""
    unit = np.array([1 / p[2] for p in points])
    return 1, (unit,) * 3, ((unit**2,) * 3,) * 3


def inverse_floors(points):
    """Relative to the spread of log x, about 1/sqrt(a) for a large a."""
    a = np.array([p[1] for p in points])
    x, _, s = np.array(points).T
    root = np.sqrt(np.maximum(a, 1))
    slope = root / x, 1 / np.maximum(np.minimum(a, np.sqrt(a)), 1e-30), root / s
    return 1, slope, tuple(tuple(b * c for b in slope) for c in slope)


def unit_floors(points):
    """The length of x is that to the nearer end."""
    return floors([(min(x, 1 - x), a, b) for x, a, b in points])


GRIDS = {
    "gumbel": (powers.gumbel_log_kernel, gumbel, GUMBEL, scaled(GUMBEL)),
    "weibull": (powers.weibull_log_pdf, weibull, EARLY, floors(EARLY)),
    "pareto": (powers.pareto_log_pdf, pareto, LATE, floors(LATE)),
    "log_logistic": (powers.log_logistic_log_pdf, log_logistic, POWERS, floors(POWERS)),
    "kumaraswamy": (powers.kumaraswamy_log_pdf, kumaraswamy, UNIT, unit_floors(UNIT)),
    "inverse_gamma": (
        reciprocal.inverse_gamma_log_pdf,
        inverse_gamma,
        INVERSE,
        inverse_floors(INVERSE),
    ),
    "half_cauchy": (powers.half_cauchy_log_pdf, half_cauchy, CAUCHY, floors(CAUCHY)),
    "half_cauchy_tail": (half_cauchy_tail_of_ratio, half_cauchy_tail, CAUCHY, floors(CAUCHY)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_densities(name):
    function, reference, points, sizes = GRIDS[name]
    check(function, reference, points, np.float32, floors=sizes)


def test_one_rounding_of_the_argument_is_magnified():
    """The controls: the plain forms, right but for the rounding of z and of log z."""

    def plain_gumbel(x, loc, s):
        z = (x - loc) / s
        return -z - jnp.exp(-z)

    def plain_weibull(x, k, s):
        return jnp.log(k / x) + k * jnp.log(x / s) - jnp.exp(k * jnp.log(x / s))

    check_fails(plain_gumbel, gumbel, GUMBEL, np.float32, floors=scaled(GUMBEL), argnums=(0,))

    def plain_inverse_gamma(x, a, s):
        return a * jnp.log(s / x) - gammaln(a) - jnp.log(x) - s / x

    sizes = inverse_floors(INVERSE)
    check_fails(plain_inverse_gamma, inverse_gamma, INVERSE, np.float32, floors=sizes, argnums=(0,))
    check_fails(plain_weibull, weibull, EARLY, np.float32, floors=floors(EARLY), argnums=(0,))


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_mean_decay(dtype):
    points = [(1e-30,), (1e-8,), (0.1,), (0.49,), (0.51,), (3.0,), (90.0,), (1e20,)]

    def exact(u):
        return mp.log(-mp.expm1(-u) / u)

    check(logspace.log_mean_decay, exact, points, dtype, floors=(1, 0, 0), digits=120)


def test_a_log_of_a_quotient_has_two_words():
    """log(x/m) to 2^-28 of itself in float32, near 1 and where x/m overflows, by its two words."""
    x = np.float32([1.0000001, 3e30, 2e-30, 0.7, 1e-12, 5.0])
    m = np.float32([1.0, 1e-20, 7e25, 0.7000001, 1.4e-12, 1.25])
    high, low = map(np.asarray, pairs.log_quotient(jnp.asarray(x), jnp.asarray(m)))
    for h, s, a, b in zip(high, low, x, m, strict=True):
        want = mp.log(mp.mpf(float(a)) / mp.mpf(float(b)))
        assert abs(mp.mpf(float(h)) + mp.mpf(float(s)) - want) < 2.0**-28 * abs(want)
        assert abs(mp.mpf(float(h)) - want) <= 2.0**-24 * abs(want)
    # The control: without the low word the bound is missed.
    assert (np.abs(low) > 2.0**-28 * np.abs(high)).any()
