"""Flow matching and consistency training, where the best network is known."""

import itertools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import likelax as lx
from likelax._keys import stream
from likelax.diffusion import (
    ConsistencyTraining,
    FlowMatching,
    Lipman,
    ODELikelihood,
    Pairs,
    Pixels,
    SchrodingerBridge,
    ode_log_prob,
    reflow,
)
from likelax.diffusion.flow_matching import process_along, transported
from likelax.testing.subject import quick_jit

KEY = jax.random.key(5)
MEAN, LAM = np.array([0.7, -1.1]), np.array([0.4, 1.9])
PATHS = {
    "linear": "linear",
    "cosine": "cosine",
    "lipman": Lipman(0.1),
    "bridge": SchrodingerBridge(0.25),
}


def spread_of(level):
    return level.alpha**2 * LAM + level.sigma**2


def gaussian(process, sign=1.0):
    """The velocity of Gaussian data, E[dz/dt | z], and a linear function of z that is 0 at first."""

    def apply(params, z, t):
        at, mean, lam = process.at(t).like(z), jnp.asarray(MEAN, z.dtype), jnp.asarray(LAM, z.dtype)
        covariance = at.alpha_rate * at.alpha * lam + sign * at.sigma_rate * at.sigma
        spread = at.alpha**2 * lam + at.sigma**2
        best = at.alpha_rate * mean + covariance / spread * (z - at.alpha * mean)
        return best.astype(z.dtype) + params["bias"] + params["slope"] * z

    return lambda key, *_: {"bias": jnp.zeros(2), "slope": jnp.zeros(2)}, apply


def model_of(path, sign=1.0, **options):
    return FlowMatching(gaussian(process_along(path), sign), path=path, **options)


ZERO = {"net": {"bias": np.zeros(2, np.float32), "slope": np.zeros(2, np.float32)}, "process": {}}


@pytest.mark.parametrize("name", PATHS)
def test_paths(name):
    with jax.enable_x64(True):
        process, step = process_along(PATHS[name]), 1e-6
        times = np.linspace(0, 1, 21)

        @quick_jit
        def ask(times):
            high, low = (process.at(times[1:-1] + d) for d in (step, -step))
            at = process.at(times)
            return at, process.time_of(at.gamma), high, low

        at, back, high, low = ask(times)
        alpha, sigma = np.asarray(at.alpha), np.asarray(at.sigma)
        t = 2 / np.pi * np.arcsin(alpha) if name == "cosine" else alpha
        wanted = {
            "linear": 1 - t,
            "cosine": np.cos(np.pi / 2 * t),
            "lipman": 1 - 0.9 * t,
            "bridge": np.sqrt((1 - t) ** 2 + 0.25**2 * t * (1 - t)),
        }[name]
        np.testing.assert_allclose(sigma, wanted, rtol=1e-9, atol=1e-12)
        # The paths' own time is this one, but for 1e-5 at the ends.
        np.testing.assert_allclose(np.diff(t), t[1] - t[0], rtol=1e-9)
        np.testing.assert_allclose(t, times, atol=2e-5)
        np.testing.assert_allclose(back, times, atol=1e-9)
        for rate, above, below in (
            (at.alpha_rate, high.alpha, low.alpha),
            (at.sigma_rate, high.sigma, low.sigma),
        ):
            slope = (np.asarray(above) - np.asarray(below)) / (2 * step)
            np.testing.assert_allclose(rate[1:-1], slope, rtol=1e-6, atol=1e-8)
    # Both ends keep their digits in float32.
    for end, wide in zip(process.ends(), (at.sigma[-1], at.alpha[0]), strict=True):
        small = end.sigma if end.alpha > 0.5 else end.alpha
        np.testing.assert_allclose(small, wide, rtol=2e-5)


# At the best velocity.

ROWS, RUNS = 512, 24


def looked_at(path, sign=1.0):
    """The losses and gradients of several draws of data and noise."""
    model = model_of(path, sign)

    @quick_jit
    @jax.vmap
    def ask(key):
        x = MEAN + np.sqrt(LAM) * jax.random.normal(key, (ROWS, 2))
        batch = lx.Batch(x.astype(jnp.float32))
        (loss, aux), grads = jax.value_and_grad(model, has_aux=True)(ZERO, key, batch)
        return loss, jnp.concatenate([grads["net"]["bias"], grads["net"]["slope"]])

    return [np.asarray(x, np.float64) for x in ask(jax.random.split(KEY, RUNS))]


