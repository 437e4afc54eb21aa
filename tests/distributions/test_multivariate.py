"""MultivariateNormal, MultivariateNormalDiag and Dirichlet against SciPy, mpmath and closed forms."""

import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.stats

from likelax import supports
from likelax._checks import debug_checks
from likelax.distributions.dirichlet import Dirichlet
from likelax.distributions.kl import kl_divergence
from likelax.distributions.multivariate import (
    MultivariateNormal,
    MultivariateNormalDiag,
    solve_lower,
)
from likelax.testing.subject import quick_jit

LOC = np.array([0.5, -1.0, 2.0])
COVARIANCE = np.array([[2.0, 0.6, -0.3], [0.6, 1.0, 0.4], [-0.3, 0.4, 0.7]])
TRIL = np.linalg.cholesky(COVARIANCE)
PRECISION = np.linalg.inv(COVARIANCE)
GIVEN = {"scale_tril": TRIL, "covariance": COVARIANCE, "precision": PRECISION}
X = np.array([[0.1, -0.7, 3.0], [4.0, 1.0, -2.0], [0.5, -1.0, 2.0]])

OTHER_LOC = np.array([-0.2, 0.3, 1.1])
OTHER_TRIL = np.array([[0.8, 0.0, 0.0], [-0.5, 1.7, 0.0], [0.2, 0.9, 0.6]])


def hilbert(size):
    i = np.arange(size)
    return 1.0 / (i[:, None] + i[None, :] + 1)


def exact_normal(x, loc, covariance):
    """log-density, by mpmath at 50 digits, of the covariance as its floats are."""
    with mpmath.workdps(50):
        matrix = mpmath.matrix(covariance.tolist())
        d = mpmath.matrix((np.asarray(x) - np.asarray(loc)).tolist())
        maha = (d.T * mpmath.lu_solve(matrix, d))[0]
        log_det = mpmath.log(mpmath.det(matrix))
        return float(-0.5 * (maha + log_det + len(x) * mpmath.log(2 * mpmath.pi)))


def finite_differences(function, x, step=1e-6):
    x, function = np.asarray(x), quick_jit(function)
    grad = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        delta = np.zeros_like(x)
        delta[index] = step
        grad[index] = (function(jnp.asarray(x + delta)) - function(jnp.asarray(x - delta))) / (
            2 * step
        )
    return grad


# ---- MultivariateNormal ----


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("x64", [False, True])
def test_normal_log_prob_is_scipys(name, x64):
    want = scipy.stats.multivariate_normal(LOC, COVARIANCE).logpdf(X)
    with jax.enable_x64(x64):
        d = MultivariateNormal(jnp.asarray(LOC), **{name: jnp.asarray(GIVEN[name])})
        got = d.log_prob(X)
        assert got.dtype == (jnp.float64 if x64 else jnp.float32)
        np.testing.assert_allclose(got, want, rtol=1e-12 if x64 else 1e-5)


def test_an_asymmetric_factor_is_not_read_transposed():
    """Negative control: the same numbers with L' for L give another density."""
    d = MultivariateNormal(LOC, covariance=TRIL.T @ TRIL)
    want = scipy.stats.multivariate_normal(LOC, COVARIANCE).logpdf(X[:2])
    assert np.all(np.abs(d.log_prob(X[:2]) - want) > 0.01)


