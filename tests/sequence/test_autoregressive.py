"""Autoregressive likelihoods against enumeration, step-by-step sums and one another."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import likelax as lx
from likelax.sequence.sampling import Truncation
from likelax.testing.subject import quick_jit
from nets import causal

KEY = jax.random.key(3)
V, T = 3, 4
ALL = np.array(list(itertools.product(range(V), repeat=T)), np.int32)


class Attention(nnx.Module):
    """One layer with Flax's own cache."""

    def __init__(self, out, *, rngs):
        self.embed = nnx.Embed(V + 1, 8, rngs=rngs)
        self.attend = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.last = nnx.Linear(8, out, kernel_init=nnx.initializers.normal(1.0), rngs=rngs)

    def __call__(self, previous):
        x = self.embed(previous)
        mask = None if self.attend.decode else nnx.make_causal_mask(previous)
        return self.last(x + self.attend(x, mask=mask))


def tokens_model(head=None, **kwargs):
    head = head or lx.Head(lx.Categorical, num_categories=V)
    net = causal(head.size, V, peek=kwargs.pop("peek", 0))
    model = lx.sequence.Autoregressive(net, head, **({"start": V} | kwargs))
    return model, init_params(model, lx.Batch(ALL))


def init_params(model, batch):
    """Parameters, by one compiled program: op by op takes longer."""
    return quick_jit(model.init)(KEY, batch).params


@functools.cache
def asked(model, method="__call__"):
    """A method, compiled once."""
    return quick_jit(getattr(model, method))


@pytest.fixture(scope="module")
def model():
    return tokens_model()


def by_hand(params, sequence):
    """log p(x_t | x_<t), one network call on a prefix at a time."""
    out = []
    for t in range(len(sequence)):
        # The mean is over the length that the model sees.
        padded = np.zeros((1, len(sequence)), np.int32)
        padded[0, : t + 1] = [V, *sequence[:t]]
        logits = np.asarray(run_causal(params["net"], padded))[0, t]
        out.append(logits[sequence[t]] - np.logaddexp.reduce(logits))
    return np.array(out)


run_causal = quick_jit(causal(V, V)[1])


# The sum over all sequences.


@pytest.mark.parametrize("peek", [0, 1])
def test_probabilities_of_all_sequences_sum_to_one(peek):
    model, params = tokens_model(peek=peek)
    log_prob = asked(model, "log_prob")(params, lx.Batch(ALL))
    total = np.exp(np.asarray(log_prob, np.float64)).sum()
    # The control: a network that sees what it predicts has no distribution.
    assert (abs(total - 1) < 1e-5) == (peek == 0)


def test_given_the_first_value_they_sum_to_one_for_each():
    model, params = tokens_model(start=None)
    p = np.exp(np.asarray(asked(model, "log_prob")(params, lx.Batch(ALL)), np.float64))
    for first in range(V):
        np.testing.assert_allclose(p[ALL[:, 0] == first].sum(), 1, rtol=1e-5)
    aux = asked(model)(params, KEY, lx.Batch(ALL))[1]
    assert aux.weight.shape == ALL.shape
    np.testing.assert_array_equal(aux.weight.sum(0), [0, 81, 81, 81])


def test_each_token_as_by_hand(model):
    model, params = model
    rows = ALL[[5, 40, 77]]
    want = np.stack([by_hand(params, row) for row in rows])
    got = asked(model, "token_log_prob")(params, lx.Batch(rows))
    np.testing.assert_allclose(got, want, rtol=1e-5)
    loss, aux = model(params, KEY, lx.Batch(rows))
    np.testing.assert_allclose(loss, -want.mean(), rtol=1e-5)
    assert aux.claim == lx.Claim("exact", True, lx.Measure("counting", 1))
    assert aux.per_example.shape == (3, T)


def test_vocabulary_head_agrees_with_logits():
    head = lx.LinearHead(V, features=5, bias=True)
    model, params = tokens_model(head)
    kernel, bias = params["head"]["kernel"], jnp.array([0.3, -0.2, 1.0])
    params["head"]["bias"] = bias
    raw = causal(5, V)[1](params["net"], jnp.pad(ALL[:7, :-1], ((0, 0), (1, 0)), constant_values=V))
    log_p = jax.nn.log_softmax(raw @ kernel + bias)
    want = np.take_along_axis(np.asarray(log_p), ALL[:7, :, None], -1)[..., 0]
    np.testing.assert_allclose(model.token_log_prob(params, lx.Batch(ALL[:7])), want, rtol=1e-5)


# Masks, weights, packing.


def test_what_is_masked_is_seen_but_not_scored(model):
    model, params = model
    rows = ALL[[5, 40, 77]]
    mask = lx.sequence.span_mask(T, start=np.array([1, 2, 0]), stop=np.array([4, 4, 2]))
    want = np.stack([by_hand(params, row) for row in rows])
    loss, _ = model(params, KEY, lx.Batch(rows, mask=mask))
    np.testing.assert_allclose(loss, -want[np.asarray(mask)].mean(), rtol=1e-5)
    changed = model(params, KEY, lx.Batch(rows.copy() * [[0, 1, 1, 1]], mask=mask))[0]
    assert abs(changed - loss) > 1e-3  # the prompt matters


