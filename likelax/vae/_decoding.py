"""What all objectives with a decoder share: data as it takes them, and checks of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from likelax import _checks
from likelax._pytree import Array, is_traced
from likelax.conditional import Conditional
from likelax.distributions.base import Distribution
from likelax.objective import (
    Batch,
    Objective,
    check_shape,
    check_support,
    claim_of,
    outside,
    target_log_prob,
    trailing,
)
from likelax.vae._rows import Example, Partial, as_floats, of_features, repeated


class Decoding(Objective):
    """An objective whose decoder gives the data their likelihood."""

    decoder: Conditional

    @property
    def _name(self) -> str:
        return type(self).__name__

    def prepare(self, batch: Batch) -> Batch:
        shape, event = jnp.shape(batch.target), tuple(self.decoder.head.event_shape)
        if shape[1:] != event or not shape:
            mend = (
                "target[None] for one example"
                if shape == event
                else f"lx.Head(..., event_shape={shape[1:]}) in the decoder, so that the features of "
                "one example are summed"
            )
            raise ValueError(
                f"{self._name}: a target has shape (batch, *event) with the decoder's event {event}, "
                f"got {shape}; write {mend}"
            )
        if batch.mask is None or jnp.ndim(batch.mask) < 2:
            return batch
        if jnp.shape(batch.mask) != shape:
            raise ValueError(
                f"{self._name}: a mask is (batch,), of examples, or the target's {shape}, of "
                f"features, got {jnp.shape(batch.mask)}; write "
                f"jnp.broadcast_to(mask, {shape})"
            )
        observed = jnp.asarray(batch.mask, bool)
        some = jnp.any(observed, axis=tuple(range(1, observed.ndim)))
        return dataclasses.replace(batch, input=Partial(batch.input, observed), mask=some)

    def _example(self, batch: Batch, keep: Array | None) -> Example:
        """The prepared batch as the networks take it."""
        input, observed = batch.input, None
        if isinstance(input, Partial):
            input, observed = input.input, input.observed
        target = jnp.asarray(batch.target)
        seen = as_floats(target)
        if keep is not None:
            seen = jnp.where(trailing(keep, seen.ndim) | jnp.isfinite(seen), seen, 0)
        if observed is not None:
            observed = observed if keep is None else observed & trailing(keep, observed.ndim)
            seen = jnp.where(observed, seen, 0)
        return Example(target, seen, input, keep, observed)

    def _check_conditional(self, name: str, part: Any) -> None:
        if not isinstance(part, Conditional):
            raise TypeError(
                f"{self._name}: {name} is a Conditional, got {type(part).__name__}; write "
                "lx.Conditional(net, head)"
            )
        if claim_of(part.head).relation != "exact":
            raise ValueError(
                f"{self._name}: the log-density of {name}'s {part.head!r} is no exact one, and the "
                "bound would be none; take a head whose density is exact"
            )

    def _check_decoder(self, dist: Distribution, data: Example) -> None:
        """At `init`: one distribution for each target, and targets that are at hand in its support."""
        check_shape(dist, data.target, owner=self._name)
        whole = dist if data.observed is None else of_features(dist, data.observed, self._name)
        lost = whole._excludes(whole._value(data.target))
        lost = lost if data.keep is None else lost & data.keep
        if is_traced(lost) or not bool(jnp.any(lost)):
            return
        values = jnp.where(True if data.observed is None else data.observed, data.target, 0)
        raise ValueError(
            f"{self._name}: {int(jnp.sum(lost))} of {lost.size} targets lie outside the "
            f"decoder's support, {dist.support}: they range from {values.min()} to {values.max()}; "
            "scale or binarise them (grey values 0..16: x / 16 > 0.5), or take a head that has them "
            "(x / 16 with lx.Head(lx.Quantized, base=lx.Head(lx.Logistic), low=0, high=1, bins=17, ...))"
        )

    def _log_likelihood(self, dist: Distribution, data: Example, count: int) -> Array:
        """log p(x | z) of the features that were seen, `(B * K,)`."""
        target, keep, observed = (
            None if x is None else repeated(x, count)
            for x in (data.target, data.keep, data.observed)
        )
        if observed is None:
            return target_log_prob(dist, target, keep, owner=self._name)
        target = jnp.asarray(target)
        check_shape(dist, target, owner=self._name)
        seen = of_features(dist, observed, self._name)
        if _checks.checking():
            value = seen._value(jnp.where(observed, target, 0))
            check_support(dist, outside(seen, value), value, keep, owner=self._name)
        return seen.log_prob(target)
