"""Noise schedules: gamma = -log SNR as an increasing function of a position u in [0, 1].

A schedule is given u and its complement v = 1 - u, each accurate where it is small: in float32 the
log-SNR of a cosine schedule at u = 0.99999 has no digits left if v is a difference.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from likelax._checks import are_numbers, is_count
from likelax._keys import stream
from likelax._pytree import Array
from likelax.numerics.logspace import log1mexp, log1p, log_sigmoid, sigmoid, softplus
from likelax.numerics.normal import ndtr, ndtri


class Schedule:
    """How gamma grows with u. A subclass writes `gamma` and `position`, increasing and inverse to each
    other; a `likelax.diffusion.Process` takes the stretch between its ends.
    """

    def between(self, s: Array, rest: Array, low: Any, high: Any) -> Array:
        """gamma at the part s of the stretch from `low` to `high`; `rest` is 1 - s."""
        (u0, v0), (u1, v1) = self.position(low), self.position(high)
        # Each sum is of positive numbers: no digits are lost at either end.
        return self.gamma(u0 * rest + u1 * s, v0 * rest + v1 * s)

    def part(self, gamma: Array, low: Any, high: Any) -> tuple[Array, Array]:
        """(s, 1 - s), the inverse of `between`."""
        (u0, v0), (u1, v1), (u, v) = (self.position(g) for g in (low, high, gamma))
        # The coordinate that is the smaller one has the digits.
        early = u < v
        first = jnp.where(early, u - u0, v0 - v)
        last = jnp.where(early, u1 - u, v - v1)
        return first / (first + last), last / (first + last)

    def gamma(self, u: Array, v: Array) -> Array:
        """-log SNR at u, of which v is the complement 1 - u."""
        raise NotImplementedError

    def position(self, gamma: Array) -> tuple[Array, Array]:
        """(u, 1 - u), the inverse of `gamma`."""
        raise NotImplementedError


_static = functools.partial(jax.tree_util.register_dataclass, data_fields=[])


def _check(good: bool, message: str) -> None:
    if not good:
        raise ValueError(message)


@functools.partial(_static, meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Linear(Schedule):
    """log SNR linear in time (Kingma et al. 2021, VDM, sec. 5.1): constant where a likelihood is
    trained, since the bound does not depend on what lies between its ends.
    """

    def gamma(self, u: Array, v: Array) -> Array:
        return 40 * (u - v)

    def position(self, gamma: Array) -> tuple[Array, Array]:
        return 0.5 + gamma / 80, 0.5 - gamma / 80


@functools.partial(_static, meta_fields=["beta_min", "beta_max"])
@dataclasses.dataclass(frozen=True)
class LinearBeta(Schedule):
    """A rate of noise beta(u) = beta_min + u (beta_max - beta_min), with SNR = 1 / expm1(integral beta):
    that of DDPM and score_sde (Ho et al. 2020; Song et al. 2021, eq. 32).

    Args:
      beta_min, beta_max: positive; the rate at u = 0 and 1.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        _check(
            are_numbers(self.beta_min, self.beta_max) and 0 < self.beta_min <= self.beta_max,
            f"LinearBeta: 0 < beta_min <= beta_max wanted, got {self.beta_min!r} and "
            f"{self.beta_max!r}: gamma would not increase with time",
        )

    def gamma(self, u: Array, v: Array) -> Array:
        total = u * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * u)
        return total + log1mexp(total)  # log expm1

    def position(self, gamma: Array) -> tuple[Array, Array]:
        total = softplus(gamma)
        rise = self.beta_max - self.beta_min
        u = 2 * total / (self.beta_min + jnp.sqrt(self.beta_min**2 + 2 * rise * total))
        return u, 1 - u


