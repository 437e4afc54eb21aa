"""Markov chains on any log-density, many at once: kernels are frozen, their state is explicit.

```python
density = lambda x: -0.5 * jnp.sum(x**2 / scale**2, axis=-1)  # (chains, *event) -> (chains,)
start = jax.random.normal(key, (100, 2))
chains = lx.samplers.run(lx.samplers.HMC(0.2, 10), density, key, start, 1000)
chains.samples, chains.acceptance                             # (1000, 100, 2), (100,)
```

The chains are the first axis of every array, and a log-density is one of a whole batch of values: that of a
network or of an energy model (`model.unnormalized_log_prob`) as it is, one of a single value under `jax.vmap`.

| kernel | for | leaves invariant |
|---|---|---|
| `Langevin(step_size)` | real values | nothing known: biased by the step, no rejections |
| `Langevin(step_size, adjusted=True)`, `HMC(step_size, num_steps)` | real values | the density |
| `GibbsWithGradients()` | bits, one-hot vectors | the density |
| `Blackjax(make)` | whatever blackjax has, NUTS among it | the density |

`PersistentChains` keeps chains between the steps of training.
"""

from .base import Chains as Chains
from .base import Kernel as Kernel
from .base import State as State
from .base import advance as advance
from .base import run as run
from .bridge import Blackjax as Blackjax
from .continuous import HMC as HMC
from .continuous import Langevin as Langevin
from .discrete import GibbsWithGradients as GibbsWithGradients
from .persistent import Drawn as Drawn
from .persistent import PersistentChains as PersistentChains

__all__ = [
    "HMC",
    "Blackjax",
    "Chains",
    "Drawn",
    "GibbsWithGradients",
    "Kernel",
    "Langevin",
    "PersistentChains",
    "State",
    "advance",
    "run",
]
