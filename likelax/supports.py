"""Supports: which values a variable may take.

A support says whether a value is inside (`contains`), and gives an inside value to compute with
where it is not (`project`), so that no formula is evaluated where it does not hold. The bounds of
an interval may be arrays: the support of `Uniform(low, high)` is made from its parameters.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from likelax.numerics.indexing import whole


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Support:
    """A set of values; `event_ndims` trailing axes make up one value.

    Attributes:
      name: what messages call it.
      event_ndims: 0 for numbers, 1 for vectors, 2 for matrices.
      is_discrete: whether it is a set of isolated points, with counting measure.
    """

    name: str
    event_ndims: int = 0
    is_discrete: bool = False

    @property
    def is_everything(self) -> bool:
        """Whether every real value (vector, matrix) is inside."""
        return False

    def contains(self, value: jax.Array) -> jax.Array:
        """Whether each value is inside: boolean, event axes reduced. NaN is outside."""
        raise NotImplementedError(f"{type(self).__name__} has no contains")

    def excludes(self, value: jax.Array) -> jax.Array:
        """Whether each value is outside and not NaN: boolean, event axes reduced."""
        nan = jnp.isnan(value)
        if self.event_ndims:
            nan = jnp.any(nan, axis=tuple(range(-self.event_ndims, 0)))
        return ~self.contains(value) & ~nan

    def project(self, value: jax.Array) -> jax.Array:
        """`value` with those that are excluded replaced by an inside value; NaN stays."""
        outside = self.excludes(value)
        outside = outside.reshape(outside.shape + (1,) * self.event_ndims)
        return jnp.where(outside, self.inside(value).astype(value.dtype), value)

    def inside(self, like: jax.Array) -> jax.Array:
        """An inside value, at which every density is smooth, of the shape of `like`."""
        raise NotImplementedError(f"{type(self).__name__} has no inside")

    def widen(self, value: jax.Array, dtype: DTypeLike) -> jax.Array:
        """`value` as the number of this wider dtype that it stands for."""
        return value.astype(dtype)

    def dims(self, event_shape: tuple[int, ...]) -> int:
        """How many numbers of a value are free."""
        return math.prod(event_shape)

    def __repr__(self) -> str:
        return self.name


class Real(Support):
    """All real numbers (vectors, matrices)."""

    @property
    def is_everything(self) -> bool:
        return True

    def contains(self, value: jax.Array) -> jax.Array:
        good = ~jnp.isnan(value)
        return jnp.all(good, axis=tuple(range(-self.event_ndims, 0))) if self.event_ndims else good

    def inside(self, like: jax.Array) -> jax.Array:
        return jnp.zeros_like(like)


class Circle(Real):
    """All angles in radians: densities have period 2 pi and sum to 1 over one turn.

    Samples, quantiles and distribution functions are those of the angle in [-pi, pi).
    """

    lower, upper = -math.pi, math.pi


def _room(bound: jax.Array) -> jax.Array:
    """A distance that takes a float off a bound of its size: 1, unless that is below its rounding."""
    return jnp.maximum(jnp.abs(bound) / 64, 1)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Interval(Support):
    """The numbers from `lower` to `upper`, the ends inside unless open.

    A bound that is None is infinite, and infinity itself is no number inside. A discrete one holds the whole steps from `lower`.
    """

    lower: ArrayLike | None = None
    upper: ArrayLike | None = None
    open_lower: bool = False
    open_upper: bool = False

    def contains(self, value: jax.Array) -> jax.Array:
        good = jnp.isfinite(value)
        if self.lower is not None:
            good &= (value > self.lower) if self.open_lower else (value >= self.lower)
        if self.upper is not None:
            good &= (value < self.upper) if self.open_upper else (value <= self.upper)
        if not self.is_discrete:
            return good
        steps = value if self.lower is None else value - self.lower
        return good & (steps == jnp.floor(steps))

    def excludes(self, value: jax.Array) -> jax.Array:
        # Comparisons with NaN are False: of such a value nobody can say.
        low = -jnp.inf if self.lower is None else self.lower
        high = jnp.inf if self.upper is None else self.upper
        under = value <= low if self.open_lower or self.lower is None else value < low
        over = value >= high if self.open_upper or self.upper is None else value > high
        out = under | over
        if not (isinstance(low, int | float) and isinstance(high, int | float)):
            out |= jnp.isinf(value)
        if self.is_discrete and jnp.issubdtype(value.dtype, jnp.floating):
            steps = value if self.lower is None else value - self.lower
            out |= (steps < jnp.floor(steps)) | (steps > jnp.floor(steps))
        for bound in (low, high):
            if not isinstance(bound, int | float):
                out &= ~jnp.isnan(bound)
        return out

    def inside(self, like: jax.Array) -> jax.Array:
        if self.lower is not None and self.upper is not None:
            # Of arrays either end may be infinite.
            low, high = jnp.asarray(self.lower), jnp.asarray(self.upper)
            ended, topped = jnp.isfinite(low), jnp.isfinite(high)
            low, high = jnp.where(ended, low, 0), jnp.where(topped, high, 0)
            one_sided = jnp.where(ended, low + 1, jnp.where(topped, high - 1, 0))
            point = jnp.where(ended & topped, 0.5 * (low + high), one_sided)
        elif self.lower is not None:
            low = jnp.asarray(self.lower)
            point = low + _room(low)
        elif self.upper is not None:
            high = jnp.asarray(self.upper)
            point = high - _room(high)
        else:
            point = jnp.asarray(0.0)
        if not self.is_discrete:
            return point
        start = jnp.asarray(0.0 if self.lower is None else self.lower)
        return start + jnp.floor(point - start)


class Simplex(Support):
    """Vectors of non-negative numbers that sum to 1 (up to rounding)."""

    def contains(self, value: jax.Array) -> jax.Array:
        slack = (64 + value.shape[-1]) * jnp.finfo(value.dtype).eps
        sums = jnp.abs(jnp.sum(value, axis=-1) - 1) <= slack
        return sums & jnp.all(value >= 0, axis=-1)

    def inside(self, like: jax.Array) -> jax.Array:
        return jnp.full_like(like, 1 / like.shape[-1])

    def widen(self, value: jax.Array, dtype: DTypeLike) -> jax.Array:
        # What sums to 1 in the narrow dtype sums to 1.
        wide = value.astype(dtype)
        total = jnp.sum(wide, axis=-1, keepdims=True)
        slack = value.shape[-1] * float(jnp.finfo(value.dtype).eps)
        return jnp.where(jnp.abs(total - 1) <= slack, wide / total, wide)

    def dims(self, event_shape: tuple[int, ...]) -> int:
        return math.prod(event_shape[:-1]) * (event_shape[-1] - 1)


class OpenSimplex(Simplex):
    """The simplex without its faces."""

    def contains(self, value: jax.Array) -> jax.Array:
        return super().contains(value) & jnp.all(value > 0, axis=-1)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Counts(Support):
    """Vectors of non-negative integers that sum to `total`."""

    total: ArrayLike = 1

    def contains(self, value: jax.Array) -> jax.Array:
        whole = jnp.all((value >= 0) & (value == jnp.floor(value)), axis=-1)
        return whole & (jnp.sum(value, axis=-1) == self.total)

    def inside(self, like: jax.Array) -> jax.Array:
        first = jnp.arange(like.shape[-1]) == 0
        total = jnp.asarray(self.total, like.dtype)[..., None]
        return jnp.broadcast_arrays(first * total, like)[0]

    def dims(self, event_shape: tuple[int, ...]) -> int:
        return math.prod(event_shape[:-1]) * (event_shape[-1] - 1)


class OneHot(Support):
    """Vectors of one 1 and otherwise 0."""

    def contains(self, value: jax.Array) -> jax.Array:
        bits = jnp.all((value == 0) | (value == 1), axis=-1)
        return bits & (jnp.sum(value, axis=-1) == 1)

    def inside(self, like: jax.Array) -> jax.Array:
        first = jnp.arange(like.shape[-1]) == 0
        return jnp.broadcast_to(first.astype(like.dtype), like.shape)

    def dims(self, event_shape: tuple[int, ...]) -> int:
        return math.prod(event_shape[:-1])  # one draw


class Permutation(Support):
    """Vectors of the whole numbers 0..n-1, each there once."""

    def contains(self, value: jax.Array) -> jax.Array:
        numbers = jnp.arange(value.shape[-1], dtype=value.dtype)
        return jnp.all(jnp.sort(whole(value), axis=-1) == numbers, axis=-1)

    def inside(self, like: jax.Array) -> jax.Array:
        return jnp.broadcast_to(jnp.arange(like.shape[-1], dtype=like.dtype), like.shape)

    def dims(self, event_shape: tuple[int, ...]) -> int:
        return math.prod(event_shape[:-1]) * (event_shape[-1] - 1)


class Ordered(Support):
    """Strictly increasing vectors."""

    def contains(self, value: jax.Array) -> jax.Array:
        return jnp.all(value[..., 1:] > value[..., :-1], axis=-1) & ~jnp.any(
            jnp.isnan(value), axis=-1
        )

    def inside(self, like: jax.Array) -> jax.Array:
        return jnp.broadcast_to(jnp.arange(like.shape[-1], dtype=like.dtype), like.shape)


class LowerCholesky(Support):
    """Lower-triangular matrices with a positive diagonal."""

    def contains(self, value: jax.Array) -> jax.Array:
        lower = jnp.all(value == jnp.tril(value), axis=(-2, -1))
        return lower & jnp.all(jnp.diagonal(value, axis1=-2, axis2=-1) > 0, axis=-1)

    def inside(self, like: jax.Array) -> jax.Array:
        return jnp.broadcast_to(jnp.eye(like.shape[-1], dtype=like.dtype), like.shape)


class PositiveDefinite(LowerCholesky):
    """Symmetric matrices whose Cholesky factor exists."""

    def contains(self, value: jax.Array) -> jax.Array:
        scale = jnp.max(jnp.abs(value), axis=(-2, -1), keepdims=True)
        slack = 64 * jnp.finfo(value.dtype).eps * scale
        flipped = jnp.swapaxes(value, -2, -1)
        symmetric = jnp.all(jnp.abs(value - flipped) <= slack, axis=(-2, -1))
        factor = jnp.linalg.cholesky(value)
        return symmetric & ~jnp.any(jnp.isnan(factor), axis=(-2, -1))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Elementwise(Support):
    """A support in each element of `ndims` more axes: see `elementwise`."""

    base: Support = dataclasses.field(kw_only=True)
    ndims: int = dataclasses.field(kw_only=True)

    def contains(self, value: jax.Array) -> jax.Array:
        return jnp.all(self.base.contains(value), axis=tuple(range(-self.ndims, 0)))

    def inside(self, like: jax.Array) -> jax.Array:
        return self.base.inside(like)

    def widen(self, value: jax.Array, dtype: DTypeLike) -> jax.Array:
        return self.base.widen(value, dtype)

    def dims(self, event_shape: tuple[int, ...]) -> int:
        return self.base.dims(event_shape)


def elementwise(support: Support, ndims: int) -> Support:
    """`support` in each element of `ndims` more axes."""
    event_ndims = support.event_ndims + ndims
    if support.is_everything and not isinstance(support, Circle):
        return Real(support.name, event_ndims)
    name = f"{support.name}, in each element"
    return Elementwise(name, event_ndims, support.is_discrete, base=support, ndims=ndims)


def _between(low: ArrayLike, high: ArrayLike) -> str:
    """The ends as messages show them: numbers where they are numbers of Python's."""
    if isinstance(low, int | float) and isinstance(high, int | float):
        return f"[{low:g}, {high:g}]"
    return "[low, high]"


