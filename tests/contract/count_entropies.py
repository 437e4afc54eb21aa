"""Entropies of counts, from means of 1e-20 to 1e20, and of the skew normal, by Malmsten's integral.

-log p(k) has logarithms of Gamma(k + a), and log Gamma(z) is the integral of [(z - 1) exp(-t) - (exp(-t) -
exp(-z t))/(1 - exp(-t))]/t. Its expectation takes that of exp(-t X), which each of the four has. The terms cancel:
there are digits for that. `tests/numerics/test_count_entropies.py` holds the integrals against plain sums.
"""

import functools

import mpmath as mp
import numpy as np

import likelax as lx
from contract.classes import many_logits, many_probs, shares
from contract.counts import (
    counts,
    draw_from_mean,
    draw_log_rate,
    draw_poisson,
    inner_probs,
    itself,
    log_sigmoid,
    logits,
    of_probs,
    one,
    probs,
)
from contract.entry import Entry, powers
from contract.location_scale import LOG_2PI
from contract.skewed import slant_draw, slant_lengths

DIGITS = 30


@functools.cache
def place(digits, k):
    """t, s and exp(-t) at one place, which many integrals have; the rule's error is exp(-pi^2/step)."""
    t = mp.exp(k * mp.pi**2 / (digits * mp.log(10)))
    return t, -mp.expm1(-t), mp.exp(-t)


def integral(term, size, ends):
    """Of term(t, s, exp(-t))/t over t, s = 1 - exp(-t), which is near 0 only beyond the ends: the trapezoidal
    rule in log t. `size` is how many times the result its largest parts are.
    """
    digits = DIGITS + 8 * (1 + int(mp.log10(1 + size) / 8))
    with mp.workdps(digits + 3):
        step = mp.pi**2 / (digits * mp.log(10))
        first = int((mp.log(ends[0]) - digits * mp.log(10)) / step) - 1
        last = int((mp.log(ends[1]) + mp.log(3 * digits)) / step) + 1
        return step * mp.fsum(term(*place(digits, k)) for k in range(first, last))


def poisson(m):
    if m < 0:
        raise ValueError(m)
    if m == 0:
        return mp.mpf(0)
    size = m * (1 + abs(mp.log(m)))

    def term(t, s, decay):
        return (m * s + mp.expm1(-m * s)) * decay / s

    with mp.workdps(DIGITS + 5 + int(mp.log10(1 + size))):
        return m - m * mp.log(m) + integral(term, size, (1 / (1 + m**2), 1))


def binomial(n, log_p, log_q):
    p, q = mp.exp(log_p), mp.exp(log_q)
    if n == 0 or p == 0 or q == 0:
        return mp.mpf(0)

    def some(x, s):
        return -mp.expm1(n * mp.log1p(-x * s)) if s < 1 or x < 1 else mp.mpf(1)

    def term(t, s, decay):
        return (some(p, s) + some(q, s) + mp.expm1(-n * t)) * decay / s

    with mp.workdps(DIGITS + 15):
        return -n * (p * log_p + q * log_q) - integral(term, n, (1 / n**2, 1))


def multinomial(n, log_p):
    """Where n s is small a few terms of the sum over k of C(n, k) (-s)^k (1 - sum of p^k) are enough."""
    probs = [mp.exp(l) for l in log_p if l > -mp.inf]
    if n == 0 or len(probs) == 1:
        return mp.mpf(0)
    with mp.workdps(DIGITS + 30):
        few = [(-1) ** k * mp.binomial(n, k) * (1 - mp.fsum(p**k for p in probs)) for k in range(8)]

    def term(t, s, decay):
        if n * s < 1e-7:
            return -s * decay * mp.fsum(c * s**k for k, c in enumerate(few[2:]))
        means = [p * n * s for p in probs]
        gone = [mp.expm1(n * mp.log1p(-m / n)) if m < 120 else -1 for m in means]
        return (mp.fsum(gone) - mp.expm1(-n * t)) * decay / s

    with mp.workdps(DIGITS + 15):
        one = -mp.fsum(p * mp.log(p) for p in probs)
        return n * one + integral(term, n, (1 / n**2, 1))


