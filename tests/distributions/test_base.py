"""What the base class does around the methods that a family writes."""

import inspect
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import likelax as lx


class Triangle(lx.Distribution):
    """p(x) = 2x / width^2 on [0, width]: only what a new family must write, and a cdf."""

    width: lx.Array = lx.param(support=lx.supports.positive)

    @property
    def support(self):
        return lx.supports.interval(0.0, self.width)

    def log_prob(self, value):
        return jnp.log(2 * value) - 2 * jnp.log(self.width)

    def cdf(self, value):
        return (value / self.width) ** 2


def test_one_of_each_pair_is_enough():
    dist, x = Triangle(2.0), jnp.array([0.5, 1.0, 1.5])
    want = np.array([0.5, 1.0, 1.5]) ** 2 / 4
    np.testing.assert_allclose(dist.log_cdf(x), np.log(want), rtol=1e-6)
    np.testing.assert_allclose(dist.survival(x), 1 - want, rtol=1e-6)
    np.testing.assert_allclose(dist.log_survival(x), np.log1p(-want), rtol=1e-6)
    np.testing.assert_allclose(dist.prob(x), np.asarray(x) / 2, rtol=1e-6)


def test_outside_the_support_and_missing():
    dist, x = Triangle(2.0), jnp.array([-1.0, 2.5, jnp.inf, -jnp.inf])
    values, slopes = jax.vmap(jax.value_and_grad(dist.log_prob))(x)
    np.testing.assert_array_equal(values, -np.inf)
    np.testing.assert_array_equal(slopes, 0)
    np.testing.assert_array_equal(jax.grad(lambda d: d.log_prob(-1.0))(dist).width, 0)
    np.testing.assert_array_equal(dist.cdf(x), [0, 1, 1, 0])
    np.testing.assert_array_equal(dist.log_survival(x), [0, -np.inf, -np.inf, 0])
    for method in ("log_prob", "prob", "cdf", "log_cdf", "survival", "log_survival"):
        assert np.isnan(getattr(dist, method)(jnp.nan)), method
        assert np.isnan(getattr(Triangle(jnp.nan), method)(0.5)), method


def test_what_was_not_written_says_what_to_do():
    dist = Triangle(2.0)
    for method, hint in {
        "mean": "average",
        "mode": "maximise",
        "variance": "samples?",
        "stddev": "samples?",
        "entropy": "average",
    }.items():
        with pytest.raises(NotImplementedError, match=rf"Triangle\.(variance|{method}).*{hint}"):
            getattr(dist, method)()
    with pytest.raises(NotImplementedError, match=r"Triangle\.quantile.*quantiles of"):
        dist.quantile(0.5)
    with pytest.raises(NotImplementedError, match=r"Triangle\.sample.*lx\.samplers"):
        dist.sample(jax.random.key(0))


@pytest.mark.parametrize(
    ("batch", "value"), [((), ()), ((3,), ()), ((), (4,)), ((3,), (4, 3)), ((2, 1), (5, 2, 3))]
)
def test_shapes_broadcast_as_promised(batch, value):
    dist = Triangle(jnp.full(batch, 2.0))
    want = np.broadcast_shapes(batch, value)
    assert dist.batch_shape == batch and dist.event_shape == ()
    for method in ("log_prob", "cdf", "log_survival"):
        assert getattr(dist, method)(jnp.full(value, 0.5)).shape == want


def test_shapes_that_do_not_fit_are_named():
    dist = lx.Normal(jnp.zeros(3), 1.0)
    with pytest.raises(ValueError, match=r"Normal\.log_prob: a value.*batch \(3,\).*got \(4,\)"):
        dist.log_prob(jnp.zeros(4))
    with pytest.raises(ValueError, match=r"Normal\.cdf: a value"):
        dist.cdf(jnp.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"event \(3,\), got \(\)"):
        dist.to_event().log_prob(0.0)
    with pytest.raises(ValueError, match=r"ndims is 2, but Normal has batch shape \(3,\)"):
        dist.to_event(2)


def test_dtypes():
    """Values in half precision are computed in float32; float64 parameters stay so."""
    dist = lx.Normal(0.0, 1.0)
    assert dist.log_prob(jnp.bfloat16(0.5)).dtype == jnp.float32
    assert dist.log_prob(jnp.int8(1)).dtype == jnp.float32
    assert dist.log_prob(True).dtype == jnp.float32
    with jax.enable_x64(True):
        wide = lx.Normal(jnp.float64(0.0), jnp.float64(1.0))
        assert wide.log_prob(0.5).dtype == jnp.float64
        assert wide.log_prob(jnp.float32(0.5)).dtype == jnp.float64