@pytest.mark.parametrize("pad", [-100, V, 99])
def test_padding_may_hold_what_is_no_token(model, pad):
    model, params = model
    rows = ALL[[5, 40, 77]].copy()
    mask = np.asarray(lx.sequence.span_mask(T, stop=np.array([4, 2, 3])))
    value = jax.value_and_grad(lambda p, r: model(p, KEY, lx.Batch(r, mask=mask))[0])
    padded = np.where(mask, rows, pad).astype(np.int32)  # a constant: its values are looked at
    (want, want_grad), (got, got_grad) = quick_jit(lambda p: (value(p, rows), value(p, padded)))(
        params
    )
    np.testing.assert_allclose(got, want, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got_grad, want_grad)


@pytest.mark.parametrize("bad", [-100, V])
def test_a_prompt_of_no_tokens_is_refused(model, bad):
    model, params = model
    rows, mask = ALL[[5, 40, 77]].copy(), lx.sequence.span_mask(T, start=np.array([0, 2, 1]))
    rows[1, 1] = bad
    message = rf"index \(1, 1\) stands {bad}, none of the tokens 0\.\.2.*span_mask\(time, start="
    # The mask as weights, the objective's own mask of first values, and each way in.
    first = np.where(np.arange(T) == 0, bad, ALL[:2])
    given = tokens_model(start=None)[0]
    calls = [
        lambda: model(params, KEY, lx.Batch(rows, mask=mask)),
        lambda: model.init(KEY, lx.Batch(rows, weight=np.asarray(mask, float))),
        lambda: model.token_log_prob(params, lx.Batch(rows, mask=mask)),
        lambda: jax.jit(lambda p: model(p, KEY, lx.Batch(rows, mask=mask)))(params),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match=rf"index \(0, 0\) stands {bad}"):
        given(params, KEY, lx.Batch(first))
    # What is traced has no values to look at, but on request.
    step = jax.jit(lambda rows: model(params, KEY, lx.Batch(rows, mask=mask))[0])
    assert step(rows) == step(np.where(rows == bad, 0, rows))  # read as token 0
    with pytest.raises(jax.errors.JaxRuntimeError, match=message):
        with lx.debug_checks():
            step(rows)


def test_what_is_no_token_may_end_a_document():
    model, params = tokens_model(start=V)
    segments = np.array([[1, 1, 1, 2, 2, 0]])
    tokens = np.array([[0, 2, -100, 1, -100, -100]])
    mask = np.array([[True, True, False, True, False, False]])
    packed = lx.sequence.Packed(tokens, segments)
    good = lx.Batch(lx.sequence.Packed(np.maximum(tokens, 0), segments), mask=mask)
    assert model(params, KEY, lx.Batch(packed, mask=mask))[0] == model(params, KEY, good)[0]
    one = lx.sequence.Packed(tokens, np.minimum(segments, 1))  # the same in one document
    with pytest.raises(ValueError, match=r"index \(0, 2\) stands -100"):
        model(params, KEY, lx.Batch(one, mask=mask))


def test_checks_name_the_token_and_not_what_the_network_makes_of_it():
    head = lx.LinearHead(V, features=8)
    model = lx.sequence.Autoregressive(Attention(8, rngs=nnx.Rngs(0)), head, start=None)
    params, rows = init_params(model, lx.Batch(ALL[:2])), ALL[[5, 40]].copy()
    rows[1, 2] = 9
    assert np.isnan(asked(model)(params, KEY, lx.Batch(rows))[0])  # no row of the embedding
    with lx.debug_checks(), pytest.raises(ValueError, match=r"\(1, 2\) the target is 9, none of"):
        model(params, KEY, lx.Batch(rows))
    masked = lx.sequence.AnyOrder(Attention(8, rngs=nnx.Rngs(0)), head, mask_token=V)
    with lx.debug_checks(), pytest.raises(ValueError, match=r"AnyOrder: at index \(1, 2\).*is 9"):
        masked(params, KEY, lx.Batch(rows))


@pytest.mark.parametrize("start", [V, None])
def test_packed_documents_are_scored_as_if_alone(start):
    model, params = tokens_model(start=start)
    documents = [np.array(d) for d in ([0, 2, 1], [1, 1], [2, 0, 0, 1, 2], [2])]
    batch = lx.sequence.pack(documents, 6)
    assert batch.target.tokens.shape == (2, 6)
    # The mean over positions is of a row's length: alone, a document is padded to that.
    rows = np.stack([np.pad(document, (0, 6 - len(document))) for document in documents])
    mask = lx.sequence.span_mask(6, stop=np.array([len(document) for document in documents]))
    want = np.sum(asked(model, "log_prob")(params, lx.Batch(rows, mask=mask)))
    got = np.asarray(asked(model, "log_prob")(params, batch))
    np.testing.assert_allclose(got.sum(), want, rtol=1e-5)
    # The control: one document of the same tokens is another thing.
    merged = lx.sequence.Packed(batch.target.tokens, np.minimum(batch.target.segments, 1))
    merged = asked(model, "log_prob")(params, lx.Batch(merged))
    assert abs(np.sum(merged) - want) > 1e-2


