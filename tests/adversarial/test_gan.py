"""Both players in one objective: whose gradient is whose, batch statistics, masks, and what a critic knows."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from flax import nnx

import likelax as lx
from likelax.adversarial import GAN, LOSSES, R1, R2, GradientPenalty, optimizers
from likelax.adversarial.gan import PLAYERS
from likelax.testing import check_players
from likelax.testing.subject import quick_jit
from nets import Stateful, linear

KEY = jax.random.key(5)
PRIOR = lx.Normal(jnp.zeros(2), 1.0).to_event()
X = jax.random.normal(jax.random.key(1), (6, 2)) * jnp.array([0.7, 1.3]) + jnp.array([1.0, -2.0])


def pair(function):
    """A network without parameters."""
    return (lambda key, *x: {}), (lambda params, *x: function(*x))


def layers(out):
    """Two of them, as a pair of functions."""

    def init(key, x):
        a, b = jax.random.split(key)
        return jax.random.normal(a, (2, 5)), jax.random.normal(b, (5, out))

    return init, lambda params, x: jnp.tanh(x @ params[0]) @ params[1]


PLAIN = layers(2), layers(1)

# Each player's own gradient.

ALL = [GradientPenalty(2.0), R1(0.7), R2(0.4)]
GAMES = {  # networks, and options
    "penalties": (PLAIN, {"penalties": ALL}),
    "relativistic average": (PLAIN, {"loss": "relativistic_average"}),
    "statistics together": ((PLAIN[0], functools.partial(Stateful, 1)), {"together": True}),
    "statistics apart": (
        (functools.partial(Stateful, 2), functools.partial(Stateful, 1)),
        {"loss": "hinge"},
    ),
}


def game(name, cls=GAN):
    networks, options = GAMES[name]
    model = cls(*networks, PRIOR, **options)
    return model, jax.jit(model.init)(KEY, lx.Batch(X))


@pytest.mark.parametrize("name", GAMES)
def test_each_player_sees_its_own_loss(name):
    model, (params, state) = game(name)
    check_players(model, params, lx.Batch(X), key=KEY, state=state)


class Leaks(GAN):
    """Nothing is stopped: each moves by the sum of both."""

    def score(self, *args, **options):
        with mock.patch.object(jax.lax, "stop_gradient", lambda x: x):
            return super().score(*args, **options)


class Learns(GAN):
    """The samples are stopped, the critic is not: it moves by the generator's loss, too."""

    def score(self, *args, **options):
        stop = jax.lax.stop_gradient
        of_samples = lambda x: stop(x) if isinstance(x, jax.Array) else x  # noqa: E731
        with mock.patch.object(jax.lax, "stop_gradient", of_samples):
            return super().score(*args, **options)


class Detached(GAN):
    """Samples without a gradient: the generator learns nothing."""

    def _sampled(self, *args, **options):
        x, state = super()._sampled(*args, **options)
        return jax.lax.stop_gradient(x), state


class Friendly(GAN):
    """The generator pays for being found out with the wrong sign."""

    def score(self, *args, **options):
        scores = super().score(*args, **options)
        cost = scores.per_example - 2 * scores.terms["generator_loss"]
        return scores._replace(per_example=cost)


@pytest.mark.parametrize(
    ("cls", "player"),
    [
        (Leaks, "generator"),
        (Detached, "generator"),
        (Friendly, "generator"),
        (Learns, "critic"),
    ],
)
def test_a_player_that_sees_another_loss_is_found(cls, player):
    model, (params, state) = game("penalties", cls)
    with pytest.raises(AssertionError, match=f"the gradient in the {player}'s parameters"):
        check_players(model, params, lx.Batch(X), key=KEY, state=state)


def test_a_loss_that_is_not_told_is_missed():
    """One that reports nothing, and learns nothing, would else pass: 0 is the slope of 0."""
    model = GAN(linear(2), linear(1), PRIOR).player("critic")
    params, _ = model.init(KEY, lx.Batch(X))
    with pytest.raises(AssertionError, match=r"what the generator pays: terms\['generator_loss'\]"):
        check_players(model, params, lx.Batch(X), key=KEY)


