"""Entropies of the Poisson, the binomial and the negative binomial: integrals of positive terms.

Let every event of a count X be kept with probability s, and be 1 - phi(s) the probability that one is.
In Malmsten's integral of log Gamma, over t with s = 1 - exp(-t), the expectation can be taken inside, and
with G(t) = 1/s - 1/t the entropy, in nats, is

    Poisson(m)    integral of (1 - phi) G exp(-t)/s dt + T(m)
    binomial      the same, of the probability that a success and a failure are kept, + T of both - 1
    negative      integral of (1 - phi) G (exp(-t) - exp(-r t))/s dt + T + log(1 + m/r), m its mean,

T being the integral of (1 - phi(s))/s^2 over s > 1, an exponential integral and a smooth rest. For r >= 1
no term is negative, and neither is one of the slopes in m and r: nothing cancels for any size. For r < 1

    r log(1 + c) + m log(1 + 1/c) - (1 - phi(1)) log r
        + integral of [(1 - phi)/s - (1 - phi(1))] (exp(-r t) - exp(-t))/t dt,  c = m/r.

In log t all of them are smooth, so that the trapezoidal rule has all digits; its places are the same for all
parameters, and the slopes are those of the sums. Where mean and variance are large Stirling's series takes over.

Source: Knessl (1998), "Integral representations and asymptotic expansions for Shannon and Renyi entropies";
Malmsten's integral: DLMF 5.9.18; the trapezoidal rule: Trefethen and Weideman (2014), "The exponentially
convergent trapezoidal rule".
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._chebyshev import horner
from likelax.numerics._rules import terms, with_partials
from likelax.numerics.deviance import log1pmx
from likelax.numerics.exponential_integral import exponential_integral
from likelax.numerics.logspace import (
    as_floats,
    divide,
    log1p,
    log_mean_decay_slope,
    log_sigmoid,
    logit,
    sigmoid,
    softplus,
    xlog1py,
)

_LOG_2PI_E = math.log(2.0 * math.pi * math.e)
_MEAN_EXCESS = (0.0, *((-1.0) ** k / math.factorial(k) for k in range(2, 20)))


class _Place(NamedTuple):
    """One of the rule: t, s, exp(-t), G(t), and dt."""

    t: Array
    s: Array
    decay: Array
    g: Array
    dt: Array


@functools.cache
def _rule(single: bool) -> tuple[np.ndarray, ...]:
    """The places, in float64.

    The strip in which the terms are analytic in log t is pi wide, which gives an error of
    exp(-pi^2/step). Below the first place is less than an eps, if the mean or r is below 1/eps (or c
    below exp(20) or exp(40)); beyond the last one nothing.
    """
    low, high, step = (-38.0, 3.0, 0.5) if single else (-78.0, 3.75, 0.25)
    t = np.exp(np.arange(low, high, step))
    small = np.minimum(t, 0.5)
    gap, term = np.zeros_like(t), small**2 / 2  # t - s
    for k in range(3, 20):
        gap, term = gap + term, -term * small / k
    s = -np.expm1(-t)
    return t, s, np.exp(-t), np.where(t < 0.5, gap, t - s) / (t * s), step * t


def _integral(term: Callable[[_Place], Array], like: Array) -> Array:
    """Of term over t. One place after the other: two sums of one program would keep all of their terms."""

    def add(total: Array, place: _Place) -> tuple[Array, None]:
        return total + term(place) * place.dt, None

    columns = (jnp.asarray(column, like.dtype) for column in _rule(like.dtype == jnp.float32))
    return jax.lax.scan(add, jnp.zeros_like(like), _Place(*columns))[0]


def _large(x: Array) -> float:
    """From where on Stirling's series needs nothing beyond its first inverse power."""
    return terms(x, 10**4, 10**8)


def _own_slopes(function):
    """The slope in each argument by forward differentiation: in reverse the terms of all places would be kept."""

    def slope(i):
        return lambda *primals: jax.jvp(
            lambda x: function(*primals[:i], x, *primals[i + 1 :]),
            (primals[i],),
            (jnp.ones_like(primals[i]),),
        )[1]

    return with_partials(*map(slope, range(function.__code__.co_argcount)))(function)


def _harmonic(a: Array, step: Array) -> Array:
    """The sum of exp(-(n + k) w)/(n + k) over k = 0, 1, ..., for n = 1/step and w = a/n.

    It is the integral of exp(-n x)/(1 - exp(-x)) over x > w: E1(a), and that of exp(-n x) G(x).
    """

    def term(place: _Place) -> Array:
        return place.decay * (1.0 + log_mean_decay_slope(step * (a + place.t)))

    return exponential_integral(a) + jnp.exp(-a) * step * _integral(term, a)


