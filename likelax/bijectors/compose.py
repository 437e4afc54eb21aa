"""Bijectors made of bijectors."""

from __future__ import annotations

import itertools
from typing import Any

import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, add_axes, node
from likelax.bijectors.base import (
    Bijector,
    check_bijector,
    elementwise,
    has_dependent_entries,
    sum_last,
)
from likelax.bijectors.elementwise import Identity
from likelax.supports import Support


class Invert(Bijector):
    """The inverse map: forward and inverse change places. `Invert(Exp())` is the logarithm.

    Args:
      bijector: the map that is inverted.
    """

    bijector: Bijector = node()

    def _check(self) -> None:
        check_bijector(self.bijector, "Invert")

    @property
    def domain(self) -> Any:
        """The codomain of the inverted map."""
        return self.bijector.codomain

    @property
    def codomain(self) -> Any:
        """The domain of the inverted map."""
        return self.bijector.domain

    @property
    def increasing(self) -> Any:
        """As the inverted map."""
        return self.bijector.increasing

    @property
    def is_affine(self) -> bool:
        """As the inverted map."""
        return self.bijector.is_affine

    @property
    def event_ndim(self) -> int:
        """How many axes of x one application mixes."""
        return self.bijector.inverse_event_ndim

    @property
    def inverse_event_ndim(self) -> int:
        """How many axes of y one application mixes."""
        return self.bijector.event_ndim

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        return self.bijector.inverse_and_log_det(x)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        return self.bijector.forward_and_log_det(y)

    def forward(self, x: Array) -> Array:
        return self.bijector.inverse(x)

    def inverse(self, y: Array) -> Array:
        return self.bijector.forward(y)

    def initialized(self, value: Array, *, forward: bool = False) -> Invert:
        return Invert(self.bijector.initialized(value, forward=not forward))

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.bijector.inverse_shape(shape)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.bijector.forward_shape(shape)


class Chain(Bijector):
    """The composition, the last one first: `Chain((f, g))` is y = f(g(x)).

    Where one map mixes fewer axes than the whole, its log-determinants are summed over the others:
    `Chain((Exp(), TriangularAffine(m, L)))` maps vectors, and exp acts on each element.

    Args:
      bijectors: a tuple of at least one bijector.
    """

    bijectors: tuple[Bijector, ...] = node()

    def _align(self, values: dict[str, Any]) -> dict[str, Any]:
        parts = tuple(check_bijector(b, "Chain") for b in _as_tuple(values["bijectors"]))
        # An elementwise map's batch axes are, in part, event axes of the whole.
        extras = _extra_ndims(parts)
        rank = max(b.batch_ndim - extra for b, extra in zip(parts, extras, strict=True))
        rank = max(rank, 0)
        return {
            "bijectors": tuple(
                add_axes(b, rank + extra - b.batch_ndim)
                for b, extra in zip(parts, extras, strict=True)
            )
        }

    def _check(self) -> None:
        parts = [b for b in self.bijectors if not isinstance(b, Identity)]
        for outer, inner in itertools.pairwise(parts):
            # Numbers have no dependent entries: spares the look at most supports.
            if inner.inverse_event_ndim or outer.event_ndim:
                given, wanted = inner.codomain, outer.domain
                if has_dependent_entries(given) != has_dependent_entries(wanted):
                    raise ValueError(
                        f"Chain: {type(outer).__name__} maps values that are {wanted}, and "
                        f"{type(inner).__name__} gives values that "
                        f"are {given}: their entries are not equally free, so log-determinants "
                        "would not add up; "
                        f"transform before {type(inner).__name__} instead"
                    )
        self.batch_shape  # noqa: B018  (raises when the batch shapes do not broadcast)

    @property
    def _steps(self) -> list[tuple[Bijector, int]]:
        """The maps in the order of application, with the axes that each leaves alone."""
        extras = _extra_ndims(self.bijectors)
        return list(zip(self.bijectors, extras, strict=True))[::-1]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """What the batch axes of all parts broadcast to."""
        shapes = [(b.batch_shape, extra) for b, extra in self._steps]
        return jnp.broadcast_shapes(*[shape[: max(len(shape) - e, 0)] for shape, e in shapes])

    @property
    def event_ndim(self) -> int:
        """How many axes of x one application mixes."""
        first, extra = self._steps[0]
        return first.event_ndim + extra

    @property
    def inverse_event_ndim(self) -> int:
        """How many axes of y one application mixes."""
        last, extra = self._steps[-1]
        return last.inverse_event_ndim + extra

    @property
    def domain(self) -> Any:
        """The x for which every map is defined."""
        support: Support = elementwise(supports.real, self.inverse_event_ndim)
        for b, _ in self._steps[::-1]:
            support = Invert(b).image(support)
        return support

    @property
    def codomain(self) -> Any:
        """What the domain is mapped onto."""
        return self.image(self.domain)

    @property
    def increasing(self) -> Any:
        """Whether an even number of the maps decreases; None if one is not monotone."""
        out: Any = True
        for b in self.bijectors:
            if b.increasing is None:
                return None
            out = b.increasing == out
        return out

    @property
    def is_affine(self) -> bool:
        """Whether every map is."""
        return all(b.is_affine for b in self.bijectors)

    def image(self, support: Support) -> Support:
        for b, _ in self._steps:
            support = b.image(support)
        return support

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        total: Any = 0.0
        for b, extra in self._steps:
            x, log_det = b.forward_and_log_det(x)
            total = total + sum_last(log_det, extra)
        return x, total

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        total: Any = 0.0
        for b, extra in self._steps[::-1]:
            y, log_det = b.inverse_and_log_det(y)
            total = total + sum_last(log_det, extra)
        return y, total

    def forward(self, x: Array) -> Array:
        for b, _ in self._steps:
            x = b.forward(x)
        return x

    def inverse(self, y: Array) -> Array:
        for b, _ in self._steps[::-1]:
            y = b.inverse(y)
        return y

    def initialized(self, value: Array, *, forward: bool = False) -> Chain:
        fitted = []
        for b in self.bijectors[::-1] if forward else self.bijectors:
            fitted.append(b.initialized(value, forward=forward))
            value = fitted[-1].forward(value) if forward else fitted[-1].inverse(value)
        return Chain(tuple(fitted[::-1] if forward else fitted))

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        for b, _ in self._steps:
            shape = b.forward_shape(shape)
        return shape

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        for b, _ in self._steps[::-1]:
            shape = b.inverse_shape(shape)
        return shape


def _as_tuple(bijectors: Any) -> tuple[Any, ...]:
    if not isinstance(bijectors, list | tuple) or not bijectors:
        raise TypeError(
            f"Chain takes a tuple of at least one bijector, got {bijectors!r}; write Chain((f, g)) "
            "for f(g(x))"
        )
    return tuple(bijectors)


def _extra_ndims(bijectors: tuple[Bijector, ...]) -> tuple[int, ...]:
    """For each map, how many event axes of the whole it leaves alone."""
    # The axes of x that each needs, counted from those of the first argument.
    needed, gained = [], 0
    for b in reversed(bijectors):
        needed.append(b.event_ndim - gained)
        gained += b.inverse_event_ndim - b.event_ndim
    whole = max(needed)
    return tuple(whole - own for own in reversed(needed))
