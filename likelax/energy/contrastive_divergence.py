"""Training by chains: the energy of data less that of samples which the model makes of itself."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from likelax._checks import is_count, is_number
from likelax._keys import row_keys, stream
from likelax._mesh import divided, with_auto_axes
from likelax._pytree import Array
from likelax.distributions.base import Distribution
from likelax.distributions.categorical import Bernoulli
from likelax.energy.density import Swept, Unnormalized, over_bits
from likelax.energy.objective import DensityObjective
from likelax.networks import Variables
from likelax.objective import Batch, Claim, Scores, trailing
from likelax.samplers.base import Kernel, advance, check_kernel, check_stays
from likelax.samplers.persistent import PersistentChains, check_restart_prob


class Negatives(NamedTuple):
    """Samples that the model made.

    Attributes:
      x: `(chains, *event)`.
      acceptance: the mean probability of acceptance, `(chains,)`; None where none was moved.
      state: of the chains.
      terms: numbers to be reported.
    """

    x: Array
    acceptance: Array | None
    state: Any = ()
    terms: dict[str, Array] = {}


class _Contrast(DensityObjective):
    """E(x) of the data less E(y) of the model's samples y, whose gradient is that of -log p(x) where y
    are samples of p. A subclass writes `_negatives`.
    """

    claim = Claim("none", unbiased=False)
    # Whether there is a sample for each example.
    _paired = False

    def __init__(self, model: Any, k: int, kernel: Any, energy_penalty: float):
        super().__init__(model)
        _check_count(self._name, "k", k)
        if not is_number(energy_penalty) or not 0 <= energy_penalty < math.inf:
            raise ValueError(
                f"{self._name}: energy_penalty is a number of at least 0, got {energy_penalty!r}"
            )
        if kernel is None and not isinstance(model, Swept):
            kernels = "GibbsWithGradients()" if model.support.is_discrete else "Langevin(0.01)"
            raise TypeError(
                f"{self._name}: a network's samples are made by a kernel; write "
                f"kernel=lx.samplers.{kernels}"
            )
        if kernel is not None:
            check_kernel(kernel)
            check_stays(self._name, kernel, model.support)
            if kernel.batch_shape:
                raise ValueError(
                    f"{self._name}: a kernel of one step size for all chains wanted, got shape "
                    f"{kernel.batch_shape}"
                )
        self.k, self.kernel, self.energy_penalty = k, kernel, energy_penalty

    def _negatives(
        self, density: Unnormalized, key: Array, x: Array, state: Any, train: bool
    ) -> Negatives:
        """Samples of the density, which has dropout off."""
        raise NotImplementedError

    def _states(self, state: Any) -> tuple[Any, Any]:
        """Those of the network and of the chains."""
        return state, ()

    def _joint_state(self, net: Any, chains: Any) -> Any:
        return net

    def density(self, params: Any, *, state: Any = ()) -> Unnormalized:
        return super().density(params, state=self._net_state(state))

    def merge(self, params: Any, state: Any = ()) -> Any:
        return super().merge(params, self._net_state(state))

    def _net_state(self, state: Any) -> Any:
        """The network's: chains are not asked for where they are not used."""
        return self._states(state)[0] if jax.tree.leaves(state) else ()

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        cost, terms, state, _ = self._contrast(params, key, batch, state, train, keep)
        return Scores(cost, terms, state, self.claim)

    def _contrast(
        self, params: Any, key: Array, batch: Batch, state: Any, train: bool, keep: Array | None
    ) -> tuple[Array, dict[str, Array], Any, Any]:
        """The difference of energies, the terms, the state, and what else the network makes of the data."""
        net, chains = self._states(state)
        fixed = self.model.density(jax.lax.stop_gradient(params), state=net)
        x = self._data(fixed, batch, keep)
        made = self._negatives(fixed, stream(key, "chains"), x, chains, train)
        y = jax.lax.stop_gradient(made.x)
        if self._paired and keep is not None:
            y = jnp.where(trailing(keep, y.ndim), y, x)
        now = self._density(params, key, net, train)
        energy_data, energy_model, net, other = self._energies(now, x, y)
        lost = ~(jnp.isfinite(energy_model) & _finite(y))
        terms = {
            "energy_data": energy_data,
            "energy_model": self._matched(energy_model, x),
            "non_finite": _everywhere(jnp.sum(lost).astype(energy_data.dtype), x),
            **{name: _everywhere(value, x) for name, value in made.terms.items()},
        }
        if made.acceptance is not None:
            terms["acceptance"] = self._matched(made.acceptance, x)
        cost = energy_data - terms["energy_model"]
        if self.energy_penalty:
            squares = energy_data**2 + self._matched(energy_model**2, x)
            terms["penalty"] = self.energy_penalty * squares
            cost = cost + terms["penalty"]
        return cost, terms, self._joint_state(net, made.state), other

    def _energies(self, density: Any, x: Array, y: Array) -> tuple[Array, Array, Any, Any]:
        """E of data and of samples, the network's state, and what else it makes of the data."""
        of_data, of_model, net = density._contrasted(x, y)
        return -of_data, -of_model, net, None

    def _matched(self, each: Array, x: Array) -> Array:
        """A number of each sample as one of each example."""
        return each if self._paired else _everywhere(jnp.mean(each), x)

    def _moved(self, density: Unnormalized, key: Array, x: Array) -> tuple[Array, Array]:
        """Chains k steps on, and how often they moved."""
        return moved(density, self.kernel, key, x, self.k)


