"""The bounds against probabilistic PCA, where everything is known, and their gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

import likelax as lx
from likelax.testing import LinearGaussian, check_evidence_bound, encoder_gradient_at_posterior
from likelax.testing.linear_gaussian import example_model
from likelax.testing.subject import quick_jit

KEY = jax.random.key(7)
MODEL = example_model()
SHIFT, STRETCH = jnp.array([0.3, -0.2]), 1.3


# The closed form itself, by SciPy.


def scipy_log_prob(model, x):
    w, sigma = np.array(model.weights), model.scale
    cov = w @ w.T + sigma**2 * np.eye(len(w))
    return scipy.stats.multivariate_normal(np.array(model.mean), cov).logpdf(x)


def test_the_ground_truth_is_right():
    with jax.enable_x64(True):
        model = example_model()
        w, mu, sigma = np.array(model.weights), np.array(model.mean), model.scale
        x = np.array([[0.1, -0.5, 1.0], [2.0, -2.0, 0.3]])
        want = scipy_log_prob(model, x)
        np.testing.assert_allclose(model.log_prob(x), want, rtol=1e-10)
        # log p(x) = log p(x | z) + log p(z) - log p(z | x), at any z.
        z = np.array([0.4, -1.1])
        joint = scipy.stats.norm(w @ z + mu, sigma).logpdf(x).sum(-1)
        joint += scipy.stats.norm.logpdf(z).sum()
        np.testing.assert_allclose(joint - model.posterior(x).log_prob(z), want, rtol=1e-10)


def elbo(decoder, encoder, prior, cls=lx.vae.ELBO, **options):
    return cls(decoder, encoder, prior, **options)


MONTE_CARLO = functools.partial(elbo, kl="monte_carlo")
BOUNDS = {
    "elbo": (elbo, "kl"),
    "elbo by samples": (MONTE_CARLO, "kl"),
    "iwae 1": (functools.partial(elbo, cls=lx.vae.IWAE, num_particles=1), "kl"),
    "iwae 3": (functools.partial(elbo, cls=lx.vae.IWAE, num_particles=3), "bound"),
    "renyi": (functools.partial(elbo, cls=lx.vae.RenyiBound, alpha=0.4, num_particles=2), "bound"),
    "renyi 1": (
        functools.partial(elbo, cls=lx.vae.RenyiBound, alpha=1.0, num_particles=2),
        "kl",
    ),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_a_bound_is_one(name):
    make, gap = BOUNDS[name]
    check_evidence_bound(make, key=KEY, gap=gap)


class HalfKL(lx.vae.ELBO):
    """Without a 1/2 that belongs there."""

    def _divergences(self, inference, joint):
        return [2 * part for part in super()._divergences(inference, joint)]


class MeanOfPixels(lx.vae.ELBO):
    """The reconstruction as a mean over the event."""

    def _join(self, *args, **kwargs):
        joint = super()._join(*args, **kwargs)
        return joint._replace(log_likelihood=joint.log_likelihood / 3)


class NoLogK(lx.vae.IWAE):
    """Without log K."""

    def score(self, params, key, batch, **options):
        scores = super().score(params, key, batch, **options)
        return scores._replace(per_example=scores.per_example - np.log(self.num_particles))


BROKEN = {
    "half": (functools.partial(elbo, cls=HalfKL), "kl"),
    "mean": (functools.partial(elbo, cls=MeanOfPixels), "kl"),
    "log K": (functools.partial(elbo, cls=NoLogK, num_particles=3), "bound"),
    "too tight for an ELBO": (functools.partial(elbo, cls=lx.vae.IWAE, num_particles=5), "kl"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_bound_is_found(name):
    make, gap = BROKEN[name]
    with pytest.raises(AssertionError, match="nats on average"):
        check_evidence_bound(make, key=KEY, gap=gap)


VALUES = np.random.default_rng(1).normal([0.5, -1.0, 2.0], size=(4, 3))


@pytest.mark.parametrize("name", ["elbo by samples", "iwae 3", "renyi"])
def test_at_the_exact_posterior_every_draw_is_log_p(name):
    with jax.enable_x64(True):
        model = example_model()
        decoder, encoder, prior = model.decoder, model.encoder, model.prior
        objective = quick_jit(BOUNDS[name][0](decoder, encoder, prior))
        aux = objective(model.params(), KEY, lx.Batch(VALUES))[1]
        np.testing.assert_allclose(aux.per_example, -scipy_log_prob(model, VALUES), rtol=1e-10)
        assert aux.claim.measure == lx.Measure("lebesgue", 3)


def test_the_analytic_kl_is_exact_and_the_rest_linear_in_it():
    with jax.enable_x64(True):
        model = example_model()
        decoder, encoder, prior = model.decoder, model.encoder, model.prior
        batch = lx.Batch(VALUES)

        @quick_jit
        def ask(params):
            beta = elbo(decoder, encoder, prior, beta=3.0)
            return (
                encoder.apply(params["encoder"], VALUES)[0],
                elbo(decoder, encoder, prior)(params, KEY, batch),
                [beta(params, KEY, batch, train=train)[0] for train in (True, False)],
            )

        params = model.params(shift=SHIFT, stretch=STRETCH)
        q, (loss, aux), (dear, scored) = ask(params)
        loc, factor = np.array(q.loc), np.array(q.scale_tril)[0]
        cov = factor @ factor.T
        want = 0.5 * (np.trace(cov) + (loc**2).sum(-1) - 2 - np.linalg.slogdet(cov)[1])
        np.testing.assert_allclose(aux.terms["kl"], want.mean(), rtol=1e-10)
        np.testing.assert_allclose(dear - loss, 2 * want.mean(), rtol=1e-10)
        np.testing.assert_allclose(scored, loss, rtol=1e-12)


# Expected values by quadrature, in one dimension.


def test_iwae_against_quadrature():
    model = LinearGaussian([[0.9], [-0.5]], [0.2, 0.1], 0.7)
    shift, stretch, x = 0.5, 1.4, jnp.array([[1.0, -0.3]])
    decoder, encoder, prior = model.decoder, model.encoder, model.prior
    params = model.params(shift=shift, stretch=stretch)
    exact = model.posterior(x)
    loc = float(exact.loc[0, 0]) + shift
    scale = float(exact.scale_tril[..., 0, 0].squeeze()) * stretch
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    z = loc + scale * nodes
    mu = np.array(model.weights)[:, 0] * z[:, None] + np.array(model.mean)
    log_w = scipy.stats.norm(mu, model.scale).logpdf(np.array(x[0])).sum(-1)
    log_w += scipy.stats.norm.logpdf(z) - scipy.stats.norm(loc, scale).logpdf(z)
    pairs = np.logaddexp(log_w[:, None], log_w[None]) - np.log(2)
    want = {
        "iwae": -(weights @ pairs @ weights),
        "renyi": -(
            weights
            @ (2 * np.logaddexp(0.5 * log_w[:, None], 0.5 * log_w[None]) - 2 * np.log(2))
            @ weights
        ),
    }
    makes = {
        "iwae": lx.vae.IWAE(decoder, encoder, prior, num_particles=2),
        "renyi": lx.vae.RenyiBound(decoder, encoder, prior, alpha=0.5, num_particles=2),
    }
    assert want["iwae"] > -float(model.log_prob(x)[0]) + 0.01  # a gap that is worth measuring
    for name, objective in makes.items():
        rows = lx.Batch(np.repeat(np.asarray(x), 40_000, axis=0))
        aux = quick_jit(objective)(params, KEY, rows)[1]
        each = np.asarray(aux.per_example, np.float64)
        error = each.std() / np.sqrt(each.size)
        assert abs(each.mean() - want[name]) < 4 * error < 0.02


# Gradients.


@functools.cache
def gradients(estimator, count=3000, layered=False):
    """The gradient of each of `count` draws, flattened: a dict of `(count, size)`."""
    if layered:
        model, params, batch = two_layers(estimator)
    else:
        decoder, encoder, prior = MODEL.decoder, MODEL.encoder, MODEL.prior
        params = MODEL.params(shift=SHIFT, stretch=STRETCH)
        model = lx.vae.IWAE(decoder, encoder, prior, num_particles=3, estimator=estimator)
        batch = lx.Batch(jnp.array([[0.1, -0.5, 1.0]]))
    grad = jax.grad(lambda params, key: model(params, key, batch)[0])
    grads = quick_jit(jax.vmap(grad, (None, 0)))(params, jax.random.split(KEY, count))
    flat = jax.tree.map(lambda g: np.asarray(g, np.float64).reshape(count, -1), grads)
    return {
        part: np.concatenate(jax.tree.leaves(flat[part]), axis=1) for part in ("decoder", "encoder")
    }


def two_layers(estimator):
    """x of z_2 of z_1, the encoder of z_2 looking at z_1."""

    def net(rows, out):
        def init(key, *parts):
            return {"w": 0.5 * jax.random.normal(key, (rows, out))}

        return init, lambda params, *parts: jnp.tanh(jnp.concatenate(parts, -1)) @ params["w"]

    normal = lx.Head(lx.Normal, 1)
    decoder = lx.Conditional(net(2, 2), lx.Head(lx.Normal, 2, scale=0.5))
    encoder = (lx.Conditional(net(2, 2), normal), lx.Conditional(net(3, 2), normal))
    prior = (lx.Normal(jnp.zeros(1), 1.0).to_event(), lx.Conditional(net(1, 2), normal))
    model = lx.vae.IWAE(decoder, encoder, prior, num_particles=3, estimator=estimator)
    batch = lx.Batch(jnp.array([[0.8, -0.6]]))
    return model, quick_jit(model.init)(jax.random.key(3), batch).params, batch


def deviation(a, b):
    """The largest difference of means, in standard errors of the difference."""
    difference = a - b
    error = difference.std(0) / np.sqrt(len(a))
    return np.max(np.abs(difference.mean(0)) / np.where(error == 0, 1, error))


@pytest.mark.parametrize("layered", [False, True])
def test_dreg_is_unbiased_in_decoder_and_encoder(layered):
    standard, dreg = (gradients(e, layered=layered) for e in ("standard", "dreg"))
    assert deviation(standard["decoder"], dreg["decoder"]) < 4.5
    assert deviation(standard["encoder"], dreg["encoder"]) < 4.5
    if not layered:
        # The control: STL, whose weights are not squared, is biased for more than one particle.
        assert deviation(standard["encoder"], gradients("stl")["encoder"]) > 6


def test_the_decoder_has_the_plain_gradient():
    for estimator in ("stl", "dreg"):
        np.testing.assert_allclose(
            gradients(estimator)["decoder"], gradients("standard")["decoder"], rtol=1e-3, atol=1e-4
        )


def test_vimco_is_unbiased_for_any_latents():
    standard, vimco = gradients("standard"), gradients("vimco")
    assert deviation(standard["encoder"], vimco["encoder"]) < 4.5
    assert deviation(standard["decoder"], vimco["decoder"]) < 4.5


def iwae(decoder, encoder, prior, **options):
    return lx.vae.IWAE(decoder, encoder, prior, **options)


def test_gradients_at_the_exact_posterior():
    sizes = {
        estimator: encoder_gradient_at_posterior(
            functools.partial(iwae, num_particles=4, estimator=estimator), key=KEY
        )
        for estimator in ("standard", "stl", "dreg")
    }
    assert sizes["stl"] < 2e-4 and sizes["dreg"] < 2e-4
    assert sizes["standard"] > 0.05  # the control


def test_claims_of_the_estimators():
    decoder, encoder, prior = MODEL.decoder, MODEL.encoder, MODEL.prior
    params = MODEL.params()
    batch = lx.Batch(jnp.zeros((2, 3)))

    def claim(cls, **options):
        objective = cls(decoder, encoder, prior, **options)
        found = []  # a trace is enough
        jax.eval_shape(lambda p: found.append(objective(p, KEY, batch)[1].claim), params)
        return found[0]

    measure = lx.Measure("lebesgue", 3)
    closing = functools.partial(claim, lx.vae.IWAE)
    upper = lx.Claim("upper", True, measure, "num_particles")
    assert closing(num_particles=3) == closing(num_particles=3, estimator="dreg") == upper
    assert not closing(num_particles=3, estimator="stl").unbiased
    assert closing(num_particles=1, estimator="stl").unbiased
    assert claim(lx.vae.ELBO, beta=2.0) == claim(lx.vae.ELBO) == lx.Claim("upper", True, measure)
    assert claim(lx.vae.ELBO, beta=0.5).relation == "none"
    assert claim(lx.vae.RenyiBound, alpha=0.5, num_particles=2).relation == "upper"
    assert claim(lx.vae.RenyiBound, alpha=2.0, num_particles=2).relation == "upper"
    assert claim(lx.vae.RenyiBound, alpha=-1.0, num_particles=2).relation == "none"


# The marginal likelihood.


def test_the_marginal_likelihood_and_its_error():
    decoder, encoder, prior = MODEL.decoder, MODEL.encoder, MODEL.prior
    params = MODEL.params(shift=SHIFT, stretch=STRETCH)
    model = lx.vae.ELBO(decoder, encoder, prior)
    x = MODEL.sample(jax.random.key(1), 1)
    rows = lx.Batch(jnp.repeat(x, 400, axis=0))
    found = lx.vae.marginal_log_prob(model, params, KEY, rows, num_particles=250)
    truth = float(MODEL.log_prob(x)[0])
    spread = float(jnp.std(found.log_prob))
    slack = 4 * spread / 20 + spread**2
    assert abs(float(jnp.mean(found.log_prob)) - truth) < slack
    # A mean of log w, and log K left out, would be found.
    gap = float(MODEL.gap(x, shift=SHIFT, stretch=STRETCH)[0])
    assert min(gap, np.log(250)) > 2 * slack
    # The error bar is as wide as the estimates are spread, and shrinks as K^(-1/2).
    np.testing.assert_allclose(float(jnp.mean(found.standard_error)), spread, rtol=0.15)
    more = lx.vae.marginal_log_prob(model, params, KEY, rows, num_particles=1000)
    ratio = jnp.mean(more.standard_error) / jnp.mean(found.standard_error)
    np.testing.assert_allclose(float(ratio), 0.5, rtol=0.05)
    assert np.all((found.effective_particles > 1) & (found.effective_particles <= 250))


def test_blocks_make_no_difference(monkeypatch):
    from likelax.vae import marginal

    decoder, encoder, prior = MODEL.decoder, MODEL.encoder, MODEL.prior
    params = MODEL.params()
    x = MODEL.sample(jax.random.key(1), 3)
    monkeypatch.setattr(marginal, "_ROWS", 12)  # four particles at a time, the last block short
    model = lx.vae.IWAE(decoder, encoder, prior, num_particles=10)
    loss, aux = quick_jit(functools.partial(model, train=False))(params, KEY, lx.Batch(x))
    np.testing.assert_allclose(aux.per_example, -MODEL.log_prob(x), rtol=1e-5)
    np.testing.assert_allclose(aux.terms["effective_particles"], 10, rtol=1e-4)
    found = lx.vae.marginal_log_prob(model, params, KEY, lx.Batch(x), num_particles=10)
    np.testing.assert_allclose(found.log_prob, MODEL.log_prob(x), rtol=1e-5)
    np.testing.assert_allclose(
        aux.terms["reconstruction"] + aux.terms["kl"], loss, rtol=1e-5
    )  # at the exact posterior