# ---- Poisson ----


def _poisson_parts(rate):
    large, none = rate > _large(rate), rate == 0
    return large, none, jnp.where(large | none, 1.0, rate), 1.0 / jnp.where(large, rate, 1.0)


@with_partials(lambda rate: _per_rate(_poisson_lift(rate), rate))
def _poisson_entropy(rate):
    """Stirling's series is here log(2 pi e m)/2 - 1/(12 m) - 1/(24 m^2)."""
    large, none, m, inverse = _poisson_parts(rate)
    kept = _integral(lambda at: -jnp.expm1(-m * at.s) * at.decay * at.g / at.s, m)
    some = kept - jnp.expm1(-m) + m * exponential_integral(m)
    log_m = jnp.log(jnp.where(large, rate, 1.0))
    series = 0.5 * (_LOG_2PI_E + log_m) - inverse * (1.0 / 12.0 + inverse / 24.0)
    return jnp.where(large, series, jnp.where(none, 0.0, some))


def _poisson_lift(rate):
    """The slope in log(rate), in general m E1(m) and the integral of m s phi G exp(-t)/s."""
    large, none, m, inverse = _poisson_parts(rate)
    kept = m * _integral(lambda at: jnp.exp(-m * at.s) * at.decay * at.g, m)
    series = 0.5 + inverse * (1.0 / 12.0 + inverse / 12.0)
    return jnp.where(large, series, jnp.where(none, 0.0, kept + m * exponential_integral(m)))


def poisson_entropy(rate: ArrayLike) -> Array:
    """The entropy of the Poisson of this mean, from 0 on (slope 0 there instead of infinity)."""
    return _poisson_entropy(*as_floats(rate))


_HIGHEST_LOG_RATE = 60.0  # from there on the series has one term


@with_partials(lambda log_rate: _poisson_lift(_rate(log_rate)))
def _poisson_log_rate_entropy(log_rate):
    over = jnp.where(log_rate > _HIGHEST_LOG_RATE, log_rate - _HIGHEST_LOG_RATE, 0.0)
    return _poisson_entropy(_rate(log_rate)) + 0.5 * over


def _rate(log_rate):
    return jnp.exp(jnp.where(log_rate > _HIGHEST_LOG_RATE, _HIGHEST_LOG_RATE, log_rate))


def poisson_log_rate_entropy(log_rate: ArrayLike) -> Array:
    """`poisson_entropy` of the rate's logarithm, of any size."""
    return _poisson_log_rate_entropy(*as_floats(log_rate))


# ---- binomial ----


def _binomial(n: Array, p: Array, log_p: Array, log_q: Array) -> Array:
    """For p <= 1/2, q = 1 - p."""
    q = 1.0 - p

    def both(place: _Place) -> Array:
        # A success is kept, less that one is and no failure: with 1 - s = (1 - q s)(1 - v).
        no_failure = p + q * place.decay
        v = p * place.s / no_failure
        near = v < 0.5
        far = -place.t - jnp.log(no_failure)
        log_rest = jnp.where(near, log1p(-jnp.where(near, v, 0.0)), far)
        only = -jnp.exp(n * log1p(-q * place.s)) * jnp.expm1(n * log_rest)
        some = -jnp.expm1(n * log1p(-p * place.s))
        return (some - only) * place.decay * place.g / place.s

    inner = _integral(both, p)
    step = divide(jnp.ones_like(n), n)
    successes = n * p * _harmonic(-n * log_q, step) - jnp.expm1(n * log_q)
    # From there on nothing is left, but n / p, by which it is multiplied in the slope, may be no float.
    none = terms(n, 110, 800)
    surely = -n * log_p
    surely = jnp.where(surely < none, surely, none)
    failures = n * q * _harmonic(surely, step) - jnp.exp(-surely)
    return inner + (successes + failures)


def _binomial_or_series(n: Array, p: Array, log_p: Array, log_q: Array) -> Array:
    """Stirling's series is here log(2 pi e n p q)/2 + (4 - 1/(p q))/(12 n)."""
    variance = n * p * (1.0 - p)
    large, none = variance > _large(n), (n == 0) | (p == 0)
    series = 0.5 * (_LOG_2PI_E + jnp.log(jnp.where(large, n, 1.0)) + log_p + log_q)
    correction = divide(4.0, jnp.where(large, n, 1.0)) - 1.0 / jnp.where(large, variance, 1.0)
    held = large | none
    half, log_half = 0.5, -math.log(2.0)
    safe = (
        jnp.where(held, x, y)
        for x, y in zip((1.0, half, log_half, log_half), (n, p, log_p, log_q), strict=True)
    )
    some = jnp.where(none, 0.0, _binomial(*safe))
    return jnp.where(large, series + correction / 12.0, some)


