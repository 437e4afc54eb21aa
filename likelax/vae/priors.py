"""Priors over latents: fixed, learned, given an input, or made of the encoder itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from likelax._checks import is_count
from likelax._keys import stream
from likelax._pytree import Array, is_traced
from likelax.conditional import Conditional
from likelax.distributions.base import Distribution, Independent
from likelax.distributions.categorical import Categorical
from likelax.distributions.mixture import Mixture
from likelax.heads import HeadLike
from likelax.networks import Variables
from likelax.objective import Claim, claim_of

# What a prior may ask of the encoder beside it: targets `(rows, *event)` to q(z | target).
Encode = Callable[[Array], Distribution]


class VampPrior:
    """The mixture of the encoder's own posteriors at learned pseudo-inputs u_1..u_C: p(z) =
    sum_c q(z | u_c) / C (Tomczak and Welling 2018, "VAE with a VampPrior", eq. 9).

    The pseudo-inputs, `params["prior"]["inputs"]` of shape `(C, *target event)`, start at examples of
    the batch that `init` is given, the first one again where it has fewer than C. Not for a model with
    `Batch.input`, nor for a layer of latents below the top.

    Args:
      num_components: C.

    Raises:
      ValueError: unless there is at least one.
    """

    def __init__(self, num_components: int):
        if not is_count(num_components):
            raise ValueError(
                f"VampPrior: num_components is a whole number, at least 1, got {num_components!r}"
            )
        self.num_components = num_components

    claim = Claim()

    def init(self, key: Array, given: Any, target: Array) -> Variables:
        if given is not None:
            raise ValueError(
                "VampPrior: its pseudo-inputs are targets alone, and this prior has an input or "
                "latents above it; write prior=lx.Conditional(net, head)"
            )
        rows = jnp.arange(self.num_components)
        start = target[jnp.where(rows < len(target), rows, 0)]
        # A little apart: equal components would have equal gradients for ever.
        noise = 0.01 * jax.random.normal(stream(key, "inputs"), start.shape, start.dtype)
        return Variables({"inputs": start + noise})

    def apply(
        self, params: Any, given: Any, encode: Encode, *, key: Any, state: Any, train: bool
    ) -> tuple[Distribution, Any]:
        components = encode(params["inputs"])
        return Mixture(Categorical(logits=jnp.zeros(self.num_components)), components), state

    def __repr__(self) -> str:
        return f"VampPrior({self.num_components})"


class Fixed:
    """A distribution without parameters to learn."""

    claim = Claim()

    def __init__(self, dist: Distribution):
        self.dist = dist

    def init(self, key: Array, given: Any, target: Array) -> Variables:
        return Variables({})

    def apply(
        self, params: Any, given: Any, encode: Encode, *, key: Any, state: Any, train: bool
    ) -> tuple[Distribution, Any]:
        return self.dist, state


class Learned:
    """A head on a learned vector `raw`, as long as the head wants it."""

    def __init__(self, head: HeadLike):
        self.head = head
        self.claim = claim_of(head)

    def init(self, key: Array, given: Any, target: Array) -> Variables:
        # Small and random: the components of a mixture that start equal stay equal.
        raw = 0.1 * jax.random.normal(stream(key, "raw"), (self.head.size,), target.dtype)
        return Variables({"raw": raw, "head": self.head.init(stream(key, "head"), raw)})

    def apply(
        self, params: Any, given: Any, encode: Encode, *, key: Any, state: Any, train: bool
    ) -> tuple[Distribution, Any]:
        options: dict[str, Any] = {}
        if key is not None and getattr(self.head, "takes_key", False):
            options["key"] = stream(key, "head")
        return self.head(params["raw"], params["head"], **options), state


class Given:
    """A conditional, of the latents above and `Batch.input`."""

    def __init__(self, conditional: Conditional):
        self.conditional = conditional
        self.claim = claim_of(conditional.head)

    def _checked(self, given: Any) -> Any:
        if given is None:
            raise ValueError(
                "a prior that is a Conditional needs latents above it or an input; write "
                "lx.Batch(target, input=...), or give a head alone: prior=lx.Head(lx.Normal, ...); in a "
                "hierarchy the top latent comes first, in prior and encoder"
            )
        return given

    def init(self, key: Array, given: Any, target: Array) -> Variables:
        return self.conditional.init(key, self._checked(given))

    def apply(
        self, params: Any, given: Any, encode: Encode, *, key: Any, state: Any, train: bool
    ) -> tuple[Distribution, Any]:
        return self.conditional.apply(
            params, self._checked(given), key=key, state=state, train=train
        )


Prior = VampPrior | Fixed | Learned | Given


def as_prior(prior: Any) -> Prior:
    """One interface for every kind of prior.

    Raises:
      TypeError: when it is none of them.
    """
    if isinstance(prior, VampPrior):
        return prior
    if isinstance(prior, Distribution):
        return Fixed(prior)
    if isinstance(prior, Conditional):
        return Given(prior)
    if isinstance(prior, HeadLike) and not isinstance(prior, type):
        return Learned(prior)
    raise TypeError(
        "a prior is a Distribution, a head (learned), a Conditional (given what is above it) or "
        f"lx.vae.VampPrior, got {prior!r}; write prior=lx.Normal(jnp.zeros(16), 1.0).to_event()"
    )


def check_latents(event: tuple[int, ...], p: Distribution, owner: str) -> None:
    """Raises ValueError unless the prior is one of latents of this event shape, the encoder's."""
    if event == p.event_shape:
        return
    if not p.event_shape and event and p.batch_shape[-len(event) :] == event:
        mend = f"write prior.to_event({len(event)})"
    else:
        mend = (
            f"write prior=lx.Normal(jnp.zeros({event}), 1.0).to_event({len(event)}), or "
            f"event_shape={p.event_shape} in the encoder's head"
        )
    raise ValueError(
        f"{owner}: the encoder's latents have event shape {event}, the prior's event shape "
        f"{p.event_shape} with batch shape {p.batch_shape}; {mend}"
    )


def check_prior_support(q: Distribution, p: Distribution, z: Array, owner: str) -> None:
    """Raises ValueError where samples `z` of the encoder, if they are known, are none of the prior's: the
    bound would be infinite for ever.
    """
    found = q.support.is_discrete != p.support.is_discrete
    if not found:
        outside = p._excludes(p._value(z))
        found = not is_traced(outside) and bool(jnp.any(outside))
    if found:
        raise ValueError(
            f"{owner}: the encoder's latents are {q.support}, the prior's {p.support}: where the prior "
            "is 0 the bound is infinite; take an encoder's head of the prior's support, "
            f"lx.Head(lx.{_family(p)}, event_shape={p.event_shape})"
        )


def _family(p: Distribution) -> str:
    """The name of what is under the event axes."""
    return _family(p.base) if isinstance(p, Independent) else type(p).__name__
