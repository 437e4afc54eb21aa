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
from likelax.testing.mapping import (
    TIGHT,
    Failed,
    Skipped,
    ask,
    beside,
    cast,
    compared,
    derivative,
    gradients,
    is_held,
    looked_at_edges,
    one_by_one,
    said,
    worst,
)
from likelax.testing.report import Report, Row, failure_message
from likelax.testing.subject import first_line, quick_jit

_SINGLE = 1e-4
_STEP = 1e-6


def check_bijector(
    bijector: Bijector, x: ArrayLike, *, edges: Sequence[float] = (), raises: bool = True
) -> Report:
    """Holds a bijector, of the library or your own, against the Jacobian that autodiff finds.

    What is looked at, in float64: both log-determinants are those of the Jacobian; the inverse gives the
    value back; `forward` and `inverse` are what the pairs say; shapes; values lie in domain and codomain;
    `increasing` and `is_affine` are true; each value is mapped by itself; gradients in the value and in
    every parameter that is not `held` are finite and those of finite differences; NaN comes out as NaN. At the `edges`,
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


class _Check:
    """One run: the bijector in float64, what it answered, and the rows."""

    def __init__(self, bijector: Bijector, x: np.ndarray, edges: tuple[float, ...]):
        self.given, self.edges, self.rows = bijector, edges, []
        with jax.enable_x64(True):
            self.bijector = cast(bijector, jnp.float64)
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

    def row(self, name: str, check: Callable[[], str]) -> bool:
        """Runs a check, which returns a detail, or raises `Failed` or `Skipped`."""
        try:
            self.rows.append(Row(name, "ok", check()))
        except Skipped as reason:
            self.rows.append(Row(name, "skipped", str(reason)))
        except Failed as problem:
            self.rows.append(Row(name, "failed", str(problem)))
        except Exception as error:  # a user's method may raise anything; it becomes a row
            problem = f"raises {type(error).__name__}: {first_line(error)}"
            self.rows.append(Row(name, "failed", problem))
        return self.rows[-1].status != "failed"

    # The checks.

    def ask(self) -> str:
        """Asks everything; shapes."""
        b, x = self.bijector, self.x
        self.out, self.y = said(b, x)
        self.each = {k: np.asarray(v) for k, v in one_by_one(b, x, self.y).items()}
        self.condition = self._conditions()
        wanted = {
            "y": b.forward_shape(x.shape),
            "x": x.shape,
            "log_det": x.shape[: x.ndim - b.event_ndim],
            "inverse_log_det": x.shape[: x.ndim - b.event_ndim],
        }
        for name, shape in wanted.items():
            if self.out[name].shape != shape:
                raise Failed(f"{name} has shape {self.out[name].shape}, {shape} wanted")
        if b.inverse_shape(wanted["y"]) != x.shape:
            raise Failed(f"inverse_shape of {wanted['y']} is not {x.shape}")
        return f"{x.shape} to {wanted['y']}"

    def _jacobian(self) -> np.ndarray:
        """log |det| of each value's Jacobian."""
        b, jacobian = self.bijector, self.each["jacobian"]
        if has_dependent_entries(b.domain) or has_dependent_entries(b.codomain):
            raise Skipped("entries are not equally free: the Jacobian is not square")
        event = self.x.shape[1:]
        size, out_size = int(np.prod(event)), int(np.prod(self.out["y"].shape[1:]))
        if size != out_size:
            raise Skipped(f"{size} numbers become {out_size}: the Jacobian is not square")
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
        at, error = worst(got, truth, self.condition)
        return "" if error < tolerance else f"off by {error:.2g} at value {at}"

    def _total(self, log_det: np.ndarray) -> np.ndarray:
        return np.asarray(sum_last(jnp.asarray(log_det), log_det.ndim - 1))

    def log_determinant(self) -> str:
        """Against the Jacobian."""
        got, truth = self._total(self.out["log_det"]), self._jacobian()
        return compared(got, truth, "forward_and_log_det", self.condition)

    def inverse_log_determinant(self) -> str:
        """Against the Jacobian, or what is said of the forward map."""
        got = self._total(self.out["inverse_log_det"])
        try:
            truth = self._jacobian()
        except Skipped:
            truth = self._total(self.out["log_det"])
        return compared(got, -truth, "inverse_and_log_det", self.condition)

    def round_trip(self) -> str:
        """There and back, and what `forward` and `inverse` say alone."""
        again = ask(self.bijector, jnp.asarray(self.out["x"]), self.y)["y"]
        pairs = [
            ("inverse(forward(x)) is not x", self.out["x"], self.x),
            ("forward(inverse(y)) is not y", again, self.y),
            ("forward is not what forward_and_log_det gives", self.out["forward"], self.y),
            ("inverse is not what inverse_and_log_det gives", self.out["inverse"], self.out["x"]),
        ]
        for what, got, truth in pairs:
            if far := self._far(got, truth, TIGHT):
                raise Failed(f"{what}: {far}")
        return f"within {worst(self.out['x'], self.x)[1]:.1g}"

    def alone(self) -> str:
        """Each value by itself."""
        for name in ("y", "log_det", "x", "inverse_log_det"):
            if far := self._far(self.each[name], self.out[name], TIGHT):
                raise Failed(
                    f"{name} of a value depends on the other values: alone it is {far} (statistics "
                    "of the batch, perhaps)"
                )
        return "no value depends on another one"

    def sets(self) -> str:
        """x in the domain, y in the codomain."""
        b = self.bijector
        if not np.all(b.domain.contains(self.x)):
            raise Failed(f"a value of x is not {b.domain}: give others")
        inside = np.asarray(b.codomain.contains(jnp.asarray(self.out["y"])))
        if not inside.all():
            raise Failed(f"a value of y is not {b.codomain}, as the codomain says")
        return f"{b.domain} to {b.codomain}"

    def monotone(self) -> str:
        """What `increasing` says."""
        b = self.bijector
        if b.event_ndim:
            raise Skipped("of maps of numbers only")
        size = int(np.prod(self.x.shape[1:]))
        slopes = np.diagonal(self.each["jacobian"].reshape(-1, size, size), axis1=1, axis2=2)
        if b.increasing is None:
            raise Skipped("the bijector says None")
        says = np.broadcast_to(np.asarray(b.increasing), self.x.shape[1:]).reshape(-1)
        if not np.all((slopes > 0) == says):
            raise Failed(f"increasing is {b.increasing}, and the slope is {slopes.min():.3g}")
        return str(b.increasing)

    def affine(self) -> str:
        """What `is_affine` says."""
        spread = np.ptp(self.each["jacobian"], axis=0).max()
        if self.bijector.is_affine and spread > TIGHT:
            raise Failed(
                f"is_affine is True, and the Jacobian differs by {spread:.2g} between values"
            )
        return str(self.bijector.is_affine)

    def autoregressive(self) -> str:
        """dx_i/dy_j is 0 for j after i. (Of the forward map that is so by its construction.)"""
        found = quick_jit(jax.vmap(jax.jacfwd(self.bijector.inverse)))(self.y)
        above = np.abs(np.triu(np.asarray(found), 1))
        if above.max() > 0:
            _, row, column = np.unravel_index(above.argmax(), above.shape)
            raise Failed(
                f"the conditioner looks ahead: coordinate {row} depends on coordinate {column}; its "
                "numbers for i may depend on coordinates before i only"
            )
        return "each coordinate depends on earlier ones only"

    def gradients(self) -> str:
        """Derivatives are finite and those of finite differences."""
        slopes = gradients(self.bijector, self.x, self.y)
        for leaf in jax.tree.leaves(slopes):
            if leaf.dtype != jax.dtypes.float0 and not np.all(np.isfinite(leaf)):
                raise Failed("a gradient is not finite")
        keys = iter(jax.random.split(jax.random.key(0), 2 + len(jax.tree.leaves(self.bijector))))

        def way(leaf: Array, slope: Array) -> Any:
            if slope.dtype == jax.dtypes.float0:
                return np.zeros(leaf.shape, jax.dtypes.float0)
            return jax.random.normal(next(keys), leaf.shape) * (1 + jnp.abs(leaf))

        def own(path: Any, leaf: Array, slope: Array) -> Any:
            if not is_held(self.bijector, path):
                return way(leaf, slope)
            if np.any(slope):
                raise Failed(f"{jax.tree_util.keystr(path)} is said to be held, and has a gradient")
            return _nothing(leaf)

        along = jax.tree_util.tree_map_with_path(own, self.bijector, slopes[0])
        values = way(self.x, slopes[1]), way(self.y, slopes[2])
        still = jax.tree.map(_nothing, self.bijector)
        self._differences("parameters", (along, *map(jnp.zeros_like, values)))
        self._differences("the value", (still, *values))
        return "in the value and in all parameters as by finite differences"

    def _differences(self, of: str, ways: Any) -> None:
        """Raises unless the derivative along `ways` is that of finite differences."""
        start = (self.bijector, self.x, self.y)
        exact = derivative(*start, ways)

        def at(step: float) -> dict[str, Array]:
            return ask(*jax.tree.map(lambda a, d: _moved(a, d, step), start, ways))

        above, middle, below = at(_STEP), at(0.0), at(-_STEP)
        for name, slope in exact.items():
            # Where the curvature jumps, as at a knot, the slope is that of one side.
            sides = [(above, below, 2), (above, middle, 1), (middle, below, 1)]
            found = [(np.asarray(a[name]) - np.asarray(b[name])) / (n * _STEP) for a, b, n in sides]
            got = np.asarray(slope)
            nearest = np.argmin([np.abs(got - f) for f in found], axis=0)
            truth = np.choose(nearest, found)
            if far := self._far(got, truth, 1e-4):
                raise Failed(
                    f"the derivative of {name} in {of} is not that of finite differences: {far}"
                )

    def at_edges(self) -> str:
        """At the edges, a float beside them, and beyond."""
        b = self.bijector
        if not self.edges:
            raise Skipped("none were given: edges=[...]")
        if b.event_ndim:
            raise Skipped("of maps of numbers only")
        with jax.enable_x64(False):
            single, inner = cast(self.given, jnp.float32), np.float32
            points = [p for edge in self.edges for p in beside(inner(edge))]
            low, high = min(self.edges), max(self.edges)
            span = max(high - low, 1.0)
            points = sorted([inner(low - span), *points, inner(high + span)])
            x = jnp.asarray(points, jnp.float32).reshape((-1,) + (1,) * (self.x.ndim - 1))
            x = jnp.broadcast_to(x, (len(points), *self.x.shape[1:]))
            x = x[np.asarray(b.domain.contains(x)).reshape(len(points), -1).all(axis=1)]
            return looked_at_edges(single, x)

    def nan(self) -> str:
        """NaN in, NaN out."""
        bad = ask(self.bijector, self.x.at[0].set(jnp.nan), self.y.at[0].set(jnp.nan))
        y, log_det, back = (np.asarray(bad[name]) for name in ("y", "log_det", "x"))
        if not np.isnan(y[0]).any() or not np.isnan(back[0]).any():
            raise Failed("a NaN comes out as a number")
        if np.isnan(y[1:]).any() or np.isnan(log_det[1:]).any():
            raise Failed("a NaN in one value reaches another one")
        return "NaN gives NaN"

    def single(self) -> str:
        """float32 against float64."""
        with jax.enable_x64(False):
            bijector, x = cast(self.given, jnp.float32), jnp.asarray(self.x, jnp.float32)
            out, y = said(bijector, x)
        with jax.enable_x64(True):
            # The same numbers in float64: what float32 rounds of x and y is no error of the map.
            numbers = [np.asarray(v).astype(np.float64) for v in (x, y)]
            truth = ask(cast(bijector, jnp.float64), *map(jnp.asarray, numbers))
        largest = 0.0
        for name in ("y", "log_det", "x", "inverse_log_det"):
            got, wanted = out[name], np.asarray(truth[name])
            if got.dtype != np.float32:
                raise Failed(f"{name} of float32 values is {got.dtype}")
            largest = max(largest, worst(got, wanted)[1])
            if far := self._far(got, wanted, _SINGLE):
                raise Failed(f"{name} in float32 is {far}")
        return f"within {largest:.1g} of float64"

    def stacked(self) -> str:
        """A stack of two, made by vmap, against each."""
        leaves, tree = jax.tree.flatten(cast(self.given, jnp.float32))
        if not leaves:
            raise Skipped("no parameters")
        x = jnp.asarray(self.x, jnp.float32)
        factors = jnp.array([1.0, 0.9])

        def make(factor: Array) -> Bijector:
            floating = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]
            moved = [leaf * factor if f else leaf for f, leaf in zip(floating, leaves, strict=True)]
            return jax.tree.unflatten(tree, moved)

        axis = x.ndim - self.given.event_ndim - self.given.batch_ndim
        spread = jnp.expand_dims(x, axis)
        both = jax.vmap(make)(factors)
        got, _ = said(both, spread)
        for i, factor in enumerate(factors):
            want, _ = said(make(factor), x)
            for name, truth in want.items():
                own = np.take(got[name], i, axis)
                if own.shape != truth.shape or self._far(own, truth, _SINGLE):
                    raise Failed(
                        f"of a bijector that was built inside vmap, {name} is not that of each element: "
                        "does a method use axes of the parameters that are not their own?"
                    )
        return "built inside vmap it is that of each element"


def _nothing(leaf: Array) -> Any:
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    return jnp.zeros_like(leaf) if floating else np.zeros(leaf.shape, jax.dtypes.float0)


def _moved(leaf: Array, way: Any, step: float) -> Array:
    return leaf if way.dtype == jax.dtypes.float0 else leaf + step * way
