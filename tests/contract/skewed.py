"""The inverse Gaussian, the triangular and the skew normal: from even to one-sided, ratios of 1e±20."""

import functools

import mpmath as mp
import numpy as np

import likelax as lx
from contract.entry import Entry, powers, signed
from contract.location_scale import LOG_2PI, log_ndtr

# ---- inverse Gaussian ----


def passage_draw(generator, n):
    """Within three standard deviations of the mean, or many times off where the exponent is a float."""
    loc = powers(generator, n, -20, 20)
    ratio = np.where(
        generator.random(n) < 0.5, powers(generator, n, -1, 3), powers(generator, n, -20, 20)
    )
    concentration = np.clip(loc * ratio, 1e-20, 1e20)
    ratio = concentration / loc
    step = generator.normal(size=n) * 3 / np.sqrt(ratio)
    near = np.where(step > -0.9, 1 + step, np.exp(np.clip(step, -60, 0)))
    # The quotient's own exponent is ratio (q - 1)^2 / (2 q).
    widest = np.clip(30 - np.log10(ratio), 0, 30)
    far = 10.0 ** (generator.uniform(-1, 1, n) * widest)
    x = loc * np.where(generator.random(n) < 0.6, near, far)
    return np.clip(x, 1e-35, 1e35), loc, concentration


def passage_tails_draw(generator, n):
    """Exponents to 1e15: the tails of mpmath are differences of numbers of that size."""
    x, loc, concentration = passage_draw(generator, n)
    exponent = concentration / loc * (x / loc - 1) ** 2 / (2 * x / loc)
    return np.where(exponent < 1e15, x, loc), loc, concentration


def passage_log_prob(x, mu, lam):
    if x <= 0:
        return -mp.inf
    return mp.log(lam / (2 * mp.pi * x**3)) / 2 - lam * (x - mu) ** 2 / (2 * mu**2 * x)


def passage_below(x, mu, lam, sign):
    """Phi(±a) and exp(2 lam/mu) Phi(-b)."""
    root = mp.sqrt(lam / x)
    own = mp.erfc(-sign * root * (x / mu - 1) / mp.sqrt(2)) / 2
    return own, mp.exp(2 * lam / mu) * mp.erfc(root * (x / mu + 1) / mp.sqrt(2)) / 2


def passage_log_cdf(x, mu, lam):
    return mp.log(mp.fsum(passage_below(x, mu, lam, 1))) if x > 0 else -mp.inf


def passage_log_survival(x, mu, lam):
    if x <= 0:
        return mp.mpf(0)
    own, other = passage_below(x, mu, lam, -1)
    return mp.log(own - other)


def passage_entropy(mu, lam):
    y = 2 * lam / mu
    if y > 1e6:
        integral = mp.fsum((-1) ** k * mp.factorial(k) / y ** (k + 1) for k in range(12))
    else:
        integral = mp.exp(y) * mp.e1(y)
    return (1 + mp.log(2 * mp.pi * mu**3 / lam) - 3 * integral) / 2


def passage_kl(mu, lam, other_mu, other_lam):
    gap = other_lam / 2 * ((mu - other_mu) ** 2 / (mu * other_mu**2))
    return gap + (mp.log(lam / other_lam) + other_lam / lam - 1) / 2


def passage_pair_draw(generator, n):
    """Two alike to 1e-6 or to a factor, or with nothing in common but what keeps the result a float."""
    _, mu, lam = passage_draw(generator, n)
    close = generator.random(n) < 0.5
    factors = [
        np.where(close, np.exp(signed(generator, n, -6, 0)), powers(generator, n, -8, 8))
        for _ in range(2)
    ]
    return mu, lam, mu * factors[0], lam * factors[1]


def positive(*columns):
    return [np.where(c > 0, c, 1.0) for c in columns]


# ---- triangular ----


