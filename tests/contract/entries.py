"""Every entry of the contract. A family's entries lie in the file of its group."""

from contract import (
    bounded,
    classes,
    correlated,
    counts,
    discrete_divergences,
    discrete_entropies,
    divergences,
    entropies,
    extremes,
    gammas,
    half_line,
    line,
    location_scale,
    mixed,
    noisy_choices,
    skewed,
    vectors,
    wrappers,
)

GROUPS = [
    location_scale,
    line,
    half_line,
    gammas,
    bounded,
    counts,
    classes,
    vectors,
    wrappers,
    divergences,
    discrete_divergences,
    entropies,
    discrete_entropies,
    extremes,
    skewed,
    correlated,
    noisy_choices,
    mixed,
]
BY_NAME = {entry.name: entry for group in GROUPS for entry in group.ENTRIES}
