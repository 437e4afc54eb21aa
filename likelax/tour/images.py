"""Images of handwritten digits: what is exact, and the bounds of latent variables, a flow and diffusion."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from likelax import datasets, diffusion, flows, metrics, plotting, vae
from likelax._pytree import Array
from likelax.conditional import Conditional
from likelax.distributions import Logistic, Normal, Quantized
from likelax.heads import Head, HeadLike, learned
from likelax.likelihood import Likelihood
from likelax.objective import Batch, Objective
from likelax.tour.section import Row, Schedule, Section, Settings, fit_row, mlp

PIXELS, LATENTS, LEVELS = 64, 16, 17
PARTICLES, DRAWS = 200, 16


def section(settings: Settings) -> Section:
    """Four models of the same whole numbers, so that their nats can be set side by side."""
    data = datasets.digits()
    training, held_out = Batch(data.train.input), Batch(data.test.input)
    rows: list[Row[Any]] = []
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
    rows.append(_diffusion(training, held_out, settings))
    notes = [f"{row.name}: {metrics.bits_per_dim(row.held_out)}" for row in rows]
    for other in (rows[2], rows[0]):
        verdict = metrics.compare(rows[-1].held_out, other.held_out)
        notes.append(f"{rows[-1].name} against {other.name}: {verdict}")
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


def _diffusion(training: Batch, held_out: Batch, settings: Settings) -> Row[diffusion.VLB]:
    """The row of a diffusion model, whose bound is a mean over draws of the noise."""
    data = diffusion.Pixels(LEVELS)
    by_log_snr = diffusion.Process("variance_preserving", diffusion.Linear(), 8.5, -5.0)
    # More of the times where the loss is.
    process = dataclasses.replace(by_log_snr, schedule=diffusion.LogNormal(-1.75, 1.5))
    model = diffusion.VLB(process, _denoiser(by_log_snr, data), "data", data=data)
    schedule = Schedule(800, 128, 2e-3, 0.1)
    row = fit_row("diffusion", model, training, held_out, settings, schedule, stream_of="images")
    key = settings.key("evaluation")
    bound = diffusion.bound(model, row.params, key, held_out, num_samples=DRAWS)
    return dataclasses.replace(row, held_out=bound)


def _denoiser(
    process: diffusion.Process, data: diffusion.Pixels
) -> tuple[Callable[..., Any], Callable[..., Array]]:
    """(z, noise) -> E[x | z] of pixels whose levels the network gives probabilities to, and z others."""
    start, network = mlp(256, PIXELS * LEVELS)

    def apply(params: Any, z: Array, noise: Array) -> Array:
        at, centres = process.at(noise[:, None, None]), data.encoded(jnp.arange(LEVELS), None)
        seen = Normal(at.alpha * centres, at.sigma).log_prob(z[..., None])
        means = jax.nn.softmax(seen) @ centres
        waves = jnp.sin(4 * jnp.pi * noise[:, None] * jnp.arange(1, 9) / 8)
        logits = network(params, jnp.concatenate([z, means, waves], -1))
        return jax.nn.softmax(logits.reshape(seen.shape) + seen) @ centres

    def init(key: Array, z: Array, noise: Array) -> Any:
        return start(key, jnp.zeros((1, 2 * PIXELS + 8)))

    return init, apply


def _figure(shown: np.ndarray, rows: list[Row[Any]], settings: Settings) -> plotting.Figure:
    images = {"held out": shown[:10]}
    key = settings.key("sample")
    for row in rows[:-1]:
        images[row.name] = np.asarray(row.model.sample(row.params, key, (10,)))
    model, params = rows[-1].model, rows[-1].params
    images[rows[-1].name] = np.asarray(model.sample(params, key, (10, PIXELS), steps=50))
    return plotting.image_rows({k: v.reshape(-1, 8, 8) for k, v in images.items()}, LEVELS - 1)
