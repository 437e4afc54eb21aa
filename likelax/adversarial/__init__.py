"""A generator against a critic, and what can be said of samples without a likelihood.

```python
prior = lx.Normal(jnp.zeros(16), 1.0).to_event()
model = lx.adversarial.GAN(generator, critic, prior, "non_saturating", penalties=lx.adversarial.R1(1.0))
optimizer = lx.adversarial.optimizers(optax.adam(1e-4), optax.adam(4e-4))
result = lx.train.fit(model, optimizer, lx.Batch(x), steps=1000, key=key)   # both players in each step

lx.adversarial.divergence(model, result.params, key, lx.Batch(held_out))    # a lower bound, with its error
lx.adversarial.log_density_ratio(model, result.params, held_out)            # log p_data / p_model
lx.adversarial.mmd(held_out, model.sample(result.params, key, (500,)))      # with its error, as well
```
"""

from .gan import GAN as GAN
from .gan import Players as Players
from .gan import optimizers as optimizers
from .losses import LOSSES as LOSSES
from .losses import Bound as Bound
from .losses import Loss as Loss
from .losses import f_gan as f_gan
from .penalties import R1 as R1
from .penalties import R2 as R2
from .penalties import GradientPenalty as GradientPenalty
from .penalties import Penalty as Penalty
from .ratio import divergence as divergence
from .ratio import log_density_ratio as log_density_ratio

__all__ = [
    "GAN",
    "LOSSES",
    "R1",
    "R2",
    "Bound",
    "GradientPenalty",
    "Loss",
    "Penalty",
    "Players",
    "divergence",
    "f_gan",
    "log_density_ratio",
    "optimizers",
]
