"""Maps that add something to the identity: planar, radial, and contractive residuals."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp

from likelax import supports
from likelax._pytree import Array, node, param, static
from likelax.bijectors._root import implicit_inverse, jacobian
from likelax.bijectors.conditioner import Conditioner, _dense
from likelax.bijectors.mixing import _OfVectors
from likelax.numerics.logspace import softplus, tanh_log_det


class Planar(_OfVectors):
    """y = x + u tanh(w.x + b) (Rezende and Mohamed 2015, eq. 10, and appendix A.1 for what keeps it
    invertible), log-determinant log(1 + u.w (1 - tanh^2)).

    The inverse finds w.x, the root of one increasing function.

    Args:
      weight: w, `(*batch, D)`.
      direction: what u is made from, `(*batch, D)`: u = direction + (softplus(w.direction) - 1 -
        w.direction) w / |w|^2, so that w.u > -1; the shift `direction` alone where w = 0.
      bias: b, `(*batch,)`.
    """

    weight: Array = param(supports.real, shape=("event",))
    direction: Array = param(supports.real, shape=("event",))
    bias: Array = param(supports.real)

    @property
    def _length(self) -> int:
        return self.weight.shape[-1]

    def _u(self) -> tuple[Array, Array]:
        """u, and 1 + w.u, which is positive."""
        w, raw = self.weight, self.direction
        given, square = jnp.sum(w * raw, -1), jnp.sum(w**2, -1)
        slope = softplus(given)
        factor = jnp.where(square > 0, (slope - 1 - given) / jnp.where(square > 0, square, 1), 0)
        return raw + factor[..., None] * w, jnp.where(square > 0, slope, 1)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        u, slope = self._u()
        inner = jnp.sum(self.weight * x, axis=-1) + self.bias
        return x + u * jnp.tanh(inner)[..., None], jnp.log(_steepness(inner, slope))

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        u, slope = self._u()
        total = jnp.sum(self.weight * y, axis=-1) + self.bias
        inner = _tanh_root(total, jnp.broadcast_to(slope, total.shape))
        return y - u * jnp.tanh(inner)[..., None], -jnp.log(_steepness(inner, slope))


def _steepness(inner: Array, slope: Array) -> Array:
    """1 + (slope - 1) (1 - tanh(inner)^2), a sum of two that are positive: 1e-9 - 1 would be -1."""
    return slope * jnp.exp(tanh_log_det(inner)) + jnp.tanh(inner) ** 2


@jax.custom_jvp
def _tanh_root(total: Array, slope: Array) -> Array:
    """a with a + (slope - 1) tanh(a) = total, for slope > 0, element by element: by halving."""
    factor = slope - 1

    def halve(_: Any, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        under = middle + factor * jnp.tanh(middle) < total
        return jnp.where(under, middle, low), jnp.where(under, high, middle)

    reach = jnp.abs(factor)
    steps = 30 if total.dtype == jnp.float32 else 60
    low, high = jax.lax.fori_loop(0, steps, halve, (total - reach, total + reach))
    return 0.5 * (low + high)


@_tanh_root.defjvp
def _tanh_root_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    root = _tanh_root(*primals)
    return root, (tangents[0] - jnp.tanh(root) * tangents[1]) / _steepness(root, primals[1])


class Radial(_OfVectors):
    """y = x + b (x - c) / (a + r), r = |x - c| (Rezende and Mohamed 2015, eq. 14), log-determinant (D - 1)
    log(1 + b / (a + r)) + log(1 + a b / (a + r)^2).

    Args:
      center: c, `(*batch, D)`.
      log_scale: log a, `(*batch,)`.
      strength: b = a (exp(strength) - 1) > -a, `(*batch,)`; 0 is the identity.
    """

    center: Array = param(supports.real, shape=("event",))
    log_scale: Array = param(supports.log_positive)
    strength: Array = param(supports.real)

    @property
    def _length(self) -> int:
        return self.center.shape[-1]

    def _along(self, r: Array) -> tuple[Array, Array]:
        """The ratio of |y - c| to r, and the log-determinant."""
        # As sums of what is positive: 1 + b / (a + r) would lose the digits of a small ratio.
        a, middle = jnp.exp(self.log_scale), jnp.exp(self.strength)
        share, rest = a / (a + r), r / (a + r)
        ratio, slope = rest + share * middle, rest * (1 + share) + share**2 * middle
        return ratio, (self._length - 1) * jnp.log(ratio) + jnp.log(slope)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        ratio, log_det = self._along(_norm(x - self.center))
        return self.center + ratio[..., None] * (x - self.center), log_det

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        # r^2 + (a + b - s) r - a s = 0 for s = |y - c|.
        s, a = _norm(y - self.center), jnp.exp(self.log_scale)
        half = 0.5 * (a * jnp.exp(self.strength) - s)
        root = jnp.sqrt(half**2 + a * s)
        r = jnp.where(half > 0, a * s / jnp.where(half > 0, half + root, 1), root - half)
        ratio, log_det = self._along(r)
        return self.center + (y - self.center) / ratio[..., None], -log_det


def _norm(x: Array) -> Array:
    """|x|, with slope 0 at 0."""
    square = jnp.sum(x**2, axis=-1)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


class Residual(_OfVectors):
    """y = x + g(x) with a contraction g, whose Lipschitz constant is below 1 (Behrmann et al. 2019): every
    matrix of g is divided by its largest singular value where that is above `bound`^(1 / layers).

    The log-determinant is exact, from the Jacobian, D passes: for vectors of some tens of entries.
    The inverse iterates x = y - g(x), each time closer by the factor `bound` at least.

    Args:
      residual: g, as `Residual.init(key, D)` makes it, or any contraction of yours.
      length: D.
      bound: of the Lipschitz constant, below 1: how long the inverse takes.
    """

    residual: Conditioner = node()
    length: int = static()
    bound: float = static(default=0.9)

    def _check(self) -> None:
        if not 0 < self.bound < 1:
            raise ValueError(f"Residual: bound is in (0, 1), got {self.bound}")
        self.batch_shape  # noqa: B018  (raises when the batch shapes do not broadcast)

    @staticmethod
    def init(
        key: Array, features: int, *, hidden: tuple[int, ...] = (32, 32), bound: float = 0.9
    ) -> Residual:
        """With a perceptron of these hidden widths."""
        network = _Contraction(features, hidden, bound)
        return Residual(Conditioner(network, network.init(key)), features, bound)

    @property
    def _length(self) -> int:
        return self.length

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        lead = jnp.broadcast_shapes(x.shape[:-1], self.batch_shape)
        x = jnp.broadcast_to(x, lead + x.shape[-1:])
        map_ = lambda x: x + self.residual(x)  # noqa: E731
        return map_(x), jnp.linalg.slogdet(jacobian(map_, x))[1]

    def forward(self, x: Array) -> Array:
        return x + self.residual(x)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        x = implicit_inverse(self, y)
        return x, -self.forward_and_log_det(x)[1]

    def _solve(self, y: Array) -> Array:
        # As many steps as take an error of 1e6 to the last digit.
        eps = float(jnp.finfo(y.dtype).eps)
        most = max(1000, math.ceil(math.log(1e-6 * eps) / math.log(self.bound)))

        def unfinished(state: tuple[Array, Array, Array]) -> Array:
            count, x, before = state
            near = 2 * eps * jnp.maximum(1, jnp.abs(x))
            return (count < most) & jnp.any(jnp.abs(x - before) > near)

        def closer(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            count, x, _ = state
            return count + 1, y - self.residual(x), x

        start = jnp.int32(0), y - self.residual(y), y
        return jax.lax.while_loop(unfinished, closer, start)[1]


@dataclasses.dataclass(frozen=True)
class _Contraction:
    """A perceptron of tanh layers with a bounded Lipschitz constant."""

    features: int
    hidden: tuple[int, ...]
    bound: float

    def init(self, key: Array) -> list[dict[str, Array]]:
        sizes = (self.features, *self.hidden, self.features)
        keys = jax.random.split(key, len(sizes))
        pairs = itertools.pairwise(sizes)
        return [_dense(k, *pair) for k, pair in zip(keys, pairs, strict=False)]

    def __call__(self, params: Any, x: Array) -> Array:
        limit = self.bound ** (1 / len(params))
        for at, layer in enumerate(params):
            kernel = layer["kernel"]
            norm = jnp.linalg.norm(kernel, 2)
            kernel = kernel * jnp.where(norm > limit, limit / jnp.maximum(norm, limit), 1)
            x = (jnp.tanh(x) if at else x) @ kernel + layer["bias"]
        return x