def interval(low: ArrayLike, high: ArrayLike) -> Interval:
    """The closed interval from `low` to `high`."""
    return Interval(f"in {_between(low, high)}", lower=low, upper=high)


def integer_interval(low: ArrayLike, high: ArrayLike) -> Interval:
    """The integers from `low` to `high`, both inside."""
    return Interval(f"an integer in {_between(low, high)}", 0, True, lower=low, upper=high)


def greater_than(low: ArrayLike) -> Interval:
    """The numbers above `low`."""
    return Interval("above the lower bound", lower=low, open_lower=True)


real = Real("real")
angle = Circle("an angle")
log_positive = Real("real, the logarithm of a positive number")
positive = Interval("positive", lower=0.0, open_lower=True)
non_negative = Interval("non-negative", lower=0.0)
unit_interval = Interval("in [0, 1]", lower=0.0, upper=1.0)
below_one = Interval("in [0, 1)", lower=0.0, upper=1.0, open_upper=True)
open_unit_interval = Interval("in (0, 1)", lower=0.0, upper=1.0, open_lower=True, open_upper=True)
boolean = Interval("0 or 1", 0, True, lower=0.0, upper=1.0)
non_negative_integer = Interval("a non-negative integer", 0, True, lower=0.0)
real_vector = Real("a real vector", 1)
simplex = Simplex("non-negative and summing to 1", 1)
open_simplex = OpenSimplex("positive and summing to 1", 1)
one_hot = OneHot("one-hot", 1, True)
permutation = Permutation("a permutation of the numbers from 0", 1, True)
ordered = Ordered("strictly increasing", 1)
lower_cholesky = LowerCholesky("lower triangular with a positive diagonal", 2)
positive_definite = PositiveDefinite("symmetric and positive definite", 2)
