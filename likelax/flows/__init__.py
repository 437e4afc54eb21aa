"""Normalising flows: densities that are made by invertible maps, exact.

```python
model = lx.Likelihood(None, lx.flows.neural_spline_flow(2))              # p(y)
model = lx.Likelihood(net, lx.flows.neural_spline_flow(2, context=16))  # p(y | net(x))
```

The maps are in `lx.bijectors`; `FlowHead` makes a head of any of them.
"""

from .head import FlowHead as FlowHead
from .images import glow as glow
from .vectors import coupling_flow as coupling_flow
from .vectors import masked_autoregressive_flow as masked_autoregressive_flow
from .vectors import neural_spline_flow as neural_spline_flow

__all__ = [
    "FlowHead",
    "coupling_flow",
    "glow",
    "masked_autoregressive_flow",
    "neural_spline_flow",
]
