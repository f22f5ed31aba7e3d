"""Whether a checkpoint's files are what was written, and what cut-off saves have left.

orbax renames a folder when all is in it, but a disk may lose or change what it holds later:
tensorstore would notice files that are missing or cut off, not a changed bit in the arrays, nor
would JSON in a number. So sizes and CRC-32 of all files lie beside them, under a sum of their own.
"""

import contextlib
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

FILES = "files.json"
UNFINISHED = ".orbax-checkpoint-tmp"  # orbax's name
_OLD, _DAMAGED = ".old", ".damaged"


def seal(folder: Path) -> None:
    """Write the sizes and sums of the files in a checkpoint's folders."""
    paths = sorted(path for path in folder.glob("*/**/*") if path.is_file())
    files = {str(path.relative_to(folder)): _size_and_sum(path) for path in paths}
    (folder / FILES).write_text(json.dumps({"crc32": sum_of(files), "files": files}))


def find_damage(folder: Path) -> str:
    """What is wrong with a sealed folder's files, in a few words; "" if nothing is."""
    try:
        sealed = json.loads((folder / FILES).read_bytes())
        whole = sealed["crc32"] == sum_of(sealed["files"])
    except FileNotFoundError:
        return f"{FILES} is missing"
    except (OSError, ValueError, LookupError, TypeError):
        whole = False
    if not whole:
        return f"{FILES} is damaged"
    for name, (size, checksum) in sealed["files"].items():
        try:
            found = _size_and_sum(folder / name)
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name}: {error.strerror}"
        if found[0] != size:
            return f"{name} has {found[0]} bytes, {size} were written"
        if found[1] != checksum:
            return f"{name} is not what was written"
    return ""


def put_aside(folder: Path) -> Path:
    """Rename a damaged checkpoint, so that its step can be saved again; where it is now."""
    aside = folder.with_name(folder.name + _DAMAGED)
    shutil.rmtree(aside, ignore_errors=True)
    return folder.rename(aside)


def remove(folder: Path) -> None:
    """Delete a checkpoint, so that a kill half-way leaves nothing that looks like one."""
    with contextlib.suppress(OSError):
        old = folder.rename(folder.with_name(folder.name + _OLD))
        shutil.rmtree(old, ignore_errors=True)


def remove_unfinished(folder: Path) -> bool:
    """Delete what saves left that were cut off; whether nothing came back meanwhile."""
    found = []
    with contextlib.suppress(OSError):
        names = [path.name for path in folder.iterdir()]
        found = [name for name in names if UNFINISHED in name or name.endswith(_OLD)]
    for name in found:
        shutil.rmtree(folder / name, ignore_errors=True)
    return not found


def sum_of(values: Any) -> int:
    """CRC-32 of JSON values."""
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def _size_and_sum(path: Path) -> list[int]:
    size = checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            size, checksum = size + len(block), zlib.crc32(block, checksum)
    return [size, checksum]
