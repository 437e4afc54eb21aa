"""What a check found, as rows that read well."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Literal

Status = Literal["ok", "failed", "skipped"]


@dataclasses.dataclass(frozen=True)
class Row:
    """One check: its name, how it ended, and the numbers or the reason."""

    name: str
    status: Status
    detail: str


@dataclasses.dataclass(frozen=True)
class Report:
    """All rows of one `check_distribution`. Print it: it is an aligned table under a summary line.

    Attributes:
      title: what was checked.
      rows: one for each check, in the order in which they ran.
    """

    title: str
    rows: tuple[Row, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows that failed."""
        return self._of("failed")

    @property
    def skipped(self) -> tuple[Row, ...]:
        """The rows that were left out, each with its reason."""
        return self._of("skipped")

    @property
    def summary(self) -> str:
        """One line: what was checked, and how many checks passed, failed and were skipped."""
        passed = len(self._of("ok"))
        failed = f"{len(self.failures)} FAILED" if self.failures else "none failed"
        return f"{self.title}: {passed} checks passed, {failed}, {len(self.skipped)} skipped"

    def _of(self, status: Status) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.status == status)

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no check {name!r}; there are {', '.join(row.name for row in self.rows)}")

    def __str__(self) -> str:
        return "\n".join([self.summary, *_lines(self.rows)])


def _lines(rows: tuple[Row, ...]) -> list[str]:
    width = max((len(row.name) for row in rows), default=0)
    lines = []
    for row in rows:
        mark = "FAILED" if row.status == "failed" else row.status
        head = f"  {mark:<7}  {row.name:<{width}}  "
        text = textwrap.wrap(row.detail, max(40, 110 - len(head))) or [""]
        lines.append(head + text[0])
        lines += [" " * len(head) + more for more in text[1:]]
    return lines


def failure_message(report: Report) -> str:
    """What an AssertionError says: the failures, then where the rest is."""
    return "\n".join([report.summary, *_lines(report.failures)])
