"""Quantiles of Gamma and Beta: against SciPy, by their tails in mpmath, and their slopes."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from likelax.numerics import inverses
from likelax.testing.subject import quick_jit
from numerics.reference import DTYPES, loggamma

SHAPES = [1e-2, 0.3, 0.99, 1.0, 2.5, 40.0, 60.0, 1e4]
PROBABILITIES = [1e-30, 1e-8, 1e-3, 0.1, 0.5, 0.500001, 0.9, 0.9999, 1 - 2.0**-20]
GAMMA = [(a, p) for a in SHAPES for p in PROBABILITIES]
PAIRS = [(0.02, 0.5), (0.5, 0.5), (1.0, 1.0), (1.0, 7.0), (2.5, 0.3), (3.0, 40.0), (80.0, 60.0)]
PAIRS += [(2e4, 1e3), (1e6, 3e6)]
BETA = [(a, b, p) for a, b in PAIRS for p in PROBABILITIES[1:]]


def mp_log_lower(a, x):
    """log P(a, x) for x < a by the integral of its density, scaled by x: nothing cancels."""
    with mp.workdps(60):
        a, x = mp.mpf(float(a)), mp.mpf(float(x))
        width = 40 / mp.sqrt(a)
        integral = mp.quad(
            lambda u: mp.exp((a - 1) * mp.log1p(-u) + x * u), mp.linspace(0, width, 21)
        )
        return float(a * mp.log(x) - x - loggamma(a) + mp.log(integral))


def compare(got, want, density, p, top, dtype):
    """`got` within 8 roundings of x, of p and of log p, which is what is solved for; an error in log
    p moves log x by p / (x density).
    """
    keep = (want > np.finfo(dtype).tiny * 8) & (want < top)
    got, want, p = got[keep], want[keep], p[keep]
    with np.errstate(all="ignore"):
        moved = np.exp(np.minimum(np.log(p) - density(want, keep) - np.log(want), 700))
    moved = np.where(p > 0.5, (1 - p) / p, 1) * moved
    target = np.maximum(1, -np.log(np.where(p > 0.5, 1 - p, p)) / 8)
    allowed = 8 * (1 + target * moved) * np.finfo(dtype).eps
    error = np.abs(got / want - 1)
    worst = np.argmax(error / np.maximum(allowed, 1e-13))
    assert error[worst] <= max(allowed[worst], 1e-13), (worst, want[worst], p[worst], error[worst])


@pytest.mark.parametrize("dtype", DTYPES)
def test_gammainc_inverse_against_scipy(dtype):
    a, p = np.array(GAMMA).T.astype(dtype)
    with jax.enable_x64(dtype == np.float64):
        got = np.asarray(jax.jit(inverses.gammainc_inverse)(a, p), np.float64)
    a, p = a.astype(np.float64), p.astype(np.float64)
    upper = p > 0.5
    want = np.where(upper, scipy.special.gammainccinv(a, 1 - p), scipy.special.gammaincinv(a, p))
    compare(got, want, lambda x, keep: scipy.stats.gamma(a[keep]).logpdf(x), p, np.inf, dtype)
    assert np.all(got[want <= np.finfo(dtype).tiny] <= 1e-30)


@pytest.mark.parametrize("dtype", DTYPES)
def test_betainc_inverse_against_scipy(dtype):
    a, b, p = np.array(BETA).T.astype(dtype)
    with jax.enable_x64(dtype == np.float64):
        got = np.asarray(jax.jit(inverses.betainc_inverse)(a, b, p), np.float64)
    a, b, p = (v.astype(np.float64) for v in (a, b, p))
    want = scipy.stats.beta(a, b).ppf(p)
    density = lambda x, keep: scipy.stats.beta(a[keep], b[keep]).logpdf(x)  # noqa: E731
    compare(got, want, density, p, 1 - 8 * np.finfo(dtype).eps, dtype)
    near_one = want >= 1 - 8 * np.finfo(dtype).eps
    assert np.all(got[near_one] >= 1 - 32 * np.finfo(dtype).eps)


def test_huge_shapes_by_their_tail():
    """The tail at the quantile is p; SciPy's own tail is off there, by a third of a nat."""
    with jax.enable_x64(True):
        p = np.array([1e-8, 1e-3])
        x = np.asarray(jax.jit(inverses.gammainc_inverse)(1e8, p))
    tails = [mp_log_lower(1e8, at) for at in x]
    # One rounding of x moves the tail by eps x density / P, about eps sqrt(a) |z|.
    np.testing.assert_allclose(tails, np.log(p), rtol=0, atol=8 * 1e4 * 6 * 2.3e-16)
    narrow = np.asarray(jax.jit(inverses.gammainc_inverse)(np.float32(1e8), np.float32(p)))
    np.testing.assert_allclose(narrow, x, rtol=2e-7)
    theirs = scipy.special.gammaincinv(1e8, 1e-8)
    assert abs(mp_log_lower(1e8, theirs) - np.log(1e-8)) > 0.1


@pytest.mark.slow
def test_slopes_against_differences():
    """Slopes in p and in the shapes, against differences of SciPy's quantiles."""
    with jax.enable_x64(True):
        for ours, theirs, points in [
            (inverses.gammainc_inverse, scipy.special.gammaincinv, [(0.7, 0.2), (30.0, 0.9)]),
            (inverses.betainc_inverse, scipy.special.betaincinv, [(0.7, 3.0, 0.2), (60, 70, 0.8)]),
        ]:
            columns = np.array(points, np.float64).T
            each = tuple(range(len(columns)))
            both = jax.vmap(lambda *p, f=ours, n=each: (jax.grad(f, n)(*p), jax.jacfwd(f, n)(*p)))
            back, forward = map(np.asarray, quick_jit(both)(*columns))
            np.testing.assert_allclose(back, forward, rtol=1e-12)
            for point, slopes in zip(columns.T, back.T, strict=True):
                for i, slope in enumerate(slopes):
                    step = 1e-5 * point[i] * np.eye(len(point))[i]
                    difference = theirs(*(point + step)) - theirs(*(point - step))
                    np.testing.assert_allclose(slope, difference / (2e-5 * point[i]), rtol=1e-6)


def test_edges_have_their_value_and_no_slope():
    p = jnp.array([0.0, 1.0, jnp.nan, -0.1, 1.1])
    for f, top in [
        (lambda p: inverses.gammainc_inverse(2.0, p), np.inf),
        (lambda p: inverses.betainc_inverse(2.0, 3.0, p), 1.0),
    ]:
        value, slope = jax.jit(jax.vmap(jax.value_and_grad(f)))(p)
        np.testing.assert_array_equal(value, [0.0, top, np.nan, np.nan, np.nan])
        np.testing.assert_array_equal(slope[:2], 0.0)


def test_gammaincc_inverse_keeps_small_upper_tails():
    a, p = np.float32([0.3, 2.5, 80.0]), np.float32([1e-30, 1e-9, 0.6])
    want = scipy.special.gammainccinv(a.astype(float), p.astype(float))
    got = jax.jit(inverses.gammaincc_inverse)(a, p)
    np.testing.assert_allclose(got, want, rtol=2e-6)
    lower = jax.jit(inverses.gammainc_inverse)
    assert np.isinf(lower(a[:2], 1 - p[:2])).all()  # the control
    slope = jax.jit(jax.grad(lambda p: inverses.gammaincc_inverse(2.5, p)))(0.2)
    other = jax.jit(jax.grad(lambda p: inverses.gammainc_inverse(2.5, p)))(0.8)
    np.testing.assert_allclose(slope, -other, rtol=1e-5)
