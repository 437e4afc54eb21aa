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
from contract.incomplete import gamma_tails


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


def exact_products(generator, gap):
    """Whole numbers x, y and m below 2^24 with x y = 2^24 m (1 + gap), about."""
    x, y, m = (np.empty(gap.shape) for _ in range(3))
    for i, wanted in enumerate(gap):
        # An odd x has an inverse modulo 2^24, which gives the product any last digits.
        odd = 2 * int(generator.integers(2**22, 2**23)) + 1
        low = max(-(2**23), min(2**23, round(wanted * 2.0**46)))
        other = low * pow(odd, -1, 2**24) % 2**24 or 2**24
        x[i], y[i], m[i] = odd, other, (odd * other - low) // 2**24
    return x, y, m


def tails_draw(generator, n):
    """Concentrations, rates, values and at more than half of the large ones the step from the mean, of the mean."""
    kind = generator.integers(0, 3, n)
    ends = [(-1, 2), (2, 20), (-20, 20)]
    a = np.choose(kind, [powers(generator, n, *end) for end in ends])
    rate = powers(generator, n, -20, 20)
    step = generator.normal(size=n) * 3 / np.sqrt(a)
    near = np.where(step > -0.9, 1 + step, np.exp(np.minimum(step, 0)))
    ratio = np.where(generator.random(n) < 0.7, near, powers(generator, n, -20, 2))
    x = held(np.maximum(a, 1e-3) / rate * ratio)
    fine = (a > 1e8) & (generator.random(n) < 0.7)
    return x, a, rate, fine, np.where(fine, step, 0)


# Beyond a = 1e14 floats are further apart than the standard deviation: products of whole numbers, times
# powers of two that round nothing, are within a few of it all the same.


def scaled(whole, power):
    return np.ldexp(whole, power.astype(int))


def where_held(fine, near, others):
    """The products where they are wanted and their value is in range, elsewhere the others."""
    fine = fine & (held(near[0]) == near[0])
    return tuple(np.where(fine, *pair) for pair in zip(near, others, strict=True))


def gamma_tails_draw(generator, n):
    x, a, rate, fine, step = tails_draw(generator, n)
    first, second, product = exact_products(generator, step)
    p, q = np.round(np.log2(a / product)), np.round(np.log2(rate / second))
    near = scaled(first, p - 24 - q), scaled(product, p), scaled(second, q)
    return where_held(fine, near, (x, a, rate))


def inverse_gamma_tails_draw(generator, n):
    x, a, scale, fine, step = tails_draw(generator, n)
    first, second, product = exact_products(generator, step)
    p, q = np.round(np.log2(a / first)), np.round(np.log2(scale / product))
    near = scaled(second, q - 24 - p), scaled(first, p), scaled(product, q)
    return where_held(fine, near, (held(1 / x), a, scale))


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
    return gamma_tails(a, x)[0] if x else -mp.inf


def upper(a, x):
    """log Q(a, x)."""
    return gamma_tails(a, x)[1] if x else mp.mpf(0)


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
        digits=90,
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
        inverse_gamma_tails_draw,
        {
            "log_cdf": lambda x, a, s: upper(a, s / x) if x > 0 else -mp.inf,
            "log_survival": lambda x, a, s: lower(a, s / x) if x > 0 else mp.mpf(0),
        },
        itself,
        edges=[(-1.0, 1.5, 2.0), (0.0, 1.5, 2.0), (1.0, 1.0, 1.0)],
        digits=90,
    ),
]
