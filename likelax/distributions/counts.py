"""Counts: the Poisson, the Binomial, the Geometric and the negative binomial."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from likelax import supports
from likelax._pytree import Array, param
from likelax.distributions import _count_samplers
from likelax.distributions._odds import Odds, log_of, multiply, one_trial_kl, to_int, trial_kl
from likelax.distributions.base import Distribution
from likelax.distributions.kl import register_kl
from likelax.numerics.count_entropies import (
    binomial_logits_entropy,
    binomial_probs_entropy,
    negative_binomial_dispersed_entropy,
    negative_binomial_dispersed_log_rate_entropy,
    negative_binomial_entropy,
    negative_binomial_probs_entropy,
    poisson_entropy,
    poisson_log_rate_entropy,
)
from likelax.numerics.counts import (
    LARGEST_LOGIT,
    negative_binomial_dispersed_log_pmf,
    negative_binomial_log_mass,
    negative_binomial_log_pmf,
    odds_parts,
    poisson_log_pmf,
    poisson_log_rate_log_pmf,
)
from likelax.numerics.deviance import deviance
from likelax.numerics.divergences import (
    counts_divergence,
    rates_divergence,
    trial_divergence_of_probs,
    wait_divergence,
)
from likelax.numerics.gamma import lgamma
from likelax.numerics.incomplete import (
    log_betainc,
    log_betainc_of_logits,
    log_betaincc,
    log_gamma_tails_of_pair,
)
from likelax.numerics.logspace import (
    divide,
    log_mean_decay,
    log_sigmoid,
    log_sub_exp,
    logit,
    sigmoid,
)
from likelax.numerics.trials import binomial_logits_log_pmf, binomial_probs_log_pmf, logits_gap

# exp() of anything lower is no normal number in float32.
_LOWEST_LOG_RATE = -80.0
# Above this the rate would overflow in a step or two, and 1 / rate is no part of a sum any more.
_HIGHEST_LOG_RATE = 60.0


def count_quantile(dist: Distribution, q: Array) -> Array:
    """The smallest k with cdf(k) >= q, by bisection.

    Cantelli's inequality brackets it: mean - std sqrt((1-q)/q) <= quantile <= mean + std
    sqrt(q/(1-q)).
    """
    dist = jax.tree.map(jax.lax.stop_gradient, dist)
    mean, std = dist.mean(), dist.stddev()
    odds = jnp.sqrt(q / (1 - q))
    low = jnp.maximum(jnp.floor(mean - std / odds) - 1, -1)
    high = jnp.ceil(mean + std * odds) + 1

    def middle(low: Array, high: Array) -> tuple[Array, Array]:
        mid = jnp.floor(low + 0.5 * (high - low))
        # Above 2^24 there may be no float in between.
        return mid, (mid > low) & (mid < high)

    def halve(bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        mid, _ = middle(*bracket)
        reached = dist.cdf(mid) >= q
        return jnp.where(reached, bracket[0], mid), jnp.where(reached, mid, bracket[1])

    def between(bracket: tuple[Array, Array]) -> Array:
        return jnp.any(middle(*bracket)[1])

    low, high = jnp.broadcast_arrays(low, high)
    return jax.lax.while_loop(between, halve, (low, high))[1]


def _log_none(dist: Distribution, like: Array) -> Array:
    """log P(X = 0), which has its slopes also where nothing else is possible and the tails have none."""
    return dist.log_prob(jnp.zeros_like(like))


def _split_log_rate(log_rate: Array) -> tuple[Array, Array, Array]:
    """(m, c, d) with log_rate = log(m) + c and rate = m - d.

    c and d are 0 unless the rate itself would underflow.
    """
    rate, lowest = jnp.exp(log_rate), math.exp(_LOWEST_LOG_RATE)
    low = log_rate < _LOWEST_LOG_RATE
    rest = jnp.where(low, log_rate - _LOWEST_LOG_RATE, 0)
    return jnp.where(low, lowest, rate), rest, jnp.where(low, lowest - rate, 0)


def _log_beta_tail(a: Array, b: Array, x: Array, y: Array) -> Array:
    """log I_x(a, b) with y = 1 - x, computed from the smaller of the two: 1 - 1e-8 is 1 in float32."""
    rare = x <= y
    z = jnp.where(rare, x, y)
    return jnp.where(rare, log_betainc(a, b, z), log_betaincc(b, a, z))


class Poisson(Distribution):
    """Counts of independent events: log p(k) = k log(rate) - rate - log k!, k = 0, 1, ...

    With `log_rate` its negative log-density is the Poisson NLL of a log-linear model, log k!
    included.

    Parameters, of the batch's shape: `rate`, non-negative, or its logarithm `log_rate`.

    Samples are int32; one above 2^31 - 1 is that number, one of a NaN rate -1. At rates above 2^24 (float32) they are
    multiples of the spacing of floats there.
    """

    rate: Array = param(supports.non_negative, default=None)
    log_rate: Array = param(
        supports.log_positive, default=None, instead_of="rate", to=jnp.exp, back=log_of
    )

    support = supports.non_negative_integer

    def log_prob(self, value: Array) -> Array:
        if self.given("rate"):
            return poisson_log_pmf(value, self.rate)
        return poisson_log_rate_log_pmf(value, self.log_rate)

    def _usual_log_tails(self, value: Array) -> tuple[Array, Array]:
        """log P(X <= value) and log P(X > value) of a rate which is not `_rare`; there, some numbers."""
        value, rate = jnp.broadcast_arrays(value, jnp.where(self._rare, 1.0, self.rate))
        top = value + 1
        # Above 2^24 (float32) that is no float; the gap from the rate is all that counts of the rest.
        lost = jax.lax.stop_gradient((top - value) - 1)
        upper, lower = log_gamma_tails_of_pair(top, rate, lost)
        return lower, upper

    def _log_tails(self, value: Array) -> tuple[Array, Array]:
        lower, upper = self._usual_log_tails(value)
        lower = jnp.where(self._rare, -self._next(value), lower)
        upper = jnp.where(self._rare, self._log_next(value), upper)
        return jnp.where(value == 0, _log_none(self, value), lower), upper

    @property
    def _rare(self) -> Array:
        """Whether P(X > k) is p(k + 1) to all digits."""
        return self.rate < 0.01 * jnp.finfo(self.dtype).eps

    def _next(self, value: Array) -> Array:
        """rate^(k + 1) / (k + 1)! for k > 0, whose slopes overflow nowhere, of a rate that is rare."""
        rate, top = jnp.where(self._rare, self.rate, 0), jnp.where(value == 0, 1, value) + 1
        return rate**top * jnp.exp(-lgamma(top + 1))

    def _log_next(self, value: Array) -> Array:
        """Its logarithm, which has digits where it has none itself."""
        if self.given("rate"):
            return poisson_log_pmf(value + 1, jnp.where(self._rare, self.rate, 1))
        return poisson_log_rate_log_pmf(value + 1, jnp.where(self._rare, self.log_rate, 0))

    def log_cdf(self, value: Array) -> Array:
        return self._log_tails(value)[0]

    def log_survival(self, value: Array) -> Array:
        return self._log_tails(value)[1]

    def survival(self, value: Array) -> Array:
        some = jnp.where(self._rare, self._next(value), jnp.exp(self._usual_log_tails(value)[1]))
        return jnp.where(value == 0, -jnp.expm1(_log_none(self, value)), some)

    def quantile(self, q: Array) -> Array:
        return count_quantile(self, q)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        rate = jax.lax.stop_gradient(self.rate)
        return to_int(_count_samplers.poisson(key, rate, self._shape(shape)))

    def mean(self) -> Array:
        return self.rate

    def mode(self) -> Array:
        return to_int(jnp.floor(self.rate))

    def variance(self) -> Array:
        return self.rate

    def entropy(self) -> Array:
        if self.given("rate"):
            return poisson_entropy(self.rate)
        return poisson_log_rate_entropy(self.log_rate)


@register_kl(Poisson, Poisson)
def _kl_poisson(p: Poisson, q: Poisson) -> Array:
    if p.given("log_rate") and q.given("log_rate"):
        return rates_divergence(p.log_rate, q.log_rate)
    return deviance(p.rate, q.rate)


class Binomial(Odds):
    """Successes in n trials: log p(k) = log C(n, k) + k log p + (n - k) log(1 - p), k = 0..n.

    Parameters, of the batch's shape: `total_count` = n, a non-negative integer (a head has to be
    given it); `logits` = log(p/(1-p)), real, or `probs` = p in [0, 1], by keyword.

    KL is known for equal `total_count` and NaN elsewhere. Samples are int32, -1 where a parameter is NaN;
    above 2^24 (float32) n and they are multiples of the spacing of floats there.
    """

    total_count: Array = param(supports.non_negative_integer)

    @property
    def support(self) -> supports.Support:
        """The integers 0..total_count."""
        return supports.integer_interval(0, self.total_count)

    def log_prob(self, value: Array) -> Array:
        if self.given("probs"):
            return binomial_probs_log_pmf(value, self.total_count, self.probs)
        return binomial_logits_log_pmf(value, self.total_count, self.logits)

    def _failures(self, value: Array) -> Array:
        """n - k, at least 1 where the tails are asked for (n = 0 has none)."""
        return jnp.where(self.total_count == 0, 1, self.total_count - value)

    def _log_tail(self, value: Array, upper: bool) -> Array:
        """By the gap (n + 1) q - (n - k), which the logits have to more digits than p."""
        k, n, logits = jnp.broadcast_arrays(value, self.total_count, self.logits)
        kept = jnp.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT)
        gap = jnp.exp(log_sigmoid(-kept)) - logits_gap(k, n, kept)
        if upper:
            return log_betainc_of_logits(k + 1, self._failures(k), logits, -gap)
        return log_betainc_of_logits(self._failures(k), k + 1, -logits, gap)

    def log_cdf(self, value: Array) -> Array:
        if self.given("logits"):
            return self._log_tail(value, False)
        return _log_beta_tail(self._failures(value), value + 1, 1 - self.probs, self.probs)

    def log_survival(self, value: Array) -> Array:
        if self.given("logits"):
            return self._log_tail(value, True)
        return _log_beta_tail(value + 1, self._failures(value), self.probs, 1 - self.probs)

    def quantile(self, q: Array) -> Array:
        return jnp.minimum(count_quantile(self, q), self.total_count)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        n, log_p, log_q = jax.lax.stop_gradient((self.total_count, self._log_p(), self._log_q()))
        return to_int(_count_samplers.binomial(key, n, log_p, log_q, self._shape(shape)))

    def mean(self) -> Array:
        return self.total_count * self._p()

    def mode(self) -> Array:
        return to_int(jnp.minimum(jnp.floor((self.total_count + 1) * self._p()), self.total_count))

    def variance(self) -> Array:
        return self.total_count * self._p() * self._q()

    def entropy(self) -> Array:
        if self.given("probs"):
            return binomial_probs_entropy(self.total_count, self.probs)
        return binomial_logits_entropy(self.total_count, self.logits)


@register_kl(Binomial, Binomial)
def _kl_binomial(p: Binomial, q: Binomial) -> Array:
    kl = multiply(p.total_count, one_trial_kl(p, q))
    return jnp.where(p.total_count == q.total_count, kl, jnp.nan)


class Geometric(Odds):
    """Failures before the first success: log p(k) = log p + k log(1 - p), k = 0, 1, ...

    p is the probability of a success: larger `logits` mean smaller counts.

    Parameters, of the batch's shape: `logits` = log(p/(1-p)), real, or `probs` = p in [0, 1], by
    keyword. Samples are int32; one above 2^31 - 1 is that number.
    """

    support = supports.non_negative_integer

    def log_prob(self, value: Array) -> Array:
        return self._weigh(jnp.ones_like(value), value)

    def _log_survival(self, value: Array) -> Array:
        return multiply(value + 1, self._log_q())

    def log_survival(self, value: Array) -> Array:
        return self._log_survival(value)

    def log_cdf(self, value: Array) -> Array:
        plain = log_sub_exp(0.0, self._log_survival(value))
        if self.given("probs"):
            return plain
        # Where p is below all rounding: log(1 - exp(-(k + 1) p)), p = exp(logits).
        rare = self.logits < -20
        log_mean = jnp.log(value + 1) + jnp.where(rare, self.logits, -20)
        return jnp.where(rare, log_mean + log_mean_decay(jnp.exp(log_mean)), plain)

    def survival(self, value: Array) -> Array:
        return jnp.exp(self._log_survival(value))

    def cdf(self, value: Array) -> Array:
        return -jnp.expm1(self._log_survival(value))

    def quantile(self, q: Array) -> Array:
        guess = jnp.ceil(jnp.log1p(-q) / self._log_q()) - 1
        guess = jnp.maximum(guess, 0)
        # The division rounds: one step down or up where cdf itself says so.
        down = (guess > 0) & (self.cdf(guess - 1) >= q)
        up = self.cdf(guess) < q
        return guess - down + up

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        waiting = jax.random.exponential(key, self._shape(shape), self.dtype)
        return to_int(jnp.floor(waiting / -jax.lax.stop_gradient(self._log_q())))

    def mean(self) -> Array:
        return divide(self._q(), self._p()) if self.given("probs") else jnp.exp(-self.logits)

    def mode(self) -> Array:
        return jnp.zeros(self.batch_shape, jnp.int32)

    def variance(self) -> Array:
        mean = self.mean()
        return mean * (1 + mean)

    def entropy(self) -> Array:
        return -self._log_p() - self._mean_log_q()

    def _mean_log_q(self) -> Array:
        """(1-p)/p log(1-p), -1 in the limit p = 0."""
        p = jnp.exp(self._log_p())
        tiny = p < jnp.finfo(p.dtype).eps ** 2
        safe = jnp.where(tiny, 0.5, p)
        log_q = jnp.where(tiny, 0, self._log_q())
        return jnp.where(tiny, -1, multiply(divide(1 - safe, safe), log_q))


@register_kl(Geometric, Geometric)
def _kl_geometric(p: Geometric, q: Geometric) -> Array:
    if p.given("logits") and q.given("logits"):
        return wait_divergence(p.logits, q.logits)
    if p.given("probs") and q.given("probs"):
        # Without a success in p the wait is endless: the same as q's, or one that q never has.
        never = p.probs == 0
        share, other = jnp.where(never, 0.5, p.probs), jnp.where(never, 0.5, q.probs)
        kl = divide(trial_divergence_of_probs(share, other), share)
        return jnp.where(never, jnp.where(q.probs > 0, jnp.inf, jax.lax.stop_gradient(q.probs)), kl)
    return divide(one_trial_kl(p, q), p._p())


class _GammaPoisson(Distribution):
    """Base of the negative binomial's two forms: a Poisson whose rate is Gamma-distributed."""

    support = supports.non_negative_integer

    def _r(self) -> Array:
        """The Gamma's concentration."""
        raise NotImplementedError

    def _log_odds(self) -> Array:
        """log(p/(1-p)), the logarithm of the Gamma's scale."""
        raise NotImplementedError

    def _log_p(self) -> Array:
        return log_sigmoid(self._log_odds())

    def _log_q(self) -> Array:
        return log_sigmoid(-self._log_odds())

    def _gap(self, value: Array, log_odds: Array) -> tuple[Array, Array | None]:
        """(value + 1 + r) q - r, without a value + 1, which may be no float, and exp(-|log odds|) if the
        parameters have it to more digits.
        """
        _, q, gap, _ = odds_parts(value, self._r(), log_odds)
        return q - gap, None

    def _log_tail(self, value: Array, upper: bool) -> Array:
        r, value, log_odds = jnp.broadcast_arrays(self._r(), value, self._log_odds())
        gap, odds = self._gap(value, log_odds)
        if upper:
            return log_betainc_of_logits(value + 1, r, log_odds, -gap, odds)
        return log_betainc_of_logits(r, value + 1, -log_odds, gap, odds)

    def log_cdf(self, value: Array) -> Array:
        return jnp.where(value == 0, _log_none(self, value), self._log_tail(value, False))

    def log_survival(self, value: Array) -> Array:
        return self._log_tail(value, True)

    def survival(self, value: Array) -> Array:
        some = jnp.exp(self._log_tail(value, True))
        return jnp.where(value == 0, -jnp.expm1(_log_none(self, value)), some)

    def quantile(self, q: Array) -> Array:
        return count_quantile(self, q)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        r, log_odds = jax.lax.stop_gradient((self._r(), self._log_odds()))
        return to_int(_count_samplers.gamma_poisson(key, r, log_odds, self._shape(shape)))

    def mode(self) -> Array:
        # (r - 1) p / (1 - p) for r > 1.
        mean = self.mean()
        return to_int(jnp.floor(jnp.maximum(mean - mean / self._r(), 0)))

    def variance(self) -> Array:
        mean = self.mean()
        return mean * (1 + mean / self._r())


