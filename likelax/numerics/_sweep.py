"""A weighted sum of log-probabilities whose gradients are made in the forward sweep.

Where each token's weight is known beforehand, one sweep over chunks of tokens is enough: a chunk's
logits are held for all columns until its normaliser is known, and then turned into gradients. That
is three matrix products, as with whole logits, where `vocabulary.summarize` has four. Derivatives of
those gradients are taken through `summarize`, by tiles.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from likelax.numerics._tiles import (
    Block,
    Logits,
    Tile,
    blocks,
    filled,
    product,
    sliced,
    spread,
    tile_logits,
    varying,
    wide_dtype,
)
from likelax.numerics.vocabulary import (
    Numbers,
    agreed,
    aligned,
    finite,
    given,
    known,
    moves_of,
    normalizer,
    numbers_of,
    summary,
)


class _Gradients(NamedTuple):
    """Of the weighted sum, float32 or wider; None for what is not differentiated."""

    hidden: Any
    kernel: Any
    bias: Any


class _Chunk(NamedTuple):
    """Some tokens along their last axis, of which `fresh` are in no earlier chunk."""

    axis: int
    start: Array
    fresh: Array

    def of(self, x: Array) -> Array:
        return sliced(x, self.start, self.fresh.size, self.axis)

    def put(self, x: Array, part: Array) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(x, part.astype(x.dtype), self.start, self.axis)


def _held_logits(
    hidden: Array, kernel: Array, bias: Any, token: Array, softcap: Any, all_blocks: Block
) -> tuple[Array, Numbers]:
    """All logits of a chunk, block by block, and what is summed up over them."""
    wide = wide_dtype(hidden, kernel)
    lowest = filled(token.shape, -jnp.inf, wide, hidden)

    def add(carry: Any, block: Block) -> tuple[Any, Array]:
        top, total, chosen = carry
        logits = tile_logits(block, hidden, kernel, bias, softcap)
        higher = jnp.maximum(top, jnp.max(logits, axis=-1))
        below = logits - finite(higher)[..., None] + block.offset
        total = total * jnp.exp(top - finite(higher)) + jnp.sum(jnp.exp(below), axis=-1)
        here = token[..., None] == block.columns
        own = jnp.max(jnp.where(here, logits, -jnp.inf), axis=-1)
        return (higher, total, jnp.maximum(chosen, own)), logits

    init = lowest, jnp.zeros_like(lowest), lowest
    (top, total, chosen), logits = jax.lax.scan(add, init, all_blocks)
    return logits, Numbers(chosen - finite(top), top, jnp.log(total), None, None)


def _outer(hidden: Array, by_feature: Array | None, slope: Array, dtype: Any) -> Array:
    """The sum over tokens of hidden times slope, `(features, columns)`."""
    tokens = tuple(range(slope.ndim - 1))
    left, axes = (
        (hidden, tokens) if by_feature is None else (by_feature, tuple(t + 1 for t in tokens))
    )
    return jax.lax.dot_general(
        left, slope, ((axes, tokens), ((), ())), preferred_element_type=dtype
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(5, 6, 7, 8))
def _swept(
    hidden: Array,
    kernel: Array,
    bias: Any,
    token: Array,
    weight: Array,
    softcap: Any,
    tile: Tile,
    mesh_axis: Any,
    wanted: tuple[bool, bool, bool],
) -> tuple[Numbers, _Gradients]:
    """`Numbers` of all tokens, and the gradients that are wanted of sum(weight * log_prob)."""
    shape, size, wide = token.shape, kernel.shape[-1], wide_dtype(hidden, kernel)
    narrow = jnp.result_type(hidden, kernel)
    all_blocks = blocks(size, tile.columns, wide)
    axis, length = len(shape) - 1, shape[-1]
    count = -(-length // min(tile.swept, length))
    width = -(-length // count)
    # Half-precision products run at speed on a CPU where neither operand has to be turned, so both are
    # turned outside the loop over blocks.
    turning = narrow.itemsize == 2
    several = all_blocks.start.size > 1
    turned = kernel.T if turning and several and wanted[0] else None

    def step(carry: tuple[Numbers, _Gradients], first: Array) -> tuple[Any, None]:
        numbers, gradients = carry
        start = jnp.minimum(first, length - width)
        chunk = _Chunk(axis, start, start + jnp.arange(width) >= first)
        h, t, w = (chunk.of(x) for x in (hidden, token, weight))
        logits, own = _held_logits(h, kernel, bias, t, softcap, all_blocks)
        top, log_total = (finite(x)[..., None] for x in normalizer(own, mesh_axis)[:2])
        # Tokens of an earlier chunk are counted there.
        counted = jnp.where(chunk.fresh[:, None], h, 0)
        # Behind a barrier: without a loop of several blocks XLA would put the turn back into the
        # product, after it has settled how to multiply, and then fail.
        by_feature = jax.lax.optimization_barrier(jnp.moveaxis(counted, -1, 0)) if turning else None

        def back(sums: _Gradients, xs: tuple[Block, Array]) -> tuple[_Gradients, None]:
            block, l = xs
            p = jnp.exp(l - top - log_total + block.offset)
            here = (t[..., None] == block.columns).astype(wide)
            # What has no weight adds nothing, whatever its logits are.
            slope = jnp.where(w[..., None] == 0, 0, w[..., None] * (here - p))
            if softcap is not None:
                slope *= 1 - (l / softcap) ** 2
            of_hidden, of_kernel, of_bias = sums
            if of_bias is not None:
                fresh = jnp.where(chunk.fresh[:, None], slope, 0)
                of_bias = block.added(of_bias, jnp.sum(fresh, axis=tuple(range(len(shape)))))
            slope = slope.astype(narrow)
            if of_hidden is not None:
                rows = block.of(kernel).T if turned is None else block.of(turned, axis=0)
                of_hidden += product(slope, rows, wide)
            if of_kernel is not None:
                of_kernel = block.added(of_kernel, _outer(counted, by_feature, slope, wide))
            return _Gradients(of_hidden, of_kernel, of_bias), None

        of_hidden = None if gradients.hidden is None else filled(h.shape, 0, wide, hidden)
        sums = gradients._replace(hidden=of_hidden)
        sums, _ = jax.lax.scan(back, sums, (all_blocks, logits))
        if gradients.hidden is not None:
            sums = sums._replace(hidden=chunk.put(gradients.hidden, sums.hidden))
        return (jax.tree.map(chunk.put, numbers, own), sums), None

    # In float16 a weight of 1/N times a probability would vanish: the largest weight becomes 1.
    scale = None
    if narrow == jnp.float16:
        most = jnp.max(jnp.abs(weight))
        scale = jnp.where((most > 0) & jnp.isfinite(most), most, 1)
        weight = weight / scale
    zero = filled(shape, 0, wide, hidden)
    gradients = _Gradients(
        *(
            filled(x.shape, 0, wide, hidden) if w else None
            for x, w in zip((hidden, kernel, bias), wanted, strict=True)
        )
    )
    first = jnp.arange(count) * width
    init = Numbers(zero, zero, zero, None, None), gradients
    numbers, gradients = jax.lax.scan(step, init, first)[0]
    if scale is not None:
        gradients = jax.tree.map(lambda x: x * scale, gradients)
    return numbers, gradients


def _swept_rule(
    softcap: Any, tile: Tile, mesh_axis: Any, wanted: Any, primals: Any, tangents: Any
) -> Any:
    """Through the per-token numbers: their gradient's own derivative stays in tiles."""
    arrays, token, weight = primals[:3], primals[3], primals[4]

    def by_tiles(*moving: Array) -> tuple[Numbers, _Gradients]:
        *moving_arrays, w = fill(moving)

        def log_prob(*own: Array) -> tuple[Array, Numbers]:
            every = iter(own)
            full = [next(every) if n else x for n, x in zip(wanted, moving_arrays, strict=True)]
            numbers = numbers_of(*full, token, softcap, tile, False)
            return summary(numbers, token, mesh_axis).log_prob, numbers

        own = [x for n, x in zip(wanted, moving_arrays, strict=True) if n]
        _, back, numbers = jax.vjp(log_prob, *own, has_aux=True)
        slopes = iter(back(w))
        return numbers, _Gradients(*(next(slopes).astype(w.dtype) if n else None for n in wanted))

    fill, moving, moves = _moving((*arrays, weight), (*tangents[:3], tangents[4]))
    return jax.jvp(by_tiles, moving, moves)