def test_keys_of_every_kind_and_none():
    dist = lx.Normal(jnp.zeros(2), 1.0)
    with_typed = dist.sample(jax.random.key(3), 5)
    np.testing.assert_array_equal(dist.sample(jax.random.PRNGKey(3), (5,)), with_typed)
    assert with_typed.shape == (5, 2)
    # Under the annotations of the tests a TypeError comes as theirs; a user gets this one.
    for wrong in (0, 1.5, None):
        with pytest.raises(Exception, match=r"key"):
            dist.sample(wrong)
    value, log_prob = dist.sample_and_log_prob(jax.random.key(3), (5,))
    np.testing.assert_array_equal(value, with_typed)
    np.testing.assert_allclose(log_prob, dist.log_prob(value), rtol=1e-6)


def test_a_distribution_is_a_frozen_pytree():
    dist = lx.Normal(1.0, jnp.array([2.0, 3.0]))
    leaves, tree = jax.tree.flatten(dist)
    assert len(leaves) == 2
    assert repr(jax.tree.unflatten(tree, leaves)) == repr(dist)
    assert repr(pickle.loads(pickle.dumps(dist))) == repr(dist)
    with pytest.raises(AttributeError, match="loc"):
        dist.loc = 3.0
    doubled = jax.tree.map(lambda leaf: 2 * leaf, dist)
    np.testing.assert_array_equal(doubled.scale, [4, 6])


def test_independent_sums_and_masked_leaves_out():
    base = lx.Normal(jnp.array([0.0, 1.0, jnp.nan]), jnp.array([1.0, 2.0, -1.0]))
    mask = jnp.array([True, True, False])
    value = jnp.array([0.5, jnp.nan, jnp.nan]).at[1].set(2.0)
    each = base.mask(mask).log_prob(value)
    assert each[2] == 0
    assert base.mask(mask).to_event().log_prob(value) == each.sum()
    want = lx.Normal(jnp.array([0.0, 1.0]), jnp.array([1.0, 2.0])).log_prob(value[:2])
    np.testing.assert_allclose(each[:2], want)
    slopes = jax.grad(lambda d: d.mask(mask).log_prob(value).sum())(base)
    assert np.isfinite(slopes.loc).all() and slopes.loc[2] == slopes.scale[2] == 0
    # The control: unmasked, the missing value is not hidden.
    assert np.isnan(base.to_event().log_prob(value))


def test_one_element_outside_ends_the_whole_event():
    dist = lx.Exponential(jnp.ones(3)).to_event()
    value, slope = jax.value_and_grad(dist.log_prob)(jnp.array([1.0, -1.0, 2.0]))
    assert value == -np.inf
    np.testing.assert_array_equal(slope, 0)
    assert np.isnan(dist.log_prob(jnp.array([1.0, -1.0, jnp.nan])))


def test_signatures_are_those_of_the_interface():
    """A family's method takes what the base's takes: `help` shows one interface."""
    for name in lx.distributions.__all__:
        family = getattr(lx, name)
        if not (isinstance(family, type) and issubclass(family, lx.Distribution)):
            continue
        for method in ("log_prob", "sample", "quantile", "cdf", "mean"):
            own = list(inspect.signature(getattr(family, method)).parameters)
            assert own == list(inspect.signature(getattr(lx.Distribution, method)).parameters)


def test_outside_the_support_a_nan_shows_and_there_is_no_slope():
    rate = jnp.array([2.0, jnp.nan, 2.0])
    value = jnp.array([-1.0, -1.0, 0.25])

    def total(rate, value):
        log_prob = lx.Exponential(rate).log_prob(value)
        return jnp.sum(log_prob), log_prob

    slopes, log_prob = jax.grad(total, (0, 1), has_aux=True)(rate, value)
    np.testing.assert_allclose(log_prob, [-jnp.inf, jnp.nan, np.log(2.0) - 0.5], rtol=1e-6)
    np.testing.assert_allclose(slopes[0], [0.0, jnp.nan, 0.25], rtol=1e-6)
    np.testing.assert_allclose(slopes[1], [0.0, 0.0, -2.0], rtol=1e-6)


