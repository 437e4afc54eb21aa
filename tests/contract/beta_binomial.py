"""Tails and entropy of the beta-binomial to 40 digits, at counts to 1e8 and shapes from 1e-20 to 1e20 that need not be whole.

A sum over a block of counts is Gauss's rule for it: its nodes are the zeros of the block's discrete Chebyshev
polynomial, which are no counts, and at which log-gammas give the probability; with 40 nodes it is exact for
polynomials to degree 79. Where a block of 64 is not smooth enough for that its terms are added up one by one.
`tests/test_references.py` holds it against sums of all terms, and against the finite sums that whole shapes have.
Source: Szego (1975), "Orthogonal polynomials", 2.8 and 3.4.
"""

import functools
import math

import mpmath as mp
import numpy as np

import likelax as lx
from contract.classes import concentrations
from contract.counts import one
from contract.entry import Entry, powers

NODES = 40
SHORT = 64
FORGOTTEN = 115  # nats below the largest term: 1e-50


@functools.cache
def _rule(length, precision):
    """Nodes and weights of sums over 0, ..., length - 1, in bits of `precision`."""
    middle = mp.mpf(length - 1) / 2
    off = [
        i * mp.sqrt((length**2 - i**2) / (4 * (4 * mp.mpf(i) ** 2 - 1)))
        for i in range(1, NODES + 1)
    ]
    floats = np.array(off[:-1], float)
    nodes, weights = [], []
    guesses = np.linalg.eigvalsh(np.diag(floats, 1) + np.diag(floats, -1))
    for x in map(mp.mpf, guesses[NODES // 2 :].tolist()):
        for _ in range(3):  # Newton, from 15 digits
            _, last, slope = _orthonormal(x, off, length)
            x -= last / slope
        before, _, slope = _orthonormal(x, off, length)
        nodes += [middle - x, middle + x]
        weights += [1 / (off[-1] * before * slope)] * 2
    return nodes, weights


def _orthonormal(x, off, length):
    """At x off the middle, the block's polynomials of the two highest degrees, and the slope of the highest."""
    before, at, slope_before, slope = mp.mpf(0), 1 / mp.sqrt(length), mp.mpf(0), mp.mpf(0)
    last = mp.mpf(0)
    for c in off:
        slope_before, slope = slope, (at + x * slope - last * slope_before) / c
        before, at, last = at, (x * at - last * before) / c, c
    return before, at, slope


class _Terms:
    """The probabilities of one distribution, between the counts too, and sums of them or of a function."""

    def __init__(self, n, a, b, of=lambda p: p):
        self.n, self.a, self.b, self.of = n, a, b, of
        gamma = mp.loggamma
        self.constant = gamma(n + 1) - gamma(n + a + b) + gamma(a + b) - gamma(a) - gamma(b)
        self.floats = float(n), float(a), float(b)

    def log(self, k):
        left, gamma = self.n - k, mp.loggamma
        parts = gamma(k + self.a) - gamma(k + 1) + gamma(left + self.b) - gamma(left + 1)
        return self.constant + parts

    def step(self, k):
        """p(k + 1) / p(k)."""
        return (self.n - k) / (k + 1) * ((k + self.a) / (self.n - k - 1 + self.b))

    def smooth(self, k, length):
        """Whether `length` counts from k on are far from the poles, rise or fall by no more than exp(24), and
        bend by no more than a normal density within five deviations."""
        n, a, b = self.floats
        end = k + length - 1
        if length > k + a or length > n - end + b:
            return False
        for x in (k, end):
            left = max(n - x, 1)
            slope = math.log(left / (x + 1)) + math.log((x + a) / (left - 1 + b))
            bend = abs(a - 1) / (x + 1) / (x + a) + abs(b - 1) / left / (left - 1 + b)
            if abs(slope) * length > 24 or bend * length**2 > 24:
                return False
        return True

    def block(self, k, end):
        """The sum from k to some later count, and the count after that, at most end + 1."""
        length = 0
        while self.smooth(k, SHORT << length) and k + (SHORT << length) <= end + 1:
            length += 1
        if length:
            length = SHORT << (length - 1)
            nodes, weights = _rule(length, mp.mp.prec)
            pairs = zip(nodes, weights, strict=True)
            return mp.fsum(w * self.of(mp.exp(self.log(k + x))) for x, w in pairs), k + length
        after = min(k + SHORT, end + 1)
        term = mp.exp(self.log(mp.mpf(k)))
        total = self.of(term)
        for j in range(k, after - 1):
            term *= self.step(j)
            total += self.of(term)
        return total, after

    def extreme(self):
        """The last count before the one peak or the one valley between the ends; an end if there is none."""
        n, a, b = self.floats
        if (a > 1) != (b > 1) or a + b == 2:
            return 0
        return int(min(max((n + 1) * ((a - 1) / (a + b - 2)), 0), n))

    def sum(self, first, last):
        """p(first) + ... + p(last), but for what is nothing beside the largest of them."""
        turn = min(max(self.extreme(), first), last)
        top = max(self.log(mp.mpf(k)) for k in {first, turn, min(turn + 1, last), last})
        floor = top - FORGOTTEN - mp.log(self.n + 1)
        total = mp.mpf(0)
        for k, end in ((first, turn), (turn + 1, last)):
            if k <= end:
                k, end = self.seen(k, end, floor)
            while k <= end:
                part, k = self.block(k, end)
                total += part
        return total

    def seen(self, first, last, floor):
        """The part of a monotone piece that is not below `floor`; an empty one if there is none."""
        low, high = (self.log(mp.mpf(k)) >= floor for k in (first, last))
        if low == high:
            return (first, last) if low else (1, 0)
        inside, outside = (first, last) if low else (last, first)
        while abs(inside - outside) > 1:
            middle = (inside + outside) // 2
            if self.log(mp.mpf(middle)) >= floor:
                inside = middle
            else:
                outside = middle
        return (first, inside) if low else (inside, last)


@functools.lru_cache(64)
def _tails(k, n, a, b, precision):
    terms = _Terms(n, a, b)
    below_mean = (k + mp.mpf(0.5)) * (a + b) < n * a
    for lower in (below_mean, not below_mean):
        tail = terms.sum(0, int(k)) if lower else terms.sum(int(k) + 1, int(n))
        if tail < 0.75:  # of two that sum to 1 the other one has its digits too
            break
    both = mp.log(tail), mp.log1p(-tail)
    return both if lower else both[::-1]


def log_tails(k, n, a, b):
    """log P(X <= k) and log P(X > k), 0 <= k < n."""
    if not (a > 0 and b > 0):
        raise ValueError((a, b))
    return _tails(k, n, a, b, mp.mp.prec)


def entropy(n, a, b):
    if not (a > 0 and b > 0):
        raise ValueError((a, b))
    return _Terms(n, a, b, lambda p: -p * mp.log(p)).sum(0, int(n))


# ---- grid ----


def below(n):
    """The largest float32 count below n."""
    return np.minimum(n - 1, np.nextafter(np.float32(n), np.float32(0)))


def draw(generator, n):
    """Counts to 1e8, in half of the rows beyond those of which float32 has all; the value within a few deviations
    of the mean, at all shares, near either end or at it."""
    total = np.floor(
        np.where(generator.random(n) < 0.5, powers(generator, n, 0, 8), powers(generator, n, 7, 8))
    )
    total = np.where(generator.random(n) < 0.1, 1e8, total).astype(np.float32).astype(float)
    a, b = np.where(
        generator.random(n) < 0.5,
        concentrations(generator, n, 2).T,
        powers(generator, 2 * n, -3, 4).reshape(2, n),
    )
    p, q = a / (a + b), b / (a + b)
    std = np.sqrt(total * p * q * (a + b + total) / (a + b + 1))
    end = powers(generator, n, 0, 8)
    ways = [
        total * p + std * generator.normal(size=n),
        total * generator.random(n),
        end,
        total - end,
        np.zeros(n),
        total,
    ]
    k = np.floor(np.choose(generator.choice(6, n, p=[0.4, 0.2, 0.15, 0.15, 0.05, 0.05]), ways))
    k = np.clip(k, 0, total).astype(np.float32)
    return np.minimum(k, below(total)), total, a, b


ENTRIES = [
    Entry(
        "BetaBinomial tails",
        lx.BetaBinomial,
        draw,
        {
            "log_cdf": lambda k, n, a, b: log_tails(k, n, a, b)[0],
            "log_survival": lambda k, n, a, b: log_tails(k, n, a, b)[1],
        },
        lambda k, n, a, b: (one(k), one(n), a, b),
        edges=[
            (0, 1, 1, 1),
            (0, 1, 1e-20, 1e20),
            (8, 1e8, 0.5, 2.5),
            (99999992, 1e8, 1e20, 1e20),
            (5e7, 1e8, 1e20, 1e20),
            (49990000, 1e8, 1e20, 1e20),
            (0, 1e8, 1e-20, 1e-20),
            (5e7, 1e8, 1e-20, 1e-20),
            (99999992, 1e8, 1e-20, 3),
            (16777220, 16777224, 1e6, 0.2),
            (9999999, 1e7, 2, 0.5),
            (5e6, 1e7, 40, 1e-3),
            (1e7, 1e8, 1e15, 9e15),
        ],
        slopes=(2, 3),
        digits=90,
    ),
    Entry(
        "BetaBinomial entropy",
        lx.BetaBinomial,
        lambda generator, n: draw(generator, n)[1:],
        {"entropy": entropy},
        lambda n, a, b: (one(n), a, b),
        edges=[
            (0, 1, 1),
            (1, 1, 1),
            (1, 1e-20, 1e20),
            (9, 1, 1),
            (1e8, 0.5, 2.5),
            (1e8, 1e20, 1e20),
            (1e8, 1e-20, 1e-20),
            (1e8, 1e-20, 3),
            (1e8, 1e15, 9e15),
            (1e7, 40, 1e-3),
            (1e7, 3100, 3200),
            (7e3, 1e20, 1e20),
        ],
        value=False,
        slopes=(1, 2),
        digits=60,
    ),
]
