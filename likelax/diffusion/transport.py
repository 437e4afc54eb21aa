"""Along the probability-flow equation of a trained model, from noise to data and back:

dz/dt = alpha' x_hat(z, t) + sigma' e_hat(z, t)    (Song et al. 2021, eq. 13).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp

from likelax._mesh import divided, with_auto_axes
from likelax._ode import Solver
from likelax._pytree import Array
from likelax.diffusion.consistency import ConsistencyTraining
from likelax.diffusion.model import DiffusionModel
from likelax.numerics.logspace import nan_unless


def check_flow(model: Any, owner: str) -> None:
    """Raises TypeError for a model of which no velocity follows."""
    if isinstance(model, DiffusionModel) and not isinstance(model, ConsistencyTraining):
        return
    raise TypeError(
        f"{owner}: a model of lx.diffusion wanted, one of means, got {type(model).__name__}; write "
        'lx.diffusion.Denoising(process, net, "v")'
    )


@dataclasses.dataclass(frozen=True)
class Flow:
    """The probability-flow equation of a model, of one example."""

    model: DiffusionModel
    solver: Solver

    def velocity(self, t: Any, z: Array, input: Any, params: Any, state: Any) -> Array:
        """dz/dt, of the shape of z; no term has a division by alpha or sigma beyond the network's own."""
        level = self.model.process_of(params).at(jnp.asarray(t, z.dtype))
        given = jax.tree.map(lambda leaf: leaf[None], input)
        found = self.model.denoiser(params, input=given, state=state)(z[None], level)
        return (level.alpha_rate * found.data + level.sigma_rate * found.noise)[0]

    def solved(self, field: Any, state: Any, args: Any, start: float, end: float) -> Any:
        """The solution; NaN where z is not finite, or the end was not reached."""
        finite = jnp.all(jnp.isfinite(state[0]))
        safe = (jnp.where(finite, state[0], 0), *state[1:])
        out, reached = self.solver(field, safe, args, start, end)
        return tuple(nan_unless(finite & reached, leaf) for leaf in out)


def transport(
    model: DiffusionModel,
    params: Any,
    z: Array,
    *,
    to: Literal["data", "noise"],
    input: Any = None,
    state: Any = (),
    rtol: float = 1e-5,
    atol: float = 1e-5,
    solver: Any = None,
    adjoint: Any = None,
    max_steps: int = 4096,
) -> Array:
    """z at the other end of the process, along the probability-flow equation; it needs diffrax.

    Args:
      model, params, state: as for `lx.diffusion.ode_log_prob`.
      z: at the end with the noise (a draw of the process's `prior`, say) to go to the data, or the
        other way round, `(batch, *event)`, in the model's own units.
      to: which end is wanted.
      input: of a conditional model, one for each z.
      rtol, atol, solver, adjoint, max_steps: as for `lx.diffusion.ODELikelihood`.

    Raises:
      TypeError: for a model that has no such equation, as `ConsistencyTraining`.
      ValueError: for another end.
    """
    check_flow(model, "transport")
    if to not in ("data", "noise"):
        raise ValueError(f'transport: to is "data" or "noise", got {to!r}')
    solver = Solver(rtol, atol, solver, adjoint, max_steps)
    return _transported(model, solver, to == "data", params, jnp.asarray(z), input, state)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _transported(
    model: DiffusionModel,
    solver: Solver,
    to_data: bool,
    params: Any,
    z: Array,
    input: Any,
    state: Any,
) -> Array:
    flow, data_at = Flow(model, solver), float(model.process.data_at)
    ends = (1 - data_at, data_at) if to_data else (data_at, 1 - data_at)

    def one(z: Array, input: Any, params: Any, state: Any) -> Array:
        def field(t: Any, at: tuple[Array], args: Any) -> tuple[Array]:
            return (flow.velocity(t, at[0], *args),)

        return flow.solved(field, (z,), (input, params, state), *ends)[0]

    return by_rows(one, z, input, params, state)


def by_rows(function: Any, *args: Any) -> Any:
    """`function` of each row of all arguments but the last two."""
    rows = with_auto_axes(
        jax.vmap(function, in_axes=(*(0,) * (len(args) - 2), None, None)),
        divided(1, *jax.tree.leaves(args[:-2])),
    )
    return rows(*args)
