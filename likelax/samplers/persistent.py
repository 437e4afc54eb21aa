"""Chains that go on from one training step to the next: persistent ones, or a replay buffer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from likelax import _checks
from likelax._keys import check_key, stream
from likelax._mesh import divided, with_auto_axes
from likelax._pytree import Array, Node, node, static


class Drawn(NamedTuple):
    """Chains taken out of `PersistentChains`.

    Attributes:
      slot: where they belong, `(count,)`, all different.
      x: where they are, `(count, *event)`; fresh ones where a chain was restarted.
      age: steps since each was started, `(count,)`.
    """

    slot: Array
    x: Array
    age: Array


class PersistentChains(Node):
    """Many chains and their ages: a pytree, to be kept in an objective's state, checkpointed and sharded.

    ::

        chains = PersistentChains(start)                        # start (size, *event)
        drawn = chains.draw(key, 64, fresh=lambda key, n: ...)
        ...                                                     # move drawn.x by `steps` steps
        chains = chains.put(drawn, x, steps)

    With `count` equal to the size, and no restarts, these are the persistent chains of Tieleman (2008);
    with fewer and a restart probability of 0.05 the replay buffer of Du and Mordatch (2019).

    Args:
      x: where the chains start, `(size, *event)`.
      age: steps that each has taken, `(size,)` (default: 0).
      restart_prob: with which probability a chain that is drawn starts anew, in [0, 1].
    """

    x: Array = node()
    age: Array = node(default=None)
    restart_prob: float = static(default=0.0, kw_only=True)

    def _check(self) -> None:
        if jnp.ndim(self.x) < 1 or jnp.shape(self.x)[0] == 0:
            raise ValueError(
                f"PersistentChains: x has shape (size, *event) with at least one chain, got "
                f"{jnp.shape(self.x)}; write x=jax.random.normal(key, (1000, *event))"
            )
        check_restart_prob("PersistentChains", self.restart_prob)
        age = jnp.zeros(jnp.shape(self.x)[0], jnp.int32) if self.age is None else self.age
        self.__dict__.update(x=jnp.asarray(self.x), age=jnp.asarray(age))
        if self.age.shape != self.x.shape[:1]:
            raise ValueError(
                f"PersistentChains: one age for each of {self.x.shape[0]} chains wanted, got shape "
                f"{self.age.shape}; leave it out to start at 0"
            )

    @property
    def size(self) -> int:
        """How many chains there are."""
        return self.x.shape[0]

    def draw(
        self, key: Array, count: int, fresh: Callable[[Array, int], Array] | None = None
    ) -> Drawn:
        """`count` different chains; each starts anew with probability `restart_prob`.

        Args:
          key: a random key.
          count: at most the size; of all of them, in order, where it is the size.
          fresh: `(key, count) -> (count, *event)`: where a chain starts; needed for restarts.

        Raises:
          ValueError: for another count, or restarts without `fresh`.
        """
        key = check_key(key)
        if not _checks.is_count(count) or count > self.size:
            raise ValueError(
                f"PersistentChains.draw: count is a whole number from 1 to {self.size}, got {count!r}"
            )
        if self.restart_prob and fresh is None:
            raise ValueError(
                f"PersistentChains.draw: restart_prob is {self.restart_prob} and nothing says where a "
                "chain starts; write fresh=lambda key, count: jax.random.normal(key, (count, *event))"
            )
        slot, x, age = jnp.arange(self.size), self.x, self.age
        if count < self.size:
            slot = jax.random.permutation(stream(key, "slot"), slot)[:count]
            take = with_auto_axes(lambda leaf, slot: leaf[slot], divided(1, x))
            x, age = take(x, slot), take(age, slot)
        if fresh is None or not self.restart_prob:
            return Drawn(slot, x, age)
        again = jax.random.bernoulli(stream(key, "restart"), self.restart_prob, (count,))
        new = fresh(stream(key, "fresh"), count)
        _check_like(x, new, "fresh(key, count)")
        x = jnp.where(again.reshape((count,) + (1,) * (x.ndim - 1)), new.astype(x.dtype), x)
        return Drawn(slot, x, jnp.where(again, 0, age))

    def put(self, drawn: Drawn, x: Array, steps: int | Array) -> PersistentChains:
        """With these chains at x, `(count, *event)`, `steps` steps older; x is taken as it is, without a
        gradient.
        """
        _check_like(drawn.x, x, "x")
        x, age = jax.lax.stop_gradient(x).astype(self.x.dtype), drawn.age + steps
        if len(x) < self.size:
            put = with_auto_axes(lambda all, slot, new: all.at[slot].set(new), divided(1, self.x))
            x, age = put(self.x, drawn.slot, x), put(self.age, drawn.slot, age)
        return PersistentChains(x, age, restart_prob=self.restart_prob)


def _check_like(wanted: Array, x: Array, name: str) -> None:
    """Raises ValueError for chains of another shape, which would be broadcast."""
    if jnp.shape(x) != wanted.shape:
        raise ValueError(
            f"PersistentChains: {name} has one row for each chain that was drawn, shape {wanted.shape}, got "
            f"{jnp.shape(x)}"
        )


def check_restart_prob(owner: str, value: Any) -> None:
    """Raises ValueError unless this is a probability."""
    if not _checks.is_number(value) or not 0 <= value <= 1:
        raise ValueError(
            f"{owner}: restart_prob is a probability, got {value!r}; write restart_prob=0.05"
        )
