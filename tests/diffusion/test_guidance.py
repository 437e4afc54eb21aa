"""Guidance on mixtures of Gaussians, whose conditional scores are closed forms; and conditional models."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import likelax as lx
from likelax.diffusion import DDIM, Ancestral, Denoised, Heun, PredictorCorrector
from likelax.diffusion.condition import dropped
from likelax.diffusion.guidance import check_interval
from likelax.testing.subject import quick_jit

KEY = jax.random.key(0)
PROCESS = lx.diffusion.Process("variance_preserving", lx.diffusion.Cosine())

# Three classes of unequal sizes, one Gaussian each.
WEIGHTS = np.array([0.5, 0.2, 0.3])
MEANS = np.array([[1.0, -0.5], [-2.0, 0.3], [0.4, 2.0]])
VARIANCES = np.array([[0.3, 1.0], [0.5, 0.1], [1.5, 0.4]])


def of_class(k, z, level):
    """The best denoiser of class k."""
    at = level.like(z)
    centred, v = z - at.alpha * MEANS[k], at.alpha**2 * VARIANCES[k] + at.sigma**2
    return Denoised(MEANS[k] + at.alpha * VARIANCES[k] * centred / v, at.sigma * centred / v)


def log_posterior(z, level):
    """log p(y | z), `(batch, 3)`."""
    at = level.like(z[:, None])
    v = at.alpha**2 * VARIANCES + at.sigma**2
    log_prob = -0.5 * (z[:, None] - at.alpha * MEANS) ** 2 / v - 0.5 * jnp.log(v)
    return jax.nn.log_softmax(jnp.log(WEIGHTS) + jnp.sum(log_prob, -1), axis=-1)


def of_all(z, level):
    """The best denoiser of the mixture: the classes' own, averaged by their posterior."""
    p = jnp.exp(log_posterior(z, level))
    each = [of_class(k, z, level) for k in range(3)]
    return Denoised(*(sum(p[:, k, None] * x[i] for k, x in enumerate(each)) for i in range(2)))


def negated(z, level):
    return -log_posterior(z, level)[:, 1]


@pytest.fixture(scope="module")
def guided():
    """Estimates at four levels, by each combinator."""
    rng = np.random.default_rng(0)
    free, given = of_all, functools.partial(of_class, 1)
    by_class = functools.partial(lx.diffusion.classifier, of_all)

    def classifier_free(scale, interval=None):
        return lx.diffusion.classifier_free(given, free, scale, interval)

    denoisers = {
        "free": free,
        "given": given,
        "scale 0": classifier_free(0.0),
        "scale 1": classifier_free(1.0),
        "scale 3": classifier_free(3.0),
        "within": classifier_free(3.0, (-4.0, 4.0)),
        "classifier": by_class(lambda z, level: log_posterior(z, level)[:, 1]),
        "classifier 3": by_class(lambda z, level: log_posterior(z, level)[:, 1], 3.0),
        "negated": by_class(negated),
    }
    z = rng.normal(size=(4, 2))

    @quick_jit
    def ask(z):
        level = PROCESS.at(jnp.array([0.02, 0.3, 0.6, 0.99]))
        scores = {
            "free": jax.grad(lambda z: jnp.sum(marginal(z, level)))(z),
            "log p(y | z)": jax.grad(lambda z: jnp.sum(log_posterior(z, level)[:, 1]))(z),
        }
        return {n: d(z, level) for n, d in denoisers.items()}, scores, level

    def marginal(z, level):
        at = level.like(z[:, None])
        v = at.alpha**2 * VARIANCES + at.sigma**2
        log_prob = -0.5 * (z[:, None] - at.alpha * MEANS) ** 2 / v - 0.5 * jnp.log(v)
        return jax.nn.logsumexp(jnp.log(WEIGHTS) + jnp.sum(log_prob, -1), axis=-1)

    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, (*ask(z), z))


def same(a, b, **options):
    for left, right in zip(a[:2], b[:2], strict=True):
        np.testing.assert_allclose(left, right, **{"rtol": 1e-10, "atol": 1e-10} | options)


def test_a_scale_of_0_is_unconditional_and_of_1_conditional(guided):
    found, *_ = guided
    same(found["scale 0"], found["free"])
    same(found["scale 1"], found["given"])
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        same(found["scale 0"], found["given"])


def test_a_classifier_at_scale_1_is_the_conditional_denoiser(guided):
    found, *_ = guided
    same(found["classifier"], found["given"])
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        same(found["negated"], found["given"])


