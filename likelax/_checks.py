"""Checks of values on request, and the wording that every error here shares.

Shapes, dtypes and static values are always checked, where they are used. Checks of *values* need
the numbers, which `jit` does not have while it traces; they run only under `debug_checks`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import checkify

# None: off. "raise": concrete values are looked at and raise. "emit": traced for checkify.
_MODE: ContextVar[str | None] = ContextVar("likelax_debug_checks", default=None)


def checking() -> bool:
    """Whether value checks are on here."""
    return _MODE.get() is not None


def emitting() -> bool:
    """Whether the code being traced here is functionalised by checkify."""
    return _MODE.get() == "emit"


@contextlib.contextmanager
def _mode(mode: str | None) -> Iterator[None]:
    token = _MODE.set(mode)
    try:
        yield
    finally:
        _MODE.reset(token)


def checked(function: Callable[..., Any], **jit_options: Any) -> Callable[..., Any]:
    """`jax.jit(function)` with every value check inside it; the first that fails raises."""

    # A fresh function: jit's cache must not hand back what was traced with the checks off.
    @functools.wraps(function)
    def emitting_function(*args: Any, **kwargs: Any) -> Any:
        with _mode("emit"):
            return function(*args, **kwargs)

    compiled = jax.jit(checkify.checkify(emitting_function), **jit_options)

    @functools.wraps(function)
    def raising_function(*args: Any, **kwargs: Any) -> Any:
        error, out = compiled(*args, **kwargs)
        error.throw()
        return out

    return raising_function


def debug_checks(function: Callable[..., Any] | None = None) -> Any:
    """Check values too: parameters and targets against their supports, by index and value.

    Two ways to use it::

        with lx.debug_checks():          # eager code, and objectives called in it
            loss, aux = model(params, key, batch)

        step = lx.debug_checks(step)     # a function of yours: it is compiled with its checks

    Inside a `jax.jit` of your own the second form is the one that works: the checks must be
    functionalised by `jax.experimental.checkify`, which it does.

    Raises:
      ValueError: from eager code whose values are outside a support.
      jax.experimental.checkify.JaxRuntimeError: the same, found in compiled code (a ValueError
      too).
    """
    return _mode("raise") if function is None else checked(function)


def check_values(good: jax.Array, values: jax.Array, message: str) -> None:
    """Raises or emits `message` with the index and the value of the first that is not good.

    Does nothing when checks are off, or in code that `jit` traces without checkify.

    Args:
      good: boolean, a prefix of the shape of `values`.
      values: the numbers that were looked at.
      message: has the places `{index}` and `{value}`.
    """
    if not checking():
        return
    good = jnp.asarray(good)
    first = jnp.argmin(good.reshape(-1))
    bad_value = values.reshape((good.size, -1))[first]
    bad_value = bad_value[0] if bad_value.size == 1 else bad_value
    index = jnp.unravel_index(first, good.shape)
    if emitting():
        axes = {f"axis{i}": along for i, along in enumerate(index)}
        places = ", ".join(f"{{{name}}}" for name in axes)
        template = message.replace("{index}", f"index ({places})")
        checkify.check(jnp.all(good), template, value=bad_value, **axes)  # type: ignore[arg-type]
    elif not isinstance(good, jax.core.Tracer) and not bool(jnp.all(good)):
        at = f"index ({', '.join(str(int(i)) for i in index)})"
        raise ValueError(message.format(index=at, value=bad_value))
