"""Normalising flows: densities that are made by invertible maps, exact, and bounds for whole numbers.

```python
model = lx.Likelihood(None, lx.flows.neural_spline_flow(2))              # p(y)
model = lx.Likelihood(net, lx.flows.neural_spline_flow(2, context=16))  # p(y | net(x))
model = lx.Likelihood(None, lx.flows.ContinuousFlow(field, 2))           # by a differential equation
pixels = lx.flows.dequantize(lx.Likelihood(None, lx.flows.glow((8, 8, 1))), bins=17)
```

The maps are in `lx.bijectors`; `FlowHead` makes a head of any of them.
"""

from .continuous import ContinuousFlow as ContinuousFlow
from .dequantization import Dequantized as Dequantized
from .dequantization import dequantize as dequantize
from .dequantization import logit as logit
from .head import FlowHead as FlowHead
from .images import glow as glow
from .vectors import coupling_flow as coupling_flow
from .vectors import masked_autoregressive_flow as masked_autoregressive_flow
from .vectors import neural_spline_flow as neural_spline_flow

__all__ = [
    "ContinuousFlow",
    "Dequantized",
    "FlowHead",
    "coupling_flow",
    "dequantize",
    "glow",
    "logit",
    "masked_autoregressive_flow",
    "neural_spline_flow",
]
