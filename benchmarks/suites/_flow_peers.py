"""The same flows in likelax, flowjax and distrax, with the same parameters.

Each layer is a permutation and a coupling of one half given the other, or a masked autoregressive map;
the numbers that the network gives go to an affine map or a rational-quadratic spline of the same limits.
"""

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _timing import importable

import likelax as lx
from likelax.bijectors import (
    MADE,
    MLP,
    AffineTransformer,
    Chain,
    Conditioner,
    Coupling,
    MaskedAutoregressive,
    Permute,
    Scan,
    SplineTransformer,
)

BINS, BOUND, LIMIT = 8, 4.0, 5.0
# What the splines of likelax have, a thousandth of the whole, in the units of the axes.
MIN_SIZE, MIN_SLOPE = 2e-3 * BOUND, 1e-3
Contender = tuple[Any, Callable[..., Any], Callable[..., Any]]


@dataclasses.dataclass(frozen=True)
class Flow:
    """A flow's sizes; `rows` is how many vectors a sample has."""

    autoregressive: bool
    spline: bool
    size: int
    layers: int
    hidden: tuple[int, int]
    rows: int

    @property
    def name(self) -> str:
        """What a row of the table calls it."""
        return f"{'spline' if self.spline else 'affine'} " + (
            "autoregressive" if self.autoregressive else "coupling"
        )

    @property
    def permutation(self) -> tuple[int, ...]:
        """Of each layer: the halves change places, or the order is turned round."""
        order = list(range(self.size))
        half = self.size // 2
        return tuple(order[::-1] if self.autoregressive else order[half:] + order[:half])


