"""HiddenMarkov against the sum over all sequences of states, and against what it reduces to."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import likelax as lx
from likelax.sequence.hidden_markov import HiddenMarkov
from likelax.testing.subject import quick_jit

STEPS, STATES = 3, 3
PATHS = np.array(list(itertools.product(range(STATES), repeat=STEPS)))
INITIAL = np.array([0.5, 0.2, 0.3])
TRANSITION = np.array([[0.7, 0.2, 0.1], [0.05, 0.6, 0.35], [0.3, 0.45, 0.25]])
LEFT_TO_RIGHT = np.array([[0.6, 0.4, 0.0], [0.0, 0.25, 0.75], [0.0, 0.0, 1.0]])
LOC, SCALE = np.array([-1.0, 0.5, 3.0]), np.array([0.5, 1.0, 2.0])
X = np.array([0.25, -1.5, 2.75])


def normals():
    return lx.Normal(jnp.asarray(LOC), jnp.asarray(SCALE))


def model(given="probs", transition=TRANSITION):
    def of(p):
        with np.errstate(divide="ignore"):
            given_as = p if given == "probs" else np.log(p) + 1.5
        return lx.Categorical(**{given: jnp.asarray(given_as)})

    return HiddenMarkov(of(INITIAL), of(transition), normals(), STEPS)


def joint(hmm, x):
    """log p(path, x) of every path, `(K^T,)`, in probabilities where those are given."""
    log_emission = hmm.emission.log_prob(jnp.asarray(x)[:, None])
    p = hmm.initial.probs[PATHS[:, 0]]
    for t in range(STEPS - 1):
        p = p * hmm.transition.probs[PATHS[:, t], PATHS[:, t + 1]]
    return p, log_emission[np.arange(STEPS), PATHS].sum(axis=-1)


def all_paths(hmm, x):
    """log p(x), all paths added up."""
    p, log_emission = joint(hmm, x)
    return jnp.log(jnp.sum(p * jnp.exp(log_emission)))


listed = quick_jit(all_paths)
slopes_of_all_paths = quick_jit(jax.value_and_grad(all_paths, (0, 1)))


@quick_jit
def log_prob(model, x):
    return model.log_prob(x)


def close(got, want, tolerance=1e-10):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@quick_jit
def value_and_gradient(hmm, x):
    return jax.value_and_grad(lambda d, x: d.log_prob(x), (0, 1))(hmm, x)


# ---- log_prob ----


@pytest.mark.parametrize("transition", [TRANSITION, LEFT_TO_RIGHT], ids=["full", "left to right"])
@pytest.mark.parametrize("given", ["probs", "logits"])
def test_log_prob_and_its_gradients_are_those_of_all_paths(given, transition):
    """In every parameter, also where a probability is zero, and in the value."""
    with jax.enable_x64(True):
        hmm = model(given, transition)
        got = value_and_gradient(hmm, jnp.asarray(X))
        close(got, slopes_of_all_paths(hmm, jnp.asarray(X)))
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(got))


BROKEN = {
    "rows for columns": lambda d: d.replace(
        transition=lx.Categorical(probs=jnp.swapaxes(d.transition.probs, -1, -2))
    ),
    "the first state moves once": lambda d: d.replace(
        initial=lx.Categorical(probs=d.initial.probs @ d.transition.probs)
    ),
    "no transitions": lambda d: d.replace(
        transition=lx.Categorical(probs=jnp.broadcast_to(d.initial.probs, (3, 3)))
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_seen(name):
    with jax.enable_x64(True):
        assert abs(log_prob(BROKEN[name](model()), X) - listed(model(), X)) > 1e-2


def test_one_state_is_independent_and_equal_rows_are_a_mixture():
    with jax.enable_x64(True):
        one = HiddenMarkov(np.ones(1), np.ones((1, 1)), lx.Normal(jnp.array([0.5]), 2.0), STEPS)
        close(log_prob(one, X), scipy.stats.norm.logpdf(X, 0.5, 2.0).sum())
        rows = np.broadcast_to(INITIAL, (3, 3))
        mixture = lx.Mixture(jnp.asarray(INITIAL), normals())
        equal = HiddenMarkov(INITIAL, rows, normals(), STEPS)
        close(log_prob(equal, X), np.sum(log_prob(mixture, X)))


def test_discrete_and_vector_emissions():
    with jax.enable_x64(True):
        table = jnp.array([[0.5, 0.25, 0.125, 0.125], [0.1, 0.2, 0.3, 0.4], [0.0, 0.9, 0.1, 0.0]])
        hmm = HiddenMarkov(INITIAL, TRANSITION, lx.Categorical(probs=table), STEPS)
        every = np.array(list(itertools.product(range(4), repeat=STEPS)))
        log_p = np.asarray(log_prob(hmm, np.concatenate([every, [[0, 4, 1]]])))
        close(np.exp(log_p).sum(), 1.0)
        close(log_p[38], listed(hmm, every[38]))
        assert log_p[-1] == -jnp.inf
        tril = jnp.array([[[1.5, 0.0], [-0.75, 0.5]], [[0.25, 0.0], [2.0, 3.0]], [[1, 0], [1, 2]]])
        loc = jnp.array([[0.5, -1.0], [3.0, 0.25], [0.0, 1.0]])
        vectors = lx.MultivariateNormal(loc, scale_tril=tril)
        hmm = HiddenMarkov(INITIAL, TRANSITION, vectors, STEPS)
        x = jnp.stack([jnp.asarray(X), jnp.asarray(X[::-1])], axis=-1)
        close(log_prob(hmm, x), listed(hmm, x))
        assert hmm.event_shape == (STEPS, 2)
        shape = jax.eval_shape(
            lambda: (hmm.sample(jax.random.key(0), (5,)), hmm.posterior(x).probs)
        )
        assert [leaf.shape for leaf in shape] == [(5, STEPS, 2), (STEPS, STATES)]


def test_a_chain_and_emissions_that_differ_from_step_to_step():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        moves = lx.Categorical(logits=jnp.asarray(rng.normal(size=(STEPS - 1, 3, 3))))
        loc = rng.normal(size=(STEPS, 3))
        emission = lx.Normal(jnp.asarray(loc), jnp.asarray(SCALE))
        hmm = HiddenMarkov(INITIAL, moves, emission, transition_per_step=True)
        p, probs = INITIAL[PATHS[:, 0]], np.asarray(moves.probs)
        for t in range(STEPS - 1):
            p = p * probs[t, PATHS[:, t], PATHS[:, t + 1]]
        emitted = scipy.stats.norm.pdf(X[:, None], loc, SCALE)[np.arange(STEPS), PATHS].prod(-1)
        assert hmm.batch_shape == ()
        close(log_prob(hmm, X), np.log(np.sum(p * emitted)))
        with pytest.raises(ValueError, match="no step after the last"):
            hmm.predict(X)


def test_what_is_masked_is_marginalised():
    """Steps that are missing, and a sequence of two steps among those of three."""
    observed = np.array([[True, False, True], [True, True, False]])
    x = np.where(observed, X, np.nan)

    def at(loc):
        emission = lx.Normal(loc, jnp.asarray(SCALE)).mask(observed[..., None])
        return HiddenMarkov(INITIAL, TRANSITION, emission)

    def truth(loc):
        start = INITIAL * scipy.stats.norm.pdf(X[0], loc, SCALE)
        to_last = scipy.stats.norm.pdf(X[2], loc, SCALE)
        to_second = scipy.stats.norm.pdf(X[1], loc, SCALE)
        return np.log([start @ TRANSITION @ TRANSITION @ to_last, start @ TRANSITION @ to_second])

    with jax.enable_x64(True):
        loc = jnp.asarray(LOC)
        assert at(loc).batch_shape == (2,) and at(loc).event_shape == (STEPS,)

        @quick_jit
        def both(loc):
            return at(loc).log_prob(x), jax.jacrev(lambda loc: at(loc).log_prob(x))(loc)

        value, slope = both(loc)
        close(value, truth(LOC))
        step = 1e-5 * np.eye(STATES)
        ends = [(truth(LOC + d) - truth(LOC - d)) / 2e-5 for d in step]
        close(slope, np.stack(ends, axis=-1), 1e-8)


def test_impossible_observations():
    """-inf with zero gradients, and NaN at NaN."""
    uniform = lx.Uniform(jnp.array([0.0, 1.0, 2.0]), jnp.array([1.0, 2.0, 3.0]))
    hmm = HiddenMarkov(INITIAL, LEFT_TO_RIGHT, uniform, 3)
    assert np.isfinite(log_prob(hmm, np.array([0.5, 1.5, 2.5])))
    for x in ([1.5, 0.5, 2.5], [0.5, 0.5, 9.0]):  # back a state; outside them all
        value, gradient = value_and_gradient(hmm, jnp.array(x))
        assert value == -jnp.inf
        for leaf in jax.tree.leaves(gradient):
            np.testing.assert_array_equal(leaf, 0)
    assert np.isnan(log_prob(hmm, np.array([0.5, np.nan, 2.5])))


# ---- states ----


def test_states_given_what_is_seen():
    densities = scipy.stats.norm.pdf(X[:, None], LOC, SCALE)[np.arange(STEPS), PATHS]
    prior = INITIAL[PATHS[:, 0]] * LEFT_TO_RIGHT[PATHS[:, :-1], PATHS[:, 1:]].prod(axis=-1)

    def states(t, weights):
        weights = [weights[PATHS[:, t] == k].sum() for k in range(STATES)]
        return np.array(weights) / np.sum(weights)

    weights = prior * densities.prod(axis=-1)
    smoothed = [states(t, weights) for t in range(STEPS)]
    filtered = [states(t, prior * densities[:, : t + 1].prod(axis=-1)) for t in range(STEPS)]
    following = filtered[-1] @ LEFT_TO_RIGHT @ scipy.stats.norm.pdf(1.75, LOC, SCALE)

    @quick_jit
    def all_of(hmm, x):
        found = hmm.posterior(x).probs, hmm.filtered(x).probs, hmm.predict(x).prob(1.75)
        return found, hmm.viterbi(x)

    with jax.enable_x64(True):
        found, (path, log_joint) = all_of(model("logits", LEFT_TO_RIGHT), X)
        close(found, (np.stack(smoothed), np.stack(filtered), following))
        assert abs(np.stack(smoothed) - filtered).max() > 1e-2  # the two are told apart
        np.testing.assert_array_equal(path, PATHS[np.argmax(weights)])
        close(log_joint, np.log(weights.max()))


def test_leading_axes_of_values_and_batches():
    with jax.enable_x64(True):
        rng = np.random.default_rng(3)
        loc = jnp.asarray(rng.normal(size=(2, STATES)))
        hmm = model().replace(emission=lx.Normal(loc, 1.0))
        x = jnp.asarray(rng.normal(size=(5, 2, STEPS)))

        @quick_jit
        def everything(hmm, x):
            return hmm.log_prob(x), hmm.posterior(x).probs, hmm.viterbi(x), hmm.predict(x).mean()

        got = everything(hmm, x)
        assert hmm.batch_shape == (2,)
        assert [leaf.shape for leaf in jax.tree.leaves(got)] == [
            (5, 2),
            (5, 2, STEPS, STATES),
            (5, 2, STEPS),
            (5, 2),
            (5, 2),
        ]
        one = everything(hmm[1], x[3, 1])
        close(jax.tree.map(lambda leaf: leaf[3, 1], got), one)
        assert jax.eval_shape(log_prob, hmm, x[0, 0]).shape == (2,)


def test_gradients_mapped_over_parameters():
    with jax.enable_x64(True):
        loc = jnp.asarray(np.random.default_rng(4).normal(size=(2, STATES)))
        x = jnp.asarray(X) + jnp.array([[0.0], [0.5]])

        def at(loc, x):
            return HiddenMarkov(INITIAL, TRANSITION, lx.Normal(loc, 1.0), STEPS).log_prob(x)

        @quick_jit
        def both(loc, x):
            each = jax.vmap(at)
            whole = jax.grad(lambda loc: jnp.sum(each(loc, x)))(loc)
            return jax.vmap(jax.grad(at))(loc, x), whole, at(loc[1], x[1])

        mapped, whole, start = both(loc, x)
        close(mapped, whole)
        end = both(loc + jnp.array([0, 1e-5, 0]), x)[2]
        close(mapped[1, 1], (end - start) / 1e-5, 1e-4)


def test_values_divided_over_an_explicit_mesh():
    def all_of(hmm, x):
        log_prob, gradient = jax.value_and_grad(lambda x: jnp.sum(hmm.log_prob(x)))(x)
        return gradient, hmm.posterior(x).probs, hmm.viterbi(x), hmm.predict(x).mean(), log_prob

    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x = jax.device_put(np.stack([X, X + 1]), jax.P("data"))
        out = jax.eval_shape(all_of, model(), x)
        assert [leaf.sharding.spec[0] for leaf in jax.tree.leaves(out)[:-1]] == ["data"] * 5


# ---- samples and moments ----


def test_samples_and_moments():
    table = np.array([[0.95, 0.05], [0.1, 0.9], [0.8, 0.2]], np.float32)
    sticky = np.float32([[0.95, 0.05, 0.0], [0.0, 0.9, 0.1], [0.0, 0.0, 1.0]])
    hmm = HiddenMarkov(np.float32(INITIAL), sticky, lx.Categorical(probs=table), 3)
    count = 4000
    every = np.array(list(itertools.product(range(2), repeat=3)), np.int32)

    @quick_jit
    def all_of(hmm):
        summaries = hmm.prob(every), hmm.marginal().prob(every), hmm.mean(), hmm.variance()
        return summaries, hmm.sample(jax.random.key(5), (count,))

    (p, alone, mean, variance), draws = jax.tree.map(np.asarray, all_of(hmm))
    frequency = np.bincount(draws @ [4, 2, 1], minlength=8) / count
    assert np.all(np.abs(frequency - p) <= 4 * np.sqrt(p * (1 - p) / count))
    # The control: emissions of a state of their own at each step.
    independent = alone.prod(axis=-1)
    assert np.any(np.abs(frequency - independent) > 4 * np.sqrt(p * (1 - p) / count))
    np.testing.assert_allclose(mean, p @ every, rtol=1e-5)
    np.testing.assert_allclose(variance, p @ (every - p @ every) ** 2, rtol=1e-5)
    assert draws.dtype == np.int32


def test_samples_move_with_their_own_state():
    def draw(loc):
        emission = lx.Normal(loc, 1.0)
        hmm = HiddenMarkov(np.float32(INITIAL), np.float32(TRANSITION), emission, STEPS)
        return hmm.sample(jax.random.key(1))

    moved = quick_jit(jax.jacobian(draw))(np.float32(LOC))
    np.testing.assert_array_equal(np.sort(moved, axis=-1), [[0, 0, 1]] * STEPS)


@pytest.mark.slow
def test_two_thousand_steps_in_float32():
    x = np.float32(np.random.default_rng(1).normal(size=2000) * 3)
    transition = np.array([[0.75, 0.25, 0.0], [0.0, 0.625, 0.375], [0.125, 0.0, 0.875]])
    hmm = HiddenMarkov(
        np.float32([0.5, 0.25, 0.25]),
        np.float32(transition),
        lx.Normal(np.float32(LOC), np.float32(SCALE)),
        2000,
    )
    densities = scipy.stats.norm.pdf(x[:, None].astype(float), LOC, SCALE)
    state, want = np.array([0.5, 0.25, 0.25]), 0.0
    for t, density in enumerate(densities):
        state = (state @ transition if t else state) * density
        want, state = want + np.log(state.sum()), state / state.sum()
    np.testing.assert_allclose(hmm.log_prob(x), want, rtol=1e-6)


@pytest.mark.slow
def test_it_is_what_its_density_says():
    table = np.float32([[0.75, 0.25], [0.1, 0.9]])
    logits = lx.Categorical(logits=np.float32([[0.5, -1.0], [0.25, 1.5]]))
    hmm = HiddenMarkov(
        lx.Categorical(logits=np.float32([0.5, -0.25])), logits, lx.Categorical(probs=table), 3
    )
    assert lx.testing.check_distribution(hmm, key=jax.random.key(3)).ok


# ---- bad input ----

BAD = {
    "states": (lambda: HiddenMarkov(INITIAL, np.eye(2), normals(), 4), "3 states, but transition"),
    "rows": (
        lambda: HiddenMarkov(INITIAL, np.ones((2, 3)) / 3, normals(), 4),
        "its rows are 2: initial has batch shape",
    ),
    "emissions": (
        lambda: HiddenMarkov(INITIAL, TRANSITION, lx.Normal(np.zeros(4), 1.0), 4),
        r"3 states, but emission: its last batch axis are 4.*emission \(4,\)",
    ),
    "as they were given": (
        lambda: HiddenMarkov(INITIAL, TRANSITION, lx.Normal(np.zeros((2, 5, 4)), 1.0)),
        r"initial has batch shape \(\), transition \(3,\), emission \(2, 5, 4\)",
    ),
    "no axis of states": (
        lambda: HiddenMarkov(INITIAL, TRANSITION, lx.Normal(0.0, 1.0), 4),
        r"emission ends with the axes of states, got batch shape \(\)",
    ),
    "no axis of steps": (
        lambda: HiddenMarkov(INITIAL, TRANSITION, normals()),
        "axes of steps and states.*give num_steps=",
    ),
    "no steps": (
        lambda: HiddenMarkov(INITIAL, TRANSITION, normals(), 0),
        "num_steps is a positive whole number, got 0",
    ),
    "transitions": (
        lambda: HiddenMarkov(
            INITIAL, np.stack([TRANSITION] * 4), normals(), 4, transition_per_step=True
        ),
        "4 steps have 3 transitions",
    ),
    "batches": (
        lambda: HiddenMarkov(np.stack([INITIAL] * 2), np.stack([TRANSITION] * 3), normals(), 4),
        r"do not broadcast: initial \(2,\), transition \(3,\)",
    ),
    "a value": (lambda: model().log_prob(np.zeros(5)), r"event \(3,\), got \(5,\)"),
    "a value to a posterior": (lambda: model().posterior(np.zeros(5)), "HiddenMarkov.posterior"),
}


def test_probabilities_are_looked_at_where_they_are_known():
    turned = np.array(TRANSITION).T  # columns that sum to 1, a common slip
    message = r"transition has probabilities.*at index \(0\) they are .*write transition / tr"
    with pytest.raises(ValueError, match=message):
        HiddenMarkov(INITIAL, turned, normals(), 4)
    with pytest.raises(ValueError, match=r"initial has.*at index \(\) they are \[2. 1. 1.\]"):
        HiddenMarkov(np.array([2, 1, 1]), TRANSITION, normals(), 4)
    # Narrow rows sum to 1 as closely as their dtype has it, and logits to anything.
    HiddenMarkov(INITIAL, jnp.asarray(TRANSITION, jnp.bfloat16), normals(), 4)
    HiddenMarkov(INITIAL, lx.Categorical(logits=turned), normals(), 4)
    made = jax.jit(lambda p: HiddenMarkov(INITIAL, p, normals(), 4))
    made(turned)  # traced, it is looked at on request
    with lx.debug_checks(), pytest.raises(jax.errors.JaxRuntimeError, match="summing to 1"):
        made(turned)
        jax.effects_barrier()


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    make, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        make()


def test_labels_are_integers():
    hmm = HiddenMarkov(INITIAL, TRANSITION, lx.Categorical(logits=np.zeros((3, 2))), 2)
    with pytest.raises(TypeError, match="whole numbers"):
        hmm.log_prob(np.zeros(2))