@functools.partial(_static, meta_fields=["shift"])
@dataclasses.dataclass(frozen=True)
class Cosine(Schedule):
    """SNR = 1 / tan^2(pi u / 2) (Nichol and Dhariwal 2021), moved by `shift`.

    Args:
      shift: added to gamma: 2 log(d / 64) for images of d x d pixels (Hoogeboom et al. 2023, sec. 3.1).
    """

    shift: float = 0.0

    def __post_init__(self) -> None:
        _check(
            are_numbers(self.shift),
            f"Cosine: shift is a number, got {self.shift!r}; write shift=0.0",
        )

    def gamma(self, u: Array, v: Array) -> Array:
        half = 0.5 * math.pi
        return self.shift + 2 * (jnp.log(jnp.sin(half * u)) - jnp.log(jnp.sin(half * v)))

    def position(self, gamma: Array) -> tuple[Array, Array]:
        half = 0.5 * (gamma - self.shift)
        # Of the two arguments of arctan the one that cannot overflow.
        small = jnp.arctan(jnp.exp(-jnp.abs(half))) * (2 / math.pi)
        return jnp.where(half > 0, 1 - small, small), jnp.where(half > 0, small, 1 - small)


@functools.partial(_static, meta_fields=["start", "end", "tau"])
@dataclasses.dataclass(frozen=True)
class Sigmoid(Schedule):
    """alpha^2 a sigmoid of time between `start` and `end`, scaled to run from 1 to 0 (Jabri et al. 2022;
    Chen 2023, alg. 1).

    Args:
      start, end: where on the sigmoid, start < end.
      tau: its temperature, positive.
    """

    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0

    def __post_init__(self) -> None:
        _check(
            are_numbers(self.start, self.end, self.tau) and self.start < self.end and self.tau > 0,
            f"Sigmoid: start < end and tau > 0 wanted, got start={self.start!r}, end={self.end!r}, "
            f"tau={self.tau!r}: gamma would not increase with time",
        )

    @property
    def _ends(self) -> tuple[float, float]:
        return self.start / self.tau, self.end / self.tau

    def gamma(self, u: Array, v: Array) -> Array:
        # sigmoid(x) - sigmoid(s) = sigmoid(x) sigmoid(-s) (1 - exp(s - x)), and likewise at the end.
        start, end = self._ends
        width = end - start
        x = start + width * u
        ends = log_sigmoid(-start) - log_sigmoid(end)
        return x + ends + log1mexp(width * u) - log1mexp(width * v)

    def position(self, gamma: Array) -> tuple[Array, Array]:
        start, end = self._ends
        width = end - start
        log_k = gamma + log_sigmoid(-end) - log_sigmoid(-start)
        u = log1p(sigmoid(log_k) * math.expm1(width)) / width
        v = log1p(-math.expm1(-width) / (math.exp(-width) + jnp.exp(log_k))) / width
        return u, v


@functools.partial(_static, meta_fields=["power"])
@dataclasses.dataclass(frozen=True)
class Polynomial(Schedule):
    """alpha = 1 - u^power (Hoogeboom et al. 2022, eq. 36).

    Args:
      power: positive.
    """

    power: float = 2.0

    def __post_init__(self) -> None:
        _check(
            are_numbers(self.power) and self.power > 0,
            f"Polynomial: power > 0 wanted, got {self.power!r}; write power=2",
        )

    def gamma(self, u: Array, v: Array) -> Array:
        late = u > 0.5
        log_u = jnp.where(late, log1p(-jnp.where(late, v, 0.5)), jnp.log(jnp.where(late, 1, u)))
        log_rest = self.power * log_u  # of 1 - alpha
        log_alpha = log1mexp(-log_rest)
        return log_rest + log1p(jnp.exp(log_alpha)) - 2 * log_alpha

    def position(self, gamma: Array) -> tuple[Array, Array]:
        alpha = jnp.exp(0.5 * log_sigmoid(-gamma))
        log_rest = log_sigmoid(gamma) - log1p(alpha)
        return jnp.exp(log_rest / self.power), -jnp.expm1(log_rest / self.power)


