"""Whole numbers scored by a density over real ones: noise fills each bin.

With a bin [k, k + 1) / n of the unit cube for each value k of a vector of D whole numbers, and y = f(.)
the preprocessing onto the values of the model's density p,

    P(k) = integral over the bin of p(f(v)) |det f'(v)| dv,      v = (k + u) / n.

For any density q(u | k) on the unit cube, by Jensen's inequality,

    -log P(k) <= -E log (1/S) sum_s w_s,      w_s = p(f(v_s)) |det f'(v_s)| n^-D / q(u_s | k),

with equality where q is the posterior of u, and in the limit of many draws S.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from likelax import _checks, supports
from likelax._checks import is_count, is_number
from likelax._keys import row_keys, stream
from likelax._mesh import divided, with_auto_axes
from likelax._pytree import Array, is_traced
from likelax.bijectors import Affine, Bijector, Chain, Identity, Invert, Sigmoid
from likelax.bijectors.base import check_bijector, sum_last
from likelax.conditional import Conditional
from likelax.distributions.base import Distribution
from likelax.distributions.quantized import Grid
from likelax.likelihood import Likelihood
from likelax.networks import Arguments, Variables, called
from likelax.numerics.logspace import logsumexp
from likelax.objective import (
    Batch,
    Claim,
    Measure,
    Objective,
    Relation,
    Scores,
    check_shape,
    check_target,
    trailing,
)
from likelax.supports import Support


def dequantize(
    model: Any,
    bins: int,
    *,
    low: float = 0,
    high: float | None = None,
    preprocessing: Any = None,
    dequantizer: Any = None,
    num_particles: int = 1,
) -> Dequantized:
    """An upper bound on the NLL of whole numbers, in nats, from a density over real values.

    ::

        flow = lx.Likelihood(None, head)                      # a density over (28, 28) real numbers
        model = lx.flows.dequantize(flow, bins=256, preprocessing=lx.flows.logit(0.05))
        lx.bits_per_dim(lx.evaluate(model, params, key, lx.Batch(target=pixels)))

    Without a `dequantizer` the noise is uniform (Theis et al. 2016, sec. 3.1); with one it is
    variational (Ho et al. 2019, sec. 3.1); with several particles importance-weighted (Hoogeboom et
    al. 2020). The bound is one on probabilities: the width of the bins and the log-determinant
    of the preprocessing are in it.

    Args:
      model: a `Likelihood` of a density. What it scores are values of `preprocessing`.
      bins: how many values a target may take.
      low, high: the first and the last of them, equally spaced, as in `lx.Quantized` (default: 0 and
        low + bins - 1).
      preprocessing: from the unit interval, in which value number k fills [k, k + 1) / bins, onto the
        values of the density; None for none. `lx.flows.logit` is the usual one.
      dequantizer: q(u | target), a `Conditional` whose head gives a density on (0, 1) of the target's
        event shape, `lx.TransformedHead(head, lx.bijectors.Sigmoid())`. Its network is called with
        the centres of the bins, in (0, 1), `(batch, *event)`, and with the batch's input after
        them if there is one. It is trained with the model, by the same loss.
      num_particles: draws S of the noise for each example.

    Raises:
      TypeError: for a model that is no `Likelihood`, or parts that are not what they should be.
      ValueError: for a range, a number of bins or of particles that is none, or a model whose loss
        does not bound an NLL from above.
    """
    if not isinstance(model, Likelihood):
        raise TypeError(
            f"dequantize: a Likelihood of a density wanted, got {type(model).__name__}; write "
            "lx.flows.dequantize(lx.Likelihood(net, head), bins=256)"
        )
    if dequantizer is not None and not isinstance(dequantizer, Conditional):
        raise TypeError(
            f"dequantize: dequantizer is a Conditional, got {type(dequantizer).__name__}; write "
            "dequantizer=lx.Conditional(net, lx.TransformedHead(head, lx.bijectors.Sigmoid()))"
        )
    if not is_count(bins) or bins < 2:
        raise ValueError(f"dequantize: bins is a whole number >= 2, got {bins!r}; write bins=256")
    if not is_count(num_particles):
        raise ValueError(
            f"dequantize: num_particles is a whole number >= 1, got {num_particles!r}; write "
            "num_particles=1"
        )
    if high is None and is_number(low):
        high = low + bins - 1
    if not (is_number(low) and is_number(high) and -math.inf < low < high < math.inf):
        raise ValueError(
            f"dequantize: numbers low < high wanted, got low={low!r} and high={high!r}; write low=0"
        )
    name = f"one of {bins} equally spaced numbers from {low:g} to {high:g}"
    grid = Grid(name, 0, True, lower=low, upper=high, bins=bins)
    f = Identity() if preprocessing is None else check_bijector(preprocessing, "dequantize")
    return Dequantized(model, grid, f, dequantizer, int(num_particles))


def logit(margin: float = 0.05) -> Bijector:
    """The preprocessing logit(margin + (1 - 2 margin) v) of v in (0, 1), after Dinh et al. 2017, sec. 4.1.

    Args:
      margin: how far from the ends of (0, 1) values are kept; the model's density is then asked about
        |y| <= logit(1 - margin) only.

    Raises:
      ValueError: when `margin` is not in [0, 1/2).
    """
    if not (is_number(margin) and 0 <= margin < 0.5):
        raise ValueError(f"logit: margin is in [0, 0.5), got {margin!r}; write margin=0.05")
    return Chain((Invert(Sigmoid()), Affine(jnp.asarray(margin), jnp.asarray(1 - 2 * margin))))


class Dequantized(Objective):
    """What `dequantize` makes, which is its manual.

    Parameters are the model's own; those of a dequantizer stand beside them,
    `params["dequantizer"]`, and the state is then a pair, the model's and the dequantizer's.
    """

    def __init__(
        self,
        model: Likelihood,
        grid: Grid,
        preprocessing: Bijector,
        dequantizer: Conditional | None,
        num_particles: int,
    ):
        self.model, self.grid, self.preprocessing = model, grid, preprocessing
        self.dequantizer, self.num_particles = dequantizer, num_particles
        self.event_shape = preprocessing.inverse_shape(model.head.event_shape)
        if dequantizer is not None and dequantizer.head.event_shape != self.event_shape:
            raise ValueError(
                f"dequantize: targets have event shape {self.event_shape}, the dequantizer's head "
                f"has {dequantizer.head.event_shape}; write event_shape={self.event_shape} there"
            )
        vanishes = " and ".join(v for v in ("num_particles", model.claim.vanishes) if v)
        self.claim = Claim(_bound(model.claim, num_particles), True, vanishes=vanishes)

    def init(self, key: Array, batch: Batch) -> Variables:
        batch, keep = self._prepared(batch)
        index, outside = self._index(batch.target, keep)
        self._check_inside(outside, batch.target, keep)
        y, _ = self._preprocessed(index, _uniform(stream(key, "noise"), index, 1))
        params, state = self.model.init(key, dataclasses.replace(batch, target=y[0]))
        if self.dequantizer is None:
            return Variables(params, state)
        seen = self._seen(index, batch)
        with called("dequantizer", seen):
            own = self.dequantizer.init(stream(key, "dequantizer"), seen)
            q, _ = self.dequantizer.apply(own.params, seen, state=own.state)
        _check_noise(q, index)
        return Variables({**params, "dequantizer": own.params}, (state, own.state))

    def merge(self, params: Any, state: Any = ()) -> Any:
        return self.model.merge(params, self._states(state)[0])

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        model_state, own_state = self._states(state)
        index, outside = self._index(batch.target, keep)
        u, log_q, own_state = self._noise(params, key, index, batch, own_state, train)
        y, log_det = self._preprocessed(index, u)
        continuous = dataclasses.replace(batch, target=y[0])
        dist, model_state = self.model._predict(params, key, continuous, model_state, train)
        _check_density(dist, y[0])
        kept = dist if keep is None else dist.mask(trailing(keep, dist.batch_ndim))
        cost = -_log_mean_exp(kept.log_prob(y) + log_det - log_q)
        claim = dataclasses.replace(self.claim, measure=Measure("counting", self._dims))
        state = model_state if self.dequantizer is None else (model_state, own_state)
        return Scores(jnp.where(outside, jnp.inf, cost), {}, state, claim)

    def sample(
        self,
        params: Any,
        key: Array,
        shape: int | tuple[int, ...] = (),
        *,
        input: Any = None,
        state: Any = (),
    ) -> Array:
        """Draws targets, `(*shape, *batch, *event)`: whole numbers as int32 where `low` and the
        spacing are whole. What the density has beyond the ends goes to the first and the last value.

        Args:
          params: as from `init` or training.
          key: a random key.
          shape: how many.
          input: what the model's network takes, if it has one.
          state: as from `init` or training.
        """
        example = Batch(target=jnp.zeros(self.model.head.event_shape), input=input)
        dist = self.model.predict(params, self.model._input(example), state=self._states(state)[0])
        v = self.preprocessing.inverse(dist.sample(stream(key, "sample"), shape))
        index = jnp.clip(jnp.floor(v * self.grid.bins), 0, self.grid.bins - 1)
        value = self.grid.points(index)
        whole = float(self.grid.lower).is_integer() and float(self.grid.step).is_integer()
        return value.astype(jnp.int32) if whole else value

    # The parts of `score`.

    @property
    def _dims(self) -> int:
        return math.prod(self.event_shape)

    def _states(self, state: Any) -> tuple[Any, Any]:
        """The model's and the dequantizer's."""
        if self.dequantizer is None:
            return state, ()
        return state or ((), ())

    def _index(self, target: Any, keep: Array | None) -> tuple[Array, Array]:
        """The number of each value in the grid, floating, and whether an example has one that is
        none; numbers are 0 where that is so or the example is not kept.
        """
        x = jnp.asarray(target)
        ndim = len(self.event_shape)
        if x.ndim <= ndim or x.shape[x.ndim - ndim :] != self.event_shape:
            raise ValueError(
                f"dequantize: a target has shape (batch, *event) with event {self.event_shape}, got "
                f"{x.shape}; write target[None] for one example"
            )
        support: Support = supports.elementwise(self.grid, ndim) if ndim else self.grid
        dtype = jnp.result_type(float)
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        x = support.widen(x, dtype) if floating else x.astype(dtype)
        if _checks.checking():
            good = support.contains(x)
            what = f"the target is {{value}}, no vector of values that are {self.grid}"
            check_target(good, x, keep, f"dequantize: at {{index}} {what}")
        outside = support.excludes(x)
        usable = ~outside if keep is None else ~outside & trailing(keep, outside.ndim)
        x = jnp.where(trailing(usable, x.ndim), x, self.grid.lower)
        return self.grid.nearest(x), outside

    def _check_inside(self, outside: Array, target: Any, keep: Array | None) -> None:
        """At `init`: targets that are at hand are values of the grid."""
        outside = outside if keep is None else outside & keep
        if is_traced(outside) or not bool(jnp.any(outside)):
            return
        x = jnp.asarray(target)[outside]
        low, high = float(x.min()), float(x.max())
        mend = f"write dequantize(model, bins, low={low:g}, high={high:g}) with their own range"
        if self.grid.lower <= low and high <= self.grid.upper and high > 1:
            mend = (
                "write jnp.round(target), or dequantize(model, bins, high=...) with their own steps"
            )
        raise ValueError(
            f"dequantize: {len(x)} of {outside.size} targets have values that are not {self.grid}: they "
            f"range from {low:g} to {high:g}; {mend}"
        )

    def _noise(
        self, params: Any, key: Array, index: Array, batch: Batch, state: Any, train: bool
    ) -> tuple[Array, Array | float, Any]:
        """u, `(S, *batch, *event)`, log q(u | k), `(S, *batch)`, and the dequantizer's next state."""
        if self.dequantizer is None:
            return _uniform(stream(key, "noise"), index, self.num_particles), 0.0, state
        q, state = self.dequantizer.apply(
            params["dequantizer"],
            self._seen(index, batch),
            key=stream(key, "dequantizer"),
            state=state,
            train=train,
        )
        _check_noise(q, index)

        def draw(key: Array, q: Distribution) -> tuple[Array, Array]:
            return q.sample_and_log_prob(key, (self.num_particles,))

        keys = row_keys(stream(key, "noise"), len(index))
        spec = divided(index.ndim, index)
        draw_all = with_auto_axes(jax.vmap(draw, out_axes=1), (None, *spec))
        u, log_q = draw_all(keys, q.broadcast_to(q.batch_shape))
        return u, log_q, state

    def _seen(self, index: Array, batch: Batch) -> Any:
        """What the dequantizer's network is given."""
        centres = (index + 0.5) / self.grid.bins
        if isinstance(batch.input, Arguments):
            return Arguments((centres, *batch.input.positional), batch.input.named)
        return centres if batch.input is None else Arguments((centres, batch.input))

    def _preprocessed(self, index: Array, u: Array) -> tuple[Array, Array]:
        """y = f((k + u) / n) and log |det dy/du|, the latter `(S, *batch)`."""
        bins = self.grid.bins
        # (255 + u) / 256 may round to 1, of which a logit is infinite.
        limits = jnp.finfo(u.dtype)
        v = jnp.clip((index + u) / bins, limits.tiny, 1 - limits.epsneg)
        y, log_det = self.preprocessing.forward_and_log_det(v)
        extra = len(self.event_shape) - self.preprocessing.event_ndim
        return y, sum_last(log_det, extra) - self._dims * math.log(bins)


