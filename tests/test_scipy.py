"""Every family that SciPy has too, at the parameters of SciPy's own table of defaults."""

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.stats._distr_params import distcont, distdiscrete

import likelax as lx

LEVELS = np.array([0.003, 0.2, 0.5, 0.85, 0.999])

# SciPy's name to our distribution of its shapes.
CONTINUOUS = {
    "arcsine": lambda: lx.Beta(0.5, 0.5),
    "beta": lx.Beta,
    "cauchy": lambda: lx.Cauchy(0.0, 1.0),
    "chi2": lambda df: lx.Gamma(0.5 * df, 0.5),
    "expon": lambda: lx.Exponential(1.0),
    "fisk": lambda c: lx.LogLogistic(c, 1.0),
    "gamma": lambda a: lx.Gamma(a, 1.0),
    "genextreme": lambda c: lx.GeneralizedExtremeValue(0.0, 1.0, concentration=-c),
    "genpareto": lambda c: lx.GeneralizedPareto(0.0, 1.0, concentration=c),
    "gumbel_r": lambda: lx.Gumbel(0.0, 1.0),
    "halfcauchy": lambda: lx.HalfCauchy(1.0),
    "halfnorm": lambda: lx.HalfNormal(1.0),
    "invgamma": lambda a: lx.InverseGamma(a, 1.0),
    "invgauss": lambda mu: lx.InverseGaussian(mu, 1.0),
    "laplace": lambda: lx.Laplace(0.0, 1.0),
    "logistic": lambda: lx.Logistic(0.0, 1.0),
    "lognorm": lambda s: lx.LogNormal(0.0, s),
    "norm": lambda: lx.Normal(0.0, 1.0),
    "pareto": lambda b: lx.Pareto(b, 1.0),
    "powerlaw": lambda a: lx.Beta(a, 1.0),
    "rayleigh": lambda: lx.Weibull(2.0, 2.0**0.5),
    "skewnorm": lambda a: lx.SkewNormal(0.0, 1.0, skewness=a),
    "t": lambda df: lx.StudentT(df, 0.0, 1.0),
    "triang": lambda c: lx.Triangular(0.0, 1.0, peak=c),
    "truncexpon": lambda b: lx.Truncated(lx.Exponential(1.0), high=b),
    "truncnorm": lambda a, b: lx.Truncated(lx.Normal(0.0, 1.0), a, b),
    "truncweibull_min": lambda c, a, b: lx.Truncated(lx.Weibull(c, 1.0), a, b),
    "uniform": lambda: lx.Uniform(0.0, 1.0),
    "vonmises": lambda kappa: lx.VonMises(0.0, kappa),
    "wald": lambda: lx.InverseGaussian(1.0, 1.0),
    "weibull_min": lambda c: lx.Weibull(c, 1.0),
}
DISCRETE = {
    "bernoulli": lambda p: lx.Bernoulli(probs=p),
    "betabinom": lx.BetaBinomial,
    "binom": lambda n, p: lx.Binomial(n, probs=p),
    "geom": lambda p: lx.Geometric(probs=p),  # SciPy counts the trial that succeeds, too
    "nbinom": lambda n, p: lx.NegativeBinomial(n, probs=1 - p),
    "planck": lambda l: lx.Geometric(probs=-np.expm1(-l)),
    "poisson": lambda mu: lx.Poisson(mu),
}
TABLE = [
    pytest.param(
        name,
        shapes,
        build,
        id=f"{name}{tuple(map(float, shapes))}",
        marks=[pytest.mark.slow] * (name == "betabinom"),  # its entropy compiles for long
    )
    for families, rows in ((CONTINUOUS, distcont), (DISCRETE, distdiscrete))
    for name, shapes in rows
    if (build := families.get(name)) is not None
]


def test_the_table_has_all_that_are_mapped():
    assert {param.values[0] for param in TABLE} == CONTINUOUS.keys() | DISCRETE.keys()


def summaries(dist):
    """mean and variance; a VonMises' are those of the circle, and few are known of what is truncated."""
    truncated = isinstance(dist, lx.Truncated) and not isinstance(dist.base, lx.Normal)
    return () if truncated or isinstance(dist, lx.VonMises) else (dist.mean(), dist.variance())


# Families whose entropy is no formula: SciPy's is a sum or a quadrature.
ENTROPIES = {"poisson", "betabinom", "binom", "nbinom", "skewnorm"}


@pytest.fixture
def _as_users_compile(name):
    """Without optimisations XLA's CPU backend (jax 0.10.2) keeps seven digits of an InverseGamma's quantile."""
    jax.config.update("jax_disable_most_optimizations", name != "invgamma")
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.mark.usefixtures("_as_users_compile")
@pytest.mark.parametrize(("name", "shapes", "build"), TABLE)
def test_density_tails_quantiles_and_moments_are_scipys(name, shapes, build):
    theirs = getattr(stats, name)(*shapes)
    values = theirs.ppf(LEVELS)
    shift = 1 if name == "geom" else 0
    discrete = name in DISCRETE

    @jax.jit
    def asked(dist, x, q):
        answers = dist.prob(x), dist.cdf(x), dist.survival(x)
        entropy = dist.entropy() if name in ENTROPIES else None
        return answers, None if discrete else dist.quantile(q), summaries(dist), entropy

    with jax.enable_x64(True):
        dist = build(*map(float, shapes))
        x = (values - shift).astype(np.int64 if dist._takes_indices else np.float64)
        answers, quantiles, moments, entropy = asked(dist, x, LEVELS)
    density = theirs.pmf(values) if discrete else theirs.pdf(values)
    for got, want in zip(answers, (density, theirs.cdf(values), theirs.sf(values)), strict=True):
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-13)
    if quantiles is not None:
        np.testing.assert_allclose(quantiles, values, rtol=1e-8, atol=1e-10)
    if entropy is not None:
        np.testing.assert_allclose(entropy, theirs.entropy(), rtol=1e-8)
    known = theirs.mean(), theirs.var()
    for got, want, less in zip(moments, known, (shift, 0), strict=False):
        if np.isfinite(want):
            np.testing.assert_allclose(got, want - less, rtol=1e-8, atol=1e-12)


def test_another_distribution_is_seen():
    """The control: a shape that is a hundredth off."""
    build = CONTINUOUS["gamma"]
    with jax.enable_x64(True), pytest.raises(AssertionError, match="Not equal to tolerance"):
        off = lambda a: build(1.01 * a)  # noqa: E731
        test_density_tails_quantiles_and_moments_are_scipys("gamma", (1.99,), off)
