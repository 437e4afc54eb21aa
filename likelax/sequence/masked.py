"""Objectives that fill in hidden tokens from those that are seen, in any order."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from likelax._keys import row_keys, stream
from likelax._pytree import Array
from likelax.conditional import Conditional
from likelax.distributions.base import Distribution
from likelax.heads import HeadLike, MixtureHead
from likelax.networks import Variables
from likelax.objective import Batch, Claim, Objective, Scores, measure_of, target_log_prob, trailing
from likelax.sequence._tokens import (
    check_head,
    check_scored,
    check_whole,
    checked_bytes,
    classes_of,
    readable,
    sizes_of,
    widened,
)


class _Hidden(Objective):
    """A network that sees all tokens but some, in both directions, and predicts those."""

    def __init__(self, net: Any, head: HeadLike, *, mask_token: int):
        # A mixture of tokens is one, too: nothing but its log-probabilities is asked for.
        check_head(head.head if isinstance(head, MixtureHead) else head, owner=type(self).__name__)
        if mask_token < 0:
            raise ValueError(f"mask_token is a token of the network's, from 0, got {mask_token}")
        self.conditional, self.head = Conditional(net, head), head
        self.mask_token = mask_token

    def init(self, key: Array, batch: Batch) -> Variables:
        batch, keep = self._prepared(batch)
        return self.conditional.init(key, self._tokens(batch, keep)[1])

    def merge(self, params: Any, state: Any = ()) -> Any:
        return self.conditional.merge(params, state)

    def prepare(self, batch: Batch) -> Batch:
        shape = jnp.shape(batch.target)
        if len(shape) != 2:
            raise ValueError(
                f"{type(self).__name__}: a target has shape (batch, time), got {shape}; write "
                "target[None] for one sequence"
            )
        check_whole(widened(batch.target), self.head, owner=type(self).__name__)
        return batch

    def _tokens(self, batch: Batch, keep: Array | None) -> tuple[Array, Array]:
        """The tokens, and what the network can read of them."""
        target, classes = widened(batch.target), classes_of(self.head)
        check_scored(target, keep, classes, owner=type(self).__name__)
        return target, readable(target, keep, classes)

    def _kept(self, target: Array, keep: Array | None) -> Array:
        kept = jnp.ones(target.shape, bool)
        return kept if keep is None else kept & trailing(keep, 2)

    def _predict(
        self, params: Any, key: Array, seen: Array, state: Any, train: bool
    ) -> tuple[Distribution, Any]:
        return self.conditional.apply(
            params, seen, key=stream(key, "net"), state=state, train=train
        )


def _rows(key: Array, shape: tuple[int, ...]) -> Array:
    """Uniform numbers, each row from a key of its own number, so that the batch's size does not
    matter.
    """
    return jax.vmap(lambda k: jax.random.uniform(k, shape[1:]))(row_keys(key, shape[0]))


class AnyOrder(_Hidden):
    """An upper bound on the NLL of sequences, in nats per token: the order-agnostic autoregressive
    model, or diffusion by absorption (Hoogeboom et al. 2022, eq. 6).

    Of D tokens a random number k = 1..D, at random positions, are hidden; each hidden one costs
    (D / k) times its -log p given what is seen. On average over both draws that is the mean over all
    orders of the exact NLL in that order, which is no less than the NLL of the mixture of orders that
    the model is. The target is `(batch, time)` tokens; what the batch masks out is seen, not scored.

    Args:
      net: a network that takes tokens, `(batch, time)`, and looks both ways.
      head: of one token.
      mask_token: what stands where a token is hidden; it may be V, if the network has room for it.
      token_bytes: how many bytes of raw text a token stands for, a number or `(V,)`, for
        `lx.bits_per_byte`.

    Raises:
      TypeError: for a head that is not of tokens, or tokens that are real numbers.
      ValueError: for a target of another rank.
    """

    claim = Claim("upper", True, vanishes=None)

    def __init__(
        self, net: Any, head: HeadLike, *, mask_token: int, token_bytes: ArrayLike | None = None
    ):
        super().__init__(net, head, mask_token=mask_token)
        self.token_bytes = checked_bytes(token_bytes, head)

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        target, given = self._tokens(batch, keep)
        kept = self._kept(target, keep)
        count = jnp.sum(kept, axis=1, keepdims=True)  # D
        draws = _rows(stream(key, "order"), target.shape)
        order = jnp.where(kept, draws, jnp.inf)
        rank = jnp.argsort(jnp.argsort(order, axis=1), axis=1)  # 0..D-1 where kept
        uniform = _rows(stream(key, "number"), (target.shape[0], 1))
        hidden_count = 1 + jnp.minimum(jnp.floor(uniform * count), count - 1)  # k
        hidden = kept & (rank < hidden_count)
        seen = jnp.where(hidden, self.mask_token, given)
        dist, state = self._predict(params, key, seen, state, train)
        nll = -target_log_prob(dist, target, hidden, owner="AnyOrder")
        cost = jnp.where(hidden, nll * (count / jnp.maximum(hidden_count, 1)), 0)
        claim = dataclasses.replace(self.claim, measure=measure_of(dist))
        return Scores(cost, {}, state, claim, sizes_of(target, self.token_bytes))


class MaskedToken(_Hidden):
    """Predicts a share of the tokens from the others, as BERT does (Devlin et al. 2019); its number
    is no likelihood.

    Each token is chosen with probability `rate`; a chosen one is hidden, replaced by a random one or
    left alone, and costs its -log p. The loss is the mean over the chosen on average: each costs
    1 / rate times as much.

    Args:
      net, head, mask_token: as for `AnyOrder`, which is a bound.
      rate: the share of tokens to predict, in (0, 1].
      replace: probabilities that a chosen token is hidden, and that it becomes a random one.

    Raises:
      TypeError: for a head that is not of tokens, or tokens that are real numbers.
      ValueError: for probabilities that are none, or a target of another rank.
    """

    claim = Claim("none")

    def __init__(
        self,
        net: Any,
        head: HeadLike,
        *,
        mask_token: int,
        rate: float = 0.15,
        replace: tuple[float, float] = (0.8, 0.1),
    ):
        super().__init__(net, head, mask_token=mask_token)
        if not 0 < rate <= 1:
            raise ValueError(f"rate is in (0, 1], got {rate}")
        if min(replace) < 0 or sum(replace) > 1:
            raise ValueError(f"replace is two probabilities, got {replace}")
        if replace[1] and classes_of(head) is None:
            raise ValueError(
                "random tokens need a head that knows how many there are, lx.LinearHead or "
                "lx.Head(lx.Categorical, num_categories=V); or write replace=(1.0, 0.0)"
            )
        self.rate, self.replace = rate, replace

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        target, seen = self._tokens(batch, keep)
        chosen = self._kept(target, keep) & (_rows(stream(key, "chosen"), target.shape) < self.rate)
        how = _rows(stream(key, "how"), target.shape)
        hide, swap = self.replace
        if swap:
            draws = _rows(stream(key, "other"), target.shape)
            other = jnp.floor(draws * (classes_of(self.head) or 1))
            swapped = chosen & (how >= hide) & (how < hide + swap)
            seen = jnp.where(swapped, other.astype(seen.dtype), seen)
        seen = jnp.where(chosen & (how < hide), self.mask_token, seen)
        dist, state = self._predict(params, key, seen, state, train)
        nll = -target_log_prob(dist, target, chosen, owner="MaskedToken")
        return Scores(jnp.where(chosen, nll / self.rate, 0), {}, state, self.claim)
