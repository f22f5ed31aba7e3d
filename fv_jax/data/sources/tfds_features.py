"""Which feature of a TFDS set is its video and which its text, and reading one of them alone.

A feature within dictionaries is named by its path: `observation/image`.
"""

from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from fv_jax.data.sources.base import UNTITLED
from fv_jax.media.readers import ClipError

# Names to look for where several features would do, or where bytes may be a video.
_VIDEO_NAMES = ("video", "mp4", "clip")
_TEXT_NAMES = ("caption", "text", "description", "sentence", "label", "class")


class Feature:
    """One feature of a set's records, decoded without the others.

    Raises:
        ValueError: it lies in something else than dictionaries and sequences.
    """

    def __init__(self, features, path: str):
        self.path, self._keys = path, path.split("/")
        self._feature = _at(features, path)
        self._parser: Any = _alone(features, self._keys)

    def value(self, record: bytes) -> Any:
        """What TFDS makes of it: an array, a list of them, bytes or a number.

        Raises:
            ClipError: it cannot be decoded.
        """
        try:
            value = self._parser.deserialize_example_np(record)
        except Exception as error:  # of TFDS, protobuf, zlib, Pillow or OpenCV
            raise ClipError(f"its {self.path} cannot be decoded ({first_line(error)})") from error
        for key in self._keys:
            value = value[key]
        return value

    def words(self, record: bytes) -> str:
        """A text, or the name of a label with spaces for underscores."""
        value = self.value(record)
        if isinstance(self._feature, tfds.features.ClassLabel):
            value = self._feature.int2str(int(value)).replace("_", " ")
        elif isinstance(value, bytes):
            value = value.decode(errors="replace")
        return " ".join(str(value).split()) or UNTITLED


def video_and_text(features, video: str, text: str, place: str) -> tuple[str, str]:
    """Paths of the video and of the text; the latter is "" where there is none.

    Args:
        features: the features of the set, as TFDS describes them.
        video: path that the user names, or "" for the only one that can be.
        text: likewise.
        place: name of the set, for messages.

    Raises:
        ValueError: no such feature, none that can be, or several.
    """
    kinds = _kinds(features, features.get_tensor_info())
    video = _video(kinds, video, place)
    texts = {path: kind for path, kind in kinds.items() if path != video}
    return video, _text(texts, text, place)


def _video(kinds: dict[str, str], wanted: str, place: str) -> str:
    if wanted:
        if kinds.get(wanted) not in ("frames", "bytes"):
            raise ValueError(_not_one(place, wanted, "a video", kinds))
        return wanted
    found = [path for path, kind in kinds.items() if kind == "frames"]
    found = found or [p for p, kind in kinds.items() if kind == "bytes" and p in _VIDEO_NAMES]
    if len(found) != 1:
        what = f"several videos ({', '.join(found)})" if found else "no feature that must be one"
        raise ValueError(f"which is the video of {place}? It has {what}; say video=NAME, of "
                         f"{', '.join(kinds)}")  # fmt: skip
    return found[0]


def _text(kinds: dict[str, str], wanted: str, place: str) -> str:
    if wanted:
        if kinds.get(wanted) not in ("bytes", "label"):
            raise ValueError(_not_one(place, wanted, "a text or a label", kinds))
        return wanted
    texts = [p for p, kind in kinds.items() if kind == "bytes" and p not in _VIDEO_NAMES]
    found = texts or [path for path, kind in kinds.items() if kind == "label"]
    known = [name for name in _TEXT_NAMES if name in found]
    if len(found) > 1 and not known:
        raise ValueError(f"{place} has several texts; say text=NAME, of {', '.join(found)}")
    return (known or found or [""])[0]


def _kinds(features, info, path: str = "") -> dict[str, str]:
    """What each feature may be by its path: frames, bytes, label or ""."""
    if isinstance(info, dict):
        found: dict[str, str] = {}
        for key, value in sorted(info.items()):  # TFDS has them in any order
            found |= _kinds(features, value, f"{path}/{key}" if path else key)
        return found
    shape, dtype = info.shape, np.dtype(info.np_dtype)
    if dtype == np.uint8 and len(shape) == 4 and shape[-1] in (1, 3, None):
        return {path: "frames"}
    if not shape and dtype.kind in "OSU":
        return {path: "bytes"}
    label = not shape and isinstance(_at(features, path), tfds.features.ClassLabel)
    return {path: "label" if label else ""}


def _alone(features, keys: list[str]):
    """The features without all others. (TFDS's own `PartialDecoding` needs TensorFlow.)"""
    if not keys:
        return features
    if type(features) is tfds.features.Sequence:
        return tfds.features.Sequence(_alone(features.feature, keys))
    if isinstance(features, tfds.features.FeaturesDict):
        return tfds.features.FeaturesDict({keys[0]: _alone(features[keys[0]], keys[1:])})
    raise ValueError(f"feature {'/'.join(keys)} lies in a {type(features).__name__}, which cannot "
                     "be read in parts; keep videos in plain dictionaries")  # fmt: skip


def _at(features, path: str):
    for key in path.split("/"):
        features = features[key]
    return features


def _not_one(place: str, name: str, what: str, kinds: dict[str, str]) -> str:
    return f"{place} has no feature {name!r} that could be {what}; it has: {', '.join(kinds)}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message; TFDS writes many."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
