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
# # What does a flow add to a distribution?
#
# A map $y = f(x)$ that can be inverted carries a density along: $\log p(y) = \log p(f^{-1}(y)) -
# \log|\det f'|$, exactly. This notebook
#
# 1. does it by hand in one dimension, and checks the log-determinant;
# 2. trains a spline flow on two moons, whose entropy is known;
# 3. does the same by a differential equation;
# 4. makes a bound of a density for data that are whole numbers.

# %%
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import make_moons

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
# A rational-quadratic spline is a smooth increasing curve through knots. A Normal carried along it can
# have several peaks.

# %%
spline = lx.bijectors.RationalQuadraticSpline(
    widths=jnp.array([0.5, -1.0, 0.0, -1.5, 0.8]),
    heights=jnp.array([0.0, 0.8, -1.5, 0.9, -0.3]),
    slopes=jnp.array([2.0, -2.0, -1.0, 1.5]),
)
dist = lx.Transformed(lx.Normal(0.0, 1.0), spline)
y = jnp.linspace(-5, 5, 500)
x = spline.inverse(y)
by_hand = lx.Normal(0.0, 1.0).log_prob(x) + jnp.log(jnp.gradient(x, y))

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
left.plot(x, y, color=BLUE)
left.set_xlabel("x")
left.set_ylabel("y = f(x)")
right.plot(y, jnp.exp(dist.log_prob(y)), color=BLUE, label="library")
right.plot(y[::12], jnp.exp(by_hand)[::12], "o", color=ORANGE, markersize=4, label="by differences")
right.set_xlabel("y")
right.set_ylabel("density")
right.legend()
plt.show()
print("integral:", float(jnp.trapezoid(jnp.exp(dist.log_prob(y)), y)))

# %% [markdown]
# `lx.testing.check_bijector` holds any bijector against the Jacobian that autodiff finds, yours too:

# %%
print(lx.testing.check_bijector(spline, jnp.linspace(-5.0, 5.0, 21), edges=[-4.0, 4.0]))

# %% [markdown]
# ## 2. Two moons
#
# The data are made, so that their entropy is known: 1.0076 nats by quadrature. No density can have less
# on average; how close does a flow come?

# %%
ENTROPY = 1.0076
SIZE, STEPS = (500, 20) if QUICK else (20_000, 1200)
points, _ = make_moons(SIZE, noise=0.1, random_state=0)
held_out, _ = make_moons(SIZE, noise=0.1, random_state=1)
train = lx.Batch(points.astype(np.float32))
test = lx.Batch(held_out.astype(np.float32))


def fit(model, steps, rate, size=256):
    optimizer = optax.chain(
        optax.clip_by_global_norm(5.0), optax.adam(optax.cosine_decay_schedule(rate, steps))
    )
    batches = lx.datasets.batches(train, size, key(0))
    return lx.train.fit(model, optimizer, batches, steps=steps, key=key(1))


spline_flow = lx.Likelihood(None, lx.flows.neural_spline_flow(2, layers=6, hidden=(32, 32)))
affine_flow = lx.Likelihood(None, lx.flows.coupling_flow(2, layers=6, hidden=(32, 32)))
gaussian = lx.Likelihood(
    None, lx.Head(lx.MultivariateNormal, event_shape=2, loc=lx.learned(), scale_tril=lx.learned())
)
fits = {
    "Gaussian": (gaussian, fit(gaussian, STEPS, 0.05)),
    "affine coupling": (affine_flow, fit(affine_flow, STEPS, 3e-3)),
    "spline coupling": (spline_flow, fit(spline_flow, STEPS, 5e-3)),
}
scores = {
    name: lx.evaluate(model, fitted.params, key(2), test) for name, (model, fitted) in fits.items()
}
for name, score in scores.items():
    print(f"{name:16s} {score}, {score.loss - ENTROPY:.4f} above the entropy")
print("spline against affine:", lx.compare(scores["spline coupling"], scores["affine coupling"]))

# %%
grid = np.stack(np.meshgrid(np.linspace(-1.6, 2.6, 160), np.linspace(-1.1, 1.6, 120)), -1)


def density(model, fitted):
    dist = model.predict(fitted.params, jnp.zeros((1, 0)))
    return np.exp(np.asarray(dist[0].log_prob(grid.astype(np.float32))))


def show(axis, values, title):
    axis.imshow(values, origin="lower", extent=(-1.6, 2.6, -1.1, 1.6), cmap="Blues", vmax=0.8)
    axis.set_title(title)