@_own_slopes
def _binomial_logits_entropy(n, logits):
    rare = jnp.where(logits > 0, -logits, logits)
    return _binomial_or_series(n, sigmoid(rare), log_sigmoid(rare), -softplus(rare))


def binomial_logits_entropy(n: ArrayLike, logits: ArrayLike) -> Array:
    """The entropy of the number of successes in n trials."""
    return _binomial_logits_entropy(*jnp.broadcast_arrays(*as_floats(n, logits)))


@_own_slopes
def _binomial_probs_entropy(n, p):
    rare = jnp.where(p > 0.5, 1.0 - p, p)
    safe = jnp.where(rare == 0, 1.0, rare)
    return _binomial_or_series(n, rare, jnp.log(safe), xlog1py(1.0, -rare))


def binomial_probs_entropy(n: ArrayLike, p: ArrayLike) -> Array:
    """`binomial_logits_entropy` of the probability, which may be 0 or 1 (slope 0 there)."""
    return _binomial_probs_entropy(*jnp.broadcast_arrays(*as_floats(n, p)))


# ---- negative binomial ----


def _curve(u: Array) -> Array:
    """(log1p(u) - u/(1 + u))/u^2, 1/2 at 0: how log1p(d x)/d falls with d."""
    near, far = u < 1e-3, u > 1.0
    v, w = jnp.where(near, u, 0.0), jnp.where(near, 1.0, u)
    series = jnp.zeros_like(u)
    for k in reversed(range(terms(u, 3, 7))):
        series = (-1.0) ** k * (k + 1.0) / (k + 2.0) + v * series
    middle = log1pmx(jnp.where(near | far, 0.5, u)) / w / w + 1.0 / (1.0 + w)
    outer = (jnp.log1p(w) - w / (1.0 + w)) / w / w
    return jnp.where(near, series, jnp.where(far, outer, middle))


@with_partials(
    lambda x, d: 1.0 / (1.0 + d * x),
    lambda x, d: -jnp.square(x) * _curve(d * x),
)
def _log_none(x, d):
    """log1p(d x)/d, x at d = 0: minus log(phi) for r = 1/d and x = m s."""
    near = d * x < 0.1 * jnp.finfo(x.dtype).eps
    return jnp.where(near, x, jnp.log1p(d * x) / jnp.where(near, 1.0, d))


def _dense(m: Array, d: Array) -> Array:
    """For d = 1/r <= 1."""
    tiny, fall = _dense_fall(d)

    def term(place: _Place) -> Array:
        return -jnp.expm1(-_log_none(m * place.s, d)) * fall(place) * place.g / place.s

    log_none = _log_none(m, d)
    outer = m * _dense_harmonic(log_none, d) - jnp.expm1(-log_none)
    return jnp.where(tiny, 0.5, 1.0) * jnp.log1p(d * m) + _integral(term, m) + outer


def _dense_lift(m: Array, d: Array) -> Array:
    """The slope of `_dense` in log m, r being held."""
    tiny, fall = _dense_fall(d)
    c = d * m

    def term(place: _Place) -> Array:
        none = jnp.exp(-_log_none(m * place.s, d))
        return none / (1.0 + c * place.s) * fall(place) * place.g

    rest = m * (_dense_harmonic(_log_none(m, d), d) + _integral(term, m))
    return jnp.where(tiny, 0.5, 1.0) * (c / (1.0 + c)) + rest


def _dense_fall(d: Array) -> tuple[Array, Callable[[_Place], Array]]:
    """exp(-t) - exp(-r t); without the second part, whose integral is log1p(d m)/2, where it ends below the
    first place.
    """
    tiny = d < (1e-8 if d.dtype == jnp.float32 else 1e-17)
    gap = 1.0 / jnp.where(tiny, 1.0, d) - 1.0
    return tiny, lambda at: at.decay * jnp.where(tiny, 1.0, -jnp.expm1(-gap * at.t))


def _dense_harmonic(log_none: Array, d: Array) -> Array:
    """With n = r + 1 and w = log1p(d m)."""
    return _harmonic((1.0 + d) * log_none, d / (1.0 + d))


def _sparse_fall(r: Array) -> Callable[[_Place], Array]:
    """(exp(-r t) - exp(-t))/t."""
    return lambda at: -jnp.exp(-r * at.t) * jnp.expm1(-(1.0 - r) * at.t) / at.t


