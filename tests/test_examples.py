"""Each example runs from its file, prints what it says, and gets better at what it does."""

import collections
import dataclasses
import functools
import importlib.util
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import likelax as lx

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)  # a script finds the files beside it
        spec.loader.exec_module(module)
    return module


def test_every_example_is_tested_here():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {
        "own_loop",
        "ensemble",
        "contrastive",
        "custom_likelihood",
        "diffusion_digits",
        "energy_2d",
        "flow_density",
        "flow_matching",
        "forecaster",
        "gan_2d",
        "language_model",
        "ngram",
        "rbm_digits",
        "vae_digits",
    }


def test_own_loop(capsys):
    own_loop = example("own_loop")
    assert own_loop.main(steps=60) < own_loop.main(steps=1)
    told = capsys.readouterr().out
    assert "nats (exact; 47 examples)" in told
    assert "95% of households" in told


def test_ensemble(capsys):
    alone, together = example("ensemble").main(steps=30, members=3)
    assert together < alone < 1.0  # log 10 = 2.3 knows nothing
    assert "3 together" in capsys.readouterr().out


@pytest.mark.slow
def test_contrastive(capsys, tmp_path):
    contrastive = example("contrastive")
    contrastive.LABELS, contrastive.REPEATS = (100,), 2
    found = contrastive.main(150, tmp_path)
    (pixels, _), (embedding, _) = (found[f"left half, {of}"][100] for of in ("pixels", "embedding"))
    assert embedding > pixels + 0.02
    assert "nats (no likelihood; 450 examples)" in capsys.readouterr().out
    for name in ("probes.png", "halves.png"):
        assert (tmp_path / name).stat().st_size > 10_000


@pytest.mark.slow
def test_forecaster(capsys, tmp_path):
    forecaster = example("forecaster")
    early, late = (forecaster.main(n, tmp_path, draws=50) for n in (3, 80))
    assert all(late[name] < early[name] for name in late)
    assert "nats per year" in capsys.readouterr().out
    assert (tmp_path / "forecast.png").stat().st_size > 10_000


@pytest.mark.slow
def test_flow_density(capsys, tmp_path):
    losses = example("flow_density").main(steps=200, out=tmp_path, count=2000)
    # Even an early flow beats one Gaussian on the moons; nothing beats the truth's 1.0076 nats.
    assert 0.95 < losses["moons, neural spline flow"] < losses["moons, Gaussian"] - 0.3
    assert "nats (exact" in capsys.readouterr().out
    for name in ("moons.png", "patients.png"):
        assert (tmp_path / name).stat().st_size > 10_000


@pytest.mark.slow
def test_flow_matching(capsys, tmp_path):
    flow_matching = example("flow_matching")
    flow_matching.FEATURES, flow_matching.CELLS = 32, (12, 8)
    score = flow_matching.main(steps=300, out=tmp_path, count=2000, held_out=500)
    # Better than one Gaussian, 1.95 nats; nothing beats the truth's 1.0076 by more than chance.
    assert 1.0076 - 4 * score.standard_error < score.loss < 1.7
    assert score.claim.relation == "exact"
    assert "nats (exact, closing with ode tolerance; 500 examples)" in capsys.readouterr().out
    assert (tmp_path / "flow_matching.png").stat().st_size > 10_000


@pytest.mark.slow
def test_vae_digits(capsys, tmp_path):
    vae_digits = example("vae_digits")
    vae_digits.PARTICLES = 50
    found = vae_digits.main(60, tmp_path)
    exact = found["independent pixels"]
    np.testing.assert_allclose(exact.loss, 24.63, atol=0.05)
    assert exact.claim.relation == "exact" and "latents" in capsys.readouterr().out
    # The bound by many particles is below the one by one, and a little training beats none of z.
    assert found["autoencoder by the ELBO"].loss < found["  its ELBO, one particle"].loss
    assert found["autoencoder by the ELBO"].loss < exact.loss
    for kind in vae_digits.flows():
        assert (
            found[kind].claim.relation == "upper" and found[kind].claim.measure.kind == "counting"
        )
    assert all(score.count == 450 for score in found.values())
    assert len(list(tmp_path.glob("*.png"))) == 6


