"""The likelihood by the probability-flow equation, of Gaussian data, where it is a Normal."""

import sys

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import likelax as lx
from likelax.diffusion import (
    VLB,
    Cosine,
    Denoising,
    Karras,
    Linear,
    LinearBeta,
    ODELikelihood,
    Pixels,
    Process,
    Real,
    ode_log_prob,
    transport,
)
from likelax.testing.subject import quick_jit

KEY = jax.random.key(3)
MEAN, LAM = np.array([0.7, -1.1]), np.array([0.4, 1.9])
X = np.array([[0.4, -1.0], [2.0, 0.5], [-0.3, 0.1]])
FINE = {"rtol": 1e-9, "atol": 1e-9, "solver": diffrax.Dopri8()}


def gaussian(process):
    """The optimal prediction of v for data N(mean, diag lam), as a network that is told the time."""

    def apply(params, z, t):
        at = process.at(t).like(z)
        mean = params["mean"]
        spread = at.alpha**2 * params["lam"] + at.sigma**2
        x_hat = mean + at.alpha * params["lam"] * (z - at.alpha * mean) / spread
        e_hat = at.sigma * (z - at.alpha * mean) / spread
        return at.alpha * e_hat - at.sigma * x_hat

    return lambda key, *_: {"mean": jnp.asarray(MEAN), "lam": jnp.asarray(LAM)}, apply


def model_of(process, data=None, kind=Denoising, **options):
    return kind(process, gaussian(process), "v", data=data, level="time", **options)


def density(process, params=None, data=None):
    """Of data, the Normal that the equation makes of the prior: it maps variances onto one another."""
    data, params = data or Real(), params or {"mean": MEAN, "lam": LAM}
    first, last = process.ends()
    v0, v1 = (p.alpha**2 * params["lam"] + p.sigma**2 for p in (first, last))
    ratio = jnp.sqrt(v0 / v1)
    loc = params["mean"] - ratio * last.alpha * params["mean"] / first.alpha
    scale = ratio * jnp.hypot(last.alpha, last.sigma) / first.alpha
    return lx.Normal(data.loc + data.scale * loc, data.scale * scale).to_event()


KARRAS = Process("variance_exploding", Karras(), 10.0, -6.0)
SUB = Process("sub_variance_preserving", LinearBeta(), 8.0, -4.0, data_at=1)
SHORT = Process("straight", Linear(), 2.0, 0.5, data_at=1)  # nothing is near 0 or 1
PARAMS = {"net": {"mean": MEAN, "lam": LAM}, "process": {}}
UNITS = Real(np.array([0.2, -1.0]), np.array([0.5, 3.0]))


def arrays():
    return jax.tree.map(jnp.asarray, PARAMS)


@pytest.mark.parametrize("process", [KARRAS, SUB], ids=["karras", "sub"])
def test_the_density_of_gaussian_data_is_a_normal(process):
    with jax.enable_x64(True):
        got = ode_log_prob(model_of(process, UNITS), arrays(), KEY, lx.Batch(X), **FINE)
        want = density(process, data=UNITS).log_prob(X)
        np.testing.assert_allclose(got.log_prob, want, rtol=1e-6)
        assert got.claim == lx.Claim("exact", True, lx.Measure("lebesgue", 2), "ode tolerance")
        np.testing.assert_array_equal(got.standard_error, np.zeros(3))


@pytest.mark.slow
def test_gradients_are_those_of_the_closed_form():
    """And so are the numbers, where alpha is far from 1; VLB models are asked as others are."""
    with jax.enable_x64(True):
        model = model_of(SHORT, UNITS, VLB)
        objective = ODELikelihood(model, **FINE)
        ask = quick_jit(jax.value_and_grad(objective, has_aux=True))
        (loss, aux), grads = ask(arrays(), KEY, lx.Batch(X))
        exact = lambda params: -density(SHORT, params, UNITS).log_prob(X)  # noqa: E731
        want = np.asarray(exact(PARAMS["net"]))
        np.testing.assert_allclose(aux.per_example, want, rtol=1e-6)
        slopes = jax.grad(lambda params: jnp.mean(exact(params)))(arrays()["net"])
        for name in ("mean", "lam"):
            np.testing.assert_allclose(grads["net"][name], slopes[name], rtol=1e-6)

        # The parts, for the controls.
        first, last = SHORT.ends()
        z = first.alpha * (X - UNITS.loc) / UNITS.scale
        end = np.asarray(transport(model, arrays(), z, to="noise", **FINE))
        v0, v1 = (p.alpha**2 * LAM + p.sigma**2 for p in (first, last))
        by_hand = last.alpha * MEAN + np.sqrt(v1 / v0) * (z - first.alpha * MEAN)
        np.testing.assert_allclose(end, by_hand, rtol=1e-8)
        at_end = np.asarray(SHORT.prior((2,)).log_prob(end))
        units = 2 * np.log(first.alpha) - np.log(UNITS.scale).sum()
        gained = -want - at_end - units
        np.testing.assert_allclose(gained, 0.5 * np.log(v1 / v0).sum(), rtol=1e-8)
        for wrong in (at_end - gained + units, at_end + units, at_end + gained - units):
            with pytest.raises(AssertionError, match="Not equal to tolerance"):
                np.testing.assert_allclose(-wrong, want, rtol=1e-2)


