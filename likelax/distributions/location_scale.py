"""Families moved by a location and stretched by a scale, with tails thicker than the Normal's."""

from __future__ import annotations

import math
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from likelax import supports
from likelax._pytree import Array, param
from likelax.distributions._invert import open_uniform
from likelax.distributions.base import Distribution
from likelax.distributions.kl import register_kl
from likelax.numerics.divergences import (
    asymmetric_laplace_divergence,
    exp_excess,
    laplace_divergence,
)
from likelax.numerics.logspace import (
    divide,
    exp_of_log_scale,
    inverse,
    log1mexp,
    log1p,
    log_add_exp,
    log_logistic_pdf,
    log_sigmoid,
    logit,
    power_of_two,
    sigmoid,
    standardize,
    standardize_by_log,
)
from likelax.numerics.normal import log_ndtr_interval, ndtr, ndtri
from likelax.numerics.pairs import log_gap, log_over
from likelax.numerics.truncated_logistic import (
    truncated_logistic_log_pdf,
    truncated_logistic_log_tails,
    truncated_logistic_quantile,
)
from likelax.numerics.two_sided import log_upper_rest, two_sided_loss

_LOG_2 = math.log(2)
_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


def located_in_units(dist: Any, length: Array) -> tuple[Distribution, Array]:
    """`_in_units` of a family of `loc` and `scale` whose other parameters have no unit."""
    if dist.given("log_scale"):
        return dist, jnp.ones_like(length)
    unit = power_of_two(length, dist.scale, jnp.maximum(jnp.abs(dist.loc), dist.scale))
    return dist.replace(loc=dist.loc / unit, scale=dist.scale / unit), unit


class LocationScale(Distribution):
    """Base of the families that `loc` moves and `scale` stretches, with their mode at `loc`; the
    mean is there too unless they say otherwise.

    Parameters, of the batch's shape: `loc`, real; `scale`, positive, or its logarithm `log_scale`.
    """

    loc: Array = param(supports.real)
    scale: Array = param(supports.positive, default=None)
    log_scale: Array = param(
        supports.log_positive, default=None, instead_of="scale", to=exp_of_log_scale, back=jnp.log
    )

    def _z(self, value: Array) -> Array:
        if self.given("log_scale"):
            return standardize_by_log(value, self.loc, self.log_scale)
        return standardize(value, self.loc, self.scale)

    def _in_units(self, length: Array) -> tuple[Distribution, Array]:
        return located_in_units(self, length)

    def _log_scale_over(self, m: Array) -> Array:
        """log(scale / m), also where the two logarithms nearly cancel."""
        if self.given("scale"):
            return log_over(self.scale, m)
        return -log_gap(m, self.log_scale)

    def mean(self) -> Array:
        return self.loc

    def mode(self) -> Array:
        return self.loc


@jax.custom_jvp
def _magnitude(z: Array) -> Array:
    """|z| with slope 0 at 0, where that of jnp.abs is 1."""
    return jnp.abs(z)


@_magnitude.defjvp
def _magnitude_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _magnitude(*primals), jnp.sign(primals[0]) * tangents[0]


