"""Bases kept to an interval that is none of their own: location families, the Gamma, the Beta, a Normal with one end."""

import mpmath as mp
import numpy as np

import likelax as lx
from contract.bounded import beta_log_prob, beta_tail
from contract.counts import log1mexp
from contract.entry import Entry, powers, signed
from contract.gammas import gamma_log_prob, lower, upper
from contract.line import student_log_prob, student_lower
from contract.mixed import cauchy, cauchy_cdf, mirrored
from contract.wrappers import interval, log_mass, log_normal

# ---- other bases in an interval ----


def log_difference(large, small):
    return large + log1mexp(small - large) if large > small else -mp.inf


def truncated(log_prob, log_cdf, log_survival):
    """The methods of a base between low and high; each an infinity where there is no end."""

    def mass(low, high, *params):
        above, below = log_survival(low, *params), log_cdf(high, *params)
        if above < below:
            return log_difference(above, log_survival(high, *params))
        return log_difference(below, log_cdf(low, *params))

    def at(method):
        def exact(x, low, high, *params):
            if low >= high:
                return mp.nan
            if method == "log_prob":
                inside = low <= x <= high
                return log_prob(x, *params) - mass(low, high, *params) if inside else -mp.inf
            if not low < x < high:
                return mp.mpf(0) if (x >= high) == (method == "log_cdf") else -mp.inf
            part = mass(low, x, *params) if method == "log_cdf" else mass(x, high, *params)
            return part - mass(low, high, *params)

        return exact

    return {method: at(method) for method in ("log_prob", "log_cdf", "log_survival")}


def draw_between(sample, at_ends=0.0):
    """Three values of the base, or far from it, in order: the ends and what is between, or a share at an end."""

    def draw(generator, n):
        three = [sample(generator, n) for _ in range(3)]
        params = three[0][1:]
        values = [sample(generator, n, params)[0].astype(np.float32) for _ in range(3)]
        low, x, high = np.sort(np.stack(values), axis=0)
        up = np.float32(np.inf)
        x = np.maximum(x, np.nextafter(low, up))
        high = np.maximum(high, np.nextafter(x, up))
        if at_ends:
            tie = generator.random(n)
            x = np.where(tie < at_ends / 2, low, np.where(tie > 1 - at_ends / 2, high, x))
        return x, low, high, *params

    return draw


def sample_gumbel(generator, n, params=None):
    if params is None:
        scale = powers(generator, n, -20, 20)
        params = scale * generator.normal(size=n), scale
    far = np.where(generator.random(n) < 0.7, 1, 5)
    return params[0] - params[1] * np.log(generator.exponential(size=n)) * far, *params


def sample_cauchy(generator, n, params=None):
    if params is None:
        scale = powers(generator, n, -20, 20)
        params = scale * generator.normal(size=n), scale
    return params[0] + params[1] * generator.standard_cauchy(size=n), *params


def sample_exponential(generator, n, params=None):
    if params is None:
        params = (powers(generator, n, -20, 20),)
    far = np.where(generator.random(n) < 0.7, 1, 20)
    return generator.exponential(size=n) / params[0] * far, *params


def sample_student(generator, n, params=None):
    """Any number of degrees of freedom; of so few that the values are mostly no floats, of any size."""
    if params is None:
        scale = powers(generator, n, -20, 20)
        df = powers(generator, n, -0.5, 3), powers(generator, n, -3, 20)
        df = np.where(generator.random(n) < 0.7, *df)
        params = df, scale * generator.normal(size=n), scale
    df, loc, scale = params
    z = generator.standard_t(np.clip(df, 0.3, 1e12))
    z = np.where(df < 0.3, signed(generator, n, -10, 15), z)
    return loc + scale * z * np.where(generator.random(n) < 0.7, 1, 5), *params


def sample_gamma(generator, n, params=None):
    """Up to where floats are a hundredth of the width apart. Of concentrations so small that values are
    mostly no floats, values of any size.
    """
    if params is None:
        params = powers(generator, n, -1, 4), powers(generator, n, -3, 10)
        params = np.where(generator.random(n) < 0.6, *params), powers(generator, n, -20, 20)
    a, rate = params
    far = np.where(generator.random(n) < 0.7, 1, generator.uniform(0.5, 2, n))
    far = np.where(a > 1e4, 1 + generator.normal(size=n) * 5 / np.sqrt(a), far)
    x = np.where(a < 0.1, powers(generator, n, -30, 1), generator.gamma(np.maximum(a, 0.1)) * far)
    return np.clip(x / rate, 1e-37, 1e37), *params


