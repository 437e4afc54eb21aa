"""Preferences: against the formula, and its gradient."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import likelax as lx
from nets import causal

KEY = jax.random.key(3)
V, T = 3, 4
CHOSEN = np.array([[0, 0, 1, 0], [1, 1, 1, 1], [2, 0, 2, 1]])
REJECTED = np.array([[0, 1, 0, 0], [0, 2, 1, 1], [2, 1, 2, 1]])


@pytest.fixture(scope="module")
def case():
    head = lx.Head(lx.Categorical, num_categories=V)
    policy = lx.sequence.Autoregressive(causal(V, V), head, start=V)
    params = policy.init(KEY, lx.Batch(CHOSEN)).params
    reference = jax.tree.map(lambda x: 0.5 * x, params)
    mask = lx.sequence.span_mask(T, start=np.array([1, 0, 2]))
    batch = lx.sequence.preferences(
        policy, reference, lx.Batch(CHOSEN, mask=mask), lx.Batch(REJECTED, mask=mask)
    )
    return policy, params, reference, mask, batch


def loss_by_hand(policy, params, reference, mask, beta, sign=1):
    lengths = [
        (policy.token_log_prob(params, lx.Batch(x)) - policy.token_log_prob(reference, lx.Batch(x)))
        for x in (CHOSEN, REJECTED)
    ]
    chosen, rejected = (jnp.sum(jnp.where(mask, x, 0), 1) for x in lengths)
    return jnp.mean(jnp.log1p(jnp.exp(-sign * beta * (chosen - rejected))))


@pytest.mark.parametrize("sign", [1, -1])
def test_it_is_the_likelihood_of_the_preference(case, sign):
    policy, params, reference, mask, batch = case
    model = lx.sequence.PreferenceLikelihood(policy, beta=0.3)
    (loss, aux), grad = jax.value_and_grad(model, has_aux=True)(params, KEY, batch)
    want, want_grad = jax.value_and_grad(
        lambda p: loss_by_hand(policy, p, reference, mask, 0.3, sign)
    )(params)
    same = np.allclose(loss, want, rtol=1e-5)
    assert same == (sign == 1)  # the control: rejected over chosen
    if sign == 1:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), grad, want_grad)
    assert str(aux.claim) == "exact" and aux.claim.measure.dims == 1
    np.testing.assert_allclose(aux.terms["accuracy"], np.mean(np.exp(-aux.per_example) > 0.5))


def test_at_the_reference_it_is_log_two(case):
    policy, params, _, mask, _ = case
    sides = lx.Batch(CHOSEN, mask=mask), lx.Batch(REJECTED, mask=mask)
    batch = lx.sequence.preferences(policy, params, *sides)
    loss = lx.sequence.PreferenceLikelihood(policy)(params, KEY, batch)[0]
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-5)


def test_a_policy_that_is_none_is_refused_where_it_is_given(case):
    _, params, _, _, batch = case
    other = lx.Likelihood(None, lx.Head(lx.Categorical, num_categories=V))
    message = r"got Likelihood; write lx\.sequence\.Autoregressive\(net, head, start="
    # Unwrapped: in the tests the annotations would speak first.
    make = inspect.unwrap(lx.sequence.PreferenceLikelihood.__init__)
    pair = inspect.unwrap(lx.sequence.preferences)
    with pytest.raises(TypeError, match=message):
        make(object.__new__(lx.sequence.PreferenceLikelihood), other)
    with pytest.raises(TypeError, match=message):
        pair(other, params, *batch.target)


def test_bad_input(case):
    policy, params, *_ = case
    with pytest.raises(TypeError, match="lx.sequence.preferences"):
        lx.sequence.PreferenceLikelihood(policy)(params, KEY, lx.Batch(CHOSEN))
    with pytest.raises(ValueError, match="beta is positive"):
        lx.sequence.PreferenceLikelihood(policy, beta=0.0)
    policy, params, reference, _, _ = case
    with pytest.raises(ValueError, match="3 chosen and 1 rejected"):
        pair = lx.sequence.preferences(policy, reference, lx.Batch(CHOSEN), lx.Batch(REJECTED[:1]))
        lx.sequence.PreferenceLikelihood(policy)(params, KEY, pair)
