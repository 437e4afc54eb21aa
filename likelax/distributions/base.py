"""`Distribution`, the base class, and the two wrappers that its methods make.

Its docstring is the manual for adding a distribution.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from likelax import _checks, supports
from likelax._keys import check_key
from likelax._pytree import Array, Node, _made, add_axes, canonical, node, static
from likelax.distributions import kl as _kl
from likelax.numerics.logspace import passing_nan
from likelax.supports import Support


class Distribution(Node):
    """A probability distribution: a frozen pytree whose array leaves are its parameters.

    A subclass is one class. It names its parameters, its support and its log-density, each as the
    textbook has them::

        class Rayleigh(lx.Distribution):
            scale: lx.Array = lx.param(support=lx.supports.positive)
            support = lx.supports.non_negative

            def log_prob(self, value):
                z = value / self.scale
                return jnp.log(value) - 2 * jnp.log(self.scale) - 0.5 * z**2

    What the base class does around the methods that a subclass writes:

    * `log_prob(value)` is only asked about values inside the support; outside it is -inf, with zero
      gradient. NaN gives NaN. The value arrives as an array of a floating dtype, at least float32.
      One outside is replaced by an inside one, 1 on a half-line: a family whose slopes overflow there,
      as at scales far from 1, overrides `_inside` with a value near its middle.
    * `log_cdf`, `log_survival`, `cdf`, `survival` are only asked about values strictly inside the
      bounds of the support; `quantile` only about 0 < q < 1. Of the four, one of each pair is
      enough (`log_cdf` and `log_survival` for accurate tails).
    * `mean`, `mode`, `variance`, `entropy` may return any shape that broadcasts to the right one.
    * Called outside any JAX transformation, they are compiled once per shape.

    Then `lx.testing.check_distribution(Rayleigh(2.0), key=jax.random.key(0))` holds the class
    against its own density.

    Shapes: parameters are `(*batch, *own axes)`, a value is `(*sample, *batch, *event)`, a
    log-density `(*sample, *batch)`. Units are nats. A distribution over vectors names the event's
    axis in its parameters' shapes:
    `param(supports.real, shape=("event",))`.
    """

    # Families over whole numbers that are indices, not quantities, refuse floating values.
    _takes_indices: ClassVar[bool] = False
    # Wrappers whose base looks after the support.
    _delegates: ClassVar[bool] = False

    @property
    def _covers(self) -> bool:
        """Whether the subclass's `log_prob` is right outside the support as well."""
        return False

    @property
    def _has_atoms(self) -> bool:
        """Whether single points have a probability beside a density elsewhere."""
        held = (vars(self)[name] for name in self._nodes)
        parts = (part for node in held for part in (node if isinstance(node, tuple) else (node,)))
        return any(isinstance(part, Distribution) and part._has_atoms for part in parts)

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        support = cls.__dict__.get("support", supports.real)
        if not isinstance(support, Support | property | functools.cached_property):
            raise TypeError(
                f"{cls.__name__}.support is one of lx.supports or a property, got {support!r}; write "
                "support = lx.supports.interval(0, 1)"
            )
        for name, guard in _GUARDS.items():
            method = cls.__dict__.get(name)
            if callable(method) and not hasattr(method, "is_guarded"):
                guarded = guard(name, method)
                guarded.is_guarded = True  # type: ignore[attr-defined]
                setattr(cls, name, guarded)

    @property
    def support(self) -> Any:
        """Where the density is not zero; a subclass may set a constant, `support =
        supports.positive`.
        """
        return supports.real

    # Shapes.

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one value."""
        for p in type(self)._params:
            value = self.__dict__.get(p.name)
            if value is not None and "event" in p.shape:
                return (value.shape[p.shape.index("event") - len(p.shape)],)
        return ()

    @property
    def event_ndim(self) -> int:
        """How many axes one value has."""
        return len(self.event_shape)

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of samples: `(*shape, *batch, *event)`."""
        return shape + self.batch_shape + self.event_shape

    # Densities and probabilities.

    def log_prob(self, value: ArrayLike) -> Array:
        """log p(value) in nats: `(*sample, *batch, *event) -> (*sample, *batch)`; -inf outside the
        support, NaN at NaN.
        """
        self._missing("log_prob", "define it: a distribution is its log_prob")

    def weighted_log_prob(self, value: ArrayLike, weight: ArrayLike) -> tuple[Array, Array]:
        """`(sum(weight * log_prob), log_prob)` of `log_prob(value)`, with a weight for each of its
        elements: what a loss is made of. Where the weight is 0 an element adds nothing to the sum,
        infinity and NaN neither (`mask` keeps a NaN from the gradients, too). A distribution may
        have the sum's gradients at less work than those of its parts.

        Raises:
          ValueError: when `weight` has not the shape of `log_prob(value)`.
        """
        log_prob = self.log_prob(value)
        return _weighted_sum(log_prob, self._weight(weight, log_prob.shape)), log_prob

    def prob(self, value: ArrayLike) -> Array:
        """p(value), of the shape of `log_prob`."""
        return jnp.exp(self.log_prob(value))

    def cdf(self, value: ArrayLike) -> Array:
        """P(X <= value), `(*sample, *batch)`."""
        self._needs("cdf", "log_cdf")
        return jnp.exp(self.log_cdf(value))

    def log_cdf(self, value: ArrayLike) -> Array:
        """log P(X <= value), `(*sample, *batch)`."""
        self._needs("log_cdf", "cdf")
        return _log(self.cdf(value))

    def survival(self, value: ArrayLike) -> Array:
        """P(X > value), `(*sample, *batch)`."""
        if not self._has("log_survival"):
            return 1 - self.cdf(value)
        return jnp.exp(self.log_survival(value))

    def log_survival(self, value: ArrayLike) -> Array:
        """log P(X > value), `(*sample, *batch)`."""
        if not self._has("survival"):
            return jnp.log1p(-self.cdf(value))
        return _log(self.survival(value))

    @classmethod
    def _stands_for(cls, shortcut: str, *methods: str) -> bool:
        """Whether a family's shortcut is what its methods say: not in a subclass that has its own of those."""
        families = [c for c in cls.__mro__ if issubclass(c, Distribution) and c is not Distribution]

        def owners(name: str) -> list[int]:
            return [i for i, family in enumerate(families) if name in family.__dict__]

        given = owners(shortcut)
        own = [owners(method) for method in methods]
        return bool(given) and all(len(o) <= 1 or given[0] <= o[0] for o in own)

    def _log_tails(self, value: ArrayLike) -> tuple[Array, Array]:
        """`log_cdf` and `log_survival` at once, which may share the most of their work."""
        return self.log_cdf(value), self.log_survival(value)

    def _in_units(self, length: Array) -> tuple[Distribution, Array]:
        """That of X / unit, and the unit, 1 or a power of two next to `length`: to divide by it rounds
        nothing, and in it densities and widths of 1e±20 are of order 1.
        """
        return self, jnp.ones_like(length)

    def quantile(self, q: ArrayLike) -> Array:
        """The smallest value with P(X <= value) >= q, `(*sample, *batch)`; NaN off [0, 1]."""
        self._missing("quantile", "invert cdf numerically, or take quantiles of .sample(key, (n,))")

    # Samples.

    def sample(self, key: Array, shape: int | tuple[int, ...] = ()) -> Array:
        """Draws `(*shape, *batch, *event)` values; gradients flow where a pathwise one exists."""
        self._missing("sample", "use lx.samplers on its log_prob")

    def sample_and_log_prob(
        self, key: Array, shape: int | tuple[int, ...] = ()
    ) -> tuple[Array, Array]:
        """Samples, `(*shape, *batch, *event)`, and their log-density, `(*shape, *batch)`."""
        value = self.sample(key, shape)
        return value, self.log_prob(value)

    # Summaries.

    def mean(self) -> Array:
        """E[X], `(*batch, *event)`."""
        self._missing("mean", "average .sample(key, (n,))")

    def mode(self) -> Array:
        """The most likely value, `(*batch, *event)`."""
        self._missing("mode", "maximise .log_prob")

    def variance(self) -> Array:
        """Var[X] for each element, `(*batch, *event)`."""
        self._missing("variance", "take the variance of .sample(key, (n,))")

    def stddev(self) -> Array:
        """The square root of the variance, `(*batch, *event)`."""
        return jnp.sqrt(self.variance())

    def entropy(self) -> Array:
        """-E[log p(X)] in nats, `(*batch,)`."""
        self._missing("entropy", "average -.log_prob over .sample(key, (n,))")

    def kl_divergence(self, other: Distribution) -> Array:
        """KL(self || other) in nats, `(*batch,)`; see `lx.kl_divergence`."""
        return _kl.kl_divergence(self, other)

    # Others made from this one.

    def to_event(self, ndims: int = 1) -> Distribution:
        """The last `ndims` batch axes become event axes: their log-densities are summed."""
        return self if ndims == 0 else Independent(self, ndims)

    def mask(self, mask: ArrayLike) -> Distribution:
        """log_prob is 0 where `mask` (broadcast to the batch) is False."""
        return Masked(self, mask)

    # For the methods above.

    def _has(self, name: str) -> bool:
        return getattr(type(self), name) is not getattr(Distribution, name)

    def _needs(self, method: str, other: str) -> None:
        if not self._has(other):
            self._missing(method, "count samples, or define cdf or log_cdf")

    def _missing(self, method: str, instead: str) -> NoReturn:
        name = type(self).__name__
        raise NotImplementedError(f"{name}.{method} has no closed form here; {instead}")

    def _excludes(self, value: Array) -> Array:
        """Whether the density is 0 because of where each value lies: `(*sample, *batch)`."""
        return self.support.excludes(value)

    def _inside(self, like: Array) -> Array:
        """What methods are called with in place of a value outside: near the middle of the distribution, so
        that no slope overflows there: times 0 it would be NaN.
        """
        return self.support.inside(like)

    def _weight(self, weight: ArrayLike, shape: tuple[int, ...]) -> Array:
        """The weights as an array of the results' dtype; raises unless they have this shape."""
        w = jnp.asarray(weight)
        if w.shape != shape:
            raise ValueError(
                f"{type(self).__name__}.weighted_log_prob: one weight for each log-density wanted, "
                f"shape {shape}, got {w.shape}; write jnp.broadcast_to(weight, {shape})"
            )
        return w.astype(self.dtype)

    def _hold(self, alive: Array) -> Distribution:
        """Without a gradient where not alive; `alive` has the batch shape."""
        return self._map(lambda leaf: held_leaf(leaf, alive))

    def _held_by(self, mask: Array) -> Distribution:
        """With an element's own parameters everywhere, without a gradient where not in the mask."""
        return self.broadcast_to(jnp.broadcast_shapes(self.batch_shape, mask.shape))._hold(mask)

    def _value(self, value: ArrayLike, method: str = "log_prob") -> Array:
        """The value as an array to compute with; raises on a shape or dtype that does not fit."""
        name = type(self).__name__
        x = _real(value, f"{name}.{method}")
        if self._takes_indices:
            if jnp.issubdtype(x.dtype, jnp.floating):
                raise TypeError(
                    f"{name}.{method}: values are whole numbers that count the classes from 0, got "
                    f"{x.dtype} of shape {x.shape}; "
                    "write value.astype(int)"
                )
            # Bounds are compared in the labels' dtype, which has to hold them: 999 as uint8 is 231.
            x = x.astype(jnp.int32) if x.dtype.itemsize < 4 else x
        elif not jnp.issubdtype(x.dtype, jnp.floating) or x.aval.weak_type:
            x = x.astype(self.dtype)
        else:
            wide = jnp.promote_types(x.dtype, self.dtype)
            x = x if x.dtype == wide else self.support.widen(x, wide)
        event, batch = self.event_shape, self.batch_shape
        own, tail = x.shape[: x.ndim - len(event)], x.shape[x.ndim - len(event) :]
        try:
            if x.ndim < len(event) or tail != event:
                raise ValueError
            if own != batch:
                jnp.broadcast_shapes(own, batch)
        except ValueError:
            raise ValueError(
                f"{name}.{method}: a value has shape (*sample, *batch, *event) with batch {batch} "
                f"and event {event}, got {x.shape}"
            ) from None
        return x


