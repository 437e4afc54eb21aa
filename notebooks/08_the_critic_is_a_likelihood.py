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
# # The critic is a likelihood
#
# The generator of a GAN has no likelihood. Its critic has one: of the label "data or sample", a Bernoulli
# whose logit, at its best, is $\log p(x) / q(x)$. This notebook
#
# 1. trains such a classifier as the likelihood that it is, and reads the ratio of two densities from it;
# 2. measures five divergences from samples alone, from below, with their errors;
# 3. holds both players to their own gradients;
# 4. shows what each loss makes of a generator that cannot fit the data;
# 5. compares samples without any critic.

# %%
import os
from unittest import mock

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import likelax as lx
from likelax import adversarial

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
# ## 1. A classifier knows the ratio
#
# The data are a mixture $p$, the model $q$ is a Normal; both are known here, so that everything can be
# checked. Samples of both, labelled, and the exact likelihood of the labels:

# %%
p = lx.Mixture(jnp.array([0.3, 0.7]), lx.Normal(jnp.array([-1.0, 1.2]), jnp.array([0.5, 0.8])))
q = lx.Normal(0.4, 1.6)
SIZE, STEPS = (500, 20) if QUICK else (20_000, 1000)
data, held_out = p.sample(key(0), (SIZE,)), p.sample(key(1), (SIZE,))


def critic_init(key, x):
    a, b = jax.random.split(key)
    return {
        "first": jax.random.normal(a, (1, 32)),
        "shift": jax.random.normal(b, (32,)),
        "second": jax.random.normal(b, (32, 32)) / 32**0.5,
        "last": jnp.zeros((32, 1)),
    }


def critic(params, x):
    h = jnp.tanh(x.reshape(-1, 1) @ params["first"] + params["shift"])
    return jnp.tanh(h @ params["second"]) @ params["last"]


network = critic_init, critic
labels = jnp.repeat(jnp.array([1, 0]), SIZE)
values = jnp.concatenate([data, q.sample(key(2), (SIZE,))])
classifier = lx.Likelihood(network, lx.Head(lx.Bernoulli))
batches = lx.datasets.batches(lx.Batch(labels, input=values), 512, key(3), endless=True)
fitted = lx.train.fit(classifier, optax.adam(5e-3), batches, steps=STEPS, key=key(4))

others = jnp.concatenate([held_out, q.sample(key(5), (SIZE,))])
score = lx.evaluate(classifier, fitted.params, key(6), lx.Batch(labels, input=others))
print("the labels of held-out values cost", score)
print(f"of values that are alike they would cost log 2 = {np.log(2):.4f}")

# %% [markdown]
# The same as one player of a game whose generator is $q$ itself, `GAN(None, critic, q)`:

# %%
params = {"generator": {}, "critic": fitted.params["net"]}
game = adversarial.GAN(None, network, q)
grid = jnp.linspace(-3, 4.5, 300)
ratio = adversarial.log_density_ratio(game, params, grid)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8))
left.plot(grid, p.prob(grid), color=BLUE, label="data p")
left.plot(grid, q.prob(grid), color=ORANGE, label="model q")
left.legend()
right.plot(grid, p.log_prob(grid) - q.log_prob(grid), color="0.6", linewidth=4, label="log p/q")
right.plot(grid, ratio, color=GREEN, label="the critic")
right.set_xlabel("x")
right.legend()
plt.show()

# %% [markdown]
# ## 2. Divergences from samples
#
# The mean of the critic's likelihood bounds the Jensen-Shannon divergence: the best critic's loss is
# $2 \log 2 - 2 \mathrm{JS}$. Other losses bound other divergences, through the convex conjugate of their
# $f$ (Nowozin et al. 2016). On held-out data each is a lower bound in expectation, whatever the critic.


# %%
def truths():
    x = jnp.linspace(-12, 14, 20_001)
    pdf, model = p.prob(x), q.prob(x)
    log_ratio, middle = p.log_prob(x) - q.log_prob(x), jnp.log((pdf + model) / 2)
    js = pdf * (p.log_prob(x) - middle) + model * (q.log_prob(x) - middle)
    integrands = {
        "jensen_shannon": js / 2,
        "kl": pdf * log_ratio,
        "reverse_kl": -model * log_ratio,
        "squared_hellinger": (pdf**0.5 - model**0.5) ** 2,
        "total_variation": jnp.abs(pdf - model) / 2,
        "hinge": jnp.abs(pdf - model) / 2,  # another loss, of the same distance
    }
    return {name: float(jnp.trapezoid(y, x)) for name, y in integrands.items()}


