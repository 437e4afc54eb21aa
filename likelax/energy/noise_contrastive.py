"""Training by telling data from noise: the normaliser is learned, or cancels."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from likelax._checks import is_count
from likelax._keys import stream
from likelax._mesh import divided, with_auto_axes
from likelax._pytree import Array, is_traced
from likelax.distributions.base import Distribution
from likelax.distributions.categorical import Bernoulli, Categorical
from likelax.energy.density import Unnormalized, mend_shape
from likelax.energy.network import Energy
from likelax.networks import Variables
from likelax.numerics.logspace import logsumexp
from likelax.objective import Batch, Claim, Objective, Scores, check_batch, trailing


class _Contrast(Objective):
    """A model whose values are told from others, `num_noise` of them for each."""

    claim = Claim("none")

    def __init__(self, model: Any, num_noise: int):
        name = type(self).__name__
        if not isinstance(model, Unnormalized | Energy):
            raise TypeError(
                f"{name}: lx.energy.Energy(net, event_shape), lx.energy.RBM or another model of "
                f"lx.energy wanted, got {model!r}"
            )
        if not is_count(num_noise):
            raise ValueError(
                f"{name}: num_noise is a whole number >= 1, got {num_noise!r}; write num_noise=10"
            )
        self.model, self.num_noise = model, num_noise

    def noise_given(self, x: Array) -> Distribution:
        """What one value, `(*event,)`, is told from."""
        raise NotImplementedError(f"{type(self).__name__} defines no noise_given")

    def draw(self, key: Array, x: Array) -> Array:
        """Noise for each value, `(batch, *event) -> (batch, num_noise, *event)`, by its number in the
        batch. A subclass may take it from elsewhere.
        """

        def each(key: Array, i: Array, x: Array) -> Array:
            noise = self.noise_given(x).sample(jax.random.fold_in(key, i), (self.num_noise,))
            return noise.astype(x.dtype)

        run = with_auto_axes(jax.vmap(each, (None, 0, 0)), divided(1, x))
        return run(key, jnp.arange(len(x)), x)

    def _known(self, target: Any, keep: Array | None) -> Array:
        """The data; what is masked out is 1, which every support has."""
        x = jnp.asarray(target)
        return x if keep is None else jnp.where(trailing(keep, x.ndim), x, jnp.ones_like(x))

    def check(self, batch: Any) -> None:
        check_batch(batch)
        x, event = batch.target, tuple(self.model.event_shape)
        if jnp.shape(x)[1:] != event:
            raise ValueError(
                f"{type(self).__name__}: a target of shape (batch, *event) with event {event} wanted, "
                f"got {jnp.shape(x)}{mend_shape(jnp.shape(x), event)}"
            )
        if isinstance(self.model, Unnormalized) and batch.mask is None and not is_traced(x):
            self.model._value(x)

    def init(self, key: Array, batch: Batch) -> Variables:
        self.check(batch)
        batch, keep = self._prepared(batch)
        x = self._known(batch.target, keep)
        params, state = self.model.init(key, x)
        density = self.model.density(params, state=state)
        beside = self._beside(stream(key, "noise"), density, density._value(x))
        return Variables({"model": params, **beside}, state)

    def _beside(self, key: Array, density: Unnormalized, x: Array) -> dict[str, Array]:
        """Parameters beside the model's."""
        return {}

    def density(self, params: Any, *, state: Any = ()) -> Any:
        """The model with these parameters: an `Unnormalized`, of which log Z is not learned."""
        return self.model.density(params["model"], state=state)

    def merge(self, params: Any, state: Any = ()) -> Any:
        """The trained model: an RBM as it is, the user's own network of an `Energy`."""
        own = params["model"]
        return self.model.merge(own, state) if isinstance(self.model, Energy) else own


