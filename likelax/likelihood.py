"""Objectives that are a conditional log-likelihood, and two neighbours that are not quite one."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from likelax import _checks, supports
from likelax._keys import stream
from likelax._pytree import Array
from likelax.conditional import Conditional
from likelax.distributions.base import Distribution, held
from likelax.distributions.categorical import Bernoulli, Categorical
from likelax.distributions.linear_categorical import LinearCategorical
from likelax.heads import HeadLike, may_be_of_classes
from likelax.networks import Variables
from likelax.numerics.logspace import log1mexp
from likelax.objective import (
    Batch,
    Claim,
    Measure,
    Objective,
    Scores,
    check_shape,
    check_target,
    claim_of,
    measure_of,
    target_log_prob,
    target_nll,
    trailing,
)


class _Supervised(Objective):
    """A network and a head, scored on targets given inputs."""

    def __init__(self, net: Any, head: HeadLike):
        self._net, self.head = net, head
        self.conditional = Conditional(net, head)

    def _input(self, batch: Batch) -> Any:
        if batch.input is not None:
            return batch.input
        if self._net is not None:
            raise ValueError(
                "the network takes an input and the batch has none; write lx.Batch(target=y, "
                "input=x)"
            )
        shape = jnp.shape(batch.target)
        return jnp.zeros(shape[: len(shape) - len(self.head.event_shape)] + (0,))

    def init(self, key: Array, batch: Batch) -> Variables:
        batch, keep = self._prepared(batch)
        return self.conditional.init(key, self._input(batch), batch.target, keep)

    def merge(self, params: Any, state: Any = ()) -> Any:
        return self.conditional.merge(params, state)

    def predict(
        self, params: Any, input: Any, *, key: Array | None = None, state: Any = ()
    ) -> Distribution:
        """The predictive distribution given `input`, dropout off: batch shape as the input's, or `()` where
        there is no network and the input is None.
        """
        if input is None and self._net is None:
            input = jnp.zeros(0)
        return self.conditional.apply(params, input, key=key, state=state)[0]

    def _predict(
        self, params: Any, key: Array, batch: Batch, state: Any, train: bool
    ) -> tuple[Distribution, Any]:
        net_key = stream(key, "net")
        return self.conditional.apply(
            params, self._input(batch), key=net_key, state=state, train=train
        )


class Likelihood(_Supervised):
    """The negative log-likelihood -log p(target | input), in nats; exact.

    ::

        model = lx.Likelihood(MLP(head.size, rngs=nnx.Rngs(0)), head)
        params, state = model.init(jax.random.key(0), batch)
        grad = jax.value_and_grad(model, has_aux=True)
        (loss, aux), grads = grad(params, key, batch, state=state)

    An ensemble is `jax.vmap` over the parameters; give the network as a function of `rngs`, so that
    every key makes other ones::

        model = lx.Likelihood(functools.partial(MLP, head.size), head)
        params, state = jax.vmap(lambda key: model.init(key, batch))(jax.random.split(key, 5))

    Args:
      net: a Flax NNX module or a function `make(rngs=...)` of one, a Linen module, a pair `(init,
        apply)`, or None (`likelax.networks`); its output's last axis has `head.size` entries.
      head: `lx.Head(lx.Normal)` or another. One whose density is not exact has a `claim`.
    """

    def __init__(self, net: Any, head: HeadLike):
        super().__init__(net, head)
        self.claim = self.claim + claim_of(head)

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        dist, state = self._predict(params, key, batch, state, train)
        cost = target_nll(dist, batch.target, keep, owner="Likelihood")
        claim = dataclasses.replace(self.claim, measure=measure_of(dist))
        return Scores(cost, {}, state, claim)


class CrossEntropy(_Supervised):
    """The cross-entropy -sum_k q_k log p_k of class probabilities q, in nats.

    With soft labels `q`, `(batch, classes)`, it is the expected NLL of labels drawn from q: exact.
    With `label_smoothing` s, q becomes (1 - s) q + s / classes, and the number is no likelihood.
    Labels may be whole numbers, too: the plain NLL is then in `terms["nll"]`, and a label that is no
    class costs infinity.

    Args:
      net: a network, as in `Likelihood`.
      head: of a Categorical; for labels `lx.LinearHead`, too.
      label_smoothing: s, in [0, 1].

    Raises:
      TypeError: for a head that gives no classes.
    """

    def __init__(self, net: Any, head: HeadLike, *, label_smoothing: float = 0.0):
        super().__init__(net, head)
        if not may_be_of_classes(head):
            raise TypeError(
                "CrossEntropy: a head of classes wanted, lx.Head(lx.Categorical, num_categories=K) or "
                f"lx.LinearHead(K, features); got {head!r}"
            )
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing is in [0, 1], got {label_smoothing}")
        self.label_smoothing = label_smoothing
        self.claim = Claim("none") if label_smoothing else Claim()

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        dist, state = self._predict(params, key, batch, state, train)
        target = jnp.asarray(batch.target)
        smoothing, terms = self.label_smoothing, {}
        if jnp.issubdtype(target.dtype, jnp.integer):
            nll, mean_log_p = _label_costs(dist, target, keep, with_mean=bool(smoothing))
            cost = terms["nll"] = nll
        else:
            log_p = _class_log_probs(dist)
            cost, mean_log_p = _expected_nll(log_p, target, keep), jnp.mean(log_p, axis=-1)
        if smoothing:
            plain = (1 - smoothing) * cost if smoothing < 1 else 0.0  # 0 times infinity is 0 here
            cost = plain - smoothing * mean_log_p
        claim = dataclasses.replace(self.claim, measure=Measure("counting", 1))
        return Scores(cost, terms, state, claim)


class Focal(_Supervised):
    """The focal loss -(1 - p)^gamma log p of the label's probability p (Lin et al. 2017, eq. 4).

    It is the negative logarithm of no density: its claim is none, and the NLL is in `terms["nll"]`.

    Args:
      net: a network, as in `Likelihood`.
      head: of a Categorical or Bernoulli.
      gamma: the focusing exponent, at least 0; 0 gives the NLL.
    """

    claim = Claim("none")

    def __init__(self, net: Any, head: HeadLike, *, gamma: float = 2.0):
        super().__init__(net, head)
        if gamma < 0:
            raise ValueError(f"gamma is at least 0, got {gamma}")
        self.gamma = gamma

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        dist, state = self._predict(params, key, batch, state, train)
        if not isinstance(dist, Categorical | Bernoulli):
            raise TypeError(
                f"Focal: a head of lx.Categorical or lx.Bernoulli wanted, got {type(dist).__name__}"
            )
        nll = -target_log_prob(dist, batch.target, keep, owner="Focal")
        # (1 - p)^gamma through log(1 - p), which is -inf only where p is 1 and the loss 0.
        sure = nll <= 0
        log_rest = log1mexp(jnp.where(sure, 1, nll))
        cost = jnp.where(sure, 0, jnp.exp(self.gamma * log_rest) * nll)
        return Scores(cost if self.gamma else nll, {"nll": nll}, state, self.claim)


def _expected_nll(log_p: Array, soft: Array, keep: Array | None) -> Array:
    """-sum_k q_k log p_k, with 0 log 0 = 0 of slope 0; 0 where not kept."""
    if soft.shape != log_p.shape:
        raise ValueError(
            f"CrossEntropy: class probabilities of shape {log_p.shape} wanted, got {soft.shape}; "
            "labels are whole numbers, write target.astype(int)"
        )
    soft = soft.astype(log_p.dtype)
    if keep is not None:
        soft = jnp.where(trailing(keep, soft.ndim), soft, 0)
    if _checks.checking():
        what = f"the class probabilities are {{value}}: they must be {supports.simplex}"
        check_target(
            supports.simplex.contains(soft), soft, keep, f"CrossEntropy: at {{index}} {what}"
        )
    return -jnp.sum(jnp.where(soft == 0, 0, soft * jnp.where(soft == 0, 0, log_p)), axis=-1)


def _label_costs(
    dist: Distribution, label: Array, keep: Array | None, *, with_mean: bool
) -> tuple[Array, Array]:
    """-log p of each label, and the mean of log p over all classes where it is wanted."""
    if not isinstance(dist, Categorical | LinearCategorical):
        raise TypeError(f"CrossEntropy: a head of classes wanted, got {type(dist).__name__}")
    if not with_mean:
        nll = -target_log_prob(dist, label, keep, owner="CrossEntropy")
        return nll, jnp.zeros_like(nll)
    check_shape(dist, label, owner="CrossEntropy")
    scored: Any = dist if keep is None else held(dist, trailing(keep, dist.batch_ndim))
    numbers = scored._summary(label, every=True)
    return -numbers.log_prob, jnp.asarray(numbers.mean_log_prob)


def _class_log_probs(dist: Distribution) -> Array:
    if not isinstance(dist, Categorical):
        raise TypeError(
            "CrossEntropy: class probabilities want a head of lx.Categorical, got "
            f"{type(dist).__name__}"
        )
    classes = dist.num_categories
    labels = jnp.arange(classes).reshape((-1,) + (1,) * dist.batch_ndim)
    return jnp.moveaxis(dist.log_prob(labels), 0, -1)
