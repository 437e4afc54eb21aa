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
# # How do I write a likelihood that no library has?
#
# With one class: its parameters, its support, its log-density. Nothing is registered. This notebook
# writes two,
#
# * the **Rayleigh**, the length of a vector of two independent Normals, the classical model of wind
#   speeds;
# * the **generalized Poisson** of Consul and Jain (1973), for counts that are more dispersed than a
#   Poisson's,
#
# and takes them where a likelihood has to go: through a check that finds mistakes, into a Flax
# model, under `vmap`, into a mixture, and through `grad` with respect to the distribution itself.

# %%
import functools
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from jax.scipy.special import gammaln

import likelax as lx

QUICK = "LIKELAX_QUICK" in os.environ  # for the tests: fewer samples and steps
STEPS = 20 if QUICK else 400

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
# ## 1. One class
#
# The formula as the textbook has it. `param` says which values the parameter may take, `support`
# which values the variable may take.


# %%
class Rayleigh(lx.Distribution):
    """p(x) = x / scale^2 exp(-x^2 / (2 scale^2)), x >= 0."""

    scale: lx.Array = lx.param(support=lx.supports.positive)
    support = lx.supports.non_negative

    def log_prob(self, value):
        z = value / self.scale
        return jnp.log(value) - 2 * jnp.log(self.scale) - 0.5 * z**2


# %% [markdown]
# `log_prob` is only ever asked about values in the support; the base class looks after the rest. A
# value outside has density 0, a missing value stays missing, and batches broadcast.

# %%
dist = Rayleigh(2.0)
print(dist)
print("inside, outside, missing:", dist.log_prob(jnp.array([1.0, -1.0, jnp.nan])))
print("three scales, one value: ", Rayleigh(jnp.array([1.0, 2.0, 3.0])).log_prob(1.0))
print("jit:                     ", jax.jit(lambda d, x: d.log_prob(x))(dist, 1.0))

# %% [markdown]
# What was not written is not invented. It says what to do instead:

# %%
try:
    dist.mean()
except NotImplementedError as error:
    print(error)

# %% [markdown]
# ## 2. The check
#
# `check_distribution` holds a distribution against its own density: it integrates it, compares
# gradients with finite differences and with float64, tries values outside the support, and so on.
# What has not been written is skipped, with the reason.

# %%
print(lx.testing.check_distribution(Rayleigh(2.0), key=key(0)))

# %% [markdown]
# Every method that you add is checked against the density too. Here are all that have a closed
# form.


# %%
class Rayleigh(lx.Distribution):
    """p(x) = x / scale^2 exp(-x^2 / (2 scale^2)), x >= 0."""

    scale: lx.Array = lx.param(support=lx.supports.positive)
    support = lx.supports.non_negative

    def log_prob(self, value):
        z = value / self.scale
        return jnp.log(value) - 2 * jnp.log(self.scale) - 0.5 * z**2

    def log_survival(self, value):
        return -0.5 * (value / self.scale) ** 2

    def cdf(self, value):
        return -jnp.expm1(self.log_survival(value))

    def quantile(self, q):
        return self.scale * jnp.sqrt(-2 * jnp.log1p(-q))

    def sample(self, key, shape=()):
        return self.scale * jnp.sqrt(
            2 * jax.random.exponential(key, self._shape(shape), self.dtype)
        )

    def mean(self):
        return self.scale * np.sqrt(np.pi / 2)

    def mode(self):
        return self.scale

    def variance(self):
        return self.scale**2 * (2 - np.pi / 2)

    def entropy(self):
        return 1 + jnp.log(self.scale / np.sqrt(2)) + np.euler_gamma / 2


@lx.register_kl(Rayleigh, Rayleigh)
def kl_rayleigh(p, q):
    ratio = p.scale / q.scale
    return ratio**2 - 1 - 2 * jnp.log(ratio)


print(lx.testing.check_distribution(Rayleigh(2.0), key=key(0)))

# %% [markdown]
# ### A mistake, and what the check says of it
#
# A factor of 2 is easily lost. This class forgets it in front of $\log \text{scale}$: every value,
# gradient and sample looks sensible, a network trains on it without complaint, and every fitted
# scale is too large by $\sqrt 2$.


