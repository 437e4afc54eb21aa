"""Value and gradient of the mean NLL, against a hand-written formula and against peers."""

import math
from collections.abc import Callable
from statistics import geometric_mean
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from _table import Table
from _timing import importable, interleaved, median, ratio
from jax.nn import log_softmax, softplus
from jax.scipy.special import betaln, gammaln, xlog1py, xlogy

import likelax as lx

LOG_2PI = math.log(2 * math.pi)
GOAL, MEAN_GOAL = 1.05, 0.8


class Case(NamedTuple):
    """Parameters and values, and how each contender writes their log-probability."""

    params: tuple[np.ndarray, ...]
    value: np.ndarray
    likelax: Callable[..., Any]
    hand: Callable[..., Any]
    numpyro: Callable[..., Any]
    tfp: Callable[..., Any]


# What a competent person writes with jax.numpy and jax.scipy for a training loop: constants kept,
# nothing recomputed, no checks.
def normal(x, loc, scale):
    return -0.5 * ((x - loc) / scale) ** 2 - jnp.log(scale) - 0.5 * LOG_2PI


def log_normal(x, loc, scale):
    log_x = jnp.log(x)
    return normal(log_x, loc, scale) - log_x


def laplace(x, loc, scale):
    return -jnp.abs(x - loc) / scale - jnp.log(2 * scale)


def logistic(x, loc, scale):
    z = (x - loc) / scale
    return -z - 2 * softplus(-z) - jnp.log(scale)


def cauchy(x, loc, scale):
    return -jnp.log1p(((x - loc) / scale) ** 2) - jnp.log(math.pi * scale)


def student_t(x, df, loc, scale):
    z = (x - loc) / scale
    normaliser = gammaln((df + 1) / 2) - gammaln(df / 2) - 0.5 * jnp.log(df * math.pi)
    return normaliser - jnp.log(scale) - (df + 1) / 2 * jnp.log1p(z**2 / df)


def exponential(x, rate):
    return jnp.log(rate) - rate * x


def gamma(x, concentration, rate):
    return (
        concentration * jnp.log(rate)
        + (concentration - 1) * jnp.log(x)
        - rate * x
        - gammaln(concentration)
    )


def beta(x, a, b):
    return xlogy(a - 1, x) + xlog1py(b - 1, -x) - betaln(a, b)


def bernoulli(x, logits):
    return x * logits - softplus(logits)


def poisson(x, rate):
    return xlogy(x, rate) - rate - gammaln(x + 1)


def negative_binomial(x, total_count, logits):
    choose = gammaln(total_count + x) - gammaln(total_count) - gammaln(x + 1)
    return choose - total_count * softplus(logits) - x * softplus(-logits)


def geometric(x, logits):
    return logits - (x + 1) * softplus(logits)


def categorical(x, logits):
    return jnp.take_along_axis(log_softmax(logits), x[:, None], axis=-1)[:, 0]


def diagonal_normal(x, loc, scale):
    return normal(x, loc, scale).sum(-1)


def cases(n: int) -> dict[str, Case]:
    """Fifteen distributions with one parameter set per element, as a network's output has."""
    random = np.random.default_rng(0)
    wide = 16
    rows = n // wide

    def real(*shape: int) -> np.ndarray:
        return random.normal(size=shape or n).astype(np.float32)

    def positive(*shape: int) -> np.ndarray:
        return random.uniform(0.5, 3.0, size=shape or n).astype(np.float32)

    unit = random.uniform(0.01, 0.99, size=n).astype(np.float32)
    counts = random.poisson(3.0, size=n).astype(np.float32)
    bits = (random.uniform(size=n) < 0.5).astype(np.float32)
    labels = random.integers(0, wide, size=rows).astype(np.int32)

    def case(params: tuple, value: np.ndarray, name: str, hand: Callable, **options: Any) -> Case:
        return Case(
            params,
            value,
            lambda x, *p: _ours(name, options.get("fields"))(*p).log_prob(x),
            hand,
            lambda x, *p: _numpyro(options.get("numpyro", name))(*p).log_prob(x),
            lambda x, *p: _tfp(options.get("tfp", name), options.get("fields"))(*p).log_prob(x),
        )

    table = {
        name: case((real(), positive()), value, name, hand)
        for name, value, hand in [
            ("Normal", real(), normal),
            ("LogNormal", positive(), log_normal),
            ("Laplace", real(), laplace),
            ("Logistic", real(), logistic),
            ("Cauchy", real(), cauchy),
        ]
    }
    logits = ("logits",)
    table |= {
        "StudentT": case((positive() + 1, real(), positive()), real(), "StudentT", student_t),
        "Exponential": case((positive(),), positive(), "Exponential", exponential),
        "Gamma": case((positive(), positive()), positive(), "Gamma", gamma),
        "Beta": case((positive(), positive()), unit, "Beta", beta),
        "Poisson": case((positive(),), counts, "Poisson", poisson),
        "Bernoulli": case(
            (real(),), bits, "Bernoulli", bernoulli, fields=logits, numpyro="BernoulliLogits"
        ),
        "Geometric": case(
            (real(),), counts, "Geometric", geometric, fields=logits, numpyro="GeometricLogits"
        ),
        "NegativeBinomial": case(
            (positive(), real()),
            counts,
            "NegativeBinomial",
            negative_binomial,
            fields=("total_count", "logits"),
            numpyro="NegativeBinomialLogits",
        ),
        f"Categorical({wide})": case(
            (real(rows, wide),),
            labels,
            "Categorical",
            categorical,
            fields=logits,
            numpyro="CategoricalLogits",
        ),
        f"MultivariateNormalDiag({wide})": case(
            (real(rows, wide), positive(rows, wide)),
            real(rows, wide),
            "MultivariateNormalDiag",
            diagonal_normal,
            numpyro="diagonal",
        ),
    }
    return table