@functools.partial(_static, meta_fields=["mean", "std"])
@dataclasses.dataclass(frozen=True)
class LogNormal(Schedule):
    """log(sigma / alpha) Normal for times that are uniform: how EDM trains (Karras et al. 2022,
    table 1).

    Args:
      mean, std: of log(sigma / alpha); std > 0.
    """

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        _check(
            are_numbers(self.mean, self.std) and self.std > 0,
            f"LogNormal: a mean and std > 0 wanted, got {self.mean!r} and {self.std!r}; write std=1.2",
        )

    def gamma(self, u: Array, v: Array) -> Array:
        nearer = ndtri(jnp.minimum(u, v))
        return 2 * (self.mean + self.std * jnp.where(u < v, nearer, -nearer))

    def position(self, gamma: Array) -> tuple[Array, Array]:
        z = (0.5 * gamma - self.mean) / self.std
        return ndtr(z), ndtr(-z)


@functools.partial(_static, meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Straight(Schedule):
    """sigma / alpha = u / (1 - u): time is the noise of the straight path z = (1 - u) x + u e (Liu et
    al. 2023; Lipman et al. 2023).
    """

    def gamma(self, u: Array, v: Array) -> Array:
        return 2 * (jnp.log(u) - jnp.log(v))

    def position(self, gamma: Array) -> tuple[Array, Array]:
        return sigmoid(0.5 * gamma), sigmoid(-0.5 * gamma)


@functools.partial(_static, meta_fields=["rho"])
@dataclasses.dataclass(frozen=True)
class Karras(Schedule):
    """(sigma / alpha)^(1 / rho) linear in time (Karras et al. 2022, eq. 5).

    Args:
      rho: positive; 7 in the paper.
    """

    rho: float = 7.0

    def __post_init__(self) -> None:
        _check(
            are_numbers(self.rho) and self.rho > 0,
            f"Karras: rho > 0 wanted, got {self.rho!r}; write rho=7",
        )

    def gamma(self, u: Array, v: Array) -> Array:
        return 2 * self.rho * jnp.log(u)

    def position(self, gamma: Array) -> tuple[Array, Array]:
        u = jnp.exp(gamma / (2 * self.rho))
        return u, 1 - u


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["params"], meta_fields=["features"]
)
@dataclasses.dataclass(frozen=True)
class Learned(Schedule):
    """A monotone network, trained with the model, its ends too (Kingma et al. 2021, appendix H).

    Args:
      features: of its hidden layer.
      params: of a network that is trained: see `Process.bind`.
    """

    features: int = 64
    params: Any = None

    def __post_init__(self) -> None:
        _check(
            is_count(self.features),
            f"Learned: features is a whole number >= 1, got {self.features!r}; write features=64",
        )

    def init(self, key: Array) -> dict[str, Array]:
        """Parameters of a network that is nearly linear at first; the weights are logarithms."""
        kernel = jax.random.normal(stream(key, "kernel"), (self.features,))
        return {
            "slope": jnp.zeros(()),
            "kernel": 1 + kernel,
            "bias": -jnp.exp(1 + kernel) * jnp.linspace(0, 1, self.features),
            "output": jnp.full_like(kernel, -math.log(self.features) - 2),
        }

    def _raw(self, u: Array) -> Array:
        p = self.params
        hidden = sigmoid(jnp.exp(p["kernel"]) * u[..., None] + p["bias"])
        return jnp.exp(p["slope"]) * u + hidden @ jnp.exp(p["output"])

    def between(self, s: Array, rest: Array, low: Any, high: Any) -> Array:
        first, last = self._raw(jnp.zeros_like(s)), self._raw(jnp.ones_like(s))
        return low + (high - low) * (self._raw(s) - first) / (last - first)

    def part(self, gamma: Array, low: Any, high: Any) -> tuple[Array, Array]:
        """By bisection; it has no derivative."""

        def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            below, above = ends
            middle = 0.5 * (below + above)
            is_below = self.between(middle, 1 - middle, low, high) < gamma
            return jnp.where(is_below, middle, below), jnp.where(is_below, above, middle)

        ends = jnp.zeros_like(gamma), jnp.ones_like(gamma)
        below, above = jax.lax.fori_loop(0, 60, halve, ends)
        s = 0.5 * (below + above)
        return s, 1 - s
