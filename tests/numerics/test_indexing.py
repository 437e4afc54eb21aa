"""Entries chosen by number, by a comparison and by a gather."""

import jax
import jax.numpy as jnp
import numpy as np

from likelax.numerics.indexing import pick, take

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(3, 4, 7)).astype(np.float32)
ALONG = jnp.asarray(VALUES)


def test_pick_is_indexing_and_0_elsewhere():
    index = RNG.integers(0, 7, size=(5, 3, 4))
    want = np.take_along_axis(np.broadcast_to(VALUES, (5, 3, 4, 7)), index[..., None], -1)[..., 0]
    np.testing.assert_array_equal(pick(jnp.asarray(index), ALONG), want)
    assert np.all(np.asarray(pick(jnp.array([[-1], [7], [8]]), ALONG)) == 0)
    rows = pick(jnp.array([[1], [0], [3]])[..., 0], ALONG, axis=-2)
    np.testing.assert_array_equal(rows, VALUES[np.arange(3), [1, 0, 3]])


def test_take_is_indexing_whatever_has_more_axes():
    index = RNG.integers(0, 7, size=(4, 2))
    want = VALUES[np.arange(3)[:, None, None], np.arange(4)[:, None], index]
    np.testing.assert_array_equal(take(jnp.asarray(index), ALONG), want)
    deep = RNG.integers(0, 7, size=(2, 3, 4, 5))
    want = np.take_along_axis(np.broadcast_to(VALUES, (2, 3, 4, 7)), deep, -1)
    np.testing.assert_array_equal(take(jnp.asarray(deep), ALONG), want)


def test_take_of_an_axis_sharded_by_type():
    mesh = jax.make_mesh((1,), ("classes",), axis_types=(jax.sharding.AxisType.Explicit,))
    index = jnp.asarray(RNG.integers(0, 7, size=(3, 4, 2)))
    want = take(index, ALONG)
    with jax.set_mesh(mesh):
        spec = jax.sharding.PartitionSpec(None, None, "classes")
        sharded = jax.reshard(ALONG, spec)
        np.testing.assert_array_equal(take(index, sharded), want)
        assert "gather" not in str(jax.make_jaxpr(take)(index, sharded))
    assert "gather" in str(jax.make_jaxpr(take)(index, ALONG))  # the control
