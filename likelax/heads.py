"""Heads: what a network puts out becomes a distribution.

Each parameter of a distribution declares its support, and the head picks the link from it:

* real: the raw output itself;
* a logarithm (`log_scale`, `log_rate`): the raw output, kept in log space and never exponentiated
  and taken the logarithm of again;
* positive: the exponential, times the parameter's typical value;
* logits: the raw output;
* anything else: the bijector onto the support (`lx.bijectors.constrain`).

Logarithms are exactly the raw output between -20 and 20 (Cholesky factors: -10 and 10) and grow
logarithmically beyond, so that a network that has gone astray predicts a density that is still
finite.
"""

from __future__ import annotations

import math
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from likelax import bijectors, supports
from likelax._keys import stream
from likelax._pytree import Array, Param, as_numbers, is_traced, parameter_dtype, spelled
from likelax.distributions.base import Distribution
from likelax.distributions.categorical import Categorical
from likelax.distributions.linear_categorical import LinearCategorical
from likelax.distributions.mixture import Mixture
from likelax.distributions.transformed import Transformed
from likelax.numerics.logspace import soft_limit, soft_limit_inverse
from likelax.supports import Support

_LOG_LIMIT = 20.0
_TRIANGLE_LIMIT = 10.0


@runtime_checkable
class HeadLike(Protocol):
    """What every head has.

    One whose density is not exact has a `claim`, too, which `lx.Likelihood` makes its own; one whose
    call draws random numbers, and takes `key=`, has `takes_key = True`.
    """

    size: int
    event_shape: tuple[int, ...]

    def init(self, key: Array, features: Any) -> Any:
        """The head's own parameters; `features` is what the network puts out."""

    def __call__(self, raw: Array, params: Any = ...) -> Distribution:
        """The distribution: `(*batch, size) -> batch_shape == batch`."""


class learned:  # lower case, since it reads as a value: scale=lx.learned()
    """A parameter that is trained but does not depend on the input.

    Args:
      init: its initial value (default: the parameter's typical one), a number or an array.
    """

    def __init__(self, init: ArrayLike | None = None):
        self.init = init

    def __repr__(self) -> str:
        return f"learned({'' if self.init is None else self.init})"


class _Link:
    """From raw outputs onto a support, and back."""

    def __init__(self, spec: Param, canonical: Param, core_shape: tuple[int, ...]):
        if spec.support is None or spec.support.is_discrete:
            raise ValueError(
                f"a head cannot learn {spec.name}: fix it, Head(family, {spec.name}=...)"
            )
        self.support: Support = spec.support
        self.shift = math.log(canonical.typical if canonical.typical is not None else 1.0)
        is_log = self.support in (supports.positive, supports.log_positive)
        self.bijector = (
            None if is_log or self.support.is_everything else bijectors.constrain(self.support)
        )
        # A triangular solve multiplies what its rows give.
        is_triangle = isinstance(self.support, supports.LowerCholesky)
        self.limit = _TRIANGLE_LIMIT if is_triangle else _LOG_LIMIT
        self.raw_shape = (
            core_shape if self.bijector is None else self.bijector.inverse_shape(core_shape)
        )

    def __call__(self, raw: Array) -> Array:
        if self.support in (supports.positive, supports.log_positive):
            log = soft_limit(raw, _LOG_LIMIT) + self.shift
            return log if self.support is supports.log_positive else jnp.exp(log)
        if self.bijector is None:
            return raw
        return self.bijector.forward(soft_limit(raw, self.limit))

    def inverse(self, value: Array) -> Array:
        if self.support in (supports.positive, supports.log_positive):
            log = value if self.support is supports.log_positive else jnp.log(value)
            return soft_limit_inverse(log - self.shift, _LOG_LIMIT)
        if self.bijector is None:
            return value
        return soft_limit_inverse(self.bijector.inverse(value), self.limit)


def _checked(head: Any, raw: Any) -> Array:
    """The raw outputs in the dtype to compute in; raises where they are not `head.size`."""
    if raw.ndim < 1 or raw.shape[-1] != head.size:
        kept = ", and keep that axis (no squeeze)" if head.size == 1 else ""
        raise ValueError(
            f"{head!r} reads {head.size} raw outputs on the last axis, the network puts out shape "
            f"{raw.shape}; give the network's last layer {head.size} outputs (head.size){kept}"
        )
    return jnp.asarray(raw).astype(parameter_dtype([raw]))


