"""The generalised Pareto and extreme values: tails, quantiles and summaries against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import likelax as lx

SCIPY = {
    lx.GeneralizedPareto: lambda m, s, xi: stats.genpareto(xi, m, s),
    lx.GeneralizedExtremeValue: lambda m, s, xi: stats.genextreme(-xi, m, s),
}
INDICES = np.float32([-1.5, -0.4, -1e-3, 0.0, 1e-20, 0.05, 0.3, 0.5, 1.0])


@pytest.mark.parametrize("family", SCIPY, ids=lambda family: family.__name__)
def test_tails_quantiles_and_summaries(family):
    loc, s = 0.25, 1.5
    q = np.array([2.0**-100, 2.0**-20, 0.375, 0.75, 1 - 2.0**-20])  # exact in float32

    @jax.jit
    def everything(xi):
        dist = family(loc, s, xi)
        x = dist.quantile(q[:, None])
        tails = dist.log_cdf(x), dist.log_survival(x), dist.cdf(x), dist.survival(x)
        mode = dist.mode()
        at_end = loc - jnp.array([[0.99], [1.01]]) * s / jnp.where(xi == 0, 1, xi)
        ends = dist.log_prob(at_end), dist.cdf(at_end), dist.log_survival(at_end)
        return x, tails, (dist.mean(), dist.stddev(), dist.entropy()), mode, ends

    x, (log_cdf, log_survival, cdf, survival), (mean, stddev, entropy), mode, ends = everything(
        jnp.asarray(INDICES)
    )
    assert np.isinf(mean).tolist() == [xi >= 1 for xi in INDICES]
    assert np.isinf(stddev).tolist() == [xi >= 0.5 for xi in INDICES]
    for i, xi in enumerate(INDICES.astype(float)):
        exact = SCIPY[family](loc, s, xi if abs(xi) > 1e-10 else 0.0)
        want = np.where(q > 0.5, exact.isf(1 - q), exact.ppf(q))
        np.testing.assert_allclose(x[:, i], want, rtol=3e-6)
        middle = np.asarray(x[2:4, i], float)
        np.testing.assert_allclose(log_cdf[2:4, i], exact.logcdf(middle), rtol=3e-6)
        np.testing.assert_allclose(log_survival[2:4, i], exact.logsf(middle), rtol=3e-6)
        np.testing.assert_allclose(cdf[2:4, i], exact.cdf(middle), rtol=3e-6)
        np.testing.assert_allclose(survival[2:4, i], exact.sf(middle), rtol=3e-6)
        np.testing.assert_allclose(entropy[i], exact.entropy(), rtol=3e-6)
        if xi < 0.5 and abs(xi) != 1e-3:  # SciPy's own have lost their digits there
            np.testing.assert_allclose(mean[i], exact.mean(), rtol=3e-6)
            np.testing.assert_allclose(stddev[i], exact.std(), rtol=1e-5)
        if xi > -1:
            beside = float(mode[i]) + np.array([-0.01, 0.01])
            assert (exact.logpdf(beside) <= exact.logpdf(float(mode[i]))).all()
        else:
            np.testing.assert_allclose(mode[i], loc + 1, rtol=1e-6)
        if abs(xi) > 1e-10 and (xi < 0 or family is lx.GeneralizedExtremeValue):
            rising, past = xi < 0, [end[1, i] for end in ends]
            assert past == [-np.inf, rising, -np.inf if rising else 0], xi


def test_the_sign_of_the_index():
    """xi > 0 is the heavy tail; the other sign (the control) is far off."""
    for family, scipy in SCIPY.items():
        got = family(0.0, 1.0, 0.5).log_survival(1e4)
        np.testing.assert_allclose(got, scipy(0, 1, 0.5).logsf(1e4), rtol=1e-5)
        assert scipy(0, 1, -0.5).logsf(1e4) == -np.inf


def test_samples_move_with_their_parameters():
    """d x / d xi by the sample, at a fixed depth, is that of SciPy's quantile."""
    for family, scipy in SCIPY.items():

        def draw(xi, family=family):
            return family(0.5, 2.0, xi).sample(jax.random.key(1), (5,))

        x, slope = draw(0.3), jax.jacfwd(draw)(0.3)
        q, h = scipy(0.5, 2.0, 0.3).cdf(np.asarray(x, float)), 1e-5
        want = (scipy(0.5, 2.0, 0.3 + h).ppf(q) - scipy(0.5, 2.0, 0.3 - h).ppf(q)) / (2 * h)
        np.testing.assert_allclose(slope, want, rtol=2e-4)


def test_kl_of_maxima_has_no_closed_form():
    dist = lx.GeneralizedExtremeValue(0.0, 1.0, 0.25)
    with pytest.raises(NotImplementedError, match=r"KL\(GeneralizedExtremeValue"):
        dist.kl_divergence(lx.GeneralizedExtremeValue(0.0, 1.0, 0.5))


@pytest.mark.slow
@pytest.mark.parametrize("family", SCIPY, ids=lambda family: family.__name__)
def test_values_beyond_the_floats_in_units_of_the_scale(family):
    """u = xi z to all digits, so that t is log(xi z)/xi; at xi = 0 nothing is left of a tail."""
    x, s, xi = np.float32(
        [(1e20, 1e-30, 0), (1e38, 1e-3, 0), (1e20, 1e-30, 0.5), (1e30, 2e-38, 3)]
    ).T
    methods = "log_prob", "log_survival", "log_cdf", "cdf"

    def pushed(x, s, xi):
        by = [lambda s, xi, m=m: getattr(family(0.0, s, xi), m)(x) for m in methods]
        return [jax.value_and_grad(f, (0, 1))(s, xi) for f in by]

    (log_prob, _), (log_survival, slopes), *lower = jax.jit(jax.vmap(pushed))(x, s, xi)
    log_z = np.log(x.astype(float)) - np.log(s.astype(float))
    power = np.where(xi > 0, xi, 1.0).astype(float)
    t = np.where(xi > 0, (log_z + np.log(power)) / power, np.inf)
    np.testing.assert_allclose(log_survival, -t, rtol=1e-5)
    np.testing.assert_allclose(log_prob, -t - np.log(s) - xi * np.where(xi > 0, t, 0), rtol=1e-5)
    np.testing.assert_allclose(slopes[0][2:], (1 / (power * s))[2:], rtol=1e-5)
    np.testing.assert_allclose(slopes[1][2:], ((t - 1 / power) / power)[2:], rtol=1e-5)
    for (value, by), want in zip(lower, (0, 1), strict=True):
        np.testing.assert_array_equal(value[:2], want)
        np.testing.assert_array_equal(np.stack(by)[:, :2], 0)
        assert np.isfinite(by).all()


def test_beyond_an_end_that_1_is_nothing_to():
    """At the stand-in 1 below the end, which rounds to the end, the density is infinite."""
    subject = lx.GeneralizedExtremeValue(0.0, 1.9e8, -2.0)
    assert subject.support.upper == subject.support.upper - 1
    for x, value in ((3e8, -np.inf), (9e7, stats.genextreme(2.0, 0.0, 1.9e8).logpdf(9e7))):
        np.testing.assert_allclose(subject.log_prob(x), value, rtol=1e-6)