# %%
class Careless(Rayleigh):
    """The Rayleigh with a factor lost."""

    def log_prob(self, value):
        z = value / self.scale
        return jnp.log(value) - jnp.log(self.scale) - 0.5 * z**2


def says(dist):
    """The failures of a check."""
    try:
        lx.testing.check_distribution(dist, key=key(0))
        print(f"{dist}: nothing wrong was found")
    except AssertionError as error:
        print(error)


says(Careless(2.0))

# %% [markdown]
# The first line names it: the density does not sum to 1, it sums to 2. The others follow from that.
# (Give the check parameters that tell mistakes apart: at a scale of 1 the logarithm is 0 and this
# mistake is invisible to everything but the KL, which compares it with another scale.)

# %%
says(Careless(1.0))


# %% [markdown]
# The density can be right and another method wrong. A sampler that takes the scale for a variance,
# and a mean that belongs to another distribution:


# %%
class WrongSampler(Rayleigh):
    """Samples with the variance in the place of the scale."""

    def sample(self, key, shape=()):
        return jnp.sqrt(
            2 * self.scale * jax.random.exponential(key, self._shape(shape), self.dtype)
        )


says(WrongSampler(2.0))


# %%
class WrongMean(Rayleigh):
    """The mean of a HalfNormal."""

    def mean(self):
        return self.scale * np.sqrt(2 / np.pi)


says(WrongMean(2.0))

# %% [markdown]
# ## 3. Its model
#
# Wind depends on the hour of the day. These speeds are simulated, so that the answer is known: 200
# days of hourly winds whose Rayleigh scale rises in the afternoon. The head reads from `param` that
# the scale is positive, so the network puts out its logarithm.


# %%
def true_scale(hour):
    return 3.0 + 2.0 * jnp.sin(2 * jnp.pi * (hour - 9) / 24) ** 3


def features(hour):
    angle = 2 * jnp.pi * hour / 24
    return jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)


hours = jnp.arange(24.0 * (40 if QUICK else 200)) % 24
speed = Rayleigh(true_scale(hours)).sample(key(1))
winds = lx.Batch(target=speed, input=features(hours))


# %%
class MLP(nnx.Module):
    def __init__(self, inputs, outputs, *, rngs):
        self.hidden = nnx.Linear(inputs, 32, rngs=rngs)
        self.last = nnx.Linear(32, outputs, rngs=rngs)

    def __call__(self, x):
        return self.last(jnp.tanh(self.hidden(x)))


def trained(model, batch, steps=4 * STEPS):
    optimizer = optax.adam(optax.cosine_decay_schedule(0.03, steps))
    return lx.train.fit(model, optimizer, batch, steps=steps, key=key(2)).params


head = lx.Head(Rayleigh)
print(head, "wants", head.size, "output of the network")
model = lx.Likelihood(MLP(2, head.size, rngs=nnx.Rngs(0)), head)
params = trained(model, winds)

# %%
day = jnp.linspace(0, 24, 200)
fitted = model.predict(params, features(day))
truth = Rayleigh(true_scale(day))
levels = (0.05, 0.25, 0.5, 0.75, 0.95)

figure, axis = plt.subplots(figsize=(7, 3.8), layout="constrained")
axis.plot(hours, speed, ".", color="black", alpha=0.08, markersize=3, label="simulated winds")
lx.plotting.predictive_bands(axis, day, np.stack([fitted.quantile(q) for q in levels]), levels)
for i, q in enumerate((0.05, 0.5, 0.95)):
    axis.plot(
        day, truth.quantile(q), "--", color=ORANGE, label=None if i else "true 5 %, 50 %, 95 %"
    )
axis.set(xlabel="hour", ylabel="wind speed", xlim=(0, 24), ylim=(0, 16), xticks=range(0, 25, 6))
axis.legend(loc="upper left", fontsize=9)
plt.show()

# %% [markdown]
# Is the Rayleigh better than what one would have taken instead? On fresh winds, with the same
# network:

# %%
fresh_hours = jnp.arange(24.0 * (5 if QUICK else 100)) % 24
fresh = lx.Batch(Rayleigh(true_scale(fresh_hours)).sample(key(3)), features(fresh_hours))


