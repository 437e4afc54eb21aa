"""Estimates of a likelihood for generators that have none: kernels on samples, and annealing of the latents."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from likelax import _checks
from likelax._checks import is_count
from likelax._keys import check_key, stream
from likelax._pytree import Array, Node, canonical, node, static
from likelax.adversarial._blocks import as_rows, by_rows, check_block, squared_distances, whole
from likelax.adversarial.gan import GAN, as_data, check_params
from likelax.adversarial.ratio import check_gan
from likelax.metrics import Estimate
from likelax.numerics.logspace import logsumexp
from likelax.objective import Claim
from likelax.samplers import HMC, GibbsWithGradients, Kernel, Langevin, advance
from likelax.samplers.annealing import annealed


class LogLikelihood(NamedTuple):
    """An estimate of log p(x) for each value, `(batch,)` each, of the generator with Normal noise added.

    Attributes:
      log_prob: in nats.
      standard_error: of each, over samples or chains, by the delta method. It says nothing of a mode that
        none has met.
      claim: of -log_prob.
    """

    log_prob: Array
    standard_error: Array
    claim: Claim

    @property
    def nll(self) -> Estimate:
        """The mean NLL with its standard error over examples."""
        error = jnp.std(self.log_prob, ddof=1) / len(self.log_prob) ** 0.5
        return Estimate(-float(jnp.mean(self.log_prob)), float(error), "nats", self.claim)


def parzen_log_prob(
    samples: Any, value: Any, *, noise_scale: Any, block_size: int = 512
) -> LogLikelihood:
    """log of the mean over samples s of N(x; s, noise_scale^2), in nats: what was reported for the first GANs.

    On average a lower bound on the log-density of samples *with that noise added*. In more than a few
    dimensions it takes far more samples than there are to come near it, and it orders models wrongly (Theis
    et al. 2016, section 3.2): an estimate, and a poor one. See `annealed_log_prob`.

    Args:
      samples: of the model, `(m, *event)`, at least 2.
      value: held-out data, `(n, *event)`.
      noise_scale: positive, one number: chosen on other held-out data.
      block_size: how many rows of distances are held at once.

    Raises:
      ValueError: for too few samples, other shapes, a scale that is not positive.
    """
    check_block("parzen_log_prob", block_size)
    x, s = as_rows("parzen_log_prob", value, samples, None, 1)
    if len(s) < 2:
        raise ValueError(f"parzen_log_prob: at least 2 samples wanted, got {len(s)}")
    scale = _scale("parzen_log_prob", noise_scale, x.dtype)
    claim = Claim("estimate", unbiased=False, vanishes="samples")
    return LogLikelihood(*_parzen(x, s, scale, block_size), claim)


@functools.partial(jax.jit, static_argnums=3)
def _parzen(x: Array, samples: Array, scale: Array, block_size: int) -> tuple[Array, Array]:
    def rows(block: Array, index: Array) -> tuple[Array, Array]:
        logs = -squared_distances(block, samples) / (2 * scale**2)
        return _log_mean(logs - x.shape[-1] * _log_norm(scale))

    return by_rows(rows, x, block_size)


class Tempered(Node):
    """p(z) p(x | z)^beta at x = target + noise of the generator's output; moves are those of a kernel."""

    model: GAN = static()
    theta: Any = node()
    state: Any = node()
    target: Any = node()
    input: Any = node()
    noise_scale: Any = node()
    kernel: Any = node()

    def log_density(self, beta: Array, z: Array) -> Array:
        """Unnormalised, `(chains,)`."""
        x, _ = self.model._sampled(self.theta, z, self.target, self.input, self.state)
        square = jnp.sum((x - self.target) ** 2, axis=tuple(range(1, x.ndim)))
        log_norm = math.prod(x.shape[1:]) * _log_norm(self.noise_scale)
        log_likelihood = -square / (2 * self.noise_scale**2) - log_norm
        return self.model.prior.log_prob(z) + beta * log_likelihood

    def move(self, key: Array, beta: Array, z: Array) -> Array:
        """Leaves that density invariant."""

        def density(z: Array) -> Array:
            return self.log_density(beta, z)

        state, _ = advance(self.kernel, density, key, self.kernel.init(density, z), 1)
        return self.kernel.position(state)


