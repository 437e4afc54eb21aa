"""What a kernel is, and the loop over its steps."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from likelax._checks import check_known, is_count
from likelax._keys import check_key
from likelax._pytree import Array, Node, canonical
from likelax.supports import Support

LogDensity = Callable[[Array], Array]


class State(NamedTuple):
    """Where the chains are.

    Attributes:
      x: `(chains, *event)`.
      log_density: at x, `(chains,)`.
      gradient: of the log-density at x, of the shape of x.
    """

    x: Array
    log_density: Array
    gradient: Array


class Kernel(Node):
    """A Markov chain's step. A subclass writes `step`, `init` and `position` where its state is not a
    `State`, and `stays_in` where it is not for all values.

    All methods are pure, so that they can be called in `jit`, `scan` and `vmap`.
    """

    def init(self, log_density: LogDensity, x: Array) -> Any:
        """The state of chains at x, `(chains, *event)`."""
        return at(log_density, x)

    def step(self, log_density: LogDensity, key: Array, state: Any) -> tuple[Any, Array]:
        """The next state, and the probability with which each chain's move was accepted, `(chains,)`.

        Args:
          log_density: up to a constant, `(chains, *event) -> (chains,)`, in nats.
          key: a random key.
          state: as from `init` or the step before.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no step")

    def position(self, state: Any) -> Array:
        """Where the chains are, `(chains, *event)`."""
        return state.x

    def stays_in(self, support: Support) -> bool:
        """Whether moves lead from values of this support to values of it, as far as is known."""
        return True


class Chains(NamedTuple):
    """What `run` makes.

    Attributes:
      samples: `(steps // thin, chains, *event)`, in order.
      state: the kernel's state after the last step: `kernel.position(state)` is where to go on.
      acceptance: the mean probability of acceptance, `(chains,)`. It is NaN for a chain whose proposals
        had a log-density of NaN; those were rejected.
    """

    samples: Array
    state: Any
    acceptance: Array


def run(
    kernel: Any, log_density: LogDensity, key: Array, x: Any, steps: int, *, thin: int = 1
) -> Chains:
    """`steps` steps of many chains.

    Compiled once for a kernel's structure and a log-density; a method of a pytree, such as
    `model.unnormalized_log_prob`, is not compiled anew when the model's numbers change.

    Args:
      kernel: such as `HMC(0.1, 10)`.
      log_density: up to a constant, `(chains, *event) -> (chains,)`, in nats.
      key: a random key.
      x: where the chains start, `(chains, *event)`.
      steps: how many.
      thin: keep each `thin`-th state: `thin=steps` for the last one only.

    Raises:
      TypeError: for a kernel or a key that is none.
      ValueError: for zero chains, a log-density of another shape, or steps that are no multiple of
        `thin`.
    """
    check_kernel(kernel)
    if not is_count(steps) or not is_count(thin) or steps % thin:
        raise ValueError(
            f"run: steps is a whole number >= 1 and a multiple of thin, got steps={steps!r}, "
            f"thin={thin!r}; write thin=1 or thin=steps"
        )
    x = jnp.asarray(canonical(x))
    check_chains(log_density, x)
    return _run(kernel, as_pytree(log_density), check_key(key), x, steps, thin)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _run(
    kernel: Kernel, log_density: LogDensity, key: Array, x: Array, steps: int, thin: int
) -> Chains:
    def block(state: Any, first: Array) -> tuple[Any, tuple[Array, Array]]:
        state, acceptance = advance(kernel, log_density, key, state, thin, first=first)
        return state, (kernel.position(state), acceptance)

    state = kernel.init(log_density, x)
    state, (samples, acceptance) = jax.lax.scan(block, state, jnp.arange(0, steps, thin))
    return Chains(samples, state, jnp.mean(acceptance, axis=0))


