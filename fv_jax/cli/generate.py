"""What `fv generate` and `fv interpolate` do around the generator: files, batches, messages."""

import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np
from tqdm import tqdm

from fv_jax.config.model import Options
from fv_jax.generation.generator import Generator
from fv_jax.media.clip import Clip
from fv_jax.media.frames import fit, frame_numbers, in_parts
from fv_jax.media.opening import open_clip
from fv_jax.media.readers import ClipError, Reader, fps_of
from fv_jax.media.writers import check_output, save_clip

if TYPE_CHECKING:
    from fv_jax.cli.commands import Generate, Interpolate

# What may go wrong with one of several prompts; anything else is a fault of the program.
_FAILURES = (ValueError, OSError, MemoryError, jax.errors.JaxRuntimeError)


def generate(command: "Generate", *, started: float) -> int:
    """Make the videos that the command line asks for. Returns the exit code.

    One of several prompts that cannot be read, sampled or written is reported and left out; the
    others are made, and the code is 2.
    """
    prompts, outputs = _prompts_and_outputs(command)
    if command.scale < 1 or command.batch_size < 1:
        raise ValueError(
            f"--scale and --batch-size must be >= 1, got {command.scale}, {command.batch_size}"
        )
    for path in outputs[:1]:
        _check_writable(path)
    imported = time.perf_counter()
    generator = Generator.load(command.model)
    loaded = time.perf_counter()
    generator.key_frames(command.options)  # wrong options are no single prompt's fault
    first = _first_frames(command, generator) if command.first_frames else None
    good = _check_prompts(generator, prompts)
    _warn_of_levels(generator, command.options)
    before = {"import": imported - started, "load": loaded - imported}
    made, frames = 0, 0
    with tqdm(total=len(good), unit="video", disable=len(good) < 2) as bar:
        for i, clip in _sample(generator, command, prompts, good, first, before):
            try:
                save_clip(clip, outputs[i], scale=command.scale)
            except _FAILURES as error:
                _report_failure(i, error, len(prompts))
                continue
            made, frames = made + 1, frames + len(clip.frames)
            rate = frames / (time.perf_counter() - loaded)
            bar.set_postfix_str(f"{rate:.1f} frames/s", refresh=False)
            bar.update()
            times = _times(clip)
    where = outputs[0] if len(outputs) == 1 else command.out
    if made:
        seconds = time.perf_counter() - started
        plural = "s" if made > 1 else ""
        print(f"{made} video{plural} in {where}, {seconds:.1f} s; last batch: {times}")
    return 0 if made == len(prompts) else 2


def interpolate(command: "Interpolate") -> int:
    """Insert frames into the video that the command line names. Returns the exit code."""
    check_output(command.out)
    _check_writable(command.out)
    if command.scale < 1:
        raise ValueError(f"--scale must be >= 1, got {command.scale}")
    reader = _open(command.video, least=2)
    generator = Generator.load(command.model)
    with _naming(command.video):
        parts = in_parts(reader, range(len(reader.times)))
        frames = np.concatenate([fit(part, generator.frame_size) for part in parts])
    if command.prompt:
        _warn_of_unknown(generator, command.prompt)
    clip = generator.interpolate(
        frames,
        prompt=command.prompt,
        seed=command.seed,
        options=command.options,
        fps=fps_of(reader),
    )
    save_clip(clip, command.out, scale=command.scale)
    print(f"{len(frames)} frames became {len(clip.frames)} in {command.out}: {_times(clip)}")
    return 0


def _sample(
    generator: Generator,
    command: "Generate",
    prompts: list[str],
    good: list[int],
    first: np.ndarray | None,
    before: dict[str, float],
) -> Iterator[tuple[int, Clip]]:
    """Index and video of each good prompt, batch by batch; what fails is reported and left out.

    `before` are the stages before sampling, which the first batch's times begin with.
    """
    size = min(command.batch_size, len(good))
    batches = deque(good[i : i + size] for i in range(0, len(good), max(size, 1)))
    while batches:
        rows = batches.popleft()
        # A smaller batch is filled up, so that every batch has the shape compiled first.
        padded = rows + rows[-1:] * (size - len(rows))
        try:
            clips = generator.generate(
                [prompts[i] for i in padded],
                seed=[command.seed + i for i in padded],
                options=command.options,
                first_frames=first,
            )
        except _FAILURES as error:
            if len(rows) > 1 and "RESOURCE_EXHAUSTED" in str(error):  # too many at a time
                size = len(rows) // 2
                left = [*rows, *(i for batch in batches for i in batch)]
                batches = deque(left[i : i + size] for i in range(0, len(left), size))
            elif len(rows) > 1:  # one by one, so that only those to blame are missing
                batches.extendleft([i] for i in reversed(rows))
            else:
                _report_failure(rows[0], error, len(prompts))
            continue
        for i, clip in zip(rows, clips):
            _report_stages(clip, before)
            yield i, clip
        before = {}


