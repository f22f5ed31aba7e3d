"""The table of accelerators, and the benchmark that stands in for a CPU's data sheet."""

import time

import jax
import pytest

from fv_jax.training.accelerators import (
    ACCELERATORS,
    find_accelerator,
    measured_matmul_flops,
    peak_flops,
)


@pytest.mark.parametrize(
    ("kind", "name", "tera"),
    [
        ("TPU v5 lite", "TPU v5e", 197),
        ("TPU v5", "TPU v5p", 459),
        ("TPU v6 lite", "TPU v6e", 918),
        ("Tesla V100-SXM2-32GB", "V100-32GB", 125),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB", 312),
        ("A100-SXM4-80GB", "A100-80GB", 312),  # as older drivers say it
        ("NVIDIA H100 80GB HBM3", "H100 SXM", 989),
        ("NVIDIA H200", "H200", 989),
        ("NVIDIA B200", "B200", 2250),
        ("a100-80gb", "A100-80GB", 312),  # as a person says it
    ],
)
def test_devices_are_found_as_jax_spells_them(kind, name, tera):
    accelerator = find_accelerator(kind)
    assert accelerator is not None
    assert accelerator.name == name
    assert accelerator.peak_flops == tera * 1e12


def test_unknown_devices_are_not_guessed():
    assert find_accelerator("NVIDIA Z900") is None
    assert find_accelerator("A100") is None  # with how much memory?


def test_no_spelling_means_two_devices():
    words = [word.lower() for a in ACCELERATORS for word in {a.name, *a.kinds}]
    assert len(words) == len(set(words))


def test_memory_is_in_bytes():
    assert all(16e9 <= a.memory_bytes <= 300e9 for a in ACCELERATORS)


def test_a_cpu_is_measured_once_and_quickly():
    measured_matmul_flops.cache_clear()
    start = time.perf_counter()
    peak = measured_matmul_flops()
    assert time.perf_counter() - start < 2  # half a second, on a machine with nothing else to do
    assert 1e8 < peak < 1e15
    assert measured_matmul_flops() == peak
    cpus = jax.local_devices(backend="cpu")
    assert peak_flops(cpus[0]) == peak / len(cpus)
