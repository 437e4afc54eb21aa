"""KL(p || q) of discrete families and of Normals over vectors."""

import mpmath as mp
import numpy as np

import likelax as lx
from contract.classes import K, cutpoints, many_logits, ordered_logistic, shares
from contract.counts import (
    counts,
    log_sigmoid,
    logits,
    of_probs,
    one,
    probs,
    times,
)
from contract.divergences import kl, of_positives, positives, themselves
from contract.entry import Entry, powers, signed
from contract.vectors import lower_triangle, matrix

# ---- formulas: of log p, log(1 - p) and those of q ----


def trial(log_p, log_q, log_p2, log_q2):
    terms = [(log_p, log_p2), (log_q, log_q2)]
    return mp.fsum(mp.exp(a) * (a - b) for a, b in terms if a > -mp.inf)


def both(formula):
    """A function of the logarithms of p and 1 - p, of two logits."""
    return lambda l, l2: formula(*(log_sigmoid(z) for z in (l, -l, l2, -l2)))


def of_both_probs(formula):
    def wrapped(p, p2):
        if not (0 <= p <= 1 and 0 <= p2 <= 1):
            raise ValueError(p, p2)
        logs = [mp.log(c) if c > 0 else -mp.inf for c in (p, 1 - p, p2, 1 - p2)]
        return formula(*logs)

    return wrapped


def geometric(log_p, log_q, log_p2, log_q2):
    return trial(log_p, log_q, log_p2, log_q2) / mp.exp(log_p)


def same_count(formula):
    """Of (n, l, n2, l2): known for equal n."""
    return lambda n, l, n2, l2: times(n, formula(l, l2)) if n == n2 else mp.nan


def negative_binomial(r, l, r2, l2):
    if r != r2:
        return mp.nan
    mean, ratio = r * mp.exp(l), log_sigmoid(l) - log_sigmoid(l2)
    return mean * ratio + r * (log_sigmoid(-l) - log_sigmoid(-l2))


def negative_binomial_2(mean, dispersion, mean2, dispersion2):
    r = 1 / dispersion
    return mean * mp.log(mean * (r + mean2) / (mean2 * (r + mean))) + r * mp.log(
        (r + mean2) / (r + mean)
    )


def labels(log_p, log_p2):
    return mp.fsum(mp.exp(a) * (a - b) for a, b in zip(log_p, log_p2, strict=True))


def categorical(l, l2):
    return labels(shares(l), shares(l2))


def poisson(rate, rate2):
    return rate * mp.log(rate / rate2) + rate2 - rate


def full(tril):
    size = 2 if len(tril) == 3 else 3
    rows = mp.zeros(size)
    at = [(i, j) for i in range(size) for j in range(i + 1)]
    for place, entry in zip(at, tril, strict=True):
        rows[place] = entry
    return rows


def normals(m, a, m2, b):
    """[tr(Q^-1 P) + (m - m2)' Q^-1 (m - m2) - d + log |Q| - log |P|] / 2, of two factors."""
    inverse = (b * b.T) ** -1
    gap = mp.matrix([u - v for u, v in zip(m, m2, strict=True)])
    product, logs = inverse * (a * a.T), 0
    for i in range(a.rows):
        logs += 2 * (mp.log(b[i, i]) - mp.log(a[i, i]))
    trace = mp.fsum(product[i, i] for i in range(a.rows))
    return (trace + (gap.T * inverse * gap)[0] - a.rows + logs) / 2


# ---- grids ----


def near_logits(generator, n):
    """Logits, and others next to them, some way off, or anywhere."""
    l = logits(generator, n).astype(np.float32).astype(float)
    kind = generator.integers(0, 3, n)
    other = [
        l + signed(generator, n, -7, 0),
        l + 5 * generator.normal(size=n),
        logits(generator, n),
    ]
    return l, np.choose(kind, other)


def near_probs(generator, n):
    p = probs(generator, n).astype(np.float32).astype(float)
    close = np.clip(p * np.exp(signed(generator, n, -7, -0.5)), 0, 1)
    other = probs(generator, n)
    return p, np.where(
        (generator.random(n) < 0.5) & (close < 1), close, np.minimum(other, 1 - 2**-24)
    )


def with_count(generator, n):
    l, l2 = near_logits(generator, n)
    total = counts(generator, n)
    return total, l, total, l2


def draw_negative_binomial(generator, n):
    l, l2 = (np.clip(c, -1000, 40) for c in near_logits(generator, n))
    r = powers(generator, n, -20, 20)
    return r, l, r, l2


def draw_negative_binomial_2(generator, n):
    mean, mean2 = positives(generator, n)
    dispersion = powers(generator, n, -20, 20)
    bulk = generator.random(n) < 0.5
    dispersion = np.where(bulk, powers(generator, n, -3, 3) / mean, dispersion)
    dispersion = np.clip(dispersion, 1e-20, 1e20)
    return mean, dispersion, mean2, dispersion


def near_many(generator, n, classes=K):
    l = many_logits(generator, n, classes).astype(np.float32).astype(float)
    close = l + signed(generator, n * classes, -6, 0).reshape(n, classes)
    other = many_logits(generator, n, classes)
    return l, np.where(generator.random((n, 1)) < 0.5, close, other)


def draw_multinomial(generator, n):
    l, l2 = near_many(generator, n)
    total = counts(generator, n)
    return total, l, total, l2


def draw_ordered(generator, n):
    loc, loc2 = near_logits(generator, n)
    return loc, cutpoints(generator, n), loc2, cutpoints(generator, n)


