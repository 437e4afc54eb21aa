"""Normal tails, quantiles and intervals against mpmath, with derivatives to second order."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import scipy.special

from likelax.numerics import normal
from numerics.reference import DTYPES, INF, all_derivatives, check, check_fails

LINE = [-30.0, -13.0, -12.0, -5.5, -2.0, -1.0, -0.5, -0.1, -1e-3, -1e-20, 0.0]
LINE += [1e-20, 1e-3, 0.1, 0.5, 1.0, 2.5, 3.75, 5.0, 8.0]
FAR = [-1e8, -1e6, -1e4, -1e3, -100.0]


def mp_ndtr(z):
    return mp.erfc(-z / mp.sqrt(2)) / 2


def mp_log_ndtr(z):
    return mp.log(mp_ndtr(z))


def mp_hazard(z):
    return mp.npdf(z) / mp_ndtr(-z)


def mp_log_ndtri(log_p):
    """Newton from scipy's quantile: 1e-6 becomes below 1e-120 in five squarings."""
    z = mp.mpf(float(scipy.special.ndtri_exp(float(log_p))))
    for _ in range(5):
        p = mp_ndtr(z)
        z -= (mp.log(p) - log_p) * p / mp.npdf(z)
    return z


def mp_ndtri(p):
    """The same, from the nearer tail."""
    return mp_log_ndtri(mp.log(p)) if p < 0.5 else -mp_log_ndtri(mp.log(1 - p))


def mp_interval(a, b):
    if a + b < 0:
        a, b = -b, -a
    return mp.log((mp.erfc(a / mp.sqrt(2)) - mp.erfc(b / mp.sqrt(2))) / 2)


def points(grid):
    return [(x,) for x in grid]


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_ndtr(dtype):
    check(normal.log_ndtr, mp_log_ndtr, points(LINE), dtype)
    check(normal.log_ndtr, mp_log_ndtr, points(FAR), dtype, digits=240)


