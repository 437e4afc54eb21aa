"""Counts of trials and events: counts to 1e8, logits of ±1000, rates and concentrations of 1e±20."""

import mpmath as mp
import numpy as np

import likelax as lx
from contract.entry import Entry, powers, signed
from contract.incomplete import beta_tails, gamma_tails

# ---- parameters and counts ----


def counts(generator, n, top=8.0):
    """Whole numbers from 0 on, uniform in the logarithm."""
    return np.floor(powers(generator, n, -0.7, top))


def logits(generator, n, largest=1000.0):
    """Of all sizes: a third over the whole range, a third as networks put them out, a third near 0."""
    kind = generator.integers(0, 3, n)
    far = generator.uniform(-largest, largest, n)
    return np.choose(kind, [far, 3 * generator.normal(size=n), signed(generator, n, -30, 2)])


def probs(generator, n):
    """Half near 0, a quarter near 1."""
    kind = generator.integers(0, 4, n)
    rare, common = powers(generator, n, -30, 0), 1 - powers(generator, n, -7, 0)
    return np.choose(kind, [rare, rare, common, generator.random(n)])


def inner_probs(generator, n):
    """None so near 1 that a thousandth more is beyond it."""
    return np.minimum(probs(generator, n), 0.99)


def near(generator, n, mean, std, other, lowest=0.0, highest=np.inf):
    """Half of the values within a few deviations of the mean, half wherever `other` is."""
    close = np.rint(mean + std * 3 * generator.normal(size=n))
    # float32 may round a count beyond an end.
    value = np.where(generator.random(n) < 0.5, np.clip(close, 0, 1e8), other)
    return np.clip(value.astype(np.float32), lowest, highest)


def of_probs(p):
    return np.where((p == 0) | (p == 1), 1.0, np.minimum(p, 1 - p))


# ---- formulas ----


def log_sigmoid(z):
    return -mp.log1p(mp.exp(-z)) if z > 0 else z - mp.log1p(mp.exp(z))


def by_logits(formula):
    """A function of log p and log(1 - p) in the last argument, there the logits of p."""
    return lambda *point: formula(*point[:-1], log_sigmoid(point[-1]), log_sigmoid(-point[-1]))


def by_probs(formula):
    def wrapped(*point):
        p = point[-1]
        if not 0 <= p <= 1:
            raise ValueError(p)
        return formula(*point[:-1], mp.log(p), mp.log1p(-p) if p < 1 else -mp.inf)

    return wrapped


def times(n, log):
    """n log, with 0 times an infinity 0."""
    return mp.mpf(0) if n == 0 else n * log


def log1mexp(log):
    """log(1 - exp(log)), also where exp(log) is within 150 digits of 0 or 1."""
    return mp.log(-mp.expm1(log)) if log > -1 else mp.log1p(-mp.exp(log))


def log_choose(n, k):
    return mp.loggamma(n + 1) - mp.loggamma(k + 1) - mp.loggamma(n - k + 1)


def tails(log_pmf, step, mean):
    """log P(X <= k) and log P(X > k) from a mass and step(k, ...) = mass(k) / mass(k - 1).

    The tail on k's own side of the mean is summed until nothing is added, the other one is its rest.
    """

    def summed(k, *parameters):
        lower = k < mean(*parameters)
        total = term = mp.mpf(1)
        j = k if lower else k + 1
        start = j
        small = mp.mpf(10) ** (-mp.mp.dps - 5)
        while True:
            if lower:
                if j == 0:
                    break
                term = term / step(j, *parameters)
                j -= 1
            else:
                j += 1
                term = term * step(j, *parameters)
            total += term
            if term < small * total:
                break
        log_tail = log_pmf(start, *parameters) + mp.log(total)
        return (log_tail, None) if lower else (None, log_tail)

    def log_cdf(k, *parameters):
        below, above = summed(k, *parameters)
        return log1mexp(above) if below is None else below

    def log_survival(k, *parameters):
        below, above = summed(k, *parameters)
        return log1mexp(below) if above is None else above

    return {
        "log_cdf": log_cdf,
        "log_survival": log_survival,
        "cdf": lambda *point: mp.exp(log_cdf(*point)),
    }


# ---- one trial, and the wait for a success ----


def bernoulli(k, log_p, log_q):
    return log_p if k == 1 else log_q