@pytest.mark.slow
def test_rbm_digits(capsys, tmp_path):
    rbm_digits = example("rbm_digits")
    # The wide one is as small as the others, and its log Z exact, too: few programs are compiled.
    rbm_digits.HIDDEN, rbm_digits.WIDE, rbm_digits.COLUMNS = 4, 4, 1
    rbm_digits.DENSITIES, rbm_digits.PCD = {}, rbm_digits.OBJECTIVES["CD-1"]
    exact = rbm_digits.OBJECTIVES["exact likelihood"]
    rbm_digits.OBJECTIVES = {"exact likelihood": exact}
    rbm_digits.SETTINGS = ((0.05, 2), (0.05, 3))
    found = rbm_digits.main(20, tmp_path, temperatures=40)
    assert len(found) == 4
    for scores in found.values():
        assert scores.nll.claim.relation == "exact" and scores.nll.count == 450
        for side in (scores.lower, scores.upper):
            assert abs(side.loss - scores.nll.loss) < 4 * side.terms["log_z_error"] + 1e-3
    # Trained, if little: independent pixels have 24.63 nats.
    assert found["exact likelihood"].nll.loss < 24
    assert "against scikit-learn's best: -" in capsys.readouterr().out
    assert len(list(tmp_path.glob("*.png"))) == 3


def test_the_machines_of_scikit_learn_are_those_of_fit():
    from sklearn.neural_network import BernoulliRBM

    x = (np.random.default_rng(0).random((35, 64)) < 0.3).astype(float)
    rbm_digits = example("rbm_digits")
    _, rbm = list(rbm_digits.by_scikit_learn(x, 0.05, 4))[-1]
    fitted = BernoulliRBM(rbm_digits.HIDDEN, learning_rate=0.05, n_iter=4, random_state=0).fit(x)
    np.testing.assert_allclose(rbm.weight, fitted.components_.T, rtol=1e-5)
    np.testing.assert_allclose(rbm.visible_bias, fitted.intercept_visible_, rtol=1e-5)
    np.testing.assert_allclose(rbm.hidden_bias, fitted.intercept_hidden_, rtol=1e-5)


@pytest.mark.slow
def test_energy_2d(capsys, tmp_path):
    energy_2d = example("energy_2d")
    energy_2d.HIDDEN = 16
    made = energy_2d.objectives
    kept = "denoising score matching", "persistent chains"
    energy_2d.objectives = lambda x: {name: made(x)[name] for name in kept}
    found = energy_2d.main(60, tmp_path, count=1000, cells=200, temperatures=40)
    for one in found.values():
        # Nothing beats the entropy by more than chance.
        assert energy_2d.ENTROPY - 4 * one.held_out.standard_error < one.held_out.loss < 4
        assert abs(float(one.annealed.log_z) - one.log_z) < 4 * float(one.annealed.standard_error)
    assert "nats (exact, closing with grid; 1000 examples)" in capsys.readouterr().out
    assert (tmp_path / "energy_2d.png").stat().st_size > 10_000


@pytest.fixture(scope="module")
def diffusion_digits():
    return example("diffusion_digits")


def test_the_area_of_independent_pixels_is_their_likelihood(diffusion_digits):
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(17, 0.5), size=64)
    chosen = shares.cumsum(-1) > rng.random((30, 64, 1))
    levels = np.argmax(chosen, -1)
    exact = -np.log(np.take_along_axis(shares[None], levels[..., None], -1)).sum((1, 2)).mean()
    log_snr = jnp.linspace(-5.0, 8.5, 55)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def area(shares, key):
        denoiser = diffusion_digits.independent(shares)
        cost = diffusion_digits.cost_per_log_snr(denoiser, jnp.asarray(levels), log_snr, key)
        return jnp.trapezoid(cost, log_snr)

    keys = jax.random.split(jax.random.key(0), 16)
    found = np.asarray(area(jnp.asarray(shares, jnp.float32), keys))
    error = found.std(ddof=1) / len(keys) ** 0.5
    # Beyond the ends there are 1/2 |x|^2 exp(-5) nats at most.
    assert error < 0.5 and -0.3 < (exact - found.mean()) < 4 * error + 0.3
    # Negative control: with probabilities that are not theirs it costs more.
    other = np.asarray(area(jnp.asarray(shares[::-1], jnp.float32), keys))
    assert other.mean() > exact + 20


def test_the_network_of_pixels_is_causal(diffusion_digits):
    model = diffusion_digits.causal()
    batch = lx.Batch(np.random.default_rng(0).integers(0, 17, (2, 64)))
    params = jax.jit(model.init)(jax.random.key(0), batch).params
    # Outputs start at 0, where nothing can be wrong with them.
    params["net"]["last"] = jax.random.normal(jax.random.key(1), params["net"]["last"].shape)
    lx.testing.check_causal(model, params, batch)


