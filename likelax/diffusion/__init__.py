"""Diffusion and flow matching: from a noise schedule to a likelihood with an error bar.

```python
process = lx.diffusion.Process("variance_preserving", lx.diffusion.Cosine())
model = lx.diffusion.VLB(process, net, "v", data=lx.diffusion.Pixels(bins=256))
params, state = model.init(key, lx.Batch(images))
x = model.sample(params, key, (16, 28, 28, 1), steps=50, sampler=lx.diffusion.Heun())
```
"""

from .consistency import ConsistencyTraining as ConsistencyTraining
from .data import Pixels as Pixels
from .data import Real as Real
from .denoising import Denoising as Denoising
from .evidence import Bound as Bound
from .evidence import bound as bound
from .flow_matching import FlowMatching as FlowMatching
from .flow_matching import Pairs as Pairs
from .flow_matching import reflow as reflow
from .grids import TimeGrid as TimeGrid
from .guidance import classifier as classifier
from .guidance import classifier_free as classifier_free
from .guidance import inpainting as inpainting
from .masked import MaskedDiffusion as MaskedDiffusion
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
from .sampler import Sampled as Sampled
from .sampler import Sampler as Sampler
from .samplers import DDIM as DDIM
from .samplers import Ancestral as Ancestral
from .samplers import DPMSolver as DPMSolver
from .samplers import Euler as Euler
from .samplers import Heun as Heun
from .samplers import PredictorCorrector as PredictorCorrector
from .samplers import UniPC as UniPC
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
from .score_matching import ScoreMatching as ScoreMatching
from .times import AdaptiveTimes as AdaptiveTimes
from .tokens import TokenDiffusion as TokenDiffusion
from .transport import transport as transport
from .uniform import UniformDiffusion as UniformDiffusion
from .vlb import VLB as VLB
from .weighting import Weighting as Weighting

__all__ = [
    "DDIM",
    "VLB",
    "Ancestral",
    "AdaptiveTimes",
    "Bound",
    "ConsistencyTraining",
    "Cosine",
    "DPMSolver",
    "Denoised",
    "Denoising",
    "DiffusionModel",
    "Euler",
    "Heun",
    "FlowMatching",
    "Karras",
    "Learned",
    "Level",
    "Linear",
    "LinearBeta",
    "Lipman",
    "LogNormal",
    "MaskedDiffusion",
    "ODELikelihood",
    "ODELogProb",
    "Pairs",
    "Pixels",
    "Polynomial",
    "Prediction",
    "PredictorCorrector",
    "Process",
    "Real",
    "Sampled",
    "Sampler",
    "Schedule",
    "SchrodingerBridge",
    "ScoreMatching",
    "Sigmoid",
    "Straight",
    "TimeGrid",
    "UniPC",
    "Weighting",
    "classifier",
    "classifier_free",
    "inpainting",
    "TokenDiffusion",
    "UniformDiffusion",
    "Weighting",
    "bound",
    "ode_log_prob",
    "reflow",
    "transport",
]
