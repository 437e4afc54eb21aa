"""`check_bijector`: a bijector held against its own Jacobian."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from likelax._pytree import Array
from likelax.bijectors import Bijector, MaskedAutoregressive
from likelax.bijectors.base import check_bijector as _is_bijector
from likelax.bijectors.base import has_dependent_entries, sum_last
from likelax.testing.report import Report, Row, failure_message
from likelax.testing.subject import first_line

_TIGHT = 1e-8
_SINGLE = 1e-4
_STEP = 1e-6


def check_bijector(
    bijector: Bijector, x: ArrayLike, *, edges: Sequence[float] = (), raises: bool = True
) -> Report:
    """Holds a bijector, of the library or your own, against the Jacobian that autodiff finds.

    What is looked at, in float64: both log-determinants are those of the Jacobian; the inverse gives the
    value back; `forward` and `inverse` are what the pairs say; shapes; values lie in domain and codomain;
    `increasing` and `is_affine` are true; each value is mapped by itself; gradients in the value and in
    every parameter are finite and those of finite differences; NaN comes out as NaN. At the `edges`,
    one float beside them and beyond, a map of numbers does not turn back, and gradients are finite.
    In float32, values, inverses and log-determinants are those of float64 up to 1e-4. A bijector that
    was stacked by `vmap` is right for each element.

    ::

        lx.testing.check_bijector(LeakyReLU(0.3), jnp.linspace(-3.0, 3.0, 12), edges=[0.0])

    Give parameters that tell mistakes apart: where all are 0, as at the start of a flow, most are hidden.

    Args:
      bijector: of batch shape (), or of elementwise ones that of one value.
      x: some values in the domain, `(n, *event)`, at least two.
      edges: numbers where the formula changes, for maps of numbers.
      raises: whether failures raise; otherwise they are in the report.

    Returns:
      A `Report`: `print` it; `report.ok`, `report["log-determinant"].detail`.

    Raises:
      AssertionError: with one line for every check that failed.
      TypeError: when `bijector` is none.
      ValueError: for fewer than two values.
    """
    _is_bijector(bijector, "check_bijector")
    values = np.asarray(x, np.float64)
    if values.ndim < 1 or len(values) < 2:
        raise ValueError(
            f"check_bijector looks at several values, (n, *event), got shape {values.shape}; write "
            "x=jax.random.normal(key, (8, 3))"
        )
    check = _Check(bijector, values, tuple(float(edge) for edge in edges))
    check.run()
    report = Report(type(bijector).__name__, tuple(check.rows))
    if raises and not report.ok:
        raise AssertionError(failure_message(report))
    return report


def _cast(tree: Any, dtype: Any) -> Any:
    def cast(leaf: Any) -> Any:
        floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return jnp.asarray(leaf, dtype if floating else None)

    return jax.tree.map(cast, tree)


# Compiled once for each dtype, and asked all questions: compiling is what takes time here.
@jax.jit
def _ask(bijector: Bijector, x: Array, y: Array) -> dict[str, Array]:
    """What the bijector says of values x, and of values y."""
    out, log_det = bijector.forward_and_log_det(x)
    back, inverse_log_det = bijector.inverse_and_log_det(y)
    alone = {"forward": bijector.forward(x), "inverse": bijector.inverse(y)}
    return {"y": out, "log_det": log_det, "x": back, "inverse_log_det": inverse_log_det, **alone}


@jax.jit
def _one_by_one(bijector: Bijector, x: Array, y: Array) -> dict[str, Array]:
    """The same of each value by itself, with the Jacobian of the forward map."""

    def one(pair: tuple[Array, Array]) -> dict[str, Array]:
        return {**_ask(bijector, *pair), "jacobian": jax.jacfwd(bijector.forward)(pair[0])}

    return jax.lax.map(one, (x, y))


@jax.jit
def _slope(bijector: Bijector, x: Array, y: Array, ways: Any) -> dict[str, Array]:
    """The derivative of the answers along one direction."""
    return jax.jvp(_ask, (bijector, x, y), ways)[1]


@jax.jit
def _steepest(bijector: Bijector, x: Array, y: Array) -> Any:
    """Gradients of the sum of all answers."""

    def total(bijector: Bijector, x: Array, y: Array) -> Array:
        return sum(jnp.sum(part) for part in _ask(bijector, x, y).values())  # type: ignore[return-value]

    return jax.grad(total, argnums=(0, 1, 2), allow_int=True)(bijector, x, y)


def _said(bijector: Bijector, x: Array) -> tuple[dict[str, np.ndarray], Array]:
    """The answers at x and at its y, as NumPy arrays, and y."""
    y = _ask(bijector, x, jnp.zeros(bijector.forward_shape(x.shape), x.dtype))["y"]
    return {name: np.asarray(part) for name, part in _ask(bijector, x, y).items()}, y


class _Check:
    """One run: the bijector in float64, what it answered, and the rows."""

    def __init__(self, bijector: Bijector, x: np.ndarray, edges: tuple[float, ...]):
        self.given, self.edges, self.rows = bijector, edges, []
        with jax.enable_x64(True):
            self.bijector = _cast(bijector, jnp.float64)
            self.x = jnp.asarray(x)

    def run(self) -> None:
        """All checks; what comes after the first needs its numbers."""
        with jax.enable_x64(True):
            if not self.row("shapes", self.ask):
                return
            self.row("log-determinant", self.log_determinant)
            self.row("inverse log-determinant", self.inverse_log_determinant)
            self.row("round trip", self.round_trip)
            self.row("one value at a time", self.alone)
            self.row("domain and codomain", self.sets)
            self.row("increasing", self.monotone)
            self.row("is_affine", self.affine)
            if isinstance(self.bijector, MaskedAutoregressive):
                self.row("autoregressive", self.autoregressive)
            self.row("gradients", self.gradients)
            self.row("edges", self.at_edges)
            self.row("NaN", self.nan)
        self.row("float32", self.single)
        self.row("vmap", self.stacked)

    def row(self, name: str, check: Callable[[], tuple[str, str]]) -> bool:
        """Runs a check, which returns what is wrong (or "") and a detail ("-..." for a reason to skip)."""
        try:
            problem, detail = check()
        except Exception as error:  # a user's method may raise anything; it becomes a row
            problem, detail = f"raises {type(error).__name__}: {first_line(error)}", ""
        if problem:
            self.rows.append(Row(name, "failed", problem))
        elif detail.startswith("-"):
            self.rows.append(Row(name, "skipped", detail[1:]))
        else:
            self.rows.append(Row(name, "ok", detail))
        return not problem

    # The checks.

    def ask(self) -> tuple[str, str]:
        """Asks everything; shapes."""
        b, x = self.bijector, self.x
        self.out, self.y = _said(b, x)
        self.each = {k: np.asarray(v) for k, v in _one_by_one(b, x, self.y).items()}
        self.condition = self._conditions()
        wanted = {
            "y": b.forward_shape(x.shape),
            "x": x.shape,
            "log_det": x.shape[: x.ndim - b.event_ndim],
            "inverse_log_det": x.shape[: x.ndim - b.event_ndim],
        }
        for name, shape in wanted.items():
            if self.out[name].shape != shape:
                return f"{name} has shape {self.out[name].shape}, {shape} wanted", ""
        if b.inverse_shape(wanted["y"]) != x.shape:
            return f"inverse_shape of {wanted['y']} is not {x.shape}", ""
        return "", f"{x.shape} to {wanted['y']}"

    def _jacobian(self) -> np.ndarray | str:
        """log |det| of each value's Jacobian, or why there is none."""
        b, jacobian = self.bijector, self.each["jacobian"]
        if has_dependent_entries(b.domain) or has_dependent_entries(b.codomain):
            return "-entries are not equally free: the Jacobian is not square"
        event = self.x.shape[1:]
        size, out_size = int(np.prod(event)), int(np.prod(self.out["y"].shape[1:]))
        if size != out_size:
            return f"-{size} numbers become {out_size}: the Jacobian is not square"
        return np.linalg.slogdet(jacobian.reshape(-1, size, size))[1]

    def _conditions(self) -> np.ndarray:
        """By how much each value's map multiplies what is rounded: the condition of its Jacobian."""
        jacobian = self.each["jacobian"].reshape(len(self.x), -1)
        size = int(np.prod(self.x.shape[1:]))
        if jacobian.shape[1] != size**2 or not np.isfinite(jacobian).all():
            return np.ones(len(self.x))
        found = np.linalg.cond(jacobian.reshape(-1, size, size))
        return np.maximum(1, np.nan_to_num(found, nan=1, posinf=1))

    def _far(self, got: Any, truth: Any, tolerance: float) -> str:
        """By how much a result is off, and where, or "" where that is little."""
        at, error = _worst(got, truth, self.condition)
        return "" if error < tolerance else f"off by {error:.2g} at value {at}"

    def _total(self, log_det: np.ndarray) -> np.ndarray:
        return np.asarray(sum_last(jnp.asarray(log_det), log_det.ndim - 1))

    def log_determinant(self) -> tuple[str, str]:
        """Against the Jacobian."""
        truth = self._jacobian()
        if isinstance(truth, str):
            return "", truth
        return _compared(
            self._total(self.out["log_det"]), truth, "forward_and_log_det", self.condition
        )

    def inverse_log_determinant(self) -> tuple[str, str]:
        """Against that of the forward map, which was looked at."""
        truth = self._jacobian()
        truth = self._total(self.out["log_det"]) if isinstance(truth, str) else truth
        return _compared(
            self._total(self.out["inverse_log_det"]), -truth, "inverse_and_log_det", self.condition
        )

    def round_trip(self) -> tuple[str, str]:
        """There and back, and what `forward` and `inverse` say alone."""
        again = _ask(self.bijector, jnp.asarray(self.out["x"]), self.y)["y"]
        pairs = [
            ("inverse(forward(x)) is not x", self.out["x"], self.x),
            ("forward(inverse(y)) is not y", again, self.y),
            ("forward is not what forward_and_log_det gives", self.out["forward"], self.y),
            ("inverse is not what inverse_and_log_det gives", self.out["inverse"], self.out["x"]),
        ]
        for what, got, truth in pairs:
            if far := self._far(got, truth, _TIGHT):
                return f"{what}: {far}", ""
        return "", f"within {_worst(self.out['x'], self.x)[1]:.1g}"

    def alone(self) -> tuple[str, str]:
        """Each value by itself."""
        for name in ("y", "log_det", "x", "inverse_log_det"):
            if far := self._far(self.each[name], self.out[name], _TIGHT):
                return (
                    f"{name} of a value depends on the other values: alone it is {far} (statistics "
                    "of the batch, perhaps)",
                    "",
                )
        return "", "no value depends on another one"

    def sets(self) -> tuple[str, str]:
        """x in the domain, y in the codomain."""
        b = self.bijector
        if not np.all(b.domain.contains(self.x)):
            return f"a value of x is not {b.domain}: give others", ""
        inside = np.asarray(b.codomain.contains(jnp.asarray(self.out["y"])))
        if not inside.all():
            return f"a value of y is not {b.codomain}, as the codomain says", ""
        return "", f"{b.domain} to {b.codomain}"

    def monotone(self) -> tuple[str, str]:
        """What `increasing` says."""
        b = self.bijector
        if b.event_ndim:
            return "", "-of maps of numbers only"
        size = int(np.prod(self.x.shape[1:]))
        slopes = np.diagonal(self.each["jacobian"].reshape(-1, size, size), axis1=1, axis2=2)
        if b.increasing is None:
            return "", "-the bijector says None"
        says = np.broadcast_to(np.asarray(b.increasing), self.x.shape[1:]).reshape(-1)
        if not np.all((slopes > 0) == says):
            return f"increasing is {b.increasing}, and the slope is {slopes.min():.3g}", ""
        return "", str(b.increasing)

    def affine(self) -> tuple[str, str]:
        """What `is_affine` says."""
        spread = np.ptp(self.each["jacobian"], axis=0).max()
        if self.bijector.is_affine and spread > _TIGHT:
            return f"is_affine is True, and the Jacobian differs by {spread:.2g} between values", ""
        return "", str(self.bijector.is_affine)

    def autoregressive(self) -> tuple[str, str]:
        """dx_i/dy_j is 0 for j after i. (Of the forward map that is so by its construction.)"""
        found = jax.jit(jax.vmap(jax.jacfwd(self.bijector.inverse)))(self.y)
        above = np.abs(np.triu(np.asarray(found), 1))
        if above.max() > 0:
            _, row, column = np.unravel_index(above.argmax(), above.shape)
            return (
                f"the conditioner looks ahead: coordinate {row} depends on coordinate {column}; its "
                "numbers for i may depend on coordinates before i only",
                "",
            )
        return "", "each coordinate depends on earlier ones only"

    def gradients(self) -> tuple[str, str]:
        """Derivatives are finite and those of finite differences."""
        slopes = _steepest(self.bijector, self.x, self.y)
        for leaf in jax.tree.leaves(slopes):
            if leaf.dtype != jax.dtypes.float0 and not np.all(np.isfinite(leaf)):
                return "a gradient is not finite", ""
        keys = iter(jax.random.split(jax.random.key(0), 2 + len(jax.tree.leaves(self.bijector))))

        def way(leaf: Array, slope: Array, held: bool = True) -> Any:
            if slope.dtype == jax.dtypes.float0:
                return np.zeros(leaf.shape, jax.dtypes.float0)
            # What has no gradient at all is held, as statistics are.
            moves = 0.0 if held and not np.any(slope) else 1.0
            return moves * jax.random.normal(next(keys), leaf.shape) * (1 + jnp.abs(leaf))

        along = jax.tree.map(way, self.bijector, slopes[0])
        values = (way(self.x, slopes[1], False), way(self.y, slopes[2], False))
        still = jax.tree.map(_nothing, self.bijector)
        problem = self._differences("parameters", (along, *map(jnp.zeros_like, values)))
        problem = problem or self._differences("the value", (still, *values))
        return problem, "in the value and in all parameters as by finite differences"

    def _differences(self, of: str, ways: Any) -> str:
        """What is wrong with the derivative along `ways`, or ""."""
        start = (self.bijector, self.x, self.y)
        exact = _slope(*start, ways)

        def at(step: float) -> dict[str, Array]:
            return _ask(*jax.tree.map(lambda a, d: _moved(a, d, step), start, ways))

        above, middle, below = at(_STEP), at(0.0), at(-_STEP)
        for name, slope in exact.items():
            # Where the curvature jumps, as at a knot, the slope is that of one side.
            sides = [(above, below, 2), (above, middle, 1), (middle, below, 1)]
            found = [(np.asarray(a[name]) - np.asarray(b[name])) / (n * _STEP) for a, b, n in sides]
            got = np.asarray(slope)
            nearest = np.argmin([np.abs(got - f) for f in found], axis=0)
            truth = np.choose(nearest, found)
            if far := self._far(got, truth, 1e-4):
                return f"the derivative of {name} in {of} is not that of finite differences: {far}"
        return ""

    def at_edges(self) -> tuple[str, str]:
        """At the edges, a float beside them, and beyond."""
        b = self.bijector
        if not self.edges:
            return "", "-none were given: edges=[...]"
        if b.event_ndim:
            return "", "-of maps of numbers only"
        with jax.enable_x64(False):
            single, inner = _cast(self.given, jnp.float32), np.float32
            points = [
                p
                for edge in self.edges
                for p in (
                    np.nextafter(inner(edge), inner(-np.inf)),
                    inner(edge),
                    np.nextafter(inner(edge), inner(np.inf)),
                )
            ]
            low, high = min(self.edges), max(self.edges)
            span = max(high - low, 1.0)
            points = sorted([inner(low - span), *points, inner(high + span)])
            x = jnp.asarray(points, jnp.float32).reshape((-1,) + (1,) * (self.x.ndim - 1))
            x = jnp.broadcast_to(x, (len(points), *self.x.shape[1:]))
            x = x[np.asarray(b.domain.contains(x)).reshape(len(points), -1).all(axis=1)]
            return _looked_at_edges(single, x)

    def nan(self) -> tuple[str, str]:
        """NaN in, NaN out."""
        bad = _ask(self.bijector, self.x.at[0].set(jnp.nan), self.y.at[0].set(jnp.nan))
        y, log_det, back = (np.asarray(bad[name]) for name in ("y", "log_det", "x"))
        if not np.isnan(y[0]).any() or not np.isnan(back[0]).any():
            return "a NaN comes out as a number", ""
        if np.isnan(y[1:]).any() or np.isnan(log_det[1:]).any():
            return "a NaN in one value reaches another one", ""
        return "", "NaN gives NaN"

    def single(self) -> tuple[str, str]:
        """float32 against float64."""
        with jax.enable_x64(False):
            bijector, x = _cast(self.given, jnp.float32), jnp.asarray(self.x, jnp.float32)
            self.single_out, y = _said(bijector, x)
        with jax.enable_x64(True):
            # The same numbers in float64: what float32 rounds of x and y is no error of the map.
            numbers = [np.asarray(v).astype(np.float64) for v in (x, y)]
            truth = _ask(_cast(bijector, jnp.float64), *map(jnp.asarray, numbers))
        worst = 0.0
        for name in ("y", "log_det", "x", "inverse_log_det"):
            got, wanted = self.single_out[name], np.asarray(truth[name])
            if got.dtype != np.float32:
                return f"{name} of float32 values is {got.dtype}", ""
            worst = max(worst, _worst(got, wanted)[1])
            if far := self._far(got, wanted, _SINGLE):
                return f"{name} in float32 is {far}", ""
        return "", f"within {worst:.1g} of float64"

    def stacked(self) -> tuple[str, str]:
        """A stack of two, made by vmap, against each."""
        leaves, tree = jax.tree.flatten(_cast(self.given, jnp.float32))
        if not leaves:
            return "", "-no parameters"
        x = jnp.asarray(self.x, jnp.float32)
        factors = jnp.array([1.0, 0.9])

        def make(factor: Array) -> Bijector:
            floating = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]
            moved = [leaf * factor if f else leaf for f, leaf in zip(floating, leaves, strict=True)]
            return jax.tree.unflatten(tree, moved)

        axis = x.ndim - self.given.event_ndim - self.given.batch_ndim
        spread = jnp.expand_dims(x, axis)
        both = jax.vmap(make)(factors)
        got, _ = _said(both, spread)
        for i, factor in enumerate(factors):
            want, _ = _said(make(factor), x)
            for name, truth in want.items():
                own = np.take(got[name], i, axis)
                if own.shape != truth.shape or self._far(own, truth, _SINGLE):
                    return (
                        f"of a bijector that was built inside vmap, {name} is not that of each element: "
                        "does a method use axes of the parameters that are not their own?",
                        "",
                    )
        return "", "built inside vmap it is that of each element"


