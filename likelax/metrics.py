"""Numbers that people report, which refuse what their claim does not allow."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from likelax._pytree import Array
from likelax.objective import Aux, Batch, Claim, Objective


class Estimate(float):
    """A number with its standard error, unit and claim: `2.3145 ± 0.0167 bits per byte (upper bound)`.

    Attributes:
      standard_error: what another sample of examples of this size would change.
      unit: what it counts.
      claim: how it relates to the number of the true likelihood.
    """

    standard_error: float
    unit: str
    claim: Claim

    def __new__(cls, value: float, standard_error: float, unit: str, claim: Claim) -> Estimate:
        self = super().__new__(cls, value)
        self.standard_error, self.unit, self.claim = float(standard_error), unit, claim
        return self

    def __getnewargs__(self) -> tuple[float, float, str, Claim]:  # for pickle and copy
        return float(self), self.standard_error, self.unit, self.claim

    def __str__(self) -> str:
        return f"{float(self):.4f} ± {self.standard_error:.4f} {self.unit} ({self.claim})"

    def __repr__(self) -> str:
        return f"Estimate({float(self)!r}, {self.standard_error!r}, {self.unit!r}, {self.claim!r})"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """An objective on held-out data.

    Attributes:
      loss: the weighted mean, in nats per example.
      standard_error: of `loss`, over examples (the first axis): what another sample of this size
        would change.
      count: how many examples had a weight.
      claim: what the number says of the negative log-likelihood.
      per_example: each example's weighted mean, `(count,)`, in the order of the batches.
      weight: each example's weight, `(count,)`.
      terms: weighted means of the named terms.
      num_bytes: how many bytes of raw data each example stands for, `(count,)`, where the objective
        knows: see `lx.bits_per_byte`.
    """

    loss: float
    standard_error: float
    count: int
    claim: Claim
    per_example: np.ndarray
    weight: np.ndarray
    terms: dict[str, float]
    num_bytes: np.ndarray | None = None

    def __str__(self) -> str:
        value = f"{self.loss:.4f} ± {self.standard_error:.4f} nats"
        size = "" if self.num_bytes is None else f", {self.num_bytes.sum():.0f} bytes"
        return f"{value} ({self.claim}; {self.count} examples{size})"


def evaluate(
    objective: Objective,
    params: Any,
    key: Array,
    batches: Batch | Iterable[Batch],
    *,
    state: Any = (),
) -> Evaluation:
    """The objective on all of `batches`, with a standard error; dropout off, statistics frozen.

    Args:
      objective: any objective.
      params: its parameters.
      key: a random key, for objectives that draw.
      batches: one Batch or an iterable of them.
      state: as from `init` or training.

    Raises:
      ValueError: when no example is left.
    """
    batches = [batches] if isinstance(batches, Batch) else batches
    return evaluation(
        objective(params, jax.random.fold_in(key, i), batch, state=state, train=False)[1]
        for i, batch in enumerate(batches)
    )


def evaluation(parts: Iterable[Aux]) -> Evaluation:
    """One evaluation from what an objective said of each batch.

    Raises:
      ValueError: when no example is left.
    """
    sums: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    sizes: list[np.ndarray] = []
    terms: dict[str, float] = {}
    claim = Claim()
    for aux in parts:
        claim = aux.claim
        weight = np.asarray(aux.weight, np.float64)
        cost = np.asarray(aux.per_example, np.float64) * weight
        rows = weight.shape[0] if weight.ndim else 1
        sums.append(cost.reshape(rows, -1).sum(1))
        weights.append(weight.reshape(rows, -1).sum(1))
        if aux.num_bytes is not None:
            sizes.append((weight * np.asarray(aux.num_bytes)).reshape(rows, -1).sum(1))
        for name, value in aux.terms.items():
            terms[name] = terms.get(name, 0.0) + float(value) * float(weight.sum())
    if not sums or not np.any(np.concatenate(weights)):
        raise ValueError("there is no example to evaluate: no batches, or everything masked out")
    total, weight = np.concatenate(sums), np.concatenate(weights)
    some = weight != 0
    num_bytes = np.concatenate(sizes)[some] if sizes else None
    total, weight = total[some], weight[some]
    loss, error = _ratio(total, weight)
    terms = {name: value / float(weight.sum()) for name, value in terms.items()}
    return Evaluation(loss, error, len(total), claim, total / weight, weight, terms, num_bytes)


def pool(parts: Sequence[Evaluation]) -> Evaluation:
    """One evaluation from several on different examples, as of the folds of a cross-validation.

    Raises:
      ValueError: when they make different claims.
    """
    claims = {part.claim for part in parts}
    if len(claims) != 1:
        raise ValueError(f"evaluations of one claim wanted, got {[str(c) for c in claims]}")
    each = np.concatenate([part.per_example for part in parts])
    weight = np.concatenate([part.weight for part in parts])
    loss, error = _ratio(each * weight, weight)
    shares = [float(part.weight.sum() / weight.sum()) for part in parts]
    terms = {
        name: sum(s * p.terms[name] for s, p in zip(shares, parts, strict=True))
        for name in parts[0].terms
    }
    sizes = [part.num_bytes for part in parts if part.num_bytes is not None]
    num_bytes = np.concatenate(sizes) if len(sizes) == len(parts) else None
    return Evaluation(loss, error, len(each), parts[0].claim, each, weight, terms, num_bytes)


def _ratio(total: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """sum(total)/sum(weight) and its standard error, by the linearised ratio estimator."""
    n = len(total)
    mean = total.sum() / weight.sum()
    if not math.isfinite(mean):
        return float(mean), math.nan
    residual = total - mean * weight
    spread = math.sqrt(float(np.sum(residual**2)) * n / (n - 1)) if n > 1 else math.nan
    return float(mean), spread / abs(float(weight.sum()))


def _claim_of(result: Any, what: str) -> Claim:
    """The claim of an `Aux` or an `Evaluation`, which must be one of a likelihood."""
    if not isinstance(result, Aux | Evaluation):
        raise TypeError(
            f"{what} needs the claim that comes with a number: pass an Aux or an Evaluation, got "
            f"{type(result).__name__}"
        )
    claim = result.claim
    if claim.relation == "none":
        raise ValueError(
            f"{what} of a loss that is no likelihood means nothing; evaluate the NLL itself, with "
            "the same network, head and params: lx.Likelihood(net, head), or "
            "lx.sequence.Autoregressive without label_smoothing and z_loss; of a diffusion model "
            "lx.diffusion.bound(model, ...), or lx.evaluate of lx.diffusion.ODELikelihood(model); of an "
            "energy density.normalize(lx.energy.log_partition(density, ...)).evaluate(x)"
        )
    return claim


def _bits(
    result: Aux | Evaluation, factor: float, claim: Claim, shift: float = 0.0
) -> Array | Estimate:
    """factor * loss + shift, with its standard error where there is one."""
    if isinstance(result, Evaluation):
        value, error = factor * result.loss + shift, factor * result.standard_error
        return Estimate(value, error, "bits per dimension", claim)
    return factor * jnp.asarray(result.loss) + shift


def bits_per_dim(result: Aux | Evaluation, *, bin_width: float | None = None) -> Array | Estimate:
    """nats / (dims log 2): the code length of one dimension, in bits; of tokens, bits per token.

    Of an `Evaluation` it comes with its standard error and its claim, as an `Estimate`.

    Args:
      result: an `Aux` or an `Evaluation`; dims is the event's size.
      bin_width: for a density of data that are whole multiples of it: log2 of it is taken off, and
        the result bounds the code length of the discrete data from above if they were dequantised
        uniformly. Without it a density has no bits: its value depends on the unit.

    Raises:
      ValueError: for a loss that is no likelihood, a density without `bin_width`, or probabilities
        with one.
    """
    claim = _claim_of(result, "bits per dimension")
    if claim.measure is None:
        raise ValueError(
            "bits per dimension needs a measure: pass the aux or the Evaluation of a batch"
        )
    factor = 1 / (claim.measure.dims * math.log(2))
    if claim.measure.kind == "counting":
        if bin_width is not None:
            raise ValueError("bin_width is for densities; these are probabilities: leave it out")
        return _bits(result, factor, claim)
    if bin_width is None:
        raise ValueError(
            "bits per dimension of a density depend on the unit of the data; write "
            "bits_per_dim(result, bin_width=1/256), "
            "or score the discrete values themselves: lx.Quantized(base, low, high, bins), or "
            "lx.flows.dequantize(model, bins=256)"
        )
    # Of the data as they are the number is a bound (Theis et al. 2016, section 3.1).
    bound = dataclasses.replace(claim + Claim("upper"), measure=claim.measure)
    return _bits(result, factor, bound, -math.log2(bin_width))


def bits_per_byte(result: Aux | Evaluation) -> Array | Estimate:
    """All nats over log 2 times all bytes of the raw data: comparable between tokenisers, and with
    what a compressor makes of the text.

    Of an `Evaluation` it comes with its standard error (of a ratio of sums) and its claim, as an
    `Estimate`.

    Raises:
      ValueError: for a loss that is no likelihood, or one that does not know its bytes.
    """
    claim = _claim_of(result, "bits per byte")
    if claim.measure is not None and claim.measure.kind != "counting":
        raise ValueError(
            "bits per byte are for probabilities of discrete values; this is a density"
        )
    if result.num_bytes is None:
        raise ValueError(
            "bits per byte need to know how many bytes a token stands for; write "
            "lx.sequence.Autoregressive(..., token_bytes=1) where tokens are bytes, or give the "
            "number of bytes of each token of your vocabulary; bits per token are lx.bits_per_dim"
        )
    if isinstance(result, Evaluation):
        nats, error = _ratio(result.per_example * result.weight, result.num_bytes)
        return Estimate(nats / math.log(2), error / math.log(2), "bits per byte", claim)
    total = jnp.sum(result.weight * result.per_example)
    return total / (jnp.sum(result.weight * result.num_bytes) * math.log(2))


def perplexity(result: Aux | Evaluation) -> Array | Estimate:
    """exp(nats per dimension): the number of equally likely values that would be as hard to guess.

    Of an `Evaluation` it comes with its standard error (by the delta method) and its claim, as an
    `Estimate`.

    Raises:
      ValueError: for a loss that is no likelihood, or for a density.
    """
    claim = _claim_of(result, "the perplexity")
    if claim.measure is None or claim.measure.kind != "counting":
        raise ValueError("perplexity is for probabilities of discrete values; this is a density")
    if isinstance(result, Evaluation):
        with np.errstate(over="ignore", invalid="ignore"):
            value = np.exp(result.loss / claim.measure.dims)
            error = value * result.standard_error / claim.measure.dims
            return Estimate(value, error, "perplexity", claim)
    return jnp.exp(jnp.asarray(result.loss) / claim.measure.dims)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The difference a - b of two evaluations, in nats per example.

    Attributes:
      difference: a's loss minus b's: negative where a is better.
      standard_error: of the difference; over pairs when both scored the same examples.
      claim: of the difference; "none" for two bounds: the smaller bound need not be the better
        model.
      verdict: in words.
    """

    difference: float
    standard_error: float
    claim: Claim
    verdict: str

    def __str__(self) -> str:
        return f"{self.difference:+.4f} ± {self.standard_error:.4f} nats: {self.verdict}"


