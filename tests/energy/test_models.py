"""Energy models against sums over every state, written out in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx

import likelax as lx
from likelax import energy
from likelax.energy import (
    RBM,
    BoltzmannMachine,
    CategoricalRBM,
    Energy,
    GaussianRBM,
    Graph,
    MaximumLikelihood,
    boltzmann,
)
from likelax.testing.subject import quick_jit

KEY = jax.random.key(3)
RNG = np.random.default_rng(7)


def states(n, values=(0.0, 1.0)):
    return np.array(list(itertools.product(values, repeat=n)))


def normal(*shape):
    return RNG.normal(size=shape)


W, A, B = normal(4, 3), normal(4), normal(3)
CAT_W, CAT_A, CAT_B = normal(3, 3, 2), normal(3, 3), normal(2)
GAUSS_W, GAUSS_A, GAUSS_B, SCALE = normal(2, 2), normal(2), normal(2), np.array([0.6, 1.7])
MATRIX = np.triu(normal(5, 5), 1)
MATRIX[0, 3] = MATRIX[1, 2] = MATRIX[2, 4] = 0  # odd circles are left: three colours
BIAS = normal(5)
DEEP_W, DEEP_B = (normal(3, 2), normal(2, 2)), (normal(3), normal(2), normal(2))
EDGES = [(i, i + 1) for i in range(9) if i % 3 < 2] + [(i, i + 3) for i in range(6)]
J, FIELD = normal(12), normal(9)
LATTICE = {tuple(e): j for e, j in zip(EDGES, J, strict=True)}


def models():
    grid = BoltzmannMachine.lattice((3, 3)).graph
    return {
        "rbm": RBM(W, A, B),
        "wide": RBM(W.T, B, A),
        "categorical": CategoricalRBM(CAT_W, CAT_A, CAT_B),
        "gaussian": GaussianRBM(GAUSS_W, GAUSS_A, GAUSS_B, SCALE),
        "general": BoltzmannMachine.from_matrix(MATRIX + MATRIX.T, BIAS),
        "deep": BoltzmannMachine.deep(
            [jnp.asarray(w) for w in DEEP_W], [jnp.asarray(b) for b in DEEP_B]
        ),
        "ising": BoltzmannMachine.lattice(
            (3, 3), coupling=np.array([LATTICE[tuple(e)] for e in grid.edges.tolist()]), field=FIELD
        ),
    }


def rbm_joint(v, h):
    return v @ A + B @ h + v @ W @ h


def cat_joint(v, h):
    return sum(CAT_A[i, k] + CAT_W[i, k] @ h for i, k in enumerate(v)) + CAT_B @ h


def deep_joint(x):
    v, h, g = x[:3], x[3:5], x[5:]
    return v @ DEEP_W[0] @ h + h @ DEEP_W[1] @ g + np.concatenate(DEEP_B) @ x


def ising_joint(x):
    return sum(j * x[a] * x[b] for (a, b), j in LATTICE.items()) + FIELD @ x


def summed(joint, v, hidden):
    return np.logaddexp.reduce([joint(v, h) for h in states(hidden)])


CLASSES = np.array(list(itertools.product(range(3), repeat=3)))
# Every value of each model that has finitely many, and log p + log Z there.
TRUTH = {
    "rbm": (states(4), [summed(rbm_joint, v, 3) for v in states(4)]),
    "wide": (states(3), [summed(lambda h, v: rbm_joint(v, h), h, 4) for h in states(3)]),
    "categorical": (CLASSES, [summed(cat_joint, v, 2) for v in CLASSES]),
    "general": (states(5), [x @ MATRIX @ x + BIAS @ x for x in states(5)]),
    "deep": (states(7), [deep_joint(x) for x in states(7)]),
    "ising": (states(9, (-1.0, 1.0)), [ising_joint(x) for x in states(9, (-1.0, 1.0))]),
}
LOG_Z = {name: np.logaddexp.reduce(f) for name, (_, f) in TRUTH.items()}
V = np.array([[0.3, -1.2], [2.0, 0.4]])
VISIBLE = states(3)[[1, 6]]
SWEPT, CHAINS = ("rbm", "categorical", "general", "ising"), 4000


@pytest.fixture(scope="module")
def found():
    """All that is asked of the models, in one program."""

    @quick_jit
    def ask(given):
        values = {name: jnp.asarray(x) for name, (x, _) in TRUTH.items()}
        at = {name: given[name].unnormalized_log_prob(x) for name, x in values.items()}
        log_z = {name: energy.log_partition(m).log_z for name, m in given.items()}
        exact = given["gaussian"].normalize(log_z["gaussian"]).log_prob(V)
        drawn = {n: energy.exact_samples(given[n], KEY, CHAINS) for n in SWEPT}
        h = jnp.asarray(states(3)[5])
        conditionals = {
            "visible": given["rbm"].visible_given(h).log_prob(values["rbm"]),
            "hidden": given["rbm"].hidden_given(values["rbm"][6]).log_prob(states(3)),
            "gaussian": given["gaussian"].visible_given(h[:2]).log_prob(V),
            "classes": given["categorical"].visible_given(h[:2]).log_prob(CLASSES),
            "unit": given["ising"].unit_given_rest(values["ising"][100]).log_prob(1),
        }
        return {
            "at": at,
            "log_z": log_z,
            "gaussian": exact,
            "samples": drawn,
            "swept": {n: given[n].gibbs(KEY, x, sweeps=2) for n, x in drawn.items()},
            "conditionals": conditionals,
            "deep": given["deep"].free_energy(VISIBLE),
        }

    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, ask(models()))


@pytest.mark.parametrize("name", TRUTH)
def test_the_density_is_the_sum_over_hidden_states(found, name):
    np.testing.assert_allclose(found["at"][name], TRUTH[name][1], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found["log_z"][name], LOG_Z[name], rtol=1e-10)


def test_a_gaussian_rbm_is_a_mixture_of_normals(found):
    h = states(2)
    drive = h @ GAUSS_W.T
    log_mass = h @ GAUSS_B + np.sum(
        drive * GAUSS_A / SCALE + drive**2 / 2 + np.log(SCALE * np.sqrt(2 * np.pi)), -1
    )
    log_z = np.logaddexp.reduce(log_mass)
    np.testing.assert_allclose(found["log_z"]["gaussian"], log_z, rtol=1e-10)
    each = scipy.stats.norm(GAUSS_A + SCALE * drive, SCALE).logpdf(V[:, None]).sum(-1)
    wanted = np.logaddexp.reduce(each + log_mass - log_z, axis=1)
    np.testing.assert_allclose(found["gaussian"], wanted, rtol=1e-10)


def test_conditionals_are_the_joint_normalised(found):
    got = found["conditionals"]
    h = states(3)[5]
    over = lambda f: np.array(f) - np.logaddexp.reduce(f)  # noqa: E731
    np.testing.assert_allclose(got["visible"], over([rbm_joint(v, h) for v in states(4)]))
    np.testing.assert_allclose(got["hidden"], over([rbm_joint(states(4)[6], h) for h in states(3)]))
    np.testing.assert_allclose(got["classes"], over([cat_joint(v, h[:2]) for v in CLASSES]))
    loc = GAUSS_A + SCALE * (GAUSS_W @ h[:2])
    np.testing.assert_allclose(got["gaussian"], scipy.stats.norm(loc, SCALE).logpdf(V).sum(-1))
    for i in range(9):
        up, down = states(9, (-1.0, 1.0))[100].copy(), states(9, (-1.0, 1.0))[100].copy()
        up[i], down[i] = 1, -1
        want = -np.log1p(np.exp(ising_joint(down) - ising_joint(up)))
        np.testing.assert_allclose(got["unit"][i], want)


def test_a_deep_model_sums_its_hidden_layers_out(found):
    want = [np.logaddexp.reduce([deep_joint(np.append(v, h)) for h in states(4)]) for v in VISIBLE]
    np.testing.assert_allclose(-found["deep"], want, rtol=1e-10)


def misfit(name, x):
    """Pearson's chi-squared of samples against the true distribution, in its standard deviations."""
    values, f = TRUTH[name]
    p = np.exp(f - LOG_Z[name])
    lookup = {tuple(v): k for k, v in enumerate(values)}
    counts = np.bincount([lookup[tuple(row)] for row in x], minlength=len(p))
    chi2 = np.sum((counts - len(x) * p) ** 2 / (len(x) * p))
    # The variance of Pearson's statistic, rare states included.
    df = len(p) - 1
    variance = 2 * df + (np.sum(1 / p) - len(p) ** 2 - 2 * df) / len(x)
    return (chi2 - df) / np.sqrt(variance)


