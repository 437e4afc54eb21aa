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
time.

`_sweep` has the three products back where the weights of a sum of log-probabilities are known.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero

from likelax.numerics._tiles import (
    NO_COLUMN,
    Block,
    Logits,
    Tile,
    blocks,
    filled,
    over_blocks,
    over_chunks,
    product,
    spread,
    tile_logits,
    varying,
    wide_dtype,
)


class Summary(NamedTuple):
    """Numbers of each token's logits l, float32 or wider, of the shape of the tokens.

    Attributes:
      log_prob: l_token - log_normalizer; -inf for a token that is no column.
      log_normalizer: log sum_v exp(l_v).
      mean_log_prob: the mean of l_v - log_normalizer over all columns; None where not asked for.
      entropy: of the softmax, in nats; likewise.
    """

    log_prob: Array
    log_normalizer: Array
    mean_log_prob: Any
    entropy: Any


class Numbers(NamedTuple):
    """What is summed up over the columns at hand. The log-normaliser is top + log_total, and what is
    chosen is told from the top: apart they keep the digits of probabilities where logits are large.
    """

    chosen: Array  # l_token - top, -inf where the token is none of these columns
    top: Array  # the largest logit: a constant to derivatives, -inf where all columns are excluded
    log_total: Array  # log sum exp(l - top)
    mean: Array | None  # of l
    entropy: Array | None  # of the softmax over these columns


class _Sums(NamedTuple):
    """Over the columns so far, with w_v = exp(l_v - top)."""

    top: Array  # max l
    total: Array  # sum w
    tilted: Array | None  # sum w (l - top)
    plain: Array | None  # sum l
    chosen: Array  # l_token


def finite(top: Array) -> Array:
    """What is subtracted from logits: 0 where all of them are -inf."""
    return jnp.where(top == -jnp.inf, 0, top)


def _sums(block: Block, logits: Array, token: Array, every: bool) -> _Sums:
    top = jnp.max(logits, axis=-1)  # also of columns counted before: some logit of all
    below = logits - finite(top)[..., None] + block.offset
    weights = jnp.exp(below)
    here = token[..., None] == block.columns
    tilted = plain = None
    if every:
        tilted = jnp.sum(jnp.where(weights == 0, 0, weights * below), axis=-1)
        plain = jnp.sum(jnp.where(block.offset == 0, logits, 0), axis=-1)
    total = jnp.sum(weights, axis=-1)
    return _Sums(top, total, tilted, plain, jnp.max(jnp.where(here, logits, -jnp.inf), axis=-1))


def _joined(a: _Sums, b: _Sums) -> _Sums:
    top = jnp.maximum(a.top, b.top)

    def lowered(s: _Sums) -> tuple[Array, Array | None, Array | None]:
        empty = s.top == -jnp.inf
        drop = jnp.where(empty, 0, s.top - top)
        scale = jnp.where(empty, 0, jnp.exp(drop))
        tilted = None if s.tilted is None else scale * (s.tilted + drop * s.total)
        return scale * s.total, tilted, s.plain

    sums = jax.tree.map(jnp.add, lowered(a), lowered(b))
    return _Sums(top, *sums, jnp.maximum(a.chosen, b.chosen))


@functools.partial(jax.custom_jvp, nondiff_argnums=(4, 5, 6))
def numbers_of(
    hidden: Array, kernel: Array, bias: Any, token: Array, softcap: Any, tile: Tile, every: bool
) -> Numbers:
    """`Numbers` of logits, without the last two unless `every`; arguments as of `Logits`. Differentiable
    in hidden, kernel and bias.
    """
    shape, size, wide = token.shape, kernel.shape[-1], wide_dtype(hidden, kernel)

    def add(sums: _Sums, block: Block) -> _Sums:
        def chunk(part: Any) -> _Sums:
            logits = tile_logits(block, part(hidden), kernel, bias, softcap)
            return _sums(block, logits, part(token), every)

        return _joined(sums, over_chunks(chunk, shape, tile.tokens))

    zero, lowest = (filled(shape, x, wide, hidden) for x in (0, -jnp.inf))
    more = zero if every else None
    sums = over_blocks(
        add, _Sums(lowest, zero, more, more, lowest), blocks(size, tile.columns, wide)
    )
    log_total = jnp.log(sums.total)
    mean = entropy = None
    if every:
        mean = sums.plain / size
        entropy = jnp.where(sums.total == 0, 0, log_total - sums.tilted / sums.total)
    return Numbers(sums.chosen - finite(sums.top), sums.top, log_total, mean, entropy)


