"""Flows: what a density and a sample cost beside plain JAX, flowjax and distrax, and what depth costs
the compiler.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from _table import Table
from _timing import importable, interleaved, median, ratio
from suites._flow_peers import Flow, questions

import likelax as lx
from likelax.bijectors import Chain

PEERS = {"flowjax": "flowjax.flows", "distrax": "distrax"}
SIZE, HIDDEN = 8, (64, 64)


def run(quick: bool) -> Table:
    """Time per vector of flows of 8 layers, and seconds to compile 2 to 32 layers."""
    table = Table(
        title="flows: layers of vectors of 8 numbers",
        method=(
            "First, beside plain JAX: each layer is an ActNorm, an 8 x 8 matrix by its LU factors and "
            "an affine coupling by a perceptron of 64 x 64. By hand: the same layers in plain JAX, one "
            "after another in a Python loop, parameters and results the same. One after another: "
            "likelax's own layers in a Chain. Then, beside flowjax and distrax: 8 layers, each a "
            "permutation and a coupling of 4 numbers given 4, or a masked autoregressive map of all 8; "
            "perceptrons of 64 x 64, silu units, splines of 8 bins; parameters and densities the same "
            "in all three, float32. flowjax scans its layers, as likelax does; distrax has them one "
            "after another, and no autoregressive map. Gradient: of the mean log-density by all "
            "parameters. Times are medians of contenders in turn, per vector; ratios are medians of "
            "those within a round, so that they need not be quotients of the medians. Compilations "
            "are of new functions, without a cache. Lower is better."
        ),
        columns=[
            *("what", "likelax", "by hand", "likelax / by hand", "one after another"),
            *(cell for name in PEERS for cell in (name, f"likelax / {name}")),
        ],
    )
    rows, rounds = (256, 3) if quick else (1024, 30)
    jax.config.update("jax_enable_compilation_cache", False)
    _times(table, 8, rows, rounds)
    for layers in (2, 8) if quick else (2, 8, 32):
        _compilation(table, layers)
    for autoregressive in (False, True):
        for spline in (False, True):
            _beside_peers(table, Flow(autoregressive, spline, SIZE, 8, HIDDEN, rows), rounds)
    absent = [name for name, module in PEERS.items() if not importable(module)]
    if absent:
        table.notes.append(f"Not importable here: {', '.join(absent)}.")
    return table


def _beside_peers(table: Table, flow: Flow, rounds: int) -> None:
    """Rows of one flow."""
    asked, compiled = questions(flow)
    for what, calls in asked.items():
        seconds = interleaved(calls, rounds)
        times = {name: f"{1e9 * median(seconds, name) / flow.rows:.0f} ns" for name in calls}
        ratios = {name: ratio(seconds, "likelax", name) for name in calls}
        _peer_row(table, f"{flow.name}, {what}", times, ratios)
    ratios = {name: compiled["likelax"] / t for name, t in compiled.items()}
    times = {name: f"{t:.1f} s" for name, t in compiled.items()}
    _peer_row(table, f"{flow.name}, trace and compile the gradient", times, ratios)


def _peer_row(table: Table, what: str, times: dict[str, str], ratios: dict[str, float]) -> None:
    cells = [
        cell
        for name in PEERS
        for cell in ((times[name], f"{ratios[name]:.2f}") if name in times else ("", ""))
    ]
    table.add(what, times["likelax"], "", "", "", *cells)


def _flow(layers: int) -> Any:
    head = lx.flows.coupling_flow(SIZE, layers=layers, hidden=HIDDEN)
    bijector = head.init(jax.random.key(0), jnp.zeros(0))
    leaves, tree = jax.tree.flatten(bijector)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [
        leaf + 0.02 * jax.random.normal(key, leaf.shape)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return head, jax.tree.unflatten(tree, noisy)


def _unrolled(stack: Any) -> Chain:
    """The same layers in a Chain."""
    return Chain(tuple(stack.layers[i] for i in reversed(range(stack.num_layers))))


def _by_hand(bijector: Any, layers: int) -> tuple[Any, Callable[..., Any], Callable[..., Any]]:
    """Parameters, log-density and sample in plain JAX."""
    norm, linear, coupling = bijector.layers.bijectors
    factors = linear.bijector
    params = {
        "shift": norm.shift,
        "log_scale": norm.log_scale,
        "lower": factors.lower,
        "upper": factors.upper,
        "log_diagonal": factors.log_diagonal,
        "mlp": coupling.conditioner.params,
    }
    turn = jnp.array(factors.permutation)
    back = jnp.argsort(turn)
    split = SIZE // 2

    def of(params: Any, i: int) -> Any:
        return jax.tree.map(lambda leaf: leaf[i], params)

    def raw(p: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        for layer in p["mlp"][:-1]:
            x = jax.nn.silu(x @ layer["kernel"] + layer["bias"])
        out = (x @ p["mlp"][-1]["kernel"] + p["mlp"][-1]["bias"]).reshape(*x.shape[:-1], -1, 2)
        return out[..., 0], 5 * jnp.tanh(out[..., 1] / 5)

    def matrices(p: Any) -> tuple[jax.Array, jax.Array]:
        eye = jnp.eye(SIZE)
        lower = jnp.tril(p["lower"], -1) + eye
        return lower, jnp.triu(p["upper"], 1) + jnp.diag(jnp.exp(p["log_diagonal"]))

    def log_prob(params: Any, y: jax.Array) -> jax.Array:
        total = 0.0
        for i in reversed(range(layers)):
            p = of(params, i)
            y = (y - p["shift"]) * jnp.exp(-p["log_scale"])
            lower, upper = matrices(p)
            y = (y @ (lower @ upper).T)[..., turn]
            kept, rest = y[..., :split], y[..., split:]
            shift, log_scale = raw(p, kept)
            y = jnp.concatenate([kept, (rest - shift) * jnp.exp(-log_scale)], -1)
            total += jnp.sum(p["log_diagonal"] - p["log_scale"]) - jnp.sum(log_scale, -1)
        return total + jnp.sum(-0.5 * y**2 - 0.5 * jnp.log(2 * jnp.pi), -1)

    def sample(params: Any, key: jax.Array, rows: int) -> jax.Array:
        x = jax.random.normal(key, (rows, SIZE))
        solve = partial(jax.scipy.linalg.solve_triangular)
        for i in range(layers):
            p = of(params, i)
            kept, rest = x[..., :split], x[..., split:]
            shift, log_scale = raw(p, kept)
            x = jnp.concatenate([kept, shift + jnp.exp(log_scale) * rest], -1)
            lower, upper = matrices(p)
            x = solve(upper, solve(lower, x[..., back].T, lower=True)).T
            x = p["shift"] + jnp.exp(p["log_scale"]) * x
        return x

    return params, log_prob, sample


def _questions(layers: int, rows: int) -> dict[str, dict[str, Callable[[], Any]]]:
    """What is timed: contenders by question, compiled."""
    head, bijector = _flow(layers)
    x = jax.random.normal(jax.random.key(2), (rows, SIZE))
    key = jax.random.key(3)
    by_hand, log_prob, sample = _by_hand(bijector, layers)

    def score(bijector: Any, x: jax.Array) -> jax.Array:
        return head(jnp.zeros(0), bijector).log_prob(x)

    def draw(bijector: Any, key: jax.Array) -> jax.Array:
        return head(jnp.zeros(0), bijector).sample(key, (rows,))

    def mean(score: Callable[..., Any]) -> Callable[..., Any]:
        return jax.grad(lambda params, x: jnp.mean(score(params, x)))

    contenders = {
        "likelax": (bijector, score, draw),
        "by hand": (by_hand, log_prob, partial(sample, rows=rows)),
        "one after another": (_unrolled(bijector), score, draw),
    }
    questions: dict[str, dict[str, Callable[[], Any]]] = {
        "log_prob": {},
        "gradient": {},
        "sample": {},
    }
    for name, (params, score_, draw_) in contenders.items():
        questions["log_prob"][name] = partial(jax.jit(score_), params, x)
        questions["gradient"][name] = partial(jax.jit(mean(score_)), params, x)
        questions["sample"][name] = partial(jax.jit(draw_), params, key)
    results = [call() for call in questions["log_prob"].values()]
    for other in results[1:]:
        gap = float(jnp.max(jnp.abs(results[0] - other)))
        if not gap < 1e-2:
            raise AssertionError(f"the contenders do not compute the same: {gap}")
    return questions


def _times(table: Table, layers: int, rows: int, rounds: int) -> None:
    for what, calls in _questions(layers, rows).items():
        seconds = interleaved(calls, rounds)
        cells = [f"{1e9 * median(seconds, name) / rows:.0f} ns" for name in calls]
        table.add(
            f"{what}, per vector, {layers} layers",
            cells[0],
            cells[1],
            f"{ratio(seconds, 'likelax', 'by hand'):.2f}",
            cells[2],
            *[""] * (2 * len(PEERS)),
        )


def _compilation(table: Table, layers: int) -> None:
    head, bijector = _flow(layers)
    x = jnp.zeros((256, SIZE))
    by_hand, log_prob, _ = _by_hand(bijector, layers)

    def score(bijector: Any, x: jax.Array) -> jax.Array:
        return head(jnp.zeros(0), bijector).log_prob(x)

    def seconds(score: Callable[..., Any], params: Any) -> float:
        started = time.perf_counter()
        jax.jit(jax.grad(lambda p, x: jnp.mean(score(p, x)))).lower(params, x).compile()
        return time.perf_counter() - started

    seconds(score, bijector)  # traces what later ones share
    found = [
        seconds(score, bijector),
        seconds(log_prob, by_hand),
        seconds(score, _unrolled(bijector)),
    ]
    table.add(
        f"trace and compile the gradient, {layers} layers",
        *(f"{t:.1f} s" for t in found[:2]),
        f"{found[0] / found[1]:.2f}",
        f"{found[2]:.1f} s",
        *[""] * (2 * len(PEERS)),
    )
