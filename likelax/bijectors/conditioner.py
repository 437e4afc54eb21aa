"""Conditioners: the functions inside a bijector that give some coordinates' parameters from others."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from likelax._pytree import Array, Node, node, parameter_dtype, static


class Conditioner(Node):
    """A function with its parameters, `h(x) = function(params, x)` or, with a context, `function(params,
    x, context)`: a frozen pytree, right under every transformation.

    The function sees one batch axis, x `(n, *event)` and context `(n, features)`, and returns `(n,
    *event[:-1], outputs)`. Parameters with batch axes of their own, as those of a flow that is built
    inside `vmap`, belong each to its own element.

    Args:
      function: any hashable function; `MLP`, `MADE` and `ConvNet` are some.
      params: a pytree of arrays; leading axes beyond the leaf's own are batch axes.
      core_ndims: how many axes are each leaf's own (default: all of them).
      context: features that the map is conditioned on, `(*batch, features)`, or None.
    """

    function: Callable[..., Array] = static()
    params: Any = node()
    core_ndims: tuple[int, ...] | None = static(default=None)
    context: Any = node(default=None)

    def _align(self, values: dict[str, Any]) -> dict[str, Any]:
        if not callable(values["function"]):
            raise TypeError(
                f"Conditioner: a function of (params, x) wanted, got {values['function']!r}; write "
                "Conditioner(mlp, mlp.init(key)) with mlp = bijectors.MLP(inputs, outputs)"
            )
        params = jax.tree.map(jnp.asarray, values["params"])
        leaves = jax.tree.leaves(params)
        core = values["core_ndims"]
        core = tuple(leaf.ndim for leaf in leaves) if core is None else tuple(core)
        out = {**values, "params": params, "core_ndims": core}
        if values["context"] is not None:
            context = jnp.asarray(values["context"])
            out["context"] = context.astype(parameter_dtype([context]))
        return _same_rank(out)

    def _check(self) -> None:
        count = len(jax.tree.leaves(self.params))
        if len(self.core_ndims or ()) != count:
            raise ValueError(
                f"Conditioner: core_ndims has one number for each of {count} arrays, got "
                f"{self.core_ndims}"
            )
        self.batch_shape  # noqa: B018  (raises when the batch shapes do not broadcast)

    @property
    def _own_batch(self) -> tuple[int, ...]:
        """The batch axes of the parameters alone."""
        leaves = zip(jax.tree.leaves(self.params), self.core_ndims or (), strict=True)
        return jnp.broadcast_shapes(*[leaf.shape[: leaf.ndim - core] for leaf, core in leaves])

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """What the batch axes of parameters and context broadcast to."""
        context = () if self.context is None else self.context.shape[:-1]
        return jnp.broadcast_shapes(self._own_batch, context)

    def __repr__(self) -> str:
        return f"Conditioner({self.function!r})"

    def with_context(self, context: Any) -> Conditioner:
        """The same with these features, `(*batch, features)`, or without any (None)."""
        return Conditioner(self.function, self.params, self.core_ndims, context)

    def __call__(self, x: Array, event_ndim: int = 1) -> Array:
        """`(*sample, *batch, *event) -> (*sample, *batch, *event[:-1], outputs)`, float32 or wider."""
        lead = jnp.broadcast_shapes(x.shape[: x.ndim - event_ndim], self.batch_shape)
        inputs = [jnp.broadcast_to(x, lead + x.shape[x.ndim - event_ndim :])]
        if self.context is not None:
            inputs.append(jnp.broadcast_to(self.context, lead + self.context.shape[-1:]))
        own = self._own_batch
        mapped = [axis for axis, size in enumerate(own) if size > 1]
        leaves, tree = jax.tree.flatten(self.params)
        leaves = [
            _batch_first(leaf, leaf.shape[leaf.ndim - core :], own, mapped)
            for leaf, core in zip(leaves, self.core_ndims or (), strict=True)
        ]
        call = self._called(event_ndim)
        for _ in mapped:
            call = jax.vmap(call)
        front = tuple(range(len(mapped)))
        back = tuple(len(lead) - len(own) + axis for axis in mapped)
        inputs = [jnp.moveaxis(value, back, front) for value in inputs]
        raw = jnp.moveaxis(call(jax.tree.unflatten(tree, leaves), *inputs), front, back)
        return raw.astype(jnp.promote_types(raw.dtype, jnp.float32))

    def _called(self, event_ndim: int) -> Callable[..., Array]:
        """The function, seen by any number of leading axes."""

        def call(params: Any, x: Array, *context: Array) -> Array:
            lead = x.shape[: x.ndim - event_ndim]
            if len(lead) == 1:
                return self.function(params, x, *context)
            count = math.prod(lead)
            flat = [v.reshape(count, *v.shape[len(lead) :]) for v in (x, *context)]
            out = self.function(params, *flat)
            return out.reshape(lead + out.shape[1:])

        return call


def _same_rank(values: dict[str, Any]) -> dict[str, Any]:
    """The same number of batch axes on every array."""
    leaves, tree = jax.tree.flatten(values["params"])
    core, context = values["core_ndims"], values["context"]
    if len(core) != len(leaves):
        return values  # the check says so
    ranks = [leaf.ndim - own for leaf, own in zip(leaves, core, strict=True)]
    ranks += [] if context is None else [context.ndim - 1]
    rank = max(ranks, default=0)

    def widen(leaf: Array, own: int) -> Array:
        return leaf.reshape((1,) * (rank - leaf.ndim + own) + leaf.shape)

    params = jax.tree.unflatten(tree, [widen(*pair) for pair in zip(leaves, core, strict=True)])
    return {
        **values,
        "params": params,
        "context": None if context is None else widen(context, 1),
    }


def _batch_first(
    leaf: Array, core: tuple[int, ...], own: tuple[int, ...], mapped: list[int]
) -> Array:
    """A leaf with the batch axes that are mapped over, and no others."""
    sizes = leaf.shape[: leaf.ndim - len(core)]
    kept = leaf.reshape(tuple(sizes[axis] for axis in mapped) + core)
    return jnp.broadcast_to(kept, tuple(own[axis] for axis in mapped) + core)


# Functions that serve.


def silu(x: Array) -> Array:
    """x sigmoid(x)."""
    return _silu(x)


@jax.custom_jvp
def _silu(x: Array) -> Array:
    return x * jax.nn.sigmoid(x)


@_silu.defjvp
def _silu_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """By its slope: one array kept for the gradient, not three."""
    (x,), (dx,) = primals, tangents
    share = jax.nn.sigmoid(x)
    y = x * share
    return y, (share + y * (1 - share)) * dx


def _dense(key: Array, inputs: int, outputs: int, fan_in: float | None = None) -> dict[str, Array]:
    """A kernel of variance 2 / fan_in, and a bias of 0."""
    scale = math.sqrt(2 / max(inputs if fan_in is None else fan_in, 1))
    return {
        "kernel": scale * jax.random.normal(key, (inputs, outputs)),
        "bias": jnp.zeros(outputs),
    }


def _zero(inputs: int, outputs: int) -> dict[str, Array]:
    return {"kernel": jnp.zeros((inputs, outputs)), "bias": jnp.zeros(outputs)}


@dataclasses.dataclass(frozen=True)
class MLP:
    """A perceptron whose last layer starts at zero, so that the map that it conditions starts at the
    identity.

    Args:
      inputs: entries of x.
      outputs: how many numbers it gives.
      hidden: the widths of its hidden layers.
      context: features of the context, which is appended to x.
      activation: of the hidden layers.
    """

    inputs: int
    outputs: int
    hidden: tuple[int, ...] = (64, 64)
    context: int = 0
    activation: Callable[[Array], Array] = silu

    def init(self, key: Array) -> list[dict[str, Array]]:
        """Its parameters."""
        sizes = (self.inputs + self.context, *self.hidden)
        keys = jax.random.split(key, len(sizes))
        pairs = itertools.pairwise(sizes)
        layers = [_dense(k, *pair) for k, pair in zip(keys, pairs, strict=False)]
        return [*layers, _zero(sizes[-1], self.outputs)]

    def __call__(self, params: Any, x: Array, context: Array | None = None) -> Array:
        x = x if context is None else jnp.concatenate([x, context.astype(x.dtype)], axis=-1)
        for layer in params[:-1]:
            x = self.activation(x @ layer["kernel"] + layer["bias"])
        return x @ params[-1]["kernel"] + params[-1]["bias"]


@dataclasses.dataclass(frozen=True)
class MADE:
    """A masked perceptron: the `outputs` numbers of coordinate i depend on coordinates before i only
    (Germain et al. 2015), and on the context.

    Its last layer starts at zero.

    Args:
      features: coordinates of x.
      outputs: numbers for each coordinate.
      hidden: the widths of its hidden layers.
      context: features of the context, which every hidden unit sees.
      activation: of the hidden layers.
    """

    features: int
    outputs: int
    hidden: tuple[int, ...] = (64, 64)
    context: int = 0
    activation: Callable[[Array], Array] = silu

    def __post_init__(self) -> None:
        if not self.hidden or self.features < 1:
            raise ValueError(
                f"MADE: a hidden layer and a coordinate at least, got hidden={self.hidden} and "
                f"features={self.features}; write MADE(3, 2, hidden=(64,))"
            )

    def _degrees(self) -> list[np.ndarray]:
        """For each layer's units, how many coordinates they see: input i, which is 0-based, itself."""
        # Units that see no coordinate serve where they see a context.
        least = 0 if self.context or self.features == 1 else 1
        hidden = [least + np.arange(n) % (self.features - least) for n in self.hidden]
        return [np.arange(1, self.features + 1), *hidden]

    def _masks(self) -> list[np.ndarray]:
        degrees = self._degrees()
        inner = [b[None, :] >= a[:, None] for a, b in itertools.pairwise(degrees)]
        out = np.repeat(np.arange(self.features), self.outputs)
        return [*inner, out[None, :] >= degrees[-1][:, None]]

    def init(self, key: Array) -> dict[str, Any]:
        """Its parameters."""
        sizes = (self.features, *self.hidden)
        keys = jax.random.split(key, len(sizes))
        masks = self._masks()
        layers = [
            _dense(k, *pair, fan_in=mask.sum() / pair[1] + self.context * (at == 0))
            for at, (k, pair, mask) in enumerate(
                zip(keys, itertools.pairwise(sizes), masks, strict=False)
            )
        ]
        params: dict[str, Any] = {
            "layers": [*layers, _zero(sizes[-1], self.features * self.outputs)]
        }
        if self.context:
            params["context"] = _dense(keys[-1], self.context, sizes[1])["kernel"]
        return params

    def __call__(self, params: Any, x: Array, context: Array | None = None) -> Array:
        layers, masks = params["layers"], self._masks()
        for at, (layer, mask) in enumerate(zip(layers[:-1], masks, strict=False)):
            x = x @ (layer["kernel"] * mask) + layer["bias"]
            if at == 0 and context is not None:
                x = x + context.astype(x.dtype) @ params["context"]
            x = self.activation(x)
        return x @ (layers[-1]["kernel"] * masks[-1]) + layers[-1]["bias"]


