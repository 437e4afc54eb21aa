"""Implicit gradients of samples against the score-function estimate of the same derivatives.

Mixtures: tests/distributions/test_mixture.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import likelax as lx
from likelax.distributions.gamma import marsaglia_tsang
from likelax.testing.subject import quick_jit

DRAWS = 20_000
BOUND = 4.5  # errors of the mean: a false alarm in 1e5, and the keys are fixed

FAMILIES = {
    "Gamma below 1": (lx.Gamma, (0.6, 1.5)),
    "Gamma": (lx.Gamma, (4.0, 1.5)),
    "Beta": (lx.Beta, (0.7, 2.5)),
    "Dirichlet": (lx.Dirichlet, ([0.6, 1.5, 3.0],)),
    "StudentT": (lx.StudentT, (1.5, 0.3, 0.6)),
    "VonMises": (lx.VonMises, (0.8, 2.5)),
}


def of_interest(x):
    """Of no symmetry that would make a derivative of its mean 0."""
    weights = jnp.asarray([1.0, -0.5, 2.0]) if x.ndim > 1 else 1.0
    each = weights * (jnp.log1p(x**2) + 0.5 * x)
    return each.sum(-1) if x.ndim > 1 else each


def estimates(family, params):
    """Both estimates, draw by draw: two lists of arrays `(draw, parameter)`."""
    params = [jnp.broadcast_to(jnp.asarray(p, jnp.float32), (DRAWS, *np.shape(p))) for p in params]

    def value(x):
        # No jump where the circle closes.
        return of_interest(jnp.sin(x) if family is lx.VonMises else x)

    def pathwise(params):
        x = family(*params).sample(jax.random.key(2))
        return value(x).sum(), x

    @jax.jit
    def both(params):
        grads, x = jax.grad(pathwise, has_aux=True)(params)
        f = value(x)
        score = jax.grad(lambda p: ((f - f.mean()) * family(*p).log_prob(x)).sum())(params)
        return grads, score

    return [[np.asarray(g, np.float64).reshape(DRAWS, -1) for g in part] for part in both(params)]


def off(path, score):
    """By how many errors of their difference the two means are apart."""
    difference = path - score
    return np.abs(difference.mean(0)) / (difference.std(0) / np.sqrt(DRAWS))


@pytest.mark.parametrize("name", FAMILIES)
def test_implicit_gradients_agree_with_the_score_function(name):
    path, score = estimates(*FAMILIES[name])
    for p, s in zip(path, score, strict=True):
        assert np.all(off(p, s) < BOUND), (off(p, s), p.mean(0), s.mean(0))
        # Control: a quarter of the gradient, as of one of the ways that a parameter goes.
        assert np.all(off(0.25 * p, s) > BOUND), (off(0.25 * p, s), p.mean(0), s.mean(0))


@pytest.mark.slow
def test_second_derivatives_of_draws():
    """Those of the quantile at the draw's own level: a draw moves with its parameters, as its slope does."""
    with jax.enable_x64(True):
        draw = lambda a: lx.Gamma(a[0], a[1]).sample(jax.random.key(0))  # noqa: E731
        x = float(draw(jnp.array([2.0, 0.5])))
        level, h = scipy.special.gammainc(2.0, 0.5 * x), 1e-3
        low, high = (scipy.special.gammaincinv(2.0 + step, level) / 0.5 for step in (-h, h))
        curve, slope = (high - 2 * x + low) / h**2, (high - low) / (2 * h)
        want = [[curve, -slope / 0.5], [-slope / 0.5, 2 * x / 0.5**2]]
        got = quick_jit(jax.hessian(draw))(jnp.array([2.0, 0.5]))
        np.testing.assert_allclose(got, want, rtol=1e-5)

        angle = lambda k: lx.VonMises(0.0, k).sample(jax.random.key(1))  # noqa: E731
        x = float(angle(2.0))
        level = scipy.stats.vonmises(2.0).cdf(x)
        low, high = (scipy.stats.vonmises(2.0 + step).ppf(level) for step in (-h, h))
        got = quick_jit(jax.hessian(angle))(2.0)
        np.testing.assert_allclose(got, (high - 2 * x + low) / h**2, rtol=1e-3)


@pytest.mark.parametrize(
    "dist",
    [lx.Weibull(0.5, 2.0), lx.Kumaraswamy(0.5, 2.0), lx.GeneralizedPareto(0.0, 2.0, 0.5)],
    ids=lambda dist: type(dist).__name__,
)
def test_a_draw_of_0_stands_for_those_below_a_step(dist, monkeypatch):
    """The generator gives a 0 once in 2^23; at the end of the support a draw has no slopes."""
    monkeypatch.setattr(
        jax.random, "exponential", lambda key, shape, dtype: jnp.zeros(shape, dtype)
    )
    assert jax.random.exponential(jax.random.key(0), (), jnp.float32) == 0  # the control
    for level in (0.0, 1 - 2.0**-23):
        monkeypatch.setattr(
            jax.random, "uniform", lambda key, shape, dtype, u=level: jnp.full(shape, u, dtype)
        )
        draw, slope = jax.value_and_grad(lambda dist: dist.sample(jax.random.key(0)))(dist)
        assert 0 < draw < jnp.inf and jnp.isfinite(dist.log_prob(draw))
        assert all(jnp.isfinite(leaf) & (leaf != 0) for leaf in jax.tree.leaves(slope)[-2:])


def test_proposals_next_to_zero_are_accepted_as_often_as_they_should_be():
    """There 1 + (v - 1) rounds to 0 or below, in which a plain bound is -inf or NaN, and NaN counted as accepted."""
    u = np.linspace(-0.995, -0.95, 2001, dtype=np.float32)
    step, bound = map(np.asarray, marsaglia_tsang(jnp.asarray(u), jnp.array(1.01)))
    possible = step != 0
    assert 100 < possible.sum() < 1900
    np.testing.assert_array_equal(bound[~possible], -np.inf)
    d, step = 1.01 - 1 / 3, step[possible].astype(float)
    log_v = 3 * np.log1p(step)
    exact = 4.5 * d * step**2 + d * (log_v - np.expm1(log_v))
    np.testing.assert_allclose(bound[possible], exact, rtol=2e-6)
    with np.errstate(invalid="ignore", divide="ignore"):
        plain = np.log1p(np.float32(step) * (3 + np.float32(step) * (3 + np.float32(step))))
    assert not np.isfinite(plain).all()  # the control


@pytest.mark.slow
def test_no_gamma_is_drawn_next_to_zero_unless_its_density_says_so():
    """Of an exponential a draw below 1e-9 has a chance of 1e-9."""
    draws = lx.Gamma(1.0, 1.0).sample(jax.random.key(5), (400_000,))
    assert draws.min() > 1e-9
    counts = lx.NegativeBinomial(0.01, probs=0.5).sample(jax.random.key(1), (400_000,))
    assert counts.min() == 0
