"""Relaxed (Concrete) log-densities: softened draws of bits and of one-hot vectors.

A temperature T multiplies the rounding of log x, and the density is small against both T log x and
log x where they meet. The exponents are therefore pairs of floats (`pairs`). Slopes are short
formulas in functions that have rules of their own.

Conventions of the whole file: broadcasting, in float32 or wider; NaN in gives NaN out; 0 < x < 1, or
all x_i > 0 on the simplex, temperatures > 0. A logit may be infinite, where nothing has a slope.

Source: Maddison, Mnih and Teh (2017), "The Concrete distribution", definition 1 and appendix B; Jang,
Gu and Poole (2017), "Categorical reparameterization with Gumbel-softmax".
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._rules import with_partials
from likelax.numerics.gamma import lgamma
from likelax.numerics.indexing import whole
from likelax.numerics.logspace import as_floats, divide, logit, sigmoid, tanh
from likelax.numerics.pairs import (
    Pair,
    exp_to_pair,
    log_over,
    log_quotient,
    pair_minus,
    pair_sum,
    pair_times,
    pair_total,
    rounded,
    two_sum,
    word,
)

# ---- bits: z = T logit(x) - l ----


def _co(x) -> Pair:
    """1 - x."""
    return two_sum(jnp.ones_like(x), -x)


def _log_over_co(x, high, low) -> Pair:
    """log of x over 1 - x = high + low."""
    return pair_sum(log_quotient(x, high), word(-low / high))


def _noise_pair(x, t, l) -> Pair:
    return pair_sum(pair_times(t, _log_over_co(x, *_co(x))), word(-l))


@with_partials(
    lambda x, t, l: divide(divide(t, x), 1.0 - x),
    lambda x, t, l: logit(x),
    lambda x, t, l: -jnp.ones_like(x),
)
def _noise(x, t, l):
    return rounded(_noise_pair(x, t, l))


def relaxed_noise(x: ArrayLike, temperature: ArrayLike, logits: ArrayLike) -> Array:
    """T logit(x) - logits, the logistic noise that makes x = sigmoid((logits + noise) / T)."""
    return _noise(*jnp.broadcast_arrays(*as_floats(x, temperature, logits)))


def _bit_slope_x(x, t, l):
    # (2x - 1 - T tanh(z/2)) / (x (1 - x)), whose terms cancel at T = 1 near an end.
    z = _noise(x, t, l)
    below = (t - 1.0) + 2.0 * x - 2.0 * t * sigmoid(z)
    above = (1.0 - t) - 2.0 * (1.0 - x) + 2.0 * t * sigmoid(-z)
    middle = (2.0 * x - 1.0) - t * tanh(0.5 * z)
    numerator = jnp.where(jnp.abs(z) < 1.0, middle, jnp.where(z < 0, below, above))
    return divide(divide(numerator, x), 1.0 - x)


@with_partials(
    _bit_slope_x,
    lambda x, t, l: divide(1.0, t) - logit(x) * tanh(0.5 * _noise(x, t, l)),
    lambda x, t, l: tanh(0.5 * _noise(x, t, l)),
)
def _bit(x, t, l):
    high, low = _noise_pair(x, t, l)
    sign = -jnp.sign(high)
    bend = -2.0 * jnp.log1p(jnp.exp(-jnp.abs(high)))
    rest = pair_sum(_log_over_co(t, *_co(x)), pair_minus(log_quotient(x, jnp.ones_like(x))))
    return rounded(pair_sum((sign * high, sign * low), rest, word(bend)))


def relaxed_bernoulli_log_pdf(x: ArrayLike, temperature: ArrayLike, logits: ArrayLike) -> Array:
    """log T - log x - log(1 - x) + log s(z) + log s(-z), z = T logit(x) - logits, s the sigmoid."""
    return _bit(*jnp.broadcast_arrays(*as_floats(x, temperature, logits)))


# ---- one-hot vectors: v_i = l_i - T log x_i, over the last axis ----


def _top(x, t, l):
    """Where v is largest (about)."""
    v = l - t * jnp.log(x)
    return jnp.arange(x.shape[-1]) == jnp.argmax(v, axis=-1, keepdims=True)


def _at(top, along):
    return jnp.sum(jnp.where(top, along, 0.0), axis=-1, keepdims=True)


def _tilt(x, t, l, top) -> Pair:
    """v less that at the top."""
    l_top = _at(top, l)
    l_top = jnp.where(jnp.isfinite(l_top), l_top, 0.0)
    fall = pair_times(t, log_quotient(x, jnp.broadcast_to(_at(top, x), x.shape)))
    return pair_sum(two_sum(l, -l_top), pair_minus(fall))


def _moved(x, t, l, dx, dt, dl):
    """The tangent of v, but for a constant: in T it is -log(x_i / x_top)."""
    dv = dl - log_over(x, _at(_top(x, t, l), x)) * dt - divide(t * dx, x)
    return jnp.where(l == -jnp.inf, 0.0, dv)


@jax.custom_jvp
def _share(x, t, l):
    """softmax(v)."""
    each = jnp.exp(rounded(_tilt(x, t, l, _top(x, t, l))))
    return each / jnp.sum(each, axis=-1, keepdims=True)


@_share.defjvp
def _share_jvp(primals, tangents):
    share, dv = _share(*primals), _moved(*primals, *tangents)
    return share, share * (dv - jnp.sum(share * dv, axis=-1, keepdims=True))


@jax.custom_jvp
def _pull(x, t, l):
    """1 - K softmax(v), to a few ulp of itself."""
    each = exp_to_pair(_tilt(x, t, l, _top(x, t, l)))
    high, low = (part[..., None] for part in pair_total(each))
    return rounded(pair_sum((high, low), pair_times(-x.shape[-1] * jnp.ones_like(x), each))) / high


@_pull.defjvp
def _pull_jvp(primals, tangents):
    share, dv = _share(*primals), _moved(*primals, *tangents)
    change = share * (dv - jnp.sum(share * dv, axis=-1, keepdims=True))
    return _pull(*primals), -change * dv.shape[-1]


@jax.custom_jvp
def _one_hot(x, t, l):
    k = x.shape[-1]
    top = _top(x, t, l)
    d = _tilt(x, t, l, top)
    # T counts K - 1 times.
    lean = pair_total(pair_sum(d, log_quotient(jnp.where(top, 1.0, t), x)))
    log_total = jnp.log(jnp.sum(jnp.exp(rounded(d)), axis=-1))
    return rounded(pair_sum(lean, word(lgamma(jnp.asarray(k, x.dtype)) - k * log_total)))


@_one_hot.defjvp
def _one_hot_jvp(primals, tangents):
    (x, t, l), (dx, dt, dl) = primals, tangents
    k = x.shape[-1]
    dv = _moved(x, t, l, dx, dt, dl)
    fixed = divide((k - 1.0) * dt[..., 0], t[..., 0])
    return _one_hot(x, t, l), fixed + jnp.sum(_pull(x, t, l) * dv - divide(dx, x), axis=-1)


def relaxed_one_hot_log_pdf(x: ArrayLike, temperature: ArrayLike, logits: ArrayLike) -> Array:
    """log (K-1)! + (K-1) log T - sum_i log x_i + sum_i [v_i - log sum exp v], v_i = l_i - T log x_i, over
    the last axis; x and logits l `(..., K)`, temperature `(...)`.
    """
    x, t, l = as_floats(x, jnp.asarray(temperature)[..., None], logits)
    return _one_hot(*jnp.broadcast_arrays(whole(x), t, whole(l)))
