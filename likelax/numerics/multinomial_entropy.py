"""The entropy of the multinomial, a sum over its classes, each an integral as in `count_entropies`.

With m = n p_j, the mean of the count X_j, and phi(s) = (1 - p_j s)^n, it is the sum of

    c_j = integral of (1 - phi) G exp(-t)/s dt + T = E[log X_j!] - m log m + m + a multiple of p_j

less c of one class that has all n. The likeliest class takes that in: with p its probability and 1 - p the sum of
the others', nothing is left of both but

    T - 1 - integral of [(1 - p s)^n - (1 - s)^n] G exp(-t)/s dt.

So nothing cancels for any n, and of two classes it is the binomial's. The slope in log p_j is the same function for all
classes, a sum of positive terms. Large means have Stirling's series, here log(2 pi e m)/2 + 1/(4 n) - 1/(12 m), and of
the likeliest class log(p)/2 - (1 - p)/(12 m), both of a slope of 1/2 + 1/(12 m).
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._rules import terms, with_partials
from likelax.numerics.count_entropies import _harmonic, _integral, _large, _Place
from likelax.numerics.indexing import whole
from likelax.numerics.logspace import as_floats, divide, log1p, log_softmax, xlogy

_LOG_2PI_E = math.log(2.0 * math.pi * math.e)


def _cases(n, p, rest):
    """Which means are large, which classes add nothing, and (n, p, 1 - p) of the others."""
    none = (n == 0) | (p == 0) | (rest == 0)
    large = (n * p > _large(n)) & ~none
    held = large | none
    usual = jnp.where(held, 1.0, n), jnp.where(held, 0.5, p), jnp.where(held, 0.5, rest)
    return none, large, jnp.where(large, n * p, 1.0), usual


def _log(p, rest):
    """log p to the digits of 1 - p, where that is small."""
    near = rest < 0.5
    return jnp.where(near, log1p(-jnp.where(near, rest, 0.0)), jnp.log(jnp.where(near, 1.0, p)))


def _never(n, p, rest):
    """-n log(1 - p): without the class by exp of minus that, of which nothing is left from 110 (800) on."""
    end = terms(n, 110, 800)
    never = -n * _log(rest, p)
    return jnp.where(never < end, never, end)


def _sums(n, p, rest):
    """The sum of (1 - p)^(n + k)/(n + k) over k = 0, 1, ..., n p of which are in T."""
    return _harmonic(_never(n, p, rest), divide(jnp.ones_like(n), n))


def _value(n, p, rest, likeliest):
    none, large, m, (n, q, other) = _cases(n, p, rest)

    def term(place: _Place) -> Array:
        lost = n * log1p(-q * place.s)
        # 1 - s = (1 - q s)(1 - v)
        all_lost = other + q * place.decay
        v = other * place.s / all_lost
        near = v < 0.5
        log_rest = jnp.where(near, log1p(-jnp.where(near, v, 0.0)), -place.t - jnp.log(all_lost))
        kept = jnp.where(likeliest, jnp.exp(lost) * jnp.expm1(n * log_rest), -jnp.expm1(lost))
        return kept * place.decay * place.g / place.s

    never = _never(n, q, other)
    ends = jnp.where(likeliest, -jnp.exp(-never), -jnp.expm1(-never))
    some = _integral(term, n) + (n * q * _sums(n, q, other) + ends)
    half = 0.5 * jnp.where(likeliest, _log(p, rest), _LOG_2PI_E + jnp.log(m))
    series = half - jnp.where(likeliest, rest, 1.0 - 3.0 * p) / (12.0 * m)
    return jnp.where(none, 0.0, jnp.where(large, series, some))


@with_partials(
    lambda n, log_p, p, rest, likeliest: jax.jvp(
        lambda n: _value(n, p, rest, likeliest), (n,), (jnp.ones_like(n),)
    )[1],
    lambda n, log_p, p, rest, likeliest: _lift(n, p, rest),
    None,
    None,
    None,
)
def _class_part(n, log_p, p, rest, likeliest):
    """`log_p` has the slope, of which p and 1 - p have the digits."""
    return _value(n, p, rest, likeliest)


def _lift(n, p, rest):
    none, large, m, (n, q, other) = _cases(n, p, rest)

    def term(place: _Place) -> Array:
        # 1 - q s = 1 - q + q exp(-t), which is not 0 where q rounds to 1.
        near = q * place.s < 0.5
        log_kept = jnp.where(
            near,
            log1p(-q * jnp.where(near, place.s, 0.0)),
            jnp.log(jnp.where(near, 1.0, other + q * place.decay)),
        )
        return jnp.exp((n - 1.0) * log_kept) * place.decay * place.g

    some = n * q * (_sums(n, q, other) + _integral(term, n))
    series = 0.5 + 1.0 / (12.0 * m)
    return jnp.where(none, 0.0, jnp.where(large, series, some))


def _entropy(n: Array, log_p: Array, p: Array) -> Array:
    n, log_p, p = jnp.broadcast_arrays(n[..., None], log_p, p)
    likeliest = jnp.arange(p.shape[-1]) == jnp.argmax(p, axis=-1, keepdims=True)
    others = jnp.sum(jnp.where(likeliest, 0.0, p), axis=-1, keepdims=True)
    rest = jnp.where(likeliest, others, 1.0 - p)
    parts = _class_part(n, log_p, p, rest, likeliest)
    return jnp.where(jnp.isnan(n[..., 0]), jnp.nan, jnp.sum(parts, axis=-1))


def multinomial_entropy(n: ArrayLike, logits: ArrayLike) -> Array:
    """The entropy, in nats, of n draws from classes of logits (..., K): all of n!/prod x_i! prod p_i^x_i.

    0 if n is 0 or one class is certain, NaN if none is possible.
    """
    n, logits = as_floats(n, logits)
    log_p = log_softmax(whole(logits))
    possible = jnp.any(log_p > -jnp.inf, axis=-1)
    return jnp.where(possible, _entropy(n, log_p, jnp.exp(log_p)), jnp.nan)


def multinomial_probs_entropy(n: ArrayLike, p: ArrayLike) -> Array:
    """`multinomial_entropy` of probabilities (..., K), by their shares of their sum (slope 0 at p = 0
    instead of infinity).
    """
    n, p = as_floats(n, p)
    p = whole(p)
    total = jnp.sum(p, axis=-1, keepdims=True)
    safe = jnp.where(total == 0, 1.0, total)
    entropy = _entropy(n, xlogy(1.0, p) - jnp.log(safe), p / safe)
    return jnp.where(total[..., 0] == 0, jnp.nan, entropy)
