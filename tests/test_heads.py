"""Heads: the right parameters from raw outputs, sane whatever those are, and clear about what they
want.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import likelax as lx

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def raw(head, value=None, batch=(4,)):
    shape = (*batch, head.size)
    values = RNG.normal(size=shape) if value is None else np.full(shape, value)
    return jnp.asarray(values, jnp.float32)


def test_links_follow_the_supports():
    r = raw(lx.Head(lx.Normal))
    dist = lx.Head(lx.Normal)(r)
    assert dist.given("log_scale") and not dist.given("scale")
    np.testing.assert_array_equal(dist.loc, r[:, 0])
    np.testing.assert_array_equal(dist.log_scale, r[:, 1])
    poisson = lx.Head(lx.Poisson)(r[:, :1])
    np.testing.assert_array_equal(poisson.log_rate, r[:, 0])
    coin = lx.Head(lx.Bernoulli)(r[:, :1])
    assert coin.given("logits")
    np.testing.assert_array_equal(coin.logits, r[:, 0])


def test_fixed_learned_and_read_parameters():
    head = lx.Head(lx.StudentT, df=lx.learned(7.0), scale=0.5)
    assert head.size == 1
    params = head.init(KEY, raw(head))
    assert set(params) == {"df"}
    dist = head(raw(head), params)
    np.testing.assert_allclose(dist.df.ravel(), 7.0, rtol=1e-5)
    np.testing.assert_allclose(dist.scale.ravel(), 0.5)
    assert dist.batch_shape == (4,)
    grad = jax.grad(lambda p: jnp.sum(head(raw(head, 0.3), p).log_prob(jnp.arange(4.0))))(params)
    assert grad["df"].shape == () and grad["df"] != 0


def test_a_head_of_learned_parameters_only():
    head = lx.Head(lx.Normal, loc=lx.learned(1.5), log_scale=lx.learned())
    assert head.size == 0
    dist = head(jnp.zeros((4, 0)), head.init(KEY, jnp.zeros((4, 0))))
    np.testing.assert_allclose(
        dist.log_prob(np.arange(4.0)), stats.norm.logpdf(np.arange(4.0), 1.5, 1.0), rtol=1e-5
    )


def test_event_shape_repeats_a_family_and_sums():
    head = lx.Head(lx.Normal, event_shape=(2, 3), scale=lx.learned())
    assert head.size == 6
    params = head.init(KEY, raw(head))
    assert params["scale"].shape == (2, 3)
    r = raw(head)
    dist = head(r, params)
    assert (dist.batch_shape, dist.event_shape) == ((4,), (2, 3))
    x = RNG.normal(size=(4, 2, 3))
    expected = stats.norm.logpdf(x, np.asarray(r).reshape(4, 2, 3), 1.0).sum((1, 2))
    np.testing.assert_allclose(dist.log_prob(x), expected, rtol=1e-5)


def test_vector_families_take_their_size_from_the_event():
    head = lx.Head(lx.MultivariateNormal, event_shape=(3,))
    assert head.size == 3 + 6
    r = raw(head)
    dist = head(r)
    assert (dist.batch_shape, dist.event_shape) == ((4,), (3,))
    tril = np.asarray(dist.scale_tril)
    assert np.all(np.triu(tril, 1) == 0) and np.all(np.diagonal(tril, axis1=1, axis2=2) > 0)
    repeated = lx.Head(lx.Dirichlet, event_shape=(2, 3))
    assert repeated.size == 6
    assert repeated(raw(repeated)).event_shape == (2, 3)


def test_categorical_sizes():
    head = lx.Head(lx.Categorical, event_shape=(5,), num_categories=3)
    assert head.size == 15
    assert head(raw(head)).event_shape == (5,)
    r = raw(lx.Head(lx.Categorical, num_categories=3))
    np.testing.assert_array_equal(lx.Head(lx.Categorical, num_categories=3)(r).logits, r)


def test_heads_nest():
    head = lx.Head(lx.ZeroInflated, base=lx.Head(lx.Poisson))
    assert head.size == 2
    r = raw(head)
    dist = head(r)
    extra, rate = 1 / (1 + np.exp(-np.asarray(r[:, 0], float))), np.exp(np.asarray(r[:, 1], float))
    np.testing.assert_allclose(dist.prob(0), extra + (1 - extra) * np.exp(-rate), rtol=1e-5)
    pixels = lx.Head(
        lx.Quantized, base=lx.Head(lx.Logistic), low=0, high=16, bins=17, event_shape=(4,)
    )
    assert pixels.size == 8
    dist = pixels(raw(pixels))
    assert (dist.batch_shape, dist.event_shape) == ((4,), (4,))
    learns = lx.Head(lx.ZeroInflated, base=lx.Head(lx.NegativeBinomial, total_count=lx.learned()))
    params = learns.init(KEY, raw(learns))
    assert set(params["base"]) == {"total_count"}
    assert learns(raw(learns), params).batch_shape == (4,)


def test_mixture_head():
    head = lx.MixtureHead(lx.Head(lx.Normal), 3)
    assert head.size == 9
    r = raw(head)
    dist = head(r)
    assert (dist.batch_shape, dist.event_shape) == ((4,), ())
    weights = np.exp(np.asarray(r[:, :3], float))
    weights /= weights.sum(-1, keepdims=True)
    each = np.asarray(r[:, 3:], float).reshape(4, 3, 2)
    x = RNG.normal(size=4)
    density = (weights * stats.norm.pdf(x[:, None], each[..., 0], np.exp(each[..., 1]))).sum(-1)
    np.testing.assert_allclose(dist.log_prob(x), np.log(density), rtol=1e-5)
    vectors = lx.MixtureHead(lx.Head(lx.Normal, event_shape=(2,)), 3)
    assert vectors(raw(vectors)).event_shape == (2,)


def test_transformed_head():
    head = lx.TransformedHead(lx.Head(lx.Normal), lx.bijectors.Exp())
    r = raw(head)
    x = RNG.gamma(2.0, size=4)
    expected = lx.LogNormal(r[:, 0], log_scale=r[:, 1]).log_prob(x)
    np.testing.assert_allclose(head(r).log_prob(x), expected, rtol=1e-5)


def test_raw_outputs_in_bfloat16_are_computed_in_float32():
    r = raw(lx.Head(lx.Normal)).astype(jnp.bfloat16)
    assert lx.Head(lx.Normal)(r).log_prob(jnp.zeros(4)).dtype == jnp.float32


HEADS = {
    "Normal": (lx.Head(lx.Normal), 0.7),
    "LogNormal": (lx.Head(lx.LogNormal), 0.7),
    "HalfNormal": (lx.Head(lx.HalfNormal), 0.7),
    "Laplace": (lx.Head(lx.Laplace), 0.7),
    "AsymmetricLaplace": (lx.Head(lx.AsymmetricLaplace), 0.7),
    "Huber": (lx.Head(lx.Huber), 0.7),
    "Logistic": (lx.Head(lx.Logistic), 0.7),
    "Cauchy": (lx.Head(lx.Cauchy), 0.7),
    "StudentT": (lx.Head(lx.StudentT), 0.7),
    "SkewNormal": (lx.Head(lx.SkewNormal), 0.7),
    "HalfCauchy": (lx.Head(lx.HalfCauchy), 0.7),
    "LogLogistic": (lx.Head(lx.LogLogistic), 0.7),
    "Pareto": (lx.Head(lx.Pareto, scale=0.5), 0.7),
    "Exponential": (lx.Head(lx.Exponential), 0.7),
    "Gamma": (lx.Head(lx.Gamma), 0.7),
    "InverseGamma": (lx.Head(lx.InverseGamma), 0.7),
    "Beta": (lx.Head(lx.Beta), 0.7),
    "Kumaraswamy": (lx.Head(lx.Kumaraswamy), 0.7),
    "PlackettLuce": (lx.Head(lx.PlackettLuce, event_shape=3), (2, 0, 1)),
    "RelaxedBernoulli": (lx.Head(lx.RelaxedBernoulli), 0.7),
    "RelaxedOneHotCategorical": (
        lx.Head(lx.RelaxedOneHotCategorical, event_shape=3),
        (0.7, 0.2, 0.1),
    ),
    "VonMises": (lx.Head(lx.VonMises), 0.7),
    "Bernoulli": (lx.Head(lx.Bernoulli), 1),
    "Binomial": (lx.Head(lx.Binomial, total_count=5), 2),
    "NegativeBinomial": (lx.Head(lx.NegativeBinomial), 2),
    "Poisson": (lx.Head(lx.Poisson), 2),
    "Geometric": (lx.Head(lx.Geometric), 2),
    "Categorical": (lx.Head(lx.Categorical, num_categories=4), 2),
    "OrderedLogistic": (lx.Head(lx.OrderedLogistic, cutpoints=lx.learned(), num_cutpoints=3), 2),
    "MultivariateNormal": (lx.Head(lx.MultivariateNormal, event_shape=3), (0.7, -0.2, 0.1)),
    "MultivariateNormalDiag": (lx.Head(lx.MultivariateNormalDiag, event_shape=3), (0.7, -0.2, 0.1)),
    "LowRankMultivariateNormal": (
        lx.Head(lx.LowRankMultivariateNormal, event_shape=3, rank=2),
        (0.7, -0.2, 0.1),
    ),
    "MultivariateStudentT": (lx.Head(lx.MultivariateStudentT, event_shape=3), (0.7, -0.2, 0.1)),
    "Dirichlet": (lx.Head(lx.Dirichlet, event_shape=3), (0.7, 0.2, 0.1)),
    "LogisticNormal": (lx.Head(lx.LogisticNormal, num_ratios=2), (0.7, 0.2, 0.1)),
    "Mixture": (lx.MixtureHead(lx.Head(lx.Normal), 3), 0.7),
    "ZeroInflated": (lx.Head(lx.ZeroInflated, base=lx.Head(lx.NegativeBinomial)), 2),
    "Quantized": (lx.Head(lx.Quantized, base=lx.Head(lx.Logistic), low=0, high=16, bins=17), 3),
}


@pytest.mark.parametrize("name", HEADS)
def test_predictions_are_finite_and_sane_for_any_raw_output(name):
    """At 0 the loss is a few nats; at +-100 it and its gradient are still finite."""
    head, target = HEADS[name]

    @jax.jit
    def nll(r):
        params = head.init(KEY, r)
        return -head(r, params).log_prob(jnp.asarray(target))

    gradient = jax.jit(jax.grad(nll))
    signs = np.where(np.arange(head.size) % 2 == 0, 1.0, -1.0)
    for value in (0.0, 100.0, -100.0, 100 * signs, -100 * signs):
        r = jnp.broadcast_to(jnp.asarray(value, jnp.float32), (head.size,))
        assert np.isfinite(nll(r)), f"loss at {value}"
        assert np.all(np.isfinite(gradient(r))), f"gradient at {value}"
    assert float(nll(jnp.zeros(head.size))) < 8


def unchecked(cls, *args):
    """`cls(*args)` without the annotation checks of the tests, which would speak up first."""
    inspect.unwrap(cls.__init__)(object.__new__(cls), *args)


REFUSED = {
    "no class": (
        lambda: unchecked(lx.Head, lx.Normal(0.0, 1.0)),
        TypeError,
        r"lx\.Head\(lx\.Normal\)",
    ),
    "unknown name": (
        lambda: lx.Head(lx.Normal, sd=1.0),
        TypeError,
        "no 'sd'; it has loc, log_scale, scale",
    ),
    "two alternatives": (
        lambda: lx.Head(lx.Normal, scale=1.0, log_scale=0.0),
        TypeError,
        "one of scale= and log_scale=; give one",
    ),
    "no size": (lambda: lx.Head(lx.Categorical), ValueError, r"num_categories=10"),
    "no event": (lambda: lx.Head(lx.Dirichlet), ValueError, r"event_shape=\(3,\)"),
    "sizes of CTC": (
        lambda: lx.Head(lx.sequence.CTC, num_labels=3, blank=2),
        ValueError,
        r"CTC needs num_frames, num_tokens; write lx\.Head\(lx\.sequence\.CTC, num_labels=3, "
        r"blank=2, num_frames=10, num_tokens=10\)$",
    ),
    "sizes of a CRF": (
        lambda: lx.Head(lx.sequence.LinearChainCRF, transition=np.zeros((3, 3))),
        ValueError,
        r"needs event_shape, num_labels; write lx\.Head\(lx\.sequence\.LinearChainCRF, "
        r"transition=\.\.\., event_shape=\(3,\), num_labels=10\)$",
    ),
    "one size of a CRF": (
        lambda: lx.Head(lx.sequence.LinearChainCRF, event_shape=7),
        ValueError,
        r"needs num_labels; write .*CRF, event_shape=\(7,\), num_labels=10\)$",
    ),
    "parts of a hidden Markov model": (
        lambda: lx.Head(lx.sequence.HiddenMarkov, num_steps=4),
        ValueError,
        r"needs initial, transition, emission; write lx\.Head\(lx\.sequence\.HiddenMarkov, "
        r"num_steps=4, initial=lx\.Head\(\.\.\.\), transition=\.\.\., emission=\.\.\.\)$",
    ),
    "no count": (lambda: lx.Head(lx.Binomial), ValueError, "cannot learn total_count: fix it"),
    "no base": (lambda: lx.Head(lx.ZeroInflated), ValueError, r"base=lx\.Head\(\.\.\.\)"),
    "uniform": (lambda: lx.Head(lx.Uniform), ValueError, "cannot learn low: fix it"),
    "ends that are crossed": (
        lambda: lx.Head(lx.Truncated, base=lx.Head(lx.Normal), low=2.0, high=1.0),
        ValueError,
        r"Truncated: low must be at most high, got low=2\.0 and high=1\.0; write",
    ),
    "no end": (
        lambda: lx.Head(lx.Truncated, base=lx.Head(lx.Normal)),
        ValueError,
        r"Truncated: an end is wanted, got none; write low=0\.0",
    ),
    "ends of unlike shapes": (
        lambda: lx.Head(lx.Truncated, base=lx.Head(lx.Normal), low=np.zeros(2), high=np.ones(3)),
        ValueError,
        r"Truncated: low and high broadcast together, got shapes \(2,\) and \(3,\)",
    ),
    "one of several ends": (
        lambda: lx.Head(lx.Censored, (2,), base=lx.Head(lx.Normal), low=np.array([0, 3]), high=2.0),
        ValueError,
        "Censored: low must be at most high",
    ),
    "crossed parameters": (
        lambda: lx.Head(lx.Uniform, low=2.0, high=1.0),
        ValueError,
        "Uniform: low must be at most high",
    ),
    "an end that is learned": (
        lambda: lx.Head(lx.Truncated, base=lx.Head(lx.Normal), low=lx.learned()),
        TypeError,
        r"Truncated: a head cannot learn low, got learned\(\); fix it, low=0\.0$",
    ),
    "a base that is learned": (
        lambda: lx.Head(lx.ZeroInflated, base=lx.learned()),
        TypeError,
        r"cannot learn base, got learned\(\); write base=lx\.Head\(lx\.Normal\)$",
    ),
    "an end that is no number": (
        lambda: lx.Head(lx.Truncated, base=lx.Head(lx.Normal), low="a"),
        TypeError,
        "Truncated: low is a number or an array of numbers, got 'a'",
    ),
    "no components": (
        lambda: lx.MixtureHead(lx.Head(lx.Normal), 0),
        ValueError,
        "at least 1, got 0",
    ),
    "last axis": (
        lambda: lx.Head(lx.Normal)(jnp.zeros((4, 3))),
        ValueError,
        r"reads 2 raw outputs on the last axis, the network puts out shape \(4, 3\)",
    ),
    "mixture's last axis": (
        lambda: lx.MixtureHead(lx.Head(lx.Normal), 3)(jnp.zeros((4, 3))),
        ValueError,
        "reads 9 raw outputs",
    ),
    "learned without params": (
        lambda: lx.Head(lx.Normal, scale=lx.learned())(jnp.zeros((4, 1))),
        ValueError,
        r"head\.init\(key, raw\)",
    ),
    "a class for a base": (
        lambda: lx.Head(lx.Truncated, base=lx.Normal, low=0.0),
        TypeError,
        r"base takes a head, got the class Normal; write lx\.Head\(lx\.Normal\) there",
    ),
    "classes for components": (
        lambda: lx.Head(lx.MixtureOf, weights=[0.5, 0.5], components=[lx.Gamma, lx.Normal]),
        TypeError,
        "components takes a head, got the class Gamma",
    ),
    "no tuple of heads": (
        lambda: lx.Head(lx.MixtureOf),
        ValueError,
        r"components=\(lx\.Head\(\.\.\.\), lx\.Head\(\.\.\.\)\)",
    ),
    "a size that is none": (
        lambda: lx.Head(lx.Normal, event_shape=-1),
        TypeError,
        "a size or a tuple of sizes, got -1",
    ),
    "a class for a mixture": (
        lambda: unchecked(lx.MixtureHead, lx.Normal, 3),
        TypeError,
        "MixtureHead: a head wanted",
    ),
    "a function for a bijector": (
        lambda: unchecked(lx.TransformedHead, lx.Head(lx.Normal), jnp.exp),
        TypeError,
        "TransformedHead: a bijector wanted",
    ),
    "no head": (
        lambda: unchecked(lx.Conditional, None, lx.Normal),
        TypeError,
        r"lx\.Head\(lx\.Normal\)",
    ),
}


def test_a_threshold_is_not_learned_unasked():
    """Beyond the data it would have no slope back."""
    head = lx.Head(lx.GeneralizedPareto)
    dist = head(jnp.array([[0.3, 0.2], [-1.0, 0.4]]))
    want = stats.genpareto(0.2, 0.0, np.exp(0.3)).logpdf(1.5)
    np.testing.assert_allclose(dist.log_prob(1.5)[0], want, rtol=1e-5)
    assert head.size == 2 and dist.batch_shape == (2,)
    np.testing.assert_array_equal(dist.quantile(0.0), 0)
    for loc in (3.0, lx.learned(3.0)):
        given = lx.Head(lx.GeneralizedPareto, loc=loc)
        made = given(jnp.zeros(2), given.init(KEY, jnp.zeros(2)))
        assert given.size == 2 and made.loc == 3


def test_components_may_be_a_list_of_heads():
    parts = [lx.Head(lx.Gamma), lx.Head(lx.Normal)]
    assert lx.Head(lx.MixtureOf, weights=[0.5, 0.5], components=parts).size == 4


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_named(case):
    call, error, match = REFUSED[case]
    with pytest.raises(error, match=match):
        call()


def test_a_value_outside_its_support_is_refused():
    for value in (-1.0, lx.learned(-1.0), np.array([1.0, 0.0])):
        with pytest.raises(ValueError, match=r"Normal: scale must be positive, got"):
            lx.Head(lx.Normal, event_shape=np.shape(value), scale=value)
    made = jax.jit(lambda r: lx.Head(lx.Normal, scale=2.0)(r).log_prob(0.0))(jnp.zeros((3, 1)))
    np.testing.assert_allclose(made, stats.norm(0, 2).logpdf(0), rtol=1e-6)


class Own(lx.Distribution):
    """A family that is none of likelax's rooms."""

    level: lx.Array = lx.param(lx.supports.real, shape=("num_levels",))


