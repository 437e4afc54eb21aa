"""The training loop: it learns, repeats itself, goes on from where it stopped, and stops when it
must.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import likelax as lx
from likelax.objective import check_batch
from likelax.train.loop import _check_optimizer
from nets import Stateful, linear

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 2)).astype(np.float32)
Y = (X @ [1.5, -0.5] + 0.3 * RNG.normal(size=70)).astype(np.float32)
BATCH = lx.Batch(Y, X)


@pytest.fixture(scope="module")
def model():
    return lx.Likelihood(linear(1), lx.Head(lx.Normal, scale=lx.learned()))


def run(model, steps=60, **kwargs):
    return lx.train.fit(model, optax.adam(0.05), BATCH, steps=steps, key=KEY, **kwargs)


def test_fit_finds_the_maximum_likelihood(model):
    result = lx.train.fit(model, optax.adam(0.03), BATCH, steps=600, key=KEY)
    w, residual, *_ = np.linalg.lstsq(X, Y, rcond=None)
    np.testing.assert_allclose(result.params["net"]["w"][:, 0], w, atol=2e-3)
    scale = model.predict(result.params, X).scale
    np.testing.assert_allclose(scale[0], np.sqrt(residual[0] / 70), rtol=2e-3)
    best = 0.5 * np.log(2 * np.pi * residual[0] / 70) + 0.5
    np.testing.assert_allclose(result.history.loss[-1], best, rtol=1e-4)


def test_the_same_key_gives_the_same_result(model):
    batches = [lx.datasets.batches(BATCH, 32, jax.random.key(3)) for _ in range(2)]
    one, two = (
        lx.train.fit(model, optax.adam(0.05), b, steps=7, key=KEY).history.loss for b in batches
    )
    np.testing.assert_array_equal(one, two)


def test_going_on_equals_not_having_stopped(model):
    whole = run(model, 20)
    half = run(model, 10)
    rest = run(model, 10, train_state=half.train_state)
    np.testing.assert_allclose(rest.history.loss, whole.history.loss[10:], rtol=1e-6)
    assert int(rest.train_state.step) == 20


def test_history_and_validation(model):
    result = run(model, 20, validation=BATCH, validate_every=8)
    assert result.history.loss.shape == (20,)
    np.testing.assert_array_equal(result.history.validation_step, [8, 16, 20])
    assert isinstance(result.history.loss, np.ndarray)
    expected = lx.evaluate(model, result.params, KEY, BATCH).loss
    np.testing.assert_allclose(result.history.validation_loss[-1], expected, rtol=1e-6)


def test_a_result_prints_in_a_line(model):
    result = run(model, 20, validation=BATCH)
    last, held_out = result.history.loss[-1], result.history.validation_loss[-1]
    count = result.params["net"]["w"].size + 1
    want = f"steps=20, loss={last:.4f}, validation_loss={held_out:.4f}, {count} parameters"
    assert repr(result) == f"FitResult({want})"
    assert "validation" not in repr(run(model, 3))


def test_batch_statistics_are_carried():
    model = lx.Likelihood(Stateful(2, rngs=nnx.Rngs(0)), lx.Head(lx.Normal))
    result = run(model, 5)
    assert np.any(np.asarray(result.state["norm"]["mean"]) != 0)


def test_step_is_pure_over_a_donated_state(model):
    optimizer = optax.sgd(0.1)
    train_state = lx.train.init(model, optimizer, KEY, BATCH)
    before = np.array(train_state.params["net"]["w"])  # a view would keep the buffer
    one_step = lx.train.step(model, optimizer)
    after, aux = one_step(train_state, BATCH)
    grads = jax.grad(lambda p: model(p, KEY, BATCH)[0])(
        {"net": {"w": before}, "head": {"scale": jnp.zeros(())}}
    )
    np.testing.assert_allclose(
        after.params["net"]["w"], before - 0.1 * grads["net"]["w"], rtol=1e-5
    )
    assert aux.state == () and int(after.step) == 1
    assert train_state.params["net"]["w"].is_deleted()


def test_a_loss_that_is_not_finite_stops_with_step_and_terms(model):
    spoilt = [BATCH] * 3 + [lx.Batch(np.where(np.arange(70) == 5, np.nan, Y), X)]
    with pytest.raises(FloatingPointError, match=r"not finite at step 3: loss nan.*debug_checks"):
        lx.train.fit(model, optax.adam(0.05), spoilt, steps=6, key=KEY)


def test_the_bar_is_drawn_when_asked_and_silent_otherwise(model, capsys):
    run(model, 3, progress=True, label="a bar")
    assert "a bar" in capsys.readouterr().err
    run(model, 3)
    assert capsys.readouterr().err == ""


REFUSED = {
    "no steps": ({"steps": 0, "batches": BATCH}, "steps is at least 1, got 0"),
    "an iterator": ({"steps": 5, "batches": iter([BATCH])}, "only once"),
    "nothing": ({"steps": 5, "batches": []}, "nothing to train on"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_arguments_are_refused(model, case):
    arguments, match = REFUSED[case]
    with pytest.raises(ValueError, match=match):
        lx.train.fit(model, optax.sgd(0.1), key=KEY, **arguments)


def test_the_callers_train_state_is_not_donated(model):
    first = run(model, 3)
    second = run(model, 3, train_state=first.train_state)
    assert int(second.train_state.step) == 6
    np.testing.assert_allclose(first.params["net"]["w"], run(model, 3).params["net"]["w"])


def test_an_optimizer_whose_state_holds_the_parameters(model):
    result = lx.train.fit(model, optax.lbfgs(0.1, linesearch=None), BATCH, steps=3, key=KEY)
    assert result.history.loss[-1] < result.history.loss[0]


def test_checks_find_what_is_wrong_in_a_fit(model):
    spoilt = lx.Batch(np.where(np.arange(70) == 5, np.nan, Y), X)
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"at index \(5\) the target is nan"):
        with lx.debug_checks():
            lx.train.fit(model, optax.sgd(0.1), [BATCH, spoilt], steps=4, key=KEY)


def test_tuples_and_factories_are_named():
    # Not through `fit`: under the annotations of the tests a TypeError comes as theirs.
    with pytest.raises(TypeError, match=r"a Batch wanted, got tuple.*lx\.Batch\(target=y"):
        check_batch((X, Y))
    with pytest.raises(TypeError, match=r"an optax optimiser wanted, got sgd; write optax\.adam"):
        _check_optimizer(optax.sgd)
