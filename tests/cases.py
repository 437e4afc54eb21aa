"""The one registry of distributions: each exported family and wrapper, in each way to give its
parameters.

A new distribution costs a class, an export and a case here; `test_cases.py` then holds it against
its own density, `test_transformations.py` against itself under every transformation.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import special, stats

import likelax as lx
from likelax import bijectors


@dataclasses.dataclass(frozen=True)
class Case:
    """A small batch of unlike elements of one distribution.

    Attributes:
      name: what tests call it.
      make: builds it; nothing is built on import.
      values: where the exact log-density is known, `(n, *batch, *event)` or what broadcasts to it.
      exact: the log-density in nats at such values, from SciPy or from the formula in float64.
      same_as: the case that is this one with its parameters given in another way. Where checking
        both in full would take long, this one is held against that one only.
    """

    name: str
    make: Callable[[], lx.Distribution]
    values: Any = None
    exact: Callable[[np.ndarray], np.ndarray] | None = None
    same_as: str | None = None


a = np.array


def f(*values: Any) -> Any:
    """Parameters in float32, as a user has them."""
    return jnp.asarray(np.array(values, np.float32))


LOC, SCALE = a([0.25, -12.0]), a([0.75, 3.5])
POSITIVE = a([[0.125], [1.0], [5.5]])
LINE = a([[-20.0], [-0.5], [1.25], [4.0]])
COUNTS = a([[0], [1], [4], [17]])
UNIT = a([[0.0625], [0.5], [0.96875]])
PROBS = a([0.125, 0.75])
ODDS = np.log(PROBS / (1 - PROBS))
WEIGHTS = a([[0.25, 0.5, 0.25], [0.625, 0.125, 0.25]])
TRIL = a([[[1.5, 0.0], [-0.75, 0.5]], [[0.25, 0.0], [2.0, 3.0]]])
COVARIANCE = TRIL @ np.swapaxes(TRIL, -1, -2)
HIDDEN = a([[0.5, -1.25, 0.25], [-0.75, 0.5, 2.0]])
KERNEL = a([[1.0, -0.5, 0.25], [0.5, 0.75, -1.5], [0.0, 1.25, -0.25]])
KERNEL_BIAS = a([0.25, -1.0, 0.5])
ALLOCATED = a([[[1, 0, 3], [7, 0, 0]], [[2, 2, 0], [1, 2, 4]]])
MEANS = a([[0.5, -1.0], [3.0, 0.25]])
FACTORS = a([[[1.5], [-0.75]], [[0.25], [2.0]]])
VECTORS = a([[[0.0, 0.0], [1.0, -2.0]], [[1.5, -2.0], [3.5, 4.0]]])


def each(pdf: Callable[..., Any], *params: Any) -> Callable[[np.ndarray], np.ndarray]:
    """A SciPy log-density of one batch element, over the second axis of the values."""

    def exact(x: np.ndarray) -> np.ndarray:
        columns = [pdf(x[:, i], *(p[i] for p in params)) for i in range(x.shape[1])]
        return np.stack(columns, axis=1)

    return exact


def mix(parts: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """log sum_k w_k exp(parts_k), weights `(batch, component)`."""
    return special.logsumexp(np.stack(parts, -1), axis=-1, b=weights)


def von_mises(x: np.ndarray) -> np.ndarray:
    """SciPy's is periodic; the density here is over (-pi, pi]."""
    return stats.vonmises.logpdf(x, a([0.625, 6.0]), a([-1.0, 2.5]))


def huber(x: np.ndarray) -> np.ndarray:
    """The Huber loss with its normaliser, computed by quadrature of the textbook's formula."""
    delta, z = a([1.5, 0.75]), np.abs(x - LOC) / SCALE
    loss = np.where(z <= delta, 0.5 * z**2, delta * (z - 0.5 * delta))
    tails = 2 / delta * np.exp(-0.5 * delta**2)
    mass = np.sqrt(2 * np.pi) * special.erf(delta / np.sqrt(2)) + tails
    return -loss - np.log(mass * SCALE)


def kumaraswamy(x: np.ndarray) -> np.ndarray:
    """1 - (1 - x^a)^b, differentiated."""
    p, q = a([0.75, 6]), a([2, 1.5])
    return np.log(p * q) + (p - 1) * np.log(x) + (q - 1) * np.log1p(-(x**p))


def relaxed_bit(x: np.ndarray) -> np.ndarray:
    """A logistic variable's sigmoid."""
    t = a([0.75, 2.0])
    log_odds = stats.logistic.logpdf(special.logit(x), ODDS / t, 1 / t)
    return log_odds - np.log(x) - np.log1p(-x)


def relaxed_one_hot(x: np.ndarray) -> np.ndarray:
    """Equation (10) of Maddison et al., as it stands there."""
    t = a([[0.75], [2.0]])
    top = np.prod(WEIGHTS * x ** (-t - 1), -1)
    return np.log(2 * t[:, 0] ** 2 * top / np.sum(WEIGHTS * x**-t, -1) ** 3)


