"""Samplers against stationary laws in closed form and enumerated transition matrices."""

import itertools
import types
from typing import NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from likelax import samplers
from likelax.samplers import HMC, Blackjax, GibbsWithGradients, Langevin, PersistentChains
from likelax.samplers.base import accepted, at
from likelax.testing.subject import quick_jit

KEY = jax.random.key(5)
LOC, STD = np.array([1.0, -2.0]), np.array([0.7, 1.6])
CHAINS = 8000


def gaussian(x):
    return -0.5 * jnp.sum(((x - LOC) / STD) ** 2, axis=-1)


def assert_stationary(x, variance):
    """Independent draws have the mean and the variance within 4 standard errors."""
    n = len(x)
    errors = {
        "mean": (x.mean(0) - LOC) / np.sqrt(variance / n),
        "variance": (x.var(0) / variance - 1) / np.sqrt(2 / n),
    }
    for name, z in errors.items():
        assert np.all(abs(z) < 4), f"the {name} is off by {z} standard errors"


def hole(x):
    return jnp.where(x[:, 0] > 0, jnp.nan, -0.5 * jnp.sum(x**2, -1))


class HalfNoise(Langevin):
    """Its noise is sqrt(h) where it should be sqrt(2 h)."""

    def step(self, log_density, key, state):
        noise = jnp.sqrt(self.step_size) * jax.random.normal(key, state.x.shape)
        new = at(log_density, state.x + self.step_size * state.gradient + noise)
        return new, jnp.ones(len(state.x))


class Massless(HMC):
    """It forgets the kinetic energy."""

    def step(self, log_density, key, state):
        new, _ = self._leapfrog(log_density, state, jax.random.normal(key, state.x.shape))
        return accepted(key, new.log_density - state.log_density, new, state)


class Unbalanced(Langevin):
    """It forgets that forth and back are not alike."""

    def step(self, log_density, key, state):
        new, _ = Langevin(self.step_size).step(log_density, key, state)
        return accepted(key, new.log_density - state.log_density, new, state)


H = 0.3
KERNELS = {
    "unadjusted": (Langevin(H), STD**2 / (1 - H / (2 * STD**2))),
    "cold": (Langevin(H, temperature=0.25), 0.25 * STD**2 / (1 - H / (2 * STD**2))),
    "adjusted": (Langevin(H, adjusted=True), STD**2),
    "cold and adjusted": (Langevin(H, adjusted=True, temperature=0.25), 0.25 * STD**2),
    "HMC": (HMC(0.45, 3), STD**2),
}
BROKEN = {
    "half the noise": (HalfNoise(H), KERNELS["unadjusted"][1]),
    "the unadjusted one is biased": (Langevin(H), STD**2),
    "no kinetic energy": (Massless(0.45, 3), STD**2),
    "no correction": (Unbalanced(H), STD**2),
}


@pytest.fixture(scope="module")
def ends():
    """Where each kernel's chains are after 30 steps from the target itself."""
    every = KERNELS | BROKEN

    @quick_jit
    def run():
        start = LOC + STD * jax.random.normal(KEY, (CHAINS, 2))
        out = {}
        for name, (kernel, _) in every.items():
            state = kernel.init(gaussian, start)
            state, acceptance = samplers.advance(kernel, gaussian, KEY, state, 30)
            out[name] = state.x, jnp.mean(acceptance)
        state = HMC(0.5, 2).init(hole, jnp.full((8, 1), -0.1))
        state, acceptance = samplers.advance(HMC(0.5, 2), hole, KEY, state, 10)
        out["hole"] = state.x, acceptance
        return out

    return jax.tree.map(np.asarray, run())


@pytest.mark.parametrize("name", KERNELS)
def test_chains_have_the_stationary_law(ends, name):
    assert_stationary(ends[name][0], KERNELS[name][1])
    assert (ends[name][1] == 1) == ("adjusted" not in name.split() and name != "HMC")


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_kernel_is_caught(ends, name):
    with pytest.raises(AssertionError, match="standard errors"):
        assert_stationary(ends[name][0], BROKEN[name][1])


# Gibbs with gradients: every state of a small model, and its transition matrix.

COUPLING = np.array([[0.0, 0.9, -0.4], [0.0, 0.0, 1.3], [0.0, 0.0, 0.0]])
FIELD = np.array([0.2, -0.7, 0.5])
TABLE = np.array([[0.4, -0.3, 1.1], [0.9, 0.0, -1.2], [-0.5, 0.8, 0.3]])


