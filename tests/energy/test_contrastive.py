"""Contrastive objectives against softmaxes written out in NumPy, and against what mutual information allows."""

import functools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from scipy.special import log_softmax

import likelax as lx
from likelax.energy import InfoNCE, Margin, SimCLR, SupervisedContrastive, Triplet, metric
from likelax.energy import contrastive as module
from likelax.testing import GaussianPairs, check_contrastive, check_noise_contrastive
from likelax.testing.subject import quick_jit

KEY = jax.random.key(2)
RNG = np.random.default_rng(3)
N, KEPT = 11, 9
X, Y = RNG.normal(size=(N, 4)), RNG.normal(size=(N, 3))
VIEW = X + 0.5 * RNG.normal(size=(N, 4))
LABELS = np.array([0, 1, 2, 0, 1, 1, 7, 0, 2, 7, 0])  # of the kept ones 7 is alone
MASK = np.arange(N) < KEPT
U, V = RNG.normal(size=(4, 5)), RNG.normal(size=(3, 5))


def linear(kernel):
    return (lambda key, x: {"kernel": jnp.asarray(kernel)}), lambda params, x: x @ params["kernel"]


def batch(target, input):
    """With two rows that are masked out, of NaN where that is a number."""

    def spoilt(x):
        return np.where(MASK[:, None], x, np.nan) if x.dtype.kind == "f" else x

    target, input = jax.tree.map(spoilt, (target, input))
    return lx.Batch(target, input, mask=MASK)


# The number of rows in a block does not divide that of the rows.
BLOCKS = {"block_size": 4}
CASES = {
    "two towers": (InfoNCE(linear(U), linear(V), temperature=lx.learned(0.3)), batch(Y, X)),
    "one way, lengths kept": (
        InfoNCE(linear(U), normalize=False, symmetric=False, temperature=2.0, **BLOCKS),
        batch(VIEW, X),
    ),
    "two views": (SimCLR(linear(U), **BLOCKS), batch(VIEW, X)),
    "labels": (SupervisedContrastive(linear(U), **BLOCKS), batch(LABELS, X)),
    "semi-hard": (Triplet(linear(U), mining="semi_hard", margin=0.5, **BLOCKS), batch(LABELS, X)),
    "hard": (
        Triplet(linear(U), mining="hard", margin=0.5, normalize=False, **BLOCKS),
        batch(LABELS, X),
    ),
    "triplets": (Triplet(linear(U), margin=0.5), batch((VIEW, X[::-1]), X)),
    "pairs": (Margin(linear(U), margin=3.0), batch(LABELS % 2, (X, VIEW))),
}


SLOPES = ("two towers", "one way, lengths kept", "labels", "semi-hard")


def unit(z):
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


def one_way(s):
    return -np.diag(log_softmax(s, axis=1)), (s.argmax(1) == np.arange(len(s))).astype(float)


def two_ways(s):
    return tuple((a + b) / 2 for a, b in zip(one_way(s), one_way(s.T), strict=True))


def two_views():
    z = np.concatenate([unit(X[:KEPT] @ U), unit(VIEW[:KEPT] @ U)])
    s = z @ z.T / 0.5
    np.fill_diagonal(s, -np.inf)
    other = (np.arange(2 * KEPT) + KEPT) % (2 * KEPT)
    each = -log_softmax(s, axis=1)[np.arange(2 * KEPT), other]
    return each.reshape(2, -1).mean(0), (s.argmax(1) == other).reshape(2, -1).mean(0)


def labels():
    s = unit(X[:KEPT] @ U) @ unit(X[:KEPT] @ U).T / 0.1
    np.fill_diagonal(s, -np.inf)
    cost, right = np.zeros(KEPT), np.zeros(KEPT)
    for i in range(KEPT):
        others = [j for j in range(KEPT) if j != i and LABELS[j] == LABELS[i]]
        if others:
            cost[i] = -np.mean(log_softmax(s[i])[others])
        right[i] = LABELS[s[i].argmax()] == LABELS[i]
    return cost, right


def distances(z):
    return np.sum((z[:, None] - z[None]) ** 2, -1)


def mined(z, choose):
    d, cost, right = distances(z), np.zeros(KEPT), np.zeros(KEPT)
    for i in range(KEPT):
        same = [j for j in range(KEPT) if j != i and LABELS[j] == LABELS[i]]
        others = [j for j in range(KEPT) if LABELS[j] != LABELS[i]]
        pairs = choose(d[i], same, others)
        if pairs:
            cost[i] = np.mean([max(0, d[i, p] - d[i, n] + 0.5) for p, n in pairs])
            right[i] = np.mean([d[i, p] < d[i, n] for p, n in pairs])
    return cost, right