def plackett_luce(x: np.ndarray) -> np.ndarray:
    """Three items: the first is chosen of all, the second of the two that are left."""
    worth = np.take_along_axis(np.broadcast_to(WEIGHTS, x.shape), x, -1)
    return np.log(worth[..., 0] * worth[..., 1] / (worth[..., 1] + worth[..., 2]))


def asymmetric_laplace(x: np.ndarray) -> np.ndarray:
    return stats.laplace_asymmetric.logpdf(x, a([0.5, 2.0]), LOC, SCALE)


def quantized(x: np.ndarray) -> np.ndarray:
    """A logistic's mass between half bins, from its sigmoid; the tails belong to the edge bins."""
    loc, scale = a([3.25, 6.0]), a([0.75, 2.0])
    low = np.where(x == 0, -np.inf, (x - 0.5 - loc) / scale)
    high = np.where(x == 9, np.inf, (x + 0.5 - loc) / scale)
    return np.log(special.expit(high) - special.expit(low))


def inflated(x: np.ndarray) -> np.ndarray:
    base = np.log1p(-PROBS) + stats.poisson.logpmf(x, a([0.75, 4.5]))
    return np.where(x == 0, np.logaddexp(np.log(PROBS), base), base)


def hurdle(x: np.ndarray) -> np.ndarray:
    # A geometric count that is not 0 is one more than a geometric count.
    positive = stats.geom.logpmf(x, a([0.25, 0.625]))
    return np.where(x == 0, np.log(PROBS), np.log1p(-PROBS) + positive)


def censored(x: np.ndarray) -> np.ndarray:
    """A geometric count between 1 and its own highest value, at which the rest is gathered."""
    below, above = stats.geom.logcdf(2, PROBS), stats.geom.logsf(a([6, 3]), PROBS)
    inside = stats.geom.logpmf(x + 1, PROBS)
    return np.where(x == 1, below, np.where(x == a([6, 3]), above, inside))


def negative_binomial_2(x: np.ndarray) -> np.ndarray:
    rate, r = a([0.75, 6.0]), 1 / a([0.5, 2.0])
    return stats.nbinom.logpmf(x, r, r / (r + rate))


def ordered_logistic(x: np.ndarray) -> np.ndarray:
    loc = a([0.5, -1.5])
    cuts = np.stack([-np.inf + 0 * loc, -1.0 - loc, 0.25 - loc, 2.0 - loc, np.inf + 0 * loc])
    edges = special.expit(cuts)
    return np.log(np.stack([np.diff(edges, axis=0)[x[:, i], i] for i in range(2)], axis=1))


def log_normal(x: np.ndarray) -> np.ndarray:
    return stats.lognorm.logpdf(x, a([0.5, 0.25]), scale=np.exp(a([0.25, -1.0])))


def normal(x: np.ndarray) -> np.ndarray:
    return stats.norm.logpdf(x, LOC, SCALE)


def categorical(x: np.ndarray, weights: np.ndarray = WEIGHTS) -> np.ndarray:
    return np.log(np.stack([weights[i][x[:, i]] for i in range(2)], axis=1))


def multivariate(x: np.ndarray) -> np.ndarray:
    return each(stats.multivariate_normal.logpdf, MEANS, COVARIANCE)(x)


def _student_t(**scale: Any) -> lx.Distribution:
    return lx.StudentT(f(3.5, 1.25), f(*LOC), **scale)


LABELS = a([[0, 2], [2, 1]])

