"""Hidden tokens: the any-order bound against all orders, enumerated."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import likelax as lx

KEY = jax.random.key(5)
V, T = 3, 3


def both_ways(key, tokens):
    a, b = jax.random.split(key)
    embed = 1.5 * jax.random.normal(a, (T, V + 1, 4))
    return {"embed": embed, "out": jax.random.normal(b, (T, 4, V))}


def apply(params, tokens):
    x = params["embed"][jnp.arange(T), tokens]
    return jnp.einsum("bf,tfv->btv", jnp.tanh(x.sum(1)), params["out"])


NET = both_ways, apply
HEAD = lx.Head(lx.Categorical, num_categories=V)
PARAMS = {"net": both_ways(jax.random.key(1), None), "head": {}}
ROW = np.array([2, 0, 1])


def mean_over_orders(params, row, positions):
    """The exact NLL of `positions` in each order of them, and the log of the mean probability."""
    each = []
    for order in itertools.permutations(positions):
        seen, total = np.array(row), 0.0
        seen[list(positions)] = V
        for t in order:
            log_p = jax.nn.log_softmax(apply(params["net"], seen[None])[0, t])
            total -= float(log_p[row[t]])
            seen[t] = row[t]
        each.append(total)
    return np.mean(each), -np.log(np.mean(np.exp(-np.array(each))))


@pytest.mark.parametrize("positions", [(0, 1, 2), (0, 2)])
def test_the_bound_is_the_mean_over_orders(positions):
    model = lx.sequence.AnyOrder(NET, HEAD, mask_token=V)
    rows, mask = np.tile(ROW, (4000, 1)), np.zeros((4000, T), bool)
    mask[:, positions] = True
    aux = model(PARAMS, KEY, lx.Batch(rows, mask=mask))[1]
    totals = np.asarray(aux.per_example, np.float64).sum(1)
    error = totals.std() / np.sqrt(4000)
    mean, exact = mean_over_orders(PARAMS, ROW, positions)
    assert abs(totals.mean() - mean) < 4 * error < 0.3
    assert mean > exact + 0.01  # a bound, and not a tight one here
    assert aux.claim.relation == "upper"
    # The control: without the factor D / k, as for a loss that is a plain sum.
    hidden = (np.asarray(aux.per_example) > 0).sum(1)
    assert abs((totals * hidden / len(positions)).mean() - mean) > 4 * error


def test_rows_do_not_depend_on_the_batch():
    model = lx.sequence.AnyOrder(NET, HEAD, mask_token=V)
    rows = np.tile(ROW, (6, 1))
    few, many = (model(PARAMS, KEY, lx.Batch(rows[:n]))[1].per_example for n in (2, 6))
    np.testing.assert_allclose(few, many[:2], rtol=1e-6)


def test_masked_tokens_cost_what_they_cost_given_the_others():
    model = lx.sequence.MaskedToken(NET, HEAD, mask_token=V, rate=0.4, replace=(1.0, 0.0))
    rows = np.tile(ROW, (4000, 1))
    aux = model(PARAMS, KEY, lx.Batch(rows))[1]
    want = np.zeros(T)
    for hidden in itertools.product([False, True], repeat=T):
        seen = np.where(hidden, V, ROW)
        log_p = jax.nn.log_softmax(apply(PARAMS["net"], seen[None])[0])
        p = np.prod(np.where(hidden, 0.4, 0.6))
        want += p * np.where(hidden, -np.asarray(log_p)[np.arange(T), ROW], 0) / 0.4
    got = np.asarray(aux.per_example, np.float64)
    np.testing.assert_array_less(abs(got.mean(0) - want), 4 * got.std(0) / np.sqrt(4000))
    assert aux.claim.relation == "none"


def test_swapped_tokens_are_tokens():
    # A network that repeats what it sees: it is right where the swap made no difference.
    net = lambda key, tokens: {}, lambda params, tokens: 20.0 * jax.nn.one_hot(tokens, V)
    model = lx.sequence.MaskedToken(net, HEAD, mask_token=V, rate=1.0, replace=(0.0, 1.0))
    cost = model({"net": {}, "head": {}}, KEY, lx.Batch(np.tile(ROW, (300, 1))))[1].per_example
    same = np.mean(np.asarray(cost) < 1)
    assert abs(same - 1 / V) < 4 * np.sqrt(2 / 9 / 900)
    np.testing.assert_array_less(cost, 21)  # a swap to V, which is no token, would cost log 3


def test_narrow_tokens_can_be_hidden_by_a_wide_one():
    seen = []

    def watch(params, tokens):
        seen.append(tokens)
        return 20.0 * jax.nn.one_hot(tokens, 256)

    net, head = (lambda key, tokens: {}, watch), lx.Head(lx.Categorical, num_categories=256)
    model = lx.sequence.MaskedToken(net, head, mask_token=256, rate=1.0, replace=(1.0, 0.0))
    params, rows = {"net": {}, "head": {}}, np.full((2, T), 5, np.uint8)
    cost = model(params, KEY, lx.Batch(rows))[1].per_example
    # Hidden as 256, none of the classes, all are alike; as 0 one of them would be sure.
    np.testing.assert_allclose(cost, np.log(256), rtol=1e-6)
    with pytest.raises(ValueError, match="mask_token is a token"):
        lx.sequence.AnyOrder(net, head, mask_token=-1)


def test_the_bound_has_bits_per_byte():
    sizes = np.array([1.0, 2.0, 5.0])
    model = lx.sequence.AnyOrder(NET, HEAD, mask_token=V, token_bytes=sizes)
    rows = np.tile(ROW, (50, 1))
    result = lx.evaluate(model, PARAMS, KEY, lx.Batch(rows))
    want = result.loss * ROW.size / sizes[ROW].sum() / np.log(2)
    np.testing.assert_allclose(float(lx.bits_per_byte(result)), want, rtol=1e-6)


BAD = {
    "rate": (lambda: {"rate": 0.0}, "rate is in"),
    "replace": (lambda: {"replace": (0.9, 0.2)}, "two probabilities"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    options, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        lx.sequence.MaskedToken(NET, HEAD, mask_token=V, **options())
    with pytest.raises(ValueError, match=r"target\[None\]"):
        lx.sequence.AnyOrder(NET, HEAD, mask_token=V)(PARAMS, KEY, lx.Batch(ROW))


def test_heads_and_values_that_are_no_tokens():
    for make in (lx.sequence.AnyOrder, lx.sequence.MaskedToken):
        for head in (lx.Head(lx.Normal), lx.MixtureHead(lx.Head(lx.Poisson), 2)):
            with pytest.raises(TypeError, match=rf"{make.__name__}: a head of tokens.*got .*Head"):
                make(NET, head, mask_token=V)
        with pytest.raises(TypeError, match=r"got float32 of shape \(1, 3\); write target\.astype"):
            make(NET, HEAD, mask_token=V)(PARAMS, KEY, lx.Batch(ROW[None].astype(np.float32)))
    # A mixture of categoricals is one of tokens; its bound, too, is that of its probabilities.
    head = lx.MixtureHead(lx.Head(lx.Categorical, num_categories=V), 1)
    one = (
        lambda key, x: {},
        lambda p, x: jnp.pad(apply(PARAMS["net"], x), ((0, 0), (0, 0), (1, 0))),
    )
    mixture = lx.sequence.AnyOrder(one, head, mask_token=V)
    plain = lx.sequence.AnyOrder(NET, HEAD, mask_token=V)
    got = mixture({"net": {}, "head": {}}, KEY, lx.Batch(ROW[None]))[0]
    np.testing.assert_allclose(got, plain(PARAMS, KEY, lx.Batch(ROW[None]))[0], rtol=1e-5)
