"""Continuous normalising flows: the map is the solution of an ordinary differential equation.

dx/dt = f(x, t) carries x from the base distribution at t = 0 to the data at t = 1, and the
log-density along the way changes by the divergence of f (Chen et al. 2018, theorem 1):

    log p_1(x(1)) = log p_0(x(0)) - integral_0^1 tr(df/dx)(x(t), t) dt.

The trace is a sum over unit vectors, e' (df/dx) e, or, in many dimensions, the mean of the same over
random vectors of covariance 1 (Hutchinson 1990; Grathwohl et al. 2019, FFJORD).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._checks import is_count
from likelax._extras import require
from likelax._keys import check_key, stream
from likelax._pytree import Array, _made, node, parameter_dtype, static
from likelax.bijectors import Bijector
from likelax.distributions.base import Distribution
from likelax.distributions.normal import Normal
from likelax.distributions.transformed import Transformed
from likelax.networks import Arguments, adapt
from likelax.objective import Claim

Probe = Literal["rademacher", "gaussian"]


class ContinuousFlow:
    """A head whose distribution is a continuous normalising flow; it needs diffrax.

    ::

        class Field(nnx.Module):                       # x (n, 2), t (n,) -> dx/dt (n, 2)
            def __call__(self, x, t): ...

        flow = lx.flows.ContinuousFlow(functools.partial(Field), event_shape=2)
        model = lx.Likelihood(None, flow)              # lx.Likelihood(net, flow) with context=net's size

    Each example is solved by itself, with steps of its own, so that a loss does not depend on what
    else is in the batch. Samples solve from t = 0 (base) to t = 1 (data), `log_prob` backwards.

    With `num_probes` the log-determinant is an unbiased estimate: random vectors are drawn once for a
    solve and kept along it, so that it is the exact log-determinant's mean and the ODE is smooth.
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
        self.event_shape = (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)
        if not is_count(math.prod(self.event_shape)):
            raise ValueError(f"ContinuousFlow: an event has entries, got shape {event_shape}")
        if base is not None and (base.event_shape != self.event_shape or base.batch_shape):
            raise ValueError(
                f"ContinuousFlow: the base has event shape {self.event_shape} and no batch, got "
                f"event {base.event_shape} and batch {base.batch_shape}; write base.to_event()"
            )
        if num_probes is not None and not is_count(num_probes):
            raise ValueError(
                f"ContinuousFlow: num_probes is a whole number >= 1, got {num_probes!r}; leave it out "
                "for the exact trace"
            )
        if probe not in _PROBES:
            raise ValueError(f"ContinuousFlow: probe is one of {sorted(_PROBES)}, got {probe!r}")
        self.size, self.base = context, base
        self.dynamics = _Dynamics(
            adapt(vector_field),
            self.event_shape,
            num_probes,
            _PROBES[probe],
            _Solver(rtol, atol, solver, adjoint, max_steps),
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
        params, state = self.dynamics.net.init(stream(key, "vector_field"), parts)
        if jax.tree.leaves(state):
            raise ValueError(
                "ContinuousFlow: a vector field has no state (batch statistics, say): it is not one "
                "function of x and t; use a network without it"
            )
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
        if key is not None and self.dynamics.num_probes is not None:
            keys = _folded(_typed(key), context.shape[:-1])
        base = self.base
        if base is None:
            normal = Normal(jnp.zeros(self.event_shape, context.dtype), jnp.asarray(1.0))
            base = normal.to_event(len(self.event_shape))
        return Transformed(base, ODEMap(self.dynamics, params, context, keys))

    @property
    def takes_key(self) -> bool:
        """Whether the call draws random numbers."""
        return self.dynamics.num_probes is not None

    def _context(self, raw: Any) -> Array:
        if raw.ndim < 1 or raw.shape[-1] != self.size:
            raise ValueError(
                f"{self!r} reads {self.size} features on the last axis, the network puts out shape "
                f"{raw.shape}; write ContinuousFlow(..., context={raw.shape[-1:] or 1})"
            )
        return jnp.asarray(raw).astype(parameter_dtype([raw]))

    def __repr__(self) -> str:
        probes = self.dynamics.num_probes
        return (
            f"ContinuousFlow(event_shape={self.event_shape}"
            + (f", context={self.size}" if self.size else "")
            + (f", num_probes={probes})" if probes else ")")
        )


class ODEMap(Bijector):
    """The map x(0) -> x(1) along dx/dt = f(x, t), with its log-determinant.

    Args:
      dynamics: f and how it is solved.
      params: f's parameters; leading axes beyond a leaf's own are batch axes.
      context: features, `(*batch, size)`.
      key: of random vectors, `(*batch,)` typed keys, or None.
      core_ndims: how many axes are each parameter's own (default: all).
    """

    dynamics: _Dynamics = static()
    params: Any = node()
    context: Array = node()
    key: Any = node(default=None)
    core_ndims: tuple[int, ...] | None = static(default=None)

    def _align(self, values: dict[str, Any]) -> dict[str, Any]:
        leaves, tree = jax.tree.flatten(jax.tree.map(jnp.asarray, values["params"]))
        core = tuple(leaf.ndim for leaf in leaves)
        rank = values["context"].ndim - 1
        params = [leaf.reshape((1,) * rank + leaf.shape) for leaf in leaves]
        return {**values, "params": jax.tree.unflatten(tree, params), "core_ndims": core}

    @property
    def _params_batch(self) -> tuple[int, ...]:
        """The batch axes of the parameters alone."""
        leaves = zip(jax.tree.leaves(self.params), self.core_ndims or (), strict=True)
        return jnp.broadcast_shapes(*[leaf.shape[: leaf.ndim - core] for leaf, core in leaves])

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """What the batch axes of parameters and context broadcast to."""
        return jnp.broadcast_shapes(self._params_batch, self.context.shape[:-1])

    @property
    def domain(self) -> Any:
        """All real values of the event's shape."""
        return supports.elementwise(supports.real, len(self.dynamics.event_shape))

    @property
    def codomain(self) -> Any:
        """As the domain."""
        return self.domain

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        event = self.dynamics.event_shape
        if shape[len(shape) - len(event) :] != event:
            raise ValueError(f"ODEMap maps values of shape {event}, got shape {shape}")
        return shape

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.forward_shape(shape)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        return self._mapped(self.dynamics.flow, x, 0.0, 1.0)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        return self._mapped(self.dynamics.flow, y, 1.0, 0.0)

    def forward(self, x: Array) -> Array:
        return self._mapped(self.dynamics.transport, x, 0.0, 1.0)

    def inverse(self, y: Array) -> Array:
        return self._mapped(self.dynamics.transport, y, 1.0, 0.0)

    def _map(self, function: Callable[[Array], Array]) -> ODEMap:
        # Parameters that the batch shares stay shared: a copy for each element could fill the memory.
        context = function(self.context)
        rank = context.ndim - 1
        shared = math.prod(self._params_batch) == 1

        def moved(leaf: Array, core: int) -> Array:
            own = leaf.shape[leaf.ndim - core :]
            return leaf.reshape((1,) * rank + own) if shared else function(leaf)

        leaves, tree = jax.tree.flatten(self.params)
        pairs = zip(leaves, self.core_ndims or (), strict=True)
        fields = {
            "params": jax.tree.unflatten(tree, [moved(*pair) for pair in pairs]),
            "context": context,
            "key": None if self.key is None else function(self.key),
        }
        return _made(type(self), {**self.__dict__, **fields})

    def _mapped(self, solve: Callable[..., Any], x: Array, start: float, end: float) -> Any:
        """`solve` of each element of x, `(*sample, *batch, *event)`."""
        event = self.dynamics.event_shape
        lead = jnp.broadcast_shapes(x.shape[: x.ndim - len(event)], self.batch_shape)
        shared = math.prod(self._params_batch) == 1
        leaves, tree = jax.tree.flatten(self.params)
        owns = [
            leaf.shape[leaf.ndim - core :]
            for leaf, core in zip(leaves, self.core_ndims or (), strict=True)
        ]
        params = [
            leaf.reshape(own) if shared else jnp.broadcast_to(leaf, lead + own)
            for leaf, own in zip(leaves, owns, strict=True)
        ]
        key = self._keys(lead) if self.key is not None else None

        def one(params: Any, context: Array, key: Array | None, x: Array) -> Any:
            return solve(jax.tree.unflatten(tree, params), context, key, x, start, end)

        axes = (None if shared else 0, 0, None if key is None else 0, 0)
        for _ in lead:
            one = jax.vmap(one, in_axes=axes)
        context = jnp.broadcast_to(self.context, lead + self.context.shape[-1:])
        return one(params, context, key, jnp.broadcast_to(x, lead + event))

    def _keys(self, lead: tuple[int, ...]) -> Array:
        """A key for each element; those of samples come from their numbers."""
        batch = self.batch_shape
        sample = lead[: len(lead) - len(batch)]
        keys = jnp.broadcast_to(self.key, batch)
        folded = _folded
        for _ in batch:
            folded = jax.vmap(folded, in_axes=(0, None), out_axes=len(sample))
        return folded(keys, sample)


@dataclasses.dataclass(frozen=True, eq=False)
class _Solver:
    """How a differential equation is solved, by diffrax."""

    rtol: float
    atol: float
    solver: Any
    adjoint: Any
    max_steps: int

    def __call__(
        self, field: Callable[..., Any], state: Any, args: Any, start: float, end: float
    ) -> tuple[Any, Array]:
        """The state at `end`, of d state/dt = field(t, state, args), and whether it was reached."""
        diffrax = require("diffrax", "ode")
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            self.solver or diffrax.Tsit5(),
            t0=start,
            t1=end,
            dt0=None,
            y0=state,
            args=args,
            stepsize_controller=diffrax.PIDController(rtol=self.rtol, atol=self.atol),
            adjoint=self.adjoint or diffrax.RecursiveCheckpointAdjoint(),
            max_steps=self.max_steps,
            throw=False,
        )
        reached = solution.result == diffrax.RESULTS.successful
        return jax.tree.map(lambda leaf: leaf[0], solution.ys), reached