class NCE(_Contrast):
    """Noise-contrastive estimation: a density learned by telling data from noise of a known density q.

    With log r(x) = log p(x) - log q(x) and noise y_1 .. y_K for each x, in nats:

    | method | the critic says | loss of one example |
    |---|---|---|
    | `"binary"` | whether it is data: Bernoulli | -log s(log r(x) - log K) - sum_k log s(log K - log r(y_k)) |
    | `"ranking"` | which of them is data: Categorical | -log[r(x) / (r(x) + sum_k r(y_k))] |

    with s the logistic function (Gutmann and Hyvarinen 2012; Ma and Collins 2018).

    Either has its optimum where p is the density of the data, so that K and q decide how fast it is
    found, not where it is. The value is the likelihood of the answer and none of the data. Binary: log Z is
    a parameter like any other, `params["log_z"]`, which starts at its estimate by importance sampling from
    the noise; after training `density` knows it. Ranking: log Z cancels and is not learned.

    ::

        noise = lx.MultivariateNormal(x.mean(0), covariance=jnp.cov(x.T))
        model = lx.energy.NCE(lx.energy.Energy(MLP, 2), noise, num_noise=10)
        result = lx.train.fit(model, optax.adam(1e-3), lx.Batch(x), steps=1000, key=key)
        known = model.density(result.params, state=result.state)
        known.log_prob(x), known.claim                      # an estimate

    `terms`: `accuracy` (binary: the mean of how often data and how often noise is told rightly), `log_z`
    (ranking: by importance sampling from the noise at hand), `unnormalized_log_prob` of the data.

    Args:
      model: an `Energy`, or an `RBM` or another `Unnormalized`, where training starts.
      noise: q, a Distribution over the model's values, without a batch; positive wherever there are data.
        It is taken as it is, and not trained.
      num_noise: K.
      method: see above.

    Raises:
      TypeError: for a model or a noise that is none.
      ValueError: for noise that is not over the model's values, or a K or a method that is none.
    """

    def __init__(self, model: Any, noise: Any, *, num_noise: int = 1, method: str = "binary"):
        super().__init__(model, num_noise)
        if method not in ("binary", "ranking"):
            raise ValueError(
                f'NCE: method is "binary" or "ranking", got {method!r}; noise made from the data is '
                "lx.energy.ConditionalNCE(model, kernel)"
            )
        _check_noise("NCE", model, noise)
        self.noise, self.method = noise, method

    def noise_given(self, x: Array) -> Distribution:
        """q, whatever the value."""
        return self.noise

    def _beside(self, key: Array, density: Unnormalized, x: Array) -> dict[str, Array]:
        if self.method == "ranking":
            return {}
        noise = self.draw(key, x)
        ratio = density.unnormalized_log_prob(noise) - self.noise.log_prob(noise)
        return {"log_z": log_mean_exp(ratio)}

    def density(self, params: Any, *, state: Any = ()) -> Any:
        """The model with these parameters. Binary: a `Normalized` with the log Z that was learned, whose
        claim is an estimate. Ranking: an `Unnormalized`; `lx.energy.log_partition` has its log Z.
        """
        density = super().density(params, state=state)
        return density if self.method == "ranking" else density.normalize(params["log_z"])

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        density = self.model.density(params["model"], state=state)
        x = density._value(self._known(batch.target, keep))
        values = jnp.concatenate([x[:, None], self.draw(stream(key, "noise"), x)], axis=1)
        each = density.unnormalized_log_prob(values)
        ratio = each - self.noise.log_prob(values)  # log r + log Z
        if self.method == "binary":
            cost, right = _told_apart(ratio - params["log_z"] - jnp.log(self.num_noise))
            log_z = params["log_z"]
        else:
            cost, right = _picked(ratio)
            log_z = log_mean_exp(ratio[:, 1:])
        terms = {
            "accuracy": right,
            "log_z": jnp.broadcast_to(log_z, cost.shape),
            "unnormalized_log_prob": each[:, 0],
        }
        return Scores(cost, terms, state, self.claim)


