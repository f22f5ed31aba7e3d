"""BAIR robot pushing, 64x64: 43,264 trajectories to train on and 256 to test, 30 frames each.

Two forms, neither needs TensorFlow:

    softmotion30_44k/train/traj_256_to_511.tfrecords    the original (30 GiB), raw pixels
    bair_robot_pushing_small/2.0.0/                     prepared by TFDS (21 GiB), PNGs, in
        bair_robot_pushing_small-train.tfrecord-00000-of-00256    TFRecord
        bair_robot_pushing_small-train.array_record-00000-of-00256    or array_record

Both are rows of `tf.train.Example`, one for each trajectory. Evaluations of the literature use
the camera `image_aux1`. Ebert et al., "Self-Supervised Visual Planning with Temporal Skip
Connections", CoRL 2017.
"""

import functools
import io
import os
import re
from pathlib import Path

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from google.protobuf.message import DecodeError
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from tensorflow_datasets.proto import tf_example_generated_pb2 as tf_example

from fv_jax.config.registry import require_known
from fv_jax.data.sources.base import Entry, Problem
from fv_jax.data.sources.tfrecord import RecordFile
from fv_jax.media.readers import Array, ClipError

TEXT = "a robot arm pushes objects"
NUM_FRAMES, FRAME_SIZE = 30, 64
CAMERAS = ("image_aux1", "image_main")
SPLITS = ("train", "test")

_ORIGINAL = re.compile(r"traj_\d+_to_\d+\.tfrecords")
_PREPARED = re.compile(
    r"bair_robot_pushing_small-(?P<split>\w+)\.(?P<form>tfrecord|array_record)"
    r"-(?P<number>\d{5})-of-(?P<count>\d{5})"
)


class BAIR:
    """The trajectories of a split, seen by one camera; all have the same text.

    Args:
        name: the text that named the source, as `open_source` takes it.
        place: folder of the records, or any above it.
        split: train or test.
        camera: image_aux1 or image_main.
        fps: frames per second. The set does not state it, and 10 is no more than a likely value;
            it matters only where another rate is asked for.
    """

    noise_free = False

    def __init__(
        self,
        *,
        name: str,
        place: str,
        split: str = "train",
        camera: str = "image_aux1",
        fps: float = 10.0,
    ):
        self.name, self.folder, self.camera, self.fps = name, Path(place), camera, fps
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no folder {place!r}; {_UNPACK}")
        require_known("bair's split", split, SPLITS)
        require_known("bair's camera", camera, CAMERAS)
        if fps <= 0:
            raise ValueError(f"bair's fps must be > 0, got {fps:g}")
        paths = _files(self.folder, split)
        self.problems: list[Problem] = _missing(paths)
        self._ids: list[str] = []
        self._files: list[RecordFile | _ArrayRecords] = []
        for path in paths:
            form = _ArrayRecords if ".array_record-" in path.name else RecordFile
            records = form(path)
            if records.problem:
                self.problems.append(Problem(f"{split}/{path.name}", records.problem))
            if len(records):
                self._ids.append(f"{split}/{path.name}")
                self._files.append(records)
        self._ends = np.cumsum([len(records) for records in self._files], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Entry:
        if not 0 <= index < len(self):
            raise IndexError(f"clip must be in 0..{len(self) - 1}, got {index}")
        file = int(np.searchsorted(self._ends, index, side="right"))
        records = self._files[file]
        number = index - int(self._ends[file]) + len(records)
        read = functools.partial(
            Array,
            functools.partial(_pixels, records, number, self.camera),
            self.fps,
            count=NUM_FRAMES,
            size=(FRAME_SIZE, FRAME_SIZE),
        )
        return Entry(f"{self._ids[file]}/{number:04d}", TEXT, read)


_UNPACK = (
    "unpack bair_robot_pushing_dataset_v0.tar of http://rail.eecs.berkeley.edu/datasets/ there "
    "(softmotion30_44k/), or give a folder that TFDS prepared (bair_robot_pushing_small/)"
)


def _files(folder: Path, split: str) -> list[Path]:
    """The records of a split in the order of their numbers."""
    found: dict[tuple[Path, str], list[Path]] = {}
    for home, folders, files in os.walk(os.path.abspath(folder), followlinks=True):
        folders.sort()
        for file in files:
            if match := _PREPARED.fullmatch(file):
                if match["split"] == split:
                    found.setdefault((Path(home), match["form"]), []).append(Path(home, file))
            elif _ORIGINAL.fullmatch(file) and Path(home).name == split:
                found.setdefault((Path(home), "original"), []).append(Path(home, file))
    if not found:
        raise FileNotFoundError(f"no records of BAIR's {split} split in {folder}; {_UNPACK}")
    if len(found) > 1:
        places = " and ".join(sorted(f"{home} ({form})" for home, form in found))
        raise ValueError(f"BAIR's {split} split is in {places}; give the one to take")
    (paths,) = found.values()
    return sorted(paths, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])