def test_sizes_of_vectors_one_longer_than_their_parameters():
    with pytest.raises(ValueError, match=r"write lx\.Head\(lx\.LogisticNormal, num_ratios=2\)$"):
        lx.Head(lx.LogisticNormal, event_shape=3)
    with pytest.raises(TypeError, match=r"; write num_ratios=K - 1 for vectors of K elements$"):
        lx.Head(lx.LogisticNormal, num_categories=3)
    assert lx.Head(lx.LogisticNormal, num_ratios=2).size == 4


def test_messages_give_the_line_to_write():
    with pytest.raises(ValueError, match=r"needs num_levels; write lx\.Head\(Own, num_levels=10"):
        lx.Head(Own)
    # As they say, they work: sizes need not be those of what is fixed.
    assert lx.Head(lx.sequence.CTC, num_labels=3, num_frames=10, num_tokens=5).size == 50
    crf = lx.Head(lx.sequence.LinearChainCRF, 7, transition=np.zeros((3, 3)), num_labels=3)
    assert crf.size == 7 * 3 + 3 + 3
    states = lx.Head(lx.Categorical, num_categories=2)
    hmm = lx.Head(
        lx.sequence.HiddenMarkov,
        initial=states,
        transition=np.eye(2),
        emission=lx.Normal(np.array([0.0, 3.0]), 1.0),
        num_steps=4,
    )
    dist = hmm(jnp.zeros((5, 2)))
    assert (dist.batch_shape, dist.event_shape) == ((5,), (4,))
    each = stats.norm.logpdf(np.array([[0.0], [3.0]]), np.zeros(4)).sum(1)
    want = np.logaddexp(*(each + np.log(0.5)))
    np.testing.assert_allclose(dist.log_prob(np.zeros((5, 4))), want, rtol=1e-5)


