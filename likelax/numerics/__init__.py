"""Stable mathematics, written once, on plain arrays.

Import the room you need, for example `from likelax.numerics.logspace import log1mexp`. Every
function works element by element with broadcasting, computes in float32 or wider, and is
differentiable twice or more.

The rooms: `logspace` (sums, differences, sigmoids, divisions), `normal`, `bessel`, and the gamma
function's family: `deviance`, `gamma` (lgamma and its derivatives), `densities` (Gamma, Beta,
Dirichlet), `counts` (Poisson, negative binomial), `trials`, `multinomial`, `dirichlet_multinomial`,
`incomplete` (tails), `inverses` (quantiles). `indexing` chooses entries of an axis; `half_line` has
densities that look after their own support; `pairs` has floats of two words, `powers` (extremes,
lifetimes, power laws), `reciprocal` (the inverse Gamma) and `relaxed` (softened draws) the densities
that need them, as does `logistic_normal`; `low_rank` has covariances of a diagonal and a few factors,
`student_t` and `skew_normal` what these families need, `ranking` the shares of rankings,
`divergences` and `truncated_divergence` those of Kullback and Leibler, `score_matching` losses of a
model of the score.
"""
