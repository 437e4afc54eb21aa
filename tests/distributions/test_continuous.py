"""Tails, quantiles and summaries of the continuous families against SciPy and the formulas.

SciPy works here in float64 on the float32 numbers that likelax gets. What is left in logarithms by
its own `logsf` and `logcdf` is put together from the smaller tail, so that both keep their digits.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy import integrate, special, stats

import likelax as lx


class HuberByHand:
    """The Huber density from its formula, its tails by hand where they are exponential."""

    def __init__(self, loc, scale, delta):
        self.loc, self.scale, self.delta = loc, scale, delta
        tails = 2 / delta * np.exp(-0.5 * delta**2)
        self.z = np.sqrt(2 * np.pi) * special.erf(delta / np.sqrt(2)) + tails

    def logpdf(self, x):
        z = np.abs(np.asarray(x) - self.loc) / self.scale
        r = np.minimum(z, self.delta)
        return -r * (z - 0.5 * r) - np.log(self.z * self.scale)

    def logsf(self, x):
        z = (np.asarray(x, float) - self.loc) / self.scale
        d = self.delta
        far = -d * np.maximum(z, d) + 0.5 * d**2 - np.log(d * self.z)
        inside = np.clip(z, -d, d)
        middle = np.sqrt(2 * np.pi) * (special.ndtr(d) - special.ndtr(inside)) / self.z
        edge = np.exp(-0.5 * d**2) / (d * self.z)
        lower = -np.exp(-d * np.maximum(-z, d) + 0.5 * d**2) / (d * self.z)
        return np.where(z >= d, far, np.where(z <= -d, np.log1p(lower), np.log(edge + middle)))

    def logcdf(self, x):
        return self.logsf(2 * self.loc - np.asarray(x))

    def _moment(self, power):
        f = lambda t: (t - self.loc) ** power * np.exp(self.logpdf(t))  # noqa: E731
        d = self.delta * self.scale
        edges = [-np.inf, self.loc - d, self.loc, self.loc + d, np.inf]
        return sum(integrate.quad(f, *pair)[0] for pair in zip(edges, edges[1:], strict=False))

    def mean(self):
        return self.loc

    def var(self):
        return self._moment(2)

    def entropy(self):
        f = lambda t: -self.logpdf(t) * np.exp(self.logpdf(t))  # noqa: E731
        d = self.delta * self.scale
        edges = [-60 * self.scale, -d, 0, d, 60 * self.scale]
        edges = [self.loc + e for e in edges]
        return sum(integrate.quad(f, *pair)[0] for pair in zip(edges, edges[1:], strict=False))


@dataclasses.dataclass(frozen=True)
class Row:
    """A family at asymmetric parameters, SciPy's, and places from one far tail to the other."""

    make: Any
    scipy: Any
    values: tuple
    mode: float
    # SciPy's inverse, where it has none of its own: None.
    inverts: bool = True


ROWS = {
    "Normal": Row(
        lambda: lx.Normal(0.25, 1.5),
        stats.norm(0.25, 1.5),
        (-50.0, -8.0, -1.0, 0.25, 2.0, 9.5, 40.0),
        0.25,
    ),
    "LogNormal": Row(
        lambda: lx.LogNormal(0.5, 0.75),
        stats.lognorm(0.75, scale=np.exp(0.5)),
        (1e-8, 0.0625, 1.5, 4.0, 300.0, 1e7),
        float(np.exp(0.5 - 0.75**2)),
    ),
    "HalfNormal": Row(
        lambda: lx.HalfNormal(2.5),
        stats.halfnorm(scale=2.5),
        (1e-20, 0.03125, 2.0, 12.0, 80.0),
        0.0,
    ),
    "Laplace": Row(
        lambda: lx.Laplace(-1.5, 0.75),
        stats.laplace(-1.5, 0.75),
        (-300.0, -4.0, -1.75, -1.5, -1.0, 5.0, 250.0),
        -1.5,
    ),
    "AsymmetricLaplace": Row(
        lambda: lx.AsymmetricLaplace(-1.5, 0.75, 2.0),
        stats.laplace_asymmetric(2.0, -1.5, 0.75),
        (-300.0, -4.0, -1.75, -1.5, -1.0, 5.0, 200.0),
        -1.5,
    ),
    "Huber": Row(
        lambda: lx.Huber(-1.5, 0.75, 1.25),
        HuberByHand(-1.5, 0.75, 1.25),
        (-300.0, -4.0, -1.75, -1.5, -1.0, 5.0, 200.0),
        -1.5,
        inverts=False,
    ),
    "Logistic": Row(
        lambda: lx.Logistic(3.5, 0.5),
        stats.logistic(3.5, 0.5),
        (-300.0, -4.0, 1.75, 3.5, 4.0, 50.0, 300.0),
        3.5,
    ),
    "Cauchy": Row(
        lambda: lx.Cauchy(3.5, 0.5),
        stats.cauchy(3.5, 0.5),
        (-1e30, -4000.0, 1.75, 3.5, 4.0, 50.0, 1e20),
        3.5,
    ),
    "StudentT": Row(
        lambda: lx.StudentT(2.5, 3.5, 0.5),
        stats.t(2.5, 3.5, 0.5),
        (-1e30, -4000.0, 1.75, 3.5, 4.0, 50.0, 1e20),
        3.5,
    ),
    "Exponential": Row(
        lambda: lx.Exponential(0.25), stats.expon(scale=4.0), (1e-20, 0.5, 2.0, 40.0, 2000.0), 0.0
    ),
    "Gamma": Row(
        lambda: lx.Gamma(3.5, 0.25),
        stats.gamma(3.5, scale=4.0),
        (1e-20, 0.5, 12.0, 60.0, 2000.0),
        10.0,
    ),
    "Beta": Row(
        lambda: lx.Beta(3.5, 1.25),
        stats.beta(3.5, 1.25),
        (1e-20, 0.0625, 0.75, 0.96875, 1 - 2.0**-20),
        2.5 / 2.75,
    ),
    "Uniform": Row(
        lambda: lx.Uniform(-1.5, 2.5), stats.uniform(-1.5, 4.0), (-1.25, 0.0, 0.5, 1.0, 2.25), 0.5
    ),
}
# Exact in float32, the last two counted from 1.
LEVELS = np.array([2.0**-100, 2.0**-20, 0.03125, 0.375, 0.75, 1 - 2.0**-8, 1 - 2.0**-20])


