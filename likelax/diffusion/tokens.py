"""Diffusion of tokens: noise hides or replaces them, and a network says what they were."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from likelax import _checks
from likelax._checks import is_count
from likelax._keys import check_key, row_keys, stream
from likelax._pytree import Array, is_traced
from likelax.networks import Arguments, Variables, adapt, called
from likelax.objective import Batch, Claim, Measure, Objective, Scores, trailing


class TokenDiffusion(Objective):
    """A network that is given noisy tokens and puts out logits of the clean ones: the base of both.

    Args:
      net: a network (see `likelax.networks`), called as net(z, level), or net(z, level, input) where the
        batch has an input: z `(batch, *event)` int32, level `(batch,)` the share of tokens that noise
        has reached on average, in [0, 1]; out come logits `(batch, *event, num_tokens)`.
      num_tokens: V; tokens are 0..V-1.
    """

    claim = Claim("upper")

    def __init__(self, net: Any, num_tokens: int):
        if not is_count(num_tokens) or num_tokens < 2:
            raise ValueError(f"{self._name}: num_tokens is a whole number >= 2, got {num_tokens!r}")
        self.net, self.num_tokens = adapt(net), int(num_tokens)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def init(self, key: Array, batch: Batch) -> Variables:
        batch, keep = self._prepared(batch)
        tokens, _ = self._tokens(batch.target, keep)
        given = arguments(tokens, jnp.full(tokens.shape[:1], 0.5), batch.input)
        with called(f"net(z, level, ...) of {self._name}", given):
            params, state = self.net.init(stream(key, "net"), given)
            out, _ = jax.eval_shape(
                functools.partial(self.net.apply, key=None, state=state, train=False), params, given
            )
        self._check_logits(out.shape, tokens.shape)
        return Variables(params, state)

    def merge(self, params: Any, state: Any = ()) -> Any:
        return self.net.merge(params, state)

    def check(self, batch: Any) -> None:
        """Raises, where values are known, for what is no token."""
        super().check(batch)
        if not is_traced(batch):
            with jax.ensure_compile_time_eval():
                batch, keep = self._prepared(batch)
                self._tokens(batch.target, keep)

    def bounded(
        self, params: Any, key: Array, batch: Batch, *, u: Array, state: Any, keep: Array | None
    ) -> Scores:
        """The bound by one draw, at times of its own: see `lx.diffusion.bound`."""
        return self.score(params, key, batch, state=state, train=False, keep=keep)

    def _tokens(self, target: Any, keep: Array | None) -> tuple[Array, Array]:
        """The tokens, int32, with 0 for what is none; and which examples consist of tokens."""
        x = jnp.asarray(target)
        if x.ndim < 2:
            raise ValueError(
                f"{self._name}: a target has shape (batch, *event), got {x.shape}; write target[None] "
                "for one sequence, target[:, None] for single tokens"
            )
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise TypeError(
                f"{self._name}: tokens are whole numbers, got {x.dtype}; write target.astype(int)"
            )
        x = x.astype(jnp.promote_types(x.dtype, jnp.int32))  # uint8 has no 256 to compare with
        good = (x >= 0) & (x < self.num_tokens)
        kept = good if keep is None else good | ~trailing(keep, good.ndim)
        message = f"{{value}}, none of the tokens 0..{self.num_tokens - 1}"
        _checks.check_known(kept, x, f"{self._name}: at {{index}} the target is {message}")
        return jnp.where(good, x, 0).astype(jnp.int32), jnp.all(good, axis=event_axes(x))

    def _logits(
        self, params: Any, z: Array, level: Array, input: Any, **options: Any
    ) -> tuple[Array, Any]:
        """`(batch, *event, V)`, and the network's next state."""
        out, state = self.net.apply(params, arguments(z, level, input), **options)
        self._check_logits(out.shape, z.shape)
        return out.astype(jnp.promote_types(out.dtype, jnp.float32)), state

    def _check_logits(self, got: tuple[int, ...], z: tuple[int, ...]) -> None:
        wanted = (*z, self.num_tokens)
        if got != wanted:
            raise ValueError(
                f"{self._name}: for tokens of shape {z} the network puts out logits {wanted}, got {got}; "
                f"give its last layer {self.num_tokens} outputs"
            )

    def _scored(self, terms: dict[str, Array], good: Array, state: Any, size: int) -> Scores:
        """The sum of the terms, infinite where a target is no token."""
        cost = jnp.where(good, sum(terms.values(), jnp.zeros(())), jnp.inf)
        return Scores(cost, terms, state, Claim("upper", measure=Measure("counting", size)))

    def sample(
        self,
        params: Any,
        key: Array,
        shape: int | tuple[int, ...] = (),
        *,
        event_shape: int | tuple[int, ...],
        steps: int | None = None,
        input: Any = None,
        state: Any = (),
    ) -> Array:
        """Draws `(*shape, *event_shape)` tokens, int32.

        Args:
          params, state: as from `init` or training.
          key: a random key.
          shape: how many; the network sees them as one batch axis.
          event_shape: of one target, or the length of a sequence.
          steps: how often the network is called: see the class.
          input: of a conditional model, `(n, ...)` for n samples in all.

        Raises:
          ValueError: for a number of steps that is none, and an input of another length.
        """
        shape, event = self._shape("shape", shape), self._shape("event_shape", event_shape)
        count = math.prod(shape)
        if steps is not None and not is_count(steps):
            raise ValueError(f"{self._name}.sample: steps is a whole number >= 1, got {steps!r}")
        for leaf in jax.tree.leaves(input):
            if jnp.shape(leaf)[:1] != (count,):
                raise ValueError(
                    f"{self._name}.sample: {count} samples want an input of shape ({count}, ...), "
                    f"got {jnp.shape(leaf)}; write jnp.broadcast_to(input, ({count}, ...))"
                )
        size = (count, *event)
        tokens = _compiled_sample(self, size, steps, params, check_key(key), input, state)
        return tokens.reshape((*shape, *event))

    def _shape(self, name: str, shape: Any) -> tuple[int, ...]:
        """A length is a shape of one axis."""
        sizes = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
        if not all(size == 0 or is_count(size) for size in sizes):
            raise ValueError(
                f"{self._name}.sample: {name} is a length, or a tuple of them, got "
                f"{shape!r}; write {name}=16"
            )
        return tuple(map(int, sizes))

    def _sample(
        self, size: tuple[int, ...], steps: int | None, params: Any, key: Array, *rest: Any
    ) -> Array:
        raise NotImplementedError


_compiled_sample = jax.jit(
    lambda self, size, steps, *rest: self._sample(size, steps, *rest), static_argnums=(0, 1, 2)
)


def arguments(z: Array, level: Array, input: Any) -> Arguments:
    """What a network is called with."""
    if isinstance(input, Arguments):
        return Arguments((z, level, *input.positional), input.named)
    return Arguments((z, level) if input is None else (z, level, input))


def event_axes(x: Array) -> tuple[int, ...]:
    """All but the first."""
    return tuple(range(1, x.ndim))


def uniform(key: Array, shape: tuple[int, ...]) -> Array:
    """Uniform numbers, each row from a key of its own number."""
    return jax.vmap(lambda key: jax.random.uniform(key, shape[1:]))(row_keys(key, shape[0]))
