"""What lies outside its range, or has another shape or kind than is meant."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import likelax as lx
from likelax.diffusion import (
    VLB,
    ConsistencyTraining,
    Denoised,
    Denoising,
    FlowMatching,
    Learned,
    MaskedDiffusion,
    ODELikelihood,
    Pairs,
    Pixels,
    Process,
    Real,
    UniformDiffusion,
    classifier,
    classifier_free,
    inpainting,
    ode_log_prob,
    transport,
)
from likelax.testing.subject import quick_jit

KEY = jax.random.key(5)
NET = (lambda key, *_: {"w": jnp.full((), 0.3)}, lambda p, z, t, *_: p["w"] * z + t[:, None])
PARAMS = {"net": {"w": jnp.full((), 0.3)}, "process": {}}
INSIDE = jnp.array([[0, 15], [3, 7], [5, 6]])
OUTSIDE = INSIDE.at[1, 1].set(16)


class Anything(Pixels):
    """The control: it takes what lies outside for the first of the values, without a word."""

    def contains(self, target):
        return jnp.ones(target.shape[:1], bool)


def check_costs_outside(kind, **options):
    """With the row that lies outside, and with that row of weight 0."""
    model, weights = kind(NET, **options), jnp.array([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0]])

    def ask(target, weight):
        def loss(params):
            return model(params, KEY, lx.Batch(target, weight=weight))

        (_, aux), slope = jax.value_and_grad(loss, has_aux=True)(PARAMS)
        return aux.per_example, slope["net"]["w"]

    both = quick_jit(jax.vmap(ask, in_axes=(None, 0)))
    (cost, kept), (slope, kept_slope) = both(OUTSIDE, weights)
    assert cost[1] == np.inf and kept[1] == 0, "outside"
    np.testing.assert_allclose(cost[::2], kept[::2], rtol=1e-5)
    # A mean over three examples, of which one has no gradient, beside that of two.
    np.testing.assert_allclose(slope, kept_slope * 2 / 3, rtol=1e-5)


def test_what_lies_outside_costs_infinitely_much_and_has_no_gradient():
    check_costs_outside(lambda net, **options: VLB(Process(), net, **options), data=Pixels(16))
    check_costs_outside(FlowMatching, data=Pixels(16))
    check_costs_outside(ConsistencyTraining, data=Pixels(16))
    with pytest.raises(AssertionError, match="outside"):
        check_costs_outside(FlowMatching, data=Anything(16))


def test_tokens_that_are_bytes():
    flat = (lambda key, *_: {}, lambda p, z, t: jnp.zeros((*z.shape, 256)))
    tokens = jnp.array([[1, 255, 3], [0, 2, 7]])
    model = MaskedDiffusion(flat, 256)
    ask = quick_jit(lambda *xs: [model({}, KEY, lx.Batch(x))[1].per_example for x in xs])
    found = ask(tokens, tokens.astype("uint8"))
    assert np.all(np.isfinite(found[0]))
    np.testing.assert_array_equal(found[1], found[0])
    UniformDiffusion(flat, 256).check(lx.Batch(tokens.astype("uint8")))
    with pytest.raises(ValueError, match=r"at index \(0, 1\) the target is 255, none of"):
        UniformDiffusion(flat, 200).check(lx.Batch(tokens.astype("uint8")))


def test_pairs_whose_data_are_pixels():
    model = FlowMatching((lambda key, *_: {}, lambda p, z, t: 0 * z), data=Pixels(16))
    batch = lx.Batch(Pairs(jnp.full((3, 2), 9.0), INSIDE))
    model.check(batch)  # values are looked at where they are known
    ask = quick_jit(lambda batch: model({"net": {}, "process": {}}, KEY, batch)[1].per_example)
    per_example = ask(batch)
    # The velocity is x - 9 but for the ends of the path, with x in its bin.
    low, high = (
        np.sum((np.asarray(INSIDE) * 2 / 16 - 1 + width - 9) ** 2, 1) for width in (0, 2 / 16)
    )
    assert np.all((high * 0.9999 < per_example) & (per_example < low * 1.0001))
    with pytest.raises(ValueError, match=r"at index \(1, 1\) the target is 16"):
        model.check(lx.Batch(Pairs(batch.target.source, OUTSIDE)))


def test_a_schedule_that_is_steered_has_not_the_gradient_of_the_bound():
    batch = lx.Batch(jnp.ones((2, 2)))
    for model in (
        Denoising(Process(schedule=Learned()), NET, weighting="elbo"),
        VLB(Process(schedule=Learned()), NET),
    ):
        params = jax.eval_shape(model.init, KEY, batch).params
        ask = [
            jax.eval_shape(lambda p, t=t, m=model: m(p, KEY, batch, train=t), params)
            for t in (True, False)
        ]
        assert [aux.claim.unbiased for _, aux in ask] == [False, True]


def estimates(z, level):
    return Denoised(0.3 * z, 0.7 * z, 0.1 * z)


def test_guides_keep_the_variance_that_was_learned():
    z, level = jnp.ones((2, 3)), Process().at(jnp.asarray(0.5))
    guides = (
        inpainting(estimates, jnp.zeros(3), jnp.array([True, False, True])),
        classifier(estimates, lambda z, level: jnp.sum(z, axis=1)),
    )
    for guide in guides:
        share = jax.eval_shape(guide, z, level).share
        assert share is not None and share.shape == z.shape


def test_a_scale_for_each_sample_is_that_of_its_row():
    z, level = jnp.arange(9.0).reshape(3, 3), Process().at(jnp.asarray(0.5))
    scale, free = jnp.array([0.5, 2.0, 3.0]), lambda z, level: Denoised(-z, z**2)
    given = lambda z, level: Denoised(0.3 * z, 0.7 * z)  # noqa: E731

    def guides(scale):
        return (
            classifier_free(given, free, scale),
            classifier_free(given, free, scale, (-50.0, 50.0)),
            classifier(given, lambda z, level: jnp.sum(z**3, axis=1), scale),
        )

    def ask(z):
        rows = [[guide(z, level) for guide in guides(scale[i])] for i in range(3)]
        return [guide(z, level) for guide in guides(scale)], rows, guides(scale[None])[0](z, level)

    found, rows, columns = quick_jit(ask)(z)
    for number, estimate in enumerate(found):
        for part in ("data", "noise"):
            wanted = [getattr(rows[i][number], part)[i] for i in range(3)]
            np.testing.assert_allclose(getattr(estimate, part), wanted, rtol=1e-6)
    assert not np.allclose(columns.data, found[0].data)


REAL, WHOLE = lx.Batch(jnp.ones((3, 2))), lx.Batch(OUTSIDE)
BAD = {
    "pairs for a denoiser": (
        lambda: VLB(Process(), NET)(PARAMS, KEY, lx.Batch(Pairs(REAL.target, REAL.target))),
        r"VLB: a target is one array .* got Pairs; .* write lx.Batch\(pairs.target\)",
    ),
    "pairs for a likelihood": (
        lambda: ODELikelihood(FlowMatching(NET))(
            PARAMS, KEY, lx.Batch(Pairs(REAL.target, REAL.target))
        ),
        "FlowMatching: a target is one array",
    ),
    "pixels that are outside, of a likelihood": (
        lambda: ODELikelihood(FlowMatching(NET, data=Pixels(16)))(PARAMS, KEY, WHOLE),
        r"FlowMatching: at index \(1, 1\) the target is 16",
    ),
    "pixels that are outside, at once": (
        lambda: ode_log_prob(VLB(Process(), NET, data=Pixels(16)), PARAMS, KEY, WHOLE),
        r"VLB: at index \(1, 1\) the target is 16",
    ),
    "a likelihood of ends of paths": (
        lambda: ODELikelihood(ConsistencyTraining(NET)),
        "a model of lx.diffusion wanted, one of means, got ConsistencyTraining",
    ),
    "transport to ends of paths": (
        lambda: transport(ConsistencyTraining(NET), PARAMS, REAL.target, to="data"),
        "transport: a model of lx.diffusion wanted, one of means, got ConsistencyTraining",
    ),
    "a loc for each example": (
        lambda: VLB(Process(), NET, data=Real(jnp.zeros((3, 1))))(PARAMS, KEY, REAL),
        r"Real: loc is a number or has the event's shape \(2,\), or its last axes, got \(3, 1\)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    make, message = BAD[name]
    with pytest.raises((TypeError, ValueError), match=message):
        make()
