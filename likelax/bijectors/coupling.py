"""Coupling layers, and what factors coordinates out."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, node, static
from likelax.bijectors.base import Bijector, check_bijector, sum_last
from likelax.bijectors.conditioner import Conditioner
from likelax.bijectors.transformer import Transformer, check_transformer


class Coupling(Bijector):
    """y_a = x_a, y_b = g(x_b; h(x_a)): the first `split` entries of the last axis stay, and choose an
    elementwise map of the others (Dinh et al. 2017). Both directions cost one call of h.

    Which entries come first is up to a `Permute` or a linear map between two layers: any mask is
    one of the two with a permutation around it.

    Args:
      conditioner: h, from `split` entries to `transformer.size` numbers for each of the others.
      transformer: from raw numbers to the elementwise map g.
      split: how many entries stay.
      event_ndims: axes of one x: 1 for vectors, 3 for images, whose channels are split.
    """

    conditioner: Conditioner = node()
    transformer: Transformer = static()
    split: int = static()
    event_ndims: int = static(default=1)

    def _check(self) -> None:
        _check_parts(self, self.conditioner, self.transformer)
        if self.split < 0 or self.event_ndims < 1:
            raise ValueError(
                f"Coupling: split is at least 0 and event_ndims 1, got {self.split} and "
                f"{self.event_ndims}"
            )

    @property
    def domain(self) -> Any:
        """All real vectors, or arrays."""
        return supports.elementwise(supports.real, self.event_ndims)

    codomain = domain

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape[-1] <= self.split:
            raise ValueError(
                f"Coupling: {self.split} entries stay and the others are mapped, got shape "
                f"{tuple(shape)}"
            )
        return tuple(shape)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.forward_shape(shape)

    def _map_rest(self, x: Array, method: str) -> tuple[Array, Array]:
        kept, rest = x[..., : self.split], x[..., self.split :]
        raw = self.conditioner(kept, self.event_ndims)
        raw = split_raw(self.transformer, raw, rest.shape[-1], "Coupling")
        rest, log_det = getattr(self.transformer(raw), method)(rest)
        kept = jnp.broadcast_to(kept, rest.shape[:-1] + kept.shape[-1:]).astype(rest.dtype)
        return jnp.concatenate([kept, rest], axis=-1), sum_last(log_det, self.event_ndims)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        return self._map_rest(x, "forward_and_log_det")

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        return self._map_rest(y, "inverse_and_log_det")


def _check_parts(owner: Any, conditioner: Any, transformer: Any) -> None:
    name = type(owner).__name__
    if not isinstance(conditioner, Conditioner):
        raise TypeError(
            f"{name}: a Conditioner wanted, got {conditioner!r}; write "
            "Conditioner(function, params)"
        )
    check_transformer(name, transformer)
    owner.batch_shape  # noqa: B018  (raises when the batch shapes do not broadcast)


def split_raw(transformer: Transformer, raw: Array, count: int, owner: str) -> Array:
    """`(*batch, count * size)` raw numbers as `(*batch, count, size)`, those of each entry's map."""
    wanted = count * transformer.size
    if raw.shape[-1] != wanted:
        raise ValueError(
            f"{owner}: the conditioner gives {raw.shape[-1]} numbers, {transformer!r} reads "
            f"{transformer.size} for each of {count} entries; give its last layer {wanted} outputs"
        )
    return raw.reshape(raw.shape[:-1] + (count, transformer.size))


class Split(Bijector):
    """`bijector` on the first `size` entries of the last axis; the others are left as they are: factored
    out to the base, as in a multiscale flow (Dinh et al. 2017, section 3.6).

    Args:
      bijector: a map of vectors or arrays that keeps their shape.
      size: how many entries it maps.
    """

    bijector: Bijector = node()
    size: int = static()

    def _check(self) -> None:
        inner = check_bijector(self.bijector, "Split")
        if inner.event_ndim < 1 or self.size < 1:
            raise ValueError(
                f"Split: a map of vectors or arrays and a size of at least 1 wanted, got "
                f"{type(inner).__name__} of numbers with {inner.event_ndim} axes and {self.size}"
            )

    @property
    def domain(self) -> Any:
        """All real vectors, or arrays."""
        return supports.elementwise(supports.real, self.bijector.event_ndim)

    codomain = domain

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        first = (*shape[:-1], self.size)
        if shape[-1] < self.size or self.bijector.forward_shape(first) != first:
            raise ValueError(
                f"Split: maps {self.size} entries of the last axis onto as many, got shape "
                f"{tuple(shape)}"
            )
        return tuple(shape)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.forward_shape(shape)

    def _map_first(self, x: Array, method: str) -> tuple[Array, Array]:
        rest = x[..., self.size :]
        first, log_det = getattr(self.bijector, method)(x[..., : self.size])
        rest = jnp.broadcast_to(rest, first.shape[:-1] + rest.shape[-1:]).astype(first.dtype)
        return jnp.concatenate([first, rest], axis=-1), log_det

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        return self._map_first(x, "forward_and_log_det")

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        return self._map_first(y, "inverse_and_log_det")

    def initialized(self, value: Array, *, forward: bool = False) -> Split:
        return Split(self.bijector.initialized(value[..., : self.size], forward=forward), self.size)
