"""More zeros than a distribution of counts has, or a number of zeros of its own."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from likelax._pytree import Array, node
from likelax.distributions._odds import Odds, multiply
from likelax.distributions.base import Distribution
from likelax.distributions.counts import Geometric
from likelax.distributions.truncated import Truncated
from likelax.numerics.logspace import entropy_term, log1mexp, log_add_exp, log_complements

_LOG_2 = math.log(2)


class _Zeros(Odds):
    """Base of the two: `base`, a discrete distribution over 0, 1, ..., and the odds of a zero."""

    base: Distribution = node()

    def _no_entropy(self) -> None:
        self._missing("entropy", "average -.log_prob over .sample(key, (n,))")

    def _check(self) -> None:
        super()._check()
        own, name = type(self).__name__, type(self.base).__name__
        if not isinstance(self.base, Distribution):
            raise TypeError(
                f"{own}: base is a distribution, got {self.base!r}; write {own}(Poisson(rate), probs=0.5)"
            )
        if not self.base.support.is_discrete:
            raise ValueError(
                f"{own}: the base is a discrete distribution, got {name} over values that are "
                f"{self.base.support}; for a probability at the end of a density write "
                "lx.Censored(base, low=...)"
            )
        if self.base.event_shape:
            raise ValueError(
                f"{own}: the base is over numbers, got {name} of event shape "
                f"{self.base.event_shape}; wrap its elements first, {own}(base, "
                "...).to_event()"
            )
        lowest = getattr(self.base.support, "lower", None)
        if isinstance(lowest, jax.Array):  # what it is, is known of a Truncated's base only
            lowest = getattr(getattr(self.base, "base", self.base).support, "lower", None)
        if not (isinstance(lowest, int | float) and lowest == 0):
            raise ValueError(
                f"{own}: the base counts from 0, got {name} over values that are "
                f"{self.base.support}"
            )

    def _with_zeros(self, log_rest: Array) -> Array:
        """log(p + exp(log_rest)), with its slope at p = 0, too, where log p has none."""
        value = log_add_exp(self._log_p(), log_rest)
        if not self.given("probs"):
            return value
        held, log_rest = jax.lax.stop_gradient((self.probs, log_rest))
        none = (held == 0) & (log_rest > -jnp.inf)
        slope = jnp.exp(jnp.where(none, -log_rest, -jnp.inf))
        return value + jnp.where(none, self.probs - held, 0) * slope

    def _beyond_zero(self, q: Array) -> tuple[Array, Array]:
        """Whether the quantile is 0 by p alone, and where it is not the level that is left for the base."""
        rest = (q - self._p()) / self._q()
        # From its complement, which does not round to 0, so that no level below 1 becomes 1.
        rest = jnp.where(rest > 0.5, 1 - (1 - q) / self._q(), rest)
        zero = rest <= 0
        return zero, jnp.where(zero, 0.5, rest)

    @property
    def _takes_indices(self) -> bool:
        return self.base._takes_indices

    @property
    def support(self) -> Any:
        """The base's."""
        return self.base.support


class ZeroInflated(_Zeros):
    """0 with probability p, else a draw of `base`: P(0) = p + (1 - p) base(0), P(k) = (1 - p)
    base(k).

    Zeros come from both sides. The mixing at 0 is done on logarithms.

    Parameters, of the batch's shape: `base`, a discrete distribution over 0, 1, ...; `logits` =
    log(p/(1-p)) of the extra zeros, real, or `probs` = p in [0, 1], by keyword.

    Raises:
      ValueError: when `base` is not discrete, has not 0 as its lowest value, or is over vectors.
    """

    def log_prob(self, value: Array) -> Array:
        log_base = self._log_q() + self.base.log_prob(value)
        return jnp.where(value == 0, self._with_zeros(log_base), log_base)

    def log_cdf(self, value: Array) -> Array:
        # From the smaller of the two tails, which holds the digits.
        log_survival = self._log_q() + self.base.log_survival(value)
        low = self._with_zeros(self._log_q() + self.base.log_cdf(value))
        upper = log_survival < -_LOG_2
        return jnp.where(upper, log1mexp(jnp.where(upper, -log_survival, 1)), low)

    def log_survival(self, value: Array) -> Array:
        return self._log_q() + self.base.log_survival(value)

    def quantile(self, q: Array) -> Array:
        zero, rest = self._beyond_zero(q)
        return jnp.where(zero, 0, self.base.quantile(rest))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        key_zero, key_base = jax.random.split(key)
        zero = jax.random.bernoulli(key_zero, self._p(), self._shape(shape))
        draws = self.base.broadcast_to(self.batch_shape).sample(key_base, shape)
        return jnp.where(zero, 0, draws)

    def mean(self) -> Array:
        return self._q() * self.base.mean()

    def mode(self) -> Array:
        mode = self.base.mode()
        zero = self.log_prob(jnp.zeros_like(mode)) >= self.log_prob(mode)
        return jnp.where(zero, 0, mode)

    def variance(self) -> Array:
        return self._q() * (self.base.variance() + self._p() * self.base.mean() ** 2)

    def entropy(self) -> Array:
        zeros = jnp.zeros(self.batch_shape, jnp.int32)
        log_zero = self.base.log_prob(zeros)
        # Of the base's entropy the term at 0 is replaced; the others gain -log(1 - p) each.
        try:
            others = self.base.entropy() - entropy_term(log_zero)
        except NotImplementedError:
            self._no_entropy()
        mass = -self._q() * jnp.expm1(log_zero)
        return (
            entropy_term(self.log_prob(zeros)) + self._q() * others - multiply(mass, self._log_q())
        )


