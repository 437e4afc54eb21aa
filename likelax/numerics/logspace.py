"""Arithmetic on logarithms: sums, differences, sigmoids and divisions that neither cancel nor
overflow.

Conventions of the whole file:

- Element by element with broadcasting; bfloat16, float16 and integers are widened to float32.
- A NaN in gives a NaN out. Where a value is -inf because a probability is zero, the gradient is
  zero, because an infinite slope times a zero tangent would be a NaN (`log1mexp` and `logit` alone,
  which are plain functions of a real variable, keep their infinite slopes).
- Each derivative rule is itself written with functions that have good rules, so that second
  derivatives hold.

Source for the switch in `log1mexp`: M. Maechler (2012), "Accurately computing log(1 - exp(-|a|))".
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

_LOG2 = math.log(2.0)
# From this logarithm on a scale is taken times a power of e.
_FAR, _SHIFT = 80.0, 64.0


def as_floats(*values: ArrayLike) -> tuple[Array, ...]:
    """The values as arrays of their common floating dtype, float32 at least (shapes are left
    alone).
    """
    dtype = jnp.promote_types(jnp.result_type(*values), jnp.float32)
    return tuple(jnp.asarray(value, dtype) for value in values)


def along(*terms: tuple[Array | float, Array | SymbolicZero]) -> Array | float:
    """The sum of slope * tangent over the arguments that are differentiated.

    The others are left out: their tangents are zeros, of which an infinite slope would make NaN.
    """
    return sum(slope * dx for slope, dx in terms if not isinstance(dx, SymbolicZero))


def finite(z):
    """z, the largest float where it is beyond: times 0 it is 0."""
    largest = jnp.array(jnp.finfo(z.dtype).max, z.dtype)
    return jax.lax.clamp(-largest, z, largest)


# ---- exp, expm1 and their inverses ----


def log1p(x: ArrayLike) -> Array:
    """log(1 + x). jnp.log1p on CPU (jax 0.10) errs by 120 eps in float64 for -0.4142 < x < -0.35."""
    (x,) = as_floats(x)
    if x.dtype == jnp.float32:
        return jnp.log1p(x)
    # Below -0.3 the rounding of 1 + x costs the logarithm less than one eps.
    low = x < -0.3
    return jnp.where(low, jnp.log(1.0 + jnp.where(low, x, -0.5)), jnp.log1p(jnp.where(low, 0.0, x)))


@jax.custom_jvp
def _inv_expm1(x: Array) -> Array:
    """1 / (exp(x) - 1). Its own rule, since autodiff forms exp(x) / expm1(x)^2, inf / inf for x >
    45.
    """
    return 1.0 / jnp.expm1(x)


@_inv_expm1.defjvp
def _inv_expm1_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    r = _inv_expm1(x)
    return r, -r * (1.0 + r) * dx


@jax.custom_jvp
def _log1mexp(x: Array) -> Array:
    small = x < _LOG2
    near = jnp.log(-jnp.expm1(-jnp.where(small, x, 1.0)))
    far = log1p(-jnp.exp(-jnp.where(small, 1.0, x)))
    return jnp.where(small, near, far)


@_log1mexp.defjvp
def _log1mexp_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return _log1mexp(x), _inv_expm1(x) * dx


def log1mexp(x: ArrayLike) -> Array:
    """log(1 - exp(-x)) for x >= 0: -inf at 0, NaN below. Derivative 1 / expm1(x). (Maechler 2012.)"""
    return _log1mexp(*as_floats(x))


# 1/(exp(u) - 1) - 1/u = -1/2 + sum u^(2n - 1) B_2n / (2n)!, B_2n Bernoulli's numbers: B_2n / (2n)!.
_BERNOULLI = (
    1 / 12,
    -1 / 720,
    1 / 30240,
    -1 / 1209600,
    1 / 47900160,
    -691 / 1307674368000,
    1 / 74724249600,
    -3617 / 10670622842880000,
)


def log_mean_decay_slope(u: Array) -> Array:
    """1/expm1(u) - 1/u."""
    near = u < 0.5
    v, w = jnp.where(near, u, 0.0), jnp.where(near, 1.0, u)
    series = jnp.zeros_like(u)
    for c in reversed(_BERNOULLI):
        series = series * v * v + c
    return jnp.where(near, series * v - 0.5, _inv_expm1(w) - _divide(jnp.ones_like(w), w))


@jax.custom_jvp
def _log_mean_decay(u: Array) -> Array:
    safe = jnp.where(u == 0, 1.0, u)
    return jnp.where(u == 0, 0.0, jnp.log(-jnp.expm1(-safe) / safe))


@_log_mean_decay.defjvp
def _log_mean_decay_jvp(primals, tangents):
    (u,), (du,) = primals, tangents
    return _log_mean_decay(u), log_mean_decay_slope(u) * du


def log_mean_decay(u: ArrayLike) -> Array:
    """log((1 - exp(-u)) / u) for u >= 0: of the mean of exp(-t) for t from 0 to u; 0 at u = 0.

    log(1 - exp(-exp(v))) is v + log_mean_decay(exp(v)), also where exp(v) underflows.
    """
    return _log_mean_decay(*as_floats(u))


# ---- sums and differences of two ----


def _both_infinite(a: Array, b: Array) -> tuple[Array, Array, Array]:
    """Whether a and b are the same infinity, and copies where that pair is (0, 0), so that a - b is
    no NaN.
    """
    same = (a == b) & jnp.isinf(a)
    return same, jnp.where(same, 0.0, a), jnp.where(same, 0.0, b)


@jax.custom_jvp
def _log_add_exp(a: Array, b: Array) -> Array:
    _, a_safe, b_safe = _both_infinite(a, b)
    return jnp.maximum(a, b) + log1p(jnp.exp(-jnp.abs(a_safe - b_safe)))


@_log_add_exp.defjvp
def _log_add_exp_jvp(primals, tangents):
    (a, b), (da, db) = primals, tangents
    _, a_safe, b_safe = _both_infinite(a, b)
    alive = jnp.maximum(a, b) != -jnp.inf
    p = jnp.where(alive, _sigmoid(a_safe - b_safe), 0.0)
    q = jnp.where(alive, _sigmoid(b_safe - a_safe), 0.0)
    # A term of weight zero must not poison the sum, whatever its own tangent is.
    da, db = jnp.where(p == 0, 0.0, da), jnp.where(q == 0, 0.0, db)
    return _log_add_exp(a, b), p * da + q * db


def log_add_exp(a: ArrayLike, b: ArrayLike) -> Array:
    """log(exp(a) + exp(b)). Both -inf: -inf with zero gradient."""
    return _log_add_exp(*as_floats(a, b))


@jax.custom_jvp
def _log_sub_exp(a: Array, b: Array) -> Array:
    equal = (a == b) & (a != jnp.inf)
    gap = jnp.where(equal, 1.0, a - b)
    return jnp.where(equal, -jnp.inf, a + _log1mexp(gap))


@_log_sub_exp.defjvp
def _log_sub_exp_jvp(primals, tangents):
    (a, b), (da, db) = primals, tangents
    equal = (a == b) & (a != jnp.inf)
    da, db = jnp.where(equal, 0.0, da), jnp.where(equal, 0.0, db)
    slope = _inv_expm1(jnp.where(equal, 1.0, a - jnp.where(equal, 0.0, b)))
    db = jnp.where(b == -jnp.inf, 0.0, db)  # nothing is subtracted
    return _log_sub_exp(a, b), da + slope * (da - db)


def log_sub_exp(a: ArrayLike, b: ArrayLike) -> Array:
    """log(exp(a) - exp(b)) for a >= b (NaN for a < b). Where a = b the value is -inf and the
    gradient zero.
    """
    return _log_sub_exp(*as_floats(a, b))


def log_complements(log_p: ArrayLike, log_q: ArrayLike) -> tuple[Array, Array]:
    """Logarithms of two probabilities that sum to 1, the larger one made from the smaller one: log(1 -
    1e-9) is lost in a logarithm that was a difference.
    """
    p, q = as_floats(log_p, log_q)
    rare_p, rare_q = p < -_LOG2, q < -_LOG2
    from_p, from_q = (_log1mexp(jnp.where(r, -x, 1.0)) for r, x in ((rare_p, p), (rare_q, q)))
    return jnp.where(rare_q & (q < p), from_q, p), jnp.where(rare_p & (p <= q), from_p, q)


# ---- sums along an axis ----


def _shift(a: Array, axis) -> tuple[Array, Array]:
    """(a - max, max) along `axis` (kept); all -inf stays -inf; under a +inf maximum the finite ones
    are -inf.
    """
    top = jax.lax.stop_gradient(jnp.max(a, axis=axis, keepdims=True, initial=-jnp.inf))
    infinite = jnp.isinf(top)
    shifted = jnp.where(infinite, 0.0, a) - jnp.where(infinite, 0.0, top)
    # XLA may compute `a` twice and round it otherwise for the maximum: far below -1e9 a difference
    # that should be 0 was then hundreds, either way.
    shifted = jnp.where(shifted > 0, 0.0, shifted)
    at_infinity = jnp.where((a == top) & (top > 0), 0.0, -jnp.inf)
    # XLA's maximum may pass over NaN: nothing but NaN has a maximum of -inf then.
    at_infinity = jnp.where(jnp.isnan(a), a, at_infinity)
    return jnp.where(infinite, at_infinity, shifted), top


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _logsumexp(a: Array, axis) -> Array:
    shifted, top = _shift(a, axis)
    total = jnp.sum(jnp.exp(shifted), axis=axis, keepdims=True)
    return jnp.squeeze(top + jnp.log(jnp.where(total < 1, 1.0, total)), axis)


@_logsumexp.defjvp
def _logsumexp_jvp(axis, primals, tangents):
    (a,), (da,) = primals, tangents
    # Weights from the shifted values: exp(a - logsumexp) would lose every digit for a near 1e6.
    terms = jnp.exp(_shift(a, axis)[0])
    total = jnp.sum(terms, axis=axis, keepdims=True)
    weights = terms / jnp.where(total == 0, 1.0, total)
    da = jnp.where(weights == 0, 0.0, da)
    return _logsumexp(a, axis), jnp.sum(weights * da, axis=axis)


def logsumexp(
    a: ArrayLike, axis: int | tuple[int, ...] = -1, where: ArrayLike | None = None
) -> Array:
    """log(sum(exp(a))) along `axis` over the entries chosen by `where` (all of them by default).

    Nothing but -inf, or nothing at all: -inf with zero gradient. A +inf entry: +inf. What `where`
    leaves out touches neither value nor gradient, NaN included. `a` has shape (..., n, ...); the
    axis is dropped.
    """
    (a,) = as_floats(a)
    if where is not None:
        a = jnp.where(where, a, -jnp.inf)
    return _logsumexp(a, axis)


def log_softmax(logits: ArrayLike, axis: int = -1) -> Array:
    """logits - logsumexp(logits), the maximum subtracted first, so that a large common offset costs
    nothing.

    A logit of -inf has log-probability -inf and zero gradient, also if all are -inf.
    """
    (logits,) = as_floats(logits)
    shifted, _ = _shift(logits, axis)
    impossible = shifted == -jnp.inf
    total = jnp.sum(jnp.exp(shifted), axis=axis, keepdims=True)
    normaliser = jnp.log(jnp.where(total == 0, 1.0, total))
    return jnp.where(impossible, -jnp.inf, jnp.where(impossible, 0.0, shifted) - normaliser)


# ---- sigmoids ----


@jax.custom_jvp
def _sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)). Its own rule s(x) s(-x), since s (1 - s) is zero for x > 17 in float32."""
    e = jnp.exp(-jnp.abs(x))
    return jnp.where(x < 0, e, 1.0) / (1.0 + e)


