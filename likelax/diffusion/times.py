"""Which times an objective looks at: draws from [0, 1], one for each example of a batch."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from likelax._checks import is_count, is_number
from likelax._keys import row_keys
from likelax._pytree import Array
from likelax.objective import trailing


class Times(NamedTuple):
    """Draws of a time.

    Attributes:
      time: in [0, 1), `(batch,)`.
      density: that they were drawn from, likewise: a cost over its density is an unbiased estimate of
        the integral of the cost.
    """

    time: Array
    density: Array


@dataclasses.dataclass(frozen=True)
class StratifiedTimes:
    """One time in each of `batch` equal parts of [0, 1], all moved by one number (Kingma et al. 2021,
    appendix I.1): each is uniform, and their mean varies less than that of independent ones. The parts
    are those of the whole batch, over all devices.
    """

    def init(self) -> Any:
        """The state before any loss was seen."""
        return ()

    def draw(self, key: Array, count: int, state: Any) -> Times:
        """`count` times."""
        return Times(_strata(key, count), jnp.ones(count))

    def updated(self, state: Any, times: Times, cost: Array, keep: Array | None) -> Any:
        """The state after the costs, `(count,)` before division by the density, were seen."""
        return state


@dataclasses.dataclass(frozen=True)
class IndependentTimes(StratifiedTimes):
    """Uniform times, each from the number of its example, so that the batch's size does not matter."""

    def draw(self, key: Array, count: int, state: Any) -> Times:
        return Times(jax.vmap(jax.random.uniform)(row_keys(key, count)), jnp.ones(count))


@dataclasses.dataclass(frozen=True)
class AdaptiveTimes(StratifiedTimes):
    """Times from where losses are large: with a density in proportion to the root of the mean squared
    loss, for which the variance of the weighted loss is the least (Nichol and Dhariwal 2021, eq. 18).

    Losses are divided by the density, so that their mean, and the claim, stay what they are. The mean
    squares, bin by bin, are moving averages in the objective's state, `aux.state["times"]`; until each
    bin has been seen the density is uniform. Strata as in `"stratified"`.

    Args:
      bins: how many parts of [0, 1] the density is constant on.
      decay: of the moving averages, by step, in (0, 1).
      uniform: the share of draws that are uniform all the same, in (0, 1]: it bounds the weights.

    Raises:
      ValueError: for options out of their range.
    """

    bins: int = 32
    decay: float = 0.99
    uniform: float = 0.05

    def __post_init__(self) -> None:
        if not is_count(self.bins):
            raise ValueError(f"AdaptiveTimes: bins is a whole number >= 1, got {self.bins!r}")
        if not (is_number(self.decay) and 0 < self.decay < 1):
            raise ValueError(f"AdaptiveTimes: decay is in (0, 1), got {self.decay!r}; write 0.99")
        if not (is_number(self.uniform) and 0 < self.uniform <= 1):
            raise ValueError(
                f"AdaptiveTimes: uniform is in (0, 1], got {self.uniform!r}; write 0.05"
            )

    def init(self) -> dict[str, Array]:
        return {"square": jnp.zeros(self.bins), "count": jnp.zeros(self.bins)}

    def density(self, state: Any) -> Array:
        """Of times in each bin, `(bins,)`, of mean 1."""
        count = state["count"]
        root = jnp.sqrt(state["square"] / jnp.where(count > 0, count, 1))
        total = jnp.sum(root)
        known = jnp.all(count > 0) & (total > 0) & jnp.isfinite(total)
        share = root / jnp.where(known, total, 1)
        share = (1 - self.uniform) * share * self.bins + self.uniform
        return jnp.where(known, share, 1)

    def draw(self, key: Array, count: int, state: Any) -> Times:
        density = jax.lax.stop_gradient(self.density(state))
        share = density / self.bins
        edges = jnp.cumsum(share)
        u = _strata(key, count)
        # No lookup by index: times may be sharded. Beyond the last edge, by rounding, is the last bin.
        which = jnp.sum(u[:, None] >= edges[:-1], axis=1)
        bins = self._one_hot(which, u.dtype)
        within = (u - bins @ (edges - share)) / (bins @ share)
        time = (which + jnp.clip(within, 0, 1 - jnp.finfo(u.dtype).eps)) / self.bins
        return Times(time, bins @ density)

    def updated(self, state: Any, times: Times, cost: Array, keep: Array | None) -> Any:
        which = jnp.floor(times.time * self.bins).astype(int)
        seen = jnp.isfinite(cost)
        seen = seen if keep is None else seen & _rows(keep)
        bins = self._one_hot(which, cost.dtype) * seen[:, None]
        square = jax.lax.stop_gradient(jnp.where(seen, cost, 0)) ** 2
        new = {"square": jnp.sum(square[:, None] * bins, axis=0), "count": jnp.sum(bins, axis=0)}
        return jax.tree.map(lambda old, x: self.decay * old + x, state, new)

    def _one_hot(self, which: Array, dtype: Any) -> Array:
        return (which[:, None] == jnp.arange(self.bins)).astype(dtype)


_NAMED = {"stratified": StratifiedTimes(), "independent": IndependentTimes()}


def as_times(times: Any, owner: str) -> StratifiedTimes:
    """What draws times, from its name or itself.

    Raises:
      ValueError: for what is neither.
    """
    if isinstance(times, StratifiedTimes):
        return times
    if isinstance(times, str) and times in _NAMED:
        return _NAMED[times]
    raise ValueError(
        f'{owner}: times are "stratified", "independent" or lx.diffusion.AdaptiveTimes(), '
        f"got {times!r}"
    )


def _strata(key: Array, count: int) -> Array:
    u = (jax.random.uniform(key) + jnp.arange(count) / count) % 1
    return jnp.minimum(u, 1 - jnp.finfo(u.dtype).epsneg)


def _rows(keep: Array) -> Array:
    """Which examples are kept, of a mask of any rank."""
    flat = trailing(keep, max(keep.ndim, 2)).reshape((keep.shape[0], -1))
    return jnp.any(flat, axis=1)
