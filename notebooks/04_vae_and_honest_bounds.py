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
# # How far is a bound from the likelihood?
#
# A model with latent variables, $p(x) = \int p(x \mid z)\,p(z)\,dz$, has a likelihood that cannot be
# computed, and a bound that can. This notebook
#
# 1. takes a model whose likelihood is known and looks at the gap;
# 2. closes it with more particles;
# 3. compares the gradients of four estimators;
# 4. trains on real digits and says what may be compared with what.

# %%
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
# ## 1. A likelihood that is known
#
# Probabilistic principal components: $x = W z + \mu + \sigma\varepsilon$. Its likelihood is a Normal's,
# and so is its posterior, so that the gap of the bound is known, too: $\mathrm{KL}(q \,\|\, p(z \mid x))$.
# `lx.testing.LinearGaussian` has all of it, with a decoder and an encoder as networks; the encoder can
# be moved away from the posterior.

# %%
truth = lx.testing.LinearGaussian(
    [[1.0, 0.3], [-0.5, 0.8], [0.2, -1.1], [0.7, 0.4]], [0.5, -1.0, 0.0, 2.0], 0.6
)
data = truth.sample(key(0), 400)
batch = lx.Batch(data)
exact = -float(truth.log_prob(data).mean())
print(f"-log p(x): {exact:.4f} nats (exact)")

shifts = np.linspace(0.0, 1.0, 3 if QUICK else 9)
bounds, gaps = [], []
parts = truth.decoder, truth.encoder, truth.prior
model = lx.vae.ELBO(*parts, num_particles=100)
for shift in shifts:
    away = np.array([shift, -shift])
    bounds.append(lx.evaluate(model, truth.params(shift=away), key(1), batch))
    gaps.append(float(truth.gap(data, shift=away).mean()))
print("at the posterior:", bounds[0])

plt.figure(figsize=(6, 3.2))
plt.plot(shifts, exact + np.array(gaps), color=BLUE, label="likelihood + KL(q || posterior)")
plt.plot(shifts, [b.loss for b in bounds], "o", color=ORANGE, label="ELBO")
plt.axhline(exact, color="0.5", linestyle="--", label="likelihood")
plt.xlabel("how far the encoder is from the posterior")
plt.ylabel("nats")
plt.legend()
plt.show()

# %% [markdown]
# ## 2. More particles
#
# `lx.vae.IWAE` averages K weights before the logarithm: the bound falls to the likelihood as K grows,
# whatever the encoder. Its claim says so.

