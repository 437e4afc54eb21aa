"""Timing contenders in turn, and the facts of the machine they ran on."""

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax


def interleaved(
    contenders: Mapping[str, Callable[[], Any]], rounds: int, *, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of each contender in each round; in every round all of them run, one after another.

    What slows the machine for a while slows all of them, so that ratios within a round hold. The
    order is turned from round to round: the one that runs after a big one is not always the same.
    """
    names = list(contenders)
    for name in names:
        for _ in range(warm_up):
            jax.block_until_ready(contenders[name]())
    seconds: dict[str, list[float]] = {name: [] for name in names}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(rounds):
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                started = time.perf_counter()
                jax.block_until_ready(contenders[name]())
                seconds[name].append(time.perf_counter() - started)
    finally:
        if collecting:
            gc.enable()
    return seconds


def many(call: Callable[[], Any], times: int) -> Callable[[], Any]:
    """`call` so often in a row, for what is too short for the clock; returns the last result."""

    def repeated() -> Any:
        for _ in range(times - 1):
            call()
        return call()

    return repeated


def ratio(seconds: Mapping[str, list[float]], name: str, to: str) -> float:
    """Median over the rounds of one contender's time over another's in the same round."""
    return statistics.median(a / b for a, b in zip(seconds[name], seconds[to], strict=True))


def median(seconds: Mapping[str, list[float]], name: str) -> float:
    """Median seconds of a contender."""
    return statistics.median(seconds[name])


def importable(*modules: str) -> bool:
    """Whether all of these truly import: a peer may be there and fail on this JAX."""
    try:
        for module in modules:
            __import__(module)
    except Exception:
        return False
    return True


def machine_facts() -> list[str]:
    """What a reader has to know to judge a time: processor, cores, device, versions."""
    device = jax.devices()[0]
    versions = []
    peers = (
        "numpyro",
        "tfp-nightly",
        "tensorflow-probability",
        "flowjax",
        "equinox",
        "distrax",
        "thrml",
    )
    for name in ("jax", "jaxlib", "flax", *peers):
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return [
        f"Device: {device.device_kind} ({device.platform}), {jax.device_count()} in all",
        f"Processor: {_processor()}, {_cores()} cores to use, load {load:.1f} at the end",
        f"Python {platform.python_version()} on {platform.system()}, " + ", ".join(versions),
        f"Taken {time.strftime('%Y-%m-%d')}",
    ]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        for line in listed.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
