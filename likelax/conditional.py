"""`Conditional`: a network plus a head; inputs in, a distribution out."""

from __future__ import annotations

from typing import Any

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

    def init(self, key: Array, input: Any) -> Variables:
        """Parameters `{"net": ..., "head": ...}` and the state of the network.

        Args:
          key: a random key.
          input: one batch of inputs, as `apply` takes it.
        """
        params, state = self.net.init(stream(key, "net"), input)
        raw, _ = self.net.apply(params, input, key=stream(key, "dropout"), state=state, train=False)
        return Variables({"net": params, "head": self.head.init(stream(key, "head"), raw)}, state)

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
