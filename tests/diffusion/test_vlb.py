"""The bounds on Gaussian data, where the optimal denoiser and every term are known in closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

import likelax as lx
from likelax._keys import stream
from likelax.diffusion.denoising import with_slope_of_square
from likelax.diffusion.model import normal_like
from likelax.diffusion.weighting import Weighting
from likelax.testing import check_diffusion_bound
from likelax.testing.gaussian_diffusion import example_data
from likelax.testing.subject import quick_jit

D = lx.diffusion
KEY = jax.random.key(5)
DATA = example_data()
SCHEDULES = (
    D.Linear(),
    D.LinearBeta(),
    D.Cosine(),
    D.Sigmoid(),
    D.Polynomial(),
    D.LogNormal(),
    D.Straight(),
    D.Karras(),
    D.Cosine(shift=-1.0),
)
PATHS = ("variance_preserving", "variance_exploding", "sub_variance_preserving", "straight")
PREDICTIONS = ("noise", "data", "v", "score", "velocity", "edm")


# The closed form itself.


def test_the_ground_truth_is_right():
    with jax.enable_x64(True):
        process = D.Process(
            "sub_variance_preserving", D.Cosine(), log_snr_max=9.0, log_snr_min=-6.0
        )
        x = np.array([[0.7, -2.0, 0.4], [0.1, 0.3, -1.9]])
        np.testing.assert_allclose(
            DATA.log_prob(x),
            scipy.stats.norm(DATA.mean, np.sqrt(DATA.variance)).logpdf(x).sum(-1),
            rtol=1e-12,
        )

        nodes, weights = np.polynomial.hermite_e.hermegauss(8)

        @quick_jit
        def errors(gamma):  # E|e - e_hat|^2 by Gauss-Hermite, from `denoised`, `(times, examples)`
            level = process.at(process.time_of(gamma))
            at = D.Level(*(v[:, None, None] for v in level))
            z = at.alpha[..., None] * x[:, None] + (at.sigma * nodes)[..., None]
            missed = nodes[:, None] - DATA.denoised(z, at).noise
            return jnp.sum(missed**2, axis=-1) @ (weights / weights.sum())

        places, widths = np.polynomial.legendre.leggauss(40)
        want = 0.5 * 7.5 * widths @ np.asarray(errors(7.5 * places - 1.5))
        np.testing.assert_allclose(DATA.diffusion(x, process), want, rtol=1e-9)
        gammas = np.asarray(process.gamma(np.linspace(0, 1, 41)))
        want = 0.5 * np.expm1(np.diff(gammas)) @ np.asarray(errors(gammas[1:]))
        np.testing.assert_allclose(DATA.diffusion(x, process, steps=40), want, rtol=1e-9)
    # On average over the data, and for a function of (x - m)^2 over these two.
    pair = DATA.mean + np.sqrt(DATA.variance) * np.array([[1.0], [-1.0]])
    np.testing.assert_allclose(DATA.diffusion(pair, process).mean(), DATA.mean_diffusion(process))
    np.testing.assert_allclose(DATA.entropy, -DATA.log_prob(pair).mean())
    bounds = [DATA.bound(pair, process, steps=steps).mean() for steps in (None, 1000, 100)]
    assert DATA.entropy < bounds[0] < bounds[1] < bounds[2]
    np.testing.assert_allclose(bounds[0], DATA.entropy, atol=0.01)


# The objective, for every schedule, path and prediction.


def test_every_schedule_path_and_prediction_has_the_same_bound():
    draws, count = 1500, 3
    x = DATA.sample(jax.random.key(1), count)
    rows = lx.Batch(jnp.tile(x, (draws, 1)))

    def ask(key):
        found = []
        for i, schedule in enumerate(SCHEDULES):
            path, prediction = PATHS[i % 4], PREDICTIONS[i % 6]
            process = D.Process(path, schedule, 7.0, -6.0, data_at=i % 2)
            net = DATA.network(process, prediction, "time")
            model = D.VLB(process, net, prediction, level="time")
            found.append(model({"net": {}, "process": {}}, key, rows)[1].per_example)
        return jnp.stack(found)

    each = np.asarray(quick_jit(ask)(KEY), np.float64).reshape(-1, draws, count)
    error = each.std(1) / np.sqrt(draws)
    want = DATA.bound(x, D.Process(log_snr_max=7.0, log_snr_min=-6.0))
    assert np.all(np.abs(each.mean(1) - want) < 4 * error)
    assert np.all(error < 2)


def test_a_learned_schedule_and_chains_are_checked_too():
    check_diffusion_bound(D.VLB, key=KEY, process=D.Process(schedule=D.Learned(2)))
    chain = functools.partial(D.VLB, steps=40)
    process = D.Process("variance_exploding", D.Karras(), 6.0, -5.0, data_at=1)
    check_diffusion_bound(chain, key=KEY, process=process, prediction="edm", steps=40)
    with pytest.raises(AssertionError, match="nats on average"):
        check_diffusion_bound(D.VLB, key=KEY, process=process, prediction="edm", steps=4)


class WrongSign(D.VLB):
    """A target of the wrong sign."""

    def _missed(self, x, noise, output, level):
        return super()._missed(x, noise, -output, level)


class NoHalf(D.VLB):
    """Without the 1/2."""

    def _cost(self, *args):
        cost, state = super()._cost(*args)
        return 2 * cost, state


class MeanOfEvent(D.VLB):
    """The mean over the event."""

    def _cost(self, *args):
        cost, state = super()._cost(*args)
        return cost / 3, state


class NoReconstruction(D.VLB):
    """Without the term of the data."""

    def _ends(self, *args):
        return {"prior": super()._ends(*args)["prior"]}


@pytest.mark.parametrize("broken", [WrongSign, NoHalf, MeanOfEvent, NoReconstruction])
def test_a_broken_bound_is_found(broken):
    with pytest.raises(AssertionError, match="nats on average, and the variational bound is"):
        check_diffusion_bound(broken, key=KEY)


# The chain as a chain of Normals.


def arbitrary(outputs):
    """A network that is no good, `outputs` times as wide as its input."""

    def apply(params, z, level, *_):
        wide = jnp.sin(z @ jnp.linspace(-1.0, 2.0, 3 * outputs * 3).reshape(3, -1))
        return wide * (1 + level[:, None])

    return lambda key, *_: {}, apply


def step_back(process, x, z, early, late):
    """q(z_s | z_t, x) and q(z_t | z_s)'s variance, by conditioning Normals."""
    shrink = late.alpha / early.alpha
    forward = late.sigma**2 - shrink**2 * early.sigma**2
    precision = 1 / early.sigma**2 + shrink**2 / forward
    mean = (early.alpha * x / early.sigma**2 + shrink * z / forward) / precision
    return mean, 1 / precision, forward


