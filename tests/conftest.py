"""The strict house: every annotation of likelax is executed, and compilations are shared."""

import os
import shutil
import tempfile

import pytest

# Before jax is imported. `JAX_PLATFORMS=cuda make test` runs the suite on an accelerator.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Workers take all cores: programs compiled in several threads each would only wait for one another.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_parallel_codegen_split_count=1")

# The controller makes one compilation cache for the run; its workers, and the processes that tests
# start, inherit it through the environment.
_CACHE = "JAX_COMPILATION_CACHE_DIR"
_own_cache = None
if _CACHE not in os.environ:
    _own_cache = tempfile.mkdtemp(prefix="likelax-tests-")
    os.environ[_CACHE] = _own_cache
    # Small programs cost more to store than to compile.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import jax

from annotation_checker import install

# Annotations run only in modules that are imported after this.
install("likelax")


def pytest_unconfigure(config: pytest.Config) -> None:
    if _own_cache is not None:
        shutil.rmtree(_own_cache, ignore_errors=True)


# What is right to its last digits is right with the optimisations that users have. The other tests
# look at what the library does, and most of their time would be spent on optimising.
OPTIMISED = {"numerics", "distributions", "test_cases", "test_losses", "test_transformations"}


@pytest.fixture(autouse=True, scope="module")
def _quick_compilation(request: pytest.FixtureRequest):
    path = request.path.relative_to(request.config.rootpath / "tests")
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update(
        "jax_disable_most_optimizations", path.parts[0].removesuffix(".py") not in OPTIMISED
    )
    yield
    jax.config.update("jax_disable_most_optimizations", before)
