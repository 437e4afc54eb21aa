"""The rational-quadratic spline."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, param, static
from likelax.bijectors.base import Bijector
from likelax.numerics.logspace import softplus

_MIN_SIZE = 1e-3
_MIN_SLOPE = 1e-3
# softplus(_SHIFT) + _MIN_SLOPE is 1.
_SHIFT = math.log(math.expm1(1 - _MIN_SLOPE))


class RationalQuadraticSpline(Bijector):
    """A smooth increasing curve through K + 1 knots on [-bound, bound], and y = x beyond (Durkan et al.
    2019, eqs. 4-8).

    Between two knots it is a quotient of quadratics, whose inverse is the root of a quadratic; slopes
    are continuous, 1 at the ends. Parameters that are all 0 give the identity.

    Args:
      widths: log-ratios of the bins' widths, `(*batch, K)`; no bin is narrower than 2e-3 bound.
      heights: likewise of their heights, `(*batch, K)`.
      slopes: of the K - 1 inner knots, softplus(slopes + 0.54) + 0.001, `(*batch, K - 1)`.
      bound: where the curve ends.
    """

    increasing = True
    widths: Array = param(supports.real, shape=("bins",))
    heights: Array = param(supports.real, shape=("bins",))
    slopes: Array = param(supports.real, shape=("inner",))
    bound: float = static(default=4.0)

    def _check(self) -> None:
        super()._check()
        count = self.widths.shape[-1]
        if self.slopes.shape[-1] != count - 1:
            raise ValueError(
                f"RationalQuadraticSpline: {count} bins have {count - 1} inner knots, got slopes of "
                f"shape {self.slopes.shape}"
            )
        if count * _MIN_SIZE >= 1 or not self.bound > 0:
            raise ValueError(
                f"RationalQuadraticSpline: bins below {1 / _MIN_SIZE:.0f} and a positive bound "
                f"wanted, got {count} and {self.bound}"
            )

    def _bin(self, value: Array, *, vertical: bool) -> tuple[Array, ...]:
        """x_k, y_k, w, h and the slopes at both ends of each value's bin, and if it is inside."""
        width, height = _sizes(self.widths, self.bound), _sizes(self.heights, self.bound)
        ends = jnp.cumsum(height if vertical else width, axis=-1)[..., :-1] - self.bound
        count = width.shape[-1]
        index = jnp.sum(value[..., None] >= jax.lax.stop_gradient(ends), axis=-1, keepdims=True)
        # Sums over all bins, most of them of zeros: a gather would have a scatter for its gradient.
        number = jnp.arange(count)
        own, before = number == index, number < index
        first, last = index[..., 0] == 0, index[..., 0] == count - 1

        def place(size: Array) -> tuple[Array, Array]:
            start, end = (_total(size, bins) - self.bound for bins in (before, before | own))
            # Each bin ends where the next one starts, and the last one at the bound, to the last digit.
            return start, jnp.where(last, self.bound, end) - start

        def slope(at: Array) -> Array:
            return softplus(_total(self.slopes, at) + _SHIFT) + _MIN_SLOPE

        (x, w), (y, h) = place(width), place(height)
        left = jnp.where(first, 1, slope(own[..., 1:]))
        right = jnp.where(last, 1, slope(own[..., :-1]))
        return x, y, w, h, left, right, jnp.abs(value) < self.bound

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        low, bottom, width, height, left, right, inside = self._bin(x, vertical=False)
        at = jnp.where(inside, (x - low) / width, 0.5)
        rise, log_slope = _curve(at, height / width, left, right)
        return jnp.where(inside, bottom + height * rise, x), jnp.where(inside, log_slope, 0)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        low, bottom, width, height, left, right, inside = self._bin(y, vertical=True)
        rise = jnp.where(inside, (y - bottom) / height, 0.5)
        at = _curve_inverse(rise, height / width, left, right)
        _, log_slope = _curve(at, height / width, left, right)
        return jnp.where(inside, low + width * at, y), jnp.where(inside, -log_slope, 0)


def _sizes(raw: Array, bound: float) -> Array:
    """Of K bins that fill [-bound, bound]."""
    count = raw.shape[-1]
    share = _MIN_SIZE + (1 - count * _MIN_SIZE) * jax.nn.softmax(raw, axis=-1)
    return 2 * bound * share


def _total(parts: Array, chosen: Array) -> Array:
    return jnp.sum(jnp.where(chosen, parts, 0), axis=-1)


def _curve(at: Array, slope: Array, left: Array, right: Array) -> tuple[Array, Array]:
    """The share of the height that is reached, and log dy/dx, at a share `at` of the width."""
    rest = 1 - at
    between = at * rest
    bottom = slope + (right + left - 2 * slope) * between
    top = right * at**2 + 2 * slope * between + left * rest**2
    ratio = slope / bottom
    log_slope = jnp.log(ratio * (ratio * top))
    return (slope * at**2 + left * between) / bottom, log_slope


@jax.custom_jvp
def _curve_inverse(rise: Array, slope: Array, left: Array, right: Array) -> Array:
    """The share of the width at which this share of the height is reached."""
    # Not left - rise (left + right - 2 slope), which cancels where the slope falls steeply.
    b = left * (1 - rise) + (2 * slope - right) * rise
    a, c = slope - b, -slope * rise
    root = jnp.sqrt(jnp.maximum(b**2 - 4 * a * c, 0))
    # The form that does not cancel, for either sign of b.
    bottom = jnp.where(b >= 0, b + root, 1)
    top = jnp.where(a == 0, 1, 2 * a)
    return jnp.clip(jnp.where(b >= 0, -2 * c / bottom, (root - b) / top), 0, 1)


@_curve_inverse.defjvp
def _curve_inverse_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """By the curve's own slope: the quadratic's root has none where its discriminant is 0."""
    _, slope, left, right = primals
    at = _curve_inverse(*primals)
    curve = lambda *bin: _curve(at, *bin)[0]  # noqa: E731
    _, moved = jax.jvp(curve, (slope, left, right), tangents[1:])
    steepness = jnp.exp(_curve(at, slope, left, right)[1]) / slope
    return at, (tangents[0] - moved) / steepness