def _public_name(family: type[Distribution]) -> str:
    """What to write for it: `lx.Normal`, `lx.sequence.CTC`, or the name of a class of the user's."""
    package, _, path = family.__module__.partition(".")
    if package != "likelax":
        return family.__name__
    room = path.split(".")[0]
    return f"lx.{family.__name__}" if room == "distributions" else f"lx.{room}.{family.__name__}"


def _brief(value: Any) -> str:
    """A value as it was written, if that is short."""
    return repr(value) if isinstance(value, int | float | str | tuple | None) else "..."


class Head:
    """Turns a network's output into a distribution of one family.

    ::

        lx.Head(lx.Normal)                              # loc and log_scale from the network
        lx.Head(lx.Normal, scale=1.0)                   # a fixed scale: squared error
        lx.Head(lx.Normal, scale=lx.learned())          # one scale for all inputs, trained
        lx.Head(lx.Normal, event_shape=(3,))            # three outputs, their log-densities summed
        lx.Head(lx.Categorical, num_categories=10)
        lx.Head(lx.ZeroInflated, base=lx.Head(lx.Poisson))
        lx.Head(lx.MixtureOf, weights=[0.9, 0.1], components=(lx.Head(lx.Gamma), lx.Head(lx.Normal)))

    Args:
      family: a Distribution class.
      event_shape: the shape of one target. Families over numbers are repeated over it, and their
        log-densities summed.
      **sizes_or_fixed: for a parameter, its fixed value or `lx.learned()`; for a field that holds a
        distribution, a head (or a fixed one); for a static field, its value; for an axis named by
        the parameters (`num_categories`), its size.

    Attributes:
      size: how many raw outputs it wants on the last axis.

    Raises:
      TypeError: for a name that the family does not have, or two alternatives of one parameter.
      ValueError: for a size that is missing, a parameter that cannot be learned and is not fixed,
        or a value outside the parameter's support.
    """

    def __init__(
        self,
        family: type[Distribution],
        event_shape: int | tuple[int, ...] = (),
        **sizes_or_fixed: Any,
    ):
        if not (isinstance(family, type) and issubclass(family, Distribution)):
            raise TypeError(
                f"a Distribution class wanted, got {family!r}; write lx.Head(lx.Normal)"
            )
        self.family = family
        shape = tuple(event_shape) if isinstance(event_shape, tuple | list) else (event_shape,)
        if not all(isinstance(size, int | np.integer) and size >= 1 for size in shape):
            raise TypeError(
                f"event_shape is a size or a tuple of sizes, got {event_shape!r}; everything else is given "
                "by name, such as lx.Head(lx.Truncated, base=lx.Head(lx.Normal), low=0.0)"
            )
        self.event_shape = tuple(int(size) for size in shape)
        self._is_vector = is_vector = any("event" in p.shape for p in family._params)
        self._repeats = self.event_shape[:-1] if is_vector else self.event_shape
        axes = {name for p in family._params for name in p.shape} - {"event"}
        sizes: dict[str, Any] = {n: v for n, v in sizes_or_fixed.items() if n in axes}
        given = {n: v for n, v in sizes_or_fixed.items() if n not in axes}
        self._check_names(given, axes)
        if is_vector and self.event_shape:
            sizes["event"] = self.event_shape[-1]
        sources = {name: self._source(name, group, given) for name, group in family._groups.items()}
        self._check_complete(sources, given, sizes)
        self._fixed: dict[str, Any] = {}
        self._learned: dict[str, tuple[_Link, learned]] = {}
        self._read: dict[str, _Link] = {}
        self._heads: dict[str, HeadLike] = {}
        for canonical, spec in sources.items():
            if spec is not None:
                own = next(p for p in family._groups[canonical] if p.name == canonical)
                self._place(spec, own, given, sizes)
        for name in family._nodes + family._statics:
            self._place_field(name, given)
        self._check_ends()
        count = math.prod(self._repeats)
        self._sizes = {n: count * math.prod(link.raw_shape) for n, link in self._read.items()}
        self._sizes |= {n: count * head.size for n, head in self._heads.items()}
        self.size = sum(self._sizes.values())

    # Which parameter comes from where.

    def _check_names(self, given: dict[str, Any], axes: set[str]) -> None:
        family = self.family
        known = {p.name for p in family._params} | set(family._nodes) | set(family._statics)
        for name in given:
            if name not in known:
                mend = spelled(name, known | axes)
                if name == "num_categories" and "num_ratios" in axes:
                    mend = "; write num_ratios=K - 1 for vectors of K elements"
                elif name == "num_categories" and self._is_vector:
                    mend = "; write event_shape=K for K categories"
                raise TypeError(
                    f"{family.__name__} has no {name!r}; it has {', '.join(sorted(known | axes))}{mend}"
                )
        for name in (n for n in family._nodes if n in given):
            parts = given[name] if isinstance(given[name], tuple | list) else [given[name]]
            for part in (p for p in parts if isinstance(p, type) and issubclass(p, Distribution)):
                raise TypeError(
                    f"{family.__name__}: {name} takes a head, got the class {part.__name__}; write "
                    f"lx.Head({_public_name(part)}) there"
                )
        for group in family._groups.values():
            both = [p.name for p in group if p.name in given]
            if len(both) > 1:
                raise TypeError(
                    f"{family.__name__} takes one of {' and '.join(f'{n}=' for n in both)}; give "
                    "one"
                )

    def _source(
        self, canonical: str, group: tuple[Param, ...], given: dict[str, Any]
    ) -> Param | None:
        """The one of these alternatives that is given or read; None where the default serves."""
        for spec in group:
            if spec.name in given:
                return spec
        if self.family._defaults.get(canonical) is not None:
            return None
        # A parameter on the whole line needs no link that could overflow: take that alternative.
        free = [p for p in group if p.support is not None and p.support.is_everything]
        return (free or [p for p in group if p.name == canonical])[0]

    def _check_complete(
        self, sources: dict[str, Param | None], given: dict[str, Any], sizes: dict[str, Any]
    ) -> None:
        """Raises for all that is missing at once: sizes of parameters, and fields."""
        family = self.family
        missing: dict[str, str] = {}
        if any("event" in p.shape for p in family._params) and "event" not in sizes:
            missing["event_shape"] = "event_shape=(3,)"
        for spec in filter(None, sources.values()):
            if spec.name not in given or isinstance(given[spec.name], learned):
                unknown = [n for n in spec.shape if n != "event" and n not in sizes]
                missing |= {n: f"{n}=10" for n in unknown}
        for name in family._nodes + family._statics:
            if name not in given and name not in family._defaults:
                # What has batch axes of its own no head gives.
                field = family.__dataclass_fields__[name]
                is_whole = not field.metadata.get("extra_ndims", 1)
                several = str(field.type).startswith("tuple")
                head = "(lx.Head(...), lx.Head(...))" if several else "lx.Head(...)"
                missing[name] = f"{name}={head}" if is_whole else f"{name}=..."
        if not missing:
            return
        shape = self.event_shape
        if "num_ratios" in missing and shape:  # the values' own shape was given, one longer
            shape, missing["num_ratios"] = shape[:-1], f"num_ratios={shape[-1] - 1}"
        event = [f"event_shape={shape}"] if shape else []
        kept = {n: v for n, v in (sizes | given).items() if n != "event"}
        line = [_public_name(family), *event, *(f"{n}={_brief(v)}" for n, v in kept.items())]
        raise ValueError(
            f"{family.__name__} needs {', '.join(missing)}; write "
            f"lx.Head({', '.join([*line, *missing.values()])})"
        )

    def _place(self, spec: Param, own: Param, given: dict[str, Any], sizes: dict[str, Any]) -> None:
        core_shape = tuple(int(sizes[n]) for n in spec.shape if n in sizes)
        if spec.name not in given:
            self._read[spec.name] = _Link(spec, own, core_shape)
            return
        value = given[spec.name]
        self._check_value(spec, value.init if isinstance(value, learned) else value)
        if isinstance(value, learned):
            self._learned[spec.name] = _Link(spec, own, core_shape), value
        else:
            self._fixed[spec.name] = value

    def _check_value(self, spec: Param, value: Any) -> None:
        """A fixed value, or one to start from, lies in the parameter's support."""
        if value is None or spec.support is None or is_traced(value):
            return
        with jax.ensure_compile_time_eval():  # a head may be made inside jit
            inside = bool(jnp.all(spec.support.contains(jnp.asarray(value, float))))
        if not inside:
            raise ValueError(
                f"{self.family.__name__}: {spec.name} must be {spec.support}, got {value}"
            )

    def _check_ends(self) -> None:
        """A fixed interval has its lower end below: crossed, it would have a density all the same."""
        family = self.family.__name__
        ends = {n: self._fixed[n] for n in ("low", "high") if self._fixed.get(n) is not None}
        arrays = [as_numbers(family, name, end) for name, end in ends.items()]
        if {"low", "high"} <= set(self.family._nodes) and not ends.keys() | self._heads.keys() & {
            "low",
            "high",
        }:
            raise ValueError(f"{family}: an end is wanted, got none; write low=0.0")
        if len(ends) < 2 or is_traced(arrays):
            return
        try:
            with jax.ensure_compile_time_eval():
                crossed = bool(jnp.any(jnp.greater(*arrays)))
        except (TypeError, ValueError):
            raise ValueError(
                f"{family}: low and high broadcast together, got shapes {jnp.shape(arrays[0])} and "
                f"{jnp.shape(arrays[1])}; write both with the event's shape"
            ) from None
        if crossed:
            low, high = ends.values()
            raise ValueError(
                f"{family}: low must be at most high, got low={low} and high={high}; write the lower one "
                "as low=, the upper one as high="
            )

    def _place_field(self, name: str, given: dict[str, Any]) -> None:
        value = given.get(name)
        if isinstance(value, learned):
            field = self.family.__dataclass_fields__[name]
            is_fixed = name in self.family._statics or "Array" in str(field.type)
            mend = f"fix it, {name}=0.0" if is_fixed else f"write {name}=lx.Head(lx.Normal)"
            raise TypeError(
                f"{self.family.__name__}: a head cannot learn {name}, got {value!r}; {mend}"
            )
        if isinstance(value, tuple | list) and any(isinstance(part, HeadLike) for part in value):
            value = _Heads(tuple(value))
        if isinstance(value, HeadLike | _Heads):
            self._heads[name] = value  # type: ignore[assignment]
        elif name in given:
            self._fixed[name] = given[name]

    # Parameters and application.

    def init(self, key: Array, features: Any) -> dict[str, Any]:
        """The learned parameters, unconstrained, by name; shape `event_shape` each.

        Raises:
          ValueError: when the last axis of `features` is not `size`.
        """
        features = _checked(self, features)
        params: dict[str, Any] = {}
        for name, (link, choice) in self._learned.items():
            shape = self._repeats + link.raw_shape
            if choice.init is None:
                params[name] = jnp.zeros(shape, features.dtype)
            else:
                raw = link.inverse(jnp.asarray(choice.init, features.dtype))
                params[name] = jnp.broadcast_to(raw, shape)
        for name, head in self._heads.items():
            own = head.init(stream(key, name), jnp.zeros((head.size,), features.dtype))
            if own:
                params[name] = own
        return params

    def __call__(self, raw: Array, params: Any = None) -> Distribution:
        """The distribution that `raw`, `(*batch, size)`, stands for; its batch shape is `batch`.

        Raises:
          ValueError: when the last axis is not `size`.
        """
        raw = _checked(self, raw)
        params = params or {}
        missing = [name for name in self._learned if name not in params]
        if missing:
            raise ValueError(
                f"{self!r} has learned parameters, {', '.join(missing)}; write head(raw, "
                "head.init(key, raw))"
            )
        batch = raw.shape[:-1]
        values: dict[str, Any] = dict(self._fixed)
        values |= {name: link(params[name]) for name, (link, _) in self._learned.items()}
        start = 0
        for name, size in self._sizes.items():
            piece = raw[..., start : start + size]
            start += size
            if name in self._read:
                link = self._read[name]
                values[name] = link(piece.reshape(batch + self._repeats + link.raw_shape))
            else:
                head = self._heads[name]
                piece = piece.reshape(batch + self._repeats + (head.size,))
                values[name] = head(piece, params.get(name))
        dist = self.family(**values)
        if dist.batch_shape != batch + self._repeats:
            dist = dist.broadcast_to(batch + self._repeats)
        return dist.to_event(len(self._repeats))

    def __repr__(self) -> str:
        event = f", event_shape={self.event_shape}" if self.event_shape else ""
        return f"Head({self.family.__name__}{event})"