def semi_hard(d, same, others):
    def negative(p):
        beyond = [n for n in others if d[n] > d[p]]
        return min(beyond, key=lambda n: d[n]) if beyond else max(others, key=lambda n: d[n])

    return [(p, negative(p)) for p in same]


def hard(d, same, others):
    if not same:
        return []
    return [(max(same, key=lambda p: d[p]), min(others, key=lambda n: d[n]))]


def given_triplets():
    z, p, n = (unit(x[:KEPT] @ U) for x in (X, VIEW, X[::-1]))
    near, far = np.sum((z - p) ** 2, -1), np.sum((z - n) ** 2, -1)
    return np.maximum(0, near - far + 0.5), (near < far).astype(float)


def given_pairs():
    d = np.linalg.norm((X - VIEW)[:KEPT] @ U, axis=-1)
    return np.where(LABELS[:KEPT] % 2 == 1, d**2, np.maximum(0, 3 - d) ** 2) / 2, None


TOWERS = unit(X[:KEPT] @ U) @ unit(Y[:KEPT] @ V).T / 0.3
# What each kept example costs, and how often it is right.
TRUTH = {
    "two towers": two_ways(TOWERS),
    "one way, lengths kept": one_way(X[:KEPT] @ U @ (VIEW[:KEPT] @ U).T / 2),
    "two views": two_views(),
    "labels": labels(),
    "semi-hard": mined(unit(X[:KEPT] @ U), semi_hard),
    "hard": mined(X[:KEPT] @ U, hard),
    "triplets": given_triplets(),
    "pairs": given_pairs(),
}


@pytest.fixture(scope="module")
def found():
    """Every case in x64: what it says, and of some the gradient along a line, by autodiff and by a
    difference.
    """

    def ask(name):
        objective, given = CASES[name]
        params, state = objective.init(KEY, given)

        def loss(params):
            return objective(params, KEY, given, state=state)

        if name not in SLOPES:
            return loss(params)[1], None, None
        (_, aux), grads = jax.value_and_grad(loss, has_aux=True)(params)
        step = jax.tree.map(lambda p: 1e-5 * jnp.cos(jnp.arange(p.size).reshape(p.shape)), params)
        moved = lambda sign: loss(jax.tree.map(lambda p, d: p + sign * d, params, step))[0]  # noqa: E731
        ends = jax.vmap(moved)(jnp.array([1.0, -1.0]))
        along = sum(jax.tree.leaves(jax.tree.map(lambda g, d: jnp.sum(g * d), grads, step)))
        return aux, 2 * along, ends[0] - ends[1]

    with jax.enable_x64(True):
        every = quick_jit(lambda: {name: ask(name) for name in CASES})()
        return jax.tree.map(np.asarray, every)


@pytest.mark.parametrize("name", CASES)
def test_losses_are_those_written_out(found, name):
    aux = found[name][0]
    cost, right = TRUTH[name]
    np.testing.assert_allclose(aux.per_example[:KEPT], cost, rtol=1e-10, atol=1e-10)
    assert np.all(aux.per_example[KEPT:] == 0) and aux.claim == lx.Claim("none")
    np.testing.assert_allclose(aux.loss, cost.mean(), rtol=1e-10)
    if right is not None:
        np.testing.assert_allclose(aux.terms["accuracy"], right.mean(), rtol=1e-10)
    assert cost.std() > 0.01  # the control: there is something to get wrong


@pytest.mark.parametrize("name", ["two views", "labels"])
def test_one_is_no_candidate_for_oneself(found, monkeypatch, name):
    """A copy in which an anchor may choose itself is far from what is written out."""
    choice, (objective, given) = module._choice, CASES[name]
    monkeypatch.setattr(
        module, "_choice", lambda row, columns: choice(row._replace(own=-1), columns)
    )
    with jax.enable_x64(True):
        params, _ = objective.init(KEY, given)
        ask = quick_jit(lambda batch: objective(params, KEY, batch)[0])
        assert abs(ask(given) - TRUTH[name][0].mean()) > 0.1


@pytest.mark.parametrize("name", SLOPES)
def test_gradients_are_those_of_differences(found, name):
    _, along, difference = found[name]
    np.testing.assert_allclose(along, difference, rtol=1e-6)
    assert abs(along) > 1e-7


