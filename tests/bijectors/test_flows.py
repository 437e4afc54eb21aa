"""The bijectors of flows against autodiff's Jacobian, dense matrices and plain loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from likelax._pytree import node, static
from likelax.bijectors import (
    MADE,
    MLP,
    PLU,
    ActNorm,
    AffineTransformer,
    BatchNorm,
    Bijector,
    BlockAutoregressive,
    Chain,
    Conditioner,
    ConvNet,
    Coupling,
    Invert,
    LowRankLinear,
    MaskedAutoregressive,
    Permute,
    Planar,
    Radial,
    RationalQuadraticSpline,
    Residual,
    Scan,
    SplineTransformer,
    Split,
    Squeeze,
)
from likelax.bijectors.conditioner import silu
from likelax.testing.subject import quick_jit

KEY = jax.random.key(3)
X = np.array([0.3, -1.2, 0.9])
IMAGE = np.random.default_rng(0).normal(size=(2, 2, 3))


def noisy(bijector, spread=0.4):
    """Noise on every parameter, made without a compilation: at its start a flow hides mistakes."""
    rng = np.random.default_rng(1)

    def moved(leaf):
        return jnp.asarray(np.asarray(leaf) + spread * rng.normal(size=leaf.shape), leaf.dtype)

    return jax.tree.map(moved, bijector)


def given(function):
    return Conditioner(function, quick_jit(function.init)(KEY))


SPLINE = SplineTransformer(bins=4, bound=2.0)


def affine_coupling(key=KEY, size=3):
    mlp = MLP(1, 2 * (size - 1), (5,))
    return Coupling(Conditioner(mlp, mlp.init(key)), AffineTransformer(), 1)


def layer(key):
    return Chain((ActNorm.init(3), PLU.init(3), affine_coupling(key)))


def stacked(count):
    return Scan(jax.vmap(layer)(jax.random.split(KEY, count)))


@functools.cache
def start(count, wide):
    return quick_jit(lambda: stacked(count))()


def stack(count):
    return noisy(start(count, jax.config.jax_enable_x64), 0.2)


CASES = {
    "Coupling, affine": (affine_coupling, X),
    "Coupling, spline": (lambda: Coupling(given(MLP(1, 2 * SPLINE.size, (5,))), SPLINE, 1), X),
    "Coupling, images": (
        lambda: Coupling(given(ConvNet(1, 4, 3)), AffineTransformer(), 1, event_ndims=3),
        IMAGE,
    ),
    "MaskedAutoregressive": (
        lambda: MaskedAutoregressive(given(MADE(3, 2, (6, 6))), AffineTransformer()),
        X,
    ),
    "MaskedAutoregressive, one number": (
        lambda: MaskedAutoregressive(given(MADE(1, SPLINE.size, (3,))), SPLINE),
        X[:1],
    ),
    "BlockAutoregressive": (lambda: BlockAutoregressive.init(KEY, 3, hidden=3, layers=1), X),
    "PLU": (lambda: PLU.init(3), X),
    "Permute": (lambda: Permute((2, 0, 1)), X),
    "LowRankLinear": (lambda: LowRankLinear(jnp.zeros((3, 2)), jnp.zeros((3, 2))), X),
    "ActNorm": (lambda: ActNorm.init(3), X),
    "BatchNorm": (lambda: noisy(BatchNorm.init(3), 0.1), X),
    "Planar": (lambda: Planar(X, -X, 0.1), X),
    "Radial": (lambda: Radial(X[::-1].copy(), 0.1, -0.5), X),
    "Residual": (lambda: Residual.init(KEY, 3, hidden=(5,)), X),
    "Split": (lambda: Split(PLU.init(2), 2), X),
    "Squeeze": (Squeeze, IMAGE),
    "Scan": (lambda: stack(3), X),
}


@quick_jit
def evaluate(bijector, x):
    def pair(x):
        y, log_det = bijector.forward_and_log_det(x)
        return y, (y, log_det)

    # Of the whole round trip: a wrong implicit derivative shows as one that is not the identity's.
    def back(bijector, x):
        same = bijector.inverse(bijector.forward(x))
        return same, same

    jacobian, (y, log_det) = jax.jacfwd(pair, has_aux=True)(x)
    (slopes, identity), same = jax.jacrev(back, (0, 1), has_aux=True)(bijector, x)
    return {
        "y": y,
        "log_det": log_det,
        "jacobian": jacobian,
        "inverse": bijector.inverse_and_log_det(y),
        "round trip": same,
        "identity": identity,
        "slopes": slopes,
    }


def check(bijector, x, tolerance=1e-10):
    """Raises unless log-determinants are the Jacobian's, and the inverse inverts, derivatives included."""
    out = jax.tree.map(np.asarray, evaluate(bijector, jnp.asarray(x)))
    expected = np.linalg.slogdet(out["jacobian"].reshape(x.size, x.size))[1]
    back, inverse_log_det = out["inverse"]
    assert out["log_det"].shape == inverse_log_det.shape == ()
    np.testing.assert_allclose(out["log_det"], expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(inverse_log_det, -expected, rtol=tolerance, atol=tolerance)
    for same in (back, out["round trip"]):
        np.testing.assert_allclose(same, x, rtol=tolerance, atol=tolerance)
    identity = out["identity"].reshape(x.size, x.size)
    np.testing.assert_allclose(identity, np.eye(x.size), rtol=0, atol=1e-9)
    for slope in jax.tree.leaves(out["slopes"]):
        np.testing.assert_allclose(slope, 0, atol=1e-9)
    assert bijector.forward_shape(x.shape) == out["y"].shape
    assert bijector.inverse_shape(out["y"].shape) == x.shape


@pytest.mark.parametrize("name", CASES)
def test_log_determinant_inverse_and_derivatives(name):
    with jax.enable_x64(True):
        make, x = CASES[name]
        bijector = make()
        start = bijector if name in ("Planar", "Radial", "BatchNorm", "Scan") else noisy(bijector)
        check(start, x)


class Broken(Bijector):
    """A bijector with something wrong in it."""

    base: Bijector = node()
    how: str = static()
    domain = property(lambda self: self.base.domain)
    codomain = property(lambda self: self.base.codomain)

    def forward_and_log_det(self, x):
        y, log_det = self.base.forward_and_log_det(x)
        return y, {"sign": -log_det, "factor": 2 * log_det}.get(self.how, log_det)

    def inverse_and_log_det(self, y):
        x, log_det = self.base.inverse_and_log_det(y)
        x = x + 1e-6 if self.how == "inverse" else x
        return (jax.lax.stop_gradient(x) if self.how == "derivative" else x), log_det


@pytest.mark.parametrize("how", ["sign", "factor", "inverse", "derivative"])
def test_what_is_broken_is_caught(how):
    with jax.enable_x64(True):
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            check(Broken(noisy(PLU.init(3)), how), X)


# The spline.


def a_spline(dtype=jnp.float32):
    w, h = [0.3, -1.0, 1.2, 0.1], [-0.7, 1.0, 0.0, 0.4]
    return RationalQuadraticSpline(
        *(jnp.asarray(v, dtype) for v in (w, h, [1.5, -2.0, 0.3])), bound=2.0
    )


def test_the_spline_goes_through_its_knots_with_its_slopes():
    with jax.enable_x64(True):
        spline = a_spline(jnp.float64)

        def ends(raw):
            share = np.exp(raw) / np.exp(raw).sum()
            return -2 + 4 * np.append(0, np.cumsum(1e-3 + (1 - 4e-3) * share))

        x, y = ends(np.asarray(spline.widths)), ends(np.asarray(spline.heights))
        slopes = 1e-3 + np.log1p(np.exp(np.asarray(spline.slopes) + np.log(np.exp(0.999) - 1)))
        slopes = np.concatenate([[1], slopes, [1]])
        same = RationalQuadraticSpline(jnp.zeros(4), jnp.zeros(4), jnp.zeros(3), bound=2.0)
        forward = quick_jit(lambda spline, x: spline.forward_and_log_det(x))
        for side in (-1e-12, 1e-12):  # the curve has no kink
            got, log_slope = forward(spline, x + side)
            np.testing.assert_allclose(got, y, atol=1e-10)
            np.testing.assert_allclose(np.exp(log_slope), slopes, rtol=1e-7)
        middle = 0.5 * (x[1:] + x[:-1])
        w, h = np.diff(x), np.diff(y)
        # At half of a bin: Gregory and Delbourgo's formula, worked out.
        want = y[:-1] + h * (h / w + slopes[:-1]) / (2 * h / w + slopes[1:] + slopes[:-1])
        middle = np.append(middle, 0.0)  # of one shape with the knots
        np.testing.assert_allclose(forward(spline, middle)[0][:-1], want, rtol=1e-12)
        np.testing.assert_allclose(forward(same, middle)[0], middle, rtol=1e-7, atol=1e-15)


def test_the_spline_at_and_beyond_its_edges():
    spline = a_spline()
    edge = np.float32(2)
    beside = [np.nextafter(edge, np.float32(0)), edge, np.nextafter(edge, np.float32(3)), 50, 1e30]
    x = np.sort(np.array([s * v for v in beside for s in (1, -1)], np.float32))

    @quick_jit
    def slopes(spline, x):
        def total(spline, x, method):
            return sum(map(jnp.sum, getattr(spline, method)(x)))

        grads = [
            jax.grad(total, (0, 1))(spline, x, m + "_and_log_det") for m in ("forward", "inverse")
        ]
        nan = jnp.full(1, jnp.nan)
        return spline.forward_and_log_det(x), grads, (spline.forward(nan), spline.inverse(nan))

    (y, log_det), grads, of_nan = jax.tree.map(np.asarray, slopes(spline, x))
    assert np.all(np.diff(y) >= 0)
    np.testing.assert_array_equal(y[np.abs(x) >= 2], x[np.abs(x) >= 2])
    np.testing.assert_array_equal(log_det[np.abs(x) >= 2], 0)
    np.testing.assert_allclose(log_det, 0, atol=1e-5)
    assert all(np.all(np.isfinite(s)) for s in jax.tree.leaves(grads))
    assert np.isnan(of_nan).all()


def test_the_spline_in_float32_and_its_second_derivatives():
    # Slopes of 0.03 next to 6.5, in bins of very different sizes.
    raw = [jnp.array([-2.0, 1.0, 0.0]), jnp.array([1.5, -1.0, 0.0]), jnp.array([6.0, -4.0])]
    x = np.linspace(-1.99, 1.99, 301, dtype=np.float32)
    spline = RationalQuadraticSpline(*raw, bound=2.0)

    @jax.jit  # as a user compiles it
    def both_ways(spline, x, y):
        return [*spline.forward_and_log_det(x), *spline.inverse_and_log_det(y)]

    y = np.asarray(both_ways(spline, x, x)[0])
    single = both_ways(spline, x, y)
    with jax.enable_x64(True):
        raw = [np.asarray(r).astype(float) for r in raw]
        double = RationalQuadraticSpline(*raw, bound=2.0)
        wide, above = x.astype(float), y.astype(float)
        exact = both_ways(double, wide, above)
        for got, want in zip(single, exact, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=5e-5)
        round_trip = both_ways(double, wide, exact[0])[2]
        np.testing.assert_allclose(round_trip, wide, atol=1e-10)
        mild = RationalQuadraticSpline(*(r / 4 for r in raw), bound=2.0)
        at = jnp.array([-1.3, 0.2, 1.1])
        ways = jax.tree.map(lambda leaf: jnp.cos(3 * jnp.arange(leaf.size)), (mild, at))

        def along(step):
            b, y = jax.tree.map(lambda leaf, way: leaf + step * way, (mild, at), ways)
            x, log_det = b.inverse_and_log_det(y)
            return jnp.append(x, log_det)

        slope = jax.jacfwd(along)
        curved = quick_jit(jax.jacfwd(slope))(0.0)
        slopes = quick_jit(jax.vmap(slope))(jnp.array([1e-5, -1e-5]))
        np.testing.assert_allclose(curved, (slopes[0] - slopes[1]) / 2e-5, rtol=1e-5, atol=1e-5)


# What sees what.


def made_jacobian(made):
    params = noisy(given(made)).params
    context = jnp.ones((1, made.context)) if made.context else None
    call = lambda x, c: made(params, x[None], c)[0].reshape(made.features, made.outputs)  # noqa: E731
    return quick_jit(jax.jacfwd(call, (0, 1) if made.context else (0,)))(jnp.asarray(X), context)


def test_a_made_sees_what_comes_before():
    jacobian, by_context = made_jacobian(MADE(3, 2, (7, 6), context=2))
    sees = np.any(np.asarray(jacobian) != 0, axis=1)
    np.testing.assert_array_equal(sees, np.tri(3, k=-1, dtype=bool))
    assert np.all(np.any(np.asarray(by_context) != 0, axis=(1, 2, 3)))  # the first one, too


class OffByOne(MADE):
    """Its outputs see their own coordinate."""

    def _masks(self):
        *rest, last = super()._masks()
        return [*rest, np.roll(last, -self.outputs, axis=1)]


def test_a_mask_that_is_off_by_one_is_caught():
    made = OffByOne(3, 2, (7, 6))
    assert np.any(np.triu(np.any(np.asarray(made_jacobian(made)[0]) != 0, axis=1)))
    with jax.enable_x64(True):
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            check(noisy(MaskedAutoregressive(given(made), AffineTransformer())), X)


def test_the_slopes_of_silu():
    x = np.array([-800.0, -30.0, -1.3, 0.0, 0.7, 25.0, 800.0])
    with jax.enable_x64(True):
        first, second = (jax.vmap(d) for d in (jax.grad(silu), jax.grad(jax.grad(silu))))
        s = scipy.special.expit(x)
        fall = scipy.special.expit(-x)  # 1 - s
        want = s * (1 + x * fall), s * fall * (2 + x * (fall - s))
        for got, slope in zip(quick_jit(lambda x: (first(x), second(x)))(x), want, strict=True):
            np.testing.assert_allclose(got, slope, rtol=1e-10, atol=1e-12)


def test_what_a_coupling_keeps():
    images = Coupling(given(ConvNet(1, 4, 3)), AffineTransformer(), 1, event_ndims=3)
    forward = quick_jit(lambda coupling, images: (coupling.forward(X), images.forward(IMAGE)))
    y, same = map(np.asarray, forward(noisy(affine_coupling()), images))
    assert y[0] == np.float32(X[0]) and np.all(y[1:] != X[1:].astype(np.float32))
    np.testing.assert_array_equal(same, IMAGE.astype(np.float32))  # at the start


# Stacks, batches and contexts.


def test_a_stack_is_its_layers_one_after_another():
    scan = stack(3)
    x = jax.random.normal(KEY, (4, 3))

    @quick_jit
    def both(scan, x):
        chain = Chain(tuple(scan.layers[i] for i in (2, 1, 0)))
        return [[*b.forward_and_log_det(x), *b.inverse_and_log_det(x)] for b in (scan, chain)]

    for got, want in zip(*both(scan, x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    # One trace of the layer, however many there are.
    traced = [
        jax.make_jaxpr(lambda s, x: s.forward_and_log_det(x))(
            jax.eval_shape(functools.partial(stacked, n)), x
        )
        for n in (2, 32)
    ]
    assert len(str(traced[0]).splitlines()) == len(str(traced[1]).splitlines())


def test_flows_that_were_built_inside_vmap():
    keys, x = jax.random.split(KEY, 2), jax.random.normal(KEY, (5, 1, 3))
    make = jax.vmap(lambda key: Scan(jax.vmap(layer)(jax.random.split(key, 3))))
    together = noisy(jax.jit(make)(keys), 0.2)
    assert together.batch_shape == (2,)

    @quick_jit
    def both_ways(bijector, x):
        y, log_det = bijector.forward_and_log_det(x)
        return y, log_det, bijector.inverse(y)

    y, log_det, back = both_ways(together, x)
    assert y.shape == (5, 2, 3) and log_det.shape == (5, 2)
    np.testing.assert_allclose(back, jnp.broadcast_to(x, y.shape), atol=1e-4)
    for i in range(2):
        one, own_log_det, _ = both_ways(together[i], x[:, 0])
        np.testing.assert_allclose(y[:, i], one, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(log_det[:, i], own_log_det, rtol=1e-4, atol=1e-5)


def test_a_conditioner_with_batches_on_either_side():
    mlp = MLP(2, 3, (4,), context=1)
    params = noisy(jax.jit(jax.vmap(mlp.init))(jax.random.split(KEY, 4)))
    core = tuple(leaf.ndim - 1 for leaf in jax.tree.leaves(params))
    context = jax.random.normal(KEY, (6, 1, 1))  # six contexts, four networks
    both = Conditioner(mlp, params, core, context)
    assert both.batch_shape == (6, 4)
    x = jax.random.normal(KEY, (5, 1, 1, 2))
    out = quick_jit(lambda c, x: c(x))(both, x)
    assert out.shape == (5, 6, 4, 3)
    call = quick_jit(lambda params, x, context: mlp(params, x, context))
    for i, j in ((0, 0), (5, 3), (2, 1)):
        own = jax.tree.map(lambda leaf: np.asarray(leaf)[j], params)  # noqa: B023
        want = call(own, np.asarray(x)[:, 0, 0], np.broadcast_to(np.asarray(context)[i], (5, 1)))
        np.testing.assert_allclose(out[:, i, j], want, rtol=1e-5, atol=1e-6)


def test_initialisation_by_data():
    y = 3 + np.array([0.1, 2.0, 30.0]) * jax.random.normal(KEY, (500, 3))
    statistics = jnp.zeros(3), jnp.ones(3), jnp.zeros(3), jnp.zeros(3)
    norms = ActNorm.init(3), BatchNorm(*statistics, epsilon=1e-9)

    @quick_jit
    def seen_by(scan, y):
        fitted, seen, normed = scan.initialized(y), y, []
        for i in (2, 1, 0):
            normed.append(fitted.layers[i].bijectors[0].inverse(seen))
            seen = fitted.layers[i].inverse(seen)
        return {
            "norms": [[b.initialized(y).inverse(y) for b in (n, Invert(n))] for n in norms],
            "chain": Chain((PLU.init(3), ActNorm.init(3))).initialized(y).inverse(y),
            "stack": normed,
            "constant": ActNorm.init(2).initialized(jnp.ones((4, 2))).log_scale,
            "held": jax.grad(lambda b: jnp.sum(b.inverse_and_log_det(y)[0] ** 2))(
                BatchNorm.init(3)
            ),
        }

    out = jax.tree.map(np.asarray, seen_by(stack(3), y))
    for x, turned in out["norms"]:
        np.testing.assert_allclose(x.mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(x.std(0), 1, rtol=1e-3)
        np.testing.assert_allclose(turned, x, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(out["chain"].std(0), 1, rtol=1e-4)
    for normed in out["stack"]:
        np.testing.assert_allclose(normed.std(0), 1, rtol=1e-3)
    np.testing.assert_array_equal(out["constant"], 0)
    level = BatchNorm.init(2).initialized(jnp.full((4, 2), 3.0), forward=True)
    np.testing.assert_allclose(level.forward(jnp.full(2, 3.0)), 0, atol=1e-6)
    held = out["held"]
    assert not np.any(held.mean) and not np.any(held.variance) and np.any(held.shift)


# Linear and residual maps.


def test_linear_maps_are_their_matrices():
    plu = noisy(PLU.init(3))
    plu = PLU(plu.lower, plu.upper, plu.log_diagonal, (2, 0, 1), (1, -1, 1))
    low = np.tril(plu.lower, -1) + np.eye(3)
    up = np.triu(plu.upper, 1) + np.diag(np.exp(plu.log_diagonal) * [1, -1, 1])
    x = X.astype(np.float32)
    thin = noisy(LowRankLinear(jnp.zeros((3, 2)), jnp.zeros((3, 2))))
    pixels = np.random.default_rng(4).normal(size=(2, 2, 3)).astype(np.float32)

    @quick_jit
    def ask(plu, thin):
        squeezed = Chain((Squeeze(), plu)).forward_and_log_det(pixels)[1]
        return plu.forward_and_log_det(x), thin.forward(x), squeezed

    (y, log_det), thinned, alone = ask(plu, thin)
    np.testing.assert_allclose(y, (low @ up @ x)[[2, 0, 1]], rtol=1e-5)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(low @ up)[1], rtol=1e-5)
    full = np.eye(3) + np.asarray(thin.left) @ np.asarray(thin.right).T
    np.testing.assert_allclose(thinned, full @ x, rtol=1e-5)
    np.testing.assert_allclose(alone, 4 * log_det, rtol=1e-5)  # the 1x1 convolution of 4 pixels


def test_squeeze_keeps_neighbours_together():
    image = np.arange(16.0).reshape(4, 4, 1)
    np.testing.assert_array_equal(Squeeze().forward(image)[0, 1], [2, 3, 6, 7])


def test_planar_and_radial_stay_invertible():
    x = jax.random.normal(KEY, (50, 3))

    @quick_jit
    def look(bijector):
        total = lambda b: jnp.sum(b.forward_and_log_det(x)[1])  # noqa: E731
        y, log_det = bijector.forward_and_log_det(x)
        return log_det, bijector.inverse(y), jax.grad(total)(bijector)

    for bijector in (
        Planar(4 * X, -9 * X, 0.5),
        Planar(np.zeros(3), X, 0.5),
        Radial(X, -1.0, -8.0),
        Radial(x[0], 0.3, 2.0),
    ):
        log_det, back, slopes = look(bijector)
        np.testing.assert_allclose(back, x, atol=2e-3)
        assert all(np.all(np.isfinite(s)) for s in jax.tree.leaves((log_det, slopes)))


STEEP = {
    "planar": lambda strength, dtype: Planar(
        jnp.array([1.0, 0.5, 0.0], dtype),
        jnp.array([strength, 0.0, 0.3], dtype),
        jnp.zeros((), dtype),
    ),
    "radial": lambda strength, dtype: Radial(
        jnp.zeros(3, dtype), jnp.zeros((), dtype), jnp.asarray(strength, dtype)
    ),
}


@pytest.mark.parametrize("name", STEEP)
def test_what_contracts_steeply_in_float32(name):
    x = np.random.default_rng(7).normal(size=(20, 3)).astype(np.float32)
    x[:10] *= 1e-3
    x[0] = 0

    @quick_jit
    def look(strength, x):
        def log_det(strength):
            return STEEP[name](strength, x.dtype).forward_and_log_det(x)[1]

        return log_det(strength), jax.jacfwd(log_det)(strength)

    for strength in (-9.0, -18.0, -30.0):
        single = look(np.float32(strength), x)
        with jax.enable_x64(True):
            double = look(np.float64(strength), x.astype(np.float64))
        for got, want in zip(single, double, strict=True):
            np.testing.assert_allclose(got, want, rtol=3e-5, atol=1e-5)
        assert float(double[0][0]) < strength / 2
    # The control: 1 + (exp(-18) - 1) is 0 in float32.
    assert np.float32(1) + np.expm1(np.float32(-18)) == 0


def test_a_residual_that_hardly_contracts_is_inverted():
    with jax.enable_x64(True):
        g = Conditioner(lambda params, x: -params * x, np.float64(0.999))
        y = jnp.array([[3.0, -500.0]])
        x = quick_jit(Residual(g, 2, bound=0.999).inverse)(y)
        np.testing.assert_allclose(x, y / 0.001, rtol=1e-9)
        # The control: a bound of 0.9 promises more than is true, and 1000 steps do not suffice.
        x = quick_jit(Residual(g, 2, bound=0.9).inverse)(y)
        assert np.abs(x / y - 1000).max() > 1


def test_weights_of_a_block_network_are_drawn_apart():
    params = BlockAutoregressive.init(KEY, 3, hidden=4, context=1).network.params
    spread, context = params["layers"][0]["bias"], params["context"][0]
    assert np.abs(spread - context).min() > 1e-6  # one key would draw both alike
    assert abs(np.corrcoef(np.ravel(spread), np.ravel(context))[0, 1]) < 0.7


def test_a_residual_is_a_contraction():
    wild = noisy(Residual.init(KEY, 3, hidden=(5,), bound=0.8), 5.0)
    jacobian = quick_jit(jax.vmap(jax.jacfwd(lambda x: wild.forward(x) - x)))
    points = np.random.default_rng(5).normal(size=(50, 3)).astype(np.float32)
    norms = np.linalg.norm(jacobian(points), 2, axis=(1, 2))
    assert norms.max() < 0.8 + 1e-5


BAD = {
    "class": (lambda: Coupling(MLP, AffineTransformer(), 1), "a Conditioner wanted"),
    "transformer": (lambda: Coupling(given(MLP(1, 2)), AffineTransformer, 1), "with a size wanted"),
    "outputs": (
        lambda: Coupling(given(MLP(1, 3)), AffineTransformer(), 1).forward(X),
        "give its last layer 4 outputs",
    ),
    "split": (lambda: affine_coupling().forward(X[:1]), "1 entries stay"),
    "function": (lambda: Conditioner(3, {}), r"a function of \(params, x\) wanted"),
    "core": (lambda: Conditioner(jnp.tanh, {"w": X}, (1, 2)), "one number for each of 1 arrays"),
    "permutation": (lambda: Permute((0, 0, 1)), "each once, got"),
    "length": (lambda: Permute((1, 0)).forward(X), "vectors of length 2, got shape"),
    "signs": (
        lambda: PLU(np.eye(2), np.eye(2), np.ones(2), (0, 1), (1,)),
        "2 rows, a permutation of 2 and 1 signs",
    ),
    "no stack": (lambda: Scan(PLU.init(2)), r"write Scan\(jax.vmap\(make_layer\)"),
    "elementwise": (lambda: Scan(RationalQuadraticSpline(*np.zeros((2, 3, 4)), np.zeros((3, 3)))), "into a Chain"),
    "bins": (lambda: RationalQuadraticSpline(X, X, X), "3 bins have 2 inner knots"),
    "bound": (lambda: RationalQuadraticSpline(X, X, X[:2], bound=0.0), "a positive bound"),
    "odd": (lambda: Squeeze().forward(np.zeros((3, 4, 1))), "multiples of 2"),
    "channels": (lambda: Squeeze().inverse(np.zeros((2, 2, 3))), "4 channels become one"),
    "size": (lambda: Split(PLU.init(2), 3).forward(X), "vectors of length 2"),
    "no layer": (lambda: MADE(3, 2, ()), "a hidden layer and a coordinate"),
    "no unit": (lambda: BlockAutoregressive.init(KEY, 2, layers=0), "a hidden layer of a unit"),
    "contraction": (lambda: Residual(given(MLP(3, 3)), 3, 1.0), r"bound is in \(0, 1\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    make, message = BAD[name]
    with pytest.raises((ValueError, TypeError), match=message):
        make()