@pytest.mark.slow
def test_diffusion_digits(diffusion_digits, capsys, tmp_path, monkeypatch):
    # These two are of `vae_digits`, and run in its own test.
    claim = lx.Claim("upper", measure=lx.Measure("counting", 64))
    other = lx.Evaluation(90.0, 0.5, 450, claim, np.full(450, 90.0), np.ones(450), {})
    monkeypatch.setattr(diffusion_digits, "train_flow", lambda *_: other)
    trained = types.SimpleNamespace(held_out=other)
    monkeypatch.setattr(diffusion_digits, "train_autoencoder", lambda *_: trained)
    sizes = {"features": 8, "hidden": 8, "layers": 1, "told": 8}
    small = functools.partial(diffusion_digits.Mixer, **sizes)
    monkeypatch.setattr(diffusion_digits, "Mixer", small)
    found = diffusion_digits.main(20, tmp_path, draws=2)
    np.testing.assert_allclose(found["independent pixels"].loss, 108.11, atol=0.05)
    exact = {name for name, score in found.items() if score.claim.relation == "exact"}
    assert exact == {"probabilistic PCA", "independent pixels", "causal network"}
    for name, score in found.items():
        kind = "lebesgue" if name == "probabilistic PCA" else "counting"
        assert score.claim.measure == (kind, 64) and score.count == 450
    told = capsys.readouterr().out
    assert "undecided: upper bound" in told or "no difference" in told
    # The bound and the equation of one model are close.
    bound, equation = found["diffusion"], found["diffusion, equation"]
    assert abs(bound.loss - equation.loss) < 4 * bound.standard_error + 2
    assert len(list(tmp_path.glob("*.png"))) == 3


def test_modes_are_counted():
    gan_2d = example("gan_2d")
    x = gan_2d.eight_gaussians(4000, 3)
    found = gan_2d.modes_of(x)
    # A Rayleigh variable is below 3 with probability 1 - exp(-9 / 2) = 0.98889.
    assert found.modes == 8 and abs(found.near - 0.98889) < 4 * (0.989 * 0.011 / 4000) ** 0.5
    one_less = x[np.linalg.norm(x - gan_2d.circle()[2], axis=1) > 0.7]
    assert gan_2d.modes_of(one_less).modes == 7
    assert gan_2d.modes_of(np.zeros((100, 2))) == (0, 0.0)


@pytest.mark.slow
def test_gan_2d(capsys, tmp_path, monkeypatch):
    gan_2d = example("gan_2d")
    monkeypatch.setattr(gan_2d, "GAMES", {"kl": ("kl", gan_2d.SLOPES)})
    monkeypatch.setattr(gan_2d, "HELD_OUT", 400)
    found = gan_2d.main(4, tmp_path)
    where, apart = found["kl"]
    assert 0 <= where.near <= 1 and apart.claim.relation == "none" and apart < np.log(2)
    # Images of the data itself are as near as may be, and after four steps nothing else is.
    own, other = found["training images"], found["generator"]
    assert abs(own.mmd.value) < 4 * own.mmd.standard_error and own.coverage > 0.9
    assert other.mmd.value > 4 * other.mmd.standard_error and other.coverage < 0.5
    assert "(estimate, closing with num_temperatures)" in capsys.readouterr().out
    assert len(list(tmp_path.glob("*.png"))) == 2


@pytest.mark.slow
def test_custom_likelihood(capsys):
    loss = example("custom_likelihood").main(steps=120)
    told = capsys.readouterr().out
    assert "ok       normalisation" in told and "FAILED" not in told
    # The truth's own loss: E[-log p] of a Rayleigh is 1 + log(scale / sqrt 2) + 0.577/2, averaged.
    assert abs(loss - (1 + 1.0 - 0.3466 + 0.2886)) < 0.05
    hours = [line.split() for line in told.splitlines() if line.strip().startswith(("0 ", "6 "))]
    for _, truth, fitted in hours:
        assert abs(float(fitted) / float(truth) - 1) < 0.1


# The n-gram model.


def letters(length, seed=0):
    """Text with structure: each of four letters likes another one after it."""
    rng = np.random.default_rng(seed)
    steps = rng.choice(4, size=length, p=[0.1, 0.6, 0.2, 0.1])
    return (97 + np.cumsum(steps) % 4).astype(np.uint8)


