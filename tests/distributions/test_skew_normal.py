"""The skew normal: summaries, mode and samples against SciPy; its tails stand in the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special, stats

import likelax as lx
from contract.entries import BY_NAME
from contract.measure import load, rows
from likelax.testing.subject import quick_jit


def test_owens_function_loses_the_thin_tail():
    """The control of the contract: there it is a difference."""
    (z, a), truth = load("SkewNormal tails")
    cdf = stats.norm.cdf(z).astype(np.float32)
    plain = np.log(np.maximum(cdf - 2 * special.owens_t(z, a).astype(np.float32), 1e-30))
    (row,) = rows(BY_NAME["SkewNormal tails"], (z, a), truth, {"log_cdf": plain})
    assert row.percentile > 1e3


def test_summaries_mode_and_quantiles():
    a = np.array([1e-20, 0.3, -1.5, 4.0, -40.0, 1e6], np.float32)
    dist = lx.SkewNormal(0.0, 1.5, a)
    q = np.array([2.0**-60, 0.125, 0.5, 0.875, 1 - 2.0**-20], np.float32)[:, None]

    @quick_jit
    def ask(dist):
        x = dist.quantile(q)
        slope = jax.jvp(lambda d: d.mode(), (dist,), (jax.tree.map(jnp.ones_like, dist),))[1]
        return (
            dist.mean(),
            dist.stddev(),
            dist.mode(),
            slope,
            x,
            dist.log_cdf(x),
            dist.log_survival(x),
        )

    mean, stddev, mode, slope, x, below, above = ask(dist)
    scipy = stats.skewnorm(a.astype(float), 0.0, 1.5)
    np.testing.assert_allclose(mean, scipy.mean(), rtol=1e-6)
    np.testing.assert_allclose(stddev, scipy.std(), rtol=1e-6)
    low = q[:, 0] < 0.5
    np.testing.assert_allclose(np.exp(below)[low], q[low] + 0 * a, rtol=1e-5)
    np.testing.assert_allclose(np.exp(above)[~low], 1 - q[~low] + 0 * a, rtol=1e-5)

    def peak(a):
        """Where the slope of the log-density is 0."""

        def score(z):
            return z - a * np.exp(stats.norm.logpdf(a * z) - stats.norm.logcdf(a * z))

        ends = (0, 1) if a > 0 else (-1, 0)
        return optimize.brentq(score, *ends, xtol=1e-300, rtol=1e-14)

    want = np.array([peak(float(v)) for v in a])
    np.testing.assert_allclose(mode / 1.5, want, rtol=3e-6, atol=1e-7)
    # In loc 1, in scale z, in the skewness by differences.
    h = 1e-4 * np.maximum(np.abs(a.astype(float)), 1e-3)
    sides = [np.array([peak(float(v)) for v in a.astype(float) + s * h]) for s in (1, -1)]
    by_skewness = (sides[0] - sides[1]) / (2 * h)
    np.testing.assert_allclose(slope, 1 + want + 1.5 * by_skewness, rtol=1e-5)


def test_samples_are_pathwise():
    n, a = 20_000, jnp.float32(-2.5)

    def draw(a):
        return lx.SkewNormal(0.25, 1.5, a).sample(jax.random.key(2), n)

    x, slope = quick_jit(lambda a: jax.jvp(draw, (a,), (jnp.ones_like(a),)))(a)
    assert stats.kstest(x, stats.skewnorm(-2.5, 0.25, 1.5).cdf).pvalue > 1e-4
    assert stats.kstest(x, stats.skewnorm(-2.0, 0.25, 1.5).cdf).pvalue < 1e-3  # the control
    # d mean / da.
    want = 1.5 * np.sqrt(2 / np.pi) * (1 + 2.5**2) ** -1.5
    slope = np.asarray(slope, np.float64)
    assert abs(slope.mean() - want) < 4.5 * slope.std() / np.sqrt(n) < want


@pytest.mark.slow
def test_derivatives_in_float64_and_edges():
    """Second derivatives of the lower tail close with those of the density: d log F = p/F."""
    with jax.enable_x64(True):
        z, a = jnp.array([-4.0, -0.3, -0.3, 0.6, 0.01]), jnp.array([1.5, 0.5, -2.0, 3.0, 40.0])

        def tail(z, a):
            return lx.SkewNormal(0.0, 1.0, a).log_cdf(z)

        def log_p(z, a):
            return lx.SkewNormal(0.0, 1.0, a).log_prob(z)

        @quick_jit
        @jax.vmap
        def everything(z, a):
            slope = jax.grad(tail, (0, 1))(z, a)
            second = jax.jacfwd(jax.grad(tail), (0, 1))(z, a)
            return tail(z, a), slope, second, jax.grad(log_p, (0, 1))(z, a), log_p(z, a)

        value, slope, second, pull, density = everything(z, a)
        np.testing.assert_allclose(value, stats.skewnorm(a).logcdf(z), rtol=1e-9)
        np.testing.assert_allclose(slope[0], np.exp(density - value), rtol=1e-12)
        for i in (0, 1):
            np.testing.assert_allclose(second[i], slope[0] * (pull[i] - slope[i]), rtol=1e-9)
    flat = lx.SkewNormal(0.0, 1.0, jnp.array([0.0, 2.0, -3.0]))
    assert np.all(flat.log_prob(jnp.inf) == -jnp.inf) and np.isnan(flat.log_prob(jnp.nan)).all()
    np.testing.assert_allclose(flat.log_prob(0.5)[0], lx.Normal(0.0, 1.0).log_prob(0.5), rtol=1e-6)


def test_the_normals_slopes_at_scales_whose_squares_are_no_floats():
    slope = jax.jit(jax.vmap(jax.grad(lambda x, s: lx.Normal(0.0, s).log_prob(x), (0, 1))))
    s = np.array([3e-20, 6e19], np.float32)
    got = slope(np.float32(1.5) * s, s)
    np.testing.assert_allclose(got[0], -1.5 / s, rtol=1e-6)
    np.testing.assert_allclose(got[1], 1.25 / s, rtol=1e-6)
    plain = jax.jit(jax.vmap(jax.grad(lambda x, s: -0.5 * x / s * (x / s))))  # the control
    assert not np.allclose(plain(np.float32(1.5) * s, s), -1.5 / s, rtol=0.1)
