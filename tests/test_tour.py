"""The tour's command line: its options, its errors, and the same table from the same seed."""

import re

import pytest

from likelax import tour
from likelax.tour import regression

PNG = b"\x89PNG\r\n\x1a\n"


def table(text):
    """The printed lines without what each run takes."""
    text = re.sub(r"(exact\s+)[\d.]+", r"\1", text)
    return re.sub(r"\d+ seconds in all", "", re.sub(r"figure: \S+", "", text))


def run(capsys, *arguments):
    assert tour.main(["tour", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_only_steps_seed_and_out(capsys, tmp_path, monkeypatch):
    names = "Normal, one scale", "StudentT"
    monkeypatch.setattr(regression, "HEADS", {name: regression.HEADS[name] for name in names})
    arguments = ("--only", "regression", "--steps", 3)
    first = run(capsys, *arguments, "--out", tmp_path / "a" / "b")
    assert "StudentT" in first and "Poisson" not in first and "exact" in first
    figure = tmp_path / "a" / "b" / "regression.png"
    assert str(figure) in first
    assert figure.read_bytes().startswith(PNG)
    again = run(capsys, *arguments, "--out", tmp_path)
    assert table(again) == table(first)
    other = run(capsys, *arguments, "--seed", 1, "--out", tmp_path)
    assert table(other) != table(first)


REFUSED = {
    "section": (["--only", "regresion"], "no section 'regresion'; there are regression, counts"),
    "steps": (["--steps", "-3"], "at least 1 wanted, got '-3'"),
    "steps of a kind": (["--steps", "many"], "at least 1 wanted, got 'many'"),
    "seed": (["--seed", "1.5"], "from 0 to 2^32 - 1 wanted, got '1.5'"),
    "unknown": (["--step-size", "1"], "unrecognized arguments"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_options_are_named(capsys, case):
    arguments, message = REFUSED[case]
    with pytest.raises(SystemExit, match="2"):
        tour.main(["tour", *arguments])
    assert message in capsys.readouterr().err


def test_out_that_is_a_file(capsys, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("")
    with pytest.raises(SystemExit, match="2"):
        tour.main(["tour", "--out", str(taken)])
    assert "is no folder and cannot become one" in capsys.readouterr().err
    assert taken.read_text() == ""


def test_no_command_and_help(capsys):
    with pytest.raises(SystemExit, match="2"):
        tour.main([])
    assert "tour" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        tour.main(["tour", "--help"])
    told = capsys.readouterr().out
    assert all(option in told for option in ("--only", "--steps", "--seed", "--out"))


@pytest.mark.slow
def test_the_reference_log_likelihoods_of_the_doctor_visits(capsys, tmp_path):
    """statsmodels' Poisson and NB2 on all 20,190 rows, to the last printed digit."""
    told = run(capsys, "--only", "counts", "--steps", 2, "--out", tmp_path)
    assert re.search(r"Poisson +-62419\.59 ", told)
    assert re.search(r"negative binomial +-43383\.66 ", told)
    assert "generalized Poisson (custom)" in told
    assert (tmp_path / "counts.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_digits(capsys, tmp_path):
    told = run(capsys, "--only", "digits", "--steps", 60, "--out", tmp_path)
    found = {}
    for name in ("class frequencies only", "Categorical"):
        found[name] = float(re.search(rf"{name} \*?\s*([\d.]+) ±", told)[1])
    # log 10 = 2.303: nothing known, and something learned.
    assert abs(found["class frequencies only"] - 2.31) < 0.05
    assert found["Categorical"] < 0.6
