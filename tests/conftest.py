"""Settings of every test, and fixtures that several files use."""

import gc
import os
from pathlib import Path

import hypothesis
import jax
import pytest
import tiny

# The same examples every time, however slow the machine is.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("same")

# Tests run each program a few times at most: compiling it well takes longer than it saves, and
# XLA's older way to write fused loops for a CPU takes half of the time. The variable is for the
# processes that tests start, too; this one reads it when it finds its devices.
jax.config.update("jax_disable_most_optimizations", True)
# Newer ones have no other way, and end at a flag that they do not know.
_QUICK = "--xla_cpu_use_fusion_emitters=false" if jax.__version_info__ < (0, 12) else ""
os.environ["XLA_FLAGS"] = f"{_QUICK} {os.environ.get('XLA_FLAGS', '')}".strip()

# Each compiled program takes mappings of memory, of which Linux gives a process 65,530: XLA ends it
# by a segmentation fault when there are no more.
_MOST_MAPPINGS = 20_000


@pytest.fixture(autouse=True, scope="module")
def _few_mappings():
    """Programs that earlier files compiled are forgotten before there are too many."""
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > _MOST_MAPPINGS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Name of the float type that arrays made in the test have by default."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture
def x64():
    """Arrays made in the test are float64 by default."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def generator():
    """A generator with random weights; its compiled samplers serve all tests."""
    return tiny.generator()
