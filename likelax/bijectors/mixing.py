"""What stands between the layers of a flow: maps that mix coordinates or entries of a channel axis, and
maps that normalise them.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from likelax import supports
from likelax._pytree import Array, param, static
from likelax.bijectors.base import Bijector

_EXACT = jax.lax.Precision.HIGHEST
_solve = jnp.vectorize(
    lambda lower, x: jax.scipy.linalg.solve_triangular(lower, x, lower=True, unit_diagonal=True),
    signature="(d,d),(d)->(d)",
)
_solve_upper = jnp.vectorize(jax.scipy.linalg.solve_triangular, signature="(d,d),(d)->(d)")


class _OfVectors(Bijector):
    """A map of the last axis, of a fixed length."""

    domain = supports.real_vector
    codomain = supports.real_vector

    @property
    def _length(self) -> int:
        raise NotImplementedError

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape[-1:] != (self._length,):
            raise ValueError(
                f"{type(self).__name__} maps vectors of length {self._length}, got shape "
                f"{tuple(shape)}"
            )
        return tuple(shape)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.forward_shape(shape)


class Permute(_OfVectors):
    """y_i = x_{permutation[i]} along the last axis; log-determinant 0.

    Args:
      permutation: a tuple of 0..D-1 in another order; `range(D)[::-1]` turns them round.
    """

    is_affine = True
    permutation: tuple[int, ...] = static()

    def __init__(self, permutation: Any):
        super().__init__(check_permutation("Permute", permutation))

    @property
    def _length(self) -> int:
        return len(self.permutation)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        return x[..., np.array(self.permutation)], jnp.zeros((), x.dtype)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        return y[..., np.argsort(self.permutation)], jnp.zeros((), y.dtype)


def check_permutation(owner: str, permutation: Any) -> tuple[int, ...]:
    """As a tuple of Python's numbers; raises where it is none."""
    found = tuple(int(i) for i in permutation)
    if sorted(found) != list(range(len(found))):
        raise ValueError(f"{owner}: the numbers 0 to {len(found) - 1}, each once, got {found}")
    return found


