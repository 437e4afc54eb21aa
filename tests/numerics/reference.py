"""Functions against mpmath: values, gradients and Hessians in eps of the dtype."""

import functools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

INF = float("inf")
DTYPES = [np.float32, np.float64]


@functools.cache
def _loggamma(x, digits):
    return mp.loggamma(x)


def loggamma(x):
    """mpmath's, remembered: differencing asks again and again."""
    return _loggamma(x, mp.mp.dps)


def partial(f, args, i):
    """df/dx_i by central differences, steps of 10^-(digits / 8): the error is their square."""
    h = (abs(args[i]) or mp.mpf(1)) * mp.mpf(10) ** -(mp.mp.dps // 8)
    up, down = ([*args[:i], args[i] + s * h, *args[i + 1 :]] for s in (1, -1))
    return (f(*up) - f(*down)) / (2 * h)


def second(f, args, i, j):
    return partial(lambda *a: partial(f, a, j), args, i)


def worst(got, want, dtype, floor):
    """The largest error over eps * max(floor, |want|), and where it is; floor is a number or one
    each.
    """
    info = np.finfo(dtype)
    noise = mp.mpf(10) ** -(mp.mp.dps // 5)  # what differencing leaves of a zero
    want = [mp.mpf(0) if g == 0 and abs(w) < noise else w for g, w in zip(got, want, strict=True)]
    floors = np.broadcast_to(floor, len(want)).tolist()
    # Results near the smallest float are denormal or flushed to 0.
    scales = [
        max(abs(w), f, float(info.tiny) / float(info.eps))
        for w, f in zip(want, floors, strict=True)
    ]
    errors = [
        float(abs(mp.mpf(float(g)) - w) / (float(info.eps) * s))
        for g, w, s in zip(got, want, scales, strict=True)
    ]
    errors = [e if e == e else INF for e in errors]
    i = int(np.argmax(errors))
    return errors[i], i


def run(f, points, dtype, argnums=None):
    """Value, gradient, Hessian and jvp of f at the points, jitted and mapped: one compile."""
    argnums = tuple(range(len(points))) if argnums is None else argnums

    def everything(*args):
        tangents = tuple(jnp.full_like(a, i in argnums) for i, a in enumerate(args))
        hessian, (value, gradient) = second_order(f, args, argnums)
        return value, gradient, hessian, jax.jvp(f, args, tangents)[1]

    with jax.enable_x64(dtype == np.float64):
        out = jax.jit(jax.vmap(everything))(*(jnp.asarray(p, dtype) for p in points))
        return jax.tree.map(np.asarray, out)


def second_order(f, args, argnums):
    """(Hessian, (value, gradient)) of one trace: programs of their own would be compiled apart."""

    def first_order(*args):
        value, gradient = jax.value_and_grad(f, argnums)(*args)
        return gradient, (value, gradient)

    return jax.jacfwd(first_order, argnums, has_aux=True)(*args)


def pick(floors, *indices):
    for i in indices:
        floors = floors[i] if isinstance(floors, tuple) else floors
    return floors


def check(
    f,
    reference,
    points,
    dtype,
    *,
    value=8.0,
    slope=32.0,
    curve=64.0,
    floors=(1, 0, 0),
    digits=200,
    argnums=None,
):
    """Assert that f and its derivatives are within so many eps of the reference at the points.

    Errors are counted in eps * max(floor, |truth|); the floors of value, gradient and Hessian are
    the natural scales of what may be zero: a number, an array with one for each point, or a tuple
    (of tuples) of them, one for each (pair of) differentiated arguments. Second derivatives beyond the largest float are left
    out. `argnums` chooses the arguments that are differentiated.
    """
    points = np.asarray(points, dtype).T
    argnums = tuple(range(len(points))) if argnums is None else argnums
    got, gradient, hessian, forward = run(f, points, dtype, argnums)
    largest, eps = float(np.finfo(dtype).max), float(np.finfo(dtype).eps)
    with mp.workdps(digits):
        exact = [[mp.mpf(float(c)) for c in p] for p in points.T]
        error, i = worst(got, [reference(*p) for p in exact], dtype, floors[0])
        assert error <= value, ("value", error, points[:, i], got[i])
        for k, arg in enumerate(argnums):
            want = [partial(reference, p, arg) for p in exact]
            error, i = worst(gradient[k], want, dtype, pick(floors[1], k))
            told = (error, points[:, i], gradient[k][i], mp.nstr(want[i], 12))
            assert error <= slope, ("gradient", k, *told)
            for j, other in enumerate(argnums[: k + 1]):
                want = [second(reference, p, arg, other) for p in exact]
                keep = [n for n, w in enumerate(want) if abs(w) < largest]
                want = [want[n] for n in keep]
                floor = np.broadcast_to(pick(floors[2], k, j), len(exact))[keep]
                for entry in (hessian[k][j], hessian[j][k]):
                    error, i = worst(entry[keep], want, dtype, floor)
                    told = (error, points[:, keep[i]], entry[keep[i]], mp.nstr(want[i], 12))
                    assert error <= curve, ("hessian", k, j, *told)
    scale = np.maximum(1.0, sum(np.abs(g) for g in gradient))
    np.testing.assert_array_less(np.abs(forward - sum(gradient)) / scale, 8 * eps)


def check_fails(*args, **kwargs):
    """Assert that `check` with these arguments finds f wrong."""
    with pytest.raises(AssertionError, match="value|gradient|hessian"):
        check(*args, **kwargs)


def all_derivatives(f, *args):
    """f and (jvps, gradients, Hessians), as floats come: for edges, where there must be no NaN."""

    def everything(*args):
        argnums = tuple(range(len(args)))
        ones = tuple(jnp.ones_like(a) for a in args)
        first = (ones[0], *(jnp.zeros_like(a) for a in args[1:]))
        forward = jax.vmap(lambda *t: jax.jvp(f, args, t)[1])(
            *(jnp.stack(p) for p in zip(ones, first, strict=True))
        )
        hessian, (value, gradient) = second_order(f, args, argnums)
        return value, (forward, gradient, hessian)

    return jax.jit(jax.vmap(everything))(*args)
