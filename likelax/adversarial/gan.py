"""Two players in one objective, each of whose parameters sees its own loss alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from likelax import _checks
from likelax._checks import is_count, sample_shape
from likelax._keys import check_key, row_keys, stream
from likelax._pytree import Array
from likelax.adversarial.losses import Function, as_loss
from likelax.adversarial.penalties import Penalty
from likelax.distributions.base import Distribution
from likelax.networks import Arguments, Variables, adapt, called
from likelax.objective import Batch, Claim, Objective, Scores, check_target, trailing

PLAYERS = ("generator", "critic")


class Players(NamedTuple):
    """What `merge` gives back: the user's own networks with trained values."""

    generator: Any
    critic: Any


class GAN(Objective):
    """A generator against a critic, which is the likelihood of a label: data or sample (Goodfellow et al.
    2014).

    ::

        prior = lx.Normal(jnp.zeros(16), 1.0).to_event()
        model = lx.adversarial.GAN(generator, critic, prior, penalties=lx.adversarial.R1(1.0))
        optimizer = lx.adversarial.optimizers(optax.adam(1e-4), optax.adam(4e-4))
        result = lx.train.fit(model, optimizer, lx.Batch(x), steps=1000, key=key)
        model.sample(result.params, key, (25,))

    Parameters are `{"generator": .., "critic": ..}`, the state likewise, or `()` where there is none. The
    loss is the sum of both players' and means nothing; its *gradient* is each player's own: in
    "generator" that of `terms["generator_loss"]` with the critic as it is, in "critic" that of
    `terms["critic_loss"] + terms["penalty"]` with the samples as they are. So one step moves both at once.
    For turns `model.player("critic")` and `model.player("generator")` are objectives of one player, on the
    same parameters, each with an optimiser of its own: `optimizers(None, optax.adam(4e-4))` moves the
    critic, `optimizers(optax.adam(1e-4), None)` the generator. (One for both would go on with the momentum
    and the weight decay of the player that waits.)

    It is no likelihood. `terms["divergence"]`, where the loss has one, is a lower bound, in expectation, of
    `model.loss.bound.name`; on the data that the critic was trained on it is too large: see
    `lx.adversarial.divergence`. `terms["accuracy"]` is the critic's, one half where it knows nothing. With
    `train=False` there are no penalties.

    With `generator=None` and the prior a distribution over the data's space, the critic alone learns how
    data and prior differ: `model.player("critic")`, and then `lx.adversarial.log_density_ratio`.

    Args:
      generator: a network (see `likelax.networks`) from z, or (z, input) where the batch has an input, to
        the shape of the target; None: x is z.
      critic: a network from x, or (x, input), to one number for each.
      prior: of z, a Distribution without a batch.
      loss: a name or a `lx.adversarial.Loss`: "saturating", "non_saturating", "hinge", "least_squares",
        "wasserstein", "relativistic", "relativistic_average", or an f-divergence: "kl", "reverse_kl",
        "jensen_shannon", "pearson", "squared_hellinger", "total_variation".
      penalties: one or several of `GradientPenalty`, `R1`, `R2`; a spectral norm is a layer of Flax's in
        the critic, `nnx.SpectralNorm`.
      together: whether data and samples pass the critic as one batch. It matters to batch statistics
        only: together they are those of the mixture, apart each kind has its own (and the running ones
        follow both).

    Raises:
      TypeError: for a prior, a loss or penalties that are none.
      ValueError: for another loss, a prior with a batch, and shapes that do not fit.
    """

    claim = Claim("none")

    def __init__(
        self,
        generator: Any,
        critic: Any,
        prior: Any,
        loss: Any = "non_saturating",
        *,
        penalties: Any = (),
        together: bool = False,
    ):
        if not isinstance(prior, Distribution):
            raise TypeError(
                f"GAN: a Distribution of z wanted as the prior, got {prior!r}; write "
                "lx.Normal(jnp.zeros(16), 1.0).to_event()"
            )
        if prior.batch_shape:
            raise ValueError(
                f"GAN: a prior of one z wanted, got one of batch shape {prior.batch_shape}; write "
                "prior.to_event()"
            )
        self.generator, self.critic, self.prior = adapt(generator), adapt(critic), prior
        self.loss, self.penalties = as_loss(loss), as_penalties(penalties)
        self.together, self._player = together, "both"
        self._alone: dict[str, GAN] = {}

    def player(self, name: str) -> GAN:
        """The objective of one player, "generator" or "critic", on the same parameters: the gradient in the
        other's is 0, and its state stays as it is.

        Raises:
          ValueError: for another name.
        """
        if name not in PLAYERS:
            raise ValueError(f'GAN: player is "generator" or "critic", got {name!r}')
        if name not in self._alone:
            self._alone[name] = copy.copy(self)
            self._alone[name].__dict__["_player"] = name
        return self._alone[name]

    # Parameters.

    def init(self, key: Array, batch: Batch) -> Variables:
        batch, keep = self._prepared(batch)
        x = as_data(batch.target, keep)
        z = self._latents(stream(key, "latents"), len(x))
        given = {"generator": arguments(z, batch.input), "critic": arguments(x, batch.input)}
        made = {}
        for name, net in (("generator", self.generator), ("critic", self.critic)):
            with called(name, given[name]):
                made[name] = net.init(stream(key, name), given[name])
        params = {name: v.params for name, v in made.items()}
        state = packed(*(v.state for v in made.values()))

        def ask(params: Any) -> None:
            self._sampled(params["generator"], z, x, batch.input, state)
            self._judged(params["critic"], x, batch.input, state)

        jax.eval_shape(ask, params)
        return Variables(params, state)

    def merge(self, params: Any, state: Any = ()) -> Players:
        """The user's own networks with these values."""
        check_params(params)
        (theta, phi), (of_generator, of_critic) = parts(params), parts(state)
        return Players(self.generator.merge(theta, of_generator), self.critic.merge(phi, of_critic))

    # Passes through the networks.

    def _latents(self, key: Array, count: int) -> Array:
        return jax.vmap(self.prior.sample)(row_keys(key, count))

    def _sampled(
        self, params: Any, z: Array, x: Array, input: Any, state: Any, **options: Any
    ) -> tuple[Array, Any]:
        """A sample for each z, of the shape and dtype of x, and the generator's next state."""
        fake, state = self._generated(params, z, input, state, **options)
        if fake.shape != x.shape:
            raise ValueError(
                f"GAN: for z of shape {z.shape} the generator puts out the data's shape {x.shape}, got "
                f"{fake.shape}; have its last layer make {math.prod(x.shape[1:])} numbers, reshaped"
            )
        # Divided over a mesh as the data are.
        return fake.astype(x.dtype) + jnp.zeros_like(x), state

    def _generated(
        self, params: Any, z: Array, input: Any, state: Any, *, key: Any = None, train: bool = False
    ) -> tuple[Array, Any]:
        given = arguments(z, input)
        with called("generator", given):
            return self.generator.apply(params, given, key=key, state=parts(state)[0], train=train)

    def _judged(
        self, params: Any, x: Array, input: Any, state: Any, *, key: Any = None, train: bool = False
    ) -> tuple[Array, Any]:
        """The critic's output at each x, `(batch,)`, and its next state."""
        given = arguments(x, input)
        with called("critic", given):
            v, state = self.critic.apply(params, given, key=key, state=parts(state)[1], train=train)
        if v.shape not in (x.shape[:1], (*x.shape[:1], 1)):
            raise ValueError(
                f"GAN: the critic makes one number for each of {len(x)} values, shape ({len(x)},), got "
                f"{v.shape}; give its last layer one output"
            )
        return v.reshape(x.shape[:1]).astype(jnp.promote_types(v.dtype, jnp.float32)), state

    def _pair(
        self, params: Any, real: Array, fake: Array, input: Any, state: Any, **options: Any
    ) -> tuple[Array, Array, Any]:
        """The critic's outputs at data and samples, and its next state."""
        if self.together:
            twice = jax.tree.map(lambda leaf: interleaved(leaf, leaf), input)
            v, state = self._judged(params, interleaved(real, fake), twice, state, **options)
            v = v.reshape((-1, 2))
            return v[:, 0], v[:, 1], state
        of_real, after = self._judged(params, real, input, state, **options)
        of_fake, after = self._judged(
            params, fake, input, packed(parts(state)[0], after), **options
        )
        return of_real, of_fake, after

    # The loss.

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        check_params(params)
        real, input = as_data(batch.target, keep), batch.input
        z = self._latents(stream(key, "latents"), len(real))
        asked: dict[str, Any] = {"key": stream(key, "generator"), "train": train}
        fake, of_generator = self._sampled(params["generator"], z, real, input, state, **asked)
        asked = {"key": stream(key, "critic"), "train": train}
        mean = weighted_mean(batch, keep)
        costs: dict[str, Array] = {}
        terms: dict[str, Array] = {}
        next_state = list(parts(state))
        if self._player != "generator":
            sample = jax.lax.stop_gradient(fake)
            v, u, next_state[1] = self._pair(params["critic"], real, sample, input, state, **asked)
            costs["critic_loss"] = self.loss.critic(v, u, mean)
            terms = self._told(v, u, costs["critic_loss"])
            if train and self.penalties:

                def critic(x: Array) -> Array:
                    return self._judged(params["critic"], x, input, state, **asked)[0]

                own = stream(key, "penalty")
                each = [p.cost(critic, real, sample, own) for p in self.penalties]
                costs["penalty"] = sum(each[1:], each[0])
        if self._player != "critic":
            next_state[0] = of_generator
            critic_as_is = jax.lax.stop_gradient(params["critic"])
            v, u, _ = self._pair(critic_as_is, real, fake, input, state, **asked)
            costs["generator_loss"] = self.loss.generator(v, u, mean)
        total = list(costs.values())
        return Scores(sum(total[1:], total[0]), costs | terms, packed(*next_state), self.claim)

    def _told(self, real: Array, fake: Array, cost: Array) -> dict[str, Array]:
        """What the critic's outputs say beside its loss."""
        told = {}
        if self.loss.boundary is not None:
            # What lies on it is called a sample: one half is right where all do.
            right = [real > self.loss.boundary, fake <= self.loss.boundary]
            told["accuracy"] = (right[0].astype(cost.dtype) + right[1].astype(cost.dtype)) / 2
        if self.loss.bound is not None:
            told["divergence"] = self.loss.bound.offset - self.loss.bound.scale * cost
        return told

    def sample(
        self,
        params: Any,
        key: Array,
        shape: int | tuple[int, ...] = (),
        *,
        input: Any = None,
        state: Any = (),
    ) -> Array:
        """Draws `(*shape, *event)` values: z of the prior through the generator.

        Args:
          params: as from `init` or training.
          key: a random key.
          shape: how many.
          input: of a conditional model, `(n, ...)` for `shape == (n,)`.
          state: as from `init` or training.

        Raises:
          ValueError: for a shape that is none, and an input that is not one for each sample.
        """
        check_params(params)
        shape = sample_shape("GAN", shape, input)
        count = math.prod(shape)
        z = self._latents(stream(check_key(key), "latents"), count)
        x, _ = self._generated(params["generator"], z, input, state)
        return x.reshape(shape + x.shape[1:])


