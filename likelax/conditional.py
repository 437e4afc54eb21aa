"""`Conditional`: a network plus a head; inputs in, a distribution out."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from likelax._keys import stream
from likelax._pytree import Array
from likelax.distributions.base import Distribution
from likelax.heads import HeadLike
from likelax.networks import Variables, adapt


class Conditional:
    """The conditional distribution p(target | input) = head(net(input)).

    Args:
      net: a network: see `likelax.networks`.
      head: what turns its output into a distribution.
    """

    def __init__(self, net: Any, head: HeadLike):
        if not isinstance(head, HeadLike):
            raise TypeError(f"a head wanted, got {head!r}; write lx.Head(lx.Normal)")
        self.net = adapt(net)
        self.head = head

    def init(
        self, key: Array, input: Any, target: Any = None, keep: Array | None = None
    ) -> Variables:
        """Parameters `{"net": ..., "head": ...}` and the state of the network.

        Args:
          key: a random key.
          input: one batch of inputs, as `apply` takes it.
          target: what goes with them, for a head that has `initialize(params, raw, target) -> params`:
            data-dependent initialisation.
          keep: boolean, the first axes of the target: which of them count there.
        """
        params, state = self.net.init(stream(key, "net"), input)
        raw, _ = self.net.apply(params, input, key=stream(key, "dropout"), state=state, train=False)
        own = self.head.init(stream(key, "head"), raw)
        if target is not None and hasattr(self.head, "initialize"):
            own = self.head.initialize(own, *_kept((raw, jnp.asarray(target)), keep))
        return Variables({"net": params, "head": own}, state)

    def apply(
        self,
        params: Any,
        input: Any,
        *,
        key: Array | None = None,
        state: Any = (),
        train: bool = False,
    ) -> tuple[Distribution, Any]:
        """The distribution given `input`, and the next state.

        Args:
          params: as from `init`.
          input: what the network takes.
          key: for networks that draw random numbers (dropout; needed in training only), and heads
            that do, which say `takes_key = True`.
          state: as from `init` or the call before.
          train: whether dropout is on and batch statistics are updated.
        """
        raw, state = self.net.apply(params["net"], input, key=key, state=state, train=train)
        options: dict[str, Any] = {}
        if key is not None and getattr(self.head, "takes_key", False):
            options["key"] = stream(key, "head")
        return self.head(raw, params["head"], **options), state

    def merge(self, params: Any, state: Any = ()) -> Any:
        """The user's own network with these values: an NNX module (in training mode), a bound Linen
        one, or a function.
        """
        return self.net.merge(params["net"], state)


def _kept(values: Any, keep: Array | None) -> Any:
    """The rows that are kept, over and over up to the same number: shapes do not depend on the mask."""
    if keep is None:
        return values
    count, kept = keep.size, jnp.maximum(jnp.sum(keep), 1)
    order = jnp.argsort(~keep.reshape(-1), stable=True)
    rows = order[jnp.arange(count) % kept]
    return jax.tree.map(lambda v: v.reshape(count, *v.shape[keep.ndim :])[rows], values)
