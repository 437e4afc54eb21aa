"""Families on bounded intervals: both ends to the last float, concentrations of 1e±20; and angles."""

import mpmath as mp
import numpy as np

import likelax as lx
from contract.entry import Entry, powers, signed
from contract.half_line import log, log1mexp
from contract.incomplete import beta_tails


def unit_draw(mean_of):
    """Half near `mean_of(a, b)`, the rest near either end, two positive parameters."""

    def draw(generator, n):
        some = generator.random(n) < 0.5
        a = np.where(some, powers(generator, n, -1, 3), powers(generator, n, -20, 20))
        like = generator.random(n) < 0.3
        b = np.where(some, powers(generator, n, -1, 3), powers(generator, n, -20, 20))
        b = np.where(like & ~some, a * powers(generator, n, -2, 2), b)
        ends = [powers(generator, n, -30, 0), 1 - powers(generator, n, -7, 0), generator.random(n)]
        x = np.choose(generator.integers(0, 3, n), ends)
        x = np.where(generator.random(n) < 0.5, mean_of(generator, a, b), x)
        return np.clip(x, 1e-37, 1 - 2.0**-24), a, b

    return draw


def near_beta_mean(generator, a, b):
    m = a / (a + b)
    step = generator.normal(size=len(a)) * 3 * np.sqrt(m * (1 - m) / (a + b + 1))
    return np.where((m + step > 0.1 * m) & (m + step < 1 - 0.1 * (1 - m)), m + step, m)


def exact_shares(generator, p, z):
    """x = X / 2^24 and whole numbers a and b below 2^24, with 2^p (a + b) x - 2^p a near z standard deviations."""
    x, a, b = (np.empty(z.shape) for _ in range(3))
    for i, (power, wanted) in enumerate(zip(p, z, strict=True)):
        up = 2 * int(generator.integers(2, 2**23 - 2)) + 1
        down = 2**24 - up
        # b up - a down is the gap, in units of 2^(p - 24).
        spread = np.sqrt(2.0 ** (23 - power) * (up / 2**24) * (down / 2**24)) * 2**24
        gap = round(wanted * spread)
        gap = max(-up, min(up, gap)) if abs(wanted) else 0
        b[i] = gap * pow(up, -1, down) % down or down
        a[i] = (b[i] * up - gap) // down
        x[i] = up / 2**24
    return x, a, b


def beta_tails_draw(generator, n):
    """Both shapes moderate, both large, alike or not, or anywhere from 1e-20 to 1e20; half of the values near
    the mean; at a fifth of the rows within a few standard deviations also where floats are further apart.
    """
    kind = generator.integers(0, 4, n)
    ends = [(-2, 3), (2, 20), (-20, 20), (2, 20)]
    a, b = (np.choose(kind, [powers(generator, n, *end) for end in ends]) for _ in range(2))
    b = np.where(kind == 3, a * powers(generator, n, -2, 2), b)
    ends = [powers(generator, n, -30, 0), 1 - powers(generator, n, -7, 0), generator.random(n)]
    x = np.choose(generator.integers(0, 3, n), ends)
    x = np.where(generator.random(n) < 0.6, near_beta_mean(generator, a, b), x)
    power = generator.integers(10, 44, n)
    fine = exact_shares(generator, power, generator.normal(size=n) * 3)
    fine = fine[0], np.ldexp(fine[1], power), np.ldexp(fine[2], power)
    is_fine = (generator.random(n) < 0.2) & (fine[1] > 0)
    columns = np.clip(x, 1e-30, 1 - 2.0**-24), a, b
    return tuple(np.where(is_fine, *pair) for pair in zip(fine, columns, strict=True))


def near_kumaraswamy_median(generator, a, b):
    """x with -log(1 - x^a) = 1 / b in size."""
    hazard = generator.exponential(size=len(a)) / b
    return np.exp(np.log(-np.expm1(-hazard) + 1e-300) / a)


def unit_lengths(x, a, b):
    return np.where((x > 0) & (x < 1), np.minimum(x, 1 - x), 1.0), a, b


def xlogy(x, y):
    return x * mp.log(y) if x else mp.mpf(0)


def on_unit_interval(log_prob, log_cdf, log_survival):
    def at(f, below, above):
        return lambda x, a, b: below if x < 0 else above if x > 1 else f(x, a, b)

    return {
        "log_prob": at(log_prob, -mp.inf, -mp.inf),
        "log_cdf": at(log_cdf, -mp.inf, mp.mpf(0)),
        "log_survival": at(log_survival, mp.mpf(0), -mp.inf),
    }


def beta_log_prob(x, a, b):
    normalizer = mp.loggamma(a + b) - mp.loggamma(a) - mp.loggamma(b)
    return xlogy(a - 1, x) + xlogy(b - 1, 1 - x) + normalizer


def beta_tail(upper):
    def exact(x, a, b):
        if x in (0, 1):
            return -mp.inf if (x == 0) ^ upper else mp.mpf(0)
        return beta_tails(a, b, x)[upper]

    return exact