figure, axes = plt.subplots(1, 4, figsize=(13, 2.6), sharey=True)
axes[0].plot(*points[:2000].T, ".", markersize=1, color="0.3")
axes[0].set_title("data")
for axis, (name, (model, fitted)) in zip(axes[1:], fits.items(), strict=True):
    show(axis, density(model, fitted), f"{name}: {scores[name].loss:.3f}")
plt.show()

# %% [markdown]
# ## 3. By a differential equation
#
# $dx/dt = v(x, t)$ moves the base at $t = 0$ to the data at $t = 1$, for any network $v$. Its
# log-determinant is the integral of the divergence, exact up to the solver's tolerance; with random
# probes an unbiased estimate, and then the claim says so.


# %%
def field_init(key, x, t):
    a, b = jax.random.split(key)
    return {
        "hidden": jax.random.normal(a, (3, 64)),
        "shift": jnp.zeros(64),
        "last": 0.01 * jax.random.normal(b, (64, 2)),
    }


def field(params, x, t):
    inputs = jnp.concatenate([x, t[:, None]], -1)
    return jnp.tanh(inputs @ params["hidden"] + params["shift"]) @ params["last"]


ode = lx.flows.ContinuousFlow((field_init, field), 2, rtol=1e-3, atol=1e-3)
continuous = lx.Likelihood(None, ode)
fitted = fit(continuous, 5 if QUICK else 400, 1e-2, size=64 if QUICK else 256)
few = lx.Batch(test.target[: 200 if QUICK else 4000])
score = lx.evaluate(continuous, fitted.params, key(3), few)
print(f"continuous flow  {score}")

probed = lx.Likelihood(None, lx.flows.ContinuousFlow((field_init, field), 2, num_probes=1))
print("with one probe: ", lx.evaluate(probed, fitted.params, key(4), few))

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8))
show(left, density(continuous, fitted), f"continuous: {score.loss:.3f}")
start = jax.random.normal(key(5), (60, 2))
path = [np.asarray(start)]
for t in np.linspace(0, 1, 41)[:-1]:
    now = path[-1]
    path.append(now + np.asarray(field(fitted.params["head"], now, jnp.full(60, t))) / 40)
path = np.stack(path)
right.plot(path[..., 0], path[..., 1], color="0.7", linewidth=0.7)
right.plot(*path[-1].T, ".", color=BLUE)
right.set_title("from noise to data")
plt.show()

# %% [markdown]
# ## 4. Whole numbers
#
# The digits' pixels are 0..16. A density over real numbers can be as large as it likes at them, so its
# value there means nothing. Noise that fills each bin makes an upper bound on the NLL of the numbers
# (Theis et al. 2016), which can be set beside a model that is exact for them.

# %%
digits = lx.datasets.digits()
images = lx.Batch(digits.train.input.astype(np.float32))
others = lx.Batch(digits.test.input.astype(np.float32))
steps = 10 if QUICK else 600

flow = lx.flows.masked_autoregressive_flow(64, layers=3, hidden=(128,))
dequantized = lx.flows.dequantize(
    lx.Likelihood(None, flow), bins=17, preprocessing=lx.flows.logit(0.05)
)
exact = lx.Likelihood(
    None,
    lx.Head(
        lx.Quantized,
        base=lx.Head(lx.Logistic, loc=lx.learned(8.0), scale=lx.learned(3.0)),
        low=0,
        high=16,
        bins=17,
        event_shape=64,
    ),
)


def trained(model, rate):
    batches = lx.datasets.batches(images, 128, key(6))
    optimizer = optax.chain(
        optax.clip_by_global_norm(5.0), optax.adam(optax.cosine_decay_schedule(rate, steps))
    )
    fitted = lx.train.fit(model, optimizer, batches, steps=steps, key=key(7))
    return fitted, lx.evaluate(model, fitted.params, key(8), others)


of_flow, bound = trained(dequantized, 2e-3)
_, alone = trained(exact, 0.05)
print("each pixel alone:", alone)
print("flow, dequantised:", bound)
print("in bits per pixel:", lx.bits_per_dim(alone), "and", lx.bits_per_dim(bound))
print(lx.compare(bound, alone))

# %%
drawn = np.asarray(dequantized.sample(of_flow.params, key(9), (10,)))
figure, axes = plt.subplots(2, 10, figsize=(8, 1.9))
for row, rows in zip(axes, (np.asarray(others.target[:10]), drawn), strict=True):
    for axis, image in zip(row, rows, strict=True):
        axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        axis.set_xticks([])
        axis.set_yticks([])
for axis, name in zip(axes[:, 0], ("held out", "drawn"), strict=True):
    axis.set_ylabel(name, rotation=0, ha="right", va="center")
plt.show()