@pytest.fixture(scope="module")
def turns():
    """Losses and gradients of both and of each alone, once, with batch statistics."""
    model, (params, state) = game("statistics apart")
    objectives = {"both": model} | {n: model.player(n) for n in ("generator", "critic")}

    @quick_jit
    def ask(params, state):
        grad = functools.partial(jax.value_and_grad, has_aux=True)
        call = {n: grad(o)(params, KEY, lx.Batch(X), state=state) for n, o in objectives.items()}
        still = model(params, KEY, lx.Batch(X), state=state, train=False)[1]
        return call, still

    return ask(params, state), params, state


def test_turns_are_the_parts_of_the_whole(turns):
    (call, still), _, state = turns
    (total, aux), slopes = call["both"]
    (paid, of_critic), alone = call["critic"]
    (earned, of_generator), other = call["generator"]
    np.testing.assert_allclose(total, paid + earned, rtol=1e-5)
    for name, mine in (("critic", alone), ("generator", other)):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5), mine[name], slopes[name]
        )
    for rest in (alone["generator"], other["critic"]):
        assert all(not np.any(leaf) for leaf in jax.tree.leaves(rest))

    def same(a, b):
        return all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))

    # One's turn leaves the other's statistics alone; both together are the two turns; evaluation is none.
    for name, other, mine in (
        ("generator", "critic", of_generator),
        ("critic", "generator", of_critic),
    ):
        assert same(mine.state[other], state[other]) and not same(mine.state[name], state[name])
        assert same(aux.state[name], mine.state[name])
    assert same(still.state, state)
    assert aux.claim.relation == "none"
    with pytest.raises(ValueError, match="no likelihood means nothing"):
        lx.bits_per_dim(aux)


# Batch statistics, spectral norms.


class Normed(nnx.Module):
    """A critic that is a batch norm and a sum."""

    def __init__(self, *, rngs):
        self.norm = nnx.BatchNorm(2, momentum=0.9, rngs=rngs)

    def __call__(self, x):
        return jnp.sum(self.norm(x), -1)


@pytest.mark.parametrize("together", [True, False])
def test_batch_statistics_of_data_and_samples(together):
    """Of the mixture in one pass, or of each kind in its own."""
    prior = lx.Normal(jnp.array([4.0, 7.0]), 1.0).to_event()
    model = GAN(None, Normed, prior, "wasserstein", together=together)
    params, state = model.init(KEY, lx.Batch(X))
    aux = model(params, KEY, lx.Batch(X), state=state)[1]
    fake = np.asarray(model._latents(lx._keys.stream(KEY, "latents"), len(X)))
    real, kept = np.asarray(X), np.asarray(aux.state["critic"]["norm"]["mean"])
    both = np.concatenate([real, fake])
    # One step of 0.1 towards the mixture, or one towards each kind, the data first.
    apart = 0.9 * (0.1 * real.mean(0)) + 0.1 * fake.mean(0)
    np.testing.assert_allclose(kept, 0.1 * both.mean(0) if together else apart, rtol=1e-4)
    score = (
        -(real - both.mean(0)) / both.std(0) if together else (real - real.mean(0)) / real.std(0)
    )
    cost = aux.terms["critic_loss"]
    if together:
        of_fake = (fake - both.mean(0)) / both.std(0)
        np.testing.assert_allclose(cost, (score + of_fake).sum(-1).mean(), rtol=1e-3)
    else:  # each has mean 0: a critic that is told apart like this sees no difference
        np.testing.assert_allclose(cost, 0, atol=1e-5)


class Centred(nnx.Module):
    """A sum of its input with the batch's mean, or the running one, taken off."""

    def __init__(self, *, rngs):
        self.norm = nnx.BatchNorm(2, use_bias=False, use_scale=False, epsilon=0.0, rngs=rngs)


class CentredValues(Centred):
    def __call__(self, x):
        return self.norm(x)


