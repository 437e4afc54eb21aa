"""Diffusion that hides tokens, one after another."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from likelax._checks import is_count
from likelax._keys import stream
from likelax._pytree import Array
from likelax.diffusion.times import StratifiedTimes
from likelax.diffusion.tokens import TokenDiffusion, event_axes, uniform
from likelax.distributions.categorical import Categorical
from likelax.objective import Batch, Scores, trailing


class MaskedDiffusion(TokenDiffusion):
    """An upper bound on the NLL of tokens, in nats, by diffusion that hides them (Shi et al. 2024, MD4;
    Sahoo et al. 2024, MDLM): with alpha(t) the share that is not hidden,

        integral of -alpha'(t) / (1 - alpha(t)) E[sum over hidden tokens of -log p(x | z_t)] dt.

    ::

        model = lx.diffusion.MaskedDiffusion(net, num_tokens=17)
        params, state = model.init(key, lx.Batch(tokens))

    A hidden token is V for the network, which needs room for V + 1. The integral does not depend on
    alpha; it is taken by drawing how many of the D tokens are hidden, k of 1..D, where each costs D / k
    times its -log p, and then when that is so: the weights of a drawn time have no variance that is
    finite. With a network that does not look at the level the model is that of
    `lx.sequence.AnyOrder`.

    With `steps` it is the bound of a chain, in which the share that is hidden falls by 1 / T a step and
    tokens that appear in the same step are independent; it falls as T grows.

    `sample` draws from the very model that the bound is of: one token after another in random order, or
    with `steps` those of a step at once.

    Args:
      net, num_tokens: as for `TokenDiffusion`.
      steps: T, None for continuous time.

    Raises:
      TypeError: for tokens that are real numbers.
      ValueError: for numbers of tokens or steps that are none, tokens out of range, where they are known
        (else the loss is infinite), and logits of another shape.
    """

    def __init__(self, net: Any, num_tokens: int, *, steps: int | None = None):
        super().__init__(net, num_tokens)
        if steps is not None and not is_count(steps):
            raise ValueError(
                f"{self._name}: steps is a whole number >= 1, or None for continuous time, got {steps!r}"
            )
        self.steps = steps

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        x, good = self._tokens(batch.target, keep)
        level, hidden, weight = self._hidden(key, x.shape)
        z = jnp.where(hidden, self.num_tokens, x)
        logits, state = self._logits(
            params, z, level, batch.input, key=stream(key, "net"), state=state, train=train
        )
        nll = -Categorical(logits=logits).log_prob(x)
        cost = weight * jnp.sum(jnp.where(hidden, nll, 0), axis=event_axes(x))
        return self._scored({"diffusion": cost}, good, state, math.prod(x.shape[1:]))

    def _hidden(self, key: Array, shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
        """The level of each example, which of its tokens are hidden, and what each of those costs."""
        when = uniform(stream(key, "hidden"), shape)
        count = self.steps or math.prod(shape[1:])
        time = StratifiedTimes().draw(stream(key, "times"), shape[0], ()).time
        index = 1 + jnp.minimum(jnp.floor(time * count), count - 1)  # 1..count
        if self.steps is None:
            # The time at which so many are hidden: the order statistic is Beta(k, D + 1 - k), as is t.
            order = jnp.sort(when.reshape((shape[0], -1)), axis=1)
            level = jnp.sum(jnp.where(jnp.arange(1, count + 1) == index[:, None], order, 0), axis=1)
        else:
            level = index / count
        return level, when <= trailing(level, len(shape)), count / index

    def _sample(
        self, size: tuple[int, ...], steps: int | None, params: Any, key: Array, *rest: Any
    ) -> Array:
        input, state = rest
        steps = self.steps if steps is None else steps
        when = uniform(stream(key, "hidden"), size)
        if steps is None:
            levels = jnp.sort(when.reshape((size[0], -1)), axis=1).T[::-1]
        else:
            levels = jnp.broadcast_to(jnp.arange(steps, 0, -1)[:, None] / steps, (steps, size[0]))
        after = jnp.concatenate([levels[1:], jnp.full_like(levels[:1], -1)])

        def step(z: Array, at: tuple[Array, Array, Array]) -> tuple[Array, None]:
            level, lower, key = at
            logits, _ = self._logits(params, z, level, input, key=None, state=state, train=False)
            drawn = jax.random.categorical(key, logits).astype(z.dtype)
            shown = (z == self.num_tokens) & (when > trailing(lower, z.ndim))
            return jnp.where(shown, drawn, z), None

        keys = jax.random.split(stream(key, "tokens"), len(levels))
        start = jnp.full(size, self.num_tokens, jnp.int32)
        return jax.lax.scan(step, start, (levels, after, keys))[0]
