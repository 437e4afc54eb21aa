"""Bijectors of numbers: each element by itself."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, param
from likelax.bijectors.base import Bijector
from likelax.numerics.logspace import (
    divide,
    log1mexp,
    log_sigmoid,
    logit,
    sigmoid,
    soft_limit,
    soft_limit_inverse,
    softplus,
    standardize,
    tanh,
    tanh_log_det,
)
from likelax.supports import Support


def _log_abs(x: Array) -> Array:
    return jnp.log(jnp.abs(x))


class Identity(Bijector):
    """y = x."""

    increasing = True
    is_affine = True

    def image(self, support: Support) -> Support:
        return support

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        return x, jnp.zeros_like(x)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        return y, jnp.zeros_like(y)


class Affine(Bijector):
    """y = shift + scale x, log-determinant log |scale|.

    Args:
      shift: real, shape `batch` (default: 0).
      scale | log_scale: shape `batch`. A scale may be negative, but not 0 (default: 1); a log_scale
        is real, and the scale positive.
    """

    is_affine = True
    shift: Array = param(supports.real, default=0.0)
    scale: Array = param(supports.real, default=1.0)
    log_scale: Array = param(
        supports.log_positive, default=None, instead_of="scale", to=jnp.exp, back=_log_abs
    )

    @property
    def increasing(self) -> Any:
        """True with a log_scale, else where the scale is positive."""
        return True if self.given("log_scale") else self.scale > 0

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        return self.shift + self.scale * x, self.log_scale

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        return standardize(y, self.shift, self.scale), -self.log_scale


class Exp(Bijector):
    """y = exp(x), log-determinant x; `Invert(Exp())` is the logarithm."""

    codomain = supports.positive
    increasing = True

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        return jnp.exp(x), x

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        x = jnp.log(y)
        return x, -x


class Softplus(Bijector):
    """y = log(1 + exp(x)), log-determinant log sigmoid(x)."""

    codomain = supports.positive
    increasing = True

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        return softplus(x), log_sigmoid(x)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        log_slope = log1mexp(y)
        return y + log_slope, -log_slope


class Sigmoid(Bijector):
    """y = 1 / (1 + exp(-x)), log-determinant log y + log(1 - y).

    For x > 17 the nearest float32 to y is 1, which no longer says what x was: take the
    log-determinant from `forward_and_log_det`.
    """

    codomain = supports.open_unit_interval
    increasing = True

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        return sigmoid(x), log_sigmoid(x) + log_sigmoid(-x)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        return logit(y), -jnp.log(y) - jnp.log1p(-y)


class Tanh(Bijector):
    """y = tanh(x), log-determinant log(1 - y^2) = 2 (log 2 - x - softplus(-2x)).

    For |x| > 9 the nearest float32 to y is 1 or -1, which no longer says what x was: take the
    log-determinant from `forward_and_log_det` (as `Transformed.sample_and_log_prob` does). Nothing
    is clipped.
    """

    codomain = supports.Interval(
        "in (-1, 1)", lower=-1.0, upper=1.0, open_lower=True, open_upper=True
    )
    increasing = True

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        return tanh(x), tanh_log_det(x)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        # Both logarithms are accurate where y is near an end, and so are their derivatives.
        log_1py, log_1my = jnp.log1p(y), jnp.log1p(-y)
        return 0.5 * (log_1py - log_1my), -(log_1py + log_1my)


class Power(Bijector):
    """y = x^power for x > 0, log-determinant log |power| + (power - 1) log x.

    Args:
      power: real and not 0, shape `batch`.
    """

    domain = supports.positive
    codomain = supports.positive
    power: Array = param(supports.real)

    @property
    def increasing(self) -> Any:
        """Where the power is positive."""
        return self.power > 0

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        log_det = _log_abs(self.power) + (self.power - 1) * jnp.log(x)
        return jnp.power(x, self.power), log_det

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        log_x = divide(jnp.log(y), self.power)
        return jnp.exp(log_x), -_log_abs(self.power) - (self.power - 1) * log_x


class SoftLimit(Bijector):
    """y = x while |x| <= bound, and sign(x) (bound + log(1 + |x| - bound)) beyond.

    Log-determinant 0, and -log(1 + |x| - bound) beyond. Keeps what a network puts out within what
    floats can hold.

    Args:
      bound: positive, shape `batch`.
    """

    increasing = True
    bound: Array = param(supports.positive)

    def _excess(self, x: Array) -> Array:
        over = ~(jnp.abs(x) <= self.bound)
        return jnp.where(over, jnp.abs(x) - self.bound, 0)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        return soft_limit(x, self.bound), -jnp.log1p(self._excess(x))

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        return soft_limit_inverse(y, self.bound), self._excess(y)