def _sparse(r: Array, logits: Array) -> Array:
    """For r < 1. Beyond the highest logits the slope in them is 1 - k c^-r, with k from the slope there."""
    kept, rise = _risen(r, logits)
    c, log_q, fall = jnp.exp(kept), softplus(kept), _sparse_fall(r)
    some = -jnp.expm1(-r * log_q)

    def term(place: _Place) -> Array:
        return (-jnp.expm1(-r * jnp.log1p(c * place.s)) / place.s - some) * fall(place)

    lead = r * (log_q + c * softplus(-kept)) - some * jnp.log(r)
    slope = _sparse_slope(r, jnp.full_like(r, _highest_logits(r)))
    excess = _mean_excess(r * rise)
    return lead + _integral(term, r) + rise * (slope * (1.0 - excess) + excess)


def _sparse_lift(r: Array, logits: Array) -> Array:
    """The slope of `_sparse` in the logits."""
    kept, rise = _risen(r, logits)
    return _sparse_slope(r, kept) * jnp.exp(-r * rise) - jnp.expm1(-r * rise)


def _sparse_slope(r: Array, logits: Array) -> Array:
    c, log_q, fall = jnp.exp(logits), softplus(logits), _sparse_fall(r)
    last = sigmoid(logits) * jnp.exp(-r * log_q)

    def term(place: _Place) -> Array:
        odds = c * place.s
        return (c / (1.0 + odds) * jnp.exp(-r * jnp.log1p(odds)) - last) * fall(place)

    return r * (c * softplus(-logits) - last * jnp.log(r) + _integral(term, r))


def _risen(r: Array, logits: Array) -> tuple[Array, Array]:
    """The logits up to the highest, and by how much they are beyond."""
    top = _highest_logits(r)
    beyond = logits > top
    return jnp.where(beyond, top, logits), jnp.where(beyond, logits - top, 0.0)


def _mean_excess(u: Array) -> Array:
    """1 - (1 - exp(-u))/u for u >= 0."""
    near = u < 1.0
    series = horner(_MEAN_EXCESS, jnp.where(near, u, 0.0), 10)
    w = jnp.where(near, 1.0, u)
    return jnp.where(near, series, 1.0 + jnp.expm1(-w) / w)


def _highest_logits(x: Array) -> float:
    """Of those where 1/c still counts."""
    return terms(x, 20, 40)


def _cases(m: Array, d: Array, r: Array) -> tuple[Array, Array, Array, tuple[Array, Array]]:
    """Which have m = 0, r < 1, or a Stirling's series, and (m, d) of the others."""
    none, few = m == 0, r < 1.0
    large = (m > _large(m)) & (d * _large(m) < 1.0)
    held = few | large | none
    return none, few, large, (jnp.where(held, 1.0, m), jnp.where(held, 0.5, d))


def _negative_binomial(m: Array, log_m: Array, d: Array, r: Array, logits: Array) -> Array:
    """Of mean m, its logarithm, d = 1/r where that is at most 1, r elsewhere, and log(m/r).

    m itself has no more of the logits than the highest. Stirling's series is here log(2 pi e m (1 + c))/2
    - d/3 - 1/(12 m (1 + c)).
    """
    none, few, large, dense = _cases(m, d, r)
    sparse = _sparse(jnp.where(few, r, 0.5), jnp.where(few & ~none, logits, 0.0))
    correction = d / 3.0 + sigmoid(-logits) / (12.0 * jnp.where(large, m, 1.0))
    series = 0.5 * (_LOG_2PI_E + log_m + softplus(logits)) - correction
    some = jnp.where(large, series, _dense(*dense) + _risen(r, logits)[1])
    return jnp.where(none, 0.0, jnp.where(few, sparse, some))


def _negative_binomial_lift(m: Array, d: Array, r: Array, logits: Array) -> Array:
    """The slope in the logits, r being held."""
    none, few, large, dense = _cases(m, d, r)
    sparse = _sparse_lift(jnp.where(few, r, 0.5), jnp.where(few & ~none, logits, 0.0))
    p, q = sigmoid(logits), sigmoid(-logits)
    correction = q * (1.0 + p) / (12.0 * jnp.where(large, m, 1.0))
    over = logits > _highest_logits(m)
    some = jnp.where(large, 0.5 + 0.5 * p + correction, jnp.where(over, 1.0, _dense_lift(*dense)))
    return jnp.where(none, 0.0, jnp.where(few, sparse, some))


