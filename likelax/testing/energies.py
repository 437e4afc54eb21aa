"""A Boltzmann machine of 8 states, of which everything is known, and what that says of its training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from likelax._checks import is_count
from likelax._keys import check_key, stream
from likelax._pytree import Array
from likelax.energy import RBM
from likelax.objective import Batch, Objective
from likelax.testing.subject import quick_jit

Make = Callable[[Any], Objective]


class EnumeratedRBM:
    """A restricted Boltzmann machine by sums over all its states, in NumPy.

    Args:
      weight: W, `(visible, hidden)`.
      visible_bias: a, `(visible,)`.
      hidden_bias: b, `(hidden,)`.

    Attributes:
      values: all 2^visible of them, `(states, visible)`.
      probabilities: of each, `(states,)`.
      transition: with which probability a Gibbs sweep, hidden units first, leads from one value to another,
        `(states, states)`.
    """

    def __init__(self, weight: Any, visible_bias: Any, hidden_bias: Any):
        w, a, b = (np.asarray(x, np.float64) for x in (weight, visible_bias, hidden_bias))
        self.weight, self.visible_bias, self.hidden_bias = w, a, b
        self.values, hidden = (_all_bits(n) for n in w.shape)
        joint = self.values @ a[:, None] + hidden @ b + self.values @ w @ hidden.T
        joint = np.exp(joint - joint.max())
        self.probabilities = joint.sum(1) / joint.sum()
        self.transition = (joint / joint.sum(1, keepdims=True)) @ (joint / joint.sum(0)).T

    @property
    def model(self) -> RBM:
        """The same as a model of `lx.energy`."""
        parts = self.weight, self.visible_bias, self.hidden_bias
        return RBM(*(jnp.asarray(x, float) for x in parts))

    @property
    def energy_gradients(self) -> np.ndarray:
        """Of each value's free energy in weight, visible and hidden biases, flat: `(states, parameters)`."""
        v = self.values
        h = 1 / (1 + np.exp(-(v @ self.weight + self.hidden_bias)))
        return -np.concatenate([(v[:, :, None] * h[:, None]).reshape(len(v), -1), v, h], axis=1)

    def likelihood_gradient(self, data: Any) -> np.ndarray:
        """Of the mean of -log p(x), `(parameters,)`, where the data have these probabilities, `(states,)`."""
        return (np.asarray(data) - self.probabilities) @ self.energy_gradients

    def contrastive_gradient(self, data: Any, steps: int) -> np.ndarray:
        """The mean of CD-k's gradient, `(parameters,)`: of free energies, the data's less those of what
        `steps` sweeps make of them.
        """
        moved = np.asarray(data) @ np.linalg.matrix_power(self.transition, steps)
        return (data - moved) @ self.energy_gradients


def _all_bits(count: int) -> np.ndarray:
    return np.array(list(np.ndindex((2,) * count)), np.float64)


def example_rbm() -> EnumeratedRBM:
    """Three visible and two hidden units, alike in nothing."""
    return EnumeratedRBM([[2.8, -1.6], [-1.2, 3.8], [1.4, 1.0]], [-0.6, 0.3, -1.8], [-1.1, -1.5])


def check_energy_gradient(
    make: Make,
    *,
    key: Array,
    steps: int | None = None,
    calls: int = 1,
    draws: int = 400,
    rbm: EnumeratedRBM | None = None,
) -> None:
    """Passes if the mean of an objective's gradient is that of contrastive divergence, or of -log p(x), on a
    model whose states are enumerated.

    Every entry within 4 standard errors, of `draws` runs with keys of their own.

    Args:
      make: `model -> objective`, of the parameters of an `lx.energy.RBM` and a `lx.Batch(target, weight=..)`.
      key: a random key.
      steps: k, for the gradient of CD-k; None for that of the likelihood.
      calls: the gradient is that of the last of so many calls, of which each has the state that the one
        before made: chains that persist need some.
      draws: how many runs.
      rbm: which model (default: three visible units and two hidden ones).

    Raises:
      AssertionError: with the entry, what was found and what is right.
    """
    if steps is not None and not is_count(steps):
        raise ValueError(
            f"steps is a whole number >= 1, or None for the likelihood, got {steps!r}; write 1"
        )
    rbm = example_rbm() if rbm is None else rbm
    data = np.arange(1.0, len(rbm.values) + 1) ** 1.5
    data /= data.sum()
    found, error = _mean_gradient(make(rbm.model), rbm.model, rbm.values, data, key, calls, draws)
    if steps is None:
        wanted, what = rbm.likelihood_gradient(data), "of -log p(x)"
    else:
        wanted, what = rbm.contrastive_gradient(data, steps), f"of CD-{steps}"
    _assert_close(found, error, wanted, f"and the gradient {what} is")


