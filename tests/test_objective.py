"""The shape of every objective: one reduction, masks, weights, claims, and messages."""

import dataclasses
import functools
import inspect
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import likelax as lx
from likelax.objective import Claim, Measure
from nets import Plain, Stateful, linear

KEY = jax.random.key(0)
X = np.array(jax.random.normal(jax.random.key(1), (6, 2)))
Y = np.array(X[:, 0] - 0.5 * X[:, 1] ** 2)
MASK = np.array([1, 1, 0, 1, 0, 1], bool)


@pytest.fixture(scope="module")
def normal():
    model = lx.Likelihood(linear(2), lx.Head(lx.Normal))
    return model, model.init(KEY, lx.Batch(Y, X)).params


def loss(model, params, batch, **kwargs):
    return model(params, KEY, batch, **kwargs)[0]


def test_loss_is_the_mean_negative_log_likelihood(normal):
    model, params = normal
    raw = X.astype(np.float64) @ np.asarray(params["net"]["w"], np.float64)
    z = (Y - raw[:, 0]) / np.exp(raw[:, 1])
    expected = np.mean(0.5 * z**2 + raw[:, 1] + 0.5 * np.log(2 * np.pi))
    value, aux = model(params, KEY, lx.Batch(Y, X))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert aux.claim == Claim("exact", True, Measure("lebesgue", 1))
    np.testing.assert_allclose(np.mean(aux.per_example), value, rtol=1e-6)
    np.testing.assert_allclose(aux.loss, value)


def test_mask_equals_leaving_rows_out_even_if_they_are_nan(normal):
    model, params = normal
    spoilt_y, spoilt_x = np.where(MASK, Y, np.nan), np.where(MASK[:, None], X, np.nan)
    of = jax.value_and_grad(functools.partial(loss, model))
    value, grad = of(params, lx.Batch(spoilt_y, spoilt_x, MASK))
    expected, expected_grad = of(params, lx.Batch(Y[MASK], X[MASK]))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(grad["net"]["w"], expected_grad["net"]["w"], rtol=1e-5)
    # The control: without the mask the same rows do poison it.
    assert np.isnan(loss(model, params, lx.Batch(spoilt_y, spoilt_x)))


def test_wide_numpy_arrays_under_jit_where_x64_goes_on_and_off(normal):
    model, params = normal
    count = lx.Likelihood(linear(1), lx.Head(lx.Poisson))
    labels, reals = np.array([3, 0, 7, 1, 2, 5]), Y.astype(np.float64)
    assert labels.dtype == np.int64  # JAX keeps one program for these, on either side of x64
    weights = count.init(KEY, lx.Batch(labels, X)).params

    def total():
        return jnp.stack(
            [
                loss(model, params, lx.Batch(reals, X)),
                loss(count, weights, lx.Batch(labels, X)),
                lx.Poisson(jnp.float32(2.5)).log_prob(labels).sum(),
            ]
        )

    inner = jax.jit(total)
    first = inner()
    with jax.enable_x64(True):
        np.testing.assert_allclose(inner(), first, rtol=1e-5)
    np.testing.assert_allclose(inner(), first, rtol=1e-7)


def test_weights_are_normalised_and_weight_zero_is_masked(normal):
    model, params = normal
    weight = np.array([1, 2, 0, 0.5, 0, 3], np.float32)
    spoilt = np.where(weight > 0, Y, np.nan)
    got = loss(model, params, lx.Batch(spoilt, X, weight=weight))
    each = model(params, KEY, lx.Batch(Y, X))[1].per_example
    np.testing.assert_allclose(got, np.sum(weight * each) / weight.sum(), rtol=1e-6)


def test_nothing_left_gives_zero_and_zero_gradient(normal):
    model, params = normal
    batch = lx.Batch(Y * np.nan, X, np.zeros(6, bool))
    value, grad = jax.value_and_grad(functools.partial(loss, model))(params, batch)
    assert value == 0
    np.testing.assert_array_equal(grad["net"]["w"], 0)


def test_a_mask_over_the_first_axes_covers_the_others():
    model = lx.Likelihood(linear(2), lx.Head(lx.Normal))
    x, y = np.stack([X, 2 * X], 1), np.stack([Y, Y + 1], 1)
    params, _ = model.init(KEY, lx.Batch(y, x))
    got, aux = model(params, KEY, lx.Batch(y, x, MASK))
    assert aux.per_example.shape == (6, 2)
    expected = np.mean(model(params, KEY, lx.Batch(y[MASK], x[MASK]))[1].per_example)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_state_goes_in_and_comes_out():
    model = lx.Likelihood(Stateful(2, rngs=nnx.Rngs(0)), lx.Head(lx.Normal))
    batch = lx.Batch(Y, X)
    params, state = model.init(KEY, batch)
    (_, aux), _ = jax.value_and_grad(model, has_aux=True)(params, KEY, batch, state=state)
    assert not np.allclose(aux.state["norm"]["mean"], state["norm"]["mean"])
    _, still = model(params, KEY, batch, state=aux.state, train=False)
    jax.tree.map(np.testing.assert_array_equal, still.state, aux.state)
    model.merge(params, aux.state)


