"""The tour's command line: its options, its errors, and the same table from the same seed."""

import re

import jax
import numpy as np
import pytest

from likelax import datasets, tour
from likelax.distributions import Categorical
from likelax.flows import neural_spline_flow
from likelax.heads import Head
from likelax.objective import Batch
from likelax.sequence import Autoregressive
from likelax.testing import check_causal
from likelax.tour import bits, density, images, regression, text

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


def test_text(capsys, tmp_path, monkeypatch):
    """A made-up text, whose next letter depends on the one before."""
    steps = np.random.default_rng(0).choice(3, size=20_000, p=[0.1, 0.8, 0.1])
    letters = (97 + np.cumsum(steps) % 3).astype(np.uint8).tobytes()
    monkeypatch.setattr(datasets, "text", lambda: datasets.Text("letters", letters, "made up"))
    names = "each byte alone", "the byte before"
    monkeypatch.setattr(text, "NETS", {name: text.NETS[name] for name in names})
    told = run(capsys, "--only", "text", "--steps", 150, "--out", tmp_path)
    assert "18000 bytes to train on, the 2000 that follow held out: made up" in told
    nats = [float(re.search(rf"{name} \*?\s*([\d.]+) ±", told)[1]) for name in names]
    # The entropies of a letter and of a step.
    np.testing.assert_allclose(nats, [np.log(3), 0.639], atol=0.04)
    bits = float(re.search(r"the byte before: ([\d.]+) ± [\d.]+ bits per byte \(exact\)", told)[1])
    assert abs(bits - nats[1] / np.log(2)) < 1e-3
    for name in ("gzip -9", "xz -9e"):
        assert float(re.search(rf"{name} +([\d.]+), given", told)[1]) > bits
    drawn = told.partition("after the | :")[2].partition("seed")[0]
    assert sum(drawn.count(letter) for letter in "abc") > 180, "of 40 + 160"
    assert all(sign.isprintable() or sign == "\n" for sign in drawn)


@pytest.mark.parametrize("name", text.NETS)
def test_the_networks_of_the_tour_are_causal(name):
    head = Head(Categorical, num_categories=256)
    model = Autoregressive(text.NETS[name], head, start=text.START)
    batch = Batch(np.random.default_rng(0).integers(0, 256, (2, 6)).astype(np.int32))
    params = model.init(jax.random.key(0), batch).params
    check_causal(model, params, batch)


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


@pytest.mark.slow
def test_images(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "PARTICLES", 10)
    monkeypatch.setattr(images, "DRAWS", 4)
    told = run(capsys, "--only", "images", "--steps", 60, "--out", tmp_path)
    found = {}
    for name in ("each pixel alone", "VAE", "autoregressive flow", "diffusion"):
        line = re.search(rf"^{name} \*?\s*([\d.]+) ± .*$", told, re.MULTILINE)
        found[name] = float(line[1])
        assert ("upper bound" in line[0]) == (name != "each pixel alone")
    # 17 levels without any knowledge: 64 log 17 = 181 nats.
    assert max(found.values()) < 181 and found["VAE"] < found["each pixel alone"]
    # A bound below a bound decides nothing.
    verdict = told.partition("diffusion against autoregressive flow: ")[2].splitlines()[0]
    assert "nats" in verdict and "is better" not in verdict
    assert (tmp_path / "images.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_bits(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(bits, "HIDDEN", 5)
    monkeypatch.setattr(bits, "TEMPERATURES", 20)
    told = run(capsys, "--only", "bits", "--steps", 60, "--out", tmp_path)
    names = "each pixel alone", "mixture of 30", "Boltzmann machine, 5 hidden units"
    alone, mixture, machine = (
        float(re.search(rf"^{name} \*?\s*([\d.]+) ±.* exact ", told, re.MULTILINE)[1])
        for name in names
    )
    # 64 coins: 64 log 2 = 44.4 nats.
    assert max(mixture, machine) < alone < 44.4
    log_z = float(re.search(r"its log Z: (-?[\d.]+) ±", told)[1])
    sides = re.findall(r"(-?[\d.]+) ± ([\d.]+) nats \((?:lower|upper) bound\)", told)
    assert len(sides) == 2
    for side, error in sides:
        assert abs(float(side) - log_z) < 4 * float(error) + 1e-3
    assert (tmp_path / "bits.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_density(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(density, "SIZE", 2000)
    heads = {"Normal": density.HEADS["Normal"], "spline": neural_spline_flow(2, layers=2)}
    monkeypatch.setattr(density, "HEADS", heads)
    told = run(capsys, "--only", "density", "--steps", 120, "--out", tmp_path)
    normal, spline = (
        float(re.search(rf"^{name} \*?\s*([\d.]+) ±", told, re.MULTILINE)[1]) for name in heads
    )
    # Nothing passes the entropy, but for what 2000 points vary by.
    assert density.ENTROPY - 0.1 < spline < normal - 0.1
    assert (tmp_path / "density.png").read_bytes().startswith(PNG)


def test_the_entropy_of_the_moons():
    """By quadrature over both half circles, each a mean of Normals along its length."""
    angle = np.linspace(0, np.pi, 400)
    outer = np.stack([np.cos(angle), np.sin(angle)], -1)
    inner = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], -1)
    x, y = np.linspace(-1.6, 2.6, 211), np.linspace(-1.1, 1.6, 136)
    weight = np.gradient(angle) / np.pi
    weight[[0, -1]] /= 2
    p = 0.0
    for curve in (outer, inner):
        along = [
            np.exp(-0.5 * ((v[:, None] - curve[:, k]) / density.NOISE) ** 2)
            for k, v in enumerate((x, y))
        ]
        p = p + 0.5 * np.einsum("it,jt,t->ij", *along, weight) / (2 * np.pi * density.NOISE**2)
    cell = (x[1] - x[0]) * (y[1] - y[0])
    assert abs(p.sum() * cell - 1) < 1e-3
    entropy = -np.sum(np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0)) * cell
    assert abs(entropy - density.ENTROPY) < 2e-3
