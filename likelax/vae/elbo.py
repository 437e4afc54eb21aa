"""The evidence lower bound: reconstruction plus Kullback-Leibler divergence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from likelax import _checks
from likelax._pytree import Array
from likelax.conditional import Conditional
from likelax.distributions.base import Distribution, Independent
from likelax.distributions.kl import kl_divergence
from likelax.objective import Batch, Claim, Scores
from likelax.vae._rows import (
    Example,
    Inference,
    Joint,
    flattened,
    has_pathwise,
    measure_of_data,
    total,
    unflattened,
)
from likelax.vae.model import LatentModel


class ELBO(LatentModel):
    """-E_q[log p(x | z)] + KL(q(z | x) || p(z)), an upper bound on -log p(x) in nats (Kingma and
    Welling 2014; Rezende et al. 2014). The gap is KL(q(z | x) || p(z | x)).

    ::

        encoder = lx.Conditional(MLP(64, 2 * 16), lx.Head(lx.Normal, event_shape=16))
        decoder = lx.Conditional(MLP(16, 64), lx.Head(lx.Bernoulli, event_shape=64))
        prior = lx.Normal(jnp.zeros(16), 1.0).to_event()
        model = lx.vae.ELBO(decoder, encoder, prior)

    Both terms are sums over the event and the latents, in `terms["reconstruction"]` and
    `terms["kl"]` (as it is, without beta and free bits). `lx.vae.latent_usage` has the KL of each
    latent.

    With beta >= 1 or free bits the number is larger, and still an upper bound; with beta < 1, or a
    schedule of it, it is no likelihood in training. With `train=False` beta is 1 and there are no
    free bits. What a prior's head says of its own density (`claim`) is added to the claim.

    Args:
      decoder, encoder, prior: as for `LatentModel`.
      kl: "analytic", by `lx.kl_divergence`, or "monte_carlo", the mean of log q(z | x) - log p(z) over
        the particles.
      beta: what the KL counts (Higgins et al. 2017): a number, or a function of the step, such as an
        optax schedule; the step is then in the state.
      free_bits: in nats: the KL of each latent of each example counts as no less than this (after
        Kingma et al. 2016, who take the mean over examples first).
      num_particles: samples of z for each example, over which is averaged.

    Raises:
      ValueError: for options that are none, latents that are discrete, and free bits where the KL is
        not a sum over latents.
      NotImplementedError: where kl="analytic" and the pair has no closed form.
    """

    claim = Claim("upper")

    def __init__(
        self,
        decoder: Conditional,
        encoder: Any,
        prior: Any,
        *,
        kl: str = "analytic",
        beta: float | Callable[[Array], Any] = 1.0,
        free_bits: float = 0.0,
        num_particles: int = 1,
    ):
        super().__init__(decoder, encoder, prior)
        if kl not in ("analytic", "monte_carlo"):
            raise ValueError(f'{self._name}: kl is "analytic" or "monte_carlo", got {kl!r}')
        if not callable(beta) and not (_checks.is_number(beta) and beta >= 0):
            raise ValueError(
                f"{self._name}: beta is at least 0, or a function of the step, got {beta!r}; write "
                "beta=1.0"
            )
        if not (_checks.is_number(free_bits) and free_bits >= 0):
            raise ValueError(
                f"{self._name}: free_bits is at least 0, got {free_bits!r}; write free_bits=0.0"
            )
        check_particles(num_particles, 1, self._name)
        self.kl, self.beta, self.free_bits = kl, beta, free_bits
        self.num_particles = num_particles
        self.claim = self.claim + self._given

    @property
    def _schedules(self) -> tuple[Any, ...]:
        return (self.beta,)

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        data = self._example(batch, keep)
        inference = self._infer(
            params, key, data, state=state, train=train, count=self.num_particles
        )
        joint = self._join(params, key, inference.latents, data, state=state, train=train)
        reconstruction = -jnp.mean(joint.log_likelihood, axis=0)
        each = self._divergences(inference, joint)
        kl = charged = total(jnp.sum(part, axis=1) for part in each)
        terms = {"reconstruction": reconstruction, "kl": kl}
        if train and self.free_bits:
            charged = total(jnp.sum(jnp.maximum(part, self.free_bits), axis=1) for part in each)
        if train:
            charged = self._at_step(self.beta, state) * charged
        return Scores(
            reconstruction + charged,
            terms,
            self._next_state(inference, joint, state, train),
            self._claim(inference, joint, data, train),
        )

    def _claim(self, inference: Inference, joint: Joint, data: Example, train: bool) -> Claim:
        unbiased = all(has_pathwise(q) for q in inference.posteriors)
        claim = Claim("upper", unbiased) + self._given
        if train and (callable(self.beta) or self.beta < 1):
            return Claim("none", claim.unbiased)
        return dataclasses.replace(claim, measure=measure_of_data(joint.decoder, data))

    def _divergences(self, inference: Inference, joint: Joint) -> list[Array]:
        """KL(q || p) of each layer by its latents, `(B, latents)`, or `(B, 1)` where it is no sum."""
        layers = zip(inference.posteriors, joint.priors, inference.latents, strict=True)
        if self.kl == "analytic":
            return [
                self._analytic(q, p, z.shape[0] if i else 1) for i, (q, p, z) in enumerate(layers)
            ]
        if self.free_bits:
            return [self._estimated(q, p, z, i > 0) for i, (q, p, z) in enumerate(layers)]
        ratios = zip(inference.log_q, joint.log_prior, strict=True)
        return [jnp.mean(log_q - log_p, axis=0)[:, None] for log_q, log_p in ratios]

    def _analytic(self, q: Distribution, p: Distribution, count: int) -> Array:
        """In closed form; a mean over the particles of the latents above."""
        self._check_split(q, p)
        try:
            each = divergence(q, p)
        except NotImplementedError as error:
            raise NotImplementedError(
                f"{self._name}: KL({named(q)} || {named(p)}) has no closed form; write "
                'kl="monte_carlo", or add one with lx.register_kl'
            ) from error
        return _by_example(jnp.mean(unflattened(each, count), axis=0))

    def _estimated(self, q: Distribution, p: Distribution, z: Array, is_flat: bool) -> Array:
        """log q - log p of each latent, a mean over the particles."""
        self._check_split(q, p)
        rows = flattened(z) if is_flat else z
        ratio = _densities(q, rows) - _densities(p, rows)
        return _by_example(jnp.mean(unflattened(ratio, z.shape[0]) if is_flat else ratio, axis=0))

    def _check_split(self, q: Distribution, p: Distribution) -> None:
        if self.free_bits and q.event_ndim and not (is_product(q) and is_product(p)):
            raise ValueError(
                f"{self._name}: free bits need a KL that is a sum over latents, and that of "
                f"{named(q)} and {named(p)} is none; write free_bits=0, or take heads such as "
                f"lx.Head(lx.Normal, event_shape={q.event_shape}) and lx.Normal(...).to_event()"
            )


def check_particles(count: int, least: int, owner: str) -> None:
    """Raises ValueError unless `count` is a whole number of at least `least`."""
    if not (_checks.is_count(count) and count >= least):
        raise ValueError(
            f"{owner}: num_particles is a whole number, at least {least}, got {count!r}"
        )


# The KL by latents.


def is_product(dist: Distribution) -> bool:
    """Whether the latents are independent, so that densities and divergences are sums over them."""
    return isinstance(dist, Independent) and dist.ndims == dist.event_ndim - dist.base.event_ndim


def divergence(q: Distribution, p: Distribution) -> Array:
    """KL(q || p), `(rows, *latents)` where it is a sum over them and `(rows,)` where it is none."""
    if is_product(q) and is_product(p) and q.ndims == p.ndims:  # type: ignore[attr-defined]
        return kl_divergence(q.base, p.base)  # type: ignore[attr-defined]
    return kl_divergence(q, p)


def _densities(dist: Distribution, z: Array) -> Array:
    return dist.base.log_prob(z) if isinstance(dist, Independent) else dist.log_prob(z)


def _by_example(x: Array) -> Array:
    """`(B, *latents) -> (B, latents)`."""
    return x.reshape((x.shape[0], math.prod(x.shape[1:])))


def named(dist: Distribution) -> str:
    """The families of a distribution, from outside in."""
    inner = getattr(dist, "base", None)
    name = type(dist).__name__
    return f"{name}({named(inner)})" if isinstance(inner, Distribution) else name
