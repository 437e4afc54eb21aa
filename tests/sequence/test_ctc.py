"""CTC against the sum over all alignments, and against optax where that is exact."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

import likelax as lx
from likelax.sequence.ctc import CTC
from likelax.testing.subject import quick_jit

FRAMES, TOKENS = 4, 3
ALIGNMENTS = np.array(list(itertools.product(range(TOKENS), repeat=FRAMES)), np.int32)
LOGITS = np.random.default_rng(11).normal(size=(2, FRAMES, TOKENS)) * 1.5


def collapse(tokens, blank):
    """Repeats merged, then blanks dropped."""
    merged = [c for i, c in enumerate(tokens) if i == 0 or c != tokens[i - 1]]
    return tuple(int(c) for c in merged if c != blank)


def unmerged(tokens, blank):
    return tuple(int(c) for c in tokens if c != blank)


def merged_last(tokens, blank):
    """Blanks dropped first: no label comes twice running."""
    return collapse(unmerged(tokens, blank), blank)


def spelled(blank, spell=collapse):
    """Every label sequence with the rows of its alignments."""
    out = {}
    for row, tokens in enumerate(ALIGNMENTS):
        out.setdefault(spell(tokens, blank), []).append(row)
    return out


def listed(logits, blank=0, spell=collapse, xp=scipy.special):
    """log p of every label sequence, in the order of `spelled`."""
    log_p = xp.log_softmax(logits, axis=-1)[np.arange(FRAMES), ALIGNMENTS].sum(axis=-1)
    return [xp.logsumexp(log_p[np.array(rows)]) for rows in spelled(blank, spell).values()]


def padded(sequences, size=FRAMES):
    return np.array([[*s, *[-1] * (size - len(s))] for s in sequences])


@quick_jit
def log_prob(model, x):
    return model.log_prob(x)


@quick_jit
def best_path(model):
    return model.best_path()


def close(got, want, tolerance=1e-10):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_log_prob_and_its_gradients_are_those_of_all_alignments(blank=2):
    every = padded(spelled(blank))
    weights = np.linspace(-1, 2, len(every))

    def own(logits):
        log_prob = CTC(logits, blank).log_prob(every)
        return jnp.sum(weights * log_prob), log_prob

    def reference(logits):
        log_prob = jnp.stack(listed(logits, blank, xp=jax.nn))
        return jnp.sum(weights * log_prob), log_prob

    with jax.enable_x64(True):
        logits = jnp.asarray(LOGITS[0])
        got = quick_jit(jax.grad(own, has_aux=True))(logits)
        close(got, quick_jit(jax.grad(reference, has_aux=True))(logits))
        close(jnp.sum(jnp.exp(got[1])), 1.0)


@pytest.mark.parametrize("spell", [unmerged, merged_last])
def test_what_is_broken_is_seen(spell):
    """Alignments read in another way have other sums, for sequences with equal neighbours."""
    with jax.enable_x64(True):
        sequences = list(spelled(0, spell))
        got = log_prob(CTC(jnp.asarray(LOGITS[0])), padded(sequences))
        assert not np.allclose(np.exp(got), np.exp(listed(LOGITS[0], 0, spell)), atol=1e-3)


IMPOSSIBLE = {
    "more labels than frames": [1, 1, 1, -1],  # needs two blanks: five frames
    "the blank": [1, 0, 2, -1],
    "no token": [1, 3, -1, -1],
    "a number below the padding": [1, -2, -1, -1],
    "a label behind the padding": [-1, 1, -1, -1],
}


@quick_jit
@jax.value_and_grad
def value_and_gradient(logits, labels):
    return CTC(logits).log_prob(labels)


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_is_impossible(name):
    value, gradient = value_and_gradient(jnp.float32(LOGITS[0]), np.array(IMPOSSIBLE[name]))
    assert value == -jnp.inf and not gradient.any()


def test_impossible_tokens():
    """A logit of -inf, where optax.ctc_loss is NaN."""
    with jax.enable_x64(True):
        shut = jnp.asarray(LOGITS[0]).at[1, 0].set(-jnp.inf).at[2, 1].set(-jnp.inf)
        sequences = list(spelled(0))

        @quick_jit
        @jax.value_and_grad
        def far(logits):
            """The same with a token as good as impossible."""
            held = jnp.where(jnp.isinf(logits), -1e4, logits)
            return listed(held, xp=jax.nn)[sequences.index((1, 2))]

        value, gradient = value_and_gradient(shut, np.array([1, 2, -1, -1]))
        close((value, gradient), far(shut))
        assert np.all(np.isfinite(gradient))
        # One label for all frames: frame 2 cannot be blank or 1, but may be 2.
        only = shut.at[1, 2].set(-jnp.inf).at[2, 0].set(-jnp.inf)
        value, gradient = value_and_gradient(only, np.array([1, -1, -1, -1]))
        assert value == -jnp.inf and not gradient.any()


def test_far_below_the_logarithm_that_optax_takes_for_that_of_zero():
    logits = np.random.default_rng(1).normal(size=(5, 3)) * 1e6
    labels = np.array([1, 1, 2])
    log_p = np.float64(logits) - logits.max(axis=-1, keepdims=True)
    every = itertools.product(range(3), repeat=5)
    spell = [log_p[np.arange(5), a].sum() for a in every if collapse(a, 0) == (1, 1, 2)]
    with jax.enable_x64(True):
        got = log_prob(CTC(jnp.asarray(logits), num_labels=3), labels)
        close(got, np.float64(max(spell)))
        zeros = jnp.zeros((1, 5)), jnp.asarray(labels)[None], jnp.zeros((1, 3))
        theirs = -quick_jit(optax.ctc_loss)(jnp.asarray(logits)[None], *zeros)[0]
        assert max(spell) < -1e5 and abs(theirs - max(spell)) > 1e4


def test_it_is_that_of_optax():
    """At a size that cannot be listed, in float32."""
    rng = np.random.default_rng(2)
    logits = np.float32(rng.normal(size=(3, 20, 7)))
    lengths, counts = np.array([20, 15, 12]), np.array([5, 2, 6])
    labels = rng.integers(1, 7, size=(3, 6))
    labels[2] = [4, 4, 1, 1, 1, 3]
    beyond = np.arange(6) >= counts[:, None]

    @quick_jit
    @jax.value_and_grad
    def own(logits):
        values = np.where(beyond, -1, labels)
        return -jnp.sum(CTC(logits, lengths=lengths, num_labels=6).log_prob(values))

    @quick_jit
    @jax.value_and_grad
    def theirs(logits):
        frames = np.float32(np.arange(20) >= lengths[:, None])
        return jnp.sum(optax.ctc_loss(logits, frames, labels, np.float32(beyond)))

    got, want = own(logits), theirs(logits)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5)
    np.testing.assert_allclose(got[1], want[1], atol=2e-5)


def test_lengths():
    """Frames beyond the end do not count, whatever is in them; without any only nothing is said."""
    with jax.enable_x64(True):
        lengths = np.array([3, 0, 4])
        logits = np.where(np.arange(FRAMES)[:, None] < lengths[:, None, None], LOGITS[0], np.nan)
        model = CTC(jnp.asarray(logits), lengths=lengths, num_labels=2)
        got = log_prob(model, np.array([[1, 2]]))
        full = listed(LOGITS[0])[list(spelled(0)).index((1, 2))]
        p = np.exp(scipy.special.log_softmax(LOGITS[0, :3], axis=-1))
        ways = [(0, 1, 2), (1, 0, 2), (1, 2, 0), (1, 1, 2), (1, 2, 2)]
        short = np.log(sum(p[[0, 1, 2], way].prod() for way in ways))
        close(got, np.array([short, -np.inf, full]))
        assert log_prob(model, np.array([[-1, -1]]))[1] == 0
        np.testing.assert_array_equal(best_path(model)[1], [-1, -1])

        @quick_jit
        @jax.grad
        def gradient(logits):
            log_prob = CTC(logits, lengths=lengths, num_labels=2).log_prob(np.array([1, 2]))
            return jnp.sum(jnp.where(lengths > 0, log_prob, 0))

        slope = gradient(jnp.asarray(logits))
        assert np.all(np.isfinite(slope))
        np.testing.assert_array_equal(slope[0, 3:], 0)
        assert np.all(slope[0, :3] != 0)


def test_batches_and_gradients_mapped_over_parameters():
    with jax.enable_x64(True):
        logits = jnp.asarray(LOGITS)
        labels = padded([(1, 2), (2, 2)])
        model = CTC(logits)
        assert model.batch_shape == (2,) and model.event_shape == (FRAMES,)
        every = log_prob(model, labels[:, None])
        assert every.shape == (2, 2)
        values, mapped = jax.vmap(value_and_gradient)(logits, labels)
        close(jnp.diagonal(every), values)
        whole = quick_jit(jax.grad(lambda l: jnp.sum(CTC(l).log_prob(labels))))(logits)
        close(mapped, whole)


@pytest.mark.slow
def test_two_thousand_frames_in_float32():
    """Against the textbook's recursion, one frame after another in float64."""
    rng = np.random.default_rng(3)
    logits = np.float32(rng.normal(size=(2000, 5)) * 3)
    labels = rng.integers(1, 5, size=40)
    log_p = np.float64(logits)
    log_p = log_p - np.logaddexp.reduce(log_p, axis=-1, keepdims=True)
    states = np.zeros(81, int)
    states[1::2] = labels
    skips = (states != 0) & (states != np.roll(states, 2))
    skips[:2] = False
    with np.errstate(invalid="ignore"):
        alpha = np.where(np.arange(81) < 2, log_p[0, states], -np.inf)
        for frame in log_p[1:]:
            one, two = np.roll(alpha, 1), np.where(skips, np.roll(alpha, 2), -np.inf)
            one[0] = -np.inf
            alpha = np.logaddexp(np.logaddexp(alpha, one), two) + frame[states]
    want = np.logaddexp(alpha[-1], alpha[-2])
    np.testing.assert_allclose(CTC(logits, num_labels=40).log_prob(labels), want, rtol=1e-6)


