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
    """Which state of the source tree this is; never empty.

    In a clone its commit, with "+" if files differ from it; in a copy by `git archive` the commit
    that was written into commit.txt; in an installed package its version.
    """
    home = Path(__file__).parent
    git = ["git", "-C", str(home)]
    try:
        # A package that was installed somewhere inside another project's clone is no part of it.
        place = _output([*git, "ls-files", "--full-name", "__init__.py"])
        if place == f"{home.name}/__init__.py":
            changed = _output([*git, "status", "--porcelain", "-uno"])
            return _output([*git, "rev-parse", "--short=12", "HEAD"]) + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        pass
    archived = (home / "commit.txt").read_text(encoding="utf-8").strip()
    if not archived.startswith("$"):
        return archived[:12]
    return f"version {version()}"


def version() -> str:
    """The installed package's version; "unknown" in a source tree that is not installed."""
    try:
        return importlib.metadata.version("fv-jax")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


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
