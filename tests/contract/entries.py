"""Every entry of the contract. A family's entries lie in the file of its group."""

from contract import (
    classes,
    counts,
    discrete_divergences,
    divergences,
    entropies,
    location_scale,
    vectors,
    wrappers,
)

GROUPS = [
    location_scale,
    counts,
    classes,
    vectors,
    wrappers,
    divergences,
    discrete_divergences,
    entropies,
]
BY_NAME = {entry.name: entry for group in GROUPS for entry in group.ENTRIES}
