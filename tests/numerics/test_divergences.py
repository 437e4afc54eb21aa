"""Two floats for an exponential, and divergences whose two sides are close or 1e16 apart."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from likelax.numerics import divergences
from likelax.numerics.pairs import exp_to_pair, word
from likelax.numerics.trials import binomial_logits_log_pmf, binomial_probs_log_pmf

EPS = float(np.finfo(np.float32).eps)


def worst(value, exact, points):
    """The largest error, in eps of the exact value."""
    with mp.workdps(60):
        want = [exact(*(mp.mpf(float(c)) for c in point)) for point in points]
        got = [mp.fsum(mp.mpf(float(part)) for part in parts) for parts in value]
        return max(float(abs(g / w - 1)) for g, w in zip(got, want, strict=True)) / EPS


def exp_of(x):
    return exp_to_pair(word(x))


def test_exp_to_pair_holds_what_one_float_cannot():
    x = np.random.default_rng(0).uniform(-20, 60, 300).astype(np.float32)
    pair = np.stack(jax.jit(exp_of)(x), -1)
    assert worst(pair, mp.exp, x[:, None]) < 1e-3
    assert worst(pair[:, :1], mp.exp, x[:, None]) > 0.4  # the control
    assert exp_of(jnp.float32(100))[0] == jnp.inf and exp_of(jnp.float32(-100))[0] == 0
    assert jnp.isnan(exp_of(jnp.float32(jnp.nan))[0])


def pairs(seed):
    """Positive numbers, their neighbours, and others far away."""
    generator = np.random.default_rng(seed)
    a = 10 ** generator.uniform(-8, 8, 200)
    near = a * (1 + 10 ** generator.uniform(-6, -1, 200))
    b = np.where(generator.random(200) < 0.5, near, 10 ** generator.uniform(-8, 8, 200))
    return np.stack([a, b], -1).astype(np.float32)


def exact_trial(l, m):
    p, q, r, s = (1 / (1 + mp.exp(-z)) for z in (l, -l, m, -m))
    return p * mp.log(p / r) + q * mp.log(q / s)


RATIOS = [
    (
        "ratio_excess",
        lambda a, b: a / b - 1 - mp.log(a / b),
        lambda a, b: a / b - 1 - jnp.log(a / b),
    ),
    (
        "square_ratio_excess",
        lambda a, b: ((a / b) ** 2 - 1) / 2 - mp.log(a / b),
        lambda a, b: ((a / b) ** 2 - 1) / 2 - jnp.log(a / b),
    ),
    (
        "trial_divergence",
        exact_trial,
        lambda l, m: jax.nn.sigmoid(l) * (l - m) + jax.nn.softplus(m) - jax.nn.softplus(l),
    ),
]


@pytest.mark.parametrize("name, exact, plain", RATIOS, ids=[row[0] for row in RATIOS])
def test_divergences_to_a_few_units_of_themselves(name, exact, plain):
    points = pairs(1)
    if name == "trial_divergence":
        points = np.log(points) / 3 + np.float32(0)
    points = points.astype(np.float32)
    points = points[points[:, 0] != points[:, 1]]
    a, b = points.T
    value = jax.jit(getattr(divergences, name))(a, b)[:, None]
    assert worst(value, exact, points) < 16
    assert worst(plain(a, b)[:, None], exact, points) > 1e3  # the control


def test_binomials_by_logits_and_probs_have_all_their_derivatives():
    k, n, logits = (
        jnp.float32([3.0, 0.0, 7.0]),
        jnp.float32([9.0, 4.0, 7.0]),
        jnp.float32([0.5, -2.0, 1.0]),
    )
    p = jax.nn.sigmoid(logits)
    ones = jnp.ones(3)

    def derivatives(f, x):
        first = lambda x: jax.jvp(f, (x,), (ones,))[1]  # noqa: E731
        return first(x), jax.jvp(first, (x,), (ones,))[1]

    by_logits = derivatives(lambda l: binomial_logits_log_pmf(k, n, l), logits)
    by_probs = derivatives(lambda p: binomial_probs_log_pmf(k, n, p), p)
    np.testing.assert_allclose(by_logits[0], k - n * p, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(by_logits[1], -n * p * (1 - p), rtol=1e-5)
    np.testing.assert_allclose(by_probs[0], k / p - (n - k) / (1 - p), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(by_probs[1], -k / p**2 - (n - k) / (1 - p) ** 2, rtol=1e-4)
    slope_n = jax.grad(lambda n: binomial_logits_log_pmf(k[0], n, logits[0]))(n[0])
    exact = float(mp.digamma(10) - mp.digamma(7)) + float(jax.nn.log_sigmoid(-logits[0]))
    np.testing.assert_allclose(slope_n, exact, rtol=1e-5)