class Laplace(LocationScale):
    """The Laplace distribution: log p(x) = -|z| - log(2 scale), z = (x - loc)/scale.

    With a fixed scale its negative log-density is the absolute error, whose gradient at 0 is taken
    as 0.

    Parameters, of the batch's shape: `loc`, real; `scale`, positive, or its logarithm `log_scale`.
    """

    def log_prob(self, value: Array) -> Array:
        return -_magnitude(self._z(value)) - _LOG_2 - self.log_scale

    def log_cdf(self, value: Array) -> Array:
        z = self._z(value)
        return jnp.where(z < 0, z - _LOG_2, log1p(-0.5 * jnp.exp(-jnp.abs(z))))

    def log_survival(self, value: Array) -> Array:
        z = self._z(value)
        return jnp.where(z < 0, log1p(-0.5 * jnp.exp(-jnp.abs(z))), -z - _LOG_2)

    def log_interval_prob(self, low: Array, width: ArrayLike) -> Array:
        """log P(low < X <= low + width), also for widths far below the scale; see `Quantized`."""
        a, w = self._z(low), divide(width, self.scale)
        b = a + w
        astride = (a < 0) & (b > 0)
        below, above = jnp.where(astride, a, -1), jnp.where(astride, b, 1)
        both = -(jnp.expm1(below) + jnp.expm1(-above))
        beside = log1mexp(w) - jnp.where(a < 0, -b, a)
        return jnp.where(astride, jnp.log(both), beside) - _LOG_2

    def quantile(self, q: Array) -> Array:
        z = jnp.where(q < 0.5, jnp.log(2 * q), -jnp.log(2 * (1 - q)))
        return self.loc + self.scale * z

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return self.loc + self.scale * jax.random.laplace(key, self._shape(shape), self.dtype)

    def variance(self) -> Array:
        return 2 * self.scale**2

    def stddev(self) -> Array:
        return math.sqrt(2) * self.scale

    def entropy(self) -> Array:
        return 1 + _LOG_2 + self.log_scale


@register_kl(Laplace, Laplace)
def _kl_laplace(p: Laplace, q: Laplace) -> Array:
    if p.given("scale") and q.given("scale"):
        return laplace_divergence(p.loc - q.loc, p.scale, q.scale)
    log_ratio, gap = p.log_scale - q.log_scale, jax.lax.stop_gradient(jnp.abs(p.loc - q.loc))
    # Locations that far apart count by q's scale: p's may be below the floats.
    far, log_largest = gap > 1e4 * p.scale, math.log(float(jnp.finfo(p.dtype).max))
    endless = (log_ratio > log_largest) | far & (jnp.log(gap) - q.log_scale > log_largest)
    endless = jax.lax.stop_gradient(endless)
    far = far & ~endless
    log_ratio, near = jnp.where(endless, 0, log_ratio), ~(far | endless)
    z = standardize(jnp.where(near, p.loc, q.loc), q.loc, jnp.where(near, p.scale, 1))
    away = standardize(jnp.where(far, p.loc, q.loc), q.loc, jnp.where(far, q.scale, 1))
    ratio = jnp.exp(log_ratio)
    apart = jnp.where(far, jnp.abs(away) - ratio, ratio * exp_excess(-jnp.abs(z)))
    return jnp.where(endless, jnp.inf, exp_excess(log_ratio) + apart)


def scale_ratio(p: Any, q: Any) -> Array:
    """The scale of p over that of q."""
    if p.given("scale") and q.given("scale"):
        return divide(p.scale, q.scale)
    return exp_of_log_scale(p.log_scale - q.log_scale)


def log_scale_ratio(p: Any, q: Any) -> Array:
    """The logarithm of `scale_ratio`."""
    if p.given("scale") and q.given("scale"):
        return log_over(p.scale, q.scale)
    return p.log_scale - q.log_scale