@_sigmoid.defjvp
def _sigmoid_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    s = _sigmoid(x)
    return s, s * _co_sigmoid(x) * dx


@jax.custom_jvp
def _co_sigmoid(x: Array) -> Array:
    """sigmoid(-x), from the exponential of sigmoid(x): XLA does not know that |-x| is |x|."""
    e = jnp.exp(-jnp.abs(x))
    return jnp.where(x < 0, 1.0, e) / (1.0 + e)


@_co_sigmoid.defjvp
def _co_sigmoid_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    s = _co_sigmoid(x)
    return s, -s * _sigmoid(x) * dx


def sigmoid(x: ArrayLike) -> Array:
    """1 / (1 + exp(-x)), its derivatives accurate in both tails."""
    return _sigmoid(*as_floats(x))


@jax.custom_jvp
def _softplus(x: Array) -> Array:
    return jnp.maximum(x, 0.0) + log1p(jnp.exp(-jnp.abs(x)))


@_softplus.defjvp
def _softplus_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return _softplus(x), _sigmoid(x) * dx


def softplus(x: ArrayLike) -> Array:
    """log(1 + exp(x)), accurate in both tails; its gradient at 0 is exactly 1/2."""
    return _softplus(*as_floats(x))


def log_sigmoid(x: ArrayLike) -> Array:
    """log(1 / (1 + exp(-x))); log(1 - sigmoid(x)) is -softplus(x)."""
    return _log_sigmoid(*as_floats(x))


