"""Small networks of every kind, for the tests of objectives."""

import jax
import jax.numpy as jnp
from flax import linen, nnx


class Plain(nnx.Module):
    """Two layers."""

    def __init__(self, out: int, *, rngs: nnx.Rngs):
        self.first, self.last = nnx.Linear(2, 8, rngs=rngs), nnx.Linear(8, out, rngs=rngs)

    def __call__(self, x):
        return self.last(jnp.tanh(self.first(x)))


class Stateful(nnx.Module):
    """Batch statistics, and dropout from a stream with an unusual tag."""

    def __init__(self, out: int, *, rngs: nnx.Rngs):
        self.first, self.last = nnx.Linear(2, 8, rngs=rngs), nnx.Linear(8, out, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.List(
            [
                nnx.Dropout(0.5, rngs=nnx.Rngs(odd=3), rng_collection="odd"),
                nnx.Dropout(0.1, rngs=rngs),
            ]
        )

    def __call__(self, x):
        x = self.norm(jnp.tanh(self.first(x)))
        for drop in self.drop:
            x = drop(x)
        return self.last(x)


class Linen(linen.Module):
    """The same with Linen."""

    out: int

    @linen.compact
    def __call__(self, x, train: bool):
        x = linen.BatchNorm(use_running_average=not train)(jnp.tanh(linen.Dense(8)(x)))
        x = linen.Dropout(0.5, deterministic=not train, rng_collection="odd")(x)
        return linen.Dense(self.out)(x)


def linear(out: int):
    """A matrix, as a pair of functions."""
    return (
        lambda key, x: {"w": 0.3 * jax.random.normal(key, (x.shape[-1], out))},
        lambda params, x: x @ params["w"],
    )


def causal(out: int, vocabulary: int, *, peek: int = 0, features: int = 4):
    """A running mean of embeddings and a matrix; `peek` positions ahead are seen, as none must."""

    def init(key, previous, *_):
        a, b = jax.random.split(key)
        embed = jax.random.normal(a, (vocabulary + 1, features))
        return {"embed": embed, "out": jax.random.normal(b, (2 * features, out))}

    def apply(params, previous, input=None, segments=None):
        x = params["embed"][previous]
        if input is not None:
            x = x + input[:, None, :]
        x = jnp.roll(x, -peek, axis=1)
        same = jnp.ones((1,) + 2 * x.shape[1:2], bool)
        if segments is not None:
            same = segments[:, :, None] == segments[:, None, :]
        seen = (jnp.tril(same) / x.shape[1]).astype(x.dtype)
        total = jnp.einsum("bts,bsf->btf", seen, x)
        return jnp.concatenate([x, jnp.tanh(3 * total)], -1) @ params["out"]

    return init, apply