def test_an_ensemble_is_vmap_over_params():
    model = lx.Likelihood(functools.partial(Plain, 2), lx.Head(lx.Normal))
    batch = lx.Batch(Y, X)
    params, _ = jax.vmap(lambda key: model.init(key, batch))(jax.random.split(KEY, 3))
    together = jax.vmap(lambda p: loss(model, p, batch))(params)
    members = [jax.tree.map(operator.itemgetter(i), params) for i in range(3)]
    alone = [loss(model, member, batch) for member in members]
    np.testing.assert_allclose(together, alone, rtol=1e-6)
    assert len(set(np.asarray(together).tolist())) == 3
    dist = jax.vmap(lambda p: model.predict(p, X))(params)
    assert dist.batch_shape == (3, 6)
    mixed = jax.nn.logsumexp(dist.log_prob(Y), axis=0) - np.log(3)
    assert mixed.shape == (6,)


def test_objectives_are_static_arguments_and_frozen(normal):
    model, params = normal
    step = jax.jit(lambda m, p: m(p, KEY, lx.Batch(Y, X))[0], static_argnums=0)
    np.testing.assert_allclose(step(model, params), loss(model, params, lx.Batch(Y, X)), rtol=1e-6)
    with pytest.raises(AttributeError, match="frozen"):
        model.head = None


def test_no_batch_and_no_key_are_refused(normal):
    model, params = normal
    # Unwrapped: in the tests the annotations would speak first.
    call = inspect.unwrap(lx.Objective.__call__)
    with pytest.raises(TypeError, match=r"lx\.Batch\(target=y, input=x\)"):
        call(model, params, KEY, (X, Y))
    with pytest.raises(TypeError, match=r"jax\.random\.key\(0\)"):
        call(model, params, 0, lx.Batch(Y, X))
    with pytest.raises(TypeError, match="params come before the key") as swapped:
        call(model, KEY, params, lx.Batch(Y, X))
    want = "got a dict of 1 arrays; params come before the key: write objective(params, jax.random"
    assert want in str(swapped.value) and len(str(swapped.value)) < 200
    with pytest.raises(TypeError, match=r"got float32 of shape \(1000,\); write"):
        call(model, params, np.zeros(1000, np.float32), lx.Batch(Y, X))


SHAPES = {
    "column target": (
        lx.Batch(Y[:, None], X),
        r"\(6,\).*the target has \(6, 1\); write target\[\.\.\., 0\]",
    ),
    "short target": (
        lx.Batch(Y[:4], X),
        r"the target has \(4,\); are input and target of one batch",
    ),
    "column mask": (
        lx.Batch(Y, X, MASK[:, None]),
        r"mask has shape \(6, 1\).*write mask=mask\.reshape\(\(6,\)\)",
    ),
    "short weight": (
        lx.Batch(Y, X, weight=np.ones(3)),
        r"weight has shape \(3,\), the target \(6,\).*are weight and target of one batch\?",
    ),
    "turned mask": (
        lx.Batch(np.stack([Y] * 3, 1), X, np.ones((3, 6), bool)),
        r"mask has shape \(3, 6\), the target \(6, 3\).*write mask=mask\.T",
    ),
}


@pytest.mark.parametrize("case", SHAPES)
def test_shapes_that_do_not_fit_are_named(normal, case):
    model, params = normal
    batch, match = SHAPES[case]
    with pytest.raises(ValueError, match=match):
        model(params, KEY, batch)


def test_row_target_against_column_prediction():
    model = lx.Likelihood(linear(2), lx.Head(lx.Normal, event_shape=(1,)))
    params, _ = model.init(KEY, lx.Batch(Y[:, None], X))
    with pytest.raises(ValueError, match=r"target\[\.\.\., None\]"):
        model(params, KEY, lx.Batch(Y, X))


def test_debug_checks_find_the_target():
    counts = np.array([0, 2, 1, -3, 4, 1])
    model = lx.Likelihood(linear(1), lx.Head(lx.Poisson))
    params, _ = model.init(KEY, lx.Batch(counts, X))
    assert loss(model, params, lx.Batch(counts, X)) == np.inf
    message = r"at index \(3\) the target is -3.*Poisson: a non-negative integer; mend the data"
    with lx.debug_checks(), pytest.raises(ValueError, match=message):
        model(params, KEY, lx.Batch(counts, X))
    grads = lx.debug_checks(
        lambda p: jax.value_and_grad(model, has_aux=True)(p, KEY, lx.Batch(counts, X))
    )
    with pytest.raises(ValueError, match=message):
        grads(params)
    with lx.debug_checks():  # left out: nothing to say
        assert np.isfinite(loss(model, params, lx.Batch(counts, X, counts >= 0)))


