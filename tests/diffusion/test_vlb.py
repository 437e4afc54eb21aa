"""The bounds on Gaussian data, where the optimal denoiser and every term are known in closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

import likelax as lx
from likelax._keys import stream
from likelax.diffusion._noise import normal_like
from likelax.testing import check_diffusion_bound
from likelax.testing.gaussian_diffusion import example_data
from likelax.testing.subject import quick_jit

D = lx.diffusion
KEY = jax.random.key(5)
DATA = example_data()
SCHEDULES = (
    D.Linear(),
    D.LinearBeta(),
    D.Cosine(),
    D.Sigmoid(),
    D.Polynomial(),
    D.LogNormal(),
    D.Straight(),
    D.Karras(),
)
PATHS = ("variance_preserving", "variance_exploding", "sub_variance_preserving", "straight")
PREDICTIONS = ("noise", "data", "v", "score", "velocity", "edm")


# The closed form itself.


def test_the_ground_truth_is_right():
    with jax.enable_x64(True):
        process = D.Process(
            "sub_variance_preserving", D.Cosine(), log_snr_max=9.0, log_snr_min=-6.0
        )
        x = np.array([[0.7, -2.0, 0.4], [0.1, 0.3, -1.9]])
        np.testing.assert_allclose(
            DATA.log_prob(x),
            scipy.stats.norm(DATA.mean, np.sqrt(DATA.variance)).logpdf(x).sum(-1),
            rtol=1e-12,
        )

        nodes, weights = np.polynomial.hermite_e.hermegauss(8)

        @quick_jit
        def errors(gamma):  # E|e - e_hat|^2 by Gauss-Hermite, from `denoised`, `(times, examples)`
            level = process.at(process.time_of(gamma))
            at = D.Level(*(v[:, None, None] for v in level))
            z = at.alpha[..., None] * x[:, None] + (at.sigma * nodes)[..., None]
            missed = nodes[:, None] - DATA.denoised(z, at).noise
            return jnp.sum(missed**2, axis=-1) @ (weights / weights.sum())

        places, widths = np.polynomial.legendre.leggauss(40)
        want = 0.5 * 7.5 * widths @ np.asarray(errors(7.5 * places - 1.5))
        np.testing.assert_allclose(DATA.diffusion(x, process), want, rtol=1e-9)
        gammas = np.asarray(process.gamma(np.linspace(0, 1, 41)))
        want = 0.5 * np.expm1(np.diff(gammas)) @ np.asarray(errors(gammas[1:]))
        np.testing.assert_allclose(DATA.diffusion(x, process, steps=40), want, rtol=1e-9)
    # On average over the data, and for a function of (x - m)^2 over these two.
    pair = DATA.mean + np.sqrt(DATA.variance) * np.array([[1.0], [-1.0]])
    np.testing.assert_allclose(DATA.diffusion(pair, process).mean(), DATA.mean_diffusion(process))
    np.testing.assert_allclose(DATA.entropy, -DATA.log_prob(pair).mean())
    bounds = [DATA.bound(pair, process, steps=steps).mean() for steps in (None, 1000, 100)]
    assert DATA.entropy < bounds[0] < bounds[1] < bounds[2]
    np.testing.assert_allclose(bounds[0], DATA.entropy, atol=0.01)


# The objective, for every schedule, path and prediction.


def test_every_schedule_path_and_prediction_has_the_same_bound():
    draws, count = 1500, 3
    x = DATA.sample(jax.random.key(1), count)
    rows = lx.Batch(jnp.tile(x, (draws, 1)))

    def ask(key):
        found = []
        for i, schedule in enumerate(SCHEDULES):
            path, prediction = PATHS[i % 4], PREDICTIONS[i % 6]
            process = D.Process(path, schedule, 7.0, -6.0, data_at=i % 2)
            net = DATA.network(process, prediction, "time")
            model = D.VLB(process, net, prediction, level="time")
            found.append(model({"net": {}, "process": {}}, key, rows)[1].per_example)
        return jnp.stack(found)

    each = np.asarray(quick_jit(ask)(KEY), np.float64).reshape(-1, draws, count)
    error = each.std(1) / np.sqrt(draws)
    want = DATA.bound(x, D.Process(log_snr_max=7.0, log_snr_min=-6.0))
    assert np.all(np.abs(each.mean(1) - want) < 4 * error)
    assert np.all(error < 2)


def test_a_learned_schedule_and_chains_are_checked_too():
    check_diffusion_bound(D.VLB, key=KEY, process=D.Process(schedule=D.Learned(2)))
    chain = functools.partial(D.VLB, steps=40)
    process = D.Process("variance_exploding", D.Karras(), 6.0, -5.0, data_at=1)
    check_diffusion_bound(chain, key=KEY, process=process, prediction="edm", steps=40)


class WrongSign(D.VLB):
    """A target of the wrong sign."""

    def _missed(self, x, noise, output, level):
        return super()._missed(x, noise, -output, level)


class NoHalf(D.VLB):
    """Without the 1/2."""

    def _cost(self, *args):
        cost, state = super()._cost(*args)
        return 2 * cost, state


class MeanOfEvent(D.VLB):
    """The mean over the event."""

    def _cost(self, *args):
        cost, state = super()._cost(*args)
        return cost / 3, state


class NoReconstruction(D.VLB):
    """Without the term of the data."""

    def _ends(self, *args):
        return {"prior": super()._ends(*args)["prior"]}


@pytest.mark.parametrize("broken", [WrongSign, NoHalf, MeanOfEvent, NoReconstruction])
def test_a_broken_bound_is_found(broken):
    with pytest.raises(AssertionError, match="nats on average, and the variational bound is"):
        check_diffusion_bound(broken, key=KEY)


# The chain as a chain of Normals.


def arbitrary(outputs):
    """A network that is no good, `outputs` times as wide as its input."""

    def apply(params, z, level, *_):
        wide = jnp.sin(z @ jnp.linspace(-1.0, 2.0, 3 * outputs * 3).reshape(3, -1))
        return wide * (1 + level[:, None])

    return lambda key, *_: {}, apply


def step_back(process, x, z, early, late):
    """q(z_s | z_t, x) and q(z_t | z_s)'s variance, by conditioning Normals."""
    shrink = late.alpha / early.alpha
    forward = late.sigma**2 - shrink**2 * early.sigma**2
    precision = 1 / early.sigma**2 + shrink**2 / forward
    mean = (early.alpha * x / early.sigma**2 + shrink * z / forward) / precision
    return mean, 1 / precision, forward


