"""From noise to data in steps: what all samplers share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp

from likelax._keys import check_key, row_keys, stream
from likelax._pytree import Array
from likelax.diffusion.grids import Grid, check_grid, check_shape, check_steps, times_of
from likelax.diffusion.prediction import Denoised, Denoiser
from likelax.diffusion.process import Level, Process
from likelax.objective import Objective

# Standard Normal numbers of the shape of z, by their number among those of a step.
Noise = Callable[[Any], Array]


class Step(NamedTuple):
    """One step of a sampler.

    Attributes:
      now, after: the levels that it leads from and to, without axes.
      number: of the step, from 0.
      plan: this step's part of `Sampler.plan`.
    """

    now: Level
    after: Level
    number: Array
    plan: Any


class Moved(NamedTuple):
    """Where a step led.

    Attributes:
      z: at `Step.after`.
      data: what was thought of the data at `Step.now`.
      memory: what the next step is given.
    """

    z: Array
    data: Array
    memory: Any = ()


class Sampled(NamedTuple):
    """Samples with the way that led to them.

    Attributes:
      sample: `(batch, *event)`.
      states: z at every time, `(steps + 1, batch, *event)`.
      estimates: of the data at every time but the last, `(steps, batch, *event)`.
      times: `(steps + 1,)`, from the noise to the data.
    """

    sample: Array
    states: Array
    estimates: Array
    times: Array


@dataclasses.dataclass(frozen=True)
class Sampler:
    """From noise to data. A subclass writes `step`; `plan` and `memory` where it needs them.

    ::

        sampler = lx.diffusion.Heun()
        denoiser = model.denoiser(params)
        x = sampler(process, denoiser, key, (16, 28, 28, 1), steps=18, grid="karras")

    The steps are one `jax.lax.scan`: compiling takes as long for 10 as for 1,000 of them. Inside a
    `jax.jit` of yours, that is; `DiffusionModel.sample` has one. Sample i has random numbers of its own,
    whatever the size of the batch. All paths, schedules and both directions of time do.
    """

    grid: ClassVar[Grid] = "time"

    @overload
    def __call__(
        self,
        process: Process,
        denoiser: Denoiser,
        key: Array,
        shape: tuple[int, ...],
        steps: int,
        *,
        grid: Grid | None = None,
        start: Any = None,
        denoise_last: bool = True,
        trajectory: Literal[False] = False,
    ) -> Array: ...

    @overload
    def __call__(
        self,
        process: Process,
        denoiser: Denoiser,
        key: Array,
        shape: tuple[int, ...],
        steps: int,
        *,
        grid: Grid | None = None,
        start: Any = None,
        denoise_last: bool = True,
        trajectory: bool,
    ) -> Array | Sampled: ...

    def __call__(
        self,
        process: Process,
        denoiser: Denoiser,
        key: Array,
        shape: tuple[int, ...],
        steps: int,
        *,
        grid: Grid | None = None,
        start: Any = None,
        denoise_last: bool = True,
        trajectory: bool = False,
    ) -> Array | Sampled:
        """Samples `(batch, *event)`, in the model's own units.

        Args:
          process: whose prior is the noise.
          denoiser: (z, level) -> `Denoised`, such as `model.denoiser(params)`; a function of
            `likelax.diffusion` that guides one gives another.
          key: a random key.
          shape: `(batch, *event)`.
          steps: how many.
          grid: "time", "log_snr" or "karras", a `lx.diffusion.TimeGrid`, or the times themselves,
            `(steps + 1,)`, from the noise to the data (default: what suits the sampler, its `grid`).
          start: z at the first of the times (default: a draw of `process.prior`).
          denoise_last: whether to end with what the denoiser says of the last z, at the price of another
            call. Else z / alpha is returned, which still has the noise of `log_snr_max` in it.
          trajectory: whether to return a `Sampled` with all that lies between.

        Raises:
          TypeError: for a denoiser that is none.
          ValueError: for no steps, times that do not lead from the noise to the data, and shapes that do
            not fit.
        """
        name, grid = type(self).__name__, self.grid if grid is None else grid
        check_steps(steps, name)
        shape = check_shape(shape, name)
        check_grid(grid, process, steps, whole=start is None)
        z = _first(process, stream(check_key(key), "start"), shape, start, name)
        levels = _cast(process.at(times_of(grid, process, steps)), z.dtype)
        denoiser = _checked(denoiser, name)
        keys = row_keys(stream(key, "steps"), z.shape[0])

        def advance(carry: Any, at: Step) -> tuple[Any, Any]:
            z, memory = carry

            def noise(number: Any) -> Array:
                return _normal(keys, at.number * self.draws + number, z)

            moved = self.step(denoiser, z, at, memory, noise)
            seen = (moved.z, moved.data) if trajectory else None
            return (moved.z, moved.memory), seen

        along = Step(
            Level(*(x[:-1] for x in levels)),
            Level(*(x[1:] for x in levels)),
            jnp.arange(steps),
            _cast(self.plan(process, levels), z.dtype),
        )
        (last, _), seen = jax.lax.scan(advance, (z, self.memory(z)), along)
        end = Level(*(x[-1] for x in levels))
        sample = denoiser(last, end).data if denoise_last else last / end.alpha
        if not trajectory:
            return sample
        return Sampled(sample, jnp.concatenate([z[None], seen[0]]), seen[1], levels.time)

    def step(self, denoiser: Denoiser, z: Array, at: Step, memory: Any, noise: Noise) -> Moved:
        """From z at the level `at.now` to `at.after`; what a subclass writes.

        Args:
          denoiser: (z, level) -> `Denoised`.
          z: `(batch, *event)`.
          at: the levels.
          memory: as the step before left it.
          noise: noise(i) draws standard Normal numbers of the shape of z, others for each i < `draws`.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no step")

    @property
    def draws(self) -> int:
        """How often a step may draw noise."""
        return 1

    def plan(self, process: Process, levels: Level) -> Any:
        """What follows from the levels, `(steps + 1,)`, alone: a tree of arrays `(steps, ...)`."""
        return ()

    def memory(self, z: Array) -> Any:
        """What the first step is given: a tree of arrays."""
        return ()