def test_the_order_of_keywords_is_no_part_of_the_structure():
    dist = lx.Normal(0.0, 1.0)
    for other in (lx.Normal(scale=1.0, loc=0.0), dist.replace(loc=1.0), dist.replace(scale=2.0)):
        assert jax.tree.structure(other) == jax.tree.structure(dist)
    moved, _ = jax.lax.scan(lambda d, x: (d.replace(loc=d.loc + x), None), dist, jnp.ones(3))
    assert repr(moved) == "Normal(loc=3, scale=1)"
    # The control: another alternative is another structure.
    assert jax.tree.structure(dist.replace(log_scale=0.0)) != jax.tree.structure(dist)


@pytest.mark.parametrize("family", [lx.Bernoulli, lambda p: lx.NegativeBinomial(3.0, p)])
def test_what_goes_by_keyword_only_is_named(family):
    with pytest.raises(TypeError, match=r"by keyword it takes logits= or probs="):
        family(0.5)


def test_a_support_that_is_none_is_refused():
    with pytest.raises(TypeError, match=r"support is one of lx\.supports.*got \(0, 1\)"):

        class Wrong(lx.Distribution):
            support = (0, 1)


def test_what_is_masked_out_reaches_neither_entropy_nor_kl():
    mask, scale = jnp.array([True, False]), jnp.array([2.0, jnp.nan])

    def entropy(scale, mask):
        return lx.Normal(0.0, scale).mask(mask).entropy().sum()

    def kl(scale, mask):
        return lx.Normal(0.0, scale).mask(mask).kl_divergence(lx.Normal(0.0, 1.0).mask(mask)).sum()

    np.testing.assert_allclose(jax.grad(entropy)(scale, mask), [0.5, 0])
    np.testing.assert_allclose(jax.grad(kl)(scale, mask), [2 - 0.5, 0])
    assert np.isnan(jax.grad(entropy)(scale, ~mask)[1])  # the control
    # Parameters that are finite but wrong together, and one that two elements share.
    slope = jax.grad(lambda s: lx.Normal(0.0, s).mask(mask).log_prob(1.0).sum())
    np.testing.assert_allclose(slope(jnp.array([1.0, 0.0])), [0.0, 0.0])
    low = jnp.array([0.0, jnp.nan])
    slope = jax.grad(lambda h: lx.Uniform(low, h).mask(mask).log_prob(0.5).sum())
    np.testing.assert_allclose(slope(jnp.float32(2.0)), -0.5)


def test_a_masked_element_of_an_event_may_be_anywhere():
    mask = jnp.array([True, False])
    counts = lx.Poisson(jnp.array([2.0, 3.0])).mask(mask)
    value = jnp.array([2.0, -1.0])
    assert counts.to_event().log_prob(value) == counts.log_prob(value)[0] > -2
    labels = lx.Categorical(logits=jnp.zeros((2, 3))).mask(mask).to_event()
    np.testing.assert_allclose(labels.log_prob(jnp.array([1, -100])), -np.log(3), rtol=1e-6)
    assert labels.log_prob(jnp.array([-100, 1])) == -np.inf  # the control


@pytest.mark.parametrize(
    "value", ["a", [[1.0], [1.0, 2.0]], [1.0, None], np.array(["a"]), lx.Normal(0.0, 1.0)], ids=repr
)
def test_parameters_that_are_no_numbers_are_named(value):
    for make in (lambda x: lx.Normal(0.0, scale=x), lambda x: lx.Gamma(1.0, rate=x)):
        with pytest.raises(
            TypeError, match=r"(scale|rate) is a number or an array of .*; write \1="
        ):
            make(value)
    for family in (lx.Truncated, lx.Censored):
        with pytest.raises(TypeError, match=rf"{family.__name__}: high is a number or an array"):
            family(lx.Normal(0.0, 1.0), high=value)


@pytest.mark.parametrize("value", [1j, np.array([1j]), jnp.array([1j])], ids=repr)
def test_complex_numbers_are_refused(value):
    with pytest.raises(
        TypeError, match=r"loc takes real numbers, got complex.*write loc=loc\.real"
    ):
        lx.Normal(value, 1.0)
    with pytest.raises(TypeError, match="low takes real numbers"):
        lx.Truncated(lx.Normal(0.0, 1.0), low=value)
    with pytest.raises(TypeError, match=r"Normal\.quantile: values are real numbers, got complex"):
        lx.Normal(0.0, 1.0).quantile(value)


