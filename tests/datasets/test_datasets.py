"""Batches hold every row once and mask the rest; loaders carry the data that others report on."""

import dataclasses
import inspect
import sys

import jax
import numpy as np
import pytest
from scipy import stats

from likelax import datasets
from likelax.datasets._dataset import check, random_split
from likelax.objective import Batch

LOADERS = {
    "digits": (1797, 64, 1347),
    "breast_cancer": (569, 30, 455),
    "diabetes": (442, 10, 354),
    "doctor_visits": (20190, 9, 16152),
    "engel": (235, 1, 188),
    "sunspots": (309, 1, 247),
}


def rows(n=10):
    return Batch(target=np.arange(n), input=np.arange(2.0 * n).reshape(n, 2))


def kept(batch):
    return np.asarray(batch.target)[np.asarray(batch.mask) > 0]


def test_the_last_batch_is_padded_with_rows_and_masked():
    got = list(datasets.batches(rows(10), 4))
    assert [batch.target.shape for batch in got] == [(4,)] * 3
    assert [batch.input.shape for batch in got] == [(4, 2)] * 3
    np.testing.assert_array_equal(got[2].mask, [True, True, False, False])
    np.testing.assert_array_equal(got[2].target, [8, 9, 0, 1])
    np.testing.assert_array_equal(got[2].input[:, 0], 2 * got[2].target)


@pytest.mark.parametrize("n, size, expected", [(10, 4, 3), (8, 4, 2), (3, 8, 1), (1, 1, 1)])
@pytest.mark.parametrize("seed", [None, 0])
def test_an_epoch_holds_every_row_once(n, size, expected, seed):
    key = None if seed is None else jax.random.key(seed)
    got = datasets.batches(rows(n), size, key)
    assert len(got) == expected == len(list(got))
    seen = np.concatenate([kept(batch) for batch in got])
    np.testing.assert_array_equal(np.sort(seen), np.arange(n))
    assert all(batch.mask.shape == (size,) for batch in got)


def test_a_key_shuffles_anew_in_each_epoch_and_the_same_again():
    def orders(key):
        got = datasets.batches(rows(50), 8, key)
        return [np.concatenate([kept(batch) for batch in got]).tolist() for _ in range(3)]

    first = orders(jax.random.key(7))
    assert first == orders(jax.random.key(7))
    assert first == orders(jax.random.PRNGKey(7)), "a legacy key gives the same order"
    assert first != orders(jax.random.key(8))
    assert len({tuple(order) for order in first}) == 3
    assert list(range(50)) not in first
    by_number = datasets.batches(rows(50), 8, jax.random.key(7))
    for number in (2, 0, 1):
        again = np.concatenate([kept(batch) for batch in by_number.epoch(number)])
        assert again.tolist() == first[number]


def test_permutations_are_uniform():
    """Chi-squared on where row 0 lands: false alarm below 1e-6."""
    got = datasets.batches(np.arange(6), 6, jax.random.key(3))
    places = [int(np.flatnonzero(tree == 0)[0]) for _ in range(600) for tree, _ in got]
    counts = np.bincount(places, minlength=6)
    assert stats.chisquare(counts).pvalue > 1e-6


def test_endless_batches_run_on_through_fresh_epochs():
    got = datasets.batches(rows(10), 4, jax.random.key(0), endless=True)
    steps = iter(got)
    first, second = ([kept(next(steps)) for _ in range(3)] for _ in range(2))
    for epoch in (first, second):
        np.testing.assert_array_equal(np.sort(np.concatenate(epoch)), np.arange(10))
    assert np.concatenate(first).tolist() != np.concatenate(second).tolist()
    assert got.batches_per_epoch == 3
    with pytest.raises(TypeError, match="batches_per_epoch"):
        len(got)


def test_a_mask_that_was_there_is_combined():
    mask = np.array([1, 0, 1, 1, 1, 0], bool)
    got = list(datasets.batches(dataclasses.replace(rows(6), mask=mask), 4))
    np.testing.assert_array_equal(np.concatenate([kept(batch) for batch in got]), [0, 2, 3, 4])
    assert got[1].mask.dtype == bool


def test_a_mask_with_more_axes_keeps_them_and_its_dtype():
    mask = np.array([[1, 1], [1, 0], [0, 1]], np.float32)
    (got,) = datasets.batches(Batch(target=np.zeros((3, 2)), mask=mask), 4)
    np.testing.assert_array_equal(got.mask, [[1, 1], [1, 0], [0, 1], [0, 0]])
    assert got.mask.dtype == np.float32


def test_weights_follow_their_rows():
    weight = 10.0 * np.arange(7)
    data = dataclasses.replace(rows(7), weight=weight)
    for batch in datasets.batches(data, 3, jax.random.key(1)):
        np.testing.assert_array_equal(batch.weight, 10.0 * batch.target)


def test_a_pytree_comes_with_its_mask():
    data = {"x": np.arange(5), "deep": (np.arange(10).reshape(5, 2), None)}
    trees, masks = zip(*datasets.batches(data, 3), strict=True)
    assert jax.tree.structure(trees[0]) == jax.tree.structure(data)
    np.testing.assert_array_equal(trees[1]["x"], [3, 4, 0])
    np.testing.assert_array_equal(masks[1], [True, True, False])


