"""Linear logits over a vocabulary, tile by tile.

A log-likelihood of tokens needs a few numbers of each token's logits = hidden @ kernel + bias: the
one that was chosen, less their log-sum-exp; their mean; the entropy of their softmax. Here they are
summed up over tiles, some tokens by some columns, so that no array of the shape (tokens,
vocabulary) is ever held, neither forward nor backward. Backward a tile's logits are made again: four
matrix products where the whole logits in memory would take three.

How it stays that way under every transformation: the derivative rule is a second sweep over the
tiles, linear in the tangents, whose body is worked out again when it is transposed
(`jax.checkpoint`). What a tile reads of the primals it slices inside that body, or the slices would
be kept; what it reads of the tangents it slices outside, so that transposed they are updates of one
array in place. Columns are the outer loop: the kernel's gradient is summed wide for one block at a
time. The last tile overlaps the one before where sizes do not divide, and what it repeats is masked:
nothing is padded or copied.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero


class Logits(NamedTuple):
    """softcap tanh((hidden @ kernel + bias) / softcap), without the cap where that is None.

    Attributes:
      hidden: `(*batch, features)`; only the last batch axis is taken in chunks.
      kernel: `(features, vocabulary)`.
      bias: `(vocabulary,)` or None; -inf excludes a column.
      softcap: a number or None.
    """

    hidden: Array
    kernel: Array
    bias: Array | None = None
    softcap: float | None = None


class Summary(NamedTuple):
    """Numbers of each token's logits l, float32 or wider, of the shape of the tokens.

    Attributes:
      log_prob: l_token - log_normalizer; -inf for a token that is no column.
      log_normalizer: log sum_v exp(l_v).
      mean_log_prob: the mean of l_v - log_normalizer over all columns.
      entropy: of the softmax, in nats.
    """

    log_prob: Array
    log_normalizer: Array
    mean_log_prob: Array
    entropy: Array


class _Numbers(NamedTuple):
    """A `Summary` whose log-normaliser is top + log_total, top the largest logit: apart they keep
    the digits of probabilities where logits are large.
    """

    log_prob: Array
    top: Array
    log_total: Array
    mean_log_prob: Array
    entropy: Array


class Tile(NamedTuple):
    """How many tokens (along their last axis) and columns are worked on at a time."""

    tokens: int
    columns: int


class _Block(NamedTuple):
    """Columns start..start+width, of which those before `first` were counted before."""

    start: Array
    first: Array
    width: int

    def of(self, x: Array) -> Array:
        """These columns of x, `(..., vocabulary)`."""
        return jax.lax.dynamic_slice_in_dim(x, self.start, self.width, axis=-1)

    def columns(self) -> Array:
        return self.start + jnp.arange(self.width)


def _wide(hidden: Array, kernel: Array) -> Any:
    """The dtype of logits and sums: that of the inputs, at least float32."""
    return jnp.promote_types(jnp.result_type(hidden, kernel), jnp.float32)


def _product(hidden: Array, kernel: Array, dtype: Any) -> Array:
    return jnp.einsum("...d,dv->...v", hidden, kernel, preferred_element_type=dtype)


def _tile_logits(block: _Block, hidden: Array, kernel: Array, bias: Any, softcap: Any) -> Array:
    """One tile's logits in the wide dtype; -inf where the columns were counted before."""
    logits = _product(hidden, block.of(kernel), _wide(hidden, kernel))
    if bias is not None:
        logits = logits + block.of(bias).astype(logits.dtype)
    if softcap is not None:
        logits = softcap * jnp.tanh(logits / softcap)
    return jnp.where(block.columns() >= block.first, logits, -jnp.inf)


