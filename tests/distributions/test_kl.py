"""KL divergences of the continuous families by quadrature of their SciPy densities; the table."""

import functools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy import integrate, stats

import likelax as lx

CLOSE = 1 + 2.0**-9  # exact in float32
# family, SciPy's frozen density from the same parameters, p, q, where the integral is cut.
PAIRS = {
    "Normal": (lx.Normal, stats.norm, (0.25, 1.5), (-1.0, 0.75)),
    "HalfNormal": (lx.HalfNormal, lambda s: stats.halfnorm(scale=s), (1.5,), (0.75,)),
    "LogNormal": (
        lx.LogNormal,
        lambda m, s: stats.lognorm(s, scale=np.exp(m)),
        (0.25, 0.5),
        (-0.5, 0.75),
    ),
    "Laplace": (lx.Laplace, stats.laplace, (0.25, 1.5), (-1.0, 0.75)),
    "AsymmetricLaplace": (
        lx.AsymmetricLaplace,
        lambda m, s, a: stats.laplace_asymmetric(a, m, s),
        (0.25, 1.5, 1.5),
        (-1.0, 0.75, 0.5),
    ),
    "AsymmetricLaplace-above": (
        lx.AsymmetricLaplace,
        lambda m, s, a: stats.laplace_asymmetric(a, m, s),
        (0.25, 1.5, 1.5),
        (2.0, 0.75, 0.5),
    ),
    "Cauchy": (lx.Cauchy, stats.cauchy, (0.25, 1.5), (-1.0, 0.75)),
    "Gumbel": (lx.Gumbel, stats.gumbel_r, (0.25, 1.5), (-1.0, 1.25)),
    "Weibull": (
        lx.Weibull,
        lambda k, s: stats.weibull_min(k, scale=s),
        (1.5, 2.0),
        (1.25, 0.75),
    ),
    "HalfCauchy": (lx.HalfCauchy, lambda s: stats.halfcauchy(scale=s), (1.5,), (0.75,)),
    "Exponential": (lx.Exponential, lambda r: stats.expon(scale=1 / r), (0.25,), (1.5,)),
    "Gamma": (lx.Gamma, lambda a, r: stats.gamma(a, scale=1 / r), (2.5, 0.5), (0.75, 1.5)),
    "InverseGamma": (
        lx.InverseGamma,
        lambda a, s: stats.invgamma(a, scale=s),
        (2.5, 0.5),
        (1.75, 1.5),
    ),
    "InverseGaussian": (
        lx.InverseGaussian,
        lambda m, c: stats.invgauss(m / c, scale=c),
        (1.5, 2.0),
        (0.75, 1.25),
    ),
    "Beta": (lx.Beta, stats.beta, (2.5, 0.75), (1.25, 3.0)),
    "VonMises": (lx.VonMises, lambda m, k: stats.vonmises(k, m), (0.25, 1.5), (-1.0, 4.0)),
}


def quadrature(p, q, low, high):
    """The integral of p (r - 1 - log r), r = q/p: never negative, so nothing of it cancels."""

    def integrand(t):
        density = p.pdf(t)
        # Farther out there is nothing to add, and some of SciPy's logarithms underflow.
        log_ratio = q.logpdf(t) - p.logpdf(t) if density > 1e-100 else 0.0
        # p r = q, where r itself would overflow.
        excess = q.pdf(t) - density if log_ratio > 1 else density * np.expm1(log_ratio)
        return excess - density * log_ratio

    marks = [p.ppf(u) for u in (0.001, 0.1, 0.5, 0.9, 0.999)] + [q.ppf(0.5), 0.25, -1.0, 2.0]
    marks = sorted({t for t in marks if low < t < high})
    edges = [low, *marks, high]
    pieces = zip(edges, edges[1:], strict=False)
    return sum(integrate.quad(integrand, *piece, limit=200, epsrel=1e-11)[0] for piece in pieces)


HALF_LINE = (lx.HalfNormal, lx.HalfCauchy, lx.LogNormal, lx.Weibull, lx.Exponential, lx.Gamma)
HALF_LINE += (lx.InverseGamma, lx.InverseGaussian)


def ends(name):
    family = PAIRS[name][0]
    if family in HALF_LINE:
        return 0.0, np.inf
    return {lx.Beta: (0.0, 1.0), lx.VonMises: (0.25 - np.pi, 0.25 + np.pi)}.get(
        family, (-np.inf, np.inf)
    )


@pytest.mark.parametrize("name", PAIRS)
def test_kl_is_the_integral(name):
    family, scipy, p, q = PAIRS[name]
    with np.errstate(over="ignore"):  # inside SciPy, in branches not taken
        want = quadrature(scipy(*p), scipy(*q), *ends(name))
        back = quadrature(scipy(*q), scipy(*p), *ends(name))
    got = lx.kl_divergence(family(*p), family(*q))
    np.testing.assert_allclose(got, want, rtol=1e-5)
    # The control: the other direction is another number, except for the Cauchys.
    assert name.endswith("Cauchy") or abs(back / want - 1) > 0.02
    assert family(*p).kl_divergence(family(*p)) == 0