WRONG = {
    "no integer": (rows(), 2.5, TypeError, "size must be an integer"),
    "a flag": (rows(), True, TypeError, "size must be an integer"),
    "zero": (rows(), 0, ValueError, "size must be at least 1, got 0"),
    "lengths": ({"x": np.zeros(3), "y": np.zeros(4)}, 2, ValueError, r"\['x'\]: \(3,\).*\(4,\)"),
    "a scalar": ({"x": np.zeros(3), "y": 1.0}, 2, ValueError, "same number of rows"),
    "no rows": (np.zeros((0, 3)), 2, ValueError, "no rows"),
    "nothing": ({}, 2, TypeError, "no arrays"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_told_what_is_wrong(name):
    data, size, error, message = WRONG[name]
    # Unwrapped: the annotations that the suite executes would speak first.
    with pytest.raises(error, match=message):
        inspect.unwrap(datasets.batches)(data, size)


@pytest.mark.parametrize("name", LOADERS)
def test_a_loader_gives_what_it_says(name):
    n, width, train = LOADERS[name]
    data = getattr(datasets, name)()
    assert data.input.shape == (n, width)
    assert data.input.dtype == np.float32
    assert data.target.shape == (n,)
    assert len(data.features) == width
    assert len(data.train_rows) == train == len(data.train.target)
    both = np.concatenate([data.train_rows, data.test_rows])
    np.testing.assert_array_equal(np.sort(both), np.arange(n))
    assert np.isfinite(data.input).all()
    assert "as carried by" in data.source
    assert data is getattr(datasets, name)(), "kept in memory"
    assert not data.input.flags.writeable
    assert type(data.input) is np.ndarray, "no device array"
    if data.classes:
        assert set(data.target.tolist()) == set(range(len(data.classes)))


def test_the_digits_split_is_the_customary_one():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x_train, x_test, y_train, y_test = train_test_split(
        *load_digits(return_X_y=True), random_state=0
    )
    data = datasets.digits()
    np.testing.assert_array_equal(data.train.input, x_train)
    np.testing.assert_array_equal(data.test.input, x_test)
    np.testing.assert_array_equal(data.train.target, y_train)
    np.testing.assert_array_equal(data.test.target, y_test)
    assert set(np.unique(data.input)) == set(range(17))


def test_doctor_visits_give_the_published_log_likelihood():
    """statsmodels' Poisson regression on all rows, fitted to the arrays that the loader gives."""
    from statsmodels.discrete.discrete_model import Poisson
    from statsmodels.tools import add_constant

    visits = datasets.doctor_visits()
    regressors = add_constant(visits.whole.input.astype(np.float64))
    fitted = Poisson(visits.whole.target, regressors).fit(disp=0)
    assert round(fitted.llf, 2) == -62419.59
    # The same number without statsmodels' log-likelihood, at its coefficients.
    by_scipy = stats.poisson.logpmf(visits.whole.target, np.exp(regressors @ fitted.params)).sum()
    assert round(by_scipy, 2) == -62419.59
    # Negative control: one count moved to its neighbour shows.
    moved = np.array(visits.whole.target)
    moved[0] += 1
    assert round(Poisson(moved, regressors).fit(disp=0).llf, 2) != -62419.59
    assert visits.features[0] == "lncoins"


def test_standardizing_uses_the_training_rows_only():
    raw = datasets.engel()
    data = raw.standardized(target=True)
    np.testing.assert_allclose(data.train.input.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(data.train.target.std(), 1, rtol=1e-5)
    assert abs(data.test.input.mean()) > 1e-3
    np.testing.assert_allclose(data.input_scaler.inverse(data.input), raw.input, rtol=1e-5)
    np.testing.assert_allclose(data.target_scaler.inverse(data.target), raw.target, rtol=1e-5)
    assert raw.input_scaler is None
    assert datasets.doctor_visits().standardized().target.dtype == np.int32


def test_the_log_scale_takes_a_density_back_to_the_units_of_the_data():
    raw, data = datasets.engel(), datasets.engel().standardized(target=True)
    scaler = data.target_scaler
    standardised = -stats.norm.logpdf(data.train.target).mean()
    original = -stats.norm.logpdf(raw.train.target, scaler.mean, scaler.scale).mean()
    np.testing.assert_allclose(standardised + scaler.log_scale, original, rtol=1e-5)


def test_a_constant_column_survives():
    scaler = datasets.Standardizer.fit(np.array([[1.0, 5.0], [3.0, 5.0]]))
    np.testing.assert_array_equal(scaler(np.array([[1.0, 5.0]])), [[-1.0, 0.0]])


def test_standardizing_refuses_what_would_be_wrong():
    with pytest.raises(ValueError, match="standardised already"):
        datasets.engel().standardized().standardized()
    with pytest.raises(ValueError, match="discrete target"):
        datasets.doctor_visits().standardized(target=True)


def test_other_data_than_known_is_refused():
    array = np.arange(6.0).reshape(2, 3)
    with pytest.raises(ValueError, match="other data than likelax knows") as caught:
        check("table", "no digest", array)
    digest = str(caught.value).partition("checksum ")[2].partition(",")[0]
    check("table", digest, array + 1e-9)
    with pytest.raises(ValueError, match="other data"):
        check("table", digest, array + 1e-3)
    with pytest.raises(ValueError, match="other data"):
        check("table", digest, array.reshape(3, 2))


def test_splits_never_change():
    train, test = random_split(10)
    np.testing.assert_array_equal(test, [2, 8])
    np.testing.assert_array_equal(train, [0, 1, 3, 4, 5, 6, 7, 9])


def test_without_the_extra_a_loader_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "sklearn.datasets", raising=False)
    with pytest.raises(ImportError, match=r'pip install "likelax\[data\]"'):
        datasets.diabetes.__wrapped__()