class _Heads:
    """A tuple of heads, some of them perhaps distributions: the components of a `MixtureOf`."""

    def __init__(self, parts: tuple[Any, ...]):
        self.parts = parts
        self.sizes = [part.size if isinstance(part, HeadLike) else 0 for part in parts]
        self.size = sum(self.sizes)

    def init(self, key: Array, features: Any) -> dict[str, Any]:
        """The heads' own parameters, by their place."""
        params = {}
        for k, (part, size) in enumerate(zip(self.parts, self.sizes, strict=True)):
            if isinstance(part, HeadLike):
                own = part.init(stream(key, str(k)), features[..., :size])
                if own:
                    params[str(k)] = own
        return params

    def __call__(self, raw: Array, params: Any = None) -> tuple[Distribution, ...]:
        """The distributions, each of its piece of the last axis."""
        out, start = [], 0
        for k, (part, size) in enumerate(zip(self.parts, self.sizes, strict=True)):
            piece = raw[..., start : start + size]
            start += size
            out.append(
                part(piece, (params or {}).get(str(k))) if isinstance(part, HeadLike) else part
            )
        return tuple(out)


def _take_over(head: Any, inner: HeadLike) -> None:
    """What the inner head says of its density holds for that of the outer one, too."""
    for name in ("claim", "takes_key"):
        if hasattr(inner, name):
            setattr(head, name, getattr(inner, name))


