"""Dequantised densities against exact probabilities of the bins."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

import likelax as lx
from likelax.flows import Dequantized, dequantize, logit
from likelax.testing.subject import quick_jit

KEY = jax.random.key(3)
NO_NET = lambda key, x: {}, lambda params, x: jnp.zeros((*x.shape[:1], 0))
PARAMS = {"net": {}, "head": {}}
ROWS = 4000


class Fixed:
    """A head that is the same distribution for every input."""

    size = 0

    def __init__(self, dist):
        self.dist, self.event_shape = dist, dist.event_shape

    def init(self, key, features):
        return {}

    def __call__(self, raw, params=None):
        return self.dist.broadcast_to(raw.shape[:-1])


class Decay(lx.Distribution):
    """Density proportional to exp(-rate u) on (0, 1)."""

    rate: lx.Array = lx.param(lx.supports.positive)
    support = lx.supports.open_unit_interval

    def log_prob(self, value):
        return jnp.log(self.rate) - self.rate * value - jnp.log(-jnp.expm1(-self.rate))

    def sample(self, key, shape=()):
        u = jax.random.uniform(key, self._shape(shape), self.dtype)
        return -jnp.log1p(u * jnp.expm1(-self.rate)) / self.rate


def likelihood(dist):
    return lx.Likelihood(None, Fixed(dist))


def costs(model, target, params=PARAMS, key=KEY):
    aux = quick_jit(model)(params, key, lx.Batch(target=target))[1]
    return np.asarray(aux.per_example, np.float64)


# Every part of the bound at once: with the exact posterior of the noise each draw gives the exact
# NLL. Exponential densities of y = 0.2 + 3 v, two of them, 5 bins.

RATES, N = np.array([0.7, 4.0]), 5
TARGETS = np.array([[0, 0], [3, 1], [4, 4]])


def exact_posterior_costs(kind=Dequantized):
    model = likelihood(lx.Exponential(RATES).to_event())
    q = lx.Conditional(NO_NET, Fixed(Decay(RATES * 3 / N).to_event()))
    made = dequantize(
        model, N, preprocessing=lx.bijectors.Affine(0.2, 3.0), dequantizer=q, num_particles=3
    )
    made = kind(made.model, made.grid, made.preprocessing, q, 3)
    return costs(made, TARGETS, {"dequantizer": PARAMS, **PARAMS})


def exact_costs():
    ends = [scipy.stats.expon.cdf(0.2 + 3 * (TARGETS + i) / N, scale=1 / RATES) for i in (0, 1)]
    return -np.log(ends[1] - ends[0]).sum(-1)


def test_the_exact_posterior_gives_the_exact_nll():
    with jax.enable_x64(True):
        np.testing.assert_allclose(exact_posterior_costs(), exact_costs(), rtol=1e-10)
    np.testing.assert_allclose(exact_posterior_costs(), exact_costs(), rtol=1e-4)


class NoWidth(Dequantized):
    def _preprocessed(self, index, u):
        y, log_det = super()._preprocessed(index, u)
        return y, log_det + self._dims * np.log(self.grid.bins)


class NoLogDet(Dequantized):
    def _preprocessed(self, index, u):
        y, log_det = super()._preprocessed(index, u)
        return y, log_det - 2 * np.log(3)


class NoLogQ(Dequantized):
    def _noise(self, *args):
        u, _, state = super()._noise(*args)
        return u, 0.0, state


class NoLogS(Dequantized):
    def score(self, *args, **kwargs):
        scores = super().score(*args, **kwargs)
        return scores._replace(per_example=scores.per_example - np.log(self.num_particles))


@pytest.mark.parametrize("broken", [NoWidth, NoLogDet, NoLogQ, NoLogS])
def test_a_part_left_out_is_seen(broken):
    assert np.all(abs(exact_posterior_costs(broken) / exact_costs() - 1) > 1e-3)


def test_steps_as_wide_as_the_bins_are_scored_exactly():
    weights, edges = np.array([0.1, 0.5, 0.15, 0.25]), np.arange(4) / 4
    steps = lx.Mixture(weights, lx.Uniform(edges, edges + 0.25))
    got = costs(dequantize(likelihood(steps), 4, low=1.0, high=2.5), np.array([1.0, 1.5, 2.0, 2.5]))
    np.testing.assert_allclose(got, -np.log(weights), rtol=1e-5)


@pytest.mark.parametrize("preprocessing", [None, logit(0.0), logit(0.05)])
def test_bits_of_noise_under_the_uniform_density(preprocessing):
    """log2 of the number of values, whatever the preprocessing."""
    cube = lx.Uniform(np.zeros(3), 1.0).to_event()
    flat = cube if preprocessing is None else lx.Transformed(cube, preprocessing)
    model = dequantize(likelihood(flat), 256, preprocessing=preprocessing)
    target = np.random.default_rng(0).integers(0, 256, (50, 3)).astype(np.uint8)
    result = lx.evaluate(model, PARAMS, KEY, lx.Batch(target=target))
    np.testing.assert_allclose(float(lx.bits_per_dim(result)), 8, rtol=2e-6)
    assert result.claim == lx.Claim("upper", True, lx.Measure("counting", 3), "num_particles")


@pytest.mark.parametrize(("scale", "gap"), [(0.05, 0.3), (2.0, 1e-3)])
def test_uniform_noise_has_the_expected_bound(scale, gap):
    """In one bin of 8: the mean is that by quadrature, above the exact NLL."""
    normal = scipy.stats.norm(0.3, scale)
    got = costs(dequantize(likelihood(lx.Normal(0.3, scale)), 8), np.full(ROWS, 3))
    want = scipy.integrate.quad(lambda u: np.log(8) - normal.logpdf((3 + u) / 8), 0, 1)[0]
    exact = -np.log(normal.cdf(4 / 8) - normal.cdf(3 / 8))
    error = got.std() / np.sqrt(ROWS)
    assert abs(got.mean() - want) < 4 * error < 0.2
    assert (want - exact > 0.3) if gap == 0.3 else (0 < want - exact < gap)
    assert gap < 0.3 or abs(got.mean() - exact) > 4 * error  # the control


def test_more_particles_close_the_gap():
    normal = scipy.stats.norm(0.3, 0.05)
    exact = -np.log(normal.cdf(4 / 8) - normal.cdf(3 / 8))
    gaps, errors = [], []
    for particles in (1, 8, 64):
        model = dequantize(likelihood(lx.Normal(0.3, 0.05)), 8, num_particles=particles)
        got = costs(model, np.full(ROWS, 3))
        gaps.append(got.mean() - exact)
        errors.append(got.std() / np.sqrt(ROWS))
    assert gaps[0] > gaps[1] + 4 * errors[0] and gaps[1] > gaps[2] + 4 * errors[1]
    # To first order the gap is Var(w) / (2 S E[w]^2).
    u = np.linspace(0, 1, 20001)
    w = normal.pdf((3 + u) / 8)
    assert abs(gaps[2] - w.var() / (128 * w.mean() ** 2)) < 4 * errors[2] + 2 * gaps[1] ** 2
    assert gaps[2] > 0


def variational():
    """A dequantizer that learns, and the input that its network takes beside the centres."""

    def init(key, centres, x):
        return {"w": jnp.array([[0.4, -0.1], [0.2, 0.3]])}

    def apply(params, centres, x):
        return jnp.concatenate([centres @ params["w"], x * jnp.ones((1, 2))], -1)

    q = lx.TransformedHead(lx.Head(lx.Normal, event_shape=(2,)), lx.bijectors.Sigmoid())
    decoder = lambda key, x: {"m": jnp.array(0.3)}, lambda params, x: params["m"] * x * jnp.ones(2)
    head = lx.Head(lx.Normal, event_shape=(2,), scale=lx.learned(0.4))
    return dequantize(lx.Likelihood(decoder, head), 4, dequantizer=lx.Conditional((init, apply), q))


MODEL = variational()
X = np.array([[0.5], [-1.0], [1.5]], np.float32)
ALL = np.ones(3, bool)
BATCH = lx.Batch(target=np.array([[0, 3], [2, 1], [3, 3]]), input=X, mask=ALL)
VARIATIONAL, STATE = quick_jit(MODEL.init)(KEY, BATCH)
grad = quick_jit(jax.value_and_grad(MODEL, has_aux=True))


@pytest.fixture(scope="module")
def scored():
    return grad(VARIATIONAL, KEY, BATCH)


def test_model_and_dequantizer_learn_together(scored):
    (loss, aux), grads = scored
    assert set(VARIATIONAL) == {"net", "head", "dequantizer"} and STATE == ((), ())
    assert all(np.all(np.asarray(g) != 0) for g in jax.tree.leaves(grads))
    assert aux.state == ((), ()) and np.isfinite(loss)
    assert MODEL.merge(VARIATIONAL)(jnp.ones((1, 1))).shape == (1, 2)


def test_rows_do_not_depend_on_the_batch(scored):
    few = jax.tree.map(lambda x: x[:2], BATCH)
    got = quick_jit(MODEL)(VARIATIONAL, KEY, few)[1].per_example
    np.testing.assert_allclose(got, scored[0][1].per_example[:2], rtol=1e-6)
    plain = dequantize(likelihood(lx.Normal(0.3, 0.05)), 8, num_particles=2)
    each = [costs(plain, np.array([3, 3, 1])[:n]) for n in (2, 3)]
    np.testing.assert_allclose(each[0], each[1][:2], rtol=1e-6)
    assert not np.allclose(*each[0])


def test_explicit_mesh_axes(scored):
    """The types of JAX's Explicit axes are those of larger meshes, on one device, too."""
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        over = jax.NamedSharding(mesh, jax.P("data"))
        batch = jax.tree.map(lambda x: jax.device_put(x, over), BATCH)
        got = quick_jit(MODEL)(VARIATIONAL, KEY, batch)[1].per_example
        assert jax.typeof(got).sharding.spec == jax.P("data")
    np.testing.assert_allclose(got, scored[0][1].per_example, rtol=1e-6)


