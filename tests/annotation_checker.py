"""What executes the annotations of likelax: beartype, for each function that it can read.

jaxtyping hands over one function at a time, and beartype knows `Self` only inside whole classes:
such a hint alone is left out, the others of its function are checked.
"""

import re
from collections.abc import Callable

from beartype import BeartypeConf, beartype

# An int will do where a float is asked for (PEP 484).
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_SELF = re.compile(r"\bSelf\b")


def check_annotations(function: Callable) -> Callable:
    """`function`, checking what it is given and returns."""
    hints = getattr(function, "__annotations__", {})
    for name in [name for name, hint in hints.items() if _SELF.search(str(hint))]:
        del hints[name]
    return _check(function)
