"""Relaxed bits and one-hot vectors: what is rounded to the edge, limits, and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import likelax as lx
from likelax.testing.subject import quick_jit


def pair(temperature, logits, *, vector):
    family = lx.RelaxedOneHotCategorical if vector else lx.RelaxedBernoulli
    return family(temperature, logits=logits)


@quick_jit
def draw(dist, key):
    return dist.sample(key, (2000,)), *dist.sample_and_log_prob(key, (2000,))


def test_bits_that_are_rounded_to_0_or_1():
    """log_prob can say nothing of them; sample_and_log_prob has the density of what was drawn."""
    l, t = 0.75, 0.01
    sample, value, log_prob = draw(lx.RelaxedBernoulli(t, logits=jnp.float32(l)), jax.random.key(2))
    np.testing.assert_array_equal(sample, value)
    assert ((value == 0) | (value == 1)).mean() > 0.5
    alone = lx.RelaxedBernoulli(t, logits=l).log_prob(value)
    assert np.isneginf(alone[(value == 0) | (value == 1)]).all()  # the control
    assert np.isfinite(log_prob).all()
    # The density of u = logit(x), a Logistic, less log x (1 - x).
    u = (l + jax.random.logistic(jax.random.key(2), (2000,))) / t
    want = stats.logistic.logpdf(u, l / t, 1 / t) + np.logaddexp(0, u) + np.logaddexp(0, -u)
    np.testing.assert_allclose(log_prob, want, rtol=1e-5)
    inside = (value > 1e-30) & (value < 0.9)
    np.testing.assert_allclose(log_prob[inside], alone[inside], rtol=1e-4)


def test_vectors_that_are_rounded_to_a_corner():
    l, t = jnp.array([0.75, -0.5, 1.5]), 0.01
    sample, value, log_prob = draw(pair(t, l, vector=True), jax.random.key(4))
    np.testing.assert_array_equal(sample, value)
    edge = (value == 0).any(-1)
    alone = pair(t, l, vector=True).log_prob(value)
    assert edge.mean() > 0.5 and np.isneginf(alone[edge]).all() and np.isfinite(log_prob).all()
    inside = (value > 1e-30).all(-1)
    np.testing.assert_allclose(log_prob[inside], alone[inside], rtol=1e-4)
    # The largest one is a draw of the classes themselves.
    counts = np.bincount(np.argmax(value, -1), minlength=3)
    p = np.exp(l) / np.exp(l).sum()
    assert ((counts - 2000 * p) ** 2 / (2000 * p)).sum() < stats.chi2(2).isf(1e-5)
    assert ((counts - 2000 * p[::-1]) ** 2 / (2000 * p[::-1])).sum() > 100  # the control


def test_two_classes_are_a_bit():
    t, l = jnp.array([0.5, 3.0]), jnp.array([[0.5, -1.0], [-2.0, 4.0]])
    x = jnp.array([0.25, 0.875])
    bit = lx.RelaxedBernoulli(t, logits=l[:, 0] - l[:, 1])
    both = lx.RelaxedOneHotCategorical(t, logits=l).log_prob(jnp.stack([x, 1 - x], -1))
    np.testing.assert_allclose(bit.log_prob(x), both, rtol=2e-6)
    np.testing.assert_allclose(bit.survival(0.5), jax.nn.sigmoid(l[:, 0] - l[:, 1]), rtol=1e-6)
    np.testing.assert_allclose(bit.cdf(bit.quantile(0.125)), 0.125, rtol=1e-5)


def test_gradients_of_samples():
    """x (1 - x) / T in the logits: those of the noise that was drawn."""
    key, t = jax.random.key(5), 0.75
    draw = lambda l: lx.RelaxedBernoulli(t, logits=l).sample_and_log_prob(key, (50,))  # noqa: E731
    one = jnp.ones(())
    (x, _), (slope, pull) = quick_jit(lambda l: jax.jvp(draw, (l,), (one,)))(jnp.float32(0.5))
    np.testing.assert_allclose(slope, x * (1 - x) / t, rtol=2e-5)
    # Of -log x (1 - x): the noise is held.
    np.testing.assert_allclose(pull, (2 * x - 1) / t, rtol=2e-5, atol=1e-6)


def test_certain_bits_and_impossible_classes():
    def bits(p):
        dist = lx.RelaxedBernoulli(0.5, probs=p)
        return dist.log_prob(0.25), dist.log_cdf(0.25), dist.survival(0.25)

    def classes(p):
        return lx.RelaxedOneHotCategorical(0.5, probs=p).log_prob(jnp.array([0.25, 0.25, 0.5]))

    p = jnp.array([0.0, 1.0])
    values, slopes = quick_jit(lambda p: (bits(p), jax.jacrev(bits)(p)))(p)
    np.testing.assert_array_equal(values, [[-np.inf] * 2, [0, -np.inf], [0, 1]])
    assert np.isfinite(slopes).all()
    value, slope = quick_jit(jax.value_and_grad(classes))(jnp.array([0.25, 0.75, 0.0]))
    assert value == -np.inf and np.isfinite(slope).all()


@pytest.mark.parametrize(
    "dist",
    [
        lx.RelaxedBernoulli(0.5, probs=0.0),
        lx.RelaxedBernoulli(0.5, probs=1.0),
        lx.RelaxedBernoulli(0.5, logits=np.inf),
        lx.RelaxedOneHotCategorical(0.5, probs=jnp.array([0.25, 0.75, 0.0])),
        lx.RelaxedOneHotCategorical(0.5, logits=jnp.array([0.0, 1.0, -np.inf])),
    ],
    ids=["0", "1", "infinite logits", "an impossible class", "its logits"],
)
def test_draws_without_a_density(dist):
    """A sure bit is a point, and x without a class lies on an edge: there is no density of the interior."""

    def log_prob(dist):
        value, log_prob = dist.sample_and_log_prob(jax.random.key(0))
        return log_prob, (value, dist.log_prob(value))

    (drawn, (value, alone)), slope = quick_jit(jax.value_and_grad(log_prob, has_aux=True))(dist)
    assert drawn == alone == -np.inf
    assert np.any((value == 0) | (value == 1))
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(slope))


def test_what_has_no_closed_form():
    for dist in (pair(0.5, 0.25, vector=False), pair(0.5, jnp.zeros(3), vector=True)):
        for method in ("mean", "mode", "variance", "entropy"):
            with pytest.raises(NotImplementedError, match=f"{method} has no closed form"):
                getattr(dist, method)()