exact, found = truths(), {}
for name in list(exact)[: 1 if QUICK else None]:
    judge = adversarial.GAN(None, network, q, name).player("critic")
    rate = optax.cosine_decay_schedule(5e-3, STEPS)
    stream = lx.datasets.batches(lx.Batch(data), 512, key(7), endless=True)
    trained = lx.train.fit(judge, optax.adam(rate), stream, steps=STEPS, key=key(8))
    found[name] = adversarial.divergence(judge, trained.params, key(9), lx.Batch(held_out))
    print(f"{name:18} exact {exact[name]:.4f}, {found[name]}")

figure, axis = plt.subplots(figsize=(7, 2.8))
where = np.arange(len(found))
errors = [2 * estimate.standard_error for estimate in found.values()]
axis.bar(where, [exact[name] for name in found], color="0.85", label="by quadrature")
axis.errorbar(
    where,
    list(found.values()),
    errors,
    fmt="o",
    color=BLUE,
    capsize=4,
    label="two errors, from below",
)
axis.set_xticks(where, [name.replace("_", "\n") for name in found])
axis.legend()
plt.show()

# %% [markdown]
# How far below depends on the critic, and on the loss that trains it. By the conjugate of the total variation
# the outputs are those of a tanh, which is flat wherever the critic is sure: it is stuck half way, and more
# steps do not help. The hinge loss bounds the same distance, and the same critic comes near it. The error of
# the reverse KL is large because its critic's outputs at data are $-q/p$: a few values where the data are rare
# weigh the most.

# %% [markdown]
# ## 3. Whose gradient is whose
#
# One call gives both players their own: in `grads["generator"]` nothing of the critic's loss, and the other
# way round. `check_players` holds an objective to that, by differences of what each one pays. A copy that
# adds up the losses and stops nothing is found:


# %%
def affine_init(key, z):
    return {"loc": jnp.zeros(()), "scale": jnp.ones(())}


def affine(params, z):
    return params["loc"] + params["scale"] * z


both = adversarial.GAN(
    (affine_init, affine), network, lx.Normal(0.0, 1.0), penalties=adversarial.R1(0.1)
)
few = lx.Batch(data[:6])
params, _ = both.init(key(10), few)
params["critic"]["last"] = 0.3 * jax.random.normal(key(11), (32, 1))  # one that sees something
lx.testing.check_players(both, params, few, key=key(12))
print("each player sees its own loss")


class Leaky(adversarial.GAN):
    """Gradients of both losses through everything."""

    def score(self, *args, **options):
        with mock.patch.object(jax.lax, "stop_gradient", lambda x: x):
            return super().score(*args, **options)


leaky = Leaky((affine_init, affine), network, lx.Normal(0.0, 1.0))
try:
    lx.testing.check_players(leaky, params, few, key=key(12))
except AssertionError as error:
    print("found:", error)
_, aux = both(params, key(13), few)
try:
    lx.bits_per_dim(aux)
except ValueError as error:
    print("refused:", str(error).split(";")[0])

# %% [markdown]
# Where the critic is sure of a sample, the *saturating* loss has hardly a slope; the *non-saturating* one
# has. At the best critic the first goes down $2\,\mathrm{JS}(p, q)$, the second $\mathrm{KL}(q\|p) -
# 2\,\mathrm{JS}(p, q)$, another game (Arjovsky and Bottou 2017).

# %%
shift = jnp.linspace(-4, 4, 81)
nodes = jnp.linspace(-6, 6, 801)
weight = lx.Normal(0.0, 1.0).prob(nodes) * (nodes[1] - nodes[0])
target = lx.Normal(0.0, 1.0)


def paid(loc, at, loss):
    x = loc + nodes
    return jnp.sum(weight * loss.fool(target.log_prob(x) - lx.Normal(at, 1.0).log_prob(x)))


figure, axis = plt.subplots(figsize=(6, 2.8))
for name, colour in (("saturating", BLUE), ("non_saturating", ORANGE)):
    slope = jax.vmap(lambda at, n=name: jax.grad(paid)(at, at, adversarial.LOSSES[n]))(shift)
    axis.plot(shift, slope, color=colour, label=name.replace("_", "-"))
axis.set_xlabel("how far the generator is from the data, in deviations")
axis.set_ylabel("slope")
axis.legend()
plt.show()

