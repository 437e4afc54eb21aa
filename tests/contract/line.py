"""More families on the line: thick tails, unlike tails, extremes, and scales given as logarithms."""

import mpmath as mp
import numpy as np

import likelax as lx
from contract.entry import Entry, powers, signed
from contract.incomplete import beta_tails
from contract.location_scale import (
    LOG_2PI,
    bulk,
    draw,
    laplace_tail,
    lengths,
    log_ndtr,
    of_z,
    tails,
)


def with_log_scale(draw):
    """The same grid, the scale as a logarithm."""

    def drawn(generator, n):
        x, loc, scale = draw(generator, n)
        log_scale = np.log(scale).astype(np.float32).astype(float)
        # The value is to stay as far from the location as it was, in scales of the rounded logarithm.
        ratio = np.exp(log_scale) / scale
        return x * ratio, loc * ratio, log_scale

    return drawn


def of_log_scale(exact):
    return {
        method: lambda x, loc, log_scale, f=f: f(x, loc, mp.exp(log_scale))
        for method, f in exact.items()
    }


def log_lengths(x, loc, log_scale):
    return np.exp(log_scale), np.exp(log_scale), np.ones_like(log_scale)


def log_rest(log_p):
    """log(1 - p)."""
    return mp.log1p(-mp.exp(log_p))


def cauchy_tail(z):
    """log P(Z < z)."""
    return (
        mp.log(mp.atan(-1 / z) / mp.pi)
        if z < 0
        else mp.log1p(-mp.acot(z) / mp.pi)
        if z
        else -mp.log(2)
    )


NORMAL = {"log_prob": of_z(lambda z: -(z**2) / 2 - LOG_2PI / 2), **tails(log_ndtr)}
LAPLACE = {"log_prob": of_z(lambda z: -abs(z) - mp.log(2)), **tails(laplace_tail)}


# ---- Gumbel: exp(-z) has to be a float ----


def gumbel_draw(generator, n):
    scale = powers(generator, n, -20, 20)
    loc = np.where(generator.random(n) < 0.5, 0.0, scale * signed(generator, n, -3, 3))
    z = np.choose(
        generator.integers(0, 4, n),
        [
            generator.normal(size=n) * 3,
            generator.uniform(-80, 80, n),
            powers(generator, n, -30, 12),
            -powers(generator, n, -30, 1.9),
        ],
    )
    return loc + scale * z, loc, scale


def gumbel_upper(z):
    """log(1 - exp(-exp(-z)))."""
    return mp.log(-mp.expm1(-mp.exp(-z))) if z > 0 else mp.log1p(-mp.exp(-mp.exp(-z)))


# ---- unlike tails ----


def asymmetric_draw(generator, n):
    x, loc, scale = draw(generator, n)
    some = generator.random(n) < 0.5
    return x, loc, scale, np.where(some, powers(generator, n, -1, 1), powers(generator, n, -20, 20))


def asymmetric_log_prob(x, loc, scale, a):
    z = (x - loc) / scale
    return -(a * z if z > 0 else -z / a) - mp.log(a + 1 / a) - mp.log(scale)


def asymmetric_lower(z, a):
    """log P(Z < z)."""
    if z < 0:
        return mp.log(a**2 / (1 + a**2)) + z / a
    return mp.log1p(-mp.exp(-a * z) / (1 + a**2))


# ---- Huber ----


def huber_draw(generator, n):
    scale = powers(generator, n, -20, 20)
    loc = np.where(generator.random(n) < 0.5, 0.0, scale * signed(generator, n, -3, 3))
    some = generator.random(n) < 0.5
    delta = np.where(some, powers(generator, n, -1, 1), powers(generator, n, -20, 15))
    z = np.choose(
        generator.integers(0, 3, n),
        [
            generator.normal(size=n) * 3,
            signed(generator, n, -10, 9),
            np.clip(delta * generator.normal(size=n), -1e9, 1e9),
        ],
    )
    return loc + scale * z, loc, scale, delta


def huber_mass(delta):
    tail = 2 * mp.exp(-(delta**2) / 2) / delta
    return mp.sqrt(2 * mp.pi) * mp.erf(delta / mp.sqrt(2)) + tail


def huber_log_prob(x, loc, scale, delta):
    z = abs(x - loc) / scale
    loss = z**2 / 2 if z <= delta else delta * z - delta**2 / 2
    return -loss - mp.log(huber_mass(delta)) - mp.log(scale)


def huber_lower(z, delta):
    """log P(Z < z)."""
    if z > 0:
        return log_rest(huber_lower(-z, delta))
    if z <= -delta:
        return delta * z + delta**2 / 2 - mp.log(delta) - mp.log(huber_mass(delta))
    root = mp.sqrt(2)
    inside = mp.sqrt(mp.pi / 2) * (mp.erfc(-z / root) - mp.erfc(delta / root))
    return mp.log((mp.exp(-(delta**2) / 2) / delta + inside) / huber_mass(delta))


