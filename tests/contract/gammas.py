"""The Gamma and what is made of it: concentrations and rates of 1e±20, tails of 1e±30 of the mean."""

import mpmath as mp
import numpy as np

import likelax as lx
from contract.entry import Entry, powers
from contract.half_line import (
    at_log_rate,
    held,
    itself,
    log_rate_lengths,
    on_half_line,
    rate_lengths,
)


def gamma_draw(generator, n):
    """A value near the mean in standard deviations, or many times off it."""
    some = generator.random(n) < 0.5
    a = np.where(some, powers(generator, n, -1, 3), powers(generator, n, -20, 20))
    rate = powers(generator, n, -20, 20)
    step = generator.normal(size=n) * 3 / np.sqrt(a)
    near = np.where(step > -0.9, 1 + step, np.exp(np.minimum(step, 0)))
    ratio = np.where(generator.random(n) < 0.6, near, powers(generator, n, -30, 12))
    return held(a / rate * ratio), a, rate


def low_gamma_draw(generator, n):
    """Concentrations up to 1, which do not magnify the rounding of the rate."""
    x, a, rate = gamma_draw(generator, n)
    low = np.minimum(a, 1 / a)
    return held(x * (low / a)), low, rate


def gamma_tails_draw(generator, n):
    """Where mpmath is quick."""
    a = np.where(
        generator.random(n) < 0.6, powers(generator, n, -1, 2), powers(generator, n, -20, 4)
    )
    rate = powers(generator, n, -20, 20)
    step = generator.normal(size=n) * 3 / np.sqrt(a)
    near = np.where(step > -0.9, 1 + step, np.exp(np.minimum(step, 0)))
    ratio = np.where(generator.random(n) < 0.7, near, powers(generator, n, -20, 2))
    return held(np.maximum(a, 1e-3) / rate * ratio), a, rate


def log_rate_of(draw):
    def drawn(generator, n):
        x, a, rate = draw(generator, n)
        log_rate = np.log(rate).astype(np.float32).astype(float)
        return held(x * rate * np.exp(-log_rate)), a, log_rate

    return drawn


def inverse_of(draw):
    """1 / x of a Gamma; the rate is the scale."""

    def drawn(generator, n):
        x, a, rate = draw(generator, n)
        return held(1 / x), a, rate

    return drawn


def gamma_log_prob(x, a, rate):
    if x == 0:
        return mp.log(rate) if a == 1 else mp.inf if a < 1 else -mp.inf
    return a * mp.log(rate) + (a - 1) * mp.log(x) - rate * x - mp.loggamma(a)


def lower(a, x):
    """log P(a, x)."""
    if x == 0:
        return -mp.inf
    if x < a + 1:
        return mp.log(series(a, x))
    return mp.log1p(-mp.gammainc(a, x, mp.inf, regularized=True))


def upper(a, x):
    """log Q(a, x)."""
    if x < a + 1:
        return mp.log1p(-series(a, x))
    return mp.log(mp.gammainc(a, x, mp.inf, regularized=True))


def series(a, x):
    """P(a, x) by DLMF 8.7.1."""
    return (
        mp.exp(a * mp.log(x) - x - mp.loggamma(a + 1)) * mp.hyp1f1(1, a + 1, x) if x else mp.mpf(0)
    )


def inverse_gamma_log_prob(x, a, s):
    return a * mp.log(s) - (a + 1) * mp.log(x) - s / x - mp.loggamma(a)


GAMMA = {"log_prob": on_half_line(gamma_log_prob, gamma_log_prob, gamma_log_prob)["log_prob"]}
TAILS = on_half_line(None, lambda x, a, b: lower(a, b * x), lambda x, a, b: upper(a, b * x))
TAILS.pop("log_prob")

EDGES = [(-1.0, 1.5, 2.0), (0.0, 1.0, 2.0), (0.0, 0.5, 2.0), (0.0, 1.5, 2.0), (1e7, 1e7, 1.0)]

ENTRIES = [
    Entry("Gamma", lx.Gamma, gamma_draw, GAMMA, rate_lengths, edges=EDGES),
    Entry(
        "Gamma(log_rate)",
        lambda a, log_rate: lx.Gamma(a, log_rate=log_rate),
        log_rate_of(gamma_draw),
        at_log_rate(GAMMA),
        log_rate_lengths,
        edges=[(-1.0, 1.5, 0.5), (0.0, 1.0, 0.5), (0.0, 0.5, 0.5), (0.0, 1.5, 0.5)],
    ),
    Entry(
        "Gamma(log_rate) low",
        lambda a, log_rate: lx.Gamma(a, log_rate=log_rate),
        log_rate_of(low_gamma_draw),
        at_log_rate(GAMMA),
        log_rate_lengths,
        edges=[(-1.0, 1.5, 0.5), (0.0, 1.0, 0.5), (0.0, 0.5, 0.5)],
    ),
    Entry(
        "Gamma tails",
        lx.Gamma,
        gamma_tails_draw,
        TAILS,
        rate_lengths,
        edges=EDGES[:-1],
        digits=60,
    ),
    Entry(
        "InverseGamma",
        lx.InverseGamma,
        inverse_of(gamma_draw),
        {"log_prob": lambda x, a, s: inverse_gamma_log_prob(x, a, s) if x > 0 else -mp.inf},
        itself,
        edges=[(-1.0, 1.5, 2.0), (0.0, 1.5, 2.0), (1.0, 1.0, 1.0)],
    ),
    Entry(
        "InverseGamma tails",
        lx.InverseGamma,
        inverse_of(gamma_tails_draw),
        {
            "log_cdf": lambda x, a, s: upper(a, s / x) if x > 0 else -mp.inf,
            "log_survival": lambda x, a, s: lower(a, s / x) if x > 0 else mp.mpf(0),
        },
        itself,
        edges=[(-1.0, 1.5, 2.0), (0.0, 1.5, 2.0), (1.0, 1.0, 1.0)],
        digits=60,
    ),
]