@jax.jit
def everything(dist, x, q):
    """Every method, in one compilation."""
    at_x = ("log_prob", "log_cdf", "log_survival", "cdf", "survival")
    summaries = ("mean", "mode", "variance", "stddev", "entropy")
    return {
        "quantile": dist.quantile(q),
        "log_prob_slope": jax.vmap(jax.grad(dist.log_prob))(x),
        **{method: getattr(dist, method)(x) for method in at_x},
        **{method: getattr(dist, method)() for method in summaries},
    }


@functools.cache
def computed(name):
    x = jnp.asarray(ROWS[name].values, jnp.float32)
    out = everything(ROWS[name].make(), x, jnp.asarray(LEVELS, jnp.float32))
    return {k: np.asarray(v, np.float64) for k, v in out.items()}


def reference(name):
    row = ROWS[name]
    x = np.asarray(np.asarray(row.values, np.float32), np.float64)
    with np.errstate(divide="ignore", over="ignore"):  # inside SciPy, in branches not taken
        low, high = row.scipy.logcdf(x), row.scipy.logsf(x)
    lower = low < high
    with np.errstate(divide="ignore"):
        return {
            "log_prob": row.scipy.logpdf(x),
            "log_cdf": np.where(lower, low, np.log1p(-np.exp(np.minimum(high, -1e-300)))),
            "log_survival": np.where(lower, np.log1p(-np.exp(np.minimum(low, -1e-300))), high),
        }


@pytest.mark.parametrize("name", ROWS)
def test_densities_and_tails(name):
    got, want = computed(name), reference(name)
    for method, truth in want.items():
        assert np.isfinite(truth).all(), (name, method)
        np.testing.assert_allclose(got[method], truth, rtol=3e-6, atol=1e-37, err_msg=method)
    for method, log in (("cdf", "log_cdf"), ("survival", "log_survival")):
        np.testing.assert_allclose(
            got[method], np.exp(want[log]), rtol=1e-4, atol=1e-37, err_msg=method
        )


@pytest.mark.parametrize("name", [name for name in ROWS if name not in ("Uniform", "Beta")])
def test_the_far_tail_is_not_the_complement(name):
    """The control: at the last value 1 - cdf in float32 has nothing left of what log_survival says."""
    got = computed(name)
    left = 1 - np.float32(got["cdf"][-1])
    assert left == 0
    assert -1e6 < got["log_survival"][-1] < -15


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.inverts])
def test_quantiles(name):
    got, row = computed(name)["quantile"], ROWS[name]
    # SciPy's quantiles above 1/2, from the survival, which holds more digits.
    upper = LEVELS > 0.5
    want = np.where(upper, row.scipy.isf(1 - LEVELS), row.scipy.ppf(LEVELS))
    np.testing.assert_allclose(got, want, rtol=5e-6, atol=1e-6)


def test_huber_quantiles_invert_the_cdf():
    """In log space from the nearer tail; the error allowed is the rounding of the quantile."""
    row, x = ROWS["Huber"], computed("Huber")["quantile"]
    tail = np.where(LEVELS > 0.5, row.scipy.logsf(x), row.scipy.logcdf(x))
    want = np.log(np.where(LEVELS > 0.5, 1 - LEVELS, LEVELS))
    np.testing.assert_allclose(tail, want, atol=8e-6)


@pytest.mark.parametrize("name", ROWS)
def test_summaries(name):
    got, row = computed(name), ROWS[name]
    if name == "Cauchy":
        assert np.isnan([got["mean"], got["variance"], got["stddev"]]).all()
    else:
        np.testing.assert_allclose(got["mean"], row.scipy.mean(), rtol=1e-6)
        np.testing.assert_allclose(got["variance"], row.scipy.var(), rtol=3e-6)
        np.testing.assert_allclose(got["stddev"], np.sqrt(row.scipy.var()), rtol=3e-6)
    np.testing.assert_allclose(got["entropy"], row.scipy.entropy(), rtol=3e-6)
    np.testing.assert_allclose(got["mode"], row.mode, rtol=1e-6)


POSITIVE = {"LogNormal", "HalfNormal", "Exponential", "Gamma"}


