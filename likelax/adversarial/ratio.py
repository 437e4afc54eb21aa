"""What a trained critic knows: the ratio of two densities, and how far apart they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from likelax._pytree import Array
from likelax.adversarial.gan import GAN, as_data, check_params
from likelax.adversarial.losses import LOSSES, Loss
from likelax.metrics import Estimate, evaluate
from likelax.objective import Batch


def log_density_ratio(
    model: Any, params: Any, x: Any, *, input: Any = None, state: Any = ()
) -> Array:
    """log p_data(x) - log p_model(x) as the critic sees it, in nats, `(batch,)`: exact for the best critic.

    Args:
      model: whose loss has a ratio: not "hinge" and "total_variation", whose best critic knows the sign
        alone, "wasserstein", nor the relativistic ones.
      params, state: as from `init` or training.
      x: values, `(batch, *event)`.
      input: of a conditional model.

    Returns:
      NaN at an x for which the critic's output is that of no ratio: outside (0, 1) for "least_squares",
      below -2 for "pearson".

    Raises:
      TypeError: for a model that is none.
      ValueError: for a loss without a ratio.
    """
    check_gan(model, "log_density_ratio")
    check_params(params)
    if model.loss.log_ratio is None:
        raise ValueError(_without("log_density_ratio", model.loss, "log_ratio"))
    x = as_data(x, None)
    return model.loss.log_ratio(model._judged(params["critic"], x, input, state)[0])


def divergence(
    model: Any, params: Any, key: Array, batches: Batch | Iterable[Batch], *, state: Any = ()
) -> Estimate:
    """How far the data are from the model, from below: `model.loss.bound`, with its standard error over
    pairs of an example and a sample.

    In expectation it is at most the divergence, whatever the critic, *if the critic was not trained on these
    examples*: give it held-out ones. How far below depends on the critic: of two models the one with the
    smaller number may have the weaker critic.

    Args:
      model: whose loss has one: not "wasserstein" (nothing proves the critic 1-Lipschitz), nor the
        relativistic ones.
      params, state: as from `init` or training.
      key: a random key, for the samples.
      batches: held-out ones.

    Raises:
      TypeError: for a model that is none.
      ValueError: for a loss without a divergence, and where no example is left.
    """
    check_gan(model, "divergence")
    bound = model.loss.bound
    if bound is None:
        raise ValueError(_without("divergence", model.loss, "bound"))
    found = evaluate(model.player("critic"), params, key, batches, state=state)
    value, error = bound.offset - bound.scale * found.loss, bound.scale * found.standard_error
    return Estimate(value, error, f"or more: {bound.name}", model.claim)


def _without(owner: str, loss: Loss, what: str) -> str:
    good = [name for name, one in LOSSES.items() if getattr(one, what) is not None]
    return f"{owner}: the loss {loss.name!r} has none; train with one of {', '.join(good)}"


def check_gan(model: Any, owner: str) -> None:
    """Raises TypeError where this is no GAN."""
    if not isinstance(model, GAN):
        raise TypeError(
            f"{owner}: a model such as lx.adversarial.GAN(generator, critic, prior) wanted, got "
            f"{type(model).__name__}"
        )
