"""Sums, maxima and draws over the paths of a chain, against all its paths listed."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from likelax.numerics import semiring

STEPS, STATES = 4, 3
PATHS = np.array(list(itertools.product(range(STATES), repeat=STEPS)), np.int32)
STARTS = PATHS[:, :1] == np.arange(STATES)
MOVES = (PATHS[:, :-1, None, None] == np.arange(STATES)[:, None]) & (
    PATHS[:, 1:, None, None] == np.arange(STATES)
)  # (paths, STEPS - 1, i, j)


def chain(seed=0, zeros=False):
    """A chain of unlike steps, some of them ruled out."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=STATES)
    steps = rng.normal(size=(STEPS - 1, STATES, STATES)) * 2
    if zeros:
        first[1] = -np.inf
        steps[:, 0, 2] = steps[1, 2, :2] = -np.inf
    return first, steps


def scores(first, steps):
    """The score of every path, `(K^T,)`."""
    moved = steps[np.arange(STEPS - 1), PATHS[:, :-1], PATHS[:, 1:]]
    return first[PATHS[:, 0]] + moved.sum(axis=-1)


def log_z(first, steps):
    return scipy.special.logsumexp(scores(first, steps))


def listed(first, steps):
    """The probability of every path."""
    return scipy.special.softmax(scores(first, steps))


def expected(p, counts):
    return np.tensordot(p, counts, 1)


