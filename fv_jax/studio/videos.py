"""Videos of one request: what is told while they are made, their pixels, their files."""

import base64
import io
import shlex
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from PIL import Image

from fv_jax.config.model import Options
from fv_jax.config.registry import require_known
from fv_jax.generation.gaps import Gaps
from fv_jax.generation.generator import Generator, clips_of
from fv_jax.generation.plan import Plan, frames_a_gap, plan_interpolation, plan_videos
from fv_jax.generation.pretrained import Model
from fv_jax.generation.progress import Progress
from fv_jax.generation.skip_mask import regions, ring
from fv_jax.generation.stats import Stats
from fv_jax.media.clip import Clip
from fv_jax.media.writers import save_clip
from fv_jax.sequence.vocab import FREE
from fv_jax.studio.asked import Asked, check_length
from fv_jax.studio.jobs import Job
from fv_jax.studio.uploads import Upload

FORMATS = {"mp4": "video/mp4", "gif": "image/gif", "npz": "application/zip", "png": "image/png"}
LARGEST = 8  # times larger than a model's frames
_ENCODERS = threading.Semaphore(2)  # files written at a time
# What an id's place is, in the digits of `mask`.
DIFFERENT, UNSTABLE, STABLE, INHERITED = range(4)


class Videos(Job):
    """Videos of one prompt, one a seed, in one batch.

    Attributes:
        clips: when it is done.
        pixels: of frames that are whole, by (video, frame); uint8 [Y, X, 3].
    """

    def __init__(self, generator: Generator, asked: Asked, upload: Upload | None):
        """Raises `ValueError` where the request is one that the model was not made for."""
        super().__init__()
        self._generator, self._asked = generator, asked
        self.plan = make_plan(generator.model, asked, upload)
        self._step = frames_a_gap(self.plan.insert)
        self._frames = (self.plan.key_frames - 1) * self._step + 1
        # Not decided: -1, as FREE is.
        grid = generator.model.config.sequence.frame_grid
        self._known = np.full((len(self.plan.requests), self._frames, *grid), FREE, np.int32)
        self._stats = Stats()
        self.pixels: dict[tuple[int, int], np.ndarray] = {}
        self.clips: list[Clip] = []

    def turns(self) -> Iterator[None]:
        """One turn."""
        plan, model = self.plan, self._generator.model
        self.tell(
            "plan", prompt=self._asked.prompt, seeds=plan.seeds, frames=self._frames,
            key_frames=[*range(0, self._frames, self._step)], fps=plan.video_fps,
            insert=plan.insert, grid=model.config.sequence.frame_grid, size=model.frame_size,
            notes=plan.notes, command=command_line(self._asked, model.name),
        )  # fmt: skip
        filled = self._generator.sample(plan, self._stats, self._look)
        self._tell_ids(range(len(filled)), range(self._frames), np.stack([v.ids for v in filled]))
        self._whole([f for f in range(self._frames) if (0, f) not in self.pixels])
        pixels = [
            np.stack([self.pixels[video, frame] for frame in range(self._frames)])
            for video in range(len(filled))
        ]
        self.clips = clips_of(plan, filled, pixels, self._stats)
        self.tell("stats", **self.clips[0].stats)
        return
        yield

    def _look(self, seen: Progress) -> None:
        """Tell what is new, on the thread, while the next piece is sampled."""
        self.check()
        before = int((self._known != FREE).sum())
        level = -1 if seen.gaps is None else seen.gaps.level
        if seen.steps == 0:
            self.tell("batch", level=level)
        if seen.gaps is None:
            keys = range(0, self._frames, self._step)
            self._tell_ids(range(len(seen.ids)), keys, seen.ids)
            if (seen.ids != FREE).all():
                self._whole([*keys])
        else:
            self._gaps(seen)
        decided = int((self._known != FREE).sum()) - before
        self.tell("steps", level=level, steps=seen.steps, decided=decided)

    def _gaps(self, seen: Progress) -> None:
        """Ids of inserted frames; at first what their places are, too, and the frames around."""
        gaps = seen.gaps
        assert gaps is not None
        count = self.plan.insert[gaps.level] + 1
        step = self._step // frames_a_gap(self.plan.insert[: gaps.level])
        firsts = [number * step for number in gaps.number]
        frames = [[first + step // count * i for i in range(1, count)] for first in firsts]
        if seen.steps == 0:
            self._masks(gaps, frames)
            if gaps.level == 0 and (0, 0) not in self.pixels:  # they were all given
                for video, first, a, b in zip(gaps.video, firsts, gaps.a, gaps.b):
                    self._tell_ids([video], [first, first + step], np.stack([a, b])[None])
                self._whole([*range(0, self._frames, self._step)])
        for video, inserted, ids in zip(gaps.video, frames, seen.ids):
            self._tell_ids([video], inserted, ids[None])

    def _masks(self, gaps: Gaps, frames: list[list[int]]) -> None:
        radius = ring(self._generator.model.frames.reach, gaps.a.shape[1:])
        for row, (video, inserted) in enumerate(zip(gaps.video, frames)):
            mask = regions(gaps.a[row], gaps.b[row], radius)
            places = np.select([mask.different, mask.unstable], [DIFFERENT, UNSTABLE], STABLE)
            for frame, inherited in zip(inserted, gaps.inherited[:, row]):
                digits = "".join(map(str, np.where(inherited, INHERITED, places).flat))
                self.tell("mask", video=video, frame=frame, places=digits)

    def _whole(self, frames: list[int]) -> None:
        """Pixels of frames whose ids are all known."""
        if not frames:
            return
        ids = self._known[:, frames]
        with self._stats("decode"):
            pixels = self._generator.model.frames.decode(ids.reshape(-1, *ids.shape[2:]))
        for video, pictures in enumerate(np.split(pixels, len(ids))):
            self.pixels |= {(video, frame): one for frame, one in zip(frames, pictures)}
            self.tell("pixels", video=video, frames=frames, png=png(np.concatenate(pictures, 1)))

    def _tell_ids(
        self, videos: Sequence[int], frames: Sequence[int], ids: Int[np.ndarray, "B F h w"]
    ) -> None:
        """Those that were not known before."""
        here = np.ix_(videos, frames)
        new = (ids != FREE) & (self._known[here] == FREE)
        self._known[here] = np.where(new, ids, self._known[here])
        for row, column in zip(*np.nonzero(new.any(axis=(2, 3)))):
            places = np.flatnonzero(new[row, column])
            self.tell(
                "ids", video=videos[row], frame=frames[column], places=places.tolist(),
                ids=ids[row, column].flat[places].tolist(),
            )  # fmt: skip

    def so_far(self, video: int) -> dict[str, Any]:
        """Ids and pixels of one video, null where they are not there yet."""
        self._require(video)
        pictures = [self.pixels.get((video, frame)) for frame in range(self._frames)]
        return {
            "state": self.state, "prompt": self._asked.prompt, "seed": self.plan.seeds[video],
            "fps": self.plan.video_fps, "key_frames": [*range(0, self._frames, self._step)],
            "ids": [[None if i == FREE else i for i in ids.reshape(-1).tolist()]
                    for ids in self._known[video]],
            "frames": [None if picture is None else png(picture) for picture in pictures],
        }  # fmt: skip

    def file(self, video: int, kind: str, scale: int) -> bytes:
        """One video as a file of that format.

        Raises:
            ValueError: no such video, format or scale, or it is not done.
        """
        self._require(video)
        require_known("format", kind, FORMATS)
        if not 1 <= scale <= LARGEST:
            raise ValueError(f"scale must be in 1..{LARGEST}, got {scale}")
        if not self.clips:
            raise ValueError(f"the video is {self.state}; files are there when it is done")
        with _ENCODERS, tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"video.{kind}"
            save_clip(self.clips[video], path, scale=scale)
            return path.read_bytes()

    def _require(self, video: int) -> None:
        if not 0 <= video < len(self._known):
            raise ValueError(f"video must be in 0..{len(self._known) - 1}, got {video}")


def make_plan(model: Model, asked: Asked, upload: Upload | None) -> Plan:
    """What is to be sampled, checked.

    Raises:
        ValueError: a request that the model was not made for.
    """
    options, seeds = asked.options, [*asked.seeds]
    if asked.interpolate and upload is not None:
        if len(seeds) > 1:
            raise ValueError(f"interpolation takes one seed, got {len(seeds)}")
        check_length(len(upload.frames), 1, model, options)
        return plan_interpolation(
            model, upload.frames, prompt=asked.prompt, seed=seeds[0], options=options,
            fps=upload.fps,
        )  # fmt: skip
    prompts, first = [asked.prompt] * len(seeds), upload.frames if upload is not None else None
    return plan_videos(model, prompts, seed=seeds, options=options, first_frames=first)


def command_line(asked: Asked, model: str) -> str:
    """The words that make the first of the same videos."""
    words = ["fv", "interpolate" if asked.interpolate else "generate"]
    words += ["CLIP", "--prompt", asked.prompt] if asked.interpolate else [asked.prompt]
    words += ["--first-frames", "CLIP"] if asked.first_frames else []
    words += ["--model", model] if model != "shapes" else []
    plain = Options()
    for name, value in vars(asked.options).items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words += [] if value == getattr(plain, name) else [f"--{'' if value else 'no-'}{flag}"]
        elif value != getattr(plain, name):
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [f"--{flag}", text]
    return shlex.join([*words, "--seed", str(asked.seeds[0]), "--out", "video.mp4"])


def png(pixels: np.ndarray) -> str:
    """A picture, uint8 [Y, X, 3], as base64 of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode()
