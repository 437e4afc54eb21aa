"""Checks that ask for no truth: the tree, shapes, dtypes, and that every way to build or map gives
the same.
"""

from __future__ import annotations

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from likelax._pytree import Node
from likelax.distributions.base import Distribution
from likelax.testing.subject import Subject, describe, first_line, quick_jit

Problems = list[str]


def check_tree(dist: Distribution) -> Problems:
    """The array leaves are the declared parameters, and nothing else is held."""
    problems = []
    for at in _nodes(dist):
        cls = type(at)
        declared = {p.name for p in cls._params} | set(cls._nodes) | set(cls._statics)
        for name in sorted(set(vars(at)) - declared):
            problems.append(
                f"{cls.__name__} stores {name} = {str(vars(at)[name])[:40]}, which is no declared "
                "field: shapes and constants stored "
                "when a distribution is built are wrong under vmap, scan and indexing; derive "
                "them in a property"
            )
        for name in cls._statics:
            try:
                hash(vars(at)[name])
            except TypeError:
                problems.append(
                    f"{cls.__name__}.{name} is static but not hashable: jit cannot use it"
                )
    if problems:
        return problems
    leaves, treedef = jax.tree.flatten(dist)
    back = jax.tree.unflatten(treedef, leaves)
    if jax.tree.structure(back) != treedef or vars(back).keys() != vars(dist).keys():  # type: ignore[operator]
        problems.append("flattening and unflattening gives another tree")
    if jax.tree.structure(jax.eval_shape(lambda d: d, dist)) != treedef:  # type: ignore[operator]
        problems.append("through jit comes another tree than went in")
    for name, leaf in zip((info.name for info in describe(dist)), leaves, strict=True):
        if not isinstance(leaf, jax.Array | np.ndarray):
            problems.append(f"{name} is a {type(leaf).__name__}, not an array")
    return problems


def check_pickle(dist: Distribution) -> Problems | str:
    """A copy through pickle has the same leaves; a reason where the class cannot be pickled."""
    try:
        data = pickle.dumps(dist)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        return f"not a class that pickle finds by name: {first_line(error)}"
    back = pickle.loads(data)
    same = jax.tree.structure(back) == jax.tree.structure(dist) and all(  # type: ignore[operator]
        np.array_equal(a, b, equal_nan=np.issubdtype(np.asarray(a).dtype, np.floating))
        for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(dist), strict=True)
    )
    return [] if same else ["a copy through pickle is not the same"]


def check_shapes(dist: Distribution, floats: bool, key: jax.Array) -> Problems:
    """log_prob and samples have the shapes that the batch and the event say; the shapes of the
    other methods are looked at where they are computed.
    """
    batch, event = dist.batch_shape, dist.event_shape
    dtype = jnp.float32 if floats else jnp.int32
    problems: Problems = []

    def expect(what: str, shape: tuple[int, ...], method: Any, *args: Any) -> None:
        try:
            got = jax.eval_shape(method, dist, *args).shape
        except NotImplementedError:
            return
        except Exception as error:  # a user's method may raise anything; it becomes a row
            problems.append(f"{what} raises {type(error).__name__}: {first_line(error)}")
            return
        if got != shape:
            problems.append(f"{what} has shape {got} where {shape} was wanted")

    x = jax.ShapeDtypeStruct((2, 3, *batch, *event), dtype)
    expect(f"log_prob of values {x.shape}", (2, 3, *batch), lambda d, v: d.log_prob(v), x)
    one = jax.ShapeDtypeStruct(event, dtype)
    expect(f"log_prob of one value {event}", batch, lambda d, v: d.log_prob(v), one)
    expect("sample(key, (2, 3))", (2, 3, *batch, *event), lambda d, k: d.sample(k, (2, 3)), key)
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    legacy = jax.eval_shape(jax.random.key_data, key) if typed else key
    if legacy.shape == (2,):
        expect("sample(legacy_key)", (*batch, *event), lambda d, k: d.sample(k), legacy)
    else:
        expect("sample(key)", (*batch, *event), lambda d, k: d.sample(k), key)
    return problems


def traces(subject: Subject) -> bool:
    """Whether log_prob of a batch gets through `jit` at all."""
    dtype = jnp.float32 if subject.takes_floats else jnp.int32
    x = jax.ShapeDtypeStruct((2, subject.elements, *subject.event_shape), dtype)
    try:
        jax.eval_shape(lambda d, v: d.log_prob(v), subject.dist, x)
    except Exception:  # check_shapes says so
        return False
    return True


