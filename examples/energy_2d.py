"""A neural energy on two moons, learned in three ways that need no log Z, and its log Z after that.

    python examples/energy_2d.py --out figures

In two dimensions an integral over a grid gives log Z, so that annealed importance sampling can be held
against it. Held-out nats, and log Z (a constant of the energy may be anything), in about 45 s on 2 cores
of an AMD EPYC:

                              -log p            log Z, grid   by annealing       by the objective
    noise-contrastive         1.0733 ± 0.0071    2.8597        2.8151 ± 0.0836    2.8875
    denoising score matching  1.0676 ± 0.0067   -7.5527       -7.5915 ± 0.0715
    persistent chains         1.0736 ± 0.0071    1.0641        1.0181 ± 0.0760

The entropy of the moons, which no model's mean is below, is 1.0076. Score matching compares slopes where
there are data: the shares of the two moons, between which there are hardly any, it does not see.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import make_moons

import likelax as lx

ENTROPY = 1.0076  # of the moons, by numerical integration: no model's loss is below it on average
SCALE = 2.0  # of the Normal that holds the energy together
HIDDEN = 64
BASE = lx.Normal(jnp.zeros(2), SCALE).to_event()


class Potential(nnx.Module):
    """E(x): two layers, and a bowl, without which exp(-E) need have no integral."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.first = nnx.Linear(2, HIDDEN, rngs=rngs)
        self.second = nnx.Linear(HIDDEN, HIDDEN, rngs=rngs)
        self.last = nnx.Linear(HIDDEN, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        h = nnx.silu(self.second(nnx.silu(self.first(x))))
        return self.last(h)[..., 0] + 0.5 * jnp.sum((x / SCALE) ** 2, -1)


class Found(NamedTuple):
    """A trained density and its log Z, known by quadrature and estimated by annealing."""

    density: Any
    log_z: float
    annealed: lx.energy.LogPartition
    held_out: lx.Evaluation


def objectives(x: np.ndarray) -> dict[str, tuple[Any, int]]:
    """By name: what is minimised, and for how many times as many steps."""
    energy = lx.energy.Energy(Potential, event_shape=2)
    noise = lx.MultivariateNormal(jnp.asarray(x.mean(0)), covariance=jnp.asarray(2 * np.cov(x.T)))
    chains = lx.energy.PersistentContrastiveDivergence(
        energy,
        k=10,
        num_chains=512,
        kernel=lx.samplers.HMC(0.1, 3),
        start=BASE,
        energy_penalty=1e-3,
    )
    scores = lx.energy.ScoreMatching(energy, method="denoising", noise_scale=0.05)
    return {
        "noise-contrastive": (lx.energy.NCE(energy, noise, num_noise=5), 1),
        "denoising score matching": (scores, 2),
        "persistent chains": (chains, 1),
    }


def train(model: Any, x: np.ndarray, steps: int) -> Any:
    """Adam with a falling rate; the density without a log Z."""
    optimizer = optax.chain(
        optax.clip_by_global_norm(10.0), optax.adam(optax.cosine_decay_schedule(1e-2, steps))
    )
    batches = lx.datasets.batches(lx.Batch(x), 256, jax.random.key(1))
    result = lx.train.fit(model, optimizer, batches, steps=steps, key=jax.random.key(0))
    density = model.density(result.params, state=result.state)
    if isinstance(density, lx.energy.Normalized):  # NCE learns log Z, too
        print(f"    log Z that was learned beside the energy: {float(density.log_z):.4f}")
        return density.density
    return density


def grid(cells: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The two axes of points that cover all of the bowl, and what one cell of it measures."""
    axis = np.linspace(-6 * SCALE, 6 * SCALE, cells)
    return axis, np.stack(np.meshgrid(axis, axis), -1), (axis[1] - axis[0]) ** 2


def by_quadrature(density: Any, cells: int) -> float:
    """log of the integral over the plane."""
    _, points, area = grid(cells)
    rows = jax.lax.map(density.unnormalized_log_prob, jnp.asarray(points, jnp.float32))
    return float(jax.nn.logsumexp(rows)) + math.log(area)


def main(
    steps: int = 1200,
    out: Path | None = None,
    count: int = 10_000,
    cells: int = 1200,
    temperatures: int = 300,
) -> dict[str, Found]:
    x, test = (make_moons(count, noise=0.1, random_state=seed)[0] for seed in (0, 1))
    x, test = x.astype(np.float32), test.astype(np.float32)
    print(f"two moons, {count} points to train on and as many held out; entropy {ENTROPY} nats")
    found = {}
    for name, (model, times) in objectives(x).items():
        started = time.perf_counter()
        density = train(model, x, times * steps)
        seconds = time.perf_counter() - started
        log_z = by_quadrature(density, cells)
        annealed = lx.energy.log_partition(
            density,
            jax.random.key(2),
            method="ais",
            base=BASE,
            kernel=lx.samplers.HMC(0.1, 5),
            betas=temperatures,
            num_chains=200,
        )
        known = density.normalize(log_z, lx.Claim("exact", vanishes="grid"))
        found[name] = Found(density, log_z, annealed, known.evaluate(test))
        print(
            f"{name:26} held out {found[name].held_out}\n    log Z {log_z:.4f} by quadrature, "
            f"{annealed} by annealing, "
            f"{(log_z - float(annealed.log_z)) / float(annealed.standard_error):+.1f} errors apart; "
            f"{seconds:.0f} s of training",
            flush=True,
        )
    if out is not None:
        draw(out, x, found)
    return found


def draw(out: Path, x: np.ndarray, found: dict[str, Found]) -> None:
    """The data, and each density on the same scale."""
    out.mkdir(parents=True, exist_ok=True)
    across, along = np.linspace(-1.6, 2.6, 170), np.linspace(-1.1, 1.6, 110)
    points = np.stack(np.meshgrid(across, along), -1).astype(np.float32)
    figure, axes = lx.plotting.panels(1 + len(found), width=3.4, height=2.8)
    axes[0].plot(*x[:2000].T, ".", markersize=1, color="0.3")
    axes[0].set_xlim(across[0], across[-1])
    axes[0].set_ylim(along[0], along[-1])
    axes[0].set_title("data", fontsize="medium")
    for axis, (name, one) in zip(axes[1:], found.items(), strict=True):
        density = np.exp(np.asarray(one.density.unnormalized_log_prob(points)) - one.log_z)
        lx.plotting.density_map(axis, across, along, density)
        axis.set_title(f"{name}: {one.held_out.loss:.3f} nats", fontsize="medium")
    path = out / "energy_2d.png"
    lx.plotting.save(figure, path)
    print(f"written: {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--out", type=Path, help="folder for the figure")
    options = parser.parse_args()
    main(options.steps, options.out)