CHAINS = {
    "posterior": ("straight", D.Straight(), "velocity", 0),
    "learned": ("variance_preserving", D.Cosine(), "noise", 1),
}


@pytest.mark.parametrize("variance", CHAINS)
def test_the_fast_chain_is_the_one_of_normals(variance):
    path, schedule, prediction, data_at = CHAINS[variance]
    steps, rows = 3, 4
    process = D.Process(path, schedule, 5.0, -4.0, data_at=data_at)
    net = arbitrary(2 if variance == "learned" else 1)
    model = D.VLB(process, net, prediction, steps=steps, variance=variance)
    params = {"net": {}, "process": {}}

    def ask(key, x):
        noise = normal_like(stream(key, "noise"), x)
        first = jax.random.uniform(stream(key, "times"))
        index = jnp.floor((first + jnp.arange(rows) / rows) % 1 * steps)
        ends = [process.at(i / steps) for i in (index, index + 1)]
        early, late = ends if data_at == 0 else ends[::-1]
        z = late.like(x).alpha * x + late.like(x).sigma * noise
        out = net[1]({}, z, late.position)
        guess = D.Prediction(prediction).denoised(out[:, :3], z, late).data
        mean, small, large = step_back(process, x, z, early.like(x), late.like(x))
        mean_hat, var_hat, _ = step_back(process, guess, z, early.like(x), late.like(x))
        if variance == "learned":
            v = (1 + out[:, 3:]) / 2
            var_hat = jnp.exp(v * jnp.log(large) + (1 - v) * jnp.log(small))
        q, p = lx.Normal(mean, jnp.sqrt(small)), lx.Normal(mean_hat, jnp.sqrt(var_hat))
        want = steps * jnp.mean(jnp.sum(q.kl_divergence(p), axis=1))
        loss, aux = model(params, key, lx.Batch(x))
        return want, aux.terms, loss

    with jax.enable_x64(True):
        x = np.random.default_rng(0).normal(size=(rows, 3))
        want, terms, loss = quick_jit(ask)(KEY, x)
        np.testing.assert_allclose(terms["diffusion"], want, rtol=1e-10)
        np.testing.assert_allclose(loss, sum(terms.values()), rtol=1e-12)


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

        back = jax.tree.map(jnp.negative, steps)
        return both, steps, 0.5 * (jax.vmap(moved)(steps) - jax.vmap(moved)(back))

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

