"""Every entry of the contract. A family's entries lie in the file of its group."""

from contract import (
    bounded,
    correlated,
    entropies,
    extremes,
    gammas,
    half_line,
    line,
    location_scale,
    noisy_choices,
    skewed,
)

GROUPS = [location_scale, line, half_line, gammas, bounded, entropies]
GROUPS += [extremes, skewed, correlated, noisy_choices]
BY_NAME = {entry.name: entry for group in GROUPS for entry in group.ENTRIES}
