"""Figures of predictive distributions, on matplotlib (extra `plot`)."""

from likelax.plotting.figures import (
    Figure,
    count_frequencies,
    density_map,
    image_rows,
    panels,
    predictive_bands,
    save,
)

__all__ = [
    "Figure",
    "count_frequencies",
    "density_map",
    "image_rows",
    "panels",
    "predictive_bands",
    "save",
]
