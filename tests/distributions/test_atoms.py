"""Points with a probability beside a density, and what the ends of a range of numbers do."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import likelax as lx
from likelax.distributions._invert import open_uniform
from likelax.testing.subject import quick_jit

TOBIT = lx.Censored(lx.Normal(0.25, 1.5), low=0.0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: lx.Truncated(TOBIT, low=0.0), "Truncated: a base with a density is wanted"),
        (lambda: lx.Censored(TOBIT, high=1.0), "Censored: a base with a density is wanted"),
        (
            lambda: lx.Truncated(lx.Mixture([0.5, 0.5], lx.Censored(lx.Normal(jnp.ones(2), 1.0), 0.0)), 0.0),
            "got Mixture, which has probabilities",
        ),
        (lambda: lx.MixtureOf([0.5, 0.5], (TOBIT, lx.Normal(0.0, 1.0))), "and probabilities at the ends of Censored$"),
        (lambda: lx.Transformed(TOBIT, lx.bijectors.Affine(0.0, 10.0)), "transform the base inside"),
        (
            lambda: lx.MixtureOf(
                [0.5, 0.5],
                (lx.Dirichlet(jnp.ones(3)), lx.MultivariateNormalDiag(jnp.zeros(3), jnp.ones(3))),
            ),
            "unlike measures",
        ),
    ],
)  # fmt: skip
def test_a_probability_is_no_density(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_mixtures_of_censored_components():
    """Samples follow the mean's slope; a quantile at an end has none that the cdf tells."""

    def mixture(loc):
        return lx.Mixture(
            [0.25, 0.75], lx.Censored(lx.Normal(loc + jnp.array([0.0, 1.0]), 1.5), 0.0)
        )

    def draws(loc):
        return mixture(loc).sample(jax.random.key(0), (4000,))

    slopes = quick_jit(lambda loc: jax.jvp(draws, (loc,), (1.0,))[1])(0.25)
    # d E[max(X, 0)] / d loc = P(X > 0).
    want = 0.25 * stats.norm.cdf(0.25 / 1.5) + 0.75 * stats.norm.cdf(1.25 / 1.5)
    assert abs(slopes.mean() - want) < 4 * slopes.std() / np.sqrt(4000) < 0.05
    with pytest.raises(NotImplementedError, match="has no derivative there"):
        jax.grad(lambda loc: mixture(loc).quantile(0.2))(0.25)


def test_no_draw_stands_for_zero(monkeypatch):
    """Where the generator gives its 0, the quantile of half a step is drawn, not that of the smallest float."""
    monkeypatch.setattr(
        jax.random, "uniform", lambda key, shape=(), dtype=float, *_, **__: jnp.zeros(shape, dtype)
    )
    half = float(open_uniform(jax.random.key(0), (), jnp.float32))
    assert half == 2.0**-24
    key = jax.random.key(0)
    np.testing.assert_allclose(lx.Logistic(0.0, 1.0).sample(key), np.log(half), rtol=1e-6)
    np.testing.assert_allclose(
        lx.Truncated(lx.Logistic(0.0, 1.0), high=0.0).sample(key), np.log(half / 2), rtol=1e-6
    )
    np.testing.assert_allclose(lx.LogLogistic(2.0, 1.0).sample(key), np.sqrt(half), rtol=1e-6)
    weibull = lx.Weibull(2.0, 1.0)
    np.testing.assert_allclose(weibull.sample(key), np.sqrt(-np.log(half)), rtol=1e-6)
    assert np.isfinite(weibull.log_prob(weibull.sample(key)))


def test_a_quantile_of_a_narrow_level_in_a_wide_distribution():
    with jax.enable_x64(True):
        dist = lx.InverseGaussian(jnp.float64(1.0), jnp.float64(2.0))
        got = dist.quantile(jnp.array([0.2, 0.9], jnp.float32))
    levels = np.float32([0.2, 0.9]).astype(float)
    np.testing.assert_allclose(got, stats.invgauss(0.5, scale=2.0).ppf(levels), rtol=1e-9)


