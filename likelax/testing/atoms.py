"""Discrete distributions, held against the sum of their probabilities over the points of the
support.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np

from likelax import supports
from likelax.distributions.quantized import Grid
from likelax.testing.line import LEVELS, guess_factor
from likelax.testing.subject import TAILS, Subject

Problems = list[str]

_MOST_POINTS = 1 << 16


@dataclasses.dataclass
class Atoms:
    """The probabilities of the points of a support.

    Attributes:
      x: the points, the same for all elements, `(k, *event)`; numbers increase.
      p: float64 probabilities, `(k, elements)`; 0 where a point is not in an element's support.
      reached: whether the points go on until nothing of weight is left, for each element.
      bad: a point at which log_prob is NaN, for each element, or None.
    """

    x: np.ndarray
    p: np.ndarray
    reached: np.ndarray
    bad: list[Any]

    @property
    def mass(self) -> np.ndarray:
        """The sum of the probabilities, `(elements,)`."""
        return self.p.sum(axis=0)

    def moments(self) -> dict[str, np.ndarray]:
        """mean and variance, `(elements, *event)`, and entropy, of the normalised probabilities."""
        p = self.p / self.mass
        mean = np.tensordot(p.T, self.x, 1)
        spread = (self.x[:, None] - mean[None]) ** 2
        weights = p.reshape(p.shape + (1,) * (self.x.ndim - 1))
        entropy = -np.sum(p * np.log(np.where(p > 0, p, 1)), axis=0)
        return {"mean": mean, "variance": np.sum(weights * spread, axis=0), "entropy": entropy}

    def spread(self, elements: int) -> np.ndarray:
        """The points for every element, `(k, elements, *event)`."""
        return np.repeat(self.x[:, None], elements, axis=1)


def atoms_of(subject: Subject, samples: np.ndarray | None) -> Atoms | str:
    """All points that matter, with their probabilities; the reason where they cannot be listed."""
    found = _points(subject, samples)
    if isinstance(found, str):
        return found
    x, endless = found
    log_p = subject.log_prob64(np.repeat(x[:, None], subject.elements, axis=1))
    bad = [x[np.isnan(c)][0] if np.isnan(c).any() else None for c in log_p.T]
    p = np.exp(np.where(np.isnan(log_p), -np.inf, log_p))
    reached = np.ones(subject.elements, bool)
    if endless:
        # The ratio of the last probabilities bounds what a falling tail still holds.
        last, before = p[-1], p[-9]
        ratio = np.where(before > 0, (last / np.where(before > 0, before, 1)) ** 0.125, 0)
        left = np.where(ratio < 1, last / np.maximum(1 - ratio, 1e-12), np.inf)
        reached = (left < 1e-7) | (last == 0)
    return Atoms(x, p, reached, bad)


def _points(subject: Subject, samples: np.ndarray | None) -> tuple[np.ndarray, bool] | str:
    support = subject.support
    size = subject.event_shape[-1] if subject.event_shape else 1
    if isinstance(support, supports.OneHot):
        return np.eye(size), False
    if isinstance(support, supports.Permutation) and size <= 6:
        return np.array(list(itertools.permutations(range(size)))), False
    if isinstance(support, supports.Elementwise):
        low, high = (
            np.ravel(np.asarray(b, float)) if b is not None else None
            for b in (getattr(support.base, "lower", None), getattr(support.base, "upper", None))
        )
        if low is None or high is None or len(subject.event_shape) != 1:
            return f"the points of {support} cannot be listed; check the base by itself"
        choices = np.arange(low.min(), high.max() + 1)
        if len(choices) ** size > 4096:
            return (
                f"{len(choices)}^{size} points are too many to sum over; check the base by itself"
            )
        return np.array(list(itertools.product(choices, repeat=size))), False
    if subject.event_shape:
        return f"the points of {support} cannot be listed"
    if isinstance(support, Grid):
        return support.lower + support.step * np.arange(support.bins, dtype=np.float64), False
    lower, upper = subject.bounds()
    if np.array_equal(lower, upper):
        return np.unique(lower), False
    finite = samples[np.isfinite(samples)] if samples is not None else np.zeros(0)
    seen = (finite.min(), finite.max()) if finite.size else (0.0, 100.0)
    span = max(64.0, 3 * (seen[1] - seen[0]))
    start = lower.min() if lower.min() > seen[0] - _MOST_POINTS / 2 else seen[0] - span
    stop = min(upper.max(), max(seen[1], start) + span)
    stop = min(stop, start + _MOST_POINTS)
    return np.arange(np.floor(start), np.floor(stop) + 1), bool(stop < upper.max())


def check_mass(subject: Subject, atoms: Atoms) -> tuple[Problems, str]:
    """The probabilities sum to 1."""
    problems = []
    where = f"summed over {len(atoms.x)} points of the support"
    for i, mass in enumerate(atoms.mass):
        if atoms.bad[i] is not None:
            problems.append(
                f"log_prob of {subject.label(i)} is NaN inside the support, at {atoms.bad[i]}"
            )
        elif mass > 1 + 1e-5 or (mass < 1 - 1e-5 and atoms.reached[i]):
            problems.append(
                f"the probabilities of {subject.label(i)} sum to {mass:.6g} ({where}): "
                f"{guess_factor(subject, list(atoms.mass))}"
            )
        elif mass < 1 - 1e-5 and not atoms.reached[i]:
            problems.append(
                f"the probabilities of {subject.label(i)} sum to {mass:.6g} ({where}) and do not "
                "fall off to 0 there"
            )
    worst = np.max(np.abs(atoms.mass - 1))
    return problems, f"the probabilities sum to 1 within {worst:.1e} ({len(atoms.x)} points)"


def check_samples(
    subject: Subject, atoms: Atoms, samples: np.ndarray, z: float
) -> tuple[Problems, str]:
    """Pearson's chi-squared over points that are expected at least 10 times, the others pooled."""
    problems, worst = [], 0.0
    inside = subject.inside(samples)
    count = len(samples)
    axes = tuple(range(2, atoms.x.ndim + 1))
    for i in range(subject.elements):
        x = samples[:, i].astype(np.float64)
        if not inside[:, i].all():
            problems.append(
                f"{np.sum(~inside[:, i])} of {count} samples of {subject.label(i)} are outside the "
                f"support, such as {x[~inside[:, i]][0]}"
            )
            continue
        if not axes:
            at = np.clip(np.searchsorted(atoms.x, x), 0, len(atoms.x) - 1)
            known = np.isclose(atoms.x[at], x, rtol=1e-6)
        else:
            same = np.all(np.isclose(x[:, None], atoms.x[None]), axis=axes)
            at, known = np.argmax(same, axis=1), same.any(axis=1)
        p = atoms.p[:, i] / atoms.p[:, i].sum()
        seen = np.bincount(at[known], minlength=len(p))
        impossible = (seen > 0) & (p == 0)
        if impossible.any():
            problems.append(
                f"samples of {subject.label(i)} hold {atoms.x[impossible][0]}, whose probability "
                "is 0"
            )
            continue
        groups = _pool(p * count, 10.0)
        expected = np.bincount(groups, p * count)
        observed = np.bincount(groups, seen)
        freedom = max(len(expected) - 1, 1)
        statistic = float(np.sum((observed - expected) ** 2 / np.maximum(expected, 1e-12)))
        statistic += float(np.sum(~known)) ** 2
        # Wilson and Hilferty's cube root, with room for the skewness of small counts.
        bound = 1.2 * freedom * (1 - 2 / (9 * freedom) + z * math.sqrt(2 / (9 * freedom))) ** 3
        worst = max(worst, statistic / bound)
        if statistic > bound:
            off = int(np.argmax(np.abs(observed - expected) / np.sqrt(np.maximum(expected, 1))))
            first = atoms.x[np.argmax(groups == off)]
            problems.append(
                f"samples of {subject.label(i)} do not follow log_prob: chi-squared "
                f"{statistic:.4g} for {freedom} degrees of freedom, at most "
                f"{bound:.4g} by chance; around {first} {observed[off]:.0f} of {count} samples "
                f"where {expected[off]:.1f} are expected"
            )
    return problems, f"chi-squared at most {worst:.2f} of its bound, {count} samples"


