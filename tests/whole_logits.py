"""A vocabulary's logits that are all there: the truth that tiles are held against."""

import jax
import jax.numpy as jnp
import numpy as np

FEATURES, COLUMNS = 6, 53


def inputs(rng, batch, dtype=np.float32):
    """(hidden, kernel, bias) and tokens."""
    hidden = rng.normal(size=(*batch, FEATURES))
    kernel, bias = rng.normal(size=(FEATURES, COLUMNS)), rng.normal(size=COLUMNS)
    token = rng.integers(0, COLUMNS, batch)
    return [jnp.asarray(x, dtype) for x in (hidden, kernel, bias)], jnp.asarray(token)


def whole(hidden, kernel, bias, token, softcap=None):
    """The numbers of a `Summary`."""
    logits = jnp.einsum("...d,dv->...v", hidden, kernel)
    logits = logits if bias is None else logits + bias
    logits = logits if softcap is None else softcap * jnp.tanh(logits / softcap)
    log_normalizer = jax.nn.logsumexp(logits, axis=-1)
    log_p = logits - log_normalizer[..., None]
    chosen = jnp.take_along_axis(log_p, token[..., None], axis=-1)[..., 0]
    p = jnp.exp(log_p)
    return chosen, log_normalizer, log_p.mean(-1), -jnp.sum(jnp.where(p > 0, p * log_p, 0), -1)


def close(got, want, tolerance):
    """Within `tolerance` of the largest element of each array, or of 1."""
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        w = np.asarray(w, np.float64)
        np.testing.assert_allclose(
            np.asarray(g, np.float64), w, rtol=0, atol=tolerance * max(1, np.abs(w).max())
        )


def exact(function, *args):
    """`function` in float64 of the very same numbers."""
    with jax.enable_x64(True):
        return jax.tree.map(
            np.asarray, function(*(jnp.asarray(np.asarray(a, np.float64)) for a in args))
        )


def equations(jaxpr):
    """Every equation of a program, those of inner programs too."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jax.tree.leaves(
            list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def largest(function, *args):
    """The most elements that any array has anywhere in the program."""
    found = equations(jax.make_jaxpr(function)(*args).jaxpr)
    return max(v.aval.size for eqn in found for v in eqn.outvars if hasattr(v.aval, "size"))


def products(function, *args):
    """How many matrix products the program has, once what nobody uses is left out."""
    found = equations(jax.jit(function).trace(*args).jaxpr.jaxpr)
    return sum(eqn.primitive.name == "dot_general" for eqn in found)
