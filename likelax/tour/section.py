"""What the sections of the tour share: settings, a network, a trained model, a printed table."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from likelax import metrics
from likelax._keys import stream
from likelax._pytree import Array
from likelax.datasets import Dataset, batches
from likelax.heads import HeadLike
from likelax.likelihood import Likelihood
from likelax.objective import Batch, Objective
from likelax.train import fit

Model = TypeVar("Model", bound=Objective)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The command line's options."""

    seed: int = 0
    steps: int | None = None
    out: Path = Path("tour")

    def key(self, name: str) -> Array:
        """The random key of the part called `name`."""
        return stream(jax.random.key(self.seed), name)


@dataclasses.dataclass(frozen=True)
class Row(Generic[Model]):
    """One trained model.

    Attributes:
      name: what the table calls it.
      held_out: its loss on held-out data.
      seconds: what its training took, compilation included.
      model, params, state: for figures and samples.
    """

    name: str
    held_out: metrics.Evaluation
    seconds: float
    model: Model
    params: Any
    state: Any


@dataclasses.dataclass(frozen=True)
class Section:
    """Models on one data set.

    Attributes:
      title: what they predict.
      data: how many rows, and where they come from.
      rows: the models; the first is what the others are compared with.
      notes: lines under the table.
      figures: files that were written.
    """

    title: str
    data: str
    rows: Sequence[Row[Any]]
    notes: list[str] = dataclasses.field(default_factory=list)
    figures: list[Path] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        cells = [("model", "held-out nats", "against the first", "claim", "seconds")]
        best = min(range(len(self.rows)), key=lambda i: self.rows[i].held_out.loss)
        for i, row in enumerate(self.rows):
            gap = metrics.compare(row.held_out, self.rows[0].held_out)
            cells.append(
                (
                    row.name + (" *" if i == best else ""),
                    f"{row.held_out.loss:8.4f} ± {row.held_out.standard_error:.4f}",
                    f"{gap.difference:+8.4f} ± {gap.standard_error:.4f}" if i else "",
                    str(row.held_out.claim),
                    f"{row.seconds:.1f}",
                )
            )
        widths = [max(len(line[k]) for line in cells) for k in range(5)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in cells]
        rule = "-" * len(lines[0])
        head = [f"\n{self.title}", self.data]
        notes = [f"  {note}" for note in self.notes]
        figures = [f"  figure: {path}" for path in self.figures]
        body = [line.rstrip() for line in (lines[0], rule, *lines[1:])]
        return "\n".join([*head, rule, *body, rule, "  * lowest", *notes, *figures])


def mlp(hidden: int, outputs: int) -> tuple[Callable[..., Any], Callable[..., Array]]:
    """Two hidden layers, as a pair `(init, apply)`; the last layer starts at small outputs."""

    def init(key: Array, x: Any) -> list[dict[str, Array]]:
        widths = [x.shape[-1], hidden, hidden, outputs]
        shapes = list(zip(widths[:-1], widths[1:], strict=True))
        gains = [1.0, 1.0, 0.1]
        return [
            {"w": gain * jax.random.normal(k, shape) / jnp.sqrt(shape[0]), "b": jnp.zeros(shape[1])}
            for k, shape, gain in zip(jax.random.split(key, 3), shapes, gains, strict=True)
        ]

    def apply(params: list[dict[str, Array]], x: Any) -> Array:
        first, second, last = params
        x = jax.nn.gelu(x @ first["w"] + first["b"])
        x = jax.nn.gelu(x @ second["w"] + second["b"])
        return x @ last["w"] + last["b"]

    return init, apply


def split_of(data: Dataset) -> str:
    """How many rows there are, and where they come from."""
    train, test = len(data.train_rows), len(data.test_rows)
    return f"{train} rows to train on, {test} held out: {data.source}"


def train_row(
    name: str,
    head: HeadLike,
    data: Dataset,
    settings: Settings,
    *,
    steps: int,
    size: int,
    hidden: int = 32,
    rate: float = 3e-3,
    decay: float = 1e-4,
) -> Row[Likelihood]:
    """Trains an MLP with this head and scores it on the held-out rows.

    Every model of a section has the same data, batches, network and schedule: the head is what
    differs.
    """
    model = Likelihood(mlp(hidden, head.size), head)
    schedule = Schedule(steps, size, rate, decay)
    return fit_row(name, model, data.train, data.test, settings, schedule, stream_of=data.name)


class Schedule(NamedTuple):
    """Adam with decoupled decay of the weights, its rate falling as a cosine."""

    steps: int
    size: int
    rate: float = 3e-3
    decay: float = 1e-4


def fit_row(
    name: str,
    model: Model,
    training: Batch,
    held_out: Batch,
    settings: Settings,
    schedule: Schedule,
    *,
    stream_of: str,
    scored_by: Objective | None = None,
) -> Row[Model]:
    """Trains an objective and scores it on held-out data.

    Args:
      name: for the table.
      model: what is trained.
      training, held_out: the data.
      settings: the command line's; its number of steps goes before the schedule's.
      schedule: of the training.
      stream_of: the name of the section's random keys: the same for each of its models.
      scored_by: the objective for the held-out data, of the same parameters (default: `model`).
    """
    started = time.perf_counter()
    steps = settings.steps or schedule.steps
    rate = optax.cosine_decay_schedule(schedule.rate, steps)
    optimizer = optax.chain(
        optax.clip_by_global_norm(10.0), optax.adamw(rate, weight_decay=schedule.decay)
    )
    result = fit(
        model,
        optimizer,
        batches(training, schedule.size, settings.key(f"{stream_of} batches")),
        steps=steps,
        key=settings.key(f"{stream_of} training"),
        label=name,
    )
    score = metrics.evaluate(
        scored_by or model,
        result.params,
        settings.key("evaluation"),
        held_out,
        state=result.state,
    )
    seconds = time.perf_counter() - started
    return Row(name, score, seconds, model, result.params, result.state)
