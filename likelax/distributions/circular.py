"""Directions in the plane: the von Mises distribution."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, param
from likelax.distributions._invert import solve_decreasing
from likelax.distributions.base import Distribution, beyond
from likelax.distributions.kl import register_kl
from likelax.numerics.angles import versine_between
from likelax.numerics.bessel import (
    bessel_ratio,
    bessel_ratio_defect,
    log_i0e,
    log_von_mises_tail,
    von_mises_cdf,
    von_mises_spread,
)
from likelax.numerics.logspace import log1mexp, log_add_exp, log_sub_exp, passing_nan

_LOG_2PI = math.log(2 * math.pi)


def _beyond(angle: Array, below: float, above: float, tail: Array) -> Array:
    """A tail with what it is before the turn from -pi to pi, and after it."""
    return beyond(angle <= -math.pi, below, angle >= math.pi, above, tail)


class VonMises(Distribution):
    """The von Mises distribution of an angle: log p(x) = k cos(x - loc) - log(2 pi I0(k)), k =
    concentration.

    Any real angle, in radians, is a value: the density has period 2 pi and integrates to 1 over one
    turn. Samples, quantiles and the distribution function are those of the angle in [-pi, pi).
    `mean` is the circular mean, `variance` the circular variance 1 - I1(k)/I0(k), in [0, 1].

    Parameters, of the batch's shape: `loc`, a real angle; `concentration`, non-negative: 0 is the
    uniform.

    Source: Mardia and Jupp, "Directional Statistics" (2000), section 3.5.4.
    """

    loc: Array = param(supports.real)
    concentration: Array = param(supports.non_negative)
    support = supports.angle

    def log_prob(self, value: Array) -> Array:
        # k (cos d - 1) without its cancellation, over exp(-k) I0(k).
        endless = jnp.isinf(value)  # no angle
        drop = self.concentration * versine_between(jnp.where(endless, 0, value), self.loc)
        log_prob = -drop - _LOG_2PI - log_i0e(self.concentration)
        return passing_nan(jnp.where(endless, -jnp.inf, log_prob), log_prob)

    def _arc(self, start: Array, end: Array) -> Array:
        """The mass from one angle up to another, both counted from loc, in [-pi, pi): small ones
        keep their digits.
        """
        k = self.concentration
        below_start, below_end = von_mises_cdf(start, k), von_mises_cdf(end, k)
        above_start, above_end = von_mises_cdf(-start, k), von_mises_cdf(-end, k)
        upper = (start >= 0) & (end >= 0)
        forward = jnp.where(upper, above_start - above_end, below_end - below_start)
        return jnp.where(end >= start, forward, above_start + below_end)

    def _log_arc(self, start: Array, end: Array) -> Array:
        """log of that mass, also where it is no float: from the tails beyond |start| and |end|."""
        beyond_start, beyond_end = (
            log_von_mises_tail(jnp.where(a < 0, -a, a), self.concentration) for a in (start, end)
        )
        nearer = jnp.abs(end) < jnp.abs(start)
        larger = jnp.where(nearer, beyond_end, beyond_start)
        smaller = jnp.where(nearer, beyond_start, beyond_end)
        one_side = (start < 0) == (end < 0)
        # On one side of loc the mass between the two, on two sides that opposite to loc.
        apart = log_sub_exp(larger, smaller)
        part = jnp.where(one_side, apart, log_add_exp(larger, smaller))
        direct = jnp.where(one_side, end >= start, end < 0)
        rest = jnp.where(direct | (part > 0), 1, -part)
        return jnp.where(direct, part, log1mexp(rest))

    def cdf(self, value: Array) -> Array:
        mass = self._arc(_wrap(-math.pi - self.loc), _wrap(value - self.loc))
        return _beyond(value, 0, 1, mass)

    def survival(self, value: Array) -> Array:
        mass = self._arc(_wrap(value - self.loc), _wrap(-math.pi - self.loc))
        return _beyond(value, 1, 0, mass)

    def log_cdf(self, value: Array) -> Array:
        log_mass = self._log_arc(_wrap(-math.pi - self.loc), _wrap(value - self.loc))
        return _beyond(value, -jnp.inf, 0, log_mass)

    def log_survival(self, value: Array) -> Array:
        log_mass = self._log_arc(_wrap(value - self.loc), _wrap(-math.pi - self.loc))
        return _beyond(value, 0, -jnp.inf, log_mass)

    def quantile(self, q: Array) -> Array:
        # Counting starts at -pi, from where `first` is the mass up to the angle opposite to loc.
        first = von_mises_cdf(-_wrap(-math.pi - self.loc), self.concentration)
        after = q >= first
        below = jnp.where(after, q - first, 1 - first + q)
        above = jnp.where(after, 1 - q + first, first - q)
        lower = below < above
        angle = _tail_angle(
            *jnp.broadcast_arrays(jnp.where(lower, below, above), self.concentration)
        )
        angle = passing_nan(angle, self.concentration)  # bisection ends anywhere
        return _wrap(self.loc + jnp.where(lower, -angle, angle))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        concentration = jnp.broadcast_to(self.concentration, self._shape(shape))
        angle = _draw(key, jax.lax.stop_gradient(concentration))
        return _wrap(self.loc + _attach(angle, concentration))

    def mean(self) -> Array:
        return self.loc

    def mode(self) -> Array:
        return self.loc

    def variance(self) -> Array:
        return bessel_ratio_defect(self.concentration)

    def entropy(self) -> Array:
        return _LOG_2PI + von_mises_spread(self.concentration)


@register_kl(VonMises, VonMises)
def _kl_von_mises(p: VonMises, q: VonMises) -> Array:
    k, k_q = p.concentration, q.concentration
    turn = 2 * k_q * bessel_ratio(k) * jnp.sin(0.5 * (p.loc - q.loc)) ** 2
    return log_i0e(k_q) - log_i0e(k) + (k_q - k) * bessel_ratio_defect(k) + turn


def _wrap(angle: Array) -> Array:
    """The same direction in [-pi, pi)."""
    return angle - 2 * math.pi * jnp.floor((angle + math.pi) / (2 * math.pi))


def _pdf(angle: Array, k: Array) -> Array:
    return jnp.exp(-2 * k * jnp.sin(0.5 * angle) ** 2 - log_i0e(k) - _LOG_2PI)


# ---- quantiles ----


@jax.custom_jvp
def _tail_angle(p: Array, k: Array) -> Array:
    """The angle in [0, pi] beyond which the mass is p <= 1/2."""

    def excess(angle):
        return jnp.log(von_mises_cdf(-angle, k) / p)

    def slope(angle, value):
        return -_pdf(angle, k) / (p * jnp.exp(value))

    start = jnp.minimum(0.5 * math.pi, 1 / jnp.sqrt(jnp.maximum(k, 0.1)))
    return solve_decreasing(excess, slope, jnp.zeros_like(p), jnp.full_like(p, math.pi), start)


@_tail_angle.defjvp
def _tail_angle_jvp(primals, tangents):
    (p, k), (dp, dk) = primals, tangents
    angle = _tail_angle(p, k)
    _, dmass = jax.jvp(lambda k: von_mises_cdf(-angle, k), (k,), (dk,))
    return angle, (dmass - dp) / _pdf(angle, k)


# ---- samples ----


def _draw(key: Array, k: Array) -> Array:
    """Angles around 0 by Best and Fisher (1979), "Efficient simulation of the von Mises
    distribution".

    Their s = (1 + rho^2)/(2 rho) is multiplied by k, and 1 - cos(angle) formed directly, so that
    neither k = 0 nor k = 1e8 loses digits.
    """
    root = jnp.hypot(1.0, 2 * k)
    ks_minus_k = 0.5 * (1 + 1 / (root + 2 * k))

    def draw(state):
        count, angle, done = state
        key_turn, key_accept = jax.random.split(jax.random.fold_in(key, count))
        turn = jax.random.uniform(key_turn, k.shape, k.dtype, minval=-1.0)
        log_u = -jax.random.exponential(key_accept, k.shape, k.dtype)
        half_turn = 0.5 * math.pi * turn
        one_minus_z, one_plus_z = 2 * jnp.sin(half_turn) ** 2, 2 * jnp.cos(half_turn) ** 2
        # s + z over s - 1, times k: positive also where z is -1 and k has no digit for s - 1.
        one_minus_cos = ks_minus_k * one_minus_z / (ks_minus_k + k * one_plus_z)
        c = ks_minus_k + k * one_minus_cos
        # `not less` rather than `at least`: a concentration that is NaN must not loop for ever.
        accepted = ~(jnp.log(c) + 1 - c < log_u)
        half = jnp.arcsin(jnp.minimum(jnp.sqrt(0.5 * one_minus_cos), 1.0))
        angle = jnp.where(done, angle, jnp.sign(turn) * 2 * half)
        return count + 1, angle, done | accepted

    wrong = ~(k >= 0)
    start = jnp.int32(0), jnp.zeros_like(k), wrong
    _, angle, _ = jax.lax.while_loop(lambda state: ~jnp.all(state[2]), draw, start)
    return jnp.where(wrong, jnp.nan, angle)


@jax.custom_jvp
def _attach(angle: Array, k: Array) -> Array:
    return angle


@_attach.defjvp
def _attach_jvp(primals, tangents):
    # The implicit gradient, d angle / dk = -(dF/dk) / p(angle).
    angle, k, dk = _attach(*primals), primals[1], tangents[1]
    _, slope = jax.jvp(lambda k: von_mises_cdf(angle, k), (k,), (dk,))
    return angle, -slope / _pdf(angle, k)