# %%
params = truth.params(shift=(0.8, -0.8), stretch=1.3)
counts = [1, 4, 16] if QUICK else [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
scores = {}
for count in counts:
    model = lx.vae.IWAE(*parts, num_particles=count)
    scores[count] = lx.evaluate(model, params, key(2), batch)
print(scores[counts[-1]])

plt.figure(figsize=(6, 3.2))
plt.semilogx(counts, [s.loss - exact for s in scores.values()], "o-", color=BLUE)
plt.axhline(0, color="0.5", linestyle="--")
plt.xlabel("particles K")
plt.ylabel("bound - likelihood, nats")
plt.show()

# %% [markdown]
# `lx.vae.marginal_log_prob` gives each example its own estimate, with its standard error and how many
# particles really count. Against the truth:

# %%
few = lx.Batch(data[:40])
estimate = lx.vae.marginal_log_prob(
    model, params, key(3), few, num_particles=100 if QUICK else 5000
)
off = np.asarray(estimate.log_prob - truth.log_prob(data[:40])) / np.asarray(
    estimate.standard_error
)
plt.figure(figsize=(6, 2.8))
plt.errorbar(range(40), off, yerr=1, fmt="o", color=BLUE, markersize=4)
plt.axhline(0, color="0.5", linestyle="--")
plt.xlabel("example")
plt.ylabel("error / standard error")
plt.show()
print(f"root mean square of error / standard error: {np.sqrt(np.mean(off**2)):.2f}")
print(f"particles that count: {float(estimate.effective_particles.mean()):.0f}")

# %% [markdown]
# ## 3. Four gradients of one bound
#
# All of them are gradients of the same number. What differs is their noise: the signal-to-noise ratio of
# the plain one in the encoder's parameters *falls* as K grows (Rainforth et al. 2018). The doubly
# reparameterised one is unbiased, too, and several times less noisy; "stl" is less noisy still, and
# biased for K > 1; "vimco" needs no gradient through samples, and serves discrete latents.

# %%
REPEATS = 20 if QUICK else 200
one = lx.Batch(data[:1])


def signal_to_noise(estimator, count):
    model = lx.vae.IWAE(*parts, num_particles=count, estimator=estimator)

    def slope(key):
        grads = jax.grad(lambda p: model(p, key, one)[0])(params)
        return grads["encoder"]["net"]["bias"]

    slopes = jax.jit(jax.vmap(slope))(jax.random.split(key(4), REPEATS))
    return float(jnp.mean(jnp.abs(slopes.mean(0)) / slopes.std(0)))


ks = [2, 8] if QUICK else [2, 4, 8, 16, 32, 64]
plt.figure(figsize=(6, 3.2))
for estimator, colour in zip(
    ("standard", "stl", "dreg", "vimco"), (BLUE, ORANGE, GREEN, PINK), strict=True
):
    ratios = [signal_to_noise(estimator, k) for k in ks]
    plt.loglog(ks, ratios, "o-", color=colour, label=estimator)
plt.xticks(ks, ks)
plt.yticks([0.5, 1, 2, 5], [0.5, 1, 2, 5])
plt.minorticks_off()
plt.xlabel("particles K")
plt.ylabel("signal / noise, encoder")
plt.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %% [markdown]
# ## 4. Digits
#
# Real images, 8 x 8, binarised at half. A Bernoulli for each pixel alone is an exact likelihood; a
# variational autoencoder has a bound.

# %%
digits = lx.datasets.digits()
train, test = (lx.Batch((d.input > 8).astype(np.float32)) for d in (digits.train, digits.test))
STEPS = 20 if QUICK else 1500
LATENTS = 16


def mlp(*widths):
    def init(key, x):
        sizes = [x.shape[-1], *widths]
        keys = jax.random.split(key, len(widths))
        return [
            {"w": jax.random.normal(k, (a, b)) / a**0.5, "b": jnp.zeros(b)}
            for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
        ]

    def apply(params, x):
        for layer in params[:-1]:
            x = jax.nn.gelu(x @ layer["w"] + layer["b"])
        return x @ params[-1]["w"] + params[-1]["b"]

    return init, apply


encoder = lx.Conditional(mlp(128, 2 * LATENTS), lx.Head(lx.Normal, event_shape=LATENTS))
decoder = lx.Conditional(mlp(128, 64), lx.Head(lx.Bernoulli, event_shape=64))
prior = lx.Normal(jnp.zeros(LATENTS), 1.0).to_event()
vae = lx.vae.ELBO(decoder, encoder, prior)
optimizer = optax.adamw(optax.cosine_decay_schedule(3e-3, STEPS), weight_decay=0.1)
batches = lx.datasets.batches(train, 128, key(5))
fitted = lx.train.fit(vae, optimizer, batches, steps=STEPS, key=key(6))

pixels = lx.Likelihood(None, lx.Head(lx.Bernoulli, event_shape=64, logits=lx.learned()))
alone = lx.train.fit(pixels, optax.adam(0.05), train, steps=20 if QUICK else 300, key=key(7))

tight = lx.vae.IWAE(decoder, encoder, prior, num_particles=20 if QUICK else 1000)
table = {
    "each pixel alone": lx.evaluate(pixels, alone.params, key(8), test),
    "VAE, ELBO": lx.evaluate(vae, fitted.params, key(8), test),
    "the same, many particles": lx.evaluate(tight, fitted.params, key(8), test),
}
for name, score in table.items():
    print(f"{name:26s} {score}")

# %% [markdown]
# An upper bound below an exact number decides: the likelihood is below the bound. A bound below another
# bound decides nothing, since each may be as far from its likelihood as it likes, and `lx.compare` says
# so.

# %%
print(lx.compare(table["the same, many particles"], table["each pixel alone"]))
print(lx.compare(table["the same, many particles"], table["VAE, ELBO"]))

# %%
shown = np.asarray(test.target[:10])
again = np.asarray(vae.reconstruct(fitted.params, key(9), shown).mean())
drawn = np.asarray(
    vae.decode(fitted.params, *vae.sample_latents(fitted.params, key(10), 10)).mean()
)
figure, axes = plt.subplots(3, 10, figsize=(8, 2.7))
for row, images in zip(axes, (shown, again, drawn), strict=True):
    for axis, image in zip(row, images, strict=True):
        axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        axis.set_xticks([])
        axis.set_yticks([])
for axis, name in zip(axes[:, 0], ("held out", "reconstructed", "drawn"), strict=True):
    axis.set_ylabel(name, rotation=0, ha="right", va="center")
plt.show()

# %% [markdown]
# Which latents does it use? Those whose posterior differs from the prior, by example.

# %%
usage = lx.vae.latent_usage(vae, fitted.params, key(11), test)
plt.figure(figsize=(6, 2.6))
plt.bar(range(LATENTS), np.sort(np.asarray(usage.kl))[::-1], color=BLUE)
plt.xlabel("latent, by its divergence")
plt.ylabel("KL, nats")
plt.title(f"{int(usage.active.sum())} of {LATENTS} are active")
plt.show()
