"""A small training loop, for those who want one, and averages of what it trains."""

from likelax.train.averages import (
    Ema,
    PowerEma,
    Snapshot,
    averaged,
    averages,
    reconstructed,
    snapshots,
)
from likelax.train.loop import FitResult, History, TrainState, fit, init, step

__all__ = [
    "Ema",
    "FitResult",
    "History",
    "PowerEma",
    "Snapshot",
    "TrainState",
    "averaged",
    "averages",
    "fit",
    "init",
    "reconstructed",
    "snapshots",
    "step",
]
