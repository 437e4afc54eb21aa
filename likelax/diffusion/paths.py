"""Paths of flow matching that have a parameter: each is a schedule, and says what alpha and sigma are."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp

from likelax._checks import is_number
from likelax._pytree import Array
from likelax.diffusion.process import Level
from likelax.diffusion.schedules import Schedule
from likelax.numerics.logspace import log1p

_static = functools.partial(jax.tree_util.register_dataclass, data_fields=[])


@functools.partial(_static, meta_fields=["sigma_min"])
@dataclasses.dataclass(frozen=True)
class Lipman(Schedule):
    """alpha = t, sigma = 1 - (1 - sigma_min) t, with data at t = 1 (Lipman et al. 2023, eq. 20).

    Args:
      sigma_min: in (0, 1), the noise that is left on the data.
    """

    sigma_min: float = 1e-4

    def __post_init__(self) -> None:
        if not (is_number(self.sigma_min) and 0 < self.sigma_min < 1):
            raise ValueError(
                f"Lipman: 0 < sigma_min < 1 wanted, got {self.sigma_min!r}; write sigma_min=1e-4"
            )

    def gamma(self, u: Array, v: Array) -> Array:
        return 2 * jnp.log(u / v + self.sigma_min)

    def position(self, gamma: Array) -> tuple[Array, Array]:
        odds = jnp.maximum(jnp.exp(0.5 * gamma) - self.sigma_min, 0)
        return odds / (1 + odds), 1 / (1 + odds)

    def log_coefficients(self, gamma: Array) -> tuple[Array, Array]:
        """log alpha and log sigma."""
        log_alpha = -log1p(jnp.exp(0.5 * gamma) - self.sigma_min)
        return log_alpha, log_alpha + 0.5 * gamma


@functools.partial(_static, meta_fields=["scale"])
@dataclasses.dataclass(frozen=True)
class SchrodingerBridge(Schedule):
    """z = t x + (1 - t) e + scale sqrt(t (1 - t)) w with w standard Normal, from the source e at t = 0 to
    data x at t = 1: a Brownian bridge (Tong et al. 2024, sec. 4.3). With minibatches that are coupled
    by optimal transport it approaches the Schrodinger bridge between the two distributions.

    For the process the source and the bridge's own noise are one: alpha = t and sigma^2 = (1 - t)^2 +
    scale^2 t (1 - t).

    Args:
      scale: of the bridge, positive.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        if not (is_number(self.scale) and self.scale > 0):
            raise ValueError(
                f'SchrodingerBridge: scale > 0 wanted, got {self.scale!r}; write path="linear"'
            )

    def gamma(self, u: Array, v: Array) -> Array:
        odds = u / v
        return jnp.log(odds) + jnp.log(odds + self.scale**2)

    def position(self, gamma: Array) -> tuple[Array, Array]:
        odds = self._odds(gamma)
        return odds / (1 + odds), 1 / (1 + odds)

    def log_coefficients(self, gamma: Array) -> tuple[Array, Array]:
        """log alpha and log sigma."""
        log_alpha = -log1p(self._odds(gamma))
        return log_alpha, log_alpha + 0.5 * gamma

    def _odds(self, gamma: Array) -> Array:
        """(1 - t) / t, the positive root r of r^2 + scale^2 r = sigma^2 / alpha^2."""
        square = self.scale**2
        # exp(gamma) itself may overflow.
        half = jnp.exp(0.5 * gamma)
        return 2 * half * (half / (square + jnp.hypot(square, 2 * half)))

    def bridged(self, x: Array, source: Array, noise: Array, level: Level) -> tuple[Array, Array]:
        """z and dz/dt, each of the shape of x: what the process's one noise does not tell apart."""
        at = level.like(x)
        odds = self._odds(at.gamma)
        rest = odds * at.alpha  # 1 - t
        spread = self.scale * at.alpha * jnp.sqrt(odds)
        z = at.alpha * x + rest * source + spread * noise
        slope = self.scale**2 * (rest - at.alpha) / (2 * spread)
        return z, at.alpha_rate * (x - source + slope * noise)
