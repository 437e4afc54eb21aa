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
# # Which likelihood does my loss assume?
#
# Most losses are the negative logarithm of a probability distribution, with a constant left off.
# Whoever minimises squared error has said "my noise is Normal and of one size", and whoever
# minimises absolute error has said "my noise is Laplace", whether they meant it or not. This
# notebook asks of each common loss:
#
# 1. which distribution it is, constant included (so that the numbers of two losses can be compared
#    at all),
# 2. what minimising it finds, on data that the distribution fits and on data that it does not,
# 3. what it charges for being sure and wrong,
# 4. what changes on real data when the assumption is mended,
# 5. which losses are **no** likelihood, and what may not be done with their numbers.
#
# Every claim below is followed by the number that backs it.

# %%
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from jax.scipy.special import erf, gammaln

import likelax as lx

QUICK = "LIKELAX_QUICK" in os.environ  # for the tests: fewer samples and steps
N = 500 if QUICK else 20_000
STEPS = 20 if QUICK else 400

BLUE, ORANGE, GREEN, PINK, YELLOW = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"
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
# ## 1. The table of assumptions
#
# A loss compares a target $y$ with a prediction $t$. It is a negative log-likelihood (NLL) when
# there is a distribution with parameter $t$ such that, for every $y$ and $t$,
#
# $$\text{loss}(y, t) + \text{constant}(y) = -\log p(y \mid t).$$
#
# The constant may depend on the data but not on the prediction, so it does not move the minimum,
# and libraries leave it off. Below are the losses as people write them (optax's own functions where
# it has one), a distribution, and the constant that was left off.

# %%
T = jnp.array(1.5)  # the prediction
LOGITS = jnp.array([1.0, 0.0, -1.0])  # and one for three classes
TAU, DELTA = 0.9, 1.0
HUBER_Z = np.sqrt(2 * np.pi) * erf(DELTA / np.sqrt(2)) + 2 / DELTA * np.exp(-(DELTA**2) / 2)


def pinball(error, tau=TAU):
    return jnp.maximum(tau * error, (tau - 1) * error)


# name, the loss of a target y, the distribution, the constant left off
LOSSES = [
    (
        "squared error, halved",
        lambda y: optax.l2_loss(y, T),
        lx.Normal(T, 1.0),
        np.log(2 * np.pi) / 2,
    ),
    ("squared error", lambda y: (y - T) ** 2, lx.Normal(T, np.sqrt(0.5)), np.log(np.pi) / 2),
    ("absolute error", lambda y: jnp.abs(y - T), lx.Laplace(T, 1.0), np.log(2)),
    (
        "Huber",
        lambda y: optax.huber_loss(y, T, delta=DELTA),
        lx.Huber(T, 1.0, DELTA),
        np.log(HUBER_Z),
    ),
    (
        "pinball, 90 %",
        lambda y: pinball(y - T),
        lx.AsymmetricLaplace.from_quantile(T, 1.0, TAU),
        -np.log(TAU * (1 - TAU)),
    ),
    (
        "BCE with logits",
        lambda y: optax.sigmoid_binary_cross_entropy(T, y),
        lx.Bernoulli(logits=T),
        0.0,
    ),
    (
        "cross-entropy",
        lambda y: optax.softmax_cross_entropy_with_integer_labels(LOGITS, y),
        lx.Categorical(logits=LOGITS),
        0.0,
    ),
    (
        "Poisson, log input",
        lambda y: jnp.exp(T) - T * y,
        lx.Poisson(log_rate=T),
        lambda y: gammaln(y + 1.0),
    ),
]

# %% [markdown]
# Data are drawn from each distribution. If the identity holds, the fourth number of a row is the
# fifth, and not only on average: the last column is the largest difference over all draws.

# %%
print(
    f"{'loss':22} {'distribution':18} {'loss':>8} {'constant':>9} {'sum':>8} {'-log p':>8} "
    f"{'largest gap':>12}"
)
for i, (name, loss, dist, constant) in enumerate(LOSSES):
    y = dist.sample(key(i), (N,))
    charge, nll = jax.vmap(loss)(y), -dist.log_prob(y)
    left_off = constant(y) if callable(constant) else jnp.full(N, constant)
    total = charge + left_off
    gap = jnp.max(jnp.abs(total - nll))
    numbers = f"{charge.mean():8.4f} {left_off.mean():9.4f} {total.mean():8.4f} {nll.mean():8.4f} {gap:12.1e}"
    print(f"{name:22} {type(dist).__name__:18} {numbers}")

