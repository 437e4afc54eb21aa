"""Generalised Pareto and extreme value densities against mpmath, to second order, through xi = 0."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from likelax.numerics import extremes
from numerics.reference import check, check_fails


def depth(x, loc, s, xi):
    """t = log1p(xi z)/xi and log1p(xi z); by the series where 200 digits would end."""
    z = (x - loc) / s
    w = xi * z
    if abs(w) < mp.mpf(10) ** -60:
        return z * (1 - w / 2 + w * w / 3), w - w * w / 2
    log = mp.log1p(w)
    return log / xi, log


def pareto(x, loc, s, xi):
    t, log = depth(x, loc, s, xi)
    return -t - log - mp.log(s)


def extreme_value(x, loc, s, xi):
    t, log = depth(x, loc, s, xi)
    return -mp.exp(-t) - t - log - mp.log(s)


def pareto_log_cdf(x, loc, s, xi):
    t = depth(x, loc, s, xi)[0]
    return mp.log(-mp.expm1(-t))


# Both signs, through 0 and -1, near the ends, sizes that leave float32 together, u that overflows.
BULK = [(0.7, 0.2, 1.3, 0.3), (2.0, 0.25, 0.75, -0.4), (3.0, 0.5, 0.8, 0.0), (9.0, 1.0, 2.0, 1e-20)]
BULK += [(1.1, 0.1, 2.0, -1.0), (0.95, 0.2, 1.5, -1.25), (1.7999, 0.3, 0.5, -0.3333333)]
BULK += [(40.0, 1.0, 3.0, 0.02), (2e3, -1.0, 0.5, 2.5)]
FAR = [(3e7, 0.0, 2e-12, 0.7), (2e20, 0.0, 1e-10, 1e10)]
LOWER = [(-40.0, 0.5, 0.75, 0.01), (-0.8, 0.5, 1.1, 0.8), (-9.0, 1, 2, 0)]


def floors(points):
    """One over the scale (the distance to loc, where that is far), and over 1 or xi."""
    x, loc, s, xi = np.array(points).T
    far, xi = np.maximum(s, np.abs(x - loc)), np.abs(xi)
    slope = 1 / far, 1 / far, 1 / s, 1 / np.maximum(1, xi)
    return 1, slope, tuple(tuple(b * c for b in slope) for c in slope)


GRIDS = {
    "pareto": (extremes.generalized_pareto_log_pdf, pareto, BULK + FAR),
    "pareto_log_cdf": (extremes.generalized_pareto_log_cdf, pareto_log_cdf, BULK[::2]),
    "extreme_value": (extremes.generalized_extreme_value_log_pdf, extreme_value, BULK + LOWER),
}


@pytest.mark.parametrize("name", GRIDS)
def test_values_and_derivatives(name):
    function, reference, points = GRIDS[name]
    check(function, reference, points, np.float32, floors=floors(points), digits=80)


def test_plain_forms_fail():
    """The controls: right but for roundings, and for the division by xi."""

    def plain(x, loc, s, xi):
        u = 1 + xi * (x - loc) / s
        return -(1 / xi + 1) * jnp.log(u) - jnp.log(s)

    near_0 = [(2.0, 0.5, 0.8, 1e-3)]
    near_end = [(1.7999, 0.3, 0.5, -0.3333333)]
    for points in (near_0, near_end):
        check_fails(
            plain, pareto, points, np.float32, floors=floors(points), digits=60, argnums=(3,)
        )


def test_the_end_is_a_limit():
    xi = jnp.array([-0.5, -1.0, -2.0])
    points = -0.5 / xi, jnp.zeros(3), jnp.full(3, 0.5), xi
    function = extremes.generalized_pareto_log_pdf
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(function, (0, 1, 2, 3))))(*points)
    np.testing.assert_allclose(values, [-np.inf, np.log(2), np.inf], rtol=1e-6)
    slopes = np.array(slopes)
    assert (slopes[:, ::2] == 0).all()
    # A box of height 1 / scale ends there: its slopes are those from within.
    np.testing.assert_array_equal(slopes[:, 1], [0, 0, -2, 0])
    np.testing.assert_array_equal(extremes.tail_end(0.0, 0.5, xi), -0.5 / xi)
