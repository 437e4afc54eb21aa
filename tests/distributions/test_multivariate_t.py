"""Student's t over vectors: against the formula in float64; in float32 it stands in the contract."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import likelax as lx
from contract.entries import BY_NAME
from contract.measure import load, rows
from likelax.testing.subject import quick_jit

LOC = np.array([0.25, -1.0, 3.0])
TRIL = np.array([[1.5, 0.0, 0.0], [-0.5, 0.75, 0.0], [0.25, 1.0, 2.0]])


def density(x, df, loc, tril):
    return lx.MultivariateStudentT(df, loc, tril).log_prob(x)


def plain(x, df, loc, tril):
    """The textbook's formula: in float32 its two lgammas cancel."""
    n, tril = len(loc), jnp.tril(tril)
    square = jnp.sum(jnp.linalg.solve(tril, x - loc) ** 2)
    log_det = jnp.sum(jnp.log(jnp.diagonal(tril)))
    lgamma = jax.scipy.special.gammaln
    normalizer = lgamma((df + n) / 2) - lgamma(df / 2) - n / 2 * jnp.log(np.pi * df)
    return normalizer - log_det - (df + n) / 2 * jnp.log1p(square / df)


@pytest.mark.parametrize("size", [2, 3])
def test_density_and_derivatives_are_the_formula(size):
    """To second order, at the mode too."""

    def everything(f):
        def slopes(*args):
            value, slope = jax.value_and_grad(f, (0, 1, 2, 3))(*args)
            return slope, (value, slope)

        both = jax.jacfwd(slopes, (0, 1, 3), has_aux=True)
        return quick_jit(jax.vmap(both, (0, 0, None, None)))

    with jax.enable_x64(True):
        loc, tril = jnp.asarray(LOC[:size]), jnp.asarray(TRIL[:size, :size])
        x = jnp.stack([loc, loc + 1.5, loc + jnp.arange(size) * 7.0])
        args = x, jnp.array([0.75, 3.5, 20.0]), loc, tril
        got, want = everything(density)(*args), everything(plain)(*args)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10), got, want
        )


def test_the_formula_breaks_the_contract():
    """The control: its two lgammas cancel."""
    columns, truth = load("MultivariateStudentT 2")

    def log_prob(x, df, loc, own, below):
        return plain(x, df, loc, jnp.diag(own).at[1, 0].set(below[0]))

    got = {"log_prob": np.asarray(jax.jit(jax.vmap(log_prob))(*columns))}
    (row,) = rows(BY_NAME["MultivariateStudentT 2"], columns, truth, got)
    assert not row.percentile <= 1e3


def test_summaries_samples_and_edges():
    df = np.array([0.75, 1.5, 12.0])
    dist = lx.MultivariateStudentT(df[:, None], LOC, TRIL)
    ends = jnp.array([[jnp.inf, 0.0, 0.0], [jnp.nan, 0.0, 0.0], [1e38, -1.0, 2.0]])
    n = 20_000

    def second_moment(df):
        x = lx.MultivariateStudentT(df, LOC, TRIL).sample(jax.random.key(3), n)
        return x, (x[:, 2] - LOC[2]) ** 2

    @quick_jit
    def ask(dist):
        at = jnp.float32(12.0)
        (x, _), (_, slope) = jax.jvp(second_moment, (at,), (jnp.ones_like(at),))
        return (
            dist.mean(),
            dist.variance(),
            dist.entropy(),
            dist[2].log_prob(ends[:, None]),
            x,
            slope,
        )

    mean, variance, entropy, values, x, slope = ask(dist)
    covariance = TRIL @ TRIL.T
    assert np.isnan(mean[0]).all() and np.isnan(variance[0]).all() and np.isinf(variance[1]).all()
    np.testing.assert_allclose(mean[1:, 0], [LOC, LOC], rtol=1e-6)
    np.testing.assert_allclose(variance[2, 0], 1.2 * np.diag(covariance), rtol=1e-6)
    want = [stats.multivariate_t(LOC, covariance, v).entropy() for v in df]
    np.testing.assert_allclose(entropy[:, 0], want, rtol=1e-6)
    assert values[0, 0] == -jnp.inf and jnp.isnan(values[1, 0]) and jnp.isfinite(values[2, 0])

    x = np.asarray(x, np.float64)
    np.testing.assert_allclose(np.cov(x.T), 1.2 * covariance, rtol=0.1, atol=0.1)
    z = np.linalg.solve(TRIL, (x - LOC).T)
    shares = stats.f(3, 12).cdf(np.sum(z**2, axis=0) / 3)
    assert stats.kstest(shares, "uniform").pvalue > 1e-4
    assert stats.kstest(stats.f(3, 5).cdf(np.sum(z**2, axis=0) / 3), "uniform").pvalue < 1e-6
    # Its variance is v/(v - 2) times the scale's, whose slope is -2/(v - 2)^2.
    slope = np.asarray(slope, np.float64)
    error, want = slope.std() / np.sqrt(n), -0.02 * covariance[2, 2]
    assert abs(slope.mean() - want) < 4.5 * error and error < 0.1 * abs(want)


def test_it_becomes_the_normal():
    x = LOC + np.array([0.5, -2.0, 1.0])
    want = lx.MultivariateNormal(LOC, scale_tril=TRIL).log_prob(x)
    np.testing.assert_allclose(density(x, jnp.array(1e30), LOC, TRIL), want, rtol=1e-6)
    assert abs(density(x, jnp.array(20.0), LOC, TRIL) - want) > 0.02
    with pytest.raises(ValueError, match="both have the axis 'event'"):
        lx.MultivariateStudentT(3.0, LOC[:2], TRIL)


@pytest.mark.parametrize("df", [np.inf, 3e38])
def test_of_an_infinite_df_it_is_the_normal(df):
    x = LOC + np.array([0.5, -2.0, 1.0])

    def everything(make):
        f = lambda loc, tril: make(loc, tril).log_prob(x)  # noqa: E731
        at = jnp.asarray(LOC), jnp.asarray(TRIL)
        return f(*at), jax.grad(f, (0, 1))(*at), jax.hessian(f)(*at)

    student = lambda *p: lx.MultivariateStudentT(df, *p)  # noqa: E731
    normal = lambda loc, tril: lx.MultivariateNormal(loc, scale_tril=tril)  # noqa: E731
    got, want = (jax.jit(lambda m=make: everything(m))() for make in (student, normal))
    chex.assert_trees_all_close(got, want, rtol=3e-6, atol=1e-6)
    dist, limit = student(LOC, TRIL), normal(LOC, TRIL)
    summaries = jax.jit(lambda dist: (dist.entropy(), dist.variance()))
    chex.assert_trees_all_close(summaries(dist), summaries(limit), rtol=1e-6)
    by_df = jax.jit(jax.grad(lambda df: lx.MultivariateStudentT(df, LOC, TRIL).log_prob(x)))
    assert by_df(df) == 0
    draws = jax.jit(lambda dist: dist.sample(jax.random.key(0), (4000,)))(dist)
    np.testing.assert_allclose(np.cov(np.asarray(draws).T), TRIL @ TRIL.T, atol=0.5)
    far = jax.jit(lambda dist: dist.log_prob(1e25 * x))(dist)
    assert far == -np.inf if df == np.inf else far < -1e30
