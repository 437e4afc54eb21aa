"""Tails of the von Mises and mixtures of several families."""

import functools

import mpmath as mp
import numpy as np

import likelax as lx
from contract.bounded import angle_lengths
from contract.classes import log_sum
from contract.counts import itself, log1mexp
from contract.entry import Entry, powers
from contract.incomplete import rule
from contract.location_scale import log_ndtr
from contract.wrappers import log_normal

# ---- von Mises ----


@functools.lru_cache(256)
def log_beyond(angle, k):
    """log P(X > angle) for location 0 and 0 <= angle <= pi, by quadrature in the angle."""
    if angle >= mp.pi:
        return -mp.inf
    start, low = mp.sin(angle / 2) ** 2, mp.pi - angle
    # Up to pi, or where the density has fallen by all digits.
    end = start + mp.mp.dps * mp.log(10) / (2 * k) if k else mp.mpf(2)
    span = 2 * mp.asin(mp.sqrt(end)) - angle if end < 1 else low
    total = sum(
        weight * mp.exp(-2 * k * mp.sin(span * u / 2) * mp.sin(angle + span * u / 2))
        for u, weight in rule(2 * mp.mp.dps + 20, mp.mp.prec)
    )
    return mp.log(total * span / (2 * mp.pi)) - 2 * k * start - log_i0e(k)


@functools.lru_cache(64)
def log_i0e(k):
    if k < 200:
        return mp.log(mp.besseli(0, k)) - k
    # The asymptotic series has more digits than are asked for.
    total = term = mp.mpf(1)
    n = 0
    while abs(term) > mp.mpf(10) ** -(mp.mp.dps + 5):
        n += 1
        term *= (2 * n - 1) ** 2 / (8 * k * n)
        total += term
    return mp.log(total) - mp.log(2 * mp.pi * k) / 2


def log_arc(start, end, k):
    """log of the mass from one angle on to another, both in [-pi, pi] from the location."""
    beyond = {a: log_beyond(abs(a), k) for a in (start, end)}
    if (start < 0) == (end < 0):
        large, small = sorted((beyond[start], beyond[end]), reverse=True)
        part = large + log1mexp(small - large) if small < large else -mp.inf
        direct = end >= start
    else:
        part, direct = log_sum([beyond[start], beyond[end]]), end < 0
    return part if direct else log1mexp(part)


def von_mises_tail(upper):
    def tail(x, loc, k):
        if k < 0:
            raise ValueError(k)
        if abs(x) >= mp.pi:
            return -mp.inf if (x > 0) == upper else mp.mpf(0)
        ends = [(a - loc + mp.pi) % (2 * mp.pi) - mp.pi for a in (-mp.pi, x)]
        return log_arc(*(reversed(ends) if upper else ends), k)

    return tail


def draw_angle_tails(generator, n):
    """Angles within several standard deviations, or anywhere; concentrations to 1e8."""
    k = np.where(
        generator.random(n) < 0.6, powers(generator, n, -1, 3), powers(generator, n, -20, 8)
    )
    loc = generator.uniform(-3.1, 3.1, n)
    near = loc + generator.normal(size=n) * 3 / np.sqrt(1 + k)
    x = np.where(generator.random(n) < 0.5, near, generator.uniform(-3.1, 3.1, n))
    return np.where(np.abs(x) < 3.14, x, loc), loc, k


VON_MISES = {
    "log_cdf": von_mises_tail(False),
    "log_survival": von_mises_tail(True),
    "cdf": lambda *point: mp.exp(von_mises_tail(False)(*point)),
}

# ---- a Normal, a Laplace and a Cauchy ----


def laplace(x, loc, s):
    return -abs(x - loc) / s - mp.log(2 * s)


def laplace_cdf(x, loc, s):
    z = (x - loc) / s
    return z - mp.log(2) if z < 0 else mp.log1p(-mp.exp(-z) / 2)


def cauchy(x, loc, s):
    return -mp.log(mp.pi * s) - mp.log1p(((x - loc) / s) ** 2)


def cauchy_cdf(x, loc, s):
    z = (x - loc) / s
    if z < 0:
        return mp.log(mp.atan(-1 / z) / mp.pi)
    return mp.log1p(-mp.atan2(1, z) / mp.pi)


def mixture_of(parts):
    def total(x, weights, loc, scale):
        if min(weights) < 0:
            raise ValueError(weights)
        zipped = zip(parts, weights, loc, scale, strict=True)
        return log_sum([mp.log(w) + f(x, m, s) if w else -mp.inf for f, w, m, s in zipped])

    return total


def mirrored(cdf):
    return lambda x, loc, s: cdf(-x, -loc, s)


CDFS = [lambda x, m, s: log_ndtr((x - m) / s), laplace_cdf, cauchy_cdf]


def draw_families(generator, n):
    unit = powers(generator, n, -10, 10)[:, None]
    scale = unit * powers(generator, 3 * n, -2, 2).reshape(n, 3)
    loc = unit * 3 * generator.normal(size=(n, 3))
    weights = generator.dirichlet([0.3] * 3, n)
    k = np.arange(n), generator.integers(0, 3, n)
    z = (
        generator.normal(size=n)
        * 2
        * np.where(generator.random(n) < 0.5, 1, powers(generator, n, -5, 5))
    )
    return loc[k] + scale[k] * z, weights, loc, scale


ENTRIES = [
    Entry(
        "VonMises tails",
        lx.VonMises,
        draw_angle_tails,
        VON_MISES,
        angle_lengths,
        edges=[(0.5, 0.25, 0.0), (-2.0, 2.0, 1e4)],
        digits=50,
    ),
    Entry(
        "MixtureOf(Normal, Laplace, Cauchy)",
        lambda weights, loc, scale: lx.MixtureOf(
            weights,
            tuple(
                family(loc[..., i], scale[..., i])
                for i, family in enumerate((lx.Normal, lx.Laplace, lx.Cauchy))
            ),
        ),
        draw_families,
        {
            "log_prob": mixture_of([log_normal, laplace, cauchy]),
            "log_cdf": mixture_of(CDFS),
            "log_survival": mixture_of([mirrored(f) for f in CDFS]),
        },
        lambda x, weights, loc, scale: (scale.min(-1), itself(weights), scale, scale),
        edges=[(1, [0.5, 0.5, 0], [0, 0, 0], [1, 2, 3]), (9, [0, 0, 1], [0, 0, 8], [1, 1, 1])],
    ),
]
