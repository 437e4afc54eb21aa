"""Samplers on Gaussian data: the order of convergence, the variance of samples, and use."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import likelax as lx
from likelax.diffusion import DDIM, Ancestral, DPMSolver, Euler, Heun, PredictorCorrector, UniPC
from likelax.diffusion.grids import check_shape
from likelax.diffusion.sampler import Moved
from likelax.testing.subject import quick_jit

KEY = jax.random.key(0)
VARIANCE, MEAN = np.array([0.3, 1.0, 2.5]), np.array([1.0, -0.5, 0.3])
COSINE = lx.diffusion.Process("variance_preserving", lx.diffusion.Cosine())
PROCESSES = [
    COSINE,
    lx.diffusion.Process("variance_exploding", lx.diffusion.Linear(), data_at=1),
    lx.diffusion.Process("sub_variance_preserving", lx.diffusion.Sigmoid()),
    lx.diffusion.Process("straight", lx.diffusion.Straight(), data_at=1),
]


def gaussian(z, level, mean=MEAN):
    """The best denoiser of N(mean, VARIANCE)."""
    at = level.like(z)
    centred, v = z - at.alpha * mean, at.alpha**2 * VARIANCE + at.sigma**2
    return lx.diffusion.Denoised(mean + at.alpha * VARIANCE * centred / v, at.sigma * centred / v)


# The probability-flow equation.


@dataclasses.dataclass(frozen=True)
class HalfEuler(Euler):
    """Forgets that sigma changes, too."""

    def step(self, denoiser, z, at, memory, noise):
        data = denoiser(z, at.now).data
        return Moved(z + (at.after.time - at.now.time) * at.now.alpha_rate * data, data)


@dataclasses.dataclass(frozen=True)
class Uncorrected(Heun):
    """Heun's method whose second call is thrown away."""

    def step(self, denoiser, z, at, memory, noise):
        return DDIM().step(denoiser, z, at, memory, noise)


@dataclasses.dataclass(frozen=True)
class Backward(DPMSolver):
    """The last change of x_hat with the wrong sign."""

    def plan(self, process, levels):
        h, ahead = super().plan(process, levels)
        return h, -ahead


@dataclasses.dataclass(frozen=True)
class Unmoved(UniPC):
    """x_hat of the step before is forgotten: the correction is a trapezium."""

    def memory(self, z):
        return (*super().memory(z), ())

    def step(self, denoiser, z, at, memory, noise):
        own, before = at.plan
        at = at._replace(plan=(own.at[2].set(0), before.at[2].set(0)))
        moved = super().step(denoiser, z, at, memory[:3], noise)
        return moved._replace(memory=(*moved.memory, ()))


ORDERS = {
    "Euler": (Euler(), PROCESSES[3], 1),
    "DDIM": (DDIM(), PROCESSES[2], 1),
    "Heun": (Heun(), PROCESSES[1], 2),
    "DPM-Solver++": (DPMSolver(), COSINE, 2),
    "UniPC": (UniPC(), PROCESSES[1], 3),
}
BROKEN = {
    "Euler": HalfEuler(),
    "Heun": Uncorrected(),
    "DPM-Solver++": Backward(),
    "UniPC": Unmoved(),
}


def errors(sampler, process, counts=(32, 64)):
    """The largest error of the data at the end, for each number of steps."""
    last, first = process.ends()
    noise = np.random.default_rng(0).normal(size=(4, 3)) * jnp.hypot(first.alpha, first.sigma)
    # z_t = alpha_t mean + sqrt(v_t / v_1) (z_1 - alpha_1 mean), v = alpha^2 lambda + sigma^2.
    v1, v0 = (at.alpha**2 * VARIANCE + at.sigma**2 for at in (first, last))
    want = MEAN + jnp.sqrt(v0 / v1) * (noise - first.alpha * MEAN) / last.alpha
    run = functools.partial(sampler, process, gaussian, KEY, noise.shape)
    found = [run(n, start=noise, denoise_last=False) for n in counts]
    return jnp.stack([jnp.max(jnp.abs(x - want)) for x in found])


