"""Densities known up to a constant: p(x) = exp(unnormalized_log_prob(x)) / Z.

```python
rbm = lx.energy.RBM.random(key, visible=64, hidden=16)
model = lx.energy.MaximumLikelihood(rbm)                         # exact: log Z over 2^16 states
result = lx.train.fit(model, optax.adam(1e-2), lx.Batch(x), steps=1000, key=key)

rbm = result.params                                              # the RBM itself, a pytree
lower, upper = lx.energy.bracket(rbm, key)                       # log Z from both sides, with errors
rbm.normalize(lower).log_prob(x), lower.claim                    # no log_prob without a log Z

wide = lx.energy.RBM.random(key, visible=64, hidden=256)         # too wide for an exact sum
model = lx.energy.PersistentContrastiveDivergence(wide, num_chains=100)
result = lx.train.fit(model, optax.adam(1e-2), lx.Batch(x), steps=1000, key=key)
far = result.params.gibbs(key, x, sweeps=1000)                   # long chains, then both sides
lx.energy.bracket(result.params, key, samples=far)

both = lx.energy.parallel_tempering(result.params, key)          # samples of far modes, and log Z
both.samples, both.swap_rate, both.log_partition
```

Objectives of a density's parameters:

| objective | for | needs | its number is |
|---|---|---|---|
| `MaximumLikelihood` | at most 25 units on one side | a sum over states | exact |
| `ContrastiveDivergence`, `ShortRun` | any density | chains: Gibbs sweeps, or a kernel | none |
| `PersistentContrastiveDivergence` | any density | chains that go on, in the state | none |
| `PseudoLikelihood`, `RatioMatching` | bits and spins; the first classes, too | each unit given the rest | none |
| `ScoreMatching` | real values | derivatives in x | none |
| `JEM` | a classifier's logits | chains | exact of labels, none of x |

```python
energy = lx.energy.Energy(functools.partial(MLP, 1), event_shape=2)   # a network
noise = lx.Normal(jnp.zeros(2), 1.0).to_event()
kernel = lx.samplers.Langevin(0.01)
model = lx.energy.PersistentContrastiveDivergence(energy, 20, kernel=kernel, start=noise)
params, state = model.init(key, lx.Batch(x))                     # the chains are in the state
model.density(params, state=state).unnormalized_log_prob(x)
```

Contrastive objectives put a classifier in the place of the density: what they say is the likelihood of its
answer. Told from noise a density is learned with its log Z (`NCE`) or up to it (ranking, `ConditionalNCE`);
told from the rest of the batch, which of the others belongs to an example (`InfoNCE`, CLIP among it, `SimCLR`,
`SupervisedContrastive`), by Categoricals whose logits are never held but for a block; by margins, `Triplet` and
`Margin`.

```python
model = lx.energy.NCE(lx.energy.Energy(net, 2), noise, num_noise=10)       # noise: a Distribution
known = model.density(result.params, state=result.state)                   # .log_prob, an estimate
towers = lx.energy.InfoNCE(ImageNet, TextNet, temperature=lx.learned(0.07))
loss, aux = towers(params, key, lx.Batch(target=texts, input=images), state=state)
aux.terms["mutual_information"]                                            # a lower bound, in nats
```
"""

from .boltzmann import BoltzmannMachine as BoltzmannMachine
from .contrastive import InfoNCE as InfoNCE
from .contrastive import SimCLR as SimCLR
from .contrastive import SupervisedContrastive as SupervisedContrastive
from .contrastive_divergence import ContrastiveDivergence as ContrastiveDivergence
from .contrastive_divergence import (
    PersistentContrastiveDivergence as PersistentContrastiveDivergence,
)
from .contrastive_divergence import ShortRun as ShortRun
from .density import Normalized as Normalized
from .density import Unnormalized as Unnormalized
from .enumeration import exact_samples as exact_samples
from .graph import Graph as Graph
from .joint import JEM as JEM
from .likelihood import MaximumLikelihood as MaximumLikelihood
from .metric import Margin as Margin
from .metric import Triplet as Triplet
from .network import Energy as Energy
from .network import EnergyDensity as EnergyDensity
from .noise_contrastive import NCE as NCE
from .noise_contrastive import ConditionalNCE as ConditionalNCE
from .partition import Bracket as Bracket
from .partition import LogPartition as LogPartition
from .partition import Raise as Raise
from .partition import Tempered as Tempered
from .partition import bracket as bracket
from .partition import log_partition as log_partition
from .partition import parallel_tempering as parallel_tempering
from .partition import raise_log_prob as raise_log_prob
from .partition import reverse_log_partition as reverse_log_partition
from .pseudo_likelihood import PseudoLikelihood as PseudoLikelihood
from .pseudo_likelihood import RatioMatching as RatioMatching
from .restricted import RBM as RBM
from .restricted import CategoricalRBM as CategoricalRBM
from .restricted import GaussianRBM as GaussianRBM
from .score_matching import ScoreMatching as ScoreMatching

__all__ = [
    "JEM",
    "NCE",
    "RBM",
    "BoltzmannMachine",
    "Bracket",
    "CategoricalRBM",
    "ContrastiveDivergence",
    "ConditionalNCE",
    "Energy",
    "EnergyDensity",
    "GaussianRBM",
    "Graph",
    "InfoNCE",
    "LogPartition",
    "Margin",
    "MaximumLikelihood",
    "Normalized",
    "PersistentContrastiveDivergence",
    "PseudoLikelihood",
    "Raise",
    "RatioMatching",
    "ScoreMatching",
    "ShortRun",
    "Tempered",
    "SimCLR",
    "SupervisedContrastive",
    "Triplet",
    "Unnormalized",
    "bracket",
    "exact_samples",
    "log_partition",
    "parallel_tempering",
    "raise_log_prob",
    "reverse_log_partition",
]
