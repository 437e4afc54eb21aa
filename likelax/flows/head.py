"""`FlowHead`: a bijector as a head, its parameters trained, given a context or not."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from likelax._checks import is_count
from likelax._keys import stream
from likelax._pytree import Array, add_axes, parameter_dtype
from likelax.bijectors import Bijector, Conditioner
from likelax.distributions.base import Distribution
from likelax.distributions.normal import Normal
from likelax.distributions.transformed import Transformed
from likelax.networks import adapt


class FlowHead:
    """The distribution of y = f(x), x from a base: a normalising flow, whose parameters are the bijector f
    itself.

    ::

        def make(key):
            return lx.bijectors.Chain((lx.bijectors.ActNorm.init(2), lx.bijectors.PLU.init(2)))

        model = lx.Likelihood(None, lx.flows.FlowHead(make, 2))

    `lx.Likelihood(None, head)` is a density of the target; with `context=n` the network's (or, with no
    network, the input's) n outputs go to every `Conditioner` of f, and each gives its own density.
    `init` of an objective sets the parameters of `ActNorm` and its like from the batch.

    Args:
      make: from a random key to f, from base to data.
      event_shape: of one target.
      context: how many features f is conditioned on.
      base: a distribution of that event shape and batch shape () (default: standard Normal).

    Attributes:
      size: `context`.

    Raises:
      ValueError: when the base has another event shape, or a batch.
    """

    def __init__(
        self,
        make: Callable[[Array], Bijector],
        event_shape: int | tuple[int, ...],
        *,
        context: int = 0,
        base: Distribution | None = None,
    ):
        if not (context == 0 or is_count(context)):
            raise ValueError(
                f"FlowHead: context is a number of features, 0 for none, got {context!r}; write "
                "context=16"
            )
        self.make, self.size, self.base = make, context, base
        self.event_shape = shape_of_event("FlowHead", event_shape)
        if base is not None and not isinstance(base, Distribution):
            raise TypeError(
                f"FlowHead: a base is a Distribution, got {base!r}; write "
                f"base=lx.Normal(jnp.zeros({self.event_shape}), 1.0).to_event({len(self.event_shape)})"
            )
        if base is not None and (base.batch_shape or base.event_shape != self.event_shape):
            raise ValueError(
                f"FlowHead: a base of batch shape () and event shape {self.event_shape} wanted, got "
                f"{base.batch_shape} and {base.event_shape}; write "
                "base=lx.StudentT(df, loc, scale).to_event(1)"
            )

    def init(self, key: Array, features: Any) -> Bijector:
        """The bijector."""
        self._checked(features)
        return jax.jit(self.make)(stream(key, "bijector"))

    def initialize(self, params: Bijector, raw: Any, target: Any) -> Bijector:
        """The bijector, with the parameters that data decide set by a batch of targets."""
        raw = self._checked(raw)
        wanted, got = raw.shape[:-1] + self.event_shape, jnp.shape(target)
        if got != wanted:
            raise ValueError(
                f"{self!r}: targets of shape {wanted} wanted, got {got}; write "
                f"event_shape={got[raw.ndim - 1 :]}"
            )
        target = jnp.asarray(target)
        if not jnp.issubdtype(target.dtype, jnp.floating):
            target = target.astype(params.dtype)
        return _initialized(params, raw if self.size else None, target)

    def __call__(self, raw: Array, params: Any = None) -> Distribution:
        """The flow, `(*batch, context) -> batch_shape == batch`."""
        raw = self._checked(raw)
        if not isinstance(params, Bijector):
            raise ValueError(
                f"{self!r} has parameters of its own; write head(raw, head.init(key, raw))"
            )
        batch = raw.shape[:-1]
        bijector = _given(params, raw if self.size else None)
        dtype = jnp.promote_types(raw.dtype, params.dtype)
        return Transformed(self._base(batch, dtype), bijector)

    def _base(self, batch: tuple[int, ...], dtype: Any) -> Distribution:
        if self.base is not None:
            return self.base.broadcast_to(batch)
        zero = jnp.zeros(batch + self.event_shape, dtype)
        return Normal(zero, jnp.ones((), dtype)).to_event(len(self.event_shape))

    def _checked(self, raw: Any) -> Array:
        if raw.ndim < 1 or raw.shape[-1] != self.size:
            what = (
                f"give the network's last layer {self.size} outputs (head.size)"
                if self.size
                else "it takes no context: write context=n, or lx.Likelihood(None, head)"
            )
            raise ValueError(
                f"{self!r} reads {self.size} features on the last axis, got shape {raw.shape}; {what}"
            )
        return jnp.asarray(raw).astype(parameter_dtype([raw]))

    def __repr__(self) -> str:
        context = f", context={self.size}" if self.size else ""
        return f"FlowHead(event_shape={self.event_shape}{context})"


def _is_conditioner(part: Any) -> bool:
    return isinstance(part, Conditioner)


def _given(bijector: Bijector, context: Array | None) -> Bijector:
    """The bijector with this context, `(*batch, features)`, in each of its conditioners."""
    if context is None:
        return bijector
    batch = context.shape[:-1]
    wide = add_axes(bijector, len(batch))

    def give(part: Any) -> Any:
        if not _is_conditioner(part):
            return part
        inner = part.batch_ndim - len(batch)  # axes of layers
        return part.with_context(context.reshape(batch + (1,) * inner + context.shape[-1:]))

    return jax.tree.map(give, wide, is_leaf=_is_conditioner)


def shape_of_event(owner: str, event_shape: Any) -> tuple[int, ...]:
    """An event's shape, given as a length or as a shape.

    Raises:
      ValueError: for what is neither.
    """
    shape = event_shape if isinstance(event_shape, tuple | list) else (event_shape,)
    if not all(is_count(size) for size in shape):
        raise ValueError(
            f"{owner}: an event has entries: event_shape is a length or a shape of whole numbers, got "
            f"{event_shape!r}; write event_shape=2 for vectors of 2 numbers"
        )
    return tuple(int(size) for size in shape)


@jax.jit
def _initialized(bijector: Bijector, context: Array | None, target: Array) -> Bijector:
    """The bijector, its parameters that data decide set by targets, each given its context."""
    fitted = _given(bijector, context).initialized(target)
    return _without_context(fitted, 0 if context is None else context.ndim - 1)


def _without_context(bijector: Bijector, batch_ndim: int) -> Bijector:
    """What `_given` has made a bijector of, back: without context and the axes of its batch."""
    plain = jax.tree.map(
        lambda part: part.with_context(None) if _is_conditioner(part) else part,
        bijector,
        is_leaf=_is_conditioner,
    )
    return jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[batch_ndim:]), plain)


def networks(conditioner: Callable[[int], Any]) -> Callable[[int], Network]:
    """`conditioner(outputs)` as the function of a `Conditioner`, made once for each number of outputs, with
    arrays that no trace owns.
    """

    @functools.cache
    def make(outputs: int) -> Network:
        with jax.ensure_compile_time_eval():
            return Network(conditioner(outputs))

    return make


@dataclasses.dataclass(frozen=True)
class Network:
    """A network of any kind as the function of a `Conditioner`: x and the context, one behind the other
    on the last axis (of images: the context at every pixel).

    Args:
      net: as `likelax.networks` has them; it has no state and draws nothing.
    """

    net: Any

    def conditioner(self, key: Array, inputs: tuple[int, ...], context: int) -> Conditioner:
        """With fresh parameters, for x of shape `(n, *inputs)`."""
        shape = (1, *inputs[:-1], inputs[-1] + context)
        params, state = adapt(self.net).init(key, jnp.zeros(shape))
        if jax.tree.leaves(state):
            raise ValueError(
                "a conditioner has no state (batch statistics): both directions of the flow need the "
                "same function; use layer normalisation"
            )
        return Conditioner(self, params)

    def __call__(self, params: Any, x: Array, context: Array | None = None) -> Array:
        if context is not None:
            context = context.reshape(context.shape[:1] + (1,) * (x.ndim - 2) + context.shape[1:])
            context = jnp.broadcast_to(context, x.shape[:-1] + context.shape[-1:])
            x = jnp.concatenate([x, context.astype(x.dtype)], axis=-1)
        return adapt(self.net).apply(params, x, key=None, state=(), train=False)[0]
