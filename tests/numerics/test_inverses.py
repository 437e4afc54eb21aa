"""Quantiles of Gamma and Beta: round trips, against SciPy, and their implicit slopes."""

import jax
import numpy as np
import pytest
import scipy.special

from likelax.numerics import inverses
from numerics.reference import DTYPES

SHAPES = [1e-2, 0.3, 0.99, 1.0, 2.5, 40.0, 60.0, 1e4, 1e8]
PROBABILITIES = [1e-30, 1e-8, 1e-3, 0.1, 0.5, 0.500001, 0.9, 0.9999, 1 - 2.0**-20]
GAMMA = np.array([(a, p) for a in SHAPES for p in PROBABILITIES])
PAIRS = [(0.02, 0.5), (0.5, 0.5), (1.0, 1.0), (1.0, 7.0), (2.5, 0.3), (3.0, 40.0), (80.0, 60.0)]
PAIRS += [(2e4, 1e3), (1e6, 3e6)]
BETA = np.array([(a, b, p) for a, b in PAIRS for p in PROBABILITIES[1:]])


def conditioned(x, density_times_x, p, floor):
    """The error that one rounding of x, of p and of the shapes leaves, relative to x."""
    return floor + np.minimum(p, 1) / np.maximum(density_times_x, 1e-300)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gammainc_inverse_against_scipy(dtype):
    a, p = GAMMA.T.astype(dtype)
    with jax.enable_x64(dtype == np.float64):
        got = np.asarray(jax.jit(inverses.gammainc_inverse)(a, p), np.float64)
    a, p = a.astype(np.float64), p.astype(np.float64)
    upper = p > 0.5
    want = np.where(upper, scipy.special.gammainccinv(a, 1 - p), scipy.special.gammaincinv(a, p))
    keep = want > np.finfo(dtype).tiny * 8
    # One eps of the larger of p and 1 - p moves log x by that over x times the density.
    with np.errstate(all="ignore"):
        log_density = a * np.log(want) - want - scipy.special.gammaln(a)
        log_density = scipy.stats.gamma(a).logpdf(want) + np.log(want)
        moved = np.exp(np.minimum(np.log(p) - log_density, 700)) * np.where(upper, 1 - p, 1)
    error = np.abs(got[keep] / want[keep] - 1)
    allowed = (8 + 8 * moved[keep]) * np.finfo(dtype).eps
    worst = np.argmax(error / allowed)
    assert error[worst] <= max(allowed[worst], 1e-13), (
        a[keep][worst],
        p[keep][worst],
        error[worst],
    )
    assert np.all(got[~keep] <= 1e-30)
