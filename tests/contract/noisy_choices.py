"""What noise added to logits makes of them: relaxed bits and one-hot vectors, rankings, logistic normals."""

import mpmath as mp
import numpy as np

import likelax as lx
from contract.entry import Entry, powers, signed
from contract.location_scale import LOG_2PI, log_sigmoid

# ---- relaxed bits ----


def temperatures(generator, n):
    return np.where(
        generator.random(n) < 0.6, powers(generator, n, -1, 1), powers(generator, n, -20, 3)
    )


def log_odds(generator, n):
    return np.where(
        generator.random(n) < 0.5,
        generator.normal(size=n) * 3,
        signed(generator, n, -20, 3),
    )


def unit(generator, n):
    ends = [powers(generator, n, -37, 0), 1 - powers(generator, n, -7, 0), generator.random(n)]
    return np.choose(generator.integers(0, 3, n), ends)


def bit_draw(generator, n):
    """Half of the values drawn from the distribution, as far as they are floats within (0, 1)."""
    t, l = temperatures(generator, n), log_odds(generator, n)
    y = (l + generator.logistic(size=n)) / t
    drawn = 1 / (1 + np.exp(-np.clip(y, -85, 16)))
    x = np.where((generator.random(n) < 0.5) & (np.abs(y) < 85), drawn, unit(generator, n))
    return np.clip(x, 1e-37, 1 - 2.0**-24), t, l


def unit_bit_draw(generator, n):
    x, t, _ = bit_draw(generator, n)
    return x, t, np.clip(unit(generator, n), 1e-37, 1 - 2.0**-24)


def bit_lengths(x, t, l):
    return np.minimum(x, 1 - x), t, np.ones_like(l)


def noise(x, t, l):
    return t * (mp.log(x) - mp.log1p(-x)) - l


def bit_log_prob(x, t, l):
    z = noise(x, t, l)
    return mp.log(t) - mp.log(x) - mp.log1p(-x) + log_sigmoid(z) + log_sigmoid(-z)


BIT = {
    "log_prob": bit_log_prob,
    "log_cdf": lambda x, t, l: log_sigmoid(noise(x, t, l)),
    "log_survival": lambda x, t, l: log_sigmoid(-noise(x, t, l)),
}


def of_probs(f):
    return lambda x, t, p: f(x, t, mp.log(p) - mp.log1p(-p))


# ---- relaxed one-hot vectors ----


def simplex(log_weights):
    """exp of them over their sum: multiples of 2^-23 that sum to 1 exactly, and what is below 1e-17."""
    x = np.exp(log_weights - log_weights.max(-1, keepdims=True))
    x = x / x.sum(-1, keepdims=True)
    coarse = np.maximum(np.rint(x * 2**23), 1) / 2**23
    first = np.arange(x.shape[-1]) == x.argmax(-1)[:, None]
    rest = np.where(first | (x < 1e-17), 0, coarse).sum(-1, keepdims=True)
    return np.where(first, 1 - rest, np.where(x < 1e-17, np.maximum(x, 1e-37), coarse))


def choice_draw(generator, n, k=3):
    """Half drawn from the distribution, the rest to 1e-37, logits of order 1 or to ±1000."""
    t = temperatures(generator, n)
    l = np.where(
        generator.random((n, 1)) < 0.5,
        generator.normal(size=(n, k)) * 2,
        generator.uniform(-1000, 1000, (n, k)),
    )
    y = (l + generator.gumbel(size=(n, k))) / t[:, None]
    like = (generator.random(n) < 0.5) & (np.ptp(y, axis=-1) < 80)
    any_y = generator.uniform(-1, 0, (n, k)) * 10.0 ** generator.uniform(-3, 1.9, (n, 1))
    return simplex(np.where(like[:, None], y, any_y)), t, l


def choice_log_prob(x, t, l):
    """Its value has no slope here: there is one along the simplex only."""
    k, y = len(x), [mp.log(v) for v in x]
    v = [a - t * b for a, b in zip(l, y, strict=True)]
    log_total = max(v) + mp.log(mp.fsum(mp.exp(a - max(v)) for a in v))
    return mp.loggamma(k) + (k - 1) * mp.log(t) + mp.fsum(v) - mp.fsum(y) - k * log_total