def means_to(draws, want):
    error = draws.std(0, ddof=1) / np.sqrt(len(draws))
    assert np.all(abs(draws.mean(0) - want) < 4 * error), "not within 4 standard errors"
    assert np.all(error < 0.1)


@pytest.mark.parametrize("name", PATHS)
def test_the_loss_is_least_at_the_mean_velocity(name):
    loss, grads = looked_at(PATHS[name])
    means_to(grads, 0)
    at = process_along(PATHS[name]).at((np.arange(20000) + 0.5) / 20000)
    at = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64)[:, None], at)
    own = at.alpha_rate**2 * LAM + at.sigma_rate**2
    if name == "bridge":
        own = at.alpha_rate**2 * (
            LAM + 1 + 0.25**2 * (1 - 2 * at.alpha) ** 2 / (4 * at.alpha * (1 - at.alpha))
        )
    covariance = at.alpha_rate * at.alpha * LAM + at.sigma_rate * at.sigma
    left = own - covariance**2 / spread_of(at)
    means_to(loss, left.sum(-1).mean())


def test_at_another_velocity_it_is_not():
    loss, grads = looked_at("linear", sign=-1.0)
    with pytest.raises(AssertionError, match="4 standard errors"):
        means_to(grads, 0)
    assert loss.mean() > 2


def test_the_likelihood_of_a_flow_is_the_normal_that_it_makes():
    """Of the bridge's path, whose velocity is infinite at its ends but for 1e-5."""
    with jax.enable_x64(True):
        x = np.array([[0.4, -1.0], [2.0, 0.5], [-0.3, 0.1]])
        model = model_of(PATHS["bridge"])
        fine = {"rtol": 1e-9, "atol": 1e-9, "solver": diffrax.Dopri8()}
        got = ode_log_prob(model, ZERO, KEY, lx.Batch(x), **fine)
        first, last = jax.tree.map(np.asarray, model.process.ends())
        ratio = np.sqrt(spread_of(first) / spread_of(last))
        loc = MEAN - ratio * last.alpha * MEAN / first.alpha
        scale = ratio * np.hypot(last.alpha, last.sigma) / first.alpha
        want = scipy.stats.norm(loc, scale).logpdf(x).sum(-1)
        np.testing.assert_allclose(got.log_prob, want, rtol=1e-6)
        # But for the ends that is the data's own density.
        np.testing.assert_allclose(
            want, scipy.stats.norm(MEAN, np.sqrt(LAM)).logpdf(x).sum(-1), atol=1e-3
        )
        assert got.claim.relation == "exact"


def test_reflow_pairs_noise_with_its_data():
    model = model_of("linear")
    pairs = reflow(model, ZERO, KEY, (64, 2), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(pairs.target, MEAN + np.sqrt(LAM) * pairs.source, atol=2e-4)
    # Paths from these pairs are a field, without any two that cross: its loss can be 0, since z / v is
    # the source, whatever the time.
    straight = lambda key, *_: {}, lambda p, z, t: _straight_velocity(z, t[:, None])
    again = FlowMatching(straight)
    batch = lx.Batch(Pairs(*map(np.asarray, pairs)))
    params, _ = again.init(KEY, batch)
    ask = quick_jit(again)
    assert ask(params, KEY, batch)[0] < 1e-6
    crossed = lx.Batch(Pairs(np.asarray(pairs.source)[::-1], np.asarray(pairs.target)))
    assert ask(params, KEY, crossed)[0] > 0.5  # the control
    with pytest.raises(ValueError, match="source and target of a pair have one shape"):
        again(params, KEY, lx.Batch(Pairs(np.zeros((64, 1)), pairs.target)))


def _straight_velocity(z, t):
    scale = np.sqrt(LAM)
    source = (z - t * MEAN) / (1 - t + t * scale)
    return (MEAN + (scale - 1) * source).astype(z.dtype)


# Coupling.


def test_optimal_transport_is_the_best_of_all_orders():
    rng = np.random.default_rng(0)
    x, source = rng.normal(size=(2, 3, 5, 2)).astype(np.float32)
    keep = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [0, 0, 0, 0, 0]], bool)
    got = np.asarray(jax.jit(jax.vmap(transported))(x, source, keep))

    def cost(i, order):
        kept = [j for j in range(5) if keep[i, j]]
        return sum(((x[i, j] - source[i, order[j]]) ** 2).sum() for j in kept)

    for i in range(3):
        fixed = {j for j in range(5) if not keep[i, j]}
        orders = [
            order for order in itertools.permutations(range(5)) if all(order[j] == j for j in fixed)
        ]
        best = min(orders, key=lambda order: cost(i, order))
        np.testing.assert_array_equal(got[i], source[i, list(best)])
    assert cost(0, range(5)) > min(cost(0, order) for order in itertools.permutations(range(5)))
    # A target that is not finite is the loss's to report.
    broken = transported(jnp.full((2, 1), jnp.nan), jnp.ones((2, 1)), None)
    np.testing.assert_array_equal(broken, np.ones((2, 1)))