def check_dtypes(subject: Subject) -> Problems:
    """float32 stays, bfloat16 becomes float32, float64 stays under x64."""
    problems: Problems = []
    shape = (*subject.dist.batch_shape, *subject.event_shape)

    def like(dtype: Any) -> Any:
        return [
            jax.ShapeDtypeStruct(leaf.shape, dtype if info.floating else leaf.dtype)
            for leaf, info in zip(subject.leaves, subject.info, strict=True)
        ]

    def judge(name: str, given: str, got: Any, wanted: Any) -> None:
        counts = subject.discrete and not jnp.issubdtype(got, jnp.floating)
        if got != wanted and not (counts and name in ("sample", "mode", "quantile")):
            problems.append(f"{name} gives {got} for {given}, where {np.dtype(wanted)} was wanted")

    def run(name: str, given: str, call: Any, leaves: Any, argument: Any, wanted: Any) -> None:
        try:
            got = jax.eval_shape(lambda ls, a: call(subject.build(ls), a), leaves, argument).dtype
        except Exception:  # check_shapes says so
            return
        judge(name, given, got, wanted)

    if subject.dist.dtype == jnp.float32:
        for name, got in subject.dtypes.items():
            judge(name, "float32 parameters", got, np.float32)
        half = jax.ShapeDtypeStruct(shape, jnp.bfloat16 if subject.takes_floats else jnp.int32)
        built = lambda d, v: construct(d).log_prob(v)  # noqa: E731
        given = "bfloat16 parameters and values"
        run("log_prob", given, built, like(jnp.bfloat16), half, jnp.float32)
    with jax.enable_x64(True):
        wide = jax.ShapeDtypeStruct(shape, jnp.float64 if subject.takes_floats else jnp.int32)
        calls: list[tuple[str, Any, Any]] = []
        if subject.wide_dtype is None:
            calls.append(("log_prob", lambda d, v: d.log_prob(v), wide))
        else:
            judge("log_prob", "float64 parameters", subject.wide_dtype, np.float64)
        if not subject.event_shape:
            calls.append(("cdf", lambda d, v: d.cdf(v), wide))
        calls.append(("sample", lambda d, k: d.sample(k), subject.key))
        calls += [
            (m, lambda d, v, m=m: getattr(d, m)(), wide) for m in ("mean", "variance", "entropy")
        ]
        for name, call, argument in calls:
            run(name, "float64 parameters", call, like(jnp.float64), argument, jnp.float64)
    return problems


def construct(dist: Any) -> Any:
    """The same distribution, built again by every constructor in it."""
    if isinstance(dist, tuple):
        return tuple(construct(part) for part in dist)
    if not isinstance(dist, Node):
        return dist
    values = {name: construct(value) for name, value in vars(dist).items()}
    if type(dist).__init__ is not Node.__init__:
        return type(dist)(*values.values())
    return type(dist)(**values)