def kneser_ney(tokens, order, gram):
    """p(last | rest) by Chen and Goodman's recursion, with dictionaries."""

    def counts(length):
        if length == order:
            runs = [tuple(tokens[i : i + length]) for i in range(len(tokens) - length + 1)]
            return collections.Counter(runs)
        return collections.Counter(longer[1:] for longer in counts(length + 1))

    def prob(gram):
        if not gram:
            return 1 / 256
        found, lower = counts(len(gram)), prob(gram[1:])
        n = [sum(c == k for c in found.values()) for k in range(5)]
        y = n[1] / max(1, n[1] + 2 * n[2])
        steps = [k - (k + 1) * y * n[k + 1] / max(1, n[k]) for k in (1, 2, 3)]
        discount = {k: d if 0 < d <= k else k / 2 for k, d in enumerate(steps, start=1)}
        after = {g: c for g, c in found.items() if g[:-1] == gram[:-1]}
        if not after:
            return lower
        taken = sum(discount[min(c, 3)] for c in after.values())
        c = found.get(gram, 0)
        kept = c - discount[min(c, 3)] if c else 0
        return (kept + taken * lower) / sum(after.values())

    return prob(tuple(gram))


@pytest.mark.parametrize("order", [1, 2, 4])
def test_an_ngram_model_is_kneser_neys(order):
    ngram = example("ngram")
    tokens = letters(300)
    model = ngram.KneserNey(tokens, order)
    after = letters(40, seed=1)
    after[7] = 200  # never seen
    whole = np.concatenate([tokens, after])
    wanted = [
        np.log(kneser_ney(tokens, order, whole[i + 1 - order : i + 1])) for i in range(300, 340)
    ]
    np.testing.assert_allclose(model.log_prob(after, tokens), wanted, rtol=1e-12)


def test_an_ngram_model_by_hand():
    """Of "aab": one letter twice, one once. y = 1/3, D1 = 1/3, D2 = 2, so that (2 + 1/3) / 3 is
    spread over the 256 bytes."""
    model = example("ngram").KneserNey(np.frombuffer(b"aab", np.uint8), 1)
    log_prob = model.log_prob(np.frombuffer(b"abz", np.uint8), np.zeros(0, np.uint8))
    spread = 7 / 9 / 256
    np.testing.assert_allclose(np.exp(log_prob), [spread, 2 / 9 + spread, spread])


def test_ngram_probabilities_sum_to_one():
    ngram = example("ngram")
    tokens = letters(500)
    model = ngram.KneserNey(tokens, 3)
    contexts = np.array([[97, 98], [99, 99], [100, 7], [0, 0]])
    grams = contexts @ [256**2, 256] + np.arange(256)[:, None]
    total = model.prob(grams.astype(np.uint64)).sum(0)
    np.testing.assert_allclose(total, 1, rtol=1e-12)
    with pytest.raises(ValueError, match="order is from 1 to 8, got 9"):
        ngram.KneserNey(tokens, 9)


def test_ngram(capsys, tmp_path):
    path = tmp_path / "letters.txt"
    path.write_bytes(letters(3000).tobytes())
    bits = example("ngram").main(3, str(path))
    # The entropy of the steps, which no model beats by more than chance.
    p = np.array([0.1, 0.6, 0.2, 0.1])
    assert abs(bits + np.sum(p * np.log2(p))) < 0.15
    assert "letters.txt" in capsys.readouterr().out


# The language model.


@pytest.fixture(scope="module")
def language_model():
    return example("language_model")


@pytest.fixture(scope="module")
def tiny(language_model):
    """A model of 4 letters and the start, its parameters, and a batch."""
    config = language_model.Config(
        features=16, layers=1, heads=2, context=8, batch_size=3, runs=2, buckets=32
    )
    make = functools.partial(language_model.Transformer, 5, 4, config)
    head = lx.Head(lx.Categorical, num_categories=4)
    model = lx.sequence.Autoregressive(make, head, start=4, token_bytes=1)
    batch = lx.Batch(target=letters(24).reshape(3, 8).astype(np.int32) - 97)
    params = jax.jit(model.init)(jax.random.key(0), batch).params
    # Tables start at 0, where nothing can be wrong with them.
    noise = jax.random.normal(jax.random.key(1), (2, 32, 16))
    for table, values in zip(params["net"]["embed"]["runs"].values(), noise, strict=True):
        table["embedding"] = 0.05 * values
    return config, model, params, batch