def annealed_log_prob(
    model: Any,
    params: Any,
    key: Array,
    value: Any,
    *,
    noise_scale: Any,
    kernel: Any = None,
    betas: int = 200,
    num_chains: int = 10,
    input: Any = None,
    state: Any = (),
) -> LogLikelihood:
    """log p(x) of x = G(z) + noise_scale e by annealed importance sampling over z, from the prior to the
    posterior (Wu et al. 2017), in nats: on average a lower bound, which closes with `betas`.

    It is the likelihood of the generator *with that noise*, whose scale has to be chosen: without it a
    generator of fewer latents than pixels has no density. For small generators: it takes `num_chains` times
    `betas` passes, with gradients, for each value.

    Args:
      model: a `GAN` over real latents.
      params, state: as from `init` or training.
      key: a random key.
      value: held-out data, `(n, *event)`.
      noise_scale: of the Normal noise, positive, one number.
      kernel: of `lx.samplers`; by default `HMC(0.1, 5)`.
      betas: how many temperatures.
      num_chains: for each value, at least 2.
      input: of a conditional model, `(n, ...)`.

    Raises:
      TypeError: for a model that is none or whose latents are discrete, and a kernel that does not leave a
        density of real values invariant.
      ValueError: for numbers that are none.
    """
    check_gan(model, "annealed_log_prob")
    check_params(params)
    kernel = HMC(jnp.asarray(0.1), 5) if kernel is None else kernel
    if model.prior.support.is_discrete:
        raise TypeError(
            "annealed_log_prob: real latents are moved, the prior is a "
            f"{type(model.prior).__name__}; parzen_log_prob takes samples of any model"
        )
    unadjusted = isinstance(kernel, Langevin) and not kernel.adjusted
    if unadjusted or isinstance(kernel, GibbsWithGradients) or not isinstance(kernel, Kernel):
        raise TypeError(
            "annealed_log_prob: a kernel over real values that leaves a density invariant wanted, such as "
            f"lx.samplers.HMC(0.1, 5), got {kernel!r}"
        )
    for name, count, least in (("betas", betas, 1), ("num_chains", num_chains, 2)):
        if not is_count(count) or count < least:
            raise ValueError(
                f"annealed_log_prob: {name} is a whole number >= {least}, got {count!r}"
            )
    x = as_data(canonical(value), None)
    scale = _scale("annealed_log_prob", noise_scale, x.dtype)

    def repeated(leaf: Any) -> Array:
        return jnp.repeat(whole(jnp.asarray(leaf)), num_chains, axis=0)

    target, given = jax.tree.map(repeated, (x, input))
    path = Tempered(model, params["generator"], state, target, given, scale, kernel)
    found = _annealed(path, check_key(key), betas, num_chains)
    claim = Claim("estimate", unbiased=False, vanishes="num_temperatures")
    return LogLikelihood(*found, claim)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _annealed(path: Tempered, key: Array, betas: int, chains: int) -> tuple[Array, Array]:
    z = path.model._latents(stream(key, "latents"), len(path.target))
    steps = jnp.linspace(0.0, 1.0, betas + 1, dtype=z.dtype)
    logs = annealed(path, key, steps, z, jnp.zeros((), path.target.dtype))
    return _log_mean(logs.reshape((-1, chains)))


def _log_mean(logs: Array) -> tuple[Array, Array]:
    """log of the mean of exp(logs) over the last axis, and its standard error."""
    n = logs.shape[-1]
    log_sum, log_squares = logsumexp(logs, axis=-1), logsumexp(2 * logs, axis=-1)
    size = jnp.exp(2 * log_sum - log_squares)
    return log_sum - math.log(n), jnp.sqrt(jnp.maximum(n / size - 1, 0) / (n - 1))


def _log_norm(scale: Array) -> Array:
    return jnp.log(scale) + 0.5 * math.log(2 * math.pi)


def _scale(owner: str, noise_scale: Any, dtype: Any) -> Array:
    scale = jnp.asarray(noise_scale, dtype)
    if scale.ndim:
        raise ValueError(
            f"{owner}: noise_scale is one number, got shape {scale.shape}; scale the data instead"
        )
    _checks.check_known(
        scale > 0, scale, f"{owner}: noise_scale is positive; at {{index}} it is {{value}}"
    )
    return scale
