"""Poisson, Binomial, Geometric and the negative binomials against mpmath and SciPy."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import scipy.special as sp
import scipy.stats as st

import likelax as lx
from likelax.distributions.counts import (
    Binomial,
    Geometric,
    NegativeBinomial,
    NegativeBinomial2,
    Poisson,
)
from likelax.testing.subject import quick_jit

mp.mp.dps = 50


EPS = float(np.finfo(np.float32).eps)


def f32(values) -> np.ndarray:
    return np.asarray(values, np.float32)


def exact(*columns):
    """Rows of mpmath numbers: the float32 values that likelax gets, to every digit."""
    return zip(*[[mp.mpf(float(v)) for v in f32(column)] for column in columns], strict=True)


def poisson(k, rate):
    return (k * mp.log(rate) if k else mp.mpf(0)) - rate - mp.loggamma(k + 1)


def binomial(k, n, p):
    return mp.log(mp.binomial(n, k)) + k * mp.log(p) + (n - k) * mp.log1p(-p)


def negative_binomial(k, r, p):
    lead = mp.loggamma(k + r) - mp.loggamma(r) - mp.loggamma(k + 1)
    return lead + k * mp.log(p) + r * mp.log1p(-p)


def sigmoid(x):
    return 1 / (1 + mp.exp(-x))


@quick_jit
def log_prob(dist, k):
    return dist.log_prob(k)


@quick_jit
def moments(dist):
    return dist.mean(), dist.variance()


def slope_of(f, x):
    return float(mp.diff(f, x))


# ---- log_prob: values, gradients, edges ----

RATES = [1e7, 1e7, 3.7, 3.7, 0.02, 250.0, 5e5, 1e-20, 1.0]
COUNTS = [1e7, 9_990_000, 0, 9, 3, 300, 500_123, 1, 0]


def test_poisson_where_lgammas_would_cancel():
    truth = [poisson(k, rate) for k, rate in exact(COUNTS, RATES)]
    got = log_prob(Poisson(f32(RATES)), f32(COUNTS))
    np.testing.assert_allclose(got, f32([float(t) for t in truth]), rtol=1e-6)
    assert abs(got[0] - -8.977986) < 2e-6
    k, rate = jnp.float32(COUNTS[0]), jnp.float32(RATES[0])
    plain = k * jnp.log(rate) - rate - jax.lax.lgamma(k + 1)
    assert abs(plain - got[0]) > 1  # the control: nats lost
    slope = quick_jit(jax.grad(lambda rate: Poisson(rate).log_prob(f32(COUNTS)).sum()))(f32(RATES))
    truth = [float(k / rate - 1) for k, rate in exact(COUNTS, RATES)]
    np.testing.assert_allclose(slope, truth, rtol=1e-6)


LOG_RATES = [-150.0, -85.0, -80.0, -3.0, 0.0, 2.5, 13.0]


def test_poisson_log_rate_is_used_as_it_is():
    counts = [2, 0, 5, 4, 0, 11, 442_000]
    truth = [float(k * l - mp.exp(l) - mp.loggamma(k + 1)) for k, l in exact(counts, LOG_RATES)]
    log_prob = lambda l: Poisson(log_rate=l).log_prob(f32(counts))  # noqa: E731
    # 442000 is half a standard deviation off, which multiplies the rounding of exp.
    np.testing.assert_allclose(log_prob(f32(LOG_RATES)), truth, rtol=1e-5, atol=1e-30)
    slope = quick_jit(jax.grad(lambda l: log_prob(l).sum()))(f32(LOG_RATES))
    truth = [float(k - mp.exp(l)) for k, l in exact(counts, LOG_RATES)]
    np.testing.assert_allclose(slope, truth, rtol=2e-4, atol=1e-30)
    through_rate = Poisson(jnp.exp(f32(LOG_RATES[:1]))).log_prob(2)
    assert np.isinf(through_rate)  # the control: the rate itself underflows


def test_poisson_rate_zero():
    for dist in (Poisson(0.0), Poisson(log_rate=-jnp.inf)):
        np.testing.assert_array_equal(dist.log_prob(jnp.array([0, 1, 5])), [0, -np.inf, -np.inf])
        assert dist.sample(jax.random.key(0), (3,)).tolist() == [0, 0, 0]
        assert dist.mean() == dist.variance() == dist.mode() == 0
        assert dist.survival(0) == 0
    for k in (0, 2):
        assert np.isfinite(jax.grad(lambda rate, k=k: Poisson(rate).log_prob(k))(0.0))
        assert np.isfinite(jax.grad(lambda l, k=k: Poisson(log_rate=l).log_prob(k))(-jnp.inf))


TRIALS = [1, 5, 20, 1e6, 1e7, 100, 100, 3]
SUCCESSES = [1, 0, 7, 12, 5e6 + 100, 100, 0, 1]
LOGITS = [0.0, 0.0, 1.3, -11.5, 0.0, 20.0, -20.0, 50.0]


def test_binomial_log_prob_and_gradient():
    rows = list(exact(SUCCESSES, TRIALS, LOGITS))
    truth = [float(binomial(k, n, sigmoid(l))) for k, n, l in rows]
    log_prob = lambda l: Binomial(f32(TRIALS), logits=l).log_prob(f32(SUCCESSES))  # noqa: E731
    np.testing.assert_allclose(log_prob(f32(LOGITS)), truth, rtol=3e-6)
    slope = quick_jit(jax.grad(lambda l: log_prob(l).sum()))(f32(LOGITS))
    truth = [float(k - n * sigmoid(l)) for k, n, l in rows]
    np.testing.assert_allclose(slope, truth, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_binomial_at_certain_probs_and_no_trials():
    k = jnp.array([[0], [1], [3]])
    dist = Binomial(3, probs=jnp.array([0.0, 1.0]))
    np.testing.assert_array_equal(
        dist.log_prob(k), [[0, -np.inf], [-np.inf, -np.inf], [-np.inf, 0]]
    )
    slope = quick_jit(jax.jacrev(lambda p: Binomial(3, probs=p).log_prob(k)))(jnp.array([0.0, 1.0]))
    assert np.isfinite(slope).all()
    assert dist.sample(jax.random.key(0), (4,)).tolist() == [[0, 3]] * 4
    none = Binomial(0, logits=0.3)
    np.testing.assert_array_equal(none.log_prob(jnp.array([0, 1])), [0, -np.inf])
    assert none.cdf(0) == 1
    assert np.isfinite(quick_jit(jax.grad(lambda l: Binomial(0, logits=l).log_cdf(0)))(0.3))
    assert none.sample(jax.random.key(0)) == none.mode() == none.quantile(0.5) == 0


def test_geometric_counts_failures():
    logits, k = [0.0, -8.0, 3.0, 40.0, -40.0, 0.5], [0, 4000, 5, 0, 3, 12]
    rows = list(exact(k, logits))
    truth = [float(mp.log(sigmoid(l)) + k * mp.log(sigmoid(-l))) for k, l in rows]
    log_prob = lambda l: Geometric(logits=l).log_prob(f32(k))  # noqa: E731
    np.testing.assert_allclose(log_prob(f32(logits)), truth, rtol=1e-6)
    slope = quick_jit(jax.grad(lambda l: log_prob(l).sum()))(f32(logits))
    truth = [float(sigmoid(-l) - k * sigmoid(l)) for k, l in rows]
    np.testing.assert_allclose(slope, truth, rtol=1e-5)
    probs = np.array([0.2, 0.7])
    np.testing.assert_allclose(
        Geometric(probs=probs).log_prob(4), st.geom(probs, loc=-1).logpmf(4), rtol=1e-6
    )
    certain = Geometric(probs=jnp.array([1.0, 0.0]))
    np.testing.assert_array_equal(
        certain.log_prob(jnp.array([[0], [2]])), [[0, -np.inf], [-np.inf] * 2]
    )
    assert np.isfinite(
        jax.jacrev(lambda p: Geometric(probs=p).log_prob(2))(jnp.array([1.0, 0.0]))
    ).all()
    np.testing.assert_array_equal(
        Geometric(logits=jnp.inf).log_prob(jnp.array([0, 1])), [0, -np.inf]
    )


SIZES = [2.5, 1e6, 1e-3, 1e8, 0.7, 40.0, 3.0]
MEANS = [4.0, 20.0, 0.5, 3.0, 1e5, 40.0, 1e-3]
NB_COUNTS = [7, 25, 2, 4, 31_000, 0, 1]


def test_negative_binomial_log_prob_and_gradients():
    logits = f32(np.log(np.array(MEANS) / np.array(SIZES)))
    rows = list(exact(NB_COUNTS, SIZES, logits))
    truth = [float(negative_binomial(k, r, sigmoid(l))) for k, r, l in rows]

    def log_prob(r, l):
        return NegativeBinomial(r, logits=l).log_prob(f32(NB_COUNTS))

    np.testing.assert_allclose(log_prob(f32(SIZES), logits), truth, rtol=3e-6)
    d_r, d_l = quick_jit(jax.grad(lambda r, l: log_prob(r, l).sum(), (0, 1)))(f32(SIZES), logits)
    truth = [float(k * sigmoid(-l) - r * sigmoid(l)) for k, r, l in rows]
    np.testing.assert_allclose(d_l, truth, rtol=1e-5, atol=1e-6)
    truth = [float(mp.digamma(k + r) - mp.digamma(r) + mp.log(sigmoid(-l))) for k, r, l in rows]
    np.testing.assert_allclose(d_r, truth, rtol=1e-4, atol=1e-9)


def test_negative_binomial_probs_zero():
    dist = NegativeBinomial(2.5, probs=0.0)
    np.testing.assert_array_equal(dist.log_prob(jnp.array([0, 3])), [0, -np.inf])
    for k in (0, 3):
        slope = quick_jit(jax.grad(lambda p, k=k: NegativeBinomial(2.5, probs=p).log_prob(k)))(0.0)
        assert np.isfinite(slope)


def test_from_mean_holds_its_digits_down_to_the_poisson():
    mean, dispersion = [4.0, 20.0, 1e4, 3.0, 5.0, 300.0], [0.4, 1e-6, 2.0, 1e-8, 1e-12, 1e-4]
    k = [7, 25, 31_000, 4, 9, 320]
    rows = list(exact(k, mean, dispersion))
    truth = [float(negative_binomial(k, 1 / d, m / (m + 1 / d))) for k, m, d in rows]

    def log_prob(m, d):
        return NegativeBinomial.from_mean(m, d).log_prob(f32(k))

    np.testing.assert_allclose(log_prob(f32(mean), f32(dispersion)), truth, rtol=1e-6)
    d_m, d_d = quick_jit(jax.grad(lambda m, d: log_prob(m, d).sum(), (0, 1)))(
        f32(mean), f32(dispersion)
    )
    np.testing.assert_allclose(
        d_m, [float((k - m) / (m * (1 + d * m))) for k, m, d in rows], rtol=1e-5
    )
    truth = [
        float((mp.digamma(1 / d) - mp.digamma(k + 1 / d) + mp.log1p(d * m)) / d**2
              + (k - m) / (d * (1 + d * m)))
        for k, m, d in rows
    ]  # fmt: skip
    # In the last two the slope is a limit, ((k - m)^2 - k)/2, of differences 1e-12 and 1e-4 wide.
    # In the second, ((k - m)^2 - k)/2 itself is 12.5 - 12.5.
    np.testing.assert_allclose(d_d[:3], truth[:3], rtol=1e-4, atol=4 * EPS * 12.5)
    np.testing.assert_allclose(
        log_prob(f32(5.0), f32(1e-12))[4], st.poisson(5).logpmf(9), rtol=1e-6
    )
    # The control: by way of total_count and logits the rounding of a logarithm of -22 is multiplied
    # by k - m.
    k, m, d = f32([420.0, 300.0, 1e-12])
    (row,) = exact([k], [m], [d])
    truth = float(negative_binomial(row[0], 1 / row[2], row[1] / (row[1] + 1 / row[2])))
    around = NegativeBinomial(1 / d, logits=jnp.log(m) + jnp.log(d)).log_prob(k)
    direct = NegativeBinomial.from_mean(m, d).log_prob(k)
    assert abs(direct - truth) < 3e-6 < 1e-5 < abs(around - truth)


@pytest.mark.parametrize(
    ("make", "first"),
    [
        (Poisson, 1.0),
        pytest.param(
            lambda rate: NegativeBinomial2(rate, dispersion=0.7), 1.0, marks=pytest.mark.slow
        ),
        (lambda rate: NegativeBinomial2(rate, dispersion=0.0), 1.0),
        pytest.param(lambda p: NegativeBinomial(2.5, probs=p), 2.5, marks=pytest.mark.slow),
    ],
)
def test_tails_of_nothing_have_slopes(make, first):
    """P(X = 0) falls from 1 with the rate, by `first`; of more than 1 the probability is of the second order."""

    def slopes(k):
        return [
            float(jax.grad(lambda rate, m=m: getattr(make(rate), m)(k))(0.0))
            for m in ("cdf", "log_cdf", "survival", "log_survival")
        ]

    np.testing.assert_allclose(slopes(0.0), [-first, -first, first, 0], rtol=1e-6)
    np.testing.assert_array_equal(slopes(3.0), 0)
    np.testing.assert_array_equal(make(0.0).survival(jnp.arange(3)), 0)
    bend = jax.vmap(jax.grad(jax.grad(lambda rate, k: Poisson(rate).survival(k))))
    rates, k = f32([0, 1e-38, 1e-20, 0, 1e-38, 1e-20]), f32([0, 0, 0, 3, 3, 3])
    np.testing.assert_allclose(bend(rates, k), [-1, -1, -1, 0, 0, 0], rtol=1e-6)


@pytest.mark.slow
def test_without_dispersion_it_is_the_poisson():
    rate, k = f32([0.3, 4.0, 31.0, 1e-30]), f32([0, 3, 40, 2])
    # log(rate dispersion) is about -69 there, with a rounding of 4e-6: by log_rate tails keep but that.
    for make, rtol in (
        (lambda d: NegativeBinomial2(rate, dispersion=d), 3e-6),
        (lambda d: NegativeBinomial2(log_rate=jnp.log(rate), dispersion=d), 1e-4),
    ):
        key, limit = jax.random.key(3), make(1e-12)
        draws = make(0.0).sample(key, (200,))
        np.testing.assert_array_equal(draws, limit.sample(key, (200,)))
        np.testing.assert_allclose(draws.mean(0)[:3], rate[:3], rtol=0.25)
        for method in ("log_prob", "log_cdf", "log_survival", "quantile"):
            at = 0.3 if method == "quantile" else k
            want = getattr(Poisson(rate), method)(at)
            np.testing.assert_allclose(getattr(make(0.0), method)(at), want, rtol=rtol)
    assert NegativeBinomial2(0.0, dispersion=0.0).sample(jax.random.key(0)) == 0
    assert NegativeBinomial2(4.0, dispersion=-1.0).sample(jax.random.key(0)) == -1  # the control
    assert np.isnan(NegativeBinomial2(4.0, dispersion=-1.0).cdf(3))


@pytest.mark.parametrize("dispersion", [0.0, 1e-40, 1e-12, 1e-8, 1e-6])
def test_slopes_of_tails_in_the_dispersion_next_to_the_poisson(dispersion):
    """rate/2 (rate - k) p(k) of the lower one, to the first order: half the second slope in the rate, times its
    square."""
    for k, rate in ((3.0, 4.0), (0.0, 0.2), (9.0, 4.0)):
        rise = 0.5 * rate * (rate - k) * st.poisson(rate).pmf(k)

        def tails(d, rate=rate, k=k):
            dist = NegativeBinomial2(f32(rate), dispersion=d)
            return jnp.stack([dist.cdf(k), dist.log_cdf(k), dist.log_survival(k)])

        got = jax.jacrev(tails)(f32(dispersion))
        lower, upper = st.poisson(rate).cdf(k), st.poisson(rate).sf(k)
        np.testing.assert_allclose(got, [rise, rise / lower, -rise / upper], rtol=2e-4)


@pytest.mark.parametrize("by", ["rate", "log_rate"])
def test_next_to_the_poisson_it_bends_with_the_dispersion(by):
    """In both modes; by P(X = k) = rate^k / k! (1 + d) ... (1 + (k - 1) d) / (1 + d rate)^(k + 1 / d)."""
    rows = [(0, 1.0), (3, 2.0), (7, 0.5), (100, 120.0)]
    dispersions = [0.0, 1e-12, 1e-8, 1e-6, 1e-3]
    k, rate, d = np.array([(k, m, d) for k, m in rows for d in dispersions], np.float32).T

    def log_prob(k, rate, d):
        given = {"rate": rate} if by == "rate" else {"log_rate": jnp.log(rate)}
        return NegativeBinomial2(**given, dispersion=d).log_prob(k)

    def exact(k, m, d):
        rises = mp.fsum(mp.log1p(j * d) for j in range(int(k)))
        return rises - (k + 1 / d) * mp.log1p(m * d)

    with mp.workdps(60):
        points = [[mp.mpf(float(c)) for c in row] for row in zip(k, rate, d, strict=True)]
        want = [
            mp.diff(
                lambda d, k=k, m=m: exact(k, m, d), d or mp.mpf(10) ** -20, 2, h=mp.mpf("1e-25")
            )
            for k, m, d in points
        ]
    # At 0 itself by the series, to which the differences have to come.
    k0, m0 = 3, 2
    assert abs(want[5] - (k0 * m0**2 - 2 * m0**3 / 3 - (k0 - 1) * k0 * (2 * k0 - 1) / 6)) < 1e-12
    for bend in (jax.grad(jax.grad(log_prob, 2), 2), jax.jacfwd(jax.jacfwd(log_prob, 2), 2)):
        got = quick_jit(jax.vmap(bend))(k, rate, d)
        np.testing.assert_allclose(got, np.array(want, float), rtol=2e-3)
    # The cube of a count is beyond the floats there: infinite at most.
    for far in ((8e17, 1e17), (1e17, 8e17), (4e17, 4e17)):
        slopes = [jax.grad(log_prob, 2)(*far, 0.0), jax.jacfwd(jax.grad(log_prob, 2), 2)(*far, 0.0)]
        assert not np.isnan(slopes).any()


def test_the_mean_form_of_a_head():
    dist = NegativeBinomial2(log_rate=jnp.array([1.2, -150.0]), dispersion=0.5)
    assert dist.given("log_rate")
    # e^-150 is below float32.
    np.testing.assert_allclose(dist.mean(), [np.exp(1.2), 0.0], rtol=1e-6)
    truth = float(negative_binomial(mp.mpf(3), mp.mpf(2), 1 / (1 + 2 / mp.exp(mp.mpf(-150)))))
    np.testing.assert_allclose(dist.log_prob(3)[1], truth, rtol=1e-6)
    mean = NegativeBinomial.from_mean(3.0, 0.5)
    assert mean.mean() == 3
    np.testing.assert_allclose(mean.variance(), 3 + 0.5 * 9)


def test_outside_the_support():
    bad = jnp.array([-1.0, 0.5, jnp.inf, jnp.nan])
    for make in (
        Poisson,
        lambda x: Geometric(logits=x),
        lambda x: NegativeBinomial(2.0, logits=x),
        lambda x: NegativeBinomial2(x, 0.5),
    ):
        value = log_prob(make(0.7), bad)
        np.testing.assert_array_equal(value[jnp.array([0, 1, 3])], [-np.inf, -np.inf, np.nan])
        slope = quick_jit(jax.grad(lambda x, make=make: make(x).log_prob(bad[:2]).sum()))(0.7)
        assert slope == 0
    assert Binomial(4, logits=0.0).log_prob(5) == -np.inf


# ---- sums over the support, moments, tails, quantiles ----

CASES = {
    "Poisson": (lambda: Poisson(5.3), st.poisson(5.3)),
    "Poisson large": (lambda: Poisson(1e5), st.poisson(1e5)),
    "Binomial": (lambda: Binomial(20, probs=0.3), st.binom(20, 0.3)),
    "Binomial rare": (lambda: Binomial(1e6, probs=1e-5), st.binom(10**6, 1e-5)),
    "Binomial likely": (lambda: Binomial(50, logits=2.0), st.binom(50, sp.expit(2.0))),
    "Geometric": (lambda: Geometric(probs=0.2), st.geom(float(np.float32(0.2)), loc=-1)),
    "Geometric logits": (lambda: Geometric(logits=-4.0), st.geom(sp.expit(-4.0), loc=-1)),
    "NegativeBinomial": (lambda: NegativeBinomial(3.5, probs=0.6), st.nbinom(3.5, 0.4)),
    "NegativeBinomial2": (lambda: NegativeBinomial2(5.0, 0.25), st.nbinom(4, 4 / 9)),
    "NegativeBinomial2 Poisson": (lambda: NegativeBinomial2(5.0, 1e-8), st.poisson(5)),
}


@quick_jit
def everything(dist, k, q):
    """The methods over values and levels, in one compilation."""
    names = ("log_prob", "log_cdf", "log_survival", "cdf")
    methods = {name: getattr(dist, name)(k) for name in names}
    return methods | {"quantile": dist.quantile(q), "mode": dist.mode()}


@pytest.mark.parametrize("name", CASES)
def test_moments_and_tails(name):
    make, ref = CASES[name]
    dist = make()
    mean, variance = moments(dist)
    np.testing.assert_allclose(mean, ref.mean(), rtol=1e-6)
    np.testing.assert_allclose(variance, ref.var(), rtol=1e-6)
    # Both ends of the tails, 24 points.
    k = np.unique(np.round(ref.ppf(np.r_[1e-9, np.linspace(0.001, 0.999, 20), 1 - 1e-9])))
    k = np.resize(k, 24)
    q = np.resize(f32([1e-6, 0.03, 0.2, 0.5, 0.77, 0.999, 1 - 1e-5]), 24)
    out = everything(dist, f32(k), q)
    np.testing.assert_allclose(out["log_prob"], ref.logpmf(k), rtol=2e-6, atol=2e-6)
    for name, log_tail, other in (
        ("log_cdf", ref.logcdf(k), ref.logsf(k)),
        ("log_survival", ref.logsf(k), ref.logcdf(k)),
    ):
        # 3e-6 of itself, or, as log1p(-exp(other)), what 3e-6 of the other tail's leaves.
        passed_on = np.exp(np.minimum(other - log_tail, 700)) * np.abs(np.maximum(other, -700))
        got = np.asarray(out[name], float)
        error = np.abs(np.where(got == log_tail, 0, got) - np.where(got == log_tail, 0, log_tail))
        assert np.all(error <= 3e-6 * (np.abs(log_tail) + passed_on) + 1e-9), (name, error)
    assert ref.logpmf(out["mode"]) >= out["log_prob"].max() - 1e-5
    assert out["mode"].dtype == jnp.int32
    np.testing.assert_array_equal(out["quantile"], ref.ppf(q.astype(float)))
    if ref.std() < 100:  # where cdf distinguishes neighbours, quantile undoes it
        middle = np.resize(k[(ref.cdf(k) < 0.999)], 24)
        below = everything(dist, f32(middle), q)["cdf"]
        np.testing.assert_array_equal(everything(dist, f32(middle), below)["quantile"], middle)


@pytest.mark.parametrize("name", ["Binomial", "Poisson", "NegativeBinomial", "Geometric"])
def test_probabilities_sum_to_one(name):
    dist = CASES[name][0]()
    k = jnp.arange(21 if name == "Binomial" else 200)
    np.testing.assert_allclose(np.exp(log_prob(dist, k)).sum(), 1, rtol=2e-6)


def test_quantile_ends():
    q = jnp.array([0.0, 1.0, -0.1, jnp.nan])
    quantile = quick_jit(lambda dist: dist.quantile(q))
    np.testing.assert_array_equal(quantile(Poisson(3.0)), [0, np.inf, np.nan, np.nan])
    np.testing.assert_array_equal(quantile(Binomial(5, logits=0.0)), [0, 5, np.nan, np.nan])


def test_geometric_quantile_agrees_with_its_cdf_at_every_step():
    dist, k = Geometric(probs=f32([[0.01], [0.1], [0.5], [0.9]])), f32(np.arange(40))
    cdf = dist.cdf(k)
    reached = np.asarray(dist.cdf(dist.quantile(jnp.minimum(cdf, 0.999999)))) >= np.minimum(
        cdf, 0.999999
    )
    assert reached.all()
    kept = np.asarray(cdf) < 0.99
    np.testing.assert_array_equal(
        np.asarray(dist.quantile(cdf))[kept], np.broadcast_to(k, cdf.shape)[kept]
    )


def test_gradients_of_the_tails():
    k = mp.mpf(9)
    log_survival = lambda r: Poisson(r).log_survival(9)  # noqa: E731
    truth = slope_of(lambda r: mp.log(mp.gammainc(k + 1, 0, r, regularized=True)), mp.mpf(3.5))
    np.testing.assert_allclose(quick_jit(jax.grad(log_survival))(3.5), truth, rtol=1e-5)
    slope = quick_jit(jax.grad(lambda l: Binomial(12, logits=l).log_cdf(4)))
    # At logits = 0, where p and 1 - p change places.
    for l in (0.0, 1.3):
        truth = slope_of(
            lambda l: mp.log(mp.betainc(8, 5, 0, sigmoid(-l), regularized=True)), mp.mpf(l)
        )
        np.testing.assert_allclose(slope(l), truth, rtol=1e-5)


def test_geometric_entropy():
    p = np.array([0.2, 0.9, 1.0])
    entropy = Geometric(probs=p).entropy()
    truth = [*st.geom(p[:2]).entropy(), 0.0]  # SciPy warns at p = 1
    np.testing.assert_allclose(entropy, truth, rtol=1e-5, atol=1e-6)
    # -log p + 1 in the limit.
    np.testing.assert_allclose(Geometric(logits=-120.0).entropy(), 121, rtol=1e-6)
    with pytest.raises(
        NotImplementedError, match="DirichletMultinomial.entropy has no closed form"
    ):
        lx.DirichletMultinomial(3, jnp.array([2.0, 0.5])).entropy()


# ---- KL ----

PAIRS = {
    "Poisson": (Poisson(4.0), Poisson(2.5)),
    "Binomial": (Binomial(9, probs=0.3), Binomial(9, probs=0.6)),
    "Geometric": (Geometric(probs=0.3), Geometric(logits=1.0)),
    "NegativeBinomial": (NegativeBinomial(2.5, probs=0.4), NegativeBinomial(2.5, logits=0.3)),
    "NegativeBinomial2": (NegativeBinomial2(4.0, 0.5), NegativeBinomial2(2.0, 0.5)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_kl_against_the_sum(name):
    p, q = PAIRS[name]
    k = jnp.arange(10 if name == "Binomial" else 250)
    log_p, log_q = np.asarray(log_prob(p, k), float), np.asarray(log_prob(q, k), float)
    truth = np.sum(np.exp(log_p) * (log_p - log_q))
    np.testing.assert_allclose(p.kl_divergence(q), truth, rtol=1e-5)
    assert p.kl_divergence(p) == 0


def test_kl_edges():
    assert Poisson(0.0).kl_divergence(Poisson(3.0)) == 3
    assert Poisson(3.0).kl_divergence(Poisson(0.0)) == np.inf
    assert Binomial(4, probs=0.0).kl_divergence(Binomial(4, probs=0.5)) == np.float32(4 * np.log(2))
    assert np.isnan(Binomial(4, probs=0.5).kl_divergence(Binomial(5, probs=0.5)))
    assert np.isnan(
        NegativeBinomial(4.0, probs=0.5).kl_divergence(NegativeBinomial(5.0, probs=0.5))
    )


# ---- samples ----


def binned_p(samples, ref, bins: int) -> float:
    """Chi-squared p-value over about `bins` groups of equal probability."""
    edges = np.unique(ref.ppf(np.linspace(0, 1, bins + 1)[1:-1]))
    probs = np.diff(np.r_[0, ref.cdf(edges), 1])
    kept = probs * len(samples) > 5
    observed = np.bincount(np.searchsorted(edges, samples), minlength=len(probs))
    rest = [observed[~kept].sum()], [probs[~kept].sum() * len(samples)]
    if rest[1][0] > 5:
        return st.chisquare(
            np.r_[observed[kept], rest[0]], np.r_[probs[kept] * len(samples), rest[1]]
        ).pvalue
    expected = probs[kept] / probs[kept].sum() * observed[kept].sum()
    return st.chisquare(observed[kept], expected).pvalue


N = 40_000
# One sampler call a family: the cases are its batch.
SAMPLED = {
    "Poisson": (
        Poisson(f32([0.3, 5.3, 9.99, 10.0, 37.0, 1e5, 1e7])),
        [st.poisson(r) for r in (0.3, 5.3, 9.99, 10, 37, 1e5, 1e7)],
    ),
    "Binomial": (
        Binomial(f32([3, 20, 50, 100, 1e6, 1e8]), probs=f32([0.5, 0.3, 0.9, 0.5, 2**-14, 2**-20])),
        [
            st.binom(n, p)
            for n, p in (
                (3, 0.5),
                (20, 0.3),
                (50, 0.9),
                (100, 0.5),
                (10**6, 2**-14),
                (10**8, 2**-20),
            )
        ],
    ),
    "Geometric": (
        Geometric(probs=f32([0.02, 0.5, 0.97])),
        [st.geom(p, loc=-1) for p in (0.02, 0.5, 0.97)],
    ),
    "NegativeBinomial": (
        NegativeBinomial(f32([0.3, 3.5, 60.0]), probs=f32([0.9, 0.6, 0.3])),
        [st.nbinom(r, 1 - p) for r, p in ((0.3, 0.9), (3.5, 0.6), (60, 0.3))],
    ),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_samples_by_chi_squared(name):
    dist, refs = SAMPLED[name]
    samples = np.asarray(
        quick_jit(lambda dist, key: dist.sample(key, (N,)))(dist, jax.random.key(11))
    )
    assert samples.dtype == np.int32
    assert samples.shape == (N, len(refs))
    p_values = [binned_p(samples[:, i], ref, 30) for i, ref in enumerate(refs)]
    assert min(p_values) > 1e-4, p_values
    # The control: the same test sees a shift by a twentieth of a standard deviation.
    shifted = samples[:, -2] + (np.arange(N) % 20 == 0) * np.ceil(refs[-2].std())
    assert binned_p(shifted, refs[-2], 30) < 1e-4


def test_a_uniform_number_of_zero_is_no_count_below_zero(monkeypatch):
    """It comes once in 2^23; here once in a hundred."""
    whole = jax.random.uniform

    def often_zero(*args, **kwargs):
        u = whole(*args, **kwargs)
        return jnp.where(u < 0.01, 0.0, u)

    monkeypatch.setattr(jax.random, "uniform", often_zero)
    key = jax.random.key(0)
    assert Poisson(f32([3.0, 20.0, 1e4])).sample(key, (1000,)).min(0)[2] > 9000
    assert Poisson(20.0).sample(key, (1000,)).min() >= 0
    assert Binomial(100.0, probs=0.3).sample(key, (1000,)).min() >= 0


def mp_upper(k, r, p):
    """log P(X > k) of a negative binomial, by its complement."""
    return mp.log(1 - sum(mp.exp(negative_binomial(mp.mpf(i), r, p)) for i in range(int(k) + 1)))


@pytest.mark.slow
@pytest.mark.parametrize("upper", [False, True])
def test_second_derivatives_of_tails_at_logits_of_zero(upper):
    """Where a side is chosen by the sign of the logits."""
    method = "log_survival" if upper else "log_cdf"

    def tail(r, logits):
        return getattr(NegativeBinomial(r, logits=logits), method)(2.0)

    def exact(r, logits):
        p = 1 / (1 + mp.exp(-logits))
        out = mp_upper(2, r, p)
        return out if upper else mp.log(1 - mp.exp(out))

    with jax.enable_x64(True):
        got = np.asarray(quick_jit(jax.hessian(tail, (0, 1)))(jnp.array(0.5), jnp.array(0.0)))
    with mp.workdps(30):
        point = mp.mpf(0.5), mp.mpf(0)
        want = [
            [float(mp.diff(exact, point, order)) for order in row]
            for row in (((2, 0), (1, 1)), ((1, 1), (0, 2)))
        ]
    np.testing.assert_allclose(got, want, rtol=1e-8)


@pytest.mark.slow
def test_tails_of_odds_beyond_the_floats():
    # 1 - I falls as exp(-r logits).
    dist = NegativeBinomial(f32([0.01]), logits=f32([200.0]))
    with mp.workdps(120):
        want = mp_upper(5, mp.mpf(float(f32(0.01))), 1 / (1 + mp.exp(-200)))
        lower = mp.log(1 - mp.exp(want))
    np.testing.assert_allclose(dist.log_survival(5.0), float(want), rtol=1e-5)
    np.testing.assert_allclose(dist.log_cdf(5.0), float(lower), rtol=1e-5)
    # A dispersion of nothing, or nearly: the Poisson, for a small rate too.
    for rate, k in ((10.0, 12.0), (1e-5, 0.0)):
        for dispersion in (0.0, 1e-38, 1e-32):
            near = NegativeBinomial2(rate, dispersion=dispersion)
            for method in ("log_cdf", "log_survival"):
                want = getattr(Poisson(rate), method)(k)
                np.testing.assert_allclose(getattr(near, method)(k), want, rtol=2e-6, atol=1e-9)
    unknown = NegativeBinomial(jnp.nan, logits=f32([-jnp.inf, 0.0, jnp.inf]))
    assert np.isnan(unknown.log_cdf(1.0)).all() and np.isnan(unknown.log_survival(1.0)).all()


def test_draws_at_the_ends_of_the_parameters_end():
    """A subnormal concentration is one of 0, at which nothing happens; an endless number of trials has no count."""
    key = jax.random.key(0)
    for none in (NegativeBinomial(1e-38, logits=0.0), NegativeBinomial2(3.0, 1e38)):
        assert none.sample(key, (2,)).tolist() == [0, 0]
    assert NegativeBinomial(-1.0, logits=0.0).sample(key) == -1  # as of NaN
    assert Binomial(jnp.inf, probs=0.3).sample(key) == np.iinfo(np.int32).max


def test_every_kind_of_key_samples_counts():
    for key in (jax.random.PRNGKey(0), jax.random.key(0, impl="rbg")):
        draws = quick_jit(lambda r, key: Poisson(r).sample(key, (500,)))(f32([3.0, 300.0]), key)
        assert np.abs(np.asarray(draws.mean(0)) - [3, 300]).max() < 4


def test_samples_that_do_not_fit_are_the_largest_integer():
    top = np.iinfo(np.int32).max
    assert Poisson(1e12).sample(jax.random.key(0)) == top
    assert Poisson(jnp.inf).sample(jax.random.key(0)) == top
    assert Geometric(logits=-60.0).sample(jax.random.key(0)) == top
    assert Poisson(jnp.nan).sample(jax.random.key(0)) == -1


def test_construction_inside_vmap_and_grad_by_the_distribution():
    rates = jnp.array([0.5, 4.0, 20.0])
    inside = jax.vmap(lambda r: NegativeBinomial2(r, jnp.array([0.1, 2.0])).log_prob(3))(rates)
    outside = NegativeBinomial2(rates[:, None], jnp.array([0.1, 2.0])).log_prob(3)
    np.testing.assert_allclose(inside, outside, rtol=1e-6)
    slope = jax.grad(lambda dist: dist.log_prob(3.0))(Binomial(5.0, logits=0.2))
    np.testing.assert_allclose(slope.logits, 3 - 5 * sp.expit(0.2), rtol=1e-5)
    with jax.enable_x64(True):
        wide = Poisson(jnp.array(1e7)).log_prob(jnp.array(10**7))
        assert wide.dtype == jnp.float64
        np.testing.assert_allclose(wide, float(poisson(mp.mpf(10**7), mp.mpf(10**7))), rtol=1e-13)


def test_rates_beyond_the_largest_float():
    """NB2 at a mean m far above r = 1/dispersion: (k) log p ~ -r log m, whatever m is."""
    k, r = mp.mpf(3), mp.mpf(2)
    odds = mp.exp(100) / r
    want = float(negative_binomial(k, r, odds / (1 + odds)))
    dist = NegativeBinomial2(log_rate=100.0, dispersion=0.5)
    np.testing.assert_allclose(dist.log_prob(3.0), want, rtol=1e-6)
    slope = jax.grad(lambda s: NegativeBinomial2(log_rate=s, dispersion=0.5).log_prob(3.0))(100.0)
    np.testing.assert_allclose(slope, -2.0, rtol=1e-6)
    assert Poisson(log_rate=100.0).log_prob(3.0) == -np.inf


@pytest.mark.parametrize(
    "dist",
    [Poisson(3.0), Binomial(9.0, logits=0.3), NegativeBinomial(2.0, logits=0.3)],
    ids=lambda dist: type(dist).__name__,
)
def test_counts_are_drawn_with_one_call_of_the_generator(dist, monkeypatch):
    """Each is compiled anew, which takes a third of a second."""
    calls, whole = [], jax.random.uniform

    def counted(*args, **kwargs):
        calls.append(args)
        return whole(*args, **kwargs)

    monkeypatch.setattr(jax.random, "uniform", counted)
    jax.eval_shape(lambda key: dist.sample(key, (7,)), jax.random.key(0))
    assert len(calls) == 1


def test_counts_of_parameters_that_are_not_known():
    """Beside others, which must not wait for them."""
    r, logits = f32([jnp.nan, 2.0, 2.0, 2.0]), f32([0.0, jnp.nan, 0.0, 200.0])
    draws = quick_jit(lambda key: NegativeBinomial(r, logits=logits).sample(key, (50,)))(
        jax.random.key(0)
    )
    assert (draws[:, :2] == -1).all()
    assert (draws[:, 2] >= 0).all() and draws[:, 2].max() < 50
    assert (draws[:, 3] == np.iinfo(np.int32).max).all()
    assert Binomial(jnp.nan, probs=0.5).sample(jax.random.key(0)) == -1
    assert Binomial(9.0, probs=jnp.nan).sample(jax.random.key(0)) == -1


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tails_of_a_rate_next_to_the_smallest_float(dtype):
    """P(X > k) is rate^(k + 1) / (k + 1)!, whatever is below the floats on the way; both ways of the rate."""
    tiny = np.finfo(dtype).tiny
    rates = np.array([0.5, 0.99, 1, 1.01, 2, 10, 1e8, 1e20], dtype)[:, None] * tiny
    counts = np.arange(5, dtype=dtype)
    logs = np.log(np.maximum(rates, tiny).astype(np.float64))
    orders = counts + 1
    log_upper = orders * logs - sp.gammaln(orders + 1)
    normal = np.broadcast_to(rates >= tiny, log_upper.shape)  # a compiler may take the others for 0

    def everything(make, x, k):
        """Value, slopes of both modes and curvature of each tail, one by one: a slope may overflow."""
        out = []
        for name in ("log_survival", "log_cdf", "cdf", "survival"):

            def tail(x, name=name):
                return getattr(make(x), name)(k)

            first = jax.jacfwd(tail)
            out.append((tail(x), first(x), jax.grad(tail)(x), jax.jacfwd(first)(x)))
        return [jnp.stack(parts) for parts in zip(*out, strict=True)]

    makes = Poisson, lambda log_rate: Poisson(log_rate=log_rate)
    with jax.enable_x64(dtype is np.float64):
        x, l, k = np.broadcast_arrays(rates, logs.astype(dtype), counts)
        run = jax.jit(
            lambda *at: [
                jax.vmap(lambda x, k, make=make: everything(make, x, k))(x.ravel(), at[2].ravel())
                for make, x in zip(makes, at, strict=False)
            ]
        )
        out = jax.tree.map(lambda part: np.asarray(part).T.reshape(4, *k.shape), run(x, l, k))
    eps = np.finfo(dtype).eps
    for values, slopes, back, curves in out:
        assert not any(np.isnan(part).any() for part in (values, slopes, back, curves))
        np.testing.assert_allclose(values[0][normal], log_upper[normal], rtol=8 * eps)
        np.testing.assert_allclose(values[2], 1, rtol=eps)
        np.testing.assert_allclose(values[3], np.exp(log_upper), rtol=1e3 * eps, atol=2 * tiny)
        np.testing.assert_array_equal(slopes, back)
    # By the rate P(X > 0) rises from nothing at a slope of 1, and log P(X > k) as (k + 1) log rate.
    np.testing.assert_allclose(out[0][1][3, :, 0], 1, rtol=eps)
    np.testing.assert_allclose(out[1][1][0], np.broadcast_to(orders, k.shape), rtol=8 * eps)


def test_a_negative_binomial_that_never_fails_is_refused():
    """p = 1 is outside its range, as a dispersion of 0 is; in debug_checks both are named."""
    with lx.debug_checks():
        with pytest.raises(ValueError, match=r"probs must be in \[0, 1\); .* it is 1"):
            NegativeBinomial(2.0, probs=1.0)
        assert NegativeBinomial(2.0, probs=0.0).log_prob(0.0) == 0
        assert Binomial(2.0, probs=1.0).log_prob(2.0) == 0


def test_slopes_without_dispersion_by_the_log_rate():
    """In it k - rate, and in the dispersion [(k - rate)^2 - k] / 2."""
    k, log_rate = jnp.arange(4.0), 0.7

    def log_prob(k, log_rate, dispersion):
        return NegativeBinomial2(log_rate=log_rate, dispersion=dispersion).log_prob(k)

    slopes = quick_jit(jax.vmap(jax.grad(log_prob, (1, 2)), (0, None, None)))(k, log_rate, 0.0)
    gap = np.arange(4) - np.exp(log_rate)
    np.testing.assert_allclose(slopes[0], gap, rtol=1e-5)
    np.testing.assert_allclose(slopes[1], 0.5 * (gap**2 - np.arange(4)), rtol=1e-5, atol=1e-6)
