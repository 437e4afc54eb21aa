"""A Normal kept to an interval: density, tails, quantile and moments, also far out in a tail."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._chebyshev import gauss_legendre
from likelax.numerics._rules import terms, with_partials
from likelax.numerics.logspace import as_floats, divide, log1p, log_complements
from likelax.numerics.normal import (
    _HALF_LOG_2PI,
    _excess_upper,
    _hazard,
    _interval,
    _interval_slopes,
    _narrow,
    _pdf,
    ndtr,
)

# The interval is reflected so that its midpoint is not negative; a is then the end that is nearer to
# zero, and finite. With t = max(a, 0) everything is measured against exp(-t^2 / 2), so that far out in
# a tail, where density and mass both are exp(-a^2 / 2) times a small number, nothing large is formed.


@jax.custom_jvp
def _log_area(a: Array, w: Array) -> Array:
    """log of sqrt(2 pi) (Phi(a + w) - Phi(a)) exp(max(a, 0)^2 / 2), for a + w / 2 >= 0."""
    return _interval(a, w)[4]


@_log_area.defjvp
def _log_area_jvp(primals, tangents):
    (a, w), (da, dw) = primals, tangents
    density, mean, offset = _interval_slopes(a, w)
    da, dw = (jnp.where(jnp.isinf(x), 0.0, dx) for x, dx in ((a, da), (w, dw)))
    return _log_area(a, w), density * dw - jnp.where(a >= 0, offset, mean) * da


def _reflected(x: Array, low: Array, high: Array, loc: Array, scale: Array) -> tuple[Array, ...]:
    """(flip, a, z, below, above, width): the near end, x and distances, in units of the scale."""
    flip = (low - loc) + (high - loc) < 0
    a = divide(jnp.where(flip, loc - high, low - loc), scale)
    z = divide(jnp.where(flip, loc - x, x - loc), scale)
    below = divide(jnp.where(flip, high - x, x - low), scale)
    above = divide(jnp.where(flip, x - low, high - x), scale)
    return flip, a, z, below, above, divide(high - low, scale)


def _log_fall(a: Array, z: Array, below: Array) -> Array:
    """(max(a, 0)^2 - z^2) / 2, given below = z - a."""
    beside = a >= 0
    from_end, a = (jnp.where(beside, x, 0.0) for x in (below, a))  # both may be infinite
    return jnp.where(beside, -0.5 * from_end * (a + z), -(0.5 * z) * z)


def _log_density_in_scales(x, low, high, loc, scale):
    _, a, z, below, _, width = _reflected(x, low, high, loc, scale)
    return _log_fall(a, z, below) - _log_area(a, width)


def _density(x, low, high, loc, scale):
    log_density = _log_density_in_scales(x, low, high, loc, scale)
    lost = log_density < -1e3  # far beyond the smallest float, and its slopes perhaps infinite
    return divide(jnp.where(lost, 0.0, jnp.exp(jnp.where(lost, 0.0, log_density))), scale)


def _slope(index: int):
    """The derivative of the log-density in one argument, by the chain rule."""

    def partial(*args):
        def at(value):
            return _plain(*args[:index], value, *args[index + 1 :])

        slope = jax.jvp(at, (args[index],), (jnp.ones_like(args[index]),))[1]
        # Times 0, for a value outside the support, an infinite one would be NaN.
        largest = jnp.finfo(slope.dtype).max
        return jnp.clip(slope, -largest, largest)

    return partial


def _plain(x, low, high, loc, scale):
    return _log_density_in_scales(x, low, high, loc, scale) - jnp.log(scale)


# Those in the ends are densities there. An infinite end has none.
_truncated_normal_log_pdf = with_partials(
    _slope(0),
    lambda x, low, high, loc, scale: _density_at(low, low, high, loc, scale),
    lambda x, low, high, loc, scale: -_density_at(high, low, high, loc, scale),
    _slope(3),
    _slope(4),
)(_plain)


def _density_at(end, low, high, loc, scale):
    none = jnp.isinf(end)
    finite = jnp.where(jnp.isinf(low), high, low)
    return jnp.where(none, 0.0, _density(jnp.where(none, finite, end), low, high, loc, scale))


def truncated_normal_log_pdf(
    x: ArrayLike, low: ArrayLike, high: ArrayLike, loc: ArrayLike, scale: ArrayLike
) -> Array:
    """log of the density p at x of a Normal(loc, scale) kept to [low, high], low <= x <= high.

    One end may be infinite. In a tail -(z - a)(z + a)/2 - log(mass / phi(a)) - log(scale), z and a
    being x and the nearer end in units of the scale. Slopes p(low) and -p(high) in the ends.
    """
    values = as_floats(x, low, high, loc, scale)
    return _truncated_normal_log_pdf(*jnp.broadcast_arrays(*values))


def truncated_normal_log_tails(
    x: ArrayLike, low: ArrayLike, high: ArrayLike, loc: ArrayLike, scale: ArrayLike
) -> tuple[Array, Array]:
    """log P(X <= x) and log P(X > x) of a Normal(loc, scale) kept to [low, high], low < x < high.

    The larger of the two comes from the smaller one, which holds the digits.
    """
    x, low, high, loc, scale = as_floats(x, low, high, loc, scale)
    flip, a, z, below, above, width = _reflected(x, low, high, loc, scale)
    total = _log_area(a, width)
    # [a, z] is reflected once more where z is the nearer end: there a < 0.
    again = a + z < 0
    near = _log_area(jnp.where(again, -z, a), below) - total
    near = near + jnp.where(again & (z < 0), -(0.5 * z) * z, 0.0)
    far = _log_area(z, above) - total
    far = far + jnp.where((a < 0) & (z < 0), 0.0, _log_fall(a, z, below))
    near, far = log_complements(near, far)
    return jnp.where(flip, far, near), jnp.where(flip, near, far)


def truncated_normal_mean(
    low: ArrayLike,
    high: ArrayLike,
    loc: ArrayLike,
    scale: ArrayLike,
    origin: ArrayLike = 0.0,
) -> Array:
    """The mean of a Normal(loc, scale) kept to [low, high], as a distance from the nearer end, less
    `origin`.
    """
    low, high, loc, scale, origin = as_floats(low, high, loc, scale, origin)
    flip, a, _, _, _, width = _reflected(low, low, high, loc, scale)
    _, mean, offset = _interval_slopes(a, width)
    start = jnp.where(a >= 0, jnp.where(flip, high, low), loc) - origin
    step = scale * jnp.where(a >= 0, offset, mean)
    return jnp.where(flip, start - step, start + step)


# ---- quantiles ----
#
# With T = Z - a, the part up to t of what the interval holds is q where
#
#     G(t) = integral_0^t exp(-a s - s^2 / 2) ds = q G(w).
#
# Near the end G is integrated; further out the tail beyond a is left by exp(-y), whose logarithm is
# a t + t^2 / 2 + log(h(a + t) / h(a)), h the hazard. Both have Halley's steps, whose second derivative
# costs nothing.


def _integrals(a: Array, t: Array) -> tuple[Array, Array]:
    """G(t) / t and the same of s exp(-a s - s^2 / 2) over t^2, for exponents that vary by about 1."""
    nodes, weights = gauss_legendre(terms(t, 5, 9))
    total = first = jnp.zeros_like(a + t)
    for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
        s = t * node
        term = weight * jnp.exp(-s * (a + 0.5 * s))
        total, first = total + term, first + node * term
    return total, first


def _from_end(a: Array, w: Array) -> Array:
    """Whether distances are measured from the end a; else from zero."""
    return (a >= 0) | _narrow(a, w)


@jax.custom_jvp
def _whole(a: Array, w: Array) -> Array:
    """G(w) where `_from_end`, else the mass of [a, a + w]."""
    return _interval(a, w)[5]


@_whole.defjvp
def _whole_jvp(primals, tangents):
    (a, w), (da, dw) = primals, tangents
    whole, (density, mean, offset) = _whole(a, w), _interval_slopes(a, w)
    da, dw = (jnp.where(jnp.isinf(x), 0.0, dx) for x, dx in ((a, da), (w, dw)))
    return whole, whole * (density * dw - jnp.where(_from_end(a, w), offset, mean) * da)


@jax.custom_jvp
def _place(a: Array, w: Array, q: Array, rest: Array) -> Array:
    """The point below which q of [a, a + w] lies, rest = 1 - q: as t where `_from_end`, else as z."""
    narrow, from_end = _narrow(a, w), _from_end(a, w)
    whole = _whole(a, w)
    endless = jnp.isinf(w)

    # Across zero the smaller of the two tails has the digits, and the end is zero.
    a_in = jnp.where(from_end, 0.0, a)
    b_in = jnp.where(endless, jnp.inf, a_in + w)
    below, above = ndtr(a_in) + q * whole, ndtr(-b_in) + rest * whole
    tail = jnp.minimum(jnp.minimum(below, above), 0.5)

    a_in = jnp.where(from_end, a, 0.0)
    hazard = _hazard(a_in)
    w_in = jnp.where(endless | ~from_end, 1.0, w)
    b_in = jnp.where(narrow, 1.0, a_in + w_in)
    fall = jnp.exp(-w_in * (a_in + 0.5 * w_in))
    beyond = jnp.where(narrow | endless, 0.0, fall / (b_in + _excess_upper(b_in)))
    part = jnp.where(from_end, q * whole, (1.0 - 2.0 * tail) / hazard)
    left = jnp.where(from_end, hazard * (rest * whole + beyond), 2.0 * tail)
    share = hazard * part  # of all that is beyond the end
    near = narrow | (share < 0.7)
    y = jnp.where(near, -log1p(-jnp.where(near, share, 0.0)), -jnp.log(jnp.where(near, 1.0, left)))

    # h t + k t^2 / 2 = y, k the slope of the hazard at the end, or 1, that at infinity.
    k = jnp.where(near, hazard * (hazard - a_in), 1.0)
    start = y / hazard
    start = 2.0 * start / (1.0 + jnp.sqrt(1.0 + 2.0 * k * start / hazard))

    t = jnp.where(near, start, 0.0)
    for _ in range(terms(q, 2, 3)):
        newton = (part - t * _integrals(a_in, t)[0]) * jnp.exp(t * (a_in + 0.5 * t))
        t = t + newton / (1.0 - 0.5 * newton * (a_in + t))
    far = jnp.where(near, 1.0, start)
    a_far = jnp.where(near, 1.0, a_in)
    for _ in range(terms(q, 2, 3)):
        excess = _excess_upper(a_far + far)
        there = (a_far + far) + excess
        passed = far * (a_far + 0.5 * far) + jnp.log(there / jnp.where(near, 1.0, hazard))
        newton = (jnp.where(near, passed, y) - passed) / there
        far = far + newton / (1.0 + 0.5 * newton * excess)
    t = jnp.where(near, t, far)
    z = jnp.clip(jnp.where(below < above, -t, t), a, jnp.where(endless, jnp.inf, a + w))
    return jnp.where(from_end, jnp.where(w == 0, 0.0, jnp.clip(t, 0.0, w)), z)


@_place.defjvp
def _place_jvp(primals, tangents):
    """F(t) = q held: in q 1 / p(t), in the ends the densities there times what is beyond, over p(t)."""
    a, w, q, rest = primals
    da, dw, dq, _ = tangents
    place = _place(a, w, q, rest)
    narrow, from_end, endless = _narrow(a, w), _from_end(a, w), jnp.isinf(w)
    beside = from_end & ~narrow
    whole = _whole(a, w)

    # Along the interval: phi(a) / phi(z) = exp(fall).
    a_in, w_in = jnp.where(from_end, a, 0.0), jnp.where(from_end & ~endless, w, 1.0)
    t = jnp.where(from_end, place, 0.0)
    fall = t * (a_in + 0.5 * t)
    short = t - w_in  # fall - drop, without the cancellation
    to_high = jnp.where(endless, 0.0, q * jnp.exp(short * (a_in + 0.5 * (t + w_in))))
    in_q = whole * jnp.exp(fall)
    # Narrow: the slope of t in a is that of the moments, (M(t) - q M(w)) / G'(t).
    t_in, w_narrow = jnp.where(narrow, t, 0.0), jnp.where(narrow, w, 0.0)
    moment = t_in * t_in * _integrals(a_in, t_in)[1]
    moment = moment - q * (w_narrow * w_narrow * _integrals(a_in, w_narrow)[1])
    in_a = moment * jnp.exp(jnp.where(narrow, fall, 0.0))
    # Beside: p(low) m(a) + p(high) m(b) = m(z) for Mills' ratios m = 1 / h.
    a_far = jnp.where(beside, a_in, 1.0)
    excess_a = _excess_upper(a_far)
    z, b = a_far + t, a_far + w_in
    excess, excess_b = _excess_upper(z), _excess_upper(b)
    pull = (t + (excess - excess_a)) / (z + excess)
    pull = pull - to_high * ((w_in + (excess_b - excess_a)) / (b + excess_b))
    in_a = jnp.where(beside, -pull, in_a)

    # Across zero, in z: phi(z) by the hazard, which does not magnify a rounding of z.
    a_in = jnp.where(from_end, -1.0, a)
    b_in = jnp.where(from_end, 1.0, jnp.where(endless, jnp.inf, a_in + w))
    z = jnp.where(from_end, 0.0, place)
    below, above = ndtr(a_in) + q * whole, ndtr(-b_in) + rest * whole
    density = jnp.where(z < 0, below, above) * _hazard(jnp.abs(z))
    across_low, across_high = rest * _pdf(a_in) / density, q * _pdf(b_in) / density
    in_a = jnp.where(from_end, in_a, across_low + across_high)
    in_w = jnp.where(from_end, to_high, across_high)
    in_q = jnp.where(from_end, in_q, whole / density)

    da = jnp.where(jnp.isinf(a), 0.0, da)
    dw = jnp.where(endless, 0.0, dw)
    return place, in_a * da + in_w * dw + in_q * dq


def truncated_normal_quantile(
    q: ArrayLike, low: ArrayLike, high: ArrayLike, loc: ArrayLike, scale: ArrayLike
) -> Array:
    """The x with P(X <= x) = q, 0 < q < 1, of a Normal(loc, scale) kept to [low, high].

    A distance from the nearer end where the interval is on one side of loc, or narrow; a quantile of
    the standard normal across it. Slopes by implicit differentiation.
    """
    q, low, high, loc, scale = as_floats(q, low, high, loc, scale)
    flip, a, _, _, _, width = _reflected(low, low, high, loc, scale)
    lower, upper = jnp.where(flip, 1.0 - q, q), jnp.where(flip, q, 1.0 - q)
    place = scale * _place(a, width, lower, upper)
    start = jnp.where(_from_end(a, width), jnp.where(flip, high, low), loc)
    x = jnp.where(flip, start - place, start + place)
    # No clip, which halves the slope where x is an end.
    return jnp.where(x < low, low, jnp.where(x > high, high, x))


# ---- moments ----


def _moments(a: Array, w: Array) -> tuple[Array, Array, Array]:
    """(mean, offset, variance) of Z kept to [a, a + w]."""
    density, mean, offset = _interval_slopes(a, w)
    endless = jnp.isinf(w)
    drop = jnp.where(endless, jnp.inf, w) * jnp.where(endless, 1.0, a + 0.5 * w)
    short = (drop <= 4.0) & (w <= 3.0)
    beside = (a >= 0) & ~short
    across = ~short & ~beside

    # Short: the squares of the distances from the mean, integrated.
    nodes, weights = gauss_legendre(terms(a, 9, 16))
    a_in, w_in = jnp.where(short, a, 0.0), jnp.where(short, w, 1.0)
    total = second = jnp.zeros_like(a_in + w_in)
    # The second moment is least about the mean, so that the mean's own slope counts for nothing.
    center = jax.lax.stop_gradient(jnp.where(short, offset, 0.0))
    for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
        s = w_in * node
        term = weight * jnp.exp(-s * (a_in + 0.5 * s))
        total, second = total + term, second + term * (s - center) ** 2
    in_short = second / total

    # Beside: the tail beyond a, whose variance is minus the slope of the excess, less that beyond b.
    def tail(x):
        excess, slope = jax.jvp(_excess_upper, (x,), (jnp.ones_like(x),))
        return excess, -slope

    a_in = jnp.where(beside, a, 1.0)
    w_in = jnp.where(beside & ~endless, w, 1.0)
    (excess, all_of_it), (excess_b, last) = tail(a_in), tail(a_in + w_in)
    fall = jnp.where(endless, jnp.inf, w_in * (a_in + 0.5 * w_in))
    beyond = jnp.exp(-fall) * (a_in + excess) / (a_in + w_in + excess_b)
    kept = 1.0 - jnp.where(beside, beyond, 0.0)
    gap = w_in + excess_b - jnp.where(beside, offset, 0.0)
    in_beside = (all_of_it - beyond * (last + kept * gap**2)) / kept

    # Across: 1 - density b + density(a) a - mean^2, with density(a) - density = mean.
    w_in = jnp.where(across & ~endless, w, 1.0)
    a_in = jnp.where(across & ~jnp.isinf(a), a, 0.0)
    in_across = 1.0 - w_in * jnp.where(endless, 0.0, density) - mean * (mean - a_in)

    variance = jnp.where(short, in_short, jnp.where(beside, in_beside, in_across))
    return mean, offset, jnp.where(jnp.isnan(w), w, variance)


def _variance_slopes(near: Array, length: Array, scale: Array) -> tuple[Array, Array, Array]:
    """Of the variance V of Z: 2 V - a dV/da - w dV/dw, dV/da and dV/dw; of what is infinite 0."""
    a, w = divide(near, scale), divide(length, scale)
    out = []
    for moving in ((1.0, 0.0), (0.0, 1.0)):
        tangents = tuple(
            jnp.where(jnp.isinf(x), 0.0, m) for x, m in zip((a, w), moving, strict=True)
        )
        variance, slope = jax.jvp(lambda *aw: _moments(*aw)[2], (a, w), tangents)
        out.append(slope)
    finite = (jnp.where(jnp.isinf(x), 0.0, x) for x in (a, w))
    shift = sum(x * slope for x, slope in zip(finite, out, strict=True))
    return 2.0 * variance - shift, *out


# In the arguments themselves: their powers of the scale, one by one, would underflow.
@with_partials(
    lambda near, length, scale: scale * _variance_slopes(near, length, scale)[1],
    lambda near, length, scale: scale * _variance_slopes(near, length, scale)[2],
    lambda near, length, scale: scale * _variance_slopes(near, length, scale)[0],
)
def _variance(near: Array, length: Array, scale: Array) -> Array:
    variance = _moments(divide(near, scale), divide(length, scale))[2]
    return (scale * jnp.sqrt(variance)) ** 2


def truncated_normal_variance(
    low: ArrayLike, high: ArrayLike, loc: ArrayLike, scale: ArrayLike
) -> Array:
    """The variance of a Normal(loc, scale) kept to [low, high]; of a narrow interval width^2 / 12."""
    low, high, loc, scale = as_floats(low, high, loc, scale)
    near = jnp.where((low - loc) + (high - loc) < 0, loc - high, low - loc)
    return _variance(*jnp.broadcast_arrays(near, high - low, scale))


def truncated_normal_entropy(
    low: ArrayLike, high: ArrayLike, loc: ArrayLike, scale: ArrayLike
) -> Array:
    """The entropy of a Normal(loc, scale) kept to [low, high]: log(scale mass / phi(a)) + a E[T] +
    E[T^2] / 2, T = Z - a, of the nearer end a; with a = 0 across loc.
    """
    low, high, loc, scale = as_floats(low, high, loc, scale)
    _, a, _, _, _, width = _reflected(low, low, high, loc, scale)
    return _entropy(a, width, scale)


@jax.custom_jvp
def _entropy(a: Array, w: Array, scale: Array) -> Array:
    whole = _whole(a, w)
    mean, offset, variance = _moments(a, w)
    from_end = _from_end(a, w)
    product = scale * whole
    lost = product < jnp.finfo(product.dtype).tiny
    size = jnp.where(lost, jnp.log(scale) + jnp.log(whole), jnp.log(jnp.where(lost, 1.0, product)))
    center = jnp.where(from_end, offset, mean)
    rise = jnp.where(from_end, jnp.where(from_end, a, 0.0) * offset, _HALF_LOG_2PI)
    return size + (rise + 0.5 * (variance + center * center))


@_entropy.defjvp
def _entropy_jvp(primals, tangents):
    """-mean V - mu_3 / 2 in a, where mu_3 = -dV / da; in w the density there times the surprise."""
    (a, w, scale), (da, dw, dscale) = primals, tangents
    infinite, endless = jnp.isinf(a), jnp.isinf(w)
    density = _interval_slopes(a, w)[0]
    (mean, offset, variance), (_, _, in_a) = jax.jvp(
        lambda a: _moments(a, w), (a,), (jnp.ones_like(a),)
    )
    from_end = _from_end(a, w)
    w_in, a_in = jnp.where(endless, 0.0, w), jnp.where(infinite, 0.0, a)
    center = jnp.where(from_end, offset, mean)
    rise = 0.5 * (variance + center * center) + jnp.where(from_end, a_in * offset, 0.0)
    b = a_in + w_in
    end = jnp.where(from_end, w_in * (a_in + 0.5 * w_in), 0.5 * b * b)
    in_w = jnp.where(density == 0, 0.0, density * (1.0 + (end - rise)))
    total = (0.5 * in_a - mean * variance) * jnp.where(infinite, 0.0, da)
    total = total + in_w * jnp.where(endless, 0.0, dw)
    return _entropy(*primals), total + divide(jnp.ones_like(scale), scale) * dscale