@pytest.mark.parametrize("wanted", GIVEN)
@pytest.mark.parametrize("given", GIVEN)
def test_each_parametrisation_reads_as_each_other(given, wanted):
    with jax.enable_x64(True):
        d = MultivariateNormal(jnp.asarray(LOC), **{given: jnp.asarray(GIVEN[given])})
        np.testing.assert_allclose(getattr(d, wanted), GIVEN[wanted], rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(d.variance(), np.diag(COVARIANCE), rtol=1e-12)
        want = scipy.stats.multivariate_normal(LOC, COVARIANCE).entropy()
        np.testing.assert_allclose(d.entropy(), want, rtol=1e-12)


def test_what_stands_above_the_factors_diagonal_is_not_read():
    noisy = TRIL + np.triu(np.full((3, 3), 7.0), 1)
    clean, other = (MultivariateNormal(LOC, scale_tril=m) for m in (TRIL, noisy))
    key = jax.random.key(0)
    np.testing.assert_array_equal(clean.log_prob(X), other.log_prob(X))
    np.testing.assert_array_equal(clean.sample(key, 3), other.sample(key, 3))
    np.testing.assert_array_equal(clean.variance(), other.variance())
    assert clean.kl_divergence(other) < 1e-12


@pytest.mark.parametrize("name", ["scale_tril", "covariance"])
def test_ill_conditioned_covariance(name):
    """Hilbert's matrix of size 7: condition number 5e8."""
    covariance = hilbert(7)
    loc, x = np.linspace(-1, 1, 7), np.linspace(-0.9, 1.4, 7) ** 3
    want = exact_normal(x, loc, covariance)
    with jax.enable_x64(True):
        given = np.linalg.cholesky(covariance) if name == "scale_tril" else covariance
        got = MultivariateNormal(jnp.asarray(loc), **{name: jnp.asarray(given)}).log_prob(x)
        # The exact value's own sensitivity to the last bit of the covariance is its condition
        # number.
        np.testing.assert_allclose(got, want, rtol=5e8 * 2.3e-16)


def test_ill_conditioned_precision():
    precision = hilbert(7)
    loc, x = np.linspace(-1, 1, 7), np.linspace(-0.9, 1.4, 7) ** 3
    with mpmath.workdps(50):
        p, d = mpmath.matrix(precision.tolist()), mpmath.matrix((x - loc).tolist())
        maha = float((d.T * p * d)[0])
        want = -0.5 * maha + 0.5 * float(mpmath.log(mpmath.det(p))) - 3.5 * np.log(2 * np.pi)
    with jax.enable_x64(True):
        got = MultivariateNormal(jnp.asarray(loc), precision=jnp.asarray(precision)).log_prob(x)
        np.testing.assert_allclose(got, want, rtol=1e-9)


@pytest.mark.parametrize("name", GIVEN)
def test_normal_gradients(name):
    with jax.enable_x64(True):
        base = MultivariateNormal(jnp.asarray(LOC), **{name: jnp.asarray(GIVEN[name])})
        for function in (lambda d: d.log_prob(X).sum(), lambda d: d.entropy()):
            got, forward = quick_jit(lambda d, f=function: (jax.grad(f)(d), jax.jacfwd(f)(d)))(base)
            for field in ("loc", name):

                def at(value, field=field, function=function):
                    return function(base.replace(**{field: value}))

                want = finite_differences(at, getattr(base, field))
                if field == "scale_tril":
                    want = np.tril(want)
                np.testing.assert_allclose(getattr(got, field), want, rtol=1e-6, atol=1e-7)
                np.testing.assert_allclose(
                    getattr(forward, field), getattr(got, field), rtol=1e-9, atol=1e-10
                )


def test_gradients_at_extreme_scales():
    for scale in (1e-18, 1e18):
        d = MultivariateNormal(jnp.zeros(2), scale_tril=scale * jnp.array([[1.0, 0.0], [0.5, 2.0]]))
        x = scale * jnp.array([1.0, -1.0])
        grads = jax.grad(lambda d, x: d.log_prob(x), (0, 1))(d, x)
        assert all(bool(jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(grads))
        unit = MultivariateNormal(jnp.zeros(2), scale_tril=d.scale_tril / scale)
        want = jax.grad(lambda d: d.log_prob(jnp.array([1.0, -1.0])))(unit)
        np.testing.assert_allclose(grads[0].scale_tril * scale, want.scale_tril, rtol=1e-5)


@pytest.mark.parametrize("name", GIVEN)
def test_normal_samples(name):
    n = 20_000
    d = MultivariateNormal(LOC, **{name: GIVEN[name]})
    x = np.asarray(d.sample(jax.random.key(3), n), np.float64)
    standard_error = np.sqrt(np.diag(COVARIANCE) / n)
    assert np.all(np.abs(x.mean(0) - LOC) < 4.5 * standard_error)
    # Var of an empirical covariance: (c_ii c_jj + c_ij^2) / n.
    spread = np.sqrt((np.outer(np.diag(COVARIANCE), np.diag(COVARIANCE)) + COVARIANCE**2) / n)
    assert np.all(np.abs(np.cov(x.T) - COVARIANCE) < 4.5 * spread)
    wrong = TRIL.T @ TRIL  # negative control
    assert np.any(np.abs(np.cov(x.T) - wrong) > 20 * spread)


def test_normal_samples_have_their_gradients():
    key, direction = jax.random.key(0), jnp.array([1.0, -2.0, 0.5])
    with jax.enable_x64(True):
        for name, given in GIVEN.items():

            def loss(value, name=name):
                d = MultivariateNormal(jnp.asarray(LOC), **{name: value})
                return jnp.sum(d.sample(key, 2) @ direction)

            got = jax.grad(loss)(jnp.asarray(given))
            want = finite_differences(loss, given)
            want = np.tril(want) if name == "scale_tril" else want
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


def test_shared_factor_and_batches():
    """Batch axes of length 1 on either side, and sample axes, against one solve for each vector."""
    rng = np.random.default_rng(0)
    locs = rng.normal(size=(5, 1, 3))
    factors = np.stack([TRIL, OTHER_TRIL])[None]
    x = rng.normal(size=(4, 5, 2, 3))
    for tril in (factors, TRIL, OTHER_TRIL[None, None]):
        d = MultivariateNormal(locs, scale_tril=tril)
        got = d.log_prob(x if d.batch_shape == (5, 2) else x[:, :, :1])
        lead = np.broadcast_shapes(d.batch_shape, (5, 1))
        assert d.batch_shape == lead
        for n, i, j in itertools.product(range(4), range(5), range(lead[1])):
            full = np.broadcast_to(tril, (1, 2, 3, 3) if tril.ndim == 4 else (1, 1, 3, 3))
            one = full[0, min(j, tril.shape[1] - 1) if tril.ndim == 4 else 0]
            want = scipy.stats.multivariate_normal(locs[i, 0], one @ one.T).logpdf(x[n, i, j])
            np.testing.assert_allclose(got[n, i, j], want, rtol=2e-5)


def test_solve_lower_does_not_copy_a_shared_factor():
    tril, x = jnp.asarray(TRIL, jnp.float32)[None], jnp.asarray(X, jnp.float32)
    jaxpr = str(jax.make_jaxpr(solve_lower)(tril, jnp.tile(x, (2, 1))))
    assert "triangular_solve" in jaxpr and "f32[6,3,3]" not in jaxpr
    back = solve_lower(tril, x, transpose=True)
    np.testing.assert_allclose(back, np.linalg.solve(TRIL.T, X.T).T, rtol=1e-5)


def test_normal_edges():
    d = MultivariateNormal(LOC, scale_tril=np.diag([1.0, 2.0, 3.0]))
    assert d.log_prob(jnp.array([jnp.inf, 0.0, 0.0])) == -jnp.inf
    assert jnp.isnan(d.log_prob(jnp.array([jnp.nan, 0.0, 0.0])))
    assert jnp.isnan(d.log_prob(jnp.array([jnp.nan, jnp.inf, 0.0])))
    assert bool(jnp.isnan(MultivariateNormal(LOC, covariance=-np.eye(3)).log_prob(LOC)))
    assert (
        MultivariateNormal(jnp.zeros(3, jnp.bfloat16), scale_tril=jnp.eye(3)).dtype == jnp.float32
    )
    assert d.support is supports.real_vector and d.event_shape == (3,) and d.batch_shape == ()


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({}, "exactly one of scale_tril= or covariance= or precision=, got none"),
        ({"covariance": np.eye(3), "precision": np.eye(3)}, "got covariance= and precision="),
    ],
)
def test_exactly_one_parametrisation(wrong, message):
    with pytest.raises(TypeError, match=message):
        MultivariateNormal(LOC, **wrong)