@pytest.mark.slow
def test_gradients_may_be_solved_backwards():
    """The adjoint takes the model's arguments; its numbers are looked at with those of flows."""
    objective = ODELikelihood(model_of(SHORT), adjoint=diffrax.BacksolveAdjoint())
    loss = lambda params: objective(params, KEY, lx.Batch(X.astype(np.float32)))[0]  # noqa: E731
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), PARAMS)
    assert jax.eval_shape(jax.grad(loss), params)["net"]["lam"].shape == (2,)


# Whole numbers: the mean of the weights is their probability.

PIXELS, COARSE = Pixels(5, low=-2.0), Process("variance_preserving", Cosine(), 3.0, -6.0)
COUNT, LEVELS = 400, np.arange(-2, 3)
ONE = {"net": {"mean": np.array([0.3]), "lam": np.array([0.2])}, "process": {}}
WHOLE = lx.Batch(np.tile(LEVELS, COUNT)[:, None].astype(np.int32))


@pytest.mark.slow
def test_the_noise_that_is_left_dequantizes():
    model = model_of(COARSE, PIXELS)
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), ONE)
    got = ode_log_prob(model, params, KEY, WHOLE, num_dequantizations=16)
    assert got.claim.relation == "upper" and got.claim.measure == lx.Measure("counting", 1)
    found = np.asarray(got.log_prob, np.float64).reshape(COUNT, 5)
    first = COARSE.ends()[0]
    z, step = np.linspace(-3, 3, 4001, retstep=True)
    centres = (2 * np.arange(5) + 1) / 5 - 1
    likelihoods = scipy.stats.norm(centres[:, None] * first.alpha, first.sigma).pdf(z)
    at_z = density(COARSE, ONE["net"])
    p = scipy.stats.norm(at_z.base.loc * first.alpha, at_z.base.scale * first.alpha).pdf(z)
    want = (p * likelihoods / likelihoods.sum(0)).sum(1) * step
    np.testing.assert_allclose(want.sum(), 1, rtol=1e-3)
    means_to(np.exp(found), want)
    # The error of each is as large as their spread.
    errors = np.asarray(got.standard_error).reshape(COUNT, 5)
    np.testing.assert_allclose(np.sqrt((errors**2).mean(0)), found.std(0), rtol=0.25)
    # The control: without the entropy of the noise.
    entropy = 0.5 * np.log(2 * np.pi * np.e) + first.log_sigma
    with pytest.raises(AssertionError, match="standard errors"):
        means_to(np.exp(found - entropy), want)


def test_uniform_noise_dequantizes():
    model = model_of(COARSE, PIXELS)
    objective = ODELikelihood(model, dequantization="uniform", num_dequantizations=2)
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), ONE)
    score = lx.evaluate(objective, params, KEY, WHOLE)
    dist = density(COARSE, ONE["net"]).base
    edges = scipy.stats.norm(np.asarray(dist.loc), np.asarray(dist.scale)).cdf(
        np.linspace(-1, 1, 6)
    )
    found = -score.per_example.reshape(COUNT, 5).astype(np.float64)
    means_to(np.exp(found), np.diff(edges))
    with pytest.raises(AssertionError, match="standard errors"):  # the width of a bin forgotten
        means_to(np.exp(found) * 2.5, np.diff(edges))
    bits = lx.bits_per_dim(score)
    assert "upper bound, closing with num_dequantizations and ode tolerance" in str(bits)
    np.testing.assert_allclose(float(bits), score.loss / np.log(2), rtol=1e-6)
    assert lx.compare(score, score).difference == 0