class ContrastiveDivergence(_Contrast):
    """CD-k (Hinton 2002): each sample is k steps away from its example.

    ::

        model = lx.energy.ContrastiveDivergence(lx.energy.RBM.random(key, 64, 16), k=1)
        result = lx.train.fit(model, optax.adam(1e-2), lx.Batch(x), steps=1000, key=key)

    The number is E(x) - E(y), in nats, of free energies, in which the hidden units of an RBM are summed
    out. It is no likelihood, and no bound of one: it is 0 where the chains stand still. Its gradient is
    not that of its mean, in which the chains would be differentiated, too, and tends to that of -log p(x)
    as k grows. Watch the exact or the bracketed likelihood instead (`lx.energy.log_partition`).

    Not in training (`train=False`) it is the same difference with dropout off, and the same for the same
    key. Chains move as the network is in evaluation: its batch statistics frozen and dropout off.

    `terms`: `energy_data` and `energy_model` are both sides; `acceptance` is the mean probability with which
    a kernel's moves were accepted (1 of Gibbs sweeps; not there where no chain was moved); `non_finite` is the
    *number* of chains whose value or energy is not finite. Such chains are not replaced: the loss is then not
    finite, either.

    Args:
      model: an `RBM` or another model, or an `Energy`.
      k: how many steps: Gibbs sweeps, or steps of the kernel.
      kernel: of `lx.samplers`; an RBM or a Boltzmann machine needs none and has its own sweeps.
      energy_penalty: a >= 0, which adds a (E(x)^2 + E(y)^2): it keeps a network's energies, of which only
        differences count, near 0 (Du and Mordatch 2019).

    Raises:
      TypeError: for a model or a kernel that is none, or no kernel for a network.
      ValueError: for numbers that are out of range.
    """

    _paired = True

    def __init__(self, model: Any, k: int = 1, *, kernel: Any = None, energy_penalty: float = 0.0):
        super().__init__(model, k, kernel, energy_penalty)

    def _negatives(
        self, density: Unnormalized, key: Array, x: Array, state: Any, train: bool
    ) -> Negatives:
        return Negatives(*self._moved(density, key, x))


