"""Chains of states: sums and maxima over all paths, in the semiring of logarithms.

A chain over K states and T steps is two arrays of log-potentials, `first` of shape `(*batch, K)` and
`steps` of shape `(*batch, T - 1, K, K)`; the batch axes broadcast. A path s_0, ..., s_{T-1} has the
score

    first[s_0] + sum_t steps[t, s_t, s_{t+1}],

and a potential of -inf rules a state or a step out. Hidden Markov models and linear-chain
conditional random fields are such chains, so that this room is all their arithmetic.

Sums over paths are associative products of K x K matrices, formed as a parallel prefix scan: depth
O(log T), work O(T K^3). Every partial product is kept as a scale and a matrix whose largest entry is
1, so that rounding does not grow with the score: at T = 2000 the marginals in float32 are those of
float64 to 1e-6.

Source: S. Sarkka and A. F. Garcia-Fernandez (2021), "Temporal parallelization of Bayesian smoothers",
eqs. 9 to 16; for HMMs S. Hassan, S. Sarkka and A. F. Garcia-Fernandez (2021), "Temporal
parallelization of inference in hidden Markov models".
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from likelax.numerics.indexing import pick
from likelax.numerics.logspace import entropy_term, log_softmax, logsumexp

Product = Callable[[Array, Array], Array]

# ---- products of two matrices ----


def _paired(a: Array, b: Array) -> tuple[Array, Array]:
    """a_ik + b_kj of shape (..., i, k, j), and where neither is a zero (-inf)."""
    a, b = a[..., :, :, None], b[..., None, :, :]
    return a + b, (a != -jnp.inf) & (b != -jnp.inf)


def log_matmul(a: Array, b: Array) -> Array:
    """log sum_k exp(a_ik + b_kj): `(..., I, K), (..., K, J) -> (..., I, J)`. A zero, -inf, is zero
    whatever it meets, and has no gradient.
    """
    total, alive = _paired(a, b)
    return logsumexp(total, axis=-2, where=alive)


def max_matmul(a: Array, b: Array) -> Array:
    """max_k (a_ik + b_kj): `(..., I, K), (..., K, J) -> (..., I, J)`."""
    total, alive = _paired(a, b)
    return jnp.max(jnp.where(alive, total, -jnp.inf), axis=-2)


# ---- messages along a chain ----


def _spread(first: Array, steps: Array) -> tuple[Array, Array]:
    """Both with all batch axes of the two."""
    # By adding zeros: a broadcast would forget along which mesh axes the other one is divided.
    first = first + jnp.zeros_like(jnp.sum(steps, axis=(-3, -2)))
    return first, steps + jnp.zeros_like(first)[..., None, None, :]


def _normalized(a: Array, ndims: int) -> tuple[Array, Array]:
    """(a - max, max) over the last `ndims` axes, which keep their gradient together."""
    axes = tuple(range(-ndims, 0))
    top = jax.lax.stop_gradient(jnp.max(a, axis=axes))
    top = jnp.where(jnp.isinf(top), 0, top)
    return a - jnp.expand_dims(top, axes), top


@functools.partial(jax.jit, static_argnames="product")
def forward(first: Array, steps: Array, product: Product = log_matmul) -> tuple[Array, Array]:
    """The sum over all paths that end in each state: messages `(*batch, T, K)` and their scales
    `(*batch, T)`.

    A message plus its scale is log sum exp(score) over s_0, ..., s_{t-1} with s_t = j; the
    largest message of a step is 0 (-inf where no path is possible). With `max_matmul` it is the best
    score in place of the sum.
    """
    first, steps = _spread(first, steps)

    def combine(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        matrix, top = _normalized(product(a[0], b[0]), 2)
        return matrix, a[1] + b[1] + top

    prefix, scale = jax.lax.associative_scan(combine, _normalized(steps, 2), axis=first.ndim - 1)
    start, start_scale = _normalized(first, 1)
    later = product(start[..., None, None, :], prefix)[..., 0, :]
    out, tops = _normalized(jnp.concatenate([start[..., None, :], later], axis=-2), 1)
    none = jnp.zeros_like(start_scale)[..., None]
    return out, tops + start_scale[..., None] + jnp.concatenate([none, scale], axis=-1)


def _turned(steps: Array) -> Array:
    """The steps of the chain read from its end."""
    return jnp.flip(jnp.swapaxes(steps, -1, -2), axis=-3)


def backward(steps: Array, product: Product = log_matmul) -> Array:
    """The sum over all paths that go on from each state to the end, `(*batch, T, K)`, up to a
    constant per step. With `max_matmul` it is the best score.
    """
    last = jnp.zeros((*steps.shape[:-3], steps.shape[-1]), steps.dtype)
    return jnp.flip(forward(last, _turned(steps), product)[0], axis=-2)


def messages(first: Array, steps: Array) -> tuple[Array, Array]:
    """Those of `forward` (without their scales) and of `backward`, `(*batch, T, K)` each."""
    # One scan for the two: half the time to compile.
    first, steps = _spread(first, steps)
    firsts, both = jnp.stack([first, jnp.zeros_like(first)]), jnp.stack([steps, _turned(steps)])
    alpha, beta = forward(firsts, both)[0]
    return alpha, jnp.flip(beta, axis=-2)


def marginals(first: Array, steps: Array) -> Array:
    """Logits of the state at each step, `(*batch, T, K)`: p(s_t) is their softmax."""
    alpha, beta = messages(first, steps)
    return alpha + beta


def pairs(alpha: Array, steps: Array, beta: Array) -> Array:
    """Logits of the states at each step and the next, `(*batch, T - 1, K, K)`."""
    return alpha[..., :-1, :, None] + steps + beta[..., 1:, None, :]


@jax.custom_jvp
def _log_normalizer(first: Array, steps: Array) -> Array:
    alpha, scales = forward(first, steps)
    return logsumexp(alpha[..., -1, :]) + scales[..., -1]


@_log_normalizer.defjvp
def _log_normalizer_jvp(primals, tangents):
    """sum_t sum_ij p(s_t = i, s_{t+1} = j) dsteps[t, i, j], and the like of the first.

    Memory O(T K^2), where autodiff of the scan would keep O(T K^3). The probabilities are normalised
    at each step, so that they do not have the rounding of a long sum.
    """
    (first, steps), (d_first, d_steps) = primals, tangents
    alpha, beta = messages(first, steps)
    one = jnp.exp(log_softmax(alpha[..., 0, :] + beta[..., 0, :]))
    logits = pairs(alpha, steps, beta)
    flat = logits.reshape((*logits.shape[:-2], logits.shape[-1] ** 2))
    two = jnp.exp(log_softmax(flat)).reshape(logits.shape)
    # A path of probability zero must not poison the sum, whatever its own tangent is.
    change = jnp.sum(one * jnp.where(one == 0, 0, d_first), axis=-1)
    change += jnp.sum(two * jnp.where(two == 0, 0, d_steps), axis=(-3, -2, -1))
    return _log_normalizer(first, steps), change


@jax.jit
def log_normalizer(first: Array, steps: Array) -> Array:
    """log sum exp(score) over all paths, `(*batch)`; -inf with zero gradient when none is possible.

    Its gradient is the marginal probabilities of states and steps.
    """
    return _log_normalizer(first, steps)


# ---- paths ----


@jax.jit
def path_score(first: Array, steps: Array, path: Array) -> Array:
    """The score of a path `(*sample, *batch, T)` of integers, `(*sample, *batch)`."""
    rows = pick(path[..., :-1], steps, axis=-2)
    return pick(path[..., 0], first) + jnp.sum(pick(path[..., 1:], rows), axis=-1)


def conditionals(first: Array, steps: Array, product: Product = log_matmul) -> tuple[Array, Array]:
    """The chain as a Markov chain that is read from the front: logits of s_0, `(*batch, K)`, and of
    s_{t+1} given s_t, `(*batch, T - 1, K, K)`.

    With `max_matmul`: the score of the best path from each state on, in place of logits.
    """
    beta = backward(steps, product)
    return first + beta[..., 0, :], steps + beta[..., 1:, None, :]


@jax.custom_jvp
def _log_prob(first: Array, steps: Array, path: Array) -> Array:
    start, moves = conditionals(first, steps)
    return path_score(log_softmax(start), log_softmax(moves), path)


@_log_prob.defjvp
def _log_prob_jvp(primals, tangents):
    """Expected counts: those of the path less the marginals."""
    path = primals[2]

    def difference(first: Array, steps: Array) -> Array:
        return path_score(first, steps, path) - log_normalizer(first, steps)

    return _log_prob(*primals), jax.jvp(difference, primals[:2], tangents[:2])[1]


@jax.jit
def log_prob(first: Array, steps: Array, path: Array) -> Array:
    """score(path) - log_normalizer, the log-probability of a path `(*sample, *batch, T)` of integers,
    `(*sample, *batch)`; gradients are the path's counts less the marginals.
    """
    # A sum of conditional log-probabilities, because the difference of two long sums has an error of
    # their size: at T = 2000 and log Z = 24,489, a path of log-probability -0.42654 is -0.42383 by
    # that, in float32.
    return _log_prob(first, steps, path)


def _walk(
    choose: Callable[[Array, Array], Array], first: Array, steps: Array, keys: Array
) -> Array:
    """A path, step by step: `choose(key, logits)` takes each state. `(*shape, *batch, T)`."""

    def step(state: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        matrix, key = inputs
        state = choose(key, pick(state, matrix, axis=-2))
        return state, state

    start = choose(keys[0], first)
    _, later = jax.lax.scan(step, start, (jnp.moveaxis(steps, -3, 0), keys[1:]))
    return jnp.moveaxis(jnp.concatenate([start[None], later]), 0, -1)


@jax.jit
def best_path(first: Array, steps: Array) -> Array:
    """The path of the highest score, int32 `(*batch, T)` (Viterbi 1967); of equals, the one with the
    lowest first state that differs.
    """
    first, steps = jax.lax.stop_gradient(_spread(first, steps))
    first, steps = conditionals(first, steps, max_matmul)

    def choose(_: Array, logits: Array) -> Array:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)

    return _walk(choose, first, steps, jnp.zeros(steps.shape[-3] + 1))


@functools.partial(jax.jit, static_argnames="shape")
def sample_path(key: Array, first: Array, steps: Array, shape: tuple[int, ...] = ()) -> Array:
    """Paths of a Markov chain, int32 `(*shape, *batch, T)`: its logits as `conditionals` gives them."""
    first, steps = jax.lax.stop_gradient(_spread(first, steps))

    def choose(key: Array, logits: Array) -> Array:
        drawn = jax.random.categorical(key, logits, shape=shape + first.shape[:-1])
        return drawn.astype(jnp.int32)

    return _walk(choose, first, steps, jax.random.split(key, steps.shape[-3] + 1))


@jax.jit
def entropy(first: Array, steps: Array) -> Array:
    """-E[log p(path)] in nats, `(*batch)`: H(s_0) + sum_t E[H(s_{t+1} | s_t)]."""
    # A sum of entropies loses no digits; log Z - E[score] would, of two long sums.
    start, moves = conditionals(first, steps)
    states = jnp.exp(log_softmax(marginals(first, steps)))

    def of(logits: Array) -> Array:
        return jnp.sum(entropy_term(log_softmax(logits)), axis=-1)

    return of(start) + jnp.sum(states[..., :-1, :] * of(moves), axis=(-2, -1))
