"""Consistency training: a network that goes from any noise level to the data in one step."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from likelax._checks import are_numbers, is_count
from likelax._keys import row_keys, stream
from likelax._pytree import Array
from likelax.diffusion._noise import normal_like
from likelax.diffusion.model import DiffusionModel
from likelax.diffusion.prediction import Denoised, Prediction
from likelax.diffusion.process import Level, Process
from likelax.diffusion.schedules import Karras
from likelax.numerics.normal import log_ndtr_interval
from likelax.objective import Batch, Claim, Scores


class ConsistencyTraining(DiffusionModel):
    """E [w_n d(f(z_n+1, n+1), stop(f(z_n, n)))]: f is the same along a path, and at its end, z itself
    (Song et al. 2023, algorithm 3; Song and Dhariwal 2024, whose choices these are).

    f = c_skip z + c_out F with c_skip = 1 and c_out = 0 at the end with the data; both z have the same
    noise; d is the pseudo-Huber distance sqrt(|.|^2 + c^2) - c with c = 0.00054 sqrt(size), and w_n =
    1 / (s_n+1 - s_n) with s = sigma / alpha. Levels are those of `steps` equal parts of time, log s
    drawn from a Normal.

    One step makes a sample: `model.denoiser(params)(z, level).data` of z at the end with the noise. No
    likelihood comes of it. The number of steps is meant to grow in training: make an objective for
    each, the parameters are the same.

    Args:
      net, data, level: as for `DiffusionModel`; the network gives F and is given z scaled to unit
        variance.
      steps: how many parts.
      process: default `Process("variance_exploding", Karras(7), 11.0, -10.2)`, s from 0.004 to 164 times
        the data's scale.
      mean, std: of log s.
      data_scale: the standard deviation of the data.

    Raises:
      ValueError: for steps, a mean or a std that are none.
    """

    claim = Claim("none")

    def __init__(
        self,
        net: Any,
        *,
        steps: int = 10,
        process: Process | None = None,
        data: Any = None,
        mean: float = -0.4,
        std: float = 2.0,
        data_scale: float = 1.0,
        level: Any = "log_snr",
    ):
        if not is_count(steps):
            raise ValueError(
                f"ConsistencyTraining: steps is a whole number >= 1, got {steps!r}; write steps=10"
            )
        if not (are_numbers(mean, std) and std > 0):
            raise ValueError(
                f"ConsistencyTraining: a mean and std > 0 wanted, got {mean!r} and {std!r}; write "
                "mean=-0.4, std=2.0"
            )
        process = process or Process("variance_exploding", Karras(7.0), 11.0, -10.2)
        prediction = Prediction("edm", data_scale)
        super().__init__(process, net, prediction, data=data, level=level)
        self.steps, self.mean, self.std = int(steps), mean, std

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        x = self._encoded(batch.target, keep)
        process = self.process_of(params)
        noisier, cleaner = self._levels(process, stream(key, "times"), x.shape[0])
        noise = normal_like(stream(key, "noise"), x)

        def found(params: Any, level: Level) -> tuple[Array, Any]:
            at = level.like(x)
            z = at.alpha * x + at.sigma * noise
            # The same dropout for both.
            output, after = self._output(
                params, z, level, batch.input, key=stream(key, "net"), state=state, train=train
            )
            return self._consistent(process, output, z, level), after

        guess, state = found(params, noisier)
        wanted, _ = found(jax.lax.stop_gradient(params), cleaner)
        distance = _pseudo_huber(guess - wanted)
        weight = 1 / (jnp.exp(0.5 * noisier.gamma) - jnp.exp(0.5 * cleaner.gamma))
        cost = self._priced(weight * distance, batch.target)
        return Scores(cost, {}, state, self.claim)

    def _denoised(self, params: Any, outputs: Array, z: Array, level: Level) -> Denoised:
        """As of any model; `data` is f, the end of z's path, and not a mean of data."""
        data, at = self._consistent(self.process_of(params), outputs, z, level), level.like(z)
        return Denoised(data, (z - at.alpha * data) / at.sigma)

    def _consistent(self, process: Process, output: Array, z: Array, level: Level) -> Array:
        """f, of the network's output (Song et al. 2023, appendix C)."""
        first = process.ends()[0]
        s, s_min = (jnp.exp(0.5 * p.gamma) for p in (level.like(z), first))
        d = self.prediction.data_scale
        skip = d**2 / ((s - s_min) ** 2 + d**2)
        return skip * z / level.like(z).alpha + d * (s - s_min) / jnp.hypot(s, d) * output

    def _levels(self, process: Process, key: Array, count: int) -> tuple[Level, Level]:
        """Neighbouring levels, the noisier first, one pair for each example."""
        parts = jnp.arange(self.steps + 1) / self.steps
        times = parts if process.data_at == 0 else 1 - parts
        log_s = (0.5 * process.gamma(times) - self.mean) / self.std
        log_prob = log_ndtr_interval(log_s[:-1], log_s[1:])
        index = jax.vmap(lambda key: jax.random.categorical(key, log_prob))(row_keys(key, count))
        return process.at(times[index + 1]), process.at(times[index])


def _pseudo_huber(x: Array) -> Array:
    """sqrt(|x|^2 + c^2) - c of each example, without a difference of near numbers."""
    square = jnp.sum(x**2, axis=tuple(range(1, x.ndim)))
    c = 0.00054 * math.sqrt(math.prod(x.shape[1:]))
    return square / (jnp.sqrt(square + c**2) + c)
