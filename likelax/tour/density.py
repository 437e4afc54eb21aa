"""Two moons: flows of two coordinates, beside an entropy that is known."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from likelax import flows, plotting
from likelax._extras import require
from likelax.distributions import MultivariateNormal
from likelax.heads import Head, HeadLike, learned
from likelax.likelihood import Likelihood
from likelax.objective import Batch
from likelax.tour.section import Row, Schedule, Section, Settings, fit_row

NOISE = 0.1
ENTROPY = 1.0076  # in nats, by quadrature, for this noise
SIZE = 10_000

HEADS: dict[str, HeadLike] = {
    "Normal": Head(MultivariateNormal, 2, loc=learned(), scale_tril=learned()),
    "affine coupling": flows.coupling_flow(2, layers=6, hidden=(32, 32)),
    "spline coupling": flows.neural_spline_flow(2, layers=6, hidden=(32, 32)),
}
SCHEDULES = {"Normal": Schedule(300, 256, 0.05, 0.0)}


def section(settings: Settings) -> Section:
    """An exact likelihood from a map that can be inverted."""
    make_moons = require("sklearn.datasets", "data").make_moons
    training, held_out = (
        make_moons(SIZE, noise=NOISE, random_state=seed)[0].astype(np.float32) for seed in (0, 1)
    )
    rows = [
        fit_row(
            name,
            Likelihood(None, head),
            Batch(training),
            Batch(held_out),
            settings,
            SCHEDULES.get(name, Schedule(800, 256, 4e-3, 0.0)),
            stream_of="moons",
        )
        for name, head in HEADS.items()
    ]
    path = settings.out / "density.png"
    plotting.save(_figure(training, rows), path)
    return Section(
        f"Density: two half circles with noise of {NOISE}",
        f"{SIZE} points to train on, {SIZE} held out: made by scikit-learn's make_moons",
        rows,
        [f"the entropy, which no model's mean can pass: {ENTROPY} nats"],
        [path],
    )


def _figure(points: np.ndarray, rows: list[Row[Likelihood]]) -> plotting.Figure:
    x, y = np.linspace(-1.6, 2.6, 140), np.linspace(-1.1, 1.6, 90)
    grid = np.stack(np.meshgrid(x, y), -1).astype(np.float32)
    figure, axes = plotting.panels(len(rows) + 1, width=3.4, height=2.8)
    axes[0].plot(*points[:2000].T, ".", markersize=1, color="0.3")
    axes[0].set_title("data")
    for axis, row in zip(axes[1:], rows, strict=True):
        dist = row.model.predict(row.params, jnp.zeros((1, 0)))[0]
        plotting.density_map(axis, x, y, np.exp(np.asarray(dist.log_prob(grid))))
        axis.set_title(f"{row.name}: {row.held_out.loss:.3f} nats")
    return figure
