"""Ordinary differential equations, solved by diffrax, and the divergence of a vector field."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from likelax._checks import is_count, is_number
from likelax._extras import require
from likelax._pytree import Array

Probe = Literal["rademacher", "gaussian"]

# Random vectors of covariance 1.
_PROBES: dict[str, Callable[..., Array]] = {
    "rademacher": jax.random.rademacher,
    "gaussian": jax.random.normal,
}


@dataclasses.dataclass(frozen=True)
class Solver:
    """How a differential equation is solved, by diffrax.

    Args:
      rtol, atol: tolerances, for the whole state together.
      solver: of diffrax, one with an error estimate (None: `diffrax.Tsit5()`).
      adjoint: of diffrax (None: `diffrax.RecursiveCheckpointAdjoint()`).
      max_steps: of one solve.

    Raises:
      ValueError: for tolerances or a number of steps that are none.
      TypeError: for a solver or an adjoint that is none of diffrax.
    """

    rtol: Any = 1e-5
    atol: Any = 1e-5
    solver: Any = None
    adjoint: Any = None
    max_steps: Any = 4096

    def __post_init__(self) -> None:
        tolerances = self.rtol, self.atol
        if not all(is_number(tol) and tol >= 0 for tol in tolerances) or not any(tolerances):
            raise ValueError(
                f"rtol and atol are at least 0, one of them positive, got {self.rtol!r} and "
                f"{self.atol!r}; write rtol=1e-5, atol=1e-5"
            )
        for name, example in (("solver", "Tsit5"), ("adjoint", "DirectAdjoint")):
            if isinstance(getattr(self, name), str | type):
                raise TypeError(
                    f"{name} is an object of diffrax, got {getattr(self, name)!r}; write "
                    f"{name}=diffrax.{example}()"
                )
        if not is_count(self.max_steps):
            raise ValueError(
                f"max_steps is a whole number >= 1, got {self.max_steps!r}; write max_steps=4096"
            )

    def __hash__(self) -> int:
        # Adjoints of diffrax compare by value, and some have no hash.
        return hash((self.rtol, self.atol, type(self.solver), type(self.adjoint), self.max_steps))

    def __call__(
        self, field: Callable[..., Any], state: Any, args: Any, start: float, end: float
    ) -> tuple[Any, Array]:
        """The state at `end`, of d state/dt = field(t, state, args), and whether it was reached."""
        diffrax = require("diffrax", "ode")
        # Adjoints of diffrax trip over empty tuples, as the state of a network without one is.
        leaves, tree = jax.tree.flatten(args)

        def flat(t: Any, state: Any, leaves: list[Any]) -> Any:
            return field(t, state, jax.tree.unflatten(tree, leaves))

        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(flat),
            self.solver or diffrax.Tsit5(),
            t0=start,
            t1=end,
            dt0=None,
            y0=state,
            args=leaves,
            stepsize_controller=diffrax.PIDController(rtol=self.rtol, atol=self.atol),
            adjoint=self.adjoint or diffrax.RecursiveCheckpointAdjoint(),
            max_steps=self.max_steps,
            throw=False,
        )
        reached = solution.result == diffrax.RESULTS.successful
        return jax.tree.map(lambda leaf: leaf[0], solution.ys), reached


@dataclasses.dataclass(frozen=True)
class Divergence:
    """tr(df/dx) as the sum of e' (df/dx) e over unit vectors e, or as the mean of the same over random
    ones of covariance 1 (Hutchinson 1990; Grathwohl et al. 2019, FFJORD).

    Args:
      owner: whom errors name.
      num_probes: how many random vectors; None for the exact trace.
      probe: how they are drawn.

    Raises:
      ValueError: for a number or a kind that is none.
    """

    owner: str
    num_probes: int | None = None
    probe: Probe = "rademacher"

    def __post_init__(self) -> None:
        if self.num_probes is not None and not is_count(self.num_probes):
            raise ValueError(
                f"{self.owner}: num_probes is a whole number >= 1, got {self.num_probes!r}; leave it "
                "out for the exact trace"
            )
        if self.probe not in _PROBES:
            raise ValueError(f"{self.owner}: probe is one of {sorted(_PROBES)}, got {self.probe!r}")

    def directions(self, key: Array | None, x: Array) -> Array:
        """The vectors e, `(count, *event)`; the key is None for unit vectors."""
        if self.num_probes is None:
            return jnp.eye(x.size, dtype=x.dtype).reshape(x.size, *x.shape)
        return _PROBES[self.probe](key, (self.num_probes, *x.shape), x.dtype)

    def __call__(
        self, field: Callable[[Array], Array], x: Array, directions: Array
    ) -> tuple[Array, Array]:
        """f(x), and an estimate of the divergence for each random vector, or the exact one: `(count,)`
        or `(1,)`; their mean is the divergence.
        """

        def pushed(e: Array) -> tuple[Array, Array]:
            return jax.jvp(field, (x,), (e,))

        velocity, changes = jax.vmap(pushed, out_axes=(None, 0))(directions)
        traces = jnp.sum(directions * changes, axis=tuple(range(1, directions.ndim)))
        exact = self.num_probes is None
        return velocity, jnp.sum(traces, keepdims=True) if exact else traces