@pytest.fixture(scope="module")
def slopes():
    """log2 of how much smaller the error is with twice the steps."""

    @quick_jit
    def ask():
        right = {name: errors(sampler, at) for name, (sampler, at, _) in ORDERS.items()}
        wrong = {name: errors(sampler, ORDERS[name][1]) for name, sampler in BROKEN.items()}
        return right, wrong

    with jax.enable_x64(True):
        return jax.tree.map(lambda e: (float(np.log2(e[0] / e[1])), float(e[1])), ask())


@pytest.mark.parametrize("name", ORDERS)
def test_the_order_of_convergence(slopes, name):
    slope, error = slopes[0][name]
    order = ORDERS[name][2]
    assert order - 0.15 < slope < order + 0.15
    assert error < (0.05 if order == 1 else 0.005)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_solver_has_a_lower_order(slopes, name):
    assert slopes[1][name][0] < ORDERS[name][2] - 0.5


ELSEWHERE = {
    "DDIM": (DDIM(0.5), PROCESSES[1]),
    "Heun": (Heun(), PROCESSES[3]),
    "DPM-Solver++": (DPMSolver(), PROCESSES[2]),
    "its SDE": (DPMSolver(stochastic=True), PROCESSES[1]),
    "UniPC": (UniPC(), PROCESSES[3]),
}


@pytest.fixture(scope="module")
def elsewhere():
    """Samples of four steps in log-SNR from one start, on the cosine's path and on another."""
    noise = np.random.default_rng(1).normal(size=(2, 3))

    def run(process, sampler):
        start = noise * process.ends()[1].sigma
        return sampler(process, gaussian, KEY, noise.shape, 4, grid="log_snr", start=start)

    pairs = {name: (sampler, (COSINE, other)) for name, (sampler, other) in ELSEWHERE.items()}
    with jax.enable_x64(True):
        ask = quick_jit(lambda: {n: [run(p, s) for p in at] for n, (s, at) in pairs.items()})
        return jax.tree.map(np.asarray, ask())


@pytest.mark.parametrize("name", ELSEWHERE)
def test_samples_do_not_depend_on_the_path_nor_on_the_direction_of_time(elsewhere, name):
    first, other = elsewhere[name]
    np.testing.assert_allclose(other, first, rtol=1e-9)


# Stochastic samplers: each written again, in other symbols, on the coefficients of z in the start and
# the noise of each step.


def draws(count):
    """Independent standard Normal numbers, as unit vectors."""
    return iter(np.eye(count))


def reference_ddpm(alpha, sigma, forward=False):
    """Ho et al. 2020, eq. 6 and 7, with alpha_t / alpha_s in place of the square root of their alpha_t."""
    e = draws(len(alpha))
    z = next(e) * sigma[0]
    for t, s in zip(range(len(alpha) - 1), range(1, len(alpha)), strict=True):
        k = alpha[t] * VARIANCE[0] / (alpha[t] ** 2 * VARIANCE[0] + sigma[t] ** 2)
        a = alpha[t] / alpha[s]
        beta = sigma[t] ** 2 - a**2 * sigma[s] ** 2
        mean = (a * sigma[s] ** 2 * z + alpha[s] * beta * k * z) / sigma[t] ** 2
        variance = beta if forward else beta * sigma[s] ** 2 / sigma[t] ** 2
        z = mean + np.sqrt(variance) * next(e)
    return z


def reference_ddim(alpha, sigma, eta):
    """Song et al. 2021, eq. 12 and 16."""
    e = draws(len(alpha))
    z = next(e) * sigma[0]
    for t, s in zip(range(len(alpha) - 1), range(1, len(alpha)), strict=True):
        k = alpha[t] * VARIANCE[0] / (alpha[t] ** 2 * VARIANCE[0] + sigma[t] ** 2)
        noise = (z - alpha[t] * k * z) / sigma[t]
        own = (
            eta
            * sigma[s]
            / sigma[t]
            * np.sqrt(sigma[t] ** 2 - (alpha[t] * sigma[s] / alpha[s]) ** 2)
        )
        z = alpha[s] * k * z + np.sqrt(sigma[s] ** 2 - own**2) * noise + own * next(e)
    return z


