"""Log-space functions against mpmath, in eps of the dtype, with derivatives to second order."""

import fractions
import functools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from likelax.numerics import logspace
from numerics.reference import DTYPES, INF, all_derivatives, check, check_fails

X = [1e-30, 1e-10, 1e-4, 0.1, 0.5, 0.69, 0.7, 1.0, 3.0, 12.0, 17.5, 30.0, 60.0, 80.0]
LINE = [s * x for x in X for s in (-1, 1)] + [0.0]
PROBS = [1e-30, 1e-6, 0.01, 0.2, 0.25, 0.3, 0.49, 0.4999, 0.5, 0.5001, 0.6, 0.75, 0.8, 0.99, 0.9999]


def mp_sigmoid(x):
    return 1 / (1 + mp.exp(-x))


ONE = {
    "log1p": (
        mp.log1p,
        [-0.99, -0.5, *np.linspace(-0.42, -0.25, 40), -1e-9, 0.0, 1e-30, 0.3, 5.0, 1e9],
    ),
    "log1mexp": (lambda x: mp.log(-mp.expm1(-x)), X),
    "softplus": (lambda x: mp.log1p(mp.exp(x)), LINE),
    "log_sigmoid": (lambda x: -mp.log1p(mp.exp(-x)), LINE),
    "sigmoid": (mp_sigmoid, LINE),
    "logcosh": (lambda x: mp.log(mp.cosh(x)), LINE),
    "tanh_log_det": (lambda x: -2 * mp.log(mp.cosh(x)), LINE),
    "logit": (lambda p: mp.log(p / (1 - p)), PROBS),
    "entropy_term": (lambda v: -mp.exp(v) * v, [-60.0, -5.0, -1.5, -0.5, -1e-3, 0.0]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ONE)
def test_one_argument(name, dtype):
    reference, grid = ONE[name]
    # The second derivative of logit is 0 at 1/2; its natural scale there is 1 / (p (1 - p)) = 4.
    # (That of sigmoid is 0 at 0, of scale 1/8.)
    floors = (1, 0, {"logit": 4, "sigmoid": 0.125}.get(name, 0))
    check(getattr(logspace, name), reference, [(x,) for x in grid], dtype, floors=floors)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["log1p", "log1mexp", "logcosh", "tanh_log_det", "logit"])
def test_relative_accuracy_at_the_zero(name, dtype):
    reference, grid = ONE[name]
    grid = [x for x in grid if abs(x) > 1e-12]
    check(
        getattr(logspace, name),
        reference,
        [(x,) for x in grid],
        dtype,
        floors=(0, 0, 4 * (name == "logit")),
    )