@pytest.mark.parametrize("name", PAIRS)
def test_kl_of_close_distributions_keeps_its_digits(name):
    """Of order 1e-6: the difference of two entropies of order 1 would leave a digit at most."""
    family, scipy, p, _ = PAIRS[name]
    q = tuple(value * CLOSE for value in p)
    with np.errstate(over="ignore"):
        want = quadrature(scipy(*p), scipy(*q), *ends(name))
    assert 0 < want < 1e-4
    got = lx.kl_divergence(family(*p), family(*q))
    # Formed as a difference, these are right to two roundings of 1, which is less.
    rough = PAIRS[name][0] in (lx.AsymmetricLaplace, lx.Beta, lx.VonMises)
    atol = 2 * np.finfo(np.float32).eps if rough else 0
    np.testing.assert_allclose(got, want, rtol=2e-3, atol=atol)
    if name in ("Normal", "Gamma", "Laplace"):
        at = family(*p)
        slope = jax.grad(lambda q: lx.kl_divergence(at, q))(at)
        np.testing.assert_allclose(jax.tree.leaves(slope), 0, atol=1e-6)


@pytest.mark.parametrize(
    "p, q",
    [
        (lx.Weibull(1.0, 1.0), lx.Weibull(40.0, 1.0)),
        (lx.Gumbel(0.0, 40.0), lx.Gumbel(0.0, 1.0)),
        (lx.Gumbel(0.0, 1.0), lx.Gumbel(89.0, 1.0)),
    ],
)
def test_a_divergence_beyond_the_floats_is_infinite(p, q):
    value, slopes = jax.value_and_grad(lambda p: p.kl_divergence(q))(p)
    assert value == np.inf
    assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(slopes))


def test_cauchys_far_apart_in_tiny_scales():
    """The product of their scales is no float."""
    with mp.workdps(60):

        def exact(s, s_q):
            return mp.log(((s + s_q) ** 2 + 1) / (4 * s * s_q))

        for s, s_q in ((1e-20, 1e-20), (1e-30, 1e-25), (1e-15, 3e-15), (1e20, 1e-25)):
            given = np.float32([s, s_q])
            point = [mp.mpf(float(v)) for v in given]
            value, slopes = jax.value_and_grad(
                lambda s: lx.Cauchy(1.0, s[0]).kl_divergence(lx.Cauchy(2.0, s[1]))
            )(given)
            np.testing.assert_allclose(value, float(exact(*point)), rtol=1e-6)
            want = [mp.diff(exact, point, order) for order in ((1, 0), (0, 1))]
            np.testing.assert_allclose(
                slopes * given, [float(w * s) for w, s in zip(want, point, strict=True)], rtol=2e-6
            )


def test_uniform():
    inner, outer = lx.Uniform(0.0, 1.0), lx.Uniform(-1.0, 3.0)
    np.testing.assert_allclose(inner.kl_divergence(outer), np.log(4), rtol=1e-6)
    assert outer.kl_divergence(inner) == np.inf


def triangle(low, high, peak):
    return stats.triang((peak - low) / (high - low), low, high - low)


TRIANGLES = {  # low, high, peak
    "peaks apart": ((0.0, 1.0, 0.25), (-1.0, 3.0, 2.0)),
    "q's peak inside": ((-0.5, 2.5, 2.0), (-1.0, 3.0, 0.25)),
    "the same ends": ((-1.0, 3.0, 0.25), (-1.0, 3.0, 2.0)),
    "p's peak at an end": ((-1.0, 2.0, -1.0), (-1.0, 3.0, 0.25)),
    "q's peak at an end": ((-1.0, 2.0, 0.25), (-1.0, 3.0, 3.0)),
}


@pytest.mark.parametrize("name", TRIANGLES)
def test_triangular(name):
    p, q = TRIANGLES[name]
    want = quadrature(triangle(*p), triangle(*q), p[0], p[1])
    # The integrand's mass of q beyond p's ends, where p is 0.
    want += triangle(*q).cdf(p[0]) + triangle(*q).sf(p[1])
    got = lx.Triangular(*p).kl_divergence(lx.Triangular(*q))
    np.testing.assert_allclose(got, want, rtol=1e-6)
    # The control: a q whose peak is where p's is gives another number.
    other = lx.Triangular(*p).kl_divergence(lx.Triangular(q[0], q[1], p[2]))
    assert abs(other / want - 1) > 0.02


def test_triangulars_of_other_intervals():
    inner, outer = lx.Triangular(0.0, 1.0, 0.0), lx.Triangular(0.0, 3.0, 1.0)
    assert inner.kl_divergence(inner) == outer.kl_divergence(outer) == 0
    value, slopes = jax.value_and_grad(lx.kl_divergence, (0, 1))(outer, inner)
    assert value == np.inf
    assert all(leaf == 0 for leaf in jax.tree.leaves(slopes))
    # p's density at its peak is not 0, and q's density is: an infinite slope in the end and in p's peak.
    own, theirs = jax.grad(lx.kl_divergence, (0, 1))(inner, outer)
    assert own.low == own.peak == theirs.low == 0
    assert own.high < 0 < theirs.high
    # A q that begins with its peak: as that moves to the inside, p's density there.
    slope = jax.grad(lambda peak: inner.kl_divergence(lx.Triangular(0.0, 1.0, peak)))(0.0)
    np.testing.assert_allclose(slope, 2.0 - 1.0, rtol=1e-6)
    unknown = lx.Triangular(0.0, np.nan, 0.0)
    for pair in ((unknown, outer), (outer, unknown)):
        assert np.isnan(lx.kl_divergence(*pair))


