"""Schedules, processes, predictions and weightings: digits at both ends, and what follows from what."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import likelax as lx
from likelax.testing.subject import quick_jit

D = lx.diffusion
M = mpmath.mpf


def normal_quantile(u):
    return mpmath.sqrt(2) * mpmath.erfinv(2 * u - 1)


def jabri(u):
    """Minus the log-SNR of Jabri et al. 2022's sigmoid from -3 to 3."""
    sigmoid = lambda x: 1 / (1 + mpmath.exp(-x))  # noqa: E731
    start, end = sigmoid(M(-3)), sigmoid(M(3))
    alpha2 = (end - sigmoid(6 * u - 3)) / (end - start)
    return mpmath.log((1 - alpha2) / alpha2)


def polynomial(u):
    alpha = 1 - u**2
    return mpmath.log((1 - alpha**2) / alpha**2)


# gamma at u by the formulas of the papers.
SCHEDULES = {
    D.Linear(): lambda u: 80 * u - 40,
    D.LinearBeta(): lambda u: mpmath.log(mpmath.expm1(M("0.1") * u + M("19.9") * u**2 / 2)),
    D.Cosine(): lambda u: 2 * mpmath.log(mpmath.tan(mpmath.pi * u / 2)),
    D.Cosine(shift=1.5): lambda u: M("1.5") + 2 * mpmath.log(mpmath.tan(mpmath.pi * u / 2)),
    D.Sigmoid(): jabri,
    D.Polynomial(): polynomial,
    D.LogNormal(): lambda u: 2 * (M("-1.2") + M("1.2") * normal_quantile(u)),
    D.Straight(): lambda u: 2 * mpmath.log(u / (1 - u)),
    D.Karras(): lambda u: 14 * mpmath.log(u),
}
# (log alpha, log sigma) at gamma.
PATHS = {
    "variance_preserving": lambda g: (
        -mpmath.log1p(mpmath.exp(g)) / 2,
        -mpmath.log1p(mpmath.exp(-g)) / 2,
    ),
    "variance_exploding": lambda g: (M(0), g / 2),
    "sub_variance_preserving": lambda g: (
        -mpmath.asinh(mpmath.exp(g / 2) / 2),
        g / 2 - mpmath.asinh(mpmath.exp(g / 2) / 2),
    ),
    "straight": lambda g: (-mpmath.log1p(mpmath.exp(g / 2)), -mpmath.log1p(mpmath.exp(-g / 2))),
}
EPS = float(jnp.finfo(jnp.float32).eps)
MOST, LEAST = 11.0, -9.0


def position_of(gamma, formula):
    """u at gamma, by bisection."""
    with mpmath.workdps(40):
        low, high = M(10) ** -12, 1 - M(10) ** -12
        for _ in range(90):
            middle = (low + high) / 2
            low, high = (middle, high) if formula(middle) < gamma else (low, middle)
        return (low + high) / 2


def test_gamma_has_its_digits_at_both_ends():
    """Between ends given as a log-SNR; Karras' has its noise at u = 1, where gamma is 0."""
    t = np.array([0, 1e-6, 1e-3, 0.1, 0.5, 0.9, 0.999, 1 - 2.0**-20, 1], np.float32)
    least = {D.Karras(): 1.0}

    @quick_jit
    def ask(t):
        found = []
        for schedule in SCHEDULES:
            for data_at in (0, 1):
                process = D.Process("straight", schedule, MOST, least.get(schedule, LEAST), data_at)
                at = process.at(t if data_at == 0 else 1 - t)
                found.append(
                    (at.gamma, at.gamma_rate * (1 - 2 * data_at), process.time_of(at.gamma))
                )
        return found

    found = ask(t)
    for i, (schedule, formula) in enumerate(SCHEDULES.items()):
        with mpmath.workdps(40):
            u0 = position_of(-MOST, formula)
            u1 = position_of(-least.get(schedule, LEAST), formula)
            inner = lambda s, f=formula, a=u0, b=u1: f(a + (b - a) * s)  # noqa: E731
            places = [min(max(M(float(s)), M(10) ** -15), 1 - M(10) ** -15) for s in t]
            want = np.array([float(inner(s)) for s in places])
            slope = np.array([float(mpmath.diff(inner, s, h=M(10) ** -18)) for s in places])
        # A rounding of u moves gamma by du / u: some eps, whatever the slope.
        slack = 40 * EPS * (1 + np.abs(want)) + EPS * slope * t * (t < 0.5)
        for data_at in (0, 1):
            gamma, rate, back = (np.asarray(v, np.float64) for v in found[2 * i + data_at])
            named = f"{schedule}, data at {data_at}"
            # 1 - t is exact here for one direction only.
            allowed = slack + (EPS * slope if data_at else 0)
            assert np.all(np.abs(gamma - want) < allowed), (named, gamma - want, allowed)
            inner_part = (t > 1e-4) & (t < 0.9999)
            np.testing.assert_allclose(
                rate[inner_part], slope[inner_part], rtol=2e-4, err_msg=named
            )
            time = t if data_at == 0 else 1 - t
            np.testing.assert_allclose(back, time, atol=3e-6, err_msg=named)
            np.testing.assert_allclose(gamma[[0, -1]], want[[0, -1]], rtol=1e-5)


