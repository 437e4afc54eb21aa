"""Mixtures of several families against their definition in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import likelax as lx
from likelax.testing.subject import quick_jit

WEIGHTS = np.array([0.75, 0.25])
RATES = np.array([1.5, 0.375])
X = np.array([-4.0, 0.5, 7.25])


def make(weights=WEIGHTS):
    waits = lx.Exponential(RATES.astype(np.float32))
    return lx.MixtureOf(jnp.asarray(weights, jnp.float32), (waits, lx.Normal(1.0, 5.0)))


def truth(method, x):
    """The mixture's `method`, from SciPy's components."""
    parts = stats.expon(scale=1 / RATES), stats.norm(1, 5)
    return sum(w * getattr(part, method)(x) for w, part in zip(WEIGHTS, parts, strict=True))


@quick_jit
def everything(dist, x, q):
    names = "log_prob", "cdf", "log_cdf", "survival", "log_survival"
    out = {name: getattr(dist, name)(x) for name in names}
    out |= {"mean": dist.mean(), "variance": dist.variance(), "quantile": dist.quantile(q)}
    out["posterior"] = dist.posterior(x).probs
    return out, jax.grad(lambda dist: dist.log_prob(x).sum())(dist)


def test_against_the_definition():
    x, q = X[:, None], np.array([[0.02], [0.5], [0.97]])
    got, slopes = everything(make(), x.astype(np.float32), q.astype(np.float32))
    np.testing.assert_allclose(got["log_prob"], np.log(truth("pdf", x)), rtol=2e-6)
    for name, method in (("cdf", "cdf"), ("survival", "sf")):
        np.testing.assert_allclose(got[name], truth(method, x), rtol=2e-6)
        np.testing.assert_allclose(
            got[f"log_{name}"], np.log(truth(method, x)), rtol=2e-6, atol=1e-7
        )
    np.testing.assert_allclose(
        truth("cdf", np.asarray(got["quantile"], float)), q + 0 * RATES, rtol=2e-6
    )
    mean, variance = 1 / RATES, RATES**-2
    np.testing.assert_allclose(got["mean"], WEIGHTS @ [mean, [1, 1]], rtol=1e-6)
    spread = WEIGHTS[0] * WEIGHTS[1] * (mean - 1) ** 2
    np.testing.assert_allclose(got["variance"], WEIGHTS @ [variance, [25, 25]] + spread, rtol=1e-6)
    share = WEIGHTS[0] * stats.expon(scale=1 / RATES).pdf(x) / truth("pdf", x)
    np.testing.assert_allclose(got["posterior"][..., 0], share, rtol=3e-6)
    # d log p / d rate = share (1 / rate - x), nothing from where the Exponential has no density.
    want = (share * (1 / RATES - x))[1:].sum(0)
    np.testing.assert_allclose(slopes.components[0].rate, want, rtol=3e-6)
    assert abs(got["log_prob"][1, 0] - lx.Exponential(1.5).log_prob(0.5)) > 0.1  # the control


def test_a_zero_weight_is_harmless():
    """A broken component of weight zero touches neither values nor gradients."""

    def total(dist):
        return dist.log_prob(jnp.array([-2.0, 0.5])).sum()

    dead = lx.MixtureOf(jnp.array([0.0, 1.0]), (lx.Gamma(jnp.nan, 1.0), lx.Normal(1.0, 5.0)))
    value, slopes = quick_jit(jax.value_and_grad(total))(dead)
    np.testing.assert_allclose(value, stats.norm(1, 5).logpdf([-2, 0.5]).sum(), rtol=1e-6)
    assert np.isfinite(slopes.components[1].scale) and slopes.components[0].rate == 0
    alive = lx.MixtureOf(jnp.array([0.5, 0.5]), dead.components)
    assert np.isnan(total(alive))  # the control


def test_samples_and_their_gradients():
    """E[x] and dE[x]/d weight, to four errors of the average."""

    def draws(weight):
        return make(jnp.stack([weight, 1 - weight])).sample(jax.random.key(4), (6000,))[:, 1]

    values, slopes = quick_jit(lambda w: jax.jvp(draws, (w,), (1.0,)))(0.75)
    mean = 1 / RATES[1]
    for got, want in ((values, 0.75 * mean + 0.25), (slopes, mean - 1)):
        assert abs(float(got.mean()) - want) < 4 * float(got.std()) / np.sqrt(len(got)) < 0.3


def test_supports():
    half = lx.MixtureOf(WEIGHTS, (lx.Exponential(1.0), lx.HalfNormal(2.0)))
    assert (half.support.lower, half.support.upper) == (0, None)
    between = lx.MixtureOf(WEIGHTS, (lx.Beta(2.0, 1.0), lx.Uniform(-1.0, 0.5)))
    assert (between.support.lower, between.support.upper) == (-1, 1)
    assert half.log_prob(-1.0) == -np.inf and make().support is lx.supports.real


@pytest.mark.parametrize(
    ("weights", "components", "error", "message"),
    [
        (WEIGHTS, lx.Normal, TypeError, "a tuple of distributions"),
        (WEIGHTS, ("Normal", "Cauchy"), TypeError, "a tuple of distributions"),
        (np.ones(3) / 3, (lx.Normal, lx.Cauchy), ValueError, "3 weights for 2"),
        (WEIGHTS, (lx.Normal, lambda *_: lx.Poisson(2.0)), ValueError, "lx.Hurdle"),
        (WEIGHTS, (lx.Normal, lambda *_: lx.VonMises(0.0, 1.0)), ValueError, "in common"),
        (WEIGHTS, (lx.Normal, lambda *_: lx.Dirichlet(jnp.ones(3))), ValueError, "event shape"),
    ],
)
def test_what_cannot_be_mixed_is_refused(weights, components, error, message):
    if isinstance(components, tuple):
        components = tuple(c(0.0, 1.0) if callable(c) else c for c in components)
    with pytest.raises(error, match=message):
        lx.MixtureOf(weights, components)


def test_heads():
    parts = lx.Head(lx.Gamma), lx.Normal(0.0, 5.0), lx.Head(lx.Laplace, scale=lx.learned())
    weights = lx.Head(lx.Categorical, num_categories=3)
    head = lx.Head(lx.MixtureOf, weights=weights, components=parts)
    raw = jnp.array([[0.5, -0.25, 0.75, 0.5, -0.5, 1.5]])
    params = head.init(jax.random.key(0), raw)
    assert head.size == 6 and set(params["components"]) == {"2"}
    w = np.exp([0.5, -0.25, 0.75]) / np.exp([0.5, -0.25, 0.75]).sum()
    dist = head(raw, params)
    a, rate = (
        np.asarray(getattr(dist.components[0], name), float) for name in ("concentration", "rate")
    )
    pdfs = (
        stats.gamma(a, scale=1 / rate).pdf(2.0),
        stats.norm(0, 5).pdf(2.0),
        stats.laplace(1.5).pdf(2.0),
    )
    np.testing.assert_allclose(
        dist.log_prob(2.0), np.log(sum(x * y for x, y in zip(w, pdfs, strict=True))), rtol=3e-6
    )