@dataclasses.dataclass(frozen=True)
class ConvNet:
    """Three convolutions over images, 3x3, 1x1, 3x3, the last one of zeros at the start (Kingma and
    Dhariwal 2018).

    Args:
      inputs: channels of x, `(n, height, width, inputs)`.
      outputs: channels that it gives.
      hidden: channels in between.
      context: features of the context, the same at each pixel.
      activation: of the hidden layers.
    """

    inputs: int
    outputs: int
    hidden: int = 32
    context: int = 0
    activation: Callable[[Array], Array] = silu

    def init(self, key: Array) -> dict[str, Any]:
        """Its parameters."""
        sizes = ((3, 3, self.inputs, self.hidden), (1, 1, self.hidden, self.hidden))
        keys = jax.random.split(key, 3)
        params: dict[str, Any] = {
            "kernels": [
                math.sqrt(2 / math.prod(shape[:3])) * jax.random.normal(k, shape)
                for k, shape in zip(keys, sizes, strict=False)
            ]
            + [jnp.zeros((3, 3, self.hidden, self.outputs))],
            "biases": [jnp.zeros(n) for n in (self.hidden, self.hidden, self.outputs)],
        }
        if self.context:
            params["context"] = _dense(keys[2], self.context, self.hidden)["kernel"]
        return params

    def __call__(self, params: Any, x: Array, context: Array | None = None) -> Array:
        first, second, last = zip(params["kernels"], params["biases"], strict=True)
        x = _convolve(x, *first)
        if context is not None:
            x = x + (context.astype(x.dtype) @ params["context"])[:, None, None, :]
        x = self.activation(_convolve(self.activation(x), *second))
        return _convolve(x, *last)


def _convolve(x: Array, kernel: Array, bias: Array) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout) + bias
