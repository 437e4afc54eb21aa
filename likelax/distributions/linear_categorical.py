"""The Categorical of a vocabulary head, whose logits are never held."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from likelax import _checks, supports
from likelax._pytree import Array, _made, node, param, static
from likelax.distributions import _mesh
from likelax.distributions.base import Distribution
from likelax.distributions.categorical import Categorical
from likelax.distributions.kl import register_kl
from likelax.numerics import _sweep, vocabulary
from likelax.numerics._tiles import Logits, Tile
from likelax.numerics.vocabulary import Summary

# One tile's logits: large enough for the matrix products to run at full speed, small beside a model.
_TILE_BYTES = 16 * 2**20
_COLUMNS = 4096
_LEAST_COLUMNS = 128
# Logits of all columns that are held where gradients are made in the forward sweep. Each such chunk
# of tokens reads and writes the kernel's gradient once, and has to outweigh that: where fewer tokens
# than these fit (half as many of half precision), the vocabulary is too large, and goes by tiles; more
# than the last number gain nothing.
_HELD_BYTES = 192 * 2**20
_HELD_TOKENS = 512
_MOST_TOKENS = 4096


class LinearCategorical(Distribution):
    """One of V tokens: the Categorical whose logits are hidden @ kernel + bias, without ever holding
    them.

    `log_prob`, `entropy`, `log_normalizer`, KL (to another such head, to and from a `Categorical`)
    and all their derivatives, in any mode and order, are computed tile by tile, some tokens by some
    columns of the kernel; so are samples, the mode and `top_k`. Memory does not grow with tokens
    times V. Sums are float32 or wider; products are of the inputs' dtype, which may be bfloat16.

    Values are integers; a token that is no column has log-density -inf.

    Parameters: `hidden`, `(*batch, features)`; `kernel`, `(features, V)`, shared by the batch;
    `bias`, `(V,)` or none, -inf where a token is impossible.

    On a mesh nothing is gathered, neither kernel nor hidden states nor logits: what is summed up
    over the columns of a device goes to the others as a few numbers for each token, and the kernel's
    gradient is summed over the tokens' devices once. Where mesh axes are Explicit, as
    `jax.make_mesh` has them, that is read from the arrays' types. Where they are Auto the types say
    nothing, and two keywords do, for hidden states `(batch, time, features)` divided over "data" and
    a kernel divided over "model"::

        dist = lx.LinearCategorical(
            hidden, kernel, vocabulary_axis="model", batch_spec=jax.P("data")
        )

    Inside a `jax.shard_map` of one's own over "model" give `vocabulary_axis="model"` and the
    device's own columns: tokens still count through the whole vocabulary, and results are the same
    on all devices along the axis. Sums over tokens are then of the device's own tokens.

    Where there is one device and no mesh the two keywords change nothing, so that the same code runs
    on a laptop and on a cluster; where there are several, and no mesh, they are an error.

    Args:
      softcap: logits become softcap tanh(logits / softcap).
      block_size: how many columns at a time (default: 4096).
      vocabulary_axis: the mesh axis, or a tuple of them, that the columns of kernel and bias are
        divided over.
      batch_spec: a `jax.P` of the mesh axes that the batch's axes are divided over, the first one
        first.

    Raises:
      ValueError: for shapes that do not fit, a `softcap` or `block_size` that is not positive, mesh
        axes that are not there or do not divide what they should.
    """

    _takes_indices = True

    hidden: Array = param(supports.real, shape=("features",))
    kernel: Array = param(supports.real, shape=("features", "num_categories"))
    bias: Array | None = node(default=None)
    softcap: float | None = static(default=None, kw_only=True)
    block_size: int | None = static(default=None, kw_only=True)
    vocabulary_axis: str | tuple[str, ...] | None = static(default=None, kw_only=True)
    batch_spec: Any = static(default=None, kw_only=True)

    # Construction: each array keeps its dtype, and the kernel is never repeated over a batch.

    def _convert(self, values: dict[str, Any]) -> dict[str, Any]:
        for name in ("hidden", "kernel", "bias"):
            if values[name] is None:
                continue
            array = values[name] = jnp.asarray(values[name])
            if not jnp.issubdtype(array.dtype, jnp.floating):
                raise TypeError(
                    f"LinearCategorical: {name} is of real numbers, got {array.dtype} of shape "
                    f"{array.shape}; write {name}.astype(float)"
                )
            least = {"hidden": 1, "kernel": 2, "bias": 1}[name]
            if array.ndim < least:
                raise ValueError(
                    f"LinearCategorical: {name} has at least {least} axes, got shape {array.shape}"
                )
        kernel, bias = values["kernel"], values["bias"]
        if bias is not None and bias.shape[-1] != kernel.shape[-1]:
            raise ValueError(
                f"LinearCategorical: bias of shape {bias.shape} does not fit kernel of shape "
                f"{kernel.shape}: both have the axis 'num_categories'"
            )
        return values

    def _align(self, values: dict[str, Any]) -> dict[str, Any]:
        core = {"hidden": 1, "kernel": 2, "bias": 1}
        given = {name: values[name] for name in core if values[name] is not None}
        rank = max(x.ndim - core[name] for name, x in given.items())
        for name, x in given.items():
            values[name] = x.reshape((1,) * (rank + core[name] - x.ndim) + x.shape)
        spec = values["batch_spec"]
        if isinstance(spec, str):
            raise TypeError(
                f"LinearCategorical: batch_spec has an entry for each axis, got {spec!r}; write "
                f"batch_spec=jax.P({spec!r})"
            )
        if spec is not None:
            if len(spec) > rank:
                raise ValueError(
                    f"LinearCategorical: batch_spec={spec} has an entry for each of {len(spec)} axes, "
                    f"the batch has {rank}"
                )
            # In full: whatever comes before later, samples or an ensemble, is not in it.
            values["batch_spec"] = (*spec, *(None,) * (rank - len(spec)))
        return values

    def _check(self) -> None:
        super()._check()
        if not self.kernel.shape[-1]:
            raise ValueError(
                f"LinearCategorical: kernel has at least one column, got shape {self.kernel.shape}"
            )
        if self.softcap is not None and not 0 < self.softcap < math.inf:
            raise ValueError(
                f"LinearCategorical: softcap is positive and finite, got {self.softcap}; leave it out "
                "for none"
            )
        if self.block_size is not None and not _checks.is_count(self.block_size):
            raise ValueError(
                f"LinearCategorical: block_size is a positive whole number, got {self.block_size!r}"
            )

    def _map(self, function: Callable[[Array], Array]) -> LinearCategorical:
        hidden = function(self.hidden)
        rank = hidden.ndim - 1

        def moved(x: Array | None, core: int) -> Array | None:
            if x is None or math.prod(x.shape[: x.ndim - core]) > 1:
                return None if x is None else function(x)
            return x.reshape((1,) * rank + x.shape[x.ndim - core :])

        fields: dict[str, Any] = {
            "hidden": hidden,
            "kernel": moved(self.kernel, 2),
            "bias": moved(self.bias, 1),
        }
        if self.batch_spec is not None and rank < len(self.batch_spec):
            fields["batch_spec"] = None  # an axis is gone, and nobody knows which
        return _made(type(self), {**self.__dict__, **fields})

    def _hold(self, alive: Array) -> LinearCategorical:
        # Zeros instead: 0 times NaN would reach the kernel, which other elements share.
        alive = alive.reshape(alive.shape + (1,) * (self.batch_ndim - alive.ndim + 1))
        return _made(type(self), {**self.__dict__, "hidden": jnp.where(alive, self.hidden, 0)})

    def broadcast_to(self, batch_shape: tuple[int, ...]) -> LinearCategorical:
        """The same with hidden states of this full batch shape.

        Kernel and bias, which the batch shares, are not repeated: they keep axes of length 1. So
        `jax.vmap` does not take the node itself; map over the hidden states and close over the kernel::

            jax.vmap(lambda h, t: lx.LinearCategorical(h, kernel).log_prob(t))(hidden, token)
        """
        return super().broadcast_to(batch_shape)

    @property
    def num_categories(self) -> int:
        """V, the size of the whole vocabulary."""
        return self.kernel.shape[-1] * _mesh.parts(self.vocabulary_axis)

    @property
    def dtype(self) -> Any:
        """Of the results: at least float32."""
        return jnp.promote_types(jnp.result_type(self.hidden, self.kernel), jnp.float32)

    @property
    def support(self) -> supports.Support:
        """The integers 0..V-1."""
        return supports.integer_interval(0, self.num_categories - 1)

    # What is computed by tiles.

    def _summary(self, token: Array, every: bool = False) -> Summary:
        summarize = functools.partial(vocabulary.summarize, every=every)
        return _by_tiles(summarize, (self,), token)

    def _any(self) -> Array:
        return jnp.zeros(self.batch_shape, jnp.int32)

    def log_prob(self, value: Array) -> Array:
        shape = jnp.broadcast_shapes(value.shape, self.batch_shape)
        return self._summary(jnp.broadcast_to(value, shape)).log_prob

    def weighted_log_prob(self, value: Array, weight: Array) -> tuple[Array, Array]:
        """As of every distribution. The gradients of the sum are made in the forward sweep, three
        matrix products instead of four: a chunk of tokens against all columns at a time, where
        enough tokens fit; a larger vocabulary goes by tiles, at the memory of `log_prob`.
        """
        per_token = jnp.broadcast_to(value, weight.shape), weight
        return _by_tiles(_weighted, (self,), per_token, total=True)

    def logits(self) -> Array:
        """All logits, `(*batch, V)`, held after all: for a few tokens, as when one is drawn."""
        bias = 0 if self.bias is None else self.bias[..., None, :].astype(self.dtype)
        hidden = self.hidden[..., None, :]
        logits = jnp.matmul(hidden, self.kernel, preferred_element_type=self.dtype) + bias
        logits = logits[..., 0, :]
        return logits if self.softcap is None else self.softcap * jnp.tanh(logits / self.softcap)

    def log_normalizer(self) -> Array:
        """log sum_v exp(logits_v), shape `batch`."""
        return self._summary(self._any()).log_normalizer

    def mean_log_prob(self) -> Array:
        """The mean of log p over all tokens, shape `batch`: what label smoothing mixes in."""
        return self._summary(self._any(), every=True).mean_log_prob

    def entropy(self) -> Array:
        return self._summary(self._any(), every=True).entropy

    def top_k(self, k: int) -> tuple[Array, Array]:
        """The k most probable tokens and their log-probabilities, `(*batch, k)` each, the most
        probable first; no gradients.

        Raises:
          ValueError: unless 1 <= k <= V.
        """
        if not (_checks.is_count(k) and k <= self.num_categories):
            raise ValueError(
                f"top_k: k is a whole number from 1 to {self.num_categories}, got {k!r}"
            )

        values, columns = self._best(k)
        log_normalizer = jax.lax.stop_gradient(self.log_normalizer())
        return columns, values - log_normalizer[..., None]

    def _best(self, k: int) -> tuple[Array, Array]:
        """The k largest logits and their columns."""

        def best(logits: Logits, _: Array, tile: Tile) -> tuple[Array, Array]:
            return vocabulary.best(logits, k, tile)

        return _by_tiles(best, (self,), self._any())

    def mode(self) -> Array:
        return self._best(1)[1][..., 0]

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            key = jax.random.wrap_key_data(key)
        keys = jax.random.split(key, self._shape(shape))

        def draw(logits: Logits, keys: Array, tile: Tile) -> Array:
            return vocabulary.best(logits, 1, tile, keys)[1][..., 0]

        return _by_tiles(draw, (self,), keys)


@register_kl(LinearCategorical, LinearCategorical)
def _kl_linear_categorical(p: LinearCategorical, q: LinearCategorical) -> Array:
    """KL between two heads over one vocabulary, as in distillation."""
    _check_same_vocabulary(p, q)
    batch = jnp.broadcast_shapes(p.batch_shape, q.batch_shape)

    def kl(one: Logits, other: Logits, token: Array, tile: Tile) -> Array:
        mine, yours = (vocabulary.summarize(x, token, tile, every=False) for x in (one, other))
        normalizers = mine.log_normalizer, yours.log_normalizer
        return vocabulary.divergence(one, other, normalizers, tile)

    return _by_tiles(kl, (p, q), jnp.zeros(batch, jnp.int32))


@register_kl(LinearCategorical, Categorical)
def _kl_to_logits(p: LinearCategorical, q: Categorical) -> Array:
    _check_same_vocabulary(p, q)
    return _kl_linear_categorical(p, _of_logits(q, p))


@register_kl(Categorical, LinearCategorical)
def _kl_from_logits(p: Categorical, q: LinearCategorical) -> Array:
    """KL from logits that are held, such as a teacher's."""
    _check_same_vocabulary(p, q)
    return _kl_linear_categorical(_of_logits(p, q), q)


