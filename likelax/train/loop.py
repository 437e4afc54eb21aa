"""`step` and `fit`: a compiled step over a `TrainState`, and a loop around it."""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from likelax._extras import require
from likelax._keys import stream
from likelax._pytree import Array
from likelax.metrics import evaluate
from likelax.objective import Aux, Batch, Objective, check_batch


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "opt_state", "state", "key", "step"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a training step changes: one pytree, to be saved and restored as such.

    Attributes:
      params: the objective's parameters.
      opt_state: the optimiser's state.
      state: the objective's state (batch statistics).
      key: the random key of the run; step k uses `fold_in(key, k)`.
      step: how many steps were taken.
    """

    params: Any
    opt_state: Any
    state: Any
    key: Array
    step: Array


def init(
    objective: Objective, optimizer: optax.GradientTransformation, key: Array, batch: Batch
) -> TrainState:
    """The state before the first step."""
    check_batch(batch)
    _check_optimizer(optimizer)
    params, state = objective.init(stream(key, "init"), batch)
    # A copy: the step donates its state, which must not hold a buffer twice.
    opt_state = jax.tree.map(jnp.copy, optimizer.init(params))
    return TrainState(params, opt_state, state, stream(key, "train"), jnp.zeros((), jnp.int32))


def _check_optimizer(optimizer: Any) -> None:
    if not hasattr(optimizer, "init"):
        name = getattr(optimizer, "__name__", type(optimizer).__name__)
        raise TypeError(f"an optax optimiser wanted, got {name}; write optax.adam(1e-3)")


def step(
    objective: Objective, optimizer: optax.GradientTransformation
) -> Callable[[TrainState, Batch], tuple[TrainState, Aux]]:
    """A compiled training step, `(train_state, batch) -> (train_state, aux)`.

    The train state is donated: use the one that comes back. `aux.state` is empty: it is in the
      train state.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def one_step(train_state: TrainState, batch: Batch) -> tuple[TrainState, Aux]:
        key = jax.random.fold_in(train_state.key, train_state.step)
        loss_and_grad = jax.value_and_grad(objective, has_aux=True)
        (loss, aux), grads = loss_and_grad(train_state.params, key, batch, state=train_state.state)
        updates, opt_state = optimizer.update(
            grads, train_state.opt_state, train_state.params, value=loss, grad=grads
        )
        params = optax.apply_updates(train_state.params, updates)
        new_state = TrainState(params, opt_state, aux.state, train_state.key, train_state.step + 1)
        return new_state, dataclasses.replace(aux, state=())

    return jax.jit(one_step, donate_argnums=0)


@dataclasses.dataclass(frozen=True)
class History:
    """What was measured, as NumPy arrays.

    Attributes:
      loss: of each step, `(steps,)`, in nats.
      terms: each named term of each step, `(steps,)`.
      validation_step: the steps after which held-out data were scored.
      validation_loss: the held-out loss there.
    """

    loss: np.ndarray
    terms: dict[str, np.ndarray]
    validation_step: np.ndarray
    validation_loss: np.ndarray


@dataclasses.dataclass(frozen=True, repr=False)
class FitResult:
    """A trained model.

    Attributes:
      params: the objective's parameters after the last step.
      state: the objective's state.
      train_state: all of it, to go on from: `fit(..., train_state=result.train_state)`.
      history: losses.
    """

    params: Any
    state: Any
    train_state: TrainState
    history: History

    def __repr__(self) -> str:
        history, size = self.history, sum(jnp.size(leaf) for leaf in jax.tree.leaves(self.params))
        losses = {"loss": history.loss, "validation_loss": history.validation_loss}
        last = [f"{name}={values[-1]:.4f}" for name, values in losses.items() if len(values)]
        return f"FitResult(steps={len(history.loss)}, {', '.join(last)}, {size:,} parameters)"


