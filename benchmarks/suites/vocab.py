"""The vocabulary head: loss and gradients against whole logits, in time and in memory."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _table import Table
from _timing import importable, interleaved, median, ratio

import likelax as lx

# (tokens, features, vocabulary); the last is only compiled: its whole logits fit few machines.
SIZES = {"float32": (4096, 512, 50257), "bfloat16": (4096, 512, 50257)}
LARGE = (16384, 256, 131072)
# At most these shares of the whole logits' time and memory, at the sizes above.
GOALS = {"training loss": (0.95, 0.13), "per token": (1.1, 0.05)}


def naive(hidden: Any, kernel: Any, token: Any) -> Any:
    """Per-token log-probabilities from logits that are all there."""
    logits = jnp.dot(hidden, kernel, preferred_element_type=jnp.float32)
    return -optax.softmax_cross_entropy_with_integer_labels(logits, token)


def tiled(hidden: Any, kernel: Any, token: Any) -> Any:
    """The same from likelax."""
    return lx.LinearCategorical(hidden, kernel).log_prob(token)


def naive_loss(hidden: Any, kernel: Any, token: Any) -> Any:
    """The mean negative log-likelihood."""
    return -jnp.mean(naive(hidden, kernel, token))


def swept_loss(hidden: Any, kernel: Any, token: Any) -> Any:
    """The same from likelax, as its objectives have it."""
    weight = jnp.full(token.shape, 1 / token.size)
    return -lx.LinearCategorical(hidden, kernel).weighted_log_prob(token, weight)[0]


def tokamax_loss(hidden: Any, kernel: Any, token: Any) -> Any:
    """The same from tokamax."""
    import tokamax

    return tokamax.linear_softmax_cross_entropy_loss(hidden, token, kernel, reduction="mean")


def loss(function: Callable[..., Any]) -> Callable[..., Any]:
    """A loss and its gradients."""

    def slopes(hidden: Any, kernel: Any, token: Any, _: Any) -> Any:
        return jax.value_and_grad(function, (0, 1))(hidden, kernel, token)

    return slopes


def per_token(log_prob: Callable[..., Any]) -> Callable[..., Any]:
    """Log-probabilities, and gradients under a cotangent for each token."""

    def pulled(hidden: Any, kernel: Any, token: Any, weight: Any) -> Any:
        out, back = jax.vjp(lambda h, k: log_prob(h, k, token), hidden, kernel)
        return out, back(weight)

    return pulled


def contenders() -> dict[str, dict[str, Callable[..., Any]]]:
    """By path; the first is what the others are compared with."""
    losses = {"naive": loss(naive_loss), "likelax": loss(swept_loss)}
    if importable("tokamax"):
        # Its flags are absl's, which would read this program's command line.
        importlib.import_module("absl.flags").FLAGS(["vocab"])
        losses["tokamax"] = loss(tokamax_loss)
    return {
        "training loss": losses,
        "per token": {"naive": per_token(naive), "likelax": per_token(tiled)},
    }


def run(quick: bool) -> Table:
    """Time both paths in both dtypes, and read the compiled programs' temporary bytes."""
    rounds = 2 if quick else 7
    table = Table(
        title="vocab: the vocabulary head, value and gradients by hidden states and kernel",
        method=(
            "Logits = hidden @ kernel with float32 accumulation. Naive: whole logits and "
            "optax.softmax_cross_entropy_with_integer_labels. The training loss of likelax is "
            "`weighted_log_prob`, the path per token `log_prob`. Times are medians of "
            f"{rounds} interleaved rounds, ratios within a round; temporary bytes are those of the "
            "compiled executable, outputs and arguments not counted."
        ),
        columns=[
            "path",
            "tokens, features, vocabulary",
            "dtype",
            "whose",
            "naive, ms",
            "time / naive",
            "naive, MB",
            "MB",
            "memory / naive",
        ],
    )
    for dtype, size in SIZES.items():
        size = tuple(s // 16 for s in size) if quick else size
        arguments = _arguments(size, dtype)
        for path, makers in contenders().items():
            programs = _compiled(makers, arguments)
            for name in programs:
                _agree(*(programs[n](*arguments) for n in (name, "naive")), dtype)
            calls = {name: functools.partial(p, *arguments) for name, p in programs.items()}
            seconds = interleaved(calls, rounds)
            for name in list(programs)[1:]:
                time, memory = ratio(seconds, name, "naive"), _memory(programs, name)
                table.add(
                    path,
                    ", ".join(map(str, size)),
                    dtype,
                    name,
                    f"{1e3 * median(seconds, 'naive'):.0f}",
                    f"{time:.2f}",
                    *memory,
                )
                if name == "likelax" and not quick:
                    table.notes.append(_verdict(path, dtype, time, float(memory[-1])))
    for path, makers in contenders().items():
        size = tuple(s // 16 for s in LARGE) if quick else LARGE
        shapes = [
            jax.ShapeDtypeStruct(a.shape, a.dtype) for a in _arguments(size, "float32", empty=True)
        ]
        programs = _compiled(makers, shapes)
        for name in list(programs)[1:]:
            table.add(
                path,
                ", ".join(map(str, size)),
                "float32",
                name,
                "-",
                "-",
                *_memory(programs, name),
            )
    table.notes.append("- Rows without a time are compiled and not run.")
    return table


def _compiled(makers: dict[str, Callable[..., Any]], arguments: Any) -> dict[str, Any]:
    return {name: jax.jit(f).lower(*arguments).compile() for name, f in makers.items()}


def _verdict(path: str, dtype: str, time: float, memory: float) -> str:
    """How a row stands to its goals."""
    parts = [
        f"{what} {got:.{digits}f}, {'met' if got <= goal else 'MISSED'} (goal {goal})"
        for what, got, goal, digits in zip(
            ("time", "memory"), (time, memory), GOALS[path], (2, 3), strict=True
        )
    ]
    return f"- {path}, {dtype}: {'; '.join(parts)}."


def _arguments(size: tuple[int, ...], dtype: str, *, empty: bool = False) -> tuple[Any, ...]:
    tokens, features, columns = size
    if empty:
        return (
            np.empty((tokens, features), np.float32),
            np.empty((features, columns), np.float32),
            np.empty(tokens, np.int32),
            np.empty(tokens, np.float32),
        )
    rng = np.random.default_rng(0)
    return (
        jnp.asarray(rng.normal(size=(tokens, features)), dtype),
        jnp.asarray(rng.normal(size=(features, columns)) / np.sqrt(features), dtype),
        jnp.asarray(rng.integers(0, columns, tokens), jnp.int32),
        jnp.asarray(rng.normal(size=tokens), jnp.float32),
    )


def _agree(ours: Any, theirs: Any, dtype: str) -> None:
    tolerance = 1e-5 if dtype == "float32" else 2e-2
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if not np.max(np.abs(a - b)) <= tolerance * np.max(np.abs(b)):
            raise AssertionError("likelax and the whole logits differ")


def _memory(programs: dict[str, Any], name: str) -> list[str]:
    used = {n: p.memory_analysis().temp_size_in_bytes / 1e6 for n, p in programs.items()}
    return [f"{used['naive']:.0f}", f"{used[name]:.0f}", f"{used[name] / used['naive']:.3f}"]