def reference_edm(alpha, sigma, churn):
    """Karras et al. 2022, alg. 2, of x / s with sigma / s."""
    e, t = draws(2 * len(alpha)), sigma / alpha
    x = next(e) * t[0]
    steps = len(t) - 1
    for now, after in zip(t[:-1], t[1:], strict=True):
        part = min(churn / steps, np.sqrt(2) - 1)
        raised = min((1 + part) * now, t[0])
        x = x + np.sqrt(raised**2 - now**2) * next(e)
        slope = x * raised / (VARIANCE[0] + raised**2)
        euler = x + (after - raised) * slope
        x = x + (after - raised) * (slope + euler * after / (VARIANCE[0] + after**2)) / 2
    return alpha[-1] * x


def reference_sde_dpm(alpha, sigma):
    """SDE-DPM-Solver++(2M): Lu et al. 2022b, sec. 5."""
    e, lam = draws(len(alpha)), np.log(alpha / sigma)
    z, last = next(e) * sigma[0], 0
    for i in range(1, len(alpha)):
        h = lam[i] - lam[i - 1]
        data = (
            alpha[i - 1] * VARIANCE[0] / (alpha[i - 1] ** 2 * VARIANCE[0] + sigma[i - 1] ** 2) * z
        )
        d = 0 if i == 1 else (data - last) / ((lam[i - 1] - lam[i - 2]) / h)
        z = (
            sigma[i] / sigma[i - 1] * np.exp(-h) * z
            + alpha[i] * (1 - np.exp(-2 * h)) * (data + d / 2)
            + sigma[i] * np.sqrt(1 - np.exp(-2 * h)) * next(e)
        )
        last = data
    return z


def reference_langevin(alpha, sigma, snr, corrections):
    """Song et al. 2021, alg. 1, with the step length 2 (snr |z| / |g|)^2 at |g| = |z| / sigma."""
    e = draws((corrections + 1) * len(alpha))
    z = next(e) * sigma[0]
    for t, s in zip(range(len(alpha) - 1), range(1, len(alpha)), strict=True):
        v = alpha[t] ** 2 * VARIANCE[0] + sigma[t] ** 2
        data, noise = alpha[t] * VARIANCE[0] / v * z, sigma[t] / v * z
        z = alpha[s] * data + sigma[s] * noise  # DDIM predicts
        for _ in range(corrections):
            epsilon = 2 * (snr * sigma[s]) ** 2
            score = -z / (alpha[s] ** 2 * VARIANCE[0] + sigma[s] ** 2)
            z = z + epsilon * score + np.sqrt(2 * epsilon) * next(e)
    return z


@dataclasses.dataclass(frozen=True)
class Quiet(Ancestral):
    """Draws noise of three quarters of the size."""

    def step(self, denoiser, z, at, memory, noise):
        return super().step(denoiser, z, at, memory, lambda i: 0.75 * noise(i))


STOCHASTIC = {
    "ancestral": (Ancestral(), reference_ddpm),
    "forward": (Ancestral("forward"), functools.partial(reference_ddpm, forward=True)),
    "ddim": (DDIM(0.7), functools.partial(reference_ddim, eta=0.7)),
    "churn": (Heun(churn=4.0), functools.partial(reference_edm, churn=4.0)),
    "dpm": (DPMSolver(stochastic=True), reference_sde_dpm),
    "langevin": (
        PredictorCorrector(DDIM(), snr=0.4, corrections=2),
        functools.partial(reference_langevin, snr=0.4, corrections=2),
    ),
    "quiet": (Quiet(), reference_ddpm),
}
ROWS, STEPS = 40_000, 6
STRAIGHT = lx.diffusion.Process(
    "straight", lx.diffusion.Linear(), log_snr_max=4.0, log_snr_min=-5.0, data_at=1
)