def test_other_terms(found):
    aux = found["two towers"][0]
    np.testing.assert_allclose(aux.terms["mutual_information"], math.log(KEPT) - aux.loss)
    np.testing.assert_allclose(found["labels"][0].terms["alone"], 1 / KEPT)
    for name in ("hard", "semi-hard", "pairs"):
        assert 0 < found[name][0].terms["active"] <= 1


def test_info_nce_is_a_linear_categorical(found):
    with jax.enable_x64(True):
        z, w = jnp.asarray(X[:KEPT] @ U), jnp.asarray(VIEW[:KEPT] @ U)
        log_prob = lx.LinearCategorical(z / 2, w.T).log_prob(jnp.arange(KEPT))
    cost = found["one way, lengths kept"][0].per_example[:KEPT]
    np.testing.assert_allclose(-log_prob, cost, rtol=1e-10)


# Mutual information.


def critic(**options):
    def make(of_x, of_y):
        return InfoNCE(of_x, of_y, temperature=1.0, normalize=False, **options)

    return make


def test_the_best_critic_has_the_loss_of_quadrature_and_no_more_than_the_information():
    check_contrastive(critic(), key=KEY, draws=8000)
    pairs = GaussianPairs(0.6)
    x, y = (np.asarray(z, np.float64)[:, 0] for z in pairs.sample(KEY, (40_000,)))
    ratio = pairs.log_ratio(x, y)
    error = ratio.std() / 200
    assert abs(ratio.mean() - pairs.mutual_information) < 4 * error < 0.02
    assert abs(np.corrcoef(x, y)[0, 1] - 0.6) < 0.02


def without_its_positive(choice):
    def broken(row, columns):
        cost, right = choice(row, columns)
        # p / (1 - p) in the place of p.
        return cost + jnp.log(-jnp.expm1(-jnp.maximum(cost, 1e-6))), right

    return broken


def in_bits(choice):
    return lambda row, columns: (choice(row, columns)[0] / math.log(2), choice(row, columns)[1])


BROKEN = {
    without_its_positive: "log N - loss is .* N = 4 .* is the positive in the denominator",
    in_bits: "of two Gaussian pairs .* InfoNCE is",
}


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_copies_are_caught(monkeypatch, broken):
    monkeypatch.setattr(module, "_choice", broken(module._choice))
    with pytest.raises(AssertionError, match=BROKEN[broken]):
        check_contrastive(critic(), key=KEY, draws=8000)


# Noise.


def contrasted(method, shift=0.0):
    def make(model, log_z, noise):
        objective = lx.energy.NCE(model, noise, num_noise=3, method=method)
        own = {"model": model} | ({"log_z": log_z + shift} if method == "binary" else {})
        return objective, own

    return make


@pytest.mark.parametrize("method", ["binary", "ranking"])
def test_noise_contrastive_objectives_have_their_optimum_at_the_data(method):
    check_noise_contrastive(contrasted(method), key=KEY)


def test_another_log_z_is_caught():
    with pytest.raises(AssertionError, match="and 0 is right"):
        check_noise_contrastive(contrasted("binary", 0.3), key=KEY)


class Blind(lx.Objective):
    """Tells nothing apart."""

    def score(self, params, key, batch, *, state, train, keep):
        cost = jnp.zeros(len(batch.target)) * jnp.sum(params["log_z"])
        return lx.objective.Scores(cost, {}, state, lx.Claim("none"))


def test_an_objective_that_learns_nothing_is_caught():
    with pytest.raises(AssertionError, match="does not tell them apart"):
        check_noise_contrastive(lambda model, log_z, noise: (Blind(), {"log_z": log_z}), key=KEY)


# Memory, meshes.


def test_the_similarities_are_never_held_beyond_a_block():
    def temporary(count, block_size):
        objective = InfoNCE(linear(U), block_size=block_size)
        x = jax.ShapeDtypeStruct((count, 4), jnp.float32)

        def loss(kernel, x, y):
            params = {"encoder": {"kernel": kernel}}
            return objective(params, KEY, lx.Batch(target=y, input=x))[0]

        kernel = jax.ShapeDtypeStruct((4, 5), jnp.float32)
        program = jax.jit(jax.grad(loss)).lower(kernel, x, x).compile()
        return program.memory_analysis().temp_size_in_bytes

    whole = 4 * 1024 * 1024
    blocked = temporary(1024, 16)
    assert blocked < whole / 4 and temporary(2048, 16) < 3 * blocked
    # Controls: twice the batch is twice the memory and not four times, and without blocks it is all there.
    assert temporary(1024, 1024) > whole


