"""A training loop of your own: predictive bands for food expenditure given income.

    python examples/own_loop.py

likelax gives the loss and keeps out of the loop: the state is yours, the optimiser is optax's, the
network is Flax's. The head decides what is assumed of the noise: here a StudentT whose location
and scale depend on the input and whose degrees of freedom are learned.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import likelax as lx


class MLP(nnx.Module):
    def __init__(self, outputs: int, *, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(1, 8, rngs=rngs)
        self.last = nnx.Linear(8, outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:  # (batch, 1) -> (batch, outputs)
        return self.last(jnp.tanh(self.hidden(x)))


def main(steps: int) -> float:
    data = lx.datasets.engel().standardized(target=True)
    head = lx.Head(lx.StudentT, df=lx.learned())
    model = lx.Likelihood(MLP(head.size, rngs=nnx.Rngs(0)), head)
    params, state = model.init(jax.random.key(0), data.train)
    optimizer = optax.adamw(5e-3, weight_decay=0.1)
    opt_state = optimizer.init(params)

    @jax.jit
    def step(params, opt_state, state, key, batch):
        grad = jax.value_and_grad(model, has_aux=True)
        (loss, aux), grads = grad(params, key, batch, state=state)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, aux.state, loss

    for i in range(steps):
        key = jax.random.fold_in(jax.random.key(1), i)
        params, opt_state, state, loss = step(params, opt_state, state, key, data.train)
        if i % max(1, steps // 5) == 0 or i == steps - 1:
            print(f"step {i:4d}: {loss:.4f} nats")

    held_out = lx.evaluate(model, params, jax.random.key(2), data.test, state=state)
    print("held out:", held_out)
    incomes = data.input_scaler(np.array([[500.0], [1000.0], [2000.0]]))
    dist = model.predict(params, incomes, state=state)
    for q in (0.05, 0.5, 0.95):
        food = data.target_scaler.inverse(dist.quantile(q))
        print(f"{q:4.0%} of households with 500, 1000, 2000 francs spend less than", food.round())
    return held_out.loss


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    main(parser.parse_args().steps)