def _named(family: Callable[..., Any], fields: tuple[str, ...] | None) -> Callable[..., Any]:
    if fields is None:
        return family
    return lambda *params: family(**dict(zip(fields, params, strict=True)))


def _ours(name: str, fields: tuple[str, ...] | None) -> Callable[..., Any]:
    return _named(getattr(lx, name), fields)


def _numpyro(name: str) -> Callable[..., Any]:
    import numpyro.distributions as dist

    if name == "diagonal":
        return lambda loc, scale: dist.Normal(loc, scale).to_event(1)
    return getattr(dist, name)


def _tfp(name: str, fields: tuple[str, ...] | None) -> Callable[..., Any]:
    from tensorflow_probability.substrates.jax import distributions as tfd

    return _named(getattr(tfd, name), fields)


def compiled(log_prob: Callable[..., Any], case: Case) -> Callable[[], Any]:
    """Mean NLL with its gradient by every parameter, the data passed as arguments."""

    def loss(params: tuple[jax.Array, ...], value: jax.Array) -> jax.Array:
        return -jnp.mean(log_prob(value, *params))

    step = jax.jit(jax.value_and_grad(loss))
    params, value = jax.device_put((case.params, case.value))
    return lambda: step(params, value)


def agree(result: Any, wanted: Any, n: int) -> bool:
    """Whether values and gradients (per element) are the same: only like is timed with like."""
    (value, grads), (value_0, grads_0) = result, wanted
    close = [np.allclose(value, value_0, rtol=1e-3)]
    for got, want in zip(grads, grads_0, strict=True):
        close.append(np.allclose(np.asarray(got) * n, np.asarray(want) * n, rtol=1e-2, atol=1e-2))
    return all(close)


def run(quick: bool) -> Table:
    """Time all cases; the goal is that none takes more than 1.05 of the hand-written formula."""
    n, rounds = (10_000, 3) if quick else (1_000_000, 31)
    peers = [name for name in ("numpyro", "tfp") if importable(*PEERS[name])]
    table = Table(
        title="log_prob: mean NLL and its gradient",
        method=(
            f"{n:,} elements in float32, one set of parameters per element (the two with a width: "
            "so many rows that the elements are as many), gradients by all parameters. Data and "
            "parameters are arguments of the compiled function. The contenders run in turn, "
            f"{rounds} rounds; a ratio is the median of the ratios within a round; below 1 is "
            "faster than the hand-written formula. Goals: no likelax ratio above "
            f"{GOAL}, a geometric mean of at most {MEAN_GOAL}."
        ),
        columns=["distribution", "hand-written, ms", "likelax", *peers],
    )
    ratios = {}
    for name, case in cases(n).items():
        row, ratios[name] = _row(name, case, ["likelax", *peers], rounds, len(case.value))
        table.add(*row)
    over = [f"{name} {ratio:.2f}" for name, ratio in ratios.items() if ratio > GOAL]
    table.notes.append(f"Geometric mean of likelax: {geometric_mean(ratios.values()):.2f}.")
    table.notes.append(f"Over {GOAL}: {', '.join(over) or 'none'}.")
    missing = [name for name in PEERS if name not in peers]
    if missing:
        table.notes.append(f"Not importable here: {', '.join(missing)}.")
    return table


PEERS = {
    "numpyro": ("numpyro.distributions",),
    "tfp": ("tensorflow_probability.substrates.jax",),
}


def _row(name: str, case: Case, others: list[str], rounds: int, n: int) -> tuple[list[str], float]:
    """Cells of one case, and the ratio of likelax."""
    contenders = {"hand": compiled(case.hand, case)}
    wanted = jax.block_until_ready(contenders["hand"]())
    cells = {}
    for other in others:
        call = compiled(getattr(case, other), case)
        try:
            same = agree(call(), wanted, n)
        except Exception as error:
            if other == "likelax":
                raise
            cells[other] = type(error).__name__
            continue
        if same:
            contenders[other] = call
        elif other == "likelax":
            raise AssertionError(f"{name}: likelax and the hand-written formula differ")
        else:
            cells[other] = "differs"
    seconds = interleaved(contenders, rounds, warm_up=2)
    for other in contenders:
        cells.setdefault(other, f"{ratio(seconds, other, 'hand'):.2f}")
    row = [name, f"{1e3 * median(seconds, 'hand'):.2f}", *(cells[other] for other in others)]
    return row, ratio(seconds, "likelax", "hand")