def _of_logits(r: Array, logits: Array) -> tuple[Array, ...]:
    """m, log m, d, r, logits."""
    top = _highest_logits(r)
    kept = jnp.where(logits > top, top, logits)
    # Where exp(logits) alone is below the floats r takes a part of it.
    shared = (r * math.exp(-64.0)) * jnp.exp(kept + 64.0)
    m = jnp.where(kept < -80.0, shared, r * jnp.exp(kept))
    return m, jnp.log(r) + logits, divide(1.0, jnp.where(r < 1.0, 1.0, r)), r, logits


def _of_probs(r: Array, p: Array) -> tuple[Array, ...]:
    none = p == 0
    safe = jnp.where(none, 0.5, p)
    m, log_odds = r * divide(safe, 1.0 - safe), logit(safe)
    d = divide(1.0, jnp.where(r < 1.0, 1.0, r))
    return jnp.where(none, 0.0, m), jnp.log(r) + log_odds, d, r, log_odds


def _of_dispersion(m: Array, log_m: Array, d: Array) -> tuple[Array, ...]:
    log_d = jnp.where(d == 0, -1e4, jnp.log(jnp.where(d == 0, 1.0, d)))  # exp of that is 0
    logits, top, few = log_m + log_d, _highest_logits(m), d > 1.0
    beyond = (logits > top) & (d * _large(m) >= 1.0)  # others have the series
    kept = jnp.where(beyond, divide(math.exp(top), jnp.where(beyond, d, 1.0)), m)
    r = divide(1.0, jnp.where(few, d, 1.0))
    return kept, log_m, jnp.where(few, 1.0, d), r, logits


def _of_rate(rate: Array, d: Array) -> tuple[Array, ...]:
    return _of_dispersion(rate, jnp.log(jnp.where(rate == 0, 1.0, rate)), d)


def _of_log_rate(log_rate: Array, d: Array) -> tuple[Array, ...]:
    # Larger ones are beyond the highest logits, or where the series has what counts.
    return _of_dispersion(_rate(log_rate), log_rate, d)


def _with_slopes(parts, lift_slope, lifted: int):
    """The entropy of two parameters, of which the logits move with one: its slope is the lift times `lift_slope`."""

    def entropy(*pair):
        return _negative_binomial(*parts(*pair))

    def own(*pair):
        m, _, d, r, logits = parts(*pair)
        return lift_slope(_negative_binomial_lift(m, d, r, logits), pair[lifted])

    def other(*pair):
        def moved(x):
            return entropy(x, pair[1]) if lifted else entropy(pair[0], x)

        x = pair[1 - lifted]
        return jax.jvp(moved, (x,), (jnp.ones_like(x),))[1]

    return with_partials(*((other, own) if lifted else (own, other)))(entropy)


def _per_probs(lift: Array, p: Array) -> Array:
    none = p == 0
    safe = jnp.where(none, 0.5, p)
    return jnp.where(none, 0.0, divide(divide(lift, safe), 1.0 - safe))


def _per_rate(lift: Array, rate: Array) -> Array:
    return jnp.where(rate == 0, 0.0, divide(lift, jnp.where(rate == 0, 1.0, rate)))


_of_logits_entropy = _with_slopes(_of_logits, lambda lift, _: lift, 1)
_of_probs_entropy = _with_slopes(_of_probs, _per_probs, 1)
_of_rate_entropy = _with_slopes(_of_rate, _per_rate, 0)
_of_log_rate_entropy = _with_slopes(_of_log_rate, lambda lift, _: lift, 0)


def negative_binomial_entropy(r: ArrayLike, logits: ArrayLike) -> Array:
    """The entropy of `negative_binomial_log_mass`, for r > 0 and logits of any size."""
    return _of_logits_entropy(*jnp.broadcast_arrays(*as_floats(r, logits)))


def negative_binomial_probs_entropy(r: ArrayLike, p: ArrayLike) -> Array:
    """`negative_binomial_entropy` of the probability, from 0 on (slope 0 there instead of infinity)."""
    return _of_probs_entropy(*jnp.broadcast_arrays(*as_floats(r, p)))


def negative_binomial_dispersed_entropy(rate: ArrayLike, dispersion: ArrayLike) -> Array:
    """`negative_binomial_entropy` of the mean, from 0 on, and 1/r. At 0 it is the Poisson's."""
    return _of_rate_entropy(*jnp.broadcast_arrays(*as_floats(rate, dispersion)))


def negative_binomial_dispersed_log_rate_entropy(
    log_rate: ArrayLike, dispersion: ArrayLike
) -> Array:
    """`negative_binomial_dispersed_entropy` of the mean's logarithm, of any size."""
    return _of_log_rate_entropy(*jnp.broadcast_arrays(*as_floats(log_rate, dispersion)))
