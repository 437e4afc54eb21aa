"""Waiting times: the Exponential, the Gamma and the InverseGamma, and the sampler that all Gamma-based families
share.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from likelax import supports
from likelax._pytree import Array, param
from likelax.distributions.base import Distribution, at_least_tiny
from likelax.distributions.kl import register_kl
from likelax.numerics.concentrations import gamma_divergence, stirling_bregman
from likelax.numerics.densities import gamma_log_pdf, gamma_log_rate_pdf
from likelax.numerics.deviance import deviance, log1pmx
from likelax.numerics.divergences import exp_excess, ratio_excess
from likelax.numerics.gamma import digamma, stirling_error
from likelax.numerics.half_line import exponential_log_pdf
from likelax.numerics.inverses import gammainc_inverse, gammaincc_inverse
from likelax.numerics.logspace import divide, infinite_moment, log1mexp, power_of_two
from likelax.numerics.pairs import log_over
from likelax.numerics.reciprocal import (
    gamma_log_tails,
    inverse_gamma_log_pdf,
    inverse_gamma_log_tails,
)

_EULER = 0.57721566490153286
_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class Exponential(Distribution):
    """The exponential distribution: log p(x) = log rate - rate x, x >= 0.

    Parameters, of the batch's shape: `rate`, positive, or its logarithm `log_rate`.
    """

    rate: Array = param(supports.positive, default=None)
    log_rate: Array = param(
        supports.log_positive, default=None, instead_of="rate", to=jnp.exp, back=jnp.log
    )

    support = supports.non_negative

    @property
    def _covers(self) -> bool:
        return self.given("rate")

    def _in_units(self, length: Array) -> tuple[Distribution, Array]:
        if self.given("log_rate"):
            return super()._in_units(length)
        unit = power_of_two(length, 1 / self.rate, 1 / self.rate)
        return self.replace(rate=self.rate * unit), unit

    def log_prob(self, value: Array) -> Array:
        if self.given("rate"):
            return exponential_log_pdf(value, self.rate)
        return self.log_rate - self.rate * value

    def cdf(self, value: Array) -> Array:
        return -jnp.expm1(-self.rate * value)

    def log_cdf(self, value: Array) -> Array:
        return log1mexp(self.rate * value)

    def log_survival(self, value: Array) -> Array:
        return -self.rate * value

    def quantile(self, q: Array) -> Array:
        return -divide(jnp.log1p(-q), self.rate)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        draws = jax.random.exponential(key, self._shape(shape), self.dtype)
        return divide(draws, self.rate)

    def mean(self) -> Array:
        return 1 / self.rate

    def mode(self) -> Array:
        return jnp.zeros_like(self.rate)

    def variance(self) -> Array:
        return self.rate**-2

    def stddev(self) -> Array:
        return 1 / self.rate

    def entropy(self) -> Array:
        return 1 - self.log_rate


@register_kl(Exponential, Exponential)
def _kl_exponential(p: Exponential, q: Exponential) -> Array:
    if p.given("rate") and q.given("rate"):
        return ratio_excess(q.rate, p.rate)
    return exp_excess(q.log_rate - p.log_rate)


class Gamma(Distribution):
    """The Gamma distribution: log p(x) = a log b + (a - 1) log x - b x - log Gamma(a), x >= 0.

    a is the concentration, b the rate. At x = 0 the density is its limit: 0, b or infinite as a is
    above, at or below 1. Samples below the smallest normal number of the dtype are rounded up to
    it, since for a below 1 the density at 0 is infinite.

    Parameters, of the batch's shape: `concentration`, positive; `rate`, positive, or its logarithm
    `log_rate`.
    """

    concentration: Array = param(supports.positive)
    rate: Array = param(supports.positive, default=None)
    log_rate: Array = param(
        supports.log_positive, default=None, instead_of="rate", to=jnp.exp, back=jnp.log
    )

    support = supports.non_negative

    def _in_units(self, length: Array) -> tuple[Distribution, Array]:
        if self.given("log_rate"):
            return super()._in_units(length)
        unit = power_of_two(length, 1 / self.rate, 1 / self.rate)
        return self.replace(rate=self.rate * unit), unit

    def _inside(self, like: Array) -> Array:
        return jnp.minimum(at_least_tiny(self.mean()), jnp.finfo(self.dtype).max)

    def log_prob(self, value: Array) -> Array:
        if self.given("log_rate"):
            return gamma_log_rate_pdf(value, self.concentration, self.log_rate)
        return gamma_log_pdf(value, self.concentration, self.rate)

    def _log_tails(self, value: Array) -> tuple[Array, Array]:
        return gamma_log_tails(value, self.concentration, self.rate)

    def log_cdf(self, value: Array) -> Array:
        return self._log_tails(value)[0]

    def log_survival(self, value: Array) -> Array:
        return self._log_tails(value)[1]

    def quantile(self, q: Array) -> Array:
        return divide(gammainc_inverse(self.concentration, q), self.rate)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        draws, _ = sample_standard_gamma(key, self.concentration, self._shape(shape))
        return jnp.maximum(divide(draws, self.rate), jnp.finfo(self.dtype).tiny)

    def mean(self) -> Array:
        return divide(self.concentration, self.rate)

    def mode(self) -> Array:
        return divide(jnp.maximum(self.concentration - 1, 0), self.rate)

    def variance(self) -> Array:
        return divide(self.mean(), self.rate)

    def stddev(self) -> Array:
        return divide(jnp.sqrt(self.concentration), self.rate)

    def entropy(self) -> Array:
        a = self.concentration
        return 0.5 * jnp.log(a) + _LOG_SQRT_2PI + entropy_excess(a) - self.log_rate


@register_kl(Gamma, Gamma)
def _kl_gamma(p: Gamma, q: Gamma) -> Array:
    a, b = p.concentration, q.concentration
    if p.given("rate") and q.given("rate"):
        return gamma_divergence(a, p.rate, b, q.rate)
    return deviance(b, a * jnp.exp(q.log_rate - p.log_rate)) + stirling_bregman(b, a)


def _as_gamma(p: Exponential) -> Gamma:
    one = jnp.ones((), p.dtype)
    return Gamma(one, p.rate) if p.given("rate") else Gamma(one, log_rate=p.log_rate)


@register_kl(Exponential, Gamma)
def _kl_exponential_gamma(p: Exponential, q: Gamma) -> Array:
    return _kl_gamma(_as_gamma(p), q)


@register_kl(Gamma, Exponential)
def _kl_gamma_exponential(p: Gamma, q: Exponential) -> Array:
    return _kl_gamma(p, _as_gamma(q))


class InverseGamma(Distribution):
    """1/X of a Gamma: log p(x) = a log s - (a + 1) log x - s/x - log Gamma(a), x > 0, a the
    concentration and s the scale.

    The conjugate prior of a Normal's variance. The mean is infinite for a <= 1, the variance for a
    <= 2.

    Parameters, of the batch's shape: `concentration` and `scale`, positive.
    """

    concentration: Array = param(supports.positive)
    scale: Array = param(supports.positive)

    support = supports.positive

    def _in_units(self, length: Array) -> tuple[Distribution, Array]:
        unit = power_of_two(length, self.scale, self.scale)
        return self.replace(scale=self.scale / unit), unit

    def _inside(self, like: Array) -> Array:
        return at_least_tiny(self.mode())

    def log_prob(self, value: Array) -> Array:
        return inverse_gamma_log_pdf(value, self.concentration, self.scale)

    def _log_tails(self, value: Array) -> tuple[Array, Array]:
        return inverse_gamma_log_tails(value, self.concentration, self.scale)

    def log_cdf(self, value: Array) -> Array:
        return self._log_tails(value)[0]

    def log_survival(self, value: Array) -> Array:
        return self._log_tails(value)[1]

    def quantile(self, q: Array) -> Array:
        return divide(self.scale, gammaincc_inverse(self.concentration, q))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        _, log_draws = sample_standard_gamma(key, self.concentration, self._shape(shape))
        info = jnp.finfo(self.dtype)
        return jnp.clip(self.scale * jnp.exp(-log_draws), info.tiny, info.max)

    def mean(self) -> Array:
        finite = ~(self.concentration <= 1)  # NaN stays NaN
        return jnp.where(
            finite,
            divide(self.scale, jnp.where(finite, self.concentration - 1, 1)),
            infinite_moment(self.scale),
        )

    def mode(self) -> Array:
        return divide(self.scale, self.concentration + 1)

    def variance(self) -> Array:
        return self.stddev() ** 2

    def stddev(self) -> Array:
        finite = ~(self.concentration <= 2)
        spread = jnp.sqrt(jnp.where(finite, self.concentration - 2, 1))
        return jnp.where(finite, divide(self.mean(), spread), infinite_moment(self.scale))

    def entropy(self) -> Array:
        # Next to 0 each term has a slope of about 1 / a^2, beyond the floats; together it is 1 / a.
        tiny = self.concentration < 1e-12
        a = jnp.where(tiny, 1, self.concentration)
        excess = 2 * log_minus_digamma(a) - 0.5 * jnp.log(a) + _LOG_SQRT_2PI + entropy_excess(a)
        limit = 1 + _EULER + divide(1.0, jnp.where(tiny, self.concentration, 1))
        return log_over(self.scale, self.concentration) + jnp.where(tiny, limit, excess)


@register_kl(InverseGamma, InverseGamma)
def _kl_inverse_gamma(p: InverseGamma, q: InverseGamma) -> Array:
    # Of the Gammas of 1/x.
    return gamma_divergence(p.concentration, p.scale, q.concentration, q.scale)


# ---- lgamma without what cancels ----
#
# lgamma(a) = (a - 1/2) log a - a + log(2 pi)/2 + delta(a). Written in delta, entropies and
# divergences keep their digits at concentrations of 1e8, where lgamma and digamma alone cancel to
# nothing.


def _stirling_slope(a: Array) -> Array:
    """delta'(a)."""
    return jax.jvp(stirling_error, (a,), (jnp.ones_like(a),))[1]