def means_to(draws, want):
    error = draws.std(0, ddof=1) / np.sqrt(len(draws))
    assert np.all(abs(draws.mean(0) - want) < 4 * error), "not within 4 standard errors"
    assert np.all(error < 0.05 * want)


# Random probes.


def test_probes_estimate_the_density():
    """Their spread is what the closed form of the Jacobian's integral gives; masked rows are 0."""
    target = np.tile(X[:1], (800, 1)).astype(np.float32)
    target[5] = np.nan
    batch = lx.Batch(target, mask=np.arange(800) != 5)
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), PARAMS)
    model = model_of(SHORT)
    got = ode_log_prob(model, params, KEY, batch, num_probes=3, probe="gaussian")
    assert (got.claim.relation, got.claim.vanishes) == ("estimate", "num_probes and ode tolerance")
    assert got.log_prob[5] == 0 and got.standard_error[5] == 0
    found = np.delete(np.asarray(got.log_prob, np.float64), 5)
    want = float(density(SHORT).log_prob(X[0]))
    error = found.std() / np.sqrt(799)
    assert abs(found.mean() - want) < 4 * error
    first, last = SHORT.ends()
    v0, v1 = (p.alpha**2 * LAM + p.sigma**2 for p in (first, last))
    each = 0.5 * np.log(v1 / v0)  # of the two axes: sum of each * e^2
    np.testing.assert_allclose(found.std(), np.sqrt(2 * (each**2).sum() / 3), rtol=0.1)
    squares = np.delete(np.asarray(got.standard_error, np.float64), 5) ** 2
    np.testing.assert_allclose(squares.mean(), 2 * (each**2).sum() / 3, rtol=0.15)
    # The control: probes that are not divided by their number.
    assert abs(found.mean() + 2 * each.sum() - want) > 4 * error


def summed(log_weights, **options):
    found = ODELikelihood(model_of(COARSE, PIXELS), **options)._summed(jnp.asarray(log_weights))
    return [np.asarray(x).tolist() for x in found]


def test_bounds_are_weighted_or_averaged():
    weights = np.log([[[1.0]], [[4.0]]])
    log_prob, error = summed(weights, num_dequantizations=2)
    np.testing.assert_allclose([log_prob[0], error[0]], [np.log(2.5), 0.6], rtol=1e-6)
    log_prob, error = summed(weights, num_dequantizations=2, num_probes=1)
    np.testing.assert_allclose([log_prob[0], error[0]], np.log(2), rtol=1e-6)
    # Of one draw the error is not known.
    assert np.isnan(summed(weights[:1])[1]) and np.isnan(summed(weights[:1], num_probes=1)[1])


def test_rows_on_explicit_mesh_axes():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    objective = ODELikelihood(model_of(SHORT), num_probes=1)
    with jax.set_mesh(mesh):
        target = jax.device_put(X.astype(np.float32), jax.NamedSharding(mesh, jax.P("data")))
        each = jax.eval_shape(
            lambda *a: objective(*a)[1].per_example, PARAMS, KEY, lx.Batch(target)
        )
        assert each.sharding.spec == jax.P("data")


def test_diffrax_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffrax", None)
    with pytest.raises(ImportError, match=r"likelax\[ode\]"):
        transport(model_of(SHORT), PARAMS, jnp.zeros((1, 2)), to="data")


BAD = {
    "a model": (lambda: ODELikelihood(SHORT), "a model of lx.diffusion wanted"),
    "probes": (lambda: ODELikelihood(model_of(SHORT), num_probes=0), "leave it out for the exact"),
    "bins": (
        lambda: ODELikelihood(model_of(SHORT), dequantization="uniform"),
        r"is for whole numbers.*write data=lx.diffusion.Pixels",
    ),
    "count": (
        lambda: ODELikelihood(model_of(COARSE, PIXELS), num_dequantizations=0),
        "whole number >= 1, got 0",
    ),
    "nothing to draw": (
        lambda: ODELikelihood(model_of(SHORT), num_dequantizations=2),
        "real numbers is not dequantized",
    ),
    "batch": (lambda: ode_log_prob(model_of(SHORT), PARAMS, KEY, X), "Batch"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    make, message = BAD[name]
    with pytest.raises((TypeError, ValueError), match=message):
        make()
