"""The generalised Pareto and extreme values: tail indices of both signs to 1e20 and through 0."""

import mpmath as mp
import numpy as np

import likelax as lx
from contract.divergences import positives
from contract.entry import Entry, powers, signed
from contract.half_line import log1mexp


def indices(generator, n):
    """A sixth 0, a sixth -1 or next to it, the rest of size 1 or of any."""
    kind = generator.integers(0, 6, n)
    near_end = -1 + signed(generator, n, -7, -1) * generator.integers(0, 2, n)
    ways = [np.zeros(n), near_end, generator.normal(size=n) * 0.6, generator.uniform(-2, 2, n)]
    return np.choose(kind, [*ways, signed(generator, n, -20, 20), signed(generator, n, -8, 2)])


def at_depth(t, xi):
    """(exp(xi t) - 1)/xi, xi t at most 40."""
    safe = np.where(xi == 0, 1, xi)
    return np.where(xi == 0, t, np.expm1(np.minimum(xi * t, 40)) / safe)


def placed(generator, z):
    """x, loc and scale of these z: half of the locations 0, where others are x rounds to them."""
    n = len(z)
    scale = powers(generator, n, -20, 20)
    loc = np.where(generator.random(n) < 0.5, 0.0, scale * signed(generator, n, -8, 8))
    return np.clip(loc + scale * z, -1e37, 1e37), loc, scale


def excess_draw(generator, n):
    """Depths of order 1, and from 1e-30 to 1e30; a tenth next to the end of a negative index."""
    xi = indices(generator, n)
    bulk = generator.random(n) < 0.5
    t = np.where(bulk, generator.exponential(2, n), powers(generator, n, -30, 15))
    z = at_depth(t, xi)
    end = -(1 - powers(generator, n, -7, 0)) / np.where(xi < 0, xi, -1)
    z = np.where((xi < 0) & (generator.random(n) < 0.2), end, z)
    x, loc, scale = placed(generator, z)
    return np.maximum(x, loc), loc, scale, xi


def maximum_draw(generator, n):
    """As Gumbel's: -log(hazard) of order 1, or hazards of e^80 and depths to 1e15."""
    xi = indices(generator, n)
    bulk, far = generator.random(n) < 0.5, generator.random(n) < 0.5
    t = np.where(far, powers(generator, n, -30, 15), generator.uniform(-80, 0, n))
    z = at_depth(np.where(bulk, generator.gumbel(size=n), t), xi)
    x, loc, scale = placed(generator, z)
    return x, loc, scale, xi


def lengths(x, loc, scale, xi):
    return scale, scale, scale, np.maximum(1, np.abs(xi))