def test_positions_restart_with_each_document():
    from likelax.sequence.packing import positions_of

    segments = jnp.array([[1, 1, 2, 2, 2, 0], [1, 2, 3, 3, 0, 0]])
    want = [[0, 1, 0, 1, 2, 0], [0, 0, 0, 1, 0, 1]]
    np.testing.assert_array_equal(positions_of(segments), want)


def test_a_network_without_segments_refuses_packed_documents():
    head = lx.Head(lx.Categorical, num_categories=V)
    model = lx.sequence.Autoregressive(Attention(V, rngs=nnx.Rngs(0)), head, start=V)
    with pytest.raises(TypeError, match="segments=None"):
        model.init(KEY, lx.sequence.pack([ALL[0]], T))


@pytest.mark.parametrize(
    ("size", "length", "stride"), [(23, 8, 3), (23, 8, 8), (5, 8, 4), (16, 8, 4)]
)
def test_windows_score_each_value_once(size, length, stride):
    text = np.arange(1, size + 1)
    batches = list(lx.sequence.windows(text, length, stride, batch_size=2))
    assert len(batches) == len(lx.sequence.windows(text, length, stride, batch_size=2))
    scored = np.concatenate([b.target[b.mask] for b in batches])
    np.testing.assert_array_equal(scored, text)
    for number, (row, mask) in enumerate(
        (r, m) for b in batches for r, m in zip(b.target, b.mask, strict=True) if m.any()
    ):
        if number:
            assert np.argmax(mask) >= length - stride
            np.testing.assert_array_equal(np.diff(row), 1)


def test_windows_of_full_context_give_the_exact_likelihood():
    model, params = tokens_model(start=None)
    text = np.array([0, 2, 1, 1, 0, 2, 2, 1, 0])
    batches = lx.sequence.windows(text, T, 1, batch_size=4)
    got = lx.evaluate(model, params, KEY, batches)
    rows = np.stack([text[i : i + T] for i in range(len(text) - T + 1)])
    each = np.asarray(asked(model, "token_log_prob")(params, lx.Batch(rows)))
    want = [*each[0, 1:3], *each[:, -1]]
    np.testing.assert_allclose(got.loss * got.weight.sum(), -np.sum(want), rtol=1e-5)
    assert got.weight.sum() == len(text) - 1


# Named terms and units.


@pytest.mark.parametrize("kind", ["logits", "linear"])
def test_smoothing_and_z_loss_are_named_terms(kind):
    head = lx.LinearHead(V, 5) if kind == "linear" else lx.Head(lx.Categorical, num_categories=V)
    model, params = tokens_model(head, label_smoothing=0.1, z_loss=0.01)
    batch = lx.Batch(ALL[:9])

    @quick_jit
    def ask(params):
        raw = causal(head.size, V)[1](params["net"], model._previous(jnp.asarray(ALL[:9])))
        return raw, model(params, KEY, batch)

    raw, (loss, aux) = ask(params)
    logits = np.asarray(raw if kind == "logits" else raw @ params["head"]["kernel"], np.float64)
    log_z = np.log(np.exp(logits).sum(-1))
    log_p = logits - log_z[..., None]
    nll = -np.take_along_axis(log_p, ALL[:9, :, None], -1)[..., 0]
    soft = 0.9 * np.eye(V)[ALL[:9]] + 0.1 / V
    np.testing.assert_allclose(aux.terms["nll"], nll.mean(), rtol=1e-5)
    np.testing.assert_allclose(aux.terms["z_loss"], 0.01 * (log_z**2).mean(), rtol=1e-5)
    want = -(soft * log_p).sum(-1).mean() + 0.01 * (log_z**2).mean()
    np.testing.assert_allclose(loss, want, rtol=1e-5)
    np.testing.assert_allclose(sum(aux.terms.values()), loss, rtol=1e-5)
    assert aux.claim.relation == "none"
    with pytest.raises(ValueError, match="no likelihood"):
        lx.perplexity(aux)


def test_bits_per_byte_count_bytes_not_tokens():
    sizes = np.array([1, 2, 5])
    model, params = tokens_model(token_bytes=sizes)
    rows, mask = ALL[10:30], np.arange(80).reshape(20, 4) % 7 > 0
    result = lx.evaluate(model, params, KEY, lx.Batch(rows, mask=mask))
    nats = -np.asarray(asked(model, "token_log_prob")(params, lx.Batch(rows)), np.float64)
    nats, count = (nats * mask).sum(1), (sizes[rows] * mask).sum(1)
    bits = lx.bits_per_byte(result)
    np.testing.assert_allclose(bits, nats.sum() / count.sum() / np.log(2), rtol=1e-5)
    residual = nats - nats.sum() / count.sum() * count
    error = np.sqrt((residual**2).sum() * 20 / 19) / count.sum() / np.log(2)
    np.testing.assert_allclose(bits.standard_error, error, rtol=1e-4)
    per_token = lx.bits_per_dim(result)
    np.testing.assert_allclose(per_token, nats.sum() / mask.sum() / np.log(2), rtol=1e-5)
    perplexity = lx.perplexity(result)
    np.testing.assert_allclose(perplexity, 2**per_token, rtol=1e-5)
    slope = perplexity * np.log(2) * per_token.standard_error
    np.testing.assert_allclose(perplexity.standard_error, slope, rtol=1e-6)
    assert str(bits) == f"{bits:.4f} ± {bits.standard_error:.4f} bits per byte (exact)"
    aux = asked(model)(params, KEY, lx.Batch(rows, mask=mask))[1]
    np.testing.assert_allclose(lx.bits_per_byte(aux), bits, rtol=1e-5)