class CentredSum(Centred):
    def __call__(self, x):
        return jnp.sum(self.norm(x), -1)


def test_what_is_asked_of_a_trained_model_is_by_its_running_statistics():
    model = GAN(CentredValues, CentredSum, PRIOR)
    mean, var = np.array([0.3, -2.0]), np.array([4.0, 0.25])
    state = {n: {"norm": {"mean": mean * i, "var": var}} for i, n in enumerate(PLAYERS, 1)}
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), state)
    params = {name: {"norm": {}} for name in PLAYERS}

    @quick_jit
    def ask(state):
        kernel = lx.samplers.HMC(0.1, 1)
        options = {"noise_scale": 0.7, "kernel": kernel, "betas": 1, "num_chains": 3}
        # A part of the path is one step from the prior: importance sampling.
        by_prior = lx.adversarial.annealed_log_prob(model, params, KEY, X, state=state, **options)
        ratio = lx.adversarial.log_density_ratio(model, params, X, state=state)
        z = [model._latents(lx._keys.stream(KEY, "latents"), count) for count in (6, 18)]
        return model.sample(params, KEY, (2, 3), state=state), ratio, by_prior.log_prob, z

    drawn, ratio, log_prob, (few, many) = ask(state)
    made = (np.asarray(few) - mean) / var**0.5
    np.testing.assert_allclose(drawn, made.reshape(2, 3, 2), rtol=1e-5)
    np.testing.assert_allclose(ratio, ((X - 2 * mean) / var**0.5).sum(-1), rtol=1e-4)
    at = ((np.asarray(many) - mean) / var**0.5).reshape(6, 3, 2)
    logs = scipy.stats.norm(at, 0.7).logpdf(np.asarray(X)[:, None]).sum(-1)
    want = scipy.special.logsumexp(logs, axis=1) - np.log(3)
    np.testing.assert_allclose(log_prob, want, rtol=1e-4)
    # Negative control: the statistics of these latents are others.
    own = np.asarray(few)
    assert np.abs((own - own.mean(0)) / own.std(0) - made).max() > 0.1


class Spectral(nnx.Module):
    """Flax's own spectral norm."""

    def __init__(self, *, rngs):
        self.layer = nnx.SpectralNorm(nnx.Linear(2, 3, use_bias=False, rngs=rngs), rngs=rngs)

    def __call__(self, x, train):
        return jnp.sum(self.layer(x, update_stats=train), -1)


def test_a_spectral_norm_is_a_layer_of_the_critic():
    model = GAN(PLAIN[0], Spectral, PRIOR, "hinge").player("critic")
    params, state = model.init(KEY, lx.Batch(X))
    call = jax.jit(lambda state: model(params, KEY, lx.Batch(X), state=state)[1])
    for _ in range(20):  # power iterations, one a pass
        aux = call(state)
        state = aux.state
    kernel = np.asarray(params["critic"]["layer"]["layer_instance"]["kernel"])
    largest = np.linalg.svd(kernel)[1][0]
    sigma = [v for v in jax.tree.leaves(state["critic"]) if v.shape == ()]
    np.testing.assert_allclose(sigma, largest, rtol=1e-3)
    v = model._judged(params["critic"], X, None, state)[0]
    np.testing.assert_allclose(v, (np.asarray(X) @ kernel / largest).sum(-1), rtol=1e-3)


# Masks, weights, precision, ensembles.


@pytest.fixture(scope="module")
def cut():
    """A loss that looks at the whole batch, of four examples and of the same with two masked NaNs."""
    model = GAN(*PLAIN, PRIOR, "relativistic_average", penalties=R1(1.0))
    params, state = jax.jit(model.init)(KEY, lx.Batch(X))
    bad = X.at[4:].set(jnp.nan)
    mask, weight = jnp.arange(6) < 4, jnp.array([1.0, 2.0, 0.5, 3.0, 0.0, 0.0])
    few = lx.Batch(X[:4], weight=weight[:4])
    batches = (
        few,
        lx.Batch(bad, mask=mask, weight=jnp.where(mask, weight, 5.0)),
        lx.Batch(bad, weight=weight),
    )

    @quick_jit
    def ask(params):
        grad = jax.value_and_grad(model, has_aux=True)
        cases = [grad(params, KEY, batch, state=state) for batch in batches]
        other = model(params, jax.random.fold_in(KEY, 1), few)[1]
        still = model(params, KEY, few, train=False)[1]
        return *cases, other, still, params

    return ask(params)