def depth(x, loc, scale, xi):
    """t = log(1 + xi z)/xi and xi t; infinite beyond the end. By the series where digits would end."""
    z = (x - loc) / scale
    w = xi * z
    if abs(w + 1) < mp.mpf(10) ** (-mp.mp.dps // 4) and 0 < abs(xi + 1) < abs(w + 1) * 2:
        raise ValueError("the density's slope in an index of -1 is infinite at the end")
    if w <= -1:
        return (mp.inf if xi < 0 else -mp.inf), -mp.inf
    if abs(w) < mp.mpf(10) ** (-mp.mp.dps // 2):
        return z * (1 - w / 2 + w * w / 3), w - w * w / 2
    log = mp.log1p(w)
    return log / xi, log


def excess_log_prob(x, loc, scale, xi):
    if x < loc:
        return -mp.inf
    t, log = depth(x, loc, scale, xi)
    if log == -mp.inf:
        return at_end(x, loc, scale, xi)
    return -t - log - mp.log(scale)


def at_end(x, loc, scale, xi):
    """The limit at the end of a negative index; nothing beyond it."""
    if xi > 0 or scale + xi * (x - loc) < 0 or xi > -1:
        return -mp.inf
    return -mp.log(scale) if xi == -1 else mp.inf


def excess_log_cdf(x, loc, scale, xi):
    if x <= loc:
        return -mp.inf
    return log1mexp(depth(x, loc, scale, xi)[0])


def excess_log_survival(x, loc, scale, xi):
    return mp.mpf(0) if x < loc else -depth(x, loc, scale, xi)[0]


def maximum_log_prob(x, loc, scale, xi):
    t, log = depth(x, loc, scale, xi)
    if log == -mp.inf:
        return at_end(x, loc, scale, xi)
    return -mp.exp(-t) - t - log - mp.log(scale)


def maximum_log_cdf(x, loc, scale, xi):
    return -mp.exp(-depth(x, loc, scale, xi)[0])


def maximum_log_survival(x, loc, scale, xi):
    t = depth(x, loc, scale, xi)[0]
    return -mp.inf if t == mp.inf else mp.mpf(0) if t == -mp.inf else log1mexp(mp.exp(-t))


def entropy_draw(generator, n):
    return placed(generator, np.zeros(n))[1:] + (indices(generator, n),)


def entropy_lengths(loc, scale, xi):
    return scale, scale, np.maximum(1, np.abs(xi))


def pair_draw(generator, n):
    """Indices next to one another, to 2, or of sizes from 1e-20 to 100; scales as neighbours or apart; q's end
    beyond p's, but for a tenth of the rows.
    """
    kind = generator.integers(0, 6, n)
    ways = [
        generator.normal(size=n) * 0.6,
        generator.uniform(-2, 2, n),
        signed(generator, n, -20, 0),
        np.zeros(n),
        -1 + signed(generator, n, -7, -1),
        signed(generator, n, -20, 2),
    ]
    xi = np.choose(kind, ways)
    near = xi + signed(generator, n, -7, -1) * np.maximum(np.abs(xi), 1e-4)
    size = np.where(
        generator.random(n) < 0.5, generator.uniform(0, 2, n), powers(generator, n, -20, 2)
    )
    other = np.where(generator.random(n) < np.where(xi < 0, 0.5, 0.1), -1, 1) * size
    k = np.choose(generator.integers(0, 4, n), [near, other, other, np.zeros(n)])
    xi, k = xi.astype(np.float32).astype(float), k.astype(np.float32).astype(float)
    scale, scale_q = positives(generator, n, -20, 20)
    end = scale * np.abs(k) / np.where(xi < 0, -xi, 1) * (1 + powers(generator, n, -5, 3))
    held = (k < 0) & (xi < 0) & (generator.random(n) < 0.9)
    scale_q = np.clip(np.where(held, end, scale_q), 1e-25, 1e25)
    gap = np.minimum(scale, scale_q) * powers(generator, n, -7, 2)
    gap = np.where(
        generator.random(n) < 0.5, 0.0, gap * np.where(generator.random(n) < 0.05, -1, 1)
    )
    loc = np.where(generator.random(n) < 0.5, 0.0, scale * signed(generator, n, -3, 3))
    return loc, scale, xi, loc - gap, scale_q, k


def steep_draw(generator, n):
    """Indices of any size, a third of p's within 4; q's next to p's, or of any size; the rest as in `pair_draw`."""
    loc, scale, _, loc_q, scale_q, _ = pair_draw(generator, n)
    xi = np.where(
        generator.random(n) < 0.7, signed(generator, n, 0.3, 20), signed(generator, n, -3, 0.6)
    )
    size = powers(generator, n, -20, 20)
    sign = np.where(generator.random(n) < np.where(xi < 0, 0.5, 0.05), -1, 1)
    near = xi * np.exp(signed(generator, n, -7, 1))
    k = np.where(generator.random(n) < 0.5, near, sign * size)
    xi, k = xi.astype(np.float32).astype(float), k.astype(np.float32).astype(float)
    ends = (xi < 0) & (k < 0) & (generator.random(n) < 0.9)
    end = scale * (k / xi) * (1 + powers(generator, n, -5, 3))
    return loc, scale, xi, loc_q, np.where(ends, np.clip(end, 1e-25, 1e25), scale_q), k


def phi(xi, c):
    """E[log(1 + c z)] / c of a standard one: 2F1(1, 1; 1 + 1/xi; 1 - c/xi), where mpmath has it."""
    if xi < 0:
        return phi(-xi / (1 - xi), (c - xi) / (1 - xi)) / (1 - xi)
    if max(xi, c) < mp.mpf(1) / 250:  # its series
        total = term = mp.mpf(1)
        n = 0
        while abs(term) > mp.mpf(10) ** -(mp.mp.dps + 5) and n < 900:
            n += 1
            term *= n * (xi - c) / (1 + n * xi)
            total += term
        return total
    if xi < mp.mpf(10) ** -4:  # in log t, where it ends faster than an exponential
        digits = (mp.mp.dps + 3) * mp.log(10)
        step, total = mp.pi**2 / digits, mp.mpf(0)
        x = -mp.log(1 + c) - digits
        while x < 6:
            t = mp.exp(x)
            rise = -mp.expm1(-xi * t) / xi if xi else t
            total += mp.exp(x - t) / (mp.exp(-xi * t) + c * rise)
            x += step
        return total * step
    return mp.hyp2f1(1, 1, 1 + 1 / xi, 1 - c / xi)


def excess_kl(loc, scale, xi, loc_q, scale_q, k):
    g = scale_q + k * (loc - loc_q)
    room = k * scale - xi * g
    if 0 < abs(room) < g * max(1, abs(xi)) * mp.mpf(10) ** (-mp.mp.dps // 4) and xi <= -1:
        raise ValueError("infinite slopes at an end that both have")
    if 0 < abs(k) < mp.mpf(10) ** (-mp.mp.dps // 4) and xi > mp.mpf(3) / 10:
        raise ValueError(
            "slow limits at an exponential tail, and infinite slopes of a p without variance"
        )
    if loc < loc_q or g <= 0 or (room if xi < 0 else k) < 0 or (k == 0 and xi >= 1):
        return mp.inf
    before = mp.log(g / scale_q) / k if k else (loc - loc_q) / scale_q
    b = scale / g
    return before + mp.log(g / scale) - 1 - xi + (1 + k) * b * phi(xi, k * b)


def pair_lengths(loc, scale, xi, loc_q, scale_q, k):
    """q's index counts times the scales' quotient."""
    near, few = np.minimum(scale, scale_q), np.minimum(1, scale_q / scale)
    of_k = np.where(np.abs(k) < few, few, np.maximum(1, np.abs(k)))
    return near, scale, np.maximum(1, np.abs(xi)), near, scale_q, of_k


# loc itself, before it, the end of an index below, at and above -1, and beyond the end.
EXCESS_EDGES = [(0.5, 0.5, 2.0, 0.25), (0.5, 0.5, 2.0, 0.0), (0.25, 0.5, 2.0, 0.25)]
MAXIMUM_EDGES = [(0.5, 0.5, 2.0, 0.25), (-8.0, 0.0, 2.0, 0.25), (-9.0, 0.0, 2.0, 0.25)]
END_EDGES = [(1.0, 0.0, 0.5, -0.5), (0.5, 0.0, 0.5, -1.0), (0.25, 0.0, 0.5, -2.0)]
END_EDGES += [(1.5, 0.0, 0.5, -0.5), (0.3, 0.0, 0.5, -2.0)]

ENTRIES = [
    Entry(
        "GeneralizedPareto",
        lx.GeneralizedPareto,
        excess_draw,
        {
            "log_prob": excess_log_prob,
            "log_cdf": excess_log_cdf,
            "log_survival": excess_log_survival,
        },
        lengths,
        edges=EXCESS_EDGES + END_EDGES,
    ),
    Entry(
        "GeneralizedExtremeValue",
        lx.GeneralizedExtremeValue,
        maximum_draw,
        {
            "log_prob": maximum_log_prob,
            "log_cdf": maximum_log_cdf,
            "log_survival": maximum_log_survival,
        },
        lengths,
        edges=MAXIMUM_EDGES + END_EDGES,
    ),
    Entry(
        "GeneralizedPareto entropy",
        lx.GeneralizedPareto,
        entropy_draw,
        {"entropy": lambda loc, scale, xi: mp.log(scale) + 1 + xi},
        entropy_lengths,
        value=False,
    ),
    Entry(
        "GeneralizedExtremeValue entropy",
        lx.GeneralizedExtremeValue,
        entropy_draw,
        {"entropy": lambda loc, scale, xi: mp.log(scale) + 1 + mp.euler * (1 + xi)},
        entropy_lengths,
        value=False,
    ),
    Entry(
        "KL GeneralizedPareto",
        lambda *columns: tuple(lx.GeneralizedPareto(*half) for half in (columns[:3], columns[3:])),
        pair_draw,
        {"kl_divergence": excess_kl},
        pair_lengths,
        edges=[(0, 1, 0.5, 0, 1, 0.5), (0, 1, 0, 0, 2, 0), (0, 1, -0.25, 0, 1, -0.25)]
        + [(0, 1, -1, 0, 1, -1), (0, 1, 1, 0, 1, 0), (0, 1, 1, 0, 1, 0.5), (1, 1, 0, 0, 1, -1)],
        value=False,
        digits=90,
    ),
    Entry(
        "KL GeneralizedPareto steep",
        lambda *columns: tuple(lx.GeneralizedPareto(*half) for half in (columns[:3], columns[3:])),
        steep_draw,
        {"kl_divergence": excess_kl},
        pair_lengths,
        edges=[(0, 1, 1e20, 0, 1, 1e20), (0, 1, 1e17, 0, 2, 1e17), (0, 1e20, 1e20, 0, 1e-20, 1e20)]
        + [(0, 1, -1e20, 0, 1, -1e20), (0, 1, 4, 0, 1, 4), (0, 1e10, 0.4, 0, 1e-10, 1e-19)],
        value=False,
        digits=200,
    ),
]
