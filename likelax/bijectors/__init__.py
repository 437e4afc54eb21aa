"""Invertible maps, each with its log-determinant: `Bijector` is the manual for adding one.

`Transformed(base, bijector)` makes distributions with them, and `constrain(support)` is the map
from real numbers onto a support.
"""

from likelax.bijectors.base import Bijector
from likelax.bijectors.compose import Chain, Invert
from likelax.bijectors.constrain import (
    Above,
    Between,
    CholeskyProduct,
    LowerCholesky,
    Ordered,
    SimplexFromLogits,
    constrain,
)
from likelax.bijectors.elementwise import (
    Affine,
    Exp,
    Identity,
    Power,
    Sigmoid,
    SoftLimit,
    Softplus,
    Tanh,
)
from likelax.bijectors.linear import TriangularAffine

__all__ = [
    "Above",
    "Affine",
    "Between",
    "Bijector",
    "Chain",
    "CholeskyProduct",
    "Exp",
    "Identity",
    "Invert",
    "LowerCholesky",
    "Ordered",
    "Power",
    "Sigmoid",
    "SimplexFromLogits",
    "SoftLimit",
    "Softplus",
    "Tanh",
    "TriangularAffine",
    "constrain",
]
