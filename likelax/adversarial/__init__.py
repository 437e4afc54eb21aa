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

from .decoder import LogLikelihood as LogLikelihood
from .decoder import annealed_log_prob as annealed_log_prob
from .decoder import parzen_log_prob as parzen_log_prob
from .discrepancy import KERNELS as KERNELS
from .discrepancy import Discrepancy as Discrepancy
from .discrepancy import mmd as mmd
from .discrepancy import sliced_wasserstein as sliced_wasserstein
from .gan import GAN as GAN
from .gan import Players as Players
from .gan import optimizers as optimizers
from .losses import LOSSES as LOSSES
from .losses import Bound as Bound
from .losses import Loss as Loss
from .losses import f_gan as f_gan
from .neighbours import DensityCoverage as DensityCoverage
from .neighbours import PrecisionRecall as PrecisionRecall
from .neighbours import density_coverage as density_coverage
from .neighbours import precision_recall as precision_recall
from .penalties import R1 as R1
from .penalties import R2 as R2
from .penalties import GradientPenalty as GradientPenalty
from .penalties import Penalty as Penalty
from .ratio import divergence as divergence
from .ratio import log_density_ratio as log_density_ratio

__all__ = [
    "GAN",
    "KERNELS",
    "LOSSES",
    "R1",
    "R2",
    "Bound",
    "DensityCoverage",
    "Discrepancy",
    "GradientPenalty",
    "LogLikelihood",
    "Loss",
    "Penalty",
    "Players",
    "PrecisionRecall",
    "annealed_log_prob",
    "density_coverage",
    "divergence",
    "f_gan",
    "log_density_ratio",
    "mmd",
    "optimizers",
    "parzen_log_prob",
    "precision_recall",
    "sliced_wasserstein",
]
