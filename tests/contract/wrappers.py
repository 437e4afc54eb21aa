"""Mixtures, bounds, grids, more zeros, and maps: Normals, Logistics and Poissons inside."""

import mpmath as mp
import numpy as np

import likelax as lx
from contract.classes import log_sum
from contract.counts import (
    POISSON_TAILS,
    draw_poisson_tails,
    itself,
    log1mexp,
    logits,
    one,
    poisson,
)
from contract.entry import Entry, powers, signed
from contract.location_scale import LOG_2PI, log_ndtr, log_sigmoid

# ---- formulas ----


def log_normal(x, loc, scale):
    return -(((x - loc) / scale) ** 2) / 2 - mp.log(scale) - LOG_2PI / 2


def mixture(component):
    def log_prob(x, weights, loc, scale):
        if min(weights) < 0:
            raise ValueError(weights)
        parts = zip(weights, loc, scale, strict=True)
        return log_sum([mp.log(w) + component(x, m, s) if w else -mp.inf for w, m, s in parts])

    return log_prob


def log_mass(low, high):
    """log P(low < Z < high), from the nearer tail."""
    if low + high > 0:
        low, high = -high, -low
    root = mp.sqrt(2)
    return mp.log((mp.erfc(-high / root) - mp.erfc(-low / root)) / 2)


# Bounds in the wrong order, as moved rows may have them, have no distribution.


def truncated(x, low, high, loc, scale):
    if low > high:
        return mp.nan
    if not low <= x <= high:
        return -mp.inf
    return log_normal(x, loc, scale) - log_mass((low - loc) / scale, (high - loc) / scale)


def truncated_tail(upper):
    def tail(x, low, high, loc, scale):
        if low > high:
            return mp.nan
        if not low < x < high:
            return mp.mpf(0) if (x >= high) ^ upper else -mp.inf
        a, z, b = ((end - loc) / scale for end in (low, x, high))
        return (log_mass(z, b) if upper else log_mass(a, z)) - log_mass(a, b)

    return tail


# What is recorded as an end stays so where the end is moved to differentiate in it.
TIE = mp.mpf(10) ** -30


def censored(x, low, high, loc, scale):
    if low > high:
        return mp.nan
    if abs(x - low) < TIE * scale:
        return log_ndtr((low - loc) / scale)
    if abs(x - high) < TIE * scale:
        return log_ndtr((loc - high) / scale)
    return log_normal(x, loc, scale) if low < x < high else -mp.inf


def censored_tail(upper):
    def tail(x, low, high, loc, scale):
        if low > high:
            return mp.nan
        if x < low - TIE * scale or x > high - TIE * scale:
            return mp.mpf(0) if (x > low) ^ upper else -mp.inf
        return log_ndtr((loc - x) / scale if upper else (x - loc) / scale)

    return tail


HALF = mp.mpf(1) / 2


def pixel(x, loc, scale):
    low, high = (x - HALF - loc) / scale, (x + HALF - loc) / scale
    if x == 0:
        return log_sigmoid(high)
    if x == 255:
        return log_sigmoid(-low)
    return log_sigmoid(high) + log_sigmoid(-low) + log1mexp(low - high)


def pixel_tail(upper):
    def tail(x, loc, scale):
        if x >= 255:
            return -mp.inf if upper else mp.mpf(0)
        z = (x + HALF - loc) / scale
        return log_sigmoid(-z if upper else z)

    return tail


def add(a, b):
    return log_sum([a, b])


def zero_inflated(k, rate, l):
    inner = log_sigmoid(-l) + poisson(k, rate)
    return add(log_sigmoid(l), inner) if k == 0 else inner


def zero_inflated_survival(k, rate, l):
    return log_sigmoid(-l) + POISSON_TAILS["log_survival"](k, rate)


def log_positive(rate):
    return log1mexp(-rate)


def hurdle(k, rate, l):
    if k == 0:
        return log_sigmoid(l)
    return log_sigmoid(-l) + poisson(k, rate) - log_positive(rate)


def hurdle_survival(k, rate, l):
    if k == 0:
        return log_sigmoid(-l)
    return log_sigmoid(-l) + POISSON_TAILS["log_survival"](k, rate) - log_positive(rate)


def with_tails(log_prob, log_survival):
    return {
        "log_prob": log_prob,
        "log_survival": log_survival,
        "log_cdf": lambda *point: log1mexp(log_survival(*point)),
    }