def test_samples():
    """Drawn, collapsed and padded as often as they are probable; with the lengths of each."""
    count, logits = 4000, np.float32(LOGITS[0])
    sequences = padded(spelled(0))
    draw = quick_jit(lambda model: model.sample(jax.random.key(2), (count,)))
    draws = np.asarray(draw(CTC(logits)))
    frequency = np.all(draws[:, None] == sequences, axis=-1).mean(axis=0)
    p = np.exp(listed(LOGITS[0]))
    error = np.sqrt(p * (1 - p) / count)
    assert frequency.sum() == pytest.approx(1) and draws.dtype == np.int32
    assert np.all(np.abs(frequency - p) <= 4 * error + 1e-6)
    # The control: blanks dropped first.
    wrong = dict(
        zip(spelled(0, merged_last), np.exp(listed(LOGITS[0], 0, merged_last)), strict=True)
    )
    wrong = np.array([wrong.get(s, 0) for s in spelled(0)])
    assert np.any(np.abs(frequency - wrong) > 4 * error)


def test_longer_samples_are_cut_to_num_labels():
    logits = jnp.log(jnp.array([[1e-6, 1.0, 1e-6], [1e-6, 1e-6, 1.0], [1e-6, 1.0, 1e-6]]))
    draw = quick_jit(lambda model: model.sample(jax.random.key(0)))
    np.testing.assert_array_equal(draw(CTC(logits, num_labels=2)), [1, 2])


