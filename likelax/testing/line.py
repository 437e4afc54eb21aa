"""Continuous distributions of one number, held against their own integrated density."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from likelax.testing.quadrature import Integrated, integrate
from likelax.testing.subject import Subject

Problems = list[str]

# Probabilities at which a cdf is looked at.
LEVELS = np.concatenate([[1e-5, 1e-4, 1e-3], np.linspace(0.01, 0.99, 43), [0.999, 0.9999, 0.99999]])
_CONSTANTS = {
    "2": 2.0,
    "4": 4.0,
    "sqrt(2)": math.sqrt(2),
    "pi": math.pi,
    "sqrt(pi)": math.sqrt(math.pi),
    "2 pi": 2 * math.pi,
    "sqrt(2 pi)": math.sqrt(2 * math.pi),
    "e": math.e,
}


def density_of(subject: Subject, samples: np.ndarray | None) -> list[Integrated | None]:
    """The density of each element, integrated over its support."""
    lower, upper = subject.bounds()
    candidates = [np.zeros((1, subject.elements))]
    if samples is not None:
        candidates.append(np.sort(samples[:512].astype(np.float64), axis=0))
    for leaf, info in zip(subject.leaves, subject.info, strict=True):
        if info.floating:
            flat = leaf.reshape(subject.elements, -1).astype(np.float64)[:, :16].T
            candidates += [flat, np.exp(np.clip(flat, -50, 50))]
    return integrate(subject.log_prob64, lower, upper, np.concatenate(candidates))


def check_mass(subject: Subject, parts: list[Integrated | None]) -> tuple[Problems, str]:
    """The density sums to 1."""
    lower, upper = subject.bounds()
    problems, worst = [], 0.0
    masses = [part.mass if part else math.nan for part in parts]
    for i, part in enumerate(parts):
        where = f"quadrature over [{lower[i]:.6g}, {upper[i]:.6g}] for {subject.label(i)}"
        if part is None:
            problems.append(
                f"log_prob is -inf or NaN wherever it was tried in the support ({where})"
            )
        elif part.bad is not None:
            problems.append(f"log_prob is NaN inside the support, at {part.bad:.6g} ({where})")
        elif not part.converges or not np.isfinite(part.mass):
            problems.append(
                f"the density has no finite sum ({where}): it does not fall off fast enough, or "
                "the support is declared too wide"
            )
        elif abs(part.mass - 1) > 1e-5 + min(10 * part.error, 1e-3):
            problems.append(
                f"the density sums to {part.mass:.6g} ({where}): {guess_factor(subject, masses)}"
            )
        else:
            worst = max(worst, abs(part.mass - 1))
    return problems, f"the density sums to 1 within {worst:.1e} (quadrature)"


def guess_factor(subject: Subject, masses: list[float]) -> str:
    """Which forgotten term would explain these masses."""
    mass = np.array(masses)
    good = np.isfinite(mass) & (mass > 0)
    powers: list[tuple[str, np.ndarray]] = [("", np.ones(len(mass)))]
    for leaf, info in zip(subject.leaves, subject.info, strict=True):
        if info.floating and leaf.shape == (subject.elements,):
            value = leaf.astype(np.float64)
            if info.name.startswith("log_"):
                value = np.exp(np.clip(value, -50, 50))
            if np.all(value > 0) and not np.allclose(value, 1):
                for k in (1, 2, -1, -2):
                    powers.append(
                        (
                            info.name.removeprefix("log_")
                            + ("" if abs(k) == 1 else "^2")
                            + ("/" if k < 0 else ""),
                            value**k,
                        )
                    )
    constants = (
        [("", 1.0)] + list(_CONSTANTS.items()) + [("/" + n, 1 / c) for n, c in _CONSTANTS.items()]
    )
    for text, power in powers:
        for constant, factor in constants:
            if (text or constant) and np.allclose(mass[good], (power * factor)[good], rtol=1e-3):
                if text and not constant:
                    name = f"1/{text[:-1]}" if text.endswith("/") else text
                    if "^2" in text:
                        return f"that is {name}: the sign of a log({text.rstrip('/')[:-2]}) term is wrong?"
                    return f"that is {name}: a log({text.rstrip('/')}) term is missing?"
                name = f"1/{constant[1:]}" if constant.startswith("/") else constant
                if text:
                    name += f" times {'1/' + text[:-1] if text.endswith('/') else text}"
                sense = "missing" if not constant.startswith("/") else "too many"
                return f"that is {name}: a factor of {constant.lstrip('/')} is {sense} in the normaliser?"
    return "a term of the normaliser is missing, doubled, or of the wrong sign?"


def check_samples(
    subject: Subject, parts: list[Integrated | None], samples: np.ndarray, level: float
) -> tuple[Problems, str]:
    """Kolmogorov-Smirnov against the integrated density; the DKW inequality gives the bound."""
    bound = math.sqrt(math.log(2 / level) / 2 / len(samples))
    inside = subject.inside(samples)
    problems, worst = [], 0.0
    for i, part in enumerate(parts):
        x = samples[:, i].astype(np.float64)
        if not np.isfinite(x).all():
            problems.append(f"samples of {subject.label(i)} hold {x[~np.isfinite(x)][0]}")
            continue
        if not inside[:, i].all():
            problems.append(
                f"{np.sum(~inside[:, i])} of {len(x)} samples of {subject.label(i)} are outside "
                f"the support, such as {x[~inside[:, i]][0]:.6g}"
            )
        if part is None or not part.converges:
            continue
        x = np.sort(x)
        f = part.cdf(x)
        # Values that float32 cannot tell apart share one step of the empirical cdf.
        top = np.searchsorted(x, x, side="right") / len(x)
        bottom = np.searchsorted(x, x, side="left") / len(x)
        ulp = np.spacing(np.abs(x).astype(np.float32)).astype(np.float64)
        low, high = part.cdf(x - ulp), part.cdf(x + ulp)
        distance = max(float(np.max(top - high)), float(np.max(low - bottom)))
        worst = max(worst, distance)
        if distance > bound:
            problems.append(
                f"samples of {subject.label(i)} do not follow log_prob: largest cdf difference "
                f"{distance:.3f} over {len(x)} samples, "
                f"at most {bound:.3f} by chance; {_explain(x, part, f)}"
            )
    return (
        problems,
        f"largest cdf difference {worst:.3f} over {len(samples)} samples, bound {bound:.3f}",
    )


def _explain(x: np.ndarray, part: Integrated, f: np.ndarray) -> str:
    quartiles = np.array([0.25, 0.5, 0.75])
    low, middle, high = np.quantile(x, quartiles)
    want_low, want_middle, want_high = part.points(quartiles)
    spread, want = high - low, want_high - want_low
    words = f"their middle half is [{low:.4g}, {high:.4g}] and the density's [{want_low:.4g}, {want_high:.4g}]"
    if abs(spread - want) > 0.1 * want:
        return (
            words + f", {spread / want:.3g} times as wide: variance or rate where scale is meant?"
        )
    if abs(middle - want_middle) > 0.1 * want:
        return words + ": the location is off"
    return words


def check_tails(
    subject: Subject, parts: list[Integrated | None]
) -> dict[str, tuple[Problems, str]]:
    """The cdf family against the integrated density, and cdf's derivative against the density."""
    good = [i for i, part in enumerate(parts) if part is not None and part.converges]
    x = np.zeros((len(LEVELS), subject.elements))
    truth = np.full((len(LEVELS), subject.elements), np.nan)
    for i in good:
        x[:, i] = np.float32(parts[i].points(LEVELS))  # type: ignore[union-attr]
        truth[:, i] = parts[i].cdf(x[:, i])  # type: ignore[union-attr]
    got = subject.tails(x)
    with np.errstate(divide="ignore"):
        wanted = {
            "cdf": truth,
            "survival": 1 - truth,
            "log_cdf": np.log(truth),
            "log_survival": np.log1p(-truth),
        }
    p = np.exp(got["log_prob"].astype(np.float64))
    # A value in float32 stands for a small interval; how much of the mass lies in it.
    blur = np.where(np.isfinite(p), p, 0) * np.abs(x) * 1e-6
    out: dict[str, tuple[Problems, str]] = {}
    for name, want in wanted.items():
        if name not in got:
            continue
        log = name.startswith("log")
        slack = 2e-5 + blur
        if log:
            with np.errstate(all="ignore"):
                slack = 1e-3 * np.abs(want) + 1e-5 + (1e-9 + blur) / np.exp(want)
        off = (np.abs(got[name] - want) > slack) | np.isnan(got[name])
        off &= ~np.isnan(want)
        problems = []
        derived = not subject.original._has(name)
        hint = f"; it follows from another method: define {name} if that one cancels"
        for n, i in _first_of(off):
            problems.append(
                f"{name}({x[n, i]:.6g}) is {got[name][n, i]:.6g}, the density of "
                f"{subject.label(i)} integrates to {want[n, i]:.6g}"
                + _confused(name, got[name], {**wanted, "prob": p})
                + (hint if derived else "")
            )
        worst = np.nanmax(np.where(np.isnan(want), 0, np.abs(got[name] - want)))
        out[name] = problems, f"within {worst:.1e} of the integrated density"
    if "slope" in got:
        dense = np.where(np.isfinite(p), p, 0)
        slack = 5e-3 * dense + 1e-4 * np.max(dense, axis=0)
        off = ((np.abs(got["slope"] - p) > slack) | np.isnan(got["slope"])) & ~np.isnan(truth)
        off &= np.isfinite(p)
        out["derivative of cdf"] = (
            [
                f"the derivative of cdf at {x[n, i]:.6g} is {got['slope'][n, i]:.6g}, the density "
                "of "
                f"{subject.label(i)} there {p[n, i]:.6g}"
                for n, i in _first_of(off)
            ],
            "equals the density",
        )
    return out


