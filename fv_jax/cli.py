"""`fv`: generate, interpolate, train, bench.

Exit codes: 0 done, 1 an internal fault (with traceback), 2 bad input or usage (one line),
130 stopped by Ctrl-C.
"""

import contextlib
import dataclasses
import io
import os
import re
import sys
import time
from pathlib import Path
from typing import Any, Literal

import tyro

from fv_jax.config import Options

_STARTED = time.perf_counter()
_OPTIONS = tyro.conf.OmitArgPrefixes[Options]


@dataclasses.dataclass(frozen=True)
class Generate:
    """Make videos from sentences.

    One prompt: the suffix of --out decides the format (.mp4, .gif, .png for a montage, .npz for
    all arrays). Several prompts: --out is a folder, --format the format.

    Example: fv generate "a small red circle moves left over stripes" --out red.mp4
    """

    prompt: tyro.conf.Positional[tuple[str, ...]] = ()
    """The sentences."""
    out: Path = Path("out/video.mp4")
    """A file for one prompt, a folder for several or for --prompts."""
    prompts: Path | None = None
    """A text file with one prompt per line, instead of prompts on the command line."""
    format: Literal["npz", "mp4", "gif", "png"] = "npz"
    """Format of the files in a folder."""
    model: str = "shapes"
    """A shipped model's name, or a model folder."""
    seed: int = 0
    """Prompt i is sampled with seed + i."""
    batch_size: int = 8
    """Prompts sampled at a time; it does not change any video."""
    first_frames: Path | None = None
    """A video whose first frames, at the model's key-frame rate, begin the new one."""
    first_frame_count: int = 1
    """How many key frames to take from --first-frames."""
    scale: int = 1
    """Enlarge mp4 and gif frames by this whole number."""
    options: _OPTIONS = Options()


@dataclasses.dataclass(frozen=True)
class Interpolate:
    """Put frames between the frames of a video.

    Example: fv interpolate slow.gif --out smooth.mp4
    """

    video: tyro.conf.Positional[Path]
    """The video; its frames are scaled and cropped to the model's size."""
    out: Path = Path("out/interpolated.mp4")
    """Where to write; .mp4, .gif, .png (montage) or .npz."""
    prompt: str = ""
    """What the video shows; may be left out."""
    model: str = "shapes"
    """A shipped model's name, or a model folder."""
    seed: int = 0
    """Of the sampled ids and of the inherited places."""
    scale: int = 1
    """Enlarge mp4 and gif frames by this whole number."""
    options: _OPTIONS = Options()


@dataclasses.dataclass(frozen=True)
class Train:
    """Train an experiment of experiments/ (or a .py file); a run started again continues.

    Every setting can be overridden: `fv train shapes_images --run.steps 100 --model.layers 2`.
    `fv train EXPERIMENT --help` lists them.
    """

    experiment: tyro.conf.Positional[str]
    """A name such as `shapes` or `shapes_tokenizer`, or a path to a .py with `get_config()`."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """Measure something, print it, and write it to out/bench. `fv bench NAME --help` lists more."""

    name: tyro.conf.Positional[str]
    """A file experiments/bench_NAME.py, for example `shapes-adherence`."""


def main(args: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = sys.argv[1:] if args is None else args
    try:
        return _dispatch(args)
    except SystemExit as stop:
        return int(stop.code or 0)
    except KeyboardInterrupt as stop:
        return _fail(str(stop) or "stopped by Ctrl-C; no half-written file was left", 130)
    except (ValueError, OSError) as error:
        if os.environ.get("FV_TRACEBACK"):
            raise
        return _fail(_one_line(error), 2)


def _dispatch(args: list[str]) -> int:
    if args[:1] in (["train"], ["bench"]) and len(args) > 1 and not args[1].startswith("-"):
        use_compilation_cache()
        from fv_jax import experiment

        run = experiment.train if args[0] == "train" else experiment.bench
        return run(args[1], lambda kind, **more: _parse(kind, args[2:], **more))
    commands = {
        "generate": Generate,
        "interpolate": Interpolate,
        "train": Train,
        "bench": Bench,
    }
    command = _parse(commands, args)
    use_compilation_cache()
    from fv_jax import run_generate

    if isinstance(command, Generate):
        return run_generate.generate(command, started=_STARTED)
    return run_generate.interpolate(command)


def _parse(kind: Any, args: list[str], **more: Any) -> Any:
    """tyro, with its boxed error messages turned into one line."""
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            if isinstance(kind, dict):
                return tyro.extras.subcommand_cli_from_dict(
                    kind,
                    args=args,
                    prog="fv",
                    description=f"{__doc__}\nfv COMMAND --help says more.",
                )
            return tyro.cli(kind, args=args, **more)
    except SystemExit as stop:
        if stop.code:
            words = re.sub(r"[\u2500-\u257f]+", " ", captured.getvalue())
            raise ValueError(" ".join(words.split())) from stop
        raise


def use_compilation_cache() -> None:
    """Keep compiled programs between runs, unless the user has chosen a place for them."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "fv_jax" / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # a read-only home: slower starts, nothing else
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def _fail(message: str, code: int) -> int:
    print(f"fv: {message}", file=sys.stderr)
    return code
