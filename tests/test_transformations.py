"""The promises of a pytree: a distribution built or used inside vmap, scan, jit, grad, eval_shape
and pickle is right, for every method, which a plain loop over its elements decides.
"""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cases
import likelax as lx
from likelax.testing.structure import construct
from likelax.testing.subject import quick_jit

KEY = jax.random.key(11)
DRAWS = 3
SAMPLES = ("sample", "pair")
SUMMARIES = ("mean", "mode", "variance", "stddev", "entropy", "kl")
TAILS = ("cdf", "log_cdf", "survival", "log_survival", "quantile")
# What is asked in two vmaps: the rest is compiled often enough.
IN_NESTED = ("log_prob", "mean", "entropy", "sample")
OTHERS = {"prob", "pair", "gradient", *SUMMARIES, *TAILS} - set(IN_NESTED)

# One of each kind: what has its own shapes, nodes, supports from parameters, or loops in samples. Of every
# case `check_distribution` asks the same, more briefly.
NAMES = [
    "Normal",
    "Exponential-log_rate",
    "Delta",
    "Categorical-logits",
    "LinearCategorical-kernels",
    "MultivariateNormal-covariance",
    "Independent-Normal",
    "Mixture-Normal",
    "Transformed-TriangularAffine",
    "Masked-Normal",
]
# Their special functions take long to compile: they are mapped, but not built in every way.
MAPPED_ONLY = ["Gamma", "OrderedLogistic", "Quantized-Logistic"]


def every_method(dist, value, q, only=None):
    """All that a distribution can be asked, with the gradients by its own leaves."""
    out = {}
    questions = {
        "log_prob": lambda: dist.log_prob(value),
        "prob": lambda: dist.prob(value),
        "mean": dist.mean,
        "mode": dist.mode,
        "variance": dist.variance,
        "stddev": dist.stddev,
        "entropy": dist.entropy,
        "kl": lambda: dist.kl_divergence(dist),
        "sample": lambda: dist.sample(KEY, (DRAWS,)),
        "pair": lambda: dist.sample_and_log_prob(KEY, (DRAWS,)),
        "gradient": lambda: gradient(dist, value),
    }
    if not dist.event_shape:
        questions |= {
            "cdf": lambda: dist.cdf(value),
            "log_cdf": lambda: dist.log_cdf(value),
            "survival": lambda: dist.survival(value),
            "log_survival": lambda: dist.log_survival(value),
            "quantile": lambda: dist.quantile(q),
        }
    for name in only or questions:
        try:
            out[name] = questions[name]()
        except NotImplementedError:
            continue
    return out


def gradient(dist, value):
    """The gradient of log_prob by the distribution itself: a distribution, its float leaves."""
    leaves, treedef = jax.tree.flatten(dist)
    moving = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]
    still = [None if m else leaf for m, leaf in zip(moving, leaves, strict=True)]

    def total(floats):
        it = iter(floats)
        mixed = [next(it) if m else leaf for m, leaf in zip(moving, still, strict=True)]
        return jnp.sum(jax.tree.unflatten(treedef, mixed).log_prob(value))

    return jax.grad(total)([leaf for m, leaf in zip(moving, leaves, strict=True) if m])


ask = quick_jit(every_method)


def equal(got, want, what, rtol=2e-5, atol=2e-6):
    """Two answers to `every_method`, or parts of them, leaf by leaf."""
    assert jax.tree.structure(got) == jax.tree.structure(want), what
    pairs = zip(jax.tree.leaves_with_path(got), jax.tree.leaves(want), strict=True)
    for (path, a), b in pairs:
        message = f"{what}: {jax.tree_util.keystr(path)}"
        assert jnp.shape(a) == jnp.shape(b), message
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=message)


def stacked(answers):
    return jax.tree.map(lambda *parts: np.stack(parts), *answers)


def without(answers, *names):
    return {name: part for name, part in answers.items() if name not in names}


class Subject:
    """A case of one batch axis, with values to ask about and the loop's answers.

    Attributes:
      dist: every leaf at the full batch shape.
      leaves, rebuild: its arrays, and the constructors run on others in their place.
      value, q: `(n, batch, *event)` and `(n, batch)`.
      loop: `every_method` of each element by itself, stacked in front.
    """

    def __init__(self, dist):
        self.dist = dist = dist.broadcast_to(dist.batch_shape)
        self.size = dist.batch_shape[0]
        self.leaves, treedef = jax.tree.flatten(dist)
        self.rebuild = lambda leaves: construct(jax.tree.unflatten(treedef, leaves))
        self.value = np.asarray(dist.sample(jax.random.key(5), (DRAWS,)))
        self.q = np.linspace(0.1, 0.8, DRAWS * self.size, dtype=np.float32).reshape(DRAWS, -1)
        self.elements = np.moveaxis(self.value, 1, 0), self.q.T
        rows = zip(*self.elements, strict=True)
        self.loop = stacked([ask(dist[i], value, q) for i, (value, q) in enumerate(rows)])