EXCESSES = {  # loc, scale, concentration
    "heavy tails": ((0.5, 1.5, 0.75), (0.5, 0.5, 1.25)),
    "from a lower threshold": ((0.5, 1.5, 0.75), (-1.0, 2.0, 0.25)),
    "exponential": ((0.5, 1.5, 0.0), (-1.0, 2.0, 0.0)),
    "to an exponential": ((0.5, 1.5, 0.25), (0.5, 2.0, 0.0)),
    "from an exponential": ((0.5, 1.5, 0.0), (0.5, 2.0, 0.5)),
    "with an end": ((0.5, 1.5, -0.75), (-1.0, 2.0, 0.5)),
    "both with an end": ((0.5, 1.5, -0.75), (-1.0, 2.0, -0.25)),
    "with the same end": ((0.5, 1.5, -0.75), (-1.5, 2.0, -0.5)),
    "of rising density": ((0.5, 1.5, -1.5), (-0.5, 4.0, -1.25)),
}


@jax.jit
def pareto_kl(p, q):
    return lx.kl_divergence(lx.GeneralizedPareto(*p), lx.GeneralizedPareto(*q))


@pytest.mark.parametrize("name", EXCESSES)
def test_generalized_pareto(name):
    p, q = EXCESSES[name]
    with mp.workdps(30):

        def log_density(z, s, xi):
            t = mp.log1p(xi * z / s) / xi if xi else z / s
            return -t - xi * t - mp.log(s)

        def integrand(t):
            z = mp.expm1(p[2] * t) / p[2] if p[2] else t
            x = p[1] * z
            return mp.exp(-t) * (log_density(x, *p[1:]) - log_density(p[0] - q[0] + x, *q[1:]))

        want = mp.quad(integrand, [0, 0.5, 1, 2, 4, 8, 16, 32, 40])
    got = pareto_kl(p, q)
    np.testing.assert_allclose(got, float(want), rtol=2e-6)
    # The control: another index has another number.
    other = pareto_kl(p, (*q[:2], q[2] + 0.25))
    assert abs(other / float(want) - 1) > 0.01


@pytest.mark.slow
def test_generalized_paretos_far_apart_have_second_derivatives():
    """By 2F1(1, 1; 1 + 1/xi; 1 - k b/xi) in place of the integral, in shares of each parameter."""
    pairs = np.float32(
        [
            # scale, xi, scale_q, k
            (1.5, 0.125, 2.0, 1e-20),
            (1.0, 0.5, 1e20, 0.5),
            (1e-10, 0.5, 1e10, 0.25),
            (1e20, 0.5, 1.0, 0.5),
        ]
    )

    def kl(pair):
        s, xi, s_q, k = pair
        return lx.kl_divergence(lx.GeneralizedPareto(0.0, s, xi), lx.GeneralizedPareto(0.0, s_q, k))

    def grown(*shares, pair):
        s, xi, s_q, k = (v * (1 + share) for v, share in zip(pair, shares, strict=True))
        b = s / s_q
        phi = mp.hyp2f1(1, 1, 1 + 1 / xi, 1 - k * b / xi)
        return -mp.log(b) - 1 - xi + (1 + k) * b * phi

    got = jax.jit(jax.vmap(jax.hessian(kl)))(pairs)
    for pair, bends in zip(pairs.astype(float), np.asarray(got, float), strict=True):
        length = np.where([1, 0, 1, 0], pair, 1)
        for i, j in [(0, 0), (0, 1), (0, 3), (1, 1), (1, 3), (2, 2), (3, 3)]:
            order = [(i == at) + (j == at) for at in range(4)]
            with mp.workdps(40):
                exact = [mp.mpf(v) for v in pair]
                share = mp.diff(lambda *x, at=exact: grown(*x, pair=at), (0, 0, 0, 0), order)
                want = float(share / exact[i] / exact[j])
            limit = 2e-5 * (abs(want) + 1 / (length[i] * length[j])) + 1e-38
            assert abs(bends[i, j] - want) < limit, (pair, i, j, bends[i, j], want)


