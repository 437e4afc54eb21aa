"""Training by chains, against the transition matrix of a machine of 8 states, and what becomes of chains."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

import likelax as lx
from likelax.energy import (
    JEM,
    RBM,
    ContrastiveDivergence,
    Energy,
    PersistentContrastiveDivergence,
    ShortRun,
)
from likelax.samplers import GibbsWithGradients, Langevin
from likelax.testing import check_energy_gradient
from likelax.testing.energies import _all_bits, example_rbm
from likelax.testing.subject import quick_jit
from nets import Stateful, linear

KEY = jax.random.key(9)
PCD = PersistentContrastiveDivergence
TRUE = example_rbm()
NOISE = lx.Normal(jnp.zeros(2), 1.0).to_event()


# The gradient.


def test_the_enumerated_machine_is_right():
    """Its gradients are those of sums over hidden states, and its chain leaves its law invariant."""
    data = np.arange(1.0, 9) / 36
    v, h = _all_bits(3), _all_bits(2)

    def nll(w, a, b):
        joint = np.array([[x @ a + y @ b + x @ w @ y for y in h] for x in v])
        log_p = np.logaddexp.reduce(joint, 1)
        return -data @ (log_p - np.logaddexp.reduce(log_p))

    point = np.concatenate([TRUE.weight.ravel(), TRUE.visible_bias, TRUE.hidden_bias])
    at = lambda p: nll(p[:6].reshape(3, 2), p[6:9], p[9:])  # noqa: E731
    step = 1e-5 * np.eye(len(point))
    slopes = [(at(point + e) - at(point - e)) / 2e-5 for e in step]
    np.testing.assert_allclose(TRUE.likelihood_gradient(data), slopes, atol=1e-9)
    np.testing.assert_allclose(TRUE.probabilities @ TRUE.transition, TRUE.probabilities, rtol=1e-12)
    gaps = [
        np.abs(TRUE.contrastive_gradient(data, k) - TRUE.likelihood_gradient(data)).max()
        for k in (1, 2, 4, 8, 64)
    ]
    assert gaps == sorted(gaps, reverse=True) and gaps[0] > 0.02 and gaps[-1] < 1e-8


RIGHT = {
    "CD-1": (ContrastiveDivergence, {"steps": 1}),
    "CD-3": (functools.partial(ContrastiveDivergence, k=3), {"steps": 3}),
    "many steps": (functools.partial(ContrastiveDivergence, k=40), {}),
    "persistent": (functools.partial(PCD, num_chains=10, buffer_size=20), {"calls": 60}),
}


@pytest.mark.parametrize("name", RIGHT)
def test_the_mean_gradient_is_known(name):
    make, options = RIGHT[name]
    check_energy_gradient(make, key=KEY, **options)


class Forgets(PCD):
    """Chains that are not put back."""

    def _negatives(self, density, key, x, state, train):
        return super()._negatives(density, key, x, state, train)._replace(state=state)


class DataAlone(ContrastiveDivergence):
    def _energies(self, density, x, y):
        data, model, *rest = super()._energies(density, x, y)
        return data, jax.lax.stop_gradient(model), *rest


class Reversed(ContrastiveDivergence):
    def _energies(self, density, x, y):
        data, model, *rest = super()._energies(density, x, y)
        return -data, -model, *rest


class Summed(PCD):
    def _matched(self, each, x):
        return super()._matched(each, x) * len(each)


BROKEN = {
    "CD-1 is no CD-2": (ContrastiveDivergence, {"steps": 2}),
    "the data's term alone": (DataAlone, {"steps": 1}),
    "the wrong sign": (Reversed, {"steps": 1}),
    "a sum, not a mean": (functools.partial(Summed, num_chains=20), {"calls": 30}),
    "chains that do not persist": (functools.partial(Forgets, num_chains=20), {"calls": 30}),
    "short runs": (functools.partial(ShortRun, k=1), {}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_copies_are_caught(name):
    make, options = BROKEN[name]
    with pytest.raises(AssertionError, match="of the gradient is .* on average"):
        check_energy_gradient(make, key=KEY, **options)


# The number and the terms.


@pytest.fixture(scope="module")
def values():
    """What CD, PCD and short runs say of an RBM, in one program."""
    x = np.tile(TRUE.values[[1, 3, 6]], (1000, 1)).astype(np.float32)
    batch = lx.Batch(jnp.asarray(x).at[2].set(jnp.nan), mask=jnp.arange(3000) != 2)
    start = lx.Bernoulli(probs=jnp.array([0.9, 0.2, 0.6])).to_event()
    cd = ContrastiveDivergence(TRUE.model, 2)
    pcd = PCD(TRUE.model, 3, num_chains=4, buffer_size=50, restart_prob=0.3, start=start)
    short = ShortRun(TRUE.model, 2, num_chains=4000, start=start, energy_penalty=0.5)

    @quick_jit
    def ask(params, batch):
        def call(model, k=0, batch=batch, **options):
            return model(params, jax.random.fold_in(KEY, k), batch, **options)

        def step(state, k):
            state = call(pcd, k, state=state)[1].state
            return state, state["chains"]

        state, chains = jax.lax.scan(step, pcd.init(KEY, batch).state, jnp.arange(3))
        many = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.5 * leaf]), params)
        member = functools.partial(pcd, key=KEY, batch=batch, state=state)

        def number(p):
            loss, aux = member(p)
            return loss, aux.per_example

        return {
            "cd": jax.value_and_grad(cd, has_aux=True)(params, jax.random.fold_in(KEY, 0), batch),
            "cd of two": call(cd, batch=lx.Batch(batch.target[:2])),
            "short": call(short),
            "samples": short.sample(params, KEY, 4000),
            "chains": chains,
            "held out": [call(pcd, k, state=state, train=False) for k in range(2)],
            "ensemble": jax.vmap(number)(many),
            "each": jax.lax.map(number, many),
        }

    return jax.tree.map(np.asarray, ask(TRUE.model, batch))


def energies():
    """The free energy of each value, up to a constant that is the model's own."""
    v, h = TRUE.values, _all_bits(2)
    joint = v @ TRUE.visible_bias[:, None] + h @ TRUE.hidden_bias + v @ TRUE.weight @ h.T
    return -scipy.special.logsumexp(joint, axis=1)