def check_maps(subject):
    """Batch, vmap and scan over the distribution give what the loop gives."""
    dist, loop = subject.dist, subject.loop
    _, treedef = jax.tree.flatten(dist)

    def step(carry, each):
        # The distribution is also carried along, and comes out as it went in.
        return carry, every_method(*each)

    @quick_jit
    def maps(dist, elements):
        mapped = jax.vmap(every_method)(dist, *elements)
        carried, scanned = jax.lax.scan(step, dist, (dist, *elements))
        return mapped, scanned, carried

    mapped, scanned, carried = maps(dist, subject.elements)
    equal(mapped, loop, "vmap")
    equal(scanned, loop, "scan")
    assert jax.tree.structure(carried) == treedef
    equal(carried, dist, "the carry of scan", 0, 0)
    batch = ask(dist, subject.value, subject.q)
    # The batch draws its own noise; its values have the sample axis in front.
    fronted = {
        name: np.moveaxis(part, 1, 0) if np.ndim(part) > 1 and name not in SUMMARIES else part
        for name, part in without(batch, *SAMPLES, "gradient").items()
    }
    equal(fronted, without(loop, *SAMPLES, "gradient"), "batch")
    equal(batch["gradient"], loop["gradient"], "the batch's gradient")


def check_shapes(subject):
    """eval_shape gives the shapes and dtypes that running gives, building included."""
    dist, value, q = subject.dist[0], subject.elements[0][0], subject.elements[1][0]
    structs = [jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for leaf in subject.leaves]
    built = jax.eval_shape(subject.rebuild, structs)
    assert built.batch_shape == () and built.event_shape == dist.event_shape
    got = ask.eval_shape(built, value, q)
    want = ask(dist, value, q)
    assert jax.tree.map(lambda s: (s.shape, s.dtype), got) == jax.tree.map(
        lambda x: (x.shape, x.dtype), want
    )


def check_building(subject):
    """Built inside vmap from one mapped parameter of lower rank and whole batches of the others,
    and inside two vmaps from one each; asked there, and asked after it came out.
    """
    leaves, rebuild, value, q = subject.leaves, subject.rebuild, subject.value, subject.q
    single = len(leaves) == 1

    def put(at, row, others):
        return [row if i == at else leaf for i, leaf in enumerate(others)]

    def one(at):
        build = lambda row: rebuild(put(at, row, leaves))  # noqa: E731
        inside = jax.vmap(lambda row: without(every_method(build(row), value, q), "gradient"))
        came_out = jax.vmap(build)(leaves[at])
        log_prob = came_out.log_prob(value[:, None])
        assert came_out.batch_shape == (subject.size, subject.size)
        assert came_out.sample(KEY).shape == log_prob.shape[1:] + came_out.event_shape
        return inside(leaves[at]), jnp.moveaxis(log_prob, 1, 0)

    def pair(value, q):
        def inner(first, second):
            rest = [leaf[0] for leaf in leaves]
            built = rebuild(put(1, second, put(0, first, rest)))
            return every_method(built, value, q, only=IN_NESTED)

        over_second = jax.vmap(inner, in_axes=(None, 0))
        return jax.vmap(over_second, in_axes=(0, None))(leaves[0], leaves[1])

    value0, q0 = value[:, 0], q[:, 0]

    @quick_jit
    def built(value0, q0):
        ones = {} if single else {at: one(at) for at in (0, len(leaves) - 1)}
        return ones, None if single else pair(value0, q0)

    ones, pairs = built(value0, q0)
    treedef = jax.tree.structure(subject.dist)
    for at, got in ones.items():
        want = []
        for row in leaves[at]:
            full = put(at, jnp.broadcast_to(row, leaves[at].shape), leaves)
            want.append(without(ask(jax.tree.unflatten(treedef, full), value, q), "gradient"))
        inside, came_out = got
        equal(inside, stacked(want), f"built inside vmap over leaf {at}")
        equal(came_out, stacked(want)["log_prob"], f"out of vmap over leaf {at}")
    if pairs is not None:
        rest = [leaf[0] for leaf in leaves]
        want = [
            [
                without(ask(rebuild(put(1, b, put(0, a, rest))), value0, q0), *OTHERS)
                for b in leaves[1]
            ]
            for a in leaves[0]
        ]
        equal(pairs, stacked([stacked(row) for row in want]), "built inside two vmaps")


