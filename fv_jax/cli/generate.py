"""`fv generate`: sentences in, one video each out.

command line ──► Plan ──► batches ──► Generator.run ──► files
"""

import contextlib
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from fv_jax.batching import filled
from fv_jax.cli import STARTED
from fv_jax.cli.commands import Generate
from fv_jax.cli.parsing import is_folder
from fv_jax.cli.paths import check_writable, naming, open_video, tell
from fv_jax.cli.progress import working
from fv_jax.files import read_text
from fv_jax.generation.generator import Generator
from fv_jax.generation.plan import Plan, key_frames, plan_videos
from fv_jax.generation.pretrained import Model
from fv_jax.media.clip import Clip
from fv_jax.media.frames import frame_numbers, read_fitted
from fv_jax.media.readers import ClipError
from fv_jax.media.writers import check_output, save_clip

# What may go wrong with one of several prompts; anything else is a fault of the program.
_FAILURES = (ValueError, OSError, MemoryError, jax.errors.JaxRuntimeError)


def generate(command: Generate) -> int:
    """Make the videos that the command line asks for. Returns the exit code.

    One of several prompts that cannot be read, sampled or written is reported and left out; the
    others are made, and the code is 2.
    """
    if command.stream:
        from fv_jax.cli.stream import stream

        return stream(command)
    if command.resume is not None:
        raise ValueError("--resume is only for --stream N")
    prompts, outputs = _prompts_and_outputs(command)
    for path in outputs:
        check_writable(path, inputs=[command.prompts, command.first_frames])
    imported = time.perf_counter()
    with working(f"opening {command.model}"):
        generator = Generator.load(command.model)
    loaded = time.perf_counter()
    plan = _plan(command, generator.model, prompts)
    before = {"import": imported - STARTED, "load": loaded - imported}
    made, frames, times = 0, 0, ""
    many, told = len(plan.requests) > 1, None
    with (
        tqdm(total=len(plan.requests), unit="video", disable=not many) as bar,
        contextlib.nullcontext() if many else working("making the video"),
    ):
        for index, clip in _sample(generator, plan, command.batch_size, before):
            try:
                notes = save_clip(clip, outputs[index], scale=command.scale)
            except _FAILURES as error:
                _report_failure(index, error, len(prompts))
                continue
            told = told or (notes, outputs[index])  # the same of all
            made, frames = made + 1, frames + len(clip.frames)
            rate = frames / (time.perf_counter() - loaded)
            bar.set_postfix_str(f"{rate:.1f} frames/s", refresh=False)
            bar.update()
            times = clip.times
    if told:
        tell(*told)
    where = outputs[0] if len(outputs) == 1 else command.out
    if made:
        seconds = time.perf_counter() - STARTED
        plural = "s" if made > 1 else ""
        print(f"{made} video{plural} in {where}, {seconds:.1f} s; last batch: {times}")
    return 0 if made == len(prompts) else 2


def _plan(command: Generate, model: Model, prompts: list[str]) -> Plan:
    """The checked plan of all videos; says what is left out, and what the model will guess."""
    plan = plan_videos(
        model, prompts, seed=command.seed, options=command.options,
        leave_out=True, **_begin(command, model),
    )  # fmt: skip
    for index, reason in plan.refused.items():
        print(f"fv: prompt {index} is left out: {reason}", file=sys.stderr)
    for note in dict.fromkeys(plan.notes):
        print(f"fv: warning: {note}", file=sys.stderr)
    return plan


def _sample(
    generator: Generator, plan: Plan, batch_size: int, before: dict[str, float]
) -> Iterator[tuple[int, Clip]]:
    """Index and video of each prompt, batch by batch; what fails is reported and left out.

    `before` are the seconds of the stages before sampling, which the first batch's begin with.
    """
    count = len(plan.requests) + len(plan.refused)
    size = min(batch_size, len(plan.requests))
    every = range(len(plan.requests))
    batches = deque(every[i : i + size] for i in range(0, len(every), max(size, 1)))
    while batches:
        rows = batches.popleft()
        try:
            # Every batch has the shape that was compiled first.
            clips = generator.run(plan.part(filled(rows, size)))
        except _FAILURES as error:
            if len(rows) > 1 and "RESOURCE_EXHAUSTED" in str(error):  # too many at a time
                size = len(rows) // 2
                left = range(rows[0], len(every))
                batches = deque(left[i : i + size] for i in range(0, len(left), size))
            elif len(rows) > 1:  # one by one, so that only those to blame are missing
                batches.extendleft([row] for row in reversed(rows))
            else:
                _report_failure(plan.requests[rows[0]].index, error, count)
            continue
        for row, clip in zip(rows, clips):
            stages = {stage: round(seconds, 4) for stage, seconds in before.items()}
            clip.stats["seconds"] = stages | clip.stats["seconds"]
            yield plan.requests[row].index, clip
        before = {}


def _report_failure(index: int, error: Exception, prompts: int) -> None:
    """Say which of several prompts failed and why; an only prompt's error is the command's."""
    if prompts == 1:
        raise error
    message = " ".join(str(error).split()) or type(error).__name__
    tqdm.write(f"fv: prompt {index} failed: {message}", file=sys.stderr)


def _prompts_and_outputs(command: Generate) -> tuple[list[str], list[Path]]:
    prompts = list(command.prompt)
    if command.prompts is not None:
        if prompts:
            raise ValueError("give prompts on the command line or with --prompts, not both")
        lines = read_text(command.prompts).splitlines()
        prompts = [line for line in lines if line.strip()]
        if not prompts:
            raise ValueError(f"{command.prompts} holds no prompt; want one a line")
    if not prompts:
        raise ValueError(
            "no prompt; write one in quotes, e.g. fv generate "
            '"a small red circle moves left over stripes" --out red.mp4'
        )
    if len(prompts) == 1 and command.prompts is None:
        check_writable(command.out)
        check_output(command.out)
        return prompts, [command.out]
    if command.out.suffix and not is_folder(command.out):
        raise ValueError(
            f"--out must be a folder for several prompts, got {str(command.out)!r}; "
            "choose the format with --format"
        )
    return prompts, [command.out / f"{i:03d}.{command.format}" for i in range(len(prompts))]


def _begin(command: Generate, model: Model) -> dict[str, np.ndarray]:
    """The first key frames of a video, at the model's key-frame rate, or its first frames."""
    path, count, fps = command.first_frames, command.first_frame_count, model.config.key_frame_fps
    name, kind, flag = "first_frames", "key frames", "--first-frame-count"
    if command.given_frames:
        if path is None or count != 1:
            raise ValueError("--given-frames needs --first-frames, and no --first-frame-count")
        count, fps = command.given_frames, fps * model.config.key_frame_stride
        name, kind, flag = "given_frames", "frames", "--given-frames"
    if path is None:
        return {}
    reader = open_video(path, least=1)
    most = key_frames(model, command.options)
    if name == "given_frames":
        most = (most - 1) * model.config.key_frame_stride + 1
    if not 1 <= count <= most:
        raise ValueError(f"{flag} must be in 1..{most}, got {count}")
    try:
        chosen = frame_numbers(reader, fps, count=count)
    except ClipError as error:
        raise ValueError(
            f"{path} has {len(reader.times)} frames in {reader.times[-1]:.2f} s, too few for "
            f"{count} {kind} at {fps:g} fps; lower {flag}"
        ) from error
    with naming(path):
        frames = np.stack(list(read_fitted(reader, chosen, model.frame_size)))
    tell(reader.notes, path)
    return {name: frames}
