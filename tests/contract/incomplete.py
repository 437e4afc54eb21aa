"""Exact tails of the Gamma and the Beta at any shape: series for small ones, quadrature for large ones.

The smaller tail is its density times the integral of exp(-h(v)) over v > 0, v the distance from the value in
the logarithm (Gamma) or the logit (Beta). There exp(-h) has no singularity within pi of the real line, and
Gauss and Legendre's rule over the part that counts converges like a power series.
"""

import functools

import mpmath as mp

SMALL = 50  # shapes below have a series
GUARD = 90  # more digits: lgammas at 1e20 cancel, and 1 - tail of a shape of 1e-20 does


@functools.cache
def rule(count, prec):
    """Nodes and weights of Gauss and Legendre on [0, 1]."""
    with mp.workprec(prec + 20):

        def polynomial(x):
            """P_count and its slope."""
            before, at = mp.mpf(1), x
            for k in range(2, count + 1):
                before, at = at, ((2 * k - 1) * x * at - (k - 1) * before) / k
            return at, count * (x * at - before) / (x * x - 1)

        found = []
        for i in range(1, count // 2 + 1):
            x = mp.cos(mp.pi * (i - mp.mpf(1) / 4) / (count + mp.mpf(1) / 2))
            step = mp.mpf(1)
            while abs(step) > mp.mpf(2) ** (-prec // 2 - 10):
                at, slope = polynomial(x)
                step = at / slope
                x -= step
            slope = polynomial(x)[1]
            weight = 1 / ((1 - x * x) * slope * slope)
            found += [((1 - x) / 2, weight), ((1 + x) / 2, weight)]
        return found


def integral(h, slope, curvature, digits):
    """Of exp(-h(v)) over v > 0 for a convex h with h(0) = 0, h'(0) = slope >= 0 and h''(0) = curvature."""
    enough = digits * mp.log(10)
    reach = 2 * enough / (slope + mp.sqrt(slope * slope + 2 * enough * curvature))
    while h(reach) < enough:
        reach *= mp.mpf(5) / 4
    while h(reach * mp.mpf(4) / 5) > enough:
        reach *= mp.mpf(4) / 5
    nodes = rule(2 * int(0.7 * digits + 20), mp.mp.prec)
    return reach * sum(weight * mp.exp(-h(reach * at)) for at, weight in nodes)


def _both(lower, log_tail):
    """(log P, log Q) from one of them."""
    other = mp.log1p(-mp.exp(log_tail)) if log_tail < -1 else mp.log(-mp.expm1(log_tail))
    return (log_tail, other) if lower else (other, log_tail)


@functools.lru_cache(4096)
def _gamma(a, x, dps):
    log_mass = a * mp.log(x) - x - mp.loggamma(a)  # x times the density
    if a < SMALL and x < a + 1:
        # DLMF 8.7.1
        return _both(True, log_mass - mp.log(a) + mp.log(mp.hyp1f1(1, a + 1, x)))
    gap, lower = x - a, x < a

    def h(v):
        step = mp.expm1(-v if lower else v)
        return x * step + (a * v if lower else -a * v)

    return _both(lower, log_mass + mp.log(integral(h, abs(gap), x, dps)))


def gamma_tails(a, x):
    """(log P(a, x), log Q(a, x)) for a > 0 and x > 0."""
    digits = mp.mp.dps
    with mp.workdps(digits + GUARD):
        found = _gamma(a, x, digits)
    return tuple(+tail for tail in found)


@functools.lru_cache(4096)
def _beta(a, b, x, y, dps):
    n = a + b
    log_mass = a * mp.log(x) + b * mp.log(y) - (mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(n))

    def series(lower):
        """The tail at the end of the wanted side: DLMF 8.17.8, all terms positive."""
        c, z = (a, x) if lower else (b, y)
        total = term = mp.mpf(1)
        k = 0
        small = mp.mpf(10) ** -(dps + GUARD)
        while term > small * total or (n + k) * z > c + 1 + k:
            term *= (n + k) / (c + 1 + k) * z
            total += term
            k += 1
        return _both(lower, log_mass - mp.log(c) + mp.log(total))

    if a < SMALL and b < SMALL:
        return series(x < y)
    if a < SMALL and n * x < SMALL:
        return series(True)
    if b < SMALL and n * y < SMALL:
        return series(False)
    gap = n * x - a
    lower = gap < 0
    c, z = (a, x) if lower else (b, y)
    return _both(
        lower,
        log_mass
        + mp.log(
            integral(lambda v: c * v + n * mp.log1p(z * mp.expm1(-v)), abs(gap), n * x * y, dps)
        ),
    )


def beta_tails(a, b, x, y=None):
    """(log I_x(a, b), log(1 - I_x(a, b))) for 0 < x < 1 and y = 1 - x, which may be handed over."""
    if mp.im(x) != 0 or (y is not None and mp.im(y) != 0) or a <= 0 or b <= 0:
        raise ValueError((a, b, x, y))
    if x == 0 or y == 0:
        return (-mp.inf, mp.mpf(0)) if x == 0 else (mp.mpf(0), -mp.inf)
    digits = mp.mp.dps
    with mp.workdps(digits + GUARD):
        found = _beta(a, b, x, 1 - x if y is None else y, digits)
    return tuple(+tail for tail in found)
