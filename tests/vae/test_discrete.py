"""Discrete latents against enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import likelax as lx
from likelax.vae.discrete import relaxed_sample, states_of

KEY = jax.random.key(11)
D, N = 3, 2  # data of three bits, latents of two


def affine(rows, out, scale=1.0):
    def init(key, *parts):
        return {"w": scale * jax.random.normal(key, (rows, out))}

    return init, lambda params, *parts: jnp.concatenate(parts, -1) @ params["w"]


def start(model, batch):
    """Parameters and state, by one compiled program: op by op takes far longer."""
    return jax.jit(model.init)(KEY, batch)


BITS = lx.Bernoulli(logits=jnp.array([0.4, -1.0])).to_event()
DECODER = lx.Conditional(affine(N, D, 2.0), lx.Head(lx.Bernoulli, D))
ENCODER = lx.Conditional(affine(D, N), lx.Head(lx.Bernoulli, N))
X = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 0]])


def brute_force(params, x):
    """log p(x, z) of the four values of z, by hand: `(4, batch)`."""
    out = []
    for z in itertools.product([0, 1], repeat=N):
        logits = np.array(z) @ np.asarray(params["decoder"]["net"]["w"], float)
        p = scipy.stats.bernoulli(1 / (1 + np.exp(-logits))).logpmf(x).sum(-1)
        prior = scipy.stats.bernoulli(1 / (1 + np.exp(-np.array([0.4, -1.0])))).logpmf(z).sum()
        out.append(p + prior)
    return np.array(out)


def test_enumeration_is_brute_force():
    with jax.enable_x64(True):
        prior = lx.Bernoulli(logits=jnp.array([0.4, -1.0])).to_event()
        model = lx.vae.Enumerated(DECODER, prior)
        batch = lx.Batch(X)
        params, _ = start(model, batch)
        aux = model(params, KEY, batch)[1]
        joint = brute_force(params, X)
        want = -np.logaddexp.reduce(joint, axis=0)
        np.testing.assert_allclose(aux.per_example, want, rtol=1e-10)
        assert aux.claim == lx.Claim("exact", measure=lx.Measure("counting", D))
        # The probabilities of all data sum to 1; the control leaves one state out.
        every = np.array(list(itertools.product([0, 1], repeat=D)))
        total = np.exp(-np.asarray(model(params, KEY, lx.Batch(every))[1].per_example)).sum()
        np.testing.assert_allclose(total, 1, rtol=1e-10)
        assert abs(np.exp(brute_force(params, every)[1:]).sum() - 1) > 0.05
        posterior = model.posterior(params, X)
        np.testing.assert_allclose(posterior.probs, np.exp(joint + want).T, rtol=1e-9)
        np.testing.assert_array_equal(model.states(params), [[0, 0], [0, 1], [1, 0], [1, 1]])


def test_enumeration_with_masks_and_an_input():
    model = lx.vae.Enumerated(DECODER, BITS)
    params, _ = start(model, lx.Batch(X))
    observed = np.array([[1, 0, 1], [1, 1, 1], [0, 0, 0]], bool)
    holes = np.where(observed, X, np.nan)
    grad = jax.value_and_grad(model, has_aux=True)
    (_, aux), grads = grad(params, KEY, lx.Batch(holes, mask=observed))
    want = -np.logaddexp.reduce(
        [brute_force(params, np.array([[1, b, 1], [0, 0, 1]])) for b in (0, 1)], axis=0
    )
    want = -np.logaddexp.reduce(-want, axis=0)
    np.testing.assert_allclose(aux.per_example[0], want[0], rtol=1e-5)
    assert aux.per_example[2] == 0 and aux.claim.measure is None
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    # A decoder that also sees an input of zeros is the same model.
    with_input = lx.vae.Enumerated(lx.Conditional(affine(N + 1, D), lx.Head(lx.Bernoulli, D)), BITS)
    wide = jnp.concatenate([params["decoder"]["net"]["w"], jnp.ones((1, D))])
    more = {"decoder": {"net": {"w": wide}, "head": {}}, "prior": {}}
    np.testing.assert_allclose(
        with_input(more, KEY, lx.Batch(X, input=jnp.zeros((3, 1))))[0],
        model(params, KEY, lx.Batch(X))[0],
        rtol=1e-5,
    )
    assert with_input.sample(more, KEY, 3, input=jnp.zeros((3, 1))).shape == (3, D)


def test_a_mixture_is_a_decoder_of_one_index():
    table = jax.random.normal(jax.random.key(2), (4, D))
    net = (lambda key, z: {"table": table}), (lambda params, z: params["table"][z])
    model = lx.vae.Enumerated(
        lx.Conditional(net, lx.Head(lx.Bernoulli, D)), lx.Head(lx.Categorical, num_categories=4)
    )
    params, _ = start(model, lx.Batch(X))
    mixture = lx.Mixture(
        lx.Categorical(logits=params["prior"]["raw"]), lx.Bernoulli(logits=table).to_event()
    )
    np.testing.assert_allclose(
        model(params, KEY, lx.Batch(X))[1].per_example, -mixture.log_prob(X), rtol=1e-5
    )
    draws = model.sample(params, KEY, (4000,))
    error = np.asarray(draws.std(0)) / np.sqrt(4000)
    np.testing.assert_array_less(abs(draws.mean(0) - mixture.mean()), 4 * error)


def exact_iwae_gradient(params, x, count):
    """The gradient of -E log mean w over all values of `count` particles, by enumeration."""
    states = states_of(BITS).astype(float)

    def bound(params):
        logits = x[None] @ params["encoder"]["net"]["w"]
        log_q = lx.Bernoulli(logits=logits).to_event().log_prob(states)
        log_lik = lx.Bernoulli(logits=states @ params["decoder"]["net"]["w"]).to_event().log_prob(x)
        log_w = log_lik + BITS.log_prob(states) - log_q
        total = 0.0
        for chosen in itertools.product(range(4), repeat=count):
            chosen = np.array(chosen)
            value = jax.nn.logsumexp(log_w[chosen]) - np.log(count)
            total += jnp.exp(log_q[chosen].sum()) * value
        return -total

    return jax.jit(jax.value_and_grad(bound))(params)


def test_vimco_is_unbiased_against_enumeration():
    model = lx.vae.IWAE(DECODER, ENCODER, BITS, num_particles=2, estimator="vimco")
    x = jnp.asarray(X[0], float)
    params, _ = start(model, lx.Batch(X))
    value, want = exact_iwae_gradient(params, x, 2)
    grad = jax.value_and_grad(lambda p, k: model(p, k, lx.Batch(x[None]))[0])
    values, grads = jax.jit(jax.vmap(grad, (None, 0)))(params, jax.random.split(KEY, 20_000))
    values = np.asarray(values, np.float64)
    assert abs(values.mean() - value) < 4 * values.std() / np.sqrt(values.size)
    for part in ("decoder", "encoder"):
        each = np.asarray(grads[part]["net"]["w"], np.float64)
        error = each.std(0) / np.sqrt(len(each))
        assert np.all(np.abs(each.mean(0) - want[part]["net"]["w"]) <= 4.5 * error)
    # The control: without the score function the encoder's gradient is another one.
    plain = np.abs(np.asarray(want["encoder"]["net"]["w"])).max()
    log_mean = jax.grad(lambda p, k: pathwise_only(model, p, k, x))
    missing = jax.jit(jax.vmap(log_mean, (None, 0)))(params, jax.random.split(KEY, 2000))
    off = np.asarray(missing["encoder"]["net"]["w"]).mean(0) - want["encoder"]["net"]["w"]
    assert np.abs(off).max() > 0.1 * plain


def pathwise_only(model, params, key, x):
    logits = x[None, None] @ params["encoder"]["net"]["w"]
    q = lx.Bernoulli(logits=jnp.broadcast_to(logits, (2, 1, N))).to_event()
    z = q.sample(key).astype(float)
    p = lx.Bernoulli(logits=z @ params["decoder"]["net"]["w"]).to_event()
    log_w = p.log_prob(x) + BITS.log_prob(z) - q.log_prob(z)
    return -jnp.mean(jax.nn.logsumexp(log_w, axis=0))


def test_gumbel_softmax_says_what_its_number_is():
    model = lx.vae.GumbelSoftmax(DECODER, ENCODER, BITS, temperature=0.7)
    params, _ = start(model, lx.Batch(X))
    rows = lx.Batch(np.tile(X[:1], (4000, 1)))
    aux = model(params, KEY, rows)[1]
    assert aux.claim.relation == "none"
    # Discrete in evaluation: the ELBO of the enumerated model.
    aux = model(params, KEY, rows, train=False)[1]
    assert aux.claim.relation == "upper"
    want, _ = exact_iwae_gradient(params, jnp.asarray(X[0], float), 1)
    each = np.asarray(aux.per_example, np.float64)
    error = each.std() / np.sqrt(len(each))
    assert abs(each.mean() - want) < 4 * error
    # Straight through: the same number in training, a biased gradient.
    straight = lx.vae.GumbelSoftmax(DECODER, ENCODER, BITS, straight_through=True)
    aux = straight(params, KEY, rows)[1]
    assert aux.claim.relation == "upper" and not aux.claim.unbiased
    assert abs(float(aux.loss) - want) < 4 * error
    grads = jax.grad(straight, has_aux=True)(params, KEY, rows)[0]
    assert np.abs(grads["encoder"]["net"]["w"]).max() > 1e-3


def test_relaxed_samples():
    q = lx.OneHotCategorical(logits=jnp.log(jnp.array([0.2, 0.5, 0.3])))
    keys = jax.random.split(KEY, 4000)
    soft = jax.jit(jax.vmap(lambda k: relaxed_sample(q, k, 0.3)))(keys)
    np.testing.assert_allclose(soft.sum(-1), 1, rtol=1e-5)
    hard = jax.jit(jax.vmap(lambda k: relaxed_sample(q, k, 0.3, straight_through=True)))(keys)
    error = 4 * np.sqrt(0.25 / 4000)
    np.testing.assert_allclose(hard.mean(0), q.probs, atol=error)
    np.testing.assert_allclose(jax.nn.one_hot(soft.argmax(-1), 3), hard, atol=1e-6)
    slope = jax.jacobian(lambda l: relaxed_sample(lx.OneHotCategorical(logits=l), KEY, 0.3))
    assert np.abs(jax.jit(slope)(q.logits)).max() > 1e-3


def test_states():
    np.testing.assert_array_equal(states_of(lx.Categorical(logits=jnp.zeros(3))), [0, 1, 2])
    np.testing.assert_array_equal(states_of(lx.OneHotCategorical(logits=jnp.zeros(2))), np.eye(2))
    pairs = states_of(lx.OneHotCategorical(logits=jnp.zeros((2, 3))).to_event())
    assert pairs.shape == (9, 2, 3) and len(np.unique(pairs.reshape(9, -1), axis=0)) == 9
    with pytest.raises(ValueError, match=r"2\^17 states are too many"):
        states_of(lx.Bernoulli(logits=jnp.zeros(17)).to_event())
    with pytest.raises(ValueError, match="latents to sum over"):
        states_of(lx.Normal(0.0, 1.0))


# Codebooks.

CODED = lx.vae.VQVAE(
    lx.Conditional(affine(2, D), lx.Head(lx.Bernoulli, D)), affine(D, 2), num_codes=4, features=2
)


def test_a_codebook_is_a_bound_whose_codes_are_paid_for():
    params, _ = start(CODED, lx.Batch(X))
    codebook = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
    params = params | {"codebook": jnp.asarray(codebook)}
    found = X @ np.asarray(params["encoder"]["w"])
    index = ((found[:, None] - codebook) ** 2).sum(-1).argmin(1)
    np.testing.assert_array_equal(CODED.codes(params, X), index)
    logits = codebook[index] @ np.asarray(params["decoder"]["net"]["w"])
    want = np.log1p(np.exp(-(2 * X - 1) * logits)).sum(-1) + np.log(4)
    aux = CODED(params, KEY, lx.Batch(X), train=False)[1]
    np.testing.assert_allclose(aux.per_example, want, rtol=1e-5)
    assert aux.claim.relation == "upper" and not aux.claim.unbiased
    # An upper bound on the exact NLL of the model with uniform codes.
    exact = lx.vae.Enumerated(
        lx.Conditional(
            (
                lambda key, z: {},
                lambda _, z: jnp.asarray(codebook)[z] @ params["decoder"]["net"]["w"],
            ),
            lx.Head(lx.Bernoulli, D),
        ),
        lx.Categorical(logits=jnp.zeros(4)),
    )
    nll = exact({"decoder": {"net": {}, "head": {}}, "prior": {}}, KEY, lx.Batch(X))[1].per_example
    assert np.all(np.asarray(aux.per_example) > np.asarray(nll))
    # The control: without the codes' price it would undercut the NLL.
    assert np.any(np.asarray(aux.per_example) - np.log(4) < np.asarray(nll))
    distance = ((found - codebook[index]) ** 2).sum(-1)
    trained = CODED(params, KEY, lx.Batch(X))[1].per_example
    np.testing.assert_allclose(trained, want + 1.25 * distance, rtol=1e-5)


def test_gradients_of_a_codebook():
    params, _ = start(CODED, lx.Batch(X))
    grads = jax.grad(CODED, has_aux=True)(params, KEY, lx.Batch(X))[0]
    assert np.abs(grads["encoder"]["w"]).max() > 0 and np.abs(grads["codebook"]).max() > 0
    # The codebook's is that of the distances alone (van den Oord et al. 2017, eq. 3).
    found = X @ params["encoder"]["w"]

    def distances(codebook):
        each = ((found[:, None] - codebook) ** 2).sum(-1)
        return jnp.mean(jnp.min(each, axis=1))

    np.testing.assert_allclose(
        grads["codebook"], jax.grad(distances)(params["codebook"]), rtol=1e-4, atol=1e-6
    )
    assert CODED.reconstruct(params, X).batch_shape == (3,)


BAD = {
    "temperature": (
        lambda: lx.vae.GumbelSoftmax(DECODER, ENCODER, BITS, temperature=0.0),
        "temperature is positive",
    ),
    "codes": (lambda: lx.vae.VQVAE(DECODER, affine(D, 2), num_codes=1, features=2), "at least 2"),
    "features": (
        lambda: lx.vae.VQVAE(DECODER, affine(D, 3), num_codes=4, features=2).init(KEY, lx.Batch(X)),
        "write features=3",
    ),
    "discrete in an ELBO": (
        lambda: lx.vae.ELBO(DECODER, ENCODER, BITS)(
            lx.vae.ELBO(DECODER, ENCODER, BITS).init(KEY, lx.Batch(X)).params, KEY, lx.Batch(X)
        ),
        'estimator="vimco"',
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    function, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        function()
