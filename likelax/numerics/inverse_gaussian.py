"""The inverse Gaussian: a density, tails and the slopes of samples by Mills' ratios.

With e = sqrt(lambda x) / mu, f = sqrt(lambda / x), a = e - f and b = e + f,

    log p = -a^2 / 2 + log f - log x - log(2 pi) / 2,
    P(X <= x) = Phi(a) + exp(2 lambda / mu) Phi(-b) = phi(a) [Phi(a) / phi(a) + M(b)],
    P(X > x) = phi(a) [M(a) - M(b)],

phi and Phi the normal density and distribution function and M = Phi(-.) / phi Mills' ratio, since
b^2 - a^2 = 4 lambda / mu. The exponential is never formed; M(a) - M(b), where b - a is small, is the
integral of -M'. All slopes are short formulas in a, b, e and f.

Conventions of the whole file: element by element with broadcasting, in float32 or wider; NaN in
gives NaN out; x, mu, lambda > 0.

Source: Giner and Smyth (2016), "statmod: probability calculations for the inverse Gaussian
distribution", for the tails by scaled ratios.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from likelax.numerics._chebyshev import gauss_legendre
from likelax.numerics._rules import terms, with_partials
from likelax.numerics.deviance import product_gap
from likelax.numerics.exponential_integral import (
    exponential_integral_and_log,
    scaled_exponential_integral,
)
from likelax.numerics.logspace import as_floats, divide, log1p
from likelax.numerics.normal import _excess_upper, log_normal_pdf, normal_pdf
from likelax.numerics.pairs import (
    Pair,
    half_square,
    log_quotient,
    pair_minus,
    pair_over,
    pair_product,
    pair_ratio,
    pair_sum,
    pair_times,
    rounded,
    two_sum,
    word,
)

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_SQRT_2PI = math.sqrt(2.0 * math.pi)
_ENTROPY = _HALF_LOG_2PI + 0.5


class Frame(NamedTuple):
    """What the file's docstring calls so."""

    a: Array
    b: Array
    e: Array
    f: Array


def _most(x: Array) -> float:
    """What has an infinite square."""
    return 4e19 if x.dtype == jnp.float32 else 1e155


@jax.custom_jvp
def _frame(x: Array, mu: Array, lam: Array) -> Frame:
    root, unit = jnp.sqrt(x), jnp.sqrt(lam)
    most = _most(x)
    e, f = jnp.minimum(unit / mu * root, most), jnp.minimum(unit / root, most)
    a = (x - mu) / root * (unit / mu)
    return Frame(jnp.clip(a, -most, most), e + f, e, f)


@_frame.defjvp
def _frame_jvp(primals, tangents):
    (x, mu, lam), (dx, dmu, dlam) = primals, tangents
    a, b, e, f = frame = _frame(x, mu, lam)
    in_x, in_mu, in_lam = 0.5 * divide(dx, x), divide(dmu, mu), 0.5 * divide(dlam, lam)
    return frame, Frame(
        a=b * in_x - e * in_mu + a * in_lam,
        b=a * in_x - e * in_mu + b * in_lam,
        e=e * (in_x - in_mu + in_lam),
        f=f * (in_lam - in_x),
    )


def _sqrt_pair(x: Array) -> Pair:
    root = jnp.sqrt(x)
    return root, -0.5 * product_gap(root, root, x) / root


def _a_pair(x: Array, mu: Array, lam: Array) -> Pair:
    """a, whose rounding its square would double."""
    root, unit = _sqrt_pair(x), _sqrt_pair(lam)
    a = pair_product(pair_ratio(two_sum(x, -mu), root), pair_over(unit, mu))
    beyond = jnp.abs(a[0]) >= _most(x)  # which NaN is not
    return jnp.where(beyond, _most(x), a[0]), jnp.where(beyond, 0.0, a[1])


