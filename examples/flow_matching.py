"""Flow matching on two moons, and the exact likelihood of what was learnt.

    python examples/flow_matching.py

A network learns the velocity that carries noise onto two half-circles, by least squares: a loss that is
no likelihood. The density that this velocity makes of the noise is asked for afterwards, along the
differential equation, and stands beside the entropy of the moons, 1.0076 nats: on average no model's
loss on new points is below it.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import make_moons

import likelax as lx

ENTROPY = 1.0076  # of the moons, by numerical integration
FEATURES = 128  # of each hidden layer
CELLS = (120, 80)  # of the picture of the density


class Velocity(nnx.Module):
    """dz/dt of z (batch, 2) at times t (batch,)."""

    def __init__(self, *, rngs: nnx.Rngs):
        sizes = [2 + 8, FEATURES, FEATURES, FEATURES]
        layers = zip(sizes[:-1], sizes[1:], strict=True)
        self.hidden = nnx.List([nnx.Linear(*pair, rngs=rngs) for pair in layers])
        self.last = nnx.Linear(FEATURES, 2, rngs=rngs)

    def __call__(self, z: jax.Array, t: jax.Array) -> jax.Array:
        angles = jnp.pi * jnp.arange(1, 5) * t[:, None]
        x = jnp.concatenate([z, jnp.sin(angles), jnp.cos(angles)], -1)
        for layer in self.hidden:
            x = jax.nn.silu(layer(x))
        return self.last(x)


def moons(count: int, seed: int) -> np.ndarray:
    return make_moons(count, noise=0.1, random_state=seed)[0].astype(np.float32)


def draw(out: Path, likelihood: lx.diffusion.ODELikelihood, params: dict, test: np.ndarray) -> None:
    """The points, as many samples, and the density."""
    key, reach = jax.random.key(3), ((-1.6, 2.6), (-1.1, 1.6))
    drawn = lx.diffusion.reflow(likelihood.model, params, key, (2000, 2)).target
    sides = [np.linspace(*r, n) for r, n in zip(reach, CELLS, strict=True)]
    grid = np.stack(np.meshgrid(*sides), -1)
    cells = lx.Batch(grid.reshape(-1, 2).astype(np.float32))
    p = np.exp(lx.diffusion.ode_log_prob(likelihood.model, params, key, cells).log_prob)
    figure, axes = lx.plotting.panels(3, width=3.6, height=3.2)
    titles = (f"points: {ENTROPY} nats", "samples", "density")
    for axis, points, title in zip(axes, (test[:2000], drawn, None), titles, strict=True):
        if points is not None:
            axis.plot(*points.T, ".", markersize=1, color="0.2")
        axis.set(title=title, xlim=reach[0], ylim=reach[1])
    extent = (*reach[0], *reach[1])
    image = p.reshape(grid.shape[:2])
    axes[2].imshow(image, origin="lower", extent=extent, aspect="auto", cmap="magma", vmax=0.7)
    lx.plotting.save(figure, out)


def main(steps: int, out: Path, count: int = 20_000, held_out: int = 4000) -> lx.Evaluation:
    out.mkdir(parents=True, exist_ok=True)
    train, test = moons(count, 0), moons(held_out, 1)
    data = lx.diffusion.Real(train.mean(0), train.std(0))
    model = lx.diffusion.FlowMatching(Velocity, path="linear", data=data)
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    batches = lx.datasets.batches(lx.Batch(train), 1024, jax.random.key(1), endless=True)
    params = lx.train.fit(model, optimizer, batches, steps=steps, key=jax.random.key(0)).params

    likelihood = lx.diffusion.ODELikelihood(model)
    score = lx.evaluate(likelihood, params, jax.random.key(2), lx.Batch(test))
    print(f"flow matching: {score}; the truth itself has {ENTROPY} nats")
    draw(out / "flow_matching.png", likelihood, params, test)
    print("figure:", out / "flow_matching.png")
    return score


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--out", type=Path, default=Path("flow_matching"))
    options = parser.parse_args()
    main(options.steps, options.out)
