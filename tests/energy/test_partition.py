"""log Z by annealing against its exact value: from both sides, with its error, and without bias in Z."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import likelax as lx
from likelax import energy
from likelax.energy import RBM, BoltzmannMachine, Energy, GaussianRBM
from likelax.energy.annealing import Interpolation
from likelax.energy.partition import _annealed, _mean
from likelax.testing.subject import quick_jit

KEY = jax.random.key(11)
RNG = np.random.default_rng(4)
CHAINS, GROUPS, BETAS = 4000, (25, 100), jnp.asarray([0.0, 0.3, 0.7, 1.0])


def array(*shape, scale=1.0):
    return jnp.asarray(scale * RNG.normal(size=shape), jnp.float32)


RB = RBM(array(6, 4, scale=1.2), array(6), array(4))
ISING = BoltzmannMachine.lattice((3, 3), coupling=0.4, field=array(9, scale=0.3))
SMALL = RBM(array(3, 2), array(3), array(2))
PRECISION = np.array([[2.0, 0.6], [0.6, 0.5]])
MIXTURE = GaussianRBM(array(2, 2), array(2), array(2), jnp.asarray([0.6, 1.7]))
QUADRATIC = Energy(lambda x: 0.5 * jnp.einsum("ni,ij,nj->n", x - 1, PRECISION, x - 1), 2)
GAUSS = {
    "base": lx.Normal(jnp.zeros(2), 2.0).to_event(),
    "kernel": lx.samplers.HMC(0.4, 3),
    "betas": 8,
}


@pytest.fixture(scope="module")
def found():
    """All estimates, in one program."""

    @quick_jit
    def ask(rbm, ising, small):
        ais = functools.partial(energy.log_partition, method="ais", num_chains=CHAINS)
        few = {"betas": BETAS}
        values = jnp.asarray(np.array(list(np.ndindex(2, 2, 2)), np.float32))
        samples = energy.exact_samples(ising, KEY, CHAINS)
        back = energy.reverse_log_partition(ising, KEY, samples, **few)
        gauss = ais(QUADRATIC.density({}), KEY, **GAUSS)
        path = Interpolation(rbm.independent(), rbm, 1)
        return {
            "exact": {
                n: energy.log_partition(m).log_z
                for n, m in (("rbm", rbm), ("ising", ising), ("mixture", MIXTURE))
            },
            "rbm": energy.bracket(rbm, KEY, num_chains=CHAINS, **few),
            "ising": (ais(ising, KEY, **few), back),
            "gauss": (gauss,),
            "mixture": (ais(MIXTURE, KEY, **few),),
            "groups": [_mean(gauss.log_weights.reshape((-1, n)))[:2] for n in GROUPS],
            "smc": energy.log_partition(rbm, KEY, method="smc", num_chains=200, betas=12),
            "raise": energy.raise_log_prob(small, KEY, values, num_chains=1000, **few)[:2],
            "small": small.unnormalized_log_prob(values) - small.independent()._independent_log_z(),
            "base": path.log_z(),
            "wrong way": _mean(_annealed(path, KEY, BETAS[::-1], CHAINS)),
        }

    out = ask(RB, ISING, SMALL)
    out["exact"]["gauss"] = np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(PRECISION)[1]
    return out


def assert_within_error(result, log_z):
    z = (result.log_z - log_z) / result.standard_error
    assert abs(z) < 4, f"{result.log_z} is {z} standard errors from {log_z}"


@pytest.mark.parametrize("name", ["rbm", "ising", "gauss", "mixture"])
def test_z_is_estimated_without_bias(found, name):
    for side in found[name]:
        assert_within_error(side, found["exact"][name])
        assert 0.02 * CHAINS < side.effective_samples < CHAINS


@pytest.mark.parametrize("name", ["rbm", "ising", "gauss", "mixture"])
def test_log_z_is_bracketed_in_expectation(found, name):
    """Single chains, where the bias is largest: below going up, above going down."""
    for side, sign, claim in zip(found[name], (1, -1), ("lower", "upper"), strict=False):
        gap = sign * (found["exact"][name] - np.asarray(side.log_weights))
        assert gap.mean() > 4 * gap.std() / np.sqrt(CHAINS)
        # Those of the Ising model were not said to be exact.
        assert side.claim.relation == ("estimate" if (name, sign) == ("ising", -1) else claim)


@pytest.mark.parametrize("which", range(len(GROUPS)))
def test_the_error_bar_is_that_of_other_runs(found, which):
    """Over 4000 / n groups of n chains; it shrinks as 1 / sqrt(n)."""
    estimates, errors = map(np.asarray, found["groups"][which])
    assert abs(estimates.std() / errors.mean() - 1) < 4 / np.sqrt(2 * len(errors))
    single = found["gauss"][0].standard_error * np.sqrt(CHAINS)
    np.testing.assert_allclose(errors.mean() * np.sqrt(GROUPS[which]), single, rtol=0.1)


def broken(found, name):
    """The forward estimate of the RBM's log Z, with an error in it."""
    whole = found["rbm"].lower
    if name == "no base":
        return dataclasses.replace(whole, log_z=whole.log_z - found["base"])
    return energy.LogPartition(*found["wrong way"], whole.log_weights, whole.claim)


@pytest.mark.parametrize("name", ["no base", "the wrong way"])
def test_broken_annealing_is_caught(found, name):
    with pytest.raises(AssertionError, match="standard errors from"):
        assert_within_error(broken(found, name), found["exact"]["rbm"])


