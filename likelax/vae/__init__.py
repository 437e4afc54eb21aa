"""Models with latent variables: bounds on log p(x) = log of the integral of p(x | z) p(z).

```python
decoder = lx.Conditional(MLP(16, 64), lx.Head(lx.Bernoulli, event_shape=64))
encoder = lx.Conditional(MLP(64, 32), lx.Head(lx.Normal, event_shape=16))
model = lx.vae.ELBO(decoder, encoder, lx.Normal(jnp.zeros(16), 1.0).to_event())
result = lx.train.fit(model, optax.adam(1e-3), lx.Batch(x), steps=1000, key=key)
model.sample(result.params, key, (25,))
tight = lx.vae.IWAE(decoder, encoder, model.prior, num_particles=1000)
lx.evaluate(tight, result.params, key, lx.Batch(held_out))
```
"""

from ._passes import Networks as Networks
from .diagnostics import LatentUsage as LatentUsage
from .diagnostics import latent_usage as latent_usage
from .diagnostics import traversal as traversal
from .discrete import Enumerated as Enumerated
from .discrete import GumbelSoftmax as GumbelSoftmax
from .elbo import ELBO as ELBO
from .importance import IWAE as IWAE
from .importance import RenyiBound as RenyiBound
from .marginal import Marginal as Marginal
from .marginal import marginal_log_prob as marginal_log_prob
from .model import LatentModel as LatentModel
from .priors import VampPrior as VampPrior
from .quantized import VQVAE as VQVAE

__all__ = [
    "ELBO",
    "IWAE",
    "VQVAE",
    "Enumerated",
    "GumbelSoftmax",
    "LatentModel",
    "LatentUsage",
    "Marginal",
    "Networks",
    "RenyiBound",
    "VampPrior",
    "latent_usage",
    "marginal_log_prob",
    "traversal",
]
