"""Every entry of the contract. A family's entries lie in the file of its group."""

from contract import location_scale

GROUPS = [location_scale]
BY_NAME = {entry.name: entry for group in GROUPS for entry in group.ENTRIES}
