"""log Z: exact, or estimated by annealing from below and from above."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from likelax._checks import is_count
from likelax._keys import check_key, stream
from likelax._pytree import Array, is_traced
from likelax.energy.annealing import Path, check_density, inverse_temperatures, path_to
from likelax.energy.density import Unnormalized
from likelax.energy.enumeration import enumeration_of, exact_samples, log_sum
from likelax.energy.sequential import populations
from likelax.energy.tempering import climb, estimated
from likelax.metrics import Estimate
from likelax.numerics.logspace import logsumexp
from likelax.objective import Claim
from likelax.samplers.annealing import annealed


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["log_z", "standard_error", "effective_samples", "log_weights"],
    meta_fields=["claim"],
)
@dataclasses.dataclass(frozen=True)
class LogPartition:
    """log Z and what is known of its error.

    Attributes:
      log_z: in nats.
      standard_error: of log_z, over chains, by the delta method. It says nothing of a mode that no chain
        has met.
      effective_samples: (sum w)^2 / sum w^2, between 1 and the number of chains: where it is small, so
        is what the standard error is worth. For tempering: how many independent rounds of a chain
        would have this standard error.
      log_weights: each chain's own estimate of log Z, `(chains,)`.
      claim: of -log p = log Z - unnormalized_log_prob against the true NLL. Forward: E[log Z] is at most
        the true one, so that the NLL is a lower bound in expectation. Reverse: at least, an upper one.
    """

    log_z: Array
    standard_error: Array
    effective_samples: Array
    log_weights: Array
    claim: Claim

    def __str__(self) -> str:
        if is_traced(self.log_z):
            return repr(self)
        relation = self.claim.relation
        words = f"{relation} bound" if relation in ("lower", "upper") else relation
        return f"{float(self.log_z):.4f} ± {float(self.standard_error):.4f} nats ({words})"


class Bracket(NamedTuple):
    """Two estimates between which log Z lies, in expectation: forward and reverse annealing."""

    lower: LogPartition
    upper: LogPartition


def log_partition(
    density: Any,
    key: Array | None = None,
    *,
    method: str = "exact",
    base: Any = None,
    kernel: Any = None,
    betas: Any = None,
    num_chains: int = 100,
    sweeps: int = 1,
    rounds: int = 200,
) -> LogPartition:
    """log Z of a density, in nats.

    | method | how | claim of the NLL |
    |---|---|---|
    | `"exact"` | a sum over every state of at most 25 units | exact |
    | `"ais"` | annealed importance sampling (Neal 2001; Salakhutdinov and Murray 2008) | lower bound |
    | `"smc"` | with resampling (Del Moral et al. 2006), at temperatures found by a pilot | lower bound |
    | `"tempering"` | ratios of neighbours in `parallel_tempering` (Bennett 1976) | estimate |

    `reverse_log_partition` is the other side, `bracket` both. The exact sum is over the states of the
    smaller side of an RBM, and of all but the largest colour of another Boltzmann machine.

    RBMs and Boltzmann machines are annealed from `density.independent()` by block Gibbs sweeps. Any other
    density wants a base to start at, and a kernel.

    Args:
      density: an `RBM`, a `BoltzmannMachine`, `energy.density(params)`.
      key: a random key; none for "exact".
      method: see above.
      base: where annealing starts: `density.independent(bias)`, with the logits of the data's mean
        perhaps; or, with a kernel, a Distribution of the density's event shape.
      kernel: of `lx.samplers`, such as `HMC(0.1, 5)`.
      betas: how many temperatures, or inverse temperatures, `(K + 1,)`, from 0 to 1 (default: 1000; for
        "tempering" 20). For "smc" the largest number of them.
      num_chains: independent ones; for "smc" particles in each of 10 populations, which are what the
        error is of, and `log_weights` has an entry for each; for "tempering" at each temperature.
      sweeps: moves at each temperature; for "tempering" in each round.
      rounds: of "tempering", after a quarter as many that do not count.

    Raises:
      TypeError: for a density, a base, a kernel or a key that is none.
      ValueError: for zero chains, temperatures that do not increase, or too many units.
    """
    check_density(density)
    if method == "exact":
        return _exact(density)
    if method not in ("ais", "smc", "tempering"):
        raise ValueError(
            f'log_partition: method is "exact", "ais", "smc" or "tempering", got {method!r}; the '
            "reverse is lx.energy.reverse_log_partition(density, key, samples)"
        )
    if method == "tempering":
        ladder = 20 if betas is None else betas
        options = {"base": base, "kernel": kernel, "betas": ladder, "sweeps": sweeps}
        left_out = rounds // 4 if is_count(rounds) else 0
        options |= {"num_chains": num_chains, "rounds": rounds, "burn_in": left_out}
        return _tempered(density, key, keep=False, **options).log_partition
    betas = 1000 if betas is None else betas
    key, _ = _checked(key, num_chains)
    path = path_to(density, base, kernel, sweeps)
    if method == "smc":
        if not is_count(betas):
            raise ValueError(
                "log_partition: smc chooses its temperatures; betas is the largest number of them, "
                "write betas=1000"
            )
        weights = populations(path, key, num_chains, betas)
        return _forward(weights, "num_chains")
    return _forward(
        _annealed(path, key, inverse_temperatures(betas, density.dtype), num_chains),
        "num_temperatures",
    )


def reverse_log_partition(
    density: Any,
    key: Array,
    samples: Any,
    *,
    exact: bool = False,
    base: Any = None,
    kernel: Any = None,
    betas: Any = 1000,
    sweeps: int = 1,
) -> LogPartition:
    """log Z by annealing in reverse, from samples of the density to its base: 1 / Z is estimated without
    bias, and log Z from above (Grosse, Ghahramani and Adams 2015, section 2.3).

    Args:
      density, key, base, kernel, betas, sweeps: as in `log_partition`.
      samples: of the density, `(chains, *event)`.
      exact: whether they are exact and independent, as from `exact_samples`. Those of long chains are
        not, and the claim is then an estimate, not a bound.

    Raises:
      TypeError, ValueError: as `log_partition`.
    """
    samples = jnp.asarray(samples)
    key, _ = _checked(key, samples.shape[0] if samples.ndim else 0)
    path = path_to(density, base, kernel, sweeps)
    density._value(samples)
    logs = _reversed(
        path, key, inverse_temperatures(betas, density.dtype), _as_chains(density, samples)
    )
    relation: Any = "upper" if exact else "estimate"
    claim = Claim(relation, unbiased=False, vanishes="num_temperatures")
    log_mean, error, size = _mean(-logs)
    return LogPartition(-log_mean, error, size, logs, claim)


def bracket(
    density: Any,
    key: Array,
    *,
    samples: Any = None,
    base: Any = None,
    kernel: Any = None,
    betas: Any = 1000,
    num_chains: int = 100,
    sweeps: int = 1,
) -> Bracket:
    """log Z from below, by forward annealing, and from above, by reverse annealing.

    Args:
      density, key, base, kernel, betas, num_chains, sweeps: as in `log_partition`.
      samples: where reverse chains start, `(chains, *event)`: of long chains, which makes the upper
        side an estimate. None draws exact ones by enumeration, of at most 20 units.

    Raises:
      TypeError, ValueError: as `log_partition`.
    """
    options = {"base": base, "kernel": kernel, "betas": betas, "sweeps": sweeps}
    key, _ = _checked(key, num_chains)
    check_density(density)
    exact = samples is None
    if samples is None:
        samples = _exact_starts(density, stream(key, "samples"), num_chains)
    lower = log_partition(
        density, stream(key, "forward"), method="ais", num_chains=num_chains, **options
    )
    upper = reverse_log_partition(density, stream(key, "reverse"), samples, exact=exact, **options)
    return Bracket(lower, upper)


def _exact_starts(density: Any, key: Array, count: int) -> Array:
    try:
        return exact_samples(density, key, count)
    except ValueError as error:
        raise ValueError(
            "bracket: without samples= the upper side starts at exact ones, by enumeration of at most 20 "
            f"units, which {type(density).__name__} does not allow; write samples=, of long chains "
            "(rbm.gibbs(key, x, sweeps=1000), or of a kernel), or for the lower side alone "
            "log_partition(density, key, method='ais', ...)"
        ) from error


class Tempered(NamedTuple):
    """What `parallel_tempering` makes.

    Attributes:
      samples: at temperature 1, `(rounds, chains, *event)`; those of a chain follow one another.
      swap_rate: with which probability neighbours of the ladder change places, on average, `(K,)`:
        where one is near 0, put temperatures between.
      log_partition: log Z from the same chains, an estimate: neither side is proved, since the chains
        are of each temperature's density in the limit only.
    """

    samples: Array
    swap_rate: Array
    log_partition: LogPartition


def parallel_tempering(
    density: Any,
    key: Array,
    *,
    base: Any = None,
    kernel: Any = None,
    betas: Any = 20,
    num_chains: int = 10,
    rounds: int = 1000,
    burn_in: int = 200,
    sweeps: int = 1,
) -> Tempered:
    """Samples of a density whose modes lie far apart: chains at a ladder of temperatures, from the base's
    to 1, whose neighbours change places (Swendsen and Wang 1986; Geyer 1991).

    Args:
      density, key, base, kernel: as in `log_partition`.
      betas: how many temperatures above the base, or inverse temperatures, `(K + 1,)`, from 0 to 1.
      num_chains: independent ladders, of whose spread the error of log Z is; for their ratios 2 K numbers
        are held for each in every round.
      rounds: each a move at all temperatures and a swap of every other pair.
      burn_in: rounds before, which do not count.
      sweeps: Gibbs sweeps, or steps of the kernel, of a move.

    Raises:
      TypeError: for a density, a base, a kernel or a key that is none.
      ValueError: for zero chains or rounds, or temperatures that do not increase.
    """
    options = {"base": base, "kernel": kernel, "betas": betas, "sweeps": sweeps}
    options |= {"num_chains": num_chains, "rounds": rounds, "burn_in": burn_in}
    return _tempered(density, key, keep=True, **options)


def _tempered(
    density: Any,
    key: Any,
    *,
    keep: bool,
    base: Any,
    kernel: Any,
    betas: Any,
    sweeps: int,
    num_chains: int,
    rounds: int,
    burn_in: int,
) -> Tempered:
    """With the samples where they are to be kept."""
    check_density(density)
    key, _ = _checked(key, num_chains)
    if not is_count(rounds) or not (burn_in == 0 or is_count(burn_in)):
        raise ValueError(
            "parallel_tempering: rounds is a whole number >= 1 and burn_in one >= 0, got "
            f"rounds={rounds!r}, burn_in={burn_in!r}; write rounds=1000, burn_in=200"
        )
    path = path_to(density, base, kernel, sweeps)
    ladder = inverse_temperatures(betas, density.dtype)
    x, up, down = climb(path, key, ladder, num_chains, rounds, burn_in, keep)
    log_z, error, size, each = estimated(path, up, down)
    claim = Claim("estimate", unbiased=False, vanishes="num_rounds")
    rate = jnp.mean(jnp.exp(jnp.minimum(up - down, 0)), (0, 2))
    return Tempered(x, rate, LogPartition(log_z, error, size, each, claim))


class Raise(NamedTuple):
    """What `raise_log_prob` makes, `(batch,)` each, but for the claim.

    Attributes:
      log_prob: in nats.
      standard_error: over chains.
      claim: of -log_prob.
    """

    log_prob: Array
    standard_error: Array
    claim: Claim

    @property
    def nll(self) -> Estimate:
        """The mean NLL with its standard error over examples."""
        each = -self.log_prob
        error = jnp.std(each, ddof=1) / len(each) ** 0.5
        return Estimate(float(jnp.mean(each)), float(error), "nats", self.claim)


def raise_log_prob(
    density: Any,
    key: Array,
    value: Any,
    *,
    base: Any = None,
    kernel: Any = None,
    betas: Any = 1000,
    num_chains: int = 10,
    sweeps: int = 1,
) -> Raise:
    """log p(x) by reverse annealing from x itself (RAISE: Burda, Grosse and Salakhutdinov 2015, algorithm
    2): no samples of the density, and no log Z, are needed.

    In expectation it is a lower bound on the log-density of what *annealing* makes: samples of the base,
    moved through all temperatures (the colours of a sweep in the other order). That tends to the density
    itself with more temperatures, and for values of the density itself is below it on average; of other
    values nothing is proved, and the claim is an estimate.

    Args:
      density, key, base, kernel, betas, sweeps: as in `log_partition`.
      value: `(batch, *event)`.
      num_chains: for each value.

    Raises:
      TypeError, ValueError: as `log_partition`.
    """
    key, _ = _checked(key, num_chains)
    path = path_to(density, base, kernel, sweeps)
    x = _as_chains(density, density._value(value))
    chains = jnp.repeat(x, num_chains, axis=0)
    logs = _reversed(path, key, inverse_temperatures(betas, density.dtype), chains)
    log_mean, error, _ = _mean(-logs.reshape((len(x), num_chains)))
    claim = Claim("estimate", unbiased=False, vanishes="num_temperatures and num_chains")
    return Raise(density.unnormalized_log_prob(value) + log_mean, error, claim)


# Estimates from chains.


def _exact(density: Unnormalized) -> LogPartition:
    log_z = _enumerated(density)
    zero = jnp.zeros_like(log_z)
    return LogPartition(log_z, zero, zero + jnp.inf, log_z[None], Claim("exact"))


@jax.jit
def _enumerated(density: Unnormalized) -> Array:
    return log_sum(*enumeration_of(density), density.dtype)


def _mean(logs: Array) -> tuple[Array, Array, Array]:
    """log of the mean of exp(logs) over the last axis, its standard error, and the effective size."""
    n = logs.shape[-1]
    log_sum, log_squares = logsumexp(logs, axis=-1), logsumexp(2 * logs, axis=-1)
    size = jnp.exp(2 * log_sum - log_squares)
    error = jnp.sqrt(jnp.maximum(n / size - 1, 0) / (n - 1)) if n > 1 else size * jnp.nan
    return log_sum - jnp.log(n), error, size


def _forward(logs: Array, vanishes: str) -> LogPartition:
    claim = Claim("lower", unbiased=False, vanishes=vanishes)
    return LogPartition(*_mean(logs), logs, claim)


@functools.partial(jax.jit, static_argnums=3)
def _annealed(path: Path, key: Array, betas: Array, chains: int) -> Array:
    """Each chain's estimate of log Z, from the base up."""
    return annealed(path, key, betas, path.sample(stream(key, "base"), chains), path.log_z())


@jax.jit
def _reversed(path: Path, key: Array, betas: Array, x: Array) -> Array:
    """Each chain's estimate of log Z, from x down to the base."""

    def step(carry: tuple[Array, Array], t: Array) -> tuple[tuple[Array, Array], None]:
        x, logs = carry
        x = path.move(jax.random.fold_in(key, t), betas[t], x)
        logs = logs + path.log_density(betas[t], x) - path.log_density(betas[t - 1], x)
        return (x, logs), None

    start = jnp.broadcast_to(path.log_z(), (len(x),))
    steps = jnp.arange(1, len(betas))
    return jax.lax.scan(step, (x, start), steps, reverse=True)[0][1]


def _as_chains(density: Unnormalized, x: Array) -> Array:
    return x if density._indices else x.astype(density.dtype)


def _checked(key: Any, chains: Any) -> tuple[Array, int]:
    if not is_count(chains):
        raise ValueError(
            f"log_partition: num_chains is a whole number >= 1, got {chains!r}; write num_chains=100"
        )
    return check_key(key), chains