MOVED = (lambda key, *_: {"w": jnp.ones(())}, lambda p, z, *_: p["w"] * z)  # an arbitrary one


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


# What a trained model says of the likelihood.


def test_bound_of_any_model_with_its_errors():
    process = D.Process(schedule=D.Linear(), log_snr_max=7.0, log_snr_min=-6.0)
    net = DATA.network(process, "noise")
    model = D.Denoising(process, net, "noise", "simple")
    params = {"net": {}, "process": {}}
    x = np.asarray(DATA.sample(jax.random.key(4), 60))
    mask = np.arange(60) != 7
    batch = lx.Batch(np.where(mask[:, None], x, np.nan), mask=mask)
    found = D.bound(model, params, KEY, [batch, batch], num_samples=100)
    want = np.tile(DATA.bound(x, process)[mask], 2)
    z = (found.per_example - want) / found.sampling_error
    assert z.shape == (118,) and np.all(np.abs(z) < 5)
    assert 0.7 < z.std() < 1.3  # the error bar is one
    assert found.claim == lx.Claim("upper", measure=lx.Measure("lebesgue", 3))
    np.testing.assert_allclose(sum(found.terms.values()), found.loss, rtol=1e-5)
    assert lx.bits_per_dim(found, bin_width=0.1).claim.relation == "upper"
    assert lx.compare(found, found).claim.relation == "none"
    with pytest.raises(ValueError, match="at least 2, got 1"):
        D.bound(model, params, KEY, batch, num_samples=1)
    with pytest.raises(
        TypeError, match="MaskedDiffusion or UniformDiffusion wanted, got Likelihood"
    ):
        D.bound(lx.Likelihood(None, lx.Head(lx.Normal)), params, KEY, batch)


def test_blocks_of_draws_make_no_difference(monkeypatch):
    from likelax.diffusion import evidence

    process = D.Process(schedule=D.Linear(), log_snr_max=7.0, log_snr_min=-6.0)
    x = lx.Batch(np.asarray(DATA.sample(KEY, 4)))
    params, results = {"net": {"w": jnp.ones(())}, "process": {}}, []
    for rows in (4096, 12):
        monkeypatch.setattr(evidence, "_ROWS", rows)
        model = D.VLB(process, MOVED, "v")
        results.append(D.bound(model, params, KEY, x, num_samples=7))
    np.testing.assert_allclose(results[0].per_example, results[1].per_example, rtol=1e-5)


# Whole numbers.