def bernoulli_tails(wrap):
    return {
        "log_cdf": wrap(lambda k, log_p, log_q: log_q if k == 0 else mp.mpf(0)),
        "log_survival": wrap(lambda k, log_p, log_q: log_p if k == 0 else -mp.inf),
    }


def geometric(k, log_p, log_q):
    return log_p + times(k, log_q)


def geometric_tails(wrap):
    return {
        "log_cdf": wrap(lambda k, log_p, log_q: log1mexp((k + 1) * log_q)),
        "log_survival": wrap(lambda k, log_p, log_q: (k + 1) * log_q),
        "cdf": wrap(lambda k, log_p, log_q: -mp.expm1((k + 1) * log_q)),
    }


def draw_bernoulli(p):
    return lambda generator, n: (generator.integers(0, 2, n), p(generator, n))


def draw_geometric(p):
    return lambda generator, n: (counts(generator, n), p(generator, n))


# ---- Poisson ----


def poisson(k, rate):
    return times(k, mp.log(rate)) - rate - mp.loggamma(k + 1)


def draw_poisson(generator, n):
    rate = np.where(
        generator.random(n) < 0.5, powers(generator, n, -2, 8), powers(generator, n, -20, 20)
    ).astype(np.float32)
    return near(generator, n, rate, np.sqrt(rate), counts(generator, n)), rate


def draw_log_rate(generator, n):
    log_rate = np.where(
        generator.random(n) < 0.5, generator.uniform(-3, 18, n), generator.uniform(-1000, 80, n)
    )
    rate = np.exp(log_rate.astype(np.float32).astype(float))
    return near(generator, n, rate, np.sqrt(rate), counts(generator, n)), log_rate


