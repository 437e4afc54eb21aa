"""Checks that ask for no truth: the tree, shapes, dtypes, and that every way to build or map gives the same."""

from __future__ import annotations

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from likelax._pytree import Node
from likelax.distributions.base import Distribution
from likelax.testing.subject import SUMMARIES, TAILS, Subject, describe, first_line

Problems = list[str]


def check_tree(dist: Distribution) -> Problems:
    """The array leaves are the declared parameters, and nothing else is held."""
    problems = []
    for at in _nodes(dist):
        cls = type(at)
        declared = {p.name for p in cls._params} | set(cls._nodes) | set(cls._statics)
        for name in sorted(set(vars(at)) - declared):
            problems.append(
                f"{cls.__name__} stores {name} = {str(vars(at)[name])[:40]}, which is no declared field: shapes and constants stored "
                "when a distribution is built are wrong under vmap, scan and indexing; derive them in a property"
            )
        for name in cls._statics:
            try:
                hash(vars(at)[name])
            except TypeError:
                problems.append(f"{cls.__name__}.{name} is static but not hashable: jit cannot use it")
    if problems:
        return problems
    leaves, treedef = jax.tree.flatten(dist)
    back = jax.tree.unflatten(treedef, leaves)
    if jax.tree.structure(back) != treedef or vars(back).keys() != vars(dist).keys():
        problems.append("flattening and unflattening gives another tree")
    if jax.tree.structure(jax.jit(lambda d: d)(dist)) != treedef:
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
    same = jax.tree.structure(back) == jax.tree.structure(dist) and all(
        np.array_equal(a, b, equal_nan=np.issubdtype(np.asarray(a).dtype, np.floating))
        for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(dist), strict=True)
    )
    return [] if same else ["a copy through pickle is not the same"]


def check_shapes(dist: Distribution, floats: bool, key: jax.Array) -> Problems:
    """Every method gives the shape that the batch and the event say."""
    batch, event = dist.batch_shape, dist.event_shape
    dtype = jnp.float32 if floats else jnp.int32
    problems = []

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

    for sample in ((), (2, 3)):
        x = jax.ShapeDtypeStruct((*sample, *batch, *event), dtype)
        expect(f"log_prob of values {x.shape}", (*sample, *batch), lambda d, v: d.log_prob(v), x)
    one = jax.ShapeDtypeStruct(event, dtype)
    expect(f"log_prob of one value {event}", batch, lambda d, v: d.log_prob(v), one)
    for sample in ((), (2, 3)):
        shape = (*sample, *batch, *event)
        expect(f"sample(key, {sample})", shape, lambda d, k, s=sample: d.sample(k, s), key)
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    other = jax.eval_shape(jax.random.key_data, key) if typed else key
    if typed and other.shape == (2,):
        expect("sample with a legacy key", (*batch, *event), lambda d, k: d.sample(k), other)
    if not event:
        for name in TAILS:
            x = jax.ShapeDtypeStruct((3, *batch), dtype)
            expect(f"{name} of values {x.shape}", x.shape, lambda d, v, m=name: getattr(d, m)(v), x)
        q = jax.ShapeDtypeStruct((3, *batch), jnp.float32)
        expect(f"quantile of {q.shape}", q.shape, lambda d, v: d.quantile(v), q)
    for name in SUMMARIES:
        shape = batch if name == "entropy" else (*batch, *event)
        expect(f"{name}()", shape, lambda d, m=name: getattr(d, m)())
    return problems