PAIRS = [(a, a - d) for a in (-80.0, -1.0, 0.0, 3.0, 1e4) for d in (1e-2, 0.5, 2.0, 40.0)]
TWO = {
    "log_add_exp": (lambda a, b: mp.log(mp.exp(a) + mp.exp(b)), [*PAIRS, (1.0, 1.0), (-5.0, 4.0)]),
    "log_sub_exp": (lambda a, b: mp.log(mp.exp(a) - mp.exp(b)), PAIRS),
    "xlogy": (lambda x, y: x * mp.log(y), [(0.0, 0.3), (2.0, 1e-15), (3.0, 1.5), (1e4, 7.0)]),
    "xlog1py": (
        lambda x, y: x * mp.log1p(y),
        [(0.0, 0.3), (2.0, 1e-15), (3.0, -0.875), (1e4, 7.0)],
    ),
    "divide": (
        lambda x, s: x / s,
        [(x, s) for x in (0.0, 1e-3, 2.0) for s in (1e-12, 0.7, 3.0, 1e12)],
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TWO)
def test_two_arguments(name, dtype):
    reference, points = TWO[name]
    check(getattr(logspace, name), reference, points, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_along_an_axis(dtype):
    rows = [[0.0, 1.0, -2.0], [1e6, 1e6 + 1, 1e6 - 3], [-1e6, -1e6 + 2, -1e6], [-80.0, 0.0, -3.0]]
    with jax.enable_x64(dtype == np.float64):
        a = jnp.asarray(rows, dtype)

        def everything(row):
            f, g = logspace.logsumexp, logspace.log_softmax
            return (
                *jax.value_and_grad(f)(row),
                jax.hessian(f)(row),
                g(row),
                jax.jacfwd(g)(row),
                jax.jacrev(g)(row),
            )

        total, weights, curves, logs, slopes, reverse = jax.jit(jax.vmap(everything))(a)
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(slopes, reverse, atol=4 * eps)
    with mp.workdps(50):
        for n, row in enumerate(np.asarray(a)):
            exact = [mp.mpf(float(v)) for v in row]
            want = mp.log(mp.fsum(mp.exp(v) for v in exact))
            assert abs(float(total[n]) - want) <= 8 * eps * max(1, abs(want))
            p = [mp.exp(v - want) for v in exact]
            for i in range(3):
                assert abs(float(weights[n, i]) - p[i]) <= 8 * eps * p[i] + eps * mp.mpf(10) ** -30
                assert abs(float(logs[n, i]) - (exact[i] - want)) <= 8 * eps * max(
                    1, abs(exact[i] - want)
                )
                for j in range(3):
                    assert abs(float(curves[n, i, j]) - ((i == j) * p[i] - p[i] * p[j])) <= 32 * eps
                    assert abs(float(slopes[n, i, j]) - ((i == j) - p[j])) <= 32 * eps


EDGES = [
    ("log_sub_exp", (-INF, -INF), -INF),
    ("log_sub_exp", (1.5, 1.5), -INF),
    ("log_sub_exp", (1.5, -INF), 1.5),
    ("log_add_exp", (-INF, -INF), -INF),
    ("log_add_exp", (-INF, 2.0), 2.0),
    ("log_add_exp", (INF, 2.0), INF),
    ("log_add_exp", (INF, INF), INF),
    ("xlogy", (0.0, 0.0), 0.0),
    ("xlogy", (2.0, 0.0), -INF),
    ("xlogy", (0.0, INF), 0.0),
    ("xlog1py", (0.0, -1.0), 0.0),
    ("xlog1py", (2.0, -1.0), -INF),
    ("divide", (INF, 2.0), INF),
    ("divide", (0.0, 1e-18), 0.0),
    ("divide", (0.0, 1e19), 0.0),
    ("entropy_term", (-INF,), 0.0),
    ("softplus", (-INF,), 0.0),
    ("softplus", (INF,), INF),
    ("log_sigmoid", (INF,), 0.0),
    ("log1mexp", (INF,), 0.0),
    ("log1mexp", (100.0,), 0.0),
    ("soft_limit", (0.0, 3.0), 0.0),
    ("soft_limit", (INF, 3.0), INF),
    ("logit", (0.5,), 0.0),
]


@pytest.mark.parametrize("name", dict.fromkeys(name for name, _, _ in EDGES))
def test_edges_have_their_value_and_no_nan(name):
    args = np.float32([args for n, args, _ in EDGES if n == name]).T
    values, derivatives = all_derivatives(getattr(logspace, name), *args)
    assert np.array_equal(values, [value for n, _, value in EDGES if n == name])
    assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(derivatives))


def test_zero_probability_has_zero_gradient():
    for f, args in [
        (logspace.log_sub_exp, (-INF, -INF)),
        (logspace.log_sub_exp, (2.0, 2.0)),
        (logspace.log_add_exp, (-INF, -INF)),
        (logspace.xlogy, (0.0, 0.0)),
        (logspace.xlog1py, (0.0, -1.0)),
        (logspace.entropy_term, (-INF,)),
    ]:
        argnums = tuple(range(len(args)))
        assert all(g == 0 for g in jax.grad(f, argnums)(*args)), f.__name__
    assert jax.grad(logspace.softplus)(0.0) == 0.5
    assert jax.grad(logspace.xlogy, 1)(0.0, 3.0) == 0 and jax.grad(logspace.xlogy)(0.0, 1.0) == 0


def test_scales_far_out_keep_their_gradient():
    for s in (1e-20, 1e-17, 1e19):
        z, slope = jax.value_and_grad(lambda s: logspace.divide(jnp.float32(s) * 0 + 2 * s, s))(s)
        assert z == 2 and abs(slope) <= 1e-6 / s
        x = jnp.float32(3 * s)
        np.testing.assert_allclose(
            jax.grad(lambda s, x=x: logspace.divide(x, s))(s), -3 / s, rtol=1e-6
        )
        naive = jax.grad(lambda s, x=x: x / s)(jnp.float32(s))
        assert s == 1e-17 or not abs(naive + 3 / s) < 1e-3 / s  # negative control: autodiff's s^-2
    loc = jax.grad(logspace.standardize, (0, 1, 2))(3.0, 1.0, 2.0)
    np.testing.assert_allclose(loc, (0.5, -0.5, -0.5))


def test_logsumexp_of_nothing_and_of_infinities():
    value_and_grad = jax.jit(jax.value_and_grad(logspace.logsumexp))
    dead = jnp.full(3, -INF)
    value, slope = value_and_grad(dead)
    assert value == -INF and np.all(slope == 0)
    assert np.all(jax.jit(jax.hessian(logspace.logsumexp))(dead) == 0)
    value, slope = value_and_grad(jnp.array([1.0, INF, -INF]))
    assert value == INF and np.array_equal(slope, [0, 1, 0])
    a, keep = jnp.array([1.0, jnp.nan, 2.0]), jnp.array([True, False, True])
    value, slope = jax.jit(jax.value_and_grad(functools.partial(logspace.logsumexp, where=keep)))(a)
    np.testing.assert_allclose(value, np.logaddexp(1.0, 2.0), rtol=1e-6)
    assert slope[1] == 0 and np.all(np.isfinite(slope))
    # A dead component's own bad tangent must not reach the sum.
    tangent = jnp.array([1.0, jnp.nan])
    assert jax.jvp(logspace.logsumexp, (jnp.array([0.0, -INF]),), (tangent,))[1] == 1
    a = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_allclose(
        logspace.logsumexp(a, axis=(0, 2)), jax.scipy.special.logsumexp(a, axis=(0, 2)), rtol=1e-6
    )
    assert logspace.logsumexp(a, axis=1, where=jnp.zeros(4, bool)).shape == (2, 4)


def test_log_softmax_with_impossible_categories():
    logits = jnp.array([1.0, -INF, 2.0])
    reverse = jax.jit(jax.jacrev(logspace.log_softmax))
    jacobian = reverse(logits)
    assert (
        np.all(np.isfinite(jacobian)) and np.all(jacobian[1] == 0) and np.all(jacobian[:, 1] == 0)
    )
    np.testing.assert_allclose(
        jacobian, jax.jit(jax.jacfwd(logspace.log_softmax))(logits), rtol=1e-6
    )
    assert logspace.log_softmax(logits)[1] == -INF
    dead = jnp.full(3, -INF)
    assert np.all(logspace.log_softmax(dead) == -INF)
    assert np.all(reverse(dead) == 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_soft_limit(dtype):
    with jax.enable_x64(dtype == np.float64):
        x = jnp.asarray([-1e6, -20.0, -5.0, -3.0, 0.0, 1.0, 5.0, 5.5, 100.0], dtype)
        y = jax.jit(logspace.soft_limit)(x, 5.0)
        slope = jax.jit(jax.vmap(jax.grad(logspace.soft_limit), (0, None)))(x, 5.0)
        back = jax.jit(logspace.soft_limit_inverse)(y, 5.0)
        assert y.dtype == dtype
        inside = np.abs(x) <= 5
        assert np.array_equal(y[inside], x[inside]) and np.all(slope[inside] == 1)
        excess = np.maximum(np.abs(x).astype(float) - 5, 0)
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(
            y, np.where(inside, x, np.sign(x) * (5 + np.log1p(excess))), rtol=4 * eps
        )
        np.testing.assert_allclose(slope, 1 / (1 + excess), rtol=4 * eps)
        np.testing.assert_allclose(back, x, rtol=64 * eps)


def test_nan_in_gives_nan_out():
    nan = jnp.nan
    for name in ONE:
        assert np.isnan(getattr(logspace, name)(nan)), name
    pair = jnp.array([nan, 0.5])
    assert np.isnan(logspace.logsumexp(pair)) and np.all(np.isnan(logspace.log_softmax(pair)))
    for name in [*TWO, "soft_limit", "soft_limit_inverse"]:
        f = getattr(logspace, name)
        assert np.isnan(f(nan, 0.5)) and (name.startswith("soft") or np.isnan(f(0.0, nan))), name


def test_dtypes_are_float32_at_least():
    assert logspace.softplus(jnp.bfloat16(1)).dtype == jnp.float32
    assert logspace.xlogy(jnp.int32(2), jnp.float16(1)).dtype == jnp.float32
    with jax.enable_x64(True):
        assert logspace.divide(jnp.float32(1), jnp.float64(3)).dtype == jnp.float64
        assert logspace.log_sigmoid(jnp.float32(1)).dtype == jnp.float32


NAIVE = {
    "log1mexp": lambda x: jnp.log(1 - jnp.exp(-x)),
    "softplus": lambda x: jnp.log(1 + jnp.exp(x)),
    "tanh_log_det": lambda x: jnp.log(1 - jnp.tanh(x) ** 2),
    "logit": lambda p: jnp.log(p) - jnp.log(1 - p),
}


def test_why_log1p_is_not_jax_own():
    """On the oldest jax that likelax runs on; newer ones have mended their float64 log1p, and ours
    can go when those are the oldest.
    """
    with jax.enable_x64(True):
        x = jnp.linspace(-0.414, -0.36, 1000)
        error = (
            np.abs(jax.jit(jnp.log1p)(x) / np.log1p(np.asarray(x)) - 1) / np.finfo(np.float64).eps
        )
    mended = jax.__version_info__ >= (0, 11) or jax.default_backend() != "cpu"
    assert mended or error.max() > 16


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAIVE)
def test_the_naive_formula_fails_the_same_check(name, dtype):
    reference, grid = ONE[name]
    check_fails(NAIVE[name], reference, [(x,) for x in grid], dtype)


def test_complements_keep_the_digits_of_the_smaller_one():
    log_p = np.float32([-1e-9, -0.3, -20.0, -np.inf, -0.6931472])
    rare = np.float32([-21.0, -1.4, -3e-9, 0.0, -0.7])
    first, second = logspace.log_complements(log_p, rare)
    # Where the second is at most a half it stays, and the first is made from it; and the reverse.
    exact = np.log(-np.expm1(rare[:2].astype(float)))
    np.testing.assert_allclose(first[:2], exact, rtol=1e-6)
    np.testing.assert_array_equal(second[:2], rare[:2])
    np.testing.assert_allclose(second[2], -np.exp(-20.0), rtol=1e-6)
    np.testing.assert_array_equal(first[2:4], log_p[2:4])
    assert second[3] == 0 and first[0] != log_p[0]  # the control: it was not right before


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_power_of_two_is_a_unit_without_rounding(dtype):
    with jax.enable_x64(dtype == np.float64):
        length = np.array([1e-20, 3e-6, 0.7, 1.0, 5e9, 1e20], dtype)
        values = np.array([length * 0.3, length * 1.7]).astype(dtype)
        unit, slope = jax.vmap(jax.value_and_grad(logspace.power_of_two))(length, *values)
        far = np.array([1e-20, 1e20], dtype)  # both are floats in this unit
        unit_far = np.asarray(logspace.power_of_two(far[0], *far))
    unit = np.asarray(unit)
    assert unit.dtype == dtype
    np.testing.assert_array_equal(np.frexp(unit)[0], 0.5)
    assert (np.abs(np.log2(length / unit)) <= np.log2(1.5)).all()
    np.testing.assert_array_equal(slope, 0)

    def exact(x, unit):
        quotients = [fractions.Fraction(float(a)) / fractions.Fraction(float(unit)) for a in x]
        return [a == float(b) for a, b in zip(quotients, x / unit, strict=True)]

    assert all(all(exact(x, u)) for x, u in zip(values.T, unit, strict=True))
    assert all(exact(far, unit_far)) and np.isfinite(far / unit_far).all()
    # The control: a length itself rounds.
    assert not all(all(exact(x, u)) for x, u in zip(values.T, length, strict=True))


def test_nan_is_passed_on_through_an_exp():
    """One for a whole row: as a constant, XLA's CPU backend makes any numbers of it."""
    x = jnp.linspace(-5.0, 50.0, 64)

    @jax.jit
    def ask(source, known, x):
        passed = jax.vmap(lambda s: jnp.exp(logspace.passing_nan(-jnp.abs(x), s)))(source)
        held = jax.vmap(lambda k: jnp.exp(logspace.nan_unless(k, -jnp.abs(x))))(known)
        slopes = jax.vmap(lambda k: jax.grad(lambda x: jnp.sum(logspace.nan_unless(k, x**2)))(x))
        return passed, held, slopes(known)

    passed, held, slopes = map(
        np.asarray, ask(jnp.array([0.5, np.nan]), jnp.array([True, False]), x)
    )
    for got in (passed, held):
        np.testing.assert_allclose(got[0], np.exp(-np.abs(x)), rtol=1e-5)
        assert np.isnan(got[1]).all()
    np.testing.assert_allclose(slopes[0], 2 * x, rtol=1e-6)
    np.testing.assert_array_equal(slopes[1], np.zeros(64))
