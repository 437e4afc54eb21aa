"""Latents that are the nearest vectors of a codebook."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from likelax._checks import is_count, is_number, sample_shape
from likelax._keys import check_key, stream
from likelax._pytree import Array
from likelax.conditional import Conditional
from likelax.distributions.base import Distribution
from likelax.networks import Variables, adapt, called
from likelax.objective import Batch, Claim, Scores, claim_of
from likelax.vae._decoding import Decoding
from likelax.vae._rows import arguments, as_floats, measure_of_data


class VQVAE(Decoding):
    """-log p(x | e_k) + n log M, where each of the n vectors that the encoder puts out is replaced by
    the nearest e_k of M codes, in nats (van den Oord et al. 2017).

    The encoder chooses one value of the latents for sure and the prior is uniform over codes, so that
    this is a negative ELBO: an upper bound on -log p(x), of which n log M nats pay for the codes. In
    training the codebook's and the encoder's distances are added, which are not negative: still an
    upper bound, but its gradient is a straight-through one, of no number.

    Samples need a prior that knows which codes go together, trained on them afterwards. It takes the
    place of the uniform one, and log p(codes) that of -n log M in the bound::

        codes = model.codes(params, x).reshape(len(x), -1)  # (batch, n), positions in a row
        prior = lx.sequence.Autoregressive(net, lx.Head(lx.Categorical, num_categories=M), start=M)
        fitted = lx.train.fit(prior, optimizer, lx.Batch(codes), steps=1000, key=key).params
        bound = -model.reconstruct(params, x).log_prob(x) - prior.log_prob(fitted, lx.Batch(codes))
        drawn = prior.sample(fitted, key, (25,), length=codes.shape[1])
        images = model.decode(params, drawn.reshape(25, *positions)).sample(key)

    Parameters are `{"decoder": .., "encoder": the network's, "codebook": (M, features)}`; the codes
    start at outputs of the encoder.

    Args:
      decoder: p(x | codes), a `lx.Conditional` whose network is called with `(batch, *positions,
        features)`, or that and the input.
      encoder: a network, not a Conditional, of the target (and the input) as floats, that puts out
        `(batch, *positions, features)`; `(batch, features)` is one code.
      num_codes: M, at least 2.
      features: the length of a code.
      commitment: how much an encoder's output counts that is far from its code.

    Raises:
      ValueError: for options that are none, or an encoder of another number of features.
    """

    claim = Claim("upper", unbiased=False)

    def __init__(
        self,
        decoder: Conditional,
        encoder: Any,
        *,
        num_codes: int,
        features: int,
        commitment: float = 0.25,
    ):
        self._check_conditional("decoder", decoder)
        if isinstance(encoder, Conditional):
            raise TypeError(
                f"{self._name}: encoder is a network alone, it needs no head: write net"
            )
        if not (is_count(num_codes) and num_codes >= 2 and is_count(features)):
            raise ValueError(
                f"{self._name}: num_codes is at least 2 and features at least 1, whole numbers, got "
                f"{num_codes!r} and {features!r}"
            )
        if not (is_number(commitment) and commitment >= 0):
            raise ValueError(
                f"{self._name}: commitment is at least 0, got {commitment!r}; write commitment=0.25"
            )
        self.decoder, self.encoder = decoder, encoder
        self._net = adapt(encoder)
        self.num_codes, self.features, self.commitment = num_codes, features, commitment
        self.claim = self.claim + claim_of(decoder.head)

    def init(self, key: Array, batch: Batch) -> Variables:
        batch, keep = self._prepared(batch)
        data = self._example(batch, keep)
        to_encoder = arguments(data.seen, (), data.input)
        with called("encoder", to_encoder):
            inner = self._net.init(stream(key, "encoder"), to_encoder)
            found, _ = self._net.apply(
                inner.params, to_encoder, key=None, state=inner.state, train=False
            )
        self._check_features(found)
        codebook = self._first_codes(stream(key, "codebook"), found)
        z = nearest(codebook, found)[1]
        parts = arguments(None, (z[None],), data.input)
        with called("decoder", parts):
            last = self.decoder.init(stream(key, "decoder"), parts)
            dist, _ = self.decoder.apply(last.params, parts, state=last.state)
        self._check_decoder(dist, data)
        params = {"decoder": last.params, "encoder": inner.params, "codebook": codebook}
        state = {"decoder": last.state, "encoder": inner.state}
        return Variables(params, state if jax.tree.leaves(state) else ())

    def _first_codes(self, key: Array, found: Array) -> Array:
        """Outputs of the encoder, each a little aside: those that are equal would stay so."""
        rows = found.reshape((-1, self.features))
        chosen = rows[jax.random.randint(stream(key, "rows"), (self.num_codes,), 0, len(rows))]
        spread = 0.1 * jnp.std(rows) + 1e-3
        return chosen + spread * jax.random.normal(stream(key, "noise"), chosen.shape, chosen.dtype)

    def _check_features(self, found: Array) -> None:
        if found.shape[-1] != self.features:
            raise ValueError(
                f"{self._name}: the encoder puts out shape {found.shape}, {self.features} features on "
                f"the last axis wanted; write features={found.shape[-1]}"
            )

    def merge(self, params: Any, state: Any = ()) -> Any:
        """The user's own networks with these values, `(decoder, encoder)`."""
        own = state or {"decoder": (), "encoder": ()}
        return (
            self.decoder.merge(params["decoder"], own["decoder"]),
            self._net.merge(params["encoder"], own["encoder"]),
        )

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        data = self._example(batch, keep)
        own = state or {"decoder": (), "encoder": ()}
        found, encoder_state = self._net.apply(
            params["encoder"],
            arguments(data.seen, (), data.input),
            key=stream(key, "encoder"),
            state=own["encoder"],
            train=train,
        )
        self._check_features(found)
        index, code = nearest(params["codebook"], found)
        # The code itself, to the last digit, with the gradient of what was found.
        z = jax.lax.stop_gradient(code) + (found - jax.lax.stop_gradient(found))
        dist, decoder_state = self.decoder.apply(
            params["decoder"],
            arguments(None, (z[None],), data.input),
            key=stream(key, "decoder"),
            state=own["decoder"],
            train=train,
        )
        reconstruction = -self._log_likelihood(dist, data, 1)
        rate = math.prod(index.shape[1:]) * math.log(self.num_codes)
        codebook = _squares(code - jax.lax.stop_gradient(found))
        commitment = _squares(found - jax.lax.stop_gradient(code))
        terms = {"reconstruction": reconstruction, "codebook": codebook, "commitment": commitment}
        extra = codebook + self.commitment * commitment if train else 0.0
        claim = dataclasses.replace(self.claim, measure=measure_of_data(dist, data))
        new = {"decoder": decoder_state, "encoder": encoder_state}
        cost = reconstruction + rate + extra
        return Scores(cost, terms, new if jax.tree.leaves(new) else (), claim)

    def codes(self, params: Any, x: Any, *, input: Any = None, state: Any = ()) -> Array:
        """The indices of the nearest codes, `(batch, *positions)`."""
        own = state or {"encoder": ()}
        found, _ = self._net.apply(
            params["encoder"],
            arguments(as_floats(x), (), input),
            key=None,
            state=own["encoder"],
            train=False,
        )
        return nearest(params["codebook"], found)[0]

    def decode(
        self, params: Any, codes: ArrayLike, *, input: Any = None, state: Any = ()
    ) -> Distribution:
        """p(x | codes), of batch shape `(batch,)`, at indices `(batch, *positions)`."""
        own = state or {"decoder": ()}
        parts = arguments(None, (params["codebook"][jnp.asarray(codes)][None],), input)
        return self.decoder.apply(params["decoder"], parts, state=own["decoder"])[0]

    def reconstruct(
        self, params: Any, x: Any, *, input: Any = None, state: Any = ()
    ) -> Distribution:
        """p(x' | codes of x), of batch shape `(batch,)`."""
        codes = self.codes(params, x, input=input, state=state)
        return self.decode(params, codes, input=input, state=state)

    def sample(
        self,
        params: Any,
        key: Array,
        shape: int | tuple[int, ...] = (),
        *,
        input: Any = None,
        state: Any = (),
    ) -> Array:
        """Draws `(*shape, *event)` values of the model whose bound this is: uniform codes, x of the
        decoder. For codes of a prior of your own: `decode(params, codes).sample(key)`.

        Args:
          params: as from `init` or training.
          key: a random key.
          shape: how many.
          input: of a conditional model, `(n, ...)` for `shape == (n,)`.
          state: as from `init` or training.
        """
        shape, key = sample_shape(self._name, shape, input), check_key(key)
        rows = (math.prod(shape), *self.decoder.head.event_shape)
        like = jax.eval_shape(lambda: self.codes(params, jnp.zeros(rows), input=input, state=state))
        codes = jax.random.randint(stream(key, "codes"), like.shape, 0, self.num_codes)
        dist = self.decode(params, codes, input=input, state=state)
        x = dist.sample(stream(key, "decoder"))
        return x.reshape(shape + x.shape[1:])


def nearest(codebook: Array, x: Array) -> tuple[Array, Array]:
    """The index of the nearest code, `(...,)`, and that code, for vectors `(..., features)`."""
    # |x - e|^2 without |x|^2, which all codes share.
    e, x = (v.astype(jnp.promote_types(v.dtype, jnp.float32)) for v in (codebook, x))
    index = jnp.argmin(jnp.sum(e**2, -1) - 2 * x @ e.T, -1)
    return index, codebook[index]


def _squares(x: Array) -> Array:
    """The sum of squares of each example, `(batch,)`, in float32 or wider."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return jnp.sum(x**2, axis=tuple(range(1, x.ndim)))
