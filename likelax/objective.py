"""Objectives: one shape for every loss, one reduction, and a claim on every number."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from likelax import _checks
from likelax._keys import check_key
from likelax._pytree import Array, canonical, is_traced
from likelax.distributions.base import Distribution
from likelax.distributions.linear_categorical import LinearCategorical
from likelax.networks import Variables

Relation = Literal["exact", "upper", "lower", "estimate", "none"]


class Measure(NamedTuple):
    """What a density is a density against.

    Attributes:
      kind: "counting" (probabilities) or "lebesgue" (densities, whose value depends on the unit).
      dims: how many dimensions one example has: of a one-hot vector 1, of one that sums to 1 one
        less than its length.
    """

    kind: Literal["counting", "lebesgue"]
    dims: int


@dataclasses.dataclass(frozen=True)
class Claim:
    """How a number relates to the true negative log-likelihood.

    Attributes:
      relation: of the number's expected value against the true NLL: "exact", an "upper" or "lower"
        bound, an "estimate", or "none" (no likelihood at all).
      unbiased: whether the gradient is that of the expected value.
      measure: of the data's density; None where there is none, or before an example was seen.
      vanishes: what closes the gap of a bound or an estimate ("num_particles", "ode tolerance").
    """

    relation: Relation = "exact"
    unbiased: bool = True
    measure: Measure | None = None
    vanishes: str | None = None

    def __add__(self, other: Claim) -> Claim:
        """The claim of the sum of two independent parts: exact plus a bound is a bound."""
        return self._joined(other, _SUM.get(frozenset((self.relation, other.relation)), "none"))

    def __sub__(self, other: Claim) -> Claim:
        """The claim of a difference: exact minus a bound is the opposite bound, bound minus bound
        none.
        """
        relation = _SUM.get(frozenset((self.relation, _OPPOSITE[other.relation])), "none")
        if self.relation != "exact" and other.relation != "exact" and relation != "estimate":
            relation = "none"
        return self._joined(other, relation)

    def _joined(self, other: Claim, relation: Relation) -> Claim:
        measures = [c.measure for c in (self, other)]
        measure = None
        if measures[0] and measures[1] and measures[0].kind == measures[1].kind:
            measure = Measure(measures[0].kind, measures[0].dims + measures[1].dims)
        vanishes = (
            " and ".join(dict.fromkeys(filter(None, (self.vanishes, other.vanishes)))) or None
        )
        return Claim(relation, self.unbiased and other.unbiased, measure, vanishes)

    def __str__(self) -> str:
        name = {"upper": "upper bound", "lower": "lower bound", "none": "no likelihood"}
        text = name.get(self.relation, self.relation)
        return f"{text}, closing with {self.vanishes}" if self.vanishes else text


_OPPOSITE: Mapping[str, Relation] = {
    "exact": "exact",
    "upper": "lower",
    "lower": "upper",
    "estimate": "estimate",
    "none": "none",
}
_SUM: Mapping[frozenset[str], Relation] = {
    frozenset({"exact"}): "exact",
    frozenset({"upper"}): "upper",
    frozenset({"lower"}): "lower",
    frozenset({"exact", "upper"}): "upper",
    frozenset({"exact", "lower"}): "lower",
    frozenset({"estimate"}): "estimate",
    frozenset({"exact", "estimate"}): "estimate",
}


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["target", "input", "mask", "weight"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class Batch:
    """Examples to score.

    Attributes:
      target: what has a likelihood, `(batch, *event)`.
      input: what the network takes, None for none.
      mask: boolean, `(batch,)` or more leading axes of the log-density: False is left out, whatever
        it holds, NaN included. (Its input still passes through the network: batch statistics count
        it.)
      weight: how much each counts, a shape as for `mask`.
    """

    target: Any
    input: Any = None
    mask: Any = None
    weight: Any = None


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["loss", "per_example", "weight", "terms", "state", "num_bytes"],
    meta_fields=["claim"],
)
@dataclasses.dataclass(frozen=True)
class Aux:
    """What an objective says beside its loss.

    Attributes:
      loss: the loss, in nats.
      per_example: each example's share, 0 where it is masked out.
      weight: weight times mask, of the shape of `per_example`.
      terms: named scalars for the log, reduced as the loss is.
      state: for the next call.
      claim: what the number says of the negative log-likelihood; static.
      num_bytes: how many bytes of raw data each entry of `per_example` stands for, where the
        objective knows (`lx.bits_per_byte`).
    """

    loss: Array
    per_example: Array
    weight: Array
    terms: dict[str, Array]
    state: Any
    claim: Claim
    num_bytes: Array | None = None


class Deferred(NamedTuple):
    """What each example costs, worked out where the weights are known: a vocabulary head has the
    gradients of a weighted sum in its forward sweep.

    Attributes:
      shape: of the costs.
      dtype: of the costs.
      summed: weight, of that shape, `-> (sum(weight * cost), cost)`.
    """

    shape: tuple[int, ...]
    dtype: Any
    summed: Callable[[Array], tuple[Array, Array]]


class Scores(NamedTuple):
    """What a subclass of `Objective` computes: see `Objective.score`."""

    per_example: Array | Deferred
    terms: dict[str, Array]
    state: Any
    claim: Claim
    num_bytes: Array | None = None


class Objective:
    """A loss of a known relation to the likelihood. A subclass writes `init` and `score`.

    Calling one is pure, compiled on first use, and differentiable::

        params, state = objective.init(jax.random.key(0), batch)
        grad = jax.value_and_grad(objective, has_aux=True)
        (loss, aux), grads = grad(params, key, batch, state=state)

    Objects are frozen and hash by identity, so that one can be a static argument.
    """

    claim: Claim = Claim()

    def init(self, key: Array, batch: Batch) -> Variables:
        """Parameters and state, shaped by one batch.

        Args:
          key: a random key; another key gives other initial values.
          batch: an example batch; its values are used by data-dependent initialisation only.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no init")

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        """Each example's share of the loss; what a subclass writes.

        Args:
          params, key, batch, state, train: as in `__call__`; masked inputs that are not finite are
          already replaced.
          keep: the mask to use, or None: `weight == 0` counts as masked out.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no score")

    def prepare(self, batch: Batch) -> Batch:
        """The batch that is scored; a subclass may mask out what it takes as given."""
        return batch

    def check(self, batch: Any) -> None:
        """Raises where this is no batch; a subclass may look at values, where they are known."""
        check_batch(batch)

    def __call__(
        self, params: Any, key: Array, batch: Batch, *, state: Any = (), train: bool = True
    ) -> tuple[Array, Aux]:
        """`(loss, aux)`: the weighted mean of what each example costs, in nats.

        Args:
          params: as from `init`.
          key: a random key.
          batch: the examples.
          state: as from `init`, or `aux.state` of the call before.
          train: False turns dropout off and freezes batch statistics.

        Raises:
          ValueError: when shapes do not fit together.
          TypeError: for params and state in one.
        """
        key = check_key(key)
        if isinstance(params, Variables):
            raise TypeError(
                f"{type(self).__name__}: params alone wanted, got Variables(params, state); write "
                "params, state = model.init(key, batch)"
            )
        self.check(batch)
        if _checks.emitting():
            return self._evaluate(params, key, batch, state, train)
        params, batch, state = jax.tree.map(canonical, (params, batch, state))
        eager = not is_traced(params, key, batch, state)
        run = _checked_evaluate if _checks.checking() and eager else _compiled_evaluate
        return run(self, params, key, batch, state, train)

    def _evaluate(
        self, params: Any, key: Array, batch: Batch, state: Any, train: bool
    ) -> tuple[Array, Aux]:
        batch, keep = self._prepared(batch)
        return reduced(batch, self.score(params, key, batch, state=state, train=train, keep=keep))

    def _prepared(self, batch: Batch) -> tuple[Batch, Array | None]:
        """The batch that is scored, its input cleaned, and what of it is kept."""
        check_batch(batch)
        for name in ("mask", "weight"):
            _check_leading(name, getattr(batch, name), batch.target)
        _check_factors(batch)
        batch = self.prepare(batch)
        keep = _keep(batch)
        return dataclasses.replace(batch, input=_clean(batch.input, keep)), keep

    def merge(self, params: Any, state: Any = ()) -> Any:
        """The user's own network with these values, an NNX module in training mode: `.eval()` it.

        Args:
          params: as from `init` or training.
          state: likewise.
        """
        raise NotImplementedError(f"{type(self).__name__} has no single network to give back")

    def __setattr__(self, name: str, value: Any) -> None:
        # Frozen, as jit's cache wants of a static argument: each attribute is set once.
        if name in self.__dict__:
            raise AttributeError(f"{type(self).__name__} is frozen: make a new one")
        object.__setattr__(self, name, value)


_compiled_evaluate = jax.jit(
    lambda self, params, key, batch, state, train: self._evaluate(params, key, batch, state, train),
    static_argnums=(0, 5),
)
_checked_evaluate = _checks.checked(
    lambda self, params, key, batch, state, train: self._evaluate(params, key, batch, state, train),
    static_argnums=(0, 5),
)


def check_batch(batch: Any) -> None:
    """Raises TypeError where `batch` is none, such as a tuple of arrays."""
    if not isinstance(batch, Batch):
        raise TypeError(
            f"a Batch wanted, got {type(batch).__name__}; write lx.Batch(target=y, input=x)"
        )


# The one reduction.


def reduced(batch: Batch, scores: Scores) -> tuple[Array, Aux]:
    """`(loss, aux)`: weighted means over the batch."""
    cost = scores.per_example
    weight = _effective_weight(batch, cost.shape, cost.dtype)
    if isinstance(cost, Deferred):
        total, cost = cost.summed(weight)
    else:
        total = jnp.sum(weight * jnp.where(weight == 0, 0, cost))
    per_example = jnp.where(weight == 0, 0, cost)
    loss = _divided(total, weight)
    terms = {
        name: _divided(jnp.sum(weight * jnp.where(weight == 0, 0, term)), weight)
        for name, term in scores.terms.items()
    }
    return loss, Aux(loss, per_example, weight, terms, scores.state, scores.claim, scores.num_bytes)


def _divided(total: Array, weight: Array) -> Array:
    """sum(weight x) / sum(weight) from its numerator; 0 where no weight is left."""
    denominator = jnp.sum(weight)
    return total / jnp.where(denominator == 0, 1, denominator)


def _keep(batch: Batch) -> Array | None:
    """The mask to use: masked out, or of weight 0."""
    if batch.mask is None and batch.weight is None:
        return None
    if batch.weight is None:
        return jnp.asarray(batch.mask, bool)
    counts = jnp.asarray(batch.weight) != 0
    if batch.mask is None:
        return counts
    mask = jnp.asarray(batch.mask, bool)
    ndim = max(mask.ndim, counts.ndim)
    return trailing(mask, ndim) & trailing(counts, ndim)


def trailing(x: Array, ndim: int) -> Array:
    """`x` with axes of length 1 at the end, `ndim` in all."""
    return x.reshape(x.shape + (1,) * (ndim - x.ndim))


def _check_leading(name: str, factor: Any, target: Any) -> None:
    """mask and weight have the first axes of the target, which is never broadcast to them."""
    for leaf in jax.tree.leaves(target) if factor is not None else ():
        shape, wanted = jnp.shape(factor), jnp.shape(leaf)
        if shape != wanted[: len(shape)]:
            raise ValueError(
                f"Batch.{name} has shape {shape}, the target {wanted}: {name} must have its shape, "
                f"or its first axes; {_mend_leading(name, shape, wanted)}"
            )


def _mend_leading(name: str, got: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    own = tuple(size for size in got if size != 1)
    if own == wanted[: len(own)]:
        return f"write {name}={name}.reshape({own})"
    if got[::-1] == wanted[: len(got)]:
        return f"write {name}={name}.T"
    return f"are {name} and target of one batch?"


def _check_factors(batch: Batch) -> None:
    """A mask is no weight; weights are not negative."""
    if batch.mask is not None and jnp.issubdtype(jnp.result_type(batch.mask), jnp.floating):
        raise TypeError(
            f"Batch.mask is boolean, got {jnp.result_type(batch.mask)}; write mask=mask > 0, or "
            "weight=mask if its numbers count"
        )
    if batch.weight is not None and _checks.checking():
        weight = jnp.asarray(batch.weight)
        _checks.check_values(
            (weight >= 0) & jnp.isfinite(weight),
            weight,
            "Batch.weight must be finite and not negative; at {index} it is {value}",
        )


def _clean(tree: Any, keep: Array | None) -> Any:
    """Inputs that are masked out and not finite become 0: a NaN would reach the gradients."""
    if keep is None:
        return tree

    def clean(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        fits = leaf.shape[: keep.ndim] == keep.shape
        if not fits or not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return jnp.where(trailing(keep, leaf.ndim) | jnp.isfinite(leaf), leaf, 0)

    return jax.tree.map(clean, tree)


def _effective_weight(batch: Batch, shape: tuple[int, ...], dtype: Any) -> Array:
    """weight * mask at the shape of the costs, in their dtype."""
    weight = jnp.ones(shape, dtype)
    for name in ("mask", "weight"):
        factor = getattr(batch, name)
        if factor is None:
            continue
        factor = jnp.asarray(factor, bool if name == "mask" else None)
        if factor.shape != shape[: factor.ndim]:
            raise ValueError(
                f"Batch.{name} has shape {factor.shape}, one value of the target is a whole event: "
                "the log-density has shape "
                f"{shape}; {name} must have its shape, or its first axes"
            )
        weight = weight * trailing(factor, len(shape)).astype(dtype)
    return weight


def claim_of(head: Any) -> Claim:
    """What a head says of its own log-density: exact, unless it has a `claim`."""
    return getattr(head, "claim", Claim())


def measure_of(dist: Distribution) -> Measure:
    """The measure that `dist.log_prob` is a density against, for one value."""
    discrete = getattr(dist.support, "is_discrete", False)
    dims = dist.support.dims(dist.event_shape)
    return Measure("counting" if discrete else "lebesgue", dims)


def target_log_prob(dist: Distribution, target: Any, keep: Array | None, *, owner: str) -> Array:
    """log p(target), shape `batch`, checked: one distribution for each target, no broadcasting.

    Raises:
      ValueError: when the shapes differ, as `(B,)` against `(B, 1)`.
    """
    target = jnp.asarray(target)
    check_shape(dist, target, owner=owner)
    value = dist._value(target)
    if _checks.checking():
        check_support(dist, outside(dist, value), value, keep, owner=owner)
    if keep is not None:
        dist = dist.mask(trailing(keep, dist.batch_ndim))
    return dist.log_prob(target)


def target_nll(
    dist: Distribution, target: Any, keep: Array | None, *, owner: str
) -> Array | Deferred:
    """-log p(target), as `target_log_prob`; deferred where a weighted sum of it is less work."""
    if not isinstance(dist, LinearCategorical) or _checks.checking():
        return -target_log_prob(dist, target, keep, owner=owner)
    target = jnp.asarray(target)
    check_shape(dist, target, owner=owner)

    def summed(weight: Array) -> tuple[Array, Array]:
        total, log_prob = dist.weighted_log_prob(target, weight)
        return -total, -log_prob

    return Deferred(target.shape, dist.dtype, summed)


def check_shape(dist: Distribution, target: Array, *, owner: str) -> None:
    """Raises ValueError unless there is one distribution for each target."""
    wanted = dist.batch_shape + dist.event_shape
    if target.shape != wanted:
        raise ValueError(
            f"{owner}: the head predicts targets of shape {wanted} (batch {dist.batch_shape}, "
            f"event {dist.event_shape}), "
            f"the target has {target.shape}; {_mend(dist, target.shape, wanted)}"
        )


def outside(dist: Distribution, value: Array) -> Array:
    """Whether each value has no density or is NaN, `(*sample, *batch)`."""
    events = tuple(range(-len(dist.event_shape), 0))
    return dist._excludes(value) | jnp.any(jnp.isnan(value), axis=events)


def check_support(
    dist: Distribution, outside: Array, target: Array, keep: Array | None, *, owner: str
) -> None:
    """Under `debug_checks`: no target that is kept is outside."""
    what = f"the target is {{value}}, outside the support of {type(dist).__name__}: {dist.support}"
    check_target(~outside, target, keep, f"{owner}: at {{index}} {what}")


def check_target(good: Array, value: Array, keep: Array | None, message: str) -> None:
    """Under `debug_checks`: every target that is kept is good."""
    good = good if keep is None else good | ~trailing(keep, good.ndim)
    _checks.check_values(
        good, value, f"{message}; mend the data or leave it out with Batch(mask=...)"
    )


def _mend(dist: Distribution, got: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    classes = getattr(dist, "num_categories", None)
    if classes and got == (*wanted, classes):
        return "write target.argmax(-1), or lx.CrossEntropy(net, head) for class probabilities"
    if not dist.batch_shape and got[1:] == wanted:
        return (
            "the input has no batch axis, or one number for each example: write input[None] or "
            "input[:, None]"
        )
    if got == (*wanted, 1):
        return "write target[..., 0], or lx.Head(..., event_shape=(1,))"
    if (*got, 1) == wanted:
        return "write target[..., None], or a head with event_shape=()"
    if got[:1] != wanted[:1]:
        return "are input and target of one batch?"
    return f"write lx.Head(..., event_shape={got[1:]})"
