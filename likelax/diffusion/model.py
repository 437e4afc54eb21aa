"""A network that predicts what noise was added to data: the base of the objectives that train one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from likelax._checks import is_number
from likelax._keys import check_key, stream
from likelax._pytree import Array, is_traced
from likelax.diffusion.condition import doubled, dropped, without
from likelax.diffusion.data import Pixels, as_data
from likelax.diffusion.grids import Grid, TimeGrid, check_grid, check_shape, check_steps
from likelax.diffusion.guidance import Interval, check_interval, extrapolated, scale_at
from likelax.diffusion.prediction import Denoised, Denoiser, Prediction, as_prediction
from likelax.diffusion.process import Level, Process
from likelax.diffusion.sampler import Sampled, Sampler
from likelax.diffusion.samplers import DPMSolver
from likelax.networks import Arguments, Variables, adapt, called
from likelax.objective import Batch, Objective, trailing


class DiffusionModel(Objective):
    """A process and a network: parameters, calls, and the denoiser that samplers take.

    Args:
      process: `lx.diffusion.Process(...)`.
      net: a network (see `likelax.networks`), called as net(z, level), or net(z, level, input) where the
        batch has an input: z `(batch, *event)`, level `(batch,)`, and out comes the shape of z.
      prediction: what its output means, a name or a `lx.diffusion.Prediction`.
      data: `lx.diffusion.Real(loc, scale)` or `lx.diffusion.Pixels(bins)` (default: `Real()`, data as
        they are, of about unit variance).
      level: what the network is told of the noise: "log_snr", the log-SNR scaled to run from 0 at the
        data to 1 at the noise, or "time".
      condition_dropout: the part of the examples whose input is replaced by `null` in training, so that
        the model learns to do without (Ho and Salimans 2022, alg. 1).
      null: what one example's input is where there is none, a tree of the input's structure: a label of
        its own, zeros. Guidance wants it.

    Parameters are `{"net": .., "process": ..}`, the latter empty unless the schedule is learned.

    Raises:
      TypeError: for a process or data that are none.
      ValueError: for another level, a dropout outside [0, 1) or without a null, and where the network's
        output has another shape than z.
    """

    def __init__(
        self,
        process: Process,
        net: Any,
        prediction: str | Prediction = "v",
        *,
        data: Any = None,
        level: Literal["log_snr", "time"] = "log_snr",
        condition_dropout: float = 0.0,
        null: Any = None,
    ):
        if not isinstance(process, Process):
            raise TypeError(
                f"{self._name}: a Process wanted, got {_named(process)}; write "
                'lx.diffusion.Process("variance_preserving", lx.diffusion.Cosine())'
            )
        if level not in ("log_snr", "time"):
            raise ValueError(f'{self._name}: level is "log_snr" or "time", got {level!r}')
        if not (is_number(condition_dropout) and 0 <= condition_dropout < 1):
            raise ValueError(
                f"{self._name}: condition_dropout is in [0, 1), got {condition_dropout!r}; write 0.1"
            )
        if condition_dropout and null is None:
            raise ValueError(
                f"{self._name}: condition_dropout={condition_dropout} wants null=, the input of an example "
                "that has none: for labels 0..9 write null=10, and embed 11 of them"
            )
        self.process, self.net, self.level = process, adapt(net), level
        self.condition_dropout, self.null = condition_dropout, null
        self.prediction = as_prediction(prediction)
        self.data = as_data(data)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def check(self, batch: Any) -> None:
        """Raises, where values are known, for data outside their range."""
        super().check(batch)
        if isinstance(self.data, Pixels) and not is_traced(batch):
            with jax.ensure_compile_time_eval():
                batch, keep = self._prepared(batch)
                self._encoded(self._data_of(batch.target), keep)

    def _data_of(self, target: Any) -> Any:
        """The part of a target that is data."""
        return target

    # Parameters.

    def init(self, key: Array, batch: Batch) -> Variables:
        batch, keep = self._prepared(batch)
        x = self._encoded(batch.target, keep)
        if self.null is not None:
            self._with_null(without, batch.input)
        own = self.process.init(stream(key, "process"))
        level = self.process.bind(own).at(jnp.full(x.shape[:1], 0.5, x.dtype))
        given = self._arguments(x, level, batch.input)
        with called(f"net(z, level, ...) of {self._name}, z of a target (batch, *event)", given):
            params, state = self.net.init(stream(key, "net"), given)
            out, _ = jax.eval_shape(
                functools.partial(self.net.apply, key=None, state=state, train=False), params, given
            )
        self._check_output(out, x.shape)
        return Variables({"net": params, "process": own}, state)

    def merge(self, params: Any, state: Any = ()) -> Any:
        return self.net.merge(params["net"], state)

    def process_of(self, params: Any) -> Process:
        """The process with the schedule that was learned, if it is."""
        return self.process.bind(params["process"])

    # Calls of the network.

    def _arguments(self, z: Array, level: Level, input: Any) -> Arguments:
        scaled = trailing(self.prediction.input_scale(level), z.ndim) * z
        parts = (scaled, level.position if self.level == "log_snr" else level.time)
        if isinstance(input, Arguments):
            return Arguments((*parts, *input.positional), input.named)
        return Arguments(parts if input is None else (*parts, input))

    def _outputs(
        self,
        params: Any,
        z: Array,
        level: Level,
        input: Any,
        *,
        key: Array | None = None,
        state: Any = (),
        train: bool = False,
    ) -> tuple[Array, Any]:
        """All that the network says of z, `(batch, *event)`, at levels `(batch,)`, and its next state."""
        self._check_input(input)
        if train and self.condition_dropout:
            own = stream(check_key(key), "condition")
            drop = functools.partial(dropped, key=own, rate=self.condition_dropout)
            input = self._with_null(drop, input)
        given = self._arguments(z, level, input)
        out, state = self.net.apply(params["net"], given, key=key, state=state, train=train)
        self._check_output(out, z.shape)
        return out.astype(z.dtype), state

    def _output(
        self, params: Any, z: Array, level: Level, input: Any, **options: Any
    ) -> tuple[Array, Any]:
        """The prediction, of the shape of z, and the network's next state."""
        out, state = self._outputs(params, z, level, input, **options)
        return out if self._outputs_each == 1 else out[..., : z.shape[-1]], state

    @property
    def _outputs_each(self) -> int:
        """How many outputs for each entry of z, one after the other on the last axis."""
        return 1

    def _denoised(self, params: Any, outputs: Array, z: Array, level: Level) -> Denoised:
        """What the network's outputs mean."""
        return self.prediction.denoised(outputs, z, level)

    def _check_output(self, out: Any, z: tuple[int, ...]) -> None:
        each = self._outputs_each
        if each > 1 and len(z) < 2:
            raise ValueError(f"{self._name}: a target of shape (batch, *event) wanted, got {z}")
        wanted = z if each == 1 else (*z[:-1], each * z[-1])
        if not hasattr(out, "shape"):
            raise TypeError(
                f"{self._name}: the network puts out one array of shape {wanted}, got "
                f"{type(out).__name__}; have it return that array alone"
            )
        if out.shape != wanted:
            times = {1: "as", 2: "twice as"}[each]
            raise ValueError(
                f"{self._name}: for z of shape {z} the network puts out {wanted}, got {out.shape}; give "
                f"its last layer {times} many outputs as z has"
            )

    def _check_input(self, input: Any) -> None:
        """Raises where none is given to a network that has learned what `null` is instead."""
        if input is None and self.null is not None:
            raise ValueError(
                f"{self._name}: guidance and condition_dropout are for an input that may be missing; give "
                "lx.Batch(target, input=labels), or where it is missing as many rows of null"
            )

    def _with_null(self, change: Callable[..., Any], input: Any) -> Any:
        """`change` of the input and of `null`."""
        if input is None or self.null is None:
            missing = (
                "lx.Batch(target, input=labels)" if input is None else "null=, as its argument"
            )
            raise ValueError(
                f"{self._name}: guidance and condition_dropout are for an input that may be missing; "
                f"give {missing}"
            )
        try:
            return change(input, self.null)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self._name}: {error}") from error

    def denoiser(
        self,
        params: Any,
        *,
        input: Any = None,
        state: Any = (),
        guidance_scale: Any = None,
        guidance_interval: Interval | None = None,
    ) -> Denoiser:
        """The trained network as samplers take it: (z, level) -> `Denoised`, z `(batch, *event)` in the
        model's own units, level without axes or `(batch,)`.

        Args:
          params: as from `init` or training.
          input: of a conditional model, one for each z.
          state: as from `init` or training.
          guidance_scale: of `lx.diffusion.classifier_free`, from the input and from `null`; the network is
            called once, with a batch of twice the size. None: the input as it is.
          guidance_interval: the log-SNRs between which the scale holds.

        Raises:
          ValueError: for guidance without an input or a null, an interval without a scale, and no input
            where there is a null.
        """
        check_interval(guidance_interval)
        if guidance_scale is None and guidance_interval is not None:
            raise ValueError(
                f"{self._name}: guidance_interval is of guidance, and there is none; write "
                "guidance_scale=2.0"
            )

        def denoise(z: Array, level: Level) -> Denoised:
            each = Level(*(jnp.broadcast_to(x, z.shape[:1]) for x in level))
            out, _ = self._outputs(params, z, each, input, state=state)
            return self._denoised(params, out, z, each)

        if guidance_scale is None:
            return denoise
        both = self._with_null(doubled, input)

        def guided(z: Array, level: Level) -> Denoised:
            each = Level(*(jnp.broadcast_to(x, z.shape[:1]) for x in level))
            twice = Level(*(jnp.concatenate([x, x]) for x in each))
            out, _ = self._outputs(params, jnp.concatenate([z, z]), twice, both, state=state)
            given, free = (self._denoised(params, half, z, each) for half in jnp.split(out, 2))
            here = scale_at(each.like(z), guidance_scale, guidance_interval)
            return extrapolated(given, free, here)

        return guided

    def sample(
        self,
        params: Any,
        key: Array,
        shape: tuple[int, ...],
        *,
        steps: int,
        sampler: Sampler | None = None,
        grid: Grid | None = None,
        input: Any = None,
        guidance_scale: Any = None,
        guidance_interval: Interval | None = None,
        guide: Callable[[Denoiser], Denoiser] | None = None,
        start: Any = None,
        denoise_last: bool = True,
        trajectory: bool = False,
        state: Any = (),
    ) -> Any:
        """Samples `(batch, *event)` in the units of the data, as a target has them.

        Compiled once for each shape, number of steps, sampler and grid; parameters, input, scale and start
        may change.

        Args:
          params, state: as from `init` or training.
          key: a random key.
          shape: `(batch, *event)`.
          steps: how many.
          sampler: such as `lx.diffusion.Heun()` (default: `lx.diffusion.DPMSolver()`).
          grid, start, denoise_last, trajectory: as a `Sampler` takes them. Of a trajectory the sample and
            the estimates are in the units of the data, the states in the model's own.
          input: of a conditional model, one for each sample.
          guidance_scale, guidance_interval: see `denoiser`.
          guide: a function of a denoiser to one, after that, compiled anew for each; or a
            `jax.tree_util.Partial` of one, whose arguments may change:
            `Partial(lx.diffusion.inpainting, known=x, mask=seen)`.

        Raises:
          TypeError: for a sampler that is none.
          ValueError: for no steps, a grid that is none, and shapes that do not fit.
        """
        sampler = DPMSolver() if sampler is None else sampler
        shape = check_shape(shape, f"{self._name}.sample")
        if not isinstance(sampler, Sampler):
            raise TypeError(
                f"{self._name}: a sampler wanted, got {sampler!r}; write sampler=lx.diffusion.Heun()"
            )
        for leaf in jax.tree.leaves(input):
            if jnp.shape(leaf)[:1] != shape[:1]:
                raise ValueError(
                    f"{self._name}.sample: samples of shape {shape} want an input of shape "
                    f"({shape[0]}, ...), got {jnp.shape(leaf)}"
                )
        check_steps(steps, f"{self._name}.sample")
        grid = sampler.grid if grid is None else grid
        check_grid(grid, self.process, steps, whole=start is None)
        options = _Options(steps, sampler, guidance_interval, denoise_last, trajectory, shape)
        if not isinstance(guide, jax.tree_util.Partial) and guide is not None:
            guide = jax.tree_util.Partial(guide)
        named = isinstance(grid, str | TimeGrid)
        if named:
            options = options._replace(grid=grid)
        times = None if named else jnp.asarray(grid)
        return _sampled(
            self, options, params, check_key(key), times, input, guidance_scale, guide, start, state
        )

    # Data.

    def _encoded(self, target: Any, keep: Array | None) -> Array:
        if isinstance(target, tuple | list | dict):
            raise TypeError(
                f"{self._name}: a target is one array (batch, *event), got {type(target).__name__}; "
                "pairs are for the training of lx.diffusion.FlowMatching: write lx.Batch(pairs.target)"
            )
        x = jnp.asarray(target)
        if x.ndim < 1:
            raise ValueError(f"{self._name}: a target has shape (batch, *event), got {x.shape}")
        try:
            return self.data.encoded(x, keep)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self._name}: {error}") from error

    def _seen(self, target: Any, keep: Array | None) -> Array | None:
        """Which examples are kept and have a price; None for all."""
        if not isinstance(self.data, Pixels):
            return keep
        good = self.data.contains(jnp.asarray(target))
        return good if keep is None else keep & trailing(good, keep.ndim)

    def _priced(self, cost: Array, target: Any) -> Array:
        """Costs, infinite and without a gradient where a target lies outside its range."""
        good = self._seen(target, None)
        return cost if good is None else jnp.where(good, cost, jnp.inf)


def _named(x: Any) -> str:
    """x itself where that is short."""
    return repr(x) if isinstance(x, str | type) or x is None else f"a {type(x).__name__}"


class _Options(NamedTuple):
    """What a compiled `sample` is compiled for."""

    steps: int
    sampler: Sampler
    interval: Interval | None
    denoise_last: bool
    trajectory: bool
    shape: tuple[int, ...]
    grid: Any = None


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sampled(
    model: DiffusionModel,
    options: _Options,
    params: Any,
    key: Array,
    times: Any,
    input: Any,
    scale: Any,
    guide: Any,
    start: Any,
    state: Any,
) -> Any:
    denoiser = model.denoiser(
        params,
        input=input,
        state=state,
        guidance_scale=scale,
        guidance_interval=options.interval,
    )
    found = options.sampler(
        model.process_of(params),
        denoiser if guide is None else guide(denoiser),
        key,
        options.shape,
        options.steps,
        grid=options.grid if times is None else times,
        start=start,
        denoise_last=options.denoise_last,
        trajectory=options.trajectory,
    )
    decoded = model.data.decoded
    if isinstance(found, Sampled):
        return found._replace(sample=decoded(found.sample), estimates=decoded(found.estimates))
    return decoded(found)
