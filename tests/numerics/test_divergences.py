"""Two floats for an exponential, and divergences whose two sides are close or 1e16 apart."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from likelax.numerics import divergences
from likelax.numerics.classes_divergence import classes_divergence, classes_divergence_of_probs
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


def exact_classes(p, q):
    return mp.fsum(a * mp.log(a / b) for a, b in zip(p, q, strict=True))


def shares(logits):
    weights = [mp.exp(x) for x in logits]
    return [w / mp.fsum(weights) for w in weights]


@pytest.mark.parametrize("step", [1e-5, 1e-2, 1.0, 30.0])
def test_classes_divergence_to_a_few_units_of_itself(step):
    """Also of logits one of whose sides is moved by 300, and of classes with probabilities of 1e-30."""
    generator = np.random.default_rng(7)
    l = (generator.normal(size=(40, 5)) * np.repeat([[3.0], [30.0]], 20, 0)).astype(np.float32)
    m = (
        l + step * generator.normal(size=l.shape) + np.repeat([[0.0, 300.0]], 20, 0).reshape(40, 1)
    ).astype(np.float32)
    got = jax.jit(classes_divergence)(l, m)[:, None]
    plain = jnp.sum(jax.nn.softmax(l) * (jax.nn.log_softmax(l) - jax.nn.log_softmax(m)), -1)[
        :, None
    ]
    points = np.concatenate([l, m], -1)

    def exact(*row):
        return exact_classes(shares(row[:5]), shares(row[5:]))

    assert worst(got, exact, points) < 64
    if step < 1:
        assert worst(plain, exact, points) > 1e4  # the control


def test_classes_divergence_of_probs_to_a_few_units_of_itself():
    p = np.random.default_rng(8).dirichlet(np.ones(4), 50).astype(np.float32)
    moved = p * np.float32([1 + 2e-4, 1, 1, 1])
    q = (moved / moved.sum(-1, keepdims=True)).astype(np.float32)

    def exact(*row):
        return exact_classes(*([c / mp.fsum(s) for c in s] for s in (row[:4], row[4:])))

    points = np.concatenate([p, q], -1)
    got = jax.jit(classes_divergence_of_probs)(p, q)
    assert worst(got[:, None], exact, points) < 16
    assert worst(np.sum(p * np.log(p / q), -1)[:, None], exact, points) > 1e4  # the control


@pytest.mark.parametrize("mixed", [jax.jacfwd, jax.jacrev])
def test_second_derivatives_of_classes_divergence_are_those_of_the_plain_formula(mixed):
    def plain(l, m):
        return jnp.sum(jax.nn.softmax(l) * (jax.nn.log_softmax(l) - jax.nn.log_softmax(m)))

    with jax.enable_x64(True):
        l = jnp.array([0.3, -2.0, 1.5, 4.0])
        for m in (l + jnp.array([0.1, -0.2, 0.05, 7.0]), l + jnp.array([1e-3, 2e-3, 0.0, -1e-3])):
            got, want = (
                mixed(jax.grad(f, (0, 1)), (0, 1))(l, m) for f in (classes_divergence, plain)
            )
            jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=1e-14), got, want)


def test_classes_divergence_at_impossible_classes_and_infinite_logits():
    inf = jnp.inf
    l, m = jnp.array([0.0, 1.0, -inf]), jnp.array([0.0, 2.0, 1.0])
    p, q = jax.nn.softmax(l), jax.nn.softmax(m)
    value, slopes = jax.value_and_grad(classes_divergence, (0, 1))(l, m)
    log_ratio = jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1) / q), 0)
    np.testing.assert_allclose(value, jnp.sum(p * log_ratio), rtol=1e-6)
    np.testing.assert_allclose(slopes, [p * (log_ratio - value), q - p], atol=1e-6)
    assert classes_divergence(m, l) == inf
    assert not np.any(jax.grad(classes_divergence, (0, 1))(m, l))
    certain = jnp.array([0.0, inf, 1.0])
    assert classes_divergence(certain, certain + 1) == 0
    assert not jnp.isnan(jnp.stack(jax.grad(classes_divergence, (0, 1))(certain, certain))).any()
    assert jnp.isnan(classes_divergence(l.at[0].set(jnp.nan), m))