@pytest.mark.parametrize("dtype", DTYPES)
def test_inverse_mills(dtype):
    check(
        normal.inverse_mills, mp_hazard, points([-x for x in LINE + FAR]), dtype, floors=(0, 0, 0)
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_ndtr_and_pdf(dtype):
    # phi'' vanishes at -1 and 1, and phi' at 0: the natural scale is phi's own there.
    check(normal.ndtr, mp_ndtr, points(LINE), dtype, floors=(0, 0, 0))
    check(normal.normal_pdf, mp.npdf, points([-3.0, -0.5, 0.0, 1.5, 9.3]), dtype, floors=(0, 0, 0))
    check(
        normal.log_normal_pdf, lambda z: mp.log(mp.npdf(z)), points([-1e4, -0.5, 0.0, 2.0]), dtype
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_ndtri(dtype):
    grid = [1e-36, 1e-30, 1e-10, 1e-4, 0.02, 0.2, 0.2499, 0.25, 0.2501, 0.4, 0.4999, 0.5001, 0.6]
    grid += [0.7499, 0.75, 0.7501, 0.9, 0.99, 1 - 2.0**-12, 1 - 2.0**-23]
    check(normal.ndtri, mp_ndtri, points(grid), dtype, floors=(0, 0, 0), digits=120)


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_ndtri(dtype):
    grid = [
        -1e8,
        -1e4,
        -700.0,
        -87.0,
        -20.0,
        -5.0,
        -1.0,
        -0.7,
        -0.69,
        -0.5,
        -0.1,
        -1e-3,
        -1e-8,
        -1e-20,
    ]
    check(normal.log_ndtri, mp_log_ndtri, points(grid), dtype, digits=120)


INTERVALS = [
    (-1.0, 2.0),
    (-0.3, 0.3),
    (0.5, 0.75),
    (-0.01, 0.02),
    (-2.0, -1.5),
    (3.0, 3.25),
    (0.0, 1.0),
]
INTERVALS += [(-9.0, 9.0), (-3.0, 3.5), (-0.7, 0.9), (0.25, 8.0), (-8.0, -0.25), (-0.25, 8.0)]
INTERVALS += [(5.0, 5.125), (5.0, 5.25), (5.0, 7.0), (-7.0, -5.0), (30.0, 30.03125), (30.0, 31.0)]
FAR_INTERVALS = [(1e3, 1001.0), (1e4, 10001.0), (-10001.0, -1e4), (1e4, 10000.0009765625)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_ndtr_interval(dtype):
    check(normal.log_ndtr_interval, mp_interval, INTERVALS, dtype, floors=(1, 1, 1))
    check(normal.log_ndtr_interval, mp_interval, FAR_INTERVALS, dtype, floors=(1, 1, 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_ndtr_width(dtype):
    def reference(a, width):
        return mp_interval(a, a + width)

    grid = [(a, w) for a in (-40.0, -3.0, -0.1, 0.0, 1.0, 20.0) for w in (1e-6, 1e-2, 0.5, 4.0)]
    grid += [(1e4, 1e-9), (1e4, 1.0), (-1e4, 1e-3)]
    check(normal.log_ndtr_width, reference, grid, dtype, floors=(1, 1, 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_half_lines_are_log_ndtr(dtype):
    with jax.enable_x64(dtype == np.float64):
        z = jnp.asarray([-1e4, -20.0, -1.0, 0.0, 0.5, 4.0], dtype)
        end = jnp.full_like(z, INF)
        value, slopes, curves = jax.jit(
            lambda z: (
                normal.log_ndtr(z),
                jax.vmap(jax.grad(normal.log_ndtr))(z),
                jax.vmap(jax.grad(jax.grad(normal.log_ndtr)))(z),
            )
        )(z)
        for args, k, sign in (((-end, z), 1, 1), ((-z, end), 0, -1)):
            got, (_, gradient, hessian) = all_derivatives(normal.log_ndtr_interval, *args)
            tight = 16 * np.finfo(dtype).eps
            np.testing.assert_allclose(got, value, rtol=tight)
            np.testing.assert_allclose(gradient[k], sign * slopes, rtol=tight)
            np.testing.assert_allclose(hessian[k][k], curves, rtol=tight)
            assert np.all(gradient[1 - k] == 0)


def test_a_bin_far_out_keeps_the_gradient_of_its_location():
    # By its ends the slope is density - (density + mean), which loses a factor density / mean: 300
    # for a bin of a ten-thousandth.
    def by_width(loc):
        return normal.log_ndtr_width((300.0 - loc) / 3.0, 1e-4 / 3.0)

    def by_ends(loc):
        return normal.log_ndtr_interval((300.0 - loc) / 3.0, (300.0001 - loc) / 3.0)

    loc = np.linspace(0.0, 1.0, 7, dtype=np.float32)
    want = (300.00005 - loc.astype(np.float64)) / 9.0
    good, poor = (
        np.abs(jax.jit(jax.vmap(jax.value_and_grad(f)))(loc)[1] / want - 1).max()
        for f in (by_width, by_ends)
    )
    assert good < 1e-6 and poor > 1e-5  # why the other function exists


EDGES = [
    ("log_ndtr", (-INF,), -INF),
    ("log_ndtr", (INF,), 0.0),
    ("log_ndtr", (-1e19,), None),
    ("ndtr", (-INF,), 0.0),
    ("ndtr", (INF,), 1.0),
    ("ndtr", (0.0,), 0.5),
    ("inverse_mills", (-INF,), 0.0),
    ("inverse_mills", (INF,), INF),
    ("inverse_mills", (1e30,), np.float32(1e30)),
    ("ndtri", (0.0,), -INF),
    ("ndtri", (0.5,), 0.0),
    ("ndtri", (1.0,), INF),
    ("log_ndtri", (-INF,), -INF),
    ("log_ndtri", (0.0,), INF),
    ("log_ndtr_interval", (-INF, INF), 0.0),
    ("log_ndtr_interval", (1.0, 1.0), -INF),
    ("log_ndtr_interval", (INF, INF), -INF),
    ("log_ndtr_interval", (-INF, -INF), -INF),
    ("log_ndtr_interval", (0.0, INF), None),
    ("log_ndtr_interval", (-1e30, 1e30), 0.0),
    ("log_ndtr_width", (1.0, 0.0), -INF),
    ("log_ndtr_width", (0.0, INF), None),
]


@pytest.mark.parametrize("name", dict.fromkeys(name for name, _, _ in EDGES))
def test_edges_have_their_value_and_no_nan(name):
    rows = [(args, value) for n, args, value in EDGES if n == name]
    args = np.float32([args for args, _ in rows]).T
    values, derivatives = all_derivatives(getattr(normal, name), *args)
    for got, (_, value) in zip(values, rows, strict=True):
        assert np.isfinite(got) if value is None else got == value, (got, value)
    assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(derivatives))


def test_an_empty_interval_has_zero_gradient():
    assert jax.grad(normal.log_ndtr_interval, (0, 1))(2.0, 2.0) == (0, 0)


def test_nan_in_or_outside_the_domain_gives_nan_out():
    for name in ("log_ndtr", "ndtr", "inverse_mills", "ndtri", "log_ndtri", "normal_pdf"):
        assert np.isnan(getattr(normal, name)(jnp.nan)), name
    nan = np.array([jnp.nan, 0.0, 2.0])
    assert np.all(np.isnan(normal.log_ndtr_interval(nan, np.array([1.0, jnp.nan, 1.0]))))
    assert np.all(np.isnan(normal.log_ndtr_width(nan, np.array([0.0, jnp.nan, -1.0]))))
    assert np.all(np.isnan(normal.ndtri(np.array([-0.1, 1.1])))) and np.isnan(normal.log_ndtri(0.1))


NAIVE = {
    "log_ndtr": (lambda z: jnp.log(normal.ndtr(z)), mp_log_ndtr, points(LINE)),
    "inverse_mills": (
        lambda z: normal.normal_pdf(z) / normal.ndtr(-z),
        mp_hazard,
        points([-x for x in LINE]),
    ),
    "log_ndtri": (
        lambda v: jax.scipy.special.ndtri(jnp.exp(v)),
        mp_log_ndtri,
        points([-1e4, -1.0]),
    ),
    "log_ndtr_interval": (
        lambda a, b: jnp.log(normal.ndtr(b) - normal.ndtr(a)),
        mp_interval,
        INTERVALS,
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAIVE)
def test_the_naive_formula_fails_the_same_check(name, dtype):
    f, reference, grid = NAIVE[name]
    digits = 120 if "ndtri" in name else 200
    check_fails(f, reference, grid, dtype, floors=(1, 1, 1), digits=digits)
