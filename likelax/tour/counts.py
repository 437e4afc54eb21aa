"""Visits to a doctor: counts far more dispersed than a Poisson's."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from likelax import datasets, plotting, supports
from likelax._pytree import Array, param
from likelax.distributions import Distribution, NegativeBinomial2, Poisson, ZeroInflated
from likelax.heads import Head, HeadLike, learned
from likelax.likelihood import Likelihood
from likelax.metrics import evaluate
from likelax.numerics.gamma import lgamma
from likelax.objective import Batch
from likelax.tour.section import Row, Section, Settings, split_of, train_row


class GeneralizedPoisson(Distribution):
    """A likelihood of one's own: P(k) = r (r + s k)^(k-1) e^(-r - s k) / k! (Consul, Jain 1973)."""

    rate: Array = param(supports.positive)
    spread: Array = param(supports.open_unit_interval)
    support = supports.non_negative_integer

    def log_prob(self, value: Array) -> Array:
        pull = self.rate + self.spread * value
        return jnp.log(self.rate) + (value - 1) * jnp.log(pull) - pull - lgamma(value + 1)


HEADS: dict[str, HeadLike] = {
    "Poisson": Head(Poisson),
    "zero-inflated Poisson": Head(ZeroInflated, base=Head(Poisson)),
    "generalized Poisson (custom)": Head(GeneralizedPoisson),
    "negative binomial": Head(NegativeBinomial2),
    "zero-inflated negative binomial": Head(ZeroInflated, base=Head(NegativeBinomial2)),
}
# Log-likelihoods of linear models at their optimum on all rows, computed by statsmodels 0.14.
REFERENCES = {
    "Poisson": (Head(Poisson), -62419.59),
    "negative binomial": (Head(NegativeBinomial2, dispersion=learned()), -43383.66),
}


def section(settings: Settings) -> Section:
    """Models of the doctor-visit counts, and two published log-likelihoods reproduced."""
    raw = datasets.doctor_visits()
    data = raw.standardized()
    rows = [
        train_row(name, head, data, settings, steps=800, size=512) for name, head in HEADS.items()
    ]
    notes = ["linear models at their optimum on all 20190 rows, log-likelihood:"]
    for name, (head, reference) in REFERENCES.items():
        found = maximum_log_likelihood(head, data.whole, settings.key("optimum"))
        notes.append(f"  {name:18} {found:.2f}   (statsmodels: {reference:.2f})")
    path = settings.out / "counts.png"
    plotting.save(_figure(data, rows), path)
    title = "Counts: visits to a doctor in a year, given nine facts"
    return Section(title, split_of(data), rows, notes, [path])


def maximum_log_likelihood(head: Head, batch: Batch, key: Array, *, iterations: int = 100) -> float:
    """The log-likelihood of a linear model fitted to its optimum by L-BFGS."""

    def start(key: Array, x: Any) -> dict[str, Array]:
        return {"w": jnp.zeros((x.shape[-1], head.size)), "b": jnp.zeros(head.size)}

    model = Likelihood((start, lambda params, x: x @ params["w"] + params["b"]), head)
    params, _ = model.init(key, batch)
    optimizer = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(lambda p, b: model(p, key, b)[0])

    def iteration(carry: Any, _: None, b: Batch) -> tuple[Any, None]:
        params, opt_state = carry
        value, grad = value_and_grad(params, b, state=opt_state)
        updates, opt_state = optimizer.update(
            grad, opt_state, params, value=value, grad=grad, value_fn=lambda p: model(p, key, b)[0]
        )
        return (optax.apply_updates(params, updates), opt_state), None

    @jax.jit
    def fitted(params: Any, b: Batch) -> Any:
        carry = params, optimizer.init(params)
        return jax.lax.scan(lambda c, _: iteration(c, _, b), carry, None, iterations)[0][0]

    # evaluate adds up in float64: the sum of 20190 terms in float32 is right to 0.01 only.
    result = evaluate(model, fitted(params, batch), key, batch)
    return -result.loss * result.count


def _figure(data: datasets.Dataset, rows: list[Row]) -> plotting.Figure:
    held_out = data.test
    counts = np.arange(16)
    observed = np.array([np.mean(held_out.target == k) for k in counts])
    fitted = {}
    for row in rows:
        dist = row.model.predict(row.params, held_out.input, state=row.state)
        fitted[row.name] = np.asarray(dist.prob(counts[:, None])).mean(1)
    figure, axes = plotting.panels(1)
    plotting.count_frequencies(axes[0], counts, observed, fitted)
    axes[0].set(xlabel="visits in a year", ylabel="share of held-out rows")
    return figure
