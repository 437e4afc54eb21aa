"""Densities by change of variables, and whole numbers scored by them."""

from .dequantization import Dequantized as Dequantized
from .dequantization import dequantize as dequantize
from .dequantization import logit as logit

__all__ = ["Dequantized", "dequantize", "logit"]
