"""Averages of parameters: against sums over all steps, and others made of snapshots of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import likelax as lx
from nets import linear

KEY = jax.random.key(0)
STEPS, EVERY = 320, 20
PROFILES = lx.train.PowerEma(0.05), lx.train.PowerEma(0.1)
# What is trained walks as it likes: its "gradients" are the steps of this walk.
WALK = np.cumsum(np.random.default_rng(0).normal(size=(STEPS, 3)), axis=0).astype(np.float32)


def direct(profile, steps=STEPS):
    """The average of the parameters after each step, each as long as the profile lasts there."""
    edges = (np.arange(steps + 1) / steps) ** (profile.gamma + 1)
    return np.diff(edges) @ WALK[:steps].astype(float)


@pytest.fixture(scope="module")
def walked():
    """The optimiser's states along the walk, every 20 steps."""
    optimizer = lx.train.averaged(optax.sgd(-1.0), lx.train.Ema(0.9), *PROFILES)
    moves = jnp.diff(WALK, axis=0, prepend=jnp.zeros((1, 3), jnp.float32))

    def one(carry, move):
        params, state = carry
        updates, state = optimizer.update({"w": move}, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (params["w"], state)

    params = {"w": jnp.zeros(3)}
    _, (path, states) = jax.jit(
        lambda: jax.lax.scan(one, (params, optimizer.init(params)), moves)
    )()
    np.testing.assert_allclose(path, WALK, atol=1e-4)
    return [jax.tree.map(lambda x, t=t: x[t - 1], states) for t in range(EVERY, STEPS + 1, EVERY)]


def test_an_ema_is_the_sum_it_says(walked):
    weights = 0.1 * 0.9 ** np.arange(STEPS)[::-1]
    got = lx.train.averages(walked[-1])[0]["w"]
    np.testing.assert_allclose(got, weights @ WALK, rtol=1e-4)


@pytest.mark.parametrize("which", [0, 1])
def test_a_power_average_is_the_integral_of_its_profile(walked, which):
    profile = PROFILES[which]
    got = lx.train.averages(walked[-1])[1 + which]["w"]
    np.testing.assert_allclose(got, direct(profile), rtol=1e-4)
    # The profile's own width: t^gamma on [0, 1] has the moments (gamma + 1) / (gamma + 1 + k).
    first, second = ((profile.gamma + 1) / (profile.gamma + 1 + k) for k in (1, 2))
    np.testing.assert_allclose(np.sqrt(second - first**2), profile.sigma_rel, rtol=1e-10)


def test_other_averages_are_made_of_snapshots(walked):
    taken = [snapshot for state in walked for snapshot in lx.train.snapshots(state)]
    moved = np.abs(WALK[-1]).max()
    for sigma_rel, wanted in ((0.03, 0.01), (0.075, 0.002), (0.15, 0.005), (0.25, 0.03)):
        profile = lx.train.PowerEma(sigma_rel)
        got = np.asarray(lx.train.reconstructed(taken, sigma_rel)["w"])
        np.testing.assert_allclose(got, direct(profile), atol=wanted * moved)
    # As of an earlier step, too.
    got = np.asarray(lx.train.reconstructed(taken, 0.12, step=200)["w"])
    np.testing.assert_allclose(got, direct(lx.train.PowerEma(0.12), 200), atol=0.01 * moved)
    # A wrong idea of what was kept, and the nearest snapshot instead of their sum, are seen.
    swapped = [s._replace(profile=PROFILES[s.profile is PROFILES[0]]) for s in taken]
    for wrong in (lx.train.reconstructed(swapped, 0.15)["w"], taken[-1].params["w"]):
        assert np.abs(wrong - direct(lx.train.PowerEma(0.15))).max() > 0.02 * moved


def test_fit_keeps_averages_beside_the_parameters():
    x = np.random.default_rng(0).normal(size=(32, 2)).astype(np.float32)
    batch = lx.Batch((x @ [1.5, -0.5]).astype(np.float32), x)
    model = lx.Likelihood(linear(1), lx.Head(lx.Normal, scale=1.0))
    optimizer = lx.train.averaged(optax.sgd(0.1), lx.train.Ema(0.5))
    results = [lx.train.fit(model, optimizer, batch, steps=steps, key=KEY) for steps in (1, 2)]
    plain = lx.train.fit(model, optax.sgd(0.1), batch, steps=2, key=KEY)
    jax.tree.map(np.testing.assert_array_equal, results[1].params, plain.params)
    (first,), (second,) = (lx.train.averages(result.train_state) for result in results)
    want = 0.5 * first["net"]["w"] + 0.5 * results[1].params["net"]["w"]
    np.testing.assert_allclose(second["net"]["w"], want, rtol=1e-6)


def test_averages_of_bfloat16_are_kept_in_float32():
    optimizer = lx.train.averaged(optax.sgd(1.0), lx.train.PowerEma(0.1))
    params = {"w": jnp.ones(2, jnp.bfloat16)}
    _, state = optimizer.update(params, optimizer.init(params), params)
    (average,) = lx.train.averages(state)
    assert average["w"].dtype == jnp.float32
    np.testing.assert_array_equal(average["w"], 0.0)  # of one step: what it led to


ERRORS = {
    "a decay": (lambda: lx.train.Ema(1.0), r"decay is in \[0, 1\), got 1.0"),
    "a width": (lambda: lx.train.PowerEma(0.3), "0 < sigma_rel < 0.289 wanted, got 0.3"),
    "no profile": (lambda: lx.train.averaged(optax.sgd(1.0)), "nothing to keep; write averaged"),
    "no averages": (lambda: lx.train.averages(optax.sgd(1.0).init({})), "wanted, found 0"),
    "no snapshots": (lambda: lx.train.reconstructed([], 0.1), "no snapshots; gather"),
    "no parameters": (
        lambda: (o := lx.train.averaged(optax.sgd(1.0), *PROFILES)).update({}, o.init({})),
        "wants the parameters",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_to_write(name):
    call, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        call()