def _pool(expected: np.ndarray, least: float) -> np.ndarray:
    """Groups of neighbours that are expected at least so often; a short rest joins the last."""
    groups, held, at = np.zeros(len(expected), int), 0.0, 0
    for i, e in enumerate(expected):
        groups[i] = at
        held += e
        if held >= least:
            at, held = at + 1, 0.0
    groups[groups == at] = max(at - 1, 0)
    return groups


def check_tails(subject: Subject, atoms: Atoms) -> dict[str, tuple[Problems, str]]:
    """The cdf family against the cumulative sum, at the points and between them."""
    keep = np.unique(np.linspace(0, min(len(atoms.x) - 1, 400), 60).astype(int))
    low = np.cumsum(atoms.p, axis=0)[keep]
    high = np.cumsum(atoms.p[::-1], axis=0)[::-1][keep] - atoms.p[keep]
    at = np.repeat(atoms.x[keep][:, None], subject.elements, axis=1)
    gap = np.min(np.diff(atoms.x)) if len(atoms.x) > 1 else 1.0
    got = subject.tails(at)
    between = subject.tails(at + 0.4 * gap) if subject.takes_floats else got
    out: dict[str, tuple[Problems, str]] = {}
    with np.errstate(divide="ignore"):
        wanted = {
            "cdf": low,
            "survival": high,
            "log_cdf": np.log(low),
            "log_survival": np.log(high),
        }
    for name in TAILS:
        if name not in got:
            continue
        want = wanted[name]
        with np.errstate(all="ignore"):
            log = name.startswith("log")
            slack = 1e-3 * np.abs(want) + 1e-5 + 1e-7 / np.exp(want) if log else 2e-5
            off = (np.abs(got[name] - want) > slack) | np.isnan(got[name])
            # Where the sum itself has no digits left, only its size is known.
            off &= ~(log & (np.exp(want) < 1e-7) & (np.exp(got[name]) < 1e-6))
            moved = (np.abs(between[name] - got[name]) > 2e-5 + 1e-4 * np.abs(got[name])) & ~off
        problems = []
        for i in range(subject.elements):
            if off[:, i].any():
                n = int(np.argmax(off[:, i]))
                problems.append(
                    f"{name}({at[n, i]:.6g}) is {got[name][n, i]:.6g}, the probabilities of "
                    f"{subject.label(i)} sum to {want[n, i]:.6g}"
                    + _confused(name, got[name][:, i], {k: w[:, i] for k, w in wanted.items()})
                )
            elif moved[:, i].any():
                n = int(np.argmax(moved[:, i]))
                problems.append(
                    f"{name} of {subject.label(i)} moves between the points: {got[name][n, i]:.6g} "
                    f"at {at[n, i]:.6g}, "
                    f"{between[name][n, i]:.6g} at {at[n, i] + 0.4 * gap:.6g}"
                )
        out[name] = problems, "equals the cumulative sum"
    return out


