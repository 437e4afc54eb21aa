"""What a critic pays for a steep slope, beside its loss."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from likelax import _checks
from likelax._keys import row_keys, stream
from likelax._pytree import Array
from likelax.adversarial.losses import Function
from likelax.objective import trailing


@dataclasses.dataclass(frozen=True)
class Penalty:
    """A cost of the critic's gradient in its argument. A subclass writes `cost`.

    The gradient of each example is taken as if the critic looked at it alone: a critic with batch
    statistics has none of its own.

    Args:
      weight: what it counts, at least 0 and finite.

    Raises:
      ValueError: for another weight.
    """

    weight: float = 10.0

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not (_checks.is_number(self.weight) and 0 <= self.weight < math.inf):
            raise ValueError(
                f"{name}: weight is at least 0 and finite, got {self.weight!r}; write {name}(10.0)"
            )

    def cost(self, critic: Function, real: Array, fake: Array, key: Array) -> Array:
        """For each pair, `(batch,)`.

        Args:
          critic: `(batch, *event) -> (batch,)`.
          real, fake: data and samples, `(batch, *event)`.
          key: a random key.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no cost")


@dataclasses.dataclass(frozen=True)
class GradientPenalty(Penalty):
    """weight (|grad C(x)| - 1)^2 at points x between an example and a sample, each at a uniform part of the
    way (Gulrajani et al. 2017, equation 3).

    Args:
      weight: as for `Penalty`; theirs is 10.
      one_sided: whether slopes below 1 are free.
    """

    one_sided: bool = False

    def cost(self, critic: Function, real: Array, fake: Array, key: Array) -> Array:
        part = uniform(stream(key, "interpolate"), real)
        square = squared_slope(critic, part * real + (1 - part) * fake)
        # The root of 0 has an infinite slope, which times 0 would be NaN.
        flat = square == 0
        excess = jnp.where(flat, 0, jnp.sqrt(jnp.where(flat, 1, square))) - 1
        return self.weight * (jnp.maximum(excess, 0) if self.one_sided else excess) ** 2


@dataclasses.dataclass(frozen=True)
class R1(Penalty):
    """weight / 2 |grad C(x)|^2 at the data (Mescheder et al. 2018, equation 9)."""

    def cost(self, critic: Function, real: Array, fake: Array, key: Array) -> Array:
        return self.weight / 2 * squared_slope(critic, real)


@dataclasses.dataclass(frozen=True)
class R2(Penalty):
    """weight / 2 |grad C(x)|^2 at the samples (Mescheder et al. 2018, equation 10)."""

    def cost(self, critic: Function, real: Array, fake: Array, key: Array) -> Array:
        return self.weight / 2 * squared_slope(critic, fake)


def squared_slope(critic: Function, x: Array) -> Array:
    """|grad C(x)|^2 of each example, `(batch,)`."""
    slope = jax.grad(lambda x: jnp.sum(critic(x)))(x)
    return jnp.sum(slope**2, axis=tuple(range(1, x.ndim)))


def uniform(key: Array, x: Array) -> Array:
    """A number in [0, 1) for each example, to multiply x with."""
    draw = jax.vmap(lambda key: jax.random.uniform(key, (), x.dtype))
    return trailing(draw(row_keys(key, x.shape[0])), x.ndim)
