"""Writes the notebooks from their text forms and runs them: `python notebooks/execute.py [NAME
...]`.

The text form (jupytext's percent format) is what is edited; the .ipynb beside it holds the same
cells and what they put out. Nothing of the machine or the time of the run is kept.
"""

import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent


def read(path: Path) -> nbformat.NotebookNode:
    """The notebook of a text form, without outputs; the same text gives the same notebook."""
    notebook = jupytext.read(path)
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i:02d}"
        cell.metadata.clear()
    return notebook


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """The outputs, with neighbouring pieces of the same stream made one: how a kernel cuts what is
    printed depends on its timing.
    """
    whole: list[nbformat.NotebookNode] = []
    for output in outputs:
        stream = output.get("name")
        if stream and whole and whole[-1].get("name") == stream:
            whole[-1].text += output.text
        else:
            whole.append(output)
    return whole


def execute(notebook: nbformat.NotebookNode, timeout: int = 600) -> nbformat.NotebookNode:
    """Runs the notebook in place; raises CellExecutionError where a cell fails."""
    client = NotebookClient(notebook, timeout=timeout, record_timing=False, resources={})
    client.execute(cwd=str(HERE))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    # The interpreter's own version is no part of what the notebook says.
    notebook.metadata.pop("language_info", None)
    return notebook


def main(names: list[str]) -> None:
    for path in sorted(HERE.glob("[0-9]*.py")):
        if not names or any(name in path.stem for name in names):
            nbformat.write(execute(read(path)), path.with_suffix(".ipynb"))
            print(path.with_suffix(".ipynb"))


if __name__ == "__main__":
    main(sys.argv[1:])
