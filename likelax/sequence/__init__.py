"""Likelihoods of sequences: one factor after another, or exactly by dynamic programming.

```python
model = lx.sequence.Autoregressive(Transformer(vocabulary), head, start=None, token_bytes=1)
text = lx.sequence.windows(tokens, 256, 128, batch_size=32)
print(lx.bits_per_byte(lx.evaluate(model, params, key, text)))
model.sample(params, key, (4,), length=200, prompt=tokens[:50], top_p=0.9)
```
"""

from .autoregressive import Autoregressive as Autoregressive
from .crf import LinearChainCRF as LinearChainCRF
from .ctc import CTC as CTC
from .hidden_markov import HiddenMarkov as HiddenMarkov
from .masked import AnyOrder as AnyOrder
from .masked import MaskedToken as MaskedToken
from .packing import Packed as Packed
from .packing import Windows as Windows
from .packing import pack as pack
from .packing import span_mask as span_mask
from .packing import windows as windows
from .preference import Preference as Preference
from .preference import PreferenceLikelihood as PreferenceLikelihood
from .preference import preferences as preferences

__all__ = [
    "CTC",
    "AnyOrder",
    "Autoregressive",
    "HiddenMarkov",
    "LinearChainCRF",
    "MaskedToken",
    "Packed",
    "Preference",
    "PreferenceLikelihood",
    "Windows",
    "pack",
    "preferences",
    "span_mask",
    "windows",
]
