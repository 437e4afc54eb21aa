"""Real data that installed packages carry, and batches of a fixed size from arrays in memory.

```python
visits = lx.datasets.doctor_visits().standardized()
train = lx.datasets.batches(visits.train, 256, jax.random.key(0), endless=True)
test = lx.datasets.batches(visits.test, 1024)            # in order, last batch masked
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

__all__ = [
    "Batches",
    "Dataset",
    "Standardizer",
    "batches",
    "breast_cancer",
    "diabetes",
    "digits",
    "doctor_visits",
    "engel",
]