def optimizers(
    generator: optax.GradientTransformation | None,
    critic: optax.GradientTransformation | None,
    *,
    critic_steps: int = 1,
) -> optax.GradientTransformation:
    """One optimiser for both players: `optax.multi_transform` by player.

    Args:
      generator, critic: their own; None for a player that stays as it is.
      critic_steps: how many steps the critic takes for one of the generator's, which waits in between: its
        parameters and its optimiser's state are then as they were. (Its gradient is worked out all the
        same; where that is dear, take turns with `model.player(...)`.)

    Raises:
      TypeError: for what is no optimiser.
      ValueError: for no steps.
    """
    generator, critic = (
        _or_none(name, o) for name, o in zip(PLAYERS, (generator, critic), strict=True)
    )
    if not is_count(critic_steps):
        raise ValueError(
            f"optimizers: critic_steps is a whole number >= 1, got {critic_steps!r}; write "
            "critic_steps=5"
        )
    if critic_steps > 1:
        last = critic_steps - 1
        generator = optax.conditionally_mask(generator, lambda step: step % critic_steps == last)
    return optax.multi_transform(
        {"generator": generator, "critic": critic}, {name: name for name in PLAYERS}
    )


def _or_none(name: str, optimizer: Any) -> optax.GradientTransformation:
    """The optimiser, or one that leaves a player as it is."""
    if optimizer is None:
        return optax.set_to_zero()
    if not hasattr(optimizer, "init"):
        raise TypeError(
            f"optimizers: an optax optimiser for the {name} wanted, or None, got {optimizer!r}; write "
            "optax.adam(1e-3)"
        )
    return optimizer