class NegativeBinomial(Odds, _GammaPoisson):
    """Overdispersed counts: log p(k) = log C(k + r - 1, k) + k log p + r log(1 - p), k = 0, 1, ...

    The successes before r failures, for any real r; a Poisson with a Gamma(r, (1-p)/p) rate. The
    mean is r p/(1-p). For regression on the mean use `NegativeBinomial2`, which `from_mean`
    returns.

    Parameters, of the batch's shape: `total_count` = r, positive; `logits` = log(p/(1-p)), real, or
    `probs` = p in [0, 1), by keyword.

    KL is known for equal `total_count` and NaN elsewhere. Samples are int32; one above 2^31 - 1 is
    that number.
    """

    total_count: Array = param(supports.positive, typical=1.0)
    # p = 1 has no density, other than in the base.
    probs: Array = param(
        supports.below_one, default=None, instead_of="logits", to=logit, back=sigmoid
    )

    @staticmethod
    def from_mean(mean: ArrayLike, dispersion: ArrayLike) -> NegativeBinomial2:
        """The one with this mean and variance mean + dispersion mean^2: total_count = 1/dispersion."""
        return NegativeBinomial2(mean, dispersion)  # type: ignore[arg-type]

    def _r(self) -> Array:
        return self.total_count

    def _log_odds(self) -> Array:
        return self.logits

    def _log_tail(self, value: Array, upper: bool) -> Array:
        if not self.given("probs"):
            return super()._log_tail(value, upper)
        none = self.probs == 0
        held = self.replace(probs=jnp.where(none, 0.5, self.probs))
        tail = super(NegativeBinomial, held)._log_tail(value, upper)
        return jnp.where(none, -jnp.inf if upper else 0.0, tail)

    def log_prob(self, value: Array) -> Array:
        if self.given("logits"):
            return negative_binomial_log_mass(value, self.total_count, self.logits)
        return negative_binomial_log_pmf(value, self.total_count, self._log_p(), self._log_q())

    def mean(self) -> Array:
        if self.given("probs"):
            return self.total_count * divide(self._p(), self._q())
        return self.total_count * jnp.exp(self.logits)

    def entropy(self) -> Array:
        if self.given("probs"):
            return negative_binomial_probs_entropy(self.total_count, self.probs)
        return negative_binomial_entropy(self.total_count, self.logits)


