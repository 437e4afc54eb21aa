"""Invertible maps, each with its log-determinant: `Bijector` is the manual for adding one.

`Transformed(base, bijector)` makes distributions with them, and `constrain(support)` is the map
from real numbers onto a support.
"""

from likelax.bijectors.autoregressive import BlockAutoregressive, MaskedAutoregressive
from likelax.bijectors.base import Bijector
from likelax.bijectors.compose import Chain, Invert
from likelax.bijectors.conditioner import MADE, MLP, Conditioner, ConvNet
from likelax.bijectors.constrain import (
    Above,
    Between,
    CholeskyProduct,
    LowerCholesky,
    Ordered,
    SimplexFromLogits,
    constrain,
)
from likelax.bijectors.coupling import Coupling, Split
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
from likelax.bijectors.mixing import PLU, ActNorm, BatchNorm, LowRankLinear, Permute, Squeeze
from likelax.bijectors.residual import Planar, Radial, Residual
from likelax.bijectors.scan import Scan
from likelax.bijectors.spline import RationalQuadraticSpline
from likelax.bijectors.transformer import AffineTransformer, SplineTransformer

__all__ = [
    "MADE",
    "MLP",
    "PLU",
    "Above",
    "ActNorm",
    "Affine",
    "AffineTransformer",
    "BatchNorm",
    "Between",
    "Bijector",
    "BlockAutoregressive",
    "Chain",
    "CholeskyProduct",
    "Conditioner",
    "ConvNet",
    "Coupling",
    "Exp",
    "Identity",
    "Invert",
    "LowRankLinear",
    "LowerCholesky",
    "MaskedAutoregressive",
    "Ordered",
    "Permute",
    "Planar",
    "Power",
    "Radial",
    "RationalQuadraticSpline",
    "Residual",
    "Scan",
    "Sigmoid",
    "SimplexFromLogits",
    "SoftLimit",
    "Softplus",
    "SplineTransformer",
    "Split",
    "Squeeze",
    "Tanh",
    "TriangularAffine",
    "constrain",
]
