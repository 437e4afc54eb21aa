"""Continuous flows against linear equations, SciPy's solver and quadrature."""

import pickle
import sys

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.stats
from flax import nnx

import likelax as lx
from likelax.flows import ContinuousFlow, dequantize
from likelax.testing.subject import quick_jit

KEY = jax.random.key(2)
A = np.array([[0.3, 1.2], [-0.8, -0.7]])  # it turns, and is not symmetric
X = np.array([[0.4, -1.0], [2.0, 0.5], [-0.3, 0.1]])
FINE = {"rtol": 1e-12, "atol": 1e-12}


def linear(matrix=A):
    return lambda key, x, t: {"A": jnp.asarray(matrix)}, lambda params, x, t: x @ params["A"].T


def params_of(head, context=()):
    return head.init(KEY, jnp.zeros((*context, head.size)))


def unconditional(head):
    return head(jnp.zeros(0), params_of(head))


# The linear equation: x(1) = exp(A) x(0), log-determinant tr A.

BASE = {"loc": np.array([0.5, -1.0]), "scale": np.array([0.7, 1.5])}


@quick_jit
def closed_form(matrix, value):
    """log N(exp(A) m, exp(A) S exp(A)'), and the gradients of its sum in A and the value."""

    def log_prob(matrix, value):
        e = jax.scipy.linalg.expm(matrix)
        cov = e @ jnp.diag(BASE["scale"] ** 2) @ e.T
        each = lx.MultivariateNormal(e @ BASE["loc"], covariance=cov).log_prob(value)
        return jnp.sum(each), each

    grads, each = jax.grad(log_prob, (0, 1), has_aux=True)(matrix, value)
    return each, grads


def test_a_linear_equation_is_solved():
    with jax.enable_x64(True):
        base = lx.Normal(**BASE).to_event()
        head = ContinuousFlow(linear(), 2, base=base, solver=diffrax.Dopri8(), **FINE)
        dist = unconditional(head)

        @quick_jit
        def ask(dist):
            start = dist.base.sample(KEY, (3,))
            return dist.log_prob(X), dist.sample_and_log_prob(KEY, (3,)), start

        log_prob, (x, at_x), start = jax.tree.map(np.asarray, ask(dist))
        at_base = lambda x: scipy.stats.norm(**BASE).logpdf(x).sum(-1)  # noqa: E731
        want = closed_form(A, X)[0]
        np.testing.assert_allclose(log_prob, want, rtol=1e-10)
        np.testing.assert_allclose(at_x, closed_form(A, x)[0], rtol=1e-10)
        np.testing.assert_allclose(x, start @ scipy.linalg.expm(A).T, rtol=1e-10)
        np.testing.assert_allclose(at_base(start) - at_x, np.full(3, np.trace(A)), rtol=1e-10)
        # The controls: time reversed, and the determinant left out.
        assert np.all(abs(log_prob - closed_form(-A, X)[0]) > 0.01)
        inner = at_base(X @ scipy.linalg.expm(-A).T)
        assert np.all(abs(inner - want) > 0.1)


@pytest.mark.parametrize("adjoint", [None, diffrax.BacksolveAdjoint()], ids=["steps", "backwards"])
def test_gradients_are_those_of_the_closed_form(adjoint):
    with jax.enable_x64(True):
        base = lx.Normal(**BASE).to_event()
        head = ContinuousFlow(linear(), 2, base=base, adjoint=adjoint, rtol=1e-9, atol=1e-9)

        def log_prob(params, value):
            return jnp.sum(head(jnp.zeros((3, 0)), params).log_prob(value))

        got = quick_jit(jax.grad(log_prob, (0, 1)))({"A": jnp.asarray(A)}, X)
        want = closed_form(A, X)[1]
        np.testing.assert_allclose(got[0]["A"], want[0], rtol=1e-6)
        np.testing.assert_allclose(got[1], want[1], rtol=1e-6)
        assert abs(got[0]["A"] - want[0].T).max() > 1  # the control


# A nonlinear one that depends on time and on a context.


