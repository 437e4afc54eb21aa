"""The variational bound of a diffusion model."""

from __future__ import annotations

from typing import Any

from likelax.diffusion.denoising import Denoising


class VLB(Denoising):
    """-log p(x) <= prior + reconstruction + diffusion, in nats, each in `aux.terms` (Kingma et al. 2021,
    eq. 4):

    * `prior`: KL(q(z_1 | x) || p(z_1)),
    * `reconstruction`: -E log p(x | z_0),
    * `diffusion`: 1/2 E_t [gamma'(t) |e - e_hat(z_t)|^2], eq. 17.

    Args:
      process, net, prediction, data, level, times, condition_dropout, null: as for `Denoising`.
    """

    def __init__(self, process: Any, net: Any, prediction: Any = "v", **options: Any):
        super().__init__(process, net, prediction, "elbo", **options)
