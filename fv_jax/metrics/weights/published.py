"""Networks for numbers that others shall compare with: only from the published weights.

    i3d, record = published_i3d("i3d.safetensors")
    lpips, record = published_lpips("alexnet.safetensors", "heads.safetensors")

`I3D.load` and `LPIPS.load` take any weights that fit. Here they must be those that everybody has,
unless the caller allows others, and the record (plain JSON, to be kept beside every number) says
which they were: path, size, hashes, `verified`, and a smoke value, one that a tool elsewhere has
computed with the same weights.
"""

import dataclasses
import os
from typing import Any

from fv_jax.metrics.batches import on_every
from fv_jax.metrics.i3d import I3D, SMOKE_VALUE
from fv_jax.metrics.lpips import LPIPS, SMOKE_VALUES
from fv_jax.metrics.weights import i3d as i3d_weights
from fv_jax.metrics.weights import lpips as lpips_weights
from fv_jax.metrics.weights.files import I3D_SOURCE, origin, read_tensors


def published_i3d(
    path: str | os.PathLike,
    *,
    bn_epsilon: float = 1e-3,
    resize: str = "half_pixel",
    allow_unverified: bool = False,
    smoke: bool = True,
) -> tuple[I3D, dict[str, Any]]:
    """FVD's network, every tensor of it compared with the published checksums.

    Args:
        path: a file that `I3D.load` reads.
        bn_epsilon: as `I3D.load`.
        resize: likewise.
        allow_unverified: take others too, fine-tuned ones say; the record tells.
        smoke: compute the smoke value of verified weights: two clips, seconds on a CPU.

    Returns:
        The network, and {"path", "bytes", "sha256", "git_blob", "known", "verified", "verdict",
        "bn_epsilon", "resize", "smoke": None or {"value", "expected", "agrees"}, "cautions"}.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of something else, damaged, the wrong I3D, or not published (unless
            allowed).
    """
    tensors, header = read_tensors(path, I3D_SOURCE)
    tensors = i3d_weights.complete(tensors, str(path))
    i3d = on_every(I3D.load(tensors, bn_epsilon, resize))
    verified, text = i3d.verdict
    record = {
        **dataclasses.asdict(origin(path, header, tensors)),
        "verified": verified,
        "verdict": text,
        "bn_epsilon": bn_epsilon,
        "resize": resize,
        "smoke": None,
        "cautions": [] if verified else [_unpublished(f"{path} is {text}", allow_unverified)],
    }
    if smoke and verified:
        value = i3d.smoke_value()
        _add_smoke(record, "FVD", value, SMOKE_VALUE, i3d.smoke_agrees(value))
    return i3d, record


def published_lpips(
    trunk: str | os.PathLike,
    heads: str | os.PathLike,
    *,
    allow_unverified: bool = False,
    smoke: bool = True,
) -> tuple[LPIPS, dict[str, Any]]:
    """LPIPS from files known by their hashes, or (AlexNet) by the published smoke value.

    Args:
        trunk: a file that `LPIPS.load` reads.
        heads: likewise.
        allow_unverified: take others too; the record tells.
        smoke: compute the smoke value: two frames.

    Returns:
        The network, and {"net", "upsample", "trunk" and "heads": {"path", "bytes", "sha256",
        "git_blob", "known"}, "verified", "smoke": None or {"value", "expected", "agrees"},
        "cautions"}; "expected" and "agrees" are None for VGG16.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of something else, damaged, heads of another network, or not
            published (unless allowed).
    """
    convs, trunk_header = read_tensors(trunk, lpips_weights.TRUNK_SOURCE)
    net, convs = lpips_weights.trunk(convs, str(trunk))
    tops, heads_header = read_tensors(heads, lpips_weights.HEADS_SOURCE)
    tops = lpips_weights.heads(tops, net, str(heads))
    lpips = on_every(LPIPS.load(convs, tops))
    origins = origin(trunk, trunk_header, convs), origin(heads, heads_header, tops)
    value = lpips.smoke_value() if smoke else None
    agrees = None if value is None else lpips.smoke_agrees(value)
    unknown = " and ".join(came.path for came in origins if not came.known)
    verified = agrees is True or not unknown
    record: dict[str, Any] = {
        "net": net,
        "upsample": lpips.upsample,
        "trunk": dataclasses.asdict(origins[0]),
        "heads": dataclasses.asdict(origins[1]),
        "verified": verified,
        "smoke": None,
        "cautions": [],
    }
    if not verified:
        what = f"{unknown}: of no known published file"
        record["cautions"].append(_unpublished(what, allow_unverified))
    elif value is not None:
        _add_smoke(record, "LPIPS", value, SMOKE_VALUES.get(net), agrees)
    return lpips, record


def _unpublished(problem: str, allowed: bool) -> str:
    """The caution, where unpublished weights are allowed."""
    text = f"{problem}; numbers with it compare with nobody's"
    if not allowed:
        raise ValueError(f"{text} (--allow-unverified-weights takes it all the same)")
    return text


def _add_smoke(
    record: dict[str, Any], metric: str, value: float, expected: float | None, agrees: bool | None
) -> None:
    record["smoke"] = {"value": value, "expected": expected, "agrees": agrees}
    if agrees is False:
        record["cautions"].append(
            f"black against white has {metric} {value:.5g} here and {expected:.5g} by the common "
            "tool, with the same weights: do not trust the numbers of this machine"
        )
