"""The vocabulary head as a distribution: the Categorical of its logits in every method, by tiles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import likelax as lx

RNG = np.random.default_rng(1)
BATCH, FEATURES, COLUMNS = (3, 11), 5, 53
HIDDEN = jnp.asarray(RNG.normal(size=(*BATCH, FEATURES)), jnp.float32)
KERNEL = jnp.asarray(RNG.normal(size=(FEATURES, COLUMNS)), jnp.float32)
BIAS = jnp.asarray(RNG.normal(size=COLUMNS), jnp.float32)
TOKEN = jnp.asarray(RNG.integers(0, COLUMNS, BATCH))
MASK = jnp.asarray(RNG.integers(0, 2, BATCH), bool)


@pytest.fixture(scope="module")
def dist():
    return lx.LinearCategorical(HIDDEN, KERNEL, BIAS, block_size=17)


@pytest.fixture(scope="module")
def plain():
    return lx.Categorical(logits=HIDDEN @ KERNEL + BIAS)


def test_it_is_the_categorical_of_its_logits(dist, plain):
    assert dist.batch_shape == BATCH and dist.event_shape == () and dist.num_categories == COLUMNS
    np.testing.assert_allclose(dist.log_prob(TOKEN), plain.log_prob(TOKEN), atol=3e-6)
    draws = jnp.asarray(RNG.integers(0, COLUMNS, (4, *BATCH)))
    np.testing.assert_allclose(dist.log_prob(draws), plain.log_prob(draws), atol=3e-6)
    np.testing.assert_allclose(dist.log_prob(7), plain.log_prob(7), atol=3e-6)
    np.testing.assert_allclose(dist.entropy(), plain.entropy(), atol=3e-6)
    logits = HIDDEN @ KERNEL + BIAS
    np.testing.assert_allclose(dist.log_normalizer(), jax.nn.logsumexp(logits, -1), atol=3e-6)
    np.testing.assert_allclose(dist.mean_log_prob(), jax.nn.log_softmax(logits).mean(-1), atol=3e-6)
    np.testing.assert_array_equal(dist.mode(), plain.mode())
    for outside in (-1, -100, COLUMNS):
        np.testing.assert_array_equal(dist.log_prob(outside), -np.inf)


def test_the_most_probable_tokens(dist, plain):
    token, log_prob = dist.top_k(6)
    want, columns = jax.lax.top_k(jax.nn.log_softmax(plain.logits), 6)
    np.testing.assert_array_equal(token, columns)
    np.testing.assert_allclose(log_prob, want, atol=3e-6)
    np.testing.assert_array_equal(dist.top_k(COLUMNS)[0], jnp.argsort(-plain.logits, -1))


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_kl_between_heads_of_different_width(dist, plain, softcap):
    other = jnp.asarray(RNG.normal(size=(2, 8, COLUMNS)), jnp.float32)

    def tiled(hidden, kernel):
        q = lx.LinearCategorical(hidden, kernel, softcap=softcap, block_size=10)
        return dist.kl_divergence(q)

    def whole(hidden, kernel):
        logits = hidden @ kernel
        logits = logits if softcap is None else softcap * jnp.tanh(logits / softcap)
        return plain.kl_divergence(lx.Categorical(logits=logits))

    hidden = jnp.asarray(RNG.normal(size=(*BATCH, 8)), jnp.float32)
    np.testing.assert_allclose(tiled(hidden, other[0]), whole(hidden, other[0]), rtol=2e-5)
    slopes = [
        jax.jit(jax.grad(lambda h, k, f=f: jnp.sum(f(h, k)), (0, 1)))(hidden, other[0])
        for f in (tiled, whole)
    ]
    for got, want in zip(*slopes, strict=True):
        np.testing.assert_allclose(got, want, atol=2e-5)
    np.testing.assert_allclose(dist.kl_divergence(dist), 0, atol=2e-6)


def test_samples_by_chi_squared_whatever_the_block(dist, plain):
    draws = np.asarray(jax.jit(lambda key: dist.sample(key, (200,)))(jax.random.key(2)))
    probs = np.asarray(plain.probs, np.float64)
    counts = np.zeros_like(probs)
    for i, j in np.ndindex(BATCH):
        counts[i, j] = np.bincount(draws[:, i, j], minlength=COLUMNS)
    # All elements together: sums over 33 independent tables of expectations above 5.
    expected = 200 * probs
    large = expected > 5
    statistic = np.sum((counts - expected)[large] ** 2 / expected[large])
    # Each table's variance terms are (1 - p): the mean of the statistic is their sum.
    mean, spread = np.sum((1 - probs)[large]), np.sqrt(2 * large.sum())
    assert abs(statistic - mean) < 4 * spread
    shuffled = np.sum((counts[::-1] - expected)[large] ** 2 / expected[large])
    assert shuffled > mean + 40 * spread  # the control
    one = lx.LinearCategorical(HIDDEN, KERNEL, BIAS)  # a single block
    key = jax.random.key(3)
    np.testing.assert_array_equal(dist.sample(key, (2,)), one.sample(key, (2,)))
    assert dist.sample(key).dtype == jnp.int32


def test_masks_events_and_indices_leave_the_kernel_as_it_is(dist, plain):
    masked = dist.mask(MASK)
    np.testing.assert_allclose(masked.log_prob(TOKEN), plain.mask(MASK).log_prob(TOKEN), atol=3e-6)
    hidden = HIDDEN.at[0, 0].set(jnp.nan)
    keep = MASK.at[0, 0].set(False)

    def loss(make):
        return lambda h, k, b: make(h, k, b).mask(keep).log_prob(TOKEN).sum()

    got = jax.grad(loss(lambda h, k, b: lx.LinearCategorical(h, k, b, block_size=17)), (0, 1, 2))
    want = jax.grad(loss(lambda h, k, b: lx.Categorical(logits=h @ k + b)), (0, 1, 2))
    for g, w in zip(got(HIDDEN, KERNEL, BIAS), want(HIDDEN, KERNEL, BIAS), strict=True):
        np.testing.assert_allclose(g, w, atol=2e-5)
    assert np.isfinite(got(hidden, KERNEL, BIAS)[0]).all()
    event = dist.to_event(1)
    np.testing.assert_allclose(event.log_prob(TOKEN), plain.log_prob(TOKEN).sum(-1), rtol=1e-5)
    part = dist[1, 2:5]
    np.testing.assert_allclose(
        part.log_prob(TOKEN[1, 2:5]), plain.log_prob(TOKEN)[1, 2:5], atol=3e-6
    )
    for changed in (dist.broadcast_to((2, *BATCH)), part, dist[:, None]):
        assert changed.kernel.size == KERNEL.size and changed.bias.size == BIAS.size
    assert masked.base.kernel.size == KERNEL.size


def test_kernels_of_an_ensemble(dist, plain):
    kernels = jnp.stack([KERNEL, -KERNEL])
    many = jax.vmap(lambda k: lx.LinearCategorical(HIDDEN, k, BIAS, block_size=17))(kernels)
    want = lx.Categorical(logits=jnp.stack([HIDDEN @ KERNEL + BIAS, BIAS - HIDDEN @ KERNEL]))
    assert many.batch_shape == (2, *BATCH) and many.kernel.size == 2 * KERNEL.size
    np.testing.assert_allclose(many.log_prob(TOKEN), want.log_prob(TOKEN), atol=3e-6)
    np.testing.assert_allclose(many.entropy(), want.entropy(), atol=3e-6)
    np.testing.assert_array_equal(many.mode(), want.mode())
    np.testing.assert_allclose(many.kl_divergence(dist), want.kl_divergence(plain), atol=2e-5)
    key = jax.random.key(5)
    np.testing.assert_array_equal(many.sample(key).shape, (2, *BATCH))


def test_it_learns_a_skewed_table():
    """Maximum likelihood of a bias alone is the table of frequencies."""
    counts = np.array([50, 7, 30, 1, 12])
    tokens = np.repeat(np.arange(5), counts)
    hidden, kernel = jnp.zeros((100, 1)), jnp.zeros((1, 5))

    def loss(bias):
        return -lx.LinearCategorical(hidden, kernel, bias, block_size=2).log_prob(tokens).mean()

    bias = jnp.log(jnp.asarray(counts / 100, jnp.float32))
    np.testing.assert_allclose(loss(bias), stats.entropy(counts), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(loss)(bias), 0, atol=1e-6)


WRONG = {
    "kernel turned": (
        lambda: lx.LinearCategorical(HIDDEN, KERNEL.T),
        ValueError,
        r"kernel of shape \(1, 1, 53, 5\) does not fit hidden of shape \(3, 11, 5\)",
    ),
    "bias": (
        lambda: lx.LinearCategorical(HIDDEN, KERNEL, BIAS[:5]),
        ValueError,
        r"bias of shape \(1, 1, 5\) does not fit kernel of shape \(1, 1, 5, 53\)",
    ),
    "kernel flat": (
        lambda: lx.LinearCategorical(HIDDEN, KERNEL[0]),
        ValueError,
        r"kernel has at least 2 axes, got shape \(53,\)",
    ),
    "whole numbers": (
        lambda: lx.LinearCategorical(TOKEN, KERNEL),
        TypeError,
        r"hidden is of real numbers, got int32.*astype\(float\)",
    ),
    "block": (
        lambda: lx.LinearCategorical(HIDDEN, KERNEL, block_size=0),
        ValueError,
        "block_size is a positive whole number, got 0",
    ),
    "softcap": (
        lambda: lx.LinearCategorical(HIDDEN, KERNEL, softcap=-1.0),
        ValueError,
        r"softcap is positive, got -1\.0",
    ),
    "top none": (
        lambda: lx.LinearCategorical(HIDDEN, KERNEL).top_k(0),
        ValueError,
        "k is a whole number from 1 to 53, got 0",
    ),
    "other vocabulary": (
        lambda: lx.LinearCategorical(HIDDEN, KERNEL).kl_divergence(
            lx.LinearCategorical(HIDDEN, KERNEL[:, :50])
        ),
        ValueError,
        "53 and 50 categories are not the same ones",
    ),
    "float tokens": (
        lambda: lx.LinearCategorical(HIDDEN, KERNEL).log_prob(TOKEN * 1.0),
        TypeError,
        r"write value\.astype\(int\)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_named(case):
    call, error, match = WRONG[case]
    with pytest.raises(error, match=match):
        call()
