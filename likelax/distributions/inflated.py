"""More zeros than a distribution of counts has."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from likelax._pytree import Array, node
from likelax.distributions._odds import Odds, multiply
from likelax.distributions.base import Distribution
from likelax.numerics.logspace import entropy_term, log1mexp, log_add_exp

_LOG_2 = math.log(2)


class ZeroInflated(Odds):
    """0 with probability p, else a draw of `base`: P(0) = p + (1 - p) base(0), P(k) = (1 - p)
    base(k).

    Zeros come from both sides. The mixing at 0 is done on logarithms.

    Parameters, of the batch's shape: `base`, a discrete distribution over 0, 1, ...; `logits` =
    log(p/(1-p)) of the extra zeros, real, or `probs` = p in [0, 1], by keyword.

    Raises:
      ValueError: when `base` is not discrete, has not 0 as its lowest value, or is over vectors.
    """

    base: Distribution = node()

    def _check(self) -> None:
        super()._check()
        name = type(self.base).__name__
        if not self.base.support.is_discrete:
            raise ValueError(
                f"ZeroInflated: the base is a discrete distribution, got {name} over values that "
                "are "
                f"{self.base.support}; write lx.Mixture with a lx.Delta for a point mass at 0"
            )
        if self.base.event_shape:
            raise ValueError(
                f"ZeroInflated: the base is over numbers, got {name} of event shape "
                f"{self.base.event_shape}; inflate its elements first, ZeroInflated(base, "
                "...).to_event()"
            )
        lowest = getattr(self.base.support, "lower", None)
        if not (isinstance(lowest, int | float) and lowest == 0):
            raise ValueError(
                f"ZeroInflated: the base counts from 0, got {name} over values that are "
                f"{self.base.support}"
            )

    @property
    def _takes_indices(self) -> bool:
        return self.base._takes_indices

    @property
    def support(self) -> Any:
        """The base's."""
        return self.base.support

    def log_prob(self, value: Array) -> Array:
        log_base = self._log_q() + self.base.log_prob(value)
        return jnp.where(value == 0, log_add_exp(self._log_p(), log_base), log_base)

    def log_cdf(self, value: Array) -> Array:
        # From the smaller of the two tails, which holds the digits.
        log_survival = self._log_q() + self.base.log_survival(value)
        low = log_add_exp(self._log_p(), self._log_q() + self.base.log_cdf(value))
        upper = log_survival < -_LOG_2
        return jnp.where(upper, log1mexp(jnp.where(upper, -log_survival, 1)), low)

    def log_survival(self, value: Array) -> Array:
        return self._log_q() + self.base.log_survival(value)

    def quantile(self, q: Array) -> Array:
        rest = (q - self._p()) / self._q()
        inside = (rest > 0) & (rest < 1)
        return jnp.where(inside, self.base.quantile(jnp.where(inside, rest, 0.5)), 0)

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
        others = self.base.entropy() - entropy_term(log_zero)
        mass = -self._q() * jnp.expm1(log_zero)
        return (
            entropy_term(self.log_prob(zeros)) + self._q() * others - multiply(mass, self._log_q())
        )
