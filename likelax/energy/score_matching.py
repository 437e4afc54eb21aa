"""Score matching: the gradient of log p(x) in x, in which log Z does not occur."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from likelax._checks import is_count, is_number
from likelax._keys import stream
from likelax._pytree import Array
from likelax.energy.objective import DensityObjective
from likelax.numerics.score_matching import denoising, implicit, sliced
from likelax.objective import Batch, Claim, Scores


class ScoreMatching(DensityObjective):
    """Fits the score s(x) = grad log p(x), the gradient of -E(x), of a density over real values.

    | method | loss of an example | least for |
    |---|---|---|
    | `"implicit"` | tr(ds/dx) + 1/2 abs(s)^2 (Hyvarinen 2005), a Jacobian's product for each entry of x | the data |
    | `"sliced"` | v'(ds/dx)v + 1/2 abs(s)^2 for random v (Song et al. 2019, with variance reduction) | the data |
    | `"denoising"` | 1/2 abs(s(x + r e) + e / r)^2 (Vincent 2011) | the data with noise of scale r |

    ::

        model = lx.energy.ScoreMatching(lx.energy.Energy(MLP, 2), method="denoising", noise_scale=0.1)

    The number is no likelihood, may be negative, and differs from half the Fisher divergence by a constant
    of the data. The first two compare densities where there are data: what mass lies elsewhere is not seen.

    A network whose examples know of one another in training (batch normalisation) has no score of its own:
    take another one.

    Args:
      model: a `GaussianRBM`, or an `Energy` over real values, which is differentiated twice.
      method: see above.
      noise_scale: r, positive: for "denoising", and needed there.
      num_probes: how many v, of entries +1 and -1: for "sliced".
      variance_reduction: whether 1/2 (v's)^2 is its mean 1/2 abs(s)^2: for "sliced".

    Raises:
      TypeError: for a model of other values.
      ValueError: for another method, or numbers that are none.
    """

    claim = Claim("none")

    def __init__(
        self,
        model: Any,
        method: str = "sliced",
        *,
        noise_scale: float | None = None,
        num_probes: int = 1,
        variance_reduction: bool = True,
    ):
        super().__init__(model)
        if model.support.is_discrete:
            raise TypeError(
                f"{self._name}: a density of real values has a score, those of "
                f"{type(model).__name__} are {model.support}; write lx.energy.RatioMatching(model)"
            )
        if not model.support.is_everything:
            raise TypeError(
                f"{self._name}: a density of all real values wanted, whose parts integrate to nothing at an "
                f"edge, those of {type(model).__name__} are {model.support}; take x to all real values first, "
                "as jnp.log(x) does positive ones"
            )
        if method not in ("implicit", "sliced", "denoising"):
            raise ValueError(
                f'{self._name}: method is "implicit", "sliced" or "denoising", got {method!r}'
            )
        if (noise_scale is not None) != (method == "denoising"):
            raise ValueError(
                f'{self._name}: noise_scale is for method="denoising", and needed there; got '
                f'method={method!r}, noise_scale={noise_scale!r}; write method="denoising", '
                "noise_scale=0.1"
            )
        if noise_scale is not None and not (is_number(noise_scale) and 0 < noise_scale < math.inf):
            raise ValueError(f"{self._name}: noise_scale is positive, got {noise_scale!r}")
        if not is_count(num_probes):
            raise ValueError(
                f"{self._name}: num_probes is a whole number >= 1, got {num_probes!r}; write 1"
            )
        self.method = method
        self.noise_scale = 0.0 if noise_scale is None else noise_scale
        self.num_probes, self.variance_reduction = num_probes, variance_reduction

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        density = self._density(params, key, state, train)
        x = self._data(density, batch, keep)

        def score(x: Array) -> Array:
            return jax.grad(lambda x: jnp.sum(density.unnormalized_log_prob(x)))(x)

        if self.method == "implicit":
            cost = implicit(score, x)
        elif self.method == "denoising":
            cost = denoising(score, x, stream(key, "noise"), self.noise_scale)
        else:
            cost = sliced(
                score,
                x,
                stream(key, "probes"),
                num_probes=self.num_probes,
                variance_reduction=self.variance_reduction,
            )
        if train and jax.tree.leaves(state):
            # What a network makes inside a derivative cannot leave it.
            state = density._scored(x)[1]
        return Scores(cost, {}, state, self.claim)
