"""KL(p || q) of continuous families: the same, neighbours, and parameters 1e±20 apart."""

import mpmath as mp
import numpy as np

import likelax as lx
from contract.entry import Entry, powers, signed
from contract.wrappers import interval, log_mass

# ---- pairs ----


def positives(generator, n, low=-20.0, high=20.0):
    """A positive number and another one: next to it, some powers of ten away, or anywhere."""
    p = powers(generator, n, low, high).astype(np.float32).astype(float)
    close = p * np.exp(signed(generator, n, -7, 0))
    away = p * powers(generator, n, -3, 3)
    other = powers(generator, n, low, high)
    return p, np.choose(generator.integers(0, 3, n), [close, away, other])


def location_scales(generator, n):
    """(loc, scale) twice; the locations some scales apart."""
    scale_p, scale_q = positives(generator, n)
    unit = np.where(generator.random(n) < 0.5, scale_p, scale_q)
    loc = np.where(generator.random(n) < 0.5, 0.0, scale_p * signed(generator, n, -3, 3))
    gap = np.where(generator.random(n) < 0.2, 0.0, unit * signed(generator, n, -7, 2))
    return loc, scale_p, loc + gap, scale_q


def of_positives(count, low=-20.0, high=20.0):
    """`count` parameters of p, then those of q."""

    def draw(generator, n):
        pairs = [positives(generator, n, low, high) for _ in range(count)]
        return [*(p for p, _ in pairs), *(q for _, q in pairs)]

    return draw


def themselves(*columns):
    return columns


# ---- formulas ----


def normal(m, s, m_q, s_q):
    return mp.log(s_q / s) + (s**2 + (m - m_q) ** 2) / (2 * s_q**2) - mp.mpf(1) / 2


def laplace(m, s, m_q, s_q):
    gap = abs(m - m_q)
    return mp.log(s_q / s) + (s * mp.exp(-gap / s) + gap) / s_q - 1


def asymmetric_laplace(m, s, a, m_q, s_q, a_q):
    """X - m is 1 - Exp(s / a) above and Exp(s a) below: of X about m_q, then q's log-density."""
    if m_q >= m:
        above = s / a / (1 + a**2) * mp.exp(-(m_q - m) * a / s)
        below = above - (m - m_q + s * (1 / a - a))
    else:
        below = s * a * a**2 / (1 + a**2) * mp.exp((m_q - m) / (a * s))
        above = below + (m - m_q + s * (1 / a - a))
    log_q = -(above * a_q + below / a_q) / s_q - mp.log(a_q + 1 / a_q) - mp.log(s_q)
    return -1 - mp.log(a + 1 / a) - mp.log(s) - log_q


def cauchy(m, s, m_q, s_q):
    return mp.log(((s + s_q) ** 2 + (m - m_q) ** 2) / (4 * s * s_q))


def gumbel(m, s, m_q, s_q):
    ratio, shift = s / s_q, (m - m_q) / s_q
    growth = mp.exp(-shift + mp.loggamma(1 + ratio))
    return -mp.log(ratio) + mp.euler * (ratio - 1) + shift + growth - 1


def weibull(k, s, k_q, s_q):
    ratio = k_q / k
    power = mp.exp(k_q * mp.log(s / s_q) + mp.loggamma(1 + ratio))
    logs = mp.log(k) - k * mp.log(s) - mp.log(k_q) + k_q * mp.log(s_q)
    return logs + (k - k_q) * (mp.log(s) - mp.euler / k) + power - 1


def exponential(r, r_q):
    return mp.log(r / r_q) + r_q / r - 1


def gamma(a, b, a_q, b_q):
    logs = mp.loggamma(a_q) - mp.loggamma(a) + a_q * mp.log(b / b_q)
    return (a - a_q) * mp.digamma(a) + logs + a * (b_q - b) / b


def log_beta(*a):
    return mp.fsum(map(mp.loggamma, a)) - mp.loggamma(mp.fsum(a))


def dirichlet(a, a_q):
    total = mp.digamma(mp.fsum(a))
    parts = [(c - d) * (mp.digamma(c) - total) for c, d in zip(a, a_q, strict=True)]
    return log_beta(*a_q) - log_beta(*a) + mp.fsum(parts)


def pareto(a, s, a_q, s_q):
    if s_q > s:
        return mp.inf
    return mp.log(a / a_q) + a_q * mp.log(s / s_q) + a_q / a - 1