def check_round_trips(subject):
    """jit in and out, pickle, and a donated distribution."""
    dist, value, q = subject.dist[0], subject.elements[0][0], subject.elements[1][0]
    want = ask(dist, value, q)
    leaves = [leaf[0] for leaf in subject.leaves]
    through = {
        "jit in and out": jax.jit(lambda d: d)(dist),
        "built inside jit": jax.jit(lambda leaves: subject.rebuild(leaves))(leaves),
        "pickle": pickle.loads(pickle.dumps(dist)),
    }
    for what, other in through.items():
        assert type(other) is type(dist)
        assert jax.tree.structure(other) == jax.tree.structure(dist), what
        equal(other, dist, what, 0, 0)
        equal(ask(other, value, q), want, what, 0, 0)
    kept = jax.tree.map(np.asarray, dist)
    moved = jax.jit(lambda d: jax.tree.map(lambda x: x, d), donate_argnums=0)
    given = jax.tree.map(jnp.array, dist)
    new = moved(given)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given))
    equal(new, kept, "donated", 0, 0)


CHECKS = (check_maps, check_shapes, check_building, check_round_trips)


@pytest.mark.parametrize("name", NAMES)
def test_every_method_is_right_under_every_transformation(name):
    subject = Subject(cases.BY_NAME[name].make())
    for check in CHECKS:
        check(subject)


@pytest.mark.parametrize("name", MAPPED_ONLY)
def test_every_method_is_right_when_mapped(name):
    check_maps(Subject(cases.BY_NAME[name].make()))


def test_the_gradient_by_a_distribution_is_a_distribution():
    dist = lx.Normal(jnp.array([0.5, -2.0]), jnp.array([0.75, 3.0]))
    x = jnp.array([1.0, 4.0])
    slope = jax.grad(lambda d: jnp.sum(d.log_prob(x)))(dist)
    assert type(slope) is lx.Normal
    z = (x - dist.loc) / dist.scale
    np.testing.assert_allclose(slope.loc, z / dist.scale, rtol=1e-6)
    np.testing.assert_allclose(slope.scale, (z**2 - 1) / dist.scale, rtol=1e-6)
    moved = jax.tree.map(lambda p, g: p + 0.1 * g, dist, slope)
    assert jnp.all(moved.log_prob(x) > dist.log_prob(x))
    hessian = jax.hessian(lambda d: d.log_prob(1.0))(dist[0])
    np.testing.assert_allclose(hessian.loc.loc, -1 / 0.75**2, rtol=1e-6)


def test_parameters_of_three_ranks_in_nested_vmaps():
    """A scalar mapped outside, a vector mapped inside, and a matrix that is not mapped."""
    loc, scale = jnp.array([0.5, -1.0]), jnp.array([0.75, 2.0, 5.0])
    df = jnp.array([[1.5, 3.0], [8.0, 40.0]])

    def score(loc, scale):
        return lx.StudentT(df, loc, scale).log_prob(0.25)

    got = jax.vmap(lambda m: jax.vmap(lambda s: score(m, s))(scale))(loc)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_allclose(got[i, j], score(loc[i], scale[j]), rtol=1e-5)


# ---- negative controls: the same checks fail where a promise is broken ----


class Stored(lx.Distribution):
    """A Normal that stores its batch shape when it is built."""

    loc: lx.Array = lx.param(lx.supports.real)
    scale: lx.Array = lx.param(lx.supports.positive)
    shape: tuple = lx.static(default=())

    def __init__(self, loc, scale, shape=None):
        super().__init__(loc, scale, jnp.broadcast_shapes(jnp.shape(loc), jnp.shape(scale)))

    @property
    def batch_shape(self):
        return self.shape

    def log_prob(self, value):
        return lx.Normal(self.loc, self.scale).log_prob(value)

    def sample(self, key, shape=()):
        noise = jax.random.normal(key, shape + self.shape, self.dtype)
        return self.loc + self.scale * noise


class Unaligned(lx.Normal):
    """A Normal whose parameters keep the ranks that they were given."""

    def _align(self, values):
        return values


class Summed(lx.Normal):
    """Its mean looks at the whole batch."""

    def mean(self):
        return self.loc - self.loc.mean()


def control(family):
    return family(jnp.array([0.5, -2.0]), jnp.array([0.75, 3.0]))


@pytest.mark.parametrize(
    ("family", "check", "message"),
    [
        (Stored, check_maps, r"with batch \(2,\) and event \(\), got \(3,\)"),
        (Stored, check_building, r"with batch \(2,\) and event \(\), got \(3,\)"),
        (Unaligned, check_building, "out of vmap over leaf 0"),
        (Summed, check_maps, r"batch: \['mean'\]"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_a_broken_promise_is_found(family, check, message):
    with pytest.raises((AssertionError, ValueError), match=message):
        check(Subject(control(family)))