def test_both_guides_are_one_where_the_classifier_is_the_models_own(guided):
    found, scores, level, z = guided
    same(found["scale 3"], found["classifier 3"])
    # The score -e_hat / sigma, and z = alpha x_hat + sigma e_hat.
    sigma, alpha = level.sigma[:, None], level.alpha[:, None]
    want = scores["free"] + 3 * scores["log p(y | z)"]
    np.testing.assert_allclose(-found["scale 3"].noise / sigma, want, rtol=1e-9)
    np.testing.assert_allclose(alpha * found["scale 3"].data + sigma * found["scale 3"].noise, z)


def test_an_interval_of_guidance_is_one_of_log_snrs(guided):
    found, _, level, _ = guided
    inside = np.abs(level.gamma) < 4
    assert list(inside) == [False, True, True, False]
    for part in range(2):
        want = np.where(inside[:, None], found["scale 3"][part], found["given"][part])
        np.testing.assert_allclose(found["within"][part], want, rtol=1e-10)


# Inpainting: a Gaussian with a correlation of 0.9, of which the first coordinate is known.

RHO, KNOWN = 0.9, 1.5
COVARIANCE = np.array([[1.0, RHO], [RHO, 1.0]])
INPAINT = {"known": np.array([KNOWN, np.nan]), "mask": np.array([True, False])}


def correlated(z, level):
    """The best denoiser of N(0, COVARIANCE), for one level."""
    gain = level.alpha * COVARIANCE
    v = level.alpha**2 * COVARIANCE + level.sigma**2 * jnp.eye(2)
    data = z @ jnp.linalg.solve(v, gain)
    return Denoised(data, (z - level.alpha * data) / level.sigma)


@pytest.fixture(scope="module")
def painted():
    def run(sampler, rows=4000):
        denoiser = lx.diffusion.inpainting(correlated, **INPAINT)
        return sampler(PROCESS, denoiser, KEY, (rows, 2), 40, trajectory=True)

    samplers = {
        "ancestral": Ancestral(),
        "corrected": PredictorCorrector(snr=0.2, corrections=10),
        "heun": Heun(),
    }

    @quick_jit
    def ask():
        found = {name: run(sampler) for name, sampler in samplers.items()}
        half = {name: PROCESS.at(path.times[20]) for name, path in found.items()}
        return {
            name: {
                "sample": path.sample,
                "noise": (path.states[20, :, 0] - half[name].alpha * KNOWN) / half[name].sigma,
            }
            for name, path in found.items()
        }

    return jax.tree.map(np.asarray, ask())


def test_what_is_known_is_kept_and_its_noise_is_noise(painted):
    for name, found in painted.items():
        np.testing.assert_array_equal(found["sample"][:, 0], np.float32(KNOWN))
        noise = found["noise"]
        # Langevin's steps of length l settle at the variance 1 / (1 - l / 2).
        scale = (1 - 0.2**2) ** -0.5 if name == "corrected" else 1.0
        # The start is a draw of the prior, at alpha = 0.007.
        assert abs(np.mean(noise)) < 4 * scale / math.sqrt(len(noise)) + 0.01
        assert abs(np.std(noise) / scale - 1) < 4 / math.sqrt(2 * len(noise))


def test_corrections_bring_what_is_unknown_into_harmony(painted):
    # x_2 given x_1 is N(rho x_1, 1 - rho^2).
    bias = {n: abs(np.mean(x["sample"][:, 1]) - RHO * KNOWN) for n, x in painted.items()}
    assert 2 * bias["corrected"] < bias["ancestral"]


# Conditional models.

LABELS, NULL = np.array([0, 2, 1, 2]), 3


def labelled():
    """A network whose output is its label: (init, apply), and the shapes of z that it was called with."""
    calls = []

    def apply(params, z, level, input):
        calls.append(z.shape)
        rows = params["table"][input["label"]] + input["shift"][:, None]
        return z * params["slope"] + rows[:, :1]

    return (
        lambda key, z, level, input: {"table": jnp.arange(4.0)[:, None], "slope": jnp.ones(())},
        apply,
    ), calls


def conditional(count=4):
    label = np.resize(LABELS, count)
    return {"label": label, "shift": np.linspace(0.1, 0.4, count, dtype=np.float32)}


NONE = {"label": NULL, "shift": 0.0}


