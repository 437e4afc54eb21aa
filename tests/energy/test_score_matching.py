"""Score matching of densities on Gaussian data, and on a mixture, whose scores are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import likelax as lx
from likelax.energy import RBM, Energy, GaussianRBM, ScoreMatching
from likelax.testing.subject import quick_jit

KEY = jax.random.key(2)
X = np.array([[0.3, -1.2], [2.0, 0.4], [-0.5, 0.9], [1.1, 1.6]])
WEIGHT = np.array([1.0, 2.0, 0.5, 1.5])
NOISE, DRAWS = 0.7, 1000
P = WEIGHT / WEIGHT.sum()
MEAN = P @ X
COVARIANCE = (X - MEAN).T @ (P[:, None] * (X - MEAN))


def gaussian():
    """N(mean, precision^-1), without its log Z."""
    return Energy(
        (
            lambda key, x: {"mean": jnp.zeros(2), "precision": jnp.eye(2)},
            lambda p, x: (
                0.5 * jnp.einsum("ni,ij,nj->n", x - p["mean"], p["precision"], x - p["mean"])
            ),
        ),
        2,
    )


def at(covariance, mean=MEAN):
    return {"mean": jnp.asarray(mean), "precision": jnp.asarray(np.linalg.inv(covariance))}


class WrongSign(ScoreMatching):
    """The trace of the Jacobian with the other sign, as -E's in place of E's."""

    def score(self, *args, **keywords):
        scores = super().score(*args, **keywords)
        density = self.density(args[0])
        x = args[2].target
        s = jax.grad(lambda x: jnp.sum(density.unnormalized_log_prob(x)))(x)
        return scores._replace(per_example=jnp.sum(s**2, -1) - scores.per_example)


METHODS = {
    "implicit": {},
    "sliced": {"num_probes": 2},
    "sliced, not reduced": {"method": "sliced", "variance_reduction": False},
    "denoising": {"noise_scale": NOISE},
}
MIXTURE = [[0.8, -1.3], [0.5, 2.1]], [0.2, -0.6], [0.4, -0.3], [0.6, 1.7]


def slopes(model, params, batch):
    """The loss and its gradient by each of many keys."""
    grad = jax.value_and_grad(lambda p, key: model(p, key, batch)[0])
    return jax.vmap(grad, (None, 0))(params, jax.random.split(KEY, DRAWS))


@pytest.fixture(scope="module")
def found():
    """Losses and gradients at the data's Gaussian and at another one, by method, in one program."""
    broad = COVARIANCE + NOISE**2 * np.eye(2)

    @quick_jit
    def ask():
        out = {}
        whole = lx.Batch(jnp.asarray(X), weight=jnp.asarray(WEIGHT))
        few = lx.Batch(whole.target.at[1].set(jnp.nan), mask=jnp.arange(4) != 1)
        for name, options in METHODS.items():
            model = ScoreMatching(gaussian(), **{"method": name} | options)
            for place, cov in (("data", COVARIANCE), ("noisy", broad)):
                out[name, place] = slopes(model, at(cov), whole)
        model = ScoreMatching(gaussian(), "implicit")
        out["exact", ""] = jax.value_and_grad(model, has_aux=True)(at(COVARIANCE), KEY, whole)
        out["masked", ""] = jax.value_and_grad(model, has_aux=True)(at(broad), KEY, few)
        out["broken", ""] = jax.grad(WrongSign(gaussian(), "implicit"), has_aux=True)(
            at(COVARIANCE), KEY, whole
        )[0]
        rbm = GaussianRBM(*(jnp.asarray(a) for a in MIXTURE))
        out["mixture", ""] = ScoreMatching(rbm, "implicit")(rbm, KEY, lx.Batch(jnp.asarray(X)))[1]
        return out

    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, ask())


def implicit_loss(x, covariance):
    precision = np.linalg.inv(covariance)
    return 0.5 * np.sum(((x - MEAN) @ precision) ** 2, -1) - np.trace(precision)


def test_the_minimum_is_the_gaussian_of_the_data(found):
    (loss, aux), grads = found["exact", ""]
    np.testing.assert_allclose(aux.per_example, implicit_loss(X, COVARIANCE), rtol=1e-10)
    np.testing.assert_allclose(loss, -0.5 * np.trace(np.linalg.inv(COVARIANCE)), rtol=1e-10)
    for leaf in jax.tree.leaves(grads):
        np.testing.assert_allclose(leaf, 0, atol=1e-10)
    assert aux.claim == lx.Claim("none")
    # The control: a Jacobian of the other sign has its minimum elsewhere.
    assert np.abs(found["broken", ""]["precision"]).max() > 0.1