@pytest.mark.parametrize("shape", [-1, (2, -3), 2.0, (2.5,), "a", (2, "a"), None], ids=repr)
def test_a_shape_of_samples_that_is_none_is_refused(shape):
    for dist in (lx.Normal(0.0, 1.0), lx.Normal(jnp.zeros(2), 1.0).to_event()):
        with pytest.raises(
            ValueError, match=r"\.sample: a shape of whole numbers .*write 25 or \(25, 3\)"
        ):
            dist.sample(jax.random.key(0), shape)
    for whole in (np.int64(3), jnp.array(3), [3], (np.int32(3),), np.array([3]), range(3, 4)):
        assert lx.Normal(0.0, 1.0).sample(jax.random.key(0), whole).shape == (3,)


@pytest.mark.parametrize(
    ("family", "name", "own"),
    [
        (lx.Normal, "sigma", "scale"),
        (lx.Normal, "mu", "loc"),
        (lx.Poisson, "mu", "rate"),
        (lx.Gamma, "beta", "rate"),
        (lx.Beta, "beta", "concentration0"),
        (lx.Uniform, "a", "low"),
        (lx.MultivariateNormal, "covariance_matrix", "covariance"),
        (lx.Normal, "scael", "scale"),
    ],
)
def test_what_others_call_a_parameter_is_answered_by_its_name(family, name, own):
    for make in (family, lambda **given: lx.Head(family, **given)):
        with pytest.raises(TypeError, match=rf"no.* '{name}'; it has .*; write {own}=\.\.\.$"):
            make(**{name: 1.0})
    with pytest.raises(TypeError, match="log_scale, scale$"):  # of others there is no guess
        lx.Normal(0.0, zzz=1.0)


@pytest.mark.parametrize("make", [lx.Gamma, lambda **given: lx.Head(lx.Gamma, **given)])
def test_a_scale_for_a_rate_is_answered_by_its_inverse(make):
    with pytest.raises(TypeError, match=r"no.* 'scale'; it has .*; write rate=1 / scale$"):
        make(concentration=2.0, scale=1.0)


def test_shapes_in_messages_are_those_that_were_given():
    message = r"do not broadcast: loc \(3,\), scale \(2, 4\); add axes"
    with pytest.raises(ValueError, match=message):
        lx.Normal(np.zeros(3), np.ones((2, 4)))
    with pytest.raises(
        ValueError, match=r"scale_tril of shape \(2, 2\) does not fit loc of shape \(5, 3\)"
    ):
        lx.MultivariateNormal(np.zeros((5, 3)), scale_tril=np.eye(2))
    assert lx.Normal(np.zeros(3), np.ones((2, 1))).batch_shape == (2, 3)  # these do


@pytest.mark.parametrize(
    "family",
    [
        lambda k, s: lx.Weibull(k, s),
        lambda k, s: lx.LogLogistic(k, s),
        lambda k, s: lx.Gamma(k, s),
        lambda k, s: lx.InverseGamma(k, s),
        lambda k, s: lx.InverseGaussian(s, k * s),
        lambda k, s: lx.Pareto(k, s),
        lambda k, s: lx.GeneralizedPareto(0.0, s, k),
        lambda k, s: lx.HalfCauchy(k * s),
    ],
    ids=[
        "Weibull",
        "LogLogistic",
        "Gamma",
        "InverseGamma",
        "InverseGaussian",
        "Pareto",
        "GeneralizedPareto",
        "HalfCauchy",
    ],
)
def test_off_the_support_slopes_are_0_at_any_scale(family):
    def both(x, k, s):
        each = jax.value_and_grad(lambda *a: family(*a[1:]).log_prob(a[0]), (1, 2))
        return each(x, k, s), jax.grad(lambda *a: family(*a[1:]).log_survival(a[0]), (1, 2))(
            x, k, s
        )

    grid = jnp.meshgrid(
        jnp.array([-1e20, -1.0, -1e-20]), jnp.array([1e-3, 1.0, 1e6]), jnp.array([1e-20, 1.0, 1e20])
    )
    (value, slopes), tails = jax.jit(jax.vmap(both))(*(g.ravel() for g in grid))
    assert (value == -jnp.inf).all()
    for slope in (*slopes, *tails):
        assert (slope == 0).all()