def test_pixels_cost_bits():
    """Independent levels of 3 values: a bound above their entropy, near it at a good cut."""
    p = np.array([0.2, 0.5, 0.3])
    process = D.Process(schedule=D.Linear(), log_snr_max=9.0, log_snr_min=-6.0)
    centres = (2 * np.arange(3) + 1) / 3 - 1

    def posterior(params, z, level, *_):
        gamma = level * 15.0 - 9.0
        alpha, sigma = (jnp.sqrt(jax.nn.sigmoid(s * gamma))[:, None, None] for s in (-1, 1))
        logits = jnp.log(p) - 0.5 * ((z[..., None] - alpha * centres) / sigma) ** 2
        return jax.nn.softmax(logits) @ centres

    net = (lambda key, *_: {}, posterior)
    model = D.VLB(process, net, "data", data=D.Pixels(bins=3, low=5))
    x = 5 + np.random.default_rng(0).choice(3, size=(40_000, 2), p=p)
    aux = quick_jit(model)({"net": {}, "process": {}}, KEY, lx.Batch(x))[1]
    each = np.asarray(aux.per_example, np.float64)
    share = np.bincount(x.reshape(-1) - 5) / x.size
    nll = -2 * share @ np.log(p)
    error = each.std() / np.sqrt(each.size)
    assert nll - 4 * error < each.mean() < nll + 0.03 + 4 * error and error < 0.04
    assert aux.claim.measure == lx.Measure("counting", 2)
    np.testing.assert_allclose(lx.bits_per_dim(aux), aux.loss / (2 * np.log(2)), rtol=1e-6)


# Claims and bad input.


def test_claims_follow_the_weighting():
    process = D.Process()
    for name, bound in {
        "elbo": "data",
        "sigmoid": "noisy data",
        "simple": None,
        "edm": None,
    }.items():
        model = D.Denoising(process, MOVED, "v", name)
        assert model.weighting.bound == bound
        assert model.claim.relation == ("upper" if bound == "data" else "none")


VALUES = np.array([[0.0, 1.0], [2.0, 3.0]])


def wide(outputs):
    return (lambda key, *_: {}, lambda params, z, *_: jnp.zeros((*z.shape[:-1], outputs)))


PIXELS = {"data": D.Pixels(bins=3)}
BATCHES = {
    "pixels beyond": (PIXELS, VALUES, ValueError, r"index \(1, 1\) the target is 3.0, and Pixels"),
    "pixels between": (PIXELS, VALUES / 2, ValueError, "the target is 0.5, and Pixels"),
    "whole numbers": ({}, VALUES.astype(int), TypeError, r"data=lx.diffusion.Pixels\(bins=256\)"),
    "no batch": ({}, np.float32(1.0), ValueError, r"shape \(batch, \*event\)"),
}


@pytest.mark.parametrize("name", BATCHES)
def test_bad_batches_are_told(name):
    options, target, error, match = BATCHES[name]
    model = D.VLB(D.Process(), wide(2), **options)
    with pytest.raises(error, match=match):
        model({"net": {}, "process": {}}, KEY, lx.Batch(target))


OPTIONS = {
    "steps": ({"steps": 0}, "steps is a whole number >= 1, or None for continuous time, got 0"),
    "variance": ({"variance": "fixed"}, 'variance is "posterior" or "learned"'),
    "continuous": ({"variance": "learned"}, "write steps=1000"),
    "times": ({"times": "uniform"}, r"or lx.diffusion.AdaptiveTimes\(\), got 'uniform'"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_bad_options_are_told(name):
    options, match = OPTIONS[name]
    with pytest.raises(ValueError, match=match):
        D.VLB(D.Process(), wide(2), **options)


def test_more_bad_options_are_told():
    with pytest.raises(ValueError, match="noise is easy to predict"):
        D.Denoising(D.Process(schedule=D.Learned()), wide(2), "v", "sigmoid")
    for options, match in (
        ({"bins": 0}, "bins is a whole number >= 1"),
        ({"decay": 1.0}, r"decay is in \(0, 1\)"),
        ({"uniform": 0.0}, r"uniform is in \(0, 1\]"),
    ):
        with pytest.raises(ValueError, match=match):
            D.AdaptiveTimes(**options)
    batch = lx.Batch(VALUES)
    with pytest.raises(
        ValueError, match=r"puts out \(2, 2\), got \(2, 3\); give its last layer as"
    ):
        D.VLB(D.Process(), wide(3)).init(KEY, batch)
    chain = D.VLB(D.Process(), wide(2), steps=3, variance="learned")
    with pytest.raises(
        ValueError, match=r"\(2, 4\), got \(2, 2\); give its last layer twice as many"
    ):
        chain.init(KEY, batch)
