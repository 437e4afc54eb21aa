"""Drawing one value after another, with or without a cache."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from likelax._checks import is_count
from likelax._pytree import Array, is_traced
from likelax.distributions.base import Distribution
from likelax.distributions.categorical import Categorical
from likelax.distributions.linear_categorical import LinearCategorical
from likelax.networks import Arguments
from likelax.objective import trailing
from likelax.sequence._tokens import classes_of


class Truncation(NamedTuple):
    """How the distribution of a token is changed before one is drawn; None changes nothing."""

    temperature: Any = None
    top_k: int | None = None
    top_p: Any = None
    min_p: Any = None

    @classmethod
    def checked(cls, temperature: Any, top_k: Any, top_p: Any, min_p: Any) -> Truncation:
        """Raises ValueError for numbers that make no sense."""
        if top_k is not None:
            if not is_count(top_k):
                raise ValueError(f"top_k is a positive whole number, got {top_k!r}")
            top_k = int(top_k)
        for name, value in (("top_p", top_p), ("min_p", min_p)):
            if value is not None and not is_traced(value) and not 0 < value <= 1:
                raise ValueError(f"{name} is in (0, 1], got {value}")
        if not is_traced(top_p) and top_p == 1:
            top_p = None
        if is_traced(temperature):
            return cls(temperature, top_k, top_p, min_p)
        if not 0 <= temperature < math.inf:
            raise ValueError(f"temperature is finite and not negative, got {temperature}")
        if temperature < np.finfo(np.float32).tiny:
            return cls(top_k=1)
        return cls(None if temperature == 1 else temperature, top_k, top_p, min_p)

    def __bool__(self) -> bool:
        return any(x is not None for x in self)

    def apply(self, logits: Array) -> Array:
        """Logits with -inf for what is left out."""
        if self.temperature is not None:
            # The largest first: small temperatures then lead to -inf, not to infinity.
            logits = (logits - jnp.max(logits, axis=-1, keepdims=True)) / self.temperature
        if self.top_k is not None:
            least = jax.lax.top_k(logits, min(self.top_k, logits.shape[-1]))[0][..., -1:]
            logits = jnp.where(logits >= least, logits, -jnp.inf)
        if self.top_p is not None:
            order = jnp.argsort(-logits, axis=-1)
            p = jax.nn.softmax(jnp.take_along_axis(logits, order, axis=-1), axis=-1)
            kept = jnp.cumsum(p, axis=-1) - p < self.top_p
            kept = jnp.take_along_axis(kept, jnp.argsort(order, axis=-1), axis=-1)
            logits = jnp.where(kept, logits, -jnp.inf)
        if self.min_p is not None:
            least = jnp.max(logits, axis=-1, keepdims=True) + jnp.log(self.min_p)
            logits = jnp.where(logits >= least, logits, -jnp.inf)
        return logits


def _draw(dist: Distribution, key: Array, truncation: Truncation) -> Array:
    if not truncation:
        return dist.sample(key)
    if isinstance(dist, LinearCategorical):
        # One position of each sequence: here the logits are small enough to be held.
        dist = Categorical(logits=dist.logits())
    if not isinstance(dist, Categorical):
        raise TypeError(
            "temperature, top_k, top_p and min_p are for tokens, a head of lx.Categorical or "
            f"lx.LinearHead; this one gives {type(dist).__name__}"
        )
    logits = truncation.apply(dist.logits if dist.given("logits") else jnp.log(dist.probs))
    if truncation.top_k == 1:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    return Categorical(logits=logits).sample(key)


def _outputs(
    model: Any, params: Any, input: Any, state: Any, shape: tuple[int, int], cache: bool
) -> tuple[Callable[[Array, ArrayLike, Any], tuple[Array, Any]], Any]:
    """A function of values, a position and what is remembered of those before it, to the network's
    output there and what is to be remembered; and what is remembered at first.
    """
    net, rest = model.conditional.net, () if input is None else (input,)

    def whole(values: Array, at: ArrayLike, memory: Any) -> tuple[Array, Any]:
        inputs = Arguments((model._previous(values), *rest))
        raw, _ = net.apply(params["net"], inputs, key=None, state=state, train=False)
        return jax.lax.dynamic_index_in_dim(raw, at, axis=1, keepdims=False), memory

    if not cache:
        return whole, ()
    stepper = net.stepper(params["net"], state, shape)
    placed = net.accepts("positions")

    def one(values: Array, at: ArrayLike, memory: Any) -> tuple[Array, Any]:
        now = jax.lax.dynamic_slice_in_dim(model._previous(values), at, 1, axis=1)
        named = {"positions": jnp.full(now.shape[:2], at, jnp.int32)} if placed else {}
        raw, memory = stepper.step(memory, Arguments((now, *rest), named))
        return raw[:, 0], memory

    return one, stepper.cache


# What stands in place of a token where the network's output is NaN.
_LOST = -1


def _check_drawn(values: Array, given: int) -> None:
    """Raises, where values are known, for a token that was drawn from NaN."""
    if is_traced(values):
        return
    lost = jnp.any(values == _LOST, axis=(0, *range(2, values.ndim)))
    if jnp.any(lost):
        step, size = int(jnp.argmax(lost)), given + values.shape[1]
        raise FloatingPointError(
            f"sample: the network's output is NaN at step {step}, position {given + step} of a sequence "
            f"of {size}: look for a table of positions of fewer than {size} rows (take a smaller "
            "length=, or a shorter prompt), and for parameters that are NaN"
        )


# Keys and values are summed up in another order: so many roundings, by the bytes of a number.
_ROUNDINGS = {2: 32, 4: 4096, 8: 4096}


@functools.partial(jax.jit, static_argnums=0)
def _agrees(model: Any, params: Any, input: Any, state: Any, values: Array) -> Array:
    """Whether the network gives the same with its cache as without at each position of `values`."""
    shape = values.shape[0], values.shape[1]
    whole, _ = _outputs(model, params, input, state, shape, False)
    one, memory = _outputs(model, params, input, state, shape, True)
    good = []
    for at in range(shape[1] - int(model.start is None)):
        plain, (cached, memory) = whole(values, at, ())[0], one(values, at, memory)
        slack = _ROUNDINGS[plain.dtype.itemsize] * jnp.finfo(plain.dtype).eps
        largest = jnp.max(jnp.where(jnp.isfinite(plain), jnp.abs(plain), 0))
        good.append((cached == plain) | (jnp.abs(cached - plain) <= slack * largest))
    return jnp.all(jnp.stack(good))


def _first_values(model: Any, like: Array) -> Array:
    """Four different values in a row, `(1, 4, *event)`, of the dtype and event of `like`."""
    shape = (1, 4, *like.shape[2:])
    if jnp.issubdtype(like.dtype, jnp.floating):
        return jax.random.normal(jax.random.key(0), shape, like.dtype)
    counted = jnp.arange(1, 1 + math.prod(shape)).reshape(shape)
    return (counted % (classes_of(model.head) or 5)).astype(like.dtype)


@functools.partial(
    jax.jit, static_argnums=0, static_argnames=("top_k", "length", "shape", "callback", "cache")
)
def _continued(
    model: Any,
    params: Any,
    key: Array,
    prompt: Array,
    input: Any,
    state: Any,
    truncation: Truncation,
    stop: Any,
    *,
    top_k: int | None,
    length: int,
    shape: tuple[int, ...],
    callback: Callable[[Any], None] | None,
    cache: bool,
) -> Array:
    rows, given, *event = prompt.shape
    size, lag = given + length, int(model.start is None)
    head, truncation = model.head, truncation._replace(top_k=top_k)
    fill = 0 if stop is None else stop
    values = jnp.full((rows, size, *event), fill, prompt.dtype).at[:, :given].set(prompt)
    output, memory = _outputs(model, params, input, state, (rows, size), cache)
    is_tokens = classes_of(head) is not None
    of_head = [jnp.any(jnp.isnan(leaf)) for leaf in jax.tree.leaves(params["head"])]
    spoilt = jnp.any(jnp.array(of_head, bool))
    if cache:
        # The prompt goes through the cache; what its positions predict is known.
        def read(at: Array, memory: Any) -> Any:
            return output(values, at, memory)[1]

        memory = jax.lax.fori_loop(0, given - lag, read, memory)

    def going(carry: Any) -> Array:
        t, _, done, _ = carry
        return (t < size) & ~jnp.all(done)

    def step(carry: Any) -> Any:
        t, values, done, memory = carry
        raw, memory = output(values, t - lag, memory)
        drawn = _draw(head(raw, params["head"]), jax.random.fold_in(key, t), truncation)
        drawn = drawn.astype(values.dtype)
        if is_tokens:
            lost = spoilt | jnp.any(jnp.isnan(raw), axis=-1)
            drawn = jnp.where(trailing(lost, drawn.ndim), _LOST, drawn)
        if stop is not None:
            drawn = jnp.where(done, stop, drawn)
            done = done | (drawn == stop)
        if callback is not None:
            jax.debug.callback(callback, drawn.reshape(*shape, *event), ordered=True)
        values = jax.lax.dynamic_update_slice_in_dim(values, drawn[:, None], t, axis=1)
        return t + 1, values, done, memory

    start = jnp.asarray(given, jnp.int32), values, jnp.zeros(rows, bool), memory
    return jax.lax.while_loop(going, step, start)[1][:, given:]


def continued(
    model: Any,
    params: Any,
    key: Array,
    prompt: Array,
    input: Any,
    state: Any,
    truncation: Truncation,
    stop: int | None,
    *,
    length: int,
    shape: tuple[int, ...],
    callback: Callable[[Any], None] | None,
    cache: bool | None,
) -> Array:
    """`length` values after `prompt`, `(rows, time, *event)`; see `Autoregressive.sample`."""
    if stop is not None and not jnp.issubdtype(prompt.dtype, jnp.integer):
        raise TypeError("stop is a token; these values are no tokens")
    if cache or (cache is None and input is None):
        rows, time = math.prod(shape), prompt.shape[1] + length
        has = jax.eval_shape(
            lambda p, s: _caches(model.conditional.net, p, s, (rows, time)), params["net"], state
        )
        if cache and has is None:
            raise ValueError(
                "cache=True needs a Flax NNX network whose attention has init_cache and decode, as "
                "nnx.MultiHeadAttention does; leave cache out to run over the whole sequence"
            )
        traced = is_traced(params, prompt, input, state)
        trusted = cache if traced else has is not None
        first = jax.tree.map(lambda leaf: leaf[:1], input)
        if trusted and not traced:
            trusted = bool(_agrees(model, params, first, state, _first_values(model, prompt)))
            if cache and not trusted:
                raise ValueError(
                    "with its cache this network gives other outputs than over the whole sequence: "
                    "each layer that looks back needs a cache, and positions that are counted have to "
                    "go on; give its call an argument positions=None, (batch, time), or leave cache out"
                )
        cache = trusted
    values = _continued(
        model,
        params,
        key,
        prompt,
        input,
        state,
        truncation._replace(top_k=None),
        stop,
        top_k=truncation.top_k,
        length=length,
        shape=shape,
        callback=callback,
        cache=bool(cache),
    )
    if classes_of(model.head) is not None:
        _check_drawn(values, prompt.shape[1])
    return values


def _caches(net: Any, params: Any, state: Any, shape: tuple[int, int]) -> Any:
    stepper = net.stepper(params, state, shape)
    return None if stepper is None else jnp.ones(())
