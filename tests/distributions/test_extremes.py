"""Extremes and power laws: quantiles and summaries against SciPy.

Densities and tails are held to the contract (tests/test_contract.py), to second derivatives in
tests/numerics/test_powers.py.
"""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy import integrate, special, stats

import likelax as lx

SUMMARIES = {
    "Gumbel": (lx.Gumbel(0.25, 1.5), stats.gumbel_r(0.25, 1.5), 0.25),
    "Weibull-falling": (lx.Weibull(0.75, 2.5), stats.weibull_min(0.75, scale=2.5), 0.0),
    "Weibull": (
        lx.Weibull(3.0, 2.5),
        stats.weibull_min(3.0, scale=2.5),
        2.5 * (2 / 3) ** (1 / 3),
    ),
    "Pareto": (lx.Pareto(3.5, 0.5), stats.pareto(3.5, scale=0.5), 0.5),
    "LogLogistic": (lx.LogLogistic(2.5, 0.5), stats.fisk(2.5, scale=0.5), 0.5 * (3 / 7) ** 0.4),
    "LogLogistic-steep": (lx.LogLogistic(9.0, 0.5), stats.fisk(9, scale=0.5), 0.5 * 0.8 ** (1 / 9)),
    "HalfCauchy": (lx.HalfCauchy(0.5), stats.halfcauchy(scale=0.5), 0.0),
    "InverseGamma": (lx.InverseGamma(3.5, 0.5), stats.invgamma(3.5, scale=0.5), 0.5 / 4.5),
}


@pytest.mark.parametrize("name", SUMMARIES)
def test_summaries_and_quantiles(name):
    dist, scipy, mode = SUMMARIES[name]
    # Exact in float32.
    q = np.array([2.0**-100, 2.0**-20, 0.375, 0.75, 1 - 2.0**-20])
    want = np.where(q > 0.5, scipy.isf(1 - q), scipy.ppf(q))
    got = dist.quantile(jnp.asarray(q, jnp.float32))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-37)
    np.testing.assert_allclose(dist.mode(), mode, rtol=1e-6)
    np.testing.assert_allclose(dist.entropy(), scipy.entropy(), rtol=1e-5)
    np.testing.assert_allclose(dist.mean(), scipy.mean(), rtol=2e-6)
    np.testing.assert_allclose(dist.stddev(), scipy.std(), rtol=3e-6)
    np.testing.assert_allclose(dist.variance(), scipy.var(), rtol=3e-6)


def test_kumaraswamy_summaries():
    """By the substitution u = x^a: the moments are Beta functions; with b = 1 a power law."""
    a, b = 2.5, 1.75
    dist = lx.Kumaraswamy(a, b)
    first, second = (b * special.beta(1 + n / a, b) for n in (1, 2))
    q = np.float32([1e-20, 0.375, 0.875])
    mean, variance, mode, quantile, entropy = jax.jit(
        lambda dist: (dist.mean(), dist.variance(), dist.mode(), dist.quantile(q), dist.entropy())
    )(dist)
    np.testing.assert_allclose(mean, first, rtol=2e-6)
    np.testing.assert_allclose(variance, second - first**2, rtol=1e-5)
    np.testing.assert_allclose(mode, (1.5 / (a * b - 1)) ** (1 / a), rtol=1e-6)
    np.testing.assert_allclose(
        quantile, (-np.expm1(np.log1p(-q.astype(float)) / b)) ** 0.4, rtol=2e-6
    )

    def term(x):
        density = a * b * x ** (a - 1) * (1 - x**a) ** (b - 1)
        return -density * np.log(density) if density else 0.0

    np.testing.assert_allclose(entropy, integrate.quad(term, 0, 1)[0], rtol=1e-5)
    ends = lx.Kumaraswamy(jnp.array([0.5, 1.0, 1.5]), jnp.array([1.5, 2.0, 1.0]))
    np.testing.assert_allclose(ends.log_prob(0.0), [np.inf, np.log(2), -np.inf], rtol=1e-6)
    np.testing.assert_allclose(ends.log_prob(1.0), [-np.inf, -np.inf, np.log(1.5)], rtol=1e-6)


def test_spreads_of_steep_ones():
    """A difference of two moments near 1 would be 0."""
    k = 1e6
    np.testing.assert_allclose(lx.Weibull(k, 2.0).stddev(), 2 * np.pi / np.sqrt(6) / k, rtol=1e-5)
    np.testing.assert_allclose(lx.LogLogistic(k, 2.0).stddev(), 2 * np.pi / 3**0.5 / k, rtol=1e-5)
    assert np.float32(1 + 2e-6) - np.float32(1 + 1e-6) ** 2 != np.float32(1e-12)  # the control


def test_moments_that_are_infinite():
    a = jnp.array([0.5, 1.0, 2.0])
    for family in (lx.Pareto, lx.LogLogistic, lx.InverseGamma):
        assert np.isinf(family(a, 1.0).mean()).tolist() == [True, True, False]
        assert np.isinf(family(a, 1.0).variance()).all()


