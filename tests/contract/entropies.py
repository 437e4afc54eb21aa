"""Entropies in closed form, over the parameters that the densities have."""

import mpmath as mp
import numpy as np

import likelax as lx
from contract.bounded import log_i0, uniform_draw
from contract.entry import Entry, powers, signed
from contract.line import huber_mass


def draw_loc_scale(generator, n):
    scale = powers(generator, n, -20, 20)
    return np.where(generator.random(n) < 0.5, 0.0, scale * signed(generator, n, -8, 8)), scale


def draw_scale(generator, n):
    return (powers(generator, n, -20, 20),)


def draw_shape(*ranges):
    """Half of the rows in the bulk, half at the ends."""

    def draw(generator, n):
        some = generator.random(n) < 0.5
        return [
            np.where(some, powers(generator, n, -1, 3), powers(generator, n, *ends))
            for ends in ranges
        ]

    return draw


def psi(x):
    return mp.psi(0, x)


def gamma_entropy(a, rate):
    return a - mp.log(rate) + mp.loggamma(a) + (1 - a) * psi(a)


def beta_entropy(a, b):
    log_beta = mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)
    return log_beta - (a - 1) * psi(a) - (b - 1) * psi(b) + (a + b - 2) * psi(a + b)


def student_entropy(df, loc, scale):
    n = df / 2
    log_beta = mp.loggamma(n) + mp.loggamma(mp.mpf(1) / 2) - mp.loggamma(n + mp.mpf(1) / 2)
    return (
        (n + mp.mpf(1) / 2) * (psi(n + mp.mpf(1) / 2) - psi(n))
        + mp.log(df) / 2
        + log_beta
        + mp.log(scale)
    )


def huber_entropy(loc, scale, delta):
    """log Z + E[loss]: 1/2 within delta by parts, and the exponential's 1 beyond it."""
    tail = 2 * mp.exp(-(delta**2) / 2) / delta / huber_mass(delta)
    within = (1 - tail) / 2 - tail * delta**2 / 2
    return mp.log(huber_mass(delta)) + mp.log(scale) + within + tail * (1 + delta**2 / 2)


def kumaraswamy_entropy(a, b):
    harmonic = psi(b + 1) + mp.euler
    return 1 - 1 / b + (1 - 1 / a) * harmonic - mp.log(a) - mp.log(b)


def inverse_gamma_entropy(a, s):
    return a + mp.log(s) + mp.loggamma(a) - (1 + a) * psi(a)


def of_scale(constant):
    """An entropy that is log(scale) and a constant."""
    return lambda loc, scale: mp.log(scale) + constant


def entry(name, make, draw, exact, lengths=None, edges=()):
    itself = lengths or (lambda *params: params)
    return Entry(f"{name} entropy", make, draw, {"entropy": exact}, itself, edges, value=False)


def loc_lengths(loc, *positive):
    return positive[0], *positive


WIDE, LOG_2 = (-20, 20), mp.log(2)
LOG_SQRT_2PI_E = mp.log(2 * mp.pi * mp.e) / 2

ENTRIES = [
    entry("Normal", lx.Normal, draw_loc_scale, of_scale(LOG_SQRT_2PI_E), loc_lengths),
    entry("Laplace", lx.Laplace, draw_loc_scale, of_scale(1 + LOG_2), loc_lengths),
    entry("Logistic", lx.Logistic, draw_loc_scale, of_scale(2), loc_lengths),
    entry("Gumbel", lx.Gumbel, draw_loc_scale, of_scale(1 + mp.euler), loc_lengths),
    entry("Cauchy", lx.Cauchy, draw_loc_scale, of_scale(mp.log(4 * mp.pi)), loc_lengths),
    entry("HalfNormal", lx.HalfNormal, draw_scale, lambda s: LOG_SQRT_2PI_E - LOG_2 + mp.log(s)),
    entry("HalfCauchy", lx.HalfCauchy, draw_scale, lambda s: mp.log(2 * mp.pi) + mp.log(s)),
    entry(
        "LogNormal",
        lx.LogNormal,
        lambda generator, n: (generator.uniform(-80, 80, n), powers(generator, n, -20, 20)),
        lambda loc, s: loc + LOG_SQRT_2PI_E + mp.log(s),
        lambda loc, s: (np.ones_like(s), s),
    ),
    entry("Exponential", lx.Exponential, draw_scale, lambda rate: 1 - mp.log(rate)),
    entry(
        "StudentT",
        lx.StudentT,
        lambda generator, n: (draw_shape((-18, 8))(generator, n)[0], *draw_loc_scale(generator, n)),
        student_entropy,
        lambda df, loc, s: (df, s, s),
        edges=[(1.0, 0.0, 1.0), (1e8, 0.0, 1.0)],
    ),
    entry(
        "AsymmetricLaplace",
        lx.AsymmetricLaplace,
        lambda generator, n: (*draw_loc_scale(generator, n), powers(generator, n, -20, 20)),
        lambda loc, s, a: 1 + mp.log(a + 1 / a) + mp.log(s),
        loc_lengths,
        edges=[(0.0, 1.0, 1.0)],
    ),
    entry(
        "Huber",
        lx.Huber,
        lambda generator, n: (
            *draw_loc_scale(generator, n),
            draw_shape((-20, 15))(generator, n)[0],
        ),
        huber_entropy,
        loc_lengths,
        edges=[(0.0, 1.0, 1.0)],
    ),
    entry("Gamma", lx.Gamma, draw_shape(WIDE, WIDE), gamma_entropy, edges=[(1.0, 1.0)]),
    entry(
        "InverseGamma",
        lx.InverseGamma,
        draw_shape(WIDE, WIDE),
        inverse_gamma_entropy,
        edges=[(1.0, 1.0)],
    ),
    entry(
        "Weibull",
        lx.Weibull,
        draw_shape(WIDE, WIDE),
        lambda k, s: 1 + mp.euler * (1 - 1 / k) + mp.log(s / k),
        edges=[(1.0, 1.0)],
    ),
    entry("Pareto", lx.Pareto, draw_shape(WIDE, WIDE), lambda a, s: 1 + 1 / a + mp.log(s / a)),
    entry("LogLogistic", lx.LogLogistic, draw_shape(WIDE, WIDE), lambda k, s: 2 + mp.log(s / k)),
    entry(
        "Beta",
        lx.Beta,
        draw_shape(WIDE, WIDE),
        beta_entropy,
        edges=[(1.0, 1.0), (1.0, 2.5), (0.5, 0.5)],
    ),
    entry(
        "Kumaraswamy",
        lx.Kumaraswamy,
        draw_shape(WIDE, WIDE),
        kumaraswamy_entropy,
        edges=[(1.0, 1.0), (1.0, 2.5)],
    ),
    entry(
        "Uniform",
        lx.Uniform,
        lambda generator, n: uniform_draw(generator, n)[1:],
        lambda low, high: mp.log(high - low) if high > low else mp.nan,
        lambda low, high: (high - low, high - low),
    ),
    entry(
        "VonMises",
        lx.VonMises,
        lambda generator, n: (generator.uniform(-3, 3, n), *draw_shape(WIDE)(generator, n)),
        lambda loc, k: mp.log(2 * mp.pi) + log_i0(k) - k * mp.besseli(1, k) / mp.besseli(0, k),
        lambda loc, k: (np.ones_like(k), np.maximum(k, 1.0)),
        edges=[(0.5, 0.0)],
    ),
]
