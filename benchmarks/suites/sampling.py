"""Draws: their time, with and without the pathwise gradient, and what compiling them takes."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from _table import Table
from _timing import importable, interleaved, median, ratio

import likelax as lx

GOAL = 1.0  # seconds to compile a Gamma-based sampler
WIDE = 8

Draw = Callable[..., Any]


class Case(NamedTuple):
    """Parameters, and how each contender draws one sample for each: draw(key, *parameters)."""

    params: tuple[np.ndarray, ...]
    likelax: Draw
    bare: Draw | None = None
    numpyro: Callable[[Any], Draw] | None = None
    pathwise: bool = True
    goal: bool = False  # rests on the Gamma sampler


def _ours(family: Callable[..., Any], *fields: str) -> Draw:
    if not fields:
        return lambda key, *params: family(*params).sample(key)
    return lambda key, *params: family(**dict(zip(fields, params, strict=True))).sample(key)


def _peer(build: Callable[..., Any]) -> Callable[[Any], Draw]:
    """A draw from numpyro's distribution, once its module is at hand."""
    return lambda dist: lambda key, *params: build(dist, *params).sample(key)


def _scaled(draw: Callable[..., Any]) -> Draw:
    return lambda key, loc, scale: loc + scale * draw(key, loc.shape)


def _truncated(key: Any, loc: Any, scale: Any, low: Any, high: Any) -> Any:
    a, b = (low - loc) / scale, (high - loc) / scale
    return loc + scale * jax.random.truncated_normal(key, a, b)


def _student(key: Any, df: Any, loc: Any, scale: Any) -> Any:
    return loc + scale * jax.random.t(key, df, loc.shape)


def _negative_binomial(key: Any, r: Any, logits: Any) -> Any:
    key, other = jax.random.split(key)
    return jax.random.poisson(other, jax.random.gamma(key, r) * jnp.exp(logits))


def _mixture(key: Any, probs: Any, loc: Any, scale: Any) -> Any:
    key, other = jax.random.split(key)
    which = jax.random.categorical(key, jnp.log(probs))[:, None]
    loc, scale = (jnp.take_along_axis(part, which, -1)[:, 0] for part in (loc, scale))
    return loc + scale * jax.random.normal(other, loc.shape)


def _correlated(key: Any, loc: Any, tril: Any) -> Any:
    noise = jax.random.normal(key, loc.shape)
    return loc + jnp.einsum("nij,nj->ni", tril, noise)


