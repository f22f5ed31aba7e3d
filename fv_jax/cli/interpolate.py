"""`fv interpolate`: a video in, the same with frames between its frames out."""

import sys

import numpy as np

from fv_jax.cli.commands import Interpolate
from fv_jax.cli.paths import check_writable, naming, open_video, tell
from fv_jax.cli.progress import working
from fv_jax.generation.generator import Generator
from fv_jax.generation.plan import plan_interpolation
from fv_jax.media.frames import at_even_times, read_fitted
from fv_jax.media.writers import check_output, save_clip


def interpolate(command: Interpolate) -> int:
    """Insert frames into the video that the command line names. Returns the exit code."""
    check_writable(command.out, inputs=[command.video])
    check_output(command.out)
    with working(f"opening {command.video}"):
        reader = open_video(command.video, least=2)
        with naming(command.video):
            numbers, fps, uneven = at_even_times(reader)
        generator = Generator.load(command.model)
    tell(uneven, command.video)
    with naming(command.video), working(f"reading {len(numbers)} frames"):
        frames = np.stack(list(read_fitted(reader, numbers, generator.model.frame_size)))
    tell(reader.notes, command.video)
    plan = plan_interpolation(
        generator.model, frames, prompt=command.prompt, seed=command.seed,
        options=command.options, fps=fps,
    )  # fmt: skip
    for note in plan.notes:
        print(f"fv: warning: {note}", file=sys.stderr)
    with working(f"putting frames between {len(frames)}"):
        (clip,) = generator.run(plan)
    with working(f"writing {len(clip.frames)} frames"):
        notes = save_clip(clip, command.out, scale=command.scale)
    tell(notes, command.out)
    print(f"{len(frames)} frames became {len(clip.frames)} in {command.out}: {clip.times}")
    return 0
