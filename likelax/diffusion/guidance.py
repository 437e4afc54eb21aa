"""Denoisers made of denoisers: guided by a condition, a classifier, or what is known of the data.

Each takes denoisers (z, level) -> `Denoised` and gives another, for any sampler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from likelax._checks import are_numbers
from likelax._pytree import Array
from likelax.diffusion.prediction import Denoised, Denoiser
from likelax.diffusion.process import Level
from likelax.objective import trailing

# Log-SNRs, from and to.
Interval = tuple[float, float]


def classifier_free(
    conditional: Denoiser, unconditional: Denoiser, scale: Any, interval: Interval | None = None
) -> Denoiser:
    """unconditional + scale (conditional - unconditional) (Ho and Salimans 2022, eq. 6, whose w is
    scale - 1).

    Args:
      conditional, unconditional: denoisers. Of a model that was trained with `condition_dropout`,
        `model.denoiser(params, input=y, guidance_scale=scale)` is this in one call of the network.
      scale: 0 is the unconditional one, 1 the conditional one, more goes beyond it; a number, or
        `(batch,)`.
      interval: the log-SNRs between which the scale holds; elsewhere it is 1 (Kynkaanniemi et al. 2024,
        eq. 5: their noise level is exp(-log SNR / 2)).
    """
    check_interval(interval)

    def denoise(z: Array, level: Level) -> Denoised:
        here = scale_at(level.like(z), scale, interval)
        return extrapolated(conditional(z, level), unconditional(z, level), here)

    return denoise


def classifier(
    denoiser: Denoiser, log_prob: Callable[[Array, Level], Array], scale: Any = 1.0
) -> Denoiser:
    """The score plus scale times the gradient of log p(y | z) (Dhariwal and Nichol 2021, alg. 1 and 2).

    Args:
      denoiser: of the data without y.
      log_prob: log p(y | z) of the wanted y, (z, level) -> `(batch,)`, of a classifier of noisy data.
      scale: 1 is the denoiser of the data given y; a number, or `(batch,)`.
    """

    def denoise(z: Array, level: Level) -> Denoised:
        at, estimate = level.like(z), denoiser(z, level)
        slope = _by_rows(scale, z.ndim) * jax.grad(lambda z: jnp.sum(log_prob(z, level)))(z)
        return estimate._replace(
            data=estimate.data + at.sigma * jnp.exp(0.5 * at.gamma) * slope,
            noise=estimate.noise - at.sigma * slope,
        )

    return denoise


def inpainting(denoiser: Denoiser, known: Any, mask: Any) -> Denoiser:
    """The estimate of the data replaced by the data where they are known (Song et al. 2021, appendix I.2).

    What is known is thus denoised exactly: under every sampler z there is the noisy version of `known`
    that leads to it. What is not known hears of it through the denoiser alone;
    `lx.diffusion.PredictorCorrector(corrections=10)` brings the two into harmony, as the resampling of
    Lugmayr et al. 2022 does.

    Args:
      denoiser: of whole data.
      known: in the model's own units (`model.data.encoded(target, None)`), a shape that broadcasts to
        that of z; what lies outside the mask may be anything.
      mask: boolean, True where known, likewise.

    Raises:
      TypeError: for a mask that is not boolean.
    """
    known, mask = jnp.asarray(known), jnp.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"inpainting: mask is boolean, got {mask.dtype}; write mask=mask > 0")

    def denoise(z: Array, level: Level) -> Denoised:
        at, estimate = level.like(z), denoiser(z, level)
        data = jnp.where(mask, known, estimate.data)
        noise = (z - at.alpha * jnp.where(mask, known, 0)) / at.sigma
        return estimate._replace(data=data, noise=jnp.where(mask, noise, estimate.noise))

    return denoise


def check_interval(interval: Any) -> None:
    """Raises ValueError unless it is a pair that grows."""
    if interval is None:
        return
    pair = isinstance(interval, tuple | list) and len(interval) == 2 and are_numbers(*interval)
    if not (pair and interval[0] < interval[1]):
        raise ValueError(
            "the interval of guidance is a pair (low, high) of log-SNRs, low < high, got "
            f"{interval!r}; write interval=(-2 * log(sigma_high), -2 * log(sigma_low)) for noise levels"
        )


def scale_at(level: Level, scale: Any, interval: Interval | None) -> Any:
    """The scale where it holds, and 1 elsewhere; of the level's rank, which is that of z."""
    scale = _by_rows(scale, level.gamma.ndim)
    if interval is None:
        return scale
    log_snr = -level.gamma
    return jnp.where((interval[0] <= log_snr) & (log_snr <= interval[1]), scale, 1.0)


def _by_rows(scale: Any, ndim: int) -> Any:
    """A number, or `(batch,)` with axes of length 1 at the end."""
    return trailing(jnp.asarray(scale), ndim) if jnp.ndim(scale) == 1 else scale


def extrapolated(conditional: Denoised, unconditional: Denoised, scale: Any) -> Denoised:
    """The one of scale 1 and the one of scale 0, between them or beyond."""
    return jax.tree.map(
        lambda given, free: free + scale * (given - free), conditional, unconditional
    )
