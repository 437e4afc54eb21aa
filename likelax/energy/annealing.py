"""Paths from a density whose log Z is known to one whose log Z is wanted."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from likelax._checks import is_count
from likelax._pytree import Array, Node, node, static
from likelax.distributions.base import Distribution
from likelax.energy.density import Unnormalized
from likelax.energy.restricted import Restricted
from likelax.samplers import Kernel, Langevin, advance
from likelax.samplers.base import check_stays


class Interpolation(Node):
    """Models of one kind whose parameters are (1 - beta) times those of one without couplings and beta
    times those of the other; moves are block Gibbs sweeps.
    """

    start: Any = node()
    end: Any = node()
    sweeps: int = static()

    def at(self, beta: Array) -> Any:
        """The model at this inverse temperature."""
        mixed = jax.tree.map(lambda a, b: (1 - beta) * a + beta * b, self.start, self.end)
        return mixed._coupled_as(self.end, beta) if isinstance(mixed, Restricted) else mixed

    def log_density(self, beta: Array, x: Array) -> Array:
        """log f_beta, `(chains,)`."""
        return self.at(beta).unnormalized_log_prob(x)

    def move(self, key: Array, beta: Array, x: Array) -> Array:
        """Moves that leave f_beta invariant."""
        return self.at(beta).gibbs(key, x, sweeps=self.sweeps)

    def sample(self, key: Array, count: int) -> Array:
        """Samples of f_0."""
        return self.start._independent_sample(key, count)

    def log_z(self) -> Array:
        """log Z of f_0."""
        return self.start._independent_log_z()


class Geometric(Node):
    """f_beta = base^(1 - beta) f^beta; moves are those of a kernel that leaves a density invariant."""

    base: Any = node()
    end: Any = node()
    kernel: Any = node()
    sweeps: int = static()

    def log_density(self, beta: Array, x: Array) -> Array:
        base, end = self.base.log_prob(x), self.end.unnormalized_log_prob(x)
        return (1 - beta) * base + beta * end

    def move(self, key: Array, beta: Array, x: Array) -> Array:
        def density(x: Array) -> Array:
            return self.log_density(beta, x)

        state = self.kernel.init(density, x)
        state, _ = advance(self.kernel, density, key, state, self.sweeps)
        return self.kernel.position(state)

    def sample(self, key: Array, count: int) -> Array:
        return self.base.sample(key, (count,)).astype(self.end.dtype)

    def log_z(self) -> Array:
        return jnp.zeros((), jnp.promote_types(self.base.dtype, self.end.dtype))


Path = Interpolation | Geometric


def path_to(density: Any, base: Any, kernel: Any, sweeps: int) -> Path:
    """The path that fits a density: see `log_partition`.

    Raises:
      TypeError: for a base or a kernel that is none.
      ValueError: for ones that do not fit the density.
    """
    check_density(density)
    if not is_count(sweeps):
        raise ValueError(f"log_partition: sweeps is a whole number >= 1, got {sweeps!r}")
    name = type(density).__name__
    if hasattr(density, "independent") and kernel is None:
        start = density.independent() if base is None else base
        if not isinstance(start, type(density)) or not _alike(start, density):
            raise TypeError(
                f"log_partition: annealing of {name} starts at one without couplings, got "
                f"{type(start).__name__}; write base=density.independent(bias), or give a kernel, too"
            )
        return Interpolation(start, density, sweeps)
    if not isinstance(base, Distribution) or base.batch_shape:
        raise TypeError(
            f"log_partition: annealing of {name} starts at a Distribution of its event shape "
            f"{density.event_shape}, without a batch, got {base!r}; write "
            f"base=lx.Normal(jnp.zeros({density.event_shape}), 1.0).to_event()"
        )
    if base.event_shape != density.event_shape:
        raise ValueError(
            f"log_partition: the base has event shape {base.event_shape}, the density "
            f"{density.event_shape}"
        )
    if not isinstance(kernel, Kernel):
        raise TypeError(
            f"log_partition: annealing of {name} moves by a kernel, got {kernel!r}; write "
            "kernel=lx.samplers.HMC(0.1, 5), or lx.samplers.GibbsWithGradients() for bits"
        )
    if isinstance(kernel, Langevin) and not kernel.adjusted:
        raise ValueError(
            "log_partition: unadjusted Langevin steps leave no known density invariant, and annealing "
            "needs that; write lx.samplers.Langevin(step_size, adjusted=True)"
        )
    check_stays("log_partition", kernel, density.support)
    return Geometric(base, density, kernel, sweeps)


def _alike(a: Any, b: Any) -> bool:
    """Whether two models have parameters of the same shapes, and the same graph."""
    shapes = [jax.tree.map(jnp.shape, model) for model in (a, b)]
    return jax.tree.structure(a) == jax.tree.structure(b) and (  # type: ignore[operator]
        jax.tree.leaves(shapes[0]) == jax.tree.leaves(shapes[1])
    )


def inverse_temperatures(betas: Any, dtype: Any) -> Array:
    """0 = beta_0 < ... < beta_K = 1, from numbers or from K.

    Raises:
      ValueError: for others.
    """
    if is_count(betas):
        return jnp.linspace(0.0, 1.0, betas + 1, dtype=dtype)
    given = np.asarray(betas, float)
    if given.ndim != 1 or len(given) < 2 or given[0] != 0 or given[-1] != 1:
        raise ValueError(
            "log_partition: betas are inverse temperatures from 0 to 1, or how many steps there are "
            f"between, got {betas!r}; write betas=1000 or betas=jnp.linspace(0, 1, 1001)"
        )
    if not np.all(np.diff(given) > 0):
        k = int(np.argmin(np.diff(given)))
        raise ValueError(
            f"log_partition: inverse temperatures increase from 0 to 1, got {given[k]:g} before "
            f"{given[k + 1]:g}; write betas=np.unique(betas)"
        )
    return jnp.asarray(given, dtype)


def check_density(density: Any) -> None:
    """Raises TypeError where this is no `Unnormalized`."""
    if not isinstance(density, Unnormalized):
        raise TypeError(
            f"a density such as lx.energy.RBM wanted, got {type(density).__name__}; of an Energy it is "
            "energy.density(params, state=state)"
        )
