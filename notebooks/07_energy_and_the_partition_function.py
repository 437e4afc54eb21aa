# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What is a density without its log Z?
#
# An energy says how much likelier one value is than another: $p(x) = e^{-E(x)} / Z$. How likely a value
# *is* hangs on $\log Z$, a sum over everything that could be. This notebook
#
# 1. computes it by hand and by the library for a small Boltzmann machine;
# 2. brackets it from both sides by annealing, and watches the bracket close;
# 3. trains on real digits by contrastive divergence, whose number is no likelihood;
# 4. sets the pseudo-likelihood beside the exact likelihood: they disagree about which machine is better.

# %%
import itertools
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import likelax as lx

QUICK = "LIKELAX_QUICK" in os.environ  # for the tests: fewer steps, smaller sizes

BLUE, ORANGE, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
plt.rcParams.update(
    {
        "figure.dpi": 72,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
    }
)


def key(number):
    return jax.random.key(number)


# %% [markdown]
# ## 1. By hand
#
# A restricted Boltzmann machine of 6 visible and 3 hidden units has $2^9$ joint states. Summing over all
# of them in NumPy is a few lines; the library sums the visible units out in closed form and goes over the
# $2^3$ states of the others. Before that there is no `log_prob` to be had.

# %%
rng = np.random.default_rng(0)
W, a, b = 1.5 * rng.normal(size=(6, 3)), rng.normal(size=6), rng.normal(size=3)
small = lx.energy.RBM(jnp.asarray(W), jnp.asarray(a), jnp.asarray(b))

states = [np.array(list(itertools.product([0, 1], repeat=n))) for n in (6, 3)]
joint = np.array([[v @ W @ h + a @ v + b @ h for h in states[1]] for v in states[0]])
print("by hand:   ", np.logaddexp.reduce(joint.ravel()))
print("by library:", lx.energy.log_partition(small))

try:
    small.log_prob(states[0][0])
except AttributeError as error:
    print("refused:", error)

known = small.normalize(lx.energy.log_partition(small))
p = np.exp(np.asarray(known.log_prob(states[0])))
drawn = np.asarray(lx.energy.exact_samples(small, key(0), 500 if QUICK else 20_000))
index = drawn.astype(int) @ 2 ** np.arange(5, -1, -1)
figure, axis = plt.subplots(figsize=(9, 2.6))
axis.bar(np.arange(64), np.bincount(index, minlength=64) / len(drawn), color="0.8", label="samples")
axis.plot(np.arange(64), p, ".", color=BLUE, label="exact")
axis.set_xlabel("state of the visible units")
axis.set_ylabel("probability")
axis.legend()
plt.show()
print("sum of all probabilities:", round(float(p.sum()), 6))

# %% [markdown]
# ## 2. From below and from above
#
# With hundreds of units there is no such sum. Annealed importance sampling goes from a machine without
# couplings, whose $Z$ is known, through many temperatures to the machine asked about. Its estimate of $Z$ is
# unbiased; of $\log Z$, by Jensen's inequality, it is too small on average. Going the other way, from samples
# of the machine, it is too large. The truth lies between, and the more temperatures, the closer the sides.
# The dots are single chains, where the gap is widest.

# %%
machine = lx.energy.RBM.random(key(1), 40, 10, scale=1.2)
exact = lx.energy.log_partition(machine)
counts = (8,) if QUICK else (2, 5, 10, 20, 50, 100, 300, 1000)
sides = {
    count: lx.energy.bracket(machine, key(2), betas=count, num_chains=50 if QUICK else 200)
    for count in counts
}
figure, axis = plt.subplots(figsize=(7, 3.2))
for color, side in ((BLUE, "lower"), (ORANGE, "upper")):
    results = [getattr(sides[count], side) for count in counts]
    logs = [np.asarray(result.log_weights) for result in results]
    for count, values in zip(counts, logs, strict=True):
        axis.plot(np.full(30, count), values[:30], ".", color=color, markersize=2, alpha=0.5)
    axis.plot(counts, [values.mean() for values in logs], "--", color=color, linewidth=1)
    axis.errorbar(
        counts,
        [float(result.log_z) for result in results],
        [2 * float(result.standard_error) for result in results],
        color=color,
        label={"lower": "forward", "upper": "reverse"}[side],
    )
axis.axhline(float(exact.log_z), color="0.3", linewidth=0.8, label="exact")
axis.plot([], [], "--", color="0.4", linewidth=1, label="mean over single chains")
axis.set_xscale("log")
axis.set_xlabel("temperatures")
axis.set_ylabel("log Z")
axis.set_ylim(float(exact.log_z) - 25, float(exact.log_z) + 25)
axis.legend()
plt.show()
print("exact:  ", exact)
print("forward:", sides[counts[-1]].lower)
print("reverse:", sides[counts[-1]].upper)

# %% [markdown]
# Parallel tempering keeps chains at all temperatures at once and lets them change places. It has samples of
# far modes, and a $\log Z$ from the ratios of neighbours: an estimate, whose error knows that the rounds of a
# chain resemble one another, but no bound on either side.

# %%
tempered = lx.energy.parallel_tempering(
    machine, key(3), num_chains=20, rounds=20 if QUICK else 500, burn_in=5 if QUICK else 100
)
print("tempering:", tempered.log_partition)
size, rounds = float(tempered.log_partition.effective_samples), tempered.samples[..., 0].size
print(f"{rounds} rounds of all chains are worth {size:.0f} independent ones")
print("swaps accepted:", np.round(np.asarray(tempered.swap_rate[::4]), 2))