def _confused(name: str, got: np.ndarray, wanted: dict[str, np.ndarray]) -> str:
    for other, values in wanted.items():
        with np.errstate(invalid="ignore"):
            if other != name and np.nanmax(np.abs(got - values)) < 1e-3:
                return f": it returns {other}"
    return ""


def check_quantile(
    subject: Subject, parts: list[Integrated | None], quantile: np.ndarray
) -> tuple[Problems, str]:
    """The mass below quantile(q) is q: the inverse of the integrated density, from both sides."""
    problems, worst = [], 0.0
    for i, part in enumerate(parts):
        if part is None or not part.converges:
            continue
        x = quantile[:, i].astype(np.float64)
        if np.isnan(x).any():
            problems.append(f"quantile({LEVELS[np.isnan(x)][0]:.6g}) of {subject.label(i)} is NaN")
            continue
        ulp = 4 * np.spacing(np.abs(x).astype(np.float32)).astype(np.float64)
        low, high = part.cdf(x - ulp), part.cdf(x + ulp)
        # q itself is given in float32.
        slack = 1e-4 * np.minimum(LEVELS, 1 - LEVELS) + 1e-5
        off = (low > LEVELS + slack) | (high < LEVELS - slack)
        mass = part.cdf(x)
        worst = max(worst, float(np.max(np.abs(mass - LEVELS))))
        if off.any():
            n = int(np.argmax(off))
            hint = ""
            if np.max(np.abs(mass - (1 - LEVELS))) < 1e-2:
                hint = ": it is the quantile of 1 - q"
            problems.append(
                f"quantile({LEVELS[n]:.4g}) is {x[n]:.6g}, but {mass[n]:.4g} of the mass of "
                f"{subject.label(i)} lies below that{hint}"
            )
        elif np.any(np.diff(x) < 0):
            problems.append(f"quantile of {subject.label(i)} does not rise")
    return problems, f"inverts the integrated density, mass within {worst:.1e}"


