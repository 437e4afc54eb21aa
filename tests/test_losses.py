"""The losses that people know, as likelihoods: each equal to its textbook form, constants included.

The table "I have ... use ..." in the README has these rows.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special, stats

import likelax as lx
from nets import linear

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
N = 40
X = RNG.normal(size=(N, 2)).astype(np.float32)
Y = (X @ [1.0, -0.5] + RNG.normal(size=N)).astype(np.float32)
COUNTS = RNG.poisson(3.0, size=N)
LABELS = RNG.integers(0, 3, N)
COIN = RNG.integers(0, 2, N)
SOFT = RNG.dirichlet(np.ones(3), N).astype(np.float32)
POSITIVE = RNG.gamma(2.0, size=N).astype(np.float32)
ALLOCATED = RNG.multinomial(10, [0.2, 0.3, 0.5], N)
TRIPLES = RNG.normal(size=(N, 3)).astype(np.float32)


def fitted(head, target, objective=lx.Likelihood, **batch):
    """(loss, aux, raw outputs in float64) of a linear model at its initial values."""
    model = objective(linear(head.size), head)
    params, _ = model.init(KEY, lx.Batch(target, X))
    loss, aux = model(params, KEY, lx.Batch(target, X, **batch))
    return float(loss), aux, np.asarray(X @ params["net"]["w"], np.float64)


def test_squared_error_is_a_normal_of_fixed_scale():
    loss, _, raw = fitted(lx.Head(lx.Normal, scale=1.0), Y)
    mse = np.mean((Y - raw[:, 0]) ** 2)
    assert loss == pytest.approx(0.5 * mse + 0.5 * np.log(2 * np.pi), rel=1e-6)
    loss, _, raw = fitted(lx.Head(lx.Normal, scale=np.sqrt(0.5)), Y)
    assert loss == pytest.approx(mse + 0.5 * np.log(np.pi), rel=1e-6)


def test_heteroscedastic_normal():
    loss, _, raw = fitted(lx.Head(lx.Normal), Y)
    assert loss == pytest.approx(
        -stats.norm.logpdf(Y, raw[:, 0], np.exp(raw[:, 1])).mean(), rel=1e-6
    )


def test_absolute_error_is_a_laplace():
    loss, _, raw = fitted(lx.Head(lx.Laplace, scale=1.0), Y)
    assert loss == pytest.approx(np.mean(np.abs(Y - raw[:, 0])) + np.log(2), rel=1e-6)


def test_huber():
    loss, _, raw = fitted(lx.Head(lx.Huber, scale=1.0, delta=0.7), Y)
    huber = np.mean(special.huber(0.7, Y - raw[:, 0]))
    log_z = np.log(
        np.sqrt(2 * np.pi) * special.erf(0.7 / np.sqrt(2)) + 2 / 0.7 * np.exp(-(0.7**2) / 2)
    )
    assert loss == pytest.approx(huber + log_z, rel=1e-6)


def test_pinball_is_an_asymmetric_laplace():
    q = 0.9
    spread, skew = (q * (1 - q)) ** -0.5, (q / (1 - q)) ** 0.5
    head = lx.Head(lx.AsymmetricLaplace, scale=spread, asymmetry=skew)
    loss, _, raw = fitted(head, Y)
    u = Y - raw[:, 0]
    pinball = np.mean(np.maximum(q * u, (q - 1) * u))
    assert loss == pytest.approx(pinball - np.log(q * (1 - q)), rel=1e-6)
    same = lx.AsymmetricLaplace.from_quantile(0.0, 1.0, q)
    np.testing.assert_allclose([same.scale, same.asymmetry], [spread, skew], rtol=1e-6)


def test_binary_cross_entropy_with_logits_and_positive_weight():
    loss, _, raw = fitted(lx.Head(lx.Bernoulli), COIN)
    each = np.asarray(optax.sigmoid_binary_cross_entropy(np.float32(raw[:, 0]), COIN))
    assert loss == pytest.approx(each.mean(), rel=1e-6)
    weight = np.where(COIN == 1, 3.0, 1.0)
    loss, _, _ = fitted(lx.Head(lx.Bernoulli), COIN, weight=weight)
    # torch's pos_weight divides by N where the weighted mean divides by the weights' sum.
    assert loss * weight.sum() / N == pytest.approx(np.mean(weight * each), rel=1e-6)


def test_cross_entropy_with_class_weights_and_ignored_targets():
    head = lx.Head(lx.Categorical, num_categories=3)
    loss, _, raw = fitted(head, LABELS)
    log_p = special.log_softmax(raw, axis=-1)
    each = -log_p[np.arange(N), LABELS]
    assert loss == pytest.approx(each.mean(), rel=1e-6)
    weight = np.array([1.0, 2.0, 0.5])[LABELS]
    assert fitted(head, LABELS, weight=weight)[0] == pytest.approx(
        np.average(each, weights=weight), rel=1e-6
    )
    ignored = np.where(np.arange(N) % 5 == 0, -100, LABELS)
    loss = fitted(head, ignored, mask=ignored != -100)[0]
    assert loss == pytest.approx(each[ignored != -100].mean(), rel=1e-6)
    assert fitted(head, ignored)[0] == np.inf  # not ignored: such a label has no probability


def test_label_smoothing_is_no_likelihood_and_says_so():
    head = lx.Head(lx.Categorical, num_categories=3)

    def smooth(net, head):
        return lx.CrossEntropy(net, head, label_smoothing=0.1)

    loss, aux, raw = fitted(head, LABELS, smooth)
    log_p = special.log_softmax(raw, axis=-1)
    nll = -log_p[np.arange(N), LABELS].mean()
    expected = 0.9 * nll - 0.1 * log_p.mean()
    assert loss == pytest.approx(expected, rel=1e-6)
    assert float(aux.terms["nll"]) == pytest.approx(nll, rel=1e-6)
    assert aux.claim.relation == "none"


def test_soft_labels_are_an_expected_likelihood():
    head = lx.Head(lx.Categorical, num_categories=3)
    loss, aux, raw = fitted(head, SOFT, lx.CrossEntropy)
    log_p = special.log_softmax(raw, axis=-1)
    assert loss == pytest.approx(-np.mean(np.sum(SOFT * log_p, -1)), rel=1e-5)
    assert aux.claim.relation == "exact"


def test_poisson_with_its_constant():
    loss, _, raw = fitted(lx.Head(lx.Poisson), COUNTS)
    each = np.exp(raw[:, 0]) - COUNTS * raw[:, 0] + special.gammaln(COUNTS + 1)
    assert loss == pytest.approx(each.mean(), rel=2e-6)


def test_negative_binomial():
    loss, _, raw = fitted(lx.Head(lx.NegativeBinomial), COUNTS)
    # the raw outputs, in the fields' order: log of total_count, logits of the counted event
    dist = lx.Head(lx.NegativeBinomial)(jnp.asarray(raw, jnp.float32))
    total = np.asarray(dist.total_count, np.float64)
    p = 1 / (1 + np.exp(-np.asarray(dist.logits, np.float64)))
    assert loss == pytest.approx(-stats.nbinom.logpmf(COUNTS, total, 1 - p).mean(), rel=3e-6)


def test_gamma_regression():
    loss, _, raw = fitted(lx.Head(lx.Gamma), POSITIVE)
    shape, rate = np.exp(raw[:, 0]), np.exp(raw[:, 1])
    assert loss == pytest.approx(
        -stats.gamma.logpdf(POSITIVE, shape, scale=1 / rate).mean(), rel=3e-6
    )


def test_focal_loss_is_no_likelihood_and_says_so():
    head = lx.Head(lx.Categorical, num_categories=3)
    loss, aux, raw = fitted(head, LABELS, lx.Focal)
    p = special.softmax(raw, axis=-1)[np.arange(N), LABELS]
    assert loss == pytest.approx(np.mean((1 - p) ** 2 * -np.log(p)), rel=1e-5)
    assert float(aux.terms["nll"]) == pytest.approx(np.mean(-np.log(p)), rel=1e-6)
    assert aux.claim.relation == "none"
    with pytest.raises(ValueError, match="no likelihood"):
        lx.perplexity(aux)


def test_focal_gradient_is_finite_where_the_label_is_certain():
    head = lx.Head(lx.Bernoulli)
    model = lx.Focal(linear(1), head)

    def loss(w):
        return model(
            {"net": {"w": w}, "head": {}}, KEY, lx.Batch(np.ones(1, int), np.ones((1, 2)))
        )[0]

    for w in (0.0, 60.0, -60.0):
        assert np.all(np.isfinite(jax.grad(loss)(jnp.full((2, 1), w))))


@pytest.mark.parametrize("wrong", [{"label_smoothing": 1.5}, {"label_smoothing": -0.1}])
def test_smoothing_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match=r"label_smoothing is in \[0, 1\]"):
        lx.CrossEntropy(linear(3), lx.Head(lx.Categorical, num_categories=3), **wrong)


def test_negative_gamma_is_refused():
    with pytest.raises(ValueError, match="gamma is at least 0"):
        lx.Focal(linear(1), lx.Head(lx.Bernoulli), gamma=-1.0)


@pytest.mark.parametrize("objective", [lx.Likelihood, lx.CrossEntropy])
def test_float_labels_are_refused(objective):
    match = r"astype\(int\)"
    with pytest.raises((TypeError, ValueError), match=match):
        fitted(lx.Head(lx.Categorical, num_categories=3), LABELS.astype(np.float32), objective)


def test_a_label_that_is_no_class_costs_infinity():
    head = lx.Head(lx.Categorical, num_categories=3)
    labels = np.where(np.arange(N) == 4, 3, LABELS)

    def smooth(net, head):
        return lx.CrossEntropy(net, head, label_smoothing=0.1)

    for objective in (lx.Likelihood, lx.CrossEntropy, smooth):
        each = fitted(head, labels, objective)[1].per_example
        assert each[4] == np.inf and np.isfinite(np.delete(each, 4)).all()
    # With whole-number labels and no smoothing it is the likelihood.
    np.testing.assert_array_equal(
        fitted(head, labels, lx.CrossEntropy)[1].per_example, fitted(head, labels)[1].per_example
    )


def test_class_probabilities_are_checked_and_may_be_missing_where_masked():
    model = lx.CrossEntropy(linear(3), lx.Head(lx.Categorical, num_categories=3))
    params, _ = model.init(KEY, lx.Batch(SOFT, X))
    spoilt = np.where((np.arange(N) == 7)[:, None], np.nan, SOFT)
    kept = np.arange(N) != 7

    def loss(params, batch):
        return model(params, KEY, batch)[0]

    got = jax.grad(loss)(params, lx.Batch(spoilt, X, kept))
    want = jax.grad(loss)(params, lx.Batch(SOFT[kept], X[kept]))
    np.testing.assert_allclose(got["net"]["w"], want["net"]["w"], rtol=1e-5, atol=1e-7)
    doubled = np.where((np.arange(N) == 7)[:, None], 2, 1) * SOFT
    with lx.debug_checks():
        loss(params, lx.Batch(SOFT, X))
        loss(params, lx.Batch(spoilt, X, kept))
        with pytest.raises(ValueError, match=r"index \(7\) the class probabilities.*summing to 1"):
            loss(params, lx.Batch(doubled, X))


@pytest.mark.parametrize("objective", [lx.Focal, lx.CrossEntropy])
def test_a_head_without_classes_is_refused(objective):
    with pytest.raises(TypeError, match=r"a head of .*lx\.Categorical.*got (Head\()?Normal"):
        fitted(lx.Head(lx.Normal), Y, objective)


@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
def test_smoothing_of_a_vocabulary_head_is_that_of_its_logits(smoothing):
    x = np.linspace(-1, 1, 12).reshape(4, 3).astype(np.float32)
    label = np.array([0, 4, 2, 4])
    head = lx.LinearHead(5, features=3)
    model = lx.CrossEntropy(None, head, label_smoothing=smoothing)
    params = model.init(jax.random.key(0), lx.Batch(label, x)).params
    logits = x @ params["head"]["kernel"]
    soft = optax.smooth_labels(jax.nn.one_hot(label, 5), smoothing)
    want = optax.softmax_cross_entropy(logits, soft).mean()
    loss, aux = model(params, jax.random.key(0), lx.Batch(label, x))
    np.testing.assert_allclose(loss, want, rtol=1e-5)
    assert aux.claim.relation == ("none" if smoothing else "exact")
    with pytest.raises(TypeError, match="want a head of lx.Categorical"):
        model(params, jax.random.key(0), lx.Batch(np.eye(5, dtype=np.float32)[label], x))


def test_hurdle():
    loss, _, raw = fitted(lx.Head(lx.Hurdle, base=lx.Head(lx.Poisson)), COUNTS)
    logits, log_rate = raw.T
    rate = np.exp(log_rate)
    positive = stats.poisson.logpmf(COUNTS, rate) - np.log(-np.expm1(-rate))
    each = np.where(COUNTS == 0, special.log_expit(logits), special.log_expit(-logits) + positive)
    assert loss == pytest.approx(-each.mean(), rel=1e-6)


def test_values_seen_between_limits_only_and_recorded_at_them():
    loss, _, raw = fitted(lx.Head(lx.Truncated, base=lx.Head(lx.Normal), low=0.0), POSITIVE)
    loc, scale = raw[:, 0], np.exp(raw[:, 1])
    each = stats.truncnorm.logpdf(POSITIVE, -loc / scale, np.inf, loc, scale)
    assert loss == pytest.approx(-each.mean(), rel=1e-6)
    recorded = np.maximum(Y, 0)
    loss, _, raw = fitted(lx.Head(lx.Censored, base=lx.Head(lx.Normal), low=0.0), recorded)
    normal = stats.norm(raw[:, 0], np.exp(raw[:, 1]))
    beyond, seen = normal.logcdf(recorded), normal.logpdf(recorded)
    assert loss == pytest.approx(-np.where(Y <= 0, beyond, seen).mean(), rel=1e-6)


def test_counts_of_classes():
    loss, _, raw = fitted(lx.Head(lx.Multinomial, event_shape=3, total_count=10), ALLOCATED)
    each = stats.multinomial.logpmf(ALLOCATED, 10, special.softmax(raw, axis=1))
    assert loss == pytest.approx(-each.mean(), rel=1e-6)
    head = lx.Head(lx.DirichletMultinomial, event_shape=3, total_count=10)
    loss, _, raw = fitted(head, ALLOCATED)
    each = [
        stats.dirichlet_multinomial.logpmf(x, a, 10)
        for x, a in zip(ALLOCATED, np.exp(raw), strict=True)
    ]
    assert loss == pytest.approx(-np.mean(each), rel=1e-5)


def test_vectors_with_common_causes_or_outliers():
    loss, _, raw = fitted(lx.Head(lx.LowRankMultivariateNormal, event_shape=3, rank=1), TRIPLES)
    each = [
        stats.multivariate_normal.logpdf(
            x, r[:3], np.outer(r[3:6], r[3:6]) + np.diag(np.exp(r[6:]))
        )
        for x, r in zip(TRIPLES, raw, strict=True)
    ]
    assert loss == pytest.approx(-np.mean(each), rel=1e-6)
    loss, _, raw = fitted(lx.Head(lx.MultivariateStudentT, event_shape=3, df=4.0), TRIPLES)

    def shape(r):
        """L L^T: each row of L times the exponential of its last number."""
        rows = [[1, 0, 0], [r[1], 1, 0], [r[3], r[4], 1]]
        tril = np.exp([[r[0]], [r[2]], [r[5]]]) * rows
        return tril @ tril.T

    each = [
        stats.multivariate_t.logpdf(x, r[:3], shape(r[3:]), 4.0)
        for x, r in zip(TRIPLES, raw, strict=True)
    ]
    assert loss == pytest.approx(-np.mean(each), rel=1e-6)


def test_the_largest_of_many_and_what_exceeds_a_threshold():
    loss, _, raw = fitted(lx.Head(lx.GeneralizedExtremeValue, concentration=0.1), Y)
    each = stats.genextreme.logpdf(Y, -0.1, raw[:, 0], np.exp(raw[:, 1]))
    assert loss == pytest.approx(-each.mean(), rel=1e-6)
    head = lx.Head(lx.GeneralizedPareto, loc=0.0, concentration=lx.learned(0.1))
    loss, _, raw = fitted(head, POSITIVE)
    assert loss == pytest.approx(
        -stats.genpareto.logpdf(POSITIVE, 0.1, 0.0, np.exp(raw[:, 0])).mean(), rel=1e-6
    )


def test_list_wise_ranking_is_plackett_and_luce():
    rankings = np.argsort(RNG.normal(size=(N, 4)), axis=-1).astype(np.int32)
    loss, _, raw = fitted(lx.Head(lx.PlackettLuce, event_shape=4), rankings)
    ordered = np.take_along_axis(raw, rankings, axis=-1)
    list_mle = sum(special.logsumexp(ordered[:, j:], axis=-1) - ordered[:, j] for j in range(4))
    assert loss == pytest.approx(list_mle.mean(), rel=1e-6)