def test_a_squeezed_output_is_named():
    with pytest.raises(ValueError, match=r"1 outputs \(head\.size\), and keep that axis"):
        lx.Head(lx.Poisson)(jnp.zeros(20))


def test_a_vocabulary_head_is_a_last_layer_whose_logits_are_not_held():
    features, labels = jnp.asarray(RNG.normal(size=(9, 5)), jnp.float32), RNG.integers(0, 7, 9)
    identity = (lambda key, x: {}, lambda params, x: x)
    tiled = lx.Likelihood(identity, lx.LinearHead(7, 5, bias=True, block_size=3))
    batch = lx.Batch(labels, features, np.arange(9) != 4)
    params, _ = tiled.init(KEY, batch)
    kernel = params["head"]["kernel"]
    assert kernel.shape == (5, 7) and abs(kernel.std() * np.sqrt(5) - 1) < 0.4
    np.testing.assert_array_equal(params["head"]["bias"], 0)

    def plain(kernel, bias):
        layer = (lambda key, x: {}, lambda params, x: x @ kernel + bias)
        model = lx.Likelihood(layer, lx.Head(lx.Categorical, num_categories=7))
        return model({"net": {}, "head": {}}, KEY, batch)[0]

    (loss, aux), grads = jax.value_and_grad(tiled, has_aux=True)(params, KEY, batch)
    want, slopes = jax.value_and_grad(plain, (0, 1))(kernel, jnp.zeros(7))
    np.testing.assert_allclose(loss, want, rtol=1e-6)
    np.testing.assert_allclose(grads["head"]["kernel"], slopes[0], atol=1e-6)
    np.testing.assert_allclose(grads["head"]["bias"], slopes[1], atol=1e-6)
    np.testing.assert_allclose(lx.perplexity(aux), np.exp(want), rtol=1e-6)
    with pytest.raises(ValueError, match=r"LinearHead\(7, 5\) has parameters of its own"):
        lx.LinearHead(7, 5)(features)
    with pytest.raises(ValueError, match="num_categories is at least 2, got 1"):
        lx.LinearHead(1, 5)
    with pytest.raises(ValueError, match="features is at least 1, got 0"):
        lx.LinearHead(7, 0)
    with pytest.raises(ValueError, match=r"reads 5 raw outputs.*shape \(9, 4\)"):
        lx.LinearHead(7, 5).init(KEY, features[:, :4])