class _FromNoise(_Contrast):
    """Chains that start where a distribution says."""

    def __init__(
        self, model: Any, k: int, kernel: Any, energy_penalty: float, num_chains: int, start: Any
    ):
        super().__init__(model, k, kernel, energy_penalty)
        _check_count(self._name, "num_chains", num_chains)
        event = tuple(model.event_shape)
        if start is None and not hasattr(model, "independent") and not over_bits(model):
            raise TypeError(
                f"{self._name}: chains of real values start at a Distribution; write "
                f"start=lx.Normal(jnp.zeros({event}), 1.0).to_event()"
            )
        if start is not None and not isinstance(start, Distribution):
            raise TypeError(
                f"{self._name}: start is a Distribution, got {start!r}; write "
                f"start=lx.Normal(jnp.zeros({event}), 1.0).to_event()"
            )
        if start is not None and (start.event_shape, start.batch_shape) != (event, ()):
            raise ValueError(
                f"{self._name}: start has the event shape of the model, {event}, and no batch; got event "
                f"{start.event_shape}, batch {start.batch_shape}; write start.to_event()"
            )
        if start is not None and model.support.is_discrete and not start.support.is_discrete:
            raise ValueError(
                f"{self._name}: the model's values are {model.support}, and start draws real ones; write "
                f"start=lx.Bernoulli(probs=jnp.full({event}, 0.5)).to_event() for bits"
            )
        self.num_chains, self.start = num_chains, start

    def _fresh(self, density: Unnormalized, key: Array, count: int) -> Array:
        """Where chains start, `(count, *event)`."""
        if self.start is not None:
            x = self.start.sample(key, (count,))
        elif hasattr(density, "independent"):
            x = density.independent()._independent_sample(key, count)
        else:
            x = Bernoulli(logits=jnp.zeros(density.event_shape)).sample(key, (count,))
        return density._value(x)


class PersistentContrastiveDivergence(_FromNoise):
    """Chains that go on from one step of training to the next (Tieleman 2008), in the objective's state.

    ::

        model = lx.energy.PersistentContrastiveDivergence(rbm, num_chains=100)
        params, state = model.init(key, batch)          # {"net": ..., "chains": PersistentChains}

    The number, its gradient and `terms` are as for `ContrastiveDivergence`, with one mean over all chains for
    every example, and `age`: the mean number of steps that chains have taken. Where the parameters move
    slowly the chains are samples of the model, and the gradient is that of -log p(x).

    Not in training (`train=False`) no chain is moved: the number is a function of data and state, and the
    difference between two sets of data is that of their energies alone, as is wanted for seeing a model
    overfit (Hinton 2012, section 6).

    The chains are a pytree with one row for each: they are saved with the train state, and may be divided
    over devices as a batch is.

    Args:
      model, kernel, energy_penalty: as for `ContrastiveDivergence`.
      k: how many steps chains take in one of training.
      num_chains: how many take them.
      start: where chains start, a Distribution of the event shape. Default: the independent model of an RBM
        or a Boltzmann machine, coins for other bits.
      restart_prob: with which probability a chain starts anew.
      buffer_size: how many chains are kept, of which `num_chains` at random are moved: a replay buffer (Du
        and Mordatch 2019). Default: `num_chains`.

    Raises:
      TypeError, ValueError: as `ContrastiveDivergence`, and for a start that does not fit.
    """

    def __init__(
        self,
        model: Any,
        k: int = 1,
        *,
        num_chains: int = 100,
        kernel: Any = None,
        start: Any = None,
        restart_prob: float = 0.0,
        buffer_size: int | None = None,
        energy_penalty: float = 0.0,
    ):
        super().__init__(model, k, kernel, energy_penalty, num_chains, start)
        self.buffer_size = num_chains if buffer_size is None else buffer_size
        _check_count(self._name, "buffer_size", self.buffer_size)
        if self.buffer_size < num_chains:
            raise ValueError(
                f"{self._name}: {num_chains} chains out of a buffer of {buffer_size}; write "
                f"buffer_size={10 * num_chains}, or leave it out"
            )
        check_restart_prob(self._name, restart_prob)
        self.restart_prob = restart_prob

    def init(self, key: Array, batch: Batch) -> Variables:
        params, net = super().init(key, batch)
        x = self._fresh(
            self.model.density(params, state=net), stream(key, "chains"), self.buffer_size
        )
        chains = PersistentChains(x, restart_prob=self.restart_prob)
        return Variables(params, self._joint_state(net, chains))

    def _states(self, state: Any) -> tuple[Any, Any]:
        if not isinstance(state, dict) or "chains" not in state:
            raise TypeError(
                f"{self._name}: the chains are in the state, and it holds none; write params, state = "
                "model.init(key, batch), and pass state=state, then state=aux.state"
            )
        return state["net"], state["chains"]

    def _joint_state(self, net: Any, chains: Any) -> Any:
        return {"net": net, "chains": chains}

    def _negatives(
        self, density: Unnormalized, key: Array, x: Array, state: Any, train: bool
    ) -> Negatives:
        if not train:
            return Negatives(state.x[: self.num_chains], None, state, _mean_age(state))
        drawn = state.draw(
            stream(key, "draw"),
            self.num_chains,
            lambda key, count: self._fresh(density, key, count),
        )
        y, acceptance = self._moved(density, stream(key, "move"), drawn.x)
        state = state.put(drawn, y, self.k)
        return Negatives(y, acceptance, state, _mean_age(state))


