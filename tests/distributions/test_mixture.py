"""Mixture against SciPy, mpmath, finite differences and brute force."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import likelax as lx
from likelax import supports
from likelax.distributions.categorical import Categorical
from likelax.distributions.counts import Poisson
from likelax.distributions.gamma import Exponential, Gamma
from likelax.distributions.mixture import Mixture
from likelax.distributions.multivariate import MultivariateNormal
from likelax.distributions.normal import Normal
from likelax.distributions.uniform import Uniform
from likelax.testing.subject import quick_jit

WEIGHTS = np.array([0.2, 0.5, 0.3])
LOC = np.array([-2.0, 0.5, 3.0])
SCALE = np.array([0.5, 1.0, 2.0])
X = np.array([-3.0, 0.1, 2.0, 6.0])


def normals(given="probs"):
    weights = {"probs": WEIGHTS, "logits": np.log(WEIGHTS) + 3.0}[given]
    return Mixture(Categorical(**{given: jnp.asarray(weights)}), Normal(jnp.asarray(LOC), SCALE))


def truth(method, x):
    return np.sum(
        WEIGHTS * getattr(scipy.stats.norm(LOC, SCALE), method)(np.asarray(x)[..., None]), -1
    )


def leaf_differences(function, tree, step=1e-6):
    """Central differences of a scalar function in every element of every leaf."""
    leaves, structure = jax.tree.flatten(tree)
    function = quick_jit(function)

    def at(k, index, delta):
        moved = list(leaves)
        moved[k] = leaves[k].at[index].add(delta)
        return function(jax.tree.unflatten(structure, moved))

    out = []
    for k, leaf in enumerate(leaves):
        grad = np.zeros(leaf.shape)
        for index in np.ndindex(*leaf.shape):
            grad[index] = (at(k, index, step) - at(k, index, -step)) / (2 * step)
        out.append(grad)
    return jax.tree.unflatten(structure, out)


def assert_trees_close(got, want, **tolerance):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


# ---- values ----


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("given", ["probs", "logits"])
def test_densities_and_tails_are_scipys(given, x64):
    with jax.enable_x64(x64):
        m, tolerance = normals(given), {"rtol": 1e-11 if x64 else 3e-6}
        np.testing.assert_allclose(m.log_prob(X), np.log(truth("pdf", X)), **tolerance)
        np.testing.assert_allclose(m.cdf(X), truth("cdf", X), **tolerance)
        np.testing.assert_allclose(m.survival(X), truth("sf", X), **tolerance)
        np.testing.assert_allclose(m.log_cdf(X), np.log(truth("cdf", X)), **tolerance)
        np.testing.assert_allclose(m.log_survival(X), np.log(truth("sf", X)), **tolerance)
        mean = np.sum(WEIGHTS * LOC)
        np.testing.assert_allclose(m.mean(), mean, **tolerance)
        variance = np.sum(WEIGHTS * (SCALE**2 + LOC**2)) - mean**2
        np.testing.assert_allclose(m.variance(), variance, **tolerance)


def test_far_tails_stay_in_log_space():
    """Every component underflows, and so does every probability."""
    m = normals()
    for method, x in (
        ("log_prob", 300.0),
        ("log_prob", -90.0),
        ("log_cdf", -60.0),
        ("log_survival", 90.0),
    ):
        with mpmath.workdps(60):
            total = mpmath.mpf(0)
            for w, a, s in zip(WEIGHTS, LOC, SCALE, strict=True):
                z = (mpmath.mpf(x) - mpmath.mpf(a)) / mpmath.mpf(s)
                term = {
                    "log_prob": lambda z, s: mpmath.npdf(z) / s,
                    "log_cdf": lambda z, s: mpmath.erfc(-z / mpmath.sqrt(2)) / 2,
                    "log_survival": lambda z, s: mpmath.erfc(z / mpmath.sqrt(2)) / 2,
                }[method](z, mpmath.mpf(s))
                total += mpmath.mpf(float(w)) * term
            want = float(mpmath.log(total))
        assert want < -104  # exp of it is 0 in float32
        np.testing.assert_allclose(getattr(m, method)(x), want, rtol=2e-6)
        grads = jax.grad(lambda m: getattr(m, method)(x))(m)  # noqa: B023
        assert all(bool(jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(grads))


def test_edges():
    m = normals()
    np.testing.assert_array_equal(m.log_prob(jnp.array([jnp.inf, -jnp.inf])), -jnp.inf)
    assert jnp.isnan(m.log_prob(jnp.nan)) and jnp.isnan(m.cdf(jnp.nan))
    np.testing.assert_array_equal(m.cdf(jnp.array([-jnp.inf, jnp.inf])), [0, 1])
    np.testing.assert_array_equal(m.log_survival(jnp.array([-jnp.inf, jnp.inf])), [0, -jnp.inf])


# ---- gradients ----


@pytest.mark.parametrize("given", ["probs", "logits"])
@pytest.mark.parametrize("method", ["log_prob", "cdf", "log_cdf", "log_survival", "survival"])
def test_gradients(method, given):
    with jax.enable_x64(True):
        m = normals(given)

        def total(m):
            return jnp.sum(getattr(m, method)(X) * jnp.array([1.0, -2.0, 0.5, 3.0]))

        got, forward = quick_jit(lambda m: (jax.grad(total)(m), jax.jacfwd(total)(m)))(m)
        assert_trees_close(got, leaf_differences(total, m), rtol=1e-6, atol=1e-7)
        assert_trees_close(forward, got, rtol=1e-9, atol=1e-12)


def moments(m):
    return m.mean() - 0.3 * m.variance()


@pytest.mark.parametrize("given", ["probs", "logits"])
def test_gradients_of_moments_and_quantiles(given):
    q = jnp.array([0.01, 0.3, 0.9])
    with jax.enable_x64(True):
        m = normals(given)
        for function in (moments, lambda m: jnp.sum(m.quantile(q) ** 2)):
            got, forward = quick_jit(lambda m, f=function: (jax.grad(f)(m), jax.jacfwd(f)(m)))(m)
            assert_trees_close(got, leaf_differences(function, m), rtol=1e-5, atol=1e-6)
            assert_trees_close(forward, got, rtol=1e-8, atol=1e-10)


# Parameters that make a Normal's own value or gradient NaN.
PRONE = {
    "nan": (np.nan, 1.0),
    "zero scale": (0.0, 0.0),
    "far": (np.inf, 1.0),
    "tiny": (1e30, 1e-30),
}


def values(m, x):
    everything = m.log_prob(x), m.cdf(x), m.log_survival(x), m.mean(), m.variance()
    return jnp.stack([*everything, m.quantile(0.3), m.sample(jax.random.key(3))])


# One program for all that have the same parameters.
@quick_jit
def both(m, x):
    reverse = jax.jacrev(values, (0, 1))(m, x)
    return values(m, x), reverse, jax.jacfwd(values, (0, 1))(m, x)


@pytest.mark.slow
@pytest.mark.parametrize("prone", PRONE)
@pytest.mark.parametrize("given", ["probs", "logits"])
def test_a_zero_weight_poisons_nothing(given, prone):
    loc, scale = PRONE[prone]
    weights = {"probs": [0.4, 0.0, 0.6], "logits": np.log([0.4, 1e-30, 0.6])}[given]
    if given == "logits":
        weights[1] = -np.inf
    dead = Mixture(
        Categorical(**{given: jnp.array(weights)}),
        Normal(jnp.array([-1.0, loc, 2.0]), jnp.array([1.0, scale, 0.5])),
    )
    alive = Mixture(jnp.array([0.4, 0.6]), Normal(jnp.array([-1.0, 2.0]), jnp.array([1.0, 0.5])))

    x = jnp.array(0.7)
    (got, reverse, forward), (want, wanted, _) = both(dead, x), both(alive, x)
    np.testing.assert_allclose(got[:-1], want[:-1], rtol=1e-6)
    live = np.array([0, 2])
    for grads in (reverse, forward):
        np.testing.assert_allclose(grads[1], wanted[1], rtol=1e-5)
        for name in ("loc", "scale"):
            mine = getattr(grads[0].components, name)
            np.testing.assert_array_equal(mine[:, 1], 0)
            theirs = getattr(wanted[0].components, name)
            np.testing.assert_allclose(mine[:-1, live], theirs[:-1], rtol=1e-5, atol=1e-7)
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(reverse))


def test_a_plain_log_sum_exp_is_poisoned():
    """Negative control of the test above."""

    def naive(loc, scale):
        z = (0.7 - loc) / scale
        terms = jnp.log(jnp.array([0.4, 0.0, 0.6])) - 0.5 * z**2 - jnp.log(scale)
        return jax.nn.logsumexp(terms)

    grads = jax.grad(naive, (0, 1))(jnp.array([-1.0, 0.0, 2.0]), jnp.array([1.0, 0.0, 0.5]))
    assert bool(jnp.any(jnp.isnan(grads[1])))


def test_the_slope_in_a_zero_weight_is_the_density_ratio():
    with jax.enable_x64(True):
        components = Normal(jnp.array([-1.0, 0.3, 2.0]), jnp.array([1.0, 0.7, 0.5]))

        def at(weights, method="log_prob"):
            return getattr(Mixture(weights, components), method)(0.7)

        weights = jnp.array([0.4, 0.0, 0.6])
        parts = components.prob(0.7)
        want = parts / jnp.sum(weights * parts)
        np.testing.assert_allclose(jax.grad(at)(weights), want, rtol=1e-12)
        np.testing.assert_allclose(jax.jacfwd(at)(weights), want, rtol=1e-12)
        cdf = components.cdf(0.7)
        got = jax.grad(functools.partial(at, method="log_cdf"))(weights)
        np.testing.assert_allclose(got, cdf / jnp.sum(weights * cdf), rtol=1e-12)


def test_a_shared_parameter_is_not_poisoned_through_a_dead_component():
    components = Normal(jnp.array([0.0, jnp.nan, 1.0]), jnp.array([2.0]))
    m = Mixture(Categorical(logits=jnp.array([0.0, -jnp.inf, 1.0])), components)
    grads = jax.grad(lambda m: m.log_prob(0.4))(m)
    alive = Mixture(
        Categorical(logits=jnp.array([0.0, 1.0])), Normal(jnp.array([0.0, 1.0]), jnp.array([2.0]))
    )
    want = jax.grad(lambda m: m.log_prob(0.4))(alive)
    np.testing.assert_allclose(grads.components.scale, want.components.scale, rtol=1e-6)


def test_a_component_whose_density_is_zero_poisons_nothing():
    m = Mixture(jnp.array([0.3, 0.7]), Uniform(jnp.array([0.0, 2.0]), jnp.array([1.0, 5.0])))
    np.testing.assert_allclose(
        m.log_prob(jnp.array([0.5, 3.0, 1.5])), [np.log(0.3), np.log(0.7 / 3), -np.inf], rtol=1e-6
    )
    grads = jax.grad(lambda m: m.log_prob(0.5))(m)
    np.testing.assert_allclose(grads.components.high, [-1.0, 0.0], rtol=1e-6)
    grads = jax.grad(lambda m: m.log_prob(1.5))(m)  # in the gap between them
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(grads))


# ---- quantile ----


def test_quantile_inverts_the_cdf():
    with jax.enable_x64(True):
        m = normals()
        q = np.array([1e-12, 1e-4, 0.1, 0.5, 0.77, 0.9999, 1 - 1e-12])
        want = [
            scipy.optimize.brentq(lambda x, q=p: truth("cdf", x) - q, -20, 30, xtol=1e-13)
            for p in q[:-1]
        ]
        tail = scipy.optimize.brentq(lambda x: truth("sf", x) - (1 - q[-1]), -20, 30, xtol=1e-13)
        np.testing.assert_allclose(m.quantile(q), [*want, tail], rtol=1e-9)
    got = normals().quantile(q[1:-1])
    np.testing.assert_allclose(got, want[1:], rtol=1e-4)
    np.testing.assert_allclose(normals().cdf(got), q[1:-1], rtol=1e-5)
    np.testing.assert_array_equal(normals().quantile(jnp.array([0.0, 1.0])), [-jnp.inf, jnp.inf])
    assert jnp.all(jnp.isnan(normals().quantile(jnp.array([-0.1, 1.1, jnp.nan]))))


def test_quantile_reaches_the_last_bit_whatever_the_size():
    """A narrow component at 0 beside a wide one: the bracket is 1e9 times as wide as the answer."""
    m = Mixture(jnp.array([0.9, 0.1]), Normal(jnp.zeros(2), jnp.array([1e-6, 1e3])))
    x = m.quantile(0.7)
    assert 1e-7 < float(x) < 1e-5
    np.testing.assert_allclose(m.cdf(x), 0.7, rtol=1e-6)


def test_quantile_of_bounded_and_of_discrete_components():
    m = Mixture(jnp.array([0.3, 0.7]), Uniform(jnp.array([0.0, 2.0]), jnp.array([1.0, 5.0])))
    np.testing.assert_allclose(
        m.quantile(jnp.array([0.0, 0.15, 0.65, 1.0])), [0.0, 0.5, 3.5, 5.0], rtol=1e-6
    )
    assert (float(m.support.lower), float(m.support.upper)) == (0.0, 5.0)
    counts = Mixture(jnp.array([0.6, 0.4]), Poisson(jnp.array([1.5, 20.0])))
    table = scipy.stats.poisson([1.5, 20.0]).cdf(np.arange(80)[:, None]) @ [0.6, 0.4]
    q = np.array([0.05, 0.3, 0.59, 0.61, 0.9, 0.999], np.float32)
    np.testing.assert_array_equal(counts.quantile(q), np.searchsorted(table, q))
    k = jnp.arange(40.0)
    np.testing.assert_array_equal(counts.quantile(counts.cdf(k)), k)


# ---- samples ----


def test_samples_have_the_distribution():
    m = normals()
    x = np.asarray(m.sample(jax.random.key(4), 20_000), np.float64)
    assert scipy.stats.kstest(x, lambda v: truth("cdf", v)).pvalue > 1e-3
    wrong = scipy.stats.norm(LOC, SCALE)  # negative control: equal weights
    assert scipy.stats.kstest(x, lambda v: wrong.cdf(np.asarray(v)[:, None]).mean(-1)).pvalue < 1e-6


@pytest.mark.parametrize("given", ["probs", "logits"])
def test_pathwise_gradients_agree_with_the_score_function(given):
    """Both estimates of d E[f(x)], for one function, against each other and quadrature."""
    m, n = normals(given), 20_000
    keys = jax.random.split(jax.random.key(7), n)

    def f(x):
        return jnp.sin(x) + 0.1 * x**2

    def pathwise(m, key):
        return f(m.sample(key))

    def log_total(m):
        """Weights that do not sum to 1 mean a mixture of their shares."""
        return jnp.log(jnp.sum(m.weights.probs))

    def score(m, key):
        x = jax.lax.stop_gradient(m.sample(key))
        return f(x) * (m.log_prob(x) - log_total(m))

    def exact(m):
        x = jnp.linspace(-15, 25, 4001)
        return jnp.sum(f(x) * m.prob(x) / jnp.exp(log_total(m))) * (x[1] - x[0])

    truth_grad = quick_jit(jax.grad(exact))(m)
    estimates = []
    for function in (pathwise, score):
        grads = quick_jit(jax.vmap(jax.grad(function), (None, 0)))(m, keys)
        estimates.append(jax.tree.map(lambda g: np.asarray(g, np.float64), grads))
    for path, scored, want in zip(*map(jax.tree.leaves, (*estimates, truth_grad)), strict=True):
        error = path.std(0) / np.sqrt(n)
        assert np.all(np.abs(path.mean(0) - want) < 4.5 * error)
        score_error = scored.std(0) / np.sqrt(n)
        both = np.sqrt(error**2 + score_error**2)
        assert np.all(np.abs(path.mean(0) - scored.mean(0)) < 4.5 * both)
        # A gradient that goes through the chosen component alone is 0 in the weights.
        assert np.any(np.abs(want) > 10 * error)


def test_pathwise_gradients_are_those_of_the_held_cdf():
    """dx = -dF / p at each sample, in the far tails too, forward as reverse."""
    with jax.enable_x64(True):
        m, key = normals("logits"), jax.random.key(0)

        @quick_jit
        def derivatives(m):
            sample = lambda m: m.sample(key, 7)  # noqa: E731
            x = sample(m)
            slopes = jax.jacfwd(lambda m: m.cdf(x))(m)
            return jax.jacrev(sample)(m), jax.jacfwd(sample)(m), slopes, m.prob(x)

        got, forward, slopes, density = derivatives(m)
        want = jax.tree.map(lambda s: -s / density[:, None], slopes)
        assert_trees_close(got, want, rtol=1e-8, atol=1e-10)
        assert_trees_close(forward, got, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_gamma_components_pass_their_gradients():
    n = 4000
    m = Mixture(jnp.array([0.3, 0.7]), Gamma(jnp.array([2.0, 6.0]), jnp.array([1.0, 0.5])))
    grads = quick_jit(jax.vmap(jax.grad(lambda m, k: m.sample(k)), (None, 0)))(
        m, jax.random.split(jax.random.key(1), n)
    )
    want = jax.grad(lambda m: m.mean())(m)
    for g, w in zip(
        jax.tree.leaves(grads.components), jax.tree.leaves(want.components), strict=True
    ):
        error = np.asarray(g).std(0) / np.sqrt(n)
        assert np.all(np.abs(np.asarray(g).mean(0) - w) < 4.5 * error)


def test_every_batch_element_draws_its_own():
    """Weights that vary along a batch axis where the components do not, and the other way round."""
    components = Normal(jnp.array([-5.0, 5.0]), jnp.array([1.0]))
    m = Mixture(jnp.tile(jnp.array([[0.5, 0.5]]), (400, 1)), components)
    x = m.sample(jax.random.key(0))
    assert x.shape == (400,) and len(np.unique(x)) == 400
    many = Normal(jnp.zeros((400, 2)) + jnp.array([-5.0, 5.0]), 1.0)
    x = Mixture(jnp.array([0.5, 0.5]), many).sample(jax.random.key(0))
    assert 140 < int(jnp.sum(x > 0)) < 260


# ---- components with events, whole numbers, and indices ----

LOCS = np.array([[0.0, 1.0], [2.0, -1.0]])
TRILS = np.array([[[1.0, 0.0], [0.5, 0.7]], [[0.4, 0.0], [-0.9, 1.2]]])


def vectors():
    return Mixture(jnp.array([0.3, 0.7]), MultivariateNormal(LOCS, scale_tril=TRILS))


def test_components_over_vectors():
    m, x = vectors(), np.array([[0.5, 0.5], [2.0, -3.0]])
    assert m.event_shape == (2,) and m.batch_shape == ()
    truths = [scipy.stats.multivariate_normal(a, t @ t.T) for a, t in zip(LOCS, TRILS, strict=True)]
    want = np.log(0.3 * truths[0].pdf(x) + 0.7 * truths[1].pdf(x))
    np.testing.assert_allclose(m.log_prob(x), want, rtol=1e-5)
    n = 20_000
    samples = np.asarray(m.sample(jax.random.key(0), n), np.float64)
    mean, variance = 0.3 * LOCS[0] + 0.7 * LOCS[1], np.asarray(m.variance())
    np.testing.assert_allclose(m.mean(), mean, rtol=1e-6)
    assert np.all(np.abs(samples.mean(0) - mean) < 4.5 * np.sqrt(variance / n))
    squares = (samples - mean) ** 2
    assert np.all(np.abs(squares.mean(0) - variance) < 4.5 * squares.std(0) / np.sqrt(n))
    with pytest.raises(NotImplementedError, match="MultivariateNormal.cdf has no closed form"):
        m.cdf(x)


def test_samples_over_vectors_differentiate_their_own_component():
    m, n = vectors(), 2000
    grads = quick_jit(jax.vmap(jax.grad(lambda m, k: jnp.sum(m.sample(k))), (None, 0)))(
        m, jax.random.split(jax.random.key(0), n)
    )
    error = np.asarray(grads.components.loc).std(0) / np.sqrt(n)
    want = np.array([[0.3, 0.3], [0.7, 0.7]])
    assert np.all(np.abs(grads.components.loc.mean(0) - want) < 4.5 * error)
    np.testing.assert_array_equal(grads.weights.probs, 0)


def test_independent_components():
    base = Normal(jnp.asarray(LOCS), jnp.array([[1.0, 2.0], [0.5, 0.7]]))
    m = Mixture(Categorical(logits=jnp.array([0.1, -0.3])), base.to_event(1))
    x = jnp.array([0.5, 0.5])
    joint = jax.nn.log_softmax(jnp.array([0.1, -0.3])) + base.log_prob(x).sum(-1)
    np.testing.assert_allclose(m.log_prob(x), jax.nn.logsumexp(joint), rtol=1e-6)
    assert m.support.event_ndims == 1 and m.support.is_everything


def test_counts_and_labels_as_components():
    counts = Mixture(jnp.array([0.6, 0.4]), Poisson(jnp.array([1.5, 20.0])))
    k = np.arange(6)
    want = np.log(scipy.stats.poisson([1.5, 20.0]).pmf(k[:, None]) @ [0.6, 0.4])
    np.testing.assert_allclose(counts.log_prob(k), want, rtol=1e-5)
    np.testing.assert_array_equal(counts.log_prob(jnp.array([-1.0, 0.5])), -jnp.inf)
    assert counts.sample(jax.random.key(0), 3).dtype == jnp.int32
    tables = np.array([[0.2, 0.3, 0.5], [0.7, 0.1, 0.2]])
    labels = Mixture(jnp.array([0.25, 0.75]), Categorical(probs=tables))
    want = np.log(0.25 * tables[0] + 0.75 * tables[1])
    np.testing.assert_allclose(labels.log_prob(jnp.arange(3)), want, rtol=1e-6)
    assert labels.log_prob(3) == -jnp.inf
    with pytest.raises(TypeError, match="values are whole numbers"):
        labels.log_prob(1.0)


# ---- posterior, support, batches, errors ----


@pytest.mark.parametrize("given", ["probs", "logits"])
def test_posterior_is_bayes_rule(given):
    posterior = normals(given).posterior(X)
    assert isinstance(posterior, Categorical) and posterior.batch_shape == X.shape
    joint = WEIGHTS * scipy.stats.norm(LOC, SCALE).pdf(X[:, None])
    want = joint / joint.sum(-1, keepdims=True)
    np.testing.assert_allclose(posterior.probs, want, rtol=1e-4, atol=1e-7)


def test_posterior_of_the_impossible():
    dead = Mixture(jnp.array([0.4, 0.0, 0.6]), Normal(jnp.array([0.0, jnp.nan, 1.0]), 1.0))
    probs = dead.posterior(0.5).probs
    np.testing.assert_allclose(probs, [0.4, 0.0, 0.6], rtol=1e-6)
    far = Mixture(jnp.array([0.5, 0.5]), Normal(jnp.array([0.0, 1.0]), 1.0)).posterior(1000.0)
    np.testing.assert_allclose(far.probs, [0.0, 1.0], atol=1e-6)


def test_support_is_the_components():
    assert normals().support is supports.real
    rates = Mixture(jnp.array([0.5, 0.5]), Exponential(jnp.array([1.0, 2.0])))
    assert not bool(rates.support.contains(jnp.array(-1.0)))
    assert rates.log_prob(-1.0) == -jnp.inf
    squares = Uniform(jnp.array([[0.0, 1.0], [3.0, 2.0]]), jnp.array([[5.0, 4.0], [6.0, 7.0]]))
    m = Mixture(jnp.array([0.5, 0.5]), squares)
    np.testing.assert_array_equal(m.support.lower, [0.0, 2.0])
    np.testing.assert_array_equal(m.support.upper, [5.0, 7.0])
    vectors = Mixture(jnp.array([0.5, 0.5]), squares.to_event(1)).support
    assert bool(vectors.contains(jnp.array([0.5, 6.5])))
    assert not bool(vectors.contains(jnp.array([0.5, 7.5])))


def test_mixed_ranks_and_batches():
    """Weights (4, 1, 3) with components (2, 3): batch (4, 2)."""
    weights = jax.nn.softmax(jax.random.normal(jax.random.key(0), (4, 1, 3)))
    loc = jax.random.normal(jax.random.key(1), (2, 3))
    m = Mixture(weights, Normal(loc, 0.7))
    assert m.batch_shape == (4, 2)
    x = jax.random.normal(jax.random.key(2), (5, 4, 2))
    ask = quick_jit(lambda m, x: (m.log_prob(x), m.mean()))
    got = ask(m, x)[0]
    for i, j in np.ndindex(4, 2):
        want, mean = ask(Mixture(weights[i, 0], Normal(loc[j], 0.7)), x[:, i, j])
        np.testing.assert_allclose(got[:, i, j], want, rtol=1e-5)
        np.testing.assert_allclose(ask(m[i, j], x[:, i, j])[1], mean, rtol=1e-5)
    assert m.quantile(0.3).shape == (4, 2) and m.sample(jax.random.key(0), (6,)).shape == (6, 4, 2)


def test_errors():
    with pytest.raises(ValueError, match="2 weights for 3 components"):
        Mixture(jnp.array([0.5, 0.5]), Normal(jnp.zeros(3), 1.0))
    with pytest.raises(ValueError, match=r"batch shape \(\); give its parameters that axis"):
        Mixture(jnp.array([0.5, 0.5]), Normal(0.0, 1.0))
    with pytest.raises(NotImplementedError, match="Mixture.entropy has no closed form"):
        normals().entropy()
    with pytest.raises(NotImplementedError, match="Mixture.mode has no closed form"):
        normals().mode()
    with pytest.raises(NotImplementedError, match=r"KL\(Mixture \|\| Mixture\)"):
        normals().kl_divergence(normals())


def test_labels_and_points_as_components():
    probs = np.array([[0.2, 0.3, 0.5], [0.7, 0.1, 0.2]])
    mixture = Mixture(jnp.array([0.25, 0.75]), Categorical(probs=jnp.asarray(probs)))
    q = np.array([0.1, 0.5, 0.6, 0.7, 0.9])
    cdf = np.cumsum([0.25, 0.75] @ probs)
    np.testing.assert_array_equal(mixture.quantile(q), np.searchsorted(cdf, q))
    points = Mixture(jnp.full((1, 2), 0.5), lx.Delta(jnp.array([[0.0, 2.5]]))).to_event()
    np.testing.assert_allclose(points.log_prob(jnp.array([2.5])), np.log(0.5), rtol=1e-6)
    assert points.log_prob(jnp.array([2.0])) == -np.inf


@pytest.mark.parametrize(
    ("family", "scale"),
    [
        (lx.Normal, 1e-13),
        (lx.Normal, 1e-18),
        (lx.Laplace, 1e-20),
        (lx.Logistic, 1e-20),
        (lx.Cauchy, 1e-13),
        (lambda loc, scale: lx.Weibull(3.0 + loc, scale), 1e-10),
    ],
)
def test_a_component_that_has_collapsed_leaves_the_others_slopes(family, scale):
    """Its own slope, z^2 / scale, is beyond the floats, and its share of the density 0."""

    def log_prob(scale, loc, x):
        components = family(jnp.stack([0.0 * loc, loc]), jnp.stack([scale, 1.0]))
        return Mixture(Categorical(probs=jnp.array([0.5, 0.5])), components).log_prob(x)

    slopes = quick_jit(jax.grad(log_prob, (0, 1, 2)))(jnp.float32(scale), 0.5, 3.0)
    alone = quick_jit(jax.grad(lambda loc, x: family(loc, 1.0).log_prob(x), (0, 1)))(0.5, 3.0)
    # Of a heavy tail scale / (pi x^2), beside 1 / (pi (1 + 2.5^2)).
    own = 7.25 / 9 if family is lx.Cauchy else 0.0
    np.testing.assert_allclose(slopes[0], own, rtol=1e-5)
    np.testing.assert_allclose(slopes[1:], alone, rtol=1e-5)