def _nothing(leaf: Array) -> Any:
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    return jnp.zeros_like(leaf) if floating else np.zeros(leaf.shape, jax.dtypes.float0)


def _moved(leaf: Array, way: Any, step: float) -> Array:
    return leaf if way.dtype == jax.dtypes.float0 else leaf + step * way


def _worst(got: Any, truth: Any, condition: Any = 1.0) -> tuple[int, float]:
    """Where, along the first axis, and how far, relative to condition * max(1, |truth|)."""
    got, truth = np.asarray(got, np.float64), np.asarray(truth, np.float64)
    same = (got == truth) | (np.isnan(got) & np.isnan(truth))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0, np.abs(got - truth) / np.maximum(1, np.abs(truth)))
    error = np.nan_to_num(error, nan=np.inf).reshape(len(got), -1).max(axis=1, initial=0)
    error = error / condition
    return int(error.argmax()), float(error.max())


def _compared(got: np.ndarray, truth: np.ndarray, method: str, condition: Any) -> tuple[str, str]:
    """A log-determinant against the Jacobian's, with a guess at the mistake."""
    at, error = _worst(got, truth, condition)
    if error < _TIGHT:
        return "", f"within {error:.1g} of the Jacobian's"
    return (
        f"{method} says {got[at]:.6g} at value {at}, the Jacobian {truth[at]:.6g}{_guess(got, truth)}",
        "",
    )