def test_alpha_and_sigma_have_their_digits():
    gamma = np.array([-30, -13, -4, -0.3, 0, 0.7, 5, 12, 25], np.float32)

    @quick_jit
    def ask(gamma):
        found = {}
        for path in PATHS:
            process = D.Process(path, D.Linear(), 31.0, -26.0)
            found[path] = (
                process.at(process.time_of(gamma)),
                process._level(gamma, gamma, jnp.ones_like(gamma)),
            )
        return found

    for path, (_, at) in ask(gamma).items():
        with mpmath.workdps(40):
            want = [[float(v) for v in PATHS[path](M(float(g)))] for g in gamma]
            slopes = [
                [
                    float(
                        mpmath.diff(lambda h, p=path, i=i: mpmath.exp(PATHS[p](h)[i]), M(float(g)))
                    )
                    for i in (0, 1)
                ]
                for g in gamma
            ]
        want, slopes = np.array(want).T, np.array(slopes).T
        for name, right in zip(("log_alpha", "log_sigma"), want, strict=True):
            np.testing.assert_allclose(
                getattr(at, name), right, rtol=2e-6, err_msg=f"{path} {name}"
            )
        for name, right in zip(("alpha", "sigma"), np.exp(want), strict=True):
            np.testing.assert_allclose(
                getattr(at, name), right, rtol=4e-6, err_msg=f"{path} {name}"
            )
        for name, right in zip(("alpha_rate", "sigma_rate"), slopes, strict=True):
            np.testing.assert_allclose(
                getattr(at, name), right, rtol=2e-5, err_msg=f"{path} {name}"
            )


def test_paths_are_what_their_names_say():
    t = np.linspace(0, 1, 7)
    with jax.enable_x64(True):
        levels = quick_jit(lambda t: {p: D.Process(p, D.Cosine()).at(t) for p in PATHS})(t)
    vp, ve, sub, straight = (jax.tree.map(np.asarray, levels[p]) for p in PATHS)
    np.testing.assert_allclose(vp.alpha**2 + vp.sigma**2, 1, rtol=1e-12)
    np.testing.assert_allclose(ve.alpha, 1, rtol=1e-12)
    np.testing.assert_allclose(sub.sigma, 1 - sub.alpha**2, atol=1e-14)
    np.testing.assert_allclose(straight.alpha + straight.sigma, 1, rtol=1e-12)
    for at in (vp, ve, sub, straight):
        np.testing.assert_allclose(2 * np.log(at.sigma / at.alpha), at.gamma, atol=1e-9)
        np.testing.assert_allclose(at.position[[0, -1]], [0, 1], atol=1e-12)


def test_a_learned_schedule_grows_and_turns_back():
    t = np.linspace(0, 1, 33)

    @quick_jit
    def ask(key):
        found = []
        for data_at in (0, 1):
            process = D.Process(schedule=D.Learned(5), data_at=data_at)
            own = process.init(key)
            process = process.bind(own)
            at = process.at(t)
            again = process.at_position(at.time, *process.position(t))
            found.append((at, again, process.time_of(at.gamma)))
        return found

    with jax.enable_x64(True):
        for data_at, (at, again, back) in enumerate(ask(jax.random.key(3))):
            gamma = np.asarray(at.gamma)
            assert np.all(np.diff(gamma) * (1 - 2 * data_at) > 0)
            np.testing.assert_allclose(sorted(gamma[[0, -1]]), [-13, 10], rtol=1e-10)
            np.testing.assert_allclose(back, t, atol=1e-10)
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), at, again
            )
            np.testing.assert_allclose(np.gradient(gamma, t)[8:25], at.gamma_rate[8:25], rtol=0.02)


# Predictions.

PREDICTIONS = ("noise", "data", "v", "score", "velocity", "edm")
RNG = np.random.default_rng(0)
X, NOISE = RNG.normal(0.3, 1.2, (2, 5, 4))


def guess(name, x, noise, at, scale):
    """The outputs by their definitions."""
    alpha, sigma = at.alpha[:, None], at.sigma[:, None]
    z = alpha * x + sigma * noise
    total = sigma**2 + alpha**2 * scale**2
    return {
        "noise": noise,
        "data": x,
        "score": -noise / sigma,
        "v": alpha * noise - sigma * x,
        "velocity": at.alpha_rate[:, None] * x + at.sigma_rate[:, None] * noise,
        # x = c_skip z / alpha + c_out F, with sigma / alpha for sigma (Karras et al. 2022, table 1)
        "edm": (x - scale**2 * alpha * z / total) * jnp.sqrt(total) / (sigma * scale),
    }[name]


