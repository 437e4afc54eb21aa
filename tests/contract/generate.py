"""Write the contract's tables: arguments in float32, exact values and slopes from mpmath.

cd tests; python -m contract.generate [ENTRY ...] [--seed 0] [--rows 200] [--fresh]

Without names, every entry. `--fresh` stores nothing: it draws from another seed and prints the errors
of likelax there, which have to be within the contract like the stored ones.
"""

import argparse
import multiprocessing
import zlib

import numpy as np

from contract.entries import BY_NAME
from contract.measure import TABLES, evaluate, of_distribution, rows


def draw(name: str, seed: int, n: int) -> list[np.ndarray]:
    return BY_NAME[name].columns(np.random.default_rng([seed, zlib.crc32(name.encode())]), n)


def make(name: str, seed: int, n: int) -> tuple[str, list[np.ndarray], dict[str, np.ndarray]]:
    """The columns and the truth of an entry."""
    columns = draw(name, seed, n)
    return name, columns, BY_NAME[name].truth(columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="ENTRY")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    names = options.names or sorted(BY_NAME)
    unknown = set(names) - set(BY_NAME)
    if unknown:
        parser.error(f"no such entries: {sorted(unknown)}; there are {sorted(BY_NAME)}")
    tasks = [(name, options.seed, options.rows) for name in names]
    with multiprocessing.get_context("spawn").Pool() as pool:
        for name, columns, truth in pool.starmap(make, tasks, chunksize=1):
            if options.fresh:
                report(name, columns, truth)
                continue
            stored = {f"column{i:02d}": column for i, column in enumerate(columns)}
            np.savez_compressed(TABLES / f"{name}.npz", **stored, **truth)
            print(name, len(columns[0]))


def report(name: str, columns: list[np.ndarray], truth: dict[str, np.ndarray]) -> None:
    """Print p99, worst and mistakes of likelax."""
    entry = BY_NAME[name]
    functions = {method: of_distribution(entry, method) for method in entry.exact}
    got = evaluate(functions, entry.argnums(columns), columns)
    for row in rows(entry, columns, truth, got):
        at = [c[np.argmax(row.errors.reshape(len(c), -1).max(-1))] for c in columns]
        flag = "BROKEN" if row.broken else ""
        print(
            f"{name:32s} {row.quantity:16s} p99 {row.percentile:9.3g} worst {row.worst:9.3g} "
            f"mistakes {row.mistakes:3d} {flag} at {at}"
        )


if __name__ == "__main__":
    main()