@pytest.mark.parametrize("name", ROWS)
def test_edges(name):
    """At both ends and beyond them: 0, 1, -inf; NaN stays NaN; q outside [0, 1] has no quantile."""
    dist = ROWS[name].make()
    low, high = {"Beta": (0, 1), "Uniform": (-1.5, 2.5)}.get(
        name, (0 if name in POSITIVE else -np.inf, np.inf)
    )
    # The shapes of the values and levels, whose compilation is there.
    outside = (low - 0.5 if np.isfinite(low) else -np.inf, high + 0.5)
    x = np.resize(np.array([-np.inf, np.inf, np.nan, *outside], np.float32), len(ROWS[name].values))
    q = np.array([0, 1, -0.1, 1.1, np.nan, 0.5, 0.5], np.float32)
    out = everything(dist, jnp.asarray(x), jnp.asarray(q))
    np.testing.assert_array_equal(out["quantile"][:5], [low, high] + 3 * [np.nan])
    np.testing.assert_array_equal(out["cdf"][:5], [0, 1, np.nan, 0, 1])
    np.testing.assert_array_equal(out["log_survival"][:5], [0, -np.inf, np.nan, 0, -np.inf])
    np.testing.assert_array_equal(out["log_prob"][:5], [-np.inf] * 2 + [np.nan] + [-np.inf] * 2)
    if np.isfinite(low):
        np.testing.assert_array_equal(out["log_prob_slope"][3], 0)


# ---- single families ----


def test_log_scale_is_used_as_it_is():
    """No logarithm of an exponential: exact where exp(log_scale) is near the ends of float32."""
    for family in (lx.Normal, lx.Laplace, lx.Logistic, lx.Cauchy):
        for log_scale in (-85.0, 85.0):
            dist = family(1.0, log_scale=log_scale)
            want = family(1.0, 1.0).log_prob(1.0) - log_scale
            np.testing.assert_allclose(dist.log_prob(1.0), want, rtol=1e-7)
            slope = jax.grad(lambda d: d.log_prob(1.0))(dist).log_scale
            assert slope == -1


@pytest.mark.parametrize("family", [lx.Normal, lx.Laplace, lx.Logistic])
def test_narrow_intervals(family):
    """log P(low < X <= low + width): a density times a width when it is far below a rounding."""
    dist, low, width = family(0.5, 2.0), jnp.array([-9.0, 0.25, 11.0]), 2.0**-40
    interval = jax.jit(dist.log_interval_prob)
    log_prob, below, above = jax.jit(
        lambda low: (dist.log_prob(low), dist.cdf(low), dist.cdf(low + width))
    )(low)
    np.testing.assert_allclose(interval(low, width), log_prob + np.log(width), rtol=1e-6)
    # The control: the difference of two cdfs is of two equal numbers.
    assert (above == below).all()
    truth = {lx.Normal: stats.norm, lx.Laplace: stats.laplace, lx.Logistic: stats.logistic}[family]
    lows, widths = np.array([-30.0, -4.0, 0.25, 6.0]), np.array([3.0, 6.5, 0.5, 8.0])
    frozen = truth(0.5, 2.0)
    right = lows > 0.5
    mass = np.where(
        right,
        frozen.sf(lows) - frozen.sf(lows + widths),
        frozen.cdf(lows + widths) - frozen.cdf(lows),
    )
    got = interval(np.float32(lows), np.float32(widths))
    np.testing.assert_allclose(got, np.log(mass), rtol=3e-6)


def test_slope_of_the_absolute_error_at_its_kink():
    """0, the middle of its subgradients, as the docstring says; `jnp.abs` alone has 1."""
    assert jax.grad(lx.Laplace(1.0, 2.0).log_prob)(1.0) == 0
    assert jax.grad(jnp.abs)(0.0) == 1  # the control


def test_from_quantile_is_the_pinball_loss():
    loc, scale, q = 1.5, 2.0, 0.9
    dist = lx.AsymmetricLaplace.from_quantile(loc, scale, q)
    y = jnp.linspace(-5, 9, 15)
    u = (y - loc) / scale
    pinball = jnp.maximum(q * u, (q - 1) * u)
    np.testing.assert_allclose(
        -dist.log_prob(y), pinball + np.log(scale / (q * (1 - q))), rtol=2e-6
    )
    np.testing.assert_allclose(dist.cdf(loc), q, rtol=1e-6)


def test_huber_between_normal_and_laplace():
    x = jnp.array([-3.0, 0.5, 4.0])
    np.testing.assert_allclose(
        lx.Huber(0.25, 1.5, 30.0).log_prob(x), lx.Normal(0.25, 1.5).log_prob(x), rtol=1e-6
    )
    small = 2.0**-12
    np.testing.assert_allclose(
        lx.Huber(0.25, 1.5 * small, small).log_prob(x),
        lx.Laplace(0.25, 1.5).log_prob(x),
        atol=1e-4,
    )
    for delta in (1e-30, 1e30):
        slopes = jax.grad(lambda d: d.log_prob(x).sum())(lx.Huber(0.25, 1.5, delta))
        assert all(np.isfinite(leaf) for leaf in jax.tree.leaves(slopes))


def test_student_t_from_cauchy_to_normal():
    x = jnp.array([-30.0, -0.5, 2.0, 40.0])
    np.testing.assert_allclose(
        lx.StudentT(1.0, 0.25, 1.5).log_prob(x), lx.Cauchy(0.25, 1.5).log_prob(x), rtol=2e-6
    )
    for df in (1e12, 1e30):
        huge, normal = lx.StudentT(df, 0.25, 1.5), lx.Normal(0.25, 1.5)
        np.testing.assert_allclose(huge.log_prob(x), normal.log_prob(x), rtol=2e-6)
        np.testing.assert_allclose(huge.log_survival(x), normal.log_survival(x), rtol=4e-6)


