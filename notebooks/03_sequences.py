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
# # What is the likelihood of a sequence?
#
# A product of factors, $p(x) = \prod_t p(x_t \mid x_{<t})$; a causal network gives all of them at once.
# This notebook
#
# 1. computes token likelihoods by hand and by the library, where the best answer is known;
# 2. measures the memory of a vocabulary head against the size of the vocabulary;
# 3. trains on text and reports bits per byte beside two compressors;
# 4. holds a hidden Markov model against brute force.

# %%
import bz2
import itertools
import lzma
import os
import zlib

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import likelax as lx

QUICK = "LIKELAX_QUICK" in os.environ  # for the tests: fewer steps, smaller sizes
STEPS = 20 if QUICK else 600

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
# ## 1. By hand, and by the library
#
# The text is what Python carries as its own manual, so that nothing has to be fetched. A bigram model
# has one row of logits for each byte: its maximum of the likelihood is known, the relative frequency of
# each pair, and so is its best loss, the conditional entropy of the pairs.

# %%
text = lx.datasets.python_docs()
print(text.source)
train, validation = text.split(0.9)
train = train[:20_000] if QUICK else train

pairs = np.zeros((256, 256))
np.add.at(pairs, (train[:-1], train[1:]), 1)
conditional = pairs / np.maximum(pairs.sum(1, keepdims=True), 1)
best = -np.sum(pairs[pairs > 0] * np.log(conditional[pairs > 0])) / pairs.sum()

bigram = (
    lambda key, previous: {"logits": jnp.zeros((256, 256))},
    lambda params, previous: params["logits"][previous],
)
model = lx.sequence.Autoregressive(
    bigram, lx.Head(lx.Categorical, num_categories=256), start=None, token_bytes=1
)
counted = {"net": {"logits": jnp.log(jnp.asarray(conditional + 1e-12, jnp.float32))}, "head": {}}
chunks = lx.sequence.windows(train, 1025, 1024, batch_size=64)
by_library = lx.evaluate(model, counted, key(0), chunks)
print(f"by hand     {best:.6f} nats per byte")
print(f"by library  {by_library}")

# %% [markdown]
# `start=None` says that the first byte is given and not scored; `windows` lets neighbouring windows
# share one byte, so that every other byte is scored once. Trained by gradient from zero, the same
# table comes down to that bound and cannot pass it.

