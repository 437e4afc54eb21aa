"""Losses of units given the others, against conditionals summed out in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import likelax as lx
from likelax.energy import (
    RBM,
    BoltzmannMachine,
    CategoricalRBM,
    Energy,
    GaussianRBM,
    MaximumLikelihood,
    PseudoLikelihood,
    RatioMatching,
)
from likelax.testing import check_consistent
from likelax.testing.subject import quick_jit

KEY = jax.random.key(5)
RNG = np.random.default_rng(8)
BITS, SPINS = (np.array(list(itertools.product(v, repeat=4)), float) for v in ((0, 1), (-1, 1)))
CLASSES = np.array(list(itertools.product(range(3), repeat=2)))
TABLE = RNG.normal(size=(2, 2, 2, 2))  # log-densities of 2 x 2 bits, in no order


def normal(*shape):
    return RNG.normal(size=shape)


RB = 2 * normal(4, 3), normal(4), normal(3)
CAT = normal(2, 3, 2), normal(2, 3), normal(2)
J, FIELD = normal(4), normal(4)  # a lattice of 2 x 2: edges (0, 2), (1, 3), (0, 1), (2, 3)


def table_energy(x):
    """-TABLE at bits, by all products: it is defined between them, too."""
    rows = x.reshape((-1, 4))
    bits = [jnp.stack([1 - rows[:, i], rows[:, i]], -1) for i in range(4)]
    return -jnp.einsum("abcd,na,nb,nc,nd->n", jnp.asarray(TABLE), *bits)


def rbm_log_density(v):
    w, a, b = RB
    return v @ a + sum(np.logaddexp(0, v @ w[:, j] + b[j]) for j in range(3))


def categorical_log_density(v):
    w, a, b = CAT
    seen = b + sum(w[i, k] for i, k in enumerate(v))
    return sum(a[i, k] for i, k in enumerate(v)) + np.logaddexp(0, seen).sum()


def ising_log_density(x):
    pairs = x[0] * x[2], x[1] * x[3], x[0] * x[1], x[2] * x[3]
    return J @ pairs + FIELD @ x


# Every value, its log-density, and the values that each unit may take.
TRUTH = {
    "rbm": (BITS, rbm_log_density, (0.0, 1.0)),
    "categorical": (CLASSES, categorical_log_density, (0, 1, 2)),
    "ising": (SPINS, ising_log_density, (-1.0, 1.0)),
    "network": (BITS, lambda x: TABLE[tuple(x.astype(int))], (0.0, 1.0)),
}
SUBSET = np.array([[i % 4, (i + 1 + i % 3) % 4] for i in range(16)])


def models():
    lattice = {(0, 2): J[0], (1, 3): J[1], (0, 1): J[2], (2, 3): J[3]}
    grid = BoltzmannMachine.lattice((2, 2)).graph
    coupling = np.array([lattice[tuple(e)] for e in grid.edges.tolist()])
    network = Energy(table_energy, (2, 2), support=lx.supports.boolean)
    return {
        "rbm": RBM(*RB),
        "categorical": CategoricalRBM(*CAT),
        "ising": BoltzmannMachine.lattice((2, 2), coupling=coupling, field=FIELD),
        "network": network.density({}),
    }


def conditionals(name):
    """log p(x_i | rest), `(states, units)`, and its complement's for units of two values."""
    values, log_density, each = TRUTH[name]
    own, other = np.zeros(values.shape), np.zeros(values.shape)
    for n, x in enumerate(values):
        for i in range(len(x)):
            f = {k: log_density(np.array([*x[:i], k, *x[i + 1 :]])) for k in each}
            total = np.logaddexp.reduce(list(f.values()))
            own[n, i] = f[x[i]] - total
            other[n, i] = np.logaddexp.reduce([f[k] - total for k in each if k != x[i]])
    return own, other


@pytest.fixture(scope="module")
def found():
    """Conditionals of all units and of two, and losses, in one program."""

    @quick_jit
    def ask(given):
        out = {}
        for name, model in given.items():
            values = jnp.asarray(TRUTH[name][0]).reshape((-1, *model.event_shape))
            units = jnp.asarray(SUBSET)[: len(values)] % TRUTH[name][0].shape[1]
            unit = model._unit_values(values)
            few = jnp.take_along_axis(unit, units, axis=-1)
            out[name] = {
                "all": model.unit_given_rest(values).log_prob(unit),
                "few": model.unit_given_rest(values, units).log_prob(few),
            }
        for name in ("rbm", "ising"):
            batch = lx.Batch(jnp.asarray(TRUTH[name][0]), mask=jnp.arange(16) != 3)
            batch = lx.Batch(batch.target.at[3, 0].set(jnp.nan), mask=batch.mask)
            for kind in (PseudoLikelihood, RatioMatching):
                out[name][kind.__name__] = kind(given[name])(given[name], KEY, batch)
        few = PseudoLikelihood(given["rbm"], num_units=2)
        tiled = lx.Batch(jnp.tile(jnp.asarray(BITS[[3, 9]]), (2000, 1)))
        out["drawn"] = few(given["rbm"], KEY, tiled)[1].per_example
        out["first"] = few(given["rbm"], KEY, lx.Batch(tiled.target[:3]))[1].per_example
        out["held out"] = few(given["rbm"], KEY, tiled, train=False)[1].per_example[:2]
        return out

    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, ask(models()))


