"""Expenditure on food given income: the noise grows with the income."""

from __future__ import annotations

import numpy as np

from likelax import datasets, plotting
from likelax.distributions import Normal, StudentT
from likelax.heads import Head, MixtureHead, learned
from likelax.tour.section import Row, Section, Settings, train_row

HEADS = {
    "Normal, one scale": Head(Normal, scale=learned()),
    "Normal, scale from the input": Head(Normal),
    "StudentT": Head(StudentT, df=learned()),
    "mixture of 2 Normals": MixtureHead(Head(Normal), 2),
}


def section(settings: Settings) -> Section:
    """Constant noise against noise that depends on the input, and heavier tails."""
    data = datasets.engel().standardized(target=True)
    rows = [
        train_row(name, head, data, settings, steps=500, size=188, decay=0.1)
        for name, head in HEADS.items()
    ]
    title = "Regression: expenditure on food given income, both standardised"
    path = settings.out / "regression.png"
    plotting.save(_figure(data, rows[:2]), path)
    return Section(title, data, rows, figures=[path])


def _figure(data: datasets.Dataset, rows: list[Row]) -> plotting.Figure:
    assert data.input_scaler is not None and data.target_scaler is not None
    grid = np.linspace(data.input.min(), data.input.max(), 200, dtype=np.float32)[:, None]
    figure, axes = plotting.panels(len(rows))
    for axis, row in zip(axes, rows, strict=True):
        dist = row.model.predict(row.params, grid, state=row.state)
        levels = (0.05, 0.25, 0.5, 0.75, 0.95)
        bands = [data.target_scaler.inverse(np.asarray(dist.quantile(q))) for q in levels]
        income = data.input_scaler.inverse(grid)[:, 0]
        plotting.predictive_bands(axis, income, np.stack(bands), levels)
        for part, marker in ((data.train, "."), (data.test, "x")):
            label = "trained on" if marker == "." else "held out"
            x = data.input_scaler.inverse(part.input)[:, 0]
            y = data.target_scaler.inverse(part.target)
            axis.plot(x, y, marker, color="black", alpha=0.5, markersize=4, label=label)
        axis.set(title=f"{row.name}: {row.held_out.loss:.2f} nats", xlabel="income (francs)")
        axis.set_ylim(0, 2200)
    axes[0].set_ylabel("expenditure on food (francs)")
    axes[0].legend(loc="upper left")
    return figure
