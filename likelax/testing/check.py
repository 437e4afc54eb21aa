"""`check_distribution`: a distribution held against its own density."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import jax
import numpy as np

from likelax import supports
from likelax._keys import check_key
from likelax.distributions.base import Distribution
from likelax.testing import atoms, line, rules, structure, summaries, vector
from likelax.testing.report import Report, Row, failure_message
from likelax.testing.subject import SUMMARIES, TAILS, Subject, first_line

# The chance that a right distribution fails one of its statistical tests, all of them together.
_FALSE_ALARMS = 1e-6


def check_distribution(
    dist: Distribution, *, key: jax.Array, num_samples: int = 4096, raises: bool = True
) -> Report:
    """Holds a distribution, of the library or your own, against its own log-density.

    What is looked at: the density sums to 1 (by quadrature, summation, or importance sampling for
      vectors); samples follow it, depend on
    the key, and are independent; cdf, survival, their logarithms and quantile agree with the
    integrated density; gradients in the value and in every parameter are finite, the same in
    float32 and float64, and those of finite differences; outside the support log_prob is -inf with
    zero gradient; NaN comes out as NaN; shapes and dtypes; one value at a time, vmap, scan,
    indexing, jit, pickle and constructors inside vmap give what the batch gives; mean, variance,
    mode, entropy and KL. A method that raises NotImplementedError is skipped with its reason.

    Of a large batch a few elements are looked at. Statistical tests together raise a false alarm in
    one of a million runs, and the same key gives the same report. Give parameters that tell
    mistakes apart: at `scale=1` a scale and a variance are the same.

    Args:
      dist: the distribution, of any batch shape; print the report of a batch of a few unlike
        elements to see the most.
      key: a random key.
      num_samples: how many samples of each element are drawn.
      raises: whether failures raise; otherwise they are in the report.

    Returns:
      A `Report`: `print` it; `report.ok`, `report.failures`, `report["normalisation"].detail`.

    Raises:
      AssertionError: with one line for every check that failed.
      TypeError: when `dist` is no distribution or `key` no key.
      ValueError: when the batch is empty, or `num_samples` is below 100.
    """
    if not isinstance(dist, Distribution):
        raise TypeError(
            f"check_distribution takes a distribution, got {dist!r}; write "
            "check_distribution(Rayleigh(2.0), key=key)"
        )
    if num_samples < 100:
        raise ValueError(f"check_distribution needs num_samples of at least 100, got {num_samples}")
    check = _Check(dist, check_key(key), num_samples)
    check.run()
    report = Report(repr(dist), tuple(check.rows))
    if raises and not report.ok:
        raise AssertionError(failure_message(report))
    return report


class _Check:
    """One run: what is known so far, and the rows."""

    def __init__(self, dist: Distribution, key: jax.Array, num_samples: int):
        self.dist, self.key, self.n = dist, key, num_samples
        self.rows: list[Row] = []

    def run(self) -> None:
        """All checks, in an order in which later ones may rely on earlier ones."""
        if not self.row(
            "pytree", lambda: (structure.check_tree(self.dist), "the leaves are the parameters")
        ):
            return self.skip("everything else", "the tree of the distribution is not in order")
        pickled = structure.check_pickle(self.dist)
        if isinstance(pickled, str):
            self.skip("pickle", pickled)
        else:
            self.add("pickle", pickled, "a copy through pickle is the same")
        self.subject = subject = Subject(self.dist, self.key, self.n)
        dist, floats = self.dist, subject.takes_floats
        shapes = self.row(
            "shapes",
            lambda: (
                structure.check_shapes(dist, floats, self.key),
                f"batch {dist.batch_shape}, event {dist.event_shape}",
            ),
        )
        tests = 12 + 4 * math.prod(subject.event_shape) ** 2
        self.level = _FALSE_ALARMS / (tests * subject.elements)
        self.z = NormalDist().inv_cdf(1 - self.level / 2)
        self.samples = self.draw()
        if not shapes and not structure.traces(subject):
            return self.skip("everything else", "log_prob cannot be traced")
        if not self.mapping():
            return self.skip(
                "everything else", "log_prob cannot be asked about many values at once"
            )
        self.density()
        self.row("NaN", lambda: rules.check_nan(subject, self.points))
        outside = rules.check_outside(subject, self.points)
        if isinstance(outside, str):
            self.skip("outside the support", outside)
        else:
            self.add("outside the support", *outside)
        for name, found in self.results(
            "gradients", lambda: rules.check_gradients(subject, self.points)
        ).items():
            self.add(name, *found)
        self.summaries()
        self.row(
            "dtypes", lambda: (structure.check_dtypes(subject), "float32, bfloat16 and float64")
        )
        return None

    # Rows.

    def add(self, name: str, problems: list[str], detail: str) -> bool:
        """A row that failed with its first problems, or is ok with this detail."""
        if problems:
            more = f" (and {len(problems) - 2} more)" if len(problems) > 2 else ""
            self.rows.append(Row(name, "failed", "; ".join(problems[:2]) + more))
        else:
            self.rows.append(Row(name, "ok", detail))
        return not problems

    def skip(self, name: str, reason: str) -> None:
        """A row for what was left out."""
        self.rows.append(Row(name, "skipped", reason))

    def row(self, name: str, check: Callable[[], tuple[list[str], str]]) -> bool:
        """Runs a check; one that itself raises is a failure too."""
        found = self.results(name, lambda: {name: check()})
        return all(self.add(key, *value) for key, value in found.items()) and bool(found)

    def results(self, name: str, check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What a check found; one that itself raises becomes a failed row."""
        try:
            return check()
        except Exception as error:  # a user's method may raise anything; it becomes a row
            self.add(name, [f"raises {type(error).__name__}: {first_line(error)}"], "")
            return {}

    def noted(self, name: str) -> bool:
        """Adds the row of a method that could not be traced."""
        status, text = self.subject.notes.get(name, ("", ""))
        if status == "failed":
            self.add(name, [text], "")
        elif status:
            self.skip(name, text)
        return bool(status)

    # Steps.

    def draw(self) -> np.ndarray | None:
        """Samples of every element, or None."""
        subject = self.subject
        drawn = self.results("sample", lambda: subject.draw(0))
        if self.noted("sample") or "sample" not in drawn:
            return None
        samples = drawn["sample"]
        shape = (self.n, subject.elements, *subject.event_shape)
        if samples.shape != shape:
            # check_shapes has said so.
            return None
        self.drawn = drawn
        self.row(
            "keys", lambda: rules.check_keys(subject, samples, subject.draw(1)["sample"], self.z)
        )
        return samples

    def mapping(self) -> bool:
        """One at a time, vmap, scan and the like; whether batches work."""
        subject = self.subject
        names = {
            "one value at a time": "many values at once are as each by itself",
            "vmap": "over elements it is the batch",
            "scan": "over elements it is the batch",
            "index": "dist[i] is element i",
            "rebuild": "the constructor takes the fields that are held",
            "mixed ranks": "building inside vmap over one parameter, the others not mapped, is "
            "right",
        }
        found = self.results(
            "mapping", lambda: structure.check_mapping(subject, self.some_values(8))
        )
        for name, detail in names.items():
            if name in found:
                self.add(name, found[name], detail)
        return bool(found) and not found["one value at a time"]

    def some_values(self, count: int) -> np.ndarray:
        """Values in the support, whatever the sampler does: `(count, elements, *event)`."""
        subject = self.subject
        like = np.zeros((count, subject.elements, *subject.event_shape), np.float32)
        safe = np.asarray(subject.support.inside(jax.numpy.asarray(like)))
        safe = np.broadcast_to(safe, like.shape)
        if self.samples is None:
            return safe
        spread = self.samples[np.linspace(0, self.n - 1, count).astype(int)]
        inside = subject.inside(spread) & np.isfinite(spread).reshape(*spread.shape[:2], -1).all(-1)
        return np.where(
            inside.reshape(inside.shape + (1,) * len(subject.event_shape)), spread, safe
        )

    def density(self) -> None:
        """Normalisation, samples, cdf and quantile against the density; sets `points` and `truth`."""
        subject, samples = self.subject, self.samples
        self.truth: dict[str, np.ndarray] | None = None
        self.parts: list[Any] | None = None
        self.atoms: atoms.Atoms | None = None
        self.points = self.some_values(8).astype(np.float64)
        if "sample" in subject.notes or samples is None:
            samples = None
        if len(subject.event_shape) > 1:
            self.quantiles()
            self.skip(
                "normalisation",
                f"values have {len(subject.event_shape)} axes: no sum over them is cheap",
            )
        elif subject.discrete:
            self.density_of_atoms(samples)
        elif subject.event_shape:
            self.density_of_vectors(samples)
        else:
            self.density_on_line(samples)
        if samples is not None and "pair_value" in self.drawn:
            self.row("sample_and_log_prob", lambda: rules.check_pair(subject, self.drawn))
        else:
            self.noted("pair_log_prob")

    def quantiles(self) -> np.ndarray | None:
        """quantile at the levels that are looked at, with all summaries."""
        self.got = self.results("summaries", lambda: self.subject.summaries(line.LEVELS[:, None]))
        if self.subject.event_shape or self.noted("quantile"):
            return None
        return self.got.get("quantile")

    def density_on_line(self, samples: np.ndarray | None) -> None:
        """Numbers with a density."""
        subject = self.subject
        parts = self.results(
            "normalisation", lambda: {"parts": line.density_of(subject, samples)}
        ).get("parts")
        quantile = self.quantiles()
        if parts is None:
            return
        self.row("normalisation", lambda: line.check_mass(subject, parts))
        if samples is not None:
            self.row("samples", lambda: line.check_samples(subject, parts, samples, self.level))
        for name, found in self.results("cdf", lambda: line.check_tails(subject, parts)).items():
            self.add(name, *found)
        for name in TAILS:
            self.noted(name)
        if quantile is not None:
            self.row("quantile", lambda: line.check_quantile(subject, parts, quantile))
        circular = isinstance(subject.support, supports.Circle)
        self.parts = parts
        self.truth = line.circular_moments(parts) if circular else line.moments(parts)
        points = line.interior(parts, self.points)
        self.points = np.where(subject.inside(points), points, self.points)

    def density_of_atoms(self, samples: np.ndarray | None) -> None:
        """Isolated points."""
        subject = self.subject
        found = atoms.atoms_of(subject, samples)
        quantile = self.quantiles()
        if isinstance(found, str):
            self.skip("normalisation", found)
            return
        self.row("normalisation", lambda: atoms.check_mass(subject, found))
        if samples is not None:
            self.row("samples", lambda: atoms.check_samples(subject, found, samples, self.z))
        if not subject.event_shape:
            for name, result in self.results(
                "cdf", lambda: atoms.check_tails(subject, found)
            ).items():
                self.add(name, *result)
            for name in TAILS:
                self.noted(name)
        if quantile is not None:
            self.row("quantile", lambda: atoms.check_quantile(subject, found, quantile))
        if found.reached.all():
            self.atoms, self.truth = found, found.moments()
        self.points = atoms.interior(found)

    def density_of_vectors(self, samples: np.ndarray | None) -> None:
        """Vectors with a density."""
        subject = self.subject
        self.quantiles()
        if samples is None:
            return self.skip(
                "normalisation",
                "without samples there is no place to look for the density of vectors",
            )
        weighted = vector.weigh(subject, samples)
        if isinstance(weighted, str):
            return self.skip("normalisation", weighted)
        self.row("normalisation", lambda: vector.check_mass(subject, weighted, self.z))
        self.row("samples", lambda: vector.check_samples(subject, weighted, samples, self.z))
        return None

    def summaries(self) -> None:
        """mean, variance, stddev, mode, entropy, KL."""
        subject, got, samples = self.subject, self.got, self.samples
        for name in SUMMARIES:
            self.noted(name)
        if self.truth is not None:
            found = self.results(
                "moments",
                lambda: summaries.check_moments(subject, got, self.truth),  # type: ignore[arg-type]
            )
        elif samples is not None:
            log_prob = subject.log_prob(samples)
            found = self.results(
                "moments",
                lambda: summaries.check_moments_by_samples(subject, got, samples, log_prob, self.z),
            )
        else:
            found = {}
        for name, result in found.items():
            self.add(name, *result)
        if "stddev" in got and "variance" in got:
            self.row("stddev", lambda: summaries.check_stddev(subject, got))
        if "mode" in got:
            others = (
                self.points if samples is None else np.concatenate([self.points, samples[:2000]])
            )
            mode = summaries.check_mode(subject, got["mode"], others)
            if isinstance(mode, str):
                self.skip("mode", mode)
            else:
                self.add("mode", *mode)
        if "kl_same" in got:
            self.row("KL", lambda: summaries.check_divergence(subject, got, *self.divergence()))
        elif "kl" in subject.notes:
            status, text = subject.notes["kl"]
            if status == "failed":
                self.add("KL", [text], "")
            else:
                self.skip("KL", text)

    def divergence(self) -> tuple[np.ndarray, np.ndarray]:
        """The expectation of the log-ratio to the nudged distribution, and its error."""
        subject = self.subject
        other = [
            leaf.astype(np.float64) if info.floating else leaf
            for leaf, info in zip(subject.nudged(), subject.info, strict=True)
        ]
        zero = np.zeros(subject.elements)
        if self.parts is not None:
            return line.divergence(subject, self.parts, other), zero
        if self.atoms is not None:
            return summaries.divergence_of_atoms(subject, self.atoms, other), zero
        if self.samples is None:
            return zero + math.nan, zero
        with np.errstate(invalid="ignore"):
            ratio = subject.log_prob(self.samples) - subject.log_prob(
                self.samples, subject.nudged()
            )
        root = math.sqrt(len(ratio))
        return ratio.mean(axis=0), self.z * ratio.std(axis=0) / root
