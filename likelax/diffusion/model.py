"""A network that predicts what noise was added to data: the base of the objectives that train one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from likelax._keys import stream
from likelax._pytree import Array
from likelax.diffusion.data import as_data
from likelax.diffusion.prediction import Denoised, Prediction, as_prediction
from likelax.diffusion.process import Level, Process
from likelax.networks import Arguments, Variables, adapt
from likelax.objective import Batch, Objective, trailing

Denoiser = Callable[[Array, Level], Denoised]


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

    Parameters are `{"net": .., "process": ..}`, the latter empty unless the schedule is learned.

    Raises:
      TypeError: for a process or data that are none.
      ValueError: for another level, and where the network's output has another shape than z.
    """

    def __init__(
        self,
        process: Process,
        net: Any,
        prediction: str | Prediction = "v",
        *,
        data: Any = None,
        level: Literal["log_snr", "time"] = "log_snr",
    ):
        if not isinstance(process, Process):
            raise TypeError(
                f"{self._name}: a Process wanted, got {process!r}; write "
                'lx.diffusion.Process("variance_preserving", lx.diffusion.Cosine())'
            )
        if level not in ("log_snr", "time"):
            raise ValueError(f'{self._name}: level is "log_snr" or "time", got {level!r}')
        self.process, self.net, self.level = process, adapt(net), level
        self.prediction = as_prediction(prediction)
        self.data = as_data(data)

    @property
    def _name(self) -> str:
        return type(self).__name__

    # Parameters.

    def init(self, key: Array, batch: Batch) -> Variables:
        batch, keep = self._prepared(batch)
        x = self._encoded(batch.target, keep)
        own = self.process.init(stream(key, "process"))
        level = self.process.bind(own).at(jnp.full(x.shape[:1], 0.5, x.dtype))
        given = self._arguments(x, level, batch.input)
        params, state = self.net.init(stream(key, "net"), given)
        out, _ = jax.eval_shape(
            functools.partial(self.net.apply, key=None, state=state, train=False), params, given
        )
        self._check_output(out.shape, x.shape)
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

    def _output(
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
        """What the network says of z, `(batch, *event)`, at levels `(batch,)`, and its next state."""
        given = self._arguments(z, level, input)
        out, state = self.net.apply(params["net"], given, key=key, state=state, train=train)
        self._check_output(out.shape, z.shape)
        return out.astype(z.dtype), state

    def _check_output(self, got: tuple[int, ...], wanted: tuple[int, ...]) -> None:
        if got != wanted:
            raise ValueError(
                f"{self._name}: the network's output has the shape of its input {wanted}, got {got}; "
                "give its last layer as many outputs as z has"
            )

    def denoiser(self, params: Any, *, input: Any = None, state: Any = ()) -> Denoiser:
        """The trained network as samplers take it: (z, level) -> `Denoised`, z `(batch, *event)` in the
        model's own units, level without axes or `(batch,)`.

        Args:
          params: as from `init` or training.
          input: of a conditional model, one for each z.
          state: as from `init` or training.
        """

        def denoise(z: Array, level: Level) -> Denoised:
            each = Level(*(jnp.broadcast_to(x, z.shape[:1]) for x in level))
            out, _ = self._output(params, z, each, input, state=state)
            return self.prediction.denoised(out, z, each)

        return denoise

    # Data.

    def _encoded(self, target: Any, keep: Array | None) -> Array:
        x = jnp.asarray(target)
        if x.ndim < 1:
            raise ValueError(f"{self._name}: a target has shape (batch, *event), got {x.shape}")
        try:
            return self.data.encoded(x, keep)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self._name}: {error}") from error


def row_keys(key: Array, count: int) -> Array:
    """A key for each example by its number, so that the batch's size does not matter."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))


def normal_like(key: Array, x: Array) -> Array:
    """Standard Normal numbers, those of each example from its number in the batch."""

    def draw(key: Array) -> Array:
        return jax.random.normal(key, x.shape[1:], x.dtype)

    return jax.vmap(draw)(row_keys(key, x.shape[0]))


def uniform_like(key: Array, x: Array) -> Array:
    """Uniform numbers in (0, 1), those of each example from its number in the batch."""

    def draw(key: Array) -> Array:
        return jax.random.uniform(key, x.shape[1:], x.dtype)

    # Midpoints of the cells of which these are the lower ends: neither 0 nor 1.
    half = float(jnp.finfo(x.dtype).eps) / 2
    return jax.vmap(draw)(row_keys(key, x.shape[0])) + half