def draw_vectors(generator, n):
    """loc and triangle twice; the second near the first or of its own scale."""
    tril = lower_triangle(generator, n)
    grow = np.exp(signed(generator, 2 * n, -6, 0).reshape(n, 2))
    other = 10.0 ** generator.uniform(-2, 2, (n, 2))
    grow = np.where(generator.random((n, 1)) < 0.5, grow, other)
    tril2 = np.stack(
        [tril[:, 0] * grow[:, 0], tril[:, 1] * grow[:, 1], tril[:, 2] * grow[:, 1]], -1
    )
    scale = np.stack([tril[:, 0], tril[:, 2]], -1)
    loc = np.where(generator.random((n, 1)) < 0.5, 0.0, scale * generator.normal(size=(n, 2)))
    gap = scale * signed(generator, n, -6, 1)[:, None] * generator.normal(size=(n, 2))
    return loc, tril, loc + gap, tril2


def diagonal_of(tril):
    return tril[:, [0, 2]]


def draw_diagonals(generator, n):
    loc, tril, loc2, tril2 = draw_vectors(generator, n)
    return loc, diagonal_of(tril), loc2, diagonal_of(tril2)


def draw_to_diagonal(generator, n):
    loc, tril, loc2, tril2 = draw_vectors(generator, n)
    return loc, tril, loc2, diagonal_of(tril2)


def draw_from_diagonal(generator, n):
    loc, tril, loc2, tril2 = draw_vectors(generator, n)
    return loc, diagonal_of(tril), loc2, tril2


def vector_lengths(loc, a, loc2, b):
    """Of each row, its diagonal."""
    ends, ends2 = (c if c.shape[-1] == 2 else diagonal_of(c) for c in (a, b))
    rows, rows2 = (e if c.shape[-1] == 2 else e[:, [0, 1, 1]] for c, e in ((a, ends), (b, ends2)))
    narrow = np.minimum(ends, ends2)
    return narrow, rows, narrow, rows2


def factor(entries):
    return mp.diag(entries) if len(entries) == 2 else full(entries)


def normal_of(loc, entries):
    if entries.shape[-1] == 2:
        return lx.MultivariateNormalDiag(loc, entries)
    return lx.MultivariateNormal(loc, scale_tril=matrix(entries))


def vectors(name, draw):
    return Entry(
        f"KL {name}",
        lambda loc, a, loc2, b: (normal_of(loc, a), normal_of(loc2, b)),
        draw,
        {"kl_divergence": lambda m, a, m2, b: normals(m, factor(a), m2, factor(b))},
        vector_lengths,
        value=False,
        digits=100,
    )


def named(name, make, draw, exact, lengths, edges=(), **parameters):
    """The entry of `make` of the first half of the columns and of the second."""

    def pair(*columns):
        half = len(columns) // 2
        return make(*columns[:half]), make(*columns[half:])

    methods = {"kl_divergence": exact}
    return Entry(f"KL {name}", pair, draw, methods, lengths, edges, value=False, **parameters)


def ones_like(*columns):
    return [np.ones_like(c) for c in columns]


ENTRIES = [
    named(
        "Bernoulli", lambda l: lx.Bernoulli(logits=l), near_logits, both(trial), ones_like, [(0, 0)]
    ),
    named(
        "Bernoulli(probs)",
        lambda p: lx.Bernoulli(probs=p),
        near_probs,
        of_both_probs(trial),
        lambda p, p2: (of_probs(p), of_probs(p2)),
        [(0.5, 0.5)],
    ),
    named(
        "Geometric",
        lambda l: lx.Geometric(logits=l),
        near_logits,
        both(geometric),
        ones_like,
        [(0, 0)],
    ),
    kl(lx.Poisson, of_positives(1), poisson, themselves, [(1, 1)]),
    named(
        "Binomial",
        lambda n, l: lx.Binomial(n, logits=l),
        with_count,
        same_count(both(trial)),
        ones_like,
        [(0, 1, 0, 2), (9, 1, 9, 1)],
        slopes=(1, 3),
    ),
    named(
        "NegativeBinomial",
        lambda r, l: lx.NegativeBinomial(r, logits=l),
        draw_negative_binomial,
        negative_binomial,
        lambda r, l, r2, l2: (r, one(l), r2, one(l2)),
        [(2, 1, 2, 1)],
        slopes=(1, 3),
    ),
    named(
        "NegativeBinomial.from_mean",
        lx.NegativeBinomial.from_mean,
        draw_negative_binomial_2,
        negative_binomial_2,
        themselves,
        [(2, 1, 2, 1)],
        slopes=(0, 2),
    ),
    named(
        "Categorical",
        lambda l: lx.Categorical(logits=l),
        near_many,
        categorical,
        ones_like,
        [([0] * K, [0] * K)],
    ),
    named(
        "OneHotCategorical",
        lambda l: lx.OneHotCategorical(logits=l),
        near_many,
        categorical,
        ones_like,
    ),
    named(
        "Multinomial",
        lambda n, l: lx.Multinomial(n, logits=l),
        draw_multinomial,
        same_count(categorical),
        ones_like,
        slopes=(1, 3),
    ),
    named(
        "OrderedLogistic",
        lx.OrderedLogistic,
        draw_ordered,
        lambda m, c, m2, c2: labels(ordered_logistic(m, c), ordered_logistic(m2, c2)),
        ones_like,
    ),
    vectors("MultivariateNormalDiag", draw_diagonals),
    vectors("MultivariateNormal", draw_vectors),
    vectors("MultivariateNormal MultivariateNormalDiag", draw_to_diagonal),
    vectors("MultivariateNormalDiag MultivariateNormal", draw_from_diagonal),
]
