"""Score matching of Gaussian data by a Gaussian, whose expected losses are closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from likelax.numerics import score_matching
from likelax.testing.subject import quick_jit

KEY = jax.random.key(1)
MEAN, COV = np.array([0.5, -1.0]), np.array([[1.3, 0.6], [0.6, 0.8]])
PRECISION, CENTRE = np.array([[0.9, -0.2], [-0.2, 2.0]]), np.array([0.1, 0.3])
SCALE, ROWS = 0.6, 4096


def gaussian(params, x):
    return -(x - params["centre"]) @ params["precision"]


def params_of(precision=PRECISION, centre=CENTRE):
    return {"precision": jnp.asarray(precision), "centre": jnp.asarray(centre)}


def expected(params, cov):
    """E [tr ds/dx + 1/2 |s|^2], s = -P (x - c), of x ~ N(MEAN, cov)."""
    p, off = params["precision"], MEAN - params["centre"]
    return -jnp.trace(p) + 0.5 * (jnp.trace(p @ p.T @ cov) + off @ p @ p.T @ off)


METHODS = {
    "implicit": lambda score, x, key: score_matching.implicit(score, x),
    "sliced": score_matching.sliced,
    "sliced, with variance": lambda score, x, key: score_matching.sliced(
        score, x, key, num_probes=2, variance_reduction=False
    ),
    "denoising": lambda score, x, key: score_matching.denoising(score, x, key, SCALE),
}


def looked_at(x, key, params):
    """Each method's costs of each row, and its gradients for each block of rows."""
    found = {}
    for name, method in METHODS.items():
        blocks = x.reshape(64, -1, 2)

        def mean(params, x, key, method=method):
            return jnp.mean(method(lambda x: gaussian(params, x), x, key))

        keys = jax.random.split(key, 64)
        slopes = jax.vmap(jax.grad(mean), in_axes=(None, 0, 0))(params, blocks, keys)
        found[name] = method(lambda x: gaussian(params, x), x, key), slopes
    return found


@pytest.fixture(scope="module")
def found():
    with jax.enable_x64(True):
        x = MEAN + np.random.default_rng(0).normal(size=(ROWS, 2)) @ np.linalg.cholesky(COV).T
        got = quick_jit(looked_at)(x, KEY, params_of())
        # The best Gaussian: of the data, and of the data with noise.
        best = [params_of(np.linalg.inv(COV + extra * np.eye(2)), MEAN) for extra in (0, SCALE**2)]
        more = [quick_jit(looked_at)(x, KEY, params) for params in best]
        return jax.tree.map(np.asarray, (x, got, more))


def means_to(draws, want):
    draws = draws.reshape(len(draws), -1)
    error = draws.std(0, ddof=1) / np.sqrt(len(draws))
    assert np.all(abs(draws.mean(0) - np.ravel(want)) < 4 * error), "not within 4 standard errors"


def fisher(name, params):
    """The expected loss in closed form; of denoising, but for what does not depend on the model."""
    cov = COV + SCALE**2 * np.eye(2) if name == "denoising" else COV
    constant = 1 / SCALE**2 if name == "denoising" else 0.0  # 1/2 E |e|^2 / scale^2
    return expected(params, cov) + constant


@pytest.mark.parametrize("name", METHODS)
def test_expected_losses_and_gradients(found, name):
    _, got, more = found
    with jax.enable_x64(True):
        costs, slopes = got[name]
        means_to(costs, float(fisher(name, params_of())))
        want = jax.grad(lambda params: fisher(name, params))(params_of())
        for leaf in ("precision", "centre"):
            means_to(slopes[leaf], want[leaf])
            # At the Gaussian itself, with its noise if there is any, the loss is least.
            means_to(more[name == "denoising"][name][1][leaf], np.zeros_like(want[leaf]))
    with pytest.raises(AssertionError, match="4 standard errors"):  # the other Gaussian is not it
        means_to(more[name != "denoising"][name][1]["precision"], np.zeros((2, 2)))
    for wrong in (-costs, 2 * costs, costs + 0.5 * np.trace(PRECISION)):
        with pytest.raises(AssertionError, match="4 standard errors"):
            means_to(wrong, float(fisher(name, params_of())))


def test_the_implicit_loss_by_hand(found):
    x, got, _ = found
    score = -(x - CENTRE) @ PRECISION
    want = -np.trace(PRECISION) + 0.5 * (score**2).sum(-1)
    np.testing.assert_allclose(got["implicit"][0], want, rtol=1e-10)
    # Random directions change the first term alone; less of it where the second is not random too.
    spread = [(got[name][0] - want).var() for name in ("sliced", "sliced, with variance")]
    np.testing.assert_allclose(spread[0], 4 * PRECISION[0, 1] ** 2, rtol=0.1)
    assert spread[1] > 2 * spread[0]


def test_rows_are_scored_apart():
    """Whatever the batch and the event's shape; a scale for each row."""
    x = np.random.default_rng(1).normal(size=(5, 2, 3)).astype(np.float32)
    scale = np.linspace(0.5, 1.5, 5).astype(np.float32)

    @quick_jit
    def ask(x, scale):
        score = lambda x: jnp.sin(2 * x) * jnp.roll(x, 1, -1)  # noqa: E731
        return (
            score_matching.implicit(score, x),
            score_matching.sliced(score, x, KEY, num_probes=3),
            score_matching.denoising(score, x, KEY, scale),
        )

    whole, part = ask(x, scale), ask(x[:2], scale[:2])
    for one, other in zip(whole, part, strict=True):
        assert one.shape == (5,)
        np.testing.assert_allclose(one[:2], other, rtol=1e-5)
    trace = (2 * np.cos(2 * x) * np.roll(x, 1, -1)).sum((1, 2))
    square = ((np.sin(2 * x) * np.roll(x, 1, -1)) ** 2).sum((1, 2))
    np.testing.assert_allclose(whole[0], trace + square / 2, rtol=1e-4)
