"""Averages of parameters over training, kept by the optimiser; and others made of them afterwards.

::

    optimizer = lx.train.averaged(optax.adam(1e-3), lx.train.Ema(0.999))
    result = lx.train.fit(model, optimizer, batches, steps=10_000, key=key)
    (params,) = lx.train.averages(result.train_state)
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from likelax._pytree import Array


@dataclasses.dataclass(frozen=True)
class Ema:
    """average <- decay average + (1 - decay) params, from the parameters that training starts with.

    Args:
      decay: in [0, 1).

    Raises:
      ValueError: for another decay.
    """

    decay: float

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"Ema: decay is in [0, 1), got {self.decay}; write decay=0.999")

    def step_size(self, step: Array) -> Array | float:
        """How much of the average the parameters after a step, counted from 1, make up."""
        return 1 - self.decay


@dataclasses.dataclass(frozen=True)
class PowerEma:
    """An average that grows with training: the parameters of step k of n count as (k / n)^gamma does
    (Karras et al. 2024, EDM2, eq. 1 to 4). Averages of other widths can be made of snapshots of two.

    Args:
      sigma_rel: the standard deviation of that profile as a part of the steps taken: 0.05 and 0.10 are
        theirs; below 0.289, that of the plain mean.

    Raises:
      ValueError: for another width.
    """

    sigma_rel: float

    def __post_init__(self) -> None:
        if not 0 < self.sigma_rel < 12**-0.5:
            raise ValueError(
                f"PowerEma: 0 < sigma_rel < 0.289 wanted, got {self.sigma_rel}; write sigma_rel=0.1"
            )

    @functools.cached_property
    def gamma(self) -> float:
        """The power of the profile: sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3))."""
        t = self.sigma_rel**-2
        return float(np.max(np.roots([1, 7, 16 - t, 12 - t]).real))

    def step_size(self, step: Array) -> Array:
        """How much of the average the parameters after a step, counted from 1, make up."""
        # 1 - (1 - 1 / step)^(gamma + 1); all of it at first.
        return -jnp.expm1((self.gamma + 1) * jnp.log1p(-1 / step))


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["inner", "steps", "averages"],
    meta_fields=["profiles"],
)
@dataclasses.dataclass(frozen=True)
class AveragedState:
    """The state of an optimiser with averages.

    Attributes:
      inner: of the optimiser itself.
      steps: how many were taken.
      averages: of the parameters, one for each profile.
      profiles: which they are.
    """

    inner: Any
    steps: Array
    averages: tuple[Any, ...]
    profiles: tuple[Ema | PowerEma, ...]


def averaged(
    optimizer: optax.GradientTransformation, *profiles: Ema | PowerEma
) -> optax.GradientTransformation:
    """The same optimiser, which keeps averages of the parameters beside them.

    Args:
      optimizer: an optax one.
      profiles: one for each average.

    Raises:
      ValueError: without a profile.
    """
    if not profiles:
        raise ValueError(
            "averaged: nothing to keep; write averaged(optimizer, lx.train.Ema(0.999))"
        )
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> AveragedState:
        start = jax.tree.map(_wide, params)
        steps = jnp.zeros((), jnp.int32)
        return AveragedState(inner.init(params), steps, (start,) * len(profiles), profiles)

    def update(
        updates: Any, state: AveragedState, params: Any = None, **extra: Any
    ) -> tuple[Any, AveragedState]:
        if params is None:
            raise ValueError("averaged: update(grads, state, params) wants the parameters")
        updates, inner_state = inner.update(updates, state.inner, params, **extra)
        after, steps = optax.apply_updates(params, updates), state.steps + 1
        pairs = zip(profiles, state.averages, strict=True)
        kept = tuple(_moved(old, after, profile.step_size(steps)) for profile, old in pairs)
        return updates, AveragedState(inner_state, steps, kept, profiles)

    return optax.GradientTransformationExtraArgs(init, update)


def _wide(x: Any) -> Array:
    """As float32 or wider: an average moves by less than bfloat16 can tell."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _moved(average: Any, params: Any, step_size: Any) -> Any:
    def move(old: Array, new: Array) -> Array:
        step = jnp.asarray(step_size, old.dtype)
        return optax.incremental_update(new.astype(old.dtype), old, step)

    return jax.tree.map(move, average, params)


