"""Bijectors from unconstrained numbers onto a support, and `constrain`, which picks one.

Rounding must not leave a support: 5 + exp(-30) is 5 in float32, and not above 5. What is rounded
onto an open end here is moved to the float next to it, inside; the log-determinant is that of x and
knows nothing of it.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from likelax import supports
from likelax._pytree import Array, param
from likelax.bijectors.base import Bijector
from likelax.bijectors.compose import Chain
from likelax.bijectors.elementwise import Affine, Exp, Identity
from likelax.numerics.logspace import divide, log_sigmoid, sigmoid
from likelax.supports import Support


def _next(x: Array, like: Array, sign: int) -> Array:
    """The float after x in this direction; next to 0 the least that is not flushed to 0."""
    x = jax.lax.stop_gradient(x).astype(like.dtype)
    tiny = sign * jnp.finfo(x.dtype).tiny
    return jnp.where(jnp.abs(x) < jnp.abs(tiny), tiny, jnp.nextafter(x, sign * jnp.inf))


def _move(y: Array, target: Array, wanted: Array) -> Array:
    """`target` where wanted, with the derivative of y."""
    return jnp.where(wanted, y + jax.lax.stop_gradient(target - y), y)


class Above(Bijector):
    """y = low + exp(x), log-determinant x.

    Args:
      low: real, shape `batch`.
    """

    increasing = True
    low: Array = param(supports.real)

    @property
    def codomain(self) -> Any:
        """The numbers above `low`."""
        return supports.greater_than(self.low)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        y = self.low + jnp.exp(x)
        return _move(y, _next(self.low, y, 1), y <= self.low), x

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        x = jnp.log(y - self.low)
        return x, -x


class Between(Bijector):
    """y = low + (high - low) sigmoid(x).

    Log-determinant log(high - low) + log sigmoid(x) + log sigmoid(-x).

    Args:
      low, high: real, low < high, shape `batch`.
    """

    increasing = True
    low: Array = param(supports.real)
    high: Array = param(supports.real)

    @property
    def codomain(self) -> Any:
        """The numbers between `low` and `high`, without them."""
        return supports.Interval(
            "in (low, high)", 0, False, self.low, self.high, open_lower=True, open_upper=True
        )

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        low, high, width = self.low, self.high, self.high - self.low
        # From the nearer end: the distance to it keeps its digits.
        y = jnp.where(x < 0, low + width * sigmoid(x), high - width * sigmoid(-x))
        y = _move(y, _next(low, y, 1), y <= low)
        y = _move(y, _next(high, y, -1), y >= high)
        return y, jnp.log(width) + log_sigmoid(x) + log_sigmoid(-x)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        below, above = y - self.low, self.high - y
        log_det = jnp.log(self.high - self.low) - jnp.log(below) - jnp.log(above)
        return jnp.log(divide(below, above)), log_det


class Ordered(Bijector):
    """Increasing vectors: y_1 = x_1, y_k = y_(k-1) + exp(x_k); log-determinant x_2 + ... + x_K."""

    domain = supports.real_vector
    codomain = supports.ordered

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        first, rest = x[..., :1], x[..., 1:]
        y = jnp.cumsum(jnp.concatenate([first, jnp.exp(rest)], axis=-1), axis=-1)
        rounded = _strictly_increasing(jax.lax.stop_gradient(y))
        return _move(y, rounded, rounded > y), jnp.sum(rest, axis=-1)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        rest = jnp.log(y[..., 1:] - y[..., :-1])
        return jnp.concatenate([y[..., :1], rest], axis=-1), -jnp.sum(rest, axis=-1)


def _strictly_increasing(y: Array) -> Array:
    """A non-decreasing vector with ties broken by the least steps upwards."""
    dtype = jnp.int64 if y.dtype == jnp.float64 else jnp.int32
    flip = jnp.iinfo(dtype).max
    bits = jax.lax.bitcast_convert_type(y, dtype)
    # The number of each float when all are counted from the smallest up.
    number = jnp.where(bits < 0, bits ^ flip, bits)
    steps = jax.lax.broadcasted_iota(dtype, y.shape, y.ndim - 1)
    number = jax.lax.cummax(number - steps, axis=y.ndim - 1) + steps
    return jax.lax.bitcast_convert_type(jnp.where(number < 0, number ^ flip, number), y.dtype)


class SimplexFromLogits(Bijector):
    """K-1 real numbers to K positive ones that sum to 1, by breaking a stick; 0 goes to 1/K each.

    y_k = z_k (1 - y_1 - ... - y_(k-1)) with z_k = sigmoid(x_k - log(K - k)); the log-determinant,
    with respect to y_1, ..., y_(K-1), is log y_1 + ... + log y_K. As in the Stan reference manual,
    "Unit simplex".
    """

    domain = supports.real_vector
    codomain = supports.open_simplex

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        t = x - _log_remaining(x.shape[-1], x.dtype)
        log_rest = jnp.cumsum(log_sigmoid(-t), axis=-1)
        zero = jnp.zeros_like(log_rest[..., :1])
        log_before = jnp.concatenate([zero, log_rest], axis=-1)
        log_y = log_before + jnp.concatenate([log_sigmoid(t), zero], axis=-1)
        return jnp.exp(log_y), jnp.sum(log_y, axis=-1)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        # What remains as a sum of what follows: one minus what came before would cancel.
        rest = jax.lax.cumsum(y[..., 1:], axis=y.ndim - 1, reverse=True)
        t = jnp.log(divide(y[..., :-1], rest))
        return t + _log_remaining(y.shape[-1] - 1, y.dtype), -jnp.sum(jnp.log(y), axis=-1)

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-1], shape[-1] + 1)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape[-1] < 1:
            raise ValueError(
                f"SimplexFromLogits: a simplex has at least one corner, got shape {shape}"
            )
        return (*shape[:-1], shape[-1] - 1)


def _log_remaining(count: int, dtype: Any) -> Array:
    """log(K - k) for k = 1, ..., K-1 = count."""
    return jnp.asarray(np.log(np.arange(count, 0, -1)), dtype)


class LowerCholesky(Bijector):
    """d (d + 1) / 2 real numbers, row by row, to a lower triangle with positive diagonal.

    The last number of a row is the logarithm of its diagonal element, by which the row is
    multiplied: L = diag(exp(x_ii)) U with ones on U's diagonal. So a row of small or large scale is
    so as a whole, and z = L^-1 (x - loc) starts from standardised numbers. The log-determinant is
    sum_i i x_ii, i = 1, ..., d.
    """

    domain = supports.real_vector
    codomain = supports.lower_cholesky

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        size = _triangle_side(x.shape)
        rows, log_det = [], jnp.zeros_like(x[..., 0])
        # Slices, since a gather is refused where the batch is sharded over explicit axes.
        for i in range(size):
            start = i * (i + 1) // 2
            below, log_diagonal = x[..., start : start + i], x[..., start + i : start + i + 1]
            row = jnp.concatenate([below, jnp.ones_like(log_diagonal)], axis=-1)
            row = row * jnp.exp(log_diagonal)
            rows.append(jnp.pad(row, [(0, 0)] * (x.ndim - 1) + [(0, size - 1 - i)]))
            log_det = log_det + (i + 1) * log_diagonal[..., 0]
        return jnp.stack(rows, axis=-2), log_det

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        size = y.shape[-1]
        entries, log_det = [], jnp.zeros_like(y[..., 0, 0])
        for i in range(size):
            diagonal = y[..., i, i : i + 1]
            log_diagonal = jnp.log(diagonal)
            entries += [divide(y[..., i, :i], diagonal), log_diagonal]
            log_det = log_det - (i + 1) * log_diagonal[..., 0]
        return jnp.concatenate(entries, axis=-1), log_det

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        size = _triangle_side(shape)
        return (*shape[:-1], size, size)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        size = _matrix_side(shape, "LowerCholesky")
        return (*shape[:-2], size * (size + 1) // 2)


def _triangle_side(shape: tuple[int, ...]) -> int:
    count = shape[-1]
    size = (math.isqrt(8 * count + 1) - 1) // 2
    if size * (size + 1) // 2 != count or size == 0:
        raise ValueError(
            "LowerCholesky fills a triangle of d rows with d (d + 1) / 2 numbers (1, 3, 6, 10, "
            f"...), got {count} in shape {tuple(shape)}"
        )
    return size


def _matrix_side(shape: tuple[int, ...], name: str) -> int:
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ValueError(f"{name}: a square matrix wanted, got shape {tuple(shape)}")
    return shape[-1]


class CholeskyProduct(Bijector):
    """A lower triangle L with positive diagonal to L L'.

    Log-determinant d log 2 + d log L_11 + (d - 1) log L_22 + ... + log L_dd. Volumes are those of
    the d (d + 1) / 2 numbers on and below the diagonals. The inverse, a Cholesky factorisation, is
    NaN where rounding leaves no positive definite matrix.
    """

    domain = supports.lower_cholesky
    codomain = supports.positive_definite

    def _log_det(self, lower: Array) -> Array:
        size = lower.shape[-1]
        diagonal = jnp.diagonal(lower, axis1=-2, axis2=-1)
        return size * math.log(2) + jnp.sum(np.arange(size, 0, -1) * jnp.log(diagonal), axis=-1)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        y = jnp.einsum("...ik,...jk->...ij", x, x, precision=jax.lax.Precision.HIGHEST)
        return y, self._log_det(x)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        lower = jnp.linalg.cholesky(y)
        return lower, -self._log_det(lower)

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        _matrix_side(shape, "CholeskyProduct")
        return tuple(shape)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.forward_shape(shape)


def constrain(support: Support) -> Bijector:
    """The bijector from unconstrained real numbers (vectors) onto a support (its interior).

    real: Identity; positive: Exp; above or below a bound: Above; between two: Between; and
    SimplexFromLogits, Ordered, LowerCholesky, CholeskyProduct after LowerCholesky. A support in
    each element of more axes has the bijector of one element.

    Args:
      support: of `lx.supports`.

    Raises:
      ValueError: when no real vector can be mapped onto it one to one (whole numbers), or none is
        known.
    """
    if isinstance(support, supports.Elementwise):
        return constrain(support.base)
    if support.is_everything:
        return Identity()
    if isinstance(support, supports.Interval) and not support.is_discrete:
        return _onto_interval(support)
    for kind, bijector in _ONTO:
        if isinstance(support, kind):
            return bijector()
    why = (
        "isolated points are no image of real numbers; give the probabilities of the points instead"
        if support.is_discrete
        else "write a Bijector whose codomain it is"
    )
    raise ValueError(f"no bijector maps real numbers onto the values that are {support}: {why}")


def _onto_interval(support: supports.Interval) -> Bijector:
    low, high = support.lower, support.upper
    if low is None and high is None:
        return Identity()
    if low is None:
        negate = Affine(_narrow(0.0), _narrow(-1.0))
        return Chain((negate, Above(-_narrow(high)), negate))
    if high is None:
        return Exp() if isinstance(low, int | float) and low == 0 else Above(_narrow(low))
    return Between(_narrow(low), _narrow(high))


def _narrow(bound: Any) -> Any:
    """A number that float32 holds exactly, as one, so that it widens nothing."""
    if isinstance(bound, int | float) and abs(bound) < 1e30 and float(np.float32(bound)) == bound:
        return np.float32(bound)
    return bound


# A positive definite matrix is, as a support, a kind of Cholesky factor: it must come first.
_ONTO = (
    (supports.Simplex, SimplexFromLogits),
    (supports.Ordered, Ordered),
    (supports.PositiveDefinite, lambda: Chain((CholeskyProduct(), LowerCholesky()))),
    (supports.LowerCholesky, LowerCholesky),
)
