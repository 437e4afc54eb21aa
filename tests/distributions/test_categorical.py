"""Bernoulli, Categorical, OneHotCategorical and OrderedLogistic against NumPy, SciPy and mpmath."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import scipy.special as sp
import scipy.stats as st

from likelax.distributions.base import Distribution
from likelax.distributions.categorical import (
    Bernoulli,
    Categorical,
    OneHotCategorical,
    OrderedLogistic,
)
from likelax.testing.subject import quick_jit

LOGITS = jnp.array([[0.3, -1.2, 2.0, 0.1], [-3.0, 0.5, -jnp.inf, 4.0]])
PROBS = np.asarray(sp.softmax(np.asarray(LOGITS, float), -1))
LABELS = np.arange(4)[:, None]  # every class, against the batch


def chi_squared_p(samples, probs) -> float:
    """The p-value of counts of 0..K-1; classes that must not occur fail outright."""
    counts = np.bincount(np.asarray(samples).ravel(), minlength=len(probs))
    assert not counts[probs == 0].any()
    kept = probs > 0
    return st.chisquare(counts[kept], counts.sum() * probs[kept] / probs[kept].sum()).pvalue


# ---- Bernoulli ----


def test_bernoulli_is_binary_cross_entropy_to_the_last_digit():
    logits = np.array([-100.0, -20.0, -1.5, 0.0, 0.7, 30.0, 100.0])
    for x in (0, 1):
        truth = [float(-mp.log1p(mp.exp(-l if x else l))) for l in logits]
        got = Bernoulli(logits=jnp.asarray(logits, jnp.float32)).log_prob(x)
        np.testing.assert_allclose(got, truth, rtol=3e-7, atol=1e-37)


def test_bernoulli_gradient_where_zero_initialised_heads_start():
    def textbook(l, x):  # max(l, 0) - l x + log1p(exp(-|l|)), as it is often written
        return -(jax.nn.relu(l) - l * x + jnp.log1p(jnp.exp(-jnp.abs(l))))

    for x, slope in ((0.0, -0.5), (1.0, 0.5)):
        assert jax.grad(lambda l, x=x: Bernoulli(logits=l).log_prob(x))(0.0) == slope
        assert jax.grad(textbook)(0.0, x) != slope  # the trap is real


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_bernoulli_certain_probs(p):
    dist = Bernoulli(probs=p)
    log_prob = dist.log_prob(jnp.array([0, 1]))
    assert log_prob.tolist() == ([-np.inf, 0.0] if p else [0.0, -np.inf])
    for x in (0, 1):
        slope = jax.grad(lambda p, x=x: Bernoulli(probs=p).log_prob(x))(p)
        assert np.isfinite(slope)
    assert dist.entropy() == 0
    assert dist.sample(jax.random.key(0), (9,)).tolist() == [int(p)] * 9


def test_bernoulli_infinite_logits_are_certain():
    dist = Bernoulli(logits=jnp.array([jnp.inf, -jnp.inf]))
    assert dist.log_prob(1).tolist() == [0.0, -np.inf]
    assert dist.log_prob(0).tolist() == [-np.inf, 0.0]


@pytest.mark.parametrize("value", [True, 1, 1.0, np.int8(1), jnp.bfloat16(1)])
def test_bernoulli_takes_booleans_integers_and_floats(value):
    assert Bernoulli(probs=0.25).log_prob(value) == np.float32(np.log(0.25))


def test_bernoulli_outside_its_support():
    log_prob = Bernoulli(logits=0.3).log_prob(jnp.array([-1.0, 0.5, 2.0, jnp.nan]))
    np.testing.assert_array_equal(log_prob, [-np.inf, -np.inf, -np.inf, np.nan])


def test_bernoulli_summaries_tails_and_quantile():
    p = np.array([0.1, 0.5, 0.9])
    ref, x = st.bernoulli(p), np.array([[-1.0], [0.0], [0.5], [1.0], [3.0]])
    for dist in (Bernoulli(probs=p), Bernoulli(logits=sp.logit(p))):
        for name, truth in (("cdf", ref.cdf), ("survival", ref.sf)):
            np.testing.assert_allclose(getattr(dist, name)(x), truth(x), rtol=1e-6)
        np.testing.assert_allclose(dist.log_survival(0), np.log(p), rtol=1e-6)
        np.testing.assert_allclose(dist.log_cdf(0), np.log1p(-p), rtol=1e-6)
        np.testing.assert_allclose(dist.entropy(), ref.entropy(), rtol=1e-6)
        np.testing.assert_allclose(dist.variance(), ref.var(), rtol=1e-6)
        np.testing.assert_allclose(dist.mean(), p, rtol=1e-6)
        assert dist.mode().tolist() == [0, 0, 1]
        q = np.array([[0.0], [0.05], [0.45], [0.95], [1.0]])
        assert dist.quantile(q).tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1], [1, 1, 1], [1, 1, 1]]
    assert dist.sample(jax.random.key(0)).dtype == jnp.int32


# ---- Categorical ----


@pytest.mark.parametrize("given", ["logits", "probs"])
def test_categorical_log_prob(given):
    dist = Categorical(logits=LOGITS) if given == "logits" else Categorical(probs=PROBS)
    with np.errstate(divide="ignore"):
        truth = np.log(PROBS).T
    np.testing.assert_allclose(dist.log_prob(LABELS), truth, rtol=1e-6, atol=2e-7)
    np.testing.assert_allclose(np.exp(dist.log_prob(LABELS)).sum(0), 1, rtol=1e-6)


def test_categorical_gradient_is_one_hot_less_softmax():
    slope = jax.grad(lambda l: Categorical(logits=l).log_prob(jnp.array([1, 3])).sum())(LOGITS)
    np.testing.assert_allclose(slope, np.eye(4)[[1, 3]] - PROBS, atol=1e-6)
    impossible = jax.grad(lambda l: Categorical(logits=l).log_prob(2))(LOGITS[1])
    assert np.isfinite(impossible).all()
    certain = jax.grad(lambda p: Categorical(probs=p).log_prob(1))(jnp.array([0.0, 1.0, 0.0]))
    assert certain.tolist() == [0.0, 1.0, 0.0]


def test_categorical_nothing_possible_is_no_nan():
    logits = jnp.full(3, -jnp.inf)
    value, slope = jax.value_and_grad(lambda l: Categorical(logits=l).log_prob(1))(logits)
    assert value == -np.inf
    assert np.isfinite(slope).all()


def test_categorical_keeps_its_digits_beside_a_large_offset():
    offset, label = 1e6, 2
    logits = jnp.array([0.25, -1.0, 0.5]) + jnp.float32(offset)
    truth = sp.log_softmax([0.25, -1.0, 0.5])[label]
    assert abs(Categorical(logits=logits).log_prob(label) - truth) < 1e-6
    plain = logits[label] - jax.nn.logsumexp(logits)
    assert abs(plain - truth) > 1e-3  # the control: subtracting afterwards loses them


@pytest.mark.parametrize("label", [-1, 3, 7, -(2**31)])
def test_labels_outside_the_classes(label):
    for make in (lambda x: Categorical(logits=x), lambda x: Categorical(probs=jax.nn.softmax(x))):
        log_prob = lambda x, make=make: make(x).log_prob(label)  # noqa: E731
        value, slope = jax.value_and_grad(log_prob)(jnp.array([0.1, 0.2, 0.3]))
        assert value == -np.inf
        assert slope.tolist() == [0.0, 0.0, 0.0]


def test_small_label_dtypes_hold_more_classes_than_they_can_count():
    dist = Categorical(logits=jnp.linspace(0.0, 5.0, 300))
    for dtype in (jnp.uint8, jnp.int8, jnp.int16, jnp.uint32):
        assert dist.log_prob(jnp.array(77, dtype)) == dist.log_prob(77)
    assert Categorical(logits=jnp.zeros(2)).log_prob(True) == np.float32(-np.log(2))


def test_categorical_refuses_what_is_no_label_or_no_logit():
    with pytest.raises(
        TypeError, match=r"count the classes from 0, got float32.*value.astype\(int\)"
    ):
        Categorical(logits=LOGITS).log_prob(jnp.array([0.0, 1.0]))
    with pytest.raises(TypeError, match="logits are real numbers, got int32"):
        Categorical(logits=jnp.array([1, 2, 3]))
    with pytest.raises(TypeError, match="exactly one of logits= or probs=, got none"):
        Categorical()
    with pytest.raises(TypeError, match="got logits= and probs="):
        Categorical(logits=LOGITS, probs=PROBS)
    with pytest.raises(ValueError, match="shape"):
        Categorical(logits=0.5)


def test_selection_is_no_gather_where_the_classes_are_sharded():
    def loss(logits, labels):
        return Categorical(logits=logits).log_prob(labels).sum()

    labels = jnp.array([0, 3])
    slope = jax.grad(loss)
    here = str(jax.make_jaxpr(slope)(LOGITS, labels))
    assert "gather" in here  # the control: on one device it is one, forward only
    assert "scatter" not in here
    mesh = jax.make_mesh((1,), ("classes",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        sharded = jax.reshard(LOGITS, jax.sharding.PartitionSpec(None, "classes"))
        text = str(jax.make_jaxpr(slope)(sharded, labels))
        assert "gather" not in text
        assert "scatter" not in text
        np.testing.assert_array_equal(slope(sharded, labels), slope(LOGITS, labels))
        np.testing.assert_allclose(loss(sharded, labels), loss(LOGITS, labels), rtol=1e-7)


@pytest.mark.parametrize("given", ["logits", "probs"])
def test_categorical_tails_and_summaries(given):
    dist = Categorical(logits=LOGITS) if given == "logits" else Categorical(probs=PROBS)
    k = np.arange(4)
    cdf = np.cumsum(PROBS, -1)
    for j in range(-1, 5):
        below = cdf[:, min(j, 3)] if j >= 0 else np.zeros(2)
        np.testing.assert_allclose(dist.cdf(j), below, atol=3e-7)
        np.testing.assert_allclose(dist.survival(j), PROBS[:, max(j + 1, 0) :].sum(-1), atol=3e-7)
        np.testing.assert_allclose(np.exp(dist.log_cdf(j)), dist.cdf(j), rtol=1e-6)
        np.testing.assert_allclose(np.exp(dist.log_survival(j)), dist.survival(j), rtol=1e-6)
    mean = PROBS @ k
    np.testing.assert_allclose(dist.mean(), mean, rtol=1e-6)
    np.testing.assert_allclose(dist.variance(), PROBS @ k**2 - mean**2, rtol=1e-5)
    np.testing.assert_allclose(dist.entropy(), sp.entr(PROBS).sum(-1), rtol=1e-6)
    assert dist.mode().tolist() == [2, 3]
    for q in (1e-6, 0.1, 0.3, 0.7, 0.99):
        assert dist.quantile(q).tolist() == (cdf < q).sum(-1).tolist()


def test_categorical_quantile_stays_on_possible_classes():
    probs = jnp.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.0])
    dist = Categorical(probs=probs)
    assert dist.quantile(jnp.nextafter(jnp.float32(1), jnp.float32(0))) == 4
    assert dist.quantile(1e-30) == 1
    np.testing.assert_array_equal(dist.quantile(jnp.array([0.0, 1.0, -0.1])), [0, 5, np.nan])


def test_categorical_samples():
    samples = Categorical(logits=LOGITS).sample(jax.random.key(3), (20_000,))
    assert samples.shape == (20_000, 2)
    assert samples.dtype == jnp.int32
    assert min(chi_squared_p(samples[:, i], PROBS[i]) for i in (0, 1)) > 1e-3
    assert chi_squared_p(samples[:, 0], np.roll(PROBS[0], 1)) < 1e-9
    zeros = Categorical(probs=jnp.array([0.5, 0.0, 0.5])).sample(jax.random.key(4), (2000,))
    assert chi_squared_p(zeros, np.array([0.5, 0.0, 0.5])) > 1e-3


# ---- KL ----


def brute_kl(p, q) -> float:
    return float(sum(a * mp.log(mp.mpf(a) / b) for a, b in zip(p, q, strict=True) if a))


def test_categorical_kl():
    p, q = np.array([0.5, 0.0, 0.2, 0.3]), np.array([0.1, 0.2, 0.3, 0.4])
    for make in (Categorical, OneHotCategorical):
        left, right = make(probs=p), make(probs=q)
        np.testing.assert_allclose(left.kl_divergence(right), brute_kl(p, q), rtol=1e-6)
        assert right.kl_divergence(left) == np.inf
        assert left.kl_divergence(left) == 0
        both = make(logits=jnp.log(q))
        np.testing.assert_allclose(left.kl_divergence(both), brute_kl(p, q), rtol=1e-6)
        slope = jax.grad(lambda q, make=make, left=left: left.kl_divergence(make(probs=q)))(
            jnp.asarray(q)
        )
        np.testing.assert_allclose(slope, 1 - p / q, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="4 classes on the left, 3 on the right"):
        Categorical(probs=p).kl_divergence(Categorical(probs=jnp.ones(3) / 3))
    with pytest.raises(ValueError, match=r"event shapes \(4,\) and \(3,\) differ"):
        left.kl_divergence(OneHotCategorical(probs=jnp.ones(3) / 3))


def test_kl_of_close_distributions_keeps_its_digits():
    logits = jnp.array([0.2, -1.0, 1.3])
    near = logits + jnp.array([1e-4, -2e-4, 0.5e-4])
    exact = [[mp.exp(mp.mpf(float(x))) for x in row] for row in (logits, near)]
    p, q = ([w / sum(row) for w in row] for row in exact)
    truth = float(mp.fsum(a * mp.log(a / b) for a, b in zip(p, q, strict=True)))
    got = Categorical(logits=logits).kl_divergence(Categorical(logits=near))
    assert abs(got / truth - 1) < 0.01
    log_p, log_q = jax.nn.log_softmax(logits), jax.nn.log_softmax(near)
    plain = jnp.sum(jnp.exp(log_p) * (log_p - log_q))
    assert abs(plain / truth - 1) > 0.1  # the control: a cancelling sum


def test_bernoulli_kl():
    p, q = np.array([0.3, 0.0, 1.0, 0.5]), np.array([0.8, 0.4, 0.1, 0.0])
    truth = [brute_kl([a, 1 - a], [b, 1 - b]) if b else np.inf for a, b in zip(p, q, strict=True)]
    got = Bernoulli(probs=p).kl_divergence(Bernoulli(probs=q))
    np.testing.assert_allclose(got, truth, rtol=1e-6)
    far = Bernoulli(logits=200.0).kl_divergence(Bernoulli(logits=-300.0))
    np.testing.assert_allclose(far, 300, rtol=1e-6)


# ---- OneHotCategorical ----


def test_one_hot_is_the_categorical_of_its_index():
    dist = OneHotCategorical(logits=LOGITS)
    assert dist.event_shape == (4,)
    assert dist.batch_shape == (2,)
    rows = jnp.eye(4)[:, None, :]
    index = Categorical(logits=LOGITS)
    np.testing.assert_allclose(dist.log_prob(rows), index.log_prob(LABELS), rtol=1e-6)
    given = OneHotCategorical(probs=PROBS)
    np.testing.assert_allclose(given.log_prob(rows), index.log_prob(LABELS), rtol=1e-6, atol=2e-7)
    np.testing.assert_allclose(dist.mean(), PROBS, rtol=1e-6)
    np.testing.assert_allclose(dist.variance(), PROBS * (1 - PROBS), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(dist.entropy(), index.entropy())
    assert dist.mode().tolist() == np.eye(4, dtype=int)[[2, 3]].tolist()
    slope = jax.grad(lambda l: OneHotCategorical(logits=l).log_prob(rows[:, 0]).sum())(LOGITS[0])
    np.testing.assert_allclose(slope, 1 - 4 * PROBS[0], atol=1e-6)


def test_one_hot_outside_its_support():
    dist = OneHotCategorical(probs=jnp.array([0.2, 0.3, 0.5]))
    bad = jnp.array([[0, 0, 0], [1, 1, 0], [0.5, 0.5, 0], [0, 2, 0], [-1, 1, 1], [0, jnp.nan, 1]])
    np.testing.assert_array_equal(dist.log_prob(bad), [-np.inf] * 5 + [np.nan])


def test_one_hot_samples():
    samples = OneHotCategorical(logits=LOGITS).sample(jax.random.key(5), (5000,))
    assert samples.shape == (5000, 2, 4)
    assert samples.dtype == jnp.int32
    assert (samples.sum(-1) == 1).all()
    assert chi_squared_p(samples[:, 1].argmax(-1), PROBS[1]) > 1e-3


# ---- OrderedLogistic ----

CUTS = [-1.3, 0.4, 0.9]


def ordered_probs(loc: float) -> list:
    """P(k) by mpmath at the float32 values of the parameters."""
    steps = [mp.mpf(0)]
    steps += [1 / (1 + mp.exp(mp.mpf(loc) - mp.mpf(float(np.float32(c))))) for c in CUTS]
    steps += [mp.mpf(1)]
    return [b - a for a, b in zip(steps[:-1], steps[1:], strict=True)]


@pytest.mark.parametrize("loc", [0.5, -2.0, 60.0, -60.0])
def test_ordered_logistic_log_prob_and_gradient(loc):
    with mp.workdps(60):
        truth = [float(mp.log(p)) for p in ordered_probs(loc)]
        h = mp.mpf(10) ** -20
        ahead, behind = ordered_probs(loc + h), ordered_probs(loc - h)
        slopes = [float(mp.log(a / b) / (2 * h)) for a, b in zip(ahead, behind, strict=True)]
    log_prob = lambda loc: OrderedLogistic(loc, jnp.array(CUTS)).log_prob(jnp.arange(4))  # noqa: E731
    np.testing.assert_allclose(log_prob(jnp.float32(loc)), truth, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(jax.jacfwd(log_prob)(loc), slopes, rtol=2e-6, atol=1e-30)
    np.testing.assert_allclose(jax.jacrev(log_prob)(loc), slopes, rtol=2e-6, atol=1e-30)


def test_ordered_logistic_tails_and_summaries():
    loc = np.array([0.5, -2.0])
    dist = OrderedLogistic(loc, jnp.array(CUTS))
    assert dist.batch_shape == (2,)
    probs = np.array([[float(p) for p in ordered_probs(x)] for x in loc])
    k, cdf = np.arange(4), np.cumsum(probs, -1)
    np.testing.assert_allclose(dist.cdf(LABELS), cdf.T, rtol=1e-6)
    np.testing.assert_allclose(dist.survival(LABELS), 1 - cdf.T, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(np.exp(dist.log_cdf(LABELS)), cdf.T, rtol=1e-6)
    np.testing.assert_allclose(dist.mean(), probs @ k, rtol=1e-6)
    np.testing.assert_allclose(dist.variance(), probs @ k**2 - (probs @ k) ** 2, rtol=1e-5)
    np.testing.assert_allclose(dist.entropy(), sp.entr(probs).sum(-1), rtol=1e-6)
    assert dist.mode().tolist() == probs.argmax(-1).tolist()
    for q in (0.01, 0.3, 0.6, 0.99):
        assert dist.quantile(q).tolist() == (cdf < q).sum(-1).tolist()
    other = OrderedLogistic(0.1, jnp.array([-1.0, 0.0, 2.0]))
    brute = brute_kl(probs[0], np.exp(np.asarray(other.log_prob(k), float)))
    np.testing.assert_allclose(dist[0].kl_divergence(other), brute, rtol=1e-5)
    assert dist.log_prob(4).tolist() == [-np.inf, -np.inf]
    samples = dist.sample(jax.random.key(6), (20_000,))
    assert samples.dtype == jnp.int32
    assert min(chi_squared_p(samples[:, i], probs[i]) for i in (0, 1)) > 1e-3


# ---- all of them ----

CASES = {
    "Bernoulli": (lambda x: Bernoulli(logits=x[0]), 1),
    "Categorical": (lambda x: Categorical(logits=x), 2),
    "OneHotCategorical": (lambda x: OneHotCategorical(logits=x), jnp.array([0.0, 1.0, 0.0])),
    "OrderedLogistic": (lambda x: OrderedLogistic(x[0], jnp.array([-1.0, 1.0])), 1),
}


@pytest.mark.parametrize("name", CASES)
def test_mapped_construction_and_differentiation_by_the_distribution(name):
    make, value = CASES[name]
    rows = jnp.array([[0.3, -1.0, 0.7], [1.1, 0.2, -0.4]])
    log_prob = quick_jit(lambda row: make(row).log_prob(value))
    mapped = quick_jit(jax.vmap(lambda row: make(row).log_prob(value)))(rows)
    np.testing.assert_allclose(mapped, [log_prob(row) for row in rows], rtol=1e-6)
    slope = quick_jit(jax.grad(lambda dist: dist.log_prob(value)))(make(rows[0]))
    assert isinstance(slope, Distribution)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
    with jax.enable_x64(True):
        wide = make(rows.astype(jnp.float64))
        assert wide.log_prob(value).dtype == jnp.float64
        assert wide.sample(jax.random.key(0)).dtype == jnp.int32
