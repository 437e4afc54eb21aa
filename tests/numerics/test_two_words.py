"""What one float cannot hold: harmonic numbers of tiny arguments, angles a turn apart, unlike tails."""

import jax.numpy as jnp
import mpmath as mp
import pytest

from likelax.numerics import angles, gamma, pairs, two_sided
from numerics.reference import DTYPES, check, check_fails

HARMONIC = [(x,) for x in (1e-30, 3e-8, 0.04, 0.099, 0.11, 0.7, 1.0, 6.5, 3e4, 1e20)]
ANGLES = [(0.3, -1.2), (3.1415, -3.1415), (2.0, 2.0000002), (-12.5, 0.07), (1.0, -2.1)]
UNLIKE = [
    (1e-21, 1e-20),
    (1e-25, 3e-18),
    (0.7, 0.2),
    (0.7, 1.0),
    (2.5, 4.0),
    (1e5, 3e-6),
    (0.01, 1e15),
]
GAPS = [(5.594202, 1.7217307), (3e-30, -67.97), (1.0, 0.3), (7e20, -3.0), (1.25, 0.22314355)]


def harmonic(x):
    return mp.digamma(x + 1) + mp.euler


def upper_rest(z, a):
    return mp.log(1 - mp.exp(-a * z) / (1 + a * a))


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_words(dtype):
    def versine(x, y):
        return 1 - mp.cos(x - y)

    def gap(x, y):
        return mp.log(x) - y

    check(gamma.harmonic, harmonic, HARMONIC, dtype, floors=(0, 0, 0))
    check(angles.versine_between, versine, ANGLES, dtype, floors=(0, 0, 1e-3))
    check(two_sided.log_upper_rest, upper_rest, UNLIKE, dtype, floors=(1, 1, 1))
    check(pairs.log_gap, gap, GAPS, dtype, floors=(0, 0, 1))


def test_controls():
    """The plain formulas."""
    check_fails(
        lambda x: gamma.digamma(x + 1) + 0.57721566490153286,
        harmonic,
        HARMONIC,
        DTYPES[0],
        floors=(0, 0, 0),
    )
    check_fails(lambda x, y: 1 - jnp.cos(x - y), lambda x, y: 1 - mp.cos(x - y), ANGLES, DTYPES[0])
    check_fails(
        lambda z, a: jnp.log1p(-jnp.exp(-a * z) / (1 + a * a)), upper_rest, UNLIKE, DTYPES[0]
    )
    check_fails(
        lambda x, y: jnp.log(x) - y, lambda x, y: mp.log(x) - y, GAPS, DTYPES[0], floors=(0, 0, 1)
    )