@dataclasses.dataclass(frozen=True, eq=False)
class _Dynamics:
    """A vector field and its divergence, of one example; hashed by identity."""

    net: Any
    event_shape: tuple[int, ...]
    num_probes: int | None
    draw: Callable[..., Array]
    solver: _Solver

    def arguments(self, x: Array, t: Array, context: Array) -> Arguments:
        """What the network is called with: one example."""
        parts = (x[None], t[None])
        return Arguments((*parts, context[None]) if context.size else parts)

    def call(self, params: Any, parts: Arguments) -> tuple[Array, Any]:
        """The network, without dropout."""
        return self.net.apply(params, parts, key=None, state=(), train=False)

    def velocity(self, t: Array, x: Array, args: Any) -> Array:
        """dx/dt."""
        params, context = args[:2]
        out, _ = self.call(params, self.arguments(x, jnp.asarray(t, x.dtype), context))
        return out[0].astype(x.dtype)

    def with_divergence(self, t: Array, state: tuple[Array, Array], args: Any) -> Any:
        """dx/dt, and tr(df/dx) as the sum, or the mean, of e' (df/dx) e over the directions e."""

        def pushed(e: Array) -> tuple[Array, Array]:
            return jax.jvp(lambda x: self.velocity(t, x, args), (state[0],), (e,))

        directions = args[2]
        velocity, changes = jax.vmap(pushed, out_axes=(None, 0))(directions)
        return velocity, jnp.sum(directions * changes) / (self.num_probes or 1)

    def directions(self, key: Array | None, x: Array) -> Array:
        """Unit vectors, or random ones: `(count, *event)`."""
        if self.num_probes is None:
            return jnp.eye(x.size, dtype=x.dtype).reshape(x.size, *x.shape)
        if key is None:
            raise ValueError(
                "ContinuousFlow: random probes need a key; write model.predict(params, input, "
                "key=key), or head(raw, params, key=key)"
            )
        return self.draw(key, (self.num_probes, *x.shape), x.dtype)

    def flow(
        self, params: Any, context: Array, key: Array | None, x: Array, start: float, end: float
    ) -> tuple[Array, Array]:
        """x at `end` and the log-determinant of that map, of x at `start`."""
        args = (params, context, self.directions(key, x))
        state = (x, jnp.zeros((), x.dtype))
        return self._solved(self.with_divergence, state, args, start, end)

    def transport(
        self, params: Any, context: Array, key: Array | None, x: Array, start: float, end: float
    ) -> Array:
        """x at `end` alone."""
        return self._solved(
            lambda t, x, args: (self.velocity(t, x[0], args),), (x,), (params, context), start, end
        )[0]

    def _solved(self, field: Any, state: Any, args: Any, start: float, end: float) -> Any:
        """The solution. Of an x or a context that is not finite there is none: the solver is given
        zeros instead, an x comes back as it is, and NaN for a context.
        """
        x, (params, context, *rest) = state[0], args
        finite = jnp.all(jnp.isfinite(x))
        known = jnp.all(jnp.isfinite(context))
        safe = (jnp.where(finite, x, 0), *state[1:])
        out, reached = self.solver(
            field, safe, (params, jnp.where(known, context, 0), *rest), start, end
        )
        moved = (jnp.where(finite, out[0], x), *out[1:])
        return tuple(jnp.where(reached & known, leaf, jnp.nan) for leaf in moved)


_PROBES: dict[str, Callable[..., Array]] = {
    "rademacher": jax.random.rademacher,
    "gaussian": jax.random.normal,
}


def _typed(key: Array) -> Array:
    """A typed key, one leaf without axes of its own."""
    key = check_key(key)
    return key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)


def _folded(key: Array, shape: tuple[int, ...]) -> Array:
    """Keys of this shape, each from its number along the last axis, then the one before, ..."""
    keys = jnp.broadcast_to(key, shape)
    fold = jax.random.fold_in
    for _ in shape:
        fold = jax.vmap(fold)
    for axis in reversed(range(len(shape))):
        keys = fold(keys, jax.lax.broadcasted_iota(jnp.int32, shape, axis))
    return keys
