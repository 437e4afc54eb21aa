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
# # From denoising to bits per dimension
#
# A diffusion model learns to tell data from noise, $z = \alpha x + \sigma \varepsilon$. What has that to
# do with a likelihood? This notebook
#
# 1. takes data whose best denoiser is known, and finds their likelihood in the denoising loss;
# 2. says which losses are bounds, and which are none;
# 3. solves the probability-flow equation for the same number, and forgets a term of it on purpose;
# 4. trains on real digits, and sets what comes out beside exact numbers.

# %%
import dataclasses
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
# ## 1. The likelihood in the denoising loss
#
# Of Gaussian data the best denoiser $\mathrm{E}[x \mid z]$ is a formula. `lx.testing.GaussianDiffusion`
# has it as a network without parameters. The variational bound is an integral over the log-SNR
# $\lambda = \log \alpha^2 / \sigma^2$,
#
# $$-\log p(x) \le \tfrac12 \int \mathrm{E}\,|\varepsilon - \hat\varepsilon|^2\,d\lambda + \text{what the ends cost},$$
#
# and its value depends on the ends alone, not on the schedule between them: a schedule says where the
# integral is sampled, and so how noisy the estimate by one draw for each example is.

# %%
truth = lx.testing.GaussianDiffusion([0.4, -0.9, 0.2], [0.05, 0.4, 1.5])
data = truth.sample(key(0), 100 if QUICK else 20_000)
batch = lx.Batch(data)
print(f"-log p(x): {-truth.log_prob(data).mean():.4f} nats (exact)")

schedules = {
    "linear": lx.diffusion.Linear(),
    "cosine": lx.diffusion.Cosine(),
    "sigmoid": lx.diffusion.Sigmoid(),
    "log-normal": lx.diffusion.LogNormal(),
}
processes = {
    name: lx.diffusion.Process("variance_preserving", schedule, log_snr_max=10.0, log_snr_min=-8.0)
    for name, schedule in schedules.items()
}
for name, process in processes.items():
    model = lx.diffusion.VLB(process, truth.network(process))
    params, _ = model.init(key(1), batch)
    print(f"{name:10s} {lx.evaluate(model, params, key(2), batch)}")

# %% [markdown]
# Within their errors they agree, with one another and with the likelihood. Where is it? The integrand, by log-SNR: what is
# left to learn about each number between two noise levels.

# %%
log_snr = np.linspace(-8, 10, 200)
snr = np.exp(log_snr)[:, None]
each = 0.5 * snr * truth.variance / (1 + snr * truth.variance)
plt.figure(figsize=(6, 3.2))
plt.stackplot(
    log_snr,
    each.T,
    colors=(BLUE, ORANGE, GREEN),
    labels=[f"variance {v:g}" for v in truth.variance],
)
times = jnp.linspace(0.02, 0.98, 25)
at = jax.vmap(processes["linear"].at)(times)


def missed(level, key):
    noise = jax.random.normal(key, data.shape)
    found = truth.denoised(level.alpha * data + level.sigma * noise, level)
    return 0.5 * jnp.sum((found.noise - noise) ** 2, -1).mean()


points = jax.jit(jax.vmap(missed))(at, jax.random.split(key(3), len(times)))
plt.plot(-at.gamma, points, "o", color="0.2", markersize=4, label="by noise that is drawn")
plt.xlabel("log-SNR")
plt.ylabel("nats per unit of log-SNR")
plt.legend(loc="upper left")
plt.show()

# %% [markdown]
# ## 2. Which losses are bounds
#
# Most models are trained with other weights than the bound's, since pictures then look better. The
# weight $w(\lambda)$ decides what the loss says: `claim` for the data, `weighting.bound` for data with
# noise added (Kingma and Gao 2023).

# %%
process = processes["cosine"]
level = process.at(jnp.linspace(0.02, 0.98, 200))
plt.figure(figsize=(6, 3.2))
names = "elbo", "simple", "min_snr", "sigmoid"
for name, colour in zip(names, (BLUE, ORANGE, GREEN, PINK), strict=True):
    weighting = lx.diffusion.Weighting(name)
    weight = np.asarray(weighting(level))
    plt.semilogy(-level.gamma, weight / weight.max(), color=colour, label=name)
    model = lx.diffusion.Denoising(process, truth.network(process), weighting=name)
    loss, aux = jax.jit(model)(model.init(key(1), batch).params, key(4), batch)
    print(f"{name:8s} loss {float(loss):7.3f}: {aux.claim}; bounds: {weighting.bound}")
