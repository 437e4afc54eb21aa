"""Families with power-law tails: Student's t and the Cauchy."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from likelax import supports
from likelax._pytree import Array, param
from likelax.distributions._invert import solve_decreasing
from likelax.distributions.base import Distribution
from likelax.distributions.gamma import log_minus_digamma, sample_standard_gamma
from likelax.distributions.kl import register_kl
from likelax.distributions.location_scale import LocationScale, located_in_units, log_scale_ratio
from likelax.numerics.deviance import log1pmx
from likelax.numerics.incomplete import log_betainc_of_logits
from likelax.numerics.logspace import (
    divide,
    exp_of_log_scale,
    infinite_moment,
    log1mexp,
    log_add_exp,
    logcosh,
    standardize,
    standardize_far,
)
from likelax.numerics.normal import log_ndtr
from likelax.numerics.pairs import log_over
from likelax.numerics.student_t import (
    LARGEST_DF,
    log1p_square,
    student_t_kernel,
    student_t_log_normalizer,
)

_LOG_2 = math.log(2)
_LOG_PI = math.log(math.pi)
# From exp(20) on 1 + z^2 is z^2, even in float64.
_LOG_EDGE = 20.0


def _standardized(dist: Cauchy | StudentT, value: Array, df: ArrayLike) -> tuple[Array, ArrayLike]:
    """(value - loc)/scale as z exp(excess): where there is an excess the density is a power of it."""
    if dist.given("scale"):
        return standardize(value, dist.loc, dist.scale), 0.0
    log_edge = _LOG_EDGE + 0.5 * jnp.log(jnp.maximum(jax.lax.stop_gradient(df), 1.0))
    return standardize_far(value, dist.loc, dist.log_scale, log_edge)


class Cauchy(LocationScale):
    """The Cauchy distribution: log p(x) = -log(1 + z^2) - log(pi scale), z = (x - loc)/scale.

    Its mean, variance and standard deviation do not exist and are NaN.

    Parameters, of the batch's shape: `loc`, real; `scale`, positive, or its logarithm `log_scale`.
    """

    def log_prob(self, value: Array) -> Array:
        z, excess = _standardized(self, value, 1.0)
        return -(log1p_square(z) + 2 * excess) - _LOG_PI - self.log_scale

    def log_cdf(self, value: Array) -> Array:
        z, excess = _standardized(self, value, 1.0)
        tail = _cauchy_log_tail(jnp.where(z < 0, -z, z)) - excess
        return jnp.where(z < 0, tail, log1mexp(-tail))

    def log_survival(self, value: Array) -> Array:
        z, excess = _standardized(self, value, 1.0)
        tail = _cauchy_log_tail(jnp.where(z < 0, -z, z)) - excess
        return jnp.where(z < 0, log1mexp(-tail), tail)

    def quantile(self, q: Array) -> Array:
        # tan(pi (q - 1/2)), counted from the nearer end.
        central = (q > 0.25) & (q < 0.75)
        middle = jnp.tan(math.pi * (jnp.where(central, q, 0.5) - 0.5))
        lower = q < 0.5
        outer = jnp.where(central, 0.25, jnp.where(lower, q, 1 - q))
        tail = jnp.where(lower, -1, 1) / jnp.tan(math.pi * outer)
        return self.loc + self.scale * jnp.where(central, middle, tail)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return self.loc + self.scale * jax.random.cauchy(key, self._shape(shape), self.dtype)

    def mean(self) -> Array:
        return jnp.full_like(self.loc, jnp.nan)

    def variance(self) -> Array:
        return jnp.full_like(self.loc, jnp.nan)

    def entropy(self) -> Array:
        return 2 * _LOG_2 + _LOG_PI + self.log_scale


@register_kl(Cauchy, Cauchy)
def _kl_cauchy(p: Cauchy, q: Cauchy) -> Array:
    # log[((s_p + s_q)^2 + (l_p - l_q)^2) / (4 s_p s_q)]: Chyzak and Nielsen (2019),
    # arXiv:1905.10965.
    if not (p.given("scale") and q.given("scale")):
        log_sum = log_add_exp(p.log_scale, q.log_scale)
        z, excess = standardize_far(p.loc, q.loc, log_sum, _LOG_EDGE)
        return 2 * logcosh(0.5 * log_scale_ratio(p, q)) + (log1p_square(z) + 2 * excess)
    gap, s, t = jnp.broadcast_arrays(p.loc - q.loc, p.scale, q.scale)
    # By roots of the scales, whose product may be no float.
    roots = 0.5 * divide(divide(gap, jnp.sqrt(s)), jnp.sqrt(t)), jnp.sinh(0.5 * log_over(s, t))
    far = jax.lax.stop_gradient(jnp.maximum(*map(jnp.abs, roots)) > 1e15)
    outer = _cauchy_far(*(jnp.where(far, x, 1.0) for x in (gap, s, t)))
    gap, s, t = jnp.where(far, 0.0, gap), jnp.where(far, 1.0, s), jnp.where(far, 1.0, t)
    gap = 0.5 * divide(divide(gap, jnp.sqrt(s)), jnp.sqrt(t))
    return jnp.where(far, outer, jnp.log1p(jnp.sinh(0.5 * log_over(s, t)) ** 2 + gap**2))


def _cauchy_far(gap: Array, s: Array, t: Array) -> Array:
    """The same where it is so large that its logarithms do not cancel."""
    size = jnp.maximum(jnp.maximum(s, t), jnp.abs(gap))
    unit = jax.lax.stop_gradient(jnp.where(size < jnp.inf, size, 1.0))
    squares = (s / unit + t / unit) ** 2 + (gap / unit) ** 2
    return (2 * jnp.log(unit) - jnp.log(s) - jnp.log(t)) + (jnp.log(squares) - 2 * _LOG_2)


class StudentT(Distribution):
    """Student's t: log p(x) = -(df + 1)/2 log(1 + z^2/df) - log scale + log Gamma((df + 1)/2)
    - log Gamma(df/2) - log(pi df)/2, z = (x - loc)/scale.

    A regression with it does not follow outliers; as df grows it becomes the Normal. Its mean is
    NaN for df <= 1; its variance is infinite for 1 < df <= 2 and NaN below.

    Parameters, of the batch's shape: `df`, positive; `loc`, real; `scale`, positive, or its
    logarithm `log_scale`.
    """

    df: Array = param(supports.positive, typical=5.0)
    loc: Array = param(supports.real)
    scale: Array = param(supports.positive, default=None)
    log_scale: Array = param(
        supports.log_positive, default=None, instead_of="scale", to=exp_of_log_scale, back=jnp.log
    )

    def _parts(self, value: Array) -> tuple[Array, Array, ArrayLike]:
        z, excess = _standardized(self, value, self.df)
        z, df = jnp.broadcast_arrays(z, self.df)
        return z, df, excess

    def _in_units(self, length: Array) -> tuple[Distribution, Array]:
        return located_in_units(self, length)

    @property
    def _finite_df(self) -> Array:
        """df, one that is infinite as the largest number: an excess of 0 takes it 0 times."""
        return jnp.where(self.df == jnp.inf, jnp.finfo(self.dtype).max, self.df)

    @property
    def _held_df(self) -> Array:
        """df, one that is infinite as a number."""
        return jnp.where(self.df > LARGEST_DF, LARGEST_DF, self.df)

    def log_prob(self, value: Array) -> Array:
        z, df, excess = self._parts(value)
        return _log_density(z, df) - excess * (self._finite_df + 1) - self.log_scale

    def _log_tails(self, value: Array) -> tuple[Array, Array]:
        z, df, excess = self._parts(value)
        tail = _log_tail(jnp.where(z < 0, -z, z), df) - excess * self._finite_df
        rest = log1mexp(-tail)
        return jnp.where(z < 0, tail, rest), jnp.where(z < 0, rest, tail)

    def log_cdf(self, value: Array) -> Array:
        return self._log_tails(value)[0]

    def log_survival(self, value: Array) -> Array:
        return self._log_tails(value)[1]

    def quantile(self, q: Array) -> Array:
        lower = q < 0.5
        log_tail = jnp.log(jnp.where(lower, q, 1 - q))
        z = _tail_quantile(*jnp.broadcast_arrays(log_tail, self.df))
        return self.loc + self.scale * jnp.where(lower, -z, z)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        key_normal, key_gamma = jax.random.split(key)
        normal = jax.random.normal(key_normal, self._shape(shape), self.dtype)
        n = 0.5 * self._held_df
        _, log_gamma = sample_standard_gamma(key_gamma, n, self._shape(shape))
        return self.loc + self.scale * normal * jnp.exp(0.5 * (jnp.log(n) - log_gamma))

    def mean(self) -> Array:
        return jnp.where(self.df > 1, self.loc, jnp.nan)

    def mode(self) -> Array:
        return self.loc

    def variance(self) -> Array:
        finite = self.df > 2
        variance = self.scale**2 * (1 + 2 / jnp.where(finite, self.df - 2, 1))
        return jnp.where(
            finite, variance, jnp.where(self.df > 1, infinite_moment(self.scale), jnp.nan)
        )

    def entropy(self) -> Array:
        n = 0.5 * self._held_df
        # digamma(n + 1/2) - digamma(n) = E[log(1 + z^2/df)]
        step = jnp.log1p(0.5 / n) - (log_minus_digamma(n + 0.5) - log_minus_digamma(n))
        return (n + 0.5) * step - student_t_log_normalizer(2 * n) + self.log_scale


def _log_density(z: Array, df: Array) -> Array:
    return student_t_log_normalizer(df) - student_t_kernel(z, df)


# ---- tails ----


def _cauchy_log_tail(z: Array) -> Array:
    """log P(Z > z) for z >= 0; beyond 1e4 the arctangent of 1/z is 1/z less a third of its cube."""
    far = z > 1e4
    near = jnp.arctan2(1.0, jnp.where(far, 1.0, z))
    inverse = 1 / jnp.where(far, z, 1.0)
    deep = jnp.log1p(-(inverse**2) / 3) - jnp.log(jnp.where(far, z, 1.0))
    return jnp.where(far, deep, jnp.log(near)) - _LOG_PI


def _normal_deviate(z: Array, df: Array) -> Array:
    """The Normal deviate with the same tail, by Hill (1970), "Student's t-distribution", Algorithm
    395.

    For df > 50 and z^2 < df its log tail is right to 2e-8; for df > 200 and z < 3, or df > 1e5 and
    z^2 < df, to 1e-14.
    """
    # sqrt((df - 1/2) log(1 + z^2/df)) as a multiple of z, whose slopes at 0 and in df do not cancel.
    w = divide(z, df) * z
    small = w < 1e-4
    ratio = jnp.where(
        small,
        1 - w * (1 / 2 - w * (1 / 3 - w * (1 / 4 - w / 5))),
        1 + log1pmx(jnp.where(small, 1.0, w)) / jnp.where(small, 1.0, w),
    )
    u = z * jnp.sqrt((1 - divide(0.5, df)) * ratio)
    # The rest is at most u / (48 df).
    counts = df < (1e7 if z.dtype == jnp.float32 else 1e16)
    b = 48 * (jnp.where(counts, df, 1e3) - 0.5) ** 2
    v = jnp.where(counts, u, 0.0) ** 2
    third = (((4 * v + 33) * v + 240) * v + 855) / (10 * b * (b + 0.8 * v * v + 100))
    return u + jnp.where(counts, u * ((v + 3) / b - third), 0.0)


def _log_tail_value(z: Array, df: Array) -> Array:
    """log P(Z > z) for z >= 0 as its region has it."""
    # A Normal has no tail there: its logarithm, -z^2/2, is no float.
    z = jnp.where((df == jnp.inf) & jnp.isinf(z), jnp.finfo(z.dtype).max, z)
    t = z / jnp.sqrt(df)
    if z.dtype == jnp.float32:
        like_normal = (df > 50) & (t < 1)
    else:
        like_normal = ((df > 200) & (z < 3)) | ((df > 1e5) & (t < 1))
    normal = log_ndtr(
        -_normal_deviate(jnp.where(like_normal, z, 0.0), jnp.where(like_normal, df, 100.0))
    )
    # P(|Z| > z) = I_x(df/2, 1/2) at x = 1/(1 + t^2), whose logits and gap are known without x.
    m, z, t = (jnp.where(like_normal, 1.0, part) for part in (df, z, t))
    logits = -2 * log_over(z, jnp.sqrt(m))
    near = t < 1
    ratio = jnp.where(near, t, 1 / jnp.where(near, 1.0, t))
    odds = ratio * ratio
    above = jnp.where(near, 1 - jnp.where(near, z, 0.0) ** 2, odds - m)
    beta = log_betainc_of_logits(
        0.5 * m, jnp.full_like(m, 0.5), logits, above / (2 * (1 + odds)), odds
    )
    return jnp.where(like_normal, normal, beta - _LOG_2)


@jax.custom_jvp
def _tail(z: Array, df: Array) -> tuple[Array, Array]:
    """log P(Z > z) for z >= 0 and the hazard, minus its derivative in z."""
    value, slope = jax.jvp(lambda z: _log_tail_value(z, df), (z,), (jnp.ones_like(z),))
    # Further out the two logarithms would be large and round; at 0 the logits have no slope.
    inner = z < 1
    near = jnp.exp(_log_density(jnp.where(inner, z, 0.0), df) - jnp.where(inner, value, 0.0))
    return value, jnp.where(inner, near, -slope)


@_tail.defjvp
def _tail_jvp(primals, tangents):
    (z, df), (dz, ddf) = primals, tangents
    value, hazard = _tail(z, df)
    slope = _log_tail_slope(z, df)
    _, change = jax.jvp(_log_density, primals, tangents)
    return (value, hazard), (
        slope * ddf - hazard * dz,
        hazard * (change - slope * ddf + hazard * dz),
    )


@jax.custom_jvp
def _log_tail(z: Array, df: Array) -> Array:
    """log P(Z > z) for z >= 0."""
    return _log_tail_value(z, df)


@_log_tail.defjvp
def _log_tail_jvp(primals, tangents):
    (z, df), (dz, ddf) = primals, tangents
    value, hazard = _tail(z, df)
    return value, _log_tail_slope(z, df) * ddf - hazard * dz


def _in_df(function: Callable[[Array, Array], Array], z: Array, df: Array) -> Array:
    return jax.jvp(lambda df: function(z, df), (df,), (jnp.ones_like(df),))[1]


@jax.custom_jvp
def _log_tail_slope(z: Array, df: Array) -> Array:
    """The derivative of `_log_tail` in df. Its own in z is that of the hazard in df, where the regions'
    formulas have none at z = 0.
    """
    return _in_df(_log_tail_value, z, df)


@_log_tail_slope.defjvp
def _log_tail_slope_jvp(primals, tangents):
    (z, df), (dz, ddf) = primals, tangents
    slope = _log_tail_slope(z, df)
    _, bend = jax.jvp(lambda df: _in_df(_log_tail_value, z, df), (df,), (ddf,))
    cross = _tail(z, df)[1] * (slope - _in_df(_log_density, z, df))
    return slope, bend + cross * dz


@jax.custom_jvp
def _tail_quantile(log_tail: Array, df: Array) -> Array:
    """The z >= 0 with log P(Z > z) = log_tail, found on the scale of asinh(z)."""

    def excess(s):
        return _log_tail(jnp.sinh(s), df) - log_tail

    def slope(s, value):
        return -jnp.exp(_log_density(jnp.sinh(s), df) - (value + log_tail)) * jnp.cosh(s)

    largest = jnp.full_like(log_tail, 0.99 * math.log(float(jnp.finfo(log_tail.dtype).max)))
    start = jnp.arcsinh(jnp.sqrt(jnp.maximum(-2 * (log_tail + _LOG_2), 0)))
    s = solve_decreasing(excess, slope, jnp.zeros_like(start), largest, start)
    beyond = s >= largest * (1 - 16 * jnp.finfo(s.dtype).eps)
    return jnp.where(beyond, jnp.inf, jnp.sinh(s))


@_tail_quantile.defjvp
def _tail_quantile_jvp(primals, tangents):
    (log_tail, df), (dlog_tail, ddf) = primals, tangents
    z = _tail_quantile(log_tail, df)
    _, change = jax.jvp(lambda df: _log_tail(z, df), (df,), (ddf,))
    return z, (change - dlog_tail) * jnp.exp(log_tail - _log_density(z, df))
