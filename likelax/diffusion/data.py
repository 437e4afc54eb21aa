"""Data as a diffusion model takes them: real numbers, or whole ones on a grid."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp

from likelax import _checks
from likelax._checks import is_count, is_number
from likelax._pytree import Array
from likelax.diffusion.process import Level
from likelax.distributions.quantized import Grid
from likelax.numerics.logspace import logsumexp, standardize
from likelax.objective import Measure, check_target, trailing


@dataclasses.dataclass(frozen=True, eq=False)
class Real:
    """Real numbers, of which the model sees (value - loc) / scale.

    Args:
      loc, scale: numbers, or arrays of the event's shape; scale > 0. A process wants data of about
        unit variance.

    Raises:
      TypeError: for what is no number and no array.
      ValueError: for a scale that is not positive.
    """

    loc: Any = 0.0
    scale: Any = 1.0

    def __post_init__(self) -> None:
        for name, x in {"loc": self.loc, "scale": self.scale}.items():
            if not (is_number(x) or hasattr(x, "dtype")):
                raise TypeError(
                    f"Real: {name} is a number or an array, got {x!r}; write {name}=jnp.asarray(...)"
                )
        _checks.check_known(
            jnp.asarray(self.scale) > 0,
            jnp.asarray(self.scale),
            "Real: scale is positive; at {index} it is {value}",
        )

    def encoded(self, target: Array, keep: Array | None) -> Array:
        """x, `(batch, *event)`; 0 where it is not kept."""
        if not jnp.issubdtype(target.dtype, jnp.floating):
            raise TypeError(
                f"real numbers wanted, got a target of {target.dtype}; write "
                "data=lx.diffusion.Pixels(bins=256) for whole numbers, or target.astype(float)"
            )
        for name in ("loc", "scale"):
            shape, event = jnp.shape(getattr(self, name)), target.shape[1:]
            if shape and shape != event[len(event) - len(shape) :]:
                raise ValueError(
                    f"Real: {name} is a number or has the event's shape {event}, or its last axes, got "
                    f"{shape}; write {name}=jnp.broadcast_to({name}, {event})"
                )
        x = target.astype(jnp.promote_types(target.dtype, jnp.float32))
        if _checks.checking():
            check_target(jnp.isfinite(x), x, keep, "at {index} the target is {value}, not finite")
        x = x if keep is None else jnp.where(trailing(keep, x.ndim), x, 0)
        return standardize(x, self.loc, self.scale)

    def decoded(self, x: Array) -> Array:
        """The target that x stands for."""
        return self.loc + self.scale * x

    def log_det(self, event_shape: tuple[int, ...]) -> Array:
        """log |dx / d target| of a whole event."""
        scale = jnp.broadcast_to(jnp.asarray(self.scale), event_shape)
        return -jnp.sum(jnp.log(scale))

    def measure(self, event_shape: tuple[int, ...]) -> Measure:
        """Of the density of one target."""
        return Measure("lebesgue", math.prod(event_shape))

    def reconstruction(self, z: Array, x: Array, level: Level) -> Array:
        """-E log p(target | z) of z = alpha x + sigma e, with p(x | z) = N(z / alpha, sigma / alpha),
        `(batch,)`; z is not looked at, since the mean over it is a number.
        """
        event = x.shape[1:]
        each = 0.5 * (math.log(2 * math.pi) + 1 + level.gamma)
        return jnp.broadcast_to(math.prod(event) * each - self.log_det(event), x.shape[:1])


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Whole numbers, or others that are equally spaced, of which the model sees the centres of as many
    bins of [-1, 1].

    Args:
      bins: how many there are: 256 for 8-bit images.
      low, high: the first and the last of them (default: 0 and low + bins - 1).

    Raises:
      ValueError: for a number of bins or a range that is none.
    """

    bins: int
    low: float = 0.0
    high: float | None = None

    def __post_init__(self) -> None:
        if not is_count(self.bins) or self.bins < 2:
            raise ValueError(f"Pixels: bins is a whole number >= 2, got {self.bins!r}")
        high = math.inf if self.high is None else self.high
        if not (is_number(self.low) and is_number(high) and self.low < high):
            raise ValueError(f"Pixels: low < high wanted, got {self.low!r} and {self.high!r}")

    @property
    def grid(self) -> Grid:
        """The values that a target may have."""
        high = self.low + self.bins - 1 if self.high is None else self.high
        name = f"one of {self.bins} equally spaced numbers from {self.low:g} to {high:g}"
        return Grid(name, 0, True, lower=self.low, upper=high, bins=self.bins)

    def index(self, target: Array, keep: Array | None) -> Array:
        """The number of each value in the grid, floating; 0 where it is not kept.

        Raises:
          ValueError: where the values are known and one lies outside the grid; under jit and `vmap` such
            a target is taken for the first, and costs infinitely much: see `contains`.
        """
        grid, x = self.grid, self._wide(target)
        good = grid.contains(x)
        good = good if keep is None else good | ~trailing(keep, good.ndim)
        _checks.check_known(
            good,
            x,
            f"at {{index}} the target is {{value}}, and Pixels(bins={self.bins}) takes {grid}; "
            "scale the data, or write data=lx.diffusion.Real(loc, scale) for real numbers",
        )
        x = x if keep is None else jnp.where(trailing(keep, x.ndim), x, grid.lower)
        return grid.nearest(jnp.where(good | jnp.isnan(x), x, grid.lower))

    def contains(self, target: Array) -> Array:
        """Whether no number of an example lies outside the grid, `(batch,)`; NaN is not found here."""
        x = self._wide(target)
        return jnp.all(self.grid.contains(x) | jnp.isnan(x), axis=tuple(range(1, x.ndim)))

    def _wide(self, target: Array) -> Array:
        dtype = jnp.result_type(float)
        floating = jnp.issubdtype(target.dtype, jnp.floating)
        return self.grid.widen(target, dtype) if floating else target.astype(dtype)

    def encoded(self, target: Array, keep: Array | None, noise: Array | float = 0.5) -> Array:
        """x in [-1, 1], `(batch, *event)`, at the part `noise` of each bin."""
        return (self.index(target, keep) + noise) * (2 / self.bins) - 1

    def decoded(self, x: Array) -> Array:
        """The target whose bin has x; beyond the ends the first and the last."""
        index = jnp.clip(jnp.floor((x + 1) * (self.bins / 2)), 0, self.bins - 1)
        value = self.grid.points(index)
        whole = float(self.grid.lower).is_integer() and float(self.grid.step).is_integer()
        return value.astype(jnp.int32) if whole else value

    def log_det(self, event_shape: tuple[int, ...]) -> float:
        """log |dx / d index| of a whole event: what a density over x gains over one of bins of width 1."""
        return math.prod(event_shape) * math.log(2 / self.bins)

    def measure(self, event_shape: tuple[int, ...]) -> Measure:
        """Of the probability of one target."""
        return Measure("counting", math.prod(event_shape))

    def reconstruction(self, z: Array, x: Array, level: Level) -> Array:
        """-log p(target | z), with p(c | z) proportional to N(z; alpha c, sigma) over the centres c of the
        bins (Kingma et al. 2021, eq. 30), `(batch,)`.
        """
        centres = (2 * jnp.arange(self.bins, dtype=z.dtype) + 1) / self.bins - 1

        def log_density(c: Array, z: Array) -> Array:
            return -0.5 * ((z - level.alpha * c) / level.sigma) ** 2

        log_norm = logsumexp(log_density(centres, z[..., None]), axis=-1)
        log_prob = log_density(x, z) - log_norm
        return -jnp.sum(log_prob, axis=tuple(range(1, z.ndim)))


Data = Real | Pixels


def as_data(data: Any) -> Data:
    """`data`, or `Real()` for None."""
    if data is None:
        return Real()
    if not isinstance(data, Real | Pixels):
        raise TypeError(
            f"data is lx.diffusion.Real(loc, scale) or lx.diffusion.Pixels(bins), got {data!r}"
        )
    return data