def referred(reference, steps):
    """The variance of alpha x + sigma e at the end."""
    gamma = np.linspace(5, -4, steps + 1)
    alpha = 1 / (1 + np.exp(gamma / 2))
    return np.sum(reference(alpha, 1 - alpha) ** 2), alpha[-1], 1 - alpha[-1]


@pytest.fixture(scope="module")
def spread():
    """The variance, over samples, of z at the end."""

    def run(sampler):
        start = STRAIGHT.ends()[1].sigma * jax.random.normal(KEY, (ROWS, 1))
        best = functools.partial(gaussian, mean=np.zeros(1))

        def first(z, level):
            return jax.tree.map(lambda x: x[..., :1], best(z, level))

        path = sampler(
            STRAIGHT, first, KEY, start.shape, STEPS, grid="log_snr", start=start, trajectory=True
        )
        return jnp.mean(path.states[-1] ** 2)

    return quick_jit(lambda: {name: run(sampler) for name, (sampler, _) in STOCHASTIC.items()})()


@pytest.mark.parametrize("name", STOCHASTIC)
def test_the_variance_of_samples(spread, name):
    want, *_ = referred(STOCHASTIC[name][1], STEPS)
    error = abs(spread[name] / want - 1) / math.sqrt(2 / ROWS)
    assert error > 8 if name == "quiet" else error < 4


@pytest.mark.parametrize("name", sorted({*STOCHASTIC} - {"quiet"}))
def test_with_more_steps_the_variance_tends_to_that_of_the_data(name):
    gaps = []
    for steps in (100, 400):
        variance, alpha, sigma = referred(STOCHASTIC[name][1], steps)
        gaps.append(abs(variance / (alpha**2 * VARIANCE[0] + sigma**2) - 1))
    # Langevin's steps at the last level keep an error of their own length.
    assert gaps[1] < (0.15 if name == "langevin" else 0.02)
    assert gaps[1] < (1 if name == "langevin" else 0.6) * gaps[0] + 1e-3


# Use.


# In float32 many of its first times, equally spaced in log-SNR, are the same.
CROWDED = lx.diffusion.Process("straight", lx.diffusion.LogNormal())


@pytest.fixture(scope="module")
def drawn():
    """What the tests below look at, compiled at once."""

    def run(sampler, shape, steps=3, process=COSINE, **options):
        return sampler(process, gaussian, KEY, shape, steps, **options)

    @quick_jit
    def ask():
        path = run(DDIM(), (5, 3), trajectory=True)
        return {
            "few": run(PredictorCorrector(Heun(churn=1.0)), (2, 3)),
            "many": run(PredictorCorrector(Heun(churn=1.0)), (5, 3)),
            "ancestral": [run(sampler, (5, 3)) for sampler in (Ancestral(), DDIM(1.0))],
            "path": path,
            "estimates": gaussian(path.states[:-1], COSINE.at(path.times[:-1])).data,
            "listed": run(DDIM(), (5, 3), grid=[1.0, 2 / 3, 1 / 3, 0.0]),
            "crowded": [run(s, (5, 3), 300, process=CROWDED) for s in (UniPC(), DPMSolver())],
            "half": run(DDIM(), (5, 3), 2, grid=[2 / 3, 1 / 3, 0.0], start=path.states[1]),
            "noisy": run(DDIM(), (5, 3), denoise_last=False) * COSINE.ends()[0].alpha,
        }

    return ask()


def test_a_sample_does_not_depend_on_the_size_of_the_batch(drawn):
    np.testing.assert_allclose(drawn["few"], drawn["many"][:2], rtol=1e-5)
    assert len(np.unique(drawn["many"])) == 15


def test_ddim_of_eta_1_is_ancestral(drawn):
    np.testing.assert_allclose(*drawn["ancestral"], rtol=1e-5)


