"""The weighted sum whose gradients are made in the forward sweep, against whole logits in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import whole_logits
from likelax.numerics import _sweep, _tiles, vocabulary
from likelax.numerics._tiles import Logits, Tile
from likelax.testing.subject import quick_jit
from whole_logits import COLUMNS, close, inputs, largest, products, whole

TILE = Tile(tokens=4, columns=17, swept=5)  # none divides: chunks and blocks overlap
RNG = np.random.default_rng(0)


def exact(function, *args):
    """In float64, as one program."""
    return whole_logits.exact(quick_jit(function), *args)


def swept(hidden, kernel, bias, weight, token, softcap=None, tile=TILE):
    return _sweep.weighted_log_prob(Logits(hidden, kernel, bias, softcap), token, weight, tile)


def plain(hidden, kernel, bias, weight, token, softcap=None):
    log_prob = whole(hidden, kernel, bias, token, softcap)[0]
    return jnp.sum(weight * log_prob), log_prob


def per_token(hidden, kernel, bias, weight, token, softcap=None):
    logits = Logits(hidden, kernel, bias, softcap)
    log_prob = vocabulary.summarize(logits, token, TILE).log_prob
    return jnp.sum(weight * log_prob), log_prob


def weights(batch, dtype=jnp.float32):
    return jnp.asarray(RNG.normal(size=batch), dtype)


def slopes(function, token, **options):
    """The sum, each log-probability, and the sum's gradients."""

    def total(*args):
        return function(*args, token, **options)

    return jax.value_and_grad(total, (0, 1, 2, 3), has_aux=True)


@pytest.mark.parametrize(("batch", "softcap"), [((11,), None), ((2, 7), 2.5)])
def test_values_and_derivatives_are_those_of_whole_logits(batch, softcap):
    arrays, token = inputs(RNG, batch)
    arrays = [*arrays, weights(batch)]
    tangents = [jnp.asarray(RNG.normal(size=x.shape), jnp.float32) for x in arrays]

    def everything(function):
        first = slopes(function, token, softcap=softcap)

        def run(*args):
            arrays, tangents = args[:4], args[4:]
            both = functools.partial(function, token=token, softcap=softcap)

            def gradient(*a):
                return first(*a)[1]

            def along(*a):
                return sum(jnp.sum(t * g) for t, g in zip(tangents, gradient(*a), strict=True))

            _, back = jax.vjp(both, *arrays)
            return (
                first(*arrays),
                jax.jvp(both, arrays, tangents),
                back((jnp.ones_like(tangents[3][(0,) * len(batch)]), tangents[3])),
                jax.jvp(gradient, arrays, tangents)[1],
                jax.grad(along, (0, 1, 2, 3))(*arrays),
            )

        return run

    got = quick_jit(everything(swept))(*arrays, *tangents)
    close(got[0], exact(slopes(plain, token, softcap=softcap), *arrays), 1e-6)
    close(got, exact(everything(plain), *arrays, *tangents), 4e-6)
    close(got[0], quick_jit(slopes(per_token, token, softcap=softcap))(*arrays), 1e-6)