def test_bits_per_byte_refuse_what_they_do_not_know(model):
    model, params = model
    with pytest.raises(ValueError, match="token_bytes=1"):
        lx.bits_per_byte(lx.evaluate(model, params, KEY, lx.Batch(ALL[:4])))


# Values that are no tokens, and inputs.


def real(out):
    def init(key, previous, *_):
        return {"w": 0.5 * jax.random.normal(key, (2, out))}

    def apply(params, previous):
        past = jnp.cumsum(previous, axis=1) / jnp.arange(1, previous.shape[1] + 1)
        return jnp.stack([previous, past], -1) @ params["w"]

    return init, apply


def test_a_linear_gaussian_series_has_its_normal_density():
    head = lx.Head(lx.Normal, scale=0.7)
    net = (lambda key, x: {"a": jnp.array(0.6)}, lambda p, x: p["a"] * x[..., None])
    model = lx.sequence.Autoregressive(net, head, start=0.0)
    series = np.array([[0.4, -1.0, 0.3, 2.0], [1.5, 0.1, -0.2, -0.9]], np.float32)
    params = model.init(KEY, lx.Batch(series)).params
    # x = 0.6 shift(x) + 0.7 e: a Normal of covariance 0.49 (A'A)^-1.
    a = np.eye(4) - 0.6 * np.eye(4, k=-1)
    precision = a.T @ a / 0.49
    quad = np.einsum("bi,ij,bj->b", series, precision, series)
    want = -0.5 * quad + 0.5 * np.linalg.slogdet(precision)[1] - 2 * np.log(2 * np.pi)
    # A missing value is neither scored nor seen as NaN.
    gap = np.where([[False, True, False, False]], np.nan, series).astype(np.float32)
    mask = np.array([[True, False, True, True]] * 2)

    @quick_jit
    def ask(params):
        cost = jax.value_and_grad(lambda p: model(p, KEY, lx.Batch(gap, mask=mask))[0])
        return model.log_prob(params, lx.Batch(series)), cost(params)

    got, (value, grad) = ask(params)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert np.isfinite(value) and np.isfinite(grad["net"]["a"])


def test_samples_of_a_series_have_its_moments():
    head = lx.Head(lx.Normal, scale=0.7)
    net = (lambda key, x: {"a": jnp.array(0.6)}, lambda p, x: p["a"] * x[..., None])
    model = lx.sequence.Autoregressive(net, head, start=0.0)
    params = {"net": {"a": jnp.array(0.6)}, "head": {}}
    x = np.asarray(model.sample(params, KEY, (4000,), length=3, prompt=jnp.array([2.0])))
    want = 2 * 0.6 ** np.arange(1, 4)
    variance = 0.49 * np.cumsum(0.36 ** np.arange(3))
    assert x.shape == (4000, 3)
    np.testing.assert_array_less(abs(x.mean(0) - want), 4 * np.sqrt(variance / 4000))
    np.testing.assert_array_less(abs(x.var(0) - variance), 4 * variance * np.sqrt(2 / 4000))


def test_an_input_reaches_the_network(model):
    model, params = model
    rows, given = ALL[[3, 50]], np.array([[1.0, 0, 0, -1], [0, 2, 0, 0]], np.float32)
    log_prob = asked(model, "token_log_prob")
    got, plain = (np.asarray(log_prob(params, lx.Batch(rows, x))) for x in (given, None))
    assert np.all(np.abs(got - plain) > 1e-4)
    moved = log_prob(params, lx.Batch(rows[::-1], given[::-1]))
    np.testing.assert_allclose(moved[::-1], got, rtol=1e-5)
    draws = model.sample(params, KEY, (2,), length=3, input=given)
    assert draws.shape == (2, 3)


# Samples.


def test_samples_have_the_models_probabilities(model):
    model, params = model
    draws = np.asarray(model.sample(params, KEY, (50, 120), length=T))
    assert draws.shape == (50, 120, T) and draws.dtype == np.int32
    p = np.exp(np.asarray(asked(model, "log_prob")(params, lx.Batch(ALL)), np.float64))
    code = draws.reshape(-1, T) @ (V ** np.arange(T)[::-1])
    found = np.bincount(code, minlength=V**T) / 6000
    np.testing.assert_array_less(abs(found - p), 4 * np.sqrt(p * (1 - p) / 6000) + 1e-3)