def moments(parts: list[Integrated | None]) -> dict[str, np.ndarray]:
    """mean, variance and entropy by quadrature, NaN where there is none."""
    out: dict[str, list[float]] = {"mean": [], "variance": [], "entropy": []}
    for part in parts:
        if part is None or not part.converges:
            for values in out.values():
                values.append(math.nan)
            continue
        z = (part.x - part.peak) / part.width
        first = part.expect(z)
        out["mean"].append(part.peak + part.width * first)
        out["variance"].append(part.width**2 * part.expect((z - first) ** 2))
        with np.errstate(divide="ignore"):
            out["entropy"].append(part.expect(-np.log(np.where(part.p > 0, part.p, 1))))
    return {k: np.array(v) for k, v in out.items()}


def circular_moments(parts: list[Integrated | None]) -> dict[str, np.ndarray]:
    """The direction of E exp(ix), 1 less its length, and the entropy, by quadrature."""
    out = moments(parts)
    for i, part in enumerate(parts):
        if part is not None and part.converges:
            direction = complex(part.expect(np.cos(part.x)), part.expect(np.sin(part.x)))
            out["mean"][i], out["variance"][i] = np.angle(direction), 1 - abs(direction)
    return out


def divergence(subject: Subject, parts: list[Integrated | None], other: Any) -> np.ndarray:
    """KL from each element to the distribution with the leaves `other`, by quadrature."""
    rows = max(part.x.size for part in parts if part) if any(parts) else 1
    x = np.zeros((rows, subject.elements))
    for i, part in enumerate(parts):
        if part:
            x[:, i] = np.resize(part.x.ravel(), rows)
    log_q = subject.log_prob64(x, other)
    out = []
    for i, part in enumerate(parts):
        if part is None or not part.converges:
            out.append(math.nan)
            continue
        q = log_q[: part.x.size, i].reshape(part.x.shape)
        heavy = part.p > 0
        if np.any(heavy & (q == -np.inf)):
            out.append(math.inf)
            continue
        log_p = np.log(np.where(heavy, part.p, 1))
        out.append(part.expect(np.where(heavy, log_p - np.where(heavy, q, 0), 0)))
    return np.array(out)


def interior(parts: list[Integrated | None], x: np.ndarray) -> np.ndarray:
    """Values spread over the bulk and a little of the tails, `(8, elements)`; `x` where there is no
    density.
    """
    levels = np.array([2e-4, 0.013, 0.11, 0.31, 0.57, 0.83, 0.97, 0.9997])
    columns = [
        np.float32(part.points(levels))
        if part is not None and part.converges
        else x[: len(levels), i]
        for i, part in enumerate(parts)
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def _first_of(off: np.ndarray) -> list[tuple[int, int]]:
    """The first place in each column."""
    return [(int(np.argmax(off[:, i])), i) for i in range(off.shape[1]) if off[:, i].any()]