def test_conversions_go_both_ways():
    t = np.linspace(0.05, 0.95, 5)

    @quick_jit
    def ask(x, noise):
        out = {}
        for path in PATHS:
            at = D.Process(path, D.Cosine(), data_at=1).at(t)
            z = at.alpha[:, None] * x + at.sigma[:, None] * noise
            for name in PREDICTIONS:
                prediction = D.Prediction(name, data_scale=0.7)
                found = prediction.output(x, noise, at)
                want = guess(name, x, noise, at, 0.7)
                out[path, name] = found, want, prediction.denoised(want, z, at)
        return list(out.values())

    with jax.enable_x64(True):
        for found, want, (data, noise, _) in ask(jnp.asarray(X), jnp.asarray(NOISE)):
            np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-10)
            np.testing.assert_allclose(data, X, rtol=1e-8, atol=1e-9)
            np.testing.assert_allclose(noise, NOISE, rtol=1e-7, atol=1e-8)


def test_conversions_are_safe_where_the_snr_is_0_or_infinite():
    """alpha or sigma 0, beyond what a process has as ends."""
    for alpha, sigma, rates in ((0.0, 1.0, (-1.0, 1.0)), (1.0, 0.0, (-1.0, 1.0))):
        gamma = np.inf if alpha == 0 else -np.inf
        values = (0.5, gamma, alpha, sigma, np.log(max(alpha, 1e-38)), 0.0, 1.0, *rates, 1.0)
        at = D.Level(*(jnp.full(5, v, jnp.float32) for v in values))
        x, noise = jnp.asarray(X, jnp.float32), jnp.asarray(NOISE, jnp.float32)
        z = alpha * x + sigma * noise
        for name in PREDICTIONS:
            prediction = D.Prediction(name)
            output = prediction.output(x, noise, at)
            data, guess, _ = prediction.denoised(output, z, at)
            assert np.all(np.isfinite(output)), name
            lost = 0 if alpha == 0 else np.zeros_like(X)
            want_data = X if alpha or name not in ("noise", "score") else lost
            want_noise = NOISE if alpha == 0 or name not in ("data", "score") else 0 * NOISE
            np.testing.assert_allclose(data, np.broadcast_to(want_data, X.shape), atol=1e-5)
            np.testing.assert_allclose(guess, want_noise, atol=1e-5, err_msg=name)


def test_errors_of_predictions_are_multiples_of_one_another():
    """|x - x_hat|^2 = |e - e_hat|^2 / SNR = |v - v_hat|^2 / (SNR + 1), and the weightings that follow."""
    names = ("simple", "edm", "min_snr", "p2", "elbo", "sigmoid")
    x_hat = X + 0.1 * RNG.normal(size=X.shape)

    @quick_jit
    def ask(x, noise, x_hat, t):
        at = D.Process("variance_preserving", D.Cosine()).at(t)
        z = at.alpha[:, None] * x + at.sigma[:, None] * noise
        e_hat = (z - at.alpha[:, None] * x_hat) / at.sigma[:, None]
        kinds = {name: D.Prediction(name, 0.7) for name in PREDICTIONS}
        missed = {
            name: jnp.sum((p.output(x, noise, at) - p.output(x_hat, e_hat, at)) ** 2, axis=1)
            for name, p in kinds.items()
        }
        weights = {name: D.Weighting(name, data_scale=0.7)(at) for name in names}
        straight = D.Process("straight", D.Straight()).at(t)
        scale = D.Prediction("velocity").coefficients(straight).noise_from_output
        # |u - u_hat|^2 of |e - e_hat|^2 = 1, over what it is weighted to be.
        flow = scale**2 * D.Weighting("flow_matching")(straight) * straight.gamma_rate
        return at, missed, weights, flow

    with jax.enable_x64(True):
        given = jnp.asarray(X), jnp.asarray(NOISE), jnp.asarray(x_hat), jnp.linspace(0.1, 0.9, 5)
        at, missed, weights, flow = jax.tree.map(np.asarray, ask(*given))
    snr, rate = np.exp(-at.gamma), np.abs(at.gamma_rate)
    np.testing.assert_allclose(missed["data"], missed["noise"] / snr, rtol=1e-10)
    np.testing.assert_allclose(missed["data"], missed["v"] / (snr + 1), rtol=1e-10)
    plain = {  # what each weighting is the mean over times of
        "simple": missed["noise"],
        "edm": missed["edm"],
        "min_snr": np.minimum(snr, 5) * missed["data"],
        "p2": missed["noise"] / (1 + snr),
        "elbo": rate * missed["noise"],
        "sigmoid": rate * missed["noise"] / (1 + np.exp(-2) * snr),
    }
    for name, want in plain.items():
        np.testing.assert_allclose(weights[name] * rate * missed["noise"], want, rtol=1e-10)
    np.testing.assert_allclose(flow, flow[0], rtol=1e-10)


