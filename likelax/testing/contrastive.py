"""What is known of contrastive objectives: Gaussian pairs for those over a batch, a machine whose states
can be counted for those against noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from likelax._checks import is_count, is_number
from likelax._keys import check_key, stream
from likelax._pytree import Array
from likelax.distributions.base import Distribution
from likelax.distributions.categorical import Bernoulli
from likelax.energy.density import Unnormalized
from likelax.energy.enumeration import enumeration_of, log_sum
from likelax.energy.restricted import RBM
from likelax.objective import Batch, Objective
from likelax.testing.subject import quick_jit

Network = tuple[Callable[..., Any], Callable[..., Any]]


class GaussianPairs:
    """Standard Normal numbers x and y of correlation rho, whose mutual information is -log(1 - rho^2) / 2.

    Args:
      correlation: rho, in (-1, 1).
    """

    def __init__(self, correlation: float):
        if not is_number(correlation) or not -1 < correlation < 1:
            raise ValueError(f"a correlation lies in (-1, 1), got {correlation!r}; write 0.7")
        self.correlation = correlation

    @property
    def mutual_information(self) -> float:
        """In nats."""
        return -0.5 * math.log1p(-(self.correlation**2))

    def log_ratio(self, x: Any, y: Any) -> np.ndarray:
        """log p(y | x) - log p(y), the best critic."""
        rho, x, y = self.correlation, np.asarray(x, np.float64), np.asarray(y, np.float64)
        return self.mutual_information + 0.5 * (y**2 - (y - rho * x) ** 2 / (1 - rho**2))

    def sample(self, key: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """x and y, `(*shape, 1)` each."""
        x, noise = jax.random.normal(check_key(key), (2, *shape, 1))
        return x, self.correlation * x + math.sqrt(1 - self.correlation**2) * noise

    def networks(self) -> tuple[Network, Network]:
        """Networks of x and y without parameters, `(init, apply)`, to 3 features whose inner product is the
        best critic but for a constant.
        """
        rest = 1 - self.correlation**2
        square, product = -0.5 * self.correlation**2 / rest, self.correlation / rest

        def of_x(params: Any, x: Array) -> Array:
            return jnp.concatenate([square * x**2, product * x, jnp.ones_like(x)], -1)

        def of_y(params: Any, y: Array) -> Array:
            return jnp.concatenate([jnp.ones_like(y), y, square * y**2], -1)

        return (lambda key, x: {}, of_x), (lambda key, y: {}, of_y)

    def loss_of_two(self, nodes: int = 80) -> float:
        """The mean of InfoNCE over two pairs at the best critic, by Gauss-Hermite quadrature:
        E log(1 + r(x, y') / r(x, y)), with y' independent of x.
        """
        at, mass = np.polynomial.hermite_e.hermegauss(nodes)
        mass = mass / mass.sum()
        x, noise, other = np.meshgrid(at, at, at, indexing="ij", sparse=True)
        y = self.correlation * x + math.sqrt(1 - self.correlation**2) * noise
        each = np.logaddexp(0, self.log_ratio(x, other) - self.log_ratio(x, y))
        return float(np.einsum("ijk,i,j,k", each, mass, mass, mass))


def check_contrastive(
    make: Callable[[Network, Network], Objective], *, key: Array, draws: int = 20_000
) -> None:
    """Passes if an objective over a batch of pairs is InfoNCE: at the best critic of Gaussian pairs its mean
    over two pairs is the one that quadrature gives, and log N - loss is below both log N and the mutual
    information, which a loss without its positive in the denominator is not.

    Within 4 standard errors over `draws` pairs.

    Args:
      make: `(input_network, target_network) -> objective`, one of `lx.Batch(target=y, input=x)` that scores a
        pair by the inner product of what the networks make of it: temperature 1, embeddings not
        normalised.
      key: a random key.
      draws: pairs.

    Raises:
      AssertionError: with what was found and what is right.
    """
    _check_draws(draws, 64)
    for rho, count in ((0.995, 4), (-0.6, 32), (0.7, 2)):
        pairs = GaussianPairs(rho)
        mean, error = _mean_loss(make, pairs, count, stream(check_key(key), str(rho)), draws)
        bound, known = math.log(count) - mean, min(math.log(count), pairs.mutual_information)
        if not bound <= known + 4 * error + 1e-5:
            raise AssertionError(
                f"log N - loss is {bound:.5f} ± {error:.5f} nats for N = {count} Gaussian pairs, and more than "
                f"the smaller of log N and their mutual information, {known:.5f}: is the positive in "
                "the denominator?"
            )
        if count == 2 and not abs(mean - pairs.loss_of_two()) <= 4 * error + 1e-5:
            raise AssertionError(
                f"of two Gaussian pairs of correlation {rho} the loss is {mean:.5f} ± {error:.5f} nats on "
                f"average, and InfoNCE is {pairs.loss_of_two():.5f}"
            )


def _mean_loss(
    make: Callable[[Network, Network], Objective],
    pairs: GaussianPairs,
    count: int,
    key: Array,
    draws: int,
) -> tuple[float, float]:
    """Of batches of so many pairs, with its standard error."""
    objective = make(*pairs.networks())
    x, y = pairs.sample(stream(key, "pairs"), (draws // count, count))
    params, state = objective.init(stream(key, "init"), Batch(target=y[0], input=x[0]))

    def loss(x: Array, y: Array) -> Array:
        return objective(params, key, Batch(target=y, input=x), state=state)[0]

    each = np.asarray(quick_jit(jax.vmap(loss))(x, y), np.float64)
    return float(each.mean()), float(each.std(ddof=1)) / math.sqrt(len(each))


def _check_draws(draws: Any, least: int) -> None:
    if not is_count(draws) or draws < least:
        raise ValueError(
            f"draws is a whole number of at least {least}, of which an error is known, got {draws!r}; "
            "leave it out"
        )


Truth = Callable[[Unnormalized, Array, Distribution], tuple[Objective, Any]]


def check_noise_contrastive(make: Truth, *, key: Array, draws: int = 400) -> None:
    """Passes if an objective that tells data from noise has its optimum at the density of the data: the
    data are all states of a small machine as often as they are probable, at the machine itself the mean
    gradient is 0, and at another one the loss is larger.

    Within 4 standard errors (of the largest of a few parameters: 5) over draws of the noise.

    Args:
      make: `(model, log_z, noise) -> (objective, params)`, with the parameters that say: this model, this
        log Z (if it has one).
      key: a random key.
      draws: of noise for every state.

    Raises:
      AssertionError: with what was found and what is right.
    """
    _check_draws(draws, 2)
    truth = RBM(
        jnp.array([[1.0, -0.5], [0.75, 1.5], [-1.25, 0.5]]),
        jnp.array([0.25, -1.0, 0.5]),
        jnp.array([-0.5, 0.75]),
    )
    noise = Bernoulli(probs=jnp.array([0.3, 0.5, 0.6])).to_event()
    x = (jnp.arange(8)[:, None] >> jnp.arange(3) & 1).astype(float)
    keys = jax.random.split(check_key(key), draws)

    def at(model: RBM) -> Any:
        log_z = log_sum(*enumeration_of(model), model.dtype)
        objective, params = make(model, log_z, noise)
        probs = jnp.exp(truth.unnormalized_log_prob(x) - log_sum(*enumeration_of(truth)))
        batch = Batch(x, weight=probs)

        def one(key: Array) -> Any:
            return jax.value_and_grad(objective, has_aux=True)(params, key, batch)

        (loss, _), grads = jax.vmap(one)(keys)
        return loss, jnp.concatenate([g.reshape(draws, -1) for g in jax.tree.leaves(grads)], axis=1)

    def ask() -> Any:
        other = truth.replace(visible_bias=truth.visible_bias + jnp.array([0.5, -0.5, 0.5]))
        return at(truth), at(other)

    (loss, slope), (worse, _) = jax.tree.map(lambda a: np.asarray(a, np.float64), quick_jit(ask)())
    mean, error = slope.mean(0), slope.std(0, ddof=1) / math.sqrt(draws)
    worst = int(np.argmax(np.abs(mean) - 5 * error))
    if not abs(mean[worst]) <= 5 * error[worst] + 1e-5:
        raise AssertionError(
            f"at the density of the data a mean gradient is {mean[worst]:.5f} ± {error[worst]:.5f}, and 0 is "
            "right: its optimum is elsewhere"
        )
    gain = worse - loss
    if not gain.mean() > 4 * gain.std(ddof=1) / math.sqrt(draws):
        raise AssertionError(
            f"another density costs {gain.mean():.5f} nats more than that of the data: the objective does not "
            "tell them apart"
        )
