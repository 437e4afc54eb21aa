"""LinearChainCRF against all label sequences listed, and against what it reduces to."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import likelax as lx
from likelax.sequence.crf import LinearChainCRF
from likelax.testing.subject import quick_jit

STEPS, LABELS = 3, 3
EVERY = np.array(list(itertools.product(range(LABELS), repeat=STEPS)), np.int32)
rng = np.random.default_rng(7)
UNARY, TRANSITION = rng.normal(size=(2, STEPS, LABELS)), rng.normal(size=(LABELS, LABELS)) * 2
INITIAL, FINAL = rng.normal(size=LABELS), rng.normal(size=LABELS)
POTENTIALS = (UNARY[0], TRANSITION, INITIAL, FINAL)


def crf(**changes):
    given = {"unary": UNARY[0], "transition": TRANSITION, "initial": INITIAL, "final": FINAL}
    given |= changes
    arrays = {n: jnp.asarray(v) for n, v in given.items() if n != "lengths"}
    return LinearChainCRF(**arrays, lengths=given.get("lengths"))


def score(unary, transition, initial, final, labels=EVERY):
    total = unary[np.arange(labels.shape[-1]), labels].sum(axis=-1)
    total = total + initial[labels[..., 0]] + final[labels[..., -1]]
    return total + transition[labels[..., :-1], labels[..., 1:]].sum(axis=-1)


LOG_P = scipy.special.log_softmax(score(*POTENTIALS))


@quick_jit
def log_prob(model, x):
    return model.log_prob(x)


def close(got, want, tolerance=1e-10):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_log_prob_and_its_gradients_are_those_of_all_sequences():
    weights = np.linspace(-1, 2, len(EVERY))  # unlike for each sequence

    def own(potentials):
        model = LinearChainCRF(*potentials)
        log_prob = model.log_prob(EVERY)
        return jnp.sum(weights * log_prob), (log_prob, model.log_normalizer())

    def reference(potentials):
        return jnp.sum(weights * jax.nn.log_softmax(score(*potentials)))

    with jax.enable_x64(True):
        potentials = tuple(map(jnp.asarray, POTENTIALS))
        gradient, (found, log_z) = quick_jit(jax.grad(own, has_aux=True))(potentials)
        close(found, LOG_P)
        close(log_z, scipy.special.logsumexp(score(*POTENTIALS)))
        close(gradient, quick_jit(jax.grad(reference))(potentials))


BROKEN = {
    "transitions backwards": {"transition": TRANSITION.T},
    "no final": {"final": 0 * FINAL},
    "initial at the end": {"initial": FINAL, "final": INITIAL},
    "steps in reverse": {"unary": UNARY[0, ::-1]},
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_seen(name):
    with jax.enable_x64(True):
        got = log_prob(crf(**BROKEN[name]), EVERY)
        assert abs(got - LOG_P).max() > 1e-2


def summarised(model):
    return model.marginals().probs, model.mode(), model.entropy(), model.log_normalizer()


summaries = quick_jit(summarised)


def test_without_transitions_the_labels_are_independent():
    with jax.enable_x64(True):
        model = crf(transition=0 * TRANSITION, initial=0 * INITIAL, final=0 * FINAL)
        log_p = scipy.special.log_softmax(UNARY[0], axis=-1)
        close(log_prob(model, EVERY), log_p[np.arange(STEPS), EVERY].sum(axis=-1))
        probs, _, entropy, _ = summaries(model)
        close((probs, entropy), (np.exp(log_p), -np.sum(np.exp(log_p) * log_p)))


def of_list(p, labels):
    """Marginals, mode and entropy."""
    steps = range(labels.shape[-1])
    states = np.array([[p[labels[:, t] == k].sum() for k in range(LABELS)] for t in steps])
    return states, labels[np.argmax(p)], -np.sum(p * np.log(p))


def test_summaries():
    with jax.enable_x64(True):
        p = np.exp(LOG_P)
        close(summaries(crf())[:3], of_list(p, EVERY))


def test_structural_zeros():
    """Tags that may not follow one another: the rest has its gradient, finite and right."""
    shut = TRANSITION.copy()
    shut[0, 2] = shut[1, 1] = -np.inf
    possible = np.isfinite(score(UNARY[0], shut, INITIAL, FINAL))

    @quick_jit
    @jax.value_and_grad
    def own(transition, labels):
        return crf(transition=transition).log_prob(labels)

    @quick_jit
    @jax.value_and_grad
    def reference(transition):
        every = score(UNARY[0], transition, INITIAL, FINAL, EVERY[possible])
        return jax.nn.log_softmax(every)[4]

    with jax.enable_x64(True):
        close(own(jnp.asarray(shut), EVERY[possible][4]), reference(jnp.asarray(shut)))
        value, gradient = own(jnp.asarray(shut), np.array([2, 0, 2]))
        assert value == -jnp.inf and not gradient.any()
        assert not np.isfinite(score(UNARY[0], shut, INITIAL, FINAL)[EVERY @ [9, 3, 1] == 20]).any()


def test_labels_that_are_none():
    @quick_jit
    @jax.value_and_grad
    def own(unary, labels):
        return crf(unary=unary).log_prob(labels)

    for labels in ([0, 3, 1], [-1, 0, 1]):
        value, gradient = own(jnp.float32(UNARY[0]), jnp.array(labels))
        assert value == -jnp.inf and not gradient.any()
    with pytest.raises(TypeError, match=r"write value.astype\(int\)"):
        crf().log_prob(np.zeros(STEPS))


def test_lengths():
    """A shorter sequence is a shorter field; beyond its end neither labels nor scores matter."""
    lengths = np.array([2, 0, 1, 3])
    beyond = np.arange(STEPS) >= lengths[:, None]
    unary = np.where(beyond[..., None], np.nan, UNARY[0])
    labels = np.array([[1, 2, 99], [-5, 0, 1], [2, -1, -1], [0, 1, 2]])
    outside = np.array([[3, 2, 0], [3, 0, 0], [3, 0, 0], [0, 1, -1]])

    @quick_jit
    @jax.grad
    def gradient(unary):
        return crf(unary=unary, lengths=lengths).log_prob(labels).sum()

    with jax.enable_x64(True):
        model = crf(unary=unary, lengths=lengths)
        got, none = np.asarray(log_prob(model, np.stack([labels, outside])))
        probs, mode, entropy, log_z = summaries(model)
        for row, n in ((0, 2), (2, 1), (3, 3)):
            every = np.array(list(itertools.product(range(LABELS), repeat=n)))
            scores = score(UNARY[0, :n], *POTENTIALS[1:], every)
            log_p = scipy.special.log_softmax(scores)
            here = np.argmax(np.all(every == labels[row, :n], axis=-1))
            close((got[row], log_z[row]), (log_p[here], scipy.special.logsumexp(scores)))
            want = of_list(np.exp(log_p), every)
            close((probs[row, :n], mode[row, :n], entropy[row]), want)
        close((got[1], entropy[1]), (0.0, 0.0))
        np.testing.assert_array_equal(np.isneginf(none), [True, False, True, True])
        np.testing.assert_array_equal(mode == -1, beyond)
        slope = gradient(jnp.asarray(unary))
        assert np.all(np.isfinite(slope))
        np.testing.assert_array_equal(np.any(slope != 0, axis=-1), ~beyond)
        draws = quick_jit(lambda model: model.sample(jax.random.key(0), (7,)))(model)
        np.testing.assert_array_equal(draws == -1, np.broadcast_to(beyond, draws.shape))


def test_samples():
    count, p = 4000, np.exp(LOG_P)
    draw = quick_jit(lambda model: model.sample(jax.random.key(1), (count,)))
    draws = np.asarray(draw(crf()))
    frequency = np.bincount(draws @ [9, 3, 1], minlength=27) / count
    error = np.sqrt(p * (1 - p) / count)
    assert np.all(np.abs(frequency - p) <= 4 * error)
    # The control: each label by its own marginal.
    states = of_list(p, EVERY)[0]
    independent = states[np.arange(STEPS), EVERY].prod(axis=-1)
    assert np.any(np.abs(frequency - independent) > 4 * error)


def test_gradients_mapped_over_parameters():
    labels = EVERY[[5, 16]]

    def own(unary, labels):
        return crf(unary=unary).log_prob(labels)

    with jax.enable_x64(True):
        unary = jnp.asarray(UNARY)
        mapped = quick_jit(jax.vmap(jax.grad(own)))(unary, labels)
        whole = quick_jit(jax.grad(lambda u: jnp.sum(jax.vmap(own)(u, labels))))(unary)
        close(mapped, whole)
        counts = (labels[..., None] == np.arange(LABELS)) - summaries(crf(unary=unary))[0]
        close(mapped, counts)


def test_a_batch_of_one_transition_for_each():
    with jax.enable_x64(True):
        both = jnp.stack([jnp.asarray(TRANSITION), jnp.asarray(TRANSITION.T)])
        model = crf(unary=UNARY[:, None], transition=both)
        assert model.batch_shape == (2, 2) and model.event_shape == (STEPS,)
        labels = jnp.asarray(EVERY[[4, 11, 25]])[:, None, None]
        one = crf(unary=UNARY[1], transition=both[0])
        close(log_prob(model, labels)[:, 1, 0], log_prob(one, labels[:, 0, 0]))
        assert crf(unary=UNARY, lengths=2).batch_shape == (2,)


@pytest.mark.parametrize("lengths", [None, np.array([3, 1])])
def test_scores_divided_over_an_explicit_mesh(lengths):
    def all_of(unary, labels):
        def own(unary):
            return crf(unary=unary, lengths=lengths)

        gradient = jax.grad(lambda unary: jnp.sum(own(unary).log_prob(labels)))(unary)
        return gradient, summarised(own(unary)), own(unary).sample(jax.random.key(0))

    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        out = jax.eval_shape(all_of, jax.device_put(UNARY, jax.P("data")), EVERY[:2])
        assert {leaf.sharding.spec[0] for leaf in jax.tree.leaves(out)} == {"data"}


@pytest.mark.slow
def test_it_is_what_its_density_says():
    potentials = (UNARY[:, :2, :2], TRANSITION[:2, :2], INITIAL[:2], FINAL[:2])
    model = LinearChainCRF(*map(np.float32, potentials))
    assert lx.testing.check_distribution(model, key=jax.random.key(3)).ok


BAD = {
    "transition": (
        lambda: crf(transition=np.zeros((2, 2))),
        r"transition of shape \(2, 2\) does not fit unary of shape \(3, 3\)",
    ),
    "transition that is not square": (
        lambda: crf(transition=np.zeros((3, 2))),
        r"transition of shape \(3, 2\) does not fit unary of shape \(3, 3\)",
    ),
    "final": (lambda: crf(final=np.zeros(4)), r"final of shape \(4,\) does not fit unary"),
    "unary": (lambda: crf(unary=np.zeros(3)), r"unary has shape \(..., event, num_labels\)"),
    "no steps": (lambda: crf(unary=np.zeros((0, 3))), "at least one step, got shape"),
    "lengths": (
        lambda: crf(unary=UNARY, lengths=np.array([1, 2, 3])),
        r"lengths of shape \(3,\) do not fit unary of shape \(2, 3, 3\).*shape \(2,\)",
    ),
    "labels": (lambda: crf().log_prob(np.zeros(4, int)), r"event \(3,\), got \(4,\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    make, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_lengths():
    with pytest.raises(TypeError, match=r"write lengths.astype\(int\)"):
        crf(unary=UNARY, lengths=np.array([1.0, 2.0]))
    with lx.debug_checks(), pytest.raises(ValueError, match=r"0 to 3; at index \(1\) it is 4"):
        crf(unary=UNARY, lengths=np.array([1, 4]))


def test_the_signature_says_what_is_optional():
    required = {
        name
        for cls in (lx.sequence.LinearChainCRF, lx.sequence.HiddenMarkov)
        for name, p in inspect.signature(cls).parameters.items()
        if p.default is p.empty
    }
    assert required == {"unary", "transition", "initial", "emission"}
    crf = inspect.signature(lx.sequence.LinearChainCRF)
    assert crf.parameters["initial"].default is None
    # One that makes its own from its fields has them as before.
    assert list(inspect.signature(lx.Normal).parameters) == ["loc", "scale", "log_scale"]