def _first(process: Process, key: Array, shape: tuple[int, ...], start: Any, name: str) -> Array:
    """z at the first time, of float32 or wider."""
    if start is None:
        prior = process.prior(shape[1:])
        z = jax.vmap(lambda key: prior.sample(key))(row_keys(key, shape[0]))
        return z.astype(jnp.result_type(float))
    z = jnp.asarray(start)
    if z.shape != shape:
        raise ValueError(
            f"{name}: start has shape {z.shape}, the samples {shape}; write shape=start.shape"
        )
    return z.astype(jnp.promote_types(z.dtype, jnp.float32))


def _normal(keys: Array, number: Any, z: Array) -> Array:
    """Standard Normal numbers for each row of z, from the row's key and the number of the draw."""

    def draw(key: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, number), z.shape[1:], z.dtype)

    return jax.vmap(draw)(keys)


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda x: x.astype(dtype), tree)


def _checked(denoiser: Denoiser, name: str) -> Denoiser:
    """The denoiser, held to the shape and the dtype of z."""
    if isinstance(denoiser, Objective):
        raise TypeError(
            f"{name}: a denoiser wanted, got a {type(denoiser).__name__}; write model.denoiser(params)"
        )

    def denoise(z: Array, level: Level) -> Denoised:
        found = denoiser(z, level)
        if not isinstance(found, Denoised):
            raise TypeError(
                f"{name}: a denoiser gives lx.diffusion.Denoised(data, noise), got "
                f"{type(found).__name__}; of a network it is model.denoiser(params)"
            )
        for part, x in found._asdict().items():
            if x is not None and x.shape != z.shape:
                raise ValueError(
                    f"{name}: the denoiser's {part} has the shape of its input {z.shape}, got {x.shape}; "
                    "return lx.diffusion.Denoised(data, noise), of the shape of z each"
                )
        return _cast(found, z.dtype)

    return denoise
