"""Mixtures of distributions, of one family along an axis or of several families."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from likelax._pytree import Array, add_axes, node
from likelax.distributions._interval import log_interval_prob
from likelax.distributions._invert import smallest
from likelax.distributions._odds import log_of
from likelax.distributions.base import Distribution, held_leaf
from likelax.distributions.categorical import Categorical
from likelax.distributions.quantized import Grid
from likelax.numerics.indexing import pick
from likelax.numerics.logspace import log_softmax, logsumexp
from likelax.supports import Circle, Counts, Elementwise, Interval, Simplex, Support


class _Mixture(Distribution):
    """Base of the two: `weights`, and what is computed from the components' values along a last axis."""

    _delegates = True
    weights: Categorical = node()

    # Weights: w_k as given, log w_k, and which are not zero, all of shape (*batch, component).

    @property
    def _weights(self) -> Array:
        return self.weights.probs if self.weights.given("probs") else self.weights.logits

    @property
    def _log_weights(self) -> Array:
        if self.weights.given("probs"):
            return log_of(self.weights.probs)
        return log_softmax(self.weights.logits)

    @property
    def _alive(self) -> Array:
        # A weight that is NaN is not known to be zero.
        return ~(self._weights <= (0 if self.weights.given("probs") else -jnp.inf))

    def _each(self, method: str, value: Array) -> Array:
        """What the components' `method` says, `(*sample, *batch, component)`."""
        raise NotImplementedError

    def _summary(self, method: str) -> Array:
        """The components' `method()`, their axis before the event's."""
        raise NotImplementedError

    def _log_mix(self, logs: Array) -> Array:
        """log sum_k w_k exp(logs_k)."""
        alive = self._alive
        out = logsumexp(jnp.where(alive, self._log_weights + jnp.where(alive, logs, 0), -jnp.inf))
        if not self.weights.given("probs"):
            return out
        # log w has no slope at w = 0, where the sum's is exp(logs_k) / sum.
        gap = jnp.where(
            alive | jnp.isnan(logs) | jnp.isinf(out[..., None]), 0, logs - out[..., None]
        )
        slope = jnp.exp(jnp.minimum(gap, 0.9 * jnp.log(jnp.finfo(gap.dtype).max)))
        weights = self.weights.probs
        change = jnp.where(alive, 0, weights - jax.lax.stop_gradient(weights))
        return out + jnp.sum(change * jax.lax.stop_gradient(slope), axis=-1)

    def _log_mix_tail(self, logs: Array) -> Array:
        """`_log_mix` of log-probabilities that keeps its digits near 0, where it is

        log1p(sum_k w_k expm1(logs_k) + (sum_k w_k - 1)), the last only the weights' rounding.
        """
        far = self._log_mix(logs)
        near_one = far > -0.5
        excess = jnp.sum(self.weights.probs, axis=-1) - 1
        rounding = jnp.where(jnp.abs(excess) < 8 * jnp.finfo(excess.dtype).eps, excess, 0)
        change = self._average(jnp.expm1(logs)) + (excess - jax.lax.stop_gradient(rounding))
        return jnp.where(near_one, jnp.log1p(jnp.where(near_one, change, 0)), far)

    def _average(self, x: Array, ndims: int = 0) -> Array:
        """sum_k w_k x_k over the component axis, which stands before the last `ndims`."""
        weights = self.weights.probs
        weights = weights.reshape(weights.shape + (1,) * ndims)
        x = jnp.where((weights == 0) & ~jnp.isfinite(x), 0, self._live(x, ndims))
        return jnp.sum(weights * x, axis=-1 - ndims)

    def _live(self, x: Array, ndims: int = 0) -> Array:
        """x_k without a gradient where the weight is zero, in either mode."""
        alive = self._alive.reshape(self._alive.shape + (1,) * ndims)
        return jnp.where(alive, x, jax.lax.stop_gradient(x))

    # Densities and probabilities.

    def log_prob(self, value: Array) -> Array:
        return self._log_mix(self._each("log_prob", value))

    def cdf(self, value: Array) -> Array:
        return self._average(self._each("cdf", value))

    def survival(self, value: Array) -> Array:
        return self._average(self._each("survival", value))

    def log_cdf(self, value: Array) -> Array:
        return self._log_mix_tail(self._each("log_cdf", value))

    def log_survival(self, value: Array) -> Array:
        return self._log_mix_tail(self._each("log_survival", value))

    def quantile(self, q: Array) -> Array:
        return _quantile(self, q)

    def posterior(self, value: ArrayLike) -> Categorical:
        """Which component a value came from: p(k | value) = w_k p_k(value) / p(value), of batch
        shape `(*sample, *batch)`.
        """
        logs = self._each("log_prob", self._value(value, "posterior"))
        alive = self._alive
        joint = jnp.where(alive, self._log_weights + jnp.where(alive, logs, 0), -jnp.inf)
        return Categorical(logits=joint)

    # Samples.

    def _parts(self) -> tuple[Distribution, ...]:
        """The distributions that the components are held in."""
        components = self.__dict__["components"]
        return components if isinstance(components, tuple) else (components,)

    def _draws(self, key: Array, shape: tuple[int, ...], implicit: bool) -> Array:
        """A sample of each component, their axis before the event's."""
        raise NotImplementedError

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        key_choice, key_value = jax.random.split(key)
        choice = self.weights.broadcast_to(self.batch_shape).sample(key_choice, shape)
        implicit = not (self.event_ndim or self.support.is_discrete or self._has_atoms)
        implicit = implicit and all(map(_has_cdf, self._parts()))
        values = self._draws(key_value, shape, implicit)
        choice = choice.reshape(choice.shape + (1,) * self.event_ndim)
        value = pick(choice, jnp.moveaxis(values, -1 - self.event_ndim, -1)).astype(values.dtype)
        return _pathwise(self, value) if implicit else value

    # Summaries.

    def mean(self) -> Array:
        return self._average(self._summary("mean"), self.event_ndim)

    def variance(self) -> Array:
        means = self._summary("mean")
        spread = means - jnp.expand_dims(self.mean(), -1 - self.event_ndim)
        spread = jnp.where(jnp.isinf(means), 0, spread)  # the variance is infinite already
        spread = self._live(spread, self.event_ndim)
        return self._average(self._summary("variance") + spread**2, self.event_ndim)


