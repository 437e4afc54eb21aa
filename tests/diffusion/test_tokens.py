"""Diffusion of tokens against a joint table of two of them, where all is known by enumeration."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import likelax as lx
from likelax.testing.subject import quick_jit

KEY = jax.random.key(11)
V = 3
TABLE = np.array([[0.30, 0.02, 0.08], [0.05, 0.20, 0.01], [0.04, 0.06, 0.24]])
STATES = np.array(list(itertools.product(range(V), repeat=2)))
NLL = -np.log(TABLE.reshape(-1))
FIRST, SECOND = TABLE.sum(1), TABLE.sum(0)


def log_conditionals():
    """log p(x_n | the other) for each position, `(V + 1, V)`: the last row where it is hidden."""
    first = np.vstack([(TABLE / SECOND).T, FIRST])
    second = np.vstack([TABLE / FIRST[:, None], SECOND])
    return np.log(first), np.log(second)


def net(apply):
    return lambda key, *_: {}, lambda params, z, level, *_: apply(z, level)


def unmask(z, level):
    """The exact conditionals."""
    first, second = map(jnp.asarray, log_conditionals())
    return jnp.stack([first[z[:, 1]], second[z[:, 0]]], axis=1)


def mend(z, level, sees_itself=False):
    """The exact p(x_n | z), the token's own z left out as the reverse process wants it."""
    alpha, table = 1 - level, jnp.asarray(TABLE)
    seen = alpha[:, None, None] * jnp.eye(V) + (1 - alpha[:, None, None]) / V  # q(z | x)
    q = jnp.take_along_axis(seen, z[:, None, :], axis=2)  # (batch, x, position)
    first = jnp.einsum("xy,by->bx", table, q[:, :, 1])
    second = jnp.einsum("xy,bx->by", table, q[:, :, 0])
    both = jnp.stack([first, second], axis=1)
    return jnp.log(both * jnp.swapaxes(q, 1, 2) if sees_itself else both)


MASKED = lx.diffusion.MaskedDiffusion(net(unmask), V)
UNIFORM = lx.diffusion.UniformDiffusion(net(mend), V)
DRAWS = 600
ROWS = np.tile(STATES, (DRAWS, 1))


@functools.cache
def masked_costs():
    """Each state's cost in each draw, `(DRAWS, states)`, in continuous time (0) and of chains."""
    models = {n: lx.diffusion.MaskedDiffusion(net(unmask), V, steps=n or None) for n in range(3)}

    def ask(key):
        batch = lx.Batch(ROWS)
        return {k: m({}, key, batch)[1].per_example for k, m in models.items()}

    with jax.enable_x64(True):
        found = quick_jit(ask)(KEY)
        return {k: np.asarray(v).reshape(DRAWS, -1) for k, v in found.items()}


def test_masked_bound_at_the_exact_conditionals_is_the_nll():
    costs = masked_costs()[0]
    first, second = log_conditionals()
    for (a, b), nll, each in zip(STATES, NLL, costs.T, strict=True):
        # One token is hidden, of half the draws, and costs twice its own; or both are.
        one = -2 * first[b, a], -2 * second[a, b]
        both = -first[V, a] - second[V, b]
        np.testing.assert_allclose(
            np.unique(np.round(each, 9)), np.unique(np.round([*one, both], 9))
        )
        np.testing.assert_allclose(0.5 * both + 0.25 * sum(one), nll, rtol=1e-12)
        for value, share in ((both, 0.5), (one[0], 0.25), (one[1], 0.25)):
            found = np.mean(np.abs(each - value) < 1e-9)
            assert abs(found - share) < 4 * np.sqrt(share * (1 - share) / DRAWS)
    error = costs.std(0) / np.sqrt(DRAWS)
    assert np.all(np.abs(costs.mean(0) - NLL) < 4 * error) and np.all(error < 0.2)