class Field(nnx.Module):
    """dx/dt = W tanh(V x + b) + (t, c): its pieces are those of SciPy's copy below."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.inner, self.outer = nnx.Linear(2, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x, t, context):
        drift = jnp.stack([3 * t**2, context[:, 0]], -1)
        return 1.5 * self.outer(jnp.tanh(2 * self.inner(x))) + drift


NET = lambda key, x: {}, lambda params, x: 0.5 * jnp.asarray(x)
HEAD = ContinuousFlow(Field, 2, context=1)
MODEL = lx.Likelihood(NET, HEAD)
INPUT = np.array([[1.0], [-2.0], [0.4]], np.float32)
BATCH = lx.Batch(target=X.astype(np.float32), input=INPUT)
PARAMS, _ = MODEL.init(KEY, BATCH)


def scipy_field(t, x, context):
    p = jax.tree.map(np.asarray, PARAMS["head"])
    hidden = np.tanh(2 * (x @ p["inner"]["kernel"] + p["inner"]["bias"]))
    out = hidden @ p["outer"]["kernel"] + p["outer"]["bias"]
    return 1.5 * out + np.array([3 * t**2, context])


def test_samples_are_solved_from_0_to_1():
    @quick_jit
    def there_and_back(x):
        bijector = MODEL.predict(PARAMS, INPUT).bijector
        end = bijector.forward(x)
        return end, bijector.inverse(end)

    got, round_trip = there_and_back(X.astype(np.float32))
    for start, c, end in zip(X, INPUT[:, 0], np.asarray(got), strict=True):
        want, back = (
            scipy.integrate.solve_ivp(scipy_field, span, start, args=(0.5 * c,), rtol=1e-9).y[:, -1]
            for span in ((0, 1), (1, 0))
        )
        np.testing.assert_allclose(end, want, rtol=1e-3, atol=1e-4)
        assert np.all(abs(end - back) > 0.05)  # the control
    np.testing.assert_allclose(round_trip, X, atol=1e-3)


@pytest.fixture(scope="module")
def density():
    """log p on a grid, for each of the three contexts."""
    axis = np.linspace(-7, 7, 201, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 1, 2)

    @jax.jit
    def parts(grid):
        dist = MODEL.predict(PARAMS, INPUT)
        points, log_det = dist.bijector.inverse_and_log_det(grid)
        return dist.base.log_prob(points), log_det

    at_base, log_det = map(np.asarray, parts(grid))
    return at_base, log_det, (axis[1] - axis[0]) ** 2


@pytest.mark.slow
def test_each_context_has_a_density(density):
    at_base, log_det, area = density
    np.testing.assert_allclose(np.exp(at_base + log_det).sum(0) * area, 1, atol=2e-3)
    assert np.all(abs(np.exp(at_base).sum(0) * area - 1) > 0.02)  # the control: no determinant


grad = quick_jit(jax.value_and_grad(MODEL, has_aux=True))


def test_what_is_masked_or_not_finite():
    def costs(row, kept=(True, True, True)):
        target = X.astype(np.float32)
        target[1] = row
        (loss, aux), grads = grad(PARAMS, KEY, lx.Batch(target, INPUT, mask=np.array(kept)))
        return loss, np.asarray(aux.per_example), grads, aux.claim

    _, plain, _, claim = costs(X[1])
    assert claim == lx.Claim("exact", True, lx.Measure("lebesgue", 2), "ode tolerance")
    loss, _, grads, _ = costs([np.nan, 0], (True, False, True))
    np.testing.assert_allclose(loss, plain[[0, 2]].mean(), rtol=1e-5)
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))
    # The other rows are solved as they were without the one that is off.
    for row, want in (([np.nan, 0], np.nan), ([np.inf, 0], np.inf), ([30.0, 0], None)):
        each = costs(row)[1]
        np.testing.assert_array_equal(each[[0, 2]], plain[[0, 2]])
        assert want is None or np.array_equal(each[1], want, equal_nan=True)


def test_a_flow_crosses_vmap_and_jit():
    """Built inside vmap, parameters and all, and asked outside; indexed; shared parameters stay so."""
    scales = jnp.array([1.0, 0.5])

    @jax.vmap
    def build(scale):
        return HEAD(INPUT[:, :1] * scale, jax.tree.map(lambda p: scale * p, PARAMS["head"]))

    made = build(scales)
    assert made.batch_shape == (2, 3)
    got = quick_jit(lambda dist: dist.log_prob(X.astype(np.float32)))(made)
    for i, scale in enumerate(np.asarray(scales)):
        params = jax.tree.map(lambda p, s=scale: s * np.asarray(p), PARAMS["head"])
        one = HEAD(jnp.asarray(INPUT * scale), params)
        # The objective, whose network halves its input, says the same of it.
        batch = lx.Batch(X.astype(np.float32), 2 * scale * INPUT, mask=np.ones(3, bool))
        want = grad({"net": {}, "head": params}, KEY, batch)[0][1].per_example
        np.testing.assert_allclose(got[i], -want, rtol=1e-4)
        np.testing.assert_allclose(made[i].bijector.context, one.bijector.context)
    same = one.bijector.replace(context=one.bijector.context)
    assert jax.tree.structure(same) == jax.tree.structure(one.bijector)
    again = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(again.bijector.context, one.bijector.context)
    wide = one.broadcast_to((4, 3))
    kernel = wide.bijector.params["inner"]["kernel"]
    assert wide.batch_shape == (4, 3) and kernel.shape == (1, 1, 2, 4)
    assert made[1, 2].bijector.params["inner"]["kernel"].shape == (2, 4)


# Random probes.

ROWS = 2000


def log_dets(num_probes, probe):
    head = ContinuousFlow(linear(), 2, num_probes=num_probes, probe=probe)

    @quick_jit
    def look(params):
        dist = head(jnp.zeros((ROWS, 0)), params, key=KEY)
        return dist.bijector.forward_and_log_det(jnp.zeros(2))[1]

    return np.asarray(look({"A": jnp.asarray(A)}), np.float64)


@pytest.mark.parametrize(("num_probes", "probe"), [(1, "rademacher"), (3, "gaussian")])
def test_probes_estimate_the_trace(num_probes, probe):
    got = log_dets(num_probes, probe)
    symmetric = (A + A.T) / 2
    spread = 2 * (symmetric**2).sum()
    if probe == "rademacher":
        spread -= 2 * (np.diag(A) ** 2).sum()
    # One draw for a solve: the variance is that of a single e'Ae, and not of a mean over the steps.
    error = got.std() / np.sqrt(ROWS)
    np.testing.assert_allclose(got.var(), spread / num_probes, rtol=0.2)
    assert abs(got.mean() - np.trace(A)) < 4 * error
    if num_probes > 1:  # the control: a sum of them
        assert abs(num_probes * got.mean() - np.trace(A)) > 4 * error


PROBED = lx.Likelihood(None, ContinuousFlow(linear(), 2, num_probes=2))
TARGET = X.astype(np.float32)
PROBED_PARAMS, _ = PROBED.init(KEY, lx.Batch(target=TARGET))
ask_probed = quick_jit(PROBED)


@pytest.fixture(scope="module")
def probed():
    return ask_probed(PROBED_PARAMS, KEY, lx.Batch(target=TARGET))[1]


def test_an_objective_gives_the_key(probed):
    model, params, batch, aux = PROBED, PROBED_PARAMS, lx.Batch(target=TARGET), probed
    assert aux.claim.relation == "estimate" and aux.claim.unbiased
    other = ask_probed(params, jax.random.key(8), batch)[1]
    assert not np.allclose(aux.per_example, other.per_example)
    # The same key of the old kind is the same key.
    keys = [
        model.head(jnp.zeros((3, 0)), params["head"], key=k)
        for k in (KEY, jax.random.key_data(KEY))
    ]
    assert keys[0].bijector.key.shape == (3,)
    assert np.all(keys[0].bijector.key == keys[1].bijector.key)
    bound = dequantize(model, 4).claim
    assert (bound.relation, bound.vanishes) == (
        "upper",
        "num_particles and num_probes and ode tolerance",
    )
    assert dequantize(model, 4, num_particles=2).claim.relation == "estimate"
    keyless = model.predict(params, jnp.zeros((3, 0)))
    with pytest.raises(ValueError, match="key=key"):
        keyless.log_prob(batch.target)
    assert jax.eval_shape(lambda: keyless.sample(KEY)).shape == (3, 2)  # samples need no probes


@pytest.mark.slow
def test_few_rows_on_explicit_mesh_axes(probed):
    """The types of JAX's Explicit axes are those of larger meshes, on one device, too; and rows do
    not depend on the batch.
    """
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        target = jax.device_put(TARGET[:2], jax.NamedSharding(mesh, jax.P("data")))
        got = quick_jit(PROBED)(PROBED_PARAMS, KEY, lx.Batch(target=target))[1].per_example
        assert jax.typeof(got).sharding.spec == jax.P("data")
        context = jax.device_put(INPUT, jax.NamedSharding(mesh, jax.P("data")))
        draws = jax.eval_shape(lambda c: HEAD(c, PARAMS["head"]).sample(KEY, (5,)), context)
        assert draws.sharding.spec == jax.P(None, "data", None)
    np.testing.assert_array_equal(got, probed.per_example[:2])


def test_too_many_steps_are_no_number():
    head = ContinuousFlow(linear(40 * A), 2, max_steps=4)
    log_prob = quick_jit(lambda x: unconditional(head).log_prob(x))
    assert np.all(np.isnan(log_prob(X.astype(np.float32))))


def test_diffrax_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffrax", None)
    with pytest.raises(ImportError, match=r"likelax\[ode\]"):
        unconditional(ContinuousFlow(linear(), 2)).bijector.forward(jnp.zeros(2))


class Normed(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.norm = nnx.BatchNorm(2, rngs=rngs)

    def __call__(self, x, t):
        return self.norm(x)


BAD = {
    "no event": (lambda: ContinuousFlow(linear(), (2, 0)), "has entries"),
    "base": (
        lambda: ContinuousFlow(linear(), 2, base=lx.Normal(np.zeros(2), 1.0)),
        r"base.to_event\(\)",
    ),
    "half-line": (
        lambda: ContinuousFlow(linear(), 2, base=lx.Exponential(np.ones(2)).to_event()),
        "takes all real values",
    ),
    "no field": (lambda: ContinuousFlow(None, 2), r"a network f\(x, t\)"),
    "features": (lambda: ContinuousFlow(linear(), 2, context=-1), "write context=16"),
    "tolerance": (lambda: ContinuousFlow(linear(), 2, atol=-1e-5), "write rtol=1e-5"),
    "no tolerance": (lambda: ContinuousFlow(linear(), 2, rtol=0, atol=0), "one of them positive"),
    "steps": (lambda: ContinuousFlow(linear(), 2, max_steps=0), "write max_steps=4096"),
    "solver": (lambda: ContinuousFlow(linear(), 2, solver="Tsit5"), r"solver=diffrax.Tsit5\(\)"),
    "its class": (lambda: ContinuousFlow(linear(), 2, adjoint=dict), r"adjoint=diffrax.Direct"),
    "probes": (lambda: ContinuousFlow(linear(), 2, num_probes=0), "exact trace"),
    "outputs": (lambda: params_of(ContinuousFlow(linear(A[:1]), 2)), "as many outputs as x"),
    "no params": (lambda: ContinuousFlow(linear(), 2)(jnp.zeros(0)), "has parameters"),
    "context": (lambda: HEAD(jnp.zeros((3, 2)), PARAMS["head"]), "reads 1 features"),
    "value": (
        lambda: unconditional(ContinuousFlow(linear(), 2)).bijector.forward(jnp.zeros(3)),
        r"values of shape \(2,\)",
    ),
    "a network": (lambda: ContinuousFlow(jnp.tanh, 2), "a network is"),
    "state": (lambda: params_of(ContinuousFlow(Normed, 2)), "has no state"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    make, message = BAD[name]
    with pytest.raises((TypeError, ValueError), match=message):
        make()