class Mixture(_Mixture):
    """A mixture: log p(x) = log sum_k w_k p_k(x), the components being the last batch axis of
    `components`.

    In nats. Sums of probabilities are formed in log space, so that a point far out in every
    component still has its density. A component whose weight is zero adds nothing to values or
    gradients, whatever its parameters are; where the weights are given as probabilities, the
    gradient in a zero weight is the right one, p_k(x) / p(x).

    `mode`, `entropy` and KL have no closed form. For components over numbers, `quantile` inverts
    the mixture's cdf to the last bit and has the implicit derivative.

    Gradients of samples: for continuous components over numbers with a cdf, those of x where F(x)
    is held still, -(dF/dparameters) / p(x), in all parameters and weights (weights given as
    probabilities count by their shares: their common size has no gradient). For other continuous
    components, each sample differentiates its own component's parameters: gradients in those are
    unbiased, and those in the weights are zero, which they should not be (use `log_prob` of the
    sample for a score-function term). Discrete samples have none.

    Args:
      weights: a `Categorical` with as many categories as there are components, or an array
        `(*batch, component)` of probabilities.
      components: a distribution of batch shape `(*batch, component)` and any event shape.

    Raises:
      ValueError: when the number of weights is not the number of components.
    """

    components: Distribution = node(extra_ndims=1)

    def __init__(
        self, weights: Categorical | ArrayLike | Sequence[float], components: Distribution
    ):
        if not isinstance(weights, Categorical):
            weights = Categorical(probs=jnp.asarray(weights))
        if not isinstance(components, Distribution):
            raise TypeError(
                "Mixture: the components are one distribution, along its last batch axis, got "
                f"{components!r}; write Mixture(weights, Normal(locs, scales)), or MixtureOf(weights, "
                "(a, b)) for unlike families"
            )
        if not components.batch_ndim:
            raise ValueError(
                f"Mixture: the components are the last batch axis of {type(components).__name__}, "
                "which has batch shape (); "
                "give its parameters that axis, e.g. lx.Normal(jnp.zeros(3), 1.0)"
            )
        super().__init__(weights, components)

    def _check(self) -> None:
        super()._check()
        have, want = self._weights.shape[-1], self.components.batch_shape[-1]
        if have != want:
            raise ValueError(
                f"Mixture: {have} weights for {want} components: the weights have shape "
                f"{self._weights.shape}, the components "
                f"batch shape {self.components.batch_shape}; both end with the axis of components"
            )

    @property
    def _takes_indices(self) -> bool:
        return self.components._takes_indices

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The components'."""
        return self.components.event_shape

    @property
    def support(self) -> Any:
        """The components', from the smallest of their lower bounds to the largest upper one."""
        return _over_components(self.components.support, -1)

    def _held(self) -> Distribution:
        """The components, with parameters that have no gradient where the weight is zero.

        A zero cotangent is not enough there: it meets the infinite slopes of the component's own
        formula.
        """
        components, alive = self.components, self._alive
        ndim = components.batch_ndim

        def hold(leaf: Array) -> Array:
            # A parameter that is shared along a batch axis is in use if it is anywhere on it.
            shared = tuple(i for i in range(ndim - 1) if leaf.shape[i] == 1)
            return held_leaf(leaf, jnp.any(alive, axis=shared, keepdims=True))

        return components._map(hold)

    def _spread(self, value: Array) -> Array:
        """The value for every component, `(*sample, *batch, component, *event)`."""
        event = self.event_ndim
        spread = jnp.expand_dims(value, -1 - event)
        alive = self._alive.reshape(self._alive.shape + (1,) * event)
        return jnp.where(alive, spread, jax.lax.stop_gradient(spread))

    def _each(self, method: str, value: Array) -> Array:
        """`components.method(value)`, `(*sample, *batch, component)`."""
        return getattr(self._held(), method)(self._spread(value))

    def _excludes(self, value: Array) -> Array:
        each = self.components._excludes(jnp.expand_dims(value, -1 - self.event_ndim))
        return jnp.all(each | ~self._alive, axis=-1)

    def log_interval_prob(self, low: Array, width: ArrayLike) -> Array:
        """log P(low < X <= low + width): between components far apart a difference of the mixture's own
        cdf would have no digits left; see `Quantized`.
        """
        width = jnp.asarray(width)
        width = jnp.expand_dims(width, -1) if width.ndim else width
        return self._log_mix(log_interval_prob(self._held(), self._spread(low), width))

    def _draws(self, key: Array, shape: tuple[int, ...], implicit: bool) -> Array:
        batch, count = self.batch_shape, self.components.batch_shape[-1]
        components = self._held().broadcast_to((*batch, count))
        components = jax.lax.stop_gradient(components) if implicit else components
        return components.sample(key, shape)

    def _summary(self, method: str) -> Array:
        return getattr(self._held(), method)()


