"""An endless stream's memory and speed, and whether a saved one goes on as if uninterrupted.

Every 100 frames of `Generator.stream`:

    state       device bytes of the decode state (`Stream.state_bytes`): constant by construction
    live        bytes of all arrays that JAX holds, weights included (`jax.live_arrays`)
    resident    memory of the process: programs, caches, everything

Compiling ends early in the second round of serial numbers, so growth of the resident memory counts
from frame 200. After the last frame the stream is saved; a stream loaded from the file into
another `Generator` must then make the same next 20 frames, id by id.

    cost   87 s of CPU time
"""

import dataclasses
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from fv_jax.files import replacing
from fv_jax.generation.generator import Generator
from fv_jax.generation.stream import Stream
from fv_jax.reporting.results import markdown, record

_PROMPT = "a small red circle moves left over stripes"
_EVERY = 100  # frames between two looks at the memory
_WARM = 200  # frames after which nothing is compiled
_COMPARED = 20  # frames after a loaded stream's first
_STATUS = Path("/proc/self/status")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure, and where to write the result."""

    model: str = "shapes"
    """A shipped model's name, or a model folder."""
    frames: int = 2000
    """Frames of the stream; a multiple of 100, at least 300."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""

    def __post_init__(self) -> None:
        if self.frames % _EVERY or self.frames <= _WARM:
            raise ValueError(
                f"frames must be a multiple of {_EVERY} and more than {_WARM}, got {self.frames}"
            )


def run(settings: Settings) -> None:
    """Measure and record."""
    import matplotlib  # noqa: F401 - fail before measuring where the plot cannot be made

    resident_bytes()  # likewise where the system does not tell
    stream = Generator.load(settings.model).stream(_PROMPT)
    samples = _watch(stream, settings.frames)
    saved = _save_and_load(stream, settings.model)
    first, warm, last = samples[0], samples[_WARM // _EVERY - 1], samples[-1]
    seconds = last["seconds"] - warm["seconds"]
    values = {
        "samples": samples,
        "state_bytes_start": first["state_bytes"],
        "state_bytes_end": last["state_bytes"],
        "live_growth_percent": _growth(warm, last, "live_bytes"),
        "resident_growth_percent": _growth(warm, last, "resident_bytes"),
        "frames_per_second": (settings.frames - _WARM) / seconds,
        **saved,
    }
    (settings.out / "results").mkdir(parents=True, exist_ok=True)
    _plot(samples, settings.out / "results" / "stream.png")
    record("stream", settings, values, _table(values, warm, last))


def resident_bytes() -> int:
    """Memory of this process that is in RAM.

    Raises:
        ValueError: the system does not tell as Linux does.
    """
    if not _STATUS.is_file():
        raise ValueError(f"resident memory is read from {_STATUS}, which only Linux has")
    (line,) = [x for x in _STATUS.read_text().splitlines() if x.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024  # in kB


def _watch(stream: Stream, frames: int) -> list[dict[str, Any]]:
    """What is held after every `_EVERY` frames."""
    samples = []
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the model was trained with")  # more rounds are wanted
        for made in tqdm(range(1, frames + 1), unit="frame", desc="stream"):
            next(stream)
            if made % _EVERY:
                continue
            seconds = time.perf_counter() - start
            sizes = [array.nbytes for array in jax.live_arrays()]  # kept, the arrays would stay
            samples.append({
                "frames": made, "seconds": seconds, "state_bytes": stream.state_bytes,
                "live_arrays": len(sizes), "live_bytes": sum(sizes),
                "resident_bytes": resident_bytes(),
            })  # fmt: skip
    return samples


def _save_and_load(stream: Stream, model: str) -> dict[str, Any]:
    """Size and seconds of a saved stream, and how many of its next frames are the right ones."""
    generator = Generator.load(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stream.safetensors"
        begin = time.perf_counter()
        stream.save(path)
        saved = time.perf_counter()
        again = Stream.load(generator, path)
        loaded = time.perf_counter()
        size = path.stat().st_size
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the model was trained with")
        same = [(next(stream).ids == next(again).ids).all() for _ in range(_COMPARED)]
    return {
        "file_bytes": size,
        "save_seconds": saved - begin,
        "load_seconds": loaded - saved,
        "same_frames_after_loading": int(np.sum(same)),
        "frames_compared": _COMPARED,
    }


def _growth(before: dict[str, Any], after: dict[str, Any], what: str) -> float:
    return 100 * (after[what] / before[what] - 1)


def _table(values: dict[str, Any], warm: dict[str, Any], last: dict[str, Any]) -> str:
    rows = [
        ["state", *(f"{x['state_bytes'] / 1e6:.3f} MB" for x in (warm, last)),
         "none" if values["state_bytes_start"] == values["state_bytes_end"] else "YES"],
        ["live arrays of JAX", *(f"{x['live_bytes'] / 1e6:.2f} MB" for x in (warm, last)),
         f"{values['live_growth_percent']:+.2f}%"],
        ["resident memory", *(f"{x['resident_bytes'] / 1e6:.1f} MB" for x in (warm, last)),
         f"{values['resident_growth_percent']:+.2f}%"],
    ]  # fmt: skip
    header = ["memory", f"frame {warm['frames']}", f"frame {last['frames']:,}", "growth"]
    return (
        f"{markdown(header, rows)}\n"
        f"{values['frames_per_second']:.1f} frames/s after frame {warm['frames']}. A saved stream: "
        f"{values['file_bytes'] / 1e6:.2f} MB, saved in {values['save_seconds'] * 1e3:.0f} ms, "
        f"loaded in {values['load_seconds'] * 1e3:.0f} ms; of the next {_COMPARED} frames "
        f"{values['same_frames_after_loading']} have the ids of the uninterrupted stream.\n\n"
        "![memory over frames](stream.png)\n"
    )


def _plot(samples: list[dict[str, Any]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
    lines = {"resident_bytes": "resident memory", "live_bytes": "live arrays of JAX",
             "state_bytes": "decode state"}  # fmt: skip
    frames = [sample["frames"] for sample in samples]
    for what, label in lines.items():
        axis.semilogy(frames, [sample[what] / 1e6 for sample in samples], "o-", ms=3, label=label)
    axis.set(xlabel="frames", ylabel="MB")
    axis.grid(alpha=0.3)
    axis.legend(loc=(0.7, 0.6))
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    plt.close(figure)
