"""Three sentences to three videos with the shipped model: what `./launch.sh demo` runs."""

import sys
import time
from pathlib import Path

PROMPTS = (
    "a large red circle moves right over stripes",
    "a small yellow triangle moves up over checks",
    "a large blue square moves down over gray",
)


def main(out: Path) -> None:
    """Write one mp4 and one gif per prompt, and a montage of all three."""
    print("loading the model and compiling the sampler (about 20 s the first time) ...")
    start = time.perf_counter()
    from fv_jax.cli.main import use_compilation_cache

    use_compilation_cache()
    from fv_jax import Generator
    from fv_jax.media.montage import montage, save_png
    from fv_jax.media.writers import save_clip

    clips = Generator.load("shapes").generate(PROMPTS, seed=0)
    for number, clip in enumerate(clips):
        for suffix in (".mp4", ".gif"):
            path = out / f"{number}{suffix}"
            save_clip(clip, path, scale=4)
            print(f"{path}   {clip.prompt}")
    save_png(montage(clips), out / "montage.png")
    print(f"{out / 'montage.png'}   all three, and which ids were inherited")
    print(f"done in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/demo"))