# %% [markdown]
# ## 4. What a generator that cannot fit does
#
# A Normal against two modes. KL from the data to the model asks for all of the data; the reverse one forbids
# what is not data; Jensen and Shannon's is between. The best Normal by each is known from the densities
# (dashed); the games find theirs (solid) from samples, but for the reverse KL's, whose critic of small steps
# takes the generator half of the way.

# %%
modes = lx.Mixture(jnp.array([0.3, 0.7]), lx.Normal(jnp.array([-1.5, 1.2]), jnp.array([0.4, 0.7])))
points = modes.sample(key(14), (SIZE,))
line = jnp.linspace(-8, 8, 1601)


def apart(theta, name):
    log_p, log_q = modes.log_prob(line), lx.Normal(theta[0], jnp.exp(theta[1])).log_prob(line)
    middle = jnp.logaddexp(log_p, log_q) - jnp.log(2)
    js = jnp.exp(log_p) * (log_p - middle) + jnp.exp(log_q) * (log_q - middle)
    kl, reverse = jnp.exp(log_p) * (log_p - log_q), jnp.exp(log_q) * (log_q - log_p)
    integrand = {"kl": kl, "jensen_shannon": js / 2, "reverse_kl": reverse}[name]
    return jnp.sum(integrand) * (line[1] - line[0])


def best(name, steps=500):
    """By going down the divergence itself."""
    descend = jax.grad(lambda theta: apart(theta, name))
    theta = jax.lax.fori_loop(
        0, steps, lambda _, theta: theta - 0.3 * descend(theta), jnp.array([0.5, 0.0])
    )
    return lx.Normal(theta[0], jnp.exp(theta[1]))


figure, axis = plt.subplots(figsize=(7, 2.8))
axis.fill_between(line, modes.prob(line), color="0.88", label="data")
names = ("kl", "jensen_shannon", "reverse_kl")[: 1 if QUICK else None]
for name, colour in zip(names, (BLUE, GREEN, ORANGE), strict=False):
    model = adversarial.GAN((affine_init, affine), network, lx.Normal(0.0, 1.0), name)
    slow, fast = (
        optax.adam(optax.cosine_decay_schedule(r, 3 * STEPS), b1=0.5) for r in (3e-3, 5e-3)
    )
    optimizer = adversarial.optimizers(slow, fast, critic_steps=3)
    stream = lx.datasets.batches(lx.Batch(points), 512, key(15), endless=True)
    trained = lx.train.fit(model, optimizer, stream, steps=3 * STEPS, key=key(16))
    made, wanted = trained.params["generator"], best(name)
    found = lx.Normal(made["loc"], jnp.abs(made["scale"]))
    print(
        f"{name:15} mean {found.loc:5.2f}, deviation {found.scale:.2f}; "
        f"the best {wanted.loc:5.2f}, {wanted.scale:.2f}"
    )
    axis.plot(line, found.prob(line), color=colour, label=name.replace("_", " "))
    axis.plot(line, wanted.prob(line), "--", color=colour)
axis.plot([], [], "--", color="0.4", label="the best")
axis.set_xlim(-5, 5)
axis.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## 5. Without a critic
#
# The maximum mean discrepancy compares two samples by a kernel. Its unbiased estimate comes with its
# standard error, so that "no difference" can be told from "too few samples".

# %%
count = 50 if QUICK else 500
shifts = np.linspace(0, 0.6, 7)
results = []
for i, by in enumerate(shifts):
    a, b = (jax.random.normal(key(20 + 2 * i + j), (count, 2)) for j in (0, 1))
    results.append(adversarial.mmd(a, b + by / 2**0.5, bandwidth=1.0))
    print(f"moved by {by:.1f}: MMD^2 {results[-1]}")
# In closed form, for Normals of variance 1 and a Gaussian kernel of bandwidth 1 in 2 dimensions.
curve = np.linspace(0, 0.6, 100)
figure, axis = plt.subplots(figsize=(6, 2.8))
axis.plot(curve, 2 / 3 * (1 - np.exp(-(curve**2) / 6)), color="0.6", label="closed form")
error = [2 * float(r.standard_error) for r in results]
axis.errorbar(
    shifts,
    [float(r.value) for r in results],
    error,
    fmt="o",
    color=BLUE,
    capsize=4,
    label="two errors",
)
axis.axhline(0, color="0.8", linewidth=0.8, zorder=0)
axis.set_xlabel("how far one sample is moved")
axis.set_ylabel("MMD$^2$")
axis.legend()
plt.show()
