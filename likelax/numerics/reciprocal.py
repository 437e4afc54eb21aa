"""The inverse Gamma, and the Gamma's tails: y = s / x or rate x, whose rounding a large shape magnifies.

Conventions as in `densities`: element by element, x > 0, parameters > 0, float32 or wider.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._rules import with_partials
from likelax.numerics.deviance import gap_deviance, log_ratio, product_gap
from likelax.numerics.gamma import (
    digamma,
    digamma_minus_log,
    lgamma,
    lgamma1p,
    stirling,
    trigamma,
)
from likelax.numerics.incomplete import log_gamma_tails_of_pair
from likelax.numerics.logspace import as_floats, divide, log1mexp
from likelax.numerics.pairs import (
    log_over,
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


# ---- tails ----


@with_partials(lambda s: digamma(1.0 + s))
def _lgamma1p(s):
    return lgamma1p(s)


def _tails(a: Array, y: Array, low: Array, log_y: Array) -> tuple[Array, Array]:
    """log P(a, y + low) and log Q(a, y + low); where y underflows, or next to the end of the floats, by its
    logarithm.
    """
    info = jnp.finfo(y.dtype)
    lost, endless = y < info.tiny, y > float(info.max) / 16
    # P(a, y) is y^a / Gamma(a + 1) there.
    few = a < 1.0
    log_gamma = _lgamma1p(jnp.where(few, a, 0.0)), lgamma(jnp.where(few, 2.0, a + 1.0))
    log_p = a * jnp.where(lost, log_y, 0.0) - jnp.where(few, *log_gamma)
    log_q = log1mexp(jnp.where(lost, -log_p, 1.0))
    # Q(a, y) is the density there, to far less than a float's digits.
    density = jnp.where(endless, (a - 1.0) * log_y - y, 0.0) - lgamma(a)
    out = lost | endless
    rest = jnp.where(out | ~jnp.isfinite(low), 0.0, low)
    lower, upper = log_gamma_tails_of_pair(
        jnp.where(endless, 1.0, a), jnp.where(out, 1.0, y), jax.lax.stop_gradient(rest)
    )
    lower = jnp.where(lost, log_p, jnp.where(endless, 0.0, lower))
    return lower, jnp.where(lost, log_q, jnp.where(endless, density, upper))


def gamma_log_tails(x: ArrayLike, concentration: ArrayLike, rate: ArrayLike) -> tuple[Array, Array]:
    """log P(a, rate x) and log Q(a, rate x), x > 0, a = concentration > 0, with the rounding of the
    product kept.
    """
    x, a, rate = jnp.broadcast_arrays(*as_floats(x, concentration, rate))
    y = rate * x
    return _tails(a, y, product_gap(rate, x, y), jnp.log(rate) + jnp.log(x))


def inverse_gamma_log_tails(
    x: ArrayLike, concentration: ArrayLike, scale: ArrayLike
) -> tuple[Array, Array]:
    """log Q(a, scale / x) and log P(a, scale / x), x > 0, a = concentration > 0, with the rounding of the
    quotient kept: the lower tail of x, and the upper one.
    """
    x, a, s = jnp.broadcast_arrays(*as_floats(x, concentration, scale))
    # In larger units, in which the products of the halves are floats.
    unit = jnp.where((x < 2.0**-60) & (s < 2.0**40), 2.0**60, 1.0)
    low = pair_over(word(s * unit), x * unit)[1]
    lower, upper = _tails(a, divide(s, x), low, log_over(s, x))
    return upper, lower