def _rule(softcap: Any, tile: Tile, every: bool, primals: Any, tangents: Any) -> Any:
    out = numbers_of(*primals, softcap, tile, every)
    return out, moves_of(out, primals, tangents, softcap, tile)


numbers_of.defjvp(_rule, symbolic_zeros=True)


def given(tangent: Any) -> Any:
    """The tangent, None in place of a symbolic zero."""
    return None if isinstance(tangent, SymbolicZero) else tangent


def _widely(tangent: Any, wide: Any) -> Any:
    """A tangent whose transpose, a sum over tiles, is kept wide."""
    return None if tangent is None else tangent.astype(wide)


def _block_tangents(block: Block, dkernel: Any, dbias: Any, wide: Any) -> tuple[Any, Any]:
    """Of the columns of one block."""
    return (
        None if dkernel is None else _widely(block.linear(dkernel), wide),
        None if dbias is None else _widely(block.linear(dbias), wide),
    )


def _tile_moves(
    block: Block, hidden: Array, kernel: Array, softcap: Any, logits: Array, tangents: Any
) -> Array:
    """The tangents of one tile's logits, given those of hidden states, kernel and bias there."""
    dh, dk, db = tangents
    wide, narrow = logits.dtype, jnp.result_type(hidden, kernel)
    moves = jnp.zeros(logits.shape, wide)
    # Products in the inputs' dtype: transposed they are of that dtype, too.
    if dh is not None:
        moves += product(dh.astype(hidden.dtype), block.of(kernel), narrow).astype(wide)
    if dk is not None:
        moves += product(hidden, dk.astype(kernel.dtype), narrow).astype(wide)
    if db is not None:
        moves += db
    return moves if softcap is None else moves * (1 - (logits / softcap) ** 2)


def moves_of(out: Numbers, primals: Any, tangents: Any, softcap: Any, tile: Tile) -> Numbers:
    """The tangents of `out`, the numbers at these primals: linear in the tangents, by tiles."""
    hidden, kernel, bias, token = primals[:4]
    dhidden, dkernel, dbias = map(given, tangents[:3])
    if dhidden is None and dkernel is None and dbias is None:
        return jax.tree.map(jnp.zeros_like, out)
    shape, size, wide = token.shape, kernel.shape[-1], out.top.dtype
    dhidden = _widely(dhidden, wide)

    def add(carry: Numbers, block: Block) -> Numbers:
        dk, db = _block_tangents(block, dkernel, dbias, wide)

        def chunk(part: Any) -> Numbers:
            @functools.partial(jax.checkpoint, prevent_cse=False)
            def tile_tangents(dh: Any, dk: Any, db: Any) -> Numbers:
                h, own = part(hidden), jax.tree.map(part, out)
                logits = tile_logits(block, h, kernel, bias, softcap)
                moves = _tile_moves(block, h, kernel, softcap, logits, (dh, dk, db))
                log_p = logits - finite(own.top)[..., None] - finite(own.log_total)[..., None]
                p = jnp.exp(log_p + block.offset)
                here = part(token)[..., None] == block.columns
                mean = entropy = None
                if own.entropy is not None:
                    surprise = jnp.where(p == 0, 0, log_p) + own.entropy[..., None]
                    mean = jnp.sum(jnp.where(block.offset == 0, moves, 0), axis=-1) / size
                    entropy = -jnp.sum(p * surprise * moves, axis=-1)
                chosen = jnp.sum(jnp.where(here, moves, 0), axis=-1)
                return Numbers(
                    chosen, jnp.zeros_like(chosen), jnp.sum(p * moves, axis=-1), mean, entropy
                )

            return tile_tangents(None if dhidden is None else part(dhidden), dk, db)

        return jax.tree.map(jnp.add, carry, over_chunks(chunk, shape, tile.tokens))

    init = jax.tree.map(jnp.zeros_like, out)
    return over_blocks(add, init, blocks(size, tile.columns, wide))


