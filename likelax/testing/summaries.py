"""mean, variance, mode, entropy and divergences against the density, or against samples with error
bars.
"""

from __future__ import annotations

import math

import numpy as np

from likelax.testing.atoms import Atoms
from likelax.testing.subject import Subject

Problems = list[str]


def check_moments(
    subject: Subject, got: dict[str, np.ndarray], truth: dict[str, np.ndarray]
) -> dict[str, tuple[Problems, str]]:
    """mean, variance and entropy against those of the density, in the precision of float32.

    A truth of NaN says nothing; one that is infinite says that there is no such moment.
    """
    out: dict[str, tuple[Problems, str]] = {}
    with np.errstate(invalid="ignore"):
        spread = np.sqrt(truth["variance"])
        spread = np.where(np.isfinite(spread), spread, 0)
    for name in ("mean", "variance", "entropy"):
        if name not in got:
            continue
        value, want = got[name].astype(np.float64), truth[name]
        problems = []
        with np.errstate(invalid="ignore"):
            if name == "mean":
                slack = 2e-4 * spread + 1e-5 * np.abs(want)
            elif name == "variance":
                slack = 1e-3 * np.abs(want) + 1e-5 * np.abs(truth["mean"] * spread)
            else:
                slack = 2e-4 * (1 + np.abs(want))
            off = np.isfinite(want) & ~(np.abs(value - want) <= slack)
            endless = np.isinf(want) & np.isfinite(value)
        where = np.argwhere(off | endless)
        for at in where[:1]:
            place = tuple(at)
            if endless[place]:
                text = f"but the density has no finite {name}"
            else:
                text = f"but that of the density is {want[place]:.6g}" + _ratio(
                    value[place], want[place]
                )
            problems.append(
                f"{name}() of {subject.label(int(place[0]))} is {value[place]:.6g}, {text}"
            )
        known = np.isfinite(want).sum()
        out[name] = problems, f"that of the density, for {known} of {want.size}"
    return out


def _ratio(value: float, want: float) -> str:
    if not np.isfinite(value) or want == 0 or value == 0:
        return ""
    if np.isclose(value, -want, rtol=1e-3):
        return ": the sign is wrong"
    if want > 0 and np.isclose(value, math.sqrt(want), rtol=1e-3):
        return ": it is its square root"
    if np.isclose(value, want**2, rtol=1e-3):
        return ": it is its square"
    return f", {value / want:.4g} times"


def check_moments_by_samples(
    subject: Subject,
    got: dict[str, np.ndarray],
    samples: np.ndarray,
    log_prob: np.ndarray,
    z: float,
) -> dict[str, tuple[Problems, str]]:
    """The same where the density could not be integrated: against samples, within z standard
    errors.
    """
    x = samples.astype(np.float64)
    root = math.sqrt(len(x))
    spread = (x - x.mean(axis=0)) ** 2
    estimates = {
        "mean": (x.mean(axis=0), x.std(axis=0) / root),
        "variance": (spread.mean(axis=0), spread.std(axis=0) / root),
        "entropy": (-log_prob.mean(axis=0), log_prob.std(axis=0) / root),
    }
    out: dict[str, tuple[Problems, str]] = {}
    for name, (want, error) in estimates.items():
        if name not in got:
            continue
        value = got[name].astype(np.float64)
        with np.errstate(invalid="ignore"):
            off = np.isfinite(value) & ~(
                np.abs(value - want) <= z * error + 1e-4 * (np.abs(want) + error * root) + 1e-6
            )
        problems = [
            f"{name}() of {subject.label(int(at[0]))} is {value[tuple(at)]:.6g}, but over {len(x)} "
            "samples it is "
            f"{want[tuple(at)]:.6g} +- {error[tuple(at)]:.2g}"
            + _ratio(value[tuple(at)], want[tuple(at)])
            for at in np.argwhere(off)[:1]
        ]
        out[name] = problems, f"within {z:.1f} standard errors of {len(x)} samples"
    return out


