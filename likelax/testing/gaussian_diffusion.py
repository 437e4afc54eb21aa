"""Gaussian data, of which a diffusion model is known in closed form, and what that says of a bound."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from likelax._keys import check_key, stream
from likelax._pytree import Array
from likelax.diffusion.prediction import Denoised, Prediction, as_prediction
from likelax.diffusion.process import Level, Process
from likelax.diffusion.schedules import Learned, Linear
from likelax.objective import Batch, Objective
from likelax.testing.subject import quick_jit

Make = Callable[[Process, Any, str | Prediction], Objective]


class GaussianDiffusion:
    """Data x of N(m, diag lambda) under z = alpha x + sigma e, whose optimal denoiser is

        x_hat = m + alpha lambda (z - alpha m) / (alpha^2 lambda + sigma^2).

    Args:
      mean: m, `(D,)`.
      variance: lambda, `(D,)`, positive.
    """

    def __init__(self, mean: Any, variance: Any):
        self.mean, self.variance = (np.asarray(x, np.float64) for x in (mean, variance))

    @property
    def entropy(self) -> float:
        """E[-log p(x)] in nats."""
        return 0.5 * float(np.sum(1 + np.log(2 * math.pi * self.variance)))

    def log_prob(self, x: ArrayLike) -> np.ndarray:
        """log p(x) in nats, `(batch,)`."""
        d = np.asarray(x, np.float64) - self.mean
        each = d**2 / self.variance + np.log(2 * math.pi * self.variance)
        return -0.5 * np.sum(each, axis=-1)

    def sample(self, key: Array, count: int) -> Array:
        """`(count, D)`."""
        noise = jax.random.normal(key, (count, len(self.mean)))
        return self.mean.astype(noise.dtype) + np.sqrt(self.variance).astype(noise.dtype) * noise

    def denoised(self, z: Array, level: Level) -> Denoised:
        """E[x | z] and E[e | z], of the shape of z, `(*times, D)`."""
        at = level.like(z)
        mean, variance = jnp.asarray(self.mean, z.dtype), jnp.asarray(self.variance, z.dtype)
        total = at.alpha**2 * variance + at.sigma**2
        missed = z - at.alpha * mean
        return Denoised(mean + at.alpha * variance * missed / total, at.sigma * missed / total)

    def network(
        self,
        process: Process,
        prediction: str | Prediction = "v",
        level: Literal["log_snr", "time"] = "log_snr",
    ) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """The optimal denoiser as a network without parameters, `(init, apply)`.

        Args:
          process, prediction, level: as of the objective that takes it. Of a schedule that is learned it
            can be told the log-SNR, and no "velocity" asked.
        """
        known = as_prediction(prediction)
        if isinstance(process.schedule, Learned):
            process = dataclasses.replace(process, schedule=Linear())

        def apply(params: Any, z: Array, told: Array, *_: Any) -> Array:
            if level == "log_snr":
                span = process.log_snr_max - process.log_snr_min
                told = process.time_of(told * span - process.log_snr_max)
            at = process.at(told)
            estimate = self.denoised(z / known.input_scale(at)[:, None], at)
            return known.output(estimate.data, estimate.noise, at)

        return lambda key, *_: {}, apply

    def mean_diffusion(self, process: Process) -> float:
        """1/2 sum log[(1 + s0 lambda) / (1 + s1 lambda)]: the mean over the data of the diffusion term in
        continuous time, with s0 and s1 the signal-to-noise ratios at the data and at the noise.
        """
        s0, s1 = math.exp(process.log_snr_max), math.exp(process.log_snr_min)
        grown = np.log1p(s0 * self.variance) - np.log1p(s1 * self.variance)
        return 0.5 * float(np.sum(grown))

    def diffusion(self, x: ArrayLike, process: Process, *, steps: int | None = None) -> np.ndarray:
        """The diffusion term of each x in nats, `(batch,)`: 1/2 integral E|e - e_hat|^2 d gamma, or of a
        chain of so many steps 1/2 sum_i expm1(gamma_i - gamma_{i-1}) E|e - e_hat_i|^2 with

            E|e - e_hat|^2 = sum (s^2 lambda^2 + s (x - m)^2) / (1 + s lambda)^2,      s = exp(-gamma).
        """
        d2, lam = (np.asarray(x, np.float64) - self.mean) ** 2, self.variance
        if steps is None:
            s = np.exp([process.log_snr_min, process.log_snr_max])[:, None, None]
            whole = np.log1p(s * lam) + (1 - d2 / lam) / (1 + s * lam)
            return 0.5 * np.sum(whole[1] - whole[0], axis=-1)
        early = np.linspace(0, 1, steps + 1)
        gamma = np.asarray(process.gamma(early if process.data_at == 0 else 1 - early), np.float64)
        s = np.exp(-gamma[1:, None, None])
        error = np.sum((s**2 * lam**2 + s * d2) / (1 + s * lam) ** 2, axis=-1)
        return 0.5 * np.expm1(np.diff(gamma)) @ error

    def bound(self, x: ArrayLike, process: Process, *, steps: int | None = None) -> np.ndarray:
        """The variational bound of each x at the optimal denoiser in nats, `(batch,)`: with the prior
        N(0, alpha^2 + sigma^2) at the noise and p(x | z) = N(z / alpha, sigma^2 / alpha^2) at the data.
        """
        x, size = np.asarray(x, np.float64), len(self.mean)
        s1 = math.exp(process.log_snr_min)
        # Of z / sigma against its prior, whose variance is 1 + SNR.
        each = 0.5 * (np.log1p(s1) + (1 + s1 * x**2) / (1 + s1) - 1)
        reconstruction = 0.5 * size * (math.log(2 * math.pi) + 1 - process.log_snr_max)
        return np.sum(each, axis=-1) + reconstruction + self.diffusion(x, process, steps=steps)


def example_data() -> GaussianDiffusion:
    """Three numbers, alike in nothing."""
    return GaussianDiffusion([0.4, -0.9, 0.2], [0.3, 1.2, 2.0])


def check_diffusion_bound(
    make: Make,
    *,
    key: Array,
    process: Process | None = None,
    prediction: str | Prediction = "v",
    level: Literal["log_snr", "time"] = "log_snr",
    steps: int | None = None,
    draws: int = 10_000,
    data: GaussianDiffusion | None = None,
) -> None:
    """Passes if an objective at the optimal denoiser of Gaussian data is their variational bound, which is
    known: 1/2 sum log[(1 + s0 lambda) / (1 + s1 lambda)] on average, and the terms of both ends.

    Three examples, each `draws` times, within 4 standard errors.

    Args:
      make: `(process, net, prediction) -> objective`; the objective takes a `lx.Batch(target)`.
      key: a random key.
      process: which one (default: variance preserving, log SNR linear from 8 to -7: with some others the
        loss varies more, and less is found).
      prediction: what the network predicts.
      level: what the objective tells the network of the noise.
      steps: of the chain, None for continuous time.
      draws: of time and noise for each example.
      data: which (default: three numbers).

    Raises:
      AssertionError: with the example, what was found and what is right.
    """
    data = data or example_data()
    process = process or Process(schedule=Linear(), log_snr_max=8.0, log_snr_min=-7.0)
    x = data.sample(stream(check_key(key), "data"), 3)
    objective = make(process, data.network(process, prediction, level), prediction)
    # Tiled, so that times which are strata of the batch are so for each example.
    batch = Batch(jnp.tile(x, (draws, 1)))

    def ask(key: Array) -> Array:
        params, state = objective.init(stream(key, "init"), batch)
        return objective(params, stream(key, "loss"), batch, state=state)[1].per_example

    each = np.asarray(quick_jit(ask)(key), np.float64).reshape(draws, 3)
    mean, error = each.mean(0), each.std(0) / math.sqrt(draws)
    wanted = data.bound(x, process, steps=steps)
    for i in range(3):
        if not abs(mean[i] - wanted[i]) <= 4 * error[i] + 1e-4 * abs(wanted[i]):
            raise AssertionError(
                f"example {i} costs {mean[i]:.5f} ± {error[i]:.5f} nats on average, and the "
                f"variational bound is {wanted[i]:.5f}"
            )