# ---- logistic normals ----


def ratios_draw(generator, n, k=2):
    """Values typical of their locations and scales, down to e^-80 of one another, or like locations."""
    some = generator.random(n) < 0.5
    scale = np.where(some, powers(generator, n, -1, 1), powers(generator, n, -20, 20))
    scale = scale[:, None] * 10.0 ** generator.uniform(-0.5, 0.5, (n, k))
    loc = generator.normal(size=(n, k)) * 10.0 ** generator.uniform(-3, 1.3, (n, 1))
    u = np.clip(loc + scale * generator.normal(size=(n, k)) * 2, -80, 80)
    x = simplex(np.concatenate([u, np.zeros((n, 1))], axis=-1))
    return x, loc, scale


def ratios_log_prob(x, loc, scale):
    total = -mp.fsum(mp.log(v) for v in x)
    for v, m, s in zip(x[:-1], loc, scale, strict=True):
        z = (mp.log(v / x[-1]) - m) / s
        total -= z * z / 2 + LOG_2PI / 2 + mp.log(s)
    return total


# ---- rankings ----


def ranking_draw(generator, n, k=4):
    """Scores of order 1, to ±1000, or close together far off 0."""
    far = generator.uniform(-1000, 1000, (n, k))
    near = generator.normal(size=(n, k)) * 2
    offset = signed(generator, n, 0, 6)[:, None]
    scores = np.choose(generator.integers(0, 3, (n, 1)), [far, near, near + offset])
    return np.argsort(generator.random((n, k)), axis=-1).astype(float), scores


def ranking_log_prob(ranking, scores):
    s = [scores[int(i)] for i in ranking]
    return -mp.fsum(mp.log(mp.fsum(mp.exp(a - s[j]) for a in s[j:])) for j in range(len(s) - 1))


ENTRIES = [
    Entry(
        "RelaxedBernoulli",
        lambda t, l: lx.RelaxedBernoulli(t, logits=l),
        bit_draw,
        BIT,
        bit_lengths,
        edges=[(0.5, 1.0, 0.0), (0.5, 1000.0, 0.0), (0.25, 0.75, 1000.0), (0.25, 0.75, -1000.0)],
    ),
    Entry(
        "RelaxedBernoulli(probs)",
        lambda t, p: lx.RelaxedBernoulli(t, probs=p),
        unit_bit_draw,
        {method: of_probs(f) for method, f in BIT.items()},
        lambda x, t, p: (np.minimum(x, 1 - x), t, np.minimum(p, 1 - p)),
        edges=[(0.5, 1.0, 0.5)],
    ),
    Entry(
        "RelaxedOneHotCategorical",
        lambda t, l: lx.RelaxedOneHotCategorical(t, logits=l),
        choice_draw,
        {"log_prob": choice_log_prob},
        lambda x, t, l: (x, t, np.ones_like(l)),
        slopes=(1, 2),
    ),
    Entry(
        "RelaxedOneHotCategorical(probs)",
        lambda t, p: lx.RelaxedOneHotCategorical(t, probs=p),
        lambda generator, n: (
            *choice_draw(generator, n)[:2],
            simplex(choice_draw(generator, n)[2]),
        ),
        {"log_prob": lambda x, t, p: choice_log_prob(x, t, [mp.log(v) for v in p])},
        lambda x, t, p: (x, t, p),
        slopes=(1, 2),
    ),
    Entry(
        "LogisticNormal",
        lx.LogisticNormal,
        ratios_draw,
        {"log_prob": ratios_log_prob},
        lambda x, loc, scale: (x, scale, scale),
        edges=[([0.25, 0.25, 0.5], [0.5, 0], [1, 2]), ([0.5, 0.25, 0.25], [0.5, 0], [1e-10] * 2)],
        slopes=(1, 2),
    ),
    Entry(
        "PlackettLuce",
        lx.PlackettLuce,
        ranking_draw,
        {"log_prob": ranking_log_prob},
        lambda ranking, scores: (np.ones_like(ranking), np.ones_like(scores)),
        slopes=(1,),
        digits=60,
    ),
]
