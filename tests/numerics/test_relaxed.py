"""Relaxed densities against mpmath, where a temperature magnifies log x or all terms cancel."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from likelax.numerics import pairs, relaxed
from numerics.reference import check, check_fails

EPS = float(np.finfo(np.float32).eps)
# (x, T, logits): near both ends, at T = 1, where the density has its peak at a high temperature.
POINTS = [(0.3, 0.75, -1.5), (1e-30, 1.0, 0.25), (1.2e-38, 0.02, -1000), (0.9999999, 1.0, 2.5)]
POINTS += [(0.49827585, 932.1893, -4.624406), (0.5004, 1000.0, 3.0), (0.73, 1e-3, 1000)]


def noise(x, t, l):
    return t * (mp.log(x) - mp.log1p(-x)) - l


def bit(x, t, l):
    size = abs(noise(x, t, l))
    return mp.log(t) - mp.log(x) - mp.log1p(-x) - size - 2 * mp.log1p(mp.exp(-size))


def floors(points):
    """The lengths of x at its nearer end, at that temperature; those of T and of the logits."""
    x, t, _ = np.array(points, float).T
    slope = np.maximum(t, 1) / (x * (1 - x)), 1 / t, np.ones_like(t)
    return 1, slope, tuple(tuple(a * b for b in slope) for a in slope)


def test_bits():
    check(relaxed.relaxed_bernoulli_log_pdf, bit, POINTS, np.float32, floors=floors(POINTS))
    check(relaxed.relaxed_noise, noise, POINTS, np.float32, floors=floors(POINTS))


def test_the_rounding_of_the_logit_is_magnified():
    """The control: the formula as it stands."""

    def plain(x, t, l):
        z = t * (jnp.log(x) - jnp.log1p(-x)) - l
        log_s = jax.nn.log_sigmoid
        return jnp.log(t) - jnp.log(x) - jnp.log1p(-x) + log_s(z) + log_s(-z)

    for point in (POINTS[1], POINTS[4]):
        check_fails(plain, bit, [point], np.float32, floors=floors([point]))


# (x, T, logits): a face at T (K - 1) = 1, two classes alike far above the third, a high temperature.
VECTORS = [
    ([1e-30, 0.25, 0.75], 0.5, [0.5, -1.0, 2.0]),
    ([0.7490311, 0.2509689, 1e-7], 389.89017, [-518.2139, -943.0121, -7000.0]),
    ([0.3334, 0.3331, 0.3335], 1000.0, [0.1, -0.2, 0.3]),
    ([1.2e-38, 3e-30, 1.0], 1e-3, [1000.0, -1000.0, 4.0]),
    ([0.125, 0.25, 0.625], 1.0, [3.0, 1.0, -2.0]),
]


def one_hot(x, t, l):
    """The value and its slopes in x, T and the logits."""
    k, y = len(x), [mp.log(v) for v in x]
    v = [a - t * b for a, b in zip(l, y, strict=True)]
    log_total = max(v) + mp.log(mp.fsum(mp.exp(a - max(v)) for a in v))
    pull = [1 - k * mp.exp(a - log_total) for a in v]
    value = mp.loggamma(k) + (k - 1) * mp.log(t) + mp.fsum(v) - mp.fsum(y) - k * log_total
    slope_t = (k - 1) / t - mp.fsum(a * b for a, b in zip(y, pull, strict=True))
    slope_x = [(-1 - t * p) / a for a, p in zip(x, pull, strict=True)]
    return value, slope_x, slope_t, pull


def one_hot_errors(function):
    """The largest errors of value and slopes, each in its unit."""
    x, t, l = (np.array(column, np.float32) for column in zip(*VECTORS, strict=True))
    value, slopes = jax.jit(jax.vmap(jax.value_and_grad(function, (0, 1, 2))))(x, t, l)
    errors = []
    for i in range(len(t)):
        number = lambda a: mp.mpf(float(a))  # noqa: E731
        exact = [number(a) for a in x[i]], number(t[i]), [number(a) for a in l[i]]
        want = one_hot(*exact)
        got = value[i], *(s[i] for s in slopes)
        units = [1], np.maximum(t[i], 1) / x[i].astype(float), [1 / t[i]], np.ones(3)
        for g, w, unit in zip(got, want, units, strict=True):
            for a, b, c in zip(np.ravel(g), w if isinstance(w, list) else [w], unit, strict=True):
                errors.append(float(abs(number(a) - b) / max(abs(b), float(c))) / EPS)
    return np.array(errors)


def test_vectors():
    with mp.workdps(60):
        assert one_hot_errors(relaxed.relaxed_one_hot_log_pdf).max() <= 4

        def plain(x, t, l):
            log_softmax = jax.nn.log_softmax(l - t * jnp.log(x))
            return jnp.log(2 * t**2) - jnp.log(x).sum() + log_softmax.sum()

        assert np.nanmax(one_hot_errors(plain)) > 100  # the control


def test_curvatures_of_vectors():
    """In float64, whose rules are the same, against differences of the slopes."""
    with jax.enable_x64(True):
        at = tuple(np.array(v) for v in VECTORS[-1])
        along = np.array([0.5, -0.25, 1.0]), np.array(0.75), np.array([-1.0, 2.0, 0.25])
        slopes = jax.jit(
            lambda e: jax.jvp(
                lambda e: jax.grad(relaxed.relaxed_one_hot_log_pdf, (0, 1, 2))(
                    *(a + e * d for a, d in zip(at, along, strict=True))
                ),
                (e,),
                (jnp.ones_like(e),),
            )
        )
        got, (up, _), (down, _) = slopes(0.0)[1], slopes(1e-6), slopes(-1e-6)
        for g, u, d in zip(got, up, down, strict=True):
            np.testing.assert_allclose(g, (u - d) / 2e-6, rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pairs(dtype):
    """Exponentials and sums hold half as many digits again; the control is the leading float."""
    rng = np.random.default_rng(3)
    with jax.enable_x64(dtype == np.float64), mp.workdps(60):
        x = rng.uniform(-60, 20, (40, 5)).astype(dtype)
        one = np.ones_like(x)
        exp, total, less = jax.jit(
            lambda x: (pairs.exp_to_pair((x, 0 * x)), pairs.pair_total((x, 0 * x)), one - x)
        )(x)
        low = jax.jit(lambda x: pairs.two_sum(jnp.ones_like(x), -x)[1])(x)
        number = np.vectorize(lambda a: mp.mpf(float(a)), otypes=[object])
        want = np.vectorize(mp.exp, otypes=[object])(number(x))
        error = abs((number(exp[0]) + number(exp[1])) / want - 1).max()
        assert error < np.finfo(dtype).eps * 2.0**-8
        assert abs(number(exp[0]) / want - 1).max() > np.finfo(dtype).eps / 8
        sums = number(total[0]) + number(total[1]) - number(x).sum(-1)
        assert abs(sums).max() < 5 * 60 * np.finfo(dtype).eps ** 2
        # XLA takes (1 + b) - 1 for b where the 1 is a constant.
        np.testing.assert_array_equal(number(less) + number(low), number(one) - number(x))