def cases(n: int) -> dict[str, Case]:
    """Each family with one set of parameters per draw, as a network's output has."""
    random = np.random.default_rng(0)
    rows = n // WIDE

    def real(*shape: int) -> np.ndarray:
        return random.normal(size=shape or n).astype(np.float32)

    def positive(*shape: int) -> np.ndarray:
        return random.uniform(0.5, 3.0, size=shape or n).astype(np.float32)

    def simplex(count: int, width: int) -> np.ndarray:
        parts = random.uniform(0.2, 1.0, size=(count, width)).astype(np.float32)
        return parts / parts.sum(-1, keepdims=True)

    def located(name: str, bare: Callable[..., Any]) -> Case:
        params = real(), positive()
        return Case(
            params,
            _ours(getattr(lx, name)),
            _scaled(bare),
            _peer(lambda d, *p: getattr(d, name)(*p)),
        )

    counts = random.integers(1, 40, size=n).astype(np.float32)
    rng = jax.random
    tril = np.tril(0.2 * real(rows, WIDE, WIDE), -1) + np.eye(WIDE) * positive(rows, WIDE, 1)
    return {
        "Normal": located("Normal", rng.normal),
        "Laplace": located("Laplace", rng.laplace),
        "Gumbel": located("Gumbel", rng.gumbel),
        "Exponential": Case(
            (positive(),),
            _ours(lx.Exponential),
            lambda key, rate: rng.exponential(key, rate.shape) / rate,
            _peer(lambda d, rate: d.Exponential(rate)),
        ),
        "TruncatedNormal": Case(
            (real(), positive(), real() - 3, real() + 3),
            lambda key, loc, scale, low, high: lx.Truncated(
                lx.Normal(loc, scale), low, high
            ).sample(key),
            _truncated,
            _peer(
                lambda d, loc, scale, low, high: d.TruncatedNormal(loc, scale, low=low, high=high)
            ),
        ),
        "Gamma": Case(
            (positive(), positive()),
            _ours(lx.Gamma),
            lambda key, a, rate: rng.gamma(key, a) / rate,
            _peer(lambda d, *p: d.Gamma(*p)),
            goal=True,
        ),
        "Truncated(Gamma)": Case(
            (positive(), positive(), positive() / 4, 1 + positive()),
            lambda key, a, rate, low, high: lx.Truncated(lx.Gamma(a, rate), low, high).sample(key),
        ),
        "Beta": Case(
            (positive(), positive()),
            _ours(lx.Beta),
            rng.beta,
            _peer(lambda d, *p: d.Beta(*p)),
            goal=True,
        ),
        f"Dirichlet({WIDE})": Case(
            (positive(rows, WIDE),),
            _ours(lx.Dirichlet),
            rng.dirichlet,
            _peer(lambda d, a: d.Dirichlet(a)),
            goal=True,
        ),
        "StudentT": Case(
            (positive() + 1, real(), positive()),
            _ours(lx.StudentT),
            _student,
            _peer(lambda d, *p: d.StudentT(*p)),
            goal=True,
        ),
        "VonMises": Case(
            (real(), positive()), _ours(lx.VonMises), None, _peer(lambda d, *p: d.VonMises(*p))
        ),
        "Mixture of 4 Normals": Case(
            (simplex(n, 4), real(n, 4), positive(n, 4)),
            lambda key, probs, *p: lx.Mixture(probs, lx.Normal(*p)).sample(key),
            _mixture,
            _peer(lambda d, probs, *p: d.MixtureSameFamily(d.Categorical(probs), d.Normal(*p))),
        ),
        f"MultivariateNormal({WIDE})": Case(
            (real(rows, WIDE), tril.astype(np.float32)),
            _ours(lx.MultivariateNormal, "loc", "scale_tril"),
            _correlated,
            _peer(lambda d, loc, tril: d.MultivariateNormal(loc, scale_tril=tril)),
        ),
        "Poisson": Case(
            (4 * positive(),),
            _ours(lx.Poisson),
            rng.poisson,
            _peer(lambda d, rate: d.Poisson(rate)),
            pathwise=False,
        ),
        "Binomial": Case(
            (counts, real()),
            _ours(lx.Binomial, "total_count", "logits"),
            lambda key, n, logits: rng.binomial(key, n, jax.nn.sigmoid(logits)),
            _peer(lambda d, n, logits: d.BinomialLogits(logits, n.astype(jnp.int32))),
            pathwise=False,
        ),
        "NegativeBinomial": Case(
            (positive(), real()),
            _ours(lx.NegativeBinomial, "total_count", "logits"),
            _negative_binomial,
            _peer(lambda d, r, logits: d.NegativeBinomialLogits(r, logits)),
            pathwise=False,
            goal=True,
        ),
        "Hurdle(Poisson)": Case(
            (real(), 4 * positive()),
            lambda key, logits, rate: lx.Hurdle(lx.Poisson(rate), logits=logits).sample(key),
            pathwise=False,
        ),
        f"Categorical({WIDE})": Case(
            (real(n, WIDE),),
            _ours(lx.Categorical, "logits"),
            rng.categorical,
            _peer(lambda d, logits: d.CategoricalLogits(logits)),
            pathwise=False,
        ),
        f"Multinomial({WIDE})": Case(
            (counts[:rows], simplex(rows, WIDE)),
            _ours(lx.Multinomial, "total_count", "probs"),
            rng.multinomial,
            None,  # its total_count is one static number
            pathwise=False,
        ),
    }


# Rejection that goes on until the last of all draws is accepted, or a bisection.
FEWER = {
    "Gamma",
    "Truncated(Gamma)",
    "Hurdle(Poisson)",
    "Beta",
    f"Dirichlet({WIDE})",
    "StudentT",
    "VonMises",
    "Binomial",
    "NegativeBinomial",
}
FEWER |= {"Mixture of 4 Normals"}


