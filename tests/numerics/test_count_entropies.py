"""Entropies of counts against plain sums in mpmath, to second order, and at their limits."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import likelax as lx
from contract import count_entropies as contract
from likelax.numerics import count_entropies
from numerics.reference import check, check_fails, loggamma, run


def plain_sum(log_pmf):
    """-sum p log p over 0, 1, ..., until the terms are nothing."""
    total, k, least = mp.mpf(0), 0, mp.mpf(10) ** -(mp.mp.dps + 2)
    last = mp.inf
    while True:
        log_p = log_pmf(k)
        term = -mp.exp(log_p) * log_p
        total += term
        if term < least * total and term <= last:
            return total
        last, k = term, k + 1


def poisson(m):
    return plain_sum(lambda k: k * mp.log(m) - m - loggamma(k + 1))


def log_odds(logits):
    log_q = -mp.log1p(mp.exp(logits))
    return logits + log_q, log_q


def binomial(n, logits):
    log_p, log_q = log_odds(logits)
    logs = [mp.log(mp.binomial(int(n), k)) + k * log_p + (n - k) * log_q for k in range(int(n) + 1)]
    return -mp.fsum(mp.exp(l) * l for l in logs)


def negative_binomial(r, logits):
    log_p, log_q = log_odds(logits)
    start = loggamma(r)
    return plain_sum(lambda k: loggamma(k + r) - start - loggamma(k + 1) + k * log_p + r * log_q)


RATES = [(1e-6,), (0.3,), (2.5,), (14.0,)]
TRIALS = [(1, -0.5), (2, 0.0), (7, 3.0), (30, -2.0), (60, 0.25)]
WAITS = [(2.5, -1.0), (0.3, 0.5), (1.0, 0.0), (20.0, -2.0), (1e-3, -0.5)]


def test_poisson():
    # The entropy's slope is like -log(m), its curvature like 1/m.
    m = np.array(RATES)[:, 0]
    check(count_entropies.poisson_entropy, poisson, RATES, np.float32, digits=60)
    series = lambda m: 0.5 * jnp.log(2 * np.pi * np.e * m)  # noqa: E731
    check_fails(series, poisson, RATES[1:], np.float32, floors=(1, 1 / m[1:], 1), digits=60)


def test_binomial():
    function, sizes = count_entropies.binomial_logits_entropy, (1, 1, 1)
    check(function, binomial, TRIALS, np.float32, floors=sizes, digits=60, argnums=(1,))


def test_negative_binomial():
    r = np.array(WAITS)[:, 0]
    sizes = 1, (1 / r, 1), ((1 / r**2, 1 / r), (1 / r, 1))
    function = count_entropies.negative_binomial_entropy
    check(function, negative_binomial, WAITS, np.float32, floors=sizes, digits=60)


def test_the_integrals_of_the_contract_are_those_sums():
    pairs = [
        (contract.poisson, poisson, RATES),
        (contract.by_logits(contract.binomial), binomial, TRIALS),
        (contract.by_logits(contract.negative_binomial), negative_binomial, WAITS[1:3]),
    ]
    with mp.workdps(40):
        for integral, plain, points in pairs:
            for point in points:
                exact = [mp.mpf(x) for x in point]
                gap = integral(*exact) - plain(*exact)
                assert abs(gap) < 1e-25, (point, gap)


@pytest.mark.slow
def test_nothing_is_nan_or_infinite():
    """Values, slopes and second derivatives, wherever the parameters are."""
    sizes = 10.0 ** np.array([-20, -10, -3, 0, 0.3, 4, 9, 20])
    r, logits = (x.ravel() for x in np.meshgrid(sizes, [-1000, -40, -1, 0, 3, 19, 21, 300, 1000]))
    with np.errstate(over="ignore"):
        for f, points in (
            (lambda l: lx.Poisson(log_rate=l).entropy(), [np.log(sizes)]),
            (lambda r, l: lx.NegativeBinomial(r, logits=l).entropy(), [r, logits]),
        ):
            value, gradient, hessian, _ = run(f, points, np.float32)
            assert np.isfinite(value).all() and (value >= 0).all()
            assert np.isfinite(gradient).all()
            # Beyond the floats, as 1/r^2 is, there is none.
            size = np.minimum(points[0], 1e20) if len(points) == 2 else 1
            fits = np.broadcast_to(np.asarray(size) > 1e-19, value.shape)
            assert np.isfinite(np.asarray(hessian)[..., fits]).all()


def test_limits():
    zero, one, rate = jnp.zeros(()), jnp.ones(()), jnp.array(3.5)

    @jax.jit
    def limits():
        binomials = [lx.Binomial(5, probs=p).entropy() for p in (zero, one)]
        waits = lx.NegativeBinomial(2.0, probs=zero), lx.NegativeBinomial2(zero, one)
        none = lx.Poisson(zero), lx.Binomial(0, logits=one), *waits
        poissons = lx.NegativeBinomial2(rate, zero), lx.NegativeBinomial2(rate, 1e-30 * one)
        slopes = jax.grad(lambda r, p: lx.Poisson(r).entropy() + lx.Binomial(5, probs=p).entropy())
        return (
            jnp.stack(binomials + [dist.entropy() for dist in none]),
            jnp.stack([dist.entropy() - lx.Poisson(rate).entropy() for dist in poissons]),
            slopes(zero, zero),
            jnp.stack([lx.Poisson(-one).entropy(), lx.Binomial(5, probs=jnp.nan).entropy()]),
        )

    none, gaps, slope, wrong = limits()
    np.testing.assert_array_equal(none, 0)
    np.testing.assert_allclose(gaps, 0, atol=1e-6)
    assert np.isfinite(slope)
    assert np.isnan(wrong).all()


def test_where_a_part_of_the_formula_leaves_the_floats():
    """Limits: a binomial and a negative binomial of few events are Poissons, and so is no dispersion."""
    huge, rare = np.float32(1e38), np.float32(1e-36)

    @jax.jit
    def found(huge, rare, logits):
        undispersed = lambda l: lx.NegativeBinomial2(log_rate=l, dispersion=0 * l).entropy()  # noqa: E731
        return (
            [lx.NegativeBinomial(huge, logits=logits).entropy(), undispersed(jnp.log(huge))],
            jax.value_and_grad(undispersed)(2 * jnp.log(huge)),
            jax.grad(lambda p: lx.Binomial(1e3, probs=p).entropy())(rare),
        )

    (subnormal, large), (larger, slope), binomial_slope = found(huge, rare, np.float32(-88))
    m = mp.mpf(float(huge)) * mp.exp(-88)
    np.testing.assert_allclose(subnormal, float(poisson(m)), rtol=2e-6)
    half = 0.5 * np.log(2 * np.pi * np.e)
    log = np.log(float(huge))
    np.testing.assert_allclose([large, larger], [half + 0.5 * log, half + log], rtol=1e-6)
    np.testing.assert_allclose(slope, 0.5, rtol=1e-6)
    # dH/dp = -n log(n p) to the first order in n p.
    np.testing.assert_allclose(binomial_slope, -1e3 * np.log(1e3 * float(rare)), rtol=1e-5)


@pytest.mark.parametrize("a", [0.0, 1.5, -1.5, 300.0])
def test_skew_normal(a):
    """The plain quadrature of -p log p; a = 0 is the Normal."""
    exact = mp.mpf(a)

    def term(z):
        log_p = mp.log(mp.erfc(-exact * z / mp.sqrt(2))) - z * z / 2 - mp.log(2 * mp.pi) / 2
        return -mp.exp(log_p) * log_p

    cuts = sorted(np.concatenate([[-12, -2, 2, 12], np.array([-9, -3, 0, 3, 9]) / max(1, abs(a))]))
    with mp.workdps(20):
        want = mp.quad(term, cuts) + mp.log(2)
    np.testing.assert_allclose(lx.SkewNormal(0.3, 2.0, a).entropy(), float(want), rtol=3e-7)