BROKEN = {
    "columns counted twice": (_tiles.Block, "offset", lambda block: 0 * block.start),
    "tokens counted twice": (_sweep._Chunk, "fresh", lambda chunk: chunk[2] | True),
    "the token of a neighbour": (_tiles.Block, "columns", lambda block: block[1] + 1),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_copy_fails(broken, monkeypatch):
    arrays, token = inputs(RNG, (11,))
    arrays = [*arrays, weights((11,))]
    monkeypatch.setattr(*BROKEN[broken][:2], property(BROKEN[broken][2]))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        close(quick_jit(slopes(swept, token))(*arrays), exact(slopes(plain, token), *arrays), 1e-2)


def test_half_precision_sums_in_float32():
    arrays, token = inputs(RNG, (40,), jnp.bfloat16)
    arrays = [*arrays, weights((40,)) / 40]
    tile = Tile(8, 17, 12)
    (value, log_prob), got = quick_jit(slopes(swept, token, tile=tile))(*arrays)
    assert value.dtype == log_prob.dtype == jnp.float32
    assert [g.dtype for g in got] == [jnp.bfloat16] * 3 + [jnp.float32]
    (want, _), wanted = exact(slopes(plain, token), *arrays)
    np.testing.assert_allclose(value, want, atol=3e-3)
    close(got, wanted, 3e-3)


def test_one_kernel_of_each_member_of_an_ensemble():
    (hidden, kernel, bias), token = inputs(RNG, (9,))
    weight = weights((9,))
    kernels = jnp.stack([kernel, -0.5 * kernel, 2 * kernel])
    got = quick_jit(jax.vmap(slopes(swept, token), (None, 0, None, None)))(
        hidden, kernels, bias, weight
    )
    want = [exact(slopes(plain, token), hidden, k, bias, weight) for k in kernels]
    close(got, jax.tree.map(lambda *x: np.stack(x), *want), 2e-6)


def test_tokens_that_are_none_and_weights_of_nothing():
    (hidden, kernel, bias), token = inputs(RNG, (6,))
    bias = bias.at[40:].set(-jnp.inf)  # the last blocks hold nothing
    token = jnp.array([3, 39, COLUMNS, 7, -5, 45])
    weight = jnp.array([0.7, -0.2, 0.0, 0.0, 0.0, 0.0])
    spoilt = hidden.at[3].set(jnp.nan)
    run = quick_jit(lambda h, w: slopes(swept, token)(h, kernel, bias, w))
    (total, log_prob), got = run(spoilt, weight)
    few = [hidden[:2], kernel[:, :40], bias[:40], weight[:2]]
    (want, each), wanted = exact(slopes(plain, token[:2]), *few)
    close((total, log_prob[:2]), (want, each), 1e-6)
    np.testing.assert_array_equal(log_prob[jnp.array([2, 4, 5])], -np.inf)
    assert np.isnan(log_prob[3])
    close((got[0][:2], got[1][:, :40], got[2][:40], got[3][:2]), wanted, 2e-6)
    for rest in (got[0][2:], got[1][:, 40:], got[2][40:], got[3][2:]):
        np.testing.assert_array_equal(rest, 0)
    # With a weight, what cannot be costs infinity and pulls nowhere.
    (total, _), got = run(hidden, weight.at[2].set(0.5))
    assert total == -np.inf
    close(got[1][:, :40], wanted[1], 2e-6)
    # And a token that is spoilt and has a weight spoils the sum.
    assert np.isnan(run(spoilt, weight.at[3].set(0.5))[0][0])


def test_a_weight_of_zero_still_has_a_slope():
    arrays, token = inputs(RNG, (5,))
    (_, log_prob), got = quick_jit(slopes(swept, token))(*arrays, jnp.zeros(5))
    np.testing.assert_allclose(got[3], log_prob, rtol=1e-6)
    np.testing.assert_array_equal(got[1], 0)


def test_three_products_and_no_more_than_are_wanted():
    arrays, token = inputs(RNG, (40,))
    arrays = [*arrays, weights((40,))]

    def count(argnums, tile):
        def loss(*args):
            total, log_prob = swept(*args, token, tile=tile)
            return total, log_prob

        return products(jax.value_and_grad(loss, argnums, has_aux=True), *arrays)

    tile = Tile(8, 17, 12)
    assert [count(n, tile) for n in (3, 0, 1, (0, 1))] == [1, 2, 2, 3]
    assert count((0, 1), tile._replace(swept=0)) == 4  # by tiles: the rows are too wide


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: lambda *a: jax.value_and_grad(f, (0, 1, 2), has_aux=True)(*a),
        lambda f: lambda *a: jax.jvp(f, a, a),
        lambda f: lambda *a: jax.jvp(jax.grad(lambda *b: f(*b)[0], (0, 1)), a, a),
        lambda f: jax.grad(
            lambda *a: sum(jnp.sum(g**2) for g in jax.grad(lambda *b: f(*b)[0], (0, 1))(*a)), (0, 1)
        ),
    ],
    ids=["gradient", "jvp", "jvp of gradient", "gradient of gradient"],
)
def test_whole_logits_are_never_there(transform):
    tokens, features, columns = 96, 3, 1000
    args = [jnp.zeros(s) for s in ((tokens, features), (features, columns), (columns,))]
    token, weight, tile = jnp.zeros(tokens, int), jnp.ones(tokens), Tile(16, 100, 8)
    program = transform(lambda h, k, b: swept(h, k, b, weight, token, tile=tile))
    assert largest(program, *args) <= 8 * columns
    control = transform(lambda h, k, b: plain(h, k, b, weight, token))
    assert largest(control, *args) >= tokens * columns


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_compiled_memory_is_one_chunk_and_the_kernels_gradient(dtype):
    tokens, features, columns = 1024, 16, 4000

    def temporary(function, **options):
        spec = jax.ShapeDtypeStruct
        args = spec((tokens, features), dtype), spec((features, columns), dtype)
        # Arguments too: of constants XLA would compute large parts while it compiles.
        args += spec((tokens,), jnp.float32), spec((tokens,), jnp.int32)

        def loss(hidden, kernel, weight, token):
            return function(hidden, kernel, None, weight, token, **options)

        program = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
        return program.lower(*args).compile().memory_analysis().temp_size_in_bytes

    held, kernel = 4 * 64 * columns, 4 * features * columns
    own = temporary(swept, tile=Tile(64, 500, 64))
    assert own < held + 3 * kernel + 4 * tokens * features * 4
    assert temporary(plain) > 4 * tokens * columns > 5 * own  # the control


def test_features_and_columns_of_one_and_a_single_token():
    kernel, token = jnp.array([[0.3, -1.0, 2.0]]), jnp.array(2)
    total, log_prob = swept(jnp.array([0.5]), kernel, None, jnp.array(2.0), token)
    want = np.log(np.exp(1.0) / np.exp([0.15, -0.5, 1.0]).sum())
    np.testing.assert_allclose((total / 2, log_prob), want, rtol=1e-6)
