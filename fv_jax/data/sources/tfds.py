"""Sets of videos that TFDS prepared, read at random and without TensorFlow.

    tfds:fv_shapes/small,data_dir=DIR,split=valid     a name, and where it was prepared
    tfds:DIR/my_set/1.0.0,split=train[:50%]           the folder of a prepared version

A set must be prepared as array_record. Its video is a uint8 tensor [F, Y, X, C], a sequence of
images, or the bytes of a file such as mp4; C is 3, or 1 for gray. Its text is a Text or a
ClassLabel. Nothing is downloaded or prepared here.
"""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from fv_jax.data.sources.base import UNTITLED, Entry, Problem
from fv_jax.data.sources.tfds_features import Feature, first_line, video_and_text
from fv_jax.media.readers import Array, ClipError, Reader
from fv_jax.media.video_file import VideoFile

_NOISE_FREE = ("fv_shapes",)  # sets that are rendered, not filmed


class TFDS:
    """The examples of a split.

    Args:
        name: the text that named the source, as `open_source` takes it.
        place: name of a set, with `/config` and `:version` where needed; or a prepared folder.
        split: the split, or a part of it, as TFDS writes it: `train[:10%]`.
        data_dir: the folder of the sets of TFDS; "" is ~/tensorflow_datasets.
        video: the feature that holds the video; "" for the only one that can.
        text: the feature that holds the text, likewise.
        fps: frames per second of tensors and images, which do not say it themselves.
    """

    def __init__(
        self,
        *,
        name: str,
        place: str,
        split: str = "train",
        data_dir: str = "",
        video: str = "",
        text: str = "",
        fps: float = 8.0,
    ):
        if fps <= 0:
            raise ValueError(f"tfds's fps must be > 0, got {fps:g}")
        builder = _builder(place, data_dir)
        self.name, self.split, self.fps = name, split, fps
        self.problems: list[Problem] = []
        self.noise_free = builder.name in _NOISE_FREE
        self._records = _records(builder, split, place)
        features = builder.info.features
        video, text = video_and_text(features, video, text, place)
        self._video = Feature(features, video)
        self._text = Feature(features, text) if text else None

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Entry:
        if not 0 <= index < len(self):
            raise IndexError(f"clip must be in 0..{len(self) - 1}, got {index}")
        try:
            text = self._text.words(self._record(index)) if self._text else UNTITLED
        except ClipError:
            text = UNTITLED  # a damaged record: `open` will tell
        return Entry(f"{self.split}/{index:06d}", text, functools.partial(self._open, index))

    def _record(self, index: int) -> bytes:
        try:
            return self._records[index]
        except (OSError, RuntimeError, ValueError) as error:
            raise ClipError(f"record {index} of {self.split} cannot be read") from error

    def _open(self, index: int) -> Reader:
        value = self._video.value(self._record(index))
        if isinstance(value, bytes):
            return VideoFile(value)
        try:
            frames = np.stack(value)
        except ValueError as error:
            raise ClipError("no frames, or frames of several sizes") from error
        if frames.ndim != 4 or frames.dtype != np.uint8 or frames.shape[-1] not in (1, 3):
            raise ClipError(f"want uint8 [F, Y, X, 3], got {frames.dtype} {frames.shape}")
        if frames.shape[-1] == 1:
            frames = frames.repeat(3, axis=-1)
        size = (frames.shape[1], frames.shape[2])
        return Array(lambda: frames, self.fps, count=len(frames), size=size)


def _builder(place: str, data_dir: str) -> tfds.core.DatasetBuilder:
    folder = Path(place).expanduser()
    if place.startswith(("/", ".", "~")) and not folder.is_dir():
        raise FileNotFoundError(f"no folder {place!r}; give one that TFDS prepared, or a name")
    try:
        if (folder / "dataset_info.json").is_file():
            return tfds.builder_from_directory(folder)
        if folder.is_dir():
            inside = sorted(str(path.parent) for path in folder.glob("**/dataset_info.json"))
            hint = f"; below it there is {', '.join(inside[:3])}" if inside else ""
            raise ValueError(f"no dataset_info.json in it{hint}")
        where: dict[str, Any] = {"data_dir": str(Path(data_dir).expanduser())} if data_dir else {}
        return tfds.builder(place, **where)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            f"TFDS knows no set {place!r} (some of its sets it knows only with TensorFlow), and "
            f"there is no such folder, and none prepared in {data_dir or 'the default data_dir'}"
        ) from error
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{place} cannot be opened without {error.name} (a Video feature needs TensorFlow); "
            "keep videos as Tensor(encoding='bytes'), Sequence(Image) or Text with mp4 bytes"
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"TFDS cannot open {place}: {first_line(error)}") from error


def _records(builder: tfds.core.DatasetBuilder, split: str, place: str):
    """The undecoded records of a split."""
    splits = builder.info.splits
    if not splits:
        raise ValueError(_how_to_prepare(builder, place))
    try:
        files = [epath.Path(part.filename) for part in splits[split].file_instructions]
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        records = builder.as_data_source(split, deserialize_method=raw)  # pyright: ignore
    except NotImplementedError as error:
        form = builder.info.file_format
        raise ValueError(
            f"{place} is prepared as {form.value if form else '?'}, which has no random access; "
            "prepare it again with file_format='array_record'"
        ) from error
    except (KeyError, ValueError) as error:
        has = ", ".join(f"{key} ({info.num_examples})" for key, info in splits.items())
        raise ValueError(f"{place} has no split {split!r}; it has: {has}") from error
    missing = [file for file in files if not file.exists()]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(files)} files of {place} are missing, such as {missing[0]}; "
            "prepare it again"
        )
    return records


def _how_to_prepare(builder: tfds.core.DatasetBuilder, place: str) -> str:
    root = Path(builder.data_path).parents[2 if builder.builder_config else 1]
    options = f'"{place}", data_dir="{root}", file_format="array_record"'
    code = f"import tensorflow_datasets as t; t.builder({options}).download_and_prepare()"
    return f"{place} is not prepared in {root}; once: python -c '{code}'"