@jax.custom_jvp
def _log_sigmoid(x: Array) -> Array:
    return jnp.minimum(x, 0.0) - log1p(jnp.exp(-jnp.abs(x)))


@_log_sigmoid.defjvp
def _log_sigmoid_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return _log_sigmoid(x), _co_sigmoid(x) * dx


@jax.custom_jvp
def _logit(p: Array) -> Array:
    # Between 1/4 and 3/4 the two logarithms cancel; 2p - 1 is exact there.
    middle = jnp.abs(p - 0.5) < 0.25
    p_middle, p_outer = jnp.where(middle, p, 0.5), jnp.where(middle, 0.125, p)
    near = log1p((2.0 * p_middle - 1.0) / (1.0 - p_middle))
    return jnp.where(middle, near, jnp.log(p_outer) - log1p(-p_outer))


@_logit.defjvp
def _logit_jvp(primals, tangents):
    (p,), (dp,) = primals, tangents
    return _logit(p), _divide(dp, p * (1.0 - p))


def logit(p: ArrayLike) -> Array:
    """log(p / (1 - p)) for 0 <= p <= 1, to full relative accuracy near 1/2. Derivative 1 / (p (1 -
    p)).
    """
    return _logit(*as_floats(p))


# ---- products with a logarithm ----


@jax.custom_jvp
def _xlogy(x: Array, y: Array) -> Array:
    zero = (x == 0) & ~jnp.isnan(y)
    return jnp.where(zero, 0.0, x * jnp.log(jnp.where(zero, 1.0, y)))


