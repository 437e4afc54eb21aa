"""`Bijector`, the base class: an invertible map with its log-determinant.

Its docstring is the manual for adding a bijector.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from likelax import supports
from likelax._pytree import Array, Node
from likelax.supports import Support


class Bijector(Node):
    """An invertible, differentiable map: a frozen pytree whose array leaves are its parameters.

    A subclass is one class. It names its parameters and writes two methods, each of which gives the
    value and the log-determinant of the Jacobian together::

        class LeakyReLU(lx.bijectors.Bijector):
            slope: lx.Array = lx.param(lx.supports.positive)
            increasing = True

            def forward_and_log_det(self, x):
                slope = jnp.where(x < 0, self.slope, 1)
                return slope * x, jnp.log(slope)

            def inverse_and_log_det(self, y):
                slope = jnp.where(y < 0, self.slope, 1)
                return y / slope, -jnp.log(slope)

    and, where they differ from the defaults, these attributes or properties:

    * `domain`, `codomain`: the supports that it maps from and onto (default: the real numbers).
      Their event axes are the axes that one application mixes, `event_ndim` of x and
      `inverse_event_ndim` of y: 0 for an elementwise map, 1 for one of vectors.
    * `forward_shape`, `inverse_shape`: the shape of y from that of x and back, where they are not
      the same.
    * `increasing`: for an elementwise map, True or False (or a boolean array, where parameters
      decide): distributions transformed by it then have a cdf and quantiles.
    * `held`: names of parameters that no gradient is to flow into, such as statistics.
    * `is_affine`: whether the Jacobian is constant: distributions transformed by it then keep their
      mean.

    What the base class does around the methods: x is an array of a floating dtype, at least
    float32, whose shape was checked, and the log-determinant, in nats, may have any shape that
    broadcasts to the batch.

    Shapes: parameters are `(*batch, *own axes)`, x is `(*sample, *batch, *event)` and the
    log-determinant `(*sample, *batch)`. An elementwise map of a vector has one log-determinant for
    each element; `Chain` and `Transformed` sum them where they must. The inverse map as an object
    is `Invert(bijector)`.
    """

    held: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        for name in _GUARDED:
            method = cls.__dict__.get(name)
            if callable(method) and not hasattr(method, "is_guarded"):
                guarded = _guard(name, method)
                guarded.is_guarded = True  # type: ignore[attr-defined]
                setattr(cls, name, guarded)

    @property
    def domain(self) -> Any:
        """Where x lives; a subclass may set a constant, `domain = supports.positive`."""
        return supports.real

    @property
    def codomain(self) -> Any:
        """Where y lives; a subclass may set a constant."""
        return supports.real

    @property
    def increasing(self) -> Any:
        """For a monotone elementwise map, True or False, or an array of them; else None."""
        return None

    @property
    def is_affine(self) -> bool:
        """Whether y is linear in x plus a constant."""
        return False

    @property
    def event_ndim(self) -> int:
        """How many axes of x one application mixes."""
        return self.domain.event_ndims

    @property
    def inverse_event_ndim(self) -> int:
        """How many axes of y one application mixes."""
        return self.codomain.event_ndims

    # The map.

    def forward_and_log_det(self, x: ArrayLike) -> tuple[Array, Array]:
        """y and log |det dy/dx|, the latter of shape `(*sample, *batch)`."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward_and_log_det")

    def inverse_and_log_det(self, y: ArrayLike) -> tuple[Array, Array]:
        """x and log |det dx/dy|, the log-determinant of the inverse map."""
        raise NotImplementedError(f"{type(self).__name__} does not define inverse_and_log_det")

    def forward(self, x: ArrayLike) -> Array:
        """y."""
        return self.forward_and_log_det(x)[0]

    def inverse(self, y: ArrayLike) -> Array:
        """x."""
        return self.inverse_and_log_det(y)[0]

    def initialized(self, value: Array, *, forward: bool = False) -> Self:
        """The same map with those parameters that data decide, as `ActNorm`'s, set by a batch of values;
        itself where there are none.

        Args:
          value: a batch of y, `(n, *event)`, or with `forward=True` of x.
        """
        return self

    # Shapes and sets.

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of y for x of this shape, leading axes included; raises if it does not fit."""
        return tuple(shape)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of x for y of this shape, leading axes included; raises if it does not fit."""
        return tuple(shape)

    def image(self, support: Support) -> Support:
        """The set of all y whose x is in `support` and in the domain."""
        extra = support.event_ndims - self.event_ndim
        if extra < 0:
            raise ValueError(
                f"{type(self).__name__} maps values with {self.event_ndim} axes, and those that "
                "are "
                f"{support} have {support.event_ndims}; write supports.elementwise(support, "
                f"{-extra})"
            )
        if _covers(support, self.domain):
            return elementwise(self.codomain, extra)
        if self.event_ndim == 0 and self.increasing is not None:
            if isinstance(support, supports.Elementwise):
                return elementwise(self.image(support.base), support.ndims)
            if isinstance(support, supports.Interval) and not support.is_discrete:
                return _image_of_interval(self, support)
        ndims = extra + self.inverse_event_ndim
        return Image(f"an image of: {support}", ndims, base=support, bijector=self)

    def _value(self, x: ArrayLike, method: str) -> Array:
        """x (or y) as an array to compute with; raises on a shape that does not fit."""
        x = jnp.asarray(x)
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        if floating and not x.aval.weak_type:
            x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        elif jax.tree.leaves(self) or not floating:
            x = x.astype(self.dtype)
        forward = method.startswith("forward")
        ndim = self.event_ndim if forward else self.inverse_event_ndim
        name = type(self).__name__
        if x.ndim < ndim:
            raise ValueError(f"{name}.{method} maps values with {ndim} axes, got shape {x.shape}")
        (self.forward_shape if forward else self.inverse_shape)(x.shape)
        try:
            jnp.broadcast_shapes(x.shape[: x.ndim - ndim], self.batch_shape)
        except ValueError:
            raise ValueError(
                f"{name}.{method}: a value has shape (*sample, *batch, *event) with batch "
                f"{self.batch_shape} and {ndim} event axes, "
                f"got {x.shape}; add axes of length 1, e.g. x[:, None]"
            ) from None
        return x


