"""A classifier as an energy model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from likelax import supports
from likelax._checks import is_count, is_number
from likelax._pytree import Array, parameter_dtype
from likelax.distributions.categorical import Categorical
from likelax.energy.contrastive_divergence import PersistentContrastiveDivergence
from likelax.energy.network import Energy, joined, parted
from likelax.numerics.logspace import logsumexp
from likelax.objective import Batch, Claim, Measure, Scores, check_batch, target_log_prob
from likelax.supports import Support


class JEM(PersistentContrastiveDivergence):
    """A classifier whose logits f are a joint energy, p(x, y) proportional to exp f_y(x) (Grathwohl et al.
    2020): -log p(y | x), exact, plus the estimated -log p(x) of E(x) = -log sum_y exp f_y(x).

    ::

        model = lx.energy.JEM(
            functools.partial(MLP, 10), 10, 64, kernel=lx.samplers.Langevin(0.01), start=noise
        )
        params, state = model.init(key, lx.Batch(labels, images))
        model.predict(params, images, state=state)            # p(y | x), a Categorical
        model.density(params, state=state)                    # p(x), without its log Z

    `claims` says what each part is: `terms["nll"]` is exact, `terms["energy_difference"]` is E(x) - E(y) of
    persistent chains y and no likelihood (the other terms are as for `ContrastiveDivergence`), and their sum
    is none.

    Not in training (`train=False`) the number is -log p(y | x) alone, in nats: exact, drawn from nothing, and
    to be compared with that of any classifier.

    Args:
      net: a network (see `likelax.networks`), x `(n, *event)` to logits `(n, num_classes)`.
      num_classes: how many there are.
      event_shape: of one x.
      support: of its elements, as for `Energy`.
      density_weight: what the second part is multiplied by.
      kernel, k, num_chains, buffer_size, restart_prob, start, energy_penalty: as for
        `PersistentContrastiveDivergence`.

    Raises:
      TypeError, ValueError: as there, and for labels that do not fit.
    """

    claims: Mapping[str, Claim] = {
        "nll": Claim("exact", measure=Measure("counting", 1)),
        "energy_difference": PersistentContrastiveDivergence.claim,
    }
    claim = claims["nll"] + claims["energy_difference"]

    def __init__(
        self,
        net: Any,
        num_classes: int,
        event_shape: int | tuple[int, ...],
        *,
        kernel: Any,
        k: int = 20,
        num_chains: int = 100,
        buffer_size: int = 1000,
        restart_prob: float = 0.05,
        start: Any = None,
        support: Support = supports.real,
        energy_penalty: float = 0.0,
        density_weight: float = 1.0,
    ):
        if not is_count(num_classes) or num_classes < 2:
            raise ValueError(f"JEM: num_classes is a whole number >= 2, got {num_classes!r}")
        if not is_number(density_weight) or density_weight < 0:
            raise ValueError(
                f"JEM: density_weight is a number of at least 0, got {density_weight!r}; write 1.0"
            )
        super().__init__(
            _Marginal(net, event_shape, num_classes, support),
            k,
            num_chains=num_chains,
            kernel=kernel,
            start=start,
            restart_prob=restart_prob,
            buffer_size=buffer_size,
            energy_penalty=energy_penalty,
        )
        self.num_classes, self.density_weight = num_classes, density_weight

    def check(self, batch: Any) -> None:
        check_batch(batch)
        if batch.input is None:
            raise ValueError("JEM: x is the batch's input; write lx.Batch(labels, x)")
        super().check(Batch(batch.input, mask=batch.mask, weight=batch.weight))

    def _modelled(self, batch: Batch) -> Any:
        return batch.input

    def predict(
        self, params: Any, input: Any, *, key: Array | None = None, state: Any = ()
    ) -> Categorical:
        """p(y | x), dropout off: batch `(batch,)`."""
        out, _ = self.density(params, state=state)._outputs(jnp.asarray(input))
        return _classes(out)

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        if not train:
            dist = self.predict(params, batch.input, state=state)
            nll = -target_log_prob(dist, batch.target, keep, owner="JEM")
            return Scores(nll, {"nll": nll}, state, self.claims["nll"])
        contrast, terms, state, logits = self._contrast(
            params, key, Batch(batch.input), state, train, keep
        )
        nll = -target_log_prob(_classes(logits), batch.target, keep, owner="JEM")
        difference = terms["energy_data"] - terms["energy_model"]
        terms = {"nll": nll, "energy_difference": difference, **terms}
        return Scores(nll + self.density_weight * contrast, terms, state, self.claim)

    def _energies(self, density: Any, x: Array, y: Array) -> tuple[Array, Array, Any, Any]:
        out, net = density._outputs(joined(x, y))
        logits, others = parted(out, len(x))
        return *(density._energies(o, len(o)) for o in (logits, others)), net, logits


class _Marginal(Energy):
    """E(x) = -log sum_y exp f_y(x)."""

    def __init__(self, net: Any, event_shape: Any, num_classes: int, support: Support):
        super().__init__(net, event_shape, support=support)
        self.num_classes = num_classes

    def _energies(self, out: Array, count: int) -> Array:
        if out.shape != (count, self.num_classes):
            raise ValueError(
                f"JEM: logits of {self.num_classes} classes for each of {count} values wanted, shape "
                f"{(count, self.num_classes)}, the network makes {out.shape}"
            )
        return -logsumexp(out, axis=-1)


def _classes(logits: Array) -> Categorical:
    return Categorical(logits=logits.astype(parameter_dtype([logits])))