def test_generalized_paretos_of_other_supports():
    both = jax.jit(jax.value_and_grad(pareto_kl, (0, 1)))
    infinite = [
        ((0.0, 1.0, 0.5), (0.25, 1.0, 0.5)),  # begins later
        ((0.0, 1.0, 0.0), (0.0, 9.0, -0.5)),  # ends
        ((0.0, 1.0, -0.5), (0.0, 0.75, -0.5)),  # ends earlier
        ((5.0, 1.0, -0.5), (0.0, 1.0, -0.5)),  # ended before
        ((0.0, 1.0, 1.0), (0.0, 1.0, 0.0)),  # p has no mean
    ]
    for pair in infinite:
        value, slopes = both(*pair)
        assert value == np.inf
        assert all(leaf == 0 for leaf in jax.tree.leaves(slopes))
    for xi in (-2.0, -1.0, -0.5, 0.0, 0.5, 2.0):
        np.testing.assert_allclose(both((0.5, 1.5, xi), (0.5, 1.5, xi))[0], 0, atol=1e-6)
        slopes = both((0.5, 1.5, xi), (0.0, 3.0, 0.5))[1][1]
        assert np.isfinite(slopes).all()
    # E[z^2]/2 - E[z], z = (x - loc)/scale_q: the slope in q's index at 0, which p's variance makes finite.
    slope = both((0.0, 1.0, 0.375), (0.0, 1.0, 0.0))[1][1][2]
    np.testing.assert_allclose(slope, 1 / (1 - 0.375) * (1 - 1 / (1 - 0.75)), rtol=1e-5)
    assert both((0.0, 1.0, 0.5), (0.0, 1.0, 0.0))[1][1][2] != -np.inf
    for at in range(6):
        values = [0.0, 1.0, 0.5, 0.0, 1.0, 0.25]
        values[at] = np.nan
        assert np.isnan(both(tuple(values[:3]), tuple(values[3:]))[0])


def truncated(low, high, loc, scale):
    return lx.Truncated(lx.Normal(loc, scale), low, high)


def truncated_kl(low, high, loc, scale, low_q, high_q, loc_q, scale_q):
    """The integral of p log(p/q) with 40 digits, cut where p is below exp(-120) of its largest."""

    def fall(x, loc, scale):
        return -(((x - loc) / scale) ** 2) / 2

    def marks(low, high, loc, scale):
        peak = min(max(loc, low), high)
        least = fall(peak, loc, scale) - 120
        reach = scale * mp.sqrt(-2 * least)
        low, high = max(low, loc - reach), min(high, loc + reach)
        return peak, [low + (high - low) * k / mp.mpf(8) for k in range(9)]

    with mp.workdps(40):
        p, q = (
            [mp.mpf(float(c)) for c in side]
            for side in ((low, high, loc, scale), (low_q, high_q, loc_q, scale_q))
        )
        logs = []
        for end, other, m, s in (p, q):
            peak, at = marks(end, other, m, s)
            top = fall(peak, m, s)
            mass = mp.quad(lambda x, m=m, s=s, top=top: mp.exp(fall(x, m, s) - top), at)
            logs.append((m, s, top + mp.log(mass)))

        def log_density(x, m, s, total):
            return fall(x, m, s) - total

        return mp.quad(
            lambda x: (
                mp.exp(log_density(x, *logs[0]))
                * (log_density(x, *logs[0]) - log_density(x, *logs[1]))
            ),
            marks(*p)[1],
        )


INF = np.inf
TRUNCATED = {
    "neighbours": (-1, 2, 0.25, 1.5, -1, 2, 0.25 * CLOSE, 1.5 * CLOSE),
    "neighbours of one end": (1, INF, 0.25, 1.5, 1, INF, 0.25 * CLOSE, 1.5 * CLOSE),
    "neighbours in a tail": (1e4, INF, 0, 1, 1e4, INF, 0, CLOSE),
    "neighbours in the other tail": (-1e4, -9999, 1, 1, -1e4, -9999, 1, CLOSE),
    "neighbours, narrow": (3, 3.0001, 0, 1, 3, 3.0001, 100, 2),
    "neighbours, tiny": (1e-20, 2e-20, 0, 1e-20, 1e-20, 2e-20, 0, CLOSE * 1e-20),
    "neighbours, huge": (1e20, 2e20, 0, 1e20, 1e20, 2e20, 0, CLOSE * 1e20),
    "a little more": (-6, 5, 0, 1, -7, INF, 0, 1),
    "a little more, narrow": (1, 2, 0, 1, 1, 2.001, 0, 1),
    "much more": (1, 2, 0, 1, -INF, INF, 0, 1),
    "apart": (-1, 2, 0.25, 1.5, -3, INF, -1, 0.75),
    "a spike": (-1, 2, 0.25, 1.5, -3, INF, 0.6, 1e-3),
    "both tails": (2, 3, 0, 0.1, 2, 3, 5, 0.1),
}


@pytest.mark.parametrize("name", TRUNCATED)
def test_truncated_normals(name):
    columns = [np.float32(c) for c in TRUNCATED[name]]
    want = truncated_kl(*columns)
    got = lx.kl_divergence(truncated(*columns[:4]), truncated(*columns[4:]))
    np.testing.assert_allclose(got, float(want), rtol=5e-6)
    if name.startswith("neighbours"):  # the control: the difference of two terms of order 1
        assert 0 < want < 1e-4
        p, q = (truncated(*half) for half in (columns[:4], columns[4:]))
        x = p.quantile((np.arange(1000) + 0.5) / 1000)
        assert abs(np.mean(p.log_prob(x) - q.log_prob(x)) / float(want) - 1) > 0.01


