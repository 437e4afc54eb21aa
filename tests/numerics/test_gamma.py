"""lgamma and its derivatives, log beta and log binomial, against mpmath, to second order."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from likelax.numerics import gamma
from numerics.reference import DTYPES, INF, all_derivatives, check, check_fails, loggamma

# Around the seams at 1, 2 and 3, near both zeros of lgamma, and far out.
LINE = [1e-30, 1e-6, 0.03, 0.5, 0.9999, 1.0, 1.0001, 1.3, 1.4616, 1.9999, 2.0, 2.0001, 2.6]
LINE += [2.9999, 3.0, 3.1, 5.5, 9.0, 40.0, 1e3, 1e7, 1e12]


def mp_stirling_error(x):
    return loggamma(x) - (x - mp.mpf(1) / 2) * mp.log(x) + x - mp.log(2 * mp.pi) / 2


def mp_log_beta(a, b):
    return loggamma(a) + loggamma(b) - loggamma(a + b)


def mp_log_binomial(n, k):
    return loggamma(n + 1) - loggamma(k + 1) - loggamma(n - k + 1)


ONE = {
    "stirling_error": (mp_stirling_error, (0, 0, 0)),
    "lgamma": (loggamma, (0, 1, 0)),
    "digamma": (mp.digamma, (1, 0, 0)),
    "trigamma": (lambda x: mp.polygamma(1, x), (0, 0, 0)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ONE)
def test_one_argument(name, dtype):
    reference, floors = ONE[name]
    grid = LINE if dtype == np.float64 else LINE[1:]  # powers of 1e-30 leave float32
    check(getattr(gamma, name), reference, [(x,) for x in grid], dtype, floors=floors, digits=100)


BETAS = [(0.3, 0.7), (1.0, 1.0), (1.0, 5.0), (2.0, 2.0), (0.5, 0.5), (1.9999, 2.5), (3.5, 3.5)]
BETAS += [(1e-6, 1e-6), (1e-6, 3.0), (1e-6, 1e8), (0.3, 1e6), (2.5, 1e8), (20.0, 30.0), (1e8, 1e8)]
BETAS += [(1e4, 1e8), (0.9999, 1.0001), (150.0, 1.0), (3.0, 1e-6), (1e8, 2.5)]
BINOMIALS = [(10.0, 3.0), (10.0, 7.0), (5.0, 1.0), (5.0, 4.0), (2.0, 1.0), (1e7, 5.0), (1e7, 5e6)]
BINOMIALS += [(1e8, 3.0), (40.5, 0.25), (40.5, 40.25), (3.0, 1.5), (1e4, 9990.0), (1.0, 0.5)]

TWO = {"log_beta": (mp_log_beta, BETAS), "log_binomial": (mp_log_binomial, BINOMIALS)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TWO)
def test_two_arguments(name, dtype):
    reference, points = TWO[name]
    # The slopes per unit of each argument's logarithm.
    a, b = 1 / np.asarray(points, dtype).T
    check(
        getattr(gamma, name),
        reference,
        points,
        dtype,
        value=4,
        slope=4,
        curve=4,
        floors=(1, (a, b), ((a * a, a * b), (a * b, b * b))),
        digits=100,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_lgamma1p_is_relative_at_both_of_its_zeros(dtype):
    s = np.asarray([1e-12, 1e-3, 0.25, 0.5, 0.9, 0.999], dtype)
    with jax.enable_x64(dtype == np.float64):
        got = np.asarray(gamma.lgamma1p(jnp.asarray(s)))
    with mp.workdps(60):
        for value, c in zip(got, s, strict=True):
            assert abs(float(value) / loggamma(1 + mp.mpf(float(c))) - 1) <= 4 * np.finfo(dtype).eps


EDGES = [
    ("lgamma", (1.0,), 0.0),
    ("lgamma", (2.0,), 0.0),
    ("lgamma", (0.0,), INF),
    ("lgamma", (INF,), INF),
    ("digamma", (0.0,), -INF),
    ("digamma", (INF,), INF),
    ("trigamma", (0.0,), INF),
    ("trigamma", (INF,), 0.0),
    ("stirling_error", (0.0,), INF),
    ("stirling_error", (INF,), 0.0),
    ("log_beta", (1.0, 1.0), 0.0),
    ("log_binomial", (7.0, 0.0), 0.0),
    ("log_binomial", (7.0, 7.0), 0.0),
    ("log_binomial", (0.0, 0.0), 0.0),
]


@pytest.mark.parametrize("name, args, want", EDGES)
def test_edges(name, args, want):
    assert getattr(gamma, name)(*np.float32(args)) == want


def test_the_slopes_of_log_binomial_at_its_ends():
    n, k = np.float32([7, 7, 1e7, 0]), np.float32([0, 7, 0, 0])
    _, derivatives = all_derivatives(gamma.log_binomial, n, k)
    assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(derivatives))
    slope_n, slope_k = derivatives[1]
    harmonic = float(mp.digamma(8) - mp.digamma(1))
    np.testing.assert_allclose(slope_n, [0, harmonic, 0, 0], rtol=1e-6)
    far = float(mp.digamma(1e7 + 1) - mp.digamma(1))
    np.testing.assert_allclose(slope_k, [harmonic, -harmonic, far, 0], rtol=1e-6)


def test_nan_in_gives_nan_out_and_narrow_floats_are_widened():
    for name in ONE:
        f = getattr(gamma, name)
        assert np.isnan(f(jnp.nan)), name
        assert f(jnp.bfloat16(2.5)).dtype == jnp.float32 and f(jnp.int32(4)).dtype == jnp.float32
        assert f(jnp.bfloat16(2.5)) == f(jnp.float32(2.5))
    for f in (gamma.log_beta, gamma.log_binomial):
        assert np.isnan(f(jnp.nan, 1.0)) and np.isnan(f(4.0, jnp.nan)), f.__name__
        assert f(jnp.bfloat16(4), jnp.int32(2)).dtype == jnp.float32


def _of_lgammas(a, b):
    lgamma = jax.scipy.special.gammaln
    return lgamma(a) + lgamma(b) - lgamma(a + b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_plain_formulas_fail_the_same_checks(dtype):
    check_fails(_of_lgammas, mp_log_beta, BETAS, dtype, digits=140)
    check_fails(
        lambda x: jax.scipy.special.gammaln(x + 1) - jnp.log(x),
        loggamma,
        [(x,) for x in LINE],
        dtype,
        floors=(0, 1, 0),
        digits=100,
    )