def first_column(logits: Logits) -> Array | int:
    """The number of the first column at hand."""
    return 0 if logits.axis is None else jax.lax.axis_index(logits.axis) * logits.kernel.shape[-1]


def known(token: Array, logits: Logits) -> Array:
    """Tokens as int32 numbers of the columns at hand; those that are none of them as NO_COLUMN."""
    size, first = logits.kernel.shape[-1], first_column(logits)
    below = 0 if logits.axis is None else first
    inside = (token >= below) & (token < below + size)
    return jnp.where(inside, token - below, NO_COLUMN).astype(jnp.int32)


def summarize(logits: Logits, token: Array, tile: Tile, every: bool = True) -> Summary:
    """Numbers of each token's logits, and all their derivatives.

    Sums and results are float32 or wider whatever the inputs are; products are of the inputs'
    dtype. Differentiable in hidden, kernel and bias, in either mode and to any order; what is not
    differentiated costs nothing.

    Args:
      logits: of all tokens.
      token: integers, `(*batch,)`.
      tile: how much is worked on at a time.
      every: whether the mean and the entropy are wanted, too.
    """
    logits, token = aligned(logits, known(agreed(token, logits.axis), logits))
    hidden, kernel, bias, softcap, axis = logits
    return summary(numbers_of(hidden, kernel, bias, token, softcap, tile, every), token, axis)


def aligned(logits: Logits, token: Array, *others: Any) -> tuple[Logits, Array]:
    """Inside `jax.shard_map`, logits and tokens that vary along the mesh axes of all arguments."""
    axes = varying(logits[:3], token, others)
    hidden, kernel, bias = jax.tree.map(lambda x: spread(x, axes), logits[:3])
    return Logits(hidden, kernel, bias, *logits[3:]), spread(token, axes)


def agreed(x: Array, axis: tuple[str, ...] | None) -> Array:
    """x, equal on all devices along these mesh axes, as an array that is known not to vary there."""
    if not varying(x) & frozenset(axis or ()):
        return x
    if jnp.issubdtype(x.dtype, jnp.floating):
        return jax.lax.pmean(x, axis)
    return jax.lax.pmax(x.astype(jnp.int32), axis).astype(x.dtype)


def normalizer(numbers: Numbers, axis: Any) -> tuple[Array, Array, Array]:
    """Of all columns, in two parts to be added: the largest logit and log sum exp(l - top); and by
    how much it is larger than that of the columns at hand.
    """
    if axis is None:
        return numbers.top, numbers.log_total, jnp.zeros_like(numbers.top)
    own = jax.lax.stop_gradient(numbers.top)
    top = jax.lax.pmax(own, axis)
    drop = finite(top) - own  # infinite where all columns at hand are excluded
    total = jax.lax.psum(jnp.exp(numbers.log_total - drop), axis)
    return top, jnp.log(total), drop


def summary(numbers: Numbers, token: Array, axis: Any) -> Summary:
    """The `Summary` of all columns, those of other devices along the mesh axes `axis` too."""
    top, log_total, drop = normalizer(numbers, axis)
    chosen, mean, entropy = numbers.chosen, numbers.mean, numbers.entropy
    if axis is not None:
        here = token != NO_COLUMN
        chosen = jax.lax.psum(jnp.where(here, chosen - drop, 0), axis)
        somewhere = jax.lax.pmax(here.astype(jnp.int32), axis) > 0
        chosen = jnp.where(somewhere, chosen, -jnp.inf)
        mean = None if mean is None else jax.lax.pmean(mean, axis)
        if entropy is not None:
            log_share = numbers.log_total - drop - log_total
            share = jnp.exp(log_share)
            own = entropy - jnp.where(share == 0, 0, log_share)
            entropy = jax.lax.psum(share * own, axis)
    mean = None if mean is None else mean - top - log_total
    return Summary(chosen - log_total, top + log_total, mean, entropy)