plt.ylim(1e-4, 2)
plt.xlabel("log-SNR")
plt.ylabel("weight, at most 1")
plt.legend()
plt.show()

try:
    lx.bits_per_dim(aux, bin_width=1 / 256)
except ValueError as error:
    print(f"\nrefused: {error}")

# %% [markdown]
# However it was trained, a denoiser has a bound: `lx.diffusion.bound` scores it with $w = 1$, each
# example by many draws.

# %%
score = lx.diffusion.bound(model, model.init(key(1), batch).params, key(2), batch, num_samples=32)
print(f"{score}; by the draws one example's ± {score.sampling_error.mean():.2f}")

# %% [markdown]
# ## 3. The same number by an equation
#
# The probability-flow equation carries noise to data without drawing anything, and the change of
# variables gives the density. For Gaussian data it is exact, up to the solver's tolerance. (It is
# the density of data with the noise of that end still in them, a part $e^{-10}$ of the variance here,
# carried from standard Normal noise: thousandths of a nat.)

# %%
few = lx.Batch(data[: 20 if QUICK else 200])
model = lx.diffusion.Denoising(processes["linear"], truth.network(processes["linear"]))
params, state = model.init(key(1), few)
found = lx.diffusion.ode_log_prob(model, params, key(5), few)
print(f"by the equation: {float(found.loss):.4f} nats ({found.claim})")
print(f"the truth:       {-truth.log_prob(few.target).mean():.4f} nats")

# %% [markdown]
# The equation stops where there is a little noise left, at $z_0 = \alpha_0 x + \sigma_0 \varepsilon$,
# and a density of $z_0$ is none of $x$. For whole numbers the answer is a bound,
#
# $$-\log P(x) \le -\mathrm{E}\,[\log p_0(z_0) - \log q(z_0 \mid x) + \log P(x \mid z_0)],$$
#
# with the entropy of the noise that is left in the middle. Published code forgot it. Three whole numbers
# from 0 to 4, independent, with probabilities that are known: Bayes's rule is the best denoiser.

# %%
shares = np.random.default_rng(0).dirichlet(np.full(5, 0.7), size=3)
dist = lx.Categorical(probs=jnp.asarray(shares, jnp.float32)).to_event()
whole = lx.Batch(dist.sample(key(6), (100 if QUICK else 2000,)))
exact = -float(dist.log_prob(whole.target).mean())
levels = lx.diffusion.Pixels(bins=5)


def bayes(process):
    """E[x | z] of these numbers, as a network without parameters."""

    def apply(params, z, time):
        at = process.at(time[:, None, None])
        centres = levels.encoded(jnp.arange(5), None)
        seen = lx.Normal(at.alpha * centres, at.sigma).log_prob(z[..., None])
        return jax.nn.softmax(jnp.log(shares) + seen) @ centres

    return lambda key, *_: {}, apply


found, forgotten = {}, {}
for end in (4.0, 8.0) if QUICK else (3.0, 4.0, 5.0, 6.0, 7.0, 8.0):
    process = lx.diffusion.Process("variance_preserving", lx.diffusion.Linear(), end, -8.0)
    model = lx.diffusion.Denoising(process, bayes(process), "data", data=levels, level="time")
    params, _ = model.init(key(1), whole)
    found[end] = float(lx.diffusion.ode_log_prob(model, params, key(5), whole).loss)
    sigma = float(process.ends()[0].sigma)
    forgotten[end] = found[end] + 3 * 0.5 * np.log(2 * np.pi * np.e * sigma**2)
print(f"-log P(x): {exact:.4f} nats (exact)")
print(f"by the equation down to a log-SNR of {end:g}: {found[end]:.4f} nats")

plt.figure(figsize=(6, 3.2))
plt.plot(*zip(*found.items(), strict=True), "o-", color=BLUE, label="by the equation")
plt.plot(*zip(*forgotten.items(), strict=True), "o-", color=ORANGE, label="entropy forgotten")
plt.axhline(exact, color="0.5", linestyle="--", label="likelihood")
plt.xlabel("log-SNR at which the equation stops")
plt.ylabel("nats")
plt.legend()
plt.show()

