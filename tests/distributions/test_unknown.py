"""What is NaN stays NaN, in summaries and quantiles too; what is no number is told so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import likelax as lx
from likelax.testing.subject import quick_jit

NAN = jnp.nan

SUMMARIES = {
    "LogLogistic": (lambda x: lx.LogLogistic(x, 1.0), ("mean", "mode", "variance")),
    "Pareto": (lambda x: lx.Pareto(x, 1.0), ("mean", "variance")),
    "InverseGamma": (lambda x: lx.InverseGamma(x, 1.0), ("mean", "variance")),
    # Of moments that are infinite, those that depend on the parameter.
    "HalfCauchy": (lambda x: lx.HalfCauchy(x), ("mean", "variance", "stddev")),
    "LogLogistic scale": (lambda x: lx.LogLogistic(0.5, x), ("mean", "variance")),
    "Pareto scale": (lambda x: lx.Pareto(0.5, x), ("mean", "variance")),
    "InverseGamma scale": (lambda x: lx.InverseGamma(0.5, x), ("mean", "variance")),
    "StudentT scale": (lambda x: lx.StudentT(1.5, 0.0, x), ("variance",)),
    "MultivariateStudentT scale": (
        lambda x: lx.MultivariateStudentT(1.5, jnp.zeros(1), x * jnp.eye(1)),
        ("variance",),
    ),
    "GeneralizedPareto loc": (lambda x: lx.GeneralizedPareto(x, 1.0, 1.5), ("mean",)),
    "GeneralizedPareto scale": (
        lambda x: lx.GeneralizedPareto(0.0, x, 1.5),
        ("mean", "variance"),
    ),
    "GeneralizedExtremeValue loc": (lambda x: lx.GeneralizedExtremeValue(x, 1.0, 1.5), ("mean",)),
    "GeneralizedExtremeValue scale": (
        lambda x: lx.GeneralizedExtremeValue(0.0, x, 1.5),
        ("mean", "variance"),
    ),
    "Weibull": (lambda x: lx.Weibull(x, 1.0), ("mode",)),
    "Kumaraswamy": (lambda x: lx.Kumaraswamy(x, 0.5), ("mode",)),
    "Kumaraswamy-0": (lambda x: lx.Kumaraswamy(0.5, x), ("mode",)),
    "GeneralizedPareto": (
        lambda x: lx.GeneralizedPareto(0.0, 1.0, x),
        ("mean", "mode", "variance"),
    ),
    "GeneralizedExtremeValue": (
        lambda x: lx.GeneralizedExtremeValue(0.0, 1.0, x),
        ("mean", "mode", "variance"),
    ),
}
QUANTILES = {
    "Truncated": lambda x: lx.Truncated(lx.Normal(x, 1.0), low=0.0),
    "Truncated-low": lambda x: lx.Truncated(lx.Normal(0.0, 1.0), low=x),
    "Hurdle": lambda x: lx.Hurdle(lx.Geometric(probs=0.5), probs=x),
    "ZeroInflated": lambda x: lx.ZeroInflated(lx.Geometric(probs=0.5), probs=x),
    "MixtureOf": lambda x: lx.MixtureOf(
        jnp.stack([x, 1 - x]), (lx.Normal(0.0, 1.0), lx.Cauchy(0.0, 1.0))
    ),
}


@quick_jit
def summaries(x):
    parts = {name: (make(x), methods) for name, (make, methods) in SUMMARIES.items()}
    found = {
        f"{name}.{method}": getattr(dist, method)()
        for name, (dist, methods) in parts.items()
        for method in methods
    }
    pareto, uniform = (lambda x: lx.Pareto(2.0, x)), (lambda x: lx.Uniform(0.0, x))
    for name, make in {"Pareto": pareto, "Uniform": uniform}.items():
        found[f"KL {name}, first"] = make(x).kl_divergence(make(0.25))
        found[f"KL {name}, second"] = make(0.25).kl_divergence(make(x))
    for method in ("cdf", "log_cdf", "survival", "log_survival"):
        found[f"Hurdle.{method}"] = getattr(lx.Hurdle(lx.Poisson(x), probs=0.3), method)(0)
    found["Censored.cdf"] = lx.Censored(lx.Normal(0.0, 1.0), low=x).cdf(0.75)
    return found


@quick_jit
def quantiles(x):
    return {name: make(x).quantile(jnp.array([0.25, 0.75])) for name, make in QUANTILES.items()}


@pytest.mark.parametrize("program", [summaries, quantiles])
def test_nan_stays(program):
    unknown, known = program(jnp.float32(NAN)), program(jnp.float32(0.3))
    for name, value in unknown.items():
        assert jnp.all(jnp.isnan(value)), (name, value)
    # The control: with a number none of them is NaN, but the mode of a U-shaped density.
    kept = [value for name, value in known.items() if not name.startswith("Kumaraswamy")]
    assert not any(jnp.any(jnp.isnan(value)) for value in kept)


@pytest.mark.parametrize("make", [lx.Hurdle, lx.ZeroInflated])
def test_no_level_below_1_has_the_quantile_0(make):
    # (q - p) / (1 - p) rounds to 1 at one in twelve of these p, and the quantile was 0 there.
    p = jnp.asarray(np.random.default_rng(0).uniform(0, 0.99, 1000), jnp.float32)
    q = np.float32(1 - 2.0**-24)
    assert jnp.any((q - p) / (1 - p) >= 1)  # the control
    assert jnp.min(make(lx.Geometric(probs=0.5), probs=p).quantile(q)) >= 16


@pytest.mark.parametrize("make", [lx.Hurdle, lx.ZeroInflated])
def test_a_base_that_is_none(make):
    with pytest.raises(TypeError, match=r"base is a distribution, got 'Poisson'; write"):
        make("Poisson", probs=0.5)


def test_what_is_no_number():
    normal = lx.Normal(0.0, 1.0)
    with pytest.raises(TypeError, match=r"Normal.log_prob: values are real numbers, got complex64"):
        normal.log_prob(1j)
    for value in ("1.0", None, [1.0, None]):
        with pytest.raises(TypeError, match=r"Normal.log_prob: a number or an array of numbers"):
            normal.log_prob(value)
    with pytest.raises(TypeError, match=r"Normal: scale is a number .* got 'big'; write scale="):
        lx.Normal(0.0, "big")


@pytest.mark.parametrize("make", [lx.Truncated, lx.Censored])
def test_ends_in_the_wrong_order(make):
    with lx.debug_checks():
        make(lx.Poisson(1.0), low=2, high=2)
        with pytest.raises(ValueError, match="low must be at most high; at index .* it is 1"):
            make(lx.Normal(0.0, 1.0), low=1.0, high=0.0)


@pytest.mark.parametrize("family", [lx.Weibull, lx.LogLogistic, lx.Kumaraswamy])
def test_an_unknown_parameter_is_seen_at_the_edge(family):
    """There the density is infinite or 0 by one of the two alone."""
    first, second = jnp.array([[0.5, np.nan], [2.0, np.nan], [np.nan, 0.5]]).T
    assert np.isnan(family(first, second).log_prob(0.0)).all()
    assert np.isinf(family(jnp.array([0.5, 2.0]), 1.0).log_prob(0.0)).all()


@quick_jit
def tails_outside(x):
    beta, normal, poisson = lx.Beta(x, 2.0), lx.Normal(x, 1.0), lx.Poisson(x)
    at = {
        "Beta": (beta, (-1.0, 2.0)),
        "Normal": (normal, (-np.inf, np.inf)),
        "Poisson": (poisson, (-1, np.inf)),
    }
    methods = ("cdf", "log_cdf", "survival", "log_survival")
    return {
        m: {name: getattr(dist, m)(jnp.array(v)) for name, (dist, v) in at.items()} for m in methods
    }


def test_an_unknown_parameter_is_seen_in_the_tails_outside_the_support():
    assert all(np.isnan(out).all() for out in jax.tree.leaves(tails_outside(jnp.float32(NAN))))
    known = tails_outside(jnp.float32(0.5))
    for name in ("Beta", "Normal", "Poisson"):
        np.testing.assert_array_equal(known["cdf"][name], [0, 1])
        np.testing.assert_array_equal(known["log_survival"][name], [0, -np.inf])


def nan_dists(x):
    """Families whose tails, ends or quantiles once hid a NaN."""
    return {
        "Censored, low": lx.Censored(lx.Gumbel(0.5, 2.0), low=x, high=4.0),
        "Censored, high": lx.Censored(lx.Normal(0.5, 2.0), high=x),
        "Truncated": lx.Truncated(lx.Exponential(0.5), low=x),
        "Beta": lx.Beta(x, 2.0),
        "VonMises, loc": lx.VonMises(x, 1.0),
        "VonMises, concentration": lx.VonMises(0.5, x),
        "Triangular, low": lx.Triangular(x, 3.0, 0.5),
        "Triangular, high": lx.Triangular(-1.0, x, 0.5),
        "Triangular, peak": lx.Triangular(-1.0, 3.0, x),
        "Quantized": lx.Quantized(lx.Normal(x, 1.0), 0, 3, 4),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", nan_dists(0.75))
def test_an_unknown_parameter_is_seen_everywhere_by_all_methods_in_one_program(name):
    """Together, as XLA then fuses an `exp` with what says where they are NaN."""

    @quick_jit
    def ask(x):
        dist, at = nan_dists(x)[name], jnp.array([-np.inf, -5, -1, 0, 0.5, 1, 3, 50, np.inf])
        methods = ("log_prob", "prob", "cdf", "log_cdf", "survival", "log_survival")
        found = {method: getattr(dist, method)(at) for method in methods}
        return found | {"quantile": dist.quantile(jnp.array([0, 0.25, 1]))}

    for method, got in ask(jnp.float32(NAN)).items():
        assert np.isnan(got).all(), (method, got)
    assert not any(np.isnan(got).any() for got in ask(jnp.float32(0.75)).values())


def test_the_quantiles_0_and_1_of_an_unknown_parameter():
    q = jnp.array([0.0, 1.0])
    for dist in (lx.Normal(NAN, 1.0), lx.Gamma(NAN, 1.0), lx.Poisson(NAN), lx.Uniform(NAN, 1.0)):
        assert np.isnan(dist.quantile(q)).all(), dist
    np.testing.assert_array_equal(lx.Gamma(2.0, 1.0).quantile(q), [0, np.inf])  # the control


def test_an_infinite_angle_is_none():
    log_prob = jax.value_and_grad(lambda loc: lx.VonMises(loc, 1.0).log_prob(np.inf))
    assert log_prob(0.5) == (-np.inf, 0)


def test_shapes_that_do_not_fit():
    normal = lx.Normal(jnp.zeros(3), 1.0)
    with pytest.raises(
        ValueError, match=r"Masked: the batch shapes do not .*: base \(3,\), mask \(2,\); add"
    ):
        normal.mask(jnp.array([True, False]))
    with pytest.raises(
        ValueError, match=r"Normal.broadcast_to: batch shape \(3,\) does not broadcast to \(2,\)"
    ):
        normal.broadcast_to((2,))
    with pytest.raises(NotImplementedError, match=r"Masked.cdf .*; ask what is masked: .base.cdf"):
        normal.mask(True).cdf(0.0)


def test_draws_of_unknown_classes_are_marked():
    @jax.jit
    def draw(logits):
        dists = (lx.Categorical(logits=logits), lx.OneHotCategorical(logits=logits))
        dists += (lx.Categorical(probs=jnp.exp(logits)), lx.PlackettLuce(logits))
        return [dist.sample(jax.random.key(3), 5) for dist in dists]

    logits = jnp.array([[0.5, NAN, 1.0], [0.5, -np.inf, 1.0], [-np.inf, -np.inf, -np.inf]])
    labels, vectors, by_probs, rankings = map(np.asarray, draw(logits))
    for drawn in (labels, by_probs):
        assert np.all(drawn[:, [0, 2]] == -1) and np.all((drawn[:, 1] == 0) | (drawn[:, 1] == 2))
    np.testing.assert_array_equal(vectors.sum(-1), [[0, 1, 0]] * 5)
    assert np.all(rankings[:, 0] == -1) and np.all(np.sort(rankings[:, 1:]) == np.arange(3))