class ConditionalNCE(_Contrast):
    """Conditional noise-contrastive estimation: noise is made from the data (Ceylan and Gutmann 2018).

    For each x there are y_1 .. y_K from a kernel q(y | x), and the critic says which of the two was the
    data, in nats:

        -(1/K) sum_k log s(log f(x) + log q(y_k | x) - log f(y_k) - log q(x | y_k))

    with f = p Z (their loss without its factor 2). log Z cancels and is not learned. Noise near the data is
    hard to tell from it, wherever they are; modes that no kernel connects are weighed by nothing.

    ::

        model = lx.energy.ConditionalNCE(energy, lambda x: lx.Normal(x, 0.3).to_event(), num_noise=5)
        bits = lambda x: lx.Bernoulli(probs=jnp.where(x > 0, 0.9, 0.1)).to_event()

    `terms`: `accuracy`, `unnormalized_log_prob` of the data.

    Args:
      model: an `Energy`, or an `RBM` or another `Unnormalized`, where training starts.
      kernel: `(*event,) -> Distribution` over such values, without a batch; it need not be symmetric, but
        must be able to go back where it came from.
      num_noise: K.

    Raises:
      TypeError: for a model or a kernel that is none.
      ValueError: for a K that is none.
    """

    def __init__(self, model: Any, kernel: Any, *, num_noise: int = 1):
        super().__init__(model, num_noise)
        if isinstance(kernel, Distribution) or not callable(kernel):
            raise TypeError(
                f"ConditionalNCE: a function of one value wanted, got {kernel!r}; write "
                "kernel=lambda x: lx.Normal(x, 0.3).to_event(), or lx.energy.NCE(model, noise)"
            )
        self.kernel = kernel

    def noise_given(self, x: Array) -> Distribution:
        """q(. | x)."""
        return self.kernel(x)

    def _beside(self, key: Array, density: Unnormalized, x: Array) -> dict[str, Array]:
        _check_noise("ConditionalNCE", self.model, self.kernel(x[0]))
        return {}

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        density = self.model.density(params["model"], state=state)
        x = density._value(self._known(batch.target, keep))
        y = self.draw(stream(key, "noise"), x)

        def log_moves(x: Array, y: Array) -> Array:
            back = jax.vmap(lambda one: self.kernel(one).log_prob(x))(y)
            return self.kernel(x).log_prob(y) - back

        moves = with_auto_axes(jax.vmap(log_moves), divided(1, x))(x, y)
        each = density.unnormalized_log_prob(jnp.concatenate([x[:, None], y], axis=1))
        logits = each[:, :1] - each[:, 1:] + moves
        cost = -jnp.mean(Bernoulli(logits=logits).log_prob(jnp.ones_like(logits)), axis=1)
        right = jnp.mean((logits > 0).astype(cost.dtype), axis=1)
        terms = {"accuracy": right, "unnormalized_log_prob": each[:, 0]}
        return Scores(cost, terms, state, self.claim)


def _told_apart(logits: Array) -> tuple[Array, Array]:
    """What the answers cost, data first and then noise, `(batch, 1 + K) -> (batch,)`; how many are right."""
    is_data = jnp.arange(logits.shape[1]) == 0
    cost = -jnp.sum(Bernoulli(logits=logits).log_prob(is_data), axis=1)
    right = ((logits > 0) == is_data).astype(cost.dtype)
    return cost, 0.5 * (right[:, 0] + jnp.mean(right[:, 1:], axis=1))


def _picked(logits: Array) -> tuple[Array, Array]:
    """What picking the first of `(batch, 1 + K)` costs, `(batch,)`, and whether it is the likeliest."""
    critic = Categorical(logits=logits)
    cost = -critic.log_prob(jnp.zeros((), int))
    return cost, (critic.mode() == 0).astype(cost.dtype)


def log_mean_exp(x: Array) -> Array:
    """log of the mean of exp(x), over all of it."""
    return logsumexp(x, axis=tuple(range(x.ndim))) - jnp.log(x.size)


def _check_noise(name: str, model: Any, noise: Any) -> None:
    event = tuple(model.event_shape)
    if not isinstance(noise, Distribution):
        raise TypeError(
            f"{name}: noise is a Distribution, got {noise!r}; write "
            f"lx.Normal(jnp.zeros({event}), 1.0).to_event({len(event)})"
        )
    if noise.batch_shape or noise.event_shape != event:
        raise ValueError(
            f"{name}: noise of event shape {event} without a batch wanted, got batch "
            f"{noise.batch_shape}, event {noise.event_shape}; write noise.to_event({len(event)}), or "
            f"lx.Normal(jnp.zeros({event}), 1.0).to_event({len(event)})"
        )
    if noise.support.is_discrete != model.support.is_discrete:
        kinds = {True: "whole numbers", False: "real numbers"}
        raise ValueError(
            f"{name}: the model is over {kinds[model.support.is_discrete]}, the noise over "
            f"{kinds[noise.support.is_discrete]}: their densities have no ratio; write "
            "lx.Bernoulli(probs=x.mean(0)).to_event() for bits, or lx.energy.Energy(..., "
            "support=lx.supports.boolean)"
        )
