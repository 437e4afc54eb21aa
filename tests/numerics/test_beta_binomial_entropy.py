"""The beta-binomial's entropy against sums of all terms, to second order, and at its limits."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import likelax as lx
from likelax.numerics.beta_binomial import beta_binomial_entropy
from numerics.reference import check, loggamma, run


def every_count(n, a, b):
    def log_beta(x, y):
        return loggamma(x) + loggamma(y) - loggamma(x + y)

    n = int(n)
    start = log_beta(a, b)
    logs = [mp.log(mp.binomial(n, k)) + log_beta(k + a, n - k + b) - start for k in range(n + 1)]
    return -mp.fsum(mp.exp(l) * l for l in logs)


POINTS = [(1, 0.5, 2.0), (2, 1.0, 1.0), (7, 3.0, 0.25), (30, 0.125, 0.5), (40, 20.0, 300.0)]


@pytest.mark.slow
def test_values_slopes_and_second_derivatives():
    _, a, b = np.array(POINTS).T
    sizes = 1, (1 / a, 1 / b), ((1 / a**2, 1 / (a * b)), (1 / (a * b), 1 / b**2))
    check(
        beta_binomial_entropy,
        every_count,
        POINTS,
        np.float32,
        floors=sizes,
        digits=60,
        argnums=(1, 2),
    )


@pytest.mark.slow
def test_limits():
    """Beta(1, 1) leaves every count alike, a share that is known a binomial, and one of 0 or 1 a coin."""
    log = np.log

    @jax.jit
    def found(n, a, b):
        return beta_binomial_entropy(n, a, b)

    rows = [
        (0, 2, 3, 0),
        (1, 2, 6, -(0.25 * log(0.25) + 0.75 * log(0.75))),
        (9, 1, 1, log(10)),
        (1e8, 1, 1, log(1e8)),
        (1e8, 1e-20, 1e-20, log(2)),
        (1e8, 1e20, 1e-20, 0),
        (1e8, 1e20, 1e20, 0.5 * log(2 * np.pi * np.e * 1e8 / 4)),
        (20, 1e20, 3e20, float(lx.Binomial(20, probs=0.25).entropy())),
        (1e6, 1e20, 3e14, float(lx.Binomial(1e6, probs=3e-6).entropy())),
    ]
    n, a, b, want = np.float32(rows).T
    np.testing.assert_allclose(found(n, a, b), want, rtol=1e-6, atol=1e-6)
    wrong = [lx.BetaBinomial(5, a, 1.0).entropy() for a in (jnp.nan, -1.0)]
    assert np.isnan(wrong).all()


@pytest.mark.slow
def test_nothing_is_nan_or_infinite_and_the_formulas_meet():
    """Values and slopes for shapes of 1e±20; second derivatives where 1/a^2 is a float."""
    sizes = [1e-20, 1e-10, 1e-3, 1.0, 499.0, 501.0, 1e5, 1e20]
    points = [x.ravel() for x in np.meshgrid([0, 1, 2, 1100, 1e8], sizes, sizes)]
    value, gradient, hessian, _ = run(beta_binomial_entropy, points, np.float32, (1, 2))
    assert np.isfinite(value).all() and (value >= -1e-6).all()
    assert np.isfinite(gradient).all()
    ratio = points[1] / points[2]
    fits = (points[1] > 1e-15) & (points[2] > 1e-15) & (ratio > 1e-25) & (ratio < 1e25)
    assert np.isfinite(np.asarray(hessian)[..., fits]).all()