class AsymmetricLaplace(LocationScale):
    """Two exponential tails of different length, joined at `loc`.

    log p(x) = -max(a z, -z/a) - log(a + 1/a) - log scale, z = (x - loc)/scale, a = asymmetry: above
    1 the lower tail is the longer one. `loc` is the mode and the a^2/(1 + a^2) quantile.
    `AsymmetricLaplace.from_quantile` is the distribution of quantile regression.

    Parameters, of the batch's shape: `loc`, real; `scale`, positive, or its logarithm `log_scale`;
    `asymmetry`, positive, 1 for the Laplace.

    Source: Kotz, Kozubowski and Podgorski, "The Laplace Distribution and Generalizations" (2001),
      ch. 3.
    """

    asymmetry: Array = param(supports.positive)

    @classmethod
    def from_quantile(cls, loc: ArrayLike, scale: ArrayLike, quantile: ArrayLike) -> Self:
        """The distribution whose `quantile` is at `loc` and whose loss is the pinball loss.

        -log p(x) = max(q u, (q - 1) u) + log(scale / (q (1 - q))), u = (x - loc)/scale, q =
        quantile: the first term is the pinball (quantile) loss, the second its normaliser.
        Minimised over `loc` it gives the conditional q-quantile.

        Args:
          loc: the quantile's place, real.
          scale: what the error is measured in, positive.
          quantile: which quantile, in (0, 1); they broadcast to the batch's shape.
        """
        quantile = jnp.asarray(quantile, jnp.result_type(float, quantile))
        return cls(
            loc,  # type: ignore[arg-type]
            scale / jnp.sqrt(quantile * (1 - quantile)),  # type: ignore[arg-type]
            jnp.sqrt(quantile / (1 - quantile)),
        )

    def _log_below(self) -> Array:
        """log P(X < loc) = log(a^2/(1 + a^2))."""
        return log_sigmoid(2 * jnp.log(self.asymmetry))

    def _log_above(self) -> Array:
        return log_sigmoid(-2 * jnp.log(self.asymmetry))

    def _log_normalizer(self) -> Array:
        """log(a + 1/a) + log scale."""
        a = self.asymmetry
        low = a < 1
        small = jnp.where(low, a, inverse(jnp.where(low, 1, a)))
        return jnp.log1p(small * small) + self._log_scale_over(small)

    def log_prob(self, value: Array) -> Array:
        return -two_sided_loss(self._z(value), self.asymmetry) - self._log_normalizer()

    def log_cdf(self, value: Array) -> Array:
        z, a = self._z(value), self.asymmetry
        below, above = jnp.where(z < 0, z, 0), jnp.where(z < 0, 0, z)
        return jnp.where(z < 0, self._log_below() + divide(below, a), log_upper_rest(above, a))

    def log_survival(self, value: Array) -> Array:
        z, a = self._z(value), self.asymmetry
        below, above = jnp.where(z < 0, -z, 0), jnp.where(z < 0, 0, z)
        return jnp.where(z < 0, log_upper_rest(below, inverse(a)), self._log_above() - above * a)

    def quantile(self, q: Array) -> Array:
        a = self.asymmetry
        lower = (jnp.log(q) - self._log_below()) * a
        upper = (self._log_above() - jnp.log1p(-q)) / a
        return self.loc + self.scale * jnp.where(lower < 0, lower, upper)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        above, below = jax.random.exponential(key, (2, *self._shape(shape)), self.dtype)
        return self.loc + self.scale * (above / self.asymmetry - below * self.asymmetry)

    def mean(self) -> Array:
        return self.loc + self.scale * (1 / self.asymmetry - self.asymmetry)

    def stddev(self) -> Array:
        return self.scale * jnp.hypot(1 / self.asymmetry, self.asymmetry)

    def variance(self) -> Array:
        return self.stddev() ** 2

    def entropy(self) -> Array:
        return 1 + self._log_normalizer()


@register_kl(AsymmetricLaplace, AsymmetricLaplace)
def _kl_asymmetric_laplace(p: AsymmetricLaplace, q: AsymmetricLaplace) -> Array:
    return asymmetric_laplace_divergence(q.loc - p.loc, p.scale, p.asymmetry, q.scale, q.asymmetry)


