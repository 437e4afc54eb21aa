"""likelax: train anything by likelihood.

A Flax network plus a distribution head is a conditional distribution; its log-likelihood is the
loss::

    import jax, likelax as lx, optax
    from flax import nnx

    head = lx.Head(lx.Normal)          # learns mean and scale; Head(lx.Normal, scale=1.0) is MSE
    model = lx.Likelihood(MLP(head.size, rngs=nnx.Rngs(0)), head)
    batch = lx.Batch(target=y, input=x)

    params, state = model.init(jax.random.key(0), batch)
    (loss, aux), grads = jax.value_and_grad(model, has_aux=True)(params, key, batch, state=state)
    dist = model.predict(params, x, state=state)  # .mean(), .quantile(0.9), .sample(key), ...

Every number says how it relates to a likelihood: `aux.claim`.
"""

from likelax import (
    adversarial,
    bijectors,
    datasets,
    diffusion,
    energy,
    flows,
    plotting,
    samplers,
    sequence,
    supports,
    testing,
    train,
    vae,
)
from likelax._checks import debug_checks
from likelax._pytree import Array, node, param, static
from likelax.conditional import Conditional
from likelax.distributions import *  # noqa: F403
from likelax.distributions import __all__ as _families
from likelax.heads import Head, LinearHead, MixtureHead, TransformedHead, learned
from likelax.likelihood import CrossEntropy, Focal, Likelihood
from likelax.metrics import (
    Comparison,
    Estimate,
    Evaluation,
    bits_per_byte,
    bits_per_dim,
    compare,
    evaluate,
    perplexity,
)
from likelax.networks import Variables
from likelax.objective import Aux, Batch, Claim, Measure, Objective, Scores

__version__ = "0.1.0"

__all__ = [
    *_families,
    "Array",
    "Aux",
    "Batch",
    "Claim",
    "Comparison",
    "Conditional",
    "CrossEntropy",
    "Estimate",
    "Evaluation",
    "Focal",
    "Head",
    "Likelihood",
    "LinearHead",
    "Measure",
    "MixtureHead",
    "Objective",
    "Scores",
    "TransformedHead",
    "Variables",
    "adversarial",
    "bijectors",
    "bits_per_byte",
    "bits_per_dim",
    "compare",
    "datasets",
    "debug_checks",
    "diffusion",
    "energy",
    "evaluate",
    "flows",
    "learned",
    "node",
    "param",
    "perplexity",
    "plotting",
    "samplers",
    "sequence",
    "static",
    "supports",
    "testing",
    "train",
    "vae",
]