def likelax(flow: Flow) -> Contender:
    """Parameters, log-density and sample."""
    chosen = SplineTransformer(BINS, BOUND) if flow.spline else AffineTransformer(LIMIT)
    half = flow.size // 2

    def layer(key: jax.Array) -> Chain:
        if flow.autoregressive:
            made = MADE(flow.size, chosen.size, flow.hidden)
            inner: Any = MaskedAutoregressive(Conditioner(made, made.init(key)), chosen)
        else:
            mlp = MLP(half, half * chosen.size, flow.hidden)
            inner = Coupling(Conditioner(mlp, mlp.init(key)), chosen, half)
        return Chain((Permute(flow.permutation), inner))

    def make(key: jax.Array) -> Scan:
        return Scan(jax.vmap(layer)(jax.random.split(key, flow.layers)))

    head = lx.flows.FlowHead(make, flow.size)
    leaves, tree = jax.tree.flatten(make(jax.random.key(0)))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [
        leaf + 0.02 * jax.random.normal(key, leaf.shape)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    nothing = jnp.zeros(0)
    return (
        jax.tree.unflatten(tree, noisy),
        lambda bijector, x: head(nothing, bijector).log_prob(x),
        lambda bijector, key: head(nothing, bijector).sample(key, (flow.rows,)),
    )


def dense_layers(flow: Flow, bijector: Any) -> list[dict[str, jax.Array]]:
    """Kernels `(layers, inputs, outputs)` and biases; a spline's with slopes of 1 at both ends."""
    params = bijector.layers.bijectors[1].conditioner.params
    *inner, last = params["layers"] if flow.autoregressive else params
    if flow.spline:
        last = {name: _with_end_slopes(leaf) for name, leaf in last.items()}
    return [*inner, last]


def _with_end_slopes(leaf: jax.Array) -> jax.Array:
    """K widths, K heights and K - 1 slopes of each entry, with a 0 before the slopes and one after."""
    parts = leaf.reshape(*leaf.shape[:-1], -1, 3 * BINS - 1)
    widths_heights, slopes = parts[..., : 2 * BINS], parts[..., 2 * BINS :]
    zero = jnp.zeros_like(slopes[..., :1])
    wide = jnp.concatenate([widths_heights, zero, slopes, zero], axis=-1)
    return wide.reshape(*leaf.shape[:-1], -1)


def flowjax(flow: Flow, bijector: Any) -> Contender:
    """As `flowjax.flows` builds them: a Scan of layers, inverted, so that densities are fast."""
    import equinox as eqx
    from flowjax import bijections
    from flowjax.distributions import StandardNormal, Transformed

    kind = bijections.MaskedAutoregressive if flow.autoregressive else bijections.Coupling
    sizes: dict[str, Any] = {"dim": flow.size, "nn_width": flow.hidden[0], "nn_depth": 2}
    if not flow.autoregressive:
        sizes["untransformed_dim"] = flow.size // 2

    def layer(key: jax.Array) -> Any:
        inner = kind(key, transformer=_flowjax_map(flow.spline), nn_activation=jax.nn.silu, **sizes)
        return bijections.Chain([bijections.Permute(np.argsort(flow.permutation)), inner])

    layers = eqx.filter_vmap(layer)(jax.random.split(jax.random.key(0), flow.layers))
    # Its layer 0 is the first that data meet, ours the last.
    dense = [{n: leaf[::-1] for n, leaf in d.items()} for d in dense_layers(flow, bijector)]

    def slots(layers: Any) -> list[Any]:
        inner = layers.bijections[1]
        if flow.autoregressive:
            linear = inner.masked_autoregressive_mlp.layers
            return [part for one in linear for part in (one.weight.args[1], one.bias)]
        return [part for one in inner.conditioner.layers for part in (one.weight, one.bias)]

    filled = [part for d in dense for part in (jnp.swapaxes(d["kernel"], 1, 2), d["bias"])]
    layers = eqx.tree_at(slots, layers, filled)
    dist = Transformed(StandardNormal((flow.size,)), bijections.Invert(bijections.Scan(layers)))
    # What is not trained is a constant of the program, as in likelax.
    params, static = eqx.partition(dist, eqx.is_inexact_array)
    return (
        params,
        lambda params, x: eqx.combine(params, static).log_prob(x),
        lambda params, key: eqx.combine(params, static).sample(key, (flow.rows,)),
    )


def _flowjax_map(spline: bool) -> Any:
    """From data to base."""
    import equinox as eqx
    from flowjax import bijections
    from paramax import Parameterize

    if spline:
        limits = {"min_width": MIN_SIZE, "min_derivative": MIN_SLOPE}
        return bijections.RationalQuadraticSpline(knots=BINS - 1, interval=BOUND, **limits)
    scale = Parameterize(lambda raw: jnp.exp(LIMIT * jnp.tanh(raw / LIMIT)), jnp.zeros(()))
    affine = eqx.tree_at(lambda affine: affine.scale, bijections.Affine(), scale)
    return bijections.Invert(affine)


def distrax(flow: Flow, bijector: Any) -> Contender:
    """Split couplings, the halves in turn, one after another."""
    import distrax

    half = flow.size // 2

    def inner(raw: jax.Array) -> Any:
        raw = raw.reshape(*raw.shape[:-1], half, -1)
        if not flow.spline:
            return distrax.ScalarAffine(
                raw[..., 0], log_scale=LIMIT * jnp.tanh(raw[..., 1] / LIMIT)
            )
        spline = distrax.RationalQuadraticSpline(
            raw, -BOUND, BOUND, "identity", min_bin_size=MIN_SIZE, min_knot_slope=MIN_SLOPE
        )
        return distrax.Inverse(spline)

    def network(dense: Any, x: jax.Array) -> jax.Array:
        for one in dense[:-1]:
            x = jax.nn.silu(x @ one["kernel"] + one["bias"])
        return x @ dense[-1]["kernel"] + dense[-1]["bias"]

    def dist(dense: Any) -> Any:
        # Turned by half once a layer, x_{i + half} is what layer 0 keeps where their number is even.
        couplings = [
            distrax.SplitCoupling(
                half,
                1,
                lambda x, i=i: network(jax.tree.map(lambda leaf: leaf[i], dense), x),
                inner,
                swap=bool(i % 2),
            )
            for i in range(flow.layers)
        ]
        base = distrax.MultivariateNormalDiag(jnp.zeros(flow.size), jnp.ones(flow.size))
        return distrax.Transformed(base, distrax.Chain(couplings[::-1]))

    return (
        dense_layers(flow, bijector),
        lambda dense, x: dist(dense).log_prob(x),
        lambda dense, key: dist(dense).sample(seed=key, sample_shape=(flow.rows,)),
    )


def contenders(flow: Flow) -> dict[str, Contender]:
    """Those that import here; distrax has no autoregressive map."""
    own = likelax(flow)
    found = {"likelax": own}
    if importable("flowjax.flows"):
        found["flowjax"] = flowjax(flow, own[0])
    if importable("distrax") and not flow.autoregressive:
        found["distrax"] = distrax(flow, own[0])
    return found


def questions(flow: Flow) -> tuple[dict[str, dict[str, Callable[[], Any]]], dict[str, float]]:
    """What is timed, contenders by question, compiled; and seconds to compile the gradients."""
    x = 1.5 * jax.random.normal(jax.random.key(2), (flow.rows, flow.size))
    key = jax.random.key(3)
    asked: dict[str, dict[str, Callable[[], Any]]] = {"log_prob": {}, "gradient": {}, "sample": {}}
    compiled = {}
    for name, (params, score, draw) in contenders(flow).items():
        asked["log_prob"][name] = partial(jax.jit(score), params, x)
        asked["log_prob"][name]()  # traces what the gradient shares
        gradient = jax.jit(jax.grad(lambda params, x, score=score: jnp.mean(score(params, x))))
        started = time.perf_counter()
        asked["gradient"][name] = partial(gradient.lower(params, x).compile(), params, x)
        compiled[name] = time.perf_counter() - started
        asked["sample"][name] = partial(jax.jit(draw), params, key)
    _check_equal({name: call() for name, call in asked["log_prob"].items()})
    return asked, compiled


def _check_equal(found: dict[str, jax.Array]) -> None:
    for name, value in found.items():
        gap = float(jnp.max(jnp.abs(value - found["likelax"])))
        if not gap < 1e-2:
            raise AssertionError(f"{name} does not compute what likelax does: {gap}")
