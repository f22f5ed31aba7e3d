"""What a file of weights really is, from its first bytes: names and suffixes lie.

Downloads fail in a few well-known ways (a web page, a Git LFS pointer, a zip archive without its
end), and each deserves its own sentence.
"""

import enum
import zipfile
from pathlib import Path

# The magic number of torch.save before 1.6, pickled.
OLD_TORCH_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."


class FileKind(enum.Enum):
    """Kinds of files; the value says in words what is wrong with those that cannot be read."""

    SAFETENSORS = "is a safetensors file"
    NPZ = "is an npz file"
    TORCH = "is a file of torch.save"
    OLD_TORCH = "is a file of torch.save before 1.6"
    TORCHSCRIPT = (
        "is a TorchScript program, not a state dict; programs are not run: give the state dict"
    )
    LFS_POINTER = "is a Git LFS pointer, not the file itself; run `git lfs pull`"
    WEB_PAGE = "is a web page, not a checkpoint: the download went wrong; get it again"
    CUT_ZIP = "is truncated: its end is missing; get it again"
    EMPTY = "is empty; get it again"
    ZIP = "is a zip archive, but neither of torch.save nor of numpy.savez"
    NPY = "holds one array without a name; write numpy.savez(PATH, **{name: array})"
    HDF5 = "is an HDF5 (Keras) file, which is not read; write its arrays with numpy.savez"
    GZIP = "is compressed; unpack it first"
    TAR = "is a tar archive; unpack it first"
    PICKLE = "is a pickle, which could run anything: refused"
    UNKNOWN = "is of no known kind"


_STARTS = (
    (b"version https://git-lfs", FileKind.LFS_POINTER),
    (OLD_TORCH_MAGIC, FileKind.OLD_TORCH),
    (b"\x93NUMPY", FileKind.NPY),
    (b"\x89HDF", FileKind.HDF5),
    (b"\x1f\x8b", FileKind.GZIP),
)


def file_kind(path: Path) -> FileKind:
    """The kind of a file that exists.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return FileKind.EMPTY
    for beginning, kind in _STARTS:
        if start.startswith(beginning):
            return kind
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return FileKind.WEB_PAGE
    if start.startswith(b"PK"):
        return _kind_of_zip(path)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**27:
        return FileKind.SAFETENSORS
    if start[257:262] == b"ustar":
        return FileKind.TAR
    if start[:1] == b"\x80" and 2 <= start[1] <= 5:
        return FileKind.PICKLE
    return FileKind.UNKNOWN


def found(path: Path) -> str:
    """A file in words, for messages: what is wrong with it, its size and first bytes."""
    kind = file_kind(path)
    with path.open("rb") as file:
        start = file.read(8)
    size = path.stat().st_size
    return kind.value if not size else f"{kind.value} ({size} bytes, the first {start!r})"


def _kind_of_zip(path: Path) -> FileKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    # zipfile believes what a damaged directory says, and fails in all these ways.
    except (zipfile.BadZipFile, RuntimeError, OSError, EOFError, UnicodeDecodeError, ValueError):
        return FileKind.CUT_ZIP if not zipfile.is_zipfile(path) else FileKind.ZIP
    tails = [name.partition("/")[2] for name in names]
    if "constants.pkl" in tails:
        return FileKind.TORCHSCRIPT
    if "data.pkl" in tails:
        return FileKind.TORCH
    if names and all(name.endswith(".npy") for name in names):
        return FileKind.NPZ
    return FileKind.ZIP