_GUARDED = ("forward_and_log_det", "inverse_and_log_det", "forward", "inverse")


def _guard(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """What stands around the methods that a subclass writes."""

    @functools.wraps(method)
    def guarded(self: Bijector, x: ArrayLike) -> Any:
        x = self._value(x, name)
        if not name.endswith("log_det"):
            return method(self, x)
        y, log_det = method(self, x)
        ndim = self.event_ndim if name.startswith("forward") else self.inverse_event_ndim
        shape = jnp.broadcast_shapes(x.shape[: x.ndim - ndim], self.batch_shape)
        return y, jnp.broadcast_to(log_det, shape)

    return guarded


def check_bijector(value: object, where: str) -> Bijector:
    """The bijector; raises if it is none.

    Raises:
      TypeError: when `value` is not a `Bijector` (its class, say).
    """
    if isinstance(value, Bijector):
        return value
    if isinstance(value, type) and issubclass(value, Bijector):
        raise TypeError(
            f"{where}: got the class {value.__name__}; write {value.__name__}(), with its "
            "parameters"
        )
    raise TypeError(f"{where}: a bijector wanted, got {value!r}; write for example bijectors.Exp()")


def has_dependent_entries(support: Support) -> bool:
    """Whether a value has more entries than degrees of freedom, as simplices and triangles."""
    while isinstance(support, supports.Elementwise):
        support = support.base
    return isinstance(support, supports.Simplex | supports.LowerCholesky)


def sum_last(x: Array, ndims: int) -> Array:
    """The sum over the last `ndims` axes."""
    return jnp.sum(x, axis=tuple(range(-ndims, 0))) if ndims else x


# Images of supports.


def elementwise(support: Support, ndims: int) -> Support:
    """`support` in each element of `ndims` more axes, itself for none."""
    return supports.elementwise(support, ndims) if ndims else support


def _covers(support: Support, domain: Support) -> bool:
    """Whether all of `domain` is surely in each element of `support`."""
    if isinstance(support, supports.Elementwise):
        return _covers(support.base, domain)
    if support.is_everything or support is domain:
        return True
    # The sets of vectors and matrices have no parameters: their type says all.
    return support.event_ndims > 0 and isinstance(domain, type(support))


@dataclasses.dataclass(frozen=True, eq=False)
class Image(Support):
    """The values that a bijector maps values in `base` onto."""

    base: Support = dataclasses.field(kw_only=True)
    bijector: Bijector = dataclasses.field(kw_only=True)

    def contains(self, value: jax.Array) -> jax.Array:
        extra = self.event_ndims - self.bijector.inverse_event_ndim
        codomain = elementwise(self.bijector.codomain, extra)
        x = self.bijector.inverse(codomain.project(value))
        return codomain.contains(value) & self.base.contains(x)

    def inside(self, like: jax.Array) -> jax.Array:
        x = jnp.zeros(self.bijector.inverse_shape(like.shape), like.dtype)
        return self.bijector.forward(jnp.broadcast_to(self.base.inside(x).astype(x.dtype), x.shape))


@dataclasses.dataclass(frozen=True, eq=False)
class _ImageOfInterval(supports.Interval):
    """An interval one of whose ends may be an infinite array: it brings its own inside value."""

    point: jax.Array = dataclasses.field(kw_only=True)

    def inside(self, like: jax.Array) -> jax.Array:
        return self.point


def _clip(end: Any, is_open: bool, own: Any, own_open: bool, sign: int) -> tuple[Any, bool, bool]:
    """The inner of two lower (sign -1: upper) ends: (end, is it open, is it the second)."""
    if end is None or own is None:
        return (own, own_open, True) if end is None else (end, is_open, False)
    if isinstance(end, int | float) and isinstance(own, int | float):
        if sign * end <= sign * own:
            return own, own_open or (is_open and end == own), True
        return end, is_open, False
    return (jnp.maximum if sign > 0 else jnp.minimum)(end, own), is_open or own_open, False


def _image_of_interval(bijector: Bijector, support: supports.Interval) -> Support:
    """What a monotone elementwise map makes of an interval."""
    domain, codomain, increasing = bijector.domain, bijector.codomain, bijector.increasing
    if not all(isinstance(s, supports.Interval) or s.is_everything for s in (domain, codomain)):
        return Image(f"an image of: {support}", 0, base=support, bijector=bijector)

    def ends(s: Any) -> tuple[tuple[Any, bool], tuple[Any, bool]]:
        if not isinstance(s, supports.Interval):
            return (None, False), (None, False)
        return (s.lower, s.open_lower), (s.upper, s.open_upper)

    own_low, own_high = ends(domain)
    low, open_low, is_own_low = _clip(support.lower, support.open_lower, *own_low, 1)
    high, open_high, is_own_high = _clip(support.upper, support.open_upper, *own_high, -1)
    clipped = supports.Interval("", 0, False, low, high, open_low, open_high)
    point = bijector.forward(clipped.inside(jnp.zeros(())))
    (out_low, out_open_low), (out_high, out_open_high) = ends(codomain)
    name = f"an image of: {support}"
    if isinstance(increasing, bool):
        if not increasing:
            (out_low, out_open_low), (out_high, out_open_high) = ends(codomain)[::-1]
        if is_own_low:
            a, open_a = out_low, out_open_low
        else:
            a, open_a = bijector.forward(low), open_low
        if is_own_high:
            b, open_b = out_high, out_open_high
        else:
            b, open_b = bijector.forward(high), open_high
        if a is None and b is None:
            return supports.real
        if not increasing:
            (a, open_a), (b, open_b) = (b, open_b), (a, open_a)
        return _ImageOfInterval(name, 0, False, a, b, open_a, open_b, point=point)

    # The parameters decide which end is which: both are arrays, infinite where there is none.
    out_low = -jnp.inf if out_low is None else out_low
    out_high = jnp.inf if out_high is None else out_high
    a = jnp.where(increasing, out_low, out_high) if is_own_low else bijector.forward(low)
    b = jnp.where(increasing, out_high, out_low) if is_own_high else bijector.forward(high)
    is_open = any(
        (
            (out_open_low or out_open_high) if is_own_low else open_low,
            (out_open_low or out_open_high) if is_own_high else open_high,
        )
    )
    low, high = jnp.where(increasing, a, b), jnp.where(increasing, b, a)
    return _ImageOfInterval(name, 0, False, low, high, is_open, is_open, point=point)
