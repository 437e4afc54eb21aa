"""Langevin and Hamiltonian dynamics: kernels over real values."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._checks import is_count
from likelax._keys import stream
from likelax._pytree import Array, param, static
from likelax.samplers.base import (
    Kernel,
    LogDensity,
    State,
    accepted,
    at,
    check_positive,
    over_event,
    total,
)
from likelax.supports import Support


class Langevin(Kernel):
    """x' = x + h grad log p(x) + sqrt(2 h T) e, with e standard Normal: the step h ties the noise.

    Unadjusted, it is the Euler scheme of a diffusion whose stationary density is p^(1/T): the samples
    have a bias of order h, and no move is rejected. On a Gaussian of variance s^2 they have the
    variance T s^2 / (1 - h / (2 s^2)). Adjusted, each move is accepted or not (MALA: Roberts and Tweedie
    1996), and p^(1/T) is invariant.

    Args:
      step_size: h > 0, one number or one for each chain.
      adjusted: whether moves are accepted by Metropolis and Hastings.
      temperature: T > 0; 1 samples p itself. (Short-run networks are often trained with noise far
        below sqrt(2 h): that is a temperature below 1, and says so here.)
    """

    step_size: Array = param(supports.positive)
    adjusted: bool = static(default=False)
    temperature: Array = param(supports.positive, default=1.0)

    def _check(self) -> None:
        super()._check()
        check_positive("Langevin", "step_size", self.step_size)
        check_positive("Langevin", "temperature", self.temperature)

    def stays_in(self, support: Support) -> bool:
        return not support.is_discrete

    def step(self, log_density: LogDensity, key: Array, state: State) -> tuple[State, Array]:
        x = state.x
        h, temperature = (over_event(f, x) for f in (self.step_size, self.temperature))
        noise = jax.random.normal(stream(key, "noise"), x.shape, x.dtype)
        moved = x + h * state.gradient + jnp.sqrt(2 * h * temperature) * noise
        new = at(log_density, moved.astype(x.dtype))
        if not self.adjusted:
            return new, jnp.ones_like(state.log_density)
        back = x - new.x - h * new.gradient
        # log q(x | x') - log q(x' | x), whose squares are of the noise that each move takes.
        reverse = total(0.5 * noise**2 - back**2 / (4 * h * temperature))
        gain = (new.log_density - state.log_density) / self.temperature
        return accepted(stream(key, "accept"), gain + reverse, new, state)


class HMC(Kernel):
    """Hamiltonian Monte Carlo (Neal 2011, section 3): leapfrog steps from a fresh momentum, accepted or
    not by the change of the Hamiltonian.

    Args:
      step_size: of the leapfrog scheme, positive: one number or one for each chain.
      num_steps: leapfrog steps of one move, at least 1: each is one gradient.
    """

    step_size: Array = param(supports.positive)
    num_steps: int = static()

    def _check(self) -> None:
        super()._check()
        check_positive("HMC", "step_size", self.step_size)
        if not is_count(self.num_steps):
            raise ValueError(
                f"HMC: num_steps is a whole number >= 1, got {self.num_steps!r}; write "
                "HMC(step_size, num_steps=10)"
            )

    def stays_in(self, support: Support) -> bool:
        return not support.is_discrete

    def step(self, log_density: LogDensity, key: Array, state: State) -> tuple[State, Array]:
        momentum = jax.random.normal(stream(key, "momentum"), state.x.shape, state.x.dtype)
        new, last = self._leapfrog(log_density, state, momentum)
        gain = new.log_density - state.log_density + 0.5 * total(momentum**2 - last**2)
        return accepted(stream(key, "accept"), gain, new, state)

    def _leapfrog(
        self, log_density: LogDensity, state: State, momentum: Array
    ) -> tuple[State, Array]:
        step = over_event(self.step_size, state.x)

        def one(carry: tuple[State, Array], _: None) -> tuple[tuple[State, Array], None]:
            state, momentum = carry
            half = momentum + 0.5 * step * state.gradient
            new = at(log_density, (state.x + step * half).astype(state.x.dtype))
            return (new, (half + 0.5 * step * new.gradient).astype(momentum.dtype)), None

        (new, momentum), _ = jax.lax.scan(one, (state, momentum), None, length=self.num_steps)
        return new, momentum
