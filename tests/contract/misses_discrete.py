"""What misses the accuracy contract among discrete families, vectors, wrappers and divergences.

The figure is about half as much again as the 99th percentile here: it differs by machine.
"""

import math

DISPERSION = (
    "the slope at a fixed mean is what is left of those in r and in the logits, which cancel as the dispersion "
    "goes to 0"
)
BEYOND = "where the divergence is beyond the largest float so is its slope, which should not be"
SUM = "three log-densities of 1e±20 scales, of either sign, cancel"
NDTR = "jax's log_ndtr in float64 has such an error itself"
INTERVAL = "the slope in a bound far off is a quotient of two rounded tails"
BLOCKS = "the slope in a shape of 1e3 to 1e5 is what is left of the terms' slopes, which cancel"
NARROW = "classes of a width of 1e-6 have slopes of 1e6 that cancel in the sum"

MISSES = {
    ("NegativeBinomial.from_mean tails", "cdf/2"): (580, DISPERSION),
    ("NegativeBinomial.from_mean tails", "log_cdf/2"): (8100, DISPERSION),
    ("NegativeBinomial.from_mean tails", "log_survival/2"): (3.8e4, DISPERSION),
    ("MultivariateNormalDiag", "log_prob"): (13, SUM),
    ("Truncated(Normal) tails", "log_survival/1"): (75, INTERVAL),
    ("KL Weibull", "kl_divergence/0"): (math.inf, BEYOND),
    ("KL OrderedLogistic", "kl_divergence/1"): (170, NARROW),
}

MISSES_FLOAT64 = {
    ("NegativeBinomial.from_mean tails", "cdf/2"): (220, DISPERSION),
    ("NegativeBinomial.from_mean tails", "log_cdf/2"): (2400, DISPERSION),
    ("NegativeBinomial.from_mean tails", "log_survival/2"): (1.1e4, DISPERSION),
    ("MultivariateNormalDiag", "log_prob"): (18, SUM),
    ("Mixture(Normal)", "log_survival"): (15, NDTR),
    ("Truncated(Normal) tails", "log_survival"): (13, INTERVAL),
    ("KL OrderedLogistic", "kl_divergence/1"): (160, NARROW),
    ("BetaBinomial entropy", "entropy/1"): (180, BLOCKS),
    ("BetaBinomial entropy", "entropy/2"): (140, BLOCKS),
}
