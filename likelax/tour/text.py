"""Text byte by byte: networks that see more and more of what came before, and two compressors."""

from __future__ import annotations

import gzip
import lzma
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from likelax import datasets, metrics
from likelax._pytree import Array
from likelax.distributions import Categorical
from likelax.heads import Head
from likelax.objective import Batch
from likelax.sequence import Autoregressive, windows
from likelax.tour.section import Row, Section, Settings, mlp
from likelax.train import fit

Net = tuple[Callable[..., Any], Callable[..., Array]]
START = 256  # stands before the first byte, and is none itself
LENGTH = 64
FAR = 20.0  # a table of logits starts at 0 and has far to go by Adam's steps, which are of one size
# A longer text takes no more time.
TRAINED_ON, HELD_OUT = 1_000_000, 50_000


def section(settings: Settings) -> Section:
    """Models of the next byte, in nats per byte; bits per byte against gzip and xz below."""
    text = datasets.text()
    before, after = text.train[-TRAINED_ON:], text.validation[:HELD_OUT]
    rows = [trained(name, net, before, after, settings) for name, net in NETS.items()]
    best = min(rows, key=lambda row: row.held_out.loss)
    notes = [f"{best.name}: {metrics.bits_per_byte(best.held_out)}"]
    notes += [
        f"  {name} {compressed(compress, before, after):.4f}, given the training text"
        for name, compress in COMPRESSORS.items()
    ]
    notes += ["drawn from it, after the | :", *sampled(best, after[:40], settings)]
    data = f"{len(before)} bytes to train on, the {len(after)} that follow held out: {text.source}"
    return Section("Text: the next byte, given those before it", data, rows, notes)


def alone() -> Net:
    """No byte looks back: one distribution for all."""
    return (lambda key, previous: jnp.zeros(256)), (
        lambda table, previous: jnp.broadcast_to(FAR * table, (*previous.shape, 256))
    )


def pairs() -> Net:
    """One distribution for each byte before."""
    return (lambda key, previous: jnp.zeros((START + 1, 256))), (
        lambda table, previous: FAR * table[previous]
    )


def window(size: int, features: int, hidden: int) -> Net:
    """The last `size` bytes, embedded, through an MLP (Bengio et al. 2003)."""
    mlp_init, mlp_apply = mlp(hidden, 256)

    def init(key: Array, previous: Any) -> dict[str, Any]:
        embed, rest = jax.random.split(key)
        seen = jax.ShapeDtypeStruct((*previous.shape, size * features), jnp.float32)
        return {
            "embed": jax.random.normal(embed, (START + 1, features)),
            "mlp": mlp_init(rest, seen),
        }

    def apply(params: dict[str, Any], previous: Array) -> Array:
        time = previous.shape[1]
        padded = jnp.pad(previous, ((0, 0), (size - 1, 0)), constant_values=START)
        seen = jnp.stack([padded[:, k : k + time] for k in range(size)], axis=-1)
        embedded = params["embed"][seen]
        return mlp_apply(params["mlp"], embedded.reshape(*previous.shape, -1))

    return init, apply


def recurrent(width: int) -> Net:
    """Gated recurrent units (Cho et al. 2014): all that came before, in `width` numbers."""

    def init(key: Array, previous: Any) -> dict[str, Array]:
        keys = jax.random.split(key, 4)
        shapes = {"read": (START + 1, 3 * width), "keep": (width, 2 * width)}
        shapes |= {"renew": (width, width), "out": (width, 256)}
        scales = [1.0, width**-0.5, width**-0.5, 0.1 * width**-0.5]
        return {
            name: scale * jax.random.normal(k, shape)
            for (name, shape), scale, k in zip(shapes.items(), scales, keys, strict=True)
        }

    def apply(params: dict[str, Array], previous: Array) -> Array:
        def step(h: Array, x: Array) -> tuple[Array, Array]:
            for_gates, for_value = jnp.split(x, [2 * width], axis=-1)
            gates = jax.nn.sigmoid(for_gates + h @ params["keep"])
            reset, update = jnp.split(gates, 2, axis=-1)
            value = jnp.tanh(for_value + (reset * h) @ params["renew"])
            h = update * h + (1 - update) * value
            return h, h

        x = jnp.moveaxis(params["read"][previous], 1, 0)
        _, h = jax.lax.scan(step, jnp.zeros_like(x[0, :, :width]), x)
        return jnp.moveaxis(h, 0, 1) @ params["out"]

    return init, apply


NETS: dict[str, Net] = {
    "each byte alone": alone(),
    "the byte before": pairs(),
    "the 8 bytes before": window(8, 32, 256),
    "recurrent": recurrent(192),
}


def trained(
    name: str, net: Net, before: np.ndarray, after: np.ndarray, settings: Settings
) -> Row[Autoregressive]:
    """One model, trained on `before` and scored on `after`."""
    started = time.perf_counter()
    steps = settings.steps or 700
    head = Head(Categorical, num_categories=256)
    model = Autoregressive(net, head, start=START, token_bytes=1)
    schedule = optax.warmup_cosine_decay_schedule(0.0, 5e-3, steps // 10 + 1, steps + 1)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule))
    rows = before[: len(before) // LENGTH * LENGTH].reshape(-1, LENGTH).astype(np.int32)
    result = fit(
        model,
        optimizer,
        datasets.batches(Batch(target=rows), 32, settings.key("text batches")),
        steps=steps,
        key=settings.key("text training"),
        label=name,
    )
    held_out = metrics.evaluate(
        model,
        result.params,
        settings.key("evaluation"),
        windows(after, LENGTH, LENGTH // 2, batch_size=64),
    )
    return Row(name, held_out, time.perf_counter() - started, model, result.params, result.state)


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip -9": lambda text: gzip.compress(text, 9),
    "xz -9e ": lambda text: lzma.compress(text, preset=9 | lzma.PRESET_EXTREME),
}


def compressed(compress: Callable[[bytes], bytes], before: np.ndarray, after: np.ndarray) -> float:
    """By how many bits per byte `after` lengthens what `before` is compressed to."""
    both = np.concatenate([before, after])
    added = len(compress(both.tobytes())) - len(compress(before.tobytes()))
    return 8 * added / len(after)


def sampled(row: Row[Autoregressive], prompt: np.ndarray, settings: Settings) -> list[str]:
    """What the model writes after `prompt`, as lines."""
    drawn = row.model.sample(row.params, settings.key("sample"), length=160, prompt=prompt)
    text = f"{datasets.Text.decode(prompt)}|{datasets.Text.decode(drawn)}"
    # A model that knows little draws bytes that a terminal would obey.
    text = "".join(sign if sign.isprintable() or sign == "\n" else "\ufffd" for sign in text)
    return [f"  {line.rstrip()}" for line in text.splitlines() if line.strip()]