def divergence(p: Logits, q: Logits, normalizers: tuple[Array, Array], tile: Tile) -> Array:
    """KL(p || q) = sum_v p_v (log p_v - log q_v) of each token, given the log-normalisers of both."""
    (p, _), (q, _) = (aligned(x, normalizers[0], *p[:3], *q[:3], normalizers[1]) for x in (p, q))
    sides = (*p[:3], normalizers[0]), (*q[:3], normalizers[1])
    return _divergence(*sides, (p.softcap, q.softcap), tile, p.axis)


def _two_sides(block: Block, sides: Any, softcaps: Any) -> tuple[Any, Array, Array, Array]:
    """One tile's logits of both sides, p, q, and log p - log q, which is 0 where p is."""
    logits = [
        tile_logits(block, *arrays, softcap)
        for (*arrays, _), softcap in zip(sides, softcaps, strict=True)
    ]
    log_p, log_q = (
        l - z[..., None] + block.offset for l, (*_, z) in zip(logits, sides, strict=True)
    )
    none = log_p == -jnp.inf
    ratio = jnp.where(none, 0, log_p) - jnp.where(none, 0, log_q)
    return logits, jnp.exp(log_p), jnp.exp(log_q), ratio


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _divergence(p: Any, q: Any, softcaps: Any, tile: Tile, axis: Any) -> Array:
    """`divergence`, of (hidden, kernel, bias, log-normaliser) twice."""
    shape, size, wide = p[0].shape[:-1], p[1].shape[-1], p[3].dtype

    def add(total: Array, block: Block) -> Array:
        def chunk(part: Any) -> Array:
            sides = [(part(h), k, b, part(z)) for h, k, b, z in (p, q)]
            _, share, _, ratio = _two_sides(block, sides, softcaps)
            return jnp.sum(jnp.where(share == 0, 0, share * ratio), axis=-1)

        return total + over_chunks(chunk, shape, tile.tokens)

    init = filled(shape, 0, wide, p[0])
    total = over_blocks(add, init, blocks(size, tile.columns, wide))
    return total if axis is None else jax.lax.psum(total, axis)


def _divergence_rule(
    softcaps: Any, tile: Tile, axis: Any, primals: Any, tangents: Any
) -> tuple[Array, Array]:
    """By tiles as `moves_of`: d = sum_v p_v (log p_v - log q_v - KL) dl_v + (q_v - p_v) dm_v, of the
    logits l and m of both sides. The log-normalisers' own tangents are in that: apart they would
    nearly cancel, each with its rounding.
    """
    out = _divergence(*primals, softcaps, tile, axis)
    shape, size, wide = out.shape, primals[0][1].shape[-1], out.dtype
    moving = [tuple(map(given, side[:3])) for side in tangents]
    moving = [(_widely(dh, wide), dk, db) for dh, dk, db in moving]
    # Where a class of p has no probability in q, KL is infinite: no slope.
    level = spread(jnp.where(jnp.isinf(out), 0, out), varying(primals[0][3]))
    finite_only = spread(jnp.isfinite(out), varying(primals[0][3]))

    def add(total: Array, block: Block) -> Array:
        columns = [_block_tangents(block, dk, db, wide) for _, dk, db in moving]

        def chunk(part: Any) -> Array:
            @functools.partial(jax.checkpoint, prevent_cse=False)
            def tile_tangent(rows: Any, columns: Any) -> Array:
                sides = [(part(h), k, b, part(z)) for h, k, b, z in primals]
                logits, share, other, ratio = _two_sides(block, sides, softcaps)
                dl, dm = (
                    _tile_moves(block, h, k, softcap, l, (dh, *own))
                    for (h, k, *_), softcap, l, dh, own in zip(
                        sides, softcaps, logits, rows, columns, strict=True
                    )
                )
                slope = jnp.where(share == 0, 0, share * (ratio - part(level)[..., None]))
                slope = jnp.where(part(finite_only)[..., None], slope, 0)
                return jnp.sum(slope * dl + (other - share) * dm, axis=-1)

            return tile_tangent([None if dh is None else part(dh) for dh, *_ in moving], columns)

        return total + over_chunks(chunk, shape, tile.tokens)

    init = filled(shape, 0, wide, primals[0][0])
    moved = over_blocks(add, init, blocks(size, tile.columns, wide))
    return out, moved if axis is None else jax.lax.psum(moved, axis)