def test_the_best_path_is_not_the_mode():
    """Graves' example: two frames, blank 0.6 and label 0.4 in each."""
    ctc = CTC(jnp.log(jnp.array([[0.6, 0.4], [0.6, 0.4]])))
    np.testing.assert_array_equal(best_path(ctc), [-1, -1])
    p = quick_jit(lambda model, x: model.prob(x))(ctc, np.array([[-1, -1], [1, -1]]))
    np.testing.assert_allclose(p, [0.36, 0.64], rtol=1e-6)
    with pytest.raises(NotImplementedError, match=r"CTC.mode .* take .best_path\(\)"):
        ctc.mode()
    repeated = CTC(jnp.float32(np.eye(3)[[1, 1, 0, 1, 2, 2]] * 9))
    np.testing.assert_array_equal(best_path(repeated), [1, 1, 2, -1, -1, -1])


@pytest.mark.parametrize("lengths", [None, np.array([4, 2])])
def test_logits_divided_over_an_explicit_mesh(lengths):
    def all_of(logits, labels):
        def own(logits):
            return CTC(logits, lengths=lengths, num_labels=2)

        gradient = jax.grad(lambda logits: jnp.sum(own(logits).log_prob(labels)))(logits)
        return gradient, own(logits).best_path(), own(logits).sample(jax.random.key(0))

    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        logits = jax.device_put(LOGITS, jax.P("data"))
        out = jax.eval_shape(all_of, logits, np.array([[1, 2], [2, -1]]))
        assert {leaf.sharding.spec[0] for leaf in jax.tree.leaves(out)} == {"data"}


@pytest.mark.slow
def test_it_is_what_its_density_says():
    model = CTC(np.float32(LOGITS[:, :2]), lengths=np.array([2, 1]))
    assert lx.testing.check_distribution(model, key=jax.random.key(3)).ok


BAD = {
    "a blank that is none": (
        lambda: CTC(LOGITS, blank=3),
        r"blank is one of the 3 tokens 0..2.*3;",
    ),
    "a blank from the end": (lambda: CTC(LOGITS, blank=-1), "or blank=2 for the last"),
    "num_labels": (lambda: CTC(LOGITS, num_labels=0), r"num_labels=labels.shape\[-1\]"),
    "no frames": (lambda: CTC(np.zeros((0, 3))), "at least one frame"),
    "one axis": (lambda: CTC(np.zeros(3)), r"logits has shape \(..., num_frames, num_tokens\)"),
    "lengths": (
        lambda: CTC(LOGITS, lengths=np.array([1, 2, 3])),
        r"lengths of shape \(3,\) do not fit logits of shape \(2, 4, 3\).*shape \(2,\)",
    ),
    "lengths of fewer axes": (
        lambda: CTC(LOGITS[None], lengths=np.array([1, 2, 3])),
        r"lengths of shape \(3,\) do not fit logits of shape \(1, 2, 4, 3\).*shape \(1, 2\)",
    ),
    "labels": (
        lambda: CTC(LOGITS, num_labels=3).log_prob(np.zeros((2, 4), int)),
        r"event \(3,\), got \(2, 4\)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    make, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_types():
    with pytest.raises(TypeError, match=r"write value.astype\(int\)"):
        CTC(LOGITS).log_prob(np.ones(FRAMES))
    with pytest.raises(TypeError, match=r"write lengths.astype\(int\)"):
        CTC(LOGITS, lengths=np.array([1.0, 2.0]))
    with pytest.raises(TypeError, match="logits are real numbers"):
        CTC(LOGITS.astype(int))
    with lx.debug_checks(), pytest.raises(ValueError, match=r"0 to 4; at index \(0\) it is 5"):
        CTC(LOGITS, lengths=np.array([5, 4]))
