"""Autoregressive maps: coordinate i by what comes before it."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from likelax import supports
from likelax._pytree import Array, node, static
from likelax.bijectors._root import implicit_inverse
from likelax.bijectors.base import Bijector, sum_last
from likelax.bijectors.conditioner import Conditioner
from likelax.bijectors.coupling import _check_parts, split_raw
from likelax.bijectors.transformer import Transformer
from likelax.numerics.logspace import logsumexp, softplus, tanh_log_det


class MaskedAutoregressive(Bijector):
    """y_i = g(x_i; h_i(y_1..y_{i-1})) (Papamakarios et al. 2017).

    The inverse, and so the density, is one call of h; the forward map, and so a sample, takes one for
    each coordinate. `Invert` of it is the inverse autoregressive flow (Kingma et al. 2016).

    Args:
      conditioner: h, `transformer.size` numbers for each coordinate, which depend on earlier ones
        only: `MADE`, or a function of yours. (`lx.testing.check_bijector` finds one that looks ahead:
        its log-determinant is none.)
      transformer: from raw numbers to the elementwise map g.
    """

    domain = supports.real_vector
    codomain = supports.real_vector
    conditioner: Conditioner = node()
    transformer: Transformer = static()

    def _check(self) -> None:
        _check_parts(self, self.conditioner, self.transformer)

    def _raw(self, y: Array) -> Array:
        """`transformer.size` numbers for each coordinate, `(..., D, size)`."""
        return split_raw(self.transformer, self.conditioner(y), y.shape[-1], "MaskedAutoregressive")

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        lead = jnp.broadcast_shapes(x.shape[:-1], self.batch_shape)
        dtype = jnp.promote_types(x.dtype, self.dtype)
        x = jnp.broadcast_to(x, lead + x.shape[-1:]).astype(dtype)

        def place(y: Array, i: Array) -> tuple[Array, Array]:
            # y_i alone: the map of the others would be thrown away.
            raw = jax.lax.dynamic_index_in_dim(self._raw(y), i, axis=-2)
            own = jax.lax.dynamic_index_in_dim(x, i, axis=-1)
            entry, log_det = self.transformer(raw).forward_and_log_det(own)
            here = jnp.arange(x.shape[-1]) == i
            return jnp.where(here, entry, y), sum_last(log_det, 1)

        y, log_dets = jax.lax.scan(place, jnp.zeros_like(x), jnp.arange(x.shape[-1]))
        return y, jnp.sum(log_dets, axis=0)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        x, log_det = self.transformer(self._raw(y)).inverse_and_log_det(y)
        return x, sum_last(log_det, 1)


class BlockAutoregressive(Bijector):
    """The block neural autoregressive flow (De Cao et al. 2019) with a residual: y_i = x_i + f_i(x_1..x_i),
    each f_i a perceptron of tanh layers that increases in x_i, since the weights of its diagonal blocks
    are positive.

    The residual makes it a map onto all vectors, so that densities made by it sum to 1: the range of
    f alone is bounded. Slopes dy_i/dx_i are above 1; a scale, such as `ActNorm`, goes with it.
    The forward map is one pass; the inverse halves a bracket for each coordinate in turn. For
    densities take `Invert` of it.

    Args:
      network: as `BlockAutoregressive.init(key, features)` makes it.
    """

    domain = supports.real_vector
    codomain = supports.real_vector
    network: Conditioner = node()

    @staticmethod
    def init(
        key: Array, features: int, *, hidden: int = 8, layers: int = 1, context: int = 0
    ) -> BlockAutoregressive:
        """One for vectors of length `features`: `layers` hidden layers of `hidden` units for each
        coordinate, shifted by `context` features.
        """
        if layers < 1 or hidden < 1:
            raise ValueError(
                f"BlockAutoregressive: a hidden layer of a unit at least, got layers={layers} and "
                f"hidden={hidden}"
            )
        network = _BlockNetwork(features, hidden, layers, context)
        return BlockAutoregressive(Conditioner(network, network.init(key)))

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        rise, log_slope = jnp.split(self.network(x), 2, axis=-1)
        return x + rise, sum_last(softplus(log_slope), 1)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        x = implicit_inverse(self, y)
        return x, -self.forward_and_log_det(x)[1]

    def _solve(self, y: Array) -> Array:
        """Each coordinate lies between y - center - reach and y - center + reach."""
        center, reach = self._range()

        def place(x: Array, i: Array) -> tuple[Array, None]:
            here = jnp.arange(y.shape[-1]) == i

            def halve(_: Any, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
                low, high = bracket
                middle = 0.5 * (low + high)
                under = self.forward(jnp.where(here, middle, x)) < y
                return jnp.where(under, middle, low), jnp.where(under, high, middle)

            steps = 30 if y.dtype == jnp.float32 else 60
            start = y - center - reach, y - center + reach
            low, high = jax.lax.fori_loop(0, steps, halve, start)
            return jnp.where(here, 0.5 * (low + high), x), None

        return jax.lax.scan(place, jnp.zeros_like(y), jnp.arange(y.shape[-1]))[0]

    def _range(self) -> tuple[Array, Array]:
        """The middle of what f takes, and how far it goes from there: tanh is within 1."""
        last = self.network.params["layers"][-1]
        weights = _positive_diagonal(last["kernel"])
        return last["bias"][..., 0], jnp.sum(jnp.abs(weights), axis=(-4, -3))[..., 0]


def _positive_diagonal(kernel: Array) -> Array:
    """Weights `(*batch, D, a, D, b)`: exp of the diagonal blocks, the blocks of earlier coordinates, and
    0 for later ones.
    """
    row, column = np.indices((kernel.shape[-2], kernel.shape[-2]))
    same, earlier = (m[:, None, :, None] for m in (row == column, row < column))
    return jnp.where(same, jnp.exp(jnp.where(same, kernel, 0)), jnp.where(earlier, kernel, 0))


@dataclasses.dataclass(frozen=True)
class _BlockNetwork:
    """f and log df_i/dx_i, one behind the other."""

    features: int
    hidden: int
    layers: int
    context: int

    def init(self, key: Array) -> dict[str, Any]:
        sizes = (1, *[self.hidden] * self.layers, 1)
        keys = jax.random.split(key, len(sizes) + 1)
        count = self.features
        params: dict[str, Any] = {"layers": []}
        for k, (a, b) in zip(keys, itertools.pairwise(sizes), strict=False):
            noise = jax.random.normal(k, (count, a, count, b)) / (count * a) ** 0.5
            same = np.eye(count, dtype=bool)[:, None, :, None]
            kernel = jnp.where(same, 0.5 * noise - np.log(a), noise)
            params["layers"].append({"kernel": kernel, "bias": jnp.zeros((count, b))})
        spread = jax.random.normal(keys[-2], (count, self.hidden))
        params["layers"][0]["bias"] = spread
        if self.context:
            shape = (self.context, count, self.hidden)
            params["context"] = jax.random.normal(keys[-1], shape) / self.context**0.5
        return params

    def __call__(self, params: Any, x: Array, context: Array | None = None) -> Array:
        unit, log_slope = x[..., None], jnp.zeros((*x.shape, 1), x.dtype)  # (n, D, a)
        for at, layer in enumerate(params["layers"]):
            if at:
                log_slope = log_slope + tanh_log_det(unit)
                unit = jnp.tanh(unit)
            kernel = layer["kernel"]
            unit = jnp.einsum("nia,iajb->njb", unit, _positive_diagonal(kernel)) + layer["bias"]
            if at == 0 and context is not None:
                unit = unit + jnp.einsum("nc,cjb->njb", context, params["context"])
            own = jnp.einsum("iaib->iab", kernel)
            log_slope = logsumexp(log_slope[..., None] + own, axis=-2)
        return jnp.concatenate([unit[..., 0], log_slope[..., 0]], axis=-1)
