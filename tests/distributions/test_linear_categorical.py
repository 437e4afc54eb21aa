"""The vocabulary head as a distribution: the Categorical of its logits in every method, by tiles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import likelax as lx
from likelax.distributions import linear_categorical
from likelax.testing.subject import quick_jit
from whole_logits import products

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
    draws = jnp.asarray(RNG.integers(0, COLUMNS, (4, *BATCH)))

    @quick_jit
    def ask(dist):
        return [dist.log_prob(at) for at in (TOKEN, draws, 7)], dist.entropy(), dist.mode()

    (log_probs, entropy, mode), want = ask(dist), ask(plain)
    for got, truth in zip((*log_probs, entropy), (*want[0], want[1]), strict=True):
        np.testing.assert_allclose(got, truth, atol=3e-6)
    np.testing.assert_array_equal(mode, want[2])
    logits = np.asarray(HIDDEN @ KERNEL + BIAS)
    log_normalizer = special.logsumexp(logits, -1)
    np.testing.assert_allclose(dist.log_normalizer(), log_normalizer, atol=3e-6)
    np.testing.assert_allclose(dist.mean_log_prob(), logits.mean(-1) - log_normalizer, atol=3e-6)
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
        quick_jit(jax.grad(lambda h, k, f=f: jnp.sum(f(h, k)), (0, 1)))(hidden, other[0])
        for f in (tiled, whole)
    ]
    for got, want in zip(*slopes, strict=True):
        np.testing.assert_allclose(got, want, atol=2e-5)
    np.testing.assert_allclose(dist.kl_divergence(dist), 0, atol=2e-6)


@pytest.mark.parametrize("turned", [False, True])
def test_kl_between_a_head_and_logits_that_are_held(turned):
    held = RNG.normal(size=(11, COLUMNS)).astype(np.float32)  # one row for all of the first axis
    held[:, 4] = -np.inf if turned else -30.0  # no class of p; none of q would make it infinite

    def tiled(hidden, kernel, logits):
        pair = lx.LinearCategorical(hidden, kernel, block_size=17), lx.Categorical(logits=logits)
        return lx.kl_divergence(*(pair[::-1] if turned else pair))

    def dense(hidden, kernel, logits):
        log_p, log_q = (jax.nn.log_softmax(x) for x in (hidden @ kernel, logits))
        log_p, log_q = (log_q, log_p) if turned else (log_p, log_q)
        none = log_p == -jnp.inf
        return jnp.sum(jnp.exp(log_p) * (jnp.where(none, 0, log_p) - jnp.where(none, 0, log_q)), -1)

    arguments = HIDDEN, KERNEL, jnp.asarray(held)
    (got, slopes), (want, dense_slopes) = (
        (f(*arguments), quick_jit(jax.grad(lambda *x, f=f: jnp.sum(f(*x)), (0, 1, 2)))(*arguments))
        for f in (tiled, dense)
    )
    np.testing.assert_allclose(got, want, rtol=2e-5)
    for mine, theirs in zip(slopes, dense_slopes, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-5)
    # The control: the other way round is another number.
    other = dense(HIDDEN, KERNEL, jnp.maximum(held, -30.0)[:, ::-1])
    assert np.all(abs(np.asarray(other) - got) > 1e-3)
    assert got.shape == BATCH


def test_kl_from_probabilities_of_half_precision():
    hidden, kernel = HIDDEN.astype(jnp.bfloat16), KERNEL.astype(jnp.bfloat16)
    p = lx.Categorical(probs=jax.nn.softmax(jnp.asarray(RNG.normal(size=(11, COLUMNS)))))
    q = lx.LinearCategorical(hidden, kernel, softcap=2.0)
    want = p.kl_divergence(lx.Categorical(logits=q.logits()))
    np.testing.assert_allclose(p.kl_divergence(q), want, rtol=1e-4)
    with pytest.raises(ValueError, match="53 and 50 categories are not the same ones"):
        q.kl_divergence(lx.Categorical(logits=jnp.zeros(50)))


def test_samples_by_chi_squared_whatever_the_block(dist, plain):
    draws = np.asarray(quick_jit(lambda key: dist.sample(key, (200,)))(jax.random.key(2)))
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


def test_vmap_is_over_hidden_states_and_not_over_the_node():
    wide = lx.LinearCategorical(HIDDEN[0], KERNEL).broadcast_to(BATCH)
    assert wide.hidden.shape == (*BATCH, FEATURES) and wide.kernel.shape == (1, 1, *KERNEL.shape)
    with pytest.raises(ValueError, match="inconsistent sizes"):
        jax.vmap(lambda dist, token: dist.log_prob(token))(wide, TOKEN)
    mapped = jax.vmap(lambda h, t: lx.LinearCategorical(h, KERNEL).log_prob(t))
    want = lx.LinearCategorical(HIDDEN, KERNEL).log_prob(TOKEN)
    np.testing.assert_allclose(mapped(HIDDEN, TOKEN), want, atol=3e-6)


def test_kernels_of_an_ensemble(dist, plain):
    kernels = jnp.stack([KERNEL, -KERNEL])
    many = jax.vmap(lambda k: lx.LinearCategorical(HIDDEN, k, BIAS, block_size=17))(kernels)
    want = lx.Categorical(logits=jnp.stack([HIDDEN @ KERNEL + BIAS, BIAS - HIDDEN @ KERNEL]))
    assert many.batch_shape == (2, *BATCH) and many.kernel.size == 2 * KERNEL.size
    ask = quick_jit(lambda p, q: (p.log_prob(TOKEN), p.entropy(), p.mode(), p.kl_divergence(q)))
    got, want = ask(many, dist), ask(want, plain)
    np.testing.assert_allclose(got[0], want[0], atol=3e-6)
    np.testing.assert_allclose(got[1], want[1], atol=3e-6)
    np.testing.assert_array_equal(got[2], want[2])
    np.testing.assert_allclose(got[3], want[3], atol=2e-5)
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


WEIGHT = jnp.asarray(RNG.normal(size=BATCH), jnp.float32)


def of_tiles(hidden, kernel, bias):
    return lx.LinearCategorical(hidden, kernel, bias, block_size=17)


def of_logits(hidden, kernel, bias):
    return lx.Categorical(logits=hidden @ kernel + bias)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda dist: dist,
        lambda dist: dist.mask(MASK),
        lambda dist: dist.to_event(1),
        lambda dist: dist.to_event(1).mask(MASK[:, 2]),
    ],
    ids=["plain", "masked", "event", "masked event"],
)
def test_a_weighted_sum_is_that_of_the_parts(wrap):
    batch = wrap(of_logits(HIDDEN, KERNEL, BIAS)).batch_shape
    weight = WEIGHT if batch == BATCH else WEIGHT[:, 1]

    def slopes(call):
        return quick_jit(jax.value_and_grad(call, (0, 1, 2, 3), has_aux=True))

    def summed(*arrays):
        log_prob = wrap(of_logits(*arrays[:3])).log_prob(TOKEN)
        return jnp.sum(arrays[3] * log_prob), log_prob

    want = slopes(summed)(HIDDEN, KERNEL, BIAS, weight)
    for make in (of_tiles, of_logits):
        got = slopes(lambda *a, make=make: wrap(make(*a[:3])).weighted_log_prob(TOKEN, a[3]))(
            HIDDEN, KERNEL, BIAS, weight
        )
        for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(g, w, atol=2e-5)


@pytest.mark.parametrize("event", [False, True])
def test_a_weight_of_nothing_and_a_value_that_cannot_be(event):
    """Of any distribution: what has no weight adds nothing, whatever it is."""
    rate, value = jnp.array([0.5, 2.0, 3.0]), jnp.array([[1.0, -1.0, 2.0], [0.3, 1.5, jnp.nan]])
    weight = jnp.array([[2.0, 0.0, 1.0], [0.5, 1.0, 0.0]])
    if event:
        rate, value, weight = rate[:, None], value[..., None], weight

    def total(rate, weight):
        dist = lx.Exponential(rate)
        return (dist.to_event(1) if event else dist).weighted_log_prob(value, weight)

    (got, log_prob), (by_rate, by_weight) = jax.value_and_grad(total, (0, 1), has_aux=True)(
        rate, weight
    )
    kept = [(0, 0), (0, 2), (1, 0), (1, 1)]
    r, x = np.ravel(rate), np.asarray(value).reshape(2, 3)
    want = sum(float(weight[k]) * (np.log(r[k[1]]) - r[k[1]] * x[k]) for k in kept)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    slopes = [
        sum(float(weight[k]) * (1 / r[i] - x[k]) for k in kept if k[1] == i) for i in range(3)
    ]
    np.testing.assert_allclose(np.ravel(by_rate)[:2], slopes[:2], rtol=1e-5)  # 3 met the NaN
    assert log_prob[0, 1] == -np.inf and np.isnan(log_prob[1, 2])
    for k in kept:
        np.testing.assert_allclose(by_weight[k], log_prob[k], rtol=1e-6)
    assert total(rate, weight.at[0, 1].set(1.0))[0] == -np.inf


def test_what_is_masked_out_may_be_nan_in_the_hidden_states():
    hidden, keep = HIDDEN.at[0, 0].set(jnp.nan), MASK.at[0, 0].set(False)

    def slopes(call, hidden):
        return jax.grad(lambda *a: call(of_tiles(*a).mask(keep)), (0, 1, 2))(hidden, KERNEL, BIAS)

    for call in (
        lambda dist: dist.weighted_log_prob(TOKEN, WEIGHT)[0],
        lambda dist: jnp.sum(WEIGHT * dist.log_prob(TOKEN)),
    ):
        for spoilt, sound in zip(slopes(call, hidden), slopes(call, HIDDEN), strict=True):
            np.testing.assert_allclose(spoilt, sound, atol=2e-5)


def test_a_weighted_sum_over_an_ensemble():
    kernels, weight = jnp.stack([KERNEL, -KERNEL]), jnp.stack([WEIGHT, 2 * WEIGHT])
    many = jax.vmap(lambda k: of_tiles(HIDDEN, k, BIAS))(kernels)
    total, log_prob = many.weighted_log_prob(TOKEN, weight)
    want = [of_logits(HIDDEN, k, BIAS).log_prob(TOKEN) for k in kernels]
    np.testing.assert_allclose(log_prob, want, atol=3e-6)
    np.testing.assert_allclose(total, np.sum(weight * jnp.stack(want)), rtol=1e-5)


def test_a_batch_too_wide_to_hold_goes_by_tiles(monkeypatch):
    monkeypatch.setattr(linear_categorical, "_HELD_TOKENS", 0)
    monkeypatch.setattr(linear_categorical, "_HELD_BYTES", 4 * COLUMNS // 2)

    def loss(hidden, kernel):  # of a width that nothing else here has: traced anew
        dist = lx.LinearCategorical(hidden, kernel, BIAS, block_size=19)
        return dist.weighted_log_prob(TOKEN, WEIGHT)[0]

    assert products(jax.grad(loss, (0, 1)), HIDDEN, KERNEL) == 4
    np.testing.assert_allclose(
        loss(HIDDEN, KERNEL),
        np.sum(WEIGHT * of_logits(HIDDEN, KERNEL, BIAS).log_prob(TOKEN)),
        rtol=1e-5,
    )


def test_a_wide_batch_costs_no_more_memory_than_a_long_one():
    features, columns = 4, 5000

    def temporary(shape):
        spec = jax.ShapeDtypeStruct
        hidden = spec((*shape, features), jnp.float32)
        kernel, token = spec((features, columns), jnp.float32), spec(shape, jnp.int32)

        def loss(hidden, kernel, token):
            dist = lx.LinearCategorical(hidden, kernel)
            return dist.weighted_log_prob(token, jnp.ones(token.shape))[0]

        program = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(hidden, kernel, token).compile()
        return program.memory_analysis().temp_size_in_bytes

    long, wide = temporary((16384,)), temporary((8192, 2))
    assert wide < 1.2 * long < 4 * 16384 * columns


def test_an_empty_batch_and_weights_of_nothing_beside_logits_that_overflow():
    def loss(hidden, kernel, token, weight):
        return lx.LinearCategorical(hidden, kernel).weighted_log_prob(token, weight)[0]

    grad = jax.grad(loss, (0, 1))
    for shape in ((0,), (3, 0)):
        none = jnp.zeros((*shape, 5)), KERNEL, jnp.zeros(shape, jnp.int32), jnp.zeros(shape)
        assert loss(*none) == 0
        assert all(np.all(g == 0) for g in grad(*none))
    hidden = jnp.stack([jnp.full(5, 1e30), jnp.ones(5)])
    kernel = KERNEL.at[:, 0].set(1e30)
    slopes = grad(hidden, kernel, jnp.array([0, 0]), jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(slopes[1], 0, atol=1e-6)  # sure of its token
    bare = grad(hidden, kernel, jnp.array([0, 0]), jnp.array([1.0, 1.0]))
    assert not np.all(np.isfinite(bare[1]))  # the control


def test_the_most_probable_of_fewer_columns_than_are_wanted():
    bias = jnp.full(13, -jnp.inf).at[jnp.array([5, 9])].set(jnp.array([2.0, 1.0]))
    dist = lx.LinearCategorical(jnp.zeros(2), jnp.ones((2, 13)), bias, block_size=4)
    columns, log_prob = dist.top_k(5)
    np.testing.assert_array_equal(columns, jax.lax.top_k(bias, 5)[1])
    np.testing.assert_allclose(log_prob[:2], jax.nn.log_softmax(jnp.array([2.0, 1.0])), rtol=1e-6)
    assert np.all(np.asarray(log_prob[2:]) == -np.inf)


@pytest.mark.parametrize("columns", [7, 300])
def test_tied_tables_of_an_ensemble_in_half_precision(columns):
    rng = np.random.default_rng(2)
    hidden = jnp.asarray(rng.normal(size=(24, 5)), jnp.bfloat16)
    tables = jnp.asarray(rng.normal(size=(3, columns, 5)), jnp.bfloat16)
    token = jnp.asarray(rng.integers(0, columns, 24))

    def tied(table):
        dist = lx.LinearCategorical(hidden, table.T, block_size=100)
        return dist.weighted_log_prob(token, jnp.ones(24))[0]

    def whole(table):
        log_p = jax.nn.log_softmax(hidden.astype(jnp.float32) @ table.T)
        return jnp.sum(log_p[jnp.arange(24), token])

    got = quick_jit(jax.vmap(jax.grad(tied)))(tables)
    want = jax.vmap(jax.grad(whole))(tables.astype(jnp.float32))
    scale = np.abs(want).max()
    np.testing.assert_allclose(got.astype(jnp.float32), want, atol=1e-2 * scale)


def test_small_weights_of_half_precision_keep_their_slopes():
    hidden, kernel = HIDDEN.astype(jnp.float16), KERNEL.astype(jnp.float16)

    def slope(weight):
        loss = lambda k: lx.LinearCategorical(hidden, k).weighted_log_prob(TOKEN, weight)[0]  # noqa: E731
        return np.asarray(jax.grad(loss)(kernel), np.float64)

    one, tiny = slope(WEIGHT), slope(1e-3 * WEIGHT)
    # The result is of half precision itself: so many units of its smallest.
    np.testing.assert_allclose(tiny, 1e-3 * one, rtol=2e-3, atol=1e-7)


WRONG = {
    "no columns": (
        lambda: lx.LinearCategorical(HIDDEN, KERNEL[:, :0]),
        ValueError,
        r"kernel has at least one column, got shape \(1, 1, 5, 0\)",
    ),
    "a cap that is none": (
        lambda: lx.LinearCategorical(HIDDEN, KERNEL, softcap=np.inf),
        ValueError,
        "softcap is positive and finite, got inf",
    ),
    "a block of True": (
        lambda: lx.LinearCategorical(HIDDEN, KERNEL, block_size=True),
        ValueError,
        "block_size is a positive whole number, got True",
    ),
    "weights of another shape": (
        lambda: of_tiles(HIDDEN, KERNEL, BIAS).weighted_log_prob(TOKEN, WEIGHT[:, 0]),
        ValueError,
        r"one weight for each log-density wanted, shape \(3, 11\), got \(3,\); "
        r"write jnp.broadcast_to\(weight, \(3, 11\)\)",
    ),
    "kernel turned": (
        lambda: lx.LinearCategorical(HIDDEN, KERNEL.T),
        ValueError,
        r"kernel of shape \(53, 5\) does not fit hidden of shape \(3, 11, 5\)",
    ),
    "bias": (
        lambda: lx.LinearCategorical(HIDDEN, KERNEL, BIAS[:5]),
        ValueError,
        r"bias of shape \(5,\) does not fit kernel of shape \(5, 53\)",
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
        r"softcap is positive and finite, got -1\.0",
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
