"""Tables that scikit-learn and statsmodels carry: no download. Checked, then kept in memory."""

import functools

import numpy as np

from .._extras import require
from ._dataset import Dataset, check, random_split

__all__ = ["breast_cancer", "diabetes", "digits", "doctor_visits", "engel", "sunspots"]


@functools.cache
def digits() -> Dataset:
    """Handwritten digits: 1,797 images of 8 x 8 pixels and their labels 0..9.

    `input` is `(1797, 64)`, the pixels row by row as counts 0..16 in float32 (`.reshape(-1, 8, 8)`
    gives images; `/ 16` the unit interval; `/ 16 > 0.5` binary ones); `target` the labels, int32.
    The split is the customary `train_test_split(random_state=0)`: 1,347 and 450.
    """
    raw = require("sklearn.datasets", "data").load_digits()
    check("digits", "a37c5358fde67d31", raw.data, raw.target)
    split = require("sklearn.model_selection", "data").train_test_split
    train, test = split(np.arange(len(raw.target)), random_state=0)
    return Dataset(
        name="digits",
        input=raw.data.astype(np.float32),
        target=raw.target.astype(np.int32),
        train_rows=train,
        test_rows=test,
        features=tuple(raw.feature_names),
        target_name="digit",
        classes=tuple(str(digit) for digit in range(10)),
        source=(
            "Optical recognition of handwritten digits, test part (E. Alpaydin and C. Kaynak, UCI, "
            "1998; CC BY 4.0), as carried by scikit-learn"
        ),
    )


@functools.cache
def breast_cancer() -> Dataset:
    """569 tumours by 30 measurements; `target` is 1 where benign, 0 where malignant (int32)."""
    raw = require("sklearn.datasets", "data").load_breast_cancer()
    check("breast_cancer", "bb6a095e230dd676", raw.data, raw.target)
    train, test = random_split(len(raw.target))
    return Dataset(
        name="breast_cancer",
        input=raw.data.astype(np.float32),
        target=raw.target.astype(np.int32),
        train_rows=train,
        test_rows=test,
        features=tuple(str(name) for name in raw.feature_names),
        target_name="benign",
        classes=tuple(str(name) for name in raw.target_names),
        source=(
            "Breast Cancer Wisconsin, Diagnostic (Wolberg, Mangasarian, N. Street and W. Street, "
            "UCI, 1995; CC BY 4.0), as carried by scikit-learn"
        ),
    )


@functools.cache
def diabetes() -> Dataset:
    """442 patients, ten measurements in their own units; `target`: the progress after a year.

    The target is a whole number from 25 to 346, float32.
    """
    raw = require("sklearn.datasets", "data").load_diabetes(scaled=False)
    check("diabetes", "190869b3a1a59d90", raw.data, raw.target)
    train, test = random_split(len(raw.target))
    return Dataset(
        name="diabetes",
        input=raw.data.astype(np.float32),
        target=raw.target.astype(np.float32),
        train_rows=train,
        test_rows=test,
        features=tuple(raw.feature_names),
        target_name="progression",
        source=(
            "Efron, Hastie, Johnstone and Tibshirani, Least angle regression, Annals of Statistics "
            "32 (2004), as carried by scikit-learn; no licence stated"
        ),
    )


@functools.cache
def doctor_visits() -> Dataset:
    """RAND Health Insurance Experiment: visits to a doctor of 20,190 person-years, nine regressors.

    `target` is the count `mdvis` (0..77, int32), very overdispersed: mean 2.9, variance 20. Inputs
    carry no constant column. On `whole`, with a constant, a Poisson regression has the
    log-likelihood -62419.59 and a negative binomial one (NB2, dispersion 1.293) -43383.66.
    """
    raw = require("statsmodels.datasets.randhie", "data").load()
    values, counts = np.asarray(raw.exog, np.float64), np.asarray(raw.endog)
    check("doctor_visits", "69947b44b8d3c0f7", values, counts)
    train, test = random_split(len(counts))
    return Dataset(
        name="doctor_visits",
        input=values.astype(np.float32),
        target=counts.astype(np.int32),
        train_rows=train,
        test_rows=test,
        features=tuple(raw.exog.columns),
        target_name="mdvis",
        source=(
            "RAND Health Insurance Experiment, the subset of Cameron and Trivedi, "
            "Microeconometrics (2005); public domain, as carried by statsmodels (randhie)"
        ),
    )


@functools.cache
def engel() -> Dataset:
    """235 households: yearly income (input), expenditure on food (target), Belgian francs.

    The spread of the expenditure grows with the income.
    """
    raw = require("statsmodels.datasets.engel", "data").load()
    income = raw.data[["income"]].to_numpy(np.float64)
    food = raw.data["foodexp"].to_numpy(np.float64)
    check("engel", "b907e1a3e01594e2", income, food)
    train, test = random_split(len(food))
    return Dataset(
        name="engel",
        input=income.astype(np.float32),
        target=food.astype(np.float32),
        train_rows=train,
        test_rows=test,
        features=("income",),
        target_name="foodexp",
        source=(
            "Engel's food expenditure data, Koenker and Bassett, Econometrica 50 (1982); "
            "public domain, as carried by statsmodels (engel)"
        ),
    )


@functools.cache
def sunspots() -> Dataset:
    """The yearly number of sunspots from 1700 to 2008: a series. `input` is the year.

    It is split by time: the first 80 % to train on, the rest held out.
    """
    raw = require("statsmodels.datasets.sunspots", "data").load().data
    year, activity = raw[["YEAR"]].to_numpy(np.float64), raw["SUNACTIVITY"].to_numpy(np.float64)
    check("sunspots", "71921852769645c5", year, activity)
    rows = np.arange(len(activity))
    cut = round(0.8 * len(rows))
    return Dataset(
        name="sunspots",
        input=year.astype(np.float32),
        target=activity.astype(np.float32),
        train_rows=rows[:cut],
        test_rows=rows[cut:],
        features=("year",),
        target_name="sunactivity",
        source=(
            "Yearly mean sunspot numbers 1700-2008, National Geophysical Data Center; public "
            "domain, as carried by statsmodels (sunspots)"
        ),
    )
