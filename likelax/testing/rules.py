"""Rules that hold for every distribution: gradients, precision, outside the support, NaN, keys,
summaries.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from likelax import supports
from likelax.distributions.quantized import Grid
from likelax.testing.subject import Subject

Problems = list[str]

_EPS = float(np.finfo(np.float32).eps)


def check_gradients(subject: Subject, x: np.ndarray) -> dict[str, tuple[Problems, str]]:
    """float32 against float64, autodiff against finite differences, in the value and in every
    parameter.

    Args:
      x: eight values inside the support, `(8, elements, *event)`.
    """
    fine, exact = subject.gradients(x), subject.gradients64(x)
    out: dict[str, tuple[Problems, str]] = {}
    lp32, lp64 = fine["log_prob"], exact["log_prob"].astype(np.float64)
    wide = exact["log_prob"].dtype == np.float64
    # How far log_prob moves when the value or a parameter moves by itself.
    moves = 1 + np.abs(lp64)
    for leaf, g in zip(subject.leaves, exact["leaves"], strict=True):
        if g is not None:
            moves = moves + np.abs(g * leaf.astype(np.float64)).reshape(*lp64.shape, -1).sum(-1)
    if exact["value"] is not None:
        moves = moves + np.abs(exact["value"] * x).reshape(*lp64.shape, -1).sum(-1)
    error = np.abs(lp32 - lp64)
    off = ~(error <= 512 * _EPS * moves) & (lp32 != lp64)
    problems = [
        f"log_prob({_show(x[n, i])}) of {subject.label(i)} is {lp32[n, i]:.8g} in float32 and "
        f"{lp64[n, i]:.8g} in float64: digits are lost"
        for n, i in _first(off)
    ]
    with np.errstate(invalid="ignore"):
        worst = np.max(np.nan_to_num(error / moves)) / _EPS
    out["precision"] = problems, f"float32 within {worst:.1f} eps of float64"
    if fine["value"] is not None and not subject.discrete:
        difference, known = _slope_in_value(subject, x, exact["value"], wide)
        out["gradient in value"] = _judge(
            subject, x, "the value", fine["value"], exact["value"], difference, known
        )
    for at, info in enumerate(subject.info):
        if not info.varies:
            continue
        difference, along, known = _slope_in_leaf(subject, x, at, exact["leaves"][at], wide)
        name = f"gradient in {info.name}"
        out[name] = _judge(
            subject, x, info.name, fine["leaves"][at], exact["leaves"][at], difference, known, along
        )
    return out


def _slope_in_value(
    subject: Subject, x: np.ndarray, g: np.ndarray, wide: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Central differences along a direction of ones, and where they can be trusted."""
    along = _flat(g).sum(-1)
    size = np.maximum(np.abs(along), np.sqrt(np.mean(along**2, axis=0)))
    spread = np.ptp(_flat(x)[..., 0], axis=0)
    spread = np.where(spread > 0, spread, np.maximum(np.max(np.abs(x)), 1))
    with np.errstate(all="ignore"):
        h = np.where(size > 1e-6 / spread, 1e-5 / size, 1e-5 * spread)
        h = np.maximum(h, 1e-9 * np.max(np.abs(_flat(x)), axis=-1))
    step = h.reshape(h.shape + (1,) * (x.ndim - 2))
    up, down = x + step, x - step
    high, low = subject.log_prob64(up), subject.log_prob64(down)
    moved = (_flat(up) - _flat(down))[..., 0]
    with np.errstate(invalid="ignore"):
        slope = (high - low) / moved
    free = wide and not isinstance(subject.support, supports.Simplex)
    return slope, np.isfinite(slope) & np.isfinite(along) & free


