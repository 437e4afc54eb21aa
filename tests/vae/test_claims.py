"""What a bound says of itself where its parts are not exact, and weights at their extremes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import likelax as lx
from likelax.testing.subject import quick_jit
from likelax.vae.importance import leave_one_out, log_power_mean
from likelax.vae.quantized import _squares, nearest

KEY = jax.random.key(5)
D, L, B = 3, 2, 4
X = (np.random.default_rng(2).random((B, D)) > 0.4).astype(np.int32)
BATCH = lx.Batch(X)


def conditional(rows, head):
    def init(key, *parts):
        return 0.5 * jax.random.normal(key, (rows, head.size))

    return lx.Conditional((init, lambda params, *parts: jnp.concatenate(parts, -1) @ params), head)


DECODER = conditional(L, lx.Head(lx.Bernoulli, D))
ENCODER = conditional(D, lx.Head(lx.Normal, L))
PRIOR = lx.Normal(jnp.zeros(L), 1.0).to_event()
BITS = lx.Bernoulli(logits=jnp.array([0.3, -0.7])).to_event()
OF_BITS = conditional(D, lx.Head(lx.Bernoulli, L))


def says(head, relation, vanishes=None, unbiased=True):
    """The head with a claim of its own."""
    head.claim = lx.Claim(relation, unbiased, vanishes=vanishes)
    return head


def claim(model, **options):
    """Of what a trace alone can say; that of the object must agree with it in all but the data."""
    found = []

    def ask(key):
        params, state = model.init(key, BATCH)
        found.append(model(params, key, BATCH, state=state, **options)[1].claim)

    jax.eval_shape(ask, KEY)
    return found[0]


ELBO = functools.partial(lx.vae.ELBO, DECODER, ENCODER)
IWAE = functools.partial(lx.vae.IWAE, DECODER, ENCODER, num_particles=3)
RENYI = functools.partial(lx.vae.RenyiBound, DECODER, ENCODER, num_particles=3)


@pytest.mark.parametrize("kind", ["learned", "given"])
def test_the_claim_of_a_prior_is_added(kind):
    def prior(*said):
        if kind == "learned":
            return says(lx.Head(lx.Normal, L), *said)
        return (PRIOR, conditional(L, says(lx.Head(lx.Normal, L), *said)))

    def bound(cls, *said, **options):
        if kind == "learned":
            return cls(prior=prior(*said), **options)
        encoder = (ENCODER, conditional(D + L, lx.Head(lx.Normal, L)))
        decoder = conditional(2 * L, lx.Head(lx.Bernoulli, D))
        return cls.func(decoder, encoder, prior(*said), **(cls.keywords | options))

    # An upper bound stays one where the prior's own is; an estimate of the rest is none.
    wanted = {"exact": "upper", "upper": "upper", "estimate": "none", "lower": "none"}
    for said, want in wanted.items():
        for model in (bound(ELBO, said), bound(RENYI, said, alpha=1.0)):
            assert claim(model).relation == model.claim.relation == want
        for model in (bound(IWAE, said), bound(RENYI, said, alpha=0.5)):
            got = "upper" if said == "exact" else "none"
            assert claim(model).relation == model.claim.relation == got
    assert claim(bound(ELBO, "exact", "ode tolerance")).vanishes == "ode tolerance"
    assert claim(bound(IWAE, "exact", "x")).vanishes == "num_particles and x"
    assert not claim(bound(ELBO, "exact", None, False)).unbiased
    assert claim(bound(ELBO, "exact")) == lx.Claim("upper", True, lx.Measure("counting", D))


def test_the_claim_of_an_enumerated_model_and_of_decoders():
    few = lx.Head(lx.Bernoulli, L)
    assert claim(lx.vae.Enumerated(DECODER, few)).relation == "exact"
    assert claim(lx.vae.Enumerated(DECODER, says(few, "upper"))).relation == "none"
    slow = conditional(L, says(lx.Head(lx.Bernoulli, D), "exact", "ode tolerance"))
    assert claim(lx.vae.ELBO(slow, ENCODER, PRIOR)).vanishes == "ode tolerance"
    assert claim(lx.vae.Enumerated(slow, BITS)).vanishes == "ode tolerance"


def test_samples_without_a_gradient_are_said_to_be_biased():
    relaxed = lx.vae.GumbelSoftmax(DECODER, OF_BITS, BITS)
    assert claim(relaxed, train=False) == lx.Claim("upper", False, lx.Measure("counting", D))
    many = lx.vae.IWAE(DECODER, OF_BITS, BITS, num_particles=10_000, estimator="vimco")
    assert not claim(many, train=False).unbiased  # in blocks, which have no score function
    assert claim(many).unbiased
    assert claim(IWAE(PRIOR, num_particles=10_000), train=False).unbiased


def test_angles_have_a_gradient_for_periodic_networks_only():
    head = lx.Head(lx.VonMises, L)
    model = lx.vae.ELBO(DECODER, conditional(D, head), head, kl="monte_carlo")
    assert not claim(model).unbiased

    # What is missing: d E[x] / d loc is 1 less the density at the cut times the height of the jump.
    @quick_jit
    def slopes(loc):
        draw = lambda f: jax.grad(  # noqa: E731
            lambda loc: jnp.mean(f(lx.VonMises(loc, 1.5).sample(KEY, (4000,))))
        )
        return draw(lambda x: x)(loc), draw(jnp.sin)(loc)

    plain, periodic = slopes(2.0)
    cut = scipy.stats.vonmises(1.5, loc=2.0).pdf(np.pi)
    np.testing.assert_allclose(plain, 1, rtol=1e-5)
    assert 2 * np.pi * cut > 1
    want = scipy.special.iv(1, 1.5) / scipy.special.iv(0, 1.5) * np.cos(2.0)
    np.testing.assert_allclose(periodic, want, atol=4 * 0.7 / np.sqrt(4000))


def test_a_learned_prior_that_draws_is_given_a_key():
    class Draws(lx.Head):
        takes_key = True

        def __call__(self, raw, params=None, *, key=None):
            assert key is not None, "no key"
            return super().__call__(raw, params)

    assert claim(ELBO(Draws(lx.Normal, L))).relation == "upper"
    # The control: where no key is at hand, none is made up.
    model = ELBO(Draws(lx.Normal, L))
    with pytest.raises(AssertionError, match="no key"):
        jax.eval_shape(lambda key: model.prior_at(model.init(key, BATCH).params).loc, KEY)


# Weights.


def test_a_weight_of_zero_has_a_baseline():
    log_w = np.array([[0.3, -1.0], [-np.inf, 0.5], [1.2, 0.1]])
    want = np.empty_like(log_w)
    for k in range(3):
        others = np.delete(log_w, k, axis=0)
        want[k] = np.logaddexp.reduce([*others, others.mean(0)], axis=0) - np.log(3)
    np.testing.assert_allclose(leave_one_out(jnp.asarray(log_w)), want, rtol=1e-6)
    # The control: a sum less its own entry is no number.
    with np.errstate(invalid="ignore"):
        assert np.isnan(log_w.sum(0) - log_w)[1, 0]

    # Latents of which some cannot have made x: the value is the bound, and gradients are finite.
    net = lambda params, z: jnp.stack([params * z[:, 0], jnp.log(z[:, 1])], -1)  # noqa: E731
    decoder = lx.Conditional((lambda key, z: jnp.ones(()), net), lx.Head(lx.Bernoulli, 2))
    encoder = conditional(2, lx.Head(lx.Bernoulli, L))
    model = lx.vae.IWAE(decoder, encoder, BITS, num_particles=2, estimator="vimco")
    rows = lx.Batch(np.ones((64, 2), np.int32))

    @quick_jit
    def ask(params):
        return jax.grad(model, has_aux=True)(params, KEY, rows)

    params = {
        "decoder": {"net": jnp.ones(()), "head": {}},
        "encoder": {"net": jnp.zeros((2, L)), "head": {}},
        "prior": {},
    }
    grads, aux = ask(params)
    lost = np.isinf(aux.per_example)
    assert 4 < lost.sum() < 32 and not np.isnan(aux.per_example).any()
    assert np.isfinite(grads["encoder"]["net"]).all()


def test_a_power_mean_near_the_mean_of_logarithms():
    log_w = np.random.default_rng(0).normal(-90, 2, size=(6, 5)).astype(np.float32)
    wide = log_w.astype(np.longdouble)

    def truth(s):
        top = wide.max(0)
        return top + np.log1p(np.expm1(s * (wide - top)).mean(0)) / s

    powers = (1e-6, -1e-5, 1e-3, -0.05, 0.3, -2.0)

    @quick_jit
    def ask(x):
        total = lambda x, s: jnp.sum(log_power_mean(x, 1 - s))  # noqa: E731
        return [(log_power_mean(x, 1 - s), jax.grad(total)(x, s)) for s in powers]

    for s, (got, slope) in zip(powers, ask(log_w), strict=True):
        np.testing.assert_allclose(got, truth(1 - (1 - s)).astype(float), rtol=3e-7)
        share = scipy.special.softmax(s * wide, axis=0).astype(float)
        np.testing.assert_allclose(slope, share, rtol=2e-4, atol=1e-6)
    # The control: what rounds off the sum is divided by s.
    small = np.float32(1e-5)
    plain = (np.log(np.exp(small * log_w).sum(0)) - np.float32(math.log(6))) / small
    assert np.abs(plain - truth(1e-5)).max() > 1e-3
    impossible = jnp.asarray(log_w).at[0].set(-jnp.inf)
    assert np.all(log_power_mean(impossible, 1 + 1e-3) == -np.inf)
    assert np.all(np.isfinite(log_power_mean(impossible, 0.5)))


# Codebooks.


def test_what_is_scored_is_the_code():
    net = lambda params, x: 1e4 * x  # noqa: E731
    model = lx.vae.VQVAE(DECODER, (lambda key, x: {}, net), num_codes=2, features=L)
    codebook = jnp.array([[0.1, 0.7], [-0.3, 0.2]])
    x = jnp.array([[1.0, 0.0], [-1.0, 1.0], [2.0, 1.0]])
    target = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 0]], np.int32)
    batch = lx.Batch(target, input=x)
    seen = lambda params, target, x: net(params, x)  # noqa: E731
    model = lx.vae.VQVAE(
        lx.Conditional(
            (lambda key, z, x: {}, lambda _, z, x: z @ jnp.full((L, D), 40.0)),
            lx.Head(lx.Bernoulli, D),
        ),
        (lambda key, target, x: {}, seen),
        num_codes=2,
        features=L,
    )
    params = {"decoder": {"net": {}, "head": {}}, "encoder": {}, "codebook": codebook}

    @quick_jit
    def ask(params):
        aux = model(params, KEY, batch, train=False)[1]
        return aux.per_example, model.reconstruct(params, target, input=x).log_prob(target)

    scored, exact = ask(params)
    np.testing.assert_allclose(scored, -exact + math.log(2), rtol=1e-6)
    # The control: found + (code - found) is off by the float next to what was found.
    found = 1e4 * x
    code = nearest(codebook, found)[1]
    assert np.abs(found + (code - found) - code).max() > 1e-4


def test_codes_in_half_precision_are_compared_in_single():
    x = jnp.full((1, 300), 1.01, jnp.bfloat16)
    assert _squares(x).dtype == jnp.float32
    np.testing.assert_allclose(_squares(x), 300 * np.float32(x[0, 0]) ** 2, rtol=1e-6)
    codebook = jnp.stack([x[0] + 0.01, x[0] + 0.03]).astype(jnp.bfloat16)
    index, code = nearest(codebook, x)
    assert index == 0 and code.dtype == jnp.bfloat16


# Bad input.


def test_debug_checks_name_targets():
    states = lx.vae.Enumerated(DECODER, BITS)
    seen = np.ones((B, D), bool)
    seen[1, 2] = False
    wrong = X.copy()
    wrong[1] = 7
    holes = np.where(seen, X, np.nan)
    spoilt = np.where(seen, wrong, np.nan)
    asked = ((lx.Batch(wrong), states), (lx.Batch(spoilt, mask=seen), ELBO(PRIOR)))
    with lx.debug_checks():
        for batch, model in asked:
            params = quick_jit(model.init)(KEY, BATCH).params
            with pytest.raises(ValueError, match=r"at index \(1,?\) the target is .*outside"):
                model(params, KEY, batch)
        # The control: what is not seen may be NaN.
        model(params, KEY, lx.Batch(holes, mask=seen))


CODED = lx.vae.VQVAE(DECODER, (lambda k, x: {}, lambda p, x: x[:, :L]), num_codes=2, features=L)
BAD = {
    "a model without an encoder": (
        lambda: lx.vae.marginal_log_prob(
            lx.vae.Enumerated(DECODER, BITS), {}, KEY, BATCH, num_particles=5
        ),
        "marginal_log_prob: a model with an encoder wanted, .* got Enumerated",
    ),
    "codes": (lambda: lx.vae.latent_usage(CODED, {}, KEY, BATCH), "latent_usage: .* got VQVAE"),
    "no component": (lambda: lx.vae.VampPrior(0), "a whole number, at least 1, got 0"),
    "inputs of samples": (
        lambda: lx.vae.Enumerated(DECODER, BITS).sample({}, KEY, (7,), input=np.ones((5, 2))),
        r"Enumerated.sample: 7 samples want an input of shape \(7, ...\), got \(5, 2\)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    function, message = BAD[name]
    with pytest.raises((ValueError, TypeError), match=message):
        function()
