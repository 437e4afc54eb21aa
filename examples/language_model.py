"""A language model of bytes or words, against gzip, xz and an n-gram model of the same text.

python examples/language_model.py
python examples/language_model.py --checkpoint runs/bytes          # stop it, and go on later
python examples/language_model.py --vocab word --steps 500

The first, on 2 cores of an AMD EPYC, in 4 min 20 s:

    8,848,256 parameters, 1500 steps in 229 s
    bits per byte of the last 505,720 bytes of shakespeare
      gzip -9                3.0995
      xz -9e                 2.3838
      Kneser-Ney, 5 bytes    2.2108
      Kneser-Ney, 7 bytes    2.0997
      this model             2.0918 ± 0.0041

So it beats the compressors and the n-grams of 5 bytes; of 7 bytes, by less than two of its errors.
"""

import argparse
import dataclasses
import functools
import gzip
import itertools
import json
import lzma
import os
import re
import time
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from ngram import KneserNey
from tqdm import tqdm

import likelax as lx


@dataclasses.dataclass(frozen=True)
class Config:
    features: int = 128
    layers: int = 2
    heads: int = 4
    context: int = 128  # tokens in a row of training
    batch_size: int = 16
    runs: int = 4  # tables of runs of tokens: of two, three, …
    buckets: int = 16_384  # rows of each of them
    rate: float = 3e-3
    decay: float = 0.1


CONFIGS = {"byte": Config(), "word": Config(features=192, context=64, runs=2)}
STEPS = {"byte": 1500, "word": 600}


# The network: (batch, time) tokens -> (batch, time, outputs).


class Transformer(nnx.Module):
    """Causal and pre-norm. Without `outputs` it ends in features, for a head with its own kernel."""

    def __init__(self, tokens: int, outputs: int | None, config: Config, *, rngs: nnx.Rngs):
        width = config.features
        self.embed = Embed(tokens, config, rngs=rngs)
        self.blocks = nnx.List([Block(config, rngs=rngs) for _ in range(config.layers)])
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.last = linear(width, outputs, 0.1, rngs=rngs) if outputs else None

    def __call__(self, tokens, segments=None, positions=None):
        x = self.embed(tokens, positions)  # (batch, time, features)
        for block in self.blocks:
            x = block(x, segments, positions)
        x = self.norm(x)
        return x if self.last is None else self.last(x)


class Embed(nnx.Module):
    """What each token means, plus what it means after the one, two, … tokens before it.

    Runs of tokens are looked up by a hash, as in the byte latent transformer (Pagnoni et al. 2024,
    section 3.2.1): what an n-gram model counts is learned here at next to no arithmetic. The tables
    start at 0, so that a run that was never seen says nothing.
    """

    def __init__(self, tokens: int, config: Config, *, rngs: nnx.Rngs):
        self.decode, self.gain = False, 20.0  # Adam's steps are alike for all, a rare run's are few
        self.tokens = nnx.Embed(tokens, config.features, rngs=rngs, embedding_init=normal(1.0))
        self.runs = nnx.List(
            nnx.Embed(config.buckets, config.features, rngs=rngs, embedding_init=normal(0.0))
            for _ in range(config.runs)
        )

    def init_cache(self, input_shape):
        self.cached_tokens = nnx.Cache(jnp.zeros((input_shape[0], len(self.runs)), jnp.int32))
        self.cache_index = nnx.Cache(jnp.zeros((), jnp.int32))

    def __call__(self, tokens, positions=None):
        (batch, time), longest = tokens.shape, len(self.runs)
        if self.decode:
            before, positions = self.cached_tokens[...], self.cache_index[...]
        else:
            before = jnp.zeros((batch, longest), tokens.dtype)
            positions = jnp.arange(time) if positions is None else positions
        seen = jnp.concatenate([before, tokens], axis=1)
        if self.decode:
            self.cached_tokens[...], self.cache_index[...] = seen[:, 1:], positions + 1
        x, code = self.tokens(tokens), tokens.astype(jnp.uint32)
        for back, table in enumerate(self.runs, start=1):
            earlier = seen[:, longest - back : longest - back + time].astype(jnp.uint32)
            code = (code + 1) * jnp.uint32(0x9E3779B1) + earlier
            found = table((code ^ code >> 15) % table.num_embeddings)
            x = x + self.gain * jnp.where((positions >= back)[..., None], found, 0)
        return x


