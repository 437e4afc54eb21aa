"""Log-densities of the gamma function's family against mpmath, to second order."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import scipy.special

from likelax.numerics import densities
from likelax.numerics.logspace import log_sigmoid
from numerics.reference import DTYPES, INF, all_derivatives, check, loggamma

# ---- references: the textbook formulas in many digits ----


def mp_poisson(k, rate):
    return k * mp.log(rate) - rate - loggamma(k + 1)


def mp_gamma(x, a, rate):
    return a * mp.log(rate) + (a - 1) * mp.log(x) - rate * x - loggamma(a)


def mp_beta(x, a, b):
    log_beta = loggamma(a) + loggamma(b) - loggamma(a + b)
    return (a - 1) * mp.log(x) + (b - 1) * mp.log1p(-x) - log_beta


def mp_log_sigmoid(x):
    return -mp.log1p(mp.exp(-x))


def mp_binomial(k, n, logits):
    choose = loggamma(n + 1) - loggamma(k + 1) - loggamma(n - k + 1)
    return choose + k * mp_log_sigmoid(logits) + (n - k) * mp_log_sigmoid(-logits)


def mp_negative_binomial(k, r, logits):
    choose = loggamma(k + r) - loggamma(k + 1) - loggamma(r)
    return choose + k * mp_log_sigmoid(logits) + r * mp_log_sigmoid(-logits)


def mp_negative_binomial_mean(k, r, m):
    choose = loggamma(k + r) - loggamma(k + 1) - loggamma(r)
    return choose + k * mp.log(m / (r + m)) - r * mp.log1p(m / r)


def mp_student_t(df):
    return loggamma((df + 1) / 2) - loggamma(df / 2) - mp.log(mp.pi * df) / 2


def mp_dirichlet(x, y, a, b, c):
    total = loggamma(a + b + c) - loggamma(a) - loggamma(b) - loggamma(c)
    return total + (a - 1) * mp.log(x) + (b - 1) * mp.log(y) + (c - 1) * mp.log(1 - x - y)


# ---- the functions in their natural arguments ----


def binomial(k, n, logits):
    return densities.binomial_log_pmf(k, n, log_sigmoid(logits), log_sigmoid(-logits))


def negative_binomial(k, r, logits):
    return densities.negative_binomial_log_pmf(k, r, log_sigmoid(logits), log_sigmoid(-logits))


def dirichlet(x, y, a, b, c):
    return densities.dirichlet_log_pdf(jnp.stack([x, y, 1 - x - y]), jnp.stack([a, b, c]))


POISSON = [(0.0, 0.3), (0.0, 50.0), (0.25, 2.0), (1.0, 1.0), (1.0, 1e-6), (3.0, 7.5), (20.0, 20.0)]
POISSON += [(1e2, 1e-3), (1e3, 1100.0), (1e7, 1e7), (1e7, 1.001e7), (2.0, 3e4), (1e6, 10.0)]
GAMMA = [(0.1, 0.01, 1.0), (1e-5, 0.5, 2.0), (3.0, 1.0, 0.7), (0.7, 1.999, 1.0), (0.7, 2.0, 1.0)]
GAMMA += [(5.0, 3.5, 2.0), (20.0, 20.0, 1.0), (1e8, 1e8, 1.0), (1.0001e8, 1e8, 1.0)]
GAMMA += [(1e-3, 5.0, 0.1), (50.0, 2.5, 3.0), (3.0, 1e6, 333333.0), (3e-9, 30.0, 1e10)]
BETA = [(0.5, 1.0, 1.0), (0.1, 0.5, 0.5), (0.3, 2.0, 2.0), (0.3, 5.0, 1.5), (1e-6, 0.3, 40.0)]
BETA += [(0.75, 300.0, 100.0), (0.25, 1e6, 3e6), (0.251, 1e6, 3e6), (0.999, 50.0, 0.1)]
BETA += [(0.01, 1e7, 9.9e8), (1e-8, 2.5, 2e8), (0.9, 1e-3, 3.0)]
BINOMIAL = [(3.0, 10.0, 0.4), (0.0, 10.0, -2.0), (10.0, 10.0, 2.0), (1.0, 1.0, 0.0)]
BINOMIAL += [(500.0, 1e3, 0.01), (1e6, 1e7, -2.2), (5.0, 1e7, -14.5), (7.0, 8.0, 6.0)]
BINOMIAL += [(0.0, 0.0, 0.3), (2.0, 4.0, -30.0), (3.0, 4.0, 90.0), (1.0, 2.0, 0.0)]
NEGATIVE = [(0.0, 2.0, -1.0), (3.0, 2.5, 0.3), (1e2, 1e7, -11.5), (1e7, 10.0, 13.8)]
NEGATIVE += [(1e6, 1e6, 0.0), (1.0, 1e-4, 5.0), (20.0, 3.0, -25.0), (0.0, 1e7, -14.0)]
MEAN = [(0.0, 2.0, 3.0), (5.0, 2.0, 3.0), (1.0, 0.01, 1.0), (1e2, 1e7, 100.0), (3.0, 1e10, 3.5)]
MEAN += [(1e6, 0.5, 1e6), (1e7, 100.0, 1.1e7), (50.0, 1e-3, 1e4), (2.0, 1e8, 1e-5)]
MEAN += [(1e7, 1e7, 1e7), (0.0, 1e7, 1e3), (0.0, 1e-4, 50.0)]
STUDENT = [(df,) for df in (1e-3, 0.1, 1.0, 2.0, 5.0, 16.0, 30.0, 1e3, 1e7, 1e10)]
DIRICHLET = [(0.25, 0.625, 1.0, 1.0, 1.0), (0.25, 0.625, 0.5, 3.0, 2.0)]
DIRICHLET += [(0.5, 0.25, 2e6, 1e6, 1e6), (0.0625, 0.9375 - 2.0**-10, 1.5, 40.0, 0.05)]
# A count's own slope is nobody's: it is data.
