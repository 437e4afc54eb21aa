"""Contrastive objectives on a mesh of four devices; a program of its own, as their number is fixed once.

Prints how far losses and gradients are from those of one device, and how far the loss of one device's own
negatives is.
"""

import json
import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import likelax as lx
from likelax.energy import RBM, ConditionalNCE, InfoNCE, SimCLR
from likelax.testing.subject import quick_jit

KEY, COUNT = jax.random.key(0), 16
RNG = np.random.default_rng(0)
X = RNG.normal(size=(COUNT, 5)).astype(np.float32)
Y = X + 0.5 * RNG.normal(size=(COUNT, 5)).astype(np.float32)
BITS = (X > 0).astype(np.float32)
ENCODER = (
    lambda key, x: {"kernel": jax.random.normal(key, (5, 4))},
    lambda params, x: x @ params["kernel"],
)
MACHINE = RBM.random(KEY, 5, 3)


def cases(axis):
    """Objectives and batches; `axis` names the mesh axis where it is Auto."""
    options = {"block_size": 3, "data_axis": axis}
    flips = lambda x: lx.Bernoulli(probs=jnp.where(x == 1, 0.7, 0.2)).to_event()  # noqa: E731
    return {
        "two towers": (InfoNCE(ENCODER, temperature=lx.learned(0.3), **options), Y, X),
        "two views": (SimCLR(ENCODER, **options), Y, X),
        "noise of the data": (ConditionalNCE(MACHINE, flips, num_noise=2), BITS, None),
    }


def asked(given, mesh=None):
    """The loss and its gradient."""
    objective, target, input = given
    batch = lx.Batch(target, input, mask=np.arange(COUNT) < COUNT - 2)
    params, state = objective.init(KEY, batch)
    if mesh is not None:
        batch = jax.device_put(batch, NamedSharding(mesh, P("data")))

    def loss(params, batch):
        return objective(params, KEY, batch, state=state)[0]

    found = quick_jit(jax.value_and_grad(loss))(params, batch)
    return [np.asarray(x, np.float64) for x in jax.tree.leaves(found)]


def main():
    alone = {name: asked(given) for name, given in cases(None).items()}
    out = {}
    for kind, axis_type in (("explicit", AxisType.Explicit), ("auto", AxisType.Auto)):
        mesh = jax.make_mesh((4,), ("data",), axis_types=(axis_type,))
        chosen = cases("data" if kind == "auto" else None)
        if kind == "auto":  # the same program but for how it learns of the mesh
            chosen = {"two towers": chosen["two towers"]}
        with jax.set_mesh(mesh):
            out[kind] = {
                name: max(
                    float(np.max(np.abs(a - b)) / (1 + np.max(np.abs(b))))
                    for a, b in zip(asked(given, mesh), alone[name], strict=True)
                )
                for name, given in chosen.items()
            }
    objective, *_ = cases(None)["two towers"]
    params, state = objective.init(KEY, lx.Batch(Y, X))
    own = lx.Batch(Y.reshape(4, -1, 5), X.reshape(4, -1, 5))
    parts = quick_jit(jax.vmap(lambda part: objective(params, KEY, part, state=state)[0]))(own)
    out["apart"] = abs(float(parts.mean()) - float(alone["two towers"][0]))
    with jax.set_mesh(mesh):
        objective, *_ = cases("data")["two towers"]
        try:
            objective(params, KEY, lx.Batch(Y[1:], X[1:]), state=state)
        except ValueError as error:
            out["uneven"] = str(error)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