def _check_same_vocabulary(p: Any, q: Any) -> None:
    if p.num_categories != q.num_categories:
        raise ValueError(
            f"KL: {p.num_categories} and {q.num_categories} categories are not the same ones"
        )


def _of_logits(dist: Categorical, like: LinearCategorical) -> LinearCategorical:
    """The same distribution, its logits as biases; on a mesh its columns lie as those of `like`."""
    hidden = jnp.sum(_zeros(dist.logits), axis=-1, keepdims=True)
    kernel = _zeros(like.kernel[..., :1, :])
    axes = {"vocabulary_axis": like.vocabulary_axis, "batch_spec": like.batch_spec}
    return LinearCategorical(hidden, kernel, dist.logits, **axes)


def _zeros(like: Array) -> Array:
    """Zeros that are divided over a mesh as `like` is: constants know no mesh but the one that is set."""
    return jnp.logical_and(like != like, False).astype(like.dtype)


def _weighted(logits: Logits, per_token: tuple[Array, Array], tile: Tile) -> tuple[Array, Array]:
    return _sweep.weighted_log_prob(logits, *per_token, tile)


def _tile(shape: tuple[int, ...], columns: int, dists: tuple[LinearCategorical, ...]) -> Tile:
    """How much of tokens of this shape to work on at a time; only their last axis is cut."""
    across = max(1, math.prod(shape[:-1]))
    # A step of the last axis cannot be cut: where the batch is wide the blocks are narrower.
    fitting = min(_COLUMNS, max(_LEAST_COLUMNS, _TILE_BYTES // (4 * across)))
    width = min([dist.block_size or fitting for dist in dists] + [columns])
    share = min(4, *(jnp.result_type(d.hidden, d.kernel).itemsize for d in dists)) / 4
    held = min(_MOST_TOKENS, int(share * _HELD_BYTES) // (4 * columns))
    # None: a wide batch of long rows goes by tiles.
    swept = held // across if held >= share * _HELD_TOKENS else 0
    return Tile(max(1, _TILE_BYTES // (4 * width * across)), width, swept)


def _by_tiles(
    function: Callable[..., Any],
    dists: tuple[LinearCategorical, ...],
    per_token: Any,
    *,
    total: bool = False,
) -> Any:
    """`function(*logits, per_token, tile)`, mapped over the batch axes that a kernel has. With `total`
    the first of its two results is a sum over tokens.
    """
    shape = jax.tree.leaves(per_token)[0].shape
    rank = max(dist.batch_ndim for dist in dists)
    given = []
    for dist in dists:
        lead = (1,) * (rank - dist.batch_ndim)
        hidden = jnp.broadcast_to(dist.hidden, (*shape, dist.hidden.shape[-1]))
        bias = None if dist.bias is None else dist.bias.reshape(lead + dist.bias.shape)
        given.append((hidden, dist.kernel.reshape(lead + dist.kernel.shape), bias))

    layouts = [
        _mesh.find(*arrays, dist.vocabulary_axis, dist.batch_spec)
        for arrays, dist in zip(given, dists, strict=True)
    ]
    if len(set(layouts)) > 1:
        raise ValueError(
            f"KL: the heads lie differently on the mesh, {layouts[0].tokens} by "
            f"{layouts[0].columns} and {layouts[1].tokens} by {layouts[1].columns}; jax.reshard one"
        )
    columns = layouts[0].columns or None

    def run(given: Any, per_token: Any, rank: int) -> Any:
        shape = jax.tree.leaves(per_token)[0].shape
        for axis in range(rank):
            at = len(shape) - rank + axis

            def plan(x: Array | None, axis: int = axis) -> int | None:
                return axis if x is not None and x.shape[axis] > 1 else None

            axes = [(at, plan(kernel), plan(bias)) for _, kernel, bias in given]
            if any(k is not None or b is not None for _, k, b in axes):
                squeezed = [
                    tuple(
                        x.squeeze(axis) if x is not None and a is None else x
                        for x, a in zip(arrays, own, strict=True)
                    )
                    for arrays, own in zip(given, axes, strict=True)
                ]
                inner = functools.partial(run, rank=rank - 1)
                out = jax.vmap(inner, (axes, at), (0, at) if total else at)(squeezed, per_token)
                return (jnp.sum(out[0]), out[1]) if total else out
        logits = [
            Logits(
                hidden,
                kernel.reshape(kernel.shape[rank:]),
                None if bias is None else bias.reshape(bias.shape[rank:]),
                dist.softcap,
                columns,
            )
            for (hidden, kernel, bias), dist in zip(given, dists, strict=True)
        ]
        return function(*logits, per_token, _tile(shape, logits[0].kernel.shape[-1], dists))

    def everything(given: Any, per_token: Any) -> Any:
        return run(given, per_token, rank)

    return _mesh.enter(layouts[0], everything, given, per_token, total)
