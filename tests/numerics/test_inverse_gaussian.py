"""The inverse Gaussian against mpmath, to second order: density, both tails, the entropy."""

import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from jax.scipy.special import ndtr

from likelax.numerics import inverse_gaussian
from numerics.reference import check, check_fails


def log_pdf(x, mu, lam):
    return mp.log(lam / (2 * mp.pi * x**3)) / 2 - lam * (x - mu) ** 2 / (2 * mu**2 * x)


def parts(x, mu, lam):
    root = mp.sqrt(lam / x)
    lower = mp.erfc(root * (1 - x / mu) / mp.sqrt(2)) / 2
    return lower, mp.exp(2 * lam / mu) * mp.erfc(root * (x / mu + 1) / mp.sqrt(2)) / 2


def log_cdf(x, mu, lam):
    return mp.log(sum(parts(x, mu, lam)))


def log_survival(x, mu, lam):
    lower, other = parts(x, mu, lam)
    with mp.workdps(2 * mp.mp.dps):
        upper = mp.erfc(mp.sqrt(lam / x) * (x / mu - 1) / mp.sqrt(2)) / 2
        return mp.log(upper - parts(x, mu, lam)[1])


def entropy(mu, lam):
    y = 2 * lam / mu
    integral = mp.exp(y) * mp.e1(y) if y < 1e3 else (1 - 1 / y + 2 / y**2 - 6 / y**3) / y
    return mp.log(2 * mp.pi * mp.e * mu**3 / lam) / 2 - 3 * integral / 2


# Both sides of the mean, both tails, lambda / mu from 1e-4 to 1e3.
POINTS = [(0.7, 1.3, 2.1), (1.9, 1.3, 2.1), (0.02, 1.3, 2.1), (20.0, 1.3, 2.1), (1.0, 1.0, 1e3)]
POINTS += [(1.1, 1.0, 1e3), (3e-5, 1.0, 1e-4), (0.9, 1.0, 1e-4), (40.0, 1.0, 1e-2)]
RATIOS = [(1.3, 2.1), (1.0, 0.49), (1.0, 0.51), (1e-3, 40.0), (7e10, 2e-9)]


def floors(points):
    """One over the smaller of each size and of the spread's effect on it."""
    x, mu, lam = np.array(points).T
    spread = np.minimum(1, np.sqrt(mu / lam))
    slope = 1 / (np.minimum(x, mu) * spread), 1 / (mu * spread), 1 / lam
    return 1, slope, tuple(tuple(a * b for b in slope) for a in slope)


GRIDS = {
    "log_pdf": (inverse_gaussian.inverse_gaussian_log_pdf, log_pdf),
    "log_cdf": (inverse_gaussian.inverse_gaussian_log_cdf, log_cdf),
    "log_survival": (inverse_gaussian.inverse_gaussian_log_survival, log_survival),
}


@pytest.mark.parametrize("name", GRIDS)
def test_values_and_derivatives(name):
    check(*GRIDS[name], POINTS, np.float32, floors=floors(POINTS), digits=80)


def test_entropy():
    slope = tuple(1 / v for v in np.array(RATIOS).T)
    sizes = 1, slope, tuple(tuple(a * b for b in slope) for a in slope)
    function = inverse_gaussian.inverse_gaussian_entropy
    check(function, entropy, RATIOS, np.float32, floors=sizes, digits=80)


def test_plain_forms_fail():
    """The controls: exp(2 lambda / mu) overflows, the upper tail as a rest of 1 is lost."""

    def plain_cdf(x, mu, lam):
        root = jnp.sqrt(lam / x)
        return jnp.log(
            ndtr(root * (x / mu - 1)) + jnp.exp(2 * lam / mu) * ndtr(-root * (x / mu + 1))
        )

    def plain_survival(x, mu, lam):
        return jnp.log1p(-jnp.exp(plain_cdf(x, mu, lam)))

    for plain, exact in ((plain_cdf, log_cdf), (plain_survival, log_survival)):
        check_fails(plain, exact, POINTS, np.float32, floors=(1, 0, 0), digits=80, argnums=(0,))