def _slope_in_leaf(
    subject: Subject, x: np.ndarray, at: int, g: np.ndarray, wide: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Central differences along one direction in a leaf, autodiff's along the same, and where they
    can be trusted.
    """
    leaf, info = subject.wide[at], subject.info[at]
    support = info.param.support if info.param else None
    free = support is None or support.is_everything
    signs = np.where(np.arange(leaf[0].size) % 3 == 1, -0.7, 1.0).reshape(leaf[0].shape)
    direction = signs * np.where(leaf != 0, np.abs(leaf), 1.0 if free else 0.0)
    along = _flat(g * direction).sum(-1)
    h = 1e-5 / np.maximum(np.sqrt(np.nanmean(along**2, axis=0)), 1)
    h = np.where(np.isfinite(h), h, 1e-5).reshape(h.shape + (1,) * (leaf.ndim - 1))
    values = []
    for sign in (1, -1):
        leaves = subject.wide
        leaves[at] = leaf + sign * h * direction
        values.append(subject.log_prob64(x, leaves))
    with np.errstate(invalid="ignore"):
        slope = (values[0] - values[1]) / (2 * h.reshape(-1))
    return slope, along, np.isfinite(slope) & wide


def _judge(
    subject: Subject,
    x: np.ndarray,
    name: str,
    fine: np.ndarray,
    exact: np.ndarray,
    difference: np.ndarray,
    known: np.ndarray,
    along: np.ndarray | None = None,
) -> tuple[Problems, str]:
    fine, exact = _flat(fine), _flat(exact)
    along = exact.sum(-1) if along is None else along
    finite = np.isfinite(fine).all(-1) & np.isfinite(exact).all(-1)
    problems = [
        f"the gradient of log_prob({_show(x[n, i])}) in {name} of {subject.label(i)} is "
        f"{_show(fine[n, i])}, not finite"
        for n, i in _first(~finite)
    ]
    if problems:
        return problems, ""
    # Sums in another order, lost together with the digits of log_prob, have their own check.
    scale = np.sqrt(np.mean(exact**2, axis=0, keepdims=True)).max(-1, keepdims=True)
    off = np.any(np.abs(fine - exact) > 2e-3 * np.abs(exact) + 5e-4 * scale, axis=-1)
    problems += [
        f"the gradient of log_prob({_show(x[n, i])}) in {name} of {subject.label(i)} is "
        f"{_show(fine[n, i])} in float32 and "
        f"{_show(exact[n, i])} in float64: digits are lost"
        for n, i in _first(off)
    ]
    typical = np.sqrt(np.mean(np.where(known, difference, 0) ** 2, axis=0, keepdims=True))
    with np.errstate(invalid="ignore"):
        wrong = known & (np.abs(difference - along) > 1e-4 * (np.abs(difference) + typical) + 1e-8)
    for n, i in _first(wrong):
        text = (
            f"autodiff says that log_prob({_show(x[n, i])}) of {subject.label(i)} moves by "
            f"{along[n, i]:.6g} with {name}, finite differences "
            f"{difference[n, i]:.6g}"
        )
        if np.all(np.abs(along[known]) < 1e-9):
            text += ": the gradient is cut, by stop_gradient or by rounding"
        problems.append(text)
    checked = "and finite differences" if known.any() else "(no finite differences here)"
    return problems, f"finite, equal in float32 and float64 {checked}"


def check_outside(subject: Subject, x: np.ndarray) -> tuple[Problems, str] | str:
    """-inf with zero parameter gradient just outside; the reason where nothing is outside."""
    tries = _outside_points(subject, x)
    kept = [t for t in tries if not subject.inside(t[None]).any()]
    if not kept:
        return f"no value was found outside the support ({subject.support})"
    points = np.stack([kept[n % len(kept)] for n in range(max(8, len(kept)))])
    problems = []
    for start in range(0, len(points), 8):
        part = points[start : start + 8]
        part = np.concatenate([part, np.repeat(part[-1:], 8 - len(part), axis=0)])
        got = subject.gradients(part)
        for n, i in _first(got["log_prob"] != -np.inf):
            problems.append(
                f"log_prob({_show(part[n, i])}) of {subject.label(i)} is "
                f"{got['log_prob'][n, i]:.6g}; that is outside the support "
                f"({subject.support}), so -inf is wanted"
            )
        for info, g in zip(subject.info, got["leaves"], strict=True):
            if g is not None:
                for n, i in _first(np.any(_flat(g) != 0, axis=-1)):
                    problems.append(
                        f"the gradient in {info.name} of log_prob({_show(part[n, i])}), outside "
                        f"the support of {subject.label(i)}, is "
                        f"{_show(_flat(g)[n, i])}; 0 is wanted"
                    )
    return (
        problems,
        f"-inf with zero gradient at {len(kept)} values outside, such as {_show(kept[0][0])}",
    )


def _outside_points(subject: Subject, x: np.ndarray) -> list[np.ndarray]:
    support, like = subject.support, x[0].astype(np.float32)
    if isinstance(support, supports.Simplex):
        bent = like.copy()
        bent[..., 0], bent[..., 1] = -0.125, like[..., 0] + like[..., 1] + 0.125
        return [like * 1.5, like * 0.9, bent]
    if isinstance(support, supports.OneHot):
        return [np.zeros_like(like), np.ones_like(like), like * 2, like * 0.5]
    if isinstance(support, supports.Permutation):
        return [np.zeros_like(like), like + 1, like - 1]
    if isinstance(support, supports.Elementwise):
        numbers = _outside_numbers(support.base, like)
        out = []
        for number in numbers:
            bent = like.copy()
            bent[..., 0] = np.broadcast_to(number, like.shape)[..., 0]
            out.append(bent)
        return out
    if isinstance(support, Grid):
        ends = [support.lower - support.step, support.upper + support.step]
        return [np.full_like(like, n) for n in [*ends, support.lower + 0.5 * support.step]]
    if isinstance(support, supports.Interval):
        return _outside_numbers(support, like)
    return []


def _outside_numbers(support: Any, like: np.ndarray) -> list[np.ndarray]:
    if not isinstance(support, supports.Interval):
        return []
    out = []
    for end, way in ((support.lower, -1), (support.upper, 1)):
        if end is None:
            continue
        edge = np.broadcast_to(np.asarray(end, np.float32), like.shape).astype(np.float32)
        if support.is_discrete:
            out += [edge + way, edge + 10 * way]
        else:
            # The last subnormals are flushed to 0 on some devices: step by normal numbers.
            tiny = np.float32(np.finfo(np.float32).tiny)
            beyond = np.nextafter(edge, np.float32(way * np.inf))
            beyond = np.where(np.abs(beyond) < tiny, way * tiny, beyond)
            out += [edge, beyond.astype(np.float32), edge + way]
    if support.is_discrete:
        out += [like + np.float32(0.5), like + np.float32(1e-3)]
    return out


def check_nan(subject: Subject, x: np.ndarray) -> tuple[Problems, str]:
    """NaN in the value or in any parameter comes out as NaN, outside the support as well."""
    problems = []
    outside = [t for t in _outside_points(subject, x) if not subject.inside(t[None]).any()]

    def hidden(what: str, got: dict[str, np.ndarray]) -> None:
        for name in ("log_prob", "cdf", "log_cdf", "survival", "log_survival"):
            if name in got and name not in subject.notes:
                for n, i in _first(~np.isnan(got[name]))[:1]:
                    problems.append(
                        f"{name} of {subject.label(i)} is {got[name][n, i]:.6g} where {what} is "
                        "NaN: it hides the NaN"
                    )

    if subject.takes_floats:
        bad = x.astype(np.float64).copy()
        bad.reshape(*bad.shape[:2], -1)[..., 0] = np.nan
        hidden("the value", subject.tails(bad))
    for at, info in enumerate(subject.info):
        if info.floating:
            leaves = list(subject.leaves)
            leaves[at] = np.full_like(leaves[at], np.nan)
            hidden(info.name, subject.tails(np.stack([*x, *outside]), leaves))
    return problems, "comes out as NaN, from the value and from every parameter"


def check_keys(
    subject: Subject, first: np.ndarray, second: np.ndarray, z: float
) -> tuple[Problems, str]:
    """Another key gives other samples; draws and batch elements are independent of one another."""
    problems = []
    count = len(first)
    a, b = _flat(first), _flat(second)
    moving = np.ptp(a.reshape(count, -1), axis=0) > 0
    if not moving.any():
        if not subject.discrete:
            which = "whatever the key" if np.array_equal(a, b) else "does sample ignore its shape?"
            problems.append(f"all {count} samples of one element are {_show(first[0, 0])}: {which}")
        return problems, "one value only"
    if np.array_equal(a, b):
        problems.append("samples do not depend on the key: two keys give the same ones")
    distinct = min(len(np.unique(a[:, i, 0])) for i in range(subject.elements))
    if not subject.discrete and distinct < count / 2:
        problems.append(
            f"of {count} samples of one element only {distinct} are different: does sample ignore "
            "its shape?"
        )
    ranks = np.argsort(np.argsort(a[..., 0], axis=0, kind="stable"), axis=0).astype(np.float64)
    if subject.discrete:
        ranks = a[..., 0].astype(np.float64)
    ranks = ranks - ranks.mean(axis=0)
    norm = np.sqrt(np.sum(ranks**2, axis=0))
    bound = 1.3 * z / math.sqrt(count)
    for i in range(subject.elements):
        if norm[i] == 0:
            continue
        lag = float(np.sum(ranks[1:, i] * ranks[:-1, i]) / norm[i] ** 2)
        if abs(lag) > bound:
            problems.append(
                f"consecutive samples of {subject.label(i)} are correlated ({lag:.3f}, at most "
                f"{bound:.3f} by chance)"
            )
        for j in range(i):
            if norm[j] > 0:
                same = float(np.sum(ranks[:, i] * ranks[:, j]) / (norm[i] * norm[j]))
                if abs(same) > bound:
                    problems.append(
                        f"batch elements {j} and {i} draw together (correlation {same:.3f}, at "
                        f"most {bound:.3f} by chance): they share their "
                        "noise; draw it with the shape (*shape, *batch, *event)"
                    )
    return problems, "another key gives other samples; draws and elements are independent"


def check_pair(subject: Subject, drawn: dict[str, np.ndarray]) -> tuple[Problems, str]:
    """sample_and_log_prob gives the log_prob of what it drew."""
    problems = []
    got, want = drawn["pair_log_prob"], subject.log_prob(drawn["pair_value"])
    with np.errstate(invalid="ignore"):
        off = ~(np.abs(got - want) <= 2e-3 * (1 + np.abs(want))) & (got != want)
    for i in range(subject.elements):
        # Where a sample is rounded to the end of its range the two may differ, and the first is
        # right.
        if off[:, i].mean() > 0.05:
            n = int(np.argmax(off[:, i]))
            problems.append(
                f"sample_and_log_prob of {subject.label(i)} drew "
                f"{_show(drawn['pair_value'][n, i])} with {got[n, i]:.6g}, "
                f"log_prob there is {want[n, i]:.6g}"
            )
    return problems, "the log_prob of what it drew"


def _flat(x: np.ndarray) -> np.ndarray:
    """`(n, elements, anything)`."""
    return np.asarray(x, np.float64).reshape(*x.shape[:2], -1)


def _first(off: np.ndarray) -> list[tuple[int, int]]:
    """The first place in the first column that has one: one example is enough."""
    for i in range(off.shape[1]):
        if off[:, i].any():
            return [(int(np.argmax(off[:, i])), i)]
    return []


def _show(x: Any) -> str:
    flat = np.ravel(x)
    if flat.size == 1:
        return f"{flat[0]:.6g}"
    return "[" + ", ".join(f"{v:.4g}" for v in flat[:6]) + (", ..." if flat.size > 6 else "") + "]"
