"""A probability as `logits` or `probs`, and what the discrete families compute from its logarithms."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, param
from likelax.distributions.base import Distribution
from likelax.numerics.classes_divergence import classes_divergence, classes_divergence_of_probs
from likelax.numerics.deviance import log1pmx
from likelax.numerics.divergences import trial_divergence, trial_divergence_of_probs
from likelax.numerics.logspace import log_sigmoid, logit, sigmoid, softplus, xlog1py, xlogy


class Odds(Distribution):
    """Base of the families with one success probability p, given as `logits` = log(p/(1-p)) or
    `probs` = p.

    What is given is what is used: probabilities of exactly 0 or 1 never pass through infinite
    logits.
    """

    logits: Array = param(supports.real, default=None, kw_only=True)
    probs: Array = param(
        supports.unit_interval, default=None, instead_of="logits", to=logit, back=sigmoid
    )

    def _log_p(self) -> Array:
        return log_of(self.probs) if self.given("probs") else log_sigmoid(self.logits)

    def _log_q(self) -> Array:
        return xlog1py(1.0, -self.probs) if self.given("probs") else -softplus(self.logits)

    def _p(self) -> Array:
        return self.probs

    def _q(self) -> Array:
        return 1 - self.probs if self.given("probs") else sigmoid(-self.logits)

    def _weigh(self, successes: Array, failures: Array) -> Array:
        """successes log p + failures log(1-p), with 0 log 0 = 0."""
        if self.given("probs"):
            return xlogy(successes, self.probs) + xlog1py(failures, -self.probs)
        return multiply(successes, self._log_p()) + multiply(failures, self._log_q())


def log_of(p: Array) -> Array:
    """log p, with zero gradient at p = 0."""
    return xlogy(1.0, p)


def multiply(count: Array, log_p: Array) -> Array:
    """count log p, with 0 (-inf) = 0."""
    return jnp.where(count == 0, 0, count * jnp.where(count == 0, 0, log_p))


def kl_term(log_p: Array, log_q: Array) -> Array:
    """p log(p/q) + q - p >= 0 from the logarithms: q where p = 0, inf where q = 0 < p.

    Summed over all outcomes it is KL(p || q): each term is of the second order in log(p/q), so that
    close distributions lose nothing by cancellation.
    """
    none, never = log_p == -jnp.inf, log_q == -jnp.inf
    safe_p = jnp.where(none, 0, log_p)
    p, q = jnp.where(none, 0, jnp.exp(safe_p)), jnp.exp(log_q)
    d = jnp.where(none | never, 0, log_q) - jnp.where(none | never, 0, log_p)
    close = jnp.abs(d) < 1
    near = -p * log1pmx(jnp.expm1(jnp.where(close, d, 0)))
    far = q - p - p * d
    return jnp.where(never & ~none, jnp.inf, jnp.where(close & ~none, near, far))


def trial_kl(p: Any, q: Any) -> Array:
    """KL of one trial, between two distributions that have `_log_p` and `_log_q`."""
    return kl_term(p._log_p(), q._log_p()) + kl_term(p._log_q(), q._log_q())


def one_trial_kl(p: Any, q: Any) -> Array:
    """`trial_kl` of two `Odds`, to the digits of their parameters."""
    if p.given("probs") and q.given("probs"):
        return trial_divergence_of_probs(p.probs, q.probs)
    if p.given("logits") and q.given("logits"):
        return trial_divergence(p.logits, q.logits)
    return trial_kl(p, q)


def classes_kl(p: Any, q: Any) -> Array:
    """KL of one draw of a class, between two distributions over K of them that have `_log_probs`, to the digits
    of their parameters.
    """
    if p.given("probs") and q.given("probs"):
        return classes_divergence_of_probs(p.probs, q.probs)
    if p.given("logits") and q.given("logits"):
        return classes_divergence(p.logits, q.logits)
    log_p, log_q = p._log_probs(), q._log_probs()
    nothing = jnp.all(log_p == -jnp.inf, -1)
    return jnp.where(nothing, jnp.nan, jnp.sum(kl_term(log_p, log_q), -1))


def to_int(x: Array) -> Array:
    """As int32, the dtype of discrete samples: what does not fit is the largest one, NaN is -1."""
    # 2^31 - 1 is no float32, and converting what does not fit is not defined everywhere.
    top = jnp.iinfo(jnp.int32).max
    fits = x < top
    return jnp.where(
        fits, jnp.where(fits, x, 0).astype(jnp.int32), jnp.where(jnp.isnan(x), -1, top)
    )