@pytest.mark.parametrize("way", [1, 2])
def test_what_is_masked_out_counts_nowhere(cut, way):
    """Neither in the loss, nor in the means that a relativistic critic is held against."""
    ((want, before), slopes), ((got, aux), found) = cut[0], cut[way]
    np.testing.assert_allclose(got, want, rtol=1e-5)
    np.testing.assert_allclose(aux.per_example[:4], before.per_example, rtol=1e-5)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), found, slopes)


def test_a_relativistic_critic_is_held_against_weighted_means(cut):
    (_, aux), params = cut[0][0], cut[5]
    z = GAN(*PLAIN, PRIOR)._latents(lx._keys.stream(KEY, "latents"), 4)
    (_, generate), (_, judge) = PLAIN
    real, fake = (
        judge(params["critic"], x)[:, 0] for x in (X[:4], generate(params["generator"], z))
    )
    weight = np.array([1.0, 2.0, 0.5, 3.0]) / 6.5

    def paid(means):
        up, down = real - means @ fake, fake - means @ real
        nll = np.logaddexp(0, -np.array([up, -down, down, -up])).reshape(2, 2, 4).sum(1)
        return nll @ weight  # the critic's and the generator's

    found = [float(aux.terms[name]) for name in ("critic_loss", "generator_loss")]
    np.testing.assert_allclose(found, paid(weight), rtol=1e-5)
    assert np.abs(found - paid(np.full(4, 0.25))).max() > 0.01  # negative control


def test_each_key_draws_other_samples_and_evaluation_has_no_penalty(cut):
    (loss, aux), _ = cut[0]
    other, still = cut[3:5]
    assert np.all(np.abs(other.per_example - aux.per_example)[:4] > 1e-4)
    np.testing.assert_allclose(still.loss, loss - aux.terms["penalty"], rtol=1e-5)
    assert aux.terms["penalty"] > 0.01 and "penalty" not in still.terms


def test_an_empty_batch_costs_nothing():
    model = GAN(linear(2), linear(1), PRIOR, penalties=GradientPenalty())
    params, _ = model.init(KEY, lx.Batch(X))
    batch = lx.Batch(X * jnp.nan, mask=jnp.zeros(6, bool))
    (loss, _), slopes = jax.value_and_grad(model, has_aux=True)(params, KEY, batch)
    assert loss == 0 and all(not np.any(leaf) for leaf in jax.tree.leaves(slopes))


