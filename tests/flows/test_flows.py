"""Heads of flows: densities that sum to 1, closed forms, training, contexts, images."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from scipy import stats

import likelax as lx
from likelax import bijectors as lb
from likelax.testing.subject import quick_jit

KEY = jax.random.key(2)
EMPTY = jnp.zeros((1, 0))


def noisy(params, spread):
    """Noise on every parameter, made without a compilation: at its start a flow hides mistakes."""
    rng = np.random.default_rng(1)

    def moved(leaf):
        return jnp.asarray(np.asarray(leaf) + spread * rng.normal(size=leaf.shape), leaf.dtype)

    return jax.tree.map(moved, params)


# Two-dimensional densities, by quadrature.

HEADS = {
    "neural_spline_flow": functools.partial(lx.flows.neural_spline_flow, bins=4, bound=3.0),
    "coupling_flow": lx.flows.coupling_flow,
    "masked_autoregressive_flow": lx.flows.masked_autoregressive_flow,
}
LINE = np.linspace(-14, 14, 281)
GRID = np.stack(np.meshgrid(LINE, LINE, indexing="ij"), -1).reshape(-1, 2)


@quick_jit
def log_probs(dist):
    """Of each point, and without the log-determinant."""
    points = GRID[:, None]
    return dist.log_prob(points), dist.base.log_prob(dist.bijector.inverse(points))


@pytest.mark.parametrize("name", HEADS)
def test_each_context_gives_a_density_of_its_own(name):
    with jax.enable_x64(True):
        head = HEADS[name](2, layers=2, hidden=(6,), context=1)
        raw = jnp.array([[-0.7], [1.9]])
        dist = head(raw, noisy(quick_jit(head.init)(KEY, raw), 0.1))
        assert dist.batch_shape == (2,) and dist.event_shape == (2,)
        log_prob, base = map(np.asarray, log_probs(dist))
        cell = (LINE[1] - LINE[0]) ** 2
        np.testing.assert_allclose(np.exp(log_prob).sum(0) * cell, 1, atol=1e-3)
        assert np.abs(log_prob[:, 0] - log_prob[:, 1]).max() > 0.1
        # The control: without the log-determinant it is none.
        assert np.abs(np.exp(base).sum(0) * cell - 1).max() > 0.01


def test_a_linear_flow_is_a_gaussian():
    def make(key):
        return lb.Chain((lb.ActNorm.init(3), lb.PLU.init(3)))

    with jax.enable_x64(True):
        head = lx.flows.FlowHead(make, 3)
        params = noisy(quick_jit(head.init)(KEY, EMPTY), 0.5)
        x = np.random.default_rng(0).normal(size=(5, 3))
        # A base of heavy tails: its density at the inverse, and one log-determinant.
        heavy = lx.flows.FlowHead(make, 3, base=lx.StudentT(3.0, jnp.zeros(3), 1.0).to_event(1))

        @quick_jit
        def ask(params):
            light, wide = head(EMPTY[0], params), heavy(jnp.zeros((5, 0)), params)
            return jax.jacfwd(params.forward)(jnp.zeros(3)), light.log_prob(x), wide.log_prob(x)

        matrix, log_prob, heavy_log_prob = map(np.asarray, ask(params))
        truth = stats.multivariate_normal(np.asarray(params.bijectors[0].shift), matrix @ matrix.T)
        np.testing.assert_allclose(log_prob, truth.logpdf(x), rtol=1e-10)
        z = np.linalg.solve(matrix, (x - np.asarray(params.bijectors[0].shift)).T).T
        want = stats.t(3).logpdf(z).sum(1) - np.linalg.slogdet(matrix)[1]
        np.testing.assert_allclose(heavy_log_prob, want, rtol=1e-10)


def test_glow_is_exact():
    with jax.enable_x64(True):
        head = lx.flows.glow((4, 4, 1), levels=2, steps=1, hidden=3, context=1)
        raw = jnp.array([0.4])
        params = noisy(quick_jit(head.init)(KEY, raw), 0.2)
        dist = head(raw, params)
        x = np.random.default_rng(0).normal(size=(4, 4, 1))

        @quick_jit
        def parts(dist, x):
            z = dist.bijector.inverse(x)
            jacobian = jax.jacfwd(dist.bijector.inverse)(x)
            return z, jacobian, dist.log_prob(x), dist.bijector.forward(z)

        z, jacobian, log_prob, back = map(np.asarray, parts(dist, x))
        want = stats.norm.logpdf(z).sum() + np.linalg.slogdet(jacobian.reshape(16, 16))[1]
        np.testing.assert_allclose(log_prob, want, rtol=1e-10)
        np.testing.assert_allclose(back, x, atol=1e-9)
        # The second level moves half of the channels only, and those by the whole image.
        assert np.all(np.any(jacobian.reshape(16, 16) != 0, axis=1))


# In a likelihood.


def ring(key, count):
    angle, radius = jax.random.uniform(key, (count,)) * 2 * np.pi, 10.0
    noise = 0.5 * jax.random.normal(key, (count, 2))
    return radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1) + jnp.array([50.0, 0.0]) + noise


@pytest.fixture(scope="module")
def trained():
    """A small flow with a context, on rings whose rows above 100 are masked out and NaN."""
    target = np.asarray(ring(KEY, 128)).copy()
    target[100:] = np.nan
    input = jnp.linspace(-1, 1, 128)[:, None].at[120:].set(jnp.nan)
    batch = lx.Batch(target, input=input, mask=np.arange(128) < 100)
    head = lx.flows.coupling_flow(2, layers=2, hidden=(8,), context=1)
    model = lx.Likelihood(None, head)
    result = lx.train.fit(model, optax.adam(5e-3), batch, steps=60, key=KEY)
    return model, batch, result


def test_it_trains_and_says_that_it_is_exact(trained):
    model, batch, result = trained
    losses = result.history.loss
    assert np.all(np.isfinite(losses)) and losses[-1] < losses[0] - 0.1
    assert losses[0] < 8.5  # ActNorm has seen the data: as a Normal of their size, 2 log(7) + 2.84
    scored = lx.evaluate(model, result.params, KEY, batch)
    assert scored.claim.relation == "exact" and scored.claim.measure == ("lebesgue", 2)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(result.params))


def test_rows_that_are_masked_out_do_not_initialise(trained):
    model, batch, _ = trained
    params, _ = quick_jit(model.init)(KEY, batch)
    some = lx.Batch(batch.target[:100], input=batch.input[:100])
    inverse = quick_jit(
        lambda params, batch: model.predict(params, batch.input).bijector.inverse(batch.target)
    )
    z = np.asarray(inverse(params, some))
    # 100 of 128 rows, some of them twice.
    np.testing.assert_allclose(z.mean(0), 0, atol=0.2)
    np.testing.assert_allclose(z.std(0), 1, atol=0.2)


def test_under_transformations(trained):
    model, _, result = trained
    context, x = jnp.array([[-0.5], [0.1], [0.8]]), jnp.array([55.0, 3.0])

    @quick_jit
    def built(params):
        dist = model.predict(params, context)
        outside = jax.vmap(lambda c: model.predict(params, c))(context)
        ensemble = jax.tree.map(lambda a: jnp.stack([a, 1.1 * a]), params)
        both = jax.vmap(lambda p: model.predict(p, context))(ensemble)
        return dist, {
            "inside": jax.vmap(lambda c: model.predict(params, c).log_prob(x))(context),
            "outside": outside.log_prob(x),
            "one": dist[1].log_prob(x),
            "ensemble": both.log_prob(x)[0],
            "slope": jax.grad(lambda d: jnp.sum(d.log_prob(x)))(dist),
        }

    @quick_jit
    def ask(dist):
        y, own = dist.sample_and_log_prob(KEY, (4,))
        return dist.log_prob(x), own, dist.log_prob(y), y

    dist, got = built(result.params)
    log_prob, own, at_draws, y = map(np.asarray, ask(model.predict(result.params, context)))
    assert log_prob.shape == (3,) and len(set(log_prob)) == 3
    # `dist` has left a compiled function.
    for other in (got["inside"], got["outside"], ask(dist)[0], got["ensemble"]):
        np.testing.assert_allclose(other, log_prob, rtol=1e-4)
    np.testing.assert_allclose(got["one"], log_prob[1], rtol=1e-4)
    np.testing.assert_allclose(ask(pickle.loads(pickle.dumps(dist)))[0], log_prob, rtol=1e-5)
    assert y.shape == (4, 3, 2)
    np.testing.assert_allclose(at_draws, own, rtol=1e-3, atol=1e-3)
    assert jax.tree.structure(got["slope"]) == jax.tree.structure(dist)


def test_a_masked_row_poisons_nothing(trained):
    model, _, result = trained
    x = jnp.array([[55.0, 3.0], [jnp.nan, 0.0], [45.0, 5.0]])
    context = jnp.array([[-0.5], [jnp.nan], [0.8]])

    def total(params, context, x, mask):
        return jnp.sum(model.head(context, params).mask(mask).log_prob(x))

    slopes = quick_jit(jax.grad(total))
    params, kept = result.params["head"], np.array([0, 2])
    got = slopes(params, context, x, jnp.array([True, False, True]))
    want = slopes(params, context[kept], x[kept], jnp.array([True, True]))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


class Net(nnx.Module):
    def __init__(self, inputs, outputs, *, rngs):
        self.first = nnx.Linear(inputs, 4, rngs=rngs)
        self.last = nnx.Linear(4, outputs, rngs=rngs)

    def __call__(self, x):
        return self.last(jnp.tanh(self.first(x)))


def matrix(outputs):
    return (
        lambda key, x: {"w": jax.random.normal(key, (x.shape[-1], outputs))},
        lambda params, x: x @ params["w"],
    )


@pytest.mark.parametrize("name", ["nnx", "nnx module", "functions"])
def test_a_conditioner_of_your_own(name):
    makers = {
        "nnx": lambda n: functools.partial(Net, 2, n),
        "nnx module": lambda n: Net(2, n, rngs=nnx.Rngs(0)),
        "functions": matrix,
    }
    head = lx.flows.coupling_flow(3, layers=2, conditioner=makers[name], context=1)
    raw, x = np.array([[0.3], [-2.0]]), np.array([0.1, -0.4, 2.0])

    @quick_jit
    def ask(raw, x):
        params = head.init(KEY, raw)
        bijector = head(raw, params).bijector
        back = bijector.inverse(x)
        return params, back, bijector.forward(back)

    with jax.enable_x64(True):
        params, back, there = ask(raw, x)
    weight = jax.tree.leaves(params.layers.bijectors[2].conditioner.params)[-1]
    # A module starts each layer at its own values; what makes one starts each elsewhere.
    weight, back = np.asarray(weight), np.asarray(back)
    assert weight.shape[0] == 2 and np.any(weight[0] != weight[1]) == (name != "nnx module")
    np.testing.assert_allclose(there, [x, x], atol=1e-9)
    assert np.abs(back[0] - back[1]).max() > 1e-2


class Normed(nnx.Module):
    def __init__(self, outputs, *, rngs):
        self.norm = nnx.BatchNorm(1, rngs=rngs)
        self.last = nnx.Linear(1, outputs, rngs=rngs)

    def __call__(self, x):
        return self.last(self.norm(x))


BAD = {
    "one number": (lambda: lx.flows.coupling_flow(()), r"write event_shape=1 and target"),
    "image": (lambda: lx.flows.neural_spline_flow((4, 4)), "for images lx.flows.glow"),
    "layers": (lambda: lx.flows.masked_autoregressive_flow(2, layers=0), "at least one layer"),
    "widths": (lambda: lx.flows.coupling_flow(2, hidden=(64, 0)), r"hidden=\(64, 64\)"),
    "limit": (lambda: lx.bijectors.AffineTransformer(-1.0), "write log_limit=5.0"),

    "bins": (lambda: lx.flows.neural_spline_flow(2, bins=0), "write bins=8"),
    "bound": (lambda: lx.flows.neural_spline_flow(2, bound=-1.0), "write bound=4.0"),
    "context's size": (lambda: lx.flows.coupling_flow(2, context=-1), "write context=16"),
    "glow's shape": (lambda: lx.flows.glow((4, 4)), r"event_shape=\(28, 28, 1\)"),
    "glow's sides": (lambda: lx.flows.glow((6, 8, 1)), "multiples of 2"),
    "base": (
        lambda: lx.flows.coupling_flow(2, base=lx.Normal(0.0, 1.0)),
        r"a base of batch shape \(\) and event shape \(2,\)",
    ),
    "context": (
        lambda: lx.flows.coupling_flow(2).init(KEY, jnp.zeros((3, 4))),
        "it takes no context",
    ),
    "outputs": (
        lambda: lx.flows.coupling_flow(2, context=5).init(KEY, jnp.zeros((3, 4))),
        "give the network's last layer 5 outputs",
    ),
    "no params": (lambda: lx.flows.coupling_flow(2)(EMPTY), "head.init"),
    "state": (
        lambda: lx.flows.coupling_flow(
            2, conditioner=lambda n: functools.partial(Normed, n)
        ).init(KEY, EMPTY),
        "a conditioner has no state",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    make, message = BAD[name]
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_one_number_given_a_context():
    with jax.enable_x64(True):
        head = lx.flows.neural_spline_flow(1, layers=1, bins=4, hidden=(4,), context=1)
        raw = jnp.array([[-1.0], [1.0]])
        dist = head(raw, noisy(quick_jit(head.init)(KEY, raw), 0.3))
        line = np.linspace(-12, 12, 1001)
        p = np.exp(quick_jit(lambda d: d.log_prob(line[:, None, None]))(dist))
        np.testing.assert_allclose(p.sum(0) * (line[1] - line[0]), 1, atol=1e-4)
        assert np.abs(p[:, 0] - p[:, 1]).max() > 0.01


def test_whole_numbers_are_targets_as_others_are():
    model = lx.Likelihood(None, lx.flows.coupling_flow(2, layers=2, hidden=(4,)))
    x = np.random.default_rng(0).integers(0, 9, (6, 2))
    found, wanted = (
        quick_jit(lambda x: lx.Likelihood.init(model, KEY, lx.Batch(x)).params)(x.astype(kind))
        for kind in (np.int32, np.float32)
    )
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_without_an_input_there_is_one_density():
    model = lx.Likelihood(None, lx.Head(lx.Normal, event_shape=2, loc=lx.learned(), scale=1.0))
    params = model.init(KEY, lx.Batch(np.zeros((3, 2)))).params
    dist = model.predict(params, None)
    assert (dist.batch_shape, dist.event_shape) == ((), (2,))


def test_one_number_without_a_context():
    line = np.linspace(-12, 12, 4001)[:, None]
    heads = {
        "spline": lx.flows.neural_spline_flow(1, layers=2),
        "affine": lx.flows.coupling_flow(1, layers=2),
    }

    def log_prob(params, name):
        return heads[name](jnp.zeros(0), params).log_prob(line)

    @quick_jit
    def ask(each):
        grad = jax.grad(lambda params, name: jnp.sum(log_prob(params, name)[1200:2400]))
        return {name: (log_prob(p, name), grad(p, name)) for name, p in each.items()}

    with jax.enable_x64(True):
        each = {name: noisy(head.init(KEY, jnp.zeros(0)), 0.3) for name, head in heads.items()}
        found = jax.tree.map(np.asarray, ask(each))
    found = {n: (p, g.layers.bijectors[2].conditioner.params) for n, (p, g) in found.items()}
    for log_p, slopes in found.values():
        np.testing.assert_allclose(np.exp(log_p).sum() * 0.006, 1, atol=1e-4)
        # No layer that sees nothing and never moves.
        assert all(np.all(np.any(s, axis=-1)) for s in jax.tree.leaves(slopes))
    curves = {name: np.diff(log_p, 2) for name, (log_p, _) in found.items()}
    np.testing.assert_allclose(curves["affine"], curves["affine"].mean(), rtol=1e-6)  # a Normal
    assert np.ptp(curves["spline"]) > np.abs(curves["affine"]).mean()  # and this is none


def test_targets_of_another_length_are_named():
    model = lx.Likelihood(None, lx.flows.coupling_flow(3))
    with pytest.raises(ValueError, match=r"targets of shape \(5, 3\) wanted, got \(5, 2\); write"):
        model.init(jax.random.key(0), lx.Batch(jnp.zeros((5, 2))))
