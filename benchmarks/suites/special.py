"""The gamma function's family for positive arguments: time and error beside jax's own; and the time of one tail of
a beta-binomial beside scipy's.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
from _table import Table
from _timing import interleaved, median, ratio
from jax.scipy import special
from scipy.stats import betabinom

import likelax as lx
from likelax.numerics import gamma

ROWS: dict[str, tuple[Callable, Callable, Callable, float]] = {
    # ours, jax's, the truth, and the size below which an error is absolute
    "lgamma": (gamma.lgamma, special.gammaln, mp.loggamma, 1.0),
    "digamma": (gamma.digamma, special.digamma, mp.digamma, 1.0),
    "trigamma": (
        gamma.trigamma,
        lambda x: special.polygamma(1, x),
        lambda x: mp.polygamma(1, x),
        0.0,
    ),
    "log_beta(x, 2.5)": (
        lambda x: gamma.log_beta(x, 2.5),
        lambda x: special.betaln(x, jnp.float32(2.5)),
        lambda x: mp.loggamma(x) + mp.loggamma(2.5) - mp.loggamma(x + 2.5),
        1.0,
    ),
}

# (k, n, a, b)
TAILS = [
    (30, 100, 2, 3),
    (3_000, 10_000, 0.5, 3),
    (9_999_000, 10_000_000, 1e6, 0.2),
    (50_000_000, 100_000_000, 0.5, 0.5),
    (49_990_000, 100_000_000, 1e20, 1e20),
]


def run(quick: bool) -> Table:
    """Four rows, and a note."""
    n, rounds, points = (10_000, 3, 40) if quick else (1_000_000, 31, 2000)
    random = np.random.default_rng(0)
    x = jax.device_put(random.uniform(0.01, 30.0, size=n).astype(np.float32))
    wide = 10 ** random.uniform(-30, 30, size=points // 2)
    grid = np.concatenate([wide, random.uniform(0.01, 4.0, size=points // 2)]).astype(np.float32)
    table = Table(
        title="special: the gamma function's family for positive arguments",
        method=(
            f"{n:,} float32 elements from 0.01 to 30; contenders in turn, {rounds} rounds, the ratio is the median "
            f"of the ratios within a round. Errors against mpmath at {points:,} points, half from 1e-30 to 1e30 and "
            "half from 0.01 to 4, in eps of max(1, |value|), trigamma's of |value|: 99th percentile and worst."
        ),
        columns=["function", "jax, ms", "likelax / jax", "likelax, eps", "jax, eps"],
    )
    for name, (ours, bare, truth, floor) in ROWS.items():
        programs = {"likelax": jax.jit(ours), "jax": jax.jit(bare)}
        calls = {key: lambda f=f: f(x) for key, f in programs.items()}
        seconds = interleaved(calls, rounds, warm_up=2)
        with mp.workdps(120):  # of 1e30 and 2.5 the difference of lgammas loses 60 digits
            exact = [truth(mp.mpf(float(g))) for g in grid]
        errors = [_errors(np.asarray(f(grid)), exact, floor) for f in programs.values()]
        table.add(
            name,
            f"{1e3 * median(seconds, 'jax'):.2f}",
            f"{ratio(seconds, 'likelax', 'jax'):.2f}",
            *errors,
        )
    table.notes = [
        "One `BetaBinomial(n, a, b).log_cdf(k)`, jitted, ms, and of `scipy.stats.betabinom.logcdf`, which adds up all "
        "terms to k, in numbers of 8 bytes:",
        "",
        *_tails(rounds),
    ]
    return table


def _tails(rounds: int) -> list[str]:
    """A table: milliseconds of a value, of it with its slopes in a and b, and of scipy's value to n = 1e7."""
    lines = ["| k, n, a, b | value | and slopes | scipy, value |", "| --- | ---: | ---: | ---: |"]
    value = jax.jit(lambda k, n, a, b: lx.BetaBinomial(n, a, b).log_cdf(k))
    slopes = jax.jit(jax.value_and_grad(value, (2, 3)))
    for point in TAILS:
        k, n, a, b = point
        floats = tuple(map(jnp.float32, point))
        calls = {"value": lambda f=floats: value(*f), "slopes": lambda f=floats: slopes(*f)}
        seconds = interleaved(calls, rounds, warm_up=2)
        cells = [f"{1e3 * median(seconds, name):.2f}" for name in calls]
        if n <= (10_000 if rounds < 10 else 10_000_000):
            plain = interleaved(
                {"scipy": lambda p=point: betabinom.logcdf(*p)},
                min(rounds, 5 if n < 1e6 else 1),
                warm_up=0,
            )
            cells.append(f"{1e3 * median(plain, 'scipy'):.2f}")
        else:
            cells.append("–")
        lines.append(f"| {k:,}, {n:,}, {a:g}, {b:g} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    return lines


def _errors(got: np.ndarray, exact: list, floor: float) -> str:
    info = np.finfo(np.float32)
    inside = [(g, w) for g, w in zip(got, exact, strict=True) if info.tiny < abs(w) < info.max]
    scale = [float(info.eps) * max(floor, abs(w)) for _, w in inside]
    errors = [float(abs(float(g) - w) / s) for (g, w), s in zip(inside, scale, strict=True)]
    return f"{np.percentile(errors, 99):.2g} / {max(errors):.2g}"