class Hurdle(_Zeros):
    """0 with probability p, else a draw of `base` that is not 0: P(0) = p, P(k) = (1 - p) base(k) /
    (1 - base(0)).

    Unlike in `ZeroInflated` all zeros are of one kind, there may be fewer of them than the base has,
    and the likelihood falls into two parts: a Bernoulli's, and that of the positive counts, which is a
    `Truncated`'s.

    Parameters, of the batch's shape: `base`, a discrete distribution over 0, 1, ... with `log_cdf`
    and `log_survival`; `logits` = log(p/(1-p)) of a zero, real, or `probs` = p in [0, 1], by keyword.

    Raises:
      ValueError: when `base` is not discrete, has not 0 as its lowest value, is over vectors or
        labels.

    Source: Mullahy (1986), "Specification and testing of some modified count data models".
    """

    def _check(self) -> None:
        super()._check()
        self._positive  # noqa: B018  (raises where the base cannot be kept to 1, 2, ...)

    @property
    def _positive(self) -> Truncated:
        """The base given that it is not 0."""
        return Truncated(self.base, low=1.0)  # type: ignore[arg-type]

    def log_prob(self, value: Array) -> Array:
        zero = value == 0
        positive = self._log_q() + self._positive.log_prob(jnp.where(zero, 1, value))
        return jnp.where(zero & ~jnp.isnan(positive), self._log_p(), positive)

    def _log_tails(self, value: Array) -> tuple[Array, Array]:
        """log P(X <= value) and log P(X > value)."""
        zero = value == 0
        below, above = self._positive._log_tails(jnp.where(zero, 1, value))
        zero = zero & ~jnp.isnan(below)
        log_cdf = self._with_zeros(self._log_q() + jnp.where(zero, -jnp.inf, below))
        return log_complements(log_cdf, self._log_q() + jnp.where(zero, 0, above))

    def log_cdf(self, value: Array) -> Array:
        return self._log_tails(value)[0]

    def log_survival(self, value: Array) -> Array:
        return self._log_tails(value)[1]

    def quantile(self, q: Array) -> Array:
        zero, rest = self._beyond_zero(q)
        return jnp.where(zero, 0, self._positive.quantile(rest))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        key_zero, key_base = jax.random.split(key)
        zero = jax.random.bernoulli(key_zero, self._p(), self._shape(shape))
        draws = self._positive.broadcast_to(self.batch_shape).sample(key_base, shape)
        return jnp.where(zero, 0, draws)

    def _share(self) -> Array:
        """(1 - p) / (1 - base(0)): how much of the base's positive part there is."""
        return jnp.exp(self._log_q() - self._positive._log_mass())

    def mean(self) -> Array:
        return self._share() * self.base.mean()

    def variance(self) -> Array:
        share, mean = self._share(), self.base.mean()
        total = share * (self.base.variance() + (1 - share) * mean**2)
        # Of a base that is nearly always 0 its terms cancel: between 0 and the rest it is at least this.
        between = self._p() * self._q() * jnp.exp(-2 * self._positive._log_mass()) * mean**2
        return jnp.maximum(total, between)

    def mode(self) -> Array:
        mode = self._positive.mode()
        zero = self._log_p() >= self._log_q() + self._positive.log_prob(mode)
        return jnp.where(zero, 0, mode)

    def entropy(self) -> Array:
        """In nats, of a geometric base, which forgets what it has passed. Of others the term at 0 is nearly all of a
        small entropy, and what is left of it has no digits."""
        if not isinstance(self.base, Geometric):
            self._no_entropy()
        choice = entropy_term(self._log_p()) + entropy_term(self._log_q())
        return choice + self._q() * self.base.entropy()
