"""I3D's parameters by torch's names, and whether they are those that FVD is defined with.

    Mixed_3b.b1b.conv3d.weight    [out, in, t, y, x]
    Mixed_3b.b1b.bn.weight, .bias, .running_mean, .running_var    [out]
    logits.conv3d.weight, .bias   [400, 1024, 1, 1, 1], [400]

The names are those of piergiaj/pytorch-i3d, which VideoGPT's i3d_pretrained_400.pt has too. FVD's
network is RGB, trained on Kinetics-400 from scratch: google-deepmind/kinetics-i3d's rgb_scratch,
the same tensors as in TF hub's deepmind/i3d-kinetics-400/1. Checksums of its 230 tensors are in
assets/i3d_k400_checksums.json, with those of rgb_imagenet, which most ports ship and which is
another network: FVD with it compares with nothing.
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np

from fv_jax.metrics.i3d_network import CLASSES, Convolutions, kernel_shapes
from fv_jax.weights.shipped import SHIPPED

_CHECKSUMS = SHIPPED / "i3d_k400_checksums.json"
_BATCH_NORM = ("bias", "running_mean", "running_var")


class Verdict(NamedTuple):
    """Whether weights are those of FVD.

    Attributes:
        verified: every tensor is the published one, bit by bit.
        text: in words.
    """

    verified: bool
    text: str


class _Checksum(NamedTuple):
    tensorflow: str
    torch: str
    shape: list[int]
    offset: int
    crc32c: str
    crc32c_rgb_imagenet: str


def shapes() -> dict[str, tuple[int, ...]]:
    """Shape of every tensor, by torch's names."""
    want: dict[str, tuple[int, ...]] = {}
    for name, (t, y, x, inputs, outputs) in kernel_shapes().items():
        want[f"{name}.conv3d.weight"] = (outputs, inputs, t, y, x)
        if name == "logits":
            want[f"{name}.conv3d.bias"] = (outputs,)
        else:
            want |= {f"{name}.bn.{leaf}": (outputs,) for leaf in ("weight", *_BATCH_NORM)}
    return want


def complete(tensors: Mapping[str, Any], source: str) -> dict[str, np.ndarray]:
    """All tensors of `shapes` as float32, and no others.

    Args:
        tensors: by torch's names, of any float type. torch's `num_batches_tracked` are ignored;
            the 57 `bn.weight`, which TensorFlow's network does not have, may be missing: they
            are 1 then.
        source: where they are from, for the message.

    Raises:
        ValueError: missing, unknown, misshapen or infinite tensors, by name.
    """
    want = shapes()
    got = {k: np.asarray(v) for k, v in tensors.items() if not k.endswith("num_batches_tracked")}
    gains = [name for name in want if name.endswith("bn.weight")]
    if not any(name in got for name in gains):
        got |= {name: np.ones(want[name], np.float32) for name in gains}
    first = got.get("Conv3d_1a_7x7.conv3d.weight")
    if first is not None and first.shape == (64, 2, 7, 7, 7):
        raise ValueError(f"{source} is I3D for optical flow; FVD needs the one for RGB")
    last = got.get("logits.conv3d.bias")
    if last is not None and last.shape != (CLASSES,):
        raise ValueError(
            f"{source} is I3D with {last.size} classes; FVD needs the {CLASSES} of Kinetics-400"
        )
    problems = [
        f"{what} {len(names)} tensors, e.g. {', '.join(sorted(names)[:5])}"
        for what, names in (
            ("it misses", want.keys() - got.keys()),
            ("it has unknown", got.keys() - want.keys()),
        )
        if names
    ]
    wrong = [name for name in want.keys() & got.keys() if want[name] != got[name].shape]
    problems += [f"{n} must have shape {want[n]}, got {got[n].shape}" for n in sorted(wrong)[:5]]
    if problems:
        raise ValueError(f"{source} does not fit I3D: {'; '.join(problems)}")
    tensors = {name: np.asarray(got[name], np.float32) for name in want}
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ValueError(f"{source}: {name} holds NaN or infinity")
    return tensors


