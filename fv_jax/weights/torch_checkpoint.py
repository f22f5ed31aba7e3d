"""torch's .pt files without torch: tensors come out as NumPy arrays, and nothing is executed.

A file of torch.save (1.6 or newer) is a zip archive:

    NAME/data.pkl      a pickle of dicts, numbers and references to tensors
    NAME/data/0, 1..   the tensors' bytes, uncompressed
    NAME/byteorder     "little" or "big"; older files have none and are little

Before 1.6 (LPIPS's heads and many weights of torchvision are still such files) it was a row of
pickles, followed by bytes:

    a magic number, a version, {"little_endian": ..}, then the same pickle as above
    the storages' names, in the order in which they follow
    for each: int64 number of elements, then their bytes

A pickle is a program that may call anything it names. The reader here knows the few names that a
state dict needs and stands in for each with an object of its own; any other name is refused
before it is looked up.
"""

import math
import os
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from fv_jax.weights.file_kind import OLD_TORCH_MAGIC, FileKind, file_kind

_STORAGES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
_OLD_VERSION = 1001
_PARAMETERS = (("torch._utils", "_rebuild_parameter"), ("torch.nn.parameter", "Parameter"))
_LOCAL_HEADER = 30  # bytes before a zip member's name
# zipfile believes what a damaged directory says: encryption, versions, places, names.
_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, RuntimeError, OSError, EOFError, UnicodeDecodeError
)  # fmt: skip