def _wants_head(owner: str, head: Any, instead: str) -> None:
    if not isinstance(head, HeadLike) or isinstance(head, type):
        raise TypeError(f"{owner}: a head wanted, got {head!r}; write {instead}")


class MixtureHead:
    """A mixture of `num_components` distributions of one head, their weights from the network too.

    Args:
      head: the head of one component; what it learns globally is shared by the components.
      num_components: how many.

    Attributes:
      size: `num_components * (1 + head.size)`: the logits of the weights first.

    Raises:
      ValueError: for no component, or a head whose log-density is an estimate.
    """

    def __init__(self, head: HeadLike, num_components: int):
        instead = (
            "lx.MixtureHead(lx.Head(lx.Normal), 3), of unlike families lx.Head(lx.MixtureOf, ...)"
        )
        _wants_head("MixtureHead", head, instead)
        if num_components < 1:
            raise ValueError(f"num_components is at least 1, got {num_components}")
        if getattr(head, "takes_key", False):
            raise ValueError(
                f"MixtureHead: {head!r} estimates its log-densities, and the mixture of estimates is "
                "biased; take a head whose density is exact"
            )
        self.head, self.num_components = head, num_components
        self.size = num_components * (1 + head.size)
        self.event_shape = head.event_shape
        _take_over(self, head)

    def init(self, key: Array, features: Any) -> Any:
        """The component head's own parameters."""
        return self.head.init(key, self._split(features)[1])

    def _split(self, raw: Any) -> tuple[Array, Array]:
        raw, k = _checked(self, raw), self.num_components
        return raw[..., :k], raw[..., k:].reshape(raw.shape[:-1] + (k, self.head.size))

    def __call__(self, raw: Array, params: Any = None) -> Distribution:
        """The mixture, `(*batch, size) -> batch_shape == batch`."""
        logits, pieces = self._split(raw)
        return Mixture(Categorical(logits=logits), self.head(pieces, params))

    def __repr__(self) -> str:
        return f"MixtureHead({self.head!r}, {self.num_components})"


