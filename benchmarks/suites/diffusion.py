"""Diffusion: a training step, samplers, and what it takes to compile them, against hand-written JAX."""

import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _table import Table
from _timing import interleaved, many, median, ratio

import likelax as lx

GOAL = 1.05
# (batch, numbers an example, hidden units)
SIZES = (128, 784, 512)
QUICK = (16, 64, 32)
OPTIMIZER = optax.adam(1e-3)
PROCESS = lx.diffusion.Process("variance_preserving", lx.diffusion.Cosine())
STEPS = 50
Params = Any


def run(quick: bool) -> Table:
    """A row for the training step, for each sampler, and for each number of steps to compile."""
    batch, size, hidden = QUICK if quick else SIZES
    table = Table(
        title="diffusion: training, sampling, compiling",
        method=(
            f"Examples of {size} numbers, {batch} at a time; a network of two layers of {hidden} tanh "
            "units that predicts the noise, on a cosine schedule. By hand: what a competent person writes, "
            "with one random key for the batch (likelax gives each example its own). A training step is "
            f"loss, gradients and Adam; a sampler takes {STEPS} steps, written by hand as one "
            "`jax.lax.scan`. Compiled, contenders in turn; medians, and ratios as medians of the ratios "
            "within a round. Lower is better."
        ),
        columns=["what", "by hand", "likelax", "likelax / hand", "goal"],
    )
    rounds = 3 if quick else 30
    params = network(size, hidden)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(batch, size)), jnp.float32)
    training(table, params, x, 4 * rounds)
    for name in HAND:
        sampling(table, name, params, (batch, size), rounds)
    for steps in (10, 100, 1000):
        compiling(table, steps, params, (batch, size), 1 if quick else 5)
    return table


