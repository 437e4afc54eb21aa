"""Checks of values on request.

Shapes, dtypes and static values are always checked, where they are used. Checks of *values* need
the numbers, which `jit` does not have while it traces; they run only under `debug_checks`. A few
that are cheap, and whose failure nothing else would show, run in eager code always: `check_known`.
"""

from __future__ import annotations

import contextlib
import functools
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any, TypeGuard

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax.experimental import checkify

# None: off. "raise": values are looked at and raise, traced ones by a call back to the host. "emit":
# traced for checkify. A part of jit's cache key: what was compiled with other checks is not used.
_mode = jax.make_user_context(default_value=None)


def is_count(x: Any) -> bool:
    """Whether x is a whole number of 1 or more, Python's or NumPy's."""
    return isinstance(x, int | np.integer) and not isinstance(x, bool) and bool(x >= 1)


def is_number(x: Any) -> TypeGuard[float]:
    """Whether x is one real number that is known: neither text, nor a truth value, nor NaN."""
    if isinstance(x, str | bytes | bool):
        return False
    try:
        return not math.isnan(float(x))
    except (TypeError, ValueError):
        return False


def are_numbers(*xs: Any) -> bool:
    """Whether each is one real number that is known."""
    return all(map(is_number, xs))


def checking() -> bool:
    """Whether value checks are on here."""
    return _mode.value is not None


def emitting() -> bool:
    """Whether the code being traced here is functionalised by checkify."""
    return _mode.value == "emit"


@contextlib.contextmanager
def _raising() -> Iterator[None]:
    with _mode("raise"):
        yield
        jax.effects_barrier()  # what compiled code has found is raised in here


def checked(function: Callable[..., Any], **jit_options: Any) -> Callable[..., Any]:
    """`jax.jit(function)` with every value check inside it; the first that fails raises."""

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
    """Check values too: parameters and an objective's targets against their supports.

    Two ways to use it::

        with lx.debug_checks():          # whatever runs in it: eager code, objectives, lx.train.fit,
            loss, aux = step(params)     # functions of yours under jit, which are compiled anew

        step = lx.debug_checks(step)     # a function of yours: it is compiled with its checks

    The error names what is wrong by index and value. In code that a `jax.jit` of your own compiles,
    the first form looks at values on the host (inside `vmap` the index is the one within an
    element); the second functionalises the checks with `jax.experimental.checkify` and needs none.

    A distribution's own `log_prob` of a value outside the support is -inf, and no error, here too.

    Raises:
      ValueError: from eager code whose values are outside a support.
      jax.experimental.checkify.JaxRuntimeError: the same, found by an objective or in a function of
        the second form (a ValueError too).
      jax.errors.JaxRuntimeError: the same, found in code under a `jax.jit` of your own.
    """
    return _raising() if function is None else checked(function)


def check_known(good: jax.Array, values: jax.Array, message: str) -> None:
    """As `check_values`, and where the numbers are known, in eager code, with checks off, too."""
    if isinstance(good, jax.core.Tracer):
        check_values(good, values, message)
        return
    with jax.ensure_compile_time_eval():
        if not jnp.all(good):
            with _mode("raise"):
                check_values(good, values, message)


def check_values(good: jax.Array, values: jax.Array, message: str) -> None:
    """Raises or emits `message` with the index and the value of the first that is not good.

    Does nothing when checks are off.

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
        return

    def look(good: Any, index: Any, value: Any) -> None:
        if not good:
            at = f"index ({', '.join(str(int(i)) for i in index)})"
            raise ValueError(message.format(index=at, value=value))

    run = jax.debug.callback if isinstance(good, jax.core.Tracer) else lambda f, *args: f(*args)
    run(look, jnp.all(good), index, bad_value)


def as_shape(method: str, shape: Any) -> tuple[Any, ...]:
    """The shape of samples; raises ValueError for one that is none."""
    try:
        sizes = (shape,) if hasattr(shape, "__index__") and jnp.ndim(shape) == 0 else tuple(shape)
        # A size that a `jax.export` leaves open stays.
        whole = tuple(s if jax.export.is_symbolic_dim(s) else operator.index(s) for s in sizes)
    except TypeError:
        whole = (-1,)
    if any(isinstance(size, int) and size < 0 for size in whole):
        raise ValueError(
            f"{method}: a shape of whole numbers wanted, got {shape!r}; write 25 or (25, 3)"
        )
    return whole


def sample_shape(owner: str, shape: int | tuple[int, ...], input: Any) -> tuple[int, ...]:
    """The shape of samples.

    Raises:
      ValueError: for one that is none, and an input that is not one for each sample.
    """
    shape = as_shape(f"{owner}.sample", shape)
    count = math.prod(shape)
    for leaf in jax.tree.leaves(input):
        if jnp.shape(leaf)[:1] != (count,):
            raise ValueError(
                f"{owner}.sample: {count} samples want an input of shape ({count}, ...), got "
                f"{jnp.shape(leaf)}; write jnp.broadcast_to(input, ({count}, ...))"
            )
    return shape