# %% [markdown]
# The gaps are the rounding of float32. Three things to read off the table:
#
# * Squared error is a Normal whose scale somebody fixed: 1 for the halved one, $\sqrt{1/2}$ for the
#   plain one. Nothing in the data chose it.
# * Without the constants the column "loss" compares nothing: 0.5 for one Normal and 1 for a Laplace
#   are numbers of different kinds. With them, every row is in nats, and rows about the same data can
#   be compared.
# * The Poisson loss leaves off $\log y!$, which differs from example to example. It does not move
#   the minimum, but a "Poisson loss" without it is no likelihood, and can even be negative.
#
# What is assumed of the noise is easiest to see in the implied densities. On the logarithmic scale
# of the right panel the density *is* the loss, upside down.

# %%
error = jnp.linspace(-5, 5, 401)
curves = {
    "squared / 2 (Normal)": (lx.Normal(0.0, 1.0), BLUE, "-"),
    "absolute (Laplace)": (lx.Laplace(0.0, 1.0), ORANGE, "-"),
    "Huber": (lx.Huber(0.0, 1.0, DELTA), GREEN, "--"),
    "pinball 90 %": (lx.AsymmetricLaplace.from_quantile(0.0, 1.0, TAU), PINK, "-"),
    "StudentT, 2 degrees of freedom": (lx.StudentT(2.0, 0.0, 1.0), YELLOW, "--"),
}
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for name, (dist, colour, style) in curves.items():
    left.plot(error, -dist.log_prob(error), style, color=colour, label=name)
    right.semilogy(error, dist.prob(error), style, color=colour)
left.set(xlabel="error y - t", ylabel="nats", ylim=(0, 9), title="the loss, with its constant")
right.set(xlabel="error y - t", ylabel="density", ylim=(1e-4, 1), title="the noise that it assumes")
left.legend(loc="upper center", fontsize=9)
plt.show()

# %% [markdown]
# An error of 5 has a density of about $10^{-6}$ under the Normal, off the figure: to squared error
# an outlier is so nearly impossible that the fit is bent to avoid it. The Laplace, the Huber and
# above all the StudentT find it merely rare.

# %% [markdown]
# ## 2. What minimising a loss finds
#
# ### On its own data: the parameter
#
# `lx.Head` says which parameters are fixed and which are trained; here one number is trained, the
# same for all examples, so there is no network (`None`). Each model sees data drawn from its own
# distribution.


# %%
def minimised(head, y, objective=lx.Likelihood):
    """The distribution that minimises the loss on y."""
    model = objective(None, head)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.2, STEPS))
    result = lx.train.fit(model, optimizer, lx.Batch(target=y), steps=STEPS, key=key(0))
    return model.predict(result.params, jnp.zeros(0))  # one prediction, from no input


q90 = lx.AsymmetricLaplace.from_quantile(0.0, 1.0, TAU)  # its scale and asymmetry
SQUARED = lx.Head(lx.Normal, loc=lx.learned(), scale=1.0)
ABSOLUTE = lx.Head(lx.Laplace, loc=lx.learned(), scale=1.0)
HUBER = lx.Head(lx.Huber, loc=lx.learned(), scale=1.0, delta=DELTA)
PINBALL = lx.Head(lx.AsymmetricLaplace, loc=lx.learned(), scale=q90.scale, asymmetry=q90.asymmetry)

# %%
own = {
    "squared error": (SQUARED, lx.Normal(T, 1.0), "loc"),
    "absolute error": (ABSOLUTE, lx.Laplace(T, 1.0), "loc"),
    "Huber": (HUBER, lx.Huber(T, 1.0, DELTA), "loc"),
    "pinball, 90 %": (PINBALL, lx.AsymmetricLaplace.from_quantile(T, 1.0, TAU), "loc"),
    "BCE with logits": (
        lx.Head(lx.Bernoulli, logits=lx.learned()),
        lx.Bernoulli(logits=T),
        "probs",
    ),
    "Poisson": (lx.Head(lx.Poisson, log_rate=lx.learned()), lx.Poisson(log_rate=T), "rate"),
}
print(f"{'loss':16} {'parameter':10} {'true':>8} {'found':>8}")
for i, (name, (head, truth, field)) in enumerate(own.items()):
    found = minimised(head, truth.sample(key(i), (N,)))
    print(f"{name:16} {field:10} {getattr(truth, field):8.3f} {getattr(found, field):8.3f}")

