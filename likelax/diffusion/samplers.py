"""Samplers: of one step, of two calls, of several steps; of ordinary and of stochastic equations.

With r = sigma / alpha the probability-flow equation is d(z / alpha) / dr = e_hat, and with
lambda = -log r it is d(z / sigma) / dlambda = exp(lambda) x_hat: what each solver does to these.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from likelax._checks import are_numbers, is_count, is_number
from likelax._pytree import Array
from likelax.diffusion.grids import Grid
from likelax.diffusion.prediction import Denoised, Denoiser
from likelax.diffusion.process import Level, Process
from likelax.diffusion.sampler import Moved, Noise, Sampler, Step


def _fresh(at: Step) -> Array:
    """1 - SNR_now / SNR_after: the part of the noise at `now` that came after `after`."""
    return -jnp.expm1(at.after.gamma - at.now.gamma)


def _together(estimate: Denoised, level: Level, noise_scale: Array | float = 1.0) -> Array:
    """alpha x_hat + sigma e_hat."""
    return level.alpha * estimate.data + noise_scale * level.sigma * estimate.noise


@dataclasses.dataclass(frozen=True)
class DDIM(Sampler):
    """z_s = alpha_s x_hat + sqrt(sigma_s^2 - c^2) e_hat + c e, with c = eta sigma_s sqrt(1 - SNR_t / SNR_s)
    (Song, Meng and Ermon 2021, eq. 12). One call a step; of order 1 at eta = 0.

    Args:
      eta: 0 solves the probability-flow equation, 1 is `Ancestral()`.

    Raises:
      ValueError: for eta outside [0, 1].
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not (is_number(self.eta) and 0 <= self.eta <= 1):
            raise ValueError(f"DDIM: eta is in [0, 1], got {self.eta!r}; write eta=0.0")

    def step(self, denoiser: Denoiser, z: Array, at: Step, memory: Any, noise: Noise) -> Moved:
        estimate = denoiser(z, at.now)
        if self.eta == 0:
            return Moved(_together(estimate, at.after), estimate.data)
        variance = self.eta**2 * _fresh(at)
        mean = _together(estimate, at.after, jnp.sqrt(1 - variance))
        z = mean + at.after.sigma * jnp.sqrt(variance) * noise(0)
        return Moved(z, estimate.data)


@dataclasses.dataclass(frozen=True)
class Ancestral(Sampler):
    """z_s from q(z_s | z_t, x = x_hat), the model's own chain (Ho et al. 2020, alg. 2; Kingma et al. 2021,
    eq. 34). One call a step.

    Args:
      variance: "posterior": that of q, right for data that are one point; "forward": sigma_t^2 -
        (alpha_t / alpha_s)^2 sigma_s^2, right for standard Normal data of a variance-preserving process;
        "learned": that of a `VLB(..., variance="learned")`, at its own number of steps.

    Raises:
      ValueError: for another variance.
    """

    variance: str = "posterior"

    def __post_init__(self) -> None:
        if self.variance not in ("posterior", "forward", "learned"):
            raise ValueError(
                f'Ancestral: variance is "posterior", "forward" or "learned", got {self.variance!r}'
            )

    def step(self, denoiser: Denoiser, z: Array, at: Step, memory: Any, noise: Noise) -> Moved:
        estimate = denoiser(z, at.now)
        mean = _together(estimate, at.after, jnp.exp(0.5 * (at.after.gamma - at.now.gamma)))
        share = self._share(estimate)
        sigma = at.after.sigma * jnp.exp(share * (at.now.log_sigma - at.after.log_sigma))
        return Moved(mean + sigma * jnp.sqrt(_fresh(at)) * noise(0), estimate.data)

    def _share(self, estimate: Denoised) -> Any:
        """How far the variance is, in logarithms, from the posterior's to the forward one."""
        if self.variance != "learned":
            return 0.0 if self.variance == "posterior" else 1.0
        if estimate.share is None:
            raise ValueError(
                "Ancestral: this denoiser has learned no variance; train "
                'lx.diffusion.VLB(..., steps=T, variance="learned"), or write variance="posterior"'
            )
        return estimate.share


@dataclasses.dataclass(frozen=True)
class Euler(Sampler):
    """Euler's method on dz / dt = alpha' x_hat + sigma' e_hat, in the process's own time: what flow
    matching takes. One call a step; of order 1. On the straight path with `Straight()` it is `DDIM()`.
    """

    def step(self, denoiser: Denoiser, z: Array, at: Step, memory: Any, noise: Noise) -> Moved:
        estimate = denoiser(z, at.now)
        rate = at.now.alpha_rate * estimate.data + at.now.sigma_rate * estimate.noise
        return Moved(z + (at.after.time - at.now.time) * rate, estimate.data)


