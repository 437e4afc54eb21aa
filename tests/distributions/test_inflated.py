"""Zero-inflated counts against their definition in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import likelax as lx
from likelax.testing.subject import quick_jit

K = np.arange(60)


def pmf(base, extra):
    return np.where(K == 0, extra, 0) + (1 - extra) * base.pmf(K)


CASES = {
    "Poisson": (lambda: lx.Poisson(3.5), stats.poisson(3.5), 0.25),
    "Bernoulli": (lambda: lx.Bernoulli(probs=0.75), stats.bernoulli(0.75), 0.125),
    "Geometric": (lambda: lx.Geometric(probs=0.375), stats.geom(0.375, loc=-1), 0.25),
}


@pytest.mark.parametrize("name", CASES)
def test_against_the_definition(name):
    make, base, extra = CASES[name]
    dist, want = lx.ZeroInflated(make(), probs=extra), pmf(base, extra)
    k = np.array([0, 1, 4, 7])
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(dist.log_prob(k), np.log(want[k]), rtol=3e-6)
    np.testing.assert_allclose(dist.cdf(k), np.cumsum(want)[k], rtol=3e-6)
    survival = (1 - extra) * base.sf(k)
    np.testing.assert_allclose(dist.survival(k), survival, rtol=1e-5, atol=1e-7)
    mean = want @ K
    np.testing.assert_allclose(dist.mean(), mean, rtol=3e-6)
    np.testing.assert_allclose(dist.variance(), want @ (K - mean) ** 2, rtol=1e-5)
    np.testing.assert_allclose(dist.entropy(), special.entr(want).sum(), rtol=1e-5)
    assert dist.mode() == np.argmax(want)
    levels = np.array([0.05, 0.3, 0.8, 0.99])
    quantiles = np.searchsorted(np.cumsum(want), levels)
    np.testing.assert_array_equal(dist.quantile(levels), quantiles)
    # The control: it is not the base.
    assert abs(dist.log_prob(0) - make().log_prob(0)) > 0.1


def test_logits_and_probs_agree_and_logits_reach_further():
    values = jnp.array([0, 2])
    by_logits = lx.ZeroInflated(lx.Poisson(2.0), logits=jnp.log(1 / 3)).log_prob(values)
    by_probs = lx.ZeroInflated(lx.Poisson(2.0), probs=0.25).log_prob(values)
    np.testing.assert_allclose(by_logits, by_probs, rtol=1e-6)
    # log(1 - p) at p = sigmoid(40), which is 1 in float32.
    far = lx.ZeroInflated(lx.Poisson(2.0), logits=40.0).log_prob(2)
    np.testing.assert_allclose(far, stats.poisson(2.0).logpmf(2) - 40, rtol=1e-6)


def test_certain_probs():
    none, all_ = (lx.ZeroInflated(lx.Poisson(2.0), probs=p) for p in (0.0, 1.0))
    k = jnp.array([0, 1, 3])
    np.testing.assert_allclose(none.log_prob(k), lx.Poisson(2.0).log_prob(k), rtol=1e-6)
    np.testing.assert_array_equal(all_.log_prob(k), [0, -np.inf, -np.inf])
    assert all_.sample(jax.random.key(0), (20,)).tolist() == [0] * 20
    for p in (0.0, 1.0):
        slope = jax.grad(lambda p: lx.ZeroInflated(lx.Poisson(2.0), probs=p).log_prob(0))(p)
        assert np.isfinite(slope)


def test_gradients():
    """d log P(0) / d logit = p (1 - p) (1 - b) / P(0); d log P(k) / d logit = -p; b = base(0)."""
    logit, rate = 0.5, 1.75
    p, b = 1 / (1 + np.exp(-0.5)), np.exp(-rate)
    at = lambda k: jax.grad(  # noqa: E731
        lambda logit, rate: lx.ZeroInflated(lx.Poisson(rate), logits=logit).log_prob(k), (0, 1)
    )(logit, rate)
    zero = p + (1 - p) * b
    np.testing.assert_allclose(
        at(0), [p * (1 - p) * (1 - b) / zero, -(1 - p) * b / zero], rtol=3e-6
    )
    np.testing.assert_allclose(at(3), [-p, 3 / rate - 1], rtol=3e-6)


def test_samples_by_chi_squared():
    make, base, extra = CASES["Poisson"]
    draws = np.asarray(lx.ZeroInflated(make(), probs=extra).sample(jax.random.key(4), (5000,)))
    want = pmf(base, extra)
    keep = want * 5000 > 5
    counts = np.array([(draws == k).sum() for k in K])
    kept = np.append(counts[keep], 5000 - counts[keep].sum())
    expected = 5000 * np.append(want[keep], 1 - want[keep].sum())
    assert ((kept - expected) ** 2 / expected).sum() < stats.chi2(keep.sum()).isf(1e-4)


def test_outside_and_missing():
    dist = lx.ZeroInflated(lx.Poisson(2.0), probs=0.5)
    np.testing.assert_array_equal(dist.log_prob(jnp.array([-1.0, 0.5])), -np.inf)
    assert np.isnan(dist.log_prob(jnp.nan))
    for family in (lx.ZeroInflated, lx.Hurdle):
        with pytest.raises(NotImplementedError, match=rf"{family.__name__}\.entropy has no"):
            family(lx.Hurdle(lx.Poisson(2.0), probs=0.5), probs=0.5).entropy()
    with pytest.raises(NotImplementedError, match=r"Hurdle\.entropy has no"):
        lx.Hurdle(lx.Poisson(2.0), probs=0.5).entropy()


@pytest.mark.parametrize("probs", [0.25, 1 - 2.0**-20])
def test_entropy_of_a_hurdle_keeps_its_digits_where_all_is_zero(probs):
    """h(p) + (1 - p) h(rest) / rest, h a coin's entropy: also where the base's is nearly all its term at 0."""

    def exact(rest):
        coin = lambda p: special.entr(p) + special.entr(1 - p)  # noqa: E731
        return coin(probs) + (1 - probs) * coin(rest) / rest

    for rest in (0.25, 1 - 2.0**-20):
        dist = lambda rest: lx.Hurdle(lx.Geometric(probs=rest), probs=probs).entropy()  # noqa: E731
        got, slope = jax.value_and_grad(dist)(rest)
        np.testing.assert_allclose(got, exact(rest), rtol=1e-6)
        np.testing.assert_allclose(slope, (1 - probs) * np.log1p(-rest) / rest**2, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lx.ZeroInflated(lx.Normal(0.0, 1.0), probs=0.5), "write lx.Censored"),
        (lambda: lx.ZeroInflated(lx.Poisson(jnp.ones(2)).to_event(), probs=0.5), "elements first"),
        (lambda: lx.ZeroInflated(lx.Quantized(lx.Normal(3.0, 1.0), 1, 5, 5), probs=0.3), "from 0"),
        (lambda: lx.ZeroInflated(lx.Quantized(lx.Normal(0.0, 1.0), -2, 2, 5), probs=0.3), "from 0"),
    ],
)
def test_what_is_no_count_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_log_cdf_is_never_above_zero():
    k = jnp.array([2.0, 6.0, 20.0, 300.0])
    dist = lx.ZeroInflated(lx.Poisson(log_rate=1.2), logits=0.8)
    extra = special.expit(np.float64(np.float32(0.8)))
    base = stats.poisson(np.exp(np.float64(np.float32(1.2))))
    want = np.log1p(-(1 - extra) * base.sf(np.asarray(k)))
    np.testing.assert_allclose(dist.log_cdf(k), want, rtol=1e-5)
    assert (dist.log_cdf(k) <= 0).all()


def test_hurdle_against_the_definition():
    """Zeros on their own, the other counts those of a geometric distribution that is not 0."""
    rest, share = 0.375, 0.25
    want = np.append(share, (1 - share) * stats.geom(rest).pmf(K[1:]))
    k, q = np.array([0, 1, 4, 7]), np.array([0.2, 0.3, 0.8, 0.99])

    @quick_jit
    def everything(dist):
        names = "log_prob", "cdf", "survival"
        out = {name: getattr(dist, name)(k) for name in names} | {"quantile": dist.quantile(q)}
        return out | {n: getattr(dist, n)() for n in ("mean", "variance", "mode", "entropy")}

    got = everything(lx.Hurdle(lx.Geometric(probs=rest), probs=share))
    np.testing.assert_allclose(got["log_prob"], np.log(want[k]), rtol=3e-6)
    np.testing.assert_allclose(got["cdf"], np.cumsum(want)[k], rtol=3e-6)
    np.testing.assert_allclose(got["survival"], 1 - np.cumsum(want)[k], rtol=1e-5)
    np.testing.assert_array_equal(got["quantile"], np.searchsorted(np.cumsum(want), q))
    mean = want @ K
    np.testing.assert_allclose(got["mean"], mean, rtol=3e-6)
    np.testing.assert_allclose(got["variance"], want @ (K - mean) ** 2, rtol=1e-5)
    np.testing.assert_allclose(got["entropy"], special.entr(want).sum(), rtol=1e-5)
    assert got["mode"] == np.argmax(want)
    # The control: the zeros of the base are not among those.
    assert (
        abs(lx.ZeroInflated(lx.Geometric(probs=rest), probs=share).log_prob(0) - np.log(share))
        > 0.1
    )


def test_hurdle_may_have_fewer_zeros_than_its_base():
    """The likelihood falls apart: the slope in the odds is that of a Bernoulli, whatever the base."""

    def log_prob(logits, rest, k):
        return lx.Hurdle(lx.Geometric(logits=rest), logits=logits).log_prob(k)

    slopes = jax.vmap(jax.grad(log_prob, (0, 1)), (None, None, 0))
    odds, rest = quick_jit(slopes)(-3.0, 0.5, jnp.array([0.0, 2.0]))
    p = special.expit(-3.0)
    np.testing.assert_allclose(odds, [1 - p, -p], rtol=2e-6)
    # log P(2 | not 0) = log s + log(1 - s), s the sigmoid.
    np.testing.assert_allclose(rest, [0, 1 - 2 * special.expit(0.5)], rtol=3e-6)
    with pytest.raises(ValueError, match="Hurdle: the base is a discrete"):
        lx.Hurdle(lx.Normal(0.0, 1.0), probs=0.5)