def within(samples, wanted, most):
    error = samples.std() / len(samples) ** 0.5
    told = f"mean {samples.mean()}, wanted {wanted}, error {error}"
    assert abs(samples.mean() - wanted) < 4 * error < most, told


def test_the_number_is_a_difference_of_energies(values):
    (loss, aux), grads = values["cd"]
    e = energies()
    moved = np.linalg.matrix_power(TRUE.transition, 2) @ e
    for row, state in enumerate((1, 3)):
        each = aux.per_example.reshape((1000, 3))[:, row]
        within(each, e[state] - moved[state], 0.1)
    assert aux.claim.relation == "none" and not aux.claim.unbiased
    kept = aux.weight == 1
    assert not kept[2] and aux.per_example[2] == 0
    np.testing.assert_allclose(loss, aux.per_example[kept].mean(), rtol=1e-4)
    terms = aux.terms
    np.testing.assert_allclose(loss, terms["energy_data"] - terms["energy_model"], rtol=1e-3)
    assert terms["acceptance"] == 1 and terms["non_finite"] == 0
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(grads))
    # The control: one sweep is told from two.
    with pytest.raises(AssertionError, match=r"mean .*, wanted"):
        within(aux.per_example[::3], e[1] - (TRUE.transition @ e)[1], 0.1)


def test_a_chain_does_not_depend_on_the_other_examples(values):
    few, everyone = values["cd of two"][1], values["cd"][0][1]
    np.testing.assert_allclose(few.per_example, everyone.per_example[:2], rtol=1e-5)


def test_short_runs_make_what_was_trained(values):
    loss, aux = values["short"]
    e = energies()
    p = np.array([0.9, 0.2, 0.6])
    start = np.prod(np.where(TRUE.values == 1, p, 1 - p), axis=1)
    law = start @ np.linalg.matrix_power(TRUE.transition, 2)
    index = values["samples"] @ [4, 2, 1]
    within(e[index.astype(int)], law @ e, 0.05)
    kept, of_data = aux.weight == 1, e[[1, 3, 6] * 1000]
    np.testing.assert_allclose(aux.terms["energy_data"], of_data[kept].mean(), rtol=1e-4)
    # The penalty is of squares, which has a closed form, too.
    squares = 0.5 * (np.mean(of_data[kept] ** 2) + law @ e**2)
    np.testing.assert_allclose(aux.terms["penalty"], squares, rtol=0.05)
    difference = aux.terms["energy_data"] - aux.terms["energy_model"]
    np.testing.assert_allclose(loss, difference + aux.terms["penalty"], rtol=1e-4)