def test_a_batch_that_is_divided_over_explicit_axes():
    """One device suffices: that shardings differ is found by their types."""
    kind = jax.sharding.AxisType.Explicit
    model = GAN(linear(2), linear(1), PRIOR, penalties=GradientPenalty(), together=True)
    params, _ = model.init(KEY, lx.Batch(X))
    want = model(params, KEY, lx.Batch(X))[0]
    mesh = jax.make_mesh((1,), ("data",), axis_types=(kind,), devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        x = jax.device_put(X, jax.sharding.NamedSharding(mesh, jax.P("data")))
        (loss, _), _ = jax.value_and_grad(model, has_aux=True)(params, KEY, lx.Batch(x))
    np.testing.assert_allclose(loss, want, rtol=1e-6)


def test_precision_ensembles_and_conditions():
    def affine(params, z, label):
        return z @ params["w"] + label[:, None] * params["shift"]

    generator = (
        lambda key, z, label: {"w": jax.random.normal(key, (2, 2)), "shift": jnp.ones(2)},
        affine,
    )
    critic = (
        lambda key, x, label: {"w": jax.random.normal(key, (2,))},
        lambda params, x, label: (x @ params["w"] - label)[:, None],
    )
    model = GAN(generator, critic, PRIOR, penalties=R1(1.0))
    batch = lx.Batch(X, input=jnp.arange(6.0))

    @quick_jit
    def ask(keys):
        params, _ = jax.vmap(lambda k: model.init(k, batch))(keys)
        many = jax.vmap(lambda p: model(p, KEY, batch)[0])(params)
        first = jax.tree.map(lambda leaf: leaf[0], params)
        half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), first)
        few = lx.Batch(X[:3], input=batch.input[:3])
        drawn = model.sample(first, KEY, (6,), input=batch.input)
        return (
            many,
            model(first, KEY, batch),
            model(half, KEY, batch)[0],
            model(first, KEY, few)[1],
            drawn,
            first,
        )

    many, (loss, aux), low, few, drawn, params = ask(jax.random.split(KEY, 3))
    np.testing.assert_allclose(many[0], loss, rtol=1e-5)
    assert len(set(np.asarray(many).tolist())) == 3
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, loss, rtol=0.05)
    np.testing.assert_allclose(few.per_example, aux.per_example[:3], rtol=1e-5)  # by their numbers
    z = model._latents(lx._keys.stream(KEY, "latents"), 6)
    np.testing.assert_allclose(drawn, affine(params["generator"], z, batch.input), rtol=1e-5)


# What a critic knows.