def held_out(head):
    model = lx.Likelihood(MLP(2, head.size, rngs=nnx.Rngs(0)), head)
    return lx.evaluate(model, trained(model, winds), key(4), fresh)


ours = held_out(head)
print("Rayleigh ", ours)
print("the truth", f"{-Rayleigh(true_scale(fresh_hours)).log_prob(fresh.target).mean():.4f} nats")
for family in (lx.Normal, lx.LogNormal, lx.Gamma):
    other = held_out(lx.Head(family))
    print(f"{family.__name__:9}", other, "\n   Rayleigh against it:", lx.compare(ours, other))

# %% [markdown]
# ## 4. Under `vmap`
#
# A distribution is a pytree whose leaves are its parameters, so `vmap` goes over rows, over
# parameters, and over whole models. First a distribution built anew for every row, then one mapped
# over a batch of distributions:

# %%
scales, values = jnp.array([1.0, 2.0, 4.0]), jnp.array([0.5, 2.0, 3.0])
built_inside = jax.vmap(lambda s, x: Rayleigh(s).log_prob(x))(scales, values)
mapped_over = jax.vmap(lambda d, x: d.log_prob(x))(Rayleigh(scales), values)
print("built inside:", built_inside)
print("mapped over: ", mapped_over)
print("the batch:   ", Rayleigh(scales).log_prob(values))

# %% [markdown]
# An ensemble is `vmap` over the parameters of a model. The network is given as a function of
# `rngs`, so that every key makes another member. Each member is also given its own resample of the
# winds (a weight for each of them), so that their spread says how much the data determine: the
# bootstrap.

# %%
MEMBERS = 3 if QUICK else 8
make = functools.partial(MLP, 2, head.size)
ensemble = lx.Likelihood(make, head)
optimizer = optax.adam(optax.cosine_decay_schedule(0.03, 2 * STEPS))
step = lx.train.step(ensemble, optimizer)


def train_member(key):
    weight = jax.random.exponential(jax.random.fold_in(key, 1), speed.shape)
    batch = lx.Batch(speed, winds.input, weight=weight)
    start = lx.train.init(ensemble, optimizer, key, batch)
    return jax.lax.scan(lambda s, _: (step(s, batch)[0], None), start, None, 2 * STEPS)[0].params


members = jax.jit(jax.vmap(train_member))(jax.random.split(key(5), MEMBERS))
each = jax.vmap(lambda params: ensemble.predict(params, features(day)))(members)
print("one distribution of batch shape", each.batch_shape, "(member, hour)")

# %%
figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
axis.plot(day, each.scale.T, color=BLUE, alpha=0.5, linewidth=1)
axis.plot([], [], color=BLUE, label=f"{MEMBERS} members")
axis.plot(day, truth.scale, "--", color=ORANGE, label="true")
axis.set(
    xlabel="hour", ylabel="Rayleigh scale", xlim=(0, 24), ylim=(0, None), xticks=range(0, 25, 6)
)
axis.legend(loc="upper left")
plt.show()

# %% [markdown]
# ## 5. In a mixture
#
# A place with calm days and stormy days: a mixture of two Rayleighs. `Mixture` takes the components
# on the last batch axis, and needs nothing of them but what we wrote.

# %%
weather = lx.Mixture(jnp.array([0.7, 0.3]), Rayleigh(jnp.array([2.0, 7.0])))
days = weather.sample(key(6), (300 if QUICK else 2000,))
print(
    "log p(5) =", weather.log_prob(5.0), " mean", weather.mean(), " median", weather.quantile(0.5)
)

mixture_head = lx.MixtureHead(lx.Head(Rayleigh, scale=lx.learned(jnp.array([1.0, 3.0]))), 2)
print(mixture_head, "wants", mixture_head.size, "outputs")

# %% [markdown]
# Fitting one is again a head. Two components that start alike would stay alike, so the raw outputs
# (two logits, two logarithms of scales) are trained from unlike ones.

