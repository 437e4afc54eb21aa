"""`Autoregressive`: p(x) = prod_t p(x_t | x_<t), by one causal network and a head."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from likelax import _checks
from likelax._keys import check_key, stream
from likelax._pytree import Array, is_traced
from likelax.conditional import Conditional
from likelax.distributions.base import Distribution, held
from likelax.distributions.categorical import Categorical
from likelax.distributions.linear_categorical import LinearCategorical
from likelax.heads import HeadLike
from likelax.networks import Arguments, Variables
from likelax.objective import (
    Batch,
    Claim,
    Deferred,
    Objective,
    Scores,
    check_shape,
    claim_of,
    measure_of,
    target_log_prob,
    target_nll,
    trailing,
)
from likelax.sequence._tokens import (
    check_head,
    check_scored,
    check_whole,
    checked_bytes,
    classes_of,
    is_token,
    readable,
    sizes_of,
    widened,
)
from likelax.sequence.packing import Packed, positions_of, precedes, starts_of
from likelax.sequence.sampling import Truncation, continued


class Autoregressive(Objective):
    """The negative log-likelihood of sequences, -log p(x_t | x_<t) in nats per value; exact.

    ::

        head = lx.LinearHead(V, features=256)
        model = lx.sequence.Autoregressive(Transformer(head.size), head, start=None)
        loss, aux = model(params, key, lx.Batch(target=tokens, mask=tokens != pad))

    The target is `(batch, time)` whole numbers, or `(batch, time, *event)` values of any head. A mask
    or weight of shape `(batch, time)` says what is scored: padding out, a prompt out, an answer in
    (`lx.sequence.span_mask`). What is not scored is still seen by what follows it, so a prompt keeps
    its tokens; only padding behind all that is scored may hold what is no token, such as -100.
    `per_example` is of each value, `(batch, time)`, and the loss the mean over those that are scored.

    The network is causal: its output at position t may depend on its inputs up to t only
    (`lx.testing.check_causal` looks). It is called

    * `net(previous)`, the targets moved one to the right, `-> (batch, time, head.size)`;
    * `net(previous, input)` where the batch has an input, such as an encoder's output;
    * with `segments=` (whole numbers, `(batch, time)`) where the target is `Packed`: no attention
      between positions of different numbers; and with `positions=`, which restart in each document,
      if it has an argument of that name.

    Args:
      net: a network: see `likelax.networks`.
      head: the distribution of one value.
      start: what stands before the first value, so that all are scored: a token or a number; it may
        be a token of its own, V, if the network's embedding has room for it. None: the first value
        (of each document) is given, not scored, and the network sees one position less.
      label_smoothing: s in [0, 1]: adds s times (mean over the vocabulary of -log p, less the NLL).
      z_loss: adds this times the square of the log-normaliser of the logits (Chowdhery et al. 2022,
        section 5). With either, the number is no likelihood; the parts are in `terms`, under "nll",
        "label_smoothing" and "z_loss".
      token_bytes: how many bytes of raw text a token stands for, a number or `(V,)`, for
        `lx.bits_per_byte`.

    Raises:
      TypeError: for tokens that are real numbers, or label smoothing of a head that is not of tokens.
      ValueError: for a target without a time axis, shapes that do not fit together, sizes of tokens
        that are not those of the head's vocabulary; and, where values are known or under
        `lx.debug_checks`, for a prompt of what is no token.
    """

    def __init__(
        self,
        net: Any,
        head: HeadLike,
        *,
        start: ArrayLike | None,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        token_bytes: ArrayLike | None = None,
    ):
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing is in [0, 1], got {label_smoothing}")
        if not z_loss >= 0:
            raise ValueError(f"z_loss is not negative, got {z_loss}")
        if label_smoothing or z_loss:
            check_head(head, owner="label_smoothing and z_loss")
        self.conditional, self.head = Conditional(net, head), head
        self.start, self.token_bytes = start, checked_bytes(token_bytes, head)
        self.label_smoothing, self.z_loss = label_smoothing, z_loss
        self.claim = Claim("none") if label_smoothing or z_loss else claim_of(head)

    def init(self, key: Array, batch: Batch) -> Variables:
        self.check(batch)
        batch, keep = self._prepared(batch)
        return self.conditional.init(key, self._arguments(batch, keep))

    def merge(self, params: Any, state: Any = ()) -> Any:
        return self.conditional.merge(params, state)

    # What the network sees, and what is scored.

    def prepare(self, batch: Batch) -> Batch:
        """Padding, and first values that are given, are masked out."""
        values, segments = self._parts(batch.target)
        if values.ndim != 2 + len(self.head.event_shape):
            raise ValueError(
                f"Autoregressive: a target has shape (batch, time, *event) with event "
                f"{self.head.event_shape}, got {values.shape}; write target[None] for one sequence"
            )
        check_whole(values, self.head, owner="Autoregressive")
        if segments is not None:
            if segments.shape != values.shape or not jnp.issubdtype(segments.dtype, jnp.integer):
                raise ValueError(
                    "Packed: segments are whole numbers of the shape of the tokens, "
                    f"{values.shape}; got {segments.dtype} of shape {segments.shape}"
                )
            first = starts_of(segments)
            scored = segments != 0
        else:
            first = jnp.arange(values.shape[1]) == 0
            scored = jnp.ones(values.shape[:2], bool)
        if self.start is None:
            scored = scored & ~first
        elif segments is None:
            return batch
        mask = scored if batch.mask is None else scored & trailing(jnp.asarray(batch.mask, bool), 2)
        return dataclasses.replace(batch, mask=mask)

    def _parts(self, target: Any) -> tuple[Array, Array | None]:
        """Values that can hold the start, too, and segments."""
        packed = isinstance(target, Packed)
        values = widened(target.tokens if packed else target)
        if self.start is not None and jnp.issubdtype(jnp.result_type(self.start), jnp.floating):
            values = values.astype(jnp.result_type(values, self.start))
        return values, jnp.asarray(target.segments) if packed else None

    def check(self, batch: Any) -> None:
        """Raises, where values are known, for a prompt of what is no token."""
        super().check(batch)
        if not is_traced(batch):
            with jax.ensure_compile_time_eval():
                self._check_tokens(*_parts_and_mask(self, batch))

    def _check_tokens(self, values: Array, segments: Array | None, keep: Array | None) -> None:
        """What is scored is tokens, and so is what the network sees before it."""
        classes = classes_of(self.head)
        if classes is None:
            return
        if keep is not None:
            _checks.check_known(
                _is_prompt_of_tokens(values, segments, keep, classes),
                values,
                f"Autoregressive: at {{index}} stands {{value}}, none of the tokens 0..{classes - 1}: it "
                "is not scored, but what follows it is, and the network would read token 0 there; keep "
                "the tokens of a prompt and leave them out of the loss with "
                "Batch(mask=lx.sequence.span_mask(time, start=prompt_lengths))",
            )
        check_scored(values, keep, classes, owner="Autoregressive")

    def _arguments(self, batch: Batch, keep: Array | None) -> Arguments:
        values, segments = self._parts(batch.target)
        if _checks.checking():
            self._check_tokens(values, segments, keep)
        previous = self._previous(readable(values, keep, classes_of(self.head)), segments)
        named: dict[str, Array] = {}
        if segments is not None:
            seen = segments[:, : previous.shape[1]]
            if not self.conditional.net.accepts("segments"):
                raise TypeError(
                    "packed documents must not see one another, and this network takes no "
                    "segments: give its call an argument segments=None, (batch, time), and let a "
                    "position attend only where segments are equal; or put one document in each row"
                )
            named["segments"] = seen
            if self.conditional.net.accepts("positions"):
                named["positions"] = positions_of(seen)
        given = () if batch.input is None else (batch.input,)
        return Arguments((previous, *given), named)

    def _previous(self, values: Array, segments: Array | None = None) -> Array:
        """The network's input at each position: the value before it."""
        if self.start is None:
            return values[:, :-1]
        start = jnp.broadcast_to(jnp.asarray(self.start, values.dtype), values[:, :1].shape)
        previous = jnp.concatenate([start, values[:, :-1]], axis=1)
        if segments is None:
            return previous
        return jnp.where(trailing(starts_of(segments), values.ndim), start, previous)

    def _predict(
        self, params: Any, key: Array, batch: Batch, state: Any, train: bool, keep: Array | None
    ) -> tuple[Distribution, Array, Array | None, Any]:
        """The distributions of the values that are scored, those values, and which are kept."""
        dist, state = self.conditional.apply(
            params,
            self._arguments(batch, keep),
            key=stream(key, "net"),
            state=state,
            train=train,
        )
        given = int(self.start is None)
        values = self._parts(batch.target)[0][:, given:]
        if keep is not None and keep.ndim > 1:
            keep = keep[:, given:]
        return dist, values, keep, state

    def _whole(self, x: Any) -> Any:
        """`x` with a first position of 0 where that is given."""
        if self.start is not None:
            return x
        if not isinstance(x, Deferred):
            return jnp.pad(x, ((0, 0), (1, 0)))
        rows, length = x.shape

        def summed(weight: Array) -> tuple[Array, Array]:
            total, cost = x.summed(weight[:, 1:])
            return total, self._whole(cost)

        return Deferred((rows, length + 1), x.dtype, summed)

    # Scores.

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        dist, values, keep, state = self._predict(params, key, batch, state, train, keep)
        cost: Array | Deferred
        if self.label_smoothing or self.z_loss:
            cost, terms = self._regularized(dist, values, keep)
        else:
            cost, terms = target_nll(dist, values, keep, owner="Autoregressive"), {}
        claim = dataclasses.replace(self.claim, measure=measure_of(dist))
        terms = {name: self._whole(term) for name, term in terms.items()}
        return Scores(self._whole(cost), terms, state, claim, self._num_bytes(values))

    def _regularized(
        self, dist: Distribution, values: Array, keep: Array | None
    ) -> tuple[Array, dict[str, Array]]:
        """The cost of each value and its named parts."""
        if not isinstance(dist, Categorical | LinearCategorical):
            raise TypeError(
                "label_smoothing and z_loss are for heads of tokens, lx.LinearHead or "
                f"lx.Head(lx.Categorical, num_categories=V); this one gives {type(dist).__name__}"
            )
        check_shape(dist, values, owner="Autoregressive")
        smoothing = self.label_smoothing
        scored: Any = dist if keep is None else held(dist, trailing(keep, dist.batch_ndim))
        numbers = scored._summary(values, every=bool(smoothing))
        nll = -numbers.log_prob
        cost, terms = nll, {"nll": nll}
        if smoothing:
            cost = -smoothing * jnp.asarray(numbers.mean_log_prob)
            cost = cost + (1 - smoothing) * nll if smoothing < 1 else cost
            terms["label_smoothing"] = jnp.where(jnp.isinf(nll), 0, cost - nll)
        if self.z_loss:
            terms["z_loss"] = self.z_loss * numbers.log_normalizer**2
            cost = cost + terms["z_loss"]
        return cost, terms

    def _num_bytes(self, values: Array) -> Array | None:
        sizes = sizes_of(values, self.token_bytes)
        return None if sizes is None else self._whole(sizes)

    def token_log_prob(self, params: Any, batch: Batch, *, state: Any = ()) -> Array:
        """log p(x_t | x_<t), `(batch, time)`; 0 where it is not scored. Dropout off.

        Weights other than 0 change nothing. Label smoothing and z-loss are left out.
        """
        self.check(batch)
        return _token_log_prob(self, params, jax.random.key(0), batch, state, False)[0]

    def log_prob(self, params: Any, batch: Batch, *, state: Any = ()) -> Array:
        """log p of what is scored of each sequence, `(batch,)`, given the rest before it."""
        return jnp.sum(self.token_log_prob(params, batch, state=state), axis=1)

    def scored_log_prob(
        self, params: Any, key: Array, batch: Batch, state: Any, train: bool
    ) -> tuple[Array, Any]:
        """`token_log_prob` and the next state, for objectives that are built on it."""
        batch, keep = self._prepared(batch)
        dist, values, keep, state = self._predict(params, key, batch, state, train, keep)
        each = self._whole(target_log_prob(dist, values, keep, owner="Autoregressive"))
        return jnp.broadcast_to(each, values.shape[:1] + each.shape[1:]), state

    # Samples.

    def sample(
        self,
        params: Any,
        key: Array,
        shape: int | tuple[int, ...] = (),
        *,
        length: int,
        prompt: ArrayLike | None = None,
        input: Any = None,
        state: Any = (),
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        stop: int | None = None,
        callback: Callable[[Any], None] | None = None,
        cache: bool | None = None,
    ) -> Array:
        """Continues `prompt` by `length` values, `(*shape, length, *event)`.

        Compiled once for each shape. By default the network runs over the whole sequence for each
        value. A Flax NNX network whose attention keeps a cache (as `nnx.MultiHeadAttention` does: a
        method `init_cache` and an attribute `decode`) is given one position at a time instead, with
        `positions=`, `(batch, 1)`, if it has an argument of that name; the same key gives the same
        values either way, up to the rounding of the network's output.

        Args:
          params, state: as from `init` or training.
          key: a random key.
          shape: how many sequences; the network sees them as one batch axis.
          length: how many values to draw.
          prompt: what comes before, `(time, *event)` or `(*shape, time, *event)`; needed where
            `start` is None.
          input: the network's second argument, `(*shape, ...)`.
          temperature: of the logits; 0 takes the most probable token.
          top_k: only the k most probable tokens (and those equal to the last of them).
          top_p: only the fewest most probable tokens that together have this probability (Holtzman
            et al. 2020).
          min_p: only tokens of at least this share of the largest probability (Nguyen et al. 2024).
            Applied in this order; the draws are the model's own only without them.
          stop: a token after which a sequence is filled up with itself; drawing ends when all have.
          callback: called with the values of each step, `(*shape, *event)`, in order.
          cache: whether to use the network's cache. By default if it has one, there is no `input`,
            and on a few positions it gives what a run over the whole sequence gives: layers that
            look back without a cache, or positions counted from the input's length, do not. Inside
            a transformation of yours, where that cannot be looked at, ask for it.

        Raises:
          FloatingPointError: where the network's output is NaN and values are tokens, with the step. In
            code under a transformation of yours, which cannot look, the token is -1 there.
          TypeError: for a temperature or a truncation where values are no tokens.
          ValueError: for sizes that do not fit, or a cache that the network does not have or that
            gives something else.
        """
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        event = self.head.event_shape
        if length < 1:
            raise ValueError(f"length is at least 1, got {length}")
        if prompt is None:
            if self.start is None:
                raise ValueError(
                    "this model takes the first value as given (start=None): pass prompt=, with at "
                    "least one value"
                )
            prompt = jnp.zeros((0, *event))
        prompt, dtype = jnp.asarray(prompt), self._dtype_of_samples(params)
        if jnp.issubdtype(dtype, jnp.integer) and jnp.issubdtype(prompt.dtype, jnp.floating):
            if prompt.size:
                raise TypeError(
                    f"the values are whole numbers, the prompt is {prompt.dtype}: write "
                    "prompt.astype(int)"
                )
        prompt = prompt.astype(dtype)
        classes = classes_of(self.head)
        if classes is not None and prompt.size and not is_traced(prompt):
            low, high = int(jnp.min(prompt)), int(jnp.max(prompt))
            if low < 0 or high >= classes:
                raise ValueError(
                    f"the prompt is of tokens 0..{classes - 1}, got values from {low} to {high}"
                )
        if stop is not None and classes is not None and not 0 <= stop < classes:
            raise ValueError(f"stop is one of the {classes} tokens, got {stop}")
        truncation = Truncation.checked(temperature, top_k, top_p, min_p)
        if truncation.top_k is not None and classes is not None and truncation.top_k > classes:
            raise ValueError(
                f"top_k is at most the number of tokens, {classes}, got {top_k}; leave it out for all"
            )
        time = prompt.ndim - 1 - len(event)
        if time < 0 or prompt.shape[time + 1 :] != event or prompt.shape[:time] not in ((), shape):
            raise ValueError(
                f"prompt has shape (time, *event) or (*shape, time, *event) with shape {shape} and "
                f"event {event}, got {prompt.shape}"
            )
        prompt = jnp.broadcast_to(prompt, shape + prompt.shape[time:])
        prompt = prompt.reshape(math.prod(shape), *prompt.shape[len(shape) :])
        if self.start is None and not prompt.shape[1]:
            raise ValueError("start is None: the prompt has at least one value")
        values = continued(
            self,
            params,
            stream(check_key(key), "sample"),
            prompt,
            _rows_of(input, shape),
            state,
            truncation,
            stop,
            length=length,
            shape=shape,
            callback=callback,
            cache=cache,
        )
        return values.reshape(*shape, length, *event)

    def _dtype_of_samples(self, params: Any) -> Any:
        raw = jax.ShapeDtypeStruct((1, self.head.size), jnp.float32)
        key, given = jax.random.key(0), params["head"]
        return jax.eval_shape(lambda raw: self.head(raw, given).sample(key), raw).dtype