def test_what_is_masked_or_outside_or_nan():
    model = dequantize(likelihood(lx.Normal(np.array([0.3, 0.2]), 0.4).to_event()), 4)
    target = np.array([[0.0, 3.0], [np.nan, 1.0], [1.0, 4.0], [1.0, 0.5]])
    got = costs(model, target)
    assert np.isfinite(got[0])
    np.testing.assert_array_equal(got[1:], [np.nan, np.inf, np.inf])
    mask = np.array([True, False, True])
    bad = np.array([[0, 3], [np.nan, 7], [3, 3]])
    (loss, _), grads = grad(VARIATIONAL, KEY, lx.Batch(bad, X, mask=mask))
    (want, _), wanted = grad(VARIATIONAL, KEY, dataclasses.replace(BATCH, mask=mask))
    np.testing.assert_allclose(loss, want, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), grads, wanted)


def test_debug_checks_name_the_target():
    model = dequantize(likelihood(lx.Normal(np.array([0.3, 0.2]), 0.4).to_event()), 4)
    with lx.debug_checks(), pytest.raises(Exception, match="equally spaced numbers from 0 to 3"):
        model(PARAMS, KEY, lx.Batch(np.array([[0, 3], [0, 4]])))


def test_samples_are_values_with_their_probabilities():
    normal = scipy.stats.norm(-0.4, 1.2)
    model = dequantize(likelihood(lx.Normal(-0.4, 1.2)), 4, low=-2, preprocessing=logit(0.0))
    draws = quick_jit(lambda: model.sample(PARAMS, KEY, (ROWS,)))()
    assert draws.dtype == jnp.int32
    edges = np.array([-np.inf, *np.log([1 / 3, 1, 3]), np.inf])  # logits of 1/4, 1/2, 3/4
    counts = [int((np.asarray(draws) == v).sum()) for v in (-2, -1, 0, 1)]
    want = np.diff(normal.cdf(edges)) * ROWS
    assert sum(counts) == ROWS
    assert scipy.stats.chisquare(counts, want).pvalue > 1e-4
    assert scipy.stats.chisquare(counts[::-1], want).pvalue < 1e-4  # the control
    draws = jax.eval_shape(lambda: MODEL.sample(VARIATIONAL, KEY, 5, input=X))
    assert draws.shape == (5, 3, 2)
    halves = dequantize(likelihood(lx.Normal(0.3, 0.2)), 3, low=0.0, high=1.0)
    draws = quick_jit(lambda: halves.sample(PARAMS, KEY, (50,)))()
    assert set(np.unique(draws)) <= {0.0, 0.5, 1.0}


