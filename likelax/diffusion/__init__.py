"""Diffusion and flow matching: from a noise schedule to a likelihood with an error bar.

```python
process = lx.diffusion.Process("variance_preserving", lx.diffusion.Cosine())
model = lx.diffusion.VLB(process, net, "v", data=lx.diffusion.Pixels(bins=256))
params, state = model.init(key, lx.Batch(images))
```
"""

from .consistency import ConsistencyTraining as ConsistencyTraining
from .data import Pixels as Pixels
from .data import Real as Real
from .denoising import Denoising as Denoising
from .flow_matching import FlowMatching as FlowMatching
from .flow_matching import Pairs as Pairs
from .flow_matching import reflow as reflow
from .model import DiffusionModel as DiffusionModel
from .ode import ODELikelihood as ODELikelihood
from .ode import ODELogProb as ODELogProb
from .ode import ode_log_prob as ode_log_prob
from .paths import Lipman as Lipman
from .paths import SchrodingerBridge as SchrodingerBridge
from .prediction import Denoised as Denoised
from .prediction import Prediction as Prediction
from .process import Level as Level
from .process import Process as Process
from .schedules import Cosine as Cosine
from .schedules import Karras as Karras
from .schedules import Learned as Learned
from .schedules import Linear as Linear
from .schedules import LinearBeta as LinearBeta
from .schedules import LogNormal as LogNormal
from .schedules import Polynomial as Polynomial
from .schedules import Schedule as Schedule
from .schedules import Sigmoid as Sigmoid
from .schedules import Straight as Straight
from .transport import transport as transport
from .vlb import VLB as VLB
from .weighting import Weighting as Weighting

__all__ = [
    "VLB",
    "ConsistencyTraining",
    "Cosine",
    "Denoised",
    "Denoising",
    "DiffusionModel",
    "FlowMatching",
    "Karras",
    "Learned",
    "Level",
    "Linear",
    "LinearBeta",
    "Lipman",
    "LogNormal",
    "ODELikelihood",
    "ODELogProb",
    "Pairs",
    "Pixels",
    "Polynomial",
    "Prediction",
    "Process",
    "Real",
    "Schedule",
    "SchrodingerBridge",
    "Sigmoid",
    "Straight",
    "Weighting",
    "ode_log_prob",
    "reflow",
    "transport",
]