FAMILIES = [
    Case("Normal", lambda: lx.Normal(f(*LOC), f(*SCALE)), LINE, normal),
    Case("Normal-log_scale", lambda: lx.Normal(f(*LOC), log_scale=f(*np.log(SCALE))), LINE, normal),
    Case(
        "HalfNormal",
        lambda: lx.HalfNormal(f(*SCALE)),
        POSITIVE,
        lambda x: stats.halfnorm.logpdf(x, 0, SCALE),
    ),
    Case(
        "HalfNormal-log_scale",
        lambda: lx.HalfNormal(log_scale=f(*np.log(SCALE))),
        POSITIVE,
        lambda x: stats.halfnorm.logpdf(x, 0, SCALE),
        same_as="HalfNormal",
    ),
    Case("LogNormal", lambda: lx.LogNormal(f(0.25, -1), f(0.5, 0.25)), POSITIVE, log_normal),
    Case(
        "LogNormal-log_scale",
        lambda: lx.LogNormal(f(0.25, -1), log_scale=f(*np.log([0.5, 0.25]))),
        POSITIVE,
        log_normal,
        same_as="LogNormal",
    ),
    Case(
        "Laplace",
        lambda: lx.Laplace(f(*LOC), f(*SCALE)),
        LINE,
        lambda x: stats.laplace.logpdf(x, LOC, SCALE),
    ),
    Case(
        "Laplace-log_scale",
        lambda: lx.Laplace(f(*LOC), log_scale=f(*np.log(SCALE))),
        LINE,
        lambda x: stats.laplace.logpdf(x, LOC, SCALE),
        same_as="Laplace",
    ),
    Case(
        "AsymmetricLaplace",
        lambda: lx.AsymmetricLaplace(f(*LOC), f(*SCALE), f(0.5, 2)),
        LINE,
        asymmetric_laplace,
    ),
    Case(
        "AsymmetricLaplace-log_scale",
        lambda: lx.AsymmetricLaplace(f(*LOC), asymmetry=f(0.5, 2), log_scale=f(*np.log(SCALE))),
        LINE,
        asymmetric_laplace,
        same_as="AsymmetricLaplace",
    ),
    Case(
        "AsymmetricLaplace-from_quantile",
        lambda: lx.AsymmetricLaplace.from_quantile(f(1.5), 2, 0.75),
        a([[-2.0], [4.0]]),
        # The pinball loss and its normaliser.
        lambda x: -np.maximum(0.75 * (x - 1.5), -0.25 * (x - 1.5)) / 2 + np.log(0.75 * 0.25 / 2),
    ),
    Case("Huber", lambda: lx.Huber(f(*LOC), f(*SCALE), f(1.5, 0.75)), LINE, huber),
    Case(
        "Huber-log_scale",
        lambda: lx.Huber(f(*LOC), delta=f(1.5, 0.75), log_scale=f(*np.log(SCALE))),
        LINE,
        huber,
        same_as="Huber",
    ),
    Case(
        "SkewNormal",
        lambda: lx.SkewNormal(f(*LOC), f(*SCALE), f(1.5, -4)),
        LINE,
        lambda x: stats.skewnorm.logpdf(x, a([1.5, -4]), LOC, SCALE),
    ),
    Case(
        "SkewNormal-log_scale",
        lambda: lx.SkewNormal(f(*LOC), skewness=f(1.5, -4), log_scale=f(*np.log(SCALE))),
        LINE,
        lambda x: stats.skewnorm.logpdf(x, a([1.5, -4]), LOC, SCALE),
        same_as="SkewNormal",
    ),
    Case(
        "Logistic",
        lambda: lx.Logistic(f(*LOC), f(*SCALE)),
        LINE,
        lambda x: stats.logistic.logpdf(x, LOC, SCALE),
    ),
    Case(
        "Logistic-log_scale",
        lambda: lx.Logistic(f(*LOC), log_scale=f(*np.log(SCALE))),
        LINE,
        lambda x: stats.logistic.logpdf(x, LOC, SCALE),
        same_as="Logistic",
    ),
    Case(
        "Cauchy",
        lambda: lx.Cauchy(f(*LOC), f(*SCALE)),
        LINE,
        lambda x: stats.cauchy.logpdf(x, LOC, SCALE),
    ),
    Case(
        "Cauchy-log_scale",
        lambda: lx.Cauchy(f(*LOC), log_scale=f(*np.log(SCALE))),
        LINE,
        lambda x: stats.cauchy.logpdf(x, LOC, SCALE),
        same_as="Cauchy",
    ),
    Case(
        "Gumbel",
        lambda: lx.Gumbel(f(*LOC), f(*SCALE)),
        LINE[1:],
        lambda x: stats.gumbel_r.logpdf(x, LOC, SCALE),
    ),
    Case(
        "Gumbel-log_scale",
        lambda: lx.Gumbel(f(*LOC), log_scale=f(*np.log(SCALE))),
        LINE[1:],
        lambda x: stats.gumbel_r.logpdf(x, LOC, SCALE),
        same_as="Gumbel",
    ),
    Case(
        "HalfCauchy",
        lambda: lx.HalfCauchy(f(*SCALE)),
        POSITIVE,
        lambda x: stats.halfcauchy.logpdf(x, 0, SCALE),
    ),
    Case(
        "HalfCauchy-log_scale",
        lambda: lx.HalfCauchy(log_scale=f(*np.log(SCALE))),
        POSITIVE,
        lambda x: stats.halfcauchy.logpdf(x, 0, SCALE),
        same_as="HalfCauchy",
    ),
    Case(
        "Weibull",
        lambda: lx.Weibull(f(0.75, 3), f(0.5, 4)),
        POSITIVE,
        lambda x: stats.weibull_min.logpdf(x, a([0.75, 3]), 0, a([0.5, 4])),
    ),
    Case(
        "Pareto",
        lambda: lx.Pareto(f(1.5, 6), f(0.5, 2)),
        a([[0.625, 2.25], [40.0, 5.5]]),
        lambda x: stats.pareto.logpdf(x, a([1.5, 6]), 0, a([0.5, 2])),
    ),
    Case(
        "GeneralizedPareto",
        lambda: lx.GeneralizedPareto(f(*LOC), f(*SCALE), f(0.25, -0.5)),
        a([[0.5, -11.5], [2.25, -6.0]]),
        lambda x: stats.genpareto.logpdf(x, a([0.25, -0.5]), LOC, SCALE),
    ),
    Case(
        "GeneralizedExtremeValue",
        lambda: lx.GeneralizedExtremeValue(f(*LOC), f(*SCALE), f(0.25, -0.5)),
        a([[-0.5, -20.5], [0.25, -12.0], [2.25, -6.0]]),
        lambda x: stats.genextreme.logpdf(x, a([-0.25, 0.5]), LOC, SCALE),
    ),
    Case(
        "LogLogistic",
        lambda: lx.LogLogistic(f(1.5, 6), f(0.5, 2)),
        POSITIVE,
        lambda x: stats.fisk.logpdf(x, a([1.5, 6]), 0, a([0.5, 2])),
    ),
    Case(
        "StudentT",
        lambda: _student_t(scale=f(*SCALE)),
        LINE,
        lambda x: stats.t.logpdf(x, a([3.5, 1.25]), LOC, SCALE),
    ),
    Case(
        "StudentT-log_scale",
        lambda: _student_t(log_scale=f(*np.log(SCALE))),
        LINE,
        lambda x: stats.t.logpdf(x, a([3.5, 1.25]), LOC, SCALE),
        same_as="StudentT",
    ),
    Case(
        "Exponential",
        lambda: lx.Exponential(f(0.25, 6)),
        POSITIVE,
        lambda x: stats.expon.logpdf(x, 0, 1 / a([0.25, 6])),
    ),
    Case(
        "Exponential-log_rate",
        lambda: lx.Exponential(log_rate=f(*np.log([0.25, 6]))),
        POSITIVE,
        lambda x: stats.expon.logpdf(x, 0, 1 / a([0.25, 6])),
        same_as="Exponential",
    ),
    Case(
        "Gamma",
        lambda: lx.Gamma(f(0.625, 4), f(0.25, 3)),
        POSITIVE,
        lambda x: stats.gamma.logpdf(x, a([0.625, 4]), 0, 1 / a([0.25, 3])),
    ),
    Case(
        "Gamma-log_rate",
        lambda: lx.Gamma(f(0.625, 4), log_rate=f(*np.log([0.25, 3]))),
        POSITIVE,
        lambda x: stats.gamma.logpdf(x, a([0.625, 4]), 0, 1 / a([0.25, 3])),
        same_as="Gamma",
    ),
    Case(
        "InverseGamma",
        lambda: lx.InverseGamma(f(1.5, 6), f(0.5, 2)),
        POSITIVE,
        lambda x: stats.invgamma.logpdf(x, a([1.5, 6]), 0, a([0.5, 2])),
    ),
    Case(
        "InverseGaussian",
        lambda: lx.InverseGaussian(f(1.5, 6), f(0.5, 20)),
        POSITIVE,
        lambda x: stats.invgauss.logpdf(x, a([1.5, 6]) / a([0.5, 20]), 0, a([0.5, 20])),
    ),
    Case(
        "Beta",
        lambda: lx.Beta(f(0.75, 6), f(2, 1.5)),
        UNIT,
        lambda x: stats.beta.logpdf(x, a([0.75, 6]), a([2, 1.5])),
    ),
    Case(
        "Kumaraswamy",
        lambda: lx.Kumaraswamy(f(0.75, 6), f(2, 1.5)),
        UNIT,
        kumaraswamy,
    ),
    Case(
        "RelaxedBernoulli-logits",
        lambda: lx.RelaxedBernoulli(f(0.75, 2), logits=f(*ODDS)),
        UNIT,
        relaxed_bit,
    ),
    Case(
        "RelaxedBernoulli-probs",
        lambda: lx.RelaxedBernoulli(f(0.75, 2), probs=f(*PROBS)),
        UNIT,
        relaxed_bit,
        same_as="RelaxedBernoulli-logits",
    ),
    Case(
        "Uniform",
        lambda: lx.Uniform(f(-2, 3), f(0.5, 11)),
        a([[-1.5, 3], [0.5, 8]]),
        lambda x: stats.uniform.logpdf(x, a([-2, 3]), a([2.5, 8])),
    ),
    Case(
        "Triangular",
        lambda: lx.Triangular(f(-2, 3), f(0.5, 11), f(-0.25, 3)),
        a([[-1.5, 3.5], [0.25, 8]]),
        lambda x: stats.triang.logpdf(x, a([0.7, 0]), a([-2, 3]), a([2.5, 8])),
    ),
    Case(
        "VonMises",
        lambda: lx.VonMises(f(-1, 2.5), f(0.625, 6)),
        a([[-3.0], [0.5], [2.5]]),
        von_mises,
    ),
    Case("Delta", lambda: lx.Delta(f(-1, 2.5)), a([[-1.0, 2.5]]), lambda x: 0 * x),
]

