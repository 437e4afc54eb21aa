"""Score matching at every level, on Gaussian data, whose score is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import likelax as lx
from likelax.testing.gaussian_diffusion import example_data
from likelax.testing.subject import quick_jit

D = lx.diffusion
KEY = jax.random.key(3)
DATA = example_data()
PROCESS = D.Process("variance_preserving", D.Cosine(), log_snr_max=4.0, log_snr_min=-4.0)
METHODS = ("sliced", "implicit", "denoising")


def net(factor):
    """The best network, whose output is this many times as large as it should be."""
    init, apply = DATA.network(PROCESS, "score")
    return lambda key, *_: {"w": jnp.asarray(factor)}, lambda p, *a: p["w"] * apply({}, *a)


@pytest.fixture(scope="module")
def found():
    """The mean and its error, and the slope by the factor: by method, at factors of 1 and 1.2."""
    batch = lx.Batch(np.asarray(DATA.sample(jax.random.key(1), 4000)))

    @quick_jit
    def ask():
        out = {}
        for method in METHODS:
            for factor in (1.0, 1.2):
                model = D.ScoreMatching(PROCESS, net(factor), method=method)
                params = {"net": {"w": jnp.asarray(factor)}, "process": {}}
                (_, aux), slope = jax.value_and_grad(model, has_aux=True)(params, KEY, batch)
                each, claim = aux.per_example, aux.claim
                out[method, factor] = each.mean(), each.std() / 4000**0.5, slope["net"]["w"]
                assert claim == lx.Claim("none")
        return out

    return jax.tree.map(float, ask())


def fisher():
    """E_t [sigma^2 E |grad log p(z)|^2 / 2], by the trapezoid rule, of a Normal of variance v: sum 1/v."""
    with jax.enable_x64(True):
        level = PROCESS.at(jnp.linspace(0, 1, 4001))
        alpha, sigma = (np.asarray(a)[:, None] for a in (level.alpha, level.sigma))
        each = sigma**2 / (alpha**2 * DATA.variance + sigma**2)
        return 0.5 * np.trapezoid(each.sum(1), dx=1 / 4000)


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_of_a_score_is_what_it_should_be(found, method):
    # 1/2 E|s - s*|^2 - 1/2 E|s*|^2, and with the noise given the dimension's half is added.
    extra = 0.5 * len(DATA.mean) if method == "denoising" else 0.0
    for factor in (1.0, 1.2):
        mean, error, slope = found[method, factor]
        want = ((factor - 1) ** 2 - 1) * fisher() + extra
        assert abs(mean - want) < 4 * error < 0.3, (method, factor)
        assert abs(slope - 2 * (factor - 1) * fisher()) < 0.06
    assert found[method, 1.2][2] > 0.2  # the control: a score that is too large is seen


BAD = {
    "method": ({"method": "best"}, 'method is "sliced", "implicit" or "denoising", got'),
    "probes": ({"num_probes": 0}, "num_probes is a whole number >= 1, got 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    options, message = BAD[name]
    with pytest.raises((ValueError, TypeError), match=message):
        D.ScoreMatching(PROCESS, net(1.0), **options)
