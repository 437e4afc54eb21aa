"""The notebooks run from their text forms, and their stored outputs are those of that text."""

import importlib.util
import json
import os
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
TEXTS = sorted(NOTEBOOKS.glob("[0-9]*.py"))


@pytest.fixture(scope="module")
def execute():
    spec = importlib.util.spec_from_file_location("execute", NOTEBOOKS / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stored(path):
    return json.loads(path.with_suffix(".ipynb").read_text())


def test_there_are_some():
    assert [path.stem[:2] for path in TEXTS] == [f"{i:02d}" for i in range(1, 9)]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_the_stored_cells_are_those_of_the_text(path, execute):
    fresh = execute.read(path)
    kept = stored(path)["cells"]
    assert ["".join(cell["source"]) for cell in kept] == [cell.source for cell in fresh.cells], (
        f"run python notebooks/execute.py {path.stem}"
    )


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_stored_outputs_are_whole(path):
    cells = [cell for cell in stored(path)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = [output["output_type"] for cell in cells for output in cell["outputs"]]
    assert "error" not in kinds and "stream" in kinds
    streams = [o for cell in cells for o in cell["outputs"] if o["output_type"] == "stream"]
    assert {output["name"] for output in streams} == {"stdout"}  # no warning in print
    figures = [o for cell in cells for o in cell["outputs"] if "image/png" in o.get("data", {})]
    assert len(figures) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_every_cell_runs(path, execute, monkeypatch):
    """With few samples and steps; a cell that fails raises."""
    monkeypatch.setenv("LIKELAX_QUICK", "1")
    monkeypatch.setenv("JAX_PLATFORMS", os.environ["JAX_PLATFORMS"])
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    notebook = execute.execute(execute.read(path))
    printed = [o.text for c in notebook.cells for o in c.get("outputs", []) if "text" in o]
    told = "".join(printed)
    assert "nats (exact" in told
    if path.stem.startswith("01"):
        assert "refused: the perplexity of a loss that is no likelihood means nothing" in told
    elif path.stem.startswith("03"):
        hand, library = (line.split()[2] for line in told.splitlines() if line.startswith("by "))
        assert abs(float(hand) - float(library)) < 1e-4
        assert "refused: the perplexity" in told
    elif path.stem.startswith("04"):
        assert "undecided: upper bound" in told and "particles that count" in told
    elif path.stem.startswith("05"):
        assert "none failed" in told and "upper bound, closing with num_particles" in told
    elif path.stem.startswith("06"):
        assert "refused: bits per dimension of a loss that is no likelihood" in told
        assert "exact, closing with ode tolerance" in told and "undecided: " in told
    elif path.stem.startswith("07"):
        hand, library = (line.split()[2] for line in told.splitlines() if line.startswith("by "))
        assert abs(float(hand) - float(library)) < 1e-3
        assert "refused: bits per dimension of a loss that is no likelihood" in told
        assert "(lower bound)" in told and "(upper bound)" in told and "(estimate)" in told
    elif path.stem.startswith("08"):
        assert "each player sees its own loss" in told
        assert "found: the gradient in the generator's parameters" in told
        assert "refused: bits per dimension of a loss that is no likelihood" in told
    else:
        assert "a factor of 2 is missing" in told and "nothing wrong was found" not in told