def build(net, **options):
    options = {"condition_dropout": 0.25, "null": NONE} | options
    return lx.diffusion.Denoising(PROCESS, net, "data", **options)


def test_the_condition_is_dropped_row_by_row_in_training():
    net, _ = labelled()
    model, count = build(net), 4000
    plain = build(net, condition_dropout=0.0)
    batch = lx.Batch(np.ones((count, 2), np.float32), conditional(count))
    empty = lx.Batch(
        batch.target, {"label": np.full(count, NULL), "shift": np.zeros(count, np.float32)}
    )

    @quick_jit
    def ask():
        params, _ = model.init(KEY, batch)
        return {
            "train": model(params, KEY, batch)[1].per_example,
            "score": model(params, KEY, batch, train=False)[1].per_example,
            "given": plain(params, KEY, batch)[1].per_example,
            "empty": plain(params, KEY, empty)[1].per_example,
        }

    found = jax.tree.map(np.asarray, ask())
    np.testing.assert_allclose(found["score"], found["given"], rtol=1e-5)
    gone = np.isclose(found["train"], found["empty"], rtol=1e-5)
    kept = np.isclose(found["train"], found["given"], rtol=1e-5)
    assert np.all(gone | kept)
    differ = ~np.isclose(found["empty"], found["given"], rtol=1e-5)
    rate = np.mean(gone[differ])
    assert abs(rate - 0.25) < 4 * math.sqrt(0.25 * 0.75 / np.sum(differ))


def test_which_rows_are_dropped_does_not_depend_on_the_batch():
    few, many = quick_jit(
        lambda: [dropped(conditional(n), NONE, KEY, 0.5)["label"] for n in (10, 40)]
    )()
    np.testing.assert_array_equal(few, many[:10])
    assert 0 < np.sum(np.asarray(many) == NULL) < 40


def test_guidance_is_one_call_of_twice_the_batch():
    net, calls = labelled()
    model = build(net)
    z, level = np.ones((4, 2), np.float32), PROCESS.at(0.4)
    params = {"net": net[0](KEY, z, None, None), "process": {}}
    empty = {"label": np.full(4, NULL), "shift": np.zeros(4, np.float32)}

    @quick_jit
    def ask(z):
        guided = model.denoiser(params, input=conditional(), guidance_scale=2.5)(z, level)
        assert calls == [(8, 2)]
        given, free = (model.denoiser(params, input=i)(z, level) for i in (conditional(), empty))
        assert calls[1:] == [(4, 2), (4, 2)]
        outside = model.denoiser(
            params, input=conditional(), guidance_scale=2.5, guidance_interval=(5.0, 9.0)
        )(z, level)
        return guided, given, free, outside

    guided, given, free, outside = ask(z)
    want = [f + 2.5 * (g - f) for g, f in zip(given[:2], free[:2], strict=True)]
    same(guided, want, rtol=1e-4, atol=1e-5)
    same(outside, given, rtol=1e-4, atol=1e-5)


# Samples of models.


def shrinking():
    """The best network of N(0.2, 0.5^2), in units of the model, that counts how often it is traced."""
    traced = []

    def apply(params, z, level, input=None):
        traced.append(z.shape)
        at = jax.tree.map(lambda x: x[:, None], PROCESS.at(level))
        v = at.alpha**2 * 0.25 + at.sigma**2
        data = 0.2 + at.alpha * 0.25 / v * (z - at.alpha * 0.2) * params["one"]
        return data if input is None else data + input[:, None]

    return (lambda key, *parts: {"one": jnp.ones(())}, apply), traced


PARAMS = {"net": {"one": jnp.ones(())}, "process": {}}


def test_samples_are_in_the_units_of_the_data_and_compiled_once():
    net, traced = shrinking()
    real = lx.diffusion.Real(loc=10.0, scale=4.0)
    model = lx.diffusion.VLB(PROCESS, net, "data", data=real, level="time")
    ask = functools.partial(model.sample, PARAMS, shape=(1000, 2), steps=20)
    x = np.asarray(ask(key=KEY))
    before = len(traced)
    other = np.asarray(ask(key=jax.random.key(1)))
    assert len(traced) == before and not np.allclose(x, other)
    # 10 + 4 N(0.2, 0.5^2), but for the error of 20 steps.
    assert abs(np.mean(x) - 10.8) < 4 * 2 / math.sqrt(x.size) + 0.02
    assert abs(np.std(x) / 2 - 1) < 4 / math.sqrt(2 * x.size) + 0.01
    few = model.sample(PARAMS, KEY, (3, 2), steps=20)
    np.testing.assert_allclose(few, x[:3], rtol=1e-4)