def close(got, want, tolerance=1e-10):
    if isinstance(want, list):
        want = np.asarray(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@jax.jit
def value_and_gradient(first, steps):
    return jax.value_and_grad(semiring.log_normalizer, (0, 1))(first, steps)


@pytest.mark.parametrize("zeros", [False, True])
def test_log_normalizer_and_its_gradients(zeros):
    """The gradient is the expected count of each state and each step."""
    with jax.enable_x64(True):
        arrays = chain(zeros=zeros)
        p = listed(*arrays)
        value, gradient = value_and_gradient(*arrays)
        close((value, gradient), (log_z(*arrays), (expected(p, STARTS), expected(p, MOVES))))


def test_second_derivatives():
    """The covariance of the counts, along one direction."""
    with jax.enable_x64(True):
        arrays = chain(zeros=True)
        rng = np.random.default_rng(9)
        d_first, d_steps = rng.normal(size=STATES), rng.normal(size=(STEPS - 1, STATES, STATES))
        _, (_, change) = jax.jvp(value_and_gradient, arrays, (d_first, d_steps))
        p = listed(*arrays)
        along = scores(d_first, d_steps)
        weight = p * (along - p @ along)
        close(change, (expected(weight, STARTS), expected(weight, MOVES)))


BROKEN = {
    "a step backwards": lambda f, s: semiring.log_normalizer(f, jnp.swapaxes(s, -1, -2)),
    "the best path for the sum": lambda f, s: jnp.max(
        semiring.forward(f, s, semiring.max_matmul)[0][-1]
        + semiring.forward(f, s, semiring.max_matmul)[1][-1]
    ),
    "messages without their scale": lambda f, s: jax.nn.logsumexp(semiring.forward(f, s)[0][-1]),
    "the first twice": lambda f, s: semiring.log_normalizer(2 * f, s),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_seen(name):
    with jax.enable_x64(True):
        arrays = chain()
        assert abs(BROKEN[name](*map(jnp.asarray, arrays)) - log_z(*arrays)) > 1e-3


@pytest.mark.parametrize("zeros", [False, True])
def test_marginals_paths_and_entropy(zeros):
    with jax.enable_x64(True):
        arrays = first, steps = chain(seed=1, zeros=zeros)
        p = listed(*arrays)
        states = jax.nn.softmax(semiring.marginals(*map(jnp.asarray, arrays)))
        close(states, [[p[PATHS[:, t] == k].sum() for k in range(STATES)] for t in range(STEPS)])
        best = semiring.best_path(*map(jnp.asarray, arrays))
        np.testing.assert_array_equal(best, PATHS[np.argmax(p)])
        assert best.dtype == jnp.int32
        close(semiring.path_score(first, steps, jnp.asarray(PATHS)), scores(*arrays))
        log_p = semiring.log_prob(first, steps, jnp.asarray(PATHS))
        close(np.exp(log_p), p)
        close(semiring.entropy(first, steps), -np.sum(p[p > 0] * np.log(p[p > 0])))


def test_the_gradient_of_a_path_is_its_counts_less_those_expected():
    with jax.enable_x64(True):
        arrays = chain(seed=2)
        got = jax.jit(jax.grad(semiring.log_prob, (0, 1)))(*arrays, PATHS[41])
        p = listed(*arrays)
        close(got, (STARTS[41] - expected(p, STARTS), MOVES[41] - expected(p, MOVES)))


def test_of_equal_paths_the_best_is_one_path():
    """Where each state's own maximum is taken, a tie gives a mixture of the two, which is ruled out."""
    first = jnp.zeros(2)
    steps = jnp.where(jnp.eye(2) == 1, 0.0, -jnp.inf)[None].repeat(3, 0)
    np.testing.assert_array_equal(semiring.best_path(first, steps), [0, 0, 0, 0])
    steps = steps.at[2].set(jnp.array([[-jnp.inf, -1.0], [-1.0, -jnp.inf]]))
    np.testing.assert_array_equal(semiring.best_path(first, steps), [0, 0, 0, 1])


def test_samples_are_those_of_the_paths():
    arrays = chain(seed=3, zeros=True)
    count, p = 4000, listed(*arrays)
    markov = semiring.conditionals(*map(jnp.float32, arrays))
    paths = np.asarray(semiring.sample_path(jax.random.key(2), *markov, shape=(count,)))
    index = paths @ STATES ** np.arange(STEPS)[::-1]
    frequency = np.bincount(index, minlength=len(PATHS)) / count
    assert np.all(np.abs(frequency - p) <= 4 * np.sqrt(p * (1 - p) / count) + 1e-6)


def test_batches_broadcast():
    with jax.enable_x64(True):
        chains = [chain(seed) for seed in range(2)]
        first, steps = (np.stack(arrays) for arrays in zip(*chains, strict=True))
        got = semiring.log_normalizer(first[:, None], steps)
        close(got, [[log_z(f, s) for s in steps] for f in first])
        paths = semiring.best_path(first[:, None], steps)
        best = [[PATHS[np.argmax(scores(f, s))] for s in steps] for f in first]
        np.testing.assert_array_equal(paths, best)
        score = semiring.path_score(first[:, None], steps, paths)
        close(score, [[scores(f, s).max() for s in steps] for f in first])
        _, mapped = jax.vmap(value_and_gradient)(first, steps)
        close(mapped[1], [expected(listed(*c), MOVES) for c in chains])


def test_one_step():
    first, none = np.float32([0.5, -1.0, 2.0]), np.zeros((0, 3, 3), np.float32)
    want = scipy.special.logsumexp(first)
    np.testing.assert_allclose(semiring.log_normalizer(first, none), want, rtol=1e-6)
    np.testing.assert_array_equal(semiring.best_path(first, none), [2])
    assert semiring.sample_path(jax.random.key(0), first, none, shape=(5,)).shape == (5, 1)


def test_no_possible_path():
    first, steps = jnp.array([0.5, -jnp.inf]), jnp.array([[[-jnp.inf, -jnp.inf], [1.0, 2.0]]])
    value, gradient = jax.value_and_grad(semiring.log_normalizer, (0, 1))(first, steps)
    assert value == -jnp.inf
    for leaf in gradient:
        np.testing.assert_array_equal(leaf, 0)


def test_what_is_infinite_or_not_a_number():
    first, steps = map(jnp.float32, chain())
    assert semiring.log_normalizer(first.at[1].set(jnp.inf), steps) == jnp.inf
    assert jnp.isnan(semiring.log_normalizer(first, steps.at[1, 0, 2].set(jnp.nan)))
    # Zero times infinity: what has no way in adds nothing.
    shut = steps.at[0, :, 1].set(-jnp.inf).at[1, 1].set(jnp.inf)
    finite = steps.at[0, :, 1].set(-jnp.inf).at[1, 1].set(0.0)
    want = semiring.log_normalizer(first, finite)
    np.testing.assert_allclose(semiring.log_normalizer(first, shut), want, rtol=1e-6)


def long_chain():
    """2000 steps of few bits, so that float32 has the same chain, and a probable path."""
    rng = np.random.default_rng(5)
    likely = rng.integers(4, size=2000).astype(np.int32)
    unary = rng.normal(size=(2000, 4)) - 7
    unary[np.arange(2000), likely] += 12
    steps = rng.normal(size=(4, 4)) + unary[1:, None, :]
    return np.round(unary[0] * 16) / 16, np.round(steps * 16) / 16, likely


def step_by_step(first, steps, dtype):
    """log Z, and the probability of each state at each step, one step after another."""
    first, steps = first.astype(dtype), steps.astype(dtype)
    alpha, beta = [first], [np.zeros_like(first)]
    for forth, back in zip(steps, steps[::-1], strict=True):
        alpha.append(np.logaddexp.reduce(alpha[-1][:, None] + forth, axis=0))
        beta.append(np.logaddexp.reduce(back + beta[-1], axis=1))
    log_z = np.logaddexp.reduce(alpha[-1])
    return log_z, np.exp(np.array(alpha) + np.array(beta)[::-1] - log_z)


@pytest.mark.slow
def test_two_thousand_steps_in_float32():
    first, steps, path = long_chain()
    score = first[path[0]] + steps[np.arange(1999), path[:-1], path[1:]].sum()
    log_z, states = step_by_step(first, steps, np.float64)
    both = jax.jit(jax.value_and_grad(semiring.log_prob, 1))
    got, gradient = both(jnp.float32(first), jnp.float32(steps), path)
    np.testing.assert_allclose(got, score - log_z, rtol=1e-4)
    counts = (path[1:, None] == np.arange(4)) - states[1:]
    np.testing.assert_allclose(gradient.sum(axis=-2), counts, atol=2e-6)
    # The control: one step after another in float32, and two long sums subtracted.
    plain, plain_states = step_by_step(first, steps, np.float32)
    assert abs((np.float32(score) - plain) / (score - log_z) - 1) > 1e-3
    assert abs(plain_states - states).max() > 1e-4
