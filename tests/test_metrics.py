"""Evaluation, bits per dimension, perplexity and comparison: right numbers, honest refusals."""

import copy
import dataclasses
import math
import pickle

import jax
import numpy as np
import pytest
from scipy import stats

import likelax as lx
from likelax.metrics import _claim_of
from likelax.objective import Claim, Measure, measure_of
from nets import linear

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 2)).astype(np.float32)
LABELS = RNG.integers(0, 4, 50)


@pytest.fixture(scope="module")
def classifier():
    model = lx.Likelihood(linear(4), lx.Head(lx.Categorical, num_categories=4))
    return model, model.init(KEY, lx.Batch(LABELS, X)).params


def fake(loss, relation="exact", kind="counting", dims=1, spread=1.0, seed=0, n=400):
    """An evaluation of n examples with a known mean."""
    each = np.random.default_rng(seed).normal(size=n) * spread
    each = each - each.mean() + loss
    claim = Claim(relation, True, Measure(kind, dims))
    return lx.Evaluation(loss, spread / math.sqrt(n), n, claim, each, np.ones(n), {})


def sized(size):
    """One of texts, with so many bytes a token."""
    return dataclasses.replace(fake(1.0, n=40), num_bytes=np.full(40, size))


def test_evaluate_pools_batches_with_its_standard_error(classifier):
    model, params = classifier
    whole = lx.evaluate(model, params, KEY, lx.Batch(LABELS, X))
    pieces = lx.datasets.batches(lx.Batch(LABELS, X), 16)
    pooled = lx.evaluate(model, params, KEY, pieces)
    assert whole.count == pooled.count == 50
    np.testing.assert_allclose(pooled.loss, whole.loss, rtol=1e-6)
    np.testing.assert_allclose(
        pooled.standard_error, np.std(whole.per_example, ddof=1) / math.sqrt(50), rtol=1e-5
    )
    assert pooled.claim.relation == "exact"
    assert "± " in str(pooled) and "exact; 50 examples" in str(pooled)


def test_weighted_standard_error_is_the_spread_of_repeated_samples():
    """The ratio estimator against 4000 fresh samples of weights and costs that depend on them."""
    from likelax.metrics import _ratio

    rng = np.random.default_rng(3)
    weight = rng.gamma(2.0, size=(4000, 60))
    cost = 1.0 + 0.3 * weight + rng.normal(size=weight.shape)
    results = [_ratio(c * w, w) for c, w in zip(cost, weight, strict=True)]
    spread = np.std([mean for mean, _ in results])
    claimed = np.mean([error for _, error in results])
    assert abs(claimed / spread - 1) < 0.06  # 4 / sqrt(2 * 4000) = 0.045, and the bias at n=60


def test_evaluate_needs_an_example(classifier):
    model, params = classifier
    for batches in ([], [lx.Batch(LABELS, X, np.zeros(50, bool))]):
        with pytest.raises(ValueError, match="no example"):
            lx.evaluate(model, params, KEY, batches)


def test_evaluate_is_called_outside_of_jit(classifier):
    model, params = classifier
    batch = lx.Batch(LABELS, X)
    told = r"outside of jit.*write objective\(params, key, batch"
    with pytest.raises(TypeError, match=told):
        jax.eval_shape(lambda p: lx.evaluate(model, p, KEY, batch).loss, params)


def test_perplexity_and_bits_of_a_uniform_classifier(classifier):
    model, params = classifier
    flat = jax.tree.map(lambda p: 0 * p, params)
    _, aux = model(flat, KEY, lx.Batch(LABELS, X))
    np.testing.assert_allclose(lx.perplexity(aux), 4.0, rtol=1e-6)
    np.testing.assert_allclose(lx.bits_per_dim(aux), 2.0, rtol=1e-6)


def test_bits_count_the_dimensions_of_an_event():
    np.testing.assert_allclose(lx.bits_per_dim(fake(64 * math.log(2) * 3, dims=64)), 3.0)
    density = fake(64 * math.log(2) * -5, kind="lebesgue", dims=64)
    np.testing.assert_allclose(lx.bits_per_dim(density, bin_width=1 / 256), 3.0, rtol=1e-6)


@pytest.mark.parametrize("relation", ["exact", "upper", "estimate"])
def test_what_is_printed_says_what_it_claims(relation):
    words = {"upper": "upper bound"}.get(relation, relation)
    result = dataclasses.replace(fake(2 * math.log(2), relation), num_bytes=np.full(400, 4.0))
    numbers = lx.bits_per_byte(result), lx.bits_per_dim(result), lx.perplexity(result)
    units = "bits per byte", "bits per dimension", "perplexity"
    values = 0.5, 2.0, 4.0
    for number, unit, value in zip(numbers, units, values, strict=True):
        assert str(number) == f"{value:.4f} ± {number.standard_error:.4f} {unit} ({words})"
        again = pickle.loads(pickle.dumps(copy.copy(number)))
        assert (again, again.claim, str(again)) == (number, result.claim, str(number))