@_xlogy.defjvp
def _xlogy_jvp(primals, tangents):
    (x, y), (dx, dy) = primals, tangents
    log_y = jnp.log(jnp.where(y == 0, 1.0, y))
    # x / y is 0 for x = 0, and x / 1 needs zeroing for y = 0.
    slope = jnp.where(y == 0, 0.0, _divide(x, jnp.where(y == 0, 1.0, y)))
    return _xlogy(x, y), log_y * dx + slope * dy


def xlogy(x: ArrayLike, y: ArrayLike) -> Array:
    """x log(y), which is 0 where x = 0; for x > 0 and y = 0 it is -inf.

    Derivatives log(y) in x and x / y in y, both taken as 0 where y = 0 (there the value is 0 or
    infinite).
    """
    return _xlogy(*as_floats(x, y))


@jax.custom_jvp
def _xlog1py(x: Array, y: Array) -> Array:
    zero = (x == 0) & ~jnp.isnan(y)
    return jnp.where(zero, 0.0, x * log1p(jnp.where(zero, 0.0, y)))


@_xlog1py.defjvp
def _xlog1py_jvp(primals, tangents):
    (x, y), (dx, dy) = primals, tangents
    y_safe = jnp.where(y == -1, 0.0, y)
    slope = jnp.where(y == -1, 0.0, _divide(x, 1.0 + y_safe))
    return _xlog1py(x, y), log1p(y_safe) * dx + slope * dy


