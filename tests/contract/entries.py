"""Every entry of the contract. A family's entries lie in the file of its group."""

from contract import bounded, entropies, gammas, half_line, line, location_scale

GROUPS = [location_scale, line, half_line, gammas, bounded, entropies]
BY_NAME = {entry.name: entry for group in GROUPS for entry in group.ENTRIES}
