"""Normals of low rank: against dense formulas in float64. Where W is far from d they stand in the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import likelax as lx
from contract.entries import BY_NAME
from contract.measure import load, rows
from likelax.testing.subject import quick_jit

RNG = np.random.default_rng(8)
LOC, DIAG = np.array([0.25, -1.0, 3.0]), np.array([0.5, 2.0, 1.25])
FACTOR = RNG.normal(size=(3, 4))
X = RNG.normal(size=(5, 3)) + LOC


def dense(x, loc, w, d):
    covariance = w @ w.T + jnp.diag(d)
    return jax.scipy.stats.multivariate_normal.logpdf(x, loc, covariance)


def low_rank(x, loc, w, d):
    return lx.LowRankMultivariateNormal(loc, w, d).log_prob(x)


def test_density_and_derivatives_are_the_dense_ones():
    """Also where W = 0, with more columns than the event has elements."""

    def everything(f):
        def both(*args):
            def slopes(*args):
                value, slope = jax.value_and_grad(f, (1, 2, 3))(*args)
                return slope, (value, slope)

            return jax.jacfwd(slopes, (1, 2, 3), has_aux=True)(*args)

        return quick_jit(jax.vmap(both, (None, None, 0, None)))

    with jax.enable_x64(True):
        args = jnp.asarray(X[0]), jnp.asarray(LOC), np.stack([FACTOR, 0 * FACTOR]), DIAG
        got, want = everything(low_rank)(*args), everything(dense)(*args)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12), got, want
        )
        # The control: the slope of half of it is another.
        assert np.any(np.abs(0.5 * got[1][1][2] - want[1][1][2]) > 0.1)
        none = low_rank(X, LOC, np.zeros((3, 0)), DIAG)
        np.testing.assert_allclose(none, low_rank(X, LOC, np.zeros((3, 1)), DIAG), rtol=1e-14)


def test_two_squares_fail():
    """The control of the contract: with the capacitance matrix one is taken from the other."""

    def plain(x, loc, w, d):
        w = w.reshape(3, 2)
        capacitance = jnp.eye(2) + w.T @ (w / d[:, None])
        pull = w.T @ ((x - loc) / d)
        square = jnp.sum((x - loc) ** 2 / d) - pull @ jnp.linalg.solve(capacitance, pull)
        log_det = jnp.linalg.slogdet(capacitance)[1] + jnp.sum(jnp.log(d))
        return -0.5 * (square + log_det + 3 * np.log(2 * np.pi))

    columns, truth = load("LowRankMultivariateNormal")
    got = {"log_prob": np.asarray(jax.jit(jax.vmap(plain))(*columns))}
    (row,) = rows(BY_NAME["LowRankMultivariateNormal"], columns, truth, got)
    assert row.percentile > 1e3


def test_summaries_samples_and_edges():
    dist = lx.LowRankMultivariateNormal(LOC, FACTOR, DIAG)
    covariance = FACTOR @ FACTOR.T + np.diag(DIAG)
    ends = jnp.array([[jnp.inf, 0.0, 0.0], [jnp.nan, 0.0, 0.0], [0.0, -1.0, 2.0]])
    n = 20_000

    @quick_jit
    def ask(dist):
        x = dist.sample(jax.random.key(3), n)
        return dist.covariance, dist.variance(), dist.entropy(), x, dist.log_prob(ends)

    own, variance, entropy, x, values = ask(dist)
    np.testing.assert_allclose(own, covariance, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(variance, np.diag(covariance), rtol=1e-6)
    log_det = np.linalg.slogdet(2 * np.pi * np.e * covariance)[1]
    np.testing.assert_allclose(entropy, 0.5 * log_det, rtol=1e-6)
    x = np.asarray(x, np.float64)
    assert np.all(np.abs(x.mean(0) - LOC) < 4.5 * np.sqrt(np.diag(covariance) / n))
    spread = np.sqrt((np.outer(np.diag(covariance), np.diag(covariance)) + covariance**2) / n)
    assert np.all(np.abs(np.cov(x.T) - covariance) < 4.5 * spread)
    assert np.any(np.abs(np.cov(x.T) - FACTOR @ FACTOR.T) > 20 * spread)  # the control
    assert values[0] == -jnp.inf and jnp.isnan(values[1]) and jnp.isfinite(values[2])
    with pytest.raises(ValueError, match="both have the axis 'event'"):
        lx.LowRankMultivariateNormal(LOC, FACTOR[:2], DIAG)


def normals():
    """Each kind of Normal over vectors, with its mean and covariance."""
    loc, scale = np.array([0.5, -0.75, 2.0]), np.array([0.3, 2.0, 1.5])
    known = {
        "two": (lx.LowRankMultivariateNormal(LOC, FACTOR[:, :2], DIAG), LOC, FACTOR[:, :2]),
        "four": (lx.LowRankMultivariateNormal(loc, FACTOR, 2 * DIAG), loc, FACTOR),
        "diagonal": (lx.MultivariateNormalDiag(loc, scale), loc, None),
        "apart": (lx.Normal(loc, scale).to_event(1), loc, None),
        "apart-log": (lx.Normal(loc, log_scale=np.log(scale)).to_event(1), loc, None),
    }
    out = {}
    for name, (dist, mean, w) in known.items():
        own = np.diag(scale**2) if w is None else np.diag(DIAG if name == "two" else 2 * DIAG)
        out[name] = dist, mean, own if w is None else own + w @ w.T
    full = np.array([[2.0, 0.3, -0.5], [0.3, 1.0, 0.2], [-0.5, 0.2, 0.75]])
    return out | {"full": (lx.MultivariateNormal(LOC, covariance=full), LOC, full)}


def test_kl_between_all_kinds():
    with jax.enable_x64(True):
        known = normals()
        names = [("two", b) for b in known] + [(a, "two") for a in known if a != "two"]
        names += [("four", "two"), ("apart", "full"), ("full", "apart-log"), ("apart", "diagonal")]

        @quick_jit
        def divergences(dists):
            return [lx.kl_divergence(dists[a], dists[b]) for a, b in names]

        got = divergences({name: dist for name, (dist, *_) in known.items()})
        for (a, b), kl in zip(names, got, strict=True):
            (_, mu_p, cov_p), (_, mu_q, cov_q) = known[a], known[b]
            inverse, gap = np.linalg.inv(cov_q), mu_p - mu_q
            logs = np.linalg.slogdet(cov_q)[1] - np.linalg.slogdet(cov_p)[1]
            want = 0.5 * (np.trace(inverse @ cov_p) - 3 + gap @ inverse @ gap + logs)
            np.testing.assert_allclose(kl, want, rtol=1e-10, atol=1e-13)
        back = got[names.index(("full", "two"))]
        assert abs(got[names.index(("two", "full"))] - back) > 0.1  # the control


def test_kl_of_close_ones_and_of_batches():
    p = lx.LowRankMultivariateNormal(LOC, FACTOR, DIAG)
    # All scales off by h: h^2 for each element; its entropies are of order 1.
    h = np.float32(2.0**-8)
    q = lx.LowRankMultivariateNormal(LOC, p.cov_factor * (1 + h), p.cov_diag * (1 + h) ** 2)
    same, close = quick_jit(lambda p, q: (lx.kl_divergence(p, p), lx.kl_divergence(p, q)))(p, q)
    assert abs(same) < 1e-6
    np.testing.assert_allclose(close, 3 * (0.5 * ((1 + h) ** -2.0 - 1) + np.log1p(h)), rtol=0.02)
    locs, scales = np.stack([LOC, -LOC]), np.stack([DIAG, DIAG + 1])
    many = lx.LowRankMultivariateNormal(locs, FACTOR, DIAG)
    other = lx.MultivariateNormalDiag(LOC, scales[:, None])
    wide = other.broadcast_to((2, 2)), many.broadcast_to((2, 2))

    @quick_jit
    def both_ways(a, b):
        return lx.kl_divergence(a, b), lx.kl_divergence(b, a)

    for got, want in zip(both_ways(other, many), both_ways(*wide), strict=True):
        assert got.shape == (2, 2)
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_kl_of_other_independents_says_what_to_do():
    laplace, q = lx.Laplace(LOC, 1.0).to_event(1), lx.MultivariateNormalDiag(LOC, DIAG)
    with pytest.raises(NotImplementedError, match=r"KL\(Independent \|\| MultivariateNormalDiag\)"):
        laplace.kl_divergence(q)
    with pytest.raises(NotImplementedError, match=r"KL\(MultivariateNormalDiag \|\| Independent\)"):
        q.kl_divergence(laplace)
    with pytest.raises(ValueError, match="event shapes"):
        lx.Normal(LOC[:2], 1.0).to_event(1).kl_divergence(q)