def xlog1py(x: ArrayLike, y: ArrayLike) -> Array:
    """x log(1 + y), which is 0 where x = 0; for x > 0 and y = -1 it is -inf. Derivatives as in
    `xlogy`.
    """
    return _xlog1py(*as_floats(x, y))


def entropy_term(p_log: ArrayLike) -> Array:
    """-p log(p) from log(p): 0, with zero gradient, where p = 0. Sum over categories for an entropy
    in nats.
    """
    (p_log,) = as_floats(p_log)
    zero = p_log == -jnp.inf
    safe = jnp.where(zero, 0.0, p_log)
    return jnp.where(zero, 0.0, -jnp.exp(safe) * safe)


# ---- divisions ----
#
# XLA turns (x / s) / s into x / (s s), which leaves float32 at scales of 1e-20 and 1e20, but leaves
# -(x / s) / s as it is: so slopes divide what has been negated. The contract's grids notice if it ever
# changes.


@jax.custom_jvp
def _divide(x: Array, s: Array) -> Array:
    return x / s


def _divide_jvp(primals, tangents):
    (x, s), (dx, ds) = primals, tangents
    z = _divide(x, s)
    return z, -_divide(along((_held(z, x), ds), (-1.0, dx)) + jnp.zeros_like(z), s)


_divide.defjvp(_divide_jvp, symbolic_zeros=True)


def _held(z, x):
    """The quotient z of x as the slope in its denominator has it: that of an infinite x (a bound) is the
    same at every scale, and one beyond the floats is the largest, 0 times which is 0."""
    return jnp.where(jnp.isinf(x), 0.0, finite(z))


def divide(x: ArrayLike, s: ArrayLike) -> Array:
    """x / s with the derivative (dx - z ds) / s: autodiff forms 1 / s^2, which leaves float32 at
    1e-20.
    """
    return _divide(*as_floats(x, s))


def inverse(s: ArrayLike) -> Array:
    """1 / s, for what is a quotient by s already: XLA leaves (x / s) (1 / s) as it is too."""
    return divide(1.0, s)


@jax.custom_jvp
def _standardize(x: Array, loc: Array, s: Array) -> Array:
    return (x - loc) / s


def _standardize_jvp(primals, tangents):
    # As `_divide`, with the sign where the slopes in loc and s share one quotient as it is.
    (x, loc, s), (dx, dloc, ds) = primals, tangents
    z = _standardize(x, loc, s)
    moved = along((1.0, dloc), (-1.0, dx), (_held(z, x - loc), ds))
    return z, -_divide(moved + jnp.zeros_like(z), s)


_standardize.defjvp(_standardize_jvp, symbolic_zeros=True)


def standardize(value: ArrayLike, loc: ArrayLike, scale: ArrayLike) -> Array:
    """(value - loc) / scale: one subtraction first, never value / scale - loc / scale."""
    return _standardize(*as_floats(value, loc, scale))


@jax.custom_jvp
def _exp_of_log_scale(x: Array) -> Array:
    info = jnp.finfo(x.dtype)
    return jax.lax.clamp(jnp.array(info.tiny, x.dtype), jnp.exp(x), jnp.array(info.max, x.dtype))


@_exp_of_log_scale.defjvp
def _exp_of_log_scale_jvp(primals, tangents):
    scale = _exp_of_log_scale(*primals)
    return scale, scale * tangents[0]


def exp_of_log_scale(x: ArrayLike) -> Array:
    """exp(x), kept to the positive floats for what is divided by it: 0 is 0 of even the smallest scale.

    The slope is that of a scale all the way, so that beyond the floats, too, it points back.
    """
    return _exp_of_log_scale(*as_floats(x))


@jax.custom_jvp
def _standardize_by_log(x: Array, loc: Array, log_s: Array) -> Array:
    # Both times exp(64) or exp(-64) where the scale alone, or its inverse, is beyond the floats: the sum
    # of logarithms is exact.
    shift = jnp.where(log_s < -_FAR, _SHIFT, jnp.where(log_s > _FAR, -_SHIFT, 0.0))
    factor = jnp.where(
        log_s < -_FAR, math.exp(_SHIFT), jnp.where(log_s > _FAR, math.exp(-_SHIFT), 1.0)
    )
    return (x - loc) * factor / _exp_of_log_scale(log_s + shift)


