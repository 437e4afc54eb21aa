"""Distributions over finitely many classes."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, param
from likelax.distributions._odds import Odds, classes_kl, log_of, multiply, one_trial_kl, to_int
from likelax.distributions.base import Distribution
from likelax.distributions.kl import register_kl
from likelax.numerics.indexing import pick, take
from likelax.numerics.logspace import (
    entropy_term,
    log1mexp,
    log_sigmoid,
    log_softmax,
    logsumexp,
    sigmoid,
    softplus,
    xlogy,
)
from likelax.numerics.vocabulary import Summary


class Bernoulli(Odds):
    """One trial: log p(x) = x log p + (1 - x) log(1 - p) for x in {0, 1} (or booleans).

    With `logits` its negative log-density is binary cross-entropy.

    Parameters, of the batch's shape: `logits` = log(p/(1-p)), real, or `probs` = p in [0, 1], by
    keyword.
    """

    support = supports.boolean

    def log_prob(self, value: Array) -> Array:
        if self.given("probs"):
            return self._weigh(value, 1 - value)
        # x l - softplus(l) with the sign taken inside: near certainty it keeps its relative
        # accuracy, and infinite logits are no inf - inf.
        return -softplus((1 - 2 * value) * self.logits)

    # Between the bounds of the support there is only P(X <= 0).

    def cdf(self, value: Array) -> Array:
        return self._q()

    def log_cdf(self, value: Array) -> Array:
        return self._log_q()

    def survival(self, value: Array) -> Array:
        return self._p()

    def log_survival(self, value: Array) -> Array:
        return self._log_p()

    def quantile(self, q: Array) -> Array:
        return (q > self._q()).astype(q.dtype)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return jax.random.bernoulli(key, self.probs, self._shape(shape)).astype(jnp.int32)

    def mean(self) -> Array:
        return self.probs

    def mode(self) -> Array:
        return (self._p() > self._q()).astype(jnp.int32)

    def variance(self) -> Array:
        return self._p() * self._q()

    def entropy(self) -> Array:
        return entropy_term(self._log_p()) + entropy_term(self._log_q())


@register_kl(Bernoulli, Bernoulli)
def _kl_bernoulli(p: Bernoulli, q: Bernoulli) -> Array:
    return one_trial_kl(p, q)


class _Labels(Distribution):
    """Base of the families over the classes 0..K-1: what follows from their log-probabilities."""

    _takes_indices = True

    def _log_probs(self) -> Array:
        """log p of every class, `(*batch, K)`."""
        raise NotImplementedError

    @property
    def num_categories(self) -> int:
        """K, the number of classes."""
        raise NotImplementedError

    @property
    def support(self) -> supports.Support:
        """The integers 0..K-1."""
        return supports.integer_interval(0, self.num_categories - 1)

    def _probs(self) -> Array:
        return jnp.exp(self._log_probs())

    def _classes(self) -> Array:
        return jnp.arange(self.num_categories)

    def log_cdf(self, value: Array) -> Array:
        return logsumexp(self._log_probs(), where=self._classes() <= value[..., None])

    def log_survival(self, value: Array) -> Array:
        return logsumexp(self._log_probs(), where=self._classes() > value[..., None])

    def cdf(self, value: Array) -> Array:
        return jnp.sum(jnp.where(self._classes() <= value[..., None], self._probs(), 0), -1)

    def survival(self, value: Array) -> Array:
        return jnp.sum(jnp.where(self._classes() > value[..., None], self._probs(), 0), -1)

    def quantile(self, q: Array) -> Array:
        probs = self._probs()
        # The sum may end below a q that is nearly 1: the last possible class, then.
        last = jnp.max(jnp.where(probs > 0, self._classes(), 0), -1)
        below = jnp.sum(jnp.cumsum(probs, -1) < q[..., None], -1)
        return jnp.minimum(below, last).astype(q.dtype)

    def mean(self) -> Array:
        return jnp.sum(self._probs() * self._classes(), -1)

    def mode(self) -> Array:
        return jnp.argmax(self._log_probs(), -1).astype(jnp.int32)

    def variance(self) -> Array:
        deviation = self._classes() - jnp.expand_dims(self.mean(), -1)
        return jnp.sum(self._probs() * deviation**2, -1)

    def entropy(self) -> Array:
        return jnp.sum(entropy_term(self._log_probs()), -1)


@register_kl(_Labels, _Labels)
def _kl_labels(p: _Labels, q: _Labels) -> Array:
    _check_same_size(p.num_categories, q.num_categories)
    return classes_kl(p, q)


def _check_same_size(p: int, q: int) -> None:
    if p != q:
        raise ValueError(f"KL: {p} classes on the left, {q} on the right; both sides need the same")


def _shifted(logits: Array) -> tuple[Array, Array, Array]:
    """(logits - max, their exponentials, the sum of those).

    At logits near 1e6 a plain log-sum-exp would swallow the digits.
    """
    top = jax.lax.stop_gradient(jnp.max(logits, -1, keepdims=True))
    shifted = logits - jnp.where(top == -jnp.inf, 0, top)
    weights = jnp.exp(shifted)
    total = jnp.sum(weights, -1)
    return shifted, weights, jnp.where(total == 0, 1, total)


@jax.custom_jvp
def _log_pmf(logits: Array, value: Array) -> Array:
    shifted, _, total = _shifted(logits)
    return take(value[..., None], shifted)[..., 0] - jnp.log(total)


@_log_pmf.defjvp
def _log_pmf_jvp(primals, tangents):
    """sum_k (1[k = value] - p_k) dlogits_k, in one sweep over the classes."""
    (logits, value), (dlogits, _) = primals, tangents
    shifted, weights, total = _shifted(logits)
    here = value[..., None] == jnp.arange(logits.shape[-1], dtype=value.dtype)
    slope = jnp.where(shifted == -jnp.inf, 0, here - weights * (1 / total)[..., None])
    return _log_pmf(logits, value), jnp.sum(slope * dlogits, axis=-1)


def _draw(key: Array, logits: Array, shape: tuple[int, ...]) -> Array:
    """A class, -1 where a logit is NaN or no class is possible."""
    logits = jax.lax.stop_gradient(logits)
    index = jax.random.categorical(key, logits, shape=shape).astype(jnp.int32)
    return jnp.where(jnp.max(logits, axis=-1) > -jnp.inf, index, -1)


class Categorical(_Labels):
    """One of K classes: log p(k) = logits[k] - log sum exp(logits) for k = 0..K-1.

    With `logits` its negative log-density is cross-entropy. Values are integers; class labels given
    as floats are an error, and labels that are no class have log-density -inf.

    Parameters, of shape `(*batch, num_categories)`: `logits`, real (-inf is an impossible class),
    or `probs`, non-negative with sum 1, by keyword.

    Samples are int32, -1 where a parameter is NaN or no class is possible. `mean` and `variance` are
    those of the class's index.
    """

    logits: Array = param(supports.real, shape=("num_categories",), default=None, kw_only=True)
    probs: Array = param(
        supports.simplex,
        shape=("num_categories",),
        default=None,
        instead_of="logits",
        to=log_of,
        back=lambda logits: jnp.exp(log_softmax(logits)),
    )

    @property
    def num_categories(self) -> int:
        """K, the number of classes."""
        return (self.probs if self.given("probs") else self.logits).shape[-1]

    def _log_probs(self) -> Array:
        return log_of(self.probs) if self.given("probs") else log_softmax(self.logits)

    def _probs(self) -> Array:
        return self.probs

    def log_prob(self, value: Array) -> Array:
        if self.given("probs"):
            return log_of(pick(value, self.probs))
        return _log_pmf(self.logits, value)

    def _summary(self, token: Array, every: bool = False) -> Summary:
        """As of a `LinearCategorical`, whose logits are not held."""
        log_p = self._log_probs()
        zero = jnp.zeros((), log_p.dtype)
        normalizer = zero if self.given("probs") else logsumexp(self.logits)
        return Summary(self.log_prob(token), normalizer, jnp.mean(log_p, -1), self.entropy())

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return _draw(key, self.logits, self._shape(shape))


class OneHotCategorical(Distribution):
    """One of K classes as a one-hot vector: log p(x) = sum_k x_k logits[k] - log sum exp(logits).

    Parameters, of shape `(*batch, K)`: `logits`, real (-inf is an impossible class), or `probs`,
    non-negative with sum 1, by keyword. Samples are int32 vectors, of zeros where a parameter is NaN or no
    class is possible.
    """

    logits: Array = param(supports.real, shape=("event",), default=None, kw_only=True)
    probs: Array = param(
        supports.simplex,
        shape=("event",),
        default=None,
        instead_of="logits",
        to=log_of,
        back=lambda logits: jnp.exp(log_softmax(logits)),
    )

    support = supports.one_hot

    def _log_probs(self) -> Array:
        return log_of(self.probs) if self.given("probs") else log_softmax(self.logits)

    def log_prob(self, value: Array) -> Array:
        if self.given("probs"):
            return jnp.sum(xlogy(value, self.probs), -1)
        shifted, _, total = _shifted(self.logits)
        return jnp.sum(multiply(value, shifted), -1) - jnp.log(total)

    def _one_hot(self, index: Array) -> Array:
        return (index[..., None] == jnp.arange(self.event_shape[0])).astype(jnp.int32)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return self._one_hot(_draw(key, self.logits, shape + self.batch_shape))

    def mean(self) -> Array:
        return self.probs

    def mode(self) -> Array:
        return self._one_hot(jnp.argmax(self._log_probs(), -1))

    def variance(self) -> Array:
        return -self.probs * jnp.expm1(self._log_probs())

    def entropy(self) -> Array:
        return jnp.sum(entropy_term(self._log_probs()), -1)


@register_kl(OneHotCategorical, OneHotCategorical)
def _kl_one_hot(p: OneHotCategorical, q: OneHotCategorical) -> Array:
    _check_same_size(p.event_shape[0], q.event_shape[0])
    return classes_kl(p, q)


class OrderedLogistic(_Labels):
    """Ordered classes: P(Y <= k) = sigmoid(cutpoints[k] - loc) for k = 0..K-2, with K - 1
    cutpoints.

    log p(k) = log_sigmoid(b) + log_sigmoid(-a) + log(1 - exp(a - b)) with a, b = cutpoints[k-1] -
    loc, cutpoints[k] - loc; the first and last classes have one of the sigmoids only. (The
    proportional-odds
    model: McCullagh 1980.)

    Parameters: `loc`, real, of the batch's shape; `cutpoints`, strictly increasing, `(*batch,
      num_cutpoints)`.

    `mean` and `variance` are those of the class's index.
    """

    loc: Array = param(supports.real)
    cutpoints: Array = param(supports.ordered, shape=("num_cutpoints",))

    @property
    def num_categories(self) -> int:
        """K, the number of classes: one more than there are cutpoints."""
        return self.cutpoints.shape[-1] + 1

    def log_prob(self, value: Array) -> Array:
        first, last = value == 0, value == self.num_categories - 1
        low, high = pick(value - 1, self.cutpoints), pick(value, self.cutpoints)
        width = jnp.where(first | last, 1, high - low)
        log_below = jnp.where(last, 0, log_sigmoid(high - self.loc))
        log_above = jnp.where(first, 0, log_sigmoid(self.loc - low))
        return log_below + log_above + jnp.where(first | last, 0, log1mexp(width))

    def _log_probs(self) -> Array:
        expanded = OrderedLogistic(self.loc[..., None], self.cutpoints[..., None, :])
        return expanded.log_prob(self._classes())

    def log_cdf(self, value: Array) -> Array:
        return log_sigmoid(pick(value, self.cutpoints) - self.loc)

    def log_survival(self, value: Array) -> Array:
        return log_sigmoid(self.loc - pick(value, self.cutpoints))

    def cdf(self, value: Array) -> Array:
        return sigmoid(pick(value, self.cutpoints) - self.loc)

    def survival(self, value: Array) -> Array:
        return sigmoid(self.loc - pick(value, self.cutpoints))

    def quantile(self, q: Array) -> Array:
        below = sigmoid(self.cutpoints - self.loc[..., None])
        return jnp.sum(below < q[..., None], -1).astype(q.dtype)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        latent = self.loc + jax.random.logistic(key, self._shape(shape), self.dtype)
        return to_int(jnp.sum(latent[..., None] > self.cutpoints, -1))
