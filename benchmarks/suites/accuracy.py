"""The accuracy contract on its stored table: likelax, numpyro, TFP and jax.scipy beside one another."""

import sys
import warnings
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from _table import Table
from _timing import importable
from suites._accuracy_peers import PEERS, function

sys.path.append(str(Path(__file__).parents[2] / "tests"))

from contract.entries import BY_NAME
from contract.entry import Entry
from contract.measure import SLOPE, VALUE, Row, evaluate, load, of_distribution, rows


def run(quick: bool) -> Table:
    """Measure every entry of the contract in each library that has it."""
    families = {name: make() for name, (make, modules) in PEERS.items() if importable(*modules)}
    table = Table(
        title="accuracy: the contract",
        method=(
            "Float32 over grids that reach tails of 1e±30, scales and concentrations of 1e±20, logits of "
            "±1000 and counts of 1e8; the truth is mpmath's, exact for the rounded arguments. A row of the "
            f"contract is one method, or its slope in one argument, over one grid: {_points()} points each. It "
            "breaks where the 99th percentile of its errors is above "
            f"{VALUE:g} eps max(1, |value|), or {SLOPE:g} eps max(|slope|, 1 / natural length), or where there "
            "is a NaN, an infinity or a support that the exact value does not have (a mistake). "
            "A cell says how many rows break, of how many, and how many mistakes there are; a dash: not "
            "there, or in parameters that would have to be converted."
        ),
        columns=["entry", "likelax", *families],
    )
    measured: dict[str, list[Row]] = {name: [] for name in ["likelax", *families]}
    names = sorted(BY_NAME)[::12] if quick else sorted(BY_NAME)
    for name in names:
        cells = []
        for library in measured:
            own = of_library(BY_NAME[name], library, families)
            measured[library] += own
            cells.append(cell(own))
        table.add(name, *cells)
    table.add("all", *(cell(own) for own in measured.values()))
    shared = set.intersection(*({(r.entry, r.quantity) for r in own} for own in measured.values()))
    for library, own in measured.items():
        if shared:
            same = [row for row in own if (row.entry, row.quantity) in shared]
            table.notes.append(f"- {library}, the {len(same)} rows that all have: {cell(same)}")
    for library, own in measured.items():
        table.notes.append(f"- worst row of {library}: {worst(own)}")
    return table


def _points() -> int:
    return len(load(sorted(BY_NAME)[0])[0][0])


def of_library(entry: Entry, library: str, families: dict[str, Any]) -> list[Row]:
    """All rows of an entry in one library."""
    columns, truth = load(entry.name)
    # No library takes labels as floats.
    labels = entry.value and entry.make(*(c[0] for c in columns[1:]))._takes_indices
    found = []
    for method in entry.exact:
        if library == "likelax":
            f = of_distribution(entry, method)
        else:
            f = function(library, families[library], entry.name, method)
        if f is None:
            continue
        if labels:
            f = lambda value, *params, _f=f: _f(value.astype(jnp.int32), *params)  # noqa: E731
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                got = evaluate({method: f}, entry.argnums(columns), columns)
        except (NotImplementedError, AttributeError, TypeError, ValueError) as error:
            if library == "likelax":
                raise
            print(f"  {library}, {entry.name}, {method}: {type(error).__name__}: {str(error)[:90]}")
            continue
        found += rows(entry, columns, truth, got)
    return found


def cell(own: list[Row]) -> str:
    """broken/rows, and the mistakes."""
    if not own:
        return "–"
    mistakes = sum(row.mistakes for row in own)
    return f"{sum(row.broken for row in own)} of {len(own)}" + (f", {mistakes}" if mistakes else "")


def worst(own: list[Row]) -> str:
    """The row with the largest finite 99th percentile, over its bound."""
    finite = [row for row in own if np.isfinite(row.percentile)]
    row = max(finite, key=lambda row: row.percentile / row.bound)
    endless = sum(not np.isfinite(r.percentile) for r in own)
    also = f"; in {endless} more the 99th percentile is a mistake" if endless else ""
    return f"{row.entry}, {row.quantity}: {row.percentile:.3g} eps{also}"