def test_claims_add_and_subtract():
    exact, upper, lower = Claim("exact"), Claim("upper"), Claim("lower")
    assert (exact + exact).relation == "exact"
    assert (exact + upper).relation == (upper + upper).relation == "upper"
    assert (exact - upper).relation == "lower"
    assert (upper - exact).relation == "upper"
    assert (upper - upper).relation == (upper - lower).relation == "none"
    assert (upper + lower).relation == (upper + Claim("estimate")).relation == "none"
    assert (exact + Claim("none")).relation == "none"
    one = Claim("exact", True, Measure("counting", 3))
    assert (one + one).measure == Measure("counting", 6)
    assert (
        str(Claim("upper", vanishes="num_particles")) == "upper bound, closing with num_particles"
    )


def test_a_subclass_writes_init_and_score():
    class Constant(lx.Objective):
        claim = Claim("none")

        def init(self, key, batch):
            return lx.Variables({"c": jnp.zeros(())})

        def score(self, params, key, batch, *, state, train, keep):
            cost = (batch.target - params["c"]) ** 2
            return lx.Scores(cost, {"half": cost / 2}, state, self.claim)

    objective = Constant()
    value, aux = objective({"c": 1.0}, KEY, lx.Batch(Y, mask=MASK))
    np.testing.assert_allclose(value, np.mean((Y[MASK] - 1) ** 2), rtol=1e-6)
    np.testing.assert_allclose(aux.terms["half"], value / 2, rtol=1e-6)
    assert dataclasses.asdict(aux)["claim"]["relation"] == "none"


def test_masks_are_boolean_and_weights_not_negative(normal):
    model, params = normal
    with pytest.raises(TypeError, match=r"Batch\.mask is boolean, got float.*weight=mask"):
        loss(model, params, lx.Batch(Y, X, 0.5 * MASK))
    counted = loss(model, params, lx.Batch(Y, X, 3 * MASK))  # document numbers, say
    assert counted == loss(model, params, lx.Batch(Y, X, MASK))
    weight = np.where(np.arange(6) == 2, -1.0, 1.0)
    loss(model, params, lx.Batch(Y, X, weight=weight))  # values are looked at on request
    with lx.debug_checks(), pytest.raises(ValueError, match=r"Batch\.weight.*index \(2\).*-1"):
        loss(model, params, lx.Batch(Y, X, weight=weight))


def test_one_hot_targets_and_inputs_without_a_batch_axis_are_named():
    model = lx.Likelihood(linear(3), lx.Head(lx.Categorical, num_categories=3))
    params, _ = model.init(KEY, lx.Batch(np.zeros(6, int), X))
    with pytest.raises(ValueError, match=r"target\.argmax\(-1\), or lx\.CrossEntropy"):
        loss(model, params, lx.Batch(np.eye(3)[[0, 1, 2, 0, 1, 2]], X))
    with pytest.raises(ValueError, match=r"no batch axis.*input\[:, None\]"):
        loss(model, params, lx.Batch(np.zeros(6, int), X[0]))


@pytest.mark.parametrize("weighted", [False, True])
def test_a_vocabulary_head_with_known_weights_has_the_loss_of_its_logits(weighted):
    x, label = np.array(X @ np.ones((2, 5), np.float32)), np.array([0, 4, -1, 2, 7, 3])
    head = lx.LinearHead(7, features=5, bias=True)
    model = lx.Likelihood(None, head)
    weight = np.array([1, 2, 0, 0.5, 0, 3], np.float32) if weighted else None
    mask = None if weighted else MASK & (label >= 0) & (label < 7)
    batch = lx.Batch(label, x, mask, weight)
    params, _ = model.init(KEY, batch)
    w = np.asarray(mask if weight is None else weight, np.float32)

    def naive(params):
        logits = x @ params["head"]["kernel"] + params["head"]["bias"]
        nll = -jnp.sum(jax.nn.log_softmax(logits) * jax.nn.one_hot(label, 7), -1)
        return jnp.sum(w * nll) / w.sum()

    (got, aux), grads = jax.value_and_grad(model, has_aux=True)(params, KEY, batch)
    want, want_grads = jax.value_and_grad(naive)(params)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    np.testing.assert_allclose(np.sum(aux.per_example * aux.weight) / w.sum(), want, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), grads, want_grads)
    # The control: a label that is no class, where it counts.
    assert np.isinf(model(params, KEY, lx.Batch(label, x))[0])