class Block(nnx.Module):
    """Attention, then an MLP, each on a normalised copy of the stream that it adds to."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        width, scale = config.features, (2 * config.layers) ** -0.5
        self.norm1, self.norm2 = (nnx.RMSNorm(width, rngs=rngs) for _ in range(2))
        self.attention = Attention(config, scale, rngs=rngs)
        self.up = linear(width, 4 * width, rngs=rngs)
        self.down = linear(4 * width, width, scale, rngs=rngs)

    def __call__(self, x, segments, positions):
        x = x + self.attention(self.norm1(x), segments, positions)
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class Attention(nnx.Module):
    """Of the last `context` positions, rotary (Su et al. 2021), queries and keys normalised.

    With `decode` it takes one position at a time and remembers those before it, as
    `nnx.MultiHeadAttention` does. With `segments` no document sees another.
    """

    def __init__(self, config: Config, scale: float, *, rngs: nnx.Rngs):
        width, heads = config.features, config.heads
        self.in_features, self.heads, self.context = width, heads, config.context
        self.decode = False
        self.qkv = linear(width, 3 * width, rngs=rngs)
        self.out = linear(width, width, scale, rngs=rngs)
        self.norm_q, self.norm_k = (nnx.RMSNorm(width // heads, rngs=rngs) for _ in range(2))

    def init_cache(self, input_shape, dtype=jnp.float32):
        shape = (*input_shape[:2], self.heads, self.in_features // self.heads)
        self.cached_key = nnx.Cache(jnp.zeros(shape, dtype))
        self.cached_value = nnx.Cache(jnp.zeros(shape, dtype))
        self.cache_index = nnx.Cache(jnp.zeros((), jnp.int32))

    def __call__(self, x, segments=None, positions=None):
        batch, time, width = x.shape
        qkv = self.qkv(x).reshape(batch, time, 3 * self.heads, width // self.heads)
        q, k, v = jnp.split(qkv, 3, axis=2)  # (batch, time, heads, width / heads) each
        if self.decode:
            positions = self.cache_index[...]
        elif positions is None:
            positions = jnp.arange(time)
        q, k = rotated(self.norm_q(q), positions), rotated(self.norm_k(k), positions)
        if self.decode:
            k, v, near = self.remembered(k, v)
            y = jax.nn.dot_product_attention(q, k, v, mask=near)
        else:
            same = (
                None if segments is None else segments[:, None, :, None] == segments[:, None, None]
            )
            near = (self.context - 1, 0)
            y = jax.nn.dot_product_attention(
                q, k, v, mask=same, is_causal=True, local_window_size=near
            )
        return self.out(y.reshape(batch, time, width))

    def remembered(self, k, v):
        """All keys and values so far, and which are seen from here, (1, 1, 1, length)."""
        at = self.cache_index[...]
        for cached, new in ((self.cached_key, k), (self.cached_value, v)):
            cached[...] = jax.lax.dynamic_update_slice_in_dim(cached[...], new, at, axis=1)
        self.cache_index[...] = at + 1
        places = jnp.arange(self.cached_key.shape[1])
        near = (places <= at) & (places > at - self.context)
        return self.cached_key[...], self.cached_value[...], near[None, None, None]


def rotated(x, positions):
    """x (batch, time, heads, width) with its two halves turned by position, each pair at its speed."""
    half = x.shape[-1] // 2
    speed = 10_000.0 ** (-jnp.arange(half) / half)
    angle = positions[..., None, None] * speed  # ([batch,] time, 1, half)
    a, b = jnp.split(x, 2, axis=-1)
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def linear(inputs: int, outputs: int, scale: float = 1.0, *, rngs: nnx.Rngs) -> nnx.Linear:
    init = normal(scale * inputs**-0.5)
    return nnx.Linear(inputs, outputs, use_bias=False, kernel_init=init, rngs=rngs)


def normal(stddev: float):
    return nnx.initializers.normal(stddev)


# Tokens. Both vocabularies spell every text exactly, so that bits per byte compare.


class Bytes:
    """Each byte is a token."""

    pieces = [bytes([i]) for i in range(256)]

    def encode(self, text: bytes) -> np.ndarray:
        return np.frombuffer(text, np.uint8)

    def decode(self, tokens) -> str:
        text = b"".join(self.pieces[t] for t in np.asarray(tokens)).decode(errors="replace")
        # A model that knows little draws bytes that a terminal would obey.
        return "".join(sign if sign.isprintable() or sign == "\n" else "\ufffd" for sign in text)

    @property
    def sizes(self) -> np.ndarray:
        return np.array([len(piece) for piece in self.pieces])


class Words(Bytes):
    """Bytes, and the words of a text that occur twice or more; other words are spelt in bytes."""

    pattern = re.compile(rb" ?[A-Za-z']+|[^A-Za-z]", re.DOTALL)

    def __init__(self, text: bytes, most: int = 50_000):
        counts = Counter(word for word in self.pattern.findall(text) if len(word) > 1)
        words = [word for word, count in counts.most_common(most) if count > 1]
        self.pieces = [*Bytes.pieces, *words]
        self.number = {piece: i for i, piece in enumerate(self.pieces)}

    def encode(self, text: bytes) -> np.ndarray:
        found = ((w, self.number.get(w)) for w in self.pattern.findall(text))
        return np.array([t for w, n in found for t in (w if n is None else (n,))], np.int32)


# Training.


def train(
    model, optimizer, chunks, *, steps: int, key, checkpoint: Path | None, about: str, every=500
):
    """The train state after `steps` steps in all; goes on from the checkpoint if there is one."""
    state = lx.train.init(model, optimizer, key, next(chunks.epoch(0)))
    if checkpoint and checkpoint.exists():
        state = restored(checkpoint, state, about)
    step, done, losses = lx.train.step(model, optimizer), int(state.step), []
    # Epochs by their number: a run that goes on sees the batches that it would have seen.
    batches = itertools.chain.from_iterable(chunks.epoch(i) for i in itertools.count())
    batches = itertools.islice(batches, done, steps)
    with tqdm(total=steps, initial=done, unit="step", mininterval=1, dynamic_ncols=True) as bar:
        started = time.perf_counter()
        for i, batch in enumerate(batches, start=done + 1):
            state, aux = step(state, batch)
            losses.append(aux.loss)
            if i % 50 == 0 or i == steps:
                loss = np.mean(jax.device_get(losses))  # waits for the steps, so not at each
                if not np.isfinite(loss):
                    raise FloatingPointError(f"the loss is not finite within {i} steps")
                speed = len(losses) * batch.target.size / (time.perf_counter() - started)
                bar.set_postfix_str(f"{loss:.3f} nats/token, {speed:,.0f} tokens/s")
                bar.update(len(losses))
                losses, started = [], time.perf_counter()
            if checkpoint and (i % every == 0 or i == steps):
                save(checkpoint, state, about)
    return state


def save(path: Path, state, about: str) -> None:
    """Every array of the train state in one file, which is there whole or not at all."""
    arrays = {jax.tree_util.keystr(at): x for at, x in jax.tree.leaves_with_path(plain(state))}
    path.parent.mkdir(parents=True, exist_ok=True)
    half_written = path.with_suffix(".tmp")
    with open(half_written, "wb") as file:
        np.savez(file, about=about, **jax.device_get(arrays))
    os.replace(half_written, path)


def restored(path: Path, like, about: str):
    """The train state in the file: arrays for those of `like`, which has its structure."""
    with np.load(path) as file:
        if str(file["about"]) != about:
            raise ValueError(
                f"{path} is of another run:\n{file['about']}\nis not this one's\n{about}\n"
                "give the same options, or another folder"
            )
        arrays = jax.tree.map_with_path(
            lambda at, x: jnp.asarray(file[jax.tree_util.keystr(at)]), plain(like)
        )
    return dataclasses.replace(arrays, key=jax.random.wrap_key_data(arrays.key))


def plain(state):
    """The state with its random key as the numbers that it is."""
    return dataclasses.replace(state, key=jax.random.key_data(state.key))


def chunks_of(tokens: np.ndarray, config: Config, key) -> lx.datasets.Batches:
    """The text cut into rows of `context` tokens, in a new order in each epoch."""
    rows = tokens[: len(tokens) // config.context * config.context].reshape(-1, config.context)
    batch = lx.Batch(target=rows.astype(np.int32))
    return lx.datasets.batches(batch, config.batch_size, key)


def optimizer_of(config: Config, steps: int) -> optax.GradientTransformation:
    """AdamW with warm-up and cosine; matrices decay, embeddings and gains do not."""
    rate = optax.warmup_cosine_decay_schedule(
        0.0, config.rate, max(1, steps // 20), steps, config.rate / 50
    )

    def decays(params):
        return jax.tree.map_with_path(lambda at, _: "kernel" in jax.tree_util.keystr(at), params)

    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(rate, b2=0.99, weight_decay=config.decay, mask=decays),
    )


# What it is compared with, on the same bytes.


def compressed(compress, before: bytes, after: bytes) -> float:
    """Bits per byte that `after` adds to a compressed file of `before`."""
    return 8 * (len(compress(before + after)) - len(compress(before))) / len(after)


COMPRESSORS = {
    "gzip -9": lambda text: gzip.compress(text, 9),
    "xz -9e": lambda text: lzma.compress(text, preset=9 | lzma.PRESET_EXTREME),
}


def baselines(train: bytes, validation: bytes) -> dict[str, float]:
    """Bits per byte of two compressors and of the n-gram model, each given the training text."""
    found = {name: compressed(f, train, validation) for name, f in COMPRESSORS.items()}
    before, after = (np.frombuffer(text, np.uint8) for text in (train, validation))
    for order in (5, 7):
        log_prob = KneserNey(before, order).log_prob(after, before)
        found[f"Kneser-Ney, {order} bytes"] = -log_prob.mean() / np.log(2)
    return found


def temporary_memory(model, batch) -> int:
    """Bytes that the compiled loss and gradient need beside their arguments and results."""
    grad = jax.value_and_grad(model, has_aux=True)
    params = jax.eval_shape(model.init, jax.random.key(0), batch).params
    compiled = jax.jit(grad).lower(params, jax.random.key(0), batch).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def main(
    steps: int | None = None,
    *,
    vocab: str = "byte",
    text: str | None = None,
    checkpoint: str | None = None,
    seed: int = 0,
    config: Config | None = None,
) -> dict[str, float]:
    """Bits per byte of the validation text by name, the model's under "model"."""
    data = lx.datasets.text(text)
    raw_train, raw_validation = (part.tobytes() for part in data.split())
    print(f"{data}: {data.source}")
    config, steps = config or CONFIGS[vocab], steps or STEPS[vocab]
    vocabulary = Words(raw_train) if vocab == "word" else Bytes()
    size = len(vocabulary.pieces)
    before, after = vocabulary.encode(raw_train), vocabulary.encode(raw_validation)
    print(
        f"{size:,} tokens in the vocabulary, {len(before):,} to train on, {len(after):,} held out"
    )

    def language_model(head, outputs):
        make = functools.partial(Transformer, size + 1, outputs, config)  # + 1: the start
        return lx.sequence.Autoregressive(make, head, start=size, token_bytes=vocabulary.sizes)

    plain_head = lx.Head(lx.Categorical, num_categories=size)
    chunks = chunks_of(before, config, jax.random.key(seed))
    if vocab == "byte":
        model = language_model(plain_head, size)
    else:
        model = language_model(lx.LinearHead(size, config.features), None)
        batch = next(chunks.epoch(0))
        ours = temporary_memory(model, batch) / 2**20
        naive = temporary_memory(language_model(plain_head, size), batch) / 2**20
        print(f"memory of a step: {ours:.0f} MiB by blocks of the vocabulary, {naive:.0f} naively")

    about = json.dumps([data.name, len(data), vocab, steps, seed, dataclasses.asdict(config)])
    path = Path(checkpoint) / "train_state.npz" if checkpoint else None
    started = time.perf_counter()
    state = train(
        model,
        optimizer_of(config, steps),
        chunks,
        steps=steps,
        key=jax.random.key(seed),
        checkpoint=path,
        about=about,
    )
    count = sum(x.size for x in jax.tree.leaves(state.params))
    print(f"{count:,} parameters, {steps} steps in {time.perf_counter() - started:.0f} s")

    # Each token is scored once, with at least half a context before it.
    windows = lx.sequence.windows(after, config.context, config.context // 2, batch_size=64)
    held_out = lx.evaluate(model, state.params, jax.random.key(1), windows)
    model_bits = lx.bits_per_byte(held_out)
    found = baselines(raw_train, raw_validation)
    print(f"bits per byte of the last {len(raw_validation):,} bytes of {data.name}")
    for name, bits in found.items():
        print(f"  {name:22} {bits:.4f}")
    print(f"  {'this model':22} {model_bits:.4f} ± {model_bits.standard_error:.4f}")

    prompt = after[: config.context // 2]
    drawn = model.sample(
        state.params, jax.random.key(2), (2,), length=300, prompt=prompt, temperature=0.8
    )
    for tokens in drawn:
        print("-" * 60, vocabulary.decode(np.concatenate([prompt, tokens])), sep="\n")
    return found | {"model": float(model_bits)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, help="training steps (default: about four minutes)")
    parser.add_argument("--vocab", choices=CONFIGS, default="byte")
    parser.add_argument("--text", help="shakespeare, tiny_shakespeare, python_docs or a file")
    parser.add_argument("--checkpoint", metavar="FOLDER", help="where to save, and to go on from")
    parser.add_argument("--seed", type=int, default=0)
    options = vars(parser.parse_args())
    main(options.pop("steps"), **options)