def network(size: int, hidden: int) -> Params:
    """Parameters."""
    shapes = {"a": (size + 1, hidden), "b": (hidden, hidden), "c": (hidden, size)}
    keys = jax.random.split(jax.random.key(1), 3)
    return {
        name: jax.random.normal(key, shape) / math.sqrt(shape[0])
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def apply(params: Params, z: jax.Array, t: jax.Array) -> jax.Array:
    """The noise in z at times t, one for each row."""
    h = jnp.tanh(jnp.concatenate([z, t[:, None]], axis=-1) @ params["a"])
    return jnp.tanh(h @ params["b"]) @ params["c"]


def denoising() -> Any:
    """The same network in likelax; its parameters are given."""
    net: Any = (lambda key, *parts: {}, apply)
    return lx.diffusion.Denoising(
        PROCESS, net, "noise", "simple", level="time", times="independent"
    )


# Training.


def hand_loss(params: Params, key: jax.Array, x: jax.Array) -> jax.Array:
    """Half the squared error of the noise."""
    key_t, key_e = jax.random.split(key)
    t = jax.random.uniform(key_t, x.shape[:1])
    e = jax.random.normal(key_e, x.shape)
    angle = 0.5 * math.pi * t[:, None]
    z = jnp.cos(angle) * x + jnp.sin(angle) * e
    return 0.5 * jnp.mean(jnp.sum((apply(params, z, t) - e) ** 2, axis=-1))


def training(table: Table, params: Params, x: jax.Array, rounds: int) -> None:
    """A row: a whole training step of each."""
    model, key = denoising(), jax.random.key(0)

    @partial(jax.jit, donate_argnums=(0, 1))
    def hand_step(params: Params, opt_state: Any, step: jax.Array) -> Any:
        value, grads = jax.value_and_grad(hand_loss)(params, jax.random.fold_in(key, step), x)
        updates, opt_state = OPTIMIZER.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, step + 1, value

    own = jax.tree.map(jnp.copy, params)
    hand_state = [own, OPTIMIZER.init(own), jnp.zeros((), jnp.int32)]
    held = jax.tree.map(jnp.copy, params)
    nested = {"net": held, "process": {}}
    own_state = [
        lx.train.TrainState(nested, OPTIMIZER.init(nested), (), key, jnp.zeros((), jnp.int32))
    ]
    own_step, batch = lx.train.step(model, OPTIMIZER), lx.Batch(x)

    def by_hand() -> Any:
        *hand_state[:], value = hand_step(*hand_state)
        return value

    def by_likelax() -> Any:
        own_state[0], aux = own_step(own_state[0], batch)
        return aux.loss

    first = float(by_hand()), float(by_likelax())
    if abs(first[1] / first[0] - 1) > 0.05:
        raise AssertionError(f"likelax finds a loss of {first[1]}, by hand it is {first[0]}")
    row(table, "training step", {"hand": by_hand, "likelax": by_likelax}, rounds, 4)


# Sampling.


def levels(steps: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """t, alpha and sigma from noise to data, within the same ends as likelax's process."""
    first, last = (math.atan(math.exp(-0.5 * log_snr)) for log_snr in (-10.0, 13.0))
    angle = jnp.linspace(first, last, steps + 1)
    return jnp.linspace(1, 0, steps + 1), jnp.cos(angle), jnp.sin(angle)


def hand_ddim(params: Params, key: jax.Array, shape: tuple[int, int], steps: int) -> jax.Array:
    """DDIM with eta = 0."""
    t, alpha, sigma = levels(steps)

    def step(z: jax.Array, at: Any) -> tuple[jax.Array, None]:
        t, alpha, sigma, next_alpha, next_sigma = at
        noise = apply(params, z, jnp.full(shape[:1], t))
        return next_alpha / alpha * (z - sigma * noise) + next_sigma * noise, None

    z = jax.random.normal(key, shape)
    z, _ = jax.lax.scan(step, z, (t[:-1], alpha[:-1], sigma[:-1], alpha[1:], sigma[1:]))
    return (z - sigma[-1] * apply(params, z, jnp.full(shape[:1], t[-1]))) / alpha[-1]


def hand_ancestral(params: Params, key: jax.Array, shape: tuple[int, int], steps: int) -> jax.Array:
    """The chain of DDPM."""
    t, alpha, sigma = levels(steps)

    def step(z: jax.Array, at: Any) -> tuple[jax.Array, None]:
        key, t, alpha, sigma, next_alpha, next_sigma = at
        noise = apply(params, z, jnp.full(shape[:1], t))
        ratio = (alpha * next_sigma / (next_alpha * sigma)) ** 2
        mean = next_alpha / alpha * (z - sigma * noise) + next_sigma * jnp.sqrt(ratio) * noise
        return mean + next_sigma * jnp.sqrt(1 - ratio) * jax.random.normal(key, shape), None

    z = jax.random.normal(key, shape)
    keys = jax.random.split(jax.random.fold_in(key, 1), steps)
    z, _ = jax.lax.scan(step, z, (keys, t[:-1], alpha[:-1], sigma[:-1], alpha[1:], sigma[1:]))
    return (z - sigma[-1] * apply(params, z, jnp.full(shape[:1], t[-1]))) / alpha[-1]


def hand_heun(params: Params, key: jax.Array, shape: tuple[int, int], steps: int) -> jax.Array:
    """EDM's solver without churn, in x = z / alpha and r = sigma / alpha."""
    t, alpha, sigma = levels(steps)

    def step(x: jax.Array, at: Any) -> tuple[jax.Array, None]:
        (t, alpha, r), (next_t, next_alpha, next_r) = at
        slope = apply(params, alpha * x, jnp.full(shape[:1], t))
        euler = x + (next_r - r) * slope
        next_slope = apply(params, next_alpha * euler, jnp.full(shape[:1], next_t))
        return x + 0.5 * (next_r - r) * (slope + next_slope), None

    r = sigma / alpha
    x = jax.random.normal(key, shape) / alpha[0]
    x, _ = jax.lax.scan(step, x, ((t[:-1], alpha[:-1], r[:-1]), (t[1:], alpha[1:], r[1:])))
    return x - r[-1] * apply(params, alpha[-1] * x, jnp.full(shape[:1], t[-1]))


HAND: dict[str, tuple[Callable[..., jax.Array], Any]] = {
    "DDIM": (hand_ddim, lx.diffusion.DDIM()),
    "Heun": (hand_heun, lx.diffusion.Heun()),
    "ancestral": (hand_ancestral, lx.diffusion.Ancestral()),
}


def ours(params: Params, key: jax.Array, sampler: Any, shape: tuple[int, int], steps: int) -> Any:
    """The same with a sampler of likelax."""
    denoiser = denoising().denoiser({"net": params, "process": {}})
    return sampler(PROCESS, denoiser, key, shape, steps, grid="time")


def sampling(table: Table, name: str, params: Params, shape: tuple[int, int], rounds: int) -> None:
    """A row: one call of the sampler; both give samples of the same size."""
    hand, sampler = HAND[name]
    key = jax.random.key(0)
    calls = {
        "hand": partial(jax.jit(partial(hand, shape=shape, steps=STEPS)), params, key),
        "likelax": partial(
            jax.jit(partial(ours, sampler=sampler, shape=shape, steps=STEPS)), params, key
        ),
    }
    sizes = {who: float(jnp.std(call())) for who, call in calls.items()}
    if abs(sizes["likelax"] / sizes["hand"] - 1) > 0.1:
        raise AssertionError(f"{name}: samples of different size, {sizes}")
    seconds = row(table, f"{name}, {STEPS} steps", calls, rounds, 1)
    each = (f"{STEPS / median(seconds, who):,.0f}" for who in ("hand", "likelax"))
    table.notes.append(f"{name}: {' and '.join(each)} steps per second, by hand and in likelax.")


def row(
    table: Table, name: str, calls: dict[str, Callable[[], Any]], rounds: int, times: int
) -> dict[str, list[float]]:
    """Times two contenders and adds their row."""
    seconds = interleaved({who: many(call, times) for who, call in calls.items()}, rounds)
    hand, own = (f"{1e3 * median(seconds, who) / times:.2f} ms" for who in ("hand", "likelax"))
    table.add(name, hand, own, f"{ratio(seconds, 'likelax', 'hand'):.2f}", f"{GOAL}")
    return seconds


# Compiling.


def compiling(
    table: Table, steps: int, params: Params, shape: tuple[int, int], rounds: int
) -> None:
    """A row: seconds to trace and compile a DDIM sampler of so many steps."""
    key = jax.random.key(0)
    contenders = {
        "hand": partial(hand_ddim, shape=shape, steps=steps),
        "likelax": partial(ours, sampler=lx.diffusion.DDIM(), shape=shape, steps=steps),
    }
    seconds: dict[str, list[float]] = {who: [] for who in contenders}
    for _ in range(rounds):
        for who, function in contenders.items():
            jax.clear_caches()
            started = time.perf_counter()
            jax.jit(function).lower(params, key).compile()
            seconds[who].append(time.perf_counter() - started)
    hand, own = (statistics.median(seconds[who]) for who in contenders)
    cells = f"{1e3 * hand:.0f} ms", f"{1e3 * own:.0f} ms", f"{own / hand:.2f}"
    table.add(f"compiling {steps} steps", *cells, "the same for all")
