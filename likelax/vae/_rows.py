"""What the networks of a latent-variable model are given, and the records that come back.

Networks see particles and examples as one axis of rows, the examples first, since a sharded batch can
be merged with what comes after it only: K particles of B examples are `(B * K, ...)` there and
`(K, B, ...)` everywhere else.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from likelax._pytree import Array
from likelax.distributions.base import Distribution, Independent
from likelax.distributions.circular import VonMises
from likelax.distributions.mixture import Mixture
from likelax.networks import Arguments
from likelax.objective import Claim, Measure, measure_of


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["input", "observed"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class Partial:
    """An input beside the features that were seen, which came as the batch's mask."""

    input: Any
    observed: Array


class Example(NamedTuple):
    """A batch as the networks take it.

    Attributes:
      target: the data, `(batch, *event)`.
      seen: the data as floats, 0 where they are missing or masked out: what the encoder is given.
      input: `Batch.input`, or None.
      keep: `(batch,)`, or None: which examples count.
      observed: of the target's shape, or None: which features were seen.
    """

    target: Array
    seen: Array
    input: Any = None
    keep: Array | None = None
    observed: Array | None = None

    @property
    def count(self) -> int:
        """How many examples there are."""
        return self.seen.shape[0]


class Inference(NamedTuple):
    """Latents drawn from the encoder, layer by layer, top first; K particles of each of B examples.

    Attributes:
      latents: of each layer, `(K, B, *event)`.
      posteriors: q of each layer: of batch shape `(B,)` at the top, `(B * K,)` below.
      log_q: log q(z | x) of each layer, `(K, B)`.
      state: of the encoders.
    """

    latents: tuple[Array, ...]
    posteriors: tuple[Distribution, ...]
    log_q: tuple[Array, ...]
    state: tuple[Any, ...]


class Joint(NamedTuple):
    """The model at these latents.

    Attributes:
      log_likelihood: log p(x | z), `(K, B)`.
      log_prior: log p(z) of each layer, `(K, B)`.
      priors: p of each layer: of batch shape `()` or `(B,)` at the top, `()` or `(B * K,)` below.
      decoder: p(x | z), of batch shape `(B * K,)`.
      state: of the priors.
      decoder_state: of the decoder.
    """

    log_likelihood: Array
    log_prior: tuple[Array, ...]
    priors: tuple[Distribution, ...]
    decoder: Distribution
    state: tuple[Any, ...]
    decoder_state: Any


def flattened(x: Array) -> Array:
    """`(K, B, ...) -> (B * K, ...)`."""
    if x.shape[0] == 1:
        return x[0]
    return jnp.swapaxes(x, 0, 1).reshape((-1, *x.shape[2:]))


def unflattened(x: Array, count: int) -> Array:
    """`(B * K, ...) -> (K, B, ...)`."""
    if count == 1:
        return x[None]
    return jnp.swapaxes(x.reshape((-1, count, *x.shape[1:])), 0, 1)


def repeated(x: Any, count: int) -> Any:
    """Each example K times: `(B, ...) -> (B * K, ...)`, in each leaf."""
    if count == 1:
        return x

    def repeat(leaf: Any) -> Array:
        leaf = jnp.asarray(leaf)
        wide = jnp.broadcast_to(leaf[:, None], (leaf.shape[0], count, *leaf.shape[1:]))
        return wide.reshape((-1, *leaf.shape[1:]))

    return jax.tree.map(repeat, x)


def arguments(seen: Array | None, latents: tuple[Array, ...], input: Any) -> Any:
    """What a network is called with: the target, the latents above, the input, as far as there are
    any; latents, `(K, B, ...)`, make rows of all.
    """
    if latents:
        count = latents[0].shape[0]
        seen, input = repeated(seen, count), repeated(input, count)
    own = [part for part in (seen, *map(flattened, latents)) if part is not None]
    named: dict[str, Any] = {}
    if isinstance(input, Arguments):
        own, named = [*own, *input.positional], input.named
    elif input is not None:
        own.append(input)
    if not own and not named:
        return None
    return own[0] if len(own) == 1 and not named else Arguments(tuple(own), named)


def total(parts: Iterable[Any]) -> Any:
    """The sum of at least one array, or claim."""
    return functools.reduce(operator.add, parts)


def as_floats(x: Any) -> Array:
    """Data as a network takes them."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.result_type(float))


def as_latents(dist: Distribution, z: Array) -> Array:
    """Samples as a network takes them: floats, unless they are indices."""
    return z if dist._takes_indices else as_floats(z)


def particles(draw: Callable[[Array], Any], key: Array, count: int | None) -> Any:
    """`draw(key)`, with an axis of `count` independent ones first if given.

    Each particle has a key of its own and the examples are the first axis of what it draws, so that
    those of one example depend on its place in the batch, and not on the batch's size.
    """
    if count is None:
        return draw(key)
    if count == 1:
        return jax.tree.map(lambda x: x[None], draw(key))
    return jax.vmap(draw)(jax.random.split(key, count))


def sampled(q: Distribution, key: Array, count: int | None) -> tuple[Array, Array]:
    """Samples, `(*batch, *event)`, and their log-density, as `particles`."""
    return particles(q.sample_and_log_prob, key, count)


def of_features(dist: Distribution, observed: Array, owner: str) -> Distribution:
    """The marginal of the features that were seen, `observed` being `(rows, *event)`.

    Raises:
      ValueError: where the features depend on one another.
    """
    if isinstance(dist, Mixture):
        return Mixture(dist.weights, of_features(dist.components, observed[:, None], owner))
    if isinstance(dist, Independent) and not dist.base.event_ndim:
        return Independent(dist.base.mask(observed), dist.ndims)
    raise ValueError(
        f"{owner}: a mask of features needs a decoder whose features are independent given z, got "
        f"{type(dist).__name__} of event shape {dist.event_shape}; write "
        f"lx.Head(lx.Normal, event_shape={dist.event_shape}), say"
    )


def has_pathwise(q: Distribution) -> bool:
    """Whether the gradients of samples are whole: those of a mixture of vectors lack the weights', those
    of an angle what a network that is not periodic does where pi meets -pi.
    """
    if isinstance(q, VonMises):
        return False
    if isinstance(q, Mixture):
        return not q.event_ndim
    inner = getattr(q, "base", None)
    return has_pathwise(inner) if isinstance(inner, Distribution) else True


def of_logarithm(claim: Claim) -> Claim:
    """The claim of -log of a sum of densities from that of each one's logarithm: a bound on the mean of
    the logarithm, or an estimate of it, is none of the density.
    """
    return claim if claim.relation == "exact" else dataclasses.replace(claim, relation="none")


def measure_of_data(dist: Distribution, data: Example) -> Measure | None:
    """What log p(x) is a density against; None where examples have different features missing."""
    return measure_of(dist) if data.observed is None else None