def test_smc_agrees(found):
    assert_within_error(found["smc"], found["exact"]["rbm"])
    assert found["smc"].log_weights.shape == (10,) and found["smc"].standard_error < 0.1


def test_raise_is_a_distribution_on_average(found):
    """exp of it is an unbiased estimate of a probability, so that the sum over all values is 1."""
    log_prob, error = found["raise"]
    p = np.exp(log_prob)
    spread = np.sqrt(np.sum((p * np.asarray(error)) ** 2))
    assert abs(p.sum() - 1) < 4 * spread < 0.1
    # The control: without the weights of the chains they do not sum to 1.
    assert abs(np.exp(found["small"]).sum() - 1) > 10 * spread


def test_a_density_is_normalised_with_the_claim_of_its_log_z(found):
    upper = found["rbm"].upper
    known = RB.normalize(upper)
    x = jnp.asarray([[0.0, 1.0, 1.0, 0.0, 1.0, 0.0]])
    want = RB.unnormalized_log_prob(x) - upper.log_z
    np.testing.assert_allclose(known.log_prob(x), want, rtol=1e-6)
    np.testing.assert_array_equal(known.log_prob(x + 0.5), -np.inf)
    assert known.claim == upper.claim and known.claim.relation == "upper"
    held_out = known.evaluate(jnp.concatenate([x, 1 - x]))
    log_prob = np.asarray(known.log_prob(jnp.concatenate([x, 1 - x])))
    np.testing.assert_allclose(held_out.loss, -log_prob.mean(), rtol=1e-6)
    error = np.hypot(abs(log_prob[0] - log_prob[1]) / 2, upper.standard_error)
    np.testing.assert_allclose(held_out.standard_error, error, rtol=1e-5)
    assert str(lx.bits_per_dim(held_out)).endswith(
        "bits per dimension (upper bound, closing with num_temperatures)"
    )
    assert RB.normalize(2.0).claim.relation == "estimate"
    assert "upper bound" in str(upper)


DENSITY = QUADRATIC.density({})
ais = functools.partial(energy.log_partition, method="ais")
ERRORS = {
    "zero chains": (lambda: ais(SMALL, KEY, num_chains=0), ValueError, "num_chains is a whole"),
    "no samples": (
        lambda: energy.reverse_log_partition(SMALL, KEY, jnp.zeros((0, 3))),
        ValueError,
        "num_chains is a whole",
    ),
    "temperatures that do not increase": (
        lambda: ais(SMALL, KEY, betas=[0, 0.5, 0.4, 1]),
        ValueError,
        "increase from 0 to 1, got 0.5 before 0.4",
    ),
    "the wrong way": (lambda: ais(SMALL, KEY, betas=[1, 0.5, 0]), ValueError, "from 0 to 1"),
    "no key": (lambda: ais(SMALL), TypeError, "a random key wanted"),
    "no such method": (
        lambda: energy.log_partition(SMALL, KEY, method="reverse"),
        ValueError,
        "reverse_log_partition",
    ),
    "an Energy": (lambda: ais(QUADRATIC, KEY), TypeError, r"energy.density\(params"),
    "no base": (lambda: ais(DENSITY, KEY), TypeError, r"write base=lx.Normal\(jnp.zeros\(\(2,\)\)"),
    "no kernel": (lambda: ais(DENSITY, KEY, base=GAUSS["base"]), TypeError, "kernel=lx.samplers"),
    "a kernel of other values": (
        lambda: ais(DENSITY, KEY, base=GAUSS["base"], kernel=lx.samplers.GibbsWithGradients()),
        ValueError,
        "log_partition: GibbsWithGradients leads out of the density's values, which are real",
    ),
    "an unadjusted kernel": (
        lambda: ais(DENSITY, KEY, base=GAUSS["base"], kernel=lx.samplers.Langevin(0.1)),
        ValueError,
        "adjusted=True",
    ),
    "temperatures for smc": (
        lambda: energy.log_partition(SMALL, KEY, method="smc", betas=[0, 1]),
        ValueError,
        "smc chooses its temperatures",
    ),
    "two log Z": (
        lambda: SMALL.normalize(energy.Bracket(*(energy.log_partition(SMALL),) * 2)),
        TypeError,
        "bracket.lower",
    ),
    "a density of no parameters": (
        lambda: QUADRATIC.log_prob,
        AttributeError,
        r"write energy.density\(params, state=state\).log_prob",
    ),
    "a model for an objective": (
        lambda: SMALL.init(KEY, lx.Batch(jnp.ones((2, 3)))),
        TypeError,
        r"RBM is a model.*write lx.energy.MaximumLikelihood\(model\)",
    ),
    "a network for an objective": (
        lambda: QUADRATIC.init(KEY, lx.Batch(jnp.ones((2, 2)))),
        TypeError,
        "Energy is a model",
    ),
    "no exact samples of a network": (
        lambda: energy.bracket(DENSITY, KEY, **GAUSS),
        ValueError,
        "bracket: without samples= .* EnergyDensity does not allow; write samples=",
    ),
    "no exact samples of many units": (
        lambda: energy.bracket(RBM.random(KEY, 30, 30), KEY),
        ValueError,
        r"RBM does not allow; write samples=, of long chains \(rbm.gibbs",
    ),
    "another model as base": (lambda: ais(SMALL, KEY, base=ISING), TypeError, "independent"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_to_write(name):
    call, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()
