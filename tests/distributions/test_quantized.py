"""Quantized distributions: masses between edges by SciPy, the tails in the outer bins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import likelax as lx
from likelax.testing.subject import quick_jit

BASES = {
    "Normal": (lx.Normal(3.25, 1.5), stats.norm(3.25, 1.5)),
    "Logistic": (lx.Logistic(3.25, 0.75), stats.logistic(3.25, 0.75)),
    "Laplace": (lx.Laplace(3.25, 0.75), stats.laplace(3.25, 0.75)),
    "Cauchy": (lx.Cauchy(3.25, 0.75), stats.cauchy(3.25, 0.75)),
}


def masses(frozen, low, high, bins):
    """The mass of every bin, each as a difference in its own tail."""
    step = (high - low) / (bins - 1)
    centres = low + step * np.arange(bins)
    below = np.where(np.arange(bins) == 0, -np.inf, centres - step / 2)
    above = np.where(np.arange(bins) == bins - 1, np.inf, centres + step / 2)
    upper = below > frozen.median()
    mass = np.where(
        upper, frozen.sf(below) - frozen.sf(above), frozen.cdf(above) - frozen.cdf(below)
    )
    return centres, mass


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize(("low", "high", "bins"), [(0, 9, 10), (-1.0, 1.0, 5), (0, 255, 256)])
def test_probabilities(name, low, high, bins):
    base, frozen = BASES[name]
    dist = lx.Quantized(base, low, high, bins)
    centres, mass = masses(frozen, low, high, bins)
    known = mass > 1e-290
    got = np.asarray(dist.log_prob(jnp.asarray(centres, jnp.float32)), np.float64)
    # Cauchy has no interval of its own: the difference of two cdfs costs digits far out.
    rtol = 2e-4 if name == "Cauchy" else 5e-6
    np.testing.assert_allclose(got[known], np.log(mass[known]), rtol=rtol, atol=2e-6)
    np.testing.assert_allclose(np.exp(got).sum(), 1, rtol=5e-6)


def test_bins_between_components_far_apart():
    weights, locs, scale = np.array([0.3, 0.7]), np.array([1.0, 15.0]), 0.2
    parts = [masses(stats.logistic(loc, scale), 0, 16, 17) for loc in locs]
    centres, shares = parts[0][0], np.stack([mass for _, mass in parts], -1)
    want = np.log(shares @ weights)
    # The masses are sums of exp((edge - loc) / scale), so that the slope is the posterior's.
    middle = slice(4, 13)
    slope = ((shares * weights / (shares @ weights)[:, None])[middle] * [1, -1]).sum(0) / scale

    def log_prob(locs):
        mixture = lx.Mixture(jnp.asarray(weights, jnp.float32), lx.Logistic(locs, scale))
        return lx.Quantized(mixture, 0, 16, 17).log_prob(jnp.asarray(centres, jnp.float32))

    @quick_jit
    def ask(locs):
        grad = jax.grad(lambda locs: log_prob(locs)[middle].sum())(locs)
        edges = lx.Mixture(jnp.asarray(weights, jnp.float32), lx.Logistic(locs, scale)).cdf(
            jnp.asarray(centres + 0.5, jnp.float32)
        )
        return log_prob(locs), grad, jnp.diff(edges)

    got, grad, control = ask(jnp.asarray(locs, jnp.float32))
    np.testing.assert_allclose(got, want, rtol=1e-5)
    np.testing.assert_allclose(grad, slope, rtol=1e-3)
    assert (control == 0).any()  # a difference of the mixture's own cdf


@pytest.mark.parametrize("name", ["Normal", "Cauchy"])
def test_summaries_are_sums_over_the_bins(name):
    base, frozen = BASES[name]
    dist = lx.Quantized(base, 0, 9, 10)
    centres, mass = masses(frozen, 0, 9, 10)
    mean = mass @ centres
    np.testing.assert_allclose(dist.mean(), mean, rtol=1e-5)
    np.testing.assert_allclose(dist.variance(), mass @ (centres - mean) ** 2, rtol=1e-5)
    np.testing.assert_allclose(dist.entropy(), -mass @ np.log(mass), rtol=1e-5)
    assert dist.mode() == 3
    np.testing.assert_allclose(dist.cdf(centres), np.cumsum(mass), rtol=1e-5)
    np.testing.assert_allclose(dist.survival(centres[:-1]), 1 - np.cumsum(mass)[:-1], rtol=2e-4)
    levels = np.array([0.001, 0.3, 0.5, 0.97])
    want = centres[np.searchsorted(np.cumsum(mass), levels)]
    np.testing.assert_array_equal(dist.quantile(levels), want)


def test_narrow_bins_are_density_times_width():
    """65536 bins of a wide base: a difference of cdfs would have no digit left."""
    dist = lx.Quantized(lx.Logistic(0.0, 3.0), -1.0, 1.0, 65536)
    step = 2.0 / 65535
    centre = dist.support.points(jnp.float32(40000.0))
    truth = lx.Logistic(0.0, 3.0).log_prob(centre) + np.log(step)
    np.testing.assert_allclose(dist.log_prob(centre), truth, rtol=1e-6)
    base = lx.Logistic(0.0, 3.0)
    plain = jnp.log(base.cdf(centre + step / 2) - base.cdf(centre - step / 2))
    assert abs(plain - truth) > 1e-3  # the control


def test_gradients_are_those_of_the_masses():
    values = jnp.array([0.0, 2.0, 9.0])

    def total(loc, scale):
        return lx.Quantized(lx.Normal(loc, scale), 0, 9, 10).log_prob(values).sum()

    def truth(loc, scale):
        _, mass = masses(stats.norm(loc, scale), 0, 9, 10)
        return np.log(mass[[0, 2, 9]]).sum()

    got = jax.grad(total, (0, 1))(3.25, 1.5)
    h = 1e-5
    want = [
        (truth(3.25 + h, 1.5) - truth(3.25 - h, 1.5)) / (2 * h),
        (truth(3.25, 1.5 + h) - truth(3.25, 1.5 - h)) / (2 * h),
    ]
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_values_off_the_grid():
    dist = lx.Quantized(lx.Normal(3.0, 2.0), 0, 9, 10)
    off = jnp.array([0.5, -1.0, 10.0, jnp.inf, -jnp.inf])
    values, slopes = jax.vmap(jax.value_and_grad(dist.log_prob))(off)
    np.testing.assert_array_equal(values, -np.inf)
    np.testing.assert_array_equal(slopes, 0)
    assert np.isnan(dist.log_prob(jnp.nan))
    # What float arithmetic makes of a centre is that centre.
    tenths = lx.Quantized(lx.Normal(0.5, 0.25), 0.0, 1.0, 11)
    assert np.isfinite(tenths.log_prob(np.float32(0.1) * np.float32(3))).all()
    np.testing.assert_array_equal(dist.log_prob(jnp.arange(10)), dist.log_prob(jnp.arange(10.0)))


def test_samples_by_chi_squared():
    base, frozen = BASES["Logistic"]
    dist = lx.Quantized(base, 0, 9, 10)
    draws = np.asarray(dist.sample(jax.random.key(2), (5000,)))
    _, mass = masses(frozen, 0, 9, 10)
    keep = mass * 5000 > 5
    counts = np.array([(draws == k).sum() for k in range(10)])
    assert counts.sum() == 5000
    kept = np.append(counts[keep], counts[~keep].sum())
    expected = 5000 * np.append(mass[keep], mass[~keep].sum())
    assert ((kept - expected) ** 2 / expected).sum() < stats.chi2(keep.sum()).isf(1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lx.Quantized(lx.Normal(0.0, 1.0), 3, 3, 4), "low < high"),
        (lambda: lx.Quantized(lx.Normal(0.0, 1.0), 0, float("inf"), 4), "low < high"),
        (lambda: lx.Quantized(lx.Normal(0.0, 1.0), 0, 3, 1), "whole number >= 2"),
        (lambda: lx.Quantized(lx.Poisson(1.0), 0, 3, 4), "continuous distribution"),
        (lambda: lx.Quantized(lx.Normal(jnp.zeros(2), 1.0).to_event(), 0, 3, 4), "to_event"),
    ],
)
def test_what_is_no_grid_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_array_is_no_end():
    with pytest.raises(TypeError, match="low"):
        lx.Quantized(lx.Normal(0.0, 1.0), jnp.float32(0), 3.0, 4)


def test_grid_points_in_a_narrow_dtype_are_those_points():
    dist = lx.Quantized(lx.Normal(0.5, 0.25), 0, 1, 256)
    exact = np.arange(256) / 255
    want = dist.log_prob(jnp.asarray(exact, jnp.float32))
    np.testing.assert_array_equal(dist.log_prob(jnp.asarray(exact, jnp.float16)), want)
    with jax.enable_x64(True):
        wide = lx.Quantized(lx.Normal(jnp.float64(0.5), 0.25), 0, 1, 256)
        got = wide.log_prob(jnp.asarray(exact, jnp.float32))
        np.testing.assert_allclose(got, wide.log_prob(exact), rtol=1e-12)
        assert got.dtype == jnp.float64
        # The control: half a step is no point, in any dtype that can hold it.
        assert wide.log_prob(jnp.float32(0.5 / 255)) == -np.inf
