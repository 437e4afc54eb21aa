"""The logistic normal: against mpmath, its support, its samples."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import likelax as lx
from likelax.testing.subject import quick_jit

RNG = np.random.default_rng(4)
EPS = float(np.finfo(np.float32).eps)
LOC, SCALE = np.array([0.5, -1.25]), np.array([0.75, 1.5])


def hard_points():
    """Scales from 1e-3 to 1e3 and values that are typical of them, from e^-60 to 1 - e^-20."""
    n = 60
    s = 10.0 ** RNG.uniform(-3, 3, (n, 3))
    loc = RNG.normal(size=(n, 3)) * 10.0 ** RNG.uniform(-3, 1, (n, 1))
    u = np.clip(loc + s * RNG.normal(size=(n, 3)), -60, 20)
    x = np.exp(np.concatenate([u, np.zeros((n, 1))], axis=-1))
    return [v.astype(np.float32) for v in (x / x.sum(-1, keepdims=True), loc, s)]


def test_hard_points():
    """The value within 4 eps of max(1, |value|), the slopes within 8 of the natural ones."""
    points = hard_points()

    def density(x, loc, s):
        return lx.LogisticNormal(loc, s).log_prob(x)

    def plain(x, loc, s):
        """With the logarithms rounded, the scale magnifies what they have lost."""
        u = jnp.log(x[:-1]) - jnp.log(x[-1])
        return jnp.sum(jax.scipy.stats.norm.logpdf(u, loc, s)) - jnp.sum(jnp.log(x))

    @jax.jit
    @jax.vmap
    def both(*args):
        return jax.value_and_grad(density, (0, 1, 2))(*args), plain(*args)

    (value, slopes), control = both(*points)
    errors, control_errors = [], []
    with mp.workdps(40):
        for k in range(len(value)):
            x, loc, s = ([mp.mpf(float(v)) for v in p[k]] for p in points)
            z = [(mp.log(v / x[-1]) - m) / t for v, m, t in zip(x[:-1], loc, s, strict=True)]
            truth = sum(
                -v * v / 2 - mp.log(2 * mp.pi) / 2 - mp.log(t) for v, t in zip(z, s, strict=True)
            )
            truth -= sum(mp.log(v) for v in x)
            errors.append(abs(float(value[k]) - truth) / max(1, abs(truth)) / EPS)
            control_errors.append(abs(float(control[k]) - truth) / max(1, abs(truth)) / EPS)
            pulls = [v / t for v, t in zip(z, s, strict=True)]
            wants = (
                [-(p + 1) / v for p, v in zip(pulls, x[:-1], strict=True)]
                + [(sum(pulls) - 1) / x[-1]],
                pulls,
                [(v * v - 1) / t for v, t in zip(z, s, strict=True)],
            )
            short = min(1, *s)
            lengths = [v * short for v in x], s, s
            for got, want, length in zip(slopes, wants, lengths, strict=True):
                pairs = zip(got[k].tolist(), want, length, strict=True)
                worst = max(abs(g - w) / max(abs(w), 1 / t) for g, w, t in pairs)
                assert worst / EPS <= 8, (points[0][k], points[1][k], points[2][k])
    assert max(errors) <= 4
    assert max(control_errors) > 40


def test_support_shapes_and_what_has_no_closed_form():
    dist = lx.LogisticNormal(np.zeros((4, 2)), SCALE)
    assert dist.event_shape == (3,) and dist.batch_shape == (4,)
    one = lx.LogisticNormal(LOC, SCALE)
    values = jnp.array([[0.2, 0.3, 0.6], [-0.1, 0.6, 0.5], [0.0, 0.5, 0.5], [0.5, 0.5, 0.0]])

    @quick_jit
    def ask(dist, x):
        return jax.vmap(jax.value_and_grad(lambda d, x: d.log_prob(x)), (None, 0))(dist, x)

    log_prob, slopes = ask(one, values)
    assert np.all(log_prob == -np.inf)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(slopes))
    assert np.isfinite(one.log_prob(jnp.array([0.25, 0.25, 0.5])))
    assert np.isnan(one.log_prob(jnp.array([np.nan, 0.5, 0.5])))
    with pytest.raises(ValueError, match=r"event \(3,\), got \(2,\)"):
        one.log_prob(jnp.array([0.5, 0.5]))
    for method in ("mean", "mode", "variance", "entropy"):
        with pytest.raises(
            NotImplementedError, match=rf"LogisticNormal.{method} has no closed form"
        ):
            getattr(one, method)()
    head = lx.Head(lx.LogisticNormal, num_ratios=2)
    assert head.size == 4 and np.isfinite(head(jnp.zeros(4)).log_prob(jnp.ones(3) / 3))


def test_samples_and_divergence():
    n = 20_000
    dist, other = lx.LogisticNormal(LOC, SCALE), lx.LogisticNormal(LOC + 1, 2 * SCALE)

    @quick_jit
    def ask(dist, other):
        x, log_p = dist.sample_and_log_prob(jax.random.key(5), n)
        slope = jax.jvp(lambda d: d.sample(jax.random.key(5), n), (dist,), (other,))[1]
        return x, log_p, dist.log_prob(x), other.log_prob(x), slope, lx.kl_divergence(dist, other)

    x, log_p, again, log_q, slope, kl = ask(dist, other)
    np.testing.assert_allclose(log_p, again, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(x.sum(-1), 1, atol=1e-6)
    u = np.asarray(jnp.log(x[:, :2] / x[:, 2:]), np.float64)
    assert np.all(np.abs(u.mean(0) - LOC) < 4.5 * SCALE / np.sqrt(n))
    assert np.all(np.abs(u.var(0) / SCALE**2 - 1) < 4.5 * np.sqrt(2 / n))
    # du = dloc + z dscale, and the elements' slopes add up to 0.
    moved = np.asarray(slope[:, :2] / x[:, :2] - slope[:, 2:] / x[:, 2:])
    want = (LOC + 1) + (u - LOC) / SCALE * 2 * SCALE
    np.testing.assert_allclose(moved, want, rtol=1e-3, atol=1e-3)
    gaps = np.asarray(log_p - log_q, np.float64)
    assert abs(gaps.mean() - kl) < 4.5 * gaps.std() / np.sqrt(n)
    assert abs(gaps.mean() - 2 * kl) > 20 * gaps.std() / np.sqrt(n)  # the control