@dataclasses.dataclass(frozen=True)
class Heun(Sampler):
    """Heun's method on d(z / alpha) / dr = e_hat, and noise that is added before each step (Karras et al.
    2022, alg. 2). Two calls a step; of order 2 without churn.

    Args:
      churn: S_churn: r grows by the part min(churn / steps, sqrt(2) - 1) before each step.
      churn_from, churn_to: the r between which it does, S_tmin and S_tmax.
      churn_scale: of the noise that is added, S_noise.

    Raises:
      ValueError: for a churn below 0, and others that are no numbers.
    """

    grid: ClassVar[Grid] = "karras"

    churn: float = 0.0
    churn_from: float = 0.0
    churn_to: float = math.inf
    churn_scale: float = 1.0

    def __post_init__(self) -> None:
        if not (is_number(self.churn) and self.churn >= 0):
            raise ValueError(f"Heun: churn >= 0 wanted, got {self.churn!r}; write churn=0.0")
        if not are_numbers(self.churn_from, self.churn_to, self.churn_scale):
            raise ValueError(
                "Heun: churn_from, churn_to and churn_scale are numbers, got "
                f"{self.churn_from!r}, {self.churn_to!r} and {self.churn_scale!r}"
            )

    def plan(self, process: Process, levels: Level) -> Any:
        """The level from which each step is taken."""
        now = Level(*(x[:-1] for x in levels))
        if not self.churn:
            return now
        r = jnp.exp(0.5 * now.gamma)
        part = min(self.churn / r.size, math.sqrt(2) - 1)
        gamma = jnp.minimum(now.gamma + 2 * math.log1p(part), process.ends()[1].gamma)
        raised = (self.churn_from <= r) & (r <= self.churn_to) & (gamma > now.gamma)
        higher = process.at(process.time_of(gamma))
        return Level(*(jnp.where(raised, a, b) for a, b in zip(higher, now, strict=True)))

    def step(self, denoiser: Denoiser, z: Array, at: Step, memory: Any, noise: Noise) -> Moved:
        raised, after = at.plan, at.after
        if self.churn:
            added = -jnp.expm1(at.now.gamma - raised.gamma)
            z = z * (raised.alpha / at.now.alpha)
            z = z + self.churn_scale * raised.sigma * jnp.sqrt(added) * noise(0)
        first = denoiser(z, raised)
        z = _together(first, after)
        second = denoiser(z, after)
        stretch = after.sigma - after.alpha * jnp.exp(0.5 * raised.gamma)  # alpha dr
        return Moved(z + 0.5 * stretch * (second.noise - first.noise), first.data)


def _log_steps(levels: Level) -> Array:
    """h, the growth of lambda in each step, `(steps,)`."""
    return -0.5 * jnp.diff(levels.gamma)


def _over_last(h: Array) -> Array:
    """h over that of the step before; 0 where there is none, or one between times that round to one."""
    before = jnp.concatenate([jnp.zeros_like(h[:1]), h[:-1]])
    return jnp.where(before > 0, h / jnp.where(before > 0, before, 1), 0)


@dataclasses.dataclass(frozen=True)
class DPMSolver(Sampler):
    """DPM-Solver++(2M), and SDE-DPM-Solver++(2M) (Lu et al. 2022b, alg. 2 and sec. 5): x_hat of the step
    before says how x_hat changes. One call a step; of order 2 where it is not stochastic.

    Args:
      stochastic: whether to solve the stochastic equation, which forgets the errors of the steps before.

    Raises:
      TypeError: for what is neither True nor False.
    """

    grid: ClassVar[Grid] = "log_snr"

    stochastic: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.stochastic, bool):
            raise TypeError(
                f"DPMSolver: stochastic is True or False, got {self.stochastic!r}; of this family there "
                "are lx.diffusion.DPMSolver(), 2M, and DPMSolver(stochastic=True), its SDE version"
            )

    def plan(self, process: Process, levels: Level) -> Any:
        """h, and by how much of its last change x_hat is moved."""
        h = _log_steps(levels)
        return h, 0.5 * _over_last(h)

    def memory(self, z: Array) -> Any:
        return jnp.zeros_like(z)

    def step(self, denoiser: Denoiser, z: Array, at: Step, memory: Any, noise: Noise) -> Moved:
        h, ahead = at.plan
        data = denoiser(z, at.now).data
        moved = data + ahead * (data - memory)
        kept = at.after.sigma / at.now.sigma
        if not self.stochastic:
            z = kept * z - at.after.alpha * jnp.expm1(-h) * moved
            return Moved(z, data, data)
        fresh = -jnp.expm1(-2 * h)
        z = kept * jnp.exp(-h) * z + at.after.alpha * fresh * moved
        return Moved(z + at.after.sigma * jnp.sqrt(fresh) * noise(0), data, data)