def check_mapping(subject: Subject, points: np.ndarray) -> dict[str, Problems]:
    """One point or element at a time, by vmap, scan, indexing or rebuilding, gives what the batch
    gives.

    Args:
      points: values inside the support, `(n, elements, *event)`.
    """
    names = {subject.info[i].name: i for i, info in enumerate(subject.info) if info.varies}
    rows = {n: np.stack([subject.leaves[i][0], subject.nudged()[i][0]]) for n, i in names.items()}
    x = subject.as_value(points)
    failed: dict[str, str] = {}

    def attempt(out: dict[str, Any], name: str, method: Any) -> None:
        try:
            out[name] = method()
        except Exception as error:  # a user's method may raise anything; it becomes a row
            failed[name] = f"{name} raises {type(error).__name__}: {first_line(error)}"

    def step(carry: Any, each: Any) -> Any:
        return carry, each[0].log_prob(each[1])

    def with_row(row: Any, at: int, leaves: Any) -> Any:
        """Built anew from one element's parameter and the whole batch of the others."""
        return construct(subject.build([row if i == at else x for i, x in enumerate(leaves)]))

    def mapped(leaves: Any, rows: Any, x: jax.Array) -> tuple[dict[str, Any], Distribution]:
        dist, out = subject.build(leaves), {}
        elements = jnp.swapaxes(x, 0, 1)
        attempt(out, "vmap", lambda: jax.vmap(lambda d, v: d.log_prob(v))(dist, elements).T)
        attempt(out, "scan", lambda: jax.lax.scan(step, dist, (dist, elements))[1].T)
        for name, at in names.items():
            build = lambda row, at=at: with_row(row, at, leaves)  # noqa: E731
            attempt(
                out, name, lambda b=build, n=name: jax.vmap(lambda r: b(r).log_prob(x))(rows[n])
            )
        return out, dist[subject.elements - 1]

    got, last = jax.tree.map(np.asarray, quick_jit(mapped)(subject.leaves, rows, x))
    batch = subject.log_prob(points)
    alone = subject.gradients(points)["log_prob"]
    words = {
        "vmap": "vmap over the elements is not the batch: does log_prob mix the elements?",
        "scan": "scan over the elements is not the batch",
    }
    out: dict[str, Problems] = {
        "one value at a time": _compare(
            batch,
            alone,
            "log_prob of many values at once is not that of each by itself: a sum over the "
            "batch, or a shape that is stored, in it?",
        )
    }
    for name, text in words.items():
        out[name] = [failed[name]] if name in failed else _compare(got[name], batch, text)
    if "sample" not in subject.notes and not out["vmap"]:
        draw_one = jax.vmap(lambda d: d.sample(subject.key, (3,)))
        shape = jax.eval_shape(draw_one, subject.dist).shape
        wanted = (subject.elements, 3, *subject.event_shape)
        if shape != wanted:
            out["vmap"] = [
                f"sample inside vmap has shape {shape} where {wanted} was wanted: is a shape stored?"
            ]
    out["index"] = _check_index(subject, last)
    out["rebuild"] = _check_rebuild(subject)
    mixed: Problems = []
    for name, at in names.items():
        if name in failed:
            mixed.append(f"built inside vmap over one parameter alone, {failed[name]}")
            continue
        want = []
        for row in rows[name]:
            leaves = list(subject.leaves)
            leaves[at] = np.broadcast_to(row, leaves[at].shape)
            want.append(subject.log_prob(points, leaves))
        text = f"built inside vmap over {name} alone, it is not the batch of those distributions"
        mixed += _compare(got[name], np.stack(want), text)
        if subject.elements > 1 and "sample" not in subject.notes and not mixed:
            draw = lambda row, at=at: with_row(row, at, subject.leaves).sample(subject.key, (3,))  # noqa: E731
            shape = jax.eval_shape(jax.vmap(draw), rows[name]).shape
            # Without other parameters there is no other batch.
            others = (subject.elements,) if len(subject.leaves) > 1 else ()
            shape_wanted = (2, 3, *others, *subject.event_shape)
            if shape != shape_wanted:
                mixed.append(
                    f"built inside vmap over {name} alone, it gives samples {shape} where "
                    f"{shape_wanted} was wanted"
                )
    out["mixed ranks"] = mixed
    return out


def _check_index(subject: Subject, one: Distribution) -> Problems:
    last = subject.elements - 1
    if one.batch_shape != ():
        return [f"dist[{last}] has batch shape {one.batch_shape} where () was wanted"]
    for info, a, b in zip(subject.info, jax.tree.leaves(one), subject.leaves, strict=True):
        if not np.array_equal(a, b[last], equal_nan=info.floating):
            return [f"dist[{last}] is not element {last}: {info.name} is another"]
    return []


def _check_rebuild(subject: Subject) -> Problems:
    try:
        built = jax.eval_shape(construct, subject.dist)
    except Exception as error:  # a user's constructor may raise anything; it becomes a row
        return [
            f"the constructor does not take the fields that are held: {type(error).__name__}: "
            f"{first_line(error)}"
        ]
    for info, a, b in zip(subject.info, jax.tree.leaves(built), subject.leaves, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return [
                f"the constructor makes {info.name} {a.dtype}{list(a.shape)} out of "
                f"{b.dtype}{list(b.shape)}, which it holds itself"
            ]
    return []


def _compare(a: np.ndarray, b: np.ndarray, text: str) -> Problems:
    if a.shape != b.shape:
        return [f"{text} (shape {a.shape} against {b.shape})"]
    with np.errstate(invalid="ignore"):
        off = np.abs(a - b) > 1e-4 * (1 + np.abs(b))
        off |= np.isnan(a) != np.isnan(b)
    if not off.any():
        return []
    worst = tuple(np.argwhere(off)[0])
    return [f"{text} ({a[worst]:.6g} against {b[worst]:.6g})"]


def _nodes(at: Any) -> list[Node]:
    """The tree's nodes, the root first."""
    if isinstance(at, tuple):
        return [node for part in at for node in _nodes(part)]
    if not isinstance(at, Node):
        return []
    return [at, *(node for name in type(at)._nodes for node in _nodes(vars(at)[name]))]
