"""Continuous distributions over vectors, held against importance sampling in unconstrained
coordinates.

A proposal with tails as thick as a Student t's is laid over the samples. Weighted by `density /
proposal` its draws give the density's own sum and moments, with error bars, whatever the sampler
does.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from likelax import supports
from likelax.testing.subject import Subject

Problems = list[str]

_DRAWS = 16384
_FREEDOM = 5.0


@dataclasses.dataclass
class Weighted:
    """Draws of the proposal with their weights, for one element.

    Attributes:
      u: unconstrained coordinates, `(n, d)`.
      weight: density over proposal, `(n,)`; its mean is the density's sum.
      log_p: the log-density, `(n,)`.
    """

    u: np.ndarray
    weight: np.ndarray
    log_p: np.ndarray

    @property
    def mass(self) -> tuple[float, float]:
        """The sum of the density, and its standard error."""
        return float(self.weight.mean()), float(self.weight.std() / math.sqrt(len(self.weight)))

    @property
    def effective(self) -> float:
        """How many unweighted draws they are worth."""
        return float(self.weight.sum() ** 2 / np.sum(self.weight**2))

    def expect(self, f: np.ndarray) -> tuple[float, float]:
        """The expectation of values `(n,)` under the normalised density, and its standard error."""
        total = self.weight.sum()
        mean = float(np.sum(self.weight * f) / total)
        return mean, float(np.sqrt(np.sum((self.weight * (f - mean)) ** 2)) / total)


def free(support: object, x: np.ndarray) -> tuple[np.ndarray, np.ndarray] | str:
    """Unconstrained coordinates of vectors `(..., k)` and log |det dx/du|; the reason where there
    are none.
    """
    if isinstance(support, supports.Real):
        return x, np.zeros(x.shape[:-1])
    if isinstance(support, supports.Simplex):
        return np.log(x[..., :-1]) - np.log(x[..., -1:]), np.sum(np.log(x), axis=-1)
    if isinstance(support, supports.Ordered):
        step = np.diff(x, axis=-1)
        return np.concatenate([x[..., :1], np.log(step)], -1), np.sum(np.log(step), axis=-1)
    if isinstance(support, supports.Elementwise) and isinstance(support.base, supports.Interval):
        low, high = _ends(support.base, x)
        with np.errstate(invalid="ignore", divide="ignore"):
            below, above = np.log(x - low), np.log(high - x)
            both = np.isfinite(low) & np.isfinite(high)
            u = np.where(
                both,
                below - above,
                np.where(np.isfinite(low), below, np.where(np.isfinite(high), -above, x)),
            )
            span = np.log(np.where(both, high - low, 1))
            det = np.where(
                both,
                below + above - span,
                np.where(np.isfinite(low), below, np.where(np.isfinite(high), above, 0)),
            )
        return u, np.sum(det, axis=-1)
    return f"there are no free coordinates for values that are {support}"


def _bound(support: object, u: np.ndarray) -> np.ndarray:
    """The inverse of `free`."""
    if isinstance(support, supports.Real):
        return u
    if isinstance(support, supports.Simplex):
        full = np.concatenate([u, np.zeros((*u.shape[:-1], 1))], -1)
        full = np.exp(full - full.max(axis=-1, keepdims=True))
        return full / full.sum(axis=-1, keepdims=True)
    if isinstance(support, supports.Ordered):
        steps = np.concatenate([u[..., :1], np.exp(u[..., 1:])], -1)
        return np.cumsum(steps, axis=-1)
    assert isinstance(support, supports.Elementwise)
    low, high = _ends(support.base, u)
    with np.errstate(all="ignore"):
        both = np.isfinite(low) & np.isfinite(high)
        middle = low + (high - low) / (1 + np.exp(-u))
        return np.where(
            both,
            middle,
            np.where(
                np.isfinite(low), low + np.exp(u), np.where(np.isfinite(high), high - np.exp(-u), u)
            ),
        )


def _ends(support: object, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = getattr(support, "lower", None), getattr(support, "upper", None)
    return (
        np.broadcast_to(np.asarray(-np.inf if low is None else low, np.float64), x.shape),
        np.broadcast_to(np.asarray(np.inf if high is None else high, np.float64), x.shape),
    )


def weigh(subject: Subject, samples: np.ndarray) -> list[Weighted] | str:
    """Importance sampling of every element with a proposal fitted to its samples."""
    random = np.random.default_rng(20240229)
    coordinates = free(subject.support, samples.astype(np.float64))
    if isinstance(coordinates, str):
        return coordinates
    u = coordinates[0]
    dims = u.shape[-1]
    noise = random.standard_normal((_DRAWS, 1, dims))
    noise = noise * np.sqrt(_FREEDOM / random.chisquare(_FREEDOM, (_DRAWS, 1, 1)))
    places, factors = [], []
    for i in range(subject.elements):
        ui = u[np.isfinite(u[:, i]).all(axis=-1), i]
        if len(ui) < 8 * dims:
            return "too few finite samples to fit a proposal to"
        # The middle half says the spread even where there are outliers.
        middle = np.median(ui, axis=0)
        spread = np.maximum((np.quantile(ui, 0.75, 0) - np.quantile(ui, 0.25, 0)) / 1.35, 1e-30)
        z = np.clip((ui - middle) / spread, -4, 4)
        covariance = np.cov(z.T).reshape(dims, dims) + 1e-6 * np.eye(dims)
        places.append(middle)
        factors.append(spread[:, None] * np.linalg.cholesky(1.2 * covariance))
    place, factor = np.stack(places), np.stack(factors)
    v = place + np.einsum("eij,nej->nei", factor, np.repeat(noise, subject.elements, 1))
    x = _bound(subject.support, v)
    log_p = subject.log_prob64(x)
    # Rounded to the edge in float64, a draw has no coordinates: it weighs nothing.
    with np.errstate(all="ignore"):
        log_det = free(subject.support, x)[1]
    square = np.sum(noise**2, axis=-1)
    n = _FREEDOM
    constant = math.lgamma((n + dims) / 2) - math.lgamma(n / 2) - dims / 2 * math.log(n * math.pi)
    log_q = constant - (n + dims) / 2 * np.log1p(square / n)
    log_q = log_q - np.log(np.abs(np.diagonal(factor, axis1=1, axis2=2))).sum(axis=-1)
    with np.errstate(all="ignore"):
        weight = np.exp(log_p + log_det - log_q)
    weight = np.where(np.isfinite(log_det) | np.isnan(log_p), weight, 0)
    return [Weighted(v[:, i], weight[:, i], log_p[:, i]) for i in range(subject.elements)]


def check_mass(subject: Subject, weighted: list[Weighted], z: float) -> tuple[Problems, str]:
    """The density sums to 1 within the error of importance sampling."""
    problems, words = [], []
    for i, each in enumerate(weighted):
        mass, error = each.mass
        if math.isnan(mass):
            problems.append(f"log_prob of {subject.label(i)} is NaN inside the support")
        elif abs(mass - 1) > z * error + 1e-4:
            problems.append(
                f"the density of {subject.label(i)} sums to {mass:.4g} +- {error:.2g} (importance "
                "sampling): "
                "a term of the normaliser or of a log-determinant is missing, doubled, or of the "
                "wrong sign?"
            )
        words.append(f"{mass:.4f} +- {error:.4f}")
    return problems, f"the density sums to {', '.join(words)} (importance sampling)"


def check_samples(
    subject: Subject, weighted: list[Weighted], samples: np.ndarray, z: float
) -> tuple[Problems, str]:
    """First and second moments of the free coordinates, and the mean log-density, of samples
    against density.
    """
    problems = []
    inside = subject.inside(samples)
    coordinates = free(subject.support, samples.astype(np.float64))
    assert not isinstance(coordinates, str)
    log_p = subject.log_prob(samples)
    worst = 0.0
    for i, each in enumerate(weighted):
        if not inside[:, i].all():
            problems.append(
                f"{np.sum(~inside[:, i])} of {len(samples)} samples of {subject.label(i)} are "
                "outside the support, such as "
                f"{samples[~inside[:, i], i][0]}"
            )
            continue
        if not each.effective > 200:
            continue
        u = coordinates[0][:, i]
        dims = u.shape[-1]
        center = np.median(u, axis=0)
        spread = np.quantile(u, 0.75, axis=0) - np.quantile(u, 0.25, axis=0)
        # Bounded functions: their error bars are good whatever the tails are.
        own, other = np.tanh((u - center) / spread), np.tanh((each.u - center) / spread)
        tests = [(f"coordinate {k}", own[:, k], other[:, k]) for k in range(dims)]
        tests += [
            (f"the square of coordinate {k}", own[:, k] ** 2, other[:, k] ** 2) for k in range(dims)
        ]
        tests += [
            (
                f"the product of coordinates {j} and {k}",
                own[:, j] * own[:, k],
                other[:, j] * other[:, k],
            )
            for j in range(dims)
            for k in range(j)
        ]
        level = np.median(log_p[:, i])
        tests.append(("log_prob", np.tanh(log_p[:, i] - level), np.tanh(each.log_p - level)))
        for what, mine, theirs in tests:
            theirs = np.where(np.isfinite(theirs), theirs, 0)
            want, error = each.expect(theirs)
            total = math.hypot(error, mine.std() / math.sqrt(len(mine)))
            worst = max(worst, abs(mine.mean() - want) / max(total, 1e-12))
            if abs(mine.mean() - want) > z * total + 1e-4:
                problems.append(
                    f"samples of {subject.label(i)} do not follow log_prob: {what} (squashed) has "
                    f"mean {mine.mean():.4g} over the samples, "
                    f"{want:.4g} under the density, {abs(mine.mean() - want) / total:.0f} standard "
                    "errors apart"
                )
                break
    return problems, f"moments of samples and density at most {worst:.1f} standard errors apart"