def test_a_trajectory_has_all_states(drawn):
    path = drawn["path"]
    assert path.states.shape == (4, 5, 3)
    np.testing.assert_allclose(path.times, [1, 2 / 3, 1 / 3, 0], atol=1e-6)
    np.testing.assert_allclose(path.states[-1], drawn["noisy"], rtol=1e-6)
    np.testing.assert_allclose(path.estimates, drawn["estimates"], rtol=1e-4, atol=1e-5)


def test_a_grid_may_be_its_times(drawn):
    np.testing.assert_allclose(drawn["listed"], drawn["path"].sample, rtol=1e-5)


def test_a_part_of_the_way_starts_where_it_is_told(drawn):
    np.testing.assert_allclose(drawn["half"], drawn["path"].sample, rtol=1e-5)


def test_times_that_round_to_one_are_steps_of_no_length(drawn):
    one, other = drawn["crowded"]
    np.testing.assert_allclose(one, other, atol=0.02)


def test_a_learned_variance_is_sampled_with():
    def net(share):
        def apply(params, z, level):
            return jnp.concatenate([0.3 * z, jnp.full_like(z, 2 * share - 1)], -1)

        return lambda key, *_: {}, apply

    def model(share):
        return lx.diffusion.VLB(COSINE, net(share), "v", steps=4, variance="learned")

    params = model(0.0).init(KEY, lx.Batch(np.zeros((2, 3)))).params
    names = [(0.0, "learned"), (0.0, "posterior"), (1.0, "learned"), (1.0, "forward")]

    @quick_jit
    def draw():
        return [
            Ancestral(name)(COSINE, model(share).denoiser(params), KEY, (2, 3), 4)
            for share, name in names
        ]

    low, posterior, high, forward = draw()
    np.testing.assert_allclose(low, posterior, rtol=1e-6)
    np.testing.assert_allclose(high, forward, rtol=1e-5)
    assert np.abs(low - high).max() > 0.01
    with pytest.raises(ValueError, match='write variance="posterior"'):
        jax.eval_shape(lambda: Ancestral("learned")(COSINE, gaussian, KEY, (2, 3), 4))


