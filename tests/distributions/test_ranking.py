"""Rankings, by enumeration of all of them, and at hard points against mpmath."""

import itertools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy import stats

import likelax as lx
from likelax.testing.subject import quick_jit

EPS = float(np.finfo(np.float32).eps)
ALL = np.array(list(itertools.permutations(range(4))))
SCORES = np.array([0.25, -1.5, 1.0, 0.5])


def exact(scores, ranking):
    """log p and its slopes: choices one after another, each from what is left."""
    s = [mp.mpf(float(v)) for v in scores]
    total, slope = mp.mpf(0), [mp.mpf(0)] * len(s)
    for j, first in enumerate(ranking):
        left = ranking[j:]
        weight = [mp.exp(s[i] - s[first]) for i in left]
        total -= mp.log(mp.fsum(weight))
        slope[first] += 1
        for i, w in zip(left, weight, strict=True):
            slope[i] -= w / mp.fsum(weight)
    return total, slope


def test_all_rankings():
    @quick_jit
    def everything(scores, key):
        dist = lx.PlackettLuce(scores)
        return dist.log_prob(ALL), dist.sample(key, (6000,)), dist.mode()

    log_prob, draws, mode = everything(SCORES, jax.random.key(1))
    with mp.workdps(30):
        want = np.array([float(exact(SCORES, list(r))[0]) for r in ALL])
    np.testing.assert_allclose(log_prob, want, rtol=1e-6)
    np.testing.assert_allclose(np.exp(want).sum(), 1, rtol=1e-12)
    assert draws.dtype == mode.dtype == jnp.int32
    np.testing.assert_array_equal(mode, ALL[np.argmax(want)])
    found = np.array([(draws == r).all(-1).sum() for r in ALL])
    chi = lambda p: ((found - 6000 * p) ** 2 / (6000 * p)).sum()  # noqa: E731
    assert found.sum() == 6000 and chi(np.exp(want)) < stats.chi2(23).isf(1e-5)
    # The control: the places of the items rather than the items of the places.
    places = [float(want[(ALL == np.argsort(r)).all(-1)][0]) for r in ALL]
    assert chi(np.exp(places)) > stats.chi2(23).isf(1e-5)


# Far apart, with a common offset, with a best item that comes first or last.
HARD = np.array(
    [
        [1000, -1000, 3, 2, -999.5],
        [1e6, 0.25, -1, 0.5, 2],
        [1e6, 1e6 + 1, 1e6 - 2, 1e6 + 0.5, 1e6],
        [-1000, -1000.5, -999, -1001, -1000],
        [0.5, -3, 40, 20, 1.5],
    ],
    np.float32,
)
RANKINGS = np.array(
    [[0, 2, 3, 4, 1], [4, 3, 1, 2, 0], [1, 3, 0, 2, 4], [3, 0, 1, 4, 2], [2, 3, 4, 0, 1]]
)


def test_hard_points():
    value_and_grad = jax.value_and_grad(lambda s, r: lx.PlackettLuce(s).log_prob(r))
    value, slope = jax.jit(jax.vmap(value_and_grad))(HARD, RANKINGS)
    with mp.workdps(40):
        rows = [exact(s, list(r)) for s, r in zip(HARD, RANKINGS, strict=True)]
        want = np.array([float(v) for v, _ in rows])
        want_slope = np.array([[float(v) for v in row] for _, row in rows])
    unit = EPS * np.maximum(1, np.abs(want))
    assert (np.abs(value - want) <= 4 * unit).all()
    assert (np.abs(slope - want_slope) <= 8 * EPS * np.maximum(1, np.abs(want_slope))).all()
    # The control: sums of what is left against one maximum for all of them.
    ranked = np.take_along_axis(HARD, RANKINGS, -1)
    left = np.cumsum(np.exp(ranked - ranked.max(-1, keepdims=True))[:, ::-1], -1)[:, ::-1]
    with np.errstate(divide="ignore"):
        plain = (ranked - ranked.max(-1, keepdims=True) - np.log(left)).sum(-1)
    assert (~(np.abs(plain - want) <= 4 * unit)).any()


def test_what_is_no_ranking():
    values = jnp.array([[0, 0, 2, 3], [1, 2, 3, 4], [-1, 0, 1, 2], [3, 2, 1, 0]])
    log_prob = lambda s: lx.PlackettLuce(s).log_prob(values)  # noqa: E731
    value, slope = quick_jit(lambda s: (log_prob(s), jax.jacrev(log_prob)(s)))(jnp.asarray(SCORES))
    assert np.isneginf(value[:3]).all() and np.isfinite(value[3])
    assert (slope[:3] == 0).all() and (slope[3] != 0).any()
    with pytest.raises(TypeError, match="whole numbers"):
        lx.PlackettLuce(SCORES).log_prob(jnp.array([0.0, 1.0, 2.0, 3.0]))


def test_items_that_are_never_chosen_before_others():
    """With a score of -inf an item comes last; two of them in either order."""
    rankings = jnp.array([[0, 1, 2, 3], [1, 0, 3, 2], [0, 2, 1, 3]])
    scores = jnp.array([1.0, 0.0, -jnp.inf, -jnp.inf])
    log_prob = lambda s: lx.PlackettLuce(s).log_prob(rankings)  # noqa: E731
    value, slope = quick_jit(lambda s: (log_prob(s), jax.jacrev(log_prob)(s)))(scores)
    p = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(value, [np.log(p / 2), np.log((1 - p) / 2), -np.inf], rtol=1e-6)
    assert np.isfinite(slope).all()


def test_curvature():
    """Of one choice of two: minus the variance of a bit, and nothing of the last place."""
    hessian = quick_jit(jax.hessian(lambda s: lx.PlackettLuce(s).log_prob(jnp.array([1, 0]))))
    v = 1 / (2 + 2 * np.cosh(0.75))
    np.testing.assert_allclose(hessian(jnp.array([0.5, -0.25])), [[-v, v], [v, -v]], rtol=1e-5)


@pytest.mark.parametrize("spec", [("d", None), (None, "d")], ids=["rankings", "items"])
def test_under_explicit_axes(spec):
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        place = lambda x: jax.device_put(x, jax.NamedSharding(mesh, jax.P(*spec)))  # noqa: E731
        scores, rankings = place(jnp.asarray(HARD)), place(jnp.asarray(RANKINGS))

        @quick_jit
        def everything(scores, rankings):
            total = lambda s: lx.PlackettLuce(s).log_prob(rankings).sum()  # noqa: E731
            dist = lx.PlackettLuce(scores)
            return jax.value_and_grad(total)(scores), dist.sample(jax.random.key(0)), dist.mode()

        (value, _), sample, mode = everything(scores, rankings)
    with mp.workdps(40):
        want = sum(float(exact(s, list(r))[0]) for s, r in zip(HARD, RANKINGS, strict=True))
    np.testing.assert_allclose(value, want, rtol=1e-6)
    assert sample.shape == mode.shape == HARD.shape


def test_both_precisions():
    ranking = np.array([2, 0, 3, 1])
    with mp.workdps(30):
        want = float(exact(SCORES, list(ranking))[0])
    half = lx.PlackettLuce(jnp.asarray(SCORES, jnp.bfloat16)).log_prob(ranking)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, want, rtol=1e-6)
    with jax.enable_x64(True):
        np.testing.assert_allclose(lx.PlackettLuce(SCORES).log_prob(ranking), want, rtol=1e-14)
    with pytest.raises(NotImplementedError, match="entropy"):
        lx.PlackettLuce(SCORES).entropy()