# %% [markdown]
# ## 3. The number of contrastive divergence
#
# Real digits, black and white. Contrastive divergence compares the energy of images with that of what a
# Gibbs sweep makes of them; the difference has a useful gradient, and no meaning as a number. Below it stays
# near 0 while the exact likelihood, which 12 hidden units allow, tells what is going on.

# %%
digits = lx.datasets.digits()
train, test = ((part.input > 8).astype(np.float32) for part in (digits.train, digits.test))
mean = (train.sum(0) + 1) / (len(train) + 2)
start = lx.energy.RBM.random(key(4), 64, 4 if QUICK else 12, scale=0.1)
start = start.replace(visible_bias=jnp.asarray(np.log(mean / (1 - mean)), jnp.float32))
pseudo_likelihood = lx.energy.PseudoLikelihood(start)


def held_out(rbm):
    """The exact NLL, and the pseudo-likelihood's number."""
    nll = rbm.normalize(lx.energy.log_partition(rbm)).evaluate(test)
    return nll, float(pseudo_likelihood(rbm, key(0), lx.Batch(test), train=False)[0])


def path(model, steps, optimizer, size=128, every=20):
    """Along training: steps, the objective's own number, exact NLLs, pseudo-likelihoods; and the end."""
    batches = lx.datasets.batches(lx.Batch(train), size, key(5), endless=True)
    one_step = lx.train.step(model, optimizer)
    now = lx.train.init(model, optimizer, key(6), lx.Batch(train[:size]))
    rows = []
    for done, batch in zip(range(1, steps + 1), batches, strict=False):
        now, aux = one_step(now, batch)
        if done % every == 0:
            nll, pseudo = held_out(now.params)
            rows.append((done, float(aux.loss), nll.loss, pseudo))
    return np.array(rows).T, now.params, aux


STEPS, EVERY = (40, 20) if QUICK else (1000, 20)
divergence = lx.energy.ContrastiveDivergence(start, k=1)
cd, trained, aux = path(divergence, STEPS, optax.adam(0.01), every=EVERY)
print("the number of CD-1:", round(float(aux.loss), 3), "with the claim", repr(aux.claim.relation))
try:
    lx.bits_per_dim(aux)
except ValueError as error:
    print("refused:", error)
print("held out:", held_out(trained)[0])

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
left.plot(cd[0], cd[1], color=ORANGE)
left.set_title("CD-1's own number")
right.plot(cd[0], cd[2], color=BLUE)
right.set_title("exact -log p(x) of held-out images")
for axis in (left, right):
    axis.set_xlabel("steps")
plt.show()

# %% [markdown]
# ## 4. Pseudo-likelihood
#
# $-\sum_i \log p(x_i \mid \text{all others})$ needs no $\log Z$, and libraries print it in its place. It sees
# what lies one flip away from the data; whether the machine has put much of its mass elsewhere, it cannot
# see. With plain steps that are too large mass goes astray now and then: the likelihood jumps up and down,
# the pseudo-likelihood hardly notices, and of the four machines below it likes best the one that is worst.

# %%
rough, astray, _ = path(
    lx.energy.ContrastiveDivergence(start, k=1),
    STEPS if QUICK else 6000,
    optax.sgd(0.5),
    size=20,
    every=20 if QUICK else 100,
)
exact_ml, fitted, _ = path(lx.energy.MaximumLikelihood(start), STEPS, optax.adam(0.01), every=EVERY)
pseudo, by_pseudo, _ = path(pseudo_likelihood, STEPS, optax.adam(0.01), every=EVERY)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4))
left.plot(rough[0], rough[2], color=BLUE, label="$-\\log p(x)$, exact")
left.plot(rough[0], rough[3], color=ORANGE, label="$-\\sum \\log p(x_i | $others$)$")
left.set_xlabel("steps of CD-1, too large")
left.set_ylabel("held-out nats per image")
left.legend()
runs = {
    "exact likelihood": (exact_ml, BLUE),
    "CD-1": (cd, GREEN),
    "pseudo-likelihood": (pseudo, PINK),
    "CD-1, too large steps": (rough, ORANGE),
}
for name, (rows, color) in runs.items():
    right.plot(rows[3], rows[2], color=color, linewidth=0.8, alpha=0.6)
    right.plot(rows[3, -1], rows[2, -1], "o", color=color, label=name)
right.set_xlabel("$-\\sum \\log p(x_i | $others$)$")
right.set_ylabel("$-\\log p(x)$, exact")
right.set(xlim=(None, 18.6), ylim=(None, 21.2))
right.legend(loc="upper left", fontsize=8)
plt.show()

scores = {"exact likelihood": fitted, "CD-1": trained, "pseudo-likelihood": by_pseudo}
scores["CD-1, too large steps"] = astray
for name, rbm in scores.items():
    nll, of_pixels = held_out(rbm)
    print(f"{name:22} {nll}; pseudo {of_pixels:.3f}")

# %% [markdown]
# What each machine dreams of says the same. Samples are exact: 12 hidden units can be enumerated.

# %%
figure, axes = plt.subplots(3, 12, figsize=(9, 2.5))
rows = (
    test[:12],
    lx.energy.exact_samples(fitted, key(7), 12),
    lx.energy.exact_samples(astray, key(7), 12),
)
for line, images in zip(axes, rows, strict=True):
    for axis, image in zip(line, np.asarray(images), strict=True):
        axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(True)
for axis, name in zip(axes[:, 0], ("held out", "exact", "too large"), strict=True):
    axis.set_ylabel(name, rotation=0, ha="right", va="center")
plt.show()
