"""Restricted Boltzmann machines of handwritten digits: trained without log Z, judged with it.

    python examples/rbm_digits.py --out figures

16 hidden units have 65,536 states: log Z is exact, so that what each objective is worth can be seen,
whatever its own number says. Annealing brackets it from both sides, which is all there is for 256 units.
Beside them scikit-learn's BernoulliRBM at three settings: from the first to the second its
pseudo-likelihood gets better by 1.6 nats, while the likelihood gets worse. Held-out nats per image, in
about 2 minutes on 2 cores of an AMD EPYC:

                                    exact            forward          reverse          pseudo
    exact likelihood                18.611 ± 0.223   18.580 ± 0.043   18.571 ± 0.040   16.203
    CD-1                            18.432 ± 0.201   18.460 ± 0.023   18.430 ± 0.021   15.680
    CD-10                           18.454 ± 0.198   18.437 ± 0.022   18.462 ± 0.019   15.735
    PCD-5, 500 chains               18.681 ± 0.207   18.657 ± 0.021   18.671 ± 0.020   16.146
    pseudo-likelihood               18.614 ± 0.213   18.572 ± 0.025   18.616 ± 0.024   15.996
    ratio matching                  18.746 ± 0.206   18.719 ± 0.019   18.790 ± 0.022   16.028
    scikit-learn, 0.05, 20 passes   21.648 ± 0.234   21.656 ± 0.030   21.650 ± 0.033   18.131
    scikit-learn, 0.05, 100 passes  21.878 ± 0.227   21.885 ± 0.062   21.848 ± 0.060   16.490
    scikit-learn, 0.02, 300 passes  19.490 ± 0.209   19.547 ± 0.069   19.562 ± 0.060   16.108
    PCD-5, 256 hidden units                          16.625 ± 0.065   16.566 ± 0.060   12.801

The errors of the exact NLL are over images, those of annealing of log Z alone. The best is 1.06 ± 0.10
nats better than scikit-learn's best. The exact gradient is of all images at once and fits them best, not
the held-out ones: the noise of small batches and short chains is worth as much here.

Bits have no score to be matched. Grey levels with Normal noise of one level have a density, of which Gaussian
machines of 16 hidden units have -24.04 ± 0.53 nats by exact likelihood, -19.96 ± 0.55 by score matching.
"""

import argparse
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.neural_network import BernoulliRBM

import likelax as lx

PIXELS, HIDDEN, WIDE = 64, 16, 256
COLUMNS = 14  # of the pictures
VALIDATION = 150  # images of the training part, by which it is said when to stop
RBM = lx.energy.RBM


class Recipe(NamedTuple):
    """How a machine is trained.

    Attributes:
      objective: of the machine where training starts.
      rate: of learning.
      batch: how many images of a step; None: all.
      times: as many steps as others.
    """

    objective: Callable[[Any], Any]
    rate: float
    batch: int | None = 128
    times: int = 2


energy, partial = lx.energy, functools.partial
# By name.
OBJECTIVES = {
    "exact likelihood": Recipe(energy.MaximumLikelihood, 0.05, None, 1),
    "CD-1": Recipe(partial(energy.ContrastiveDivergence, k=1), 0.03),
    "CD-10": Recipe(partial(energy.ContrastiveDivergence, k=10), 0.03),
    "PCD-5, 500 chains": Recipe(
        partial(energy.PersistentContrastiveDivergence, k=5, num_chains=500), 0.03, None
    ),
    "pseudo-likelihood": Recipe(energy.PseudoLikelihood, 0.03),
    "ratio matching": Recipe(energy.RatioMatching, 0.03),
}
PCD = OBJECTIVES["PCD-5, 500 chains"]
# Of grey levels with Normal noise of a level, by machines whose visible units are Normals.
DENSITIES = {
    "exact likelihood": Recipe(energy.MaximumLikelihood, 0.02, None, 1),
    "score matching": Recipe(partial(energy.ScoreMatching, method="sliced"), 0.003),
}
# scikit-learn's BernoulliRBM: learning rate and passes through the data; random_state=0.
SETTINGS = ((0.05, 20), (0.05, 100), (0.02, 300))


class Scores(NamedTuple):
    """What is said of held-out images, in nats per image.

    Attributes:
      nll: with the exact log Z; None where that has too many states.
      lower, upper: with log Z by annealing, forward and reverse.
      pseudo: -sum log p(pixel | all others), which is no likelihood.
    """

    nll: lx.Evaluation | None
    lower: lx.Evaluation
    upper: lx.Evaluation
    pseudo: float

    def __str__(self) -> str:
        exact = f"{self.nll.loss:6.3f} ± {self.nll.standard_error:.3f}" if self.nll else " " * 14
        low, high = (
            f"{side.loss:6.3f} ± {side.terms['log_z_error']:.3f}"
            for side in (self.lower, self.upper)
        )
        return f"{exact}   {low}   {high}   {self.pseudo:6.3f}"