def test_the_ends_of_the_unit_interval_are_not_reached():
    """In float32 (255 + u) / 256 rounds to 1 once in 130,000 draws, where the logit is infinite."""
    model = dequantize(likelihood(lx.Logistic(0.0, 1.0)), 256, preprocessing=logit(0.0))
    loss, aux = quick_jit(model)(PARAMS, KEY, lx.Batch(target=np.full(400_000, 255, np.uint8)))
    assert np.isfinite(loss) and np.isfinite(aux.per_example).all()


def test_an_exact_decoder_can_be_compared():
    """The bound of the better model proves it better than an exact one, and not the reverse."""
    target = np.random.default_rng(1).binomial(7, 0.4, (200,))
    good = dequantize(likelihood(lx.Normal(3.3 / 8, 1.3 / 8)), 8)
    bad = likelihood(lx.Quantized(lx.Normal(6.0, 1.0), 0.0, 7.0, 8))
    a, b = (lx.evaluate(m, PARAMS, KEY, lx.Batch(target=target)) for m in (good, bad))
    assert lx.compare(a, b).verdict == "the first is better"
    worse = dequantize(likelihood(lx.Normal(6.0 / 8, 1 / 8)), 8)
    c = lx.evaluate(worse, PARAMS, KEY, lx.Batch(target=target))
    assert "undecided" in lx.compare(c, a).verdict