# %% [markdown]
# ### On other data: the answer to another question
#
# Waiting times are positive and skewed. These are drawn from a Gamma distribution, whose mean,
# median and 90 % quantile are three different numbers. Each loss finds one of them; none is wrong,
# but only one is the one you wanted.

# %%
waits = lx.Gamma(2.0, 0.5)
y = waits.sample(key(10), (N,))
questions = {
    "the mean": waits.mean(),
    "the median": waits.quantile(0.5),
    "the 90 % quantile": waits.quantile(TAU),
}
answers = {
    "the mean": ("squared error", minimised(SQUARED, y).loc),
    "the median": ("absolute error", minimised(ABSOLUTE, y).loc),
    "the 90 % quantile": ("pinball, 90 %", minimised(PINBALL, y).loc),
}
for question, true in questions.items():
    name, found = answers[question]
    print(f"{name:16} finds {found:.2f}: {question} (true: {true:.2f})")
print(
    f"{'Huber':16} finds {minimised(HUBER, y).loc:.2f}: something between mean and median, which "
    "depends on delta"
)

# %% [markdown]
# A likelihood of the right family answers all three questions with one fit, because what it finds
# is a distribution:

# %%
gamma = minimised(lx.Head(lx.Gamma, concentration=lx.learned(), rate=lx.learned()), y)
print(
    f"Gamma finds      mean {gamma.mean():.2f}, median {gamma.quantile(0.5):.2f}, 90 % quantile "
    f"{gamma.quantile(TAU):.2f}"
)

# %% [markdown]
# The wrong loss can be worse than "another question". Here are counts with a mean of 0.5: the
# median, which absolute error looks for, is 0, and it will say 0 whatever the truth is below 0.69.

# %%
few = lx.Poisson(0.5).sample(key(11), (N,))
print(f"Poisson loss finds a rate of {minimised(own['Poisson'][0], few).rate:.2f}")
print(f"absolute error finds {abs(minimised(ABSOLUTE, few.astype(float)).loc):.2f}")

# %% [markdown]
# And where the wrong loss asks the right question, it answers it less well. For Laplace noise mean
# and median are the same number, so squared error is *consistent*; but it wastes half of the data.
# Over many small data sets of 100 numbers:

# %%
noise = lx.Laplace(T, 1.0).sample(key(12), (200 if QUICK else 4000, 100))
by_squares, by_absolutes = jnp.var(noise.mean(1)), jnp.var(jnp.median(noise, axis=1))
print(
    f"variance of the location: {by_squares:.4f} by squared error, {by_absolutes:.4f} by absolute "
    "error"
)
print(f"ratio {by_squares / by_absolutes:.2f} (theory, for large data sets: 2)")

# %% [markdown]
# ## 3. The confidence table: what it costs to be sure and wrong
#
# A classifier says $p$ for the class that turns out to be the right one. The NLL charges $-\log p$.
# The squared error of the probabilities, summed over the classes (the Brier score), charges $2 (1 -
# p)^2$ when there are two classes: it stops at 2.


# %%
def nll(p):
    return -lx.Bernoulli(probs=p).log_prob(1)


def brier(p):
    return (1 - p) ** 2 + (0 - (1 - p)) ** 2


cases = {
    "right and unsure": 0.6,
    "right and sure": 0.99,
    "wrong and unsure": 0.4,
    "wrong and sure": 0.01,
    "wrong and very sure": 0.0001,
    "wrong and certain": 0.0,
}
print(f"{'':20} {'p(right)':>9} {'NLL':>8} {'squared':>8}")
for name, p in cases.items():
    print(f"{name:20} {p:9.4f} {nll(p):8.3f} {brier(p):8.3f}")

