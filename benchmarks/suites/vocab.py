"""The vocabulary head: loss and gradients against whole logits, in time and in memory."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _table import Table
from _timing import interleaved, median, ratio

import likelax as lx

# (tokens, features, vocabulary); the last is only compiled: its whole logits fit few machines.
SIZES = {"float32": (4096, 512, 50257), "bfloat16": (4096, 512, 50257)}
LARGE = (16384, 256, 131072)


def naive(hidden: Any, kernel: Any, token: Any) -> Any:
    """Per-token log-probabilities from logits that are all there."""
    logits = jnp.dot(hidden, kernel, preferred_element_type=jnp.float32)
    return -optax.softmax_cross_entropy_with_integer_labels(logits, token)


def tiled(hidden: Any, kernel: Any, token: Any) -> Any:
    """The same from likelax."""
    return lx.LinearCategorical(hidden, kernel).log_prob(token)


def loss(log_prob: Callable[..., Any]) -> Callable[..., Any]:
    """The mean negative log-likelihood and its gradients."""

    def mean(hidden: Any, kernel: Any, token: Any, _: Any) -> Any:
        return -jnp.mean(log_prob(hidden, kernel, token))

    return jax.value_and_grad(mean, (0, 1))


def per_token(log_prob: Callable[..., Any]) -> Callable[..., Any]:
    """Log-probabilities, and gradients under a cotangent for each token."""

    def pulled(hidden: Any, kernel: Any, token: Any, weight: Any) -> Any:
        out, back = jax.vjp(lambda h, k: log_prob(h, k, token), hidden, kernel)
        return out, back(weight)

    return pulled


PATHS = {"training loss": loss, "per token": per_token}


def run(quick: bool) -> Table:
    """Time both paths in both dtypes, and read the compiled programs' temporary bytes."""
    rounds = 2 if quick else 5
    table = Table(
        title="vocab: the vocabulary head, value and gradients by hidden states and kernel",
        method=(
            "Logits = hidden @ kernel with float32 accumulation. Naive: whole logits and "
            "optax.softmax_cross_entropy_with_integer_labels. Times are medians of "
            f"{rounds} interleaved rounds, ratios within a round; temporary bytes are those of the "
            "compiled executable, outputs and arguments not counted."
        ),
        columns=[
            "path",
            "tokens, features, vocabulary",
            "dtype",
            "naive, ms",
            "likelax / naive",
            "naive, MB",
            "likelax, MB",
            "likelax / naive, memory",
        ],
    )
    for dtype, size in SIZES.items():
        size = tuple(s // 16 for s in size) if quick else size
        arguments = _arguments(size, dtype)
        for path, make in PATHS.items():
            programs = {
                name: jax.jit(make(function)).lower(*arguments).compile()
                for name, function in {"naive": naive, "likelax": tiled}.items()
            }
            _agree(*(programs[n](*arguments) for n in ("likelax", "naive")), dtype)
            calls = {name: functools.partial(p, *arguments) for name, p in programs.items()}
            seconds = interleaved(calls, rounds)
            table.add(
                path,
                ", ".join(map(str, size)),
                dtype,
                f"{1e3 * median(seconds, 'naive'):.0f}",
                f"{ratio(seconds, 'likelax', 'naive'):.2f}",
                *_memory(programs),
            )
    for path, make in PATHS.items():
        size = tuple(s // 16 for s in LARGE) if quick else LARGE
        shapes = [
            jax.ShapeDtypeStruct(a.shape, a.dtype) for a in _arguments(size, "float32", empty=True)
        ]
        programs = {
            name: jax.jit(make(function)).lower(*shapes).compile()
            for name, function in {"naive": naive, "likelax": tiled}.items()
        }
        table.add(path, ", ".join(map(str, size)), "float32", "-", "-", *_memory(programs))
    table.notes.append("The last two rows are compiled and not run.")
    return table


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


def _memory(programs: dict[str, Any]) -> list[str]:
    used = {n: p.memory_analysis().temp_size_in_bytes / 1e6 for n, p in programs.items()}
    share = used["likelax"] / used["naive"]
    return [f"{used['naive']:.0f}", f"{used['likelax']:.0f}", f"{share:.3f}"]