def test_coupling_shortens_the_way():
    zero = lambda key, *_: {}, lambda p, z, t: 0 * z
    rng = np.random.default_rng(1)
    x = rng.normal(3, 1, (16, 2)).astype(np.float32)
    source = np.full_like(x, np.nan)
    source[:12] = rng.normal(size=(12, 2))
    batch = lx.Batch(Pairs(source, x), mask=np.arange(16) < 12)
    plain, best = (
        quick_jit(FlowMatching(zero, coupling=c))({"net": {}, "process": {}}, KEY, batch)[0]
        for c in ("independent", "optimal_transport")
    )
    np.testing.assert_allclose(plain, ((x - source)[:12] ** 2).sum(-1).mean(), rtol=1e-4)
    assert 8 < best < 0.97 * plain


def test_coupled_rows_on_explicit_mesh_axes():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    model = model_of("linear", coupling="optimal_transport")
    with jax.set_mesh(mesh):
        target = jax.device_put(jnp.ones((4, 2)), jax.NamedSharding(mesh, jax.P("data")))
        each = jax.jit(lambda *a: model(*a)[1].per_example)(ZERO, KEY, lx.Batch(target))
        assert jax.typeof(each).sharding.spec == jax.P("data")


def test_whole_numbers_fill_their_bins():
    zero = lambda key, *_: {}, lambda p, z, t: 0 * z
    model = FlowMatching(zero, data=Pixels(4), times="logit_normal")
    target = np.tile([[3]], (400, 1)).astype(np.int32)
    batch = lx.Batch(Pairs(np.zeros((400, 1), np.float32), target))
    aux = quick_jit(model)({"net": {}, "process": {}}, KEY, batch)[1]
    x = np.sqrt(aux.per_example) / (1 - 2e-5)
    assert scipy.stats.kstest(x, scipy.stats.uniform(0.5, 0.5).cdf).pvalue > 0.01
    assert ODELikelihood(model).dequantization == "uniform"
    with pytest.raises(ValueError, match="no likelihood means nothing"):
        lx.bits_per_dim(aux)


@pytest.mark.parametrize("times", ["stratified", "independent", "logit_normal"])
def test_times(times):
    drawn = np.asarray(model_of("linear", times=times)._times(KEY, 1000))
    dist = scipy.stats.norm if times == "logit_normal" else scipy.stats.uniform
    u = dist.cdf(np.log(drawn / (1 - drawn)) if times == "logit_normal" else drawn)
    off = abs(np.sort(u) - (np.arange(1000) + 0.5) / 1000).max()
    assert off < (0.06 if times == "independent" else 0.00051)


# Consistency training.

POINT = np.array([0.6, -1.5])


def consistent(shift=0.0):
    """Of data that are one point: along z = alpha (c + s e) the end is c + s_0 e."""
    process = ConsistencyTraining((lambda *_: {}, lambda *_: 0)).process

    def apply(params, scaled, position):
        gamma = position * (process.log_snr_max - process.log_snr_min) - process.log_snr_max
        s, s_min = (jnp.exp(0.5 * g) for g in (gamma[:, None], -process.log_snr_max))
        z = scaled * jnp.hypot(s, 1)
        end = POINT + s_min / s * (z - POINT) + shift * (s - s_min)
        skip = 1 / ((s - s_min) ** 2 + 1)
        return (end - skip * z) * jnp.hypot(s, 1) / jnp.where(s == s_min, 1, s - s_min)

    return lambda key, *_: {}, apply


