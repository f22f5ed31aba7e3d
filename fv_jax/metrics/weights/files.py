"""Files of weights that users bring: what they are, whether they are the known ones, converting.

    .safetensors, .npz       read as they are, by torch's names
    .pt, .pth                read without torch (`weights/torch_checkpoint.py`): tensors only
    TensorFlow's data file   of I3D, known by its size and checked by its checksums

What a file is shows in its content; its suffix is ignored. Nothing is downloaded, no pickle is
executed. `fv convert-weights IN OUT` (`convert`) writes a .safetensors that holds no more than a
metric needs, and in its header the hash of the file it came from and of its own tensors, so that a
converted file is still known for what it is.
"""

import dataclasses
import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from fv_jax.files import replacing
from fv_jax.metrics.weights import i3d as i3d_weights
from fv_jax.metrics.weights import lpips as lpips_weights
from fv_jax.weights.file_kind import FileKind, file_kind, found
from fv_jax.weights.tensors import read_safetensors
from fv_jax.weights.torch_checkpoint import read_checkpoint, state_dict

I3D_SOURCE = (
    "FVD needs I3D of Kinetics-400: i3d_pretrained_400.pt as VideoGPT distributes it (git blob "
    "a867b87ac3a9097d200598b1d48a1b890d8ec744), or model.ckpt.data-00000-of-00001 of "
    "data/checkpoints/rgb_scratch in https://github.com/google-deepmind/kinetics-i3d "
    "(50,818,176 bytes, git blob fa7df95674dbf3579e7fccd954e51e706b4734c1)"
)
_HEADER = "fv_weights"  # the key in a converted file's header


class _Known(NamedTuple):
    """A published file.

    Attributes:
        sha256: its beginning; torchvision's names hold eight digits of it.
        git_blob: what `git hash-object FILE` says, where no sha256 is known.
    """

    name: str
    sha256: str = ""
    git_blob: str = ""


_KNOWN = (
    _Known("i3d_pretrained_400.pt", git_blob="a867b87ac3a9097d200598b1d48a1b890d8ec744"),
    _Known(
        "rgb_scratch's model.ckpt.data-00000-of-00001",
        git_blob="fa7df95674dbf3579e7fccd954e51e706b4734c1",
    ),
    _Known("alexnet-owt-7be5be79.pth", "7be5be79"),
    _Known("alexnet-owt-4df8aa71.pth", "4df8aa71"),
    _Known("vgg16-397923af.pth", "397923af"),
    _Known("alex.pth", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
    _Known("vgg.pth", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
)


class Converted(NamedTuple):
    """What was written.

    Attributes:
        network: "I3D", "LPIPS trunk alexnet", "LPIPS heads of alexnet", likewise vgg16.
        verified: these are the published weights, by checksums or by the file's hash.
        text: all in a line.
    """

    network: str
    verified: bool
    text: str


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where weights came from, for the record beside a result.

    Attributes:
        path: as given.
        bytes: size of the file.
        sha256: of the file, 64 hexadecimal digits.
        git_blob: what `git hash-object` says of it.
        known: the published file that it is, or was converted from; "" if it is none known here.
    """

    path: str
    bytes: int
    sha256: str
    git_blob: str
    known: str


def read_tensors(
    path: str | os.PathLike, needs: str
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors by name, in the file's own float types, and the header of a safetensors file.

    Args:
        path: of the file.
        needs: what should be there and where people get it, for messages.

    Raises:
        FileNotFoundError: no such file.
        ValueError: what the file is instead (Git LFS pointer, web page, truncated archive,
            TorchScript, something else of the size of TensorFlow's file, ..), or how it is
            damaged; a pickle of anything but tensors.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file: {needs}")
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: {needs}")
    kind = file_kind(path)
    if kind is FileKind.SAFETENSORS:
        tensors, header = read_safetensors(path)
        return {name: np.asarray(tensor) for name, tensor in tensors.items()}, header
    if kind is FileKind.NPZ:
        return _read_npz(path), {}
    if kind in (FileKind.TORCH, FileKind.OLD_TORCH):
        return state_dict(read_checkpoint(path), path), {}
    if kind is FileKind.UNKNOWN and path.stat().st_size == i3d_weights.tensorflow_bytes():
        return i3d_weights.read_tensorflow(path), {}
    raise ValueError(f"{path} {found(path)}: {needs}")


def origin(
    path: str | os.PathLike, header: Mapping[str, str], tensors: Mapping[str, Any]
) -> Origin:
    """Where a file of weights came from.

    Args:
        path: of the file.
        header: from `read_tensors`.
        tensors: what was taken of it, by torch's names.
    """
    path = Path(path)
    sha256, git_blob = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
    git_blob.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while part := file.read(2**20):
            sha256.update(part)
            git_blob.update(part)
    known = _known(sha256.hexdigest(), git_blob.hexdigest())
    if not known and (said := _said(header)):
        # The header's word counts for the tensors that it was written with.
        if said.get("content_sha256") == content_hash(tensors):
            known = _known(said.get("source_sha256", ""), said.get("source_git_blob", ""))
    hashes = sha256.hexdigest(), git_blob.hexdigest()
    return Origin(str(path), path.stat().st_size, *hashes, known)


def content_hash(tensors: Mapping[str, Any]) -> str:
    """SHA-256 over the tensors in the order of their names: name, then float32 bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name], "<f4").tobytes())
    return digest.hexdigest()