# Parts.


def arguments(first: Array, input: Any) -> Any:
    """What a network is called with."""
    if input is None:
        return first
    if isinstance(input, Arguments):
        return Arguments((first, *input.positional), input.named)
    return Arguments((first, input))


def interleaved(a: Any, b: Any) -> Array:
    """Rows of both in turn: a batch that is divided over a mesh can be merged with what comes after it."""
    return jnp.stack([a, b], axis=1).reshape((-1, *jnp.shape(a)[1:]))


def as_data(target: Any, keep: Array | None) -> Array:
    """Examples as a network takes them, floats of at least 32 bits; 0 where they are not kept."""
    x = jnp.asarray(target)
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32) if floating else jnp.result_type(float))
    if keep is not None and keep.ndim != 1:
        raise ValueError(
            f"GAN: a mask or weight of each example wanted, shape {x.shape[:1]}, got {keep.shape}"
        )
    if _checks.checking():
        check_target(jnp.isfinite(x), x, keep, "GAN: at {index} the target is {value}, not finite")
    return x if keep is None else jnp.where(trailing(keep, x.ndim), x, 0)


def as_penalties(penalties: Any) -> tuple[Penalty, ...]:
    """One penalty or several as a tuple; raises TypeError for others."""
    many = tuple(penalties) if isinstance(penalties, Iterable) else (penalties,)
    for penalty in many:
        if not isinstance(penalty, Penalty):
            raise TypeError(
                f"GAN: penalties such as lx.adversarial.R1(10.0) wanted, got {penalty!r}"
            )
    return many


