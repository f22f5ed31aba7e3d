"""Writes what torch.save writes, without torch: a zip archive around a pickle made by hand."""

import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

STORAGES = {
    "float64": "DoubleStorage", "float32": "FloatStorage", "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage", "int64": "LongStorage", "int32": "IntStorage",
    "int16": "ShortStorage", "int8": "CharStorage", "uint8": "ByteStorage", "bool": "BoolStorage",
}  # fmt: skip


class Call(NamedTuple):
    """`module.name(*arguments)`, called by whoever loads the pickle."""

    module: str
    name: str
    arguments: tuple = ()


class View(NamedTuple):
    """A tensor that is a view of a storage, as `torch.Tensor.t()` makes one."""

    storage: np.ndarray
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def save(path: Path, value: Any, *, byte_order: str = "little", **changes: bytes | None) -> None:
    """Write `value`, whose arrays become tensors.

    `changes` replaces members of the archive ("data.pkl", "data/0") or, with None, leaves them out.
    """
    storages: list[np.ndarray] = []
    members = {"data.pkl": b"\x80\x02" + _pickle(value, storages) + b".", "byteorder": None}
    if byte_order != "none":
        members["byteorder"] = byte_order.encode()
    for i, storage in enumerate(storages):
        content = storage.tobytes()
        if byte_order == "big":
            content = storage.view(f"u{storage.itemsize}").byteswap().tobytes()
        members[f"data/{i}"] = content
    members["version"] = b"3\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**members, **changes}.items():
            if content is not None:
                archive.writestr(f"{path.stem}/{name}", content)


def save_old(
    path: Path, value: Any, *, little_endian: bool = True, part: tuple | None = None
) -> None:
    """Write what torch before 1.6 wrote; `part` is what it said of storages that are views."""
    storages: list[np.ndarray] = []
    body = _pickle(value, storages, (part,))
    keys = [str(i) for i in range(len(storages))]
    pickles = (1001, {"protocol_version": 1001, "little_endian": little_endian})
    content = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
    content += b"".join(b"\x80\x02" + _pickle(v, []) + b"." for v in pickles)
    content += b"\x80\x02" + body + b"." + b"\x80\x02" + _pickle(keys, []) + b"."
    for storage in storages:
        content += len(storage).to_bytes(8, "little") + storage.tobytes()
    path.write_bytes(content)


def _pickle(value: Any, storages: list[np.ndarray], more: tuple = ()) -> bytes:
    """`more` is added to every reference to a storage."""

    def parts(values) -> bytes:
        return b"".join(_pickle(v, storages, more) for v in values)

    if isinstance(value, np.ndarray):
        value = value.copy()
        steps = tuple(step // value.itemsize for step in value.strides)
        value = View(value.ravel(), 0, value.shape, steps)
    if isinstance(value, View):
        number = next((i for i, s in enumerate(storages) if s is value.storage), len(storages))
        if number == len(storages):
            storages.append(value.storage)
        kind = Call("torch", STORAGES[value.storage.dtype.name])
        reference = (
            "storage",
            kind._replace(arguments=None),
            str(number),
            "cpu",
            len(value.storage),
            *more,
        )
        hooks = Call("collections", "OrderedDict")
        function = b"ctorch._utils\n_rebuild_tensor_v2\n"
        # Q: the reference's tuple becomes what persistent_load returns for it.
        arguments = b"(" + _pickle(reference, storages, more) + b"Q"
        arguments += parts((value.offset, value.size, value.stride, False, hooks))
        return function + arguments + b"tR"
    if isinstance(value, Call):
        name = f"c{value.module}\n{value.name}\n".encode()
        return (
            name
            if value.arguments is None
            else name + _pickle(value.arguments, storages, more) + b"R"
        )
    if isinstance(value, dict):
        return b"}(" + parts(v for item in value.items() for v in item) + b"u"
    if isinstance(value, list):
        return b"](" + parts(value) + b"e"
    if isinstance(value, tuple):
        return b"(" + parts(value) + b"t"
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        return b"J" + value.to_bytes(4, "little", signed=True)
    text = value.encode()
    return b"X" + len(text).to_bytes(4, "little") + text
