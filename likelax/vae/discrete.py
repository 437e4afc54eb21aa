"""Discrete latents: summed out where they are few, or relaxed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from likelax import _checks
from likelax._checks import is_number, sample_shape
from likelax._keys import check_key, stream
from likelax._pytree import Array
from likelax.conditional import Conditional
from likelax.distributions.base import Distribution, Independent
from likelax.distributions.categorical import Bernoulli, Categorical, OneHotCategorical
from likelax.networks import Variables, called
from likelax.numerics.logspace import logsumexp, sigmoid
from likelax.objective import Batch, Claim, Scores, check_support, claim_of, outside
from likelax.vae._decoding import Decoding
from likelax.vae._rows import (
    Example,
    Inference,
    Joint,
    arguments,
    as_floats,
    as_latents,
    measure_of_data,
    of_features,
    of_logarithm,
    particles,
    sampled,
    unflattened,
)
from likelax.vae.elbo import ELBO
from likelax.vae.priors import VampPrior, as_prior

_MOST_STATES = 65_536


def states_of(dist: Distribution) -> Array:
    """Every value of a distribution over finitely many, `(states, *event)`.

    Raises:
      ValueError: for other distributions, and for more than 65,536 states.
    """
    if isinstance(dist, Independent):
        shape = dist.base.batch_shape[dist.base.batch_ndim - dist.ndims :]
        own = states_of(dist.base)
        repeats = math.prod(shape)
        if len(own) ** repeats > _MOST_STATES:
            raise ValueError(
                f"{len(own)}^{repeats} states are too many to sum over; write "
                'lx.vae.IWAE(..., estimator="vimco") with an encoder'
            )
        index = jnp.indices((len(own),) * repeats).reshape((repeats, -1)).T
        return own[index].reshape((-1, *shape, *own.shape[1:]))
    if isinstance(dist, OneHotCategorical):
        return jnp.eye(dist.event_shape[0], dtype=jnp.int32)
    if isinstance(dist, Bernoulli):
        return jnp.arange(2)
    count = getattr(dist, "num_categories", None)
    if count is not None and not dist.event_shape:
        return jnp.arange(count)
    raise ValueError(
        "latents to sum over are those of Categorical, OneHotCategorical, Bernoulli, or of "
        f"independent ones, got {type(dist).__name__}"
    )


class Enumerated(Decoding):
    """-log p(x) = -log sum_z p(z) p(x | z), in nats, over every value of discrete latents: exact, and
    without an encoder.

    The work grows with the number of values, for n bits 2^n; a mixture is the case of one Categorical.

    Args:
      decoder: p(x | z), a `lx.Conditional`. Its network is called with z: an index for Categorical
        latents, floats otherwise; with `(z, input)` where the batch has an input.
      prior: p(z) of Categorical, OneHotCategorical or Bernoulli latents, or independent ones: a
        Distribution (fixed), a head (learned) or a `lx.Conditional` of the input.

    Raises:
      ValueError: for latents that cannot be enumerated, or of more than 65,536 values.
    """

    claim = Claim("exact")

    def __init__(self, decoder: Conditional, prior: Any):
        self._check_conditional("decoder", decoder)
        self.decoder, self.prior = decoder, prior
        self._prior = as_prior(prior)
        if isinstance(self._prior, VampPrior):
            raise TypeError("Enumerated: a VampPrior is made of an encoder, and here is none")
        self.claim = claim_of(decoder.head) + of_logarithm(self._prior.claim)

    def init(self, key: Array, batch: Batch) -> Variables:
        batch, keep = self._prepared(batch)
        data = self._example(batch, keep)
        given = arguments(None, (), data.input)
        outer = self._prior.init(stream(key, "prior"), given, data.seen)
        p, _ = self._prior_at(outer.params, key, data.input, outer.state, False)
        first = states_of(p)[:1]
        z = as_latents(p, jnp.broadcast_to(first, (data.count, *first.shape[1:])))
        parts = arguments(None, (z[None],), data.input)
        with called("decoder", parts):
            inner = self.decoder.init(stream(key, "decoder"), parts)
            dist, _ = self.decoder.apply(inner.params, parts, state=inner.state)
        self._check_decoder(dist, data)
        state = {"decoder": inner.state, "prior": outer.state}
        params = {"decoder": inner.params, "prior": outer.params}
        return Variables(params, state if jax.tree.leaves(state) else ())

    def merge(self, params: Any, state: Any = ()) -> Any:
        """The user's own decoder with these values."""
        return self.decoder.merge(params["decoder"], state["decoder"] if state else ())

    def _prior_at(
        self, params: Any, key: Array, input: Any, state: Any, train: bool
    ) -> tuple[Distribution, Any]:
        given = arguments(None, (), input)
        return self._prior.apply(
            params, given, _no_encoder, key=stream(key, "prior"), state=state, train=train
        )

    def _joint(
        self, params: Any, key: Array, data: Example, state: Any, train: bool
    ) -> tuple[Array, Distribution, Any]:
        """log p(x, z) of every state, `(states, batch)`; the decoder; the state."""
        own = state or {"decoder": (), "prior": ()}
        p, prior_state = self._prior_at(params["prior"], key, data.input, own["prior"], train)
        states = states_of(p)
        wide = p.batch_ndim > 0
        log_prior = p.log_prob(states[:, None] if wide else states)
        z = as_latents(p, states)
        if data.input is None:  # the states alone, whatever the batch
            parts = arguments(None, (z[None],), None)
        else:
            z = jnp.broadcast_to(z[:, None], (len(z), data.count, *z.shape[1:]))
            parts = arguments(None, (z,), data.input)
        with called("decoder", parts):
            dist, decoder_state = self.decoder.apply(
                params["decoder"],
                parts,
                key=stream(key, "decoder"),
                state=own["decoder"],
                train=train,
            )
        log_likelihood = self._log_likelihoods(dist, data, len(states))
        log_prior = log_prior if wide else log_prior[:, None]
        state = {"decoder": decoder_state, "prior": prior_state}
        return log_likelihood + log_prior, dist, state if jax.tree.leaves(state) else ()

    def _log_likelihoods(self, dist: Distribution, data: Example, count: int) -> Array:
        """log p(x | z), `(states, batch)`."""
        if data.input is not None:
            return unflattened(self._log_likelihood(dist, data, count), count)
        x, given = data.target[:, None], dist
        if data.observed is not None:
            x = jnp.where(data.observed[:, None], x, 0)
            dist = of_features(dist, data.observed[:, None], self._name)
        elif data.keep is not None:
            dist = dist.mask(data.keep[:, None])
        if _checks.checking():
            nowhere = jnp.all(outside(dist, dist._value(x)), axis=1)
            check_support(given, nowhere, data.target, data.keep, owner=self._name)
        return dist.log_prob(x).T

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        data = self._example(batch, keep)
        log_joint, dist, state = self._joint(params, key, data, state, train)
        claim = dataclasses.replace(self.claim, measure=measure_of_data(dist, data))
        return Scores(-logsumexp(log_joint, axis=0), {}, state, claim)

    def posterior(self, params: Any, x: Any, *, input: Any = None, state: Any = ()) -> Categorical:
        """p(z | x) over the states, in the order of `states`: batch shape `(batch,)`."""
        data = Example(jnp.asarray(x), as_floats(x), input)
        return Categorical(logits=self._joint(params, jax.random.key(0), data, state, False)[0].T)

    def states(self, params: Any, *, input: Any = None, state: Any = ()) -> Array:
        """Every value of the latents, `(states, *event)`."""
        own = state["prior"] if state else ()
        return states_of(self._prior_at(params["prior"], jax.random.key(0), input, own, False)[0])

    def sample(
        self,
        params: Any,
        key: Array,
        shape: int | tuple[int, ...] = (),
        *,
        input: Any = None,
        state: Any = (),
    ) -> Array:
        """Draws `(*shape, *event)` values; with an input, `(n, ...)` for `shape == (n,)`."""
        shape = sample_shape(self._name, shape, input)
        key, own = check_key(key), state or {"decoder": (), "prior": ()}
        p, _ = self._prior_at(params["prior"], key, input, own["prior"], False)
        z = p.sample(stream(key, "latents"), () if p.batch_shape else (math.prod(shape),))
        parts = arguments(None, (as_latents(p, z)[None],), input)
        dist, _ = self.decoder.apply(params["decoder"], parts, state=own["decoder"])
        x = dist.sample(stream(key, "data"))
        return x.reshape(shape + x.shape[1:])


