"""The probability of an interval, for what is rounded to bins or kept between two ends."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from likelax._pytree import Array
from likelax.distributions.base import Distribution
from likelax.numerics.logspace import log_sub_exp, logsumexp

_LOG_2 = math.log(2)

# The rule of 7 nodes of Gauss and the one of 15 of Kronrod that holds its nodes, on [-1, 1]: half of
# the nodes, from the outermost to 0. Source: Piessens et al. (1983), QUADPACK.
_NODES: tuple[float, ...] = (
    0.99145537112081264,
    0.94910791234275852,
    0.86486442335976907,
    0.74153118559939444,
)
_NODES += (0.58608723546769113, 0.40584515137739717, 0.20778495500789847, 0.0)
_KRONROD: tuple[float, ...] = (
    0.022935322010529225,
    0.063092092629978553,
    0.10479001032225018,
    0.14065325971552592,
)
_KRONROD += (0.1690047266392679, 0.19035057806478541, 0.20443294007529889, 0.20948214108472783)
_GAUSS: tuple[float, ...] = (0.0, 0.12948496616886969, 0.0, 0.27970539148927667)
_GAUSS += (0.0, 0.38183005050511894, 0.0, 0.41795918367346939)

_COUNTED = 15  # whole numbers that are summed one by one


def log_interval_prob(base: Distribution, low: Array, width: Array | float) -> Array:
    """log P(low < X <= low + width) in nats, of the shape of `base.log_prob(low)`.

    A base that has a method `log_interval_prob(low, width)` is asked (Normal, Logistic, Laplace,
    mixtures); for any other see `log_between`.
    """
    own = getattr(base, "log_interval_prob", None)
    return log_between(base, low, low + width, width) if own is None else own(low, width)


def log_between(base: Distribution, low: Array, high: Array, width: Array | float) -> Array:
    """log P(low < X <= high), for width = high - low.

    A difference of two cdf values or two survival values, of those in the nearer tail, has its digits where
    the interval holds at least half of that tail. Of a narrower one they cancel: there it is what the
    base's own `log_interval_prob` says, or the integral of the density by Kronrod's rule where that
    errs by less than the difference does (Gauss's rule tells), or, of up to 15 whole numbers, their sum.
    """
    below, above = _stacked_tails(base, low, high)
    return _from_tails(base, low, high, width, (below[0], above[0]), (below[1], above[1]))


def log_between_three(
    base: Distribution, low: ArrayLike, middle: Array, high: ArrayLike
) -> tuple[Array, Array, Array]:
    """log P(low < X <= middle), log P(middle < X <= high) and log P(low < X <= high)."""
    points = jnp.stack(jnp.broadcast_arrays(low, middle, high))
    below, above = _stacked_tails(base, *points)
    starts, stops = np.array([0, 1, 0]), np.array([1, 2, 2])
    low, high = points[starts], points[stops]
    tails = (below[starts], above[starts]), (below[stops], above[stops])
    return tuple(_from_tails(base, low, high, high - low, *tails))


def _stacked_tails(base: Distribution, *points: ArrayLike) -> tuple[Array, Array]:
    """Both log tails at all points, which are on a first axis: those of many a base are long programs,
    to be compiled once.
    """
    shape = jnp.broadcast_shapes(*map(jnp.shape, points), base.batch_shape)
    at = jnp.stack([jnp.broadcast_to(point, shape) for point in points])
    if base._stands_for("_log_tails", "log_cdf", "log_survival"):
        return base._log_tails(at)
    return base.log_cdf(at), base.log_survival(at)


def _from_tails(
    base: Distribution,
    low: Array,
    high: Array,
    width: Array | float,
    at_low: tuple[Array, Array],
    at_high: tuple[Array, Array],
) -> Array:
    """`log_between` given the log tails, the lower and the upper one, at both ends."""
    if base.support.is_discrete:
        low, high = jnp.floor(low), jnp.floor(high)
        width = high - low
    (lower_tail, log_above), (log_below, upper_tail) = at_low, at_high
    # Of ends that are neighbours, rounding may have put the tails in the wrong order.
    lower = log_sub_exp(log_below, jnp.minimum(lower_tail, log_below))
    upper = log_sub_exp(log_above, jnp.minimum(upper_tail, log_above))
    apart = jnp.where(log_below < log_above, lower, upper)
    tail = jax.lax.stop_gradient(jnp.minimum(log_below, log_above))
    narrow = jax.lax.stop_gradient(apart) < tail - _LOG_2
    # The branch that is not taken is kept to numbers, for its gradient's sake.
    width = jnp.where(narrow & jnp.isfinite(width), width, 1)
    low = jnp.where(narrow & jnp.isfinite(low), low, 0)
    base = base._held_by(narrow)
    own = getattr(base, "log_interval_prob", None)
    if own is not None:
        return jnp.where(narrow, own(low, width), apart)
    if base.support.is_discrete:
        return jnp.where(narrow & (width <= _COUNTED), _log_sum(base, low, width), apart)
    near, off = _log_integral(base, low, width)
    lost = jnp.finfo(near.dtype).eps * (1 + jnp.abs(tail)) * jnp.exp(tail - near)
    return jnp.where(narrow & (off <= jax.lax.stop_gradient(lost)), near, apart)


def _log_sum(base: Distribution, low: Array, width: Array) -> Array:
    """log P(low < X <= low + width) of whole numbers, the first 15 of them."""
    shape = jnp.broadcast_shapes(jnp.shape(low), jnp.shape(width), base.batch_shape)
    step = jnp.arange(1, _COUNTED + 1, dtype=low.dtype).reshape(-1, *[1] * len(shape))
    return logsumexp(jnp.where(step <= width, base.log_prob(low + step), -jnp.inf), axis=0)


def _log_integral(base: Distribution, low: Array, width: Array) -> tuple[Array, Array]:
    """The logarithm of the integral of the density over [low, low + width], by Kronrod's rule, and
    how far Gauss's is from it, relatively.
    """
    nodes, kronrod, gauss = (
        np.concatenate([sign * np.array(half), half[-2::-1]])
        for sign, half in ((-1, _NODES), (1, _KRONROD), (1, _GAUSS))
    )
    # In units of the width, where the logarithms of 1e±20 that a density and a width have would cancel.
    shape = jnp.broadcast_shapes(jnp.shape(low), jnp.shape(width), base.batch_shape)
    if base._stands_for("_in_units", "log_prob"):
        base, unit = base._in_units(jnp.broadcast_to(width, shape))
        low, width = low / unit, width / unit
    column = (-1, *[1] * len(shape))
    at = ((1 + nodes) / 2).astype(low.dtype).reshape(column)
    log_density = base.log_prob(low + width * at)
    log_kronrod = logsumexp(log_density + np.log(kronrod).astype(low.dtype).reshape(column), axis=0)
    shares = jnp.exp(log_density - log_kronrod)
    off = jnp.abs(1 - jnp.sum(shares * gauss.astype(low.dtype).reshape(column), axis=0))
    return log_kronrod + jnp.log(width / 2), jax.lax.stop_gradient(off)
