"""Distributions of numbers kept to an interval, and those whose values beyond it are only counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from likelax import _checks, supports
from likelax._pytree import Array, add_axes, as_numbers, node
from likelax.distributions._interval import log_between, log_between_three
from likelax.distributions._invert import open_uniform, quantile_from_tails
from likelax.distributions._odds import to_int
from likelax.distributions.base import Distribution
from likelax.distributions.kl import no_formula, register_kl
from likelax.distributions.normal import Normal
from likelax.numerics.logspace import log_complements, passing_nan
from likelax.numerics.truncated_divergence import truncated_normal_divergence


class Bounded(Distribution):
    """Base of the wrappers with an interval: `base` over numbers, and `low`, `high` or both."""

    base: Distribution = node()
    low: Array | None = node(default=None)
    high: Array | None = node(default=None)

    def _convert(self, values: dict[str, Any]) -> dict[str, Any]:
        base, name = values["base"], type(self).__name__
        if not isinstance(base, Distribution):
            raise TypeError(
                f"{name}: base is a distribution, got {base!r}; write {name}(Normal(loc, scale), low=0.0)"
            )
        for end in ("low", "high"):
            if values[end] is not None:
                values[end] = jnp.asarray(as_numbers(name, end, values[end]), base.dtype)
        return super()._convert(values)

    def _align(self, values: dict[str, Any]) -> dict[str, Any]:
        base, ends = values["base"], {n: values[n] for n in ("low", "high")}
        rank = max(base.batch_ndim, *(x.ndim for x in ends.values() if x is not None), 0)
        ends = {n: x if x is None else add_axes(x, rank - x.ndim) for n, x in ends.items()}
        return {"base": add_axes(base, rank - base.batch_ndim), **ends}

    def _check(self) -> None:
        super()._check()
        name, base, support = type(self).__name__, type(self.base).__name__, self.base.support
        if self.low is None and self.high is None:
            raise ValueError(f"{name}: an end is wanted, got none; write {name}(base, low=0.0)")
        if self.base._has_atoms:
            raise ValueError(
                f"{name}: a base with a density is wanted, got {base}, which has probabilities at its "
                f"ends; write one {name}(base, low, high) around the base without them"
            )
        if self.base.event_shape:
            raise ValueError(
                f"{name}: the base is over numbers, got {base} of event shape "
                f"{self.base.event_shape}; bound its elements first, {name}(base, ...).to_event()"
            )
        is_line = isinstance(support, supports.Interval | supports.Real)
        if not is_line or isinstance(support, supports.Circle) or self.base._takes_indices:
            raise ValueError(
                f"{name}: the base is over the numbers or the whole numbers of an interval, got "
                f"{base} over values that are {support}"
            )

    def _check_params(self) -> None:
        super()._check_params()
        if self.low is not None and self.high is not None:
            low, high = jnp.broadcast_arrays(self.low, self.high)
            _checks.check_values(
                low <= high,
                low,
                f"{type(self).__name__}: low must be at most high; at {{index}} it is {{value}}",
            )

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """What the base's batch shape and the shapes of the ends broadcast to."""
        shapes = {"base": self.base.batch_shape}
        shapes |= {n: x.shape for n in ("low", "high") if (x := self.__dict__[n]) is not None}
        return self._joint(shapes)

    @property
    def _low(self) -> Array | None:
        """The lower end; of whole numbers the first that is inside."""
        if self.low is None or not self.base.support.is_discrete:
            return self.low
        return jnp.ceil(self.low - 1e-3)

    @property
    def _high(self) -> Array | None:
        if self.high is None or not self.base.support.is_discrete:
            return self.high
        return jnp.floor(self.high + 1e-3)

    @property
    def support(self) -> Any:
        """What of the base's support is between the ends, both inside."""
        inner, low, high = self.base.support, self._low, self._high
        lower, upper = getattr(inner, "lower", None), getattr(inner, "upper", None)
        if low is not None:
            lower = low if lower is None else jnp.maximum(low, lower)
        if high is not None:
            upper = high if upper is None else jnp.minimum(high, upper)
        return supports.Interval(
            f"{inner}, between the bounds", 0, inner.is_discrete, lower=lower, upper=upper
        )

    def _within(self) -> tuple[Any, Any]:
        """The ends as numbers, for a base that has its own formulas."""
        low, high = self._low, self._high
        return -jnp.inf if low is None else low, jnp.inf if high is None else high

    def _draws(self, key: Array, shape: tuple[int, ...]) -> Array:
        return self.base.broadcast_to(self.batch_shape).sample(key, shape)


def _log_between(base: Distribution, low: Array | None, high: Array | None) -> Array:
    """log P(low < X <= high), an end that is None being infinite."""
    if low is None:
        return base.log_cdf(high) if high is not None else jnp.zeros(())
    if high is None:
        return base.log_survival(low)
    return log_between(base, low, high, high - low)