COUNTED = [
    Case(
        "Bernoulli-logits",
        lambda: lx.Bernoulli(logits=f(*ODDS)),
        a([[0], [1]]),
        lambda x: stats.bernoulli.logpmf(x, PROBS),
    ),
    Case(
        "Bernoulli-probs",
        lambda: lx.Bernoulli(probs=f(*PROBS)),
        a([[0], [1]]),
        lambda x: stats.bernoulli.logpmf(x, PROBS),
    ),
    Case(
        "Binomial-logits",
        lambda: lx.Binomial(f(5, 12), logits=f(*ODDS)),
        a([[0], [2], [5]]),
        lambda x: stats.binom.logpmf(x, a([5, 12]), PROBS),
    ),
    Case(
        "Binomial-probs",
        lambda: lx.Binomial(f(5, 12), probs=f(*PROBS)),
        a([[0], [2], [5]]),
        lambda x: stats.binom.logpmf(x, a([5, 12]), PROBS),
        same_as="Binomial-logits",
    ),
    Case(
        "BetaBinomial",
        lambda: lx.BetaBinomial(f(5, 12), f(0.75, 6), f(2, 1.5)),
        a([[0], [2], [5]]),
        lambda x: stats.betabinom.logpmf(x, a([5, 12]), a([0.75, 6]), a([2, 1.5])),
    ),
    Case(
        "NegativeBinomial-logits",
        lambda: lx.NegativeBinomial(f(0.75, 6), logits=f(*ODDS)),
        COUNTS,
        lambda x: stats.nbinom.logpmf(x, a([0.75, 6]), 1 - PROBS),
    ),
    Case(
        "NegativeBinomial-probs",
        lambda: lx.NegativeBinomial(f(0.75, 6), probs=f(*PROBS)),
        COUNTS,
        lambda x: stats.nbinom.logpmf(x, a([0.75, 6]), 1 - PROBS),
        same_as="NegativeBinomial-logits",
    ),
    Case(
        "NegativeBinomial2",
        lambda: lx.NegativeBinomial.from_mean(f(0.75, 6), f(0.5, 2)),
        COUNTS,
        negative_binomial_2,
    ),
    Case(
        "NegativeBinomial2-log_rate",
        lambda: lx.NegativeBinomial2(log_rate=f(*np.log([0.75, 6])), dispersion=f(0.5, 2)),
        COUNTS,
        negative_binomial_2,
        same_as="NegativeBinomial2",
    ),
    Case(
        "Poisson",
        lambda: lx.Poisson(f(0.75, 14)),
        COUNTS,
        lambda x: stats.poisson.logpmf(x, a([0.75, 14])),
    ),
    Case(
        "Poisson-log_rate",
        lambda: lx.Poisson(log_rate=f(*np.log([0.75, 14]))),
        COUNTS,
        lambda x: stats.poisson.logpmf(x, a([0.75, 14])),
        same_as="Poisson",
    ),
    Case(
        "Geometric-logits",
        lambda: lx.Geometric(logits=f(*ODDS)),
        COUNTS,
        lambda x: stats.geom.logpmf(x + 1, PROBS),
    ),
    Case(
        "Geometric-probs",
        lambda: lx.Geometric(probs=f(*PROBS)),
        COUNTS,
        lambda x: stats.geom.logpmf(x + 1, PROBS),
    ),
    Case(
        "Categorical-logits",
        lambda: lx.Categorical(logits=f(*(np.log(WEIGHTS) + [[3], [-20]]))),
        LABELS,
        categorical,
    ),
    Case("Categorical-probs", lambda: lx.Categorical(probs=f(*WEIGHTS)), LABELS, categorical),
    Case(
        "LinearCategorical",
        lambda: lx.LinearCategorical(f(*HIDDEN), f(*KERNEL), f(*KERNEL_BIAS), block_size=2),
        LABELS,
        functools.partial(categorical, weights=special.softmax(HIDDEN @ KERNEL + KERNEL_BIAS, -1)),
    ),
    Case(
        "LinearCategorical-kernels",  # one for each element, as of an ensemble
        lambda: lx.LinearCategorical(
            f(*HIDDEN), f(KERNEL, -0.5 * KERNEL), softcap=4.0, block_size=2
        ),
        LABELS,
        functools.partial(
            categorical,
            weights=special.softmax(
                4 * np.tanh(np.einsum("nd,ndv->nv", HIDDEN, a([KERNEL, -0.5 * KERNEL])) / 4), -1
            ),
        ),
    ),
    Case(
        "OneHotCategorical-logits",
        lambda: lx.OneHotCategorical(logits=f(*(np.log(WEIGHTS) + [[3], [-20]]))),
        np.eye(3)[LABELS],
        lambda x: categorical(np.argmax(x, -1)),
    ),
    Case(
        "OneHotCategorical-probs",
        lambda: lx.OneHotCategorical(probs=f(*WEIGHTS)),
        np.eye(3)[LABELS],
        lambda x: categorical(np.argmax(x, -1)),
    ),
    Case(
        "OrderedLogistic",
        lambda: lx.OrderedLogistic(f(0.5, -1.5), f([-1, 0.25, 2], [-1, 0.25, 2])),
        a([[0, 1], [3, 2], [2, 3]]),
        ordered_logistic,
    ),
]

