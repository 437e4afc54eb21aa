"""Training by denoising, which is the evidence lower bound for one weighting of the noise levels."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from likelax._keys import stream
from likelax._pytree import Array
from likelax.diffusion._noise import normal_like
from likelax.diffusion.data import Pixels
from likelax.diffusion.model import DiffusionModel
from likelax.diffusion.prediction import Prediction
from likelax.diffusion.process import Level, Process
from likelax.diffusion.schedules import Learned
from likelax.diffusion.times import AdaptiveTimes, as_times
from likelax.diffusion.weighting import Weighting, as_weighting
from likelax.distributions.normal import Normal
from likelax.networks import Variables
from likelax.numerics.logspace import sigmoid
from likelax.objective import Batch, Claim, Scores


class Denoising(DiffusionModel):
    """1/2 E_t [w |d gamma / dt| |e - e_hat|^2], in nats where w = 1 (Kingma and Gao 2023, eq. 8).

    ::

        process = lx.diffusion.Process("variance_preserving", lx.diffusion.Cosine())
        model = lx.diffusion.Denoising(process, net, "v", weighting="sigmoid")
        params, state = model.init(key, lx.Batch(images))

    With `weighting="elbo"` the terms `prior` and `reconstruction` are added, and the number is an upper
    bound on the negative log-likelihood: see `VLB`. With any other it is no likelihood, whatever its
    unit. Of weights that do not grow with the log-SNR ("sigmoid", "flow_matching") it is, but for a
    constant, an average of such bounds for data with noise added, which `model.weighting.bound` calls
    "noisy data"; of the rest it bounds nothing. What a model trained with any weighting says of the
    likelihood is told by `lx.diffusion.bound(model, params, key, batch)`.

    Args:
      process, net, prediction, data, level, condition_dropout, null: as for `DiffusionModel`.
      weighting: w, a name or a `lx.diffusion.Weighting`.
      times: "stratified": one of them in each of `batch` equal parts of [0, 1] (Kingma et al. 2021,
        appendix I.1), "independent", or `lx.diffusion.AdaptiveTimes()`, more of them where losses are
        large; the state is then `{"net": .., "times": ..}`.

    Raises:
      ValueError: for times that are none, or a learned schedule with a weighting other than "elbo", of
        which it would make a small loss out of easy noise levels.
    """

    def __init__(
        self,
        process: Process,
        net: Any,
        prediction: str | Prediction = "v",
        weighting: str | Weighting = "simple",
        *,
        data: Any = None,
        level: Literal["log_snr", "time"] = "log_snr",
        times: Any = "stratified",
        condition_dropout: float = 0.0,
        null: Any = None,
    ):
        super().__init__(
            process,
            net,
            prediction,
            data=data,
            level=level,
            condition_dropout=condition_dropout,
            null=null,
        )
        self.times = as_times(times, self._name)
        self.weighting = as_weighting(weighting, self._name)
        if self._learns and self.weighting.bound != "data":
            raise ValueError(
                f"{self._name}: with weighting {self.weighting.name!r} a learned schedule would "
                'go to where noise is easy to predict; write weighting="elbo", lx.diffusion.VLB, or '
                "a schedule such as lx.diffusion.Cosine()"
            )
        self.claim = Claim("upper" if self.weighting.bound == "data" else "none")

    @property
    def _learns(self) -> bool:
        return isinstance(self.process.schedule, Learned)

    @property
    def _steered(self) -> bool:
        """Whether a learned schedule is trained for the variance of the loss."""
        return self._learns

    # State: the network's own, or with that of the times beside it.

    def init(self, key: Array, batch: Batch) -> Variables:
        params, state = super().init(key, batch)
        return Variables(params, self._packed(state, self.times.init()))

    def merge(self, params: Any, state: Any = ()) -> Any:
        return super().merge(params, self._unpacked(state)[0])

    def _packed(self, net: Any, times: Any) -> Any:
        return {"net": net, "times": times} if isinstance(self.times, AdaptiveTimes) else net

    def _unpacked(self, state: Any) -> tuple[Any, Any]:
        if not isinstance(self.times, AdaptiveTimes):
            return state, ()
        if not (isinstance(state, dict) and "times" in state):
            raise ValueError(
                f"{self._name}: adaptive times have a state and none was given; pass state=state, as "
                "from params, state = model.init(key, batch), or after training state=result.state"
            )
        return state["net"], state["times"]

    def _outputs(
        self, params: Any, z: Array, level: Level, input: Any, *, state: Any = (), **options: Any
    ) -> tuple[Array, Any]:
        net, times = self._unpacked(state)
        out, net = super()._outputs(params, z, level, input, state=net, **options)
        return out, self._packed(net, times)

    # The loss.

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        x = self._encoded(batch.target, keep)
        own = self._unpacked(state)[1]
        times = self.times.draw(stream(key, "times"), x.shape[0], own)
        data = (x, batch.input, times.time, key)
        cost, state = self._diffusion(params, data, state, train, self.weighting)
        if train:
            seen = self._seen(batch.target, keep)
            own = self.times.updated(own, times, cost, seen)
            state = self._packed(self._unpacked(state)[0], own)
        cost = cost / times.density
        if self.weighting.bound != "data":
            priced = self._priced(cost, batch.target)
            return Scores(priced, {"diffusion": cost}, state, self.claim)
        scores = self._evidence(params, key, batch.target, x, cost, state)
        claim = dataclasses.replace(scores.claim, unbiased=not (train and self._steered))
        return scores._replace(claim=claim)

    def bounded(
        self, params: Any, key: Array, batch: Batch, *, u: Array, state: Any, keep: Array | None
    ) -> Scores:
        """The variational bound by one draw, whatever the weighting: see `lx.diffusion.bound`.

        Args:
          u: uniform in [0, 1), one for each example.
        """
        x = self._encoded(batch.target, keep)
        cost, state = self._integrand(params, key, x, u, batch.input, state)
        return self._evidence(params, key, batch.target, x, cost, state)

    def _integrand(
        self, params: Any, key: Array, x: Array, u: Array, input: Any, state: Any
    ) -> tuple[Array, Any]:
        """What each example costs, `(batch,)`, at places u in [0, 1) of which the integral is the bound's
        diffusion term; it is to vary little.
        """
        process = self.process_of(params)
        span = process.log_snr_max - process.log_snr_min
        if self._learns:  # which was trained to make it vary little
            level = process.at(u)
            density = 1 / jnp.abs(level.gamma_rate)
        elif not isinstance(self.data, Pixels):
            level = process.at(process.time_of(span * u - process.log_snr_max))
            density = 1 / span
        else:
            # The integrand has a peak, near which the schedule may linger, or through which it may rush.
            even = process.time_of(span * (2 * u % 1) - process.log_snr_max)
            level = process.at(jnp.where(u < 0.5, even, 2 * u % 1))
            density = 0.5 / span + 0.5 / jnp.abs(level.gamma_rate)
        error, state = self._squared_errors(params, key, x, level, input, state, False)
        if isinstance(self.data, Pixels):  # near them the noise is known, as they are
            return 0.5 * error / density, state
        # Of noise that cannot be predicted, as near the data, |e - e_hat|^2 is |e|^2, whose mean is known.
        noise, axes = normal_like(stream(key, "noise"), x), tuple(range(1, x.ndim))
        excess = sigmoid(-level.gamma) * jnp.sum(noise**2 - 1, axis=axes)
        return 0.5 * (error - excess) / density, state

    def _evidence(
        self, params: Any, key: Array, target: Any, x: Array, diffusion: Array, state: Any
    ) -> Scores:
        """The bound, from its diffusion term."""
        terms = self._ends(self.process_of(params), key, x) | {"diffusion": diffusion}
        cost = self._priced(sum(terms.values(), jnp.zeros(())), target)
        return Scores(cost, terms, state, Claim("upper", measure=self.data.measure(x.shape[1:])))

    def _diffusion(
        self, params: Any, data: Any, state: Any, train: bool, weighting: Weighting
    ) -> tuple[Array, Any]:
        """What each example costs at its time, `(batch,)`, and the next state; `data` is
        (x, input, time, key). Its integral over times is the diffusion term.
        """
        if not (train and self._steered):
            level = self.process_of(params).at(data[2])
            return self._cost(params, level, data, state, train, weighting)
        # In continuous time the mean does not depend on what lies between the ends of the schedule:
        # that is trained to make the variance small (Kingma et al. 2021, appendix I.2).
        x, input, time, key = data
        # On a mesh laid out as the examples are: a slope has the layout of what it is the slope of.
        time = time + jnp.sum(jnp.zeros_like(x), axis=tuple(range(1, x.ndim)))
        data, position = (x, input, time, key), self.process_of(params).position(time)
        ask = functools.partial(self._cost_at, train, weighting)
        return with_slope_of_square(ask, position, (params, data, state))

    def _cost_at(
        self, train: bool, weighting: Weighting, position: tuple[Array, Array], rest: Any
    ) -> tuple[Array, Any]:
        params, data, state = rest
        level = self.process_of(params).at_position(data[2], *position)
        return self._cost(params, level, data, state, train, weighting)

    def _cost(
        self, params: Any, level: Level, data: Any, state: Any, train: bool, weighting: Weighting
    ) -> tuple[Array, Any]:
        x, input, _, key = data
        error, state = self._squared_errors(params, key, x, level, input, state, train)
        return 0.5 * weighting(level) * jnp.abs(level.gamma_rate) * error, state

    def _squared_errors(
        self,
        params: Any,
        key: Array,
        x: Array,
        level: Level,
        input: Any,
        state: Any,
        train: bool,
    ) -> tuple[Array, Any]:
        """|e - e_hat|^2 of each example, `(batch,)`."""
        noise = normal_like(stream(key, "noise"), x)
        at = level.like(x)
        z = at.alpha * x + at.sigma * noise
        output, state = self._output(
            params, z, level, input, key=stream(key, "net"), state=state, train=train
        )
        missed = self._missed(x, noise, output, level)
        return jnp.sum(missed**2, axis=tuple(range(1, x.ndim))), state

    def _missed(self, x: Array, noise: Array, output: Array, level: Level) -> Array:
        """e - e_hat as a multiple of the output's error: e_hat itself may be a difference."""
        scale = self.prediction.coefficients(level.like(x)).noise_from_output
        return scale * (output - self.prediction.output(x, noise, level))

    def _ends(self, process: Process, key: Array, x: Array) -> dict[str, Array]:
        """The terms of the evidence lower bound that need no network, `(batch,)` each."""
        first, last = process.ends()
        prior = Normal(last.alpha * x, log_scale=last.log_sigma).to_event(x.ndim - 1)
        noise = normal_like(stream(key, "reconstruction"), x)
        z = first.alpha * x + first.sigma * noise
        return {
            "prior": prior.kl_divergence(process.prior(x.shape[1:])),
            "reconstruction": self.data.reconstruction(z, x, first),
        }


Ask = Callable[[Any, Any], tuple[Array, Any]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def with_slope_of_square(ask: Ask, position: Any, rest: Any) -> tuple[Array, Any]:
    """ask(position, rest) -> (cost, aux) with the gradient of cost in `rest` and of cost^2 in `position`,
    both `(batch,)`, by one backward pass. Row i of the cost depends on row i of the position only.
    """
    return ask(position, rest)


def _forward(ask: Ask, position: Any, rest: Any) -> tuple[Any, Any]:
    cost, back, aux = jax.vjp(ask, position, rest, has_aux=True)
    return (cost, aux), (cost, back)


def _backward(ask: Ask, kept: Any, slopes: Any) -> tuple[Any, Any]:
    cost, back = kept
    position, rest = back(slopes[0])
    return jax.tree.map(lambda slope: 2 * cost * slope, position), rest


with_slope_of_square.defvjp(_forward, _backward)
