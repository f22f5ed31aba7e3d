"""Numbers of clips that were computed before, found by what the clips show.

A folder per network (its fingerprint says which), a journal in it: the hash of a clip's pixels,
then its numbers. A run that is stopped loses at most the clips in the batch it was computing.
"""

import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import Float

from fv_jax.array_types import Frames
from fv_jax.files import write_text
from fv_jax.journal import Journal

_HASH = 32  # bytes


def clip_hash(frames: Frames) -> bytes:
    """The same for the same pixels in the same shape."""
    hasher = hashlib.sha256(f"{frames.shape}".encode())
    hasher.update(np.ascontiguousarray(frames).tobytes())
    return hasher.digest()


def joint_hash(*parts: bytes) -> bytes:
    """The same for the same clips in the same order, by their hashes."""
    return hashlib.sha256(b"".join(parts)).digest()


class FeatureCache:
    """Vectors of `width` numbers by hash, in a folder of their own.

    Args:
        home: of all caches.
        fingerprint: what computes the numbers, in full: another text is another cache.
        width: how many.
    """

    def __init__(self, home: Path, fingerprint: str, width: int):
        self.width = width
        folder = home / hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "what.txt", fingerprint + "\n")
        self._journal = Journal(folder / "numbers.bin")
        size = _HASH + 8 * width
        self._found = {
            record[:_HASH]: np.frombuffer(record[_HASH:], np.float64)
            for record in self._journal.records
            if len(record) == size
        }
        self._journal.records.clear()  # the numbers are kept in `_found`

    def __contains__(self, key: bytes) -> bool:
        return key in self._found

    def __getitem__(self, key: bytes) -> Float[np.ndarray, " C"]:
        return self._found[key]

    def __setitem__(self, key: bytes, values: Float[np.ndarray, " C"]) -> None:
        values = np.asarray(values, np.float64)
        if values.shape != (self.width,) or not np.isfinite(values).all():
            raise ValueError(f"want {self.width} finite numbers, got {values.shape} {values[:4]}")
        self._journal.append(key + values.tobytes())
        self._journal.records.clear()
        self._found[key] = values

    def close(self) -> None:
        """Close the file; it stays."""
        self._journal.close()
