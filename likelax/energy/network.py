"""A network as an energy."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from likelax import supports
from likelax._checks import is_count
from likelax._keys import check_key, stream
from likelax._mesh import divided, with_auto_axes
from likelax._pytree import Array, is_traced, node, param, parameter_dtype, static
from likelax.energy.density import Unnormalized, as_rows, refuse_batch
from likelax.networks import Variables, adapt, called
from likelax.supports import Support


class Energy:
    """p(x) proportional to exp(-E(x) / T), with E a network or a function.

    ::

        energy = lx.energy.Energy(MLP, event_shape=2)          # x (n, 2) -> E (n,) or (n, 1)
        params, state = energy.init(jax.random.key(0), x)
        density = energy.density(params, state=state)
        density.unnormalized_log_prob(x)                       # -E(x) / T: no log_prob yet
        known = density.normalize(lx.energy.log_partition(density, key, base=..., kernel=...))
        known.log_prob(x), known.claim

    Args:
      net: a network (see `likelax.networks`), or a function of x without parameters; it makes one
        number for each value.
      event_shape: of one value.
      temperature: T, a positive number; 1 unless asked.
      support: where values lie, of one element each: `lx.supports.real` or `lx.supports.boolean`.

    Raises:
      ValueError: for a shape or a temperature that is none.
    """

    def __init__(
        self,
        net: Any,
        event_shape: int | tuple[int, ...],
        *,
        temperature: float | Array = 1.0,
        support: Support = supports.real,
    ):
        shape: Any = (event_shape,) if is_count(event_shape) else event_shape
        if not isinstance(shape, tuple) or not all(is_count(n) for n in shape):
            raise ValueError(
                f"Energy: event_shape is a whole number or a tuple of them, got {event_shape!r}; "
                "write event_shape=2, or () for single numbers"
            )
        # In NumPy, so that one can be made in code that is being traced.
        if not is_traced(temperature) and not np.all(np.asarray(temperature) > 0):
            raise ValueError(f"Energy: temperature is positive, got {temperature!r}")
        self.net = adapt(_paired(net))
        self.event_shape, self.temperature = shape, temperature
        self.support = supports.elementwise(support, len(shape)) if shape else support

    def init(self, key: Array, value: Any) -> Variables:
        """The network's parameters and state, shaped by values `(n, *event)`.

        Raises:
          ValueError: for a network that does not make one number for each value.
        """
        refuse_batch(self, value)
        x = _floats(value)
        with called("energy", x):
            params, state = self.net.init(stream(check_key(key), "net"), x)
        jax.eval_shape(self.density(params, state=state).unnormalized_log_prob, x)
        return Variables(params, state)

    def density(
        self, params: Any, *, state: Any = (), key: Array | None = None, train: bool = False
    ) -> EnergyDensity:
        """The density with these parameters: a pytree with `unnormalized_log_prob`.

        Args:
          params, state: as from `init`.
          key: for a network that draws random numbers in training: one density for one key.
          train: whether dropout is on, and batch statistics are those of the values given.
        """
        return EnergyDensity(params, state, jnp.asarray(self.temperature), self, key, train=train)

    def __getattr__(self, name: str) -> Any:
        hint = ""
        if name == "log_prob" or (name[:1] != "_" and hasattr(EnergyDensity, name)):
            hint = f"; a density has it: write energy.density(params, state=state).{name}"
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{hint}")

    def merge(self, params: Any, state: Any = ()) -> Any:
        """The user's own network with these values."""
        return self.net.merge(params, state)

    def _energies(self, out: Array, count: int) -> Array:
        """E of `count` values, from what the network makes of them."""
        if out.shape not in ((count,), (count, 1)):
            raise ValueError(
                f"Energy: one number for each of {count} values wanted, shape ({count},), the "
                f"network makes {out.shape}; write net(x).sum(-1), or a last layer of one output "
                "(logits of classes: -jax.nn.logsumexp(logits, -1))"
            )
        return out.reshape(count)


class EnergyDensity(Unnormalized):
    """What `Energy.density` makes."""

    params: Any = node()
    state: Any = node()
    temperature: Array = param(supports.positive)
    energy: Energy = static()
    key: Any = node(default=None)
    train: bool = static(default=False, kw_only=True)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.energy.event_shape)

    @property
    def support(self) -> Any:
        return self.energy.support

    def unnormalized_log_prob(self, value: ArrayLike) -> Array:
        return self._scored(value)[0]

    def _scored(self, value: ArrayLike) -> tuple[Array, Any]:
        rows, sample = as_rows(self._value(value), self.event_shape)
        out, state = self._outputs(rows)
        return -self._energies(out, len(rows)).reshape(sample) / self.temperature, state

    def _contrasted(self, data: Array, other: Array) -> tuple[Array, Array, Any]:
        # In one pass where the rows of a batch know of one another: two batches with statistics of
        # their own would be told apart by two densities.
        if not self.train or not jax.tree.leaves(self.state):
            return self.unnormalized_log_prob(data), self.unnormalized_log_prob(other), self.state
        each, state = self._scored(joined(data, other))
        return *parted(each, len(data)), state

    def _outputs(self, rows: Array) -> tuple[Array, Any]:
        """What the network makes of values `(n, *event)`, and its state."""
        with called("energy", rows):
            return self.energy.net.apply(
                self.params, rows, key=self.key, state=self.state, train=self.train
            )

    def _energies(self, out: Array, count: int) -> Array:
        """E of each value, `(n,)`."""
        return self.energy._energies(out.astype(parameter_dtype([out])), count)


def joined(first: Array, second: Array) -> Array:
    """The rows of both."""
    join = with_auto_axes(lambda a, b: jnp.concatenate([a, b]), divided(1, first, second))
    return join(first, second)


def parted(rows: Array, count: int) -> tuple[Array, Array]:
    """The first `count` rows and the others."""
    part = with_auto_axes(lambda x: (x[:count], x[count:]), divided(1, rows))
    return part(rows)


def _floats(value: ArrayLike) -> Array:
    x = jnp.asarray(value)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)


def _paired(net: Any) -> Any:
    """A function of x without parameters as a pair (init, apply)."""
    made = net.func if isinstance(net, functools.partial) else net  # a class makes networks
    plain = inspect.isroutine(made)
    if plain and "rngs" not in inspect.signature(net).parameters:
        return (lambda key, x: {}, lambda params, x: net(x))
    return net