def check_dtypes(dist: Distribution, floats: bool, discrete: bool, key: jax.Array) -> Problems:
    """float32 stays, bfloat16 becomes float32, float64 stays under x64."""
    problems = []
    tree = jax.tree.structure(dist)
    shape = (*dist.batch_shape, *dist.event_shape)

    def with_dtype(dtype: Any) -> Any:
        return jax.tree.unflatten(
            tree,
            [
                jax.ShapeDtypeStruct(x.shape, dtype if jnp.issubdtype(x.dtype, jnp.floating) else x.dtype)
                for x in jax.tree.leaves(dist)
            ],
        )

    def expect(given: str, d: Any, value: Any, wanted: Any, prepare: Any = lambda d: d) -> None:
        x = jax.ShapeDtypeStruct(shape, value if floats else jnp.int32)
        calls: list[tuple[str, Any, Any]] = [("log_prob", lambda d, x: prepare(d).log_prob(x), x)]
        if not discrete:
            calls.append(("sample", lambda d, k: prepare(d).sample(k), key))
        for name in SUMMARIES:
            calls.append((name, lambda d, x, m=name: getattr(prepare(d), m)(), x))
        for name in () if dist.event_shape else TAILS:
            calls.append((name, lambda d, x, m=name: getattr(prepare(d), m)(x), x))
        for name, call, argument in calls:
            try:
                got = jax.eval_shape(call, d, argument).dtype
            except Exception:  # check_shapes says so
                continue
            if got != wanted and not (discrete and not jnp.issubdtype(got, jnp.floating)):
                problems.append(f"{name} gives {got} for {given}, where {np.dtype(wanted)} was wanted")

    if dist.dtype == jnp.float32:
        expect("float32 parameters", with_dtype(jnp.float32), jnp.float32, jnp.float32)
        expect("bfloat16 values", with_dtype(jnp.float32), jnp.bfloat16, jnp.float32)
        expect(
            "bfloat16 parameters", with_dtype(jnp.bfloat16), jnp.bfloat16, jnp.float32, construct
        )
    with jax.enable_x64(True):
        expect("float64 parameters", with_dtype(jnp.float64), jnp.float64, jnp.float64)
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
    """One point or element at a time, by vmap, scan, indexing or rebuilding, gives what the batch gives.

    Args:
      points: values inside the support, `(n, elements, *event)`.
    """
    names = [i for i, info in enumerate(subject.info) if info.varies]
    failed: dict[str, str] = {}
    nudged = subject.nudged()
    x = subject.as_value(points)

    def attempt(out: dict[str, Any], name: str, method: Any) -> None:
        try:
            out[name] = method()
        except Exception as error:  # a user's method may raise anything; it becomes a row
            failed[name] = f"raises {type(error).__name__}: {first_line(error)}"

    def both(leaves: Any, x: jax.Array) -> dict[str, Any]:
        build, out = subject.build, {}
        attempt(out, "batch", lambda: build(leaves).log_prob(x))
        one = jax.vmap(lambda ls, v: build(ls).log_prob(v), in_axes=(0, 0))
        attempt(out, "one value at a time", lambda: jax.vmap(lambda v: build(leaves).log_prob(v))(x))
        attempt(out, "vmap", lambda: jax.vmap(one, in_axes=(None, 0))(leaves, x))
        attempt(out, "index", lambda: jnp.stack([build(leaves)[i].log_prob(x[:, i]) for i in range(subject.elements)], 1))

        def step(carry: Any, each: Any) -> Any:
            return carry, (carry.log_prob(x[0]), each[0].log_prob(each[1]))

        each = (build(leaves), jnp.swapaxes(x, 0, 1))
        attempt(out, "scan", lambda: jax.lax.scan(step, build(leaves), each)[1][1].T)
        attempt(out, "rebuild", lambda: construct(build(leaves)).log_prob(x))
        return out

    def mixed(leaves: Any, x: jax.Array) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for at in names:
            rows = jnp.stack([leaves[at][0], jnp.asarray(nudged[at])[0]])

            def with_row(row: jax.Array, at: int = at) -> Any:
                return construct(subject.build([row if i == at else leaf for i, leaf in enumerate(leaves)]))

            def direct(row: jax.Array, at: int = at) -> Any:
                full = jnp.broadcast_to(row, leaves[at].shape)
                return subject.build([full if i == at else leaf for i, leaf in enumerate(leaves)])

            name = subject.info[at].name
            attempt(out, name, lambda f=with_row, r=rows: jax.vmap(lambda a: f(a).log_prob(x))(r))
            attempt(out, name + " wanted", lambda f=direct, r=rows: jnp.stack([f(a).log_prob(x) for a in r]))
            sample = lambda f, r: jax.eval_shape(  # noqa: E731
                jax.vmap(lambda a: f(a).sample(subject.key, (3,))), r
            ).shape
            shape = (2, 3, subject.elements, *subject.event_shape)
            if subject.notes.get("sample", ("ok",))[0] == "ok" and name not in failed:
                shapes: dict[str, Any] = {}
                attempt(shapes, name, lambda f=with_row, r=rows: sample(f, r))
                if shapes and shapes[name] != shape:
                    failed[name] = f"gives samples of shape {shapes[name]} where {shape} was wanted"
        return out

    got = {k: np.asarray(v) for k, v in jax.jit(both)(subject.leaves, x).items()}
    rows = {k: np.asarray(v) for k, v in jax.jit(mixed)(subject.leaves, x).items()}
    out: dict[str, Problems] = {}
    words = {
        "one value at a time": "log_prob of many values at once is not that of each by itself: a sum over, or a shape of, the batch in it?",
        "vmap": "vmap over the elements is not the batch: does log_prob mix the elements?",
        "index": "dist[i] is not element i of the batch",
        "scan": "scan over the elements is not the batch",
        "rebuild": "the constructor does not give the same from the distribution's own fields",
    }
    for name, text in words.items():
        out[name] = [f"{name} {failed[name]}"] if name in failed else _compare(got, name, "batch", text)
    out["batch"] = [f"log_prob {failed['batch']}"] if "batch" in failed else []
    out["mixed ranks"] = []
    for at in names:
        name = subject.info[at].name
        text = f"built inside vmap over {name} alone it is not the batch of those distributions"
        if name in failed:
            out["mixed ranks"].append(f"building inside vmap over {name} alone {failed[name]}")
        else:
            out["mixed ranks"] += _compare(rows, name, name + " wanted", text)
    return out


def _compare(got: dict[str, np.ndarray], name: str, wanted: str, text: str) -> Problems:
    if name not in got or wanted not in got:
        return []
    a, b = got[name], got[wanted]
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