_divergence.defjvp(_divergence_rule, symbolic_zeros=True)


def best(logits: Logits, count: int, tile: Tile, keys: Array | None = None) -> tuple[Array, Array]:
    """The `count` largest logits of each token and their columns, `(*batch, count)`, largest first.

    With `keys`, one for each token, Gumbel noise is added to the logits: the first column is then a
    draw from their softmax (Gumbel-max), whatever the tile. Not differentiable.
    """
    hidden, kernel, bias, softcap, axis = logits
    axes = varying(hidden, kernel, bias, keys)
    hidden, kernel, bias = jax.tree.map(
        lambda x: spread(jax.lax.stop_gradient(x), axes), (hidden, kernel, bias)
    )
    first = first_column(logits)
    shape, size, wide = hidden.shape[:-1], kernel.shape[-1], wide_dtype(hidden, kernel)

    def noise(columns: Array, keys: Array) -> Array:
        # Of each column by its own number, so that the tile does not matter.
        def draw(key: Array) -> Array:
            return jax.vmap(lambda v: jax.random.gumbel(jax.random.fold_in(key, v), (), wide))(
                columns
            )

        for _ in shape:
            draw = jax.vmap(draw)
        return draw(keys)

    def add(found: tuple[Array, Array], block: Block) -> tuple[Array, Array]:
        columns = first + block.start + jnp.arange(block.columns.shape[-1], dtype=jnp.int32)

        def chunk(part: Any) -> tuple[Array, Array]:
            own = tile_logits(block, part(hidden), kernel, bias, softcap)
            if keys is not None:
                own = own + noise(columns, part(keys))
            # Columns that are excluded stay ahead of those counted before and of no column at all.
            own = jnp.maximum(own, jnp.finfo(wide).min) + block.offset
            return _largest(
                count,
                jnp.concatenate([part(found[0]), own], axis=-1),
                jnp.concatenate([part(found[1]), jnp.broadcast_to(columns, own.shape)], axis=-1),
            )

        return over_chunks(chunk, shape, tile.tokens)

    held = min(count, size)
    values, columns = (
        filled((*shape, held), x, t, hidden) for x, t in ((-jnp.inf, wide), (0, jnp.int32))
    )
    values, columns = over_blocks(add, (values, columns), blocks(size, tile.columns, wide))
    if axis is not None:
        values, columns = _largest(count, _gathered(values, axis), _gathered(columns, axis))
    return jnp.where(values == jnp.finfo(wide).min, -jnp.inf, values), columns


def _largest(count: int, values: Array, columns: Array) -> tuple[Array, Array]:
    """The `count` largest of the last axis, and their columns."""
    if count == 1:
        at = jnp.argmax(values, axis=-1, keepdims=True)
    else:
        _, at = jax.lax.top_k(values, min(count, values.shape[-1]))
    return jnp.take_along_axis(values, at, axis=-1), jnp.take_along_axis(columns, at, axis=-1)


def _gathered(x: Array, axis: tuple[str, ...]) -> Array:
    """The last axes of all devices along mesh axes, one after another, the same on each of them."""
    devices = jax.lax.axis_size(axis)
    here = jnp.arange(devices) == jax.lax.axis_index(axis)
    slots = jnp.where(here[:, None], x[..., None, :], jnp.zeros_like(x[..., None, :]))
    slots = jax.lax.psum(slots, axis)
    return slots.reshape(*x.shape[:-1], devices * x.shape[-1])
