"""Drawing one value after another, with or without a cache."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from likelax._pytree import Array
from likelax.distributions.base import Distribution
from likelax.distributions.categorical import Categorical
from likelax.distributions.linear_categorical import LinearCategorical
from likelax.networks import Arguments


class Truncation(NamedTuple):
    """How the distribution of a token is changed before one is drawn; None changes nothing."""

    temperature: Any = None
    top_k: int | None = None
    top_p: Any = None
    min_p: Any = None

    @classmethod
    def checked(cls, temperature: Any, top_k: Any, top_p: Any, min_p: Any) -> Truncation:
        """Raises ValueError for numbers that make no sense."""
        if not temperature >= 0:
            raise ValueError(f"temperature is not negative, got {temperature}")
        if top_k is not None and not (isinstance(top_k, int) and top_k >= 1):
            raise ValueError(f"top_k is a positive whole number, got {top_k!r}")
        for name, value in (("top_p", top_p), ("min_p", min_p)):
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name} is in (0, 1], got {value}")
        if temperature == 0:
            return cls(top_k=1)
        return cls(None if temperature == 1 else temperature, top_k, top_p, min_p)

    def __bool__(self) -> bool:
        return any(x is not None for x in self)

    def apply(self, logits: Array) -> Array:
        """Logits with -inf for what is left out; those equal to the last one kept stay."""
        if self.temperature is not None:
            logits = logits / self.temperature
        if self.top_k is not None:
            least = jax.lax.top_k(logits, min(self.top_k, logits.shape[-1]))[0][..., -1:]
            logits = jnp.where(logits >= least, logits, -jnp.inf)
        if self.top_p is not None:
            falling = -jnp.sort(-logits, axis=-1)
            p = jax.nn.softmax(falling, axis=-1)
            kept = jnp.cumsum(p, axis=-1) - p < self.top_p
            least = jnp.min(jnp.where(kept, falling, jnp.inf), axis=-1, keepdims=True)
            logits = jnp.where(logits >= least, logits, -jnp.inf)
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
    net, head = model.conditional.net, model.head
    truncation = truncation._replace(top_k=top_k)
    fill = 0 if stop is None else stop
    values = jnp.full((rows, size, *event), fill, prompt.dtype).at[:, :given].set(prompt)
    rest = () if input is None else (input,)

    def whole(values: Array, at: Array, memory: Any) -> tuple[Array, Any]:
        """The network's output at position `at`, by a run over all of them."""
        inputs = Arguments((model._previous(values), *rest))
        raw, _ = net.apply(params["net"], inputs, key=None, state=state, train=False)
        return jax.lax.dynamic_index_in_dim(raw, at, axis=1, keepdims=False), memory

    stepper = net.stepper(params["net"], state, (rows, size)) if cache else None

    def one(values: Array, at: Array, memory: Any) -> tuple[Array, Any]:
        """The same, given what is remembered of the positions before."""
        now = jax.lax.dynamic_slice_in_dim(model._previous(values), at, 1, axis=1)
        raw, memory = stepper.step(memory, Arguments((now, *rest)))  # type: ignore[union-attr]
        return raw[:, 0], memory

    output = one if stepper else whole
    memory: Any = ()
    if stepper:
        # The prompt goes through the cache; what its positions predict is known.
        def read(at: Array, memory: Any) -> Any:
            return one(values, at, memory)[1]

        memory = jax.lax.fori_loop(0, given - lag, read, stepper.cache)

    def going(carry: Any) -> Array:
        t, _, done, _ = carry
        return (t < size) & ~jnp.all(done)

    def step(carry: Any) -> Any:
        t, values, done, memory = carry
        raw, memory = output(values, t - lag, memory)
        drawn = _draw(head(raw, params["head"]), jax.random.fold_in(key, t), truncation)
        drawn = drawn.astype(values.dtype)
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
        cache = has is not None
    return _continued(
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


def _caches(net: Any, params: Any, state: Any, shape: tuple[int, int]) -> Any:
    stepper = net.stepper(params, state, shape)
    return None if stepper is None else jnp.ones(())