class ShortRun(_FromNoise):
    """Short chains from noise, anew in each step (Nijkamp et al. 2019): what is trained is the sampler, k
    steps from `start`, rather than the density.

    The number, its gradient and `terms` are as for `ContrastiveDivergence`, with one mean over all chains for
    every example; not in training (`train=False`) it is the same for the same key. `sample` makes what was
    trained; the density itself need not be near the data, and its log Z says nothing of the samples.

    Args:
      model, kernel, energy_penalty: as for `ContrastiveDivergence`.
      k: how many steps.
      num_chains, start: as for `PersistentContrastiveDivergence`.

    Raises:
      TypeError, ValueError: as there.
    """

    def __init__(
        self,
        model: Any,
        k: int = 100,
        *,
        num_chains: int = 100,
        kernel: Any = None,
        start: Any = None,
        energy_penalty: float = 0.0,
    ):
        super().__init__(model, k, kernel, energy_penalty, num_chains, start)

    def _negatives(
        self, density: Unnormalized, key: Array, x: Array, state: Any, train: bool
    ) -> Negatives:
        y = self._fresh(density, stream(key, "start"), self.num_chains)
        return Negatives(*self._moved(density, stream(key, "move"), y))

    def sample(
        self, params: Any, key: Array, shape: int | tuple[int, ...] = (), *, state: Any = ()
    ) -> Array:
        """Where chains are after k steps, `(*shape, *event)`."""
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        density = self.density(params, state=state)
        x = self._fresh(density, stream(key, "start"), math.prod(shape))
        x, _ = self._moved(density, stream(key, "move"), x)
        return x.reshape((*shape, *density.event_shape))


def moved(
    density: Unnormalized, kernel: Kernel | None, key: Array, x: Array, steps: int
) -> tuple[Array, Array]:
    """Each chain `steps` steps on, with random numbers by its place: `(chains, *event)`, and the mean
    probability of acceptance, `(chains,)`. Without a kernel by the model's own sweeps.
    """

    def one(density: Any, kernel: Any, key: Array, x: Array) -> tuple[Array, Array]:
        if kernel is None:
            return density.gibbs(key, x[None], sweeps=steps)[0], jnp.ones((), density.dtype)
        log_density = density.unnormalized_log_prob
        state = kernel.init(log_density, x[None])
        state, acceptance = advance(kernel, log_density, key, state, steps)
        return kernel.position(state)[0].astype(x.dtype), acceptance[0]

    def all_chains(density: Any, kernel: Any, key: Array, x: Array) -> tuple[Array, Array]:
        keys = row_keys(key, len(x))
        return jax.vmap(one, in_axes=(None, None, 0, 0))(density, kernel, keys, x)

    return with_auto_axes(all_chains, divided(1, x))(density, kernel, key, x)


def _mean_age(chains: PersistentChains) -> dict[str, Array]:
    return {"age": jnp.mean(chains.age.astype(float))}


def _everywhere(value: Array, x: Array) -> Array:
    """One number as one of each example."""
    return jnp.broadcast_to(value, x.shape[:1])


def _finite(x: Array) -> Array:
    return jnp.all(jnp.isfinite(x), axis=tuple(range(1, x.ndim)))


def _check_count(owner: str, name: str, value: Any) -> None:
    if not is_count(value):
        raise ValueError(
            f"{owner}: {name} is a whole number >= 1, got {value!r}; write {name}=1"
            if name == "k"
            else f"{owner}: {name} is a whole number >= 1, got {value!r}; write {name}=100"
        )