def test_chains_persist_and_grow_old(values):
    ages = values["chains"].age
    assert ages.shape == (3, 50) and set(np.unique(ages)) <= {0, 3, 6, 9}
    assert np.all(
        (np.diff(ages, axis=0) != 0).sum(1) <= 4
    )  # four of fifty are moved, or start anew
    assert 0 < (ages[-1] > 0).sum() <= 12
    first, second = values["held out"]
    np.testing.assert_array_equal(first[0], second[0])  # whatever the key
    np.testing.assert_array_equal(first[1].state["chains"].x, values["chains"].x[-1])
    np.testing.assert_allclose(first[1].terms["age"], ages[-1].mean(), rtol=1e-5)


def test_an_ensemble_is_its_members(values):
    (together, terms), (each, terms_of_each) = values["ensemble"], values["each"]
    np.testing.assert_allclose(terms, terms_of_each, rtol=1e-5, atol=1e-6)
    # Means of 3,000 terms, added one after the other by some compilers: up to half an eps for each term.
    np.testing.assert_allclose(together, each, rtol=3000 * 2.0**-24)
    assert abs(each[0] - each[1]) > 1e-3


# Networks.


def steep(x):
    return jnp.sum(x**4, -1)


def test_chains_that_are_lost_are_counted_and_not_replaced():
    """From far away steps of this length lead further away, until they overflow."""
    energy = Energy((lambda key, x: {"a": jnp.ones(())}, lambda p, x: p["a"] * steep(x)), 2)
    model = ContrastiveDivergence(energy, 6, kernel=Langevin(0.01))
    x = jnp.asarray([[0.1, 0.2], [50.0, 0.0], [0.3, -0.1], [0.0, -60.0]])
    grad = quick_jit(jax.value_and_grad(model, has_aux=True))
    (loss, aux), _ = grad({"a": jnp.ones(())}, KEY, lx.Batch(x, mask=jnp.ones(4, bool)))
    assert aux.terms["non_finite"] == 2 and not np.isfinite(loss)
    near = lx.Batch(x, mask=jnp.array([True, False, True, False]))
    (loss, aux), slope = grad({"a": jnp.ones(())}, KEY, near)
    assert aux.terms["non_finite"] == 0 and np.isfinite(loss) and np.isfinite(slope["a"])


def test_no_gradient_flows_through_chains(monkeypatch):
    """E = a x^4 is linear in a, so that its slope at fixed samples is the difference over a."""
    energy = Energy((lambda key, x: {"a": jnp.ones(())}, lambda p, x: p["a"] * steep(x)), 2)
    batch = lx.Batch(jnp.array([[0.5, 0.25], [-1.0, 0.75]]))

    def ask():
        model = ContrastiveDivergence(energy, 2, kernel=Langevin(0.05))
        grad = quick_jit(jax.value_and_grad(lambda p: model(p, KEY, batch)[0]))
        loss, slope = grad({"a": jnp.float32(2.0)})
        return loss / 2, slope["a"]

    np.testing.assert_allclose(*ask(), rtol=1e-5)
    # The control: chains that are differentiated have another slope.
    monkeypatch.setattr(jax.lax, "stop_gradient", lambda x: x)
    wanted, found = ask()
    assert abs(found - wanted) > 0.01 * abs(wanted)


@pytest.fixture(scope="module")
def stateful():
    """A network with batch statistics and dropout, and its train state after each of four steps."""
    energy = Energy(functools.partial(Stateful, 1), 2)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(12, 2)), jnp.float32)
    model = PCD(energy, 2, num_chains=6, kernel=Langevin(0.1), start=NOISE)
    step = lx.train.step(model, optax.adam(0.01))
    states = [lx.train.init(model, optax.adam(0.01), KEY, lx.Batch(x))]
    for _ in range(4):
        states.append(step(jax.tree.map(jnp.copy, states[-1]), lx.Batch(x))[0])
    return energy, x, model, step, states


