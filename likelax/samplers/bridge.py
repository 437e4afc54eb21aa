"""Kernels of blackjax (https://github.com/blackjax-devs/blackjax), NUTS among them, as kernels of
`run`; blackjax itself is not imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from likelax._pytree import Array, static
from likelax.samplers.base import Kernel, LogDensity


class Blackjax(Kernel):
    """One of blackjax's algorithms, over many chains::

        import blackjax                                       # pip install "likelax[mcmc]"

        def make(log_density):                                # of a single value, `(*event)`
            return blackjax.nuts(log_density, step_size=0.3, inverse_mass_matrix=jnp.ones(2))

        chains = lx.samplers.run(lx.samplers.Blackjax(make), log_density, key, start, 1000)
        chains.samples, chains.state.logdensity

    The state is blackjax's own, with the chains on the first axis of each array. Acceptance is its
    `acceptance_rate`, 1 where an algorithm has none. Arrays that `make` closes over are constants.

    Args:
      make: a log-density of a single value to a `blackjax.SamplingAlgorithm`.
    """

    make: Callable[[LogDensity], Any] = static()

    def _algorithm(self, log_density: LogDensity) -> Any:
        return self.make(lambda x: log_density(x[None])[0])

    def init(self, log_density: LogDensity, x: Array) -> Any:
        return jax.vmap(self._algorithm(log_density).init)(x)

    def step(self, log_density: LogDensity, key: Array, state: Any) -> tuple[Any, Array]:
        x = self.position(state)
        keys = jax.random.split(key, x.shape[0])
        state, info = jax.vmap(self._algorithm(log_density).step)(keys, state)
        acceptance = getattr(info, "acceptance_rate", None)
        return state, jax.numpy.ones(x.shape[0]) if acceptance is None else acceptance

    def position(self, state: Any) -> Array:
        return state.position
