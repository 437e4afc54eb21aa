"""What is learned beside the network: schedules, and which times to look at."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import likelax as lx
from likelax._keys import stream
from likelax.diffusion.denoising import with_slope_of_square
from likelax.diffusion.weighting import Weighting
from likelax.testing.gaussian_diffusion import example_data
from likelax.testing.subject import quick_jit

D = lx.diffusion
KEY = jax.random.key(5)
DATA = example_data()
MOVED = (lambda key, *_: {"w": jnp.ones(())}, lambda p, z, *_: p["w"] * z)  # an arbitrary one

# Learned schedules.


def test_a_learned_schedule_is_trained_for_its_variance_and_its_ends_for_the_bound():
    process = D.Process(schedule=D.Learned(2), log_snr_max=4.0, log_snr_min=-3.0)
    weights = (lambda key, *_: {"w": 0.5 * jnp.ones(3)}, lambda p, z, *_: jnp.tanh(p["w"] * z))
    model = D.VLB(process, weights, "noise")
    batch = lx.Batch(np.random.default_rng(0).normal([0.5, -1.0, 0.0], size=(4, 3)))

    def squares(params, key):
        x = model.data.encoded(jnp.asarray(batch.target), None)
        time = model.times.draw(stream(key, "times"), 4, ()).time
        cost, _ = model._diffusion(params, (x, None, time, key), (), False, Weighting("elbo"))
        return jnp.mean(cost**2)

    @quick_jit
    def ask(key):
        params = model.init(key, batch).params
        both = [
            jax.value_and_grad(functools.partial(model, train=train), has_aux=True)(
                params, key, batch
            )
            for train in (True, False)
        ]
        steps = jax.tree.map(
            lambda p: 1e-4 * jax.random.normal(jax.random.key(3), (5, *p.shape)),
            params["process"]["schedule"],
        )

        def moved(step):
            own = jax.tree.map(jnp.add, params["process"]["schedule"], step)
            return squares(params | {"process": params["process"] | {"schedule": own}}, key)

        there_and_back = jax.tree.map(lambda s: jnp.concatenate([s, -s]), steps)
        change = jax.vmap(moved)(there_and_back).reshape(2, -1)
        return both, steps, 0.5 * (change[0] - change[1])

    with jax.enable_x64(True):
        (((loss, aux), grads), ((plain, other), slopes)), steps, change = ask(KEY)
        np.testing.assert_allclose(loss, plain, rtol=1e-12)
        np.testing.assert_allclose(aux.per_example, other.per_example, rtol=1e-12)
        own, plain = grads["process"], slopes["process"]
        for name in ("log_snr_max", "log_snr_min"):
            assert abs(own[name]) > 1e-3
            np.testing.assert_allclose(own[name], plain[name], rtol=1e-10)
        np.testing.assert_allclose(grads["net"]["w"], slopes["net"]["w"], rtol=1e-10)
        want = sum(
            np.sum(np.asarray(s * g), axis=tuple(range(1, s.ndim)))
            for s, g in zip(*map(jax.tree.leaves, (steps, own["schedule"])), strict=True)
        )
        assert np.all(np.abs(want) > 1e-6)
        np.testing.assert_allclose(change, want, rtol=1e-5)
        # The control: the plain gradient is another one.
        assert not np.allclose(plain["schedule"]["kernel"], own["schedule"]["kernel"], rtol=0.1)
    assert not aux.claim.unbiased and other.claim.unbiased


def test_the_slope_of_the_square_by_hand():
    ask = lambda position, rest: (jnp.sin(position) * rest["w"], rest["n"] + 1)  # noqa: E731
    rest = {"w": jnp.array([2.0, 3.0]), "n": jnp.array([1, 2])}
    position = jnp.array([0.3, 0.8])

    def total(position, w):
        cost, aux = with_slope_of_square(ask, position, rest | {"w": w})
        return jnp.sum(cost), aux

    (by_position, by_w), aux = jax.grad(total, (0, 1), has_aux=True)(position, rest["w"])
    want = 2 * np.sin(position) * np.cos(position) * rest["w"] ** 2
    np.testing.assert_allclose(by_position, want, rtol=1e-6)
    np.testing.assert_allclose(by_w, np.sin(position), rtol=1e-6)
    assert aux.tolist() == [2, 3]


# Adaptive times.


def test_adaptive_times_are_unbiased_and_vary_less():
    times = D.AdaptiveTimes(bins=8, decay=0.5)
    # v is badly predicted, and the loss large near the data.
    models = [
        D.VLB(D.Process(schedule=D.Cosine()), MOVED, "v", times=t) for t in (times, "stratified")
    ]
    x = jnp.tile(DATA.sample(jax.random.key(2), 1), (512, 1))
    mask = np.arange(512) != 3
    batch = lx.Batch(x.at[3].set(jnp.nan), mask=mask)

    @quick_jit
    def ask(key):
        params, state = models[0].init(key, batch)
        states = [state]
        for i in range(4):
            _, aux = models[0](params, jax.random.fold_in(key, i), batch, state=states[-1])
            states.append(aux.state)
        frozen = models[0](params, key, batch, state=states[-1], train=False)[1]
        own = [models[0](params, key, batch, state=s)[1].per_example for s in (state, states[-1])]
        plain = models[1](params, key, batch)[1].per_example
        keys = jax.random.split(key, 64)
        draws = [
            jax.vmap(lambda k, m=m, s=s: m(params, k, batch, state=s)[1].terms["diffusion"])(keys)
            for m, s in zip(models, (states[-1], ()), strict=True)
        ]
        density = times.density(states[-1]["times"])
        return states, frozen.state, own, plain, draws, density

    states, frozen, (first, later), plain, draws, density = ask(KEY)
    np.testing.assert_array_equal(first, plain)  # uniform at first
    assert states[0]["net"] == () and np.all(states[0]["times"]["count"] == 0)
    np.testing.assert_allclose(states[1]["times"]["count"].sum(), 511)
    np.testing.assert_allclose(states[2]["times"]["count"].sum(), 511 * 1.5, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, frozen, states[-1])
    np.testing.assert_allclose(density.mean(), 1, rtol=1e-5)
    assert density[0] > 2 * density[-1] and density.min() >= 0.05
    adaptive, uniform = (np.asarray(d, np.float64) for d in draws)
    error = np.hypot(adaptive.std(), uniform.std()) / 8
    assert abs(adaptive.mean() - uniform.mean()) < 4 * error
    assert np.asarray(later)[mask].std() < 0.8 * np.asarray(plain)[mask].std()
    with pytest.raises(ValueError, match="pass state=state"):
        models[0]({"net": {"w": jnp.ones(())}, "process": {}}, KEY, batch)


def test_the_density_of_times_by_hand():
    times = D.AdaptiveTimes(bins=4, uniform=0.2)
    square, count = jnp.array([8.0, 2.0, 0.0, 9.0]), jnp.array([2.0, 2.0, 1.0, 1.0])
    root = np.sqrt(np.array(square / count))
    density = 0.8 * 4 * root / root.sum() + 0.2

    @quick_jit
    def ask(key):
        state = {"square": square, "count": count}
        drawn = times.draw(key, 10_000, state)
        cost = 1 + drawn.time**2
        return times.density(state), drawn, times.updated(state, drawn, cost, None)

    got, drawn, state = ask(KEY)
    np.testing.assert_allclose(got, density, rtol=1e-6)
    which = np.floor(np.asarray(drawn.time) * 4).astype(int)
    np.testing.assert_allclose(drawn.density, density[which], rtol=1e-6)
    np.testing.assert_allclose(np.bincount(which) / 10_000, density / 4, atol=2e-4)
    # Strata: the mean of cost over density is the integral 4/3, to the width of one of them.
    cost = 1 + np.asarray(drawn.time) ** 2
    np.testing.assert_allclose(np.mean(cost / drawn.density), 4 / 3, atol=1e-3)
    sums = [np.sum(cost[which == i] ** 2) for i in range(4)]
    np.testing.assert_allclose(state["square"], 0.99 * square + np.array(sums), rtol=1e-4)