def sample_beta(generator, n, params=None):
    """Shapes as the Gamma's concentration; of small ones and at the ends values of any size."""
    if params is None:
        kind = generator.integers(0, 3, n)
        ends = [(-1, 3), (1, 10), (-3, 10)]
        params = tuple(np.choose(kind, [powers(generator, n, *e) for e in ends]) for _ in range(2))
    a, b = params
    x = generator.beta(np.maximum(a, 0.1), np.maximum(b, 0.1))
    end = powers(generator, n, -30, 0)
    end = np.where(generator.random(n) < 0.5, end, 1 - powers(generator, n, -6, 0))
    x = np.where(np.minimum(a, b) < 0.1, end, x)
    x = np.where(generator.random(n) < 0.7, x, generator.random(n))
    return np.clip(x, 1e-37, 1 - 2.0**-22), *params


def between_lengths(x, low, high, width):
    """Of the value and both ends, for a base of a width."""
    inside, width = np.minimum(x - low, high - x), np.minimum(high - low, width)
    inside = np.where(inside > 0, np.minimum(inside, width), width)
    return inside, width, width


def gamma_width(a, rate):
    return np.sqrt(a) / rate * np.minimum(1, a)


def beta_width(a, b):
    return np.sqrt(a / (a + b) * b / (a + b) / (a + b + 1))


# ---- a Normal with one end ----


def one_ended(method):
    """Above low."""

    def exact(x, low, loc, scale):
        if x < low:
            return mp.mpf(0) if method == "log_survival" else -mp.inf
        a, z = (low - loc) / scale, (x - loc) / scale
        mass = log_mass(a, mp.inf)
        if method == "log_prob":
            return log_normal(x, loc, scale) - mass
        return (log_mass(a, z) if method == "log_cdf" else log_mass(z, mp.inf)) - mass

    return exact


ONE_ENDED = {method: one_ended(method) for method in ("log_prob", "log_cdf", "log_survival")}


def mirrored_below(x, high, loc, scale):
    return -x, -high, -loc, scale


OTHER_ENDED = {
    "log_prob": lambda *point: ONE_ENDED["log_prob"](*mirrored_below(*point)),
    "log_cdf": lambda *point: ONE_ENDED["log_survival"](*mirrored_below(*point)),
    "log_survival": lambda *point: ONE_ENDED["log_cdf"](*mirrored_below(*point)),
}


def draw_one_ended(generator, n):
    """The end up to 1e4 scales to either side; the value from beside it to far beyond, a twentieth on it."""
    low, _, loc, scale = interval(generator, n)
    low = low.astype(float)
    beyond = np.maximum((low - loc) / scale, 1.0)
    ways = [generator.exponential(size=n), powers(generator, n, -6, 1), generator.normal(size=n)]
    x = low + scale / beyond * np.choose(generator.integers(0, 2, n), ways[:2])
    x = np.where(generator.random(n) < 0.3, np.maximum(low, loc + scale * ways[2]), x)
    x = np.where(generator.random(n) < 0.05, low, x)
    return np.maximum(x.astype(np.float32), low.astype(np.float32)), low, loc, scale


def one_ended_lengths(x, end, loc, scale):
    inside = np.where(x == end, scale, np.minimum(np.abs(x - end), scale))
    return inside, scale, scale, scale


def located_lengths(x, low, high, loc, scale):
    inside, width = np.minimum(x - low, high - x), np.minimum(high - low, scale)
    inside = np.where(inside > 0, np.minimum(inside, scale), width)
    return inside, width, width, scale, scale


def rate_lengths(x, low, high, rate):
    inside, width = np.minimum(x - low, high - x), np.minimum(high - low, 1 / rate)
    inside = np.where(inside > 0, np.minimum(inside, 1 / rate), width)
    return inside, width, width, rate


def gumbel(x, loc, s):
    z = (x - loc) / s
    return -z - mp.exp(-z) - mp.log(s)


def gumbel_cdf(x, loc, s):
    return -mp.exp(-(x - loc) / s)


STUDENT = truncated(
    student_log_prob,
    lambda x, df, loc, scale: student_lower((x - loc) / scale, df),
    lambda x, df, loc, scale: student_lower((loc - x) / scale, df),
)