def run(quick: bool) -> Table:
    """Time all families."""
    n, rounds = (4_000, 2) if quick else (1_000_000, 7)
    with_numpyro = importable("numpyro.distributions")
    jax.config.update("jax_enable_compilation_cache", False)
    table = Table(
        title="sampling: draws, gradients of draws, and compile times",
        method=(
            f"{n:,} numbers drawn in float32, {n // 10:,} where marked with *; one set of parameters per draw, "
            f"which are arguments of the compiled function (rows of {WIDE}: so many that the numbers are as "
            "many). `jax.random` is what a competent person writes with it: location and scale by hand, the "
            "NegativeBinomial as a Poisson of Gamma rates, a mixture by choosing and drawing. Contenders in "
            f"turn, {rounds} rounds; a ratio is the median of the ratios within a round, below 1 is faster than "
            "likelax's. With gradient: the sum of the draws and its pathwise gradient by all parameters "
            "(a mixture of `jax.random` has none in the weights). "
            f"Compile: seconds from the lowered program, no cache. Goal: the Gamma-based ones under {GOAL:.0f} s."
        ),
        columns=[
            "distribution",
            "likelax, ms",
            "jax.random / likelax",
            "numpyro / likelax",
            "with gradient, ms",
            "numpyro / likelax, with gradient",
            "compile, s",
            "jax.random",
            "numpyro",
            "gradient",
        ],
    )
    late = []
    small = cases(n // 10)
    for name, case in cases(n).items():
        fewer = name in FEWER
        cells, seconds = _row(small[name] if fewer else case, rounds, with_numpyro)
        table.add(name + "*" * fewer, *cells)
        if case.goal and seconds >= GOAL:
            late.append(f"{name} {seconds:.2f} s")
    table.notes.append(
        f"Gamma-based samplers that compile in {GOAL:.0f} s or more: {', '.join(late) or 'none'}."
    )
    if not with_numpyro:
        table.notes.append("Not importable here: numpyro.")
    return table


def _row(case: Case, rounds: int, with_numpyro: bool) -> tuple[list[str], float]:
    """Cells, and the seconds that the sampler took to compile."""
    draws = {"likelax": case.likelax}
    if case.bare is not None:
        draws["bare"] = case.bare
    if case.numpyro is not None and with_numpyro:
        import numpyro.distributions as dist

        draws["numpyro"] = case.numpyro(dist)
    plain, compiling = _compiled(draws, case.params)
    seconds = interleaved(plain, rounds)
    gradient, slow = {}, {}
    if case.pathwise:
        wanted = {name: _with_gradient(draw) for name, draw in draws.items() if name != "bare"}
        gradient, slow = _compiled(wanted, case.params)
    steps = interleaved(gradient, rounds) if gradient else {}

    def beside(seconds: dict[str, list[float]], name: str) -> str:
        return f"{ratio(seconds, name, 'likelax'):.2f}" if name in seconds else ""

    def time_of(seconds: dict[str, list[float]]) -> str:
        return f"{1e3 * median(seconds, 'likelax'):.1f}" if seconds else ""

    def took(seconds: dict[str, float], name: str) -> str:
        return f"{seconds[name]:.2f}" if name in seconds else ""

    cells = [
        time_of(seconds),
        beside(seconds, "bare"),
        beside(seconds, "numpyro"),
        time_of(steps),
        beside(steps, "numpyro"),
        *(took(compiling, name) for name in ("likelax", "bare", "numpyro")),
        took(slow, "likelax"),
    ]
    return cells, compiling["likelax"]


def _with_gradient(draw: Draw) -> Draw:
    def total(params: Any, key: Any) -> Any:
        return jnp.sum(draw(key, *params))

    return lambda key, *params: jax.value_and_grad(total)(params, key)


def _compiled(
    draws: dict[str, Draw], params: tuple[np.ndarray, ...]
) -> tuple[dict[str, Callable[[], Any]], dict[str, float]]:
    """Calls with one key, and the seconds that the compiler took; a contender that fails is left out."""
    arguments = jax.device_put((jax.random.key(0), *params))
    calls, seconds = {}, {}
    for name, draw in draws.items():
        try:
            lowered = jax.jit(draw).lower(*arguments)
            started = time.perf_counter()
            program = lowered.compile()
            seconds[name] = time.perf_counter() - started
        except Exception:
            if name == "likelax":
                raise
            seconds.pop(name, None)
            continue
        calls[name] = lambda program=program: program(*arguments)
    return calls, seconds
