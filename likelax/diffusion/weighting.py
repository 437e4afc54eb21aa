"""How much each noise level counts in a loss, and what the loss then says of the likelihood."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp

from likelax._checks import is_number
from likelax._pytree import Array
from likelax.diffusion.process import Level
from likelax.numerics.logspace import sigmoid

Bound = Literal["data", "noisy data"]


@dataclasses.dataclass(frozen=True)
class Weighting:
    """w in the loss 1/2 integral w(lambda) |e - e_hat|^2 d lambda over the log-SNR lambda (Kingma and
    Gao 2023, eq. 8), where w = 1 is the evidence lower bound.

    * "elbo": 1.
    * "simple": 1 / |d gamma / dt|, the plain mean of |e - e_hat|^2 over times (Ho et al. 2020, eq. 14).
    * "edm": what makes the loss of "edm" predictions a plain mean over times (Karras et al. 2022).
    * "min_snr": min(SNR, k) / SNR of the plain mean (Hang et al. 2023), k = 5.
    * "p2": (k + SNR)^-g of the plain mean (Choi et al. 2022), k = 1, g = 1.
    * "sigmoid": sigmoid(k - lambda) (Kingma and Gao 2023; Hoogeboom et al. 2024), k = 2.
    * "flow_matching": exp(-lambda / 2), the plain mean of the straight path's |u - u_hat|^2 (Kingma and
      Gao 2023, appendix D.3).

    Args:
      name: one of them.
      k, g: its constants, None for those above.
      data_scale: the standard deviation of the data, for "edm".

    Attributes:
      bound: "data" for "elbo". Weights that do not grow with lambda give an average, over levels, of
        bounds for data with noise added, but for a constant: "noisy data" (Kingma and Gao 2023,
        theorem 1). Else None: no bound at all.

    Raises:
      ValueError: for another name, and constants that it has not or that are none.
    """

    name: str = "elbo"
    k: float | None = None
    g: float | None = None
    data_scale: float = 1.0

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name in _WEIGHTS):
            raise ValueError(f"Weighting: the name is one of {sorted(_WEIGHTS)}, got {self.name!r}")
        for constant, value in {"k": self.k, "g": self.g}.items():
            if value is not None and constant not in _CONSTANTS.get(self.name, ""):
                raise ValueError(
                    f"Weighting: {self.name!r} has no {constant}, got {constant}={value!r}; leave it out"
                )
            # An exponent and what moves the log-SNR may be anything.
            least = 0 if constant == "k" and self.name != "sigmoid" else -math.inf
            if not (is_number(_given(value, 1.0)) and _given(value, 1.0) > least):
                raise ValueError(f"Weighting: {constant} is a number > {least}, got {value!r}")
        if not (is_number(self.data_scale) and self.data_scale > 0):
            raise ValueError(
                f"Weighting: data_scale is positive, got {self.data_scale!r}; write 1.0"
            )

    @property
    def bound(self) -> Bound | None:
        """What the weighted loss is a bound for."""
        return _BOUNDS.get(self.name)

    def __call__(self, level: Level) -> Array:
        """w, of the shape of the level."""
        return jnp.broadcast_to(_WEIGHTS[self.name](level, self), level.gamma.shape)


def _of_mean(weight: Array | float, level: Level) -> Array:
    """w of a mean over times of weight |e - e_hat|^2, but for a factor 1/2."""
    return weight / jnp.abs(level.gamma_rate)


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


def _p2(level: Level, own: Weighting) -> Array:
    snr = jnp.exp(-level.gamma)
    return _of_mean((_given(own.k, 1.0) + snr) ** -_given(own.g, 1.0), level)


_WEIGHTS: dict[str, Callable[[Level, Weighting], Array | float]] = {
    "elbo": lambda p, own: 1.0,
    "simple": lambda p, own: _of_mean(1.0, p),
    # |F - F_hat|^2 = (exp(gamma) + data_scale^2) / data_scale^2 |e - e_hat|^2
    "edm": lambda p, own: _of_mean(jnp.exp(p.gamma) / own.data_scale**2 + 1, p),
    "min_snr": lambda p, own: _of_mean(jnp.minimum(1, _given(own.k, 5.0) * jnp.exp(p.gamma)), p),
    "p2": _p2,
    "sigmoid": lambda p, own: sigmoid(_given(own.k, 2.0) + p.gamma),
    "flow_matching": lambda p, own: jnp.exp(0.5 * p.gamma),
}
_CONSTANTS = {"min_snr": "k", "p2": "kg", "sigmoid": "k"}
_BOUNDS: dict[str, Bound] = {
    "elbo": "data",
    "sigmoid": "noisy data",
    "flow_matching": "noisy data",
}


def as_weighting(weighting: Any, owner: str) -> Weighting:
    """The weighting of that name, or itself.

    Raises:
      TypeError: for what is neither.
      ValueError: for another name.
    """
    if isinstance(weighting, Weighting):
        return weighting
    if not isinstance(weighting, str):
        raise TypeError(
            f"{owner}: weighting is one of {sorted(_WEIGHTS)} or a lx.diffusion.Weighting, got "
            f'{weighting!r}; write weighting="elbo"'
        )
    return Weighting(weighting)