class Huber(LocationScale):
    """The distribution of the Huber loss: Normal within `delta` scales of `loc`, exponential
    beyond.

    log p(x) = -h(z) - log Z - log scale, z = (x - loc)/scale, with h(z) = z^2/2 where |z| <= delta
    and delta |z| - delta^2/2 elsewhere, and Z = sqrt(2 pi) erf(delta/sqrt 2) + (2/delta)
    exp(-delta^2/2).

    Parameters, of the batch's shape: `loc`, real; `scale`, positive, or its logarithm `log_scale`;
    `delta`, positive, where the square turns into a line: the Normal's when large,
    the Laplace's (of scale `scale/delta`) when small.

    Source: Huber (1964), "Robust estimation of a location parameter" (its least favourable
      density).
    """

    delta: Array = param(supports.positive, typical=1.0)

    def _loss(self, z: Array) -> Array:
        size = jnp.abs(z)
        near, endless = size <= self.delta, size == jnp.inf
        line = self.delta * (jnp.where(endless, self.delta, size) - 0.5 * self.delta)
        line = jnp.where(endless, jnp.inf, line)
        return jnp.where(near, 0.5 * jnp.where(near, z, 0) ** 2, line)

    def _log_masses(self) -> tuple[Array, Array]:
        """log of the mass in both tails and of all of it, Z, times min(delta, 1)."""
        unit, over = self._units()
        middle = _LOG_SQRT_2PI + log_ndtr_interval(-self.delta, self.delta) + jnp.log(unit)
        tails = _LOG_2 - 0.5 * self.delta**2 - jnp.log(over)
        return tails, log_add_exp(middle, tails)

    def _units(self) -> tuple[Array, Array]:
        """min(delta, 1) and max(delta, 1): Z delta is 2 in the limit 0, Z sqrt(2 pi) in that of infinity."""
        low = self.delta < 1
        return jnp.where(low, self.delta, 1), jnp.where(low, 1, self.delta)

    def _log_normalizer(self) -> Array:
        """log Z + log scale."""
        return self._log_masses()[1] + self._log_scale_over(self._units()[0])

    def log_prob(self, value: Array) -> Array:
        return -self._loss(self._z(value)) - self._log_normalizer()

    def _log_tail(self, z: Array) -> Array:
        """log P(Z <= z) for z <= 0."""
        _, total = self._log_masses()
        far = z <= -self.delta
        edge = jnp.where(far, z, -self.delta)
        unit, over = self._units()
        tail = -self._loss(edge) - total - jnp.log(over)
        inside = jnp.where(far, -self.delta, z)
        within = _LOG_SQRT_2PI + log_ndtr_interval(-self.delta, inside) + jnp.log(unit)
        return jnp.where(far, tail, log_add_exp(tail, within - total))

    def log_cdf(self, value: Array) -> Array:
        z = self._z(value)
        tail = self._log_tail(jnp.where(z < 0, z, -z))
        return jnp.where(z < 0, tail, log1mexp(-tail))

    def log_survival(self, value: Array) -> Array:
        z = self._z(value)
        tail = self._log_tail(jnp.where(z < 0, z, -z))
        return jnp.where(z < 0, log1mexp(-tail), tail)

    def _standard_quantile(self, q: Array) -> Array:
        """The quantile of (x - loc)/scale for q <= 1/2."""
        tails, total = self._log_masses()
        in_tail = jnp.log(2 * q) < tails - total
        log_q = jnp.where(in_tail, jnp.log(q), tails - total - _LOG_2)
        unit, over = self._units()
        tail = (log_q + total + jnp.log(over)) / self.delta - 0.5 * self.delta
        # Phi(z) = Phi(-delta) + (q - P(Z < -delta)) Z / sqrt(2 pi).
        log_unit = jnp.log(unit)
        edge = ndtr(-self.delta) - jnp.exp(tails - log_unit - _LOG_2 - _LOG_SQRT_2PI)
        phi = jnp.exp(total - log_unit - _LOG_SQRT_2PI) * q + edge
        middle = ndtri(jnp.where(in_tail, 0.5, phi))
        return jnp.where(in_tail, tail, middle)

    def quantile(self, q: Array) -> Array:
        upper = q > 0.5
        z = self._standard_quantile(jnp.where(upper, 1 - q, q))
        return self.loc + self.scale * jnp.where(upper, -z, z)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        key_sign, key_q = jax.random.split(key)
        q = 0.5 * open_uniform(key_q, self._shape(shape), self.dtype)
        sign = jax.random.rademacher(key_sign, self._shape(shape), self.dtype)
        return self.loc + self.scale * sign * self._standard_quantile(q)

    def _tail_share(self) -> Array:
        tails, total = self._log_masses()
        return jnp.exp(tails - total)

    def variance(self) -> Array:
        return self.scale**2 * (1 + self._tail_share() * (1 + 2 / self.delta**2))

    def entropy(self) -> Array:
        return 0.5 * (1 + self._tail_share()) + self._log_normalizer()


