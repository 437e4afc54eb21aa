"""An ensemble of classifiers is vmap over parameters; its prediction is a mixture.

    python examples/ensemble.py

Nothing here is particular to ensembles: `jax.vmap` of `init`, of the training step and of
`predict`.
"""

import argparse
import functools

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import likelax as lx


class MLP(nnx.Module):
    def __init__(self, outputs: int, *, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(64, 64, rngs=rngs)
        self.last = nnx.Linear(64, outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(nnx.relu(self.hidden(x)))


def main(steps: int, members: int) -> tuple[float, float]:
    data = lx.datasets.digits().standardized()
    head = lx.Head(lx.Categorical, num_categories=10)
    # A function of rngs instead of a module: every key then makes another member.
    model = lx.Likelihood(functools.partial(MLP, head.size), head)
    optimizer = optax.adamw(3e-3, weight_decay=0.1)
    step = lx.train.step(model, optimizer)

    keys = jax.random.split(jax.random.key(0), members)
    states = jax.vmap(lambda key: lx.train.init(model, optimizer, key, data.train))(keys)
    step = jax.jit(jax.vmap(step, in_axes=(0, None)), donate_argnums=0)
    for i, batch in enumerate(
        lx.datasets.batches(data.train, 128, jax.random.key(1), endless=True)
    ):
        if i == steps:
            break
        states, aux = step(states, batch)

    each = jax.vmap(lambda params: model.predict(params, data.test.input))(states.params)
    labels = data.test.target
    alone = -jnp.mean(each.log_prob(labels))
    # The members' probabilities averaged: a mixture, one component a member.
    together = -jnp.mean(jax.nn.logsumexp(each.log_prob(labels), axis=0) - jnp.log(members))
    print(f"held-out nats: a member alone {alone:.4f}, {members} together {together:.4f}")
    return float(alone), float(together)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--members", type=int, default=5)
    options = parser.parse_args()
    main(options.steps, options.members)