def _real(value: ArrayLike, where: str) -> Array:
    x = jnp.asarray(value)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise TypeError(
            f"{where}: values are real numbers, got {x.dtype} of shape {x.shape}; write value.real"
        )
    return x


def _log(x: Array) -> Array:
    """log that has no gradient at 0 rather than an infinite one times 0."""
    return jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1)), jnp.where(jnp.isnan(x), x, -jnp.inf))


def _weighted_sum(log_prob: Array, weight: Array) -> Array:
    """sum(weight * log_prob); what is not finite and has no weight adds nothing."""
    weight = weight.astype(log_prob.dtype)
    counts = (weight != 0) | jnp.isfinite(log_prob)
    return jnp.sum(weight * jnp.where(counts, log_prob, 0))


# Guards: what stands around the methods that a subclass writes.


def _check_numbers(self: Distribution, method: str, values: tuple[Any, ...]) -> None:
    """Raises TypeError, before JAX's own of a function that nobody wrote, where one is no array."""
    for value in values:
        try:
            jnp.asarray(value)
        except (TypeError, ValueError):
            raise TypeError(
                f"{type(self).__name__}.{method}: a number or an array of numbers wanted, got "
                f"{value!r}; write jnp.asarray(..., float)"
            ) from None


def _compiled(guarded: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled where called eagerly, and traced once per shape where called under a trace."""
    compiled = jax.jit(guarded)

    def call(self: Distribution, *values: ArrayLike) -> Any:
        if _checks.checking():
            return guarded(self, *values)
        try:
            return compiled(self, *map(canonical, values))
        except (TypeError, ValueError):
            _check_numbers(self, call.__name__, values)
            raise

    return call


def _broadcast(self: Distribution, x: Array, out: Array) -> Array:
    shape = jnp.broadcast_shapes(x.shape[: x.ndim - self.event_ndim], self.batch_shape)
    return jnp.broadcast_to(out, shape)


def at_least_tiny(x: Array) -> Array:
    """x, a scale or a mean, above 0 also where it has underflowed."""
    return jnp.maximum(x, jnp.finfo(x.dtype).tiny)


def _put_inside(self: Distribution, x: Array, outside: Array) -> Array:
    """x with those that are outside replaced by an inside value; NaN stays."""
    outside = outside.reshape(outside.shape + (1,) * self.support.event_ndims)
    inside = jax.lax.stop_gradient(self._inside(x)).astype(x.dtype)
    return jnp.where(outside, inside, x)


@jax.custom_jvp
def _mask(outside: Array, log_prob: Array) -> Array:
    """-inf of slope 0 where outside the support; NaN stays."""
    # A sum, not a select: XLA leaves a loop that ends in a select unvectorised on a CPU, at five
    # times the time; and not a minimum, which XLA lets pass over NaN.
    return log_prob + jnp.where(outside, -jnp.inf, 0.0)


@_mask.defjvp
def _mask_slope(primals: tuple[Array, Array], tangents: tuple[Any, Array]) -> tuple[Array, Array]:
    return _mask(*primals), jnp.where(primals[0], 0.0, tangents[1])


@jax.custom_jvp
def _fence(log_prob: Array) -> Array:
    """The same number. Where a sum or a mean follows, XLA's CPU backend moves the last operations of
    the density out of its loop into the reduction, and writes out an array for each operand of
    theirs; a clamp it leaves in the loop. Up to 1.5 times the time without it."""
    infinity = jnp.array(jnp.inf, log_prob.dtype)
    return jax.lax.clamp(-infinity, log_prob, infinity)


@_fence.defjvp
def _fence_slope(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _fence(*primals), tangents[0]


def _guard_log_prob(name: str, method: Callable[..., Array]) -> Callable[..., Array]:
    def guarded(self: Distribution, value: ArrayLike) -> Array:
        x = self._value(value)
        support: Support = self.support
        if self._delegates:
            return _broadcast(self, x, method(self, x))
        if support.is_everything or self._covers:
            log_prob = method(self, x)
        else:
            outside = support.excludes(x)
            log_prob = _mask(outside, method(self, _put_inside(self, x, outside)))
        return _broadcast(self, x, _fence(log_prob))

    return functools.wraps(method)(_compiled(guarded))


def _guard_weighted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(self: Distribution, value: ArrayLike, weight: ArrayLike) -> tuple[Array, Array]:
        x = self._value(value, name)
        shape = jnp.broadcast_shapes(x.shape[: x.ndim - self.event_ndim], self.batch_shape)
        return method(self, x, self._weight(weight, shape))

    return functools.wraps(method)(_compiled(guarded))


# What a tail is below the support, and above it.
_BEYOND: dict[str, Any] = {
    "cdf": (0.0, 1.0),
    "log_cdf": (-jnp.inf, 0.0),
    "survival": (1.0, 0.0),
    "log_survival": (0.0, -jnp.inf),
    "_log_tails": ((-jnp.inf, 0.0), (0.0, -jnp.inf)),  # below, of both, and above
}


def beyond(under: Array, below: float, over: Array, above: float, inside: Array) -> Array:
    """A tail with what it is under the support and over it. What is NaN inside, as by a NaN parameter, is
    not known outside either.
    """
    return passing_nan(jnp.where(under, below, jnp.where(over, above, inside)), inside)


def _guard_tail(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    below, above = _BEYOND[name]

    def guarded(self: Distribution, value: ArrayLike) -> Any:
        x = self._value(value, name)
        support: Any = self.support
        if self._delegates:
            return jax.tree.map(lambda out: _broadcast(self, x, out), method(self, x))
        interval = isinstance(support, supports.Interval)
        if interval:
            x = jnp.floor(x) if support.is_discrete else x
            low = -jnp.inf if support.lower is None else support.lower
            high = jnp.inf if support.upper is None else support.upper
            under = (x < low) if support.is_discrete else (x <= low)
            over = x >= high
            inside = _put_inside(self, x, under | over)
        else:
            under, over = x == -jnp.inf, x == jnp.inf
            inside = jnp.where(under | over, 0, x)

        def closed(out: Array, below: float, above: float) -> Array:
            out = beyond(under, below, over, above, out)
            return _broadcast(self, x, jnp.where(jnp.isnan(x), x, out) if interval else out)

        return jax.tree.map(closed, method(self, inside), below, above)

    return functools.wraps(method)(_compiled(guarded))


def _guard_quantile(name: str, method: Callable[..., Array]) -> Callable[..., Array]:
    def guarded(self: Distribution, q: ArrayLike) -> Array:
        q = _real(q, f"{type(self).__name__}.quantile")
        weak = q.aval.weak_type or not jnp.issubdtype(q.dtype, jnp.floating)
        q = q.astype(self.dtype if weak else jnp.promote_types(q.dtype, self.dtype))
        support: Any = self.support
        low, high = getattr(support, "lower", None), getattr(support, "upper", None)
        inside = (q > 0) & (q < 1)
        value = method(self, q if self._delegates else jnp.where(inside, q, 0.5))
        ends = jnp.where(
            q == 0, -jnp.inf if low is None else low, jnp.inf if high is None else high
        )
        ends = passing_nan(jnp.where((q == 0) | (q == 1), ends, jnp.nan), value)
        out = value if self._delegates else jnp.where(inside, value, ends)
        return jnp.broadcast_to(out, jnp.broadcast_shapes(q.shape, self.batch_shape))

    return functools.wraps(method)(_compiled(guarded))


def _guard_sample(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def guarded(self: Distribution, key: Array, shape: int | tuple[int, ...] = ()) -> Any:
        shape = _checks.as_shape(f"{type(self).__name__}.{name}", shape)
        return method(self, check_key(key), shape)

    return guarded


def _guard_summary(name: str, method: Callable[..., Array]) -> Callable[..., Array]:
    @functools.wraps(method)
    def guarded(self: Distribution) -> Array:
        event = () if name == "entropy" else self.event_shape
        return jnp.broadcast_to(method(self), self.batch_shape + event)

    return guarded


_GUARDS: dict[str, Callable[[str, Callable[..., Any]], Callable[..., Any]]] = {
    "log_prob": _guard_log_prob,
    "weighted_log_prob": _guard_weighted,
    "cdf": _guard_tail,
    "log_cdf": _guard_tail,
    "survival": _guard_tail,
    "log_survival": _guard_tail,
    "_log_tails": _guard_tail,
    "quantile": _guard_quantile,
    "sample": _guard_sample,
    "sample_and_log_prob": _guard_sample,
    "mean": _guard_summary,
    "mode": _guard_summary,
    "variance": _guard_summary,
    "stddev": _guard_summary,
    "entropy": _guard_summary,
}


class Independent(Distribution):
    """The last `ndims` batch axes of `base` as event axes: log-densities are summed over them, in
    float32 or wider.
    """

    _delegates = True
    base: Distribution = node()
    ndims: int = static(default=1)

    def _align(self, values: dict[str, Any]) -> dict[str, Any]:
        return values

    def _check(self) -> None:
        if not 0 <= self.ndims <= self.base.batch_ndim:
            raise ValueError(
                f"Independent: ndims is {self.ndims}, but {type(self.base).__name__} has batch "
                f"shape {self.base.batch_shape}"
            )

    @property
    def _takes_indices(self) -> bool:
        return self.base._takes_indices

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The base's batch shape without its last `ndims` axes."""
        shape = self.base.batch_shape
        return shape[: len(shape) - self.ndims]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The base's last `ndims` batch axes, then its event axes."""
        shape = self.base.batch_shape
        return shape[len(shape) - self.ndims :] + self.base.event_shape

    @property
    def support(self) -> Any:
        """The base's support in every element."""
        return supports.elementwise(self.base.support, self.ndims)

    def _sum(self, x: Array) -> Array:
        return jnp.sum(x, axis=tuple(range(-self.ndims, 0)))

    def log_prob(self, value: Array) -> Array:
        each = self.base.log_prob(value)
        if not self.base.support.is_everything:
            # One element outside the support ends the gradients of the others, too.
            outside = self._excludes(value)
            outside = outside.reshape(outside.shape + (1,) * self.ndims)
            each = jnp.where(outside & ~jnp.isnan(each), -jnp.inf, each)
        return self._sum(each)

    def weighted_log_prob(self, value: Array, weight: Array) -> tuple[Array, Array]:
        # One element outside the support ends the gradients of the others, too.
        outside = self._excludes(value)
        inner = jnp.where(outside, 0, weight)
        shape = jnp.broadcast_shapes(
            value.shape[: value.ndim - self.base.event_ndim], self.base.batch_shape
        )
        inner = jnp.broadcast_to(inner.reshape(inner.shape + (1,) * self.ndims), shape)
        total, each = self.base.weighted_log_prob(value, inner)
        each = self._sum(each)
        log_prob = jnp.where(outside & ~jnp.isnan(each), -jnp.inf, each)
        never = outside & (weight != 0)
        slope = jax.lax.stop_gradient(weight.astype(log_prob.dtype) * log_prob)
        return total + jnp.sum(jnp.where(never, slope, 0)), log_prob

    def _hold(self, alive: Array) -> Independent:
        return _made(type(self), {**self.__dict__, "base": self.base._hold(alive)})

    def _excludes(self, value: Array) -> Array:
        return jnp.any(self.base._excludes(value), axis=tuple(range(-self.ndims, 0)))

    def sample(self, key: Array, shape: int | tuple[int, ...] = ()) -> Array:
        return self.base.sample(key, shape)

    def sample_and_log_prob(
        self, key: Array, shape: int | tuple[int, ...] = ()
    ) -> tuple[Array, Array]:
        value, log_prob = self.base.sample_and_log_prob(key, shape)
        return value, self._sum(log_prob)

    def mean(self) -> Array:
        return self.base.mean()

    def mode(self) -> Array:
        return self.base.mode()

    def variance(self) -> Array:
        return self.base.variance()

    def entropy(self) -> Array:
        return self._sum(self.base.entropy())


class Masked(Distribution):
    """`base` where `mask` is true; elsewhere log_prob, entropy and KL are 0 and no gradient flows.

    What is masked out may be NaN, in the value or in the parameters: it poisons neither value nor
    gradient. Samples and moments are the base's.
    """

    _delegates = True
    base: Distribution = node()
    mask_: Array = node()

    def __init__(self, base: Distribution, mask: ArrayLike):
        super().__init__(base, jnp.asarray(mask, bool))

    def _align(self, values: dict[str, Any]) -> dict[str, Any]:
        base, mask = values["base"], values["mask_"]
        rank = max(base.batch_ndim, mask.ndim)
        return {
            "base": add_axes(base, rank - base.batch_ndim),
            "mask_": add_axes(mask, rank - mask.ndim),
        }

    def _missing(self, method: str, instead: str) -> NoReturn:
        super()._missing(method, f"ask what is masked: .base.{method}")

    @property
    def _takes_indices(self) -> bool:
        return self.base._takes_indices

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """What the base's batch shape and the mask's shape broadcast to."""
        return self._joint({"base": self.base.batch_shape, "mask": self.mask_.shape})

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The base's."""
        return self.base.event_shape

    @property
    def support(self) -> Any:
        """The base's."""
        return self.base.support

    def log_prob(self, value: Array) -> Array:
        kept = self.mask_.reshape(self.mask_.shape + (1,) * self.event_ndim)
        inside = self.support.inside(value).astype(value.dtype)
        log_prob = held(self.base, self.mask_).log_prob(jnp.where(kept, value, inside))
        return jnp.where(self.mask_, log_prob, 0)

    def weighted_log_prob(self, value: Array, weight: Array) -> tuple[Array, Array]:
        kept = self.mask_.reshape(self.mask_.shape + (1,) * self.event_ndim)
        inside = self.support.inside(value).astype(value.dtype)
        total, log_prob = held(self.base, self.mask_).weighted_log_prob(
            jnp.where(kept, value, inside), jnp.where(self.mask_, weight, 0)
        )
        return total, jnp.where(self.mask_, log_prob, 0)

    def _excludes(self, value: Array) -> Array:
        return self.mask_ & self.base._excludes(value)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return self.base.broadcast_to(self.batch_shape).sample(key, shape)

    def mean(self) -> Array:
        return self.base.broadcast_to(self.batch_shape).mean()

    def mode(self) -> Array:
        return self.base.broadcast_to(self.batch_shape).mode()

    def variance(self) -> Array:
        return self.base.broadcast_to(self.batch_shape).variance()

    def entropy(self) -> Array:
        return jnp.where(self.mask_, held(self.base, self.mask_).entropy(), 0)


def held(base: Distribution, mask: Array) -> Distribution:
    """`base`, with an element's own parameters everywhere: those of what is masked out have no
    gradient, also where a formula of theirs makes 0 times NaN of a cotangent of 0.
    """
    return base._held_by(mask)


def held_leaf(leaf: Array, alive: Array) -> Array:
    """`leaf` without a gradient where not alive; `alive` has its first axes."""
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf
    alive = alive.reshape(alive.shape + (1,) * (leaf.ndim - alive.ndim))
    return jnp.where(alive, leaf, jax.lax.stop_gradient(leaf))


def _unnested(dist: Independent) -> tuple[Distribution, int]:
    """What is below all Independents, and how many of its axes are those of the event."""
    base: Any = dist.base
    ndims = dist.ndims
    while isinstance(base, Independent):
        base, ndims = base.base, ndims + base.ndims
    return base, ndims


@_kl.register_kl(Independent, Independent)
def _kl_independent(p: Independent, q: Independent) -> Array:
    # Of unlike ranks, numbers against vectors: the sum is over the axes that both leave apart.
    (p_base, p_ndims), (q_base, q_ndims) = _unnested(p), _unnested(q)
    shared = min(p_ndims, q_ndims)
    each = _kl.kl_divergence(p_base.to_event(p_ndims - shared), q_base.to_event(q_ndims - shared))
    return jnp.sum(each, axis=tuple(range(-shared, 0)))


@_kl.register_kl(Masked, Masked)
def _kl_masked(p: Masked, q: Masked) -> Array:
    both = p.mask_ & q.mask_
    return jnp.where(both, _kl.kl_divergence(held(p.base, both), held(q.base, both)), 0)