def test_truncated_normals_of_other_intervals():
    inner, outer = truncated(0.0, 1.0, 0.0, 1.0), truncated(-1.0, None, 0.0, 1.0)
    assert lx.kl_divergence(inner, inner) == 0
    assert lx.kl_divergence(outer, inner) == np.inf
    slope = jax.grad(lambda p: lx.kl_divergence(p, inner))(outer)
    assert all(leaf == 0 for leaf in jax.tree.leaves(slope))
    # At the ends the slopes are those to the inside of them: densities.
    own, theirs = jax.grad(lx.kl_divergence, (0, 1))(inner, inner)
    ends = jnp.exp(inner.log_prob(jnp.array([0.0, 1.0])))
    np.testing.assert_allclose([own.low, -own.high], ends, rtol=1e-6)
    np.testing.assert_allclose([-theirs.low, theirs.high], ends, rtol=1e-6)
    whole = lx.Normal(0.25, 1.5)
    assert lx.kl_divergence(inner, whole) == lx.kl_divergence(
        inner, truncated(-INF, INF, 0.25, 1.5)
    )
    logistic = lx.Truncated(lx.Logistic(0.0, 1.0), 0.0, 1.0)
    for pair in ((inner, logistic), (logistic, inner), (logistic, whole), (whole, inner)):
        with pytest.raises(NotImplementedError, match=r"KL\((Truncated|Normal) \|\| (Trunc|Norm)"):
            lx.kl_divergence(*pair)


@pytest.mark.parametrize("by_log", [False, True])
def test_an_exponential_is_a_gamma(by_log):
    rates = {"log_rate": np.log(0.5)} if by_log else {"rate": 0.5}
    p, q = lx.Exponential(**rates), lx.Gamma(2.5, 1.5)
    scipy = stats.expon(scale=2.0), stats.gamma(2.5, scale=1 / 1.5)
    there, back = quadrature(*scipy, 0.0, np.inf), quadrature(*scipy[::-1], 0.0, np.inf)
    np.testing.assert_allclose(lx.kl_divergence(p, q), there, rtol=1e-5)
    np.testing.assert_allclose(lx.kl_divergence(q, p), back, rtol=1e-5)
    assert abs(back / there - 1) > 0.02  # the control
    same = lx.Gamma(1.0, **rates)
    assert lx.kl_divergence(p, same) == lx.kl_divergence(same, p) == 0


def test_gamma_of_huge_concentration_is_the_normals():
    """At 1e8 lgamma and digamma cancel to nothing; the Normal limit is right to 1e-4."""
    a = np.float32(1e8)
    got = lx.kl_divergence(lx.Gamma(a, 1.0), lx.Gamma(a, 1 + 1e-4))
    want = 1e8 * (1e-4 - np.log1p(1e-4))
    np.testing.assert_allclose(got, want, rtol=2e-3)


def test_independent_sums_over_its_event():
    p = lx.Normal(jnp.zeros((2, 3)), jnp.array([0.5, 1.0, 2.0]))
    q = lx.Normal(jnp.ones((2, 3)), 1.5)
    each = lx.kl_divergence(p, q)
    np.testing.assert_allclose(
        lx.kl_divergence(p.to_event(), q.to_event()), each.sum(-1), rtol=1e-6
    )
    assert lx.kl_divergence(p.to_event(2), q.to_event(2)).shape == ()
    with pytest.raises(ValueError, match="event shapes"):
        lx.kl_divergence(p.to_event(), q.to_event(2))


def test_masked_counts_where_both_are():
    p = lx.Normal(jnp.array([0.0, jnp.nan, 2.0]), 1.0)
    q = lx.Normal(jnp.ones(3), 1.0)
    got = lx.kl_divergence(
        p.mask(jnp.array([True, False, True])), q.mask(jnp.array([True, True, False]))
    )
    np.testing.assert_allclose(got, [0.5, 0, 0])


@pytest.mark.parametrize(
    "family, p, q",
    [
        (lx.Triangular, (0.0, 1.0, 0.5), (0.0, 1.0, np.nan)),
        (lx.Triangular, (-1.0, 1.0, 0.5), (0.0, 1.0, np.nan)),
        (lx.GeneralizedPareto, (-1.0, 1.0, 0.3), (0.0, 1.0, np.nan)),
        (lx.GeneralizedPareto, (0.0, 1.0, np.nan), (0.5, 1.0, 0.3)),
    ],
)
def test_what_is_not_known_has_no_divergence(family, p, q):
    """Nor an infinite one."""
    assert np.isnan(lx.kl_divergence(family(*p), family(*q)))
    assert not np.isnan(lx.kl_divergence(family(*p[:2], 0.5), family(*q[:2], 0.5)))


def test_pairs_without_a_formula_say_what_to_do():
    for p, q in [
        (lx.StudentT(3.0, 0.0, 1.0), lx.StudentT(4.0, 0.0, 1.0)),
        (lx.Normal(0.0, 1.0), lx.Laplace(0.0, 1.0)),
    ]:
        pair = rf"KL\({type(p).__name__} \|\| {type(q).__name__}\)"
        with pytest.raises(NotImplementedError, match=pair + r".*sample_and_log_prob.*register_kl"):
            lx.kl_divergence(p, q)


