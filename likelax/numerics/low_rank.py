"""Normals whose covariance is W W^T + diag(d), without that matrix.

With s = sqrt(d) the thin QR factors [Q1; Q2] R of [W/s; I], whose columns are independent whatever W
is, hold all that is wanted: Q2 is R^-1, log|covariance| is sum log d + 2 sum log |R_ii|, and

    x^T covariance^-1 x = min over y of |(x - W y)/s|^2 + |y|^2,    y = Q2 Q1^T (x/s),

two sums of squares, from which nothing is taken away. An error in y counts by its square only, and the
slopes are those at y held. So the rules below have no QR differentiated; second derivatives have.

Source: Golub and Van Loan, Matrix Computations, 4th edition, 5.3 (least squares by QR).
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics.deviance import product_gap
from likelax.numerics.logspace import as_floats, divide, standardize
from likelax.numerics.pairs import Pair, pair_sum, rounded, two_sum


def _times(matrix: Array, vector: Array) -> Array:
    return jnp.einsum("...nr,...r->...n", matrix, vector, precision="highest")


def _times_transposed(matrix: Array, vector: Array) -> Array:
    return jnp.einsum("...nr,...n->...r", matrix, vector, precision="highest")


def _factors(w: Array, s: Array) -> tuple[Array, Array, Array]:
    """Q1, Q2 and the absolute diagonal of R."""
    size, rank = w.shape[-2:]
    scaled = divide(w, s[..., None])
    identity = jnp.broadcast_to(jnp.eye(rank, dtype=w.dtype), (*scaled.shape[:-2], rank, rank))
    q, r = jnp.linalg.qr(jnp.concatenate([scaled, identity], axis=-2))
    diagonal = jnp.abs(jnp.diagonal(r, axis1=-2, axis2=-1))
    return q[..., :size, :], q[..., size:, :], diagonal


def _residual(x: Array, loc: Array, w: Array, y: Array) -> Array:
    """x - loc - W y, rounded once: each product and sum in two floats."""

    def take_away(pair: Pair, column: tuple[Array, Array]) -> tuple[Pair, None]:
        factor, score = column
        product = factor * score
        return pair_sum(pair, (product, product_gap(factor, score, product))), None

    high, low = two_sum(x, -loc)
    shape = jnp.broadcast_shapes(high.shape, (*y.shape[:-1], 1))
    start = jnp.broadcast_to(high, shape), jnp.broadcast_to(low, shape)
    columns = jnp.moveaxis(w, -1, 0), -jnp.moveaxis(y, -1, 0)[..., None]
    return rounded(jax.lax.scan(take_away, start, columns, unroll=8)[0])


def _least_squares(x: Array, loc: Array, w: Array, s: Array) -> tuple[Array, Array]:
    """y and z = (x - loc - W y)/s, z to its own digits where x - loc is much longer."""
    q1, q2, _ = _factors(w, s)
    y = _times(q2, _times_transposed(q1, standardize(x, loc, s)))
    z = divide(_residual(x, loc, w, y), s)
    # What y's rounding has put into z is what of (z, -y) is not orthogonal to the factors.
    miss = _times_transposed(q1, z) - _times_transposed(q2, y)
    return y + _times(q2, miss), z - _times(q1, miss)


@jax.custom_jvp
def _square(x: Array, loc: Array, w: Array, s: Array) -> Array:
    y, z = _least_squares(x, loc, w, s)
    return jnp.sum(z**2, axis=-1) + jnp.sum(y**2, axis=-1)


@_square.defjvp
def _square_jvp(primals, tangents):
    (x, loc, w, s), (dx, dloc, dw, ds) = primals, tangents
    y, z = _least_squares(x, loc, w, s)
    moved = divide((dx - dloc) - _times(dw, y) - z * ds, s)
    return _square(x, loc, w, s), 2.0 * jnp.sum(z * moved, axis=-1)


def low_rank_square(x: ArrayLike, loc: ArrayLike, w: ArrayLike, s: ArrayLike) -> Array:
    """v^T (W W^T + diag(s^2))^-1 v of v = x - loc, for x, loc (..., n), w (..., n, r) and s (..., n)
    > 0.
    """
    return _square(*as_floats(x, loc, w, s))


@jax.custom_jvp
def _log_gain(w: Array, s: Array) -> Array:
    return jnp.sum(jnp.log(_factors(w, s)[2]), axis=-1)


@_log_gain.defjvp
def _log_gain_jvp(primals, tangents):
    (w, s), (dw, ds) = primals, tangents
    q1, q2, _ = _factors(w, s)
    # (covariance^-1 W)_ij s_i.
    slope = jnp.einsum("...nr,...kr->...nk", q1, q2, precision="highest")
    moved = divide(jnp.sum(slope * dw, axis=-1) - jnp.sum(q1**2, axis=-1) * ds, s)
    return _log_gain(w, s), jnp.sum(moved, axis=-1)


def low_rank_log_gain(w: ArrayLike, s: ArrayLike) -> Array:
    """log|W W^T + diag(s^2)|/2 - sum log s >= 0, for w (..., n, r) and s (..., n) > 0."""
    return _log_gain(*as_floats(w, s))


def low_rank_leverage(w: ArrayLike, s: ArrayLike) -> Array:
    """1 - s_i^2 (covariance^-1)_ii for each element, between 0 and 1, `(..., n)`."""
    return jnp.sum(_factors(*as_floats(w, s))[0] ** 2, axis=-1)
