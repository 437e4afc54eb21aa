"""`constrain` lands inside, from everywhere that a network can put it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from likelax import supports
from likelax.bijectors import (
    Above,
    Between,
    Exp,
    Identity,
    LowerCholesky,
    Ordered,
    SimplexFromLogits,
    constrain,
)

SUPPORTS = {
    "real": (supports.real, ()),
    "log_positive": (supports.log_positive, ()),
    "positive": (supports.positive, ()),
    "non_negative": (supports.non_negative, ()),
    "unit_interval": (supports.unit_interval, ()),
    "open_unit_interval": (supports.open_unit_interval, ()),
    "interval": (supports.interval(-0.7, 0.1), ()),
    "greater_than": (supports.greater_than(5.0), ()),
    "greater_than, negative": (supports.greater_than(-1e5), ()),
    "below": (supports.Interval("below 3", upper=3.0, open_upper=True), ()),
    "no bounds": (supports.Interval("any"), ()),
    "real_vector": (supports.real_vector, (4,)),
    "simplex": (supports.simplex, (4,)),
    "ordered": (supports.ordered, (4,)),
    "lower_cholesky": (supports.lower_cholesky, (3, 3)),
    "positive, in each element": (supports.elementwise(supports.positive, 1), (4,)),
    "simplex, in each element": (supports.elementwise(supports.simplex, 1), (2, 4)),
    "arrays as bounds": (
        supports.elementwise(supports.interval(jnp.zeros(4), jnp.arange(1.0, 5)), 1),
        (4,),
    ),
}


@pytest.mark.parametrize("name", SUPPORTS)
def test_raw_outputs_land_inside(name):
    support, shape = SUPPORTS[name]
    bijector = constrain(support)
    raw_shape = bijector.inverse_shape(shape)
    rng = np.random.default_rng(0)
    raw = rng.uniform(-30, 30, (64, *raw_shape)).astype(np.float32)
    raw[0], raw[1], raw[2] = -30, 30, 0
    # Alternating extremes: increments that vanish beside what they are added to.
    raw[3:] = np.where(rng.random(raw[3:].shape) < 0.4, np.sign(raw[3:]) * 30, raw[3:])

    @jax.jit
    def evaluate(raw):
        y, log_det = bijector.forward_and_log_det(raw)
        grad = jax.grad(lambda r: jnp.sum(jnp.arctan(bijector.forward(r))))(raw)
        return y, log_det, support.contains(y), grad

    y, log_det, inside, grad = evaluate(raw)
    assert y.shape == (64, *shape)
    assert np.all(inside)
    assert np.all(np.isfinite(log_det))
    assert np.all(np.isfinite(grad))


@pytest.mark.parametrize("name", [n for n in SUPPORTS if n != "simplex, in each element"])
def test_moderate_values_come_back(name):
    support, shape = SUPPORTS[name]
    bijector = constrain(support)
    raw_shape = bijector.inverse_shape(shape)
    raw = np.linspace(-1.3, 2.1, int(np.prod(raw_shape))).reshape(raw_shape).astype(np.float32)
    back = jax.jit(lambda raw: bijector.inverse(bijector.forward(raw)))(raw)
    # 1e5 takes five of the seven digits.
    tolerance = 3e-2 if name == "greater_than, negative" else 3e-5
    np.testing.assert_allclose(back, raw, atol=tolerance)


def test_positive_definite():
    bijector = constrain(supports.positive_definite)
    raw = jax.random.normal(jax.random.key(0), (20, 6))

    @jax.jit
    def evaluate(raw):
        y = bijector.forward(raw)
        return supports.positive_definite.contains(y), bijector.inverse(y)

    inside, back = evaluate(raw)
    assert np.all(inside)
    np.testing.assert_allclose(back, raw, atol=2e-3)
    assert bijector.inverse_shape((3, 3)) == (6,)


def test_zero_goes_to_the_middle():
    np.testing.assert_allclose(
        SimplexFromLogits().forward(jnp.zeros(6)), np.full(7, 1 / 7), rtol=1e-6
    )
    np.testing.assert_array_equal(LowerCholesky().forward(jnp.zeros(6)), np.eye(3))
    assert float(Between(0.0, 1.0).forward(0.0)) == 0.5


def test_simplex_in_high_dimension_sums_to_one():
    raw = 3 * jax.random.normal(jax.random.key(1), (8, 2000))
    inside = jax.jit(lambda raw: supports.simplex.contains(SimplexFromLogits().forward(raw)))(raw)
    assert np.all(inside)


def test_simplex_against_stick_breaking_in_words():
    x = np.array([0.4, -1.3, 2.2])
    rest, expected = 1.0, []
    for k, x_k in enumerate(x, start=1):
        z = 1 / (1 + np.exp(-(x_k - np.log(4 - k))))
        expected.append(rest * z)
        rest -= expected[-1]
    np.testing.assert_allclose(SimplexFromLogits().forward(x), [*expected, rest], rtol=1e-6)


def test_ties_break_by_one_step_only():
    raw = np.array([[30, -30, -30, 0], [-30, -30, 1, 0], [np.nan, 0, 0, 0]], np.float32)
    y = np.asarray(jax.jit(Ordered().forward)(raw))
    one = np.nextafter(np.float32(30), np.float32(np.inf))
    np.testing.assert_array_equal(y[0, :3], [30, one, np.nextafter(one, np.float32(np.inf))])
    assert np.all(np.diff(y[:2]) > 0)
    np.testing.assert_allclose(y[1], [-30, -30, np.e - 30, np.e - 29], rtol=1e-6)
    assert np.isnan(y[2]).all()


def test_rounding_moves_no_further_than_one_float():
    inf = np.float32(np.inf)
    assert Above(5.0).forward(-30.0) == np.nextafter(np.float32(5), inf)
    assert Between(0.0, 1.0).forward(30.0) == np.nextafter(np.float32(1), -inf)
    assert float(Between(0.0, 1.0).forward(-20.0)) == pytest.approx(np.exp(-20), rel=1e-6)
    assert Between(0.0, 1.0).forward(-200.0) > 0
    assert bool(jnp.isnan(Between(0.0, 1.0).forward(jnp.nan)))
    # The derivative is that of the map, not 0.
    assert float(jax.grad(Above(5.0).forward)(-30.0)) == pytest.approx(np.exp(-30), rel=1e-5)


def test_choices():
    assert isinstance(constrain(supports.positive), Exp)
    assert isinstance(constrain(supports.log_positive), Identity)
    assert isinstance(constrain(supports.elementwise(supports.ordered, 2)), Ordered)
    for support in (supports.boolean, supports.non_negative_integer, supports.one_hot):
        with pytest.raises(ValueError, match=f"are {support}: isolated points"):
            constrain(support)

    class Circle(supports.Support):
        pass

    with pytest.raises(ValueError, match="on the circle: write a Bijector"):
        constrain(Circle("on the circle"))


def test_static_bounds_widen_nothing():
    with jax.enable_x64(True):
        raw = np.array([0.3], np.float32)
        for support in (supports.unit_interval, supports.greater_than(2.0), supports.positive):
            forward = constrain(support).forward
            assert jax.eval_shape(forward, raw).dtype == jnp.float32
            assert jax.eval_shape(forward, raw.astype(float)).dtype == jnp.float64
        tenth = constrain(supports.greater_than(0.1)).forward(-50.0)
        assert float(tenth) == pytest.approx(0.1, abs=1e-15)
