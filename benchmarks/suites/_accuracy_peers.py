"""How other libraries name what the contract's entries measure, on the same arguments.

A family is left out where a library does not have it, or has it in parameters that would first have to
be converted: rounding there would not be its own.
"""

import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.stats as jss
import numpy as np

Make = Callable[..., Any]


def by_name(module: str, names: str) -> dict[str, Make]:
    """Families that take the same parameters in the same order under the same name."""
    return {
        name: lambda *p, _n=name: getattr(importlib.import_module(module), _n)(*p)
        for name in names.split()
    }


def matrix(triangle: jax.Array) -> jax.Array:
    """The lower triangle, row by row, as a matrix."""
    size = int((2 * triangle.shape[-1]) ** 0.5)
    return jnp.zeros((size, size)).at[np.tril_indices(size)].set(triangle)


def triangle(own: jax.Array, below: jax.Array) -> jax.Array:
    """A lower triangle of its diagonal and what is below it, row by row."""
    rows, columns = np.tril_indices(own.shape[-1], -1)
    below = below[: len(rows)]
    return jnp.zeros((own.shape[-1],) * 2).at[rows, columns].set(below) + jnp.diag(own)


def numpyro() -> dict[str, Make]:
    """Entry name to numpyro's distribution."""
    import numpyro.distributions as d

    same = "Normal LogNormal Laplace Logistic Cauchy Gumbel StudentT HalfNormal HalfCauchy Exponential Gamma"
    same += " InverseGamma Beta Kumaraswamy Uniform VonMises Dirichlet Poisson"
    return by_name("numpyro.distributions", same) | {
        "AsymmetricLaplace": lambda loc, scale, a: d.AsymmetricLaplace(loc, scale, a),
        "Weibull": lambda k, scale: d.Weibull(scale, k),
        "Pareto": lambda a, scale: d.Pareto(scale, a),
        "Bernoulli": lambda logits: d.BernoulliLogits(logits),
        "Bernoulli(probs)": lambda probs: d.BernoulliProbs(probs),
        "Geometric": lambda logits: d.GeometricLogits(logits),
        "Geometric(probs)": lambda probs: d.GeometricProbs(probs),
        "Binomial": lambda n, logits: d.BinomialLogits(logits, n),
        "Binomial(probs)": lambda n, probs: d.BinomialProbs(probs, n),
        "NegativeBinomial": lambda r, logits: d.NegativeBinomialLogits(r, logits),
        "BetaBinomial": lambda n, a, b: d.BetaBinomial(a, b, n),
        "Multinomial": lambda n, logits: d.MultinomialLogits(logits, n),
        "DirichletMultinomial": lambda n, a: d.DirichletMultinomial(a, n),
        "Categorical": lambda logits: d.CategoricalLogits(logits),
        "Categorical(probs)": lambda probs: d.CategoricalProbs(probs),
        "OrderedLogistic": lambda loc, cutpoints: d.OrderedLogistic(loc, cutpoints),
        "MultivariateNormal": lambda loc, t: d.MultivariateNormal(loc, scale_tril=matrix(t)),
        "LowRankMultivariateNormal": lambda loc, w, diag: d.LowRankMultivariateNormal(
            loc, w.reshape(diag.shape[-1], -1), diag
        ),
        "MultivariateNormalDiag": lambda loc, scale: d.Normal(loc, scale).to_event(1),
        "MultivariateStudentT": lambda df, loc, own, below: d.MultivariateStudentT(
            df, loc, triangle(own, below)
        ),
        "Truncated(Normal)": lambda low, high, loc, s: d.TruncatedNormal(
            loc, s, low=low, high=high
        ),
        "ZeroInflated(Poisson)": lambda rate, logits: d.ZeroInflatedDistribution(
            d.Poisson(rate), gate_logits=logits
        ),
        "RelaxedBernoulli": lambda t, logits: d.RelaxedBernoulliLogits(t, logits),
    }


