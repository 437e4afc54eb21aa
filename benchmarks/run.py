"""Run benchmark suites and write their tables as they came out.

python benchmarks/run.py SUITE [SUITE ...] [--quick] [--out benchmarks/results]

A suite is a file in benchmarks/suites/ with `run(quick) -> Table`; `all` means each of them.
"""

import argparse
import importlib
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The suites, and the tree that this file lies in, whatever is installed.
sys.path[:0] = [str(HERE), str(HERE.parent)]

SUITES = sorted(path.stem for path in (HERE / "suites").glob("*.py") if path.stem[0] != "_")


def main(arguments: list[str] | None = None) -> None:
    """Run the suites that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suites", nargs="+", metavar="SUITE", choices=["all", *SUITES])
    parser.add_argument("--out", type=Path, help="folder to write SUITE-PLATFORM.md into")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it runs")
    options = parser.parse_args(arguments)
    if options.quick and options.out:
        parser.error("--quick measures nothing worth keeping: leave out --out")
    for name in SUITES if "all" in options.suites else options.suites:
        run_suite(name, quick=options.quick, out=options.out)


def run_suite(name: str, *, quick: bool, out: Path | None) -> None:
    """Run one suite, print its table, and write it where asked."""
    # jax only now: the overhead suite measures imports in processes of its own.
    import jax
    from _timing import machine_facts

    print(f"== {name}", flush=True)
    started = time.monotonic()
    table = importlib.import_module(f"suites.{name}").run(quick)
    facts = [*machine_facts(), f"The suite took {time.monotonic() - started:.0f} s"]
    page = table.markdown(facts)
    print("\n" + page, flush=True)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        path = out / f"{name}-{jax.default_backend()}.md"
        path.write_text(page)
        print(f"written to {path}")


if __name__ == "__main__":
    main()
