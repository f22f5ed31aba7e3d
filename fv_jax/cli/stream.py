"""`fv generate --stream N`: frames as they come, into an mp4 or a pipe."""

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from fv_jax.array_types import Frame
from fv_jax.cli.paths import check_writable
from fv_jax.config.model import Options
from fv_jax.generation.generator import Generator
from fv_jax.generation.stream import Stream
from fv_jax.media.writers import mp4_of_frames
from fv_jax.training.interrupt import StopSignal

if TYPE_CHECKING:
    from fv_jax.cli.commands import Generate

_PIPE = Path("-")


def stream(command: "Generate") -> int:
    """Write frames until there are enough, the reader has gone, or a signal comes; keep the stream.

    Returns:
        The exit code: 0, or 130 after Ctrl-C, when what was made is whole.

    Raises:
        ValueError, OSError: a request or a file that cannot be.
    """
    _check(command)
    made = _begin(command, Generator.load(command.model))
    written, bar = 0, tqdm(total=command.stream, unit="frame", file=sys.stderr)
    with StopSignal() as stop, bar, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        try:
            with _output(command, made) as put:
                while written < command.stream and not stop.received:
                    put(next(made).frame.repeat(command.scale, 0).repeat(command.scale, 1))
                    written += 1
                    bar.update()
        except BrokenPipeError:  # whoever read has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    for note in told:
        print(f"fv: warning: {note.message}", file=sys.stderr)
    kept = ""
    if command.resume is not None:
        made.save(command.resume)
        kept = f"; the stream is kept in {command.resume}"
    where = "the pipe" if command.out == _PIPE else command.out
    print(f"{written} frames in {where}{kept}", file=sys.stderr)
    return 130 if stop.received else 0


def _check(command: "Generate") -> None:
    """What is wrong with the words, before anything is loaded."""
    if command.prompts is not None or command.first_frames is not None:
        raise ValueError("--stream takes one prompt, and no --prompts or --first-frames")
    resumed = command.resume is not None and command.resume.is_file()
    if len(command.prompt) > 1 or not (command.prompt or resumed):
        raise ValueError(f"--stream takes one prompt, got {len(command.prompt)}")
    if resumed and command.options != Options():
        raise ValueError(f"{command.resume} says how the stream is sampled; leave the options out")
    if command.resume is not None:
        check_writable(command.resume, flag="--resume")
    if command.out == _PIPE:
        if sys.stdout.isatty():
            raise ValueError("--out - writes raw frames; send them on: | ffplay ..")
        return
    check_writable(command.out, inputs=[command.resume])
    if command.out.suffix.lower() != ".mp4":
        raise ValueError(
            f"--stream writes .mp4, or raw frames to -, got --out {str(command.out)!r}"
        )


def _begin(command: "Generate", generator: Generator) -> Stream:
    """A new stream, or the one that was kept; with another prompt it turns to that."""
    if command.resume is None or not command.resume.is_file():
        (prompt,) = command.prompt
        return generator.stream(prompt, seed=command.seed, options=command.options)
    made = Stream.load(generator, command.resume)
    return made.fork(prompt=command.prompt[0]) if command.prompt else made


@contextlib.contextmanager
def _output(command: "Generate", made: Stream) -> Iterator[Callable[[Frame], object]]:
    """A function that writes the next frame."""
    if command.out != _PIPE:
        with mp4_of_frames(command.out, made.fps) as put:
            yield put
        return
    height, width = (side * command.scale for side in made.frame_size)
    print(
        f"raw frames; to play them: | ffplay -f rawvideo -pixel_format rgb24 -video_size "
        f"{width}x{height} -framerate {made.fps:g} -",
        file=sys.stderr,
    )
    pipe = sys.stdout.buffer

    def put(pixels: Frame) -> None:
        pipe.write(pixels.tobytes())
        pipe.flush()

    yield put