def tfp() -> dict[str, Make]:
    """Entry name to TensorFlow Probability's distribution."""
    from tensorflow_probability.substrates.jax import distributions as d

    same = "Normal LogNormal Laplace Logistic Cauchy Gumbel StudentT HalfNormal Exponential Gamma InverseGamma"
    same += " Weibull Pareto Beta Kumaraswamy Uniform VonMises Triangular GeneralizedExtremeValue"
    same += " GeneralizedPareto InverseGaussian Poisson Dirichlet BetaBinomial DirichletMultinomial"
    same += " MultivariateNormalDiag"
    return by_name("tensorflow_probability.substrates.jax.distributions", same) | {
        "HalfCauchy": lambda scale: d.HalfCauchy(0.0, scale),
        "Poisson(log_rate)": lambda log_rate: d.Poisson(log_rate=log_rate),
        "Gamma(log_rate)": lambda a, log_rate: d.Gamma(a, log_rate=log_rate),
        "Bernoulli": lambda logits: d.Bernoulli(logits=logits),
        "Bernoulli(probs)": lambda probs: d.Bernoulli(probs=probs),
        "Geometric": lambda logits: d.Geometric(logits=logits),
        "Geometric(probs)": lambda probs: d.Geometric(probs=probs),
        "Binomial": lambda n, logits: d.Binomial(n, logits=logits),
        "Binomial(probs)": lambda n, probs: d.Binomial(n, probs=probs),
        "NegativeBinomial": lambda r, logits: d.NegativeBinomial(r, logits=logits),
        "Multinomial": lambda n, logits: d.Multinomial(n, logits=logits),
        "Categorical": lambda logits: d.Categorical(logits=logits),
        "Categorical(probs)": lambda probs: d.Categorical(probs=probs),
        "OrderedLogistic": lambda loc, cutpoints: d.OrderedLogistic(cutpoints, loc),
        "MultivariateNormal": lambda loc, t: d.MultivariateNormalTriL(loc, matrix(t)),
        "Truncated(Normal)": lambda low, high, loc, scale: d.TruncatedNormal(loc, scale, low, high),
        "RelaxedBernoulli": lambda t, logits: d.RelaxedBernoulli(t, logits=logits),
        "RelaxedOneHotCategorical": lambda t, logits: d.RelaxedOneHotCategorical(t, logits=logits),
    }


class _Scipy:
    """A family of jax.scipy.stats with its parameters, named as distributions name their methods."""

    def __init__(self, family: Any, *params: Any, **named: Any) -> None:
        for name, theirs in [("log_cdf", "logcdf"), ("log_survival", "logsf"), ("cdf", "cdf")]:
            if function := getattr(family, theirs, None):
                setattr(self, name, lambda value, f=function: f(value, *params, **named))
        density = getattr(family, "logpdf", None) or family.logpmf
        self.log_prob = lambda value: density(value, *params, **named)


def jax_scipy() -> dict[str, Make]:
    """Entry name to what jax.scipy.stats has, where its parameters are those given."""
    return {
        "Normal": lambda loc, scale: _Scipy(jss.norm, loc, scale),
        "Laplace": lambda loc, scale: _Scipy(jss.laplace, loc, scale),
        "Logistic": lambda loc, scale: _Scipy(jss.logistic, loc, scale),
        "Cauchy": lambda loc, scale: _Scipy(jss.cauchy, loc, scale),
        "StudentT": lambda df, loc, scale: _Scipy(jss.t, df, loc, scale),
        "Beta": lambda a, b: _Scipy(jss.beta, a, b),
        "Pareto": lambda a, scale: _Scipy(jss.pareto, a, 0.0, scale),
        "VonMises": lambda loc, k: _Scipy(jss.vonmises, k, loc),
        "Poisson": lambda rate: _Scipy(jss.poisson, rate),
        "Bernoulli(probs)": lambda probs: _Scipy(jss.bernoulli, probs),
        "Binomial(probs)": lambda n, probs: _Scipy(jss.binom, n, probs),
        "BetaBinomial": lambda n, a, b: _Scipy(jss.betabinom, n, a, b),
        "Dirichlet": lambda a: _Scipy(jss.dirichlet, a),
    }


PEERS = {
    "numpyro": (numpyro, ("numpyro.distributions",)),
    "tfp": (tfp, ("tensorflow_probability.substrates.jax",)),
    "jax.scipy": (jax_scipy, ()),
}

# What a method is called elsewhere; the same name where it is not here.
NAMES = {"tfp": {"log_survival": "log_survival_function"}}


def function(
    peer: str, families: dict[str, Make], entry: str, method: str
) -> Callable[..., Any] | None:
    """The function of an entry's columns in a peer; None where it does not have it."""
    if method == "kl_divergence":
        first, *second = entry.removeprefix("KL ").split(" ")
        return None if second else _divergence(peer, families.get(first))
    make = families.get(entry.split(" ")[0])
    name = NAMES.get(peer, {}).get(method, method)
    if make is None:
        return None
    if method == "entropy":
        return lambda *params: make(*params).entropy()
    return lambda value, *params: getattr(make(*params), name)(value)


def _divergence(peer: str, make: Make | None) -> Callable[..., Any] | None:
    if make is None or peer == "jax.scipy":
        return None

    def divergence(*columns: Any) -> Any:
        half = len(columns) // 2
        p, q = make(*columns[:half]), make(*columns[half:])
        if peer == "tfp":
            return p.kl_divergence(q)
        from numpyro.distributions import kl_divergence

        return kl_divergence(p, q)

    return divergence