def fit(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    batches: Batch | Iterable[Batch],
    *,
    steps: int,
    key: Array,
    validation: Batch | Iterable[Batch] | None = None,
    validate_every: int | None = None,
    train_state: TrainState | None = None,
    progress: bool | None = None,
    label: str = "fit",
) -> FitResult:
    """Trains for `steps` steps.

    Args:
      objective: what is minimised.
      optimizer: an optax one.
      batches: gone through again and again; `lx.datasets.batches(...)` shuffles anew each time.
      steps: how many steps to take.
      key: a random key: the same one gives the same result.
      validation: held-out batches, scored by `lx.evaluate`.
      validate_every: how often, in steps (default: ten times in all).
      train_state: where to go on from (default: a new one).
      progress: whether to draw a bar on standard error (default: only on a terminal).
      label: what the bar is called.

    Raises:
      FloatingPointError: when the loss is not finite, with the step and the terms.
      ValueError: when there is nothing to train on.
    """
    if steps < 1:
        raise ValueError(f"steps is at least 1, got {steps}")
    if not isinstance(batches, Batch) and iter(batches) is batches and steps > 1:
        raise ValueError(
            "batches can be gone through only once (an iterator); pass lx.datasets.batches(...) "
            "or a list"
        )
    stream_of_batches = _endless([batches] if isinstance(batches, Batch) else batches)
    first = next(stream_of_batches)
    if train_state is None:
        train_state = init(objective, optimizer, key, first)
    else:  # a copy: the step donates its state, and the caller's is the caller's
        train_state = jax.tree.map(jnp.copy, train_state)
    one_step = step(objective, optimizer)
    every = validate_every or max(1, math.ceil(steps / 10))
    recent: list[Aux] = []
    logged: list[dict[str, np.ndarray]] = []
    validated: list[tuple[int, float]] = []
    start = int(train_state.step)
    with _bar(steps, label, progress) as bar:
        for done in range(1, steps + 1):
            batch = first if done == 1 else next(stream_of_batches)
            train_state, aux = one_step(train_state, batch)
            recent.append(aux)
            bar.update()
            # Looking at a loss waits for it; so look at many at a time.
            if len(recent) == 50 or done == steps or (validation is not None and done % every == 0):
                logged.append(_collect(recent, start + done - len(recent)))
                recent = []
                bar.set_postfix(loss=f"{logged[-1]['loss'][-1]:.4f}", refresh=False)
            if validation is not None and (done % every == 0 or done == steps):
                key_now = stream(train_state.key, "validation")
                result = evaluate(
                    objective, train_state.params, key_now, validation, state=train_state.state
                )
                validated.append((start + done, result.loss))
    merged = {name: np.concatenate([part[name] for part in logged]) for name in logged[0]}
    history = History(
        merged.pop("loss"),
        merged,
        np.array([s for s, _ in validated], int),
        np.array([v for _, v in validated], float),
    )
    return FitResult(train_state.params, train_state.state, train_state, history)


def _endless(batches: Iterable[Batch]) -> Iterator[Batch]:
    while True:
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise ValueError("there is nothing to train on: batches is empty")


def _collect(recent: list[Aux], start: int) -> dict[str, np.ndarray]:
    """Losses and terms of these steps as arrays; raises at the first that is not finite."""
    rows = jax.device_get([{"loss": aux.loss, **aux.terms} for aux in recent])
    for offset, row in enumerate(rows):
        if not np.isfinite(row["loss"]):
            terms = ", ".join(f"{name} {float(value):.6g}" for name, value in row.items())
            raise FloatingPointError(
                f"the loss is not finite at step {start + offset}: {terms}; look for a target "
                "outside the support or an input that is not finite (run this again inside "
                "with lx.debug_checks():), for a density that is infinite at a target, or take a "
                "smaller learning rate"
            )
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


class _Silent:
    """Stands in for a progress bar where none is wanted."""

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def update(self) -> None:
        """Draws nothing."""

    def set_postfix(self, **values: Any) -> None:
        """Draws nothing."""


def _bar(steps: int, label: str, progress: bool | None) -> Any:
    wanted = sys.stderr.isatty() if progress is None else progress
    if not wanted:
        return _Silent()
    return require("tqdm", "train").tqdm(total=steps, desc=label, unit="step", leave=False)
