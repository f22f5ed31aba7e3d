"""A file of a video or picture, sent by anybody, becomes a few frames of the model's size.

The file lies in a folder of its own for as long as it is read; what is kept, for a while, are the
frames. What kind of file it is, its first bytes say, not its name: kinds that name other files or
addresses (playlists, say) are not opened at all.
"""

import dataclasses
import secrets
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fv_jax.array_types import Frame, Frames
from fv_jax.generation.pretrained import Model
from fv_jax.media.frames import at_even_times, frame_numbers, read_fitted
from fv_jax.media.opening import open_clip
from fv_jax.media.readers import ClipError

MOST_BYTES = 32 * 2**20
MOST_FRAMES = 64  # taken of a file
_MOST_PIXELS = 4096 * 4096  # of a frame
_MOST_SECONDS = 20.0  # of decoding
_KEPT = 32
# The first bytes of each kind, where in the file they are, and the suffix by which it is read.
_KINDS = (
    (b"\x89PNG\r\n\x1a\n", 0, ".png"), (b"\xff\xd8\xff", 0, ".jpg"), (b"GIF8", 0, ".gif"),
    (b"WEBP", 8, ".webp"), (b"BM", 0, ".bmp"), (b"II*\0", 0, ".tiff"), (b"MM\0*", 0, ".tiff"),
    (b"ftyp", 4, ".mp4"), (b"\x1aE\xdf\xa3", 0, ".mkv"), (b"AVI ", 8, ".avi"),
    (b"OggS", 0, ".ogv"), (b"\0\0\x01\xba", 0, ".mpg"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Upload:
    """Frames that somebody sent.

    Attributes:
        fps: of the frames.
        notes: how the file was read, a line each.
    """

    id: str
    frames: Frames
    fps: float
    notes: tuple[str, ...]


class Uploads:
    """The last frames that were sent, by id."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, upload: Upload) -> None:
        """Keep it; the oldest goes if there are many."""
        with self._lock:
            self._kept[upload.id] = upload
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)

    def __getitem__(self, id_: str) -> Upload:
        """That one.

        Raises:
            ValueError: it is not there, or no longer.
        """
        found = self._kept.get(id_)
        if found is None:
            raise ValueError("the file that was sent is not kept any more; send it again")
        return found


def read_upload(data: bytes, use: str, count: int, model: Model) -> Upload:
    """Frames of a file, as `fv generate --first-frames` or `fv interpolate` read it.

    Args:
        data: the file.
        use: "first_frames" for key frames at their rate, "interpolate" for every frame.
        count: how many first frames.
        model: whose size and rate they get.

    Raises:
        ValueError: no kind of file that is read, too large, too long, or damaged.
    """
    suffix = next((end for magic, at, end in _KINDS if data[at:].startswith(magic)), None)
    if suffix is None:
        raise ValueError(
            "that is no kind of file that is read here: send mp4, mov, webm, mkv, avi, mpg, ogv, "
            "gif, png, jpg, webp, bmp or tiff"
        )
    first = use == "first_frames"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"upload{suffix}"
        path.write_bytes(data)
        try:
            reader = open_clip(path, least=1 if first else 2)
            if np.prod(reader.size) > _MOST_PIXELS:
                raise ValueError(f"frames may have {_MOST_PIXELS} pixels, got {reader.size}")
            if first:
                fps, told = model.config.key_frame_fps, []
                numbers = frame_numbers(reader, fps, count=count)
            else:
                numbers, fps, told = at_even_times(reader)
                if len(numbers) > MOST_FRAMES:
                    told += [f"only the first {MOST_FRAMES} of {len(numbers)} frames are used"]
                    numbers = numbers[:MOST_FRAMES]
            frames = np.stack([*_in_time(read_fitted(reader, numbers, model.frame_size))])
            notes = (*told, *reader.notes)
        except ClipError as error:
            raise ValueError(f"the file cannot be read as a video: {error}") from error
    return Upload(secrets.token_urlsafe(12), frames, fps, notes)


def _in_time(frames: Iterator[Frame]) -> Iterator[Frame]:
    until = time.monotonic() + _MOST_SECONDS
    for frame in frames:
        yield frame
        if time.monotonic() > until:
            raise ClipError(f"decoding it takes more than {_MOST_SECONDS:g} s; send a smaller one")