def uniform(low, high, low_q, high_q):
    if low < low_q or high > high_q:
        return mp.inf
    return mp.log((high_q - low_q) / (high - low))


def truncated_normal(low, high, m, s, low_q, high_q, m_q, s_q):
    """By p's mean and variance. An end in the wrong order has no distribution."""
    if low > high or low_q > high_q:
        return mp.nan
    if low < low_q or high > high_q:
        return mp.inf
    a, b = (low - m) / s, (high - m) / s
    at_low, at_high = (mp.npdf(z) / mp.exp(log_mass(a, b)) for z in (a, b))
    step = at_low - at_high
    ends = [z * density if density else density for z, density in ((a, at_low), (b, at_high))]
    variance = s**2 * (1 + ends[0] - ends[1] - step**2)
    surprise = (variance + (m + s * step - m_q) ** 2) / (2 * s_q**2)
    own = (variance + (s * step) ** 2) / (2 * s**2)
    log_masses = log_mass((low_q - m_q) / s_q, (high_q - m_q) / s_q) - log_mass(a, b)
    return log_masses + mp.log(s_q / s) + surprise - own


def von_mises(m, k, m_q, k_q):
    i0, i1, j0 = mp.besseli(0, k), mp.besseli(1, k), mp.besseli(0, k_q)
    return mp.log(j0 / i0) + i1 / i0 * (k - k_q * mp.cos(m - m_q))


# ---- grids of their own ----


def draw_asymmetric(generator, n):
    loc, scale, loc_q, scale_q = location_scales(generator, n)
    a, a_q = positives(generator, n, -2, 2)
    return loc, scale, a, loc_q, scale_q, a_q


def draw_pareto(generator, n):
    a, s, a_q, s_q = of_positives(2)(generator, n)
    return a, np.maximum(s, s_q * (generator.random(n) < 0.9)), a_q, s_q


def draw_uniform(generator, n):
    """The second around the first, but for a tenth of the rows."""
    low, width = signed(generator, n, -5, 5), powers(generator, n, -5, 5)
    more = (width * powers(generator, n, -7, 4) for _ in range(2))
    inside = np.where(generator.random((2, n)) < 0.1, -0.3, 1.0) * list(more)
    high = low + np.maximum(width, abs(low) * 1e-5)
    low, high = low.astype(np.float32), high.astype(np.float32)
    low_q, high_q = (low - inside[0]).astype(np.float32), (high + inside[1]).astype(np.float32)
    return low, high, low_q, np.maximum(high_q, np.nextafter(low_q, np.float32(np.inf)))


def uniform_lengths(low, high, low_q, high_q):
    return high - low, high - low, high_q - low_q, high_q - low_q


def draw_truncated(generator, n):
    """The second interval around the first one or the same, an end in ten infinite; parameters next to
    one another, or some of p's own lengths and up to three powers of ten apart.
    """
    low, high, loc, scale = (np.asarray(c, float) for c in interval(generator, n))
    width = high - low
    near = generator.random(n) < 0.5
    scale_q = scale * np.where(
        near, np.exp(signed(generator, n, -7, -1)), powers(generator, n, -3, 3)
    )
    unit = np.minimum(width, scale)
    loc_q = loc + unit * np.where(near, signed(generator, n, -7, -1), signed(generator, n, -3, 3))
    more = [np.where(generator.random(n) < 0.5, 0.0, powers(generator, n, -7, 2)) for _ in range(2)]
    low_q, high_q = low - unit * more[0], high + unit * more[1]
    none = generator.random((4, n)) < 0.1
    high, low = np.where(none[0], np.inf, high), np.where(none[1] & ~none[0], -np.inf, low)
    high_q = np.where(none[2] | np.isinf(high), np.inf, high_q)
    low_q = np.where(none[3] | np.isinf(low), -np.inf, low_q)
    ends = [c.astype(np.float32) for c in (low, high, low_q, high_q)]
    low_q, high_q = np.minimum(ends[2], ends[0]), np.maximum(ends[3], ends[1])
    return ends[0], ends[1], loc, scale, low_q, high_q, loc_q, scale_q


def truncated_lengths(low, high, m, s, low_q, high_q, m_q, s_q):
    """Of an end the distance over which the densities change there; of an infinite one any."""
    unit = np.minimum(np.minimum(s, s_q), high - low)
    return unit, unit, np.minimum(s, s_q), s, unit, unit, np.minimum(unit, s_q), s_q


