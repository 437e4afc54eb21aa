"""Entropies in nats: of trials and classes, of vectors, and of a grid."""

import mpmath as mp
import numpy as np

import likelax as lx
from contract.classes import (
    K,
    concentrations,
    cutpoints,
    many_logits,
    many_probs,
    ordered_logistic,
    shares,
)
from contract.counts import itself, log_sigmoid, logits, of_probs, probs
from contract.divergences import log_beta
from contract.entry import Entry, powers
from contract.location_scale import LOG_2PI
from contract.vectors import lower_triangle, matrix


def of_logs(logs):
    return -mp.fsum(mp.exp(l) * l for l in logs if l != -mp.inf)


def both(p):
    if not 0 <= p <= 1:
        raise ValueError(p)
    return [mp.log(c) if c > 0 else -mp.inf for c in (p, 1 - p)]


def bernoulli(l):
    return of_logs([log_sigmoid(l), log_sigmoid(-l)])


def geometric(logs):
    log_p, log_q = logs
    rest = mp.exp(log_q - log_p) * log_q if log_q > -mp.inf else 0
    return -log_p - rest


def dirichlet(a):
    total = mp.fsum(a)
    parts = [(c - 1) * mp.digamma(c) for c in a]
    return log_beta(*a) + (total - len(a)) * mp.digamma(total) - mp.fsum(parts)


def normal(diagonal):
    return mp.fsum(map(mp.log, diagonal)) + len(diagonal) * (1 + LOG_2PI) / 2


def levels(loc, scale, bins=8):
    """A Logistic on 0, ..., 7."""
    half = mp.mpf(1) / 2
    ends = [k + half for k in range(bins - 1)]
    return ordered_logistic(loc / scale, [end / scale for end in ends])


def summary(name, make, draw, exact, lengths, edges=()):
    return Entry(
        f"{name} entropy", make, draw, {"entropy": exact}, lengths, edges=edges, value=False
    )


def ones_like(*columns):
    return [np.ones_like(c) for c in columns]


ENTRIES = [
    summary(
        "Bernoulli",
        lambda l: lx.Bernoulli(logits=l),
        lambda generator, n: [logits(generator, n)],
        bernoulli,
        ones_like,
        [(0,), (1000,), (-1000,)],
    ),
    summary(
        "Bernoulli(probs)",
        lambda p: lx.Bernoulli(probs=p),
        lambda generator, n: [probs(generator, n)],
        lambda p: of_logs(both(p)),
        lambda p: [of_probs(p)],
        [(0.5,)],
    ),
    summary(
        "Geometric",
        lambda l: lx.Geometric(logits=l),
        lambda generator, n: [logits(generator, n)],
        lambda l: geometric([log_sigmoid(l), log_sigmoid(-l)]),
        ones_like,
        [(0,), (1000,), (-1000,)],
    ),
    summary(
        "Geometric(probs)",
        lambda p: lx.Geometric(probs=p),
        lambda generator, n: [probs(generator, n)],
        lambda p: geometric(both(p)),
        lambda p: [of_probs(p)],
        [(0.5,)],
    ),
    summary(
        "Categorical",
        lambda l: lx.Categorical(logits=l),
        lambda generator, n: [many_logits(generator, n)],
        lambda l: of_logs(shares(l)),
        ones_like,
        [([0] * K,)],
    ),
    summary(
        "Categorical(probs)",
        lambda p: lx.Categorical(probs=p),
        lambda generator, n: [many_probs(generator, n)],
        lambda p: -mp.fsum(c * mp.log(c) for c in p if c > 0),
        lambda p: [itself(np.minimum(p, np.maximum(1 - p, 1e-7)))],
        [([0.25] * K,)],
    ),
    summary(
        "OrderedLogistic",
        lx.OrderedLogistic,
        lambda generator, n: (logits(generator, n), cutpoints(generator, n)),
        lambda loc, cuts: of_logs(ordered_logistic(loc, cuts)),
        ones_like,
    ),
    summary(
        "Quantized(Logistic)",
        lambda loc, scale: lx.Quantized(lx.Logistic(loc, scale), 0, 7, 8),
        lambda generator, n: (generator.uniform(-3, 10, n), powers(generator, n, -20, 20)),
        lambda loc, scale: of_logs(levels(loc, scale)),
        lambda loc, scale: (scale, scale),
    ),
    summary(
        "Dirichlet",
        lx.Dirichlet,
        lambda generator, n: [concentrations(generator, n, 3)],
        dirichlet,
        lambda a: [a],
        [([1, 1, 1],)],
    ),
    summary(
        "MultivariateNormal",
        lambda loc, tril: lx.MultivariateNormal(loc, scale_tril=matrix(tril)),
        lambda generator, n: (generator.normal(size=(n, 2)), lower_triangle(generator, n)),
        lambda loc, tril: normal([tril[0], tril[2]]),
        lambda loc, tril: (np.ones_like(loc), tril[:, [0, 2, 2]]),
    ),
    summary(
        "MultivariateNormalDiag",
        lx.MultivariateNormalDiag,
        lambda generator, n: (generator.normal(size=(n, 3)), concentrations(generator, n, 3)),
        lambda loc, scale: normal(scale),
        lambda loc, scale: (np.ones_like(loc), scale),
    ),
]