def _standardize_by_log_jvp(primals, tangents):
    (x, loc, log_s), (dx, dloc, dl) = primals, tangents
    z = _standardize_by_log(x, loc, log_s)
    moved = along((1.0, dloc), (-1.0, dx)) + jnp.zeros_like(z)
    return z, -(_divide(moved, _exp_of_log_scale(log_s)) + along((_held(z, x - loc), dl)))


_standardize_by_log.defjvp(_standardize_by_log_jvp, symbolic_zeros=True)


def standardize_by_log(value: ArrayLike, loc: ArrayLike, log_scale: ArrayLike) -> Array:
    """(value - loc) / exp(log_scale), also where the scale is not a float: 0 where value = loc."""
    return _standardize_by_log(*as_floats(value, loc, log_scale))


def _is_far(x: Array, loc: Array, log_s: Array, log_edge: Array) -> Array:
    z = _standardize_by_log(x, loc, log_s)
    return (jnp.abs(z) > jnp.exp(log_edge)) & (jnp.abs(x - loc) < jnp.inf)


@jax.custom_jvp
def _standardize_far(x: Array, loc: Array, log_s: Array, log_edge: Array) -> tuple[Array, Array]:
    far, gap = _is_far(x, loc, log_s, log_edge), x - loc
    size = jnp.where(far, jnp.abs(gap), 1.0)
    excess = jnp.where(far, jnp.log(size) - log_s - log_edge, 0.0)
    z = _standardize_by_log(x, loc, log_s)
    return jnp.where(far, jnp.sign(gap) * jnp.exp(log_edge), z), excess


@_standardize_far.defjvp
def _standardize_far_jvp(primals, tangents):
    # The edge is a constant to both.
    (x, loc, log_s, _), (dx, dloc, dl, _) = primals, tangents
    out = _standardize_far(*primals)
    far, gap = _is_far(*primals), x - loc
    z = jnp.where(far, 0.0, out[0])
    held = jnp.where(jnp.isinf(gap), 0.0, z)
    scale = _exp_of_log_scale(jnp.where(far, 0.0, log_s))
    dz = _divide(dx - dloc, scale) - held * dl
    dexcess = _divide(dx - dloc, jnp.where(far, gap, 1.0)) - dl
    return out, (jnp.where(far, 0.0, dz), jnp.where(far, dexcess, 0.0))


def standardize_far(
    value: ArrayLike, loc: ArrayLike, log_scale: ArrayLike, log_edge: ArrayLike
) -> tuple[Array, Array]:
    """(z, excess) with (value - loc) / exp(log_scale) = z exp(excess), which itself may be too large a
    float: beyond exp(log_edge) on either side z is that edge, and elsewhere the excess is 0.
    """
    return _standardize_far(*as_floats(value, loc, log_scale, log_edge))


def power_of_two(length: ArrayLike, smallest: ArrayLike, largest: ArrayLike) -> Array:
    """The power of two next to `length`, kept to where lengths from `smallest` to `largest`, all > 0, stay
    floats in that unit: to divide by it rounds nothing. No slope.
    """
    length, smallest, largest = map(jax.lax.stop_gradient, as_floats(length, smallest, largest))
    info = jnp.finfo(length.dtype)
    room = -info.minexp - 26  # of exponents, 100 in float32
    low = jnp.maximum(largest * 2.0**-room, info.tiny * 2.0**24)
    high = jnp.minimum(smallest, info.max * 2.0 ** -(room + 2)) * 2.0**room
    kept = jnp.clip(length, low, jnp.maximum(high, low))
    return jax.lax.reduce_precision(kept, info.bits - info.nmant - 1, 0)


# ---- limits and hyperbolics ----


def infinite_moment(*parameters: ArrayLike) -> Array:
    """inf, or NaN where a parameter is: of a moment that is infinite for every parameter there is."""
    floats = as_floats(*parameters)
    return passing_nan(jnp.full_like(floats[0], jnp.inf), *floats)