def draw_poisson_tails(generator, n):
    """Rates to 1e4, where the sum is short; a few to 1e6."""
    rate = powers(generator, n, -20, 4)
    rate[: n // 40] = powers(generator, n // 40, 4, 6)
    rate[n // 2 :] = powers(generator, n - n // 2, -2, 3)
    return near(generator, n, rate, np.sqrt(rate), counts(generator, n, 5.0)), rate


def draw_wide_poisson_tails(generator, n):
    """Rates to 1e8."""
    rate = powers(generator, n, -20, 8)
    rate[n // 2 :] = powers(generator, n - n // 2, -2, 8)
    rate = rate.astype(np.float32).astype(float)
    return near(generator, n, rate, np.sqrt(rate), counts(generator, n)), rate


def poisson_tail(which):
    def tail(k, rate):
        upper, lower = gamma_tails(k + 1, rate)
        return {"log_cdf": lower, "cdf": mp.exp(lower), "log_survival": upper}[which]

    return tail


# For wrappers, whose rates are below 1e6: independent of the incomplete gamma function.
POISSON_TAILS = tails(poisson, lambda k, rate: rate / k, lambda rate: rate)


# ---- Binomial ----


def binomial(k, n, log_p, log_q):
    if k > n:
        return -mp.inf
    return log_choose(n, k) + times(k, log_p) + times(n - k, log_q)


def binomial_tail(which):
    def tail(k, n, log_p, log_q):
        lower, upper = mp.mpf(0), -mp.inf
        if k < n:
            lower, upper = beta_tails(n - k, k + 1, mp.exp(log_q), mp.exp(log_p))
        return {"log_cdf": lower, "cdf": mp.exp(lower), "log_survival": upper}[which]

    return tail


def draw_binomial(p, top):
    def draw(generator, n):
        total = counts(generator, n, top).astype(np.float32).astype(float)
        parameter = p(generator, n).astype(np.float32).astype(float)
        share = (
            parameter
            if p in (probs, inner_probs)
            else 1 / (1 + np.exp(-np.clip(parameter, -700, 700)))
        )
        other = np.rint(total * generator.random(n))
        std = np.sqrt(total * share * (1 - share))
        return near(generator, n, total * share, std, other, 0.0, total), total, parameter

    return draw


# ---- negative binomials ----


def negative_binomial(k, r, log_p, log_q):
    coefficient = mp.loggamma(k + r) - mp.loggamma(r) - mp.loggamma(k + 1)
    return coefficient + times(k, log_p) + r * log_q


def from_mean(formula):
    """Of the mean and the dispersion: r = 1 / dispersion, p = mean / (r + mean)."""

    def wrapped(k, mean, dispersion):
        r = 1 / dispersion
        return formula(k, r, mp.log(mean / (r + mean)), mp.log(r / (r + mean)))

    return wrapped


def negative_binomial_tail(upper):
    """log of I_q(r, k + 1), or of the rest."""
    return lambda k, r, log_p, log_q: beta_tails(r, k + 1, mp.exp(log_q), mp.exp(log_p))[upper]


NEGATIVE_BINOMIAL_TAILS = {
    "log_cdf": negative_binomial_tail(False),
    "log_survival": negative_binomial_tail(True),
    "cdf": lambda *point: mp.exp(negative_binomial_tail(False)(*point)),
}


def draw_negative_binomial(generator, n):
    r, l = powers(generator, n, -20, 20), logits(generator, n)
    r = np.where(generator.random(n) < 0.5, powers(generator, n, -2, 8), r)
    mean = r * np.exp(np.clip(l, -300, 300))
    std = np.sqrt(mean) * np.sqrt(1 + np.minimum(mean / r, 1e20))
    return near(generator, n, mean, std, counts(generator, n)), r, l


def draw_from_mean(generator, n):
    mean, dispersion = powers(generator, n, -20, 20), powers(generator, n, -20, 20)
    bulk = generator.random(n) < 0.5
    mean = np.where(bulk, powers(generator, n, -2, 8), mean)
    dispersion = np.where(bulk, powers(generator, n, -8, 2), dispersion)
    std = np.sqrt(mean) * np.sqrt(1 + mean * dispersion)
    return near(generator, n, mean, std, counts(generator, n)), mean, dispersion


def draw_negative_binomial_tails(generator, n):
    """Counts to 1e8; the means too, but for a tenth."""
    r = np.where(
        generator.random(n) < 0.6, powers(generator, n, -6, 8), powers(generator, n, -20, 20)
    )
    l = np.where(
        generator.random(n) < 0.5, generator.uniform(-200, 0, n), generator.normal(size=n) * 2
    )
    top = powers(generator, n, 0, 8)
    l = np.where(generator.random(n) < 0.9, np.minimum(l, np.log(top / r)), l)
    mean = r * np.exp(l)
    std = np.sqrt(mean) * np.sqrt(1 + mean / r)
    return near(generator, n, mean, std, counts(generator, n)), r, l


def draw_from_mean_tails(generator, n):
    value, r, l = draw_negative_binomial_tails(generator, n)
    return value, np.maximum(r * np.exp(np.maximum(l, -60)), 1e-37), 1 / r


def all_of(wrap, tails_of):
    return {name: wrap(formula) for name, formula in tails_of.items()}


def value_and(*lengths):
    """A count has no slope; its length is never asked."""
    return lambda k, *parameters: (
        np.ones_like(k),
        *(f(p) for f, p in zip(lengths, parameters, strict=True)),
    )


def itself(x):
    return np.where(x == 0, 1.0, x)


def one(x):
    return np.ones_like(x)


ENTRIES = [
    Entry(
        "Bernoulli",
        lambda l: lx.Bernoulli(logits=l),
        draw_bernoulli(logits),
        {"log_prob": by_logits(bernoulli), **bernoulli_tails(by_logits)},
        value_and(one),
        edges=[(0, 0), (1, 0), (1, 1000), (0, 1000), (1, -1000)],
        slopes=(1,),
    ),
    Entry(
        "Bernoulli(probs)",
        lambda p: lx.Bernoulli(probs=p),
        draw_bernoulli(probs),
        {"log_prob": by_probs(bernoulli), **bernoulli_tails(by_probs)},
        value_and(of_probs),
        edges=[(0, 0), (1, 0), (0, 1), (1, 1), (1, 0.5)],
        slopes=(1,),
    ),
    Entry(
        "Geometric",
        lambda l: lx.Geometric(logits=l),
        draw_geometric(logits),
        {"log_prob": by_logits(geometric), **geometric_tails(by_logits)},
        value_and(one),
        edges=[(0, 0), (0, 1000), (0, -1000), (1e8, -1000), (1e8, 1000)],
        slopes=(1,),
    ),
    Entry(
        "Geometric(probs)",
        lambda p: lx.Geometric(probs=p),
        draw_geometric(probs),
        {"log_prob": by_probs(geometric), **geometric_tails(by_probs)},
        value_and(of_probs),
        edges=[(0, 0), (1, 0), (0, 1), (1, 1), (1e8, 1e-8)],
        slopes=(1,),
    ),
    Entry(
        "Poisson",
        lx.Poisson,
        draw_poisson,
        {"log_prob": poisson},
        value_and(itself),
        edges=[(0, 0), (1, 0), (0, 1e20), (1e8, 1e8), (1e7, 1e7), (1, 1)],
        slopes=(1,),
    ),
    Entry(
        "Poisson(log_rate)",
        lambda l: lx.Poisson(log_rate=l),
        draw_log_rate,
        {"log_prob": lambda k, l: k * l - mp.exp(l) - mp.loggamma(k + 1)},
        value_and(one),
        edges=[(0, 0), (1, -1000), (0, -1000), (0, 85), (1e8, 18.420681), (1e7, 16.118095)],
        slopes=(1,),
    ),
    Entry(
        "Poisson tails",
        lx.Poisson,
        draw_wide_poisson_tails,
        {method: poisson_tail(method) for method in ("log_cdf", "log_survival", "cdf")},
        value_and(itself),
        edges=[(0, 1e-20), (0, 1), (100000, 1e-20), (0, 1e5)],
        slopes=(1,),
        digits=60,
    ),
    Entry(
        "Binomial",
        lambda n, l: lx.Binomial(n, logits=l),
        draw_binomial(logits, 8.0),
        {"log_prob": by_logits(binomial)},
        value_and(one, one),
        edges=[
            (0, 0, 0),
            (0, 1e8, 0),
            (1e8, 1e8, 1000),
            (1e8, 1e8, -1000),
            (5e7, 1e8, 0),
            (2, 1, 0),
        ],
        slopes=(2,),
    ),
    Entry(
        "Binomial(probs)",
        lambda n, p: lx.Binomial(n, probs=p),
        draw_binomial(probs, 8.0),
        {"log_prob": by_probs(binomial)},
        value_and(one, of_probs),
        edges=[(0, 0, 0), (0, 0, 1), (0, 9, 0), (9, 9, 1), (1, 9, 0), (8, 9, 1), (5e7, 1e8, 0.5)],
        slopes=(2,),
    ),
    Entry(
        "Binomial tails",
        lambda n, l: lx.Binomial(n, logits=l),
        draw_binomial(logits, 8.0),
        {method: by_logits(binomial_tail(method)) for method in ("log_cdf", "log_survival", "cdf")},
        value_and(one, one),
        edges=[(0, 1, 0), (1, 1, 0), (0, 0, 3), (5000, 10000, 0), (3, 10000, 1000)],
        slopes=(2,),
        digits=60,
    ),
    Entry(
        "Binomial(probs) tails",
        lambda n, p: lx.Binomial(n, probs=p),
        draw_binomial(inner_probs, 7.0),
        {method: by_probs(binomial_tail(method)) for method in ("log_cdf", "log_survival")},
        value_and(one, of_probs),
        edges=[(0, 1, 0.25), (1, 1, 0.5), (0, 0, 0.5), (5e6, 1e7, 0.5), (3, 10000, 1e-30)],
        slopes=(2,),
        digits=60,
    ),
    Entry(
        "NegativeBinomial",
        lambda r, l: lx.NegativeBinomial(r, logits=l),
        draw_negative_binomial,
        {"log_prob": by_logits(negative_binomial)},
        value_and(itself, one),
        edges=[(0, 1, 0), (1, 1, 0), (0, 1e20, -1000), (1e8, 1e-20, 1000), (1e8, 1e8, 0)],
        slopes=(1, 2),
    ),
    Entry(
        "NegativeBinomial.from_mean",
        lx.NegativeBinomial.from_mean,
        draw_from_mean,
        {"log_prob": from_mean(negative_binomial)},
        value_and(itself, itself),
        edges=[(0, 1, 1), (1e8, 1e8, 1e-20), (0, 1e20, 1e20), (1e8, 1e-20, 1e-20)],
        slopes=(1, 2),
    ),
    Entry(
        "NegativeBinomial tails",
        lambda r, l: lx.NegativeBinomial(r, logits=l),
        draw_negative_binomial_tails,
        all_of(by_logits, NEGATIVE_BINOMIAL_TAILS),
        value_and(itself, one),
        slopes=(1, 2),
        digits=90,
    ),
    Entry(
        "NegativeBinomial.from_mean tails",
        lx.NegativeBinomial.from_mean,
        draw_from_mean_tails,
        all_of(from_mean, NEGATIVE_BINOMIAL_TAILS),
        value_and(itself, itself),
        slopes=(1, 2),
        digits=90,
    ),
]