def draw_von_mises(generator, n):
    k, k_q = positives(generator, n, -20, 8)
    m, gap = generator.uniform(-3.1, 3.1, n), signed(generator, n, -7, 0.4)
    return m, k, m + np.where(generator.random(n) < 0.2, 0.0, gap), k_q


def draw_dirichlet(generator, n):
    pairs = [positives(generator, n) for _ in range(3)]
    # Half of them near one another throughout, up to one common factor.
    common = powers(generator, n, -3, 3)
    p = np.stack([p for p, _ in pairs], -1)
    q = np.stack([q for _, q in pairs], -1)
    near = p * common[:, None] * np.exp(signed(generator, 3 * n, -7, 0).reshape(n, 3))
    return p, np.clip(np.where(generator.random((n, 1)) < 0.5, near, q), 1e-20, 1e20)


def scales(m, s, m_q, s_q):
    return np.minimum(s, s_q), s, np.minimum(s, s_q), s_q


def turning(m, k, m_q, k_q):
    """Angles matter over the width of the narrower density."""
    width = 1 / np.sqrt(1 + np.maximum(k, k_q))
    return width, k, width, k_q


def beta(a, b, a_q, b_q):
    return dirichlet([a, b], [a_q, b_q])


def truncated(*columns):
    low, high, *normal = columns
    return lx.Truncated(lx.Normal(*normal), low, high)


def kl(family, draw, exact, lengths, edges=(), **parameters):
    """The entry of two distributions of one family, the parameters of the first before the second's."""
    name = family.__name__

    def make(*columns):
        half = len(columns) // 2
        return family(*columns[:half]), family(*columns[half:])

    methods = {"kl_divergence": exact}
    return Entry(f"KL {name}", make, draw, methods, lengths, edges, value=False, **parameters)


SAME = [(0, 1, 0, 1)]

ENTRIES = [
    kl(lx.Normal, location_scales, normal, scales, SAME),
    kl(
        lx.HalfNormal,
        of_positives(1),
        lambda s, s_q: normal(0, s, 0, s_q),
        themselves,
        [(1, 1)],
    ),
    kl(
        lx.LogNormal,
        location_scales,
        normal,
        scales,
        SAME,
    ),
    kl(lx.Laplace, location_scales, laplace, scales, SAME),
    kl(
        lx.AsymmetricLaplace,
        draw_asymmetric,
        asymmetric_laplace,
        lambda m, s, a, m_q, s_q, a_q: (np.minimum(s, s_q), s, a, np.minimum(s, s_q), s_q, a_q),
        [(0, 1, 2, 0, 1, 2)],
    ),
    kl(lx.Cauchy, location_scales, cauchy, scales, SAME),
    kl(lx.HalfCauchy, of_positives(1), lambda s, s_q: cauchy(0, s, 0, s_q), themselves, [(1, 1)]),
    kl(lx.Gumbel, location_scales, gumbel, scales, SAME),
    kl(lx.Weibull, of_positives(2, -3, 3), weibull, themselves, [(1, 1, 1, 1)]),
    kl(lx.Exponential, of_positives(1), exponential, themselves, [(1, 1)]),
    kl(lx.Gamma, of_positives(2), gamma, themselves, [(1, 1, 1, 1), (1e20, 1, 1e20, 1)]),
    kl(lx.InverseGamma, of_positives(2), gamma, themselves, [(1, 1, 1, 1), (1e20, 1, 1e20, 1)]),
    kl(lx.Beta, of_positives(2), beta, themselves, [(1, 1, 1, 1), (1e20, 1, 1e20, 1)]),
    kl(lx.Dirichlet, draw_dirichlet, dirichlet, themselves, [([1, 2, 3], [1, 2, 3])]),
    kl(lx.Pareto, draw_pareto, pareto, themselves, [(1, 1, 1, 1), (1, 1, 1, 2)]),
    kl(lx.Uniform, draw_uniform, uniform, uniform_lengths, [(0, 1, 0, 1), (0, 1, 0, 0.5)]),
    Entry(
        "KL Truncated(Normal)",
        lambda *columns: (truncated(*columns[:4]), truncated(*columns[4:])),
        draw_truncated,
        {"kl_divergence": truncated_normal},
        truncated_lengths,
        [(-1, 2, 0, 1, -1, 2, 0, 1), (-1, 2, 0, 1, -0.5, 2, 0, 1), (1e4, np.inf, 0, 1) * 2],
        value=False,
    ),
    kl(lx.VonMises, draw_von_mises, von_mises, turning, [(1, 2, 1, 2)], digits=60),
]
