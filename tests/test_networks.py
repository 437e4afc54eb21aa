"""Networks of every kind behind one interface: values, state, dropout and re-initialisation."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import likelax as lx
from likelax.networks import adapt
from nets import Linen, Plain, Stateful, linear

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(6, 2)
KEY = jax.random.key(0)

STATEFUL = {
    "nnx": lambda: Stateful(3, rngs=nnx.Rngs(0)),
    "nnx factory": lambda: functools.partial(Stateful, 3),
    "linen": lambda: Linen(3),
}


@pytest.fixture(params=STATEFUL, scope="module")
def adapted(request):
    net = adapt(STATEFUL[request.param]())
    return net, *net.init(KEY, X)


def test_plain_network_gives_its_own_output():
    net = Plain(3, rngs=nnx.Rngs(0))
    params, state = adapt(net).init(KEY, X)
    out, _ = adapt(net).apply(params, X, key=None, state=state, train=True)
    np.testing.assert_allclose(out, net(X), rtol=1e-6)
    assert state == ()


def test_dropout_is_reseeded_by_the_key_and_off_in_evaluation(adapted):
    net, params, state = adapted
    run = jax.jit(
        lambda key, train: net.apply(params, X, key=key, state=state, train=train)[0],
        static_argnums=1,
    )
    one, again, two = run(KEY, True), run(KEY, True), run(jax.random.key(7), True)
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, two)
    np.testing.assert_array_equal(run(KEY, False), run(jax.random.key(7), False))


def test_every_stream_of_a_module_is_reseeded():
    """One with a tag of its own and one under the default tag: each alone must follow the key."""

    def outputs(rate_odd, rate_default):
        net = Stateful(3, rngs=nnx.Rngs(0))
        net.drop[0].rate, net.drop[1].rate = rate_odd, rate_default
        adapted = adapt(net)
        params, state = adapted.init(KEY, X)
        return [
            adapted.apply(params, X, key=jax.random.key(k), state=state, train=True)[0]
            for k in (1, 2)
        ]

    for rates in [(0.5, 0.0), (0.0, 0.5)]:
        one, two = outputs(*rates)
        assert not np.allclose(one, two)
    one, two = outputs(0.0, 0.0)  # the control: nothing else depends on the key
    np.testing.assert_array_equal(one, two)


def test_batch_statistics_move_in_training_only(adapted):
    net, params, state = adapted
    _, after_train = net.apply(params, X, key=KEY, state=state, train=True)
    _, after_eval = net.apply(params, X, key=KEY, state=state, train=False)
    moved = jax.tree.map(lambda a, b: not np.allclose(a, b), state, after_train)
    assert any(jax.tree.leaves(moved))
    jax.tree.map(np.testing.assert_array_equal, state, after_eval)


def test_legacy_keys_work(adapted):
    net, params, state = adapted
    out, _ = net.apply(params, X, key=jax.random.PRNGKey(0), state=state, train=True)
    assert np.all(np.isfinite(out))


def test_missing_state_and_key_are_named(adapted):
    net, params, _ = adapted
    with pytest.raises(ValueError, match="params, state = model.init"):
        net.apply(params, X, key=KEY, state=(), train=False)


def test_dropout_without_a_key_is_refused():
    net = adapt(Stateful(3, rngs=nnx.Rngs(0)))
    params, state = net.init(KEY, X)
    with pytest.raises(ValueError, match="pass key="):
        net.apply(params, X, key=None, state=state, train=True)


def test_init_copies_the_users_module():
    net = Plain(3, rngs=nnx.Rngs(0))
    params, _ = adapt(net).init(KEY, X)
    jax.jit(lambda p: jax.tree.map(jnp.zeros_like, p), donate_argnums=0)(params)
    assert np.all(np.isfinite(net(X)))


def test_merge_gives_the_trained_network_back(adapted):
    net, params, state = adapted
    params = jax.tree.map(lambda p: p + 0.1, params)
    merged = net.merge(params, state)
    expected, _ = net.apply(params, X, key=None, state=state, train=False)
    if isinstance(merged, nnx.Module):
        merged.eval()
        np.testing.assert_allclose(merged(X), expected, rtol=1e-6)
    else:
        np.testing.assert_allclose(merged(X, train=False), expected, rtol=1e-6)


def test_factories_make_other_members_for_other_keys():
    net = adapt(functools.partial(Plain, 3))
    params, _ = jax.vmap(lambda key: net.init(key, X))(jax.random.split(KEY, 4))
    kernels = params["last"]["kernel"]
    assert kernels.shape == (4, 8, 3)
    assert len({float(k) for k in kernels[:, 0, 0]}) == 4


def test_parameters_are_plain_dicts_that_pickle(adapted):
    _, params, state = adapted
    back = pickle.loads(pickle.dumps(jax.device_get((params, state))))
    assert jax.tree.structure(back) == jax.tree.structure((params, state))
    assert isinstance(params, dict)


def test_none_is_the_identity():
    net = adapt(None)
    out, _ = net.apply(net.init(KEY, X).params, X, key=None, state=(), train=True)
    np.testing.assert_array_equal(out, X)


def test_pairs_of_functions_may_take_key_and_train():
    seen = {}

    def apply(params, x, *, key, train):
        seen.update(key=key, train=train)
        return x

    adapt((lambda key, x: {}, apply)).apply({}, X, key=KEY, state=(), train=True)
    assert seen["train"] is True and seen["key"] is KEY
    assert adapt(linear(3)).init(KEY, X).params["w"].shape == (2, 3)


@pytest.mark.parametrize("wrong", [3, lambda x: x, (1, 2)], ids=["number", "function", "pair"])
def test_what_is_no_network_is_refused(wrong):
    with pytest.raises(TypeError, match="NNX module"):
        lx.Likelihood(wrong, lx.Head(lx.Normal))
