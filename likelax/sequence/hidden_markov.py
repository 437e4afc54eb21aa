"""Hidden Markov models over any emissions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from likelax import _checks, supports
from likelax._pytree import Array, add_axes, is_traced, node, static
from likelax.distributions.base import Distribution
from likelax.distributions.categorical import Categorical
from likelax.distributions.mixture import Mixture
from likelax.numerics import semiring
from likelax.numerics.indexing import pick
from likelax.numerics.logspace import logsumexp


class HiddenMarkov(Distribution):
    """A hidden Markov model: states s_1..s_T that follow a Markov chain, each of which emits x_t.

    log p(x) = log sum_s p(s_1) prod_t p(s_{t+1} | s_t) prod_t p(x_t | s_t), in nats, by the forward
    algorithm as a parallel prefix scan: depth O(log T), work O(T K^3), memory O(T K^2). A value is
    `(*sample, *batch, T, *emission event)`. ::

        states = Categorical(logits=transition)             # (K, K): row i is p(next | state i)
        HiddenMarkov(initial, states, Normal(loc, scale), num_steps=100)             # loc (K,)
        HiddenMarkov(initial, states, Normal(locs, scale))                           # locs (100, K)

    Steps that are missing, and what lies beyond the end of a shorter sequence, are masked in the
    emission: `emission.mask(observed[..., None])`, `observed` of shape `(*batch, T)`, gives the model
    with the axis of steps in which those do not count, NaN or not, and log_prob is that of the rest.
    (Samples are drawn at masked steps, too.)

    A transition of logit -inf, or of probability 0, is a structural zero. Gradients are those of
    the smoothed marginals (Fisher's identity), also in probabilities that are zero.

    Samples of continuous emissions are differentiable in the parameters of the state that was drawn,
    as those of a `Mixture` over vectors; gradients in the chain's parameters are zero there.

    Args:
      initial: of the first state, a `Categorical` of batch shape `batch`, or an array `(*batch, K)`
        of probabilities.
      transition: of the next state, a `Categorical` of batch shape `(*batch, K)`, one for each state,
        or an array `(*batch, K, K)` of probabilities whose rows sum to 1.
      emission: of an observation, any distribution of batch shape `(*batch, K)`, the same at all
        steps; or, without `num_steps`, `(*batch, T, K)`, one for each step.
      num_steps: T, where the emission has no axis of steps.
      transition_per_step: whether the transition has an axis of its T - 1 steps before that of
        states, `(*batch, T - 1, K)`.

    Raises:
      ValueError: for numbers of states or steps that do not agree, and in eager code for arrays whose
        rows do not sum to 1.

    Source: L. R. Rabiner (1989), "A tutorial on hidden Markov models", section III; in parallel,
    S. Sarkka and A. F. Garcia-Fernandez (2021), "Temporal parallelization of Bayesian smoothers".
    """

    _delegates = True
    initial: Categorical = node()
    transition: Categorical = node(extra_ndims=1)
    emission: Distribution = node(extra_ndims=1)
    num_steps: int | None = static(default=None)
    transition_per_step: bool = static(default=False)

    def __init__(
        self,
        initial: Categorical | ArrayLike,
        transition: Categorical | ArrayLike,
        emission: Distribution,
        num_steps: int | None = None,
        transition_per_step: bool = False,
    ):
        initial, transition = _states("initial", initial), _states("transition", transition)
        super().__init__(initial, transition, emission, num_steps, transition_per_step)

    # Shapes.

    @staticmethod
    def _extra_ndims(fields: dict[str, Any]) -> dict[str, int]:
        """How many batch axes of each part are no batch axes of the whole."""
        return {
            "initial": 0,
            "transition": 1 + fields["transition_per_step"],
            "emission": 1 + (fields["num_steps"] is None),
        }

    def _align(self, values: dict[str, Any]) -> dict[str, Any]:
        ranks = {f: values[f].batch_ndim - n for f, n in self._extra_ndims(values).items()}
        for f, n in self._extra_ndims(values).items():
            if ranks[f] < 0:
                axes = ["steps", "states"][-n:]
                raise ValueError(
                    f"HiddenMarkov: the batch of {f} ends with the axes of {' and '.join(axes)}, got "
                    f"batch shape {values[f].batch_shape}"
                    + ("; give num_steps=, or that axis" if f == "emission" and n == 2 else "")
                )
        self._check_states(values)
        rank = max(ranks.values())
        return values | {f: add_axes(values[f], rank - own) for f, own in ranks.items()}

    def _check_states(self, values: dict[str, Any]) -> None:
        initial, transition, emission = (values[f] for f in ("initial", "transition", "emission"))
        count = initial.num_categories
        sizes = {
            "transition: its classes": transition.num_categories,
            "transition: its rows": transition.batch_shape[-1],
            "emission: its last batch axis": emission.batch_shape[-1],
        }
        for name, got in sizes.items():
            if got != count:
                raise ValueError(
                    f"HiddenMarkov: initial has {count} states, but {name} are {got}: initial has "
                    f"batch shape {initial.batch_shape}, transition {transition.batch_shape}, "
                    f"emission {emission.batch_shape}"
                )

    def _check(self) -> None:
        steps = self.num_steps
        if steps is not None and not (isinstance(steps, int) and steps > 0):
            raise ValueError(
                f"HiddenMarkov: num_steps is a positive whole number, got {steps!r}; leave it out "
                "where the emission has an axis of steps"
            )
        if self.transition_per_step and self.transition.batch_shape[-2] != self._steps - 1:
            raise ValueError(
                f"HiddenMarkov: {self._steps} steps have {self._steps - 1} transitions, got "
                f"transition of batch shape {self.transition.batch_shape}; it is "
                "(*batch, steps - 1, states)"
            )
        self.batch_shape  # noqa: B018  (raises when the batch shapes do not broadcast)

    @property
    def num_states(self) -> int:
        """K."""
        return self.initial.num_categories

    @property
    def _steps(self) -> int:
        """T."""
        return self.emission.batch_shape[-2] if self.num_steps is None else self.num_steps

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """What the batch axes of the three broadcast to, without those of steps and states."""
        shapes = {}
        for f, n in self._extra_ndims(vars(self)).items():
            shape = getattr(self, f).batch_shape
            shapes[f] = shape[: len(shape) - n]
        try:
            return jnp.broadcast_shapes(*shapes.values())
        except ValueError:
            parts = ", ".join(f"{f} {shape}" for f, shape in shapes.items())
            raise ValueError(
                f"HiddenMarkov: the batch shapes do not broadcast: {parts} (without the axes of "
                "states and steps)"
            ) from None

    @property
    def event_shape(self) -> tuple[int, ...]:
        """`(T, *emission event)`."""
        return (self._steps, *self.emission.event_shape)

    @property
    def _takes_indices(self) -> bool:
        return self.emission._takes_indices

    @property
    def support(self) -> Any:
        """The emissions', at each step."""
        weights = Categorical(logits=jnp.zeros(self.num_states))
        return supports.elementwise(Mixture(weights, self._emissions).support, 1)

    @property
    def _emissions(self) -> Distribution:
        """The emission with an axis of steps (of length 1 where it is the same at all)."""
        if self.num_steps is None:
            return self.emission
        at = self.emission.batch_ndim - 1
        return self.emission._map(lambda leaf: jnp.expand_dims(leaf, at))

    # The chain.

    def _chain(self, log_emission: Array) -> tuple[Array, Array]:
        """Its log-potentials, of the first state and of each step: see `numerics.semiring`."""
        first = _times(self.initial._log_probs(), log_emission[..., 0, :])
        steps = self.transition._log_probs()
        if not self.transition_per_step:
            steps = steps[..., None, :, :]
        return first, _times(steps, log_emission[..., 1:, None, :])

    def _log_emission(self, value: Array) -> Array:
        """log p(x_t | s_t = k), `(*sample, *batch, T, K)`."""
        each = self._emissions.log_prob(jnp.expand_dims(value, -1 - self.emission.event_ndim))
        return each + jnp.zeros((self._steps, self.num_states), each.dtype)

    def _given(self, value: ArrayLike, method: str) -> tuple[Array, Array]:
        return self._potentials(self._value(value, method))

    @jax.jit
    def _potentials(self, value: Array) -> tuple[Array, Array]:
        return self._chain(self._log_emission(value))

    @jax.jit
    def _prior(self) -> tuple[Array, Array]:
        """The chain of the states alone."""
        shape = (*self.batch_shape, self._steps, self.num_states)
        return self._chain(jnp.zeros(shape, self.initial.dtype))

    def log_prob(self, value: Array) -> Array:
        log_emission = self._log_emission(value)
        first, steps = self._chain(log_emission)
        initial = self.initial.probs if self.initial.given("probs") else None
        transition = self.transition.probs if self.transition.given("probs") else None
        if transition is not None and not self.transition_per_step:
            transition = transition[..., None, :, :]
        out = semiring.log_normalizer(first, steps)
        return out + _slope_at_zero(initial, transition, log_emission, first, steps)

    def _excludes(self, value: Array) -> Array:
        each = self._emissions._excludes(jnp.expand_dims(value, -1 - self.emission.event_ndim))
        return jnp.any(jnp.all(each, axis=-1), axis=-1)

    def posterior(self, value: ArrayLike) -> Categorical:
        """The state at each step given the whole sequence (smoothed), p(s_t | x_1..x_T), of batch
        shape `(*sample, *batch, T)`.
        """
        return Categorical(logits=semiring.marginals(*self._given(value, "posterior")))

    def filtered(self, value: ArrayLike) -> Categorical:
        """The state at each step given the past and the present, p(s_t | x_1..x_t), of batch shape
        `(*sample, *batch, T)`.
        """
        return Categorical(logits=semiring.forward(*self._given(value, "filtered"))[0])

    def viterbi(self, value: ArrayLike) -> tuple[Array, Array]:
        """The most likely sequence of states, int32 `(*sample, *batch, T)`, and its log p(s, x) in
        nats, `(*sample, *batch)` (Viterbi 1967).
        """
        chain = self._given(value, "viterbi")
        states = semiring.best_path(*chain)
        return states, semiring.path_score(*chain, states)

    def predict(self, value: ArrayLike) -> Mixture:
        """The observation that follows, p(x_{T+1} | x_1..x_T): a `Mixture` of batch shape
        `(*sample, *batch)`.

        Raises:
          ValueError: where emission or transition have an axis of steps, so that there is none for
            step T + 1.
        """
        if self.num_steps is None or self.transition_per_step:
            raise ValueError(
                "HiddenMarkov.predict: what differs from step to step has no step after the last; "
                "write Mixture(weights, next_emission) with weights from "
                ".filtered(value)[..., -1].probs and the next transition"
            )
        last = semiring.forward(*self._given(value, "predict"))[0][..., -1:, :]
        logits = semiring.log_matmul(last, self.transition._log_probs())[..., 0, :]
        return Mixture(Categorical(logits=logits), self.emission)

    # Samples and moments.

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        key_states, key_values = jax.random.split(key)
        batch, event = (*self.batch_shape, self._steps), self.emission.event_ndim
        states = semiring.sample_path(key_states, *self._prior(), shape=shape)
        emissions = self._emissions.broadcast_to((*batch, self.num_states))
        values = emissions.sample(key_values, shape)
        states = states.reshape(states.shape + (1,) * event)
        return pick(states, jnp.moveaxis(values, -1 - event, -1)).astype(values.dtype)

    def marginal(self) -> Mixture:
        """Each observation on its own, p(x_t): a `Mixture` of batch shape `(*batch, T)`."""
        states = Categorical(logits=semiring.forward(*self._prior())[0])
        return Mixture(states, self._emissions)

    def mean(self) -> Array:
        return self.marginal().mean()

    def variance(self) -> Array:
        return self.marginal().variance()


def _states(name: str, given: Categorical | ArrayLike) -> Categorical:
    """A distribution of states from that or from probabilities, which are looked at where known."""
    if isinstance(given, Categorical):
        return given
    if not is_traced(given):
        p = jnp.asarray(given)
        p = p if jnp.issubdtype(p.dtype, jnp.floating) else p.astype(float)
        _checks.check_known(
            supports.simplex.contains(p),
            p,
            f"HiddenMarkov: {name} has probabilities of states on its last axis, {supports.simplex}; at "
            f"{{index}} they are {{value}}; write {name} / {name}.sum(-1, keepdims=True), or "
            f"lx.Categorical(logits={name}) for logits",
        )
    return Categorical(probs=jnp.asarray(given))


def _times(log_weight: Array, log_density: Array) -> Array:
    """Their sum: what has weight zero stays zero where the density is infinite."""
    zero = log_weight == -jnp.inf
    return jnp.where(zero, -jnp.inf, log_weight + jnp.where(zero, 0, log_density))


@jax.custom_jvp
def _slope_at_zero(
    initial: Array | None, transition: Array | None, log_emission: Array, first: Array, steps: Array
) -> Array:
    """0, with the gradient of log p(x) in the probabilities that are 0: their logarithms have none."""
    return jnp.zeros_like(jnp.sum(first, axis=-1) + jnp.sum(steps, axis=(-3, -2, -1)))


@_slope_at_zero.defjvp
def _slope_at_zero_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """d log p(x) / dp = p(x, state or step | a p of 1) / p(x), where p = 0."""
    initial, transition, log_emission, first, steps = primals
    alpha, beta = semiring.messages(first, steps)
    onward = log_emission + beta
    change = out = _slope_at_zero(*primals)
    if initial is not None:
        total = logsumexp(first + beta[..., 0, :])[..., None]
        change += _at_zero(initial, tangents[0], onward[..., 0, :], total, 1)
    if transition is not None:
        logits = alpha[..., :-1, :, None] + onward[..., 1:, None, :]
        total = logsumexp(semiring.pairs(alpha, steps, beta), axis=(-2, -1))[..., None, None]
        change += _at_zero(transition, tangents[1], logits, total, 3)
    return out, change


def _at_zero(p: Array, dp: Array, logits: Array, total: Array, ndims: int) -> Array:
    dead = (p == 0) & (total != -jnp.inf)
    gap = jnp.where(dead, logits - jnp.where(dead, total, 0), -jnp.inf)
    slope = jnp.exp(jnp.minimum(gap, 0.9 * jnp.log(jnp.finfo(gap.dtype).max)))
    return jnp.sum(jnp.where(dead, dp, 0) * slope, axis=tuple(range(-ndims, 0)))