def test_shape_errors():
    with pytest.raises(
        ValueError, match=r"scale_tril of shape \(2, 2\) does not fit loc of shape \(3,\)"
    ):
        MultivariateNormal(LOC, scale_tril=np.eye(2))
    with pytest.raises(
        ValueError, match=r"covariance has shape \(..., event, event\), got shape \(3,\)"
    ):
        MultivariateNormal(LOC, covariance=np.ones(3))
    with pytest.raises(ValueError, match="event shapes"):
        kl_divergence(
            MultivariateNormalDiag(LOC, np.ones(3)), MultivariateNormalDiag(LOC[:2], np.ones(2))
        )


def test_values_are_checked_on_request():
    with debug_checks():
        MultivariateNormal(LOC, covariance=COVARIANCE)
        with pytest.raises(ValueError, match="covariance must be symmetric and positive definite"):
            MultivariateNormal(LOC, covariance=np.diag([1.0, -1.0, 1.0]))
        with pytest.raises(ValueError, match="scale must be positive"):
            MultivariateNormalDiag(LOC, np.array([1.0, 0.0, 2.0]))


# ---- MultivariateNormalDiag ----

SCALE = np.array([0.3, 2.0, 1.5])


def test_diag_is_scipys_and_the_full_one():
    want = scipy.stats.norm(LOC, SCALE).logpdf(X).sum(-1)
    d = MultivariateNormalDiag(LOC, SCALE)
    logs = MultivariateNormalDiag(LOC, log_scale=np.log(SCALE))
    full = MultivariateNormal(LOC, scale_tril=np.diag(SCALE))
    for each in (d, logs, full):
        np.testing.assert_allclose(each.log_prob(X), want, rtol=1e-5)
        np.testing.assert_allclose(each.variance(), SCALE**2, rtol=1e-5)
        np.testing.assert_allclose(each.covariance, np.diag(SCALE**2), rtol=1e-5)
        np.testing.assert_allclose(each.entropy(), full.entropy(), rtol=1e-6)
    np.testing.assert_allclose(
        d.sample(jax.random.key(1), 4), full.sample(jax.random.key(1), 4), rtol=1e-5
    )


