"""Rows that miss, with the 99th percentile that they are known to have and why.

An infinite figure is that of a row with a NaN, an infinity or a support that is wrong. A row that does better
than a quarter of its figure is to be taken off.
"""

from contract import misses_continuous, misses_correlated, misses_discrete

Misses = dict[tuple[str, str], tuple[float, str]]

MISSES: Misses = misses_continuous.MISSES | misses_correlated.MISSES | misses_discrete.MISSES
MISSES_FLOAT64: Misses = (
    misses_continuous.MISSES_FLOAT64
    | misses_correlated.MISSES_FLOAT64
    | misses_discrete.MISSES_FLOAT64
)
