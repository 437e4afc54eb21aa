"""Densities by flows: two moons, and four measurements of patients.

    python examples/flow_density.py

A neural spline flow learns the density of two half-circles with noise, whose entropy is 1.0076 nats: on
average no model's loss on new points is below it. Beside it stand a Gaussian and a mixture of twenty,
which suits the moons as well.
Then the same three, smaller, on a real table of 442 patients: too few to tell them apart by the loss,
while the samples of the flow have the skewness of the patients' body mass and the Gaussian's have not.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import make_moons

import likelax as lx

ENTROPY = 1.0076  # of the moons, by numerical integration
COLUMNS = ("bmi", "bp", "s1", "s5")


def constant(size: int) -> tuple[Any, Any]:
    """A network without input: its output is what is trained."""

    def init(key: jax.Array, x: jax.Array) -> jax.Array:
        return 0.7 * jax.random.normal(key, (size,))

    return init, lambda params, x: jnp.broadcast_to(params, (*x.shape[:-1], size))


def contenders(size: int, components: int, flow: lx.flows.FlowHead) -> dict[str, Any]:
    """Models by name, each with its learning rate."""
    gaussian = lx.Head(lx.MultivariateNormal, event_shape=size)
    mixture = lx.MixtureHead(gaussian, components)
    return {
        "Gaussian": (lx.Likelihood(constant(gaussian.size), gaussian), 2e-2),
        f"mixture of {components}": (lx.Likelihood(constant(mixture.size), mixture), 2e-2),
        "neural spline flow": (lx.Likelihood(None, flow), 4e-3),
    }


def rows(values: np.ndarray) -> lx.Batch:
    """As a batch: no input, one empty row for each target."""
    return lx.Batch(values, input=np.zeros((len(values), 0), np.float32))


def fit(models: dict[str, Any], train: np.ndarray, test: np.ndarray, steps: int) -> dict[str, Any]:
    """Each model trained, with its predictive distribution and its held-out loss in nats."""
    found = {}
    for name, (model, rate) in models.items():
        schedule = optax.cosine_decay_schedule(rate, steps)
        optimizer = optax.chain(optax.clip_by_global_norm(5.0), optax.adam(schedule))
        batches = lx.datasets.batches(rows(train), 256, jax.random.key(1), endless=True)
        result = lx.train.fit(
            model, optimizer, batches, steps=steps, key=jax.random.key(0), label=name
        )
        score = lx.evaluate(model, result.params, jax.random.key(0), rows(test))
        print(f"{name:20s} {score}")
        found[name] = model.predict(result.params, jnp.zeros(0)), score.loss
    return found


def draw_density(axis: Any, dist: lx.Distribution, left_right: Any, low_high: Any) -> None:
    """The density as a picture."""
    grid = np.meshgrid(np.linspace(*left_right, 200), np.linspace(*low_high, 150))
    p = np.exp(dist.log_prob(np.stack(grid, -1).astype(np.float32)))
    extent = (*left_right, *low_high)
    axis.imshow(p, origin="lower", extent=extent, aspect="auto", cmap="magma", vmax=0.7)


def moons(steps: int, count: int, out: Path) -> dict[str, float]:
    """Two moons: the comparison and the picture."""
    train, test = (
        make_moons(count, noise=0.1, random_state=seed)[0].astype(np.float32) for seed in (0, 1)
    )
    print(f"two moons, {count} points; the truth itself has {ENTROPY} nats")
    flow = lx.flows.neural_spline_flow(2, layers=4, hidden=(32, 32), bound=3.0)
    found = fit(contenders(2, 20, flow), train, test, steps)
    figure, (first, *others) = lx.plotting.panels(4, width=3.6, height=3.2)
    reach = (-1.6, 2.6), (-1.1, 1.6)
    first.plot(*test[:2000].T, ".", markersize=1, color="0.2")
    first.set(title=f"points: {ENTROPY} nats", xlim=reach[0], ylim=reach[1])
    for axis, (name, (dist, loss)) in zip(others, found.items(), strict=True):
        draw_density(axis, dist, *reach)
        axis.set(title=f"{name}: {loss:.3f}")
    lx.plotting.save(figure, out / "moons.png")
    return {f"moons, {name}": loss for name, (_, loss) in found.items()}


def patients(steps: int, out: Path) -> dict[str, float]:
    """Four columns of a table: the comparison, and samples beside the data."""
    table = lx.datasets.diabetes().standardized()
    where = [table.features.index(name) for name in COLUMNS]
    train, test = (part.input[:, where] for part in (table.train, table.test))
    print(f"{', '.join(COLUMNS)} of {len(train)} patients: {table.source}")
    flow = lx.flows.neural_spline_flow(4, layers=2, hidden=(8,), bins=4)
    found = fit(contenders(4, 3, flow), train, test, steps)
    figure, axes = lx.plotting.panels(3, width=3.6, height=3.2)
    axes[0].plot(train[:, 0], train[:, 3], ".", color="0.2")
    reach = axes[0].get_xlim()
    axes[0].set(title="patients", xlabel=COLUMNS[0], ylabel=COLUMNS[3])
    for axis, name in zip(axes[1:], ("Gaussian", "neural spline flow"), strict=True):
        dist, loss = found[name]
        drawn = dist.sample(jax.random.key(2), (len(train),))
        axis.plot(drawn[:, 0], drawn[:, 3], ".", color="#0072b2")
        axis.set(title=f"{name}: {loss:.2f} nats", xlabel=COLUMNS[0], xlim=reach)
    lx.plotting.save(figure, out / "patients.png")
    return {f"patients, {name}": loss for name, (_, loss) in found.items()}


def main(steps: int, out: Path, count: int = 20_000) -> dict[str, float]:
    out.mkdir(parents=True, exist_ok=True)
    losses = moons(steps, count, out) | patients(min(steps, 300), out)
    print("figures:", out / "moons.png", out / "patients.png")
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("flow_density"))
    options = parser.parse_args()
    main(options.steps, options.out)
