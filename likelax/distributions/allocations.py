"""Counts of several classes out of a known total, and those whose probabilities vary."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, param
from likelax.distributions import _count_samplers
from likelax.distributions._odds import classes_kl, log_of, multiply, to_int
from likelax.distributions.base import Distribution
from likelax.distributions.counts import count_quantile
from likelax.distributions.gamma import sample_standard_gamma
from likelax.distributions.kl import register_kl
from likelax.numerics.beta_binomial import beta_binomial_entropy, beta_binomial_log_tails
from likelax.numerics.dirichlet_multinomial import dirichlet_multinomial_log_pmf
from likelax.numerics.logspace import divide, log_sigmoid, log_softmax
from likelax.numerics.multinomial import multinomial_log_pmf, multinomial_probs_log_pmf
from likelax.numerics.multinomial_entropy import multinomial_entropy, multinomial_probs_entropy


class BetaBinomial(Distribution):
    """Successes in n trials whose probability is Beta-distributed: log p(k) = log C(n, k) + log B(k +
    a, n - k + b) - log B(a, b), k = 0..n.

    The Binomial with more spread: mean n a/(a+b), and the variance of the Binomial times (a + b +
    n)/(a + b + 1). Its tails are sums of probabilities, long stretches of them by 64 each.

    Parameters, of the batch's shape: `total_count` = n, a non-negative integer (a head has to be
    given it); `concentration1` = a of the successes and `concentration0` = b, positive. Samples are
    int32.
    """

    total_count: Array = param(supports.non_negative_integer)
    concentration1: Array = param(supports.positive)
    concentration0: Array = param(supports.positive)

    @property
    def support(self) -> supports.Support:
        """The integers 0..total_count."""
        return supports.integer_interval(0, self.total_count)

    @property
    def _total(self) -> Array:
        return self.concentration1 + self.concentration0

    def log_prob(self, value: Array) -> Array:
        pair = jnp.broadcast_arrays(value, self.total_count - value)
        both = jnp.broadcast_arrays(self.concentration1, self.concentration0)
        return dirichlet_multinomial_log_pmf(jnp.stack(pair, -1), jnp.stack(both, -1))

    def _log_tails(self, value: Array) -> tuple[Array, Array]:
        return beta_binomial_log_tails(
            value, self.total_count, self.concentration1, self.concentration0
        )

    def log_cdf(self, value: Array) -> Array:
        return self._log_tails(value)[0]

    def log_survival(self, value: Array) -> Array:
        return self._log_tails(value)[1]

    def quantile(self, q: Array) -> Array:
        return jnp.minimum(count_quantile(self, q), self.total_count)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        key_beta, key_count = jax.random.split(key)
        n, a, b = jax.lax.stop_gradient(
            (self.total_count, self.concentration1, self.concentration0)
        )
        pair = jnp.stack(jnp.broadcast_arrays(a, b), -1)
        shape = self._shape(shape)
        _, logs = sample_standard_gamma(key_beta, pair, (*shape, 2))
        logits = logs[..., 0] - logs[..., 1]
        log_p, log_q = log_sigmoid(logits), log_sigmoid(-logits)
        return to_int(_count_samplers.binomial(key_count, n, log_p, log_q, shape))

    def mean(self) -> Array:
        return self.total_count * divide(self.concentration1, self._total)

    def mode(self) -> Array:
        # p(k) >= p(k - 1) where k (a + b - 2) <= (n + 1) (a - 1); without a peak, the likelier end.
        n, a, total = self.total_count, self.concentration1, self._total
        peaked = total > 2
        peak = jnp.floor((n + 1) * ((a - 1) / jnp.where(peaked, total - 2, 1)))
        end = jnp.where(a > self.concentration0, n, 0)
        return to_int(jnp.where(peaked, jnp.clip(peak, 0, n), end))

    def variance(self) -> Array:
        total, n = self._total, self.total_count
        share = divide(self.concentration1, total) * divide(self.concentration0, total)
        return n * share * ((total + n) / (total + 1))

    def entropy(self) -> Array:
        return beta_binomial_entropy(self.total_count, self.concentration1, self.concentration0)


class _Allocation(Distribution):
    """Base of the two: vectors of K counts that sum to `total_count`."""

    total_count: Array = param(supports.non_negative_integer)

    @property
    def support(self) -> supports.Support:
        """The vectors of non-negative integers that sum to total_count."""
        name = "non-negative integers that sum to the total count"
        return supports.Counts(name, 1, True, total=self.total_count)

    def _allocate(self, key: Array, log_p: Array, shape: tuple[int, ...]) -> Array:
        """Counts of the classes of these log-probabilities: each a Binomial of what the former leave."""
        shape = self._shape(shape)
        log_p = jnp.moveaxis(jnp.broadcast_to(log_p, shape), -1, 0)
        log_left = jax.lax.cumlogsumexp(log_p, axis=0, reverse=True)
        log_rest = jnp.concatenate([log_left[1:], jnp.full_like(log_left[:1], -jnp.inf)])
        none = log_left == -jnp.inf
        log_left = jnp.where(none, 0, log_left)
        keys = jax.random.split(key, len(log_p))

        def step(left: Array, at: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            key, log_p, log_q = at
            count = _count_samplers.binomial(key, left, log_p, log_q, left.shape)
            return left - count, count

        total = jnp.broadcast_to(jax.lax.stop_gradient(self.total_count), shape[:-1])
        steps = keys, jnp.minimum(log_p - log_left, 0), jnp.minimum(log_rest - log_left, 0)
        _, counts = jax.lax.scan(step, total, steps)
        counts = jnp.where(none[0], jnp.nan, counts)  # no class is possible
        return to_int(jnp.moveaxis(counts, 0, -1))


class Multinomial(_Allocation):
    """Counts of n draws from K classes: log p(x) = log n! + sum_i [x_i log p_i - log x_i!], sum_i x_i =
    n.

    Probabilities count by their shares: those that sum to 1 but for their rounding are 1.

    Parameters: `total_count` = n, `(*batch,)`, a non-negative integer (a head has to be given it);
    `logits`, `(*batch, event)`, real (-inf is an impossible class), or `probs`, non-negative with sum
    1, by keyword. KL is infinite between unequal `total_count`. Samples are int32 vectors, -1 where a
    parameter is NaN or no class is possible; above 2^24 (float32) n and they are multiples of the spacing
    of floats there, and their sum may miss n.
    """

    logits: Array = param(supports.real, shape=("event",), default=None, kw_only=True)
    probs: Array = param(
        supports.simplex,
        shape=("event",),
        default=None,
        instead_of="logits",
        to=log_of,
        back=lambda logits: jnp.exp(log_softmax(logits)),
    )

    def _log_probs(self) -> Array:
        return log_of(self.probs) if self.given("probs") else log_softmax(self.logits)

    def log_prob(self, value: Array) -> Array:
        if self.given("probs"):
            return multinomial_probs_log_pmf(value, self.probs)
        return multinomial_log_pmf(value, self.logits)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return self._allocate(key, jax.lax.stop_gradient(self._log_probs()), shape)

    def mean(self) -> Array:
        return self.total_count[..., None] * self.probs

    def variance(self) -> Array:
        return self.mean() * -jnp.expm1(self._log_probs())

    def entropy(self) -> Array:
        if self.given("probs"):
            return multinomial_probs_entropy(self.total_count, self.probs)
        return multinomial_entropy(self.total_count, self.logits)


@register_kl(Multinomial, Multinomial)
def _kl_multinomial(p: Multinomial, q: Multinomial) -> Array:
    each = classes_kl(p, q)
    # No allocation of one total is one of another.
    apart = jnp.abs(p.total_count - q.total_count) > 0
    known = jnp.where(jnp.isnan(each), jnp.nan, jnp.inf)
    return jnp.where(apart, known, multiply(p.total_count, each) + 0 * q.total_count)


class DirichletMultinomial(_Allocation):
    """Counts of n draws from K classes whose probabilities are Dirichlet-distributed.

    log p(x) = log n! + log Gamma(A) - log Gamma(A + n) + sum_i [log Gamma(a_i + x_i) - log Gamma(a_i)
    - log x_i!], a the concentration and A its sum: the Multinomial with more spread, whose variances
    are multiplied by (A + n)/(A + 1).

    Parameters: `total_count` = n, `(*batch,)`, a non-negative integer (a head has to be given it);
    `concentration`, `(*batch, event)`, positive. Samples are int32 vectors.
    """

    concentration: Array = param(supports.positive, shape=("event",))

    @property
    def _total(self) -> Array:
        return jnp.sum(self.concentration, axis=-1, keepdims=True)

    def log_prob(self, value: Array) -> Array:
        return dirichlet_multinomial_log_pmf(value, self.concentration)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        key_shares, key_counts = jax.random.split(key)
        concentration = jax.lax.stop_gradient(self.concentration)
        _, logs = sample_standard_gamma(key_shares, concentration, self._shape(shape))
        return self._allocate(key_counts, log_softmax(logs), shape)

    def mean(self) -> Array:
        return self.total_count[..., None] * divide(self.concentration, self._total)

    def variance(self) -> Array:
        total, n = self._total, self.total_count[..., None]
        others = divide(total - self.concentration, total)
        return self.mean() * others * ((total + n) / (total + 1))
