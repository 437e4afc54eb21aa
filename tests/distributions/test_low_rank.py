"""Normals of low rank: against dense formulas in float64 and against mpmath where W is far from d."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import likelax as lx
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


def hard_points():
    """Scales from 1e-15 to 1e15, factors up to 1e4 times them, values that are typical of both."""
    n = 60
    scale = 10.0 ** RNG.uniform(-15, 15, (n, 1))
    s = scale * 10.0 ** RNG.uniform(-1, 1, (n, 3))
    w = scale[..., None] * 10.0 ** RNG.uniform(-2, 4, (n, 1, 1)) * RNG.normal(size=(n, 3, 2))
    loc = scale * RNG.normal(size=(n, 3))
    x = loc + np.einsum("nij,nj->ni", w, RNG.normal(size=(n, 2))) + s * RNG.normal(size=(n, 3))
    return [v.astype(np.float32) for v in (x, loc, w, s**2)]


def exact(x, loc, w, d):
    """The log-density, and its gradients by loc, W and d."""
    x, loc, w = (mp.matrix(v.astype(float).tolist()) for v in (x, loc, w))
    s = w * w.T + mp.diag([mp.mpf(float(v)) for v in d])
    inverse = s**-1
    pull = inverse * (x - loc)
    value = -(((x - loc).T * pull)[0] + len(d) * mp.log(2 * mp.pi) + mp.log(mp.det(s))) / 2
    slope_w = pull * (pull.T * w) - inverse * w
    slope_d = [(pull[i] ** 2 - inverse[i, i]) / 2 for i in range(len(d))]
    return value, list(pull), [slope_w[i, j] for i in range(len(d)) for j in range(2)], slope_d


def test_factors_far_from_the_diagonal():
    """Within 8 eps of the value and 32 of each slope at nearly all points, and 100 at all of them:
    in eps of the larger of the slope and one over the natural length.
    """
    points = hard_points()
    value, slopes = jax.jit(jax.vmap(jax.value_and_grad(low_rank, (1, 2, 3))))(*points)

    def plain(x, loc, w, d):
        """The capacitance matrix: two squares, one taken from the other."""
        capacitance = jnp.eye(2) + w.T @ (w / d[:, None])
        pull = w.T @ ((x - loc) / d)
        square = jnp.sum((x - loc) ** 2 / d) - pull @ jnp.linalg.solve(capacitance, pull)
        log_det = jnp.linalg.slogdet(capacitance)[1] + jnp.sum(jnp.log(d))
        return -0.5 * (square + log_det + 3 * np.log(2 * np.pi))

    control = jax.jit(jax.vmap(plain))(*points)
    eps = np.finfo(np.float32).eps
    errors = {name: [] for name in ("value", "control", "loc", "w", "d")}
    with mp.workdps(60):
        for k in range(len(value)):
            truth, *gradients = exact(*(p[k] for p in points))
            s = np.sqrt(points[3][k].astype(float))
            size = max(1, abs(truth))
            errors["value"].append(abs(float(value[k]) - truth) / size)
            errors["control"].append(abs(float(control[k]) - truth) / size)
            lengths = s, np.repeat(s, 2), s**2
            for name, got, want, length in zip(
                ("loc", "w", "d"), slopes, gradients, lengths, strict=True
            ):
                flat = np.ravel(got[k]).tolist()
                errors[name].append(
                    max(
                        abs(g - w) / max(abs(w), 1 / v)
                        for g, w, v in zip(flat, want, length.tolist(), strict=True)
                    )
                )
    errors = {name: np.sort(np.array(e, float)) / eps for name, e in errors.items()}
    assert errors["value"][-2] <= 8, errors["value"][-3:]
    for name in ("loc", "w", "d"):
        assert errors[name][-2] <= 32 and errors[name][-1] <= 100, (name, errors[name][-3:])
    assert errors["control"][-10] > 1e3


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
