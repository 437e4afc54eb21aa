"""Preferences between two sequences, as the likelihood of which one was chosen."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from likelax._keys import stream
from likelax._pytree import Array
from likelax.distributions.categorical import Bernoulli
from likelax.networks import Variables
from likelax.objective import Batch, Claim, Measure, Objective, Scores, check_batch
from likelax.sequence.autoregressive import Autoregressive


class Preference(NamedTuple):
    """What was chosen, and what was rejected, each for the same questions."""

    chosen: Any
    rejected: Any


def preferences(
    policy: Autoregressive,
    reference_params: Any,
    chosen: Batch,
    rejected: Batch,
    *,
    state: Any = (),
) -> Batch:
    """A batch for `PreferenceLikelihood`: the two answers to each question, and how probable the
    reference model finds them, computed here once.

    Args:
      policy: the model.
      reference_params: the parameters that training starts from, or another reference's.
      chosen, rejected: batches of whole sequences, question and answer; masks leave the questions out
        (`lx.sequence.span_mask`).
      state: the reference's state.

    Raises:
      TypeError: for a policy that is no `Autoregressive`.
    """
    _check_policy(policy)
    pair = Preference(chosen, rejected)
    reference = [policy.log_prob(reference_params, batch, state=state) for batch in pair]
    return Batch(target=pair, input=Preference(*reference))


class PreferenceLikelihood(Objective):
    """-log p(chosen over rejected) under the Bradley-Terry model whose reward of a sequence is
    beta log(policy / reference): direct preference optimisation (Rafailov et al. 2023, eq. 7).

    It is the exact negative log-likelihood of the *preference*, one binary outcome, and says nothing
    of how likely the text is. `terms["accuracy"]` is how often the chosen answer has the larger
    reward, `terms["margin"]` by how much.

    Args:
      policy: what is trained; its parameters are this objective's.
      beta: the weight of the log-ratio, positive.

    Raises:
      TypeError: for a policy that is no `Autoregressive`.
      ValueError: for a beta that is not positive.
    """

    claim = Claim("exact", True, Measure("counting", 1))

    def __init__(self, policy: Autoregressive, *, beta: float = 0.1):
        _check_policy(policy)
        if not beta > 0:
            raise ValueError(f"beta is positive, got {beta}")
        self.policy, self.beta = policy, beta

    def init(self, key: Array, batch: Batch) -> Variables:
        return self.policy.init(key, _pair(batch).chosen)

    def merge(self, params: Any, state: Any = ()) -> Any:
        return self.policy.merge(params, state)

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        rewards = []
        for name, side, reference in zip(
            Preference._fields, _pair(batch), batch.input, strict=True
        ):
            own = stream(key, name)
            each, state = self.policy.scored_log_prob(params, own, side, state, train)
            rewards.append(self.beta * (jnp.sum(each, axis=1) - reference))
        margin = rewards[0] - rewards[1]
        cost = -Bernoulli(logits=margin).log_prob(jnp.ones_like(margin))
        terms = {"margin": margin, "accuracy": (margin > 0).astype(margin.dtype)}
        return Scores(cost, terms, state, self.claim)


def _check_policy(policy: Any) -> None:
    if not isinstance(policy, Autoregressive):
        raise TypeError(
            f"a policy is a model of sequences, got {type(policy).__name__}; write "
            "lx.sequence.Autoregressive(net, head, start=...)"
        )


def _pair(batch: Batch) -> Preference:
    if not (isinstance(batch.target, Preference) and isinstance(batch.input, Preference)):
        raise TypeError(
            "a batch of preferences wanted; write lx.sequence.preferences(policy, reference_params, "
            "chosen, rejected)"
        )
    for side in batch.target:
        check_batch(side)
    counts = [len(jax.tree.leaves(side.target)[0]) for side in batch.target]
    counts += [len(reference) for reference in batch.input]
    if len(set(counts)) > 1:
        raise ValueError(
            "one rejected answer, and the reference's log-probabilities of both, for each chosen one; "
            f"got {counts[0]} chosen and {counts[1]} rejected, with {counts[2]} and {counts[3]} "
            "log-probabilities"
        )
    return batch.target
