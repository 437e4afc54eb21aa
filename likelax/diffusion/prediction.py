"""What a network predicts of the data x and the noise e in z = alpha x + sigma e."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax.numpy as jnp

from likelax._checks import is_number
from likelax._pytree import Array
from likelax.diffusion.process import Level

Name = Literal["noise", "data", "v", "score", "velocity", "edm"]


class Denoised(NamedTuple):
    """An estimate of what z is made of.

    Attributes:
      data: of x, of the shape of z; the optimal one is E[x | z].
      noise: of e, likewise; z = alpha data + sigma noise.
      share: of a model that has learned the variance of its steps, where that lies, in logarithms, between
        the posterior's, 0, and the forward step's, 1; likewise.
    """

    data: Array
    noise: Array
    share: Array | None = None


# (z, level) -> Denoised: z (batch, *event), a level without axes or (batch,).
Denoiser = Callable[[Array, Level], Denoised]


class Coefficients(NamedTuple):
    """A prediction as linear maps: output = from_data x + from_noise e, and back

    x = data_from_z z + data_from_output output,
    e = noise_from_z z + noise_from_output output.
    """

    from_data: Array
    from_noise: Array
    data_from_z: Array
    data_from_output: Array
    noise_from_z: Array
    noise_from_output: Array


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the output of a network means, at every noise level.

    * "noise": e; "data": x; "score": -e / sigma, the gradient of log p(z);
    * "v": alpha e - sigma x (Salimans and Ho 2022);
    * "velocity": dz/dt = alpha' x + sigma' e, in the process's own time (flow matching);
    * "edm": the output F of Karras et al. 2022, sec. 5, whose input is scaled, too.

    Where the signal-to-noise ratio is 0 the data do not follow from "noise" and "score", nor where it is
    infinite the noise from "data" and the target of "score" from anything: these are 0 there. The other
    conversions hold at both ends.

    Args:
      name: one of them.
      data_scale: the standard deviation of the data, for "edm".

    Raises:
      ValueError: for another name, or a scale that is not positive.
    """

    name: Name = "v"
    data_scale: float = 1.0

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name in _COEFFICIENTS):
            raise ValueError(
                f"Prediction: the name is one of {sorted(_COEFFICIENTS)}, got {self.name!r}"
            )
        if not (is_number(self.data_scale) and self.data_scale > 0):
            raise ValueError(
                f"Prediction: data_scale is positive, got {self.data_scale!r}; write 1.0"
            )

    def coefficients(self, level: Level) -> Coefficients:
        """The linear maps, each of the shape of the level."""
        maps = _COEFFICIENTS[self.name](level, self.data_scale)
        return Coefficients(*(jnp.broadcast_to(m, level.gamma.shape) for m in maps))

    def input_scale(self, level: Level) -> Array:
        """What z is multiplied by before the network sees it; 1 but for "edm"."""
        if self.name != "edm":
            return jnp.ones_like(level.gamma)
        return 1 / jnp.hypot(level.sigma, level.alpha * self.data_scale)

    def output(self, x: Array, noise: Array, level: Level) -> Array:
        """What the network should put out, `(*times, *event)`."""
        c = self.coefficients(level.like(x))
        return c.from_data * x + c.from_noise * noise

    def denoised(self, output: Array, z: Array, level: Level) -> Denoised:
        """The estimates that an output means; z and output are `(*times, *event)`."""
        c = self.coefficients(level.like(z))
        return Denoised(
            c.data_from_z * z + c.data_from_output * output,
            c.noise_from_z * z + c.noise_from_output * output,
        )


def _over(x: Array | float, y: Array) -> Array:
    """x / y, and 0 where y is 0."""
    return jnp.where(y == 0, 0.0, x / jnp.where(y == 0, 1, y))


def _noise(p: Level, _: float) -> tuple[Array | float, ...]:
    return 0.0, 1.0, _over(1.0, p.alpha), _over(-p.sigma, p.alpha), 0.0, 1.0


def _data(p: Level, _: float) -> tuple[Array | float, ...]:
    return 1.0, 0.0, 0.0, 1.0, _over(1.0, p.sigma), _over(-p.alpha, p.sigma)


def _score(p: Level, _: float) -> tuple[Array | float, ...]:
    return 0.0, _over(-1.0, p.sigma), _over(1.0, p.alpha), _over(p.sigma**2, p.alpha), 0.0, -p.sigma


def _v(p: Level, _: float) -> tuple[Array | float, ...]:
    norm = p.alpha**2 + p.sigma**2
    return -p.sigma, p.alpha, p.alpha / norm, -p.sigma / norm, p.sigma / norm, p.alpha / norm


def _velocity(p: Level, _: float) -> tuple[Array | float, ...]:
    norm = p.alpha * p.sigma_rate - p.sigma * p.alpha_rate
    return (
        p.alpha_rate,
        p.sigma_rate,
        p.sigma_rate / norm,
        -p.sigma / norm,
        -p.alpha_rate / norm,
        p.alpha / norm,
    )


def _edm(p: Level, scale: float) -> tuple[Array | float, ...]:
    # c_skip and c_out of Karras et al. 2022, table 1, for z / alpha and sigma / alpha.
    norm = jnp.hypot(p.sigma, p.alpha * scale)
    return (
        p.sigma / norm / scale,
        -p.alpha * scale / norm,
        p.alpha * (scale / norm) ** 2,
        p.sigma * scale / norm,
        p.sigma / norm**2,
        -p.alpha * scale / norm,
    )


_COEFFICIENTS: dict[str, Callable[[Level, float], tuple[Array | float, ...]]] = {
    "noise": _noise,
    "data": _data,
    "score": _score,
    "v": _v,
    "velocity": _velocity,
    "edm": _edm,
}


def as_prediction(prediction: str | Prediction) -> Prediction:
    """The prediction of that name, or itself."""
    if isinstance(prediction, Prediction):
        return prediction
    return Prediction(prediction)  # type: ignore[arg-type]
