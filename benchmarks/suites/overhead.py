"""What likelax costs beside the arithmetic: importing, calling eagerly, tracing, compiling."""

import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from _table import Table
from _timing import importable, interleaved, many, median, ratio
from suites import log_prob as formulas

import likelax as lx

# Each import is timed in a process of its own, after jax and flax.
IMPORT = """
import sys, time
sys.path[:0] = {path!r}
import jax, flax.nnx, flax.linen
started = time.perf_counter()
import {module}
print(time.perf_counter() - started)
"""


def run(quick: bool) -> Table:
    """Five rows: import, eager call, trace, lower and compile, and a compiled call."""
    rounds = 3 if quick else 15
    table = Table(
        title="overhead: what is not arithmetic",
        method=(
            "Contenders in turn; medians, and ratios as medians of the ratios within a round. "
            "Eager: the distribution is built and `log_prob` called with no jit, 8 elements. "
            "Model: the summed NLL of five distributions (Normal, StudentT, Gamma, Poisson, "
            "Bernoulli) on 1,000 elements with the gradient by nine parameters; a new function "
            "each time, no compilation cache; the first, which also traces the parts that later "
            "ones share, is not timed. Lower is better everywhere."
        ),
        columns=["what", "bare JAX", "likelax", "likelax / bare", "goal", "numpyro / bare"],
    )
    with_numpyro = importable("numpyro.distributions")
    _imports(table, rounds, with_numpyro)
    _eager(table, 20 * rounds, with_numpyro)
    _model(table, rounds, with_numpyro)
    if not with_numpyro:
        table.notes.append("Not importable here: numpyro.")
    return table


def _imports(table: Table, rounds: int, with_numpyro: bool) -> None:
    modules = ["likelax", *(["numpyro.distributions"] if with_numpyro else [])]
    seconds: dict[str, list[float]] = {module: [] for module in modules}
    for _ in range(rounds + 1):
        for module in modules:
            code = IMPORT.format(module=module, path=sys.path)
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            )
            seconds[module].append(float(done.stdout))
    # The first round reads from a cold disk and writes bytecode.
    found = [f"{statistics.median(times[1:]):.2f} s" for times in seconds.values()]
    table.add("import, over jax + flax", "0 s", found[0], "", "0.3 s", (found + [""])[1])


def _eager(table: Table, rounds: int, with_numpyro: bool) -> None:
    x = jnp.linspace(0.5, 2.0, 8)
    calls: dict[str, Callable[[], Any]] = {
        "bare": lambda: formulas.normal(x, x, x),
        "likelax": lambda: lx.Normal(x, x).log_prob(x),
    }
    if with_numpyro:
        import numpyro.distributions as dist

        calls["numpyro"] = lambda: dist.Normal(x, x).log_prob(x)
    times = 20
    repeated = {name: many(call, times) for name, call in calls.items()}
    seconds = interleaved(repeated, rounds)
    _compare(table, "eager Normal(x, x).log_prob(x)", seconds, "2", scale=1e6 / times, unit="us")


FIVE = ["Normal", "StudentT", "Gamma", "Poisson", "Bernoulli"]


def _losses(with_numpyro: bool) -> tuple[dict[str, Callable[..., Any]], tuple[Any, Any]]:
    cases = formulas.cases(1000)
    params, values = jax.device_put(
        ([cases[name].params for name in FIVE], [cases[name].value for name in FIVE])
    )

    def loss(which: str) -> Callable[..., Any]:
        def total(params: Any, values: Any) -> jax.Array:
            terms = [
                jnp.mean(getattr(cases[name], which)(value, *param))
                for name, param, value in zip(FIVE, params, values, strict=True)
            ]
            return -sum(terms[1:], terms[0])

        return total

    losses = {"bare": loss("hand"), "likelax": loss("likelax")}
    if with_numpyro:
        losses["numpyro"] = loss("numpyro")
    return losses, (params, values)


def _model(table: Table, rounds: int, with_numpyro: bool) -> None:
    losses, arguments = _losses(with_numpyro)

    def fresh(loss: Callable[..., Any]) -> Any:
        # A new function object: jit knows nothing about it.
        return jax.jit(jax.value_and_grad(lambda params, values: loss(params, values)))

    def trace(loss: Callable[..., Any]) -> None:
        fresh(loss).trace(*arguments)

    seconds = interleaved({name: partial(trace, loss) for name, loss in losses.items()}, rounds)
    _compare(table, "trace the model", seconds, "1.5", scale=1e3, unit="ms")

    # Traced and lowered beforehand, so that only the compiler is timed.
    def compile_next(lowered: Iterator[Any]) -> None:
        next(lowered).compile()

    waiting = {
        name: iter([fresh(loss).lower(*arguments) for _ in range(rounds + 1)])
        for name, loss in losses.items()
    }
    jax.config.update("jax_enable_compilation_cache", False)
    seconds = interleaved({name: partial(compile_next, w) for name, w in waiting.items()}, rounds)
    _compare(table, "compile the model", seconds, "", scale=1e3, unit="ms")

    times = 20
    steps = {name: partial(fresh(loss), *arguments) for name, loss in losses.items()}
    seconds = interleaved({name: many(step, times) for name, step in steps.items()}, 10 * rounds)
    _compare(table, "run the compiled model", seconds, "", scale=1e6 / times, unit="us")


def _compare(
    table: Table, what: str, seconds: dict[str, list[float]], goal: str, *, scale: float, unit: str
) -> None:
    bare, ours = (f"{scale * median(seconds, name):.1f} {unit}" for name in ("bare", "likelax"))
    ratios = [
        f"{ratio(seconds, name, 'bare'):.2f}" if name in seconds else ""
        for name in ("likelax", "numpyro")
    ]
    table.add(what, bare, ours, ratios[0], goal, ratios[1])