def verdict(tensors: Mapping[str, np.ndarray], source: str) -> Verdict:
    """Compare with the published checksums.

    Args:
        tensors: from `complete`.
        source: where they are from, for the message.

    Raises:
        ValueError: they are rgb_imagenet's, the wrong I3D.
    """
    rows = _checksums()
    got = [
        f"{google_crc32c.value(_in_tensorflow(tensors[row.torch]).tobytes()):08x}" for row in rows
    ]
    other = [row.torch for row, crc in zip(rows, got) if crc != row.crc32c]
    if all(crc == row.crc32c_rgb_imagenet for row, crc in zip(rows, got)):
        raise ValueError(
            f"{source} is the wrong I3D: rgb_imagenet, which was trained on ImageNet first. FVD is "
            "defined with the one trained on Kinetics-400 from scratch (rgb_scratch)"
        )
    gains = [
        name
        for name, tensor in tensors.items()
        if name.endswith("bn.weight") and (tensor != 1).any()
    ]
    if not other and not gains:
        return Verdict(True, "the published I3D of Kinetics-400 (all 230 checksums)")
    shown = ", ".join((other + gains)[:3])
    return Verdict(
        False,
        f"not the published I3D of Kinetics-400: {len(other)} of {len(rows)} tensors are others"
        f"{f', {len(gains)} bn.weight are not 1' if gains else ''}, e.g. {shown}",
    )


def tensorflow_bytes() -> int:
    """Size of TensorFlow's data file."""
    last = _checksums()[-1]
    return last.offset + 4 * int(np.prod(last.shape))


def read_tensorflow(path: Path) -> dict[str, np.ndarray]:
    """TensorFlow's own file of the weights, by torch's names.

    `model.ckpt.data-00000-of-00001` of a checkpoint, `variables.data-00000-of-00001` of TF hub's
    module: raw float32 at the places that the checksums' file lists, so no index is needed.

    Args:
        path: of exactly `tensorflow_bytes()` bytes.

    Raises:
        ValueError: numbers that no weights of it have.
    """
    raw = np.memmap(path, "<f4", mode="r")
    tensors = {}
    for row in _checksums():
        start = row.offset // 4
        tensor = raw[start : start + int(np.prod(row.shape))].reshape(row.shape)
        flat = tensor.reshape(-1) if "batch_norm" in row.tensorflow else tensor
        variance = row.torch.endswith("running_var")
        if not np.isfinite(flat).all() or (variance and flat.min() <= 0):
            raise ValueError(
                f"{path} has the size of TensorFlow's I3D file but not its content: {row.torch} "
                f"holds {'NaN, infinity or variances <= 0' if variance else 'NaN or infinity'}"
            )
        tensors[row.torch] = flat.transpose(4, 3, 0, 1, 2) if flat.ndim == 5 else flat
    return tensors


def folded(tensors: Mapping[str, np.ndarray], bn_epsilon: float) -> Convolutions:
    """Kernel [t, y, x, in, out] and bias of every convolution, float32, batch norm folded in.

    Args:
        tensors: from `complete`.
        bn_epsilon: beside the variance under batch norm's root.

    Raises:
        ValueError: a variance that is negative, or 0 without an epsilon.
    """
    convolutions = {}
    for name in kernel_shapes():
        kernel = _in_tensorflow(tensors[f"{name}.conv3d.weight"])
        if name == "logits":
            convolutions[name] = kernel, tensors["logits.conv3d.bias"]
            continue
        gain, shift, mean, variance = (
            tensors[f"{name}.bn.{leaf}"].astype(np.float64) for leaf in ("weight", *_BATCH_NORM)
        )
        if variance.min() < 0 or variance.min() + bn_epsilon <= 0:
            raise ValueError(f"{name}.bn.running_var must be > 0, got {variance.min():g}")
        scale = gain / np.sqrt(variance + bn_epsilon)
        # The kernel is by far the larger part, so it stays float32.
        convolutions[name] = (
            kernel * scale.astype(np.float32),
            (shift - mean * scale).astype(np.float32),
        )
    return convolutions


def _in_tensorflow(tensor: np.ndarray) -> np.ndarray:
    layout = tensor.transpose(2, 3, 4, 1, 0) if tensor.ndim == 5 else tensor
    return np.ascontiguousarray(layout, "<f4")


@functools.cache
def _checksums() -> list[_Checksum]:
    rows = json.loads(_CHECKSUMS.read_text(encoding="utf-8"))["tensors"]
    return [_Checksum(*row) for row in rows]