def log_minus_digamma(a: Array) -> Array:
    """log a - digamma(a) = 1/(2a) - delta'(a)."""
    return divide(0.5, a) - _stirling_slope(a)


def entropy_excess(a: Array) -> Array:
    """a + lgamma(a) - (a - 1) digamma(a) - log(2 pi a)/2: what an entropy has beyond its leading
    term.
    """
    return stirling_error(a) + (a - 1) * log_minus_digamma(a)


# ---- samples ----


def marsaglia_tsang(u: Array, a: Array) -> tuple[Array, Array]:
    """cbrt(v) - 1 of Marsaglia and Tsang's proposal for a >= 1, u uniform in (-1, 1), and the logarithm of the
    probability that it is accepted with, -inf where v would be negative.
    """
    normal = math.sqrt(2) * jax.lax.erf_inv(u)
    d = a - 1 / 3
    step = normal / (3 * jnp.sqrt(d))
    impossible = step <= -1
    step = jnp.where(impossible, 0.0, step)
    v_minus_1 = step * (3 + step * (3 + step))
    # Next to 0 v has no digits left in v - 1, which may round to -1.
    near = step > -0.5
    log_v = 3 * jnp.log1p(jnp.where(near, 0.0, step))
    excess = jnp.where(near, log1pmx(jnp.where(near, v_minus_1, 0.0)), log_v - v_minus_1)
    bound = 0.5 * normal**2 + d * excess
    return step, jnp.where(impossible, -jnp.inf, bound)