def _no_encoder(target: Array) -> Distribution:
    raise TypeError("this prior needs an encoder")


class GumbelSoftmax(ELBO):
    """The ELBO of discrete latents, trained through relaxed samples softmax((logits + Gumbel) / T)
    (Jang et al. 2017; Maddison et al. 2017), with the KL of the discrete distributions.

    In training the decoder sees relaxed latents, and the number is no likelihood; with
    `straight_through` it sees discrete ones, the number is the ELBO's, an upper bound, and only its
    gradient is that of the relaxed ones: biased. With `train=False` latents are discrete: an upper
    bound.

    Args:
      decoder, prior: as for `ELBO`, of the encoder's family.
      encoder: with a head of OneHotCategorical or Bernoulli latents, or independent ones.
      temperature: T > 0: a number, or a function of the step.
      straight_through: whether the decoder sees discrete latents in training.
      beta, free_bits, num_particles: as for `ELBO`.

    Raises:
      ValueError: for other latents, or a temperature that is none.
    """

    claim = Claim("none")

    def __init__(
        self,
        decoder: Conditional,
        encoder: Any,
        prior: Any,
        *,
        temperature: float | Callable[[Array], Any] = 0.5,
        straight_through: bool = False,
        beta: float | Callable[[Array], Any] = 1.0,
        free_bits: float = 0.0,
        num_particles: int = 1,
    ):
        super().__init__(
            decoder, encoder, prior, beta=beta, free_bits=free_bits, num_particles=num_particles
        )
        if not callable(temperature) and not (is_number(temperature) and temperature > 0):
            raise ValueError(
                f"{self._name}: temperature is positive, or a function of the step, got "
                f"{temperature!r}; write temperature=0.5"
            )
        self.temperature, self.straight_through = temperature, straight_through

    @property
    def _schedules(self) -> tuple[Any, ...]:
        return (self.beta, self.temperature)

    def _check_kind(self, q: Distribution) -> None:
        _relaxable(q)

    def _infer(self, *args: Any, state: Any, train: bool, draw: Any = None, **options: Any) -> Any:
        if draw is None:
            draw = sampled
            if train:
                temperature = self._at_step(self.temperature, state)

                def draw(q: Distribution, key: Array, count: int | None) -> tuple[Array, Array]:
                    return particles(lambda k: self._relaxed(q, k, temperature), key, count)

        return super()._infer(*args, state=state, train=train, draw=draw, **options)

    def _relaxed(self, q: Distribution, key: Array, temperature: Any) -> tuple[Array, Array]:
        """A relaxed sample, `(*batch, *event)`; its density, which the KL does not need, is 0."""
        z = relaxed_sample(q, key, temperature, straight_through=self.straight_through)
        return z, jnp.zeros(q.batch_shape, z.dtype)

    def _claim(self, inference: Inference, joint: Joint, data: Example, train: bool) -> Claim:
        claim = super()._claim(inference, joint, data, train)
        if train and not self.straight_through:
            return Claim("none", claim.unbiased)
        return dataclasses.replace(claim, unbiased=False)  # discrete samples have no gradient


