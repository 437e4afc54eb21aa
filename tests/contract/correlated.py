"""Vectors whose elements go together: Normals of low rank and Student's t, units of 1e±15."""

import functools

import jax.numpy as jnp
import mpmath as mp
import numpy as np

import likelax as lx
from contract.entry import Entry, powers, signed
from contract.location_scale import LOG_2PI

# ---- Normals of low rank: 3 elements, 2 factors, whose matrix is a column of 6 numbers ----


def low_rank(loc, w, d):
    return lx.LowRankMultivariateNormal(loc, w.reshape(3, 2), d)


def factor_draw(generator, n):
    """Factors from a hundredth of the own scales to 1e4 of them, values typical of both or of neither."""
    unit = powers(generator, n, -15, 15)[:, None]
    s = unit * 10.0 ** generator.uniform(-1, 1, (n, 3))
    w = (
        unit[..., None]
        * 10.0 ** generator.uniform(-2, 4, (n, 1, 1))
        * generator.normal(size=(n, 3, 2))
    )
    loc = unit * generator.normal(size=(n, 3)) * generator.integers(0, 2, (n, 1))
    common = np.einsum("nij,nj->ni", w, generator.normal(size=(n, 2)))
    x = loc + common + s * generator.normal(size=(n, 3))
    far = loc + unit * signed(generator, n, -3, 6)[:, None] * generator.normal(size=(n, 3))
    x = np.where(generator.random((n, 1)) < 0.8, x, far)
    return x, loc, w.reshape(n, 6), s**2


def factor_lengths(x, loc, w, d):
    s = np.sqrt(d)
    return s, s, np.repeat(s, 2, axis=-1), d


def covariance(w, d):
    rows = [w[2 * i : 2 * i + 2] for i in range(3)]
    return mp.matrix(
        [
            [mp.fdot(a, b) + (d[i] if i == j else 0) for j, b in enumerate(rows)]
            for i, a in enumerate(rows)
        ]
    )


def inverse_and_log_det(m):
    """Of a symmetric 3 x 3 matrix, by cofactors."""
    a, b, c, d, e, f = m[0, 0], m[0, 1], m[0, 2], m[1, 1], m[1, 2], m[2, 2]
    co = [
        [d * f - e * e, c * e - b * f, b * e - c * d],
        [c * e - b * f, a * f - c * c, b * c - a * e],
        [b * e - c * d, b * c - a * e, a * d - b * b],
    ]
    det = a * co[0][0] + b * co[0][1] + c * co[0][2]
    return mp.matrix(co) / det, mp.log(det)


def square(inverse, v):
    return mp.fsum(inverse[i, j] * v[i] * v[j] for i in range(3) for j in range(3))


def low_rank_log_prob(x, loc, w, d):
    inverse, log_det = inverse_and_log_det(covariance(w, d))
    gap = [a - b for a, b in zip(x, loc, strict=True)]
    return -(square(inverse, gap) + log_det + 3 * LOG_2PI) / 2


def low_rank_entropy(loc, w, d):
    return (3 * (1 + LOG_2PI) + inverse_and_log_det(covariance(w, d))[1]) / 2


def low_rank_kl(loc, w, d, other_loc, other_w, other_d):
    own = covariance(w, d)
    inverse, log_det = inverse_and_log_det(covariance(other_w, other_d))
    gap = [a - b for a, b in zip(loc, other_loc, strict=True)]
    trace = mp.fsum(inverse[i, j] * own[i, j] for i in range(3) for j in range(3))
    return (trace - 3 + square(inverse, gap) + log_det - inverse_and_log_det(own)[1]) / 2


def factor_pair_draw(generator, n):
    """In one unit; half of the pairs alike to a hundredth, half with nothing in common."""
    _, loc, w, d = factor_draw(generator, n)
    change = 1 + 0.01 * generator.normal(size=(n, 6))
    unit = np.sqrt(d[:, :1])
    fresh_w = unit * powers(generator, n, -2, 2)[:, None] * generator.normal(size=(n, 6))
    fresh_d = d * 10.0 ** generator.uniform(-1, 1, (n, 3))
    close = generator.random((n, 1)) < 0.5
    other = [
        np.where(close, loc + 0.01 * unit * generator.normal(size=(n, 3)), loc + unit),
        np.where(close, w * change, fresh_w),
        np.where(close, d * change[:, :3], fresh_d),
    ]
    return loc, w, d, *other


