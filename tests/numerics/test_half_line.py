"""Densities that look after their own support: on it against mpmath, off it -inf and no slope."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from likelax.numerics.half_line import exponential_log_pdf, lognormal_log_pdf


def mp_exponential(x, rate):
    return mp.log(rate) - rate * x


def mp_lognormal(x, loc, scale):
    z = (mp.log(x) - loc) / scale
    return -(z**2) / 2 - mp.log(scale) - mp.log(2 * mp.pi) / 2 - mp.log(x)


CASES = {
    "exponential": (exponential_log_pdf, mp_exponential, (2.5, 0.7)),
    "exponential, large": (exponential_log_pdf, mp_exponential, (1e-20, 1e19)),
    "lognormal": (lognormal_log_pdf, mp_lognormal, (2.5, -0.3, 0.7)),
    "lognormal, far": (lognormal_log_pdf, mp_lognormal, (1e-20, -40.0, 2.0)),
}
OFF = (-1.0, -0.0, np.inf, -np.inf)


@pytest.mark.parametrize("name", CASES)
def test_values_and_both_derivatives(name):
    f, reference, at = CASES[name]
    args = [np.float32(a) for a in at]
    exact = [mp.mpf(float(a)) for a in args]
    every = tuple(range(len(args)))
    with mp.workdps(40):
        np.testing.assert_allclose(f(*args), float(reference(*exact)), rtol=2e-6)
        for i, slope in enumerate(jax.grad(f, every)(*args)):
            order = tuple(int(i == j) for j in every)
            # Of the logarithm of each argument: what a rounding of it moves.
            want = float(mp.diff(reference, exact, order)) * float(args[i])
            floor = 2e-6 * max(1.0, abs(float(reference(*exact))))
            np.testing.assert_allclose(float(slope) * args[i], want, rtol=1e-5, atol=floor)
    if name == "lognormal":
        curves = jax.hessian(f, every)(*args)
        for i in every:
            for j in every:
                order = tuple(int(i == k) + int(j == k) for k in every)
                want = float(mp.diff(reference, exact, order))
                np.testing.assert_allclose(curves[i][j], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("x", OFF)
@pytest.mark.parametrize("name", ["exponential", "lognormal"])
def test_off_the_half_line(name, x):
    f, _, at = CASES[name]
    args = (np.float32(x), *(np.float32(a) for a in at[1:]))
    every = tuple(range(len(args)))
    edge = name == "exponential" and x == 0  # its closed end: log(rate)
    assert (f(*args) == -np.inf) != edge
    slopes = np.array(jax.grad(f, every)(*args))
    assert np.any(slopes != 0) if edge else np.all(slopes == 0)


@pytest.mark.parametrize("name", ["exponential", "lognormal"])
def test_nan_stays(name):
    f, _, at = CASES[name]
    for i in range(len(at)):
        assert np.isnan(f(*(np.nan if i == j else a for j, a in enumerate(at))))
        slopes = jax.grad(f, tuple(range(len(at))))(
            np.float32(-1.0), *(np.float32(np.nan) if i == j else a for j, a in enumerate(at) if j)
        )
        assert np.isnan(slopes[i]) == (i > 0) and slopes[0] == 0  # off it, too
    # The control: a textbook formula is finite, or worse, where there is no density.
    assert np.isfinite(jnp.log(0.7) - 0.7 * -1.0)