def relaxed_sample(
    q: Distribution, key: Array, temperature: Any, *, straight_through: bool = False
) -> Array:
    """A sample of one-hot vectors or bits with the gradient of its relaxation, `(*batch, *event)`.

    Args:
      q: OneHotCategorical or Bernoulli, or independent ones.
      key: a random key.
      temperature: of the relaxation; positive.
      straight_through: whether the value itself is discrete.

    Raises:
      ValueError: for other distributions.
    """
    base = _relaxable(q)
    if isinstance(base, OneHotCategorical):
        noisy = base.logits + jax.random.gumbel(key, base.logits.shape, base.dtype)
        soft = jax.nn.softmax(noisy / temperature)
        hard = jax.nn.one_hot(jnp.argmax(noisy, -1), noisy.shape[-1], dtype=soft.dtype)
    else:
        noisy = base.logits + jax.random.logistic(key, base.logits.shape, base.dtype)
        soft = sigmoid(noisy / temperature)
        hard = (noisy > 0).astype(soft.dtype)
    return hard + (soft - jax.lax.stop_gradient(soft)) if straight_through else soft


def _relaxable(q: Distribution) -> OneHotCategorical | Bernoulli:
    """What is under the event axes; raises unless it has a relaxation."""
    while isinstance(q, Independent):
        q = q.base
    if isinstance(q, OneHotCategorical | Bernoulli):
        return q
    raise ValueError(
        f"only one-hot vectors and bits are relaxed, got {type(q).__name__}; write "
        "lx.Head(lx.OneHotCategorical, event_shape=(n, K)) in the encoder"
    )