# %%
wrong = jnp.linspace(0, 0.9999, 2000)  # the probability given to the wrong class
logit = jnp.linspace(-10, 10, 401)  # of the right class
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
left.plot(wrong, nll(1 - wrong), color=BLUE, label="NLL")
left.plot(wrong, brier(1 - wrong), color=ORANGE, label="squared error")
left.axhline(2, color=ORANGE, linewidth=0.8, linestyle=":")
left.set(xlabel="confidence in the wrong class", ylabel="charge", title="the charge", ylim=(0, 9))
left.legend(loc="upper left")
for loss, colour in (
    (lambda z: -lx.Bernoulli(logits=z).log_prob(1), BLUE),
    (lambda z: brier(jax.nn.sigmoid(z)), ORANGE),
):
    right.plot(logit, -jax.vmap(jax.grad(loss))(logit), color=colour)
right.set(
    xlabel="logit of the right class", ylabel="size of the gradient", title="the pull on the logit"
)
right.annotate(
    "wrong and sure:\nsquared error\nhas let go",
    (-7, 0.03),
    (-9.7, 0.33),
    arrowprops={"arrowstyle": "-", "color": "0.5"},
)
plt.show()

# %% [markdown]
# Left: the NLL grows without bound as the confidence in the wrong class goes to 1; squared error
# stops at its maximum, so "wrong and sure" costs it hardly more than "wrong and very sure". Right:
# in training, squared error gives almost no gradient to an example that the network is sure and
# wrong about, because the sigmoid is flat there. The NLL pulls with its full strength, $1 - p$.
#
# The NLL stays finite as long as the network's output is, because it is computed from logits and
# not from a probability that has been rounded to 0. An answer that was called *impossible* costs
# infinity, and no clipping hides that:

# %%
print("logit  -20:", -lx.Bernoulli(logits=-20.0).log_prob(1))
print("logit -1000:", -lx.Bernoulli(logits=-1000.0).log_prob(1))
print("p = 0:      ", -lx.Bernoulli(probs=0.0).log_prob(1))

# %% [markdown]
# ### The same on real data
#
# A logistic regression of real tumours. We multiply its held-out logits by a factor: which class is
# favoured never changes, so the accuracy is the same throughout; only the confidence grows.


# %%
def linear(size):
    """A linear network as a pair (init, apply)."""

    def init(key, x):
        return {"w": jnp.zeros((x.shape[-1], size)), "b": jnp.zeros(size)}

    return init, lambda params, x: x @ params["w"] + params["b"]


def trained(head, data, net=None, rate=0.02, steps=STEPS, objective=lx.Likelihood):
    """(model, params) after full-batch Adam."""
    model = objective(net or linear(head.size), head)
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))
    result = lx.train.fit(model, optimizer, data.train, steps=steps, key=key(0))
    return model, result.params


tumours = lx.datasets.breast_cancer().standardized()
model, params = trained(lx.Head(lx.Bernoulli), tumours)
logits = model.predict(params, tumours.test.input).logits
labels = tumours.test.target

# %%
factors = np.geomspace(0.1, 30, 60)
sharper = lx.Bernoulli(logits=factors[:, None] * logits)
charges = -sharper.log_prob(labels).mean(1), 2 * ((sharper.probs - labels) ** 2).mean(1)
accuracy = jnp.mean(sharper.mode() == labels, axis=1)

figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
for charge, colour, name in zip(charges, (BLUE, ORANGE), ("NLL", "squared error"), strict=True):
    axis.plot(factors, charge, color=colour, label=name)
axis.set(
    xscale="log", xlabel="factor on the logits", ylabel="mean charge, held out", ylim=(0, None)
)
axis.legend()
plt.show()
print(f"accuracy {accuracy.min():.1%} at every factor; {len(labels)} held-out tumours")
for factor in (1, 10):
    at = np.argmin(np.abs(factors - factor))
    print(
        f"logits times {factors[at]:4.1f}: NLL {charges[0][at]:.3f}, squared error "
        f"{charges[1][at]:.3f}"
    )

# %% [markdown]
# To squared error an overconfident classifier costs at most its error rate (times 2); to the NLL it
# costs what its confidence was worth. Neither is the truth about the harm done: if mistakes have a
# bounded price, a bounded charge may be what you want. But only the NLL is a likelihood, and so
# adds over independent examples and compares with one.

# %% [markdown]
# ## 4. Noise of one size, or noise that depends on the input
#
# Households' expenditure on food against income (Engel's data, 235 Belgian households). The richer,
# the more the expenditures differ: noise of one size is wrong, and squared error assumes exactly
# that. The two models are straight lines and differ in one word: the second also has a straight
# line for the logarithm of its scale.