# ---- Student's t: a lower triangle is its diagonal, then what is below it ----


def student(size):
    rows, columns = np.tril_indices(size, -1)

    def make(df, loc, own, below):
        tril = jnp.zeros((size, size), below.dtype).at[rows, columns].set(below[: len(rows)])
        return lx.MultivariateStudentT(df, loc, tril + jnp.diag(own))

    return make


def student_draw(generator, n, size):
    """Half of the values far out in the tail or next to loc; factors whose lower parts are to 10 times
    their diagonals, which are apart by a factor of 10.
    """
    df = np.where(
        generator.random(n) < 0.5, powers(generator, n, 0, 2), powers(generator, n, -20, 20)
    )
    unit = powers(generator, n, -15, 15)[:, None]
    own = unit * 10.0 ** generator.uniform(-0.5, 0.5, (n, size))
    count = max(1, size * (size - 1) // 2)
    size_below = 10.0 ** generator.uniform(-2, 0.5, (n, 1))
    below = unit * size_below * generator.normal(size=(n, count))
    loc = unit * generator.normal(size=(n, size)) * generator.integers(0, 2, (n, 1))
    far = np.where(generator.random(n) < 0.5, 1.0, powers(generator, n, -10, 15))[:, None]
    x = loc + unit * far * generator.normal(size=(n, size))
    return x, df, loc, own, below


def student_lengths(x, df, loc, own, below):
    small = own.min(-1, keepdims=True)
    return own, df, own, own, np.broadcast_to(small, below.shape)


def solved(x, loc, own, below):
    """L^-1 (x - loc)."""
    z = []
    for i in range(len(x)):
        start = i * (i - 1) // 2
        z.append((x[i] - loc[i] - mp.fdot(below[start : start + i], z)) / own[i])
    return z


def student_log_peak(df, own):
    n = len(own)
    peak = mp.loggamma((df + n) / 2) - mp.loggamma(df / 2) - mp.mpf(n) / 2 * mp.log(mp.pi * df)
    return peak - mp.fsum(mp.log(v) for v in own)


def student_log_prob(x, df, loc, own, below):
    norm = mp.fsum(v * v for v in solved(x, loc, own, below))
    return student_log_peak(df, own) - (df + len(x)) / 2 * mp.log1p(norm / df)


def student_entropy(df, loc, own, below):
    half = (df + len(own)) / 2
    return half * (mp.psi(0, half) - mp.psi(0, df / 2)) - student_log_peak(df, own)


ENTRIES = [
    Entry(
        "LowRankMultivariateNormal",
        low_rank,
        factor_draw,
        {"log_prob": low_rank_log_prob},
        factor_lengths,
        digits=90,
    ),
    Entry(
        "LowRankMultivariateNormal entropy",
        low_rank,
        lambda generator, n: factor_draw(generator, n)[1:],
        {"entropy": low_rank_entropy},
        lambda *params: factor_lengths(params[0], *params)[1:],
        value=False,
        digits=90,
    ),
    Entry(
        "KL LowRankMultivariateNormal LowRankMultivariateNormal",
        lambda *params: (low_rank(*params[:3]), low_rank(*params[3:])),
        factor_pair_draw,
        {"kl_divergence": low_rank_kl},
        lambda *p: factor_lengths(p[0], *p[:3])[1:] + factor_lengths(p[3], *p[3:])[1:],
        value=False,
        digits=90,
    ),
    *(
        Entry(
            f"MultivariateStudentT {size}",
            student(size),
            functools.partial(student_draw, size=size),
            {"log_prob": student_log_prob},
            student_lengths,
        )
        for size in (1, 2, 3)
    ),
    Entry(
        "MultivariateStudentT entropy",
        student(3),
        lambda generator, n: student_draw(generator, n, 3)[1:],
        {"entropy": student_entropy},
        lambda *params: student_lengths(params[1], *params)[1:],
        value=False,
    ),
]