# ---- Student's t ----


def student_draw(generator, n):
    x, loc, scale = draw(generator, n)
    some = generator.random(n) < 0.5
    return x, np.where(some, powers(generator, n, -1, 3), powers(generator, n, -20, 8)), loc, scale


def student_log_prob(x, df, loc, scale):
    z = (x - loc) / scale
    kernel = (df + 1) / 2 * mp.log1p(z**2 / df)
    normalizer = mp.loggamma((df + 1) / 2) - mp.loggamma(df / 2) - mp.log(mp.pi * df) / 2
    return normalizer - kernel - mp.log(scale)


def student_lower(z, df):
    """log P(Z < z)."""
    if z > 0:
        return log_rest(student_lower(-z, df))
    if z == 0:
        return mp.log(mp.mpf(1) / 2)
    total = df + z**2
    return beta_tails(df / 2, mp.mpf(1) / 2, df / total, z**2 / total)[0] - mp.log(2)


def student_tails_draw(generator, n):
    scale = powers(generator, n, -20, 20)
    z = np.where(
        generator.random(n) < 0.5, generator.normal(size=n) * 3, signed(generator, n, -10, 6)
    )
    df = np.where(
        generator.random(n) < 0.7, powers(generator, n, -1.5, 4), powers(generator, n, -3, 20)
    )
    return scale * z, df, np.zeros(n), scale


def with_shape(lower):
    """Both tails of a family symmetric about loc, the shape after the scale."""
    return {
        "log_cdf": lambda x, loc, scale, shape: lower((x - loc) / scale, shape),
        "log_survival": lambda x, loc, scale, shape: lower((loc - x) / scale, shape),
    }


ENTRIES = [
    Entry(
        "Normal(log_scale)",
        lambda loc, log_scale: lx.Normal(loc, log_scale=log_scale),
        with_log_scale(bulk),
        of_log_scale(NORMAL),
        log_lengths,
        edges=[(0.0, 0.0, 0.0)],
    ),
    Entry(
        "Laplace(log_scale)",
        lambda loc, log_scale: lx.Laplace(loc, log_scale=log_scale),
        with_log_scale(draw),
        of_log_scale(LAPLACE),
        log_lengths,
        edges=[(0.0, 0.0, 0.0)],
    ),
    Entry(
        "Cauchy",
        lx.Cauchy,
        draw,
        {"log_prob": of_z(lambda z: -mp.log1p(z**2) - mp.log(mp.pi)), **tails(cauchy_tail)},
        lengths,
        edges=[(0.0, 0.0, 1.0)],
    ),
    Entry(
        "Gumbel",
        lx.Gumbel,
        gumbel_draw,
        {
            "log_prob": of_z(lambda z: -z - mp.exp(-z)),
            "log_cdf": lambda x, loc, scale: -mp.exp((loc - x) / scale),
            "log_survival": lambda x, loc, scale: gumbel_upper((x - loc) / scale),
        },
        lengths,
        edges=[(0.0, 0.0, 1.0)],
    ),
    Entry(
        "AsymmetricLaplace",
        lx.AsymmetricLaplace,
        asymmetric_draw,
        {
            "log_prob": asymmetric_log_prob,
            "log_cdf": lambda x, loc, scale, a: asymmetric_lower((x - loc) / scale, a),
            "log_survival": lambda x, loc, scale, a: asymmetric_lower((loc - x) / scale, 1 / a),
        },
        lambda x, loc, scale, a: (scale, scale, scale, a),
        edges=[(0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 3.0)],
    ),
    Entry(
        "Huber",
        lx.Huber,
        huber_draw,
        {"log_prob": huber_log_prob, **with_shape(huber_lower)},
        lambda x, loc, scale, delta: (scale, scale, scale, delta),
        edges=[(0.0, 0.0, 1.0, 1.0), (1.0, 0.0, 1.0, 1.0), (-2.0, 0.0, 1.0, 2.0)],
    ),
    Entry(
        "StudentT",
        lx.StudentT,
        student_draw,
        {"log_prob": student_log_prob},
        lambda x, df, loc, scale: (scale, df, scale, scale),
        edges=[(0.0, 1.0, 0.0, 1.0), (0.0, 1e8, 0.0, 1.0), (40.0, 1e8, 0.0, 1.0)],
    ),
    Entry(
        "StudentT tails",
        lx.StudentT,
        student_tails_draw,
        {"log_cdf": lambda x, df, loc, scale: student_lower((x - loc) / scale, df)},
        lambda x, df, loc, scale: (scale, df, scale, scale),
        edges=[(0.0, 1.0, 0.0, 1.0)],
        digits=60,
    ),
]
