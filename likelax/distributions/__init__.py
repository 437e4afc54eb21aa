"""Distributions: each a frozen pytree with a pure `log_prob`."""

from likelax.distributions.allocations import (
    BetaBinomial,
    DirichletMultinomial,
    Multinomial,
)
from likelax.distributions.base import Distribution, Independent, Masked
from likelax.distributions.beta import Beta, Kumaraswamy
from likelax.distributions.categorical import (
    Bernoulli,
    Categorical,
    OneHotCategorical,
    OrderedLogistic,
)
from likelax.distributions.circular import VonMises
from likelax.distributions.counts import (
    Binomial,
    Geometric,
    NegativeBinomial,
    NegativeBinomial2,
    Poisson,
)
from likelax.distributions.dirichlet import Dirichlet, LogisticNormal
from likelax.distributions.extremes import Gumbel, Weibull
from likelax.distributions.gamma import Exponential, Gamma, InverseGamma
from likelax.distributions.generalized_extremes import (
    GeneralizedExtremeValue,
    GeneralizedPareto,
)
from likelax.distributions.inflated import Hurdle, ZeroInflated
from likelax.distributions.inverse_gaussian import InverseGaussian
from likelax.distributions.kl import kl_divergence, register_kl
from likelax.distributions.linear_categorical import LinearCategorical
from likelax.distributions.location_scale import AsymmetricLaplace, Delta, Huber, Laplace, Logistic
from likelax.distributions.low_rank import LowRankMultivariateNormal
from likelax.distributions.mixture import Mixture, MixtureOf
from likelax.distributions.multivariate import MultivariateNormal, MultivariateNormalDiag
from likelax.distributions.multivariate_t import MultivariateStudentT
from likelax.distributions.normal import HalfNormal, Normal
from likelax.distributions.power_laws import HalfCauchy, LogLogistic, Pareto
from likelax.distributions.quantized import Quantized
from likelax.distributions.ranking import PlackettLuce
from likelax.distributions.relaxed import RelaxedBernoulli, RelaxedOneHotCategorical
from likelax.distributions.skew_normal import SkewNormal
from likelax.distributions.student_t import Cauchy, StudentT
from likelax.distributions.transformed import LogNormal, Transformed
from likelax.distributions.truncated import Censored, Truncated
from likelax.distributions.uniform import Triangular, Uniform

__all__ = [
    "AsymmetricLaplace",
    "Bernoulli",
    "Beta",
    "BetaBinomial",
    "Binomial",
    "Categorical",
    "Cauchy",
    "Censored",
    "Delta",
    "Dirichlet",
    "DirichletMultinomial",
    "Distribution",
    "Exponential",
    "Gamma",
    "GeneralizedExtremeValue",
    "GeneralizedPareto",
    "Geometric",
    "Gumbel",
    "HalfCauchy",
    "HalfNormal",
    "Huber",
    "Hurdle",
    "Independent",
    "InverseGamma",
    "InverseGaussian",
    "Kumaraswamy",
    "Laplace",
    "LinearCategorical",
    "LogLogistic",
    "LogNormal",
    "Logistic",
    "LogisticNormal",
    "LowRankMultivariateNormal",
    "Masked",
    "Mixture",
    "MixtureOf",
    "Multinomial",
    "MultivariateNormal",
    "MultivariateNormalDiag",
    "MultivariateStudentT",
    "NegativeBinomial",
    "NegativeBinomial2",
    "Normal",
    "OneHotCategorical",
    "OrderedLogistic",
    "Pareto",
    "PlackettLuce",
    "Poisson",
    "Quantized",
    "SkewNormal",
    "RelaxedBernoulli",
    "RelaxedOneHotCategorical",
    "StudentT",
    "Transformed",
    "Triangular",
    "Truncated",
    "Uniform",
    "VonMises",
    "Weibull",
    "ZeroInflated",
    "kl_divergence",
    "register_kl",
]