def test_samples_of_pixels_are_pixels():
    net, _ = shrinking()
    model = lx.diffusion.VLB(PROCESS, net, "data", data=lx.diffusion.Pixels(bins=4), level="time")
    path = model.sample(PARAMS, KEY, (50, 2), steps=4, trajectory=True)
    assert path.sample.dtype == jnp.int32 and path.estimates.dtype == jnp.int32
    assert set(np.unique(path.sample)) <= {0, 1, 2, 3}
    assert path.states.shape == (5, 50, 2)


def test_a_guide_is_compiled_once_for_all_that_is_known():
    net, traced = shrinking()
    model = lx.diffusion.Denoising(PROCESS, net, "data", level="time")
    mask, counts = np.array([True, False]), []
    for known in (1.0, -2.0):
        guide = Partial(lx.diffusion.inpainting, known=np.full(2, known, np.float32), mask=mask)
        x = model.sample(PARAMS, KEY, (3, 2), steps=3, guide=guide, sampler=DDIM())
        counts.append(len(traced))
        np.testing.assert_array_equal(x[:, 0], np.float32(known))
        assert np.all(x[:, 1] != known)
    assert counts[0] == counts[1]


def init(null=NONE, **options):
    net, _ = labelled()
    batch = lx.Batch(np.ones((4, 2), np.float32), conditional())
    return build(net, null=null, **options).init(KEY, batch)


def sample(**options):
    model = lx.diffusion.Denoising(PROCESS, shrinking()[0], "data", level="time")
    return model.sample(PARAMS, KEY, (3, 2), **{"steps": 2} | options)


ERRORS = {
    "no null": (lambda: init(null=None), ValueError, "wants null=, the input of an example"),
    "a dropout of 1": (lambda: init(condition_dropout=1.0), ValueError, r"in \[0, 1\), got 1.0"),
    "a null of another structure": (lambda: init(null=0), ValueError, "null is what an example's"),
    "a null of another shape": (
        lambda: init(null={"label": np.zeros(2, int), "shift": 0.0}),
        ValueError,
        r"of shape \(\) and int.*got \(2,\)",
    ),
    "a null of another type": (
        lambda: init(null={"label": 0.5, "shift": 0.0}),
        ValueError,
        r"of shape \(\) and int.*got \(\) and float",
    ),
    "guidance of nothing": (
        lambda: sample(guidance_scale=2.0),
        ValueError,
        r"give lx.Batch\(target, input=labels\)",
    ),
    "guidance without a null": (
        lambda: sample(guidance_scale=2.0, input=np.ones(3, np.float32)),
        ValueError,
        "give null=",
    ),
    "an interval": (
        lambda: lx.diffusion.classifier_free(of_all, of_all, 2.0, (3.0, 1.0)),
        ValueError,
        r"low < high, got \(3.0, 1.0\)",
    ),
    "an interval of one number": (
        lambda: check_interval(3.0),
        ValueError,
        "a pair .*got 3.0; write interval=",
    ),
    "an interval of no guidance": (
        lambda: sample(guidance_interval=(-1.0, 1.0)),
        ValueError,
        "guidance_interval is of guidance.*write guidance_scale=2.0",
    ),
    "a dropout that is none": (lambda: init(condition_dropout=float("nan")), ValueError, "got nan"),
    "no input where it may be missing": (
        lambda: build(labelled()[0], null=NONE).sample(PARAMS, KEY, (3, 2), steps=2),
        ValueError,
        "as many rows of null",
    ),
    "a shape": (
        lambda: lx.diffusion.Denoising(PROCESS, shrinking()[0]).sample(PARAMS, KEY, (), steps=2),
        ValueError,
        r"Denoising.sample: shape is \(batch, \*event\).* got \(\)",
    ),
    "a mask of numbers": (
        lambda: lx.diffusion.inpainting(of_all, 1.0, np.ones(2)),
        TypeError,
        "mask is boolean, got float",
    ),
    "no steps": (lambda: sample(steps=0), ValueError, "Denoising.sample: steps is a whole number"),
    "an input of another number": (
        lambda: sample(input=np.ones(2, np.float32)),
        ValueError,
        r"want an input of shape \(3, ...\), got \(2,\)",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_to_write(name):
    call, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()