def triangle_draw(generator, n):
    """Widths from the roundings of the ends on, a fifth of the peaks at an end, the values anywhere."""
    low = np.where(generator.random(n) < 0.3, 0.0, signed(generator, n, -20, 20))
    size = np.where(low == 0, powers(generator, n, -20, 20), np.abs(low))
    width = size * powers(generator, n, -5, 5)
    share = np.choose(
        generator.integers(0, 5, n),
        [np.zeros(n), np.ones(n), generator.random(n), powers(generator, n, -8, 0)]
        + [1 - powers(generator, n, -8, 0)],
    )
    low, high, peak = (v.astype(np.float32) for v in (low, low + width, low + share * width))
    peak = np.clip(peak, low, high)
    low, high, peak = (v.astype(float) for v in (low, high, peak))
    inside = [low + (peak - low) * generator.random(n), peak + (high - peak) * generator.random(n)]
    ends = [low + width * powers(generator, n, -20, 0), high - width * powers(generator, n, -7, 0)]
    beside = peak + width * signed(generator, n, -7, -1)
    x = np.choose(generator.integers(0, 5, n), [*inside, *ends, beside])
    return np.clip(x, low, high), low, high, peak


def triangle_lengths(x, low, high, peak):
    nearest = np.minimum(x - low, high - x)
    side = np.minimum(peak - low, high - peak)
    width = high - low
    return np.where(nearest > 0, nearest, width), width, width, np.where(side > 0, side, width)


def triangle_log_prob(x, low, high, peak):
    if not low <= peak <= high:
        return mp.nan  # not a parameter
    if x < low or x > high:
        return -mp.inf
    if x == peak:
        return mp.log(2 / (high - low))
    ratio = (x - low) / (peak - low) if x < peak else (high - x) / (high - peak)
    return mp.log(2 * ratio / (high - low)) if ratio else -mp.inf


def triangle_log_cdf(x, low, high, peak):
    if x <= low or x >= high:
        return -mp.inf if x <= low else mp.mpf(0)
    if not low <= peak <= high:
        return mp.nan  # not a parameter
    if x <= peak:
        return mp.log((x - low) ** 2 / ((high - low) * (peak - low)))
    return mp.log1p(-((high - x) ** 2) / ((high - low) * (high - peak)))


def triangle_log_survival(x, low, high, peak):
    return triangle_log_cdf(-x, -high, -low, -peak)


def triangle_pair_draw(generator, n):
    """The second around the first, but for a tenth of the rows; half of the ends the same, the peak anywhere."""
    _, low, high, peak = triangle_draw(generator, n)
    width = high - low
    more = width * powers(generator, 2 * n, -7, 4).reshape(2, n)
    more = np.where(generator.random((2, n)) < 0.3, 0.0, more)
    more = np.where(generator.random((2, n)) < 0.05, -0.3 * width, more)
    low_q, high_q = (low - more[0]).astype(np.float32), (high + more[1]).astype(np.float32)
    share = np.choose(
        generator.integers(0, 4, n),
        [np.zeros(n), np.ones(n), generator.random(n), powers(generator, n, -8, 0)],
    )
    near = peak + width * signed(generator, n, -7, 0)
    peak_q = np.where(
        generator.random(n) < 0.4, near, low_q + share * (high_q - low_q.astype(float))
    )
    return low, high, peak, low_q, high_q, np.clip(peak_q.astype(np.float32), low_q, high_q)


def triangle_pair_lengths(*columns):
    lengths = []
    for low, high, peak in (columns[:3], columns[3:]):
        lengths += triangle_lengths(low, low, high, peak)[1:]
    return lengths