def test_consistency_training_knows_the_ends_of_paths():
    target = np.tile(POINT, (64, 1))
    losses = []
    with jax.enable_x64(True):
        for shift in (0.0, 0.01):
            model = ConsistencyTraining(consistent(shift), steps=7)
            params, _ = model.init(KEY, lx.Batch(target))
            loss, aux = quick_jit(model)(params, KEY, lx.Batch(target))
            losses.append(loss)
        assert losses[0] < 1e-8 < 1e-3 < losses[1] and aux.claim.relation == "none"
        # At the end with the data it is z, whatever the network, and from the noise one step.
        first, last = model.process.ends()
        noise = np.array([[0.3, -0.8], [1.0, 2.0]])
        z = first.alpha * POINT + first.sigma * noise
        near = quick_jit(lambda z: model.denoiser(params)(z, first))(z)
        np.testing.assert_allclose(near.data, z, rtol=1e-12)
        exact = ConsistencyTraining(consistent())
        at_last = quick_jit(lambda z: exact.denoiser(params)(z, last))
        far = at_last(last.alpha * POINT + last.sigma * noise)
        np.testing.assert_allclose(far.data, z, rtol=1e-9)
        once = {"steps": 1, "sampler": lx.diffusion.DDIM()}
        drawn = quick_jit(lambda key: exact.sample(params, key, (3, 2), **once))(KEY)
        np.testing.assert_allclose(drawn, np.tile(POINT, (3, 1)), atol=0.03)
        np.testing.assert_allclose(far.noise, noise, atol=0.01)


def test_levels_of_consistency_training_are_log_normal():
    model = ConsistencyTraining((lambda *_: {}, lambda *_: 0), steps=4)
    noisier, cleaner = quick_jit(lambda key: model._levels(model.process, key, 4000))(KEY)
    gammas = np.asarray(quick_jit(model.process.gamma)(np.arange(5) / 4))
    mass = np.diff(scipy.stats.norm(-0.4, 2).cdf(gammas / 2))
    want = mass / mass.sum()
    share = np.array([np.isclose(cleaner.gamma, g, atol=1e-4).mean() for g in gammas[:-1]])
    assert np.all(abs(share - want) < 4 * np.sqrt(want * (1 - want) / 4000))
    assert np.all(np.asarray(noisier.time) > np.asarray(cleaner.time))


def test_consistency_training_stops_the_gradient_of_the_cleaner_end():
    """F is one number, and far from c the distance is |f - f'|: the derivative of its mean is that of f
    alone, c_out times the sign.
    """
    model = ConsistencyTraining(
        (lambda *_: jnp.zeros(()), lambda p, z, t: p + 0 * z), steps=3, mean=3.0
    )
    x = np.tile(POINT[:1], (64, 1)).astype(np.float32)

    @quick_jit
    def ask(b):
        def loss(b):
            return model({"net": b, "process": {}}, KEY, lx.Batch(x))[0]

        levels = model._levels(model.process, stream(KEY, "times"), 64)
        return jax.grad(loss)(b), loss(b + 1e-2), loss(b - 1e-2), [p.gamma for p in levels]

    got, high, low, gammas = ask(np.float32(50.0))
    got, high, low = map(float, (got, high, low))
    noisier, cleaner = np.exp(np.asarray(gammas, np.float64) / 2)
    s_min = np.exp(-model.process.log_snr_max / 2)
    out = [(s - s_min) / np.hypot(s, 1) for s in (noisier, cleaner)]
    weight = 1 / (noisier - cleaner)
    np.testing.assert_allclose(got, (weight * out[0]).mean(), rtol=1e-3)
    # The loss itself, with nothing stopped, grows less.
    whole = (weight * (out[0] - out[1])).mean()
    np.testing.assert_allclose((high - low) / 2e-2, whole, rtol=0.05)
    assert abs(whole / got - 1) > 0.1


BAD = {
    "path": (lambda: model_of(SchrodingerBridge(0.0)), "scale > 0"),
    "path's class": (lambda: process_along(Lipman), "FlowMatching: path is one of .*'lipman'"),
    "no path": (lambda: process_along(None), "FlowMatching: path is one of .*got None"),
    "scale of text": (lambda: SchrodingerBridge("1"), "scale > 0 wanted, got '1'"),
    "std": (lambda: ConsistencyTraining((lambda *_: {}, lambda *_: 0), std=0.0), "std > 0 wanted"),
    "sigma_min": (lambda: Lipman(1.0), "0 < sigma_min < 1"),
    "steps": (lambda: ConsistencyTraining((lambda *_: {}, lambda *_: 0), steps=0), "got 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    make, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        make()