def test_the_transformer_is_causal(tiny):
    _, model, params, batch = tiny
    lx.testing.check_causal(model, params, batch)


@pytest.mark.slow
def test_the_transformer_draws_the_same_with_its_cache(tiny):
    _, model, params, batch = tiny
    draw = functools.partial(model.sample, params, jax.random.key(2), (3,), length=20)
    for prompt in (None, batch.target[:, :3]):
        plain, cached = (draw(prompt=prompt, cache=cache) for cache in (False, True))
        np.testing.assert_array_equal(plain, cached)
        assert len(np.unique(cached)) == 4


def test_packed_documents_do_not_see_one_another(tiny):
    _, model, params, batch = tiny
    documents = [batch.target[0, :5], batch.target[1, :3], batch.target[2]]
    packed = lx.sequence.pack(documents, 16)
    assert packed.target.tokens.shape == (1, 16)
    together = model.token_log_prob(params, packed)[0]
    apart = [model.token_log_prob(params, lx.Batch(target=d[None]))[0] for d in documents]
    np.testing.assert_allclose(together, np.concatenate(apart), rtol=1e-4, atol=1e-5)
    # Negative control: as one document they do.
    target = dataclasses.replace(packed.target, segments=np.ones((1, 16), np.int32))
    joined = model.token_log_prob(params, lx.Batch(target=target))[0]
    assert np.abs(joined - np.concatenate(apart))[5:].max() > 1e-2


@pytest.mark.slow
def test_training_goes_on_from_a_checkpoint(language_model, tiny, tmp_path):
    config, model, _, _ = tiny
    optimizer = optax.adamw(1e-2)
    chunks = language_model.chunks_of(letters(400) - 97, config, jax.random.key(0))
    run = functools.partial(
        language_model.train, model, optimizer, key=jax.random.key(1), about="this run", every=2
    )
    whole = run(chunks, steps=7, checkpoint=None)
    path = tmp_path / "deep" / "train_state.npz"
    assert int(run(chunks, steps=3, checkpoint=path).step) == 3
    again = run(chunks, steps=7, checkpoint=path)
    assert [file.name for file in path.parent.iterdir()] == ["train_state.npz"]
    leaves = (jax.tree.leaves(language_model.plain(x)) for x in (whole, again))
    for one, other in zip(*leaves, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="(?s)is of another run.*this run.*another text"):
        run(chunks, steps=8, checkpoint=path, about="another text")


def test_words_spell_every_text(language_model):
    text = b"the cat and the dog and the Cat's \xff\nand 12 dogs  the"
    words = language_model.Words(text)
    assert set(words.pieces[256:]) == {b" the", b" and"}
    for raw in (text, b"an unseen the\n the", b""):
        tokens = words.encode(raw)
        assert words.sizes[tokens].sum() == len(raw)
        assert b"".join(words.pieces[t] for t in tokens) == raw
    assert len(words.encode(b" the and cat")) == 2 + len(" cat")
    assert words.decode(words.encode(b" the end")) == " the end"


def test_a_compressor_is_given_what_came_before(language_model):
    a, b = (np.random.default_rng(i).bytes(500) for i in (0, 1))
    bits = functools.partial(language_model.compressed, language_model.COMPRESSORS["xz -9e"])
    assert bits(a, b) > 7.9, "noise"
    assert bits(a + b, b) < 1.0, "seen before"


@pytest.mark.slow
@pytest.mark.parametrize("vocab", ["byte", "word"])
def test_language_model(language_model, capsys, tmp_path, vocab):
    path = tmp_path / "letters.txt"
    path.write_bytes(letters(6000).tobytes().replace(b"a", b" a") + b"\n")
    small = {"features": 16, "layers": 1, "heads": 2, "context": 16, "runs": 1, "buckets": 64}
    config = dataclasses.replace(language_model.CONFIGS[vocab], **small, rate=0.02)
    folder = tmp_path / "run"
    found = language_model.main(
        60, vocab=vocab, text=str(path), config=config, checkpoint=str(folder)
    )
    assert found["model"] < 2.3  # five letters alike: log2 5
    assert (folder / "train_state.npz").is_file()
    told = capsys.readouterr().out
    for part in ("letters.txt", "bits per byte of the last", "gzip -9", "Kneser-Ney, 5 bytes", "±"):
        assert part in told
    assert ("MiB by blocks" in told) == (vocab == "word")
