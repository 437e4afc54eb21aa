"""Counts of several classes against mpmath, SciPy and enumeration."""

import itertools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy import stats

import likelax as lx
from likelax.numerics import beta_binomial
from likelax.numerics.beta_binomial import beta_binomial_log_tails
from likelax.testing.subject import quick_jit

EPS = float(np.finfo(np.float32).eps)


def f32(values):
    return np.asarray(values, np.float32)


def exact(formula, *rows):
    """The formula's values at the float32 numbers that likelax gets, from 60 digits."""
    with mp.workdps(60):
        numbers = [[[mp.mpf(float(v)) for v in row] for row in f32(block)] for block in rows]
        return np.array([float(formula(*row)) for row in zip(*numbers, strict=True)])


def polya(x, a):
    n, total = mp.fsum(x), mp.fsum(a)
    out = mp.loggamma(n + 1) + mp.loggamma(total) - mp.loggamma(total + n)
    parts = zip(x, a, strict=True)
    return out + sum(mp.loggamma(b + k) - mp.loggamma(b) - mp.loggamma(k + 1) for k, b in parts)


def polya_slope(x, a):
    n, total = mp.fsum(x), mp.fsum(a)
    own = mp.digamma(a[0] + x[0]) - mp.digamma(a[0])
    return own - (mp.digamma(total + n) - mp.digamma(total))


def multinomial(x, logits):
    log_z = mp.log(sum(mp.exp(v) for v in logits))
    parts = zip(x, logits, strict=True)
    return mp.loggamma(mp.fsum(x) + 1) + sum(k * (v - log_z) - mp.loggamma(k + 1) for k, v in parts)


# Counts and concentrations where lgammas cancel, tiny, huge and unequal ones.
PAIRS = [
    ([3, 4], [0.75, 2.5]),
    ([0, 38534], [4.8656e-3, 2.2029e-3]),
    ([11543, 0], [6.2e-17, 1e-17]),
    ([494378, 773], [0.0832, 388692.66]),
    ([400, 599], [2e19, 1e22]),
    ([5_000_100, 4_999_900], [3e7, 3e7]),
    ([10016, 0], [2910022.0, 0.8077]),
    ([1, 0], [1e-20, 3e-20]),
    ([0, 0], [2.0, 3.0]),
    ([7, 1e7], [1e-3, 1e5]),
]
COUNTS, SHAPES = (f32([row[i] for row in PAIRS]) for i in range(2))


@quick_jit
def of_pairs(x, a):
    def beta_binomial(a):
        dist = lx.BetaBinomial(x.sum(-1), a[:, 0], a[:, 1])
        log_prob = dist.log_prob(x[:, 0])
        return log_prob.sum(), log_prob

    slopes, log_prob = jax.grad(beta_binomial, has_aux=True)(a)
    return log_prob, slopes[:, 0], lx.DirichletMultinomial(x.sum(-1), a).log_prob(x)


def test_beta_binomial_and_dirichlet_multinomial():
    log_prob, slope, of_vectors = of_pairs(COUNTS, SHAPES)
    want = exact(polya, COUNTS, SHAPES)
    bound = 8 * EPS * np.maximum(1, np.abs(want))
    assert (np.abs(log_prob - want) <= bound).all() and (np.abs(of_vectors - want) <= bound).all()
    want_slope = exact(polya_slope, COUNTS, SHAPES)
    unit = np.maximum(np.abs(want_slope), 1 / SHAPES[:, 0].astype(float))
    assert (np.abs(slope - want_slope) <= 32 * EPS * unit).all()
    # The control: with lgammas the digits are gone.
    x, a = jnp.asarray(COUNTS), jnp.asarray(SHAPES)
    lgamma = jax.lax.lgamma
    plain = lgamma(x.sum(-1) + 1) + lgamma(a.sum(-1)) - lgamma((a + x).sum(-1))
    plain = plain + (lgamma(a + x) - lgamma(a) - lgamma(x + 1)).sum(-1)
    assert (np.abs(plain - want) > bound).sum() >= 5


# Counts about n a / A, whose slopes are small differences.
SHARES = [
    ([329170, 353671, 151604, 203], [3.7895803e5, 4.0667088e5, 1.7432369e5, 200.58424]),
    ([397883, 70699, 1921248, 0], [75804.695, 13431.166, 364585.69, 3.0494989e-3]),
    ([3685543, 6, 0, 1300716], [959310.4, 1.725224, 4.17031e-3, 338816.1]),
    ([90, 0, 3, 5], [5076771.5, 74186.883, 79282.031, 3.4748621e-3]),
]