def averages(train_state: Any) -> tuple[Any, ...]:
    """The averages of the parameters, in the order of the profiles.

    Args:
      train_state: as from `lx.train.fit` or `lx.train.step`, or an optimiser's state.

    Raises:
      ValueError: where the optimiser keeps none.
    """
    return _kept(train_state).averages


def _kept(train_state: Any) -> AveragedState:
    def is_kept(x: Any) -> bool:
        return isinstance(x, AveragedState)

    found = [x for x in jax.tree.leaves(train_state, is_leaf=is_kept) if is_kept(x)]
    if len(found) != 1:
        raise ValueError(
            f"one optimiser with averages wanted, found {len(found)}; train with "
            "lx.train.averaged(optax.adam(1e-3), lx.train.Ema(0.999))"
        )
    return found[0]


class Snapshot(NamedTuple):
    """An average as it was after some steps.

    Attributes:
      profile: of the average.
      step: after how many steps.
      params: the average, as NumPy arrays.
    """

    profile: PowerEma
    step: int
    params: Any


def snapshots(train_state: Any) -> list[Snapshot]:
    """The averages by `PowerEma` as they are now, to be kept for `reconstructed`.

    Args:
      train_state: as from `lx.train.fit` or `lx.train.step`.

    Raises:
      ValueError: where the optimiser keeps none.
    """
    kept = _kept(train_state)
    pairs = zip(kept.profiles, kept.averages, strict=True)
    return [
        Snapshot(profile, int(kept.steps), jax.device_get(params))
        for profile, params in pairs
        if isinstance(profile, PowerEma)
    ]


def reconstructed(taken: Sequence[Snapshot], sigma_rel: float, step: int | None = None) -> Any:
    """The average of another width, or after fewer steps, from snapshots: their sum whose profile is
    nearest by least squares (Karras et al. 2024, algorithm 3).

    From widths of 0.05 and 0.10 at 16 times, widths of 0.02 to 0.25 are right to about a hundredth of how
    far the parameters moved, those between to a ten-thousandth.

    Args:
      taken: by `snapshots`, at several steps.
      sigma_rel: the width wanted.
      step: after how many steps (default: the last).

    Raises:
      ValueError: without a snapshot.
    """
    if not taken:
        raise ValueError("reconstructed: no snapshots; gather lx.train.snapshots(...) in training")
    last = max(snapshot.step for snapshot in taken) if step is None else step
    known = [(snapshot.profile.gamma, snapshot.step) for snapshot in taken]
    wanted = PowerEma(sigma_rel).gamma, last
    gram = np.array([[_overlap(a, b) for b in known] for a in known])
    weights = np.linalg.lstsq(gram, np.array([_overlap(a, wanted) for a in known]), rcond=1e-14)[0]

    def combined(*leaves: Any) -> Array:
        # Weights of either sign: in float64.
        total = sum(w * np.asarray(x, np.float64) for w, x in zip(weights, leaves, strict=True))
        return jnp.asarray(total, leaves[0].dtype)

    return jax.tree.map(combined, *(snapshot.params for snapshot in taken))


def _overlap(a: tuple[float, int], b: tuple[float, int]) -> float:
    """The integral of the product of two profiles (gamma + 1) t^gamma / T^(gamma + 1) of (gamma, T)."""
    (first, early), (second, late) = sorted((a, b), key=lambda profile: profile[1])
    scale = (first + 1) * (second + 1) / (first + second + 1)
    return scale * (early / late) ** second / late
