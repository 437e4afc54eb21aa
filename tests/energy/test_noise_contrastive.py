"""Noise-contrastive estimation against sums over every state, of the data and of the noise."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

import likelax as lx
from likelax.energy import NCE, RBM, BoltzmannMachine, ConditionalNCE, Energy, noise_contrastive
from likelax.testing.subject import quick_jit
from nets import Stateful

KEY = jax.random.key(5)
RNG = np.random.default_rng(11)
STATES = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
W, A, B = RNG.normal(size=(3, 2)), RNG.normal(size=3), RNG.normal(size=2)
F = np.array([x @ A + np.log1p(np.exp(B + x @ W)).sum() for x in STATES])
LOG_Z = np.logaddexp.reduce(F)
P = np.exp(F - LOG_Z)


def product(probs):
    """The probability of each state under independent units."""
    return np.prod(np.where(STATES == 1, probs, 1 - probs), axis=-1)


def repeated(mass, count):
    """`count` values in which each state is as often as it is probable."""
    return np.repeat(STATES, np.rint(mass * count).astype(int), axis=0)


# Noise whose probabilities are quarters: 32 values have it exactly.
NOISE_PROBS = np.array([0.25, 0.5, 0.75])
Q = product(NOISE_PROBS)
NOISE = repeated(Q, 32)
# A kernel that goes up with 1/4 and down with 1/2: 64 values from each state.
UP, DOWN = 0.25, 0.5
MOVES = np.stack([product(np.where(x == 1, 1 - DOWN, UP)) for x in STATES])
MOVED = np.stack([repeated(mass, 64) for mass in MOVES])


def kernel(up, down):
    return lambda x: lx.Bernoulli(probs=jnp.where(x == 1, 1 - down, up)).to_event()


class Whole(NCE):
    """All the noise there is, instead of draws."""

    def draw(self, key, x):
        return jnp.broadcast_to(jnp.asarray(NOISE), (len(x), *NOISE.shape))


# Every value with every two of noise: eight times 64 rows.
TRIPLES = np.array(list(itertools.product(range(8), repeat=3)))


class Triples(NCE):
    def draw(self, key, x):
        return jnp.asarray(STATES[TRIPLES[:, 1:]])


class Moved(ConditionalNCE):
    def draw(self, key, x):
        return jnp.asarray(MOVED)


def population(kind, noise=None):
    """An objective whose loss is its mean over the data and the noise, and the batch for it."""
    rbm, noise = RBM(W, A, B), noise or lx.Bernoulli(probs=NOISE_PROBS).to_event()
    if kind == "binary":
        return Whole(rbm, noise, num_noise=32), lx.Batch(STATES, weight=P)
    if kind == "ranking":
        weight = P[TRIPLES[:, 0]] * Q[TRIPLES[:, 1]] * Q[TRIPLES[:, 2]]
        batch = lx.Batch(STATES[TRIPLES[:, 0]], weight=weight)
        return Triples(rbm, noise, num_noise=2, method="ranking"), batch
    moves = (UP, DOWN) if kind == "conditional" else (UP, UP)
    return Moved(rbm, kernel(*moves), num_noise=64), lx.Batch(STATES, weight=P)


def at_the_truth(objective, batch, log_z=LOG_Z):
    params, state = objective.init(KEY, batch)
    found = params.get("log_z")
    if "log_z" in params:
        params = {**params, "log_z": jnp.asarray(log_z)}
    (loss, aux), grads = jax.value_and_grad(objective, has_aux=True)(
        params, KEY, batch, state=state
    )
    slope = jnp.max(jnp.stack([jnp.max(jnp.abs(g)) for g in jax.tree.leaves(grads)]))
    return {"loss": loss, "slope": slope, "terms": aux.terms, "start": found}


def lacking_log_k(told_apart):
    return lambda logits: told_apart(logits + jnp.log(logits.shape[1] - 1))


def without_its_positive(picked):
    def broken(logits):
        rest = jnp.where(jnp.arange(logits.shape[1]) == 0, -jnp.inf, logits)
        return -logits[:, 0] + jax.nn.logsumexp(rest, axis=1), picked(logits)[1]

    return broken


@pytest.fixture(scope="module")
def found():
    """Losses and slopes of all of them and of broken copies, in one program."""

    @quick_jit
    def ask():
        kinds = ("binary", "ranking", "conditional")
        out = {kind: at_the_truth(*population(kind)) for kind in kinds}
        out["another log Z"] = at_the_truth(*population("binary"), LOG_Z + 0.01)
        out["a kernel taken for symmetric"] = at_the_truth(*population("symmetric"))
        other = lx.Bernoulli(probs=NOISE_PROBS[::-1]).to_event()
        out["noise of another density"] = at_the_truth(*population("binary", other))
        for name, part, broken, kind in (
            ("no log K", "_told_apart", lacking_log_k, "binary"),
            ("no positive", "_picked", without_its_positive, "ranking"),
        ):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(noise_contrastive, part, broken(getattr(noise_contrastive, part)))
                out[name] = at_the_truth(*population(kind))
        return out

    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, ask())


@pytest.mark.parametrize("kind", ["binary", "ranking", "conditional"])
def test_the_density_of_the_data_is_the_optimum(found, kind):
    assert found[kind]["slope"] < 1e-10


CONTROLS = (
    "another log Z",
    "a kernel taken for symmetric",
    "noise of another density",
    "no log K",
    "no positive",
)


@pytest.mark.parametrize("name", CONTROLS)
def test_broken_copies_have_another_optimum(found, name):
    assert found[name]["slope"] > 1e-3


def test_values_are_those_of_the_critics_written_out(found):
    # Binary: of K + 1 values one is data, so that it is data with probability p / (p + K q).
    is_data = P / (P + 32 * Q)
    want = -np.sum(P * np.log(is_data)) - 32 * np.sum(Q * np.log(1 - is_data))
    np.testing.assert_allclose(found["binary"]["loss"], want, rtol=1e-10)
    right = 0.5 * (np.sum(P * (is_data > 0.5)) + np.sum(Q * (is_data < 0.5)))
    np.testing.assert_allclose(found["binary"]["terms"]["accuracy"], right, rtol=1e-10)
    np.testing.assert_allclose(found["binary"]["terms"]["log_z"], LOG_Z, rtol=1e-10)
    np.testing.assert_allclose(found["binary"]["terms"]["unnormalized_log_prob"], P @ F)

    weight = P[TRIPLES[:, 0]] * Q[TRIPLES[:, 1]] * Q[TRIPLES[:, 2]]
    chosen = softmax((F - np.log(Q))[TRIPLES], axis=1)[:, 0]
    np.testing.assert_allclose(found["ranking"]["loss"], -weight @ np.log(chosen), rtol=1e-10)

    # A pair (x, y) is data then noise with probability f(x) q(y | x), or the other way round.
    pair = P[:, None] * MOVES
    want = -np.sum(pair * np.log(pair / (pair + pair.T)))
    np.testing.assert_allclose(found["conditional"]["loss"], want, rtol=1e-10)


def test_log_z_starts_at_its_estimate_from_the_noise(found):
    np.testing.assert_allclose(found["binary"]["start"], LOG_Z, rtol=1e-10)
    assert abs(found["noise of another density"]["start"] - LOG_Z) > 0.01


def test_what_was_learned_is_a_density():
    rbm = RBM(*(x.astype(np.float32) for x in (W, A, B)))
    noise = lx.Bernoulli(probs=NOISE_PROBS).to_event()
    density = NCE(rbm, noise).density({"model": rbm, "log_z": jnp.float32(LOG_Z)})
    assert density.claim == lx.Claim("estimate") and isinstance(density, lx.energy.Normalized)
    np.testing.assert_allclose(density.log_prob(STATES), np.log(P), rtol=1e-4)
    ranked = NCE(rbm, noise, method="ranking").density({"model": rbm})
    assert not hasattr(ranked, "log_prob") and ranked is rbm


WIDTH = {"w": np.array([0.5, -1.5], np.float32)}


def bowl(params, x):
    return jnp.sum(params["w"] ** 2 * x**2, -1)


@pytest.mark.parametrize("kind", [NCE, ConditionalNCE])
def test_masks_ensembles_and_draws(kind):
    """What is masked out may be NaN, a member of an ensemble has its own loss, and noise goes by the
    number of the example."""
    energy = Energy((lambda key, x: WIDTH, bowl), 2)
    normal = lx.Normal(jnp.zeros(2), 1.0).to_event()
    noise = normal if kind is NCE else lambda x: lx.Normal(x, 0.7).to_event()
    objective = kind(energy, noise, num_noise=3)
    x = jnp.asarray(RNG.normal(size=(5, 2)), jnp.float32).at[4].set(jnp.nan)
    masked = lx.Batch(x, mask=jnp.arange(5) < 4)

    @quick_jit
    def ask(members):
        value = jax.value_and_grad(objective, has_aux=True)
        one = jax.tree.map(lambda leaf: leaf[1], members)
        many, _ = jax.vmap(lambda params: value(params, KEY, masked))(members)
        (alone, aux), grads = value(one, KEY, masked)
        whole, _ = objective(one, KEY, lx.Batch(x[:4]))
        return many[0], alone, aux.per_example, grads, whole

    w = jnp.asarray([[0.5, 1.0], [0.5, -1.5]])
    members = {"model": {"w": w}} | ({"log_z": jnp.array([0.0, 1.0])} if kind is NCE else {})
    many, alone, per_example, grads, whole = ask(members)
    assert jnp.all(jnp.isfinite(per_example)) and per_example[4] == 0
    assert all(jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(grads))
    np.testing.assert_allclose(alone, whole, rtol=1e-6)
    np.testing.assert_allclose(many[1], alone, rtol=1e-6)
    assert abs(many[0] - many[1]) > 1e-3
    assert objective.claim == lx.Claim("none")


@pytest.mark.parametrize("method", ["binary", "ranking"])
def test_training_reaches_the_network(method):
    """Batch statistics are those of data and noise, and dropout is on: in training alone."""
    energy = Energy(functools.partial(Stateful, 1), 2)
    objective = NCE(energy, lx.Normal(jnp.zeros(2), 1.0).to_event(), num_noise=2, method=method)
    batch = lx.Batch(jnp.linspace(-1.0, 3.0, 12).reshape(6, 2))

    @quick_jit
    def ask():
        params, state = objective.init(KEY, batch)
        out = [objective(params, KEY, batch, state=state, train=train) for train in (True, False)]
        return state["norm"], [(loss, aux.state["norm"]) for loss, aux in out]

    before, ((loss, after), (held_out, same)) = ask()
    assert abs(after["mean"] - before["mean"]).max() > 1e-4 and abs(loss - held_out) > 1e-3
    np.testing.assert_array_equal(same["mean"], before["mean"])


def test_where_all_are_alike_nobody_is_right():
    objective = NCE(RB, BITS, num_noise=7, method="ranking")
    loss, aux = objective({"model": RB}, KEY, lx.Batch(STATES))
    np.testing.assert_allclose(loss, np.log(8), rtol=1e-6)
    assert aux.terms["accuracy"] == 0


def test_what_is_masked_out_may_be_where_there_is_no_noise():
    """What stands in its place has a density of noise, too."""
    energy = Energy((lambda key, x: WIDTH, bowl), 2)
    noise = lx.Uniform(jnp.full(2, 2.0), jnp.full(2, 3.0)).to_event()
    objective = NCE(energy, noise, num_noise=2, method="ranking")
    x = jnp.array([[2.5, 2.25], [0.0, jnp.nan]])

    @quick_jit
    def ask(x):
        grad = jax.value_and_grad(objective, has_aux=True)
        masked = lx.Batch(x, mask=jnp.array([True, False]))
        batches = masked, lx.Batch(x[:1]), lx.Batch(jnp.where(jnp.isnan(x), 0, x))
        found = [grad({"model": WIDTH}, KEY, batch) for batch in batches]
        return [(loss, slope["model"]["w"]) for (loss, _), slope in found]

    masked, alone, far = ask(x)
    for found, wanted in zip(masked, alone, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert np.isnan(far[0])  # the control: where it counts it is seen


def test_masked_data_do_not_reach_where_training_starts():
    """Of a network whose first parameters are made from data."""
    energy = Energy((lambda key, x: {"w": jnp.ones(2) / jnp.max(abs(x))}, bowl), 2)
    batch = lx.Batch(jnp.array([[4.0, 2.0], [jnp.nan, 1.0]]), mask=jnp.array([True, False]))
    noise = lx.Normal(jnp.zeros(2), 1.0).to_event()

    @quick_jit
    def ask(batch):
        starts = NCE(energy, noise).init(KEY, batch), energy.init(KEY, batch.target)
        return starts[0].params["model"]["w"], starts[1].params["w"]

    found, spoilt = ask(batch)
    np.testing.assert_array_equal(found, 0.25)
    assert np.all(np.isnan(spoilt))  # the control


RB = RBM(jnp.zeros((3, 2)), jnp.zeros(3), jnp.zeros(2))
BITS = lx.Bernoulli(probs=0.5 * jnp.ones(3)).to_event()
ERRORS = {
    "no model": (lambda: NCE(bowl, BITS), TypeError, r"lx.energy.Energy\(net, event_shape\)"),
    "no noise": (lambda: NCE(RB, "normal"), TypeError, r"got 'normal'; write lx.Normal"),
    "noise that is a batch": (
        lambda: NCE(RB, BITS.base),
        ValueError,
        r"without a batch wanted, got batch \(3,\), event \(\); write noise.to_event\(1\)",
    ),
    "real noise for bits": (
        lambda: NCE(RB, lx.Normal(jnp.zeros(3), 1.0).to_event()),
        ValueError,
        "the model is over whole numbers, the noise over real numbers",
    ),
    "zero noise": (lambda: NCE(RB, BITS, num_noise=0), ValueError, "write num_noise=10"),
    "another method": (
        lambda: NCE(RB, BITS, method="conditional"),
        ValueError,
        r"lx.energy.ConditionalNCE\(model, kernel\)",
    ),
    "a distribution for a kernel": (
        lambda: ConditionalNCE(RB, BITS),
        TypeError,
        r"write kernel=lambda x: lx.Normal\(x, 0.3\)",
    ),
    "a kernel onto other values": (
        lambda: ConditionalNCE(RB, lambda x: lx.Normal(x, 1.0).to_event()).init(
            KEY, lx.Batch(STATES)
        ),
        ValueError,
        "ConditionalNCE: the model is over whole numbers",
    ),
    "data of another shape": (
        lambda: NCE(RB, BITS).init(KEY, lx.Batch(STATES[:, :2])),
        ValueError,
        r"event \(3,\), got \(8, 2\)$",
    ),
    "such data at a step": (
        lambda: NCE(RB, BITS)({"model": RB, "log_z": 0.0}, KEY, lx.Batch(STATES * 0.5)),
        ValueError,
        "a value must be 0 or 1",
    ),
    "such data among others that are masked out": (
        lambda: NCE(RB, BITS)(
            {"model": RB, "log_z": 0.0},
            KEY,
            lx.Batch(STATES * 0.5, mask=np.arange(8) > 3),
        ),
        ValueError,
        "a value must be 0 or 1",
    ),
    "such data for a network": (
        lambda: NCE(Energy(lambda x: x.sum(-1), 3, support=lx.supports.boolean), BITS).init(
            KEY, lx.Batch(STATES * 0.5)
        ),
        ValueError,
        "a value must be 0 or 1",
    ),
    "the model alone": (
        lambda: NCE(RB, BITS)(RB, KEY, lx.Batch(STATES)),
        TypeError,
        r'NCE: params are {"model": ...}, got RBM; write params, state = objective.init\(key, batch\)',
    ),
    "no target": (
        lambda: NCE(RB, BITS).init(KEY, lx.Batch(None, STATES)),
        ValueError,
        r"NCE: a density's values are the target; write lx.Batch\(x\)",
    ),
    "a kernel onto a batch": (
        lambda: ConditionalNCE(RB, lambda x: lx.Bernoulli(probs=0.5 + 0 * x))(
            {"model": RB}, KEY, lx.Batch(STATES)
        ),
        ValueError,
        r"write noise.to_event\(1\), or kernel=lambda x",
    ),
    "data that are not binary": (
        lambda: NCE(RB, BITS).init(KEY, lx.Batch(STATES * 0.5)),
        ValueError,
        "a value must be 0 or 1",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_to_write(name):
    call, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()


def test_what_is_masked_out_of_spins_is_a_spin():
    ising = BoltzmannMachine.lattice((2, 2), coupling=0.3)
    spins = lx.Quantized(lx.Logistic(jnp.zeros(4), 1.0), -1, 1, 2).to_event()
    objective = NCE(ising, spins, num_noise=2)
    x = jnp.array([[1.0, -1.0, 1.0, 1.0], [jnp.nan, 0.0, 3.0, -1.0]])
    batch = lx.Batch(x, mask=jnp.array([True, False]))

    @quick_jit
    def ask():
        params, state = objective.init(KEY, batch)
        return params["log_z"], objective(params, KEY, batch, state=state)[0]

    assert all(map(jnp.isfinite, ask()))
