"""Networks: the one file that knows Flax.

`adapt` gives a network of any kind one interface, pure and stateless::

    variables = net.init(key, input)                       # Variables(params, state)
    output, state = net.apply(params, input, key=..., state=..., train=...)
    net.accepts("positions")                               # whether a call may name that argument
    net.stepper(params, state, (batch, time))              # value by value from a cache, or None

A network may be

* a Flax NNX module (its present values are where training starts),
* a function that makes one, called as `make(rngs=nnx.Rngs(key))`: `functools.partial(MLP, 64)` or a
  class whose constructor takes nothing but `rngs` (each `init` key then gives other initial values,
  as an ensemble wants),
* a Flax Linen module,
* a pair `(init, apply)` of functions, `init(key, input) -> params`, `apply(params, input) ->
  output`,
* None: the input is the output.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import errors, linen, nnx

from likelax._keys import stream
from likelax._pytree import Array

# Keyword arguments by which a network's call says that it behaves otherwise in training; True: its
# value is `train`, False: its value is `not train`.
_TRAIN_FLAGS = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}


class Variables(NamedTuple):
    """What `init` returns.

    Attributes:
      params: what is trained, a dict of arrays.
      state: what a call updates (batch statistics), a pytree; `()` if there is nothing.
    """

    params: Any
    state: Any = ()


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["positional", "named"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class Arguments:
    """An input of several parts: the network is called `net(*positional, **named)`."""

    positional: tuple[Any, ...]
    named: dict[str, Any] = dataclasses.field(default_factory=dict)


def _call(function: Callable[..., Any], input: Any, **options: Any) -> Any:
    if isinstance(input, Arguments):
        return function(*input.positional, **input.named, **options)
    return function(input, **options)


def _flags(call: Callable[..., Any], train: bool) -> dict[str, bool]:
    names = inspect.signature(call).parameters
    return {name: train is same for name, same in _TRAIN_FLAGS.items() if name in names}


_NO_STATE = (
    "this network has state (batch statistics, say) and none was given; pass state=state, as from "
    "params, state = model.init(key, batch), or after training state=result.state"
)


class _NNX:
    """A Flax NNX module, or a function `make(rngs=...)` that makes one."""

    def __init__(self, net: Any):
        self._net = net

    def _split(self, module: nnx.Module) -> tuple[Any, Any, Any, Any]:
        return nnx.split(module, nnx.Param, nnx.RngState, ...)  # type: ignore[return-value]

    @functools.cached_property
    def _template(self) -> tuple[Any, Any, Any, Any]:
        """Structure, params, random streams and state, with shapes in place of arrays."""
        if isinstance(self._net, nnx.Module):
            return self._split(self._net)
        return self._split(nnx.eval_shape(lambda: self._net(rngs=nnx.Rngs(0))))

    def init(self, key: Array, input: Any) -> Variables:
        if isinstance(self._net, nnx.Module):
            # Copies: a training step that donates its params must not eat the user's own network.
            _, params, _, state = jax.tree.map(jnp.copy, self._split(self._net))
        else:
            module = self._net(rngs=nnx.Rngs(stream(key, "params")))
            _, params, _, state = self._split(module)
        return Variables(nnx.to_pure_dict(params), nnx.to_pure_dict(state) or ())

    def merge(self, params: Any, state: Any) -> nnx.Module:
        graph, params_like, streams, state_like = self._template
        if jax.tree.leaves(state_like) and not state:
            raise ValueError(_NO_STATE)
        if not isinstance(self._net, nnx.Module):
            streams = self._split(self._net(rngs=nnx.Rngs(0)))[2]
        return nnx.merge(
            graph,
            _filled(params_like, params),
            streams,
            _filled(state_like, state or {}),
            copy=True,
        )

    def apply(
        self, params: Any, input: Any, *, key: Array | None, state: Any, train: bool
    ) -> tuple[Any, Any]:
        graph, params_like, streams, state_like = self._template
        if jax.tree.leaves(state_like) and not state:
            raise ValueError(_NO_STATE)
        streams = _reseeded(streams, key, train)
        # A copy: merging without one ties the module's variables to the ones outside the trace.
        module = nnx.merge(
            graph,
            _filled(params_like, params),
            streams,
            _filled(state_like, state or {}),
            copy=True,
        )
        module.train() if train else module.eval()
        output = _call(module, input, **_flags(type(module).__call__, train))
        if not train:
            return output, state
        return output, nnx.to_pure_dict(self._split(module)[3]) or ()

    def accepts(self, name: str) -> bool:
        made = self._net.func if isinstance(self._net, functools.partial) else self._net
        if isinstance(made, nnx.Module):
            return _accepts(type(made).__call__, name)
        if isinstance(made, type):
            return _accepts(made.__call__, name)
        return _accepts(type(nnx.eval_shape(lambda: self._net(rngs=nnx.Rngs(0)))).__call__, name)

    def stepper(self, params: Any, state: Any, shape: tuple[int, int]) -> Stepper | None:
        module = self.merge(params, state)
        module.eval()
        layers = [m for _, m in nnx.iter_modules(module) if hasattr(m, "init_cache")]
        if not layers:
            return None
        for layer in layers:
            options = {}
            if _accepts(type(layer).init_cache, "dtype"):
                # What it computes in: its own dtype, or else that of its parameters.
                kept = jax.tree.leaves(nnx.state(layer, nnx.Param))
                own = getattr(layer, "dtype", None) or (jnp.result_type(*kept) if kept else None)
                options = {} if own is None else {"dtype": own}
            layer.init_cache((*shape, getattr(layer, "in_features", 1)), **options)
        module.set_attributes(decode=True, raise_if_not_found=False)
        graph, start, rest = nnx.split(module, nnx.Cache, ...)

        def step(cache: Any, input: Any) -> tuple[Any, Any]:
            again = nnx.merge(graph, cache, rest, copy=True)
            output = _call(again, input, **_flags(type(again).__call__, False))
            return output, nnx.split(again, nnx.Cache, ...)[1]

        return Stepper(start, step)


class Stepper(NamedTuple):
    """A network that is given a sequence value by value.

    Attributes:
      cache: what it remembers before the first one, a pytree.
      step: `(cache, input) -> (output, cache)`, the input of length 1 along the time axis.
    """

    cache: Any
    step: Callable[[Any, Any], tuple[Any, Any]]


def _accepts(call: Callable[..., Any], name: str) -> bool:
    """Whether a keyword `name` may be passed."""
    parameters = inspect.signature(call).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _filled(like: Any, values: Any) -> Any:
    filled = jax.tree.map(lambda leaf: leaf, like)
    nnx.replace_by_pure_dict(filled, values)
    return filled


def _reseeded(streams: Any, key: Array | None, train: bool) -> Any:
    """Every random stream of the module, whatever its tag, restarted from `key`."""
    if key is None:
        if train and jax.tree.leaves(streams):
            raise ValueError(
                "this network draws random numbers in training (dropout, say): pass key="
            )
        key = jax.random.key(0)
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)

    def reseed(path: Any, leaf: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            own = stream(key, jax.tree_util.keystr(path))
            return own if leaf.shape == () else jax.random.split(own, leaf.shape)
        return jnp.zeros(leaf.shape, leaf.dtype)

    return jax.tree_util.tree_map_with_path(reseed, streams)


class _Linen:
    """A Flax Linen module."""

    def __init__(self, net: linen.Module):
        self._net = net

    def init(self, key: Array, input: Any) -> Variables:
        flags = _flags(type(self._net).__call__, False)
        init = functools.partial(self._net.init, {"params": stream(key, "params")})
        variables = dict(_call(init, input, **flags))
        params = variables.pop("params", {})
        return Variables(params, variables or ())

    def merge(self, params: Any, state: Any) -> linen.Module:
        return self._net.bind({"params": params, **(state or {})})

    def apply(
        self, params: Any, input: Any, *, key: Array | None, state: Any, train: bool
    ) -> tuple[Any, Any]:
        # Linen falls back on the stream "params" for every stream that is not given by name.
        try:
            output, new_state = _call(
                functools.partial(self._net.apply, {"params": params, **(state or {})}),
                input,
                rngs=None if key is None else {"params": key},
                mutable=list(state) if train else [],
                **_flags(type(self._net).__call__, train),
            )
        except errors.ScopeCollectionNotFound as error:
            raise ValueError(_NO_STATE) from error
        return output, (dict(new_state) or ()) if train else state

    def accepts(self, name: str) -> bool:
        return _accepts(type(self._net).__call__, name)

    def stepper(self, params: Any, state: Any, shape: tuple[int, int]) -> Stepper | None:
        return None


class _Functions:
    """A pair `(init, apply)`; `apply` may take `key=` and a flag such as `train=`."""

    def __init__(self, init: Callable[..., Any], apply: Callable[..., Any]):
        self._init, self._apply = init, apply

    def init(self, key: Array, input: Any) -> Variables:
        # What comes by name says how to read the input, not what shape it has.
        parts = input.positional if isinstance(input, Arguments) else (input,)
        return Variables(self._init(stream(key, "params"), *parts))

    def merge(self, params: Any, state: Any) -> Callable[..., Any]:
        return functools.partial(self._apply, params)

    def apply(
        self, params: Any, input: Any, *, key: Array | None, state: Any, train: bool
    ) -> tuple[Any, Any]:
        options: dict[str, Any] = dict(_flags(self._apply, train))
        if "key" in inspect.signature(self._apply).parameters:
            options["key"] = key
        return _call(functools.partial(self._apply, params), input, **options), state

    def accepts(self, name: str) -> bool:
        return _accepts(self._apply, name)

    def stepper(self, params: Any, state: Any, shape: tuple[int, int]) -> Stepper | None:
        return None


Network = _NNX | _Linen | _Functions


def _makes_nnx(net: Any) -> bool:
    """Whether `net(rngs=...)` makes a module: a module class, a partial of one, or any function of
    rngs.
    """
    made = net.func if isinstance(net, functools.partial) else net
    if isinstance(made, type) and issubclass(made, nnx.Module):
        return True
    return callable(net) and "rngs" in inspect.signature(net).parameters


@contextlib.contextmanager
def called(part: str, given: Any) -> Iterator[None]:
    """Adds to an error what the network was called with."""
    try:
        yield
    except Exception as error:
        parts = given.positional if isinstance(given, Arguments) else (given,)
        shapes = ", ".join(str(jnp.shape(leaf)) for leaf in jax.tree.leaves(parts))
        error.add_note(f"(in the {part}, whose network was called with shapes {shapes})")
        raise


def adapt(net: Any) -> Network:
    """One interface for every kind of network: see the module's docstring.

    Raises:
      TypeError: when `net` is none of them.
    """
    if net is None:
        return _Functions(lambda key, input: {}, lambda params, input: input)
    if isinstance(net, nnx.Module):
        return _NNX(net)
    if isinstance(net, linen.Module):
        return _Linen(net)
    if isinstance(net, tuple) and len(net) == 2 and all(callable(f) for f in net):
        return _Functions(*net)
    if _makes_nnx(net):
        return _NNX(net)
    raise TypeError(
        "a network is a Flax NNX module, a function make(rngs=...) of one, a Flax Linen module, "
        f"or a pair (init, apply); got {net!r}; "
        "for a function without parameters write (lambda key, input: {}, lambda params, input: "
        "f(input))"
    )