def mapped(inverse, log_slope, lowest):
    """The methods of f(X), between `lowest` and 1, for a Normal X: `inverse` of f and log f' at y."""

    def inside(formula, below, above):
        def wrapped(y, loc, scale):
            if not lowest < y < 1:
                return below if y <= lowest else above
            return formula(y, loc, scale)

        return wrapped

    def log_prob(y, loc, scale):
        return log_normal(inverse(y), loc, scale) - log_slope(y)

    def log_cdf(y, loc, scale):
        return log_ndtr((inverse(y) - loc) / scale)

    def log_survival(y, loc, scale):
        return log_ndtr((loc - inverse(y)) / scale)

    return {
        "log_prob": inside(log_prob, -mp.inf, -mp.inf),
        "log_cdf": inside(log_cdf, -mp.inf, mp.mpf(0)),
        "log_survival": inside(log_survival, mp.mpf(0), -mp.inf),
    }


TANH = mapped(mp.atanh, lambda y: mp.log1p(-y * y), -1)
SIGMOID = mapped(lambda y: mp.log(y / (1 - y)), lambda y: mp.log(y) + mp.log1p(-y), 0)

# ---- grids ----


def draw_mixture(generator, n):
    unit = powers(generator, n, -20, 20)[:, None]
    scale = unit * powers(generator, 3 * n, -2, 2).reshape(n, 3)
    loc = unit * 3 * generator.normal(size=(n, 3))
    weights = generator.dirichlet([0.3] * 3, n)
    k = generator.integers(0, 3, n), np.arange(n)
    z = np.where(
        generator.random(n) < 0.5, generator.normal(size=n) * 2, signed(generator, n, -5, 6)
    )
    return loc[k[1], k[0]] + scale[k[1], k[0]] * z, weights, loc, scale


def interval(generator, n):
    """Bounds from 1e-6 to 1000 scales apart, about the location and up to 1e4 scales off."""
    scale = powers(generator, n, -20, 20)
    loc = np.where(generator.random(n) < 0.5, 0.0, scale * generator.normal(size=n) * 3)
    at = np.where(
        generator.random(n) < 0.5, generator.normal(size=n) * 3, signed(generator, n, 0, 4)
    )
    low = (loc + scale * at).astype(np.float32)
    high = (low + scale * powers(generator, n, -6, 3)).astype(np.float32)
    return low, np.maximum(high, np.nextafter(low, np.float32(np.inf))), loc, scale


def draw_truncated(generator, n):
    low, high, loc, scale = interval(generator, n)
    x = (low + (high.astype(float) - low) * generator.random(n)).astype(np.float32)
    return np.clip(x, low, high), low, high, loc, scale


def draw_inside(generator, n):
    """Off the ends, at which the tails have no slope."""
    x, low, high, loc, scale = draw_truncated(generator, n)
    x = np.maximum(x, np.nextafter(low, np.float32(np.inf)))
    return x, low, np.maximum(high, np.nextafter(x, np.float32(np.inf))), loc, scale


def draw_censored(generator, n):
    low, high, loc, scale = interval(generator, n)
    x = (loc + scale * generator.normal(size=n) * 3).astype(np.float32)
    return np.clip(x, low, high), low, high, loc, scale


def bounded_lengths(x, low, high, loc, scale):
    width = np.minimum(high - low, scale)
    return scale, width, width, scale, scale


def draw_pixels(generator, n):
    scale = np.where(
        generator.random(n) < 0.5, powers(generator, n, -1, 2), powers(generator, n, -20, 20)
    )
    return generator.integers(0, 256, n), generator.uniform(-50, 300, n), scale


def draw_zeros(generator, n):
    k, rate = draw_poisson_tails(generator, n)
    return np.where(generator.random(n) < 0.2, 0, k), rate, logits(generator, n)


def draw_mapped(squash, generator, n):
    """Scales from 0.1 on: below, the rounding of f^-1(y) alone is more than the contract's."""
    scale = powers(generator, n, -1, 20)
    loc = np.where(generator.random(n) < 0.5, 0.0, np.minimum(scale, 5) * generator.normal(size=n))
    x = np.where(
        generator.random(n) < 0.5, generator.normal(size=n) * 2, signed(generator, n, -20, 1)
    )
    return squash(x).astype(np.float32), loc, scale


def inner(low):
    """Into the open interval, in float32."""
    top, least = np.nextafter(np.float32(1), np.float32(0)), -1 if low else 1e-37
    bottom = -top if low else least
    squash = np.tanh if low else lambda x: 1 / (1 + np.exp(-4 * x))
    return lambda x: np.clip(squash(x).astype(np.float32), bottom, top)


