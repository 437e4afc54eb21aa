"""Binarised digits: a Boltzmann machine, whose log Z is a sum over all its states."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from likelax import datasets, energy, metrics, plotting
from likelax._pytree import Array
from likelax.distributions import Bernoulli
from likelax.heads import Head, MixtureHead, learned
from likelax.likelihood import Likelihood
from likelax.objective import Batch, Objective
from likelax.tour.section import Row, Schedule, Section, Settings, fit_row

PIXELS, HIDDEN, KINDS = 64, 12, 30
TEMPERATURES = 300


def section(settings: Settings) -> Section:
    """An energy with an exact likelihood, beside two models that need no log Z."""
    data = datasets.digits()
    # The networks of the others see no input: one of no numbers.
    training, held_out = (
        Batch((np.asarray(part.input) > 8).astype(np.float32), np.zeros((len(part.target), 0)))
        for part in (data.train, data.test)
    )
    rows: list[Row[Any]] = [
        fit_row(name, model, training, held_out, settings, schedule, stream_of="bits")
        for name, (model, schedule) in models(np.asarray(training.target)).items()
    ]
    machine = rows[-1]
    rbm, key = machine.params, settings.key("bracket")
    lower, upper = energy.bracket(rbm, key, betas=TEMPERATURES)
    notes = [
        f"{machine.name}: {metrics.bits_per_dim(machine.held_out)}",
        f"its log Z: {energy.log_partition(rbm)}",
        f"by annealing, forward and reverse: {lower} and {upper}",
        f"against the mixture: {metrics.compare(machine.held_out, rows[1].held_out)}",
    ]
    path = settings.out / "bits.png"
    plotting.save(_figure(np.asarray(held_out.target), rows, settings), path)
    return Section(
        "Bits: 8x8 digits in black and white",
        f"{len(data.train_rows)} images to train on, {len(data.test_rows)} held out: {data.source}",
        rows,
        notes,
        [path],
    )


def models(x: np.ndarray) -> dict[str, tuple[Objective, Schedule]]:
    """By name: what is trained, and how."""
    mean = (x.sum(0) + 1) / (len(x) + 2)
    logits = jnp.asarray(np.log(mean / (1 - mean)), jnp.float32)
    mixture = MixtureHead(Head(Bernoulli, PIXELS), KINDS)
    rbm = energy.RBM.random(jax.random.key(0), PIXELS, HIDDEN, scale=0.1)
    rbm = rbm.replace(visible_bias=logits)
    return {
        "each pixel alone": (
            Likelihood(None, Head(Bernoulli, PIXELS, logits=learned())),
            Schedule(300, 256, 0.2, 0.0),
        ),
        f"mixture of {KINDS}": (
            Likelihood(_constant(mixture.size), mixture),
            Schedule(400, 256, 0.1, 0.03),
        ),
        f"Boltzmann machine, {HIDDEN} hidden units": (
            energy.MaximumLikelihood(rbm),
            Schedule(500, 256, 0.05, 0.03),
        ),
    }


def _constant(size: int) -> Any:
    """A network without an input: its output is what is learned."""

    def init(key: Array, x: Array) -> Array:
        return jax.random.normal(key, (size,))

    return init, lambda params, x: jnp.broadcast_to(params, (*x.shape[:-1], size))


def _figure(x: np.ndarray, rows: list[Row[Any]], settings: Settings) -> plotting.Figure:
    key, empty = settings.key("samples"), jnp.zeros((12, 0))
    images = {"held out": x[:12]}
    for row in rows[:-1]:
        dist = row.model.predict(row.params, empty, state=row.state)
        images[row.name] = np.asarray(dist.sample(key))
    images["Boltzmann machine"] = np.asarray(rows[-1].model.sample(rows[-1].params, key, 12))
    return plotting.image_rows({k: v.reshape(-1, 8, 8) for k, v in images.items()}, 1)