def triangle_kl(low, high, peak, low_q, high_q, peak_q):
    """E_p[f] = 2 F[low, peak, high], the divided difference of F'' = f (p is a B-spline), f = -log(q/max q)."""
    if not (low <= peak <= high and low_q <= peak_q <= high_q):
        return mp.nan  # not a parameter
    if low < low_q or high > high_q:
        return mp.inf
    tiny = (high - low) * mp.mpf(10) ** (-mp.mp.dps // 4)
    lower, upper = (
        (peak - low, low - low_q, peak_q - low_q),
        (high - peak, high_q - high, high_q - peak_q),
    )
    if any(0 < max(gaps[:2]) < tiny < gaps[2] for gaps in (lower, upper)):
        raise ValueError("p's peak at an end where q is 0: infinite slopes")
    sides = peak_q - low_q, high_q - peak_q

    def double(y, side):
        return y**2 * (mp.mpf(3) / 4 - mp.log(y / side) / 2) if y else mp.mpf(0)

    def single(y, side):
        return y * (1 - mp.log(y / side)) if y else mp.mpf(0)

    def twice(x):
        if x <= peak_q:
            return double(x - low_q, sides[0])
        step = 3 * (sides[0] ** 2 - sides[1] ** 2) / 4 + sum(sides) * (x - peak_q)
        return double(high_q - x, sides[1]) + step

    def once(x):
        return (
            single(x - low_q, sides[0])
            if x <= peak_q
            else sum(sides) - single(high_q - x, sides[1])
        )

    def slope(x, y):
        return once(x) if x == y else (twice(y) - twice(x)) / (y - x)

    mean = 2 * (slope(peak, high) - slope(low, peak)) / (high - low)
    return mp.log((high_q - low_q) / (high - low)) - mp.mpf(1) / 2 + mean


# ---- skew normal ----


def slant_draw(generator, n):
    """Values of order 1 and to 1e17 scales, slants of order 1 and 1e±20, while a z squared is a float."""
    scale = powers(generator, n, -20, 20)
    loc = np.where(generator.random(n) < 0.5, 0.0, scale * signed(generator, n, -3, 3))
    z, a = standard_slant(generator, n, 17, 20)
    reach = 1e17 / np.maximum(np.abs(a), 1)
    return loc + scale * np.clip(z, -reach, reach), loc, scale, a


def standard_slant(generator, n, z_high, a_high):
    bulk = generator.random(n) < 0.5
    a = np.where(bulk, generator.normal(size=n) * 3, signed(generator, n, -20, a_high))
    z = np.where(
        generator.random(n) < 0.5, generator.normal(size=n) * 3, signed(generator, n, -20, z_high)
    )
    # On the scale of what is left of a thin side, too.
    thin = generator.random(n) < 0.3
    return np.where(thin, z / np.maximum(np.abs(a), 1), z), a


def slant_lengths(x, loc, scale, a):
    return scale, scale, scale, np.maximum(1, np.abs(a))


def log_slanted(z, a):
    """log(2 phi(z) Phi(a z))."""
    return mp.log(2) + log_ndtr(a * z) - z * z / 2 - LOG_2PI / 2


def slant_log_prob(x, loc, scale, a):
    return log_slanted((x - loc) / scale, a) - mp.log(scale)


@functools.cache
def thin_tail(y, a):
    """J = P(Z < -y), a >= 0, by Owen's integral, in 1/x where its exponent varies little."""
    b = a * y
    head = mp.exp(-(y * y + b * b) / 2) / mp.pi
    if y * y + b * b < 0.25:
        size = mp.atan(1 / a) if a else mp.pi / 2
        return head * mp.quad(lambda u: mp.exp(-y * y * (mp.cot(u) ** 2 - a * a) / 2), [0, size])
    last = 2 * mp.mp.dps * mp.log(10)
    unit = 1 / (b + 1)
    cuts = [0] + [unit * 2**k for k in range(-1, 12) if 2**k < last]
    tail = mp.quad(lambda t: mp.exp(-b * t - t * t / 2) * y / (y * y + (b + t) ** 2), cuts)
    return head * tail


def slant_log_cdf(z, a):
    thin = thin_tail(abs(z), abs(a))
    if z <= 0:
        return mp.log(thin if a >= 0 else mp.erfc(-z / mp.sqrt(2)) - thin)
    return mp.log(mp.erf(z / mp.sqrt(2)) + thin if a >= 0 else 1 - thin)


def standard_draw(generator, n):
    """What mpmath integrates quickly."""
    z, a = standard_slant(generator, n, 1.5, 4)
    reach = np.where(a * z < 0, 1e3 / np.maximum(np.abs(a), 1e-3), 40)
    return np.clip(z, -reach, reach), a


ENTRIES = [
    Entry(
        "InverseGaussian",
        lx.InverseGaussian,
        passage_draw,
        {"log_prob": passage_log_prob},
        positive,
        edges=[(0.0, 1.5, 2.0), (-1.0, 1.5, 2.0), (1.5, 1.5, 2.0)],
    ),
    Entry(
        "InverseGaussian tails",
        lx.InverseGaussian,
        passage_tails_draw,
        {"log_cdf": passage_log_cdf, "log_survival": passage_log_survival},
        positive,
        edges=[(0.0, 1.5, 2.0), (-1.0, 1.5, 2.0), (1.5, 1.5, 2.0)],
    ),
    Entry(
        "InverseGaussian entropy",
        lx.InverseGaussian,
        lambda generator, n: passage_draw(generator, n)[1:],
        {"entropy": passage_entropy},
        positive,
        value=False,
        digits=60,
    ),
    Entry(
        "KL InverseGaussian InverseGaussian",
        lambda mu, lam, *other: (lx.InverseGaussian(mu, lam), lx.InverseGaussian(*other)),
        passage_pair_draw,
        {"kl_divergence": passage_kl},
        positive,
        edges=[(1.5, 2.0, 1.5, 2.0)],
        value=False,
    ),
    Entry(
        "Triangular",
        lx.Triangular,
        triangle_draw,
        {
            "log_prob": triangle_log_prob,
            "log_cdf": triangle_log_cdf,
            "log_survival": triangle_log_survival,
        },
        triangle_lengths,
        edges=[(-1.5, -1.0, 3.0, 0.5), (-1.0, -1.0, 3.0, 0.5), (3.0, -1.0, 3.0, 0.5)]
        + [(3.5, -1.0, 3.0, 0.5), (0.5, -1.0, 3.0, 0.5), (0.5, -1.0, 3.0, -1.0)],
    ),
    Entry(
        "Triangular entropy",
        lx.Triangular,
        lambda generator, n: triangle_draw(generator, n)[1:],
        {"entropy": lambda low, high, peak: mp.log((high - low) / 2) + mp.mpf(1) / 2},
        lambda low, high, peak: triangle_lengths(low, low, high, peak)[1:],
        value=False,
    ),
    Entry(
        "KL Triangular",
        lambda *columns: (lx.Triangular(*columns[:3]), lx.Triangular(*columns[3:])),
        triangle_pair_draw,
        {"kl_divergence": triangle_kl},
        triangle_pair_lengths,
        edges=[
            (-1, 3, 0.5, -1, 3, 0.5),
            (0, 1, 0, 0, 1, 0),
            (0, 1, 0.5, 0, 1, 0),
            (0, 1, 1, 0.5, 1, 1),
        ],
        value=False,
    ),
    Entry(
        "SkewNormal",
        lx.SkewNormal,
        slant_draw,
        {"log_prob": slant_log_prob},
        slant_lengths,
        edges=[(0.5, 0.5, 2.0, 3.0), (1.5, 0.5, 2.0, 0.0), (40.0, 0.0, 1.0, -2.0)],
    ),
    Entry(
        "SkewNormal tails",
        lambda a: lx.SkewNormal(0.0, 1.0, a),
        standard_draw,
        {"log_cdf": slant_log_cdf, "log_survival": lambda z, a: slant_log_cdf(-z, -a)},
        lambda z, a: (np.ones_like(z), np.maximum(1, np.abs(a))),
        edges=[(0.0, 2.0), (0.0, 0.0), (-1.5, 0.0)],
        digits=40,
    ),
]
