"""Three sentences and a game's name to videos, with the shipped models: `./launch.sh demo`."""

import dataclasses
import sys
import time
from pathlib import Path

PROMPTS = {
    "shapes": (
        "a large red circle moves right over stripes",
        "a small yellow triangle moves up over checks",
        "a large blue square moves down over gray",
    ),
    "arcade": ("freeway",),
}
SCALE = {"shapes": 4, "arcade": 2}  # of the videos
SHOWN = {"shapes": 17, "arcade": 9}  # frames of the pictures


def first(clip, count: int):
    """The clip's first frames."""
    fields = ("frames", "ids", "key_frame", "inherited")
    return dataclasses.replace(clip, **{name: getattr(clip, name)[:count] for name in fields})


def main(out: Path) -> None:
    """Write one mp4 and one gif per prompt, and a montage of each model's videos."""
    print("loading the models and compiling the samplers (about a minute the first time) ...")
    start = time.perf_counter()
    from fv_jax.cli.main import use_compilation_cache

    use_compilation_cache()
    from fv_jax import Generator
    from fv_jax.media.montage import montage, save_png
    from fv_jax.media.writers import save_clip

    for model, prompts in PROMPTS.items():
        clips = Generator.load(model).generate(prompts, seed=0)
        for number, clip in enumerate(clips):
            for suffix in (".mp4", ".gif"):
                path = out / f"{model}-{number}{suffix}"
                save_clip(clip, path, scale=SCALE[model])
                print(f"{path}   {clip.prompt}")
        save_png(montage([first(clip, SHOWN[model]) for clip in clips]), out / f"{model}.png")
        print(f"{out / model}.png   its frames, and which ids were inherited")
    print(f"done in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/demo"))
