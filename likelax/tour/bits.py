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

PIXELS, HIDDEN, KINDS = 64, 14, 30
TEMPERATURES, COLUMNS = 300, 10


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
    samples = energy.exact_samples(rbm, settings.key("samples"), 100)
    lower = energy.log_partition(rbm, key, method="ais", betas=TEMPERATURES)
    upper = energy.reverse_log_partition(rbm, key, samples, exact=True, betas=TEMPERATURES)
    notes = [
        f"{machine.name}: {metrics.bits_per_dim(machine.held_out)}",
        f"its log Z: {energy.log_partition(rbm)}",
        f"by annealing, forward and reverse: {lower} and {upper}",
        f"against the mixture: {metrics.compare(machine.held_out, rows[1].held_out)}",
    ]
    path = settings.out / "bits.png"
    pictures = {"held out": held_out.target, **_drawn(rows[:-1], settings)}
    pictures["Boltzmann machine"] = samples
    plotting.save(plotting.image_rows(_images(pictures), 1), path)
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
            Schedule(600, 256, 0.05, 0.03),
        ),
    }


def _constant(size: int) -> Any:
    """A network without an input: its output is what is learned."""

    def init(key: Array, x: Array) -> Array:
        return jax.random.normal(key, (size,))

    return init, lambda params, x: jnp.broadcast_to(params, (*x.shape[:-1], size))


def _drawn(rows: list[Row[Any]], settings: Settings) -> dict[str, Array]:
    """Samples of the models that take an input of no numbers."""
    empty, key = jnp.zeros((COLUMNS, 0)), settings.key("drawn")

    def draw(row: Row[Any]) -> Array:
        sample = jax.jit(lambda params: row.model.predict(params, empty).sample(key))
        return sample(row.params)

    return {row.name: draw(row) for row in rows}


def _images(rows: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(x)[:COLUMNS].reshape(-1, 8, 8) for name, x in rows.items()}
