"""Images of handwritten digits: what is exact, a latent-variable bound, and a flow's bound."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from likelax import datasets, flows, metrics, plotting, vae
from likelax.conditional import Conditional
from likelax.distributions import Logistic, Normal, Quantized
from likelax.heads import Head, HeadLike, learned
from likelax.likelihood import Likelihood
from likelax.objective import Batch, Objective
from likelax.tour.section import Row, Schedule, Section, Settings, fit_row, mlp

PIXELS, LATENTS, LEVELS = 64, 16, 17
PARTICLES = 200


def section(settings: Settings) -> Section:
    """Three models of the same whole numbers, so that their nats can be set side by side."""
    data = datasets.digits()
    training, held_out = Batch(data.train.input), Batch(data.test.input)
    rows: list[Row[Objective]] = []
    for name, (model, scored_by, schedule) in models().items():
        rows.append(
            fit_row(
                name,
                model,
                training,
                held_out,
                settings,
                schedule,
                stream_of="images",
                scored_by=scored_by,
            )
        )
    notes = [f"{row.name}: {metrics.bits_per_dim(row.held_out)}" for row in rows]
    verdict = metrics.compare(rows[1].held_out, rows[2].held_out)
    notes.append(f"{rows[1].name} against {rows[2].name}: {verdict}")
    path = settings.out / "images.png"
    plotting.save(_figure(np.asarray(held_out.target), rows[1:], settings), path)
    return Section(
        "Images: the 17 grey levels of 8x8 digits",
        f"{len(data.train_rows)} images to train on, {len(data.test_rows)} held out: {data.source}",
        rows,
        notes,
        [path],
    )


def levels(**parameters: Any) -> HeadLike:
    """A logistic distribution of each pixel, its mass collected by whole numbers."""
    base = Head(Logistic, **parameters)
    return Head(Quantized, PIXELS, base=base, low=0, high=LEVELS - 1, bins=LEVELS)


def models() -> dict[str, tuple[Objective, Objective | None, Schedule]]:
    """By name: what is trained, what scores it if that is another, and how it is trained."""
    alone = Likelihood(None, levels(loc=learned(8.0), scale=learned(3.0)))
    decoder = Conditional(mlp(128, 2 * PIXELS), levels())
    encoder = Conditional(mlp(128, 2 * LATENTS), Head(Normal, LATENTS))
    prior = Normal(jnp.zeros(LATENTS), jnp.ones(LATENTS)).to_event()
    many = vae.IWAE(decoder, encoder, prior, num_particles=PARTICLES)
    flow = Likelihood(None, flows.masked_autoregressive_flow(PIXELS, layers=3, hidden=(128,)))
    spread = flows.dequantize(flow, LEVELS, preprocessing=flows.logit(0.05))
    return {
        "each pixel alone": (alone, None, Schedule(400, 128, 0.05, 0.0)),
        "VAE": (vae.ELBO(decoder, encoder, prior), many, Schedule(1500, 128, 3e-3, 0.1)),
        "autoregressive flow": (spread, None, Schedule(600, 128, 2e-3, 1e-3)),
    }


def _figure(shown: np.ndarray, rows: list[Row[Objective]], settings: Settings) -> plotting.Figure:
    images = {"held out": shown[:10]}
    for row in rows:
        drawn = row.model.sample(row.params, settings.key("sample"), (10,))  # type: ignore[attr-defined]
        images[row.name] = np.asarray(drawn)
    return plotting.image_rows({k: v.reshape(-1, 8, 8) for k, v in images.items()}, LEVELS - 1)