VECTORS_OF = [
    Case(
        "MultivariateNormal-scale_tril",
        lambda: lx.MultivariateNormal(f(*MEANS), scale_tril=f(*TRIL)),
        VECTORS,
        multivariate,
    ),
    Case(
        "MultivariateNormal-covariance",
        lambda: lx.MultivariateNormal(f(*MEANS), covariance=f(*COVARIANCE)),
        VECTORS,
        multivariate,
    ),
    Case(
        "MultivariateNormal-precision",
        lambda: lx.MultivariateNormal(f(*MEANS), precision=f(*np.linalg.inv(COVARIANCE))),
        VECTORS,
        multivariate,
    ),
    Case(
        "MultivariateNormalDiag",
        lambda: lx.MultivariateNormalDiag(f(*MEANS), f([0.5, 2], [1.25, 4])),
        VECTORS,
        lambda x: stats.norm.logpdf(x, MEANS, a([[0.5, 2], [1.25, 4]])).sum(-1),
    ),
    Case(
        "MultivariateNormalDiag-log_scale",
        lambda: lx.MultivariateNormalDiag(f(*MEANS), log_scale=f(*np.log([[0.5, 2], [1.25, 4]]))),
        VECTORS,
        lambda x: stats.norm.logpdf(x, MEANS, a([[0.5, 2], [1.25, 4]])).sum(-1),
    ),
    Case(
        "LowRankMultivariateNormal",
        lambda: lx.LowRankMultivariateNormal(f(*MEANS), f(*FACTORS), f([0.5, 2], [1.25, 4])),
        VECTORS,
        each(
            stats.multivariate_normal.logpdf,
            MEANS,
            FACTORS @ np.swapaxes(FACTORS, -1, -2) + a([[[0.5, 0], [0, 2]], [[1.25, 0], [0, 4]]]),
        ),
    ),
    Case(
        "MultivariateStudentT",
        lambda: lx.MultivariateStudentT(f(3.5, 6.0), f(*MEANS), f(*TRIL)),
        VECTORS,
        each(stats.multivariate_t.logpdf, MEANS, COVARIANCE, a([3.5, 6.0])),
    ),
    Case(
        "Multinomial-logits",
        lambda: lx.Multinomial(f(4, 7), logits=f(*(np.log(WEIGHTS) + [[3], [-20]]))),
        ALLOCATED,
        each(stats.multinomial.logpmf, a([4, 7]), WEIGHTS),
    ),
    Case(
        "Multinomial-probs",
        lambda: lx.Multinomial(f(4, 7), probs=f(*WEIGHTS)),
        ALLOCATED,
        each(stats.multinomial.logpmf, a([4, 7]), WEIGHTS),
    ),
    Case(
        "DirichletMultinomial",
        lambda: lx.DirichletMultinomial(f(4, 7), f([0.75, 2, 3], [4, 1.5, 2])),
        ALLOCATED,
        each(stats.dirichlet_multinomial.logpmf, a([[0.75, 2, 3], [4, 1.5, 2]]), a([4, 7])),
    ),
    Case(
        "PlackettLuce",
        lambda: lx.PlackettLuce(f(*(np.log(WEIGHTS) + [[3], [-20]]))),
        a([[[0, 2, 1], [2, 0, 1]], [[1, 2, 0], [1, 0, 2]]]),
        plackett_luce,
    ),
    Case(
        "RelaxedOneHotCategorical-logits",
        lambda: lx.RelaxedOneHotCategorical(
            f(0.75, 2), logits=f(*(np.log(WEIGHTS) + [[3], [-20]]))
        ),
        a([[[0.125, 0.25, 0.625]] * 2, [[0.5, 0.25, 0.25]] * 2]),
        relaxed_one_hot,
    ),
    Case(
        "RelaxedOneHotCategorical-probs",
        lambda: lx.RelaxedOneHotCategorical(f(0.75, 2), probs=f(*WEIGHTS)),
        a([[[0.125, 0.25, 0.625]] * 2, [[0.5, 0.25, 0.25]] * 2]),
        relaxed_one_hot,
        same_as="RelaxedOneHotCategorical-logits",
    ),
    Case(
        "LogisticNormal",
        lambda: lx.LogisticNormal(f(*MEANS), f([0.5, 2], [1.25, 4])),
        a([[[0.125, 0.25, 0.625]] * 2, [[0.5, 0.25, 0.25]] * 2]),
        lambda x: (
            stats.norm.logpdf(np.log(x[..., :2] / x[..., 2:]), MEANS, a([[0.5, 2], [1.25, 4]])).sum(
                -1
            )
            - np.log(x).sum(-1)
        ),
    ),
    Case(
        "Dirichlet",
        lambda: lx.Dirichlet(f([0.75, 2, 3], [4, 1.5, 2])),
        a([[[0.125, 0.25, 0.625]] * 2, [[0.5, 0.25, 0.25]] * 2]),
        lambda x: np.stack(
            [
                [
                    stats.dirichlet.logpdf(v, c)
                    for v, c in zip(row, [[0.75, 2, 3], [4, 1.5, 2]], strict=True)
                ]
                for row in x
            ]
        ),
    ),
]


