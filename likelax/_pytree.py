"""Frozen dataclasses that are pytrees: the base of distributions and bijectors.

A subclass of `Node` says its fields as annotations::

    class Normal(Distribution):
        loc: Array = param(supports.real)
        scale: Array = param(supports.positive, default=None)
        log_scale: Array = param(
            supports.log_positive, instead_of="scale", to=jnp.exp, back=jnp.log
        )

and thereby becomes a frozen dataclass, registered as a keyed pytree whose array leaves are its
parameters. Of `scale` and `log_scale` exactly one is given and stored; reading the other one
converts.

Two rules make a node right under every transformation. Unflattening fills the attributes and runs
nothing else, so a node may hold whatever JAX puts into it. And the constructor gives all parameters
the *same number of batch axes* (by leading axes of length 1): a `Normal(loc, scale)` built inside
`vmap` from a mapped scalar and an unmapped vector comes out as `(B, 1)` beside `(B, 3)`, which
broadcast to what was meant, where `(B,)` beside `(B, 3)` would not.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np

from likelax import _checks
from likelax.supports import Support

Array = jax.Array
Tracer = jax.core.Tracer


@dataclasses.dataclass(frozen=True)
class Param:
    """What a field says of an array parameter: see `param`."""

    name: str
    support: Support | None
    shape: tuple[str, ...]
    typical: float | None
    group: str
    to: Callable[[Array], Array] | None
    back: Callable[[Array], Array] | None

    @property
    def core_ndims(self) -> int:
        """How many trailing axes belong to one parameter value."""
        return len(self.shape)


def param(
    support: Support | None = None,
    *,
    shape: tuple[str, ...] = (),
    typical: float | None = None,
    instead_of: str | None = None,
    to: Callable[[Array], Array] | None = None,
    back: Callable[[Array], Array] | None = None,
    default: Any = dataclasses.MISSING,
    kw_only: bool = False,
) -> Any:
    """Declares an array parameter.

    Args:
      support: the values that it may take; heads choose their link by it.
      shape: names of the trailing axes of one value: `()` for a number, `("event",)` for a vector
        as long as the event.
      typical: the value that a head gives at a raw output of 0 (default: 1 for a positive one).
      instead_of: the name of the field that this one is an alternative of; exactly one of them is
        given, this one by keyword.
      to: converts this parameter to the one that it stands for.
      back: the inverse of `to`.
      default: the value when none is given. Alternatives need none.
      kw_only: whether it can be given by keyword only, as alternatives are.
    """
    metadata = {
        "kind": "param",
        "support": support,
        "shape": shape,
        "typical": typical,
        "instead_of": instead_of,
        "to": to,
        "back": back,
    }
    alternative = instead_of is not None
    return dataclasses.field(
        default=None if alternative else default,
        kw_only=kw_only or alternative,
        metadata=metadata,
    )


def node(*, extra_ndims: int = 0, default: Any = dataclasses.MISSING) -> Any:
    """Declares a field that holds a node, a tuple of nodes, or another pytree.

    Args:
      extra_ndims: batch axes of the inner node that are no batch axes of this one.
      default: the value when none is given.
    """
    metadata = {"kind": "node", "extra_ndims": extra_ndims}
    return dataclasses.field(default=default, metadata=metadata)


def static(*, default: Any = dataclasses.MISSING, kw_only: bool = False) -> Any:
    """Declares a field that is no array: hashable, part of the tree's structure."""
    return dataclasses.field(default=default, kw_only=kw_only, metadata={"kind": "static"})


class _Alternative:
    """Reads a parameter that was not given from the one that was.

    No `__set__`: what is stored in the instance goes before it.
    """

    def __init__(self, name: str, group: tuple[Param, ...]):
        self.name, self.group = name, group
        self.own = next(p for p in group if p.name == name)

    def __get__(self, instance: Node | None, owner: type | None = None) -> Any:
        if instance is None:
            return None
        for other in self.group:
            given = instance.__dict__.get(other.name)
            if given is not None:
                canonical = other.to(given) if other.to else given
                return self.own.back(canonical) if self.own.back else canonical
        raise AttributeError(f"{type(instance).__name__} holds no {self.name}")


def _params_of(cls: type[Node]) -> tuple[Param, ...]:
    names = {f.name: f.metadata for f in dataclasses.fields(cls) if f.metadata["kind"] == "param"}  # type: ignore[arg-type]
    return tuple(
        Param(
            name=name,
            support=data["support"],
            shape=data["shape"],
            typical=data["typical"],
            group=data["instead_of"] or name,
            to=data["to"],
            back=data["back"],
        )
        for name, data in names.items()
    )