@with_partials(
    lambda x, mu, lam: -0.5 * divide(3.0 + _frame(x, mu, lam).a * _frame(x, mu, lam).b, x),
    lambda x, mu, lam: divide(_frame(x, mu, lam).a * _frame(x, mu, lam).e, mu),
    lambda x, mu, lam: (
        0.5 * divide((1.0 - _frame(x, mu, lam).a) * (1.0 + _frame(x, mu, lam).a), lam)
    ),
)
def _inverse_gaussian(x, mu, lam):
    one = jnp.ones_like(x)
    log_f = pair_times(0.5 * one, log_quotient(lam, x))
    rest = pair_sum(word(-_HALF_LOG_2PI * one), pair_minus(log_quotient(x, one)))
    return rounded(pair_sum(pair_minus(half_square(_a_pair(x, mu, lam))), log_f, rest))


def inverse_gaussian_log_pdf(x: ArrayLike, loc: ArrayLike, concentration: ArrayLike) -> Array:
    """log(lambda / (2 pi x^3)) / 2 - lambda (x - mu)^2 / (2 mu^2 x), mu = loc, lambda =
    concentration.
    """
    return _inverse_gaussian(*jnp.broadcast_arrays(*as_floats(x, loc, concentration)))


@with_partials(
    lambda x, mu, lam: 0.5 * divide(_frame(x, mu, lam).a * _frame(x, mu, lam).b, x),
    lambda x, mu, lam: -divide(_frame(x, mu, lam).a * _frame(x, mu, lam).e, mu),
    lambda x, mu, lam: 0.5 * divide(jnp.square(_frame(x, mu, lam).a), lam),
)
def _deviance(x, mu, lam):
    return rounded(half_square(_a_pair(x, mu, lam)))


def inverse_gaussian_deviance(x: ArrayLike, loc: ArrayLike, concentration: ArrayLike) -> Array:
    """lambda (x - mu)^2 / (2 mu^2 x)."""
    return _deviance(*jnp.broadcast_arrays(*as_floats(x, loc, concentration)))


# ---- tails ----


def _mills(t: Array) -> Array:
    """M(t) for t >= 0."""
    return 1.0 / (t + _excess_upper(t))


def _mills_fall(a: Array, b: Array, f: Array) -> Array:
    """(M(a) - M(b)) / f, b = a + 2 f, for a >= 0 or f < 1/2."""
    narrow = f < 0.5
    # -M' = 1 - t M(t), below 0 by M(t) = 1 / phi(t) - M(-t).
    start, width = jnp.where(narrow, a, 1.0), jnp.where(narrow, 2.0 * f, 0.0)
    area = jnp.zeros_like(a)
    nodes, weights = gauss_legendre(terms(a, 4, 8))
    for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
        t = start + width * node
        size = jnp.abs(t)
        excess = _excess_upper(size)
        mills = 1.0 / (size + excess)
        low = jnp.where(t < 0, t, 0.0)
        below = 1.0 - low * (_SQRT_2PI * jnp.exp(0.5 * low * low) - mills)
        area = area + weight * jnp.where(t < 0, below, excess * mills)
    high, low = jnp.where(narrow, 1.0, jnp.maximum(a, 0.0)), jnp.where(narrow, 1.0, b)
    first, last = _excess_upper(high), _excess_upper(low)
    gap = 2.0 - jnp.where(narrow, 0.0, first - last) / jnp.where(narrow, 1.0, f)
    return jnp.where(narrow, 2.0 * area, gap / (high + first) / (low + last))


def _parts(frame: Frame) -> tuple[Array, ...]:
    """Whether a > 0, and a > 0 or f < 1/2; what phi(a) times is the lower tail for a <= 0, and what
    f phi(a) times is the upper tail for a > 0 or f < 1/2.
    """
    a, b, _, f = frame
    above = a > 0
    falls = above | (f < 0.5)
    lower = _mills(jnp.where(above, 0.0, -a)) + _mills(b)
    safe = jnp.where(falls, a, 0.0), jnp.where(falls, b, 2.0), jnp.where(falls, f, 1.0)
    return above, falls, lower, _mills_fall(*safe)