def _over_blocks(body: Callable[[Any, _Block], Any], init: Any, size: int, width: int) -> Any:
    """`carry = body(carry, block)` over all columns."""
    width = min(width, size)
    count = -(-size // width)
    width = -(-size // count)  # blocks of one size, the last one overlapping

    def step(carry: Any, j: Array) -> tuple[Any, None]:
        first = j * width
        return body(carry, _Block(jnp.minimum(first, size - width), first, width)), None

    return jax.lax.scan(step, init, jnp.arange(count))[0]


def _over_chunks(
    body: Callable[[Callable[[Array], Array]], Any], shape: tuple[int, ...], size: int
) -> Any:
    """`body(part)` for chunks of the last axis of `shape`; `part(x)` is the chunk of an x that begins
    with that shape. The outputs, which begin with it too, are put together.
    """
    if not shape or shape[-1] <= size:
        return body(lambda x: x)
    axis, length = len(shape) - 1, shape[-1]
    count = -(-length // size)
    size = -(-length // count)
    last = length - size * (count - 1)

    def step(_: None, i: Array) -> tuple[None, Any]:
        start = jnp.minimum(i * size, length - size)
        return None, body(lambda x: jax.lax.dynamic_slice_in_dim(x, start, size, axis=axis))

    def join(y: Array) -> Array:
        head = jnp.moveaxis(y[:-1], 0, axis)
        head = head.reshape(*shape[:axis], size * (count - 1), *head.shape[axis + 2 :])
        tail = jax.lax.slice_in_dim(y[-1], size - last, size, axis=axis)
        return jnp.concatenate([head, tail], axis=axis)

    return jax.tree.map(join, jax.lax.scan(step, None, jnp.arange(count))[1])


class _Sums(NamedTuple):
    """Over the columns so far, with w_v = exp(l_v - top)."""

    top: Array  # max l
    total: Array  # sum w
    tilted: Array  # sum w (l - top)
    plain: Array  # sum l
    chosen: Array  # l_token


def _sums(
    block: _Block, hidden: Array, kernel: Array, bias: Any, token: Array, softcap: Any
) -> _Sums:
    logits = _tile_logits(block, hidden, kernel, bias, softcap)
    top = jnp.max(logits, axis=-1)
    below = logits - jnp.where(top == -jnp.inf, 0, top)[..., None]
    weights = jnp.exp(below)
    new = block.columns() >= block.first
    here = (token[..., None] == block.columns()) & new
    return _Sums(
        top,
        jnp.sum(weights, axis=-1),
        jnp.sum(jnp.where(weights == 0, 0, weights * below), axis=-1),
        jnp.sum(jnp.where(new, logits, 0), axis=-1),
        jnp.max(jnp.where(here, logits, -jnp.inf), axis=-1),
    )


def _joined(a: _Sums, b: _Sums) -> _Sums:
    top = jnp.maximum(a.top, b.top)

    def lowered(s: _Sums) -> tuple[Array, Array]:
        drop = jnp.where(s.top == -jnp.inf, 0, s.top - top)
        scale = jnp.where(s.top == -jnp.inf, 0, jnp.exp(drop))
        return scale * s.total, scale * (s.tilted + drop * s.total)

    total, tilted = (x + y for x, y in zip(lowered(a), lowered(b), strict=True))
    return _Sums(top, total, tilted, a.plain + b.plain, jnp.maximum(a.chosen, b.chosen))


@functools.partial(jax.custom_jvp, nondiff_argnums=(4, 5))
def _summarize(hidden: Array, kernel: Array, bias: Any, token: Array, softcap: Any, tile: Tile):
    shape, size, wide = token.shape, kernel.shape[-1], _wide(hidden, kernel)

    def add(sums, block):
        def chunk(part):
            return _sums(block, part(hidden), kernel, bias, part(token), softcap)

        return _joined(sums, _over_chunks(chunk, shape, tile.tokens))

    zero, lowest = jnp.zeros(shape, wide), jnp.full(shape, -jnp.inf, wide)
    sums = _over_blocks(add, _Sums(lowest, zero, zero, zero, lowest), size, tile.columns)
    log_total = jnp.log(sums.total)
    return _Numbers(
        sums.chosen - sums.top - log_total,
        sums.top,
        log_total,
        sums.plain / size - sums.top - log_total,
        log_total - sums.tilted / sums.total,
    )


def _summarize_rule(softcap: Any, tile: Tile, primals: Any, tangents: Any):
    hidden, kernel, bias, token = primals
    dhidden, dkernel, dbias = (None if isinstance(t, SymbolicZero) else t for t in tangents[:3])
    out = _summarize(hidden, kernel, bias, token, softcap, tile)
    shape, size, wide = token.shape, kernel.shape[-1], out.log_prob.dtype
    if dhidden is None and dkernel is None and dbias is None:
        return out, jax.tree.map(jnp.zeros_like, out)
    # Backward these are sums over tiles, which are kept wide.
    dhidden = None if dhidden is None else dhidden.astype(wide)

    def add(carry, block):
        dk = None if dkernel is None else block.of(dkernel).astype(wide)
        db = None if dbias is None else block.of(dbias).astype(wide)

        def chunk(part):
            @functools.partial(jax.checkpoint, prevent_cse=False)
            def tile_tangents(dh, dk, db):
                h, numbers = part(hidden), jax.tree.map(part, out)
                logits = _tile_logits(block, h, kernel, bias, softcap)
                new = block.columns() >= block.first
                moves = jnp.zeros(logits.shape, wide)
                # Products in the inputs' dtype: transposed they are of that dtype, too.
                narrow = jnp.result_type(h, kernel)
                if dh is not None:
                    moves += _product(dh.astype(h.dtype), block.of(kernel), narrow).astype(wide)
                if dk is not None:
                    moves += _product(h, dk.astype(kernel.dtype), narrow).astype(wide)
                if db is not None:
                    moves += db
                if softcap is not None:
                    moves *= jnp.where(new, 1 - (logits / softcap) ** 2, 0)
                log_p = logits - numbers.top[..., None] - numbers.log_total[..., None]
                p = jnp.exp(log_p)
                surprise = jnp.where(p == 0, 0, log_p) + numbers.entropy[..., None]
                here = (part(token)[..., None] == block.columns()) & new
                normalizer = jnp.sum(p * moves, axis=-1)
                return _Numbers(
                    jnp.sum(jnp.where(here, moves, 0), axis=-1) - normalizer,
                    jnp.zeros_like(normalizer),
                    normalizer,
                    jnp.sum(jnp.where(new, moves, 0), axis=-1) / size - normalizer,
                    -jnp.sum(p * surprise * moves, axis=-1),
                )

            return tile_tangents(None if dhidden is None else part(dhidden), dk, db)

        return jax.tree.map(jnp.add, carry, _over_chunks(chunk, shape, tile.tokens))

    init = jax.tree.map(jnp.zeros_like, out)
    return out, _over_blocks(add, init, size, tile.columns)


_summarize.defjvp(_summarize_rule, symbolic_zeros=True)


def summarize(logits: Logits, token: Array, tile: Tile) -> Summary:
    """Numbers of each token's logits, and all their derivatives.

    Sums and results are float32 or wider whatever the inputs are; products are of the inputs'
    dtype. Differentiable in hidden, kernel and bias, in either mode and to any order; what is not
    differentiated costs nothing.

    Args:
      logits: of all tokens.
      token: integers, `(*batch,)`.
      tile: how much is worked on at a time.
    """
    numbers = _summarize(logits.hidden, logits.kernel, logits.bias, token, logits.softcap, tile)
    return Summary(
        numbers.log_prob,
        numbers.top + numbers.log_total,
        numbers.mean_log_prob,
        numbers.entropy,
    )


def cross_entropy(p: Logits, q: Logits, normalizers: tuple[Array, Array], tile: Tile) -> Array:
    """-sum_v p_v log q_v of each token, given the log-normalisers of both."""
    shape, size = p.hidden.shape[:-1], p.kernel.shape[-1]

    def add(total: Array, block: _Block) -> Array:
        def chunk(part: Any) -> Array:
            @functools.partial(jax.checkpoint, prevent_cse=False)
            def tile_sum(p: Logits, q: Logits, normalizers: tuple[Array, Array]) -> Array:
                log_p, log_q = (
                    _tile_logits(block, part(x.hidden), x.kernel, x.bias, x.softcap)
                    - part(z)[..., None]
                    for x, z in zip((p, q), normalizers, strict=True)
                )
                never = log_p == -jnp.inf
                each = jnp.exp(log_p) * jnp.where(never, 0, log_q)
                return -jnp.sum(jnp.where(never, 0, each), axis=-1)

            return tile_sum(p, q, normalizers)

        return total + _over_chunks(chunk, shape, tile.tokens)

    return _over_blocks(add, jnp.zeros_like(normalizers[0]), size, tile.columns)


def best(logits: Logits, count: int, tile: Tile, keys: Array | None = None) -> tuple[Array, Array]:
    """The `count` largest logits of each token and their columns, `(*batch, count)`, largest first.

    With `keys`, one for each token, Gumbel noise is added to the logits: the first column is then a
    draw from their softmax (Gumbel-max), whatever the tile. Not differentiable.
    """
    hidden, kernel, bias = jax.lax.stop_gradient(logits[:3])
    softcap = logits.softcap
    shape, size, wide = hidden.shape[:-1], kernel.shape[-1], _wide(hidden, kernel)

    def noise(block: _Block, keys: Array) -> Array:
        # Of each column by its own number, so that the tile does not matter.
        def draw(key: Array) -> Array:
            return jax.vmap(lambda v: jax.random.gumbel(jax.random.fold_in(key, v), (), wide))(
                block.columns()
            )

        for _ in shape:
            draw = jax.vmap(draw)
        return draw(keys)

    def add(found: tuple[Array, Array], block: _Block) -> tuple[Array, Array]:
        def chunk(part: Any) -> tuple[Array, Array]:
            own = _tile_logits(block, part(hidden), kernel, bias, softcap)
            if keys is not None:
                own = own + noise(block, part(keys))
            columns = jnp.broadcast_to(block.columns(), own.shape)
            values = jnp.concatenate([part(found[0]), own], axis=-1)
            columns = jnp.concatenate([part(found[1]), columns], axis=-1)
            if count == 1:
                at = jnp.argmax(values, axis=-1, keepdims=True)
            else:
                _, at = jax.lax.top_k(values, count)
            return jnp.take_along_axis(values, at, axis=-1), jnp.take_along_axis(
                columns, at, axis=-1
            )

        return _over_chunks(chunk, shape, tile.tokens)

    start = jnp.full((*shape, count), -jnp.inf, wide), jnp.zeros((*shape, count), jnp.int32)
    return _over_blocks(add, start, size, tile.columns)
