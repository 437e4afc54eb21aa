"""check_bijector: right ones pass, and each kind of mistake is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import likelax as lx
from likelax import bijectors as lb

LINE = np.linspace(-3.0, 3.1, 8)
VECTORS = np.random.default_rng(0).normal(size=(5, 3))


class Bend(lb.Bijector):
    """y = slope x below 0, and x above, right but for one thing."""

    slope: lx.Array = lx.param(lx.supports.positive)
    wrong: str = lx.static(default="")
    increasing = True

    @property
    def held(self):
        return ("slope",) if self.wrong == "held" else ()

    @property
    def is_affine(self):
        return self.wrong == "affine"

    @property
    def codomain(self):
        return lx.supports.positive if self.wrong == "codomain" else lx.supports.real

    def forward_and_log_det(self, x):
        wrong = self.wrong
        own = jax.lax.stop_gradient(self.slope) if wrong == "stopped" else self.slope
        slope = jnp.where(x < 0, own, 1)
        y, log_det = slope * x, jnp.log(slope)
        if wrong == "batch":
            y = y + 1e-3 * jnp.mean(x)
        if wrong == "turn":  # a step down at 0
            y = jnp.where(x < 0, y, x - 1e-3)
        if wrong == "edge":  # infinite slope at 0
            y = y + 0 * jnp.sqrt(jnp.abs(x))
        if wrong == "nan":
            y = jnp.where(jnp.isnan(x), 0, y)
        if wrong == "single":
            y = y.astype(jnp.float16).astype(y.dtype) if y.dtype == jnp.float32 else y
        if wrong == "gradient":
            log_det = 2 * log_det - jnp.log(jax.lax.stop_gradient(slope))
        log_det = {"sign": -log_det, "factor": log_det + jnp.log(2.0), "twice": 2 * log_det}.get(
            wrong, log_det
        )
        return y, log_det

    def inverse_and_log_det(self, y):
        own = jax.lax.stop_gradient(self.slope) if self.wrong == "stopped" else self.slope
        slope = jnp.where(y < 0, own, 1)
        if self.wrong == "shape":
            slope = jnp.where(y < 0, jnp.ravel(self.slope)[0], 1)
        x, log_det = y / slope, -jnp.log(slope)
        return (x + 1e-4 if self.wrong == "inverse" else x), (
            -log_det if self.wrong == "inverse sign" else log_det
        )


def failures(report):
    return {row.name: row.detail for row in report.failures}


MISTAKES = {
    "sign": ("log-determinant", "the sign is wrong"),
    "factor": ("log-determinant", "a constant, +0.693147, is too much"),
    "twice": ("log-determinant", "it is 2 times that"),
    "inverse sign": ("inverse log-determinant", "the sign is wrong"),
    "inverse": ("round trip", "inverse(forward(x)) is not x: off by 0.0001"),
    "batch": ("one value at a time", "statistics of the batch"),
    "codomain": ("domain and codomain", "is not positive, as the codomain says"),
    "affine": ("is_affine", "is_affine is True"),
    "gradient": ("gradients", "log_det in parameters is not that of finite differences"),
    "stopped": ("gradients", "in parameters is not that of finite differences"),
    "held": ("gradients", ".slope is said to be held, and has a gradient"),
    "turn": ("edges", "the map turns back between"),
    "edge": ("edges", "a gradient is not finite"),
    "nan": ("NaN", "a NaN comes out as a number"),
    "single": ("float32", "in float32 is off by"),
    "shape": ("vmap", "built inside vmap"),
}


def check(bijector, **options):
    # An irregular grid: at 0, where the slope jumps, only the edges' rules are asked.
    return lx.testing.check_bijector(bijector, LINE, edges=[0.0], **options)


def test_what_is_right_passes():
    report = check(Bend(0.3))
    assert report.ok and report["edges"].status == report["vmap"].status == "ok"
    assert str(report).startswith("Bend: 13 checks passed, none failed, 0 skipped")


@pytest.mark.parametrize("wrong", MISTAKES)
def test_each_mistake_is_named(wrong):
    name, message = MISTAKES[wrong]
    found = failures(check(Bend(0.3, wrong), raises=False))
    assert name in found, found
    assert message in found[name]
    if wrong == "sign":
        with pytest.raises(AssertionError, match=r"log-determinant[\s\S]*the sign is\s+wrong"):
            check(Bend(0.3, wrong))


def peeking():
    """A conditioner whose numbers see the next coordinate, too."""
    params = {"w": jnp.array(0.3 * np.eye(3, k=1) + 0.5 * np.eye(3, k=-1))}
    return lb.MaskedAutoregressive(lb.Conditioner(_peek, params), lb.AffineTransformer())


def _peek(params, x):
    raw = jnp.tanh(x @ params["w"])
    return jnp.stack([raw, 0.5 * raw], -1).reshape(x.shape[0], 6)


def test_a_conditioner_that_looks_ahead_is_found():
    found = failures(lx.testing.check_bijector(peeking(), VECTORS, raises=False))
    assert "round trip" in found
    assert "coordinate 1 depends on coordinate 2; its numbers" in found["autoregressive"]


def test_vectors_and_maps_between_sets():
    plu = lb.PLU(
        0.3 * np.ones((3, 3)), -0.2 * np.ones((3, 3)), np.array([0.1, -0.4, 0.3]), (2, 0, 1)
    )
    report = lx.testing.check_bijector(plu, VECTORS)
    assert report["increasing"].status == "skipped"
    simplex = lx.testing.check_bijector(lb.SimplexFromLogits(), VECTORS)
    assert "not equally free" in simplex["log-determinant"].detail


class Loose(lb.BatchNorm):
    """Statistics without a gradient, and no word of it."""

    held = ()


def test_statistics_are_held_where_the_bijector_says_so():
    parts = 0.3 * np.ones(3), np.array([0.5, 2.0, 1.0]), np.ones(3), 0.1 * np.ones(3)
    layers = [lb.Chain((norm(*parts), lb.Permute((2, 0, 1)))) for norm in (lb.BatchNorm, Loose)]
    assert lx.testing.check_bijector(layers[0], VECTORS).ok
    found = failures(lx.testing.check_bijector(layers[1], VECTORS, raises=False))
    assert list(found) == ["gradients"] and "finite differences" in found["gradients"]


def test_bad_input():
    with pytest.raises(TypeError, match="bijector"):
        lx.testing.check_bijector(jnp.exp, LINE)
    with pytest.raises(ValueError, match=r"got shape \(1,\)"):
        lx.testing.check_bijector(lb.Exp(), LINE[:1])
