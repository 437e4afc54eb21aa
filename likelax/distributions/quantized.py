"""A continuous distribution over the centres of a grid: pixels, audio samples, sensor readings."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from likelax._pytree import Array, node, static
from likelax.distributions._interval import log_interval_prob
from likelax.distributions.base import Distribution, beyond
from likelax.numerics.logspace import entropy_term
from likelax.supports import Support


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Grid(Support):
    """`bins` equally spaced numbers from `lower` to `upper`, up to the rounding of float
    arithmetic.
    """

    lower: float = 0.0
    upper: float = 1.0
    bins: int = 2

    @property
    def step(self) -> float:
        """The distance of neighbours."""
        return (self.upper - self.lower) / (self.bins - 1)

    def nearest(self, value: Array) -> Array:
        """The index of the nearest grid point: below 0 or from `bins` on when there is none."""
        return jnp.round((value - self.lower) / self.step)

    def points(self, index: Array) -> Array:
        """The numbers at these indices."""
        return self.lower + index * self.step

    def contains(self, value: Array) -> Array:
        index = self.nearest(value)
        largest = max(abs(self.lower), abs(self.upper))
        slack = 4 * float(jnp.finfo(value.dtype).eps) * (largest + self.step)
        near = jnp.abs(value - self.points(index)) <= slack
        return near & (index >= 0) & (index < self.bins)

    def inside(self, like: Array) -> Array:
        return jnp.full_like(like, self.lower + self.step * (self.bins // 2))

    def widen(self, value: Array, dtype: DTypeLike) -> Array:
        # A grid point rounded to the narrow dtype is that grid point.
        wide = value.astype(dtype)
        point = self.points(self.nearest(wide))
        slack = float(jnp.finfo(value.dtype).eps) * max(abs(self.lower), abs(self.upper))
        return jnp.where(jnp.abs(wide - point) <= slack, point, wide)


class Quantized(Distribution):
    """`base` rounded to the nearest of the `bins` equally spaced centres from low to high.

    P(c) = base mass within half a bin of c; the first and last bins take the tails, so that the
    probabilities sum to 1. `Quantized(Logistic(loc, scale), 0, 255, 256)` scores pixels 0..255 (the
    discretised logistic of Salimans et al. 2017, PixelCNN++, without its thresholds); its mixtures are
    `Quantized(Mixture(weights, Logistic(loc, scale)), 0, 255, 256)`.

    Values are the centres themselves, as floats or integers, up to float rounding; anything else
    has log-density -inf. `mean`, `variance`, `mode` and `entropy` are sums over the bins.

    Parameters: `base`, a distribution over real numbers with `log_cdf` and `log_survival`; `low` <
      `high`,
    numbers; `bins` >= 2.

    Raises:
      ValueError: for a range or a number of bins that is none, or a base over vectors or whole
        numbers.
      TypeError: when `low` or `high` is an array.
    """

    base: Distribution = node()
    low: float = static()
    high: float = static()
    bins: int = static()

    def _check(self) -> None:
        super()._check()
        for name in ("low", "high"):
            if not isinstance(getattr(self, name), int | float):
                raise TypeError(
                    f"Quantized: {name} is a Python number, part of the structure, got "
                    f"{type(getattr(self, name)).__name__}; write {name}=float({name})"
                )
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(
                f"Quantized: low < high wanted, got low={self.low} and high={self.high}"
            )
        if not (isinstance(self.bins, int) and self.bins >= 2):
            raise ValueError(f"Quantized: bins is a whole number >= 2, got {self.bins!r}")
        if self.base.event_shape or self.base.support.is_discrete:
            raise ValueError(
                f"Quantized: the base is a continuous distribution over numbers, got "
                f"{type(self.base).__name__}; quantize first, Quantized(base, ...).to_event()"
            )

    @property
    def support(self) -> Any:
        """The grid of the centres."""
        name = f"one of {self.bins} equally spaced numbers from {self.low} to {self.high}"
        return Grid(name, 0, True, lower=self.low, upper=self.high, bins=self.bins)

    def _edge_below(self, index: Array) -> Array:
        """The lower edge of a bin."""
        return self.support.points(index - 0.5)

    def log_prob(self, value: Array) -> Array:
        index = self.support.nearest(value)
        first, last = index == 0, index == self.bins - 1
        low, high = self._edge_below(index), self._edge_below(index + 1)
        inner = log_interval_prob(self.base, low, self.support.step)
        outer = jnp.where(first, self.base.log_cdf(high), self.base.log_survival(low))
        return jnp.where(first | last, outer, inner)

    def _inner_edge(self, value: Array) -> tuple[Array, Array, Array]:
        """The edge above the last centre <= value, and whether that is off the grid below or its
        last.
        """
        index = jnp.floor((value - self.low) / self.support.step + 1e-3)
        below, above = index < 0, index >= self.bins - 1
        return self._edge_below(jnp.where(below | above, 0, index) + 1), below, above

    def log_cdf(self, value: Array) -> Array:
        edge, below, above = self._inner_edge(value)
        return beyond(below, -jnp.inf, above, 0, self.base.log_cdf(edge))

    def log_survival(self, value: Array) -> Array:
        edge, below, above = self._inner_edge(value)
        return beyond(below, 0, above, -jnp.inf, self.base.log_survival(edge))

    def quantile(self, q: Array) -> Array:
        index = jnp.ceil((self.base.quantile(q) - self.low) / self.support.step - 0.5)
        return self.support.points(jnp.clip(index, 0, self.bins - 1))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        index = self.support.nearest(self.base.sample(key, shape))
        return self.support.points(jnp.clip(index, 0, self.bins - 1))

    def _table(self) -> tuple[Array, Array]:
        """The centres, `(bins,)`, and their log-probabilities, `(*batch, bins)`."""
        centres = self.support.points(jnp.arange(self.bins, dtype=self.dtype))
        column = centres.reshape((self.bins,) + (1,) * self.batch_ndim)
        return centres, jnp.moveaxis(self.log_prob(column), 0, -1)

    def mean(self) -> Array:
        centres, log_probs = self._table()
        return jnp.sum(jnp.exp(log_probs) * centres, -1)

    def mode(self) -> Array:
        return self.support.points(jnp.argmax(self._table()[1], -1).astype(self.dtype))

    def variance(self) -> Array:
        centres, log_probs = self._table()
        deviation = centres - jnp.expand_dims(self.mean(), -1)
        return jnp.sum(jnp.exp(log_probs) * deviation**2, -1)

    def entropy(self) -> Array:
        return jnp.sum(entropy_term(self._table()[1]), -1)