@pytest.mark.parametrize("start", [V, None])
def test_a_cache_gives_the_same_tokens(start):
    head = lx.Head(lx.Categorical, num_categories=V)
    net = Attention(V, rngs=nnx.Rngs(0))
    model = lx.sequence.Autoregressive(net, head, start=start)
    params = init_params(model, lx.Batch(ALL))

    def draw(**options):
        prompt = np.array([1, 0, 2])
        return np.asarray(model.sample(params, KEY, (5,), length=9, prompt=prompt, **options))

    plain = draw(cache=False)
    np.testing.assert_array_equal(draw(cache=True), plain)
    np.testing.assert_array_equal(draw(), plain)
    assert len(np.unique(plain)) == V and not net.attend.decode
    # One step of the cache against a whole run: their outputs agree, and depend on the past.
    whole = np.asarray(asked(model, "token_log_prob")(params, lx.Batch(plain)))
    assert np.ptp(whole[:, 1:][plain[:, 1:] == 1]) > 1e-3


class Placed(nnx.Module):
    """Attention with learned positions, which a network that is given one input cannot count itself."""

    def __init__(self, *, told, rngs):
        self.embed = nnx.Embed(V + 1, 8, rngs=rngs)
        self.place = nnx.Embed(16, 8, embedding_init=nnx.initializers.normal(1.0), rngs=rngs)
        self.attend = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.last = nnx.Linear(8, V, kernel_init=nnx.initializers.normal(1.0), rngs=rngs)
        self.told = told

    def __call__(self, previous, positions=None):
        if positions is None or not self.told:
            positions = jnp.arange(previous.shape[1])
        x = self.embed(previous) + self.place(positions)
        mask = None if self.attend.decode else nnx.make_causal_mask(previous)
        return self.last(x + self.attend(x, mask=mask))


@pytest.mark.parametrize("told", [True, False])
def test_a_cache_is_used_where_positions_go_on(told):
    head = lx.Head(lx.Categorical, num_categories=V)
    net = Placed(told=told, rngs=nnx.Rngs(0))
    model = lx.sequence.Autoregressive(net, head, start=V)
    params = init_params(model, lx.Batch(ALL))
    plain = np.asarray(model.sample(params, KEY, (4,), length=8, cache=False))
    np.testing.assert_array_equal(model.sample(params, KEY, (4,), length=8), plain)
    if told:
        np.testing.assert_array_equal(model.sample(params, KEY, (4,), length=8, cache=True), plain)
    else:
        with pytest.raises(ValueError, match="with its cache this network gives other outputs"):
            model.sample(params, KEY, (4,), length=8, cache=True)
        # The control: asked for where nobody can look, the cache does give other tokens.
        draw = jax.jit(lambda params: model.sample(params, KEY, (4,), length=8, cache=True))
        assert np.any(np.asarray(draw(params)) != plain)


@pytest.mark.parametrize("told", [True, False])  # with its cache, and without
def test_what_is_drawn_from_nan_is_no_token(told):
    head = lx.Head(lx.Categorical, num_categories=V)
    net = Placed(told=told, rngs=nnx.Rngs(0))  # a table of 16 positions
    model = lx.sequence.Autoregressive(net, head, start=V)
    params, prompt = init_params(model, lx.Batch(ALL)), np.array([1, 0])

    def draw(params, length):
        return model.sample(params, KEY, (3,), length=length, prompt=prompt)

    assert np.all(np.asarray(draw(params, 14)) >= 0)
    # Masked attention multiplies NaN by 0: without a cache the first step has it already.
    step = 14 if told else 0
    message = rf"NaN at step {step}, position {step + 2} of a sequence of 20"
    with pytest.raises(FloatingPointError, match=message):
        draw(params, 18)
    drawn = np.asarray(
        jax.jit(lambda p: model.sample(p, KEY, (3,), length=18, prompt=prompt, cache=told))(params)
    )
    assert np.all(drawn[:, step:] == -1) and np.all(drawn[:, :step] >= 0)


def test_parameters_of_a_head_that_are_nan_draw_no_token():
    model, params = tokens_model(lx.LinearHead(V, features=5))
    spoilt = params | {"head": {"kernel": params["head"]["kernel"].at[2, 1].set(jnp.nan)}}
    with pytest.raises(FloatingPointError, match="NaN at step 0, position 0 of a sequence of 3"):
        model.sample(spoilt, KEY, (2,), length=3)
    assert np.all(np.asarray(model.sample(params, KEY, (2,), length=3)) >= 0)  # the control


@pytest.mark.parametrize("given", [{"param_dtype": jnp.bfloat16}, {"dtype": jnp.bfloat16}])
def test_a_cache_of_a_narrow_network(given):
    class Narrow(Attention):
        def __init__(self, *, rngs):
            super().__init__(V, rngs=rngs)
            self.embed = nnx.Embed(V + 1, 8, **given, rngs=rngs)
            self.attend = nnx.MultiHeadAttention(2, 8, decode=False, **given, rngs=rngs)

    head = lx.Head(lx.Categorical, num_categories=V)
    model = lx.sequence.Autoregressive(Narrow(rngs=nnx.Rngs(0)), head, start=V)
    params = init_params(model, lx.Batch(ALL))
    draws = model.sample(params, KEY, (3,), length=5, temperature=0.0, cache=True)
    np.testing.assert_array_equal(
        draws, model.sample(params, KEY, (3,), length=5, temperature=0.0, cache=False)
    )


