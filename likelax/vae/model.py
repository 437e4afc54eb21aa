"""The model behind every bound: a decoder, an encoder and a prior, in one or more layers of latents."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp

from likelax._checks import sample_shape
from likelax._keys import check_key, stream
from likelax._pytree import Array
from likelax.distributions.base import Distribution
from likelax.networks import called
from likelax.vae._passes import Passes
from likelax.vae._rows import Example, arguments, as_floats, as_latents, sampled


class LatentModel(Passes):
    """p(x, z) = p(x | z) p(z) with an encoder q(z | x): the base of ELBO, IWAE and their kin.

    Args:
      decoder: p(x | z), a `lx.Conditional` whose head has the target's event shape. Its network is
        called with z, with `(z, input)` where the batch has an input, and with `(z_1, .., z_L)` where
        there are several layers.
      encoder: q(z | x), a `lx.Conditional`. Its network is called with the target as floats, or
        `(target, input)`. For a hierarchy a tuple, top latent first: network i is called with
        `(target, z_1, .., z_{i-1})`, and the input last.
      prior: p(z), one of a Distribution (fixed), a head (learned), a `lx.Conditional` (given the
        input) and `lx.vae.VampPrior(C)`. For a hierarchy a tuple as long: prior i is a Conditional of
        `(z_1, .., z_{i-1})`, and the input last.

    Parameters are `{"decoder": .., "encoder": .., "prior": ..}`, the state likewise, or `()` where
    there is none. A target is `(batch, *event)`. A mask of the target's full shape says which
    features were seen: p(x | z) is then that of those, and the encoder sees 0 for the others (MIWAE:
    Mattei and Frellsen 2019); the head's features must be independent given z.

    Networks see values as they are: pixels 0..255 want to be divided by 255 first.

    Example i of a batch has random numbers of its own, whatever the size of the batch. (Thousands of
    particles are drawn in blocks, whose size depends on it.) Latents that are angles, `lx.VonMises`,
    want networks that see their sine and cosine: the gradient knows nothing of a jump at pi.

    Raises:
      TypeError: for a decoder, an encoder or a prior that is none.
      ValueError: for encoders and priors of different number, or shapes that do not fit.
    """

    def posterior(self, params: Any, x: Any, *, input: Any = None, state: Any = ()) -> Distribution:
        """q(z | x), of batch shape `(batch,)`.

        Args:
          params: as from `init` or training.
          x: targets, `(batch, *event)`.
          input: the input of a conditional model.
          state: as from `init` or training.

        Raises:
          ValueError: in a hierarchy, where q of a layer needs the latents above: see `encode`.
        """
        if self._layered:
            raise ValueError(
                f"{self._name}: the posterior of several layers is no single distribution; write "
                "model.encode(params, key, x) for samples of all latents"
            )
        own, states = self._parts(params)[1], self._parts(state)[1]
        parts = arguments(as_floats(x), (), input)
        with called("encoder", parts):
            return self._encoders[0].apply(own[0], parts, state=states[0])[0]

    def prior_at(self, params: Any, *, input: Any = None, state: Any = ()) -> Distribution:
        """p(z), of batch shape `()`, or `(batch,)` where it depends on the input.

        Raises:
          ValueError: in a hierarchy: see `sample_latents`.
        """
        if self._layered:
            raise ValueError(
                f"{self._name}: the prior of several layers is no single distribution; write "
                "model.sample_latents(params, key, count)"
            )
        (_, enc, pri), (_, enc_state, pri_state) = self._parts(params), self._parts(state)
        encode, parts = self._encode(enc[0], enc_state[0]), arguments(None, (), input)
        prior = self._priors[0]
        return prior.apply(pri[0], parts, encode, key=None, state=pri_state[0], train=False)[0]

    def encode(
        self, params: Any, key: Array, x: Any, *, input: Any = None, state: Any = ()
    ) -> tuple[Array, ...]:
        """One sample z of q(z | x) for each target, a tuple of `(batch, *event)`, top layer first."""
        data = Example(jnp.asarray(x), as_floats(x), input)
        found = self._infer(
            params, check_key(key), data, state=state, train=False, count=1, draw=sampled
        )
        return tuple(z[0] for z in found.latents)

    def decode(
        self, params: Any, *latents: Array, input: Any = None, state: Any = ()
    ) -> Distribution:
        """p(x | z), of batch shape `(batch,)`, at latents `(batch, *event)`, one for each layer."""
        if len(latents) != len(self._encoders):
            raise ValueError(
                f"{self._name}.decode: latents of each of {len(self._encoders)} layers wanted, got "
                f"{len(latents)}; write model.decode(params, *latents)"
            )
        own, states = self._parts(params)[0], self._parts(state)[0]
        parts = arguments(None, tuple(jnp.asarray(z)[None] for z in latents), input)
        with called("decoder", parts):
            return self.decoder.apply(own, parts, state=states)[0]

    def reconstruct(
        self, params: Any, key: Array, x: Any, *, input: Any = None, state: Any = ()
    ) -> Distribution:
        """p(x' | z) at one z of q(z | x) for each target: `.mean()` is what is usually shown."""
        latents = self.encode(params, key, x, input=input, state=state)
        return self.decode(params, *latents, input=input, state=state)

    def sample_latents(
        self, params: Any, key: Array, count: int, *, input: Any = None, state: Any = ()
    ) -> tuple[Array, ...]:
        """`count` samples of p(z), a tuple of `(count, *event)`, top layer first."""
        (_, enc, pri), (_, enc_state, pri_state) = self._parts(params), self._parts(state)
        encode = self._encode(enc[0], enc_state[0])
        latents: tuple[Array, ...] = ()
        for i, prior in enumerate(self._priors):
            parts = arguments(None, tuple(z[None] for z in latents), input)
            p, _ = prior.apply(pri[i], parts, encode, key=None, state=pri_state[i], train=False)
            z = p.sample(stream(key, f"latents {i}"), () if p.batch_shape else (count,))
            latents = (*latents, as_latents(p, z))
        return latents

    def sample(
        self,
        params: Any,
        key: Array,
        shape: int | tuple[int, ...] = (),
        *,
        input: Any = None,
        state: Any = (),
    ) -> Array:
        """Draws `(*shape, *event)` values: z of the prior, x of the decoder.

        Args:
          params: as from `init` or training.
          key: a random key.
          shape: how many.
          input: of a conditional model, `(n, ...)` for `shape == (n,)`.
          state: as from `init` or training.
        """
        shape, key = sample_shape(self._name, shape, input), check_key(key)
        latents = self.sample_latents(
            params, stream(key, "prior"), math.prod(shape), input=input, state=state
        )
        dist = self.decode(params, *latents, input=input, state=state)
        x = dist.sample(stream(key, "decoder"))
        return x.reshape(shape + x.shape[1:])


def check_model(model: Any, owner: str) -> None:
    """Raises TypeError for a model without an encoder q(z | x), as `Enumerated` and `VQVAE`."""
    if not isinstance(model, LatentModel):
        raise TypeError(
            f"{owner}: a model with an encoder wanted, such as lx.vae.ELBO(decoder, encoder, prior), "
            f"got {type(model).__name__}; the number of a model without one is its own: write "
            "lx.evaluate(model, params, key, batch)"
        )
