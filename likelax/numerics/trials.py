"""Log-probabilities of numbers of successes, from the logits of a trial or its probability.

As in `densities`, Loader's form; here n p - k is exact to its own digits. From logits it is ((n - k) e
- k) / (1 + e), e = exp(logits) in two floats: at n = 1e8 the rounding of p alone would cost hundreds
of units in the last place.
"""

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._rules import with_partials
from likelax.numerics.counts import LARGEST_LOGIT, times_log
from likelax.numerics.deviance import gap_deviance, log_ratio, product_gap
from likelax.numerics.gamma import in_order, stirling
from likelax.numerics.logspace import (
    as_floats,
    inverse,
    log1p,
    log_sigmoid,
    sigmoid,
    xlog1py,
    xlogy,
)
from likelax.numerics.pairs import exp_to_pair, two_sum, word

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


@with_partials(
    lambda k, n, logits: -jnp.ones_like(k),
    lambda k, n, logits: sigmoid(logits),
    lambda k, n, logits: n * sigmoid(logits) * sigmoid(-logits),
)
def logits_gap(k, n, logits):
    """n p - k, for logits within the largest."""
    rare = logits <= 0
    e, e_low = exp_to_pair(word(-jnp.abs(logits)))
    d, d_low = two_sum(n, -k)
    few, many = jnp.where(rare, k, d), jnp.where(rare, d, k)
    low = many * e_low + jnp.where(rare, d_low * e, -d_low)
    gap = (product_gap(many, e, few) + low) / (1.0 + e)
    return jnp.where(rare, gap, -gap)


def _parts(k, n, logits):
    kept = jnp.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT)
    return n * sigmoid(kept), n * sigmoid(-kept), logits_gap(k, n, kept), logits - kept


def _logits_slope_n(k, n, logits):
    _, nq, gap, beyond = _parts(k, n, logits)
    return log_ratio(n - k, nq, -gap) + jnp.maximum(beyond, 0.0)


def _logits_slope_k(k, n, logits):
    np_, _, gap, beyond = _parts(k, n, logits)
    return log_ratio(k, np_, gap) - jnp.minimum(beyond, 0.0) - _logits_slope_n(k, n, logits)


@with_partials(_logits_slope_k, _logits_slope_n, lambda k, n, logits: _parts(k, n, logits)[2])
def _logits_divergence(k, n, logits):
    """D(k, n p) + D(n - k, n q), linear in what is beyond the largest logits."""
    np_, nq, gap, beyond = _parts(k, n, logits)
    linear = jnp.where(beyond > 0, n - k, -k) * beyond
    return gap_deviance(k, np_, gap) + gap_deviance(n - k, nq, -gap) + linear


def _probs_slope_n(k, n, p):
    return log_ratio(n - k, n * (1.0 - p), -product_gap(n, p, k))


def _probs_slope_k(k, n, p):
    return log_ratio(k, n * p, product_gap(n, p, k)) - _probs_slope_n(k, n, p)


@with_partials(
    _probs_slope_k,
    _probs_slope_n,
    lambda k, n, p: product_gap(n, p, k) * inverse(1.0 - p) * inverse(p),
)
def _probs_divergence(k, n, p):
    gap = product_gap(n, p, k)
    return gap_deviance(k, n * p, gap) + gap_deviance(n - k, n * (1.0 - p), -gap)


def _binomial(k, n, log_p, log_q, divergence, parameter, middle) -> Array:
    sure = jnp.isinf(log_p) | jnp.isinf(log_q)
    none, every = k == 0, (k == n) & (n != 0)
    inside = ~(none | every | sure)
    k_in, n_in = jnp.where(inside, k, 1.0), jnp.where(inside, n, 2.0)
    small, large = in_order(k_in, n_in - k_in)
    saddle = -divergence(k_in, n_in, jnp.where(inside, parameter, middle))
    saddle = saddle + (0.5 * (log1p(small / large) - jnp.log(small)) - _HALF_LOG_2PI)
    saddle = saddle + ((stirling(0)(n_in) - stirling(0)(large)) - stirling(0)(small))
    # n = 0 has probability one whatever p is, also where the other logarithm is -inf.
    power = times_log(jnp.where(every, k, n), jnp.where(every, log_p, log_q))
    out = jnp.where(inside, saddle, jnp.where(none | every, power, -jnp.inf))
    return jnp.where(jnp.isnan(parameter + k + n), jnp.nan, out)


def binomial_logits_log_pmf(k: ArrayLike, n: ArrayLike, logits: ArrayLike) -> Array:
    """log of C(n, k) p^k (1-p)^(n-k), 0 <= k <= n, p = sigmoid(logits). Slope k - n p in the logits."""
    k, n, logits = jnp.broadcast_arrays(*as_floats(k, n, logits))
    logs = log_sigmoid(logits), log_sigmoid(-logits)
    return _binomial(k, n, *logs, _logits_divergence, logits, 0.0)


def binomial_probs_log_pmf(k: ArrayLike, n: ArrayLike, p: ArrayLike) -> Array:
    """The same for p in [0, 1]. Slope (k - n p) / (p (1 - p)); 0 where p = 0 or 1 excludes k."""
    k, n, p = jnp.broadcast_arrays(*as_floats(k, n, p))
    return _binomial(k, n, xlogy(1.0, p), xlog1py(1.0, -p), _probs_divergence, p, 0.5)
