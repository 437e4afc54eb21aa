"""A small training loop, for those who want one."""

from likelax.train.loop import FitResult, History, TrainState, fit, init, step

__all__ = ["FitResult", "History", "TrainState", "fit", "init", "step"]
