"""The inverse Gaussian against SciPy: quantiles, summaries, samples and their slopes."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import likelax as lx

PAIRS = np.array([[1.5, 0.5], [0.75, 20.0], [3.0, 3.0]])


def scipy(mu, lam):
    return stats.invgauss(mu / lam, scale=lam)


def test_quantiles_and_summaries():
    q = np.array([2.0**-80, 2.0**-20, 0.375, 0.75, 1 - 2.0**-20])  # exact in float32

    @jax.jit
    def everything(mu, lam):
        dist = lx.InverseGaussian(mu, lam)
        return dist.quantile(q[:, None]), dist.mode(), dist.stddev(), dist.entropy(), dist.mean()

    x, mode, stddev, entropy, mean = everything(*jnp.asarray(PAIRS.T, jnp.float32))
    for i, (mu, lam) in enumerate(PAIRS):
        exact = scipy(mu, lam)
        want = np.where(q > 0.5, exact.isf(1 - q), exact.ppf(q))
        np.testing.assert_allclose(x[:, i], want, rtol=2e-6)
        np.testing.assert_allclose(entropy[i], exact.entropy(), rtol=3e-6)
        np.testing.assert_allclose([mean[i], stddev[i]], [exact.mean(), exact.std()], rtol=1e-6)
        k = 1.5 * mu / lam
        np.testing.assert_allclose(mode[i], mu * (np.sqrt(1 + k * k) - k), rtol=2e-6)


def test_a_mode_that_cancels():
    """lambda / 3, where the difference of the textbook's formula is 0 in float32."""
    np.testing.assert_allclose(lx.InverseGaussian(1e6, 0.75).mode(), 0.25, rtol=1e-6)
    k = np.float32(1.5 * 1e6 / 0.75)
    assert np.sqrt(1 + k * k) - k == 0  # the control


def test_samples_and_their_slopes():
    """Distributed as SciPy says, and with slopes that hold the cdf still."""
    mu, lam = 1.5, 0.75

    def draw(mu, lam):
        return lx.InverseGaussian(mu, lam).sample(jax.random.key(3), (4000,))

    x, (in_mu, in_lam) = jax.jit(lambda m, c: (draw(m, c), jax.jacfwd(draw, (0, 1))(m, c)))(mu, lam)
    assert stats.kstest(np.asarray(x, float), scipy(mu, lam).cdf).pvalue > 1e-4
    assert stats.kstest(np.asarray(x, float), scipy(mu, 2 * lam).cdf).pvalue < 1e-4  # the control
    at, h = np.asarray(x[:50], float), 1e-5
    density = scipy(mu, lam).pdf(at)
    by_mu = -(scipy(mu + h, lam).cdf(at) - scipy(mu - h, lam).cdf(at)) / (2 * h) / density
    by_lam = -(scipy(mu, lam + h).cdf(at) - scipy(mu, lam - h).cdf(at)) / (2 * h) / density
    np.testing.assert_allclose(in_mu[:50], by_mu, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(in_lam[:50], by_lam, rtol=1e-4, atol=1e-5)


def test_samples_of_extreme_ratios_are_positive_numbers():
    mu, lam = jnp.array([1e20, 1e-20, 1.0, 1e10]), jnp.array([1e-20, 1e20, 1e-12, 1e10])
    x = jax.jit(lambda d: d.sample(jax.random.key(0), (200,)))(lx.InverseGaussian(mu, lam))
    assert np.isfinite(x).all() and (x > 0).all()