def compare(a: Evaluation, b: Evaluation) -> Comparison:
    """Which of two models is better on the same held-out examples, and how surely.

    The verdict says "better" only where the difference is over two standard errors and the claims
    allow it: an exact NLL below another exact one, or an upper bound below an exact NLL. One upper
    bound below another says nothing of the models. Of an infinite loss it says that an example had
    no probability, and gives no standard error.

    Raises:
      ValueError: when one is no likelihood, the two are densities against different measures, or
        their tokens stand for texts of different sizes.
    """
    for side in (a, b):
        _claim_of(side, "a comparison")
    if a.claim.measure != b.claim.measure:
        raise ValueError(
            f"these are densities against different measures, {a.claim.measure} and "
            f"{b.claim.measure}: their nats cannot be compared; "
            "score both on the same values (lx.Quantized for counts against densities)"
        )
    if a.count != b.count or not np.array_equal(a.weight, b.weight):
        raise ValueError(
            f"these scored different examples: {a.count} and {b.count}, or other weights"
        )
    sizes = [None if e.num_bytes is None else float(np.sum(e.num_bytes)) for e in (a, b)]
    if None not in sizes and sizes[0] != sizes[1]:
        raise ValueError(
            f"these scored texts of {sizes[0]:,.0f} and {sizes[1]:,.0f} bytes, or tokens of two "
            "vocabularies: their nats per token cannot be compared; lx.bits_per_byte of each can"
        )
    claim = dataclasses.replace(a.claim - b.claim, measure=a.claim.measure)
    if not (math.isfinite(a.loss) and math.isfinite(b.loss)):
        sides = {"first": a.loss, "second": b.loss}
        told = [f"the loss of the {k} is {v}" for k, v in sides.items() if not math.isfinite(v)]
        verdict = f"{' and '.join(told)}: look for targets outside its support"
        return Comparison(a.loss - b.loss, math.nan, claim, verdict)
    pairs = (a.per_example - b.per_example) * a.weight
    difference, error = _ratio(pairs, a.weight)
    return Comparison(difference, error, claim, _verdict(difference, error, a.claim, b.claim))


def _verdict(difference: float, error: float, a: Claim, b: Claim) -> str:
    # Better is proved when the winner's number is at least its NLL and the loser's at most its own.
    first_can = a.relation in ("exact", "upper") and b.relation in ("exact", "lower")
    second_can = b.relation in ("exact", "upper") and a.relation in ("exact", "lower")
    if not abs(difference) > 2 * error:
        return "no difference beyond two standard errors"
    if difference < 0:
        return "the first is better" if first_can else f"undecided: {a} below {b} proves nothing"
    return "the second is better" if second_can else f"undecided: {b} below {a} proves nothing"
