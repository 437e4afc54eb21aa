"""Parallel tempering against exact sums, with the error that its chains have."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from scipy.special import expit

import likelax as lx
from likelax import energy
from likelax.energy import RBM, Energy, tempering
from likelax.energy.annealing import Interpolation
from likelax.testing.subject import quick_jit

KEY = jax.random.key(5)
RNG = np.random.default_rng(6)
CHAINS, ROUNDS, GROUP = 400, 20, 20
BETAS = jnp.asarray([0.0, 0.35, 0.7, 1.0])


def array(*shape, scale=1.0):
    return jnp.asarray(scale * RNG.normal(size=shape), jnp.float32)


# Far modes, which the chains at temperature 1 alone hardly leave.
RB = RBM(array(5, 3, scale=3.0), array(5), array(3))
# No couplings: each round is independent of the one before.
FREE = RBM(jnp.zeros((3, 2)), array(3), array(2))
PRECISION = np.array([[2.0, 0.6], [0.6, 0.5]])
GAUSS = Energy(lambda x: 0.5 * jnp.einsum("ni,ij,nj->n", x - 1, PRECISION, x - 1), 2).density({})
GAUSSIAN = {
    "base": lx.Normal(jnp.zeros(2), 2.0).to_event(),
    "kernel": lx.samplers.HMC(0.2, 3),
    "betas": 2,
}


@pytest.fixture(scope="module")
def found():
    """All estimates, in one program; `wrong` swaps with the sign of the ratio turned."""
    right = tempering.log_swap_ratio

    @quick_jit
    def ask(rbm, free):
        options = {"num_chains": CHAINS, "rounds": ROUNDS}
        path = Interpolation(rbm.independent(), rbm, 1)
        run = functools.partial(
            tempering.climb.__wrapped__, path, KEY, BETAS, CHAINS, ROUNDS, 10, True
        )
        x, up, down = run()
        groups = [x.reshape((ROUNDS, 3, CHAINS // GROUP, GROUP)) for x in (up, down)]
        grouped = jax.vmap(lambda up, down: tempering.estimated(path, up, down)[:2], (2, 2))
        tempering.log_swap_ratio = lambda up, down: -right(up, down)
        wrong, *changes = run()
        tempering.log_swap_ratio = right
        method = {"method": "tempering", "betas": BETAS, "base": free.independent(jnp.zeros(3))}
        return {
            "log_z": {
                "rbm": tempering.estimated(path, up, down),
                "free": energy.log_partition(free, KEY, **method, **options),
            },
            "gauss": energy.parallel_tempering(GAUSS, KEY, burn_in=200, **GAUSSIAN, **options),
            "exact": {n: energy.log_partition(m).log_z for n, m in (("rbm", rbm), ("free", free))},
            "groups": grouped(*groups),
            "x": {"right": x, "wrong": wrong},
            "wrong": tempering.estimated(path, *changes),
            "changes": (up, down, tempering.bennett(up, down)[0]),
        }

    try:
        out = ask(RB, FREE)
    finally:
        tempering.log_swap_ratio = right
    out["log_z"]["rbm"] = energy.LogPartition(*out["log_z"]["rbm"], out["log_z"]["free"].claim)
    out["log_z"]["gauss"] = out["gauss"].log_partition
    out["exact"]["gauss"] = np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(PRECISION)[1]
    return out


def assert_within_error(log_z, error, exact):
    z = (log_z - exact) / error
    assert abs(z) < 4, f"{log_z} is {z} standard errors from {exact}"


@pytest.mark.parametrize("name", ["rbm", "gauss", "free"])
def test_log_z_is_within_its_error(found, name):
    result = found["log_z"][name]
    assert_within_error(result.log_z, result.standard_error, found["exact"][name])
    assert 0 < result.standard_error < 0.1 and result.log_weights.shape == (CHAINS,)
    assert result.claim == lx.Claim("estimate", unbiased=False, vanishes="num_rounds")


def states():
    return np.array(list(np.ndindex(*(2,) * 5)), np.float32)


def assert_samples_of_the_rbm(samples):
    """The means of all units and of pairs of them, over chains, against sums over every state."""
    x = states()
    log_p = np.asarray(RB.unnormalized_log_prob(x), np.float64)
    p = np.exp(log_p - np.logaddexp.reduce(log_p))
    pairs = np.triu_indices(5)
    want = p @ (x[:, pairs[0]] * x[:, pairs[1]])
    each = np.mean(samples[..., pairs[0]] * samples[..., pairs[1]], 0)
    z = (each.mean(0) - want) / (each.std(0) / np.sqrt(CHAINS))
    assert np.max(np.abs(z)) < 4, f"{np.max(np.abs(z))} standard errors"


def test_samples_have_the_model_as_their_law(found):
    assert_samples_of_the_rbm(np.asarray(found["x"]["right"]))
    tempered = found["gauss"]
    assert tempered.samples.shape == (ROUNDS, CHAINS, 2)
    mean = np.mean(tempered.samples, 0)
    assert np.all(np.abs(mean.mean(0) - 1) < 4 * mean.std(0) / np.sqrt(CHAINS))
    assert np.all((tempered.swap_rate > 0.1) & (tempered.swap_rate < 1))


def test_swaps_of_the_wrong_sign_are_caught(found):
    log_z, error, *_ = found["wrong"]
    with pytest.raises(AssertionError, match="standard errors from"):
        assert_within_error(log_z, error, found["exact"]["rbm"])
    with pytest.raises(AssertionError, match="standard errors"):
        assert_samples_of_the_rbm(np.asarray(found["x"]["wrong"]))


def test_the_error_bar_is_that_of_other_ladders(found):
    estimates, errors = map(np.asarray, found["groups"])
    assert abs(estimates.std(ddof=1) / errors.mean() - 1) < 4 / np.sqrt(2 * len(errors))
    whole = found["log_z"]["rbm"].standard_error
    np.testing.assert_allclose(errors.mean() / np.sqrt(len(errors)), whole, rtol=0.15)


def test_rounds_count_as_far_as_they_are_independent(found):
    rounds = ROUNDS * CHAINS
    sizes = {n: float(r.effective_samples) / rounds for n, r in found["log_z"].items()}
    bound = 4 * np.sqrt(2 / CHAINS)
    assert abs(sizes["free"] - 1) < bound
    # An error that takes rounds to be independent is too small where they are not.
    assert sizes["gauss"] < 1 - bound


def test_ratios_solve_bennetts_equation(found):
    up, down, total = (np.asarray(x, np.float64) for x in found["changes"])

    def excess(c, k):
        return expit(up[:, k] - c).mean() - expit(c - down[:, k]).mean()

    roots = [scipy.optimize.brentq(excess, -50, 50, (k,), xtol=1e-12) for k in range(3)]
    np.testing.assert_allclose(total, np.sum(roots), rtol=1e-5)
    # The control: a mean of the forward ratios alone is another number.
    assert abs(np.sum(np.log(np.exp(up).mean((0, 2)))) - np.sum(roots)) > 1e-3


ERRORS = {
    "temperatures that do not increase": (
        lambda: energy.parallel_tempering(RB, KEY, betas=[0, 0.5, 0.5, 1]),
        ValueError,
        "increase from 0 to 1, got 0.5 before 0.5",
    ),
    "no rounds": (
        lambda: energy.log_partition(RB, KEY, method="tempering", rounds=0),
        ValueError,
        "rounds is a whole number >= 1",
    ),
    "no chains": (
        lambda: energy.parallel_tempering(RB, KEY, num_chains=0),
        ValueError,
        "num_chains is a whole",
    ),
    "no kernel": (
        lambda: energy.parallel_tempering(GAUSS, KEY, base=GAUSSIAN["base"]),
        TypeError,
        "kernel=lx.samplers",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_to_write(name):
    call, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()
