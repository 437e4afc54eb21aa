"""Each example runs from its file, prints what it says, and gets better at what it does."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested_here():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {"own_loop", "ensemble", "custom_likelihood", "forecaster"}


def test_own_loop(capsys):
    own_loop = example("own_loop")
    assert own_loop.main(steps=60) < own_loop.main(steps=1)
    told = capsys.readouterr().out
    assert "nats (exact; 47 examples)" in told
    assert "95% of households" in told


def test_ensemble(capsys):
    alone, together = example("ensemble").main(steps=30, members=3)
    assert together < alone < 1.0  # log 10 = 2.3 knows nothing
    assert "3 together" in capsys.readouterr().out


def test_forecaster(capsys, tmp_path):
    forecaster = example("forecaster")
    early, late = (forecaster.main(n, tmp_path, draws=50) for n in (3, 80))
    assert all(late[name] < early[name] for name in late)
    assert "nats per year" in capsys.readouterr().out
    assert (tmp_path / "forecast.png").stat().st_size > 10_000


@pytest.mark.slow
def test_custom_likelihood(capsys):
    loss = example("custom_likelihood").main(steps=120)
    told = capsys.readouterr().out
    assert "ok       normalisation" in told and "FAILED" not in told
    # The truth's own loss: E[-log p] of a Rayleigh is 1 + log(scale / sqrt 2) + 0.577/2, averaged.
    assert abs(loss - (1 + 1.0 - 0.3466 + 0.2886)) < 0.05
    hours = [line.split() for line in told.splitlines() if line.strip().startswith(("0 ", "6 "))]
    for _, truth, fitted in hours:
        assert abs(float(fitted) / float(truth) - 1) < 0.1
