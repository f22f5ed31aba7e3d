"""Where a number comes from: code version, library versions, machine and date."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import jax


def provenance() -> dict[str, str]:
    """What to write beside any measured number."""
    return {
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("jax", "flax", "numpy")},
        "machine": machine(),
        "devices": ", ".join(f"{d.platform} {d.device_kind}" for d in jax.devices()),
    }


def _commit() -> str:
    """The source tree's commit, with "+" if files differ from it; "" outside a clone."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")


def cores() -> int:
    """How many CPU cores the process may use."""
    known = hasattr(os, "sched_getaffinity")  # not on macOS
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


def machine() -> str:
    """The processor, and how many of its cores the process may use."""
    return f"{_processor()}, {cores()} cores"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
