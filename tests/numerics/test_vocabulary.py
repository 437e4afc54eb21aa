"""The vocabulary's numbers, tile by tile, against whole logits in float64, in every derivative."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

import whole_logits
from likelax.numerics import _tiles, vocabulary
from likelax.numerics.vocabulary import Logits, Tile
from likelax.testing.subject import quick_jit
from whole_logits import COLUMNS, close, inputs, largest, products, whole

TILE = Tile(tokens=4, columns=17)  # neither divides: chunks and blocks overlap
RNG = np.random.default_rng(0)


def exact(function, *args):
    """In float64, as one program."""
    return whole_logits.exact(quick_jit(function), *args)


def summarize(hidden, kernel, bias, token, softcap=None, tile=TILE):
    return vocabulary.summarize(Logits(hidden, kernel, bias, softcap), token, tile)


def weighed(function, token, weights, **options):
    """A scalar in which every number of every token has its own weight."""

    def loss(hidden, kernel, bias):
        numbers = function(hidden, kernel, bias, token, **options)
        return sum(jnp.sum(w * x) for w, x in zip(weights, numbers, strict=True))

    return loss


@pytest.mark.parametrize(("batch", "softcap"), [((11,), None), ((2, 7), 2.5), ((), None)])
def test_values_and_derivatives_are_those_of_whole_logits(batch, softcap):
    arrays, token = inputs(RNG, batch)
    weights = RNG.normal(size=(4, *batch))
    tiled = weighed(functools.partial(summarize, softcap=softcap, tile=TILE), token, weights)
    plain = weighed(functools.partial(whole, softcap=softcap), token, weights)
    tangents = [jnp.asarray(RNG.normal(size=x.shape), jnp.float32) for x in arrays]

    def everything(loss):
        def run(*args):
            arrays, tangents = args[:3], args[3:]
            gradient = jax.grad(loss, (0, 1, 2))
            forward = jax.jvp(loss, arrays, tangents)
            second = jax.jvp(gradient, arrays, tangents)[1]  # forward over reverse
            both = jax.grad(
                lambda *a: sum(jnp.sum(t * g) for t, g in zip(tangents, gradient(*a), strict=True)),
                (0, 1, 2),
            )
            return forward, gradient(*arrays), second, both(*arrays)

        return run

    numbers = quick_jit(functools.partial(summarize, softcap=softcap, tile=TILE))(*arrays, token)
    close(numbers, exact(lambda *a: whole(*a, token, softcap), *arrays), 1e-6)
    got = quick_jit(everything(tiled))(*arrays, *tangents)
    close(got, exact(everything(plain), *arrays, *tangents), 4e-6)


def test_vmap_scan_and_checkpoint():
    arrays, token = inputs(RNG, (9,))
    weights = RNG.normal(size=(4, 9))
    tiled = jax.checkpoint(weighed(functools.partial(summarize, tile=TILE), token, weights))
    plain = weighed(whole, token, weights)
    kernels = jnp.stack([arrays[1], -0.5 * arrays[1], 2 * arrays[1]])
    mapped = quick_jit(jax.vmap(jax.grad(tiled, (0, 1, 2)), (None, 0, None)))
    want = [jax.grad(plain, (0, 1, 2))(arrays[0], k, arrays[2]) for k in kernels]
    close(mapped(arrays[0], kernels, arrays[2]), jax.tree.map(lambda *x: jnp.stack(x), *want), 4e-6)

    def scanned(arrays):
        return jax.lax.scan(lambda c, k: (c + tiled(arrays[0], k, arrays[2]), None), 0.0, kernels)[
            0
        ]

    one = [jax.grad(plain, 0)(arrays[0], k, arrays[2]) for k in kernels]
    close(quick_jit(jax.grad(scanned))(arrays)[0], sum(one), 4e-6)


def test_half_precision_sums_in_float32():
    arrays, token = inputs(RNG, (40,), jnp.bfloat16)
    tile = Tile(8, 17)

    def loss(function, **options):
        return lambda h, k, b: -jnp.mean(function(h, k, b, token, **options)[0])

    value, slopes = quick_jit(jax.value_and_grad(loss(summarize, tile=tile), (0, 1, 2)))(*arrays)
    assert value.dtype == jnp.float32 and {s.dtype for s in slopes} == {jnp.dtype(jnp.bfloat16)}
    want, wanted = exact(jax.value_and_grad(loss(whole), (0, 1, 2)), *arrays)
    np.testing.assert_allclose(value, want, rtol=3e-3)
    close(slopes, wanted, 8e-3)  # one rounding of bfloat16 is 4e-3


def kl_by_tiles(tile, softcap=None):
    """sum of KL(p || q), of the arrays of both sides."""

    def total(p, q):
        sides = Logits(*p, softcap), Logits(*q, None)
        token = jnp.zeros(p[0].shape[:-1], jnp.int32)
        normalizers = tuple(vocabulary.summarize(x, token, tile).log_normalizer for x in sides)
        return jnp.sum(vocabulary.divergence(*sides, normalizers, tile))

    return total


def kl_whole(p, q, softcap=None):
    logits = [h @ k + b for h, k, b in (p, q)]
    first = logits[0] if softcap is None else softcap * jnp.tanh(logits[0] / softcap)
    log_p, log_q = jax.nn.log_softmax(first), jax.nn.log_softmax(logits[1])
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q))


def test_the_divergence_of_two_heads_in_every_derivative():
    (p, token), (q, _) = (inputs(RNG, (2, 7)) for _ in range(2))
    arrays = [*p, *q]
    tangents = [jnp.asarray(RNG.normal(size=x.shape), jnp.float32) for x in arrays]

    def everything(function):
        def run(*args):
            arrays, tangents = args[:6], args[6:]

            def loss(*a):
                return function(a[:3], a[3:])

            def along(*a):
                slopes = jax.grad(loss, tuple(range(6)))(*a)
                return sum(jnp.sum(t * g) for t, g in zip(tangents, slopes, strict=True))

            return (
                jax.value_and_grad(loss, tuple(range(6)))(*arrays),
                jax.jvp(loss, arrays, tangents),
                jax.grad(along, tuple(range(6)))(*arrays),
            )

        return run

    got = quick_jit(everything(kl_by_tiles(TILE, 2.5)))(*arrays, *tangents)
    close(
        got, exact(everything(functools.partial(kl_whole, softcap=2.5)), *arrays, *tangents), 4e-6
    )


def test_a_divergence_of_half_precision_sums_in_float32():
    (p, _), (q, _) = (inputs(RNG, (640,), jnp.bfloat16) for _ in range(2))
    slopes = jax.grad(lambda p, q, f: f(p, q), (0, 1))
    got = quick_jit(functools.partial(slopes, f=kl_by_tiles(Tile(10, 17))))(p, q)
    want = exact(lambda *a: slopes(a[:3], a[3:], kl_whole), *p, *q)

    def error(g, w):
        return np.abs(np.asarray(g, np.float64) - w).max() / np.abs(w).max()

    # One rounding of the result is 4e-3. Of 64 chunks summed in bfloat16 the kernels' are far off.
    assert max(map(error, jax.tree.leaves(got), jax.tree.leaves(want))) < 8e-3
    chunks = jnp.split(p[0], 64)
    short = jax.grad(lambda k, h, h2: kl_whole((h, k, p[2]), (h2, q[1], q[2])))
    parts = [short(p[1], h, h2) for h, h2 in zip(chunks, jnp.split(q[0], 64), strict=True)]
    control = functools.reduce(lambda a, b: a + b, parts)
    assert control.dtype == jnp.bfloat16 and error(control, want[0][1]) > 8e-3


def test_inputs_of_two_dtypes_are_computed_with_in_the_wider():
    (hidden, kernel, bias), token = inputs(RNG, (9,))
    hidden = hidden.astype(jnp.bfloat16)

    def loss(function):
        return lambda h, k, b: -jnp.mean(function(h, k, b, token)[0])

    value, slopes = quick_jit(jax.value_and_grad(loss(summarize), (0, 1, 2)))(hidden, kernel, bias)
    want, wanted = exact(jax.value_and_grad(loss(whole), (0, 1, 2)), hidden, kernel, bias)
    np.testing.assert_allclose(value, want, rtol=1e-6)
    close(slopes[1:], wanted[1:], 1e-6)
    assert [s.dtype for s in slopes] == [jnp.bfloat16, jnp.float32, jnp.float32]
    with jax.enable_x64(True):
        mixed = summarize(
            jnp.asarray(hidden), jnp.asarray(np.asarray(kernel, np.float64)), None, token
        )
        np.testing.assert_allclose(
            mixed.log_prob,
            exact(lambda h, k: whole(h, k, None, token)[0], hidden, kernel),
            rtol=1e-12,
        )


def test_a_column_that_is_excluded_and_a_token_that_is_none():
    (hidden, kernel, bias), token = inputs(RNG, (5,))
    bias = bias.at[20:].set(-jnp.inf)  # the last blocks hold nothing
    token = jnp.array([3, 19, 20, COLUMNS, -1])
    tiled = functools.partial(summarize, tile=TILE)
    numbers = tiled(hidden, kernel, bias, token)
    want = whole(hidden, kernel[:, :20], bias[:20], jnp.clip(token, 0, 19))
    close(numbers.log_prob[:2], want[0][:2], 1e-6)
    np.testing.assert_array_equal(numbers.log_prob[2:], -np.inf)
    close((numbers.log_normalizer, numbers.entropy), (want[1], want[3]), 1e-6)
    slope = jax.grad(lambda h: jnp.sum(tiled(h, kernel, bias, token).entropy))(hidden)
    close(
        slope,
        jax.grad(lambda h: jnp.sum(whole(h, kernel[:, :20], bias[:20], token)[3]))(hidden),
        4e-6,
    )
    nothing = tiled(hidden, kernel, jnp.full(COLUMNS, -jnp.inf), token)
    np.testing.assert_array_equal(nothing.log_normalizer, -np.inf)
    spoilt = tiled(hidden.at[1].set(jnp.nan), kernel, bias, token)
    assert np.isnan(spoilt.log_prob[1]) and np.isfinite(spoilt.log_prob[0])


def test_large_logits_keep_the_digits_of_probabilities():
    """A common offset of 1e4 costs log-probabilities nothing but its own rounding."""
    (hidden, kernel, _), token = inputs(RNG, (8,))
    hidden, kernel = hidden.at[:, 0].set(1.0), kernel.at[0].set(1e4)
    weights = jnp.zeros((4, 8)).at[0].set(1.0)
    tiled = weighed(functools.partial(summarize, tile=TILE), token, weights)
    logits = np.asarray(hidden) @ np.asarray(kernel)  # rounded as float32 rounds them
    p = special.softmax(logits.astype(np.float64), axis=-1)
    want = np.eye(COLUMNS)[np.asarray(token)] - p
    got = jax.grad(lambda b: tiled(hidden, kernel, b))(jnp.zeros(COLUMNS))
    np.testing.assert_allclose(got, want.sum(0), atol=1e-2)  # the rounding of 1e4 is 1e-3
    assert abs(np.asarray(got).sum()) < 1e-4  # and the probabilities sum to 1


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: f,
        lambda f: jax.grad(f, (0, 1, 2)),
        lambda f: lambda *a: jax.jvp(f, a, a),
        lambda f: lambda *a: jax.jvp(jax.grad(f, (0, 1)), a, a),
        lambda f: jax.grad(lambda *a: sum(jnp.sum(g**2) for g in jax.grad(f, (0, 1))(*a)), (0, 1)),
        lambda f: jax.grad(jax.checkpoint(f), (0, 1)),
    ],
    ids=["value", "gradient", "jvp", "jvp of gradient", "gradient of gradient", "checkpoint"],
)
def test_whole_logits_are_never_there(transform):
    tokens, features, columns = 64, 3, 1000
    args = [jnp.zeros(s) for s in ((tokens, features), (features, columns), (columns,))]
    token, weights = jnp.zeros(tokens, int), jnp.ones((4, tokens))
    tile = Tile(16, 100)
    tiled = weighed(functools.partial(summarize, tile=tile), token, weights)
    assert largest(transform(tiled), *args) <= max(features * columns, 16 * 100)
    # The control: the plain form has them.
    assert largest(transform(weighed(whole, token, weights)), *args) >= tokens * columns


def test_compiled_memory_does_not_grow_with_the_vocabulary():
    def temporary(columns, function, **options):
        spec = jax.ShapeDtypeStruct
        args = spec((256, 16), jnp.float32), spec((16, columns), jnp.float32)

        def loss(hidden, kernel):
            return -jnp.mean(function(hidden, kernel, None, jnp.zeros(256, int), **options)[0])

        compiled = jax.jit(jax.grad(loss, (0, 1))).lower(*args).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    tile = {"tile": Tile(64, 128)}
    small, large = (temporary(columns, summarize, **tile) for columns in (1000, 8000))
    assert large < small + 16 * (8000 - 1000)  # a few numbers of each column
    assert temporary(8000, whole) > 20 * large  # the control


def test_a_frozen_kernel_costs_nothing():
    (hidden, kernel, bias), token = inputs(RNG, (9,))

    def count(argnums):
        def loss(*arrays):
            return jnp.sum(summarize(*arrays, token, tile=TILE).log_prob)

        return products(jax.grad(loss, argnums), hidden, kernel, bias)

    # Forward, again for the backward sweep, and one for each gradient.
    assert (count(0), count(1), count((0, 1))) == (3, 3, 4)


def test_blocks_that_overlap_count_once():
    """What the masks are for: without them the columns that two blocks share would count twice."""
    hidden, kernel = jnp.zeros((3, 2)), jnp.zeros((2, COLUMNS))
    numbers = summarize(hidden, kernel, None, jnp.array([0, 40, 52]), tile=TILE)
    np.testing.assert_allclose(numbers.log_normalizer, np.log(COLUMNS), rtol=1e-6)
    np.testing.assert_allclose(numbers.mean_log_prob, -np.log(COLUMNS), rtol=1e-6)
    np.testing.assert_allclose(numbers.entropy, np.log(COLUMNS), rtol=1e-6)
    assert (
        _tiles.blocks(COLUMNS, TILE.columns, jnp.float32).columns.size > COLUMNS
    )  # they do overlap