def _mixture_of_vectors() -> lx.Distribution:
    loc = [[[0, 0], [3, 1], [-2, 4]], [[1, 0], [-6, 1], [2, 2]]]
    scale = [[[1, 2], [0.5, 1], [1, 0.5]], [[0.5, 0.5], [1, 3], [2, 1]]]
    return lx.Mixture(f(*WEIGHTS), lx.MultivariateNormalDiag(f(*loc), f(*scale)))


WRAPPERS = [
    Case(
        "Independent-Normal",
        lambda: lx.Normal(f(*MEANS), f([0.5, 2], [1.25, 4])).to_event(1),
        VECTORS,
        lambda x: stats.norm.logpdf(x, MEANS, a([[0.5, 2], [1.25, 4]])).sum(-1),
    ),
    Case(
        "Independent-Exponential",
        lambda: lx.Exponential(f([1.75, 2.5], [4, 0.75])).to_event(1),
        a([[[0.5, 1.25], [4, 0.25]]]),
        lambda x: stats.expon.logpdf(x, 0, 1 / a([[1.75, 2.5], [4, 0.75]])).sum(-1),
    ),
    Case(
        "Independent-Bernoulli",
        lambda: lx.Bernoulli(logits=f([0.5, -1, 2], [-3, 0.25, 1])).to_event(1),
        a([[[0, 1, 1], [1, 0, 1]]]),
        lambda x: stats.bernoulli.logpmf(x, special.expit(a([[0.5, -1, 2], [-3, 0.25, 1]]))).sum(
            -1
        ),
    ),
    Case("Independent-2", lambda: lx.Laplace(f([[0.5, -2], [1, 3]]), 1.5).to_event(2)),
    Case(
        "Mixture-Normal",
        lambda: lx.Mixture(
            f(*WEIGHTS), lx.Normal(f([-3, 0.5, 4], [0, 0.25, 9]), f([0.5, 1, 2], [1, 0.125, 3]))
        ),
        LINE,
        lambda x: mix(
            [
                stats.norm.logpdf(x, a([-3, 0]), a([0.5, 1])),
                stats.norm.logpdf(x, a([0.5, 0.25]), a([1, 0.125])),
                stats.norm.logpdf(x, a([4, 9]), a([2, 3])),
            ],
            WEIGHTS,
        ),
    ),
    Case(
        "Mixture-Logistic-logits",
        lambda: lx.Mixture(
            lx.Categorical(logits=f([0.5, -1], [2, 2.5])),
            lx.Logistic(f([-3, 4], [1, 9]), log_scale=f([-0.5, 0.25], [0, -1])),
        ),
    ),
    Case(
        "Mixture-Exponential",
        lambda: lx.Mixture(f([0.75, 0.25], [0.5, 0.5]), lx.Exponential(f([1, 9], [2, 0.25]))),
        POSITIVE,
        lambda x: mix(
            [
                stats.expon.logpdf(x, 0, 1 / a([1, 2])),
                stats.expon.logpdf(x, 0, 1 / a([9, 0.25])),
            ],
            a([[0.75, 0.25], [0.5, 0.5]]),
        ),
    ),
    Case(
        "Mixture-Geometric",
        lambda: lx.Mixture(
            f([0.75, 0.25], [0.5, 0.5]), lx.Geometric(probs=f([0.25, 0.75], [0.5, 0.125]))
        ),
        COUNTS,
        lambda x: mix(
            [
                stats.geom.logpmf(x + 1, a([0.25, 0.5])),
                stats.geom.logpmf(x + 1, a([0.75, 0.125])),
            ],
            a([[0.75, 0.25], [0.5, 0.5]]),
        ),
    ),
    Case("Mixture-MultivariateNormalDiag", _mixture_of_vectors),
    Case(
        "Mixture-Quantized",
        lambda: lx.Mixture(
            f([0.75, 0.25], [0.5, 0.5]),
            lx.Quantized(lx.Logistic(f([1, 6], [2, 9]), f([0.75, 1], [0.5, 2])), 0, 9, 10),
        ),
    ),
    Case(
        "Transformed-Exp",
        lambda: lx.Transformed(lx.Normal(f(0.25, -1), f(0.5, 0.25)), bijectors.Exp()),
        POSITIVE,
        log_normal,
    ),
    Case(
        "Transformed-Affine",
        lambda: lx.Transformed(
            lx.Exponential(f(0.5, 2)), bijectors.Affine(f(1, -2), f(-0.75, 2.5))
        ),
        a([[-3, 0.25], [0.25, 4]]),
        lambda x: (
            stats.expon.logpdf((x - a([1, -2])) / a([-0.75, 2.5]), 0, 1 / a([0.5, 2]))
            - np.log([0.75, 2.5])
        ),
    ),
    Case(
        "Transformed-Tanh",
        lambda: lx.Transformed(lx.Normal(f(0.25, -0.5), f(0.5, 0.75)), bijectors.Tanh()),
        UNIT,
        lambda x: (
            stats.norm.logpdf(np.arctanh(x), a([0.25, -0.5]), a([0.5, 0.75])) - np.log1p(-(x**2))
        ),
    ),
    Case(
        "Transformed-Sigmoid",
        lambda: lx.Transformed(lx.Logistic(f(0.25, -0.5), f(0.5, 0.75)), bijectors.Sigmoid()),
    ),
    Case(
        "Transformed-Softplus",
        lambda: lx.Transformed(lx.Normal(f(0.25, 3), f(0.5, 1)), bijectors.Softplus()),
    ),
    Case(
        "Transformed-Power",
        lambda: lx.Transformed(lx.Exponential(f(0.5, 2)), bijectors.Power(f(0.5, 2))),
        POSITIVE,
        # y = x^p of an Exponential is a Weibull.
        lambda x: stats.weibull_min.logpdf(x, 1 / a([0.5, 2]), 0, (1 / a([0.5, 2])) ** a([0.5, 2])),
    ),
    Case(
        "Transformed-Invert",
        lambda: lx.Transformed(lx.Exponential(f(0.5, 3)), bijectors.Invert(bijectors.Exp())),
        LINE[1:3],
        lambda x: stats.loggamma.logpdf(x, 1, -np.log([0.5, 3])),
    ),
    Case(
        "Transformed-Chain",
        lambda: lx.Transformed(
            lx.Normal(0.0, 1.0),
            bijectors.Chain(
                (bijectors.Affine(f(0.25, 1), log_scale=f(-0.5, 0.25)), bijectors.SoftLimit(1.5))
            ),
        ),
    ),
    Case(
        "Transformed-vector",
        lambda: lx.Transformed(
            lx.Normal(f(*MEANS), f([0.5, 2], [1.25, 4])).to_event(1), bijectors.Exp()
        ),
        np.exp(VECTORS),
        lambda x: (stats.norm.logpdf(np.log(x), MEANS, a([[0.5, 2], [1.25, 4]])) - np.log(x)).sum(
            -1
        ),
    ),
    Case(
        "Transformed-TriangularAffine",
        lambda: lx.Transformed(
            lx.Normal(jnp.zeros(2), 1.0).to_event(1),
            bijectors.TriangularAffine(f(*MEANS), f(*TRIL)),
        ),
        VECTORS,
        multivariate,
    ),
    Case(
        "Transformed-SimplexFromLogits",
        lambda: lx.Transformed(
            lx.Normal(f(*MEANS), f([0.5, 1], [1.25, 0.75])).to_event(1),
            bijectors.SimplexFromLogits(),
        ),
    ),
    Case(
        "Transformed-Ordered",
        lambda: lx.Transformed(
            lx.Normal(f(*MEANS), f([0.5, 1], [1.25, 0.75])).to_event(1), bijectors.Ordered()
        ),
    ),
    Case(
        "Quantized-Logistic",
        lambda: lx.Quantized(lx.Logistic(f(3.25, 6), f(0.75, 2)), 0, 9, 10),
        a([[0], [3], [9]]),
        quantized,
    ),
    Case(
        "Quantized-Laplace",
        lambda: lx.Quantized(lx.Laplace(f(0.25, -0.5), f(0.125, 2)), -1.0, 1.0, 9),
    ),
    Case(
        "ZeroInflated-Poisson",
        lambda: lx.ZeroInflated(lx.Poisson(f(0.75, 4.5)), logits=f(*ODDS)),
        COUNTS,
        inflated,
    ),
    Case(
        "ZeroInflated-Geometric",
        lambda: lx.ZeroInflated(lx.Geometric(logits=f(-0.5, 1)), probs=f(*PROBS)),
    ),
    Case(
        "Hurdle-logits",
        lambda: lx.Hurdle(lx.Geometric(probs=f(0.25, 0.625)), logits=f(*ODDS)),
        COUNTS,
        hurdle,
    ),
    Case(
        "Hurdle-probs",
        lambda: lx.Hurdle(lx.Geometric(probs=f(0.25, 0.625)), probs=f(*PROBS)),
        COUNTS,
        hurdle,
        same_as="Hurdle-logits",
    ),
    Case(
        "Truncated-Normal",
        lambda: lx.Truncated(lx.Normal(f(*LOC), f(*SCALE)), -1.0, f(2, 30)),
        a([[-0.5], [1.25]]),
        lambda x: stats.truncnorm.logpdf(
            x, (-1 - LOC) / SCALE, (a([2, 30]) - LOC) / SCALE, LOC, SCALE
        ),
    ),
    Case(
        "Truncated-Geometric",
        lambda: lx.Truncated(lx.Geometric(probs=f(*PROBS)), low=f(1, 2)),
        a([[2], [4], [17]]),
        lambda x: stats.geom.logpmf(x + 1, PROBS) - stats.geom.logsf(a([1, 2]), PROBS),
    ),
    Case(
        "Censored-Geometric",
        lambda: lx.Censored(lx.Geometric(probs=f(*PROBS)), 1.0, f(6, 3)),
        a([[1, 2], [4, 3], [6, 1]]),
        censored,
    ),
    Case(
        "MixtureOf",
        lambda: lx.MixtureOf(
            f([0.75, 0.25], [0.5, 0.5]), (lx.Laplace(f(0.5, 2), 1.5), lx.Normal(f(*LOC), f(*SCALE)))
        ),
        a([[-2.0], [0.5], [4.0]]),
        lambda x: mix(
            [stats.laplace.logpdf(x, a([0.5, 2]), 1.5), stats.norm.logpdf(x, LOC, SCALE)],
            a([[0.75, 0.25], [0.5, 0.5]]),
        ),
    ),
    Case("Masked-Normal", lambda: lx.Normal(f(*LOC, 5), f(*SCALE, 2)).mask(a([True, True, False]))),
    Case(
        "Masked-Independent",
        lambda: lx.Normal(f(*MEANS), f([0.5, 2], [1.25, 4])).to_event(1).mask(a([True, False])),
    ),
]

CASES = [*FAMILIES, *COUNTED, *VECTORS_OF, *WRAPPERS]
BY_NAME = {case.name: case for case in CASES}