# %%
whole = lx.Batch(jnp.asarray(train[: (len(train) // 1000) * 1000].reshape(-1, 1000), jnp.int32))
fitted = lx.train.fit(model, optax.adam(0.3), whole, steps=20 if QUICK else 120, key=key(1))
plt.figure(figsize=(6, 3.2))
plt.plot(fitted.history.loss, color=BLUE, label="trained")
plt.axhline(best, color=ORANGE, linestyle="--", label="conditional entropy of the pairs")
plt.xlabel("step")
plt.ylabel("nats per byte")
plt.legend()
plt.show()

# %% [markdown]
# What one token costs is `token_log_prob`; a sequence is their sum. Here the cost of each byte of one
# line, each given the byte before it.

# %%
line = np.frombuffer(b"The return statement returns a value.", np.uint8).astype(np.int32)
cost = -np.asarray(model.token_log_prob(fitted.params, lx.Batch(line[None])))[0] / np.log(2)
plt.figure(figsize=(9, 2.8))
plt.bar(range(len(line)), cost, color=BLUE)
plt.xticks(range(len(line)), [chr(c) if c != 32 else "␣" for c in line], fontsize=9)
plt.ylabel("bits")
plt.title(f"{cost.sum():.0f} bits for {len(line) - 1} bytes, the first one given")
plt.show()

# %% [markdown]
# ## 2. The memory of a vocabulary
#
# The logits of N tokens over a vocabulary of V words are N x V numbers, twice with their gradient.
# `LinearCategorical` has the same log-probabilities and gradients, tile by tile. The bytes are those
# that the compiled programs ask for beside their inputs and outputs; nothing is run.

# %%
TOKENS, FEATURES = 2048, 128
SIZES = [1_000, 4_000] if QUICK else [1_000, 4_000, 16_000, 64_000, 256_000]


def naive(hidden, kernel, token):
    return optax.softmax_cross_entropy_with_integer_labels(hidden @ kernel, token).mean()


def blocked(hidden, kernel, token):
    return -lx.LinearCategorical(hidden, kernel).log_prob(token).mean()


def megabytes(loss, size):
    shapes = (
        jax.ShapeDtypeStruct((TOKENS, FEATURES), jnp.float32),
        jax.ShapeDtypeStruct((FEATURES, size), jnp.float32),
        jax.ShapeDtypeStruct((TOKENS,), jnp.int32),
    )
    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(*shapes).compile()
    return compiled.memory_analysis().temp_size_in_bytes / 2**20


memory = {f.__name__: [megabytes(f, size) for size in SIZES] for f in (naive, blocked)}
plt.figure(figsize=(6, 3.6))
for (name, values), colour in zip(memory.items(), (ORANGE, BLUE), strict=True):
    plt.loglog(SIZES, values, "o-", color=colour, label=name)
plt.xlabel("vocabulary")
plt.ylabel("temporary memory, MB")
plt.title(f"{TOKENS} tokens, {FEATURES} features: loss and gradients")
plt.legend()
plt.show()
for size, a, b in zip(SIZES, *memory.values(), strict=True):
    print(f"V = {size:7d}: naive {a:8.1f} MB, blocked {b:6.1f} MB")

# %% [markdown]
# ## 3. Text
#
# A small causal network: each position sees the sixteen bytes before it. It takes four lines as a pair
# of functions; a transformer in Flax is `examples/language_model.py`.

# %%
SEEN, WIDTH = 16, 256


def init(key, previous):
    a, b, c = jax.random.split(key, 3)
    return {
        "embed": 0.3 * jax.random.normal(a, (SEEN, 256, 24)),
        "hidden": jax.random.normal(b, (SEEN * 24, WIDTH)) / (SEEN * 24) ** 0.5,
        "last": 0.1 * jax.random.normal(c, (WIDTH, 256)) / WIDTH**0.5,
    }


def apply(params, previous):
    past = jnp.pad(previous, ((0, 0), (SEEN - 1, 0)))
    seen = jnp.stack([past[:, k : k + previous.shape[1]] for k in range(SEEN)], -1)  # (B, T, SEEN)
    x = params["embed"][jnp.arange(SEEN), seen].reshape(*previous.shape, -1)
    return jax.nn.gelu(x @ params["hidden"]) @ params["last"]


model = lx.sequence.Autoregressive(
    (init, apply), lx.Head(lx.Categorical, num_categories=256), start=None, token_bytes=1
)


class Chunks:
    """Random pieces of the text, others in each round."""

    def __iter__(self):
        random = np.random.default_rng(0)
        for _ in range(50):
            at = random.integers(0, len(train) - 129, 32)
            yield lx.Batch(train[at[:, None] + np.arange(129)].astype(np.int32))


optimizer = optax.adamw(optax.cosine_decay_schedule(3e-3, STEPS), weight_decay=0.01)
fitted = lx.train.fit(model, optimizer, Chunks(), steps=STEPS, key=key(2))
lx.testing.check_causal(model, fitted.params, lx.Batch(train[:80].reshape(4, 20).astype(np.int32)))

scored = validation[:2_000] if QUICK else validation
windows = lx.sequence.windows(scored, 129, 64, batch_size=64)
held_out = lx.evaluate(model, fitted.params, key(3), windows)
print(held_out)
print(lx.bits_per_byte(held_out))
print(lx.perplexity(held_out))

# %% [markdown]
# A compressor is a model, too: what it adds to its output when the validation text follows the
# training text is its code length. The error bar is over windows. The compressors win here, and rightly
# so: this manual repeats whole paragraphs, which they look up and a network that sees sixteen bytes
# cannot.

# %%
SHRINK = {
    "zlib -9": lambda data: zlib.compress(data, 9),
    "bzip2 -9": lambda data: bz2.compress(data, 9),
    "xz -9e": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
}
before, after = train.tobytes(), train.tobytes() + scored.tobytes()
bits = {
    name: 8 * (len(shrink(after)) - len(shrink(before))) / len(scored)
    for name, shrink in SHRINK.items()
}
own = lx.bits_per_byte(held_out)
plt.figure(figsize=(6, 2.6))
plt.barh(list(bits), list(bits.values()), color="0.8")
plt.barh(["this network"], [own], xerr=[2 * own.standard_error], color=BLUE)
plt.xlabel("bits per byte of the held-out text")
plt.show()
for name, value in bits.items():
    print(f"{name:10s} {value:.3f}")

# %%
prompt = np.frombuffer(b"The value of the expression", np.uint8).astype(np.int32)
drawn = model.sample(
    fitted.params,
    key(4),
    (2,),
    length=40 if QUICK else 160,
    prompt=prompt,
    temperature=0.8,
    top_p=0.95,
)
for row in np.asarray(drawn):
    print(repr(text.decode(np.concatenate([prompt, row]))))

# %% [markdown]
# A loss with label smoothing is no likelihood, and says so.

# %%
smoothed = lx.sequence.Autoregressive(
    (init, apply), lx.Head(lx.Categorical, num_categories=256), start=None, label_smoothing=0.1
)
aux = smoothed(fitted.params, key(5), next(iter(Chunks())))[1]
print({name: round(float(value), 4) for name, value in aux.terms.items()})
try:
    lx.perplexity(aux)
except ValueError as error:
    print("refused:", error)

# %% [markdown]
# ## 4. A hidden Markov model against brute force
#
# Three hidden states, eight steps: 6561 paths, all of which can be added up.

# %%
initial = np.array([0.6, 0.3, 0.1])
transition = np.array([[0.85, 0.1, 0.05], [0.2, 0.7, 0.1], [0.05, 0.25, 0.7]])
locs, scales = np.array([-1.0, 0.5, 3.0]), np.array([0.5, 1.0, 0.8])
hmm = lx.sequence.HiddenMarkov(initial, transition, lx.Normal(locs, scales), num_steps=8)
x = hmm.sample(key(6))

log_emission = np.asarray(lx.Normal(locs, scales).log_prob(x[:, None]), np.float64)
paths = np.array(list(itertools.product(range(3), repeat=8)))
log_joint = np.log(initial)[paths[:, 0]] + log_emission[np.arange(8), paths].sum(1)
log_joint += np.log(transition)[paths[:, :-1], paths[:, 1:]].sum(1)
exact = np.logaddexp.reduce(log_joint)
print(f"brute force {exact:.6f}, forward algorithm {float(hmm.log_prob(x)):.6f} nats")

weights = np.exp(log_joint - exact)
posterior = np.stack([[weights[paths[:, t] == s].sum() for s in range(3)] for t in range(8)])
probs = np.asarray(hmm.posterior(x).probs)
states, log_best = hmm.viterbi(x)
print("most probable path:", states, "by brute force:", paths[log_joint.argmax()])

plt.figure(figsize=(6, 3))
bottom = np.zeros(8)
for s, colour in enumerate((BLUE, ORANGE, GREEN)):
    plt.bar(range(8), probs[:, s], bottom=bottom, color=colour, alpha=0.6, label=f"state {s}")
    bottom = bottom + probs[:, s]
    if s < 2:
        plt.plot(range(8), posterior[:, : s + 1].sum(1), "k_", markersize=22)
plt.xlabel("step")
plt.ylabel("probability given all of x")
plt.title("bars: posterior(x); lines: 6561 paths added up")
plt.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.2))
plt.show()

# %% [markdown]
# It is a distribution like any other: its gradient with respect to every parameter is exact, and so a
# model is fitted by its likelihood, here to the years of few and many sunspots.

# %%
data = lx.datasets.sunspots()
root = jnp.sqrt(jnp.asarray(data.target))


def sun(params):
    return lx.sequence.HiddenMarkov(
        lx.Categorical(logits=jnp.zeros(3)),
        lx.Categorical(logits=params["transition"]),
        lx.Normal(params["loc"], log_scale=params["log_scale"]),
        num_steps=len(root),
    )


params = {
    "transition": 2 * jnp.eye(3),
    "loc": jnp.array([2.0, 6.0, 10.0]),
    "log_scale": jnp.ones(3),
}
optimizer = optax.adam(0.05)


@jax.jit
def step(params, opt_state):
    loss, grads = jax.value_and_grad(lambda p: -sun(p).log_prob(root))(params)
    updates, opt_state = optimizer.update(grads, opt_state)
    return optax.apply_updates(params, updates), opt_state, loss


opt_state = optimizer.init(params)
for i in range(10 if QUICK else 300):
    params, opt_state, loss = step(params, opt_state)
    if i % 100 == 0:
        print(f"step {i}: {float(loss):.2f} nats for all {len(root)} years")
print(f"at the end: {float(loss):.2f}")

path = np.asarray(sun(params).viterbi(root)[0])
plt.figure(figsize=(9, 2.8))
plt.plot(data.input[:, 0], data.target, color="0.7")
for s, colour in enumerate((BLUE, ORANGE, GREEN)):
    plt.plot(data.input[path == s, 0], data.target[path == s], ".", color=colour)
plt.xlabel("year")
plt.ylabel("sunspots")
plt.title("the most probable state of each year")
plt.show()
