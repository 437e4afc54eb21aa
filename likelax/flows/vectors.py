"""Ready-made flows of vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from likelax._checks import is_count
from likelax._pytree import Array
from likelax.bijectors import (
    MADE,
    MLP,
    PLU,
    ActNorm,
    AffineTransformer,
    Bijector,
    Chain,
    Conditioner,
    Coupling,
    Invert,
    MaskedAutoregressive,
    Permute,
    Scan,
    SplineTransformer,
)
from likelax.bijectors.transformer import Transformer, check_transformer
from likelax.distributions.base import Distribution
from likelax.flows.head import FlowHead, networks


def coupling_flow(
    event_shape: int | tuple[int, ...],
    *,
    layers: int = 8,
    transformer: Transformer | None = None,
    hidden: tuple[int, ...] = (64, 64),
    conditioner: Callable[[int], Any] | None = None,
    context: int = 0,
    base: Distribution | None = None,
) -> FlowHead:
    """A head of coupling layers, affine ones by default: real NVP (Dinh et al. 2017) with the linear maps
    of Glow between its layers.

    A layer is an `ActNorm`, a `PLU` matrix that starts by turning the coordinates round by one half, and
    a `Coupling` of the second half given the first. The flow starts, up to scale and order, at the
    identity.

    ::

        model = lx.Likelihood(None, lx.flows.coupling_flow(2))
        model = lx.Likelihood(net, lx.flows.coupling_flow(2, context=16))  # p(y | net(x))

    Args:
      event_shape: the length D of the vectors, or `(D,)`. A vector of one entry has no first half:
        it is mapped given the context alone, and without one by maps whose numbers are parameters
        themselves. Splines then are a density of any shape, affine maps a Normal.
      layers: how many.
      transformer: the family of the elementwise maps (default: `AffineTransformer()`).
      hidden: widths of the hidden layers of each conditioner.
      conditioner: makes a network of your own for so many outputs, in place of `hidden`:
        `lambda outputs: functools.partial(MLP, outputs)`, whose layers start each elsewhere, or
        `lambda outputs: MLP(outputs, rngs=rngs)`. It sees the first half of the vector, and the context
        behind it.
      context: features that the flow is conditioned on.
      base: the base distribution (default: standard Normal).

    Raises:
      ValueError: for a shape that is no vector's, or no layer.
    """
    size = _length("coupling_flow", event_shape, layers, hidden)
    if conditioner is not None and not callable(conditioner):
        raise TypeError(
            f"coupling_flow: conditioner makes a network of so many outputs, got {conditioner!r}; write "
            "conditioner=lambda outputs: functools.partial(MLP, outputs)"
        )
    split = size // 2
    chosen = check_transformer("coupling_flow", transformer or AffineTransformer())
    outputs = (size - split) * chosen.size
    own = None if conditioner is None else networks(conditioner)

    def make(key: Array) -> Conditioner:
        if own is not None:
            return own(outputs).conditioner(key, (split,), context)
        # Layers that see nothing would never move: their outputs are parameters themselves.
        network = MLP(split, outputs, hidden if split + context else (), context)
        return Conditioner(network, network.init(key))

    def layer(key: Array) -> Bijector:
        # Inverted: the density then costs a product, and the sample a solve.
        mixing = ActNorm.init(size), Invert(PLU.init(size))
        return Chain((*mixing, Coupling(make(key), chosen, split)))

    return FlowHead(_stack(layer, layers), size, context=context, base=base)


def neural_spline_flow(
    event_shape: int | tuple[int, ...],
    *,
    layers: int = 4,
    bins: int = 8,
    bound: float = 4.0,
    hidden: tuple[int, ...] = (64, 64),
    conditioner: Callable[[int], Any] | None = None,
    context: int = 0,
    base: Distribution | None = None,
) -> FlowHead:
    """A head of coupling layers with rational-quadratic splines (Durkan et al. 2019): `coupling_flow` with
    `SplineTransformer(bins, bound)`.

    Args:
      bins: pieces of each spline.
      bound: splines are on [-bound, bound], and the identity beyond.
      event_shape, layers, hidden, conditioner, context, base: as for `coupling_flow`.
    """
    return coupling_flow(
        event_shape,
        layers=layers,
        transformer=SplineTransformer(bins, bound),
        hidden=hidden,
        conditioner=conditioner,
        context=context,
        base=base,
    )


def masked_autoregressive_flow(
    event_shape: int | tuple[int, ...],
    *,
    layers: int = 4,
    transformer: Transformer | None = None,
    hidden: tuple[int, ...] = (64, 64),
    context: int = 0,
    base: Distribution | None = None,
) -> FlowHead:
    """A head of masked autoregressive layers (Papamakarios et al. 2017): a density costs one pass through
    each layer, a sample one for each coordinate.

    A layer is an `ActNorm`, a turn of the coordinates' order, and a `MaskedAutoregressive` map by a
    `MADE`.

    Args:
      event_shape: the length D of the vectors, or `(D,)`.
      layers: how many.
      transformer: the family of the elementwise maps (default: `AffineTransformer()`).
      hidden: widths of the hidden layers of each MADE.
      context: features that the flow is conditioned on.
      base: the base distribution (default: standard Normal).

    Raises:
      ValueError: for a shape that is no vector's, or no layer.
    """
    size = _length("masked_autoregressive_flow", event_shape, layers, hidden)
    chosen = check_transformer("masked_autoregressive_flow", transformer or AffineTransformer())
    network = MADE(size, chosen.size, hidden, context)

    def layer(key: Array) -> Bijector:
        given = MaskedAutoregressive(Conditioner(network, network.init(key)), chosen)
        return Chain((ActNorm.init(size), Permute(range(size)[::-1]), given))

    return FlowHead(_stack(layer, layers), size, context=context, base=base)


def _stack(layer: Callable[[Array], Bijector], count: int) -> Callable[[Array], Bijector]:
    """From a key to `count` layers."""
    return lambda key: Scan(jax.vmap(layer)(jax.random.split(key, count)))


def _length(owner: str, event_shape: Any, layers: int, hidden: tuple[int, ...]) -> int:
    shape = event_shape if isinstance(event_shape, tuple | list) else (event_shape,)
    if len(shape) != 1 or not is_count(shape[0]):
        raise ValueError(
            f"{owner}: vectors wanted, got event_shape={event_shape!r}; for numbers write "
            "event_shape=1 and target[:, None], for images lx.flows.glow"
        )
    if not is_count(layers):
        raise ValueError(f"{owner}: at least one layer wanted, got {layers!r}; write layers=4")
    if not (isinstance(hidden, tuple | list) and all(is_count(width) for width in hidden)):
        raise ValueError(
            f"{owner}: hidden is the widths of the hidden layers, got {hidden!r}; write hidden=(64, 64)"
        )
    return int(shape[0])
