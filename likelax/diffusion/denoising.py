"""Training by denoising, which is the evidence lower bound for one weighting of the noise levels."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from likelax._keys import stream
from likelax._pytree import Array
from likelax.diffusion.model import DiffusionModel, normal_like, row_keys
from likelax.diffusion.prediction import Prediction
from likelax.diffusion.process import Level, Process
from likelax.diffusion.weighting import Weighting
from likelax.distributions.normal import Normal
from likelax.objective import Batch, Claim, Scores


class Denoising(DiffusionModel):
    """1/2 E_t [w |d gamma / dt| |e - e_hat|^2], in nats where w = 1 (Kingma and Gao 2023, eq. 8).

    ::

        process = lx.diffusion.Process("variance_preserving", lx.diffusion.Cosine())
        model = lx.diffusion.Denoising(process, net, "v", weighting="sigmoid")
        params, state = model.init(key, lx.Batch(images))

    With `weighting="elbo"` the terms `prior` and `reconstruction` are added, and the number is an upper
    bound on the negative log-likelihood: see `VLB`. With any other it is no likelihood, whatever its
    unit; `weighting.bound` says what it bounds.

    Args:
      process, net, prediction, data, level, condition_dropout, null: as for `DiffusionModel`.
      weighting: w, a name or a `lx.diffusion.Weighting`.
      times: "stratified": one of them in each of `batch` equal parts of [0, 1] (Kingma et al. 2021,
        appendix I.1), or "independent".
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
        times: Literal["stratified", "independent"] = "stratified",
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
        if times not in ("stratified", "independent"):
            raise ValueError(
                f'{self._name}: times are "stratified" or "independent", got {times!r}'
            )
        self.weighting = Weighting(weighting) if isinstance(weighting, str) else weighting
        self.times = times
        self.claim = Claim("upper" if self.weighting.bound == "data" else "none")

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        x = self._encoded(batch.target, keep)
        process = self.process_of(params)
        level = process.at(self._times(stream(key, "times"), x.shape[0]))
        error, state = self._squared_errors(params, key, x, level, batch.input, state, train)
        diffusion = 0.5 * self.weighting(level) * jnp.abs(level.gamma_rate) * error
        if self.weighting.bound != "data":
            return Scores(diffusion, {"diffusion": diffusion}, state, self.claim)
        terms = self._ends(process, key, x) | {"diffusion": diffusion}
        claim = dataclasses.replace(self.claim, measure=self.data.measure(x.shape[1:]))
        return Scores(sum(terms.values(), jnp.zeros(())), terms, state, claim)

    def _times(self, key: Array, count: int) -> Array:
        """In [0, 1], one for each example."""
        if self.times == "stratified":
            first = jax.random.uniform(key)
            return (first + jnp.arange(count) / count) % 1
        return jax.vmap(jax.random.uniform)(row_keys(key, count))

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
        # e - e_hat as a multiple of the output's error: e_hat itself may be a difference.
        missed = self.prediction.output(x, noise, level) - output
        scale = self.prediction.coefficients(level).noise_from_output
        return scale**2 * jnp.sum(missed**2, axis=tuple(range(1, x.ndim))), state

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
