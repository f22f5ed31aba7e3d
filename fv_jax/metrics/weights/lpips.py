"""The networks of LPIPS: AlexNet's and VGG16's convolutions, and the heads over their taps.

    features.{i}.weight, .bias     [out, in, y, x], [out]: torchvision's names
    lin{0..4}.model.1.weight       [1, C, 1, 1]: richzhang/PerceptualSimilarity's, version 0.1

Which of the two a trunk is shows in its first kernel. Classifiers may be in a file; they are not
used.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

TRUNK_SOURCE = (
    "LPIPS needs ImageNet weights of AlexNet (alexnet-owt-7be5be79.pth) or VGG16 "
    "(vgg16-397923af.pth) from https://download.pytorch.org/models; "
    "`fv convert-weights IN OUT` makes them small"
)
HEADS_SOURCE = (
    "LPIPS needs its v0.1 heads, alex.pth (sha256 df73285e..) or vgg.pth (a78928a0..) of "
    "lpips/weights/v0.1 in https://github.com/richzhang/PerceptualSimilarity"
)

Tensors = Mapping[str, Any]  # torch's name -> array


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolution and its ReLU, with the max-pool before it.

    Attributes:
        index: of the convolution in torchvision's `features`.
        pool: px of the pool's window, which moves by 2; 0 for none.
        tap: whether LPIPS looks at the result.
    """

    index: int
    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    pool: int = 0
    tap: bool = True


@dataclasses.dataclass(frozen=True)
class Net:
    """A trunk.

    Attributes:
        convs: its convolutions in turn.
        least: px: smaller frames vanish in the pools.
    """

    convs: tuple[Conv, ...]
    least: int


def _vgg_stage(index: int, channels: int, convs: int, pool: int = 2) -> tuple[Conv, ...]:
    return tuple(
        Conv(index + 2 * i, channels, pool=0 if i else pool, tap=i == convs - 1)
        for i in range(convs)
    )


NETS = {
    "alexnet": Net(
        (
            Conv(0, 64, kernel=11, stride=4, padding=2),
            Conv(3, 192, kernel=5, padding=2, pool=3),
            Conv(6, 384, pool=3),
            Conv(8, 256),
            Conv(10, 256),
        ),
        least=31,
    ),
    "vgg16": Net(
        (
            *_vgg_stage(0, 64, 2, pool=0),
            *_vgg_stage(5, 128, 2),
            *_vgg_stage(10, 256, 3),
            *_vgg_stage(17, 512, 3),
            *_vgg_stage(24, 512, 3),
        ),
        least=16,
    ),
}


def trunk(tensors: Tensors, source: str) -> tuple[str, dict[str, np.ndarray]]:
    """Name of the network, and its convolutions.

    Args:
        tensors: by torch's names; other modules than `features` are left out.
        source: where they are from, for the message.

    Raises:
        ValueError: neither network; missing, unknown or misshapen tensors.
    """
    convs = _of(tensors, "features.")
    firsts = {_trunk_shapes(net)["features.0.weight"]: net for net in NETS}
    found = convs["features.0.weight"].shape if "features.0.weight" in convs else "none"
    if found not in firsts:
        wanted = " or ".join(f"{shape} ({net})" for shape, net in firsts.items())
        raise ValueError(
            f"{source} is neither AlexNet nor VGG16: features.0.weight must be {wanted}, "
            f"got {found}"
        )
    net = firsts[found]
    _check(convs, _trunk_shapes(net), f"{source} does not fit {net}")
    return net, convs


def heads(tensors: Tensors, net: str, source: str) -> dict[str, np.ndarray]:
    """The heads of a network's taps, in order.

    Raises:
        ValueError: missing, unknown or misshapen tensors, as those of another network are.
    """
    found = _of(tensors, "lin")
    want = _head_shapes(net)
    _check(found, want, f"{source} does not hold the heads of {net}")
    return {name: found[name] for name in want}


def any_heads(tensors: Tensors, source: str) -> tuple[str, dict[str, np.ndarray]]:
    """Name of the network whose heads these are, and the heads.

    Raises:
        ValueError: they are neither network's.
    """
    shapes = {k: v.shape for k, v in _of(tensors, "lin").items()}
    net = next((net for net in NETS if _head_shapes(net) == shapes), None)
    if net is None:
        raise ValueError(
            f"{source} holds heads neither of AlexNet nor of VGG16, but {len(shapes)} of "
            f"{', '.join(str(shape) for shape in list(shapes.values())[:5])}"
        )
    return net, heads(tensors, net, source)


def _of(tensors: Tensors, start: str) -> dict[str, np.ndarray]:
    return {k: np.asarray(v) for k, v in tensors.items() if k.startswith(start)}


def _trunk_shapes(net: str) -> dict[str, tuple[int, ...]]:
    shapes, before = {}, 3
    for conv in NETS[net].convs:
        shapes[f"features.{conv.index}.weight"] = (conv.channels, before, conv.kernel, conv.kernel)
        shapes[f"features.{conv.index}.bias"] = (conv.channels,)
        before = conv.channels
    return shapes


def _head_shapes(net: str) -> dict[str, tuple[int, ...]]:
    taps = [conv.channels for conv in NETS[net].convs if conv.tap]
    return {f"lin{i}.model.1.weight": (1, channels, 1, 1) for i, channels in enumerate(taps)}


def _check(
    tensors: dict[str, np.ndarray], want: dict[str, tuple[int, ...]], complaint: str
) -> None:
    got = {name: tensor.shape for name, tensor in tensors.items()}
    wrong = sorted(name for name in want | got if want.get(name) != got.get(name))
    if wrong:
        shown = ", ".join(f"{n} (want {want.get(n)}, got {got.get(n)})" for n in wrong[:3])
        raise ValueError(f"{complaint}: {len(wrong)} tensors, e.g. {shown}")
