"""Student's kernel and the negative binomial of logits against mpmath, where n p - k and a log less its first term cancel."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from likelax.numerics import counts, student_t
from numerics.reference import DTYPES, all_derivatives, check, check_fails, loggamma


def mp_kernel(z, df):
    return (df + 1) / 2 * mp.log1p(z * z / df)


def mp_negative_binomial(k, r, logits):
    choose = loggamma(k + r) - loggamma(k + 1) - loggamma(r)
    return choose - k * mp.log1p(mp.exp(-logits)) - r * mp.log1p(mp.exp(logits))


# Around the seam z^2 = df, far out, and near the Normal.
KERNEL = [(0.5, 3.0), (1.7, 3.0), (-1.75, 3.0), (4.0, 0.1), (-1e-3, 2.0), (1e10, 2.0), (1e-10, 1e8)]
KERNEL += [(2.0, 1e8), (300.0, 1e4), (1e-4, 1e-10), (1e12, 1e-6)]
# Near the mode at large counts, r on both sides of 1, p on both sides of 1/2, and no success.
COUNTS = [(30861900.0, 30584502.0, 0.009019482880830765), (1e7, 2.5, 15.2), (1e7, 1e7, 0.0)]
COUNTS += [(96792976.0, 18185804.0, 1.6720532178878784), (3.0, 0.999, 1.25), (3.0, 1.0, 1.25)]
COUNTS += [
    (0.0, 0.5, -1.0),
    (0.0, 4.0, 2.0),
    (1.0, 1e-6, -3.0),
    (200.0, 0.3, 5.0),
    (12.0, 1e6, -11.5),
]
COUNTS += [(7.0, 2.0, 95.0), (2.0, 30.0, -90.0)]


def per_logarithm(z, df):
    """The floors: per unit of the logarithm of each argument."""
    return (1 / np.abs(z), 1 / df), ((z**-2.0, 1 / np.abs(z * df)), (1 / np.abs(z * df), df**-2.0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_students_kernel(dtype):
    z, df = np.asarray(KERNEL, dtype).T.astype(np.float64)
    slopes, curves = per_logarithm(z, df)
    options = {"value": 4, "slope": 8, "curve": 32, "floors": (1, slopes, curves), "digits": 140}
    check(student_t.student_t_kernel, mp_kernel, KERNEL, dtype, **options)

    def plain(z, df):
        return (df + 1) / 2 * jnp.log1p(z * z / df)

    if dtype == np.float32:
        check_fails(plain, mp_kernel, KERNEL, dtype, **options)


@pytest.mark.parametrize("dtype", DTYPES)
def test_negative_binomial_of_logits(dtype):
    k, r, logits = np.asarray(COUNTS, dtype).T.astype(np.float64)
    p = 1 / (1 + np.exp(-logits))
    sides = (1 / r, 1.0), ((r**-2.0, p), (p, (k + r) * p * (1 - p)))
    options = {"value": 8, "slope": 32, "floors": (1, *sides), "digits": 140, "argnums": (1, 2)}
    check(counts.negative_binomial_log_mass, mp_negative_binomial, COUNTS, dtype, **options)

    def plain(k, r, logits):
        log_q = -jnp.logaddexp(0, logits)
        return counts.negative_binomial_log_pmf(k, r, logits + log_q, log_q)

    if dtype == np.float32:
        check_fails(plain, mp_negative_binomial, COUNTS, dtype, **options)


def test_edges_have_no_nan():
    _, derivatives = all_derivatives(
        student_t.student_t_kernel, np.float32([0, 0]), np.float32([1, 1e8])
    )
    assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(derivatives))
    assert student_t.student_t_kernel(jnp.inf, 3.0) == jnp.inf
    f = counts.negative_binomial_log_mass
    np.testing.assert_allclose(f(np.float32([0, 2]), 3.0, -jnp.inf), [0, -np.inf], atol=1e-30)
    assert f(2.0, 3.0, jnp.inf) == -jnp.inf and np.isnan(f(2.0, 3.0, jnp.nan))
    assert np.isnan(f(2.0, jnp.nan, 0.0)) and np.isnan(student_t.student_t_kernel(jnp.nan, 1.0))
