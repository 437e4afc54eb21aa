"""Families of a location and a scale: locations of 1e±20 beside scales of 1e±20, tails to 1e30 scales."""

import mpmath as mp
import numpy as np

import likelax as lx
from contract.entry import Entry, powers, signed

LOG_2PI = mp.log(2 * mp.pi)


def draw(generator, n):
    """A third far in the tails, a third near the location, where it is not zero x rounds to it."""
    scale = powers(generator, n, -20, 20)
    loc = np.where(generator.random(n) < 0.5, 0.0, scale * signed(generator, n, -8, 8))
    z = np.where(
        generator.random(n) < 0.5, generator.normal(size=n) * 3, signed(generator, n, -30, 12)
    )
    return loc + scale * z, loc, scale


def bulk(generator, n):
    """Where tails that fall like exp(-z^2) still have a logarithm that float32 holds."""
    scale = powers(generator, n, -20, 20)
    loc = np.where(generator.random(n) < 0.5, 0.0, scale * signed(generator, n, -3, 3))
    return loc + scale * signed(generator, n, -10, 9), loc, scale


def lengths(x, loc, scale):
    return scale, scale, scale


def of_z(log_density):
    """A density in mpmath from that of the standard one."""
    return lambda x, loc, scale: log_density((x - loc) / scale) - mp.log(scale)


def log_ndtr(z):
    return mp.log(mp.erfc(-z / mp.sqrt(2)) / 2)


def log_sigmoid(z):
    return -mp.log1p(mp.exp(-z)) if z > 0 else z - mp.log1p(mp.exp(z))


def laplace_tail(z):
    return z - mp.log(2) if z < 0 else mp.log1p(-mp.exp(-z) / 2)


def tails(log_cdf):
    """Both tails of a symmetric family."""
    return {
        "log_cdf": lambda x, loc, scale: log_cdf((x - loc) / scale),
        "log_survival": lambda x, loc, scale: log_cdf((loc - x) / scale),
    }


ENTRIES = [
    Entry(
        "Normal",
        lx.Normal,
        bulk,
        {"log_prob": of_z(lambda z: -(z**2) / 2 - LOG_2PI / 2), **tails(log_ndtr)},
        lengths,
        edges=[(0.0, 0.0, 1.0), (40.0, 0.0, 1.0), (-40.0, 0.0, 1.0)],
    ),
    Entry(
        "Laplace",
        lx.Laplace,
        draw,
        {"log_prob": of_z(lambda z: -abs(z) - mp.log(2)), **tails(laplace_tail)},
        lengths,
    ),
    Entry(
        "Logistic",
        lx.Logistic,
        draw,
        {"log_prob": of_z(lambda z: log_sigmoid(z) + log_sigmoid(-z)), **tails(log_sigmoid)},
        lengths,
        edges=[(0.0, 0.0, 1.0)],
    ),
]
