"""Transformed and LogNormal: against closed forms, SciPy, mpmath, and one another."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from likelax import supports
from likelax._pytree import param
from likelax.bijectors import (
    Affine,
    Chain,
    Exp,
    Identity,
    Invert,
    Ordered,
    Power,
    Sigmoid,
    SimplexFromLogits,
    Softplus,
    Tanh,
    TriangularAffine,
)
from likelax.distributions.base import Distribution
from likelax.distributions.kl import kl_divergence
from likelax.distributions.normal import HalfNormal, Normal
from likelax.distributions.transformed import LogNormal, Transformed

LOWER = np.array([[1.3, 0.0, 0.0], [-0.7, 0.4, 0.0], [0.2, 1.1, 2.0]], np.float32)
SHIFT = np.array([0.3, -1.2, 0.9], np.float32)
Y = np.array([0.02, 0.4, 1.0, 2.7, 30.0], np.float32)


class Unit(Distribution):
    """Uniform on [0, 1] with one parameter that does nothing."""

    support = supports.unit_interval
    idle: jax.Array = param(supports.real)

    def log_prob(self, value):
        return 0 * value

    def cdf(self, value):
        return value

    def quantile(self, q):
        return q


class Coin(Distribution):
    support = supports.boolean
    logits: jax.Array = param(supports.real)


METHODS = ["log_prob", "cdf", "survival", "log_cdf", "log_survival"]


def evaluate(dist, y):
    """Every method at once, compiled once."""

    @jax.jit
    def all_of_them(dist):
        out = {method: getattr(dist, method)(y) for method in METHODS}
        return out | {
            "quantile": dist.quantile(jnp.array([0.01, 0.3, 0.9])),
            "gradient": jax.vmap(jax.grad(dist.log_prob))(y),
        }

    return all_of_them(dist)


def assert_close(a, b, rtol=2e-5, atol=1e-6):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=rtol, atol=atol, err_msg=name)


# The same distribution in two ways.


def test_exp_of_normal_is_log_normal():
    transformed = evaluate(Transformed(Normal(0.4, 0.7), Exp()), Y)
    closed = evaluate(LogNormal(0.4, 0.7), Y)
    assert_close(transformed, closed)
    reference = scipy.stats.lognorm(0.7, scale=np.exp(0.4))
    y = Y.astype(float)
    expected = {
        "log_prob": reference.logpdf(y),
        "cdf": reference.cdf(y),
        "survival": reference.sf(y),
        "log_cdf": reference.logcdf(y),
        "log_survival": reference.logsf(y),
        "quantile": reference.ppf([0.01, 0.3, 0.9]),
        "gradient": -1 / y - (np.log(y) - 0.4) / 0.7**2 / y,
    }
    assert_close(closed, expected)


@pytest.mark.parametrize("how", ["scale", "log_scale", "chain", "inverted"])
def test_affine_of_normal_is_normal(how):
    bijector = {
        "scale": Affine(0.3, -2.0),
        "log_scale": Affine(0.3, log_scale=np.log(2.0)),
        "chain": Chain((Affine(0.3, -1.0), Affine(0.0, log_scale=np.log(2.0)))),
        "inverted": Invert(Affine(-0.15, -0.5)),
    }[how]
    sign = -1 if how == "scale" or how == "chain" else 1
    shift = -0.3 if how == "inverted" else 0.3
    sign = -1 if how == "inverted" else sign
    dist = Transformed(Normal(0.8, 0.5), bijector)
    closed = Normal(shift + sign * 2 * 0.8, 1.0)
    y = np.array([-4.0, -1.1, 0.2, 2.5], np.float32)
    assert_close(evaluate(dist, y), evaluate(closed, y))
    for name in ("mean", "mode", "variance", "stddev", "entropy"):
        np.testing.assert_allclose(
            getattr(dist, name)(), getattr(closed, name)(), rtol=1e-6, atol=1e-6, err_msg=name
        )


def test_decreasing_maps_swap_the_tails():
    # 1 / LogNormal(m, s) is LogNormal(-m, s), and exp(-x) in a chain too.
    closed = evaluate(LogNormal(-0.4, 0.7), Y)
    assert_close(evaluate(Transformed(LogNormal(0.4, 0.7), Power(-1.0)), Y), closed)
    chain = Chain((Exp(), Affine(0.0, -1.0)))
    assert_close(evaluate(Transformed(Normal(0.4, 0.7), chain), Y), closed)
    assert not Transformed(Normal(0.4, 0.7), chain).support.contains(jnp.float32(-0.1))


def test_bounded_bases_and_ends():
    # x in [0, 1], y = 3 - 2x in [1, 3].
    dist = Transformed(Unit(0.0), Affine(3.0, -2.0))
    y = np.array([-1.0, 1.0, 1.5, 3.0, 3.5, np.nan], np.float32)
    np.testing.assert_allclose(dist.cdf(y), [0, 0, 0.25, 1, 1, np.nan])
    np.testing.assert_allclose(dist.survival(y), [1, 1, 0.75, 0, 0, np.nan])
    half = -np.log(2)
    np.testing.assert_allclose(
        dist.log_prob(y), [-np.inf, half, half, half, -np.inf, np.nan], rtol=1e-6
    )
    np.testing.assert_allclose(dist.quantile(np.array([0.0, 0.25, 1.0])), [1, 1.5, 3])
    slope = jax.jit(
        jax.vmap(jax.grad(lambda s, y: Transformed(Unit(0.0), Affine(3.0, s)).log_prob(y)))
    )(np.full(6, -2.0, np.float32), y)
    np.testing.assert_allclose(slope, [0, 0.5, 0.5, 0.5, 0, np.nan])
    assert Transformed(HalfNormal(1.0), Exp()).log_prob(0.5) == -np.inf
    assert Transformed(HalfNormal(1.0), Affine(0.0, -1.0)).log_prob(0.5) == -np.inf
    assert Transformed(HalfNormal(1.0), Affine(0.0, -1.0)).cdf(0.5) == 1
    assert Transformed(Normal(0.0, 1.0), Sigmoid()).log_prob(1.0) == -np.inf
    assert Transformed(Normal(0.0, 1.0), Exp()).cdf(-1.0) == 0


def test_a_density_that_sums_to_one():
    dist = Transformed(Normal(0.4, 1.3), Chain((Affine(1.0, 2.0), Tanh(), Affine(0.1, -0.6))))
    with jax.enable_x64(True):
        dist = jax.tree.map(lambda leaf: leaf.astype(float), dist)
        density = jax.jit(dist.prob)
        total, error = scipy.integrate.quad(lambda y: float(density(y)), -1, 3)
    assert error < 1e-6
    assert total == pytest.approx(1, abs=1e-6)


# Carrying u.


def test_squashed_normal_far_out():
    key = jax.random.key(3)

    def sample(loc):
        dist = Transformed(Normal(loc, 0.5), Tanh())
        y, log_prob = dist.sample_and_log_prob(key, (50,))
        return jnp.mean(log_prob), (y, log_prob, Normal(loc, 0.5).sample(key, (50,)))

    draw = jax.jit(jax.value_and_grad(sample, has_aux=True))
    for loc in (8.0, -30.0):
        (_, (y, log_prob, u)), slope = draw(loc)
        u = np.asarray(u, float)
        with mpmath.workdps(40):
            log_det = [float(-2 * mpmath.log(mpmath.cosh(mpmath.mpf(x)))) for x in u]
        expected = scipy.stats.norm(loc, 0.5).logpdf(u) - log_det
        np.testing.assert_allclose(log_prob, expected, rtol=1e-5)
        np.testing.assert_allclose(y, np.tanh(u), rtol=1e-6)
        # log p(u) is constant along the path, and the slope of -log det is 2 tanh(u).
        np.testing.assert_allclose(slope, np.mean(2 * np.tanh(u)), rtol=1e-5)
    assert np.all(y == -1)


def test_log_prob_of_a_sample_agrees_where_it_can():
    dist = Transformed(Normal(0.4, np.array([0.5, 1.5], np.float32)), Tanh())
    y, log_prob = dist.sample_and_log_prob(jax.random.key(0), (20,))
    assert y.shape == log_prob.shape == (20, 2)
    np.testing.assert_allclose(dist.log_prob(y), log_prob, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(dist.sample(jax.random.key(0), (20,)), y)


# Vectors.


def test_triangular_affine_is_the_multivariate_normal():
    dist = Transformed(Normal(np.zeros(3), 1.0).to_event(1), TriangularAffine(SHIFT, LOWER))
    assert dist.event_shape == (3,) and dist.batch_shape == ()
    y = np.array([[0.1, -0.7, 2.0], [1.0, 1.0, -1.0]], np.float32)
    reference = scipy.stats.multivariate_normal(SHIFT, LOWER @ LOWER.T)
    np.testing.assert_allclose(dist.log_prob(y), reference.logpdf(y), rtol=1e-5)
    np.testing.assert_allclose(dist.mean(), SHIFT, rtol=1e-6)
    np.testing.assert_allclose(dist.mode(), SHIFT, rtol=1e-6)
    np.testing.assert_allclose(dist.entropy(), reference.entropy(), rtol=1e-5)
    samples = np.asarray(dist.sample(jax.random.key(0), (20_000,)))
    error = np.sqrt(np.diag(LOWER @ LOWER.T) / 20_000)
    assert np.all(np.abs(samples.mean(0) - SHIFT) < 4.5 * error)


def test_elementwise_maps_of_vectors_sum_their_log_determinants():
    scale = np.array([0.5, 1.0, 2.0], np.float32)
    base = Normal(SHIFT, scale).to_event(1)
    dist = Transformed(base, Exp())
    y = np.array([0.3, 2.0, 1.1], np.float32)
    expected = np.sum(np.asarray(LogNormal(SHIFT, scale).log_prob(y)))
    np.testing.assert_allclose(dist.log_prob(y), expected, rtol=1e-5)
    assert dist.log_prob(np.array([-0.3, 2.0, 1.1])) == -np.inf
    _, log_prob = dist.sample_and_log_prob(jax.random.key(0), (4,))
    assert log_prob.shape == (4,)
    affine = Transformed(base, Affine(1.0, np.array([2.0, -3.0, 1.0], np.float32)))
    entropy = np.sum(np.asarray(Normal(0, scale).entropy())) + np.log(6)
    np.testing.assert_allclose(affine.entropy(), entropy, rtol=1e-6)
    np.testing.assert_allclose(affine.variance(), scale**2 * [4, 9, 1], rtol=1e-6)


def test_simplex_density_integrates_to_one():
    dist = Transformed(Normal(np.array([0.3, -0.5]), 0.8).to_event(1), SimplexFromLogits())
    assert dist.event_shape == (3,)
    n = 200
    mid = (np.arange(n) + 0.5) / n
    a, b = np.meshgrid(mid, mid, indexing="ij")
    # The unit square onto the triangle: (a, (1 - a) b), Jacobian 1 - a.
    y = np.stack([a, (1 - a) * b, (1 - a) * (1 - b)], -1).astype(np.float32)
    total = np.mean(np.exp(np.asarray(dist.log_prob(y), float)) * (1 - a))
    assert total == pytest.approx(1, abs=2e-3)
    assert dist.log_prob(np.array([0.0, 0.5, 0.5])) == -np.inf
    assert dist.log_prob(np.array([0.2, 0.2, 0.2])) == -np.inf


def test_ordered_density_against_its_definition():
    dist = Transformed(Normal(np.array([0.3, -0.5]), 0.8).to_event(1), Ordered())
    y = np.array([0.1, 0.9])
    expected = scipy.stats.norm(0.3, 0.8).logpdf(0.1)
    expected += scipy.stats.lognorm(0.8, scale=np.exp(-0.5)).logpdf(0.8)
    np.testing.assert_allclose(dist.log_prob(y), expected, rtol=1e-5)
    assert dist.log_prob(y[::-1]) == -np.inf


# Shapes and transformations.


def test_mixed_ranks_under_vmap():
    locs, scales = jnp.arange(3.0), jnp.array([0.5, 1.0, 2.0, 4.0])
    y = jnp.float32(0.7)
    built = jax.vmap(lambda loc: Transformed(Normal(loc, 1.0), Affine(0.0, scales)))(locs)
    assert built.batch_shape == (3, 4)
    expected = scipy.stats.norm(locs[:, None] * scales, scales).logpdf(0.7)
    np.testing.assert_allclose(built.log_prob(y), expected, rtol=1e-5)
    # Noise of its own for every element.
    samples = built.sample(jax.random.key(0), (2,)) / scales - locs[:, None]
    assert samples.shape == (2, 3, 4) and len(np.unique(samples)) == 24

    # The mapped scalar in the bijector, over a vector event that is not mapped.
    base = Normal(SHIFT, 1.0).to_event(1)
    built = jax.vmap(lambda s: Transformed(base, Affine(0.0, s)))(scales)
    assert (built.batch_shape, built.event_shape) == ((4,), (3,))
    values = np.array([0.1, 0.2, 0.3], np.float32)
    scaled = scipy.stats.norm(SHIFT * scales[:, None], scales[:, None]).logpdf(values)
    np.testing.assert_allclose(built.log_prob(values), scaled.sum(-1), rtol=1e-5)
    np.testing.assert_allclose(built[2].log_prob(values), scaled.sum(-1)[2], rtol=1e-5)

    # The other way round.
    built = jax.vmap(
        lambda loc: Transformed(Normal(loc + SHIFT, 1.0).to_event(1), Affine(0.0, 2.0))
    )(locs)
    assert (built.batch_shape, built.event_shape) == ((3,), (3,))
    expected = scipy.stats.norm(2 * (SHIFT + locs[:, None]), 2).logpdf(values).sum(-1)
    np.testing.assert_allclose(built.log_prob(values), expected, rtol=1e-5)


def test_round_trips():
    dist = Transformed(Normal(0.4, 1.3), Chain((Affine(1.0, 2.0), Tanh())))
    leaves, tree = jax.tree.flatten(dist)
    expected = dist.log_prob(1.5)
    np.testing.assert_allclose(jax.tree.unflatten(tree, leaves).log_prob(1.5), expected)
    through = jax.jit(lambda d: d)(dist)
    np.testing.assert_allclose(jax.jit(lambda d: d.log_prob(1.5))(through), expected, rtol=1e-6)
    grads = jax.grad(lambda d: d.log_prob(1.5))(dist)
    assert jax.tree.structure(grads) == tree
    # log p = -z^2/2 - log scale + ..., dlog p/dloc = z / scale with z from u = atanh((y - 1)/2).
    u = np.arctanh(0.25)
    np.testing.assert_allclose(grads.base.loc, (u - 0.4) / 1.3**2, rtol=1e-5)
    eps = 1e-3
    with jax.enable_x64(True):
        up, down = (
            float(
                Transformed(Normal(0.4, 1.3), Chain((Affine(1.0, 2.0 + e), Tanh()))).log_prob(1.5)
            )
            for e in (eps, -eps)
        )
    scale = grads.bijector.bijectors[0].scale
    np.testing.assert_allclose(scale, (up - down) / (2 * eps), rtol=1e-4)


# KL.


def test_kl_is_that_of_the_bases():
    p, q = Normal(0.4, 0.7), Normal(np.array([0.0, 1.0], np.float32), 1.5)
    expected = kl_divergence(p, q)
    for bijector in (Tanh(), Chain((Exp(), Affine(0.1, 2.0)))):
        got = kl_divergence(Transformed(p, bijector), Transformed(q, bijector))
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    equal = kl_divergence(Transformed(p, Affine(0.1, 2.0)), Transformed(q[0], Affine(0.1, 2.0)))
    np.testing.assert_allclose(equal, expected[0], rtol=1e-6)
    kl = jax.jit(lambda p, q: kl_divergence(Transformed(p, Softplus()), Transformed(q, Softplus())))
    np.testing.assert_allclose(kl(p, q), expected, rtol=1e-6)
    for other in (Exp(), Affine(0.1, 3.0)):
        with pytest.raises(NotImplementedError, match=r"kl_divergence\(p.base, q.base\)"):
            kl_divergence(Transformed(p, Affine(0.1, 2.0)), Transformed(q, other))
    np.testing.assert_allclose(
        kl_divergence(LogNormal(0.4, 0.7), LogNormal(np.array([0.0, 1.0]), log_scale=np.log(1.5))),
        expected,
        rtol=1e-5,
    )


# LogNormal.


def test_log_normal_summaries_and_samples():
    dist = LogNormal(np.array([-0.5, 1.2], np.float32), log_scale=np.log([0.3, 0.9]))
    reference = scipy.stats.lognorm([0.3, 0.9], scale=np.exp([-0.5, 1.2]))
    np.testing.assert_allclose(dist.mean(), reference.mean(), rtol=1e-5)
    np.testing.assert_allclose(dist.variance(), reference.var(), rtol=1e-5)
    np.testing.assert_allclose(dist.entropy(), reference.entropy(), rtol=1e-5)
    mode = np.asarray(dist.mode())
    np.testing.assert_allclose(mode, np.exp([-0.5 - 0.09, 1.2 - 0.81]), rtol=1e-5)
    assert np.all(np.asarray(dist.log_prob(mode)) >= np.asarray(dist.log_prob(mode * 1.05)))
    y, log_prob = dist.sample_and_log_prob(jax.random.key(1), (4000,))
    np.testing.assert_allclose(log_prob, dist.log_prob(y), rtol=1e-4, atol=1e-4)
    for i in range(2):
        law = scipy.stats.lognorm([0.3, 0.9][i], scale=np.exp([-0.5, 1.2][i]))
        assert scipy.stats.kstest(np.asarray(y[:, i]), law.cdf).pvalue > 1e-3


def test_log_normal_edges_and_tails():
    dist = LogNormal(0.4, 0.7)
    y = np.array([-1.0, 0.0, 1e-30, 1e30, np.inf, np.nan], np.float32)
    out = jax.jit(lambda dist: {name: getattr(dist, name)(y) for name in METHODS})(dist)
    out = {name: np.asarray(value) for name, value in out.items()}
    with mpmath.workdps(40):
        z = [(mpmath.log(mpmath.mpf(float(v))) - 0.4) / mpmath.mpf(0.7) for v in y[2:4]]
        log_cdf = float(mpmath.log(mpmath.erfc(-z[0] / mpmath.sqrt(2)) / 2))
        log_survival = float(mpmath.log(mpmath.erfc(z[1] / mpmath.sqrt(2)) / 2))
    np.testing.assert_allclose(out["log_cdf"][2], log_cdf, rtol=1e-5)
    np.testing.assert_allclose(out["log_survival"][3], log_survival, rtol=1e-5)
    np.testing.assert_array_equal(out["log_prob"][[0, 1, 4]], -np.inf)
    np.testing.assert_array_equal(out["cdf"][[0, 1, 4]], [0, 0, 1])
    np.testing.assert_array_equal(out["log_survival"][[0, 1, 4]], [0, 0, -np.inf])
    assert all(np.isnan(v[5]) for v in out.values())
    grads = jax.jit(jax.vmap(jax.grad(lambda s, y: LogNormal(0.4, s).log_prob(y))))(
        np.full(4, 0.7, np.float32), y[:4]
    )
    np.testing.assert_array_equal(grads[:2], 0)
    assert np.all(np.isfinite(grads))


# Errors.


def test_errors_say_what_to_write():
    normal = Normal(np.zeros(3), 1.0)
    with pytest.raises(ValueError, match=r"write Transformed\(base.to_event\(1\), bijector\)"):
        Transformed(normal, SimplexFromLogits())
    with pytest.raises(TypeError, match=r"got the class Exp; write Exp\(\)"):
        Transformed(normal, Exp)
    with pytest.raises(TypeError, match="base is a distribution, got .*Normal"):
        Transformed(Normal, Exp())
    with pytest.raises(ValueError, match="isolated points"):
        Transformed(Coin(0.0), Affine(1.0))
    with pytest.raises(ValueError, match="Normal takes all real values, and Invert maps"):
        Transformed(Normal(0.0, 1.0), Invert(Exp()))
    with pytest.raises(ValueError, match="does not fit the event shape"):
        Transformed(Normal(np.zeros(1), 1.0).to_event(1), Affine(np.zeros(3)))
    with pytest.raises(ValueError, match="vectors of length 3"):
        Transformed(Normal(np.zeros(2), 1.0).to_event(1), TriangularAffine(SHIFT, LOWER))
    simplex = Transformed(normal.to_event(1), SimplexFromLogits())
    with pytest.raises(ValueError, match="not equally free"):
        Transformed(simplex, Affine(1.0))
    assert Transformed(simplex, Identity()).event_shape == (4,)
    squashed = Transformed(normal, Tanh())
    for method in ("mean", "mode", "variance", "entropy"):
        with pytest.raises(NotImplementedError, match=f"Transformed.{method} has no closed form"):
            getattr(squashed, method)()
    with pytest.raises(NotImplementedError, match="Transformed.cdf has no closed form"):
        simplex.cdf(np.full(4, 0.25))
    with pytest.raises(NotImplementedError, match="Transformed.variance"):
        Transformed(normal.to_event(1), TriangularAffine(SHIFT, LOWER)).variance()
