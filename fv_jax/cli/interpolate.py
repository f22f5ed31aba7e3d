"""`fv interpolate`: a video in, the same with frames between its frames out."""

import sys

import numpy as np

from fv_jax.cli.commands import Interpolate
from fv_jax.cli.paths import check_writable, naming, open_video
from fv_jax.generation.generator import Generator
from fv_jax.generation.plan import plan_interpolation
from fv_jax.media.frames import fit
from fv_jax.media.readers import fps_of
from fv_jax.media.writers import check_output, save_clip


def interpolate(command: Interpolate) -> int:
    """Insert frames into the video that the command line names. Returns the exit code."""
    check_output(command.out)
    check_writable(command.out)
    if command.scale < 1:
        raise ValueError(f"--scale must be >= 1, got {command.scale}")
    reader = open_video(command.video, least=2)
    generator = Generator.load(command.model)
    with naming(command.video):
        parts = [reader.frames(range(len(reader.times)))]
        frames = np.concatenate([fit(part, generator.model.frame_size) for part in parts])
    plan = plan_interpolation(
        generator.model, frames, prompt=command.prompt, seed=command.seed,
        options=command.options, fps=fps_of(reader),
    )  # fmt: skip
    for note in plan.notes:
        print(f"fv: warning: {note}", file=sys.stderr)
    (clip,) = generator.run(plan)
    save_clip(clip, command.out, scale=command.scale)
    print(f"{len(frames)} frames became {len(clip.frames)} in {command.out}: {clip.times}")
    return 0