def test_grids_are_spaced_as_they_say():
    names = "time", "log_snr", "karras"

    def look(process, name):
        times = lx.diffusion.TimeGrid(name).times(process, 6)
        return times, process.gamma(times)

    with jax.enable_x64(True):
        found = quick_jit(lambda: [[look(p, name) for name in names] for p in PROCESSES[1:3]])()
        found = jax.tree.map(np.asarray, found)
    i = np.arange(7) / 6
    high, low = math.exp(5.0), math.exp(-6.5)
    karras = (high ** (1 / 7) + i * (low ** (1 / 7) - high ** (1 / 7))) ** 7
    for process, ((even, _), (first, log_snr), (second, rho)) in zip(
        PROCESSES[1:3], found, strict=True
    ):
        ends = 1 - process.data_at, process.data_at
        np.testing.assert_allclose(even, np.linspace(*ends, 7), atol=1e-15)
        assert (first[0], first[-1]) == (second[0], second[-1]) == ends
        np.testing.assert_allclose(log_snr, np.linspace(10, -13, 7), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(rho, 2 * np.log(karras), rtol=1e-9, atol=1e-9)


def count_equations(jaxpr):
    """Of a program, those inside its loops counted once."""
    total = 0
    for equation in jaxpr.eqns:
        total += 1
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
            if _is_program(inner):
                total += count_equations(getattr(inner, "jaxpr", inner))
    return total


def _is_program(x):
    return hasattr(x, "eqns") or hasattr(x, "jaxpr")


@dataclasses.dataclass(frozen=True)
class Unrolled(DDIM):
    """Its steps one after another in the program."""

    def __call__(self, process, denoiser, key, shape, steps, **options):
        z = jnp.ones(shape)
        for t in range(steps, 0, -1):
            estimate = denoiser(z, process.at(t / steps))
            after = process.at((t - 1) / steps)
            z = after.alpha * estimate.data + after.sigma * estimate.noise
        return z


def test_a_program_is_as_long_for_1000_steps_as_for_10():
    def length(sampler, steps):
        run = functools.partial(sampler, COSINE, gaussian, KEY, (2, 3), steps)
        return count_equations(jax.make_jaxpr(run)().jaxpr)

    for sampler in (UniPC(), PredictorCorrector(Heun(churn=1.0), corrections=3)):
        assert length(sampler, 10) == length(sampler, 1000)
    assert length(Unrolled(), 10) > 2 * length(Unrolled(), 4)


def run(sampler=None, *, denoiser=gaussian, shape=(2, 3), steps=4, process=COSINE, **options):
    return (sampler or DDIM())(process, denoiser, KEY, shape, steps, **options)


def fewer(z, level):
    return lx.diffusion.Denoised(z[:, :2], z[:, :2])


ERRORS = {
    "no steps": (lambda: run(steps=0), "DDIM: steps is a whole number >= 1, got 0; write steps=50"),
    "a step by its truth": (lambda: run(steps=True), "whole number >= 1, got True"),
    "no shape": (lambda: run(shape=()), r"shape is \(batch, \*event\)"),
    "a grid": (lambda: run(grid="cosine"), r"\[\"karras\", \"log_snr\", \"time\"\], got 'cosine'"),
    "rho": (lambda: lx.diffusion.TimeGrid("karras", rho=0.0), "rho > 0 wanted, got 0.0"),
    "too few times": (lambda: run(grid=[1.0, 0.0]), "4 steps has 5 times, got .*(2,)"),
    "times that go back": (
        lambda: run(grid=[1.0, 0.6, 0.7, 0.2, 0.0]),
        r"fall from 1 to 0.*at index \(2\) the time is 0.69",
    ),
    "the other direction": (
        lambda: run(grid=[1.0, 0.7, 0.5, 0.2, 0.0], process=PROCESSES[1]),
        r"grow from 0 to 1.*\(data_at=1\)",
    ),
    "times outside": (lambda: run(grid=[1.0, 0.7, 0.5, 0.2, -0.1]), "the time is -0.1"),
    "no start": (lambda: run(grid=[0.9, 0.7, 0.5, 0.2, 0.0]), "the first is 0.8.*give start=z"),
    "a start": (
        lambda: run(start=jnp.zeros((3, 3))),
        r"start has shape \(3, 3\), the samples \(2, 3\)",
    ),
    "a denoiser": (
        lambda: jax.eval_shape(lambda: run(denoiser=fewer)),
        r"denoiser's data .* \(2, 3\), got \(2, 2\)",
    ),
    "eta": (lambda: DDIM(1.5), r"eta is in \[0, 1\], got 1.5"),
    "eta of text": (lambda: DDIM("0"), r"eta is in \[0, 1\], got '0'"),
    "a solver's order": (lambda: DPMSolver("3M"), "stochastic is True or False, got '3M'"),
    "a predictor": (lambda: PredictorCorrector("ddim"), r"predictor=lx.diffusion.Ancestral\(\)"),
    "a length": (lambda: check_shape(4, "DDIM"), r"DDIM: shape is \(batch, \*event\).* got 4"),
    "a shape of no length": (lambda: run(shape=(-4, 3)), r"got \(-4, 3\)"),
    "an estimate alone": (
        lambda: jax.eval_shape(lambda: run(denoiser=lambda z, level: z)),
        r"gives lx.diffusion.Denoised\(data, noise\), got",
    ),
    "variance": (lambda: Ancestral("large"), '"posterior", "forward" or "learned", got \'large\''),
    "churn": (lambda: Heun(churn=-1.0), "churn >= 0 wanted, got -1.0"),
    "snr": (lambda: PredictorCorrector(snr=0.0), r"snr is in \(0, 1\), got 0.0"),
    "corrections": (
        lambda: PredictorCorrector(corrections=0),
        "corrections is a whole number >= 1",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_to_write(name):
    call, message = ERRORS[name]
    with pytest.raises((TypeError, ValueError), match=message):
        call()