def test_what_has_no_divergence_is_told_so():
    normal = lx.Normal(0.0, 1.0)
    for other in (3.0, lx.Normal):
        for pair in ((normal, other), (other, normal)):
            with pytest.raises(TypeError, match=r"KL: two distributions wanted, got .*; write lx"):
                lx.kl_divergence(*pair)
    vector = lx.Normal([0.0, 1.0], 1.0)
    with pytest.raises(
        ValueError, match=r"KL\(Normal \|\| Independent\): event shapes \(\) and \(2,\) .*to_event"
    ):
        lx.kl_divergence(normal, vector.to_event())
    with pytest.raises(ValueError, match=r"batch shapes \(2,\) and \(3,\) do not broadcast"):
        lx.kl_divergence(vector, lx.Normal(jnp.zeros(3), 1.0))


def test_kl_of_independents_of_unlike_ranks():
    """Numbers against vectors, and one Independent against two of them: the same events."""
    loc, scale = np.arange(24.0).reshape(4, 3, 2) / 7, np.array([0.5, 2.0])
    numbers, other = lx.Normal(loc, scale), lx.Normal(loc[::-1] + 0.3, 1.5)
    want = lx.kl_divergence(numbers, other).sum((-2, -1))
    assert want.std() > 0.1
    of_vectors = lx.MultivariateNormalDiag(loc[::-1] + 0.3, np.full(2, 1.5)).to_event(1)
    nested = lx.Independent(lx.Independent(other, 1), 1)
    for q in (other.to_event(2), nested, of_vectors):
        got = lx.kl_divergence(numbers.to_event(2), q)
        np.testing.assert_allclose(got, want, rtol=1e-5)
        back = lx.kl_divergence(q, numbers.to_event(2))
        np.testing.assert_allclose(back, lx.kl_divergence(other, numbers).sum((-2, -1)), rtol=1e-5)
    no_vectors = lx.Laplace(loc, 1.0).to_event(2)
    with pytest.raises(NotImplementedError, match=r"KL\(MultivariateNormalDiag \|\| Independent"):
        lx.kl_divergence(of_vectors, no_vectors)


def test_registering():
    class Mine(lx.Normal):
        """A subclass takes its parent's formula until it has its own."""

    p, q = Mine(0.0, 1.0), lx.Normal(1.0, 1.0)
    assert lx.kl_divergence(p, q) == 0.5
    lx.register_kl(Mine, lx.Normal)(lambda p, q: jnp.float32(7))
    assert lx.kl_divergence(p, q) == 7
    assert lx.kl_divergence(q, q) == 0
    with pytest.raises(ValueError, match=r"KL\(Mine \|\| Normal\) is registered already"):
        lx.register_kl(Mine, lx.Normal)(lambda p, q: jnp.float32(8))


def _slopes(make, p, q):
    def kl(p, q):
        return make(*p).kl_divergence(make(*q))

    value, slopes = jax.value_and_grad(kl, (0, 1))(p, q)
    return value, jnp.stack([*slopes[0], *slopes[1]]), jax.hessian(kl, (0, 1))(p, q)


def test_slopes_of_an_infinite_divergence_of_laplaces_are_0():
    """Those that are infinite would be NaN in what the divergence does not depend on."""
    make = lambda loc, log_scale: lx.Laplace(loc, log_scale=log_scale)  # noqa: E731
    rows = [(0, 90, 1, -90), (0, 200, 1, 0), (0, 0, 1, -200), (0, np.inf, 1, 0), (0, -300, 1, -200)]
    a, b, c, d = jnp.asarray(rows, jnp.float32).T
    run = jax.jit(jax.vmap(lambda *row: _slopes(make, row[:2], row[2:])))
    value, slopes, curves = run(a, b, c, d)
    assert (value == np.inf).all()
    np.testing.assert_array_equal(slopes, 0)
    for curve in jax.tree.leaves(curves):
        np.testing.assert_array_equal(curve, 0)


def test_laplaces_far_apart_by_log_scales():
    """log(s_q / s_p) - 1 + (gap + s_p exp(-gap / s_p)) / s_q, where gap / s_p is beyond the floats."""
    make = lambda loc, log_scale: lx.Laplace(loc, log_scale=log_scale)  # noqa: E731
    rows = np.float32([(0, -90, 1, 0), (2, -80, -1, 0.5), (0, -120, 1e-20, -40), (0, 0.5, 3, 1)])
    value, slopes, curves = jax.jit(jax.vmap(lambda *row: _slopes(make, row[:2], row[2:])))(*rows.T)
    for row, got, slope in zip(rows, value, slopes, strict=True):
        a, p, b, q = (mp.mpf(float(x)) for x in row)

        def kl(a, p, b, q):
            s_p, s_q, gap = mp.exp(p), mp.exp(q), abs(a - b)
            return q - p - 1 + (gap + s_p * mp.exp(-gap / s_p)) / s_q

        with mp.workdps(60):
            want = kl(a, p, b, q)
            units = [(0,) * i + (1,) + (0,) * (3 - i) for i in range(4)]
            rise = [float(mp.diff(kl, (a, p, b, q), unit)) for unit in units]
        np.testing.assert_allclose(got, float(want), rtol=2e-6)
        np.testing.assert_allclose(slope, rise, rtol=1e-5, atol=1e-6)
    assert not any(np.isnan(curve).any() for curve in jax.tree.leaves(curves))