class NegativeBinomial2(_GammaPoisson):
    """The negative binomial by its mean: variance rate + dispersion rate^2, the Poisson for
    dispersion -> 0.

    log p(k) as in `NegativeBinomial` with r = 1/dispersion and p = rate/(r + rate). This is the NB2
    of count regression (Cameron and Trivedi 1998): a head reads `log_rate` and `dispersion` from
    the network, and neither is ever converted into the other form.

    Parameters, of the batch's shape: `rate`, the mean, non-negative, or its logarithm `log_rate`;
    `dispersion`, positive. KL is known for equal dispersions and NaN elsewhere.
    """

    rate: Array = param(supports.non_negative, default=None)
    log_rate: Array = param(
        supports.log_positive, default=None, instead_of="rate", to=jnp.exp, back=log_of
    )
    dispersion: Array = param(supports.positive, typical=1.0)

    def _r(self) -> Array:
        return 1 / self.dispersion

    def _log_odds(self) -> Array:
        return self.log_rate + jnp.log(self.dispersion)

    def _held(self) -> NegativeBinomial2:
        """A smaller dispersion changes no digit, and would take the odds out of the floats."""
        least = jax.lax.stop_gradient(1e-30 / jnp.clip(self.rate, 1e-20, 1.0))
        low = (self.dispersion >= 0) & (self.dispersion < least)
        return self.replace(dispersion=jnp.where(low, least, self.dispersion))

    def _log_tail(self, value: Array, upper: bool) -> Array:
        k, rate, d = map(jax.lax.stop_gradient, (value, self.rate, self.dispersion))
        # Next to the Poisson nothing is left of a slope in 1/dispersion; there that of P(X <= k) is
        # rate (rate - k) p(k) / 2.
        near = d * (1 + rate + k) ** 2 < math.sqrt(jnp.finfo(self.dtype).eps)
        held = self.replace(dispersion=jnp.where(near, d, self.dispersion))._held()
        tail = super(NegativeBinomial2, held)._log_tail(value, upper)
        near = near & (rate > 0)
        log_half = jnp.log(jnp.where(near, 0.5 * rate, 1))
        share = jax.lax.stop_gradient(jnp.exp(self.log_prob(k) - tail + log_half))
        slope = jnp.where(near, share * (k - rate if upper else rate - k), 0)
        return tail + slope * jnp.where(near, self.dispersion - d, 0)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return super(NegativeBinomial2, self._held()).sample(key, shape)

    def _gap(self, value: Array, log_odds: Array) -> tuple[Array, Array | None]:
        if not self.given("rate"):
            return super()._gap(value, log_odds)
        odds = self.rate * self.dispersion
        held = (odds > 1e-30) & (odds < 1e30)
        odds = jnp.where(held, odds, 1)
        gap = ((value - self.rate) + 1) / (1 + self.rate * self.dispersion)
        plain = jnp.exp(-jnp.minimum(jnp.abs(log_odds), LARGEST_LOGIT))
        return gap, jnp.where(held, jnp.minimum(odds, 1 / odds), plain)

    def log_prob(self, value: Array) -> Array:
        if self.given("rate"):
            return negative_binomial_dispersed_log_pmf(value, self.rate, self.dispersion)
        high = self.log_rate > _HIGHEST_LOG_RATE
        kept, rest, excess = _split_log_rate(jnp.where(high, _HIGHEST_LOG_RATE, self.log_rate))
        # At a mean as small as this, it enters as k log(mean) - mean, at one as large as -r log(mean).
        log_prob = negative_binomial_dispersed_log_pmf(value, kept, self.dispersion)
        dispersion = jnp.where(high, self.dispersion, 1)
        beyond = jnp.where(high, (self.log_rate - _HIGHEST_LOG_RATE) / dispersion, 0)
        return log_prob + multiply(value, rest) + excess - beyond

    def mean(self) -> Array:
        return self.rate

    def entropy(self) -> Array:
        if self.given("rate"):
            return negative_binomial_dispersed_entropy(self.rate, self.dispersion)
        return negative_binomial_dispersed_log_rate_entropy(self.log_rate, self.dispersion)


@register_kl(_GammaPoisson, _GammaPoisson)
def _kl_gamma_poisson(p: _GammaPoisson, q: _GammaPoisson) -> Array:
    if _given(p, q, NegativeBinomial, "logits"):
        # Of r waits for a failure.
        divergence = p._r() * wait_divergence(-p._log_odds(), -q._log_odds())
    elif _given(p, q, NegativeBinomial2, "rate"):
        divergence = counts_divergence(p.mean(), q.mean(), p._r())
    else:
        divergence = (p._r() + p.mean()) * trial_kl(p, q)
    return jnp.where(p._r() == q._r(), divergence, jnp.nan)


def _given(p: Any, q: Any, family: type, name: str) -> bool:
    """Whether both are of one family and were given this parameter."""
    both = isinstance(p, family) and isinstance(q, family)
    return both and bool(p.given(name) and q.given(name))