def multinomial_by_logits(n, logits):
    with mp.workdps(DIGITS + 30):
        return multinomial(n, shares(logits))


def multinomial_by_probs(n, probs):
    if min(probs) < 0:
        raise ValueError(probs)
    with mp.workdps(DIGITS + 30):
        total = mp.fsum(probs)
        return multinomial(n, [mp.log(p / total) if p > 0 else -mp.inf for p in probs])


def negative_binomial(r, log_p, log_q):
    """For odds beyond 1e45 and r >= 1 the gamma's of that scale; the next term is 1/odds."""
    if log_p == -mp.inf:
        return mp.mpf(0)
    log_odds = log_p - log_q
    if r >= 1 and log_odds > 45 * mp.log(10):
        return log_odds + r + mp.loggamma(r) - (r - 1) * mp.psi(0, r)
    odds = mp.exp(log_odds)

    def term(t, s, decay):
        rest = mp.exp(-r * t) * mp.expm1((r - 1) * t) if r * t < 1e3 else decay
        return mp.expm1(-r * mp.log1p(odds * s)) * rest / s

    size = r * (odds * -log_p - log_q)
    guard = 0 if r < 1 else size
    with mp.workdps(DIGITS + 5 + int(mp.log10(1 + guard))):
        return size + integral(term, guard, (1 / (1 + r * odds * (1 + r)), 1 + 1 / r))


def by_logits(formula):
    """With more digits for 1 - p, where p is near 1 or 0."""

    def wrapped(*point):
        with mp.workdps(DIGITS + 30):
            return formula(*point[:-1], log_sigmoid(point[-1]), log_sigmoid(-point[-1]))

    return wrapped


def of_mean(m, d):
    if m < 0 or d <= 0:
        raise ValueError(m, d)
    if m == 0:
        return mp.mpf(0)
    with mp.workdps(DIGITS + 30):
        return negative_binomial(1 / d, -mp.log1p(1 / (m * d)), -mp.log1p(m * d))


def by_probs(formula):
    """NaN beyond 0 and 1, where moved rows may be."""

    def wrapped(*point):
        p = point[-1]
        if not 0 <= p <= 1:
            return mp.nan
        with mp.workdps(DIGITS + 30):
            log_p, log_q = (mp.log(x) if x > 0 else -mp.inf for x in (p, 1 - p))
            return formula(*point[:-1], log_p, log_q)

    return wrapped


def skew_normal(loc, scale, a):
    """By the rule for |X| and the side it is on, whose terms go as exp(-(1 + a^2) z^2/2)."""
    width, step = 1 / mp.sqrt(1 + a * a), mp.mpf("0.15")
    reach = int(mp.sqrt(2 * mp.mp.dps * mp.log(10)) / step)

    def term(z):
        sides = [mp.erfc(sign * a * z / mp.sqrt(2)) / 2 for sign in (1, -1)]
        return -mp.exp(-z * z / 2) * mp.fsum(p * mp.log(p) for p in sides)

    total = 2 * mp.fsum(term(width * step * k) for k in range(1, reach)) + term(0)
    mean = width * step * total / mp.sqrt(2 * mp.pi)
    return mp.log(scale) + (1 + LOG_2PI) / 2 - mp.log(2) + mean


def draw_negative_binomial(of):
    def draw(generator, n):
        half = generator.random(n) < 0.5
        r = np.where(half, powers(generator, n, -2, 8), powers(generator, n, -20, 20))
        return r, of(generator, n)

    return draw


def entry(name, make, draw, exact, lengths, edges=(), slopes=None):
    exact = {"entropy": exact}
    return Entry(f"{name} entropy", make, draw, exact, lengths, edges, False, slopes, DIGITS)