def test_diag_gradients():
    d = MultivariateNormalDiag(LOC, SCALE)
    grads = jax.grad(lambda d: d.log_prob(X[0]))(d)
    z = (X[0] - LOC) / SCALE
    np.testing.assert_allclose(grads.loc, z / SCALE, rtol=1e-5)
    np.testing.assert_allclose(grads.scale, (z**2 - 1) / SCALE, rtol=1e-5)


# ---- KL ----


def gaussian_kl(p, q):
    (mu_p, cov_p), (mu_q, cov_q) = p, q
    inverse = np.linalg.inv(cov_q)
    d = mu_p - mu_q
    logs = np.linalg.slogdet(cov_q)[1] - np.linalg.slogdet(cov_p)[1]
    return 0.5 * (np.trace(inverse @ cov_p) - len(d) + d @ inverse @ d + logs)


def normals():
    return {
        "full": (MultivariateNormal(LOC, covariance=COVARIANCE), (LOC, COVARIANCE)),
        "precision": (MultivariateNormal(LOC, precision=PRECISION), (LOC, COVARIANCE)),
        "other": (
            MultivariateNormal(OTHER_LOC, scale_tril=OTHER_TRIL),
            (OTHER_LOC, OTHER_TRIL @ OTHER_TRIL.T),
        ),
        "diag": (MultivariateNormalDiag(OTHER_LOC, SCALE), (OTHER_LOC, np.diag(SCALE**2))),
        "diag2": (MultivariateNormalDiag(LOC, SCALE[::-1]), (LOC, np.diag(SCALE[::-1] ** 2))),
    }