PROGRAM = Path(__file__).resolve().parents[1] / "sharded_contrastive.py"


@pytest.fixture(scope="module")
def on_a_mesh():
    run = subprocess.run(
        [sys.executable, str(PROGRAM)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["explicit", "auto"])
def test_on_a_mesh_negatives_are_those_of_all_devices(on_a_mesh, kind):
    assert on_a_mesh[kind] and all(error < 2e-6 for error in on_a_mesh[kind].values())
    # The control: each device with its own negatives has another loss.
    assert on_a_mesh["apart"] > 0.1


@pytest.mark.slow
def test_a_batch_that_does_not_divide_is_named(on_a_mesh):
    want = "a batch of 15 does not divide over the 4 devices of mesh axis 'data'; fill it up"
    assert on_a_mesh["uneven"].startswith(want)


def test_mesh_axes_that_are_not_there():
    objective, given = InfoNCE(SMALL, data_axis="dada"), lx.Batch(F32(VIEW), F32(X))
    params, _ = objective.init(KEY, given)
    with jax.set_mesh(jax.make_mesh((1,), ("data",))):
        with pytest.raises(
            ValueError, match=r"'dada' is no axis of the mesh, which has \('data',\)"
        ):
            objective(params, KEY, given)
    mesh = jax.make_mesh((1,), ("dada",), axis_types=(AxisType.Auto,))
    alone = jax.shard_map(
        lambda given: objective(params, KEY, given)[0],
        mesh=mesh,
        in_specs=P("dada"),
        out_specs=P(),
    )
    with pytest.raises(ValueError, match="the jax.shard_map around it"):
        alone(given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "device_count", lambda: 4)
        with pytest.raises(ValueError, match=r"no mesh is in sight; write with jax.set_mesh"):
            objective(params, KEY, given)


# What else is promised.


def test_a_masked_batch_and_an_ensemble():
    objective = InfoNCE(linear(U), temperature=lx.learned())
    members = {
        "encoder": {"kernel": jnp.stack([jnp.asarray(U, jnp.float32), jnp.ones((4, 5))])},
        "log_temperature": jnp.log(jnp.array([0.07, 0.5])),
    }

    @quick_jit
    def ask(members):
        given = batch(VIEW, X)
        value = jax.value_and_grad(lambda p, b: objective(p, KEY, b), has_aux=True)
        many = jax.vmap(lambda p: value(p, given)[0][0])(members)
        one = jax.tree.map(lambda leaf: leaf[1], members)
        nothing = lx.Batch(given.target, given.input, mask=jnp.zeros(N, bool))
        return many, objective(one, KEY, given)[0], value(one, given)[1], value(one, nothing)

    many, alone, grads, ((loss, aux), none) = ask(members)
    np.testing.assert_allclose(many[1], alone, rtol=1e-6)
    assert abs(many[0] - many[1]) > 0.01
    assert all(jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(grads))
    assert loss == 0 and all(jnp.all(g == 0) for g in jax.tree.leaves((none, aux.terms)))


def test_distances_far_from_the_origin(monkeypatch):
    """Are those near it: a mined triplet is about differences."""
    x = np.round(32 * X).astype(np.float32) / 32
    identity = (lambda key, x: {}), lambda params, x: x

    def loss():
        objective = Triplet(identity, mining="semi_hard", normalize=False)
        return quick_jit(lambda x: objective({"encoder": {}}, KEY, lx.Batch(LABELS, x))[0])

    near = loss()(x)
    np.testing.assert_allclose(loss()(x + 10_000), near, rtol=1e-4)
    # The control: squares of large numbers cancel.
    monkeypatch.setattr(metric, "_centred", lambda z, keep: z)
    assert abs(loss()(x + 10_000) - near) > 0.5 * near


@pytest.mark.parametrize("kind", [InfoNCE, SimCLR, SupervisedContrastive])
def test_a_learned_temperature_starts_at_the_default(kind):
    learned = kind(SMALL, temperature=lx.learned())
    assert learned.temperature == kind(SMALL).temperature
    start = learned.init(KEY, lx.Batch(LABELS if "Sup" in kind.__name__ else X, X)).params
    np.testing.assert_allclose(start["log_temperature"], math.log(kind(SMALL).temperature))


def test_embeddings_are_wide_and_of_length_one():
    objective = InfoNCE(linear(U), linear(V))
    params, state = objective.init(KEY, lx.Batch(jnp.asarray(Y), jnp.asarray(X)))
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    x = jnp.zeros((2, 3), jnp.bfloat16).at[1].set(1)
    z = quick_jit(lambda x: objective.embed(params, x, encoder="target_encoder"))(x)
    assert z.dtype == jnp.float32
    np.testing.assert_allclose(jnp.linalg.norm(z, axis=1), [0, 1], rtol=1e-6)
    assert set(objective.merge(params, state)) == {"encoder", "target_encoder"}


SMALL = linear(U.astype(np.float32))
F32 = functools.partial(np.asarray, dtype=np.float32)


def called(objective, target, input=X, **more):
    given = lx.Batch(target=target, input=input, **more)
    params, state = objective.init(KEY, given)
    return objective(params, KEY, given, state=state)


ERRORS = {
    "a temperature of 0": (
        lambda: InfoNCE(SMALL, temperature=0.0),
        ValueError,
        r"temperature is a positive number, or lx.learned\(0.07\), got 0.0",
    ),
    "no input": (
        lambda: called(InfoNCE(SMALL), F32(VIEW), None),
        ValueError,
        r"write lx.Batch\(target=y, input=x\)",
    ),
    "features that differ": (
        lambda: called(InfoNCE(SMALL, linear(F32(V[:, :3]))), F32(Y)),
        ValueError,
        r"got \(11, 5\) and \(11, 3\); end both encoders",
    ),
    "inputs of another batch": (
        lambda: called(InfoNCE(SMALL), F32(VIEW), F32(X[:5])),
        ValueError,
        "for each of 11 targets wanted, the encoder makes 5 of the input; are input and target of one",
    ),
    "one label for all": (
        lambda: called(Margin(SMALL), LABELS[:1], (F32(X), F32(VIEW))),
        ValueError,
        "for each of 1 targets wanted, the encoder makes 11 of the first",
    ),
    "labels of another batch": (
        lambda: called(SupervisedContrastive(SMALL), LABELS[:5], F32(X)),
        ValueError,
        "for each of 5 targets wanted, the encoder makes 11 of the encoder",
    ),
    "no temperature": (lambda: SimCLR(SMALL, temperature=None), ValueError, "got None"),
    "an infinite margin": (lambda: Triplet(SMALL, margin=math.inf), ValueError, "got inf"),
    "no correlation": (lambda: GaussianPairs(1.0), ValueError, r"lies in \(-1, 1\), got 1.0"),
    "a draw": (
        lambda: check_contrastive(critic(), key=KEY, draws=1),
        ValueError,
        "draws is a whole number of at least 64",
    ),
    "a draw of noise": (
        lambda: check_noise_contrastive(contrasted("binary"), key=KEY, draws=1),
        ValueError,
        "draws is a whole number of at least 2",
    ),
    "embeddings of three axes": (
        lambda: called(SimCLR(SMALL), F32(X)[:, None], F32(X)[:, None]),
        ValueError,
        r"the encoder makes \(11, 1, 5\); write z.reshape",
    ),
    "labels that are real": (
        lambda: called(SupervisedContrastive(SMALL), F32(LABELS)),
        TypeError,
        r"got float32; write target=labels.astype\(int\)",
    ),
    "labels in a column": (
        lambda: called(SupervisedContrastive(SMALL), LABELS[:, None]),
        ValueError,
        r"shape \(batch,\), got \(11, 1\); write labels\[:, 0\]",
    ),
    "a mask of features": (
        lambda: called(InfoNCE(SMALL), F32(VIEW), mask=np.ones((N, 4), bool)),
        ValueError,
        r"a mask and a weight have shape \(batch,\), got \(11, 4\)",
    ),
    "a block of no rows": (
        lambda: SimCLR(SMALL, block_size=0),
        ValueError,
        "SimCLR: block_size is a whole number >= 1, got 0",
    ),
    "another mining": (
        lambda: Triplet(SMALL, mining="soft"),
        ValueError,
        "got 'soft'; write mining=\"semi_hard\"",
    ),
    "a margin of 0": (lambda: Triplet(SMALL, margin=0.0), ValueError, "write margin=0.2"),
    "no negatives": (
        lambda: called(Triplet(SMALL), F32(VIEW)),
        TypeError,
        r"write lx.Batch\(target=\(positives, negatives\)",
    ),
    "no second": (
        lambda: called(Margin(SMALL), LABELS % 2),
        TypeError,
        r"write lx.Batch\(input=\(first, second\)",
    ),
    "another encoder": (
        lambda: InfoNCE(SMALL).embed({"encoder": {}}, X, encoder="target_encoder"),
        ValueError,
        r"encoder is one of \['encoder'\]",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_to_write(name):
    call, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()
