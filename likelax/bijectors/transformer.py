"""Families of elementwise maps that a conditioner chooses from: raw numbers to a bijector."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp

from likelax._checks import is_count, is_number
from likelax._pytree import Array
from likelax.bijectors.base import Bijector
from likelax.bijectors.compose import Invert
from likelax.bijectors.elementwise import Affine
from likelax.bijectors.spline import RationalQuadraticSpline


@runtime_checkable
class Transformer(Protocol):
    """A hashable function from raw numbers, `(*batch, size)`, to an elementwise bijector of that batch."""

    @property
    def size(self) -> int:
        """How many raw numbers it reads for each element."""

    def __call__(self, raw: Array) -> Bijector:
        """The bijector; as a rule the identity where `raw` is 0."""


@dataclasses.dataclass(frozen=True)
class AffineTransformer:
    """y = shift + scale x (Dinh et al. 2017).

    Args:
      log_limit: the log-scale is kept in (-log_limit, log_limit) by log_limit tanh(raw / log_limit),
        whose slope is 0 nowhere.
    """

    log_limit: float = 5.0

    def __post_init__(self) -> None:
        if not (is_number(self.log_limit) and self.log_limit > 0):
            raise ValueError(
                f"AffineTransformer: log_limit is positive, got {self.log_limit!r}; write log_limit=5.0"
            )

    @property
    def size(self) -> int:
        """2."""
        return 2

    def __call__(self, raw: Array) -> Affine:
        limit = self.log_limit
        return Affine(raw[..., 0], log_scale=limit * jnp.tanh(raw[..., 1] / limit))


@dataclasses.dataclass(frozen=True)
class SplineTransformer:
    """A monotone rational-quadratic spline (Durkan et al. 2019), from data to base where the density
    is asked for.

    Args:
      bins: K, how many pieces.
      bound: the spline is on [-bound, bound], and the identity beyond.
    """

    bins: int = 8
    bound: float = 4.0

    def __post_init__(self) -> None:
        if not (is_count(self.bins) and self.bins < 1000):
            raise ValueError(
                f"SplineTransformer: bins is a whole number from 1 to 999, got {self.bins!r}; write "
                "bins=8"
            )
        if not (is_number(self.bound) and 0 < self.bound < math.inf):
            raise ValueError(
                f"SplineTransformer: bound is positive and finite, got {self.bound!r}; write bound=4.0"
            )

    @property
    def size(self) -> int:
        """3 K - 1."""
        return 3 * self.bins - 1

    def __call__(self, raw: Array) -> Invert:
        k = self.bins
        parts = raw[..., :k], raw[..., k : 2 * k], raw[..., 2 * k :]
        return Invert(RationalQuadraticSpline(*parts, bound=self.bound))


def check_transformer(owner: str, transformer: Any) -> Transformer:
    """The transformer; raises TypeError where it is none."""
    if not isinstance(transformer, Transformer) or isinstance(transformer, type):
        raise TypeError(
            f"{owner}: a function of raw numbers with a size wanted, got {transformer!r}; write "
            "AffineTransformer() or SplineTransformer(bins=8)"
        )
    return transformer