NORMAL = likelihood(lx.Normal(np.zeros(2), 1.0).to_event())
REAL = lx.Conditional(NO_NET, Fixed(lx.Normal(np.zeros(2), 1.0).to_event()))
NUMBER = lx.Conditional(NO_NET, Fixed(lx.Uniform(0.0, 1.0)))
PAIRS = lx.Batch(target=np.zeros((3, 2), int))
BAD = {
    "no likelihood": (lambda: dequantize(lx.Normal(0.0, 1.0), 4), "lx.Likelihood"),
    "one bin": (lambda: dequantize(NORMAL, 1), "bins=256"),
    "no particles": (lambda: dequantize(NORMAL, 4, num_particles=0), "num_particles=1"),
    "range": (lambda: dequantize(NORMAL, 4, low=1, high=1), "low < high"),
    "values": (
        lambda: dequantize(NORMAL, 4).init(KEY, lx.Batch(target=np.array([[0, 3], [255, 1]]))),
        "1 of 2 targets have values that are not one of 4 .* range from 1 to 255; write dequantize.* low=1, high=255",
    ),
    "noise off the bin, at once": (
        lambda: dequantize(NORMAL, 4, dequantizer=REAL).init(KEY, PAIRS),
        "bijectors.Sigmoid",
    ),
    "a head": (lambda: dequantize(NORMAL, 4, dequantizer=REAL.head), "lx.Conditional"),
    "its event": (lambda: dequantize(NORMAL, 4, dequantizer=NUMBER), r"event_shape=\(2,\)"),
    "a class": (lambda: dequantize(NORMAL, 4, preprocessing=lx.bijectors.Exp), r"write Exp\(\)"),
    "margin": (lambda: logit(0.5), "margin=0.05"),
    "noise off the bin": (
        lambda: dequantize(NORMAL, 4, dequantizer=REAL)({"dequantizer": PARAMS}, KEY, PAIRS),
        "bijectors.Sigmoid",
    ),
    "already discrete": (
        lambda: dequantize(likelihood(lx.Poisson(np.ones(2)).to_event()), 4)(PARAMS, KEY, PAIRS),
        "has probabilities of its own",
    ),
    "no batch": (
        lambda: dequantize(NORMAL, 4)(PARAMS, KEY, lx.Batch(target=np.zeros(2))),
        r"target\[None\]",
    ),
    "other event": (
        lambda: dequantize(NORMAL, 4)(PARAMS, KEY, lx.Batch(target=np.zeros((2, 3)))),
        r"with event \(2,\)",
    ),
    "no bound": (lambda: dequantize(Lower(None, NORMAL.head), 4), "bounds no NLL from above"),
}


class Lower(lx.Likelihood):
    claim = lx.Claim("lower")


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    make, message = BAD[name]
    with pytest.raises((TypeError, ValueError), match=message):
        make()