def test_kl_is_the_closed_form():
    with jax.enable_x64(True):
        known = normals()
        for (p, p_numbers), (q, q_numbers) in itertools.product(known.values(), repeat=2):
            want = gaussian_kl(p_numbers, q_numbers)
            np.testing.assert_allclose(p.kl_divergence(q), want, rtol=1e-10, atol=1e-13)
        p, q = known["full"], known["other"]
        assert abs(gaussian_kl(p[1], q[1]) - gaussian_kl(q[1], p[1])) > 0.1  # negative control


def test_kl_by_monte_carlo():
    known, key, n = normals(), jax.random.key(5), 20_000
    for a, b in (("full", "other"), ("full", "diag"), ("diag", "full"), ("diag", "diag2")):
        p, q = known[a][0], known[b][0]
        x, log_p = p.sample_and_log_prob(key, n)
        gaps = np.asarray(log_p - q.log_prob(x), np.float64)
        assert abs(gaps.mean() - p.kl_divergence(q)) < 4.5 * gaps.std() / np.sqrt(n)


def test_kl_of_close_ones_does_not_cancel():
    """A scale off by h is 3 h^2 nats away for three elements; the plain form has eps of absolute
    error.
    """
    h = 1e-3
    p = MultivariateNormal(LOC, scale_tril=TRIL)
    q = MultivariateNormal(LOC, scale_tril=TRIL.astype(np.float32) * np.float32(1 + h))
    ratio = 1 / (1 + np.float64(np.float32(1 + h)) - 1)
    want = 3 * (0.5 * (ratio**2 - 1) - np.log(ratio))
    np.testing.assert_allclose(p.kl_divergence(q), want, rtol=2e-3)
    diag = MultivariateNormalDiag(LOC, SCALE)
    near = MultivariateNormalDiag(LOC, diag.scale * np.float32(1 + h))
    np.testing.assert_allclose(diag.kl_divergence(near), want, rtol=2e-3)
    assert p.kl_divergence(p) < 1e-12 and diag.kl_divergence(diag) == 0


def test_kl_broadcasts_over_batches():
    p = MultivariateNormal(np.stack([LOC, OTHER_LOC]), scale_tril=TRIL)
    q = MultivariateNormal(LOC, scale_tril=np.stack([TRIL, OTHER_TRIL])[:, None])
    kl = quick_jit(kl_divergence)
    got = np.asarray(kl(p, q))
    assert got.shape == (2, 2)
    for i, j in np.ndindex(2, 2):
        one = (TRIL, OTHER_TRIL)[i]
        want = gaussian_kl(((LOC, OTHER_LOC)[j], COVARIANCE), (LOC, one @ one.T))
        np.testing.assert_allclose(got[i, j], want, rtol=1e-4, atol=1e-6)
    diag = MultivariateNormalDiag(LOC, np.stack([SCALE, 2 * SCALE]))
    np.testing.assert_allclose(
        np.asarray(kl(diag, q))[1, 0],
        gaussian_kl((LOC, np.diag(SCALE**2)), (LOC, OTHER_TRIL @ OTHER_TRIL.T)),
        rtol=1e-4,
    )


# ---- Dirichlet ----

CONCENTRATION = np.array([0.7, 2.5, 4.0])
P = np.array([[0.2, 0.3, 0.5], [0.01, 0.09, 0.9]])


