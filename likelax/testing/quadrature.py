"""Densities on the line, integrated in NumPy's float64.

Panels grow geometrically away from the peak and shrink geometrically towards the ends of the
support, so that power-law tails and integrable singularities are smooth on each; where the Legendre
coefficients of a panel do not decay, it is halved.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from numpy.polynomial import legendre

_ORDER = 15
_NODES, _WEIGHTS = legendre.leggauss(_ORDER)
# Values at the nodes to Legendre coefficients: exact up to the order, by discrete orthogonality.
_FIT = (
    legendre.legvander(_NODES, _ORDER - 1) * _WEIGHTS[:, None] * (np.arange(_ORDER) + 0.5)[None, :]
).T
_RATIO, _STEPS = 4.0, 62
_ROUNDS, _MOST_PANELS = 48, 2000

LogDensity = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass
class Integrated:
    """The integral of one density, panel by panel.

    Attributes:
      edges: where panels meet, increasing, `(m + 1,)`.
      x, p: the nodes and the density there, `(m, 15)`.
      cumulative: the mass below each edge, `(m + 1,)`, not normalised.
      mass: all of it, what lies beyond the outermost edges included.
      error: an estimate of the error of `mass`.
      peak, width: where the density is highest, and over what distance it falls by a factor e.
      beyond: the mass below and above the outermost edges, and whether the support ends there.
      converges: whether that mass is finite.
      bad: a value at which log_prob is NaN, or None.
    """

    edges: np.ndarray
    x: np.ndarray
    p: np.ndarray
    cumulative: np.ndarray
    mass: float
    error: float
    peak: float
    width: float
    beyond: tuple[tuple[float, bool], tuple[float, bool]]
    converges: bool
    bad: float | None

    def __post_init__(self) -> None:
        self._coefficients = legendre.legint(self.p @ _FIT.T, lbnd=-1, axis=1)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """The integrated density below each of `x`, over the whole mass."""
        panel = np.clip(np.searchsorted(self.edges, x, side="right") - 1, 0, len(self.edges) - 2)
        low, high = self.edges[panel], self.edges[panel + 1]
        t = np.clip(2 * (x - low) / (high - low) - 1, -1, 1)
        inside = np.sum(legendre.legvander(t, _ORDER) * self._coefficients[panel], axis=-1)
        return np.clip((self.cumulative[panel] + inside * (high - low) / 2) / self.mass, 0, 1)

    def points(self, q: np.ndarray) -> np.ndarray:
        """Values near the quantiles `q`: exact at the edges of panels, straight lines between."""
        return np.interp(q, self.cumulative / self.mass, self.edges)

    def expect(self, values: np.ndarray) -> float:
        """The expectation of what has these values at `x`: infinite where the panels outwards hold
        ever more, NaN where they hold less and less but not yet little.
        """
        half = np.diff(self.edges) / 2
        with np.errstate(all="ignore"):
            terms = np.where(self.p > 0, self.p * values, 0)
        parts = terms @ _WEIGHTS * half / self.mass
        size = np.sum(np.abs(parts))
        rest = 0.0
        for (at, inner), (mass, ends) in zip(((0, 4), (-1, -5)), self.beyond, strict=True):
            if ends:
                rest += mass / self.mass * float(values[at, at])
            elif not np.isfinite(size) or abs(parts[at]) > 1e-6 * size:
                grows = not np.isfinite(size) or abs(parts[at]) > 0.95 * abs(parts[inner])
                return math.inf if grows else math.nan
        return float(np.sum(parts)) + rest


def integrate(
    log_density: LogDensity, lower: np.ndarray, upper: np.ndarray, candidates: np.ndarray
) -> list[Integrated | None]:
    """Integrates several densities at once, each call of `log_density` for all of them.

    Args:
      log_density: takes `(n, b)` values, column i for density i, to `(n, b)` log-densities.
      lower, upper: the ends of the supports, `(b,)`, infinite where there is none.
      candidates: values of which one should lie in the bulk, `(n, b)`.

    Returns:
      One `Integrated` each; None where no candidate has a finite log-density.
    """
    count = len(lower)
    peak, top = _peaks(log_density, lower, upper, candidates)
    found = np.isfinite(top)
    width = _widths(log_density, lower, upper, np.where(found, peak, 0.5), top)
    starts = [
        _edges(peak[i], width[i], lower[i], upper[i]) if found[i] else np.array([0.0, 1.0])
        for i in range(count)
    ]
    panels = [[(a, b) for a, b in zip(e[:-1], e[1:], strict=True)] for e in starts]
    kept: list[list[tuple[float, float, np.ndarray]]] = [[] for _ in range(count)]
    bad: list[float | None] = [None] * count
    for _ in range(_ROUNDS):
        ask = max(len(p) for p in panels)
        if ask == 0:
            break
        grid = np.full((ask, count, 2), np.nan)
        for i, todo in enumerate(panels):
            grid[: len(todo), i] = todo if todo else grid[:0, i]
            grid[len(todo) :, i] = starts[i][:2]
        low, high = grid[..., 0], grid[..., 1]
        half, mid = (high - low) / 2, low / 2 + high / 2
        x = mid[:, None] + half[:, None] * _NODES[None, :, None]
        log_p = log_density(x.reshape(-1, count)).reshape(x.shape)
        with np.errstate(over="ignore"):
            p = np.exp(log_p)
        for i, todo in enumerate(panels):
            mine = p[: len(todo), :, i]
            nan = np.isnan(mine)
            if nan.any():
                bad[i] = bad[i] if bad[i] is not None else float(x[: len(todo), :, i][nan][0])
                mine = np.where(nan, 0, mine)
            mine = np.minimum(mine, 1e300)
            with np.errstate(over="ignore", invalid="ignore"):
                panels[i] = _split(todo, mine, kept[i])
    # What has no finite sum overflows: that is what `converges` says.
    with np.errstate(over="ignore", invalid="ignore"):
        return [
            _sum_up(kept[i], peak[i], width[i], lower[i], upper[i], bad[i]) if found[i] else None
            for i in range(count)
        ]


def _peaks(
    log_density: LogDensity, lower: np.ndarray, upper: np.ndarray, candidates: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    spread = 10.0 ** np.arange(-12, 13, 0.5)
    grid = np.concatenate([-spread[::-1], [0.0], spread])[:, None]
    finite_low, finite_high = (
        np.where(np.isfinite(lower), lower, 0),
        np.where(np.isfinite(upper), upper, 0),
    )
    both = np.isfinite(lower) & np.isfinite(upper)
    inner = np.linspace(0.02, 0.98, 49)[:, None]
    spans = finite_low + inner * np.where(both, finite_high - finite_low, 1)
    tries = [candidates, grid + finite_low, finite_high - spread[:, None], spans]
    x = np.concatenate([np.broadcast_to(t, (len(t), len(lower))) for t in tries])
    x = np.where(np.isfinite(x) & (x > lower) & (x < upper), x, np.nan)
    inside = ~np.isnan(x)
    log_p = np.where(inside, log_density(np.where(inside, x, spans[24])), -np.inf)
    log_p = np.where(np.isfinite(log_p), log_p, -np.inf)
    best = np.argmax(log_p, axis=0)
    column = np.arange(len(lower))
    return x[best, column], log_p[best, column]


def _widths(
    log_density: LogDensity, lower: np.ndarray, upper: np.ndarray, peak: np.ndarray, top: np.ndarray
) -> np.ndarray:
    d = 10.0 ** np.arange(-16, 17, 0.125)[:, None] * np.maximum(np.abs(peak), 1e-6)
    widths = []
    for sign in (-1, 1):
        x = peak + sign * d
        inside = (x > lower) & (x < upper)
        log_p = np.where(inside, log_density(np.where(inside, x, peak)), -np.inf)
        low = ~(log_p > top - 1)
        first = np.argmax(low, axis=0)
        widths.append(np.where(low.any(axis=0), d[first, np.arange(d.shape[1])], d[-1]))
    return np.maximum(widths[0], widths[1])


def _edges(peak: float, width: float, lower: float, upper: float) -> np.ndarray:
    steps = width * _RATIO ** np.arange(-3, _STEPS)
    edges = [np.array([peak])]
    for sign, end in ((-1, lower), (1, upper)):
        if not np.isfinite(end):
            edges.append(peak + sign * steps)
            continue
        room = abs(end - peak)
        near = room * _RATIO ** -np.arange(1.0, _STEPS)
        near = near[near > 8 * np.finfo(float).eps * abs(end)]
        edges += [peak + sign * steps[steps < 0.7 * room], end - sign * near]
    out = np.unique(np.concatenate(edges))
    gap = np.diff(out) > 4 * np.finfo(float).eps * np.abs(out[1:])
    return out[np.concatenate([[True], gap])]


def _split(
    todo: list[tuple[float, float]],
    p: np.ndarray,
    kept: list[tuple[float, float, np.ndarray]],
) -> list[tuple[float, float]]:
    """Panels that are resolved go to `kept`; the halves of the others come back."""
    if not todo:
        return []
    low, high = np.array(todo).T
    half = (high - low) / 2
    coefficients = p @ _FIT.T
    error = half * np.sum(np.abs(coefficients[:, -3:]), axis=1)
    scale = sum(abs(h - a) * f.mean() for a, h, f in kept) + np.sum(2 * half * p.mean(axis=1))
    room = len(kept) + 2 * len(todo) < _MOST_PANELS
    rough = (error > 1e-11 * scale) & (half > 16 * np.finfo(float).eps * np.abs(low)) & room
    again = []
    for i, (a, b) in enumerate(todo):
        if rough[i]:
            middle = a / 2 + b / 2
            again += [(a, middle), (middle, b)]
        else:
            kept.append((a, b, p[i]))
    return again


def _sum_up(
    kept: list[tuple[float, float, np.ndarray]],
    peak: float,
    width: float,
    lower: float,
    upper: float,
    bad: float | None,
) -> Integrated:
    kept = sorted(kept, key=lambda panel: panel[0])
    low = np.array([k[0] for k in kept])
    high = np.array([k[1] for k in kept])
    p = np.stack([k[2] for k in kept])
    half = (high - low) / 2
    x = (low / 2 + high / 2)[:, None] + half[:, None] * _NODES
    parts = p @ _WEIGHTS * half
    error = float(np.sum(half * np.sum(np.abs((p @ _FIT.T)[:, -3:]), axis=1)))
    below, fine_below = _beyond(x[0], p[0], low[0], lower, peak)
    above, fine_above = _beyond(x[-1][::-1], p[-1][::-1], high[-1], upper, peak)
    cumulative = below + np.concatenate([[0.0], np.cumsum(parts)])
    return Integrated(
        edges=np.concatenate([low, high[-1:]]),
        x=x,
        p=p,
        cumulative=cumulative,
        mass=float(cumulative[-1] + above),
        error=error,
        peak=float(peak),
        width=float(width),
        beyond=((below, bool(np.isfinite(lower))), (above, bool(np.isfinite(upper)))),
        converges=fine_below and fine_above,
        bad=bad,
    )


def _beyond(
    x: np.ndarray, p: np.ndarray, edge: float, end: float, peak: float
) -> tuple[float, bool]:
    """The mass beyond the outermost edge, by the power law that the last panel shows, and whether
    it is finite.
    """
    if p[0] <= 0 or p[-1] <= 0:
        return 0.0, True
    finite = np.isfinite(end)
    origin = end if finite else peak
    distance = np.abs(x - origin)
    slope = np.log(p[0] / p[-1]) / np.log(distance[0] / distance[-1])
    power = slope + 1 if finite else -(slope + 1)
    if power < 1e-3:
        return 0.0, False
    return float(
        p[0] * (distance[0] / abs(edge - origin)) ** (-slope) * abs(edge - origin) / power
    ), True
