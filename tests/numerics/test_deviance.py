"""log1p(u) - u, the deviance and products with their rounding error, against mpmath."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from likelax.numerics import deviance
from numerics.reference import DTYPES, INF, all_derivatives, check, check_fails

SMALL = [1e-20, 1e-7, 1e-3, 0.1, 0.41, 0.42, 0.5999, 0.6]
ONE = [s * u for u in SMALL for s in (-1, 1)] + [-0.999, 0.0, 1.49, 1.5, 10.0, 1e6, 1e30]


def mp_deviance(x, m):
    return x * mp.log(x / m) + m - x


PAIRS = [(3.0, 7.0), (7.0, 3.0), (1e-3, 5.0), (5.0, 1e-3), (2.0, 2.0), (1.0, 2.4481), (1.0, 2.45)]
PAIRS += [(1e7, 10000001.0), (1e8, 1.2e8), (10000001.0, 1e7), (1e-20, 1e10), (1e10, 1e-12)]
PAIRS += [(1.0, 1.5), (1.5, 1.0), (1e-30, 3e-30), (1e30, 1.0001e30)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_log1pmx(dtype):
    def reference(u):
        return mp.log1p(u) - u

    check(deviance.log1pmx, reference, [(u,) for u in ONE], dtype, floors=(0, 0, 0), digits=140)


@pytest.mark.parametrize("dtype", DTYPES)
def test_deviance(dtype):
    check(deviance.deviance, mp_deviance, PAIRS, dtype, floors=(0, 0, 0), digits=140)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gap_carries_digits_that_its_ends_have_lost(dtype):
    # m is x + gap for a gap far below their rounding.
    points = [(3.0, 1e-12), (1e7, 1e-3), (0.5, -1e-18), (20.0, 5.0)]

    def with_gap(x, gap):
        return deviance.gap_deviance(x, x + gap, gap), deviance.log_ratio(x, x + gap, gap)

    with jax.enable_x64(dtype == np.float64):
        values = [with_gap(*(jnp.asarray(c, dtype) for c in p)) for p in points]
    with mp.workdps(60):
        for (x, gap), got in zip(points, values, strict=True):
            x, gap = (mp.mpf(float(dtype(c))) for c in (x, gap))
            for value, want in zip(
                got, (mp_deviance(x, x + gap), mp.log(x / (x + gap))), strict=True
            ):
                if abs(want) > np.finfo(dtype).tiny:
                    assert abs(float(value) / want - 1) <= 8 * np.finfo(dtype).eps, (x, gap)


@pytest.mark.parametrize("dtype", DTYPES)
def test_product_gap_keeps_the_rounding_error_of_the_product(dtype):
    rng = np.random.default_rng(0)
    x, y = (np.exp(rng.normal(size=200) * 5).astype(dtype) for _ in range(2))
    z = (x * y * (1 + rng.integers(-3, 4, 200) * np.finfo(dtype).eps)).astype(dtype)
    with jax.enable_x64(dtype == np.float64):
        got, slopes = jax.jit(
            lambda *p: (
                deviance.product_gap(*p),
                jax.vmap(jax.grad(deviance.product_gap, (0, 1, 2)))(*p),
            )
        )(x, y, z)
    np.testing.assert_array_equal(slopes, (y, x, -np.ones_like(z)))
    with mp.workdps(60):
        for a, b, c, value in zip(x, y, z, got, strict=True):
            a, b, c = (mp.mpf(float(v)) for v in (a, b, c))
            error = abs(mp.mpf(float(value)) - (a * b - c))
            assert error <= 4 * float(np.finfo(dtype).eps) ** 2 * a * b
    # What is too large to be split is still a number.
    assert deviance.product_gap(np.float32(1e30), np.float32(1e5), np.float32(1.0)) > 9e34


EDGES = [
    ("log1pmx", (-1.0,), -INF),
    ("log1pmx", (0.0,), 0.0),
    ("deviance", (0.0, 3.0), 3.0),
    ("deviance", (0.0, 0.0), 0.0),
    ("deviance", (2.0, 0.0), INF),
    ("deviance", (0.0, 1e-30), np.float32(1e-30)),
    ("deviance", (3.0, INF), INF),
    ("deviance", (INF, 3.0), INF),
]


@pytest.mark.parametrize("name, args, want", EDGES)
def test_edges(name, args, want):
    value = getattr(deviance, name)(*np.float32(args))
    assert value == want, (value, want)


def test_a_count_of_zero_has_finite_slopes_in_the_mean():
    _, derivatives = all_derivatives(lambda m: deviance.deviance(0.0, m), np.float32([0.3, 5.0]))
    (_, _), (slope,), ((curve,),) = derivatives
    np.testing.assert_array_equal(slope, 1.0)
    np.testing.assert_array_equal(curve, 0.0)


def test_nan_in_gives_nan_out_and_narrow_floats_are_widened():
    assert np.isnan(deviance.log1pmx(jnp.nan))
    assert np.isnan(deviance.deviance(jnp.nan, 1.0)) and np.isnan(deviance.deviance(1.0, jnp.nan))
    assert np.isnan(deviance.deviance(0.0, jnp.nan))
    assert deviance.deviance(jnp.bfloat16(3), jnp.int32(7)).dtype == jnp.float32
    assert deviance.log1pmx(jnp.bfloat16(0.5)) == deviance.log1pmx(jnp.float32(0.5))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_naive_formula_fails_the_same_check(dtype):
    def naive(x, m):
        return x * jnp.log(x / m) + m - x

    check_fails(naive, mp_deviance, PAIRS, dtype, floors=(0, 0, 0), digits=140)
