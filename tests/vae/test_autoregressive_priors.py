"""Priors whose latents depend on one another: a flow of real ones, a sequence model of codes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

import likelax as lx
from likelax.bijectors import AffineTransformer, Conditioner, MaskedAutoregressive
from likelax.testing import LinearGaussian
from likelax.testing.linear_gaussian import example_model
from likelax.testing.subject import quick_jit

KEY = jax.random.key(5)

# Real latents z = m + L u with u standard Normal, by an affine autoregressive flow.

LOC, LOWER = np.array([0.4, -0.9]), np.array([[1.4, 0.0], [-1.1, 0.5]])
# y_i - m_i = sum_{j<i} A_ij (y_j - m_j) + L_ii u_i.
FEEDBACK = np.eye(2) - np.diag(np.diag(LOWER)) @ np.linalg.inv(LOWER)


def linear(params, y):
    shift = LOC + (y - LOC) @ params["feedback"].T
    raw = 5 * jnp.arctanh(params["log_scale"] / 5)  # undone by the transformer
    return jnp.stack([shift, jnp.broadcast_to(raw, shift.shape)], -1).reshape(len(y), -1)


def correlated(feedback):
    def make(key):
        params = {"feedback": jnp.asarray(feedback), "log_scale": np.log(np.diag(LOWER))}
        return MaskedAutoregressive(Conditioner(linear, params), AffineTransformer())

    return lx.flows.FlowHead(make, 2)


def bounds_of(feedback, x):
    """The ELBO at the exact posterior under the right prior, `(batch,)`, and draws of that prior."""
    model = example_model()
    # In u the model is a standard one; its posterior is carried over to z.
    inner = LinearGaussian(
        model.weights @ LOWER, model.mean + model.weights @ LOC, scale=model.scale
    )
    params, posterior = model.params(), inner.posterior(x[:1])
    gain = LOWER @ np.linalg.inv(
        LOWER.T @ model.weights.T @ model.weights @ LOWER + 0.36 * np.eye(2)
    )
    gain = gain @ (model.weights @ LOWER).T
    bias = LOC - gain @ inner.mean
    q = lx.Head(lx.MultivariateNormal, 2, scale_tril=lx.learned(LOWER @ posterior.scale_tril[0]))
    params["encoder"] = {
        "net": {"kernel": jnp.asarray(gain.T), "bias": jnp.asarray(bias)},
        "head": q.init(KEY, jnp.zeros(q.size)),
    }
    prior = correlated(feedback)
    nothing = jnp.zeros(0)
    params["prior"] = {"raw": nothing, "head": prior.init(KEY, nothing)}
    bound = lx.vae.ELBO(model.decoder, model.encoder, prior, kl="monte_carlo")

    @quick_jit
    def ask(params):
        draws = bound.prior_at(params).sample(KEY, (2000,))
        return bound(params, KEY, lx.Batch(x))[1].per_example, draws

    return map(np.asarray, ask(params))


def test_a_flow_as_prior_is_exact_at_the_posterior():
    model = example_model()
    x = np.random.default_rng(1).normal([0.5, -1.0, 2.0], size=(4, 3))
    covariance = LOWER @ LOWER.T
    marginal = model.weights @ covariance @ model.weights.T + model.scale**2 * np.eye(3)
    log_p = scipy.stats.multivariate_normal(model.mean + model.weights @ LOC, marginal).logpdf(x)
    with jax.enable_x64(True):
        nll, draws = bounds_of(FEEDBACK, x)
        np.testing.assert_allclose(nll, -log_p, rtol=1e-10)
        error = np.sqrt(np.diag(covariance) / len(draws))
        assert np.all(np.abs(draws.mean(0) - LOC) < 4 * error)
        # Of a product of two Normals: (1 + r^2) v w / n.
        spread = np.sqrt((covariance[0, 1] ** 2 + np.prod(np.diag(covariance))) / len(draws))
        assert abs(np.cov(draws.T)[0, 1] - covariance[0, 1]) < 4 * spread
        # The control: latents that are independent.
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            np.testing.assert_allclose(next(bounds_of(0 * FEEDBACK, x)), -log_p, rtol=1e-10)


# Codes, two of them from three.

M, D = 3, 4
X = np.random.default_rng(2).integers(0, 2, (24, D))


def table(key, previous):
    return jnp.zeros((2, M + 1, M))


def look_up(params, previous):
    return params[jnp.arange(previous.shape[1]), previous]


def affine(inputs, shape):
    def init(key, x):
        return jax.random.normal(key, (inputs, int(np.prod(shape))))

    return init, lambda w, x: (x.reshape(len(x), -1) @ w).reshape(len(x), *shape)


CODED = lx.vae.VQVAE(
    lx.Conditional(affine(4, (D,)), lx.Head(lx.Bernoulli, D)),
    affine(D, (2, 2)),
    num_codes=M,
    features=2,
)


def test_codes_get_a_prior_and_are_drawn_and_decoded():
    batch = lx.Batch(X)
    params, _ = quick_jit(CODED.init)(KEY, batch)
    codes = np.asarray(quick_jit(CODED.codes)(params, X))
    prior = lx.sequence.Autoregressive(
        (table, look_up), lx.Head(lx.Categorical, num_categories=M), start=M
    )
    uniform, _ = prior.init(KEY, lx.Batch(codes))
    fitted = lx.train.fit(prior, optax.adam(0.3), lx.Batch(codes), steps=200, key=KEY).params
    drawn = prior.sample(fitted, KEY, (500,), length=2)
    every = np.array(list(itertools.product(range(M), repeat=2)))

    @quick_jit
    def ask(params, fitted):
        image = CODED.decode(params, drawn).sample(KEY)
        own = CODED(params, KEY, batch, train=False)[1].per_example
        paid = [CODED.reconstruct(params, X).log_prob(X)]
        paid += [prior.log_prob(p, lx.Batch(codes)) for p in (uniform, fitted)]
        likelihood = CODED.decode(params, every).log_prob(X[:, None])
        return image, own, paid, likelihood, prior.log_prob(fitted, lx.Batch(every))

    image, own, paid, likelihood, log_prior = jax.tree.map(np.asarray, ask(params, fitted))
    assert image.shape == (500, D)
    # Trained, the prior has the codes' own frequencies, and so have its draws.
    _, counts = np.unique(codes, axis=0, return_counts=True)
    share = counts / len(codes)
    np.testing.assert_allclose(-paid[2].mean(), -np.sum(share * np.log(share)), atol=0.02)
    p = np.exp(log_prior)
    found = (np.asarray(drawn)[:, None] == every).all(-1).mean(0)
    common = 500 * p > 10  # counts near enough to Normal for an error bar
    error = np.sqrt(p * (1 - p) / 500)
    assert common.sum() > 3 and np.all(np.abs(found - p)[common] < 4 * error[common])
    # In place of the uniform prior's price: the bound is one of the model with this prior.
    np.testing.assert_allclose(own, -(paid[0] + paid[1]), rtol=1e-5)
    nll = -np.logaddexp.reduce(likelihood + log_prior, axis=1)
    bound = -(paid[0] + paid[2])
    assert np.all(bound >= nll - 1e-5) and bound.mean() < own.mean()
    assert np.any(-paid[0] < nll)  # the control: codes that cost nothing