class Logistic(LocationScale):
    """The logistic distribution: log p(x) = log s(z) + log s(-z) - log scale, z = (x - loc)/scale,
    s the sigmoid.

    Parameters, of the batch's shape: `loc`, real; `scale`, positive, or its logarithm `log_scale`.
    """

    def log_prob(self, value: Array) -> Array:
        return log_logistic_pdf(self._z(value)) - self.log_scale

    def cdf(self, value: Array) -> Array:
        return sigmoid(self._z(value))

    def survival(self, value: Array) -> Array:
        return sigmoid(-self._z(value))

    def log_cdf(self, value: Array) -> Array:
        return log_sigmoid(self._z(value))

    def log_survival(self, value: Array) -> Array:
        return log_sigmoid(-self._z(value))

    def log_interval_prob(self, low: Array, width: ArrayLike) -> Array:
        """log P(low < X <= low + width), also for widths far below the scale; see `Quantized`."""
        a, w = self._z(low), divide(width, self.scale)
        return log_sigmoid(a + w) + log_sigmoid(-a) + log1mexp(w)

    def log_prob_within(self, value: Array, low: ArrayLike, high: ArrayLike) -> Array:
        """log p(value | low <= X <= high), also far out in a tail; see `Truncated`."""
        return truncated_logistic_log_pdf(value, low, high, self.loc, self.scale)

    def log_tails_within(
        self, value: Array, low: ArrayLike, high: ArrayLike
    ) -> tuple[Array, Array]:
        """log P(X <= value | low <= X <= high) and log P(X > value | ...); see `Truncated`."""
        return truncated_logistic_log_tails(value, low, high, self.loc, self.scale)

    def quantile_within(self, q: Array, low: ArrayLike, high: ArrayLike) -> Array:
        """The quantile of X given low <= X <= high; see `Truncated`."""
        return truncated_logistic_quantile(q, low, high, self.loc, self.scale)

    def quantile(self, q: Array) -> Array:
        return self.loc + self.scale * logit(q)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return self.quantile(open_uniform(key, self._shape(shape), self.dtype))

    def variance(self) -> Array:
        return self.stddev() ** 2

    def stddev(self) -> Array:
        return (math.pi / math.sqrt(3)) * self.scale

    def entropy(self) -> Array:
        return 2 + self.log_scale


class Delta(Distribution):
    """All probability at one point: log p(x) = 0 at x = loc and -inf elsewhere (counting measure).

    Parameters, of the batch's shape: `loc`, real. Its density has no gradient.
    """

    loc: Array = param(supports.real)
    _delegates = True  # the support is the point itself: the comparison below is its check

    @property
    def support(self) -> supports.Support:
        """The point `loc`."""
        return supports.Interval("loc", 0, True, lower=self.loc, upper=self.loc)

    def log_prob(self, value: Array) -> Array:
        unknown = jnp.isnan(value) | jnp.isnan(self.loc)
        return jnp.where(unknown, jnp.nan, jnp.where(value == self.loc, 0.0, -jnp.inf))

    def cdf(self, value: Array) -> Array:
        unknown = jnp.isnan(value) | jnp.isnan(self.loc)
        return jnp.where(unknown, jnp.nan, jnp.where(value >= self.loc, 1.0, 0.0))

    def quantile(self, q: Array) -> Array:
        return jnp.where((q >= 0) & (q <= 1), self.loc, jnp.nan)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return jnp.broadcast_to(self.loc, self._shape(shape))

    def mean(self) -> Array:
        return self.loc

    def mode(self) -> Array:
        return self.loc

    def variance(self) -> Array:
        return jnp.zeros_like(self.loc)

    def entropy(self) -> Array:
        return jnp.zeros_like(self.loc)
