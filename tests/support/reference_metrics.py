"""Test vectors of the metrics: videos, the reference tool's numbers, and LPIPS's random trunk."""

import functools
import json
import zlib

import numpy as np
from places import FIXTURES

VECTORS = FIXTURES / "metrics"
LPIPS_HEADS = VECTORS / "lpips_lin_alex_v0.1.safetensors"
_ALEXNET = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
}
_SEED = 20101


@functools.cache
def videos() -> dict[str, np.ndarray]:
    """`real` and `fake`, uint8 [4, 16, 64, 64, 3]."""
    with np.load(VECTORS / "videos.npz") as file:
        return {name: file[name].transpose(0, 1, 3, 4, 2) for name in ("real", "fake")}


def expected(metric: str) -> dict:
    """The reference tool's numbers for a metric."""
    return json.loads((VECTORS / "expected.json").read_text())[metric]


@functools.cache
def logits() -> dict[str, np.ndarray]:
    """Of I3D, float [4, 400], by precision, epsilon and set."""
    with np.load(VECTORS / "i3d_logits.npz") as file:
        return dict(file)


@functools.cache
def alexnet() -> dict[str, np.ndarray]:
    """AlexNet's convolutions by torch's names, rounded to float16: a draw of each name's own."""
    tensors = {}
    for layer, shape in _ALEXNET.items():
        scale = np.sqrt(2 / np.prod(shape[1:]))
        tensors[f"{layer}.weight"] = scale * _normal(f"{layer}.weight", shape)
        tensors[f"{layer}.bias"] = 0.05 * _normal(f"{layer}.bias", shape[:1])
    return {name: x.astype(np.float16).astype(np.float32) for name, x in tensors.items()}


def _normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    seed = (_SEED + zlib.crc32(name.encode())) % 2**32
    return np.random.RandomState(seed).standard_normal(shape)