@pytest.mark.parametrize("x64", [False, True])
def test_dirichlet_is_scipys(x64):
    truth = scipy.stats.dirichlet(CONCENTRATION)
    with jax.enable_x64(x64):
        d = Dirichlet(jnp.asarray(CONCENTRATION))
        tolerance = 1e-12 if x64 else 1e-5
        want = [truth.logpdf(p / p.sum()) for p in P]
        np.testing.assert_allclose(d.log_prob(P), want, rtol=tolerance, atol=tolerance)
        mean, variance, covariance, entropy = quick_jit(
            lambda d: (d.mean(), d.variance(), d.covariance, d.entropy())
        )(d)
        np.testing.assert_allclose(mean, truth.mean(), rtol=tolerance)
        np.testing.assert_allclose(variance, truth.var(), rtol=tolerance)
        np.testing.assert_allclose(covariance, truth.cov(), rtol=tolerance, atol=1e-8)
        np.testing.assert_allclose(entropy, truth.entropy(), rtol=tolerance)


def test_dirichlet_outside_its_support():
    d = Dirichlet(CONCENTRATION)
    assert d.log_prob(jnp.array([0.2, 0.3, 0.6])) == -jnp.inf
    assert d.log_prob(jnp.array([-0.1, 0.6, 0.5])) == -jnp.inf
    assert jnp.isnan(d.log_prob(jnp.array([jnp.nan, 0.5, 0.5])))
    grads = jax.grad(lambda d: d.log_prob(jnp.array([0.2, 0.3, 0.6])))(d)
    np.testing.assert_array_equal(grads.concentration, 0)


def exact_dirichlet(a, b):
    """Entropy of Dirichlet(a), KL(a || b), by mpmath."""
    with mpmath.workdps(60):
        a, b = [mpmath.mpf(float(v)) for v in a], [mpmath.mpf(float(v)) for v in b]

        def log_beta(c):
            return sum(mpmath.loggamma(v) for v in c) - mpmath.loggamma(sum(c))

        expected = [mpmath.digamma(v) - mpmath.digamma(sum(a)) for v in a]
        entropy = log_beta(a) - sum((v - 1) * e for v, e in zip(a, expected, strict=True))
        kl = log_beta(b) - log_beta(a)
        kl += sum((v - w) * e for v, w, e in zip(a, b, expected, strict=True))
        return float(entropy), float(kl)


DIRICHLETS = [
    ([0.7, 2.5, 4.0], [1.5, 0.3, 2.0]),
    ([1e-3, 2e-3, 5e-4], [0.01, 1.0, 3.0]),
    ([1e6, 2e6, 5e5], [1.001e6, 2e6, 5e5]),
    ([3e7, 1e7, 2.0], [3.1e7, 1e7, 2.5]),
    ([300.0, 200.0, 1.0], [0.1, 20.0, 1.0]),
]


@pytest.mark.parametrize("x64", [False, True])
def test_dirichlet_entropy_and_kl(x64):
    dtype = np.float64 if x64 else np.float32
    with jax.enable_x64(x64):
        both = quick_jit(lambda p, q: (p.entropy(), p.kl_divergence(q), p.kl_divergence(p)))
        for a, b in DIRICHLETS:
            a, b = np.asarray(a, dtype), np.asarray(b, dtype)
            entropy, kl = exact_dirichlet(a, b)
            p, q = Dirichlet(jnp.asarray(a)), Dirichlet(jnp.asarray(b))
            tolerance = 1e-10 if x64 else 3e-5
            got = both(p, q)
            np.testing.assert_allclose(got[0], entropy, rtol=tolerance)
            np.testing.assert_allclose(got[1], kl, rtol=tolerance)
            assert abs(got[2]) < (1e-14 if x64 else 1e-7)


