"""The multinomial's entropy against sums over all allocations, to second order, and at its limits."""

import itertools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import scipy.stats as st

import likelax as lx
from contract import count_entropies as contract
from likelax.numerics.multinomial_entropy import multinomial_entropy
from numerics.reference import check, check_fails, run


def three(n, second, third):
    return multinomial_entropy(n, jnp.stack([jnp.zeros_like(second), second, third]))


def every_allocation(n, second, third):
    weights = [mp.mpf(1), mp.exp(second), mp.exp(third)]
    log_p = [mp.log(w / mp.fsum(weights)) for w in weights]
    n, total = int(n), mp.mpf(0)
    for x, y in itertools.product(range(n + 1), repeat=2):
        if x + y <= n:
            counts = x, y, n - x - y
            ways = mp.factorial(n) / mp.fprod(map(mp.factorial, counts))
            log = mp.log(ways) + mp.fsum(k * l for k, l in zip(counts, log_p, strict=True))
            total -= mp.exp(log) * log
    return total


DRAWS = [(1, -0.5, 1.0), (2, 0.0, 0.0), (5, 3.0, -2.0), (9, 1.0, -7.0)]


def test_values_slopes_and_second_derivatives():
    sizes = (1, 1, 1)
    check(three, every_allocation, DRAWS, np.float32, floors=sizes, digits=60, argnums=(1, 2))
    # The control: of a normal density of the same covariance.
    normal = lambda n, *logits: (  # noqa: E731
        jnp.log(2 * np.pi * np.e * n)
        + 0.5 * jnp.sum(jax.nn.log_softmax(jnp.stack([0 * logits[0], *logits])))
    )
    check_fails(
        normal, every_allocation, DRAWS, np.float32, floors=sizes, digits=60, argnums=(1, 2)
    )


def test_the_integral_of_the_contract_is_that_sum():
    with mp.workdps(40):
        for n, second, third in DRAWS:
            exact = [mp.mpf(x) for x in (0, second, third)]
            gap = contract.multinomial_by_logits(mp.mpf(n), exact)
            assert abs(gap - every_allocation(n, *exact[1:])) < 1e-25


@pytest.mark.slow
def test_limits():
    p = np.array([0.2, 0.05, 0.4, 0.35])

    @jax.jit
    def found(p, log_odds):
        return (
            [lx.Multinomial(n, probs=p).entropy() for n in (0, 1, 8)],
            lx.Categorical(probs=p).entropy(),
            [lx.Multinomial(n, logits=jnp.stack([0.0, log_odds])).entropy() for n in (7, 1e5)],
            [lx.Binomial(n, logits=log_odds).entropy() for n in (7, 1e5)],
            lx.Multinomial(1e8, probs=jnp.array([0.0, 1.0, 0.0])).entropy(),
            lx.Multinomial(8, probs=jnp.concatenate([p, jnp.zeros(1)])).entropy(),
            lx.Multinomial(5, logits=jnp.full(3, -jnp.inf)).entropy(),
        )

    with jax.enable_x64(True):
        results = jax.tree.map(np.asarray, found(p, -3.0))
    (none, one, some), categorical, pairs, binomials, certain, padded, never = results
    assert none == certain == 0 and np.isnan(never)
    np.testing.assert_allclose(one, categorical, rtol=1e-14)
    np.testing.assert_allclose([some, padded], st.multinomial(8, p).entropy(), rtol=1e-13)
    np.testing.assert_allclose(pairs, binomials, rtol=1e-14)


def test_of_even_shares_of_many_draws_it_is_a_normal_densitys():
    k, n = 3, 1e8
    got = multinomial_entropy(n, jnp.zeros(k))
    want = 0.5 * ((k - 1) * np.log(2 * np.pi * np.e * n) - k * np.log(k))
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_is_nan_or_infinite(dtype):
    """Values, slopes also in n, and second derivatives in logits: in n they are beyond the floats beside a rare class,
    and for one draw so are parts of those in logits.
    """
    n = np.array([0, 1, 2, 1e3, 1e5, 1e8, 1e20])
    ends = [-1000, -80, -20, 0, 1, 1000]
    points = [x.ravel() for x in np.meshgrid(n, ends, ends)]
    value, gradient, hessian, _ = run(three, points, dtype)
    assert np.isfinite(value).all() and (value >= 0).all()
    assert np.isfinite(gradient).all()
    fits = (points[0] != 1) | (np.abs(points[1]) != 80) & (np.abs(points[2]) != 80)
    assert np.isfinite(np.asarray(hessian)[1:, 1:][..., fits]).all()


def test_slopes_of_probabilities_at_0_and_1():
    slope = jax.jit(jax.grad(lambda p, n: lx.Multinomial(n, probs=p).entropy()))
    for n in (0, 1, 1e8):
        for p in ([0.0, 1.0, 0.0], [0.5, 0.5, 0.0], [1e-30, 1.0, 1e-38]):
            assert np.isfinite(slope(jnp.array(p), n)).all()


def test_counts_may_have_axes_of_their_own():
    """Against the binomial of two classes; what is NaN stays NaN."""
    n = jnp.array([[1.0], [7.0], [jnp.nan]])
    logits = jnp.array([[0.5, -1.0], [2.0, 0.0]])
    two = lx.Binomial(n, logits=logits[:, 0] - logits[:, 1]).entropy()
    for subject in (lx.Multinomial(n, logits=logits), lx.Multinomial(n, probs=jnp.exp(logits))):
        np.testing.assert_allclose(subject.entropy(), two, rtol=1e-6)
    sure = lx.Multinomial(jnp.nan, logits=jnp.array([0.0, -jnp.inf])).entropy()
    assert np.isnan([sure, lx.BetaBinomial(jnp.nan, 1.0, 1.0).entropy()]).all()