def _propose(key: Array, a: Array, shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """cbrt(v) - 1 of Marsaglia and Tsang's proposal for a >= 1, the logarithm of a uniform draw, and whether
    the proposal is accepted.
    """
    # All from one call, since every call is compiled anew: half of the sampler's compile time was random bits.
    lowest = float(np.nextafter(np.ones((), a.dtype), 0))
    count = 3 * math.prod(shape)
    u = jax.random.uniform(key, (count,), a.dtype, -lowest, 1.0).reshape(3, *shape)
    step, bound = marsaglia_tsang(u[0], a)
    # `not greater` rather than `less`: a concentration that is NaN must not loop for ever.
    return step, jnp.log(0.5 - 0.5 * u[2]), ~(jnp.log(0.5 - 0.5 * u[1]) > bound)


def _draw(key: Array, a: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    a = jnp.broadcast_to(a, shape)
    small = a < 1
    raised = jnp.where(small, a + 1, a)

    def again(state):
        return ~jnp.all(state[3])

    def draw(state):
        count, step, log_u, done = state
        new, log_new, accepted = _propose(jax.random.fold_in(key, count), raised, shape)
        step, log_u = jnp.where(done, step, new), jnp.where(done, log_u, log_new)
        return count + 1, step, log_u, done | accepted

    none = jnp.zeros_like(a)
    start = jnp.int32(0), none, none, jnp.isnan(a) | (a <= 0)
    _, step, log_u, _ = jax.lax.while_loop(again, draw, start)
    d = raised - 1 / 3
    # Gamma(a) = Gamma(a + 1) U^(1/a)
    boost = jnp.where(small, log_u / a, 0.0)
    log_draw = jnp.log(d) + 3 * jnp.log1p(step) + boost
    draw_ = d * (1 + step) ** 3 * jnp.exp(boost)
    bad = ~(a > 0)
    return jnp.where(bad, jnp.nan, draw_), jnp.where(bad, jnp.nan, log_draw)


@jax.custom_jvp
def _attach(draw: Array, log_draw: Array, a: Array) -> tuple[Array, Array]:
    return draw, log_draw


@_attach.defjvp
def _attach_jvp(primals, tangents):
    draw, log_draw = _attach(*primals)  # which move with a, as second derivatives see
    a, da = primals[2], tangents[2]
    # For small draws P(X <= x) is x^a / Gamma(a + 1), which gives the slope of log x in closed
    # form.
    small = log_draw < 0.25 * math.log(jnp.finfo(draw.dtype).tiny)
    safe = jnp.where(small, 1.0, draw)
    slope = jnp.where(
        small,
        (digamma(a + 1) - log_draw) / a,
        jax.lax.random_gamma_grad(a, safe) / safe,
    )
    return (draw, log_draw), (draw * slope * da, slope * da)


def sample_standard_gamma(
    key: Array, concentration: Array, shape: tuple[int, ...]
) -> tuple[Array, Array]:
    """Draws of Gamma(concentration, 1) and their logarithms (finite where the draw itself
    underflows).

    `concentration` broadcasts to `shape`. The gradient in the concentration is the implicit one,
    dx/da = -(dF/da)/p(x). One vectorised rejection loop: it compiles in a tenth of the time of a
    scalar one.

    Sources: Marsaglia and Tsang (2000), "A simple method for generating gamma variables"; Figurnov,
      Mohamed and
    Mnih (2018), "Implicit reparameterization gradients".
    """
    draw, log_draw = _draw(key, jax.lax.stop_gradient(concentration), shape)
    return _attach(draw, log_draw, jnp.broadcast_to(concentration, shape))