# %%
engel = lx.datasets.engel().standardized(target=True)
heads = {
    "one scale": lx.Head(lx.Normal, scale=lx.learned()),
    "a scale for each input": lx.Head(lx.Normal),
}
models = {name: trained(head, engel) for name, head in heads.items()}
results = {
    name: lx.evaluate(model, params, key(1), engel.test) for name, (model, params) in models.items()
}
for name, result in results.items():
    print(f"{name:24} {result}")
print("difference:", lx.compare(results["a scale for each input"], results["one scale"]))

# %%
grid = np.linspace(engel.input.min(), 3.5, 200, dtype=np.float32)[:, None]
levels = (0.05, 0.25, 0.5, 0.75, 0.95)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True, layout="constrained")
for axis, (name, (model, params)) in zip(axes, models.items(), strict=True):
    dist = model.predict(params, grid)
    bands = np.stack([engel.target_scaler.inverse(dist.quantile(q)) for q in levels])
    lx.plotting.predictive_bands(axis, engel.input_scaler.inverse(grid)[:, 0], bands, levels)
    for part, marker, label in ((engel.train, ".", "trained on"), (engel.test, "x", "held out")):
        x, y = (
            engel.input_scaler.inverse(part.input)[:, 0],
            engel.target_scaler.inverse(part.target),
        )
        axis.plot(x, y, marker, color="black", alpha=0.5, markersize=4, label=label)
    axis.set(title=name, xlabel="income (francs)", xlim=(300, 2850), ylim=(0, 2200))
axes[0].set_ylabel("expenditure on food (francs)")
axes[0].legend(loc="upper left", fontsize=9)
plt.show()

# %% [markdown]
# An interval is honest when it holds its share of the households, not only on average but for poor
# and rich alike. How many of all households lie in the 90 % interval?

# %%
poor = engel.whole.input[:, 0] < np.median(engel.whole.input)
for name, (model, params) in models.items():
    dist = model.predict(params, engel.whole.input)
    inside = (engel.whole.target > dist.quantile(0.05)) & (engel.whole.target < dist.quantile(0.95))
    print(
        f"{name:24} poorer half {inside[poor].mean():.0%}, richer half {inside[~poor].mean():.0%}"
    )

# %% [markdown]
# (Most of these households were trained on; the nats above are held out.) With one scale nearly
# every poor household is inside, an interval far too wide for them, and too few of the rich. The
# model with a scale for each input is about right in both halves.
#
# On average it is better by over two nats, and yet `compare` gives no verdict: the standard error is
# nearly as large as the difference. The next cell says why. Most of the difference is one household,
# the cross to the right of the figure, which one scale for all makes nearly impossible. It is the
# same lesson as in section 3, and a warning: a mean over 47 examples can rest on one of them.

# %%
gain = results["one scale"].per_example - results["a scale for each input"].per_example
rest = np.sort(gain)[:-1]
print(f"better for {np.mean(gain > 0):.0%} of the {len(gain)} held-out households")
print(f"the largest gain, {gain.max():.1f} nats, is {gain.max() / gain.sum():.0%} of the sum")
print(f"without it: {rest.mean():.3f} ± {rest.std(ddof=1) / np.sqrt(len(rest)):.3f} nats")

# %% [markdown]
# ## 5. What a number may claim
#
# Every result carries a claim: whether it is the exact NLL, a bound, an estimate, or no likelihood
# at all; and whether it is a probability or a density, which depends on the unit. Three cases
# follow in which libraries usually let one go on.


# %%
def refused(function, *args, **kwargs):
    """Calls, and prints the refusal."""
    try:
        print("allowed:", function(*args, **kwargs))
    except ValueError as error:
        print("refused:", error)


# %% [markdown]
# ### Losses that are no likelihood
#
# Label smoothing and the focal loss are useful, but they are the negative logarithm of no
# distribution. One sees it in what they find. The labels are drawn with known probabilities;
# cross-entropy finds them, the other two find others, with any amount of data.

# %%
truth = jnp.array([0.7, 0.2, 0.1])
labels = lx.Categorical(probs=truth).sample(key(20), (N,))
frequencies = lx.Head(lx.Categorical, num_categories=3, logits=lx.learned())