def passing_nan(out: Array, *sources: Array) -> Array:
    """`out`, and NaN where one of `sources` is.

    The source itself, not a constant: XLA's CPU backend (jaxlib 0.10) compiles exp(where(isnan(a), nan, y)) of one
    number a to what is in memory.
    """
    for source in map(jax.lax.stop_gradient, sources):
        out = jnp.where(jnp.isnan(source), source.astype(out.dtype), out)
    return out


@jax.custom_jvp
def nan_unless(known: Array, x: Array) -> Array:
    """`x`, and NaN with slopes of 0 where not `known`, which has fewer axes: a sum, see `passing_nan`."""
    return x + jnp.where(known, 0, jnp.nan).astype(x.dtype)


@nan_unless.defjvp
def _nan_unless_slope(primals, tangents):
    return nan_unless(*primals), jnp.where(primals[0], tangents[1], 0)


def soft_limit(x: ArrayLike, bound: ArrayLike) -> Array:
    """Exactly x while |x| <= bound, and sign(x) (bound + log(1 + |x| - bound)) beyond: monotone and
    C1.
    """
    x, bound = as_floats(x, bound)
    over = ~(jnp.abs(x) <= bound)  # a bound that is NaN is not hidden
    excess = jnp.where(over, jnp.abs(x) - bound, 0.0)
    return jnp.where(over, jnp.sign(x) * (bound + log1p(excess)), x)


def soft_limit_inverse(y: ArrayLike, bound: ArrayLike) -> Array:
    """The x whose `soft_limit(x, bound)` is y."""
    y, bound = as_floats(y, bound)
    over = ~(jnp.abs(y) <= bound)  # a bound that is NaN is not hidden
    excess = jnp.where(over, jnp.abs(y) - bound, 0.0)
    return jnp.where(over, jnp.sign(y) * (bound + jnp.expm1(excess)), y)


@jax.custom_jvp
def _logcosh(x: Array) -> Array:
    small = jnp.abs(x) < 0.5
    # Near 0 the value is x^2 / 2 and |x| - log 2 + log1p(...) would keep only its absolute
    # accuracy.
    near = -0.5 * log1p(-jnp.square(jnp.tanh(jnp.where(small, x, 0.0))))
    return jnp.where(small, near, jnp.abs(x) + (log1p(jnp.exp(-2.0 * jnp.abs(x))) - _LOG2))


@_logcosh.defjvp
def _logcosh_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return _logcosh(x), _tanh(x) * dx


@jax.custom_jvp
def _log_logistic_pdf(z: Array) -> Array:
    size = jnp.abs(z)
    return -(size + 2.0 * log1p(jnp.exp(-size)))


@_log_logistic_pdf.defjvp
def _log_logistic_pdf_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    return _log_logistic_pdf(z), -_tanh(0.5 * z) * dz


def log_logistic_pdf(z: ArrayLike) -> Array:
    """log of s(z) s(-z), s the sigmoid. Derivative -tanh(z/2)."""
    return _log_logistic_pdf(*as_floats(z))


@jax.custom_jvp
def _tanh(x: Array) -> Array:
    """tanh with the derivative 4 s(2x) s(-2x), since 1 - tanh^2 is zero for |x| > 9 in float32."""
    return jnp.tanh(x)


@_tanh.defjvp
def _tanh_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return _tanh(x), 4.0 * _sigmoid(2.0 * x) * _sigmoid(-2.0 * x) * dx


def tanh(x: ArrayLike) -> Array:
    """tanh(x), its derivatives accurate in both tails."""
    return _tanh(*as_floats(x))


def logcosh(x: ArrayLike) -> Array:
    """log(cosh(x)), to full relative accuracy at 0, without overflow. Derivative tanh(x)."""
    return _logcosh(*as_floats(x))


def tanh_log_det(u: ArrayLike) -> Array:
    """log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2u)) = -2 log(cosh(u)): log-determinant of y =
    tanh(u).
    """
    (u,) = as_floats(u)
    return -2.0 * _logcosh(u)
