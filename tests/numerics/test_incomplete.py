"""Both tails of the incomplete gamma and beta functions against mpmath, to second order."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import scipy.stats

from likelax.numerics import incomplete
from numerics.reference import DTYPES, INF, all_derivatives, check, loggamma


def mp_lower(a, x):
    """P(a, x) by its power series, whose terms are all positive."""
    term = total = 1 / a
    n, end = a, mp.mpf(10) ** -mp.mp.dps
    while term > end * total:
        n += 1
        term *= x / n
        total += term
    return mp.exp(a * mp.log(x) - x - loggamma(a)) * total


def mp_log_lower(a, x):
    return mp.log(mp_lower(a, x))


def mp_log_upper(a, x):
    return mp.log(1 - mp_lower(a, x))


def mp_ibeta(a, b, x):
    """I_x(a, b) by x^a (1 - x)^b / (a B) times the sum of (a + b)_n / (a + 1)_n x^n."""
    if x > (a + 1) / (a + b + 2):
        return 1 - mp_ibeta(b, a, 1 - x)
    term = total = mp.mpf(1)
    n, end = mp.mpf(0), mp.mpf(10) ** -mp.mp.dps
    while term > end * total:
        term *= x * (a + b + n) / (a + 1 + n)
        total += term
        n += 1
    log_beta = loggamma(a) + loggamma(b) - loggamma(a + b)
    return mp.exp(a * mp.log(x) + b * mp.log1p(-x) - log_beta) / a * total


def mp_log_ibeta(a, b, x):
    return mp.log(mp_ibeta(a, b, x))


def mp_log_ibeta_upper(a, b, x):
    return mp.log(mp_ibeta(b, a, 1 - x))


# Series, continued fraction, small shapes and quadrature (from a = 50 on), around their seams.
GAMMA = [(0.01, 1e-4), (0.3, 0.2), (0.3, 1.49), (0.3, 1.51), (0.9, 8.0), (1.0, 0.5), (1.0, 30.0)]
GAMMA += [
    (2.5, 0.01),
    (2.5, 2.4),
    (2.5, 2.6),
    (2.5, 20.0),
    (49.0, 20.0),
    (49.0, 49.5),
    (49.0, 90.0),
]
GAMMA += [(51.0, 20.0), (51.0, 51.5), (51.0, 90.0), (1e4, 9.7e3), (1e4, 1.003e4)]
BETA = [(0.5, 0.5, 0.1), (0.5, 0.5, 0.9), (0.02, 3.0, 1e-3), (3.0, 0.02, 0.97), (1.0, 1.0, 0.3)]
BETA += [(2.5, 4.0, 0.05), (2.5, 4.0, 0.37), (2.5, 4.0, 0.39), (2.5, 4.0, 0.9), (1.0, 30.0, 0.2)]
BETA += [(30.0, 2.0, 0.5), (60.0, 80.0, 0.25), (60.0, 80.0, 0.42), (60.0, 80.0, 0.44)]
BETA += [(60.0, 80.0, 0.6), (3e3, 5e3, 0.36), (3e3, 5e3, 0.38), (5.0, 1e4, 1e-3)]
TAILS = {
    "log_gammainc": (mp_log_lower, GAMMA),
    "log_gammaincc": (mp_log_upper, GAMMA),
    "log_betainc": (mp_log_ibeta, BETA),
    "log_betaincc": (mp_log_ibeta_upper, BETA),
}