def test_student_t_moments_exist_or_say_so():
    dist = lx.StudentT(jnp.array([0.5, 1.0, 1.5, 2.0, 3.0]), 2.0, 1.5)
    np.testing.assert_array_equal(dist.mean(), [np.nan, np.nan, 2, 2, 2])
    np.testing.assert_allclose(dist.variance(), [np.nan, np.nan, np.inf, np.inf, 6.75], rtol=1e-6)


def test_gamma_and_beta_at_the_ends():
    """At 0 (and 1) the density is its limit, by the shape."""
    dist = lx.Gamma(jnp.array([0.5, 1.0, 1.5]), 2.0)
    np.testing.assert_allclose(dist.log_prob(0.0), [np.inf, np.log(2), -np.inf], rtol=1e-6)
    dist = lx.Beta(jnp.array([0.5, 1.0, 1.5]), 2.0)
    np.testing.assert_allclose(dist.log_prob(0.0), [np.inf, np.log(2), -np.inf], rtol=1e-6)
    np.testing.assert_array_equal(dist.log_prob(1.0), -np.inf)


def test_beta_mode_by_its_shape():
    dist = lx.Beta(jnp.array([3.0, 0.5, 2.0, 1.0, 0.5]), jnp.array([2.0, 2.0, 0.5, 1.0, 0.5]))
    np.testing.assert_allclose(dist.mode(), [2 / 3, 0, 1, 0.5, np.nan], rtol=1e-6)


def test_gamma_samples_have_implicit_gradients():
    """E[d x / d a] = d mean / d a = 1 / rate, to five errors of the average."""
    key = jax.random.key(3)
    draws = lambda a: lx.Gamma(a, 2.0).sample(key, (4000,))  # noqa: E731
    slopes_at = jax.jit(lambda a: jax.jvp(draws, (a,), (1.0,))[1])
    for a in (0.3, 4.5):
        slopes = np.asarray(slopes_at(a))
        error = float(slopes.std()) / np.sqrt(len(slopes))
        assert abs(float(slopes.mean()) - 0.5) < 5 * error < 0.06


def test_tiny_concentrations_draw_no_zero():
    draw = jax.jit(lambda dist: dist.sample(jax.random.key(0), (2000,)))
    draws = np.asarray(draw(lx.Gamma(0.01, 1.0)))
    assert (draws > 0).all() and (draws < 1e-30).any()
    draws = np.asarray(draw(lx.Beta(0.01, 0.01)))
    assert ((draws > 0) & (draws < 1)).all()


def test_delta():
    dist = lx.Delta(jnp.array([1.0, -2.0]))
    np.testing.assert_array_equal(dist.log_prob(1.0), [0, -np.inf])
    np.testing.assert_array_equal(dist.cdf(jnp.array([[0.0], [1.0]])), [[0, 1], [1, 1]])
    np.testing.assert_array_equal(dist.sample(jax.random.key(0), (3,)), [[1, -2]] * 3)
    np.testing.assert_array_equal(dist.quantile(jnp.array([[0.0], [0.5], [2.0]]))[2], [np.nan] * 2)
    np.testing.assert_array_equal(dist.variance(), 0)
    np.testing.assert_array_equal(dist.mode(), [1, -2])
    assert np.isnan(lx.Delta(jnp.nan).log_prob(0.0)) and np.isnan(lx.Delta(0.0).log_prob(jnp.nan))


# ---- von Mises ----

TURNS = [(0.5, 0.0), (0.5, 1.25), (2.75, 4.5), (-3.0, 60.0)]


