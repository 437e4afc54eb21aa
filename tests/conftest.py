"""The strict house: every annotation of likelax is executed, and compilations are shared."""

import gc
import hashlib
import os
import platform
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Before jax is imported. `JAX_PLATFORMS=cuda make test` runs the suite on an accelerator.
os.environ.setdefault("JAX_PLATFORMS", "cpu")


def compiler_flags() -> str:
    """Workers take all cores: programs compiled in several threads each would only wait for one another.

    And the older of XLA's two ways to write loops, where it has both, takes half the time.
    """
    flags = "--xla_cpu_parallel_codegen_split_count=1"
    both = f"{flags} --xla_cpu_use_fusion_emitters=false"
    command = [
        sys.executable,
        "-c",
        "import jax; jax.devices('cpu')",
    ]  # ends at a flag it does not know
    tried = subprocess.run(command, env=os.environ | {"XLA_FLAGS": both}, capture_output=True)
    return both if tried.returncode == 0 else flags


# The controller's choices are what its workers, and the processes that tests start, inherit.
if "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = compiler_flags()


def compilation_cache(root: Path, limit: int = 2**31) -> Path:
    """A folder for compiled programs that later runs find again: compiling is most of a run's time.

    It is one of this kind of processor, whose instructions the programs are made of, and emptied when it
    has grown beyond the limit in bytes.
    """
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = [line for line in lines if line.startswith(("flags", "Features"))]
    kind = hashlib.sha256("".join([platform.machine(), *flags[:1]]).encode()).hexdigest()[:12]
    folder = root / kind
    if sum(path.stat().st_size for path in folder.glob("*")) > limit:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _folder = compilation_cache(Path(__file__).parents[1] / ".jax_cache")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_folder)
    # Smaller programs cost more to store than to compile.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

# Most of the tests' time is compiling, and most of that is optimising, which changes no digit that XLA's
# own simplifier (it stays on) has not changed: the benchmark `accuracy` asks the contract with everything.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# Nor does anybody read where in Python each instruction came from.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")

import jax

import slow
from annotation_checker import install

# Annotations run only in modules that are imported after this.
install("likelax")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--smoke", action="store_true", help="of each file's quick tests every third")
    parser.addoption("--measure-slow", action="store_true", help="write tests/slow.txt anew")


_seconds: dict[str, float] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    name = slow.name_of(report.nodeid)
    if report.when == "call" and (name in slow.LISTED or "slow" not in report.keywords):
        _seconds[name] = report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("measure_slow") and not hasattr(session.config, "workerinput"):
        slow.write(_seconds)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The smoke part is there for what a new JAX breaks: every file, little of each."""
    slow.mark(items)
    if not any("::" in arg for arg in config.args):
        config.stash[slow.COLLECTED] = {slow.name_of(item.nodeid) for item in items}
    if not config.getoption("smoke"):
        return
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("slow") is None:
            files.setdefault(item.path, []).append(item)
    kept = [item for tests in files.values() for item in tests[::3]]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


# Tracing makes a great many short-lived objects, few of them in cycles: at Python's usual thresholds an
# eighth of the time goes into looking for those.
gc.set_threshold(100_000)

_MOST_GROWTH = 1.5e9
_peak = 0.0


def pytest_collection_finish() -> None:
    """What has been imported stays: no collection looks at it again."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _bounded_memory():
    """A worker's programs are forgotten before they fill the memory of a small machine."""
    global _peak
    yield
    unit = 1 if sys.platform == "darwin" else 1024
    peak = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if peak > _peak + _MOST_GROWTH:
        jax.clear_caches()
        _peak = peak