def _report_failure(index: int, error: Exception, prompts: int) -> None:
    """Say which of several prompts failed and why; an only prompt's error is the command's."""
    if prompts == 1:
        raise error
    message = " ".join(str(error).split()) or type(error).__name__
    tqdm.write(f"fv: prompt {index} failed: {message}", file=sys.stderr)


def _prompts_and_outputs(command: "Generate") -> tuple[list[str], list[Path]]:
    prompts = list(command.prompt)
    if command.prompts is not None:
        if prompts:
            raise ValueError("give prompts on the command line or with --prompts, not both")
        try:
            prompts = command.prompts.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{command.prompts} is no UTF-8 text file") from error
        while prompts and not prompts[-1].strip():
            prompts.pop()
    if not prompts:
        raise ValueError(
            "no prompt; write one in quotes, e.g. fv generate "
            '"a small red circle moves left over stripes" --out red.mp4'
        )
    if len(prompts) == 1 and command.prompts is None:
        check_output(command.out)
        return prompts, [command.out]
    if command.out.suffix and not command.out.is_dir():
        raise ValueError(
            f"--out must be a folder for several prompts, got {str(command.out)!r}; "
            "choose the format with --format"
        )
    return prompts, [command.out / f"{i:03d}.{command.format}" for i in range(len(prompts))]


def _check_writable(path: Path) -> None:
    """Fail now rather than after minutes of sampling."""
    if path.is_dir():
        raise IsADirectoryError(f"--out {str(path)!r} is a folder; give a file name")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"cannot write in {str(path.parent)!r}; choose another --out")


def _check_prompts(generator: Generator, prompts: Sequence[str]) -> list[int]:
    """Indices of the usable prompts; the others are reported, and an only one is an error."""
    good = []
    for i, prompt in enumerate(prompts):
        try:
            generator.text_ids(prompt)
        except ValueError as error:
            if len(prompts) == 1:
                raise
            print(f"fv: prompt {i} is left out: {error}", file=sys.stderr)
        else:
            _warn_of_unknown(generator, prompt)
            good.append(i)
    return good


def _warn_of_unknown(generator: Generator, prompt: str) -> None:
    unknown = generator.unknown_words(prompt)
    if unknown:
        print(
            f"fv: warning: the model never saw {', '.join(map(repr, unknown))} and will guess; "
            f"it knows: {' '.join(generator.model.text.words)}",
            file=sys.stderr,
        )


def _warn_of_levels(generator: Generator, options: Options) -> None:
    untrained = generator.untrained_levels(options)
    if untrained:
        levels = ", ".join(map(str, untrained))
        print(
            f"fv: warning: interpolation level {levels} puts frames closer together than any that "
            "the model was trained on; it will guess",
            file=sys.stderr,
        )


def _first_frames(command: "Generate", generator: Generator) -> np.ndarray:
    """The first key frames of a video, at the model's key-frame rate."""
    assert command.first_frames is not None
    path, count = command.first_frames, command.first_frame_count
    reader = _open(path, least=1)
    key_fps = generator.model.config.key_frame_fps
    most = generator.key_frames(command.options)
    if not 1 <= count <= most:
        raise ValueError(f"--first-frame-count must be in 1..{most}, got {count}")
    try:
        chosen = frame_numbers(reader, key_fps, count=count)
    except ClipError as error:
        raise ValueError(
            f"{path} has {len(reader.times)} frames in {reader.times[-1]:.2f} s, too few for "
            f"{count} key frames at {key_fps:g} fps; lower --first-frame-count"
        ) from error
    with _naming(path):
        return fit(reader.frames(chosen.tolist()), generator.frame_size)


def _open(path: Path, *, least: int) -> Reader:
    """The reader of a video, GIF, picture or folder of pictures of at least `least` frames."""
    if not path.exists():
        raise FileNotFoundError(f"no video {str(path)!r}; give a file, or a folder of pictures")
    with _naming(path):
        return open_clip(path, least=least)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say which video it is that cannot be used."""
    try:
        yield
    except ClipError as error:
        raise ValueError(f"{path} cannot be read as a video: {error}") from error


def _report_stages(clip: Clip, before: dict[str, float]) -> None:
    """Put the stages that came before sampling in front."""
    later = clip.stats["seconds"]
    clip.stats["seconds"] = {k: round(v, 4) for k, v in before.items()} | later


def _times(clip: Clip) -> str:
    return ", ".join(f"{stage} {value:.1f} s" for stage, value in clip.stats["seconds"].items())
