"""Log-densities of the gamma function's family against mpmath, to second order."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import scipy.special

import likelax as lx
from likelax.numerics import counts, densities, student_t, trials
from likelax.numerics.logspace import log_sigmoid
from numerics.reference import DTYPES, INF, all_derivatives, check, loggamma

# ---- references: the textbook formulas in many digits ----


def mp_poisson(k, rate):
    return k * mp.log(rate) - rate - loggamma(k + 1)


def mp_gamma(x, a, rate):
    return a * mp.log(rate) + (a - 1) * mp.log(x) - rate * x - loggamma(a)


def mp_beta(x, a, b):
    log_beta = loggamma(a) + loggamma(b) - loggamma(a + b)
    return (a - 1) * mp.log(x) + (b - 1) * mp.log1p(-x) - log_beta


def mp_log_sigmoid(x):
    return -mp.log1p(mp.exp(-x))


def mp_binomial(k, n, logits):
    choose = loggamma(n + 1) - loggamma(k + 1) - loggamma(n - k + 1)
    return choose + k * mp_log_sigmoid(logits) + (n - k) * mp_log_sigmoid(-logits)


def mp_negative_binomial(k, r, logits):
    choose = loggamma(k + r) - loggamma(k + 1) - loggamma(r)
    return choose + k * mp_log_sigmoid(logits) + r * mp_log_sigmoid(-logits)


def mp_negative_binomial_mean(k, r, m):
    choose = loggamma(k + r) - loggamma(k + 1) - loggamma(r)
    return choose + k * mp.log(m / (r + m)) - r * mp.log1p(m / r)


def mp_student_t(df):
    return loggamma((df + 1) / 2) - loggamma(df / 2) - mp.log(mp.pi * df) / 2


def mp_dirichlet(x, y, a, b, c):
    total = loggamma(a + b + c) - loggamma(a) - loggamma(b) - loggamma(c)
    return total + (a - 1) * mp.log(x) + (b - 1) * mp.log(y) + (c - 1) * mp.log(1 - x - y)


# ---- the functions in their natural arguments ----


def binomial(k, n, logits):
    return trials.binomial_logits_log_pmf(k, n, logits)


def negative_binomial(k, r, logits):
    return counts.negative_binomial_log_pmf(k, r, log_sigmoid(logits), log_sigmoid(-logits))


def dirichlet(x, y, a, b, c):
    return densities.dirichlet_log_pdf(jnp.stack([x, y, 1 - x - y]), jnp.stack([a, b, c]))


POISSON = [(0.0, 0.3), (0.0, 50.0), (0.25, 2.0), (1.0, 1.0), (1.0, 1e-6), (3.0, 7.5), (20.0, 20.0)]
POISSON += [(1e2, 1e-3), (1e3, 1100.0), (1e7, 1e7), (1e7, 1.001e7), (2.0, 3e4), (1e6, 10.0)]
GAMMA = [(0.1, 0.01, 1.0), (1e-5, 0.5, 2.0), (3.0, 1.0, 0.7), (0.7, 1.999, 1.0), (0.7, 2.0, 1.0)]
GAMMA += [(5.0, 3.5, 2.0), (20.0, 20.0, 1.0), (1e8, 1e8, 1.0), (1.0001e8, 1e8, 1.0)]
GAMMA += [(1e-3, 5.0, 0.1), (50.0, 2.5, 3.0), (3.0, 1e6, 333333.0), (3e-9, 30.0, 1e10)]
BETA = [(0.5, 1.0, 1.0), (0.1, 0.5, 0.5), (0.3, 2.0, 2.0), (0.3, 5.0, 1.5), (1e-6, 0.3, 40.0)]
BETA += [(0.75, 300.0, 100.0), (0.25, 1e6, 3e6), (0.251, 1e6, 3e6), (0.999, 50.0, 0.1)]
BETA += [(0.01, 1e7, 9.9e8), (1e-8, 2.5, 2e8), (0.9, 1e-3, 3.0)]
BINOMIAL = [(3.0, 10.0, 0.4), (0.0, 10.0, -2.0), (10.0, 10.0, 2.0), (1.0, 1.0, 0.0)]
BINOMIAL += [(500.0, 1e3, 0.01), (1e6, 1e7, -2.2), (5.0, 1e7, -14.5), (7.0, 8.0, 6.0)]
BINOMIAL += [(0.0, 0.0, 0.3), (2.0, 4.0, -30.0), (3.0, 4.0, 90.0), (1.0, 2.0, 0.0)]
NEGATIVE = [(0.0, 2.0, -1.0), (3.0, 2.5, 0.3), (1e2, 1e7, -11.5), (1e7, 10.0, 13.8)]
NEGATIVE += [(1e6, 1e6, 0.0), (1.0, 1e-4, 5.0), (20.0, 3.0, -25.0), (0.0, 1e7, -14.0)]
MEAN = [(0.0, 2.0, 3.0), (5.0, 2.0, 3.0), (1.0, 0.01, 1.0), (1e2, 1e7, 100.0), (3.0, 1e10, 3.5)]
MEAN += [(1e6, 0.5, 1e6), (1e7, 100.0, 1.1e7), (50.0, 1e-3, 1e4), (2.0, 1e8, 1e-5)]
MEAN += [(1e7, 1e7, 1e7), (0.0, 1e7, 1e3), (0.0, 1e-4, 50.0)]
STUDENT = [(df,) for df in (1e-3, 0.1, 1.0, 2.0, 5.0, 16.0, 30.0, 1e3, 1e7, 1e10)]
DIRICHLET = [(0.25, 0.625, 0.5, 3.0, 2.0), (0.5, 0.25, 2e6, 1e6, 1e6)]
DIRICHLET += [(0.0625, 0.9375 - 2.0**-10, 1.5, 40.0, 0.05)]


def binomial_floors(points, total):
    """In eps: p itself errs by some eps of max(1, |logits|), whatever is done with it.

    Value and slope in the logits; nothing is added to the curvature.
    """
    k, r, logits = np.asarray(points, np.float64).T
    p, q = scipy.special.expit(logits), scipy.special.expit(-logits)
    size, n = np.maximum(1.0, np.abs(logits)), total(k, r)
    return np.maximum(1.0, np.abs(k - n * p) * size), n * p * q * size


def natural(*arguments):
    """The floors of slopes and curvatures: per unit of the logarithm of each argument."""
    inverse = [1.0 / np.asarray(a, np.float64) for a in arguments]
    return tuple(inverse), tuple(tuple(a * b for b in inverse) for a in inverse)


@pytest.mark.parametrize("dtype", DTYPES)
def test_poisson(dtype):
    check(
        counts.poisson_log_pmf,
        mp_poisson,
        POISSON,
        dtype,
        value=2,
        slope=8,
        digits=140,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_poisson_of_whole_counts(dtype):
    """What samplers accept by."""
    whole = [(k, rate) for k, rate in POISSON if k == int(k)] + [(1e3, 1e30), (1e30, 20.0)]
    with jax.enable_x64(dtype == np.float64):
        k, rate = jnp.asarray(whole, dtype).T
        points = np.stack([k, rate], -1).tolist()
        got = np.asarray(jax.jit(counts.whole_poisson_log_pmf)(k, rate, rate - k))
        below = float(counts.whole_poisson_log_pmf(-jnp.ones((), dtype), rate[0], rate[0] + 1))
    with mp.workdps(60):
        want = [float(mp_poisson(*map(mp.mpf, point))) for point in points]
    np.testing.assert_allclose(got, want, rtol=4 * np.finfo(dtype).eps)
    assert below == -np.inf


THREE = {
    "gamma_log_pdf": (densities.gamma_log_pdf, mp_gamma, GAMMA),
    "beta_log_pdf": (densities.beta_log_pdf, mp_beta, BETA),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", THREE)
def test_gamma_and_beta(name, dtype):
    f, reference, points = THREE[name]
    floors = (1, *natural(*np.asarray(points, dtype).T))
    check(f, reference, points, dtype, value=4, slope=4, curve=4, floors=floors, digits=140)


@pytest.mark.parametrize("dtype", DTYPES)
def test_binomial(dtype):
    value, slope = binomial_floors(BINOMIAL, lambda k, n: n)
    check(
        binomial,
        mp_binomial,
        BINOMIAL,
        dtype,
        value=4,
        slope=4,
        curve=8,
        floors=(value, slope, 0),
        argnums=(2,),
        digits=140,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_negative_binomial(dtype):
    value, slope = binomial_floors(NEGATIVE, lambda k, r: k + r)
    r = np.asarray(NEGATIVE).T[1]
    check(
        negative_binomial,
        mp_negative_binomial,
        NEGATIVE,
        dtype,
        value=4,
        slope=16,
        curve=8,
        floors=(value, (1 / r, slope), ((r**-2.0, 0), (0, 0))),
        argnums=(1, 2),
        digits=140,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_negative_binomial_by_its_mean(dtype):
    _, r, m = np.asarray(MEAN, dtype).T
    check(
        counts.negative_binomial_mean_log_pmf,
        mp_negative_binomial_mean,
        MEAN,
        dtype,
        value=4,
        slope=4,
        floors=(1, *natural(r, m)),
        argnums=(1, 2),
        digits=140,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_student_t_log_normalizer(dtype):
    check(
        student_t.student_t_log_normalizer,
        mp_student_t,
        STUDENT,
        dtype,
        value=4,
        slope=8,
        curve=8,
        digits=140,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_dirichlet(dtype):
    floors = (1, *natural(*np.asarray(DIRICHLET, dtype).T))
    check(
        dirichlet,
        mp_dirichlet,
        DIRICHLET,
        dtype,
        value=4,
        slope=8,
        curve=16,
        floors=floors,
        digits=100,
    )


def test_where_other_libraries_are_wrong():
    """Off by whole nats, -inf or NaN elsewhere (shared/numerics.md), in float32 too."""
    with mp.workdps(40):
        for got, want in [
            (counts.poisson_log_pmf(1e7, 1e7), mp_poisson(mp.mpf(10) ** 7, mp.mpf(10) ** 7)),
            (densities.gamma_log_pdf(1e8, 1e8, 1.0), mp_gamma(mp.mpf(1e8), mp.mpf(1e8), mp.mpf(1))),
            (student_t.student_t_log_normalizer(1e7), mp_student_t(mp.mpf(1e7))),
            (
                counts.negative_binomial_mean_log_pmf(1e6, 1e6, 1e6),
                mp_negative_binomial_mean(*map(mp.mpf, (1e6, 1e6, 1e6))),
            ),
            (
                counts.negative_binomial_mean_log_pmf(10.0, 1e9, 8.0),
                mp_negative_binomial_mean(*map(mp.mpf, (10, 1e9, 8))),
            ),
        ]:
            assert got.dtype == jnp.float32
            assert abs(float(got) - want) <= 1e-6 * abs(want)
    assert abs(counts.poisson_log_pmf(1e7, 1e7) + 8.978) < 1e-3


EDGES = [
    (counts.poisson_log_pmf, (0.0, 0.0), 0.0),
    (counts.poisson_log_pmf, (3.0, 0.0), -INF),
    (densities.gamma_log_pdf, (0.0, 0.5, 2.0), INF),
    (densities.gamma_log_pdf, (0.0, 1.0, 2.0), np.log(np.float32(2.0))),
    (densities.gamma_log_pdf, (0.0, 3.0, 2.0), -INF),
    (densities.beta_log_pdf, (0.0, 1.0, 1.0), 0.0),
    (densities.beta_log_pdf, (1.0, 1.0, 1.0), 0.0),
    (densities.beta_log_pdf, (0.0, 0.5, 1.0), INF),
    (densities.beta_log_pdf, (1.0, 2.0, 3.0), -INF),
    (densities.beta_log_pdf, (0.0, 2.0, 1.0), -INF),
    (trials.binomial_probs_log_pmf, (0.0, 5.0, 0.0), 0.0),
    (trials.binomial_probs_log_pmf, (5.0, 5.0, 1.0), 0.0),
    (trials.binomial_probs_log_pmf, (2.0, 5.0, 0.0), -INF),
    (trials.binomial_logits_log_pmf, (0.0, 0.0, INF), 0.0),
    (counts.negative_binomial_log_pmf, (0.0, 5.0, -INF, 0.0), 0.0),
    (counts.negative_binomial_log_pmf, (2.0, 5.0, -INF, 0.0), -INF),
    (counts.negative_binomial_mean_log_pmf, (0.0, 5.0, 0.0), 0.0),
    (counts.negative_binomial_mean_log_pmf, (2.0, 5.0, 0.0), -INF),
    (student_t.student_t_log_normalizer, (INF,), np.float32(-0.5 * np.log(2 * np.pi))),
]


@pytest.mark.parametrize("f", dict.fromkeys(f for f, _, _ in EDGES))
def test_edges_have_their_value_and_finite_slopes(f):
    rows = [(args, want) for g, args, want in EDGES if g is f]
    args = np.float32([args for args, _ in rows]).T
    # A count is data; every parameter's slope is a number, forward and in reverse.
    parameters = tuple(range(len(args) > 1, len(args)))

    def everything(*args):
        one_way, other = jax.grad(f, parameters), jax.jacfwd(f, parameters)
        return f(*args), one_way(*args), other(*args)

    values, *slopes = jax.jit(jax.vmap(everything))(*args)
    np.testing.assert_allclose(values, [want for _, want in rows], rtol=2e-7)
    assert not any(np.isnan(slope).any() for slope in jax.tree.leaves(slopes))


def test_one_sided_slopes_on_the_edges():
    slope = jax.grad(counts.poisson_log_pmf, 1)(0.0, 0.0)
    assert slope == -1
    _, derivatives = all_derivatives(densities.beta_log_pdf, *np.float32([[0, 1], [1, 1], [1, 1]]))
    slope_x, slope_a, slope_b = derivatives[1]
    assert np.all(slope_x == 0) and np.isfinite(slope_a).all() and np.isfinite(slope_b).all()
    assert jax.grad(densities.gamma_log_pdf)(0.0, 1.0, 3.0) == -3


def test_a_dirichlet_has_its_corners():
    a = jnp.array([2.0, 1.0, 0.5])
    # Where x_0 = 0 it is -inf, also beside x_2 = 0, which alone would make it inf.
    corners = densities.dirichlet_log_pdf(jnp.eye(3), a)
    np.testing.assert_array_equal(corners, [INF, -INF, -INF])
    uniform = densities.dirichlet_log_pdf(jnp.eye(3), jnp.ones(3))
    np.testing.assert_allclose(uniform, np.log(2.0), rtol=1e-6)


FUNCTIONS = [
    (counts.poisson_log_pmf, (3.0, 2.5)),
    (densities.gamma_log_pdf, (0.75, 2.5, 1.5)),
    (densities.beta_log_pdf, (0.25, 2.5, 1.5)),
    (trials.binomial_logits_log_pmf, (3.0, 5.0, -0.5)),
    (counts.negative_binomial_log_pmf, (3.0, 5.0, -0.5, -1.0)),
    (counts.negative_binomial_mean_log_pmf, (3.0, 5.0, 2.5)),
    (student_t.student_t_log_normalizer, (5.0,)),
]


@pytest.mark.parametrize("f, args", FUNCTIONS)
def test_nan_in_gives_nan_out_and_narrow_floats_are_widened(f, args):
    # Each argument in turn, and a count of 0 beside it.
    rows = [[jnp.nan if i == j else c for j, c in enumerate(args)] for i in range(len(args))]
    rows += [[0.0, *row[1:]] for row in rows[1:]]
    assert np.all(np.isnan(f(*np.float32(rows).T)))
    narrow = f(*(jnp.bfloat16(c) for c in args))
    assert narrow.dtype == jnp.float32 and narrow == f(*(jnp.float32(c) for c in args))


def test_a_dirichlet_of_nan_is_nan():
    x = jnp.array([[0.25, 0.75], [jnp.nan, 0.5]])
    a = jnp.array([[jnp.nan, 2.0], [1.0, 2.0]])
    assert np.all(np.isnan(densities.dirichlet_log_pdf(x, a)))
    assert densities.dirichlet_log_pdf(x.astype(jnp.bfloat16), 1).dtype == jnp.float32


_lgamma = jax.scipy.special.gammaln
NAIVE = {
    "poisson": (lambda k, l: k * jnp.log(l) - l - _lgamma(k + 1), mp_poisson, POISSON),
    "gamma": (
        lambda x, a, r: a * jnp.log(r) + (a - 1) * jnp.log(x) - r * x - _lgamma(a),
        mp_gamma,
        GAMMA,
    ),
    "beta": (
        lambda x, a, b: (
            ((a - 1) * jnp.log(x) + (b - 1) * jnp.log1p(-x))
            - (_lgamma(a) + _lgamma(b) - _lgamma(a + b))
        ),
        mp_beta,
        BETA,
    ),
    "mean": (
        lambda k, r, m: (
            (_lgamma(k + r) - _lgamma(k + 1) - _lgamma(r))
            + (k * jnp.log(m / (r + m)) - r * jnp.log1p(m / r))
        ),
        mp_negative_binomial_mean,
        MEAN,
    ),
    "student": (
        lambda df: _lgamma((df + 1) / 2) - _lgamma(df / 2) - jnp.log(jnp.pi * df) / 2,
        mp_student_t,
        STUDENT,
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAIVE)
def test_the_plain_formula_fails_the_same_check(name, dtype):
    f, reference, points = NAIVE[name]
    points = np.asarray(points, dtype)
    with jax.enable_x64(dtype == np.float64):
        got = jax.jit(f)(*points.T)
    with mp.workdps(60):
        want = [reference(*(mp.mpf(float(c)) for c in p)) for p in points]
        errors = [
            abs(float(g) - w) / max(1, abs(w)) for g, w in zip(np.asarray(got), want, strict=True)
        ]
    assert max(errors) > 1e3 * np.finfo(dtype).eps


def test_gamma_where_rate_times_x_underflows():
    tiny = np.finfo(np.float32).tiny
    for a, rate in ((0.01, 0.3678794), (3.0, 0.1), (0.5, 1e-10), (2.5, 1e-20)):
        a, rate, x = (mp.mpf(float(np.float32(v))) for v in (a, rate, tiny))
        want = a * mp.log(rate) + (a - 1) * mp.log(x) - rate * x - mp.loggamma(a)
        slope = mp.log(rate) + mp.log(x) - mp.digamma(a)
        args = [np.float32(v) for v in (x, a, rate)]
        value, (da, drate) = jax.value_and_grad(densities.gamma_log_pdf, (1, 2))(*args)
        np.testing.assert_allclose(
            [value, da, drate], [float(v) for v in (want, slope, a / rate)], rtol=1e-6
        )
        given = lx.Gamma(args[1], log_rate=jnp.log(args[2])).log_prob(args[0])
        np.testing.assert_allclose(given, float(want), rtol=1e-6)