class Truncated(Bounded):
    """`base` kept to [low, high]: p(x) = base(x) / P(low <= X <= high) there, and 0 elsewhere.

    The conditional distribution of base given that its value is in the interval: for data of which
    what lies beyond was never recorded (`Censored` is for data recorded as the end itself). Whole
    numbers at an end are inside, so that `Truncated(Poisson(rate), low=1)` counts from 1. Far out in
    a tail a Normal and a Logistic keep all digits; of another base the density and the mass there are two
    logarithms, whose difference has the rounding of the larger one (the mass of an interval too
    narrow for a difference of tails is an integral of the density, see `_interval.log_between`).

    `mean`, `variance` and `entropy` are known for a Normal, and so is KL, to a Normal and to another one
    in an interval (inf unless that holds this interval). `mode` is that of a base with one peak. `quantile`
    is direct for a Normal and a Logistic and inverts the cdf bit by bit for any other; it and the samples
    of a continuous base have the implicit derivative.

    Args:
      base: a distribution over numbers with `log_cdf` and `log_survival`, `(*batch,)`.
      low, high: the ends, `(*batch,)`; one of them may be left out, for none on that side.

    Raises:
      TypeError: when `base` is no distribution.
      ValueError: without an end, or for a base over vectors, labels, angles or the points of a grid.
    """

    @property
    def _before(self) -> Array | None:
        """What all values are above: of whole numbers the one before the first."""
        low = self._low
        return low - 1 if low is not None and self.base.support.is_discrete else low

    def _outer(self) -> tuple[Any, Any]:
        """What all values are above, and the upper end, as numbers."""
        before, (_, high) = self._before, self._within()
        return -jnp.inf if before is None else before, high

    def _log_mass(self) -> Array:
        return _log_between(self.base, self._before, self._high)

    def log_prob(self, value: Array) -> Array:
        if hasattr(self.base, "log_prob_within"):
            return self.base.log_prob_within(value, *self._within())
        return self.base.log_prob(value) - self._log_mass()

    def _log_tails(self, value: Array) -> tuple[Array, Array]:
        """log P(X <= value) and log P(X > value)."""
        if hasattr(self.base, "log_tails_within"):
            return self.base.log_tails_within(value, *self._within())
        before, high = self._outer()
        below, above, mass = log_between_three(self.base, before, value, high)
        return log_complements(below - mass, above - mass)

    def log_cdf(self, value: Array) -> Array:
        return self._log_tails(value)[0]

    def log_survival(self, value: Array) -> Array:
        return self._log_tails(value)[1]

    def nearer_log_tail(self, lower: Array) -> Callable[[Array], Array]:
        """log P(X <= x) where `lower`, else log P(X > x), as a function of x, in fewer tails of the base
        than both; see `quantile_from_tails`.
        """
        mass = self._log_mass()
        before, high = self._outer()

        def tail(x: Array) -> Array:
            start, stop = jnp.where(lower, before, x), jnp.where(lower, x, high)
            return log_between(self.base, start, stop, stop - start) - mass

        return tail

    def quantile(self, q: Array) -> Array:
        if hasattr(self.base, "quantile_within"):
            return self.base.quantile_within(q, *self._within())
        return quantile_from_tails(self, q)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        value = self.quantile(open_uniform(key, self._shape(shape), self.dtype))
        return to_int(value) if self.base.support.is_discrete else value

    def mean(self) -> Array:
        if not hasattr(self.base, "mean_within"):
            self._missing("mean", "average .sample(key, (n,))")
        return self.base.mean_within(*self._within())

    def variance(self) -> Array:
        if not hasattr(self.base, "variance_within"):
            self._missing("variance", "take the variance of .sample(key, (n,))")
        return self.base.variance_within(*self._within())

    def entropy(self) -> Array:
        if not hasattr(self.base, "entropy_within"):
            self._missing("entropy", "average -.log_prob over .sample(key, (n,))")
        return self.base.entropy_within(*self._within())

    def mode(self) -> Array:
        mode = self.base.mode()
        kept = jnp.clip(mode, *self._within())
        return kept.astype(mode.dtype)


@register_kl(Truncated, Truncated)
def _kl_truncated(p: Truncated, q: Truncated) -> Array:
    if not (isinstance(p.base, Normal) and isinstance(q.base, Normal)):
        no_formula(p, q)
    return _kl_normal(p.base, p._within(), q.base, q._within())


@register_kl(Truncated, Normal)
def _kl_truncated_normal(p: Truncated, q: Normal) -> Array:
    if not isinstance(p.base, Normal):
        no_formula(p, q)
    return _kl_normal(p.base, p._within(), q, (-jnp.inf, jnp.inf))


def _kl_normal(p: Normal, ends: tuple[Any, Any], q: Normal, ends_q: tuple[Any, Any]) -> Array:
    return truncated_normal_divergence(*ends, p.loc, p.scale, *ends_q, q.loc, q.scale)


