"""Classes and counts of several classes: logits of ±1000, concentrations of 1e±20, counts to 1e8."""

import mpmath as mp
import numpy as np

import likelax as lx
from contract.counts import counts, itself, log1mexp, log_choose, log_sigmoid, logits, one, times
from contract.entry import Entry, powers

K = 4

# ---- formulas ----


def shares(logits):
    """log p of each class."""
    top = max(logits)
    total = mp.log(mp.fsum(mp.exp(l - top) for l in logits))
    return [l - top - total for l in logits]


def log_sum(logs):
    top = max(logs)
    return top + mp.log(mp.fsum(mp.exp(l - top) for l in logs)) if top > -mp.inf else top


def logs_of(probs):
    if min(probs) < 0:
        raise ValueError(probs)
    return [mp.log(p) for p in probs]


def labels(log_probs):
    """The methods of a family over 0, ..., K - 1, from all of its log-probabilities."""

    def log_prob(k, *parameters):
        return log_probs(*parameters)[int(k)]

    def log_cdf(k, *parameters):
        logs = log_probs(*parameters)
        return log_sum(logs[: int(k) + 1]) if k < len(logs) - 1 else mp.mpf(0)

    def log_survival(k, *parameters):
        logs = log_probs(*parameters)
        return log_sum(logs[int(k) + 1 :]) if k < len(logs) - 1 else -mp.inf

    return {
        "log_prob": log_prob,
        "log_cdf": log_cdf,
        "log_survival": log_survival,
        "cdf": lambda *point: mp.exp(log_cdf(*point)),
    }


def ordered_logistic(loc, cutpoints):
    """Differences of sigmoids: s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)). Cutpoints out of order, as
    moved rows may have them, have no distribution.
    """
    if any(b <= a for a, b in zip(cutpoints, cutpoints[1:], strict=False)):
        return [mp.nan] * (len(cutpoints) + 1)
    ends = [c - loc for c in cutpoints]
    inner = [
        log_sigmoid(b) + log_sigmoid(-a) + log1mexp(a - b)
        for a, b in zip(ends, ends[1:], strict=False)
    ]
    return [log_sigmoid(ends[0]), *inner, log_sigmoid(-ends[-1])]


def multinomial(x, n, log_p):
    terms = [times(k, log) - mp.loggamma(k + 1) for k, log in zip(x, log_p, strict=True)]
    return mp.loggamma(n + 1) + (-mp.inf if -mp.inf in terms else mp.fsum(terms))


def of_shares(x, n, probs):
    """Probabilities that sum to 1 but for their rounding are their shares."""
    total = mp.fsum(probs)
    return multinomial(x, n, logs_of([p / total for p in probs]))


def log_beta(a, b):
    return mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)


def beta_binomial(k, n, a, b):
    return log_choose(n, k) + log_beta(k + a, n - k + b) - log_beta(a, b)


def dirichlet_multinomial(x, n, a):
    total = mp.fsum(a)
    parts = [
        mp.loggamma(c + k) - mp.loggamma(c) - mp.loggamma(k + 1) for k, c in zip(x, a, strict=True)
    ]
    return mp.loggamma(n + 1) + mp.loggamma(total) - mp.loggamma(total + n) + mp.fsum(parts)


# ---- grids ----


def index(generator, n):
    return generator.integers(0, K, n)


def many_logits(generator, n, classes=K):
    """Rows of one kind each, common offsets included."""
    kind, offset = generator.integers(0, 3, (n, 1)), 100 * generator.normal(size=(n, 1))
    far = generator.uniform(-1000, 1000, (n, classes))
    spread = 3 * generator.normal(size=(n, classes))
    return np.select([kind == 0, kind == 1], [far, spread], spread + offset)


def many_probs(generator, n, classes=K):
    """Shares with up to 30 powers of ten between them, and even ones."""
    spread = powers(generator, n, -0.5, 1.5)[:, None] * generator.normal(size=(n, classes))
    p = 10.0 ** np.clip(spread, -30, 30)
    return np.maximum(p / p.sum(-1, keepdims=True), 1e-30)


def cutpoints(generator, n):
    """From a width of 1e-6 to one of 100, about 0."""
    gaps = 10.0 ** generator.uniform(-6, 2, (n, K - 2))
    start = np.where(generator.random(n) < 0.5, 0.0, -gaps.sum(-1) / 2)
    cuts = np.cumsum(np.concatenate([start[:, None], gaps], -1), -1).astype(np.float32)
    # Rounding may have made neighbours equal.
    for i in range(1, K - 1):
        cuts[:, i] = np.maximum(cuts[:, i], np.nextafter(cuts[:, i - 1], np.float32(np.inf)))
    return cuts


def split(generator, total, classes=3):
    """Whole numbers that sum to `total`, a multiple of 16 where float32 needs it; some of them 0."""
    unit = np.where(total >= 2**24, 16.0, 1.0)
    left, parts = np.rint(total / unit), []
    for _ in range(classes - 1):
        share = generator.random(len(total)) ** generator.choice([0.2, 1, 5], len(total))
        parts.append(np.rint(left * share * (generator.random(len(total)) > 0.1)))
        left = left - parts[-1]
    parts.append(left)
    return np.stack([p * unit for p in parts], -1)


def near_shares(generator, total, p):
    """`split`, or in half of the rows counts as they are drawn: total p and a few deviations."""
    unit = np.where(total >= 2**24, 16.0, 1.0)[:, None]
    std = np.sqrt(total[:, None] * p * (1 - p))
    x = np.rint(np.maximum(total[:, None] * p + std * generator.normal(size=p.shape), 0) / unit)
    x = x * unit
    rest = total - x.sum(-1) + x.max(-1)  # what the largest has to be
    largest = np.arange(p.shape[-1]) == x.argmax(-1)[:, None]
    fits = (rest >= 0) & (generator.random(len(total)) < 0.5)
    return np.where(fits[:, None], np.where(largest, rest[:, None], x), split(generator, total))