def convert(source: Path, out: Path) -> Converted:
    """Write weights of I3D, of an LPIPS trunk or of LPIPS's heads as .safetensors.

    Args:
        source: any file that `read_tensors` reads.
        out: .safetensors; holds float32 tensors by torch's names, only those that are used.

    Raises:
        FileNotFoundError: no file `source`.
        ValueError: another suffix; a file of something else; the wrong I3D; none of these
            networks.
    """
    if out.suffix != ".safetensors":
        raise ValueError(f"the converted file must be .safetensors, got {str(out)!r}")
    tensors, header = read_tensors(source, "`fv convert-weights --help` says what it takes")
    network, kept = _recognized(tensors, str(source))
    came = origin(source, header, kept)
    if network == "I3D":
        verified, about = i3d_weights.verdict(kept, str(source))
    else:
        verified = bool(came.known)
        about = f"as published ({came.known})" if verified else "of no known published file"
    content = content_hash(kept)
    said = _said(header)
    if said.get("content_sha256") != content:  # not converted before
        said = {
            "network": network,
            "source": source.name,
            "source_sha256": came.sha256,
            "source_git_blob": came.git_blob,
            "content_sha256": content,
        }
    with replacing(out) as temporary:
        safetensors.numpy.save_file(kept, temporary, metadata={_HEADER: json.dumps(said)})
    numbers = sum(tensor.size for tensor in kept.values())
    text = f"{out}: {network}, {len(kept)} tensors, {numbers:,} numbers; {about}"
    return Converted(network, verified, text)


def _recognized(tensors: Mapping[str, Any], source: str) -> tuple[str, dict[str, np.ndarray]]:
    """Name of the network, and its tensors in float32."""
    if "Conv3d_1a_7x7.conv3d.weight" in tensors:
        return "I3D", _contiguous(i3d_weights.complete(tensors, source))
    if "features.0.weight" in tensors:
        net, trunk = lpips_weights.trunk(tensors, source)
        return f"LPIPS trunk {net}", _contiguous(trunk)
    if "lin0.model.1.weight" in tensors:
        net, heads = lpips_weights.any_heads(tensors, source)
        return f"LPIPS heads of {net}", _contiguous(heads)
    names = ", ".join(list(tensors)[:3])
    raise ValueError(
        f"{source} holds neither I3D (Conv3d_1a_7x7.conv3d.weight, ..), nor AlexNet or VGG16 "
        f"(features.0.weight, ..), nor LPIPS's heads (lin0.model.1.weight, ..), but {names}"
    )


def _contiguous(tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {k: np.ascontiguousarray(v, np.float32) for k, v in sorted(tensors.items())}


def _known(sha256: str, git_blob: str) -> str:
    for file in _KNOWN:
        if (file.sha256 and sha256.startswith(file.sha256)) or (
            file.git_blob and file.git_blob == git_blob
        ):
            return file.name
    return ""


def _said(header: Mapping[str, str]) -> dict[str, str]:
    """What `convert` wrote into the header."""
    try:
        said = json.loads(header.get(_HEADER, "{}"))
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as file:
            return dict(file)
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged or no npz file ({error})") from error
