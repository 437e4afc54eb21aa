"""Expenditure on food given income: the noise grows with the income."""

from __future__ import annotations

import time

import jax
import numpy as np
import optax

from likelax import datasets, metrics, plotting, train
from likelax.distributions import Normal, StudentT
from likelax.heads import Head, HeadLike, MixtureHead, learned
from likelax.likelihood import Likelihood
from likelax.objective import Batch
from likelax.tour.section import Row, Section, Settings, mlp

HEADS: dict[str, HeadLike] = {
    "Normal, one scale": Head(Normal, scale=learned()),
    "Normal, scale from the input": Head(Normal),
    "StudentT": Head(StudentT, df=learned()),
    "mixture of 2 Normals": MixtureHead(Head(Normal), 2),
}
FOLDS = 5


def section(settings: Settings) -> Section:
    """Constant noise against noise that depends on the input, and heavier tails."""
    data = datasets.engel().standardized(target=True)
    count = len(data.target)
    fold = jax.random.permutation(settings.key("folds"), np.arange(count) % FOLDS)
    held_out = np.asarray(fold) == np.arange(FOLDS)[:, None]
    rows = [cross_validated(name, head, data, held_out, settings) for name, head in HEADS.items()]
    path = settings.out / "regression.png"
    plotting.save(_figure(data, held_out[0], rows[:2]), path)
    return Section(
        "Regression: expenditure on food given income, both standardised",
        f"{count} rows, each held out once in {FOLDS} folds: {data.source}",
        rows,
        figures=[path],
    )


def cross_validated(
    name: str, head: HeadLike, data: datasets.Dataset, held_out: np.ndarray, settings: Settings
) -> Row:
    """Trains one model for each fold, all at once by `vmap`; the row's params are the first's.

    A fold is a mask: every model sees the same arrays and another part of them.

    Args:
      name: for the table.
      head: what differs between the rows of the table.
      data: all rows.
      held_out: boolean, `(folds, rows)`.
      settings: the command line's.
    """
    started = time.perf_counter()
    steps = settings.steps or 400
    model = Likelihood(mlp(8, head.size), head)
    optimizer = optax.adamw(optax.cosine_decay_schedule(5e-3, steps), weight_decay=0.1)
    step = train.step(model, optimizer)
    folds = Batch(data.target, data.input, ~held_out)
    keys = jax.random.split(settings.key("regression"), len(held_out))

    @jax.jit
    def fitted(keys: jax.Array, folds: Batch) -> train.TrainState:
        def fit_one(key: jax.Array, batch: Batch) -> train.TrainState:
            state = train.init(model, optimizer, key, batch)
            return jax.lax.scan(lambda s, _: (step(s, batch)[0], None), state, None, steps)[0]

        return jax.vmap(fit_one, in_axes=(0, Batch(None, None, 0)))(keys, folds)

    states = fitted(keys, folds)
    parts = []
    for i, mask in enumerate(held_out):
        params = jax.tree.map(lambda leaf, i=i: leaf[i], states.params)
        batch = Batch(data.target, data.input, mask)
        parts.append(metrics.evaluate(model, params, settings.key("evaluation"), batch))
    first = jax.tree.map(lambda leaf: leaf[0], states.params)
    return Row(name, metrics.pool(parts), time.perf_counter() - started, model, first, ())


def _figure(data: datasets.Dataset, held_out: np.ndarray, rows: list[Row]) -> plotting.Figure:
    assert data.input_scaler is not None and data.target_scaler is not None
    income = data.input_scaler.inverse(data.input)[:, 0]
    food = data.target_scaler.inverse(data.target)
    grid = np.linspace(data.input.min(), data.input.max(), 200, dtype=np.float32)[:, None]
    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    figure, axes = plotting.panels(len(rows))
    for axis, row in zip(axes, rows, strict=True):
        dist = row.model.predict(row.params, grid)
        bands = [data.target_scaler.inverse(dist.quantile(q)) for q in levels]
        plotting.predictive_bands(
            axis, data.input_scaler.inverse(grid)[:, 0], np.stack(bands), levels
        )
        axis.plot(income[~held_out], food[~held_out], ".", color="0.45", label="trained on")
        axis.plot(income[held_out], food[held_out], "x", color="black", label="held out")
        axis.set(title=f"{row.name}: {row.held_out.loss:.2f} nats", xlabel="income (francs)")
        axis.set_ylim(0, 2200)
    axes[0].set_ylabel("expenditure on food (francs)")
    axes[0].legend(loc="upper left")
    return figure
