"""The network of I3D: Inception-v1 with its filters inflated over time (arXiv:1705.07750).

    pixels [B, F, 224, 224, 3] in [-1, 1]
    1a conv 7x7x7 /2   2a pool /2 in space   2b conv 1x1x1   2c conv 3x3x3   3a pool /2 in space
    3b 3c   4a pool /2   4b 4c 4d 4e 4f   5a pool /2   5b 5c        nine Inception modules
    mean over 2x7x7, classifier 1x1x1, mean over time                400 logits

    module    b0 1x1x1 | b1a 1x1x1, b1b 3x3x3 | b2a 1x1x1, b2b 3x3x3 | pool 3x3x3, b3b 1x1x1

All padding is TensorFlow's SAME (an odd rest goes to the end). A convolution has no bias; batch
norm, by its running averages, and ReLU follow it. Here batch norm is folded into kernel and bias.
Torch ports pad max-pools with zeros and TensorFlow with -infinity: the same behind a ReLU.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LEAST_FRAMES = 9  # so that two time steps are left for the 2x7x7 mean
SIDE = 224  # px
CLASSES = 400

# Output channels of b0, b1a, b1b, b2a, b2b, b3b.
_MODULES = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
_POOLS_BEFORE = {"Mixed_4b": (3, 3, 3), "Mixed_5b": (2, 2, 2)}

Convolutions = Mapping[str, tuple[Any, Any]]  # kernel [t, y, x, in, out] and bias [out] by name


def kernel_shapes() -> dict[str, tuple[int, int, int, int, int]]:
    """Shape [t, y, x, in, out] of every convolution's kernel, by torch's name of its module."""
    shapes = {
        "Conv3d_1a_7x7": (7, 7, 7, 3, 64),
        "Conv3d_2b_1x1": (1, 1, 1, 64, 64),
        "Conv3d_2c_3x3": (3, 3, 3, 64, 192),
    }
    before = 192
    for module, (b0, b1a, b1b, b2a, b2b, b3b) in _MODULES.items():
        shapes[f"{module}.b0"] = (1, 1, 1, before, b0)
        shapes[f"{module}.b1a"] = (1, 1, 1, before, b1a)
        shapes[f"{module}.b1b"] = (3, 3, 3, b1a, b1b)
        shapes[f"{module}.b2a"] = (1, 1, 1, before, b2a)
        shapes[f"{module}.b2b"] = (3, 3, 3, b2a, b2b)
        shapes[f"{module}.b3b"] = (1, 1, 1, before, b3b)
        before = b0 + b1b + b2b + b3b
    shapes["logits"] = (1, 1, 1, before, CLASSES)
    return shapes


def logits(
    convolutions: Convolutions, pixels: Float[Array, "B F 224 224 3"]
) -> Float[Array, "B 400"]:
    """The class logits, before softmax, averaged over time; a pure function.

    Args:
        convolutions: kernel and bias of each of `kernel_shapes`, batch norm folded in.
        pixels: in [-1, 1], of at least 9 frames.
    """
    unit = lambda name, x, stride=1: jax.nn.relu(_conv(*convolutions[name], x, stride))
    x = unit("Conv3d_1a_7x7", pixels, stride=2)
    x = _max_pool(x, (1, 3, 3), (1, 2, 2))
    x = unit("Conv3d_2c_3x3", unit("Conv3d_2b_1x1", x))
    x = _max_pool(x, (1, 3, 3), (1, 2, 2))
    for module in _MODULES:
        if module in _POOLS_BEFORE:
            x = _max_pool(x, _POOLS_BEFORE[module], (2, 2, 2))
        branches = [
            unit(f"{module}.b0", x),
            unit(f"{module}.b1b", unit(f"{module}.b1a", x)),
            unit(f"{module}.b2b", unit(f"{module}.b2a", x)),
            unit(f"{module}.b3b", _max_pool(x, (3, 3, 3), (1, 1, 1))),
        ]
        x = jnp.concatenate(branches, axis=-1)
    # The classifier is linear: the two means may be taken before it.
    pairs = (x[:, :-1] + x[:, 1:]) / 2
    kernel, bias = convolutions["logits"]
    return pairs.mean(axis=(1, 2, 3)) @ kernel[0, 0, 0] + bias


def _conv(
    kernel: Float[Array, "_ _ _ I O"],
    bias: Float[Array, " O"],
    x: Float[Array, "B F Y X I"],
    stride: int,
) -> Float[Array, "B _ _ _ O"]:
    """A convolution over time and space, as one over space.

    The frames that a kernel sees at once are laid beside each other as channels. XLA's own 3-D
    convolutions take 1.4 to 4 times as long on a CPU.
    """
    if kernel.shape[:3] == (1, 1, 1):
        return jnp.einsum("btyxc,co->btyxo", x, kernel[0, 0, 0]) + bias
    batch, frames = x.shape[:2]
    length = kernel.shape[0]
    times = -(-frames // stride)
    x = _padded(x, 1, length, stride, 0.0)
    seen = [
        jax.lax.slice_in_dim(x, at, at + (times - 1) * stride + 1, stride, axis=1)
        for at in range(length)
    ]
    beside = jnp.concatenate(seen, axis=-1)
    flat = kernel.transpose(1, 2, 0, 3, 4).reshape(*kernel.shape[1:3], -1, kernel.shape[-1])
    y = jax.lax.conv_general_dilated(
        beside.reshape(batch * times, *beside.shape[2:]),
        flat,
        window_strides=(stride, stride),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y.reshape(batch, times, *y.shape[1:]) + bias


def _max_pool(
    x: Float[Array, "B F Y X C"], window: tuple[int, int, int], strides: tuple[int, int, int]
) -> Float[Array, "B _ _ _ C"]:
    """One axis after the other: far fewer comparisons than a window of 27 places."""
    for axis, (size, stride) in enumerate(zip(window, strides), start=1):
        if size == 1:
            continue
        count = -(-x.shape[axis] // stride)
        x = _padded(x, axis, size, stride, -math.inf)
        shifted = (
            jax.lax.slice_in_dim(x, at, at + (count - 1) * stride + 1, stride, axis=axis)
            for at in range(size)
        )
        result = next(shifted)
        for other in shifted:
            result = jnp.maximum(result, other)
        x = result
    return x


def _padded(x: Array, axis: int, window: int, stride: int, value: float) -> Array:
    """With TensorFlow's SAME padding along one axis."""
    size = x.shape[axis]
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    widths = [(0, 0, 0)] * x.ndim
    widths[axis] = (total // 2, total - total // 2, 0)
    return jax.lax.pad(x, jnp.asarray(value, x.dtype), widths)
