"""What importing likelax does and does not do, and what its public list promises."""

import inspect
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import likelax as lx
import slow
from likelax._extras import require

ROOT = Path(__file__).resolve().parent.parent

# Run in a fresh interpreter around `BODY`: fails if it started a device, made an array or changed a
# setting.
PROBE = """
import jax, flax.linen, flax.nnx, optax, chex, os, random, warnings
import numpy as np
from jax._src import xla_bridge

def settings():
    filters = list(warnings.filters)
    return dict(jax.config.values), dict(os.environ), np.geterr(), np.get_printoptions(), filters

before, states = settings(), (random.getstate(), np.random.get_state()[1].tolist())
{body}
assert not xla_bridge.backends_are_initialized(), "a device was started"
assert settings() == before, "a setting was changed"
assert (random.getstate(), np.random.get_state()[1].tolist()) == states, "a random state moved"
assert not jax.live_arrays(), "an array was made"
print("clean")
"""


def run_python(body: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROBE.format(body=textwrap.dedent(body))],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=300,
    )


def test_importing_likelax_touches_nothing():
    result = run_python("import likelax, likelax.datasets, likelax.testing, likelax.train")
    assert result.stdout == "clean\n", result.stderr


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("import jax.numpy as jnp; x = jnp.zeros(3)", "a device was started"),
        ("jax.config.update('jax_enable_x64', True)", "a setting was changed"),
        ("np.seterr(all='ignore')", "a setting was changed"),
        ("np.random.seed(0)", "a random state moved"),
    ],
)
def test_the_probe_sees_what_was_touched(body, message):
    result = run_python(body)
    assert result.returncode != 0
    assert message in result.stderr


def test_the_public_list_is_whole_and_documented():
    assert lx.__doc__
    assert len(set(lx.__all__)) == len(lx.__all__)
    missing = [name for name in lx.__all__ if not hasattr(lx, name)]
    assert not missing
    silent = [
        name
        for name in lx.__all__
        if callable(getattr(lx, name)) or inspect.ismodule(getattr(lx, name))
        if not (getattr(lx, name).__doc__ or "").strip()
    ]
    assert not silent, f"no docstring: {silent}"


def test_the_list_of_each_package_names_what_it_has():
    packages = [lx, lx.testing, lx.train, lx.datasets]
    for package in packages:
        named = getattr(package, "__all__", ())
        assert not [name for name in named if not hasattr(package, name)], package.__name__
        packages += [
            thing
            for name, thing in vars(package).items()
            if inspect.ismodule(thing) and thing.__name__ == f"{package.__name__}.{name}"
            if thing not in packages
        ]
    assert lx.adversarial in packages  # the walk has come to the packages of packages


def test_public_classes_have_docstrings_of_their_own():
    """A docstring that dataclasses wrote, or that is the parent's, says nothing about the class."""
    silent = []
    for name in lx.__all__:
        thing = getattr(lx, name)
        if inspect.isclass(thing) and thing.__module__.startswith("likelax"):
            own = thing.__dict__.get("__doc__") or ""
            if not own.strip() or own.startswith(f"{thing.__name__}("):
                silent.append(name)
    assert not silent, f"no docstring of its own: {silent}"


def test_a_missing_extra_is_answered_with_the_line_that_installs_it():
    with pytest.raises(ImportError, match=r'pip install "likelax\[plot\]"'):
        require("a_package_that_is_not_there.pyplot", "plot")


def test_a_package_that_is_there_is_returned():
    assert require("json.decoder", "plot").JSONDecoder


def test_a_broken_package_keeps_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "a_broken_package.py").write_text("import what_it_needs_is_missing\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="what_it_needs_is_missing"):
        require("a_broken_package", "plot")


def test_the_package_is_typed():
    assert (ROOT / "likelax" / "py.typed").is_file()


def test_the_list_of_slow_tests_names_tests(request):
    collected = request.config.stash.get(slow.COLLECTED, None)
    if collected is None:  # single tests were asked for
        collected = slow.LISTED
    assert slow.unknown(collected) == set()
    gone = min(slow.LISTED)  # the control
    assert slow.unknown({gone.partition("::")[0] + "::another"}) >= {gone}