# %%
mixture_head = lx.MixtureHead(lx.Head(Rayleigh), 2)
raw = (
    lambda key, x: jnp.array([0.0, 0.0, 0.0, 1.0]),
    lambda p, x: jnp.broadcast_to(p, (len(x), 4)),
)
mixture_model = lx.Likelihood(raw, mixture_head)
single_model = lx.Likelihood(None, lx.Head(Rayleigh, scale=lx.learned()))
nothing = jnp.zeros((len(days), 0))  # no input
fits = {}
for name, m in {"mixture": mixture_model, "one Rayleigh": single_model}.items():
    found = lx.train.fit(m, optax.adam(0.05), lx.Batch(days, nothing), steps=STEPS, key=key(7))
    fits[name] = m.predict(found.params, nothing[:1])[0]
    print(f"{name:13} {-fits[name].log_prob(days).mean():.4f} nats")
found = fits["mixture"]
print(
    "weights",
    np.round(np.asarray(found.weights.probs, float), 2),
    "scales",
    np.round(np.asarray(found.components.scale, float), 2),
    "(true: .7 .3 and 2 7)",
)

# %%
x = jnp.linspace(0.01, 22, 400)
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
left.hist(days, bins=50, range=(0, 22), density=True, color="0.85", label="drawn")
left.plot(x, weather.prob(x), "--", color=ORANGE, label="true mixture")
left.plot(x, found.prob(x), color=BLUE, label="fitted mixture")
left.plot(x, fits["one Rayleigh"].prob(x), ":", color=GREEN, label="one fitted Rayleigh")
left.set(xlabel="wind speed", ylabel="density", xlim=(0, 22))
left.legend()
right.plot(x, found.posterior(x).probs[:, 1], color=BLUE)
right.set(xlabel="wind speed", ylabel="p(stormy | speed)", xlim=(0, 22), ylim=(0, 1.02))
plt.show()

# %% [markdown]
# ## 6. Gradients with respect to the distribution
#
# `jax.grad` takes a distribution as it takes an array; the gradient is a Rayleigh whose leaves are
# the derivatives.

# %%
dist = Rayleigh(2.0)
x = dist.sample(key(8), (1000 if QUICK else 100_000,))
print(
    "gradient of the mean log-density, at the truth:",
    jax.grad(lambda d: d.log_prob(x).mean())(dist),
)
print(
    "and at a scale of 1:                           ",
    jax.grad(lambda d: d.log_prob(x).mean())(Rayleigh(1.0)),
)

# %% [markdown]
# At the truth the expected gradient is 0, and its variance is the Fisher information, which for the
# Rayleigh is $4/\text{scale}^2 = 1$:

# %%
score = jax.vmap(jax.grad(lambda d, x: d.log_prob(x)), in_axes=(None, 0))(dist, x).scale
error = jnp.std(score**2) / jnp.sqrt(len(x))
print(f"mean score {score.mean():+.4f} ± {score.std() / jnp.sqrt(len(x)):.4f} (exact: 0)")
print(f"Fisher information {jnp.mean(score**2):.4f} ± {error:.4f} (exact: {4 / dist.scale**2:.4f})")

# %% [markdown]
# The sampler that we wrote is a smooth function of the scale, so gradients also flow through
# samples: $\partial\, \mathbb{E}[X] / \partial\, \text{scale} = \sqrt{\pi/2}$.

# %%
through = jax.grad(lambda d: d.sample(key(9), (len(x),)).mean())(dist).scale
print(f"through samples {through:.4f}, exact {np.sqrt(np.pi / 2):.4f}")

# %% [markdown]
# And because it is a tree, an optimiser of optax takes a distribution for parameters. Here a
# Rayleigh moves towards a Gamma by minimising the divergence $\text{KL}(\text{Rayleigh} \,\|\,
# \text{Gamma})$, estimated with samples of the Rayleigh:

# %%
goal = lx.Gamma(4.0, 1.0)


def divergence(dist, key):
    value, log_prob = dist.sample_and_log_prob(key, (256,))
    return jnp.mean(log_prob - goal.log_prob(value))


def towards(carry, key):
    dist, opt_state = carry
    grads = jax.grad(divergence)(dist, key)
    updates, opt_state = adam.update(grads, opt_state)
    return (optax.apply_updates(dist, updates), opt_state), dist.scale


adam = optax.adam(0.05)
keys = jax.random.split(key(10), 50 if QUICK else 500)
(closest, _), path = jax.lax.scan(towards, (Rayleigh(1.0), adam.init(Rayleigh(1.0))), keys)
grid = Rayleigh(jnp.linspace(1, 6, 501))
sweep = jax.vmap(divergence, in_axes=(0, None))(grid, key(11))
print(f"found {closest}; the best of 501 scales tried: {grid.scale[jnp.argmin(sweep)]:.2f}")

