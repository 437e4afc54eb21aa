"""The triangular distribution: density and tails to second order against mpmath, ends and peaks."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy import stats

import likelax as lx
from likelax.numerics import triangular
from numerics.reference import check, check_fails


def log_pdf(x, low, high, peak):
    width = high - low
    ratio = (x - low) / (peak - low) if x < peak else (high - x) / (high - peak)
    return mp.log(2 * ratio / width)


def cdf(x, low, high, peak):
    width = high - low
    if x <= peak:
        return (x - low) ** 2 / (width * (peak - low))
    return 1 - (high - x) ** 2 / (width * (high - peak))


def log_cdf(x, low, high, peak):
    return mp.log(cdf(x, low, high, peak))


def log_survival(x, low, high, peak):
    return mp.log(1 - cdf(x, low, high, peak))


# Both sides, next to the ends and to the peak, a peak next to an end, sizes from 1e-20 to 1e20.
POINTS = [(0.7, 0.2, 1.9, 1.1), (1.7, 0.2, 1.9, 1.1), (0.2000001, 0.2, 1.9, 1.1)]
POINTS += [(1.1000001, 0.2, 1.9, 1.1), (1.0999999, 0.2, 1.9, 1.1), (1.8999999, 0.2, 1.9, 1.1)]
POINTS += [(3e19, -1e20, 9e19, 1e19), (3e-16, 1e-16, 9e-15, 1e-15), (-3.0, -4.0, 1e5, 2e4)]
POINTS += [(0.2000003, 0.2, 1.9, 0.2000001)]


def floors(points):
    """One over the distances to the end and to the peak, the smaller one."""
    x, low, high, peak = np.array(points).T
    side = np.where(x < peak, peak - low, high - peak)
    size = np.minimum(side, np.minimum(x - low, high - x))
    slope = (1 / size,) * 4
    return 1, slope, tuple(tuple(a * b for b in slope) for a in slope)


TAILS = {
    "log_pdf": (triangular.triangular_log_pdf, log_pdf),
    "log_cdf": (lambda *args: triangular.triangular_log_tails(*args)[0], log_cdf),
    "log_survival": (lambda *args: triangular.triangular_log_tails(*args)[1], log_survival),
}


@pytest.mark.parametrize("name", TAILS)
def test_values_and_derivatives(name):
    check(*TAILS[name], POINTS, np.float32, floors=floors(POINTS), digits=80)


def test_the_rest_of_one_fails():
    """The control: tails by 1 - cdf, of which a small one is left without digits."""

    def plain(x, low, high, peak):
        near = (x - low) ** 2 / ((high - low) * (peak - low))
        far = (high - x) ** 2 / ((high - low) * (high - peak))
        return jnp.log(1 - jnp.where(x < peak, near, 1 - far))

    points = POINTS[:6]
    check_fails(plain, log_survival, points, np.float32, floors=floors(points), digits=60)


def test_peaks_at_the_ends_and_quantiles():
    peaks = jnp.array([-1.0, 0.25, 3.0])
    q = np.array([2.0**-80, 2.0**-10, 0.25, 0.75, 1 - 2.0**-20])  # exact in float32

    @jax.jit
    def everything(peak):
        dist = lx.Triangular(-1.0, 3.0, peak)
        x = dist.quantile(q[:, None])
        edges = dist.log_prob(jnp.array([[-1.0], [3.0], [-1.5], [3.5]]))
        slopes = jax.vmap(jax.grad(lambda x, p: lx.Triangular(-1.0, 3.0, p).log_prob(x), (0, 1)))
        return x, dist.stddev(), dist.mean(), dist.entropy(), edges, slopes(peak, peak)

    x, stddev, mean, entropy, edges, slopes = everything(peaks)
    for i, peak in enumerate(np.asarray(peaks, float)):
        exact = stats.triang((peak + 1) / 4, -1, 4)
        want = np.where(q > 0.5, exact.isf(1 - q), exact.ppf(q))
        np.testing.assert_allclose(x[:, i], want, rtol=1e-6)
        summary = stddev[i], mean[i], entropy[i]
        np.testing.assert_allclose(summary, [exact.std(), exact.mean(), exact.entropy()], rtol=2e-6)
    top = np.log(0.5)
    np.testing.assert_allclose(edges[:2].T, [[top, -np.inf], [-np.inf] * 2, [-np.inf, top]])
    assert (edges[2:] == -np.inf).all()
    np.testing.assert_allclose(slopes[0], [-0.25, 0, 0.25])  # at a peak on an end the inner one
    assert (slopes[1] == 0).all()


def test_parameters_are_checked():
    with lx.debug_checks(), pytest.raises(Exception, match="the peak must be between low and high"):
        jax.block_until_ready(lx.Triangular(0.0, 1.0, 2.0).log_prob(0.5))