class PLU(_OfVectors):
    """y = P L U x along the last axis: an invertible matrix by its factors (Kingma and Dhariwal 2018,
    section 3.2); over images it is their 1x1 convolution.

    P is a fixed permutation, L lower triangular with a diagonal of ones, U upper triangular with the
    diagonal sign * exp(log_diagonal). Log-determinant sum log_diagonal. All 0 is the permutation.

    Args:
      lower: L below its diagonal, `(*batch, D, D)`; the rest is not read.
      upper: U above its diagonal, `(*batch, D, D)`; the rest is not read.
      log_diagonal: of U, `(*batch, D)`.
      permutation: y_i = (L U x)_{permutation[i]}.
      signs: of the diagonal, a tuple of 1 and -1 (default: all 1).
    """

    is_affine = True
    lower: Array = param(supports.real, shape=("event", "event"))
    upper: Array = param(supports.real, shape=("event", "event"))
    log_diagonal: Array = param(supports.real, shape=("event",))
    permutation: tuple[int, ...] = static()
    signs: tuple[int, ...] | None = static(default=None)

    def _check(self) -> None:
        super()._check()
        check_permutation("PLU", self.permutation)
        if len(self.permutation) != self._length or len(self._signs) != self._length:
            raise ValueError(
                f"PLU: matrices of {self._length} rows, a permutation of {len(self.permutation)} "
                f"and {len(self._signs)} signs do not fit"
            )

    @staticmethod
    def init(size: int, permutation: Any = None) -> PLU:
        """The permutation (by default one cycle that turns the entries round by one half)."""
        turned = np.roll(np.arange(size), size // 2) if permutation is None else permutation
        zero = jnp.zeros((size, size))
        return PLU(zero, zero, jnp.zeros(size), check_permutation("PLU", turned))

    @property
    def _length(self) -> int:
        return self.log_diagonal.shape[-1]

    @property
    def _signs(self) -> tuple[int, ...]:
        return (1,) * self._length if self.signs is None else self.signs

    def _factors(self) -> tuple[Array, Array]:
        eye = jnp.eye(self._length, dtype=self.dtype)
        diagonal = jnp.exp(self.log_diagonal) * np.array(self._signs)
        upper = jnp.triu(self.upper, 1) + eye * diagonal[..., None, :]
        return jnp.tril(self.lower, -1) + eye, upper

    @property
    def _log_det(self) -> Array:
        return jnp.sum(self.log_diagonal, axis=-1)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        lower, upper = self._factors()
        matrix = jnp.matmul(lower, upper, precision=_EXACT)[..., np.array(self.permutation), :]
        return jnp.einsum("...ij,...j->...i", matrix, x, precision=_EXACT), self._log_det

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        lower, upper = self._factors()
        x = _solve(lower, y[..., np.argsort(self.permutation)])
        return _solve_upper(upper, x), -self._log_det


class LowRankLinear(_OfVectors):
    """y = x + U V^T x: the identity plus a matrix of rank k, log-determinant log |det(I + V^T U)|, inverse
    by the identity of Woodbury; D k numbers each way, where a full matrix has D^2.

    It is invertible where I + V^T U is: everywhere near U = 0, where it starts as a rule.

    Args:
      left, right: U and V, `(*batch, D, k)`.
    """

    is_affine = True
    left: Array = param(supports.real, shape=("event", "rank"))
    right: Array = param(supports.real, shape=("event", "rank"))

    @property
    def _length(self) -> int:
        return self.left.shape[-2]

    def _capacitance(self) -> Array:
        inner = jnp.einsum("...ik,...il->...kl", self.right, self.left, precision=_EXACT)
        return inner + jnp.eye(inner.shape[-1], dtype=inner.dtype)

    def _inner(self, x: Array) -> Array:
        return jnp.einsum("...ik,...i->...k", self.right, x, precision=_EXACT)

    def _outer(self, z: Array) -> Array:
        return jnp.einsum("...ik,...k->...i", self.left, z, precision=_EXACT)

    @property
    def _log_det(self) -> Array:
        return jnp.linalg.slogdet(self._capacitance())[1]

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        return x + self._outer(self._inner(x)), self._log_det

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        inner = self._inner(y)
        small = jnp.broadcast_to(self._capacitance(), (*inner.shape, inner.shape[-1]))
        solved = jnp.linalg.solve(small, inner[..., None])[..., 0]
        return y - self._outer(solved), -self._log_det


class ActNorm(_OfVectors):
    """y = shift + exp(log_scale) x along the last axis, whose parameters are set by the first batch so
    that x has mean 0 and variance 1 (Kingma and Dhariwal 2018), and trained from there.

    `lx.Likelihood.init` of a flow's head does that, layer by layer; `bijector.initialized(y)` by hand.

    Args:
      shift, log_scale: real, `(*batch, D)`.
    """

    is_affine = True
    shift: Array = param(supports.real, shape=("event",))
    log_scale: Array = param(supports.real, shape=("event",))

    @staticmethod
    def init(size: int) -> ActNorm:
        """The identity."""
        return ActNorm(jnp.zeros(size), jnp.zeros(size))

    @property
    def _length(self) -> int:
        return self.shift.shape[-1]

    @property
    def _log_det(self) -> Array:
        return jnp.sum(self.log_scale, axis=-1)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        return self.shift + jnp.exp(self.log_scale) * x, self._log_det

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        return (y - self.shift) * jnp.exp(-self.log_scale), -self._log_det

    def initialized(self, value: Array, *, forward: bool = False) -> ActNorm:
        mean, variance = statistics(value, self.shift.shape)
        deviation = jnp.sqrt(jnp.where(variance > 0, variance, 1))
        if forward:
            return ActNorm(-mean / deviation, -jnp.log(deviation))
        return ActNorm(mean, jnp.log(deviation))


def statistics(value: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Mean and variance over the axes of samples, and those along which parameters of this shape are
    shared.
    """
    lead = value.ndim - len(shape)
    shared = [lead + axis for axis, size in enumerate(shape[:-1]) if size == 1]
    axes = (*range(lead), *shared)
    mean, variance = jnp.mean(value, axes), jnp.var(value, axes)
    return mean.reshape(shape), variance.reshape(shape)


class BatchNorm(_OfVectors):
    """y = shift + exp(log_scale) (mean + sqrt(variance + epsilon) x) along the last axis, with statistics
    that are held (Dinh et al. 2017, section 3.7).

    Density and samples use the same map only where the statistics are fixed numbers: those of the very
    batch that is scored would make one example's density depend on the others', and the loss no
    likelihood. So they are held, and no gradient flows into them; `bijector.initialized(y)` sets them
    from values. `ActNorm` is what trains.

    Args:
      mean, variance: the statistics, `(*batch, D)`.
      shift, log_scale: what is trained, `(*batch, D)`.
      epsilon: added to the variance.
    """

    is_affine = True
    held = ("mean", "variance")
    mean: Array = param(supports.real, shape=("event",))
    variance: Array = param(supports.non_negative, shape=("event",))
    shift: Array = param(supports.real, shape=("event",))
    log_scale: Array = param(supports.real, shape=("event",))
    epsilon: float = static(default=1e-5)

    @staticmethod
    def init(size: int) -> BatchNorm:
        """Statistics 0 and 1."""
        return BatchNorm(jnp.zeros(size), jnp.ones(size), jnp.zeros(size), jnp.zeros(size))

    @property
    def _length(self) -> int:
        return self.mean.shape[-1]

    def _held(self) -> ActNorm:
        """The same as one shift and one scale."""
        mean, variance = jax.lax.stop_gradient((self.mean, self.variance))
        log_deviation = 0.5 * jnp.log(variance + self.epsilon)
        scale = jnp.exp(self.log_scale)
        return ActNorm(self.shift + scale * mean, self.log_scale + log_deviation)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        return self._held().forward_and_log_det(x)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        return self._held().inverse_and_log_det(y)

    def initialized(self, value: Array, *, forward: bool = False) -> BatchNorm:
        mean, variance = statistics(value, self.shift.shape)
        if forward:
            # The x that are seen have y of mean 0 and variance 1, before the trained shift and scale.
            wanted = 1 / jnp.where(variance > 0, variance, 1)
            held = jnp.maximum(wanted - self.epsilon, 0)
            return self.replace(mean=-mean * jnp.sqrt(held + self.epsilon), variance=held)
        # In the values before the trained shift and scale.
        scale = jnp.exp(self.log_scale)
        return self.replace(mean=(mean - self.shift) / scale, variance=variance / scale**2)


class Squeeze(Bijector):
    """Space to depth: `(H, W, C)` to `(H / factor, W / factor, C factor^2)` (Dinh et al. 2017, section 3.6);
    log-determinant 0.

    Args:
      factor: how many pixels each way become channels.
    """

    is_affine = True
    domain = supports.elementwise(supports.real, 3)
    codomain = supports.elementwise(supports.real, 3)
    factor: int = static(default=2)

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        *lead, height, width, channels = shape
        if height % self.factor or width % self.factor:
            raise ValueError(
                f"Squeeze: height and width are multiples of {self.factor}, got {tuple(shape)}; pad "
                "the images, or take fewer levels"
            )
        down = height // self.factor, width // self.factor
        return (*lead, *down, channels * self.factor**2)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        *lead, height, width, channels = shape
        if channels % self.factor**2:
            raise ValueError(
                f"Squeeze: {self.factor**2} channels become one, got {channels} of shape "
                f"{tuple(shape)}"
            )
        return (*lead, height * self.factor, width * self.factor, channels // self.factor**2)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        *lead, height, width, channels = x.shape
        f, n = self.factor, len(lead)
        x = x.reshape(*lead, height // f, f, width // f, f, channels)
        order = (*range(n), n, n + 2, n + 1, n + 3, n + 4)
        return x.transpose(order).reshape(self.forward_shape((*lead, height, width, channels))), (
            jnp.zeros((), x.dtype)
        )

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        *lead, height, width, channels = y.shape
        f, n = self.factor, len(lead)
        y = y.reshape(*lead, height, width, f, f, channels // f**2)
        order = (*range(n), n, n + 2, n + 1, n + 3, n + 4)
        return y.transpose(order).reshape(self.inverse_shape((*lead, height, width, channels))), (
            jnp.zeros((), y.dtype)
        )
