"""A Logistic kept to an interval, in closed forms of the distance from the end that is nearer to loc.

With a <= z <= h = a + w in units of the scale, reflected so that the midpoint is not negative, and s the
sigmoid, s(z) - s(a) = s(-a) s(z) (1 - exp(-(z - a))): ratios of masses need no tail by itself.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics.logspace import (
    as_floats,
    divide,
    log1mexp,
    log1p,
    log_complements,
    log_mean_decay,
    log_sigmoid,
    sigmoid,
    softplus,
)


def _fall(a: Array, z: Array, t: Array) -> Array:
    """log s(-z) - log s(-a), t = z - a."""
    across = a < 0
    far = softplus(-jnp.where(across, 0.0, a)) - softplus(-z) - jnp.where(across, 0.0, t)
    return jnp.where(across, softplus(jnp.where(across, a, 0.0)) - softplus(z), far)


def _log_part(t: Array, w: Array) -> Array:
    """log((1 - exp(-t)) / (1 - exp(-w))), 0 < t <= w; w may be infinite."""
    near, endless = w < 1, jnp.isinf(w)
    t_in, w_in = jnp.where(near, t, 1.0), jnp.where(near, w, 1.0)
    level = jnp.log(divide(t_in, w_in)) + (log_mean_decay(t_in) - log_mean_decay(w_in))
    far = log1mexp(jnp.where(near | jnp.isinf(t), 1.0, t))
    far = jnp.where(jnp.isinf(t), 0.0, far)
    whole = jnp.where(endless, 0.0, log1mexp(jnp.where(near | endless, 1.0, w)))
    return jnp.where(near, level, far - whole)


def _reflected(low: Array, high: Array, loc: Array, scale: Array) -> tuple[Array, ...]:
    """(flip, a, length, w, h)."""
    flip = (low - loc) + (high - loc) < 0
    start, stop = jnp.where(flip, loc - high, low - loc), jnp.where(flip, loc - low, high - loc)
    length = high - low
    # What is infinite has no slope, in the scale neither.
    a, w, h = (
        jnp.where(jnp.isinf(x), x, divide(jnp.where(jnp.isinf(x), 0.0, x), scale))
        for x in (start, length, stop)
    )
    return flip, a, length, w, h


def _distances(x, low, high, loc, scale, flip):
    """z, z - a and h - z."""
    below, above = jnp.where(flip, high - x, x - low), jnp.where(flip, x - low, high - x)
    t, u = (
        jnp.where(jnp.isinf(d), d, divide(jnp.where(jnp.isinf(d), 0.0, d), scale))
        for d in (below, above)
    )
    return divide(jnp.where(flip, loc - x, x - loc), scale), t, u


def _log_sigmoid(h: Array) -> Array:
    endless = jnp.isinf(h)
    return jnp.where(endless, 0.0, log_sigmoid(jnp.where(endless, 0.0, h)))


def truncated_logistic_log_pdf(
    x: ArrayLike, low: ArrayLike, high: ArrayLike, loc: ArrayLike, scale: ArrayLike
) -> Array:
    """log of the density at x of a Logistic(loc, scale) kept to [low, high], low <= x <= high."""
    x, low, high, loc, scale = as_floats(x, low, high, loc, scale)
    flip, a, length, w, h = _reflected(low, high, loc, scale)
    z, t, _ = _distances(x, low, high, loc, scale, flip)
    near, endless = w < 1, jnp.isinf(w)
    level = jnp.log(jnp.where(near, length, 1.0)) + log_mean_decay(jnp.where(near, w, 1.0))
    wide = jnp.where(endless, 0.0, log1mexp(jnp.where(near | endless, 1.0, w))) + jnp.log(scale)
    size = jnp.where(near, level, wide)
    return _fall(a, z, t) + (log_sigmoid(z) - _log_sigmoid(h)) - size


def truncated_logistic_log_tails(
    x: ArrayLike, low: ArrayLike, high: ArrayLike, loc: ArrayLike, scale: ArrayLike
) -> tuple[Array, Array]:
    """log P(X <= x) and log P(X > x) of a Logistic(loc, scale) kept to [low, high], low < x < high."""
    x, low, high, loc, scale = as_floats(x, low, high, loc, scale)
    flip, a, _, w, h = _reflected(low, high, loc, scale)
    z, t, u = _distances(x, low, high, loc, scale, flip)
    near = (log_sigmoid(z) - _log_sigmoid(h)) + _log_part(t, w)
    far = _fall(a, z, t) + _log_part(u, w)
    near, far = log_complements(near, far)
    return jnp.where(flip, far, near), jnp.where(flip, near, far)


def truncated_logistic_quantile(
    q: ArrayLike, low: ArrayLike, high: ArrayLike, loc: ArrayLike, scale: ArrayLike
) -> Array:
    """The x with P(X <= x) = q, 0 < q < 1, of a Logistic(loc, scale) kept to [low, high]."""
    q, low, high, loc, scale = as_floats(q, low, high, loc, scale)
    flip, a, _, w, h = _reflected(low, high, loc, scale)
    lower, upper = jnp.where(flip, 1.0 - q, q), jnp.where(flip, q, 1.0 - q)
    endless = jnp.isinf(w)
    beside = a > -1
    # K = s(h) (1 - exp(-w)) and 1 - K; exp(-t) = (1 - q K) / (1 + q K exp(-a)).
    w_in = jnp.where(endless, 1.0, w)
    h_in = jnp.where(jnp.isinf(h), 0.0, h)
    part = jnp.where(endless, 1.0, sigmoid(h_in) * -jnp.expm1(-w_in))
    rest = jnp.where(endless, 0.0, sigmoid(-h_in) + sigmoid(h_in) * jnp.exp(-w_in))
    taken = lower * part
    few = taken < 0.5
    left = -jnp.log(jnp.where(few, 1.0, upper + lower * rest))
    left = jnp.where(few, -log1p(-jnp.where(few, taken, 0.0)), left)
    t = log1p(taken * jnp.exp(-jnp.where(beside, a, 0.0))) + left
    # Across loc the odds of the two tails.
    a_in = jnp.where(beside | jnp.isinf(a), -1.0, a)
    below, above = (jnp.where(jnp.isinf(a), 0.0, sigmoid(s * a_in)) for s in (1.0, -1.0))
    above = jnp.where(jnp.isinf(a), 1.0, above)
    mass = above * part
    z = jnp.log(below + lower * mass)
    z = z - jnp.log(jnp.where(jnp.isinf(h), 0.0, sigmoid(-h_in)) + upper * mass)
    place = scale * jnp.where(beside, t, z)
    start = jnp.where(beside, jnp.where(flip, high, low), loc)
    x = jnp.where(flip, start - place, start + place)
    return jnp.where(x < low, low, jnp.where(x > high, high, x))