# %% [markdown]
# ## 4. Digits
#
# Real images of 8 x 8 pixels with 17 levels. The network gives each pixel's levels probabilities from
# all pixels; what the pixel itself shows through the noise is put to that by Bayes's rule. (Here a
# small one, trained for a minute; `examples/diffusion_digits.py` has a better one.)

# %%
digits = lx.datasets.digits()
train, test = (lx.Batch(part.input.astype(np.int32)) for part in (digits.train, digits.test))
STEPS = 20 if QUICK else 1500
pixels = lx.diffusion.Pixels(bins=17)
by_log_snr = lx.diffusion.Process("variance_preserving", lx.diffusion.Linear(), 8.5, -5.0)
# More of the times where the loss is.
process = dataclasses.replace(by_log_snr, schedule=lx.diffusion.LogNormal(mean=-1.75, std=1.5))


def layers(key, widths):
    keys = jax.random.split(key, len(widths) - 1)
    return [
        {"w": jax.random.normal(k, (a, b)) / a**0.5, "b": jnp.zeros(b)}
        for k, a, b in zip(keys, widths[:-1], widths[1:], strict=True)
    ]


def init(key, z, noise):
    return layers(key, [2 * 64 + 8, 256, 256, 64 * 17])


def apply(params, z, noise):
    at, centres = by_log_snr.at(noise[:, None, None]), pixels.encoded(jnp.arange(17), None)
    seen = lx.Normal(at.alpha * centres, at.sigma).log_prob(z[..., None])
    waves = jnp.sin(jnp.pi * noise[:, None] * jnp.arange(1, 9) / 2)
    h = jnp.concatenate([z, jax.nn.softmax(seen) @ centres, waves], -1)
    for layer in params[:-1]:
        h = jax.nn.gelu(h @ layer["w"] + layer["b"])
    logits = 0.1 * (h @ params[-1]["w"] + params[-1]["b"])
    return jax.nn.softmax(logits.reshape(seen.shape) + seen) @ centres


model = lx.diffusion.VLB(process, (init, apply), "data", data=pixels)
optimizer = optax.adamw(optax.cosine_decay_schedule(2e-3, STEPS), weight_decay=0.1)
batches = lx.datasets.batches(train, 128, key(7))
fitted = lx.train.fit(model, optimizer, batches, steps=STEPS, key=key(8))

alone = lx.Likelihood(None, lx.Head(lx.Categorical, 64, num_categories=17, logits=lx.learned()))
simple = lx.train.fit(alone, optax.adam(0.05), train, steps=20 if QUICK else 200, key=key(9))
equation = lx.diffusion.ODELikelihood(model, num_probes=1, rtol=1e-3, atol=1e-3)
table = {
    "each pixel alone": lx.evaluate(alone, simple.params, key(10), test),
    "diffusion, bound": lx.diffusion.bound(model, fitted.params, key(10), test, num_samples=64),
    "diffusion, equation": lx.evaluate(equation, fitted.params, key(10), test),
}
for name, score in table.items():
    print(f"{name:20s} {score}\n{lx.bits_per_dim(score)!s:>60s}")

# %% [markdown]
# An upper bound below an exact number decides. The two bounds of the diffusion model are of two
# distributions, that of its chain and that of its equation: neither says that one is better.

# %%
print(lx.compare(table["diffusion, bound"], table["each pixel alone"]))
print(lx.compare(table["diffusion, equation"], table["diffusion, bound"]))

# %%
way = model.sample(fitted.params, key(11), (10, 64), steps=60, trajectory=True)
rows = [test.target[:10]]
rows += [*(pixels.decoded(way.states[i]) for i in (0, 20, 30, 40)), way.sample]
names = [
    "held out",
    *(f"log-SNR {-float(process.gamma(way.times[i])):.1f}" for i in (0, 20, 30, 40)),
]
figure, axes = plt.subplots(len(rows), 10, figsize=(8, 0.8 * len(rows)))
for row, images, name in zip(axes, rows, [*names, "drawn"], strict=True):
    for axis, image in zip(row, np.asarray(images), strict=True):
        axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        axis.set_xticks([])
        axis.set_yticks([])
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
plt.show()
