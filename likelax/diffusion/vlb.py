"""The variational bound of a diffusion model, in continuous time or of a chain of steps."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from likelax._checks import is_count
from likelax._keys import stream
from likelax._pytree import Array
from likelax.diffusion._noise import normal_like
from likelax.diffusion.denoising import Denoising
from likelax.diffusion.prediction import Denoised
from likelax.diffusion.process import Level, Process
from likelax.diffusion.weighting import Weighting


class VLB(Denoising):
    """-log p(x) <= prior + reconstruction + diffusion, in nats, each in `aux.terms` (Kingma et al. 2021,
    eq. 4):

    * `prior`: KL(q(z_1 | x) || p(z_1)),
    * `reconstruction`: -E log p(x | z_0),
    * `diffusion`: in continuous time 1/2 E_t [gamma'(t) |e - e_hat(z_t)|^2], eq. 17; of a chain of T
      steps with t = i / T and s = (i - 1) / T, T E_i KL(q(z_s | z_t, x) || p(z_s | z_t)), which is
      T/2 E_i [expm1(gamma_t - gamma_s) |e - e_hat(z_t)|^2], eq. 13-15.

    The bound falls as T grows. With a `Learned()` schedule its ends have the gradient of the bound. So
    has all of it in a chain; in continuous time the bound does not depend on what lies between, which has
    the gradient of the squared diffusion term, that makes its variance small (appendix I.2).

    Args:
      process, net, prediction, data, level, times, condition_dropout, null: as for `Denoising`.
      steps: T, None for continuous time.
      variance: of p(z_s | z_t) in a chain: "posterior", that of q(z_s | z_t, x); or "learned": between it
        and that of q(z_t | z_s), exp(v log beta + (1 - v) log beta_tilde) (Nichol and Dhariwal 2021,
        eq. 15). The network then puts out twice as many numbers on the last axis, the latter half
        2 v - 1.

    Raises:
      ValueError: for a number of steps that is none, and a variance that is learned in continuous time.
    """

    def __init__(
        self,
        process: Process,
        net: Any,
        prediction: Any = "v",
        *,
        steps: int | None = None,
        variance: str = "posterior",
        **options: Any,
    ):
        if steps is not None and not is_count(steps):
            raise ValueError(
                f"{self._name}: steps is a whole number >= 1, or None for continuous time, got {steps!r}"
            )
        if variance not in ("posterior", "learned"):
            raise ValueError(
                f'{self._name}: variance is "posterior" or "learned", got {variance!r}'
            )
        if variance == "learned" and steps is None:
            raise ValueError(
                f"{self._name}: in continuous time the variance is that of the posterior; write "
                'steps=1000, or variance="posterior"'
            )
        if "weighting" in options:
            raise TypeError(
                f"{self._name}: the weighting of a bound is its own; write lx.diffusion.Denoising(process, "
                f"net, weighting={options['weighting']!r})"
            )
        super().__init__(process, net, prediction, "elbo", **options)
        self.steps, self.variance = steps, variance

    @property
    def _outputs_each(self) -> int:
        return 2 if self.variance == "learned" else 1

    @property
    def _steered(self) -> bool:
        return self._learns and self.steps is None

    def _diffusion(
        self, params: Any, data: Any, state: Any, train: bool, weighting: Weighting
    ) -> tuple[Array, Any]:
        if self.steps is None:
            return super()._diffusion(params, data, state, train, weighting)
        x, input, time, key = data
        early, late = self._step(self.process_of(params), time)
        noise, at = normal_like(stream(key, "noise"), x), late.like(x)
        z = at.alpha * x + at.sigma * noise
        outputs, state = self._outputs(
            params, z, late, input, key=stream(key, "net"), state=state, train=train
        )
        output, share = self._halves(outputs, z)
        missed = self._missed(x, noise, output, late)
        each = _divergences(missed, share, early.like(x), at)
        return self.steps * jnp.sum(each, axis=tuple(range(1, x.ndim))), state

    def _integrand(
        self, params: Any, key: Array, x: Array, u: Array, input: Any, state: Any
    ) -> tuple[Array, Any]:
        if self.steps is None:
            return super()._integrand(params, key, x, u, input, state)
        return self._diffusion(params, (x, input, u, key), state, False, self.weighting)

    def _denoised(self, params: Any, outputs: Array, z: Array, level: Level) -> Denoised:
        output, share = self._halves(outputs, z)
        return self.prediction.denoised(output, z, level)._replace(share=share)

    def _step(self, process: Process, time: Array) -> tuple[Level, Level]:
        """Both ends of the step that has the time, the one nearer to the data first."""
        steps = self.steps or 1
        index = jnp.minimum(jnp.floor(time * steps), steps - 1)
        lower, upper = (process.at(i / steps) for i in (index, index + 1))
        return (lower, upper) if process.data_at == 0 else (upper, lower)

    def _halves(self, outputs: Array, z: Array) -> tuple[Array, Array | None]:
        """The prediction, and v where the variance is learned."""
        if self.variance == "posterior":
            return outputs, None
        size = z.shape[-1]
        return outputs[..., :size], 0.5 * (1 + outputs[..., size:])


def _divergences(missed: Array, share: Array | None, early: Level, late: Level) -> Array:
    """KL(q(z_s | z_t, x) || p(z_s | z_t)) of each entry, from e - e_hat and v."""
    # With the posterior's variance s2: (mu - mu_hat)^2 = s2 expm1(gamma_t - gamma_s) (e - e_hat)^2.
    distance = jnp.expm1(late.gamma - early.gamma) * missed**2
    if share is None:
        return 0.5 * distance
    # log of the variances' ratio: beta / beta_tilde = (sigma_t / sigma_s)^2.
    wider = share * 2 * (late.log_sigma - early.log_sigma)
    return 0.5 * (wider + jnp.expm1(-wider) + jnp.exp(-wider) * distance)
