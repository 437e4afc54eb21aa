"""Stable mathematics, written once: log-space, normal, gamma and Bessel functions on plain arrays.

Import the room you need, for example `from likelax.numerics.logspace import log1mexp`. Every
function works element by element with broadcasting, computes in float32 or wider, and is
differentiable twice or more.
"""
