"""What the rooms of the gamma function's family share: derivative rules by partials, and counts of
terms.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero

from likelax.numerics.logspace import divide


def terms(x: Array, single: int, double: int) -> int:
    """How many terms x's dtype needs."""
    return single if x.dtype == jnp.float32 else double


class Over(NamedTuple):
    """A slope as a product over a divisor, which may be beyond the floats: a tangent or cotangent takes one
    after the other, so that what is 0 stays 0 where their quotient is infinite.
    """

    factors: tuple[Array, ...]
    divisor: Array

    def __mul__(self, tangent):
        for factor in self.factors:
            tangent = factor * tangent
        return -divide(-tangent, self.divisor)  # the signs are for XLA: see `divide`


def with_partials(*partials: Callable | None):
    """A derivative rule from one partial derivative per argument, an array or an `Over`; None means that it
    is zero.

    A partial is worked out only where its argument is differentiated, so that an infinite slope in
    `k` costs nothing to a caller who asks for the slope in `rate`. The function and its partials
    are traced once per shape, not once per use: `jit` keeps their traces.
    """
    partials = tuple(partial and jax.jit(partial) for partial in partials)

    def decorate(function: Callable) -> Callable:
        ruled = jax.custom_jvp(jax.jit(function))

        def rule(primals, tangents):
            out = ruled(*primals)
            total = jnp.zeros_like(out)
            for partial, tangent in zip(partials, tangents, strict=True):
                if partial is not None and not isinstance(tangent, SymbolicZero):
                    total = total + partial(*primals) * tangent
            return out, total

        ruled.defjvp(rule, symbolic_zeros=True)
        return functools.wraps(function)(ruled)

    return decorate