def advance(
    kernel: Kernel,
    log_density: LogDensity,
    key: Array,
    state: Any,
    steps: int,
    *,
    first: Array | int = 0,
) -> tuple[Any, Array]:
    """The state `steps` steps on, and the mean probability of acceptance, `(chains,)`: for a loop, or a
    compiled function, of one's own.

    Args:
      kernel, log_density, key: as in `run`.
      state: as from `kernel.init(log_density, x)`.
      steps: how many.
      first: the number of the first step; step t draws with `fold_in(key, t)`.
    """

    def one(state: Any, t: Array) -> tuple[Any, Array]:
        return kernel.step(log_density, jax.random.fold_in(key, t), state)

    state, acceptance = jax.lax.scan(one, state, first + jnp.arange(steps))
    return state, jnp.mean(acceptance, axis=0)


def at(log_density: LogDensity, x: Array) -> State:
    """The log-density and its gradient at x; the chains do not know of one another, so that the
    gradient of the sum has that of each.
    """

    def summed(x: Array) -> tuple[Array, Array]:
        each = log_density(x)
        return jnp.sum(each), each

    gradient, each = jax.grad(summed, has_aux=True)(x)
    return State(x, each, gradient)


def accepted(key: Array, log_ratio: Array, proposed: Any, current: Any) -> tuple[Any, Array]:
    """Metropolis and Hastings: each chain moves with probability min(1, exp(log_ratio)), which is
    returned, too. A ratio of NaN is no move, and its probability stays NaN.
    """
    uniform = jax.random.uniform(key, log_ratio.shape, log_ratio.dtype)
    moves = jnp.log(uniform) < log_ratio

    def choose(new: Array, old: Array) -> Array:
        return jnp.where(over_event(moves, new), new, old)

    state = jax.tree.map(choose, proposed, current)
    return state, jnp.exp(jnp.minimum(log_ratio, 0))


def over_event(factor: Array, x: Array) -> Array:
    """A number, or one for each chain, with axes of length 1 for the event."""
    return factor.reshape(factor.shape + (1,) * (x.ndim - factor.ndim)) if factor.ndim else factor


def total(x: Array) -> Array:
    """The sum over the event, `(chains,)`."""
    return jnp.sum(x.reshape((x.shape[0], -1)), axis=-1)


def as_pytree(log_density: LogDensity) -> LogDensity:
    """The same as a pytree: the arrays of a method's owner are its leaves, not constants."""
    if isinstance(log_density, jax.tree_util.Partial):
        return log_density
    if inspect.ismethod(log_density) and isinstance(log_density.__self__, Node):
        return jax.tree_util.Partial(log_density.__func__, log_density.__self__)
    return jax.tree_util.Partial(log_density)


def check_kernel(kernel: Any) -> None:
    """Raises TypeError where this is no kernel."""
    if not isinstance(kernel, Kernel):
        raise TypeError(
            f"a kernel wanted, such as lx.samplers.HMC(0.1, 10), got {kernel!r}; one of blackjax's "
            "is lx.samplers.Blackjax(make)"
        )


def check_stays(owner: str, kernel: Kernel, support: Support) -> None:
    """Raises ValueError where moves lead out of the support."""
    if not kernel.stays_in(support):
        other = "Langevin(0.01)" if not support.is_discrete else "GibbsWithGradients() for bits"
        raise ValueError(
            f"{owner}: {type(kernel).__name__} leads out of the density's values, which are {support}; write "
            f"kernel=lx.samplers.{other}, or leave kernel out where the model has sweeps of its own"
        )


def check_chains(log_density: LogDensity, x: Array) -> None:
    """Raises unless x has chains on its first axis and the log-density one number for each."""
    if x.ndim < 1 or x.shape[0] == 0:
        raise ValueError(
            f"x has shape (chains, *event) with at least one chain, got {x.shape}; write x[None] for "
            "one chain"
        )
    shape = jax.eval_shape(log_density, x).shape
    if shape != x.shape[:1]:
        raise ValueError(
            f"a log-density takes x of shape (chains, *event) to (chains,): {x.shape} to "
            f"{x.shape[:1]}, got {shape}; write jax.vmap(log_density) for that of a single value"
        )


def check_positive(owner: str, name: str, value: Array) -> None:
    """Raises ValueError where a known number is not positive."""
    check_known(value > 0, value, f"{owner}: {name} is positive; at {{index}} it is {{value}}")