@pytest.mark.parametrize("name", SWEPT)
def test_samples_and_sweeps_have_the_model_as_their_law(found, name):
    assert abs(misfit(name, found["samples"][name])) < 4
    assert abs(misfit(name, found["swept"][name])) < 4


def test_the_misfit_sees_a_wrong_law(found):
    x = found["samples"]["ising"].copy()
    x[:400] *= -1
    assert misfit("ising", x) > 10


# The exact likelihood.

DATA = states(4)[[3, 3, 9, 14]]


def test_the_exact_gradient_is_a_difference_of_moments():
    with jax.enable_x64(True):
        rbm = RBM(W, A, B)
        model = MaximumLikelihood(rbm)
        batch = lx.Batch(jnp.asarray(DATA), weight=jnp.array([1.0, 1.0, 0.0, 1.0]))
        (loss, aux), grads = quick_jit(jax.value_and_grad(model, has_aux=True))(rbm, KEY, batch)
        values, f = np.asarray(TRUTH["rbm"][0]), np.array(TRUTH["rbm"][1])
        p = np.exp(f - LOG_Z["rbm"])
        hidden = lambda v: 1 / (1 + np.exp(-(v @ W + B)))  # noqa: E731
        kept = DATA[[0, 1, 3]]
        nll = -np.log([p[(values == v).all(1)][0] for v in kept]).mean()
        np.testing.assert_allclose(loss, nll, rtol=1e-10)
        model_moment = np.einsum("n,nv,nh->vh", p, values, hidden(values))
        data_moment = np.einsum("nv,nh->vh", kept, hidden(kept)) / 3
        np.testing.assert_allclose(grads.weight, model_moment - data_moment, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(grads.visible_bias, p @ values - kept.mean(0), atol=1e-12)
        want = p @ hidden(values) - hidden(kept).mean(0)
        np.testing.assert_allclose(grads.hidden_bias, want, atol=1e-12)
        # The control: the gradient of contrastive divergence's data term alone is another one.
        assert np.abs(grads.weight + data_moment).max() > 0.01
    assert aux.claim == lx.Claim("exact", measure=lx.Measure("counting", 4))


def test_a_network_over_bits_is_enumerated():
    model = MaximumLikelihood(
        Energy(nnx.Linear(4, 1, rngs=nnx.Rngs(0)), 4, support=lx.supports.boolean, temperature=2.0)
    )
    batch = lx.Batch(jnp.asarray(DATA, jnp.float32))
    params, state = model.init(KEY, batch)
    loss, aux = model(params, KEY, batch, state=state)
    logit = -np.asarray(params["kernel"])[:, 0] / 2
    want = np.sum(np.log1p(np.exp(logit))) - (DATA @ logit).mean()
    np.testing.assert_allclose(loss, want, rtol=1e-5)
    assert aux.claim.measure == lx.Measure("counting", 4)


def test_colours_are_few_and_proper():
    for graph, wanted in {
        BoltzmannMachine.lattice((5, 4)).graph: 2,
        BoltzmannMachine.lattice((3, 3), periodic=True).graph: 3,
        Graph(4, list(itertools.combinations(range(4), 2))): 4,
        Graph(3, []): 1,
    }.items():
        colour = np.full(graph.num_units, -1)
        for c, units in enumerate(graph.colours):
            colour[units] = c
        assert np.all(colour >= 0) and len(graph.colours) == wanted
        assert np.all(colour[graph.edges[:, 0]] != colour[graph.edges[:, 1]])
    assert len(BoltzmannMachine.lattice((4, 3), periodic=True).graph.edges) == 24


SCATTERED = np.unique(np.sort(np.argsort(RNG.random((30, 24)), 1)[:, :2], 1), axis=0)


def swept_one_by_one(model, x, uniform, order):
    """A sweep in NumPy: each unit after the other, given all as they are then."""
    x, n = x.copy(), x.shape[1]
    matrix = np.zeros((n, n))
    matrix[tuple(model.graph.edges.T)] = model.coupling
    matrix += matrix.T
    for i in order:
        p = 1 / (1 + np.exp(-2 * (x @ matrix[i] + np.asarray(model.bias)[i])))
        x[:, i] = np.where(uniform[:, i] < p, 1, -1)
    return x


@pytest.mark.parametrize("most", [0, 8, 1000], ids=["blocks", "neighbours", "rows"])
def test_a_sweep_is_that_of_one_unit_after_the_other(most, monkeypatch):
    """Whichever way the sums over neighbours are done; the control takes the colours the other way."""
    monkeypatch.setattr(boltzmann, "_MOST_NEIGHBOURS", most)
    graph = Graph(24, SCATTERED)
    assert graph.max_degree <= 8 < len(graph.diagonals[0]) <= 1000 and len(graph.colours) > 2
    model = BoltzmannMachine(normal(len(graph.edges)), normal(24), graph=graph, spins=True)
    x = np.where(RNG.random((40, 24)) < 0.5, 1.0, -1.0)
    swept = quick_jit(lambda model, x: (model._sweep(KEY, x), model.unnormalized_log_prob(x)))
    found, log_prob = swept(model, x)
    uniform = np.asarray(jax.random.uniform(KEY, x.shape, model.dtype))
    colours = model.graph.colours
    np.testing.assert_array_equal(
        found, swept_one_by_one(model, x, uniform, np.concatenate(colours))
    )
    other = swept_one_by_one(model, x, uniform, np.concatenate(colours[::-1]))
    assert np.mean(other != found) > 0.01
    first, second = graph.edges.T
    want = (x[:, first] * x[:, second]) @ model.coupling + x @ model.bias
    np.testing.assert_allclose(log_prob, want, rtol=1e-5, atol=1e-5)


def vector(x):
    return x


RB = RBM(W.astype(np.float32), A.astype(np.float32), B.astype(np.float32))
ERRORS = {
    "no log_prob yet": (lambda: RB.log_prob(DATA), AttributeError, r"density.normalize\("),
    "data that are not binary": (
        lambda: RB.unnormalized_log_prob(DATA * 0.5),
        ValueError,
        r"RBM: a value must be 0 or 1.*index \(0, 2\) it is 0.5",
    ),
    "such data in an objective": (
        lambda: MaximumLikelihood(RB)(RB, KEY, lx.Batch(jnp.asarray(DATA * 0.5))),
        ValueError,
        "a value must be 0 or 1",
    ),
    "data of another shape": (
        lambda: RB.free_energy(DATA[:, :3]),
        ValueError,
        r"event \(4,\), got \(4, 3\)",
    ),
    "an energy that is a vector": (
        lambda: Energy(vector, 2).init(KEY, jnp.zeros((5, 2))),
        ValueError,
        r"shape \(5,\), the network makes \(5, 2\)",
    ),
    "a temperature of 0": (
        lambda: Energy(vector, 2, temperature=0.0),
        ValueError,
        "temperature is positive",
    ),
    "too many units": (
        lambda: energy.log_partition(RBM.random(KEY, 30, 26)),
        ValueError,
        r"2\^26 = 6.7e\+07 states of 26 units, about 6e\+10 operations",
    ),
    "real values": (
        lambda: energy.log_partition(Energy(lambda x: x[:, 0], 1).density({})),
        ValueError,
        "too many to enumerate",
    ),
    "weights that do not fit": (
        lambda: RBM(jnp.zeros((3, 2)), jnp.zeros(2), jnp.zeros(3)),
        ValueError,
        "both have the axis 'visible'",
    ),
    "layers that do not fit": (
        lambda: BoltzmannMachine.deep([jnp.zeros((2, 3))], [jnp.zeros(2), jnp.zeros(2)]),
        ValueError,
        r"want weights of shapes \[\(2, 2\)\]",
    ),
    "an edge twice": (lambda: Graph(3, [(0, 1), (1, 0)]), ValueError, "given twice"),
    "no unit": (lambda: Graph(3, [(0, 3)]), ValueError, "counted from 0 to 2"),
    "not symmetric": (
        lambda: BoltzmannMachine.from_matrix(MATRIX, BIAS),
        ValueError,
        r"write \(m \+ m.T\) / 2",
    ),
    "no model": (lambda: MaximumLikelihood(nnx.Linear), TypeError, "lx.energy.RBM or another"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_to_write(name):
    call, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()