def totals(generator, n):
    total = counts(generator, n)
    return np.where(total >= 2**24, np.rint(total / 16) * 16, total)


def draw_multinomial(generator, n, of_probs):
    total = totals(generator, n)
    if of_probs:
        p = parameter = many_probs(generator, n, 3)
    else:
        parameter = many_logits(generator, n, 3)
        p = np.exp(parameter - parameter.max(-1, keepdims=True))
        p = p / p.sum(-1, keepdims=True)
    return near_shares(generator, total, p), total, parameter


def concentrations(generator, n, classes):
    """Each of its own size or all of one, up to 1e20."""
    own = powers(generator, n * classes, -20, 20).reshape(n, classes)
    common = powers(generator, n, -3, 9)[:, None] * powers(generator, n * classes, -1, 1).reshape(
        n, classes
    )
    return np.where(generator.random((n, 1)) < 0.5, own, common)


def draw_dirichlet_multinomial(generator, n):
    total, a = totals(generator, n), concentrations(generator, n, 3)
    return near_shares(generator, total, a / a.sum(-1, keepdims=True)), total, a


def draw_beta_binomial(generator, n):
    total, a = totals(generator, n), concentrations(generator, n, 2)
    x = near_shares(generator, total, np.pad(a / a.sum(-1, keepdims=True), ((0, 0), (0, 1))))
    k = np.where(x[:, 2] == 0, x[:, 0], np.rint(total * generator.random(n)))
    return np.minimum(k.astype(np.float32), total), total, a[:, 0], a[:, 1]


def ones_like(*columns):
    return [np.ones_like(c) for c in columns]


ENTRIES = [
    Entry(
        "Categorical",
        lambda logits: lx.Categorical(logits=logits),
        lambda generator, n: (index(generator, n), many_logits(generator, n)),
        labels(shares),
        ones_like,
        edges=[(0, [0.0] * K), (K - 1, [1e6, 1e6, 1e6, 1e6]), (1, [-1000.0, 1000, -1000, 1000])],
        slopes=(1,),
    ),
    Entry(
        "Categorical(probs)",
        lambda probs: lx.Categorical(probs=probs),
        lambda generator, n: (index(generator, n), many_probs(generator, n)),
        labels(logs_of),
        lambda k, p: (k + 1, itself(np.minimum(p, np.maximum(1 - p, 1e-7)))),
        edges=[(0, [0.25] * K), (0, [0.0, 0.0, 1.0, 0.0]), (2, [0.0, 0.0, 1.0, 0.0])],
        slopes=(1,),
    ),
    Entry(
        "OrderedLogistic",
        lx.OrderedLogistic,
        lambda generator, n: (index(generator, n), logits(generator, n), cutpoints(generator, n)),
        labels(ordered_logistic),
        ones_like,
        edges=[(0, 0, [0, 1, 2]), (1, 1000, [-1, 0, 1]), (2, -1000, [-1, 0, 1])],
        slopes=(1, 2),
    ),
    Entry(
        "Multinomial",
        lambda n, logits: lx.Multinomial(n, logits=logits),
        lambda generator, n: draw_multinomial(generator, n, False),
        {"log_prob": lambda x, n, logits: multinomial(x, n, shares(logits))},
        ones_like,
        edges=[
            ([0, 0, 0], 0, [0, 0, 0]),
            ([0, 9, 0], 9, [-1000, 1000, 0]),
            ([3, 3, 3], 9, [0, 0, 0]),
        ],
        slopes=(2,),
    ),
    Entry(
        "Multinomial(probs)",
        lambda n, probs: lx.Multinomial(n, probs=probs),
        lambda generator, n: draw_multinomial(generator, n, True),
        {"log_prob": of_shares},
        lambda x, n, p: (x + 1, n + 1, itself(np.minimum(p, np.maximum(1 - p, 1e-7)))),
        edges=[
            ([0, 0, 0], 0, [0, 1, 0]),
            ([0, 9, 0], 9, [0, 1, 0]),
            ([1, 1, 1], 3, [0.5, 0.5, 0]),
            ([4, 4, 8], 16, [0.25, 0.25, 0.5]),
        ],
        slopes=(2,),
    ),
    Entry(
        "BetaBinomial",
        lx.BetaBinomial,
        draw_beta_binomial,
        {"log_prob": beta_binomial},
        lambda k, n, a, b: (one(k), one(n), a, b),
        edges=[
            (0, 0, 1, 1),
            (0, 1e8, 1e-20, 1e20),
            (1, 1, 1e-20, 1e20),
            (5e7, 1e8, 1e20, 1e-20),
            (1e8, 1e8, 1e-20, 1e-20),
            (5e7, 1e8, 1, 1),
        ],
        slopes=(2, 3),
    ),
    Entry(
        "DirichletMultinomial",
        lx.DirichletMultinomial,
        draw_dirichlet_multinomial,
        {"log_prob": dirichlet_multinomial},
        lambda x, n, a: (x + 1, n + 1, a),
        edges=[
            ([0, 0, 0], 0, [1, 2, 3]),
            ([0, 5, 0], 5, [1e-17, 1e-17, 1e19]),
            ([3, 5, 2], 10, [1e-20, 1e20, 1]),
            ([1, 1, 1], 3, [1, 1, 1]),
        ],
        slopes=(2,),
    ),
]