class _Guessing(lx.Head):
    """A head that says that its density is an estimate, and draws random numbers for it."""

    claim = lx.Claim("estimate", vanishes="patience")
    takes_key = True

    def __call__(self, raw, params=None, *, key=None):
        dist = super().__call__(raw, params)
        return dist if key is None else dist.replace(loc=dist.loc + jax.random.normal(key))


def test_a_head_around_another_makes_its_claim():
    head = lx.TransformedHead(_Guessing(lx.Normal), lx.bijectors.Exp())
    model = lx.Likelihood(None, head)
    batch = lx.Batch(jnp.array([1.0, 2.0]), jnp.ones((2, 2)))
    params, _ = model.init(jax.random.key(0), batch)
    (first, aux), (second, _) = (model(params, jax.random.key(k), batch) for k in (1, 2))
    assert aux.claim.relation == "estimate" and aux.claim.vanishes == "patience"
    assert abs(first - second) > 1e-3  # the key has come through
    plain = lx.Likelihood(None, lx.TransformedHead(lx.Head(lx.Normal), lx.bijectors.Exp()))
    assert plain(params, jax.random.key(1), batch)[1].claim.relation == "exact"
    with pytest.raises(ValueError, match="the mixture of estimates is biased"):
        lx.MixtureHead(_Guessing(lx.Normal), 2)
    series = lx.sequence.Autoregressive(None, _Guessing(lx.Normal), start=0.0)
    assert series.claim.relation == "estimate"
    decoder, encoder = (lx.Conditional(None, h(lx.Normal, 2)) for h in (_Guessing, lx.Head))
    with pytest.raises(ValueError, match="decoder's Head.* is no exact one"):
        lx.vae.ELBO(decoder, encoder, lx.Normal(jnp.zeros(2), 1.0).to_event())