def test_classes_of_which_none_is_possible():
    """Of nothing there is no divergence, as there is no draw; from something to nothing it is infinite."""
    nothing, some = np.zeros(3, np.float32), np.float32([0.25, 0.5, 0.25])

    @jax.jit
    def kl(p, q):
        sides = [{"probs": p}, {"logits": jnp.log(p)}], [{"probs": q}, {"logits": jnp.log(q)}]
        return [
            [lx.Categorical(**a).kl_divergence(lx.Categorical(**b)) for b in sides[1]]
            for a in sides[0]
        ]

    np.testing.assert_array_equal(kl(nothing, some), np.nan)
    np.testing.assert_array_equal(kl(nothing, nothing), np.nan)
    np.testing.assert_array_equal(kl(some, nothing), np.inf)
    by_logits = lambda l, m: lx.Categorical(logits=l).kl_divergence(lx.Categorical(logits=m))  # noqa: E731
    slopes = jax.jit(jax.grad(by_logits, (0, 1)))(jnp.log(nothing), jnp.log(some))
    np.testing.assert_array_equal(slopes, 0)
    with pytest.raises(ValueError, match=r"shapes \(3,\) and \(4,\) differ; both sides need"):
        lx.Multinomial(3.0, probs=some).kl_divergence(lx.Multinomial(3.0, logits=jnp.zeros(4)))


@jax.jit
@functools.partial(jax.value_and_grad, argnums=(0, 1))
def truncated_kl_and_slopes(p, q):
    """The divergence and its slopes."""
    return lx.kl_divergence(truncated(*p), truncated(*q))


@pytest.mark.parametrize(
    ("p", "q"),
    [
        ((0.0, 1.0, 0.5, 1.0), (0.25, 2.0, 0.0, 1.0)),  # begins later
        ((-INF, 1.0, 0.0, 1.0), (0.0, 2.0, 0.0, 1.0)),
        ((-INF, INF, 0.0, 1.0), (0.0, 1.0, 0.0, 1.0)),
        ((0.0, 1.0, 0.0, 1.0), (2.0, 3.0, 0.0, 1e-20)),  # elsewhere, of no width
        ((1e30, 2e30, 0.0, 1.0), (-1.0, 1.0, 0.0, 1.0)),  # of no probability
    ],
)
def test_an_infinite_divergence_of_truncated_normals_has_no_slopes(p, q):
    value, slopes = truncated_kl_and_slopes(p, q)
    assert value == np.inf
    assert all(slope == 0 for slope in jax.tree.leaves(slopes))
    # A parameter that nobody knows is not hidden.
    assert np.isnan(truncated_kl_and_slopes((*p[:2], np.nan, p[3]), q)[0])


def _mp_slopes(kl, row):
    """kl and its four slopes in mpmath, infinite where they are no floats of float32."""
    with mp.workdps(80):
        row = [mp.mpf(float(x)) for x in row]
        units = [tuple(int(i == j) for j in range(4)) for i in range(4)]
        # By steps in the units of each argument.
        found = [kl(*row), *(mp.diff(kl, row, unit, h=mp.mpf(10) ** -65) for unit in units)]
    largest = float(np.finfo(np.float32).max)
    return [float(x) if abs(x) < largest else float(mp.sign(x)) * np.inf for x in found]


def _mp_laplace(l, s, m, t):
    gap = abs(l - m)
    return mp.log(t / s) - 1 + (gap + s * mp.exp(-gap / s)) / t


def _mp_cauchy(l, s, m, t):
    return mp.log(((s + t) ** 2 + (l - m) ** 2) / (4 * s * t))


def _mp_gumbel(l, s, m, t):
    shift, r = (l - m) / t, s / t
    return mp.exp(-shift) * mp.gamma(1 + r) - 1 - mp.log(r) + shift + mp.euler * (r - 1)


