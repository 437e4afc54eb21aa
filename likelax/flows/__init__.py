"""Densities by change of variables, and whole numbers scored by them."""

from .continuous import ContinuousFlow as ContinuousFlow
from .dequantization import Dequantized as Dequantized
from .dequantization import dequantize as dequantize
from .dequantization import logit as logit

__all__ = ["ContinuousFlow", "Dequantized", "dequantize", "logit"]
