"""What each player pays for the critic's outputs: one table, where another loss is another row."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from likelax._pytree import Array
from likelax.distributions.categorical import Bernoulli
from likelax.numerics.logspace import softplus

Function = Callable[[Array], Array]


class Bound(NamedTuple):
    """A divergence of the data from the model that any critic bounds from below, on average:
    offset - scale * E[the critic's loss]; the best critic attains it.

    Attributes:
      name: of the divergence.
      offset, scale: numbers.
    """

    name: str
    offset: float
    scale: float


@dataclasses.dataclass(frozen=True)
class Loss:
    """What the players pay for a critic's outputs v, each `(batch,)`.

    ::

        cubic = lx.adversarial.Loss("cubic", real=lambda v: -v, fake=lambda v: v + v**3, fool=lambda v: -v)

    Attributes:
      name: its own.
      real: the critic's cost of v at an example of the data.
      fake: the critic's cost of v at a sample of the model.
      fool: the generator's cost of v at a sample; None for a relativistic loss, where the generator pays
        what the critic would with data and samples exchanged.
      relative: "pairs": v is the difference of an example and a sample, whose cost is that of `real`;
        "average": v is the difference from the mean over the other kind.
      boundary: the v at which data and samples are as likely as one another: for the accuracy.
      log_ratio: log of data over model at the best critic's v; NaN at a v that is no ratio's.
      bound: the divergence that the critic's loss bounds.
    """

    name: str
    real: Function
    fake: Function
    fool: Function | None = None
    relative: str | None = None
    boundary: float | None = None
    log_ratio: Function | None = None
    bound: Bound | None = None

    def __post_init__(self) -> None:
        if self.relative not in (None, "pairs", "average"):
            raise ValueError(f'Loss: relative is None, "pairs" or "average", got {self.relative!r}')
        if (self.fool is None) is (self.relative is None):
            raise ValueError(
                "Loss: the generator's cost is fool=, or relative= that of the critic with data and samples "
                "exchanged: exactly one of them is given"
            )

    def critic(self, real: Array, fake: Array, mean: Function) -> Array:
        """What the critic pays for each pair, `(batch,)`.

        Args:
          real, fake: outputs at data and samples, `(batch,)`.
          mean: the weighted mean over the batch.
        """
        if self.relative == "pairs":
            return self.real(real - fake)
        if self.relative == "average":
            return self.real(real - mean(fake)) + self.fake(fake - mean(real))
        return self.real(real) + self.fake(fake)

    def generator(self, real: Array, fake: Array, mean: Function) -> Array:
        """What the generator pays for each pair, as `critic`."""
        return self.critic(fake, real, mean) if self.fool is None else self.fool(fake)


# The critic as the likelihood of a label: 1 for data, 0 for samples; v are its logits.


def _nll_real(v: Array) -> Array:
    return -Bernoulli(logits=v).log_prob(jnp.ones_like(v, int))


def _nll_fake(v: Array) -> Array:
    return -Bernoulli(logits=v).log_prob(jnp.zeros_like(v, int))


def _same(v: Array) -> Array:
    return v


def _logit(v: Array) -> Array:
    return jnp.log(v) - jnp.log1p(-v)


JENSEN_SHANNON = Bound("Jensen-Shannon divergence, nats", math.log(2), 0.5)
TOTAL_VARIATION = "total variation distance"


class Conjugate(NamedTuple):
    """An f-divergence as Nowozin et al. (2016) train by it: D = E_data[g(v)] - E_model[f*(g(v))] at most.

    Attributes:
      name: of the divergence, with its unit.
      activation: g, from any number to the domain of f* (table 6).
      conjugate: f*(g(v)), as one function of v, so that it keeps its digits (table 2).
      log_ratio: log u of the v at which g(v) = f'(u).
      boundary: the v of u = 1.
      scale: of the number against the divergence's usual definition.
    """

    name: str
    activation: Function
    conjugate: Function
    log_ratio: Function | None
    boundary: float
    scale: float = 1.0


F_DIVERGENCES: Mapping[str, Conjugate] = {
    "kl": Conjugate(
        "Kullback-Leibler divergence of the data from the model, nats",
        _same,
        lambda v: jnp.exp(v - 1),
        lambda v: v - 1,
        1.0,
    ),
    "reverse_kl": Conjugate(
        "Kullback-Leibler divergence of the model from the data, nats",
        lambda v: -jnp.exp(-v),
        lambda v: v - 1,
        _same,
        0.0,
    ),
    # Of u log u - (u + 1) log((u + 1) / 2), which is twice the divergence.
    "jensen_shannon": Conjugate(
        "Jensen-Shannon divergence, nats",
        lambda v: math.log(2) - softplus(-v),
        lambda v: softplus(v) - math.log(2),
        _same,
        0.0,
        scale=0.5,
    ),
    "pearson": Conjugate(
        "Pearson chi-squared divergence",
        _same,
        lambda v: v**2 / 4 + v,
        lambda v: jnp.log1p(v / 2),
        0.0,
    ),
    "squared_hellinger": Conjugate(
        "squared Hellinger distance, of (sqrt p - sqrt q)^2",
        lambda v: -jnp.expm1(-v),
        jnp.expm1,
        lambda v: 2 * v,
        0.0,
    ),
    "total_variation": Conjugate(
        TOTAL_VARIATION,
        lambda v: jnp.tanh(v) / 2,
        lambda v: jnp.tanh(v) / 2,
        None,
        0.0,
    ),
}


def f_gan(divergence: str, *, saturating: bool = True) -> Loss:
    """The loss of an f-GAN (Nowozin, Cseke and Tomioka 2016, equations 5 and 6).

    Args:
      divergence: "kl", "reverse_kl", "jensen_shannon", "pearson", "squared_hellinger" or
        "total_variation".
      saturating: whether the generator minimises the divergence's bound, whose gradient at the best critic
        is that of the divergence; False lets it maximise g(v) of its samples (section 3.2), which has a
        larger gradient where they are told apart with ease, and is that of no such divergence.

    Raises:
      ValueError: for another divergence.
    """
    if divergence not in F_DIVERGENCES:
        raise ValueError(
            f"f_gan: divergence is one of {', '.join(F_DIVERGENCES)}, got {divergence!r}"
        )
    d = F_DIVERGENCES[divergence]
    return Loss(
        divergence,
        real=lambda v: -d.activation(v),
        fake=d.conjugate,
        fool=lambda v: -d.conjugate(v) if saturating else -d.activation(v),
        boundary=d.boundary,
        log_ratio=d.log_ratio,
        bound=Bound(d.name, 0.0, d.scale),
    )


LOSSES: Mapping[str, Loss] = {
    # Goodfellow et al. 2014, equation 1, and section 3.
    "saturating": Loss(
        "saturating",
        _nll_real,
        _nll_fake,
        fool=lambda v: -_nll_fake(v),
        boundary=0.0,
        log_ratio=_same,
        bound=JENSEN_SHANNON,
    ),
    "non_saturating": Loss(
        "non_saturating",
        _nll_real,
        _nll_fake,
        fool=_nll_real,
        boundary=0.0,
        log_ratio=_same,
        bound=JENSEN_SHANNON,
    ),
    # Lim and Ye 2017; Miyato et al. 2018, equations 16 and 17.
    "hinge": Loss(
        "hinge",
        lambda v: jnp.maximum(1 - v, 0),
        lambda v: jnp.maximum(1 + v, 0),
        fool=lambda v: -v,
        boundary=0.0,
        bound=Bound(TOTAL_VARIATION, 1.0, 0.5),
    ),
    # Mao et al. 2017, equation 9; the best critic is p / (p + q).
    "least_squares": Loss(
        "least_squares",
        lambda v: (v - 1) ** 2 / 2,
        lambda v: v**2 / 2,
        fool=lambda v: (v - 1) ** 2 / 2,
        boundary=0.5,
        log_ratio=_logit,
        bound=Bound("Le Cam divergence, half of (p - q)^2 / (p + q)", 1.0, 4.0),
    ),
    # Arjovsky et al. 2017. A distance only of a critic that is 1-Lipschitz, which nothing here proves.
    "wasserstein": Loss("wasserstein", lambda v: -v, _same, fool=lambda v: -v),
    # Jolicoeur-Martineau 2019: in pairs (section 4.1), and from averages (section 4.2).
    "relativistic": Loss("relativistic", _nll_real, _nll_fake, relative="pairs"),
    "relativistic_average": Loss("relativistic_average", _nll_real, _nll_fake, relative="average"),
    **{name: f_gan(name) for name in F_DIVERGENCES},
}


def as_loss(loss: Any) -> Loss:
    """A `Loss`, or the one of that name.

    Raises:
      TypeError: for what is neither a name nor a loss.
      ValueError: for another name.
    """
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str):
        raise TypeError(
            f"GAN: loss is a name or a lx.adversarial.Loss, got {loss!r}; write "
            'loss="non_saturating"'
        )
    if loss not in LOSSES:
        raise ValueError(f"GAN: loss is one of {', '.join(LOSSES)}, got {loss!r}")
    return LOSSES[loss]
