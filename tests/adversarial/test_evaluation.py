"""Distances between samples, and likelihoods of generators, against closed forms and brute force."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial
import scipy.special
import scipy.stats

import likelax as lx
from likelax import adversarial
from likelax.adversarial import GAN, neighbours
from likelax.adversarial.discrepancy import KERNELS
from likelax.testing.linear_gaussian import example_model
from likelax.testing.subject import quick_jit

KEY = jax.random.key(9)
RNG = np.random.default_rng(6)
A = np.array([0.3, -0.5]) + RNG.normal(size=(23, 2)) * [1.0, 0.6]
B = np.array([0.0, 0.4]) + RNG.normal(size=(31, 2)) @ np.array([[1.2, 0.5], [0.0, 0.7]])


# The maximum mean discrepancy.


def by_hand(k, x, y):
    """Gretton et al. 2012, equation 3, term by term."""
    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def gaussian(a, b, widths=(0.7, 2.0)):
    return np.mean([np.exp(-np.sum((a - b) ** 2) / (2 * h**2)) for h in widths])


BY_HAND = {
    "gaussian": gaussian,
    "polynomial": lambda a, b: (a @ b / 2 + 1) ** 3,
    "energy": lambda a, b: -np.linalg.norm(a - b),
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_mmd_is_the_sum_over_pairs(kernel):
    with jax.enable_x64(True):
        ask = functools.partial(adversarial.mmd, kernel=kernel, bandwidth=(0.7, 2.0), block_size=10)
        value = quick_jit(ask)(A, B).value
        np.testing.assert_allclose(value, by_hand(BY_HAND[kernel], A, B), rtol=1e-10)
        # Negative control: with the pairs of one with itself it is another number.
        with_self = BY_HAND[kernel](A[0], A[0]) / len(A)
        assert abs(with_self) < 1e-12 or abs(value + with_self - by_hand(gaussian, A, B)) > 1e-3


def test_bandwidths_are_multiples_of_the_median_distance():
    distance = scipy.spatial.distance.pdist(np.concatenate([A, B]))
    widths = tuple(np.median(distance) * np.array([0.5, 1.0, 2.0]))
    want = by_hand(functools.partial(gaussian, widths=widths), A, B)
    np.testing.assert_allclose(adversarial.mmd(A, B).value, want, rtol=1e-4)


def test_values_that_are_alike_have_no_median_distance():
    same = np.concatenate([np.zeros((50, 2)), np.ones((4, 2))])
    same = same[:23], same[23:]
    with pytest.raises(ValueError, match="median distance of the values is 0.*write bandwidth=1.0"):
        adversarial.mmd(*same)
    # Of a kernel without a bandwidth nobody asks for it: twice the distance of 3.
    far = adversarial.mmd(np.zeros((23, 2)), np.full((31, 2), 3 / 2**0.5), kernel="energy")
    np.testing.assert_allclose(far.value, 6.0, rtol=1e-5)


def test_products_keep_all_digits():
    """On accelerators, which round the factors to three of them by default."""
    for call in (
        lambda a, b: adversarial.mmd(a, b, kernel="polynomial"),
        lambda a, b: adversarial.sliced_wasserstein(a, b, KEY),
    ):
        products = str(jax.make_jaxpr(call)(A, B)).count("dot_general")
        assert products and str(jax.make_jaxpr(call)(A, B)).count("HIGHEST") >= products
    # Negative control.
    assert "HIGHEST" not in str(jax.make_jaxpr(lambda a, b: a @ b.T)(A, B))


LOC, SCALE = np.array([[0.0, 0.5], [0.8, -0.2]]), np.array([[1.0, 0.6], [1.4, 0.9]])
H, RUNS, N, M = 1.1, 400, 25, 40


def expected(i, j):
    """E exp(-|x - y|^2 / (2 h^2)) of two Normals."""
    variance = H**2 + SCALE[i] ** 2 + SCALE[j] ** 2
    return np.prod(H / np.sqrt(variance) * np.exp(-((LOC[i] - LOC[j]) ** 2) / (2 * variance)))


@pytest.fixture(scope="module", params=[True, False], ids=["apart", "alike"])
def runs(request):
    """Many pairs of samples from two Normals, or from one; and what is true."""

    def one(key):
        a, b = (jax.random.normal(jax.random.fold_in(key, i), (n, 2)) for i, n in enumerate((N, M)))
        other = 1 if request.param else 0
        x, y = LOC[0] + SCALE[0] * a, LOC[other] + SCALE[other] * b
        found = adversarial.mmd(x, y, bandwidth=H)
        return found.value, found.standard_error

    value, error = quick_jit(jax.vmap(one))(jax.random.split(KEY, RUNS))
    truth = expected(0, 0) + expected(1, 1) - 2 * expected(0, 1) if request.param else 0.0
    return np.asarray(value), np.asarray(error), truth


def test_mmd_of_normals(runs):
    value, _, truth = runs
    bar = 4 * value.std() / np.sqrt(RUNS)
    assert abs(value.mean() - truth) < bar
    # Negative control: the biased estimate, with the diagonal, is not within it.
    biased = value.mean() + (1 - expected(0, 0)) * (1 / N + 1 / M)
    assert abs(biased - truth) > bar


def test_the_error_of_mmd_is_that_of_other_samples(runs):
    value, error, truth = runs
    ratio = np.sqrt(np.mean(error**2)) / value.std()
    bar = 4 * np.sqrt((scipy.stats.kurtosis(value) + 2) / (4 * RUNS))
    # Where the two are alike it errs to the safe side, as it says.
    assert -bar < ratio - 1 < bar + (0 if truth else 0.28)


# Sliced distances.


def test_on_a_line_it_is_the_distance_of_sorted_values():
    x, y = A[:, :1], B[:, :1]
    for order in (1.0, 2.0):
        found = adversarial.sliced_wasserstein(x, y, KEY, order=order, num_projections=2).value
        long = np.sort(np.repeat(x[:, 0], len(y))), np.sort(np.repeat(y[:, 0], len(x)))
        want = np.mean(np.abs(long[0] - long[1]) ** order) ** (1 / order)
        np.testing.assert_allclose(found, want, rtol=1e-5)
        if order == 1:
            np.testing.assert_allclose(
                found, scipy.stats.wasserstein_distance(x[:, 0], y[:, 0]), rtol=1e-5
            )
        else:  # negative control: the mean of distances is no root of a mean of squares
            assert abs(found - np.mean(np.abs(long[0] - long[1]))) > 0.01


def test_sliced_wasserstein_of_normals():
    """At quantiles turned by many angles, for which W_2 on each line is known in closed form."""
    shift = np.array([0.6, -0.3])
    grid = scipy.stats.norm.ppf((np.arange(30) + 0.5) / 30)
    x = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2) @ np.diag([1.0, 0.5])
    y = shift + 1.5 * x
    found = adversarial.sliced_wasserstein(x, y, KEY, num_projections=200, block_size=75)
    want = np.sqrt(np.mean(np.sum((shift + 0.5 * x) ** 2, -1)) / 2)
    assert abs(found.value - want) < 4 * found.standard_error < 0.05
    less = adversarial.sliced_wasserstein(x, y, KEY, num_projections=50)
    np.testing.assert_allclose(less.standard_error / found.standard_error, 2, rtol=0.3)
    same = adversarial.sliced_wasserstein(x, x[::-1], KEY, num_projections=50)
    assert same.value == 0 and same.standard_error == 0
    # Negative control: without the mean over directions it is another distance.
    assert abs(found.value - want * np.sqrt(2)) > 4 * found.standard_error


# What is not finite.

MEASURES = {
    "mmd": functools.partial(adversarial.mmd, bandwidth=1.0),
    "sliced_wasserstein": functools.partial(
        adversarial.sliced_wasserstein, key=KEY, num_projections=3
    ),
    "precision_recall": adversarial.precision_recall,
    "density_coverage": adversarial.density_coverage,
}
LOST = [np.where(np.arange(31)[:, None] == 3, wrong, B) for wrong in (np.nan, np.inf)]


@pytest.mark.parametrize("name", MEASURES)
def test_samples_that_are_not_finite_are_named(name):
    for bad, value in zip(LOST, ("nan", "inf"), strict=True):
        message = rf"{name}: at index \(3, 0\) of the rows of the second sample is {value}, not"
        with pytest.raises(ValueError, match=message):
            MEASURES[name](A, bad)


def test_compiled_code_hides_no_sample_that_is_not_finite():
    """Comparisons with NaN are false, and a kernel of what is far away is 0."""

    @quick_jit
    def ask(x, y):
        with mock.patch.object(neighbours, "or_nan", lambda found, *samples: found):
            hidden = neighbours._precision_recall.__wrapped__(x, y, 3, 512)
        return {name: call(x, y) for name, call in MEASURES.items()}, hidden

    for bad in LOST:
        found, hidden = ask(jnp.asarray(A, jnp.float32), jnp.asarray(bad, jnp.float32))
        assert all(np.all(np.isnan(leaf)) for leaf in jax.tree.leaves(found))
        assert np.all(np.isfinite(hidden))  # negative control
    found, hidden = ask(jnp.asarray(A, jnp.float32), jnp.asarray(B, jnp.float32))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(found))
    np.testing.assert_array_equal(found["precision_recall"], hidden)


NOTHING = {"generator": {}, "critic": {}}


def test_samples_that_are_divided_over_explicit_axes():
    """One device suffices: that shardings differ is found by their types."""
    kind = jax.sharding.AxisType.Explicit
    mesh = jax.make_mesh((1,), ("data",), axis_types=(kind,), devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        sharding = jax.sharding.NamedSharding(mesh, jax.P("data"))
        x, y = (jax.device_put(jnp.asarray(v, jnp.float32), sharding) for v in (A, B))
        for call in (
            *MEASURES.values(),
            functools.partial(adversarial.parzen_log_prob, noise_scale=1),
        ):
            jax.eval_shape(lambda x, y, call=call: call(x, y)[:2], x, y)
        model = GAN(None, None, lx.Normal(jnp.zeros(2), 1.0).to_event())
        ask = functools.partial(adversarial.annealed_log_prob, model, NOTHING, KEY, betas=2)
        jax.eval_shape(lambda x: ask(x, noise_scale=1.0)[:2], x)
        with pytest.raises(Exception, match="shard"):  # negative control: pairs of divided rows
            jax.eval_shape(adversarial._blocks.squared_distances, x, y)


# Neighbours.


def balls(x, k):
    return scipy.spatial.KDTree(x).query(x, k + 1)[0][:, -1]


def shares(real, fake, k):
    """Kynkäänniemi et al. and Naeem et al., by loops."""

    def among(values, others):
        reach = balls(others, k)
        return np.mean([np.any(np.linalg.norm(others - v, axis=1) <= reach) for v in values])

    reach = balls(real, k)
    held = [np.sum(np.linalg.norm(fake - r, axis=1) <= d) for r, d in zip(real, reach, strict=True)]
    return (
        among(fake, real),
        among(real, fake),
        np.sum(held) / (k * len(fake)),
        np.mean(np.array(held) > 0),
    )


@pytest.mark.parametrize("k", [1, 4])
def test_shares_are_those_of_brute_force(k):
    far = B + 1.0
    options = {"neighbours": k, "block_size": 10}
    found = (
        *adversarial.precision_recall(A, far, **options),
        *adversarial.density_coverage(A, far, **options),
    )
    np.testing.assert_allclose(found, shares(A, far, k), rtol=1e-6)
    # Negative controls: a neighbour more, and the two exchanged.
    for wrong in (shares(A, far, k + 1), shares(far, A, k)):
        assert np.abs(np.array(found) - wrong).max() > 0.02


def test_features_are_what_is_looked_at():
    with_third = [np.concatenate([v, 50 * RNG.normal(size=(len(v), 1))], 1) for v in (A, B)]
    found = adversarial.precision_recall(*with_third, features=lambda v: v[:, :2])
    plain = adversarial.precision_recall(A, B)
    np.testing.assert_array_equal(found, plain)
    assert not np.array_equal(adversarial.precision_recall(*with_third), plain)


def test_coverage_of_one_distribution():
    """In expectation, whatever the distribution (Naeem et al. 2020, equation 7)."""

    def one(key):
        a, b = (jax.random.normal(jax.random.fold_in(key, i), (30, 3)) for i in (0, 1))
        return adversarial.density_coverage(a, b, neighbours=3)

    found = quick_jit(jax.vmap(one))(jax.random.split(KEY, 300))
    want = 1, 1 - np.prod([(30 - i) / (60 - i) for i in (1, 2, 3)])
    for each, mean in zip(found, want, strict=True):
        assert abs(np.mean(each) - mean) < 4 * np.std(each) / np.sqrt(300)


# Likelihoods.


def test_parzen_is_a_mixture_at_the_samples():
    with jax.enable_x64(True):
        found = adversarial.parzen_log_prob(A, B, noise_scale=0.3, block_size=7)
        parts = scipy.stats.norm(A, 0.3).logpdf(B[:, None]).sum(-1)
        want = scipy.special.logsumexp(parts, axis=1) - np.log(len(A))
        np.testing.assert_allclose(found.log_prob, want, rtol=1e-10)
        weight = np.exp(parts)
        error = weight.std(1, ddof=1) / weight.mean(1) / np.sqrt(len(A))
        np.testing.assert_allclose(found.standard_error, error, rtol=1e-8)
        # Negative control: without the kernel's own norm.
        assert np.abs(found.log_prob + np.log(2 * np.pi * 0.3**2) - want).max() > 0.1
        assert "nats (estimate, closing with samples)" in str(found.nll)


@pytest.fixture(scope="module")
def linear_gan():
    """Generator W z + b with noise, whose likelihood is known, and estimates with many steps and with two."""
    known = example_model()
    w, b = jnp.asarray(known.weights, jnp.float32), jnp.asarray(known.mean, jnp.float32)
    generator = (lambda key, z: {}), (lambda params, z: z @ w.T + b)
    model = GAN(generator, None, lx.Normal(jnp.zeros(2), 1.0).to_event())
    x = known.sample(KEY, 6)
    claims = []

    @quick_jit
    def ask(x):
        def call(x, scale, betas, chains):
            options = {"betas": betas, "num_chains": chains, "kernel": lx.samplers.HMC(0.3, 4)}
            params = {"generator": {}, "critic": {}}
            found = adversarial.annealed_log_prob(
                model, params, KEY, x, noise_scale=scale, **options
            )
            claims.append(found.claim.relation)
            return found[:2]

        scale = known.scale
        few = call(jnp.repeat(x, 500, 0), scale, 2, 2)
        return call(x, scale, 40, 100), few[0], call(x, 1.2 * scale, 40, 100)

    return ask(x), np.asarray(known.log_prob(x)), set(claims)


def test_annealing_finds_the_likelihood_of_a_linear_generator(linear_gan):
    ((found, error), _, (other, its_error)), want, claims = linear_gan
    assert np.abs((found - want) / error).max() < 4 and error.max() < 0.2
    assert claims == {"estimate"}
    # Negative control: of another noise.
    assert np.abs((other - want) / its_error).max() > 4


def test_annealing_is_below_on_average(linear_gan):
    (_, few, _), want, _ = linear_gan
    gap = want[:, None] - np.asarray(few).reshape(6, 500)
    assert np.all(gap.mean(1) > 4 * gap.std(1) / np.sqrt(500))


BAD = {
    "shapes": (
        lambda: adversarial.mmd(A, B[:, :1]),
        r"one event shape wanted.*\(23, 2\) and \(31, 1",
    ),
    "one": (lambda: adversarial.mmd(A[:1], B), "at least 2 of each wanted, got 1 and 31"),
    "kernel": (lambda: adversarial.mmd(A, B, kernel="rbf"), "kernel is one of gaussian, poly"),
    "bandwidth": (lambda: adversarial.mmd(A, B, bandwidth=0.0), "bandwidth is positive"),
    "block": (lambda: adversarial.mmd(A, B, block_size=0), "block_size is a whole number >= 1"),
    "bandwidths": (
        lambda: adversarial.mmd(A, B, bandwidth=np.ones((2, 2))),
        r"a number or a row of them, got shape \(2, 2\)",
    ),
    "no order": (
        lambda: adversarial.sliced_wasserstein(A, B, KEY, order=np.inf),
        "order is at least 1 and finite, got inf",
    ),
    "order": (
        lambda: adversarial.sliced_wasserstein(A, B, KEY, order=0.5),
        "order is at least 1 and finite, got 0.5",
    ),
    "projections": (
        lambda: adversarial.sliced_wasserstein(A, B, KEY, num_projections=1),
        "num_projections is a whole number >= 2",
    ),
    "neighbours": (lambda: adversarial.precision_recall(A[:3], B), "at least 4 of each wanted"),
    "no neighbours": (
        lambda: adversarial.density_coverage(A, B, neighbours=0),
        "neighbours is a whole number >= 1",
    ),
    "features": (
        lambda: adversarial.mmd(A, B, features=lambda v: v.sum(0)),
        r"features map \(n, \*event\) to \(n, features\)",
    ),
    "noise": (
        lambda: adversarial.parzen_log_prob(A, B, noise_scale=-1.0),
        "noise_scale is positive",
    ),
    "noises": (
        lambda: adversarial.parzen_log_prob(A, B, noise_scale=np.ones(23)),
        r"noise_scale is one number, got shape \(23,\); scale the data instead",
    ),
    "samples": (
        lambda: adversarial.parzen_log_prob(A[:1], B, noise_scale=1.0),
        "at least 2 samples wanted, got 1",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    make, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_annealing():
    model = GAN(None, None, lx.Normal(0.0, 1.0))
    ask = functools.partial(
        adversarial.annealed_log_prob, model, {"generator": {}, "critic": {}}, KEY
    )
    with pytest.raises(TypeError, match="leaves a density invariant wanted"):
        ask(A[:, 0], noise_scale=1.0, kernel=lx.samplers.Langevin(0.1))
    with pytest.raises(TypeError, match="kernel over real values.*GibbsWithGradients"):
        ask(A[:, 0], noise_scale=1.0, kernel=lx.samplers.GibbsWithGradients())
    with pytest.raises(TypeError, match="real latents are moved, the prior is a Bernoulli"):
        bits = GAN(None, None, lx.Bernoulli(probs=0.5))
        adversarial.annealed_log_prob(bits, *ask.args[1:], A[:, 0], noise_scale=1.0)
    with pytest.raises(ValueError, match="noise_scale is one number, got shape"):
        ask(A[:, 0], noise_scale=np.ones(23))
    with pytest.raises(ValueError, match="num_chains is a whole number >= 2, got 1"):
        ask(A[:, 0], noise_scale=1.0, num_chains=1)
    with pytest.raises(TypeError, match="a model such as lx.adversarial.GAN"):
        adversarial.annealed_log_prob(None, {}, KEY, A, noise_scale=1.0)
