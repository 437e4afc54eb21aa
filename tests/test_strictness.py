"""The suite's own machinery: annotations are executed, and the compilation cache is shared."""

import importlib
import os
import sys

import jax
import pytest

import annotation_checker

MODULE = """
from __future__ import annotations
from typing import Self
from jax import Array

def first(x: Array, y: float) -> Array:
    return x * y

def second(x: Array) -> Array:
    return float(x[0])

def bare(x, y):
    return x

class Node:
    def replace(self, x: Array) -> Self:
        return self
"""


@pytest.fixture
def hooked(tmp_path, monkeypatch):
    """A module written as those of likelax are, imported through the suite's hook."""
    (tmp_path / "a_hooked_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    finder = annotation_checker.install("a_hooked_module")
    yield importlib.import_module("a_hooked_module")
    sys.meta_path.remove(finder)
    del sys.modules["a_hooked_module"]


def test_a_wrong_type_is_an_error(hooked):
    x = jax.numpy.ones(3)
    assert hooked.first(x, 2).shape == (3,)
    with pytest.raises(TypeError, match="parameter x=1.0"):
        hooked.first(1.0, 2.0)
    with pytest.raises(TypeError, match="return 1.0"):
        hooked.second(x)


def test_functions_that_return_self_are_checked_too(hooked):
    node = hooked.Node()
    assert node.replace(jax.numpy.ones(3)) is node
    with pytest.raises(TypeError, match="parameter x="):
        node.replace([1.0])


def test_a_function_without_annotations_is_left_as_it_is(hooked):
    assert hooked.bare.__code__.co_argcount == 2
    assert hooked.first.__wrapped__.__code__.co_argcount == 2  # the control: this one is wrapped


def test_likelax_itself_was_imported_through_the_hook():
    from likelax import datasets

    with pytest.raises(TypeError, match="parameter size="):
        datasets.batches(jax.numpy.ones(3), "three")


def test_processes_share_one_compilation_cache():
    folder = os.environ["JAX_COMPILATION_CACHE_DIR"]
    assert os.path.isdir(folder)
    assert jax.config.jax_compilation_cache_dir == folder