@pytest.mark.parametrize(("loc", "concentration"), TURNS)
def test_von_mises(loc, concentration):
    dist = lx.VonMises(loc, concentration)
    x = np.array([-3.0, -1.5, 0.25, 1.0, 2.5, 3.0])

    def density(t):
        return np.exp(concentration * (np.cos(t - loc) - 1)) / (
            2 * np.pi * special.i0e(concentration)
        )

    np.testing.assert_allclose(dist.log_prob(x), np.log(density(x)), rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(
        dist.log_prob(x + 2 * np.pi), np.log(density(x)), rtol=4e-6, atol=2e-4
    )
    peak = [loc] if -np.pi < loc < np.pi else None
    mass = [integrate.quad(density, -np.pi, t, points=peak, epsabs=1e-13)[0] for t in x]
    np.testing.assert_allclose(dist.cdf(x), mass, rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(dist.survival(x), 1 - np.array(mass), rtol=2e-5, atol=1e-7)
    levels = np.array([0.03125, 0.375, 0.75, 0.9375])
    inverse = np.asarray(dist.quantile(levels), np.float64)
    back = [integrate.quad(density, -np.pi, t, points=peak, epsabs=1e-13)[0] for t in inverse]
    np.testing.assert_allclose(back, levels, atol=3e-6)
    ratio = special.i1e(concentration) / special.i0e(concentration)
    np.testing.assert_allclose(dist.variance(), 1 - ratio, rtol=3e-6)
    entropy = -np.log(density(loc)) + concentration * (1 - ratio)
    np.testing.assert_allclose(dist.entropy(), entropy, rtol=3e-6)


def test_von_mises_of_huge_concentration_is_a_normal():
    """Where a cosine has no digits left: k (cos d - 1) loses all of a deviation of 1e-4."""
    k, d = 1e8, np.float32(2e-4)
    dist = lx.VonMises(0.0, k)
    np.testing.assert_allclose(dist.log_prob(d), stats.norm(0, 1e-4).logpdf(float(d)), rtol=3e-6)
    plain = jnp.float32(k) * (jnp.cos(d) - 1)
    assert abs(plain - -2.0) > 0.1  # the control
    draws = dist.sample(jax.random.key(0), (4000,))
    np.testing.assert_allclose(draws.std(), 1e-4, rtol=0.06)
    assert (jnp.abs(draws) < 6e-4).all()


def test_von_mises_samples_and_their_gradients():
    """E[cos(x - loc)] = A(k) and its slope A'(k) = 1 - A/k - A^2, to five errors."""
    key, loc, k = jax.random.key(5), 2.75, 1.5
    draws = lambda k: jnp.cos(lx.VonMises(loc, k).sample(key, (8000,)) - loc)  # noqa: E731
    values, slopes = map(np.asarray, jax.jit(lambda k: jax.jvp(draws, (k,), (1.0,)))(k))
    ratio = special.i1(k) / special.i0(k)
    for got, want in ((values, ratio), (slopes, 1 - ratio / k - ratio**2)):
        assert abs(float(got.mean()) - want) < 5 * float(got.std()) / np.sqrt(len(got)) < 0.06


def test_slopes_at_joints_are_those_of_both_sides():
    """At a joint `maximum` and `clip` give the mean of two slopes, one of which belongs elsewhere."""
    asymmetric = lx.AsymmetricLaplace(1.3, 3.0, 0.5)

    def kl(loc):
        return lx.AsymmetricLaplace(loc, 1.0, 2.0).kl_divergence(asymmetric)

    def tail(loc, delta):
        return lx.Huber(loc, 1.0, delta).log_cdf(-1.0)

    with jax.enable_x64(True):
        near = jax.jit(jax.vmap(jax.grad(kl)))(1.3 + np.array([-1e-6, 0.0, 1e-6]))
        np.testing.assert_allclose(near[1], 0.5 * (near[0] + near[2]), rtol=1e-9)
        own = lx.AsymmetricLaplace(1.3, 1.0, 2.0)
        to_own = lambda t: lx.AsymmetricLaplace(t, 1.0, 2.0).kl_divergence(own)  # noqa: E731
        curve = jax.jit(jax.hessian(to_own))(1.3)
        np.testing.assert_allclose(curve, 1.0, rtol=1e-9)  # the Fisher information
        steps = 1e-6 * np.array([[-1, 0], [1, 0], [0, -1], [0, 1], [0, 0]])
        slopes = jax.jit(jax.vmap(jax.grad(tail, (0, 1))))(steps[:, 0], 1.0 + steps[:, 1])
        np.testing.assert_allclose(slopes[0][4], np.mean(slopes[0][:2]), rtol=1e-6)
        np.testing.assert_allclose(slopes[1][4], np.mean(slopes[1][2:4]), rtol=1e-6)


def test_a_laplace_bin_far_from_its_place_has_a_slope():
    def log_prob(loc, scale, value):
        return lx.Quantized(lx.Laplace(loc, scale), 0, 255, 256).log_prob(value)

    for value, want in ((200.0, 1.0), (2.0, -1.0), (255.0, 1.0), (0.0, -1.0)):
        loc, scale = jax.grad(log_prob, (0, 1))(100.0, 1.0, value)
        np.testing.assert_allclose(loc, want, rtol=1e-6)
        assert 90 < scale < 160


@pytest.mark.parametrize(
    "make",
    [
        lambda s: lx.StudentT(3.0, 0.0, s),
        lambda s: lx.Huber(0.0, s, 1.0),
        lambda s: lx.Cauchy(0.0, s),
    ],
)
def test_at_infinity_nothing_has_a_slope(make):
    ends = jnp.array([-jnp.inf, jnp.inf])
    log_cdf = jax.vmap(jax.value_and_grad(lambda s, x: make(s).log_cdf(x)), (None, 0))
    value, slope = jax.jit(log_cdf)(1.5, ends)
    np.testing.assert_array_equal(value, [-np.inf, 0])
    np.testing.assert_array_equal(slope, 0)


def test_tails_of_a_very_asymmetric_laplace():
    a = np.float32([1e-4, 2e-4, 1e-3, 1.0])
    below = 2 * np.log(a.astype(np.float64)) - np.log1p(a.astype(np.float64) ** 2)
    np.testing.assert_allclose(lx.AsymmetricLaplace(0.0, 1.0, a).log_cdf(0.0), below, rtol=1e-6)
    mirrored = lx.AsymmetricLaplace(0.0, 1.0, 1 / a).log_survival(-1e-30)
    np.testing.assert_allclose(mirrored, below, rtol=1e-6)
    slope = jax.vmap(jax.grad(lambda a: lx.AsymmetricLaplace(0.0, 1.0, a).log_survival(-0.5)))
    assert np.isfinite(slope(jnp.exp(jnp.array([-30.0, -3.0, 30.0])))).all()


def test_beta_upper_tail_near_zero():
    a, b = np.float32([0.01, 0.05, 0.01]), np.float32([3.0, 1.0, 0.01])
    x = np.float32([1.77e-31, 1e-12, 1e-20])
    want = stats.beta(a.astype(float), b.astype(float)).logsf(x.astype(float))
    np.testing.assert_allclose(lx.Beta(a, b).log_survival(x), want, rtol=1e-6)
    assert (np.abs(np.log(1 - lx.Beta(a, b).cdf(x)) - want) < 1e-5).all()


def test_quantiles_beyond_the_largest_float_are_infinite():
    """P(Z > z) ~ c z^-df: with df = 1/2 the quantile of 1e-30 is 3e59."""
    dist = lx.StudentT(np.float32(0.5), 1.0, 3.0)
    np.testing.assert_array_equal(dist.quantile(np.float32([1e-30, 1e-20])), -np.inf)
    q = np.float32([1e-18, 1e-3, 0.9])
    want = stats.t(0.5, 1.0, 3.0).ppf(q.astype(float))
    np.testing.assert_allclose(dist.quantile(q), want, rtol=2e-5)


def von_mises_log_cdf(loc, k, x):
    """By quadrature in pieces short enough for exp(k cos t), the density over its largest value."""

    def density(t):
        return mp.exp(k * (mp.cos(t - loc) - 1))

    count = int(20 + k / 4)
    points = [-mp.pi + (x + mp.pi) * i / count for i in range(count + 1)]
    return mp.log(mp.quad(density, points)) + k - mp.log(2 * mp.pi * mp.besseli(0, k))


@pytest.mark.parametrize(
    ("loc", "concentration", "value"),
    [(-6.0, 148.0, -3.0), (0.7, 3.0, -2.0), (2.5, 40.0, 0.0), (1.0, 20.0, 1.5), (-3.0, 5.0, 3.0)],
)
def test_von_mises_tails_below_the_smallest_float(loc, concentration, value):
    args = [np.float32(v) for v in (loc, concentration, value)]
    want = float(von_mises_log_cdf(*(mp.mpf(float(v)) for v in args)))
    got = lx.VonMises(*args[:2]).log_cdf(args[2])
    # Of a mass near 1 a few roundings of 1 are lost, of a small one a few of its logarithm.
    bound = {"rtol": 3e-6, "atol": 8 * np.finfo(np.float32).eps}
    np.testing.assert_allclose(got, want, **bound)
    # Turned around loc, the other tail.
    mirrored = lx.VonMises(-args[0], args[1]).log_survival(-args[2])
    np.testing.assert_allclose(mirrored, want, **bound)

    def log_cdf(loc, k, x):
        return lx.VonMises(loc, k).log_cdf(x)

    with jax.enable_x64(True):
        at = tuple(jnp.float64(v) for v in args)
        slopes = jax.jit(jax.grad(log_cdf, (0, 1, 2)))(*at)
        for i, slope in enumerate(slopes):
            up, down = (
                log_cdf(*(v + s * 1e-5 * (j == i) for j, v in enumerate(at))) for s in (1, -1)
            )
            np.testing.assert_allclose(slope, (up - down) / 2e-5, rtol=1e-6, atol=1e-9)


AT_LOC = {
    "Normal": lambda l: (lx.Normal(0.0, log_scale=l), 0.0),
    "HalfNormal": lambda l: (lx.HalfNormal(log_scale=l), 0.0),
    "LogNormal": lambda l: (lx.LogNormal(0.0, log_scale=l), 1.0),
    "Laplace": lambda l: (lx.Laplace(0.0, log_scale=l), 0.0),
    "Logistic": lambda l: (lx.Logistic(0.0, log_scale=l), 0.0),
    "Gumbel": lambda l: (lx.Gumbel(0.0, log_scale=l), 0.0),
    "Cauchy": lambda l: (lx.Cauchy(0.0, log_scale=l), 0.0),
    "StudentT": lambda l: (lx.StudentT(3.0, 0.0, log_scale=l), 0.0),
    "Huber": lambda l: (lx.Huber(0.0, log_scale=l, delta=1.0), 0.0),
    "SkewNormal": lambda l: (lx.SkewNormal(0.0, log_scale=l, skewness=2.0), 0.0),
    "AsymmetricLaplace": lambda l: (lx.AsymmetricLaplace(0.0, log_scale=l, asymmetry=2.0), 0.0),
    "Diag": lambda l: (lx.MultivariateNormalDiag(jnp.zeros(1), log_scale=l[None]), jnp.zeros(1)),
}


@pytest.mark.parametrize("name", AT_LOC)
def test_scales_beyond_the_floats(name):
    """At loc the scale does not count but for -log scale; its float is 0 below -88, infinite above 88."""

    def log_prob(log_scale):
        dist, at = AT_LOC[name](log_scale)
        return jax.value_and_grad(lambda dist: dist.log_prob(at))(dist)

    log_scales = jnp.array([0.0, -88.0, -100.0, -1000.0, 95.0])
    value, slope = jax.vmap(log_prob)(log_scales)
    np.testing.assert_allclose(value - value[0], -log_scales, rtol=1e-6)
    np.testing.assert_allclose(slope.log_scale.ravel(), -1)
    assert not any(jnp.isnan(leaf).any() for leaf in jax.tree.leaves(slope))
    assert jnp.isnan(0.0 / jnp.exp(log_scales[2]))  # the control


def test_distances_of_scales_beyond_the_floats():
    """A Cauchy is not flat there: values near one another are some scales apart."""
    log_scale = np.float32([-85, -90, -100, -120, 85, 95])
    gap = np.float32([1e-30, 1e-36, 1e-37, 1e-37, 1e38, 1e38])
    z = gap.astype(float) / np.exp(log_scale.astype(float))
    np.testing.assert_allclose(
        lx.Cauchy(0.0, log_scale=log_scale).log_prob(gap),
        -np.log1p(z**2) - np.log(np.pi) - log_scale,
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        lx.Laplace(0.0, log_scale=log_scale).log_prob(gap), -z - np.log(2) - log_scale, rtol=2e-5
    )


def cauchy_logs(x, log_scale, df=None):
    z = x / mp.exp(log_scale)
    return -mp.log1p(z * z) - mp.log(mp.pi) - log_scale, mp.log(mp.atan(1 / z) / mp.pi)


def half_cauchy_logs(x, log_scale, df=None):
    return tuple(log + mp.log(2) for log in cauchy_logs(x, log_scale))


def student_t_logs(x, log_scale, df):
    w = (x / mp.exp(log_scale)) ** 2 / df
    normalizer = mp.loggamma((df + 1) / 2) - mp.loggamma(df / 2) - mp.log(mp.pi * df) / 2
    tail = mp.betainc(df / 2, 0.5, 0, 1 / (1 + w), regularized=True) / 2
    return normalizer - (df + 1) / 2 * mp.log1p(w) - log_scale, mp.log(tail)


FAR = {
    "Cauchy": (lambda l, df: lx.Cauchy(0.0, log_scale=l), cauchy_logs),
    "HalfCauchy": (lambda l, df: lx.HalfCauchy(log_scale=l), half_cauchy_logs),
    "StudentT": (lambda l, df: lx.StudentT(df, 0.0, log_scale=l), student_t_logs),
}


@pytest.mark.parametrize("name", FAR)
def test_power_laws_at_scales_beyond_the_floats(name):
    """z, too, is then no float, but density and tail are powers of it; and near exp(-88) before."""
    make, exact = FAR[name]

    def logs(x, log_scale, df):
        dist = make(log_scale, df)
        return jnp.stack([dist.log_prob(x), dist.log_survival(x)])

    points = [(1.0, -87.0, 3.0), (1.0, -88.0, 0.7), (3e-20, -100.0, 31.0), (2e25, -150.0, 2.5)]
    points += [(7e-30, -300.0, 1e4), (1e30, -20.0, 5.0), (2.5, -85.0, 1e-3)]
    points = np.float32(points)
    got, slopes = jax.vmap(lambda *at: (logs(*at), jax.jacrev(logs, (0, 1, 2))(*at)))(*points.T)
    with mp.workdps(60):
        for i, at in enumerate(points.tolist()):
            at = [mp.mpf(a) for a in at]
            for k in range(2):
                np.testing.assert_allclose(got[i, k], float(exact(*at)[k]), rtol=2e-6)
                for j in range(3 if name == "StudentT" else 2):
                    along = lambda a: exact(*at[:j], a, *at[j + 1 :])[k]  # noqa: B023, E731
                    want = mp.diff(along, at[j], h=at[j] * mp.mpf(10) ** -20)
                    # (df + 1) - 1 of a density with a small df cancels, as it does for any scale.
                    np.testing.assert_allclose(slopes[j][i, k], float(want), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", FAR)
@pytest.mark.parametrize("log_scale", [-46.0, -100.0])
def test_second_derivatives_of_power_laws_far_out(name, log_scale):
    """Of -(df + 1) log x + df log_scale, where the square of the scale is no float."""
    df = 3.0 if name == "StudentT" else 1.0
    log_prob = lambda x, log_scale: FAR[name][0](log_scale, df).log_prob(x)  # noqa: E731
    got = jax.jit(jax.hessian(log_prob, (0, 1)))(2.0, log_scale)
    np.testing.assert_allclose(got, [[(df + 1) / 4, 0], [0, 0]], rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("df", [np.inf, 1e38])
def test_student_t_of_endless_degrees_of_freedom_is_the_normal(df):
    """Also where df/z + z, and of an infinite df z^2, is no float."""
    z = np.float32([-3e38, -3e19, -1e10, -2.5, 0.0, 1.0, 40.0, 7e18, 1e25])
    z = z if df == np.inf else z[np.abs(z) < 1e11]
    names = "log_prob", "log_survival", "log_cdf"

    def both(make, loc, scale):
        dist = make(loc, scale)
        logs = lambda loc, x: jnp.stack([getattr(make(loc, scale), n)(x) for n in names])  # noqa: E731
        slopes = jax.vmap(jax.jacrev(logs, (0, 1)), (None, 0))(loc, z)
        scale_slope = jax.vmap(jax.grad(lambda s, x: make(loc, s).log_prob(x)), (None, 0))(scale, z)
        return [logs(loc, z), *slopes, scale_slope, dist.quantile(0.1), dist.entropy()]

    student = lambda loc, scale: lx.StudentT(df, loc, scale)  # noqa: E731
    for got, want in zip(both(student, 0.0, 1.0), both(lx.Normal, 0.0, 1.0), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)
    in_df = jax.vmap(jax.grad(lambda df, x: lx.StudentT(df, 0.0, 1.0).log_prob(x)), (None, 0))(
        df, z
    )
    np.testing.assert_allclose(in_df, 0, atol=1e-20)
    far = -0.5 * df * (200 - np.log(df)) if df == 1e36 else -np.inf
    np.testing.assert_allclose(lx.StudentT(df, 0.0, log_scale=-100.0).log_prob(1.0), far, rtol=1e-6)
    draws = lx.StudentT(df, 1.0, 2.0).sample(jax.random.key(0), (2000,))
    normal = stats.kstest((np.asarray(draws) - 1) / 2, "norm")
    assert normal.pvalue > 1e-4


def test_kl_at_scales_beyond_the_floats():
    """An infinite divergence has no NaN in its slopes; that of two Cauchys is never that large."""

    def kl(p, q, family):
        return lx.kl_divergence(family(p[0], log_scale=p[1]), family(q[0], log_scale=q[1]))

    both = jax.jit(jax.value_and_grad(kl, (0, 1)), static_argnums=2)
    for p, q in [
        ((0.0, 5.0), (0.0, 0.0)),
        ((0.0, 100.0), (0.0, -100.0)),
        ((5.0, 0.0), (3.0, -90.0)),
        ((-5.0, 0.0), (3.0, -90.0)),
    ]:
        value, slopes = both(p, q, lx.Gumbel)
        assert value == jnp.inf
        assert not np.isnan(slopes).any()
    at = (0.0, 100.0), (3.0, -100.0)
    value, slopes = both(*at, lx.Cauchy)
    np.testing.assert_allclose(value, 200 - 2 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose([s[1] for s in slopes], [1, -1], rtol=1e-6)
    at = (5.0, -100.0), (3.0, -90.0)  # log(gap^2 / (4 s_p s_q))
    value, slopes = both(*at, lx.Cauchy)
    np.testing.assert_allclose(value, 190.0, rtol=1e-6)
    np.testing.assert_allclose(np.array(slopes), [[1, -1], [-1, -1]], rtol=1e-6)


@jax.jit
def slope_and_its_slope(df, z):
    """Of log_survival in df: one program for all points."""
    tail = lambda df: lx.StudentT(df, 0.0, 1.0).log_survival(z)  # noqa: E731
    return jax.jvp(jax.grad(tail), (df,), (jnp.ones_like(df),))


@pytest.mark.slow
@pytest.mark.parametrize("df, z", [(1.0, 1.0), (49.0, 7.0), (3.0, 0.8), (30.0, -2.0)])
def test_second_derivatives_of_the_tails_of_student_t_in_df(df, z):
    """The first two where z^2 = df, at which the logits of the incomplete beta change sign."""

    def exact(df):
        total = df + mp.mpf(z) ** 2
        outer = mp.betainc(df / 2, 0.5, 0, df / total, regularized=True) / 2
        return mp.log(outer if z > 0 else 1 - outer)

    with jax.enable_x64(True):
        got = slope_and_its_slope(jnp.array(df), jnp.array(z))
    with mp.workdps(30):
        want = [float(mp.diff(exact, mp.mpf(df), n)) for n in (1, 2)]
    np.testing.assert_allclose(got, want, rtol=1e-7)


@pytest.mark.slow
def test_derivatives_of_the_tails_of_student_t_are_numbers_everywhere():
    """Where the square of z / sqrt(df) is no float, too, and in reverse mode twice."""
    z = np.float32([0.0, 1e-30, 1e-3, 1.0, 1e10, 1e25])

    @jax.jit
    @jax.vmap
    def both(z):
        tail = lambda df, z: lx.StudentT(df, 0.0, 1.0).log_survival(z)  # noqa: E731
        return jax.grad(tail, (0, 1))(3.0, z), jax.grad(jax.grad(tail))(3.0, z)

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(both(z)))


@jax.jit
def mixed_slopes(df, scale, z):
    """The Hessian of log_cdf in df and loc: one program for all points."""

    def log_cdf(df, loc):
        return lx.StudentT(df, loc, scale).log_cdf(scale * z)

    return jax.hessian(log_cdf, (0, 1))(df, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("z", [0.0, 1.0, -5.0])
def test_mixed_derivatives_of_the_tails_of_student_t(z):
    """In df and loc, either first: the region about loc has a formula in the square of z."""
    df, scale = 3.0, 1.25
    (_, first), (second, _) = mixed_slopes(df, scale, z)

    def hazard(df):
        return np.exp(stats.t.logpdf(z, df) - stats.t.logcdf(z, df)) / scale

    want = -(hazard(df + 1e-4) - hazard(df - 1e-4)) / 2e-4
    np.testing.assert_allclose([first, second], want, rtol=2e-6)
    assert abs(want) > 0.005  # the control: it is not the 0 of the square's slope


def test_tails_of_a_student_t_that_is_a_normal_whose_squares_are_no_floats():
    def tails(x, s):
        dist = lx.StudentT(np.inf, 0.0, s)
        return dist.log_cdf(x), dist.log_survival(x), dist.cdf(x)

    x = np.float32([-1e20, 1e20, -1e35, 1e35])
    below, above, mass = jax.jit(jax.vmap(tails))(x, np.float32([1e-30, 1e-30, 1, 1]))
    np.testing.assert_array_equal(below, [-np.inf, 0, -np.inf, 0])
    np.testing.assert_array_equal(above, [0, -np.inf, 0, -np.inf])
    np.testing.assert_array_equal(mass, [0, 1, 0, 1])