CHAINS = {
    "posterior": ("straight", D.Straight(), "velocity", 0),
    "learned": ("variance_preserving", D.Cosine(), "noise", 1),
}


@pytest.mark.parametrize("variance", CHAINS)
def test_the_fast_chain_is_the_one_of_normals(variance):
    path, schedule, prediction, data_at = CHAINS[variance]
    steps, rows = 3, 4
    process = D.Process(path, schedule, 5.0, -4.0, data_at=data_at)
    net = arbitrary(2 if variance == "learned" else 1)
    model = D.VLB(process, net, prediction, steps=steps, variance=variance)
    params = {"net": {}, "process": {}}

    def ask(key, x):
        noise = normal_like(stream(key, "noise"), x)
        first = jax.random.uniform(stream(key, "times"))
        index = jnp.floor((first + jnp.arange(rows) / rows) % 1 * steps)
        ends = [process.at(i / steps) for i in (index, index + 1)]
        early, late = ends if data_at == 0 else ends[::-1]
        z = late.like(x).alpha * x + late.like(x).sigma * noise
        out = net[1]({}, z, late.position)
        guess = D.Prediction(prediction).denoised(out[:, :3], z, late).data
        mean, small, large = step_back(process, x, z, early.like(x), late.like(x))
        mean_hat, var_hat, _ = step_back(process, guess, z, early.like(x), late.like(x))
        if variance == "learned":
            v = (1 + out[:, 3:]) / 2
            var_hat = jnp.exp(v * jnp.log(large) + (1 - v) * jnp.log(small))
        q, p = lx.Normal(mean, jnp.sqrt(small)), lx.Normal(mean_hat, jnp.sqrt(var_hat))
        want = steps * jnp.mean(jnp.sum(q.kl_divergence(p), axis=1))
        loss, aux = model(params, key, lx.Batch(x))
        return want, aux.terms, loss

    with jax.enable_x64(True):
        x = np.random.default_rng(0).normal(size=(rows, 3))
        want, terms, loss = quick_jit(ask)(KEY, x)
        np.testing.assert_allclose(terms["diffusion"], want, rtol=1e-10)
        np.testing.assert_allclose(loss, sum(terms.values()), rtol=1e-12)