def check_consistent(
    make: Make,
    *,
    key: Array,
    draws: int | None = None,
    model: Any = None,
    values: Any = None,
) -> None:
    """Passes if the true density minimises an objective: on all values, weighted with their
    probabilities, its gradient there is 0, and it costs more elsewhere.

    Args:
      make: `model -> objective`, of the parameters of that model and a `lx.Batch(target, weight=..)`.
      key: a random key.
      draws: over how many keys the gradient is a mean, which is 0 within 4 standard errors; None for an
        objective that draws nothing: 0 to the precision of the default floating dtype.
      model: which one, an `Unnormalized` (default: an RBM of three visible and two hidden units).
      values: all that it has, `(states, *event)`.

    Raises:
      AssertionError: with the entry of the gradient, or both losses.
    """
    if (model is None) != (values is None):
        raise ValueError(
            "a model and all its values go together; write model=rbm, values=jnp.array([[0, 0], ...])"
        )
    if model is None:
        rbm = example_rbm()
        model, values = rbm.model, rbm.values
    objective, values = make(model), jnp.asarray(values)
    moved = jax.tree.map(_elsewhere, model)

    def ask(keys: Array) -> Any:
        log_p = model.unnormalized_log_prob(values)
        batch = Batch(values, weight=jax.nn.softmax(log_p))

        def run(key: Array) -> Any:
            _, state = objective.init(stream(key, "init"), batch)

            def loss(params: Any) -> Array:
                return objective(params, stream(key, "loss"), batch, state=state)[0]

            return jax.grad(loss)(model), loss(model), loss(moved)

        return jax.vmap(run)(keys)

    grads, true, other = quick_jit(ask)(_keys(key, 1 if draws is None else draws))
    found, error = _mean(grads)
    _assert_close(found, error, np.zeros_like(found), "at the true density, where it is")
    here, there = float(true.mean()), float(other.mean())
    if not there > here + 1e-3:
        raise AssertionError(
            f"the loss is {here:.6f} at the true density and {there:.6f} at one that is far from it: "
            "more is wanted there"
        )


def _elsewhere(leaf: Array) -> Array:
    return leaf + 0.5 * jnp.cos(1.0 + jnp.arange(leaf.size)).reshape(leaf.shape)


def _keys(key: Array, draws: int) -> Array:
    if not is_count(draws):
        raise ValueError(f"draws is a whole number >= 1, got {draws!r}; write 400")
    return jax.random.split(check_key(key), draws)


def _mean_gradient(
    objective: Objective,
    params: Any,
    values: Any,
    data: np.ndarray,
    key: Array,
    calls: int,
    draws: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The gradient in all parameters, flat, and its standard error over keys."""
    if not is_count(calls):
        raise ValueError(f"calls is a whole number >= 1, got {calls!r}; write 1")
    batch = Batch(jnp.asarray(values), weight=jnp.asarray(data, float))

    def run(key: Array) -> Any:
        _, state = objective.init(stream(key, "init"), batch)

        def call(state: Any, k: Array) -> tuple[Any, None]:
            return objective(params, jax.random.fold_in(key, k), batch, state=state)[1].state, None

        if calls > 1:
            state, _ = jax.lax.scan(call, state, jnp.arange(calls - 1))
        last = jax.random.fold_in(key, calls)
        return jax.grad(lambda p: objective(p, last, batch, state=state)[0])(params)

    return _mean(quick_jit(jax.vmap(run))(_keys(key, draws)))


def _mean(grads: Any) -> tuple[np.ndarray, np.ndarray]:
    """Of gradients of many runs, flat, with the standard error."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(grads)]
    each = np.concatenate([leaf.reshape((len(leaf), -1)) for leaf in leaves], axis=1)
    return each.mean(0), each.std(0) / math.sqrt(len(each))


def _assert_close(found: np.ndarray, error: np.ndarray, wanted: np.ndarray, what: str) -> None:
    slack = 4 * error + (1e-10 if jnp.result_type(float) == jnp.float64 else 1e-5)
    for i in range(len(found)):
        if not abs(found[i] - wanted[i]) <= slack[i]:
            raise AssertionError(
                f"entry {i} of the gradient is {found[i]:.6g} ± {error[i]:.2g} on average, {what} "
                f"{wanted[i]:.6g}"
            )