ENTRIES = [
    entry(
        "Poisson",
        lx.Poisson,
        lambda generator, n: draw_poisson(generator, n)[1:],
        poisson,
        lambda rate: [itself(rate)],
        [(1,), (1e4,), (1e20,), (1e-20,)],
    ),
    entry(
        "Poisson(log_rate)",
        lambda l: lx.Poisson(log_rate=l),
        lambda generator, n: draw_log_rate(generator, n)[1:],
        lambda l: poisson(mp.exp(l)),
        lambda l: [one(l)],
        [(0,), (-1000,), (85,)],
    ),
    entry(
        "Binomial",
        lambda n, l: lx.Binomial(n, logits=l),
        lambda generator, n: (counts(generator, n), logits(generator, n)),
        by_logits(binomial),
        lambda n, l: (one(n), one(l)),
        [(0, 0), (1, 0), (2, 0), (1e8, 0), (1e8, 1000), (1e8, -1000), (1e8, -18.420681)],
        (1,),
    ),
    entry(
        "Binomial(probs)",
        lambda n, p: lx.Binomial(n, probs=p),
        lambda generator, n: (counts(generator, n), probs(generator, n)),
        by_probs(binomial),
        lambda n, p: (one(n), of_probs(p)),
        [(0, 0.5), (1, 0.5), (1e8, 0.5), (1e8, 1e-8), (1e8, 1e-20)],
        (1,),
    ),
    entry(
        "Multinomial",
        lambda n, l: lx.Multinomial(n, logits=l),
        lambda generator, n: (counts(generator, n), many_logits(generator, n, 3)),
        multinomial_by_logits,
        lambda n, l: (one(n), np.ones_like(l)),
        [
            (0, [0, 0, 0]),
            (1, [0, 0, 0]),
            (2, [-1000, 1000, 0]),
            (1e8, [0, 0, 0]),
            (1e8, [1000, 1000, -1000]),
            (1e8, [0, -18, -9]),
        ],
        (1,),
    ),
    entry(
        "Multinomial(probs)",
        lambda n, p: lx.Multinomial(n, probs=p),
        lambda generator, n: (counts(generator, n), many_probs(generator, n, 3)),
        multinomial_by_probs,
        lambda n, p: (one(n), itself(np.minimum(p, np.maximum(1 - p, 1e-7)))),
        [
            (0, [0.25, 0.25, 0.5]),
            (1, [0.25, 0.25, 0.5]),
            (1e8, [0.25, 0.25, 0.5]),
            (1e8, [1, 1e-8, 1e-20]),
        ],
        (1,),
    ),
    entry(
        "NegativeBinomial",
        lambda r, l: lx.NegativeBinomial(r, logits=l),
        draw_negative_binomial(logits),
        by_logits(negative_binomial),
        lambda r, l: (itself(r), one(l)),
        [(1, 0), (1e20, -1000), (1e-20, 1000), (1e8, 0), (0.5, 36), (1e-3, 1000)],
    ),
    entry(
        "NegativeBinomial(probs)",
        lambda r, p: lx.NegativeBinomial(r, probs=p),
        draw_negative_binomial(inner_probs),
        by_probs(negative_binomial),
        lambda r, p: (itself(r), of_probs(p)),
        [(1, 0.5), (1e20, 1e-20), (1e-20, 0.5)],
    ),
    entry(
        "NegativeBinomial2",
        lx.NegativeBinomial2,
        lambda generator, n: draw_from_mean(generator, n)[1:],
        of_mean,
        lambda m, d: (itself(m), itself(d)),
        [(1, 1), (1e8, 1e-20), (1e20, 1e20), (1e-20, 1e-20)],
    ),
    entry(
        "NegativeBinomial2(log_rate)",
        lambda l, d: lx.NegativeBinomial2(log_rate=l, dispersion=d),
        lambda generator, n: (
            draw_log_rate(generator, n)[1],
            draw_from_mean(generator, n)[2],
        ),
        lambda l, d: of_mean(mp.exp(l), d),
        lambda l, d: (one(l), itself(d)),
        [(0, 1), (-1000, 1e20), (80, 1e-20)],
    ),
    entry(
        "SkewNormal",
        lx.SkewNormal,
        lambda generator, n: slant_draw(generator, n)[1:],
        skew_normal,
        lambda loc, scale, a: slant_lengths(loc, loc, scale, a)[1:],
        [(0, 1, 0), (0.5, 2, 1), (0.5, 2, -1), (0, 1, 1e20)],
    ),
]