def test_bits_of_dequantised_data_bound_those_of_the_data():
    """Of the bins of a Normal: the code length is -log2 of their mass, the number by Jensen above."""
    edges = np.arange(-6, 6.1, 0.5)
    mass = np.diff(stats.norm.cdf(edges))
    shortest = -np.sum(mass * np.log2(mass))
    inside = edges[:-1, None] + 0.5 * (np.arange(200) + 0.5) / 200
    nats = -np.sum(mass * stats.norm.logpdf(inside).mean(1))
    bits = lx.bits_per_dim(fake(nats, kind="lebesgue"), bin_width=0.5)
    assert shortest < bits < shortest + 0.1
    assert bits.claim.relation == "upper" and "upper bound" in str(bits)
    # The control: the value of a bound from below is on neither side of it.
    below = lx.bits_per_dim(fake(nats, "lower", kind="lebesgue"), bin_width=0.5)
    assert below.claim.relation == "none"


REFUSED = {
    "bits of none": (lambda: lx.bits_per_dim(fake(1.0, "none")), "no likelihood"),
    "bits of a density": (lambda: lx.bits_per_dim(fake(1.0, kind="lebesgue")), "bin_width=1/256"),
    "a bin width of probabilities": (
        lambda: lx.bits_per_dim(fake(1.0), bin_width=0.5),
        "leave it out",
    ),
    "perplexity of a density": (
        lambda: lx.perplexity(fake(1.0, kind="lebesgue")),
        "discrete values",
    ),
    "perplexity of none": (lambda: lx.perplexity(fake(1.0, "none")), "no likelihood"),
    "compare with none": (lambda: lx.compare(fake(1.0), fake(1.0, "none")), "no likelihood"),
    "compare measures": (
        lambda: lx.compare(fake(1.0), fake(1.0, kind="lebesgue")),
        "different measures",
    ),
    "compare dims": (lambda: lx.compare(fake(1.0), fake(1.0, dims=2)), "different measures"),
    "compare bytes": (
        lambda: lx.compare(sized(1.0), sized(2.0)),
        "texts of 40 and 80 bytes.*bits_per_byte",
    ),
    "compare examples": (lambda: lx.compare(fake(1.0), fake(1.0, n=10)), "different examples"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_dishonest_numbers_are_refused(case):
    call, match = REFUSED[case]
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ("exact", "exact", "the first is better"),
        ("upper", "exact", "the first is better"),
        ("exact", "upper", "undecided"),
        ("upper", "upper", "undecided"),
        ("exact", "lower", "the first is better"),
    ],
)
def test_a_bound_below_a_bound_proves_nothing(a, b, verdict):
    result = lx.compare(fake(1.0, a), fake(2.0, b, seed=1))
    assert result.verdict.startswith(verdict)
    flipped = lx.compare(fake(2.0, b, seed=1), fake(1.0, a))
    assert flipped.verdict.startswith(verdict.replace("first", "second"))
    if (a, b) == ("upper", "upper"):
        assert result.claim.relation == "none"


def test_comparison_pairs_the_examples():
    a = fake(1.0)
    b = dataclasses.replace(a, per_example=a.per_example + 0.01, loss=1.01)
    result = lx.compare(a, b)
    np.testing.assert_allclose(result.difference, -0.01, rtol=1e-9)
    assert result.standard_error < 1e-9
    assert "no difference" in lx.compare(fake(1.0), fake(1.01, seed=2)).verdict


def test_an_infinite_loss_is_compared_by_name(classifier):
    model, params = classifier
    good = lx.evaluate(model, params, KEY, lx.Batch(LABELS, X))
    bad = lx.evaluate(model, params, KEY, lx.Batch(np.where(np.arange(50) == 3, 4, LABELS), X))
    assert bad.loss == math.inf and math.isnan(bad.standard_error)
    result = lx.compare(bad, good)
    assert result.difference == math.inf
    assert result.verdict.startswith("the loss of the first is inf: look for targets")
    assert "the second is inf" in lx.compare(good, bad).verdict
    assert "first is inf and the loss of the second is inf" in lx.compare(bad, bad).verdict


def test_a_bare_number_has_no_claim():
    # Not through `perplexity`: under the annotations of the tests a TypeError comes as theirs.
    with pytest.raises(
        TypeError, match=r"the perplexity needs.*an Aux or an Evaluation, got float"
    ):
        _claim_of(1.0, "the perplexity")


@pytest.mark.parametrize(
    ("dist", "measure"),
    [
        (lx.OneHotCategorical(logits=np.zeros((5, 3), np.float32)), Measure("counting", 1)),
        (lx.Dirichlet(np.ones(3, np.float32)), Measure("lebesgue", 2)),
        (lx.Dirichlet(np.ones((4, 3), np.float32)).to_event(), Measure("lebesgue", 8)),
        (lx.Poisson(np.ones((2, 4), np.float32)).to_event(2), Measure("counting", 8)),
        (lx.MultivariateNormalDiag(np.zeros(3), np.ones(3)), Measure("lebesgue", 3)),
    ],
)
def test_dimensions_are_what_is_free(dist, measure):
    assert measure_of(dist) == measure