def test_values_have_the_dtype_that_the_head_draws():
    series = lx.sequence.Autoregressive(real(2), lx.Head(lx.Normal), start=0)
    params = series.init(KEY, lx.Batch(np.zeros((2, 3), np.float32))).params
    draws = np.asarray(series.sample(params, KEY, (3,), length=4))
    assert draws.dtype == np.float32 and np.all(draws != np.round(draws))
    same = lx.sequence.Autoregressive(real(2), lx.Head(lx.Normal), start=0.0)
    np.testing.assert_array_equal(same.sample(params, KEY, (3,), length=4), draws)
    whole = same.sample(params, KEY, (3,), length=4, prompt=np.array([1, 2]))
    floats = same.sample(params, KEY, (3,), length=4, prompt=np.array([1.0, 2.0]))
    np.testing.assert_array_equal(whole, floats)
    # A start that is no whole number, before values that are: the network sees it as it is.
    half = lx.sequence.Autoregressive(real(2), lx.Head(lx.Normal), start=0.5)
    np.testing.assert_array_equal(half._previous(half._parts(ALL[:1])[0])[0, 0], 0.5)


def test_an_input_of_many_axes_goes_with_its_sequence(model):
    model, params = model
    given = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 8
    draws = model.sample(params, KEY, (2, 3), length=3, temperature=0.0, input=given)
    flat = model.sample(params, KEY, 6, length=3, temperature=0.0, input=given.reshape(6, 4))
    np.testing.assert_array_equal(draws, flat.reshape(2, 3, 3))
    with pytest.raises(ValueError, match=r"input has shape \(\*shape, \.\.\.\)"):
        model.sample(params, KEY, (2, 3), length=3, input=given.reshape(6, 4))


def test_narrow_tokens_can_be_next_to_a_wide_start():
    head = lx.Head(lx.Categorical, num_categories=256)
    model = lx.sequence.Autoregressive(causal(256, 256), head, start=256)
    rows = np.array([[1, 255, 7], [0, 3, 9]], np.uint8)
    params = init_params(model, lx.Batch(rows))
    both = [rows, rows.astype(np.int32)]
    log_probs = quick_jit(lambda p: [model.token_log_prob(p, lx.Batch(rows)) for rows in both])
    np.testing.assert_array_equal(*log_probs(params))


@pytest.mark.parametrize("extra", [{"label_smoothing": 0.1}, {"z_loss": 1e-3}, {}])
def test_what_is_masked_leaves_the_vocabulary_alone(extra):
    head = lx.LinearHead(V, features=4)

    def net(params, previous):  # the logarithm of a negative number at token 2
        return jnp.log(2.0 - previous)[..., None] * params["w"]

    model = lx.sequence.Autoregressive(
        (lambda key, x: {"w": jnp.ones(4)}, net), head, start=0, **extra
    )
    rows = np.array([[1, 1, 0], [2, 1, 1]], np.int32)
    batch = lx.Batch(rows, mask=np.array([[True] * 3, [True, False, False]]))
    params = init_params(model, batch)

    @quick_jit
    def slopes(params):
        grad = jax.grad(lambda params, batch: model(params, KEY, batch)[0])
        return [grad(params, given)["head"] for given in (batch, lx.Batch(rows))]

    masked, scored = slopes(params)
    for slope in jax.tree.leaves(masked):
        assert np.all(np.isfinite(slope)) and np.any(slope != 0)
    bare = scored["kernel"]
    assert not np.all(np.isfinite(bare))  # the control: it is not finite where it is scored


def test_a_network_without_a_cache_says_so(model):
    model, params = model
    with pytest.raises(ValueError, match="init_cache"):
        model.sample(params, KEY, (2,), length=3, cache=True)


def test_drawing_stops_and_streams(model):
    model, params = model
    seen = []
    draws = np.asarray(
        model.sample(
            params, KEY, (3,), length=30, stop=1, callback=lambda x: seen.append(np.array(x))
        )
    )
    jax.effects_barrier()
    for row in draws:
        end = np.argmax(row == 1)
        assert row[end] == 1 and np.all(row[end:] == 1)
    longest = max(int(np.argmax(row == 1)) for row in draws)
    np.testing.assert_array_equal(np.stack(seen, 1), draws[:, : longest + 1])