def test_the_accuracy_is_the_share_that_is_told_apart():
    tell = pair(lambda x: x[:, 0])
    names = ("non_saturating", "least_squares", "kl")  # boundaries of 0, 1/2 and 1
    models = {name: GAN(None, tell, PRIOR, name) for name in names}
    nothing = GAN(None, pair(lambda x: 0.5 + 0 * x[:, 0]), PRIOR, "least_squares")

    @quick_jit
    def ask(x):
        every = [*models.values(), nothing]
        return [m({"generator": {}, "critic": {}}, KEY, lx.Batch(x))[1].terms for m in every]

    real, fake = X[:, 0], models["kl"]._latents(lx._keys.stream(KEY, "latents"), 6)[:, 0]
    *found, blind = [float(terms["accuracy"]) for terms in ask(X)]
    want = [np.mean(np.append(real > v, fake < v)) for v in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(found, want, rtol=1e-6)
    assert len(set(found)) > 1 and blind == 0.5


def p(x):
    return 0.3 * scipy.stats.norm.pdf(x, -1.0, 0.5) + 0.7 * scipy.stats.norm.pdf(x, 1.2, 0.8)


def log_ratio(x):
    parts = [lx.Normal(-1.0, 0.5), lx.Normal(1.2, 0.8)]
    log_p = jnp.logaddexp(jnp.log(0.3) + parts[0].log_prob(x), jnp.log(0.7) + parts[1].log_prob(x))
    return log_p - lx.Normal(0.4, 1.6).log_prob(x)


TELL = {  # the best critics
    "saturating": lambda r: r,
    "least_squares": jax.nn.sigmoid,
    "kl": lambda r: 1 + r,
    "pearson": lambda r: 2 * (jnp.exp(r) - 1),
    "squared_hellinger": lambda r: r / 2,
}


def known(name, loss=None):
    """The best critic, of a model that is a Normal."""
    judge = pair(lambda x: TELL[name](log_ratio(x)))
    return GAN(None, judge, lx.Normal(0.4, 1.6), loss or name)


@pytest.mark.parametrize("name", TELL)
def test_a_critic_knows_the_ratio(name):
    x = jnp.array([-2.0, -0.3, 0.9, 2.5])
    found = lx.adversarial.log_density_ratio(known(name), {"generator": {}, "critic": {}}, x)
    want = np.log(p(np.asarray(x)) / scipy.stats.norm.pdf(x, 0.4, 1.6))
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


def draws(count):
    rng = np.random.default_rng(2)
    loc, scale = np.where(rng.random(count) < 0.3, [[-1.0], [0.5]], [[1.2], [0.8]])
    return jnp.asarray(rng.normal(loc, scale), jnp.float32)


def test_a_divergence_from_samples_has_an_error_bar():
    def q(x):
        return scipy.stats.norm.pdf(x, 0.4, 1.6)

    def js(x):
        m = (p(x) + q(x)) / 2
        return (p(x) * np.log(p(x) / m) + q(x) * np.log(q(x) / m)) / 2

    want = scipy.integrate.quad(js, -12, 12, limit=200)[0]
    params = {"generator": {}, "critic": {}}
    many = lx.Batch(draws(16_000))
    found = lx.adversarial.divergence(known("saturating"), params, KEY, many)
    assert abs(found - want) < 4 * found.standard_error < 0.1
    less = lx.adversarial.divergence(known("saturating"), params, KEY, lx.Batch(draws(1000)))
    np.testing.assert_allclose(less.standard_error / found.standard_error, 4, rtol=0.2)
    assert "or more: Jensen-Shannon divergence, nats (no likelihood)" in str(found)
    # Negative controls: another critic is below, and a KL is no JS.
    worse = known("pearson", "saturating")
    assert lx.adversarial.divergence(worse, params, KEY, many) < want - 4 * found.standard_error
    other = lx.adversarial.divergence(known("kl"), params, KEY, many)
    assert other > want + 4 * other.standard_error


def test_ratios_that_no_critic_knows():
    params = {"generator": {}, "critic": {}}
    model = GAN(None, pair(lambda x: x), lx.Normal(0.0, 1.0), "hinge")
    with pytest.raises(ValueError, match="'hinge' has none; train with one of saturating"):
        lx.adversarial.log_density_ratio(model, params, X[:, 0])
    model = GAN(None, pair(lambda x: x), lx.Normal(0.0, 1.0), "wasserstein")
    with pytest.raises(ValueError, match="divergence: the loss 'wasserstein' has none"):
        lx.adversarial.divergence(model, params, KEY, lx.Batch(X[:, 0]))
    with pytest.raises(TypeError, match="a model such as lx.adversarial.GAN"):
        lx.adversarial.log_density_ratio("critic", params, X)
    ratio = LOSSES["least_squares"].log_ratio(jnp.array([-0.1, 0.5, 1.1]))
    assert np.array_equal(np.isnan(ratio), [True, False, True])


# Training.


def moved(penalties, steps=150):
    """The game of a shift against a slope (Mescheder et al. 2018): parameters on the way, and the end."""
    shift = (lambda key, z: {"a": jnp.zeros(())}, lambda params, z: params["a"] + z)
    slope = (lambda key, x: jnp.zeros(()), lambda params, x: params * x)
    model = GAN(shift, slope, lx.Normal(0.0, 0.5), "wasserstein", penalties=penalties)
    batch = lx.Batch(2 + 0.5 * jax.random.normal(KEY, (256,)))
    both = optimizers(optax.sgd(0.2), optax.sgd(0.2), critic_steps=2)
    state, step = lx.train.init(model, both, KEY, batch), lx.train.step(model, both)
    path = [jax.device_get(state.params)]
    for _ in range(steps):
        state, _ = step(state, batch)
        path.append(jax.device_get(state.params))
    return path


def test_a_penalised_critic_lets_the_generator_arrive():
    path = moved(R1(1.0))
    assert abs(path[-1]["generator"]["a"] - 2) < 0.15
    # The critic moves in each step, the generator in each second one.
    for player, wanted in (("critic", [True] * 4), ("generator", [False, True] * 2)):
        way = [jax.tree.leaves(params[player])[0] for params in path[:5]]
        assert [bool(a != b) for a, b in zip(way[:-1], way[1:], strict=True)] == wanted
    # Negative control: without a penalty they go round and round, ever wider.
    loose = [params["generator"]["a"] for params in moved(())]
    assert np.ptp(loose[-40:]) > 4


def test_one_that_waits_its_turn_stays_as_it_is():
    """Adam's momentum of the generator's turn has no part in the critic's."""
    model = GAN(linear(2), linear(1), PRIOR)
    params, _ = model.init(KEY, lx.Batch(X))
    adam = optax.adam(0.1)

    own = {"generator": optimizers(adam, None), "critic": optimizers(None, adam)}
    both = optimizers(adam, adam)

    @quick_jit
    def turns(params):
        moves, shared, state = {}, {}, both.init(params)
        for name, mine in own.items():
            slope, _ = jax.grad(model.player(name), has_aux=True)(params, KEY, lx.Batch(X))
            moves[name], _ = mine.update(slope, mine.init(params), params)
            shared[name], state = both.update(slope, state, params)
        return moves, shared

    moves, shared = turns(params)
    for name, other in (("generator", "critic"), ("critic", "generator")):
        assert all(np.all(leaf != 0) for leaf in jax.tree.leaves(moves[name][name]))
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(moves[name][other]))
    # Negative control: one optimiser for both goes on.
    assert np.all(np.abs(shared["critic"]["generator"]["w"]) > 0.01)