def test_bounds_of_weightings_are_monotone():
    names = ("elbo", "sigmoid", "flow_matching")

    @quick_jit
    def ask(t):
        at = D.Process("straight", D.Straight()).at(t)
        return [D.Weighting(name)(at) for name in names]

    for name, weights in zip(names, ask(np.linspace(0.01, 0.99, 50)), strict=True):
        assert D.Weighting(name).bound is not None and np.all(np.diff(weights) >= 0)
    for name in ("simple", "edm", "min_snr", "p2"):
        assert D.Weighting(name).bound is None


# Bad input.

BAD = {
    "data_at": (lambda: D.Process(data_at=2), "the time that has the data, 0 or 1, got 2"),
    "ends": (lambda: D.Process(log_snr_max=-13.0), "log_snr_min < log_snr_max wanted"),
    "text": (
        lambda: D.Process(log_snr_max="13"),
        "are numbers, got .13. and -10.0; write log_snr_max",
    ),
    "infinite": (lambda: D.Process(log_snr_max=np.inf), "both finite"),
    "beta": (lambda: D.LinearBeta(2.0, 1.0), "gamma would not increase"),
    "sigmoid": (lambda: D.Sigmoid(3.0, -3.0), "gamma would not increase"),
    "polynomial": (lambda: D.Polynomial(-1.0), "write power=2"),
    "log normal": (lambda: D.LogNormal(std=0.0), "write std=1.2"),
    "karras": (lambda: D.Karras(0.0), "write rho=7"),
    "learned": (lambda: D.Learned(0), "features is a whole number >= 1"),
    "scale": (lambda: D.Prediction("edm", 0.0), "data_scale is positive"),
    "weighting": (lambda: D.Weighting("plain"), "the name is one of"),
    "bins": (lambda: D.Pixels(1), "bins is a whole number >= 2"),
    "range": (lambda: D.Pixels(3, 2.0, 1.0), "low < high wanted"),
    "real": (lambda: D.Real(scale=-1.0), "scale is positive"),
    "list": (lambda: D.Real(loc=[1.0]), r"loc is a number or an array, got \[1.0\]"),
    "schedule": (lambda: D.Process("straight", "cosine"), r"lx.diffusion.Cosine\(\)"),
    "schedule's class": (lambda: D.Process("straight", D.Cosine), "is an object such as"),
    "path's class": (lambda: D.Process(D.Lipman), "path is one of"),
    "paths": (lambda: D.Process(["straight"]), "path is one of .*got \\['straight'"),
    "text for beta": (lambda: D.LinearBeta("0.1"), "0 < beta_min"),
    "text for shift": (lambda: D.Cosine("0"), "shift is a number, got '0'"),
    "no tau": (lambda: D.Sigmoid(tau=None), "tau=None: gamma would not increase"),
    "text for mean": (lambda: D.LogNormal("a"), "got 'a' and 1.2"),
    "features of text": (lambda: D.Learned("64"), "got '64'; write features=64"),
    "predictions": (lambda: D.Prediction(["v"]), "the name is one of"),
    "constant": (lambda: D.Weighting("elbo", k=3.0), "'elbo' has no k, got k=3.0; leave it out"),
    "negative": (lambda: D.Weighting("min_snr", k=-5.0), "k is a number > 0, got -5.0"),
    "no number": (lambda: D.Weighting("sigmoid", k=float("nan")), "k is a number > -inf, got nan"),
    "data's scale": (lambda: D.Weighting("edm", data_scale=0.0), "data_scale is positive, got 0.0"),
    "text for low": (lambda: D.Pixels(3, low="0"), "low < high wanted, got '0'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told(name):
    make, match = BAD[name]
    with pytest.raises((TypeError, ValueError), match=match):
        make()


def test_constants_that_need_not_be_positive():
    assert D.Weighting("sigmoid", k=-2.0).k == -2.0
    assert D.Weighting("p2", g=0.0).g == 0.0


class Backwards(D.Schedule):
    """Not monotone."""

    def gamma(self, u, v):
        return 20 * (u - v) + 40 * jnp.sin(6 * u)

    def position(self, gamma):
        return 0.5 + gamma / 40, 0.5 - gamma / 40


def test_a_schedule_of_ones_own_is_looked_at():
    with pytest.raises(ValueError, match="must grow from the data to the noise, and .*Backwards"):
        D.Process(schedule=Backwards())
