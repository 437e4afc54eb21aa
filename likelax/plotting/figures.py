"""Predictive bands, counts against fitted frequencies, and the paper they are drawn on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from likelax._extras import require

Figure = Any  # matplotlib.figure.Figure, which is imported only where something is drawn

# Okabe and Ito's colours, which can be told apart with any kind of colour vision.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def panels(count: int, *, width: float = 5.0, height: float = 4.0) -> tuple[Figure, list[Any]]:
    """A figure of `count` panels side by side that share their y axis: `(figure, axes)`.

    It belongs to no window system and needs no closing.
    """
    figure = require("matplotlib.figure", "plot").Figure(
        figsize=(width * count + 0.5, height), layout="constrained"
    )
    axes = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def save(figure: Figure, path: Path) -> None:
    """Writes the figure as a PNG file."""
    figure.savefig(path, dpi=110)


def predictive_bands(
    axis: Any, x: np.ndarray, quantiles: np.ndarray, levels: Sequence[float]
) -> None:
    """Shades between opposite quantiles of a predictive distribution and draws the middle one.

    Args:
      axis: a matplotlib axis.
      x: the input, `(points,)`.
      quantiles: `(levels, points)`.
      levels: increasing and symmetric about 0.5, which is among them.

    Raises:
      ValueError: when the levels are not symmetric.
    """
    levels = list(levels)
    if not np.allclose(levels, 1 - np.array(levels[::-1])) or len(levels) % 2 == 0:
        raise ValueError(f"levels symmetric about 0.5 and with it wanted, got {levels}")
    middle = len(levels) // 2
    for i in range(middle):
        share = levels[-1 - i] - levels[i]
        axis.fill_between(
            x,
            quantiles[i],
            quantiles[-1 - i],
            color=_COLOURS[0],
            alpha=0.18 + 0.15 * i,
            linewidth=0,
            label=f"{share:.0%} interval",
        )
    axis.plot(x, quantiles[middle], color=_COLOURS[0], label="median")


def count_frequencies(
    axis: Any, counts: np.ndarray, observed: np.ndarray, fitted: Mapping[str, np.ndarray]
) -> None:
    """Bars of the observed shares of each count and a line for each model's.

    Args:
      axis: a matplotlib axis.
      counts: `(counts,)`.
      observed: the share of each, `(counts,)`.
      fitted: each model's mean probability of each count, `(counts,)`, by name.
    """
    axis.bar(counts, observed, color="0.85", label="observed", width=0.8)
    markers = "os^Dvx"
    for i, (name, shares) in enumerate(fitted.items()):
        colour, marker = _COLOURS[i % len(_COLOURS)], markers[i % len(markers)]
        axis.plot(counts, shares, marker=marker, markersize=4, color=colour, label=name)
    axis.legend()


def image_rows(images: Mapping[str, np.ndarray], high: float, *, low: float = 0.0) -> Figure:
    """A figure of rows of images, each with its name.

    Args:
      images: `(count, height, width)` each, the same count everywhere, by name.
      high, low: the values that are drawn black and white.
    """
    count = len(next(iter(images.values())))
    figure = require("matplotlib.figure", "plot").Figure(
        figsize=(0.7 * count + 1.3, 0.75 * len(images)), layout="constrained"
    )
    axes = figure.subplots(len(images), count, squeeze=False)
    for row, (name, pictures) in zip(axes, images.items(), strict=True):
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture, cmap="gray_r", vmin=low, vmax=high)
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def density_map(axis: Any, x: np.ndarray, y: np.ndarray, density: np.ndarray) -> None:
    """Shades the plane by a density, white where it is 0.

    Args:
      axis: a matplotlib axis.
      x, y: the grid, `(columns,)` and `(rows,)`.
      density: at its points, `(rows, columns)`.
    """
    extent = (x[0], x[-1], y[0], y[-1])
    axis.imshow(density, origin="lower", extent=extent, cmap="Blues", vmin=0, aspect="auto")