def test_a_chain_costs_more_the_fewer_its_steps():
    costs = masked_costs()
    first, second = log_conditionals()
    a, b = STATES.T
    alone = -first[V, a] - second[V, b]
    np.testing.assert_allclose(costs[1], np.tile(alone, (DRAWS, 1)), rtol=1e-12)
    # At t = 1/2 each is hidden with probability 1/2, and appears; at t = 1 half of all appear.
    seen = 0.25 * (alone - first[b, a] - second[a, b])
    want = seen + 0.5 * alone
    error = costs[2].std(0) / np.sqrt(DRAWS)
    assert np.all(np.abs(costs[2].mean(0) - want) < 4 * error)
    p = TABLE.reshape(-1)
    assert p @ alone > p @ want + 0.05 > p @ NLL + 0.1


def quadrature(model, net, flaw=lambda cost: cost):
    """The uniform bound of each state, by the sum over all z and Gauss-Legendre over times."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    w = 0.5 * (nodes + 1)
    u, du = w**3, 1.5 * w**2 * weights  # u log u at 0 is no polynomial
    x, z, u = (np.ravel(m) for m in np.meshgrid(range(9), range(9), u, indexing="ij"))

    def ask(u):
        gamma, rate = jax.jvp(lambda u: model.schedule.gamma(u, 1 - u), (u,), (jnp.ones_like(u),))
        alpha = jax.nn.sigmoid(-gamma)
        xs, zs = jnp.asarray(STATES[x]), jnp.asarray(STATES[z])
        cost = flaw(model._cost(xs, zs, net(zs, 1 - alpha), gamma, rate))
        q = jnp.where(xs == zs, alpha[:, None], 0) + (1 - alpha[:, None]) / V
        return jnp.prod(q, axis=1) * jnp.sum(cost, axis=1)

    each = np.asarray(quick_jit(ask)(u)).reshape(9, 9, -1)
    return each.sum(1) @ du


def test_uniform_bound_at_the_exact_predictions_is_the_nll():
    with jax.enable_x64(True):
        np.testing.assert_allclose(quadrature(UNIFORM, mend), NLL, rtol=1e-8)
        # The controls: a token's own z counted twice, and factors forgotten.
        itself = functools.partial(mend, sees_itself=True)
        assert TABLE.reshape(-1) @ (quadrature(UNIFORM, itself) - NLL) > 0.05
        for flaw in (lambda c: c / V, lambda c: 0.5 * c):
            with pytest.raises(AssertionError, match="Mismatched elements"):
                np.testing.assert_allclose(quadrature(UNIFORM, mend, flaw), NLL, rtol=1e-2)


def test_uniform_draws_average_to_it():
    aux = quick_jit(UNIFORM)({}, KEY, lx.Batch(ROWS))[1]
    each = np.asarray(aux.per_example, np.float64).reshape(DRAWS, -1)
    error = each.std(0) / np.sqrt(DRAWS)
    assert np.all(np.abs(each.mean(0) - NLL) < 4 * error) and np.all(error < 0.5)
    assert aux.claim == lx.Claim("upper", measure=lx.Measure("counting", 2))
    assert aux.terms["prior"] == 0


def test_a_schedule_that_ends_before_noise_has_a_prior_term():
    model = lx.diffusion.UniformDiffusion(net(mend), V, schedule=lx.diffusion.Karras(rho=2.0))
    alpha = 0.5  # gamma = 0 at the end
    y = np.full(V, (1 - alpha) / V) + alpha * np.eye(V)[0]
    want = 2 * np.sum(y * np.log(V * y))
    terms = quick_jit(model)({}, KEY, lx.Batch(STATES))[1].terms
    np.testing.assert_allclose(terms["prior"], want, rtol=1e-5)


SAMPLERS = {
    "masked": (MASKED, None, TABLE),
    "masked in one step": (MASKED, 1, np.outer(FIRST, SECOND)),
    "uniform": (UNIFORM, 100, TABLE),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_have_the_law_of_the_model(name):
    model, steps, table = SAMPLERS[name]
    n = 6000
    tokens = np.asarray(model.sample({}, KEY, (2, n // 2), event_shape=2, steps=steps))
    assert tokens.shape == (2, n // 2, 2) and tokens.dtype == np.int32
    share = np.bincount(tokens.reshape(n, 2) @ [V, 1], minlength=9) / n
    p = table.reshape(-1)
    assert np.all(np.abs(share - p) < 4 * np.sqrt(p * (1 - p) / n))
    other = np.outer(FIRST, SECOND) if table is TABLE else TABLE  # the control
    assert np.any(np.abs(share - other.reshape(-1)) > 8 * np.sqrt(p * (1 - p) / n))


def test_bounds_are_taken_with_errors():
    found = lx.diffusion.bound(MASKED, {}, KEY, lx.Batch(STATES), num_samples=400)
    assert np.all(np.abs(found.per_example - NLL) < 4 * found.sampling_error)
    bits = lx.bits_per_dim(found)
    np.testing.assert_allclose(float(bits), found.loss / (2 * np.log(2)), rtol=1e-6)
    assert str(bits).endswith("(upper bound)")


def test_state_input_and_masked_examples():
    def apply(params, z, level, input):
        return jnp.zeros((*z.shape, V)) + params["w"] * input[:, None, None] + level[:, None, None]

    model = lx.diffusion.MaskedDiffusion((lambda key, *_: {"w": jnp.ones(V)}, apply), V)
    x = STATES.copy()
    x[2] = -100
    batch = lx.Batch(x, input=np.arange(9.0), mask=np.arange(9) != 2)

    @quick_jit
    def ask(key, batch):
        params, state = model.init(key, batch)
        return jax.value_and_grad(model, has_aux=True)(params, key, batch, state=state)

    (loss, aux), grads = ask(KEY, batch)
    assert np.isfinite(loss) and aux.per_example[2] == 0 and np.all(np.isfinite(grads["w"]))
    bad = lx.Batch(x, input=batch.input)
    assert quick_jit(model)({"w": jnp.ones(V)}, KEY, bad)[1].per_example[2] == np.inf
    with pytest.raises(ValueError, match=r"3 samples want an input of shape \(3, ...\)"):
        model.sample({"w": jnp.ones(V)}, KEY, 3, event_shape=2, input=np.zeros(2))


FLAT = net(lambda z, level: jnp.zeros((*z.shape, V - 1)))
BAD = {
    "a token too large": (
        MASKED,
        STATES + 1,
        ValueError,
        r"at index \(2, 1\) the target is 3, none",
    ),
    "a negative one": (
        UNIFORM,
        STATES - 1,
        ValueError,
        r"the target is -1, none of the tokens 0..2",
    ),
    "real numbers": (MASKED, STATES / 2, TypeError, r"write target.astype\(int\)"),
    "no event": (MASKED, STATES[:, 0], ValueError, r"write target\[None\]"),
    "logits": (lx.diffusion.MaskedDiffusion(FLAT, V), STATES, ValueError, "last layer 3 outputs"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_batches_are_told(name):
    model, target, error, match = BAD[name]
    with pytest.raises(error, match=match):
        model({}, KEY, lx.Batch(target))


def test_bad_options_are_told():
    masked, uniform = lx.diffusion.MaskedDiffusion, lx.diffusion.UniformDiffusion
    with pytest.raises(ValueError, match="steps is a whole number >= 1"):
        masked(FLAT, V, steps=0)
    with pytest.raises(ValueError, match="num_tokens is a whole number >= 2, got 1"):
        uniform(FLAT, 1)
    with pytest.raises(ValueError, match="does not begin at the data"):
        uniform(FLAT, V, schedule=lx.diffusion.Linear())
    with pytest.raises(ValueError, match="does not begin at the data"):
        uniform(FLAT, V, schedule=lx.diffusion.Learned())
    with pytest.raises(TypeError, match=r"write lx.diffusion.Cosine\(\)"):
        uniform(FLAT, V, schedule="cosine")
    with pytest.raises(ValueError, match="sample: steps is a whole number"):
        MASKED.sample({}, KEY, 2, event_shape=2, steps=0)
    with pytest.raises(
        ValueError, match=r"event_shape is a length.*got \(2, -1\); write event_shape="
    ):
        MASKED.sample({}, KEY, 2, event_shape=(2, -1))
    with pytest.raises(ValueError, match="sample: shape is a length.*got -3"):
        MASKED.sample({}, KEY, -3, event_shape=2)
    with pytest.raises(ValueError, match="last layer 3 outputs"):
        masked(FLAT, V).init(KEY, lx.Batch(STATES))