def test_densities_at_zero_are_their_limits():
    for family in (lx.Weibull, lx.LogLogistic):
        dist = family(jnp.array([0.5, 1.0, 1.5]), 4.0)
        np.testing.assert_allclose(dist.log_prob(0.0), [np.inf, -np.log(4), -np.inf], rtol=1e-6)


def test_kl_of_paretos():
    """Infinite where the other one has no density; else the integral, by hand."""
    p, q = lx.Pareto(3.5, 2.0), lx.Pareto(1.25, 1.5)
    want = np.log(3.5 / 1.25) + 1.25 * np.log(2 / 1.5) + 1.25 / 3.5 - 1
    np.testing.assert_allclose(p.kl_divergence(q), want, rtol=2e-6)
    assert q.kl_divergence(p) == np.inf and p.kl_divergence(p) == 0


@pytest.mark.parametrize("family", [lx.Gumbel, lx.Weibull], ids=lambda family: family.__name__)
def test_heads_of_exponents(family):
    """A head that has gone astray may predict a density below the smallest float here."""
    head = lx.Head(family)

    def loss(raw):
        return -head(raw).log_prob(0.7)

    values, slopes = jax.vmap(jax.value_and_grad(loss))(jnp.array([[0.0, 0.0], [2.0, -1.0]]))
    assert np.isfinite(values).all() and np.isfinite(slopes).all() and abs(values[0]) < 3


@pytest.mark.parametrize(
    "name",
    ["Gumbel", "Weibull", "Pareto", "LogLogistic", "HalfCauchy", "InverseGamma", "Kumaraswamy"],
)
def test_both_precisions(name):
    """Parameters in bfloat16 are exact numbers; in float64 the densities have its digits."""
    family = getattr(lx, name)
    numbers = (0.75,) if name == "HalfCauchy" else (1.75, 0.75)
    exact = {
        "Gumbel": stats.gumbel_r(1.75, 0.75),
        "Weibull": stats.weibull_min(1.75, scale=0.75),
        "Pareto": stats.pareto(1.75, scale=0.75),
        "LogLogistic": stats.fisk(1.75, scale=0.75),
        "HalfCauchy": stats.halfcauchy(scale=0.75),
        "InverseGamma": stats.invgamma(1.75, scale=0.75),
        "Kumaraswamy": None,
    }[name]
    at = 0.25 if name == "Kumaraswamy" else 2.5
    if name == "Kumaraswamy":  # SciPy has none
        want = np.log(1.75 * 0.75 * at**0.75) - 0.25 * np.log1p(-(at**1.75))
    else:
        want = exact.logpdf(at)
    half = family(*(jnp.bfloat16(v) for v in numbers)).log_prob(at)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, want, rtol=1e-6)
    with jax.enable_x64(True):
        double = family(*(jnp.float64(v) for v in numbers)).log_prob(jnp.float64(at))
        np.testing.assert_allclose(double, want, rtol=1e-14)


# (concentration1, concentration0): coefficients of variation from 1e-9 to 10.
NARROW = [(1e8, 2.0), (2.0, 1e-6), (40.0, 1e9), (0.75, 3.0), (0.25, 50.0), (3e3, 1e-3)]


def test_the_spread_of_a_narrow_kumaraswamy():
    a, b = np.asarray(NARROW, np.float32).T
    want = []
    with mp.workdps(60):
        for p, q in zip(a.tolist(), b.tolist(), strict=True):
            first, second = (q * mp.beta(1 + k / mp.mpf(p), q) for k in (1, 2))
            want.append([float(first), float(second - first**2)])
    mean, variance = np.array(want).T
    dist = lx.Kumaraswamy(a, b)
    eps = float(np.finfo(np.float32).eps)
    got = jax.jit(lambda dist: (dist.mean(), dist.variance()))(dist)
    np.testing.assert_allclose(got[0], mean, rtol=32 * eps)
    np.testing.assert_allclose(got[1], variance, rtol=64 * eps)
    # The control: the difference of the moments.
    beta = jax.jit(jax.scipy.special.beta)(1 + 2 / a, b)
    plain = b * np.asarray(beta) - mean.astype(np.float32) ** 2
    assert (np.abs(plain - variance) > 0.01 * variance).sum() >= 3


@pytest.mark.parametrize(
    ("make", "method", "x"),
    [
        (lx.Gumbel, "cdf", [-1000.0, -3.0]),
        (lambda m, k: lx.Weibull(50 * k, m + 1), "survival", [1e3, 1.0]),
    ],
    ids=["Gumbel", "Weibull"],
)
def test_a_tail_whose_logarithm_overflows_has_slopes_of_0(make, method, x):
    tail = jax.value_and_grad(lambda m, s, x: getattr(make(m, s), method)(x), (0, 1, 2))
    value, slopes = jax.jit(jax.vmap(tail, (None, None, 0)))(0.0, 1.0, np.float32(x))
    assert value[0] == 0
    np.testing.assert_allclose(
        value[1], np.exp(-np.exp(3)) if method == "cdf" else np.exp(-1), rtol=1e-5
    )
    np.testing.assert_array_equal(np.stack(slopes)[:, 0], 0)
    assert np.isfinite(slopes).all()
