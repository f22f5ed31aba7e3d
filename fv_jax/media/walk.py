"""The clips under a folder, and what lies there beside them.

What is left out is kept with the reason, so that a person can be told: nothing is skipped in
silence but the files that a source reads itself.
"""

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fv_jax.media.pictures import PICTURE_SUFFIXES, is_animated
from fv_jax.media.video_file import VIDEO_SUFFIXES

# Folders that network disks, desktops and archives leave behind, in small letters.
_JUNK_FOLDERS = (
    "@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin",
    "__macosx", "lost+found", "lost.dir", "system volume information", "recycler", "thumbs",
    "thumbnails", "network trash folder", "temporary items",
)  # fmt: skip
_JUNK_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
# Suffixes of moving and still pictures that nothing here reads.
_UNREAD = (
    ".rm", ".rmvb", ".mxf", ".dv", ".y4m", ".yuv", ".h264", ".264", ".h265",
    ".265", ".hevc", ".ivf", ".av1", ".obu", ".amv", ".bik", ".swf", ".nut", ".mod", ".tod",
    ".dat", ".mpv", ".mpv2", ".m4p", ".mp2v", ".ogx", ".wtv", ".mk3d", ".dav", ".download",
    ".r3d", ".braw", ".insv", ".360", ".mjpg", ".mjpeg", ".heic", ".heif", ".jxl", ".jp2", ".exr",
    ".hdr", ".dng", ".cr2", ".nef", ".arw", ".psd", ".tga", ".ppm", ".pgm", ".webloc", ".part",
    ".crdownload",
)  # fmt: skip


@dataclasses.dataclass
class Walk:
    """What was found under a folder; all paths from there, with slashes.

    Attributes:
        clips: files with a wanted suffix, animations, and folders of pictures.
        texts: text files and tables, which may be captions.
        left_out: reason of each file or folder that is none of these.
    """

    clips: list[str] = dataclasses.field(default_factory=list)
    texts: list[str] = dataclasses.field(default_factory=list)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)


TEXT_SUFFIXES = (".txt", ".caption", ".jsonl", ".json", ".csv", ".tsv")


def walk(folder: Path, suffixes: Sequence[str] = VIDEO_SUFFIXES) -> Walk:
    """Look through a folder. Links are followed, to each place once.

    A folder of pictures that are no animations is a clip if no other clip and no folder lies in
    it; it may be `folder` itself (".").
    """
    found = Walk()
    for home, folders, files in each_folder(folder):
        relative = home.relative_to(folder)
        for name in sorted(folders):
            if reason := _junk(name, _JUNK_FOLDERS, "folder"):
                found.left_out[(relative / name).as_posix()] = reason
        folders[:] = sorted(name for name in folders if not _junk(name, _JUNK_FOLDERS, "folder"))
        _look_at(found, home, relative, sorted(files), bool(folders), suffixes)
    return found


def each_folder(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As `os.walk` gives them; links are followed, to each place once."""
    seen = set()
    for home, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(home)) in seen:
            folders.clear()
            continue
        seen.add(real)
        yield Path(home), folders, files


def of_left_out(left_out: Mapping[str, str]) -> str:
    """How many files and folders are no clips, and why, in one line."""
    reasons = Counter(left_out.values()).most_common()
    counted = "; ".join(f"{reason} ({count})" for reason, count in reasons)
    return f"{len(left_out)} files and folders are no clips: {counted}"


def _look_at(
    found: Walk, home: Path, relative: Path, files: list[str], folders: bool, suffixes
) -> None:
    """Sort the files of one folder."""
    clips, pictures = [], []
    for name in files:
        path, suffix = (relative / name).as_posix(), Path(name).suffix.lower()
        if reason := _junk(name, _JUNK_FILES, "file"):
            found.left_out[path] = reason
        elif suffix in suffixes or (suffix in PICTURE_SUFFIXES and is_animated(home / name)):
            clips.append(path)
        elif suffix in PICTURE_SUFFIXES:
            pictures.append(path)
        elif suffix in TEXT_SUFFIXES:
            found.texts.append(path)
        elif suffix in _UNREAD:
            found.left_out[path] = f"{suffix} files are not read"
        else:
            found.left_out[path] = "no video, picture or text"
    found.clips += clips
    if pictures and not clips and not folders:
        found.clips.append(relative.as_posix())
        return
    for path in pictures:
        found.left_out[path] = (
            "a picture beside clips" if clips else "a picture beside folders: no clip of its own"
        )


def _junk(name: str, names: Sequence[str], kind: str) -> str:
    """Why a name is not looked at; empty if it is."""
    if name.lower() in names:
        return f"a {kind} of thumbnails, waste or settings"
    return f"hidden {kind}" if name.startswith(".") else ""


def natural(name: str) -> tuple[list[tuple[int, int | str]], str]:
    """Sort key that counts: frame9 comes before frame10. No two names share one."""
    parts = re.split(r"([0-9]+)", name)
    return [(i % 2, int(part) if i % 2 else part) for i, part in enumerate(parts)], name
