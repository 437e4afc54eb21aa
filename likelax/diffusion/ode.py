"""The likelihood of a trained model by its probability-flow equation.

dz/dt = alpha' x_hat(z, t) + sigma' e_hat(z, t) carries noise onto data with the same density at each
time as the process with its noise (Song et al. 2021, eq. 13), and the log-density along the way
changes by the divergence:

    log p_0(z_0) = log p_1(z_1) + integral_0^1 tr(d(dz/dt)/dz)(z_t, t) dt    (t from the data to the noise).

The equation ends where the process does, at z_0 = alpha_0 x + sigma_0 e. A density of z_0 is none of
data: of whole numbers there is P(x) = integral p_0(z_0) p(x | z_0) dz_0, and by Jensen's inequality

    -log P(x) <= -E_q [log p_0(z_0) - log q(z_0 | x) + log p(x | z_0)],

where the entropy of q, which is the noise that is still there, must not be forgotten.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from likelax._checks import is_count
from likelax._keys import check_key, row_keys, stream
from likelax._ode import Divergence, Probe, Solver
from likelax._pytree import Array
from likelax.diffusion._noise import normal_like, uniform_like
from likelax.diffusion.data import Pixels
from likelax.diffusion.model import DiffusionModel
from likelax.diffusion.process import Level
from likelax.diffusion.transport import Flow, by_rows, check_flow
from likelax.networks import Variables
from likelax.numerics.logspace import logsumexp
from likelax.objective import Aux, Batch, Claim, Objective, Scores, reduced

Dequantization = Literal["noise", "uniform"]


class ODELikelihood(Objective):
    """-log p(x) by the probability-flow equation, in nats; it needs diffrax.

    ::

        model = lx.diffusion.Denoising(process, net, "v", data=lx.diffusion.Pixels(bins=256))
        ...                                                         # train it
        score = lx.evaluate(lx.diffusion.ODELikelihood(model), params, key, batches)
        lx.bits_per_dim(score)

    What is scored depends on the data:

    * `Real`, without dequantization: the density of z_0 / alpha_0, which is what the equation makes of
      noise. Exact, or an estimate with `num_probes`.
    * "noise": z_0 = alpha_0 x + sigma_0 e is drawn, and x given z_0 is the model's own reconstruction:
      `data.reconstruction`. An upper bound; the default for `Pixels`.
    * "uniform": x is drawn from its bin, an upper bound on the probability of the bin (Theis et al.
      2016, sec. 3.1); for `Pixels` alone. The default of models that are trained so, `FlowMatching`.

    Of K dequantizations the bound is importance-weighted, -log (1/K) sum_k w_k (Zheng et al. 2023,
    sec. 4.2), with the exact trace. With probes, whose errors a logarithm of a sum would make one-sided,
    it is the mean of K bounds.

    Each example is solved by itself, with steps of its own. A solve that takes more than `max_steps`
    has NaN as its result.

    Args:
      model: a `Denoising`, a `VLB` or a `FlowMatching`.
      num_probes: None for the exact divergence, which takes as many products with the Jacobian as an
        event has entries; else the number of random vectors, drawn once for a solve.
      probe: how those are drawn: "rademacher" or "gaussian".
      dequantization: "noise", "uniform", or None for the default.
      num_dequantizations: K.
      rtol, atol: tolerances of the solver, for the state and the log-density together.
      solver: of diffrax, one with an error estimate (default: `diffrax.Tsit5()`).
      adjoint: of diffrax: how gradients are computed (default: `diffrax.RecursiveCheckpointAdjoint()`).
      max_steps: of one solve.

    Attributes:
      claim: exact, an estimate, or an upper bound, up to the solver's tolerance.

    Raises:
      TypeError: for a model of another kind: of `ConsistencyTraining` no likelihood comes.
      ValueError: for numbers or names that do not fit.
    """

    def __init__(
        self,
        model: Any,
        *,
        num_probes: int | None = None,
        probe: Probe = "rademacher",
        dequantization: Dequantization | None = None,
        num_dequantizations: int = 1,
        rtol: float = 1e-5,
        atol: float = 1e-5,
        solver: Any = None,
        adjoint: Any = None,
        max_steps: int = 4096,
    ):
        check_flow(model, self._name)
        self.model = model
        self.divergence = Divergence(self._name, num_probes, probe)
        self.solver = Solver(rtol, atol, solver, adjoint, max_steps)
        self.dequantization = self._checked_dequantization(dequantization)
        if not is_count(num_dequantizations):
            raise ValueError(
                f"{self._name}: num_dequantizations is a whole number >= 1, got {num_dequantizations!r}"
            )
        if num_dequantizations > 1 and self.dequantization is None:
            raise ValueError(
                f"{self._name}: a density of real numbers is not dequantized; leave out "
                'num_dequantizations, or write dequantization="noise"'
            )
        self.num_dequantizations = int(num_dequantizations)
        self.claim = self._claimed()

    @property
    def _name(self) -> str:
        return type(self).__name__

    def init(self, key: Array, batch: Batch) -> Variables:
        return self.model.init(key, batch)

    def merge(self, params: Any, state: Any = ()) -> Any:
        return self.model.merge(params, state)

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        return self._scored(params, key, batch, state, keep)[0]

    def check(self, batch: Any) -> None:
        self.model.check(batch)

    # What is claimed.

    def _checked_dequantization(self, wanted: str | None) -> Dequantization | None:
        whole = isinstance(self.model.data, Pixels)
        if wanted is None:
            own: Dequantization = getattr(self.model, "dequantization", "noise")
            return own if whole else None
        if wanted not in ("noise", "uniform"):
            raise ValueError(
                f'{self._name}: dequantization is "noise" or "uniform", got {wanted!r}'
            )
        if wanted == "uniform" and not whole:
            raise ValueError(
                f'{self._name}: dequantization="uniform" is for whole numbers, and the model has '
                f"data={self.model.data}; leave it out, or write data=lx.diffusion.Pixels(bins=256)"
            )
        return wanted  # type: ignore[return-value]

    @property
    def _weighted(self) -> bool:
        """Whether the bound is importance-weighted."""
        return self.dequantization is not None and self.divergence.num_probes is None

    def _claimed(self) -> Claim:
        probes = self.divergence.num_probes is not None
        if self.dequantization is None:
            if probes:
                return Claim("estimate", vanishes="num_probes and ode tolerance")
            return Claim("exact", vanishes="ode tolerance")
        closes = "num_dequantizations and ode tolerance" if self._weighted else None
        return Claim("upper", vanishes=closes)

    # What is computed.

    def _scored(
        self, params: Any, key: Array, batch: Batch, state: Any, keep: Array | None
    ) -> tuple[Scores, Array]:
        """The scores, and the standard error of each."""

        def draw(index: Array) -> Array:
            own = jax.random.fold_in(key, index)
            return self._log_weights(params, own, batch, state, keep)

        draws = jnp.arange(self.num_dequantizations)
        log_weights = draw(draws[0])[None] if draws.size == 1 else jax.lax.map(draw, draws)
        log_prob, error = self._summed(log_weights)
        event = jnp.shape(batch.target)[1:]
        claim = dataclasses.replace(self.claim, measure=self.model.data.measure(event))
        return Scores(self.model._priced(-log_prob, batch.target), {}, state, claim), error

    def _summed(self, log_weights: Array) -> tuple[Array, Array]:
        """log p and its standard error, `(batch,)`, from log w, `(K, batch, probes)`."""
        count = log_weights.shape[0]
        means = jnp.mean(log_weights, axis=-1)
        if self._weighted:
            log_sum, log_squares = logsumexp(means, axis=0), logsumexp(2 * means, axis=0)
            inverse_size = jnp.exp(log_squares - 2 * log_sum)
            spread = jnp.sqrt(jnp.maximum(count * inverse_size - 1, 0) / max(count - 1, 1))
            return log_sum - math.log(count), spread if count > 1 else jnp.full_like(
                spread, jnp.nan
            )
        log_prob = jnp.mean(means, axis=0)
        if count > 1:
            return log_prob, _standard_error(means, 0)
        if self.dequantization is None and self.divergence.num_probes is None:
            return log_prob, jnp.zeros_like(log_prob)
        if self.dequantization is None and log_weights.shape[-1] > 1:
            return log_prob, _standard_error(log_weights[0], -1)
        return log_prob, jnp.full_like(log_prob, jnp.nan)

    def _log_weights(
        self, params: Any, key: Array, batch: Batch, state: Any, keep: Array | None
    ) -> Array:
        """log p(x), or log w of one dequantization, for each probe: `(batch, probes)`."""
        first = self.model.process_of(params).ends()[0]
        z, log_rest = self._cut(stream(key, "dequantization"), batch.target, keep, first)
        log_prob = self._log_prob(params, stream(key, "probes"), z, batch.input, state)
        return log_prob + jnp.expand_dims(log_rest, -1)

    def _cut(
        self, key: Array, target: Any, keep: Array | None, first: Level
    ) -> tuple[Array, Array | float]:
        """z_0, and what log p(x) or log w is beyond log p_0(z_0)."""
        data, x = self.model.data, self.model._encoded(target, keep)
        event = x.shape[1:]
        size = math.prod(event)
        if self.dequantization == "uniform":
            assert isinstance(data, Pixels)
            x = data.encoded(jnp.asarray(target), keep, uniform_like(key, x))
        if self.dequantization != "noise":
            return first.alpha * x, size * first.log_alpha + data.log_det(event)
        noise = normal_like(key, x)
        z = first.alpha * x + first.sigma * noise
        if not isinstance(data, Pixels):
            # log p(x | z) - log q(z | x) of two Normals whose scales have the ratio alpha.
            return z, size * first.log_alpha + data.log_det(event)
        square = jnp.sum(noise**2, axis=tuple(range(1, x.ndim)))
        log_q = -0.5 * square - size * (first.log_sigma + 0.5 * math.log(2 * math.pi))
        return z, -data.reconstruction(z, x, first) - log_q

    def _log_prob(self, params: Any, key: Array, z: Array, input: Any, state: Any) -> Array:
        """log p_0(z_0) for each probe, `(batch, probes)`."""
        flow = Flow(self.model, self.solver)
        process = self.model.process_of(params)

        def one(key: Array, z: Array, input: Any, params: Any, state: Any) -> tuple[Array, Array]:
            directions = self.divergence.directions(key, z)
            zero = jnp.zeros(self.divergence.num_probes or 1, z.dtype)

            def field(t: Any, at: tuple[Array, Array], args: Any) -> tuple[Array, Array]:
                return self.divergence(lambda z: flow.velocity(t, z, *args[1:]), at[0], args[0])

            ends = float(process.data_at), 1.0 - process.data_at
            return flow.solved(field, (z, zero), (directions, input, params, state), *ends)

        end, gained = by_rows(one, row_keys(key, z.shape[0]), z, input, params, state)
        return process.prior(z.shape[1:]).log_prob(end)[:, None] + gained


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["loss", "per_example", "weight", "terms", "state", "num_bytes", "standard_error"],
    meta_fields=["claim"],
)
@dataclasses.dataclass(frozen=True)
class ODELogProb(Aux):
    """What `ode_log_prob` gives; `lx.bits_per_dim` takes it.

    Attributes:
      standard_error: of each example's number, over dequantizations or probes, `(batch,)`, in nats: 0
        where nothing is drawn, and NaN where one draw alone was made.
    """

    standard_error: Any = None

    @property
    def log_prob(self) -> Array:
        """log p(x), or a lower bound on it, `(batch,)`, in nats; 0 where it is masked out."""
        return -self.per_example


def ode_log_prob(
    model: DiffusionModel, params: Any, key: Array, batch: Batch, *, state: Any = (), **options: Any
) -> ODELogProb:
    """log p(x) of each example by the probability-flow equation, with its standard error and claim.

    For held-out means that `lx.compare` takes write `lx.evaluate(lx.diffusion.ODELikelihood(model,
    ...), params, key, batches)`.

    Args:
      model, options: as for `ODELikelihood`.
      params, state: as from `init` or training.
      key: a random key, for probes and dequantizations.
      batch: the examples.

    Raises:
      TypeError: for a model or a batch that is none.
      ValueError: for options that do not fit.
    """
    wanted = ODELikelihood(model, **options)
    wanted.check(batch)
    frozen = wanted.dequantization, wanted.num_dequantizations, wanted.divergence, wanted.solver
    return _ode_log_prob(model, frozen, params, check_key(key), batch, state)


# The parts of an ODELikelihood compare by value, so that a second call compiles nothing.
@functools.partial(jax.jit, static_argnums=(0, 1))
def _ode_log_prob(
    model: DiffusionModel, frozen: Any, params: Any, key: Array, batch: Batch, state: Any
) -> ODELogProb:
    dequantization, count, divergence, solver = frozen
    objective = ODELikelihood(
        model,
        num_probes=divergence.num_probes,
        probe=divergence.probe,
        dequantization=dequantization,
        num_dequantizations=count,
        **vars(solver),
    )
    batch, keep = objective._prepared(batch)
    scores, error = objective._scored(params, key, batch, state, keep)
    aux = reduced(batch, scores)[1]
    error = jnp.where(aux.weight == 0, 0, error)
    return ODELogProb(**vars(aux), standard_error=error)


def _standard_error(x: Array, axis: int) -> Array:
    """Of the mean over the axis."""
    return jnp.std(x, axis=axis, ddof=1) / math.sqrt(x.shape[axis])
