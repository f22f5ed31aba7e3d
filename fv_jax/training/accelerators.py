"""What accelerators can do at most, to say how much of it a training uses.

Peaks are of dense bfloat16 matmuls with float32 accumulation. Vendors like to print twice as much,
for matrices of which half the numbers are zero.
"""

import dataclasses
import functools
import statistics
import time

import jax
import jax.numpy as jnp

_TERA = 1e12
_GB, _GIB = 1e9, 2**30

_BENCHMARK_SIDE = 1024
_BENCHMARK_RUNS = 7
_BENCHMARK_SECONDS = 0.3


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """One device as JAX counts them.

    Attributes:
        name: what people call it.
        kinds: how JAX spells it (`jax.Device.device_kind`), with or without "NVIDIA " before.
        peak_flops: matmul FLOP/s, bfloat16 (V100: float16, it has no bfloat16).
        memory_bytes: by the data sheet; programs get some per cent less.
    """

    name: str
    kinds: tuple[str, ...]
    peak_flops: float
    memory_bytes: int


def _entry(name: str, kinds: tuple[str, ...], tera: float, memory: float) -> Accelerator:
    return Accelerator(name, kinds, tera * _TERA, int(memory))


# TPUs: docs.cloud.google.com/tpu/docs, pages v4, v5e, v5p, v6e and tpu7x; a chip of TPU7x is two
# devices. GPUs: NVIDIA's data sheets of V100, L4, L40S, A100, H100, H200 and DGX B200 (half of
# what these print "with sparsity"). JAX has reported the TPUs of a kind by both spellings.
ACCELERATORS = (
    _entry("TPU v4", ("TPU v4",), 275, 32 * _GIB),
    _entry("TPU v5e", ("TPU v5 lite", "TPU v5e"), 197, 16 * _GIB),
    _entry("TPU v5p", ("TPU v5", "TPU v5p"), 459, 95 * _GIB),
    _entry("TPU v6e", ("TPU v6 lite", "TPU v6e"), 918, 32 * _GIB),
    _entry("TPU7x", ("TPU7x",), 2307 / 2, 192 * _GIB / 2),
    _entry("V100-16GB", ("Tesla V100-SXM2-16GB",), 125, 16 * _GB),
    _entry("V100-32GB", ("Tesla V100-SXM2-32GB", "Tesla V100-SXM3-32GB"), 125, 32 * _GB),
    _entry("L4", ("L4",), 121, 24 * _GB),
    _entry("L40S", ("L40S",), 362, 48 * _GB),
    _entry("A100-40GB", ("A100-SXM4-40GB", "A100-PCIE-40GB"), 312, 40 * _GB),
    _entry("A100-80GB", ("A100-SXM4-80GB", "A100 80GB PCIe"), 312, 80 * _GB),
    _entry("H100 PCIe", ("H100 PCIe",), 756, 80 * _GB),
    _entry("H100 SXM", ("H100 80GB HBM3",), 989, 80 * _GB),
    _entry("H200", ("H200",), 989, 141 * _GB),
    _entry("B200", ("B200",), 2250, 180 * _GB),
)


def find_accelerator(kind: str) -> Accelerator | None:
    """The accelerator that JAX calls `kind`, or that has this name; None if it is not known."""
    plain = kind.removeprefix("NVIDIA ").lower()
    for accelerator in ACCELERATORS:
        if plain in (word.lower() for word in (accelerator.name, *accelerator.kinds)):
            return accelerator
    return None


def peak_flops(device: jax.Device) -> float | None:
    """FLOP/s that `device` reaches at most; None where nobody has told us.

    A CPU has no data sheet that says what its cores reach together: there it is what a float32
    matmul reaches, measured once, and shared by the devices of the process (which may be several
    on one CPU, for tests).
    """
    if device.platform == "cpu":
        return measured_matmul_flops() / len(jax.local_devices(backend="cpu"))
    accelerator = find_accelerator(device.device_kind)
    return accelerator.peak_flops if accelerator else None


@functools.cache
def measured_matmul_flops() -> float:
    """FLOP/s of a float32 matmul on the CPU, the median of a few; takes less than half a second."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        square = jnp.ones((_BENCHMARK_SIDE, _BENCHMARK_SIDE), jnp.float32)
        product = jax.jit(lambda a, b: a @ b).lower(square, square).compile()
        product(square, square).block_until_ready()
        seconds: list[float] = []
        while len(seconds) < _BENCHMARK_RUNS and sum(seconds) < _BENCHMARK_SECONDS:
            start = time.perf_counter()
            product(square, square).block_until_ready()
            seconds.append(time.perf_counter() - start)
    return 2 * _BENCHMARK_SIDE**3 / statistics.median(seconds)