def test_slopes_of_counts_near_their_means():
    x, a = (f32([row[i] for row in SHARES]) for i in range(2))
    with mp.workdps(40):
        want = np.empty(a.shape)
        for row, (counts, shapes) in enumerate(zip(x.tolist(), a.tolist(), strict=True)):
            sums = mp.digamma(mp.fsum(shapes)) - mp.digamma(mp.fsum(shapes) + sum(counts))
            each = [mp.digamma(s + c) - mp.digamma(s) for c, s in zip(counts, shapes, strict=True)]
            want[row] = [float(e + sums) for e in each]

    @quick_jit
    def slopes(a):
        return jax.grad(lambda a: lx.DirichletMultinomial(x.sum(-1), a).log_prob(x).sum())(a)

    bound = 32 * EPS * np.maximum(np.abs(want), 1 / a.astype(float))
    assert (np.abs(slopes(a) - want) <= bound).all()
    # The control: the textbook's digammas.
    digamma, sums = jax.scipy.special.digamma, (a.sum(-1, keepdims=True), x.sum(-1, keepdims=True))
    plain = digamma(a + x) - digamma(a) - (digamma(sum(sums)) - digamma(sums[0]))
    assert (np.abs(plain - want) > bound).sum() >= 5


# (k, n, a, b): U-shaped, J-shaped, narrow, far in either tail, concentrations beyond a float's digits.
TAILS = [
    (3, 12, 6, 1.5),
    (200, 400, 0.01, 0.02),
    (0, 300, 1e-4, 3),
    (390, 400, 700, 0.5),
    (1, 400, 700, 40),
    (250, 400, 1e6, 2e6),
    (80, 90, 1e-12, 1e15),
    (5, 60, 1e-15, 1e-12),
]


def exact_tails(k, n, a, b):
    """log F, log S and the slopes of both in a, by adding up products."""
    with mp.workdps(60):
        k, n, a, b = int(k), int(n), mp.mpf(float(a)), mp.mpf(float(b))
        p = mp.fprod((b + i) / (a + b + i) for i in range(n))
        rise = -mp.fsum(1 / (a + b + i) for i in range(n))
        masses, slopes = [mp.mpf(0)] * 2, [mp.mpf(0)] * 2
        for j in range(n + 1):
            masses[j > k] += p
            slopes[j > k] += p * rise
            if j < n:
                p *= (n - j) * (a + j) / ((j + 1) * (b + n - j - 1))
                rise += 1 / (a + j)
        pairs = zip(slopes, masses, strict=True)
        return [float(v) for v in (*map(mp.log, masses), *(s / m for s, m in pairs))]


@quick_jit
def tails_of(k, n, a, b):
    def tails(a):
        dist = lx.BetaBinomial(n, a, b)
        return dist.log_cdf(k).sum(), dist.log_survival(k).sum()

    dist = lx.BetaBinomial(n, a, b)
    back = dist.quantile(jnp.clip(dist.cdf(k) * (1 - 1e-5), 1e-30, 1 - 1e-6))
    return dist.log_cdf(k), dist.log_survival(k), *jax.jacrev(tails)(a), back


@pytest.mark.slow
def test_tails_of_the_beta_binomial():
    want = np.array([exact_tails(*row) for row in TAILS]).T
    k, n, a, b = f32(TAILS).T
    *got, back = tails_of(k, n, a, b)
    units = 1, 1, 1 / a.astype(float), 1 / a.astype(float)
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        error = np.abs(np.asarray(g, float) - w) / np.maximum(np.abs(w), units[i]) / EPS
        assert (error <= (8 if i < 2 else 32)).all(), (i, error)
    np.testing.assert_array_equal(np.asarray(back)[[0, 2]], k[[0, 2]])
    # The control: what the other tail leaves.
    with np.errstate(divide="ignore"):
        plain = np.log1p(-np.exp(np.asarray(got[1])))
    assert not (np.abs(plain - want[0]) <= 8 * EPS * np.abs(want[0])).all()


