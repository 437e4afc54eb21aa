"""The tour: families of likelihoods trained and compared on real data, in one table.

Each section is a file here with one function `section(settings) -> Section`; `SECTIONS` lists them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from likelax.tour import bits, counts, density, digits, images, regression, text
from likelax.tour.section import Section, Settings

SECTIONS: dict[str, Callable[[Settings], Section]] = {
    "regression": regression.section,
    "counts": counts.section,
    "digits": digits.section,
    "text": text.section,
    "images": images.section,
    "bits": bits.section,
    "density": density.section,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m likelax", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    tour = commands.add_parser("tour", help="train and compare likelihoods on real data")
    tour.add_argument(
        "--only",
        type=_sections,
        default=list(SECTIONS),
        metavar="NAME[,NAME]",
        help=f"which sections: {', '.join(SECTIONS)} (default: all)",
    )
    tour.add_argument(
        "--steps", type=_positive, help="training steps of each model (default: as each needs)"
    )
    tour.add_argument("--seed", type=_seed, default=0, help="the same seed gives the same table")
    tour.add_argument("--out", type=Path, default=Path("tour"), help="folder for the figures")
    options = parser.parse_args(arguments)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        tour.error(f"argument --out: {options.out} is no folder and cannot become one ({error})")
    run(Settings(options.seed, options.steps, options.out), options.only)
    return 0


def run(settings: Settings, only: Sequence[str] = tuple(SECTIONS)) -> list[Section]:
    """Runs these sections and prints their tables; figures go to `settings.out`."""
    started = time.perf_counter()
    settings.out.mkdir(parents=True, exist_ok=True)
    sections = []
    for name in only:
        sections.append(SECTIONS[name](settings))
        print(sections[-1], flush=True)
    print(f"seed {settings.seed}, {time.perf_counter() - started:.0f} seconds in all")
    return sections


def _sections(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in SECTIONS:
            raise argparse.ArgumentTypeError(
                f"no section {name!r}; there are {', '.join(SECTIONS)}"
            )
    return names


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1 wanted, got {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"a whole number from 0 to 2^32 - 1 wanted, got {text!r}")
    return int(text)
