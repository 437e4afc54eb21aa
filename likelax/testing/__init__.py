"""Checks that a distribution, a bijector or a model, of the library or your own, is what it says."""

from likelax.testing.bijector import check_bijector
from likelax.testing.causal import check_causal
from likelax.testing.check import check_distribution
from likelax.testing.contrastive import (
    GaussianPairs,
    check_contrastive,
    check_noise_contrastive,
)
from likelax.testing.energies import (
    EnumeratedRBM,
    check_consistent,
    check_energy_gradient,
)
from likelax.testing.gaussian_diffusion import GaussianDiffusion, check_diffusion_bound
from likelax.testing.linear_gaussian import (
    LinearGaussian,
    check_evidence_bound,
    encoder_gradient_at_posterior,
)
from likelax.testing.players import check_loss, check_players
from likelax.testing.report import Report, Row

__all__ = [
    "EnumeratedRBM",
    "GaussianDiffusion",
    "GaussianPairs",
    "LinearGaussian",
    "Report",
    "Row",
    "check_bijector",
    "check_causal",
    "check_consistent",
    "check_contrastive",
    "check_diffusion_bound",
    "check_distribution",
    "check_energy_gradient",
    "check_evidence_bound",
    "check_noise_contrastive",
    "check_loss",
    "check_players",
    "encoder_gradient_at_posterior",
]
