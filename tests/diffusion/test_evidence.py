"""Likelihoods of trained models with their errors, claims, bad input, meshes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import likelax as lx
from likelax.diffusion import evidence
from likelax.diffusion.weighting import as_weighting
from likelax.objective import Scores
from likelax.testing.gaussian_diffusion import example_data
from likelax.testing.subject import quick_jit

D = lx.diffusion
KEY = jax.random.key(5)
DATA = example_data()
MOVED = (lambda key, *_: {"w": jnp.ones(())}, lambda p, z, *_: p["w"] * z)  # an arbitrary one

# What a trained model says of the likelihood.


def test_bound_of_any_model_with_its_errors():
    process = D.Process("straight", D.Cosine(), log_snr_max=7.0, log_snr_min=-6.0, data_at=1)
    net = DATA.network(process, "noise")
    model = D.Denoising(process, net, "noise", "simple")
    params = {"net": {}, "process": {}}
    x = np.asarray(DATA.sample(jax.random.key(4), 60))
    mask = np.arange(60) != 7
    batch = lx.Batch(np.where(mask[:, None], x, np.nan), mask=mask)
    found = D.bound(model, params, KEY, [batch, batch], num_samples=100)
    want = np.tile(DATA.bound(x, process)[mask], 2)
    z = (found.per_example - want) / found.sampling_error
    assert z.shape == (118,) and np.all(np.abs(z) < 5)
    assert 0.7 < z.std() < 1.3  # the error bar is one
    pooled = np.sqrt(np.mean(found.sampling_error**2) / len(z))
    assert abs(found.loss - want.mean()) < 4 * pooled < 0.5
    plain = quick_jit(D.VLB(process, net, "noise"))(params, KEY, lx.Batch(np.tile(x[:1], (999, 1))))
    spread = np.asarray(plain[1].per_example).std() / 10
    assert np.mean(found.sampling_error) < 0.5 * spread  # than draws in training
    assert found.claim == lx.Claim("upper", measure=lx.Measure("lebesgue", 3))
    np.testing.assert_allclose(sum(found.terms.values()), found.loss, rtol=1e-5)
    assert lx.bits_per_dim(found, bin_width=0.1).claim.relation == "upper"
    assert lx.compare(found, found).claim.relation == "none"
    with pytest.raises(ValueError, match="at least 2, got 1"):
        D.bound(model, params, KEY, batch, num_samples=1)
    with pytest.raises(
        TypeError, match="MaskedDiffusion or UniformDiffusion wanted, got Likelihood"
    ):
        D.bound(lx.Likelihood(None, lx.Head(lx.Normal)), params, KEY, batch)
    with pytest.raises(TypeError, match="outside of jit, vmap"):
        jax.eval_shape(lambda p: D.bound(model, p, KEY, batch).loss, {**params, "t": 0.0})


class Drawn(lx.Objective):
    """Costs that are nothing but noise."""

    def bounded(self, params, key, batch, *, u, state, keep):
        cost = batch.target + jax.random.normal(key, batch.target.shape)
        return Scores(cost, {"cost": cost}, state, lx.Claim("upper"))


def test_blocks_of_draws_make_no_difference(monkeypatch):
    results = []
    for rows in (4096, 12):  # all at once; three at a time and one left
        monkeypatch.setattr(evidence, "_ROWS", rows)
        batch = lx.Batch(jnp.arange(4.0))
        results.append(D.bound(Drawn(), {}, KEY, batch, num_samples=7))
    np.testing.assert_allclose(results[0].per_example, results[1].per_example, rtol=1e-6)
    draws = jax.vmap(lambda key: jax.random.normal(key, (4,)))
    each = np.arange(4.0) + draws(jax.random.split(jax.random.fold_in(KEY, 0), 7))
    np.testing.assert_allclose(results[0].per_example, each.mean(0), rtol=1e-5)
    want = np.asarray(each).std(0, ddof=1) / np.sqrt(7)
    np.testing.assert_allclose(results[0].sampling_error, want, rtol=1e-5)


# Whole numbers.


def test_pixels_cost_bits():
    """Independent levels of 3 values: a bound above their entropy, near it at a good cut."""
    p = np.array([0.2, 0.5, 0.3])
    process = D.Process(schedule=D.Linear(), log_snr_max=9.0, log_snr_min=-6.0)
    centres = (2 * np.arange(3) + 1) / 3 - 1

    def posterior(params, z, level, *_):
        gamma = level * 15.0 - 9.0
        alpha, sigma = (jnp.sqrt(jax.nn.sigmoid(s * gamma))[:, None, None] for s in (-1, 1))
        logits = jnp.log(p) - 0.5 * ((z[..., None] - alpha * centres) / sigma) ** 2
        return jax.nn.softmax(logits) @ centres

    net = (lambda key, *_: {}, posterior)
    model = D.VLB(process, net, "data", data=D.Pixels(bins=3, low=5))
    x = 5 + np.random.default_rng(0).choice(3, size=(40_000, 2), p=p)
    aux = quick_jit(model)({"net": {}, "process": {}}, KEY, lx.Batch(x))[1]
    each = np.asarray(aux.per_example, np.float64)
    share = np.bincount(x.reshape(-1) - 5) / x.size
    nll = -2 * share @ np.log(p)
    error = each.std() / np.sqrt(each.size)
    assert nll - 4 * error < each.mean() < nll + 0.03 + 4 * error and error < 0.04
    assert aux.claim.measure == lx.Measure("counting", 2)
    np.testing.assert_allclose(lx.bits_per_dim(aux), aux.loss / (2 * np.log(2)), rtol=1e-6)


# Claims and bad input.


def test_claims_follow_the_weighting():
    process = D.Process()
    for name, bound in {
        "elbo": "data",
        "sigmoid": "noisy data",
        "simple": None,
        "edm": None,
    }.items():
        model = D.Denoising(process, MOVED, "v", name)
        assert model.weighting.bound == bound
        assert model.claim.relation == ("upper" if bound == "data" else "none")


VALUES = np.array([[0.0, 1.0], [2.0, 3.0]])


def wide(outputs):
    return (lambda key, *_: {}, lambda params, z, *_: jnp.zeros((*z.shape[:-1], outputs)))


PIXELS = {"data": D.Pixels(bins=3)}
BATCHES = {
    "pixels beyond": (PIXELS, VALUES, ValueError, r"index \(1, 1\) the target is 3.0, and Pixels"),
    "pixels between": (PIXELS, VALUES / 2, ValueError, "the target is 0.5, and Pixels"),
    "whole numbers": ({}, VALUES.astype(int), TypeError, r"data=lx.diffusion.Pixels\(bins=256\)"),
    "no batch": ({}, np.float32(1.0), ValueError, r"shape \(batch, \*event\)"),
}


@pytest.mark.parametrize("name", BATCHES)
def test_bad_batches_are_told(name):
    options, target, error, match = BATCHES[name]
    model = D.VLB(D.Process(), wide(2), **options)
    with pytest.raises(error, match=match):
        model({"net": {}, "process": {}}, KEY, lx.Batch(target))


OPTIONS = {
    "steps": ({"steps": 0}, "steps is a whole number >= 1, or None for continuous time, got 0"),
    "variance": ({"variance": "fixed"}, 'variance is "posterior" or "learned"'),
    "continuous": ({"variance": "learned"}, "write steps=1000"),
    "times": ({"times": "uniform"}, r"or lx.diffusion.AdaptiveTimes\(\), got 'uniform'"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_bad_options_are_told(name):
    options, match = OPTIONS[name]
    with pytest.raises(ValueError, match=match):
        D.VLB(D.Process(), wide(2), **options)


def test_networks_that_are_none_are_told():
    batch = lx.Batch(VALUES)
    pair = (lambda *_: {}, lambda params, z, level: (z, z))
    with pytest.raises(TypeError, match=r"one array of shape \(2, 2\), got tuple"):
        D.VLB(D.Process(), pair).init(KEY, batch)
    unaware = (lambda *_: {}, lambda params, z: z)
    with pytest.raises(TypeError, match="takes 2 positional") as told:
        D.VLB(D.Process(), unaware).init(KEY, batch)
    notes = "".join(told.value.__notes__)
    assert "net(z, level, ...) of VLB" in notes
    assert "called with shapes (2, 2), (2,)" in notes


def test_weightings_that_are_none_are_told():
    for weighting in (None, ["elbo"], D.Weighting, lambda level: 1.0):
        with pytest.raises(TypeError, match='or a lx.diffusion.Weighting.*write weighting="elbo"'):
            as_weighting(weighting, "Denoising")
    with pytest.raises(TypeError, match=r"write lx.diffusion.Denoising.*weighting='simple'"):
        D.VLB(D.Process(), wide(2), weighting="simple")


def test_more_bad_options_are_told():
    with pytest.raises(ValueError, match="noise is easy to predict"):
        D.Denoising(D.Process(schedule=D.Learned()), wide(2), "v", "sigmoid")
    for options, match in (
        ({"bins": 0}, "bins is a whole number >= 1"),
        ({"decay": 1.0}, r"decay is in \(0, 1\)"),
        ({"uniform": 0.0}, r"uniform is in \(0, 1\]"),
    ):
        with pytest.raises(ValueError, match=match):
            D.AdaptiveTimes(**options)
    batch = lx.Batch(VALUES)
    with pytest.raises(
        ValueError, match=r"puts out \(2, 2\), got \(2, 3\); give its last layer as"
    ):
        D.VLB(D.Process(), wide(3)).init(KEY, batch)
    chain = D.VLB(D.Process(), wide(2), steps=3, variance="learned")
    with pytest.raises(
        ValueError, match=r"\(2, 4\), got \(2, 2\); give its last layer twice as many"
    ):
        chain.init(KEY, batch)


# Meshes.


def test_explicit_mesh_axes():
    """The types of JAX's Explicit axes are those of larger meshes, on one device, too."""
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    told = (
        lambda key, *_: {"w": jnp.ones((4, 3))},
        lambda p, z, *_: jax.nn.one_hot(z, 4) @ p["w"],
    )
    x, tokens = np.zeros((4, 3), np.float32), np.ones((4, 2), np.int32)
    models = [
        (D.VLB(D.Process(schedule=D.Learned(4)), MOVED, times=D.AdaptiveTimes(4)), x),
        (D.MaskedDiffusion(told, 3), tokens),
        (D.UniformDiffusion(told, 3), tokens),
    ]
    with jax.set_mesh(mesh):
        for model, target in models:
            target = jax.device_put(target, jax.NamedSharding(mesh, jax.P("data")))

            def ask(key, target, model=model):
                params, state = model.init(key, lx.Batch(target))
                grad = jax.grad(model, has_aux=True)
                return grad(params, key, lx.Batch(target), state=state)[1].per_example

            assert jax.eval_shape(ask, KEY, target).sharding.spec == jax.P("data")
