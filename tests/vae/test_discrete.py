"""Discrete latents against enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import likelax as lx
from likelax.testing.subject import quick_jit
from likelax.vae.discrete import relaxed_sample, states_of

KEY = jax.random.key(11)
D, N = 3, 2  # data of three bits, latents of two


def affine(rows, out, scale=1.0):
    def init(key, *parts):
        return {"w": scale * jax.random.normal(key, (rows, out))}

    return init, lambda params, *parts: jnp.concatenate(parts, -1) @ params["w"]


def start(model, batch):
    """Parameters and state, by one compiled program: op by op takes far longer."""
    return quick_jit(model.init)(KEY, batch)


BITS = lx.Bernoulli(logits=jnp.array([0.4, -1.0])).to_event()
DECODER = lx.Conditional(affine(N, D, 2.0), lx.Head(lx.Bernoulli, D))
ENCODER = lx.Conditional(affine(D, N), lx.Head(lx.Bernoulli, N))
X = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 0]], np.int32)


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
        every = np.array(list(itertools.product([0, 1], repeat=D)))

        @quick_jit
        def ask():
            params, _ = model.init(KEY, batch)
            return (
                params,
                model(params, KEY, batch)[1],
                model(params, KEY, lx.Batch(every))[1].per_example,
                model.posterior(params, X).probs,
                model.states(params),
            )

        params, aux, of_every, probs, states = ask()
        joint = brute_force(params, X)
        want = -np.logaddexp.reduce(joint, axis=0)
        np.testing.assert_allclose(aux.per_example, want, rtol=1e-10)
        assert aux.claim == lx.Claim("exact", measure=lx.Measure("counting", D))
        # The probabilities of all data sum to 1; the control leaves one state out.
        np.testing.assert_allclose(np.exp(-np.asarray(of_every)).sum(), 1, rtol=1e-10)
        assert abs(np.exp(brute_force(params, every)[1:]).sum() - 1) > 0.05
        np.testing.assert_allclose(probs, np.exp(joint + want).T, rtol=1e-9)
        np.testing.assert_array_equal(states, [[0, 0], [0, 1], [1, 0], [1, 1]])


def test_enumeration_with_masks_and_an_input():
    model = lx.vae.Enumerated(DECODER, BITS)
    with_input = lx.vae.Enumerated(lx.Conditional(affine(N + 1, D), lx.Head(lx.Bernoulli, D)), BITS)
    observed = np.array([[1, 0, 1], [1, 1, 1], [0, 0, 0]], bool)
    holes = np.where(observed, X, np.nan).astype(np.float32)
    zeros = np.zeros((3, 1), np.float32)

    @quick_jit
    def ask():
        params, _ = model.init(KEY, lx.Batch(X))
        graded = jax.value_and_grad(model, has_aux=True)(
            params, KEY, lx.Batch(holes, mask=observed)
        )
        # A decoder that also sees an input of zeros is the same model.
        wide = jnp.concatenate([params["decoder"]["net"]["w"], jnp.ones((1, D))])
        more = {"decoder": {"net": {"w": wide}, "head": {}}, "prior": {}}
        losses = model(params, KEY, lx.Batch(X))[0], with_input(more, KEY, lx.Batch(X, zeros))[0]
        return params, graded, losses, with_input.sample(more, KEY, 3, input=zeros)

    params, ((_, aux), grads), losses, draws = ask()
    want = -np.logaddexp.reduce(
        [brute_force(params, np.array([[1, b, 1], [0, 0, 1]])) for b in (0, 1)], axis=0
    )
    want = -np.logaddexp.reduce(-want, axis=0)
    np.testing.assert_allclose(aux.per_example[0], want[0], rtol=1e-5)
    assert aux.per_example[2] == 0 and aux.claim.measure is None
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert draws.shape == (3, D)


def test_a_mixture_is_a_decoder_of_one_index():
    table = np.random.default_rng(2).normal(size=(4, D)).astype(np.float32)
    net = (lambda key, z: {"table": jnp.asarray(table)}), (lambda params, z: params["table"][z])
    model = lx.vae.Enumerated(
        lx.Conditional(net, lx.Head(lx.Bernoulli, D)), lx.Head(lx.Categorical, num_categories=4)
    )

    @quick_jit
    def ask():
        params, _ = model.init(KEY, lx.Batch(X))
        mixture = lx.Mixture(
            lx.Categorical(logits=params["prior"]["raw"]), lx.Bernoulli(logits=table).to_event()
        )
        per_example = model(params, KEY, lx.Batch(X))[1].per_example
        draws = model.sample(params, KEY, (4000,))
        return per_example, mixture.log_prob(X), draws, mixture.mean()

    per_example, log_prob, draws, mean = map(np.asarray, ask())
    np.testing.assert_allclose(per_example, -log_prob, rtol=1e-5)
    error = draws.std(0) / np.sqrt(4000)
    np.testing.assert_array_less(abs(draws.mean(0) - mean), 4 * error)


def exact_iwae_gradient(params, x, count):
    """The gradient of -E log mean w over all values of `count` particles, by enumeration."""
    states = np.array(list(itertools.product([0.0, 1.0], repeat=N)))
    chosen = np.array(list(itertools.product(range(4), repeat=count)))

    def bound(params):
        logits = x[None] @ params["encoder"]["net"]["w"]
        log_q = lx.Bernoulli(logits=logits).to_event().log_prob(states)
        log_lik = lx.Bernoulli(logits=states @ params["decoder"]["net"]["w"]).to_event().log_prob(x)
        log_w = log_lik + BITS.log_prob(states) - log_q
        values = jax.nn.logsumexp(log_w[chosen], axis=1) - np.log(count)
        return -jnp.sum(jnp.exp(log_q[chosen].sum(1)) * values)

    return quick_jit(jax.value_and_grad(bound))(params)


def test_vimco_is_unbiased_against_enumeration():
    model = lx.vae.IWAE(DECODER, ENCODER, BITS, num_particles=2, estimator="vimco")
    x = jnp.asarray(X[0], float)
    params, _ = start(model, lx.Batch(X))
    value, want = exact_iwae_gradient(params, x, 2)
    grad = jax.value_and_grad(lambda p, k: model(p, k, lx.Batch(x[None]))[0])
    values, grads = quick_jit(jax.vmap(grad, (None, 0)))(params, jax.random.split(KEY, 20_000))
    values = np.asarray(values, np.float64)
    assert abs(values.mean() - value) < 4 * values.std() / np.sqrt(values.size)
    for part in ("decoder", "encoder"):
        each = np.asarray(grads[part]["net"]["w"], np.float64)
        error = each.std(0) / np.sqrt(len(each))
        assert np.all(np.abs(each.mean(0) - want[part]["net"]["w"]) <= 4.5 * error)
    # The control: without the score function the encoder's gradient is another one.
    plain = np.abs(np.asarray(want["encoder"]["net"]["w"])).max()
    log_mean = jax.grad(lambda p, k: pathwise_only(model, p, k, x))
    missing = quick_jit(jax.vmap(log_mean, (None, 0)))(params, jax.random.split(KEY, 2000))
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
    straight = lx.vae.GumbelSoftmax(DECODER, ENCODER, BITS, straight_through=True)
    rows = lx.Batch(np.tile(X[:1], (4000, 1)))

    @quick_jit
    def ask():
        params, _ = model.init(KEY, lx.Batch(X))
        relaxed, discrete = (model(params, KEY, rows, train=train)[1] for train in (True, False))
        grads, aux = jax.grad(straight, has_aux=True)(params, KEY, rows)
        return params, relaxed, discrete, aux, grads

    params, relaxed, aux, through, grads = ask()
    assert relaxed.claim.relation == "none"
    # Discrete in evaluation: the ELBO of the enumerated model.
    assert aux.claim.relation == "upper"
    want, _ = exact_iwae_gradient(params, jnp.asarray(X[0], float), 1)
    each = np.asarray(aux.per_example, np.float64)
    error = each.std() / np.sqrt(len(each))
    assert abs(each.mean() - want) < 4 * error
    # Straight through: the same number in training, a biased gradient.
    assert through.claim.relation == "upper" and not through.claim.unbiased
    assert abs(float(through.loss) - want) < 4 * error
    assert np.abs(grads["encoder"]["net"]["w"]).max() > 1e-3


def test_relaxed_samples():
    probs = np.array([0.2, 0.5, 0.3])

    def draw(logits, key, **options):
        return relaxed_sample(lx.OneHotCategorical(logits=logits), key, 0.3, **options)

    @quick_jit
    def ask(logits):
        keys = jax.random.split(KEY, 4000)
        soft, hard = (
            jax.vmap(lambda k, straight=straight: draw(logits, k, straight_through=straight))(keys)
            for straight in (False, True)
        )
        return soft, hard, jax.jacobian(draw)(logits, KEY)

    soft, hard, slope = map(np.asarray, ask(np.log(probs).astype(np.float32)))
    np.testing.assert_allclose(soft.sum(-1), 1, rtol=1e-5)
    error = 4 * np.sqrt(0.25 / 4000)
    np.testing.assert_allclose(hard.mean(0), probs, atol=error)
    np.testing.assert_allclose(np.eye(3)[soft.argmax(-1)], hard, atol=1e-6)
    assert np.abs(slope).max() > 1e-3


def test_states():
    @quick_jit
    def states():
        pairs = lx.OneHotCategorical(logits=jnp.zeros((2, 3))).to_event()
        one, two = lx.Categorical(logits=jnp.zeros(3)), lx.OneHotCategorical(logits=jnp.zeros(2))
        return [states_of(dist) for dist in (one, two, pairs)]

    indices, vectors, pairs = map(np.asarray, states())
    np.testing.assert_array_equal(indices, [0, 1, 2])
    np.testing.assert_array_equal(vectors, np.eye(2))
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
    logits = codebook[index] @ np.asarray(params["decoder"]["net"]["w"])
    want = np.log1p(np.exp(-(2 * X - 1) * logits)).sum(-1) + np.log(4)
    # The exact NLL of the model with uniform codes.
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
    nothing = {"decoder": {"net": {}, "head": {}}, "prior": {}}

    @quick_jit
    def ask(params):
        aux, trained = (CODED(params, KEY, lx.Batch(X), train=t)[1] for t in (False, True))
        nll = exact(nothing, KEY, lx.Batch(X))[1].per_example
        return CODED.codes(params, X), aux, trained.per_example, nll

    codes, aux, trained, nll = ask(params)
    np.testing.assert_array_equal(codes, index)
    np.testing.assert_allclose(aux.per_example, want, rtol=1e-5)
    assert aux.claim.relation == "upper" and not aux.claim.unbiased
    assert np.all(np.asarray(aux.per_example) > np.asarray(nll))
    # The control: without the codes' price it would undercut the NLL.
    assert np.any(np.asarray(aux.per_example) - np.log(4) < np.asarray(nll))
    distance = ((found - codebook[index]) ** 2).sum(-1)
    np.testing.assert_allclose(trained, want + 1.25 * distance, rtol=1e-5)


def test_samples_of_a_codebook_are_of_uniform_codes():
    @quick_jit
    def ask():
        params, _ = CODED.init(KEY, lx.Batch(X))
        params |= {"codebook": jnp.array([[2.0, 0.0], [1.0, 1.0], [0.0, 4.0], [-3.0, 1.0]])}
        every = (jnp.arange(2**D)[:, None] >> jnp.arange(D)) & 1
        given = CODED.decode(params, jnp.arange(4)).log_prob(every[:, None])
        drawn = CODED.sample(params, KEY, (4000,))
        return jnp.mean(jnp.exp(given), axis=1), drawn, CODED.sample(params, KEY, 1)

    want, drawn, one = map(np.asarray, ask())
    assert one.shape == (1, D)
    counts = np.bincount(drawn.astype(int) @ (1 << np.arange(D)), minlength=2**D)
    want = 4000 * want.astype(float) / want.astype(float).sum()
    assert scipy.stats.chisquare(counts, want).pvalue > 1e-4
    # The control: bits the other way round.
    assert scipy.stats.chisquare(counts[::-1], want).pvalue < 1e-4


def test_gradients_of_a_codebook():
    @quick_jit
    def ask():
        params, _ = CODED.init(KEY, lx.Batch(X))
        grads = jax.grad(CODED, has_aux=True)(params, KEY, lx.Batch(X))[0]
        # The codebook's is that of the distances alone (van den Oord et al. 2017, eq. 3).
        found = X @ params["encoder"]["w"]

        def distances(codebook):
            each = ((found[:, None] - codebook) ** 2).sum(-1)
            return jnp.mean(jnp.min(each, axis=1))

        return grads, jax.grad(distances)(params["codebook"]), CODED.reconstruct(params, X)

    grads, want, reconstructed = ask()
    assert np.abs(grads["encoder"]["w"]).max() > 0 and np.abs(grads["codebook"]).max() > 0
    np.testing.assert_allclose(grads["codebook"], want, rtol=1e-4, atol=1e-6)
    assert reconstructed.batch_shape == (3,)


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
            start(lx.vae.ELBO(DECODER, ENCODER, BITS), lx.Batch(X)).params, KEY, lx.Batch(X)
        ),
        'estimator="vimco"',
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    function, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        function()