class MixtureOf(_Mixture):
    """A mixture of several families: log p(x) = log sum_k w_k p_k(x), `components` being a tuple.

    As `Mixture`, whose components are one distribution with an axis for them: sums in log space,
    zero weights harmless, `quantile` to the last bit, the same gradients of samples. Where a
    component's support ends the others go on: `MixtureOf([0.9, 0.1], (Gamma(2.0, 1.0), Normal(0.0,
    5.0)))` is over all numbers.

    Args:
      weights: a `Categorical` with as many categories as there are components, or an array
        `(*batch, component)` of probabilities.
      components: distributions of one event shape, batch shapes `(*batch,)`; all with densities or
        all over isolated points.

    Raises:
      TypeError: when the components are no tuple or list of distributions.
      ValueError: when there are not as many as weights, or they have no values in common.
    """

    components: tuple[Distribution, ...] = node()

    def __init__(self, weights: Categorical | ArrayLike | Sequence[float], components: Any):
        parts = tuple(components) if isinstance(components, list | tuple) else ()
        if not parts or not all(isinstance(part, Distribution) for part in parts):
            raise TypeError(
                f"MixtureOf: the components are a tuple of distributions, got {components!r}; write "
                "MixtureOf([0.5, 0.5], (Normal(0.0, 1.0), Cauchy(0.0, 1.0)))"
            )
        if not isinstance(weights, Categorical):
            weights = Categorical(probs=jnp.asarray(weights))
        super().__init__(weights, parts)

    def _align(self, values: dict[str, Any]) -> dict[str, Any]:
        weights, parts = values["weights"], values["components"]
        rank = max(part.batch_ndim for part in (weights, *parts))
        weights, *parts = (add_axes(part, rank - part.batch_ndim) for part in (weights, *parts))
        return {"weights": weights, "components": tuple(parts)}

    def _check(self) -> None:
        super()._check()
        parts, have = self.components, self._weights.shape[-1]
        if have != len(parts):
            raise ValueError(
                f"MixtureOf: {have} weights for {len(parts)} components: the weights have shape "
                f"{self._weights.shape}, and end with the axis of components"
            )
        if len({part.event_shape for part in parts}) > 1:
            raise ValueError(
                "MixtureOf: the components have one event shape, got "
                f"{[part.event_shape for part in parts]}"
            )
        if len({(part.support.is_discrete, part._takes_indices) for part in parts}) > 1:
            raise ValueError(
                "MixtureOf: a density and a probability cannot be added, got components over values "
                f"that are {[part.support for part in parts]}; write lx.Hurdle or lx.ZeroInflated for "
                "zeros among counts"
            )
        if len({(isinstance(part.support, Simplex), part._has_atoms) for part in parts}) > 1:
            ends = [type(part).__name__ for part in parts if part._has_atoms]
            raise ValueError(
                "MixtureOf: densities against unlike measures cannot be added, got components over "
                f"values that are {[part.support for part in parts]}"
                + f", and probabilities at the ends of {', '.join(ends)}"
                * bool(ends)
            )
        self.support  # noqa: B018  (raises when they have none in common)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """What the batch shapes of the weights and of all components broadcast to."""
        shapes = {f"components[{k}]": part.batch_shape for k, part in enumerate(self.components)}
        return self._joint({"weights": self.weights.batch_shape, **shapes})

    @property
    def _takes_indices(self) -> bool:
        return self.components[0]._takes_indices

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The components'."""
        return self.components[0].event_shape

    @property
    def support(self) -> Any:
        """From the smallest of the components' lower bounds to the largest upper one."""
        return _hull([part.support for part in self.components])

    def _held(self) -> list[Distribution]:
        """The components, with parameters that have no gradient where the weight is zero."""
        return [part._hold(self._alive[..., k]) for k, part in enumerate(self.components)]

    def _stack(self, each: list[Array], event_ndim: int) -> Array:
        return jnp.stack(jnp.broadcast_arrays(*each), axis=-1 - event_ndim)

    def _spread(self, value: Array) -> list[Array]:
        """The value for every component."""
        held = jax.lax.stop_gradient(value)
        alive = self._alive.reshape(self._alive.shape + (1,) * self.event_ndim)
        at = (slice(None),) * self.event_ndim
        return [jnp.where(alive[(..., k, *at)], value, held) for k in range(len(self.components))]

    def _each(self, method: str, value: Array) -> Array:
        parts = zip(self._held(), self._spread(value), strict=True)
        return self._stack([getattr(part, method)(x) for part, x in parts], 0)

    def _summary(self, method: str) -> Array:
        return self._stack([getattr(part, method)() for part in self._held()], self.event_ndim)

    def _excludes(self, value: Array) -> Array:
        each = self._stack([part._excludes(value) for part in self.components], 0)
        return jnp.all(each | ~self._alive, axis=-1)

    def log_interval_prob(self, low: Array, width: ArrayLike) -> Array:
        """log P(low < X <= low + width); see `Quantized`."""
        parts = zip(self._held(), self._spread(low), strict=True)
        return self._log_mix(
            self._stack([log_interval_prob(part, x, jnp.asarray(width)) for part, x in parts], 0)
        )

    def _draws(self, key: Array, shape: tuple[int, ...], implicit: bool) -> Array:
        parts = [part.broadcast_to(self.batch_shape) for part in self._held()]
        parts = jax.lax.stop_gradient(parts) if implicit else parts
        keys = jax.random.split(key, len(parts))
        draws = [part.sample(keys[k], shape) for k, part in enumerate(parts)]
        return self._stack(draws, self.event_ndim)


