"""The process that turns data into noise, z_t = alpha_t x + sigma_t e, with e standard Normal."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from likelax._pytree import Array
from likelax.diffusion.schedules import Cosine, Learned, Schedule
from likelax.distributions.base import Distribution
from likelax.distributions.normal import Normal
from likelax.numerics.logspace import log1mexp, log_sigmoid

Path = Literal["variance_preserving", "variance_exploding", "sub_variance_preserving", "straight"]

# log alpha as a function of gamma = -log SNR; log sigma is log alpha + gamma / 2.
_PATHS: dict[str, Callable[[Array], tuple[Array, Array]]] = {
    # alpha^2 + sigma^2 = 1
    "variance_preserving": lambda g: (0.5 * log_sigmoid(-g), 0.5 * log_sigmoid(g)),
    # alpha = 1
    "variance_exploding": lambda g: (jnp.zeros_like(g), 0.5 * g),
    "sub_variance_preserving": lambda g: _sub_variance_preserving(g),
    # alpha + sigma = 1
    "straight": lambda g: (log_sigmoid(-0.5 * g), log_sigmoid(0.5 * g)),
}


def _sub_variance_preserving(gamma: Array) -> tuple[Array, Array]:
    """Of sigma = 1 - alpha^2, so that exp(gamma / 2) = 2 sinh(-log alpha)."""
    log_alpha = -jnp.arcsinh(0.5 * jnp.exp(0.5 * gamma))
    # Near sigma = 1 the difference of the logarithms has no digits left.
    late = gamma > 0
    near_one = log1mexp(jnp.where(late, -2 * log_alpha, 1.0))
    return log_alpha, jnp.where(late, near_one, log_alpha + 0.5 * gamma)


class Level(NamedTuple):
    """A process at some times; every array has the shape of the times.

    Attributes:
      time: t.
      gamma: -log SNR.
      alpha, sigma: of z = alpha x + sigma e.
      log_alpha, log_sigma: their logarithms.
      gamma_rate, alpha_rate, sigma_rate: derivatives in t.
      position: (gamma - gamma_min) / (gamma_max - gamma_min), from 0 at the data to 1 at the noise: what
        a network is told of the noise.
    """

    time: Array
    gamma: Array
    alpha: Array
    sigma: Array
    log_alpha: Array
    log_sigma: Array
    gamma_rate: Array
    alpha_rate: Array
    sigma_rate: Array
    position: Array

    def like(self, z: Array) -> Level:
        """With axes of length 1 at the end, to go beside z, `(*times, *event)`."""

        def grown(x: Array) -> Array:
            return x.reshape(x.shape + (1,) * (z.ndim - x.ndim))

        return Level(*map(grown, self))


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["schedule", "log_snr_max", "log_snr_min"],
    meta_fields=["path", "data_at"],
)
@dataclasses.dataclass(frozen=True)
class Process:
    """z_t = alpha_t x + sigma_t e: how much data and how much noise there is at time t, in [0, 1].

    ::

        process = lx.diffusion.Process("variance_preserving", lx.diffusion.Cosine())
        level = process.at(jnp.linspace(0, 1, 11))
        z = level.alpha[:, None] * x + level.sigma[:, None] * noise

    The path says how alpha and sigma follow from the signal-to-noise ratio SNR = alpha^2 / sigma^2, the
    schedule how the ratio follows from the time:

    * "variance_preserving": alpha^2 + sigma^2 = 1 (Ho et al. 2020),
    * "variance_exploding": alpha = 1 (Song and Ermon 2019; Karras et al. 2022),
    * "sub_variance_preserving": sigma = 1 - alpha^2 (Song et al. 2021, eq. 29),
    * "straight": alpha + sigma = 1 (flow matching: Liu et al. 2023; Lipman et al. 2023),
    * `Lipman(sigma_min)`, `SchrodingerBridge(scale)`: those of flow matching, each with a schedule that
      is itself.

    Args:
      path: one of them.
      schedule: `Cosine()`, `Linear()`, `LinearBeta()`, `Sigmoid()`, `Polynomial()`, `LogNormal()`,
        `Straight()`, `Karras()`, or `Learned()`.
      log_snr_max, log_snr_min: of the end with the data, and of the end with the noise.
      data_at: the time that has the data, 0 or 1; noise is at the other one.

    Raises:
      TypeError: for a schedule that is a name or a class.
      ValueError: for ends, a path or a time that are none.
    """

    path: Path | Any = "variance_preserving"
    schedule: Schedule = dataclasses.field(default_factory=Cosine)
    log_snr_max: Any = 13.0
    log_snr_min: Any = -10.0
    data_at: int = 0

    def __post_init__(self) -> None:
        self._check_names()
        if isinstance(self.data_at, bool) or self.data_at not in (0, 1):
            raise ValueError(
                f"Process: data_at is the time that has the data, 0 or 1, got {self.data_at!r}"
            )
        ends = self.log_snr_max, self.log_snr_min
        # Of other kinds tree operations may be the makers.
        if any(isinstance(end, str | list) for end in ends):
            raise TypeError(
                f"Process: log_snr_max and log_snr_min are numbers, got {ends[0]!r} and {ends[1]!r}; "
                "write log_snr_max=13.0, log_snr_min=-10.0"
            )
        if all(isinstance(end, int | float) for end in ends):
            if not (all(map(math.isfinite, ends)) and self.log_snr_min < self.log_snr_max):
                raise ValueError(
                    "Process: log_snr_min < log_snr_max wanted, both finite, got "
                    f"log_snr_min={self.log_snr_min} and log_snr_max={self.log_snr_max}"
                )
            # In tree operations a schedule may be anything.
            if isinstance(self.schedule, Schedule) and not isinstance(self.schedule, Learned):
                _check_monotone(self)

    def _check_names(self) -> None:
        known = isinstance(self.path, str) and self.path in _PATHS
        own = hasattr(self.path, "log_coefficients") and not isinstance(self.path, type)
        if not (known or own):
            raise ValueError(
                f"Process: path is one of {sorted(_PATHS)}, lx.diffusion.Lipman() or "
                f"lx.diffusion.SchrodingerBridge(), got {self.path!r}"
            )
        # In tree operations a schedule may be anything, but none of these.
        if self.schedule is None or isinstance(self.schedule, str | type):
            raise TypeError(
                f"Process: schedule is an object such as lx.diffusion.Cosine(), got {self.schedule!r}; "
                f'write lx.diffusion.Process("variance_preserving", lx.diffusion.Cosine())'
            )

    # Parameters.

    def init(self, key: Array) -> dict[str, Any]:
        """What is trained: the schedule of `Learned()` and its ends; else nothing."""
        if not isinstance(self.schedule, Learned):
            return {}
        ends = {"log_snr_max": self.log_snr_max, "log_snr_min": self.log_snr_min}
        return {
            "schedule": self.schedule.init(key),
            **{k: jnp.asarray(v, jnp.result_type(float)) for k, v in ends.items()},
        }

    def bind(self, params: dict[str, Any]) -> Process:
        """This process with trained parameters."""
        if not params:
            return self
        schedule = dataclasses.replace(self.schedule, params=params["schedule"])  # type: ignore
        return dataclasses.replace(self, **{**params, "schedule": schedule})

    # Times.

    def gamma(self, time: Any) -> Array:
        """-log SNR at these times, in [0, 1]."""
        t = _floating(time)
        s, rest = (t, 1 - t) if self.data_at == 0 else (1 - t, t)
        low, high = (_floating(-end) for end in (self.log_snr_max, self.log_snr_min))
        return self.schedule.between(s, rest, low, high)

    def time_of(self, gamma: Any) -> Array:
        """The time at which -log SNR is gamma; the inverse of `gamma`."""
        low, high = (_floating(-end) for end in (self.log_snr_max, self.log_snr_min))
        s, rest = self.schedule.part(_floating(gamma), low, high)
        return s if self.data_at == 0 else rest

    def at(self, time: Any) -> Level:
        """Everything about these times, in [0, 1]."""
        t = _floating(time)
        return self._level(t, *jax.jvp(self.gamma, (t,), (jnp.ones_like(t),)))

    def position(self, time: Any) -> tuple[Array, Array]:
        """Of a learned schedule `Level.position` and its derivative in t, neither of which depends on the
        schedule's ends.
        """
        inner = dataclasses.replace(self, log_snr_max=0.0, log_snr_min=-1.0)
        t = _floating(time)
        return jax.jvp(inner.gamma, (t,), (jnp.ones_like(t),))

    def at_position(self, time: Array, position: Array, rate: Array) -> Level:
        """The inverse of `position`: everything about these times."""
        span = self.log_snr_max - self.log_snr_min
        return self._level(time, span * position - self.log_snr_max, span * rate)

    def _level(self, t: Array, gamma: Array, gamma_rate: Array) -> Level:
        path = getattr(self.path, "log_coefficients", None) or _PATHS[self.path]
        (log_alpha, log_sigma), slopes = jax.jvp(path, (gamma,), (gamma_rate,))
        alpha, sigma = jnp.exp(log_alpha), jnp.exp(log_sigma)
        position = (gamma + self.log_snr_max) / (self.log_snr_max - self.log_snr_min)
        return Level(
            t,
            gamma,
            alpha,
            sigma,
            log_alpha,
            log_sigma,
            gamma_rate,
            alpha * slopes[0],
            sigma * slopes[1],
            position,
        )

    def ends(self) -> tuple[Level, Level]:
        """The end with the data, and the end with the noise."""
        return self.at(float(self.data_at)), self.at(1.0 - self.data_at)

    # Distributions.

    def diffused(self, x: Array, level: Level) -> Normal:
        """q(z_t | x), independent for each entry; x is `(*times, *event)`."""
        at = level.like(x)
        return Normal(at.alpha * x, log_scale=at.log_sigma)

    def prior(self, event_shape: tuple[int, ...]) -> Distribution:
        """p(z) at the end with the noise: N(0, alpha^2 + sigma^2), of data of unit variance."""
        end = self.ends()[1]
        scale = jnp.hypot(end.alpha, end.sigma)
        return Normal(jnp.zeros(event_shape, scale.dtype), scale).to_event(len(event_shape))


def _floating(x: Any) -> Array:
    """As an array of float32 or wider."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32)) if x.dtype != float else x


def _check_monotone(process: Process) -> None:
    with jax.ensure_compile_time_eval():
        gamma = process.gamma(jnp.linspace(0, 1, 33))
        steps = jnp.diff(gamma) * (1 - 2 * process.data_at)
        if not jnp.all(steps > 0):
            raise ValueError(
                f"Process: gamma = -log SNR must grow from the data to the noise, and "
                f"{process.schedule} does not between log_snr_max={process.log_snr_max} and "
                f"log_snr_min={process.log_snr_min}: {gamma}"
            )
