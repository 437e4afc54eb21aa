"""Chains on a mesh of four devices; a program of its own, as their number is fixed once.

Prints, for each case: how far loss, gradients and state are from those of one device, how far the chains
have moved, and how they are divided.
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
from likelax.testing.subject import quick_jit

KEY = jax.random.key(0)
RBM = lx.energy.RBM.random(KEY, 6, 4, scale=1.0)
BITS = (np.random.default_rng(0).random((8, 6)) > 0.5).astype(np.float32)
AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit
PCD = lx.energy.PersistentContrastiveDivergence
CASES = {
    "contrastive divergence": (lx.energy.ContrastiveDivergence(RBM, 2), [EXPLICIT]),
    "persistent": (PCD(RBM, 2, num_chains=4, buffer_size=8, restart_prob=0.2), [AUTO, EXPLICIT]),
    "units": (lx.energy.PseudoLikelihood(RBM, num_units=2), [EXPLICIT]),
}


def place(tree, mesh, *axes):
    return jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, P(*axes))), tree)


def largest(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(np.asarray(x) - np.asarray(y)).max()) for x, y in pairs)


def measured(objective, kind):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
    batch = lx.Batch(jnp.asarray(BITS))
    params, state = objective.init(KEY, batch)
    grad = jax.value_and_grad(objective, has_aux=True)
    (loss, aux), grads = quick_jit(grad)(params, KEY, batch, state=state)
    wanted = loss, grads, aux.state
    with jax.set_mesh(mesh):
        args = place((params, KEY), mesh), place((batch, state), mesh, "data")
        (loss, aux), grads = quick_jit(grad)(*args[0], args[1][0], state=args[1][1])
    moved, spec = 1.0, ""
    if state:
        moved = largest(aux.state["chains"].x, state["chains"].x)
        spec = (*aux.state["chains"].x.sharding.spec, "")[0]
    return largest((loss, grads, aux.state), wanted), moved, spec


print(
    json.dumps(
        {
            f"{name}, {kind.name}": measured(objective, kind)
            for name, (objective, kinds) in CASES.items()
            for kind in kinds
        }
    )
)
