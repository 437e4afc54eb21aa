"""A table of results, and how it is written."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass
class Table:
    """A title, what was measured and how, rows of cells, and notes below."""

    title: str
    method: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def add(self, *cells: str) -> None:
        """Append a row; prints it, since a suite runs for minutes."""
        if len(cells) != len(self.columns):
            raise ValueError(f"{len(cells)} cells for {len(self.columns)} columns: {cells}")
        self.rows.append(cells)
        print("  ".join(cells), flush=True)

    def markdown(self, facts: Sequence[str]) -> str:
        """The whole table as a Markdown page."""
        lines = [f"# {self.title}", "", self.method, ""]
        lines += [_row(self.columns), _row(["---"] + ["---:"] * (len(self.columns) - 1))]
        lines += [_row(row) for row in self.rows]
        lines += ["", *self.notes, ""] if self.notes else [""]
        return "\n".join([*lines, *(f"- {fact}" for fact in facts), ""])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