_swept.defjvp(_swept_rule, symbolic_zeros=True)


def _moving(
    primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Callable[[tuple[Array, ...]], list[Any]], tuple[Array, ...], tuple[Array, ...]]:
    """Those of the primals that have a tangent, their tangents, and what puts other values in their
    places.
    """
    moves = [given(t) for t in tangents]
    places = [i for i, move in enumerate(moves) if move is not None]

    def fill(values: tuple[Array, ...]) -> list[Any]:
        full = list(primals)
        for i, value in zip(places, values, strict=True):
            full[i] = value
        return full

    return fill, tuple(primals[i] for i in places), tuple(moves[i] for i in places)


def _slope(log_prob: Array, weight: Array) -> Array:
    """Of the weighted sum by the weight: what is not finite and has no weight counts nothing."""
    return jnp.where((weight != 0) | jnp.isfinite(log_prob), log_prob, 0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(5, 6, 7))
def _weighted(
    hidden: Array,
    kernel: Array,
    bias: Any,
    token: Array,
    weight: Array,
    softcap: Any,
    tile: Tile,
    mesh_axis: Any,
) -> tuple[Array, Array]:
    numbers = numbers_of(hidden, kernel, bias, token, softcap, tile, False)
    log_prob = summary(numbers, token, mesh_axis).log_prob
    return jnp.sum(weight * _slope(log_prob, weight)), log_prob