def _hull(parts: Sequence[Support]) -> Support:
    """The values of all of these, and for numbers those between."""
    kinds = {type(part) for part in parts}
    whole = [part for part in parts if part.is_everything]
    if len(kinds) > 1 and (Circle in kinds or not (whole or kinds == {Interval})):
        raise ValueError(
            f"MixtureOf: the components have no values in common that could be mixed: {list(parts)}"
        )
    if whole:
        return whole[0]
    intervals = [part for part in parts if isinstance(part, Interval)]
    if not intervals:
        return parts[0]
    lowers, uppers = ([getattr(part, end) for part in intervals] for end in ("lower", "upper"))
    return dataclasses.replace(
        intervals[0],
        name=" or ".join(dict.fromkeys(part.name for part in intervals)),
        lower=_extreme(lowers, min, jnp.minimum),
        upper=_extreme(uppers, max, jnp.maximum),
        open_lower=all(part.open_lower for part in intervals),
        open_upper=all(part.open_upper for part in intervals),
    )


def _extreme(bounds: list[Any], of_numbers: Any, of_arrays: Any) -> Any:
    """The outermost of these ends; None where one of them is."""
    if any(bound is None for bound in bounds):
        return None
    if all(isinstance(bound, int | float) for bound in bounds):
        return of_numbers(bounds)
    return functools.reduce(of_arrays, bounds)