@pytest.mark.parametrize("name", TRUTH)
def test_units_given_the_rest(found, name):
    own, _ = conditionals(name)
    np.testing.assert_allclose(found[name]["all"], own, rtol=1e-10, atol=1e-12)
    units = SUBSET[: len(own)] % own.shape[1]
    np.testing.assert_allclose(found[name]["few"], np.take_along_axis(own, units, 1), rtol=1e-10)
    # The control: the units' own marginals are something else.
    values, log_density, _ = TRUTH[name]
    p = np.exp([log_density(x) for x in values])
    p /= p.sum()
    marginal = (values[:, None] == values).transpose(0, 2, 1) @ p
    assert np.abs(own - np.log(marginal)).max() > 0.1


@pytest.mark.parametrize("name", ["rbm", "ising"])
def test_losses_by_brute_force(found, name):
    own, other = conditionals(name)
    kept = np.arange(16) != 3
    for kind, each in {"PseudoLikelihood": -own, "RatioMatching": np.exp(other) ** 2}.items():
        loss, aux = found[name][kind]
        np.testing.assert_allclose(aux.per_example, each.sum(1) * kept, rtol=1e-10)
        np.testing.assert_allclose(loss, each[kept].sum(1).mean(), rtol=1e-10)
        assert aux.claim == lx.Claim("none")


def test_some_units_stand_for_all(found):
    want = -conditionals("rbm")[0].sum(1)[[3, 9]]
    each = found["drawn"].reshape((2000, 2))
    error = each.std(0) / 2000**0.5
    assert np.all(np.abs(each.mean(0) - want) < 4 * error) and np.all(error > 0.001)
    # An example's units do not depend on how many others there are; when held out all are used.
    np.testing.assert_allclose(found["first"], found["drawn"][:3], rtol=1e-12)
    np.testing.assert_allclose(found["held out"], want, rtol=1e-10)
    # The control: half the units without the factor of two.
    assert np.all(np.abs(each.mean(0) / 2 - want) > 10 * error)


class NoSquare(RatioMatching):
    """Not proper: it is least for conditionals of 0 and 1."""

    def _cost(self, dist, value):
        return jnp.exp(dist.log_prob(1 - value))


class OnlyOnes(PseudoLikelihood):
    """A textbook's slip: x log p without (1 - x) log(1 - p)."""

    def _cost(self, dist, value):
        return value * super()._cost(dist, value)


class OtherWay(PseudoLikelihood):
    def _cost(self, dist, value):
        return -super()._cost(dist, value)


CONSISTENT = {
    "pseudo-likelihood": (PseudoLikelihood, "rbm"),
    "of classes": (PseudoLikelihood, "categorical"),
    "of spins": (PseudoLikelihood, "ising"),
    "ratio matching": (RatioMatching, "rbm"),
    "ratios of spins": (RatioMatching, "ising"),
    "likelihood": (MaximumLikelihood, "rbm"),
}


@pytest.mark.parametrize("name", CONSISTENT)
def test_the_true_density_is_the_minimum(name):
    make, model = CONSISTENT[name]
    with jax.enable_x64(True):
        check_consistent(make, key=KEY, model=models()[model], values=TRUTH[model][0])


BROKEN = {
    "not proper": (NoSquare, "entry 0 of the gradient is"),
    "half of it": (OnlyOnes, "entry 0 of the gradient is"),
    "upside down": (OtherWay, "the loss is"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_copies_are_caught(name):
    make, message = BROKEN[name]
    with jax.enable_x64(True), pytest.raises(AssertionError, match=message):
        check_consistent(make, key=KEY)


SMALL = RBM(*(jnp.asarray(x, jnp.float32) for x in RB))
GAUSS = GaussianRBM(jnp.ones((2, 1)), jnp.zeros(2), jnp.zeros(1), jnp.ones(2))
ERRORS = {
    "real values": (lambda: PseudoLikelihood(GAUSS), TypeError, "ScoreMatching"),
    "real values asked directly": (
        lambda: GAUSS.unit_given_rest(jnp.zeros((1, 2))),
        TypeError,
        "finitely many values",
    ),
    "classes in ratios": (
        lambda: RatioMatching(CategoricalRBM.random(KEY, 2, 3, 1)),
        TypeError,
        r"lx.energy.PseudoLikelihood\(model\)",
    ),
    "no units": (lambda: PseudoLikelihood(SMALL, num_units=0), ValueError, "from 1 to 4, got 0"),
    "too many units": (lambda: RatioMatching(SMALL, num_units=5), ValueError, "from 1 to 4, got 5"),
    "no model": (lambda: PseudoLikelihood(None), TypeError, "lx.energy.RBM or another model"),
    "data that are not binary": (
        lambda: PseudoLikelihood(SMALL)(SMALL, KEY, lx.Batch(jnp.full((2, 4), 0.5))),
        ValueError,
        "a value must be 0 or 1",
    ),
    "one example": (
        lambda: PseudoLikelihood(SMALL)(SMALL, KEY, lx.Batch(jnp.ones(4))),
        ValueError,
        r"shape \(batch, \*event\) with event \(4,\), got \(4,\)",
    ),
    "values of no model": (
        lambda: check_consistent(PseudoLikelihood, key=KEY, values=BITS),
        ValueError,
        "a model and all its values go together",
    ),
    "numbers of draws": (
        lambda: check_consistent(PseudoLikelihood, key=KEY, draws=-1),
        ValueError,
        "draws is a whole number >= 1, got -1",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_to_write(name):
    call, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()