@pytest.mark.slow
def test_dirichlet_gradients():
    with jax.enable_x64(True):
        other = Dirichlet(jnp.array([1.5, 0.3, 2.0]))
        for function in (
            lambda a: Dirichlet(a).log_prob(P).sum(),
            lambda a: Dirichlet(a).entropy(),
            lambda a: Dirichlet(a).kl_divergence(other),
            lambda a: other.kl_divergence(Dirichlet(a)),
        ):
            got, forward = quick_jit(lambda a, f=function: (jax.grad(f)(a), jax.jacfwd(f)(a)))(
                jnp.asarray(CONCENTRATION)
            )
            want = finite_differences(function, CONCENTRATION)
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)
            np.testing.assert_allclose(forward, got, rtol=1e-9)


def test_dirichlet_mode():
    cases = [
        ([2.0, 3.0, 1.5], [1 / 3.5, 2 / 3.5, 0.5 / 3.5]),
        ([0.5, 3.0, 2.0], [0.0, 2 / 3, 1 / 3]),
        ([0.5, 1.0, 0.2], [0.0, 1.0, 0.0]),
        ([1.0, 1.0, 1.0], [1 / 3, 1 / 3, 1 / 3]),
    ]
    for a, want in cases:
        np.testing.assert_allclose(Dirichlet(jnp.array(a)).mode(), want, rtol=1e-6)
    assert bool(jnp.all(jnp.isnan(Dirichlet(jnp.array([0.5, 0.9, 0.2])).mode())))


def test_dirichlet_samples():
    n = 20_000
    d = Dirichlet(CONCENTRATION)
    x = np.asarray(quick_jit(lambda d: d.sample(jax.random.key(2), n))(d), np.float64)
    np.testing.assert_allclose(x.sum(-1), 1, atol=1e-6)
    truth = scipy.stats.dirichlet(CONCENTRATION)
    assert np.all(np.abs(x.mean(0) - truth.mean()) < 4.5 * np.sqrt(truth.var() / n))
    for i, a in enumerate(CONCENTRATION):
        marginal = scipy.stats.beta(a, CONCENTRATION.sum() - a)
        assert scipy.stats.kstest(x[:, i], marginal.cdf).pvalue > 1e-4
    log_prob = np.asarray(d.log_prob(jnp.asarray(x, jnp.float32)))
    assert abs(-log_prob.mean() - d.entropy()) < 4.5 * log_prob.std() / np.sqrt(n)


def test_dirichlet_samples_of_tiny_concentrations():
    d = Dirichlet(jnp.array([1e-3, 2e-3, 1e-3]))

    def total(d):
        x = d.sample(jax.random.key(0), 500)
        return jnp.sum(x[:, 1]), x

    (_, x), grads = quick_jit(jax.value_and_grad(total, has_aux=True))(d)
    assert bool(jnp.all(jnp.isfinite(x))) and bool(jnp.all(jnp.isfinite(grads.concentration)))
    assert bool(jnp.all(jnp.isfinite(d.log_prob(x))))
    np.testing.assert_allclose(x.sum(-1), 1, atol=1e-6)
    first = np.asarray(x[:, 1] > 0.5).mean()
    assert abs(first - 0.5) < 4.5 * np.sqrt(0.25 / 500)


def test_dirichlet_samples_have_implicit_gradients():
    """d/da of E[x_0^2 + x_1 x_2], against its closed form from the second moments."""
    n = 20_000

    def closed(a):
        total = a.sum()
        return (a[0] * (a[0] + 1) + a[1] * a[2]) / (total * (total + 1))

    def one(key, a):
        x = Dirichlet(a).sample(key)
        return x[0] ** 2 + x[1] * x[2]

    a = jnp.asarray(CONCENTRATION, jnp.float32)
    keys = jax.random.split(jax.random.key(11), n)
    grads = jax.jit(jax.vmap(jax.grad(one, 1), (0, None)))(keys, a)
    grads = np.asarray(grads, np.float64)
    want = jax.grad(closed)(a)
    error = grads.std(0) / np.sqrt(n)
    assert np.all(np.abs(grads.mean(0) - want) < 4.5 * error)
    assert np.all(error < 0.25 * np.abs(want))  # so that a gradient of zero would fail
