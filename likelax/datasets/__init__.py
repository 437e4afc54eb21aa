"""Real data: tables that installed packages carry, texts, and batches of a fixed size.

```python
visits = lx.datasets.doctor_visits().standardized()
train = lx.datasets.batches(visits.train, 256, jax.random.key(0), endless=True)
test = lx.datasets.batches(visits.test, 1024)            # in order, last batch masked
words = lx.datasets.text()                               # the best that can be had: see .source
```
"""

from ._dataset import Dataset as Dataset
from ._dataset import Standardizer as Standardizer
from .batching import Batches as Batches
from .batching import batches as batches
from .tables import breast_cancer as breast_cancer
from .tables import diabetes as diabetes
from .tables import digits as digits
from .tables import doctor_visits as doctor_visits
from .tables import engel as engel
from .tables import sunspots as sunspots
from .texts import Text as Text
from .texts import python_docs as python_docs
from .texts import shakespeare as shakespeare
from .texts import text as text
from .texts import tiny_shakespeare as tiny_shakespeare

__all__ = [
    "Batches",
    "Dataset",
    "Standardizer",
    "Text",
    "batches",
    "breast_cancer",
    "diabetes",
    "digits",
    "doctor_visits",
    "engel",
    "sunspots",
    "python_docs",
    "shakespeare",
    "text",
    "tiny_shakespeare",
]
