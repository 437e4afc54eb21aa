"""Bessel functions and the von Mises distribution function against mpmath, to second order."""

import functools
import math

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import scipy.stats

from likelax.numerics import bessel
from numerics.reference import (
    DTYPES,
    INF,
    all_derivatives,
    check,
    check_fails,
    partial,
    run,
    second,
    worst,
)

GRID = [
    1e-20,
    1e-4,
    0.01,
    0.3,
    1.0,
    2.0,
    2.99,
    3.0,
    3.01,
    3.7,
    6.0,
    7.0,
    10.0,
    20.0,
    21.0,
    60.0,
    500.0,
]
POINTS = [(x,) for x in [*GRID, 1e4, 1e6]]


@functools.cache
def bessels(x, digits):
    """exp(-x) I0(x) and exp(-x) I1(x), remembered: differencing asks again and again."""
    return mp.exp(-x) * mp.besseli(0, x), mp.exp(-x) * mp.besseli(1, x)


def mp_ratio(x):
    i0e, i1e = bessels(x, mp.mp.dps)
    return i1e / i0e


def mp_log_i0e(x):
    return mp.log(bessels(x, mp.mp.dps)[0])


REFERENCES = {
    "log_i0e": mp_log_i0e,
    "log_i0": lambda x: mp_log_i0e(x) + x,
    "bessel_ratio": mp_ratio,
    "bessel_ratio_defect": lambda x: 1 - mp_ratio(x),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", REFERENCES)
def test_against_mpmath(name, dtype):
    # Purely relative, but for log_i0e's value near 0.
    floors = (float(name == "log_i0e"), 0, 0)
    points = POINTS[1:] if name in ("log_i0", "bessel_ratio") else POINTS
    check(getattr(bessel, name), REFERENCES[name], points, dtype, floors=floors, digits=100)


def mp_cdf(angle, concentration):
    """The Fourier series, its ratios I_j / I_0 by backward recurrence."""
    digits = mp.mp.dps
    count = int(mp.sqrt(2 * concentration * digits * mp.log(10))) + 4 * digits
    above, here, ratios = mp.mpf(0), mp.mpf(10) ** -digits, []
    for j in range(count, 0, -1):
        ratios.append(here)
        above, here = here, above + 2 * j / concentration * here if concentration else mp.mpf(0)
    if not concentration:
        return mp.mpf(1) / 2 + angle / (2 * mp.pi)
    rotate = mp.expj(angle)
    power, total = mp.mpc(1), mp.mpf(0)
    for j, value in enumerate(reversed(ratios), 1):
        power *= rotate
        total += value / here * power.imag / j
    return mp.mpf(1) / 2 + angle / (2 * mp.pi) + total / mp.pi


ANGLES = [-3.0, -1.5, -0.3, 0.0, 0.7, 2.0]
VON_MISES = [(t, k) for k in (0.01, 1.0, 5.0, 40.0) for t in ANGLES]
VON_MISES += [(s / math.sqrt(k), k) for k in (300.0, 1e4) for s in (-6.0, -2.0, 0.0, 1.0)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_von_mises_cdf(dtype):
    points = np.asarray(VON_MISES, dtype).T
    got, gradient, hessian, _ = run(bessel.von_mises_cdf, points, dtype)
    with mp.workdps(90):
        exact = [[mp.mpf(float(c)) for c in p] for p in points.T]
        error, i = worst(got, [mp_cdf(*p) for p in exact], dtype, 1)
        assert error <= 4, (error, points[:, i])
        # Per unit of the angle's spread, and of the concentration's logarithm.
        units = np.sqrt(np.maximum(points[1], 1.0)), np.maximum(points[1], 1.0) ** -1.0
        for k in range(2):
            want = [partial(mp_cdf, p, k) for p in exact]
            error, i = worst(gradient[k], want, dtype, units[k])
            assert error <= 32, ("gradient", k, error, points[:, i], gradient[k][i])
            for j in range(k + 1):
                few = slice(0, None, 3)
                want = [second(mp_cdf, p, k, j) for p in exact[few]]
                for entry in (hessian[k][j], hessian[j][k]):
                    error, i = worst(entry[few], want, dtype, (units[k] * units[j])[few])
                    assert error <= 32, (
                        "hessian",
                        k,
                        j,
                        error,
                        points[:, few][:, i],
                        entry[few][i],
                    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_von_mises_tail_is_relative(dtype):
    grid = np.asarray([(-3.0, 1.0), (-2.0, 10.0), (-1.0, 20.0), (-0.05, 1e4), (-3.1, 30.0)], dtype)
    # A hair before pi, where the float next to pi is off by a thousandth of what is left.
    grid = np.concatenate([grid, np.asarray([(-3.1415, 2.0), (-3.14159, 20.0)], dtype)])
    with jax.enable_x64(dtype == np.float64):
        got = np.asarray(jax.jit(bessel.von_mises_cdf)(grid[:, 0], grid[:, 1]))
    with mp.workdps(120):
        for value, (t, k) in zip(got, grid, strict=True):
            want = mp_cdf(mp.mpf(float(t)), mp.mpf(float(k)))
            drop = 1 + 2 * float(k) * math.sin(float(t) / 2) ** 2
            assert abs(float(value) / want - 1) <= 4 * drop * np.finfo(dtype).eps, (t, k)


def test_von_mises_uniform_and_edges():
    pi = np.float32(np.pi)
    t, k = np.float32([[-4, -pi, -1, 0, 1, pi, 4, 0, 0.5], [1, 1, 0, 0, 0, 1, 1, 1e12, 1e30]])
    want = [0, 0, 0.5 - 0.5 / np.pi, 0.5, 0.5 + 0.5 / np.pi, 1, 1, 0.5, 1]
    value, derivatives = all_derivatives(bessel.von_mises_cdf, t, k)
    np.testing.assert_allclose(value, want, atol=2e-7)
    assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(derivatives))
    slope = np.asarray(derivatives[1][0])
    assert slope[0] == slope[6] == 0
    np.testing.assert_allclose(
        slope[[1, 3, 5]],
        scipy.stats.vonmises.pdf(t, 1.0)[[1, 0, 5]] * [1, 0, 1] + [0, 0.5 / np.pi, 0],
        rtol=1e-6,
    )


def test_edges_have_their_value_and_no_nan():
    x = np.float32([0.0, 1e-30, 1e30, INF])
    wants = {
        "log_i0e": ([0, -1e-30, None, -INF], [-1, -1, None, 0]),
        "log_i0": ([0, 0, 1e30, INF], [0, 5e-31, 1, 1]),
        "bessel_ratio": ([0, 5e-31, 1, 1], [0.5, 0.5, 0, 0]),
        "bessel_ratio_defect": ([1, 1, 5e-31, 0], [-0.5, -0.5, 0, 0]),
    }
    for name, rows in wants.items():
        value, derivatives = all_derivatives(getattr(bessel, name), x)
        for got, row in zip((value, derivatives[1][0]), rows, strict=True):
            keep = [i for i, w in enumerate(row) if w is not None]
            np.testing.assert_allclose(
                got[np.array(keep)], np.float32([row[i] for i in keep]), rtol=1e-6
            )
        assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(derivatives)), name
        outside = jax.jit(getattr(bessel, name))(np.float32([np.nan, -1.0]))
        assert np.all(np.isnan(outside)), name
    cdf = jax.jit(bessel.von_mises_cdf)
    assert np.isnan(cdf(jnp.nan, 1.0)) and np.isnan(cdf(0.3, jnp.nan))
    assert np.isnan(cdf(0.3, -1.0))


NAIVE = {
    "log_i0e": lambda x: jnp.log(jax.scipy.special.i0(x)) - x,
    "log_i0": lambda x: jnp.log(jax.scipy.special.i0e(x)) + x,
    "bessel_ratio_defect": lambda x: 1 - jax.scipy.special.i1e(x) / jax.scipy.special.i0e(x),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAIVE)
def test_the_naive_formula_fails_the_same_check(name, dtype):
    check_fails(NAIVE[name], REFERENCES[name], POINTS, dtype, floors=(1, 0, 0), digits=100)


def test_autodiff_of_log_i0e_fails_for_large_concentrations():
    x = np.float32(1e4)
    want = -float(1 / (2 * x) + 1 / (8 * x**2))
    assert abs(jax.grad(bessel.log_i0e)(x) / want - 1) < 1e-6
    naive = jax.grad(lambda x: jnp.log(jax.scipy.special.i0e(x)))(x)
    assert not abs(naive / want - 1) < 1e-4