def _guess(got: np.ndarray, truth: np.ndarray) -> str:
    gap = got - truth
    if np.abs(truth).max() > 1e-6 and _worst(got, -truth)[1] < 1e-6:
        return ": the sign is wrong"
    if np.ptp(gap) < 1e-6 and np.abs(gap).max() > 1e-6:
        return f": a constant, {gap.mean():+.6g}, is too much (the logarithm of a factor?)"
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = got / truth
    if np.all(np.isfinite(ratio)) and np.ptp(ratio) < 1e-6:
        return f": it is {ratio.mean():.6g} times too large"
    return ""


def _looked_at_edges(bijector: Bijector, x: Array) -> tuple[str, str]:
    """Order and gradients at sorted values."""
    out, given = _said(bijector, x)
    y, log_det = out["y"], out["log_det"]
    steps = np.diff(y, axis=0)
    increasing = bijector.increasing
    if increasing is not None and np.any(np.where(np.asarray(increasing), steps, -steps) < 0):
        at = int(np.argwhere(np.where(np.asarray(increasing), steps, -steps) < 0)[0][0])
        return (
            f"the map turns back between {np.ravel(x[at])[0]:.9g} and {np.ravel(x[at + 1])[0]:.9g}",
            "",
        )

    for leaf in jax.tree.leaves(_steepest(bijector, x, given)):
        if leaf.dtype != jax.dtypes.float0 and not np.all(np.isfinite(leaf)):
            return "a gradient is not finite at an edge or beyond", ""
    if not np.all(np.isfinite(log_det)):
        return "a log-determinant is not finite at an edge or beyond", ""
    return "", f"{len(x)} values at and around them"