ENTRIES = [
    Entry(
        "Mixture(Normal)",
        lambda weights, loc, scale: lx.Mixture(weights, lx.Normal(loc, scale)),
        draw_mixture,
        {
            "log_prob": mixture(log_normal),
            "log_cdf": mixture(lambda x, m, s: log_ndtr((x - m) / s)),
            "log_survival": mixture(lambda x, m, s: log_ndtr((m - x) / s)),
        },
        lambda x, weights, loc, scale: (scale.min(-1), itself(weights), scale, scale),
        edges=[(0, [0.5, 0.5, 0], [0, 0, 0], [1, 2, 3]), (9, [0, 1, 0], [0, 0, 9], [1, 1, 1])],
    ),
    Entry(
        "Truncated(Normal)",
        lambda low, high, loc, scale: lx.Truncated(lx.Normal(loc, scale), low, high),
        draw_truncated,
        {"log_prob": truncated},
        bounded_lengths,
        edges=[(0, -1, 1, 0, 1), (-1, -1, 1, 0, 1), (1, -1, 1, 0, 1), (2, -1, 1, 0, 1)],
    ),
    Entry(
        "Truncated(Normal) tails",
        lambda low, high, loc, scale: lx.Truncated(lx.Normal(loc, scale), low, high),
        draw_inside,
        {"log_cdf": truncated_tail(False), "log_survival": truncated_tail(True)},
        bounded_lengths,
        edges=[(0, -1, 1, 0, 1), (2, -1, 1, 0, 1), (-2, -1, 1, 0, 1)],
    ),
    Entry(
        "Censored(Normal)",
        lambda low, high, loc, scale: lx.Censored(lx.Normal(loc, scale), low, high),
        draw_censored,
        {
            "log_prob": censored,
            "log_cdf": censored_tail(False),
            "log_survival": censored_tail(True),
        },
        bounded_lengths,
        edges=[(0, -1, 1, 0, 1), (-1, -1, 1, 0, 1), (1, -1, 1, 0, 1), (2, -1, 1, 0, 1)],
        slopes=(1, 2, 3, 4),
    ),
    Entry(
        "Quantized(Logistic)",
        lambda loc, scale: lx.Quantized(lx.Logistic(loc, scale), 0, 255, 256),
        draw_pixels,
        {"log_prob": pixel, "log_cdf": pixel_tail(False), "log_survival": pixel_tail(True)},
        lambda x, loc, scale: (one(x), scale, scale),
        edges=[(0, 0, 1), (255, 255, 1), (128, 128, 1), (128, 128, 1e-20), (128, 128, 1e20)],
        slopes=(1, 2),
    ),
    Entry(
        "ZeroInflated(Poisson)",
        lambda rate, l: lx.ZeroInflated(lx.Poisson(rate), logits=l),
        draw_zeros,
        with_tails(zero_inflated, zero_inflated_survival),
        lambda k, rate, l: (one(k), itself(rate), one(l)),
        edges=[(0, 1, 0), (0, 1e-20, -1000), (0, 1e4, -1000), (3, 1e-20, 1000)],
        slopes=(1, 2),
        digits=60,
    ),
    Entry(
        "Hurdle(Poisson)",
        lambda rate, l: lx.Hurdle(lx.Poisson(rate), logits=l),
        draw_zeros,
        with_tails(hurdle, hurdle_survival),
        lambda k, rate, l: (one(k), itself(rate), one(l)),
        edges=[(0, 1, 0), (0, 1e-20, -1000), (1, 1e-20, 0), (3, 1e-20, 1000)],
        slopes=(1, 2),
        digits=60,
    ),
    Entry(
        "Transformed(Normal, Tanh)",
        lambda loc, scale: lx.Transformed(lx.Normal(loc, scale), lx.bijectors.Tanh()),
        lambda generator, n: draw_mapped(inner(True), generator, n),
        TANH,
        lambda y, loc, scale: (np.minimum(scale, 1) * (1 - abs(y)), scale, scale),
        edges=[(0, 0, 1), (0.5, 8, 1)],
    ),
    Entry(
        "Transformed(Normal, Sigmoid)",
        lambda loc, scale: lx.Transformed(lx.Normal(loc, scale), lx.bijectors.Sigmoid()),
        lambda generator, n: draw_mapped(inner(False), generator, n),
        SIGMOID,
        lambda y, loc, scale: (np.minimum(scale, 1) * np.minimum(y, 1 - y), scale, scale),
        edges=[(0.5, 0, 1), (0.25, 8, 1)],
    ),
]
