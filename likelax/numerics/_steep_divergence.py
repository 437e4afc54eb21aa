"""What the divergence of two generalised Paretos of a large index xi is made of.

Of a standard depth t, whose density is exp(-t), and a ratio rho = k b / xi the mean

    E[log(1 + c z)] = xi + log(rho) + M,    M(xi, rho) = E[log(1 + (1/rho - 1) exp(-xi t))],

leaves in the divergence xi/k - 1 - log(xi/k) + M + (log(rho) + M) / k, where nothing is as large as xi. With s = xi t

    M = (1/xi) int_0^inf exp(-s/xi) log(1 + (1/rho - 1) exp(-s)) ds.

For rho < 1/2 the logarithm is softplus(a - s), a = log((1 - rho)/rho): by hand where it is a - s, and the rest, which
falls away from s = a on both sides, by a rule. Otherwise it is log(exp(-s) / rho + 1 - exp(-s)), smooth in log(1 + rho
s) up to s = 2 and in s from there on.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from likelax.numerics._chebyshev import gauss_legendre
from likelax.numerics._rules import terms
from likelax.numerics.divergences import exp_excess
from likelax.numerics.logspace import divide, log1p

LEAST = 1.5  # the index from which on these hold
_LOG_2 = 0.6931471805599453
_BEND = 2.0  # the s at which one rule ends and the next begins
_FULL = 60.0  # of log rho, beyond which exp(-log rho) counts for nothing but as a factor


class Steep(NamedTuple):
    """M, xi + log(rho) + M and their slopes in xi at one rho; E[1 / (1 + c z)], its difference from 1, and xi rho times
    it for rho >= 1/2.
    """

    rest: Array
    rest_in_xi: Array
    whole: Array
    whole_in_xi: Array
    kept: Array
    lost: Array
    spread: Array


def _rule(x: Array, single: int, double: int) -> tuple[Array, Array]:
    nodes, weights = gauss_legendre(terms(x, single, double))
    return jnp.asarray(nodes, x.dtype), jnp.asarray(weights, x.dtype)


def _split(xi: Array, log_rho: Array) -> Steep:
    """For rho < 1/2."""
    rho = jnp.exp(log_rho)
    log_other = log1p(-rho)
    a = log_other - log_rho
    u = divide(a, xi)
    # exp(v / xi) log(1 + exp(-v)) falls as exp(-v / 3), or faster.
    reach = float(terms(xi, 54, 110))
    nodes, weights = _rule(xi, 44, 100)
    after = reach * nodes
    start = jnp.where(a < reach, a, reach)[..., None]
    before = start * nodes
    index = xi[..., None]
    beyond = reach * weights * log1p(jnp.exp(-after)) * jnp.exp(-divide(after, index))
    within = start * weights * log1p(jnp.exp(-before)) * jnp.exp(divide(before, index))
    decay = jnp.exp(-u)
    tail = decay * divide(jnp.sum(beyond + within, -1), xi)
    moved = jnp.sum(divide(after, index) * beyond - divide(before, index) * within, -1)
    tail_in_xi = divide(tail * (u - 1.0) + decay * divide(moved, xi), xi)
    short = divide(tail - log1p(jnp.exp(-a)), xi)
    other = jnp.exp(log_other)
    return Steep(
        xi * exp_excess(-u) + tail,
        exp_excess(-u) + u * jnp.expm1(-u) + tail_in_xi,
        xi * decay + tail + log_other,
        decay * (1.0 + u) + tail_in_xi,
        (-jnp.expm1(-u) - short) / other,
        (decay + short - rho) / other,
        jnp.zeros_like(xi),
    )


def _joined(xi: Array, log_rho: Array) -> Steep:
    """For rho >= 1/2."""
    full = log_rho > _FULL
    q = jnp.exp(-jnp.where(full, _FULL, log_rho))[..., None]
    held = jax.lax.stop_gradient(q)
    (first, first_weight), (second, second_weight) = _rule(xi, 40, 88), _rule(xi, 14, 40)
    span = log1p(_BEND / held)
    near, reach = held * jnp.expm1(span * first), float(terms(xi, 22, 42))
    far = jnp.broadcast_to(_BEND + (reach - _BEND) * second, (*q.shape[:-1], len(second)))
    s = jnp.concatenate([near, far], -1)
    weight = jnp.concatenate(
        [
            held * jnp.exp(span * first) * span * first_weight,
            jnp.broadcast_to((reach - _BEND) * second_weight, far.shape),
        ],
        -1,
    )
    share = divide(s, xi[..., None])
    weight, e = weight * jnp.exp(-share), jnp.exp(-s)
    d = q * e - jnp.expm1(-s)
    rest = divide(jnp.sum(weight * jnp.log(d), -1), xi)
    rest_in_xi = divide(divide(jnp.sum(weight * share * jnp.log(d), -1), xi) - rest, xi)
    # Beyond, it grows by the depths that it reaches down to.
    spread = jnp.sum(weight * e / d, -1) + jnp.where(full, log_rho - _FULL, 0.0)
    kept = divide(jnp.exp(-log_rho) * spread, xi)
    return Steep(
        rest, rest_in_xi, xi + (log_rho + rest), 1.0 + rest_in_xi, kept, 1.0 - kept, spread
    )


def steep(xi: Array, log_rho: Array) -> Steep:
    """For xi >= `LEAST`."""
    split = log_rho < -_LOG_2
    apart = _split(xi, jnp.where(split, log_rho, -1.0))
    joined = _joined(xi, jnp.where(split, 1.0, log_rho))
    return Steep(*(jnp.where(split, a, b) for a, b in zip(apart, joined, strict=True)))
