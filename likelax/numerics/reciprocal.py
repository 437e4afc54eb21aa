"""The inverse Gamma: a Gamma's variable y = s / x, whose rounding a large shape would magnify.

Conventions as in `densities`: element by element, x > 0, parameters > 0, float32 or wider.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._rules import with_partials
from likelax.numerics.deviance import gap_deviance, log_ratio
from likelax.numerics.gamma import digamma_minus_log, lgamma, stirling, trigamma
from likelax.numerics.incomplete import log_gammainc, log_gammaincc
from likelax.numerics.logspace import as_floats, divide
from likelax.numerics.pairs import (
    log_quotient,
    pair_minus,
    pair_over,
    pair_sum,
    pair_times,
    rounded,
    word,
)

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


@with_partials(
    lambda x, a, s: -divide(divide(s, x), x),
    lambda x, a, s: -jnp.ones_like(x),
    lambda x, a, s: divide(1.0, x),
)
def _gap(x, a, s):
    """s / x - a."""
    high, low = pair_over(word(s), x)
    return (high - a) + low


@with_partials(
    lambda x, a, s: -divide(1.0, x),
    lambda x, a, s: -trigamma(a),
    lambda x, a, s: divide(1.0, s),
)
def _slope_a(x, a, s):
    # log(s / x) - digamma(a); the ratio to a itself where neither is far off.
    y = s / x
    near = (y > 0.5 * a) & (y < 2.0 * a)
    ratio = -log_ratio(a, jnp.where(near, y, a), jnp.where(near, _gap(x, a, s), 0.0))
    far = rounded(pair_sum(log_quotient(s, x), pair_minus(log_quotient(a, jnp.ones_like(a)))))
    return jnp.where(near, ratio, far) - digamma_minus_log(a)


@with_partials(
    lambda x, a, s: divide(_gap(x, a, s) - 1.0, x),
    _slope_a,
    lambda x, a, s: -divide(_gap(x, a, s), s),
)
def _inverse_gamma(x, a, s):
    y, one = s / x, jnp.ones_like(x)
    low = (a < 2.0) | (y < jnp.finfo(y.dtype).tiny)
    plain = rounded(
        pair_sum(
            word(-y),
            pair_times(a, log_quotient(s, x)),
            log_quotient(a, x),
            word(-lgamma(a + 1.0)),
        )
    )
    c, m = jnp.where(low, 2.0, a), jnp.where(low, 2.0, y)
    saddle = rounded(
        pair_sum(
            word(-gap_deviance(c, m, jnp.where(low, 0.0, _gap(x, a, s)))),
            pair_minus(log_quotient(x, one)),
            pair_times(0.5 * one, log_quotient(c, one)),
            word(-stirling(0, from_one=True)(c) - _HALF_LOG_2PI),
        )
    )
    return jnp.where(low, plain, saddle)


def inverse_gamma_log_pdf(x: ArrayLike, concentration: ArrayLike, scale: ArrayLike) -> Array:
    """log of scale^a x^(-a-1) exp(-scale / x) / Gamma(a), for x > 0, a = concentration > 0, scale > 0.

    From a = 2 on -delta(a) - D(a, y) + log(a / 2 pi) / 2 - log x, y = scale / x, with y - a
    error-free (Loader 2000); below the plain form.
    """
    return _inverse_gamma(*jnp.broadcast_arrays(*as_floats(x, concentration, scale)))


def _tail(log_tail: Callable, x: ArrayLike, a: ArrayLike, s: ArrayLike) -> Array:
    x, a, s = jnp.broadcast_arrays(*as_floats(x, a, s))
    info = jnp.finfo(x.dtype)
    y = jnp.clip(divide(s, x), info.tiny, info.max)
    low = jax.lax.stop_gradient(pair_over(word(s), x)[1])
    # The value at y as it is rounded, and what its low word adds.
    value, step = jax.jvp(lambda y: log_tail(a, y), (y,), (low,))
    return value + jax.lax.stop_gradient(jnp.where(jnp.isfinite(step), step, 0.0))


def inverse_gamma_log_cdf(x: ArrayLike, concentration: ArrayLike, scale: ArrayLike) -> Array:
    """log Q(a, scale / x)."""
    return _tail(log_gammaincc, x, concentration, scale)


def inverse_gamma_log_survival(x: ArrayLike, concentration: ArrayLike, scale: ArrayLike) -> Array:
    """log P(a, scale / x)."""
    return _tail(log_gammainc, x, concentration, scale)