def check_stddev(subject: Subject, got: dict[str, np.ndarray]) -> tuple[Problems, str]:
    """stddev is the square root of the variance."""
    square, variance = got["stddev"].astype(np.float64) ** 2, got["variance"].astype(np.float64)
    with np.errstate(invalid="ignore"):
        off = np.isfinite(variance) & ~(np.abs(square - variance) <= 1e-4 * variance)
    problems = [
        f"stddev() of {subject.label(int(at[0]))} is {got['stddev'][tuple(at)]:.6g}, and variance() "
        f"{variance[tuple(at)]:.6g} is not its square"
        for at in np.argwhere(off)[:1]
    ]
    return problems, "the square root of the variance"


def check_mode(
    subject: Subject, mode: np.ndarray, others: np.ndarray
) -> tuple[Problems, str] | str:
    """No sample, point of the grid or neighbour has a higher log_prob than the mode."""
    m = mode.astype(np.float64)
    finite = np.isfinite(m).reshape(subject.elements, -1).all(axis=-1)
    if not finite.any():
        return "mode() is not finite: there is none"
    like = m.reshape(subject.elements, *subject.event_shape)
    rows = [like]
    if not subject.discrete:
        # At an open end of the support the density is that just beside it.
        rows += [like + 1e-6 * (others[n] - like) for n in (0, len(others) // 2)]
    own = subject.log_prob(np.where(np.isfinite(np.stack(rows)), np.stack(rows), 0))
    own = np.max(np.where(np.isnan(own), -np.inf, own), axis=0)
    tries = [others]
    if not subject.event_shape:
        step = 1.0 if subject.discrete else 0.03 * np.std(others, axis=0)
        tries.append(np.stack([like + step, like - step]))
    x = np.where(np.isfinite(np.concatenate(tries)), np.concatenate(tries), 0)
    theirs = subject.log_prob(x)
    theirs = np.where(np.isnan(theirs), -np.inf, theirs)
    best = np.argmax(theirs, axis=0)
    problems = []
    for i in range(subject.elements):
        top = theirs[best[i], i]
        if finite[i] and not own[i] >= top - 1e-4 * (1 + abs(top)):  # type: ignore[index]
            point = np.ravel(x[best[i], i])
            problems.append(
                f"mode() of {subject.label(i)} is {np.ravel(m[i])[:4]} with log_prob {own[i]:.6g}, "
                f"but at {point[:4]} it is {top:.6g}"
            )
    return problems[:1], f"the highest log_prob of {len(x)} values"


def check_divergence(
    subject: Subject, got: dict[str, np.ndarray], want: np.ndarray, error: np.ndarray
) -> tuple[Problems, str]:
    """KL to itself is 0, and to another distribution of the family the expectation of the
    log-ratio.

    Args:
      want: that expectation, `(elements,)`; NaN where it is not known.
      error: how far off it may be.
    """
    problems = []
    same = got["kl_same"].astype(np.float64)
    for i in range(subject.elements):
        if not abs(same[i]) <= 1e-5:
            problems.append(f"KL of {subject.label(i)} to itself is {same[i]:.6g}, not 0")
    if "kl_other" in got and not problems:
        value = got["kl_other"].astype(np.float64)
        with np.errstate(invalid="ignore"):
            off = ~np.isnan(want) & ~(np.abs(value - want) <= error + 2e-3 * np.abs(want) + 1e-5)
            # NaN says that it is not known for this pair, as where two counts of trials differ.
            off &= (value != want) & ~np.isnan(value)
        for i in map(int, np.flatnonzero(off)[:1]):
            problems.append(
                f"KL of {subject.label(i)} to the one with parameters a sixteenth larger is "
                f"{value[i]:.6g}, the expectation of the log-ratio "
                f"{want[i]:.6g}"
            )
    if "kl_other" not in got or np.isnan(got["kl_other"]).all():
        return problems, "0 to itself, not known to another"
    return problems, "0 to itself, the expectation of the log-ratio to another"


def divergence_of_atoms(subject: Subject, atoms: Atoms, other: list[np.ndarray]) -> np.ndarray:
    """KL to the distribution with the leaves `other`, by summation."""
    log_q = subject.log_prob64(atoms.spread(subject.elements), other)
    p = atoms.p / atoms.mass
    alive = p > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = np.where(alive, p * (np.log(np.where(alive, p, 1)) - log_q), 0)
    return terms.sum(axis=0)
