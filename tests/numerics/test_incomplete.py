"""Both tails of the incomplete gamma and beta functions against mpmath, to second order."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import scipy.stats

from likelax.numerics import incomplete
from numerics.reference import DTYPES, INF, check, loggamma


def series(x, above, below):
    """1 + x a/b (1 + x (a + 1)/(b + 1) (1 + ...)) for a = above, or without a where it is None.

    All terms are positive. In whole multiples of 2^-bits, which are many times faster than mpmath's
    own numbers and lose one such multiple a term: the 40 more bits are for that.
    """
    bits = mp.mp.prec + 40
    one = 1 << bits
    x, below = (int(mp.ldexp(v, bits)) for v in (x, below))
    above = None if above is None else int(mp.ldexp(above, bits))
    term = total = one
    while term:
        if above is None:
            term = term * x // below
        else:
            term = (term * x >> bits) * above // below
            above += one
        below += one
        total += term
    return mp.ldexp(mp.mpf(total), -bits)


def mp_lower(a, x):
    """P(a, x) by its power series."""
    return mp.exp(a * mp.log(x) - x - loggamma(a)) / a * series(x, None, a + 1)


def mp_log_lower(a, x):
    return mp.log(mp_lower(a, x))


def mp_log_upper(a, x):
    return mp.log(1 - mp_lower(a, x))


def mp_ibeta(a, b, x):
    """I_x(a, b) by x^a (1 - x)^b / (a B) times the sum of (a + b)_n / (a + 1)_n x^n."""
    if x > 0.5:  # fewer terms; what cancels is far less than the digits at work
        return 1 - mp_ibeta(b, a, 1 - x)
    log_beta = loggamma(a) + loggamma(b) - loggamma(a + b)
    return mp.exp(a * mp.log(x) + b * mp.log1p(-x) - log_beta) / a * series(x, a + b, a + 1)


def mp_log_ibeta(a, b, x):
    return mp.log(mp_ibeta(a, b, x))


def mp_log_ibeta_upper(a, b, x):
    return mp.log(mp_ibeta(b, a, 1 - x))


# Series, continued fraction, small shapes and quadrature (from a = 50 on), around their seams.
GAMMA = [(0.01, 1e-4), (0.3, 0.2), (0.3, 1.49), (0.3, 1.51), (0.9, 8.0), (1.0, 0.5), (1.0, 30.0)]
GAMMA += [
    (2.5, 0.01),
    (2.5, 2.4),
    (2.5, 2.6),
    (2.5, 20.0),
    (49.0, 20.0),
    (49.0, 49.5),
    (49.0, 90.0),
]
GAMMA += [(51.0, 20.0), (51.0, 51.5), (51.0, 90.0), (1e4, 9.7e3), (1e4, 1.003e4)]
BETA = [(0.5, 0.5, 0.1), (0.5, 0.5, 0.9), (0.02, 3.0, 1e-3), (3.0, 0.02, 0.97), (1.0, 1.0, 0.3)]
BETA += [(2.5, 4.0, 0.05), (2.5, 4.0, 0.37), (2.5, 4.0, 0.39), (2.5, 4.0, 0.9), (1.0, 30.0, 0.2)]
BETA += [(30.0, 2.0, 0.5), (60.0, 80.0, 0.25), (60.0, 80.0, 0.42), (60.0, 80.0, 0.44)]
BETA += [(60.0, 80.0, 0.6), (3e3, 5e3, 0.36), (3e3, 5e3, 0.38), (5.0, 1e4, 1e-3)]
TAILS = {
    "log_gammainc": (mp_log_lower, GAMMA[1::2]),
    "log_gammaincc": (mp_log_upper, GAMMA[::2]),
    "log_betainc": (mp_log_ibeta, BETA[::3]),
    "log_betaincc": (mp_log_ibeta_upper, BETA[1::3]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TAILS)
def test_against_mpmath(name, dtype):
    reference, points = TAILS[name]
    # The slopes per unit of each argument's logarithm.
    scale = [1 / np.asarray(a, np.float64) for a in np.asarray(points, dtype).T]
    floors = (1, tuple(scale), tuple(tuple(a * b for b in scale) for a in scale))
    # Differences with steps of 1e-6 and 1e-9: their squares are far below what is allowed.
    digits = 48 if dtype == np.float32 else 72
    check(getattr(incomplete, name), reference, points, dtype, floors=floors, digits=digits)


@pytest.mark.parametrize("dtype", DTYPES)
def test_closed_forms_far_out(dtype):
    with jax.enable_x64(dtype == np.float64):
        x = jnp.asarray([1e-30, 1e-3, 0.7, 20.0, 800.0, 1e6], dtype)
        eps = 16 * np.finfo(dtype).eps
        exact = np.asarray(x, np.float64)
        upper = jax.jit(incomplete.log_gammaincc)(jnp.ones_like(x), x)
        np.testing.assert_allclose(upper, -exact, rtol=eps)
        lower = jax.jit(incomplete.log_gammainc)(jnp.ones_like(x), x)
        keep = exact < 50  # beyond, exp(-x) is below rounding or below the smallest float
        # log(1 - e^-x) by the form that keeps its digits on each side.
        want = np.where(
            exact < 0.7,
            np.log(-np.expm1(-exact)),
            np.log1p(-np.exp(-np.maximum(exact, 0.7))),
        )
        np.testing.assert_allclose(lower[keep], want[keep], rtol=2 * eps)
        second = jax.jit(incomplete.log_gammaincc)(2.0, x)
        np.testing.assert_allclose(second[2:], (np.log1p(exact) - exact)[2:], rtol=eps)
        a = jnp.asarray([1e-3, 0.5, 7.0, 1e3, 1e5], dtype)
        shape, p = np.asarray(a, np.float64), float(dtype(0.3))
        power = jax.jit(incomplete.log_betainc)(a, 1.0, p)
        # For the smallest shape I is near 1: there the bound is half a rounding of I itself.
        np.testing.assert_allclose(power, shape * np.log(p), rtol=eps, atol=np.finfo(dtype).eps / 2)
        np.testing.assert_allclose(
            jax.jit(incomplete.log_betaincc)(1.0, a, p), shape * np.log1p(-p), rtol=eps
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_huge_shapes_against_scipy(dtype):
    a = np.asarray([1e6, 1e6, 1e7, 1e8, 1e8], dtype)
    x = (a * (1 + np.asarray([-3.0, 2.0, 0.5, -1.0, 4.0]) / np.sqrt(a))).astype(dtype)
    b = (3 * a).astype(dtype)
    y = (0.25 * (1 + np.asarray([-3.0, 2.0, 0.5, -1.0, 4.0]) / np.sqrt(a))).astype(dtype)
    with jax.enable_x64(dtype == np.float64):
        got = [
            jax.jit(f)(*map(jnp.asarray, args))
            for f, args in [
                (incomplete.log_gammainc, (a, x)),
                (incomplete.log_gammaincc, (a, x)),
                (incomplete.log_betainc, (a, b, y)),
                (incomplete.log_betaincc, (a, b, y)),
            ]
        ]
    wide = [v.astype(np.float64) for v in (a, x, b, y)]
    gamma = scipy.stats.gamma(wide[0])
    beta = scipy.stats.beta(wide[0], wide[2])
    want = [np.log(f(v)) for d, v in ((gamma, wide[1]), (beta, wide[3])) for f in (d.cdf, d.sf)]
    # SciPy's own digits in float64.
    tight = 1e-9 if dtype == np.float64 else 1e-5
    for value, exact in zip(got, want, strict=True):
        np.testing.assert_allclose(value, exact, rtol=tight)


EDGES = {
    "log_gammainc": [((2.0, 0.0), -INF), ((2.0, INF), 0.0), ((0.5, 0.0), -INF)],
    "log_gammaincc": [((2.0, 0.0), 0.0), ((2.0, INF), -INF), ((0.5, 0.0), 0.0)],
    "log_betainc": [((2.0, 3.0, 0.0), -INF), ((2.0, 3.0, 1.0), 0.0), ((0.5, 0.5, 1.0), 0.0)],
    "log_betaincc": [((2.0, 3.0, 0.0), 0.0), ((2.0, 3.0, 1.0), -INF), ((0.5, 0.5, 1.0), -INF)],
}


@pytest.mark.parametrize("name", EDGES)
def test_edges_and_nan(name):
    f = getattr(incomplete, name)
    args, want = zip(*EDGES[name], strict=True)
    argnums = tuple(range(len(args[0])))
    # A NaN in each argument in turn, inside and on an edge.
    first, last = args[0], (*args[0][:-1], 0.5)
    rows = [
        [np.nan if i == j else c for j, c in enumerate(row)]
        for row in (first, last)
        for i in argnums
    ]

    def everything(*args):
        return f(*args), jax.grad(f, argnums)(*args), jax.jacfwd(f, argnums)(*args)

    value, *slopes = jax.jit(jax.vmap(everything))(*np.float32([*args, *rows]).T)
    n = len(args)
    np.testing.assert_array_equal(value[:n], want)
    assert np.isnan(value[n:]).all()
    assert all(np.all(slope[:n] == 0) for slope in jax.tree.leaves(slopes))


def test_narrow_floats_are_widened():
    narrow = incomplete.log_gammainc(jnp.bfloat16(2.5), jnp.int32(3))
    assert narrow.dtype == jnp.float32 and narrow == incomplete.log_gammainc(2.5, 3.0)
    assert incomplete.log_betaincc(jnp.bfloat16(2.5), 1, jnp.bfloat16(0.5)).dtype == jnp.float32
    assert incomplete.log_betainc(jnp.ones((3, 1)), jnp.ones(2), 0.5).shape == (3, 2)


def test_the_plain_formulas_fail_where_these_hold():
    """In float32 the tail is gone, or 1 - P has no digit, and jax's slope in b is missing."""
    a, x = jnp.float32(3.0), jnp.float32(200.0)
    want = float(mp.log(mp.gammainc(3, 200, regularized=True)))
    assert abs(incomplete.log_gammaincc(a, x) - want) < 1e-4
    assert not abs(jnp.log(1 - jnp.exp(jnp.log(jax.scipy.special.gammainc(a, x)))) - want) < 1
    far = float(mp.log(mp.betainc(300, 2, 0, mp.mpf(0.5), regularized=True)))
    assert abs(incomplete.log_betainc(300.0, 2.0, 0.5) - far) < 1e-4
    assert not abs(jnp.log(jax.scipy.special.betainc(300.0, 2.0, 0.5)) - far) < 1


def test_slopes_of_shapes_below_and_above_the_squares_that_floats_hold():
    # For tiny shapes I is b / (a + b); for a huge a and a tiny b, log I is a log x.
    both = jax.jit(jax.value_and_grad(incomplete.log_betainc, (0, 1, 2)))
    for a, b in ((1e-19, 1e-19), (1e-20, 1e-5), (3e-25, 1e-24)):
        a, b = np.float32(a), np.float32(b)
        _, slopes = both(a, b, np.float32(0.3))
        want = -1 / (float(a) + float(b)), float(a) / (float(b) * (float(a) + float(b)))
        np.testing.assert_allclose(slopes[:2], want, rtol=1e-4)
    a, x = np.float32(7e19), np.float32(0.44)
    value, slopes = both(a, np.float32(8e-9), x)
    log_x = np.log(float(x))
    np.testing.assert_allclose(value, float(a) * log_x, rtol=1e-6)
    np.testing.assert_allclose([slopes[0], slopes[2]], [log_x, float(a) / float(x)], rtol=1e-6)