def test_means_that_are_infinite():
    heavy = lx.Mixture([0.5, 0.5], lx.Pareto(jnp.array([0.8, 3.0]), 1.0))
    other = lx.MixtureOf([0.5, 0.5], (lx.HalfCauchy(1.0), lx.Exponential(1.0)))
    assert heavy.variance() == other.variance() == np.inf
    light = lx.Mixture([0.5, 0.5], lx.Pareto(jnp.array([2.5, 3.0]), 1.0))
    assert np.isfinite(light.variance())


def test_a_masked_mixture_of_multinomials():
    probs = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    mixture = lx.Mixture(
        jnp.full((2, 2), 0.5), lx.Multinomial(3, probs=jnp.broadcast_to(probs, (2, 2, 3)))
    )
    x = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 2.0]])
    each = [[stats.multinomial(3, p).pmf(row) for p in probs] for row in x]
    got = mixture.mask(jnp.array([True, False])).log_prob(x)
    np.testing.assert_allclose(got, [np.log(np.mean(each[0])), 0], rtol=2e-6)


def test_slopes_at_a_probability_of_zero():
    """1 / base(0) - 1 of what is inflated by nothing, F's own, and minus n of an impossible class."""
    base = stats.poisson(3.0)
    slope = jax.jit(jax.grad(lambda p: lx.ZeroInflated(lx.Poisson(3.0), probs=p).log_prob(0.0)))
    np.testing.assert_allclose(slope(0.0), 1 / base.pmf(0) - 1, rtol=2e-6)
    np.testing.assert_allclose(slope(1e-6), slope(0.0), rtol=1e-4)
    slope = jax.jit(jax.grad(lambda p: lx.ZeroInflated(lx.Poisson(3.0), probs=p).log_cdf(0.0)))
    np.testing.assert_allclose(slope(0.0), 1 / base.pmf(0) - 1, rtol=2e-6)
    slope = jax.jit(jax.grad(lambda p: lx.Hurdle(lx.Poisson(3.0), probs=p).log_cdf(1.0)))
    np.testing.assert_allclose(slope(0.0), (1 - base.pmf(0)) / base.pmf(1) - 1, rtol=2e-6)
    many = jax.grad(lambda p: lx.Multinomial(5, probs=p).log_prob(jnp.array([0.0, 2.0, 3.0])))
    np.testing.assert_allclose(many(jnp.array([0.0, 0.4, 0.6]))[0], -5, rtol=1e-6)
    np.testing.assert_allclose(many(jnp.array([1e-6, 0.4, 0.6 - 1e-6]))[0], -5, rtol=1e-5)


def test_a_hurdle_of_what_is_nearly_always_zero():
    """Exact variances of rates 1e-6: without extra zeros that of ones and twos, else of the ones."""
    rate = 1e-6
    got = lx.Hurdle(lx.Poisson(rate), probs=0.25).variance()
    mean, square = rate / -np.expm1(-rate), (rate + rate**2) / -np.expm1(-rate)
    np.testing.assert_allclose(got, 0.75 * square - (0.75 * mean) ** 2, rtol=1e-5)
    assert lx.Hurdle(lx.Poisson(rate), probs=0.0).stddev() >= 0


def test_a_truncated_base_that_counts_from_zero_may_have_more_zeros():
    dist = lx.ZeroInflated(lx.Truncated(lx.Poisson(2.0), low=0.0, high=4.0), probs=0.25)
    np.testing.assert_allclose(np.exp(dist.log_prob(np.arange(5.0))).sum(), 1, rtol=1e-6)


def test_a_tuple_is_for_mixture_of():
    with pytest.raises(TypeError, match="MixtureOf"):
        # Around the annotation checks of the tests, which would speak up first.
        build = inspect.unwrap(lx.Mixture.__init__)
        build(object.__new__(lx.Mixture), [0.5, 0.5], (lx.Normal(0.0, 1.0), lx.Normal(1.0, 1.0)))
