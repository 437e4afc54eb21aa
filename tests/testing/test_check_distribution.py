"""check_distribution: right distributions pass, and each kind of mistake is named."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import likelax as lx

KEY = jax.random.key(0)
SCALES = (0.5, 3.0)


class Rayleigh(lx.Distribution):
    """The custom likelihood of the README."""

    scale: lx.Array = lx.param(support=lx.supports.positive)
    support = lx.supports.non_negative

    def log_prob(self, value):
        z = value / self.scale
        return jnp.log(value) - 2 * jnp.log(self.scale) - 0.5 * z**2


class Right(Rayleigh):
    """The Rayleigh with every method: the mistakes below each spoil one of them."""

    def cdf(self, value):
        return -jnp.expm1(-0.5 * (value / self.scale) ** 2)

    def log_survival(self, value):
        return -0.5 * (value / self.scale) ** 2

    def quantile(self, q):
        return self.scale * jnp.sqrt(-2 * jnp.log1p(-q))

    def sample(self, key, shape=()):
        return self.quantile(jax.random.uniform(key, self._shape(shape), self.dtype))

    def mean(self):
        return self.scale * np.sqrt(np.pi / 2)

    def variance(self):
        return (2 - np.pi / 2) * self.scale**2

    def mode(self):
        return self.scale

    def entropy(self):
        return 1 + jnp.log(self.scale / np.sqrt(2)) + 0.5 * np.euler_gamma


class RightNormal(lx.Distribution):
    """A Normal from a formula alone."""

    loc: lx.Array = lx.param(lx.supports.real)
    scale: lx.Array = lx.param(lx.supports.positive)

    def log_prob(self, value):
        z = (value - self.loc) / self.scale
        return -0.5 * z**2 - jnp.log(self.scale) - 0.5 * np.log(2 * np.pi)


def rayleigh(cls):
    return cls(jnp.array(SCALES))


def normal(cls):
    return cls(jnp.array([0.5, -2.0]), jnp.array(SCALES))


@functools.cache
def report_of(cls, make=rayleigh):
    return lx.testing.check_distribution(make(cls), key=KEY, raises=False)


# ---- right ones pass ----


def test_the_rayleigh_of_the_readme_passes():
    report = lx.testing.check_distribution(Rayleigh(2.0), key=KEY)
    assert report.ok and not report.failures
    assert report["normalisation"].status == "ok"
    assert report["outside the support"].status == "ok"
    assert report["sample"].status == "skipped"
    assert "use lx.samplers" in report["sample"].detail


def test_every_method_of_a_right_one_is_looked_at():
    report = report_of(Right)
    assert report.ok
    looked_at = {row.name for row in report.rows if row.status == "ok"}
    assert looked_at >= {
        "pytree", "pickle", "shapes", "keys", "one value at a time", "vmap", "scan", "index",
        "rebuild", "mixed ranks", "normalisation", "samples", "cdf", "survival", "log_cdf",
        "log_survival", "derivative of cdf", "quantile", "NaN", "outside the support", "precision",
        "gradient in value", "gradient in scale", "mean", "variance", "stddev", "entropy", "mode",
        "dtypes",
    }  # fmt: skip


# ---- the report ----


def test_the_report_reads_well():
    text = str(report_of(Right))
    first, *rows = text.splitlines()
    assert first.startswith("Right(scale=float32[2]): ")
    assert "checks passed, none failed, " in first
    assert max(map(len, rows)) <= 110
    assert "  ok       normalisation        the density sums to 1 within" in text
    assert "  skipped  KL " in text


def test_an_unknown_row_is_named_with_those_there_are():
    with pytest.raises(KeyError, match="no check 'colour'; there are pytree, pickle"):
        report_of(Right)["colour"]


def test_the_same_key_gives_the_same_report():
    again = lx.testing.check_distribution(rayleigh(Right), key=KEY)
    assert again == report_of(Right)
    assert str(again) == str(report_of(Right))


# ---- arguments ----


def test_what_is_no_distribution_is_refused():
    check = inspect.unwrap(lx.testing.check_distribution)  # without its annotations' own errors
    with pytest.raises(TypeError, match=r"takes a distribution, got <class .*Rayleigh.*write"):
        check(Rayleigh, key=KEY)


def test_what_is_no_key_is_refused():
    check = inspect.unwrap(lx.testing.check_distribution)
    with pytest.raises(TypeError, match=r"write jax.random.key\(0\)"):
        check(Rayleigh(2.0), key=0)


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="num_samples of at least 100, got 10"):
        lx.testing.check_distribution(Rayleigh(2.0), key=KEY, num_samples=10)


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match=r"batch shape \(0,\): there is no element to check"):
        lx.testing.check_distribution(Rayleigh(jnp.zeros(0)), key=KEY)


def test_a_mask_that_leaves_nothing_is_refused():
    dist = lx.Normal(jnp.zeros(2), 1.0).mask(np.array([False, False]))
    with pytest.raises(ValueError, match="the mask leaves no element to check"):
        lx.testing.check_distribution(dist, key=KEY)


# ---- mistakes: in the density ----


class MissingTerm(Rayleigh):
    def log_prob(self, value):
        return jnp.log(value) - jnp.log(self.scale) - 0.5 * (value / self.scale) ** 2


class MissingConstant(RightNormal):
    def log_prob(self, value):
        return -0.5 * ((value - self.loc) / self.scale) ** 2 - jnp.log(self.scale)


class WrongSign(RightNormal):
    def log_prob(self, value):
        z = (value - self.loc) / self.scale
        return -0.5 * z**2 + jnp.log(self.scale) - 0.5 * np.log(2 * np.pi)


class SupportTooWide(lx.Distribution):
    """An exponential law that says nothing about its support."""

    rate: lx.Array = lx.param(lx.supports.positive)

    def log_prob(self, value):
        return jnp.log(self.rate) - self.rate * value


class ForgetsTheSupport(Right):
    """Turns the guard off, as wrappers do, and puts nothing in its place."""

    _delegates = True

    def log_prob(self, value):
        z = value / self.scale
        return jnp.log(jnp.abs(value)) - 2 * jnp.log(self.scale) - 0.5 * z**2


class HidesNaN(Right):
    def log_prob(self, value):
        value = jnp.nan_to_num(value, nan=1.0)
        return jnp.log(value) - 2 * jnp.log(self.scale) - 0.5 * (value / self.scale) ** 2


class LosesDigits(RightNormal):
    """A difference of large numbers."""

    def log_prob(self, value):
        large = 1e5 * self.scale  # of two constants XLA would make one, and nothing would be lost
        return (super().log_prob(value) + large) - large


class SumsTheBatch(RightNormal):
    def log_prob(self, value):
        z = (value - self.loc) / self.scale
        return jnp.sum(-0.5 * z**2 - jnp.log(self.scale) - 0.5 * np.log(2 * np.pi))


class MixesElements(RightNormal):
    def log_prob(self, value):
        scale = jnp.mean(self.scale) + 0 * self.scale
        z = (value - self.loc) / scale
        return -0.5 * z**2 - jnp.log(scale) - 0.5 * np.log(2 * np.pi)


class ColumnShape(RightNormal):
    """A stray axis: `(n, batch, 1)` for `(n, batch)`."""

    def log_prob(self, value):
        return lx.Normal(self.loc, self.scale).log_prob(value)[..., None]


class Raises(RightNormal):
    def log_prob(self, value):
        raise RuntimeError("no such table")


# ---- mistakes: in gradients ----


class CutGradient(RightNormal):
    def log_prob(self, value):
        scale = jax.lax.stop_gradient(self.scale)
        return lx.Normal(self.loc, scale).log_prob(value)


@jax.custom_jvp
def _square(z):
    return z**2


@_square.defjvp
def _square_jvp(primals, tangents):
    return primals[0] ** 2, primals[0] * tangents[0]  # it should be twice that


class WrongRule(RightNormal):
    def log_prob(self, value):
        z = (value - self.loc) / self.scale
        return -0.5 * _square(z) - jnp.log(self.scale) - 0.5 * np.log(2 * np.pi)


class UntakenBranch(RightNormal):
    """`where` keeps the value, but the gradient of the branch that is not taken is NaN."""

    def log_prob(self, value):
        z = (value - self.loc) / self.scale
        square = jnp.where(z > 0, jnp.sqrt(z) ** 4, z**2)
        return -0.5 * square - jnp.log(self.scale) - 0.5 * np.log(2 * np.pi)


# ---- mistakes: in samples ----


class WideSampler(Right):
    def sample(self, key, shape=()):
        u = jax.random.uniform(key, self._shape(shape), self.dtype)
        return self.scale**2 * jnp.sqrt(-2 * jnp.log1p(-u))


class IgnoresKey(Right):
    def sample(self, key, shape=()):
        return self.quantile(jax.random.uniform(jax.random.key(3), self._shape(shape)))


class IgnoresShape(Right):
    def sample(self, key, shape=()):
        u = jax.random.uniform(key, self.batch_shape, self.dtype)
        return jnp.broadcast_to(self.quantile(u), self._shape(shape))


class SharesNoise(Right):
    def sample(self, key, shape=()):
        u = jax.random.uniform(key, (*shape, *(1 for _ in self.batch_shape)), self.dtype)
        return self.quantile(jnp.broadcast_to(u, self._shape(shape)))


class ForgetsTheBatch(Right):
    def sample(self, key, shape=()):
        return jax.random.uniform(key, shape, self.dtype)


class NegativeSamples(Right):
    def sample(self, key, shape=()):
        key, other = jax.random.split(key)
        sign = jax.random.rademacher(other, self._shape(shape), self.dtype)
        return sign * self.quantile(jax.random.uniform(key, self._shape(shape), self.dtype))


class WrongPair(Right):
    def sample_and_log_prob(self, key, shape=()):
        value = self.sample(key, shape)
        return value, self.log_prob(value) + jnp.log(self.scale)


# ---- mistakes: in the cdf family and the summaries ----


class WrongSummaries(Right):
    """Unlike mistakes at once: each has a row of its own."""

    def cdf(self, value):
        return jnp.exp(-0.5 * (value / self.scale) ** 2)

    def quantile(self, q):
        return self.scale * jnp.sqrt(-2 * jnp.log(q))

    def mean(self):
        return -self.scale * np.sqrt(np.pi / 2)

    def variance(self):
        return np.sqrt(2 - np.pi / 2) * self.scale

    def entropy(self):
        return super().entropy() + 0.5

    def mode(self):
        return 2 * self.scale


class CdfOfAnotherScale(Right):
    def cdf(self, value):
        return -jnp.expm1(-0.5 * value**2 / self.scale)


class WrongKL(RightNormal):
    pass


@lx.register_kl(WrongKL, WrongKL)
def _wrong_kl(p, q):
    z = (p.loc - q.loc) / q.scale
    return jnp.log(q.scale / p.scale) + 0.5 * (z**2 + p.scale / q.scale - 1)


# ---- mistakes: in the tree, shapes and dtypes ----


class StoresItsShape(RightNormal):
    def __init__(self, loc, scale):
        super().__init__(loc, scale)
        object.__setattr__(self, "shape", jnp.broadcast_shapes(jnp.shape(loc), jnp.shape(scale)))

    def log_prob(self, value):
        return jnp.broadcast_to(super().log_prob(value), jnp.shape(value)[:1] + self.shape)


class StoresItsShapeAsAField(lx.Distribution):
    """The shape is a static field: it stays what it was under vmap and indexing."""

    loc: lx.Array = lx.param(lx.supports.real)
    scale: lx.Array = lx.param(lx.supports.positive)
    shape: tuple = lx.static(default=None)

    def __init__(self, loc, scale, shape=None):
        shape = jnp.broadcast_shapes(jnp.shape(loc), jnp.shape(scale)) if shape is None else shape
        super().__init__(loc, scale, shape)

    def log_prob(self, value):
        return lx.Normal(self.loc, self.scale).log_prob(value)

    def sample(self, key, shape=()):
        return self.loc + self.scale * jax.random.normal(key, shape + self.shape, self.dtype)


class LosesFloat64(RightNormal):
    def log_prob(self, value):
        return super().log_prob(value).astype(jnp.float32)


class HalfPrecision(RightNormal):
    def log_prob(self, value):
        return super().log_prob(value).astype(jnp.bfloat16)


# ---- mistakes: on isolated points and vectors ----


class Counts(lx.Distribution):
    """Geometric counts whose sampler starts at 1, with a cdf that moves between the points."""

    probs: lx.Array = lx.param(lx.supports.unit_interval)
    support = lx.supports.non_negative_integer

    def log_prob(self, value):
        return value * jnp.log1p(-self.probs)

    def sample(self, key, shape=()):
        return lx.Geometric(probs=self.probs).sample(key, shape) + 1

    def quantile(self, q):
        return lx.Geometric(probs=self.probs).quantile(q) + 1


class LogOfVector(lx.Distribution):
    """exp of a Normal vector without the log-determinant."""

    loc: lx.Array = lx.param(lx.supports.real, shape=("event",))
    support = lx.supports.elementwise(lx.supports.positive, 1)

    def log_prob(self, value):
        return jnp.sum(-0.5 * (jnp.log(value) - self.loc) ** 2 - 0.5 * np.log(2 * np.pi), -1)

    def sample(self, key, shape=()):
        return jnp.exp(self.loc + jax.random.normal(key, self._shape(shape), self.dtype))


def rates(cls):
    return cls(jnp.array([0.25, 0.6]))


def vectors(cls):
    return cls(jnp.array([[0.5, -1.0], [0.25, 0.0]]))


MISTAKES = [
    (MissingTerm, rayleigh, "normalisation", r"that is scale: a log\(scale\) term is missing"),
    (MissingConstant, normal, "normalisation", r"a factor of sqrt\(2 pi\) is missing"),
    (WrongSign, normal, "normalisation", r"the sign of a log\(scale\) term is wrong"),
    (SupportTooWide, rates, "normalisation", "the support is declared too wide"),
    (ForgetsTheSupport, rayleigh, "outside the support", "outside the support .* -inf is wanted"),
    (HidesNaN, rayleigh, "NaN", r"log_prob of HidesNaN.* where the value is NaN: it hides the NaN"),
    (LosesDigits, normal, "precision", "in float32 and .* in float64: digits are lost"),
    (SumsTheBatch, normal, "one value at a time", "a sum over the batch"),
    (MixesElements, normal, "vmap", "does log_prob mix the elements"),
    (ColumnShape, normal, "shapes", r"log_prob of values \(2, 3, 2\) raises ValueError"),
    (Raises, normal, "shapes", "raises RuntimeError: no such table"),
    (CutGradient, normal, "gradient in scale", "the gradient is cut, by stop_gradient"),
    (WrongRule, normal, "gradient in value", "autodiff says .* finite differences"),
    (UntakenBranch, normal, "gradient in value", "nan, not finite"),
    (WideSampler, rayleigh, "samples", "times as wide: variance or rate where scale is meant"),
    (IgnoresKey, rayleigh, "keys", "samples do not depend on the key"),
    (IgnoresShape, rayleigh, "keys", "does sample ignore its shape"),
    (SharesNoise, rayleigh, "keys", "draw together .* they share their noise"),
    (ForgetsTheBatch, rayleigh, "shapes", r"sample\(key, \(2, 3\)\) has shape \(2, 3\) where"),
    (NegativeSamples, rayleigh, "samples", "samples of .* are outside the support"),
    (WrongPair, rayleigh, "sample_and_log_prob", "drew .* log_prob there is"),
    (WrongSummaries, rayleigh, "cdf", "it returns survival"),
    (WrongSummaries, rayleigh, "quantile", "it is the quantile of 1 - q"),
    (WrongSummaries, rayleigh, "mean", "the sign is wrong"),
    (WrongSummaries, rayleigh, "variance", "it is its square root"),
    (WrongSummaries, rayleigh, "entropy", "but that of the density is"),
    (WrongSummaries, rayleigh, "mode", r"but at \[.*\] it is"),
    (CdfOfAnotherScale, rayleigh, "derivative of cdf", "the derivative of cdf at .* the density"),
    (WrongKL, normal, "KL", "the expectation of the log-ratio"),
    (StoresItsShape, normal, "pytree", "stores shape = .* which is no declared field"),
    (StoresItsShapeAsAField, normal, "vmap", "sample inside vmap has shape .* is a shape stored"),
    (LosesFloat64, normal, "dtypes", "log_prob gives float32 for float64 parameters"),
    (HalfPrecision, normal, "dtypes", "log_prob gives bfloat16 for float32 parameters"),
    (Counts, rates, "normalisation", "the probabilities of .* sum to 4"),
    (Counts, rates, "samples", "do not follow log_prob: chi-squared"),
    (Counts, rates, "quantile", "the smallest point whose cumulative sum reaches it"),
    (LogOfVector, vectors, "normalisation", "importance sampling.*or of a log-determinant"),
]


@pytest.mark.parametrize(
    ("cls", "make", "row", "message"), MISTAKES, ids=lambda x: getattr(x, "__name__", None)
)
def test_a_mistake_is_named(cls, make, row, message):
    report = report_of(cls, make)
    assert report[row].status == "failed", str(report)
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(report[row].detail)


@pytest.mark.parametrize(
    ("cls", "make", "rows"),
    [
        (MissingTerm, rayleigh, {"normalisation"}),
        (CutGradient, normal, {"gradient in scale"}),
        (IgnoresKey, rayleigh, {"keys"}),
        (WrongKL, normal, {"KL"}),
        (LosesFloat64, normal, {"dtypes"}),
    ],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_nothing_else_is_blamed(cls, make, rows):
    assert {row.name for row in report_of(cls, make).failures} == rows


def test_failures_raise_with_a_line_for_each():
    with pytest.raises(AssertionError, match=r"1 FAILED(.|\n)*FAILED +normalisation"):
        lx.testing.check_distribution(rayleigh(MissingTerm), key=KEY)


class Gompertz(lx.Distribution):
    """log p falls off as exp(rate x): below -1e80 where the quadrature looks for its mass."""

    shape: lx.Array = lx.param(support=lx.supports.positive)
    rate: lx.Array = lx.param(support=lx.supports.positive)
    support = lx.supports.non_negative

    def log_prob(self, value):
        growth = self.rate * value
        return jnp.log(self.rate) + jnp.log(self.shape) + growth - self.shape * jnp.expm1(growth)

    def sample(self, key, shape=()):
        u = jax.random.uniform(key, self._shape(shape), self.dtype)
        return jnp.log1p(-jnp.log1p(-u) / self.shape) / self.rate


def test_a_mixture_far_below_every_component_passes():
    """XLA computes the components' densities twice and rounds them otherwise: log-sum-exp was +inf."""
    components = Gompertz(jnp.array([0.1, 3.0]), jnp.array([2.0, 0.5]))
    report = lx.testing.check_distribution(lx.Mixture(jnp.array([0.3, 0.7]), components), key=KEY)
    assert "normalisation" in str(report) and "none failed" in str(report)