# %% [markdown]
# ## 7. A second one, on real data: the generalized Poisson
#
# A count is often one cause and its consequences: one illness, several visits to a doctor. If each
# visit leads on average to $s$ more, the total of a Poisson(r) number of first visits and all that
# follow has the generalized Poisson distribution,
#
# $$P(k) = \frac{r\,(r + s k)^{k-1} e^{-r - s k}}{k!}, \qquad 0 < s < 1,$$
#
# with mean $r/(1-s)$ and variance $r/(1-s)^3$: more than the mean, as real counts have it. $s$ is a
# number in (0, 1); the head sees that in `support` and takes a sigmoid.


# %%
class GeneralizedPoisson(lx.Distribution):
    """P(k) = r (r + s k)^(k-1) exp(-r - s k) / k!, r = rate, s = spread; Consul and Jain 1973."""

    rate: lx.Array = lx.param(support=lx.supports.positive)
    spread: lx.Array = lx.param(support=lx.supports.open_unit_interval)
    support = lx.supports.non_negative_integer

    def log_prob(self, value):
        pull = self.rate + self.spread * value
        return jnp.log(self.rate) + (value - 1) * jnp.log(pull) - pull - gammaln(value + 1)

    def mean(self):
        return self.rate / (1 - self.spread)

    def variance(self):
        return self.rate / (1 - self.spread) ** 3


print(lx.testing.check_distribution(GeneralizedPoisson(1.5, 0.4), key=key(0)))

# %% [markdown]
# The counts: visits to a doctor in a year, 20,190 person-years of the RAND Health Insurance
# Experiment, given nine facts. The same network, batches and steps for three families.

# %%
visits = lx.datasets.doctor_visits().standardized()
print(
    visits,
    f"\nmean {visits.target.mean():.2f}, variance {visits.target.var():.1f}: a Poisson's would be "
    "equal\n",
)
families = {
    "Poisson": lx.Head(lx.Poisson),
    "generalized Poisson": lx.Head(GeneralizedPoisson),
    "negative binomial": lx.Head(lx.NegativeBinomial),
}
results, predicted = {}, {}
for name, head in families.items():
    model = lx.Likelihood(MLP(9, head.size, rngs=nnx.Rngs(0)), head)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.01, STEPS))
    batches = lx.datasets.batches(visits.train, 1024, key(12))
    result = lx.train.fit(model, optimizer, batches, steps=STEPS, key=key(13))
    results[name] = lx.evaluate(model, result.params, key(14), visits.test)
    predicted[name] = model.predict(result.params, visits.test.input)
    print(f"{name:20} {results[name]}")

ours = results["generalized Poisson"]
print("\ngeneralized Poisson against Poisson:          ", lx.compare(ours, results["Poisson"]))
print(
    "generalized Poisson against negative binomial:", lx.compare(ours, results["negative binomial"])
)

# %%
counts = np.arange(16)
observed = np.array([np.mean(visits.test.target == k) for k in counts])
shares = {name: np.asarray(dist.prob(counts[:, None])).mean(1) for name, dist in predicted.items()}
figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
lx.plotting.count_frequencies(axis, counts, observed, shares)
axis.set(xlabel="visits in a year", ylabel="share of the held-out rows")
plt.show()

# %% [markdown]
# Both dispersed families are far better than the Poisson, as they should be. Which of the two is
# better is a matter of these data, and the line above says how surely.
#
# ## What it took
#
# * a class with its parameters, its support and its `log_prob`: that is all that training needs;
# * `sample`, `cdf`, `quantile` and the moments where you want to use them; `check_distribution`
#   holds each against the density;
# * `lx.register_kl` where there is a closed form.
#
# Not in this notebook: two ways to give one parameter (`scale` or `log_scale`: `lx.param(...,
# instead_of="scale")`), distributions over vectors (`lx.param(..., shape=("event",))`), and
# distributions around other distributions (`lx.node()`). The docstring of `lx.Distribution` is the
# manual, and `CONTRIBUTING.md` says how to bring yours into the library.