ENTRIES = [
    Entry(
        "Truncated(Gumbel)",
        lambda low, high, loc, scale: lx.Truncated(lx.Gumbel(loc, scale), low, high),
        draw_between(sample_gumbel),
        truncated(gumbel, gumbel_cdf, lambda x, m, s: log1mexp(gumbel_cdf(x, m, s))),
        located_lengths,
        edges=[(2, -1, 1, 0, 1), (-2, -1, 1, 0, 1)],
    ),
    Entry(
        "Truncated(Cauchy)",
        lambda low, high, loc, scale: lx.Truncated(lx.Cauchy(loc, scale), low, high),
        draw_between(sample_cauchy),
        truncated(cauchy, cauchy_cdf, mirrored(cauchy_cdf)),
        located_lengths,
        edges=[(2, -1, 1, 0, 1), (-2, -1, 1, 0, 1)],
    ),
    Entry(
        "Truncated(Exponential)",
        lambda low, high, rate: lx.Truncated(lx.Exponential(rate), low, high),
        draw_between(sample_exponential),
        truncated(
            lambda x, rate: mp.log(rate) - rate * x,
            lambda x, rate: log1mexp(-rate * x) if x else -mp.inf,
            lambda x, rate: -rate * x,
        ),
        rate_lengths,
        edges=[(2, 0.5, 1, 1), (0.25, 0.5, 1, 1)],
    ),
    Entry(
        "Truncated(StudentT)",
        lambda low, high, df, loc, scale: lx.Truncated(lx.StudentT(df, loc, scale), low, high),
        draw_between(sample_student, 0.05),
        STUDENT,
        lambda x, low, high, df, loc, scale: (
            *between_lengths(x, low, high, scale),
            df,
            scale,
            scale,
        ),
        edges=[(2, -1, 1, 3, 0, 1), (-2, -1, 1, 3, 0, 1), (-1, -1, 1, 3, 0, 1)],
        digits=60,
    ),
    Entry(
        "Truncated(Gamma)",
        lambda low, high, a, rate: lx.Truncated(lx.Gamma(a, rate), low, high),
        draw_between(sample_gamma, 0.05),
        truncated(
            gamma_log_prob,
            lambda x, a, rate: lower(a, rate * x),
            lambda x, a, rate: upper(a, rate * x),
        ),
        lambda x, low, high, a, rate: (
            *np.minimum(between_lengths(x, low, high, gamma_width(a, rate)), (x, low, high)),
            a,
            rate,
        ),
        edges=[(2, 0.5, 1, 1.5, 1), (0.25, 0.5, 1, 1.5, 1), (1, 0.5, 1, 1.5, 1)],
        digits=60,
    ),
    Entry(
        "Truncated(Beta)",
        lambda low, high, a, b: lx.Truncated(lx.Beta(a, b), low, high),
        draw_between(sample_beta, 0.05),
        truncated(
            beta_log_prob,
            lambda x, a, b: beta_tail(False)(x, a, b),
            lambda x, a, b: beta_tail(True)(x, a, b),
        ),
        lambda x, low, high, a, b: (
            *np.minimum(between_lengths(x, low, high, beta_width(a, b)), (x, low, high)),
            a,
            b,
        ),
        edges=[(0.9, 0.25, 0.5, 1.5, 2), (0.1, 0.25, 0.5, 1.5, 2), (0.5, 0.25, 0.5, 1.5, 2)],
        digits=60,
    ),
    Entry(
        "Truncated(Normal) above",
        lambda low, loc, scale: lx.Truncated(lx.Normal(loc, scale), low=low),
        draw_one_ended,
        ONE_ENDED,
        one_ended_lengths,
        edges=[(0, 0, 0, 1), (-1, 0, 0, 1), (1e4, 1e4, 0, 1), (0.5, -40, 0, 1)],
    ),
    Entry(
        "Truncated(Normal) below",
        lambda high, loc, scale: lx.Truncated(lx.Normal(loc, scale), high=high),
        lambda generator, n: [
            sign * c for sign, c in zip((-1, -1, -1, 1), draw_one_ended(generator, n), strict=True)
        ],
        OTHER_ENDED,
        one_ended_lengths,
        edges=[(0, 0, 0, 1), (1, 0, 0, 1), (-1e4, -1e4, 0, 1), (-0.5, 40, 0, 1)],
    ),
]
