"""Glow: a multiscale flow of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from likelax._checks import is_count
from likelax._pytree import Array
from likelax.bijectors import (
    PLU,
    ActNorm,
    AffineTransformer,
    Bijector,
    Chain,
    Conditioner,
    ConvNet,
    Coupling,
    Invert,
    Scan,
    Split,
    Squeeze,
)
from likelax.bijectors.transformer import Transformer, check_transformer
from likelax.distributions.base import Distribution
from likelax.flows.head import FlowHead, networks


def glow(
    event_shape: tuple[int, ...],
    *,
    levels: int = 2,
    steps: int = 4,
    hidden: int = 32,
    transformer: Transformer | None = None,
    conditioner: Callable[[int], Any] | None = None,
    context: int = 0,
    base: Distribution | None = None,
) -> FlowHead:
    """A head of images, (height, width, channels) (Kingma and Dhariwal 2018); its density is exact.

    Each level turns 2 x 2 pixels into channels (`Squeeze`) and takes `steps` steps of `ActNorm`, a 1x1
    convolution (`PLU`) and a `Coupling` by a small convolutional network. Half of the channels are
    then factored out: given the other half, they are Normal, and the next level has that other half
    (`Split`). Pixels that are whole numbers want `lx.flows.dequantize`.

    Args:
      event_shape: (height, width, channels), both sides multiples of 2^levels.
      levels: how many.
      steps: at each level.
      hidden: channels of the hidden layers of the conditioners.
      transformer: the family of the elementwise maps (default: `AffineTransformer()`).
      conditioner: makes a network of your own for so many output channels, `lambda outputs:
        functools.partial(ConvNet, outputs)`, from `(n, height, width, channels)` to `(n, height, width, outputs)`. It
        sees the context as channels behind the image's. In place of `hidden`.
      context: features that the flow is conditioned on.
      base: the base distribution (default: standard Normal).

    Raises:
      ValueError: for a shape that is no image's, sides that the levels do not divide, no level or step.
    """
    counts = levels, steps, hidden
    is_image = isinstance(event_shape, tuple | list) and len(event_shape) == 3
    if not (is_image and all(is_count(x) for x in (*event_shape, *counts))):
        raise ValueError(
            "glow: an event_shape of (height, width, channels), a level, a step and a hidden channel at "
            f"least wanted, got {event_shape!r}, {levels!r}, {steps!r} and {hidden!r}; write "
            "event_shape=(28, 28, 1)"
        )
    height, width, channels = event_shape
    if height % 2**levels or width % 2**levels:
        raise ValueError(
            f"glow: sides that are multiples of 2^levels wanted, got {height} x {width} and {levels} "
            "levels; pad the images, or take fewer levels"
        )
    chosen = check_transformer("glow", transformer or AffineTransformer())
    own = None if conditioner is None else networks(conditioner)

    def coupling(key: Array, split: int, size: int, transformer: Transformer) -> Coupling:
        outputs = (size - split) * transformer.size
        if own is not None:
            given = own(outputs).conditioner(key, (1, 1, split), context)
            return Coupling(given, transformer, split, 3)
        network = ConvNet(split, outputs, hidden, context)
        return Coupling(Conditioner(network, network.init(key)), transformer, split, 3)

    def level(key: Array, size: int, deeper: int) -> Bijector:
        """Of images of `size` channels, and those below it."""
        size *= 4
        keys = jax.random.split(key, 3)

        def step(key: Array) -> Bijector:
            mixing = ActNorm.init(size), Invert(PLU.init(size))
            return Chain((*mixing, coupling(key, size // 2, size, chosen)))

        parts: list[Bijector] = [Scan(jax.vmap(step)(jax.random.split(keys[0], steps)))]
        if deeper:
            half = size // 2
            parts.append(coupling(keys[1], half, size, AffineTransformer()))
            parts.append(Split(level(keys[2], half, deeper - 1), half))
        return Chain((Invert(Squeeze()), *parts, Squeeze()))

    def make(key: Array) -> Bijector:
        return level(key, channels, levels - 1)

    return FlowHead(make, tuple(event_shape), context=context, base=base)
