"""The distribution under check, with the few functions that are compiled for it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from likelax import supports
from likelax._pytree import Node, Param
from likelax.distributions.base import Distribution, Masked

_MOST_ELEMENTS = 4
# Values in one call: most questions are about a few, and the rest of the rows is computed in vain.
_ROWS = 256
# What is run once or twice is not worth an optimiser's time: these cut the compilation to a third.
_QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
TAILS = ("cdf", "log_cdf", "survival", "log_survival")
SUMMARIES = ("mean", "mode", "variance", "stddev", "entropy")


@functools.cache
def _quick_options() -> dict[str, Any]:
    """Compiler options for little optimisation, where this version of XLA has them."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x, compiler_options=_QUICK)(0.0)
    except Exception:  # options come and go between versions: without them it only takes longer
        return {}
    return _QUICK


def quick_jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit` that compiles quickly, to code that is slower but the same to a user."""
    return jax.jit(function, compiler_options=_quick_options())


class Leaf:
    """One array in the tree: its name, and what its field says of it."""

    def __init__(self, name: str, param: Param | None, value: Any):
        self.name, self.param = name, param
        self.floating = bool(jnp.issubdtype(jnp.asarray(value).dtype, jnp.floating))

    @property
    def varies(self) -> bool:
        """Whether a derivative by it means something: neither a mask nor a count."""
        support = self.param.support if self.param else None
        return self.floating and not (support is not None and support.is_discrete)


def describe(dist: Any) -> list[Leaf]:
    """Every leaf of the tree, in order, with the name under which a user knows it."""
    leaves = []
    for path, value in jax.tree_util.tree_flatten_with_path(dist)[0]:
        at, param, parts = dist, None, []
        for key in path:
            name = getattr(key, "name", getattr(key, "idx", getattr(key, "key", None)))
            parts.append(str(name))
            if isinstance(at, Node):
                param = next((p for p in type(at)._params if p.name == name), None)
            at = getattr(at, name) if isinstance(name, str) and hasattr(at, name) else at[name]
        leaves.append(Leaf(".".join(parts), param, value))
    return leaves


class Subject:
    """A distribution flattened to one batch axis of a few elements, and its compiled functions.

    Values are NumPy arrays `(n, elements, *event)` throughout; every call of one function has the
    same shape, so that it is compiled once for each precision.

    Attributes:
      original: what was given; `dist` holds the elements that are looked at.
      notes: what a method raised while it was traced: `(status, text)` by method.
      dtypes: what each method gives for the parameters as they are; `wide_dtype`, what log_prob
        gives for those in float64.
    """

    def __init__(self, original: Distribution, key: jax.Array, num_samples: int):
        self.original, self.key, self.n = original, key, num_samples
        self.name = type(original).__name__
        self.dist = flatten_batch(original)
        self.elements = self.dist.batch_shape[0]
        self.event_shape = original.event_shape
        self.leaves, self.treedef = jax.tree.flatten(self.dist)
        self.leaves = [np.asarray(leaf) for leaf in self.leaves]
        self.info = describe(self.dist)
        self.support = self.dist.support
        self.discrete = bool(self.support.is_discrete)
        self.notes: dict[str, tuple[str, str]] = {}
        self.dtypes: dict[str, Any] = {}
        self.wide_dtype: Any = None
        self.takes_floats = not self.dist._takes_indices
        self._supports = quick_jit(self._trace_supports)
        self._nudged: list[np.ndarray] | None = None
        self._tails = quick_jit(self._trace_tails)
        self._log_prob = quick_jit(lambda leaves, x: self.build(leaves).log_prob(x))
        # The digits of float32 are looked at as a user's own compilation leaves them.
        self._gradients = jax.jit(self._trace_gradients)
        self._gradients64 = quick_jit(self._trace_gradients)
        self._summaries = quick_jit(self._trace_summaries)
        self._draw = quick_jit(self._trace_draw)

    # Trees.

    def build(self, leaves: Any) -> Any:
        """The distribution with these leaves: its constructor is not run."""
        return jax.tree.unflatten(self.treedef, leaves)

    @property
    def wide(self) -> list[np.ndarray]:
        """The leaves in float64."""
        return [
            leaf.astype(np.float64) if info.floating else leaf
            for leaf, info in zip(self.leaves, self.info, strict=True)
        ]

    def nudged(self) -> list[np.ndarray]:
        """Leaves a sixteenth larger where their support allows it: another distribution of the
        family.
        """
        if self._nudged is None:
            larger = [
                leaf * np.asarray(1.0625, leaf.dtype) if info.varies else leaf
                for leaf, info in zip(self.leaves, self.info, strict=True)
            ]
            like = np.zeros((_ROWS, self.elements, *self.event_shape))
            good = self._supports(self.leaves, self.as_value(like), larger)["fits"]
            pairs = zip(good, larger, self.leaves, strict=True)
            self._nudged = [more if ok else leaf for ok, more, leaf in pairs]
        return list(self._nudged)

    def label(self, element: int) -> str:
        """What messages call an element: its parameters."""
        parts = []
        for leaf, info in zip(self.leaves, self.info, strict=True):
            value = leaf[min(element, len(leaf) - 1)] if leaf.ndim else leaf
            if np.size(value) == 1:
                parts.append(f"{info.name}={np.ravel(value)[0]:.6g}")
            else:
                parts.append(
                    f"{info.name}=[{', '.join(f'{v:.4g}' for v in np.ravel(value)[:4])}{', ...' if np.size(value) > 4 else ''}]"
                )
        return f"{self.name}({', '.join(parts)})"

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The ends of the support for each element, infinite where there are none."""
        low, high = getattr(self.support, "lower", None), getattr(self.support, "upper", None)
        if isinstance(self.support, supports.Circle):
            low, high = -math.pi, math.pi
        ends = [(-np.inf if low is None else low), (np.inf if high is None else high)]
        wide = [np.broadcast_to(np.asarray(e, np.float64), (self.elements,)) for e in ends]
        return wide[0], wide[1]

    def inside(self, x: np.ndarray) -> np.ndarray:
        """Whether values `(n, elements, *event)` are in the support, `(n, elements)`."""
        run = lambda v: {"inside": self._supports(self.leaves, v, self.leaves)["inside"]}  # noqa: E731
        return self._padded(run, self.as_value(x))["inside"]

    # Values.

    def as_value(self, x: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
        """Values in the dtype that log_prob takes: float32, or whole numbers for indices."""
        if not self.takes_floats:
            return x.astype(np.int32)
        x = x.astype(dtype)
        if dtype == np.float64 and is_simplex(self.support):
            # Sums that are 1 in float32 are not in float64.
            x = x / x.sum(axis=-1, keepdims=True)
        return x

    def log_prob(self, x: np.ndarray, leaves: Any = None) -> np.ndarray:
        """log_prob in float32, `(n, elements)`."""
        return self.tails(x, leaves)["log_prob"]

    def tails(self, x: np.ndarray, leaves: Any = None) -> dict[str, np.ndarray]:
        """log_prob and all of the cdf family that there is, in float32; `slope` is the derivative
        of cdf.
        """
        leaves = self.leaves if leaves is None else leaves
        return self._padded(lambda v: self._tails(leaves, v), self.as_value(x))

    def log_prob64(self, x: np.ndarray, leaves: Any = None) -> np.ndarray:
        """log_prob in float64, `(n, elements)`."""
        leaves = self.wide if leaves is None else leaves
        with jax.enable_x64(True):
            run = lambda v: {"log_prob": self._log_prob(leaves, v)}  # noqa: E731
            log_prob = self._padded(run, self.as_value(x, np.float64))["log_prob"]
            self.wide_dtype = log_prob.dtype
            return log_prob.astype(np.float64)

    def gradients(self, x: np.ndarray, leaves: Any = None) -> dict[str, Any]:
        """log_prob and its gradients in float32: one point at a time, `(n, elements, ...)`."""
        leaves = self.leaves if leaves is None else leaves
        return self._gradients_of(self._gradients, leaves, self.as_value(x))

    def gradients64(self, x: np.ndarray) -> dict[str, Any]:
        """The same in float64."""
        with jax.enable_x64(True):
            return self._gradients_of(self._gradients64, self.wide, self.as_value(x, np.float64))

    def summaries(self, q: np.ndarray) -> dict[str, np.ndarray]:
        """mean, mode, variance, stddev, entropy, quantile(q), kl to itself and to the nudged one."""
        out = self._summaries(self.leaves, self.nudged(), q.astype(np.float32))
        return {k: np.asarray(v) for k, v in out.items()}

    def draw(self, stream: int) -> dict[str, np.ndarray]:
        """`n` samples of each element with another key for each stream."""
        out = self._draw(self.leaves, jax.random.fold_in(self.key, stream))
        return {k: np.asarray(v) for k, v in out.items()}

    # What is traced.

    def attempt(
        self, out: dict[str, Any], name: str, shape: tuple[int, ...], method: Callable[[], Any]
    ) -> None:
        """Keeps the result, or notes why there is none."""
        try:
            got = method()
            self.dtypes[name] = jnp.result_type(got)
            if jnp.shape(got) != shape:
                text = f"{name} has shape {jnp.shape(got)} where {shape} was wanted"
                self.notes[name] = ("failed", text)
            else:
                out[name] = got
        except NotImplementedError as error:
            self.notes[name] = ("skipped", first_line(error))
        except Exception as error:  # a user's method may raise anything; it becomes a row
            self.notes[name] = (
                "failed",
                f"{name} raises {type(error).__name__}: {first_line(error)}",
            )

    def _own(self, name: str) -> bool:
        """Whether the method is the distribution's own, not the base class's."""
        return getattr(type(self.dist), name) is not getattr(Distribution, name)

    def _trace_supports(self, leaves: Any, x: jax.Array, others: Any) -> dict[str, Any]:
        """Whether values are in the support, and which of the other leaves in their own."""
        own = [info.param.support if info.param else None for info in self.info]
        fits = [
            jnp.asarray(support is None or jnp.all(support.contains(leaf)))
            for support, leaf in zip(own, others, strict=True)
        ]
        return {"inside": self.build(leaves).support.contains(x), "fits": fits}

    def _trace_tails(self, leaves: Any, x: jax.Array) -> dict[str, Any]:
        dist, out = self.build(leaves), {}
        shape = x.shape[:2]
        self.attempt(out, "log_prob", shape, lambda: dist.log_prob(x))
        if self.event_shape:
            return out
        # The base class's cdf is exp(log_cdf): what it gives needs no second computation.
        first = "cdf" if self._own("cdf") else "log_cdf"
        slopes = not self.discrete

        def with_slope() -> jax.Array:
            if not slopes:
                return getattr(dist, first)(x)
            value, out["slope"] = jax.jvp(getattr(dist, first), (x,), (jnp.ones_like(x),))
            return value

        self.attempt(out, first, shape, with_slope)
        if first == "log_cdf" and first in out:
            self.attempt(out, "cdf", shape, lambda: jnp.exp(out["log_cdf"]))
            if slopes:
                out["slope"] = out["slope"] * out["cdf"]
        for name, other, function in (
            ("cdf", "log_cdf", jnp.exp),
            ("log_cdf", "cdf", None),
            ("log_survival", "survival", None),
            ("survival", "log_survival", jnp.exp),
        ):
            if name in out or name in self.notes:
                continue
            if function and not self._own(name) and self._own(other) and other in out:
                self.attempt(out, name, shape, lambda f=function, o=other: f(out[o]))
            else:
                self.attempt(out, name, shape, lambda name=name: getattr(dist, name)(x))
        return out

    def _trace_gradients(self, leaves: Any, x: jax.Array) -> dict[str, Any]:
        varies = [info.floating for info in self.info]

        def total(moving: list[Any], value: jax.Array) -> Any:
            it = iter(moving)
            mixed = [next(it) if v else leaf for v, leaf in zip(varies, leaves, strict=True)]
            log_prob = self.build(mixed).log_prob(value)
            return jnp.sum(log_prob), log_prob

        moving = [leaf for v, leaf in zip(varies, leaves, strict=True) if v]
        with_value = jnp.issubdtype(x.dtype, jnp.floating)
        argnums = (0, 1) if with_value else (0,)

        def one(value: jax.Array) -> Any:
            return jax.grad(total, argnums=argnums, has_aux=True)(moving, value)

        grads, log_prob = jax.vmap(one)(x)
        return {"log_prob": log_prob, "leaves": grads[0], "value": grads[1] if with_value else None}

    def _trace_summaries(self, leaves: Any, nudged: Any, q: jax.Array) -> dict[str, Any]:
        dist, out = self.build(leaves), {}
        batch = (self.elements,)
        for name in SUMMARIES:
            shape = batch if name == "entropy" else (*batch, *self.event_shape)
            self.attempt(out, name, shape, lambda name=name: getattr(dist, name)())
        # To itself and to the nudged one at once, on a new leading axis.
        pair = self.build([jnp.stack(both) for both in zip(leaves, nudged, strict=True)])
        alone = self.build([leaf[None] for leaf in map(jnp.asarray, leaves)])
        self.attempt(out, "kl", (2, *batch), lambda: alone.kl_divergence(pair))
        if "kl" in out:
            out["kl_same"], out["kl_other"] = out.pop("kl")
        elif self.notes["kl"][0] == "skipped":
            self.attempt(out, "kl_same", batch, lambda: dist.kl_divergence(dist))
        if not self.event_shape:
            self.attempt(out, "quantile", (len(q), *batch), lambda: dist.quantile(q))
        return out

    def _trace_draw(self, leaves: Any, key: jax.Array) -> dict[str, Any]:
        dist, out = self.build(leaves), {}
        shape = (self.n, self.elements, *self.event_shape)
        if not self._own("sample_and_log_prob"):
            self.attempt(out, "sample", shape, lambda: dist.sample(key, (self.n,)))
            return out

        def pair() -> jax.Array:
            out["pair_value"], log_prob = dist.sample_and_log_prob(key, (self.n,))
            return log_prob

        self.attempt(out, "sample", shape, lambda: dist.sample(key, (self.n,)))
        self.attempt(out, "pair_log_prob", shape[:2], pair)
        return out

    def _gradients_of(self, run: Any, leaves: Any, x: np.ndarray) -> dict[str, Any]:
        out = jax.tree.map(np.asarray, run(leaves, x))
        it = iter(out["leaves"])
        out["leaves"] = [next(it) if info.floating else None for info in self.info]
        return out

    def _padded(self, run: Callable[[np.ndarray], Any], x: np.ndarray) -> dict[str, np.ndarray]:
        parts = []
        for start in range(0, len(x), _ROWS):
            part = x[start : start + _ROWS]
            short = _ROWS - len(part)
            whole = np.concatenate([part, np.repeat(part[-1:], short, axis=0)]) if short else part
            parts.append({k: np.asarray(v)[: len(part)] for k, v in run(whole).items()})
        return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}


def flatten_batch(dist: Distribution) -> Distribution:
    """The distribution with one batch axis of at most a few elements, spread over the whole batch."""
    shape = dist.batch_shape
    size = math.prod(shape)
    if size == 0:
        raise ValueError(
            f"{type(dist).__name__} has batch shape {shape}: there is no element to check"
        )
    chosen = np.arange(size)
    if isinstance(dist, Masked):
        kept = np.broadcast_to(np.asarray(dist.mask_), shape).reshape(-1)
        if not kept.any():
            raise ValueError(f"{type(dist).__name__}: the mask leaves no element to check")
        chosen = chosen[kept]
    spread = np.unique(
        np.linspace(0, len(chosen) - 1, min(len(chosen), _MOST_ELEMENTS)).astype(int)
    )
    index = chosen[spread]

    def flatten(dist: Distribution) -> Distribution:
        wide = dist.broadcast_to(shape)

        def pick(leaf: Any) -> Any:
            lead, core = leaf.shape[: len(shape)], leaf.shape[len(shape) :]
            if math.prod(lead) == 1:  # shared by the whole batch
                return jnp.broadcast_to(leaf.reshape((1, *core)), (len(index), *core))
            return leaf.reshape((size, *core))[index]

        return jax.tree.map(pick, wide)

    return quick_jit(flatten)(dist)


def is_interval(support: Any) -> bool:
    """Whether the support is a range of numbers, or all of them."""
    return isinstance(support, supports.Interval | supports.Real)


def is_simplex(support: Any) -> bool:
    """Whether each last axis of a value sums to 1."""
    while isinstance(support, supports.Elementwise):
        support = support.base
    return isinstance(support, supports.Simplex)


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
