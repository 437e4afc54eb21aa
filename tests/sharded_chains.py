"""Chains on a mesh of four devices; a program of its own, as their number is fixed once.

Prints, for each kind of mesh: how far loss, gradients and state of each objective are from those of one
device, how far the chains have moved, and how they are divided.
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
PCD = lx.energy.PersistentContrastiveDivergence
CASES = {
    "contrastive divergence": lx.energy.ContrastiveDivergence(RBM, 2),
    "persistent": PCD(RBM, 2, num_chains=4, buffer_size=8, restart_prob=0.2),
    "units": lx.energy.PseudoLikelihood(RBM, num_units=2),
}
STATES = {
    name: {"net": (), "chains": lx.samplers.PersistentChains(jnp.asarray(BITS), restart_prob=0.2)}
    if name == "persistent"
    else ()
    for name in CASES
}


@quick_jit
def ask(params, key, batch, states):
    out = {}
    for name, objective in CASES.items():
        grad = jax.value_and_grad(objective, has_aux=True)
        (loss, aux), grads = grad(params, key, batch, state=states[name])
        out[name] = loss, grads, aux.state
    return out


def place(tree, mesh, *axes):
    return jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, P(*axes))), tree)


def largest(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(np.asarray(x) - np.asarray(y)).max()) for x, y in pairs)


def measured(kind):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        found = ask(*place((RBM, KEY), mesh), *place((lx.Batch(BITS), STATES), mesh, "data"))
    chains = found["persistent"][2]["chains"].x
    moved = largest(chains, BITS)
    errors = {name: largest(found[name], wanted[name]) for name in CASES}
    return errors, moved, chains.sharding.spec[0]


wanted = ask(RBM, KEY, lx.Batch(jnp.asarray(BITS)), STATES)
print(json.dumps([measured(kind) for kind in (AxisType.Auto, AxisType.Explicit)]))
