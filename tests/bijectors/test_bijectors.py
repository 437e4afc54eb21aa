"""Every bijector against the autodiff Jacobian, its inverse, and mpmath where float32 is hard."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from likelax import supports
from likelax._pytree import node, param, static
from likelax.bijectors import (
    Above,
    Affine,
    Between,
    Bijector,
    Chain,
    CholeskyProduct,
    Exp,
    Identity,
    Invert,
    LowerCholesky,
    Ordered,
    Power,
    Sigmoid,
    SimplexFromLogits,
    SoftLimit,
    Softplus,
    Tanh,
    TriangularAffine,
)

LOWER = np.array([[1.3, 0.0, 0.0], [-0.7, 0.4, 0.0], [0.2, 1.1, -2.0]])
LINE = np.array([-3.1, -0.4, 0.0, 0.7, 2.9])
HALF_LINE = np.array([0.03, 0.8, 1.0, 4.1])
VECTOR = np.array([0.3, -1.2, 0.9])
SIX = np.array([0.3, -1.2, 0.9, 0.1, 2.0, -0.6])


class Cube(Bijector):
    """A user's bijector: y = a (x^3 + x), inverted by Newton's method."""

    a: jax.Array = param(supports.positive)
    increasing = True

    def forward_and_log_det(self, x):
        return self.a * (x**3 + x), jnp.log(self.a) + jnp.log(3 * x**2 + 1)

    def inverse_and_log_det(self, y):
        x = jnp.cbrt(y / self.a)
        for _ in range(8):
            x = x - (x**3 + x - y / self.a) / (3 * x**2 + 1)
        return x, -jnp.log(self.a) - jnp.log(3 * x**2 + 1)


def tril(matrix):
    return matrix[..., *np.tril_indices(matrix.shape[-1])]


def untril(entries):
    size = int((2 * entries.shape[-1]) ** 0.5)
    return jnp.zeros((size, size)).at[np.tril_indices(size)].set(entries)


def same(x):
    return x


# name: (bijector, free coordinates of x, free -> x, y -> free)
CASES = {
    "Identity": (lambda: Identity(), LINE, same, same),
    "Affine": (lambda: Affine(0.4, 1.7), LINE, same, same),
    "Affine, decreasing": (lambda: Affine(0.4, -1.7), LINE, same, same),
    "Affine, log_scale": (lambda: Affine(0.4, log_scale=-0.9), LINE, same, same),
    "Exp": (lambda: Exp(), LINE, same, same),
    "Log": (lambda: Invert(Exp()), HALF_LINE, same, same),
    "Softplus": (lambda: Softplus(), LINE, same, same),
    "Sigmoid": (lambda: Sigmoid(), LINE, same, same),
    "Tanh": (lambda: Tanh(), LINE, same, same),
    "Power": (lambda: Power(1.7), HALF_LINE, same, same),
    "Power, decreasing": (lambda: Power(-0.6), HALF_LINE, same, same),
    "SoftLimit": (lambda: SoftLimit(1.5), LINE, same, same),
    "Above": (lambda: Above(-2.0), LINE, same, same),
    "Between": (lambda: Between(-2.0, 0.7), LINE, same, same),
    "TriangularAffine": (lambda: TriangularAffine(VECTOR, LOWER), VECTOR, same, same),
    "Ordered": (lambda: Ordered(), VECTOR, same, same),
    "SimplexFromLogits": (lambda: SimplexFromLogits(), VECTOR, same, lambda y: y[:-1]),
    "LowerCholesky": (lambda: LowerCholesky(), SIX, same, tril),
    "CholeskyProduct": (lambda: CholeskyProduct(), np.abs(SIX), untril, tril),
    "Chain, elementwise": (
        lambda: Chain((Affine(1.0, -2.0), Tanh(), Affine(0.3, 0.8))),
        LINE,
        same,
        same,
    ),
    "Chain, mixed": (
        lambda: Chain((Exp(), TriangularAffine(VECTOR, LOWER), Affine(0.1, VECTOR + 2))),
        VECTOR,
        same,
        same,
    ),
    "Chain, of vectors to matrices": (
        lambda: Chain((CholeskyProduct(), LowerCholesky(), Affine(0.1, SIX), Identity())),
        SIX[::-1].copy(),
        same,
        tril,
    ),
    "Chain, elementwise on vectors": (
        lambda: Chain((Affine(VECTOR, -2.0), Tanh(), Ordered())),
        VECTOR / 3,
        same,
        same,
    ),
    "Cube": (lambda: Cube(0.6), LINE, same, same),
}


def check_bijector(bijector, free, to_x=same, from_y=same, tolerance=1e-9):
    """Raises unless log-determinants are those of the Jacobian, and the inverse inverts."""

    @jax.jit
    def evaluate(bijector, free):
        x = to_x(free)
        y, log_det = bijector.forward_and_log_det(x)
        back = bijector.inverse_and_log_det(y)
        inverted = Invert(bijector).forward_and_log_det(y)
        jacobian = jax.jacfwd(lambda free: from_y(bijector.forward(to_x(free))))(free)
        inside = bijector.codomain.contains(y), bijector.domain.contains(x)
        increasing = bijector.increasing
        return x, y, log_det, back, inverted, jacobian, inside, increasing

    out = jax.tree.map(np.asarray, evaluate(bijector, free))
    x, y, log_det, (back, inverse_log_det), inverted, jacobian, inside, increasing = out
    if log_det.ndim:  # elementwise
        np.testing.assert_array_equal(jacobian, np.diag(np.diagonal(jacobian)))
        expected = np.log(np.abs(np.diagonal(jacobian)))
    else:
        expected = np.linalg.slogdet(jacobian)[1]
    assert log_det.shape == x.shape[: x.ndim - bijector.event_ndim] == inverse_log_det.shape
    np.testing.assert_allclose(log_det, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(inverse_log_det, -expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(back, x, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(inverted[0], back, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(inverted[1], inverse_log_det, rtol=tolerance, atol=tolerance)
    assert bijector.forward_shape(x.shape) == y.shape
    assert bijector.inverse_shape(y.shape) == x.shape
    assert all(np.all(is_inside) for is_inside in inside)
    if increasing is not None:
        assert np.all((np.diagonal(jacobian) > 0) == increasing)


@pytest.mark.parametrize("name", CASES)
def test_log_determinant_and_inverse(name):
    with jax.enable_x64(True):
        make, free, to_x, from_y = CASES[name]
        bijector, free = make(), jnp.asarray(free)
        check_bijector(bijector, free, to_x, from_y)
        assert bijector.inverse_event_ndim == bijector.codomain.event_ndims
        assert bijector.event_ndim == bijector.domain.event_ndims


class Broken(Bijector):
    """A bijector with something wrong in it."""

    base: Bijector = node()
    how: str = static()
    domain = property(lambda self: self.base.domain)
    codomain = property(lambda self: self.base.codomain)
    forward_shape = property(lambda self: self.base.forward_shape)
    inverse_shape = property(lambda self: self.base.inverse_shape)

    def forward_and_log_det(self, x):
        y, log_det = self.base.forward_and_log_det(x)
        return y, -log_det if self.how == "sign" else log_det

    def inverse_and_log_det(self, y):
        x, log_det = self.base.inverse_and_log_det(y)
        log_det = -log_det if self.how == "inverse sign" else log_det
        return (x + 1e-3 if self.how == "inverse" else x), log_det


@pytest.mark.parametrize("how", ["sign", "inverse sign", "inverse"])
@pytest.mark.parametrize("name", ["Softplus", "SimplexFromLogits"])
def test_what_is_broken_is_caught(name, how):
    with jax.enable_x64(True):
        make, free, to_x, from_y = CASES[name]
        check_bijector(Broken(make(), "not at all"), jnp.asarray(free), to_x, from_y)
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            check_bijector(Broken(make(), how), jnp.asarray(free), to_x, from_y)


# Tails in float32.

MP = {
    "Tanh": (mpmath.tanh, lambda u: -2 * mpmath.log(mpmath.cosh(u))),
    "Softplus": (
        lambda u: mpmath.log1p(mpmath.exp(u)),
        lambda u: -mpmath.log1p(mpmath.exp(-u)),
    ),
    "Sigmoid": (
        lambda u: 1 / (1 + mpmath.exp(-u)),
        lambda u: -mpmath.log1p(mpmath.exp(-u)) - mpmath.log1p(mpmath.exp(u)),
    ),
    "Exp": (mpmath.exp, lambda u: u),
}


@pytest.mark.parametrize("name", MP)
def test_tails_in_float32(name):
    value, log_det = MP[name]
    u = np.array([-40, -35.5, -20, -9.1, -1e-3, 1e-3, 0.4, 0.7, 8.3, 20, 35.5, 43], np.float32)
    bijector = CASES[name][0]()
    y, ld = bijector.forward_and_log_det(u)
    assert y.dtype == ld.dtype == jnp.float32
    slope = jax.vmap(jax.grad(bijector.forward))(u)
    with mpmath.workdps(60):
        at = [mpmath.mpf(float(x)) for x in u]
        expected = [float(value(x)) for x in at]
        expected_ld = [float(log_det(x)) for x in at]
    np.testing.assert_allclose(y, expected, rtol=4e-7)
    # log(1 - tanh^2) is near 0 near 0, where it is a square.
    np.testing.assert_allclose(ld, expected_ld, rtol=6e-7)
    np.testing.assert_allclose(slope, np.exp(expected_ld), rtol=6e-6)


@pytest.mark.parametrize("name", ["Tanh", "Softplus", "Sigmoid", "Exp"])
def test_inverse_near_the_ends_in_float32(name):
    ends = {
        "Tanh": np.array([-1 + 6e-8, -1 + 1e-6, -1e-3, 1e-5, 0.5, 1 - 1e-4, 1 - 6e-8]),
        "Sigmoid": np.array([1e-30, 1e-6, 0.499, 0.5001, 1 - 1e-4, 1 - 6e-8]),
    }
    y = np.asarray(ends.get(name, np.array([1e-30, 1e-6, 0.69, 3.0, 40.0])), np.float32)
    bijector = CASES[name][0]()
    x, ild = bijector.inverse_and_log_det(y)
    inverse = {
        "Tanh": mpmath.atanh,
        "Sigmoid": lambda p: mpmath.log(p) - mpmath.log1p(-p),
        "Softplus": lambda y: mpmath.log(mpmath.expm1(y)),
        "Exp": mpmath.log,
    }[name]
    with mpmath.workdps(60):
        u = [inverse(mpmath.mpf(float(v))) for v in y]
        expected = [float(v) for v in u]
        expected_ild = [-float(MP[name][1](v)) for v in u]
    # log(exp(y) - 1) crosses 0 at log 2, where the rounding of y itself is all that is left.
    np.testing.assert_allclose(x, expected, rtol=4e-7, atol=6e-8)
    np.testing.assert_allclose(ild, expected_ild, rtol=6e-7, atol=1e-9)
    slope = jax.vmap(jax.grad(bijector.inverse))(y)
    np.testing.assert_allclose(slope, np.exp(expected_ild), rtol=3e-6)


# Under transformations.


def test_mixed_ranks_under_vmap():
    shift, scale, x = jnp.arange(3.0), jnp.array([0.5, 2.0, 4.0, 8.0]), jnp.float32(0.3)
    built = jax.vmap(lambda a: Affine(a, scale))(shift)
    assert built.batch_shape == (3, 4)
    np.testing.assert_allclose(built.forward(x), shift[:, None] + scale * x, rtol=1e-6)

    # In a chain the elementwise map's batch axes are event axes of the whole.
    lower = jnp.asarray(LOWER, jnp.float32)
    v = jnp.asarray(VECTOR, jnp.float32)

    def chain(a):
        return Chain((Affine(a, v + 2), TriangularAffine(v, a * lower), Exp()))

    factors = jnp.array([0.5, 1.0, 1.5, 2.0])
    built = jax.jit(jax.vmap(chain))(factors)
    assert built.batch_shape == (4,)
    y, log_det = jax.jit(lambda b: b.forward_and_log_det(v))(built)
    one = jax.jit(lambda a: chain(a).forward_and_log_det(v))
    for i, a in enumerate(factors):
        y_i, log_det_i = one(a)
        np.testing.assert_allclose(y[i], y_i, rtol=1e-6)
        np.testing.assert_allclose(log_det[i], log_det_i, rtol=1e-6)
    x, back = jax.jit(lambda b: b.inverse_and_log_det(y))(built)
    np.testing.assert_allclose(x, np.broadcast_to(VECTOR, (4, 3)), rtol=1e-5)
    np.testing.assert_allclose(back, -log_det, rtol=1e-5)


def test_samples_and_batches_broadcast():
    lower = jnp.stack([jnp.asarray(LOWER), 2 * jnp.asarray(LOWER)])
    bijector = TriangularAffine(VECTOR, lower)
    x = jax.random.normal(jax.random.key(0), (5, 1, 3))
    y, log_det = bijector.forward_and_log_det(x)
    assert y.shape == (5, 2, 3) and log_det.shape == (5, 2)
    np.testing.assert_allclose(y[:, 1], VECTOR + x[:, 0] @ (2 * LOWER).T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(bijector.inverse(y)[:, 0], x[:, 0], rtol=1e-4, atol=1e-5)
    _, log_det = Affine(jnp.zeros((2, 1)), log_scale=0.5).forward_and_log_det(jnp.zeros((5, 1, 3)))
    assert log_det.shape == (5, 2, 3)


@pytest.mark.parametrize("name", ["Affine", "Chain, mixed", "Cube", "SoftLimit"])
def test_round_trips(name):
    make, x, *_ = CASES[name]
    bijector, x = make(), jnp.asarray(x, jnp.float32)
    expected = jax.jit(bijector.forward_and_log_det)(x)
    leaves, tree = jax.tree.flatten(bijector)
    again = jax.tree.unflatten(tree, leaves)

    @jax.jit
    def evaluate(b):
        grads = jax.grad(lambda b: jnp.sum(b.forward_and_log_det(x)[1]))(b)
        return b, b.forward_and_log_det(x), grads

    through, (y, log_det), grads = evaluate(again)
    assert jax.tree.structure(through) == tree
    np.testing.assert_allclose(y, expected[0], rtol=1e-6)
    np.testing.assert_allclose(log_det, expected[1], rtol=1e-5, atol=1e-6)
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))
    abstract = jax.eval_shape(lambda b, x: b.forward(x), bijector, x)
    assert abstract.shape == y.shape


def test_dtypes():
    def dtypes(bijector, x):
        return {z.dtype for z in jax.eval_shape(lambda: bijector.forward_and_log_det(x))}

    for x in (jnp.bfloat16(0.5), 1, 0.5):
        assert dtypes(Softplus(), x) == {jnp.dtype("float32")}
    with jax.enable_x64(True):
        x = np.array([0.1, 0.2], np.float32)
        for bijector in (SimplexFromLogits(), Ordered(), Tanh(), Sigmoid()):
            assert dtypes(bijector, x) == {jnp.dtype("float32")}
            assert dtypes(bijector, x.astype(float)) == {jnp.dtype("float64")}


# Sets.


def same_interval(support, lower, upper, open_lower=True, open_upper=True):
    assert isinstance(support, supports.Interval)
    for got, wanted in ((support.lower, lower), (support.upper, upper)):
        if wanted is None:
            assert got is None or bool(jnp.isinf(got))
        else:
            np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7)
    assert (support.open_lower, support.open_upper) == (open_lower, open_upper)
    assert support.contains(support.inside(jnp.zeros(())))


def test_images_of_intervals():
    unit = supports.unit_interval
    same_interval(Exp().image(unit), 1, np.e, False, False)
    same_interval(Exp().image(supports.non_negative), 1, None, False, False)
    same_interval(Affine(1.0, log_scale=0.0).image(supports.positive), 1, None, True, False)
    same_interval(Affine(1.0, 2.0).image(supports.positive), 1, None, True, True)
    same_interval(Affine(1.0, -2.0).image(unit), -1, 1, False, False)
    same_interval(Affine(1.0, -2.0).image(supports.non_negative), None, 1, False, False)
    same_interval(Invert(Tanh()).image(supports.positive), 0, None, True, False)
    same_interval(Power(-1.0).image(supports.interval(2.0, 4.0)), 0.25, 0.5, False, False)
    same_interval(Power(-1.0).image(supports.greater_than(2.0)), 0, 0.5)
    same_interval(Chain((Affine(1.0, -2.0), Sigmoid())).codomain, -1, 1)
    same_interval(Chain((Invert(Exp()), Affine(1.0, -2.0))).domain, None, 0.5)
    same_interval(Chain((Invert(Exp()), Tanh())).domain, 0, None, True, False)
    assert Invert(Exp()).image(supports.non_negative).is_everything
    assert Chain((Invert(Exp()), Sigmoid())).domain.is_everything
    inner = Exp().image(supports.elementwise(unit, 1))
    assert inner.event_ndims == 1
    assert jnp.array_equal(inner.contains(jnp.array([[1.5, 2.0], [0.5, 2.0]])), [True, False])


def test_images_of_other_sets():
    image = Affine(1.0, 2.0).image(supports.simplex)
    assert image.event_ndims == 1
    values = jnp.array([[1.4, 2.6], [1.5, 2.6], [0.5, 3.5], [jnp.nan, 1.0]])
    assert jnp.array_equal(image.contains(values), [True, False, False, False])
    assert image.contains(image.inside(values[0]))
    assert Invert(SimplexFromLogits()).image(supports.simplex).is_everything
    with pytest.raises(ValueError, match="write supports.elementwise"):
        Ordered().image(supports.real)


# Errors.


def test_errors_say_what_to_write():
    with pytest.raises(TypeError, match=r"got the class Exp; write Exp\(\)"):
        Chain((Exp, Tanh()))
    with pytest.raises(TypeError, match=r"write Chain\(\(f, g\)\)"):
        Chain(())
    with pytest.raises(TypeError, match="Invert: a bijector wanted"):
        Invert(jnp.exp)
    with pytest.raises(ValueError, match=r"vectors of length 3, got shape \(2,\)"):
        TriangularAffine(VECTOR, LOWER).forward(jnp.zeros(2))
    with pytest.raises(ValueError, match="maps values with 1 axes, got shape"):
        Ordered().forward(0.5)
    with pytest.raises(ValueError, match="add axes of length 1"):
        Affine(jnp.zeros(3)).forward(jnp.zeros(2))
    with pytest.raises(ValueError, match="got 5 in shape"):
        LowerCholesky().forward(jnp.zeros((2, 5)))
    with pytest.raises(ValueError, match="a square matrix wanted"):
        LowerCholesky().inverse(jnp.zeros((2, 3)))
    with pytest.raises(TypeError, match="exactly one of scale= or log_scale="):
        Affine(0.0, 1.0, log_scale=2.0)

    with pytest.raises(ValueError, match="not equally free.*transform before LowerCholesky"):
        Chain((Affine(1.0), Identity(), LowerCholesky()))
    with pytest.raises(ValueError, match="not equally free"):
        Chain((Invert(SimplexFromLogits()), Affine(1.0)))

    class Half(Bijector):
        pass

    with pytest.raises(NotImplementedError, match="Half does not define forward_and_log_det"):
        Half().forward(1.0)