# Bad input.

BAD = {
    "prior": (lambda: GAN(None, None, "normal"), TypeError, "a Distribution of z wanted"),
    "batch": (lambda: GAN(None, None, lx.Normal(jnp.zeros(2), 1.0)), ValueError, r"\.to_event"),
    "loss": (lambda: GAN(None, None, PRIOR, "wgan"), ValueError, "loss is one of saturating, non"),
    "no loss": (lambda: GAN(None, None, PRIOR, 3), TypeError, "a name or a lx.adversarial.Loss"),
    "penalty": (lambda: GAN(None, None, PRIOR, penalties=10.0), TypeError, r"R1\(10.0\) wanted"),
    "player": (lambda: GAN(None, None, PRIOR).player("d"), ValueError, 'player is "generator"'),
    "steps": (
        lambda: optimizers(optax.sgd(1.0), optax.sgd(1.0), critic_steps=0),
        ValueError,
        "critic_steps is a whole number >= 1, got 0",
    ),
    "generator's shape": (
        lambda: GAN(linear(3), linear(1), PRIOR).init(KEY, lx.Batch(X)),
        ValueError,
        r"the data's shape \(6, 2\), got \(6, 3\)",
    ),
    "critic's shape": (
        lambda: GAN(linear(2), linear(2), PRIOR).init(KEY, lx.Batch(X)),
        ValueError,
        r"one number for each of 6 values, shape \(6,\), got \(6, 2\)",
    ),
    "mask": (
        lambda: GAN(None, linear(1), PRIOR).init(KEY, lx.Batch(X, mask=X > 0)),
        ValueError,
        "a mask or weight of each example",
    ),
    "params": (
        lambda: GAN(None, linear(1), PRIOR)({"net": {}}, KEY, lx.Batch(X)),
        ValueError,
        r"parameters hold generator and critic, got \['net'\]",
    ),
    "sample": (
        lambda: GAN(None, None, PRIOR).sample({"generator": {}, "critic": {}}, KEY, (-1,)),
        ValueError,
        "a shape of whole numbers wanted",
    ),
    "input": (
        lambda: GAN(None, None, PRIOR).sample(
            {"generator": {}, "critic": {}}, KEY, (3,), input=jnp.zeros(2)
        ),
        ValueError,
        r"3 samples want an input of shape \(3, ...\), got \(2,\)",
    ),
}


def test_checks_name_a_target_that_is_not_finite():
    model = GAN(linear(2), linear(1), PRIOR)
    params, _ = model.init(KEY, lx.Batch(X))
    bad = X.at[3, 1].set(jnp.inf)
    with lx.debug_checks():
        model(params, KEY, lx.Batch(bad, mask=jnp.arange(6) != 3))
        with pytest.raises(ValueError, match=r"at index \(3, 1\) the target is inf, not finite"):
            model(params, KEY, lx.Batch(bad))


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    make, error, message = BAD[name]
    with pytest.raises(error, match=message):
        make()