def _log_tails(frame: Frame) -> tuple[Array, Array]:
    """log P(X <= x) and log P(X > x)."""
    above, falls, lower, upper = _parts(frame)
    log_pdf, pdf = log_normal_pdf(frame.a), normal_pdf(frame.a)
    rest = log1p(-jnp.where(falls, frame.f * pdf * upper, 0.0))
    log_lower = jnp.where(falls, rest, log_pdf + jnp.log(lower))
    # Where neither is small the sum of ratios has more digits than the rest of 1.
    log_lower = jnp.where(above | (rest > -0.7), log_lower, log_pdf + jnp.log(lower))
    log_upper = jnp.where(
        falls,
        log_pdf + jnp.log(frame.f) + jnp.log(jnp.where(falls, upper, 1.0)),
        log1p(-jnp.where(falls, 0.0, pdf * lower)),
    )
    return log_lower, log_upper


def _flow(factor, frame, primals, tangents):
    """`factor` times the change of P(X <= x) over f phi(a)."""
    a, b, e, _ = frame
    excess = _excess_upper(b)
    mills = 1.0 / (b + excess)
    factor = jnp.where(factor == jnp.inf, jnp.finfo(a.dtype).max, factor)  # times 0 it is 0
    parts = 1.0, -2.0 * (e * mills), mills * (a - excess)
    # The quotient last: by a large or small parameter alone a part may leave the floats.
    changes = zip(parts, primals, tangents, strict=True)
    return sum(divide(factor * part, value) * change for part, value, change in changes)


@jax.custom_jvp
def _log_cdf(x: Array, mu: Array, lam: Array) -> Array:
    return _log_tails(_frame(x, mu, lam))[0]


@_log_cdf.defjvp
def _log_cdf_jvp(primals, tangents):
    frame = _frame(*primals)
    above, _, lower, upper = _parts(frame)
    density = frame.f * normal_pdf(frame.a)
    rest = 1.0 - jnp.where(above, density * upper, 0.0)
    factor = jnp.where(above, density / rest, frame.f / lower)
    return _log_cdf(*primals), _flow(factor, frame, primals, tangents)


@jax.custom_jvp
def _log_survival(x: Array, mu: Array, lam: Array) -> Array:
    return _log_tails(_frame(x, mu, lam))[1]


@_log_survival.defjvp
def _log_survival_jvp(primals, tangents):
    frame = _frame(*primals)
    _, falls, lower, upper = _parts(frame)
    pdf = normal_pdf(frame.a)
    rest = 1.0 - jnp.where(falls, 0.0, pdf * lower)
    factor = jnp.where(falls, -1.0 / jnp.where(falls, upper, 1.0), -frame.f * pdf / rest)
    return _log_survival(*primals), _flow(factor, frame, primals, tangents)


# Not exp of the logarithms, whose slopes may be infinite where these are 0.
@jax.custom_jvp
def _probability(x: Array, mu: Array, lam: Array, log_tail: Array, sign: Array) -> Array:
    return jnp.exp(log_tail)


@_probability.defjvp
def _probability_jvp(primals, tangents):
    frame, sign = _frame(*primals[:3]), primals[4]
    factor = sign * frame.f * normal_pdf(frame.a)
    return _probability(*primals), _flow(factor, frame, primals[:3], tangents[:3])


def inverse_gaussian_log_cdf(x: ArrayLike, loc: ArrayLike, concentration: ArrayLike) -> Array:
    """log P(X <= x)."""
    return _log_cdf(*jnp.broadcast_arrays(*as_floats(x, loc, concentration)))


def inverse_gaussian_log_survival(x: ArrayLike, loc: ArrayLike, concentration: ArrayLike) -> Array:
    """log P(X > x)."""
    return _log_survival(*jnp.broadcast_arrays(*as_floats(x, loc, concentration)))


def inverse_gaussian_cdf(x: ArrayLike, loc: ArrayLike, concentration: ArrayLike) -> Array:
    """P(X <= x)."""
    values = jnp.broadcast_arrays(*as_floats(x, loc, concentration))
    log_tail = jax.lax.stop_gradient(_log_cdf(*values))
    return _probability(*values, log_tail, jnp.ones_like(log_tail))


def inverse_gaussian_survival(x: ArrayLike, loc: ArrayLike, concentration: ArrayLike) -> Array:
    """P(X > x)."""
    values = jnp.broadcast_arrays(*as_floats(x, loc, concentration))
    log_tail = jax.lax.stop_gradient(_log_survival(*values))
    return _probability(*values, log_tail, -jnp.ones_like(log_tail))


# ---- samples ----


