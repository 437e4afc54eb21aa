"""A probabilistic forecaster: sunspots year by year, with quantile bands.

    python examples/forecaster.py

A series is scored factor by factor, p(x_t | x_<t), by any causal network and any head; the same
model draws futures, whose quantiles are the bands. A linear autoregression of order nine with one
noise for all years, the textbook's model of this series, stands beside a network whose noise depends
on the past. Both see the square root of the numbers, which steadies their spread; both are scored on
the same held-out years, given all years before. (The network's size and decay were chosen on the last
fifty training years. On the held-out ones the two are within two standard errors, and both fall short:
the Sun was never as active in the years before. 250 numbers do not carry a network far.)
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import likelax as lx

LAGS = 12


def lagged(series: jax.Array, count: int) -> jax.Array:
    """Each value and the count - 1 before it: (batch, time) -> (batch, time, count)."""
    padded = jnp.pad(series, ((0, 0), (count - 1, 0)))
    time = series.shape[1]
    return jnp.stack([padded[:, count - 1 - k : count - 1 - k + time] for k in range(count)], -1)


def error_of(values: np.ndarray) -> float:
    """The standard error of their mean."""
    return values.std(ddof=1) / len(values) ** 0.5


class Linear(nnx.Module):
    """A linear autoregression."""

    def __init__(self, outputs: int, *, rngs: nnx.Rngs):
        self.last = nnx.Linear(9, outputs, rngs=rngs)

    def __call__(self, previous: jax.Array) -> jax.Array:  # (batch, time) -> (batch, time, outputs)
        return self.last(lagged(previous, 9))


class Network(nnx.Module):
    """The same plus a hidden layer, which starts at nothing."""

    def __init__(self, outputs: int, *, rngs: nnx.Rngs):
        zeros = nnx.initializers.zeros
        self.direct = nnx.Linear(9, outputs, kernel_init=zeros, rngs=rngs)
        self.hidden = nnx.Linear(LAGS, 16, rngs=rngs)
        self.drop = nnx.Dropout(0.2, rngs=rngs)
        self.last = nnx.Linear(16, outputs, use_bias=False, kernel_init=zeros, rngs=rngs)

    def __call__(self, previous: jax.Array) -> jax.Array:
        lags = lagged(previous, LAGS)
        return self.direct(lags[..., :9]) + self.last(self.drop(jnp.tanh(self.hidden(lags))))


MODELS = {
    "linear, one noise for all years": (Linear, lx.Head(lx.Normal, scale=lx.learned(0.5)), 0.3),
    "network, noise from the past": (Network, lx.Head(lx.Normal), 3.0),
}


def main(steps: int, out: Path, draws: int = 1000) -> dict[str, float]:
    data = lx.datasets.sunspots()
    print(f"{len(data.target)} years: {data.source}")
    root = np.sqrt(data.target)
    mean, scale = root[data.train_rows].mean(), root[data.train_rows].std()
    series = ((root - mean) / scale)[None].astype(np.float32)  # (1, time)
    size, cut = len(root), len(data.train_rows)

    # The first years have too short a past; the held-out ones are seen by what follows them only.
    train = lx.Batch(series[:, :cut], mask=lx.sequence.span_mask(cut, start=np.array([LAGS])))
    held_out = lx.Batch(series, mask=lx.sequence.span_mask(size, start=np.array([cut])))

    costs, fitted = {}, {}
    for name, (net, head, decay) in MODELS.items():
        model = lx.sequence.Autoregressive(net(head.size, rngs=nnx.Rngs(0)), head, start=None)
        schedule = optax.cosine_decay_schedule(5e-3, steps)
        optimizer = optax.adamw(schedule, weight_decay=decay)
        result = lx.train.fit(
            model, optimizer, train, steps=steps, key=jax.random.key(0), label=name
        )
        each = -np.asarray(model.token_log_prob(result.params, held_out))[0, cut:]
        # In the units of the data: root = sqrt(x), so that p(x) = p(z) / (2 scale root).
        each = each + np.log(2 * scale * np.maximum(root[cut:], 0.5))
        costs[name] = each
        print(f"{name:32s} {each.mean():.3f} ± {error_of(each):.3f} nats per year, held out")
        fitted[name] = model, result.params
    linear, network = costs.values()
    apart = network - linear
    print(f"{'network less linear':32s} {apart.mean():+.3f} ± {error_of(apart):.3f}")

    model, params = fitted[list(MODELS)[-1]]
    horizon = size - cut
    futures = model.sample(
        params, jax.random.key(1), (draws,), length=horizon, prompt=series[0, :cut]
    )
    futures = np.maximum(np.asarray(futures) * scale + mean, 0) ** 2
    levels = [0.05, 0.25, 0.5, 0.75, 0.95]
    bands = np.quantile(futures, levels, axis=0)
    truth, years = data.target[cut:], data.input[cut:, 0]
    inside = np.mean((truth >= bands[0]) & (truth <= bands[-1]))
    print(
        f"90% band of {draws} futures from {years[0]:.0f} on: {inside:.0%} of {horizon} years in it"
    )

    figure, (axis,) = lx.plotting.panels(1, width=9.0)
    past = slice(cut - 60, cut)
    axis.plot(data.input[past, 0], data.target[past], color="0.3")
    axis.plot(years, truth, color="black", marker=".", linewidth=0.8, label="held out")
    lx.plotting.predictive_bands(axis, years, bands, levels)
    axis.set(title="Sunspots: futures drawn from 1947", xlabel="year", ylabel="sunspots")
    axis.set_ylim(0, 230)
    axis.legend(ncols=4, loc="upper left")
    out.mkdir(parents=True, exist_ok=True)
    lx.plotting.save(figure, out / "forecast.png")
    print("figure:", out / "forecast.png")
    return {name: float(each.mean()) for name, each in costs.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("forecast"))
    options = parser.parse_args()
    main(options.steps, options.out)
