"""The contract's own references, where they are more than a textbook's formula."""

import mpmath as mp
import pytest

from contract.beta_binomial import entropy, log_tails


def all_terms(k, n, a, b):
    """P(X <= k) and P(X > k) by adding up products."""
    term = mp.fprod((b + i) / (a + b + i) for i in range(n))
    masses = [mp.mpf(0), mp.mpf(0)]
    for j in range(n + 1):
        masses[j > k] += term
        if j < n:
            term *= (n - j) * (a + j) / ((j + 1) * (b + n - j - 1))
    return masses


def every_term(n, a, b):
    """The entropy by adding up products."""
    p = mp.fprod((b + i) / (a + b + i) for i in range(n))
    total = -p * mp.log(p)
    for j in range(n):
        p *= (n - j) * (a + j) / ((j + 1) * (b + n - j - 1))
        total -= p * mp.log(p)
    return total


def at_least(k, n, a, b):
    """P(X >= k) for a whole a: the chance that, among a + b - 1 uniforms, fewer than a are below the k-th least
    of n others: a sum of a terms."""
    logs = (n - k + a + b, n + a + b), (n + 1, n - k + 1)
    term = mp.exp(mp.fsum(mp.loggamma(x) - mp.loggamma(y) for x, y in logs))
    total = term
    for j in range(int(a) - 1):
        term *= (a + b - 1 - j) / (j + 1) * (k + j) / (n - k + a + b - j - 1)
        total += term
    return total


def off(got, want):
    """The larger error of two log-probabilities, in themselves."""
    return max(abs(g - mp.log(w)) / max(1, abs(mp.log(w))) for g, w in zip(got, want, strict=True))


@pytest.mark.parametrize(
    ("k", "n", "a", "b"),
    [
        (3, 12, 6, 1.5),
        (300, 1200, 0.3, 0.7),
        (260, 1200, 1e6, 4e6),
        (599, 1200, 1e20, 1e20),
        (10, 1200, 1e-20, 1e-20),
        (1190, 1200, 1e-20, 1e20),
        (500, 1200, 40.5, 0.01),
        (5, 1200, 40.5, 70.25),
        (1199, 1200, 3, 1e4),
    ],
)
def test_tails_of_the_beta_binomial_are_sums_of_all_terms(k, n, a, b):
    with mp.workdps(90):
        a, b = mp.mpf(a), mp.mpf(b)
        assert off(log_tails(mp.mpf(k), mp.mpf(n), a, b), all_terms(k, n, a, b)) < 1e-40


@pytest.mark.parametrize(
    ("n", "a", "b"),
    [
        (1, 0.3, 2),
        (12, 6, 1.5),
        (1200, 0.3, 0.7),
        (1200, 1e20, 4e20),
        (1200, 1e-20, 3),
        (1200, 300, 40.5),
    ],
)
def test_entropy_of_the_beta_binomial_is_a_sum_of_all_terms(n, a, b):
    with mp.workdps(60):
        a, b = mp.mpf(a), mp.mpf(b)
        assert abs(entropy(mp.mpf(n), a, b) - every_term(n, a, b)) < 1e-35


@pytest.mark.parametrize(
    ("k", "a", "b"),
    [
        (10**6, 40, 0.3),
        (5 * 10**7, 1, 1e-20),
        (8, 3, 1e20),
        (99999998, 7, 1e-3),
        (9 * 10**7, 30, 2.5),
    ],
)
def test_tails_of_a_beta_binomial_of_a_whole_shape_are_finite_sums(k, a, b):
    n = 10**8
    with mp.workdps(90):
        got = log_tails(mp.mpf(k), mp.mpf(n), mp.mpf(a), mp.mpf(b))
    with mp.workdps(400):
        above = at_least(mp.mpf(k + 1), mp.mpf(n), mp.mpf(a), mp.mpf(b))
        assert off(got, (1 - above, above)) < 1e-40
