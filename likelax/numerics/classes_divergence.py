"""The Kullback-Leibler divergence of two categorical distributions, from their logits.

With d_i = m_i - l_i, how far the second side's logit is above the first's, and y_i = d_i - sum_j p_j d_j,

    log(q_i / p_i) = y_i - KL,    KL = log sum_i p_i e^{y_i} = log(1 + sum_i p_i (e^{y_i} - 1 - y_i)).

Where the sides are close that is a sum of positive terms of the second order in differences which are next
to exact. Log-probabilities have lost those digits, and a count of 1e7 trials asks for them.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._rules import with_partials
from likelax.numerics.deviance import gap_deviance, log1pmx, log_ratio
from likelax.numerics.divergences import exp_excess
from likelax.numerics.logspace import _shift, as_floats, divide, log1p, log_softmax
from likelax.numerics.pairs import Pair, pair_minus, pair_sum, two_sum

# Up to here KL is in the digits of y; beyond, in those of the log-probabilities.
_CLOSE = 0.125


def _sum(x: Array) -> Array:
    return jnp.sum(x, -1, keepdims=True)


def _shares(logits: Array) -> Array:
    weights = jnp.exp(_shift(logits, -1)[0])
    total = _sum(weights)
    return weights / jnp.where(total == 0, 1.0, total)


def _above(logits: Array, at: Array) -> Pair:
    """Logits less the one at that place."""
    return two_sum(logits, -jnp.take_along_axis(logits, at, -1))


def _on_both(l: Array, m: Array) -> Array:
    """The probabilities of the first side, without the classes that the second side excludes."""
    return jnp.where(m == -jnp.inf, 0.0, _shares(l))


@jax.custom_jvp
def _centred(l: Array, m: Array) -> Array:
    """y, and 0 where either side excludes the class."""
    p = _on_both(l, m)
    none = p == 0
    p = p / jnp.where(none, 1.0, _sum(p))
    l, m = jnp.where(none, 0.0, l), jnp.where(none, 0.0, m)
    # From the likeliest class: the mean of what is far from 0 has lost the digits of what is near.
    at = jnp.argmax(p, -1, keepdims=True)
    high, low = pair_sum(_above(m, at), pair_minus(_above(l, at)))
    y = (high - _sum(p * high)) + low
    # The mean once more, of what the rounding of the first one has left.
    return jnp.where(none, 0.0, y - _sum(p * y))


@_centred.defjvp
def _centred_jvp(primals, tangents):
    (l, m), (dl, dm) = primals, tangents
    p, y = _on_both(l, m), _centred(l, m)
    none = p == 0
    d = jnp.where(none, 0.0, dm - dl)
    turned = _sum(p * y * jnp.where(none, 0.0, dl))
    return y, jnp.where(none, 0.0, d - _sum(p * d) - turned)


def _log_ratio(l: Array, m: Array, p: Array, q: Array, y: Array) -> Array:
    """log(q/p), and 0 where either side excludes the class."""
    none = (p == 0) | (m == -jnp.inf)
    # KL itself needs few digits here, as terms of either sign: by a small error of it the sum of the terms
    # below moves by that times q - p. Where y is beyond the exponential the sides are not close.
    top = 0.9 * math.log(float(jnp.finfo(y.dtype).max))
    grown = jnp.where(y < top, p * jnp.expm1(jnp.where(y < top, y, 0.0)), jnp.inf)
    within = _sum(jnp.where(none, 0.0, grown))
    outside = _sum(jnp.where(p == 0, q, 0.0))
    close = (jnp.abs(within) < _CLOSE) & (outside < _CLOSE)
    kl = log1p(jnp.where(close, within, 0.0)) - log1p(-jnp.where(close, outside, 0.0))
    log_p, log_q = (jnp.where(none, 0.0, log_softmax(logits)) for logits in (l, m))
    return jnp.where(none, 0.0, jnp.where(close, y - kl, log_q - log_p))


@jax.custom_jvp
def _classes_divergence(l: Array, m: Array) -> Array:
    p, q = _shares(l), _shares(m)
    t = _log_ratio(l, m, p, q, _centred(l, m))
    near = jnp.abs(t) < 1.0
    terms = jnp.where(near, p * exp_excess(jnp.where(near, t, 0.0)), q - p - p * t)
    terms = jnp.where(p == 0, q, terms)
    never = (p > 0) & (m == -jnp.inf)
    return jnp.sum(jnp.where(never, jnp.inf, terms), -1)


@_classes_divergence.defjvp
def _classes_divergence_jvp(primals, tangents):
    (l, m), (dl, dm) = primals, tangents
    p, q, y = _shares(l), _shares(m), _centred(l, m)
    t = _log_ratio(l, m, p, q, y)
    near = (jnp.abs(t) < 1.0) & (p != 0) & (q != 0)
    step = jnp.where(near, p * jnp.expm1(jnp.where(near, t, 0.0)), q - p)
    # An excluded class may come from a parameter without a finite slope.
    dl, dm = (jnp.where(side == -jnp.inf, 0.0, d) for side, d in ((l, dl), (m, dm)))
    divergence = _classes_divergence(l, m)
    slope = jnp.sum(step * dm - p * y * dl, -1)
    return divergence, jnp.where(divergence == jnp.inf, 0.0, slope)


def classes_divergence(l: ArrayLike, m: ArrayLike) -> Array:
    """KL of two Categoricals of logits l and m, `(..., K)`, along the last axis; to a few units of itself where
    the sides are close. Infinite, with slopes of 0, where the second side excludes what the first allows; NaN where
    the first allows nothing.

    Slopes -p y = p (log(p/q) - KL) in l and q - p in m.
    """
    l, m = jnp.broadcast_arrays(*as_floats(l, m))
    # An infinite logit is all that there is, as any that is far above the others.
    top = float(jnp.finfo(l.dtype).max) / 4
    nothing = jnp.all(l == -jnp.inf, -1)
    l, m = (jnp.where(logits == jnp.inf, top, logits) for logits in (l, m))
    return jnp.where(nothing, jnp.nan, _classes_divergence(l, m))


def _probs_slope(p, q):
    none = (p == 0) | (q == 0)
    some, other = jnp.where(none, 1.0, p), jnp.where(none, 1.0, q)
    return log_ratio(some, other, other - some)


@with_partials(_probs_slope, lambda p, q: jnp.where(q == 0, 0.0, divide(q - p, q)))
def _probs_term(p, q):
    return gap_deviance(p, q, q - p)


def classes_divergence_of_probs(p: ArrayLike, q: ArrayLike) -> Array:
    """The same of two Categoricals of probabilities p and q, that sum to 1: a sum of deviances. Slopes log(p/q)
    in p and (q - p)/q in q; where a probability is 0 an infinite slope counts as 0. NaN where p allows nothing.
    """
    p, q = jnp.broadcast_arrays(*as_floats(p, q))
    # The sums differ by their rounding, whose square is not little beside the least divergences.
    nothing, endless = jnp.all(p == 0, -1), jnp.all(q == 0, -1)
    apart = jax.lax.stop_gradient(jnp.sum(q - p, -1) / jnp.sum(p, -1))
    terms = jnp.sum(_probs_term(p, q), -1) + log1pmx(jnp.where(nothing | endless, 0, apart))
    return jnp.where(nothing, jnp.nan, terms)