@pytest.mark.slow
def test_second_derivatives_of_the_tails_of_the_beta_binomial_in_reverse_twice():
    n, k, shapes = 20, 7, (2.5, 0.7)

    def log_cdf(a, b):
        return mp.log(
            sum(mp.binomial(n, j) * mp.beta(j + a, n - j + b) for j in range(k + 1)) / mp.beta(a, b)
        )

    tail = lambda shapes: lx.BetaBinomial(n, *shapes).log_cdf(k)  # noqa: E731
    with jax.enable_x64(True):
        got = jax.jit(jax.jacrev(jax.jacrev(tail)))(jnp.array(shapes))
    with mp.workdps(30):
        want = [
            [float(mp.diff(log_cdf, shapes, order)) for order in row]
            for row in (((2, 0), (1, 1)), ((1, 1), (0, 2)))
        ]
    np.testing.assert_allclose(got, want, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("n", [100, 1000, 300_000])
def test_long_sums_of_the_beta_binomial_are_those_of_all_terms(n, monkeypatch):
    """Where they rise to a peak, fall, and rise to both ends; the contract has counts of 1e8."""
    shapes = np.array([(0.3, 0.7), (3e-3, 40.0), (250.5, 0.2), (31.5, 1200.0), (1.2e4, 7e3)])

    def worst():
        k = np.unique(np.int64([0, 3, 0.011 * n, 0.3 * n, 0.62 * n, 0.97 * n, n - 2, n - 1]))
        with jax.enable_x64(True):
            tails = jax.jit(jax.vmap(lambda a, b: beta_binomial_log_tails(k, float(n), a, b)))
            got = np.array(tails(*shapes.T))
        errors = []
        for i, (a, b) in enumerate(shapes):
            j = np.arange(n, dtype=np.longdouble)
            steps = np.log((n - j) / (j + 1) * (j + a) / (n - j - 1 + b))
            logs = np.concatenate([[0], np.cumsum(steps)])
            probs = np.exp(logs - logs.max())
            below, above = np.cumsum(probs), np.cumsum(probs[::-1])[::-1]
            seen = np.stack([below[k], above[k + 1]]) / below[-1]
            held = seen > 1e-300  # of the smaller ones the reference has no digits
            error = np.abs(got[:, i][held] - np.log(seen[held]))
            errors.append((error / np.maximum(1, np.abs(np.log(seen[held])))).max())
        return max(errors)

    assert worst() < 2e-12  # the reference's own, by its long sum of logarithms
    if n > 1000:
        level = beta_binomial._level
        monkeypatch.setattr(beta_binomial, "_level", lambda *at: level(*at) + 3)
        assert worst() > 1e-9  # the control: blocks that are eight times as long


def test_blocks_of_counts_are_summed_by_positive_weights():
    places, log_weights = beta_binomial._rules()
    for level in (0, 1, 5, 12):
        length = 64 * 2**level
        assert (np.diff(places[level]) >= 1).all()
        assert places[level][0] >= 0 and places[level][-1] < length
        for power in (0, 1, 5, 20):
            want = float(np.sum((np.arange(length) / length) ** power))
            got = np.sum(np.exp(log_weights[level]) * (places[level] / length) ** power)
            np.testing.assert_allclose(got, want, rtol=1e-13)


LOGITS = f32([[0.5, -1, 2], [11.5, 6.5, 7.875], [0, -150, 3], [-9.5, 0.25, -8], [1, 2, 3]])
DRAWS = f32([[2, 0, 5], [103345, 649, 2610], [3, 2, 40], [20, 1340772, 3], [0, 0, 0]])


@quick_jit
def of_logits(x, logits):
    def total(logits):
        log_prob = lx.Multinomial(x.sum(-1), logits=logits).log_prob(x)
        return log_prob.sum(), log_prob

    slopes, log_prob = jax.grad(total, has_aux=True)(logits)
    curves = jax.jvp(
        jax.grad(lambda l: total(l)[0]), (logits,), (jnp.ones_like(logits) * f32([1, 0, 0]),)
    )
    rounded = lx.Multinomial(x.sum(-1), probs=jax.nn.softmax(logits)).log_prob(x)
    return log_prob, slopes, curves[1], rounded


def test_multinomial():
    log_prob, slopes, curves, rounded = of_logits(DRAWS, LOGITS)
    want = exact(multinomial, DRAWS, LOGITS)
    logits, n = LOGITS.astype(float), DRAWS.sum(-1, keepdims=True)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p = p / p.sum(-1, keepdims=True)
    unit = np.maximum(1, np.abs(want))
    assert (np.abs(log_prob - want) <= 8 * EPS * unit).all()
    want_slopes = DRAWS - n * p
    assert (np.abs(slopes - want_slopes) <= 8 * EPS * np.maximum(1, np.abs(want_slopes))).all()
    np.testing.assert_allclose(curves[:, 1], n[:, 0] * p[:, 0] * p[:, 1], rtol=2e-6, atol=1e-30)
    plain = jax.lax.lgamma(n[:, 0] + 1) - jax.lax.lgamma(DRAWS + 1).sum(-1)
    plain = plain + (DRAWS * jax.nn.log_softmax(LOGITS)).sum(-1)
    assert (np.abs(plain - want) > 8 * EPS * unit)[1]  # the controls
    assert (np.abs(rounded - want) > 8 * EPS * unit).any()  # of probabilities of one float


def binomial(row, logit):
    (k, n), (l,) = row, logit
    log_p, log_q = -mp.log1p(mp.exp(-l)), -mp.log1p(mp.exp(l))
    return mp.log(mp.binomial(n, k)) + k * log_p + (n - k) * log_q


def test_draws_without_a_possible_class_are_marked():
    none, one = [-np.inf] * 3, [-np.inf, 0.0, -np.inf]
    logits = np.float32([none, one, [np.nan, 0.0, 0.0], [0.0, -np.inf, 1.0]])
    draws = lx.Multinomial(7, logits=logits).sample(jax.random.key(0), (50,))
    np.testing.assert_array_equal(draws[:, [0, 2]], -1)
    np.testing.assert_array_equal(draws[:, 1], np.broadcast_to([0, 7, 0], (50, 3)))
    np.testing.assert_array_equal(draws[:, 3].sum(-1), 7)
    assert (draws[:, 3, 1] == 0).all() and draws[:, 3, 0].std() > 0
    by_probs = lx.Multinomial(7, probs=np.float32([[0, 0, 0], [0, 1, 0]]))
    np.testing.assert_array_equal(by_probs.sample(jax.random.key(0)), [[-1] * 3, [0, 7, 0]])


def test_binomial_of_many_trials():
    """Where a rounding of p is as large as the slope."""
    trials = f32([[1340772, 9e6], [2644800, 9.1e6], [3, 1e7], [6543210, 8765432], [4e6, 9e6]])
    logits = f32([[-1.7425], [-0.8912], [-15.2], [1.079], [0.3]])

    @quick_jit
    def both(l):
        of_logits = lambda l: lx.Binomial(trials[:, 1], logits=l).log_prob(trials[:, 0])  # noqa: E731
        plain = lx.Binomial(trials[:, 1], probs=jax.nn.sigmoid(l)).log_prob(trials[:, 0])
        return of_logits(l), jax.grad(lambda l: of_logits(l).sum())(l), plain

    value, slope, plain = both(logits[:, 0])
    want = exact(binomial, trials, logits)
    unit = 8 * EPS * np.maximum(1, np.abs(want))
    assert (np.abs(value - want) <= unit).all() and (np.abs(plain - want) > unit).any()
    with mp.workdps(40):
        each = zip(trials.tolist(), logits[:, 0].tolist(), strict=True)
        exact_slope = np.array([float(k - n / (1 + mp.exp(-mp.mpf(l)))) for (k, n), l in each])
    assert (np.abs(slope - exact_slope) <= 32 * EPS * np.maximum(1, np.abs(exact_slope))).all()


def test_certain_probs():
    x = jnp.array([[1, 2, 0], [1, 1, 1], [1, 1, 0]])
    log_prob = lambda p: lx.Multinomial(3, probs=p).log_prob(x)  # noqa: E731
    p = jnp.array([0.25, 0.75, 0.0])
    value, slope = quick_jit(lambda p: (log_prob(p), jax.jacrev(log_prob)(p)))(p)
    np.testing.assert_allclose(value, [np.log(3 * 0.25 * 0.75**2), -np.inf, -np.inf], rtol=1e-6)
    assert np.isfinite(slope).all()


FAMILIES = {
    "Multinomial": (
        lambda: lx.Multinomial(4, probs=f32([0.5, 0.125, 0.375])),
        stats.multinomial(4, [0.5, 0.125, 0.375]).pmf,
    ),
    "DirichletMultinomial": (
        lambda: lx.DirichletMultinomial(4, f32([0.75, 2.0, 1.25])),
        stats.dirichlet_multinomial([0.75, 2.0, 1.25], 4).pmf,
    ),
}
POINTS = np.array([x for x in itertools.product(range(5), repeat=3) if sum(x) == 4])


@pytest.mark.parametrize("name", FAMILIES)
def test_over_all_points(name):
    """Probabilities, moments and the frequencies of samples, by enumeration."""
    make, pmf = FAMILIES[name]
    dist, want = make(), pmf(POINTS)

    @quick_jit
    def everything(dist, key):
        return dist.prob(POINTS), dist.mean(), dist.variance(), dist.sample(key, (4000,))

    prob, mean, variance, draws = everything(dist, jax.random.key(3))
    np.testing.assert_allclose(prob, want, rtol=3e-6)
    np.testing.assert_allclose(mean, want @ POINTS, rtol=2e-6)
    np.testing.assert_allclose(variance, want @ POINTS**2 - (want @ POINTS) ** 2, rtol=3e-6)
    assert draws.dtype == jnp.int32 and (draws.sum(-1) == 4).all()
    found = np.array([(draws == x).all(-1).sum() for x in POINTS])
    chi = ((found - 4000 * want) ** 2 / (4000 * want)).sum()
    assert chi < stats.chi2(len(POINTS) - 1).isf(1e-4)
    # The control: the same counts in another order are not what was drawn.
    wrong = want[::-1]
    assert ((found - 4000 * wrong) ** 2 / (4000 * wrong)).sum() > stats.chi2(14).isf(1e-4)
    np.testing.assert_array_equal(
        dist.log_prob(POINTS[0] + np.array([[1, 0, 0], [0.5, -0.5, 0]])), -np.inf
    )


def test_kl_of_multinomials():
    p, q = (lx.Multinomial(4, probs=f32(v)) for v in ([0.5, 0.125, 0.375], [0.25, 0.25, 0.5]))
    prob = stats.multinomial(4, [0.5, 0.125, 0.375]).pmf(POINTS)
    other = stats.multinomial(4, [0.25, 0.25, 0.5]).pmf(POINTS)
    np.testing.assert_allclose(p.kl_divergence(q), prob @ np.log(prob / other), rtol=1e-6)
    assert p.kl_divergence(lx.Multinomial(5, probs=q.probs)) == np.inf


def test_modes_of_the_beta_binomial():
    """A peak, either end, and both concentrations below 1."""
    n = 9
    for a, b in ((3.0, 2.0), (0.5, 4.0), (0.5, 0.75), (0.75, 0.5), (2.5, 0.5)):
        assert lx.BetaBinomial(n, a, b).mode() == np.argmax(
            stats.betabinom(n, a, b).pmf(np.arange(n + 1))
        )


def test_in_float64_and_bfloat16():
    with jax.enable_x64(True):
        x, a = np.array([[3.0, 0.0, 9.0]]), np.array([[0.1, 2.7, 1.3]])
        with mp.workdps(40):
            want = float(polya([mp.mpf(v) for v in x[0]], [mp.mpf(v) for v in a[0]]))
        np.testing.assert_allclose(lx.DirichletMultinomial(12, a).log_prob(x), [want], rtol=1e-10)
    small = lx.BetaBinomial(7, jnp.bfloat16(0.75), jnp.bfloat16(2.5)).log_prob(3)
    assert small.dtype == jnp.float32
    np.testing.assert_allclose(small, stats.betabinom(7, 0.75, 2.5).logpmf(3), rtol=1e-6)


def test_heads():
    for family, n in ((lx.Multinomial, 3), (lx.DirichletMultinomial, 3)):
        head = lx.Head(family, event_shape=3, total_count=4)
        assert head.size == n
        dist = head(jnp.zeros((2, 3)))
        want = {lx.Multinomial: 12 / 81, lx.DirichletMultinomial: 1 / 15}[family]
        np.testing.assert_allclose(dist.prob(jnp.array([2, 1, 1])), want, rtol=2e-6)
    with pytest.raises(ValueError, match="total_count"):
        lx.Head(lx.BetaBinomial)