@jax.custom_jvp
def _attach(draw: Array, mu: Array, lam: Array) -> Array:
    return draw


@_attach.defjvp
def _attach_jvp(primals, tangents):
    x, mu, lam = primals
    # dx = -dF / p; the two slopes, each times its parameter, sum to x.
    a, b, e, _ = _frame(x, mu, lam)
    excess = _excess_upper(b)
    mills = 1.0 / (b + excess)
    in_mu, in_lam = 2.0 * (e * mills), mills * (excess - a)
    move = x * in_mu * divide(tangents[1], mu) + x * in_lam * divide(tangents[2], lam)
    return _attach(*primals), move


def sample_inverse_gaussian(key: Array, loc: Array, concentration: Array, shape: tuple[int, ...]):
    """Draws by Michael, Schucany and Haas (1976), "Generating random variates using transformations
    with multiple roots"; the gradient is the implicit one, -(dF/dmu)/p and -(dF/dlambda)/p.
    """
    mu, lam = (jnp.broadcast_to(v, shape) for v in (loc, concentration))
    held, unit = map(jax.lax.stop_gradient, (mu, lam))
    key_normal, key_uniform = jax.random.split(key)
    y = jax.random.normal(key_normal, shape, mu.dtype) ** 2
    # The roots of lambda (x - mu)^2 = mu^2 x y have the product mu^2: mu over and mu times this.
    r = held / unit * (0.5 * y)
    far = r > 1e8
    near = jnp.where(far, 0.0, r)
    ratio = 1.0 + near + jnp.sqrt(near) * jnp.sqrt(2.0 + near)
    low = jnp.where(far, unit / jnp.where(far, y, 1.0), held / ratio)
    high = jnp.where(far, held * (2.0 * r), held * ratio)
    uniform = jax.random.uniform(key_uniform, shape, mu.dtype)
    return _attach(jnp.where(uniform * (held + low) <= held, low, high), mu, lam)


# ---- the entropy ----


def _ratio(mu, lam):
    """y = 2 lambda / mu, kept in the floats, whether it is small, and it there and elsewhere."""
    small = lam < 0.5 * mu
    largest = 1e30 if mu.dtype == jnp.float32 else 1e200
    y = jnp.where(small, 1.0, lam / mu * 2.0)
    return small, jnp.where(small, 2.0 * lam / mu, 0.5), jnp.clip(y, 1.0, largest)


def _lag(mu, lam):
    """y exp(y) E1(y), y = 2 lambda / mu: minus y E[log(X / mu)]."""
    small, low, high = _ratio(mu, lam)
    log_y = jnp.log(jnp.where(low == 0, 1.0, low))
    near = low * jnp.exp(low) * (exponential_integral_and_log(low) - log_y)
    return jnp.where(small, near, scaled_exponential_integral(high))


@with_partials(
    lambda mu, lam: divide(1.5 * _lag(mu, lam), mu),
    lambda mu, lam: divide(1.0 - 1.5 * _lag(mu, lam), lam),
)
def _entropy(mu, lam):
    one, log_ratio = jnp.ones_like(mu), log_quotient(lam, mu)
    small, low, high = _ratio(mu, lam)
    # exp(y) E1(y), of which -log(lambda / mu) is carried in two floats where y is small.
    rest = jnp.exp(low) * (exponential_integral_and_log(low) - math.log(2.0))
    rest = rest - jnp.expm1(low) * jnp.where(small, log_ratio[0], 0.0)
    rest = jnp.where(small, rest, scaled_exponential_integral(high) / high)
    # 3/2 log mu - 1/2 log lambda
    logs = log_quotient(mu, one), pair_times(-0.5 * one, log_ratio)
    tail = pair_times(jnp.where(small, 1.5, 0.0) * one, log_ratio)
    return rounded(pair_sum(*logs, tail, word(_ENTROPY - 1.5 * rest)))


def inverse_gaussian_entropy(loc: ArrayLike, concentration: ArrayLike) -> Array:
    """log(2 pi e mu^3 / lambda) / 2 - 3/2 exp(y) E1(y), y = 2 lambda / mu."""
    return _entropy(*jnp.broadcast_arrays(*as_floats(loc, concentration)))
