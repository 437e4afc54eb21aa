"""The suite's own machinery: annotations are executed, and the compilation cache is shared."""

import importlib
import os
import sys

import jax
import pytest
from jaxtyping import TypeCheckError, install_import_hook

MODULE = """
from typing import Self
from jaxtyping import Array, Float

def first(x: Float[Array, "n m"], y: Float[Array, " m"]) -> Float[Array, " n"]:
    return x @ y

class Node:
    def replace(self, x: Float[Array, " n"]) -> Self:
        return self
"""


@pytest.fixture
def hooked(tmp_path, monkeypatch):
    """A module written as those of likelax are, imported through the suite's hook."""
    (tmp_path / "a_hooked_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    with install_import_hook("a_hooked_module", "annotation_checker.check_annotations"):
        yield importlib.import_module("a_hooked_module")
    del sys.modules["a_hooked_module"]


def test_a_wrong_shape_is_an_error(hooked):
    x, y = jax.numpy.ones((2, 3)), jax.numpy.ones(3)
    assert hooked.first(x, y).shape == (2,)
    with pytest.raises(TypeCheckError, match="parameter 'y'"):
        hooked.first(x, x[:, 0])


def test_functions_that_return_self_are_checked_too(hooked):
    node = hooked.Node()
    assert node.replace(jax.numpy.ones(3)) is node
    with pytest.raises(TypeCheckError, match="parameter 'x'"):
        node.replace(jax.numpy.ones((3, 3)))


def test_likelax_itself_was_imported_through_the_hook():
    from likelax import datasets

    with pytest.raises(TypeCheckError, match="parameter 'size'"):
        datasets.batches(jax.numpy.ones(3), "three")


def test_processes_share_one_compilation_cache():
    folder = os.environ["JAX_COMPILATION_CACHE_DIR"]
    assert os.path.isdir(folder)
    assert jax.config.jax_compilation_cache_dir == folder
