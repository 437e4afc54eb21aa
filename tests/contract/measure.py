"""How far from the truth a library is, in the contract's own units."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from contract.entry import Entry

TABLES = Path(__file__).parent / "tables"
VALUE, SLOPE = 8.0, 32.0  # eps, 99th percentile
SUMMARIES = {"entropy", "mean", "mode", "variance"}


@dataclasses.dataclass(frozen=True)
class Row:
    """One number of one method over one grid: the value, or the slope in one column.

    Attributes:
      entry: the entry's name.
      quantity: `log_prob`, or `log_prob/1` for its slope in column 1.
      errors: in eps of max(1, |value|), or of max(|slope|, 1 / natural length); infinite for a mistake.
      mistakes: NaN, infinities and missed supports that the exact value does not have.
    """

    entry: str
    quantity: str
    errors: np.ndarray
    mistakes: int

    @property
    def bound(self) -> float:
        return SLOPE if "/" in self.quantity else VALUE

    @property
    def percentile(self) -> float:
        """The 99th: one in a hundred errors may be larger."""
        return float(np.sort(self.errors)[-1 - len(self.errors) // 100])

    @property
    def worst(self) -> float:
        return float(self.errors.max())

    @property
    def broken(self) -> bool:
        return self.percentile > self.bound or self.mistakes > 0


def load(name: str) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """The stored columns and exact values of an entry."""
    with np.load(TABLES / f"{name}.npz") as stored:
        columns = [stored[key] for key in sorted(stored) if key.startswith("column")]
        return columns, {key: stored[key] for key in stored if not key.startswith("column")}


def of_distribution(entry: Entry, method: str) -> Callable[..., Any]:
    """The function of all columns that calls likelax."""
    if method == "kl_divergence":
        return lambda *columns: (lambda p, q: p.kl_divergence(q))(*entry.make(*columns))
    if method in SUMMARIES:
        return lambda *columns: getattr(entry.make(*columns), method)()

    def call(value, *params):
        distribution = entry.make(*params)
        # Labels are whole numbers, never floats.
        value = value.astype(jnp.int32) if distribution._takes_indices else value
        return getattr(distribution, method)(value)

    return call


@functools.cache
def _options(dtype: np.dtype) -> dict[str, Any]:
    """Float32 in the loops that users' programs have, where the suite asks XLA for others.

    In float64 those of the suite do: rounding is the same in both, and they compile in half the time.
    """
    if dtype == np.float64:
        return {}
    options = {"xla_cpu_use_fusion_emitters": True}
    try:
        jax.jit(lambda x: x, compiler_options=options)(0.0)
    except Exception:  # a version or a device that has one way only
        return {}
    return options


def evaluate(
    functions: dict[str, Callable[..., Any]], argnums: Sequence[int], columns: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """`method` and `method/column` to values and slopes in the columns' dtype: one program."""

    def everything(*row):
        out = {}
        for method, f in functions.items():
            out[method], slopes = jax.value_and_grad(f, tuple(argnums))(*row)
            out |= {f"{method}/{i}": slope for i, slope in zip(argnums, slopes, strict=True)}
        return out

    program = jax.jit(jax.vmap(everything), compiler_options=_options(columns[0].dtype))
    return jax.tree.map(np.asarray, program(*map(jnp.asarray, columns)))


def rows(
    entry: Entry,
    columns: Sequence[np.ndarray],
    truth: dict[str, np.ndarray],
    got: dict[str, np.ndarray],
) -> list[Row]:
    """Each quantity that was computed against the truth, in eps of what it was computed in."""
    lengths = entry._lengths(columns)
    return [_row(entry.name, key, got[key], truth[key], lengths) for key in got]


def _row(
    name: str, quantity: str, got: np.ndarray, want: np.ndarray, lengths: Sequence[Any]
) -> Row:
    info = np.finfo(got.dtype)
    if "/" in quantity:
        unit = 1.0 / np.broadcast_to(lengths[int(quantity.split("/")[1])], want.shape)
    else:
        unit = np.ones(want.shape)
    asked = ~np.isnan(want)
    with np.errstate(invalid="ignore", over="ignore"):
        # Beyond the largest float an infinity is right; below the smallest, zero is.
        held = np.where(np.abs(want) > float(info.max), np.sign(want) * np.inf, want)
        same = got.astype(np.float64) == held
        scale = float(info.eps) * np.maximum(
            np.maximum(np.abs(want), unit), float(info.tiny / info.eps)
        )
        errors = np.where(same, 0.0, np.abs(got.astype(np.float64) - want) / scale)
    near_the_end = np.abs(want) > float(info.max) * (1 - 64 * float(info.eps))
    finite = np.isfinite(held)
    mistaken = asked & ~near_the_end & np.where(finite, ~np.isfinite(got), ~same)
    errors = np.where(asked & ~mistaken & ~np.isnan(errors) & ~np.isinf(want), errors, 0.0)
    return Row(name, quantity, np.where(mistaken, np.inf, errors).ravel(), int(mistaken.sum()))