def test_training_reaches_the_network(stateful):
    energy, x, model, _, states = stateful
    params, state = states[-1].params, states[-1].state
    chains = state["chains"].x

    @quick_jit
    def ask(params, state):
        density = energy.density(params, state=state["net"], key=KEY, train=True)
        again = energy.density(params, state=state["net"], key=jax.random.key(1), train=True)
        plain = model.density(params, state=state)
        return {
            "both": density._contrasted(x, chains),
            "whole": density._scored(jnp.concatenate([x, chains])),
            "apart": [density._scored(rows)[0] for rows in (x, chains)],
            "again": again._contrasted(x, chains)[:2],
            "held out": model(params, KEY, lx.Batch(x), state=state, train=False)[1],
            "plain": plain.unnormalized_log_prob(x),
        }

    found = ask(params, state)
    # Both in one pass: the statistics are those of all rows.
    (whole, wanted), (*both, after) = found["whole"], found["both"]
    np.testing.assert_allclose(np.concatenate(both), whole, rtol=1e-5)
    np.testing.assert_allclose(after["norm"]["mean"], wanted["norm"]["mean"], rtol=1e-5)
    before = state["net"]["norm"]["mean"]
    assert np.abs(after["norm"]["mean"] - before).max() > 1e-4
    assert np.abs(np.concatenate(found["apart"]) - whole).max() > 1e-3  # the control
    # Dropout is another one for another key, and none in evaluation.
    assert np.abs(np.concatenate(found["again"]) - whole).max() > 1e-3
    held = found["held out"]
    np.testing.assert_array_equal(held.state["net"]["norm"]["mean"], before)
    np.testing.assert_allclose(held.terms["energy_data"], -found["plain"].mean(), rtol=1e-5)


def test_chains_are_saved_with_the_train_state(stateful):
    """Going on from it equals not having stopped; without its chains it does not."""
    _, x, _, step, states = stateful
    leaves, tree = jax.tree.flatten(dataclasses.replace(states[2], key=None))
    saved = jax.tree.unflatten(tree, [jnp.asarray(np.asarray(leaf)) for leaf in leaves])
    saved = dataclasses.replace(saved, key=states[2].key)
    lost = dataclasses.replace(saved, state=states[0].state)
    for start, same in ((saved, True), (lost, False)):
        state = jax.tree.map(jnp.copy, start)
        for _ in range(2):
            state, _ = step(state, lx.Batch(x))
        found, wanted = state.state["chains"].x, states[4].state["chains"].x
        assert (np.abs(found - wanted).max() < 1e-5) == same
        assert np.all(state.state["chains"].age == (8 if same else 4))


# A classifier as an energy model.

LOGITS = np.random.default_rng(4).normal(size=(3, 3))
CUBE = _all_bits(3)
LABELS = np.arange(8) % 3


def jem(**options):
    return JEM(linear(3), 3, 3, kernel=GibbsWithGradients(), support=lx.supports.boolean, **options)


@pytest.fixture(scope="module")
def joint():
    """Gradients of many runs, and an evaluation, in one program."""
    model = jem(k=25, num_chains=40, buffer_size=40, restart_prob=0.0, density_weight=0.5)
    batch = lx.Batch(jnp.asarray(LABELS), jnp.asarray(CUBE, jnp.float32))

    @quick_jit
    def ask(params):
        def run(key):
            _, state = model.init(key, batch)

            def step(state, k):
                return model(params, jax.random.fold_in(key, k), batch, state=state)[1].state, None

            state, _ = jax.lax.scan(step, state, jnp.arange(3))
            return jax.grad(model, has_aux=True)(params, key, batch, state=state)

        _, state = model.init(KEY, batch)
        seen = model(params, KEY, batch, state=state, train=False)
        dist = model.predict(params, batch.input, state=state)
        at = model.density(params, state=state).unnormalized_log_prob(batch.input)
        return jax.vmap(run)(jax.random.split(KEY, 200)), seen, dist.log_prob(LABELS), at

    return jax.tree.map(np.asarray, ask({"w": jnp.asarray(LOGITS, jnp.float32)}))


def test_a_classifier_has_both_gradients(joint):
    grads, aux = joint[0]
    f = CUBE @ LOGITS
    free = scipy.special.logsumexp(f, 1)
    p = np.exp(free - scipy.special.logsumexp(free))
    given = np.exp(f - free[:, None])
    labels = np.eye(3)[LABELS]
    of_labels = CUBE.T @ (given - labels) / 8
    of_density = CUBE.T @ ((p[:, None] - 1 / 8) * given)
    each = grads["w"]
    error = each.std(0) / 200**0.5
    assert np.all(np.abs(each.mean(0) - of_labels - 0.5 * of_density) < 4 * error)
    assert error.max() < 0.01
    # The control: the weight of the density is seen.
    assert np.abs(each.mean(0) - of_labels - of_density).max() > 10 * error.max()
    np.testing.assert_allclose(aux.terms["nll"], np.mean(free - f[np.arange(8), LABELS]), rtol=1e-5)
    assert aux.claim.relation == "none"