def _confused(name: str, got: np.ndarray, wanted: dict[str, np.ndarray]) -> str:
    for other, values in wanted.items():
        with np.errstate(invalid="ignore"):
            if other != name and np.nanmax(np.abs(got - values)) < 1e-3:
                return f": it returns {other}"
    return ""


def check_quantile(subject: Subject, atoms: Atoms, quantile: np.ndarray) -> tuple[Problems, str]:
    """quantile(q) is the smallest point whose cumulative sum is at least q."""
    problems = []
    sums = np.cumsum(atoms.p / atoms.mass, axis=0)
    for i in range(subject.elements):
        last = len(atoms.x) - 1
        # Where q is as good as equal to a step, rounding decides.
        least = atoms.x[np.minimum(np.searchsorted(sums[:, i], LEVELS - 1e-5), last)]
        most = atoms.x[np.minimum(np.searchsorted(sums[:, i], LEVELS + 1e-5), last)]
        got = quantile[:, i].astype(np.float64)
        slack = 1e-5 * np.abs(least)
        off = (got < least - slack) | (got > most + slack) | np.isnan(got)
        if off.any():
            n = int(np.argmax(off))
            problems.append(
                f"quantile({LEVELS[n]:.4g}) of {subject.label(i)} is {got[n]:.6g}, the smallest "
                "point whose cumulative sum reaches it "
                f"is {least[n]:.6g}"
            )
    return problems, "the smallest point whose cumulative sum reaches q"


def interior(atoms: Atoms) -> np.ndarray:
    """Eight points with weight, for every element, `(8, elements, *event)`."""
    columns = []
    for i in range(atoms.p.shape[1]):
        alive = np.flatnonzero(atoms.p[:, i] > 1e-8 * atoms.p[:, i].max())
        sums = np.cumsum(atoms.p[alive, i]) / atoms.p[alive, i].sum()
        levels = np.array([0.0, 0.02, 0.15, 0.35, 0.6, 0.85, 0.98, 1.0])
        at = np.minimum(np.searchsorted(sums, levels), len(alive) - 1)
        columns.append(atoms.x[alive[at]])
    return np.stack(columns, axis=1)
