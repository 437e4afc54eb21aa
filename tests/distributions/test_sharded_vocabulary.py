"""A vocabulary head on a mesh: nothing large goes between devices, and mistakes are named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import likelax as lx

PROGRAM = Path(__file__).resolve().parent.parent / "sharded_vocabulary.py"
TOKENS, FEATURES, COLUMNS = 4 * 24, 8, 208  # as there
KERNEL, HIDDEN = 4 * FEATURES * COLUMNS, 4 * TOKENS * FEATURES
LOSS, PARTS = True, False
CASES = {
    "explicit, both": (LOSS, "explicit", "data", "model"),
    "explicit, both, each token": (PARTS, "explicit", "data", "model"),
    "explicit, tokens": (LOSS, "explicit", "data", None),
    "auto, columns": (LOSS, "auto", None, "model"),
    "auto, both": (LOSS, "auto", "data", "model"),
    "auto, tokens, each token": (PARTS, "auto", "data", None),
    "inside, both, each token": (PARTS, "auto", "data", "model", "inside"),
}
NARROW = {
    f"{name} in bfloat16": (weighted, "auto", tokens, columns, "keywords", "bfloat16")
    for name, weighted, tokens, columns in [
        ("tokens", LOSS, "data", None),
        ("tokens, each token", PARTS, "data", None),
        ("columns", LOSS, None, "model"),
    ]
}
HELD = {
    "explicit": ("held", "explicit", "data", "model"),
    "auto": ("held", "auto", "data", "model"),
}
CONTROLS = {
    "columns": (LOSS, "auto", None, "model", "nothing"),
    "tokens": (LOSS, "auto", "data", None, "nothing"),
}


@pytest.fixture(scope="module")
def found():
    """What the program on four devices prints: `(error, [(kind, bytes, in a loop), ...])`."""
    cases = CASES | NARROW | HELD | CONTROLS
    run = subprocess.run(
        [sys.executable, str(PROGRAM), *map(json.dumps, cases.values())],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return dict(zip(cases, json.loads(run.stdout.splitlines()[-1]), strict=True))


def gathers_nothing(sent, case):
    """Only sums and maxima: of a few numbers of each token, and once, where tokens are divided, of
    each gradient of the kernel, where columns are, of the hidden states.
    """
    weighted, _, tokens, columns = case[:4]
    parts = 4 if not (tokens and columns) else 2
    own_kernel, own_hidden = KERNEL // (parts if columns else 1), HIDDEN // (parts if tokens else 1)
    assert {kind for kind, *_ in sent} == {"all-reduce"}, "more than sums and maxima"
    few = 2 * own_hidden // FEATURES  # entries of one or two numbers of each token
    gradients = 1 if weighted else 3  # of the sum, or of what log_prob, entropy and normaliser give
    large = [size for _, size, _ in sent if size > few]
    kernels = [size for size in large if size == own_kernel]
    hidden = [size for size in large if size == own_hidden]
    assert len(kernels) == (gradients if tokens else 0), "sums of the kernel's size"
    assert len(hidden) == (gradients if columns else 0), "sums of the hidden states' size"
    biases = [size for size in large if size == own_kernel // FEATURES]
    assert len(large) == len(kernels) + len(hidden) + len(biases)
    assert not any(in_loop for _, size, in_loop in sent if size > few)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_numbers_are_those_of_one_device_and_little_is_sent(found, name):
    error, sent = found[name]
    assert error < 2e-6
    gathers_nothing(sent, CASES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", HELD)
def test_kl_to_and_from_logits_that_are_held(found, name):
    assert found[name][0] < 5e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", NARROW)
def test_half_precision_on_a_mesh(found, name):
    error, sent = found[name]
    assert error < 1e-2
    # Summed over devices wide: nothing of half precision, which XLA's CPU backend dies of.
    weighted, _, tokens, columns = NARROW[name][:4]
    sizes = [size for kind, size, _ in sent if kind == "all-reduce"]
    assert (KERNEL in sizes) if tokens else (HIDDEN in sizes)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTROLS)
def test_left_to_the_compiler_kernels_are_gathered_or_summed_in_the_loop(found, name):
    error, sent = found[name]
    assert error < 2e-6
    with pytest.raises(AssertionError, match="more than sums|sums of the"):
        gathers_nothing(sent, CONTROLS[name])


def head(kind, *, hidden=("data",), kernel=(None, "model"), columns=52, **keywords):
    """Traces a head on a mesh of four devices that are not there."""
    mesh = AbstractMesh((2, 2), ("data", "model"), axis_types=(kind, kind))

    def spec(shape, *entries, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P(*entries)))

    def log_prob(hidden, kernel, token):
        return lx.LinearCategorical(hidden, kernel, **keywords).log_prob(token)

    token = spec((4, 6), *hidden[:2], dtype=jnp.int32)
    return jax.eval_shape(log_prob, spec((4, 6, 8), *hidden), spec((8, columns), *kernel), token)


def test_types_say_where_the_results_lie():
    assert head(AxisType.Explicit).sharding.spec == P("data", None)
    assert head(AxisType.Explicit, hidden=(None, "data")).sharding.spec == P(None, "data")
    both = {"vocabulary_axis": "model", "batch_spec": P("data")}
    assert head(AxisType.Auto, **both).shape == (4, 6)
    assert head(AxisType.Explicit, **both).sharding.spec == P("data", None)


def inside(**keywords):
    """The same in a `jax.shard_map` over the columns."""
    mesh = AbstractMesh((2,), ("model",), axis_types=(AxisType.Auto,))
    options = {"in_specs": (P(), P(None, "model")), "out_specs": P(), **keywords}

    def log_prob(hidden, kernel):
        dist = lx.LinearCategorical(hidden, kernel, vocabulary_axis="model")
        assert dist.num_categories == 2 * kernel.shape[1]
        return dist.log_prob(jnp.zeros(3, int))

    run = jax.shard_map(log_prob, mesh=mesh, **options)
    return jax.eval_shape(
        run, jax.ShapeDtypeStruct((3, 8), "f4"), jax.ShapeDtypeStruct((8, 10), "f4")
    )


WRONG = {
    "no such axis": (
        lambda: head(AxisType.Auto, vocabulary_axis="modle"),
        r"'modle' is no axis of the mesh, which has \('data', 'model'\)",
    ),
    "no such axis of the batch": (
        lambda: head(AxisType.Auto, batch_spec=P(None, "time")),
        r"'time' is no axis of the mesh",
    ),
    "more entries than axes": (
        lambda: head(AxisType.Auto, batch_spec=P("data", None, None)),
        r"has an entry for each of 3 axes, the batch has 2",
    ),
    "a name for a spec": (
        lambda: head(AxisType.Auto, batch_spec="data"),
        r"got 'data'; write batch_spec=jax.P\('data'\)",
    ),
    "columns that do not divide": (
        lambda: head(AxisType.Auto, vocabulary_axis="model", columns=51, kernel=()),
        r"51 columns do not divide over the 2 devices of mesh axis 'model'; pad the kernel",
    ),
    "tokens that do not divide": (
        lambda: head(AxisType.Auto, batch_spec=P(None, ("data", "model"))),
        r"6 tokens do not divide over the 4 devices of mesh axis 'data', 'model'",
    ),
    "one axis for both": (
        lambda: head(AxisType.Explicit, kernel=(None, "data")),
        r"tokens and columns are both divided over 'data'; gather the kernel first: "
        r"write jax.reshard\(kernel, jax.P\(None, None\)\)",
    ),
    "another kernel than said": (
        lambda: head(AxisType.Explicit, kernel=(), vocabulary_axis="model"),
        r"columns are not divided over it; write jax.reshard\(kernel, jax.P\(None, 'model'\)\)",
    ),
    "features of hidden states": (
        lambda: head(AxisType.Explicit, hidden=("data", None, "model")),
        r"features of hidden are divided over mesh axis 'model'; they must be whole: "
        r"write jax.reshard\(hidden, jax.P\('data', None, None\)\)",
    ),
    "features of the kernel": (
        lambda: head(AxisType.Explicit, kernel=("model", None)),
        r"write jax.reshard\(kernel, jax.P\(None, None\)\)",
    ),
    "inside, the same kernel everywhere": (
        lambda: inside(in_specs=(P(), P())),
        r"the kernel is the same all along mesh axis 'model'; give it in_specs=P\(None, 'model'\)",
    ),
    "inside, unchecked": (lambda: inside(check_vma=False), r"without check_vma=False"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_lie_right_is_named(case):
    call, match = WRONG[case]
    with pytest.raises((ValueError, TypeError), match=match):
        call()


def test_inside_a_shard_map_the_vocabulary_is_whole():
    assert inside().shape == (3,)


def test_keywords_without_a_mesh(monkeypatch):
    """On one device they say nothing; on more of them the arrays must lie on a mesh."""

    def log_prob(size):
        dist = lx.LinearCategorical(jnp.ones((2, 3)), jnp.ones((3, size)), vocabulary_axis="model")
        return dist.log_prob(jnp.zeros(2, int))

    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert log_prob(5).shape == (2,)
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    with pytest.raises(ValueError, match=r"no mesh is in sight; write with jax.set_mesh\(mesh\)"):
        log_prob(7)