def _missing(paths: list[Path]) -> list[Problem]:
    """Files that are not there, where the names of the others say how many there are."""
    match = _PREPARED.fullmatch(paths[0].name)
    if not match:
        return []
    there = {path.name for path in paths}
    stem = f"bair_robot_pushing_small-{match['split']}.{match['form']}"
    names = [f"{stem}-{i:05d}-of-{match['count']}" for i in range(int(match["count"]))]
    return [
        Problem(f"{match['split']}/{name}", "no such file") for name in names if name not in there
    ]


class _ArrayRecords:
    """The records of an array_record file."""

    def __init__(self, path: Path):
        self.path, self.problem, self._records = path, "", None
        try:
            self._records = ArrayRecordDataSource(str(path))
        except (RuntimeError, ValueError) as error:
            self.problem = f"no array_record file, or a damaged one ({str(error) or 'unreadable'})"

    def __len__(self) -> int:
        return len(self._records) if self._records is not None else 0

    def __getitem__(self, index: int) -> bytes:
        assert self._records is not None
        try:
            return self._records[index]
        except (RuntimeError, ValueError) as error:
            raise ClipError(f"record {index} of {self.path.name} cannot be read") from error


def _pixels(
    records: RecordFile | _ArrayRecords, number: int, camera: str
) -> UInt8[np.ndarray, "30 64 64 3"]:
    """The frames of one camera."""
    try:
        example = tf_example.Example.FromString(records[number])  # pyright: ignore
    except DecodeError as error:
        raise ClipError("the record is no tf.train.Example") from error
    features = example.features.feature
    if camera in features:
        pictures = list(features[camera].bytes_list.value)
        frames = [_picture(data) for data in pictures]
    else:
        keys = [f"{t}/{camera}/encoded" for t in range(NUM_FRAMES)]
        frames = [_raw(features[key].bytes_list.value, key) for key in keys if key in features]
    if len(frames) != NUM_FRAMES:
        raise ClipError(f"want {NUM_FRAMES} frames of {camera}, got {len(frames)}")
    return np.stack(frames)


def _raw(values, key: str) -> np.ndarray:
    want = FRAME_SIZE * FRAME_SIZE * 3
    if len(values) != 1 or len(values[0]) != want:
        sizes = ", ".join(str(len(value)) for value in values) or "nothing"
        raise ClipError(f"{key}: want {want} bytes of pixels, got {sizes}")
    return np.frombuffer(values[0], np.uint8).reshape(FRAME_SIZE, FRAME_SIZE, 3)


def _picture(data: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise ClipError("a frame is no readable picture") from error
    if pixels.shape[:2] != (FRAME_SIZE, FRAME_SIZE):
        raise ClipError(f"want frames of {FRAME_SIZE}x{FRAME_SIZE} px, got {pixels.shape[:2]}")
    return pixels
