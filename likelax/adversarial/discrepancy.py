"""How far apart two samples are, without a density: kernels, and projections on lines."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from likelax import _checks
from likelax._keys import check_key
from likelax._pytree import Array, is_traced
from likelax.adversarial._blocks import (
    Features,
    as_features,
    by_rows,
    check_block,
    or_nan,
    squared_distances,
)

Kernel = Callable[[Array, Array, Array], Array]


class Discrepancy(NamedTuple):
    """A number that is 0 where two distributions agree.

    Attributes:
      value: it. An unbiased estimate may be negative.
      standard_error: over other samples of these sizes; of `sliced_wasserstein` over other directions only.
    """

    value: Array
    standard_error: Array

    def __str__(self) -> str:
        if is_traced(self.value):
            return repr(self)
        return f"{float(self.value):.5f} ± {float(self.standard_error):.5f}"


def _product(x: Array, y: Array) -> Array:
    # All digits: the default on accelerators has 3 of them, and distances are small differences.
    return jnp.matmul(x, y.T, precision="highest")


def _gaussian(x: Array, y: Array, bandwidths: Array) -> Array:
    square = squared_distances(x, y)
    return jnp.mean(jnp.exp(-square[..., None] / (2 * bandwidths**2)), axis=-1)


def _polynomial(x: Array, y: Array, bandwidths: Array) -> Array:
    """(x.y / d + 1)^3: Binkowski et al. 2018, the kernel distance of image features."""
    return (_product(x, y) / x.shape[-1] + 1) ** 3


def _energy(x: Array, y: Array, bandwidths: Array) -> Array:
    """-|x - y|, whose MMD^2 is the energy distance (Szekely and Rizzo 2013)."""
    square = squared_distances(x, y)
    return -jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


KERNELS: Mapping[str, Kernel] = {
    "gaussian": _gaussian,
    "polynomial": _polynomial,
    "energy": _energy,
}
# Of the median distance.
_MULTIPLES = (0.5, 1.0, 2.0)


def mmd(
    x: Any,
    y: Any,
    *,
    kernel: str = "gaussian",
    bandwidth: Any = None,
    features: Features | None = None,
    block_size: int = 512,
) -> Discrepancy:
    """The squared maximum mean discrepancy, E k(x, x') + E k(y, y') - 2 E k(x, y), without bias (Gretton et
    al. 2012, equation 3), with its standard error.

    The error is that of the U-statistic (Hoeffding's first two orders), and no less than what the second leaves
    where the two agree and the first vanishes: there it is about a quarter too large, and the value is 0 on
    average.

    Args:
      x, y: samples, `(n, *event)` and `(m, *event)`.
      kernel: "gaussian", exp(-|x - y|^2 / (2 h^2)), "polynomial" or "energy".
      bandwidth: h of the Gaussian, a number, or several over which the kernel is a mean; by default half
        the median distance between the values, once, and twice it. Bandwidths that are chosen from the
        samples make numbers of different samples differ in kind: give them where numbers are compared.
      features: what is looked at, `(n, *event) -> (n, features)`; by default the values.
      block_size: how many rows of the kernel's matrix are held at once.

    Raises:
      ValueError: for fewer than two of each, numbers that are not finite, another kernel, a bandwidth that
        is not positive, and values of which most are alike, whose median distance is 0.
    """
    x, y = as_features("mmd", x, y, features, 2)
    check_block("mmd", block_size)
    if kernel not in KERNELS:
        raise ValueError(f"mmd: kernel is one of {', '.join(KERNELS)}, got {kernel!r}")
    widths = _bandwidths(x, y, bandwidth) if kernel == "gaussian" else jnp.ones(1, x.dtype)
    return _mmd(x, y, widths, kernel, block_size)


def _bandwidths(x: Array, y: Array, given: Any) -> Array:
    """As given, or by the median distance, `(bandwidths,)`."""
    if given is None:
        widths = _median_distance(x, y) * jnp.asarray(_MULTIPLES, x.dtype)
        message = "mmd: the median distance of the values is 0: most are alike; write bandwidth=1.0"
    else:
        widths = jnp.atleast_1d(jnp.asarray(given, x.dtype))
        message = "mmd: bandwidth is positive; at {index} it is {value}"
    if widths.ndim > 1:
        raise ValueError(
            f"mmd: bandwidth is a number or a row of them, got shape {widths.shape}; write "
            "bandwidth=(0.5, 1.0)"
        )
    _checks.check_known(widths > 0, widths, message)
    return widths


@functools.partial(jax.jit, static_argnums=(3, 4))
def _mmd(x: Array, y: Array, widths: Array, kernel: str, block_size: int) -> Discrepancy:
    k = KERNELS[kernel]

    def sums(a: Array, b: Array, same: bool) -> Any:
        """Sums over b of k and of k^2 for each of a; without the pair of one with itself."""

        def rows(block: Array, index: Array) -> Any:
            values = k(block, b, widths)
            if same:
                values = jnp.where(index[:, None] == jnp.arange(len(b)), 0, values)
            return jnp.sum(values, axis=-1), jnp.sum(values**2, axis=-1)

        return by_rows(rows, a, block_size)

    n, m = len(x), len(y)
    xx, xx2 = (s / (n - 1) for s in sums(x, x, True))
    yy, yy2 = (s / (m - 1) for s in sums(y, y, True))
    xy, xy2 = (s / m for s in sums(x, y, False))
    yx, _ = (s / n for s in sums(y, x, False))
    value = jnp.mean(xx) + jnp.mean(yy) - 2 * jnp.mean(xy)
    # What is left of the kernel's variance without that of its projections: the second order.
    of_xx = jnp.mean(xx2) - 2 * jnp.mean(xx**2) + jnp.mean(xx) ** 2
    of_yy = jnp.mean(yy2) - 2 * jnp.mean(yy**2) + jnp.mean(yy) ** 2
    of_xy = jnp.mean(xy2) - jnp.mean(xy**2) - jnp.mean(yx**2) + jnp.mean(xy) ** 2
    second = 2 * of_xx / (n * (n - 1)) + 2 * of_yy / (m * (m - 1)) + 4 * of_xy / (n * m)
    # The variance of the projections as estimated has twice the second order in it.
    first = 4 * jnp.var(xx - xy, ddof=1) / n + 4 * jnp.var(yy - yx, ddof=1) / m - 2 * second
    variance = jnp.maximum(first, 0) + second
    return or_nan(Discrepancy(value, jnp.sqrt(jnp.maximum(variance, 0))), x, y)


@jax.jit
def _median_distance(x: Array, y: Array) -> Array:
    """Between different values of both, of the first 500 of each."""
    both = jnp.concatenate([x[:500], y[:500]])
    square = squared_distances(both, both)[jnp.triu_indices(len(both), 1)]
    return jnp.sqrt(jnp.median(square))


def sliced_wasserstein(
    x: Any,
    y: Any,
    key: Array,
    *,
    order: float = 2.0,
    num_projections: int = 200,
    features: Features | None = None,
    block_size: int = 64,
) -> Discrepancy:
    """The sliced Wasserstein distance of two samples: W_p between their projections on a line, its p-th
    power averaged over random directions (Bonneel et al. 2015), to the power 1/p.

    It is that of the *samples*: two samples of one distribution have a distance above 0, which shrinks with
    their sizes. Hold it against the distance of two halves of the data.

    Args:
      x, y: samples, `(n, *event)` and `(m, *event)`, of any sizes.
      key: a random key, for the directions.
      order: p, at least 1.
      num_projections: at least 2.
      features: what is looked at, `(n, *event) -> (n, features)`; by default the values.
      block_size: how many directions are projected on at once.

    Raises:
      ValueError: for no values, numbers that are not finite, another order, or fewer than two projections.
    """
    x, y = as_features("sliced_wasserstein", x, y, features, 1)
    check_block("sliced_wasserstein", block_size)
    if not _checks.is_number(order) or not 1 <= order < math.inf:
        raise ValueError(
            f"sliced_wasserstein: order is at least 1 and finite, got {order!r}; write order=2.0"
        )
    if not _checks.is_count(num_projections) or num_projections < 2:
        raise ValueError(
            "sliced_wasserstein: num_projections is a whole number >= 2, got "
            f"{num_projections!r}; write num_projections=200"
        )
    return _sliced(x, y, check_key(key), float(order), num_projections, block_size)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _sliced(x: Array, y: Array, key: Array, p: float, count: int, block_size: int) -> Discrepancy:
    way = jax.random.normal(key, (count, x.shape[-1]), x.dtype)
    way = way / jnp.linalg.norm(way, axis=-1, keepdims=True)
    i, j, width = (jnp.asarray(v) for v in _coupling(len(x), len(y)))

    def cost(block: Array, index: Array) -> Array:
        a, b = (jnp.sort(_product(block, v), axis=-1) for v in (x, y))
        return jnp.sum(width.astype(x.dtype) * jnp.abs(a[:, i] - b[:, j]) ** p, axis=-1)

    each = by_rows(cost, way, block_size)
    mean = jnp.mean(each)
    error = jnp.std(each, ddof=1) / jnp.sqrt(count)
    some = jnp.where(mean > 0, mean, 1)
    slope = jnp.where(mean > 0, some ** (1 / p - 1) / p, 0)
    found = Discrepancy(jnp.where(mean > 0, some ** (1 / p), 0), slope * error)
    return or_nan(found, x, y)


def _coupling(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which sorted values share which part of the mass, in whole numbers: i of n, j of m, and the part."""
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    return -(-ends // m) - 1, -(-ends // n) - 1, np.diff(ends, prepend=0) / (n * m)