def _bound(claim: Claim, num_particles: int) -> Relation:
    """What the bound on the discrete NLL is, given what the model's own number is."""
    if claim.relation in ("exact", "upper"):
        return "upper"
    if claim.relation == "estimate":
        # The mean of an unbiased estimate is the NLL; of the logarithm of a sum of them it is not.
        return "upper" if num_particles == 1 else "estimate"
    raise ValueError(
        f"dequantize: the model's loss is {claim}, which bounds no NLL from above; write "
        "lx.flows.dequantize(lx.Likelihood(net, head), bins=256)"
    )


def _log_mean_exp(x: Array) -> Array:
    """log (1/S) sum_s exp x_s over the first axis."""
    return logsumexp(x, axis=0) - math.log(x.shape[0])


def _uniform(key: Array, index: Array, count: int) -> Array:
    """`(count, *index.shape)` uniform numbers, the midpoints of the cells that
    `jax.random.uniform` gives the lower ends of: neither 0 nor 1.
    """

    def draw(key: Array) -> Array:
        return jax.random.uniform(key, (count, *index.shape[1:]), index.dtype)

    half = float(jnp.finfo(index.dtype).eps) / 2
    return jax.vmap(draw, out_axes=1)(row_keys(key, len(index))) + half


def _check_density(dist: Distribution, y: Array) -> None:
    """Raises unless there is one density for each target."""
    if dist.support.is_discrete:
        raise TypeError(
            f"dequantize: {type(dist).__name__} has probabilities of its own, no density; score it "
            "as it is: lx.Likelihood(net, head)"
        )
    check_shape(dist, y, owner="dequantize")


def _check_noise(q: Distribution, index: Array) -> None:
    """Raises unless there is one density on the unit cube for each target."""
    check_shape(q, index, owner="dequantize: dequantizer")
    each = q.support.base if isinstance(q.support, supports.Elementwise) else q.support
    ends = zip((getattr(each, "lower", None), getattr(each, "upper", None)), (0, 1), strict=True)
    # Of ends that are arrays nobody can say.
    off = any(e is None or (isinstance(e, int | float) and e != unit) for e, unit in ends)
    if each.is_discrete or off:
        raise ValueError(
            f"dequantize: the dequantizer is a density on (0, 1), its values are {q.support}; write "
            "lx.TransformedHead(head, lx.bijectors.Sigmoid())"
        )
