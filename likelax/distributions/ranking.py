"""Rankings: the Plackett-Luce."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._mesh import divided, with_auto_axes
from likelax._pytree import Array, param
from likelax.distributions.base import Distribution
from likelax.numerics.indexing import take, whole
from likelax.numerics.ranking import log_shares_of_rest


class PlackettLuce(Distribution):
    """Rankings of n items, each place given to one of the items left with odds exp(score).

    log p(r) = sum_j [scores[r_j] - log sum_{k >= j} exp(scores[r_k])], in nats. A value is a
    permutation of 0..n-1, the number of the first item first, as integers `(*sample, *batch, n)`;
    where a number is missing or there twice, or none of an item, log p is -inf. A common offset of
    the scores changes nothing. With it the loss of a ranking is ListMLE; of two items it is
    Bradley and Terry's.

    Parameters: `scores`, `(*batch, n)`, real: the logits of the first place. Samples are int32, -1
    where a score is NaN. The mode goes by falling scores. Entropy and KL are sums over n! rankings and raise NotImplementedError;
    so do mean and variance.

    Source: Plackett (1975), "The analysis of permutations"; Luce (1959). Samples sort scores with
      Gumbel noise (Yellott 1977).
    """

    _takes_indices = True
    scores: Array = param(supports.real, shape=("event",))
    support = supports.permutation

    def log_prob(self, value: Array) -> Array:
        def shares(value: Array, scores: Array) -> Array:
            return jnp.sum(log_shares_of_rest(take(value, scores)), axis=-1)

        ndim = max(value.ndim, self.scores.ndim) - 1
        value, scores = (
            x.reshape((1,) * (ndim + 1 - x.ndim) + x.shape)
            for x in map(whole, (value, self.scores))
        )
        return with_auto_axes(shares, divided(ndim, value, scores))(value, scores)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        scores = jax.lax.stop_gradient(self.scores)
        drawn = _by_fall(scores + jax.random.gumbel(key, self._shape(shape), self.dtype))
        return jnp.where(jnp.any(jnp.isnan(scores), axis=-1, keepdims=True), -1, drawn)

    def mode(self) -> Array:
        return _by_fall(self.scores)


def _by_fall(scores: Array) -> Array:
    def order(scores: Array) -> Array:
        return jnp.argsort(scores, axis=-1, descending=True).astype(jnp.int32)

    return with_auto_axes(order, divided(scores.ndim - 1, scores))(whole(scores))
