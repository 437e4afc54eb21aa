"""Passes through the networks of a latent-variable model: its parameters, latents and densities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from likelax._keys import stream
from likelax._pytree import Array
from likelax.conditional import Conditional
from likelax.distributions.base import Distribution
from likelax.networks import Variables, called
from likelax.objective import Batch, claim_of
from likelax.vae._decoding import Decoding
from likelax.vae._rows import (
    Example,
    Inference,
    Joint,
    arguments,
    as_latents,
    flattened,
    sampled,
    total,
    unflattened,
)
from likelax.vae.priors import Given, Prior, as_prior, check_latents, check_prior_support


class Networks(NamedTuple):
    """What `merge` gives back: the user's own networks with trained values.

    Attributes:
      decoder: of p(x | z).
      encoder: of q(z | x), a tuple where there are several layers of latents.
      prior: a network where the prior is a Conditional, else a Distribution; a tuple likewise.
    """

    decoder: Any
    encoder: Any
    prior: Any


class Passes(Decoding):
    """The networks of a `LatentModel` and what they say."""

    def __init__(self, decoder: Conditional, encoder: Any, prior: Any):
        self.decoder, self.encoder, self.prior = decoder, encoder, prior
        self._layered = isinstance(encoder, tuple | list)
        self._encoders: tuple[Conditional, ...] = tuple(encoder) if self._layered else (encoder,)
        priors = tuple(prior) if isinstance(prior, tuple | list) else (prior,)
        for name, part in (("decoder", decoder), *(("encoder", e) for e in self._encoders)):
            self._check_conditional(name, part)
        if len(priors) != len(self._encoders) or not priors:
            raise ValueError(
                f"{self._name}: one prior for each encoder wanted, got {len(priors)} priors and "
                f"{len(self._encoders)} encoders; both are tuples, top latent first"
            )
        self._priors: tuple[Prior, ...] = tuple(as_prior(p) for p in priors)
        heads = [claim_of(part.head) for part in (decoder, *self._encoders)]
        self._given = total([*heads, *(p.claim for p in self._priors)])

    # Parameters.

    def init(self, key: Array, batch: Batch) -> Variables:
        """Parameters and state, shaped by one batch; where its values are at hand, they are looked at:
        data outside the decoder's support would cost infinitely much.
        """
        batch, keep = self._prepared(batch)
        data = self._example(batch, keep)
        above: tuple[Array, ...] = ()
        encoders, priors = [], []
        for i in range(len(self._encoders)):
            inner, outer, z = self._init_layer(i, stream(key, f"layer {i}"), data, above)
            above = (*above, z)
            encoders.append(inner)
            priors.append(outer)
        parts = arguments(None, above, data.input)
        with called("decoder", parts):
            last = self.decoder.init(stream(key, "decoder"), parts)
            dist, _ = self.decoder.apply(last.params, parts, state=last.state)
        self._check_decoder(dist, data)
        step = jnp.zeros((), jnp.int32) if self._has_steps else None
        params = self._packed(last.params, [v.params for v in encoders], [v.params for v in priors])
        states = [v.state for v in encoders], [v.state for v in priors]
        return Variables(params, self._state(last.state, *states, step))

    def _init_layer(
        self, i: int, key: Array, data: Example, above: tuple[Array, ...]
    ) -> tuple[Variables, Variables, Array]:
        """Encoder, prior, and example latents of layer i, `(1, batch, *event)`."""
        encoder, prior = self._encoders[i], self._priors[i]
        parts = arguments(data.seen, above, data.input)
        with called("encoder", parts):
            inner = encoder.init(stream(key, "encoder"), parts)
            q, _ = encoder.apply(inner.params, parts, state=inner.state)
        self._check_encoder(q, data)
        self._check_kind(q)
        parts, encode = arguments(None, above, data.input), self._encode(inner.params, inner.state)
        with called("prior", parts):
            outer = prior.init(stream(key, "prior"), parts, data.seen)
            p, _ = prior.apply(
                outer.params,
                parts,
                encode,
                key=stream(key, "prior draw"),
                state=outer.state,
                train=False,
            )
        check_latents(q.event_shape, p, self._name)
        z = q.sample(stream(key, "latents"))
        check_prior_support(q, p, z, self._name)
        return inner, outer, as_latents(q, z)[None]

    def _packed(self, decoder: Any, encoders: Any, priors: Any) -> dict[str, Any]:
        each = (tuple(encoders), tuple(priors))
        encoder, prior = each if self._layered else (each[0][0], each[1][0])
        return {"decoder": decoder, "encoder": encoder, "prior": prior}

    def _parts(self, tree: Any) -> tuple[Any, tuple[Any, ...], tuple[Any, ...]]:
        """Parameters or state of the decoder, the encoders and the priors."""
        if not isinstance(tree, dict):
            nothing = ((),) * len(self._encoders)
            return (), nothing, nothing
        if not {"decoder", "encoder", "prior"} <= tree.keys():
            raise ValueError(
                f"{self._name}: parameters and state hold decoder, encoder and prior, got "
                f"{sorted(tree)}; write params, state = model.init(key, batch)"
            )
        if self._layered:
            return tree["decoder"], tuple(tree["encoder"]), tuple(tree["prior"])
        return tree["decoder"], (tree["encoder"],), (tree["prior"],)

    def _state(self, decoder: Any, encoders: Any, priors: Any, step: Any) -> Any:
        state = self._packed(decoder, encoders, priors)
        if step is not None:
            return state | {"step": step}
        return state if jax.tree.leaves(state) else ()

    def _next_state(self, inference: Inference, joint: Joint, state: Any, train: bool) -> Any:
        step = state["step"] + train if self._has_steps else None
        return self._state(joint.decoder_state, inference.state, joint.state, step)

    def merge(self, params: Any, state: Any = ()) -> Any:
        """The user's own networks with these values, as `Networks(decoder, encoder, prior)`."""
        (dec, enc, pri), (dec_state, enc_state, pri_state) = self._parts(params), self._parts(state)
        encoders = [e.merge(v, s) for e, v, s in zip(self._encoders, enc, enc_state, strict=True)]
        encode = self._encode(enc[0], enc_state[0])
        priors = [
            p.conditional.merge(v, s)
            if isinstance(p, Given)
            else p.apply(v, None, encode, key=None, state=s, train=False)[0]
            for p, v, s in zip(self._priors, pri, pri_state, strict=True)
        ]
        return Networks(**self._packed(self.decoder.merge(dec, dec_state), encoders, priors))

    # What changes with the step.

    @property
    def _schedules(self) -> tuple[Any, ...]:
        """Options that may be functions of the step."""
        return ()

    @property
    def _has_steps(self) -> bool:
        return any(callable(option) for option in self._schedules)

    def _at_step(self, option: Any, state: Any) -> Any:
        """The option's value now.

        Raises:
          ValueError: for a schedule without the state that counts the steps.
        """
        if not callable(option):
            return option
        if not isinstance(state, dict):
            raise ValueError(
                f"{self._name}: a schedule needs the step, which is in the state; pass state=state, "
                "as from params, state = model.init(key, batch), and go on with aux.state"
            )
        return option(state["step"])

    # Checks that cost nothing under jit.

    def _check_encoder(self, q: Distribution, data: Example) -> None:
        if q.batch_shape != (data.count,):
            raise ValueError(
                f"{self._name}: the encoder gives distributions of batch shape {q.batch_shape} for "
                f"{data.count} examples, one for each wanted; put the other axes into the event: "
                f"lx.Head(..., event_shape={q.batch_shape[1:] + q.event_shape})"
            )

    def _check_kind(self, q: Distribution) -> None:
        """Raises ValueError for latents that the gradient does not reach."""
        if q.support.is_discrete:
            raise ValueError(
                f"{self._name}: latents of {type(q).__name__} are discrete, their samples have no "
                'gradient; write lx.vae.IWAE(..., num_particles=8, estimator="vimco"), '
                "lx.vae.GumbelSoftmax, or, where there are few states, lx.vae.Enumerated"
            )

    # The model at random latents.

    def _encode(self, params: Any, state: Any) -> Callable[[Array], Distribution]:
        """The top encoder for a prior that is made of it."""
        return lambda target: self._encoders[0].apply(params, target, state=state)[0]

    def _draw(self, q: Distribution, key: Array, count: int | None) -> tuple[Array, Array]:
        """Latents and their log q: `(*batch, *event)`, with an axis of `count` before it if given."""
        self._check_kind(q)
        return sampled(q, key, count)

    def _infer(
        self,
        params: Any,
        key: Array,
        data: Example,
        *,
        state: Any,
        train: bool,
        count: int,
        draw: Callable[..., tuple[Array, Array]] | None = None,
    ) -> Inference:
        """`count` particles of the latents of each example, with their densities."""
        draw = draw or self._draw
        (_, own, _), (_, states, _) = self._parts(params), self._parts(state)
        latents: list[Array] = []
        posteriors, log_q, new_state = [], [], []
        for i, encoder in enumerate(self._encoders):
            parts = arguments(data.seen, tuple(latents), data.input)
            with called("encoder", parts):
                q, after = encoder.apply(
                    own[i], parts, key=stream(key, f"encoder {i}"), state=states[i], train=train
                )
            if i == 0:
                self._check_encoder(q, data)
            z, log_density = draw(q, stream(key, f"latents {i}"), None if i else count)
            if i:
                z, log_density = (unflattened(x, count) for x in (z, log_density))
            latents.append(as_latents(q, z))
            posteriors.append(q)
            log_q.append(log_density)
            new_state.append(after)
        return Inference(tuple(latents), tuple(posteriors), tuple(log_q), tuple(new_state))

    def _stopped_log_q(
        self, params: Any, key: Array, inference: Inference, data: Example, state: Any, train: bool
    ) -> Array:
        """log q(z | x), `(K, B)`, whose gradient is that in the latents alone."""
        own, states = (jax.lax.stop_gradient(self._parts(tree)[1]) for tree in (params, state))
        latents, count = inference.latents, inference.latents[0].shape[0]
        log_q = jax.lax.stop_gradient(inference.posteriors[0]).log_prob(latents[0])
        for i, encoder in enumerate(self._encoders[1:], start=1):
            # Where latents lie above, q depends on them too: that path stays.
            parts = arguments(data.seen, latents[:i], data.input)
            q, _ = encoder.apply(
                own[i], parts, key=stream(key, f"encoder {i}"), state=states[i], train=train
            )
            log_q = log_q + unflattened(q.log_prob(flattened(latents[i])), count)
        return log_q

    def _join(
        self,
        params: Any,
        key: Array,
        latents: tuple[Array, ...],
        data: Example,
        *,
        state: Any,
        train: bool,
    ) -> Joint:
        """log p(x | z) and log p(z) at these latents, `(K, B, *event)` each."""
        (dec, enc, pri), (dec_state, enc_state, pri_state) = self._parts(params), self._parts(state)
        count = latents[0].shape[0]
        encode = self._encode(enc[0], enc_state[0])
        priors, log_prior, new_state = [], [], []
        for i, prior in enumerate(self._priors):
            parts = arguments(None, latents[:i], data.input)
            with called("prior", parts):
                p, after = prior.apply(
                    pri[i],
                    parts,
                    encode,
                    key=stream(key, f"prior {i}"),
                    state=pri_state[i],
                    train=train,
                )
            check_latents(latents[i].shape[2:], p, self._name)
            flat = i > 0 and p.batch_shape != ()
            z = flattened(latents[i]) if flat else latents[i]
            log_density = p.log_prob(z)
            priors.append(p)
            log_prior.append(unflattened(log_density, count) if flat else log_density)
            new_state.append(after)
        parts = arguments(None, latents, data.input)
        with called("decoder", parts):
            dist, after = self.decoder.apply(
                dec, parts, key=stream(key, "decoder"), state=dec_state, train=train
            )
        log_likelihood = unflattened(self._log_likelihood(dist, data, count), count)
        return Joint(log_likelihood, tuple(log_prior), tuple(priors), dist, tuple(new_state), after)
