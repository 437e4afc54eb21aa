"""Which of a test's parameters take long."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def marked(parameters: Iterable[Any], slow: Collection[str], name=str) -> list[Any]:
    """The parameters, those whose names are `slow` with the mark that `make test` leaves out."""
    parameters = list(parameters)
    unknown = set(slow) - {name(parameter) for parameter in parameters}
    if unknown:
        raise ValueError(f"no such parameters: {sorted(unknown)}")
    return [
        pytest.param(
            parameter, id=name(parameter), marks=[pytest.mark.slow] * (name(parameter) in slow)
        )
        for parameter in parameters
    ]
