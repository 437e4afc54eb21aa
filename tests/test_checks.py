"""`debug_checks`: values outside a support are named by index and value, in every way to run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify

import likelax as lx

BAD = jnp.array([[1.0, 2.0], [3.0, -4.0]])


def test_off_by_default_and_after_the_block():
    lx.Normal(0.0, BAD)
    with pytest.raises(ValueError, match="scale"), lx.debug_checks():
        lx.Normal(0.0, BAD)
    lx.Normal(0.0, BAD)
    with lx.debug_checks():
        pass
    lx.Normal(0.0, BAD)


def test_eager_code_names_the_first_by_index_and_value():
    with lx.debug_checks():
        with pytest.raises(ValueError, match=r"Normal.*scale.*positive.*\(1, 1\).*-4\.0"):
            lx.Normal(0.0, BAD)
        with pytest.raises(ValueError, match=r"Normal.*scale.*nan"):
            lx.Normal(0.0, jnp.nan)
        lx.Normal(0.0, -BAD[1, 1])  # what is right is silent


def test_rules_between_parameters():
    with lx.debug_checks(), pytest.raises(ValueError, match=r"low must be below high.*\(1\)"):
        lx.Uniform(jnp.array([0.0, 2.0]), 1.0)


def test_compiled_code_raises_too():
    def loss(scale, y):
        return -lx.Normal(0.0, scale).log_prob(y).sum()

    checked = lx.debug_checks(loss)
    y = jnp.ones((2, 2))
    assert checked(jnp.abs(BAD), y) == loss(jnp.abs(BAD), y)
    with pytest.raises(checkify.JaxRuntimeError, match=r"scale.*index \(1, 1\).*-4"):
        checked(BAD, y)
    with pytest.raises(
        ValueError, match="scale"
    ):  # the same error is a ValueError, as in eager code
        checked(BAD, y)
    # The control: jit alone has no numbers to look at, and says nothing.
    assert jnp.isnan(jax.jit(loss)(BAD, y))


def test_gradients_and_loops_are_checked():
    def loss(scale):
        return lx.Normal(0.0, scale).log_prob(1.0)

    checked = lx.debug_checks(jax.grad(loss))
    assert checked(2.0) == jax.grad(loss)(2.0)
    with pytest.raises(ValueError, match="scale"):
        checked(-2.0)

    def scanned(scales):
        return jax.lax.scan(lambda total, s: (total + loss(s), None), 0.0, scales)[0]

    with pytest.raises(ValueError, match=r"scale.*-3"):
        lx.debug_checks(scanned)(jnp.array([1.0, -3.0, 2.0]))


def test_what_was_traced_without_checks_is_not_used_with_them():
    def loss(scale):
        return lx.Normal(0.0, scale).log_prob(1.0)

    jax.jit(loss)(-2.0)
    with pytest.raises(ValueError, match="scale"):
        lx.debug_checks(loss)(-2.0)


def test_static_arguments_pass_through():
    def loss(scale, name):
        return getattr(lx, name)(0.0, scale).log_prob(1.0)

    from likelax._checks import checked

    with pytest.raises(ValueError, match="Laplace.*scale"):
        checked(loss, static_argnames="name")(-2.0, name="Laplace")


def test_no_thread_sees_the_checks_of_another():
    import threading

    errors = []

    def build():
        try:
            lx.Normal(0.0, -1.0)
        except ValueError as error:
            errors.append(error)

    with lx.debug_checks():
        thread = threading.Thread(target=build)
        thread.start()
        thread.join()
    assert not errors


def test_the_block_reaches_code_under_a_jit_of_the_users():
    def loss(scale, y):
        return -lx.Normal(0.0, scale).log_prob(y).sum()

    step, y = jax.jit(jax.value_and_grad(loss)), jnp.ones((2, 2))
    good = step(jnp.abs(BAD), y)  # compiled before the block, and again in it
    with lx.debug_checks():
        np.testing.assert_array_equal(step(jnp.abs(BAD), y)[1], good[1])
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"scale.*index \(1, 1\).*-4"):
        with lx.debug_checks():
            step(BAD, y)
    assert jnp.isnan(step(BAD, y)[0])  # and no longer after it
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"scale.*-3"):
        with lx.debug_checks():
            jax.vmap(jax.jit(loss), (0, None))(jnp.array([1.0, -3.0]), 1.0)