class TransformedHead:
    """`bijector` applied to the distribution of another head.

    Args:
      head: the head of the base distribution.
      bijector: from the base's values to the target's.
    """

    def __init__(self, head: HeadLike, bijector: bijectors.Bijector):
        instead = "lx.TransformedHead(lx.Head(lx.Normal), lx.bijectors.Exp())"
        _wants_head("TransformedHead", head, instead)
        if not isinstance(bijector, bijectors.Bijector):
            raise TypeError(
                f"TransformedHead: a bijector wanted, got {bijector!r}; write {instead}"
            )
        self.head, self.bijector = head, bijector
        self.size = head.size
        self.event_shape = bijector.forward_shape(head.event_shape)
        _take_over(self, head)

    def init(self, key: Array, features: Any) -> Any:
        """The base head's own parameters."""
        return self.head.init(key, features)

    def initialize(self, params: Any, raw: Array, target: Array) -> Any:
        """The base head's own parameters, where it sets them by a batch of targets."""
        initialize = getattr(self.head, "initialize", None)
        return initialize(params, raw, self.bijector.inverse(target)) if initialize else params

    def __call__(self, raw: Array, params: Any = None, **options: Any) -> Distribution:
        """The transformed distribution, `(*batch, size) -> batch_shape == batch`; `options` are those of
        the base's head, its `key=`.
        """
        return Transformed(self.head(raw, params, **options), self.bijector)

    def __repr__(self) -> str:
        return f"TransformedHead({self.head!r}, {self.bijector!r})"


