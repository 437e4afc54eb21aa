"""The logistic normal's log-density whose logarithms and squares cancel: sums of pairs of floats.

Conventions: over the last axis, in float32 or wider; NaN in gives NaN out; all x_k and s_i > 0.

Source: Aitchison and Shen (1980), "Logistic-normal distributions: some properties and uses".
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics.logspace import as_floats, divide
from likelax.numerics.pairs import (
    Pair,
    half_square,
    log_quotient,
    pair_minus,
    pair_sum,
    pair_total,
    rounded,
    standardized_log,
    standardized_log_pair,
    word,
)

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def _log_product(x: Array) -> Pair:
    """sum log x, to twice the digits of its terms."""
    return pair_total(log_quotient(x, jnp.ones_like(x)))


@jax.custom_jvp
def _log_pdf(x: Array, loc: Array, s: Array) -> Array:
    z = standardized_log_pair(x[..., :-1], jnp.broadcast_to(x[..., -1:], s.shape), loc, s)
    constant = word(jnp.full(s.shape[:-1], s.shape[-1] * _HALF_LOG_2PI, s.dtype))
    square = pair_total(half_square(z))
    return rounded(pair_minus(pair_sum(_log_product(x), _log_product(s), square, constant)))


@_log_pdf.defjvp
def _log_pdf_jvp(primals, tangents):
    def ratios(x, loc, s):
        return standardized_log(x[..., :-1], x[..., -1:], loc, s)

    (x, _, s), (dx, _, ds) = primals, tangents
    z, dz = jax.jvp(ratios, primals, tangents)
    moved = jnp.sum(z * dz, axis=-1) + jnp.sum(divide(dx, x), axis=-1)
    return _log_pdf(*primals), -(moved + jnp.sum(divide(ds, s), axis=-1))


def logistic_normal_log_pdf(x: ArrayLike, loc: ArrayLike, scale: ArrayLike) -> Array:
    """sum_i [log phi(z_i) - log scale_i] - sum_k log x_k, z_i = (log(x_i / x_K) - loc_i) / scale_i, for x
    (..., K), loc and scale (..., K - 1).
    """
    x, loc, s = as_floats(x, loc, scale)
    batch = jnp.broadcast_shapes(x.shape[:-1], loc.shape[:-1], s.shape[:-1])
    return _log_pdf(*(jnp.broadcast_to(v, (*batch, v.shape[-1])) for v in (x, loc, s)))
