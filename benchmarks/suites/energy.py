"""Energy models: Gibbs sweeps, annealed importance sampling and InfoNCE, beside plain JAX and thrml."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _table import Table
from _timing import importable, interleaved, median, ratio

import likelax as lx

KEY = jax.random.key(0)
COUPLING = 0.4
Contenders = dict[str, Callable[[], Any]]


def run(quick: bool) -> Table:
    """Gibbs on a lattice and on restricted and deep machines, then annealing."""
    table = Table(
        title="energy: Gibbs sweeps, annealing, and contrasts of a large batch",
        method=(
            "How many block Gibbs sweeps of a chain, or temperatures of annealed importance sampling, "
            "each contender does in a second, one sweep at each temperature. By hand: what a competent "
            "person writes in plain JAX; on the lattice whole rows are shifted, and each colour draws "
            "for all units. thrml: an `IsingSamplingProgram` with the same couplings as spins, vmapped "
            "over chains. What the contenders "
            "find is checked to agree before it is timed. Compiled, contenders in turn; medians, and "
            "ratios of times as medians of the ratios within a round: lower is better for likelax. Last, "
            "InfoNCE: loss and gradients by both embeddings, and the memory that the compiled program "
            "has for what is neither argument nor result; by hand the whole matrix of similarities is held."
        ),
        columns=[
            *("what", "likelax", "by hand", "likelax / by hand", "thrml", "likelax / thrml"),
        ],
    )
    rounds, side, sizes = (3, 8, (20, 12, 8)) if quick else (15, 64, (784, 500, 500))
    for chains, sweeps in ((1, 400), (16, 50)):
        contenders, unit = ising(side, chains, sweeps // (10 if quick else 1))
        _row(table, f"Ising {side}x{side}, {_chains(chains)}", contenders, unit, rounds)
    for chains, sweeps in ((1, 200), (100, 50)):
        contenders, unit = restricted(sizes[:2], chains, sweeps)
        _row(table, f"RBM {_sizes(sizes[:2])}, {_chains(chains)}", contenders, unit, rounds)
    for chains, sweeps in ((1, 200), (100, 50)):
        contenders, unit = deep(sizes, chains, sweeps)
        _row(table, f"deep {_sizes(sizes)}, {_chains(chains)}", contenders, unit, rounds)
    contenders, unit = annealing(sizes[:2], 100, 100)
    _row(table, f"AIS of RBM {_sizes(sizes[:2])}, 100 chains", contenders, unit, rounds)
    contrastive(table, *((256, 32, 2) if quick else (8192, 128, 5)))
    if not importable("thrml"):
        table.notes.append("Not importable here: thrml.")
    return table


def _sizes(sizes: tuple[int, ...]) -> str:
    return "-".join(map(str, sizes))


def _chains(count: int) -> str:
    return f"{count} chain" + "s" * (count > 1)


def _row(table: Table, what: str, contenders: Contenders, units: int, rounds: int) -> None:
    """A row: how many units of work a second each does."""
    seconds = interleaved(contenders, rounds)
    cells = [what, f"{units / median(seconds, 'likelax'):,.0f}/s"]
    for name in ("by hand", "thrml"):
        if name not in seconds:
            cells += ["", ""]
            continue
        cells += [f"{units / median(seconds, name):,.0f}/s"]
        cells += [f"{ratio(seconds, 'likelax', name):.2f}"]
    table.add(*cells)


def _agree(found: dict[str, Any], tolerance: float) -> None:
    """Raises unless all contenders find the same number."""
    first = next(iter(found.values()))
    for name, value in found.items():
        if not abs(value - first) < tolerance:
            raise AssertionError(f"{name} finds {value}, likelax {first}")


def draw(key: jax.Array, logits: jax.Array) -> jax.Array:
    """Bits, as numbers of the dtype of the logits."""
    return (jax.random.uniform(key, logits.shape) < jax.nn.sigmoid(logits)).astype(logits.dtype)


# The lattice.


def ising(side: int, chains: int, sweeps: int) -> tuple[Contenders, int]:
    """Sweeps over spins, each coupled to the four next to it."""
    model = lx.energy.BoltzmannMachine.lattice((side, side), coupling=COUPLING)
    start = jnp.where(jax.random.bernoulli(KEY, 0.5, (chains, side * side)), 1.0, -1.0)
    contenders: Contenders = {
        "likelax": lambda: model.gibbs(KEY, start, sweeps=sweeps),
        "by hand": functools.partial(lattice_by_hand, KEY, start, side, sweeps),
    }
    if importable("thrml"):
        contenders["thrml"] = thrml_sweeps(model, start, sweeps)
    _agree(
        {
            name: float(jnp.mean(model.unnormalized_log_prob(call()))) / side**2
            for name, call in contenders.items()
        },
        6 / (side * math.sqrt(chains)),
    )
    return contenders, chains * sweeps


@functools.partial(jax.jit, static_argnums=(2, 3))
def lattice_by_hand(key: jax.Array, x: jax.Array, side: int, sweeps: int) -> jax.Array:
    """Checkerboard updates of `(chains, side, side)` spins."""
    even = np.indices((side, side)).sum(0) % 2 == 0

    def half(key: jax.Array, x: jax.Array, colour: np.ndarray) -> jax.Array:
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1)))
        across = padded[:, 1:-1, 2:] + padded[:, 1:-1, :-2]
        along = padded[:, 2:, 1:-1] + padded[:, :-2, 1:-1]
        return jnp.where(colour, 2 * draw(key, 2 * COUPLING * (across + along)) - 1, x)

    def sweep(x: jax.Array, k: jax.Array) -> tuple[jax.Array, None]:
        first, second = jax.random.split(jax.random.fold_in(key, k))
        return half(second, half(first, x, even), ~even), None

    shape = x.shape
    x = jax.lax.scan(sweep, x.reshape((-1, side, side)), jnp.arange(sweeps))[0]
    return x.reshape(shape)


def thrml_sweeps(model: Any, start: jax.Array, sweeps: int) -> Callable[[], Any]:
    """The same sweeps by thrml's program, as spins in the order of the model's units."""
    from thrml import Block, SamplingSchedule, SpinNode, sample_states
    from thrml.models import IsingEBM, IsingSamplingProgram

    coupling, bias = as_spins(model)
    nodes = [SpinNode() for _ in range(model.graph.num_units)]
    pairs = [(nodes[i], nodes[j]) for i, j in model.graph.edges.tolist()]
    energy = IsingEBM(nodes, pairs, bias, coupling, jnp.asarray(1.0))
    colours = model.graph.colours
    blocks = [Block([nodes[i] for i in units.tolist()]) for units in colours]
    program = IsingSamplingProgram(energy, blocks, clamped_blocks=[])
    schedule = SamplingSchedule(n_warmup=sweeps, n_samples=1, steps_per_sample=1)
    back = np.argsort(np.concatenate(colours))

    @jax.jit
    @jax.vmap
    def chain(key: jax.Array, x: jax.Array) -> jax.Array:
        states = [x[units] > 0 for units in colours]
        drawn = sample_states(key, program, schedule, states, [], blocks)
        up = jnp.concatenate([x[0] for x in drawn])[back]
        return jnp.where(up, 1.0, -1.0 if model.spins else 0.0)

    return functools.partial(chain, jax.random.split(KEY, len(start)), start)


def as_spins(model: Any) -> tuple[jax.Array, jax.Array]:
    """Couplings and biases between spins: bits are (1 + s) / 2."""
    if model.spins:
        return model.coupling, model.bias
    seen = np.zeros(model.graph.num_units)
    for end in model.graph.edges.T:
        np.add.at(seen, end, np.asarray(model.coupling))
    return model.coupling / 4, jnp.asarray(np.asarray(model.bias) / 2 + seen / 4, jnp.float32)


# Layers.


def layers(sizes: tuple[int, ...]) -> tuple[list[jax.Array], list[jax.Array]]:
    """Weights and biases."""
    keys = jax.random.split(KEY, len(sizes))
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    weights = [0.05 * jax.random.normal(k, s) for k, s in zip(keys[1:], pairs, strict=True)]
    biases = [
        0.1 * jax.random.normal(jax.random.fold_in(keys[0], i), (n,)) for i, n in enumerate(sizes)
    ]
    return weights, biases


def restricted(sizes: tuple[int, ...], chains: int, sweeps: int) -> tuple[Contenders, int]:
    """Sweeps of a restricted machine."""
    (weight,), biases = layers(sizes)
    model = lx.energy.RBM(weight, *biases)
    start = draw(KEY, jnp.zeros((chains, sizes[0])))
    contenders: Contenders = {
        "likelax": lambda: model.gibbs(KEY, start, sweeps=sweeps),
        "by hand": functools.partial(rbm_by_hand, KEY, weight, *biases, start, sweeps),
    }
    if importable("thrml"):
        whole = lx.energy.BoltzmannMachine.deep([weight], biases)
        both = jnp.concatenate([start, jnp.zeros((chains, sizes[1]))], -1)
        contenders["thrml"] = thrml_sweeps(whole, both, sweeps)
    found = {name: float(jnp.mean(call()[:, : sizes[0]])) for name, call in contenders.items()}
    _agree(found, 6 / math.sqrt(chains * sizes[0]))
    return contenders, chains * sweeps


@functools.partial(jax.jit, static_argnums=5)
def rbm_by_hand(
    key: jax.Array, weight: jax.Array, a: jax.Array, b: jax.Array, v: jax.Array, sweeps: int
) -> jax.Array:
    """Hidden units, then visible ones."""

    def sweep(v: jax.Array, k: jax.Array) -> tuple[jax.Array, None]:
        first, second = jax.random.split(jax.random.fold_in(key, k))
        h = draw(first, v @ weight + b)
        return draw(second, h @ weight.T + a), None

    return jax.lax.scan(sweep, v, jnp.arange(sweeps))[0]


def deep(sizes: tuple[int, ...], chains: int, sweeps: int) -> tuple[Contenders, int]:
    """Sweeps of a deep machine."""
    weights, biases = layers(sizes)
    model = lx.energy.BoltzmannMachine.deep(weights, biases)
    start = draw(KEY, jnp.zeros((chains, sum(sizes))))
    contenders: Contenders = {
        "likelax": lambda: model.gibbs(KEY, start, sweeps=sweeps),
        "by hand": functools.partial(deep_by_hand, KEY, weights, biases, start, sweeps),
    }
    found = {name: float(jnp.mean(call())) for name, call in contenders.items()}
    _agree(found, 6 / math.sqrt(chains * sum(sizes)))
    return contenders, chains * sweeps


@functools.partial(jax.jit, static_argnums=4)
def deep_by_hand(
    key: jax.Array, weights: list[jax.Array], biases: list[jax.Array], x: jax.Array, sweeps: int
) -> jax.Array:
    """The layers of even number, then the one between."""
    (w, u), (a, b, c) = weights, biases

    def sweep(x: Any, k: jax.Array) -> tuple[Any, None]:
        first, second, third = jax.random.split(jax.random.fold_in(key, k), 3)
        _, h, _ = x
        v, g = draw(first, h @ w.T + a), draw(second, h @ u + c)
        return (v, draw(third, v @ w + g @ u.T + b), g), None

    ends = np.cumsum([len(b) for b in biases])[:-1]
    parts = tuple(jnp.split(x, ends, axis=-1))
    return jnp.concatenate(jax.lax.scan(sweep, parts, jnp.arange(sweeps))[0], -1)


# Annealing.


def annealing(sizes: tuple[int, ...], chains: int, steps: int) -> tuple[Contenders, int]:
    """log Z of a restricted machine."""
    (weight,), biases = layers(sizes)
    model = lx.energy.RBM(weight, *biases)

    def ours() -> jax.Array:
        options = {"method": "ais", "num_chains": chains, "betas": steps}
        return lx.energy.log_partition(model, KEY, **options).log_z

    contenders: Contenders = {
        "likelax": ours,
        "by hand": functools.partial(ais_by_hand, KEY, weight, *biases, chains, steps),
    }
    _agree({name: float(call()) for name, call in contenders.items()}, 3.0)
    return contenders, chains * steps


@functools.partial(jax.jit, static_argnums=(4, 5))
def ais_by_hand(
    key: jax.Array, weight: jax.Array, a: jax.Array, b: jax.Array, chains: int, steps: int
) -> jax.Array:
    """Weights and hidden biases times an inverse temperature; the visible biases stay."""
    softplus = jax.nn.softplus

    def step(carry: Any, t: jax.Array) -> tuple[Any, None]:
        v, log_weight = carry
        now, before = t / steps, (t - 1) / steps
        first, second = jax.random.split(jax.random.fold_in(key, t))
        seen = v @ weight + b
        log_weight += jnp.sum(softplus(now * seen) - softplus(before * seen), -1)
        h = draw(first, now * seen)
        return (draw(second, now * (h @ weight.T) + a), log_weight), None

    v = draw(key, jnp.broadcast_to(a, (chains, len(a))))
    start = jnp.full(chains, jnp.sum(softplus(a)) + len(b) * math.log(2))
    log_weight = jax.lax.scan(step, (v, start), jnp.arange(1, steps + 1))[0][1]
    return jax.nn.logsumexp(log_weight) - math.log(chains)


# InfoNCE.


def contrastive(table: Table, batch: int, features: int, rounds: int) -> None:
    """Rows of time and memory of a batch of pairs."""
    net: Any = (lambda key, x: {}, lambda params, x: x)
    model = lx.energy.InfoNCE(net, net, temperature=0.1, normalize=False, symmetric=False)
    keys = jax.random.split(KEY, 2)
    pairs = [jax.random.normal(k, (batch, features)) / math.sqrt(features) for k in keys]
    params, state = model.init(KEY, lx.Batch(target=pairs[1], input=pairs[0]))

    def ours(z: jax.Array, w: jax.Array) -> jax.Array:
        return model(params, KEY, lx.Batch(target=w, input=z), state=state)[0]

    def by_hand(z: jax.Array, w: jax.Array) -> jax.Array:
        return -jnp.mean(jnp.diagonal(jax.nn.log_softmax(z @ w.T / 0.1, axis=-1)))

    programs = {
        name: jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*pairs).compile()
        for name, loss in (("likelax", ours), ("by hand", by_hand))
    }
    calls = {name: functools.partial(program, *pairs) for name, program in programs.items()}
    _agree({name: float(call()[0]) for name, call in calls.items()}, 1e-3)
    what = f"InfoNCE, {batch} pairs of {features} numbers"
    seconds = interleaved(calls, rounds)
    own, hand = (f"{1e3 * median(seconds, name):,.0f} ms" for name in calls)
    table.add(f"{what}, time", own, hand, f"{ratio(seconds, 'likelax', 'by hand'):.2f}", "", "")
    held = {n: p.memory_analysis().temp_size_in_bytes / 2**20 for n, p in programs.items()}
    own, hand = (f"{held[name]:,.1f} MiB" for name in calls)
    table.add(f"{what}, memory", own, hand, f"{held['likelax'] / held['by hand']:.3f}", "", "")
