"""Families on the half-line with elementary tails: 1e-37 to 1e37 beside scales of 1e±20."""

import mpmath as mp
import numpy as np

import likelax as lx
from contract.entry import Entry, powers
from contract.location_scale import LOG_2PI, log_ndtr, log_sigmoid


def held(x):
    """What float32 holds."""
    return np.clip(x, 1e-37, 1e37)


def times_scale(low, high):
    """x and scale: half of the quotients near 1, half from 10^low to 10^high."""

    def draw(generator, n):
        scale = powers(generator, n, -20, 20)
        near = generator.random(n) < 0.5
        z = np.where(near, powers(generator, n, -1.5, 1), powers(generator, n, low, high))
        return held(scale * z), scale

    return draw


def of_log_power(low, high):
    """x, exponent k and scale, with k log(x / scale) from low to high, also after the rounding of x.

    Elsewhere x is the scale, or twice or half of it, if that is in reach.
    """

    def draw(generator, n):
        some = generator.random(n) < 0.5
        k = np.where(some, powers(generator, n, -1, 1), powers(generator, n, -20, 20))
        scale = powers(generator, n, -20, 20).astype(np.float32).astype(float)
        near = generator.random(n) < 0.5
        y = np.where(near, generator.normal(size=n), generator.uniform(low, high, n))
        reach = np.clip(y / k, np.log(1e-37 / scale), np.log(1e37 / scale))
        x = (scale * np.exp(reach)).astype(np.float32).astype(float)
        y = k * np.log(x / scale)
        return np.where((y > low) & (y < high), x, scale), k, scale

    return draw


def on_half_line(log_prob, log_cdf, log_survival, start=None):
    """Methods with what holds below the start of the support, 0 unless `start` gives it."""

    def at(f, below):
        def exact(x, *params):
            least = start(*params) if start else 0
            return below if x < least else f(x, *params)

        return exact

    return {
        "log_prob": at(log_prob, -mp.inf),
        "log_cdf": at(log_cdf, -mp.inf),
        "log_survival": at(log_survival, mp.mpf(0)),
    }


def log(x):
    return mp.log(x) if x else -mp.inf


def log1mexp(v):
    """log(1 - exp(-v))."""
    if v == 0:
        return -mp.inf
    return mp.log(-mp.expm1(-v)) if v < 1 else mp.log1p(-mp.exp(-v))


def itself(*columns):
    """Positive arguments: the length is the argument itself, at the edge 0 the scale, which is last."""
    last = columns[-1]
    return [np.where(c > 0, c, last) for c in columns]


# ---- Exponential ----

EXPONENTIAL = on_half_line(
    lambda x, rate: mp.log(rate) - rate * x,
    lambda x, rate: log1mexp(rate * x),
    lambda x, rate: -rate * x,
)


def rates(draw):
    """The scale's inverse in its place."""

    def drawn(generator, n):
        *rest, scale = draw(generator, n)
        return *rest, 1 / scale

    return drawn


def log_rates(draw):
    def drawn(generator, n):
        *rest, scale = draw(generator, n)
        return *rest, -np.log(scale)

    return drawn


def at_log_rate(methods):
    return {
        method: lambda *args, f=f: f(*args[:-1], mp.exp(args[-1])) for method, f in methods.items()
    }


def rate_lengths(*columns):
    *rest, rate = columns
    return [*(np.where(c > 0, c, 1 / rate) for c in rest), rate]


def log_rate_lengths(*columns):
    *rest, log_rate = columns
    return [*(np.where(c > 0, c, np.exp(-log_rate)) for c in rest), np.ones_like(log_rate)]


# ---- powers ----


def weibull_log_prob(x, k, s):
    if x == 0:
        return -mp.log(s) if k == 1 else mp.inf if k < 1 else -mp.inf
    y = k * mp.log(x / s)
    return mp.log(k / x) + y - mp.exp(y)


def log_logistic_log_prob(x, k, s):
    if x == 0:
        return -mp.log(s) if k == 1 else mp.inf if k < 1 else -mp.inf
    y = k * mp.log(x / s)
    return mp.log(k / x) + log_sigmoid(y) + log_sigmoid(-y)


def power(x, k, s):
    return (x / s) ** k if x else mp.mpf(0)


def log_sigmoid_of(sign):
    def exact(x, k, s):
        if x == 0:
            return mp.mpf(0) if sign < 0 else -mp.inf
        return log_sigmoid(sign * k * mp.log(x / s))

    return exact


def pareto_draw(generator, n):
    x, k, scale = of_log_power(0, 1e20)(generator, n)
    far = generator.random(n) < 0.3
    x = np.where(far, held(scale * powers(generator, n, 0, 30)), x)
    return np.maximum(x, scale), k, scale


# ---- the logarithm is Normal ----


def lognormal_draw(generator, n):
    """z to 1e9; a scale far below the rounding of the logarithm makes it larger by itself."""
    some = generator.random(n) < 0.5
    scale = np.where(some, powers(generator, n, -1, 1), powers(generator, n, -17, 20))
    loc = np.where(
        generator.random(n) < 0.5, generator.normal(size=n), generator.uniform(-80, 80, n)
    )
    z = generator.normal(size=n) * 3
    far = generator.uniform(-85, 85, n)
    log_x = np.where(generator.random(n) < 0.7, np.clip(loc + scale * z, -85, 85), far)
    return np.exp(log_x), loc, scale