class LinearHead:
    """The last layer of a classifier over a large vocabulary, with its kernel among the head's own
    parameters, so that its logits are never held: see `LinearCategorical`.

    ::

        head = lx.LinearHead(50_257, features=512)
        model = lx.Likelihood(Transformer(head.size, rngs=nnx.Rngs(0)), head)

    Args:
      num_categories: the size V of the vocabulary.
      features: how many the network puts out.
      bias: whether a bias is learned too; it starts at 0.
      softcap, block_size, vocabulary_axis, batch_spec: as for `LinearCategorical`.

    Attributes:
      size: `features`. The kernel, `(features, V)`, starts as Normal of standard deviation
        features^(-1/2).

    Raises:
      ValueError: unless there are at least two categories and one feature.
    """

    event_shape: tuple[int, ...] = ()

    def __init__(
        self,
        num_categories: int,
        features: int,
        *,
        bias: bool = False,
        softcap: float | None = None,
        block_size: int | None = None,
        vocabulary_axis: Any = None,
        batch_spec: Any = None,
    ):
        if num_categories < 2:
            raise ValueError(f"num_categories is at least 2, got {num_categories}")
        if features < 1:
            raise ValueError(f"features is at least 1, got {features}")
        self.num_categories, self.size, self.bias = num_categories, features, bias
        self._options = {
            "softcap": softcap,
            "block_size": block_size,
            "vocabulary_axis": vocabulary_axis,
            "batch_spec": batch_spec,
        }

    def init(self, key: Array, features: Any) -> dict[str, Array]:
        """The kernel, and the bias if there is one, in the dtype of `features`."""
        dtype, shape = _checked(self, features).dtype, (self.size, self.num_categories)
        params = {
            "kernel": jax.random.normal(stream(key, "kernel"), shape, dtype) / math.sqrt(self.size)
        }
        if self.bias:
            params["bias"] = jnp.zeros(self.num_categories, dtype)
        return params

    def __call__(self, raw: Array, params: Any = None) -> Distribution:
        """The distribution of one token, `(*batch, size) -> batch_shape == batch`; `raw` keeps its
        dtype.

        Raises:
          ValueError: when the last axis is not `size`.
        """
        _checked(self, raw)
        if not params:
            raise ValueError(
                f"{self!r} has parameters of its own; write head(raw, head.init(key, raw))"
            )
        return LinearCategorical(raw, params["kernel"], params.get("bias"), **self._options)

    def __repr__(self) -> str:
        return f"LinearHead({self.num_categories}, {self.size})"


def may_be_of_classes(head: HeadLike) -> bool:
    """False for a head that is known to give something else than classes with logits."""
    known = isinstance(head, Head | MixtureHead | TransformedHead)
    return not known or issubclass(getattr(head, "family", Distribution), Categorical)