def _rows_of(input: Any, shape: tuple[int, ...]) -> Any:
    """The network's input, `(*shape, ...)`, with one batch axis."""

    def rows(leaf: Any) -> Array:
        if jnp.shape(leaf)[: len(shape)] != shape:
            raise ValueError(
                f"input has shape (*shape, ...) with shape {shape}, got {jnp.shape(leaf)}"
            )
        leaf = jnp.asarray(leaf)
        return leaf.reshape(math.prod(shape), *leaf.shape[len(shape) :])

    return jax.tree.map(rows, input)


@functools.partial(jax.jit, static_argnames="classes")
def _is_prompt_of_tokens(values: Array, segments: Array | None, keep: Array, classes: int) -> Array:
    """False where what is not scored is no token, and is seen by what is, `(batch, time)`."""
    kept = jnp.broadcast_to(trailing(keep, 2), values.shape[:2])
    good = jnp.all(is_token(values, classes), axis=tuple(range(2, values.ndim)))
    return good | kept | ~precedes(kept, segments)


@functools.partial(jax.jit, static_argnums=0)
def _parts_and_mask(
    model: Autoregressive, batch: Batch
) -> tuple[Array, Array | None, Array | None]:
    """Values, segments, and which values are scored."""
    batch, keep = model._prepared(batch)
    return *model._parts(batch.target), keep


_token_log_prob = jax.jit(Autoregressive.scored_log_prob, static_argnums=(0, 5))
