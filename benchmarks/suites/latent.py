"""Bounds of latent-variable models: a training step's loss and gradients, against hand-written JAX."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _table import Table
from _timing import importable, interleaved, many, median, ratio

import likelax as lx

GOAL = 1.05
# (batch, pixels, hidden units, latents, particles of IWAE)
SIZES = (128, 784, 256, 32, 64)
QUICK = (16, 64, 32, 8, 8)
Params = Any


def run(quick: bool) -> Table:
    """One row for each bound."""
    batch, pixels, hidden, latents, particles = QUICK if quick else SIZES
    table = Table(
        title="latent: bounds of a variational autoencoder",
        method=(
            f"Loss and gradients of a batch of {batch} binary images of {pixels} pixels; encoder and "
            f"decoder with one layer of {hidden} tanh units, {latents} latents. By hand: what a "
            "competent person writes, with one random key for the batch. numpyro: `Trace_ELBO` with "
            "the same networks as plain functions, the KL by samples. Compiled, contenders in turn; "
            "medians, and ratios as medians of the ratios within a round. Lower is better."
        ),
        columns=["bound", "by hand", "likelax", "likelax / hand", "goal", "numpyro / hand"],
    )
    params, x = setting(batch, pixels, hidden, latents)
    key = jax.random.key(0)
    with_numpyro = importable("numpyro", "numpyro.infer")
    for name, count in (("ELBO", 1), (f"IWAE-{particles}", particles)):
        pair = {
            "hand": partial(hand_elbo if count == 1 else hand_iwae, count=count),
            "likelax": ours(pixels, hidden, latents, count),
        }
        if with_numpyro and count == 1:
            pair["numpyro"] = numpyro_elbo(pixels, latents)
        compare(table, name, pair, (params, key, x), 3 if quick else 30, 4 if count == 1 else 1)
    if not with_numpyro:
        table.notes.append("Not importable here: numpyro.")
    return table


def setting(batch: int, pixels: int, hidden: int, latents: int) -> tuple[Params, jax.Array]:
    """Parameters and images."""
    x = (np.random.default_rng(0).random((batch, pixels)) > 0.5).astype(np.float32)
    sizes = {"encoder": (pixels, hidden, 2 * latents), "decoder": (latents, hidden, pixels)}
    keys = jax.random.split(jax.random.key(1), 2)
    params = {n: layers(k, *s) for k, (n, s) in zip(keys, sizes.items(), strict=True)}
    return params, jnp.asarray(x)


def layers(key: jax.Array, rows: int, hidden: int, out: int) -> Params:
    """Two layers."""
    a, b = jax.random.split(key)
    return {
        "a": jax.random.normal(a, (rows, hidden)) / math.sqrt(rows),
        "b": jax.random.normal(b, (hidden, out)) / math.sqrt(hidden),
        "c": jnp.zeros(hidden),
        "d": jnp.zeros(out),
    }


def apply(params: Params, x: jax.Array) -> jax.Array:
    """Their output."""
    return jnp.tanh(x @ params["a"] + params["c"]) @ params["b"] + params["d"]


# By hand.


def bernoulli(logits: jax.Array, x: jax.Array) -> jax.Array:
    """log p(x) summed over pixels."""
    return jnp.sum(x * logits - jax.nn.softplus(logits), -1)


def hand_elbo(params: Params, key: jax.Array, x: jax.Array, count: int) -> jax.Array:
    """The negative ELBO with its KL in closed form."""
    loc, log_scale = jnp.split(apply(params["encoder"], x), 2, -1)
    z = loc + jnp.exp(log_scale) * jax.random.normal(key, loc.shape)
    kl = jnp.sum(0.5 * (jnp.exp(2 * log_scale) + loc**2 - 1) - log_scale, -1)
    return jnp.mean(kl - bernoulli(apply(params["decoder"], z), x))


def hand_iwae(params: Params, key: jax.Array, x: jax.Array, count: int) -> jax.Array:
    """The negative importance-weighted bound."""
    loc, log_scale = jnp.split(apply(params["encoder"], x), 2, -1)
    noise = jax.random.normal(key, (count, *loc.shape))
    z = loc + jnp.exp(log_scale) * noise
    # log p(z) - log q(z | x): the constants cancel.
    log_ratio = jnp.sum(0.5 * (noise**2 - z**2) + log_scale, -1)
    rows = apply(params["decoder"], z.reshape(-1, z.shape[-1])).reshape(count, *x.shape)
    log_weight = bernoulli(rows, x) + log_ratio
    return -jnp.mean(jax.nn.logsumexp(log_weight, axis=0) - math.log(count))


# likelax and numpyro, on the same networks and parameters.


def ours(pixels: int, hidden: int, latents: int, count: int) -> Callable[..., jax.Array]:
    """The loss of `lx.vae.ELBO` or `lx.vae.IWAE`."""
    # The parameters are given: nothing is initialised here.
    net: Any = (lambda key, x: {}, apply)
    decoder = lx.Conditional(net, lx.Head(lx.Bernoulli, event_shape=pixels))
    encoder = lx.Conditional(net, lx.Head(lx.Normal, event_shape=latents))
    prior = lx.Normal(jnp.zeros(latents), 1.0).to_event()
    model: Any = (
        lx.vae.ELBO(decoder, encoder, prior)
        if count == 1
        else lx.vae.IWAE(decoder, encoder, prior, num_particles=count)
    )

    def loss(params: Params, key: jax.Array, x: jax.Array) -> jax.Array:
        nested = {name: {"net": params[name], "head": {}} for name in ("decoder", "encoder")}
        return model({**nested, "prior": {}}, key, lx.Batch(x))[0]

    return loss


def numpyro_elbo(pixels: int, latents: int) -> Callable[..., jax.Array]:
    """The loss of numpyro's `Trace_ELBO`."""
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer import Trace_ELBO

    def model(params: Params, x: jax.Array) -> None:
        with numpyro.plate("batch", len(x)):
            prior = dist.Normal(jnp.zeros(latents), 1.0).to_event(1)
            z = numpyro.sample("z", prior)
            logits = apply(params["decoder"], z)
            numpyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(params: Params, x: jax.Array) -> None:
        loc, log_scale = jnp.split(apply(params["encoder"], x), 2, -1)
        with numpyro.plate("batch", len(x)):
            numpyro.sample("z", dist.Normal(loc, jnp.exp(log_scale)).to_event(1))

    def loss(params: Params, key: jax.Array, x: jax.Array) -> jax.Array:
        return Trace_ELBO().loss(key, {}, model, guide, params, x) / len(x)

    return loss


def compare(
    table: Table,
    name: str,
    losses: dict[str, Callable[..., jax.Array]],
    arguments: tuple[Any, ...],
    rounds: int,
    times: int,
) -> None:
    """A row: loss and gradients of each contender; all estimate the same kind of number."""
    steps = {who: jax.jit(jax.value_and_grad(loss)) for who, loss in losses.items()}
    found = {who: float(step(*arguments)[0]) for who, step in steps.items()}
    for who, value in found.items():
        if abs(value / found["hand"] - 1) > 0.05:
            raise AssertionError(f"{who} finds {value}, by hand it is {found['hand']}")
    calls = {who: many(partial(step, *arguments), times) for who, step in steps.items()}
    seconds = interleaved(calls, rounds)
    hand, own = (f"{1e3 * median(seconds, who) / times:.2f} ms" for who in ("hand", "likelax"))
    rival = f"{ratio(seconds, 'numpyro', 'hand'):.2f}" if "numpyro" in seconds else ""
    table.add(name, hand, own, f"{ratio(seconds, 'likelax', 'hand'):.2f}", f"{GOAL}", rival)
