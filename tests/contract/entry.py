"""What one row group of the accuracy contract is: arguments, how they are drawn, and the truth."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mpmath as mp
import numpy as np

# Digits of the references. Arguments reach 1e±30 and are squared, and lgammas at 1e20 cancel: what is
# left of 150 digits after that, and after differencing by a third of them, is far more than float64 holds.
DIGITS = 150

Draw = Callable[[np.random.Generator, int], Sequence[Any]]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One way to call one family, over one grid.

    Attributes:
      name: of its table; the family's first, `Gamma`, `Gamma(log_rate)`, `Gamma tails`.
      make: the distribution of the parameters, as a user writes it; for `kl_divergence` a pair.
      draw: `(generator, n)` to the columns, `n` rows each, `(n,)` or `(n, k)`: the value, where methods
        take one, then the parameters. They are rounded to float32 afterwards.
      exact: method name to its value in mpmath. Takes the columns' entries (mpf, or lists of them);
        outside of the support it returns -inf.
      lengths: the columns, in float64, to their natural lengths: the distance over which the answer
        changes, such as the scale for a location. Gradients are judged by their inverse.
      edges: rows added to those drawn: ends of supports, ties, parameters at their limits.
      value: whether the first column is a value.
      slopes: which columns are differentiated. None for all but the counts.
      digits: of the references, where `DIGITS` is more than the function bears.
    """

    name: str
    make: Callable[..., Any]
    draw: Draw
    exact: Mapping[str, Callable[..., Any]]
    lengths: Callable[..., Sequence[Any]]
    edges: Sequence[Sequence[Any]] = ()
    value: bool = True
    slopes: Sequence[int] | None = None
    digits: int = DIGITS

    def columns(self, generator: np.random.Generator, n: int) -> list[np.ndarray]:
        """The edges, then what was drawn, in float32; below the normal numbers XLA has only zero."""
        columns = [np.asarray(c, np.float64) for c in self.draw(generator, n - len(self.edges))]
        if self.edges:
            edges = zip(*self.edges, strict=True)
            columns = [np.concatenate([e, c]) for e, c in zip(edges, columns, strict=True)]
        columns = [c.astype(np.float32) for c in columns]
        return [np.where(np.abs(c) < np.finfo(np.float32).tiny, np.float32(0), c) for c in columns]

    def argnums(self, columns: Sequence[np.ndarray]) -> tuple[int, ...]:
        """The columns that are differentiated."""
        return tuple(range(len(columns)) if self.slopes is None else self.slopes)

    def truth(self, columns: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """`method` and `method/column` to exact values and slopes in float64, of float32 columns.

        A slope is NaN where it is not asked: in what is infinite, and in the value outside the support.
        """
        lengths = [
            np.broadcast_to(u, c.shape)
            for u, c in zip(self._lengths(columns), columns, strict=True)
        ]
        out: dict[str, list[Any]] = {}
        with mp.workdps(self.digits):
            for row in range(len(columns[0])):
                point = [_exact(c[row]) for c in columns]
                for method, f in self.exact.items():
                    value = mp.mpf(f(*point))
                    out.setdefault(method, []).append(float(value))
                    for i in self.argnums(columns):
                        slope = _slope(f, point, i, lengths[i][row], value, self.value and i == 0)
                        out.setdefault(f"{method}/{i}", []).append(slope)
        return {key: np.array(values) for key, values in out.items()}

    def _lengths(self, columns: Sequence[np.ndarray]) -> Sequence[Any]:
        return self.lengths(*(np.asarray(c, np.float64) for c in columns))


def _exact(entry: Any) -> Any:
    return [mp.mpf(float(e)) for e in entry] if np.ndim(entry) else mp.mpf(float(entry))


def _slope(f: Any, point: list[Any], i: int, length: Any, value: Any, of_value: bool) -> Any:
    """df/d(argument i), by differences so small that nothing of float64 is lost; one-sided at edges."""
    if isinstance(point[i], list):
        return [_partial(f, point, i, k, h, value, of_value) for k, h in enumerate(length)]
    return _partial(f, point, i, None, length, value, of_value)


def _partial(
    f: Any, point: list[Any], i: int, k: int | None, length: Any, value: Any, of_value: bool
) -> float:
    if value == mp.inf or (value == -mp.inf and of_value):
        return np.nan
    if value == -mp.inf:
        return 0.0
    step = mp.mpf(float(length)) * mp.mpf(10) ** -(mp.mp.dps // 3)

    def at(sign: int) -> Any:
        if k is None:
            moved = point[i] + sign * step
        else:
            moved = [v + sign * step if j == k else v for j, v in enumerate(point[i])]
        try:
            return f(*point[:i], moved, *point[i + 1 :])
        except (ZeroDivisionError, ValueError):  # beyond a parameter's own end
            return mp.nan

    up, down = at(1), at(-1)
    usable = [mp.isfinite(side) and mp.im(side) == 0 for side in (up, down)]
    if all(usable):
        above, below = (up - value) / step, (value - down) / step
        if abs(above - below) * mp.mpf(float(length)) < mp.mpf(10) ** -8:
            return float((up - down) / (2 * step))
        return np.nan  # a kink, as where a tail begins
    if any(usable):
        return float((up - value) / step if usable[0] else (value - down) / step)
    return np.nan


# ---- ways to draw ----


def powers(generator: np.random.Generator, n: int, low: float, high: float) -> np.ndarray:
    """Positive numbers, uniform in the logarithm, between 10^low and 10^high."""
    return 10.0 ** generator.uniform(low, high, n)


def signed(generator: np.random.Generator, n: int, low: float, high: float) -> np.ndarray:
    """`powers` of either sign."""
    return generator.choice([-1.0, 1.0], n) * powers(generator, n, low, high)
