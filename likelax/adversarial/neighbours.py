"""Quality and variety of samples, apart: by the nearest neighbours of data and samples."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from likelax._checks import is_count
from likelax._pytree import Array
from likelax.adversarial._blocks import (
    Features,
    as_features,
    by_rows,
    check_block,
    or_nan,
    squared_distances,
)


class PrecisionRecall(NamedTuple):
    """Shares, between 0 and 1.

    Attributes:
      precision: of the samples, those among the data: quality.
      recall: of the data, those among the samples: variety.
    """

    precision: Array
    recall: Array


class DensityCoverage(NamedTuple):
    """Of two samples of one distribution density is 1 on average.

    Attributes:
      density: how many of the data's balls hold a sample, on average, over k: quality.
      coverage: the share of the data whose ball holds a sample: variety; of two equal samples of one
        distribution and size 1 - (N - 1) .. (N - k) / ((2N - 1) .. (2N - k)) on average.
    """

    density: Array
    coverage: Array


def precision_recall(
    real: Any,
    fake: Any,
    *,
    neighbours: int = 3,
    features: Features | None = None,
    block_size: int = 512,
) -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019, equations 1 and 2): a value is among others if
    it lies in the ball of one of them, which reaches to its k-th nearest neighbour.

    One outlier has a large ball: see `density_coverage`.

    Args:
      real, fake: data and samples, `(n, *event)` and `(m, *event)`.
      neighbours: k, below n and m.
      features: what is looked at, `(n, *event) -> (n, features)`; by default the values.
      block_size: how many rows of distances are held at once.

    Raises:
      ValueError: for too few values, numbers that are not finite, or a k that is none.
    """
    real, fake = _checked("precision_recall", real, fake, neighbours, features, block_size)
    return _precision_recall(real, fake, neighbours, block_size)


def density_coverage(
    real: Any,
    fake: Any,
    *,
    neighbours: int = 5,
    features: Features | None = None,
    block_size: int = 512,
) -> DensityCoverage:
    """Density and coverage (Naeem et al. 2020, equations 3 and 4), by the balls of the data alone.

    Args:
      real, fake, neighbours, features, block_size: as for `precision_recall`.

    Raises:
      ValueError: for too few values, numbers that are not finite, or a k that is none.
    """
    real, fake = _checked("density_coverage", real, fake, neighbours, features, block_size)
    return _density_coverage(real, fake, neighbours, block_size)


def _checked(owner: str, real: Any, fake: Any, k: Any, features: Any, block_size: Any) -> Any:
    check_block(owner, block_size)
    if not is_count(k):
        raise ValueError(
            f"{owner}: neighbours is a whole number >= 1, got {k!r}; write neighbours=3"
        )
    return as_features(owner, real, fake, features, k + 1)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _precision_recall(real: Array, fake: Array, k: int, block_size: int) -> PrecisionRecall:
    def share(values: Array, balls: Array) -> Array:
        reach = _reach(balls, k, block_size)

        def inside(block: Array, index: Array) -> Array:
            return jnp.any(squared_distances(block, balls) <= reach, axis=-1)

        return jnp.mean(by_rows(inside, values, block_size), dtype=values.dtype)

    return or_nan(PrecisionRecall(share(fake, real), share(real, fake)), real, fake)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _density_coverage(real: Array, fake: Array, k: int, block_size: int) -> DensityCoverage:
    reach = _reach(real, k, block_size)

    def held(block: Array, index: Array) -> Array:
        """How many samples each ball has."""
        own = reach[jnp.minimum(index, len(real) - 1), None]
        return jnp.sum(squared_distances(block, fake) <= own, axis=-1)

    count = by_rows(held, real, block_size)
    density = jnp.sum(count, dtype=real.dtype) / (k * len(fake))
    coverage = jnp.mean(count > 0, dtype=real.dtype)
    return or_nan(DensityCoverage(density, coverage), real, fake)


def _reach(x: Array, k: int, block_size: int) -> Array:
    """The squared distance of each value to its k-th nearest other one, `(n,)`."""

    def kth(block: Array, index: Array) -> Array:
        square = squared_distances(block, x)
        others = jnp.where(index[:, None] == jnp.arange(len(x)), jnp.inf, square)
        return -jax.lax.top_k(-others, k)[0][:, -1]

    return by_rows(kth, x, block_size)