def read_checkpoint(path: str | os.PathLike) -> Any:
    """What torch.save was given: dicts, lists, numbers, strings, and arrays in place of tensors.

    The arrays are read-only views of the memory-mapped file, so a large file costs memory only
    where it is used; copy what must outlive the file. bfloat16 is `ml_dtypes.bfloat16`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a file of torch.save, damaged, or one that names anything but tensors and
            their containers (the name is told).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    with path.open("rb") as file:
        if file_kind(path) is FileKind.OLD_TORCH:
            return _read_old(path, file)
        try:
            with zipfile.ZipFile(file) as archive:
                return _Archive(path, archive).read()
        except _ZIP_ERRORS as error:
            what = _damaged(error) if zipfile.is_zipfile(path) else _what_else(path)
            raise ValueError(f"{path} {what}") from error


def state_dict(checkpoint: Any, name: str | os.PathLike) -> dict[str, np.ndarray]:
    """Tensors by name, of a bare state dict or of one under "module" or "state_dict".

    Args:
        checkpoint: from `read_checkpoint`.
        name: for the message.

    Raises:
        ValueError: there is no such dict, or it holds something that is no tensor.
    """
    found = checkpoint
    for key in ("module", "state_dict"):
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(key), dict):
            found = checkpoint[key]
            break
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{name} holds no state dict, but a {type(found).__name__}")
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, np.ndarray):
            raise ValueError(
                f"{name} holds no state dict: its entry {key!r} is a {type(value).__name__}"
            )
    return dict(found)


class _Storage(NamedTuple):
    """The elements that tensors are views of. A tuple, so that no pickle can alter it."""

    elements: np.ndarray


class _Dict(dict):
    """Stands in for collections.OrderedDict; attributes (a state dict's versions) are dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Tensor:
    """Stands in for torch's function that makes a tensor of a storage."""

    __slots__ = ()

    def __call__(self, storage, offset, size, stride, *_: Any) -> np.ndarray:
        if not isinstance(storage, _Storage):
            raise ValueError("a tensor's storage is no storage")
        size, stride = tuple(size), tuple(stride)
        if len(size) != len(stride) or not all(
            isinstance(n, int) and n >= 0 for n in (offset, *size, *stride)
        ):
            raise ValueError(f"a tensor has offset {offset!r}, size {size} and stride {stride}")
        elements = storage.elements[offset:]
        last = sum((n - 1) * step for n, step in zip(size, stride))
        if math.prod(size) and last >= len(elements):
            raise ValueError(f"a tensor of size {size} reaches beyond its storage")
        steps = tuple(step * elements.itemsize for step in stride)
        return np.lib.stride_tricks.as_strided(elements, size, steps, writeable=False)


class _Parameter:
    """Stands in for torch's function that makes a parameter of a tensor."""

    __slots__ = ()

    def __call__(self, tensor: np.ndarray, *_: Any) -> np.ndarray:
        return tensor


class _Nothing:
    """Stands in for both where only the storages are counted."""

    __slots__ = ()

    def __call__(self, *_: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    """A reader of one pickle, to which only the names that a state dict needs mean anything."""

    make_tensor: Any = _Tensor()
    make_parameter: Any = _Parameter()

    def __init__(self, path: Path, file: Any):
        self.path = path
        super().__init__(file, encoding="utf-8")

    def read(self) -> Any:
        """What was pickled."""
        try:
            return self.load()
        except _RefusedError as error:
            raise ValueError(f"{self.path} {error}") from None
        except Exception as error:  # a damaged pickle can fail in any way
            raise ValueError(f"{self.path} {_damaged(error)}") from error

    def find_class(self, module: str, name: str) -> Any:
        """Called for every name in the pickle. Nothing is imported, whatever the answer."""
        if (module, name) == ("collections", "OrderedDict"):
            return _Dict
        if (module, name) == ("torch", "Size"):
            return tuple
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return self.make_tensor
        if (module, name) in _PARAMETERS:
            return self.make_parameter
        if module == "torch" and name in _STORAGES:
            return name
        raise _RefusedError(
            f"asks for {module}.{name}, which tensors of the usual types do not need: refused, "
            "nothing was executed; if you trust the file, load it with torch once and save only "
            "its state dict"
        )


class _Archive(_Unpickler):
    """One open zip archive."""

    def __init__(self, path: Path, archive: zipfile.ZipFile):
        self._archive = archive
        pickles = [n for n in archive.namelist() if n.endswith("/data.pkl") and n.count("/") == 1]
        if len(pickles) != 1:
            raise ValueError(f"{path} is a zip archive, but not of torch.save: it has no data.pkl")
        self._root = pickles[0].removesuffix("data.pkl")
        self._storages: dict[str, _Storage] = {}
        self._mapped = np.memmap(path, np.uint8, mode="r")
        super().__init__(path, archive.open(pickles[0]))
        self._little = self._byte_order() == b"little"

    def persistent_load(self, pid: Any) -> _Storage:
        """Called for every storage: ("storage", type, key, device, number of elements)."""
        kind, storage, key, _, count = pid
        if kind != "storage" or storage not in _STORAGES:
            raise ValueError(f"unknown reference {kind!r} to {storage!r}")
        if key not in self._storages:
            self._storages[key] = _Storage(self._elements(str(key), _STORAGES[storage]))
        elements = self._storages[key].elements
        if elements.dtype != _STORAGES[storage] or len(elements) < count:
            raise ValueError(
                f"storage {key} should hold {count} x {_STORAGES[storage]}, "
                f"holds {len(elements)} x {elements.dtype}"
            )
        return self._storages[key]

    def _elements(self, key: str, dtype: np.dtype) -> np.ndarray:
        info = self._archive.getinfo(f"{self._root}data/{key}")
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"storage {key} is compressed, which torch.save never does")
        # The name and the extra field before the bytes may be longer than in the directory.
        header = self._mapped[info.header_offset : info.header_offset + _LOCAL_HEADER]
        name, extra = header[26:30].view("<u2")
        start = info.header_offset + _LOCAL_HEADER + int(name) + int(extra)
        content = self._mapped[start : start + info.file_size]
        if len(content) != info.file_size:
            raise ValueError(f"storage {key} is cut off")
        whole = content[: len(content) // dtype.itemsize * dtype.itemsize]
        if self._little or dtype.itemsize == 1:
            return whole.view(dtype)
        return whole.view(f">u{dtype.itemsize}").astype(f"<u{dtype.itemsize}").view(dtype)

    def _byte_order(self) -> bytes:
        try:
            order = self._archive.read(f"{self._root}byteorder").strip()
        except KeyError:
            return b"little"
        if order not in (b"little", b"big"):
            raise ValueError(f"{self.path} is damaged: its byte order is {order!r}")
        return order


class _OldStorages(_Unpickler):
    """The type of every storage that a pickle of before 1.6 names; no tensor is made."""

    make_tensor = make_parameter = _Nothing()

    def __init__(self, path: Path, file: BinaryIO):
        super().__init__(path, file)
        self.dtypes: dict[str, np.dtype] = {}

    def persistent_load(self, pid: Any) -> None:
        """Called for every storage: as in an archive, and (name, offset, size) of a part of it."""
        kind, storage, key, *_ = pid
        if kind != "storage" or storage not in _STORAGES:
            raise ValueError(f"unknown reference {kind!r} to {storage!r}")
        self.dtypes[str(key)] = _STORAGES[storage]


class _OldTensors(_Unpickler):
    """The same pickle once more, now that its storages are known."""

    def __init__(self, path: Path, file: BinaryIO, storages: dict[str, np.ndarray]):
        super().__init__(path, file)
        self._storages = storages

    def persistent_load(self, pid: Any) -> _Storage:
        """Called for every storage."""
        key, count, part = str(pid[2]), pid[4], pid[5] if len(pid) > 5 else None
        elements = self._storages[key]
        if part is not None:
            _, first, count = part
            elements = elements[first : first + count]
        if len(elements) != count:
            raise ValueError(f"storage {key} should hold {count} elements, holds {len(elements)}")
        return _Storage(elements)


def _read_old(path: Path, file: BinaryIO) -> Any:
    file.seek(len(OLD_TORCH_MAGIC))
    version, system = (_Unpickler(path, file).read() for _ in range(2))
    if version != _OLD_VERSION or not isinstance(system, dict):
        raise ValueError(f"{path} is damaged: its version is {version!r}")
    if not system.get("little_endian"):
        raise ValueError(f"{path} is of a big-endian machine, which is not read")
    start = file.tell()
    first = _OldStorages(path, file)
    first.read()
    keys = _Unpickler(path, file).read()
    if not isinstance(keys, list) or set(map(str, keys)) != set(first.dtypes):
        raise ValueError(f"{path} is damaged: its list of storages does not fit")
    mapped, at = np.memmap(path, np.uint8, mode="r"), file.tell()
    storages = {}
    for key in map(str, keys):
        dtype = first.dtypes[key]
        count = int.from_bytes(mapped[at : at + 8].tobytes(), "little")
        content = mapped[at + 8 : at + 8 + count * dtype.itemsize]
        at += 8 + count * dtype.itemsize
        if at > len(mapped):
            raise ValueError(f"{path} is truncated: storage {key} is cut off; get it again")
        storages[key] = content.view(dtype)
    file.seek(start)
    return _OldTensors(path, file, storages).read()


class _RefusedError(Exception):
    """A name that no state dict needs."""


def _damaged(error: Exception) -> str:
    return f"is damaged: {str(error) or type(error).__name__}"


def _what_else(path: Path) -> str:
    """What a file is that is no zip archive, and what to do about it."""
    kind = file_kind(path)
    if kind in (FileKind.LFS_POINTER, FileKind.WEB_PAGE, FileKind.EMPTY, FileKind.CUT_ZIP):
        return kind.value
    with path.open("rb") as file:
        return f"is no file of torch.save: it starts with {file.read(8)!r}"
