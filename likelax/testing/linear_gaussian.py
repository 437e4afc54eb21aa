"""A latent-variable model with everything in closed form, and what it says of a bound."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from likelax._keys import check_key, stream
from likelax._pytree import Array
from likelax.conditional import Conditional
from likelax.distributions.base import Distribution
from likelax.distributions.multivariate import MultivariateNormal
from likelax.distributions.normal import Normal
from likelax.heads import Head, learned
from likelax.objective import Batch, Objective
from likelax.testing.subject import quick_jit

Make = Callable[[Conditional, Conditional, Distribution], Objective]


class LinearGaussian:
    """Probabilistic principal components (Tipping and Bishop 1999): x = W z + mu + sigma e with z and e
    standard Normal, D numbers of d latents.

    With M = W'W + sigma^2 I the posterior is N(M^-1 W'(x - mu), sigma^2 M^-1) and the marginal
    N(mu, WW' + sigma^2 I).

    Args:
      weights: W, `(D, d)`.
      mean: mu, `(D,)`.
      scale: sigma, positive.
    """

    def __init__(self, weights: Any, mean: Any, scale: float):
        self.weights, self.mean = (np.asarray(x, np.float64) for x in (weights, mean))
        self.scale = float(scale)
        self.data_size, self.latent_size = self.weights.shape

    @functools.cached_property
    def prior(self) -> MultivariateNormal:
        """N(0, I), `(d,)`."""
        return MultivariateNormal(jnp.zeros(self.latent_size), scale_tril=jnp.eye(self.latent_size))

    @property
    def marginal(self) -> MultivariateNormal:
        """p(x), `(D,)`."""
        covariance = self.weights @ self.weights.T + self.scale**2 * np.eye(self.data_size)
        return MultivariateNormal(_float(self.mean), covariance=_float(covariance))

    @property
    def _gain(self) -> tuple[np.ndarray, np.ndarray]:
        """M^-1 W', and the Cholesky factor of the posterior's covariance."""
        m = self.weights.T @ self.weights + self.scale**2 * np.eye(self.latent_size)
        inverse = np.linalg.inv(m)
        return inverse @ self.weights.T, np.linalg.cholesky(self.scale**2 * inverse)

    def posterior(self, x: ArrayLike) -> MultivariateNormal:
        """p(z | x), of batch shape `(batch,)`."""
        gain, scale_tril = self._gain
        loc = (jnp.asarray(x) - self.mean) @ gain.T
        return MultivariateNormal(loc, scale_tril=_float(scale_tril))

    def log_prob(self, x: ArrayLike) -> Array:
        """log p(x) in nats, `(batch,)`."""
        return self.marginal.log_prob(jnp.asarray(x))

    def sample(self, key: Array, count: int) -> Array:
        """`(count, D)`."""
        return self.marginal.sample(key, (count,))

    @functools.cached_property
    def decoder(self) -> Conditional:
        """p(x | z), whose parameters are those of `params`."""
        return Conditional(
            _affine(self.data_size), Head(Normal, self.data_size, log_scale=learned())
        )

    @functools.cached_property
    def encoder(self) -> Conditional:
        """q(z | x), Normal of full covariance, whose parameters are those of `params`."""
        return Conditional(_affine(self.latent_size), _posterior_head(self.latent_size))

    def params(self, *, shift: ArrayLike = 0.0, stretch: float = 1.0) -> dict[str, Any]:
        """Parameters of decoder, encoder and prior that are this model; the encoder is the exact
        posterior, moved by `shift` and `stretch` times as wide.
        """
        gain, scale_tril = self._gain
        bias = np.broadcast_to(shift, (self.latent_size,)) - gain @ self.mean
        head = _posterior_head(self.latent_size, _float(stretch * scale_tril))
        log_scale = np.full(self.data_size, math.log(self.scale))
        return {
            "decoder": {
                "net": {"kernel": _float(self.weights.T), "bias": _float(self.mean)},
                "head": {"log_scale": _float(log_scale)},
            },
            "encoder": {
                "net": {"kernel": _float(gain.T), "bias": _float(bias)},
                "head": head.init(jax.random.key(0), jnp.zeros(head.size)),
            },
            "prior": {},
        }

    def gap(self, x: ArrayLike, *, shift: ArrayLike = 0.0, stretch: float = 1.0) -> Array:
        """KL(q || p(z | x)) of the encoder of `params`, in nats, `(batch,)`."""
        exact = self.posterior(x)
        q = MultivariateNormal(exact.loc + np.asarray(shift), scale_tril=stretch * exact.scale_tril)
        return q.kl_divergence(exact)


def _float(x: np.ndarray) -> Array:
    """In the default floating dtype."""
    return jnp.asarray(x, float)


def _posterior_head(size: int, scale_tril: Array | None = None) -> Head:
    return Head(MultivariateNormal, size, scale_tril=learned(scale_tril))


def _affine(out: int) -> Any:
    def init(key: Array, x: Array) -> dict[str, Array]:
        kernel = jax.random.normal(key, (x.shape[-1], out), x.dtype) / math.sqrt(x.shape[-1])
        return {"kernel": kernel, "bias": jnp.zeros(out, x.dtype)}

    return init, lambda params, x: x @ params["kernel"] + params["bias"]


def example_model() -> LinearGaussian:
    """Three numbers of two latents, alike in nothing."""
    weights = [[1.1, -0.4], [0.3, 0.8], [-0.7, 0.5]]
    return LinearGaussian(weights, [0.5, -1.0, 2.0], 0.6)


def check_evidence_bound(
    make: Make,
    *,
    key: Array,
    gap: Literal["kl", "bound"] = "kl",
    draws: int = 2000,
    model: LinearGaussian | None = None,
) -> None:
    """Passes if an objective is a bound on -log p(x), on a model whose log p(x) is known.

    At the exact posterior its mean must be -log p(x); where the encoder is another one it must be
    -log p(x) + KL(q || p(z | x)) for gap="kl" (an ELBO), and between the two for gap="bound"
    (importance-weighted and the like). Means within 4 standard errors, each example `draws` times.

    Args:
      make: `(decoder, encoder, prior) -> objective`; the objective takes parameters
        `{"decoder": .., "encoder": .., "prior": ..}` and a `lx.Batch(target)`.
      key: a random key.
      gap: what is expected of the objective.
      draws: of the latents of each example.
      model: which model (default: three numbers of two latents).

    Raises:
      AssertionError: with the example, what was found and what is right.
    """
    model = model or example_model()
    x = model.sample(stream(check_key(key), "data"), 3)
    rows = jnp.repeat(x, draws, axis=0)
    exact = -np.asarray(model.log_prob(x), np.float64)
    encoders: dict[str, dict[str, Any]] = {
        "the exact posterior": {},
        "another encoder": {"shift": 0.3 * (-1.0) ** jnp.arange(model.latent_size), "stretch": 1.3},
    }
    objective = quick_jit(make(model.decoder, model.encoder, model.prior))
    for name, moved in encoders.items():
        _, aux = objective(model.params(**moved), stream(key, name), Batch(rows))
        each = np.asarray(aux.per_example, np.float64).reshape(3, draws)
        mean, error = each.mean(1), each.std(1) / math.sqrt(draws)
        slack = 4 * error + 1e-5 * np.abs(exact)
        low = exact + (0 if gap == "bound" else np.asarray(model.gap(x, **moved)))
        high = exact + np.asarray(model.gap(x, **moved))
        for i in range(3):
            if not low[i] - slack[i] <= mean[i] <= high[i] + slack[i]:
                wanted = f"{low[i]:.5f}" + (f" to {high[i]:.5f}" if high[i] != low[i] else "")
                raise AssertionError(
                    f"at {name} example {i} costs {mean[i]:.5f} ± {error[i]:.5f} nats on average, "
                    f"and -log p(x) is {exact[i]:.5f}: {wanted} wanted"
                )


def encoder_gradient_at_posterior(make: Make, *, key: Array) -> float:
    """The largest entry of the gradient in the encoder's parameters of one draw, at the exact
    posterior, where the expected gradient is 0: that of the estimators without the score (STL, DReG)
    is 0 too, the plain reparameterised one is not.

    Args:
      make: as for `check_evidence_bound`.
      key: a random key.
    """
    model = example_model()
    objective = make(model.decoder, model.encoder, model.prior)
    batch = Batch(model.sample(stream(check_key(key), "data"), 1))
    grads = quick_jit(jax.grad(objective, has_aux=True))(model.params(), key, batch)[0]
    return max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(grads["encoder"]))