def _signature(cls: type[Node]) -> inspect.Signature:
    """The constructor's signature, for help(): positional fields, then keyword ones."""
    if cls.__init__ is not Node.__init__:
        own = inspect.signature(cls.__init__)
        return own.replace(parameters=list(own.parameters.values())[1:])
    positional, keyword = [], []
    grouped = {p.group for p in cls._params if p.group != p.name}
    for f in dataclasses.fields(cls):  # type: ignore[arg-type]
        optional = f.name in grouped or f.default is not dataclasses.MISSING
        default = f.default if f.default is not dataclasses.MISSING else None
        kind = (
            inspect.Parameter.KEYWORD_ONLY if f.kw_only else inspect.Parameter.POSITIONAL_OR_KEYWORD
        )
        parameter = inspect.Parameter(
            f.name, kind, default=default if optional else inspect.Parameter.empty
        )
        (keyword if f.kw_only else positional).append(parameter)
    # A required one behind an optional one is still required: the constructor says so.
    seen_optional = False
    for i, p in enumerate(positional):
        seen_optional |= p.default is not inspect.Parameter.empty
        if seen_optional and p.default is inspect.Parameter.empty:
            positional[i] = p.replace(default=None)
    return inspect.Signature(positional + keyword)


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(param, node, static))
class Node:
    """A frozen dataclass that is a keyed pytree. See the module's docstring."""

    _params: ClassVar[tuple[Param, ...]] = ()
    _groups: ClassVar[Mapping[str, tuple[Param, ...]]] = {}
    _nodes: ClassVar[tuple[str, ...]] = ()
    _statics: ClassVar[tuple[str, ...]] = ()
    _order: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(frozen=True, eq=False, repr=False, init=False)(cls)
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]
        for f in fields:
            if "kind" not in f.metadata:
                raise TypeError(
                    f"{cls.__name__}.{f.name} does not say what it is; write {f.name}: lx.Array = "
                    "lx.param(), lx.node() or lx.static()"
                )
        cls._params = _params_of(cls)
        cls._groups = {
            p.group: tuple(q for q in cls._params if q.group == p.group) for p in cls._params
        }
        cls._nodes = tuple(f.name for f in fields if f.metadata["kind"] == "node")
        cls._statics = tuple(f.name for f in fields if f.metadata["kind"] == "static")
        cls._order = tuple(f.name for f in fields if not f.kw_only)
        cls._defaults = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
        for group in cls._groups.values():
            if len(group) > 1:
                for p in group:
                    setattr(cls, p.name, _Alternative(p.name, group))
        cls.__signature__ = _signature(cls)  # type: ignore[attr-defined]
        jax.tree_util.register_pytree_with_keys(
            cls, _flatten_with_keys, lambda aux, leaves: _unflatten(cls, aux, leaves), _flatten
        )

    def __init__(self, *args: Any, **kwargs: Any):
        values = self._convert(self._bind(args, kwargs))
        self._check_axes(values)
        values = self._align(values)
        # In the order of the fields, however they were given: it is part of the tree's structure.
        self.__dict__.update({f: values[f] for f in self.__dataclass_fields__ if f in values})  # type: ignore[attr-defined]
        self._check()
        if _checks.checking():
            self._check_params()

    # The constructor's steps, in order.

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments to fields: those not given are left out; raises TypeError."""
        cls = type(self)
        name = cls.__name__
        if len(args) > len(cls._order):
            named = [
                " or ".join(f"{p.name}=" for p in group)
                for group in cls._groups.values()
                if not any(p.name in cls._order for p in group)
            ]
            by_keyword = f"; by keyword it takes {' and '.join(named)}" if named else ""
            raise TypeError(
                f"{name} takes at most {len(cls._order)} positional arguments {cls._order}, got "
                f"{len(args)}{by_keyword}"
            )
        values = dict(zip(cls._order, args, strict=False))
        known = {p.name for p in cls._params} | set(cls._nodes) | set(cls._statics)
        for key, value in kwargs.items():
            if key not in known:
                raise TypeError(
                    f"{name} has no parameter {key!r}; it has {', '.join(sorted(known))}"
                    f"{spelled(key, known)}"
                )
            if key in values:
                raise TypeError(f"{name} got {key!r} twice, by position and by keyword")
            values[key] = value
        for canonical, group in cls._groups.items():
            given = [p.name for p in group if values.get(p.name) is not None]
            for p in group:
                if values.get(p.name) is None:
                    values.pop(p.name, None)
            if not given and cls._defaults.get(canonical) is not None:
                values[canonical] = cls._defaults[canonical]
            elif len(given) != 1:
                names = " or ".join(f"{p.name}=" for p in group)
                got = " and ".join(f"{g}=" for g in given) if given else "none"
                raise TypeError(
                    f"{name} takes {'exactly one of ' if len(group) > 1 else ''}{names}, got "
                    f"{got}; write {name}(..., {group[0].name}=...)"
                )
        for key in cls._nodes + cls._statics:
            if key not in values:
                if key not in cls._defaults:
                    example = "lx.Normal(0.0, 1.0)" if key == "base" else f"{key}=..."
                    raise TypeError(f"{name} needs {key}=, got none; write {name}({example}, ...)")
                values[key] = cls._defaults[key]
        return values

    def _convert(self, values: dict[str, Any]) -> dict[str, Any]:
        """Parameters to arrays of one floating dtype, at least float32."""
        name = type(self).__name__
        given = [p for p in type(self)._params if p.name in values]
        for p in given:
            value = values[p.name]
            if type(value) in (int, float, bool):
                continue
            value = values[p.name] = as_numbers(name, p.name, value)
            if p.name == "logits" and not jnp.issubdtype(value.dtype, jnp.floating):
                raise TypeError(
                    f"{name}: logits are real numbers, got {value.dtype} of shape {value.shape} "
                    "(labels, perhaps?); "
                    "write logits=jnp.asarray(logits, float)"
                )
        dtype = parameter_dtype([values[p.name] for p in given])
        for p in given:
            value = values[p.name]
            if not (isinstance(value, Array) and value.dtype == dtype and not value.aval.weak_type):
                values[p.name] = jnp.asarray(value, dtype)
            if values[p.name].ndim < p.core_ndims:
                raise ValueError(
                    f"{name}: {p.name} has shape (..., {', '.join(p.shape)}), got shape "
                    f"{values[p.name].shape}"
                )
        return values

    def _check_axes(self, values: dict[str, Any]) -> None:
        """Axes of one name have one size; the message has the shapes that were given."""
        sizes: dict[str, tuple[int, str]] = {}
        for p in type(self)._params:
            value = values.get(p.name)
            if value is None:
                continue
            for axis, label in enumerate(p.shape, start=-p.core_ndims):
                size = value.shape[axis]
                if sizes.setdefault(label, (size, p.name))[0] != size:
                    first = sizes[label][1]
                    raise ValueError(
                        f"{type(self).__name__}: {p.name} of shape {value.shape} does not fit "
                        f"{first} of shape {values[first].shape}: both have the axis '{label}'"
                    )

    def _align(self, values: dict[str, Any]) -> dict[str, Any]:
        """The same number of batch axes everywhere (see the module's docstring)."""
        shapes = self._batch_shapes(values)
        if len({len(shape) for shape in shapes.values()}) > 1:
            rank = len(self._joint(shapes))
            for f, shape in shapes.items():
                values[f] = add_axes(values[f], rank - len(shape))
        return values

    def _check(self) -> None:
        """Static checks: what was given fits together. Subclasses add theirs."""
        self.batch_shape  # noqa: B018  (raises when the batch shapes do not broadcast)

    def _check_params(self) -> None:
        """Value checks, run under `debug_checks` only."""
        for p in type(self)._params:
            value = self.__dict__.get(p.name)
            if value is not None and p.support is not None:
                _checks.check_values(
                    p.support.contains(value),
                    value,
                    f"{type(self).__name__}: {p.name} must be {p.support}; at {{index}} it is "
                    f"{{value}}",
                )

    # Shapes.

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """What the batch axes of all parameters broadcast to."""
        return self._joint(self._batch_shapes(self.__dict__))

    def _batch_shapes(self, values: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        """The batch axes of each parameter and node."""
        cls = type(self)
        shapes = {}
        for p in cls._params:
            value = values.get(p.name)
            if value is not None:
                shapes[p.name] = value.shape[: value.ndim - p.core_ndims]
        for f in cls._nodes:
            inner = values[f]
            if isinstance(inner, Node):
                extra = cls.__dataclass_fields__[f].metadata["extra_ndims"]  # type: ignore[attr-defined]
                shape = inner.batch_shape
                shapes[f] = shape[: len(shape) - extra]
        return shapes

    def _joint(self, shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
        """What these batch shapes broadcast to."""
        distinct = set(shapes.values())
        if len(distinct) == 1:
            return distinct.pop()
        try:
            return jnp.broadcast_shapes(*shapes.values())
        except ValueError:
            parts = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise ValueError(
                f"{type(self).__name__}: the batch shapes do not broadcast: {parts}; add axes of length "
                "1, e.g. x[:, None]"
            ) from None

    @property
    def batch_ndim(self) -> int:
        """How many batch axes there are."""
        return len(self.batch_shape)

    @property
    def dtype(self) -> Any:
        """The floating dtype of the parameters: at least float32."""
        leaves = [x for x in jax.tree.leaves(self) if jnp.issubdtype(x.dtype, jnp.floating)]
        return jnp.result_type(*leaves) if leaves else jnp.result_type(float)

    def given(self, name: str) -> bool:
        """Whether the parameter was given under this name."""
        return name in self.__dict__

    def replace(self, **changes: Any) -> Self:
        """A copy with these parameters; an alternative takes the place of what was given."""
        groups = {p.name: p.group for p in type(self)._params}
        changed = {groups.get(name, name) for name in changes}
        kept = {k: v for k, v in self.__dict__.items() if groups.get(k, k) not in changed}
        return type(self)(**kept, **changes)

    def broadcast_to(self, batch_shape: tuple[int, ...]) -> Self:
        """The same node with every leaf at this full batch shape, ready for `vmap` or a slice."""
        where = f"{type(self).__name__}.broadcast_to"
        batch_shape, ndim = _checks.as_shape(where, batch_shape), self.batch_ndim
        lead = len(batch_shape) - ndim
        try:
            fits = jnp.broadcast_shapes(self.batch_shape, batch_shape) == batch_shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"{where}: batch shape {self.batch_shape} does not broadcast to {batch_shape}"
            )

        def widen(leaf: Array) -> Array:
            leaf = leaf.reshape((1,) * lead + leaf.shape)
            return jnp.broadcast_to(leaf, batch_shape + leaf.shape[lead + ndim :])

        return self._map(widen)

    def _map(self, function: Callable[[Array], Array]) -> Self:
        """A copy with `function` of every leaf that has the batch's axes, which gives all of them
        the same new ones.
        """

        def through(value: Any) -> Any:
            return value._map(function) if isinstance(value, Node) else function(value)

        mapped = {
            name: value
            if name in type(self)._statics
            else jax.tree.map(through, value, is_leaf=lambda v: isinstance(v, Node))
            for name, value in self.__dict__.items()
        }
        return _made(type(self), mapped)

    def __getitem__(self, index: Any) -> Self:
        """Indexes the batch axes, as it would an array of shape `batch_shape`."""
        index = index if isinstance(index, tuple) else (index,)
        axes = sum(1 for i in index if i is not None and i is not Ellipsis)
        shape = self.batch_shape
        if axes > len(shape):
            raise IndexError(
                f"{type(self).__name__} has batch shape {shape}: {axes} indices are too many"
            )
        if Ellipsis in [i for i in index if i is Ellipsis]:
            at = next(k for k, i in enumerate(index) if i is Ellipsis)
            index = index[:at] + (slice(None),) * (len(shape) - axes) + index[at + 1 :]
        return self.broadcast_to(shape)._map(lambda leaf: leaf[index])

    def __iter__(self) -> Any:
        raise TypeError(f"{type(self).__name__} is not iterable; write [dist[i] for i in range(n)]")

    def __repr__(self) -> str:
        parts = [f"{name}={_show(self.__dict__[name])}" for name in self.__dict__]
        return f"{type(self).__name__}({', '.join(parts)})"


# What others call what: the first that there is.
_SPELLINGS = {
    "loc": "mu mean location",
    "scale": "sigma std stddev sd scale_diag",
    "log_scale": "log_sigma log_std logstd",
    "rate": "lam lambda_ mu beta",
    "concentration": "alpha a shape kappa k c",
    "concentration1": "alpha a",
    "concentration0": "beta b",
    "df": "nu dof",
    "probs": "p prob probability pvals",
    "logits": "logit",
    "total_count": "n num_trials r",
    "low": "a lower minval",
    "high": "b upper maxval",
    "covariance": "cov covariance_matrix",
    "precision": "precision_matrix",
    "scale_tril": "cholesky chol",
    "skewness": "alpha a skew",
    "temperature": "tau",
    "base": "base_distribution distribution",
    "weights": "mixing_distribution mix",
    "components": "components_distribution component_distribution",
}


def spelled(name: str, known: set[str]) -> str:
    """The end of a message about a name that is not known: the one to write, where there is one."""
    inverse = {"scale": "rate", "theta": "rate", "rate": "scale"}.get(name)
    if inverse in known:
        return f"; write {inverse}=1 / {name}"
    same = [own for own, others in _SPELLINGS.items() if own in known and name in others.split()]
    near = same or difflib.get_close_matches(name, known, 1)
    return f"; write {near[0]}=..." if near else ""


_FLOATS = frozenset(map(jnp.dtype, ("float16", "bfloat16", "float32", "float64")))


def as_numbers(family: str, name: str, value: Any) -> Any:
    """The value of a parameter, one that has no dtype as an array; raises TypeError unless its numbers are
    real.
    """
    if isinstance(value, Array) and value.dtype in _FLOATS:
        return value
    array = value
    if isinstance(value, Node | str):
        array = None
    elif not hasattr(value, "dtype"):
        try:
            array = jnp.asarray(value)
        except (TypeError, ValueError):
            array = None
    if array is None or not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool):
        raise TypeError(
            f"{family}: {name} is a number or an array of numbers, got {value!r}; write "
            f"{name}=jnp.asarray(..., float)"
        )
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(
            f"{family}: {name} takes real numbers, got {array.dtype} of shape {array.shape}; write "
            f"{name}={name}.real"
        )
    return array


def parameter_dtype(values: list[Any]) -> Any:
    """The dtype to compute in: what the values promote to, floating and at least float32."""
    floats = [v for v in values if hasattr(v, "dtype") and jnp.issubdtype(v.dtype, jnp.floating)]
    strong = [v for v in floats if not getattr(getattr(v, "aval", None), "weak_type", False)]
    if not strong:
        return jnp.result_type(float)
    dtype = jnp.result_type(*[jax.dtypes.canonicalize_dtype(v.dtype) for v in strong])
    return jnp.promote_types(dtype, jnp.float32)


def add_axes(tree: Any, count: int) -> Any:
    """`count` leading axes of length 1 on every leaf."""
    if count <= 0:
        return tree
    return jax.tree.map(lambda leaf: leaf.reshape((1,) * count + leaf.shape), tree)


def is_traced(*trees: Any) -> bool:
    """Whether a leaf of these is being traced."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))


def canonical(leaf: Any) -> Any:
    """A NumPy array of 64 bits in the dtype that JAX has for it now. Under a trace `jit` has one program
    for such an array, where JAX knows 64 bits and where it knows 32, and one of the two does not fit.
    """
    if not isinstance(leaf, np.ndarray) or leaf.dtype not in _WIDE:
        return leaf
    with np.errstate(over="ignore"):
        return leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype), copy=False)


_WIDE = tuple(np.dtype(name) for name in ("int64", "uint64", "float64", "complex128"))


def _flatten(obj: Node) -> tuple[tuple[Any, ...], Any]:
    statics = type(obj)._statics
    held = obj.__dict__
    names = tuple(name for name in held if name not in statics)
    return tuple(held[n] for n in names), (names, tuple(held[s] for s in statics))


def _flatten_with_keys(obj: Node) -> tuple[tuple[Any, ...], Any]:
    children, aux = _flatten(obj)
    keys = (jax.tree_util.GetAttrKey(n) for n in aux[0])
    return tuple(zip(keys, children, strict=True)), aux


def _made(cls: type[Any], fields: Mapping[str, Any]) -> Any:
    """A node with these fields, without its constructor."""
    obj = object.__new__(cls)
    obj.__dict__.update(fields)
    return obj


def _unflatten(cls: type[Node], aux: Any, children: Any) -> Node:
    fields = dict(zip(aux[0], children, strict=True))
    return _made(cls, fields | dict(zip(cls._statics, aux[1], strict=True)))


def _show(value: Any) -> str:
    if isinstance(value, Array) and not isinstance(value, Tracer):
        if value.ndim == 0:
            return f"{value:.6g}" if jnp.issubdtype(value.dtype, jnp.floating) else str(value)
        return f"{value.dtype}{list(value.shape)}"
    return repr(value)