def _weighted_rule(softcap: Any, tile: Tile, mesh_axis: Any, primals: Any, tangents: Any) -> Any:
    token, weight = primals[3:]
    moves, dweight = [given(t) for t in tangents[:3]], given(tangents[4])
    wanted = tuple(move is not None for move in moves)
    if any(wanted):
        numbers, slopes = _swept(*primals, softcap, tile, mesh_axis, wanted)
    else:
        numbers = numbers_of(*primals[:4], softcap, tile, False)
        slopes = _Gradients(None, None, None)

    def log_probs(numbers: Numbers) -> Array:
        return summary(numbers, token, mesh_axis).log_prob

    # The tangents of each by tiles: nobody's work where the sum alone is differentiated.
    dnumbers = moves_of(numbers, primals[:4], tangents[:3], softcap, tile)
    log_prob, dlog_prob = jax.jvp(log_probs, (numbers,), (dnumbers,))
    slope = _slope(log_prob, weight)
    total = jnp.sum(weight * slope)
    dtotal = jnp.zeros_like(total)
    if any(wanted):
        for gradient, move in zip(slopes, moves, strict=True):
            if move is not None:
                dtotal = dtotal + jnp.sum(gradient * move.astype(gradient.dtype))
        dtotal = dtotal if mesh_axis is None else jax.lax.psum(dtotal, mesh_axis)
    if dweight is not None:
        dtotal += jnp.sum(slope * dweight)
    return (total, log_prob), (dtotal, dlog_prob)


_weighted.defjvp(_weighted_rule, symbolic_zeros=True)


def weighted_log_prob(
    logits: Logits, token: Array, weight: Array, tile: Tile
) -> tuple[Array, Array]:
    """sum(weight * log_prob), and each token's log_prob: all derivatives of both.

    The sum's gradients by hidden, kernel and bias are made in the forward sweep. A token of weight 0
    adds nothing, whatever it holds; one that is no column adds -inf without a gradient.

    Args:
      logits: of all tokens.
      token: integers, `(*batch,)`.
      weight: `(*batch,)`; it does not vary along the mesh axes that the columns are divided over.
      tile: how much is worked on at a time.
    """
    if token.ndim == 0:
        logits = logits._replace(hidden=logits.hidden[None])
        total, log_prob = weighted_log_prob(logits, token[None], weight[None], tile)
        return total, log_prob[0]
    token, weight = agreed(token, logits.axis), agreed(weight, logits.axis)
    size = logits.kernel.shape[-1]
    columns = size if logits.axis is None else size * jax.lax.axis_size(logits.axis)
    inside = (token >= 0) & (token < columns)
    # A product of 0 with what is not finite would reach the kernel's gradient.
    spoilt = (weight == 0) & ~jnp.all(jnp.isfinite(logits.hidden), axis=-1)
    spoilt = agreed(spoilt, logits.axis)
    logits = logits._replace(hidden=jnp.where(spoilt[..., None], 0, logits.hidden))
    weight = weight.astype(wide_dtype(logits.hidden, logits.kernel))
    counted = jnp.where(inside & ~spoilt, weight, 0)
    logits, known_token = aligned(logits, known(token, logits), weight)
    counted = spread(counted, varying(logits.hidden) - frozenset(logits.axis or ()))
    arguments = (*logits[:3], known_token)
    if tile.swept and token.shape[-1]:
        total, log_prob = _weighted(*arguments, counted, logits.softcap, tile, logits.axis)
    else:
        numbers = numbers_of(*arguments, logits.softcap, tile, False)
        log_prob = summary(numbers, known_token, logits.axis).log_prob
        total = jnp.sum(counted * _slope(log_prob, counted))
    log_prob = jnp.where(inside, log_prob, jax.lax.stop_gradient(log_prob))
    never = jnp.where(inside | (weight == 0), 0, jax.lax.stop_gradient(weight) * -jnp.inf)
    return total + jnp.sum(never), jnp.where(spoilt, jnp.nan, log_prob)
