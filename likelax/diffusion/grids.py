"""At which times a sampler stops on its way from the noise to the data."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from likelax import _checks
from likelax._checks import is_count, is_number
from likelax._pytree import Array
from likelax.diffusion.process import Process


@dataclasses.dataclass(frozen=True)
class TimeGrid:
    """`steps` + 1 times from the end with the noise to the end with the data.

    * "time": equally spaced;
    * "log_snr": equally spaced in the log-SNR (Lu et al. 2022);
    * "karras": equally spaced in (sigma / alpha)^(1 / rho) (Karras et al. 2022, eq. 5).

    Args:
      name: one of them.
      rho: of "karras", positive.

    Raises:
      ValueError: for another name, or a rho that is not positive.
    """

    name: str = "time"
    rho: float = 7.0

    def __post_init__(self) -> None:
        if self.name not in ("time", "log_snr", "karras"):
            raise ValueError(
                f'TimeGrid: the name is one of ["karras", "log_snr", "time"], got {self.name!r}'
            )
        if not (is_number(self.rho) and self.rho > 0):
            raise ValueError(f"TimeGrid: rho > 0 wanted, got {self.rho!r}; write rho=7")

    def times(self, process: Process, steps: int) -> Array:
        """The times, `(steps + 1,)`."""
        left = jnp.linspace(1, 0, steps + 1)
        ends = process.ends()
        first, last = ends[1].time, ends[0].time
        if self.name == "time":
            return last + (first - last) * left
        low, high = ends[0].gamma, ends[1].gamma
        if self.name == "log_snr":
            gamma = low + (high - low) * left
        else:
            ratio = jnp.exp((low - high) / (2 * self.rho))
            gamma = high + 2 * self.rho * jnp.log(ratio + (1 - ratio) * left)
        # The inverse of the schedule rounds; the ends are known.
        return process.time_of(gamma).at[0].set(first).at[-1].set(last)


Grid = Any


def check_shape(shape: Any, name: str) -> tuple[int, ...]:
    """The shape of samples, `(batch, *event)`.

    Raises:
      ValueError: for one that is none.
    """
    sizes = shape if isinstance(shape, tuple | list) else ()
    if not sizes or not all(size == 0 or is_count(size) for size in sizes):
        raise ValueError(
            f"{name}: shape is (batch, *event), whole numbers, got {shape!r}; write "
            "shape=(16, *event)"
        )
    return tuple(sizes)


def check_steps(steps: Any, name: str) -> None:
    """Raises ValueError unless it is a whole number of 1 or more."""
    if not is_count(steps):
        raise ValueError(f"{name}: steps is a whole number >= 1, got {steps!r}; write steps=50")


def check_grid(grid: Grid, process: Process, steps: int, *, whole: bool) -> None:
    """Raises ValueError for times that are none, where their values are known.

    Args:
      grid: as samplers take it.
      process, steps: likewise.
      whole: whether the first time has to be that of the noise.
    """
    if isinstance(grid, str):
        TimeGrid(grid)
    if isinstance(grid, str | TimeGrid):
        return
    times = jnp.asarray(grid)
    if times.shape != (steps + 1,):
        raise ValueError(
            f"a grid of {steps} steps has {steps + 1} times, got an array of shape {times.shape}; write "
            f"steps=len(grid) - 1, or grid={TimeGrid()!r}"
        )
    if isinstance(times, jax.core.Tracer):
        return
    left = times if process.data_at == 0 else 1 - times
    order = "fall from 1 to 0" if process.data_at == 0 else "grow from 0 to 1"
    wanted = (
        f"times {order}, from the noise to the data (data_at={process.data_at}), without a repeat"
    )
    inside = (times >= 0) & (times <= 1) & jnp.append(True, jnp.diff(left) < 0)
    _checks.check_known(inside, times, f"grid: {wanted}; at {{index}} the time is {{value}}")
    if whole:
        message = f"grid: {wanted}; the first is {{value}}: to start elsewhere give start=z there"
        _checks.check_known(left[:1] == 1, times[:1], message)


def times_of(grid: Grid, process: Process, steps: int) -> Array:
    """The times of a grid by name, a `TimeGrid` or an array, `(steps + 1,)`."""
    if isinstance(grid, str):
        grid = TimeGrid(grid)
    return grid.times(process, steps) if isinstance(grid, TimeGrid) else jnp.asarray(grid)