def _has_cdf(distribution: Distribution) -> bool:
    return distribution._has("cdf") or distribution._has("log_cdf")


def _over_components(support: Support, axis: int) -> Support:
    """The union of an interval's values along the component axis; other supports have no such axis."""
    if isinstance(support, Elementwise):
        base = _over_components(support.base, axis - support.ndims)
        return dataclasses.replace(support, base=base)
    if isinstance(support, Counts) and jnp.ndim(support.total):
        return dataclasses.replace(support, total=jnp.max(support.total, axis=axis))
    if not isinstance(support, Interval):
        return support

    def reduce(bound: Any, along: Callable[..., Array]) -> Any:
        return bound if bound is None or not jnp.ndim(bound) else along(bound, axis=axis)

    return dataclasses.replace(
        support, lower=reduce(support.lower, jnp.min), upper=reduce(support.upper, jnp.max)
    )


# ---- the inverse of the cdf ----


@jax.custom_jvp
def _quantile(mixture: _Mixture, q: Array) -> Array:
    """The smallest number x with F(x) >= q, by bisection between the components' own quantiles."""
    alive = mixture._alive
    each = mixture._each("quantile", q)
    low = jnp.min(jnp.where(alive, each, jnp.inf), axis=-1)
    high = jnp.max(jnp.where(alive, each, -jnp.inf), axis=-1)
    discrete = mixture.support.is_discrete

    def excess(x: Array) -> Array:
        if mixture._takes_indices:  # its labels are whole numbers from 0
            return mixture.cdf(x.astype(jnp.int32)) - q
        below = mixture.cdf(x) - q
        return below if discrete else jnp.where(q < 0.5, below, 1 - q - mixture.survival(x))

    value = smallest(excess, low, high)
    if isinstance(mixture.support, Grid):
        # Its cdf steps a little below each centre, where rounding may have put it.
        value = mixture.support.points(mixture.support.nearest(value))
    return jnp.where((q > 0) & (q < 1), value, jnp.where(q == 0, low, high))


@_quantile.defjvp
def _quantile_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """F(x) = q: dx = (dq - dF) / p(x)."""
    (mixture, q), (d_mixture, dq) = primals, tangents
    if mixture._has_atoms:
        raise NotImplementedError(
            f"the quantile of a {type(mixture).__name__} of distributions with probabilities at their ends "
            "has no derivative there; differentiate its cdf"
        )
    x = _quantile(mixture, q)
    inside = (q > 0) & (q < 1)
    if mixture.support.is_discrete:
        return x, jnp.zeros_like(x)
    held = jnp.where(inside, x, mixture.support.inside(x).astype(x.dtype))
    _, change = jax.jvp(lambda m: _side(m.cdf(held), m.survival(held), q), (mixture,), (d_mixture,))
    return x, jnp.where(inside, (dq - change) / mixture.prob(held), 0)


def _side(cdf: Array, survival: Array, q: Array) -> Array:
    """F, or 1 - S in the upper half, where S has the digits."""
    return jnp.where(q < 0.5, cdf, 1 - survival)


@jax.custom_jvp
def _pathwise(mixture: _Mixture, value: Array) -> Array:
    """`value`, a sample, with the gradient that holds F(value) still."""
    return value


@_pathwise.defjvp
def _pathwise_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """F / (F + S) held still: dx = -(S dF - F dS) / p = -(F S / p) (dlog F - dlog S).

    With both tails no digits are lost in either, and the common size of the weights has no slope.
    """
    (mixture, value), (d_mixture, _) = primals, tangents
    x = _pathwise(mixture, value)

    def tails(m: _Mixture) -> tuple[Array, Array]:
        return m.log_cdf(x), m.log_survival(x)

    (log_cdf, log_survival), (d_cdf, d_survival) = jax.jvp(tails, (mixture,), (d_mixture,))
    slope = jnp.exp(log_cdf + log_survival - mixture.log_prob(x))
    return x, slope * (d_survival - d_cdf)
