"""Truncated and censored distributions against mpmath, SciPy and their definitions."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy import stats

import likelax as lx
from likelax.testing.subject import quick_jit

EPS = float(np.finfo(np.float32).eps)


def f32(values):
    return np.asarray(values, np.float32)


# (x, low, high, loc, scale): both tails, astride, narrow, one-sided, tiny and huge scales.
NORMALS = [
    (0.5, -1.0, 2.0, 0.25, 0.75),
    (30.125, 30.0, np.inf, 0.0, 1.0),
    (-5e3, -np.inf, -4.99e3, 0.5, 2.0),
    (300.0001, 300.0, 300.0002, 0.0, 1.0),
    (-1.0, -1e10, 1.0, 0.0, 1.0),
    (2e-18, 1e-18, 5e-17, -3e-18, 1e-18),
    (4e17, 3e17, np.inf, -2e17, 1e16),
    (0.25, -0.5, 0.2500001, 12.0, 0.0625),
    (7e3, 1.0, 1e4, 0.0, 1.0),
    (-2.5, -3.0, 40.0, 1e3, 17.0),
    (0.001, -0.01, 0.01, 0.0, 50.0),
    (3.0, -2.0, 1e30, 0.0, 1.0),
]


def normal_mass(low, high):
    """Phi(high) - Phi(low)."""
    root = mp.sqrt(2)
    if low > 0:
        return (mp.erfc(low / root) - mp.erfc(high / root)) / 2
    if high < 0:
        return normal_mass(-high, -low)
    return (mp.erf(high / root) - mp.erf(low / root)) / 2


def exact(row):
    """log p, log F, log S and the slopes of log p in all five arguments, from the definition."""
    with mp.workdps(60):
        x, low, high, loc, s = (mp.mpf(float(v)) for v in f32(row))
        z, a, b = (x - loc) / s, (low - loc) / s, (high - loc) / s
        mass = normal_mass(a, b)
        density = lambda z: mp.npdf(z) / mass  # noqa: E731
        ends = density(a), density(b)
        pull = sum(v * e for v, e in ((a, ends[0]), (b, -ends[1])) if mp.isfinite(v))
        slopes = [-z, ends[0], -ends[1], z - (ends[0] - ends[1]), z * z - 1 - pull]
        value = mp.log(density(z) / s)
        tails = [mp.log(normal_mass(*ab) / mass) for ab in ((a, z), (z, b))]
        return [float(v) for v in (value, *tails, *(g / s for g in slopes))]


@quick_jit
def of_normal(x, low, high, loc, scale):
    def log_prob(x, low, high, loc, scale):
        return lx.Truncated(lx.Normal(loc, scale), low, high).log_prob(x)

    arguments = x, low, high, loc, scale
    total = lambda *args: log_prob(*args).sum()  # noqa: E731
    slopes = jax.grad(total, range(5))(*arguments)
    dist = lx.Truncated(lx.Normal(loc, scale), low, high)
    curves = jax.jvp(jax.grad(total, range(5)), arguments, tuple(map(jnp.ones_like, arguments)))[1]
    return [log_prob(*arguments), dist.log_cdf(x), dist.log_survival(x), *slopes], curves


def test_a_normal_in_its_tails():
    want = np.array([exact(row) for row in NORMALS]).T
    columns = f32(NORMALS).T
    got, curves = of_normal(*columns)
    scale = columns[4].astype(float)
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        unit, bound = (1, 8) if i < 3 else (1 / scale, 32)
        error = np.abs(np.asarray(g, float) - w) / np.maximum(np.abs(w), unit) / EPS
        assert (error[w != g] <= bound).all(), (i, error)
    assert all(np.isfinite(curve).all() for curve in curves)
    # The control: a difference of two large logarithms.
    x, low, _, loc, s = columns[:, 1]
    plain = lx.Normal(loc, s).log_prob(x) - lx.Normal(loc, s).log_survival(low)
    assert abs(plain - want[0, 1]) > 32 * EPS


def test_a_normal_in_float64():
    with jax.enable_x64(True):
        dist = lx.Truncated(lx.Normal(jnp.float64(0.25), jnp.float64(0.75)), 9.0, 11.0)
        x, low, high = 9.25, (9 - 0.25) / 0.75, (11 - 0.25) / 0.75
        truth = stats.truncnorm(low, high, 0.25, 0.75)
        with mp.workdps(40):
            mass = normal_mass(mp.mpf(low), mp.mpf(high))
            want = float(mp.log(mp.npdf(mp.mpf(12)) / mass / mp.mpf(0.75)))
        np.testing.assert_allclose(dist.log_prob(x), want, rtol=1e-10)
        np.testing.assert_allclose(dist.mean(), truth.mean(), rtol=1e-10)
        assert dist.mean().dtype == jnp.float64


# Bases without formulas of their own within two ends: (base, log-density up to a constant, rows of low,
# high and value, exact in float32). Narrow and far out, narrow in the middle, and over five decades.
NARROW = [
    (
        lx.StudentT(3.0, 0.0, 1.0),
        lambda x: -2 * mp.log1p(x * x / 3),
        [
            (1000.0, 1000.0625, 1000.03125),
            (-3e5, -299992.0, -299998.0),
            (0.25, 0.25006103515625, 0.2500152587890625),
        ],
    ),
    (
        lx.Gamma(f32([5.0, 2.0**-10]), 1.0),
        lambda x: 4 * mp.log(x) - x if x > 0.5 else -1023 * mp.log(x) / 1024 - x,
        [(1.0, 1.0009765625, 1.000244140625), (2.0**-34, 2.0**-17, 2.0**-20)],
    ),
]


def exact_narrow(log_density, low, high, x):
    """log p, log F and log S within the ends, by quadrature over octaves."""
    with mp.workdps(40):
        low, high, x = (mp.mpf(float(np.float32(v))) for v in (low, high, x))
        there = log_density(x)

        def mass(a, b):
            cuts = [a] if a < 0 else [a * 2**k for k in range(60) if a * 2**k < b]
            return mp.quad(lambda t: mp.exp(log_density(t) - there), [*cuts, b])

        below, above = mass(low, x), mass(x, high)
        logs = (
            -mp.log(below + above),
            *(mp.log(part / (below + above)) for part in (below, above)),
        )
        return [float(value) for value in logs]


@pytest.mark.slow
@pytest.mark.parametrize(("base", "log_density", "ends"), NARROW, ids=["StudentT", "Gamma"])
def test_a_narrow_interval_of_any_base(base, log_density, ends):
    low, high, x = f32(ends).T
    want = np.array([exact_narrow(log_density, *row) for row in ends]).T

    @quick_jit
    def asked(base, low, high, x):
        def total(base, low, high):
            dist = lx.Truncated(base, low, high)
            values = dist.log_prob(x), dist.log_cdf(x), dist.log_survival(x)
            return values[0].sum(), (values, base.log_prob(x))

        return jax.grad(total, argnums=(0, 1, 2), has_aux=True)(base, low, high)

    slopes, (got, log_base) = asked(base, low, high, x)
    # The unit is the rounding of the base's own log-density there. Over five decades the quadrature
    # would be off by nats: there it is a difference of two logarithms near -0.01, and their rounding.
    unit = np.maximum(1, np.abs(want)) + np.abs(log_base)
    unit = np.where(high > 1000 * abs(low), 100 * unit, unit)
    assert (np.abs(np.array(got) - want) <= 4 * EPS * unit).all(), (got, want)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
    narrow = high - low < 1e-3 * abs(low)  # nearly uniform: the ends' slopes are one over the width
    np.testing.assert_allclose((slopes[1] * (high - low))[narrow], 1, rtol=2e-3)
    np.testing.assert_allclose((slopes[2] * (high - low))[narrow], -1, rtol=2e-3)


def test_a_difference_of_tails_has_no_digits_in_a_narrow_interval():
    """The control."""
    base, log_density, [(low, high, x), *_] = NARROW[0]
    tails = np.exp([float(base.log_survival(end)) for end in (low, high)])
    plain = float(base.log_prob(x)) - np.log(tails[0] - tails[1])
    assert abs(plain - exact_narrow(log_density, low, high, x)[0]) > 1e-3


class GumbelInUnitsOfOne(lx.Gumbel):
    """The control."""

    def _in_units(self, length):
        return self, jnp.ones_like(length)


def test_a_narrow_interval_is_measured_in_its_own_unit():
    """A Gumbel of scale 1e-20, whose log-density of 46 the logarithm of the width would cancel."""
    scale = np.float32(1e-20)
    low = f32(np.linspace(-1.2, 4, 27) * float(scale))
    x, high = f32(low + 3e-3 * scale), f32(low + 8e-3 * scale)
    with mp.workdps(40):
        cdf = lambda v: mp.exp(-mp.exp(-mp.mpf(float(v)) / float(scale)))  # noqa: E731
        ends = [[cdf(v) for v in row] for row in zip(low, x, high, strict=True)]
        want = np.array([float(mp.log((b - a) / (c - a))) for a, b, c in ends])

    @jax.jit
    def log_cdfs(x, low, high):
        bases = lx.Gumbel(0.0, scale), GumbelInUnitsOfOne(0.0, scale)
        return [lx.Truncated(base, low, high).log_cdf(x) for base in bases]

    error, plain = (
        np.abs(np.asarray(got, float) - want).max() / EPS for got in log_cdfs(x, low, high)
    )
    assert error < 12
    assert plain > 24


def test_a_few_whole_numbers_far_out():
    """Geometric(1e-6) of a million: a difference of tails is all rounding, the sum of four is not."""
    dist = lx.Truncated(lx.Geometric(probs=1e-6), 1e6, 1e6 + 3)
    counts = np.arange(4) + 1_000_000
    probs = np.exp(np.asarray(dist.log_prob(counts), float))
    np.testing.assert_allclose(probs, 0.25, rtol=4e-6)
    np.testing.assert_allclose(dist.cdf(counts), [0.25, 0.5, 0.75, 1], rtol=4e-6)
    draws = np.asarray(dist.sample(jax.random.key(0), (400,)))
    assert set(draws) == set(counts)
    assert 60 < np.sum(draws == counts[2]) < 140


def test_quantiles_and_samples_far_out():
    dist = lx.Truncated(lx.Normal(0.0, 1.0), low=40.0)
    q = f32([0.125, 0.5, 0.9375])
    # P(X > x) = exp(-(x - 40) (x + 40) / 2) to one part in 1600.
    want = np.sqrt(1600 - 2 * np.log1p(-q.astype(float)))
    np.testing.assert_allclose(dist.quantile(q) - 40, want - 40, rtol=1e-3)
    assert np.isinf(lx.Normal(0.0, 1.0).quantile(lx.Normal(0.0, 1.0).cdf(40.0)))  # the control

    def draws(loc):
        return lx.Truncated(lx.Normal(loc, 2.0), -1.0, 3.0).sample(jax.random.key(2), (2000,))

    values, slopes = quick_jit(lambda loc: jax.jvp(draws, (loc,), (1.0,)))(0.5)
    truth = stats.truncnorm(-0.75, 1.25, 0.5, 2.0)
    # d mean / d loc = variance / scale^2.
    for got, wanted in ((values, truth.mean()), (slopes, truth.var() / 4)):
        assert abs(float(got.mean()) - wanted) < 4 * float(got.std()) / np.sqrt(len(got)) < 0.11


# (q, low, high, loc, scale): both tails, astride, narrow, one-sided, tiny and huge scales.
QUANTILES = [
    (0.25, -1.0, 2.0, 0.25, 0.75),
    (1e-6, 30.0, np.inf, 0.0, 1.0),
    (0.9999, 30.0, np.inf, 0.0, 1.0),
    (0.75, -np.inf, -4.99e3, 0.5, 2.0),
    (0.625, 300.0, 300.0002, 0.0, 1.0),
    (0.5, -1e10, 1.0, 0.0, 1.0),
    (0.99, 1e-18, 5e-17, -3e-18, 1e-18),
    (0.375, -0.5, 0.2500001, 12.0, 0.0625),
    (0.125, -0.001, 0.002, 0.0, 50.0),
    (0.875, 2.0, 5.0, 0.0, 1.0),
    (1e-5, -2.0, 1e30, 0.0, 1.0),
    (0.5, -40.0, 3.0, 1e3, 17.0),
]


def exact_quantile(row):
    """(x, dx in the five arguments, spread) from F(x) = q, and variance and entropy by quadrature."""
    with mp.workdps(50):
        q, low, high, loc, s = (mp.mpf(float(v)) for v in f32(row))
        a, b = (low - loc) / s, (high - loc) / s
        mass = normal_mass(a, b)
        start, stop = max(a, min(b, 0) - 40), min(b, max(a, 0) + 40)
        z = (start + stop) / 2
        while abs(excess := normal_mass(a, z) / mass - q) > mp.mpf(10) ** -30 * q:
            start, stop = (start, z) if excess > 0 else (z, stop)
            newton = z - excess * mass / mp.npdf(z)
            z = newton if start < newton < stop else (start + stop) / 2
        density = mp.npdf(z) / mass
        in_low = normal_mass(z, b) / mass * mp.npdf(a) / mass / density
        in_high = normal_mass(a, z) / mass * mp.npdf(b) / mass / density
        pull = sum(v * e for v, e in ((a, in_low), (b, in_high)) if mp.isfinite(v))
        slopes = s / density, in_low, in_high, 1 - in_low - in_high, z - pull

        # In units of the spread, from the end that is nearer to the mode.
        a, b = (-b, -a) if a + b < 0 else (a, b)
        unit = min(1 / max(a, 1), b - a)
        origin = max(a, 0)
        ends = max(a - origin, -40) / unit, min((b - origin) / unit, 120)
        weight = lambda t: mp.exp(-unit * t * (origin + unit * t / 2))  # noqa: E731
        steps = mp.linspace(*ends, 13)
        moment = lambda k: mp.quad(lambda t: t**k * weight(t), steps)  # noqa: E731
        total, first, second = map(moment, range(3))
        mean = first / total
        variance = (second / total - mean**2) * unit**2
        rise = unit * (origin * mean + unit * second / total / 2)
        entropy = mp.log(s * unit * total) + rise
        values = loc + s * z, *slopes, variance * s**2, entropy, mp.sqrt(variance)
        return [float(v) for v in values]


@quick_jit
def quantiles_of_normal(*arguments):
    def dist(low, high, loc, scale):
        return lx.Truncated(lx.Normal(loc, scale), low, high)

    quantile = lambda q, *ends: dist(*ends).quantile(q)  # noqa: E731
    slopes = jax.grad(lambda *args: quantile(*args).sum(), range(5))
    moments = lambda *ends: (dist(*ends).variance(), dist(*ends).entropy())  # noqa: E731
    curves = jax.jvp(slopes, arguments, tuple(map(jnp.ones_like, arguments)))[1]
    spreads = jax.jacrev(lambda *ends: [m.sum() for m in moments(*ends)], range(4))(*arguments[1:])
    return [quantile(*arguments), *slopes(*arguments), *moments(*arguments[1:])], curves, spreads


@pytest.mark.slow
def test_quantiles_and_spreads_of_a_normal():
    want = np.array([exact_quantile(row) for row in QUANTILES]).T
    columns = f32(QUANTILES).T
    got, curves, spreads = quantiles_of_normal(*columns)
    scale, spread = columns[4].astype(float), want[-1]
    floors = [scale * spread, 0, 1, 1, spread, spread, 0, 1]
    bounds = [8, 32, 32, 32, 32, 32, 8, 8]
    for i, (g, w) in enumerate(zip(got, want[:-1], strict=True)):
        error = np.abs(np.asarray(g, float) - w) / np.maximum(np.abs(w), floors[i]) / EPS
        assert (error <= bounds[i]).all(), (i, error)
    for i, x in enumerate(jax.tree.leaves((curves, spreads))):
        assert np.isfinite(x).all(), (i, x)
    # The entropy is a logarithm in the scale: moved and stretched it moves by 1.
    stretch = sum(
        np.where(np.isfinite(c), c, 0) * np.asarray(g, float)
        for c, g in zip(columns[1:].astype(float), spreads[1], strict=True)
    )
    assert (abs(stretch - 1)[[0, 1, 5, 9]] < 1e-3).all(), stretch
    # The controls: the plain formulas.
    q, low, high, loc, s = columns[:, [1, 2, 9]].astype(float)
    plain = stats.norm.ppf(stats.norm.cdf(low) + q * (stats.norm.cdf(high) - stats.norm.cdf(low)))
    assert not (abs(plain[:2] - want[0, 1:3]) < 1).any()
    hazard = np.exp(lx.Normal(0.0, 1.0).log_prob(30.0) - lx.Normal(0.0, 1.0).log_survival(30.0))
    assert abs(1 - hazard * (hazard - 30) - want[6, 1]) > 100 * EPS * want[6, 1]


def test_spreads_in_float64():
    with jax.enable_x64(True):
        for low, high in ((9.0, 11.0), (0.3, 0.31), (-0.5, 3.0)):
            truth = stats.truncnorm((low - 0.25) / 0.75, (high - 0.25) / 0.75, 0.25, 0.75)
            dist = lx.Truncated(lx.Normal(jnp.float64(0.25), jnp.float64(0.75)), low, high)
            np.testing.assert_allclose(dist.quantile(0.3), truth.ppf(0.3), rtol=1e-12)
            nodes, weights = np.polynomial.legendre.leggauss(60)
            x, weights = low + (high - low) * (nodes + 1) / 2, weights * (high - low) / 2
            density = truth.pdf(x) * weights
            entropy, mean = -(density * truth.logpdf(x)).sum(), (density * x).sum()
            np.testing.assert_allclose(dist.entropy(), entropy, rtol=1e-10)
            np.testing.assert_allclose(dist.variance(), (density * (x - mean) ** 2).sum(), 1e-9)


def test_an_exponential_forgets():
    dist = lx.Truncated(lx.Exponential(2.0), low=jnp.array([0.5, 3.0]))
    x = np.array([[0.75], [3.5]])
    want = np.where(x < [0.5, 3.0], -np.inf, np.log(2) - 2 * (x - np.array([0.5, 3.0])))
    np.testing.assert_allclose(dist.log_prob(x), want, rtol=3e-6)
    assert abs(lx.Exponential(2.0).log_prob(3.5) - want[1, 1]) > 1  # the control


def test_whole_numbers_at_an_end_are_inside():
    k, pmf = np.arange(12), stats.geom(0.25, loc=-1).pmf(np.arange(12))
    kept = np.where((k >= 1) & (k <= 7), pmf, 0)
    kept = kept / kept.sum()
    dist = lx.Truncated(lx.Geometric(probs=0.25), jnp.array([1, 0.5]), jnp.array([7, 7.75]))
    np.testing.assert_allclose(dist.prob(k[:, None]), np.stack([kept, kept], 1), rtol=2e-6)
    draws = dist.sample(jax.random.key(0), (100,))
    assert draws.dtype == jnp.int32 and set(np.unique(draws)) == set(range(1, 8))
    assert abs(kept[1] - pmf[1]) > 0.01  # the control


def test_narrow_intervals_of_other_families():
    """log P(low < X <= high) for ends whose tails agree to all digits."""
    low, high = np.float32(0.5), np.nextafter(np.float32(0.5), np.float32(1))
    dist = lx.Truncated(lx.Logistic(0.25, 2.0), low, high)
    np.testing.assert_allclose(dist.log_prob(low), -np.log(float(high) - float(low)), rtol=1e-6)
    wide = lx.Truncated(lx.Logistic(0.25, 2.0), -1e10, 1.0)
    want = stats.logistic(0.25, 2).logpdf(0.5) - stats.logistic(0.25, 2).logcdf(1.0)
    np.testing.assert_allclose(wide.log_prob(0.5), want, rtol=1e-6)


# (x, low, high): far out, one-sided, astride, narrow.
LOGISTICS = [
    (5555.62, 5555.44, 5555.68),
    (-5555.62, -5555.68, -5555.44),
    (2001.5, 2000.0, np.inf),
    (-0.5, -np.inf, 1.5),
    (0.25, -1e10, 3.0),
    (-0.25, -0.5, -0.2499999),
    (0.5, -3.0, 40.0),
]


def test_a_logistic_in_its_tails():
    def exact(row):
        with mp.workdps(6000):
            x, low, high = (mp.mpf(float(v)) for v in f32(row))
            cdf = lambda z: 1 / (1 + mp.exp(-z))  # noqa: E731
            below, above = cdf(x) - cdf(low), cdf(high) - cdf(x)
            mass = below + above
            density = cdf(x) * (1 - cdf(x)) / mass
            return [float(v) for v in (mp.log(density), mp.log(below / mass), mp.log(above / mass))]

    @quick_jit
    def everything(x, low, high, loc):
        dist = lx.Truncated(lx.Logistic(loc, 1.0), low, high)
        return [dist.log_prob(x), dist.log_cdf(x), dist.log_survival(x)]

    @quick_jit
    def back(q, low, high):
        return lx.Truncated(lx.Logistic(0.0, 1.0), low, high).quantile(q)

    want = np.array([exact(row) for row in LOGISTICS]).T
    x, low, high = f32(LOGISTICS).T
    loc = np.zeros_like(x)
    got, slopes = jax.jvp(lambda loc: everything(x, low, high, loc), (loc,), (loc + 1,))
    error = np.abs(np.asarray(got, float) - want) / np.maximum(np.abs(want), 1) / EPS
    assert (error <= 8).all(), error
    assert np.isfinite(slopes).all()
    # The slope of log p in loc, far out, is that of the density: next to none.
    np.testing.assert_allclose(slopes[0][:2], 0, atol=1e-6)
    np.testing.assert_allclose(back(np.exp(want[1]).astype(np.float32), low, high), x, rtol=1e-6)
    # The control: the difference of two logarithms.
    plain = lx.Logistic(0.0, 1.0)
    plain = plain.log_prob(x[0]) - plain.log_interval_prob(jnp.array(low[0]), high[0] - low[0])
    assert abs(plain - want[0, 0]) > 100 * EPS


# ---- censored ----


def test_tobit():
    """Below, between and above; the gradient of every part is that of its own term."""
    loc, s, low, high = 0.5, 2.0, -1.0, 1.5
    x = jnp.array([-1.0, 0.25, 1.5, -1.25, 2.0, jnp.nan])
    base = stats.norm(loc, s)
    want = [base.logcdf(low), base.logpdf(0.25), base.logsf(high), -np.inf, -np.inf, np.nan]

    @quick_jit
    def everything(loc):
        make = lambda loc: lx.Censored(lx.Normal(loc, s), low, high)  # noqa: E731
        slopes = jax.jacfwd(lambda loc: make(loc).log_prob(x))(loc)
        tails = (
            make(loc).cdf(x),
            make(loc).survival(x),
            make(loc).quantile(jnp.array([0.0, 0.5, 1.0])),
        )
        return make(loc).log_prob(x), slopes, *tails

    log_prob, slopes, cdf, survival, quantile = everything(loc)
    np.testing.assert_allclose(log_prob, want, rtol=1e-6)
    z = (np.array([low, 0.25, high]) - loc) / s
    mills = [
        -stats.norm.pdf(z[0]) / stats.norm.cdf(z[0]),
        z[1],
        stats.norm.pdf(z[2]) / stats.norm.sf(z[2]),
    ]
    np.testing.assert_allclose(slopes[:3], np.array(mills) / s, rtol=3e-6)
    np.testing.assert_array_equal(slopes[3:5], 0)
    np.testing.assert_allclose(cdf, [base.cdf(low), base.cdf(0.25), 1, 0, 1, np.nan], rtol=1e-6)
    np.testing.assert_allclose(survival, 1 - np.array(cdf), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(quantile, [low, loc, high])
    # The control: at an end the density itself is another number.
    assert abs(log_prob[2] - lx.Normal(loc, s).log_prob(high)) > 0.1


# (low, high, loc, scale)
RECORDED = [
    (-1.0, 1.5, 0.5, 2.0),
    (9.0, np.inf, 0.0, 1.0),
    (-np.inf, -6.0, 0.25, 0.75),
    (-1e-6, 2e-6, 0.0, 1.0),
    (-40.0, 1e10, -3.0, 1.0),
    (9.0, 9.5, 0.0, 1.0),
]


@pytest.mark.slow
def test_moments_of_recorded_ends():
    def exact(row):
        with mp.workdps(50):
            low, high, loc, s = (mp.mpf(float(v)) for v in f32(row))
            ends = max(low, loc - 60 * s), min(high, loc + 60 * s)
            below, above = mp.ncdf((low - loc) / s), mp.ncdf((loc - high) / s)
            origin = high if mp.isfinite(high) and above > below else low
            middle = [max(ends[0], min(ends[1], loc + k * s)) - origin for k in range(-14, 15)]
            steps = [ends[0] - origin, *middle, ends[1] - origin]
            weight = lambda d: mp.npdf((d + origin - loc) / s) / s  # noqa: E731
            moments = [mp.quad(lambda d, k=k: d**k * weight(d), steps) for k in (1, 2)]
            for p, end in ((below, low), (above, high)):
                if mp.isfinite(end):
                    moments = [
                        m + p * (end - origin) ** k for m, k in zip(moments, (1, 2), strict=True)
                    ]
            return [float(v) for v in (origin + moments[0], moments[1] - moments[0] ** 2, above)]

    @quick_jit
    def moments(low, high, loc, s):
        dist = lx.Censored(lx.Normal(loc, s), low, high)
        return dist.mean(), dist.variance()

    want = np.array([exact(row) for row in RECORDED]).T
    columns = f32(RECORDED).T
    mean, variance = moments(*columns)
    np.testing.assert_allclose(mean, want[0], rtol=8 * EPS, atol=1e-12)
    np.testing.assert_allclose(variance, want[1], rtol=64 * EPS)
    (slope, curve) = jax.jvp(
        lambda loc: moments(*columns[:2], loc, columns[3]), (columns[2],), (np.ones(6, np.float32),)
    )[1]
    # d E[Y] / d loc is the probability of what is between.
    _, _, loc, s = columns.astype(float)
    between = [
        float(normal_mass(*((mp.mpf(e) - l) / t for e in ends)))
        for ends, l, t in zip(columns[:2].astype(float).T, loc, s, strict=True)
    ]
    np.testing.assert_allclose(slope, between, rtol=1e-5, atol=1e-6)
    assert np.isfinite(curve).all()
    # The control: of what is kept, not of what is recorded.
    assert abs(lx.Truncated(lx.Normal(0.5, 2.0), -1.0, 1.5).variance() - want[1, 0]) > 0.1
    with pytest.raises(NotImplementedError, match="average"):
        lx.Censored(lx.Laplace(0.0, 1.0), 0.0).mean()


def test_survival_times():
    """One end for each example, infinite where the event was seen."""
    time, seen = np.array([0.5, 2.0, 4.0]), np.array([True, False, True])
    dist = lx.Censored(lx.Exponential(0.75), high=np.where(seen, np.inf, time))
    want = seen * np.log(0.75) - 0.75 * time
    np.testing.assert_allclose(dist.log_prob(time), want, rtol=1e-6)
    draws = lx.Censored(lx.Geometric(probs=0.25), 1, 4).sample(jax.random.key(1), (300,))
    assert draws.dtype == jnp.int32 and set(np.unique(draws)) == {1, 2, 3, 4}


def test_kl_from_a_spike_is_infinite():
    """Where the square of a distance in its scales is no float; the terms were infinities of either sign."""

    def kl(scale, loc_q, scale_q, low=-1.0, high=2.0, low_q=-3.0, high_q=4.0):
        q = lx.Truncated(lx.Normal(loc_q, scale_q), low_q, high_q)
        return lx.kl_divergence(lx.Truncated(lx.Normal(0.0, scale), low, high), q)

    assert kl(1e30, 0.5, 1e-30) == jnp.inf
    assert kl(1.0, 0.5, 1e-30) == jnp.inf
    assert kl(1e30, 0.5, 1e-30, low_q=-jnp.inf, high_q=jnp.inf) == jnp.inf
    assert jnp.isnan(kl(1e30, jnp.nan, 1e-30))
    # ((1 + d)^3 + (2 - d)^3)/9 / (2 scale^2), d the spike's place, and the square next to the largest float.
    want = ((1 + 0.5) ** 3 + (2 - 0.5) ** 3) / 9 / 2e-38
    np.testing.assert_allclose(kl(1e19, 0.5, 1e-19), want, rtol=1e-5)
    # Of a spike from what is flat, and of two that are.
    entropy = 0.5 * np.log(2 * np.pi * np.e) + np.log(1e-30)
    np.testing.assert_allclose(kl(1e-30, 0.5, 1e30), np.log(7) - entropy, rtol=1e-6)
    np.testing.assert_allclose(kl(1e30, 0.5, 1e30), np.log(7 / 3), rtol=1e-6)


@pytest.mark.parametrize("family", [lx.Truncated, lx.Censored])
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda family: family(lx.Normal(0.0, 1.0)), ValueError, "low=0.0"),
        (
            lambda family: family(lx.Normal(jnp.ones(2), 1.0).to_event(), 0.0),
            ValueError,
            "elements",
        ),
        (lambda family: family(lx.Categorical(probs=jnp.ones(2) / 2), 0), ValueError, "whole"),
        (lambda family: family(lx.VonMises(0.0, 1.0), 0.0), ValueError, "an angle"),
        (
            lambda family: family(lx.Quantized(lx.Normal(0.0, 1.0), 0, 5, 6), 1),
            ValueError,
            "one of 6",
        ),
    ],
)
def test_what_cannot_be_bounded_is_refused(family, make, error, message):
    with pytest.raises(error, match=message):
        make(family)


def test_heads():
    head = lx.Head(lx.Truncated, base=lx.Head(lx.Normal), low=0.0)
    raw = jnp.array([[0.5, -0.25]], jnp.bfloat16)
    want = stats.truncnorm(-0.5 / np.exp(-0.25), np.inf, 0.5, np.exp(-0.25)).logpdf(1.25)
    log_prob = head(raw).log_prob(1.25)
    assert log_prob.dtype == jnp.float32
    np.testing.assert_allclose(log_prob, [want], rtol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-20, 1e-14, 1.0, 1e20])
def test_beyond_the_only_end_no_slope_is_nan(scale):
    """The value that stands in for one outside is 1e14 scales from the end: its slope is beyond the floats."""

    def log_prob(value, high, loc, scale):
        return lx.Truncated(lx.Normal(loc, scale), high=high).log_prob(value)

    value, slopes = jax.value_and_grad(log_prob, (0, 1, 2, 3))(2 * scale, scale, 0.0, scale)
    assert value == -jnp.inf
    assert slopes == (0, 0, 0, 0)


class TwiceAGamma(lx.Gamma):
    """Says its tails anew, and not what the Gamma has for both at once."""

    def log_prob(self, value):
        return super().log_prob(value / 2) - np.log(2)

    def log_cdf(self, value):
        return super().log_cdf(value / 2)

    def log_survival(self, value):
        return super().log_survival(value / 2)


class ShiftedGumbel(lx.Gumbel):
    """Not of X / unit what the Gumbel is."""

    def log_prob(self, value):
        return super().log_prob(value - 1)

    def log_cdf(self, value):
        return super().log_cdf(value - 1)

    def log_survival(self, value):
        return super().log_survival(value - 1)


@pytest.mark.parametrize(
    "own, same, ends",
    [
        pytest.param(TwiceAGamma(2.0, 1.0), lx.Gamma(2.0, 0.5), (0.5, 3.0), marks=pytest.mark.slow),
        (ShiftedGumbel(0.5, 3.0), lx.Gumbel(1.5, 3.0), (40.0, 40.25)),
    ],
)
def test_a_subclass_with_methods_of_its_own_is_asked_those(own, same, ends):
    x = 0.5 * sum(ends)
    got, want = (
        [getattr(lx.Truncated(base, *ends), m)(x) for m in ("log_prob", "log_cdf", "log_survival")]
        for base in (own, same)
    )
    np.testing.assert_allclose(got, want, rtol=2e-5)
    plain = [getattr(type(own).__mro__[1], m)(own, x) for m in ("log_prob", "log_cdf")]
    assert not np.allclose(plain, [own.log_prob(x), own.log_cdf(x)], rtol=0.01)  # the control
