"""Optional packages: imported where they are used, and named with the line that installs them."""

import importlib
from typing import Any

__all__ = ["require"]


def require(module: str, extra: str) -> Any:
    """Import and return `module`, which the extra `extra` of likelax installs.

    Raises:
        ImportError: the package is not installed; the message is the line that installs it. A
            package that is there but itself fails to import raises its own error.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise ImportError(
            f"this part of likelax needs {package}, which is not installed. "
            f'Install it with:\n\n    pip install "likelax[{extra}]"\n',
            name=module,
        ) from error