class Censored(Bounded):
    """`base` with what lies beyond an end recorded as the end: the distribution of min(max(X, low), high).

    log p(x) = log base(x) strictly between the ends, log P(X <= low) at x = low and log P(X >=
    high) at x = high: the Tobit likelihood, and with one `high` for each example, infinite where the
    event was seen, that of survival times. At the ends it is a probability, in between a density.
    `mean` and `variance` are known for a Normal.

    Args:
      base: a distribution over numbers with `log_cdf` and `log_survival`, `(*batch,)`.
      low, high: the ends, `(*batch,)`; one of them may be left out, for none on that side.

    Raises:
      TypeError: when `base` is no distribution.
      ValueError: without an end, or for a base over vectors, labels, angles or the points of a grid.

    Source: Tobin (1958), "Estimation of relationships for limited dependent variables".
    """

    _delegates = True  # at the ends there are atoms, which the base class knows nothing of

    @property
    def _has_atoms(self) -> bool:
        return not self.base.support.is_discrete

    @property
    def _ends(self) -> list[Array]:
        return [end for end in (self._low, self._high) if end is not None]

    def _sides(self, value: Array) -> tuple[Array, Array]:
        """Whether each value is at or beyond the lower end, and the upper one."""
        never = jnp.zeros_like(value, bool)
        low, high = self._low, self._high
        return never if low is None else value <= low, never if high is None else value >= high

    def _log_below(self) -> Array:
        """log P(X <= low)."""
        low = self._low
        return jnp.full((), -jnp.inf) if low is None else self.base.log_cdf(low)

    def _log_above(self) -> Array:
        """log P(X >= high)."""
        high = self._high
        if high is None:
            return jnp.full((), -jnp.inf)
        return self.base.log_survival(high - 1 if self.base.support.is_discrete else high)

    def log_prob(self, value: Array) -> Array:
        below, above = self._sides(value)
        middle = self.base.support.inside(value).astype(value.dtype)
        inside = self.base.log_prob(jnp.where(below | above, middle, value))
        log_prob = jnp.where(above, self._log_above(), inside)
        log_prob = jnp.where(below, self._log_below(), log_prob)
        both = below & above  # low = high: all there is
        log_prob = jnp.where(both, 0.0, log_prob)
        log_prob = jnp.where(self._excludes(value), -jnp.inf, log_prob)
        # What an end or the base does not know, no part of the density knows.
        return passing_nan(log_prob, inside, *self._ends)

    def _excludes(self, value: Array) -> Array:
        low, high = self._low, self._high
        beyond = jnp.zeros_like(value, bool)
        beyond = beyond if low is None else beyond | (value < low)
        beyond = beyond if high is None else beyond | (value > high)
        below, above = self._sides(value)
        return beyond | (self.base._excludes(value) & ~below & ~above)

    def log_cdf(self, value: Array) -> Array:
        return self._tail(value, self.base.log_cdf(value), -jnp.inf, 0.0)

    def log_survival(self, value: Array) -> Array:
        return self._tail(value, self.base.log_survival(value), 0.0, -jnp.inf)

    def _tail(self, value: Array, tail: Array, before: float, after: float) -> Array:
        out = tail if self._low is None else jnp.where(value < self._low, before, tail)
        out = out if self._high is None else jnp.where(value >= self._high, after, out)
        # What an end or the base does not know, no part of the tail knows.
        return passing_nan(out, tail, *self._ends)

    def _kept(self, value: Array) -> Array:
        value = value if self._low is None else jnp.maximum(value, self._low)
        return value if self._high is None else jnp.minimum(value, self._high)

    def quantile(self, q: Array) -> Array:
        return self._kept(self.base.quantile(q))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        draws = self._draws(key, shape)
        return self._kept(draws).astype(draws.dtype)

    def _parts(self, method: str) -> tuple[Array, list[Array], list[Array]]:
        """(origin, probabilities, distances of their means from it) of the two ends and of between.

        The origin is the likelier end: seen from there, far out in a tail, nothing cancels.
        """
        if not hasattr(self.base, "variance_within"):
            instead = {"mean": "average", "variance": "take the variance of"}[method]
            self._missing(method, f"{instead} .sample(key, (n,))")
        low, high = map(jnp.asarray, self._within())
        log_below, log_above = self._log_below(), self._log_above()
        no_low, no_high = jnp.isinf(low), jnp.isinf(high)
        at_low = ~no_low & (no_high | (log_below >= log_above))
        origin = jnp.where(at_low, low, jnp.where(no_high, 0.0, high))
        logs = log_below, log_above, _log_between(self.base, self._low, self._high)
        steps = [
            jnp.where(no_low, 0.0, low) - jnp.where(no_low, 0.0, origin),
            jnp.where(no_high, 0.0, high) - jnp.where(no_high, 0.0, origin),
            self.base.mean_within(low, high, origin),  # type: ignore[attr-defined]
        ]
        return origin, [jnp.exp(log) for log in logs], steps

    def mean(self) -> Array:
        origin, probs, steps = self._parts("mean")
        return origin + sum(map(jnp.multiply, probs, steps))

    def variance(self) -> Array:
        _, probs, steps = self._parts("variance")
        mean = sum(map(jnp.multiply, probs, steps))
        within = self.base.variance_within(*self._within())  # type: ignore[attr-defined]
        between = (p * (step - mean) ** 2 for p, step in zip(probs, steps, strict=True))
        return probs[-1] * within + sum(between)