def test_what_is_masked_out_does_not_matter(found):
    (loss, aux), grads = found["masked", ""]
    each = implicit_loss(X, COVARIANCE + NOISE**2 * np.eye(2))[[0, 2, 3]]
    np.testing.assert_allclose(loss, each.mean(), rtol=1e-10)
    assert aux.per_example[1] == 0 and all(np.all(np.isfinite(g)) for g in grads.values())


@pytest.mark.parametrize("name", METHODS)
def test_the_mean_over_random_numbers(found, name):
    """The slope vanishes at the Gaussian of the data, for denoising with the noise added, not at the
    other one.
    """
    right, wrong = ("noisy", "data") if name == "denoising" else ("data", "noisy")
    loss, grads = found[name, right]
    precision = np.linalg.inv(COVARIANCE + (name == "denoising") * NOISE**2 * np.eye(2))
    want = -0.5 * np.trace(precision) + (name == "denoising") / NOISE**2
    error = loss.std() / DRAWS**0.5
    assert abs(loss.mean() - want) < 4 * error + 1e-10
    assert name == "implicit" or 1e-3 < error < 0.2
    off = {}
    for place in (right, wrong):
        each = np.concatenate([g.reshape((DRAWS, -1)) for g in found[name, place][1].values()], 1)
        off[place] = np.abs(each.mean(0)) / (each.std(0) / DRAWS**0.5 + 1e-10)
    assert off[right].max() < 4 < 10 < off[wrong].max()


def test_reduction_reduces_the_variance(found):
    assert found["sliced", "data"][0].std() < 0.8 * found["sliced, not reduced", "data"][0].std()


def test_a_gaussian_rbm_is_a_mixture_with_a_known_score(found):
    w, a, b, s = (np.array(part) for part in MIXTURE)
    h = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    loc = a + s * (h @ w.T)
    log_mass = h @ b + np.sum((loc**2 - a**2) / (2 * s**2), -1)
    log_p = log_mass - 0.5 * np.sum(((X[:, None] - loc) / s) ** 2, -1)
    post = np.exp(log_p - np.logaddexp.reduce(log_p, 1)[:, None])
    mean = post @ loc
    score = (mean - X) / s**2
    laplacian = np.sum(-1 / s**2 + (post @ loc**2 - mean**2) / s**4, -1)
    want = laplacian + 0.5 * np.sum(score**2, -1)
    np.testing.assert_allclose(found["mixture", ""].per_example, want, rtol=1e-10)


RB = RBM.random(KEY, 3, 2)
ERRORS = {
    "values with an edge": (
        lambda: ScoreMatching(Energy(lambda x: x.sum(-1), 2, support=lx.supports.positive)),
        TypeError,
        r"a density of all real values wanted.* as jnp.log\(x\) does",
    ),
    "noise without end": (
        lambda: ScoreMatching(gaussian(), "denoising", noise_scale=np.inf),
        ValueError,
        "noise_scale is positive, got inf",
    ),
    "bits": (lambda: ScoreMatching(RB), TypeError, r"write lx.energy.RatioMatching\(model\)"),
    "method": (
        lambda: ScoreMatching(gaussian(), "best"),
        ValueError,
        'method is "implicit", "sliced" or "denoising", got \'best\'',
    ),
    "no noise": (
        lambda: ScoreMatching(gaussian(), "denoising"),
        ValueError,
        'write method="denoising", noise_scale=0.1',
    ),
    "noise for nothing": (
        lambda: ScoreMatching(gaussian(), "sliced", noise_scale=0.1),
        ValueError,
        "got method='sliced', noise_scale=0.1",
    ),
    "noise of 0": (
        lambda: ScoreMatching(gaussian(), "denoising", noise_scale=0.0),
        ValueError,
        "noise_scale is positive, got 0.0",
    ),
    "probes": (
        lambda: ScoreMatching(gaussian(), num_probes=0),
        ValueError,
        "num_probes is a whole number >= 1, got 0",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_to_write(name):
    call, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()
