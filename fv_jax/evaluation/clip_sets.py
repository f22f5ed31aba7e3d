"""Sets of clips to compare: a folder of videos, GIFs, folders of pictures and .npz, or one .npz.

    clips.npz            `frames` or `videos` uint8 [N, F, Y, X, 3]: N clips
    clips/000.npz        `frames` uint8 [F, Y, X, 3]: one clip, as `fv generate` writes it
    clips/001.mp4 ..     anything `fv data inspect` reads

Floats are taken where they are in [0, 1], and rounded. Clips are read one at a time; all of a set
must be as long and as large as its first, and the error names the file that is not.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from fv_jax.array_types import Frames
from fv_jax.evaluation.protocols import Protocol
from fv_jax.media.frames import fit
from fv_jax.media.npz import NpzClips
from fv_jax.media.opening import open_clip
from fv_jax.media.readers import ClipError
from fv_jax.media.video_file import VIDEO_SUFFIXES
from fv_jax.media.walk import natural, of_left_out, walk


@dataclasses.dataclass(frozen=True)
class ClipFile:
    """One clip of a set.

    Attributes:
        name: of its file, for messages.
        read: gives all of its frames.
        times: gives the seconds at which they appear, or None where nothing says it.
    """

    name: str
    read: Callable[[], Frames]
    times: Callable[[], np.ndarray | None] = lambda: None


def open_set(place: Path) -> list[ClipFile]:
    """The clips of a folder or an .npz, in the order of their names, numbers counted.

    Raises:
        FileNotFoundError: no such folder or file.
        ValueError: no clip in it, or an .npz without clips.
    """
    if place.is_dir():
        found = walk(place, (*VIDEO_SUFFIXES, ".npz"))
        if found.left_out:
            print(f"fv: {place}: {of_left_out(found.left_out)}", file=sys.stderr)
        paths = sorted(found.clips, key=natural)
        clips = [clip for path in paths for clip in _file(place / path, one=True)]
        if not clips:
            raise ValueError(f"{place} holds no clip; want videos, GIFs, folders of pictures, .npz")
        return clips
    if not place.exists():
        raise FileNotFoundError(f"no folder or .npz {str(place)!r} of clips to compare")
    if place.suffix.lower() != ".npz":
        raise ValueError(f"{place} is one file; give a folder of clips, or an .npz of several")
    return list(_file(place, one=False))


def scored(clip: ClipFile, protocol: Protocol) -> Frames:
    """A clip's first frames as they are compared: cut to the protocol's length, scaled to its size.

    Raises:
        ValueError: too short; names the clip, and says what it has and should have.
    """
    frames = clip.read()
    if protocol.frames:
        if len(frames) < protocol.frames:
            raise ValueError(
                f"{clip.name}: got {len(frames)} frames, want {protocol.frames} "
                f"(protocol {protocol.name}); --frames compares the first ones only"
            )
        frames = frames[: protocol.frames]
    return fit(frames, (protocol.size, protocol.size)) if protocol.size else frames


def paired(
    real: Sequence[ClipFile], fake: Sequence[ClipFile]
) -> tuple[list[list[ClipFile]], Literal["name", "order"]]:
    """Every real clip's fakes: that of its name, or equally many in order, the first clip's first.

    Names are those of the files, without what follows the dot. Where some of them pair and some do
    not, a file is missing or has another name, and the order would pair strangers.

    Returns:
        The fakes of each real clip, and how they were found.

    Raises:
        ValueError: the fakes cannot be shared out, or names pair in part.
    """
    each, rest = divmod(len(fake), len(real))
    if rest or not each:
        raise ValueError(
            f"got {len(fake)} fake clips, want {len(real)}, as many as real ones (or a multiple); "
            "--metrics fvd compares sets that are not paired"
        )
    reals, fakes = ({Path(clip.name).stem: clip for clip in clips} for clips in (real, fake))
    if each == 1 and len(reals) == len(fakes) == len(real):
        if reals.keys() == fakes.keys():
            return [[fakes[stem]] for stem in reals], "name"
        if reals.keys() & fakes.keys():
            lone, other = (
                next(clip.name for stem, clip in these.items() if stem not in those)
                for these, those in ((reals, fakes), (fakes, reals))
            )
            raise ValueError(
                f"{lone} has no fake clip of its name, {other} no real one, though others have; "
                "want the same names on both sides, or none in common to pair by order"
            )
    return [list(fake[i * each : (i + 1) * each]) for i in range(len(real))], "order"


def check_times(real: ClipFile, fake: ClipFile, frames: int) -> None:
    """See to it that frames of the same number show the same moment.

    Args:
        real: a clip.
        fake: the one that it is compared with.
        frames: how many are compared; 0 for all.

    Raises:
        ValueError: times that say something differ by half a frame, and by 0.5%.
    """
    one, other = real.times(), fake.times()
    if one is None or other is None:
        return
    count = min(len(one), len(other), frames or len(one))
    if count < 2:
        return
    a, b = one[:count], other[:count]
    rates = [(count - 1) / float(times[-1]) for times in (a, b)]
    if (np.abs(a - b) > 0.5 / max(rates) + 0.005 * a).any():
        raise ValueError(
            f"{fake.name} plays at {rates[1]:.4g} frames a second, {real.name} at {rates[0]:.4g}, "
            "so that frames of the same number do not show the same moment; give clips of one "
            "rate (.npz files without `fps` are taken as of any)"
        )


def pieces(frames: Frames, protocol: Protocol) -> list[np.ndarray]:
    """The windows and crops of a whole real clip, each of the protocol's length and size.

    Raises:
        ClipError: the clip is shorter than a window.
    """
    length, size = protocol.frames or len(frames), protocol.size
    if len(frames) < length:
        raise ClipError(f"got {len(frames)} frames, want {length}")
    starts = np.linspace(0, len(frames) - length, protocol.windows).round().astype(int)
    if len(set(starts.tolist())) < protocol.windows:
        raise ClipError(
            f"got {len(frames)} frames, want {length + protocol.windows - 1} for "
            f"{protocol.windows} windows of {length}"
        )
    squares = [_square(frames, i, protocol.crops) for i in range(protocol.crops)]
    if protocol.crops == 1:
        squares = [frames]
    fitted = [fit(part, (size, size)) if size else part for part in squares]
    return [part[start : start + length] for start in starts for part in fitted]


def _square(frames: np.ndarray, index: int, count: int) -> np.ndarray:
    """Square part number `index` of `count`, from one end of the longer side to the other."""
    height, width = frames.shape[1:3]
    side = min(height, width)
    offset = round((max(height, width) - side) * index / max(count - 1, 1))
    if width >= height:
        return frames[:, :, offset : offset + side]
    return frames[:, offset : offset + side]


def _file(path: Path, *, one: bool) -> list[ClipFile]:
    """The clips of a file: one, or as many as an .npz holds."""
    if path.suffix.lower() != ".npz":
        return [
            ClipFile(str(path), functools.partial(_video, path), functools.partial(_times, path))
        ]
    clips = NpzClips(path)
    if clips.count is None:
        return [ClipFile(str(path), clips.read, clips.times)]
    if one and clips.count > 1:
        raise ValueError(
            f"{path}: got {clips.count} clips, want one in each file of a folder; give the .npz "
            "itself"
        )
    return [ClipFile(f"{path}[{i}]", functools.partial(clips.read, i)) for i in range(clips.count)]


def _video(path: Path) -> np.ndarray:
    try:
        reader = open_clip(path, least=1)
        return np.stack(list(reader.each(range(len(reader.times)))))
    except ClipError as error:
        raise ValueError(f"{path} cannot be read as a video: {error}") from error


def _times(path: Path) -> np.ndarray | None:
    """Pictures do not say their times; what cannot be read is said when its frames are."""
    try:
        return None if path.is_dir() else open_clip(path, least=1).times
    except ClipError:
        return None