@dataclasses.dataclass(frozen=True)
class UniPC(Sampler):
    """UniPC-2 (Zhao et al. 2023): x_hat is taken as a polynomial in lambda through its values at this step
    and the one before, and when the next value is there, the step is taken again through all three. One
    call a step; of order 3, of which the paper's name counts 2.
    """

    grid: ClassVar[Grid] = "log_snr"

    def plan(self, process: Process, levels: Level) -> Any:
        """For this step and the one before: sigma_s / sigma_t, alpha_s, h over that before it, and the
        weights of a polynomial.
        """
        h = _log_steps(levels)
        kept = jnp.exp(jnp.diff(levels.log_sigma))
        parts = kept, levels.alpha[1:], _over_last(h), *_exponential_moments(h)
        own = jnp.stack(parts, axis=-1)
        return own, jnp.concatenate([own[:1], own[:-1]])

    def memory(self, z: Array) -> Any:
        return jnp.zeros_like(z), jnp.zeros_like(z), jnp.zeros_like(z)

    def step(self, denoiser: Denoiser, z: Array, at: Step, memory: Any, noise: Noise) -> Moved:
        own, before = at.plan
        start, previous, last_but_one = memory
        data = denoiser(z, at.now).data
        again = self._integrated(start, previous, last_but_one, before, data)
        z = jnp.where(at.number == 0, z, again)
        after = self._integrated(z, data, previous, own, None)
        return Moved(after, data, (z, data, previous))

    def _integrated(
        self, z: Array, data: Array, previous: Array, along: Array, following: Array | None
    ) -> Array:
        """z after a step in which x_hat = data + slope u + bend u^2 at the part u of it."""
        kept, alpha, growth, *weights = along
        # The last change of x_hat, for a step as long as this one; growth is 0 in the first step.
        slope, bend = growth * (data - previous), jnp.zeros_like(data)
        if following is not None:  # through the values at -1 / growth, 0 and 1
            bend = (following - data - slope) * (growth / (1 + growth))
            slope = following - data - bend
        return kept * z + alpha * (weights[0] * data + weights[1] * slope + weights[2] * bend)


def _exponential_moments(h: Array) -> list[Array]:
    """integral_0^1 h exp(-h (1 - u)) u^k du for k = 0, 1, 2."""
    small, large = jnp.minimum(h, 0.5), jnp.maximum(h, 0.5)
    exact = -jnp.expm1(-large)
    moments = []
    for k in range(3):
        # By parts each follows from the one before, but where h is small no digit of it.
        exact = 1 - k * exact / large if k else exact
        terms = [(-1) ** n * math.factorial(k) / math.factorial(k + n + 1) for n in range(14)]
        series = small * jnp.polyval(jnp.asarray(terms[::-1], h.dtype), small)
        moments.append(jnp.where(h < 0.5, series, exact))
    return moments


@dataclasses.dataclass(frozen=True)
class PredictorCorrector(Sampler):
    """A step of `predictor`, then steps of Langevin's equation at the level that it led to (Song et al.
    2021, alg. 1): z - l sigma e_hat + sqrt(2 l) sigma e, with l = 2 snr^2.

    That is the length in their alg. 4 and 5 for an e_hat as long as noise is: the mean of the samples'
    own lengths would make one depend on the others. `inpainting` gains from many corrections, as it
    does from the resampling of Lugmayr et al. 2022. One call a correction more than the predictor has.

    Args:
      predictor: a sampler that remembers nothing.
      snr: of a correction, positive and less than 1.
      corrections: after each step.

    Raises:
      TypeError: for a predictor that is no sampler.
      ValueError: for an snr or corrections that are none.
    """

    predictor: Sampler = dataclasses.field(default_factory=Ancestral)
    snr: float = 0.16
    corrections: int = 1

    def __post_init__(self) -> None:
        if not (is_number(self.snr) and 0 < self.snr < 1):
            raise ValueError(
                f"PredictorCorrector: snr is in (0, 1), got {self.snr!r}; write snr=0.16"
            )
        if not isinstance(self.predictor, Sampler):
            raise TypeError(
                f"PredictorCorrector: predictor is a sampler, got {self.predictor!r}; write "
                "predictor=lx.diffusion.Ancestral()"
            )
        if not is_count(self.corrections):
            raise ValueError(
                f"PredictorCorrector: corrections is a whole number >= 1, got {self.corrections!r}; "
                "without any write the predictor alone"
            )

    @property
    def draws(self) -> int:
        return self.predictor.draws + self.corrections

    def plan(self, process: Process, levels: Level) -> Any:
        return self.predictor.plan(process, levels)

    def memory(self, z: Array) -> Any:
        return self.predictor.memory(z)

    def step(self, denoiser: Denoiser, z: Array, at: Step, memory: Any, noise: Noise) -> Moved:
        moved = self.predictor.step(denoiser, z, at, memory, noise)
        length = 2 * self.snr**2  # in units of sigma^2

        def correct(number: Any, z: Array) -> Array:
            estimate = denoiser(z, at.after)
            change = (
                math.sqrt(2 * length) * noise(self.predictor.draws + number)
                - length * estimate.noise
            )
            return z + at.after.sigma * change

        return moved._replace(z=jax.lax.fori_loop(0, self.corrections, correct, moved.z))