def start(x: np.ndarray, hidden: int) -> Any:
    """Small weights; visible biases at the logits of the pixels' means."""
    mean = (x.sum(0) + 1) / (len(x) + 2)
    rbm = RBM.random(jax.random.key(0), PIXELS, hidden, scale=0.1)
    return rbm.replace(visible_bias=jnp.asarray(np.log(mean / (1 - mean)), jnp.float32))


def start_of_normals(x: np.ndarray, hidden: int) -> Any:
    """Small weights; each pixel's mean and standard deviation."""
    rbm = lx.energy.GaussianRBM.random(jax.random.key(0), PIXELS, hidden)
    return rbm.replace(visible_bias=jnp.asarray(x.mean(0)), scale=jnp.asarray(x.std(0)))


def exact(rbm: Any, x: np.ndarray) -> lx.Evaluation:
    """The NLL, by a sum over all states of the hidden units."""
    return rbm.normalize(lx.energy.log_partition(rbm)).evaluate(x)


def train(rbm: Any, recipe: Recipe, x: np.ndarray, steps: int, validation: Any) -> tuple[Any, Any]:
    """Adam with a falling rate and decay of the weights. Ten times on the way the exact NLL of the
    validation images is computed, and the best machine is kept; without such images, the last one.
    Returns it, and the last step's numbers.
    """
    model, steps = recipe.objective(rbm), recipe.times * steps
    decay = optax.adamw(
        optax.cosine_decay_schedule(recipe.rate, steps),
        b2=0.99,
        weight_decay=0.03,
        mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim == 2, params),
    )
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), decay)
    data = lx.Batch(x)
    batches = lx.datasets.batches(data, recipe.batch or len(x), jax.random.key(1), endless=True)
    one_step = lx.train.step(model, optimizer)
    now = lx.train.init(model, optimizer, jax.random.key(2), data)
    best, least = rbm, np.inf
    for done, batch in zip(range(1, steps + 1), batches, strict=False):
        now, aux = one_step(now, batch)
        if done % max(1, steps // 10) == 0 or done == steps:
            loss = -done if validation is None else exact(now.params, validation).loss
            if loss < least:
                best, least = jax.tree.map(jnp.copy, now.params), loss
    return best, aux


def by_scikit_learn(x: np.ndarray, rate: float, passes: int) -> Iterator[tuple[int, RBM]]:
    """BernoulliRBM after each pass: what `fit(x)` with `random_state=0` makes in so many passes."""
    machine = BernoulliRBM(HIDDEN, learning_rate=rate, random_state=0)
    for done in range(1, passes + 1):
        for first in range(0, len(x), machine.batch_size):
            machine.partial_fit(x[first : first + machine.batch_size])
        parts = machine.components_.T, machine.intercept_visible_, machine.intercept_hidden_
        yield done, RBM(*(jnp.asarray(part, jnp.float32) for part in parts))


def long_chains(rbm: RBM, key: jax.Array, count: int, sweeps: int) -> jax.Array:
    """Where chains are after many sweeps that started at images of coins."""
    coins = jax.random.bernoulli(jax.random.fold_in(key, sweeps), 0.5, (count, PIXELS))
    return rbm.gibbs(key, coins.astype(jnp.float32), sweeps=sweeps)


def pseudo_nll(rbm: RBM, x: np.ndarray) -> float:
    """-sum log p(pixel | all others), the mean over images."""
    return -float(jnp.mean(jnp.sum(rbm.unit_given_rest(x).log_prob(x), -1)))


def score(rbm: RBM, key: jax.Array, x: np.ndarray, temperatures: int, sweeps: int) -> Scores:
    """All that is known of a machine's likelihood. Reverse annealing starts at exact samples, where
    there can be some, else after `sweeps` sweeps: then its side is an estimate."""
    few = rbm.num_hidden <= HIDDEN
    samples = None if few else long_chains(rbm, key, 100, sweeps)
    betas = temperatures if few else 5 * temperatures
    sides = lx.energy.bracket(rbm, key, samples=samples, betas=betas)
    lower, upper = (rbm.normalize(side).evaluate(x) for side in sides)
    return Scores(exact(rbm, x) if few else None, lower, upper, pseudo_nll(rbm, x))


def main(
    steps: int = 600, out: Path | None = None, temperatures: int = 1000, sweeps: int = 2000
) -> dict[str, Scores]:
    data = lx.datasets.digits()
    print(f"data: {data.source}; black where the level is above 8")
    whole, test = ((part.input / 16 > 0.5).astype(np.float32) for part in (data.train, data.test))
    training, validation = whole[:-VALIDATION], whole[-VALIDATION:]
    print(
        f"{len(whole)} images to train on, {VALIDATION} of them to say when to stop; {len(test)} held out"
    )
    print(f"{'nats per image':31} exact            forward          reverse          pseudo")
    found: dict[str, Scores] = {}
    machines: dict[str, RBM] = {}

    def report(name: str, rbm: RBM, told: str) -> None:
        machines[name] = rbm
        found[name] = score(rbm, jax.random.key(3), test, temperatures, sweeps)
        print(f"{name:31} {found[name]}  {told}", flush=True)

    for name, recipe in OBJECTIVES.items():
        began = time.perf_counter()
        rbm, aux = train(start(training, HIDDEN), recipe, training, steps, validation)
        told = f"{time.perf_counter() - began:.0f} s"
        own = "" if aux.claim.relation == "exact" else f"; its own number {float(aux.loss):.2f}"
        report(name, rbm, told + own)
    # On all images to train on, in double precision: other random numbers make other machines.
    paths = {}
    for rate, passes in SETTINGS:
        passes = min(passes, steps)
        paths[rate] = dict(by_scikit_learn(whole.astype(float), rate, passes))
        report(f"scikit-learn, {rate}, {passes} passes", paths[rate][passes], "")
    rbm, _ = train(start(whole, WIDE), PCD, whole, steps, None)
    report(f"PCD-5, {WIDE} hidden units", rbm, "too many states for an exact sum")

    ours, theirs = (
        min(
            (found[n] for n in found if found[n].nll and ("scikit" in n) == of),
            key=lambda s: s.nll.loss,
        )
        for of in (False, True)
    )
    print(f"the best against scikit-learn's best: {lx.compare(ours.nll, theirs.nll)}")
    densities(data, steps)
    if out is not None:
        draw(out, test, machines, found, paths[SETTINGS[1][0]], sweeps)
    return found


def densities(data: lx.datasets.Dataset, steps: int) -> None:
    """Score matching wants real values: grey levels with noise, and exact NLLs of that density."""
    rng = np.random.default_rng(0)
    whole, test = (
        ((part.input + rng.normal(size=part.input.shape)) / 16).astype(np.float32)
        for part in (data.train, data.test)
    )
    training, validation = whole[:-VALIDATION], whole[-VALIDATION:]
    print("levels / 16 with Normal noise of 1 / 16, a density: Gaussian RBMs, exact nats per image")
    for name, recipe in DENSITIES.items():
        rbm, _ = train(start_of_normals(training, HIDDEN), recipe, training, steps, validation)
        print(f"{name:31} {exact(rbm, test)}", flush=True)


def draw(
    out: Path,
    x: np.ndarray,
    machines: dict[str, RBM],
    found: dict[str, Scores],
    path: dict[int, RBM],
    sweeps: int,
) -> None:
    """PNG files: samples, the weights of hidden units, and what the pseudo-likelihood says."""
    out.mkdir(parents=True, exist_ok=True)
    key = jax.random.key(4)
    samples, filters = {"held out": x[:COLUMNS]}, {}
    for name, rbm in machines.items():
        few = rbm.num_hidden <= HIDDEN
        samples[name] = (
            lx.energy.exact_samples(rbm, key, COLUMNS)
            if few
            else long_chains(rbm, key, COLUMNS, sweeps)
        )
        largest = jnp.argsort(-jnp.sum(rbm.weight**2, 0))[:COLUMNS]
        rows = rbm.weight[:, largest].T
        filters[name] = rows / jnp.max(jnp.abs(rows))
    pages = {
        "rbm_samples": lx.plotting.image_rows(_images(samples), 1),
        "rbm_filters": lx.plotting.image_rows(_images(filters), 0.7, low=-0.7),
        "rbm_pseudo_likelihood": _pseudo_likelihood(x, found, path),
    }
    for name, figure in pages.items():
        lx.plotting.save(figure, out / f"{name}.png")
        print(f"written: {out / name}.png")


def _images(rows: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(row).reshape(-1, 8, 8) for name, row in rows.items()}


def _pseudo_likelihood(x: np.ndarray, found: dict[str, Scores], path: dict[int, RBM]) -> Any:
    """Along scikit-learn's training, and of all machines: the two numbers go their own ways."""
    figure, (left, right) = lx.plotting.panels(2, width=5.5, height=4.2)
    passes = [k for k in path if k % 2 == 0 or k == 1]
    nll = [exact(path[k], x).loss for k in passes]
    left.plot(passes, nll, color="#0072b2", label="-log p(x), exact")
    pseudo = [pseudo_nll(path[k], x) for k in passes]
    left.plot(passes, pseudo, color="#d55e00", label="-sum log p(pixel | others)")
    left.set(xlabel="passes", ylabel="held-out nats per image", title="scikit-learn, rate 0.05")
    left.legend(frameon=False)
    known = {name: scores for name, scores in found.items() if scores.nll}
    for i, (name, scores) in enumerate(known.items()):
        colour = "#d55e00" if "scikit" in name else "#0072b2"
        marker = "os^Dv*PX<"[i % 9]
        right.plot(scores.pseudo, scores.nll.loss, marker, color=colour, label=name, markersize=7)
    right.set(xlabel="-sum log p(pixel | others)", title="-log p(x), exact, 16 hidden units")
    right.legend(fontsize=8, loc="lower right", frameon=False)
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=Path, help="folder for the pictures")
    options = parser.parse_args()
    main(options.steps, options.out)
