"""Score matching at every noise level, which needs no knowledge of the noise that was added."""

from __future__ import annotations

from typing import Any

import jax

from likelax._checks import is_count
from likelax._keys import stream
from likelax._pytree import Array
from likelax.diffusion._noise import normal_like
from likelax.diffusion.model import DiffusionModel
from likelax.diffusion.prediction import Prediction
from likelax.diffusion.process import Process
from likelax.diffusion.times import StratifiedTimes
from likelax.numerics.score_matching import denoising, implicit, sliced
from likelax.objective import Batch, Claim, Scores


class ScoreMatching(DiffusionModel):
    """E_t [sigma^2 l(s, z)] with s = -e_hat / sigma the model's score of z and l a loss of
    `likelax.numerics.score_matching`.

    * "sliced": v' (ds/dz) v + 1/2 |s|^2 for random v (Song et al. 2019, with variance reduction),
    * "implicit": tr(ds/dz) + 1/2 |s|^2 (Hyvarinen 2005), as many products with the Jacobian as an event
      has entries,
    * "denoising": 1/2 |s + e / sigma|^2 (Vincent 2011), which is `Denoising(weighting="simple")`.

    All three have the same minimum, the same gradient on average, and differ by a constant; the first two
    need no e, and vary more near the data. The number is no likelihood; the trained model's is told by
    `lx.diffusion.ODELikelihood`.

    Args:
      process, net, prediction, data, level, condition_dropout, null: as for `DiffusionModel`.
      method: one of them.
      num_probes: how many v.

    Raises:
      ValueError: for another method, or a number of probes that is none.
    """

    claim = Claim("none")

    def __init__(
        self,
        process: Process,
        net: Any,
        prediction: str | Prediction = "score",
        *,
        method: str = "sliced",
        num_probes: int = 1,
        **options: Any,
    ):
        super().__init__(process, net, prediction, **options)
        if method not in ("sliced", "implicit", "denoising"):
            raise ValueError(
                f'{self._name}: method is "sliced", "implicit" or "denoising", got {method!r}'
            )
        if not is_count(num_probes):
            raise ValueError(
                f"{self._name}: num_probes is a whole number >= 1, got {num_probes!r}; write 1"
            )
        self.method, self.num_probes = method, num_probes

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        x = self._encoded(batch.target, keep)
        time = StratifiedTimes().draw(stream(key, "times"), x.shape[0], ()).time
        level = self.process_of(params).at(time)
        at, options = level.like(x), {"key": stream(key, "net"), "state": state, "train": train}

        def score(z: Array) -> Array:
            outputs, _ = self._outputs(params, z, level, batch.input, **options)
            return -self._denoised(params, outputs, z, level).noise / at.sigma

        z = at.alpha * x + at.sigma * normal_like(stream(key, "noise"), x)
        if self.method == "denoising":
            loss = denoising(score, at.alpha * x, key, level.sigma)
        elif self.method == "implicit":
            loss = implicit(score, z)
        else:
            loss = sliced(score, z, key, num_probes=self.num_probes)
        if train and jax.tree.leaves(state):
            # What a network makes inside a derivative cannot leave it.
            state = self._outputs(params, z, level, batch.input, **options)[1]
        cost = self._priced(level.sigma**2 * loss, batch.target)
        return Scores(cost, {}, state, self.claim)