def bits(x):
    return jnp.sum((x @ COUPLING) * x, -1) + x @ FIELD + 0.8 * jnp.prod(x, -1)


def pair(x):
    return jnp.einsum("ni,ij,nj->n", x[:, 0], TABLE, x[:, 1]) ** 2 + x[:, 0] @ FIELD


BITS = np.array(list(itertools.product([0.0, 1.0], repeat=3)))
PAIRS = np.array([np.eye(3)[list(ij)] for ij in itertools.product(range(3), repeat=2)])
DISCRETE = {
    "bits": (GibbsWithGradients(), bits, BITS),
    "categories": (GibbsWithGradients(one_hot=True), pair, PAIRS),
}


def transition(log_p, gradient, states):
    """The matrix P(i -> j) of the paper: proposals between states that differ in one variable."""
    n = len(states)
    d = np.full((n, n), -np.inf)
    for i, j in itertools.permutations(range(n), 2):
        differ = np.abs(states[j] - states[i])
        variables = differ.reshape(len(differ), -1).any(1).sum()
        if variables == 1:
            d[i, j] = np.sum(gradient[i] * (states[j] - states[i])) / 2
    q = np.exp(d) / np.exp(d).sum(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.exp(log_p[None] - log_p[:, None]) * q.T / q
        matrix = np.where(q > 0, q * np.minimum(1, ratio), 0)
    return matrix + np.diag(1 - matrix.sum(1))


@pytest.fixture(scope="module")
def flips():
    """From each state 4,000 chains, after one step; the log-density and the gradient there."""

    @quick_jit
    def run():
        out = {}
        for name, (kernel, density, states) in DISCRETE.items():
            start = jnp.repeat(jnp.asarray(states, jnp.float32), 4000, axis=0)
            state = kernel.init(density, start)
            out[name] = kernel.step(density, KEY, state)[0].x, state.log_density, state.gradient
        return out

    return jax.tree.map(np.asarray, run())


@pytest.mark.parametrize("name", DISCRETE)
def test_gibbs_with_gradients_has_detailed_balance(flips, name):
    states = DISCRETE[name][2]
    x, log_p, gradient = flips[name]
    n = len(states)
    log_p, gradient = log_p[::4000], gradient[::4000]
    matrix = transition(log_p, gradient, states)
    p = np.exp(log_p - log_p.max())
    flow = p[:, None] * matrix
    np.testing.assert_allclose(flow, flow.T, rtol=1e-5, atol=1e-12)
    same = (x.reshape(n, 4000, 1, -1) == states.reshape(n, -1)).all(-1)
    error = np.sqrt(matrix * (1 - matrix) / 4000) + 1e-9
    assert np.all(abs(same.mean(1) - matrix) < 4.5 * error)
    # The control: without the correction for the way back it is another matrix.
    naive = transition(log_p, np.zeros_like(gradient), states)
    assert np.any(abs(same.mean(1) - naive) > 10 * error)


def test_run_keeps_what_is_asked_for():
    start = jnp.zeros((3, 2))
    run = lambda **options: samplers.run(HMC(0.4, 2), gaussian, KEY, start, 4, **options)  # noqa: E731
    every, second = run(), run(thin=2)
    assert every.samples.shape == (4, 3, 2) and every.acceptance.shape == (3,)
    np.testing.assert_allclose(second.samples, every.samples[1::2], rtol=1e-6)
    np.testing.assert_array_equal(every.state.x, every.samples[-1])


def test_a_proposal_without_a_density_is_rejected_and_seen(ends):
    x, acceptance = ends["hole"]
    assert np.all(x <= 0) and np.any(np.isnan(acceptance))


class Walk(NamedTuple):
    """What blackjax's states and infos look like."""

    position: jax.Array
    acceptance_rate: jax.Array


def test_blackjax_algorithms_run_as_kernels():
    """By a stand-in with blackjax's interface."""

    def make(log_density):
        def step(key, walk):
            x = walk.position + 0.1 + 0 * log_density(walk.position)
            new = Walk(x, jnp.exp(-jnp.sum(x)))
            return new, new

        return types.SimpleNamespace(init=lambda x: Walk(x, jnp.ones(())), step=step)

    out = samplers.run(Blackjax(make), gaussian, KEY, jnp.zeros((4, 2)), 3)
    np.testing.assert_allclose(out.samples[:, 0, 0], [0.1, 0.2, 0.3], rtol=1e-6)
    np.testing.assert_allclose(out.acceptance, np.exp([-0.2, -0.4, -0.6]).mean(), rtol=1e-6)


def test_blackjax_itself():
    def make(log_density):
        return blackjax.hmc(
            log_density,
            step_size=0.45,
            inverse_mass_matrix=jnp.ones(2),
            num_integration_steps=3,
        )

    start = LOC + STD * jax.random.normal(KEY, (4000, 2))
    out = samplers.run(Blackjax(make), gaussian, KEY, start, 20, thin=20)
    assert_stationary(np.asarray(out.samples[0]), STD**2)


# Persistent chains.


def test_persistent_chains_go_on_or_start_anew():
    chains = PersistentChains(jnp.arange(20.0).reshape(10, 2), restart_prob=0.4)
    many = PersistentChains(jnp.zeros((10_000, 1)), restart_prob=0.05)

    @quick_jit
    def use(chains, many):
        fresh = lambda key, n: jnp.full((n, 2), 7.0)  # noqa: E731
        drawn = chains.draw(KEY, 6, fresh)
        moved = chains.put(drawn, drawn.x + 100, 5)
        again = moved.draw(jax.random.fold_in(KEY, 1), 10, fresh)
        rate = many.draw(KEY, 10_000, lambda key, n: jnp.ones((n, 1))).x.mean()
        return drawn, moved, again, rate

    drawn, moved, again, rate = jax.tree.map(np.asarray, use(chains, many))
    assert len(set(drawn.slot.tolist())) == 6
    new = drawn.x[:, 0] == 7
    kept = drawn.slot[~new]
    assert 0 < new.sum() < 6
    np.testing.assert_array_equal(moved.x[kept], np.asarray(chains.x)[kept] + 100)
    np.testing.assert_array_equal(moved.x[drawn.slot[new]], 107)
    assert moved.age.sum() == 30 and moved.restart_prob == 0.4
    np.testing.assert_array_equal(again.slot, np.arange(10))
    np.testing.assert_array_equal(again.age[again.x[:, 0] == 7], 0)
    assert abs(rate - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 10_000)


ONE = jnp.zeros((1, 2))
ERRORS = {
    "a negative step": (lambda: Langevin(-0.1), "step_size is positive"),
    "no leapfrog steps": (lambda: HMC(0.1, 0), "num_steps is a whole number"),
    "no kernel": (lambda: samplers.run(HMC, gaussian, KEY, ONE, 2), "a kernel wanted"),
    "no chains": (
        lambda: samplers.run(HMC(0.1, 1), gaussian, KEY, ONE[:0], 2),
        "at least one chain",
    ),
    "a density of one value": (
        lambda: samplers.run(HMC(0.1, 1), lambda x: -jnp.sum(x**2), KEY, ONE, 2),
        r"write jax.vmap\(log_density\)",
    ),
    "steps and thin": (
        lambda: samplers.run(HMC(0.1, 1), gaussian, KEY, ONE, 5, thin=2),
        "a multiple of thin",
    ),
    "whole numbers": (
        lambda: samplers.run(GibbsWithGradients(), bits, KEY, jnp.zeros((2, 3), int), 1),
        "write x.astype",
    ),
    "no buffer": (lambda: PersistentChains(ONE[:0]), "at least one chain"),
    "a wrong probability": (lambda: PersistentChains(ONE, restart_prob=5), "is a probability"),
    "ages that do not fit": (lambda: PersistentChains(ONE, jnp.zeros(3)), "one age for each"),
    "too many": (lambda: PersistentChains(ONE).draw(KEY, 2), "from 1 to 1"),
    "one start for all": (
        lambda: PersistentChains(jnp.zeros((3, 2)), restart_prob=0.5).draw(
            KEY, 3, fresh=lambda key, count: jnp.ones((1, 2))
        ),
        r"fresh\(key, count\) has one row for each chain that was drawn, shape \(3, 2\), got \(1, 2\)",
    ),
    "chains of another shape": (
        lambda: PersistentChains(ONE).put(PersistentChains(ONE).draw(KEY, 1), ONE[0], 1),
        "PersistentChains: x has one row for each chain",
    ),
    "restarts from nowhere": (
        lambda: PersistentChains(ONE, restart_prob=0.5).draw(KEY, 1),
        "nothing says where",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_to_write(name):
    call, message = ERRORS[name]
    with pytest.raises((TypeError, ValueError), match=message):
        call()