def kumaraswamy_log_prob(x, a, b):
    rest = mp.log1p(-(x**a)) if 0 < x < 1 else log(1 - x)
    return mp.log(a) + mp.log(b) + xlogy(a - 1, x) + ((b - 1) * rest if b != 1 else 0)


def kumaraswamy_log_survival(x, a, b):
    if x in (0, 1):
        return mp.mpf(0) if x == 0 else -mp.inf
    return b * log1mexp(-a * mp.log(x))


def kumaraswamy_log_cdf(x, a, b):
    return (
        -mp.inf if x == 0 else log1mexp(-kumaraswamy_log_survival(x, a, b)) if x < 1 else mp.mpf(0)
    )


UNIT_EDGES = [
    (0.0, 1.0, 1.0),
    (1.0, 1.0, 1.0),
    (0.0, 1.0, 2.5),
    (1.0, 2.5, 1.0),
    (0.0, 0.5, 2.0),
    (1.0, 0.5, 2.0),
    (-0.5, 1.5, 2.0),
    (1.5, 1.5, 2.0),
    (0.5, 1.0, 1.0),
]


# ---- Uniform ----


def uniform_draw(generator, n):
    """Widths from the rounding of the ends to many times them."""
    low = np.where(generator.random(n) < 0.2, 0.0, signed(generator, n, -20, 20))
    size = np.where(low == 0, powers(generator, n, -20, 20), np.abs(low))
    width = size * powers(generator, n, -5, 5)
    x = low + width * generator.random(n)
    end = powers(generator, n, -30, 0)
    x = np.where(generator.random(n) < 0.3, low + width * end, x)
    return x, low, low + width


def uniform(method):
    def exact(x, low, high):
        if high <= low:
            return mp.nan
        if x < low or x > high:
            return (
                mp.mpf(0)
                if (method == "log_cdf") == (x > high) and method != "log_prob"
                else -mp.inf
            )
        width = high - low
        if method == "log_prob":
            return -mp.log(width)
        return log((x - low) / width) if method == "log_cdf" else log((high - x) / width)

    return exact


def uniform_lengths(x, low, high):
    nearest = np.minimum(x - low, high - x)
    return np.where(nearest > 0, nearest, high - low), high - low, high - low


# ---- angles ----


def angle_draw(generator, n):
    """Both angles within one turn, near one another, opposite, or anywhere; some two turns off."""
    k = np.where(
        generator.random(n) < 0.5, powers(generator, n, -1, 2), powers(generator, n, -20, 20)
    )
    loc = generator.uniform(-3.1, 3.1, n)
    step = generator.normal(size=n) * 3 / np.sqrt(1 + k)
    x = np.where(generator.random(n) < 0.5, loc + step, generator.uniform(-3.1, 3.1, n))
    turns = np.where(generator.random(n) < 0.2, generator.integers(-2, 3, n), 0)
    return x + 2 * np.pi * turns, loc, k


def angle_lengths(x, loc, k):
    width = 1 / np.sqrt(1 + k)
    return width, width, np.maximum(k, 1.0)


def log_i0(k):
    return mp.log(mp.besseli(0, k))


def von_mises_log_prob(x, loc, k):
    return k * mp.cos(x - loc) - mp.log(2 * mp.pi) - log_i0(k)


ENTRIES = [
    Entry(
        "Beta",
        lx.Beta,
        unit_draw(near_beta_mean),
        {"log_prob": on_unit_interval(beta_log_prob, beta_log_prob, beta_log_prob)["log_prob"]},
        unit_lengths,
        edges=UNIT_EDGES,
    ),
    Entry(
        "Beta tails",
        lx.Beta,
        beta_tails_draw,
        {
            method: exact
            for method, exact in on_unit_interval(
                beta_log_prob, beta_tail(False), beta_tail(True)
            ).items()
            if method != "log_prob"
        },
        unit_lengths,
        edges=UNIT_EDGES,
        digits=90,
    ),
    Entry(
        "Kumaraswamy",
        lx.Kumaraswamy,
        unit_draw(near_kumaraswamy_median),
        on_unit_interval(kumaraswamy_log_prob, kumaraswamy_log_cdf, kumaraswamy_log_survival),
        unit_lengths,
        edges=UNIT_EDGES,
    ),
    Entry(
        "Uniform",
        lx.Uniform,
        uniform_draw,
        {method: uniform(method) for method in ("log_prob", "log_cdf", "log_survival")},
        uniform_lengths,
        edges=[(-1.0, 0.0, 2.0), (0.0, 0.0, 2.0), (2.0, 0.0, 2.0), (3.0, 0.0, 2.0)],
    ),
    Entry(
        "VonMises",
        lx.VonMises,
        angle_draw,
        {"log_prob": von_mises_log_prob},
        angle_lengths,
        edges=[(0.5, 0.25, 0.0), (3.0, 3.0, 1e20), (3.1415927, -3.1415927, 1e4)],
    ),
]