FAR = {
    "Laplace": (
        lx.Laplace,
        _mp_laplace,
        [(0, 1e-30, -1e20, 1e3), (0, 1e-30, 1, 1), (0, 1e-30, 0.5, 3e38), (2, 1e30, 2, 1e-30)],
    ),
    "Cauchy": (
        lx.Cauchy,
        _mp_cauchy,
        [(0, 1e-30, -1e20, 1e-30), (3, 1e-3, -1e20, 1e-37), (0, 1e-37, 1, 1e38), (0, 1, 1, 2)],
    ),
    "Gumbel": (
        lx.Gumbel,
        _mp_gumbel,
        [
            (0, 1, 0, 1e-3),
            (0, 1e30, 3, 1e-3),
            (-1e3, 0.1, 0, 1),
            (0, 1, -1e20, 1e-30),
            (0, 1, 2, 3),
        ],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAR)
def test_slopes_of_far_apart_scales(name):
    """Also where the divergence is beyond the floats: no NaN, and no infinity that is none."""
    family, kl, rows = FAR[name]
    run = jax.jit(
        jax.vmap(
            jax.value_and_grad(
                lambda *x: family(*x[:2]).kl_divergence(family(*x[2:])), (0, 1, 2, 3)
            )
        )
    )
    rows = np.float32(rows)
    value, slopes = run(*rows.T)
    for row, *got in zip(rows, value, *slopes, strict=True):
        np.testing.assert_allclose(got, _mp_slopes(kl, row), rtol=1e-5, atol=1e-6, err_msg=str(row))


def test_poissons_of_no_rate():
    """exp(l) (l - m) + exp(m) - exp(l); in p.rate an infinite slope, its own slope counting as 0."""
    l, m = np.float32(
        [(-np.inf, 4), (-np.inf, -np.inf), (-200, 0), (0, -200), (200, 200), (0, 1)]
    ).T
    run = jax.vmap(
        jax.value_and_grad(
            lambda l, m: lx.Poisson(log_rate=l).kl_divergence(lx.Poisson(log_rate=m)), (0, 1)
        )
    )
    value, slopes = jax.jit(run)(l, m)
    np.testing.assert_allclose(value, [np.exp(4), 0, 1, 199, 0, np.e - 2], rtol=1e-6)
    np.testing.assert_allclose(slopes[0], [0, 0, 0, 200, 0, -1], rtol=1e-6)
    np.testing.assert_allclose(slopes[1], [np.exp(4), 0, 1, -1, 0, np.e - 1], rtol=1e-6)

    def kl(p, q):
        return lx.Poisson(p).kl_divergence(lx.Poisson(q))

    p, q = np.float32([(0, 100), (0, 0), (1e-30, 0)]).T
    value, slopes = jax.jit(jax.vmap(jax.value_and_grad(kl, (0, 1))))(p, q)
    np.testing.assert_array_equal(value, [100, 0, np.inf])
    np.testing.assert_array_equal(slopes[0], [-np.inf, 0, np.inf])
    np.testing.assert_array_equal(slopes[1], [1, 1, 0])
    curves = jax.jit(jax.vmap(jax.hessian(kl, (0, 1))))(p[:2], q[:2])
    np.testing.assert_array_equal(curves[0][1], np.float32([-0.01, 0]))
    assert not any(np.isnan(curve).any() for curve in jax.tree.leaves(curves))


def test_to_what_is_impossible():
    """Infinite, also from a probability or a mean next to the smallest floats, and so is the slope."""
    pairs = [
        lambda p, q: lx.Bernoulli(probs=p).kl_divergence(lx.Bernoulli(probs=q)),
        lambda p, q: lx.NegativeBinomial2(p, 0.5).kl_divergence(lx.NegativeBinomial2(q, 0.5)),
    ]
    for pair in pairs:
        value, slope = jax.vmap(jax.value_and_grad(pair), (0, None))(
            np.float32([1e-30, 0.5, 0]), np.float32(0)
        )
        np.testing.assert_array_equal(value, [np.inf, np.inf, 0])
        np.testing.assert_array_equal(slope, [np.inf, np.inf, 0])


LOGITS = [-np.inf, -1000.0, -2.0, 0.0, 3.0, 1000.0, np.inf]


@pytest.mark.parametrize("family", [lx.Bernoulli, lx.Geometric])
def test_logits_up_to_infinity(family):
    """KL of a trial; of waits that over the chance of a success, and of two endless ones 0."""
    l, m = (g.ravel() for g in np.meshgrid(LOGITS, LOGITS))
    kl = jax.vmap(
        jax.value_and_grad(
            lambda l, m: family(logits=l).kl_divergence(family(logits=m)), argnums=(0, 1)
        )
    )
    value, slopes = jax.jit(kl)(jnp.float32(l), jnp.float32(m))

    def exact(l, m):
        def log_sigmoid(x):
            return -mp.log1p(mp.exp(-x)) if mp.isfinite(x) else (mp.mpf(0) if x > 0 else -mp.inf)

        def term(log_p, log_q):
            return mp.exp(log_p) * (log_p - log_q) if log_p > -mp.inf else mp.mpf(0)

        if l == m:
            return mp.mpf(0)
        one = term(log_sigmoid(l), log_sigmoid(m)) + term(log_sigmoid(-l), log_sigmoid(-m))
        if family is lx.Bernoulli:
            return one
        return mp.inf if l == -mp.inf else one / mp.exp(log_sigmoid(l))

    with mp.workdps(900):
        want = np.float32([float(exact(mp.mpf(a), mp.mpf(b))) for a, b in zip(l, m, strict=True)])
    np.testing.assert_allclose(value, want, rtol=1e-6)
    assert not np.isnan(slopes).any()


def test_waits_without_a_success():
    kl = jax.value_and_grad(
        lambda p, q: lx.Geometric(probs=p).kl_divergence(lx.Geometric(probs=q)), (0, 1)
    )
    points = jnp.array([[0.0, 0.0], [0.0, 0.5], [0.0, 1.0], [0.5, 0.0], [0.5, 1.0], [1.0, 0.5]])
    value, slopes = jax.jit(jax.vmap(kl))(*points.T)
    np.testing.assert_allclose(value, [0, np.inf, np.inf, np.inf, np.inf, np.log(2)], rtol=1e-6)
    assert not np.isnan(slopes).any()