def test_truncation_by_hand():
    p = np.array([0.5, 0.25, 0.15, 0.1])
    logits = np.log(p).astype(np.float32)

    def of(**options):
        shares = np.exp(np.asarray(quick_jit(Truncation(**options).apply)(logits)))
        return shares / shares.sum()

    np.testing.assert_allclose(of(temperature=0.5), p**2 / (p**2).sum(), rtol=1e-5)
    np.testing.assert_allclose(of(top_k=2), [2 / 3, 1 / 3, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(of(top_p=0.7), [2 / 3, 1 / 3, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(of(top_p=0.45), [1, 0, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(of(min_p=0.3), [5 / 9, 2.5 / 9, 1.5 / 9, 0], rtol=1e-5)
    # Equal ones: as few as make up top_p.
    even = Truncation(top_p=0.5).apply(jnp.zeros(10))
    assert np.sum(np.isfinite(even)) == 5
    cold = Truncation(temperature=1e-37).apply(jnp.array([3.0, -jnp.inf, 200.0]))
    np.testing.assert_array_equal(cold, [-np.inf, -np.inf, 0])
    assert not Truncation.checked(1.0, None, 1.0, None)  # nothing is left out
    assert Truncation.checked(1e-40, None, None, None) == Truncation(top_k=1)  # 0 in float32


def test_temperature_zero_is_greedy_for_either_head():
    for head in (lx.LinearHead(V, 5), lx.Head(lx.Categorical, num_categories=V)):
        model, params = tokens_model(head)
        greedy = np.asarray(model.sample(params, KEY, (2,), length=T, temperature=0.0))
        np.testing.assert_array_equal(greedy[0], greedy[1])
        rows = [np.where(np.arange(T) == t, v, greedy[0]) for t in range(T) for v in range(V)]
        log_p = np.asarray(asked(model, "token_log_prob")(params, lx.Batch(np.stack(rows))))
        best = log_p.reshape(T, V, T)[np.arange(T), :, np.arange(T)].argmax(1)
        np.testing.assert_array_equal(greedy[0], best)


def test_one_compilation_serves_all_temperatures(model):
    from likelax.sequence import sampling

    model, params = model
    before = sampling._continued._cache_size()
    for temperature in (0.5, 0.9, 1.3):
        model.sample(params, KEY, (2,), length=2, temperature=temperature, top_p=0.9)
    assert sampling._continued._cache_size() == before + 1


BAD = {
    "prompt of numbers": (
        lambda m, p: m.sample(p, KEY, length=1, prompt=np.ones(2)),
        TypeError,
        r"prompt.astype\(int\)",
    ),
    "prompt of no tokens": (
        lambda m, p: m.sample(p, KEY, length=1, prompt=np.array([1, 99])),
        ValueError,
        r"tokens 0\.\.2, got values from 1 to 99",
    ),
    "stop": (lambda m, p: m.sample(p, KEY, length=1, stop=V), ValueError, "stop is one of the 3"),
    "endless": (
        lambda m, p: m.sample(p, KEY, length=1, temperature=np.inf),
        ValueError,
        "temperature is finite",
    ),
    "truth": (lambda m, p: m.sample(p, KEY, length=1, top_k=True), ValueError, "top_k is a pos"),
    "rank": (lambda m, p: m(p, KEY, lx.Batch(ALL[0])), ValueError, r"target\[None\]"),
    "length": (lambda m, p: m.sample(p, KEY, length=0), ValueError, "length is at least 1"),
    "top_p": (lambda m, p: m.sample(p, KEY, length=1, top_p=1.5), ValueError, "top_p is in"),
    "too many": (
        lambda m, p: m.sample(p, KEY, length=1, top_k=V + 1),
        ValueError,
        "top_k is at most the number of tokens, 3, got 4",
    ),
    "real tokens": (
        lambda m, p: m(p, KEY, lx.Batch(1.0 * ALL)),
        TypeError,
        r"tokens are whole numbers, got float.* of shape \(81, 4\); write target\.astype\(int\)",
    ),
    "top_k": (lambda m, p: m.sample(p, KEY, length=1, top_k=0), ValueError, "top_k is a positive"),
    "hot": (lambda m, p: m.sample(p, KEY, length=1, temperature=-1), ValueError, "temperature"),
    "prompt": (
        lambda m, p: m.sample(p, KEY, (2,), length=1, prompt=ALL[:3]),
        ValueError,
        r"got \(3, 4\)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(model, name):
    call, error, message = BAD[name]
    with pytest.raises(error, match=message):
        call(*model)


def test_more_bad_input():
    head = lx.Head(lx.Categorical, num_categories=V)
    make = functools.partial(lx.sequence.Autoregressive, causal(V, V), head)
    with pytest.raises(ValueError, match="label_smoothing is in"):
        make(start=0, label_smoothing=2.0)
    with pytest.raises(ValueError, match="z_loss"):
        make(start=0, z_loss=-1.0)
    for extra in ({"label_smoothing": 0.1}, {"z_loss": 0.1}):
        with pytest.raises(TypeError, match=r"a head of tokens wanted.*got Head\(Normal\)"):
            lx.sequence.Autoregressive(real(2), lx.Head(lx.Normal), start=0.0, **extra)
    model, params = tokens_model(start=None)
    with pytest.raises(ValueError, match="pass prompt="):
        model.sample(params, KEY, length=2)
    series = lx.sequence.Autoregressive(real(2), lx.Head(lx.Normal), start=0.0)
    own = series.init(KEY, lx.Batch(np.zeros((2, 3), np.float32))).params
    with pytest.raises(TypeError, match="are for tokens"):
        series.sample(own, KEY, length=2, top_k=2)
    with pytest.raises(ValueError, match="stride"):
        lx.sequence.windows(np.arange(9), 4, 5, batch_size=1)
    with pytest.raises(ValueError, match="nothing to pack"):
        lx.sequence.pack([], 4)
    with pytest.raises(ValueError, match=r"has shape \(\); write pack\(\[document\], length\)"):
        lx.sequence.pack(np.arange(5), 4)
    with pytest.raises(ValueError, match=r"number 1 has shape \(2, 3\); write pack\(list\(docum"):
        lx.sequence.pack([np.arange(3), np.zeros((2, 3), int)], 4)
    with pytest.raises(TypeError, match="number 0 is float64"):
        lx.sequence.pack([np.array([0.5, 1.5])], 4)
    with pytest.raises(ValueError, match=r"one for each of the 3 tokens; got shape \(2,\)"):
        make(start=0, token_bytes=np.array([1, 2]))
    with pytest.raises(ValueError, match="finite, and not negative"):
        make(start=0, token_bytes=np.array([1, 2, -1]))
    model, params = tokens_model()
    wrong = lx.sequence.Packed(ALL[:2], np.ones((2, T)))
    with pytest.raises(ValueError, match="segments are whole numbers of the shape"):
        model(params, KEY, lx.Batch(wrong))


@pytest.mark.parametrize("peek", [0, 1, 2])
def test_a_network_that_sees_ahead_is_found(peek):
    model, params = tokens_model(peek=peek)
    batch = lx.Batch(ALL[[5, 40, 77]])
    if peek:
        with pytest.raises(AssertionError, match="sees ahead: outputs up to position"):
            lx.testing.check_causal(model, params, batch)
    else:
        lx.testing.check_causal(model, params, batch)
        with pytest.raises(ValueError, match="at least two"):
            lx.testing.check_causal(model, params, lx.Batch(ALL[:1]))
        with pytest.raises(ValueError, match="these are equal"):
            lx.testing.check_causal(model, params, lx.Batch(ALL[[5, 5]]))


def looking(kind):
    """Networks whose outputs depend on what they must not see, in ways that are easy to overlook."""

    def apply(params, x, segments=None):
        y = params["w"][x]
        ahead = jnp.roll(y, -1, axis=1)
        if kind == "beside an impossible token":
            return (y + 3 * ahead).at[..., 0].set(-jnp.inf)
        if kind == "beside large logits":
            return (y + 0.05 * ahead) * jnp.array([1, 1000.0, 1])
        if kind == "other rows":
            return y + jnp.mean(y, axis=(0, 1))
        if kind == "other documents":
            return y + jnp.cumsum(y, axis=1)
        return y * jnp.nan

    return (lambda key, *x: {"w": jax.random.normal(key, (V + 1, V))}), apply


LOOKING = {
    "beside an impossible token": (AssertionError, "sees ahead"),
    "beside large logits": (AssertionError, "sees ahead"),
    "other rows": (AssertionError, "mixes sequences|sees ahead"),
    "other documents": (AssertionError, "packed documents see one another: outputs of document 2"),
    "nothing": (ValueError, "output is NaN"),
}


@pytest.mark.parametrize("kind", LOOKING)
def test_what_is_easy_to_overlook_is_found(kind):
    error, message = LOOKING[kind]
    head = lx.Head(lx.Categorical, num_categories=V)
    model = lx.sequence.Autoregressive(looking(kind), head, start=V)
    target = ALL[[5, 40, 77]]
    if kind == "other documents":
        target = lx.sequence.Packed(target, np.array([[1, 1, 2, 2]] * 3))
    params = init_params(model, lx.Batch(target))
    with pytest.raises(error, match=message):
        lx.testing.check_causal(model, params, lx.Batch(target))
    if kind == "other documents":  # the control: each document by itself
        good = lx.sequence.Autoregressive(causal(V, V), head, start=V)
        params = good.init(KEY, lx.Batch(target)).params
        lx.testing.check_causal(good, params, lx.Batch(target))


def test_the_number_of_a_document_does_not_matter(model):
    model, params = tokens_model(start=None)
    rows = ALL[[5, 40]]
    losses = [
        model(params, KEY, lx.Batch(lx.sequence.Packed(rows, np.full((2, T), number))))[1]
        for number in (7, -1)
    ]
    np.testing.assert_array_equal(losses[0].weight, losses[1].weight)
    np.testing.assert_array_equal(losses[0].per_example, losses[1].per_example)


def test_rows_are_filled_by_the_documents_that_fit():
    sizes = [5, 3, 4, 2, 6, 1, 9]
    documents = [np.full(n, i) for i, n in enumerate(sizes)]
    packed = lx.sequence.pack(documents, 7).target
    tokens, segments = np.asarray(packed.tokens), np.asarray(packed.segments)
    for i, n in enumerate(sizes):
        assert np.sum((tokens == i) & (segments > 0)) == n
    pieces = {(r, s) for r, row in enumerate(segments) for s in row if s}
    assert len(pieces) == 8  # the one of nine is two
    for r, s in pieces:
        own = tokens[r][segments[r] == s]
        assert len(set(own)) == 1 and len(own) <= 7
    assert len(tokens) == 5  # 30 tokens: as few rows of seven as hold them
