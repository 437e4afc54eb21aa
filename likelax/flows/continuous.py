"""Continuous normalising flows: the map is the solution of an ordinary differential equation.

dx/dt = f(x, t) carries x from the base distribution at t = 0 to the data at t = 1, and the
log-density along the way changes by the divergence of f (Chen et al. 2018, theorem 1):

    log p_1(x(1)) = log p_0(x(0)) - integral_0^1 tr(df/dx)(x(t), t) dt.

The trace is a sum over unit vectors, e' (df/dx) e, or, in many dimensions, the mean of the same over
random vectors of covariance 1 (Hutchinson 1990; Grathwohl et al. 2019, FFJORD).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from likelax._checks import is_count
from likelax._keys import check_key, stream
from likelax._ode import Divergence, Probe, Solver
from likelax._pytree import Array, parameter_dtype
from likelax.distributions.base import Distribution
from likelax.distributions.normal import Normal
from likelax.distributions.transformed import Transformed
from likelax.flows._ode import Dynamics, ODEMap, folded_keys
from likelax.flows.head import shape_of_event
from likelax.networks import adapt, called
from likelax.objective import Claim


class ContinuousFlow:
    """A head whose distribution is a continuous normalising flow; it needs diffrax.

    ::

        class Field(nnx.Module):                       # x (n, 2), t (n,) -> dx/dt (n, 2)
            def __call__(self, x, t): ...

        flow = lx.flows.ContinuousFlow(Field, event_shape=2)
        model = lx.Likelihood(None, flow)              # with a context: lx.Likelihood(net, flow)

    Each example is solved by itself, with steps of its own, so that a loss does not depend on what
    else is in the batch. Samples solve from t = 0 (base) to t = 1 (data), `log_prob` backwards.

    With `num_probes` the log-determinant is an estimate: random vectors are drawn once for a solve and
    kept along it, so that the equation stays smooth and the estimate's mean is the log-determinant.
    They come from the key of the objective, or of `model.predict(params, input, key=key)`.

    A solve that takes more than `max_steps` has NaN as its result.

    Args:
      vector_field: a network (see `likelax.networks`) without batch statistics, called as f(x, t), or
        f(x, t, context) with `context` features: x `(n, *event)`, t `(n,)`, context `(n, context)`,
        for an n of the library's choice, `-> (n, *event)`. Dropout is off.
      event_shape: of one value.
      context: how many features of the context the field takes; they are what the network of the
        `Likelihood` puts out.
      base: the distribution at t = 0, over all real values of the event's shape (default: standard
        Normal).
      num_probes: None for the exact trace, which takes as many products with the Jacobian as the event
        has entries; else the number of random vectors.
      probe: how those are drawn. The variance of "rademacher" (entries of +1 and -1) is the smaller.
      rtol, atol: tolerances of the solver, for the state and the log-determinant together.
      solver: of diffrax, one with an error estimate (default: `diffrax.Tsit5()`).
      adjoint: of diffrax: how gradients are computed (default: `diffrax.RecursiveCheckpointAdjoint()`,
        through the solver's steps; `diffrax.BacksolveAdjoint()` takes constant memory and is less
        accurate; `diffrax.DirectAdjoint()` has forward-mode and higher derivatives).
      max_steps: of one solve.

    Attributes:
      size: `context`.
      claim: exact, or an estimate, up to the solver's tolerance.

    Raises:
      ValueError: for numbers or a base that do not fit.
    """

    def __init__(
        self,
        vector_field: Any,
        event_shape: int | tuple[int, ...],
        *,
        context: int = 0,
        base: Distribution | None = None,
        num_probes: int | None = None,
        probe: Probe = "rademacher",
        rtol: float = 1e-5,
        atol: float = 1e-5,
        solver: Any = None,
        adjoint: Any = None,
        max_steps: int = 4096,
    ):
        self.event_shape = shape_of_event("ContinuousFlow", event_shape)
        if vector_field is None:
            raise TypeError(
                "ContinuousFlow: a vector field is a network f(x, t) with the shape of x, got None"
            )
        if base is not None and not isinstance(base, Distribution):
            raise TypeError(
                f"ContinuousFlow: a base is a Distribution, got {base!r}; write "
                f"base=lx.Normal(jnp.zeros({self.event_shape}), 1.0).to_event({len(self.event_shape)})"
            )
        if base is not None and (base.event_shape != self.event_shape or base.batch_shape):
            raise ValueError(
                f"ContinuousFlow: the base has event shape {self.event_shape} and no batch, got "
                f"event {base.event_shape} and batch {base.batch_shape}; write base.to_event()"
            )
        if base is not None and not base.support.is_everything:
            raise ValueError(
                f"ContinuousFlow: the base takes all real values, those of {type(base).__name__} are "
                f"{base.support}; transform it first: lx.Transformed(base, bijector)"
            )
        if not (context == 0 or is_count(context)):
            raise ValueError(
                f"ContinuousFlow: context is a number of features, 0 for none, got {context!r}; write "
                "context=16"
            )
        self.size, self.base = context, base
        self.dynamics = Dynamics(
            adapt(vector_field),
            self.event_shape,
            Divergence("ContinuousFlow", num_probes, probe),
            Solver(rtol, atol, solver, adjoint, max_steps),
        )
        relation: Any = "exact" if num_probes is None else "estimate"
        vanishes = "ode tolerance" if num_probes is None else "num_probes and ode tolerance"
        self.claim = Claim(relation, True, vanishes=vanishes)

    def init(self, key: Array, features: Any) -> Any:
        """The vector field's parameters; `features` is `(*batch, size)`."""
        dtype = self._context(features).dtype
        parts = self.dynamics.arguments(
            jnp.zeros(self.event_shape, dtype), jnp.zeros((), dtype), jnp.zeros(self.size, dtype)
        )
        with called("vector field", parts):
            params, state = self.dynamics.net.init(stream(key, "vector_field"), parts)
        if jax.tree.leaves(state):
            raise ValueError(
                "ContinuousFlow: a vector field has no state (batch statistics, say): it is not one "
                "function of x and t; use a network without it"
            )
        with called("vector field", parts):
            out, _ = jax.eval_shape(self.dynamics.call, params, parts)
        if out.shape != (1, *self.event_shape):
            raise ValueError(
                f"ContinuousFlow: the vector field makes shape {out.shape} of x of shape "
                f"{(1, *self.event_shape)}, and it is dx/dt; give its last layer as many outputs as x"
            )
        return params

    def __call__(self, raw: Array, params: Any = None, *, key: Array | None = None) -> Transformed:
        """The flow, `(*batch, size) -> batch_shape == batch`.

        Args:
          raw: the context.
          params: as from `init`.
          key: what random vectors are drawn from, if there are any; `log_prob` then needs it.
        """
        context = self._context(raw)
        if params is None:
            raise ValueError(f"{self!r} has parameters; write head(raw, head.init(key, raw))")
        keys = None
        if key is not None and self.dynamics.divergence.num_probes is not None:
            keys = folded_keys(_typed(key), context.shape[:-1])
        base = self.base
        if base is None:
            normal = Normal(jnp.zeros(self.event_shape, context.dtype), jnp.asarray(1.0))
            base = normal.to_event(len(self.event_shape))
        return Transformed(base, ODEMap(self.dynamics, params, context, keys))

    @property
    def takes_key(self) -> bool:
        """Whether the call draws random numbers."""
        return self.dynamics.divergence.num_probes is not None

    def _context(self, raw: Any) -> Array:
        if raw.ndim < 1 or raw.shape[-1] != self.size:
            raise ValueError(
                f"{self!r} reads {self.size} features on the last axis, the network puts out shape "
                f"{raw.shape}; write ContinuousFlow(..., context={raw.shape[-1] if raw.ndim else 1})"
            )
        return jnp.asarray(raw).astype(parameter_dtype([raw]))

    def __repr__(self) -> str:
        probes = self.dynamics.divergence.num_probes
        return (
            f"ContinuousFlow(event_shape={self.event_shape}"
            + (f", context={self.size}" if self.size else "")
            + (f", num_probes={probes})" if probes else ")")
        )


def _typed(key: Array) -> Array:
    """A typed key, one leaf without axes of its own."""
    key = check_key(key)
    return key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)
