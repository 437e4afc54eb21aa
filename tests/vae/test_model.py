"""Networks of all kinds around the bounds: conditional, layered, with missing data; priors; use."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import likelax as lx
from likelax.networks import Arguments, Variables
from likelax.testing.subject import quick_jit
from likelax.vae.model import check_model

KEY = jax.random.key(3)
D, L, B = 4, 2, 6
X = (np.random.default_rng(0).random((B, D)) > 0.5).astype(np.int32)
BATCH = lx.Batch(X)


def affine(rows, out, scale=0.5):
    def init(key, *parts):
        return {"w": scale * jax.random.normal(key, (rows, out)), "b": jnp.zeros(out)}

    return init, lambda params, *parts: jnp.concatenate(parts, -1) @ params["w"] + params["b"]


def conditional(rows, out_head, scale=0.5):
    return lx.Conditional(affine(rows, out_head.size, scale), out_head)


def start(model, batch):
    """Parameters and state, by one compiled program: op by op takes far longer."""
    return quick_jit(model.init)(KEY, batch)


@functools.cache
def asked(model, **options):
    """The objective, compiled once."""
    return quick_jit(functools.partial(model, **options))


@functools.cache
def graded(model):
    """The same with its gradient."""
    return quick_jit(jax.value_and_grad(model, has_aux=True))


def claim_of(model, params, batch):
    """Of what a trace alone can say."""
    found = []
    jax.eval_shape(lambda p: found.append(model(p, KEY, batch)[1].claim), params)
    return found[0]


NORMAL = lx.Head(lx.Normal, L)
DECODER = conditional(L, lx.Head(lx.Bernoulli, D))
ENCODER = conditional(D, NORMAL)
PRIOR = lx.Normal(jnp.zeros(L), 1.0).to_event()
MODEL = lx.vae.ELBO(DECODER, ENCODER, PRIOR)
PARAMS = start(MODEL, BATCH).params


def test_reduction_is_a_sum_over_events_and_a_mean_over_examples():
    free = lx.vae.ELBO(DECODER, ENCODER, PRIOR, free_bits=1.0)
    weight = np.array([1.0, 2.0, 0.0, 1.0, 0.5, 1.0])

    @quick_jit
    def ask(params):
        return (
            MODEL(params, KEY, BATCH)[1],
            MODEL.posterior(params, X).base,
            MODEL(params, KEY, lx.Batch(X, weight=weight))[0],
            [free(params, KEY, BATCH, train=train)[0] for train in (True, False)],
        )

    aux, q, weighted, (free_loss, free_score) = ask(PARAMS)
    loss = aux.loss
    loc, scale = np.asarray(q.loc, float), np.asarray(q.scale, float)
    kl = 0.5 * (scale**2 + loc**2 - 1) - np.log(scale)
    np.testing.assert_allclose(aux.terms["kl"], kl.sum(1).mean(), rtol=1e-5)
    np.testing.assert_allclose(loss, aux.terms["kl"] + aux.terms["reconstruction"], rtol=1e-6)
    np.testing.assert_allclose(loss, np.mean(aux.per_example), rtol=1e-6)
    np.testing.assert_allclose(weighted, np.average(aux.per_example, weights=weight), rtol=1e-5)
    # Free bits: each latent of each example costs no less than that.
    want = np.maximum(kl, 1.0).sum(1).mean() - kl.sum(1).mean()
    assert want > 0.01
    np.testing.assert_allclose(free_loss - loss, want, rtol=1e-4)
    np.testing.assert_allclose(free_score, loss, rtol=1e-6)
    assert claim_of(free, PARAMS, BATCH).relation == "upper"


def test_rows_do_not_depend_on_the_batch():
    model = lx.vae.IWAE(DECODER, ENCODER, PRIOR, num_particles=3)
    rows = X[[0, 1, 0, 0, 2, 3]]
    few, many = (
        np.asarray(asked(model)(PARAMS, KEY, lx.Batch(rows[:n]))[1].per_example) for n in (2, B)
    )
    np.testing.assert_allclose(few, many[:2], rtol=1e-5)
    assert len(np.unique(many[[0, 2, 3]])) == 3  # equal examples have draws of their own


def test_nobody_costs_nothing():
    assert asked(MODEL)(PARAMS, KEY, lx.Batch(X[:0]))[0] == 0


def test_masked_examples_may_be_nan():
    x = X.astype(float)
    x[2] = np.nan
    mask = np.arange(B) != 2
    (_, aux), grads = graded(MODEL)(PARAMS, KEY, lx.Batch(x, mask=mask))
    want = np.where(mask, asked(MODEL)(PARAMS, KEY, BATCH)[1].per_example, 0)
    np.testing.assert_allclose(aux.per_example, want, rtol=1e-5)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_the_kl_is_annealed_by_a_schedule():
    model = lx.vae.ELBO(DECODER, ENCODER, PRIOR, beta=optax.linear_schedule(0.0, 1.0, 4))
    params, state = start(model, BATCH)
    assert int(state["step"]) == 0
    for step in range(3):
        loss, aux = asked(model)(params, KEY, BATCH, state=state)
        want = aux.terms["reconstruction"] + step / 4 * aux.terms["kl"]
        np.testing.assert_allclose(loss, want, rtol=1e-6)
        assert aux.claim.relation == "none"
        state = aux.state
    loss, aux = asked(model, train=False)(params, KEY, BATCH, state=state)
    np.testing.assert_allclose(loss, aux.terms["reconstruction"] + aux.terms["kl"], rtol=1e-6)
    assert aux.claim.relation == "upper" and int(aux.state["step"]) == 3
    result = lx.train.fit(model, optax.adam(0.01), BATCH, steps=3, key=KEY)
    assert int(result.state["step"]) == 3
    with pytest.raises(ValueError, match="pass state=state"):
        model(params, KEY, BATCH)


# Conditional models and hierarchies.


def test_a_conditional_model_gives_its_input_to_all_networks():
    c = np.eye(3)[np.arange(B) % 3]
    decoder = conditional(L + 3, lx.Head(lx.Bernoulli, D))
    encoder, prior = conditional(D + 3, NORMAL), conditional(3, NORMAL)
    batch = lx.Batch(X, input=c)
    elbo = lx.vae.ELBO(decoder, encoder, prior)
    params, state = start(elbo, batch)
    iwae = lx.vae.IWAE(decoder, encoder, prior, num_particles=3, estimator="dreg")

    @quick_jit
    def ask(params):
        q = encoder.apply(params["encoder"], Arguments((X.astype(float), c)))[0]
        p = prior.apply(params["prior"], c)[0]
        grads = jax.grad(iwae, has_aux=True)(params, KEY, batch)[0]
        return elbo(params, KEY, batch), q.kl_divergence(p).mean(), grads

    (loss, aux), kl, grads = ask(params)
    np.testing.assert_allclose(aux.terms["kl"], kl, rtol=1e-5)
    assert all(np.any(g != 0) for g in jax.tree.leaves(grads["prior"]))
    exact = lx.evaluate(
        lx.vae.IWAE(decoder, encoder, prior, num_particles=2000), params, KEY, batch
    )
    assert exact.loss < float(loss)
    for shape, function in {
        (3, D): lambda p: elbo.sample(p, KEY, (3,), input=np.eye(3)),
        (B, D): lambda p: elbo.reconstruct(p, KEY, X, input=c).mean(),
    }.items():
        assert jax.eval_shape(function, params).shape == shape
    with pytest.raises(ValueError, match=r"samples want an input of shape \(2, ...\)"):
        elbo.sample(params, KEY, (2,), input=np.eye(3))


def hierarchy(cls, **options):
    """x of (z_1, z_2), z_2 of z_1; z_1 has 1 number, z_2 has L."""
    decoder = conditional(1 + L, lx.Head(lx.Bernoulli, D))
    encoder = (conditional(D, lx.Head(lx.Normal, 1)), conditional(D + 1, NORMAL))
    prior = (lx.Normal(jnp.zeros(1), 1.0).to_event(), conditional(1, NORMAL))
    return cls(decoder, encoder, prior, **options)


def test_a_hierarchy_is_one_model_of_all_latents():
    model = hierarchy(lx.vae.IWAE, num_particles=1)
    params, _ = start(model, BATCH)
    many = lx.Batch(np.repeat(X[:1], 4000, axis=0))

    @quick_jit
    def ask(params):
        # Its log weights, from the latents that were drawn.
        z1, z2 = model.encode(params, KEY, X)
        (q1, q2), (p1, p2) = model._encoders, model.prior
        x = X.astype(float)
        want = p1.log_prob(z1) - q1.apply(params["encoder"][0], x)[0].log_prob(z1)
        want += p2.apply(params["prior"][1], z1)[0].log_prob(z2)
        want -= q2.apply(params["encoder"][1], Arguments((x, z1)))[0].log_prob(z2)
        want += model.decode(params, z1, z2).log_prob(X)
        bounds = [
            hierarchy(lx.vae.ELBO, **options)(params, KEY, many)[1].per_example
            for options in ({"num_particles": 2}, {"kl": "monte_carlo"})
        ]
        return model(params, KEY, BATCH)[1].per_example, -want, bounds

    got, want, (analytic, sampled) = jax.tree.map(np.asarray, ask(params))
    np.testing.assert_allclose(got, want, rtol=1e-4)
    # Both bounds tend to one number, the analytic KL below a sampled one from above.
    error = np.hypot(np.std(analytic), np.std(sampled)) / np.sqrt(4000)
    assert abs(np.mean(analytic) - np.mean(sampled)) < 4 * error
    marginal = lx.vae.marginal_log_prob(model, params, KEY, lx.Batch(X[:1]), num_particles=4000)
    assert -float(marginal.log_prob[0]) < np.mean(analytic) - 4 * error
    assert jax.eval_shape(lambda p: model.sample(p, KEY, (2, 3)), params).shape == (2, 3, D)
    with pytest.raises(ValueError, match="model.encode"):
        model.posterior(params, X)


# Missing features.


def test_missing_features_are_summed_out():
    model = lx.vae.IWAE(DECODER, ENCODER, PRIOR, num_particles=4)
    mask = np.random.default_rng(1).random((B, D)) > 0.4
    mask[3] = False
    holes = np.where(mask, X, np.nan)
    (_, aux), grads = graded(model)(PARAMS, KEY, lx.Batch(holes, mask=mask))
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert aux.per_example[3] == 0 and aux.claim.relation == "upper"
    # What the bound tends to: the sum over all values of what is missing.
    # (With an encoder near the prior, whose weights vary little.)
    tight = lx.vae.IWAE(DECODER, ENCODER, PRIOR, num_particles=20_000)
    near = PARAMS | {"encoder": jax.tree.map(lambda w: 0.1 * w, PARAMS["encoder"])}
    row, seen = X[:1], np.array([[True, False, True, True]])
    both = np.concatenate([row, row])
    both[1, 1] = 1 - both[0, 1]

    @quick_jit
    def scores(params):
        batches = lx.Batch(both), lx.Batch(row, mask=seen)
        return [tight(params, KEY, batch, train=False)[1].per_example for batch in batches]

    whole, (part,) = (-np.asarray(each) for each in scores(near))
    np.testing.assert_allclose(part, np.logaddexp(*whole), atol=0.03)
    assert abs(part - whole[0]) > 0.2  # the control: it is not that of the whole
    with pytest.raises(ValueError, match="needs a measure"):
        lx.bits_per_dim(aux)


def test_missing_features_of_a_mixture():
    head = lx.MixtureHead(lx.Head(lx.Bernoulli, D), 3)
    model = lx.vae.IWAE(conditional(L, head), ENCODER, PRIOR, num_particles=2)

    @quick_jit
    def losses():
        params, _ = model.init(KEY, BATCH)
        batches = BATCH, lx.Batch(X, mask=np.ones_like(X, bool))
        return [model(params, KEY, batch)[0] for batch in batches]

    np.testing.assert_allclose(*losses(), rtol=1e-5)


# Priors.


def test_a_learned_prior_is_a_head_on_a_vector():
    mixture = lx.MixtureHead(lx.Head(lx.Normal, L), 3)
    model = lx.vae.ELBO(DECODER, ENCODER, mixture, kl="monte_carlo")
    fitted = lx.vae.ELBO(DECODER, ENCODER, lx.Head(lx.Normal, L))

    @quick_jit
    def slopes(params):
        # A learned Normal is at its best where it matches the mean posterior in its moments.
        q = MODEL.posterior(params, X).base
        mean, second = q.loc.mean(0), (q.loc**2 + q.scale**2).mean(0)
        raw = jnp.stack([mean, 0.5 * jnp.log(second - mean**2)])
        best = params | {"prior": {"raw": raw.reshape(-1), "head": {}}}
        starts = ((model, model.init(KEY, BATCH).params), (fitted, best))
        return [
            jax.grad(m, has_aux=True)(params, KEY, BATCH)[0]["prior"]["raw"] for m, params in starts
        ]

    free, at_best = map(np.asarray, slopes(PARAMS))
    assert free.shape == (mixture.size,) and np.all(free != 0)
    np.testing.assert_allclose(at_best, 0, atol=1e-5)


def test_a_vamp_prior_is_the_mean_of_posteriors_at_its_inputs():
    model = lx.vae.ELBO(DECODER, ENCODER, lx.vae.VampPrior(8), kl="monte_carlo")

    @quick_jit
    def ask():
        params, z = model.init(KEY, BATCH).params, jnp.array([[0.3, -0.4]])
        each = ENCODER.apply(params["encoder"], params["prior"]["inputs"])[0].log_prob(z)
        grads = jax.grad(model, has_aux=True)(params, KEY, BATCH)[0]
        return each, model.prior_at(params).log_prob(z)[0], grads["prior"]["inputs"]

    each, got, slopes = map(np.asarray, ask())
    assert slopes.shape == (8, D)
    np.testing.assert_allclose(got, np.logaddexp.reduce(each, None) - np.log(8), rtol=1e-5)
    assert np.all(np.any(slopes != 0, axis=1))


def test_a_mixture_of_vectors_as_posterior_has_no_whole_gradient():
    head = lx.MixtureHead(lx.Head(lx.Normal, L), 2)
    model = lx.vae.IWAE(DECODER, conditional(D, head), PRIOR, num_particles=2)
    params = jax.eval_shape(model.init, KEY, BATCH).params
    assert not claim_of(model, params, BATCH).unbiased


# Decoders of all kinds, and the library's other tools.

PIXELS = {
    "quantized logistic": lx.Head(
        lx.Quantized, D, base=lx.Head(lx.Logistic), low=0, high=16, bins=17
    ),
    "mixture of them": lx.Head(
        lx.Quantized, D, base=lx.MixtureHead(lx.Head(lx.Logistic), 3), low=0, high=16, bins=17
    ),
    "categorical": lx.Head(lx.Categorical, D, num_categories=17),
    "normal": lx.Head(lx.Normal, D, scale=lx.learned()),
}


@pytest.mark.parametrize("name", PIXELS)
def test_decoders_of_grey_and_real_values(name):
    grey = np.random.default_rng(0).integers(0, 17, (B, D))
    x = grey / 16 if name == "normal" else grey
    # The encoder is given the values as they are: its weights have their scale.
    model = lx.vae.ELBO(conditional(L, PIXELS[name]), conditional(D, NORMAL, 0.02), PRIOR)

    @quick_jit
    def run(batch):
        params, _ = model.init(KEY, batch)
        return jax.value_and_grad(model, has_aux=True)(params, KEY, batch)

    (loss, aux), grads = run(lx.Batch(x))
    assert np.isfinite(loss) and all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    kind = "lebesgue" if name == "normal" else "counting"
    assert aux.claim.measure == lx.Measure(kind, D)
    bits = lx.bits_per_dim(aux, **({"bin_width": 1 / 16} if name == "normal" else {}))
    shift = 4 if name == "normal" else 0
    np.testing.assert_allclose(bits, loss / (D * np.log(2)) + shift, rtol=1e-5)


class Net(nnx.Module):
    """A layer with batch statistics and dropout."""

    def __init__(self, rows: int, out: int, *, rngs: nnx.Rngs):
        self.norm, self.drop = nnx.BatchNorm(rows, rngs=rngs), nnx.Dropout(0.2, rngs=rngs)
        self.last = nnx.Linear(rows, out, rngs=rngs)

    def __call__(self, x):
        return self.last(self.drop(self.norm(x)))


def test_networks_with_state_are_trained_evaluated_and_merged():
    decoder = lx.Conditional(functools.partial(Net, L, D), lx.Head(lx.Bernoulli, D))
    encoder = lx.Conditional(Net(D, 2 * L, rngs=nnx.Rngs(0)), NORMAL)
    model = lx.vae.IWAE(decoder, encoder, PRIOR, num_particles=3, estimator="dreg")
    result = lx.train.fit(model, optax.adam(0.02), BATCH, steps=30, key=KEY)
    assert result.history.loss[-5:].mean() < result.history.loss[:5].mean()
    score = lx.evaluate(model, result.params, KEY, BATCH, state=result.state)
    assert score.claim == lx.Claim("upper", True, lx.Measure("counting", D), "num_particles")
    nets = model.merge(result.params, result.state)
    nets.encoder.eval()
    posterior = quick_jit(lambda params, state: model.posterior(params, X, state=state).mean())
    loc = posterior(result.params, result.state)
    np.testing.assert_allclose(nets.encoder(X.astype(np.float32))[:, :L], loc, rtol=1e-5)
    assert nets.prior is PRIOR


def test_ensembles_are_vmap():
    keys = jax.random.split(KEY, 3)

    @quick_jit
    @jax.vmap
    def members(key):
        params, _ = MODEL.init(key, BATCH)
        return params, MODEL(params, key, BATCH)[0]

    params, losses = members(keys)
    one = asked(MODEL)(jax.tree.map(lambda v: np.asarray(v)[1], params), keys[1], BATCH)[0]
    np.testing.assert_allclose(losses[1], one, rtol=1e-5)


# Work.


def networks_called(estimator, repeat=1):
    """What encoder and decoder are called with in one loss, by shapes."""
    called = []

    def counting(rows, head):
        init, apply = affine(rows, head.size)

        def noted(params, *parts):
            called.append(tuple(part.shape for part in parts))
            return apply(params, *parts)

        return lx.Conditional((init, noted), head)

    nets = counting(L, DECODER.head), counting(D, NORMAL)
    model = lx.vae.IWAE(*nets, PRIOR, num_particles=5, estimator=estimator)
    for _ in range(repeat):
        jax.eval_shape(lambda params: model.score(params, KEY, BATCH, **SCORED).per_example, PARAMS)
    return called


SCORED = {"state": (), "train": True, "keep": None}


@pytest.mark.parametrize("estimator", ["standard", "stl", "dreg", "vimco"])
def test_particles_are_rows_of_one_call(estimator):
    assert networks_called(estimator) == [((B, D),), ((B * 5, L),)]
    assert networks_called(estimator, repeat=2) != [((B, D),), ((B * 5, L),)]  # the control


# Diagnostics.


def test_latent_usage_finds_what_is_used():
    # Two latents: the first a copy of a bit of x, the second the prior's.
    x = np.array([[0, 1], [1, 0]] * 50)

    def encode(params, x):
        loc, log_scale = 4.0 * x[:, :1] - 2.0, jnp.full_like(x[:, :1], np.log(0.1))
        zero = jnp.zeros_like(loc)
        return jnp.concatenate([loc, zero, log_scale, zero], -1)

    encoder = lx.Conditional((lambda key, x: {}, encode), NORMAL)
    model = lx.vae.ELBO(conditional(L, lx.Head(lx.Bernoulli, 2)), encoder, PRIOR)
    params, _ = start(model, lx.Batch(x))
    usage = lx.vae.latent_usage(model, params, KEY, lx.Batch(x))
    first = 0.5 * (0.01 + 4 - 1) - np.log(0.1)
    np.testing.assert_allclose(usage.kl, [first, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(usage.active, [True, False])
    np.testing.assert_allclose(usage.variance, [4, 0], rtol=1e-5, atol=1e-6)
    # Two kinds of example, told apart without doubt: log 2 nats.
    np.testing.assert_allclose(usage.mutual_information, np.log(2), rtol=1e-4)
    np.testing.assert_allclose(usage.marginal_kl, first - np.log(2), rtol=1e-4)


def test_a_traversal_moves_one_latent():
    @quick_jit
    def means(params):
        z = MODEL.posterior(params, X).mean()[0]
        values = jnp.array([-1.0, 0.0, 2.0])
        moved = lx.vae.traversal(MODEL, params, z, 1, values)
        want = MODEL.decode(params, jnp.stack([jnp.array([z[0], v]) for v in values]))
        return moved.mean(), want.mean()

    np.testing.assert_allclose(*means(PARAMS), rtol=1e-6)


# Errors.


def trace(init, batch):
    """For errors of shapes and kinds: nothing is computed."""
    return jax.eval_shape(lambda batch: init(KEY, batch), batch)


NARROW = lx.Normal(jnp.zeros(3), 1.0).to_event()
GREY = lx.Batch(16 * X)
BITS = (
    DECODER,
    conditional(D, lx.Head(lx.Bernoulli, L)),
    lx.Bernoulli(logits=jnp.zeros(L)).to_event(),
)


def traversal(z, index, values=(0.0, 1.0)):
    return lx.vae.traversal(MODEL, PARAMS, z, index, jnp.asarray(values))


BAD = {
    "no conditional": (lambda: lx.vae.ELBO(DECODER, NORMAL, PRIOR), "lx.Conditional"),
    "no prior": (lambda: lx.vae.ELBO(DECODER, ENCODER, 3.0), "a prior is a Distribution"),
    "numbers of layers": (
        lambda: lx.vae.ELBO(DECODER, (ENCODER, ENCODER), PRIOR),
        "one prior for each encoder",
    ),
    "a prior without an event": (
        lambda: lx.vae.ELBO(DECODER, ENCODER, lx.Normal(jnp.zeros(L), 1.0)).init(KEY, BATCH),
        r"write prior.to_event\(1\)",
    ),
    "the same, without init": (
        lambda: lx.vae.ELBO(DECODER, ENCODER, lx.Normal(jnp.zeros(L), 1.0))(PARAMS, KEY, BATCH),
        r"write prior.to_event\(1\)",
    ),
    "a prior of another size": (
        lambda: lx.vae.ELBO(DECODER, ENCODER, NARROW).init(KEY, BATCH),
        r"latents have event shape \(2,\), the prior's event shape \(3,\)",
    ),
    "a decoder of another size": (
        lambda: trace(
            lx.vae.ELBO(conditional(3, lx.Head(lx.Bernoulli, D)), ENCODER, PRIOR).init, BATCH
        ),
        r"in the decoder, whose network was called with shapes \(6, 2\)",
    ),
    "grey values": (
        lambda: MODEL.init(KEY, GREY),
        "they range from 0 to 16; scale or binarise",
    ),
    "a decoder without an event": (
        lambda: lx.vae.ELBO(conditional(L, lx.Head(lx.Bernoulli)), ENCODER, PRIOR).init(KEY, BATCH),
        r"event_shape=\(4,\)",
    ),
    "a mask of another shape": (
        lambda: MODEL(PARAMS, KEY, lx.Batch(X[:, :, None] + 0, mask=np.ones((B, D), bool))),
        "shape",
    ),
    "dependent features": (
        lambda: trace(
            lx.vae.ELBO(conditional(L, lx.Head(lx.MultivariateNormal, D)), ENCODER, PRIOR).init,
            lx.Batch(X.astype(float), mask=np.ones((B, D), bool)),
        ),
        "features are independent given z",
    ),
    "targets of another length": (
        lambda: MODEL(PARAMS, KEY, lx.Batch(X[:, :3])),
        r"the decoder's event \(4,\), got \(6, 3\); write lx.Head",
    ),
    "one target": (
        lambda: MODEL.init(KEY, lx.Batch(X[0])),
        r"write target\[None\] for one example",
    ),
    "discrete latents": (
        lambda: trace(lx.vae.ELBO(BITS[0], BITS[1], BITS[2]).init, BATCH),
        "latents of Independent are discrete",
    ),
    "a prior of bits": (
        lambda: trace(lx.vae.ELBO(DECODER, ENCODER, BITS[2], kl="monte_carlo").init, BATCH),
        r"take an encoder's head of the prior's support, lx.Head\(lx.Bernoulli",
    ),
    "a prior of positive numbers": (
        lambda: lx.vae.ELBO(
            DECODER, ENCODER, lx.Exponential(jnp.ones(L)).to_event(), kl="monte_carlo"
        ).init(KEY, BATCH),
        r"where the prior is 0 the bound is infinite; take .* lx.Head\(lx.Exponential",
    ),
    "no parameters": (
        lambda: MODEL({"net": {}}, KEY, BATCH),
        r"got \['net'\]; write params, state =",
    ),
    "params and state in one": (
        lambda: MODEL(Variables(PARAMS), KEY, BATCH),
        "params alone wanted, got Variables",
    ),
    "layers": (
        lambda: lx.vae.latent_usage(hierarchy(lx.vae.ELBO), PARAMS, KEY, BATCH),
        "latent_usage: a model of one layer of latents wanted, this one has 2",
    ),
    "no encoder": (
        lambda: check_model(lx.vae.Enumerated(DECODER, BITS[2]), "marginal_log_prob"),
        "a model with an encoder",
    ),
    "no latents": (lambda: MODEL.decode(PARAMS), "each of 1 layers wanted, got 0"),
    "latents of another length": (
        lambda: MODEL.decode(PARAMS, jnp.zeros((B, 3))),
        r"in the decoder, whose network was called with shapes \(6, 3\)",
    ),
    "which latent": (lambda: traversal(jnp.zeros(L), L), r"got \(2,\); write index=0"),
    "latents of many": (
        lambda: traversal(jnp.zeros((1, L)), 0),
        r"posterior\(params, x\).mean\(\)",
    ),
    "one value": (lambda: traversal(jnp.zeros(L), 0, 1.0), "values have shape"),
    "no particles": (
        lambda: lx.vae.IWAE(DECODER, ENCODER, PRIOR, num_particles=0),
        "num_particles is a whole number, at least 1",
    ),
    "one particle for vimco": (
        lambda: lx.vae.IWAE(DECODER, ENCODER, PRIOR, num_particles=1, estimator="vimco"),
        "at least 2",
    ),
    "an estimator": (
        lambda: lx.vae.IWAE(DECODER, ENCODER, PRIOR, num_particles=1, estimator="best"),
        "estimator is",
    ),
    "kl": (lambda: lx.vae.ELBO(DECODER, ENCODER, PRIOR, kl="exact"), "kl is"),
    "beta": (lambda: lx.vae.ELBO(DECODER, ENCODER, PRIOR, beta=-1.0), "beta is at least 0"),
    "free bits": (lambda: lx.vae.ELBO(DECODER, ENCODER, PRIOR, free_bits=-1.0), "free_bits"),
    "alpha": (
        lambda: lx.vae.RenyiBound(DECODER, ENCODER, PRIOR, alpha=np.inf, num_particles=2),
        "alpha is a finite",
    ),
    "no closed form": (
        lambda: lx.vae.ELBO(DECODER, ENCODER, lx.MixtureHead(NORMAL, 2))(
            PARAMS | {"prior": {"raw": jnp.zeros(10), "head": {}}}, KEY, BATCH
        ),
        r'KL\(Independent\(Normal\) \|\| Mixture\) has no closed form; write kl="monte_carlo"',
    ),
    "free bits that cannot be": (
        lambda: lx.vae.ELBO(
            DECODER, ENCODER, lx.MixtureHead(NORMAL, 2), kl="monte_carlo", free_bits=0.1
        )(PARAMS | {"prior": {"raw": jnp.zeros(10), "head": {}}}, KEY, BATCH),
        "free bits need a KL that is a sum over latents",
    ),
    "a conditional prior without an input": (
        lambda: lx.vae.ELBO(DECODER, ENCODER, conditional(1, NORMAL)).init(KEY, BATCH),
        "a prior that is a Conditional needs",
    ),
    "a vamp prior with an input": (
        lambda: trace(
            lx.vae.ELBO(DECODER, conditional(D + 1, NORMAL), lx.vae.VampPrior(2)).init,
            lx.Batch(X, input=np.zeros((B, 1))),
        ),
        "its pseudo-inputs are targets alone",
    ),
    "particles of the marginal": (
        lambda: lx.vae.marginal_log_prob(MODEL, PARAMS, KEY, BATCH, num_particles=1),
        "at least 2",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    function, message = BAD[name]
    with pytest.raises((ValueError, TypeError, NotImplementedError), match=message):
        function()