def check_params(params: Any) -> None:
    """Raises ValueError for parameters of other players."""
    if not (isinstance(params, dict) and set(params) == set(PLAYERS)):
        got = sorted(params) if isinstance(params, dict) else type(params).__name__
        raise ValueError(
            f"GAN: parameters hold generator and critic, got {got}; write params, state = "
            "model.init(key, batch)"
        )


def packed(generator: Any, critic: Any) -> Any:
    """The state of both; `()` where there is none."""
    state = {"generator": generator, "critic": critic}
    return state if jax.tree.leaves(state) else ()


def parts(tree: Any) -> tuple[Any, Any]:
    """Parameters or state of the generator and the critic."""
    return (tree["generator"], tree["critic"]) if isinstance(tree, dict) else ((), ())


def weighted_mean(batch: Batch, keep: Array | None) -> Function:
    """The mean over a batch, each example counted as in the loss."""
    weight = 1.0 if batch.weight is None else jnp.asarray(batch.weight)
    counts = weight if keep is None else jnp.where(keep, weight, 0)

    def mean(v: Array) -> Array:
        each = jnp.broadcast_to(jnp.asarray(counts, v.dtype), v.shape)
        total = jnp.sum(each)
        return jnp.sum(each * v) / jnp.where(total == 0, 1, total)

    return mean