def test_held_out_it_is_the_exact_nll_of_labels(joint):
    _, (loss, aux), log_prob, at = joint
    want = scipy.special.log_softmax(CUBE @ LOGITS, axis=1)[np.arange(8), LABELS]
    np.testing.assert_allclose(aux.per_example, -want, rtol=1e-5)
    np.testing.assert_allclose(log_prob, want, rtol=1e-5)
    np.testing.assert_allclose(at, scipy.special.logsumexp(CUBE @ LOGITS, 1), rtol=1e-5)
    assert aux.claim == lx.Claim("exact", measure=lx.Measure("counting", 1)) == JEM.claims["nll"]
    assert JEM.claims["energy_difference"].relation == JEM.claim.relation == "none"
    np.testing.assert_allclose(loss, -want.mean(), rtol=1e-5)


# On a mesh.

PROGRAM = Path(__file__).resolve().parent.parent / "sharded_chains.py"


@pytest.mark.slow
def test_chains_are_divided_over_devices():
    run = subprocess.run(
        [sys.executable, str(PROGRAM)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    for errors, moved, spec in json.loads(run.stdout.splitlines()[-1]):
        assert len(errors) == 3 and max(errors.values()) < 1e-5 < moved
        assert spec == "data"


def test_a_machine_is_given_back_with_and_without_its_chains():
    model = PCD(SMALL, num_chains=2)
    params, state = model.init(KEY, lx.Batch(X3))
    for options in ({}, {"state": state}):
        assert model.density(params, **options) is model.merge(params, **options) is params
    found = lx.evaluate(model, params, KEY, lx.Batch(X3), state=state)
    with pytest.raises(ValueError, match=r"no likelihood .* of an energy density.normalize\("):
        lx.bits_per_dim(found)


# Bad input.


def test_what_counts_for_nothing_may_be_anything():
    x = jnp.ones((2, 3)).at[1].set(jnp.nan)
    for left_out in ({"weight": jnp.array([1.0, 0.0])}, {"mask": jnp.array([True, False])}):
        ContrastiveDivergence(SMALL).check(lx.Batch(x, **left_out))
        ContrastiveDivergence(SMALL).init(KEY, lx.Batch(x, **left_out))
    with pytest.raises(ValueError, match="a value must be 0 or 1"):
        ContrastiveDivergence(SMALL).check(lx.Batch(x))


def test_what_does_not_fit_is_said_before_training_starts():
    """A loop compiles its steps, which do not know the numbers; `init` does, and names the element."""
    model = ContrastiveDivergence(SMALL)
    greys = jnp.ones((2, 3)).at[1, 2].set(0.25)
    with pytest.raises(ValueError, match=r"index \(1, 2\) it is 0.25; write value > 0.5"):
        lx.train.fit(model, optax.sgd(0.1), lx.Batch(greys), steps=1, key=KEY)
    with pytest.raises(ValueError, match=r"got \(2, 1, 3, 1\); write value.reshape\(\(-1, 3\)\)"):
        model.init(KEY, lx.Batch(jnp.ones((2, 1, 3, 1))))
    with pytest.raises(ValueError, match=r"got \(4, 2\)$"):  # no reshape makes threes of them
        model.init(KEY, lx.Batch(jnp.ones((4, 2))))


NET = Energy(steep, 2)
BITS = Energy(steep, 2, support=lx.supports.boolean)
SMALL = RBM.random(KEY, 3, 2)
X3 = jnp.ones((2, 3))
ERRORS = {
    "no steps": (lambda: ContrastiveDivergence(SMALL, 0), ValueError, "k is a whole number >= 1"),
    "no kernel": (
        lambda: ContrastiveDivergence(NET),
        TypeError,
        r"write kernel=lx.samplers.Langevin\(0.01\)",
    ),
    "no kernel for bits": (lambda: PCD(BITS), TypeError, r"GibbsWithGradients\(\)"),
    "another kernel": (
        lambda: ContrastiveDivergence(NET, kernel="hmc"),
        TypeError,
        "a kernel wanted",
    ),
    "many step sizes": (
        lambda: ContrastiveDivergence(NET, kernel=Langevin(jnp.ones(3))),
        ValueError,
        r"one step size for all chains wanted, got shape \(3,\)",
    ),
    "a kernel of real values for bits": (
        lambda: PCD(BITS, kernel=Langevin(0.1)),
        ValueError,
        r"Langevin leads out of the density's values, which are 0 or 1.*GibbsWithGradients\(\)",
    ),
    "flips of real values": (
        lambda: ContrastiveDivergence(NET, kernel=GibbsWithGradients()),
        ValueError,
        r"GibbsWithGradients leads out .* kernel=lx.samplers.Langevin\(0.01\)",
    ),
    "flips of spins": (
        lambda: ContrastiveDivergence(
            lx.energy.BoltzmannMachine.lattice((2, 2)), kernel=GibbsWithGradients()
        ),
        ValueError,
        "leave kernel out where the model has sweeps of its own",
    ),
    "a start of real values": (
        lambda: PCD(SMALL, start=lx.Normal(jnp.zeros(3), 1.0).to_event()),
        ValueError,
        r"start draws real ones; write start=lx.Bernoulli\(",
    ),
    "an infinite penalty": (
        lambda: ContrastiveDivergence(SMALL, energy_penalty=np.inf),
        ValueError,
        "at least 0, got inf",
    ),
    "steps of nothing": (
        lambda: check_energy_gradient(ContrastiveDivergence, key=KEY, steps=0),
        ValueError,
        "steps is a whole number >= 1, or None for the likelihood, got 0",
    ),
    "no start": (
        lambda: PCD(NET, kernel=Langevin(0.1)),
        TypeError,
        r"write start=lx.Normal\(jnp.zeros\(\(2,\)\), 1.0\).to_event\(\)",
    ),
    "a start that is none": (
        lambda: PCD(NET, kernel=Langevin(0.1), start=jnp.zeros(2)),
        TypeError,
        "start is a Distribution",
    ),
    "a start of numbers": (
        lambda: ShortRun(NET, kernel=Langevin(0.1), start=lx.Normal(jnp.zeros(2), 1.0)),
        ValueError,
        r"got event \(\), batch \(2,\); write start.to_event\(\)",
    ),
    "no chains": (lambda: PCD(SMALL, num_chains=0), ValueError, "num_chains is a whole number"),
    "a small buffer": (
        lambda: PCD(SMALL, num_chains=10, buffer_size=5),
        ValueError,
        "10 chains out of a buffer of 5; write buffer_size=100",
    ),
    "no probability": (
        lambda: PCD(SMALL, restart_prob=2.0),
        ValueError,
        "PersistentContrastiveDivergence: restart_prob is a probability, got 2.0",
    ),
    "a negative penalty": (
        lambda: ContrastiveDivergence(SMALL, energy_penalty=-1.0),
        ValueError,
        "energy_penalty is a number of at least 0, got -1.0",
    ),
    "no state": (
        lambda: PCD(SMALL)(SMALL, KEY, lx.Batch(X3)),
        TypeError,
        "the chains are in the state, and it holds none",
    ),
    "data that are not binary": (
        lambda: ContrastiveDivergence(SMALL)(SMALL, KEY, lx.Batch(X3 / 2)),
        ValueError,
        "a value must be 0 or 1",
    ),
    "such data for a network": (
        lambda: PCD(BITS, kernel=GibbsWithGradients()).check(lx.Batch(X3[:, :2] / 2)),
        ValueError,
        "a value must be 0 or 1",
    ),
    "one class": (
        lambda: JEM(linear(1), 1, 3, kernel=None),
        ValueError,
        "whole number >= 2, got 1",
    ),
    "a negative weight": (
        lambda: jem(density_weight=-1.0),
        ValueError,
        "density_weight is a number of at least 0",
    ),
    "no x": (lambda: jem().init(KEY, lx.Batch(X3)), ValueError, r"write lx.Batch\(labels, x\)"),
    "logits of other classes": (
        lambda: JEM(linear(2), 3, 3, kernel=GibbsWithGradients(), support=lx.supports.boolean).init(
            KEY, lx.Batch(LABELS[:2], X3)
        ),
        ValueError,
        r"shape \(2, 3\), the network makes \(2, 2\)",
    ),
    "no calls": (
        lambda: check_energy_gradient(ContrastiveDivergence, key=KEY, calls=0),
        ValueError,
        "calls is a whole number >= 1, got 0",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_to_write(name):
    call, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()
