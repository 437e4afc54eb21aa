"""Vectors: concentrations of 1e±20, points of the simplex from 1e-30 on, scales of 1e±20."""

import mpmath as mp
import numpy as np

import likelax as lx
from contract.classes import concentrations
from contract.entry import Entry, powers, signed
from contract.location_scale import LOG_2PI

# ---- Dirichlet ----


def dirichlet(x, a):
    """Its value has no slope here: there is one along the simplex only."""
    parts = [(c - 1) * mp.log(p) - mp.loggamma(c) for p, c in zip(x, a, strict=True)]
    return mp.loggamma(mp.fsum(a)) + mp.fsum(parts)


def simplex(generator, n):
    """Multiples of 2^-23 that sum to 1 exactly; in some rows with one that is below all rounding."""
    first = np.rint(2**23 * generator.random(n) ** generator.choice([1, 4], n))
    second = np.rint((2**23 - first) * generator.random(n))
    x = np.stack([first, second, 2**23 - first - second], -1)
    x = np.where((x == 0).any(-1, keepdims=True), [2**21, 2**22, 2**21], x) / 2**23
    rare = generator.random(n) < 0.3
    x[rare, 1] += x[rare, 0]
    x[rare, 0] = powers(generator, rare.sum(), -30, -25)
    return x


def draw_dirichlet(generator, n):
    x, a = simplex(generator, n), concentrations(generator, n, 3)
    # Where the density is seen: concentrations as the point has them.
    close = x * powers(generator, n, 0, 8)[:, None]
    return x, np.where(generator.random((n, 1)) < 0.3, np.maximum(close, 1e-20), a)


# ---- Normals ----


def normal_diag(x, loc, scale):
    z = [(v - m) / s for v, m, s in zip(x, loc, scale, strict=True)]
    return -mp.fsum(u * u for u in z) / 2 - mp.fsum(map(mp.log, scale)) - len(x) * LOG_2PI / 2


def normal_tril(x, loc, tril):
    """By forward substitution; `tril` is the lower triangle, row by row."""
    z, row = [], 0
    log_det = mp.mpf(0)
    for i in range(len(x)):
        entries = tril[row : row + i + 1]
        row += i + 1
        rest = x[i] - loc[i] - mp.fsum(l * u for l, u in zip(entries, z, strict=False))
        z.append(rest / entries[i])
        log_det += mp.log(entries[i])
    return -mp.fsum(u * u for u in z) / 2 - log_det - len(x) * LOG_2PI / 2


def matrix(tril):
    """The lower triangle, row by row, as a matrix."""
    import jax.numpy as jnp

    size = int((2 * tril.shape[-1]) ** 0.5)
    return jnp.zeros((size, size), tril.dtype).at[np.tril_indices(size)].set(tril)


def draw_diag(generator, n):
    scale = powers(generator, 3 * n, -20, 20).reshape(n, 3)
    z = signed(generator, 3 * n, -10, 6).reshape(n, 3)
    bulk = generator.normal(size=(n, 3)) * 3
    z = np.where(generator.random((n, 1)) < 0.5, bulk, z)
    loc = np.where(
        generator.random((n, 1)) < 0.5, 0.0, scale * signed(generator, n, -3, 3)[:, None]
    )
    return loc + scale * z, loc, scale


def lower_triangle(generator, n):
    """Scales of 1e±15 for the rows, correlations to 0.97."""
    scale = powers(generator, 2 * n, -15, 15).reshape(n, 2)
    slope = generator.uniform(-4, 4, n)
    return np.stack([scale[:, 0], slope * scale[:, 1], scale[:, 1]], -1)


def draw_tril(generator, n):
    """The elements of z = L^-1 (x - loc) have one size: a small one beside one of 1e5 is lost in the
    substitution itself, whose intermediate it is.
    """
    tril = lower_triangle(generator, n)
    size = np.where(generator.random(n) < 0.5, 2.0, powers(generator, n, -8, 5))[:, None]
    z = size * generator.normal(size=(n, 2))
    scale = np.stack([tril[:, 0], tril[:, 2]], -1)
    loc = np.where(generator.random((n, 1)) < 0.5, 0.0, scale * generator.normal(size=(n, 2)))
    x = np.stack([tril[:, 0] * z[:, 0], tril[:, 1] * z[:, 0] + tril[:, 2] * z[:, 1]], -1)
    return loc + x, loc, tril


def tril_lengths(x, loc, tril):
    first, second = tril[:, 0], tril[:, 2]
    scale = np.stack([first, second], -1)
    return scale, scale, np.stack([first, second, second], -1)


ENTRIES = [
    Entry(
        "Dirichlet",
        lx.Dirichlet,
        draw_dirichlet,
        {"log_prob": dirichlet},
        lambda x, a: (x, a),
        edges=[([0.25, 0.25, 0.5], [1, 1, 1]), ([0.5, 0.25, 0.25], [1e20, 1e-20, 1])],
        slopes=(1,),
    ),
    Entry(
        "MultivariateNormalDiag",
        lx.MultivariateNormalDiag,
        draw_diag,
        {"log_prob": normal_diag},
        lambda x, loc, scale: (scale, scale, scale),
        edges=[([0, 0, 0], [0, 0, 0], [1, 1, 1])],
    ),
    Entry(
        "MultivariateNormal",
        lambda loc, tril: lx.MultivariateNormal(loc, scale_tril=matrix(tril)),
        draw_tril,
        {"log_prob": normal_tril},
        tril_lengths,
        edges=[([0, 0], [0, 0], [1, 0, 1])],
    ),
]