def wide_lognormal_draw(generator, n):
    """Scales from 1 on, beside which the rounding of the logarithm is small."""
    x, loc, scale = lognormal_draw(generator, n)
    return x, np.where(np.abs(loc) < 4, loc, loc / 20), np.maximum(scale, 1 / scale)


def lognormal_z(x, loc, scale):
    return (mp.log(x) - loc) / scale


def lognormal_log_prob(x, loc, scale):
    if x <= 0:
        return -mp.inf
    return -(lognormal_z(x, loc, scale) ** 2) / 2 - LOG_2PI / 2 - mp.log(scale) - mp.log(x)


LOG_NORMAL = {
    "log_prob": lognormal_log_prob,
    "log_cdf": lambda x, loc, s: -mp.inf if x <= 0 else log_ndtr(lognormal_z(x, loc, s)),
    "log_survival": lambda x, loc, s: mp.mpf(0) if x <= 0 else log_ndtr(-lognormal_z(x, loc, s)),
}


def lognormal_lengths(x, loc, scale):
    return np.where(x > 0, x, 1) * np.minimum(scale, 1), scale, scale


EDGES = [(-1.0, 2.0), (0.0, 2.0), (0.0, 1e-20), (0.0, 1e20)]
SHAPE_EDGES = [(-1.0, 1.5, 2.0), (0.0, 1.0, 2.0), (0.0, 0.5, 2.0), (0.0, 1.5, 2.0), (2.0, 1.5, 2.0)]

ENTRIES = [
    Entry(
        "HalfNormal",
        lx.HalfNormal,
        times_scale(-30, 9),
        on_half_line(
            lambda x, s: mp.log(2) - LOG_2PI / 2 - mp.log(s) - (x / s) ** 2 / 2,
            lambda x, s: (
                log(mp.erf(x / s / mp.sqrt(2))) if x < s else mp.log1p(-mp.erfc(x / s / mp.sqrt(2)))
            ),
            lambda x, s: mp.log(mp.erfc(x / s / mp.sqrt(2))),
        ),
        itself,
        edges=EDGES,
    ),
    Entry(
        "HalfCauchy",
        lx.HalfCauchy,
        times_scale(-30, 30),
        on_half_line(
            lambda x, s: mp.log(2 / mp.pi) - mp.log(s) - mp.log1p((x / s) ** 2),
            lambda x, s: (
                log(2 / mp.pi * mp.atan(x / s)) if x < s else mp.log1p(-2 / mp.pi * mp.atan(s / x))
            ),
            lambda x, s: (
                mp.log(2 / mp.pi * mp.atan(s / x))
                if x > s
                else mp.log1p(-2 / mp.pi * mp.atan(x / s))
            ),
        ),
        itself,
        edges=EDGES,
    ),
    Entry(
        "LogNormal",
        lx.LogNormal,
        lognormal_draw,
        LOG_NORMAL,
        lognormal_lengths,
        edges=[(-1.0, 0.0, 1.0), (0.0, 0.0, 1.0), (1.0, 0.0, 1.0), (1.0, 0.0, 1e-20)],
    ),
    Entry(
        "LogNormal wide",
        lx.LogNormal,
        wide_lognormal_draw,
        {"log_prob": LOG_NORMAL["log_prob"]},
        lognormal_lengths,
        edges=[(-1.0, 0.0, 1.0), (0.0, 0.0, 1.0), (1.0, 0.0, 1.0)],
    ),
    Entry(
        "Exponential",
        lx.Exponential,
        rates(times_scale(-30, 30)),
        EXPONENTIAL,
        rate_lengths,
        edges=EDGES,
    ),
    Entry(
        "Exponential(log_rate)",
        lambda log_rate: lx.Exponential(log_rate=log_rate),
        log_rates(times_scale(-30, 30)),
        at_log_rate(EXPONENTIAL),
        log_rate_lengths,
        edges=[(-1.0, 0.5), (0.0, 0.5)],
    ),
    Entry(
        "Weibull",
        lx.Weibull,
        of_log_power(-1e3, 80),
        on_half_line(
            weibull_log_prob,
            lambda x, k, s: log1mexp(power(x, k, s)),
            lambda x, k, s: -power(x, k, s),
        ),
        itself,
        edges=SHAPE_EDGES,
    ),
    Entry(
        "LogLogistic",
        lx.LogLogistic,
        of_log_power(-1e20, 1e20),
        on_half_line(log_logistic_log_prob, log_sigmoid_of(1), log_sigmoid_of(-1)),
        itself,
        edges=SHAPE_EDGES,
    ),
    Entry(
        "Pareto",
        lx.Pareto,
        pareto_draw,
        on_half_line(
            lambda x, a, s: mp.log(a / x) - a * mp.log(x / s),
            lambda x, a, s: log1mexp(a * mp.log(x / s)),
            lambda x, a, s: -a * mp.log(x / s),
            start=lambda a, s: s,
        ),
        itself,
        edges=[(2.0, 1.5, 2.0), (1.0, 1.5, 2.0), (2.0, 1e20, 2.0), (2.0, 1e-20, 2.0)],
    ),
]
