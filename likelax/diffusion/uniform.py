"""Diffusion that replaces tokens by random ones."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from likelax._keys import stream
from likelax._pytree import Array
from likelax.diffusion.schedules import Cosine, Learned, Schedule
from likelax.diffusion.times import StratifiedTimes
from likelax.diffusion.tokens import TokenDiffusion, event_axes, uniform
from likelax.numerics.logspace import log1mexp, log_add_exp, log_sigmoid, log_softmax
from likelax.objective import Batch, Scores, trailing


class UniformDiffusion(TokenDiffusion):
    """An upper bound on the NLL of tokens, in nats, by diffusion that replaces them by random ones, which
    the network may mend as often as it likes (Schiff et al. 2024, UDLM; Lou et al. 2024, SEDD).

    With alpha(t) the share that is not replaced and y = alpha onehot(x) + (1 - alpha) / V, and y_hat
    likewise of the predicted probabilities in place of onehot(x), it is E integral of

        -alpha' / (alpha V) sum over tokens b of [a log(a / c) - a + c] dt,

    a = y_b / y_z and c = y_hat_b / y_hat_z: what the rates of the reverse process cost. They are exact
    where the network predicts each token from all others, its own z left out.

    `sample` takes `steps` (default 128) of the reverse process, which its bound is of as they grow.

    Args:
      net, num_tokens: as for `TokenDiffusion`.
      schedule: of the log-SNR log(alpha / (1 - alpha)), alpha falling from 1; the cosine's makes the
        variance of the loss finite (default).

    Raises:
      TypeError: for tokens that are real numbers, or no schedule.
      ValueError: for a number of tokens that is none, a schedule that is learned or does not begin at the
        data, tokens out of range, where they are known (else the loss is infinite), and logits of
        another shape.
    """

    def __init__(self, net: Any, num_tokens: int, *, schedule: Any = None):
        super().__init__(net, num_tokens)
        schedule = Cosine() if schedule is None else schedule
        if not isinstance(schedule, Schedule):
            raise TypeError(
                f"{self._name}: a schedule wanted, got {schedule!r}; write lx.diffusion.Cosine()"
            )
        if isinstance(schedule, Learned) or not _begins_at_data(schedule):
            raise ValueError(
                f"{self._name}: {schedule} does not begin at the data, where alpha is 1; write "
                "lx.diffusion.Cosine()"
            )
        self.schedule = schedule

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        x, good = self._tokens(batch.target, keep)
        u = StratifiedTimes().draw(stream(key, "times"), x.shape[0], ()).time
        eps = jnp.finfo(u.dtype).eps
        u = jnp.clip(u, eps, 1 - eps)  # the integrand is finite, its factors are not
        gamma, rate = jax.jvp(lambda u: self.schedule.gamma(u, 1 - u), (u,), (jnp.ones_like(u),))
        z = self._noised(stream(key, "noise"), x, gamma)
        logits, state = self._logits(
            params, z, _share(gamma), batch.input, key=stream(key, "net"), state=state, train=train
        )
        cost = jnp.sum(self._cost(x, z, logits, gamma, rate), axis=event_axes(x))
        size = math.prod(x.shape[1:])
        prior = jnp.broadcast_to(size * self._prior(), cost.shape)
        return self._scored({"prior": prior, "diffusion": cost}, good, state, size)

    def _noised(self, key: Array, x: Array, gamma: Array) -> Array:
        """z of q(z | x)."""
        replaced = uniform(stream(key, "replaced"), x.shape) < trailing(_share(gamma), x.ndim)
        by = jnp.floor(uniform(stream(key, "by"), x.shape) * self.num_tokens).astype(x.dtype)
        # A sum: on a mesh x may be sharded where the draws are not.
        return x + replaced * (jnp.minimum(by, self.num_tokens - 1) - x)

    def _log_odds(self, log_prob: Array, gamma: Array) -> Array:
        """log y + log V of clean tokens with these log-probabilities; gamma of as many axes."""
        log_alpha, log_rest = log_sigmoid(-gamma), log_sigmoid(gamma)
        return log_add_exp(log_alpha + math.log(self.num_tokens) + log_prob, log_rest)

    def _cost(self, x: Array, z: Array, logits: Array, gamma: Array, rate: Array) -> Array:
        """The integrand of each token, of the shape of x; gamma and its rate are `(batch,)`."""
        g = trailing(gamma, logits.ndim)
        is_x, is_z = (t[..., None] == jnp.arange(self.num_tokens) for t in (x, z))
        log_y = self._log_odds(jnp.where(is_x, 0.0, -jnp.inf), g)
        log_guess = self._log_odds(log_softmax(logits), g)
        log_a, log_c = (
            y - jnp.sum(jnp.where(is_z, y, 0), axis=-1, keepdims=True) for y in (log_y, log_guess)
        )
        d = log_a - log_c
        each = jnp.sum(jnp.exp(log_a) * (d + jnp.expm1(-d)), axis=-1)
        return trailing(_share(gamma) * rate / self.num_tokens, x.ndim) * each

    def _prior(self) -> Array:
        """KL(q(z_1 | x) || uniform) of one token."""
        gamma = self.schedule.gamma(jnp.ones(()), jnp.zeros(()))
        same = self._log_odds(jnp.zeros(()), gamma)
        other = log_sigmoid(gamma)
        return (jnp.exp(same) * same + (self.num_tokens - 1) * jnp.exp(other) * other) / (
            self.num_tokens
        )

    def _sample(
        self, size: tuple[int, ...], steps: int | None, params: Any, key: Array, *rest: Any
    ) -> Array:
        input, state = rest
        steps = 128 if steps is None else steps
        index = jnp.arange(steps, -1, -1)
        gammas = self.schedule.gamma(index / steps, 1 - index / steps)

        def step(z: Array, at: tuple[Array, Array, Array]) -> tuple[Array, None]:
            late, early, key = at
            level = jnp.full(size[:1], _share(late), late.dtype)
            logits, _ = self._logits(params, z, level, input, key=None, state=state, train=False)
            # q(z_t | z_s = b) times y_hat_s(b).
            log_kept = log_sigmoid(-late) - log_sigmoid(-early)
            same = z[..., None] == jnp.arange(self.num_tokens)
            kept = jnp.where(same, log_kept + math.log(self.num_tokens), -jnp.inf)
            log_prob = log_add_exp(kept, log1mexp(-log_kept))
            log_prob += self._log_odds(log_softmax(logits), early)
            return jax.random.categorical(key, log_prob).astype(z.dtype), None

        keys = jax.random.split(stream(key, "tokens"), steps)
        start = jax.random.randint(stream(key, "start"), size, 0, self.num_tokens, jnp.int32)
        return jax.lax.scan(step, start, (gammas[:-1], gammas[1:], keys))[0]


def _begins_at_data(schedule: Schedule) -> bool:
    with jax.ensure_compile_time_eval():
        return bool(schedule.gamma(jnp.zeros(()), jnp.ones(())) == -jnp.inf)


def _share(gamma: Array) -> Array:
    """1 - alpha."""
    return jnp.exp(log_sigmoid(gamma))