def smoothed(net, head):
    return lx.CrossEntropy(net, head, label_smoothing=0.1)


def three_digits(probs):
    return " ".join(f"{p:.3f}" for p in probs)


print(f"{'true probabilities':22}", three_digits(truth))
for name, objective in {
    "cross-entropy": lx.Likelihood,
    "with label smoothing": smoothed,
    "focal": lx.Focal,
}.items():
    claim = objective(None, frequencies).claim
    found = minimised(frequencies, labels, objective).probs
    print(f"{name:22} {three_digits(found)}  {claim}")

# %% [markdown]
# So the perplexity of a smoothed loss is the perplexity of nothing, and likelax refuses it. The
# true NLL is beside it, in `aux.terms["nll"]`.

# %%
digits = lx.datasets.digits().standardized()
model, params = trained(lx.Head(lx.Categorical, num_categories=10), digits, objective=smoothed)
smooth = lx.evaluate(model, params, key(2), digits.test)
print(smooth)
refused(lx.perplexity, smooth)
print("the NLL of the same predictions:", round(smooth.terms["nll"], 4))
honest = lx.evaluate(lx.Likelihood(linear(10), model.head), params, key(2), digits.test)
print("scored as a likelihood:", honest)
refused(lx.perplexity, honest)

# %% [markdown]
# ### A density has a unit
#
# The model of section 4 predicts standardised francs. In francs, its NLL is another number, larger
# by the logarithm of the scale; neither is "the" NLL. Two densities of the *same* target in the
# *same* unit compare well; bits per dimension of one alone mean nothing until one says how finely
# the target was measured.

# %%
better = results["a scale for each input"]
shift = engel.target_scaler.log_scale
print(f"{better.loss:.3f} nats in standardised units, {better.loss + shift:.3f} in francs")
refused(lx.perplexity, better)
refused(lx.bits_per_dim, better)
franc = 1 / float(engel.target_scaler.scale)  # to the franc, in standardised units
refused(lx.bits_per_dim, better, bin_width=franc)

# %% [markdown]
# ### A density is no probability
#
# Counts can be scored by a Normal, and often are ("MSE on the counts"). Its number looks like an
# NLL, and it is one, but of a density: it cannot be held against a Poisson's, which is a
# probability. `compare` refuses, and says what to do instead: `Quantized` asks the same Normal for
# the probability of each whole number.

# %%
visits = lx.datasets.doctor_visits().standardized()
most = int(visits.target.max())
heads = {
    "Normal": lx.Head(lx.Normal),
    "quantized Normal": lx.Head(
        lx.Quantized, base=lx.Head(lx.Normal), low=0, high=most, bins=most + 1
    ),
    "Poisson": lx.Head(lx.Poisson),
    "negative binomial": lx.Head(lx.NegativeBinomial),
}
scores = {}
for name, head in heads.items():
    target = np.float32 if name == "Normal" else np.int32
    train, test = (
        lx.Batch(part.target.astype(target), part.input) for part in (visits.train, visits.test)
    )
    model = lx.Likelihood(linear(head.size), head)
    result = lx.train.fit(model, optax.adam(0.05), train, steps=STEPS // 2, key=key(0))
    scores[name] = lx.evaluate(model, result.params, key(3), test)
    print(f"{name:18} {scores[name]}")

# %%
refused(lx.compare, scores["Normal"], scores["Poisson"])
refused(lx.compare, scores["quantized Normal"], scores["Poisson"])
refused(lx.compare, scores["negative binomial"], scores["quantized Normal"])

# %% [markdown]
# ## What to keep
#
# | you minimise | you assume | you find |
# |---|---|---|
# | squared error | Normal noise of one fixed size | the mean |
# | absolute error | Laplace noise of one fixed size | the median |
# | Huber | Normal in the middle, exponential tails | between the two |
# | pinball at $q$ | an asymmetric Laplace | the $q$-quantile |
# | BCE, cross-entropy | nothing: any distribution over classes is one | the probabilities |
# | Poisson loss | counts whose variance is their mean | the rate |
# | label smoothing, focal | no distribution | other probabilities |
#
# The README's table "I have ... use ..." has the line to type for each. If none of them is your
# data, write your own: `02_custom_likelihoods.ipynb`.
