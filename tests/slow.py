"""Which tests `make test` leaves to `make test-slow`: those marked where they stand, and those measured.

`slow.txt` lists the measured ones: `make test TEST_ARGS="-m '' --measure-slow"` on an idle machine writes it anew.
"""

from collections.abc import Iterable
from pathlib import Path

import pytest

LIST = Path(__file__).with_name("slow.txt")
SECONDS = 2  # of a test's own call, without its fixtures
LISTED = frozenset(LIST.read_text().splitlines())
COLLECTED = pytest.StashKey[
    set[str]
]()  # all tests of the files that are run, where they are run whole


def name_of(nodeid: str) -> str:
    """A test as the list has it."""
    return nodeid.removeprefix("tests/")


def mark(items: Iterable[pytest.Item]) -> None:
    """Marks the listed ones."""
    for item in items:
        if name_of(item.nodeid) in LISTED:
            item.add_marker("slow")


def unknown(names: Iterable[str]) -> set[str]:
    """What the list names beside these tests of whole files."""
    names = set(names)
    files = {name.partition("::")[0] for name in names}
    return {name for name in LISTED - names if name.partition("::")[0] in files}


def write(seconds: dict[str, float]) -> None:
    """The list anew, of what was run; what was not run stays."""
    slow = {name for name, taken in seconds.items() if taken > SECONDS}
    LIST.write_text("".join(f"{name}\n" for name in sorted(slow | (LISTED - set(seconds)))))
