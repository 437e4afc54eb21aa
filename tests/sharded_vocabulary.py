"""A vocabulary head on a mesh of four devices; a program of its own, as their number is fixed once.

Prints, for each case: how far values and gradients are from those of one device, and what the
compiled program sends between devices.
"""

import functools
import json
import math
import os
import re
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import likelax as lx
from likelax.testing.subject import quick_jit

TOKENS, FEATURES, COLUMNS = (4, 24), 8, 208
SENT = r"= (.*?) (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
BYTES = {"f32": 4, "s32": 4, "u32": 4, "u16": 2, "bf16": 2, "pred": 1}


def arrays(dtype="float32"):
    rng = np.random.default_rng(0)
    hidden, kernel, bias = (
        rng.normal(size=s) for s in ((*TOKENS, FEATURES), (FEATURES, COLUMNS), COLUMNS)
    )
    token, weight = rng.integers(0, COLUMNS, TOKENS), rng.normal(size=TOKENS)
    bias[COLUMNS // 4 : COLUMNS // 2] = -np.inf  # of one device all columns are excluded
    token = np.where((token >= COLUMNS // 4) & (token < COLUMNS // 2), 5, token)
    floats = [jnp.asarray(x, dtype) for x in (hidden, kernel, bias)]
    return [*floats, jnp.asarray(weight, jnp.float32), jnp.asarray(token)]


def numbers(weighted, total=lambda x: x, **keywords):
    """Values and gradients of a training loss, of every number of each token, or of KL to and from
    logits that are "held".
    """

    def head(hidden, kernel, bias):
        return lx.LinearCategorical(hidden, kernel, bias, block_size=20, **keywords)

    def loss(hidden, kernel, bias, weight, token):
        each, log_prob = head(hidden, kernel, bias).weighted_log_prob(token, weight)
        return total(each), log_prob

    def parts(hidden, kernel, bias, weight, token):
        dist = head(hidden, kernel, bias)
        each = weight * dist.log_prob(token) + dist.entropy() * jnp.cos(dist.log_normalizer())
        return total(jnp.sum(each)), dist.mode()

    def held(hidden, kernel, bias, weight, token):
        dist = head(hidden, kernel, bias)
        logits = jnp.cos(weight[..., None] * jnp.arange(kernel.shape[-1]))
        other = lx.Categorical(logits=logits)
        each = dist.kl_divergence(other) + 2 * other.kl_divergence(dist)
        return total(jnp.sum(each)), each

    function = held if weighted == "held" else loss if weighted else parts
    return jax.value_and_grad(function, (0, 1, 2, 3), has_aux=True)


def inside(mesh, tokens, columns):
    """The same inside a `jax.shard_map` of one's own."""

    def make(weighted):
        def total(x):
            return jax.lax.psum(x, tokens) if tokens else x

        own = numbers(weighted, total, vocabulary_axis=columns)
        specs = P(tokens), P(None, columns), P(columns), P(tokens), P(tokens)
        # The gradient is taken inside, of a loss that is the same everywhere.
        return jax.shard_map(
            own, mesh=mesh, in_specs=specs, out_specs=((P(), P(tokens)), specs[:4])
        )

    return make


def sent(text):
    """(kind, bytes, whether inside a loop) of all that goes between devices in a compiled program."""
    found, entry = [], False
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith(" "):
            entry = line.startswith("ENTRY")
        match = re.search(SENT, line)
        for dtype, shape in re.findall(r"(\w+)\[([\d,]*)\]", match[1]) if match else ():
            size = BYTES[dtype] * math.prod(int(n) for n in shape.split(",") if n)
            found.append((match[2], size, not entry))
    return found


def distance(got, want):
    """The largest error over all arrays, each relative to its largest element."""

    def error(g, w):
        g, w = (np.nan_to_num(np.asarray(x, np.float64), neginf=-1e3) for x in (g, w))
        return np.max(np.abs(g - w)) / np.max(np.abs(w))

    return max(map(error, jax.tree.leaves(got), jax.tree.leaves(want)))


def case(weighted, kind, tokens, columns, how="keywords", dtype="float32"):
    """How far off, and what is sent. `how` the head learns of the mesh: by its "keywords" or the
    types, "inside" a shard_map, or not at all, which leaves it to the compiler: "nothing".
    """
    shape = {
        name: 4 // len([n for n in (tokens, columns) if n]) for name in (tokens, columns) if name
    }
    axis_type = AxisType.Explicit if kind == "explicit" else AxisType.Auto
    mesh = jax.make_mesh(tuple(shape.values()), tuple(shape), axis_types=(axis_type,) * len(shape))
    specs = P(tokens), P(None, columns), P(columns), P(tokens), P(tokens)
    placed = [
        jax.device_put(x, NamedSharding(mesh, spec))
        for x, spec in zip(arrays(dtype), specs, strict=True)
    ]
    if how == "inside":
        make = inside(mesh, tokens, columns)
    elif how == "nothing":
        make = numbers
    else:
        keywords = {"vocabulary_axis": columns, "batch_spec": P(tokens)} if kind == "auto" else {}
        make = lambda weighted: numbers(weighted, **keywords)  # noqa: E731
    program = quick_jit(make(weighted)).lower(*placed).compile()
    return distance(program(*placed), of_one_device(weighted, dtype)), sent(program.as_text())


@functools.cache
def of_one_device(weighted, dtype):
    return quick_jit(numbers(weighted))(*arrays(dtype))


def main():
    chosen = [json.loads(argument) for argument in sys.argv[1:]]
    print(json.dumps([case(*arguments) for arguments in chosen]))


if __name__ == "__main__":
    main()
